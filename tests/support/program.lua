-- program.lua: runs the program under test and watches what it says.
-- SPDX-License-Identifier: MIT
--
-- Standard output and standard error go to files that are followed, so that the program is
-- never held up by a test that does not read, unless the test asks for that (hold).
-- It sees no PG* variables of the caller and has a home directory of its own. It is
-- killed at the end of the scope it was started in.

local files = require "files"
local homes = require "homes"
local json = require "json"
local native = require "native"
local scope = require "scope"
local server = require "server"
local tables = require "tables"
local wait = require "wait"

local program = {}

local methods = {}
local mt = { __name = "program", __index = methods }
local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" or "."

-- The program under test: $PGCDC_LUA, or build/pgcdc-lua beside the Makefile.
function program.binary()
   local path = os.getenv "PGCDC_LUA" or here .. "/../../build/pgcdc-lua"
   return native.realpath(path) or error("there is no program to test at " .. path, 2)
end

local copies = {} -- by path of a program: the copy of it that every user may run

-- A copy of the program with its Lua files, in a folder that the server's user may enter: the
-- original may be in somebody's home that only the owner may enter.
local function copy_for_others(binary)
   if not copies[binary] then
      local top, build, name = binary:match "^(.*)/([^/]+)/([^/]+)$"
      local dir = scope.dir("program for others", server.root())
      server.run({ "sh", "-c", [[
         mkdir "$2/$3" && cp -L "$1/$3/$4" "$2/$3"
         [ ! -e "$1/$3/modules" ] || cp -rL "$1/$3/modules" "$2/$3"
         for part in lua scripts share; do
            [ ! -e "$1/$part" ] || cp -rL "$1/$part" "$2"
         done
         chmod -R go+rX "$2"]], "sh", top, dir, build, name }, { user = false })
      copies[binary] = ("%s/%s/%s"):format(dir, build, name)
   end
   return copies[binary]
end

