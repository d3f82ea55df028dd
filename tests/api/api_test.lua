-- api_test.lua: events, timers and pgcdc.stop as a script meets them.
-- SPDX-License-Identifier: MIT
--
-- The change object is in api_change_test.lua, JSON and logs in api_json_test.lua.

local cluster = require "cluster"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local wait = require "wait"

local TestApi = {}

-- Runs the script once; its lines.
local function run(db, script, state)
   return once.ok { script = script, dsn = db, state = state }.lines
end

-- Events ---------------------------------------------------------------------------------------

local ALL_EVENTS = [[
   local s = pgcdc.source {table = "t", interval = 0.05, on_change = function(c)
      print("first change", c.op, c.key.id)
   end}
   for _, event in ipairs {"change", "read", "upsert", "insert", "update", "delete"} do
      local self = s:on(event, function(c, ...)
         print(event, c.op, c.key.id, c.source, select("#", ...))
      end)
      assert(self == s)
   end
   s:on("batch", function(b, ...) print("batch", b.source, b.count, select("#", ...)) end)
   s:on("ready", function(r) print("ready", r.source) io.stdout:flush() end)
   s:on("change", function(c) print("last change") end)]]

-- Handlers of a change run in the order in which they were added, whichever event they wait for.
function TestApi.test_events_of_a_snapshot_and_of_polls()
   local db, state = fixtures.names(2), fixtures.state()
   local lines = run(db, ALL_EVENTS, state)
   lu.assertEquals(lines, {
      "first change\tread\t1", "change\tread\t1\tpublic.t\t0", "read\tread\t1\tpublic.t\t0",
      "last change",
      "first change\tread\t2", "change\tread\t2\tpublic.t\t0", "read\tread\t2\tpublic.t\t0",
      "last change",
      "batch\tpublic.t\t2\t0", "ready\tpublic.t",
   })
   db:exec "update t set name = 'x' where id = 1"
   lines = run(db, ALL_EVENTS, state)
   table.sort(lines)
   lu.assertEquals(lines, {
      "batch\tpublic.t\t1\t0", "change\tupsert\t1\tpublic.t\t0", "first change\tupsert\t1",
      "last change", "ready\tpublic.t", "upsert\tupsert\t1\tpublic.t\t0",
   })
   lu.assertEquals(run(db, ALL_EVENTS, state), { "ready\tpublic.t" })
end

