-- trigger_test.lua: capture = "trigger": changes by stamps and tombstones.
-- SPDX-License-Identifier: MIT
--
-- What is installed, and what it does to writers, is in trigger_install_test.lua; concurrent
-- writers are in exact_test.lua.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local stepping = require "stepping"
local wait = require "wait"
local watch = require "watch"

local TestTrigger = {}

local function new_database(sql, args)
   return stepping.installed(sql or fixtures.numbers(5), args)
end

-- Rows that were there are read; then each statement is what it is. The stamp is no column.
function TestTrigger.test_changes()
   local db = new_database()
   local poll = stepping.new(db)
   local words, result = poll()
   lu.assertEquals(words, "read 1 2 3 4 5")
   lu.assertEquals(result.changes[1].row, { id = 1, n = 0 })
   lu.assertEquals(poll(), "")
   db:exec "insert into t values (6); update t set n = 1 where id = 1; delete from t where id = 2"
   lu.assertEquals(poll(), "delete 2, upsert 1 6") -- one transaction
end

function TestTrigger.test_deletes_come_before_the_rows_of_their_transaction()
   local db = new_database()
   local poll = stepping.new(db)
   poll()
   db:exec "update t set n = 1 where id = 1; delete from t where id = 2"
   lu.assertEquals(poll(), "delete 2, upsert 1")
   db:exec "update t set id = 30 where id = 3" -- a changed key is two changes
   lu.assertEquals(poll(), "delete 3, upsert 30")
   db:exec "delete from t where id = 4; insert into t values (4)" -- there again: only the row
   db:exec "delete from t where id = 5"
   db:exec "insert into t values (5); delete from t where id = 5"
   lu.assertEquals(poll(), "upsert 4, delete 5")
   db:exec "truncate t; insert into t values (30)"
   lu.assertEquals(poll(), "delete 1 4, upsert 30")
   lu.assertEquals(poll(), "")
end

-- A delete has a key, no row, and an id of its own.
function TestTrigger.test_what_a_delete_looks_like()
   local db = new_database()
   local script = [[pgcdc.source {table = "t", capture = "trigger", on_change = function(c)
      print(c)
      print(c.row, c.id:match "[^/]*/[^/]*$", c.xid == tonumber(pgcdc.args.xid))
      for name in pairs(c) do
         io.write(name, " ")
      end
      print()
   end}]]
   local state = fixtures.state()
   program.run { dsn = db, script = script, options = { "--once" }, state = state }
   local xid = db:value "delete from t where id = 2 returning pg_current_xact_id()"
   local result = program.run { dsn = db, script = script, options = { "--once" }, state = state,
      args = { "xid=" .. xid } }
   lu.assertStrContains(result.lines[1], '"key":{"id":2},"row":null,"xid":' .. xid)
   lu.assertStrContains(result.lines[1], ('"id":"public.t/%s/2/deleted"}'):format(xid))
   lu.assertEquals(result.lines[2], "nil\t2/deleted\ttrue")
   lu.assertEquals(result.lines[3], "op schema table source key xid seq ts id ")
end

-- Keys pass through the tombstone as they are, whatever the writer's settings say.
local KEYS = {
   { "uuid", "'6d3ee7a0-54f3-4c0b-8a1c-000000000001'" }, { "text", "E'a\"\\\\b\\tc\\u00e9'" },
   { "timestamptz", "'2001-02-03 04:05:06.789+01'" }, { "timestamp", "'0044-03-15 01:02:03 BC'" },
   { "date", "'2001-12-31'" }, { "int8", "'-9223372036854775808'" }, { "numeric", "'1.500'" },
   { "float8", "1/3::float8" }, { "bool", "true" }, { "bytea", "'\\xdeadbeef00'" },
   { "interval", "'-1 day 02:03'" }, { "int[]", "'{1,2,NULL}'" },
   { "jsonb", "'{\"a\": [1, null]}'" },
   { "daterange", "'[2001-01-02,2001-02-03)'" }, { "char(5)", "'ab'" }, { "mood", "'m 1'" },
   { "never", "7" }, { "pair", "'(1,\"x,y\")'" }, { "bit(3)", "'101'" }, { "inet", "'10.0.0.1/8'" },
}

