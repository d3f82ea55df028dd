-- sink_postgres_truncate_test.lua: a table is truncated whose changes come by the log, which does
-- not have the keys: what came from there leaves the target.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local cluster = require "cluster"
local lu = require "luaunit"
local program = require "program"

local TestSinkPostgresTruncate = {}

-- A source with t of three rows, a target, and `turn(sql)`, which runs the SQL, then the program
-- once: <wiring> takes the source t to the sink, <fields> are more fields of the sink, whose table
-- is t as well. It returns what the program said.
local function new_world(wiring, fields)
   local world = { db = by_log.database [[CREATE TABLE u (id int PRIMARY KEY, v text);
      ALTER PUBLICATION pgcdc ADD TABLE u]], target = cluster.main():database() }
   local script = ([[
      local t = pgcdc.source { table = "t", capture = "logical" }
      local sink = pgcdc.sinks.postgres { connect = "%s", table = "t", %s }
      %s]]):format(world.target:dsn(), fields or "", wiring)
   function world.turn(sql)
      world.db:exec(sql)
      local result = program.run { dsn = world.db, options = { "--once" }, script = script,
         state = world.state }
      lu.assertEquals(result.status, 0, result.stderr)
      world.state = result.program.state
      return result.stderr
   end
   return world
end

local function rows(world, columns)
   return world.target:value(("SELECT string_agg(concat_ws('=', %s), ' ' ORDER BY id, v) FROM t")
      :format(columns or "id, v")) or ""
end

local ONE = "t:sink(sink)"

function TestSinkPostgresTruncate.test_a_mirror()
   local world = new_world(ONE)
   world.turn "SELECT"
   lu.assertEquals(rows(world), "1=v1 2=v2 3=v3")
   -- of one transaction, and of one flush, what was before goes and what is after stays
   local said = world.turn [[UPDATE t SET v = 'a' WHERE id = 1; INSERT INTO t VALUES (4, 'v4');
      BEGIN; INSERT INTO t VALUES (5, 'v5'); TRUNCATE t; INSERT INTO t VALUES (1, 'b'), (6, 'v6');
      COMMIT; UPDATE t SET v = 'c' WHERE id = 6]]
   lu.assertEquals(rows(world), "1=b 6=c")
   lu.assertStrContains(said, "its source was truncated: all rows of ")
   world.turn "TRUNCATE t"
   lu.assertEquals(rows(world), "")
   world.turn "INSERT INTO t VALUES (7, 'v7')"
   lu.assertEquals(rows(world), "7=v7")
end

-- Twice in one flush, before there is a table.
function TestSinkPostgresTruncate.test_a_target_that_is_empty()
   local world = new_world(ONE)
   world.db:exec "TRUNCATE t"
   world.turn "SELECT"
   world.turn [[INSERT INTO t VALUES (1, 'a'); TRUNCATE t; INSERT INTO t VALUES (2, 'b');
      TRUNCATE t; INSERT INTO t VALUES (3, 'c')]]
   lu.assertEquals(rows(world), "3=c")
end

-- Some of the rows do not come here: that does not keep the others.
function TestSinkPostgresTruncate.test_some_rows()
   local world = new_world("t:only(function(c) return c.row.id ~= 2 end):sink(sink)")
   world.turn "SELECT"
   lu.assertEquals(rows(world), "1=v1 3=v3")
   world.turn "TRUNCATE t; INSERT INTO t VALUES (2, 'x'), (4, 'y')"
   lu.assertEquals(rows(world), "4=y")
end

function TestSinkPostgresTruncate.test_a_history()
   local world = new_world(ONE, 'mode = "history"')
   world.turn "SELECT"
   world.turn "UPDATE t SET v = 'a' WHERE id = 1; TRUNCATE t; INSERT INTO t VALUES (1, 'b')"
   lu.assertEquals(rows(world, "id, v, valid_to IS NULL"),
      "1=a=f 1=b=t 1=v1=f 2=v2=f 3=v3=f")
end

-- Where others write as well, nobody knows whose rows they are.
function TestSinkPostgresTruncate.test_two_sources()
   local world = new_world(ONE .. [[ pgcdc.source { table = "u", capture = "logical" }:sink(sink)]])
   world.turn "INSERT INTO u VALUES (9, 'v9')"
   local said = world.turn "TRUNCATE t"
   lu.assertEquals(rows(world), "1=v1 2=v2 3=v3 9=v9")
   lu.assertStrContains(said, "stay there, since others feed it, too")
end

return TestSinkPostgresTruncate
