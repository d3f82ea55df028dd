-- sources_test.lua: what pgcdc.source {...} can be told: tables, keys, columns, where, start,
-- intervals, connections; and several sources at a time.
-- SPDX-License-Identifier: MIT
--
-- What is refused is in bad_input_test.lua; how keys are shown is in api_change_test.lua.

local cluster = require "cluster"
local fixtures = require "fixtures"
local homes = require "homes"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local server = require "server"
local wait = require "wait"
local watch = require "watch"

local TestSources = {}

-- A script that prints every change of a source with these fields.
local function printing(fields)
   return ("pgcdc.source {%s, on_change = function(c) print(c) end}\n"):format(fields)
end

-- One run with --once; its changes.
local function run(db, fields, state)
   return once.ok { script = printing(fields), dsn = db, state = state }.changes
end

local function ids_of(changes)
   local ids = watch.ids(changes)
   table.sort(ids)
   return ids
end

-- Keys -----------------------------------------------------------------------------------------

local KEY_TYPES = {
   { "uuid", "md5(i::text)::uuid" }, { "text", "'k ' || i || ' \"\\é' || chr(9)" },
   { "varchar(20) collate \"C\"", "'K' || i" }, { "char(8)", "i::text" },
   { "timestamptz", "timestamptz '2001-02-03 04:05:06.789+01' + i * interval '0.1 s'" },
   { "timestamp", "timestamp '0044-03-15 BC' + i * interval '1 day'" },
   { "date", "date '2000-01-01' + i" }, { "time", "time '00:00' + i * interval '1 s'" },
   { "int2", "-i" }, { "int4", "-2147483649 + i" }, { "int8", "-9223372036854775809 + i" },
   { "numeric(20,4)", "-i / 3.0" }, { "float8", "i / 3.0" }, { "boolean", "i > 3" },
   { "bytea", "decode(md5(i::text), 'hex')" }, { "inet", "inet '10.0.0.0' + i" },
   { "interval", "i * interval '1 hour'" }, { "int[]", "array[i, -i]" },
   { "jsonb", "jsonb_build_object('k', i)" }, { "int4range", "int4range(i, i + 5)" },
   { "mood", "('m' || i)::mood" }, { "positive", "i" }, { "bit(8)", "i::bit(8)" },
}

-- Of any type: a snapshot, then a poll ordered by it, then an update of each row. (Boolean has but
-- two values: rows 3 and 6.)
function TestSources.test_key_types()
   local db, state = cluster.main():database(), fixtures.state()
   db:exec "create type mood as enum ('m1', 'm6', 'm5', 'm2', 'm3', 'm4')"
   db:exec "create domain positive as int check (value > 0)"
   local script = {}
   for i, key in ipairs(KEY_TYPES) do
      db:exec(("create table t%d (k %s primary key, id int)"):format(i, key[1]))
      script[i] = printing(("table = 't%d'"):format(i))
   end
   local function insert(from, to)
      for i, key in ipairs(KEY_TYPES) do
         db:exec(([[insert into t%d select distinct on (k) k, i
            from (select %s as k, i from generate_series(%d, %d) i) x order by k, i desc]]):format(
            i, key[2], from, to))
      end
   end
   local function check(op, from, to)
      local result = program.run {
         script = table.concat(script), dsn = db, state = state, options = { "--once" },
      }
      lu.assertEquals(result.status, 0, result.stderr)
      local seen, n = {}, 0
      for _, line in ipairs(result.lines) do
         local is, i, k, again, id = line:match(
            '^{"op":"(%l+)","schema":"public","table":"t(%d+)","key":{"k":(.*)},'
            .. '"row":{"k":(.*),"id":(%d+)},"xid"')
         lu.assertEquals({ is, k }, { op, again }, line)
         i = i + 0
         lu.assertEquals({ KEY_TYPES[i][1], db:value(("select id from t%d where to_jsonb(k) = %s")
            :format(i, db:connection():escape(k) .. "::jsonb")) }, { KEY_TYPES[i][1], id })
         seen[i .. " " .. id], n = true, n + 1
      end
      local expected = 0
      for i, key in ipairs(KEY_TYPES) do
         for id = from, to do
            if key[1] ~= "boolean" or id % 3 == 0 then
               expected = expected + 1
               lu.assertTrue(seen[i .. " " .. id], key[1])
            end
         end
      end
      lu.assertEquals(n, expected)
   end
   insert(1, 3)
   check("read", 1, 3)
   insert(4, 6)
   check("upsert", 4, 6)
   for i in ipairs(KEY_TYPES) do
      db:exec(("update t%d set id = id"):format(i))
   end
   check("upsert", 1, 6)
