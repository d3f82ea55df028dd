-- fault_connection_test.lua: the connection breaks, or the server is away, and nothing is lost.
-- SPDX-License-Identifier: MIT
--
-- A lost connection is retried for ever and costs no repeat, wherever in a poll it breaks; a
-- slow handler holds nothing on the server.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local wait = require "wait"
local watch = require "watch"

local TestFaultConnection = {}

local function new_database(rows, width)
   return fixtures.database([[create table t (id int primary key, n int, pad text);
      insert into t select i, 0, repeat(md5(i::text), %d) from generate_series(1, %d) i]],
      (width or 32) // 32, rows)
end

local function terminate(db)
   local pid = watch.backend(db)
   db:exec(("select pg_terminate_backend(%s)"):format(pid))
   return pid
end

-- The promise: a new connection, after a moment, as if nothing had happened. The script is told.
function TestFaultConnection.test_terminated_while_idle()
   local db = new_database(10)
   local p = watch.start(db)
   watch.wait_ready(p)
   for i = 1, 2 do
      local old = terminate(db)
      db:exec(("update t set n = %d where id <= 3"):format(i))
      watch.wait_current(p, db)
      lu.assertNotEquals(watch.backend(db), old)
   end
   watch.assert_exact(p, db, 10)
   lu.assertEquals(watch.ops(p).upsert, 6)
   lu.assertEquals(#watch.lines(p, "^error: "), 2)
   p:wait_stderr "level=warn .*retry_in="
   lu.assertEquals(p:stop().status, 0)
end

-- What a poll handed out before it broke counts: it is neither sent again nor is the rest lost.
-- Half of the rows have one xid, so that the poll breaks inside it, between two keys.
function TestFaultConnection.test_terminated_in_the_middle_of_a_big_poll()
   local db = new_database(60000, 512)
   local p = watch.start(db, { brief = true, source = { start = "now" } })
   watch.wait_ready(p)
   for round, how in ipairs { "pg_terminate_backend", "pg_cancel_backend" } do
      local pid = watch.freeze_in_copy(p, db, function()
         db:exec(("update t set n = n + %d"):format(round), 60)
      end)
      db:exec(("select %s(%s)"):format(how, pid))
      p:signal "CONT"
      watch.wait_current(p, db, "t", { seconds = 60 })
      lu.assertEquals(#watch.lines(p, "^error: "), round)
   end
   watch.assert_exact(p, db, 0)
   lu.assertEquals(p:stop().status, 0)
end

-- An error that passes (here 53300) is waited out.
function TestFaultConnection.test_too_many_connections()
   local db = new_database(10)
   local role = db.cluster:role "login"
   db:exec("grant select on t to " .. role)
   local p = watch.start(db, { dsn = db:dsn { user = role } })
   watch.wait_ready(p)
   db:exec(("alter role %s connection limit 0"):format(role))
   terminate(db)
   p:wait_stderr "sqlstate=53300"
   lu.assertStrContains(p:stderr(), "connections = N of a source asks for fewer")
   db:exec "update t set n = 1"
   db:exec(("alter role %s connection limit -1"):format(role))
   watch.assert_exact(p, db, 10)
   p:stop()
   db:exec("drop owned by " .. role)
   db.cluster:drop_role(role)
end

-- Time limits that the role or the database brings along do not hold inside a poll: it waits for
-- a lock as long as that takes.
function TestFaultConnection.test_time_limits_of_the_role_are_lifted()
   local db = new_database(10)
   local role = db.cluster:role "login"
   db:exec(([[
      grant select on t to %s;
      alter role %s set lock_timeout = '20ms';
      alter role %s set statement_timeout = '150ms';
      alter role %s set idle_in_transaction_session_timeout = '20ms']]):format(
      role, role, role, role))
   local p = watch.start(db, { dsn = db:dsn { user = role } })
   watch.wait_ready(p)
   local conn = db:connect()
   conn:exec "begin; lock table t in access exclusive mode; update t set n = 1"
   db:exec "create table other ()" -- something is committed, so the poll is not left out
   wait.until_(function()
      return db:value [[select 1 from pg_stat_activity where application_name = 'pgcdc-lua'
         and datname = current_database() and wait_event_type = 'Lock'
         and clock_timestamp() - state_change > '0.4 s']]
   end, 10, "the poll to wait for its lock")
   conn:exec "commit"
   watch.assert_exact(p, db, 10)
   lu.assertEquals(p:stderr():match "level=warn[^\n]*", nil)
   p:stop()
   conn:close()
   db:exec("drop owned by " .. role)
   db.cluster:drop_role(role)
end

-- The role's idle_session_timeout would close the connection between any two polls: it is lifted.
function TestFaultConnection.test_idle_session_timeout()
   local db = new_database(10)
   local role = db.cluster:role "login"
   db:exec(([[
      grant select on t to %s;
      alter role %s set idle_session_timeout = '30ms']]):format(role, role))
   local p = watch.start(db, { dsn = db:dsn { user = role }, source = { interval = 0.2 } })
   for i = 1, 2 do
      watch.wait_current(p, db)
      db:exec(("update t set n = %d"):format(i))
   end
   watch.assert_exact(p, db, 10)
   lu.assertNotStrContains(p:stop().stderr, "level=warn")
   db:exec("drop owned by " .. role)
   db.cluster:drop_role(role)
end

-- The ancestor sat idle in transaction for ever and blocked every ALTER TABLE. A handler that
-- does not return holds no transaction, no lock and no snapshot: a poll of 60 MB is read to its
-- end into the spool file, and then ALTER TABLE goes through. Memory stays small all the while.
function TestFaultConnection.test_a_slow_handler_holds_nothing_on_the_server()
   local db = new_database(60000, 1024)
   local p = watch.start(db, {
      stdin = "pipe", brief = true, source = { start = "now" }, more = [[
         local waited = false
         source:on("upsert", function()
            if not waited then
               waited = true
               assert(io.read "l" == "go")
            end
         end)]],
   })
   watch.wait_ready(p)
   local before = p:rss()
   db:exec("update t set n = 1", 60)
   local pid = watch.backend(db)
   wait.until_(function()
      local row = watch.activity(db)[1]
      return row and row[5] == "COMMIT" and row[2] == "idle" and not row[3]
   end, 60, "the server to be done with the poll")
   lu.assertEquals(db:value("select count(*) from pg_locks where pid = " .. pid), "0")
   lu.assertEquals(db:value(([[select count(*) from pg_stat_activity where pid = %s
      and (backend_xmin is not null or backend_xid is not null)]]):format(pid)), "0")
   db:exec "set lock_timeout = '2 s'; alter table t add column more int"
   lu.assertTrue(watch.count(p) <= 1)
   p.proc:write "go\n"
   watch.wait_current(p, db, "t", { seconds = 60 })
   watch.assert_exact(p, db, 0)
   local peak = p:rss()
   if not os.getenv "PGCDC_TEST_SLOW" then -- sanitizers need more
      lu.assertTrue(peak < 40 * 1024, ("%d kB at the peak, %d kB before"):format(peak, before))
   end
   lu.assertEquals(p:stop().status, 0)
end

-- A cluster of its own, for tests that stop it.
local function new_cluster()
   local one = cluster.new()
   one:exec [[
      create table t (id int primary key, n int);
      insert into t select i, 0 from generate_series(1, 100) i]]
   return one
end

-- Restart and immediate shutdown, with and without the program noticing anything but the lost
-- connection. The snapshot is never read again; repeats are allowed, but of nothing that
-- was delivered and flushed long before.
function TestFaultConnection.test_restart_and_recovery()
   local one = new_cluster()
   local p = watch.start(one)
   watch.wait_ready(p)
   for round, mode in ipairs { "fast", "immediate", "kill9" } do
      one:exec(("update t set n = %d where id <= 50"):format(round))
      if mode ~= "kill9" then
         watch.wait_current(p, one)
         one:stop(mode)
      else
         one:kill9() -- with what was committed perhaps not seen yet
      end
      p:wait_stderr(("retry_in=.*"):rep(round))
      one:start()
      one:exec(("update t set n = n + %d where id > 50"):format(round))
      watch.wait_current(p, one)
   end
   lu.assertEquals(watch.ops(p).read, 100)
   lu.assertEquals(p:stop().status, 0)
end

-- The server is away while they try again and again, ever more slowly. Also for the program that
-- was just started.
function TestFaultConnection.test_away_for_some_tries()
   local one = new_cluster()
   local p = watch.start(one)
   watch.wait_ready(p)
   one:stop()
   local late = watch.start(one)
   for _, each in ipairs { p, late } do
      each:wait_until(function() return #watch.lines(each, "^error: ") >= 3 end, 20, "three tries")
   end
   one:start()
   one:exec "update t set n = 7 where id <= 50"
   for _, each in ipairs { p, late } do
      watch.wait_current(each, one, "t", { seconds = 30 })
      lu.assertEquals(watch.repeats(each), {})
      lu.assertEquals(watch.ops(each).read >= 50, true)
   end
   lu.assertEquals(watch.ops(p), { read = 100, upsert = 50 })
   lu.assertEquals(p:stop().status, 0)
end

return TestFaultConnection
