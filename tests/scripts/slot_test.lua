-- slot_test.lua: the bundled script slot: what capture = "logical" needs, and takes away again.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local cluster = require "cluster"
local connected = require "connected"
local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"
local server = require "server"
local tables = require "tables"
local watch = require "watch"

local TestSlot = {}

-- A database with tables t and u.
local function database(sql, one)
   local db = (one or by_log.cluster()):database()
   scope.add(function() by_log.drop_slots(db) end)
   db:exec [[CREATE TABLE t (id int PRIMARY KEY, v text);
      CREATE TABLE u (id int PRIMARY KEY, v text)]]
   if sql then
      db:exec(sql)
   end
   return db
end

-- Runs the script, which must end with this status (0). Returns its result.
local function run(db, action, args, status)
   local result = program.run { bundled = "slot", dsn = db, state = false,
      args = tables.merge({ action = action, table = "t" }, args) }
   lu.assertEquals(result.status, status or 0, result.stdout .. result.stderr)
   return result
end

-- What is installed, as text.
local function contents(db)
   return db:value [[SELECT concat_ws(' ', (SELECT string_agg(to_jsonb(p)::text || coalesce(
      obj_description(p.oid), '') || pg_get_userbyid(pubowner), ',') FROM pg_publication p),
      (SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_publication_tables),
      (SELECT string_agg(relacl::text, ',') FROM pg_class WHERE relname IN ('t', 'u')))]]
end

-- Starts a source of table t by the log, and waits until it streams.
local function start(db, source)
   local p = by_log.start(db, { source = source })
   watch.wait_ready(p)
   return p
end

-- Once, twice, with another table, and away again; a source goes by it with no more than a word.
function TestSlot.test_install_and_remove()
   local db = database()
   local before = contents(db)
   local first = run(db, "install")
   lu.assertStrContains(first.stderr,
      "CREATE PUBLICATION \\\"pgcdc\\\" FOR TABLE public.t WITH (publish_via_partition_root = true")
   lu.assertStrContains(first.stdout,
      "public.t: published by pgcdc, key id, replica identity the primary key")
   lu.assertStrContains(first.stdout, "no slot: a source makes it when it starts")
   lu.assertEquals(db:value "SELECT count(*) FROM pg_replication_slots", "0")
   local installed = contents(db)
   lu.assertNotStrContains(run(db, "install").stderr, "level=info")
   lu.assertEquals(contents(db), installed)
   run(db, "install", { table = "t,u" })
   lu.assertStrContains(contents(db), " t,u")
   local p = start(db)
   db:exec "INSERT INTO t VALUES (1, 'a')"
   p:wait_until(function() return by_log.words(p) == "i1=a" end, 20, "the row")
   local running = run(db, "status", { table = "t,u" })
   lu.assertStrMatches(running.stdout:match "slot[^\n]*", "slot pgcdc_%x+: read by pid %d+, holds"
      .. " [%d.]+ %a+ of the log, [%d.]+ %a+ behind, wal_status reserved")
   run(db, "remove", { table = "u" })
   lu.assertStrContains(run(db, "remove", { table = "t" }, 3).stderr,
      "stop the script that reads it first")
   lu.assertStrContains(contents(db), " t") -- nothing was taken away
   p:stop()
   local idle = run(db, "status", {}, 1)
   lu.assertStrContains(idle.stdout, "is inactive: nobody reads it, and the log grows")
   local removed = run(db, "remove")
   lu.assertStrContains(removed.stdout, "publication pgcdc: not installed\n")
   lu.assertStrContains(removed.stdout, "no logical slot is left")
   lu.assertEquals(contents(db), before)
   lu.assertEquals(db:value "SELECT count(*) FROM pg_replication_slots", "0")
   run(db, "remove")
   lu.assertStrContains(run(db, "status", {}, 1).stdout, "publication pgcdc is not there")
end

