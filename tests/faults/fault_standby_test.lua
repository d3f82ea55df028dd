-- fault_standby_test.lua: a hot standby as the source, and what happens when it is promoted.
-- SPDX-License-Identifier: MIT
--
-- On a standby the snapshot lists nobody, nothing is flushed or undone, and commits appear in
-- the order of the primary's WAL. Ours promoted in place: go on. Any other failover: the
-- xids that we saw may be given out again, so the table is read again, with a warning.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local wait = require "wait"
local watch = require "watch"

local TestFaultStandby = {}

local CREATE = fixtures.numbers(20)

local function new_pair(conf)
   local primary = cluster.new { name = "primary" }
   primary:exec(CREATE)
   local standby = primary:standby("standby", { conf = conf })
   standby:wait_replay()
   return primary, standby
end

-- What a state's database must not be.
local function check_keeps_no_state(standby)
   local result = program.run { script = "pgcdc.source { table = 't' }", dsn = standby,
                                state = standby:dsn(), options = { "--once" } }
   lu.assertEquals(result.status, 4)
   lu.assertStrContains(result.stderr, "it is a standby: state is kept on a primary")
end

-- The cases of fault_transaction_test.lua where a standby's snapshot knows less than a primary's.
function TestFaultStandby.test_transactions_as_a_standby_sees_them()
   local primary, standby = new_pair()
   check_keeps_no_state(standby)
   local first = watch.once(standby)
   lu.assertEquals(watch.ops(first.program), { read = 20, upsert = 0 })
   local function poll()
      standby:wait_replay()
      return watch.keys(watch.once(standby, first.program.state).changes)
   end
   local one, two = primary:connect(), primary:connect()
   one:exec "begin; insert into t values (101); savepoint a; insert into t values (102)"
   two:exec "begin; insert into t values (103); savepoint a; insert into t values (104)"
   primary:exec "insert into t values (105)"
   lu.assertEquals(poll(), "105")
   two:exec "commit"
   lu.assertEquals(poll(), "103 104")
   lu.assertEquals(poll(), "")
   one:exec "rollback to a; insert into t values (106)"
   one:exec "prepare transaction 'p'"
   primary:exec "insert into t values (107)"
   lu.assertEquals(poll(), "107")
   primary:exec "commit prepared 'p'"
   lu.assertEquals(poll(), "101 106")
   lu.assertEquals(poll(), "")
   two:exec "begin"
   for i = 201, 280 do
      two:exec(("savepoint s; insert into t values (%d)"):format(i))
   end
   primary:exec "insert into t values (300)"
   lu.assertEquals(poll(), "300")
   two:exec "commit"
   lu.assertEquals(select(2, poll():gsub("%d+", "")), 80)
   lu.assertEquals(poll(), "")
end

-- A commit that is neither the oldest nor the newest xid leaves the text of a standby's snapshot as
-- it is; only the replayed position tells. And changes arrive while the program runs, over
-- restarts of the standby, clean or not, without a repeat: nothing of it is ever taken back.
function TestFaultStandby.test_changes_arrive_and_a_restart_takes_nothing_back()
   local primary, standby = new_pair()
   local p = watch.start(standby)
   watch.wait_current(p, primary)
   local open = primary:connect()
   open:exec "begin; insert into t values (100)"
   for i = 1, 10 do
      local middle = primary:connect()
      middle:exec(("begin; insert into t values (%d)"):format(200 + i))
      primary:exec(("insert into t values (%d)"):format(300 + i))
      watch.wait_current(p, primary)
      middle:exec "commit"
      watch.wait_current(p, primary)
      middle:close()
   end
   for round, mode in ipairs { "fast", "immediate", "kill9" } do
      if mode == "kill9" then
         standby:kill9()
      else
         standby:stop(mode)
      end
      p:wait_stderr(("retry_in=.*"):rep(round))
      primary:exec(("update t set n = %d where id <= 5"):format(round))
      standby:start()
      primary:exec(("update t set n = %d where id > 15 and id < 300"):format(round))
      watch.wait_current(p, primary, "t", { seconds = 30 })
   end
   standby:crash()
   primary:exec "update t set n = 4"
   watch.wait_current(p, primary, "t", { seconds = 30 })
   open:exec "commit"
   watch.wait_current(p, primary)
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(watch.ops(p).read, 20)
   lu.assertNotStrContains(p:stderr(), "read again")
   lu.assertEquals(p:stop().status, 0)
end

-- Promoted in place, with transactions open on the old primary that never end: no repeat, no loss.
function TestFaultStandby.test_our_standby_is_promoted_in_place()
   local primary, standby = new_pair()
   local p = watch.start(standby)
   watch.wait_current(p, primary)
   local open = primary:connect()
   open:exec "begin; insert into t values (100)"
   primary:exec "begin; insert into t values (101); prepare transaction 'p'"
   primary:exec "update t set n = 1 where id <= 10"
   watch.wait_current(p, primary)
   primary:exec "update t set n = 2 where id <= 5"
   standby:wait_replay()
   primary:kill9()
   standby:promote()
   standby:exec "update t set n = 3 where id = 20"
   standby:exec "commit prepared 'p'"
   watch.wait_current(p, standby)
   p:wait_stderr "promoted"
   standby:exec "insert into t values (102)"
   watch.wait_current(p, standby)
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(watch.ops(p).read, 20)
   lu.assertNotStrContains(p:stderr(), "read again")
   -- from now on it is a primary like any other
   standby:restart "immediate"
   standby:exec "insert into t values (103)"
   watch.wait_current(p, standby)
   lu.assertEquals(watch.ops(p).read, 20)
   lu.assertEquals(p:stop().status, 0)
