-- logical_partition_test.lua: partitions, and tables that are made anew, by the server's log.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local files = require "files"
local lu = require "luaunit"
local wait = require "wait"
local watch = require "watch"

local TestLogicalPartition = {}

-- A table p of a partition p1, in the publication, with the row 1.
local function parted()
   return by_log.database [[CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
      ALTER PUBLICATION pgcdc ADD TABLE p; INSERT INTO p VALUES (1, 'a')]]
end

local function started(db, table)
   local p = by_log.start(db, { table = table or "p" })
   watch.wait_ready(p)
   return p
end

local function slot_of(db)
   return db:value [[SELECT concat_ws(' ', slot_name, catalog_xmin IS NOT NULL)
      FROM pg_replication_slots WHERE database = current_database()]]
end

-- Waits until the state file knows the partition. (Positions are saved with rows; update <id>.)
local function wait_known(db, p, name, id)
   local leaf = ("leaf %s "):format(db:value(("SELECT '%s'::regclass::oid"):format(name)))
   wait.until_(function()
      db:exec(("UPDATE p SET v = 'w' WHERE id = %d"):format(id))
      local state = (files.read(p.state) or "") .. (files.read(p.state .. "-wal") or "")
      return state:find(leaf, 1, true)
   end, 20, "the partition in the state file")
end

-- A partition that is made while the program runs, before it has rows: the log goes on, each
-- version comes once, in order, also after a restart; deletes are told.
function TestLogicalPartition.test_a_partition_that_is_made()
   local db = parted()
   local p = started(db)
   local slot = slot_of(db)
   db:exec "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200)"
   wait_known(db, p, "p2", 1)
   db:exec "INSERT INTO p VALUES (2, 'b')"
   db:exec "INSERT INTO p VALUES (101, 'c'); UPDATE p SET v = 'd' WHERE id = 101"
   db:exec "DELETE FROM p WHERE id = 1; UPDATE p SET id = 102 WHERE id = 2"
   local function words()
      return (by_log.words(p):gsub(" u1=w", ""))
   end
   local expected = "r1=a i2=b i101=c u101=d d1 d2 i102=b"
   p:wait_until(function() return words() == expected end, 20, expected)
   p:stop()
   lu.assertNotStrContains(p:stderr(), "is read by xmin")
   db:exec "DELETE FROM p WHERE id = 101; TRUNCATE p2"
   p = by_log.start(db, { table = "p", state = p.state })
   by_log.wait_words(p, "d101")
   db:exec "INSERT INTO p VALUES (103, 'e')"
   by_log.wait_words(p, "d101 i103=e")
   p:stop()
   lu.assertNotStrContains(p:stderr(), "is read by xmin")
   lu.assertEquals(slot_of(db), slot)
end

-- One that is attached with rows: they are read, with a warning; one that goes is told of, and may
-- come back, with what was written to it meanwhile.
function TestLogicalPartition.test_partitions_that_come_and_go()
   local db = parted()
   local p = started(db)
   db:exec [[CREATE TABLE p2 (id int PRIMARY KEY, v text); INSERT INTO p2 VALUES (101, 'b');
      ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)]]
   p:wait_until(function() return by_log.words(p) == "r1=a u101=b" end, 20, "the row")
   p:wait_stderr "a partition is new, and has rows: what changed since transaction %d+ is read"
   db:exec "ALTER TABLE p DETACH PARTITION p2"
   p:wait_stderr "1 of the partitions were detached or dropped: no deletes come for their rows"
   db:exec "UPDATE p2 SET v = 'c'; INSERT INTO p2 VALUES (102, 'd')"
   db:exec "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)"
   p:wait_until(function()
      local words = by_log.words(p)
      return words:find "u101=c" and words:find "u102=d"
   end, 20, "the rows")
   db:exec "UPDATE p SET v = 'e' WHERE id = 102"
   p:wait_until(function() return by_log.words(p):find "u102=e" end, 20, "the log")
   p:stop()
end

-- TRUNCATE of the table that has partitions is told; a table that was dropped and made again is
-- read, where its publication has all tables.
function TestLogicalPartition.test_truncated_and_made_anew()
   local db = parted()
   local p = by_log.start(db, { table = "p", more = [[
      source:on("truncate", function(e) print("truncate " .. e.source) end)]] })
   watch.wait_ready(p)
   db:exec "TRUNCATE p; INSERT INTO p VALUES (3, 'x')"
   watch.wait_line(p, "^truncate public.p$")
   by_log.wait_words(p, "r1=a i3=x")
   p:stop()
   local other = by_log.database "DROP PUBLICATION pgcdc; CREATE PUBLICATION pgcdc FOR ALL TABLES"
   p = started(other, "t")
   other:exec [[INSERT INTO t VALUES (4, 'old'); DROP TABLE t;
      CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'new')]]
   p:wait_until(function() return by_log.words(p):find "1=new" end, 20, "the new row")
   other:exec "UPDATE t SET v = 'newer'"
   p:wait_until(function() return by_log.words(p):find "u1=newer" end, 20, "the log")
   p:stop()
end

return TestLogicalPartition