function TestTrigger.test_keys()
   local db = cluster.main():database()
   db:exec [[create type mood as enum ('m 1'); create type pair as (a int, b text);
      create domain never as int not null check (value > 0);
      set DateStyle = 'SQL, DMY'; set IntervalStyle = 'sql_standard'; set TimeZone = 'Asia/Tokyo';
      set extra_float_digits = -5; set bytea_output = 'escape']]
   local names, script = {}, {}
   for i, key in ipairs(KEYS) do
      names[i] = "k" .. i
      db:exec(("create table k%d (k %s, other never default 1, primary key (k, other))"):format(
         i, key[1]))
      db:exec(("insert into k%d values (%s)"):format(i, key[2]))
      script[i] = ("pgcdc.source {table = 'k%d', capture = 'trigger', on_change = print}"):format(i)
   end
   stepping.trigger(db, "install", { table = table.concat(names, ",") })
   local state = fixtures.state()
   local function once()
      local result = program.run { dsn = db, script = table.concat(script, "\n"), state = state,
         options = { "--once" } }
      lu.assertEquals(result.status, 0, result.stderr)
      local keys = {}
      for _, line in ipairs(result.lines) do
         local op, name, key = line:match '"op":"(%a+)".-"table":"(k%d+)","key":(.-),"row"'
         keys[name] = op .. key
      end
      return keys
   end
   local before = once()
   for i = 1, #KEYS do
      db:exec("delete from k" .. i)
   end
   local after = once()
   for i, key in ipairs(KEYS) do
      lu.assertEquals(after["k" .. i], before["k" .. i]:gsub("^read", "delete"), key[1])
   end
end

-- Late commits, savepoints, a writer that holds the floor back: a stamp is the top-level xid.
function TestTrigger.test_transactions()
   local db = new_database()
   local poll = stepping.new(db)
   poll()
   local one, two = db:connect(), db:connect()
   one:exec [[begin; insert into t values (101); savepoint a; insert into t values (102);
      delete from t where id = 1; release a; savepoint b; delete from t where id = 2;
      insert into t values (103); rollback to b]]
   two:exec "begin; savepoint c; insert into t values (104); release c"
   db:exec "insert into t values (105); delete from t where id = 3"
   lu.assertEquals(poll(), "delete 3, upsert 105")
   two:exec "commit"
   lu.assertEquals(poll(), "upsert 104")
   lu.assertEquals(poll(), "")
   one:exec "savepoint d; update t set n = 2 where id = 4; commit"
   lu.assertEquals(poll(), "delete 1, upsert 4 101 102")
   lu.assertEquals(poll(), "")
end

