-- network_test.lua: the network stalls, breaks and trickles, and nothing is lost or doubled.
-- SPDX-License-Identifier: MIT
--
-- All of it goes through a proxy of the tests' own (support/proxy.lua). A lost connection is no
-- crash: what was delivered before it is not delivered again. A connection that is silent but
-- never closed, which the ancestor waited on for ever, is noticed within keepalives_idle +
-- keepalives_count * keepalives_interval.
--
-- PGCDC_NETWORK_SWEEP=200 cuts at so many places of a session, each way and in each direction.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local native = require "native"
local pooler = require "pooler"
local program = require "program"
local proxy = require "proxy"
local stepping = require "stepping"
local tables = require "tables"
local wait = require "wait"
local watch = require "watch"

local TestNetwork = {}

local PLACES = tonumber(os.getenv "PGCDC_NETWORK_SWEEP" or "") or 3
local AT_ONCE = 6 -- programs
local SOON = { keepalives_idle = 1, keepalives_interval = 1, keepalives_count = 1,
   connect_timeout = 2 }
local NOTICED = 2 -- seconds, with these
local SLACK = 7   -- of a busy machine
local STOP = 1    -- seconds that a stop may take

local function new_database(rows)
   return fixtures.database([[create table t (id int primary key, n int, pad text);
      insert into t select i, 0, repeat(md5(i::text), 3) from generate_series(1, %d) i]], rows)
end

-- ---- the cut, at every place ----

local TELLING = [[
   pgcdc.source {table = "t", deletes = true, on_change = function(c)
      print(c.op, c.key.id, c.row and c.row.n, c.id)
   end}]]

-- What a table is made of that is given all that was told; raises where something came twice, or
-- cannot be.
local function replay(lines)
   local rows, ids = {}, {}
   for _, line in ipairs(lines) do
      local op, key, n, id = line:match "^(%a+)\t(%d+)\t(%S+)\t(%S+)$"
      lu.assertNotNil(op, line)
      lu.assertNil(ids[id], "twice: " .. line)
      ids[id] = true
      lu.assertEquals({ line, rows[key] ~= nil }, { line, op == "update" or op == "delete" })
      rows[key] = op ~= "delete" and n or nil
   end
   return rows
end

local function rows_of(db)
   local rows = {}
   for _, row in ipairs(db:exec "select id, n from t") do
      rows[row[1]] = row[2]
   end
   return rows
end

