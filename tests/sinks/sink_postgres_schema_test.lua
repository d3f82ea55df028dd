-- sink_postgres_schema_test.lua: ALTER TABLE at the source, and what becomes of tables in a target.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local picture = require "picture"
local program = require "program"
local stepping = require "stepping"
local tree = require "tree"
local wait = require "wait"

local rows = require("connected").rows

local TestSinkPostgresSchema = {}

-- A source and a target database, after this SQL there.
local function databases(sql, target_sql)
   local source, target = fixtures.database(sql), cluster.main():database()
   target:exec(target_sql or "")
   return source, target
end

local function sink_of(target, spec)
   return ("pgcdc.sinks.postgres {connect = %q, %s}"):format(target:dsn(), spec)
end

-- A function that runs a script to its end with --once, and one that runs SQL at the source before;
-- both return the standard error, and check that the target is like the source.
local function follower(source, target, script)
   local state = fixtures.state()
   local key = "id"
   local function run()
      local result = once.ok { dsn = source, state = state, script = script }
      lu.assertEquals(picture.of(target, "t", key), picture.of(source, "t", key))
      return result.stderr
   end
   return run, function(sql, new_key)
      key = new_key or key
      source:exec(sql)
      return run()
   end
end

local TABLE = [[create table t (id int primary key, a int, b text, c numeric(10, 2));
   insert into t values (1, 1, 'x', 1.25), (2, 2, null, 2.5), (3, null, 'z', null);]]

-- What a table that we made follows; each step by a program that is started anew.
local STEPS = {
   "alter table t rename a to aa",
   [[alter table t rename aa to tmp; alter table t rename b to aa;
      alter table t rename tmp to b]],
   "alter table t add d int default 7; alter table t add e int",
   "alter table t drop d",
   "alter table t add d int default 7", -- the rows look as they did before it was dropped
   "alter table t drop d, add d int",
   "alter table t drop d, add d text default 'q'",
   "alter table t alter c type numeric(12, 4); insert into t values (4, 4, 'w', 1.2345)",
   "alter table t alter c type numeric(8, 1), alter e type boolean using e > 0",
   "alter table t rename d to dd; alter table t add d int default 3",
   "alter table t add g int generated always as (d * 2) stored",
   "alter table t drop g, add g int generated always as (d * 3) stored",
   "alter table t add v int default 4",
}

-- Runs the steps, or those with these numbers. Returns a function that runs another one.
local function check_followed(fields, prepare, ...)
   local source, target = databases(picture.ddl .. TABLE, picture.ddl)
   if prepare then
      prepare(source)
   end
   local run, after = follower(source, target, ('pgcdc.source {table = "t"%s}:sink(%s)'):format(
      fields, sink_of(target, 'table = "t"')))
   run()
   local numbers = { ... }
   for i = 1, #numbers > 0 and #numbers or #STEPS do
      after(STEPS[numbers[i] or i])
   end
   return after, source
end

function TestSinkPostgresSchema.test_followed_by_xmin()
   local after = check_followed ""
   after("alter table t alter id type bigint; alter table t rename id to k", "k")
   after("alter table t add k2 int generated always as identity, drop constraint t_pkey,"
      .. " add primary key (k2)", "k2")
   lu.assertNotStrContains(after "alter table t add w int", "read again")
end

function TestSinkPostgresSchema.test_followed_with_deletes()
   local after, source = check_followed(", deletes = true, old = true", nil, 1, 3, 4, 5, 6, 8)
   source:exec "alter table t add v int default 4"
   after "vacuum full t" -- makes the default a stored value; rows keep their xmin
   after "alter table t drop v; delete from t where id = 2"
end

function TestSinkPostgresSchema.test_followed_by_triggers()
   local after = check_followed(', capture = "trigger"', function(source)
      stepping.trigger(source, "install")
   end, 3, 8, 9, 11, 12)
   -- no value changed, and no file of the table
   lu.assertNotStrContains(after "alter table t add w int; alter table t rename w to w2",
      "read again")
   lu.assertStrContains(after "alter table t alter b type varchar(20)",
      "column b has another type")
end

function TestSinkPostgresSchema.test_followed_by_increment()
   check_followed(', capture = "increment", column = "id"', nil, 3, 8, 9, 11, 12)
