-- sink_postgres_test.lua: pgcdc.sinks.postgres: what is in the target is what the source says.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local values = require "values"
local wait = require "wait"

local rows = require("connected").rows

local TestSinkPostgres = {}

-- A source and a target database.
local function databases()
   return cluster.main():database(), cluster.main():database()
end

-- A function that runs a script once, to the end, with a state of its own, and returns the result.
-- What the script finds: `target`, a conninfo, and `sink(spec)`, which makes the sink.
local function runner(source, target, script)
   local state = fixtures.state()
   local prelude = ([[local target = %q
      local function sink(spec) spec.connect = target; return pgcdc.sinks.postgres(spec) end
   ]]):format(target:dsn()):gsub("\n", " ")
   return function(more)
      local p = program.start { script = prelude .. (more or script), dsn = source, state = state,
                                options = { "--once" } }
      local peak_kb = 0 -- sampled: what wait4 tells is never less than what the runner held
      while p:alive() do
         peak_kb = math.max(peak_kb, p:rss() or 0)
         native.sleep(0.002)
      end
      local result = p:finish()
      result.peak_kb = peak_kb
      return result
   end
end

local succeed = once.succeed

-- Runs once; it must end well.
local function mirror(source, target, script)
   local run = runner(source, target, script)
   succeed(run())
   return function(more)
      return succeed(run(more))
   end
end

-- ---- types ----

-- Types whose JSON cannot be read back: a cast to JSON of its own, arrays of hstore, int2vector[].
local one_way = { shout = true, ["shout[]"] = true, loudness = true, ["int2vector[]"] = true,
                  ["hstore[]"] = true }

-- A table with a column of every type, and a target that knows the same types.
local function every_type(n)
   local source, target = databases()
   values.create(source, n, 5)
   values.create(target, 0, 5)
   local from = values.normal_session(source:connect())
   local to = values.normal_session(target:connect())
   to:exec 'drop table "values"'
   for _, row in ipairs(from:exec [[select attname, format_type(atttypid, atttypmod)
      from pg_attribute where attrelid = '"values"'::regclass and attnum > 0]]) do
      if one_way[row[2]] then
         from:exec(('alter table "values" drop column %s'):format(from:ident(row[1])))
      end
   end
   return source, target, from, to
end