-- Slots that others may read stay, and it says so; one that is named goes.
function TestSlot.test_slots_of_others_stay()
   local db = database "CREATE PUBLICATION theirs FOR TABLE u"
   run(db, "install")
   db:exec [[SELECT pg_create_logical_replication_slot('pgcdc_0000abcd', 'pgoutput');
      SELECT pg_create_logical_replication_slot('theirs', 'test_decoding')]]
   local left = run(db, "remove").stdout
   lu.assertStrContains(left, "slot pgcdc_0000abcd is left, and holds the log")
   lu.assertStrContains(left, "with logical slots (pgcdc_0000abcd, theirs) the server does not"
      .. " start with wal_level = replica")
   lu.assertStrContains(run(db, "remove", { slot = "theirs" }, 3).stderr,
      "slot theirs is of another database or plug-in")
   run(db, "remove", { slot = "pgcdc_0000abcd" })
   lu.assertEquals(db:value "SELECT string_agg(slot_name, ' ') FROM pg_replication_slots", "theirs")
   lu.assertStrContains(run(db, "install", { publication = "theirs" }, 3).stderr,
      "publication theirs was not made here, and is not changed: ALTER PUBLICATION"
      .. " \\\"theirs\\\" ADD TABLE public.t")
   lu.assertStrContains(run(db, "remove", { publication = "theirs", table = "u" }, 3).stderr,
      "publication theirs was not made here, and is not changed: DROP PUBLICATION")
   lu.assertStrContains(run(db, "install", { publication = "theirs", table = "u" }).stdout,
      "public.u: published by theirs")
end

-- No statement of a writer fails because of what was installed: each table that it would be so with
-- is refused; and those that are taken can be written to.
function TestSlot.test_writers_do_not_fail()
   local db = database [[
      CREATE TABLE keyless (id int NOT NULL, v int);
      CREATE TABLE nothing (id int PRIMARY KEY, v int);
      ALTER TABLE nothing REPLICA IDENTITY NOTHING;
      CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, v int);
      CREATE TABLE lost (id int NOT NULL UNIQUE, v int);
      ALTER TABLE lost REPLICA IDENTITY USING INDEX lost_id_key;
      ALTER TABLE lost DROP CONSTRAINT lost_id_key;
      CREATE TABLE parted (id int NOT NULL, v int) PARTITION BY RANGE (id);
      CREATE TABLE parted1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
      ALTER TABLE parted REPLICA IDENTITY FULL; ALTER TABLE parted1 REPLICA IDENTITY FULL;
      CREATE TABLE leaf (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
      CREATE TABLE leaf1 PARTITION OF leaf FOR VALUES FROM (0) TO (10);
      CREATE TABLE leaf2 PARTITION OF leaf FOR VALUES FROM (10) TO (20);
      ALTER TABLE leaf2 REPLICA IDENTITY NOTHING;
      CREATE TABLE other (id int PRIMARY KEY, k int NOT NULL UNIQUE, v int);
      ALTER TABLE other REPLICA IDENTITY USING INDEX other_k_key]]
   local refused = {
      keyless = "public.keyless has no primary key: say pk=",
      nothing = "public.nothing has no replica identity, so what updates or deletes its rows would"
         .. " fail: ALTER TABLE public.nothing REPLICA IDENTITY FULL",
      late = "public.late has no replica identity",
      lost = "public.lost has no primary key: say pk=",
      parted = "public.parted has no primary key: say pk=",
      leaf = "public.leaf2 has no replica identity",
      other = "the replica identity of public.other does not have the key (id)",
   }
   for name, text in pairs(refused) do
      lu.assertStrContains(run(db, "install", { table = "t," .. name }, 3).stderr, text)
   end
   lu.assertStrContains(run(db, "status", { table = "leaf" }, 1).stdout, refused.leaf)
   lu.assertStrContains(run(db, "install", { table = "keyless", pk = "id" }, 3).stderr,
      "public.keyless has no replica identity")
   lu.assertStrContains(run(db, "install", { table = "lost", pk = "id" }, 3).stderr,
      "public.lost has no replica identity")
   lu.assertStrContains(run(db, "install", { table = "parted", pk = "id" }, 3).stderr,
      "partitions that are added later would have no replica identity")
   lu.assertEquals(db:value "SELECT count(*) FROM pg_publication", "0")
   db:exec [[ALTER TABLE keyless REPLICA IDENTITY FULL; ALTER TABLE late REPLICA IDENTITY FULL;
      ALTER TABLE leaf2 REPLICA IDENTITY DEFAULT]]
   run(db, "install", { table = "keyless,t", pk = "id" })
   run(db, "install", { table = "late,leaf" })
   run(db, "install", { table = "other", pk = "k" })
   for _, name in ipairs { "keyless", "late", "leaf", "other", "t" } do
      local k = name == "other" and ", k" or ""
      local n = name == "other" and ", 1" or ""
      db:exec(([[INSERT INTO %s (id, v%s) VALUES (1, '1'%s); UPDATE %s SET v = '2';
         DELETE FROM %s]]):format(name, k, n, name, name))
   end
   db:exec [[CREATE TABLE leaf3 PARTITION OF leaf FOR VALUES FROM (20) TO (30);
      INSERT INTO leaf VALUES (25, 1); UPDATE leaf SET v = 2; DELETE FROM leaf]]
