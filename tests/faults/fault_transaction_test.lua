-- fault_transaction_test.lua: transactions of every shape become visible once, and only once.
-- SPDX-License-Identifier: MIT
--
-- The program runs with --once, so that each test says between which commits the polls lie. Each
-- case is one that a simpler rule ("xmin > the highest seen", "below the oldest running
-- transaction", pg_visible_in_snapshot) loses, repeats or delays.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local stepping = require "stepping"
local watch = require "watch"

local TestFaultTransaction = {}

-- A database with a table of one row (id 0), and a function that polls: it returns the keys of
-- the changes of that poll, in order, as text.
local function new_database(source)
   local db = fixtures.database(
      "create table t (id int primary key, n int default 0); insert into t values (0)")
   return db, stepping.quiet(db, source, watch.keys)
end

-- The order of commits is not the order of xids.
function TestFaultTransaction.test_an_older_transaction_commits_later()
   local db, poll = new_database()
   lu.assertEquals(poll(), "0")
   local one, two = db:connect(), db:connect()
   one:exec "begin; insert into t values (1)"
   two:exec "begin; insert into t values (2)"
   db:exec "insert into t values (3)"
   lu.assertEquals(poll(), "3")
   two:exec "commit"
   lu.assertEquals(poll(), "2")
   db:exec "insert into t values (4)"
   lu.assertEquals(poll(), "4")
   one:exec "commit"
   lu.assertEquals(poll(), "1")
   lu.assertEquals(poll(), "")
end

-- The case that rules out pg_visible_in_snapshot: top transaction and savepoint open, a later xid
-- commits, and the snapshot then lists the top transaction only.
function TestFaultTransaction.test_a_savepoint_stays_open_while_a_later_xid_commits()
   local db, poll = new_database()
   lu.assertEquals(poll(), "0")
   local one = db:connect()
   one:exec "begin; insert into t values (1); savepoint a; insert into t values (2)"
   db:exec "insert into t values (3)"
   lu.assertEquals(poll(), "3")
   one:exec "savepoint b; insert into t values (4); release b"
   one:exec "savepoint c; insert into t values (5); rollback to c"
   lu.assertEquals(poll(), "")
   one:exec "commit"
   lu.assertEquals(poll(), "1 2 4")
   lu.assertEquals(poll(), "")
end

-- 80 open subtransactions are more than a backend lists (64): the snapshot is "suboverflowed".
function TestFaultTransaction.test_more_savepoints_than_a_backend_lists()
   local db, poll = new_database()
   lu.assertEquals(poll(), "0")
   local one = db:connect()
   one:exec "begin; insert into t values (1)"
   for i = 2, 81 do
      one:exec(("savepoint s%d; insert into t values (%d)"):format(i, i))
   end
   db:exec "insert into t values (100)"
   lu.assertEquals(poll(), "100")
   one:exec "commit"
   local wanted = {}
   for i = 1, 81 do
      wanted[i] = i
   end
   lu.assertEquals(poll(), table.concat(wanted, " "))
   lu.assertEquals(poll(), "")
end

function TestFaultTransaction.test_prepared_transactions()
   local db, poll = new_database()
   lu.assertEquals(poll(), "0")
   db:exec(([[begin; insert into t values (1); savepoint a; insert into t values (2);
      prepare transaction 'p-%s']]):format(db.name))
   db:exec(("begin; insert into t values (3); prepare transaction 'q-%s'"):format(db.name))
   db:exec "insert into t values (4)"
   lu.assertEquals(poll(), "4")
   db:exec(("commit prepared 'p-%s'"):format(db.name))
   lu.assertEquals(poll(), "1 2")
   db:exec(("rollback prepared 'q-%s'"):format(db.name))
   lu.assertEquals(poll(), "")
end

-- One transaction updates what it inserted, a subtransaction what that updated, and so on.
function TestFaultTransaction.test_versions_that_nobody_could_see_are_no_changes()
   local db, poll = new_database()
   lu.assertEquals(poll(), "0")
   local one = db:connect()
   one:exec [[begin; insert into t values (1); update t set n = 1 where id = 1;
      savepoint a; update t set n = 2 where id = 1;
      insert into t values (2); delete from t where id = 2;
      rollback to a; update t set n = 3 where id = 1; commit]]
   lu.assertEquals(poll(), "1")
   db:exec "insert into t values (3); delete from t where id = 3"
   lu.assertEquals(poll(), "")
   one:exec "begin; update t set n = 9 where id = 1"
   lu.assertEquals(poll(), "")
   one:exec "rollback"
   lu.assertEquals(poll(), "")
end

-- A key that is locked by several (a multixact in xmax) and one that moves.
function TestFaultTransaction.test_row_locks_and_moved_keys()
   local db, poll = new_database()
   lu.assertEquals(poll(), "0")
   local one, two = db:connect(), db:connect()
   one:exec "begin; select * from t where id = 0 for key share"
   two:exec "begin; select * from t where id = 0 for key share; update t set n = 1 where id = 0"
   lu.assertEquals(poll(), "")
   two:exec "commit"
   lu.assertEquals(poll(), "0")
   one:exec "commit"
   db:exec "update t set id = 7 where id = 0"
   lu.assertEquals(poll(), "7")
end

-- A writer in another database holds the snapshot's xmin back all the time. A bound of
-- snapshot.xmin alone would stall every table of the cluster, or deliver each row at each poll.
function TestFaultTransaction.test_a_writer_left_open_in_another_database()
   local main = cluster.main()
   local open = main:database():connect()
   open:exec "begin; create table hold (x int); insert into hold values (1)"
   local db, poll = new_database()
   local own = db:connect()
   own:exec "begin; insert into t values (-1)"
   lu.assertEquals(poll(), "0")
   for i = 1, 5 do
      db:exec(("insert into t values (%d)"):format(i))
      lu.assertEquals(poll(), tostring(i))
      lu.assertEquals(poll(), "")
   end
   own:exec "commit"
   lu.assertEquals(poll(), "-1")
   open:exec "commit"
   lu.assertEquals(poll(), "")
   db:exec "update t set n = n + 1"
   lu.assertEquals(poll(), "-1 0 1 2 3 4 5")
   lu.assertEquals(poll(), "")
end

-- The same within one run of the program, at a short interval: what is new comes at once.
function TestFaultTransaction.test_a_writer_left_open_while_the_program_runs()
   local open = cluster.main():database():connect()
   open:exec "begin; create table hold (x int)"
   local db = new_database()
   local p = watch.start(db)
   for i = 1, 20 do
      db:exec(("insert into t values (%d); update t set n = n + 1 where id = 0"):format(i))
      watch.wait_current(p, db)
   end
   open:exec "rollback"
   db:exec "update t set n = n + 1"
   watch.wait_current(p, db)
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(p:stop().status, 0)
end

-- Nothing that was there before, and all that commits after the start, also of transactions that
-- had begun before.
function TestFaultTransaction.test_start_now_with_open_transactions()
   local db, poll = new_database { start = "now" }
   local one, two = db:connect(), db:connect()
   one:exec "begin; insert into t values (1); savepoint a; insert into t values (2)"
   two:exec "begin; insert into t values (3)"
   db:exec "insert into t values (4)"
   lu.assertEquals(poll(), "")
   db:exec "insert into t values (5)"
   one:exec "commit"
   lu.assertEquals(poll(), "1 2 5")
   two:exec "commit"
   lu.assertEquals(poll(), "3")
   lu.assertEquals(poll(), "")
end

function TestFaultTransaction.test_start_at_a_transaction()
   local db = new_database()
   db:exec "insert into t values (1)"
   local xid = math.tointeger(db:value "select pg_current_xact_id()::text::bigint")
   db:exec "insert into t values (2); insert into t values (3)"
   local one = db:connect()
   one:exec "begin; insert into t values (4)"
   local p = watch.start(db, { source = { start = xid } })
   p:wait_changes(2)
   one:exec "commit"
   db:exec "update t set n = 1 where id = 1"
   p:wait_changes(4)
   local result = p:stop()
   local keys = {}
   for i, change in ipairs(result.changes) do
      keys[i] = change.op .. change.key.id
   end
   table.sort(keys)
   lu.assertEquals(keys, { "upsert1", "upsert2", "upsert3", "upsert4" })
   lu.assertEquals(watch.repeats(p), {})
end

return TestFaultTransaction
