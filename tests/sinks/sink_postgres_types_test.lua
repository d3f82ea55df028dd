-- sink_postgres_types_test.lua: types that somebody made, which keep their name when they change.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local stepping = require "stepping"

local rows = require("connected").rows

local TestSinkPostgresTypes = {}

-- A source and a target database, after this SQL there, and options of a program that mirrors t.
local function databases(sql, target_sql, fields)
   local source, target = fixtures.database(sql), cluster.main():database()
   target:exec(target_sql or "")
   return source, target, { dsn = source, state = fixtures.state(), script =
      ('pgcdc.source {table = "t"%s}:sink(pgcdc.sinks.postgres {connect = %q, table = "t"})')
      :format(fields or "", target:dsn()) }
end

local SAME = "select id, to_jsonb(v) from t order by id"

local function check_same(source, target)
   lu.assertEquals(rows(target, SAME), rows(source, SAME))
end

-- The statement that a refusal says to run.
local function advice(text)
   return text:match "hold all values %b(): (.-), or leave"
end

-- ---- what a source notices ----

-- The attributes of a composite, in an array of a domain in another composite.
local NESTED = [[create type part as (a int, b text); create domain parts as part[];
   create type whole as (p parts, n int); create table t (id int primary key, v whole);
   insert into t select i, row(array[row(i, 'x')]::part[], i)::whole from generate_series(1, 3) i;]]

local function check_noticed(fields, prepare)
   local source = fixtures.database(NESTED)
   if prepare then
      prepare(source)
   end
   local options = { dsn = source, state = fixtures.state(), script = ([[
      pgcdc.source {table = "t"%s}:on("change", function(c)
         print(c.key.id, pgcdc.json.encode(c.row.v)) end)]]):format(fields or "") }
   local function after(sql)
      source:exec(sql)
      local result = once.ok(options)
      return #result.lines, result.lines[1], result.stderr
   end
   lu.assertEquals(after "select", 3)
   for _, case in ipairs {
      { "alter type part add attribute c int", '"c":null' },
      { "alter type part rename attribute b to bb", '"bb":"x"' },
      { "alter type part drop attribute bb, add attribute bb text", '"bb":null' },
      { "alter type whole drop attribute n" },
   } do
      local n, line, log = after(case[1])
      lu.assertEquals(n, 3, case[1])
      lu.assertStrContains(line, case[2] or "p")
      lu.assertStrContains(log, "column v has rows as values, whose attributes are others now")
   end
   lu.assertEquals(after "alter table t add w int; alter type whole rename to total", 0)
   lu.assertEquals(after "select", 0)
end

function TestSinkPostgresTypes.test_noticed()
   check_noticed()
   check_noticed ", deletes = true, old = true"
   check_noticed ', capture = "increment", column = "id"'
end

function TestSinkPostgresTypes.test_noticed_by_triggers()
   check_noticed(', capture = "trigger"', function(source)
      stepping.trigger(source, "install")
   end)
end

-- ---- tables that we made ----

function TestSinkPostgresTypes.test_attributes_are_followed()
   local source, target, options = databases(NESTED, NESTED .. "drop table t")
   once.ok(options)
   check_same(source, target)
   source:exec [[alter type part add attribute "C d" numeric(10, 4), add attribute e date;
      update t set v.p[1]."C d" = 1.2345 where id = 2]]
   local statement = advice(once.ends(1, options).text)
   lu.assertEquals(statement, 'ALTER TYPE part ADD ATTRIBUTE "C d" numeric(10,4);'
      .. ' ALTER TYPE part ADD ATTRIBUTE "e" date')
   target:exec(statement)
   once.ok(options)
   check_same(source, target)
   source:exec "alter type part rename attribute a to aa"
   target:exec(advice(once.ends(1, options).text))
   once.ok(options)
   lu.assertEquals(target:value "select (v).p[1].aa from t where id = 3", "3")
end

