-- walls_secrets_test.lua: scripts in the sandbox that want what the user of the program has.
-- SPDX-License-Identifier: MIT
--
-- A secret must not reach a server that the script names: a proxy in front of a server that asks
-- for the password in clear text counts what passes. Nor may the script find out what it is.

local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local proxy = require "proxy"
local scope = require "scope"

local TestWallsSecrets = {}

local SECRET = "hidden-treasure"
local SERVICE = "host=prod.example.com\nuser=far\ndbname=postgres\npassword=" .. SECRET .. "\n"

-- A server that asks for the password in clear text.
function TestWallsSecrets.setupClass()
   local one = cluster.new { name = "asking", tcp = true, start = false }
   one:hba "local all postgres trust\nhost all all 127.0.0.1/32 password\n"
   one:start()
   one:exec(("create role far login password '%s'"):format(SECRET))
   one:exec "create table t (id int primary key)"
   one:exec "insert into t values (1)"
   one:exec "grant all on t to far"
   TestWallsSecrets.one = one
end

-- Everything that the user of the program may have.
local function belongings(dir)
   for _, name in ipairs { ".pgpass", "passwords" } do
      files.write(dir .. "/" .. name, "*:*:*:*:" .. SECRET .. "\n")
      os.execute(("chmod 600 '%s/%s'"):format(dir, name))
   end
   files.write(dir .. "/.pg_service.conf", "[prod]\n" .. SERVICE)
   files.write(dir .. "/services", "[prod]\n" .. SERVICE)
   return { HOME = dir, PGPASSWORD = SECRET, PGPASSFILE = dir .. "/passwords",
            PGSERVICEFILE = dir .. "/services", PGSERVICE = "prod", PGUSER = "far",
            PGOPTIONS = "-c application_name=" .. SECRET, PGAPPNAME = SECRET, PGDATABASE = SECRET }
end

-- Connections that lead to our server. %s: what every one of them says.
local REDIRECTIONS = {
   "%s user=far dbname=postgres", "%s host=prod.example.com user=far dbname=postgres",
   "%s user=far", "%s", "%s service=prod", "%s passfile=HOME/passwords", "%s passfile=",
   "%s service=prod user=other", "%s password=", "%s options=", "%s application_name=",
   "postgres://far@prod.example.com/postgres?URI", "postgres:///?URI&service=prod",
   "postgres://far@/postgres?URI&passfile=HOME/.pgpass", "postgres:///?URI",
   "%s user=far dbname='service=prod'", "%s user=far dbname='passfile=HOME/passwords'",
   "postgres://far@/service%%3Dprod?URI", "%s user=far dbname='postgres:///?service=prod'",
}

local function redirections(port, dir)
   local list = {}
   for i, text in ipairs(REDIRECTIONS) do
      text = text:gsub("HOME", dir):gsub("URI", "hostaddr=127.0.0.1&sslmode=disable&port=" .. port)
      list[i] = text:format("hostaddr=127.0.0.1 sslmode=disable port=" .. port)
   end
   return list
end