-- The NAME=VALUE words of a list, or of a table by name, sorted.
local function words_of(args)
   local words = table.move(args, 1, #args, 1, {})
   local named = {}
   for name, value in pairs(args) do
      if type(name) == "string" then
         named[#named + 1] = ("%s=%s"):format(name, value)
      end
   end
   table.sort(named)
   return table.move(named, 1, #named, #words + 1, words)
end

local function command_line(self, options)
   local argv = {}
   for word in (os.getenv "PGCDC_TEST_WRAPPER" or ""):gmatch "%S+" do
      argv[#argv + 1] = word
   end
   local binary = options.binary or program.binary()
   argv[#argv + 1] = options.user and copy_for_others(binary) or binary
   table.move(options.options or {}, 1, #(options.options or {}), #argv + 1, argv)
   if options.dsn then
      table.move({ "--dsn", options.dsn }, 1, 2, #argv + 1, argv)
   end
   local home, env = homes.options(self.state, self)
   table.move(home, 1, #home, #argv + 1, argv)
   if options.script then
      self.script = self.dir .. "/" .. (options.name or "script.lua")
      files.write(self.script, options.script)
   elseif options.file then
      self.script = assert(native.realpath(options.file))
   else
      self.script = options.bundled
   end
   argv[#argv + 1] = self.script
   local words = words_of(options.args or {})
   return table.move(words, 1, #words, #argv + 1, argv), env
end

-- Follows a file that grows.
local function follow(path)
   return { path = path, text = {} }
end

local function follow_more(source)
   source.file = source.file or io.open(source.path, "rb")
   local chunk = source.file and source.file:read "a"
   return chunk ~= "" and chunk or nil
end

-- Starts the program. Options:
--    script       source text of a script, written to a file called options.name ("script.lua"), or
--    file         path of a script, or
--    bundled      name of a bundled script, or none of the three
--    args         NAME=VALUE words: a table by name, or a list of words, or both
--    options      list of command line options that come first
--    binary       another program than the one under test
--    dsn          conninfo for --dsn, or a database or cluster object
--    state        path for --state; default one in self.dir; false: no --state
--    env, cwd, stdin, rlimits    as for native.spawn; cwd defaults to self.dir
--    user         runs a copy of the program as this user: server.user(), or nil for ourselves
--    stdout       "null", "closed" or a path instead of being followed; "pipe": a pipe that is read
--                 whenever the object is asked something
--    hold         a pipe that nobody reads until :release()
--    stderr       "null", "closed" or a path instead of being followed
--    json         options of json.decode for changes
-- Raises if it cannot be started at all. Fields: proc, dir, state, script, argv.
function program.start(options)
   local self = setmetatable({
      dir = scope.dir("program", options.user and server.root()),
      json = options.json,
      held = options.hold,
      partial = {}, -- pieces of the last line, which is not finished
      out_text = {},
      err_text = "",
      out_lines = {},
      decoded = {},
      decoded_lines = 0,
   }, mt)
   self.state = options.state
   if self.state == nil then
      self.state = self.dir .. "/state.db"
   end
   local dsn = options.dsn
   options = setmetatable({ dsn = type(dsn) == "table" and dsn:dsn() or dsn },
      { __index = options })
   local env
   self.argv, env = command_line(self, options)
   if options.user then
      assert(native.chown(self.dir, options.user))
   end
   env = tables.merge({ HOME = self.dir, XDG_STATE_HOME = false }, env)
   for name, value in pairs(options.env or {}) do
      env[name] = value
   end
   local stdout = options.hold and "pipe" or options.stdout or self.dir .. "/stdout"
   local stderr = options.stderr or self.dir .. "/stderr"
   self.pipe = stdout == "pipe"
   self.out = not self.pipe and not options.stdout and follow(stdout)
   self.err = not options.stderr and follow(stderr)
   self.started = native.now()
   self.proc = assert(native.spawn {
      argv = self.argv, env = env, cwd = options.cwd or self.dir, user = options.user,
      stdin = options.stdin, stdout = stdout, stderr = stderr, rlimits = options.rlimits,
   })
   self.forget = scope.add(function() self:discard() end)
   return self
end

-- Starts the program and waits for its end; returns the result of finish. options.deadline: its.
function program.run(options)
   return program.start(options):finish(options.deadline)
end

-- Takes what the program has written since the last time.
local function pump(self)
   while true do
      local chunk
      if self.out then
         chunk = follow_more(self.out)
      elseif self.pipe and not self.held then
         chunk = self.proc:read "stdout"
      end
      if not chunk then
         break
      end
      self.out_text[#self.out_text + 1] = chunk
      local at = 1
      for stop in chunk:gmatch "()\n" do
         self.partial[#self.partial + 1] = chunk:sub(at, stop - 1)
         self.out_lines[#self.out_lines + 1] = table.concat(self.partial)
         self.partial = {}
         at = stop + 1
      end
      self.partial[#self.partial + 1] = chunk:sub(at)
   end
   if self.err then
      self.err_text = self.err_text .. (follow_more(self.err) or "")
   end
end

-- The complete lines of standard output so far.
function methods:lines()
   pump(self)
   return self.out_lines
end

-- All of standard output so far, a last unfinished line included.
function methods:stdout()
   pump(self)
   return table.concat(self.out_text)
end

function methods:stderr()
   pump(self)
   return self.err_text
end

-- The JSON objects among the lines of standard output so far, decoded. A line that begins with "{"
-- and is no JSON raises. The list is the same one every time and grows.
function methods:changes()
   pump(self)
   for i = self.decoded_lines + 1, #self.out_lines do
      local line = self.out_lines[i]
      if line:find "^{" then
         local ok, value = pcall(json.decode, line, self.json)
         if not ok then
            error(("line %d of standard output: %s\n%s"):format(i, value, line), 2)
         end
         self.decoded[#self.decoded + 1] = value
      end
      self.decoded_lines = i
   end
   return self.decoded
end

function methods:pid()
   return self.proc:pid()
end

function methods:alive()
   return self.proc:alive()
end

-- Peak and present resident size in kB; nil once it has ended.
function methods:rss()
   return native.proc_rss(self.proc:pid())
end

-- CPU seconds so far; nil once it has ended.
function methods:cpu()
   return native.proc_cpu(self.proc:pid())
end

-- Sends a signal. Returns nil if the program has ended.
function methods:signal(sig)
   return self.proc:kill(sig)
end

-- What to show with a failure: how the program is and the end of what it said.
function methods:describe()
   pump(self)
   local ended = self.proc:wait(0)
   local how = not ended and "running" or ended.exit and "exit " .. ended.exit
      or "signal " .. ended.signal
   return ("program: %s, %d lines of output, standard error ends:\n%s"):format(
      how, #self.out_lines, self.err_text:sub(-3000))
end

-- Waits until <condition>(self) is true and returns what it returned. Raises at the deadline
-- (default 10 s), and at once when the program has ended and the condition does not hold then.
function methods:wait_until(condition, seconds, what)
   what = what or "a condition"
   return wait.until_(function()
      local ended = not self.proc:alive() -- asked first: then nothing comes after the look
      local result = table.pack(condition(self))
      if not result[1] and ended then
         error(("the program ended, we waited for %s\n%s"):format(what, self:describe()), 0)
      end
      return table.unpack(result, 1, result.n)
   end, seconds, function() return what .. "\n" .. self:describe() end)
end

-- Waits until there are at least <n> changes and returns all.
function methods:wait_changes(n, seconds)
   return self:wait_until(function()
      local changes = self:changes()
      return #changes >= n and changes
   end, seconds, n .. " changes")
end

-- Waits until standard error matches the Lua pattern; returns the match or its captures.
function methods:wait_stderr(pattern, seconds)
   return self:wait_until(function()
      return self:stderr():match(pattern)
   end, seconds, ("%q on standard error"):format(pattern))
end

-- From here on a held standard output is read.
function methods:release()
   self.held = false
end

local result_mt = {
   __index = function(result, key)
      if key == "changes" then
         result.changes = result.program:changes()
         return result.changes
      end
   end,
}

-- Waits until the program ends by itself (default 30 s; then it is killed and this raises). Returns
--    status or signal, stdout, stderr, lines, changes (decoded when first asked for),
--    user, sys (CPU seconds), maxrss_kb, seconds (from start to end as seen here)
-- maxrss_kb is never below the size of the test runner when it started the program.
function methods:finish(seconds)
   local deadline = native.now() + wait.scaled(seconds or 30)
   local ended
   repeat
      if self.pipe and not self.held then
         native.poll({ self.proc }, 0.02)
         pump(self)
         ended = self.proc:wait(0)
      else
         ended = self.proc:wait(math.max(deadline - native.now(), 0))
      end
   until ended or native.now() >= deadline
   if not ended then
      local state = self:describe()
      self:discard()
      error("timeout waiting for the end of the program\n" .. state, 2)
   end
   if not self.result then
      local took = native.now() - self.started
      self.held = false
      pump(self)
      self.result = setmetatable({
         program = self,
         status = ended.exit,
         signal = ended.signal,
         stdout = table.concat(self.out_text),
         stderr = self.err_text,
         lines = self.out_lines,
         user = ended.user,
         sys = ended.sys,
         maxrss_kb = ended.maxrss_kb,
         seconds = took,
      }, result_mt)
   end
   return self.result
end

-- Sends a signal (default TERM) if it runs, waits for its end, returns the result.
function methods:stop(sig, seconds)
   self.proc:kill(sig or "TERM")
   return self:finish(seconds)
end

-- SIGKILL to it and to whatever it has started; returns the result.
function methods:kill9()
   self.proc:kill("KILL", "group")
   return self:finish()
end

-- Ends it without ado. What it has said can still be asked; its directory stays until the end of
-- the run.
function methods:discard()
   self.forget()
   if self.proc:alive() then
      self.proc:kill("KILL", "group")
      self.proc:wait(wait.scaled(10))
   end
   pump(self)
   for _, which in ipairs { "out", "err" } do
      local source = self[which]
      if source and source.file then
         source.file:close()
      end
      self[which] = false
   end
end

return program
