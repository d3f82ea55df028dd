-- sink_postgres_fault_test.lua: pgcdc.sinks.postgres under SIGKILL, restarts and lost connections.
-- SPDX-License-Identifier: MIT
--
-- $PGCDC_TEST_SEED: when who is killed.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local scope = require "scope"
local seeds = require "seeds"
local wait = require "wait"

local TestSinkPostgresFault = {}

local seed = seeds.asked or seeds.fresh()

-- A script that puts table t of the source into m, a and h of the target.
local function all_modes(target)
   return ([[
      local target = %q
      local s = pgcdc.source {table = "t", interval = 0.02}
      for table, mode in pairs {m = "mirror", a = "append", h = "history"} do
         s:sink(pgcdc.sinks.postgres {connect = target, table = table, mode = mode})
      end]]):format(target:dsn())
end

-- Row versions are (id, n); each update makes n one more.
local function make_table(source)
   source:exec [[create table t (id int primary key, n int not null, pad text);
      insert into t select i, 0, repeat('x', 100) from generate_series(1, 5000) i;
      create procedure work(rounds int) language plpgsql as $$ begin
         for i in 1..rounds loop
            update t set n = n + 1 where id % 50 = i % 50;
            insert into t select (select max(id) from t) + k, 0, 'new'
               from generate_series(1, 10) k;
            commit;
            perform pg_sleep(0.01);
         end loop;
      end $$]]
end

local function run_once(source, target, state, script)
   once.ends(0, { dsn = source, state = state, script = script or all_modes(target) })
end

-- The mirror is the source; nothing is twice in the others, and their newest versions are right.
local function assert_exact(source, target)
   local sums = "select count(*), sum(id::int8), sum(n), count(distinct id) from "
   local expected = table.concat(source:exec(sums .. "t")[1], " ")
   lu.assertEquals(table.concat(target:exec(sums .. "m")[1], " "), expected, "mirror")
   lu.assertEquals(table.concat(target:exec(sums .. "h where valid_to is null")[1], " "), expected,
      "history")
   lu.assertEquals(table.concat(target:exec(
      sums .. "(select distinct on (id) id, n from a order by id, n desc) x")[1], " "), expected,
      "append")
   for _, name in ipairs { "a", "h" } do
      local doubles = ("select count(*) - count(distinct (id, n)) from %s"):format(name)
      lu.assertEquals(target:value(doubles), "0", "doubles in " .. name)
   end
   lu.assertEquals(target:value [[select count(*) from (select valid_to, lead(valid_from) over
      (partition by id order by n) as next from h) x where valid_to is distinct from next]], "0")
end

-- Killed, stopped and cut off at random moments: nothing is lost and nothing is twice.
function TestSinkPostgresFault.test_exactly_once_whatever_dies()
   io.write("seed ", seed, " ... ")
   math.randomseed(seed)
   local source, target = cluster.main():database(), cluster.main():database()
   make_table(source)
   local state = fixtures.state()
   local worker = source:connect()
   worker:send "call work(300)"
   local killed, stopped, cut = 0, 0, 0
   local deadline = native.now() + wait.scaled(60)
   while worker:busy() or killed < 8 do
      assert(native.now() < deadline, "the writer does not end")
      local p = program.start { dsn = source, state = state, script = all_modes(target) }
      native.sleep(0.05 + math.random() * 0.5)
      if math.random() < 0.5 then
         cut = cut + tonumber(target:value [[select count(pg_terminate_backend(pid))
            from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()]])
         native.sleep(math.random() * 0.2)
      end
      if math.random() < 0.3 then
         lu.assertEquals(p:stop().status, 0, p:stderr())
         stopped = stopped + 1
      else
         p:kill9()
         killed = killed + 1
      end
   end
   assert(worker:collect(10))
   run_once(source, target, state)
   assert_exact(source, target)
   io.write(("%d killed, %d stopped, %d cut off ... "):format(killed, stopped, cut))
end