local function assert_same_rows(from, to, name)
   local sql = ("select row_to_json(t) from %s t order by id"):format(name)
   local theirs, ours = from:exec(sql), to:exec(sql)
   lu.assertEquals(#ours, #theirs)
   for i, row in ipairs(theirs) do
      if row[1] ~= ours[i][1] then
         local a, b = json.decode(row[1], { numbers = "string" }), json.decode(ours[i][1],
            { numbers = "string" })
         for _, key in ipairs(json.keys(a)) do
            lu.assertEquals(b[key], a[key], ("row %d, column %s"):format(i, key))
         end
         lu.assertEquals(json.keys(b), json.keys(a))
      end
   end
end

local function columns_of(conn, name)
   return rows(conn, ([[select attname, format_type(atttypid, atttypmod) from pg_attribute
      where attrelid = '%s'::regclass and attnum > 0 and not attisdropped order by attnum]])
      :format(name))
end

-- Values of every type arrive as they are, in a table that was made for them: by COPY into it,
-- and by way of a temporary table.
function TestSinkPostgres.test_every_type_arrives()
   local source, target, from, to = every_type(25)
   local run = mirror(source, target, [[
      pgcdc.source {table = '"values"'}:sink(sink {table = '"values"'})]])
   assert_same_rows(from, to, '"values"')
   lu.assertEquals(columns_of(to, '"values"'), columns_of(from, '"values"'))
   from:exec 'update "values" set id = id where id < 9; delete from "values" where id = 1'
   to:exec 'delete from "values" where id in (1, 3, 5)'
   run()
   assert_same_rows(from, to, '"values"')
end

-- Their JSON was made an array again as any other's is, counting from 1, and Postgres refused to
-- read what then was in the table: "array is not a valid int2vector".
function TestSinkPostgres.test_vectors_can_be_read()
   local source, target = databases()
   source:exec [[create domain places as int2vector;
      create table v (id int primary key, a int2vector, b oidvector, c places);
      insert into v values (1, '1 -2 3', '4294967295', '5 6'), (2, '', '', null)]]
   target:exec "create domain places as int2vector"
   mirror(source, target, [[pgcdc.source {table = "v"}:sink(sink {table = "v"})]])
   lu.assertEquals(rows(target, "select * from v order by id"), "1 1 -2 3 4294967295 5 6, 2   -")
end

-- A domain over a type without a binary input function, inside an array or a row: Postgres made
-- nothing of such JSON ("no binary input function available for type aclitem").
function TestSinkPostgres.test_domains_without_binary_input_inside_others()
   local source, target = databases()
   for _, db in ipairs { source, target } do
      db:exec [[create domain acl as aclitem; create domain acls as acl[];
         create type inner_row as (x acl, "f ""1\" text);
         create type outer_row as (a inner_row[], b acls, c float8, d timestamptz, e bytea)]]
   end
   source:exec [=[create table t (id int primary key, a acl[], b acls, c outer_row[], d inner_row);
      insert into t values (1, '{{=r/postgres},{NULL}}', '{postgres=arw*/postgres}', array[[row(
            array[row('=r/postgres', E'so "so"\n{}'), row(null, null)]::inner_row[],
            '{=r/postgres}', 0.1::float8 + 0.2::float8, '2026-11-23 12:00Z', '\x00ff')::outer_row],
         [null::outer_row]], row(null, 'a')),
         (2, null, '{}', '{}', null), (3, array[null]::acl[], null, null, row(null, null))]=]
   local run = mirror(source, target, [[pgcdc.source {table = "t"}:sink(sink {table = "t"})]])
   local sql = "set extra_float_digits = 1; select * from t order by id"
   target:exec(("alter database %s set extra_float_digits = -5"):format(target.name))
   lu.assertEquals(rows(target, sql), rows(source, sql))
   source:exec "update t set id = id"
   run()
   lu.assertEquals(rows(target, sql), rows(source, sql))
end

-- What a script assigns goes through Lua: the value that it read, written back, is the same.
function TestSinkPostgres.test_every_lua_value_arrives()
   local source, target, from, to = every_type(25)
   mirror(source, target, [[
      pgcdc.source {table = '"values"'}:map(function(change)
         local row = change.row
         for _, column in ipairs(require "pgcdc.raw".copy_columns(change)) do
            if column.kind ~= "json" then -- a decoded document has lost its blanks
               row[column.name] = row[column.name]
            end
         end
         return change
      end):sink(sink {table = '"values"'})
]])
   assert_same_rows(from, to, '"values"')
end

-- Documents that no JSON library would take pass as long as nobody touches them, also where the
-- script has read or changed other columns.
function TestSinkPostgres.test_untouched_documents_pass()
   local source, target = databases()
   source:exec [[create table docs (id int primary key, j json, a json[], n int);
      insert into docs values (1, '{"a":1e400}', array['1e400'::json], 1),
         (2, '{"a" : 1.50, "a":2}', '{}', 2), (3, 'null', null, 3), (4, null, null, 4)]]
   mirror(source, target, [[
      local s = pgcdc.source {table = "docs"}
      s:on("change", function(change)
         local row = change.row
         row.n = row.n + 1
         local _ = row.id == 2 and row.j
         if row.id == 3 then row.a = pgcdc.array {1, {b = "x"}, pgcdc.null} end
      end)
      s:sink(sink {table = "docs"})]])
   lu.assertEquals(rows(target, "select * from docs order by id"),
      [[1 {"a":1e400} {1e400} 2, 2 {"a" : 1.50, "a":2} {} 3, ]]
      .. [[3 null {1,"{\"b\":\"x\"}",NULL} 4, 4 - - 5]])
end

-- The null of a document that a script assigned arrived as NULL, and a document that it had set to
-- nil was pgcdc.null when it was read again.
function TestSinkPostgres.test_null_of_a_document_is_no_null()
   local source, target = databases()
   source:exec [[create table d (id int primary key, j json, b jsonb, l int[], t text);
      insert into d select i, 'null', 'null', '{}', 'x' from generate_series(1, 4) i]]
   local result = runner(source, target, [[
      local s = pgcdc.source {table = "d"}
      s:on("change", function(change)
         local row = change.row
         for _, name in ipairs {"j", "b", "l", "t"} do
            if row.id == 1 then row[name] = row[name] end
            if row.id == 2 then row[name] = pgcdc.null end
            if row.id == 3 then row[name] = nil end
         end
         if row.id == 4 then change.row = {id = 4, j = pgcdc.null, t = pgcdc.null} end
         print(("%s %s %s %s %s"):format(row.j, row.b, row.l and #row.l, row.t, row))
      end)
      s:sink(sink {table = "d"})
      s:sink(pgcdc.sinks.csv {})]])()
   succeed(result)
   table.sort(result.lines)
   lu.assertEquals(result.lines, {
      '1,null,null,"[]",x', "2,null,null,,", "3,,,,", "4,,,,", "id,j,b,l,t",
      'nil nil nil nil {"id":3,"j":null,"b":null,"l":null,"t":null}',
      'null null 0 x {"id":1,"j":null,"b":null,"l":[],"t":"x"}',
      'null null 0 x {"id":4,"j":null,"b":null,"l":[],"t":"x"}',
      'null null nil nil {"id":2,"j":null,"b":null,"l":null,"t":null}',
   })
   lu.assertEquals(rows(target, "select * from d order by id"),
      "1 null null {} x, 2 null null - -, 3 - - - -, 4 - - - -")
end

-- ---- modes ----

local three_sources = [[
   local s = pgcdc.source {table = "t"}
   s:sink(sink {table = "m", mode = "mirror"})
   s:sink(sink {table = "a", mode = "append"})
   s:sink(sink {table = "h", mode = "history"})]]

-- A mirror has the newest version of each row, append has all of them, history knows from when to
-- when each was true.
function TestSinkPostgres.test_modes()
   local source, target = databases()
   source:exec "create table t (id int primary key, v text); insert into t values (1,'a'),(2,'b')"
   local run = mirror(source, target, three_sources)
   source:exec "update t set v = 'c' where id = 1; insert into t values (3, 'd')"
   run()
   run()
   source:exec "update t set v = 'e' where id = 1"
   run()
   lu.assertEquals(rows(target, "select * from m order by id"), "1 e, 2 b, 3 d")
   lu.assertEquals(rows(target, "select * from a order by id, v"), "1 a, 1 c, 1 e, 2 b, 3 d")
   lu.assertEquals(rows(target, [[select id, v, op, valid_to is null from h
      order by id, valid_from]]),
      "1 a read f, 1 c upsert f, 1 e upsert t, 2 b read t, 3 d upsert t")
   lu.assertEquals(rows(target, [[select count(*) from h a join h b using (id)
      where a.valid_to = b.valid_from and a.v <> b.v]]), "2")
   lu.assertEquals(rows(target, [[select count(*) from pg_indexes
      where indexdef like '%(id) WHERE%']]), "1")
end

-- Within one flush the order counts, key by key, deletes included.
function TestSinkPostgres.test_several_versions_in_one_flush()
   local source, target = databases()
   source:exec [[create table t (id int primary key, v text);
      insert into t select i, 'old' from generate_series(1, 5) i]]
   local run = mirror(source, target, three_sources)
   source:exec "update t set v = 'new'"
   run [[
      local raw = require "pgcdc.raw"
      local sinks = {sink {table = "m"}, sink {table = "a", mode = "append"},
                     sink {table = "h", mode = "history"}}
      local s = pgcdc.source {table = "t"}
      s:on("change", function(change)
         local id = change.row.id
         local function write(v)
            local copy = raw.clone(change)
            if v then copy.row.v = v else copy.op = "delete" end
            for _, each in ipairs(sinks) do each:write(copy) end
         end
         if id == 1 then write "x"; write "y" end
         if id == 2 then write "x"; write() end
         if id == 3 then write(); write "x" end
         if id == 4 then write(); write "x"; write() end
         if id == 5 then write(); write() end
      end)]]
   lu.assertEquals(rows(target, "select * from m order by id"), "1 y, 3 x")
   lu.assertEquals(rows(target, "select id, v from a where v <> 'old' order by id, v"),
      "1 x, 1 y, 2 x, 3 x, 4 x")
   lu.assertEquals(rows(target, [[select id, v, valid_to is null from h
      order by id, valid_from, valid_to, v]]),
      "1 old f, 1 x f, 1 y t, 2 old f, 2 x f, 3 old f, 3 x t, 4 old f, 4 x f, 5 old f")
end

-- A table that is gone is made again, and that it is not whole is said.
function TestSinkPostgres.test_a_table_that_is_gone()
   local source, target = databases()
   source:exec "create table t (id int primary key); insert into t values (1)"
   local run = mirror(source, target, [[pgcdc.source {table = "t"}:sink(sink {table = "t"})]])
   target:exec "drop table t"
   source:exec "insert into t values (2)"
   lu.assertStrContains(run().stderr, "the table was gone from the target")
   lu.assertEquals(rows(target, "select * from t"), "2")
end

-- What was sealed is stored apart from what came later, with a savepoint of its own; one that is
-- not given leaves the last one alone.
function TestSinkPostgres.test_savepoints_and_seals()
   local source, target = databases()
   source:exec "create table t (id int primary key); insert into t values (1), (2), (3)"
   local run = runner(source, target, [[
      local db = pgcdc.connect(target)
      local t, changes = sink {table = "t"}, {}
      local function show() print(db:query("select count(*) as n from t")[1].n, t:recall()) end
      local s = pgcdc.source {table = "t"}
      s:on("change", function(change) changes[change.row.id] = change end)
      s:on("batch", function()
         if #changes == 0 then return end
         t:write(changes[1])
         local first = t:seal()
         t:write(changes[2])
         t:flush("one", first) show()
         local second = t:seal()
         t:write(changes[3])
         t:flush(nil, second) show()
         t:flush("two", second) show()
         t:flush() show()
         t:flush("three") show()
      end)]])
   local result = succeed(run())
   lu.assertEquals({ table.unpack(result.lines, 1, 5) },
      { "1\tone", "2\tone", "2\ttwo", "3\ttwo", "3\tthree" })
end

-- A key that comes twice in one flush, from two sources, is no trouble.
function TestSinkPostgres.test_several_sources()
   local source, target = databases()
   source:exec [[
      create table a (id int primary key, v text); insert into a values (1, 'a'), (2, 'a');
      create table b (id int primary key, v text); insert into b values (2, 'b'), (3, 'b');
      create table c (id int primary key, w text); insert into c values (1, 'c'), (4, 'c')]]
   target:exec "create table t (id int unique, v text, w text default 'none')"
   local run = mirror(source, target, [[
      local t = sink {table = "t"}
      for _, name in ipairs {"a", "b", "c"} do pgcdc.source {table = name}:sink(t) end]])
   source:exec [[update a set v = 'A' where id = 1; update c set w = 'C'; update b set v = 'B']]
   run()
   lu.assertEquals(rows(target, "select * from t order by id"), "1 A C, 2 B none, 3 B none, 4 - C")
end

-- A table that has rows already is met with the same statements as a change.
function TestSinkPostgres.test_mirror_into_a_table_with_rows()
   local source, target = databases()
   source:exec "create table t (id int primary key, v text); insert into t values (1,'a'),(2,'b')"
   target:exec "create table t (id int primary key, v text); insert into t values (2,'x'),(9,'y')"
   mirror(source, target,
      [[pgcdc.source {table = "t"}:sink(sink {table = "t", existing = "keep"})]])
   lu.assertEquals(rows(target, "select * from t order by id"), "1 a, 2 b, 9 y")
end

-- ---- columns ----

-- Renamed, added, masked and dropped columns; extra ones that only some rows have.
function TestSinkPostgres.test_shaped_rows()
   local source, target = databases()
   source:exec [[create table t (id int primary key, email text, n int, tags text[]);
      insert into t select i, 'u' || i, i, array['x', i::text] from generate_series(1, 3) i]]
   mirror(source, target, [[
      local s = pgcdc.source {table = "t"}
      s:rename {n = "amount"}:mask {email = "redact"}:add {twice = function(c)
         return 2 * c.row.amount end}:drop {"tags"}:sink(sink {table = "shaped"})
      s:sink(sink {table = "renamed", rename = {id = "Key", tags = 't"ags'}})
      s:map(function(c)
         c = require "pgcdc.raw".clone(c)
         if c.row.id > 1 then c.row.note = {c.row.id} end
         if c.row.id > 2 then c.row.late = true end
         return c
      end):sink(sink {table = "extra"})
      s:map(function(c)
         c = require "pgcdc.raw".clone(c)
         c.row = {id = c.row.id, email = "own", more = 1.5}
         return c
      end):sink(sink {table = "own"})]])
   lu.assertEquals(rows(target, "select id, email, amount, twice from shaped order by 1"),
      "1 *** 1 2, 2 *** 2 4, 3 *** 3 6")
   lu.assertEquals(rows(target, [[select "Key", "t""ags" from renamed order by 1]]),
      "1 {x,1}, 2 {x,2}, 3 {x,3}")
   lu.assertEquals(columns_of(target, "extra"),
      "id integer, email text, n integer, tags text[], note jsonb, late boolean")
   lu.assertEquals(rows(target, "select id, note, late from extra order by 1"),
      "1 - -, 2 [2] -, 3 [3] t")
   lu.assertEquals(rows(target, "select * from own order by 1"),
      "1 own - - 1.5, 2 own - - 1.5, 3 own - - 1.5")
end

-- Identity and generated columns, domains, other names than usual, and 1,500 columns.
function TestSinkPostgres.test_odd_tables()
   local source, target = databases()
   source:exec [[create table "A ""b"" \ c" ("i""d" int primary key, "select" int);
      insert into "A ""b"" \ c" values (1, 2);
      create table t (id int primary key, n int, twice int); insert into t values (1, 2, 99)]]
   local wide = {}
   for i = 1, 1499 do
      wide[i] = ("c%d int default %d"):format(i, i)
   end
   source:exec("create table wide (id int primary key, " .. table.concat(wide, ", ")
      .. "); insert into wide values (1), (2)")
   target:exec [[create schema "S s"; create domain small as int not null check (value < 100);
      create table t (id int generated always as identity primary key, n small,
                      twice int generated always as (n * 2) stored, more text default 'kept')]]
   local run = mirror(source, target, [[
      pgcdc.source {table = {'A "b" \\ c'}}:sink(sink {table = {"S s", 'A "b"'}})
      pgcdc.source {table = "t"}:sink(sink {table = "t"})
      pgcdc.source {table = "wide"}:sink(sink {table = "wide"})]])
   source:exec [[update "A ""b"" \ c" set "select" = 3; update t set n = 5;
      update wide set c1499 = 7 where id = 2; insert into t values (2, 3, 0)]]
   run()
   lu.assertEquals(rows(target, [[select * from "S s"."A ""b"""]]), "1 3")
   lu.assertEquals(rows(target, "select * from t order by id"), "1 5 10 kept, 2 3 6 kept")
   lu.assertEquals(rows(target, "select id, c1, c1499 from wide order by id"), "1 1 1499, 2 1 7")
end

-- A type that the target does not have becomes text, with a warning; an ALTER TABLE at the source
-- adds its column to a table that we made.
function TestSinkPostgres.test_types_and_columns_that_are_missing()
   local source, target = databases()
   source:exec [[create type mood as enum ('ok'); create type pair as (a int, b int);
      create table t (id int primary key, m mood, p pair, ms mood[]);
      insert into t values (1, 'ok', row(1,2), '{ok}')]]
   local state = fixtures.state()
   local p = program.start { dsn = source, state = state, script = ([[
      pgcdc.source {table = "t", interval = 0.05}
         :sink(pgcdc.sinks.postgres {connect = %q, table = "t"})]]):format(target:dsn()) }
   p:wait_stderr 'msg="?ready'
   lu.assertEquals(rows(target, "select * from t"), '1 ok {"a": 1, "b": 2} ["ok"]')
   lu.assertStrContains(p:stderr(), "the target has no type public.mood: column m becomes text")
   lu.assertStrContains(p:stderr(), "the target has no type public.pair: column p becomes jsonb")
   source:exec "alter table t add column late numeric(5,1); insert into t values (2, null, null)"
   source:exec "update t set late = 2.5 where id = 2"
   p:wait_until(function()
      return target:value "select count(*) from t where id = 2" == "1"
         and columns_of(target, "t"):find "late" and rows(target,
            "select late from t where id = 2") == "2.5"
   end)
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(columns_of(target, "t"),
      "id integer, m text, p jsonb, ms jsonb, late numeric(5,1)")
end

-- More than fits into memory goes into a file without a name on the way.
function TestSinkPostgres.test_a_flush_of_a_hundred_megabytes()
   local source, target = databases()
   source:exec [[create table t (id int primary key, v text);
      insert into t select i, 'x' from generate_series(1, 3000) i]]
   local run = mirror(source, target, [[pgcdc.source {table = "t"}:sink(sink {table = "t"})]])
   source:exec "update t set v = repeat(md5(id::text), 1100)"
   local result = run()
   lu.assertEquals(rows(target, [[select count(*), count(*) filter (
      where v = repeat(md5(id::text), 1100)) from t]]), "3000 3000")
   -- what sanitizers need is more
   lu.assertTrue(result.peak_kb < wait.scaled(90) * 1024, result.peak_kb)
end

-- ---- bundled scripts ----

-- `mirror` and `history`, several tables at once, also in the sandbox.
function TestSinkPostgres.test_bundled_scripts()
   local source, target = databases()
   source:exec [[create table t (id int primary key, v text); insert into t values (1, 'a');
      create table "My T" (k int, v text); insert into "My T" values (2, 'b')]]
   local function run(name, args)
      args.target = target:dsn()
      return program.run { bundled = name, dsn = source, options = { "--once", "--sandbox" },
                           state = false, args = args }
   end
   succeed(run("mirror", { table = "t" }))
   succeed(run("mirror", { table = '"My T"', pk = "k" }))
   succeed(run("history", { table = 't,"My T"', pk = "v" }))
   succeed(run("history", { table = "t", suffix = "_log", columns = "id" }))
   lu.assertEquals(rows(target, [[select * from t union all select * from "My T"]]), "1 a, 2 b")
   lu.assertEquals(rows(target, [[select id, v, op, valid_to from t_history union all
      select k, v, op, valid_to from "My T_history" order by 1]]), "1 a read -, 2 b read -")
   lu.assertEquals(columns_of(target, "t_log"), "id integer, op text, "
      .. "valid_from timestamp with time zone, valid_to timestamp with time zone")
   local result = run("mirror", { table = '"My T"' })
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "primary key")
end

-- ---- refusals ----

-- What cannot work is said in one line, and nothing of the flush is there.
function TestSinkPostgres.test_refusals()
   local source, target = databases()
   source:exec [[create table t (id int primary key, v text, n int);
      insert into t values (1, 'a', 5)]]
   target:exec [[
      create table other (id int primary key); create table plain (id int, v text, n int);
      create table gen (id int generated always as (n) stored primary key, v text, n int);
      create table small (id int primary key, v text, n int check (n < 3));
      create table wrong (id int primary key, v int, n int); create view seen as select 1 as id]]
   local function fails(spec, message, more)
      local result = runner(source, target, ([[
         pgcdc.source {table = "t"}%s:sink(sink {%s})]]):format(more or "", spec))()
      lu.assertEquals(result.status, 1, result.stderr)
      lu.assertStrContains(result.stderr, message, false, spec)
   end
   fails("table = 'other'", [[has no column \"v\", \"n\": ALTER TABLE \"public\".\"other\" ]]
      .. [[ADD COLUMN \"v\" text, ADD COLUMN \"n\" integer]])
   fails("table = 'plain'", [[it needs a unique index on (\"id\")]])
   fails("table = 'gen'", [[is generated, so it cannot be written, and it is part of the key]])
   fails("table = 'plain', mode = 'history'", "has no column op, which a history needs")
   fails("table = 'small'", "violates check constraint")
   fails("table = 'wrong'", [[ALTER TABLE \"public\".\"wrong\" ALTER COLUMN \"v\" TYPE text]])
   fails("table = 'seen', existing = 'keep'", [[has no column]])
   fails("table = 'nix', create = false", "there is no table nix in the target")
   fails("table = 'nix.t'", "there is no schema nix in the target: create it first")
   fails("table = 'a.b.c.d'", "too many dotted names")
   fails("table = 'x', pk = 'nix'", "pk names 'nix', and the changes have no such column")
   fails("table = 'x', rename = {nix = 'y'}", "rename names 'nix'")
   fails("table = 'x', rename = {v = 'n'}", "two columns are named 'n' in the target")
   fails("table = 'x', mode = 'history', rename = {v = 'op'}", "a column is named 'op'")
   fails("table = 'x'", "the changes have no key: name columns as pk=", ":drop {'id'}")
   fails("table = 'x'", "it takes changes and tables with named fields, not a string",
      ":map(tostring)")
   lu.assertEquals(rows(target, "select count(*) from small"), "0")
   lu.assertEquals(rows(target, "select count(*) from pg_class where relname in ('x', 'nix')"), "0")
end

-- Misuse is found when the sink is made, and names the script's line.
function TestSinkPostgres.test_misuse()
   local script = [[
      local function fails(spec)
         local ok, why = pcall(pgcdc.sinks.postgres, spec)
         assert(not ok, "this should have failed")
         print((why:gsub("^[^ ]*script.lua:2: ", "")))
      end
      fails() fails {} fails {table = 5} fails {table = ""} fails {table = "t", mode = "miror"}
      fails {table = "t", tabel = 1} fails {table = "t", pk = {}} fails {table = "t", create = 1}
      fails {table = "t", rename = {a = "x", b = "x"}} fails {table = "t", connect = 1}
      pgcdc.sinks.postgres {table = "t"} fails {table = "t"}
   ]]
   local result = program.run { script = script, state = false,
                                dsn = cluster.main():database() }
   local what = "pgcdc.sinks.postgres: "
   lu.assertEquals(result.lines, {
      what .. "its argument must be a table, not nil", what .. "table is required",
      what .. "table must be a string or a table, not a number",
      what .. "table must not be empty",
      what .. "mode: unknown 'miror'; did you mean 'mirror'?",
      what .. "unknown field 'tabel'; did you mean 'table'?",
      what .. "pk must name at least one column",
      what .. "create must be a boolean, not a number",
      what .. "rename names two columns 'x'",
      what .. "connect must be a string or a table, not a number",
      "two sinks are named 'postgres t': give one of them another name",
   }, result.stderr)
end

-- What a role may not do is said, with what it would need.
function TestSinkPostgres.test_privileges()
   local source, target = databases()
   source:exec "create table t (id int primary key); insert into t values (1)"
   local role = cluster.main():role "login"
   local function run()
      return program.run { dsn = source, options = { "--once" }, script = ([[
         pgcdc.source {table = "t"}:sink(pgcdc.sinks.postgres {connect = %q, table = "t"})]])
         :format(target:dsn { user = role }) }
   end
   local function refused(message)
      local result = run()
      lu.assertEquals(result.status, 1)
      lu.assertStrContains(result.stderr, message)
   end
   refused "pgcdc.position cannot be made: grant CREATE on the target database"
   target:exec [[create schema pgcdc; create table pgcdc.position (pipeline text, sink text,
      savepoint text, flush text, saved timestamptz not null default now(),
      primary key (pipeline, sink)); create table t (id int primary key)]]
   local needs = "pgcdc.position cannot be used: grant USAGE on the schema pgcdc, and SELECT,"
      .. " INSERT and UPDATE on the table: permission denied for "
   refused(needs .. "schema pgcdc")
   target:exec("grant usage on schema pgcdc to " .. role)
   refused(needs .. "table position")
   target:exec("grant select, insert, update on pgcdc.position to " .. role)
   refused "permission denied for table t"
   target:exec("grant select, insert, update, delete on t to " .. role)
   succeed(run())
   lu.assertEquals(rows(target, "select * from t"), "1")
end

return TestSinkPostgres
