-- logical_partition_test.lua: partitions, and tables that are made anew, by the server's log.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local cluster = require "cluster"
local files = require "files"
local lu = require "luaunit"
local native = require "native"
local pgbench = require "pgbench"
local program = require "program"
local scope = require "scope"
local wait = require "wait"
local watch = require "watch"

local TestLogicalPartition = {}

-- A table p of a partition p1, in the publication, with the row 1.
local function parted()
   return by_log.database [[CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
      ALTER PUBLICATION pgcdc ADD TABLE p; INSERT INTO p VALUES (1, 'a')]]
end

local function started(db, table, source)
   local p = by_log.start(db, { table = table or "p", source = source })
   watch.wait_ready(p)
   return p
end

local function needs_15()
   lu.skipIf(cluster.version() < 15, "the log of 14 lacks rows of what is attached")
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

-- What is attached with rows is read, and the log goes on: each version comes once, in order, with
-- what is deleted meanwhile. It is seen before the log comes to it, or by the log.
function TestLogicalPartition.test_one_that_is_attached_with_rows()
   needs_15()
   for _, interval in ipairs { 0.2, 600 } do
      local db = parted()
      local p = started(db, "p", { interval = interval })
      local slot = slot_of(db)
      db:exec "CREATE TABLE p2 (id int PRIMARY KEY, v text); INSERT INTO p2 VALUES (101, 'b')"
      db:exec "INSERT INTO p2 VALUES (102, 'c'), (103, 'd'), (104, 'e')"
      db:exec "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)"
      if interval < 1 then
         by_log.wait_words(p, "r1=a r101=b r102=c r103=d r104=e")
      end
      db:exec "INSERT INTO p VALUES (2, 'x'), (105, 'f')"
      db:exec "UPDATE p SET v = 'c2' WHERE id = 102; DELETE FROM p WHERE id = 103"
      if interval < 1 then
         by_log.wait_words(p, "r1=a r101=b r102=c r103=d r104=e i2=x i105=f u102=c2 d103")
      else -- (some of that may have been written before it was read)
         p:wait_until(function()
            local words = by_log.words(p):gsub(" r10[23]=%a", "")
            return words == "r1=a i2=x r101=b r104=e i105=f u102=c2 d103"
         end, 20, "the rows")
      end
      p:stop()
      db:exec "UPDATE p SET v = 'g' WHERE id >= 101"
      p = by_log.start(db, { table = "p", state = p.state })
      by_log.wait_words(p, "u101=g u102=g u104=g u105=g")
      p:stop()
      lu.assertNotStrContains(p:stderr(), "is read by xmin")
      lu.assertEquals(slot_of(db), slot)
   end
end

-- Rows that move from one partition to one that is attached then: the delete comes first. All in
-- one transaction, which writes to the partition before and after that, and with --once.
function TestLogicalPartition.test_rows_that_move_to_one_that_is_attached()
   needs_15()
   local db = parted()
   local p = started(db, "p", { interval = 600 })
   db:exec [[CREATE TABLE d PARTITION OF p DEFAULT; INSERT INTO p VALUES (301, 'a'), (302, 'b')]]
   by_log.wait_words(p, "r1=a i301=a i302=b")
   db:exec [[BEGIN; CREATE TABLE p3 (id int PRIMARY KEY, v text);
      WITH gone AS (DELETE FROM p WHERE id > 300 RETURNING *) INSERT INTO p3 SELECT * FROM gone;
      INSERT INTO p VALUES (2, 'x');
      ALTER TABLE p ATTACH PARTITION p3 FOR VALUES FROM (300) TO (400);
      SAVEPOINT s; UPDATE p SET v = 'c' WHERE id = 301; COMMIT]]
   by_log.wait_words(p, "r1=a i301=a i302=b d301 d302 i2=x r302=b u301=c")
   p:stop()
   db:exec [[CREATE TABLE p4 (id int PRIMARY KEY, v text);
      WITH gone AS (DELETE FROM p WHERE id = 301 RETURNING *)
         INSERT INTO p4 SELECT 401, v FROM gone;
      INSERT INTO p4 VALUES (402, 'y');
      ALTER TABLE p ATTACH PARTITION p4 FOR VALUES FROM (400) TO (500)]]
   db:exec "INSERT INTO p VALUES (3, 'z')"
   p = by_log.start(db, { table = "p", state = p.state, options = { "--once" } })
   lu.assertEquals(p:finish(60).status, 0)
   lu.assertEquals(by_log.words(p), "d301 i3=z r401=c r402=y")
   lu.assertNotStrContains(p:stderr(), "is read by xmin")
