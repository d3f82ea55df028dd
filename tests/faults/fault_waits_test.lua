-- fault_waits_test.lua: who waits, and for whom, is said once, and when it is over.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local watch = require "watch"

local TestFaultWaits = {}

local function count(text, pattern)
   local _, n = text:gsub(pattern, "")
   return n
end

-- A source waits for a lock of somebody else, and so does a sink, whose target is another database.
function TestFaultWaits.test_locks()
   local db = fixtures.database [[create table t (id int primary key); insert into t values (1);
      create table u ()]]
   local target = fixtures.database "create table copy (id int primary key)"
   local holder, other = db:connect(), target:connect()
   local pid = holder:value "select pg_backend_pid()"
   local p = program.start { dsn = db, script = ([[
      local s = pgcdc.source {table = "t", interval = 0.05}
      s:on("change", function(c) print(c) end)
      s:sink(pgcdc.sinks.postgres {connect = %q, table = "copy"})]]):format(target:dsn()) }
   p:wait_changes(1)
   holder:exec "begin; lock table t in access exclusive mode"
   db:exec "insert into u default values" -- something has committed, so a poll is due
   p:wait_stderr(("level=warn msg=\"has waited 5%%.%%d s for a lock, which process %s holds\" "
      .. "source=public.t"):format(pid))
   other:exec "begin; lock table copy in access exclusive mode"
   holder:exec "insert into t values (2); commit"
   p:wait_stderr "level=info msg=\"goes on, after waiting %d+%.%d s for a lock\" source=public.t"
   p:wait_stderr(("level=warn msg=\"has waited 5%%.%%d s for a lock, which process %%d+ holds\" "
      .. "target=%s"):format(target.name))
   other:exec "commit"
   p:wait_stderr "goes on, after waiting %d+%.%d s for a lock\" target="
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(count(p:stderr(), "has waited"), 2)
   lu.assertEquals(target:value "select count(*) from copy", "2")
end

-- A server that is at work for long in every poll is told of once.
function TestFaultWaits.test_a_slow_server()
   local db = fixtures.database [[create table t (id int primary key); insert into t values (1);
      create function slow(int) returns boolean volatile language plpgsql as
         $$begin perform pg_sleep(5.3); return true; end$$]]
   local p = watch.start(db, { source = { where = "public.slow(id)", start = "now" } })
   watch.wait_ready(p)
   db:exec "update t set id = 2"
   p:wait_stderr "level=info msg=\"has waited 5%.%d s for the server, which is at work\""
   p:wait_stderr "goes on, after waiting 5%.%d s for the server\""
   db:exec "update t set id = 3"
   watch.wait_line(p, '"id":3', 20)
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(count(p:stderr(), "has waited"), 1)
end

-- When a failure is over, one line says so, and how long it was: of the database, of a target.
function TestFaultWaits.test_an_outage_ends()
   local db = fixtures.database "create table t (id int primary key); insert into t values (1)"
   local target = fixtures.database ""
   local role = target.cluster:role "login"
   target:exec(("grant create on database %s to %s; grant create on schema public to %s"):format(
      target.name, role, role))
   local p = program.start { dsn = db, script = ([[
      local s = pgcdc.source {table = "t", interval = 0.05}
      s:on("change", function(c) print(c) end)
      s:sink(pgcdc.sinks.postgres {connect = %q, table = "copy"})]]):format(
         target:dsn { user = role }) }
   p:wait_changes(1)
   db:exec(("alter role %s connection limit 0"):format(role))
   db:exec(("select pg_terminate_backend(pid) from pg_stat_activity where datname = '%s'"
      .. " and usename = '%s'"):format(target.name, role))
   db:exec "insert into t values (2)"
   p:wait_stderr "level=warn .*retry_in="
   db:exec(("alter role %s connection limit -1"):format(role))
   p:wait_stderr "level=info msg=\"works again, after %d+%.%d s\" source=public%.t"
   db:exec("select pg_terminate_backend(pid) from pg_stat_activity where datname ="
      .. " current_database() and pid <> pg_backend_pid()")
   p:wait_until(function()
      return count(p:stderr(), "works again") == 2
   end, 20, "the second line")
   lu.assertEquals(p:stop().status, 0)
   target:exec("drop owned by " .. role)
   target.cluster:drop_role(role)
end

-- With debug every poll says what it did.
function TestFaultWaits.test_polls_are_told()
   local db = fixtures.database "create table t (id int primary key); insert into t values (1)"
   local p = watch.start(db, { options = { "--log-level", "debug" } })
   p:wait_stderr "level=debug msg=\"range: 1 rows in 0%.%d%d%d s\" source=public%.t"
   p:wait_stderr "level=debug msg=\"no poll: nothing has committed since the last one\""
   db:exec "insert into t values (2), (3)"
   p:wait_stderr "level=debug msg=\"poll: 2 rows in 0%.%d%d%d s, read=scan.*source=public%.t"
   lu.assertEquals(p:stop().status, 0)
end

-- A limit on connections is kept, and every source gets its turn.
function TestFaultWaits.test_connections()
   local db = fixtures.database [[create table a (id int primary key);
      create table b (id int primary key); create table c (id int primary key);
      insert into a values (1); insert into b values (2); insert into c values (3)]]
   local p = program.start { dsn = db, script = [[
      for _, name in ipairs {"a", "b", "c"} do
         pgcdc.source {table = name, interval = 0.02, connections = name == "b" and 1 or nil,
            on_change = function(c) print(c) end}
      end]] }
   p:wait_changes(3)
   db:exec "insert into a values (4); insert into b values (5); insert into c values (6)"
   p:wait_changes(6)
   lu.assertEquals(#watch.activity(db), 1)
   lu.assertEquals(p:stop().status, 0)
end

return TestFaultWaits
