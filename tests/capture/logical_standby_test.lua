-- logical_standby_test.lua: the log of a standby, and slots that go over to a new primary.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local cluster = require "cluster"
local killing = require "killing"
local log_history = require "log_history"
local lu = require "luaunit"
local native = require "native"
local pgbench = require "pgbench"
local program = require "program"
local scope = require "scope"
local tables = require "tables"
local wait = require "wait"
local watch = require "watch"

local TestLogicalStandby = {}

local function needs(version, why)
   lu.skipIf(cluster.version() < version, why)
end

-- A primary with a database that by_log.database makes, and a standby of it.
local function pair(sql, conf)
   local primary = cluster.new { conf = tables.merge({ synchronous_commit = "off" },
      by_log.conf) }
   local db = by_log.database(sql, primary)
   local standby = primary:standby("standby", { conf = tables.merge(
      { hot_standby_feedback = "on" }, conf) })
   standby:wait_replay()
   return primary, standby, db
end

local function dsn_of(one, db)
   return one:dsn(db.name)
end

-- Waits for the condition while the primary logs who is under way, which a slot of a standby needs.
local function wait_logged(primary, p, condition, what)
   p:wait_until(function()
      primary:exec "SELECT pg_log_standby_snapshot()"
      return condition()
   end, 60, what)
end

local function wait_ready(primary, p, n)
   wait_logged(primary, p, function()
      return select(2, p:stdout():gsub("%f[^\n\0]ready", "")) >= (n or 1)
   end, "ready")
end

function TestLogicalStandby.test_versions_without()
   lu.skipIf(cluster.version() >= 16, "it can")
   local _, standby, db = pair()
   local result = program.run { dsn = dsn_of(standby, db), options = { "--once" },
      script = watch.script { table = "t", capture = "logical" } }
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrContains(result.stderr, "reads standbys from Postgres 16 on")
end

-- A partition that is attached with rows is read there too.
function TestLogicalStandby.test_a_partition_that_is_attached()
   needs(16, "standbys decode from 16 on")
   local primary, standby, db = pair [[
      CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
      ALTER PUBLICATION pgcdc ADD TABLE p; INSERT INTO p VALUES (1, 'a')]]
   local p = by_log.start(db, { table = "p", dsn = dsn_of(standby, db) })
   wait_ready(primary, p)
   db:exec [[CREATE TABLE p2 (id int PRIMARY KEY, v text); INSERT INTO p2 VALUES (101, 'b');
      ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)]]
   by_log.wait_words(p, "r1=a r101=b")
   db:exec "UPDATE p SET v = 'c'"
   by_log.wait_words(p, "r1=a r101=b u1=c u101=c")
   p:stop()
   lu.assertNotStrContains(p:stderr(), "is read by xmin")
end

-- First read, handing over and stream under writers on the primary: each version once, in order;
-- then the standby is promoted, and it goes on.
function TestLogicalStandby.test_exact_on_a_standby()
   needs(16, "standbys decode from 16 on")
   local primary, standby, db = pair(log_history.tables)
   local path = scope.dir "exact" .. "/out.jsonl"
   local options = { dsn = dsn_of(standby, db), script = log_history.script(path) }
   local p = program.start(options)
   for _ = 1, 2 do
      local writer = log_history.write(db, 4)
      wait_ready(primary, p, 3)
      pgbench.finish(writer, 60)
   end
   standby:wait_replay()
   p:stop()
   log_history.run_once(tables.merge({ state = p.state }, options))
   log_history.assert_newest(db, path)
   primary:stop()
   standby:exec "SELECT pg_promote()"
   local other = standby:connect(db.name)
   other:exec "INSERT INTO a VALUES (1000, 1)"
   local result = program.run(tables.merge({ state = p.state, options = { "--once" } }, options))
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stderr, "the standby was promoted")
   lu.assertNotStrContains(result.stderr, "read again")
   local last
   for line in io.lines(path) do
      last = line
   end
   lu.assertStrContains(last, '"id":1000')
end

-- Killed at any time.
function TestLogicalStandby.test_exact_when_killed_on_a_standby()
   needs(16, "standbys decode from 16 on")
   local primary, standby, db = pair(log_history.tables)
   local path = scope.dir "exact" .. "/out.jsonl"
   local options = { dsn = dsn_of(standby, db), script = log_history.script(path), seconds = 5,
      life = 0.8, state = path .. ".db" }
   function options.write()
      primary:exec "SELECT pg_log_standby_snapshot()"
      native.sleep(0.02)
   end
   local writer = log_history.write(db, 5)
   -- the last run makes a slot at times, so somebody must log who is under way
   local logger = pgbench.start_script(db, "SELECT pg_log_standby_snapshot();\n\\sleep 100 ms\n",
      "-c", "1", "-T", "60")
   local _, kills = killing.run(options)
   pgbench.finish(writer, 60)
   standby:wait_replay()
   log_history.run_once(options)
   logger:kill "KILL"
   lu.assertTrue(kills > 2, kills)
   log_history.assert_newest(db, path)
