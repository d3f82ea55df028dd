-- deletes_test.lua: deletes = true: rows that are gone, inserts told from updates, rows before.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local deletes = require "deletes"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local program = require "program"

local TestDeletes = {}

local new_state, run, ops, sorted = fixtures.state, deletes.run, deletes.ops, deletes.sorted
local database = fixtures.database

-- A function that runs the script once more, and returns the result.
local function runner(db, script)
   local state = new_state()
   return function()
      return program.run { script = script, dsn = db, state = state, options = { "--once" } }
   end
end

-- Ops: inserts, updates and deletes are told apart, a row deleted and inserted again is updated, a
-- changed key is a delete and an insert; deletes come first, so that what is unique stays so.
function TestDeletes.test_inserts_updates_and_deletes_are_told_apart()
   local db = database [[
      CREATE TABLE t (id bigint PRIMARY KEY, name text UNIQUE);
      INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, 9) i]]
   local state = new_state()
   lu.assertEquals(#run(db, 'table = "t"', state), 9)
   lu.assertEquals(run(db, 'table = "t"', state), {})
   db:exec [[
      UPDATE t SET name = 'other' WHERE id = 1;
      DELETE FROM t WHERE id = 2;
      INSERT INTO t VALUES (20, 'n2');
      DELETE FROM t WHERE id = 3;
      INSERT INTO t VALUES (3, 'n3');
      UPDATE t SET id = 40 WHERE id = 4]]
   local changes = run(db, 'table = "t"', state)
   local list = ops(changes)
   lu.assertEquals(sorted { list[1], list[2] }, { "delete 2", "delete 4" })
   lu.assertEquals(sorted(list),
      { "delete 2", "delete 4", "insert 20", "insert 40", "update 1", "update 3" })
   local gone = changes[1]
   lu.assertEquals(json.keys(gone), { "op", "schema", "table", "key", "row", "xid", "seq", "ts",
      "id" })
   lu.assertEquals(gone.row, json.null)
   lu.assertStrContains(gone.id, "/deleted")
   lu.assertEquals(run(db, 'table = "t"', state), {})
end

-- Many at once, so that many buckets lack more than one row and their keys are asked for: the
-- deletes still come before the inserts that take their place, and empty ones are told at once.
function TestDeletes.test_many_deletes_come_before_what_takes_their_place()
   local db = database [[
      CREATE TABLE t (id bigint PRIMARY KEY, name text UNIQUE);
      INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, 40000) i]]
   local state = new_state()
   lu.assertEquals(#run(db, 'table = "t"', state), 40000)
   db:exec [[
      DELETE FROM t WHERE id % 2 = 0;
      INSERT INTO t SELECT i + 100000, 'n' || i FROM generate_series(2, 10000, 2) i]]
   local changes = run(db, 'table = "t"', state)
   lu.assertEquals(#changes, 25000)
   for i, change in ipairs(changes) do
      lu.assertEquals(change.op, i <= 20000 and "delete" or "insert")
      lu.assertEquals(i <= 20000 and change.key.id % 2 or 0, 0)
   end
   lu.assertEquals(run(db, 'table = "t"', state), {})
end

-- One or two rows that are gone of those that are counted together are known by their hashes, so
-- the keys are not read; of three they are. The scan that counts them does for the poll as well if
-- no row is new.
function TestDeletes.test_few_deletes_are_known_without_keys()
   local db = database [[
      CREATE TABLE few (id bigint PRIMARY KEY);
      INSERT INTO few SELECT generate_series(1, 20000);
      DO $$ BEGIN
         EXECUTE format('ALTER DATABASE %I SET log_statement = "all"', current_database());
      END $$]]
   local fields, state = 'table = "few"', new_state()
   run(db, fields, state)
   run(db, fields, state)
   local function look(sql, scans)
      local expected = {}
      for id in db:value(("WITH d AS (%s RETURNING id) SELECT string_agg(id::text, ' ') FROM d")
         :format(sql)):gmatch "%d+" do
         expected[#expected + 1] = "delete " .. id
      end
      local before = #cluster.main():log()
      lu.assertEquals(sorted(ops(run(db, fields, state))), sorted(expected))
      local _, n = cluster.main():log():sub(before + 1):gsub('COPY %(SELECT [^\n]*"few"', "")
      lu.assertEquals(n, scans)
   end
   local of_bucket = [[DELETE FROM few WHERE id IN (SELECT id FROM few
      WHERE hashint8extended(id, 0) >> 56 = %d ORDER BY id LIMIT %d)]]
   look(of_bucket:format(17, 1), 1)
   look([[DELETE FROM few WHERE hashint8extended(id, 0) >> 50 = (SELECT hashint8extended(id, 0)
      >> 50 FROM few GROUP BY 1 HAVING count(*) = 2 ORDER BY 1 LIMIT 1)]], 1)
   look([[DELETE FROM few WHERE id IN
      (SELECT min(id) FROM few GROUP BY hashint8extended(id, 0) >> 57)]], 1)
   look(of_bucket:format(99, 3), 2)
   db:exec "INSERT INTO few VALUES (-1)" -- it is new, so that the poll is to be sent as well
   local changes = run(db, fields, state)
   lu.assertEquals(ops(changes), { "insert -1" })
   look(of_bucket:format(3, 1), 1)
end

-- A running program finds what is gone in its next poll, or, with an interval, when it is due.
function TestDeletes.test_found_while_it_runs()
   local db = database "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)"
   local p = program.start {
      script = [[
         pgcdc.source {table = "t", deletes = true, interval = 0.05, on_change = print}
         pgcdc.source {table = "t", name = "slow", deletes = {interval = 1000}, interval = 0.05,
            on_change = function(c) print("slow", c.op, c.key.id) end}
            :on("ready", function() print "slow ready" end)]],
      dsn = db, state = new_state(),
   }
   p:wait_changes(3)
   p:wait_until(function() return p:stdout():find "slow ready" end, 20, "both snapshots")
   db:exec "INSERT INTO t VALUES (4)" -- so that both have looked for the first time
   p:wait_changes(4)
   p:wait_until(function() return p:stdout():find "slow\tinsert\t4" end, 20, "the first poll")
   db:exec "DELETE FROM t WHERE id = 2"
   p:wait_changes(5)
   db:exec "INSERT INTO t VALUES (2); DELETE FROM t WHERE id = 1"
   p:wait_changes(7)
   p:wait_until(function()
      return p:stdout():find "slow\tupdate\t2" or p:stdout():find "slow\tinsert\t2"
   end, 10, "the insert")
   lu.assertNil(p:stdout():find "slow\tdelete")
   local list = ops(p:changes())
   lu.assertEquals({ list[5], list[6], list[7] }, { "delete 2", "delete 1", "insert 2" })
   lu.assertEquals(p:stop().status, 0)
end

-- TRUNCATE: an event, then a delete for each row; a table that is filled again meanwhile has only
-- deletes and updates. VACUUM FULL moves rows to other files: nothing happened.
function TestDeletes.test_truncate()
   local db = database [[
      CREATE TABLE t (id bigint PRIMARY KEY, v text);
      INSERT INTO t SELECT i, 'v' FROM generate_series(1, 5000) i]]
   local script = [[
      local s = pgcdc.source {deletes = true, table = "t", on_change = print}
      s:on("truncate", function(e) print("truncate", e.source) end)
      s:on("batch", function(e) print("batch", e.count) end)]]
   local again = runner(db, script)
   lu.assertEquals(#again().changes, 5000)
   db:exec "VACUUM FULL t"
   lu.assertEquals(again().stdout, "")
   db:exec "TRUNCATE t"
   local result = again()
   lu.assertEquals(result.lines[1], "truncate\tpublic.t")
   lu.assertEquals(#result.changes, 5000)
   lu.assertEquals(result.lines[5002], "batch\t5000")
   lu.assertEquals(#result.lines, 5002)
   lu.assertEquals(again().stdout, "")
   db:exec "INSERT INTO t VALUES (1, 'w'), (2, 'w')"
   lu.assertEquals(ops(again().changes), { "insert 1", "insert 2" })
   db:exec "TRUNCATE t; INSERT INTO t VALUES (2, 'x')"
   result = again()
   lu.assertNil(result.stdout:find "truncate")
   lu.assertEquals(ops(result.changes), { "delete 1", "update 2" })
end

-- old = true: the row before, in updates and deletes, also after a restart; which columns differ.
function TestDeletes.test_old_rows()
   local db = database [[
      CREATE TABLE t (id int PRIMARY KEY, a text, b numeric, doc jsonb);
      INSERT INTO t VALUES (1, 'x', 1.50, '{"k": [1, 2]}'), (2, NULL, 2, NULL)]]
   local script = [[
      pgcdc.source {deletes = true, old = true, table = "t", on_change = function(c)
         print(c)
         print(c.op, c.old and tostring(c.old) or "-", c.changed and table.concat(c.changed, " "))
         local names = {}
         for name in pairs(c) do names[#names + 1] = name end
         print(table.concat(names, " "))
         if c.old then
            c.old.a = "mine"
            print(c)
         end
      end}]]
   local again = runner(db, script)
   local first = again()
   lu.assertEquals(#first.changes, 2)
   lu.assertNil(first.changes[1].old)
   lu.assertEquals(first.lines[2], "read\t-\tnil")
   db:exec "UPDATE t SET a = 'y', b = 1.5 WHERE id = 1; DELETE FROM t WHERE id = 2"
   local result = again()
   local gone, _, update, mine = table.unpack(result.changes)
   lu.assertEquals(gone.op, "delete")
   lu.assertEquals(json.keys(gone), { "op", "schema", "table", "key", "row", "old", "xid", "seq",
      "ts", "id" })
   lu.assertEquals(gone.row, json.null)
   lu.assertStrContains(result.lines[1], '"row":null,"old":{"id":2,"a":null,"b":2,"doc":null}')
   lu.assertEquals(json.keys(update), { "op", "schema", "table", "key", "row", "old", "xid", "seq",
      "ts", "id" })
   lu.assertStrContains(result.lines[5],
      '"old":{"id":1,"a":"x","b":1.50,"doc":{"k": [1, 2]}}')
   lu.assertEquals(mine.old.a, "mine")
   lu.assertEquals(result.lines[2], 'delete\t{"id":2,"a":null,"b":2,"doc":null}\tnil')
   lu.assertEquals(result.lines[3], "op schema table source key old xid seq ts id")
   lu.assertEquals(result.lines[6],
      'update\t{"id":1,"a":"x","b":1.50,"doc":{"k": [1, 2]}}\ta b')
   lu.assertEquals(result.lines[7], "op schema table source key row old xid seq ts id")
end

-- A kept row was read by the names of its columns alone, with a newline after each: `old` of a
-- column that had been text and was a number now came as {"v":hello}, which is no JSON, and
-- a newline in a name gave each later column the value of the one before it.
function TestDeletes.test_old_row_of_other_columns()
   local db = database('CREATE TABLE t (id int PRIMARY KEY, "new\nline" text, "a\tb\\" text, '
      .. "v text, n int); INSERT INTO t VALUES (1, 'one', 'two', 'hello', 4), "
      .. "(2, 'one', 'two', 'hello', 4)")
   local state = new_state()
   local function old_of(sql)
      db:exec(sql)
      local result = program.run { dsn = db, state = state, options = { "--once" }, script = [[
         pgcdc.source {table = "t", deletes = true, old = true, on_change = print}]] }
      lu.assertEquals(result.status, 0, result.stderr)
      return #result.lines > 0 and result.changes[1].old
   end
   old_of ""
   lu.assertEquals(old_of "ALTER TABLE t ALTER v TYPE int USING 7, ALTER n TYPE bigint",
      { id = 1, ["new\nline"] = "one", ["a\tb\\"] = "two", v = json.null, n = 4 })
   lu.assertEquals(old_of 'ALTER TABLE t DROP "new\nline"; DELETE FROM t WHERE id = 2',
      { id = 2, ["a\tb\\"] = "two", v = 7, n = 4 })
end

-- skip_unchanged: an update that changes nothing, and an ALTER TABLE that rewrites the table and
-- leaves the columns as they were, go unheard; what follows is an update all the same.
function TestDeletes.test_skip_unchanged()
   local db = database [[
      CREATE TABLE t (id int PRIMARY KEY, a int);
      INSERT INTO t SELECT i, i FROM generate_series(1, 100) i]]
   local fields, state = 'table = "t", skip_unchanged = true', new_state()
   lu.assertEquals(#run(db, fields, state), 100)
   db:exec "UPDATE t SET a = a; UPDATE t SET a = 0 WHERE id = 7"
   lu.assertEquals(ops(run(db, fields, state)), { "update 7" })
   db:exec "ALTER TABLE t ALTER COLUMN a TYPE bigint"
   lu.assertEquals(run(db, fields, state), {})
   db:exec "UPDATE t SET a = 1 WHERE id = 8"
   lu.assertEquals(ops(run(db, fields, state)), { "update 8" })
   db:exec "UPDATE t SET a = a WHERE id = 9"
   lu.assertEquals(ops(run(db, 'table = "t"', state)), { "update 9" })
end

-- With soft_delete as well, a row that was told to be gone is not told again when it is removed,
-- and one that comes back is an insert.
function TestDeletes.test_soft_delete()
   local db = database [[
      CREATE TABLE t (id int PRIMARY KEY, gone_at timestamptz);
      INSERT INTO t VALUES (1), (2), (3)]]
   local fields, state = 'table = "t", soft_delete = "gone_at"', new_state()
   lu.assertEquals(#run(db, fields, state), 3)
   db:exec "UPDATE t SET gone_at = now() WHERE id < 3"
   local changes = run(db, fields, state)
   lu.assertEquals(sorted(ops(changes)), { "delete 1", "delete 2" })
   lu.assertNotEquals(changes[1].row, json.null)
   db:exec "DELETE FROM t WHERE id = 1; UPDATE t SET gone_at = NULL WHERE id = 2"
   lu.assertEquals(ops(run(db, fields, state)), { "insert 2" })
   db:exec "DELETE FROM t"
   lu.assertEquals(sorted(ops(run(db, fields, state))), { "delete 2", "delete 3" })
end

-- where: a row that has left it is gone, one that comes back is an insert.
function TestDeletes.test_a_row_that_leaves_where_is_gone()
   local db = database [[
      CREATE TABLE t (id int PRIMARY KEY, open boolean);
      INSERT INTO t VALUES (1, true), (2, true), (3, false)]]
   local fields, state = 'table = "t", where = "open"', new_state()
   lu.assertEquals(sorted(ops(run(db, fields, state))), { "read 1", "read 2" })
   db:exec "UPDATE t SET open = NOT open"
   lu.assertEquals(sorted(ops(run(db, fields, state))), { "delete 1", "delete 2", "insert 3" })
   db:exec "UPDATE t SET open = true WHERE id = 1; DELETE FROM t WHERE id = 2"
   lu.assertEquals(ops(run(db, fields, state)), { "insert 1" })
end

-- The rows of a partition that is detached or dropped are gone, those of one that is attached are
-- there; a row that moves to another partition is updated.
function TestDeletes.test_partitions()
   local db = database [[
      CREATE TABLE t (id int, part int, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
      CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
      CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2);
      CREATE TABLE t3 PARTITION OF t FOR VALUES IN (3);
      CREATE TABLE t4 (id int, part int, PRIMARY KEY (id, part));
      INSERT INTO t4 VALUES (8, 4);
      INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)]]
   local fields, state = 'table = "t", pk = "id"', new_state()
   lu.assertEquals(#run(db, fields, state), 3)
   db:exec "ALTER TABLE t DETACH PARTITION t2; ALTER TABLE t ATTACH PARTITION t4 FOR VALUES IN (4)"
   local list = ops(run(db, fields, state))
   lu.assertEquals(list[1], "delete 2")
   lu.assertEquals(list[2]:match "%d", "8")
   db:exec "UPDATE t SET part = 1 WHERE id = 8; DROP TABLE t3"
   lu.assertEquals(ops(run(db, fields, state)), { "delete 3", "update 8" })
   lu.assertEquals(run(db, fields, state), {})
end

-- deletes = true on a position that was kept without it, and on one that begins now: what is there
-- is learned, and is no insert when it is updated.
function TestDeletes.test_learns_what_is_there()
   local db = database [[
      CREATE TABLE t (id int PRIMARY KEY, v int);
      INSERT INTO t SELECT i, 0 FROM generate_series(1, 20000) i]]
   local state, from_now = new_state(), new_state()
   local plain = 'pgcdc.source {table = "t", on_change = print}'
   local function without()
      return program.run { script = plain, dsn = db, state = state, options = { "--once" } }.changes
   end
   lu.assertEquals(#without(), 20000)
   lu.assertEquals(run(db, 'table = "t", start = "now"', from_now), {})
   local writes = "UPDATE t SET v = v + 1 WHERE id = %d; DELETE FROM t WHERE id = %d"
   db:exec(writes:format(1, 2))
   lu.assertEquals(ops(run(db, 'table = "t"', from_now)), { "delete 2", "update 1" })
   lu.assertEquals(ops(run(db, 'table = "t"', state)), { "upsert 1" }) -- there is no telling
   db:exec(writes:format(3, 4))
   lu.assertEquals(ops(run(db, 'table = "t"', state)), { "delete 4", "update 3" })
   lu.assertEquals(run(db, 'table = "t"', state), {})
   db:exec(writes:format(5, 6)) -- and on again, after a time without
   lu.assertEquals(ops(without()), { "upsert 5" })
   lu.assertEquals(run(db, 'table = "t"', state), {})
   db:exec(writes:format(7, 8))
   lu.assertEquals(ops(run(db, 'table = "t"', state)), { "delete 8", "update 7" })
end

-- A table that is read again from its start, since it was dropped and created again: only what is
-- different is told.
function TestDeletes.test_read_again_gives_differences()
   local db = database [[
      CREATE TABLE t (id int PRIMARY KEY, v int);
      INSERT INTO t SELECT i, 0 FROM generate_series(1, 1000) i]]
   local state = new_state()
   lu.assertEquals(#run(db, 'table = "t", old = true', state), 1000)
   db:exec [[
      CREATE TABLE other AS TABLE t;
      DROP TABLE t;
      ALTER TABLE other RENAME TO t;
      ALTER TABLE t ADD PRIMARY KEY (id);
      UPDATE t SET v = 1 WHERE id = 5;
      DELETE FROM t WHERE id = 6;
      INSERT INTO t VALUES (2000, 0)]]
   local changes = run(db, 'table = "t", old = true', state)
   lu.assertEquals(sorted(ops(changes)), { "delete 6", "insert 2000", "update 5" })
   for _, change in ipairs(changes) do
      lu.assertEquals(change.old ~= nil, change.op ~= "insert")
   end
   lu.assertEquals(run(db, 'table = "t", old = true', state), {})
end

-- Columns that come, go and change places: the row before is read by their names.
function TestDeletes.test_old_rows_outlive_their_columns()
   local db = database [[
      CREATE TABLE t (a text, gone int, id int PRIMARY KEY, b text);
      INSERT INTO t VALUES ('a', 1, 1, 'b'), ('c', 2, 2, 'd'), ('e', 3, 3, 'f')]]
   local fields, state = 'table = "t", old = true', new_state()
   lu.assertEquals(#run(db, fields, state), 3)
   db:exec [[
      ALTER TABLE t DROP COLUMN gone;
      ALTER TABLE t ADD COLUMN new int;
      UPDATE t SET b = 'B', new = 7 WHERE id = 1;
      DELETE FROM t WHERE id = 2]]
   local gone, update = table.unpack((run(db, fields, state)))
   lu.assertEquals(gone.old, { a = "c", id = 2, b = "d", new = json.null })
   lu.assertEquals(update.old, { a = "a", id = 1, b = "b", new = json.null })
   lu.assertEquals(update.row, { a = "a", id = 1, b = "B", new = 7 })
   db:exec "UPDATE t SET new = 8; ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (a)"
   local list = ops(run(db, fields, state)) -- of another key nothing is known: all is read again
   lu.assertEquals(sorted(list), { "read a", "read e" })
   db:exec "DELETE FROM t WHERE a = 'e'"
   lu.assertEquals(ops(run(db, fields, state)), { "delete e" })
end

-- Streams that give changes other columns do so with the row before as well, and pass deletes on.
function TestDeletes.test_reshaped()
   local db = database [[
      CREATE TABLE t (id int PRIMARY KEY, name text, secret text);
      INSERT INTO t VALUES (1, 'a', 'x'), (2, 'b', 'y')]]
   local script = [[
      pgcdc.source {table = "t", deletes = true, old = true}
         :rename {name = "title"}:drop {"secret"}
         :sink(function(c) print(c) print(c.changed and table.concat(c.changed, " ")) end)]]
   local again = runner(db, script)
   local first = again()
   lu.assertEquals(#first.changes, 2, first.stderr)
   db:exec "UPDATE t SET name = 'c', secret = 'z' WHERE id = 1; DELETE FROM t WHERE id = 2"
   local result = again()
   local gone, update = table.unpack(result.changes)
   lu.assertEquals({ gone.op, gone.row, gone.old },
      { "delete", json.null, { id = 2, title = "b" } })
   lu.assertStrContains(gone.id, "/deleted")
   lu.assertEquals({ update.op, update.row, update.old },
      { "update", { id = 1, title = "c" }, { id = 1, title = "a" } })
   lu.assertEquals(result.lines[4], "title")
end

-- What needs deletes says so; so does what is no option of it.
function TestDeletes.test_misuse()
   for _, case in ipairs {
      { "old = true", "old = true needs deletes = true" },
      { "skip_unchanged = true", "skip_unchanged = true needs deletes = true" },
      { "deletes = 5", "deletes must be" },
      { "deletes = {intervall = 5}", "interval" },
      { "deletes = {interval = 0}", "deletes.interval" },
   } do
      local result = program.run {
         script = ('pgcdc.source {table = "t", %s}'):format(case[1]), dsn = "", state = new_state(),
      }
      lu.assertNotEquals(result.status, 0)
      lu.assertStrContains(result.stderr, case[2])
   end
end

-- Key types ------------------------------------------------------------------------------------

local KEY_TYPES = {
   { "int2", "i" }, { "int4", "-i" }, { "int8", "i * 10000000000" },
   { "uuid", "md5(i::text)::uuid" },
   { "text", "'k ' || i || ' \"\\é' || chr(9)" }, { "varchar(20)", "'K' || i" },
   { "char(8)", "i::text" },
   { "numeric(20,4)", "-i / 3.0" }, { "float8", "i / 3.0" }, { "boolean", "i > 3" },
   { "timestamptz", "timestamptz '2001-02-03 04:05:06.789+01' + i * interval '0.1 s'" },
   { "date", "date '2000-01-01' + i" }, { "bytea", "decode(md5(i::text), 'hex')" },
   { "inet", "inet '10.0.0.0' + i" }, { "interval", "i * interval '1 hour'" },
   { "int[]", "array[i, -i]" }, { "jsonb", "jsonb_build_object('k', i)" },
   { "mood", "('m' || i)::mood" },
   { "positive", "i" }, { "bit(8)", "i::bit(8)" },
}

-- Each type's rows are told apart, whatever the server can hash; in a key of two columns too.
function TestDeletes.test_key_types()
   local db = database [[
      CREATE TYPE mood AS ENUM ('m1', 'm2', 'm3', 'm4', 'm5', 'm6');
      CREATE DOMAIN positive AS int CHECK (value > 0)]]
   local sources = {}
   for n, case in ipairs(KEY_TYPES) do
      local values = case[1] == "boolean" and "3, 4" or "1, 6"
      db:exec(([[
         CREATE TABLE "t %d" (v int, k %s, n int, PRIMARY KEY (k));
         INSERT INTO "t %d" SELECT i, %s, i FROM generate_series(%s) i;
         CREATE TABLE "u %d" (k %s, v int, n int, PRIMARY KEY (v, k));
         INSERT INTO "u %d" SELECT %s, i, i FROM generate_series(%s) i]]):format(n, case[1], n,
         case[2], values, n, case[1], n, case[2], values))
      for _, prefix in ipairs { "t", "u" } do
         sources[#sources + 1] = ([[
            pgcdc.source {table = '"%s %d"', deletes = true, on_change = function(c)
               print(%q, c.op, c.row and c.row.v or "-")
            end}]]):format(prefix, n, prefix .. " " .. case[1])
      end
   end
   local state = new_state()
   local function again()
      local result = program.run {
         script = table.concat(sources, "\n"), dsn = db, state = state, options = { "--once" },
      }
      lu.assertEquals(result.status, 0, result.stderr)
      return sorted(result.lines)
   end
   again()
   for n in ipairs(KEY_TYPES) do
      for _, prefix in ipairs { "t", "u" } do
         db:exec(([[
            DELETE FROM "%s %d" WHERE v = 3;
            UPDATE "%s %d" SET n = 0 WHERE v = 4]]):format(prefix, n, prefix, n))
      end
   end
   local expected = {}
   for _, case in ipairs(KEY_TYPES) do
      for _, prefix in ipairs { "t ", "u " } do
         expected[#expected + 1] = prefix .. case[1] .. "\tdelete\t-"
         expected[#expected + 1] = prefix .. case[1] .. "\tupdate\t4"
      end
   end
   lu.assertEquals(again(), sorted(expected))
   lu.assertEquals(again(), {})
end

-- Keys that are not unique, or NULL: no error, no end of questions, and the last one gone is told.
function TestDeletes.test_keys_that_are_not_unique()
   local db = database [[
      CREATE TABLE t (k int, n int);
      INSERT INTO t VALUES (1, 1), (1, 2), (2, 3), (NULL, 4), (NULL, 5)]]
   local fields, state = 'table = "t", pk = "k"', new_state()
   lu.assertEquals(#run(db, fields, state), 5)
   lu.assertEquals(run(db, fields, state), {})
   db:exec "DELETE FROM t WHERE n IN (1, 3, 4)"
   local changes = run(db, fields, state)
   lu.assertEquals(ops(changes), { "delete 2" })
   db:exec "DELETE FROM t"
   lu.assertEquals(#run(db, fields, state), 2)
end

-- One of several rows with a key is gone: the key is not, also for a program that has seen before
-- that the server has more rows than there are keys.
function TestDeletes.test_one_of_several_rows_with_a_key()
   local db = database "CREATE TABLE t (k int, n int); INSERT INTO t VALUES (1, 1), (1, 2), (1, 3)"
   local p = program.start { dsn = db, state = new_state(), script = [[
      pgcdc.source {table = "t", pk = "k", deletes = true, interval = 0.05, on_change = print}]] }
   p:wait_changes(3)
   db:exec "INSERT INTO t VALUES (2, 4)"
   p:wait_changes(4)
   db:exec "DELETE FROM t WHERE n = 1"
   db:exec "INSERT INTO t VALUES (3, 5)"
   p:wait_changes(5)
   db:exec "DELETE FROM t WHERE n IN (2, 3)"
   p:wait_changes(6)
   local list = ops(p:changes())
   lu.assertEquals({ list[4], list[5], list[6] }, { "insert 2", "insert 3", "delete 1" })
   lu.assertEquals(p:stop().status, 0)
end

return TestDeletes
