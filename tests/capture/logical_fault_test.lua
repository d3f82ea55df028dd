-- logical_fault_test.lua: what can happen to a slot, its publication, and the role that uses them.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local liar = require "liar"
local log_state = require "log_state"
local lu = require "luaunit"
local pooler = require "pooler"
local program = require "program"
local scope = require "scope"
local tables = require "tables"
local wait = require "wait"
local watch = require "watch"

local TestLogicalFault = {}

local READ = "r1=v1 r2=v2 r3=v3"

local function start(db, source, options)
   return by_log.start(db, tables.merge({ source = source }, options))
end

-- The slot of the database, as text.
local function slot(db, what)
   return db:value("SELECT " .. what .. " FROM pg_replication_slots"
      .. " WHERE database = current_database()")
end

-- A program that has read the table and streams.
local function started(db, source, options)
   local p = start(db, source, options)
   watch.wait_ready(p)
   by_log.wait_words(p, READ)
   return p
end

-- What is known of the slot and the log, for the message of a test that fails.
local function facts(db)
   return slot(db, "concat_ws(' ', confirmed_flush_lsn, restart_lsn, pg_current_wal_flush_lsn(),"
      .. " pg_current_wal_insert_lsn(), (SELECT concat_ws(' ', state, sent_lsn, write_lsn,"
      .. " flush_lsn, reply_time - now()) FROM pg_stat_replication LIMIT 1))")
end

-- Waits until the words of the changes have this one.
local function wait_word(p, word)
   local ok = pcall(p.wait_until, p, function() return by_log.words(p):find(word, 1, true) end, 40,
      word)
   lu.assertTrue(ok, by_log.words(p) .. p:stderr())
end

-- The program ends with this status and text.
local function ends(p, status, text)
   local result = p:finish(60)
   lu.assertEquals(result.status, status, result.stderr)
   lu.assertStrContains(result.stderr, text)
end

-- Writes about so many megabytes of log.
local function write_log(db, mb)
   for _ = 1, mb do
      db:exec "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))"
   end
end

-- ---- rights ----

function TestLogicalFault.test_a_role_that_may_not_replicate()
   local one = by_log.cluster()
   local role = one:role "login"
   local db = by_log.database()
   scope.add(function() one:drop_role(role) end)
   scope.add(function() db:exec("DROP OWNED BY " .. role) end)
   db:exec("GRANT SELECT ON t TO " .. role)
   ends(start(db, nil, { dsn = db:dsn { user = role } }), 3, ("role %s may not replicate: ALTER"
      .. " ROLE %s REPLICATION (on RDS: GRANT rds_replication TO %s)"):format(role, role, role))
   one:exec(("ALTER ROLE %s REPLICATION"):format(role))
   local p = started(db, nil, { dsn = db:dsn { user = role } })
   -- while it streams: what it may no longer read does not go on
   db:exec("REVOKE SELECT ON t FROM " .. role)
   ends(p, 3, "permission denied for table t")
   db:exec("GRANT SELECT ON t TO " .. role)
   p = start(db, nil, { dsn = db:dsn { user = role }, state = p.state })
   db:exec "UPDATE t SET v = 'a' WHERE id = 1"
   by_log.wait_words(p, "u1=a")
   db:exec "ALTER TABLE t ENABLE ROW LEVEL SECURITY"
   ends(p, 3, "row-level security")
end

-- ---- slots ----

