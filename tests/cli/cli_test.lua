-- cli_test.lua: the command line: every option, its errors, where script and state file are.
-- SPDX-License-Identifier: MIT
--
-- Stopping by signals is in stop_test.lua, broken state files and outputs in bad_state_test.lua.

local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local server = require "server"
local wait = require "wait"
local watch = require "watch"

local fail = require("once").fail

local TestCli = {}

local PRINT = [[
   pgcdc.source {table = "t", interval = 0.05, on_change = function(c) print(c) end}]]

local function mode_of(path)
   return (server.run({ "stat", "-c", "%a", path }, { user = false }):gsub("%s+$", ""))
end

-- Runs it; the status and a piece of the message must be these, and nothing is on standard output.
local function check_fails(status, message, options)
   return fail(status, message, program.run(options))
end

-- Answers --------------------------------------------------------------------------------------

function TestCli.test_help_and_version_go_to_standard_output()
   for _, word in ipairs { "--help", "-h" } do
      local result = program.run { options = { word }, state = false }
      lu.assertEquals(result.status, 0)
      lu.assertEquals(result.stderr, "")
      lu.assertEquals(result.lines[1], "Usage: pgcdc-lua [OPTION]... SCRIPT [NAME=VALUE]...")
      for _, option in ipairs {
         "-d, --dsn CONNINFO", "-s, --state FILE", "--once", "--check", "--reset[=SOURCE]",
         "--max-memory SIZE", "--max-time SECONDS", "--sandbox", "--log-level LEVEL",
         "--log-format FORMAT", "-h, --help", "-V, --version",
      } do
         lu.assertStrContains(result.stdout, option)
      end
   end
   for _, word in ipairs { "--version", "-V" } do
      local result = program.run { options = { word }, state = false }
      lu.assertEquals(result.status, 0)
      lu.assertStrMatches(result.lines[1], "pgcdc%-lua %d+%.%d+%.%d+")
      for i = 2, #result.lines do
         lu.assertStrMatches(result.lines[i], "%l+: .+") -- a module
      end
      lu.assertEquals(result.stderr, "")
   end
end

-- Usage is status 2, one line that names what is wrong, whatever else the line holds.
function TestCli.test_usage_errors()
   local wrong = {
      { { "--onec", "x" }, "unknown option --onec; did you mean --once?" },
      { { "--log-levle=info", "x" }, "unknown option --log-levle; did you mean --log-level?" },
      { { "--nothing-like-it", "x" }, "unknown option --nothing-like-it; --help lists them" },
      { { "-x", "x" }, "unknown option -x" },
      { { "--once=3", "x" }, "option --once takes no value" },
      { { "--dsn" }, "option --dsn needs a value" },
      { { "-s" }, "option -s needs a value" },
      { {}, "which script?" },
      { { "--max-memory", "lots", "x" }, "--max-memory lots" },
      { { "--max-memory", "-1M", "x" }, "--max-memory -1M" },
      { { "--max-memory", "10", "x" }, "--max-memory 10" },
      { { "--max-memory", "1Mb", "x" }, "--max-memory 1Mb" },
      { { "--max-time", "soon", "x" }, "--max-time soon" },
      { { "--max-time", "0", "x" }, "--max-time 0" },
      { { "--max-time", "nan", "x" }, "--max-time nan" },
      { { "--log-level", "loud", "x" }, "--log-level loud: use error, warn, info or debug" },
      { { "--log-format", "xml", "x" }, "--log-format xml: use text or json" },
      { { "jsonl", "table" }, "table: words behind the script are written NAME=VALUE" },
      { { "jsonl", "=t" }, "=t: words behind the script are written NAME=VALUE" },
      { { "jsonl", "--once" }, "options stand before it" },
      { { "jsonl", "--help" }, "help=1 prints what it takes" },
   }
   for _, case in ipairs(wrong) do
      local result = check_fails(2, case[2], { options = case[1], state = false })
      lu.assertStrMatches(result.stderr, "pgcdc%-lua: [^\n]+\n")
   end
end