end

-- Old rows with a generated column that the publication leaves out: from 18 on writers would fail.
function TestSlot.test_generated_columns_in_old_rows()
   local db = database [[CREATE TABLE g (id int PRIMARY KEY, v int,
         w int GENERATED ALWAYS AS (id + 1) STORED);
      ALTER TABLE g REPLICA IDENTITY FULL]]
   run(db, "install", { table = "g" })
   db:exec "INSERT INTO g VALUES (1, 1); UPDATE g SET v = 2; DELETE FROM g"
   run(db, "remove", { table = "g" })
   if cluster.version() < 18 then
      return
   end
   db:exec [[CREATE PUBLICATION bare FOR TABLE t;
      CREATE TABLE h (id int PRIMARY KEY, v int, w int GENERATED ALWAYS AS (id + 1) VIRTUAL);
      ALTER TABLE h REPLICA IDENTITY FULL]]
   local text = "public.g has REPLICA IDENTITY FULL, and publication bare leaves out its generated"
      .. ' column \\"w\\", so what updates or deletes its rows would fail: ALTER PUBLICATION'
      .. ' \\"bare\\" SET (publish_generated_columns = stored)'
   lu.assertStrContains(run(db, "install", { table = "g", publication = "bare" }, 3).stderr, text)
   lu.assertStrContains(run(db, "install", { table = "h" }, 3).stderr, 'public.h has REPLICA'
      .. ' IDENTITY FULL and a virtual column, \\"w\\", which no publication has')
   -- it is true: what was refused fails, and what is told to run mends it
   db:exec "ALTER PUBLICATION bare ADD TABLE g; INSERT INTO g VALUES (2, 1)"
   lu.assertStrContains(run(db, "status", { table = "g", publication = "bare" }, 1).stdout,
      "leaves out its generated column")
   lu.assertNil((db:try "UPDATE g SET v = 3"))
   db:exec "ALTER PUBLICATION bare SET (publish_generated_columns = stored); UPDATE g SET v = 3"
   db:exec "CREATE PUBLICATION all_of_h FOR TABLE h; INSERT INTO h VALUES (1, 1)"
   lu.assertNil((db:try "UPDATE h SET v = 3"))
end

