-- logical_stream_test.lua: what comes out of the server's log: old rows.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local lu = require "luaunit"
local program = require "program"
local watch = require "watch"

local TestLogicalStream = {}

-- The row before comes where the replica identity has it, and nowhere else.
function TestLogicalStream.test_old_rows_by_replica_identity()
   local db = by_log.database "ALTER TABLE t ADD n int DEFAULT 7"
   local p = by_log.start(db)
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'a' WHERE id = 1; DELETE FROM t WHERE id = 3"
   db:exec "ALTER TABLE t REPLICA IDENTITY FULL"
   db:exec "UPDATE t SET v = 'b' WHERE id = 1; UPDATE t SET id = 4 WHERE id = 1"
   db:exec "INSERT INTO t VALUES (5, NULL); UPDATE t SET v = '\t\\' WHERE id = 5"
   db:exec "DELETE FROM t WHERE id = 5; DELETE FROM t WHERE id = 2"
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 u1=a d3 u1=b<a d1<b i4=b i5=null u5=\t\\<null d5<\t\\"
      .. " d2<v2")
   lu.assertEquals(p:changes()[12].old, { id = 2, v = "v2", n = 7 })
   lu.assertEquals(tostring(p:changes()[12].row), "null")
   p:stop()
end

-- old = true asks for a replica identity that has the row; what follows from it works.
function TestLogicalStream.test_old_rows_that_are_asked_for()
   local db = by_log.database()
   local source = { table = "t", capture = "logical", old = true }
   local result = program.run { dsn = db, script = watch.script(source), options = { "--once" } }
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrContains(result.stderr, "public.t: old = true needs old rows, which the log has only"
      .. " with ALTER TABLE public.t REPLICA IDENTITY FULL")
   db:exec "ALTER TABLE t REPLICA IDENTITY FULL"
   local p = by_log.start(db, { source = { old = true }, more = [[
      source:on("update", function(c) print(table.concat(c.changed, ",")) end)
      source:only(function(c) return c.row.v ~= "x" end):sink(function(c)
         io.stdout:write("only ", c.op, "\n") end)]] })
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'x' WHERE id = 1; UPDATE t SET v = 'y' WHERE id = 1"
   watch.wait_line(p, "^only insert$", 20)
   lu.assertStrContains(table.concat(p:lines(), "\n"), "only delete")
   watch.wait_line(p, "^v$", 20)
   p:stop()
end

-- A partition that has only keys, where the whole table says that old rows are complete.
function TestLogicalStream.test_partitions_with_another_identity()
   local db = by_log.database [[CREATE TABLE p (id int, v text, PRIMARY KEY (id))
         PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
      ALTER TABLE p REPLICA IDENTITY FULL; ALTER PUBLICATION pgcdc ADD TABLE p;
      INSERT INTO p VALUES (1, 'a')]]
   local script = watch.script { table = "p", capture = "logical", interval = 0.2 }
   local result = program.run { dsn = db, script = script, options = { "--once" } }
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrContains(result.stderr, "public.p has REPLICA IDENTITY FULL, and a partition of it"
      .. " has not: ALTER TABLE ... REPLICA IDENTITY FULL of each partition")
   db:exec "ALTER TABLE p1 REPLICA IDENTITY FULL"
   local p = by_log.start(db, { table = "p" })
   watch.wait_ready(p)
   db:exec "UPDATE p SET v = 'b'; UPDATE p SET id = 2"
   by_log.wait_words(p, "r1=a u1=b<a d1<b i2=b")
   p:stop()
end

return TestLogicalStream