end

-- While it runs, beside writes, also in the middle of its snapshot; and killed in between.
function TestSinkPostgresSchema.test_followed_while_it_runs()
   local source, target = databases(picture.ddl .. [[
      create table t (id int primary key, a int, b text, c numeric(10, 2));
      insert into t select i, i, 'x' || i, i / 7.0 from generate_series(1, 20000) i;]],
      picture.ddl)
   local options = { dsn = source, state = fixtures.state(), script =
      ('pgcdc.source {table = "t", deletes = true, interval = 0.02}:sink(%s)'):format(
         sink_of(target, 'table = "t"')) }
   local p = program.start(options)
   for i, sql in ipairs {
      "alter table t add n int default 5", "alter table t rename a to aa", "alter table t drop b",
      "alter table t alter c type numeric(14, 6)", "alter table t add b int default 1",
      "alter table t rename aa to a; alter table t rename b to aa", "alter table t drop n",
      "alter table t add n text default 'n'", "alter table t alter c type numeric(8, 3)",
      "alter table t alter id type bigint",
   } do
      source:exec(sql)
      source:exec(([[insert into t (id, c) select 100000 + %d * 100 + k, k / 3.0
         from generate_series(1, 50) k; delete from t where id %% 100 = %d;
         update t set c = c + 1 where id %% 97 = %d]]):format(i, i, i))
      if i % 3 == 0 then
         p:kill9()
         p = program.start(options)
      end
   end
   wait.until_(function()
      local ok, there = pcall(picture.of, target, "t", "id")
      return ok and there == picture.of(source, "t", "id")
   end, 20, "the mirror to follow")
   lu.assertEquals(p:stop().status, 0)
end

-- Rows of t, (id, b) = (1, 10) to (5, 50); b = 20 goes together with the key. `fields`: of the
-- source. Then the target has what the source has.
local function check_key(fields, sql, order)
   local source, target = databases(picture.ddl .. [[create table t (id int primary key,
      b int not null); insert into t select i, 10 * i from generate_series(1, 5) i]], picture.ddl)
   local options = { dsn = source, state = fixtures.state(), script =
      ('pgcdc.source {table = "t"%s}:sink(%s)'):format(fields, sink_of(target, 'table = "t"')) }
   local function run(statement)
      source:exec(statement)
      once.ok(options)
      lu.assertEquals(picture.of(target, "t", order), picture.of(source, "t", order))
   end
   once.ok(options)
   run(sql)
   if fields ~= "" then
      run "delete from t where b = 40"
   end
end

local GONE = "delete from t where b = 20; "

-- A delete that was not told yet when a column of the key is renamed.
function TestSinkPostgresSchema.test_deleted_before_the_key_is_renamed()
   check_key(", deletes = true", GONE .. "alter table t rename id to k", "k")
   check_key(', deletes = true, together = "x"', GONE .. "alter table t rename id to k", "k")
end

-- The key gets other values, by a type that hashes alike or otherwise, or is another column.
function TestSinkPostgresSchema.test_keys_that_change()
   for _, fields in ipairs { "", ", deletes = true", ', deletes = true, together = "x"' } do
      check_key(fields, "alter table t alter id type int using id * 2; " .. GONE, "id")
      check_key(fields, "alter table t alter id type text using 'k' || id; " .. GONE, "id")
   end
   check_key(", deletes = true", GONE .. [[alter table t drop constraint t_pkey,
      add primary key (b)]], "id")
end

-- Triggers do not see that ALTER ... USING changes values.
function TestSinkPostgresSchema.test_same_type_by_triggers()
   local source, target = databases(picture.ddl .. TABLE, picture.ddl)
   stepping.trigger(source, "install")
   local run, after = follower(source, target,
      ('pgcdc.source {table = "t", capture = "trigger"}:sink(%s)'):format(
         sink_of(target, 'table = "t"')))
   run()
   after "alter table t alter a type int using a + 1"
   lu.assertNotStrContains(after "vacuum full t", "read again")
   lu.assertNotStrContains(after "alter table t alter a set statistics 10", "read again")
end

