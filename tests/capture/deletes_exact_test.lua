-- deletes_exact_test.lua: deletes = true under stops, kills and busy writers: ops are exact.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local deletes = require "deletes"
local fixtures = require "fixtures"
local killing = require "killing"
local lu = require "luaunit"
local native = require "native"
local pgbench = require "pgbench"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local TestDeletesExact = {}

local new_state, run, sorted = fixtures.state, deletes.run, deletes.sorted
local database = fixtures.database

-- Stops and kills ------------------------------------------------------------------------------

-- A stop among the deletes, and after them: each change comes once.
function TestDeletesExact.test_stopped_in_between()
   local db = database [[
      CREATE TABLE t (id bigint PRIMARY KEY, v int);
      INSERT INTO t SELECT i, 0 FROM generate_series(1, 3000) i]]
   local script = [[
      local n = 0
      pgcdc.source {table = "t", deletes = true, on_change = function(c)
         print(c)
         n = n + 1
         if n == 700 then pgcdc.stop() end
      end}]]
   local state = new_state()
   run(db, 'table = "t"', state)
   db:exec [[
      DELETE FROM t WHERE id <= 1400;
      UPDATE t SET v = 1 WHERE id > 2000;
      INSERT INTO t SELECT i, 0 FROM generate_series(5001, 6000) i]]
   local count, seen = {}, {}
   for _ = 1, 5 do
      local result = program.run { script = script, dsn = db, state = state,
         options = { "--once" } }
      lu.assertEquals(result.status, 0)
      for _, change in ipairs(result.changes) do
         local id = change.op .. change.key.id
         lu.assertNil(seen[id], id)
         seen[id] = true
         count[change.op] = (count[change.op] or 0) + 1
      end
   end
   lu.assertEquals(count, { delete = 1400, update = 1000, insert = 1000 })
end

