-- logical_decoding_test.lua: what the server fails to decode of its log, or has not any more.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local child = require "child"
local cluster = require "cluster"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"
local server = require "server"
local tables = require "tables"
local wait = require "wait"
local watch = require "watch"

local TestLogicalDecoding = {}

-- A cluster of its own, whose files are damaged.
local function own_cluster()
   return cluster.new { conf = tables.merge({ wal_keep_size = "0" }, by_log.conf) }
end

local function start(db, state, options)
   return program.start { dsn = db, state = state, options = options, script = [[
      local source = pgcdc.source { table = "t", capture = "logical", interval = 0.5,
         columns = { "id", "v" } }
      source:on("ready", function() print "ready" end)
      source:on("change", function(change) print(tostring(change)) end)]] }
end

-- A program that has read the table and was stopped.
local function stopped(db)
   local p = start(db)
   watch.wait_ready(p)
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3")
   p:stop()
   return p
end

local function slot(db)
   return db:value [[SELECT catalog_xmin || ' ' || restart_lsn FROM pg_replication_slots
      WHERE database = current_database() AND NOT temporary]]
end

-- Each start with --once ends well.
local function once(db, state)
   local p = start(db, state, { "--once" })
   lu.assertEquals(p:finish(120).status, 0, p:stderr())
   return p
end

-- With --once the program drops the slot, since the server says <why>, and goes on by xmin, with
-- these words; a new slot brings what comes then.
local function gives_up(db, state, why, words)
   local old = slot(db)
   local p = once(db, state)
   local said = p:stderr()
   lu.assertStrMatches(said, ".*slot pgcdc_%x+: the server does not get on with its log: "
      .. why .. ".*")
   lu.assertStrMatches(said, ".*slot pgcdc_%x+ was dropped, since the server does not get on.*")
   lu.assertStrMatches(said, ".*the slot is not there any more: what changed since transaction"
      .. " %d+ is read by xmin; deletes since then are not known.*")
   lu.assertEquals(by_log.words(p), words)
   lu.assertNotEquals(slot(db), old)
   db:exec "UPDATE t SET v = 'new' WHERE id = 1; DELETE FROM t WHERE id = 2"
   p = once(db, state)
   lu.assertEquals(by_log.words(p), "u1=new d2")
   lu.assertNotStrContains(p:stderr(), "does not get on")
end

-- A column that nobody reads has a value that UTF8 does not have: the log has all columns.
function TestLogicalDecoding.test_a_value_that_cannot_be_sent()
   local db = by_log.database("ALTER TABLE t ADD COLUMN raw text", nil,
      { sql = "template template0 encoding 'EUC_JP' lc_collate 'C' lc_ctype 'C'" })
   local p = stopped(db)
   db:exec "INSERT INTO t VALUES (4, 'x', convert_from('\\xA9A1', 'EUC_JP')), (5, 'y', '')"
   gives_up(db, p.state, "character with byte sequence 0xa9 0xa1", "u4=x u5=y")
end

-- Changes row 3, and lets the log go on in other files. Returns the file that has the change.
local function change_in_a_file(db)
   local file = db:value "SELECT pg_walfile_name(pg_current_wal_lsn())"
   db:exec "UPDATE t SET v = 'a' WHERE id = 3"
   for _ = 1, 3 do
      db:exec "SELECT pg_switch_wal()"
      db:exec "CREATE TABLE x (); DROP TABLE x"
   end
   return file
end

-- Files of the log are gone: those that have what was written while the program did not run.
function TestLogicalDecoding.test_a_file_that_is_gone()
   local one = own_cluster()
   local db = by_log.database(nil, one)
   local p = stopped(db)
   local file = change_in_a_file(db)
   one:stop() -- with a checkpoint
   assert(os.remove(one.data .. "/pg_wal/" .. file))
   one:start()
   gives_up(db, p.state, "requested WAL segment " .. file .. " has already been removed", "u3=a")