-- A history and an append keep what was there: nothing is rounded, and no column dropped.
function TestSinkPostgresSchema.test_the_past_stays()
   local source, target = databases(TABLE)
   local options = { dsn = source, state = fixtures.state(), script = ([[
      local t = pgcdc.source {table = "t"}
      t:sink(%s)
      t:rename {id = "key"}:sink(%s)]]):format(sink_of(target, 'table = "h", mode = "history"'),
      sink_of(target, 'table = "a", mode = "append"')) }
   once.ok(options)
   source:exec "alter table t rename b to bb; alter table t alter c type numeric(12, 4)"
   source:exec "update t set c = 1.2345 where id = 1"
   once.ok(options)
   source:exec "alter table t alter c type int; alter table t drop bb"
   once.ok(options)
   source:exec "alter table t rename a to bb"
   once.ok(options)
   for name, key in pairs { h = "id", a = "key" } do
      lu.assertEquals(rows(target, ([[select bb, bb_old1, c from %s where %s = 1
         order by bb_old1, c]]):format(name, key)), "1 x 1.2345, 1 x 1.2500, 1 - 1")
   end
end

-- ---- a table of the user's own ----

-- What the error says to run.
local function advice(text)
   return text:match ': (ALTER TABLE [^\n]-), or leave '
end

-- Types that differ and lose nothing are taken; what would be rounded, cut or left out stops the
-- start, with the statement that mends it.
function TestSinkPostgresSchema.test_own_table()
   local source, target = databases(picture.ddl .. TABLE .. [[
      alter table t add j json, add at timestamp default '2024-01-01', add v varchar(5)]],
      picture.ddl .. [[
      create table t (id bigint primary key, a bigint, b text, c numeric, j jsonb, at timestamptz,
         v varchar(10), more int default 5)]])
   local options = { dsn = source, state = fixtures.state(), script =
      ('pgcdc.source {table = "t"}:sink(%s)'):format(sink_of(target, 'table = "t"')) }
   once.ok(options)
   local function stops(at_source, at_target, statement)
      source:exec(at_source)
      target:exec(at_target)
      for _ = 1, 2 do -- a second start says the same
         lu.assertEquals(advice(once.ends(1, options).text), statement)
      end
      target:exec(statement)
      once.ok(options)
   end
   local t = 'ALTER TABLE "public"."t" '
   stops("alter table t rename a to aa", "", t .. 'RENAME COLUMN "a" TO "aa"')
   stops("alter table t add n int default 1", "", t .. 'ADD COLUMN "n" integer')
   stops("", "alter table t alter c type numeric(5, 1)",
      t .. 'ALTER COLUMN "c" TYPE numeric(10,2)')
   stops("alter table t alter c type numeric(12, 4), alter v type text", "",
      t .. 'ALTER COLUMN "c" TYPE numeric(12,4), ALTER COLUMN "v" TYPE text')
   stops("", [[alter table t alter n set not null; alter table t alter n add generated always
      as identity]], t .. 'ALTER COLUMN "n" SET GENERATED BY DEFAULT')
   source:exec "alter table t drop b"
   lu.assertStrContains(once.ok(options).stderr, 'DROP COLUMN')
   source:exec "update t set aa = 7, n = 8, c = 1.2345 where id = 1"
   once.ok(options)
   lu.assertEquals(rows(target, "select aa, n, c, b, more from t where id = 1"),
      "7 8 1.2345 x 5")
end

-- A table that we made as another role: it is not ours to alter, but can be written to.
function TestSinkPostgresSchema.test_made_by_another_role()
   local source, target = databases(TABLE)
   local role = cluster.main():role "login"
   local state = fixtures.state()
   local function options(user)
      return { dsn = source, state = state, script = ([[pgcdc.source {table = "t"}:sink(
         pgcdc.sinks.postgres {connect = %q, table = "t"})]]):format(target:dsn { user = user }) }
   end
   once.ok(options())
   target:exec(([[grant all on schema pgcdc to %s; grant all on pgcdc.position, t to %s]]):format(
      role, role))
   source:exec "update t set a = 7 where id = 1"
   once.ok(options(role))
   lu.assertEquals(rows(target, "select a from t where id = 1"), "7")
   source:exec "alter table t rename a to aa"
   lu.assertEquals(advice(once.ends(1, options(role)).text),
      'ALTER TABLE "public"."t" RENAME COLUMN "a" TO "aa"')