function TestLogicalFault.test_slots_and_senders_are_used_up()
   local few = cluster.new { conf = { wal_level = "logical", max_replication_slots = "2",
      max_wal_senders = "1" } }
   local db = by_log.database(nil, few)
   db:exec [[SELECT pg_create_physical_replication_slot('a');
      SELECT pg_create_logical_replication_slot('b', 'pgoutput')]]
   local p = start(db)
   p:wait_stderr("all 2 replication slots are in use %(inactive: a, b%): drop one, or raise"
      .. " max_replication_slots")
   db:exec "SELECT pg_drop_replication_slot('a')"
   by_log.wait_words(p, READ)
   watch.wait_ready(p)
   p:stop()
   local other = start(db, { slot = "other" }, { more = "" })
   local second = nil
   other:wait_stderr "all 2 replication slots are in use %(inactive: b, pgcdc_%x+%)"
   lu.assertNil(second)
   other:discard()
   db:exec "SELECT pg_drop_replication_slot('b')"
   few.conf.max_wal_senders = "0"
   few:restart()
   local third = start(db, { slot = "third" })
   third:wait_stderr "all WAL senders are in use: raise max_wal_senders"
   third:discard()
end

function TestLogicalFault.test_a_slot_in_use()
   local db = by_log.database()
   local p = started(db, { slot = "mine_" .. db.name:gsub("%W", "_") })
   local name = slot(db, "slot_name")
   db:exec "INSERT INTO t VALUES (4, 'x')"
   by_log.wait_words(p, READ .. " i4=x")
   wait.until_(function()
      return slot(db, "confirmed_flush_lsn >= pg_current_wal_flush_lsn()") == "t"
   end, 30, "a confirmed slot")
   local twice = start(db, { slot = name }, { state = fixtures.state(p.state) })
   twice:wait_stderr(("slot %s is in use by pid %s: is the script running twice"):format(name,
      slot(db, "active_pid")))
   db:exec "INSERT INTO t VALUES (5, 'y')"
   p:stop()
   wait_word(twice, "i5=y") -- it has waited
   twice:stop()
end

-- The slot by which a second source begins is still there of a program that was killed. This once
-- ended the next one.
function TestLogicalFault.test_a_temporary_slot_in_use()
   local db = by_log.database [[CREATE TABLE u (id int PRIMARY KEY);
      ALTER PUBLICATION pgcdc ADD TABLE u]]
   local name = "twice_" .. db.name:gsub("%W", "_")
   local killed = db:connect()
   for n = 0, 2 do
      killed:exec(("SELECT pg_create_logical_replication_slot('%s_%d', 'pgoutput', true)"):format(
         name, n))
   end
   local p = start(db, { slot = name }, { more = ([[
      pgcdc.source { table = "u", capture = "logical", slot = %q, interval = 0.5,
         on_change = function(c) print(c.op, c.key.id) end }]]):format(name) })
   p:wait_stderr(("slot %s is in use: replication slot .*already exists"):format(name))
   killed:close()
   p:wait_stderr '"ready".*"ready"'
   db:exec "INSERT INTO u VALUES (7)"
   watch.wait_line(p, "^insert\t7$")
   p:stop()
end

-- The first step of a start breaks off before it knows the table: the log waits for the next one.
-- It was read at once, which crashed.
function TestLogicalFault.test_a_start_that_breaks_off()
   local db = by_log.database()
   local p = started(db)
   p:stop()
   db:exec "INSERT INTO t VALUES (4, 'x')"
   local lock = db:connect()
   lock:exec "BEGIN; LOCK TABLE t"
   p = start(db, nil, { state = p.state })
   wait.until_(function()
      return db:value [[SELECT count(pg_terminate_backend(pid)) FROM pg_locks
         WHERE NOT granted AND relation = 't'::regclass]] == "1"
   end, 20, "a step that waits")
   p:wait_stderr "57P01"
   wait.until_(function()
      return db:value [[SELECT count(*) FROM pg_locks
         WHERE NOT granted AND relation = 't'::regclass]] == "1"
   end, 20, "the next step")
   lock:exec "COMMIT"
   by_log.wait_words(p, "i4=x")
   p:stop()
end

-- A slot of this name that this script has not made is not touched.
function TestLogicalFault.test_a_slot_of_somebody_else()
   local db = by_log.database()
   db:exec "SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')"
   local before = slot(db, "confirmed_flush_lsn")
   ends(start(db, { slot = "theirs" }), 3, "slot theirs is there already, and was not made by this"
      .. " script: name another one, or, if nobody needs it, drop it")
   lu.assertEquals(slot(db, "confirmed_flush_lsn"), before)
