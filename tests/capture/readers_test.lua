-- readers_test.lua: two connections read a table for the first time, each one half of its ranges.
-- SPDX-License-Identifier: MIT
--
-- Whatever the second one meets, no row is missed and none comes twice.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local wait = require "wait"
local watch = require "watch"

local TestReaders = {}

local two = { readers = 2 }

-- t with <rows> rows of about a kilobyte: 7 in a block.
local function new_database(rows)
   return fixtures.database([[
      create table t (id int primary key, n int default 0, pad text default repeat('x', 1000));
      alter table t alter pad set storage plain;
      insert into t select generate_series(1, %d)]], rows)
end

-- The backends that read this database, but the one of <db>.
local function backends(db)
   return math.tointeger(tonumber(db:value [[select count(*) from pg_stat_activity
      where backend_type = 'client backend' and pid <> pg_backend_pid()
        and datname = current_database()]]))
end

local slow = [[source:on("change", function() for _ = 1, %d do end end)]]

-- In the middle of the table there are two, and at its end one is left.
function TestReaders.test_there_are_two_until_the_table_is_read()
   local db = new_database(40000)
   local options = watch.gates(20000)
   options.source = two
   local p = watch.start(db, options)
   watch.wait_line(p, "^row 20000$")
   lu.assertEquals(backends(db), 2)
   p.proc:write "go\n"
   watch.wait_ready(p)
   wait.until_(function() return backends(db) == 1 end, 20, "the end of the second connection")
   lu.assertEquals(p:stop().status, 0)
end

-- Writers of all kinds are at work meanwhile, and somebody takes locks that exclude readers.
function TestReaders.test_exact_beside_writers_and_locks()
   local db = new_database(40000)
   local locks = db:connect()
   local p = watch.start(db, { brief = true, source = two, more = slow:format(6000) })
   p:wait_changes(1)
   local round = 0
   repeat
      round = round + 1
      local i = round % 100
      db:exec(([[
         update t set n = n + 1 where id %% 100 = %d;
         delete from t where id %% 1000 = %d;
         update t set id = id + 200000 where id %% 1000 = %d and id < 100000;
         insert into t values (%d)]]):format(i, i + 100, i + 200, 300000 + round))
      locks:exec "begin; lock table t in access exclusive mode; commit"
   until #watch.lines(p, "^ready$") > 0 or round >= 2000
   watch.wait_current(p, db, "t", { seconds = 60 })
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(p:stop().status, 0)
end

-- Killed, and stopped at any row, it goes on where it was.
function TestReaders.test_killed_and_stopped()
   local db = new_database(40000)
   local programs, state = {}, nil
   for i = 1, 5 do
      local p = watch.start(db, { state = state, brief = true, source = two,
         more = slow:format(3000) })
      programs[i], state = p, p.state
      p:wait_until(function() -- each life may have read 9000 more when it ends
         return #p:changes() >= 1000 * i or #watch.lines(p, "^ready$") > 0
      end, 30, "changes")
      if i % 2 == 0 then
         p:kill9()
      else
         lu.assertEquals(p:stop().status, 0)
      end
      db:exec(("update t set n = n + 1 where id %% 1000 = %d"):format(i))
   end
   programs[6] = watch.start(db, { state = state, brief = true, source = two })
   watch.wait_current(programs, db, "t", { seconds = 60 })
   lu.assertTrue(watch.count(programs) < 40000 + 40 * 5 + 2 * 9000) -- 8 MB are in hand at most
   lu.assertEquals(programs[6]:stop().status, 0)
end

-- Backends of either connection are terminated: of the second one nobody sees that.
function TestReaders.test_connections_are_lost()
   local db = new_database(40000)
   local p = watch.start(db, { brief = true, source = two, more = slow:format(3000) })
   for i = 1, 6 do
      p:wait_changes(3000 * i, 60)
      db:exec(([[select pg_terminate_backend(pid) from (select pid from pg_stat_activity
         where backend_type = 'client backend' and pid <> pg_backend_pid()
           and datname = current_database() order by backend_start offset %d limit 1) as s]])
         :format(i % 2))
   end
   watch.wait_current(p, db, "t", { seconds = 60 })
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(watch.ops(p).read, 40000)
   lu.assertEquals(p:stop().status, 0)
end

-- A role that may connect once.
function TestReaders.test_no_second_connection_is_to_be_had()
   local db = new_database(10000)
   local role = cluster.main():role()
   db:exec(("alter role %s connection limit 1; grant select on t to %s"):format(role, role))
   local result = once.ok { dsn = cluster.main():dsn(db.name, { user = role }),
      script = [[local n = 0
         pgcdc.source { table = "t", readers = 2, on_change = function() n = n + 1 end }
            :on("ready", function() print(n) end)]] }
   lu.assertEquals(result.lines, { "10000" })
end

-- Keys that are counted, rows that are long (more than the second one keeps), deletes.
function TestReaders.test_long_rows_and_deletes()
   local db = new_database(3000)
   db:exec [[alter table t alter pad set storage external;
      update t set pad = repeat('y', 20000) where id > 1500]]
   local p = watch.start(db, { brief = true, source = { readers = 2, deletes = true } })
   watch.wait_ready(p, 60)
   db:exec "delete from t where id % 100 = 7"
   p:wait_until(function() return #watch.lines(p, '"op":"delete"') == 30 end, 30, "the deletes")
   lu.assertEquals(#watch.lines(p, '"op":"read"'), 3000)
   lu.assertEquals(p:stop().status, 0)
end

function TestReaders.test_bad_values()
   for value, problem in pairs { [0] = "at least 1", [3] = "1 or 2" } do
      lu.assertStrContains(once.ends(1, { dsn = cluster.main():database(), script =
         ("pgcdc.source { table = 't', readers = %d }"):format(value) }).text, problem)
   end
end

return TestReaders
