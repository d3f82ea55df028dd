-- jsonl_test.lua: the bundled script jsonl: its options, its file, readers that leave, and scripts
-- that were made from it.
-- SPDX-License-Identifier: MIT

local child = require "child"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local tables = require "tables"
local wait = require "wait"

local TestJsonl = {}

local function database(n)
   return fixtures.database([[create table t (id int primary key, name text, n int);
      insert into t select i, md5(i::text), i %% 10 from generate_series(1, %d) i]], n)
end

-- One run with --once; what it says and the changes.
local function run(db, args, more)
   return program.run(tables.merge(
      { bundled = "jsonl", options = { "--once" }, dsn = db, args = args }, more))
end

-- Options --------------------------------------------------------------------------------------

-- A line is what tostring(change) gives, and that is the format of section 4 of the design.
function TestJsonl.test_a_line()
   local result = run(database(1), { table = "t" })
   lu.assertEquals(result.status, 0)
   lu.assertStrMatches(result.stdout, '{"op":"read","schema":"public","table":"t","key":{"id":1},'
      .. '"row":{"id":1,"name":"c4ca4238a0b923820dcc509a6f75849b","n":1},"xid":%d+,"seq":%d+,'
      .. '"ts":"%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ","id":"public%.t/%d+/1"}\n')
end