-- A type that has the same name there is not always the same.
function TestSinkPostgresTypes.test_other_types_of_the_same_name()
   local sql = [[create type c as (a numeric(10, %d), b text); create domain d as numeric(10, %d);
      create domain e as varchar(%d)[]; create domain f as d;
      create type r as range (subtype = d);]]
   local _, target, options = databases(sql:format(4, 4, 20) .. [[
      create table t (id int primary key, v c, w c[], d d, ds d[], e e, f f, r r);
      insert into t values (1, row(1.2345, 'x'), array[row(1.2345, 'y')]::c[], 1.2345,
         '{1.2345, null}', '{abcdefghijklmnopqrst}', 1.2345, '[1.2345,2)')]],
      sql:format(2, 2, 10))
   local log = once.ok(options).stderr
   lu.assertStrContains(log, "the type public.c of the target is another one than the source's:"
      .. " column v becomes jsonb")
   lu.assertEquals(rows(target, [[select format_type(atttypid, atttypmod) from pg_attribute
      where attrelid = 't'::regclass and attnum > 1 order by attnum]]),
      "jsonb, jsonb, numeric(10,4), numeric(10,4)[], character varying(20)[], numeric(10,4), text")
   lu.assertEquals(rows(target, "select v, w, d, ds, e, f, r from t where id = 1"),
      '{"a": 1.2345, "b": "x"} [{"a": 1.2345, "b": "y"}] 1.2345 {1.2345,NULL}'
      .. " {abcdefghijklmnopqrst} 1.2345 [1.2345,2.0000)")
   once.ok(options)
end

-- A domain that is another one under its old name; the target's stays what it was.
function TestSinkPostgresTypes.test_domain_is_made_anew()
   local sql = [[create domain d as numeric(10, 2);]]
   local source, target, options = databases(sql .. [[
      create table t (id int primary key, v d, w d[]); insert into t values (1, 1.25, '{1.25}')]],
      sql)
   once.ok(options)
   source:exec [[alter domain d rename to d_old; create domain d as numeric(12, 4);
      alter table t alter v type d, alter w type d[]; drop domain d_old;
      update t set v = 1.2345, w = '{1.2345}']]
   once.ok(options)
   lu.assertEquals(rows(target, "select v, w from t"), "1.2345 {1.2345}")
   lu.assertEquals(rows(target, "select distinct pg_typeof(v), pg_typeof(w) from t"),
      "numeric numeric[]")
end

-- A type of the target was altered there, and the source not at all: no value is lost.
function TestSinkPostgresTypes.test_altered_in_the_target()
   local source, target, options = databases([[create type c as (a int, b text);
      create table t (id int primary key, v c); insert into t values (1, row(1, 'x'))]],
      "create type c as (a int, b text)")
   once.ok(options)
   target:exec [[create type n as (a smallint, b text); alter table t alter v type n
      using row((v).a, (v).b)::n]]
   source:exec "insert into t values (2, row(40000, 'y'))"
   once.ok(options)
   lu.assertEquals(rows(target, "select v from t order by id"), "(1,x), (40000,y)")
end

-- ---- tables of the user's own ----

-- SQL of types whose numbers have so many places and whose texts so many characters; `more`: what
-- the type c has besides.
local function types(scale, length, more)
   return ([[create type c as (a numeric(10, %d)%s); create domain d as varchar(%d);
      create domain ds as d[]; create type cc as (c c, ds ds);]]):format(scale, more or "", length)
end

local function check_mended(source, target, options, statement)
   lu.assertEquals(advice(once.ends(1, options).text), statement)
   lu.assertEquals(target:value "select count(*) from t", "0")
   target:exec(statement)
   once.ok(options)
   local all = "select to_jsonb(t) from t"
   lu.assertEquals(rows(target, all), rows(source, all))
end

