-- logical_proof_test.lua: what the rules of capture by the log are for, and wrong ones found out.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local cluster = require "cluster"
local files = require "files"
local log_history = require "log_history"
local lu = require "luaunit"
local native = require "native"
local pgbench = require "pgbench"
local program = require "program"
local scope = require "scope"
local wait = require "wait"
local watch = require "watch"

local TestLogicalProof = {}

local with = by_log.with_mutant

-- ---- what is confirmed ----

-- The changes go to a handler that fails from the fourth key on, until there is the file <gate>.
local function confirm_script(gate)
   return ([[
      local t = pgcdc.source { table = "t", capture = "logical", interval = 0.5,
         on_error = { retry = 1000, wait = 0.3, factor = 1 } }
      t:on("ready", function() print "ready t" end)
      t:on("change", function(change)
         assert(change.key.id <= 3 or io.open %q, "not yet")
         print(tostring(change))
      end)]]):format(gate)
end

-- The source has changes that it cannot save. Killed, and started again. Returns what comes then,
-- as words.
local function unsaved_after_a_kill()
   local db = by_log.database()
   local gate = scope.dir "gate" .. "/open"
   local p = program.start { dsn = db, script = confirm_script(gate) }
   watch.wait_line(p, "^ready t$", 30)
   db:exec "INSERT INTO t VALUES (4, 'x')"
   p:wait_stderr "attempt=2"
   db:exec "UPDATE t SET v = 'a' WHERE id = 4; UPDATE t SET v = 'b' WHERE id = 4"
   p:wait_stderr "attempt=9" -- more than two seconds: four times as long as what it may save waits
   p:kill9()
   files.write(gate, "")
   db:exec "DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (5, 'end')"
   p = program.start { dsn = db, script = confirm_script(gate), state = p.state }
   p:wait_until(function() return by_log.words(p):find "5=end" end, 40, "the end")
   p:stop()
   return by_log.words(p)
end

local EXACT = "i4=x u4=a u4=b d4 i5=end"

function TestLogicalProof.test_what_is_not_saved_is_not_confirmed()
   lu.assertEquals(unsaved_after_a_kill(), EXACT)
end

function TestLogicalProof.test_finds_out_who_confirms_what_was_heard()
   with("claims_heard", function() lu.assertNotStrContains(unsaved_after_a_kill(), "u4=a") end)
end

-- ---- what the poll that hands over shows ----

-- A commit that the log has, and that nobody sees, since it waits for a standby that does not
-- answer, while the source takes its slot. Returns what came, as words.
local function unseen_commit()
   local one = cluster.new { conf = by_log.conf }
   local db = by_log.database(nil, one)
   local first = watch.once(db, nil, {})
   one:configure { synchronous_standby_names = "nobody" }
   local h1, h2, x = db:connect(), db:connect(), db:connect()
   local function slot_waits_for(pid)
      wait.until_(function()
         return db:value(([[SELECT count(*) FROM pg_locks l JOIN pg_locks o ON
            o.transactionid = l.transactionid AND o.granted AND o.pid = %d
            WHERE NOT l.granted]]):format(pid)) == "1"
      end, 30, "the slot to wait for " .. pid)
   end
   for _, conn in ipairs { h1, h2 } do
      conn:exec "SET synchronous_commit = local"
   end
   h1:exec "BEGIN; SELECT pg_current_xact_id()"
   local p = by_log.start(db, { state = first.program.state })
   slot_waits_for(h1:pid())
   h2:exec "BEGIN; SELECT pg_current_xact_id()"
   h1:exec "COMMIT"
   slot_waits_for(h2:pid())
   x:send "INSERT INTO t VALUES (9, 'unseen')"
   wait.until_(function()
      return db:value "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'" == "1"
   end, 30, "a commit that waits")
   h2:exec "COMMIT"
   return db, one, p, x
end

local function after_unseen_commit(db, one, p, x)
   one:configure { synchronous_standby_names = "" }
   x:collect()
   db:exec "INSERT INTO t VALUES (10, 'end')"
   p:wait_until(function() return by_log.words(p):find "10=end" end, 40, "the end")
   p:stop()
   return by_log.words(p)
end

function TestLogicalProof.test_a_commit_that_nobody_sees_yet()
   local db, one, p, x = unseen_commit()
   p:wait_stderr "a transaction is in the log and not visible yet: does a standby let it wait"
   lu.assertStrMatches(after_unseen_commit(db, one, p, x), "[iu]9=unseen [iu]10=end")
end

function TestLogicalProof.test_finds_out_who_reads_any_snapshot()
   with("logical_bare", function()
      local db, one, p, x = unseen_commit()
      watch.wait_ready(p)
      lu.assertNotStrContains(after_unseen_commit(db, one, p, x), "9=unseen")
   end)