-- What is done to the connections of each run: nothing, then each fault at each place.
local function plans(total)
   local list = {}
   for _, direction in ipairs { "up", "down" } do
      for _, how in ipairs { "fin", "rst" } do
         for i = 0, PLACES - 1 do
            list[#list + 1] = { how = how, direction = direction,
               at = (total[direction] * (2 * i + 1)) // (2 * PLACES) }
         end
      end
   end
   return list
end

-- Runs the program once for each session, some at a time.
local function run_all(sessions, script, options)
   for first = 1, #sessions, AT_ONCE do
      local running = {}
      for i = first, math.min(first + AT_ONCE - 1, #sessions) do
         local s = sessions[i]
         s.proxy = s.proxy or proxy.new(s.db)
         if s.how then
            s.proxy:fault(s.how, s.direction, s.at)
         end
         running[#running + 1] = s
         s.running = program.start { dsn = s.proxy:dsn(options), state = s.state, script = script,
            options = { "--once" } }
      end
      for _, s in ipairs(running) do
         local result = s.running:finish(60)
         local about = ("%s of %s bytes %s\n%s"):format(s.how, s.at, s.direction, result.stderr)
         lu.assertEquals(result.status, 0, about)
         table.move(result.lines, 1, #result.lines, #s.lines + 1, s.lines)
         s.proxy:heal()
      end
   end
end

local function new_session(db, plan)
   return tables.merge({ db = db, lines = {}, state = fixtures.state() }, plan)
end

-- How many bytes a run takes, in each direction.
local function measure(s, script)
   s.how = nil
   s.proxy = s.proxy or proxy.new(s.db)
   local before = s.proxy:stats()
   run_all({ s }, script)
   local after = s.proxy:stats()
   return { up = after.up - before.up, down = after.down - before.down }
end

function TestNetwork.test_cut_anywhere_nothing_lost_nothing_twice()
   local db = new_database(600)
   local model = new_session(db)
   local sessions = {}
   for _, plan in ipairs(plans(measure(model, TELLING))) do
      sessions[#sessions + 1] = new_session(db, plan)
   end
   run_all(sessions, TELLING)
   db:exec [[
      delete from t where id % 7 = 0;
      update t set n = id where id % 3 = 0;
      update t set id = id + 10000 where id % 100 = 1;
      insert into t select i, 1, '' from generate_series(20001, 20100) i]]
   for i, plan in ipairs(plans(measure(model, TELLING))) do
      local s = sessions[i]
      s.how, s.direction, s.at = plan.how, plan.direction, plan.at
   end
   run_all(sessions, TELLING)
   local expected, n_faults = rows_of(db), 0
   lu.assertEquals(replay(model.lines), expected)
   for _, s in ipairs(sessions) do
      lu.assertEquals(replay(s.lines), expected, ("%s %s %d"):format(s.how, s.direction, s.at))
      n_faults = n_faults + s.proxy:stats().faults
   end
   -- a session is not the same to the byte each time, so the last places may be after its end
   lu.assertTrue(n_faults >= 2 * #sessions * 0.8, n_faults)
   io.write(("%d cuts ... "):format(n_faults))
end

-- ---- one byte at a time ----

function TestNetwork.test_one_byte_at_a_time()
   local db = new_database(100)
   local direct, trickled = new_session(db), new_session(db)
   trickled.proxy = proxy.new(db)
   trickled.proxy:pace(1, 0)
   run_all({ direct, trickled }, TELLING)
   db:exec "delete from t where id < 10; update t set n = 5 where id < 30"
   -- the census of a table takes half a megabyte: in pieces that a packet could be
   trickled.proxy:pace(100, 0)
   run_all({ direct, trickled }, TELLING)
   lu.assertEquals(trickled.lines, direct.lines)
   lu.assertEquals(replay(direct.lines), rows_of(db))
end

-- ---- silence ----

-- While it connects, in the snapshot, in a poll, and between two of them. Held back or half-open,
-- for one connection (then the server can be asked about it) or for a while for all of them.
function TestNetwork.test_silence_is_noticed()
   local db = new_database(5000)
   local tries = {}
   for _, how in ipairs { "stall", "swallow" } do
      for _, place in ipairs { "connect", "snapshot", "poll", "idle" } do
         for _, is_for_all in ipairs { false, true } do
            tries[#tries + 1] = { how = how, place = place, is_for_all = is_for_all }
         end
      end
   end
   for _, t in ipairs(tries) do
      t.proxy = proxy.new(db)
      if t.place == "connect" or t.place == "snapshot" then
         t.proxy:fault(t.how, "down", t.place == "connect" and 0 or 250000, t.is_for_all)
      end
      t.p = watch.start(db, { brief = true, dsn = t.proxy:dsn(SOON) })
   end
   for _, t in ipairs(tries) do
      if t.place == "poll" or t.place == "idle" then
         watch.wait_ready(t.p, 30)
      end
   end
   local began = native.now()
   for _, t in ipairs(tries) do
      if t.place == "poll" then
         t.proxy:fault(t.how, "down", 100000, t.is_for_all)
      elseif t.place == "idle" then
         t.proxy:strike(t.how, t.is_for_all)
      end
   end
   db:exec "update t set n = 1 where id <= 2500"
   for _, t in ipairs(tries) do
      t.p:wait_until(function()
         return t.p:stderr():find "retry_in="
      end, NOTICED + SLACK, ("%s, %s, %s"):format(t.how, t.place, t.is_for_all))
      t.proxy:heal()
   end
   io.write(("all noticed in %.1f s ... "):format(native.now() - began))
   for _, t in ipairs(tries) do
      watch.wait_current(t.p, db, "t", { seconds = 30 })
      lu.assertEquals(watch.repeats(t.p), {})
      lu.assertEquals(t.p:stop().status, 0)
   end
end

-- The other side of it: what takes long is waited for, as long as the server is at work.
function TestNetwork.test_a_slow_server_is_waited_for()
   local db = new_database(10)
   local p = watch.start(db, { dsn = proxy.new(db):dsn(SOON) })
   watch.wait_ready(p)
   local locker = db:connect()
   locker:exec "begin; lock table t in access exclusive mode; update t set n = 1"
   db:exec "create table other ()"
   wait.until_(function()
      return db:value(([[select 1 from pg_stat_activity where application_name = 'pgcdc-lua'
         and datname = current_database() and wait_event_type = 'Lock'
         and clock_timestamp() - state_change > '%d s']]):format(NOTICED + 1))
   end, 20, "the poll to wait for its lock")
   locker:exec "commit"
   watch.wait_current(p, db)
   lu.assertEquals(p:stderr():match "level=warn[^\n]*", nil)
   lu.assertEquals(p:stop().status, 0)
end

-- A bell that hears nothing any more, with an interval that nobody waits for.
function TestNetwork.test_a_silent_bell_is_noticed()
   local db = new_database(10)
   stepping.trigger(db, "install")
   local between = proxy.new(db)
   local p = watch.start(db, { dsn = between:dsn(SOON),
      source = { capture = "trigger", interval = 1000 } })
   watch.wait_ready(p)
   local n = 0
   wait.until_(function() -- until what is written comes long before the interval is over
      n = n + 1
      db:exec(("update t set n = %d where id = 1"):format(n))
      return pcall(watch.wait_line, p, ('"id":1,"n":%d,'):format(n), 0.5)
   end, 20, "the bell")
   between:strike "swallow"
   db:exec "update t set n = 1000"
   watch.wait_line(p, '"n":1000,', 2 * NOTICED + SLACK)
   lu.assertEquals(p:stop().status, 0)
end

-- ---- what scripts connect to ----

-- A query that is never answered raises an error that says what is not known.
function TestNetwork.test_silence_for_a_script()
   local db = new_database(1)
   local between = proxy.new(db)
   local p = program.start { script = ([[
      local db = pgcdc.connect(%q)
      db:exec "update t set n = 1"
      pgcdc.every(0.05, function()
         local ok, problem = pcall(db.exec, db, "update t set n = n + 1")
         if not ok then print(problem) pgcdc.stop() end
      end)]]):format(between:dsn(SOON)) }
   wait.until_(function() return db:value "select n > 3 from t" == "t" end, 10, "some updates")
   local began = native.now()
   between:strike("swallow", true)
   local result = p:finish(NOTICED + SLACK)
   lu.assertTrue(native.now() - began < wait.scaled(NOTICED + SLACK))
   lu.assertStrContains(result.stdout, "whether the statement was run is not known")
end

-- ---- stops ----

-- The first signal ends it within a second though nothing answers, for readers, handlers and sinks.
-- The first question would come after half a minute. (A sink tried to connect as often as there was
-- something to save, five seconds each time.)
function TestNetwork.test_a_stop_while_nothing_answers()
   local db = new_database(2000)
   local between = proxy.new(db)
   local readers = {}
   for i, signal in ipairs { "TERM", "INT" } do
      local one = proxy.new(db)
      one:fault(i == 1 and "swallow" or "stall", "down", i == 1 and 100000 or 0, true)
      readers[i] = { proxy = one, signal = signal, p = watch.start(db, { dsn = one:dsn() }) }
   end
   local p = program.start { script = ([[
      local db = pgcdc.connect(%q)
      pgcdc.every(0.02, function() db:exec "update t set n = n + 1 where id = 1" end)]]):format(
      between:dsn()) }
   wait.until_(function() return db:value "select n > 3 from t where id = 1" == "t" end, 10)
   between:strike("swallow", true)
   local target = cluster.main():database()
   local towards = proxy.new(target)
   local sink = program.start { dsn = db, script = ([[
      pgcdc.source {table = "t", interval = 0.02}
         :sink(pgcdc.sinks.postgres {connect = %q, table = "a", mode = "append"})]]):format(
      towards:dsn()) }
   wait.until_(function()
      return target:try "select count(*) from a"
         and target:value "select count(*) from a where n > 3" ~= "0"
   end, 10, "rows in the target")
   towards:strike("swallow", true)
   db:exec "update t set n = 0"
   wait.until_(function() return towards:stats().faults > 0 end, 10, "the fault")
   for _, r in ipairs(readers) do
      wait.until_(function() return r.proxy:stats().faults > 0 end, 10, "the fault")
      local result = r.p:stop(r.signal, STOP)
      lu.assertEquals(result.status, 0)
   end
   for _, each in ipairs { p, sink } do
      local began = native.now()
      lu.assertNotNil(each:stop("TERM", STOP).status, each:stderr())
      io.write(("ended after %.2f s ... "):format(native.now() - began))
   end
   lu.assertEquals(select(2, sink:stderr():gsub("did not answer in time\" attempt=2", "")), 1)
end

-- A target that shows that it is at work is waited for, and what it took is saved. One that cannot
-- be asked, here since the role has one connection, is not: that ends unsaved, and nothing is lost
-- or doubled either.
function TestNetwork.test_a_stop_while_a_target_is_at_work()
   for _, can_ask in ipairs { true, false } do
      local db = fixtures.database("create table t (id int primary key, n int)")
      local target = cluster.main():database()
      target:exec "create table a (id int, n int)"
      local role = target.name .. "_one"
      target:exec(([[create role %s login connection limit %d; grant create on database %s to %s;
         grant all on a to %s]]):format(role, can_ask and 2 or 1, target.name, role, role))
      local options = { dsn = db, state = fixtures.state(), script = ([[
         pgcdc.source {table = "t", interval = 0.02}:sink(pgcdc.sinks.postgres {connect = %q,
            table = "a", mode = "append", create = false})]]):format(target:dsn { user = role }) }
      local p = program.start(options)
      p:wait_stderr '"ready"'
      local locker = target:connect()
      locker:exec "begin; lock table a in access exclusive mode"
      db:exec "insert into t values (1, 1), (2, 2)"
      wait.until_(function()
         return target:value [[select 1 from pg_stat_activity where wait_event_type = 'Lock'
            and datname = current_database()]]
      end, 10, "the lock")
      p:signal "TERM"
      if can_ask then
         lu.assertErrorMsgContains("timeout", wait.until_, function() return not p:alive() end, 1.2)
      else
         p:finish(STOP)
      end
      locker:exec "commit"
      locker:close()
      local result = p:finish(STOP)
      lu.assertEquals(result.status, 0)
      lu.assertEquals(target:value "select count(*) from a", can_ask and "2" or "0")
      lu.assertEquals(program.run(tables.merge(options, { options = { "--once" } })).status, 0)
      lu.assertEquals(target:value "select count(*), sum(n) from a", "2")
      target:exec(("drop owned by %s; drop role %s"):format(role, role))
   end
end

-- A target that is at work for too long: it ends without that flush, which comes with the next run,
-- once. (This program gives it two seconds, not fifteen.)
function TestNetwork.test_a_stop_while_a_target_is_at_work_for_too_long()
   local db = fixtures.database("create table t (id int primary key, n int)")
   local target = cluster.main():database()
   target:exec "create table a (id int, n int)"
   local options = { dsn = db, state = fixtures.state(), script = ([[
      pgcdc.source {table = "t", interval = 0.02}:sink(pgcdc.sinks.postgres {connect = %q,
         table = "a", mode = "append", create = false})]]):format(target:dsn()) }
   local p = program.start(tables.merge(options, { binary = program.binary() .. "-hasty" }))
   p:wait_stderr '"ready"'
   local locker = target:connect()
   locker:exec "begin; lock table a in access exclusive mode"
   db:exec "insert into t values (1, 1), (2, 2)"
   wait.until_(function()
      return target:value [[select 1 from pg_stat_activity where wait_event_type = 'Lock'
         and datname = current_database()]]
   end, 10, "the lock")
   local start = native.now()
   p:signal "TERM"
   local result = p:finish(10)
   local took = native.now() - start
   lu.assertTrue(took > 1.9, took)
   lu.assertStrContains(result.stderr, "the program is to stop, for which the server had 2 s")
   wait.until_(function()
      return target:value [[select count(*) from pg_stat_activity where wait_event_type = 'Lock'
         and datname = current_database()]] == "0"
   end, 10, "the end of the flush at the server")
   locker:exec "commit"
   lu.assertEquals(program.run(tables.merge(options, { options = { "--once" } })).status, 0)
   lu.assertEquals(target:value "select count(*), sum(n) from a", "2")
end

-- The second one ends it at once, whoever waits for whatever.
function TestNetwork.test_a_second_stop_while_nothing_answers()
   local db = new_database(10)
   local between = proxy.new(db)
   between:fault("swallow", "down", 100, true)
   local p = program.start { script = ([[
      pgcdc.after(0.01, function()
         pgcdc.log.info "in the handler"
         pgcdc.connect(%q):query "select 1"
      end)]]):format(between:dsn()) }
   p:wait_stderr "in the handler"
   p:signal "TERM"
   lu.assertErrorMsgContains("timeout", wait.until_, function() return not p:alive() end,
      0.3 / wait.scaled(1)) -- it ends by itself within a second, however slow the machine
   local began = native.now()
   lu.assertEquals(p:stop("INT", 2).signal, 2)
   lu.assertTrue(native.now() - began < wait.scaled(1))
end

-- What the server works at, or waits for, does not go on for nobody.
function TestNetwork.test_a_stop_ends_the_statement()
   local db = new_database(10)
   local locker = db:connect()
   locker:exec "begin; lock table t in access exclusive mode"
   local p = watch.start(db)
   local waiting = [[select 1 from pg_stat_activity where application_name = 'pgcdc-lua'
      and datname = current_database() and wait_event_type = 'Lock']]
   wait.until_(function() return db:value(waiting) end, 10, "the lock")
   lu.assertEquals(p:stop("TERM", 5).status, 0)
   wait.until_(function() return not db:value(waiting) end, 5, "the backend to go")
   locker:exec "rollback"
   locker:close()
end

-- Behind a pooler the backend cannot be told. What it waited for there stayed at the server for as
-- long as the lock did. Where nobody takes the request the stop does not wait for it.
function TestNetwork.test_a_stop_ends_the_statement_behind_a_pooler()
   for _, mode in ipairs { "session", "transaction" } do
      local db = new_database(10)
      local pool = pooler.new(cluster.main(), mode, 3)
      lu.skipIf(not pool, "there is no pgbouncer")
      local between = proxy.new { port = pool.port, dsn = function(_, _, keywords)
         keywords.port = pool.port
         return db:dsn(keywords)
      end }
      local locker = db:connect()
      locker:exec "begin; lock table t in access exclusive mode"
      local waiting = [[select count(*) from pg_stat_activity where wait_event_type = 'Lock'
         and datname = current_database()]]
      local p = watch.start(db, { dsn = pool:dsn(db.name) })
      wait.until_(function() return db:value(waiting) == "1" end, 10, "the lock")
      local silent = watch.start(db, { dsn = between:dsn() })
      wait.until_(function() return db:value(waiting) == "2" end, 10, "the other lock")
      lu.assertEquals(p:stop("TERM", 5).status, 0)
      wait.until_(function() return db:value(waiting) == "1" end, 5, "the statement to go")
      between:strike("swallow", true)
      lu.assertEquals(silent:stop("TERM", 5).status, 0)
      locker:exec "rollback"
      locker:close()
      pool:stop()
   end
end

return TestNetwork
