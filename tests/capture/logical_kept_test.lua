-- logical_kept_test.lua: old rows by the log of a table that has no REPLICA IDENTITY FULL: those
-- that are kept in the state file.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local connected = require "connected"
local lu = require "luaunit"
local native = require "native"
local pgbench = require "pgbench"
local program = require "program"
local tables = require "tables"
local wait = require "wait"
local watch = require "watch"

local TestLogicalKept = {}

local function start(db, state, source)
   return by_log.start(db, { source = tables.merge({ old = true }, source), state = state })
end

-- Of rows of the first read, and of those that came since; of what the program has slept through;
-- after a start anew, and a kill.
function TestLogicalKept.test_old_rows()
   local db = by_log.database()
   local p = start(db)
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'a' WHERE id = 1; INSERT INTO t VALUES (4, 'b')"
   db:exec "UPDATE t SET v = 'c' WHERE id IN (1, 4); DELETE FROM t WHERE id = 2"
   local all = "r1=v1 r2=v2 r3=v3 u1=a<v1 i4=b u1=c<a u4=c<b d2<v2"
   by_log.wait_words(p, all)
   p:stop()
   db:exec "UPDATE t SET id = 5, v = 'd' WHERE id = 4; INSERT INTO t VALUES (2, 'e')"
   db:exec "BEGIN; UPDATE t SET v = 'f' WHERE id = 2; UPDATE t SET v = 'g' WHERE id = 2; COMMIT"
   p = start(db, p.state)
   all = "d4<c i5=d i2=e u2=f<e u2=g<f"
   by_log.wait_words(p, all)
   wait.until_(function() -- it is saved
      return db:value "SELECT pg_current_wal_lsn() <= confirmed_flush_lsn FROM pg_replication_slots"
         == "t"
   end, 20, "a confirmation")
   p:kill9()
   db:exec "DELETE FROM t WHERE id IN (1, 5)"
   p = start(db, p.state)
   by_log.wait_words(p, "d1<c d5<d")
   p:stop()
end

