-- verify_test.lua: the bundled script verify: what counts as equal, what it finds, what it says.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local lu = require "luaunit"
local pgbench = require "pgbench"
local program = require "program"
local tables = require "tables"
local values = require "values"
local wait = require "wait"

local TestVerify = {}

local function databases(sql, target_sql)
   local source, target = cluster.main():database { name = "verify" },
      cluster.main():database { name = "verified" }
   source:exec(sql)
   target:exec(target_sql or sql)
   return source, target
end

-- Runs verify; settle=0 unless the test is about that. Returns its lines and its result.
local function verify(source, target, args, status)
   local usual = { table = "t", target = type(target) == "table" and target:dsn() or target,
      settle = 0 }
   local result = program.run { bundled = "verify", dsn = source, deadline = 180,
      args = tables.merge(usual, args) }
   lu.assertEquals(result.status, status, result.stdout .. result.stderr)
   return result.lines, result
end

local function assert_equal(source, target, args)
   local lines = verify(source, target, args, 0)
   lu.assertStrMatches(lines[#lines], ".*: %d+ rows, equal")
end

local function assert_differs(source, target, want, args)
   local lines = verify(source, target, args, 1)
   table.remove(lines)
   lu.assertEquals(lines, want)
end

local plain = "create table t (id int primary key, v text, n numeric)"

function TestVerify.test_finds_each_kind_of_difference()
   local source, target = databases(plain .. [[;
      insert into t select g, 'v' || g, g / 7.0 from generate_series(1, 1000) g]])
   assert_equal(source, target)
   target:exec [[
      delete from t where id in (9, 10); insert into t values (2000, 'x', 1), (-5, 'y', 2);
      update t set v = 'other' where id = 500; update t set v = '', n = null where id = 501]]
   local lines, result = verify(source, target, nil, 1)
   lu.assertEquals(lines, {
      "public.t: id=-5 is only in the target",
      "public.t: id=9 is missing in the target",
      "public.t: id=10 is missing in the target",
      "public.t: id=500 differs in v",
      "public.t: id=501 differs in v, n",
      "public.t: id=2000 is only in the target",
      "public.t: 1000 rows, 6 differ (2 missing, 2 only in the target, 2 with other values)",
   })
   lu.assertNil(io.open(result.program.state), "it made a state file")
   lines = verify(source, target, { limit = 1 }, 1)
   lu.assertEquals(lines[2], "public.t: and 5 more")
   lu.assertEquals(#lines, 3)
   assert_equal(source, target, { where = "id between 11 and 400" })
   assert_equal(source, target, { columns = "n", where = "id = 500" })
end

function TestVerify.test_null_is_not_empty()
   local source, target = databases "create table t (id int primary key, a text, b text)"
   source:exec "insert into t values (1, null, ''), (2, 'a,b', 'c'), (3, 'x', null)"
   target:exec "insert into t values (1, '', null), (2, 'a', 'b,c'), (3, 'x', '')"
   assert_differs(source, target, { "public.t: id=1 differs in a, b",
      "public.t: id=2 differs in a, b", "public.t: id=3 differs in b" })
end

-- Types that no mirror can carry, see the README.
local one_way = { shout = true, ["shout[]"] = true, loudness = true, ["int2vector[]"] = true,
   ["hstore[]"] = true }

-- A source with a column of every type, mirrored by <how>: "types", into a table of the same types;
-- "made", into one that the mirror makes, in a database that lacks some of the types; "text", into
-- columns of text. Returns source, target, names of columns. <from>, <to>: clusters.
local function mirrored(how, from, to)
   local source = (from or cluster.main()):database { name = "verify types" }
   local target = (to or cluster.main()):database { name = "verified types" }
   values.create(source, 20, 11)
   if how == "types" then
      values.create(target, 0, 11)
   end
   local conn, names, columns = values.normal_session(source:connect()), {}, {}
   for _, row in ipairs(conn:exec [[select attname, format_type(atttypid, atttypmod)
      from pg_attribute where attrelid = '"values"'::regclass and attnum > 1]]) do
      if one_way[row[2]] then
         conn:exec(('alter table "values" drop column %s'):format(conn:ident(row[1])))
      else
         names[#names + 1] = row[2] ~= "flag" and row[1] or nil -- that one allows no NULL
         columns[#columns + 1] = conn:ident(row[1]) .. " text"
      end
   end
   if how == "text" then
      target:exec(('create table "values" (id int primary key, %s)'):format(
         table.concat(columns, ", ")))
   end
   local result = program.run { bundled = "mirror", dsn = source, options = { "--once" },
      args = { table = '"values"', target = target:dsn() } }
   lu.assertEquals(result.status, 0, result.stderr)
   return source, target, names
end

-- What was mirrored is equal, whatever its type; and any value that is lost is found.
local function assert_mirror_is_known(...)
   local source, target, names = mirrored(...)
   local args = { table = '"values"' }
   local conn = values.normal_session(target:connect())
   local lines = verify(source, target, args, 0)
   lu.assertEquals(lines, { "public.values: 20 rows, equal" })
   for _, name in ipairs(names) do
      local quoted = conn:ident(name)
      conn:exec(('update "values" set %s = null where id = (select min(id) from "values"'
         .. " where %s is not null)"):format(quoted, quoted))
   end
   local found = {}
   for _, line in ipairs((verify(source, target, args, 1))) do
      for name in (line:match "differs in (.*)$" or ""):gmatch "[^ ,]+" do
         found[name] = true
      end
   end
   for _, name in ipairs(names) do
      lu.assertTrue(found[name] or not name:find "^c%d+$", name .. " is not found to differ")
   end
end

function TestVerify.test_every_type()
   for _, how in ipairs { "types", "made", "text" } do
      assert_mirror_is_known(how)
   end
end

-- Servers of two versions, in both directions.
function TestVerify.test_other_versions()
   local bin = os.getenv "PGBIN_OTHER"
   lu.skipIf((bin or "") == "", "there is no server of another version: see servers.sh")
   local other = cluster.new { name = "other", bin = bin }
   lu.assertNotEquals(other:value "show server_version", cluster.main():value "show server_version")
   assert_mirror_is_known("made", cluster.main(), other)
   assert_mirror_is_known("types", other, cluster.main())
end

-- What the types of the two sides make look different, and is not.
function TestVerify.test_other_types_in_the_target()
   local source, target = databases([[
      create table t (id bigint primary key, n numeric, f float4, i int, j json, at timestamptz,
         c char(5), a int[], b json);
      insert into t values (1, 1.0, 0.1, 5, '{"b": 1, "a":  2}', '2026-01-02 03:04:05+02', 'ab',
         '[0:1]={1,2}', '{"x": "\\u0000"}')]], [[
      create table t (id numeric primary key, n numeric, f float8, i numeric(9,2), j jsonb,
         at timestamp, c varchar, a int[], b json, more text default 'ours');
      insert into t values (1.0, 1.00, 0.1, 5, '{"b": 1, "a":  2}', '2026-01-02 01:04:05', 'ab',
         '{1,2}', '{"x": "\\u0000"}')]])
   assert_equal(source, target)
   target:exec [[update t set n = 1.01, f = 0.1::float4, i = 5.01, j = '{"b": 1}',
      at = at + '1 us', c = ' ab', a = '{2,1}', b = '{}']]
   assert_differs(source, target, { "public.t: id=1 differs in n, f, i, j, at, c, a, b" })
end

-- Keys of several columns and any type, in databases of other encodings and orders.
function TestVerify.test_keys()
   local sql = [[
      create type mood as enum ('z', 'a');
      create type pair as (x int, y text);
      create table t (m mood, p pair, b bytea, c char(4), d timestamptz, n numeric, v int,
         primary key (m, p, b, c, d, n))]]
   local source = cluster.main():database { name = "verify keys",
      sql = "encoding 'LATIN1' template template0" }
   local target = cluster.main():database { name = "verified keys" }
   for _, db in ipairs { source, target } do
      db:exec "set client_encoding = 'UTF8'"
      db:exec(sql)
      db:exec [[insert into t select 'z', row(g, E'é "\t\\')::pair, '\x00ff', 'é',
         '2026-01-01 00:00+00', 1.50, g from generate_series(1, 50) g]]
   end
   assert_equal(source, target)
   target:exec "delete from t where v = 7; update t set v = 0, n = 1.5 where v = 8"
   assert_differs(source, target, {
      [[public.t: m=z p="{\"x\": 7, \"y\": \"é \\\"\\t\\\\\"}" b="\\x00ff" c="é"]]
         .. [[ d="2026-01-01 00:00:00+00" n=1.5 is missing in the target]],
      [[public.t: m=z p="{\"x\": 8, \"y\": \"é \\\"\\t\\\\\"}" b="\\x00ff" c="é"]]
         .. [[ d="2026-01-01 00:00:00+00" n=1.5 differs in v]],
   })
end

-- Bucket counts alone say that these are the same: what differs has a hash in the same bucket.
function TestVerify.test_a_difference_within_a_bucket()
   local bucket = [[('x' || substr(md5(convert_to(row(1, %s)::text, 'UTF8')), 17, 16))::bit(64)
      ::int8 & 16383]]
   local source, target = databases "create table t (id int primary key, v text)"
   source:exec "insert into t values (1, 'first')"
   target:exec(([[insert into t select 1, v from (select 'v' || g as v
      from generate_series(1, 1000000) g) s where (%s) = (%s) limit 1]]):format(
      bucket:format "v", bucket:format "'first'::text"))
   lu.assertEquals(target:value "select count(*) from t", "1")
   assert_differs(source, target, { "public.t: id=1 differs in v" })
end

-- Characters are compared, whatever bytes they are in the two databases: what LATIN1 does not have
-- too, and not the bytes that two of its characters and one of UTF8 have in common.
function TestVerify.test_encodings()
   local function database(encoding, rows)
      local db = cluster.main():database { name = "verify " .. encoding,
         sql = ("encoding '%s' template template0"):format(encoding) }
      db:exec "create table t (id text primary key, v text)"
      db:exec "set client_encoding = 'UTF8'"
      db:exec(("insert into t values %s"):format(rows))
      return db
   end
   local utf8 = database("UTF8", "('a', 'é'), ('ß', 'x')")
   local latin = database("LATIN1", "('a', 'é'), ('ß', 'x')")
   assert_equal(utf8, latin)
   assert_equal(latin, utf8)
   latin:exec "update t set v = 'Ã©' where v = 'é'"
   lu.assertEquals(utf8:value "select v::bytea from t where id = 'a'",
      latin:value "select convert_to(v, 'LATIN1') from t where id = 'a'")
   assert_differs(utf8, latin, { "public.t: id=a differs in v" })
   assert_differs(latin, utf8, { "public.t: id=a differs in v" })
   local japanese = database("EUC_JP", "('日本', '語'), ('b', '本')")
   utf8:exec "truncate t; insert into t values ('日本', '語'), ('b', '日')"
   assert_differs(japanese, utf8, { "public.t: id=b differs in v" })
   utf8:exec "insert into t values ('€', '🙂'); update t set v = '本' where id = 'b'"
   assert_differs(japanese, utf8, { [[public.t: id="€" is only in the target]] })
   local ascii = database("SQL_ASCII", "('日本', '語'), ('b', '本'), ('€', '🙂')")
   assert_equal(utf8, ascii)
   ascii:exec [[update t set v = E'\xe9' where id = 'b']]
   local _, result = verify(ascii, utf8, nil, 3)
   lu.assertStrContains(result.stderr, [[invalid byte sequence for encoding \"UTF8\": 0xe9]])
end

-- Columns whose collations differ: values that are equal under the target's collation still differ,
-- and the order of keys does not matter.
function TestVerify.test_collations()
   local sql = "create table t (a %s, b uuid, c varchar(9) %s, v int, primary key (%s)); %s"
   local rows = [[insert into t values ('A', '00000000-0000-0000-0000-000000000001', '10', 1),
      ('b', '00000000-0000-0000-0000-000000000002', '9', 2), ('é,"', md5('')::uuid, '', 3)]]
   local source, target = databases("create domain word as text; "
      .. sql:format("word", "", "a, b, c", rows), "create schema empty")
   lu.skipIf(not target:try [[
      create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      create collation size (provider = icu, locale = 'und-u-kn-true')]], "there is no ICU")
   target:exec(sql:format("text collate blind", "collate size", "c, b, a", rows))
   assert_equal(source, target)
   target:exec "update t set a = 'a' where a = 'A'; update t set v = 0 where c = '9'"
   for settle = 0, 1 do
      assert_differs(source, target, {
         "public.t: a=A b=00000000-0000-0000-0000-000000000001 c=10 is missing in the target",
         "public.t: a=a b=00000000-0000-0000-0000-000000000001 c=10 is only in the target",
         "public.t: a=b b=00000000-0000-0000-0000-000000000002 c=9 differs in v",
      }, { settle = settle, wait = 0.01 })
   end
end

-- The databases' own settings do not show. With array_nulls = off a row whose key holds a NULL
-- could not be looked at again: an error, or, were the key text, no difference, since none had it.
function TestVerify.test_settings_of_the_databases()
   local source = cluster.main():database { name = "verify set" }
   local target = cluster.main():database { name = "verified set" }
   local columns = [[id int, d date, at timestamptz, i interval, f float4, g float8, b bytea,
      m money, r regclass, x xml, a text[], h timestamptz[], z tstzrange, j json, t text]]
   source:exec(("create table t (%s)"):format(columns))
   source:exec [[insert into t values (1, '2026-02-01', '2026-02-01 12:00Z', '1 day 02:03:04.5',
      0.1, 1/3.0::float8, '\x00ff27', 1234.5, 'pg_catalog.pg_class', '<a/>b', array['x', null],
      array['2026-02-01 12:00Z'::timestamptz], '[2026-02-01 12:00Z,)', '{"a": 1}', '')]]
   source:exec "insert into t (id) values (2), (null)"
   target:exec(("create table t (%s); create unique index on t (id)"):format(columns))
   for db, settings in pairs {
      [source] = [[datestyle = 'SQL, DMY'; intervalstyle = 'iso_8601'; extra_float_digits = -10;
         timezone = 'Asia/Kolkata'; bytea_output = 'escape'; search_path = 'pg_catalog';
         array_nulls = off; standard_conforming_strings = off; xmloption = 'document']],
      [target] = [[datestyle = 'German'; intervalstyle = 'sql_standard'; extra_float_digits = 3;
         timezone = 'America/Caracas'; quote_all_identifiers = on; lc_monetary = 'POSIX';
         client_encoding = 'LATIN1'; array_nulls = off; row_security = off; lc_numeric = 'POSIX';
         default_transaction_isolation = 'serializable']],
   } do
      for setting in settings:gmatch "[^;\n]+" do
         if setting:find "=" then
            db.cluster:exec(('alter database "%s" set %s'):format(db.name, setting))
         end
      end
   end
   local args = { table = "public.t", pk = "id" }
   local mirror = program.run { bundled = "mirror", dsn = source, options = { "--once" }, args = {
      table = "public.t", pk = "id", where = "id = 1", target = target:dsn() } }
   lu.assertEquals(mirror.status, 0, mirror.stderr)
   local conn = target:connect()
   lu.assertEquals(conn:value "select a[2] is null from t", "t")
   conn:exec "insert into t (id) values (2), (null)"
   assert_equal(source, target, args)
   conn:exec [[update t set d = d + 1, at = at + '1 us', i = i + '1 us', f = f * 1.000001,
      g = g * 1.000000000000001, b = b || '\x00', m = m + '0.01', r = 'pg_type', x = '<a/>c',
      a = array['x', 'NULL'], h = h || h, z = 'empty', j = '{"a": 2}', t = null where id = 1;
      update t set t = 'x' where id is null]]
   args.settle, args.wait = 1, 0.01
   assert_differs(source, target, {
      "public.t: id=1 differs in d, at, i, f, g, b, m, r, x, a, h, z, j, t",
      "public.t: id=NULL differs in t" }, args)
end

-- Both sides work at the same time, at each step: a row is read only when the other side is at the
-- same statement.
function TestVerify.test_both_sides_at_once()
   local source, target = databases [[
      create table t (id int primary key, v text);
      create function meet() returns boolean language plpgsql as $$
         declare until timestamptz := clock_timestamp() + '60 s';
         begin
            loop
               perform pg_catalog.pg_stat_clear_snapshot();
               if exists (select from pg_catalog.pg_stat_activity me,
                  pg_catalog.pg_stat_activity other where me.pid = pg_catalog.pg_backend_pid()
                  and other.datname ~ '^verif' and other.datname <> me.datname
                  and pg_catalog.left(other.query, 30) = pg_catalog.left(me.query, 30)) then
                  return true;
               elsif pg_catalog.clock_timestamp() > until then
                  raise 'the other side is not there';
               end if;
            end loop;
         end $$]]
   source:exec "insert into t values (1, 'a'), (2, 'b')"
   target:exec "insert into t values (1, 'a'), (2, 'c')"
   assert_differs(source, target, { "public.t: id=2 differs in v" }, { where = "public.meet()" })
end

-- The tables are locked before there is a snapshot of either: what is written while the target's
-- waits for its lock is on both sides.
function TestVerify.test_snapshots_of_one_moment()
   local source, target = databases "create table t (id int primary key); insert into t values (1)"
   local locker = target:connect()
   locker:exec "begin; lock table t in access exclusive mode"
   local it = program.start { bundled = "verify", dsn = source, args = { table = "t", settle = 0,
      target = target:dsn() } }
   wait.until_(function()
      return target:value "select count(*) from pg_locks where not granted" == "1"
   end, 30, "the lock to be waited for")
   source:exec "insert into t values (2)"
   locker:exec "insert into t values (2); commit"
   local result = it:finish()
   lu.assertEquals(result.lines, { "public.t: 2 rows, equal" }, result.stderr)
end

-- A stop waits for no scan, and leaves none.
function TestVerify.test_stop()
   local source, target = databases "create table t (id int primary key); insert into t values (1)"
   local function sleepers()
      return target:value [[select count(*) from pg_stat_activity where datname ~ '^verif'
         and wait_event = 'PgSleep']]
   end
   local it = program.start { bundled = "verify", dsn = source, args = { table = "t",
      target = target:dsn(), where = "pg_catalog.pg_sleep(100000) is null" } }
   wait.until_(function() return sleepers() == "2" end, 30, "both scans")
   local result = it:stop "INT"
   lu.assertEquals({ result.status, result.lines }, { 3, {} }, result.stderr)
   lu.assertStrContains(result.stderr, "stopped before there was an answer")
   wait.until_(function() return sleepers() == "0" end, 30, "the scans to end")
end

-- A key that is none: rows of one key are compared as a heap; NULL is a key like others.
function TestVerify.test_doubles()
   local source, target = databases "create table t (id int, v text)"
   source:exec "insert into t values (1, 'a'), (1, 'b'), (2, 'c'), (null, 'd'), (3, 'e')"
   target:exec "insert into t values (1, 'b'), (1, 'a'), (2, 'c'), (null, 'x'), (3, 'e'), (3, 'e')"
   local want = { "public.t: id=3 is not there as often as in the source",
      "public.t: id=NULL differs in v" }
   assert_differs(source, target, want, { pk = "id" })
   assert_differs(source, target, want, { pk = "id", settle = 1, wait = 0.01 })
end

function TestVerify.test_what_cannot_be_compared()
   local source, target = databases([[
      create table t (id int primary key, v text); create table keyless (v text);
      create table here (id int primary key, a int, b int); insert into here values (1, 2, 3);
      create table secret (id int primary key); create table guarded (id int primary key)]],
      [[create table t (id int primary key, v text); create table keyless (v text);
      create table here (id int primary key, b int); insert into here values (1, 3);
      create table other (v text); create table secret (id int primary key);
      create table guarded (id int primary key); alter table guarded enable row level security]])
   target:exec "insert into t values (1, '')"
   local role = cluster.main():role()
   target:exec(("grant select on guarded to %s"):format(role))
   local weak = target:dsn { user = role }
   for _, case in ipairs {
      { { table = "missing" }, "there is no table missing in the source" },
      { { table = "secret", target_table = "missing" }, "there is no table missing in the target" },
      { { table = "keyless" }, "public.keyless has no primary key: name the columns" },
      { { table = "t", pk = "x" }, "public.t has no column 'x'" },
      { { table = "t", columns = "v,w" }, "public.t has no column 'w'" },
      { { table = "t", target_table = "other" }, "public.other in the target has no column 'id'," },
      { { table = "here_pkey" }, "here_pkey in the source is no table" },
      { { table = "secret" }, "target: permission denied for table secret", weak },
      { { table = "guarded" }, "target: query would be affected by row-level security policy",
         weak },
      { { table = "t", where = "nonsense" }, 'source: column \\"nonsense\\" does not exist' },
      { { table = "t", where = "1 / (id - 1) > 0" }, "target: division by zero" },
      { { table = "t" }, "target: connection to server on socket", "host=/nowhere" },
      { { table = "t" }, "target: connection to server on socket", target:dsn { dbname = "nix" } },
      { { table = "t,here", target_table = "t" }, "target_table must have as many names", nil, 2 },
      { { table = "t", limit = -1 }, "limit must be a whole number", nil, 2 },
      { { table = "t", settle = 1.5 }, "settle must be a whole number", nil, 2 },
      { { table = "t", wait = -1 }, "wait must be a number of seconds", nil, 2 },
      { { table = "t", nonsense = 1 }, "unknown option nonsense", nil, 2 },
   } do
      local lines, result = verify(source, case[3] or target, case[1], case[4] or 3)
      lu.assertStrContains(result.stderr, case[2])
      lu.assertEquals(lines, {})
   end
   -- a column that is not there is a difference; one more in the target is none
   target:exec "truncate t"
   lu.assertEquals(verify(source, target, { table = "t,here" }, 1), { "public.t: 0 rows, equal",
      "public.here: the target has no column a", "public.here: 1 rows, otherwise equal" })
   assert_equal(source, target, { table = "here", columns = "b" })
   assert_equal(source, target, { table = "here", columns = "b,id,b", pk = "id,id" })
   assert_equal(target, source, { table = "here" })
   assert_equal(source, target, { table = "secret", target_table = "guarded" })
end

-- Columns with other names in the target, also in the key, the condition and circles.
function TestVerify.test_renamed_columns()
   local source, target = databases [[create table t (id int primary key, a text, b text, c int);
      insert into t select g, 'a' || g, 'b' || g, g from generate_series(1, 100) g]]
   target:exec [[drop table t]]
   local names = { rename = 'id:number,a:b,b:a,c:"C 1"' }
   local result = program.run { bundled = "mirror", dsn = source, options = { "--once" },
      args = { table = "t", target = target:dsn(), rename = names.rename } }
   lu.assertEquals(result.status, 0, result.stderr)
   assert_equal(source, target, names)
   assert_equal(source, target, tables.merge(names, { where = "c < 50 and a like 'a%'" }))
   assert_equal(source, target, tables.merge(names, { pk = "c", columns = "c,a" }))
   target:exec [[alter table t add column id int default 7; delete from t where number = 1;
      update t set a = 'x' where number = 2; update t set "C 1" = 0 where number = 3]]
   local want = { "public.t: id=1 is missing in the target", "public.t: id=2 differs in b",
      "public.t: id=3 differs in c" }
   assert_differs(source, target, want, names)
   assert_differs(source, target, want, tables.merge(names, { settle = 1, wait = 0.01 }))
   target:exec [[alter table t drop column "C 1"]]
   lu.assertEquals(verify(source, target, tables.merge(names, { where = "id > 2" }), 1), {
      "public.t: the target has no column C 1", "public.t: 98 rows, otherwise equal" })
   for _, case in ipairs {
      { "idd:number", "rename: public.t has no column 'idd'; did you mean 'id'?", 3 },
      { "id:x", "public.t in the target has no column 'x', which is in the key", 3 },
      { "a:x,b:x", "rename names two columns 'x'", 2 },
      { "a", "rename=a: say OLD:NEW", 2 },
   } do
      local _, refused = verify(source, target, { rename = case[1] }, case[3])
      lu.assertStrContains(refused.stderr, case[2])
   end
end

-- Few rows among many are found by reading little.
function TestVerify.test_three_of_many()
   local source, target = databases(plain .. [[;
      insert into t select g, 'v' || g, g / 7.0 from generate_series(1, 200000) g; analyze t]])
   target:exec "delete from t where id = 77; update t set n = n + 1 where id in (100000, 200000)"
   assert_differs(source, target, { "public.t: id=77 is missing in the target",
      "public.t: id=100000 differs in n", "public.t: id=200000 differs in n" })
   target:exec "update t set n = -n"
   local lines, result = verify(source, target, { limit = 5, where = "id <= 20000" }, 1)
   lu.assertEquals(#lines, 7)
   lu.assertEquals(lines[6], "public.t: and at least 4995 more")
   lu.assertStrContains(lines[7],
      "20000 rows, 19999 in the target, at least 5000 differ (1 missing, 0 only")
   lu.assertTrue(result.maxrss_kb < 150000 or wait.slow > 1, result.maxrss_kb .. " kB")
end

-- ---- a live mirror ----

-- Rows on their way are no differences, and a row that is wrong is one, also while all is busy.
function TestVerify.test_live_mirror()
   local source = cluster.main():database { name = "verify live" }
   local target = cluster.main():database { name = "verified live" }
   pgbench.make_tables(source)
   source:exec "delete from pgbench_accounts where aid % 10 > 0" -- polls read all of it
   local names = "pgbench_accounts,pgbench_branches"
   local mirror = program.start { bundled = "mirror", dsn = source, args = { table = names,
      target = target:dsn(), interval = 0.05, max_load = 1 } }
   mirror:wait_until(function()
      return select(2, mirror:stderr():gsub('msg="ready"', "")) == 2
   end, 60, "both snapshots")
   local work = pgbench.start(source, "-n", "-c", "2", "-R", "1000", "-T", "600")
   local args = { table = names, settle = 4, wait = 0.3 }
   local lines = verify(source, target, args, 0)
   lu.assertEquals(#lines, 2)
   -- pgbench's last account is as likely as any; this one is made to stay
   target:exec [[insert into pgbench_accounts values (200000, 1, 0, '');
      alter table pgbench_accounts add column more int]]
   lines = verify(source, target, args, 1)
   lu.assertEquals(lines[1], "public.pgbench_accounts: aid=200000 is only in the target")
   lu.assertStrContains(lines[2], "10000 rows")
   lu.assertStrContains(lines[2], "1 differ")
   lu.assertTrue(work:alive() and mirror:alive())
   work:kill "TERM"
   work:wait(wait.scaled(10))
   target:exec "delete from pgbench_accounts where aid = 200000"
   args.settle = 20
   lines = verify(source, target, args, 0)
   lu.assertEquals(lines[1], "public.pgbench_accounts: 10000 rows, equal")
   lu.assertEquals(mirror:stop().status, 0)
end

return TestVerify