end

-- They are away for a while.
local function file_that_comes_back()
   local one = own_cluster()
   local db = by_log.database(nil, one)
   local p = stopped(db)
   local file = change_in_a_file(db)
   local path = one.data .. "/pg_wal/" .. file
   assert(os.rename(path, one.data .. "/away"))
   p = start(db, p.state)
   local says = "requested WAL segment " .. file .. " has already been removed"
   p:wait_until(function()
      return p:stderr():find "was dropped" or p:stderr():find(says .. ".*" .. says)
   end, 40, "two errors, or the end of the slot")
   assert(os.rename(one.data .. "/away", path))
   by_log.wait_words(p, "u3=a")
   return p, db
end

-- The slot goes on.
function TestLogicalDecoding.test_a_file_that_comes_back()
   local p, db = file_that_comes_back()
   db:exec "DELETE FROM t WHERE id = 3"
   by_log.wait_words(p, "u3=a d3")
   p:stop()
   lu.assertNotStrContains(p:stderr(), "was dropped")
end

function TestLogicalDecoding.test_finds_out_who_gives_up_at_once()
   by_log.with_mutant("stuck_once", function()
      local p = file_that_comes_back()
      p:stop()
      lu.assertStrContains(p:stderr(), "was dropped")
   end)
end

-- A snapshot of the catalogs, with which decoding begins where somebody writes, is damaged.
function TestLogicalDecoding.test_a_file_that_is_damaged()
   local one = own_cluster()
   local db = by_log.database(nil, one)
   local p = start(db)
   watch.wait_ready(p)
   local first, second = db:connect(), db:connect()
   first:exec "BEGIN; INSERT INTO t VALUES (4, 'x')"
   local at = db:value "SELECT pg_current_wal_insert_lsn()"
   db:exec "CHECKPOINT"
   second:exec "BEGIN; INSERT INTO t VALUES (5, 'y')"
   first:exec "COMMIT"
   db:exec "CHECKPOINT"
   wait.until_(function()
      db:exec "SELECT pg_logical_emit_message(true, 'x', 'y')"
      return db:value(("SELECT restart_lsn >= '%s' FROM pg_replication_slots"):format(at)) == "t"
   end, 40, "the slot to begin there")
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 i4=x")
   p:stop()
   db:exec "UPDATE t SET v = 'a' WHERE id = 3"
   one:stop()
   server.run { "sh", "-c", [[for f in "$1"/pg_logical/snapshots/*.snap; do
      printf x | dd of="$f" bs=1 seek=40 conv=notrunc status=none; done]], "sh", one.data }
   one:start()
   gives_up(db, p.state, "checksum mismatch for snapbuild state file", "u3=a")
end

-- Sources of one slot, of which one has a publication that was not there for a while: no other one
-- knows of it, and the server cannot decode what was written then for any.
function TestLogicalDecoding.test_a_publication_of_another_source()
   local db = by_log.database [[CREATE TABLE u (id int PRIMARY KEY, v text);
      CREATE PUBLICATION two FOR TABLE u]]
   local script = [[
      for name, publication in pairs { t = "pgcdc", u = "two" } do
         local source = pgcdc.source { table = name, capture = "logical", interval = 0.5,
            publication = publication }
         source:on("change", function(change) print(tostring(change)) end)
      end]]
   local p = program.start { dsn = db, script = script, options = { "--once" } }
   lu.assertEquals(p:finish(120).status, 0, p:stderr())
   db:exec "DROP PUBLICATION two"
   db:exec "UPDATE t SET v = 'a' WHERE id = 3"
   db:exec "CREATE PUBLICATION two FOR TABLE u; INSERT INTO u VALUES (7, 'b')"
   p = program.start { dsn = db, script = script, state = p.state, options = { "--once" } }
   lu.assertEquals(p:finish(120).status, 0, p:stderr())
   lu.assertStrContains(by_log.words(p), "u3=a")
   lu.assertStrContains(by_log.words(p), "7=b")
   db:exec "DELETE FROM t WHERE id = 1; DELETE FROM u"
   p = program.start { dsn = db, script = script, state = p.state, options = { "--once" } }
   lu.assertEquals(p:finish(120).status, 0, p:stderr())
   lu.assertEquals(by_log.words(p), "d1 d7")
end

-- The disk to which the server spills large transactions is full: it is tried again until there is
-- room, and the slot goes on.
function TestLogicalDecoding.test_no_room_to_decode()
   local one = own_cluster()
   one.conf.logical_decoding_work_mem = "64kB"
   one:restart()
   local db = by_log.database(nil, one)
   local p = stopped(db)
   local dir = one.data .. "/pg_replslot"
   one:stop()
   local _, status = child.run { argv = { "sh", "-ec", [[
      owner=$(stat -c %u:%g "$1")
      cp -a "$1" "$1.old"
      mount -t tmpfs -o size=1m,mode=700,uid=${owner%:*},gid=${owner#*:} none "$1" 2>/dev/null ||
         exit 9
      cp -a "$1.old/." "$1"]], "sh", dir } }
   if status.exit ~= 0 then
      lu.skip "only root may mount a small disk"
   end
   scope.add(function()
      one:stop "immediate"
      child.run { argv = { "umount", "-l", dir } }
   end)
   one:start()
   db:exec "INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(11, 30010) n"
   p = start(db, p.state)
   local says = "could not write to .-: No space left on device"
   p:wait_stderr(says .. ".*" .. says)
   server.run({ "mount", "-o", "remount,size=100m", dir }, { user = false })
   p:wait_until(function() return #p:changes() == 30000 end, 60, "all rows")
   db:exec "DELETE FROM t WHERE id = 1"
   p:wait_until(function() return #p:changes() == 30001 end, 20, "the delete")
   p:stop()
   lu.assertNotStrContains(p:stderr(), "was dropped")
end

local function status(db)
   return db:value "SELECT string_agg(wal_status, ' ') FROM pg_replication_slots"
end

-- The server has given up a slot of two sources: none of them goes on by it, and one is made anew.
function TestLogicalDecoding.test_a_slot_that_is_lost_to_two()
   local small = cluster.new { conf = tables.merge({ max_slot_wal_keep_size = "32MB",
      wal_keep_size = "0", max_wal_size = "64MB" }, by_log.conf) }
   local db = by_log.database([[CREATE TABLE u (id int PRIMARY KEY, v text);
      ALTER PUBLICATION pgcdc ADD TABLE u]], small)
   local options = { dsn = db, script = [[
      for _, name in ipairs { "t", "u" } do
         local source = pgcdc.source { table = name, capture = "logical", interval = 0.5 }
         source:on("ready", function() print("ready " .. name) end)
         source:on("change", function(change) print(tostring(change)) end)
      end]] }
   local p = program.start(options)
   watch.wait_line(p, "^ready t$")
   watch.wait_line(p, "^ready u$")
   p:stop()
   options.state = p.state
   db:exec "UPDATE t SET v = 'a' WHERE id = 1; INSERT INTO u VALUES (4, 'b')"
   for _ = 1, 70 do
      db:exec "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))"
   end
   db:exec "CHECKPOINT"
   lu.assertEquals(status(db), "lost")
   p = program.start(options)
   local function wait_words(...)
      for _, word in ipairs { ... } do
         p:wait_until(function() return by_log.words(p):find(word, 1, true) end, 40, word)
      end
   end
   wait_words("u1=a", "u4=b")
   db:exec "DELETE FROM t WHERE id = 1; DELETE FROM u"
   wait_words("d1", "d4")
   lu.assertNotEquals(status(db), "lost")
   p:stop()
end

return TestLogicalDecoding