end

-- The key itself may change: the row comes with its new key.
function TestSources.test_a_key_that_changes()
   local db, state = cluster.main():database(), fixtures.state()
   db:exec "create table t (id int primary key); insert into t values (1), (2)"
   lu.assertEquals(ids_of(run(db, "table = 't'", state)), { 1, 2 })
   db:exec "update t set id = 7 where id = 2"
   lu.assertEquals(ids_of(run(db, "table = 't'", state)), { 7 })
end

-- Names ----------------------------------------------------------------------------------------

-- "orders" is resolved by the server, as SQL would: search_path, quotes, case; a list is exact.
function TestSources.test_table_names()
   homes.for_files()
   local db = cluster.main():database()
   db:exec [[
      create schema "Sche Ma";
      create table plain (id int primary key); insert into plain values (1);
      create table "Weird Table" ("Col" int primary key, id int);
      insert into "Weird Table" values (2, 2);
      create table "Sche Ma"."a.b""c'd\e" (id int primary key);
      insert into "Sche Ma"."a.b""c'd\e" values (3);
      create table "Sche Ma".plain (id int primary key); insert into "Sche Ma".plain values (4)]]
   for _, case in ipairs {
      { [['plain']], "public.plain", 1 }, { [['PLAIN']], "public.plain", 1 },
      { [['public.plain']], "public.plain", 1 }, { [[{'plain'}]], "public.plain", 1 },
      { [[{'public', 'plain'}]], "public.plain", 1 }, { [[' plain ']], "public.plain", 1 },
      { [['"Weird Table"']], "public.Weird Table", 2 },
      { [['public."Weird Table"']], "public.Weird Table", 2 },
      { [[{'Weird Table'}]], "public.Weird Table", 2 },
      { [[ [=["Sche Ma"."a.b""c'd\e"]=] ]], "Sche Ma.a.b\"c'd\\e", 3 },
      { [[ {"Sche Ma", [=[a.b"c'd\e]=]} ]], "Sche Ma.a.b\"c'd\\e", 3 },
      { [['"Sche Ma".plain']], "Sche Ma.plain", 4 },
   } do
      local state = fixtures.state()
      local changes = run(db, "table = " .. case[1], state)
      lu.assertEquals(#changes, 1)
      lu.assertEquals(changes[1].schema .. "." .. changes[1].table, case[2])
      lu.assertEquals(changes[1].row.id, case[3])
      lu.assertEquals(run(db, "table = " .. case[1], state), {})
   end
   db:exec(([[alter database "%s" set search_path = "Sche Ma", public]]):format(db.name))
   lu.assertEquals(run(db, "table = 'plain'")[1].row.id, 4)
end

-- The position is kept under the name: with another name, all is new.
function TestSources.test_names_of_sources()
   homes.for_files()
   local db, state = cluster.main():database(), fixtures.state()
   db:exec "create table t (id int primary key); insert into t values (1)"
   lu.assertEquals(#run(db, "table = 't'", state), 1)
   lu.assertEquals(#run(db, "table = 'public.t'", state), 0)
   lu.assertEquals(#run(db, "table = 't', name = 'public.t'", state), 0)
   lu.assertEquals(#run(db, "table = 't', name = [[it's \"é\"]]", state), 1)
   lu.assertEquals(#run(db, "table = 't', name = [[it's \"é\"]]", state), 0)
   local result = program.run {
      dsn = db, options = { "--once" },
      script = printing "table = 't', name = 'one'" .. printing "table = 't', name = 'two'",
   }
   lu.assertEquals(#result.changes, 2)
end

-- columns and where ------------------------------------------------------------------------------

function TestSources.test_columns()
   local db, state = cluster.main():database(), fixtures.state()
   db:exec [[create table t (id int primary key, "Name" text, gone int, n int);
      alter table t drop column gone; insert into t values (1, 'x', 5)]]
   local function row(fields)
      local change = run(db, "table = 't', " .. fields)[1]
      return json.encode(change.row, { keys = "kept" }) .. json.encode(change.key)
   end
   lu.assertEquals(row "columns = {'n', 'Name'}", '{"n":5,"Name":"x"}{"id":1}')
   lu.assertEquals(row "columns = 'id'", '{"id":1}{"id":1}')
   lu.assertEquals(row "columns = {'Name'}, pk = 'n'", '{"Name":"x"}{"n":5}')
   lu.assertEquals(row "pk = {'n', 'id'}", '{"id":1,"Name":"x","n":5}{"id":1,"n":5}')
   -- an update of what is not read is a change all the same
   lu.assertEquals(#run(db, "table = 't', columns = {'n'}", state), 1)
   db:exec "update t set \"Name\" = 'y'"
   lu.assertEquals(#run(db, "table = 't', columns = {'n'}", state), 1)
end

function TestSources.test_where()
   local db, state = cluster.main():database(), fixtures.state()
   db:exec "create table t (id int primary key, name text, n int, \"id2\" int)"
   db:exec "insert into t select i, 'it''s ' || i, i % 3 from generate_series(1, 9) i"
   for condition, ids in pairs {
      ["n = 1"] = { 1, 4, 7 }, ["n = 1 and id > 1 -- not the first"] = { 4, 7 },
      ["n = 0 or n = 2 /* comment */"] = { 2, 3, 5, 6, 8, 9 },
      ["name = 'it''s 4'"] = { 4 }, ["name like '%s 5%' -- %d %s"] = { 5 },
      ["t.id = 9"] = { 9 }, ["id in (select 3 union select 4)"] = { 3, 4 }, ["false"] = {},
      ["null"] = {}, ["id2 is null and\n\tid < 3"] = { 1, 2 }, ["name ~ '^it.s\\s8$'"] = { 8 },
   } do
      lu.assertEquals(ids_of(run(db, ("table = 't', where = %q"):format(condition))), ids)
   end
   -- in polls too; and a row that comes to satisfy it is a change of its own
   lu.assertEquals(ids_of(run(db, "table = 't', where = 'n = 1 -- c'", state)), { 1, 4, 7 })
   db:exec "update t set n = 1 where id = 2; update t set n = 0 where id = 4"
   db:exec "insert into t values (10, '', 1), (11, '', 0); delete from t where id = 7"
   lu.assertEquals(ids_of(run(db, "table = 't', where = 'n = 1 -- c'", state)), { 2, 10 })
end

-- start ------------------------------------------------------------------------------------------

function TestSources.test_start()
   local db = cluster.main():database()
   db:exec "create table t (id int primary key); insert into t values (1), (2)"
   local xid = db:value "select txid_current()"
   db:exec "insert into t values (3)"
   db:exec "update t set id = id where id = 1"
   local function check(start, reads, upserts)
      local state = fixtures.state()
      local fields = "table = 't', start = " .. start
      local changes = run(db, fields, state)
      local ids = { read = {}, upsert = {} }
      for _, change in ipairs(changes) do
         table.insert(ids[change.op], change.key.id)
      end
      table.sort(ids.read)
      table.sort(ids.upsert)
      lu.assertEquals(ids, { read = reads, upsert = upserts })
      lu.assertEquals(run(db, fields, state), {})
      db:exec "insert into t values (9)"
      -- Once there is a position, that counts.
      lu.assertEquals(ids_of(run(db, fields, state)), { 9 })
      db:exec "delete from t where id = 9"
   end
   check("'snapshot'", { 1, 2, 3 }, {})
   check("'now'", {}, {})
   check(xid, {}, { 1, 3 })
   check(xid + 2, {}, { 1 })
   check(3, {}, { 1, 2, 3 })
end

-- An xid that is yet to come: nothing until it does.
function TestSources.test_start_in_the_future()
   local db, state = cluster.main():database(), fixtures.state()
   db:exec "create table t (id int primary key); insert into t values (1)"
   local fields = ("table = 't', start = %d"):format(db:value "select txid_current()" + 40)
   lu.assertEquals(run(db, fields, state), {})
   db:exec "insert into t values (2)"
   lu.assertEquals(run(db, fields, state), {})
   for _ = 1, 40 do
      db:exec "select txid_current()"
   end
   db:exec "insert into t values (3)"
   lu.assertEquals(ids_of(run(db, fields, state)), { 3 })
end

-- start = "now": a transaction that was open at the start and commits later is news, a row that was
-- there is none, though the same old transaction is still open.
function TestSources.test_start_now_with_open_transactions()
   local db, state = cluster.main():database(), fixtures.state()
   db:exec "create table t (id int primary key)"
   local open = db:connect()
   open:exec "begin; insert into t values (1); savepoint s; insert into t values (2)"
   db:exec "insert into t values (3)"
   local fields = "table = 't', start = 'now'"
   lu.assertEquals(run(db, fields, state), {})
   lu.assertEquals(run(db, fields, state), {})
   open:exec "commit"
   lu.assertEquals(ids_of(run(db, fields, state)), { 1, 2 })
   open:close()
end

-- interval ---------------------------------------------------------------------------------------

-- Counts the statements of the program's backend while <fn> runs, by the times at which they began.
local function count_polls(db, seconds)
   local seen, n = {}, 0
   local deadline = native.now() + seconds
   while native.now() < deadline do
      local at = db:value(([[select query_start from pg_stat_activity
         where application_name = 'pgcdc-lua' and datname = '%s']]):format(db.name))
      if at and not seen[at] then
         seen[at], n = true, n + 1
      end
      native.sleep(0.002)
   end
   return n
end

-- {min, max}: short after a poll that found something, longer and longer when there is nothing.
function TestSources.test_adaptive_interval()
   local db = cluster.main():database()
   db:exec "create table t (id int primary key); insert into t values (1)"
   local p = program.start {
      script = printing "table = 't', interval = {0.02, 2}, start = 3", dsn = db,
   }
   local began = native.now()
   for i = 2, 30 do
      p:wait_changes(i - 1, 20)
      db:exec(("insert into t values (%d)"):format(i))
   end
   p:wait_changes(30, 20)
   lu.assertTrue(native.now() - began < wait.scaled(45)) -- 58 s if each waited for the longest
   wait.until_(function() -- it doubles, so that it has come to 2 s after 4
      return count_polls(db, 1) <= 2
   end, 20, "long intervals")
   db:exec "insert into t values (31)"
   p:wait_changes(31, 20)
   p:stop()
end

-- A fixed interval is kept whether there is something or not.
function TestSources.test_fixed_interval()
   local db = cluster.main():database()
   db:exec "create table t (id int primary key); insert into t values (1)"
   local p = program.start { script = printing "table = 't', interval = 0.1", dsn = db }
   p:wait_changes(1)
   local n = count_polls(db, 1.5)
   lu.assertTrue(n >= 8 / wait.slow and n <= 20, n)
   p:stop()
end

-- Several sources --------------------------------------------------------------------------------

-- One that is locked out, or whose server is away, delays no other; when the lock is gone it is
-- read like the others.
function TestSources.test_a_slow_source_delays_no_other()
   local db, other = cluster.main():database(), cluster.main():database()
   for _, where in ipairs { db, other } do
      where:exec "create table t (id int primary key); create table u (id int primary key)"
   end
   local locker = db:connect()
   locker:exec "begin; lock table t in access exclusive mode; insert into t values (1)"
   local p = program.start { dsn = db, script = printing "table = 't', interval = 0.05"
      .. printing "table = 'u', interval = 0.05"
      .. printing("table = 'u', interval = 0.05, name = 'other', connect = pgcdc.args.other")
      .. printing "table = 't', interval = 0.05, name = 'away', connect = 'host=/nonexistent'",
      args = { other = other:dsn() } }
   p:wait_until(function()
      return select(2, p:stderr():gsub('msg="ready"', "")) == 2
   end, 20, "two sources")
   for i = 1, 5 do
      db:exec(("insert into u values (%d)"):format(i))
      other:exec(("insert into u values (%d)"):format(100 + i))
      p:wait_changes(2 * i, 20)
   end
   locker:exec "commit"
   p:wait_changes(11)
   lu.assertEquals(p:changes()[11].table, "t")
   -- and it may be locked again, in the middle of the run
   locker:exec "begin; lock table t in access exclusive mode"
   db:exec "insert into u values (50)"
   p:wait_changes(12, 20)
   locker:exec "insert into t values (2); commit"
   p:wait_changes(13)
   lu.assertEquals(p:stop().status, 0)
end

-- A long scan in one database, too: that of `slow` waits until the lock is free.
function TestSources.test_a_slow_scan_delays_no_other()
   local db = cluster.main():database()
   db:exec [[create table slow (id int primary key); create table u (id int primary key);
      insert into slow values (1)]]
   local locker = db:connect()
   locker:exec "select pg_advisory_lock(1)"
   local p = program.start { dsn = db, script = printing [[table = 'slow', interval = 0.05,
      where = 'pg_advisory_xact_lock_shared(1) is not null']]
      .. printing "table = 'u', interval = 0.05" }
   p:wait_stderr '"ready" source=public.u'
   for i = 1, 5 do
      db:exec(("insert into u values (%d)"):format(i))
      lu.assertEquals(p:wait_changes(i, 20)[i].table, "u")
   end
   locker:exec "select pg_advisory_unlock(1)"
   lu.assertEquals(p:wait_changes(6, 20)[6].table, "slow")
   p:stop()
end

-- More sources than there are connections (eight for each database) take turns.
function TestSources.test_many_sources()
   local db, script = cluster.main():database(), {}
   for i = 1, 30 do
      db:exec(("create table t%d (id int primary key); insert into t%d values (1)"):format(i, i))
      script[i] = printing(("table = 't%d', interval = 0.1"):format(i))
   end
   local p = program.start { script = table.concat(script), dsn = db }
   p:wait_changes(30)
   local count = ("select count(*) from pg_stat_activity where datname = '%s'"):format(db.name)
   lu.assertTrue(tonumber(db:value(count .. " and application_name = 'pgcdc-lua'")) <= 8)
   for i = 1, 30 do
      db:exec(("insert into t%d values (2)"):format(i))
   end
   p:wait_changes(60)
   local seen = {}
   for _, change in ipairs(p:stop().changes) do
      local name = change.table .. change.key.id
      lu.assertNil(seen[name])
      seen[name] = true
   end
end

-- connect: as conninfo, as URI, as a table of keywords whose values may hold anything.
function TestSources.test_connect()
   local main = cluster.main()
   local db = main:database { name = "it's \\ odd" }
   db:exec "create table t (id int primary key); insert into t values (1)"
   local socket, port = server.socket_dir(), main.port
   local function count(connect)
      return #run("host=/nonexistent", "table = 't', connect = " .. connect)
   end
   lu.assertEquals(count(("%q"):format(db:dsn())), 1)
   lu.assertEquals(count(("{host = %q, port = %d, user = 'postgres', dbname = %q}"):format(
      socket, port, db.name)), 1)
   local uri = ("postgresql://postgres@/%s?host=%s&port=%d"):format(
      db.name:gsub("[^%w]", function(c) return ("%%%02X"):format(c:byte()) end), socket, port)
   lu.assertEquals(count(("%q"):format(uri)), 1)
   -- the same program name that people look for, unless they say another
   local p = program.start { script = printing "table = 't', interval = 10",
                             dsn = db:dsn { application_name = "mine" } }
   p:wait_changes(1)
   lu.assertEquals(main:value [[
      select count(*) from pg_stat_activity where application_name = 'mine']], "1")
   p:stop()
end

-- A source that nobody listens to is said; one that somebody does is not.
function TestSources.test_nobody_listens()
   local db = fixtures.names(1)
   local result = program.run { dsn = db, options = { "--once" }, script = [[
      pgcdc.source { table = "t", name = "unheard" }
      pgcdc.source { table = "t", name = "heard", on_change = function() end }
      pgcdc.source { table = "t", name = "event" }:on("ready", function() end)
      pgcdc.source { table = "t", name = "stream" }:sink(function() end)]] }
   lu.assertEquals(result.status, 0, result.stderr)
   local _, n = result.stderr:gsub("nobody listens to this source", "")
   lu.assertEquals(n, 1)
   lu.assertStrMatches(result.stderr, ".*level=warn msg=\"nobody listens [^\n]* source=unheard\n.*")
end

return TestSources
