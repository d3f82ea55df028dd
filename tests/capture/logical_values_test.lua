-- logical_values_test.lua: what the log does not say of a row, and a query does: capture =
-- "logical" gives the same values as "xmin".
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local json = require "json"
local lu = require "luaunit"
local program = require "program"
local seeds = require "seeds"
local tables = require "tables"
local values = require "values"
local wait = require "wait"
local watch = require "watch"

local TestLogicalValues = {}

local seed = seeds.asked or os.time()

-- What --once prints of the rows of a table, as JSON from "key" on, sorted; and the state file. All
-- of them have this op.
local function once(db, name, op, source, state)
   local fields = tables.merge({ table = name }, source)
   local result = program.run { dsn = db, options = { "--once" }, state = state,
      script = watch.script(fields) }
   lu.assertEquals(result.stderr:match "level=error.*", nil)
   lu.assertEquals(result.status, 0, result.stderr)
   local list = {}
   for _, line in ipairs(result.lines) do
      list[#list + 1] = line:match('^{"op":"' .. op .. '".*("key":.*),"xid":%d+,"seq":')
   end
   table.sort(list)
   return list, result.program.state
end

-- The rows of a table that is empty come by the log when they are copied <from> another one. They
-- are those that a query reads, byte for byte.
local function assert_like_xmin(db, name, from)
   local conn = db:connect { client_encoding = "UTF8" }
   local _, state = once(db, name, "read", { capture = "logical" })
   conn:exec(("INSERT INTO %s SELECT * FROM %s"):format(name, from))
   local by_log_lines = once(db, name, "insert", { capture = "logical" }, state)
   local by_xmin = once(db, name, "read")
   lu.assertEquals(#by_xmin, tonumber(conn:exec("SELECT count(*) FROM " .. name)[1][1]))
   lu.assertEquals(#by_log_lines, #by_xmin)
   for i, line in ipairs(by_xmin) do
      lu.assertEquals(by_log_lines[i], line, "seed " .. seed)
   end
end

function TestLogicalValues.test_every_type()
   io.write("seed ", seed, " ... ")
   local db = by_log.database()
   values.create(db, 40, seed)
   db:exec [[CREATE TABLE copy (LIKE "values" INCLUDING ALL);
      ALTER PUBLICATION pgcdc ADD TABLE copy]]
   assert_like_xmin(db, "copy", '"values"')
end

-- Texts of a database in another encoding, and names.
function TestLogicalValues.test_encodings()
   for _, encoding in ipairs { "LATIN1", "SQL_ASCII" } do
      local db = by_log.database(nil, nil, { sql = ("template template0 encoding '%s'"
         .. " lc_collate 'C' lc_ctype 'C'"):format(encoding) })
      local conn = db:connect { client_encoding = "UTF8" }
      conn:exec [[CREATE TYPE "Größe" AS (b text, "ü" int[]);
         CREATE TABLE "été" (id int PRIMARY KEY, "où" text, a text[], c "Größe", l "Größe"[],
            g text[] GENERATED ALWAYS AS (ARRAY["où"]) STORED);
         CREATE TABLE f (id int PRIMARY KEY, w text, a text[], c "Größe", l "Größe"[]);
         INSERT INTO f VALUES (1, 'é\ÿ"', '{ß,"é\\ÿ\"''"}', '("ö ""\\''",{1})', '{"(é,)",NULL}'),
            (2, NULL, NULL, NULL, NULL), (3, '', '{}', '(,)', '{}');
         ALTER PUBLICATION pgcdc ADD TABLE "été"]]
      assert_like_xmin(db, '"été"', "f")
   end
end

-- Rows that pass a condition, before and after.
local function assert_where(db, expected)
   local p = by_log.start(db, { source = { where = "v > 'b' -- not less" } })
   watch.wait_ready(p)
   db:exec [[INSERT INTO t VALUES (4, 'a'), (5, 'x'); UPDATE t SET v = 'y' WHERE id = 4;
      UPDATE t SET v = 'z' WHERE id = 4; UPDATE t SET v = 'a' WHERE id = 4;
      UPDATE t SET v = 'aa' WHERE id = 4; DELETE FROM t WHERE id = 4;
      BEGIN; UPDATE t SET id = 6 WHERE id = 5; UPDATE t SET id = 7, v = 'a' WHERE id = 6;
      UPDATE t SET id = 8, v = 'w' WHERE id = 7; DELETE FROM t WHERE id = 8; COMMIT]]
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 " .. expected)
   p:stop()
end

-- Without the row before, it may have passed.
function TestLogicalValues.test_where()
   assert_where(by_log.database(), "i5=x u4=y u4=z d4 d4 d4 d5 i6=x d6 d7 i8=w d8")
end

function TestLogicalValues.test_where_with_the_row_before()
   assert_where(by_log.database "ALTER TABLE t REPLICA IDENTITY FULL",
      "i5=x i4=y u4=z<y d4<z d5<x i6=x d6<x i8=w d8<w")
end

-- The condition sees what `columns` leaves out, generated columns, and the row as a whole; rows of
-- other sources stay in between.
function TestLogicalValues.test_generated_columns()
   local db = by_log.database [[
      CREATE FUNCTION fits(x anyelement) RETURNS bool LANGUAGE sql STABLE AS
         $$ SELECT (to_json(x)->>'n')::int % 2 = 0 $$;
      CREATE TABLE g (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED,
         pair int[] GENERATED ALWAYS AS (ARRAY[n, n + 1]) STORED, gone bool
         GENERATED ALWAYS AS (n > 100) STORED);
      ALTER PUBLICATION pgcdc ADD TABLE g]]
   local p = by_log.start(db, { table = "g", source = { where = "twice > 4 AND public.fits(g)",
      soft_delete = "gone" }, more = [[
      pgcdc.source { table = "t", capture = "logical", interval = 0.5, columns = { "id" } }
         :on("change", function(c) print(c) end)
         :on("ready", function() print "ready t" end)]] })
   watch.wait_ready(p)
   watch.wait_line(p, "^ready t$")
   db:exec [[INSERT INTO g (id, n) VALUES (1, 2), (2, 3), (3, 4); INSERT INTO t VALUES (7);
      UPDATE g SET n = 6; INSERT INTO t VALUES (8); UPDATE g SET n = 102 WHERE id = 3]]
   p:wait_until(function() return p:changes()[10] end, 20, "the changes")
   local list = {}
   for _, line in ipairs(p:lines()) do
      local op, rest = line:match '"op":"(%a+)".*"key":(.*),"xid"'
      if op and op ~= "read" then
         list[#list + 1] = op .. " " .. rest
      end
   end
   lu.assertEquals(table.concat(list, "\n"), table.concat({
      'insert {"id":3},"row":{"id":3,"n":4,"twice":8,"pair":[4,5],"gone":false}',
      'insert {"id":7},"row":{"id":7}',
      'upsert {"id":1},"row":{"id":1,"n":6,"twice":12,"pair":[6,7],"gone":false}',
      'upsert {"id":2},"row":{"id":2,"n":6,"twice":12,"pair":[6,7],"gone":false}',
      'upsert {"id":3},"row":{"id":3,"n":6,"twice":12,"pair":[6,7],"gone":false}',
      'insert {"id":8},"row":{"id":8}',
      'delete {"id":3},"row":{"id":3,"n":102,"twice":204,"pair":[102,103],"gone":true}',
   }, "\n"))
   p:stop()
end

-- Lines of JSON from "key" on, of the changes that are no reads.
local function lines_after_reads(p)
   local list = {}
   for _, line in ipairs(p:lines()) do
      local op, rest = line:match '"op":"(%a+)".*"key":(.*),"xid"'
      if op and op ~= "read" then
         list[#list + 1] = op .. " " .. rest
      end
   end
   return table.concat(list, "\n")
end

-- Rows that are older than an ALTER, in each way in which a type or a table may not take them.
function TestLogicalValues.test_types_that_change()
   local db = by_log.database [[
      CREATE TYPE mood AS ENUM ('ok', 'bad');
      CREATE DOMAIN few AS int[];
      CREATE TABLE a (id int PRIMARY KEY, l mood[], m mood, s few, d text);
      ALTER PUBLICATION pgcdc ADD TABLE a]]
   local options = { table = "a", source = { where = "d IS NULL" } }
   local p = by_log.start(db, options)
   watch.wait_ready(p)
   p:stop()
   db:exec [[INSERT INTO a VALUES (1, '{ok,bad}', NULL, '{1}', NULL),
      (2, '{bad}', NULL, '{1,2}', NULL), (3, NULL, 'ok', NULL, NULL), (4, NULL, 'ok', NULL, 'd')]]
   db:exec [[ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'; ALTER TABLE a ADD COLUMN e text;
      ALTER DOMAIN few ADD CHECK (cardinality(VALUE) < 2) NOT VALID]]
   db:exec "INSERT INTO a VALUES (5, '{fine}', 'fine', '{3}')"
   options.state = p.state
   p = by_log.start(db, options)
   p:wait_until(function() return p:changes()[5] end, 20, "the changes")
   p:wait_stderr "a value of column .*l.* is told as its text, since it is none of its type"
   p:wait_stderr "a row is none of its table any more, as that is now: it is told without asking"
   lu.assertEquals(lines_after_reads(p), table.concat({
      'insert {"id":1},"row":{"id":1,"l":"{ok,bad}","m":null,"s":[1],"d":null,"e":null}',
      'insert {"id":2},"row":{"id":2,"l":["bad"],"m":null,"s":[1,2],"d":null,"e":null}',
      'insert {"id":3},"row":{"id":3,"l":null,"m":"ok","s":null,"d":null,"e":null}',
      'insert {"id":4},"row":{"id":4,"l":null,"m":"ok","s":null,"d":"d","e":null}',
      'insert {"id":5},"row":{"id":5,"l":["fine"],"m":"fine","s":[3],"d":null,"e":null}',
   }, "\n"))
   p:stop()
end

-- The connection on which the server is asked is lost while it is asked: nothing is lost.
function TestLogicalValues.test_the_other_connection_is_lost()
   local db = by_log.database [[
      CREATE TABLE a (id int PRIMARY KEY, l int[]); ALTER PUBLICATION pgcdc ADD TABLE a;
      CREATE TABLE gate (id int); CREATE FUNCTION wait(int[]) RETURNS bool LANGUAGE plpgsql AS $$
         BEGIN PERFORM count(*) FROM public.gate; RETURN true; END $$]]
   local p = by_log.start(db, { table = "a", source = { where = "public.wait(l)" } })
   watch.wait_ready(p)
   local conn = db:connect()
   conn:exec "BEGIN; LOCK TABLE gate"
   db:exec "INSERT INTO a SELECT n, ARRAY[n] FROM generate_series(1, 5000) n"
   db:exec "UPDATE a SET l = '{7}' WHERE id = 4"
   local waiting = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname ="
      .. " current_database() AND query LIKE 'SET LOCAL%'"
   for _ = 1, 2 do
      wait.until_(function() return db:value("SELECT count(*) " .. waiting) == "1" end, 20,
         "a question")
      db:exec("SELECT pg_terminate_backend(pid) " .. waiting)
   end
   conn:exec "COMMIT"
   p:wait_until(function() return #p:changes() >= 5001 end, 30, "all rows")
   lu.assertEquals(p:changes()[5001].row.l, json.array { 7 })
   for i = 1, 5000 do
      lu.assertEquals(p:changes()[i].key.id, i)
   end
   p:stop()
end

return TestLogicalValues