end

-- A generated column in both, whose expression changes.
function TestSinkPostgresSchema.test_own_table_with_an_expression()
   local sql = [[create table t (id int primary key, n int,
      g int generated always as (n * 2) stored);]]
   local source, target = databases(sql .. "insert into t values (1, 5)", sql)
   local options = { dsn = source, state = fixtures.state(), script =
      ('pgcdc.source {table = "t"}:sink(%s)'):format(sink_of(target, 'table = "t"')) }
   once.ok(options)
   source:exec "alter table t drop g, add g int generated always as (n * 3) stored"
   local statement = advice(once.ends(1, options).text)
   target:exec(statement)
   once.ok(options)
   lu.assertEquals(target:value "select g from t", "15")
end

-- Whether a type holds the values of another one.
function TestSinkPostgresSchema.test_types_that_fit()
   local fits = dofile(tree.top .. "/lua/pgcdc/sinks/postgres/fits.lua")
   local function check(is, list)
      for from, to in list:gmatch "%s*(.-)%s*>%s*([^;]+);" do
         lu.assertEquals(fits(from, to, from:find "%[%]$" ~= nil), is, from .. " > " .. to)
      end
   end
   check(true, [[numeric(10,2) > numeric(12,4); integer > numeric(10,0); numeric(9,0) > integer;
      real > double precision; smallint > bigint; bigint > numeric; text > text; uuid > text;
      character varying(5) > character varying(6); character(5) > character varying(5);
      uuid > character(36); bit(3) > bit varying; bit varying(2) > bit varying(2);
      timestamp without time zone > timestamp with time zone; json > jsonb; date > date;
      interval day to second(3) > interval; interval(3) > interval(4); "char" > "char";
      time(3) without time zone > time(3) without time zone; public.mood > mood; cidr > inet;
      geometry(Point,4326) > geometry; integer[] > bigint[]; integer[] > jsonb; text[] > text;]])
   check(false, [[numeric(12,4) > numeric(10,2); numeric > numeric(10,2); numeric(10,2) > integer;
      numeric(12,4) > numeric(12,2); double precision > real; bigint > integer;
      bigint > double precision; integer > numeric(10,2); text > character varying(10);
      character varying(6) > character varying(5); character varying(5) > character(5);
      text > name; text > "char"; bit(3) > bit(4); text > integer; integer > boolean;
      timestamp with time zone > timestamp without time zone; interval > interval day to second;
      timestamp with time zone > date; timestamp(6) without time zone >
      timestamp(0) without time zone; time without time zone > time(3) without time zone;
      time with time zone > time without time zone; interval(6) > interval(3); text > mood;
      geometry > geometry(Point,4326); numeric(12,4)[] > numeric(10,2)[]; integer > integer[];
      integer[] > integer; jsonb > integer;]])
   lu.assertFalse(fits("text", "citext", false, true)) -- of a key: two rows would become one
end

-- ---- what a source does ----

-- A handler gets the rows again whose values changed without being written; where the source began
-- with what commits from now on, it is only told.
function TestSinkPostgresSchema.test_rows_come_again_where_they_must()
   local source = fixtures.names(3)
   local options = { dsn = source, state = fixtures.state(), script = [[
      local function show(c) print(c.source, c.op, c.key.id, c.row:get 'n') end
      pgcdc.source {table = "t", name = "all", on_change = show}
      pgcdc.source {table = "t", name = "new", start = "now", on_change = show}]] }
   local function after(sql)
      source:exec(sql)
      local result = once.ok(options)
      return table.concat(result.lines, ","), result.stderr
   end
   after "select"
   lu.assertEquals(after "alter table t add n int", "")
   lu.assertEquals(after "alter table t rename n to m; alter table t rename m to n", "")
   local lines, log = after "alter table t drop n, add n int default 5"
   lu.assertEquals(lines, "all\tread\t1\t5,all\tread\t2\t5,all\tread\t3\t5")
   lu.assertStrContains(log, "column n is another one than before: the table is read again")
   lu.assertStrContains(log, "rows do not come again because of that")
   lu.assertEquals(after "select", "")
end

-- ---- other streams ----