function TestSinkPostgresTypes.test_own_table()
   local source, target, options = databases(types(4, 20) .. [[
      create table t (id int primary key, a c, b cc[], c ds, d d[], e d);
      insert into t values (1, row(1.2345), array[row(row(1.2345), '{abcdefghijkl}')]::cc[],
         '{abcdefghijkl}', '{abcdefghijkl}', 'abcdefghijkl');]], types(2, 10) .. [[
      create table t (id int primary key, a c, b cc[], c d[], d varchar(10)[], e d);]])
   local text = once.ends(1, options).text
   lu.assertStrContains(text, '"a" is public.c in the source and another c in the target')
   check_mended(source, target, options, 'ALTER TABLE "public"."t" ALTER COLUMN "a" TYPE jsonb'
      .. ' USING pg_catalog.to_jsonb("a"), ALTER COLUMN "b" TYPE jsonb USING'
      .. ' pg_catalog.to_jsonb("b"), ALTER COLUMN "c" TYPE character varying(20)[], ALTER COLUMN'
      .. ' "d" TYPE character varying(20)[], ALTER COLUMN "e" TYPE character varying(20)')
end

function TestSinkPostgresTypes.test_own_table_lacks_an_attribute()
   local source, target, options = databases(types(2, 10, ", x int") .. [[
      create table t (id int primary key, v cc);
      insert into t values (1, row(row(1.25, 3), null))]],
      types(2, 10) .. "create table t (id int primary key, v cc)")
   check_mended(source, target, options, 'ALTER TYPE c ADD ATTRIBUTE "x" integer')
end

function TestSinkPostgresTypes.test_own_table_that_takes_all()
   local source, target, options = databases(types(2, 10) .. [[
      create table t (id int primary key, a d[], b d[], c varchar(20)[], d d, e c, f c[], g c,
         h c[], i c, j c); insert into t values (1, '{abc}', '{abc}', '{abc}', 'abc', row(1.25),
         array[row(1.25)]::c[], row(1.25), array[row(1.25)]::c[], row(1.25), row(1.25))]],
      [[create type c as (x text, a numeric(12, 4)); create domain d as varchar(20);
      create domain e as text; create type text_c as (a text); create table t (id int primary key,
         a d[], b varchar(10)[], c d[], d e, e jsonb, f json, g text, h c[], i c, j text_c)]])
   once.ok(options)
   local same = "select a, b, c, d, to_jsonb(e), to_jsonb(f) from t"
   lu.assertEquals(rows(target, same), rows(source, same))
   lu.assertEquals(rows(target, "select g, h, i, j from t"),
      '{"a":1.25} {"(,1.2500)"} (,1.2500) (1.25)')
end

-- ---- values that the target refuses ----

-- They are named by their column, with what can be done.
function TestSinkPostgresTypes.test_values_that_are_refused()
   local enum = "create type mood as enum ('sad');"
   local source, target, by_id = databases(enum .. [[create table t (id int primary key,
      a int unique, m mood); insert into t values (1, 1, 'sad')]], enum)
   once.ok(by_id)
   source:exec "alter type mood add value 'it''s'"
   source:exec "update t set m = 'it''s'; insert into t (id) values (2)"
   lu.assertStrContains(once.ends(1, by_id).text, "table t, key id=1, column m: invalid input value"
      .. [[ for enum mood: "it's": if it is new in the source, ALTER TYPE mood ADD VALUE 'it''s']]
      .. " in the target (22P02)")
   target:exec "alter type mood add value 'it''s'"
   once.ok(by_id)
   lu.assertEquals(rows(target, "select id, m from t order by id"), "1 it's, 2 -")
   local function by_a(more)
      return { dsn = source, state = fixtures.state(), script = ([[
         pgcdc.source {table = "t", pk = "a"%s}:sink(pgcdc.sinks.postgres {
            connect = %q, table = "by_a"})]]):format(more, target:dsn()) }
   end
   lu.assertStrContains(once.ends(1, by_a "").text, "it is in the key of the mirror, which has no"
      .. " NULL: name other columns as pk=, or leave such rows out with the source's where=")
   once.ok(by_a ', where = "a > 0"')
end

return TestSinkPostgresTypes