function TestJsonl.test_columns_where_and_pk()
   local db = database(20)
   local result = run(db, { table = "t", columns = "n, name", where = "n = 3 -- three",
                            pk = "name,id" })
   lu.assertEquals(#result.changes, 2)
   lu.assertEquals(json.keys(result.changes[1].row), { "n", "name" })
   lu.assertEquals(json.keys(result.changes[1].key), { "name", "id" })
   lu.assertEquals(result.changes[1].key.id, 3)
   lu.assertEquals(result.changes[2].key.id, 13)
   db:exec 'create table "Odd Name" ("The Key" int primary key); '
   db:exec 'insert into "Odd Name" values (1)'
   result = run(db, { table = 't, "Odd Name"', where = "true" })
   lu.assertEquals(#result.changes, 21)
end

-- A comma list makes several sources, each with its own position.
function TestJsonl.test_several_tables()
   local db, state = database(2), fixtures.state()
   db:exec "create schema s; create table s.u (id int primary key); insert into s.u values (7)"
   local result = run(db, { table = "t, s.u" }, { state = state })
   local ids = {}
   for _, change in ipairs(result.changes) do
      ids[#ids + 1] = ("%s.%s %d"):format(change.schema, change.table, change.key.id)
   end
   table.sort(ids)
   lu.assertEquals(ids, { "public.t 1", "public.t 2", "s.u 7" })
   db:exec "insert into s.u values (8)"
   lu.assertEquals(run(db, { table = "t" }, { state = state }).stdout, "")
   lu.assertEquals(run(db, { table = "s.u" }, { state = state }).changes[1].key.id, 8)
end

function TestJsonl.test_start()
   local db, state = database(2), fixtures.state()
   lu.assertEquals(run(db, { table = "t", start = "now" }, { state = state }).stdout, "")
   local xid = db:value "select txid_current()"
   db:exec "insert into t values (3)"
   local result = run(db, { table = "t", start = "now" }, { state = state })
   lu.assertEquals(result.changes[1].op, "upsert")
   lu.assertEquals(#result.changes, 1)
   result = run(db, { table = "t", start = xid })
   lu.assertEquals(#result.changes, 1)
   lu.assertEquals(result.changes[1].key.id, 3)
   lu.assertEquals(#run(db, { table = "t", start = "snapshot" }).changes, 3)
end

function TestJsonl.test_interval()
   local db = database(1)
   local p = program.start { bundled = "jsonl", dsn = db, args = { table = "t", interval = 0.02 } }
   for i = 2, 20 do
      db:exec(("insert into t values (%d)"):format(i))
      p:wait_changes(i, 5)
   end
   lu.assertEquals(p:stop().status, 0)
end

function TestJsonl.test_wrong_options()
   local db = database(1)
   for _, case in ipairs {
      { 2, {}, "table=... is required" }, { 2, { table = "" }, "table must not be empty" },
      { 2, { table = "t", colomns = "id" }, "unknown option colomns; did you mean 'columns'?" },
      { 2, { table = "t", interval = "x" }, "interval must be a number" },
      { 2, { table = "," }, "table" },
      { 2, { table = "t", interval = "0" }, "interval must be" },
      { 2, { table = "t", start = "then" }, "pgcdc-lua: start must be" },
      { 1, { table = "t", out = "/nonexistent/out" },
         "level=error msg=\"/nonexistent/out: its folder is not there: make it\"" },
      { 3, { table = "t", columns = "nothing" }, "has no column" },
      { 3, { table = "nowhere" }, "there is no table nowhere" },
   } do
      local result = run(db, case[2])
      lu.assertStrContains(result.stderr, case[3])
      lu.assertNotStrContains(result.stderr, "/lua/pgcdc/") -- no place in our own code
      lu.assertEquals(result.status, case[1])
      lu.assertEquals(result.stdout, "")
   end
end

-- Files ----------------------------------------------------------------------------------------

-- The file is appended to, and what was saved as delivered is in it.
function TestJsonl.test_out()
   local db, state = database(3), fixtures.state()
   local out = scope.dir "a folder" .. "/out.jsonl"
   lu.assertEquals(run(db, { table = "t", out = out }, { state = state }).stdout, "")
   lu.assertEquals(#files.lines(out, json.decode), 3)
   db:exec "insert into t values (4)"
   run(db, { table = "t", out = out }, { state = state })
   local lines = files.lines(out, json.decode)
   lu.assertEquals(#lines, 4)
   lu.assertEquals(lines[4].op, "upsert")

   local p = program.start {
      bundled = "jsonl", dsn = db, args = { table = "t", out = out, interval = 0.02 },
      state = state,
   }
   db:exec "insert into t values (5)"
   p:wait_until(function() return #files.lines(out, json.decode) == 5 end)
   db:exec "insert into t values (6)"
   p:wait_until(function() return #files.lines(out, json.decode) == 6 end)
   p:kill9()
   lu.assertEquals(run(db, { table = "t", out = out }, { state = state }).status, 0)
   local seen = {}
   for _, line in ipairs(files.lines(out, json.decode)) do
      seen[line.key.id] = true
   end
   lu.assertEquals(#seen, 6)
end

function TestJsonl.test_out_that_is_full()
   local db, state = database(3), fixtures.state()
   local result = run(db, { table = "t", out = "/dev/full" }, { state = state })
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "No space left on device")
   lu.assertEquals(#run(db, { table = "t" }, { state = state }).changes, 3)
end

-- Readers that leave ---------------------------------------------------------------------------

-- Like `pgcdc-lua jsonl ... | head -<n>`: a shell runs both; what both ended with is printed after.
local function pipe_to_head(db, state, n, args, options)
   local proc = assert(native.spawn {
      argv = { "sh", "-c", [[
         exec 4>&1
         { "$@"; echo "status $?" >&4; } | head -]] .. n, "sh",
         program.binary(), "--dsn", db:dsn(), "--state", state, options or "--once", "jsonl",
         "table=t", args },
   })
   local text = child.read_all(proc, 20)
   local stderr = child.read_all(proc, 20, "stderr")
   lu.assertEquals(text:match "status (%d+)", "0", stderr)
   lu.assertNotStrContains(stderr, "level=error")
   lu.assertNotStrContains(stderr, "level=warn")
   local ids = {}
   for line in text:gmatch "{[^\n]*}\n" do
      ids[#ids + 1] = json.decode(line).key.id
   end
   lu.assertEquals(#ids, n)
   return ids
end

-- `| head -1` ends it quietly with status 0, and the rest comes with the next run. As the reader
-- may have been given more than it took, what it has seen may come again; nothing is left out.
function TestJsonl.test_head_of_a_snapshot()
   for _, n in ipairs { 1, 100 } do
      local db, state = database(6000), fixtures.state()
      local ids = pipe_to_head(db, state, n, "interval=0.05")
      lu.assertEquals(ids[1], 1)
      local seen, first = {}, math.huge
      for _, change in ipairs(run(db, { table = "t" }, { state = state }).changes) do
         seen[change.key.id] = (seen[change.key.id] or 0) + 1
         first = math.min(first, change.key.id)
      end
      for id = n + 1, 6000 do
         if seen[id] ~= 1 then
            lu.fail(("id %d came %d times"):format(id, seen[id] or 0))
         end
      end
      lu.assertTrue(first <= n + 1)
   end
end

function TestJsonl.test_head_of_a_poll()
   local db, state = database(0), fixtures.state()
   lu.assertEquals(run(db, { table = "t" }, { state = state }).stdout, "")
   db:exec "insert into t select i, md5(i::text) from generate_series(1, 6000) i"
   pipe_to_head(db, state, 1, "interval=0.05")
   local seen = {}
   for _, change in ipairs(run(db, { table = "t" }, { state = state }).changes) do
      seen[change.key.id] = true
   end
   for id = 2, 6000 do
      if not seen[id] then
         lu.fail(("id %d was lost"):format(id))
      end
   end
end

-- Few rows: the reader leaves only when there is nothing to write, and the program learns of it at
-- the next change.
function TestJsonl.test_a_reader_that_leaves_between_changes()
   local db, state = database(1), fixtures.state()
   local p = program.start {
      bundled = "jsonl", dsn = db, state = state, args = { table = "t", interval = 0.02 },
      stdout = "pipe",
   }
   p:wait_changes(1)
   p.proc:close "stdout"
   p.pipe = false
   for i = 2, 200 do
      if not p:alive() then
         break
      end
      db:exec(("insert into t values (%d)"):format(i))
      native.poll({ p.proc }, 0.02)
   end
   local result = p:finish(10)
   lu.assertEquals(result.status, 0)
   lu.assertNotStrContains(result.stderr, "level=error")
   local seen = {}
   for _, change in ipairs(run(db, { table = "t" }, { state = state }).changes) do
      seen[change.key.id] = true
   end
   for id = 2, tonumber(db:value "select max(id) from t") do
      lu.assertTrue(seen[id], id)
   end
end

-- A pipe that nobody reads for a while holds the program up, and memory stays small.
function TestJsonl.test_a_slow_reader()
   local db, state = database(100000), fixtures.state()
   local p = program.start {
      bundled = "jsonl", dsn = db, state = state, args = { table = "t" }, options = { "--once" },
      hold = true,
   }
   p:wait_until(function() return #native.poll({ p.proc }, 0.01) > 0 end, 10, "output")
   -- sampled: what wait4 tells is never less than what the runner held when it forked
   local peak_kb = p:rss()
   p:release()
   local result = p:finish()
   lu.assertEquals(result.status, 0)
   lu.assertEquals(#result.lines, 100000)
   lu.assertTrue(peak_kb < 60000 or wait.slow > 1, peak_kb)
end

-- Scripts that were made from it ---------------------------------------------------------------

-- The script as it was when bundled scripts called bundled.defaults.
local older = [[
-- jsonl: every change as one line of JSON, on standard output or in a file.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = pgcdc.options(bundled.defaults {
   out = "-",       -- a file to append to, each change exactly once
   rotate = "",     -- begin a new file at that size, such as 100M
   every = 0,       -- begin a new file after so many seconds
})

local sink = pgcdc.sinks.jsonl { path = options.out, rotate = bundled.rotation(options) }

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   if options.out == "-" then
      source:on("change", print) -- the same, and faster
   else
      source:sink(sink)
   end
end

return sources
]]

local function run_older(db, args, more)
   return run(db, args, tables.merge({ script = older, name = "mine.lua" }, more))
end

function TestJsonl.test_an_older_script()
   local db, state, out = database(3), fixtures.state(), scope.dir "out" .. "/out.jsonl"
   local result = run_older(db, { table = "t", columns = "id" })
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(#result.changes, 3)
   lu.assertEquals(json.keys(result.changes[1].row), { "id" })
   result = run_older(db, { table = "t", out = out, start = "now" }, { state = state })
   lu.assertEquals(result.status, 0, result.stderr)
   db:exec "insert into t values (4)"
   result = run_older(db, { table = "t", out = out, rotate = "1M" }, { state = state })
   lu.assertEquals(result.status, 0, result.stderr)
   local lines = files.lines(out, json.decode)
   lu.assertEquals(#lines, 1)
   lu.assertEquals(lines[1].key.id, 4)
   result = run_older(db, { table = "t" }, { options = { "--once", "--sandbox" } })
   lu.assertEquals(#result.changes, 4)
end

-- It has the same options, and its help=1 lists the same with the same texts.
function TestJsonl.test_the_options_of_an_older_script()
   local help = run_older(nil, { help = 1 }, { state = false })
   lu.assertEquals(help.status, 0, help.stderr)
   lu.assertEquals(help.stdout, run(nil, { help = 1 }, { state = false }).stdout)
   for _, case in ipairs {
      { {}, "table=... is required" }, { { table = "" }, "table must not be empty" },
      { { table = "t", colomns = "id" }, "unknown option colomns; did you mean 'columns'?" },
      { { table = "t", every = "x" }, "every must be a number" },
   } do
      local result = run_older(nil, case[1])
      lu.assertEquals(result.status, 2)
      lu.assertStrContains(result.stderr, case[2])
   end
   local result = run_older(nil, { table = "t" },
      { script = 'require "pgcdc.bundled".defaults { columns = "" }' })
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "mine.lua:1: pgcdc.bundled: the option columns is every")
end

return TestJsonl
