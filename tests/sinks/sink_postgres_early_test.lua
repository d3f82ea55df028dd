-- sink_postgres_early_test.lua: rows go to a target while their batch still comes.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"

local TestSinkPostgresEarly = {}

local ROWS = 50000 -- two and a half times what is sent at once

-- Each statement that writes to the target's t leaves a row: its transaction, and how many rows.
local WATCH = [[
   CREATE TABLE seen (xid bigint, rows int);
   CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO seen SELECT txid_current(), count(*) FROM new_rows; RETURN NULL; END $$;
   CREATE TRIGGER see AFTER UPDATE ON t REFERENCING NEW TABLE AS new_rows
      FOR EACH STATEMENT EXECUTE FUNCTION see()]]

-- A source with t of so many rows, and a target that has them. `turn(sql)` runs the SQL in the
-- source, then the program once, and returns it; what the target's t was written by since then is
-- in its table seen. <script>: of <fields> of the source, after which the sink is made.
local function new_world(fields, options)
   options = options or {}
   local world = { db = options.db or fixtures.database([[
      CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL);
      INSERT INTO t SELECT i, 0 FROM generate_series(1, %d) i]], ROWS),
      target = cluster.main():database() }
   local script = ([[
      local t = pgcdc.source { table = "t", %s }
      local sink = pgcdc.sinks.postgres { connect = "%s", table = "t" }
      %s]]):format(fields or "", world.target:dsn(), options.wiring or "t:sink(sink)")
   function world.turn(sql)
      if sql then
         world.db:exec(sql, 60)
      end
      local result = program.run { dsn = world.db, options = { "--once" }, script = script,
         state = world.state, deadline = 120 }
      world.state = result.program.state
      return result
   end
   lu.assertEquals(world.turn().status, 0)
   world.target:exec(WATCH)
   return world
end

local SUM = "SELECT concat_ws(' ', count(*), sum(v), sum(id::bigint * v)) FROM t"

local function check_equal(world)
   lu.assertEquals(world.target:value(SUM), world.db:value(SUM))
end

-- How many statements have written to the target, and in how many transactions.
local function seen(world)
   local text = world.target:value "SELECT concat_ws(' ', count(*), count(DISTINCT xid)) FROM seen"
   world.target:exec "TRUNCATE seen"
   return text
end

-- In one transaction, but by several statements: so the first rows were on their way before the
-- last had come.
function TestSinkPostgresEarly.test_a_big_batch()
   local world = new_world()
   lu.assertEquals(world.turn("UPDATE t SET v = id").status, 0)
   check_equal(world)
   local first = world.target:value "SELECT min(rows) >= 20000 AND sum(rows) = 50000 FROM seen"
   lu.assertEquals(first, "t")
   lu.assertStrMatches(seen(world), "[2-9] 1")
   lu.assertEquals(world.turn("UPDATE t SET v = 3 WHERE id <= 19000").status, 0)
   check_equal(world)
   lu.assertEquals(seen(world), "1 1") -- which is not a big one
end

-- With a handler beside it, which may use the target, and would wait for our locks.
function TestSinkPostgresEarly.test_not_beside_a_handler()
   local world = new_world(nil, { wiring = [[
      t:sink(sink)
      t:on("batch", function() end)]] })
   lu.assertEquals(world.turn("UPDATE t SET v = id").status, 0)
   check_equal(world)
   lu.assertEquals(seen(world), "1 1")
end

-- Deletes, and rows that come again after them, in one batch with many updates.
function TestSinkPostgresEarly.test_deletes_and_hot_keys()
   local world = new_world('capture = "logical"', { db = by_log.database(([[
      TRUNCATE t; ALTER TABLE t ALTER v TYPE int USING 0;
      INSERT INTO t SELECT i, 0 FROM generate_series(1, %d) i]]):format(ROWS)) })
   local result = world.turn [[
      UPDATE t SET v = 1;
      DELETE FROM t WHERE id % 1000 = 7; INSERT INTO t VALUES (7, 70);
      UPDATE t SET v = 2 WHERE id > 100; UPDATE t SET v = 3 WHERE id > 30000;
      DELETE FROM t WHERE id = 12]]
   lu.assertEquals(result.status, 0, result.stderr)
   check_equal(world)
   lu.assertEquals(world.target:value "SELECT v FROM t WHERE id = 7", "70")
   lu.assertEquals(world.turn([[UPDATE t SET v = v + 1 WHERE id = 5;]]
      .. ("UPDATE t SET v = v + 1 WHERE id <= 3000;"):rep(15)).status, 0)
   check_equal(world)
end

-- What the target refuses is told as if nothing had been sent early, and is left out alone.
function TestSinkPostgresEarly.test_a_refused_row()
   for _, id in ipairs { 5, 49990 } do
      local world = new_world 'on_error = "skip"'
      world.target:exec(("ALTER TABLE t ADD CHECK (id <> %d OR v = 0)"):format(id))
      local result = world.turn "UPDATE t SET v = id"
      lu.assertEquals(result.status, 0, result.stderr)
      lu.assertStrContains(result.stderr, "check constraint")
      lu.assertEquals(world.target:value("SELECT string_agg(id::text, ' ') FROM t WHERE v = 0"),
         tostring(id))
      lu.assertEquals(world.target:value "SELECT count(*) FROM t WHERE v = id",
         tostring(ROWS - 1))
   end
end

-- Whatever is killed while rows are on their way, they come whole, and once more in time.
function TestSinkPostgresEarly.test_kills()
   local world = new_world()
   world.target:exec [[
      CREATE OR REPLACE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         PERFORM pg_advisory_lock(7); PERFORM pg_advisory_unlock(7); RETURN NULL; END $$]]
   local script = ([[
      pgcdc.source { table = "t", interval = 0.05 }
         :sink(pgcdc.sinks.postgres { connect = "%s", table = "t" })]]):format(world.target:dsn())
   local AT_WORK = [[SELECT pid FROM pg_stat_activity WHERE datname = current_database()
      AND wait_event_type = 'Lock' AND wait_event = 'advisory']]
   for i, kill in ipairs { "program", "backend", "program" } do
      local holder = world.target:connect()
      holder:exec "SELECT pg_advisory_lock(7)"
      world.db:exec("UPDATE t SET v = " .. i, 60)
      local p = program.start { dsn = world.db, script = script, state = world.state }
      local pid
      p:wait_until(function()
         pid = world.target:value(AT_WORK)
         return pid
      end, 60)
      if kill == "program" then
         p:kill9()
         holder:close()
         lu.assertEquals(world.turn().status, 0)
      else
         world.target:exec(("SELECT pg_terminate_backend(%s)"):format(pid))
         holder:close()
         p:wait_until(function()
            return world.target:value "SELECT min(v) FROM t" == tostring(i)
         end, 60)
         lu.assertEquals(p:stop().status, 0)
      end
      check_equal(world)
   end
end

return TestSinkPostgresEarly