end

-- Handing over beside a transaction that the slot waits for, and one that commits before the poll.
local function handed_over()
   local db = by_log.database(log_history.tables)
   local path = scope.dir "exact" .. "/out.jsonl"
   local writer = log_history.write(db, 3)
   local options = { dsn = db, script = log_history.script(path), state = path .. ".db" }
   log_history.run_once(options)
   pgbench.finish(writer, 60)
   log_history.run_once(options)
   return db, path
end

function TestLogicalProof.test_handing_over_repeats_nothing()
   log_history.assert_newest(handed_over())
end

function TestLogicalProof.test_finds_out_who_repeats_what_the_poll_has_shown()
   with("logical_twice", function()
      for _ = 1, 4 do
         if not pcall(log_history.assert_newest, handed_over()) then
            return
         end
      end
      lu.fail "four runs found nothing wrong with the mutant"
   end)
end

-- ---- partitions that join ----

-- Partitions are attached, with what is written to them before, while the program does not run.
-- Returns what comes then, as words.
local function joined(...)
   local db = by_log.database [[CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
      ALTER PUBLICATION pgcdc ADD TABLE p; INSERT INTO p VALUES (1, 'a')]]
   local p = by_log.start(db, { table = "p" })
   watch.wait_ready(p)
   p:stop()
   for _, sql in ipairs { ... } do
      db:exec(sql)
   end
   db:exec "INSERT INTO p VALUES (2, 'end')"
   p = by_log.start(db, { table = "p", state = p.state, options = { "--once" } })
   lu.assertEquals(p:finish(60).status, 0, p:stderr())
   return by_log.words(p)
end

local twice = {
   [[CREATE TABLE p2 (id int PRIMARY KEY, v text); INSERT INTO p2 VALUES (101, 'b');
      ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)]],
   "UPDATE p SET v = 'c' WHERE id = 101",
   [[ALTER TABLE p DETACH PARTITION p2; UPDATE p2 SET v = 'd';
      ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)]],
}
local again = [[ALTER TABLE p DETACH PARTITION p1; INSERT INTO p1 VALUES (4, 'd');
   ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (100)]]

function TestLogicalProof.test_what_joins_is_read()
   lu.assertStrContains(joined(table.unpack(twice)), "101=d")
   lu.assertStrContains(joined(again), "4=d")
end

function TestLogicalProof.test_finds_out_who_is_sure_of_what_was_attached()
   lu.skipIf(cluster.version() < 15, "there what has changed is read by xmin")
   with("leaves_sure", function()
      lu.assertNotStrContains(joined(table.unpack(twice)), "101=d")
   end)
end

function TestLogicalProof.test_finds_out_who_takes_what_comes_back_for_known()
   lu.skipIf(cluster.version() < 15, "there what has changed is read by xmin")
   with("leaves_known", function() lu.assertNotStrContains(joined(again), "4=d") end)
end

-- ---- slots that are lost ----

-- While the stream stands still, and nothing more commits, the floor must not rise over what it has
-- not brought: that is read by xmin when the slot is lost. Returns what came then, as words.
local function lost_before_its_changes_came()
   local db = by_log.database()
   local p = by_log.start(db, { source = { interval = 0.05 },
      options = { "--log-level", "debug" } })
   watch.wait_ready(p)
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3")
   db:exec "INSERT INTO t VALUES (5, 'z')"
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 i5=z") -- so the stream has begun
   local walsender = tonumber(db:value [[SELECT active_pid FROM pg_replication_slots
      WHERE database = current_database()]])
   native.kill(walsender, "STOP")
   scope.add(function() native.kill(walsender, "CONT") end)
   db:exec "INSERT INTO t VALUES (4, 'x'); UPDATE t SET v = 'y' WHERE id = 2"
   local function polls()
      return select(2, p:stderr():gsub('msg="n?o? ?poll: ', ""))
   end
   local before = polls()
   p:wait_until(function() return polls() > before + 5 end, 30, "polls")
   p:stop()
   native.kill(walsender, "CONT")
   by_log.drop_slots(db)
   p = by_log.start(db, { state = p.state })
   p:wait_stderr "the slot is not there any more"
   watch.wait_ready(p)
   db:exec "INSERT INTO t VALUES (6, 'end')"
   p:wait_until(function() return by_log.words(p):find "6=end" end, 40, "the end")
   p:stop()
   return by_log.words(p)
end

function TestLogicalProof.test_a_slot_that_is_lost_before_its_changes_came()
   lu.assertEquals(lost_before_its_changes_came(), "u2=y u4=x i6=end")
end

function TestLogicalProof.test_finds_out_who_raises_the_floor_too_early()
   with("floor_early", function()
      lu.assertEquals(lost_before_its_changes_came(), "i6=end")
   end)
end

return TestLogicalProof
