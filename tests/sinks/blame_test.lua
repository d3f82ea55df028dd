-- blame_test.lua: rows that a Postgres target refuses because of what they are.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"

local TestBlame = {}

-- A source after this SQL, and a target after that.
local function databases(sql, target_sql)
   local source, target = cluster.main():database { name = "blame" },
      cluster.main():database { name = "blamed" }
   source:exec(sql)
   target:exec(target_sql)
   return source, target
end

-- A script that puts tables of the source into those of the same name. <policy>: on_error, as Lua;
-- dead letters are printed. <fields>: of the sinks, as Lua.
local function script(target, policy, fields, tables)
   return ([[
      for _, name in ipairs { %s } do
         pgcdc.source { table = name, deletes = %s, on_error = %s, dead_letter = %s }
         :sink(pgcdc.sinks.postgres { connect = %q, table = name, %s })
      end]]):format(tables or '"t"', tostring(not (fields or ""):find "append"),
      policy and ("%q"):format(policy) or "nil", policy == "dead_letter" and [[function(d)
            print(d.change.op, d.change.table, pgcdc.json.encode(d.change.key),
               pgcdc.json.encode(d.change.row or {}), d.error)
         end]] or "nil", target:dsn(), fields or "")
end

local function run(source, target, status, policy, fields, tables, state)
   local result = once.ends(status, { dsn = source, state = state,
      script = script(target, policy, fields, tables) })
   return result.text, result.stdout
end

local function ids(db, name)
   return db:value(("select coalesce(string_agg(id::text, ' ' order by id), '') from %s"):format(
      name or "t"))
end

local plain = "create table t (id int primary key, v text)"

local function numbers(n)
   return ("%s; insert into t select g, 'v' || g from generate_series(1, %d) g"):format(plain, n)
end

-- Whatever refuses it: the message names target, table, column, and the key of the row.
function TestBlame.test_what_is_said()
   for _, case in ipairs {
      { [[create table t (id int primary key, v text check (v <> 'v7'))]],
        'table t, key id=7: new row for relation "t" violates check constraint "t_v_check"',
        "23514" },
      { [[create table t (id int primary key, v text not null)]],
        'table t, key id=7: null value in column "v"', "23502",
        "update t set v = null where id = 7" },
      { [[create domain small as text check (length(value) < 10);
         create table t (id int primary key, v small)]],
        "table t, key id=7, column v: value for domain small violates check constraint", "23514",
        "update t set v = repeat('x', 20) where id = 7" },
      { [[create table t (id int primary key, v text);
         create function f() returns trigger language plpgsql as $$ begin
            if new.v = 'v7' then raise exception 'not this one'; end if; return new; end $$;
         create trigger f before insert or update on t for each row execute function f()]],
        "table t, key id=7: not this one", "P0001" },
      { [[create table t (id int primary key, v text);
         create function f() returns trigger language plpgsql as $$ begin
            if new.v = 'v7' then raise exception 'not at the end'; end if; return new; end $$;
         create constraint trigger f after insert or update on t deferrable initially deferred
            for each row execute function f()]],
        "table t, key id=7: not at the end", "P0001" },
   } do
      local source, target = databases(numbers(20), case[1])
      if case[4] then
         source:exec(case[4])
      end
      for _, mode in ipairs { "mirror", "append" } do
         local text = run(source, target, 1, nil, ('mode = "%s"'):format(mode))
         lu.assertStrContains(text, "postgres t: ")
         lu.assertStrContains(text, case[2])
         lu.assertStrContains(text, ("(%s), in database %s as role "):format(case[3],
            target:value "select current_database()"))
         lu.assertEquals(ids(target), "")
      end
   end
end