-- A program that kills itself in the handler: what it had been given comes again as the same op,
-- with the same row before; and what is gone by then is told to be gone.
function TestDeletesExact.test_killed_in_a_handler()
   local db = database [[
      CREATE TABLE t (id int PRIMARY KEY, v text);
      INSERT INTO t VALUES (1, 'a'), (2, 'a'), (3, 'a')]]
   local state = new_state()
   local function again(last)
      return program.run {
         script = ([[
            pgcdc.source {table = "t", deletes = true, old = true, on_change = function(c)
               print(c.op, c.key.id, c.row and c.row.v, c.old and c.old.v)
               io.stdout:flush()
               if c.key.id == %d then os.execute "kill -9 $PPID" end
            end}]]):format(last),
         dsn = db, state = state, options = { "--once" },
      }
   end
   lu.assertEquals(#again(0).lines, 3)
   db:exec [[
      DELETE FROM t WHERE id = 1;
      UPDATE t SET v = 'b' WHERE id = 2;
      INSERT INTO t VALUES (4, 'a')]]
   local expected = { "delete\t1\tnil\ta", "update\t2\tb\ta", "insert\t4\ta\tnil" }
   lu.assertEquals(again(4).lines, expected)
   lu.assertEquals(again(4).lines, expected)
   db:exec "UPDATE t SET v = 'c' WHERE id = 2; DELETE FROM t WHERE id IN (3, 4)"
   local lines = again(0).lines
   lu.assertEquals(lines[4], "update\t2\tc\ta")
   lu.assertEquals(sorted { lines[1], lines[2], lines[3] },
      { "delete\t1\tnil\ta", "delete\t3\tnil\ta", "delete\t4\tnil\ta" })
   lu.assertEquals(#lines, 4)
   lu.assertEquals(again(0).lines, {})
end

-- Exactness ------------------------------------------------------------------------------------

local SCRIPT = [[
   pgcdc.source {table = "t", deletes = true, interval = 0.03, on_change = function(c)
      print(c.op .. " " .. c.key.id .. " " .. (c.row and c.row.v or ""))
   end}]]

local WRITES = [[
\set id random(1, 400)
\set kind random(1, 5)
\set v random(1, 1000000)
BEGIN;
\if :kind = 1
DELETE FROM t WHERE id = :id;
\elif :kind = 2
DELETE FROM t WHERE id BETWEEN :id AND :id + 9;
\elif :kind = 3
UPDATE t SET v = :v WHERE id = :id;
\else
INSERT INTO t VALUES (:id, :v) ON CONFLICT (id) DO UPDATE SET v = excluded.v;
\endif
\if :kind = 4
ROLLBACK;
\else
COMMIT;
\endif
]]

local function write_all(db, seconds)
   return pgbench.start_script(db, WRITES, "-c", "4", "-R", "600", "-T", tostring(seconds))
end

-- What the script has seen: id -> v of the rows that are there.
local function follow(live, lines, is_strict)
   for _, line in ipairs(lines) do
      local op, id, v = line:match "^(%l+) (%d+) (%d*)$"
      if is_strict then
         lu.assertEquals(live[id] ~= nil, op == "update" or op == "delete", line)
      end
      live[id] = op ~= "delete" and v or nil
   end
end

local function assert_live(db, live)
   local expected = {}
   for _, row in ipairs(db:exec "SELECT id, v FROM t") do
      expected[row[1] ] = row[2]
   end
   lu.assertEquals(live, expected)
end

local function exact_database()
   return database [[
      CREATE TABLE t (id int PRIMARY KEY, v int);
      INSERT INTO t SELECT i, 0 FROM generate_series(1, 200) i;
      INSERT INTO t SELECT i, 0 FROM generate_series(1000, 30000) i]]
end

-- Beside writers ops alternate as they must, and in the end the rows that are there are those that
-- were told to be.
function TestDeletesExact.test_exact_beside_writers()
   local db = exact_database()
   local state, live = new_state(), {}
   local p = program.start { script = SCRIPT, dsn = db, state = state }
   lu.assertEquals(write_all(db, 4):wait(30).exit, 0)
   p:stop()
   follow(live, p:lines(), true)
   follow(live,
      program.run { script = SCRIPT, dsn = db, state = state, options = { "--once" } }.lines,
      true)
   assert_live(db, live)
end

-- The same under SIGKILL: changes may come again, and none is lost.
function TestDeletesExact.test_exact_when_killed()
   local db = exact_database()
   local state, live = new_state(), {}
   local writer = write_all(db, 4)
   local over = native.now() + 4
   while native.now() < over do
      local p = program.start { script = SCRIPT, dsn = db, state = state }
      local dies = native.now() + 0.05 + math.random() * 0.5
      wait.until_(function() return native.now() > dies end, 5, "its time")
      p:kill9()
      follow(live, p:lines())
   end
   lu.assertEquals(writer:wait(30).exit, 0)
   follow(live, program.run {
      script = SCRIPT, dsn = db, state = state, options = { "--once" },
   }.lines)
   assert_live(db, live)
end

-- What is kept together with the position sees every op once, with the row before as it was seen
-- last, however often the program is killed. Only a row that came and went while what had been
-- seen of it was lost may be told to be gone without having been told to be there.
function TestDeletesExact.test_ops_are_exact_under_kills()
   local db, dir = exact_database(), scope.dir "exact"
   local conn = db:connect()
   local _, kills = killing.run {
      dsn = db, stops = true, state = dir .. "/state.db", args = { dir = dir }, life = 0.6,
      script = killing.file_sink .. [[
         pgcdc.source {table = "t", deletes = true, old = true, interval = 0.01}
            :map(function(c)
               return ("%s %d %s %s"):format(c.op, c.key.id, c.row and c.row.v or "-",
                  c.old and c.old.v or "-")
            end)
            :sink(file_sink(pgcdc.args.dir .. "/all", "all"))]],
      write = function(n)
         local id = math.random(1, 60)
         if n % 3 == 0 then
            conn:exec(("DELETE FROM t WHERE id BETWEEN %d AND %d"):format(id, id + 3))
         else
            conn:exec(([[INSERT INTO t VALUES (%d, %d)
               ON CONFLICT (id) DO UPDATE SET v = excluded.v]]):format(id, n))
         end
      end,
   }
   lu.assertTrue(kills >= 3, kills)
   local live = {}
   for line in io.lines(dir .. "/all") do
      local op, id, v, old = line:match "^(%l+) (%d+) (%S+) (%S+)$"
      local what = killing.seed() .. ": " .. line
      if op == "update" or (op == "delete" and live[id]) then
         lu.assertEquals(old, live[id], what)
      elseif op ~= "delete" then
         lu.assertEquals({ live[id], old }, { nil, "-" }, what)
      end
      live[id] = v ~= "-" and v or nil
   end
   assert_live(db, live)
end

-- A mirror in Postgres, which unites changes by key, under kills: in the end it is the table, with
-- its unique column.
function TestDeletesExact.test_mirror_under_kills()
   local db, dir = exact_database(), scope.dir "mirror"
   db:exec [[
      ALTER TABLE t ADD COLUMN name text;
      UPDATE t SET name = id;
      ALTER TABLE t ADD UNIQUE (name);
      CREATE TABLE mirror (id int PRIMARY KEY, v int, name text UNIQUE)]]
   local conn = db:connect()
   local _, kills = killing.run {
      dsn = db, stops = true, state = dir .. "/state.db", life = 1,
      script = [[
         pgcdc.source {table = "t", deletes = true, interval = 0.01}
            :sink(pgcdc.sinks.postgres {table = "mirror"})]],
      write = function(n)
         local id = math.random(1, 200)
         conn:exec(([[
            DELETE FROM t WHERE id = %d OR name = '%d';
            INSERT INTO t VALUES (%d, 0, '%d');
            UPDATE t SET v = %d WHERE id = %d]]):format(id, id, 100000 + n, id, n, id + 1))
         if n % 2 == 0 then
            conn:exec(([[
               DELETE FROM t WHERE name = '%d';
               INSERT INTO t VALUES (%d, %d, '%d')]]):format(id, id, n, id))
         end
         native.sleep(0.005)
      end,
   }
   lu.assertTrue(kills >= 2, kills)
   local difference = "SELECT * FROM (TABLE %s EXCEPT TABLE %s) d"
   lu.assertEquals(db:exec(difference:format("t", "mirror")).count, 0, killing.seed())
   lu.assertEquals(db:exec(difference:format("mirror", "t")).count, 0, killing.seed())
end

-- Behind a failover the table is read again, and only real differences are told: rows of which the
-- new primary knows another version or nothing.
function TestDeletesExact.test_failover()
   local primary = cluster.new { name = "deletes primary" }
   local db = primary:database { name = "deletes" }
   db:exec [[
      CREATE TABLE t (id int PRIMARY KEY, v int);
      INSERT INTO t SELECT i, 0 FROM generate_series(1, 5000) i]]
   local state = new_state()
   lu.assertEquals(#run(db, 'table = "t", old = true', state), 5000)
   local standby = primary:standby "deletes standby"
   standby:wait_replay()
   standby:promote()
   db:exec [[
      UPDATE t SET v = 1 WHERE id = 1;
      DELETE FROM t WHERE id = 2;
      INSERT INTO t VALUES (0, 0)]]
   lu.assertEquals(#run(db, 'table = "t", old = true', state), 3)
   primary:stop "immediate"
   local dsn = standby:dsn(db.name)
   local other = standby:connect(db.name)
   other:exec "UPDATE t SET v = 2 WHERE id = 3; DELETE FROM t WHERE id = 4"
   local changes = run(dsn, 'table = "t", old = true', state)
   lu.assertEquals(sorted(deletes.ops(changes)),
      { "delete 0", "delete 4", "insert 2", "update 1", "update 3" })
   lu.assertEquals(run(dsn, 'table = "t", old = true', state), {})
end

return TestDeletesExact