function TestCli.test_a_script_that_is_not_there()
   check_fails(2, "there is no script nowhere.lua", { bundled = "nowhere.lua" })
   check_fails(2, "there is no script ./jsonl", { bundled = "./jsonl" })
   check_fails(2, "did you mean mirror?", { bundled = "miror" })
   check_fails(2, "did you mean trigger?", { bundled = "triger" })
end

-- A folder with the name of a bundled script is not in its way.
function TestCli.test_a_folder_named_like_a_script()
   local folder = scope.dir "folder"
   assert(os.execute(("mkdir %s/csv"):format(folder)))
   check_fails(2, "table=... is required", { bundled = "csv", cwd = folder, state = false })
end

-- Finding the script ---------------------------------------------------------------------------

function TestCli.test_bundled_scripts_are_found_with_and_without_lua()
   local db = fixtures.names(1)
   for _, name in ipairs { "jsonl", "jsonl.lua" } do
      local result = program.run {
         bundled = name, options = { "--once" }, dsn = db, args = { table = "t" },
      }
      lu.assertEquals(result.status, 0)
      lu.assertEquals(watch.ids(result.changes), { 1 })
   end
end

-- A path wins over a bundled name, and require finds what stands beside the script.
function TestCli.test_the_folder_of_the_script()
   local dir = scope.dir "with space"
   files.write(dir .. "/jsonl", 'print(require "beside", require "pgcdc" == pgcdc)')
   files.write(dir .. "/beside.lua", "return 'beside'")
   local result = program.run { bundled = "jsonl", cwd = dir }
   lu.assertEquals(result.stdout, "beside\ttrue\n")
   lu.assertEquals(result.status, 0)
   result = program.run { bundled = dir .. "/jsonl" }
   lu.assertEquals(result.stdout, "beside\ttrue\n")
end

-- The state file -------------------------------------------------------------------------------