end

-- Moved by somebody else, remade, or the state file is an old copy: what has changed is read by
-- xmin.
function TestLogicalFault.test_a_slot_that_was_moved()
   local db = by_log.database()
   local p = started(db)
   p:stop()
   local old = fixtures.state(p.state)
   local moved = "the slot was moved by somebody else, or the state file is an old one: what"
      .. " changed since transaction %d+ is read by xmin; deletes since then are not known"
   db:exec "UPDATE t SET v = 'a' WHERE id = 1"
   db:exec(("SELECT pg_replication_slot_advance('%s', pg_current_wal_lsn())"):format(
      slot(db, "slot_name")))
   p = start(db, nil, { state = p.state })
   wait_word(p, "u1=a")
   p:wait_stderr(moved)
   db:exec "UPDATE t SET v = 'b' WHERE id = 1; DELETE FROM t WHERE id = 2"
   wait_word(p, "u1=b d2")
   p:stop()
   for _, ending in ipairs { "", "-wal", "-shm", ".image" } do
      os.remove(p.state .. ending)
   end
   files.write(p.state, files.read(old)) -- an older copy
   p = start(db, nil, { state = p.state })
   wait_word(p, "u1=b")
   p:wait_stderr(moved)
   p:stop()
   local old_name = slot(db, "slot_name") -- before the new one is there
   local moved_file = start(db, nil, { state = fixtures.state(p.state) })
   moved_file:wait_stderr "the source names another slot: what changed since transaction"
   moved_file:wait_stderr("this source does not use slot " .. old_name
      .. " any more: unless another one does, drop it")
   moved_file:stop()
   db:exec(("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"))
   p = start(db, nil, { state = p.state })
   watch.wait_ready(p)
   p:stop()
   local name = slot(db, "slot_name")
   db:exec(("SELECT pg_drop_replication_slot('%s')"):format(name))
   db:exec "UPDATE t SET v = 'c' WHERE id = 1"
   db:exec(("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')"):format(name))
   db:exec "UPDATE t SET v = 'd' WHERE id = 3"
   p = start(db, nil, { state = p.state })
   p:wait_stderr(moved)
   wait_word(p, "u1=c u3=d")
   db:exec "DELETE FROM t WHERE id = 3"
   wait_word(p, "d3")
   p:stop()
end

-- The server gives it up, since it holds too much, while the program runs and while it does not.
function TestLogicalFault.test_a_slot_that_is_lost()
   local small = cluster.new { conf = tables.merge({ max_slot_wal_keep_size = "32MB",
      wal_keep_size = "0", max_wal_size = "64MB" }, by_log.conf) }
   local db = by_log.database(nil, small)
   local p = started(db)
   lu.assertNotStrContains(p:stderr(), "max_slot_wal_keep_size")
   p:stop()
   db:exec "UPDATE t SET v = 'a' WHERE id = 1"
   write_log(db, 70)
   db:exec "CHECKPOINT"
   lu.assertEquals(slot(db, "wal_status"), "lost")
   p = start(db, nil, { state = p.state })
   p:wait_stderr "the slot is lost, since it held too much of the log: what changed since"
   wait_word(p, "u1=a")
   db:exec "DELETE FROM t WHERE id = 1"
   wait_word(p, "d1")
   lu.assertEquals(slot(db, "count(*)"), "1")
   lu.assertNotEquals(slot(db, "wal_status"), "lost")
   p:stop()
end

-- ---- the server ----