-- The target goes away and comes back: the sink waits for it, other sources go on, nothing is lost.
function TestSinkPostgresFault.test_target_is_away()
   local source, away = cluster.main():database(), cluster.new { name = "target" }
   local target = away:database()
   make_table(source)
   source:exec "create table other (id int primary key)"
   local state = fixtures.state()
   run_once(source, target, state)
   local p = program.start { dsn = source, state = state, script = all_modes(target) .. [[
      pgcdc.source {table = "other", interval = 0.02, on_change = print}]] }
   p:wait_stderr 'msg="?ready'
   for _, how in ipairs { "fast", "immediate" } do
      away:stop(how)
      source:exec "call work(5)"
      p:wait_stderr "retry_in"
      source:exec "insert into other select coalesce(max(id), 0) + 1 from other"
      p:wait_changes(how == "fast" and 1 or 2)
      source:exec "call work(5)"
      away:start()
      local sum = source:value "select sum(n) from t"
      wait.until_(function()
         return target:value "select sum(n) from m" == sum
      end, 20, "the mirror to catch up")
   end
   lu.assertEquals(p:stop().status, 0)
   run_once(source, target, state)
   assert_exact(source, target)
end

-- A COMMIT whose answer was lost is not repeated when it was done, and is when it was not.
function TestSinkPostgresFault.test_commit_without_an_answer()
   local source, own = cluster.main():database(), cluster.new { name = "target" }
   local target = own:database()
   make_table(source)
   local state = fixtures.state()
   local script = ([[
      pgcdc.source {table = "t", interval = 0.02}
         :sink(pgcdc.sinks.postgres {connect = %q, table = "a", mode = "append"})]]):format(
      target:dsn())
   run_once(source, target, state, script)
   local p = program.start { dsn = source, state = state, script = script }
   p:wait_stderr 'msg="?ready'
   -- a COMMIT that waits for a standby is done already, but not answered
   own:configure { synchronous_standby_names = "nobody" }
   own:reload()
   source:exec "update t set n = 1 where id <= 100"
   local waiting = [[select pid from pg_stat_activity
      where wait_event = 'SyncRep' and application_name = 'pgcdc-lua']]
   local conn = own:connect "postgres"
   wait.until_(function() return #conn:exec(waiting) > 0 end, 10, "a COMMIT that waits")
   conn:exec(("select pg_terminate_backend(pid) from (%s) x"):format(waiting))
   wait.until_(function() return #conn:exec(waiting) == 0 end, 10, "its end")
   own:configure { synchronous_standby_names = "" }
   own:reload()
   p:wait_stderr "retry_in"
   wait.until_(function()
      return target:value "select count(*) from a where n = 1" == "100"
   end, 10, "the first hundred")
   -- a COMMIT that is cut off before it is done
   target:exec [[create function cut() returns trigger language plpgsql as $$ begin
         perform pg_terminate_backend(pg_backend_pid()); return null; end $$;
      create constraint trigger cut after insert on a deferrable initially deferred
         for each row when (new.n = 2) execute function cut()]]
   source:exec "update t set n = 2 where id <= 100"
   p:wait_until(function()
      return select(2, p:stderr():gsub("retry_in", "")) > 1
   end)
   lu.assertEquals(target:value "select count(*) from a where n = 2", "0")
   target:exec "drop trigger cut on a"
   wait.until_(function()
      return target:value "select count(*) from a where n = 2" == "100"
   end, 20, "the second hundred")
   lu.assertEquals(p:stop().status, 0)
   run_once(source, target, state, script)
   lu.assertEquals(target:value "select count(*) from a", "5200")
   lu.assertEquals(target:value "select count(distinct (id, n)) from a", "5200")
end

-- Two programs with the same state cannot both write: one of them stops.
function TestSinkPostgresFault.test_somebody_else_with_the_same_state()
   local source, target = cluster.main():database(), cluster.main():database()
   make_table(source)
   local dir = scope.dir "sink"
   local script = all_modes(target)
   run_once(source, target, dir .. "/state.db", script)
   local p = program.start { dsn = source, state = dir .. "/state.db", script = script }
   p:wait_stderr 'msg="?ready'
   target:exec "update pgcdc.position set flush = 'another' where sink = 'postgres a'"
   source:exec "update t set n = 7 where id = 1"
   local result = p:finish()
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "pgcdc.position in the target is not what was stored there")
   run_once(source, target, dir .. "/state.db", script)
   assert_exact(source, target)
end

-- A table that was not made yet when a handler failed in the first snapshot is not said to be gone.
function TestSinkPostgresFault.test_a_table_that_was_not_made_yet()
   local source, target = cluster.main():database(), cluster.main():database()
   source:exec "create table t (id int primary key); insert into t values (1), (2)"
   local state = fixtures.state()
   local function run(limit)
      return program.run { dsn = source, state = state, options = { "--once" }, script = ([[
         pgcdc.source { table = "t" }
            :map(function(c) assert(c.key.id < %d, "large") return { id = c.key.id } end)
            :sink(pgcdc.sinks.postgres { connect = %q, table = "t", pk = "id" })]]):format(limit,
         target:dsn()) }
   end
   lu.assertEquals(run(2).status, 1)
   local second = run(3)
   lu.assertEquals(second.status, 0, second.stderr)
   lu.assertNotStrContains(second.stderr, "was gone")
   lu.assertEquals(target:value "select string_agg(id::text, ' ' order by id) from t", "1 2")
end

-- What the target refuses names its database and the role.
function TestSinkPostgresFault.test_a_refusal_names_the_place()
   local source = fixtures.database "create table t (id int primary key); insert into t values (1)"
   local target = fixtures.database "create table t (id int primary key)"
   local role = target.cluster:role "login"
   local result = once.ends(1, { dsn = source, script = ([[
      pgcdc.source {table = "t"}:sink(pgcdc.sinks.postgres {connect = %q, table = "t"})]])
      :format(target:dsn { user = role }) })
   lu.assertStrContains(result.text, ("(42501), in database %s as role %s"):format(target.name,
      role))
   target.cluster:drop_role(role)
end

-- Rows of many lengths: a server puts a short one into a page before those that came before it,
-- where that has room, in a table that was there before. What came last stays, and what was deleted
-- does not come back.
function TestSinkPostgresFault.test_versions_of_many_lengths_in_one_flush()
   local source, target = cluster.main():database(), cluster.main():database()
   local from, to = source:connect(), target:connect()
   from:exec "create table t (id int primary key)"
   local p = program.start { dsn = source, script = ([[
      local rows = pgcdc.source { table = "t", name = "rows", interval = 0.02 }
      rows:map(function(c)
         local n = c.row.id
         local op = n %% 50 < 20 and n %% 3 == 0 and "delete" or "update"
         return pgcdc.change { op = op, table = "copy", key = { id = n %% 50 },
            row = op ~= "delete" and { id = n %% 50, n = n, v = ("x"):rep(n * 7919 %% 1700) }
               or nil }
      end):sink(pgcdc.sinks.postgres { connect = %q, table = "copy", pk = "id" })
   ]]):format(target:dsn()) }
   for i = 1, 4 do -- the later ones find the table there
      from:exec(("insert into t select generate_series(%d, %d)"):format(i * 5000, i * 5000 + 4900))
      wait.until_(function()
         local ok, newest = pcall(to.value, to, "select n from copy where id = 49")
         return ok and tonumber(newest) == i * 5000 + 4899
      end, 30, "the rows")
   end
   p:stop()
   local there = {}
   for n = 5000, 24900 do
      if n % 5000 <= 4900 then
         there[n % 50] = not (n % 50 < 20 and n % 3 == 0) and n or nil
      end
   end
   local list = {}
   for id = 0, 49 do
      list[#list + 1] = there[id] and ("%d=%d"):format(id, there[id]) or nil
   end
   lu.assertEquals(to:value "select string_agg(id || '=' || n, ' ' order by id) from copy",
      table.concat(list, " "))
end

return TestSinkPostgresFault
