-- logical_toast_test.lua: long values that an update left alone, which the log does not have.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local connected = require "connected"
local lu = require "luaunit"
local native = require "native"
local pgbench = require "pgbench"
local program = require "program"
local scope = require "scope"
local watch = require "watch"

local TestLogicalToast = {}

-- A database whose table t has long values, stored apart from the row.
local function database(more)
   return by_log.database([[ALTER TABLE t ADD COLUMN big text, ADD COLUMN l int[];
      ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL, ALTER COLUMN l SET STORAGE EXTERNAL;
      UPDATE t SET big = repeat('a', 9000), l = array_fill(7, ARRAY[3000]);]] .. (more or ""))
end

-- The changes that are no reads, as words: what is short, the first letter and the length of big,
-- whether l is there, what is unchanged.
local function start(db, source, state)
   return by_log.start(db, { source = source, state = state, more = [[
      source:on("change", function(c)
         if c.op ~= "read" then
            local row = c.row or {}
            local big, l = row.big, row.l
            io.stdout:write(("- %s %s=%s big=%s l=%s unchanged=%s\n"):format(c.op, c.key.id,
               tostring(row.v), big and big:sub(1, 1) .. #big or "nil", tostring(l and #l),
               c.unchanged and table.concat(c.unchanged, ",") or "nil"))
         end
      end)]] })
end