-- Values that SQL converts: rows of a script's own, and JSON.
function TestBlame.test_values_that_are_converted()
   local source, target = databases("create table t (id int primary key); insert into t values (1)",
      "create table t (id int primary key, n int, v varchar(3), j jsonb)")
   for _, case in ipairs {
      { "n = 'x'", 'column n: invalid input syntax for type integer: \"x\" (22P02)' },
      { "n = 2^40", "column n: value \"1099511627776\" is out of range for type integer (22003)" },
      { "v = 'abcd'", "column v: the column \"v\" of \"public\".\"t\" in the target is"
         .. " character varying(3), which cannot hold abcd as it is" },
      { "j = {x = '\\0'}", "column j: unsupported Unicode escape sequence" },
   } do
      local text = once.ends(1, { dsn = source, script = ([[
         pgcdc.source { table = "t" }:map(function(c) return { id = c.key.id, %s } end)
            :sink(pgcdc.sinks.postgres { connect = %q, table = "t", pk = "id" })]]):format(case[1],
         target:dsn()) }).text
      lu.assertStrContains(text, "table t, key id=1, " .. case[2]:gsub("\\", ""))
   end
end

-- With "skip" all other rows go in, each bad one is logged and counted; by any way to write.
function TestBlame.test_skip()
   local check = "create table t (id int primary key, v text check (v not like '%7'))"
   for _, fields in ipairs { "", 'mode = "append"', 'mode = "history"' } do
      local source, target = databases(numbers(300), fields == "" and check or [[
         create table t (id int, v text check (v not like '%7'), op text, valid_from timestamptz,
            valid_to timestamptz)]])
      local state = fixtures.state()
      local text = run(source, target, 0, "skip", fields, nil, state)
      lu.assertEquals(target:value "select count(*) from t", "270", fields)
      lu.assertEquals(target:value "select count(*) from t where v like '%7'", "0")
      lu.assertEquals(select(2, text:gsub("then=skipped", "")), 30)
      lu.assertStrContains(text, "failed=30")
      source:exec [[update t set v = 'x7' where id = 1; update t set v = 'y' where id = 2;
         insert into t values (400, 'new')]]
      text = run(source, target, 0, "skip", fields, nil, state)
      lu.assertEquals(select(2, text:gsub("then=skipped", "")), 1)
      lu.assertEquals(target:value "select count(*) from t where v in ('y', 'new')", "2")
   end
end

-- A value of a script's own that the target would cut is as a refused one: the other rows go in.
function TestBlame.test_values_that_would_be_cut()
   local source, target = databases(numbers(30),
      "create table t (id int primary key, v varchar(2))")
   local text = once.ends(0, { dsn = source, script = ([[
      pgcdc.source { table = "t", on_error = "skip" }
         :map(function(c) return { id = c.key.id, v = "v" .. c.key.id } end)
         :sink(pgcdc.sinks.postgres { connect = %q, table = "t", pk = "id" })]]):format(
      target:dsn()) }).text
   lu.assertEquals(ids(target), "1 2 3 4 5 6 7 8 9")
   lu.assertEquals(select(2, text:gsub("then=skipped", "")), 21)
   lu.assertStrContains(text, "which cannot hold v30 as it is")
end

-- A dead letter has the row, by names, as the target would have got it; deletes are told, too.
function TestBlame.test_dead_letters()
   local source, target = databases(numbers(9), [[
      create table t (number int primary key, v text check (v <> 'v7'));
      create function f() returns trigger language plpgsql as $$ begin
         if old.number = 3 then raise exception 'three stays'; end if; return old; end $$;
      create trigger f before delete on t for each row execute function f()]])
   local state = fixtures.state()
   local _, out = run(source, target, 0, "dead_letter", 'rename = { id = "number" }', nil, state)
   lu.assertStrContains(out, 'upsert\tt\t{"number":"7"}\t{"number":"7","v":"v7"}\t')
   lu.assertStrContains(out, 'violates check constraint "t_v_check"')
   source:exec [[delete from t where id in (2, 3, 4); update t set v = 'v7' where id = 5;
      update t set v = 'other' where id = 6; insert into t values (10, 'v7')]]
   _, out = run(source, target, 0, "dead_letter", 'rename = { id = "number" }', nil, state)
   lu.assertStrContains(out, 'delete\tt\t{"number":"3"}\t{}\t')
   lu.assertStrContains(out, "table t, key number=3: three stays (P0001)")
   lu.assertStrContains(out, 'upsert\tt\t{"number":"5"}\t')
   lu.assertStrContains(out, 'upsert\tt\t{"number":"10"}\t')
   lu.assertEquals(select(2, out:gsub("\n", "")), 3)
   lu.assertEquals(target:value
      "select string_agg(number || v, ' ' order by number) from t",
      "1v1 3v3 5v5 6other 8v8 9v9")