-- An older copy of the server at the same place: it lacks what was read.
function TestLogicalFault.test_a_server_that_was_restored()
   local one = cluster.new { conf = by_log.conf }
   local db = by_log.database(nil, one)
   local p = started(db)
   p:stop()
   one:stop()
   local copy = one:copy("copy", { conf = {} })
   one:start()
   p = start(db, nil, { state = p.state })
   write_log(db, 2) -- so that the copy does not come as far
   db:exec "UPDATE t SET v = 'lost' WHERE id = 1; INSERT INTO t VALUES (4, 'lost')"
   wait_word(p, "u1=lost i4=lost")
   p:stop()
   one:stop()
   copy.port = one.port
   copy:start()
   copy:exec "CREATE TABLE x ()"
   local other = setmetatable({}, { __index = db })
   other.cluster, other.conn = copy, nil
   p = start(db, nil, { state = p.state })
   p:wait_stderr "is read again"
   wait_word(p, "r1=v1 r2=v2 r3=v3")
   copy:connect(db.name):exec "UPDATE t SET v = 'new' WHERE id = 2"
   wait_word(p, "u2=new")
   p:stop()
   copy:stop()
   one:start()
end

-- ---- publications and tables ----

function TestLogicalFault.test_a_publication_that_is_dropped()
   local db = by_log.database()
   local p = started(db)
   db:exec "UPDATE t SET v = 'a' WHERE id = 1; DROP PUBLICATION pgcdc"
   wait_word(p, "u1=a")
   db:exec "UPDATE t SET v = 'b' WHERE id = 2"
   ends(p, 3, "there is no publication pgcdc: CREATE PUBLICATION pgcdc FOR TABLE public.t WITH"
      .. " (publish_via_partition_root = true)")
   db:exec "UPDATE t SET v = 'c' WHERE id = 3"
   db:exec "CREATE PUBLICATION pgcdc FOR TABLE t WITH (publish_via_partition_root = true)"
   p = start(db, nil, { state = p.state })
   wait_word(p, "u3=c")
   db:exec "DELETE FROM t WHERE id = 1"
   wait_word(p, "d1")
   p:stop()
end

function TestLogicalFault.test_a_table_that_left_the_publication()
   local db = by_log.database()
   local p = started(db)
   db:exec "ALTER PUBLICATION pgcdc DROP TABLE t; UPDATE t SET v = 'a' WHERE id = 1"
   ends(p, 3, "publication pgcdc does not have public.t: ALTER PUBLICATION pgcdc ADD TABLE"
      .. " public.t")
   db:exec "UPDATE t SET v = 'b' WHERE id = 2; ALTER PUBLICATION pgcdc ADD TABLE t"
   p = start(db, nil, { state = p.state })
   wait_word(p, "u2=b")
   local first = by_log.words(p)
   lu.assertTrue(first:find "u1=a" ~= nil or p.state ~= nil)
   p:stop()
end

-- No row without a key is passed over: the program ends before the next one.
function TestLogicalFault.test_an_identity_that_changes()
   local db = by_log.database [[ALTER TABLE t ADD COLUMN k int; UPDATE t SET k = id;
      ALTER TABLE t ALTER k SET NOT NULL; CREATE UNIQUE INDEX t_k ON t (k)]]
   local p = started(db)
   db:exec "ALTER TABLE t REPLICA IDENTITY NOTHING; INSERT INTO t VALUES (4, 'x', 4)"
   ends(p, 3, "updates and deletes of it do not say of which row, see ALTER TABLE ... REPLICA")
   db:exec "ALTER TABLE t REPLICA IDENTITY DEFAULT; DELETE FROM t WHERE id = 1"
   p = start(db, nil, { state = p.state })
   wait_word(p, "d1")
   db:exec [[ALTER TABLE t REPLICA IDENTITY USING INDEX t_k;
      UPDATE t SET v = 'lost' WHERE id = 2]]
   ends(p, 3, 'column \\"id\\" of the key is not part of the replica identity')
   lu.assertNotStrContains(by_log.words(p), "u2=lost")
   db:exec "ALTER TABLE t REPLICA IDENTITY DEFAULT"
   ends(start(db, nil, { state = p.state }), 3, "where it does not go on, drop the slot")
   by_log.drop_slots(db)
   p = start(db, nil, { state = p.state })
   wait_word(p, "u2=lost")
   p:stop()
end