-- Columns that a script leaves out, renames or adds; a rename in the source and one in the script.
function TestSinkPostgresSchema.test_projected()
   local source, target = databases(TABLE)
   local options = { dsn = source, state = fixtures.state(), script = ([[
      local t = pgcdc.source {table = "t"}
      t:drop "a":rename {c = "total"}:add {more = function(c) return c.row.id * 2 end}:sink(%s)
      t:filter(function() return true end):select {"id", "a"}:sink(%s)]]):format(
      sink_of(target, 'table = "one"'), sink_of(target, 'table = "two", rename = {a = "x"}')) }
   once.ok(options)
   source:exec [[alter table t drop b; alter table t alter c type numeric(12, 4),
      alter a type bigint]]
   once.ok(options)
   source:exec [[insert into t (id, a, c) values (9, 9, 1.2345)]]
   once.ok(options)
   lu.assertEquals(rows(target, "select id, total, more from one where id = 9"), "9 1.2345 18")
   lu.assertEquals(rows(target, "select * from two where id = 9"), "9 9")
   lu.assertEquals(target:value [[select string_agg(attname || ' ' ||
      format_type(atttypid, atttypmod), ', ' order by attnum) from pg_attribute
      where attrelid = 'two'::regclass and attnum > 0]], "id integer, x bigint")
end

-- Two sources into one table: each may be migrated at another time.
function TestSinkPostgresSchema.test_two_sources()
   local source, target = databases(TABLE .. [[create table u (like t including all);
      insert into u values (11, 11, 'u', 1)]])
   local options = { dsn = source, state = fixtures.state(), script = ([[
      local s = %s
      pgcdc.source {table = "t"}:sink(s)
      pgcdc.source {table = "u"}:sink(s)]]):format(sink_of(target, 'table = "m"')) }
   local function after(sql)
      source:exec(sql)
      once.ok(options)
   end
   after "select"
   after "alter table t rename a to aa; alter table t alter c type numeric(12, 4)"
   after "update u set a = 12 where id = 11; update t set aa = 13, c = 1.2345 where id = 1"
   after "alter table u rename a to aa; alter table u alter c type numeric(12, 4)"
   after "update u set aa = 14, c = 1.2345 where id = 11; alter table t drop b"
   lu.assertEquals(rows(target, "select id, aa, b, c from m where id in (1, 11) order by id"),
      "1 13 x 1.2345, 11 14 u 1.2345")
   after "alter table u drop b"
   lu.assertEquals(target:value [[select count(*) from pg_attribute
      where attrelid = 'm'::regclass and attname = 'b']], "0")
end

-- A table of an empty source is made, and is like it, before any row is there.
function TestSinkPostgresSchema.test_empty_table()
   local source, target = databases(
      picture.ddl .. 'create table t ("a;b" int, "Id" text primary key)', picture.ddl)
   local run, after = follower(source, target, ('pgcdc.source {table = "t"}:sink(%s)'):format(
      sink_of(target, 'table = "t"')))
   source:exec 'alter table t rename "Id" to id'
   run()
   after [[alter table t rename "a;b" to "it's"; alter table t add "select" uuid]]
   after "insert into t values (5, 'x', null)"
end

-- A type that has a cast to json of its own.
function TestSinkPostgresSchema.test_own_cast()
   local sql = [[create type shade; create function shade_in(cstring) returns shade immutable
      strict language internal as 'textin'; create function shade_out(shade) returns cstring
      immutable strict language internal as 'textout'; create type shade (input = shade_in,
      output = shade_out, like = text); create function shade_json(shade) returns json immutable
      language sql as $$ select json_build_object('shade', $1::text) $$;
      create cast (shade as json) with function shade_json(shade);]]
   local source, target = databases(sql .. [[create table t (id int primary key, s shade);
      insert into t values (1, 'red (dark)')]], sql)
   local options = { dsn = source, state = fixtures.state(), script =
      ('pgcdc.source {table = "t"}:sink(%s)'):format(sink_of(target, 'table = "t"')) }
   lu.assertStrContains(once.ends(1, options).text, "by the cast from public.shade to json")
   target:exec "create table t (id int primary key, s jsonb)"
   once.ok(options)
   lu.assertEquals(target:value "select s from t", '{"shade": "red (dark)"}')
end

return TestSinkPostgresSchema
