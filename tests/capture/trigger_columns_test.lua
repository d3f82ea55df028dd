-- trigger_columns_test.lua: columns that change under triggers: others' statements go on, and
-- deletes are told.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local stepping = require "stepping"
local watch = require "watch"

local TestTriggerColumns = {}

local function new_database(sql, args)
   return stepping.installed(sql or fixtures.numbers(8), args)
end

-- One more run of the source, which must end with this status; its standard error.
local function ends(db, status, state)
   local result = program.run { dsn = db, state = state, options = { "--once" },
      script = watch.script { table = "t", capture = "trigger" } }
   lu.assertEquals(result.status, status, result.stderr)
   return result.stderr
end

-- A key column has another name: deletes, other keys and TRUNCATE go on, and are told, before and
-- after the installation was run again. What was not read by then is kept.
function TestTriggerColumns.test_a_key_that_was_renamed()
   local db = new_database()
   local poll = stepping.new(db)
   poll()
   db:exec [[delete from t where id = 1; alter table t rename id to "it's %s";
      delete from t where "it's %s" = 2; update t set "it's %s" = 30 where "it's %s" = 3]]
   lu.assertEquals(poll(), "delete 1 2 3, upsert 30")
   db:exec [[delete from t where "it's %s" = 4; update t set n = 1 where "it's %s" = 5]]
   local result = stepping.trigger(db, "install")
   lu.assertStrContains(result.stdout, "key it's %s, notify yes")
   db:exec [[delete from t where "it's %s" = 6]]
   lu.assertEquals(poll(), "delete 4, upsert 5, delete 6")
   db:exec [[truncate t]]
   lu.assertEquals(poll(), "delete 5 7 8 30")
   db:exec [[insert into t values (9); alter table t rename "it's %s" to id; truncate t]]
   lu.assertEquals(poll(), "delete 9")
   lu.assertEquals(#stepping.trigger(db, "install").lines[1] > 0, true)
   lu.assertEquals(poll(), "")
end

-- The type of any column can be changed, the key's too.
function TestTriggerColumns.test_other_types()
   local db = new_database()
   local poll = stepping.new(db)
   poll()
   db:exec "delete from t where id = 1; alter table t alter id type bigint, alter n type numeric"
   db:exec "delete from t where id = 2; update t set id = 5000000000 where id = 3"
   -- values may be others now, which nothing in the rows shows: they are read again
   lu.assertEquals(poll(), "read 4 5 6 7 8 5000000000, delete 1 2 3")
   db:exec "delete from t where id = 4; alter table t alter id type text"
   db:exec "delete from t where id = '5'; insert into t values ('x')"
   lu.assertEquals(poll(), "read 6 7 8 5000000000 x, delete 4 5")
   db:exec "delete from t where id = 'x'; alter table t alter id type int using id::bigint % 1000"
   local state = fixtures.state()
   ends(db, 0, state)
end

-- Keys that were noted before the type was changed, and that the new type cannot have: the source
-- says what to do, and a new installation heals.
function TestTriggerColumns.test_keys_that_no_longer_fit()
   local db = new_database "create table t (id text primary key); insert into t values ('a'), ('1')"
   local state = fixtures.state()
   ends(db, 0, state)
   db:exec "delete from t where id = 'a'; alter table t alter id type int using id::int"
   lu.assertStrContains(ends(db, 3, state), "action=install")
   db:exec "delete from t"
   stepping.trigger(db, "install")
   lu.assertStrContains(ends(db, 0, state), "were pruned: the table is read again")
end

-- The column of the key was dropped, and the table has another key: statements go on; the source
-- stops until the installation was run again, and then says that deletes are missing.
function TestTriggerColumns.test_a_key_that_was_dropped()
   local db = new_database()
   local state = fixtures.state()
   ends(db, 0, state)
   db:exec [[alter table t add other uuid default gen_random_uuid(); alter table t drop id;
      alter table t add primary key (other)]]
   db:exec "delete from t where ctid = '(0,1)'; update t set n = 5; insert into t values (6)"
   lu.assertStrContains(ends(db, 3, state), "action=install")
   stepping.trigger(db, "install")
   lu.assertStrContains(ends(db, 0, state), "were pruned: the table is read again")
   db:exec "delete from t where n = 6"
   ends(db, 0, state)
end

-- A key that is there again under the same name, with nothing told of what was deleted without it.
function TestTriggerColumns.test_deletes_without_a_key()
   local db = new_database()
   local poll = stepping.new(db)
   poll()
   db:exec "alter table t add temp int; update t set temp = id; alter table t drop id"
   db:exec "delete from t where temp = 1; truncate t"
   db:exec "alter table t rename temp to id; alter table t add primary key (id)"
   local words, result = poll()
   lu.assertEquals(words, "")
   lu.assertStrContains(result.stderr, "2 deletes cannot be told")
   local again, quiet = poll()
   lu.assertEquals(again, "")
   lu.assertNotStrContains(quiet.stderr, "level=warn")
end

-- A new column takes the key's name and place.
function TestTriggerColumns.test_names_that_were_swapped()
   local db = new_database()
   local poll = stepping.new(db)
   poll()
   db:exec [[alter table t add new bigint; update t set new = id;
      begin; alter table t drop constraint t_pkey; alter table t rename id to old;
      alter table t rename new to id; alter table t add primary key (id); commit]]
   poll()
   db:exec "delete from t where id = 1; update t set id = 20 where id = 2"
   lu.assertEquals(poll(), "delete 1 2, upsert 20")
   db:exec "alter table t drop old; delete from t where id = 3"
   stepping.trigger(db, "install")
   db:exec "delete from t where id = 4"
   lu.assertEquals(poll(), "delete 3 4")
end

-- A partition may have its columns at other places than the root.
function TestTriggerColumns.test_partitions()
   local db = new_database [[
      create table t (id int, n int, primary key (id)) partition by range (id);
      create table p (gone int, n int, gone2 int, id int not null);
      alter table p drop gone, drop gone2;
      alter table t attach partition p for values from (0) to (100);
      insert into t select i, i from generate_series(1, 5) i]]
   local poll = stepping.new(db)
   poll()
   db:exec [[alter table t rename id to key; delete from t where key = 1;
      delete from p where key = 2]]
   lu.assertEquals(poll(), "delete 1 2")
   db:exec "create table q partition of t for values from (100) to (200); truncate p"
   lu.assertEquals(poll(), "delete 3 4 5")
   stepping.trigger(db, "install")
   db:exec "insert into t values (1), (101); delete from t where key = 101"
   lu.assertEquals(poll(), "delete 101, upsert 1")
end

-- The column that is ours goes only together with the trigger that writes it.
function TestTriggerColumns.test_our_column()
   local db = new_database()
   local state = fixtures.state()
   ends(db, 0, state)
   local rows, problem = db:connect():try "alter table t drop pgcdc_xid"
   lu.assertNil(rows)
   lu.assertStrContains(problem.message, "cannot drop column pgcdc_xid")
   db:exec [[alter table t drop pgcdc_xid cascade; insert into t values (9);
      delete from t where id = 1]]
   lu.assertStrContains(ends(db, 3, state), "run `pgcdc-lua trigger action=install")
   stepping.trigger(db, "install")
   ends(db, 0, state)
   lu.assertStrContains(stepping.trigger(db, "status").stdout, "installed since")
end

-- An installation of before: what it left goes on, and is brought up to date.
local OLD = [[
   drop function pgcdc.moved_%d() cascade;
   drop function pgcdc.key_%d(record); drop function pgcdc.arguments_%d(text);
   drop trigger zz_pgcdc_stamp on t;
   create trigger zz_pgcdc_stamp before insert or update on t for each row
      execute function pgcdc.stamp_%d();
   create or replace function pgcdc.gone_%d() returns trigger language plpgsql security definer
      set search_path = pg_catalog as $$ begin
         insert into pgcdc.deleted ("table", key) values (%d, jsonb_build_object('id', old.id));
         return null; end $$;
   create trigger zz_pgcdc_key after update on t for each row
      when (row(old.id)::record *<> row(new.id)::record) execute function pgcdc.gone_%d();
   alter table pgcdc.tables drop attnums, drop relation]]

function TestTriggerColumns.test_an_installation_of_before()
   local db = new_database()
   local poll = stepping.new(db)
   poll()
   local number = db:value "select number from pgcdc.tables"
   db:exec((OLD:gsub("%%d", number)))
   db:exec "delete from t where id = 1; update t set id = 20 where id = 2"
   lu.assertEquals(poll(), "delete 1 2, upsert 20")
   db:exec "delete from t where id = 3; alter table t rename id to key"
   stepping.trigger(db, "install")
   db:exec "delete from t where key = 4"
   lu.assertEquals(poll(), "delete 3 4")
   stepping.trigger(db, "remove")
   lu.assertFalse(db:value "select to_regnamespace('pgcdc')")
end

return TestTriggerColumns
