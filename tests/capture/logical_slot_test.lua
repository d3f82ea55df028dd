-- logical_slot_test.lua: what a slot waits for when it is made, and what is said of settings.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local cluster = require "cluster"
local log_state = require "log_state"
local lu = require "luaunit"
local program = require "program"
local tables = require "tables"
local wait = require "wait"
local watch = require "watch"

local TestLogicalSlot = {}

-- A transaction has more savepoints than the server has room for in a snapshot that it exports: the
-- slot is made once more, which waits for that transaction first.
function TestLogicalSlot.test_more_savepoints_than_a_snapshot_holds()
   local small = cluster.new { conf = tables.merge({ max_connections = "20",
      autovacuum = "off" }, by_log.conf, { max_wal_senders = "4" }) }
   local db = by_log.database("CREATE TABLE w (id int PRIMARY KEY)", small)
   local first, second, third = db:connect(), db:connect(), db:connect()
   first:exec "BEGIN; INSERT INTO w VALUES (-1)"
   local p = by_log.start(db)
   local function waiting(pid)
      return db:value(([[SELECT count(*) FROM pg_locks WHERE NOT granted
         AND locktype = 'transactionid' AND transactionid = (SELECT backend_xid
         FROM pg_stat_activity WHERE pid = %s)]]):format(pid)) == "1"
   end
   wait.until_(function() return waiting(first:pid()) end, 40, "the slot to wait")
   second:exec "BEGIN; INSERT INTO w VALUES (0)"
   first:exec "COMMIT"
   wait.until_(function() return waiting(second:pid()) end, 40, "the slot to wait again")
   third:exec "BEGIN; INSERT INTO w VALUES (501)"
   third:exec [[DO $$ BEGIN FOR n IN 1..500 LOOP BEGIN INSERT INTO w VALUES (n); EXCEPTION
      WHEN unique_violation THEN NULL; END; END LOOP; END $$]]
   db:exec "INSERT INTO w VALUES (502)" -- so that the snapshot is about them
   second:exec "COMMIT"
   p:wait_stderr("initial slot snapshot too large", 40)
   wait.until_(function() return waiting(third:pid()) end, 40, "the slot to wait for the third")
   third:exec "ROLLBACK"
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'a' WHERE id = 1"
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 u1=a")
   p:stop()
   lu.assertEquals(db:value "SELECT count(*) FROM pg_replication_slots", "1")
end

-- Others of the server have slots that are on its standbys after a failover; and the server drops
-- slots that nobody reads for a while.
function TestLogicalSlot.test_settings_that_lose_it()
   lu.skipIf(cluster.version() < 17, "no slot is on standbys")
   local is_18 = cluster.version() >= 18
   local one = cluster.new { conf = tables.merge(is_18 and {
      idle_replication_slot_timeout = "2h" } or {}, by_log.conf) }
   local db = by_log.database(nil, one)
   db:exec "SELECT pg_create_logical_replication_slot('theirs', 'pgoutput', false, false, true)"
   local p = by_log.start(db)
   p:wait_stderr "other slots are there on the standbys after a failover, and slot pgcdc_%x+ is not"
   if is_18 then
      p:wait_stderr("idle_replication_slot_timeout is 2h: after a longer stop slot pgcdc_%x+ "
         .. "is lost")
   end
   p:stop()
end

-- The server will not keep so much for it, but has not removed it yet.
function TestLogicalSlot.test_what_the_server_will_not_keep()
   local small = cluster.new { conf = tables.merge({ max_slot_wal_keep_size = "48MB",
      wal_keep_size = "0", max_wal_size = "1GB" }, by_log.conf) }
   local db = by_log.database(nil, small)
   local busy = db:connect { application_name = "lazy one" }
   local p = by_log.start(db)
   watch.wait_ready(p)
   busy:exec "BEGIN; INSERT INTO t VALUES (9, 'open')"
   for n = 10, 15 do
      db:exec(("INSERT INTO t VALUES (%d, 'x')"):format(n))
      for _ = 1, 16 do
         db:exec "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))"
      end
   end
   lu.assertEquals(db:value "SELECT wal_status FROM pg_replication_slots", "unreserved")
   p:wait_stderr("slot pgcdc_%x+ holds %d+ MB of 16.0 GB: a transaction of pid " .. busy:pid()
      .. " %(lazy one%) is open for %d+ s; the server will not keep more for it: see"
      .. " max_slot_wal_keep_size", 40)
   busy:exec "COMMIT"
   p:wait_until(function() return by_log.words(p):find("i9=open", 1, true) end, 40, "the row")
   p:stop()
end

-- ---- what is looked at, and when ----

-- It is looked at the table and the publication more often than `interval` says.
function TestLogicalSlot.test_a_long_interval()
   local db = by_log.database()
   local p = by_log.start(db, { source = { interval = 3600 },
      binary = program.binary() .. "-hasty" })
   watch.wait_ready(p)
   db:exec "ALTER PUBLICATION pgcdc DROP TABLE t"
   local result = p:finish(40)
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrContains(result.stderr, "publication pgcdc does not have public.t")
end

-- The floor of the way back rises as soon as the log was read as far as a step has noted, and not
-- with the next step: so a position does not name all that came for the length of `interval`.
function TestLogicalSlot.test_the_floor_follows_the_stream()
   local db = by_log.database()
   local p = by_log.start(db)
   watch.wait_ready(p)
   p:stop()
   local xid = math.tointeger(db:value "SELECT pg_current_xact_id()")
   p = by_log.start(db, { state = p.state, source = { interval = 3600 } })
   p:wait_until(function()
      return db:value "SELECT count(*) FROM pg_replication_slots WHERE active" ~= "0"
   end, 20, "a stream")
   db:exec "INSERT INTO t VALUES (4, 'x')"
   by_log.wait_words(p, "i4=x")
   p:stop()
   local position = log_state.position(p.state, "public.t")
   lu.assertTrue(math.tointeger(position:match "\nfloor (%d+)\n") > xid, position)
end

return TestLogicalSlot
