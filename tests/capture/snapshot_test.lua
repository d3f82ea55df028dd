-- snapshot_test.lua: the first reading of a table: resumable, exact, without a long transaction.
-- SPDX-License-Identifier: MIT
--
-- It survives kill -9 at any point and goes on from the last saved block; rows that change
-- meanwhile come with the first poll; rewriting the table under it leaves no hole, and says so.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local wait = require "wait"
local watch = require "watch"

local TestSnapshot = {}

-- t with <rows> rows of about a kilobyte: 7 in a block.
local function new_database(rows)
   return fixtures.database([[
      create table t (id int primary key, n int default 0, pad text default repeat('x', 1000));
      alter table t alter pad set storage plain;
      insert into t select generate_series(1, %d)]], rows)
end

-- More script: waits for a line on standard input at the given numbers of changes.
local function pause_at(...)
   return ([[
      local n, pauses = 0, {%s}
      source:on("change", function()
         n = n + 1
         if n == pauses[1] then
            table.remove(pauses, 1)
            print("pause " .. n)
            io.stdout:flush()
            assert(io.read "l" == "go")
         end
      end)]]):format(table.concat({ ... }, ", "))
end

local function go(p)
   assert(p.proc:write "go\n")
end

-- Killed at six random points, the first of them before anything was saved. Each run goes on where
-- the last one had saved, so all of them together repeat at most what was in hand when they died.
function TestSnapshot.test_kill9_at_random_points()
   local db = new_database(40000)
   local programs = {}
   local state
   for _, least in ipairs { 0, 1, 2000, 5000, 3000, math.random(10000) } do
      local p = watch.start(db, { state = state, brief = true, more = [[
         source:on("change", function() for _ = 1, 3000 do end end)]] })
      programs[#programs + 1] = p
      state = p.state
      p:wait_until(function() return watch.count(p) >= least end, 30)
      p:kill9()
      db:exec(("update t set n = n + 1 where id %% 1000 = %d"):format(#programs))
   end
   local last = watch.start(db, { state = state, brief = true })
   programs[#programs + 1] = last
   watch.wait_ready(last, 30)
   watch.wait_current(programs, db, "t", { seconds = 30 })
   local total = watch.count(programs)
   lu.assertTrue(total < 40000 + 40 * 6 + 6 * 9000, total .. " changes") -- 8 MB are in hand at most
   lu.assertTrue(watch.count(last) < 39000, watch.count(last) .. " changes of the last run")
   lu.assertEquals(last:stop().status, 0)
end

-- A clean stop in the middle of a range repeats nothing and loses nothing, again and again.
function TestSnapshot.test_stops_at_any_row()
   local db = new_database(10000)
   local programs = {}
   local state
   for _ = 1, 6 do
      local p = watch.start(db, { state = state, brief = true, more = [[
         source:on("change", function() for _ = 1, 20000 do end end)]] })
      programs[#programs + 1] = p
      state = p.state
      p:wait_changes(#programs == 1 and 10 or 1, 30)
      lu.assertEquals(p:stop().status, 0)
   end
   programs[#programs + 1] = watch.start(db, { state = state, brief = true })
   watch.wait_current(programs, db, "t", { seconds = 30 })
   lu.assertEquals(watch.repeats(programs), {})
   lu.assertEquals(watch.ops(programs), { read = 10000, upsert = 0 })
end

-- Rows change all the time, in all ways, while the snapshot is read: at the end each row that is
-- there has come in its last version, and no version has come twice.
function TestSnapshot.test_concurrent_changes()
   local db = new_database(20000)
   local open = db:connect()
   open:exec "begin; update t set n = -1 where id <= 10; insert into t values (100001)"
   local p = watch.start(db, { brief = true, more = [[
      source:on("change", function() for _ = 1, 12000 do end end)]] })
   p:wait_changes(1)
   local round = 0
   repeat
      round = round + 1
      local i = round % 100
      db:exec(([[
         update t set n = n + 1 where id %% 100 = %d and id > 10;
         delete from t where id %% 1000 = %d and id > 10;
         update t set id = id + 200000 where id %% 1000 = %d and id > 10 and id < 100000;
         insert into t values (%d)]]):format(i, i + 100, i + 200, 300000 + round))
   until #watch.lines(p, "^ready$") > 0 or round >= 2000
   lu.assertTrue(round > 3, "the snapshot was over too soon")
   open:exec "commit"
   watch.wait_current(p, db, "t", { seconds = 60 })
   lu.assertEquals(watch.repeats(p), {})
   lu.assertTrue(watch.ops(p).read <= 20000)
   lu.assertEquals(p:stop().status, 0)
end

-- VACUUM FULL and CLUSTER move rows to other blocks with their old xids: the half of the table
-- that is left stands where the snapshot has been already. Repeats are right then, a hole is not,
-- and the program says what happened.
local function rewritten(sql)
   local db = new_database(40000)
   local p = watch.start(db, { stdin = "pipe", brief = true, more = pause_at(8000) })
   watch.wait_line(p, "^pause", 30)
   db:exec "delete from t where id < 20000"
   db:exec(sql)
   go(p)
   watch.wait_current(p, db, "t", { seconds = 60 })
   p:wait_stderr "level=warn [^\n]*rewritten"
   db:exec "update t set n = 1 where id > 39990"
   watch.wait_current(p, db)
   lu.assertEquals(watch.repeats(p, function(id) return tonumber(id:match "%d+$") > 39990 end), {})
   lu.assertEquals(p:stop().status, 0)
end

function TestSnapshot.test_vacuum_full()
   rewritten "vacuum full t"
end

-- By an index in the other direction.
function TestSnapshot.test_cluster()
   rewritten "create index down on t (id desc); cluster t using down"
end

-- The same between two runs, and of a leaf that had been read to its end.
function TestSnapshot.test_vacuum_full_of_leaves_between_two_runs()
   local db = cluster.main():database()
   db:exec [[create table t (id int primary key, pad text) partition by range (id)]]
   for i = 0, 3 do
      db:exec(("create table t%d partition of t for values from (%d) to (%d)"):format(
         i, i * 5000, (i + 1) * 5000))
   end
   db:exec "insert into t select i, repeat(md5(i::text), 30) from generate_series(0, 19999) i"
   local p = watch.start(db, { stdin = "pipe", brief = true, more = pause_at(12000) })
   watch.wait_line(p, "^pause", 30)
   p:kill9()
   db:exec "delete from t where id % 5000 < 2500"
   for i = 0, 3 do
      db:exec(("vacuum full t%d"):format(i))
   end
   local q = watch.start(db, { state = p.state, brief = true })
   watch.wait_current({ q }, db, "t", { seconds = 30 })
   q:wait_stderr "rewritten"
   lu.assertEquals(watch.repeats(q), {})
   lu.assertEquals(q:stop().status, 0)
end

-- A rewriting ALTER TABLE and a TRUNCATE give rows new xids: the polls bring them, once.
function TestSnapshot.test_alter_and_truncate_during_the_snapshot()
   for _, sql in ipairs {
      "alter table t alter column n type bigint",
      "begin; truncate t; insert into t select generate_series(1, 50); commit",
      "alter table t drop column n",
   } do
      local db = new_database(20000)
      local p = watch.start(db, { stdin = "pipe", brief = true, more = pause_at(5000) })
      watch.wait_line(p, "^pause", 30)
      db:exec(sql)
      go(p)
      watch.wait_current(p, db, "t", { seconds = 60 })
      lu.assertEquals(watch.repeats(p), {})
      lu.assertEquals(p:stop().status, 0)
      db:drop()
   end
end

-- Another table of the same name takes its place.
function TestSnapshot.test_swapped_during_the_snapshot()
   local db = new_database(20000)
   db:exec [[create table other (like t including all);
      insert into other select generate_series(1, 100)]]
   local p = watch.start(db, { stdin = "pipe", brief = true, more = pause_at(5000) })
   watch.wait_line(p, "^pause", 30)
   db:exec "begin; drop table t; alter table other rename to t; commit"
   go(p)
   watch.wait_current(p, db, "t", { seconds = 60 })
   p:wait_stderr "level=warn [^\n]*read again from its start"
   lu.assertEquals(p:stop().status, 0)
end

-- The table grows beyond the last block of the start, and shrinks below it.
function TestSnapshot.test_the_table_grows_and_shrinks()
   local db = new_database(20000)
   local p = watch.start(db, { stdin = "pipe", brief = true, more = pause_at(5000) })
   watch.wait_line(p, "^pause", 30)
   db:exec "delete from t where id > 12000"
   db:exec "vacuum t" -- cuts off the empty end
   db:exec "insert into t select generate_series(50001, 51000)"
   go(p)
   watch.wait_current(p, db, "t", { seconds = 60 })
   lu.assertEquals(watch.repeats(p), {})
   lu.assertTrue(watch.ops(p).read <= 20000)
   lu.assertEquals(p:stop().status, 0)
end

-- While the handler does not return the snapshot reads ahead a little, in transactions that end;
-- memory stays small, and ALTER TABLE goes through.
function TestSnapshot.test_a_slow_handler_holds_nothing_on_the_server()
   local db = new_database(60000)
   local p = watch.start(db, { stdin = "pipe", brief = true, more = pause_at(1, 30000) })
   for _ = 1, 2 do
      watch.wait_line(p, "^pause", 30)
      wait.until_(function() -- it reads ahead, and then nothing
         return db:value [[select 1 from pg_stat_activity a where application_name = 'pgcdc-lua'
            and datname = current_database() and state = 'idle' and xact_start is null
            and clock_timestamp() - state_change > '0.5 s'
            and not exists (select from pg_locks l where l.pid = a.pid)]]
      end, 30, "the last transaction to end, and its locks")
      local peak = p:rss()
      if not os.getenv "PGCDC_TEST_SLOW" then -- sanitizers need more
         lu.assertTrue(peak < 40 * 1024, peak .. " kB")
      end
      db:exec "set lock_timeout = '5 s'; alter table t set (fillfactor = 90)"
      go(p)
   end
   watch.wait_current(p, db, "t", { seconds = 60 })
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(p:stop().status, 0)
end

-- "now" reads no old row, whatever happens to it short of a change, and also over restarts.
function TestSnapshot.test_start_now_reads_no_old_row()
   local db = new_database(100)
   local function once(state)
      local p = program.start {
         dsn = db, script = watch.script { table = "t", start = "now" }, options = { "--once" },
         state = state,
      }
      return p:finish(), p.state
   end
   local result, state = once()
   lu.assertEquals(#result.changes, 0)
   db:exec "vacuum freeze t"
   db:exec "vacuum full t"
   db:exec "insert into t values (101); update t set n = 1 where id = 1"
   result = once(state)
   lu.assertEquals(result.status, 0)
   local keys = {}
   for i, change in ipairs(result.changes) do
      keys[i] = change.op .. change.key.id
   end
   table.sort(keys)
   lu.assertEquals(keys, { "upsert1", "upsert101" })
   lu.assertEquals(#once(state).changes, 0)
end

-- An empty table, and one whose rows are all gone.
function TestSnapshot.test_nothing_to_read()
   for _, sql in ipairs { "truncate t", "delete from t" } do
      local db = new_database(100)
      db:exec(sql)
      local p = watch.start(db)
      watch.wait_ready(p)
      lu.assertEquals(#p:changes(), 0)
      db:exec "insert into t values (1)"
      watch.wait_current(p, db)
      lu.assertEquals(p:changes()[1].op, "upsert")
      lu.assertEquals(p:stop().status, 0)
   end
end

-- FREEZE keeps the xids that we read; COPY FREEZE hands out rows that are frozen from birth.
function TestSnapshot.test_freeze()
   local db = new_database(10)
   local p = watch.start_current(db)
   db:exec "vacuum freeze t"
   db:exec "update t set n = 1 where id = 1"
   watch.wait_current(p, db)
   db:exec "vacuum freeze t"
   -- COPY needs a file that the server can read
   local path = db.cluster.dir .. "/rows"
   db:exec(("copy (select i, 2, 'y' from generate_series(21, 25) i) to '%s'"):format(path))
   db:exec(("begin; truncate t; copy t from '%s' with (freeze); commit"):format(path))
   watch.wait_current(p, db)
   lu.assertEquals(watch.ops(p), { read = 10, upsert = 6 })
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(p:stop().status, 0)
end

-- Rows of the snapshot are "read", what comes after is "upsert", and "ready" stands between, once.
function TestSnapshot.test_ready_comes_once_between_reads_and_upserts()
   local db = new_database(3000)
   local p = watch.start(db, { brief = true })
   watch.wait_ready(p)
   db:exec "update t set n = 1"
   watch.wait_current(p, db)
   local at
   for i, line in ipairs(p:lines()) do
      if line == "ready" then
         lu.assertNil(at)
         at = i
      end
      lu.assertEquals(line:find '"read"' ~= nil, i < 3001)
   end
   lu.assertEquals(at, 3001)
   p:stop()
   local q = watch.start(db, { state = p.state })
   watch.wait_ready(q)
   lu.assertEquals(#q:changes(), 0)
   lu.assertEquals(q:stop().status, 0)
end

function TestSnapshot.setUp()
   math.randomseed(math.floor(native.now() * 1e6))
end

return TestSnapshot
