-- logical_stream_test.lua: what comes out of the server's log: old rows, large transactions.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local json = require "json"
local killing = require "killing"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
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

-- ---- large transactions ----

local BIG = 60000

-- The ids of table big that one run prints, until it has printed enough, or all that are left.
local function run_until(db, state, enough)
   local p = program.start { dsn = db, state = state, script = [[
      local source = pgcdc.source { table = "big", capture = "logical", interval = 0.5 }
      source:on("insert", function(c) print(c.key.id) end)
      source:on("ready", function() print "ready" end)]] }
   watch.wait_ready(p)
   if enough == 0 then
      p:stop()
      return {}, p.state
   end
   p:wait_until(function()
      local n = #p:lines()
      return n > enough or tonumber(p:lines()[n]) == BIG
   end, 60, "a part of the transaction")
   p:kill9()
   local ids = {}
   for _, line in ipairs(p:lines()) do
      ids[#ids + 1] = math.tointeger(line)
   end
   return ids, p.state
end

-- A transaction that is larger than a batch is saved in its middle: a run that was killed goes on
-- there, and not at the beginning. Rows of COPY share places in the log.
function TestLogicalStream.test_a_large_transaction_is_saved_inside()
   for _, sql in ipairs { "INSERT INTO big SELECT generate_series(1, %d)",
                          "COPY big FROM PROGRAM 'seq 1 %d'" } do
      local db = by_log.database [[CREATE TABLE big (id int PRIMARY KEY);
         ALTER PUBLICATION pgcdc ADD TABLE big]]
      local _, state = run_until(db, nil, 0)
      db:exec(sql:format(BIG))
      local first, last, runs = 0, 0, 0
      while last < BIG do
         local ids = run_until(db, state, 23000)
         lu.assertTrue(ids[1] > first and ids[1] <= last + 1, ("%d after %d to %d"):format(ids[1],
            first, last))
         for i, id in ipairs(ids) do
            lu.assertEquals(id, ids[1] + i - 1)
         end
         first, last, runs = ids[1], ids[#ids], runs + 1
      end
      lu.assertTrue(runs > 2, runs)
   end
end

-- The same of two tables that one transaction writes by turns, into a file that is exact; killed
-- at random.
function TestLogicalStream.test_large_transactions_of_two_tables_are_exact()
   local db = by_log.database [[CREATE TABLE a (id int PRIMARY KEY, v text);
      CREATE TABLE b (id int PRIMARY KEY, v text); ALTER PUBLICATION pgcdc ADD TABLE a, b]]
   local path = scope.dir "exact" .. "/out.jsonl"
   local options = { dsn = db, script = ([[
      local sink = pgcdc.sinks.jsonl { path = %q }
      for _, name in ipairs { "a", "b" } do
         local source = pgcdc.source { table = name, capture = "logical", interval = 0.5 }
         source:on("ready", function() print("ready " .. name) end)
         source:sink(sink)
      end]]):format(path) }
   local p = program.start(options)
   watch.wait_line(p, "^ready a$", 30)
   watch.wait_line(p, "^ready b$", 30)
   options.state = p.state
   db:exec [[DO $$ BEGIN
      FOR i IN 1 .. 15000 LOOP
         INSERT INTO a VALUES (i, repeat('x', 100));
         IF i % 3 = 0 THEN
            INSERT INTO b SELECT i * 10 + k, 'y' FROM generate_series(1, 3) k;
         END IF;
      END LOOP; END $$]]
   p:kill9()
   options.seconds, options.life = 3, 0.8
   options.write = function() native.sleep(0.01) end
   local result = killing.run(options)
   lu.assertEquals(result.status, 0, result.stderr)
   local n, last = 0, 0
   for line in io.lines(path) do
      local change = json.decode(line)
      local place = change.table == "a" and change.key.id * 10 or change.key.id
      lu.assertTrue(place > last, killing.seed() .. ": " .. line)
      n, last = n + 1, place
   end
   lu.assertEquals(n, 30000, killing.seed())
end

return TestLogicalStream
