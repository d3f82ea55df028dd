-- sandbox_test.lua: what a script tries to get out of --sandbox.
-- SPDX-License-Identifier: MIT
--
-- Promise: no files, no commands, no environment, no machine code, no bytecode, no look into the
-- program's own functions. Each attempt is a piece of Lua that returns something true when it
-- was successful; it may raise an error as well.

local cluster = require "cluster"
local files = require "files"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local TestSandbox = {}

local SECRET = "hidden-treasure"

-- What the attempts share. `seek` looks for what `f` says is a find in everything that can be
-- reached from a value by its fields and metatables.
local PRELUDE = [[
local dir, secret = pgcdc.args.dir, "hidden-" .. "treasure"
local function seek(value, f)
   local seen, todo = {}, {value}
   while #todo > 0 do
      local at = table.remove(todo)
      if at ~= nil and not seen[at] then
         seen[at] = true
         if f(at) then return true end
         if type(at) == "table" then
            for k, v in next, at do todo[#todo + 1], todo[#todo + 2] = k, v end
         end
         local mt = getmetatable(at)
         if mt ~= nil then todo[#todo + 1] = mt end
      end
   end
end
local function reaches(name) -- a table with a field of that name that is a function
   return seek(_G, function(at)
      return type(at) == "table" and type(rawget(at, name)) == "function"
   end)
end
local function tells(f, ...) -- what it returns or raises holds the secret
   for _, told in ipairs {select(2, pcall(f, ...))} do
      if tostring(told):find(secret, 1, true) then return true end
   end
end
]]

-- Whether a file of this name has appeared is looked at afterwards.
local attempts = {
   -- files
   "return io",
   "return package.loaded.io",
   "return require 'io'",
   "return reaches 'open' or reaches 'popen' or reaches 'lines'",
   "return dofile or loadfile or package.loaded._G.loadfile",
   "return tells(require, 'x;' .. dir .. '/secret;') or loaded_secret",
   "return tells(require, dir .. '/secret') or loaded_secret",
   "return tells(require, '../secret') or loaded_secret",
   "return tells(require, 'secret\\0') or loaded_secret",
   "package.path = dir .. '/?' return tells(require, 'secret') or loaded_secret",
   "package.path = dir .. '/secret' return tells(require, 'x') or loaded_secret",
   "package.path = dir .. '/?.lua' return require 'module'",
   "package = {path = dir .. '/?.lua', searchers = package.searchers} return require 'module'",
   "package.searchers[#package.searchers + 1] = package.searchers[2] "
      .. "package.path = dir .. '/?.lua' return require 'module'",
   "for _, search in ipairs(package.searchers) do package.path = dir .. '/?.lua' "
      .. "local f = search('module') if type(f) == 'function' then return f() end end",
   "return package.searchpath('secret', dir .. '/?')",
   "return os.remove(dir .. '/secret')",
   "return os.rename(dir .. '/secret', dir .. '/stolen')",
   "local path = os.tmpname() pcall(os.remove, path) return path",
   "return pgcdc.sinks.jsonl {path = dir .. '/made'}",
   "return pgcdc.sinks.csv {path = dir .. '/made'}",
   "return pgcdc.sinks.text {path = '/dev/stdout/../' .. dir .. '/made'}",
   "pgcdc.stream {}:sink_to_textfile(dir .. '/made') return true",
   "local s = pgcdc.sinks.jsonl {} s.path = dir .. '/made' s.folder = dir s.append = true "
      .. "for _, f in ipairs {'restore', 'flush', 'saved', 'close'} do "
      .. "if pcall(s[f], s) then return true end end",
   "return reaches 'restore' or reaches 'saved' or reaches 'begin'",
   "return require 'pgcdc.bundled'.make_folder(dir .. '/made')",
   "return require 'pgcdc.sinks.file'",
   "return require 'pgcdc.sinks.exec'",
   -- commands, and the process
   "return os.execute('touch ' .. dir .. '/made')",
   "return pgcdc.sinks.exec {command = 'touch ' .. dir .. '/made'}",
   "os.exit(0) return true",
   "return os.getenv 'TREASURE' or os.getenv",
   "return seek({pgcdc, package, os, string.format('%q', pgcdc.args.dir)}, function(at) "
      .. "return type(at) == 'string' and at:find(secret, 1, true) end)",
   "return os.setlocale('C')",
   -- machine code, and bytecode
   "return package.loadlib('/lib/x86_64-linux-gnu/libc.so.6', 'system')",
   "return package.cpath or #package.searchers > 3", -- preload, ours, text
   "package.cpath = '/usr/lib/x86_64-linux-gnu/lua/5.4/?.so' return require 'lfs'",
   "return string.dump(function() end)",
   "return ('').dump or getmetatable('').__index.dump",
   "return load('\\27Lua')",
   "return load('\\27Lua', 'x', 'b')",
   "return load('\\27Lua', 'x', 'bt', {})",
   "local parts = {'\\27', 'Lua'} "
      .. "return load(function() return table.remove(parts, 1) end, 'x', 'b')",
   "return select(2, load('\\27Lua\\x54\\0\\x19\\x93\\r\\n\\x1a\\n')):find 'truncated'",
   "return coroutine.wrap(load)('\\27Lua', 'x', 'b')",
   -- our own functions
   "return debug or package.loaded.debug or require 'debug'",
   "return reaches 'getupvalue' or reaches 'getregistry' or reaches 'sethook'",
   "return require 'pgcdc.raw'",
   "return require 'pgcdc.delivery.checkpoint' or require 'pgcdc.delivery.participants'",
   "for name in pairs(package.loaded) do if name:find '^pgcdc%.' and name ~= 'pgcdc.bundled' "
      .. "and name ~= 'pgcdc.terminal' then return true end end",
   "package.loaded['pgcdc.raw'] = setmetatable({}, {__index = function() return print end}) "
      .. "return require 'pgcdc.sinks.file'.new({kind = 'jsonl'}, {path = dir .. '/made'}).restore",
   "for _, name in ipairs {'file_open', 'child_new', 'db_open', 'save', 'declare', 'hook'} do "
      .. "if reaches(name) then return true end end",
   "return select(2, pcall(error)) or _ENV._LOADED or _G[1]",
   "local env = {} load('return _ENV', 'x', 't', env)() return getfenv or setfenv",
   "local seen error = function(...) seen = {...} end pcall(pgcdc.source, {tabel = 1}) return seen",
   "local seen pcall = function(f, self) seen = self end "
      .. "pgcdc.connect(pgcdc.args.dsn):query 'select 1' return seen",
   "return getmetatable(pgcdc.sinks).__index ~= nil and debug",
   -- the password of --dsn
   "return seek(pgcdc.connect(), function(at) return type(at) == 'string' and at:find(secret) end)",
   "local sink = pgcdc.sinks.postgres {table = 't'} "
      .. "return seek(sink, function(at) return type(at) == 'string' and at:find(secret) end)",
   "return tells(function() pgcdc.connect('host=/nonexistent password=hidden-' .. 'treasure')"
      .. ":query 'select 1' end)",
   "return tells(function() return pgcdc.connect():query 'select nonsense' end)",
   -- after the script's end
   "setmetatable({}, {__gc = function() if io or debug or os.execute then print 'out' end end})",
   "local t <close> = setmetatable({}, {__close = function() return io and print 'out' end})",
   "warn '@on' return reaches 'close' and io",
}

-- In a handler: things that can be had there only.
local handler_attempts = {
   "return getmetatable(change).__index or getmetatable(change.row).__index",
   "return getmetatable(change.key).__pairs",
   "return setmetatable(change, {})",
   "return setmetatable(change.row, {})",
   -- the pointer to the functions that encode a change was in its metatable: a table with another
   -- one in its place had that called
   "for key in next, change do local mt = {[key] = key} "
      .. "for k, v in next, getmetatable(change) do mt[k] = type(k) == 'userdata' and key or v end "
      .. "pcall(tostring, setmetatable({}, mt)) pcall(print, setmetatable({}, mt)) "
      .. "pcall(pgcdc.json.encode, setmetatable({}, mt)) end",
   "for key, value in next, change do if type(value) == 'userdata' and getmetatable(value) then "
      .. "return true end end",
   -- bytes of one table read as those of another: text as a number, broken JSON (if next() gave the
   -- key that they are kept under)
   "local key = next(other) while key and type(key) ~= 'userdata' do key = next(other, key) end "
      .. "rawset(change, key, rawget(other, key)) "
      .. "return pcall(tostring, change) or pcall(function() return change.row.id end)",
   "local key = next(other) while key and type(key) ~= 'userdata' do key = next(other, key) end "
      .. "rawset(change.row, key, rawget(other, key)) return pcall(tostring, change.row)",
   "return pairs(change.row)(other)",
}

-- Runs an attempt in a script of its own. Returns whether it was successful, and the result.
local function run_attempt(attempt, dir, options)
   local result = program.run {
      script = PRELUDE .. ("local ok, got = pcall(function() %s end)\n"):format(attempt)
         .. "if ok and got then print('success', got) end collectgarbage() pgcdc.stop()",
      options = options, args = { dir = dir }, state = false, env = { TREASURE = SECRET },
      dsn = "host=/nonexistent user=u password=" .. SECRET,
   }
   return result.stdout:find "success" ~= nil, result
end

local function new_folder()
   local dir = scope.dir()
   files.write(dir .. "/secret",
      SECRET:gsub("-", "_") .. " = '" .. SECRET .. "' loaded_secret = true\n")
   files.write(dir .. "/module.lua", "return 'loaded'\n")
   return dir
end

function TestSandbox.test_attempts_in_the_main_chunk()
   local dir = new_folder()
   lu.assertTrue(#attempts > 50)
   for _, attempt in ipairs(attempts) do
      local is_successful, result = run_attempt(attempt, dir, { "--sandbox" })
      lu.assertEquals({ attempt, is_successful }, { attempt, false })
      lu.assertEquals({ attempt, result.status }, { attempt, 0 })
      lu.assertNotStrContains(result.stderr, SECRET)
      lu.assertNotStrContains(result.stdout, "out")
      lu.assertNil(io.open(dir .. "/made"), attempt)
   end
   lu.assertNil(io.open(dir .. "/stolen"))
   lu.assertNotNil(io.open(dir .. "/secret"))
end

-- The attempts are real ones: outside of the sandbox many succeed.
function TestSandbox.test_the_attempts_are_real()
   local successful = 0
   for _, attempt in ipairs(attempts) do
      if run_attempt(attempt, new_folder()) then
         successful = successful + 1
      end
   end
   lu.assertTrue(successful > 30, successful)
end

function TestSandbox.test_attempts_in_a_handler()
   local db = cluster.main():database()
   db:exec "create table a (id int primary key, name text)"
   db:exec(("insert into a select i, 'x' from generate_series(1, %d) i"):format(#handler_attempts))
   db:exec "create table b (at timestamptz primary key, yes bool)"
   db:exec "insert into b values (now(), true)"
   local lines = { PRELUDE, [[
      local other
      pgcdc.source {table = "b", on_change = function(c) other = c end}
      local attempts = {}]] }
   for i, attempt in ipairs(handler_attempts) do
      lines[#lines + 1] = ("attempts[%d] = function(change) %s end"):format(i, attempt)
   end
   lines[#lines + 1] = [[
      local a = pgcdc.source {table = "a", interval = 0.05}
      local todo = {}
      a:on("change", function(change) todo[#todo + 1] = change end)
      pgcdc.every(0.01, function()
         if not other or #todo < #attempts then return end
         for i, change in ipairs(todo) do
            local ok, got = pcall(attempts[i], change)
            print("attempt " .. i, ok and got and "success" or "refused")
         end
         pgcdc.stop()
      end)]]
   local result = program.run {
      dsn = db, options = { "--sandbox" }, args = { dir = scope.base() },
      script = table.concat(lines, "\n"),
   }
   lu.assertEquals(result.status, 0, result.stderr)
   for i, attempt in ipairs(handler_attempts) do
      local told = result.stdout:match(("attempt %d\t(%%l+)"):format(i))
      lu.assertEquals({ attempt, told }, { attempt, "refused" })
   end
end

-- What is of use is still there: modules beside the script and on the path that the user gave.
function TestSandbox.test_what_is_left()
   local dir, lib = scope.dir(), scope.dir()
   files.write(lib .. "/from_path.lua", "return {name = ..., io = io, dump = string.dump}")
   files.write(dir .. "/beside-it.lua", "return 'beside'")
   files.write(dir .. "/main.lua", [[
      local m = require "from_path"
      print(m.name, m.io, m.dump, require "beside-it", require "pgcdc" == pgcdc)
      print(load("return 1 + 1")(), load("return x", "c", "t", {x = "env"})())
      print(type(os.time()), type(os.clock()), os.date("!%Y", 0), os.difftime(2, 1))
      package.preload.made = function() return "made" end
      print(require "made", package.config:sub(1, 1), utf8.char(228), math.type(1))
      local co = coroutine.wrap(function(x) return coroutine.yield(x + 1) end)
      print(co(1), pcall(require, "not_there"))]])
   local result = program.run {
      file = dir .. "/main.lua", options = { "--sandbox" }, state = false,
      env = { LUA_PATH = lib .. "/?.lua;;" },
   }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.lines[1], "from_path\tnil\tnil\tbeside\ttrue")
   lu.assertEquals(result.lines[2], "2\tenv")
   lu.assertEquals(result.lines[3], "number\tnumber\t1970\t1.0")
   lu.assertEquals(result.lines[4], "made\t/\tä\tinteger")
   lu.assertStrContains(result.lines[5], "2\tfalse\tmodule 'not_there' not found")
end

-- Limits are no part of it, but work with it.
function TestSandbox.test_with_limits()
   local result = program.run {
      options = { "--sandbox", "--max-memory=8M", ("--max-time=%g"):format(wait.scaled(0.4)) },
      state = false, deadline = 20, script = [[
         pgcdc.after(0.001, function()
            print(pcall(function() local t = {} while true do t[#t + 1] = ("x"):rep(1000) end end))
            while true do pcall(coroutine.wrap(function() while true do end end)) end
         end)]],
   }
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stdout, "false\tnot enough memory")
   lu.assertStrContains(result.stderr, "--max-time")
end

return TestSandbox