local function told(p)
   local list = {}
   for _, line in ipairs(p:lines()) do
      list[#list + 1] = line:match "^%- (.*)"
   end
   return table.concat(list, "\n")
end

local function wait_told(p, expected)
   local text = table.concat(expected, "\n")
   local ok = pcall(p.wait_until, p, function() return told(p) == text end, 20, text)
   if not ok then
      lu.assertEquals(told(p), text)
   end
end

-- By a query, where the row is still what the change wrote; all of a row in a transaction.
function TestLogicalToast.test_fill_by_key()
   local db = database()
   local p = start(db)
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'x' WHERE id = 1"
   wait_told(p, { "update 1=x big=a9000 l=3000 unchanged=nil" })
   db:exec "BEGIN; UPDATE t SET v = 'y' WHERE id = 2; UPDATE t SET v = 'z' WHERE id = 2; COMMIT"
   wait_told(p, { "update 1=x big=a9000 l=3000 unchanged=nil",
      "update 2=y big=a9000 l=3000 unchanged=nil", "update 2=z big=a9000 l=3000 unchanged=nil" })
   p:stop()
end

-- Never a value of the future: what another transaction, or a later change of the same one, has
-- set is not what the row had.
function TestLogicalToast.test_never_of_the_future()
   local db = database()
   local p = start(db)
   watch.wait_ready(p)
   p:stop()
   db:exec "UPDATE t SET v = 'x' WHERE id = 1"
   db:exec "UPDATE t SET big = repeat('b', 9000), l = NULL WHERE id = 1"
   db:exec [[BEGIN; UPDATE t SET v = 'y' WHERE id = 2; UPDATE t SET big = repeat('c', 8000), v = 'z'
      WHERE id = 2; UPDATE t SET v = 'w' WHERE id = 2; COMMIT]]
   db:exec "UPDATE t SET v = 'x' WHERE id = 3"
   db:exec "DELETE FROM t WHERE id = 3"
   db:exec "INSERT INTO t VALUES (3, 'n', repeat('d', 7000), '{1}')"
   db:exec "UPDATE t SET v = 'm' WHERE id = 3"
   p = start(db, {}, p.state)
   wait_told(p, {
      "update 1=x big=nil l=nil unchanged=big,l",
      "update 1=x big=b9000 l=nil unchanged=nil",
      "update 2=y big=nil l=3000 unchanged=big",
      "update 2=z big=c8000 l=3000 unchanged=nil",
      "update 2=w big=c8000 l=3000 unchanged=nil",
      "update 3=x big=nil l=nil unchanged=big,l",
      "delete 3=nil big=nil l=nil unchanged=nil",
      "insert 3=n big=d7000 l=1 unchanged=nil",
      "update 3=m big=d7000 l=1 unchanged=nil",
   })
   lu.assertStrContains(table.concat(p:lines(), "\n"),
      '"op":"update","schema":"public","table":"t","key":{"id":1},"row":{"id":1,"v":"x"},"xid"')
   p:stop()
end

-- What is there was written by a savepoint, or by later changes that left the value as it was: the
-- log says that nothing else came.
function TestLogicalToast.test_fill_by_the_log_beyond()
   local db = database()
   local p = start(db)
   watch.wait_ready(p)
   db:exec "BEGIN; SAVEPOINT s; UPDATE t SET v = 'x' WHERE id = 1; COMMIT"
   wait_told(p, { "update 1=x big=a9000 l=3000 unchanged=nil" })
   db:exec "BEGIN; SAVEPOINT s; UPDATE t SET v = 'y', l = NULL WHERE id = 1; COMMIT"
   db:exec "BEGIN; SAVEPOINT s; UPDATE t SET id = 5 WHERE id = 2; COMMIT"
   wait_told(p, { "update 1=x big=a9000 l=3000 unchanged=nil",
      "update 1=y big=a9000 l=nil unchanged=nil", "delete 2=nil big=nil l=nil unchanged=nil",
      "insert 5=v2 big=a9000 l=3000 unchanged=nil" })
   p:stop()
end

-- Between a change that lacks values, and what a query finds, stand changes that are not in the
-- same batch, since another transaction ends that.
local between = "INSERT INTO t (id, big) VALUES (100, repeat('x', 4300000))"

local function told_beyond(setup, ...)
   local db = database(setup)
   local p = start(db)
   watch.wait_ready(p)
   p:stop()
   for _, sql in ipairs { ... } do
      db:exec(sql)
   end
   p = start(db, {}, p.state)
   p:wait_until(function() return told(p):find "update 3=end" end, 20, "the last change")
   p:stop()
   return (told(p):gsub("insert 100=[^\n]*\n", ""):gsub("\nupdate 3=end.*", ""))
end

function TestLogicalToast.test_the_log_beyond_has_other_changes()
   local nested = "BEGIN; SAVEPOINT s; UPDATE t SET v = 'x' WHERE id = 1; COMMIT"
   local last = "UPDATE t SET v = 'end', big = NULL, l = NULL WHERE id = 3"
   local unknown = "update 1=x big=nil l=nil unchanged=big,l"
   lu.assertEquals(told_beyond("", nested, between, "UPDATE t SET v = 'y' WHERE id = 1", last),
      "update 1=x big=a9000 l=3000 unchanged=nil\nupdate 1=y big=a9000 l=3000 unchanged=nil")
   lu.assertEquals(told_beyond("", nested, between,
      "UPDATE t SET big = repeat('b', 9000) WHERE id = 1", last),
      "update 1=x big=nil l=3000 unchanged=big\nupdate 1=x big=b9000 l=3000 unchanged=nil")
   for _, sql in ipairs {
      "DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 'n', repeat('c', 8000), '{1}')",
      "UPDATE t SET id = 7 WHERE id = 1; UPDATE t SET id = 1, big = repeat('c', 8000) WHERE id = 2",
      "TRUNCATE t; INSERT INTO t VALUES (1, 'n'), (3, 'm')",
   } do
      local text = told_beyond("", nested, between, sql, last)
      lu.assertEquals(text:match "^[^\n]*", unknown, text)
   end
end

function TestLogicalToast.test_finds_out_who_does_not_look_ahead()
   by_log.with_mutant("ahead_blind", function()
      lu.assertStrMatches(told_beyond("", "BEGIN; SAVEPOINT s; UPDATE t SET v = 'x' WHERE id = 1;"
         .. " COMMIT", between, "UPDATE t SET big = repeat('b', 9000) WHERE id = 1",
         "UPDATE t SET v = 'end', big = NULL, l = NULL WHERE id = 3"), "update 1=x big=b9000 .*")
   end)
end

-- What an ALTER TABLE made of the rows is not in the log.
function TestLogicalToast.test_the_table_was_altered()
   local last = "UPDATE t SET v = 'end', big = NULL, l = NULL WHERE id = 3"
   local upper = "ALTER TABLE t ALTER COLUMN big TYPE text USING upper(big)"
   for update, alter in pairs {
      ["BEGIN; SAVEPOINT s; UPDATE t SET v = 'x' WHERE id = 1; COMMIT"] = upper,
      ["UPDATE t SET v = 'x' WHERE id = 1"] = [[ALTER TABLE t DROP COLUMN big;
         ALTER TABLE t ADD COLUMN big text DEFAULT 'new']],
   } do
      lu.assertEquals((told_beyond("", update, alter, last):gsub("l,big", "big,l")),
         "update 1=x big=nil l=nil unchanged=big,l")
   end
   -- nor is the value of a change that came before
   local text = told_beyond("", "UPDATE t SET big = repeat('b', 9000) WHERE id = 1", upper,
      "UPDATE t SET v = 'x' WHERE id = 1", last)
   lu.assertEquals((text:gsub(" l=[^\n]*", "")), "update 1=v1 big=b9000\nupdate 1=x big=B9000")
end

-- The log has the row before.
function TestLogicalToast.test_full()
   local db = database "ALTER TABLE t REPLICA IDENTITY FULL"
   local p = start(db, { toast = "require" })
   watch.wait_ready(p)
   p:stop()
   db:exec "UPDATE t SET v = 'x' WHERE id = 1"
   db:exec "UPDATE t SET big = repeat('b', 9000) WHERE id = 1"
   p = start(db, { toast = "require" }, p.state)
   wait_told(p, { "update 1=x big=a9000 l=3000 unchanged=nil",
      "update 1=x big=b9000 l=3000 unchanged=nil" })
   p:stop()
end

function TestLogicalToast.test_leave()
   local db = database()
   local p = start(db, { toast = "leave" })
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'x' WHERE id = 1"
   wait_told(p, { "update 1=x big=nil l=nil unchanged=big,l" })
   p:stop()
end

function TestLogicalToast.test_require()
   local db = database()
   local result = program.run { dsn = db, options = { "--once" },
      script = watch.script { table = "t", capture = "logical", toast = "require" } }
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, [[toast = \"require\" needs old rows, which the log has]]
      .. " only with ALTER TABLE public.t REPLICA IDENTITY FULL")
end

-- ---- mirrors ----

local function mirror_script(to, source, more)
   return ([[
      local source = pgcdc.source { table = "t", capture = "logical", interval = 0.5, %s }
      source:on("ready", function() print "ready" end)
      source%s:sink(pgcdc.sinks.postgres { connect = %q, table = "copy" })]]):format(source,
      more or "", to:dsn())
end

local all = "SELECT id, v, left(big, 1), length(big), cardinality(l) FROM %s ORDER BY id"

local function wait_same(p, db, to)
   connected.wait_same(to, all:format "copy", db, all:format "t", 20, function()
      return p:stderr()
   end)
end

-- Rows that lack values, those of the same keys that do not, and deletes, in the order in which
-- they came, in one transaction of the target and in several.
function TestLogicalToast.test_mirrors_leave_columns_alone()
   for _, toast in ipairs { "leave", "fill" } do
      local db, to = database(), by_log.cluster():database()
      local script = mirror_script(to, ("toast = %q"):format(toast))
      local p = program.start { dsn = db, script = script }
      watch.wait_ready(p)
      db:exec "UPDATE t SET v = 'x' WHERE id = 1"
      wait_same(p, db, to)
      p:stop()
      for _, sql in ipairs {
         "UPDATE t SET v = 'y' WHERE id = 1", "UPDATE t SET big = repeat('b', 9000) WHERE id = 1",
         "UPDATE t SET v = 'z' WHERE id = 1", "UPDATE t SET l = NULL WHERE id = 1",
         "UPDATE t SET v = 'w' WHERE id = 1", "UPDATE t SET v = 'p' WHERE id = 2",
         "DELETE FROM t WHERE id = 2", "UPDATE t SET v = 'q' WHERE id = 3",
         "INSERT INTO t VALUES (2, 'again', repeat('c', 8000), array_fill(8, ARRAY[2000]))",
         "UPDATE t SET v = 'and again' WHERE id = 2",
         toast == "fill" and "UPDATE t SET id = 4 WHERE id = 3" or "SELECT",
         "UPDATE t SET v = 'r' WHERE id = 4", "UPDATE t SET v = NULL",
         "UPDATE t SET big = repeat('e', 7000) WHERE id = 2",
      } do
         db:exec(sql)
      end
      p = program.start { dsn = db, script = script, state = p.state }
      watch.wait_ready(p)
      wait_same(p, db, to)
      p:stop()
      lu.assertNil(p:stderr():find "level=error")
   end
end

-- A row that the target does not have, and one for a target with fixed columns.
function TestLogicalToast.test_targets_that_cannot()
   local db, to = database(), by_log.cluster():database()
   local script = mirror_script(to, [[toast = "leave", start = "now"]])
   local p = program.start { dsn = db, script = script }
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'x' WHERE id = 1"
   p:wait_stderr "1 rows are not in the table, and the values of their column .*big.* are not"
   lu.assertEquals(p:finish().status, 1)
   p = program.start { dsn = db, script = ([[
      local source = pgcdc.source { table = "t", capture = "logical", toast = "leave",
         interval = 0.5 }
      source:on("ready", function() print "ready" end)
      source:sink(pgcdc.sinks.csv { path = %q })]]):format(scope.dir "csv" .. "/out.csv") }
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'y' WHERE id = 1"
   p:wait_stderr "the value of column .*big.* is not known"
   lu.assertEquals(p:finish().status, 1)
end

-- Writers with savepoints, who change the long value or leave it, delete and insert. Each value
-- that is told is the one that the row had: another column has its number. A mirror, killed again
-- and again, ends as the table is.
local transaction = [[
\set id random(1, 12)
\set kind random(1, 10)
BEGIN;
UPDATE w SET n = n + 1 WHERE id = :id;
\if :kind < 3
SAVEPOINT s;
UPDATE w SET no = n, big = repeat(n || ' ', 3000) WHERE id = :id;
\endif
\if :kind = 3
DELETE FROM w WHERE id = :id;
\endif
\if :kind = 4
INSERT INTO w VALUES (:id, 0, 0, repeat('0 ', 3000)) ON CONFLICT DO NOTHING;
\endif
UPDATE w SET n = n + 1 WHERE id = :id;
COMMIT;
]]

function TestLogicalToast.test_exact_under_writers()
   local db, to = by_log.database [[
      CREATE TABLE w (id int PRIMARY KEY, n int, no int, big text);
      ALTER TABLE w ALTER COLUMN big SET STORAGE EXTERNAL;
      INSERT INTO w SELECT i, 0, 0, repeat('0 ', 3000) FROM generate_series(1, 12) i;
      ALTER PUBLICATION pgcdc ADD TABLE w]], by_log.cluster():database()
   local script = ([[
      local n, known = 0, 0
      local source = pgcdc.source { table = "w", capture = "logical", interval = 0.5 }
      source:on("ready", function() print "ready" end)
      source:on("change", function(c)
         if c.op == "delete" then
            return
         end
         local big = c.row.big
         if big and big ~= (c.row.no .. " "):rep(3000) then
            print(("wrong: %%s has %%s"):format(c, big:match "%%d+"))
         elseif not big and (not c.unchanged or c.unchanged[1] ~= "big") then
            print("not told: " .. tostring(c))
         end
         n, known = n + 1, known + (big and 1 or 0)
         if n %% 50 == 0 then
            print(("known %%d of %%d"):format(known, n))
         end
      end)
      source:sink(pgcdc.sinks.postgres { connect = %q, table = "copy" })]]):format(to:dsn())
   local p = program.start { dsn = db, script = script }
   watch.wait_ready(p)
   local writer = pgbench.start_script(db, transaction, "-c", "3", "-T", "4", "--max-tries=100")
   local lines, known = {}, nil
   for _ = 1, 2 do
      native.sleep(1.5)
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
      lu.assertNil(line:match "^wrong" or line:match "^not told", line)
      known = line:match "^known.*" or known
   end
   io.write(tostring(known), " ... ")
end

return TestLogicalToast