-- Long values that an update left as they were are those that are kept: also where the row is not
-- there any more, or has another key now. Not if an ALTER TABLE came in between.
function TestLogicalKept.test_long_values()
   local db = by_log.database [[ALTER TABLE t ADD COLUMN big text, ADD COLUMN l int[];
      ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL, ALTER COLUMN l SET STORAGE EXTERNAL;
      UPDATE t SET big = repeat('a', 9000), l = array_fill(7, ARRAY[3000])]]
   local more = [[source:on("change", function(c)
      local function short(r)
         return r and ("%s %s %s"):format(r.v, r.big and r.big:sub(1, 1) .. #r.big, r.l and #r.l)
      end
      io.stdout:write(("- %s %s: %s < %s %s\n"):format(c.op, c.key.id, short(c.row), short(c.old),
         c.unchanged and table.concat(c.unchanged, ",")))
   end)]]
   local function begin(state)
      return by_log.start(db, { source = { old = true, toast = "require" }, state = state,
         more = more })
   end
   local p = begin()
   watch.wait_ready(p)
   p:stop()
   db:exec "UPDATE t SET v = 'x' WHERE id = 1"
   db:exec "DELETE FROM t WHERE id = 1; UPDATE t SET v = 'y' WHERE id = 2"
   db:exec "UPDATE t SET id = 7 WHERE id = 2; UPDATE t SET big = 'b' WHERE id = 7"
   db:exec "UPDATE t SET v = 'z' WHERE id = 7"
   p = begin(p.state)
   for _, line in ipairs { "update 1: x a9000 3000 < v1 a9000 3000 nil",
      "delete 1: nil < x a9000 3000 nil", "update 2: y a9000 3000 < v2 a9000 3000 nil",
      "delete 2: nil < y a9000 3000 nil", "insert 7: y a9000 3000 < nil nil",
      "update 7: y b1 3000 < y a9000 3000 nil", "update 7: z b1 3000 < y b1 3000 nil" } do
      watch.wait_line(p, "^%- " .. line .. "$")
   end
   p:stop()
   db:exec "ALTER TABLE t ALTER COLUMN big TYPE text USING upper(big)"
   db:exec "UPDATE t SET v = 'u' WHERE id = 3"
   db:exec "DELETE FROM t WHERE id = 3"
   p = begin(p.state)
   watch.wait_line(p, "^%- delete 3:")
   lu.assertNotStrContains(table.concat(p:lines(), "\n"), "update 3: u a9000")
   p:stop()
end

-- What cannot be: nothing was kept.
function TestLogicalKept.test_refused()
   local db = by_log.database()
   for _, source in ipairs { { deletes = false }, { start = "now" } } do
      local result = program.run { dsn = db, options = { "--once" }, script = watch.script(
         tables.merge({ table = "t", capture = "logical", old = true }, source)) }
      lu.assertEquals(result.status, 3)
      lu.assertStrContains(result.stderr, "old = true needs old rows, which the log has only with")
   end
end

-- With a condition it is known whether a row was there.
function TestLogicalKept.test_where()
   local db = by_log.database()
   local p = start(db, nil, { where = "v <> 'no'" })
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'no' WHERE id = 1; UPDATE t SET v = 'yes' WHERE id = 1"
   db:exec "UPDATE t SET v = 'no' WHERE id = 2; UPDATE t SET v = 'no' WHERE id = 2"
   db:exec "DELETE FROM t WHERE id IN (2, 3); UPDATE t SET v = 'end' WHERE id = 1"
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 d1<v1 i1=yes d2<v2 d3<v3 u1=end<yes")
   p:stop()
end

-- The slot is gone: deletes since are found by what is kept.
function TestLogicalKept.test_a_lost_slot()
   local db = by_log.database()
   local p = start(db)
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'a' WHERE id = 1"
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 u1=a<v1")
   p:stop()
   by_log.drop_slots(db)
   db:exec "DELETE FROM t WHERE id = 2; UPDATE t SET v = 'b' WHERE id = 1"
   p = start(db, p.state)
   p:wait_stderr "deletes since then are found by the rows that are kept"
   p:wait_until(function()
      local words = by_log.words(p)
      return words:find "u1=b<a" and words:find "d2<v2"
   end, 20, "what has changed")
   db:exec "UPDATE t SET v = 'c' WHERE id = 1"
   p:wait_until(function() return by_log.words(p):find "u1=c<b$" end, 20, "the log")
   p:stop()
end

-- After TRUNCATE come deletes of all rows that are kept, where it stands in its transaction; also
-- of one that the program has slept through, and of rows that pass the condition only.
function TestLogicalKept.test_truncate()
   local db = by_log.database()
   local more = [[
      source:on("truncate", function(e) print("truncate " .. e.source) end)
      source:on("delete", function(c) print("-", c.xid, c.lsn, c.commit_ts, c.id) end)]]
   local function begin(state)
      return by_log.start(db, { source = { old = true, where = "v <> 'no'" }, state = state,
         more = more })
   end
   local p = begin()
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'no' WHERE id = 3"
   db:exec [[BEGIN; INSERT INTO t VALUES (4, 'x'); TRUNCATE t;
      INSERT INTO t VALUES (2, 'y'); UPDATE t SET v = 'z'; COMMIT]]
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 d3<v3 i4=x d1<v1 d2<v2 d4<x i2=y u2=z<y")
   p:stop()
   local xid = db:value "SELECT xmin FROM t"
   local told = watch.lines(p, "^%-\t" .. xid .. "\t%x+/%x+\t%d")
   lu.assertEquals(#told, 3)
   local lsn, id = told[1]:match "^%-\t%d+\t(%x+/%x+)\t.*\t(.*)$"
   lu.assertEquals(id, ("public.t/%s/1/%s.1/deleted"):format(xid, lsn))
   lu.assertEquals(#watch.lines(p, "^truncate public.t$"), 1)
   db:exec "INSERT INTO t VALUES (7, 'w')"
   db:exec "TRUNCATE t; INSERT INTO t VALUES (1, 'n')"
   db:exec "TRUNCATE t"
   p = begin(p.state)
   by_log.wait_words(p, "i7=w d2<z d7<w i1=n d1<n")
   p:stop()
   lu.assertNotStrContains(p:stderr(), "no deletes are told")
end

-- A program that is killed in the middle of them goes on; a mirror ends as the table is.
function TestLogicalKept.test_truncate_and_kills()
   local db, to = by_log.database "INSERT INTO t SELECT n, n FROM generate_series(4, 20000) n",
      by_log.cluster():database()
   local script = ([[
      local n = 0
      local source = pgcdc.source { table = "t", capture = "logical", old = true, interval = 0.5 }
      source:on("ready", function() print "ready" end)
      source:on("delete", function(c)
         n = n + 1
         if n %% 5000 == 0 then
            print("deletes", n)
         end
      end)
      source:sink(pgcdc.sinks.postgres { connect = %q, table = "copy" })]]):format(to:dsn())
   local p = program.start { dsn = db, script = script }
   watch.wait_ready(p)
   db:exec "INSERT INTO t SELECT n, n FROM generate_series(20001, 21000) n"
   db:exec [[BEGIN; UPDATE t SET v = 'u' WHERE id <= 100; TRUNCATE t;
      INSERT INTO t SELECT n, 'new' FROM generate_series(1, 12000) n WHERE n % 3 = 0; COMMIT]]
   for _, n in ipairs { 5000, 10000, 20000 } do
      watch.wait_line(p, "^deletes\t" .. n .. "$")
      p:kill9()
      p = program.start { dsn = db, script = script, state = p.state }
   end
   connected.wait_same(to, "SELECT id, v FROM copy ORDER BY id", db,
      "SELECT id, v FROM t ORDER BY id", 60, function() return p:stderr() end)
   p:stop()
end

-- Writers with savepoints, who change keys and long values, delete and insert, during the first
-- read and after it. Of each change the row before is the version before, nothing is unknown, and
-- a mirror, killed again and again, ends as the table is.
local transaction = [[
\set id random(1, 40)
\set kind random(1, 10)
BEGIN;
UPDATE w SET n = n + 1 WHERE id = :id;
\if :kind < 3
SAVEPOINT s;
UPDATE w SET n = n + 1, no = n + 1, big = repeat((n + 1) || ' ', 2000) WHERE id = :id;
\endif
\if :kind = 3
DELETE FROM w WHERE id = :id;
\endif
\if :kind = 4
INSERT INTO w VALUES (:id, 0, 0, repeat('0 ', 2000)) ON CONFLICT DO NOTHING;
\endif
\if :kind = 5
UPDATE w SET id = -id, n = n + 1 WHERE id = :id;
UPDATE w SET id = -id, n = n + 1 WHERE id = -:id;
\endif
UPDATE w SET n = n + 1 WHERE id = :id;
COMMIT;
]]

function TestLogicalKept.test_exact_under_writers()
   local db, to = by_log.database [[
      CREATE TABLE w (id int PRIMARY KEY, n int, no int, big text);
      ALTER TABLE w ALTER COLUMN big SET STORAGE EXTERNAL;
      INSERT INTO w SELECT i, 0, 0, repeat('0 ', 2000) FROM generate_series(1, 40) i;
      ALTER PUBLICATION pgcdc ADD TABLE w]], by_log.cluster():database()
   local script = ([[
      local n, moved = 0, nil
      local source = pgcdc.source { table = "w", capture = "logical", old = true, interval = 0.5 }
      source:on("ready", function() print "ready" end)
      source:on("change", function(c)
         local row, old = c.row, c.old
         n = n + 1
         if row and (not row.big or row.big ~= (row.no .. " "):rep(2000)) then
            print("wrong: no", row.no, row.big and row.big:match "%%d+", c)
         end
         if old and old.big ~= (old.no .. " "):rep(2000) then
            print("wrong: old.no", old.no, old.big and old.big:match "%%d+", c)
         end
         if c.lsn and c.op == "update" and (not old or old.n ~= row.n - 1) then
            print("wrong: n", old and old.n, row.n, c)
         elseif c.lsn and c.op == "delete" and not old then
            print("wrong: no old", c)
         end
         if n %% 100 == 0 then
            print("changes", n)
         end
      end)
      source:sink(pgcdc.sinks.postgres { connect = %q, table = "copy" })]]):format(to:dsn())
   local writer = pgbench.start_script(db, transaction, "-c", "3", "-T", "6", "--max-tries=100")
   local p = program.start { dsn = db, script = script }
   local lines = {}
   for _ = 1, 3 do
      watch.wait_line(p, "^changes\t%d+$")
      native.sleep(1)
      p:kill9()
      table.move(p:lines(), 1, #p:lines(), #lines + 1, lines)
      p = program.start { dsn = db, script = script, state = p.state }
   end
   pgbench.finish(writer, 60)
   local query = "SELECT id, n, no, md5(big) FROM %s ORDER BY id"
   connected.wait_same(to, query:format "copy", db, query:format "w", 30, function()
      return p:stderr()
   end)
   p:stop()
   table.move(p:lines(), 1, #p:lines(), #lines + 1, lines)
   for _, line in ipairs(lines) do
      lu.assertNil(line:match "^wrong", line)
   end
end

return TestLogicalKept