-- A batch is a chunk of the snapshot or a poll, and comes before its position is saved.
function TestApi.test_batches()
   local db, state = cluster.main():database(), fixtures.state()
   db:exec "create table t (id int primary key, name text) with (fillfactor = 10)"
   db:exec "insert into t select i from generate_series(1, 30000) i"
   local script = [[
      local n = 0
      pgcdc.source {table = "t", interval = 0.05, on_change = function(c)
         n = n + 1
      end}:on("batch", function(b)
         assert(b.count == n and b.count > 0, b.count .. " counted, not " .. n)
         print(n)
         n = 0
         if pgcdc.args.fail then error "fail" end
      end)]]
   local result = program.run {
      script = script, dsn = db, state = state, args = { fail = 1 }, options = { "--once" },
   }
   lu.assertEquals(result.status, 1)
   lu.assertEquals(#result.lines, 1)
   local total, lines = 0, run(db, script, state)
   for _, line in ipairs(lines) do
      total = total + line
   end
   lu.assertEquals(total, 30000)
   lu.assertTrue(#lines > 1)
   db:exec "update t set name = ''" -- one poll is one batch, however large
   lu.assertEquals(run(db, script, state), { "30000" })
   lu.assertEquals(run(db, script, state), {})
end

-- Once per start, after the snapshot's last batch; where none is due, at once.
function TestApi.test_ready_comes_once_per_start()
   local db, state = fixtures.names(3), fixtures.state()
   for i = 1, 3 do
      local p = program.start { script = ALL_EVENTS, dsn = db, state = state }
      p:wait_until(function() return p:stdout():find "ready" end)
      db:exec(("insert into t values (%d)"):format(10 * i))
      p:wait_until(function() return p:stdout():find("upsert\t" .. 10 * i) end)
      db:exec(("insert into t values (%d)"):format(10 * i + 1))
      p:wait_until(function() return p:stdout():find("upsert\t" .. 10 * i + 1) end)
      local result = p:stop()
      lu.assertEquals(select(2, result.stdout:gsub("ready\tpublic.t\n", "")), 1)
      lu.assertEquals(select(2, result.stdout:gsub("read\tread", "")), i == 1 and 3 or 0)
   end
   local db2 = fixtures.names(0)
   lu.assertEquals(run(db2, ALL_EVENTS), { "ready\tpublic.t" })
   for _, start in ipairs { '"now"', "3" } do
      local script = ALL_EVENTS:gsub('table = "t"', "%0, start = " .. start)
      lu.assertEquals(run(db2, script), { "ready\tpublic.t" })
   end
end

-- Old and new columns as lists of {name, type}, before the first change of the new kind.
function TestApi.test_schema()
   local db = fixtures.names(1)
   local p = program.start { dsn = db, script = [[
      local function list(columns)
         local words = {}
         for i, c in ipairs(columns) do words[i] = c.name .. " " .. c.type end
         return table.concat(words, ", ")
      end
      local s = pgcdc.source {table = "t", interval = 0.05, on_change = function(c)
         print(pgcdc.json.encode(c.row))
      end}
      s:on("schema", function(old, new, ...)
         print(list(old) .. " -> " .. list(new), select("#", ...))
         io.stdout:flush()
      end)]] }
   p:wait_until(function() return #p:lines() == 1 end)
   local n = 1
   for _, case in ipairs {
      { "alter table t add column price numeric(12,2) default 1.50",
        "id integer, name text -> id integer, name text, price numeric(12,2)",
        '{"id":2,"name":"b","price":1.50}' },
      { "alter table t rename column name to label",
        "id integer, name text, price numeric(12,2) -> "
          .. "id integer, label text, price numeric(12,2)",
        '{"id":3,"label":"b","price":1.50}' },
      { "alter table t drop column price",
        "id integer, label text, price numeric(12,2) -> id integer, label text",
        '{"id":4,"label":"b"}' },
      { "alter table t alter column label type varchar(9)",
        "id integer, label text -> id integer, label character varying(9)",
        '{"id":5,"label":"b"}' },
   } do
      local from = #p:lines()
      db:exec(case[1])
      n = n + 1
      db:exec(("insert into t values (%d, 'b')"):format(n))
      p:wait_until(function() return p:stdout():find('"id":' .. n, 1, true) end)
      local at = {}
      for i = from + 1, #p:lines() do
         at[p:lines()[i]] = i
      end
      lu.assertNotNil(at[case[2] .. "\t0"], p:stdout())
      lu.assertTrue(at[case[2] .. "\t0"] < at[case[3]])
   end
   local result = p:stop()
   lu.assertEquals(select(2, result.stdout:gsub(" %-> ", "")), 4)
end

-- What happened while the program was away is told as well; an ALTER that no column shows is not.
function TestApi.test_schema_after_a_restart()
   local db, state = fixtures.names(1), fixtures.state()
   local script = [[
      pgcdc.source {table = "t", columns = pgcdc.args.columns and {"name"}}:on("schema",
         function(old, new) print(#old, #new) end)]]
   lu.assertEquals(run(db, script, state), {})
   db:exec "alter table t add column more int; create index on t (name)"
   db:exec "alter table t alter column name set default 'x'"
   lu.assertEquals(run(db, script, state), { "2\t3" })
   lu.assertEquals(run(db, script, state), {})
   local args = { script = script, dsn = db, state = fixtures.state(), args = { columns = 1 },
                  options = { "--once" } }
   lu.assertEquals(program.run(args).stdout, "")
   db:exec "alter table t add column even_more int"
   lu.assertEquals(program.run(args).stdout, "")
   db:exec "alter table t alter column name type varchar(30)"
   lu.assertEquals(program.run(args).stdout, "1\t1\n")
end

-- Columns were kept as lines of name, tab and type, so that a tab or a newline in a name ended the
-- program: "memory allocation error: block too big".
function TestApi.test_schema_with_odd_names()
   local db, state = fixtures.names(1), fixtures.state()
   local script = [[
      pgcdc.source {table = "t"}:on("schema", function(old, new)
         for _, column in ipairs(new) do print(pgcdc.json.encode(column)) end
         print(#old)
      end)]]
   run(db, script, state)
   db:exec 'alter table t add "new\nline" int, add "a\tb\\" text'
   lu.assertEquals(run(db, script, state), {
      '{"name":"id","type":"integer"}', '{"name":"name","type":"text"}',
      [[{"name":"new\nline","type":"integer"}]], [[{"name":"a\tb\\","type":"text"}]], "2",
   })
   lu.assertEquals(run(db, script, state), {})
end

-- A passing failure: told with what happened and when it will be tried again, and then it works.
function TestApi.test_error()
   local db = fixtures.names(1)
   local p = program.start { dsn = db, script = [[
      local s = pgcdc.source {table = "t", interval = 0.02, on_change = function(c)
         print(pgcdc.json.encode {change = c.key.id})
      end}
      s:on("error", function(e)
         print(pgcdc.json.encode(e))
         io.stdout:flush()
      end)]] }
   p:wait_changes(1)
   db.cluster:exec(([[
      select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'pgcdc-lua' and datname = '%s']]):format(db.name))
   local e = p:wait_changes(2)[2]
   lu.assertEquals(e.source, "public.t")
   lu.assertStrContains(e.message, "terminating connection")
   lu.assertTrue(e.sqlstate == nil or e.sqlstate == "57P01") -- it may come as a broken line
   lu.assertTrue(e.retry_in > 0 and e.retry_in < 2)
   db:exec "insert into t values (2)"
   p:wait_until(function() return p:stdout():find '{"change":2}' end)
   p:stop()

   p = program.start { dsn = "host=/nonexistent", script = [[
      pgcdc.source {table = "t", name = "mine"}:on("error", function(e)
         print(pgcdc.json.encode(e))
         pgcdc.stop(9)
      end)]] }
   local result = p:finish()
   lu.assertEquals(result.status, 9)
   lu.assertEquals(result.changes[1].source, "mine")
   lu.assertNil(result.changes[1].sqlstate)
   lu.assertStrContains(result.changes[1].message, "No such file or directory")
end

-- Handlers may be added by handlers; what they wait for comes to them from then on.
function TestApi.test_a_handler_added_by_a_handler()
   local lines = run(fixtures.names(3), [[
      local s
      s = pgcdc.source {table = "t", on_change = function(c)
         print("first", c.key.id)
         if c.key.id == 1 then
            s:on("batch", function(b) print("batch", b.count) end)
         end
      end}]])
   lu.assertEquals(lines, { "first\t1", "first\t2", "first\t3", "batch\t3" })
end

-- pgcdc.source's on_change, :on by event, and two sources: nobody gets another's.
function TestApi.test_events_of_two_sources()
   local db = fixtures.names(1)
   db:exec "create table u (id int primary key); insert into u values (5)"
   local lines = run(db, [[
      for _, name in ipairs {"t", "u"} do
         local s = pgcdc.source {table = name, name = "the " .. name}
         s:on("read", function(c) print(name, c.source, c.table, c.schema, c.key.id) end)
         s:on("batch", function(b) print(name, b.source, b.count) end)
         s:on("ready", function(r) print(name, r.source, "ready") end)
      end]])
   table.sort(lines)
   lu.assertEquals(lines, {
      "t\tthe t\t1", "t\tthe t\tready", "t\tthe t\tt\tpublic\t1",
      "u\tthe u\t1", "u\tthe u\tready", "u\tthe u\tu\tpublic\t5",
   })
end

-- Timers and stop ------------------------------------------------------------------------------

function TestApi.test_timers_only()
   local result = program.run { script = [[
      local n, ticks = 0
      pgcdc.after(0.06, function() print "after" end)
      pgcdc.after(0.02, function() print "sooner" end)
      local cancelled = pgcdc.after(0.03, function() print "never" end)
      cancelled:cancel()
      cancelled:cancel()
      ticks = pgcdc.every(0.1, function()
         n = n + 1
         print("tick", n)
         if n == 3 then
            ticks:cancel()
            pgcdc.after(0.01, function() print "nested" end)
         end
      end)]] }
   lu.assertEquals(result.lines, { "sooner", "after", "tick\t1", "tick\t2", "tick\t3", "nested" })
   lu.assertEquals(result.status, 0)
   lu.assertTrue(result.seconds >= 0.3)
   lu.assertEquals(result.stderr, "")
   lu.assertNil(io.open(result.program.state)) -- no source, no state file
end

-- No source and no timer: it is over.
function TestApi.test_a_script_with_nothing()
   local result = program.run { script = "print 'hello'" }
   lu.assertEquals({ result.stdout, result.status, result.stderr }, { "hello\n", 0, "" })
   result = program.run { script = "" }
   lu.assertEquals({ result.stdout, result.status, result.stderr }, { "", 0, "" })
end

function TestApi.test_stop_and_its_status()
   for _, case in ipairs {
      { "pgcdc.stop()", 0 }, { "pgcdc.stop(0)", 0 }, { "pgcdc.stop(77)", 77 },
      { "pgcdc.stop(255)", 255 },
      { "pgcdc.stop(3) pgcdc.stop(4)", 4 },
   } do
      local result = program.run { script = case[1] .. "\npgcdc.every(0.01, function() end)" }
      lu.assertEquals({ case[1], result.status }, { case[1], case[2] })
      result = program.run {
         script = ("pgcdc.after(0.01, function() %s print 'rest' end) pgcdc.every(9, print)")
            :format(case[1]),
      }
      lu.assertEquals({ result.stdout, result.status }, { "rest\n", case[2] })
   end
   local result = program.run { dsn = fixtures.names(5), options = { "--once" }, script = [[
      pgcdc.source {table = "t", on_change = function(c) print(c.key.id) end}
      pgcdc.stop(5)]] }
   lu.assertEquals({ result.stdout, result.status }, { "", 5 })
end

-- Timers go on beside sources, while there is nothing to do and while there is much.
function TestApi.test_timers_beside_a_source()
   local db = fixtures.names(0)
   local p = program.start { dsn = db, script = [[
      pgcdc.source {table = "t", interval = 1000, on_change = function(c) print "change" end}
      pgcdc.every(0.02, function() print "tick" io.stdout:flush() end)]] }
   p:wait_until(function() return #p:lines() >= 5 end)
   p:stop()
   db:exec "insert into t select generate_series(1, 200000)"
   p = program.start { dsn = db, options = { "--once" }, script = [[
      local n = 0
      pgcdc.source {table = "t", on_change = function(c) n = n + 1 end}
      pgcdc.every(0.002, function() print(n) end)]] }
   local between = 0
   for _, line in ipairs(p:finish().lines) do
      between = between + (line + 0 > 0 and line + 0 < 200000 and 1 or 0)
   end
   lu.assertTrue(between >= 2, between)
end

-- A timer that is late is called once for all the times that it missed.
function TestApi.test_missed_calls_are_not_made_up_for()
   local result = program.run { script = [[
      local n, moment = 0, os.clock()
      pgcdc.every(0.02, function()
         n = n + 1
         if n == 1 then
            while os.clock() < moment + 0.3 do end
         end
      end)
      pgcdc.after(0.35, function() print(n) pgcdc.stop() end)]] }
   lu.assertTrue(tonumber(result.stdout) <= 6, result.stdout)
end

-- Values of pgcdc itself -----------------------------------------------------------------------

function TestApi.test_pgcdc_itself()
   local result = program.run { args = { "b=2", "a=x=y", "empty=", "b=3" }, script = [[
      print(pgcdc.version, require "pgcdc" == pgcdc, tostring(pgcdc.null))
      local names = {}
      for name, value in pairs(pgcdc.args) do
         names[#names + 1] = name .. "=" .. value
      end
      table.sort(names)
      print(table.concat(names, " "), type(pgcdc.args.b))
      local functions = {}
      for name in pairs(pgcdc) do functions[#functions + 1] = name end
      table.sort(functions)
      print(table.concat(functions, " "))]] }
   lu.assertEquals(result.lines[1],
                   program.run { options = { "-V" } }.stdout:match "%d[%d.]*" .. "\ttrue\tnull")
   lu.assertEquals(result.lines[2], "a=x=y b=3 empty=\tstring")
   for _, name in ipairs { "after", "args", "array", "every", "json", "log", "null", "options",
                           "required", "source", "stop", "version" } do
      lu.assertStrContains(" " .. result.lines[3] .. " ", " " .. name .. " ")
   end
end

-- Data goes out when a batch is over, however little it is, so that whoever reads sees it.
function TestApi.test_output_is_not_kept_back()
   local db = fixtures.names(1)
   local p = program.start { dsn = db, stdout = "pipe", script = [[
      print "loading"
      pgcdc.source {table = "t", interval = 0.02, on_change = function(c) print(c) end}]] }
   p:wait_changes(1)
   for i = 2, 4 do
      db:exec(("insert into t values (%d)"):format(i))
      lu.assertEquals(p:wait_changes(i)[i].key, json.decode(('{"id":%d}'):format(i)))
   end
   wait.until_(function() return p:lines()[1] == "loading" end)
   p:stop()
end

return TestApi