-- Sources of one slot with a publication each.
function TestLogicalFault.test_two_publications()
   local db = by_log.database [[CREATE TABLE u (id int PRIMARY KEY, v text);
      INSERT INTO u VALUES (7, 'u'); CREATE PUBLICATION "it's, ""two""" FOR TABLE u
      WITH (publish_via_partition_root = true)]]
   local p = start(db, nil, { more = [[
      pgcdc.source { table = "u", capture = "logical", interval = 0.5,
         publication = 'it\'s, "two"', on_change = print }]] })
   wait_word(p, "r7=u")
   watch.wait_ready(p)
   db:exec "INSERT INTO t VALUES (4, 'x'); INSERT INTO u VALUES (8, 'y')"
   wait_word(p, "i4=x")
   wait_word(p, "8=y")
   lu.assertEquals(slot(db, "count(*)"), "1")
   p:stop()
end

-- ---- what a slot may hold ----

-- Where nothing comes of the table, what others have written is let go. A step of the source, of
-- which there are many between two positions that are told, once hid that there was one to tell.
function TestLogicalFault.test_what_others_write_is_let_go()
   local db = by_log.database()
   local p = started(db)
   write_log(db, 2)
   wait.until_(function()
      return slot(db, "confirmed_flush_lsn >= pg_current_wal_flush_lsn() - 1000") == "t"
   end, 40, function() return "a confirmed slot: " .. facts(db) .. p:stderr() end)
   p:stop()
end

-- A program whose output nobody reads, so that nothing is saved.
local function stuck(source)
   local db = by_log.database()
   local p = start(db, tables.merge({ max_retained = "64M" }, source), { hold = true })
   wait.until_(function() return slot(db, "count(*) FILTER (WHERE active)") == "1" end, 20,
      "a stream")
   db:exec "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(10, 5009) n"
   return db, p
end