end

-- A slot that the standby has from the primary: after a failover the log goes on, without a read.
function TestLogicalStandby.test_a_slot_goes_over()
   needs(17, "slots go over from 17 on")
   local primary = cluster.new { conf = by_log.conf }
   local db = by_log.database(nil, primary)
   primary:exec "SELECT pg_create_physical_replication_slot('spare')"
   local standby = primary:standby("standby", { conf = { hot_standby_feedback = "on",
      sync_replication_slots = "on", primary_slot_name = "spare",
      primary_conninfo = primary:dsn("postgres", { application_name = "standby" }) } })
   primary:configure { synchronized_standby_slots = "spare" }
   local both = ("host=%s,%s port=%d,%d user=postgres dbname=%s target_session_attrs=read-write")
      :format(primary:dsn():match "host='([^']*)'", standby:dsn():match "host='([^']*)'",
         primary.port, standby.port, db.name)
   local p = by_log.start(db, { dsn = both, source = { failover = true, slot = "mine" } })
   watch.wait_ready(p)
   db:exec "INSERT INTO t VALUES (4, 'x')"
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 i4=x")
   wait.until_(function()
      primary:exec "SELECT pg_log_standby_snapshot()"
      return standby:value [[SELECT count(*) FROM pg_replication_slots
         WHERE synced AND NOT temporary]] == "1"
   end, 60, "the slot on the standby")
   lu.assertNotStrContains(p:stderr(), "see failover = true")
   db:exec "UPDATE t SET v = 'a' WHERE id = 4; UPDATE t SET v = 'b' WHERE id = 4"
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 i4=x u4=a u4=b")
   standby:wait_replay()
   primary:kill9()
   standby:exec "SELECT pg_promote()"
   local other = standby:connect(db.name)
   wait.until_(function() return not standby:in_recovery() end, 30, "the promotion")
   other:exec "DELETE FROM t WHERE id = 1; UPDATE t SET v = 'c' WHERE id = 4"
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 i4=x u4=a u4=b d1 u4=c")
   p:wait_stderr "the timeline changed: a failover; the slot is there, and the log goes on"
   lu.assertNotStrContains(p:stderr(), "read again")
   p:stop()
   other:close()
end

-- The same where the new primary lacks what we saw: the table is read again, and it is said why.
function TestLogicalStandby.test_a_new_primary_that_lacks_something()
   needs(17, "slots go over from 17 on")
   local primary = cluster.new { conf = by_log.conf }
   local db = by_log.database(nil, primary)
   primary:exec "SELECT pg_create_physical_replication_slot('spare')"
   local standby = primary:standby("standby", { conf = { hot_standby_feedback = "on",
      sync_replication_slots = "on", primary_slot_name = "spare",
      primary_conninfo = primary:dsn("postgres", { application_name = "standby" }) } })
   local both = ("host=%s,%s port=%d,%d user=postgres dbname=%s target_session_attrs=read-write")
      :format(primary:dsn():match "host='([^']*)'", standby:dsn():match "host='([^']*)'",
         primary.port, standby.port, db.name)
   local p = by_log.start(db, { dsn = both, source = { failover = true, slot = "mine" } })
   watch.wait_ready(p)
   wait.until_(function()
      primary:exec "SELECT pg_log_standby_snapshot()"
      return standby:value [[SELECT count(*) FROM pg_replication_slots
         WHERE synced AND NOT temporary]] == "1"
   end, 60, "the slot on the standby")
   standby:wait_replay()
   standby:configure { primary_conninfo = "host=/nowhere" } -- it gets nothing more
   wait.until_(function()
      return standby:value "SELECT count(*) FROM pg_stat_wal_receiver" == "0"
   end, 30, "the end of the receiver")
   db:exec "UPDATE t SET v = 'lost' WHERE id = 1"
   wait.until_(function() return by_log.words(p):find "u1=lost" end, 20, "the row")
   primary:kill9()
   standby:exec "SELECT pg_promote()"
   wait.until_(function() return not standby:in_recovery() end, 30, "the promotion")
   p:wait_stderr("the new primary lacks what we saw: set synchronized_standby_slots there: the"
      .. " table is read again", 60)
   p:wait_until(function() return select(2, by_log.words(p):gsub("r1=v1", "")) == 2 end, 30, "r1")
   standby:connect(db.name):exec "UPDATE t SET v = 'new' WHERE id = 2"
   p:wait_until(function() return by_log.words(p):find "u2=new" end, 30, "the update")
   p:stop()
end

return TestLogicalStandby