-- A stop at any row, between tombstones and rows of one transaction too: nothing twice, none lost.
function TestTrigger.test_a_stop_at_any_row()
   local db = new_database [[create table t (id int, b text, n int default 0, primary key (id, b));
      insert into t select i, 'k' || i % 3 from generate_series(1, 12) i]]
   local state = fixtures.state()
   local script = [[local left = 1
      pgcdc.source {table = "t", capture = "trigger", on_change = function(c)
         print(c.op, c.key.id)
         left = left - 1
         if left == 0 then pgcdc.stop() end
      end}]]
   local function once(n)
      local result = program.run { dsn = db, state = state, options = { "--once" },
         script = script:gsub("= 1", "= " .. n, 1) }
      lu.assertEquals(result.status, 0, result.stderr)
      return result.lines
   end
   lu.assertEquals(#once(100), 12)
   local open = db:connect()
   open:exec "begin; insert into t values (50, 'open')" -- the floor stays
   db:exec "delete from t where id <= 3; update t set n = 1 where id between 4 and 6"
   db:exec "update t set id = id + 100 where id between 7 and 8"
   db:exec "delete from t where id = 9"
   local got = {}
   for _ = 1, 11 do
      local lines = once(1)
      lu.assertEquals(#lines, 1)
      got[#got + 1] = lines[1]
   end
   lu.assertEquals(table.concat(got, ","):gsub("\t", " "), "delete 1,delete 2,delete 3,upsert 4,"
      .. "upsert 5,upsert 6,delete 7,delete 8,upsert 107,upsert 108,delete 9")
   lu.assertEquals(once(1), {})
   open:exec "delete from t where id = 107; commit"
   lu.assertEquals(once(9), { "delete\t107", "upsert\t50" })
end

-- Partitions that come, rows that move between them, TRUNCATE of one.
function TestTrigger.test_partitions()
   local db = new_database [[
      create table t (id int primary key, n int default 0) partition by range (id);
      create table t1 partition of t for values from (0) to (100);
      insert into t select generate_series(1, 3)]]
   local poll = stepping.new(db)
   lu.assertEquals(poll(), "read 1 2 3")
   db:exec "create table t2 partition of t for values from (100) to (200)"
   db:exec "insert into t2 values (101), (102)"
   db:exec "update t set id = 103 where id = 1; update t set n = 1 where id = 2"
   local words, result = poll()
   lu.assertEquals(words, "upsert 101 102 103, delete 1, upsert 2")
   lu.assertStrContains(result.stderr, "public.t2 has no trigger for TRUNCATE")
   db:exec "truncate t"
   lu.assertEquals(poll(), "delete 2 3 101 102 103")
   stepping.trigger(db, "install")
   db:exec "insert into t values (1), (110), (111)"
   words, result = poll()
   lu.assertEquals(words, "upsert 1 110 111")
   lu.assertNotStrContains(result.stderr, "level=warn")
   db:exec "truncate t2"
   lu.assertEquals(poll(), "delete 110 111")
   db:exec [[create table t3 (id int primary key, n int default 0, pgcdc_xid xid8);
      insert into t3 values (201), (202);
      alter table t attach partition t3 for values from (200) to (300);
      delete from t where id = 201]]
   lu.assertEquals(poll(), "read 202, delete 201")
   db:exec "alter table t detach partition t3"
   words, result = poll()
   lu.assertEquals(words, "")
   lu.assertStrContains(result.stderr, "1 of the partitions were detached or dropped")
end

-- start = "now" and a transaction's id.
function TestTrigger.test_starts()
   local db = new_database()
   local open = db:connect()
   open:exec "begin; delete from t where id = 1"
   db:exec "delete from t where id = 2"
   local xid = db:value "update t set n = 1 where id = 3 returning pg_current_xact_id()"
   db:exec "insert into t values (6); delete from t where id = 5"
   local now, by_xid = stepping.new(db, { start = "now" }),
      stepping.new(db, { start = math.tointeger(tonumber(xid)) })
   lu.assertEquals(now(), "")
   lu.assertEquals(by_xid(), "upsert 3, delete 5, upsert 6")
   open:exec "commit"
   db:exec "insert into t values (7)"
   lu.assertEquals(now(), "delete 1, upsert 7")
   lu.assertEquals(by_xid(), "upsert 7") -- the older one is below where it began
end

-- A position that was kept by xmin goes on, whatever was open at the change, and back.
function TestTrigger.test_from_xmin_and_back()
   local db = cluster.main():database()
   db:exec "create table t (id int primary key, n int default 0)"
   db:exec "insert into t select generate_series(1, 5)"
   local poll = stepping.new(db)
   lu.assertEquals(poll { capture = "xmin" }, "read 1 2 3 4 5")
   local open, old = db:connect(), db:connect()
   old:exec "create table other (id int); begin; insert into other values (1)"
   db:exec "begin; savepoint a; insert into t values (10); release a; commit"
   lu.assertEquals(poll { capture = "xmin" }, "upsert 10")
   db:exec "insert into t values (11)"
   stepping.trigger(db, "install")
   lu.assertEquals(db:value "select count(pgcdc_xid) from t", "0")
   db:exec "begin; savepoint a; insert into t values (12); release a; commit"
   lu.assertEquals(poll { capture = "xmin" }, "upsert 11 12")
   open:exec "begin; savepoint a; insert into t values (13); delete from t where id = 1"
   db:exec "begin; savepoint a; insert into t values (14); release a; commit"
   lu.assertEquals(poll(), "upsert 14")
   lu.assertEquals(poll(), "")
   open:exec "commit"
   lu.assertEquals(poll(), "delete 1, upsert 13")
   lu.assertEquals(poll(), "")
   lu.assertEquals(poll { capture = "xmin" }, "upsert 13") -- by a subtransaction: once more
   lu.assertEquals(poll { capture = "xmin" }, "")
   old:exec "commit"
   db:exec "update t set n = 5 where id = 5"
   lu.assertEquals(poll(), "upsert 5")
   db:exec "delete from t where id = 5"
   lu.assertEquals(poll(), "delete 5")
end

-- In the middle of its snapshot too: what was left to the first poll was so by xmin.
function TestTrigger.test_from_xmin_in_the_middle_of_a_snapshot()
   local db = cluster.main():database()
   db:exec [[create table t (id int primary key, pad text);
      alter table t alter pad set storage plain;
      insert into t select i, repeat('x', 7000) from generate_series(1, 300) i]]
   local state = fixtures.state()
   local function once(capture, n)
      local result = program.run { dsn = db, state = state, options = { "--once" }, script = ([[
         local left = %d
         pgcdc.source {table = "t", capture = "%s", on_change = function(c)
            print(c.op, c.key.id)
            left = left - 1
            if left == 0 then pgcdc.stop() end
         end}]]):format(n, capture) }
      lu.assertEquals(result.status, 0, result.stderr)
      return result.lines
   end
   lu.assertEquals(#once("xmin", 100), 100)
   db:exec "update t set pad = 'y' where id in (5, 200)" -- not stamped
   stepping.trigger(db, "install")
   db:exec "update t set pad = 'z' where id in (6, 201)"
   local lines = once("trigger", 1000)
   lu.assertEquals(#lines, 198 + 4)
   lu.assertEquals(table.concat(lines, ",", 199), "upsert\t5,upsert\t200,upsert\t6,upsert\t201")
   lu.assertEquals(once("trigger", 1), {})
end

-- Between a removal and an installation nothing is stamped: what was written then is found by xmin.
function TestTrigger.test_removed_and_installed_again()
   local db = new_database()
   local poll = stepping.new(db)
   poll()
   db:exec "insert into t values (6)"
   lu.assertEquals(poll(), "upsert 6")
   stepping.trigger(db, "remove")
   db:exec "insert into t values (7)"
   stepping.trigger(db, "install")
   db:exec "insert into t values (8)"
   lu.assertEquals(poll(), "upsert 7 8")
   lu.assertEquals(poll(), "")
end

-- Deletes that were forgotten before they were read: the table is read again, with a warning, and
-- those that are still known come.
function TestTrigger.test_behind_pruned_tombstones()
   local db = new_database()
   local poll = stepping.new(db)
   poll()
   db:exec "delete from t where id = 1"
   lu.assertStrContains(stepping.trigger(db, "prune", { older_than = "0s" }).stdout,
      "public.t: 1 deletes forgotten")
   db:exec "delete from t where id = 2"
   local words, result = poll()
   lu.assertEquals(words, "read 3 4 5, delete 2")
   lu.assertStrContains(result.stderr, "deletes that were not read yet were pruned")
   stepping.trigger(db, "prune", { older_than = "1d" })
   db:exec "delete from t where id = 3"
   words, result = poll()
   lu.assertEquals(words, "delete 3")
   lu.assertNotStrContains(result.stderr, "level=warn")
   stepping.trigger(db, "prune", { older_than = "0s" })
   db:exec "delete from t where id = 4"
   words, result = poll() -- what was pruned had been read
   lu.assertEquals(words, "delete 4")
   lu.assertNotStrContains(result.stderr, "level=warn")
end

-- Stamps from a cluster whose xids were ahead count as old.
function TestTrigger.test_stamps_from_another_cluster()
   local db = new_database()
   db:exec [[alter table t disable trigger user; update t set pgcdc_xid = '9000000000000' where
      id <= 2; alter table t enable trigger user]]
   local poll = stepping.new(db)
   local words, result = poll()
   lu.assertEquals(words, "read 3 4 5 1 2")
   lu.assertStrContains(result.stderr, "stamps that this cluster has not reached")
   db:exec "update t set n = 1 where id = 1"
   lu.assertEquals(poll(), "upsert 1")
end

-- What cannot work is refused at the start, what is suspicious is told.
function TestTrigger.test_what_is_refused()
   local db = cluster.main():database()
   db:exec "create table t (id int primary key, a int); create table u (id int primary key)"
   local role = cluster.main():role "login"
   db:exec(("grant select on t to %s"):format(role))
   local function refused(source, user, message)
      local result = program.run { dsn = db:dsn { user = user }, state = false,
         options = { "--check" },
         script = ("pgcdc.source {capture = 'trigger', %s}"):format(source) }
      lu.assertEquals(result.status, 3, result.stderr)
      lu.assertStrContains(result.stderr, message)
   end
   refused("table = 't'", nil, "finds no triggers: run `pgcdc-lua trigger action=install")
   stepping.trigger(db, "install")
   refused("table = 'u'", nil, "finds no triggers")
   refused("table = 't', pk = 'a'", nil, "the triggers note another key")
   refused("table = 't'", role, "this role may not read what the triggers note")
   stepping.trigger(db, "install", { readers = role })
   local function check(user)
      local result = program.run { dsn = db:dsn { user = user }, options = { "--check" },
         state = false, script = "pgcdc.source {table = 't', capture = 'trigger'}" }
      lu.assertEquals(result.status, 0, result.stderr)
      return result.stdout
   end
   lu.assertStrContains(check(role), "key id, 2 columns, every 10 s, by triggers")
   lu.assertNotStrContains(check(), "lacks")
   db:exec "alter table t disable trigger zz_pgcdc_gone"
   db:exec(("drop index pgcdc_xid_%s"):format(db:value "select 't'::regclass::oid"))
   lu.assertStrContains(check(), "public.t lacks triggers, or they are disabled")
   lu.assertStrContains(check(), "public.t lacks a valid index on pgcdc_xid")
end

-- A backup answers: the table is read again, and any delete that is still known of is told, since
-- nobody knows which of them were.
function TestTrigger.test_a_restored_cluster()
   local one = cluster.new { name = "trigger one" }
   one:exec [[create table t (id int primary key, n int default 0);
      insert into t select generate_series(1, 5)]]
   stepping.trigger(one, "install")
   local state = fixtures.state()
   local function once(of)
      local result = program.run { dsn = of, state = state, options = { "--once" },
         script = watch.script { table = "t", capture = "trigger" } }
      lu.assertEquals(result.status, 0, result.stderr)
      return stepping.words(result.changes), result.stderr
   end
   lu.assertEquals(once(one), "read 1 2 3 4 5")
   one:exec "delete from t where id = 1"
   one:stop()
   local backup = one:copy "trigger backup"
   one:start()
   lu.assertEquals(once(one), "delete 1")
   one:exec "delete from t where id = 2"
   for i = 6, 20 do
      one:exec(("insert into t values (%d)"):format(i))
   end
   lu.assertStrContains(once(one), "delete 2, upsert 6 7")
   one:stop()
   backup:start()
   backup:exec "delete from t where id = 3"
   local words, errors = once(backup)
   lu.assertEquals(words, "read 2 4 5, delete 1 3")
   lu.assertStrContains(errors, "the table is read again")
   lu.assertEquals(once(backup), "")
end

-- A commit wakes the source; so does a delete, and a lost connection is made again.
function TestTrigger.test_notify()
   local db = new_database()
   local p = watch.start(db, { source = { capture = "trigger", interval = 3000 } })
   watch.wait_ready(p)
   local function wait_for(id, op)
      watch.wait_line(p, ('"op":"%s".*"key":{"id":%d}'):format(op, id), 10)
   end
   wait_for(5, "read")
   wait.until_(function()
      return db:value "select count(*) from pg_stat_activity where query ~ '^LISTEN'" == "1"
   end, 10, "LISTEN")
   db:exec "insert into t values (6)"
   wait_for(6, "upsert")
   db:exec "delete from t where id = 1"
   wait_for(1, "delete")
   db:exec "select pg_terminate_backend(pid) from pg_stat_activity where query ~ '^LISTEN'"
   db:exec "insert into t values (7)" -- heard or not: the bell rings when it is there again
   wait_for(7, "upsert")
   lu.assertEquals(p:stop().status, 0)
end

-- Where nothing can be heard it says so once, and lives by its interval.
function TestTrigger.test_a_standby()
   local primary = cluster.new { name = "trigger primary" }
   primary:exec [[create table t (id int primary key, n int default 0);
      insert into t select generate_series(1, 5)]]
   local result = program.run { bundled = "trigger", dsn = primary, state = false,
      args = { action = "install", table = "t" } }
   lu.assertEquals(result.status, 0, result.stderr)
   local standby = primary:standby "trigger standby"
   standby:wait_replay()
   local p = watch.start(standby, { source = { capture = "trigger", interval = 0.05 } })
   watch.wait_line(p, '"op":"read".*"key":{"id":5}')
   p:wait_stderr "commits are not announced here"
   primary:exec "delete from t where id = 2; insert into t values (6)"
   watch.wait_line(p, '"op":"delete".*"key":{"id":2}')
   watch.wait_line(p, '"op":"upsert".*"key":{"id":6}')
   local ended = p:stop()
   lu.assertEquals(ended.status, 0)
   lu.assertEquals(select(2, ended.stderr:gsub("not announced", "")), 1)
end

return TestTrigger