-- Options of the bundled scripts: the same word, and the tables of a mirror in whole transactions.
function TestSlot.test_bundled_scripts_by_the_log()
   local db, target = database "INSERT INTO t VALUES (1, 'a')", by_log.cluster():database()
   run(db, "install", { table = "t,u", publication = "both" })
   local options = { bundled = "mirror", dsn = db, state = fixtures.state(),
      args = { table = "t,u", target = target:dsn(), capture = "logical", publication = "both",
         slot = "of_mirror_" .. db.name:gsub("%W", "_"), max_retained = "64M" },
      options = { "--once" } }
   local first = program.run(options)
   lu.assertEquals(first.status, 0, first.stderr)
   lu.assertEquals(db:value("SELECT slot_name FROM pg_replication_slots WHERE database ="
      .. " current_database()"), options.args.slot)
   db:exec "UPDATE t SET v = 'b'; DELETE FROM t; INSERT INTO u VALUES (1, 'x'), (2, 'y')"
   db:exec "DELETE FROM u WHERE id = 1"
   lu.assertEquals(program.run(options).status, 0)
   lu.assertEquals(connected.rows(target, "SELECT * FROM t UNION ALL SELECT * FROM u"), "2 y")
   options.args.capture = "xmin"
   lu.assertStrContains(program.run(options).stderr, 'slot is for capture = "logical"')
end

-- What a publication cannot have, and what it is to be captured by instead.
function TestSlot.test_what_is_refused()
   local db = database [[CREATE VIEW v AS SELECT 1 AS id;
      CREATE UNLOGGED TABLE w (id int PRIMARY KEY);
      CREATE MATERIALIZED VIEW m AS SELECT 1 AS id;
      CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
      CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
      CREATE PUBLICATION half FOR TABLE t WITH (publish = 'insert');
      CREATE PUBLICATION leaves FOR TABLE p]]
   for args, text in pairs {
      [{ table = "none" }] = "there is no table none",
      [{ table = "v" }] = 'public.v is a view, which the log does not have: use capture = \\"incr',
      [{ table = "m" }] = "public.m is a materialized view",
      [{ table = "w" }] = 'public.w is unlogged, and the log does not have it: use capture = \\"x',
      [{ table = "parent" }] = "other tables inherit from public.parent",
      [{ table = "p1" }] = "public.p1 is a partition: name the table that it is a part of",
      [{ table = "pg_class" }] = "pg_catalog.pg_class is a catalog of the server",
      [{ pk = "nope" }] = 'public.t has no column \\"nope\\"',
      [{ readers = "nobody_knows" }] = "there is no role nobody_knows",
      [{ publication = "half" }] = "publication half leaves out inserts, updates or deletes",
      [{ publication = "leaves", table = "p" }] = "publication leaves publishes partitions one by",
   } do
      lu.assertStrContains(run(db, "install", args, 3).stderr, text)
   end
   lu.assertStrContains(run(db, "instal", {}, 2).stderr, "action must be install, remove, status")
   lu.assertStrContains(run(db, "install", { table = "," }, 2).stderr, "table must not be empty")
   if cluster.version() >= 15 then
      db:exec "CREATE PUBLICATION part FOR TABLE t (id)"
      lu.assertStrContains(run(db, "install", { publication = "part" }, 3).stderr,
         "publication part has a row filter or a list of columns of public.t")
   end
   local plain = cluster.main():database()
   plain:exec "CREATE TABLE t (id int PRIMARY KEY)"
   lu.assertStrContains(run(plain, "install", {}, 3).stderr,
      "logical decoding needs wal_level = logical, and it is replica: ALTER SYSTEM SET wal_level")
   lu.assertStrContains(run(plain, "status", {}, 1).stdout, "logical decoding needs wal_level")
end

-- Slots and senders that are used up are said before anything is made.
function TestSlot.test_what_is_used_up()
   local few = cluster.new { conf = { wal_level = "logical", max_replication_slots = "3",
      max_wal_senders = "2" } }
   local db = database(nil, few)
   run(db, "install")
   run(db, "remove")
   db:exec [[SELECT pg_create_physical_replication_slot('a');
      SELECT pg_create_logical_replication_slot('b', 'test_decoding')]]
   lu.assertStrContains(run(db, "install", {}, 3).stderr, "2 of 3 replication slots are in use"
      .. " (inactive: a, b), and 2 more are needed: raise max_replication_slots, or drop one")
   db:exec "SELECT pg_drop_replication_slot('a')"
   few.conf.max_wal_senders = "1"
   few:restart()
   lu.assertStrContains(run(db, "install", {}, 3).stderr,
      "0 of 1 WAL senders are in use, and 2 more are needed: raise max_wal_senders")
   lu.assertEquals(db:value "SELECT count(*) FROM pg_publication", "0")
