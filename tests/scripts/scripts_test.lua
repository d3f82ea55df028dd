-- scripts_test.lua: the bundled scripts csv, tail, route, exec, jsonl into files; --list, help=1.
-- SPDX-License-Identifier: MIT

local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local tables = require "tables"

local TestScripts = {}

local own = { "csv", "exec", "jsonl", "route", "tail" }

local function run(name, db, args, more)
   return program.run(tables.merge(
      { bundled = name, options = { "--once" }, dsn = db, args = args }, more))
end

local function scripts_folder()
   return native.realpath(program.binary():match "^(.*)/[^/]*$" .. "/../scripts")
end

-- All that is in the folder, but its manual.
local function script_files()
   local names = files.names(scripts_folder())
   lu.assertEquals(table.remove(names, 1), "README.md")
   return names
end

-- What they are --------------------------------------------------------------------------------

-- Each is short, says first what it does, and is listed with that.
function TestScripts.test_list()
   local result = program.run { state = false, options = { "--list" } }
   lu.assertEquals(result.status, 0, result.stderr)
   local names = script_files()
   lu.assertEquals(#result.lines, #names)
   for i, file in ipairs(names) do
      local name, text = file:match "^(.*)%.lua$", files.text(scripts_folder() .. "/" .. file)
      local job = text:match("^%-%- " .. name .. ": ([^\n]+)\n")
      lu.assertNotNil(job, file)
      lu.assertTrue(select(2, text:gsub("\n", "")) <= 60, file)
      lu.assertEquals({ result.lines[i]:match "^(%S+)%s+(.*)$" }, { name, job })
   end
   result = program.run { state = false, options = { "--list" }, stdout = "/dev/full" }
   lu.assertEquals(result.status, 1)
end

-- help=1 tells of each option what its declaration says.
function TestScripts.test_help()
   for _, file in ipairs(script_files()) do
      local name = file:match "^(.*)%.lua$"
      local result = program.run { bundled = name, args = { "help=1" }, state = false }
      lu.assertEquals(result.status, 0, name .. result.stderr)
      lu.assertEquals(result.stderr, "")
      lu.assertStrMatches(result.lines[1], name .. ": .+")
      if name ~= "state" then -- which is not about tables
         lu.assertStrMatches(result.stdout, ".*\n  table=%.%.%. +required: one, or several with .*")
      end
      for i = 2, #result.lines do
         lu.assertStrMatches(result.lines[i], "  [%w_]+=%S*%s+%S+ .*")
      end
   end
   local route = program.run { bundled = "route", args = { "help=yes" }, state = false }.stdout
   lu.assertStrMatches(route, ".*\n  by=%.%.%. +required: the column\n.*")
   -- scripts of one's own have it too, without comments in the sandbox
   local text = "pgcdc.options {\n   size = 10, -- how many\n   -- of them\n   name = 'x',\n}"
   local result = program.run { script = text, args = { "help=1" }, state = false }
   lu.assertEquals(result.lines, { "  size=10  how many of them", "  name=x" })
   result = program.run { script = text, args = { "help=1" }, state = false,
      options = { "--sandbox" } }
   lu.assertEquals(result.lines, { "  name=x", "  size=10" })
   result = program.run { script = "print(pgcdc.options { help = '' }.help)", args = { "help=1" },
                          state = false }
   lu.assertEquals(result.lines, { "1" })
   result = program.run { bundled = "jsonl", args = { "help=no" }, state = false }
   lu.assertEquals(result.status, 2)
end

-- Another script may require them: they read the same words and give their sources.
function TestScripts.test_required()
   local db = fixtures.names(2)
   for _, name in ipairs(own) do
      local args = { table = "t", by = name == "route" and "id" or nil,
                     dir = name == "route" and scope.dir "route" or nil,
                     command = name == "exec" and "cat > /dev/null" or nil,
                     start = "snapshot" }
      local result = program.run { dsn = db, options = { "--once" }, args = args, script = ([[
         local n = 0
         require "%s"[1]:on("change", function() n = n + 1 end):on("batch", function()
            io.stderr:write(n, " of them\n")
         end)]]):format(name) }
      lu.assertEquals(result.status, 0, result.stderr)
      lu.assertStrContains(result.stderr, "2 of them")
   end
end

function TestScripts.test_in_the_sandbox()
   local db, folder = fixtures.names(1), scope.dir "out"
   for _, case in ipairs {
      { "jsonl", {}, 0 }, { "csv", {}, 0 }, { "tail", {}, 0 },
      { "jsonl", { out = folder .. "/x" }, 2 },
      { "csv", { out = folder .. "/x" }, 2 }, { "route", { by = "id", dir = folder .. "/y" }, 2 },
      { "exec", { command = "true" }, 2 },
   } do
      case[2].table = "t"
      local result = run(case[1], db, case[2], { options = { "--once", "--sandbox" } })
      lu.assertEquals(result.status, case[3], result.stderr)
      if case[3] ~= 0 then
         lu.assertStrContains(result.stderr, "the sandbox allows no ")
      end
   end
   lu.assertEquals(files.names(folder), {})
end

-- jsonl and csv into files ---------------------------------------------------------------------

function TestScripts.test_jsonl_that_rotates()
   local db, folder, state = fixtures.names(50), scope.dir "out", fixtures.state()
   local args = { table = "t", out = folder .. "/o.jsonl", rotate = "1K" }
   for i = 1, 3 do
      lu.assertEquals(run("jsonl", db, args, { state = state }).status, 0)
      db:exec(("insert into t select %d + i from generate_series(1, 20) i"):format(i * 100))
   end
   lu.assertEquals(#files.names(folder), 4)
   lu.assertEquals(files.text(folder .. "/o.jsonl"), "")
   for _, case in ipairs { { "rotate", "x", "rotate.size must be a size" },
                           { "every", "-1", "rotate.every must be a number of seconds" } } do
      args.rotate = nil
      local result = run("jsonl", db, { table = "t", out = args.out, [case[1]] = case[2] })
      lu.assertEquals(result.status, 2)
      lu.assertStrContains(result.stderr, "pgcdc-lua: " .. case[3])
      lu.assertNotStrContains(result.stderr, "traceback")
   end
end

function TestScripts.test_csv()
   local db, folder, state = fixtures.names(2), scope.dir "out", fixtures.state()
   lu.assertEquals(run("csv", db, { table = "t" }).stdout, "id,name\n1,n1\n2,n2\n")
   lu.assertEquals(run("csv", db, { table = "t", columns = "name, id", header = "no",
                                    meta = "op,table", where = "id = 2" }).stdout, "read,t,n2,2\n")
   local args = { table = "t", out = folder .. "/o.csv" }
   lu.assertEquals(run("csv", db, args, { state = state }).status, 0)
   db:exec "alter table t add column extra int; insert into t values (3, null, 7)"
   local result = run("csv", db, args, { state = state })
   lu.assertStrContains(result.stderr, "left out")
   lu.assertEquals(files.text(args.out), "id,name\n1,n1\n2,n2\n3,\n")
   args.meta = "op"
   result = run("csv", db, args, { state = state })
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "/o.csv: its columns are id, name, and not those")
   lu.assertStrContains(run("csv", db, { table = "t", every = 5 }).stderr,
      "standard output is none")
   lu.assertStrContains(run("jsonl", db, { table = "t", rotate = "1K" }).stderr,
                        "standard output is none")
end

-- tail -----------------------------------------------------------------------------------------

-- Text that would do something to a terminal, or to a reader's eyes.
local nasty = "E'a\\x1b[31mb\\nc\\td\\u009bx\\u202ey\\u200bz\\u00fc\\x7f\"'"

function TestScripts.test_tail()
   local db = fixtures.names()
   db:exec('create table "odd\n\27[1mname" (a int, "b\27" text, c jsonb, d text, '
      .. "primary key (a, d))")
   db:exec('insert into "odd\n\27[1mname" values (1, ' .. nasty .. [[, '{"x":[1,"y z"]}', ''),
      (2, null, null, 'plain'), (3, 'NULL', '"x"', repeat('long ', 100))]])
   local result = run("tail", db, { table = '"odd\n\27[1mname"', width = 20,
                                  start = "snapshot" },
      { env = { TZ = "UTC" } })
   lu.assertEquals(result.status, 0, result.stderr)
   for i, line in ipairs {
      [[read   public.odd\n\x1b[1mname a=1 d="" b\x1b="a\x1b[31mb\nc\td]]
         .. [[\x9bx\u{202e}y\u{200b}zü\x7f\"" c={"x":[1,"y z"]}]],
      [[read   public.odd\n\x1b[1mname a=2 d=plain b\x1b=NULL c=NULL]],
      [[read   public.odd\n\x1b[1mname a=3 d="long long long long…" b\x1b="NULL" c=x]],
   } do
      lu.assertEquals(result.lines[i]:match "^%d%d:%d%d:%d%d (.*)$", line)
   end
   lu.assertEquals(#result.lines, 3)
end

-- On a terminal there are colours, unless NO_COLOR says otherwise; data has no say in it.
function TestScripts.test_tail_on_a_terminal()
   lu.skipIf(not os.execute "command -v script > /dev/null", "there is no script(1)")
   local db = fixtures.names()
   db:exec("insert into t values (1, " .. nasty .. ")")
   for _, env in ipairs {
      { TERM = "xterm" }, { TERM = "xterm", NO_COLOR = "1" }, { TERM = "dumb" },
   } do
      env.SHELL, env.NO_COLOR = "/bin/sh", env.NO_COLOR or ""
      local proc = assert(native.spawn {
         argv = { "script", "-qec",
                  ("'%s' --once -s '%s/s.db' -d \"%s\" tail table=t start=snapshot"):format(
                     program.binary(), scope.dir "state", db:dsn()), "/dev/null" }, env = env })
      local text = ""
      repeat
         local chunk = proc:read("stdout", 10)
         text = text .. (chunk or "")
      until not chunk
      local line = text:match "[^\n]*a\\x1b%[31mb[^\n]*"
      lu.assertNotNil(line, text)
      lu.assertStrContains(line, [[\x9bx\u{202e}y]])
      line = line:gsub("\r$", "")
      local plain, n = line:gsub("\27%[[%d;]*m", "")
      lu.assertEquals(n > 0, env.TERM == "xterm" and env.NO_COLOR == "", line)
      lu.assertNotStrContains(plain, "\27")
      lu.assertStrMatches(plain, "%d%d:%d%d:%d%d read   public%.t id=1 name=.*")
   end
end

-- Only what has changed is shown of an update, where that is known.
function TestScripts.test_tail_of_updates_and_deletes()
   local result = program.run { state = false, args = { table = "t" }, script = [[
      local bundled, handler = require "pgcdc.bundled", nil
      bundled.sources = function()
         return { { on = function(_, _, f) handler = f end } }
      end
      require "tail"
      local change = { op = "update", schema = "s", table = "t", ts = "2026-01-02T03:04:05.6Z",
                       key = { id = 1 }, row = { id = 1, a = 2, b = 3 }, changed = { "b" } }
      handler(change)
      change.op, change.row, change.changed, change.old = "delete", nil, nil, { a = 2 }
      handler(change)
      change.old = nil
      handler(change)]], env = { TZ = "UTC" } }
   lu.assertEquals(result.lines, { "03:04:05 update s.t id=1 b=3", "03:04:05 delete s.t id=1 a=2",
                                   "03:04:05 delete s.t id=1" })
end

-- route ----------------------------------------------------------------------------------------

-- Whatever the value: one file for each, and all of them in that folder.
function TestScripts.test_route()
   local db, folder = fixtures.names(), scope.dir "out"
   local values = {
      "plain", "", ".", "..", "../x", "/etc/passwd", "a/b", "-rf", "a b", "%null", "%empty",
      "%2E", "new\nline", "\27[1m", "zürich", "NULL", "null", ("long"):rep(100),
      ("long"):rep(100) .. "er", ("ü"):rep(100), "a.jsonl", "A.jsonl", "\\", "*", "~",
   }
   local conn = db:connect()
   for i, value in ipairs(values) do
      conn:exec(("insert into t values (%d, '%s'), (%d, '%s')"):format(i, value, i + 100, value))
   end
   conn:exec "insert into t values (99, null), (199, null)"
   local result = run("route", db, { table = "t", by = "name", dir = folder .. "/new/dir" })
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(files.names(folder), { "new" })
   lu.assertEquals(files.names(folder .. "/new"), { "dir" })
   local names = files.names(folder .. "/new/dir")
   lu.assertEquals(#names, #values + 1)
   local seen = {}
   for _, name in ipairs(names) do
      lu.assertStrMatches(name, "[%w%%][%w%%._-]*%.jsonl")
      local lines = {}
      for line in io.lines(folder .. "/new/dir/" .. name) do
         lines[#lines + 1] = json.decode(line)
      end
      lu.assertEquals(#lines, 2)
      lu.assertEquals(lines[2].key.id, lines[1].key.id + 100)
      seen[lines[1].key.id] = name
   end
   lu.assertEquals(seen[1], "plain.jsonl")
   lu.assertEquals(seen[5], "%2E.%2Fx.jsonl")
   lu.assertEquals(seen[99], "%null.jsonl")
   lu.assertEquals(seen[2], "%empty.jsonl")
   result = run("route", db, { table = "t", by = "nmae", dir = folder })
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "has no column 'nmae'")
end

-- More values than files may be open, killed at random: each change is in one file, once.
function TestScripts.test_route_killed_at_random()
   local db, folder = fixtures.names(300), scope.dir "out"
   local state = fixtures.state()
   local options = { bundled = "route", dsn = db, state = state, rlimits = { nofile = 200 },
                     args = { table = "t", by = "name", dir = folder, interval = 0.02 } }
   local n = 300
   for _ = 1, 5 do
      local p = program.start(options)
      local stop = native.now() + 0.1 + math.random() * 0.4
      repeat
         db:exec(("insert into t select i, 'n' || i %% 250 from generate_series(%d, %d) i")
            :format(n + 1, n + 30))
         n = n + 30
         native.sleep(0.03 * math.random())
      until native.now() > stop
      p:kill9()
   end
   options.options = { "--once" }
   local result = program.run(options)
   lu.assertEquals(result.status, 0, result.stderr)
   local count = {}
   for _, name in ipairs(files.names(folder)) do
      for line in io.lines(folder .. "/" .. name) do
         local change = json.decode(line)
         lu.assertEquals(name, change.row.name .. ".jsonl")
         count[change.key.id] = (count[change.key.id] or 0) + 1
      end
   end
   for id = 1, n do
      lu.assertEquals(count[id], 1, id)
   end
end

-- exec -----------------------------------------------------------------------------------------

function TestScripts.test_exec()
   local db = fixtures.names(100)
   local result = run("exec", db, { table = "t", command = "wc -l" })
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.stdout:match "%d+", "100")
   result = run("exec", db, { table = "t", command = "exit 5", retry = 2, wait = 0.01 })
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "ended with status 5")
   lu.assertStrContains(result.stderr, "(after 3 attempts)")
end

-- deletes= and old= ----------------------------------------------------------------------------

-- All scripts take them; what they cannot tell is said.
function TestScripts.test_deletes()
   local folder = scope.dir "out"
   for _, case in ipairs {
      { "jsonl", {}, '"op":"delete",.*"old":{"id":4,"name":"n4"}' },
      { "debezium", {}, '"before":{"id":4,"name":"n4"},"op":"d"' },
      { "mask", { mask = "name:redact" }, '"op":"delete",.*"old":{"id":4,"name":"%*%*%*"}' },
      { "exec", { command = "cat" }, '"op":"delete",.*"old":{"id":4,"name":"n4"}' },
      { "tail", { start = "snapshot" }, "delete public%.t id=4 name=n4" },
      { "csv", { meta = "op" }, "delete,4,n4" },
      { "count", { by = "name" }, '{"value":"n4","count":2}' },
      { "route", { by = "name", dir = folder }, "" },
   } do
      local name, args, pattern = table.unpack(case)
      local db, state = fixtures.names(4), fixtures.state()
      args = tables.merge({ table = "t", deletes = "yes", old = "yes" }, args)
      lu.assertEquals(run(name, db, args, { state = state }).status, 0)
      db:exec "delete from t where id = 4"
      local result = run(name, db, args, { state = state })
      lu.assertEquals(result.status, 0, result.stderr)
      lu.assertStrMatches(result.stdout:gsub("\n", " "), ".*" .. pattern .. ".*")
      lu.assertNotStrContains(result.stderr, "level=warn")
   end
   lu.assertEquals(#files.lines(folder .. "/n4.jsonl"), 2)
   local db = fixtures.names(4)
   for _, case in ipairs {
      { { deletes = "yes", capture = "increment", column = "id" }, 2, "deletes is for captures" },
      { { old = "yes" }, 2, "old = true needs deletes = true" },
      { { deletes = "maybe" }, 2, "deletes must be yes, no or a number of seconds" },
      { { deletes = "60" }, 0, "" }, { { deletes = "0" }, 0, "" },
   } do
      case[1].table = "t"
      local result = run("jsonl", db, case[1])
      lu.assertEquals(result.status, case[2], result.stderr)
      lu.assertStrContains(result.stderr, case[3])
   end
   lu.assertStrContains(run("csv", db, { table = "t", deletes = "yes" }).stderr, "meta=op")
end

-- deletes = true is no matter of the capture; without old rows there is no column to go by.
function TestScripts.test_deletes_by_triggers()
   local db, state, folder = fixtures.names(4), fixtures.state(), scope.dir "out"
   lu.assertEquals(program.run { bundled = "trigger", dsn = db, state = false,
      args = { table = "t", action = "install" } }.status, 0)
   local args = { table = "t", by = "name", dir = folder, capture = "trigger", deletes = "yes" }
   lu.assertEquals(run("route", db, args, { state = state }).status, 0)
   db:exec "delete from t where id = 4"
   local result = run("route", db, args, { state = state })
   lu.assertStrContains(result.stderr, "deletes do not tell the column 'name'")
   lu.assertEquals(#files.lines(folder .. "/%null.jsonl"), 1)
   args.old = "yes"
   lu.assertStrContains(run("route", db, args).stderr, "tells only the key")
end

-- debezium out= with columns in braces: those of the change, since an envelope has none.
function TestScripts.test_debezium_in_many_files()
   local db = fixtures.names(2)
   local folder = scope.dir "envelopes"
   local result = run("debezium", db, { table = "t", out = folder .. "/{change.op}/{id}.jsonl" })
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(json.decode(files.text(folder .. "/read/2.jsonl")).after.id, 2)
   lu.assertEquals(files.names(folder .. "/read"), { "1.jsonl", "2.jsonl" })
end

-- Columns that are not there end the program before any row, with the nearest name.
function TestScripts.test_unknown_columns()
   local db = fixtures.names(2)
   db:exec 'create table other (id int primary key, status text); insert into other values (1)'
   local folder = scope.dir "out"
   for _, case in ipairs {
      { "count", { by = "nmae" } }, { "route", { by = "nmae", dir = folder .. "/x" } },
      { "mask", { mask = "nmae:redact" } }, { "jsonl", { out = folder .. "/{nmae}.jsonl" } },
      { "csv", { out = folder .. "/{change.op}/{nmae}" } },
      { "debezium", { out = folder .. "/{nmae}.jsonl" } },
      { "mirror", { target = "host=/nowhere", rename = "nmae:x" } },
      { "history", { target = "host=/nowhere", rename = "nmae:x" } },
   } do
      local result = run(case[1], db, tables.merge({ table = "t" }, case[2]))
      lu.assertEquals(result.status, 3)
      lu.assertNotStrContains(result.stderr, "traceback")
      lu.assertStrContains(result.stderr, "public.t has no column 'nmae'; did you mean 'name'?")
      -- in one of several tables; and one that is there and is not read
      result = run(case[1], db, tables.merge({ table = "t,other" },
         json.decode((json.encode(case[2]):gsub("nmae", "name")))))
      lu.assertEquals(result.status, 3)
      lu.assertStrContains(result.stderr, "public.other has no column 'name'")
      lu.assertEquals(result.stdout, "")
      result = run(case[1], db, tables.merge({ table = "other", columns = "id" },
         json.decode((json.encode(case[2]):gsub("nmae", "status")))))
      lu.assertStrContains(result.stderr, "has no column 'status' among those that are read")
   end
   lu.assertEquals(files.names(folder), {})
   local result = run("csv", db, { table = "t", meta = "op,xidd" })
   lu.assertEquals(result.status, 2)
   lu.assertEquals(result.stderr,
      "pgcdc-lua: meta: a change has no field 'xidd'; did you mean 'xid'?\n")
end

-- tail begins with what comes.
function TestScripts.test_tail_begins_now()
   local db, state = fixtures.names(2), fixtures.state()
   lu.assertEquals(run("tail", db, { table = "t" }, { state = state }).stdout, "")
   db:exec "insert into t values (3, 'x')"
   local result = run("tail", db, { table = "t" }, { state = state })
   lu.assertStrContains(result.stdout, "id=3 name=x")
   lu.assertEquals(#result.lines, 1)
end

-- What history adds has names that the table may have, too.
function TestScripts.test_renamed_columns()
   local db, target = fixtures.names(0), fixtures.names(0)
   db:exec [[create table h (id int primary key, op text, "valid:to" text, "a b" int);
      insert into h values (1, 'x', 'y', 3)]]
   local args = { table = "h", target = target:dsn(),
                  rename = [[op:operation,"valid:to":until , "a b":"c d"]] }
   local result = run("history", db, args)
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(target:value [[select operation || "until" || "c d" || op from h_history]],
      "xy3read")
   args.rename = "op"
   result = run("history", db, args)
   lu.assertEquals(result.status, 2)
   lu.assertStrContains(result.stderr, "rename=op: say OLD:NEW")
   args.rename = nil
   target:exec "drop table h_history"
   lu.assertStrContains(run("history", db, args).stderr, "rename=")
   lu.assertEquals(run("mirror", db, tables.merge(args, { rename = "op:action" })).status, 0)
   lu.assertEquals(target:value "select action from h", "x")
end

return TestScripts