-- Beside positions it holds keys of the data, so only its owner may read it.
function TestCli.test_the_default_state_file()
   local db = fixtures.names(2)
   local dir = scope.dir "state"
   local once = {
      script = PRINT, name = "my script.lua", options = { "--once" }, dsn = db, state = false,
   }
   once.env = { XDG_STATE_HOME = dir .. "/deep/xdg" }
   lu.assertEquals(watch.ids(program.run(once).changes), { 1, 2 })
   lu.assertEquals(mode_of(dir .. "/deep/xdg/pgcdc-lua/my script.db"), "600")
   lu.assertEquals(mode_of(dir .. "/deep/xdg/pgcdc-lua"), "700")
   lu.assertEquals(program.run(once).stdout, "")

   once.env = { HOME = dir .. "/home" }
   lu.assertEquals(#program.run(once).changes, 2)
   lu.assertEquals(mode_of(dir .. "/home/.local/state/pgcdc-lua/my script.db"), "600")

   once.env = { HOME = dir .. "/home2", XDG_STATE_HOME = "not/absolute" }
   lu.assertEquals(#program.run(once).changes, 2)
   lu.assertEquals(mode_of(dir .. "/home2/.local/state/pgcdc-lua/my script.db"), "600")

   once.env = { HOME = false }
   check_fails(2, "--state", once)
end

-- Runs of a bundled script for other tables, databases or files have state files of their own; what
-- may change from run to run changes nothing.
function TestCli.test_state_files_of_bundled_scripts()
   local db, other, dir = fixtures.t_and_u "n int", fixtures.names(1), scope.dir "state"
   local function options(more)
      return setmetatable(more, { __index = { bundled = "jsonl", dsn = db, state = false, cwd = dir,
         env = { XDG_STATE_HOME = dir }, options = { "--once" } } })
   end
   local function count(more)
      local result = program.run(options(more))
      lu.assertEquals(result.status, 0, result.stderr)
      return #result.lines, result
   end
   db:exec "insert into t values (1); insert into u values (1), (2)"
   local running = program.start(options { options = {}, args = { table = "t" } })
   running:wait_stderr 'msg="ready"'
   lu.assertEquals(count { args = { table = "u" } }, 2)
   lu.assertEquals(count { args = { table = "t" }, dsn = other }, 1)
   lu.assertEquals(count { args = { table = "t", out = dir .. "/x" } }, 0)
   lu.assertEquals(#files.lines(dir .. "/x"), 1)
   lu.assertEquals(count { args = { table = "u", interval = 3 } }, 0)
   lu.assertEquals(running:stop().status, 0)
   lu.assertEquals(count { args = { table = "t", where = "true" } }, 0)
   lu.assertEquals(#files.names(dir .. "/pgcdc-lua"), 5) -- four, and a journal
end

-- The file that an earlier version named goes on being used.
function TestCli.test_a_state_file_of_an_earlier_version()
   local db, dir = fixtures.t_and_u "n int", scope.dir "state"
   db:exec "insert into t values (1); insert into u values (1), (2)"
   assert(native.mkdir(dir .. "/pgcdc-lua"))
   local old = dir .. "/pgcdc-lua/jsonl.db"
   local once = { bundled = "jsonl", dsn = db, state = old, args = { table = "t" },
                  options = { "--once" }, env = { XDG_STATE_HOME = dir } }
   lu.assertEquals(#program.run(once).lines, 1)
   once.state = false
   for _ = 1, 2 do
      local result = program.run(once)
      lu.assertEquals(result.lines, {}, result.stderr)
      lu.assertStrContains(result.stderr, "the state file of an earlier version")
      lu.assertStrContains(result.stderr, old)
   end
   once.args = { table = "u" }
   local result = program.run(once)
   lu.assertEquals(#result.lines, 2)
   lu.assertNotStrContains(result.stderr, "earlier version")
end

function TestCli.test_state_option()
   local db = fixtures.names(2)
   local dir = scope.dir "state"
   local path = dir .. "/new folder/positions"
   local result = program.run { script = PRINT, options = { "--once" }, dsn = db, state = path }
   lu.assertEquals(#result.changes, 2)
   lu.assertEquals(mode_of(path), "600")
   result = program.run {
      script = PRINT, options = { "--once", "-s", "new folder/positions", "-d", db:dsn() },
      state = false, cwd = dir,
   }
   lu.assertEquals(result.stdout, "")
   lu.assertEquals(result.status, 0)
end

-- What to do -----------------------------------------------------------------------------------

-- --once: the snapshot and one poll of each source, then status 0; the next goes on from there.
function TestCli.test_once()
   local db = fixtures.names(3)
   db:exec "create table u (id int primary key); insert into u values (7)"
   local state = fixtures.state()
   local once = { options = { "--once" }, dsn = db, state = state, script = PRINT .. [[
      pgcdc.source {table = "u", interval = 1000, on_change = function(c) print(c) end}]] }
   local result = program.run(once)
   lu.assertEquals(result.status, 0)
   local ids = watch.ids(result.changes)
   table.sort(ids)
   lu.assertEquals(ids, { 1, 2, 3, 7 })
   for _, change in ipairs(result.changes) do
      lu.assertEquals(change.op, "read")
   end
   db:exec "update t set name = 'new' where id = 2; insert into u values (8)"
   result = program.run(once)
   ids = watch.ids(result.changes)
   table.sort(ids)
   lu.assertEquals(ids, { 2, 8 })
   lu.assertEquals(result.changes[1].op, "upsert")
   lu.assertEquals(program.run(once).stdout, "")
end

-- --check runs the script, but reads no row and moves no position.
function TestCli.test_check()
   local db = fixtures.names(3)
   db:exec "create table \"Odd\" (a int, b text, c int, primary key (c, a))"
   local script = [[
      print "loading"
      pgcdc.source {table = "t", interval = {0.5, 20}, on_change = function(c) print(c) end}
      pgcdc.source {table = '"Odd"', name = "odd", columns = {"b"}}]]
   local result = program.run { script = script, options = { "--check" }, dsn = db }
   lu.assertEquals(result.status, 0)
   lu.assertEquals(result.lines[1], "loading")
   table.sort(result.lines)
   lu.assertEquals(#result.lines, 3)
   lu.assertStrContains(result.lines[2],
      "ok     source odd: table public.Odd, key c,a, 1 columns, every 10 s, Postgres ")
   lu.assertStrContains(result.lines[3],
      "ok     source public.t: table public.t, key id, 2 columns, every 0.5 to 20 s, Postgres ")
   lu.assertNil(io.open(result.program.state))

   check_fails(3, "there is no table nowhere", {
      script = 'pgcdc.source {table = "nowhere"}', options = { "--check" }, dsn = db,
   })
   local role = cluster.main():role "login"
   check_fails(3, "permission denied", {
      script = 'pgcdc.source {table = "t"}', options = { "--check" }, dsn = db:dsn { user = role },
   })
end

function TestCli.test_check_leaves_the_position_alone()
   local db = fixtures.names(3)
   local state = fixtures.state()
   local options = { script = PRINT, dsn = db, state = state, options = { "--once" } }
   lu.assertEquals(#program.run(options).changes, 3)
   local before = files.read(state)
   options.options = { "--check" }
   lu.assertStrContains(program.run(options).stdout, "source public.t: ")
   lu.assertEquals(files.read(state), before)
   db:exec "insert into t values (4)"
   options.options = { "--once" }
   lu.assertEquals(watch.ids(program.run(options).changes), { 4 })
end

function TestCli.test_reset()
   local db = fixtures.names(2)
   db:exec "create table u (id int primary key); insert into u values (7)"
   local function run(...)
      local result = program.run {
         options = { "--once", ... }, dsn = db, state = scope.base() .. "/" .. db.name .. ".db",
         script = PRINT .. [[
            pgcdc.source {table = "u", name = "the other", on_change = function(c) print(c) end}]],
      }
      lu.assertEquals(result.status, 0)
      local ids = watch.ids(result.changes)
      table.sort(ids)
      return ids, result.stderr
   end
   lu.assertEquals(run(), { 1, 2, 7 })
   lu.assertEquals(run(), {})
   lu.assertEquals(run "--reset=the other", { 7 })
   lu.assertEquals(run "--reset=public.t", { 1, 2 })
   lu.assertEquals(run(), {})
   lu.assertEquals(run "--reset", { 1, 2, 7 })
   lu.assertEquals(run "--reset=t", { 1, 2 }) -- as the script writes the table
   lu.assertEquals(run "--reset=T", { 1, 2 }) -- as the server would read it
end

-- A table that needs quotes, and one that names its schema; a name that the script does not have.
function TestCli.test_reset_by_table()
   local db = fixtures.database [[create schema "S";
      create table "S"."Odd one" (id int primary key); insert into "S"."Odd one" values (1);
      create table "S".t (id int primary key); insert into "S".t values (2);
      create table t (id int primary key); insert into t values (3)]]
   local state = fixtures.state()
   local function run(...)
      local result = program.run {
         options = { "--once", ... }, dsn = db, state = state, script = [[
            for _, name in ipairs {{"S", "Odd one"}, {"S", "t"}, "t"} do
               pgcdc.source {table = name, on_change = function(c) print(c) end}
            end]],
      }
      local ids = watch.ids(result.changes)
      table.sort(ids)
      return ids, result.status, result.stderr
   end
   lu.assertEquals(run(), { 1, 2, 3 })
   lu.assertEquals(run(), {})
   lu.assertEquals(run '--reset="S"."Odd one"', { 1 })
   lu.assertEquals(run "--reset=S.Odd one", { 1 })
   lu.assertEquals(run "--reset=public.t", { 3 })
   lu.assertEquals(run '--reset="S".t', { 2 })
   local ids, status, stderr = run "--reset=t"
   lu.assertEquals({ ids, status }, { {}, 2 })
   lu.assertStrContains(stderr, "write its schema as well, since the script also has S.t")
   ids, status, stderr = run "--reset=publik.t" -- which only the server could tell
   lu.assertEquals({ ids, status }, { {}, 0 })
   lu.assertStrContains(stderr, "there was no position to forget")
   ids, status, stderr = run "--reset=orders"
   lu.assertEquals({ ids, status }, { {}, 2 })
   lu.assertStrContains(stderr, "the script has no such source")
   lu.assertEquals(run(), {})
end

-- The last line of --once tells what was done, for each source.
function TestCli.test_once_ends_with_totals()
   local db = fixtures.names(3)
   local result = program.run { options = { "--once" }, dsn = db, script = PRINT }
   lu.assertStrMatches(result.stderr:match "([^\n]*)\n$",
      "ts=%S+ level=info msg=\"done\" source=public%.t rows=3 bytes=%d+ seconds=%d+%.%d+")
end

-- Without --dsn libpq's own environment and service files say where.
function TestCli.test_connection_from_the_environment()
   local db = fixtures.names(1)
   local where = db.cluster
   local options = {
      script = PRINT, options = { "--once" },
      env = { PGHOST = server.socket_dir(), PGPORT = where.port, PGUSER = "postgres",
              PGDATABASE = db.name },
   }
   lu.assertEquals(watch.ids(program.run(options).changes), { 1 })
   local file = scope.dir() .. "/services"
   files.write(file, ("[mine]\nhost=%s\nport=%d\nuser=postgres\ndbname=%s\n"):format(
      server.socket_dir(), where.port, db.name))
   options.env = { PGSERVICEFILE = file, PGSERVICE = "mine" }
   lu.assertEquals(watch.ids(program.run(options).changes), { 1 })
   options.env = { PGSERVICEFILE = file }
   options.dsn = "service=mine"
   lu.assertEquals(watch.ids(program.run(options).changes), { 1 })
   options.dsn = ("postgresql://postgres@%s:%d/%s"):format(
      server.socket_dir():gsub("/", "%%2F"), where.port, db.name)
   lu.assertEquals(watch.ids(program.run(options).changes), { 1 })
end

-- Logs -----------------------------------------------------------------------------------------

function TestCli.test_log_level()
   local function levels(...)
      local text = program.run { options = { ... }, script = [[
         pgcdc.log.error "e"
         pgcdc.log.warn "w"
         pgcdc.log.info "i"
         pgcdc.log.debug "d"]] }.stderr
      return (text:gsub("[^\n]*msg=\"(.)\"\n", "%1"))
   end
   lu.assertEquals(levels(), "ewi")
   lu.assertEquals(levels "--log-level=error", "e")
   lu.assertEquals(levels("--log-level", "warn"), "ew")
   lu.assertEquals(levels "--log-level=info", "ewi")
   lu.assertEquals(levels "--log-level=debug", "ewid")
end

function TestCli.test_log_format()
   local db = fixtures.names(1)
   local stamp = "%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ"
   local result = program.run { script = PRINT, options = { "--once" }, dsn = db }
   for line in result.stderr:gmatch "[^\n]+" do
      lu.assertStrMatches(line, "ts=" .. stamp .. ' level=%l+ msg=".*')
   end
   result = program.run { script = PRINT, options = { "--once", "--log-format=json" }, dsn = db }
   local ready = 0
   for line in result.stderr:gmatch "[^\n]+" do
      local entry = json.decode(line)
      local keys = json.keys(entry)
      lu.assertEquals({ keys[1], keys[2], keys[3] }, { "ts", "level", "msg" })
      lu.assertStrMatches(entry.ts, stamp)
      ready = ready + (entry.msg == "ready" and entry.source == "public.t" and 1 or 0)
   end
   lu.assertEquals(ready, 1)
end

-- Limits and sandbox ---------------------------------------------------------------------------

function TestCli.test_sandbox()
   files.write(scope.base() .. "/text_module.lua", "return 'text'")
   local script = [[
      print(io, debug, dofile, loadfile, os.execute, os.exit, os.remove, os.getenv, string.dump)
      print(package.loadlib, package.cpath, package.loaded.io, package.loaded.debug)
      print(pcall(require, "io"), (pcall(require, "lfs")))
      print(load("\27Lua", "b"))
      print(load("\27Lua", "b", "b"))
      print(load "return 1 + 1" ())
      print(load("return x", "c", "t", {x = "env"})())
      print(require "text_module", type(os.time()), type(string.format))
   ]]
   local result = program.run {
      script = script, options = { "--sandbox" }, env = { LUA_PATH = scope.base() .. "/?.lua;;" },
   }
   lu.assertEquals(result.status, 0)
   lu.assertEquals(result.lines[1], ("nil\t"):rep(8) .. "nil")
   lu.assertEquals(result.lines[2], "nil\tnil\tnil\tnil")
   lu.assertStrContains(result.lines[3], "false")
   lu.assertStrMatches(result.lines[#result.lines - 4], "nil\tattempt to load a binary chunk.*")
   lu.assertStrMatches(result.lines[#result.lines - 3], "nil\tattempt to load a binary chunk.*")
   lu.assertEquals(result.lines[#result.lines - 2], "2")
   lu.assertEquals(result.lines[#result.lines - 1], "env")
   lu.assertEquals(result.lines[#result.lines], "text\tnumber\tfunction")
   result = program.run { script = script, env = { LUA_PATH = scope.base() .. "/?.lua;;" } }
   lu.assertNotStrContains(result.lines[1], "nil")
end

-- The library needs nothing of what the sandbox takes, the bundled script neither.
function TestCli.test_sandbox_streams_changes()
   local db = fixtures.names(2)
   local result = program.run {
      script = PRINT, options = { "--sandbox", "--once", "--max-memory=64M", "--max-time=5" },
      dsn = db,
   }
   lu.assertEquals(watch.ids(result.changes), { 1, 2 })
   lu.assertEquals(result.status, 0)
   result = program.run {
      bundled = "jsonl", options = { "--sandbox", "--once" }, dsn = db, args = { table = "t" },
   }
   lu.assertEquals(watch.ids(result.changes), { 1, 2 })
   result = program.run { script = "\n\npgcdc.source {tabel = 't'}", options = { "--sandbox" } }
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "script.lua:3:")
end

function TestCli.test_sandbox_refuses_a_binary_script()
   local path = scope.dir() .. "/binary.lua"
   files.write(path, string.dump(load "print 'ran'"))
   lu.assertEquals(program.run({ file = path }).stdout, "ran\n")
   local result = program.run { file = path, options = { "--sandbox" } }
   lu.assertEquals(result.status, 1)
   lu.assertEquals(result.stdout, "")
   lu.assertStrContains(result.stderr, "binary")
end

-- Each handler call has its own clock: many calls that are short each are no offence.
function TestCli.test_limits_that_are_kept()
   local db = fixtures.names(60)
   local result = program.run {
      options = { "--once", "--max-time=1", "--max-memory=8M" }, dsn = db, script = [[
         pgcdc.source {table = "t", on_change = function(c)
            local stop = os.clock() + 0.02
            while os.clock() < stop do local _ = ("x"):rep(1000) end
            print(c)
         end}]],
   }
   lu.assertEquals(result.status, 0)
   lu.assertEquals(#result.changes, 60)
end

-- Timers that are due at the same time are calls of their own. They shared one clock.
function TestCli.test_many_timers_and_the_limit()
   local limit = wait.scaled(2)
   local result = program.run {
      state = false, options = { ("--max-time=%g"):format(limit) }, deadline = 30, script = ([[
         for i = 1, 24 do
            pgcdc.after(0.001, function()
               local stop = os.clock() + %g
               while os.clock() < stop do end
               print(i)
            end)
         end]]):format(limit / 20) }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(#result.lines, 24)
end

-- The program starts with any of its standard descriptors closed. What is opened then gets their
-- numbers: log lines once ended up in the file that jsonl wrote.
function TestCli.test_closed_standard_error_and_input()
   for _, stdin in ipairs { "closed", "null" } do
      local db = fixtures.names(2)
      local out = scope.dir() .. "/out"
      local p = program.start {
         bundled = "jsonl", args = { table = "t", interval = 0.05, out = out }, dsn = db,
         stdin = stdin, stderr = "closed",
      }
      p:wait_until(function() return select(2, (files.read(out) or ""):gsub("\n", "")) >= 2 end)
      db:exec "insert into t values (3)"
      p:wait_until(function() return files.read(out):find '"id":3' end)
      lu.assertEquals(p:stop().status, 0)
      local n = 0
      for line in io.lines(out) do
         lu.assertStrMatches(line, '{"op":.*}')
         n = n + 1
      end
      lu.assertEquals(n, 3)
   end
end

return TestCli