end

-- A row that is left out moves no other: deletes go on to be of the rows before them.
function TestBlame.test_deletes_keep_their_place()
   local source, target = databases(plain, [[
      create table t (id int primary key, v text check (v <> 'bad'))]])
   source:exec [[insert into t values (1, 'bad'), (2, 'bad'), (3, 'a'), (4, 'b'), (5, 'bad')]]
   local result = once.ends(0, { dsn = source, script = ([[
      local function change(op, id, v)
         return pgcdc.change { op = op, table = "t", key = { id = id }, row = v and { id = id,
            v = v } }
      end
      pgcdc.source { table = "t", on_error = "skip" }:map(function(c)
         local id = c.key.id
         return c.row.v == "bad" and { change("upsert", id + 10, "bad") }
            or { change("upsert", id, "first"), change("delete", id), change("upsert", id, "again"),
                 change("upsert", id + 20, "x"), change("delete", id + 20) }
      end):flatten():sink(pgcdc.sinks.postgres { connect = %q, table = "t" })]]):format(
      target:dsn()) })
   lu.assertEquals(select(2, result.text:gsub("then=skipped", "")), 3)
   lu.assertStrContains(result.text, "table t, key id=11")
   lu.assertEquals(target:value "select string_agg(id || v, ' ' order by id) from t",
      "3again 4again")
end

-- Rows that do not go together: each half is taken, and the whole is not.
function TestBlame.test_rows_that_do_not_go_together()
   local source, target = databases(
      plain .. "; insert into t values (1, 'a'), (2, 'b'), (3, 'c'), (4, 'a'), (5, 'd')",
      "create table t (id int, v text unique)")
   local text = run(source, target, 0, "skip", 'mode = "append"')
   lu.assertStrContains(text, "table t, key id=4: duplicate key value violates unique constraint")
   lu.assertEquals(ids(target), "1 2 3 5")
end

-- Several tables in one transaction: a row of the second that needs one of the first is not blamed.
function TestBlame.test_several_tables()
   local source, target = databases([[
      create table t (id int primary key, v text); insert into t select g, 'v' || g
         from generate_series(1, 50) g;
      create table u (id int primary key, t int); insert into u select g, g
         from generate_series(1, 50) g]], [[
      create table t (id int primary key, v text);
      create table u (id int primary key, t int check (t <> 33));
      create function f() returns trigger language plpgsql as $$ begin
         if not exists (select from t where id = new.t) then raise exception 'no %', new.t
            using errcode = '23514'; end if; return new; end $$;
      create trigger f before insert or update on u for each row execute function f()]])
   local result = once.ends(0, { dsn = source, script = ([[
      for _, name in ipairs { "t", "u" } do
         pgcdc.source { table = name, together = "all", on_error = "skip" }
            :sink(pgcdc.sinks.postgres { connect = %q, table = name })
      end]]):format(target:dsn()) })
   lu.assertEquals(select(2, result.text:gsub("then=skipped", "")), 1)
   lu.assertStrContains(result.text, "table u, key id=33: ")
   lu.assertEquals(target:value "select count(*) from u", "49")
   lu.assertEquals(target:value "select count(*) from t", "50")
end

-- Rows that no longer fit into memory, of which some are bad.
function TestBlame.test_among_many()
   local source, target = databases(plain .. [[;
      insert into t select g, repeat('x', 1000) || g from generate_series(1, 40000) g]],
      "create table t (id int primary key, v text check (id % 9999 <> 0))")
   local text = run(source, target, 0, "skip", 'mode = "append"')
   lu.assertEquals(select(2, text:gsub("then=skipped", "")), 4)
   lu.assertEquals(target:value "select count(*) || ' ' || sum(length(v)) from t",
      source:value "select count(*) || ' ' || sum(length(v)) from t where id % 9999 <> 0")
end

return TestBlame