end

-- One that goes and comes back between two looks, with rows that were written meanwhile: these are
-- read, and those that were known are not.
function TestLogicalPartition.test_one_that_is_attached_again()
   needs_15()
   for _, interval in ipairs { 0.2, 600 } do
      local db = parted()
      db:exec "INSERT INTO p VALUES (2, 'b'), (3, 'c')"
      local p = started(db, "p", { interval = interval })
      local slot = slot_of(db)
      local other = db:connect() -- an old transaction
      other:exec "BEGIN; CREATE TABLE x ()"
      db:exec [[BEGIN; ALTER TABLE p DETACH PARTITION p1; UPDATE p1 SET v = 'b2' WHERE id = 2;
         INSERT INTO p1 VALUES (4, 'd'); DELETE FROM p1 WHERE id = 3;
         ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (100); COMMIT]]
      if interval < 1 then
         p:wait_until(function() return by_log.words(p):find "r4=d" end, 20, "the new rows")
      end
      db:exec "UPDATE p SET v = 'e' WHERE id = 4"
      p:wait_until(function() return by_log.words(p):find "u4=e" end, 20, "the log")
      local words = by_log.words(p)
      lu.assertStrContains(words, " r2=b2 ")
      lu.assertStrMatches(words, "r1=a r2=b r3=c .*u4=e")
      p:wait_stderr "1 partitions were detached and attached again: their rows that are new"
      other:exec "COMMIT"
      p:stop()
      lu.assertNotStrContains(p:stderr(), "is read by xmin")
      lu.assertEquals(slot_of(db), slot)
   end
end

-- If nobody can tell what is to be read, changes since are read by xmin: the partition was attached
-- twice since the log was read last, and a row was written in between.
function TestLogicalPartition.test_one_that_nobody_can_tell_of()
   needs_15()
   local db = parted()
   local p = started(db)
   p:stop()
   db:exec [[CREATE TABLE p2 (id int PRIMARY KEY, v text); INSERT INTO p2 VALUES (101, 'b');
      ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)]]
   db:exec "UPDATE p SET v = 'c' WHERE id = 101"
   db:exec [[ALTER TABLE p DETACH PARTITION p2; UPDATE p2 SET v = 'd';
      ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)]]
   p = by_log.start(db, { table = "p", state = p.state })
   p:wait_stderr "a partition was attached, and perhaps more than once: what changed since"
   p:wait_until(function() return by_log.words(p):find "101=d$" end, 20, "the last version")
   db:exec "UPDATE p SET v = 'e' WHERE id = 101"
   p:wait_until(function() return by_log.words(p):find " u101=e$" end, 20, "the log")
   p:stop()
end

-- One that goes is told of; when it comes back it is read.
function TestLogicalPartition.test_one_that_goes_and_comes()
   needs_15()
   local db = parted()
   local p = started(db)
   db:exec "ALTER TABLE p DETACH PARTITION p1"
   p:wait_stderr "1 of the partitions were detached or dropped: no deletes come for their rows"
   db:exec "UPDATE p1 SET v = 'c'; INSERT INTO p1 VALUES (2, 'd')"
   db:exec "ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (100)"
   by_log.wait_words(p, "r1=a r1=c r2=d")
   p:wait_stderr "1 partitions were attached with rows, which are read"
   db:exec "UPDATE p SET v = 'e' WHERE id = 2"
   by_log.wait_words(p, "r1=a r1=c r2=d u2=e")
   p:stop()
