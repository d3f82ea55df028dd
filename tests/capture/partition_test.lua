-- partition_test.lua: partitioned tables and inheritance, with leaves that come and go.
-- SPDX-License-Identifier: MIT
--
-- ATTACH brings rows with old xids, some of which the position believes to have delivered.
-- A new leaf is read whole, its old rows as op "read", and nothing comes twice.

local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local stepping = require "stepping"
local wait = require "wait"
local watch = require "watch"

local TestPartition = {}

local CREATE = [[
   create table t (id int primary key, n int default 0) partition by range (id);
   create table t1 partition of t for values from (0) to (100);
   create table t2 partition of t for values from (100) to (200);
   insert into t select generate_series(1, 10);
   insert into t select generate_series(101, 110);]]

local function new_database(sql)
   return fixtures.database(sql or CREATE)
end

-- A table like t's leaves, with rows; not attached.
local function add_table(db, name, first, last)
   db:exec(([[
      create table %s (id int primary key, n int default 0);
      insert into %s select generate_series(%d, %d)]]):format(name, name, first, last))
end

-- Polls between statements, to say what came: a function that runs the program once and returns
-- "read 1 2, upsert 3", sorted, or "".
local function stepper(db, source)
   return stepping.quiet(db, source, function(changes)
      local by_op, words = { read = {}, upsert = {} }, {}
      for _, change in ipairs(changes) do
         table.insert(by_op[change.op], change.key.id)
         lu.assertEquals(change.table, "t")
      end
      for _, op in ipairs { "read", "upsert" } do
         table.sort(by_op[op])
         if #by_op[op] > 0 then
            words[#words + 1] = op .. " " .. table.concat(by_op[op], " ")
         end
      end
      return table.concat(words, ", ")
   end)
end

-- Leaf by leaf through the root, rows that move from leaf to leaf included.
function TestPartition.test_snapshot_and_changes_through_the_root()
   local db = new_database()
   local p = watch.start_current(db)
   lu.assertEquals(watch.ops(p), { read = 20, upsert = 0 })
   db:exec "update t set id = id + 110 where id <= 3; update t set n = 1 where id = 105"
   watch.wait_current(p, db)
   db:exec "insert into t2 values (150)" -- not through the root
   watch.wait_current(p, db)
   lu.assertEquals(watch.ops(p), { read = 20, upsert = 5 })
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(p:stop().status, 0)
end

-- Rows of the leaf are from: before everything; a transaction that wrote the root too and
-- counts as seen (an open writer holds the floor back); after the last poll.
function TestPartition.test_attach_brings_old_and_seen_and_new_xids()
   local db = new_database()
   add_table(db, "t3", 201, 202)
   local poll = stepper(db)
   lu.assertEquals(poll(), "read 1 2 3 4 5 6 7 8 9 10 101 102 103 104 105 106 107 108 109 110")
   local open = db:connect()
   open:exec "begin; insert into t values (50)"
   db:exec "begin; insert into t values (51); insert into t3 values (203); commit"
   lu.assertEquals(poll(), "upsert 51")
   db:exec "insert into t3 values (204)"
   db:exec "alter table t attach partition t3 for values from (200) to (300)"
   db:exec "insert into t values (205), (52)"
   local got = poll()
   -- 204 was committed after the last poll: old or new, but once
   lu.assertTrue(got == "read 201 202 203, upsert 52 204 205"
      or got == "read 201 202 203 204, upsert 52 205", got)
   lu.assertEquals(poll(), "")
   open:exec "insert into t values (206); commit"
   lu.assertEquals(poll(), "upsert 50 206")
   lu.assertEquals(poll(), "")
end

-- An attached leaf of many batches, while the program runs, and the connection breaks in the middle
-- of it: a lost connection is no reason to deliver anything twice.
function TestPartition.test_attach_and_a_lost_connection_in_the_middle()
   local db = new_database()
   db:exec [[alter table t add pad text;
      create table a (id int primary key, n int default 0, pad text);
      insert into a select i, 0, repeat('x', 500) from generate_series(100000, 140000) i]]
   local p = watch.start(db, { brief = true })
   watch.wait_ready(p)
   local pid
   for i = 1, 15 do -- until the program is caught in the COPY of the leaf, not after it
      db:exec(([[create table a%d (like a including all);
         insert into a%d select id + %d, n, pad from a]]):format(i, i, i * 100000))
      pid = watch.freeze(p, db, function()
         db:exec(("alter table t attach partition a%d for values from (%d) to (%d)"):format(
            i, (i + 1) * 100000, (i + 2) * 100000))
      end, true)
      if pid then
         break
      end
      watch.wait_current(p, db, "t", { seconds = 60 })
   end
   lu.assertNotNil(pid, "the program was never caught in the COPY")
   db:exec(("select pg_terminate_backend(%s)"):format(pid))
   p:signal "CONT"
   watch.wait_current(p, db, "t", { seconds = 60 })
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(p:stop().status, 0)
end

-- A leaf that is attached after the poll took its snapshot and before its COPY is planned: the plan
-- sees it, with the old rows, though the poll knows nothing of it. It must come with the next poll,
-- once. The gate is an immutable function, which the planner calls first.
function TestPartition.test_attach_racing_with_a_poll()
   local db = new_database(CREATE .. [[
      create function gate() returns bool immutable language plpgsql as
         'begin perform pg_advisory_xact_lock_shared(1); return true; end']])
   add_table(db, "t3", 201, 203)
   local p = watch.start(db, { source = { where = "public.gate()" } })
   watch.wait_ready(p)
   watch.wait_current(p, db)
   local open = db:connect() -- keeps the floor below the rows of t3 that are written now
   open:exec "begin; insert into t values (50)"
   local gate = db:connect()
   gate:exec "select pg_advisory_lock(1)"
   db:exec "insert into t values (51); insert into t3 values (204)"
   wait.until_(function()
      return db:value "select 1 from pg_locks where locktype = 'advisory' and not granted"
   end, 10, "the poll to come to the gate")
   db:exec "alter table t attach partition t3 for values from (200) to (300)"
   db:exec "insert into t values (205)"
   gate:exec "select pg_advisory_unlock(1)"
   watch.wait_current(p, db)
   open:exec "commit"
   watch.wait_current(p, db)
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(#p:stop().changes, 20 + 2 + 5)
end

-- Random order of everything, at a short interval. A leaf that was away and comes back is read
-- again as a whole (it may have changed meanwhile), other rows are delivered once.
function TestPartition.test_attach_and_detach_all_the_time()
   local db = new_database()
   for i = 1, 4 do
      add_table(db, "x" .. i, i * 1000, i * 1000 + 5)
   end
   local p = watch.start(db, { source = { interval = 0.01 } })
   watch.wait_ready(p)
   for round = 1, 30 do
      local i = round % 4 + 1
      db:exec(("insert into x%d values (%d)"):format(i, i * 1000 + 100 + round))
      db:exec(("alter table t attach partition x%d for values from (%d) to (%d)"):format(
         i, i * 1000, (i + 1) * 1000))
      db:exec(("insert into t values (%d), (%d)"):format(i * 1000 + 200 + round, 10 + round))
      if round % 3 == 0 then
         watch.wait_current(p, db)
      end
      db:exec(("alter table t detach partition x%d"):format(i))
   end
   for i = 1, 4 do
      db:exec(("alter table t attach partition x%d for values from (%d) to (%d)"):format(
         i, i * 1000, (i + 1) * 1000))
   end
   watch.wait_current(p, db)
   lu.assertEquals(watch.repeats(p, function(id) return tonumber(id:match "%d+$") < 1000 end), {})
   lu.assertEquals(#watch.lines(p, "^error: "), 0)
   lu.assertEquals(p:stop().status, 0)
end

-- Between two polls, a leaf that goes and comes back is the same leaf, with new rows.
function TestPartition.test_detach_and_attach_again_between_two_polls()
   local db = new_database()
   local poll = stepper(db)
   poll()
   db:exec [[alter table t detach partition t2;
      update t2 set n = 1 where id = 101; insert into t2 values (150);
      alter table t attach partition t2 for values from (100) to (200)]]
   lu.assertEquals(poll(), "upsert 101 150")
   lu.assertEquals(poll(), "")
end

-- With a poll in between it is a new leaf when it comes back: what was written while it was away,
-- and never delivered though its xids are below the floor, comes with it.
function TestPartition.test_detach_poll_and_attach_again()
   local db = new_database()
   local poll = stepper(db)
   poll()
   db:exec "alter table t detach partition t2"
   db:exec "insert into t2 values (150); insert into t values (50)"
   lu.assertEquals(poll(), "upsert 50")
   db:exec "insert into t values (51)"
   lu.assertEquals(poll(), "upsert 51")
   db:exec "alter table t attach partition t2 for values from (100) to (200)"
   lu.assertEquals(poll(), "read 101 102 103 104 105 106 107 108 109 110 150")
   lu.assertEquals(poll(), "")
end

function TestPartition.test_detach_concurrently_while_running()
   local db = new_database()
   local p = watch.start_current(db, { source = { interval = 0.01 } })
   db:exec "alter table t detach partition t2 concurrently"
   db:exec "insert into t2 values (150); insert into t values (50)"
   watch.wait_current(p, db)
   db:exec "drop table t2; insert into t values (51)"
   watch.wait_current(p, db)
   lu.assertEquals(watch.ops(p), { read = 20, upsert = 2 })
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(p:stop().status, 0)
end

function TestPartition.test_a_new_empty_partition()
   local db = new_database()
   local poll = stepper(db)
   poll()
   db:exec "create table t3 partition of t for values from (200) to (300)"
   lu.assertEquals(poll(), "")
   db:exec [[insert into t values (201);
      create table t4 partition of t for values from (300) to (400);
      insert into t values (301)]]
   lu.assertEquals(poll(), "upsert 201 301")
   lu.assertEquals(poll(), "")
end

-- A subtree of partitions comes and goes as a whole; so do leaves of a table without any.
function TestPartition.test_a_whole_subtree_is_attached()
   local db = new_database [[
      create table t (id int primary key, n int default 0) partition by range (id)]]
   local poll = stepper(db)
   lu.assertEquals(poll(), "")
   db:exec [[create table s (id int primary key, n int default 0) partition by range (id);
      create table s1 partition of s for values from (0) to (10);
      create table s2 partition of s for values from (10) to (20);
      insert into s values (1), (11)]]
   lu.assertEquals(poll(), "")
   db:exec "alter table t attach partition s for values from (0) to (100)"
   lu.assertEquals(poll(), "read 1 11")
   db:exec "insert into t values (12)"
   lu.assertEquals(poll(), "upsert 12")
   db:exec "alter table t detach partition s; insert into s values (13)"
   lu.assertEquals(poll(), "")
   db:exec "alter table t attach partition s for values from (0) to (100)"
   lu.assertEquals(poll(), "read 1 11 12 13")
end

-- "now" holds for a leaf too: those that are there at the start are passed over.
function TestPartition.test_start_now()
   local db = new_database()
   local poll = stepper(db, { start = "now" })
   lu.assertEquals(poll(), "")
   db:exec "insert into t values (50), (150)"
   lu.assertEquals(poll(), "upsert 50 150")
end

-- The columns of a leaf may stand in another order than the root's, with dropped ones between.
function TestPartition.test_a_leaf_with_other_column_numbers()
   local db = new_database()
   db:exec [[create table t3 (gone text, n int default 0, gone2 int, id int not null);
      alter table t3 drop gone, drop gone2; insert into t3 values (7, 201);
      alter table t attach partition t3 for values from (200) to (300)]]
   local p = watch.start_current(db)
   db:exec "update t set n = 8 where id = 201"
   watch.wait_current(p, db)
   local changes = p:stop().changes
   lu.assertEquals(changes[#changes].row, { id = 201, n = 8 })
   lu.assertEquals(watch.ops(p), { read = 21, upsert = 1 })
   for _, change in ipairs(changes) do
      lu.assertEquals(change.row.n, change.key.id ~= 201 and 0 or change.op == "read" and 7 or 8)
   end
end

-- A role that may read the root, and none of the leaves.
function TestPartition.test_select_on_the_root_only()
   local db = new_database()
   local role = db.cluster:role "login"
   db:exec("grant select on t to " .. role)
   add_table(db, "t3", 201, 203)
   local p = watch.start_current(db, { dsn = db:dsn { user = role } })
   db:exec [[insert into t values (50);
      alter table t attach partition t3 for values from (200) to (300)]]
   watch.wait_current(p, db)
   lu.assertEquals(watch.ops(p), { read = 23, upsert = 1 })
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(p:stop().status, 0)
   db:exec("drop owned by " .. role)
   db.cluster:drop_role(role)
end

-- A leaf's own policies do not hold for who reads through the root.
function TestPartition.test_row_level_security_of_a_leaf()
   local db = new_database()
   local role = db.cluster:role "login"
   db:exec(("grant select on t, t1, t2 to %s"):format(role))
   db:exec "alter table t2 enable row level security"
   local p = watch.start_current(db, { dsn = db:dsn { user = role } })
   db:exec "insert into t values (50), (150)"
   watch.wait_current(p, db)
   lu.assertEquals(watch.ops(p), { read = 20, upsert = 2 })
   lu.assertEquals(p:stop().status, 0)
   db:exec("drop owned by " .. role)
   db.cluster:drop_role(role)
end

function TestPartition.test_inheritance_children()
   local db = new_database [[
      create table t (id int primary key, n int default 0);
      create table c (more text, primary key (id)) inherits (t);
      insert into t values (1); insert into c values (2)]]
   add_table(db, "d", 3, 4)
   local poll = stepper(db)
   lu.assertEquals(poll(), "read 1 2")
   db:exec "insert into t values (11); insert into c values (12)"
   lu.assertEquals(poll(), "upsert 11 12")
   db:exec "alter table d inherit t"
   lu.assertEquals(poll(), "read 3 4")
   db:exec "alter table c no inherit t; insert into c values (13); update t set n = 1 where id = 4"
   lu.assertEquals(poll(), "upsert 4")
   db:exec "alter table d no inherit t"
   db:exec "insert into t values (14); insert into d values (15)"
   lu.assertEquals(poll(), "upsert 14")
   db:exec "alter table c inherit t"
   lu.assertEquals(poll(), "read 2 12 13")
end

-- Rows of a foreign partition have no xmin. Refused at the start, and when it is attached later.
function TestPartition.test_a_foreign_partition_is_refused()
   local db = new_database()
   local p = watch.start(db)
   watch.wait_ready(p)
   db:exec [[create foreign data wrapper w; create server s foreign data wrapper w;
      create foreign table "far away" (id int not null, n int) server s;
      alter table t drop constraint t_pkey;
      alter table t attach partition "far away" for values from (900) to (1000)]]
   local result = p:finish()
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "far away")
   lu.assertStrContains(result.stderr, "foreign table")
   result = program.run {
      dsn = db, options = { "--once" }, script = [[pgcdc.source {table = "t", pk = "id"}]],
   }
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "far away")
end

-- A leaf that is attached, or goes, while the snapshot is read.
function TestPartition.test_attach_and_detach_during_the_snapshot()
   local db = new_database()
   db:exec [[alter table t add pad text default repeat('x', 1000);
      create table big partition of t for values from (1000) to (100000);
      create table late (id int primary key, n int default 0, pad text);
      insert into late values (201), (202);
      insert into t select i from generate_series(1000, 20000) i]]
   local p = watch.start(db, watch.gates(5000))
   watch.wait_line(p, "^row 5000$", 30)
   db:exec [[alter table t detach partition t1; insert into t1 values (50);
      alter table t attach partition late for values from (200) to (300);
      insert into t values (30000), (203), (150)]]
   p.proc:write "go\n"
   watch.wait_current(p, db, "t", { seconds = 30 })
   lu.assertEquals(watch.repeats(p), {})
   db:exec "alter table t attach partition t1 for values from (0) to (100)"
   watch.wait_current(p, db)
   lu.assertEquals(p:stop().status, 0)
end

return TestPartition