end

-- The primary dies, and a standby that was behind takes its place and its address: rows that we saw
-- are not there, and their xids go to other rows.
function TestFaultStandby.test_a_standby_that_was_behind_takes_over()
   local primary, standby = new_pair()
   local p = watch.start_current(primary)
   standby:stop()
   for i = 1, 10 do
      primary:exec(("insert into t values (%d)"):format(100 + i))
   end
   watch.wait_current(p, primary)
   local lost = primary:value "select xmin from t where id = 101"
   primary:kill9()
   standby.port = primary.port
   standby:start()
   standby:promote()
   for i = 1, 10 do
      standby:exec(("insert into t values (%d)"):format(200 + i))
   end
   lu.assertTrue(tonumber(standby:value "select xmin from t where id = 201") <= tonumber(lost))
   p:wait_stderr("level=warn [^\n]*read again from its start", 30)
   watch.wait_current(p, standby)
   standby:exec "insert into t values (300)"
   watch.wait_current(p, standby)
   lu.assertEquals(p:stop().status, 0)
end

-- A failover to a standby that had everything cannot be told from the one above.
function TestFaultStandby.test_a_failover_between_two_runs()
   local primary, standby = new_pair()
   local state = watch.once(primary).program.state
   primary:exec "insert into t values (101)"
   lu.assertEquals(watch.keys(watch.once(primary, state).changes), "101")
   standby:wait_replay()
   primary:stop "immediate"
   standby:promote()
   standby:exec "insert into t values (102)"
   local result = watch.once(standby, state)
   lu.assertStrContains(result.stderr, "level=warn")
   lu.assertStrContains(result.stderr, "timeline")
   lu.assertEquals(watch.ops(result.program), { read = 22, upsert = 0 })
   standby:exec "insert into t values (103)"
   lu.assertEquals(watch.keys(watch.once(standby, state).changes), "103")
end

-- A standby had been asked, and a primary answers that is not what became of it: what the standby
-- had seen need not be in there.
function TestFaultStandby.test_another_server_answers_where_a_standby_did()
   local primary, standby = new_pair()
   local state = watch.once(standby).program.state
   standby:stop()
   primary:exec "insert into t values (101)"
   local result = watch.once(primary, state)
   lu.assertStrContains(result.stderr, "level=warn")
   lu.assertStrContains(result.stderr, "another server, a primary")
   lu.assertEquals(watch.ops(result.program), { read = 21, upsert = 0 })
   primary:exec "insert into t values (102)"
   lu.assertEquals(watch.keys(watch.once(primary, state).changes), "102")
end

-- Two standbys replay one history, so one that is behind is waited for, and nothing is read again.
function TestFaultStandby.test_another_standby_that_is_behind_is_waited_for()
   local primary, ahead = new_pair()
   local behind = primary:standby "behind"
   behind:wait_replay()
   local state = watch.once(ahead).program.state
   behind:exec "select pg_wal_replay_pause()"
   wait.until_(function()
      return behind:value "select pg_get_wal_replay_pause_state()" == "paused"
   end, 10, "the replay to pause")
   primary:exec "insert into t values (101)"
   ahead:wait_replay()
   lu.assertEquals(watch.keys(watch.once(ahead, state).changes), "101")
   local p = watch.start(behind, { state = state })
   p:wait_stderr "has not replayed"
   primary:exec "insert into t values (102)"
   behind:exec "select pg_wal_replay_resume()"
   p:wait_changes(1)
   primary:exec "insert into t values (103)"
   p:wait_changes(2)
   lu.assertEquals(watch.keys(p:stop().changes), "102 103")
end

-- A query of ours that stands in the way of replay is cancelled (40001): a retry, no repeats.
function TestFaultStandby.test_a_recovery_conflict()
   local primary, standby = new_pair {
      max_standby_streaming_delay = "0", log_recovery_conflict_waits = "on",
      deadlock_timeout = "10ms",
   }
   primary:exec [[alter table t add pad text default repeat('x', 500);
      insert into t select i, 0 from generate_series(101, 40000) i]]
   standby:wait_replay()
   local p = watch.start(standby, { brief = true, source = { start = "now" } })
   watch.wait_ready(p)
   watch.freeze_in_copy(p, standby, function()
      primary:exec "update t set n = n + 1"
   end)
   wait.until_(function()
      -- a VACUUM takes nothing away while an autovacuum worker looks at the same rows
      primary:exec "delete from t where id = (select max(id) from t)"
      primary:exec "vacuum t"
      return standby:log():find "recovery still waiting" or standby:log():find "due to conflict"
   end, 30, "the conflict")
   p:signal "CONT"
   watch.wait_current(p, primary, "t", { seconds = 60 })
   p:wait_stderr "level=warn [^\n]*conflict"
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(p:stop().status, 0)
end

return TestFaultStandby