-- Runs a script with the user's belongings. Returns whether the secret went to the server, the
-- result, and how many connections there were.
local function run(options)
   local dir, between = scope.dir(), proxy.new(TestWallsSecrets.one, true)
   local env = belongings(dir)
   for name, value in pairs(options.env or {}) do
      env[name] = value
   end
   between:fault("fin", "up", SECRET, true)
   local lines = { "local list = {}" }
   for i, text in ipairs(redirections(between.port, dir)) do
      lines[#lines + 1] = ("list[%d] = %q"):format(i, text)
   end
   lines[#lines + 1] = options.script
   local result = program.run {
      dsn = options.dsn and options.dsn:format(between.port), env = env, state = false,
      options = options.sandbox ~= false and { "--sandbox" } or {},
      script = table.concat(lines, "\n"), binary = options.binary,
   }
   lu.assertNotStrContains(result.stdout, SECRET)
   lu.assertNotStrContains(result.stderr, SECRET)
   local stats = between:stats()
   return stats.faults > 0, result, stats.accepted
end

local ATTACKS = {
   connect = [[
      for _, c in ipairs(list) do pcall(function() pgcdc.connect(c):query "select 1" end) end
      pgcdc.stop()]],
   tables = [[
      local port = list[1]:match "port=(%d+)"
      for _, more in ipairs {{}, {user = "far"}, {service = "prod"}, {host = "prod.example.com"}} do
         more.hostaddr, more.port, more.sslmode = "127.0.0.1", port, "disable"
         pcall(function() pgcdc.connect(more):query "select 1" end)
      end
      pgcdc.stop()]],
   source = [[
      local n, errors = 0, 0
      for i, c in ipairs(list) do
         local ok, s = pcall(pgcdc.source, {table = "t", name = "s" .. i, connect = c})
         n = n + (ok and 1 or 0)
         if ok then s:on("error", function() errors = errors + 1 end) end
      end
      pgcdc.every(0.02, function() if errors >= n then pgcdc.stop() end end)]],
   sink = [[
      for i, c in ipairs(list) do
         pcall(function()
            local sink = pgcdc.sinks.postgres {table = "t", connect = c}
            sink:write {id = i}
            sink:flush()
         end)
      end
      pgcdc.stop()]],
}

function TestWallsSecrets.test_a_script_gets_no_password_of_the_user()
   for name, script in pairs(ATTACKS) do
      local is_out, result, accepted = run { script = script }
      lu.assertEquals({ name, is_out }, { name, false }, result.stderr)
      lu.assertTrue(name == "sink" or accepted > 0, name) -- the server was there
   end
end

-- C sees to it, where connections are made: also of a Lua half that lets everything pass.
function TestWallsSecrets.test_a_script_gets_no_password_whatever_our_lua_does()
   local dir, ours = scope.dir(), program.binary()
   local top = ours:match "^(.*)/[^/]+/[^/]+$"
   local binary = dir .. "/build/" .. ours:match "[^/]+$"
   os.execute(("mkdir '%s/build' && cp '%s' '%s' && cp -rL '%s/lua' '%s/scripts' '%s'"):format(dir,
      ours, binary, top, top, dir))
   local path = dir .. "/lua/pgcdc/postgres/conninfo.lua"
   lu.assertEquals(native.realpath(path), native.realpath(dir) .. path:sub(#dir + 1)) -- a copy
   local text, n = files.text(path):gsub("raw%.is_sandboxed", "false")
   lu.assertEquals(n, 1)
   files.write(path, text)
   for name, script in pairs(ATTACKS) do
      local is_out, result, accepted = run { script = script, binary = binary }
      lu.assertEquals({ name, is_out }, { name, false }, result.stderr)
      lu.assertTrue(name == "sink" or accepted > 0, name .. result.stderr)
   end
end

function TestWallsSecrets.test_the_attacks_are_real()
   for _, name in ipairs { "connect", "tables" } do
      lu.assertTrue((run { script = ATTACKS[name], sandbox = false }), name)
   end
end

-- --dsn is complete before the script runs: its password comes from wherever it came from.
function TestWallsSecrets.test_dsn_is_what_it_was()
   local far = "hostaddr=127.0.0.1 port=%d sslmode=disable user=far dbname=postgres"
   local none = { PGPASSWORD = false, PGPASSFILE = false, PGSERVICE = false, PGUSER = false,
                  PGDATABASE = false, HOME = scope.dir(), PGSERVICEFILE = false,
                  PGOPTIONS = false, PGAPPNAME = false }
   for what, case in pairs {
      variable = { dsn = far, env = { PGPASSWORD = SECRET } },
      all_variables = { dsn = "", env = {
         PGPASSWORD = SECRET, PGUSER = "far", PGSSLMODE = "disable", PGDATABASE = "postgres",
         PGHOSTADDR = "127.0.0.1", PGPORT = "%d" } },
      file = { dsn = far .. " passfile=HOME/passwords" },
      file_of_variable = { dsn = far, env = { PGPASSFILE = "HOME/passwords" } },
      default_file = { dsn = far, env = { HOME = "HOME" } },
      service = { dsn = "service=prod hostaddr=127.0.0.1 port=%d sslmode=disable",
                  env = { PGSERVICEFILE = "HOME/services" } },
      service_of_variable = { dsn = "hostaddr=127.0.0.1 port=%d sslmode=disable",
                              env = { PGSERVICEFILE = "HOME/services", PGSERVICE = "prod" } },
      own = { dsn = far .. " password=" .. SECRET },
      uri = { dsn = "postgres://far:" .. SECRET .. "@127.0.0.1:%d/postgres?sslmode=disable" },
      name = { dsn = "postgres", env = { PGHOST = "127.0.0.1", PGPORT = "%d", PGUSER = "far",
                                         PGPASSWORD = SECRET } },
   } do
      local dir, env = scope.dir(), {}
      belongings(dir)
      local port = TestWallsSecrets.one.port
      for name, value in pairs(none) do
         env[name] = case.env and case.env[name] or value
      end
      for name, value in pairs(case.env or {}) do
         env[name] = value:gsub("HOME", dir):gsub("%%d", tostring(port))
      end
      local result = program.run {
         dsn = case.dsn:gsub("HOME", dir):gsub("%%d", tostring(port)), env = env,
         options = { "--sandbox", "--once" }, script = [[
            print(pgcdc.connect():query("select current_user as u")[1].u)
            pgcdc.source {table = "t", on_change = function(c) print(c.key.id) end}]],
      }
      lu.assertEquals({ what, result.stdout }, { what, "far\n1\n" }, result.stderr)
   end
end

-- A script that has a password of its own may use it, and say how to connect.
function TestWallsSecrets.test_own_connections()
   local port = TestWallsSecrets.one.port
   local result = program.run { options = { "--sandbox" }, state = false, script = ([[
      local own = {hostaddr = "127.0.0.1", port = %d, user = "far", dbname = "postgres",
         password = "%s", sslmode = "prefer", connect_timeout = 5, keepalives_idle = 3,
         application_name = "it's me", target_session_attrs = "any"}
      local db = pgcdc.connect(own)
      print(db:query("select current_setting('application_name') as a")[1].a)
      own.passfile = "x"
      for _, c in ipairs {own, "service=x", "sslkey=x", "sslcert=x", "sslrootcert=x", "sslcrl=x",
            "options=x", "service=''", "gssencmode=prefer", "krbsrvname=x", "replication=true",
            "postgres:///x?sslkey=/etc/shadow", "sslcrldir=x", "sslpassword=x"} do
         print((select(2, pcall(pgcdc.connect, c)):match "sandbox allows no (%%w+)"))
      end
      pgcdc.stop()]]):format(port, SECRET) }
   lu.assertEquals(result.lines, { "it's me", "passfile", "service", "sslkey", "sslcert",
      "sslrootcert", "sslcrl", "options", "service", "gssencmode", "krbsrvname", "replication",
      "sslkey", "sslcrldir", "sslpassword" }, result.stderr)
end

-- ---- what error texts tell ----

-- The same text for a file that is there, one that is not, and one that may not be read.
function TestWallsSecrets.test_no_oracle_for_files()
   local dir = scope.dir()
   files.write(dir .. "/there", SECRET)
   files.write(dir .. "/there.lua", SECRET)
   os.execute(("mkdir '%s/folder' && touch '%s/folder/.s.PGSQL.5432'"):format(dir, dir))
   local result = program.run { options = { "--sandbox", "--allow-network" }, state = false,
      dsn = "host=/nonexistent", args = { dir = dir }, script = [[
      local dir = pgcdc.args.dir
      local function query(c) pgcdc.connect(c):query "select 1" end
      local ways = {
         socket = function(p) query("host=" .. p) end,
         sockets = function(p) query("host=127.0.0.1," .. p .. " port=1") end,
         empty = function(p) query("host=," .. p .. " port=1") end,
         last = function(p) query("host=" .. p .. ", port=1") end,
         first = function(p) query("host=" .. p .. ",127.0.0.1 port=1") end,
         cert = function(p) query("host=x sslcert=" .. p) end,
         service = function(p) query("servicefile=" .. p) end,
         jsonl = function(p) pgcdc.sinks.jsonl {path = p} end,
         csv = function(p) pgcdc.sinks.csv {path = p} end,
         redis = function(p) pgcdc.sinks.redis {connect = "unix:" .. p} end,
         text = function(p) pgcdc.sinks.text {path = p} end,
         folder = function(p) pgcdc.sinks.jsonl {path = p .. "/%Y"} end,
         textfile = function(p) pgcdc.stream {}:sink_to_textfile(p) end,
         exec = function(p) pgcdc.sinks.exec {command = p} end,
         tls = function(p)
            pgcdc.sinks.redis {connect = "rediss://127.0.0.1:1", tls = {ca = p}}
         end,
         hidden_tls = function(p)
            pgcdc.sinks.redis {connect = "rediss://127.0.0.1:1", tls = setmetatable({},
               {__pairs = function() return next, {ca = p} end})}
         end,
         dead = function(p)
            pgcdc.source {table = "t", on_error = "dead_letter", dead_letter = p}
         end,
         require = function(p) require(p:gsub("/", ".")) end,
         required = function(p) require(".." .. p:gsub("/", ".")) end,
         path = function(p) package.path = p require "there" end,
         config = function(p) package.path = p .. "/?.lua" require "there" end,
      }
      for name, way in pairs(ways) do
         local told = {}
         for i, file in ipairs {"there", "none", "folder", "there/below", "/etc/shadow"} do
            local p = i == 5 and file or dir .. "/" .. file
            local ok, text = pcall(way, p)
            assert(not ok, name)
            local dotted = p:gsub("/", ".")
            for _, written in ipairs {p, dotted, (dotted:gsub("%.", "/"))} do
               local from, to = text:find(written, 1, true)
               while from do
                  text = text:sub(1, from - 1) .. "PATH" .. text:sub(to + 1)
                  from, to = text:find(written, 1, true)
               end
            end
            told[i] = tostring(ok) .. text
            assert(told[i] == told[1], name .. ":\n" .. told[1] .. "\n" .. told[i])
         end
      end
      print "nothing told"
      pgcdc.stop()]] }
   lu.assertEquals(result.lines, { "nothing told" }, result.stderr)
end

-- The same for modules: one that is no Lua, a folder, bytecode and one that is not there are alike
-- to the script, which gets no text of the file and no path. The log tells the user.
function TestWallsSecrets.test_no_oracle_for_modules()
   local dir, lib = scope.dir(), scope.dir()
   for _, name in ipairs { dir .. "/beside.lua", lib .. "/text.lua" } do
      files.write(name, "password = hidden treasure " .. SECRET .. "\n")
   end
   os.execute(("mkdir '%s/empty'"):format(lib))
   files.write(lib .. "/empty/init.lua", ")")
   files.write(lib .. "/code.lua", string.dump(function() end))
   os.execute(("mkdir '%s/folder.lua' && ln -s nowhere '%s/link.lua'"):format(lib, lib))
   files.write(lib .. "/good.lua", "return 'good'")
   files.write(dir .. "/main.lua", [[
      local told = {}
      for _, name in ipairs {"none", "beside", "text", "empty", "code", "folder", "link"} do
         local ok, text = pcall(require, name)
         assert(not ok and package.loaded[name] == nil)
         told[#told + 1] = text:gsub(name, "NAME")
         local found, why = package.searchers[2](name)
         assert(type(found) == "string" and why == nil, name)
         told[#told + 1] = "module 'NAME' not found:\n\tno field package.preload['NAME']\n\t"
            .. found:gsub(name, "NAME")
      end
      for _, text in ipairs(told) do
         assert(text == told[1], told[1] .. "\n" .. text)
         assert(not text:find("/", 1, true) and not text:find "treasure", text)
      end
      print(#told, (require "good"))
      pgcdc.stop()]])
   local result = program.run { file = dir .. "/main.lua", options = { "--sandbox" }, state = false,
                                env = { LUA_PATH = lib .. "/?.lua;" .. lib .. "/?/init.lua" } }
   lu.assertEquals(result.lines, { "14\tgood" }, result.stderr)
   for _, name in ipairs { "beside", "text", "code", "folder" } do
      lu.assertStrContains(result.stderr, name .. ".lua")
   end
end

-- ---- commands ----

function TestWallsSecrets.test_commands_inherit_no_secrets()
   local dir, db = scope.dir(), fixtures.names(1)
   local env = { PGSSLMODE = "prefer", PGHOSTADDR = false, OTHER = "stays" }
   for _, name in ipairs { "PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE", "PGSSLKEY",
                           "PGSSLCERT", "PGSSLPASSWORD", "PGOAUTHCLIENTSECRET" } do
      env[name] = SECRET
   end
   env.PGSERVICE = false -- there is none
   local result = program.run { dsn = db, env = env, options = { "--once" }, args = { dir = dir },
      script = [[pgcdc.source {table = "t"}
         :sink(pgcdc.sinks.exec {command = "cat >/dev/null; env >" .. pgcdc.args.dir .. "/env"})]] }
   lu.assertEquals(result.status, 0, result.stderr)
   local text = files.text(dir .. "/env")
   lu.assertNotStrContains(text, SECRET)
   lu.assertStrContains(text, "\nPGSSLMODE=prefer\n")
   lu.assertStrContains(text, "\nOTHER=stays\n")
end

-- ---- shared metatables ----

-- What of a metatable a script gets is a name: nothing there can be written.
function TestWallsSecrets.test_metatables_are_guarded()
   local db = fixtures.names(1)
   local result = program.run { dsn = db, options = { "--sandbox", "--once" }, script = [[
      local seen, count = {}, 0
      local function check(value, path)
         if type(value) ~= "string" and (value == nil or seen[value]) or value == _G then return end
         seen[value], count = true, count + 1
         local mt = getmetatable(value)
         assert(type(mt) ~= "table", path)
         if mt then
            assert(type(mt.__name) == "string", path)
            assert(not pcall(function() mt.__index = print end), path)
            assert(not pcall(rawset, mt, "__index", print), path)
            assert(not pcall(next, mt) and getmetatable(mt) == false, path)
            assert(type(value) ~= "table" or not pcall(setmetatable, value, {}), path)
            assert(type(value) ~= "table" or not pcall(setmetatable, value, nil), path)
         end
         if type(value) == "table" then
            for k, v in next, value do
               check(v, path .. "." .. tostring(k))
            end
         end
      end
      local c = pgcdc.connect()
      local rows = c:query "select '[1]'::json as a, null as n, array[1] as list"
      local s = pgcdc.source {table = "t"}
      for name, value in pairs {
         text = "", null = pgcdc.null, array = pgcdc.array {}, stream = pgcdc.stream {},
         connection = c, rows = rows, decoded = pgcdc.json.decode '{"a": [1, null, {"b": [1.50]}]}',
         timer = pgcdc.after(60, print), every = pgcdc.every(60, print), pgcdc = pgcdc,
         state = pgcdc.state "s", source = s, mapped = s:map(function(x) return x end),
         jsonl = pgcdc.sinks.jsonl {}, csv = pgcdc.sinks.csv {}, sink = pgcdc.sinks.text {},
         postgres = pgcdc.sinks.postgres {table = "u"}, loaded = package.loaded,
         change = pgcdc.change {op = "read", table = "t", row = {a = {1}}, key = {a = {1}}},
         copy = pgcdc.copy {pgcdc.array {}}, selected = s:select {"id"}, partition = s:partition(2),
         keyed = s:reduce_by("id", function(a) return a end),
         bundled = require "pgcdc.bundled", terminal = require "pgcdc.terminal",
      } do check(value, name) end
      s:on("change", function(change)
         for _, part in ipairs {change, change.row, change.key} do
            check(part, "change")
            check(part:copy(), "copy")
         end
         check(change.changed, "changed")
         print("all guarded", count > 100)
      end)]] }
   lu.assertEquals(result.lines, { "all guarded\ttrue" }, result.stderr)
end

-- Our half calls none of a script's functions in place of methods of text, and works without.
function TestWallsSecrets.test_replaced_methods_of_text()
   local db = fixtures.names(1)
   local result = program.run { dsn = db, options = { "--sandbox", "--once" }, script = [[
      local say, own, called = print, {}, 0
      for name in pairs(string) do
         own[name], string[name] = string[name], function() called = called + 1 end
      end
      function string.shout(s) return s:upper() .. "!" end
      setmetatable(string, {__index = function() called = called + 1 end})
      for _, name in ipairs {"table", "math", "os", "utf8", "pairs", "tostring", "type", "error"} do
         _G[name] = nil
      end
      say(pcall(pgcdc.source, {tabel = 1}))
      say(pcall(pgcdc.connect, {host = "it's", sevrice = 1}))
      say(pgcdc.connect():query("select $1::text as a", "x")[1].a)
      local s = pgcdc.source {table = "t"}
      s:sink(pgcdc.sinks.csv {})
      s:on("change", function(c) say(called, ("x"):shout(), ("%d"):format(5)) end)]] }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.lines[1], "unknown field 'tabel'; did you mean 'table'?")
   lu.assertStrContains(result.lines[2], "cannot be read")
   lu.assertEquals(result.lines[3], "x")
   lu.assertStrContains(result.stdout, "0\tX!\t5\n")
end

-- Modules of ours are not found again, also not with one in place of what they need.
function TestWallsSecrets.test_our_modules_are_gone()
   local result = program.run { options = { "--sandbox" }, state = false,
      dsn = "host=/nonexistent password=" .. SECRET, script = [[
      local got = {}
      local fake = setmetatable({}, {__index = function(_, name)
         return name:find "dir$" and "/" or function(...) got[#got + 1] = {...} return "" end
      end})
      package.preload["pgcdc.raw"] = function() return fake end
      package.loaded.pgcdc = nil
      for _, name in ipairs {"pgcdc", "pgcdc.init", "pgcdc.check", "pgcdc.postgres.conninfo",
                             "pgcdc.postgres.client", "pgcdc.sinks.file"} do
         local ok, module = pcall(require, name)
         if ok then pcall(function() module.text("x", nil) end) pcall(module) end
      end
      for _, arguments in ipairs(got) do
         for _, value in ipairs(arguments) do print(value) end
      end
      print(#package.searchers)
      pgcdc.stop()]] }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.lines[#result.lines], "2")
   lu.assertNotStrContains(result.stdout, SECRET)
end

-- Where the main chunk has failed, finalizers run when what was declared is freed already.
function TestWallsSecrets.test_finalizers_at_the_end()
   local result = program.run { options = { "--sandbox" }, state = false,
      dsn = "host=/nonexistent password=" .. SECRET, script = [[
      pgcdc.source {table = "t"}
      setmetatable({}, {__gc = function()
         print(pcall(pgcdc.source, {table = "u"}))
         print((pcall(function() pgcdc.connect():query "select 1" end)))
         pcall(function() pgcdc.state "s".a = 1 end)
         pcall(function() pgcdc.stream {}:map(print):emit(1) end)
         for k, v in pairs(package.loaded) do
            if k == "io" or k == "debug" then print "out" end
         end
      end})
      error "the end"]] }
   lu.assertEquals(result.status, 1)
   lu.assertStrMatches(result.lines[1], "false.*sources are declared while the script loads.*")
   lu.assertEquals({ table.unpack(result.lines, 2) }, { "false", "1" })
   lu.assertNotStrContains(result.stderr, SECRET)
end

return TestWallsSecrets
