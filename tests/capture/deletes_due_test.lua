-- deletes_due_test.lua: what is owed happens when it is due, though nothing else commits.
-- SPDX-License-Identifier: MIT

local deletes = require "deletes"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local watch = require "watch"

local TestDeletesDue = {}

local TABLE = [[
   CREATE TABLE t (id int PRIMARY KEY, v text);
   INSERT INTO t SELECT i, 'a' FROM generate_series(1, 5) i]]

-- Starts the program on table t, which prints "op key" of each change.
local function start(db, fields, state)
   return program.start { dsn = db, state = state, script = ([[
      local source = pgcdc.source {table = "t", %s}
      source:on("change", function(c) print(c.op, c.key.id) end)
      source:on("ready", function() print "ready" end)]]):format(fields) }
end

-- With an interval of their own, deletes are looked for once it is over.
function TestDeletesDue.test_an_interval_of_their_own()
   local db = fixtures.database(TABLE)
   local p = start(db, "interval = 0.02, deletes = {interval = 0.7}")
   watch.wait_ready(p)
   db:exec "DELETE FROM t WHERE id = 2"
   watch.wait_line(p, "^delete\t2$", 8)
   db:exec "INSERT INTO t VALUES (6)"
   watch.wait_line(p, "^%l+\t6$", 8) -- what is looked for now waits
   db:exec "DELETE FROM t WHERE id = 6"
   watch.wait_line(p, "^delete\t6$", 8)
   p:stop()
end

-- They do not wait for a poll that is far away.
function TestDeletesDue.test_an_interval_that_adapts()
   local db = fixtures.database(TABLE)
   local p = start(db, "interval = {0.02, 900}, deletes = {interval = 1}")
   watch.wait_line(p, "^read\t5$")
   db:exec "DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (6)"
   watch.wait_line(p, "^%l+\t6$", 12)
   watch.wait_line(p, "^delete\t2$", 8)
   p:stop()
end

-- A recheck does not either.
function TestDeletesDue.test_a_recheck()
   local db = fixtures.database [[
      CREATE TABLE t (id int PRIMARY KEY, v text);
      INSERT INTO t SELECT i, 'a' FROM generate_series(1, 50) i]]
   local p = start(db, [[interval = {0.02, 900}, capture = "increment", column = "id",
      lookback = 0, recheck = 2]])
   watch.wait_line(p, "^read\t50$")
   db:exec "UPDATE t SET v = 'b' WHERE id = 1"
   watch.wait_line(p, "^upsert\t1$", 8)
   p:stop()
end

local ANEW = [[
   BEGIN;
   DROP TABLE t;
   CREATE TABLE t (id int PRIMARY KEY, v text);
   INSERT INTO t VALUES (1, 'a'), (3, 'b'), (5, 'a');
   COMMIT]]

-- After the table was dropped and made anew, what it has no more is told at once.
function TestDeletesDue.test_a_table_that_is_read_again()
   for _, fields in ipairs { "deletes = true", "deletes = {interval = 100}" } do
      local db = fixtures.database(TABLE)
      local p = start(db, fields .. ", interval = 0.02")
      watch.wait_line(p, "^read\t5$")
      db:exec(ANEW)
      watch.wait_line(p, "^delete\t2$", 8)
      watch.wait_line(p, "^delete\t4$", 8)
      p:stop()
   end
end

-- Also where the program was not running, and ends as soon as it has told what is owed.
function TestDeletesDue.test_once()
   local db = fixtures.database(TABLE)
   local state = fixtures.state()
   local fields = 'table = "t", deletes = {interval = 1000}'
   lu.assertEquals(#deletes.run(db, fields, state), 5)
   db:exec "DELETE FROM t WHERE id = 4"
   lu.assertEquals(deletes.ops(deletes.run(db, fields, state)), { "delete 4" })
   db:exec(ANEW)
   lu.assertEquals(deletes.sorted(deletes.ops(deletes.run(db, fields, state))),
      { "delete 2", "update 3" })
end

return TestDeletesDue
