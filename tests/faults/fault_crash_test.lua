-- fault_crash_test.lua: the server crashes, and commits that were seen are undone.
-- SPDX-License-Identifier: MIT
--
-- With synchronous_commit = off a crash undoes commits that were seen, and gives their xids out
-- again: a position that has passed them would lose the new rows. Nothing may be lost;
-- a few repeats are right, the whole table again is not.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local native = require "native"
local wait = require "wait"
local watch = require "watch"

local TestFaultCrash = {}

-- A cluster in which an asynchronous commit is not flushed before something else asks for it.
local function new_cluster()
   local one = cluster.new { conf = {
      wal_writer_delay = "10s", wal_writer_flush_after = "1GB", checkpoint_timeout = "1h",
      bgwriter_lru_maxpages = "0",
   } }
   one:exec(fixtures.numbers(100))
   return one
end

-- The keys of the changes with an id above 100, sorted.
local function new_keys(changes)
   local keys = {}
   for _, change in ipairs(changes) do
      if change.key.id > 100 then
         keys[#keys + 1] = change.key.id
      end
   end
   table.sort(keys)
   return table.concat(keys, " ")
end

-- Commits rows without flushing them; returns the xid of the first.
local function commit_unflushed(one, first, last)
   local conn = one:connect()
   conn:exec "set synchronous_commit = off"
   for id = first, last do
      conn:exec(("insert into t values (%d)"):format(id))
   end
   local xid = conn:value("select xmin from t where id = " .. first)
   conn:close()
   return xid
end

-- Crashes and starts the server. True if the commits of rows above 100 were undone by that.
local function crash_undoes(one)
   one:kill9()
   one:start()
   return one:value "select count(*) from t where id > 100" == "0"
end

-- <attempt> returns false if the server happened to flush what should have been lost.
local function until_it_is_lost(attempt)
   for _ = 1, 5 do
      if attempt() then
         return
      end
   end
   error "the server flushed the commits each time"
end

-- The durable bound of the capture rule: the rows were delivered, undone, and their xids now
-- belong to other rows, which must come.
function TestFaultCrash.test_xids_of_undone_commits_are_given_out_again()
   local one = new_cluster()
   until_it_is_lost(function()
      one:exec "delete from t where id > 100"
      local p = watch.once(one).program
      one:exec "update t set n = n + 1" -- this one is flushed, and the start with it
      watch.once(one, p.state)
      local xid = commit_unflushed(one, 101, 103)
      lu.assertEquals(new_keys(watch.once(one, p.state).changes), "101 102 103")
      lu.assertEquals(new_keys(watch.once(one, p.state).changes), "")
      if not crash_undoes(one) then
         return false
      end
      one:exec "insert into t values (201)"
      one:exec "insert into t values (202)"
      lu.assertEquals(one:value "select xmin from t where id = 201", xid)
      local result = watch.once(one, p.state)
      lu.assertEquals(new_keys(result.changes), "201 202")
      lu.assertEquals(watch.ops(result.program).read, 0)
      one:exec "insert into t values (203)"
      lu.assertEquals(new_keys(watch.once(one, p.state).changes), "203")
      return true
   end)
end

-- The same under a program that runs on, and that has polled many times since the commits.
function TestFaultCrash.test_the_program_runs_while_commits_are_undone()
   local one = new_cluster()
   until_it_is_lost(function()
      one:exec "delete from t where id > 100"
      local p = watch.start_current(one)
      one:exec "update t set n = n + 1" -- this one is flushed, and the start with it
      watch.wait_current(p, one)
      local xid = commit_unflushed(one, 101, 110)
      watch.wait_current(p, one)
      if not crash_undoes(one) then
         p:stop()
         return false
      end
      for id = 201, 220 do
         one:exec(("insert into t values (%d)"):format(id))
      end
      lu.assertEquals(one:value "select xmin from t where id = 201", xid)
      p:wait_until(function()
         return new_keys(p:changes()):find "220"
      end, 20, "row 220")
      local keys = {}
      for _, change in ipairs(p:changes()) do
         keys[change.key.id] = true
      end
      for id = 201, 220 do
         lu.assertTrue(keys[id], "row " .. id)
      end
      lu.assertEquals(watch.ops(p).read, 100)
      lu.assertEquals(p:stop().status, 0)
      return true
   end)
end

-- The floor itself is not flushed: xids below it are given out again, so only a new snapshot helps.
local function start_is_undone(source)
   local one = new_cluster()
   until_it_is_lost(function()
      one:exec "delete from t where id > 100"
      local xid = commit_unflushed(one, 101, 103)
      local p = watch.once(one, nil, source).program
      if not crash_undoes(one) then
         return false
      end
      one:exec "insert into t values (201)"
      lu.assertEquals(one:value "select xmin from t where id = 201", xid)
      local result = watch.once(one, p.state, source)
      lu.assertStrContains(result.stderr, "level=warn")
      lu.assertStrContains(result.stderr, "read again from its start")
      lu.assertEquals(watch.ops(result.program).read, 101)
      one:exec "insert into t values (202)"
      lu.assertEquals(new_keys(watch.once(one, p.state, source).changes), "202")
      return true
   end)
end

function TestFaultCrash.test_the_start_of_the_snapshot_is_undone()
   start_is_undone {}
end

function TestFaultCrash.test_the_start_from_now_is_undone()
   start_is_undone { start = "now" }
end

-- But once the start is known to be flushed, a crash does not read the table again.
function TestFaultCrash.test_a_flushed_start_survives_a_crash()
   local one = new_cluster()
   commit_unflushed(one, 101, 103)
   local p = watch.once(one).program
   one:exec "create table flush ()" -- with synchronous_commit, so all is flushed
   watch.once(one, p.state)
   lu.assertFalse(crash_undoes(one))
   one:exec "insert into t values (104)"
   local result = watch.once(one, p.state)
   lu.assertEquals(watch.ops(result.program).read, 0)
   lu.assertStrContains(new_keys(result.changes), "104")
end

-- A clean restart flushes everything, and undoes nothing: it costs no repeat, and above all not the
-- whole table again. (The start was not known to be flushed, and a shutdown is no crash.)
function TestFaultCrash.test_a_clean_restart_undoes_nothing()
   local one = new_cluster()
   commit_unflushed(one, 101, 103)
   local result = watch.once(one)
   local p = result.program
   lu.assertEquals(#result.changes, 103)
   one:restart()
   lu.assertEquals(#watch.once(one, p.state).changes, 0)
   local open = one:connect()
   open:exec "begin; insert into t values (104)"
   one:exec "insert into t values (105)"
   lu.assertEquals(new_keys(watch.once(one, p.state).changes), "105") -- seen, above the floor
   one:restart()
   result = watch.once(one, p.state)
   lu.assertEquals(#result.changes, 0)
   lu.assertNotStrContains(result.stderr, "level=warn")
end

-- SIGKILL to the backend with this pid; returns when the server has recovered from it.
local function kill_backend(one, pid)
   local mark = "select stats_reset from pg_stat_bgwriter"
   local before = one:value(mark)
   native.kill(math.tointeger(tonumber(pid)), "KILL")
   wait.until_(function()
      local conn = native.connect(one:dsn())
      local rows = conn and conn:try(mark)
      return rows and rows[1][1] ~= before
   end, 60, "the server to recover")
end

-- SIGKILL to one backend, as the out-of-memory killer does: the postmaster keeps its start time, so
-- the other crash mark must tell. What is undone is found, and the table is not read again.
function TestFaultCrash.test_a_backend_is_killed()
   local one = new_cluster()
   local p = watch.start_current(one)
   for round = 1, 3 do
      one:exec(("update t set n = %d where id <= 50"):format(round))
      if round ~= 2 then -- once without having seen them
         watch.wait_current(p, one)
      end
      if round == 3 then -- our own backend
         kill_backend(one, watch.backend(one))
      else
         one:crash()
      end
      one:exec(("update t set n = %d where id > 50"):format(round))
      watch.wait_current(p, one)
   end
   lu.assertEquals(watch.ops(p).read, 100)
   lu.assertEquals(p:stop().status, 0)
end

-- Killed in the middle of a COPY, a big poll goes on where the server left it, or repeats some.
function TestFaultCrash.test_a_backend_is_killed_in_the_middle_of_a_big_poll()
   local one = new_cluster()
   one:exec [[alter table t add pad text default repeat('x', 500);
      insert into t select i, 0 from generate_series(101, 40000) i]]
   local p = watch.start(one, { brief = true, source = { start = "now" } })
   watch.wait_ready(p)
   local pid = watch.freeze_in_copy(p, one, function() one:exec "update t set n = n + 1" end)
   kill_backend(one, pid)
   p:signal "CONT"
   p:wait_stderr "level=warn"
   watch.wait_current(p, one, "t", { seconds = 60 })
   lu.assertEquals(watch.ops(p).read, 0)
   lu.assertEquals(p:stop().status, 0)
end

-- The server crashes while the snapshot is read: it goes on, and is not read again from its start.
function TestFaultCrash.test_the_server_crashes_during_the_snapshot()
   local one = new_cluster()
   one:exec [[alter table t add pad text default repeat('x', 1000);
      insert into t select i, 0 from generate_series(101, 30000) i; checkpoint]]
   local p = watch.start(one, watch.gates(1, 20000))
   watch.wait_line(p, "^row 1$")
   one:exec "update t set n = 1 where id % 100 = 0" -- flushes the start, as the next range finds
   p.proc:write "go\n"
   watch.wait_line(p, "^row 20000$")
   one:kill9()
   one:start()
   p.proc:write "go\n"
   watch.wait_current(p, one, "t", { seconds = 60 })
   lu.assertEquals(watch.repeats(p), {})
   lu.assertTrue(watch.ops(p).read <= 30000)
   lu.assertNotStrContains(p:stderr(), "read again")
   lu.assertEquals(p:stop().status, 0)
end

-- Prepared transactions outlive a crash.
function TestFaultCrash.test_a_prepared_transaction_over_a_crash()
   local one = new_cluster()
   one:exec "begin; insert into t values (101); prepare transaction 'p'"
   local p = watch.start_current(one)
   one:exec "insert into t values (102)"
   watch.wait_current(p, one)
   one:kill9()
   one:start()
   one:exec "insert into t values (103)"
   watch.wait_current(p, one)
   one:exec "commit prepared 'p'"
   watch.wait_current(p, one)
   lu.assertEquals(watch.ops(p).read, 100)
   lu.assertEquals(p:stop().status, 0)
end

return TestFaultCrash