-- A handler that is tried again and again: the log says who holds the slot.
function TestLogicalFault.test_a_full_slot_that_is_kept()
   local db = by_log.database()
   local gate = scope.dir "gate" .. "/open"
   local p = program.start { dsn = db, script = ([[
      local source = pgcdc.source { table = "t", capture = "logical", interval = 0.5,
         max_retained = "64M", on_full = "keep",
         on_error = { retry = 1000, wait = 1, factor = 1 } }
      source:on("ready", function() print "ready" end)
      source:on("change", function(change)
         local f = change.key.id <= 3 or io.open %q
         print(assert(f, "not yet") and tostring(change))
      end)]]):format(gate) }
   watch.wait_ready(p)
   db:exec "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(10, 5009) n"
   write_log(db, 70)
   p:wait_stderr "max_slot_wal_keep_size is %-1: while this program does not run, nothing limits"
   p:wait_stderr("slot pgcdc_%x+ holds %d+ MB of 64 MB: nothing more of this source was saved for"
      .. " %d+ s.*; on_full = .\"keep.\": it is kept", 40)
   files.write(gate, "")
   p:wait_until(function() return #p:changes() == 5003 end, 60, "all rows")
   lu.assertNotStrContains(p:stderr(), "read by xmin")
   p:stop()
   lu.assertEquals(#p:changes(), 5003)
end

function TestLogicalFault.test_a_full_slot_that_stops()
   local db, p = stuck { on_full = "stop" }
   write_log(db, 70)
   wait.until_(function() return slot(db, "count(*)") == "0" end, 40, "the end of the slot")
   p:release()
   ends(p, 3, "slot pgcdc_")
   lu.assertStrContains(p:stderr(), 'held more than max_retained (64 MB) of the log, and was'
      .. ' dropped: on_full = \\"stop\\"; the next start reads by xmin what has changed since')
end

-- A transaction that stays open holds the log, though all that was read is saved: it is named.
function TestLogicalFault.test_who_holds_the_log()
   local db = by_log.database()
   local busy = db:connect { application_name = "lazy one" }
   local p = started(db, { max_retained = "64M", on_full = "keep" })
   busy:exec "BEGIN; INSERT INTO t VALUES (9, 'open')"
   for n = 10, 14 do
      write_log(db, 10)
      db:exec(("INSERT INTO t VALUES (%d, 'x')"):format(n))
   end
   p:wait_stderr("slot pgcdc_%x+ holds %d+ MB of 64 MB: a transaction of pid " .. busy:pid()
      .. " %(lazy one%) is open for %d+ s", 40)
   busy:exec "COMMIT"
   wait_word(p, "i9=open")
   p:stop()
end

-- ---- other ways ----

function TestLogicalFault.test_beside_a_pooler()
   local one = by_log.cluster()
   local pool = pooler.new(one, "transaction", 3)
   lu.skipIf(not pool, "there is no pgbouncer")
   local db = by_log.database()
   local through = pool:dsn(db.name)
   local p = start(db, nil, { dsn = through, options = { "--once" } })
   lu.assertNotEquals(p:finish(60).status, 0) -- no log passes it
   p = started(db, { slot_connect = db:dsn() }, { dsn = through })
   db:exec "UPDATE t SET v = 'a' WHERE id = 1"
   by_log.wait_words(p, READ .. " u1=a")
   p:stop()
   -- to another server, and to another database
   local text = "slot_connect leads to another server, or another database, than connect"
   ends(start(db, { slot_connect = cluster.main():dsn() }, { dsn = through }), 3, text)
   ends(start(db, { slot_connect = one:dsn() }, { dsn = through }), 3, text)
end

-- A log that cannot be: one line that says where, and nothing of it is saved.
function TestLogicalFault.test_a_log_that_lies()
   local db = by_log.database()
   local lies = {
      ["cut off"] = "cannot be read", length = "cannot be read", kind = "unknown kind 0x3f",
      columns = "a row of the log has 1 columns where 2 were announced",
      unannounced = "a row of a table that was not announced",
      ["no begin"] = "a row outside of a transaction",
      ["other commit"] = "a commit of another transaction than the one that began",
   }
   local running = {}
   for lie in pairs(lies) do
      running[lie] = start(db, { slot = (lie:gsub(" ", "_")),
         slot_connect = liar.of_log(db, lie) })
   end
   for _, p in pairs(running) do
      watch.wait_ready(p)
   end
   db:exec "INSERT INTO t VALUES (4, 'x')"
   for lie, text in pairs(lies) do
      local p = running[lie]
      ends(p, 70, text)
      lu.assertStrMatches(p:stderr(), ".*the log at %x+/%x+: .*", nil, nil, lie)
      p = start(db, { slot = (lie:gsub(" ", "_")) }, { state = p.state })
      by_log.wait_words(p, "i4=x")
      p:stop()
   end
end

-- ---- bad input ----

function TestLogicalFault.test_bad_options()
   local db = by_log.database "CREATE TABLE w (id int PRIMARY KEY)"
   local function fails(source, text, more, status)
      local result = program.run { dsn = db, script = watch.script(tables.merge(
         { table = "t", capture = "logical" }, source), more), options = { "--once" } }
      lu.assertEquals(result.status, status or 1, result.stderr)
      lu.assertStrContains(result.stderr, text)
   end
   fails({ slot = "" }, "slot must not be empty")
   fails({ slot = "Mine" }, 'slot = \\"Mine\\" is no name of a slot')
   fails({ slot = ("x"):rep(64) }, "at most 50 small letters, digits and _")
   fails({ max_retained = "0" }, 'max_retained must be a size such as \\"100M\\", not 0')
   fails({ max_retained = "1k" }, "max_retained must be at least 67108864, not 1k")
   fails({ on_full = "drob" }, "on_full")
   fails({ failover = "yes" }, "failover must be a boolean")
   fails({ capture = "xmin", on_full = "keep" }, 'on_full is for capture = \\"logical\\"')
   fails({ slot = "x" }, "sources of one slot (x) have the same slot_connect, on_full and failover",
      'pgcdc.source { table = "w", capture = "logical", slot = "x", on_full = "keep" }')
   fails({}, "have the same connect: write it alike", ([[pgcdc.source { table = "w", capture =
      "logical", connect = "%s options='-c jit=off'" }]]):format(db:dsn()))
   if cluster.version() < 17 then
      fails({ failover = true }, "failover = true needs Postgres 17", nil, 3)
   end
end

-- The log lacks a transaction that was delivered in part: nobody knows what it has instead.
function TestLogicalFault.test_a_log_that_lacks_what_was_delivered()
   local db = by_log.database()
   local p = started(db, { slot = "lacks_" .. db.name:gsub("%W", "_") })
   db:exec "INSERT INTO t VALUES (4, 'x')"
   wait_word(p, "i4=x")
   p:stop()
   log_state.set_inside(p.state, "public.t", db:value
      "SELECT pg_current_wal_insert_lsn() - '0/0' + 100")
   db:exec "INSERT INTO t VALUES (5, 'y'); INSERT INTO t VALUES (6, 'z')"
   p = start(db, { slot = "lacks_" .. db.name:gsub("%W", "_") }, { state = p.state })
   ends(p, 4, "the log does not have the transaction that commits at ")
   lu.assertStrMatches(p:stderr(), ".*of which the changes up to %x+/%x+ were delivered: is this"
      .. " the server that they came from%? %-%-reset=SOURCE reads the table again.*")
   lu.assertEquals(by_log.words(p), "")
end

-- What the log does not have is refused, with what captures it instead.
function TestLogicalFault.test_what_the_log_does_not_have()
   local db = by_log.database [[CREATE VIEW w AS SELECT * FROM t;
      CREATE MATERIALIZED VIEW m AS SELECT * FROM t; CREATE UNIQUE INDEX ON m (id);
      CREATE UNLOGGED TABLE l (id int PRIMARY KEY); CREATE EXTENSION IF NOT EXISTS file_fdw;
      CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
      CREATE FOREIGN TABLE f (id int) SERVER files OPTIONS (filename '/dev/null')]]
   local other = db:connect()
   other:exec "CREATE TEMPORARY TABLE mine (id int PRIMARY KEY)"
   local schema = other:value "SELECT pg_my_temp_schema()::regnamespace"
   for table, text in pairs {
      w = 'public.w is a view: its rows have no xmin; name the table under it, or use capture =',
      m = "public.m is a materialized view",
      f = "public.f is a foreign table",
      l = 'public.l is unlogged, and the log does not have it: use capture = "xmin"',
      pg_class = 'pg_catalog.pg_class is a catalog of the server, which the log does not have: use'
         .. ' capture = "xmin"',
      [schema .. ".mine"] = "is a temporary table, which other sessions cannot read",
   } do
      local p = start(db, nil, { table = table, options = { "--once" },
         source = { pk = table == "pg_class" and "oid" or "id" } })
      local result = p:finish(60)
      lu.assertEquals(result.status, 3, table .. result.stderr)
      lu.assertStrContains(result.stderr:gsub('\\"', '"'), text)
   end
end

-- Filters: what they leave out does not come.
function TestLogicalFault.test_filters()
   lu.skipIf(cluster.version() < 15, "publications have no filters")
   local db = by_log.database [[CREATE PUBLICATION rows FOR TABLE t WHERE (id > 1);
      CREATE PUBLICATION columns FOR TABLE t (id)]]
   for _, name in ipairs { "rows", "columns" } do
      ends(start(db, { publication = name }), 3, ("public.t: publication %s has a row filter or a"
         .. " list of columns: name a publication without"):format(name))
   end
end

-- A slot of another database.
function TestLogicalFault.test_a_slot_of_another_database()
   local db, other = by_log.database(), by_log.database()
   local name = "of_other_" .. other.name:gsub("%W", "_")
   other:exec(("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')"):format(name))
   ends(start(db, { slot = name }), 3, ("slot %s is of another database or plug-in: name another"
      .. " one"):format(name))
end

return TestLogicalFault