end

-- With Postgres 14: what has changed is read by xmin.
function TestLogicalPartition.test_attached_to_an_old_server()
   lu.skipIf(cluster.version() >= 15, "this is none")
   local db = parted()
   local p = started(db)
   db:exec [[CREATE TABLE p2 (id int PRIMARY KEY, v text); INSERT INTO p2 VALUES (101, 'b');
      ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)]]
   p:wait_until(function() return by_log.words(p) == "r1=a u101=b" end, 20, "the row")
   p:wait_stderr "a partition is new, and has rows: what changed since transaction %d+ is read"
   db:exec [[BEGIN; ALTER TABLE p DETACH PARTITION p2; UPDATE p2 SET v = 'c';
      INSERT INTO p2 VALUES (102, 'd');
      ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200); COMMIT]]
   p:wait_until(function()
      local words = by_log.words(p)
      return words:find "u101=c" and words:find "u102=d"
   end, 20, "the rows")
   db:exec "UPDATE p SET v = 'e' WHERE id = 102"
   p:wait_until(function() return by_log.words(p):find "u102=e" end, 20, "the log")
   p:stop()
end

-- The same where another source of the slot is behind, before what the partition was then: what is
-- sent for that one made the server take the partition for what it was.
function TestLogicalPartition.test_attached_to_an_old_server_that_is_behind()
   lu.skipIf(cluster.version() >= 15, "this is none")
   local db = parted()
   local p = program.start { dsn = db, script = [[
      for _, name in ipairs { "p", "t" } do
         local source = pgcdc.source { table = name, capture = "logical", interval = 0.2 }
         source:on("ready", function() print("ready " .. name) end)
         source:on("change", function(c) print(c.op, c.key.id, c.row and c.row.v) end)
      end]] }
   watch.wait_line(p, "^ready p$")
   watch.wait_line(p, "^ready t$")
   local sender
   wait.until_(function()
      sender = tonumber(db:value [[SELECT active_pid FROM pg_replication_slots
         WHERE NOT temporary AND database = current_database()]])
      return sender
   end, 20, "the sender")
   native.kill(sender, 19) -- SIGSTOP
   scope.add(function() pcall(native.kill, sender, 18) end)
   db:exec [[CREATE TABLE p2 (id int PRIMARY KEY, v text); INSERT INTO t VALUES (50, 'x')]]
   db:exec "INSERT INTO p2 VALUES (101, 'b')"
   db:exec "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)"
   watch.wait_line(p, "^upsert\t101\tb$")
   wait.until_(function() -- the position is by the log again
      local state = (files.read(p.state) or "") .. (files.read(p.state .. "-wal") or "")
      return state:find(("log_lsn [1-9]%%d*\nuntil [1-9][^%%z]-leaf %s "):format(
         db:value "SELECT 'p2'::regclass::oid"))
   end, 20, "the position")
   db:exec "INSERT INTO p VALUES (102, 'c'); INSERT INTO t VALUES (51, 'y')"
   native.kill(sender, 18)
   watch.wait_line(p, "^insert\t51\ty$")
   db:exec "INSERT INTO p VALUES (2, 'end')"
   watch.wait_line(p, "^insert\t2\tend$")
   p:stop()
   lu.assertStrContains(table.concat(p:lines(), "\n"), "insert\t102\tc\n")
   lu.assertStrContains(table.concat(p:lines(), "\n"), "insert\t50\tx\n")
end

-- Writers, with savepoints, while partitions come and go and are written to alone; the program is
-- stopped now and then. Of each row n goes up: what comes is newer than what came, and in the end
-- it is what is there. Rows that are read when a partition has come back, or by xmin, may be known.
local writing = [[
\set id random(0, 299)
\set kind random(1, 4)
BEGIN;
UPDATE p SET n = n + 1 WHERE id = :id;
\if :kind = 1
SAVEPOINT s;
UPDATE p SET n = n + 1 WHERE id = (:id * 7 + 13) % 300;
\endif
COMMIT;
]]

