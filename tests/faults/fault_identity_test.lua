-- fault_identity_test.lua: a server answers that is not the one where the position was taken.
-- SPDX-License-Identifier: MIT
--
-- Another cluster or database: stop, with exit status 4. The same cluster with less in it
-- than we saw: warn, and read the table again. Standbys: fault_standby_test.lua.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local tables = require "tables"
local watch = require "watch"
local xids = require "xids"

local TestFaultIdentity = {}

local CREATE = fixtures.numbers(20)

local function once(dsn, state, options)
   return program.run {
      dsn = dsn, script = watch.script { table = "t" }, state = state,
      options = tables.join({ "--once" }, options),
   }
end

-- Exit status 4, a message that says what is wrong and names --reset, and nothing delivered.
local function assert_refused(result, what)
   lu.assertEquals(result.status, 4, result.stderr)
   lu.assertStrContains(result.stderr, what)
   lu.assertStrContains(result.stderr, "--reset")
end

function TestFaultIdentity.test_another_database()
   local one, two = cluster.main():database(), cluster.main():database()
   one:exec(CREATE)
   two:exec(CREATE)
   local state = fixtures.state()
   lu.assertEquals(#once(one, state).changes, 20)
   local result = once(two, state)
   assert_refused(result, "another database")
   lu.assertEquals(#result.changes, 0)
   lu.assertEquals(#once(one, state).changes, 0) -- the position is as it was
   lu.assertEquals(#once(two, state, { "--reset" }).changes, 20)
   assert_refused(once(one, state), "another database")
   lu.assertEquals(#once(one, state, { "--reset=public.t" }).changes, 20)
end

-- Dropped and created again under its name, a database is another one.
function TestFaultIdentity.test_a_database_created_again()
   local main = cluster.main()
   local db = main:database()
   db:exec(CREATE)
   local state = fixtures.state()
   lu.assertEquals(#once(db, state).changes, 20)
   db.conn:close()
   main:exec(('drop database "%s" with (force)'):format(db.name))
   main:exec(('create database "%s"'):format(db.name))
   db:exec(CREATE)
   assert_refused(once(db, state), "another database")
end

-- While the program runs, the server is replaced by another cluster at the same address. It need
-- not have the table, which is then not what matters.
local function replaced_by_another(sql)
   local one = cluster.new()
   local two = cluster.new { fresh = true }
   two:exec(sql)
   two:stop()
   one:exec(CREATE)
   local p = watch.start_current(one)
   one:stop()
   two.port = one.port
   two:start()
   local ended = p:finish()
   assert_refused(ended, "system identifier")
   lu.assertEquals(#ended.changes, 20)
   return two, p.state
end

function TestFaultIdentity.test_another_cluster_behind_the_same_address()
   local two, state = replaced_by_another(CREATE)
   assert_refused(once(two, state), "system identifier")
   lu.assertEquals(#once(two, state, { "--reset" }).changes, 20)
end

function TestFaultIdentity.test_another_cluster_without_the_table()
   replaced_by_another "select 1"
end

-- A cluster that runs, and a copy of it as it is now, which does not.
local function cluster_and_backup()
   local one = cluster.new()
   one:exec(CREATE)
   one:stop()
   local backup = one:copy "backup"
   one:start()
   return one, backup
end

-- A backup from before the writes is restored: the xids of what was delivered are given out again,
-- to rows that must come. The program runs on meanwhile.
function TestFaultIdentity.test_a_restored_cluster()
   local one, backup = cluster_and_backup()
   local p = watch.start_current(one)
   for i = 1, 30 do
      one:exec(("update t set n = %d where id <= 5"):format(i))
   end
   watch.wait_current(p, one)
   one:stop()
   backup.port = one.port
   backup:start()
   for i = 1, 3 do
      backup:exec(("insert into t values (%d, %d)"):format(100 + i, i))
   end
   watch.wait_current(p, backup)
   p:wait_stderr "level=warn [^\n]*read again from its start"
   local ops = watch.ops(p)
   lu.assertTrue(ops.read >= 40, ops.read .. " rows read")
   backup:exec "update t set n = 1000"
   watch.wait_current(p, backup)
   lu.assertEquals(p:stop().status, 0)
end

-- The same while the program was not there.
function TestFaultIdentity.test_restored_between_two_runs()
   local one, backup = cluster_and_backup()
   local state = fixtures.state()
   lu.assertEquals(#once(one, state).changes, 20)
   for i = 1, 10 do
      one:exec(("update t set n = %d where id <= 5"):format(i))
   end
   lu.assertEquals(#once(one, state).changes, 5)
   one:stop()
   backup.port = one.port
   backup:start()
   backup:exec "insert into t values (101)"
   local result = once(backup, state)
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stderr, "level=warn")
   lu.assertStrContains(result.stderr, "read again from its start")
   lu.assertEquals(#result.changes, 21)
   lu.assertEquals(#once(backup, state).changes, 0)
end

-- More than 2^31 - 10^7 transactions pass while the program is away: 32-bit order is lost, so the
-- table is read again, with a warning.
function TestFaultIdentity.test_too_many_transactions_behind()
   lu.skipIf(not xids.can_move(), "there is no pg_resetwal")
   local one = cluster.new()
   one:exec(CREATE)
   xids.freeze(one)
   local state = fixtures.state()
   lu.assertEquals(#once(one, state).changes, 20)
   one:exec "update t set n = 1 where id = 1" -- flushes the start
   lu.assertEquals(#once(one, state).changes, 1)
   local floor = math.tointeger(one:value "select txid_snapshot_xmin(txid_current_snapshot())")
   one:stop()
   xids.set_next(one, floor + (1 << 31) - 10000000 - 1000)
   one:start()
   one:exec "insert into t values (101)"
   local result = once(one, state)
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(#result.changes, 1, result.stderr)
   lu.assertEquals(result.changes[1].key.id, 101)
   one:exec "delete from t where id = 101"
   one:exec "vacuum freeze"
   lu.assertEquals(#once(one, state).changes, 0)
   one:stop()
   floor = floor + (1 << 31) - 10000000
   xids.set_next(one, floor + (1 << 31) - 10000000 + 1000)
   one:start()
   result = once(one, state)
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stderr, "level=warn")
   lu.assertStrContains(result.stderr, "too many transactions")
   lu.assertEquals(#result.changes, 20)
end

-- A view is not asked by xids, so none is too old. Once, in a cluster with more than 2^31
-- transactions, the first pages of a view were read again and again.
function TestFaultIdentity.test_a_view_in_an_old_cluster()
   lu.skipIf(not xids.can_move(), "there is no pg_resetwal")
   local one = cluster.new()
   xids.freeze(one)
   one:stop()
   xids.set_next(one, 3000000000)
   one:start()
   one:exec [[create table t (id int primary key); create view v as select * from t;
      insert into t select generate_series(1, 6000)]]
   local p = program.start {
      dsn = one, options = { "--once" },
      script = [[
         local n = 0
         local v = pgcdc.source {table = "v", capture = "increment", column = "id", pk = "id"}
         v:on("change", function()
            n = n + 1
            if n > 6000 then pgcdc.stop(9) end
         end)
         v:on("ready", function() print(n) end)]],
   }
   local result = p:finish()
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.lines, { "6000" })
end

return TestFaultIdentity