end

-- A role with what it is told to get, and no more, reads the log; names are quoted.
function TestSlot.test_readers()
   local one = by_log.cluster()
   local name = "Re \"der" .. math.random(1e9)
   local role = '"' .. name:gsub('"', '""') .. '"'
   one:exec("CREATE ROLE " .. role .. " LOGIN")
   scope.add(function() one:drop_role(name) end)
   local db = database [[CREATE SCHEMA "S x"; CREATE TABLE "S x"."T,t" (id int PRIMARY KEY, v text);
      INSERT INTO "S x"."T,t" VALUES (1, 'a')]]
   scope.add(function() db:exec(("DROP OWNED BY %s CASCADE"):format(role)) end)
   local args = { table = '"S x"."T,t"', readers = role, publication = 'pub "x', slot = "mine" }
   local result = run(db, "install", args)
   lu.assertStrContains(result.stderr, "a role may not read the log yet: ALTER ROLE ")
   one:exec(("ALTER ROLE %s REPLICATION"):format(role))
   result = run(db, "install", args)
   lu.assertNotStrContains(result.stderr, "level=")
   local p = by_log.start(db, { dsn = db:dsn { user = name }, table = '"S x"."T,t"',
      source = { publication = 'pub "x', slot = "mine" } })
   watch.wait_ready(p)
   db:exec [[INSERT INTO "S x"."T,t" VALUES (2, 'b')]]
   p:wait_until(function() return by_log.words(p) == "r1=a i2=b" end, 20, "the rows")
   run(db, "status", args)
   p:stop()
   lu.assertStrContains(run(db, "remove", args).stdout, "no logical slot is left")
end

-- Without the rights for it nothing is done, and it is said what they are.
function TestSlot.test_without_rights()
   local one = by_log.cluster()
   local role = one:role "login"
   scope.add(function() one:drop_role(role) end)
   local db = database()
   local result = program.run { bundled = "slot", dsn = db:dsn { user = role }, state = false,
      args = { action = "install", table = "t" } }
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrContains(result.stderr, "(42501): to install or remove, a role owns the tables")
   lu.assertEquals(db:value "SELECT count(*) FROM pg_publication", "0")
end

-- What print prints does the same as install, run by psql.
function TestSlot.test_print()
   local psql = server.client "psql"
   lu.skipIf(not psql, "there is no psql")
   local one = by_log.cluster()
   local role = one:role "login"
   scope.add(function() one:drop_role(role) end)
   local db, other = database(), database()
   for _, each in ipairs { db, other } do
      scope.add(function() each:exec(("DROP OWNED BY %s CASCADE"):format(role)) end)
   end
   local args = { table = "t,u", readers = role }
   local path = scope.dir "print" .. "/install.sql"
   files.write(path, run(other, "print", args).stdout)
   lu.assertEquals(other:value "SELECT count(*) FROM pg_publication", "0")
   run(db, "install", args)
   server.run({ psql, "-qX", "-v", "ON_ERROR_STOP=1", "-f", path, "-d", other:dsn() },
      { user = false })
   local function plain(text)
      return (text:gsub('"oid": "%d+"', "OID"):gsub('"oid": %d+', "OID"))
   end
   lu.assertEquals(plain(contents(other)), plain(contents(db)))
   lu.assertEquals(one:value(("SELECT rolreplication FROM pg_roles WHERE rolname = '%s'"):format(
      role)), "t")
end

return TestSlot