-- What is done to the partitions, turn by turn.
local function come_and_go(db, turn)
   local k = turn % 3
   db:exec(("ALTER TABLE p DETACH PARTITION p%d"):format(k))
   if turn % 4 > 0 then
      db:exec(("UPDATE p%d SET n = n + 1 WHERE id %% 10 = %d"):format(k, turn % 10))
   end
   db:exec(("ALTER TABLE p ATTACH PARTITION p%d FOR VALUES FROM (%d) TO (%d)"):format(k, k * 100,
      k * 100 + 100))
end

-- Takes what a run has printed into <last>, the newest n of each row. Returns how many were read.
local function take(p, last)
   local n_read = 0
   for _, line in ipairs(p:lines()) do
      local op, id, n = line:match "^(%a+)\t(%d+)\t(%d+)$"
      if op then
         id, n = tonumber(id), tonumber(n)
         lu.assertTrue(n > (last[id] or 0) or (op ~= "update" and n == last[id]),
            ("%s after %s: %s"):format(line, last[id], p:stderr()))
         last[id] = n
         n_read = n_read + (op == "read" and 1 or 0)
      end
   end
   lu.assertNil(p:stderr():match "level=error.*", p:stderr())
   return n_read
end

function TestLogicalPartition.test_exact_while_partitions_come_and_go()
   local db = by_log.database [[CREATE TABLE p (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
      CREATE TABLE p0 PARTITION OF p FOR VALUES FROM (0) TO (100);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (100) TO (200);
      CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (200) TO (300);
      ALTER PUBLICATION pgcdc ADD TABLE p;
      INSERT INTO p SELECT i, 1 FROM generate_series(0, 299) i]]
   local options = { dsn = db, script = [[
      local source = pgcdc.source { table = "p", capture = "logical", interval = 0.3 }
      source:on("ready", function() print "ready" end)
      source:on("change", function(c) print(c.op, c.key.id, c.row and c.row.n) end)]] }
   local p = program.start(options)
   watch.wait_ready(p)
   options.state = p.state
   local writer = pgbench.start_script(db, writing, "-c", "3", "-T", "60", "-R", "300",
      "--max-tries=100")
   local last, n_read = {}, 0
   for turn = 1, 9 do
      if cluster.version() < 15 and turn % 2 == 0 then
         watch.wait_ready(p) -- one that started by xmin has nothing to say of a partition
      end
      come_and_go(db, turn)
      if turn % 2 == 0 then
         p:wait_stderr(cluster.version() < 15 and "a partition is new, and has rows"
            or "attached again: their rows that are new are read", 30)
      end
      if turn % 3 == 0 then
         p:stop()
         n_read = n_read + take(p, last)
         p = program.start(options)
      end
   end
   writer:kill(15)
   writer:wait(10)
   p:stop()
   n_read = n_read + take(p, last)
   options.options = { "--once" }
   p = program.start(options)
   lu.assertEquals(p:finish(60).status, 0, p:stderr())
   n_read = n_read + take(p, last)
   local there = {}
   for id, n in db:value("SELECT string_agg(id || '=' || n, ' ') FROM p"):gmatch "(%d+)=(%d+)" do
      there[tonumber(id)] = tonumber(n)
   end
   lu.assertEquals(last, there)
   lu.assertTrue(n_read > 300 or cluster.version() < 15)
   io.write(n_read, " read ... ")
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
   p:wait_until(function() return by_log.words(p):find "r1=new" end, 20, "the new row")
   p:wait_stderr "msg=\"ready\".*read again from its start.*msg=\"ready\""
   other:exec "UPDATE t SET v = 'newer'"
   p:wait_until(function() return by_log.words(p):find "u1=newer" end, 20, "the log")
   p:stop()
end

return TestLogicalPartition
