-- trigger_install_test.lua: the bundled script trigger: what it installs, and takes away again.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"
local server = require "server"
local stepping = require "stepping"

local TestTriggerInstall = {}

local PARTED = [[
   create schema s;
   create table s."Weird T" (a int, "b'%s" text, n int, primary key (a, "b'%s"))
      partition by range (a);
   create table s.p1 partition of s."Weird T" for values from (0) to (100);
   create table s."P.2" partition of s."Weird T" for values from (100) to (200)
      partition by list ("b'%s");
   create table s.p2a partition of s."P.2" for values in ('x')]]

local function new_database(sql)
   return fixtures.database(sql or "create table t (id int primary key, n int default 0)")
end

-- What a database holds that a script could have made, as text.
local function contents(db)
   return db:value [[
      with ours as (select oid from pg_namespace
         where nspname !~ '^pg_' and nspname <> 'information_schema'),
      tables as (select c.* from pg_class c join ours on ours.oid = relnamespace
         where relkind in ('r', 'p'))
      select string_agg(x, E'\n' order by x) from (
         select format('column %s %s %s %s', t.oid::regclass, attname,
            format_type(atttypid, atttypmod), relacl) as x
            from tables t join pg_attribute a on attrelid = t.oid
            where attnum > 0 and not attisdropped
         union all select pg_get_indexdef(indexrelid) || indisvalid
            from pg_index join tables on indrelid = tables.oid
         union all select pg_get_triggerdef(g.oid) || tgenabled::text
            from pg_trigger g join tables on tgrelid = tables.oid
         union all select pg_get_functiondef(p.oid) || coalesce(proacl::text, '')
            from pg_proc p join ours on pronamespace = ours.oid
         union all select format('schema %s %s', n.oid::regnamespace, nspacl)
            from pg_namespace n join ours using (oid)) all_of_it]]
end

-- Installing twice is installing once; removing leaves nothing. The table's rows stay.
function TestTriggerInstall.test_idempotent_and_reversible()
   for _, case in ipairs { { "t" }, { 's."Weird T"', PARTED } } do
      local db = new_database(case[2])
      local before = contents(db)
      local first = stepping.trigger(db, "install", { table = case[1] })
      local installed = contents(db)
      lu.assertStrContains(installed, "zz_pgcdc_stamp")
      local second = stepping.trigger(db, "install", { table = case[1] })
      lu.assertEquals(#second.lines, 1) -- nothing was left to do
      lu.assertEquals(second.lines[1], first.lines[#first.lines])
      lu.assertStrContains(second.lines[1], "installed since transaction ")
      lu.assertEquals(contents(db), installed)
      stepping.trigger(db, "install", { table = case[1], notify = "no" })
      lu.assertNotStrContains(contents(db), "pg_notify")
      stepping.trigger(db, "remove", { table = case[1] })
      lu.assertEquals(contents(db), before)
      lu.assertStrContains(stepping.trigger(db, "status", { table = case[1] }).stdout,
         "not installed")
      stepping.trigger(db, "remove", { table = case[1] })
   end
end

-- What sinks keep in the schema, where the database is a target too, stays there.
function TestTriggerInstall.test_remove_from_a_target()
   local db = new_database()
   stepping.trigger(db, "install")
   db:exec "create table pgcdc.position (pipeline text)"
   stepping.trigger(db, "remove")
   lu.assertEquals(db:value [[select string_agg(relname, ' ') from pg_class
      where relnamespace = 'pgcdc'::regnamespace]], "position")
   stepping.trigger(db, "install")
   db:exec "drop table pgcdc.position"
   stepping.trigger(db, "remove")
   lu.assertEquals(db:value "select count(*) from pg_namespace where nspname = 'pgcdc'", "0")
end

-- What print prints does the same as install, run by psql.
function TestTriggerInstall.test_print()
   local psql = server.client "psql"
   lu.skipIf(not psql, "there is no psql")
   local db, other = new_database(PARTED), new_database(PARTED)
   local args = { table = 's."Weird T"', readers = "pg_monitor" }
   stepping.trigger(db, "install", args)
   local path = scope.dir "print" .. "/install.sql"
   files.write(path, stepping.trigger(other, "print", args).stdout)
   lu.assertNil(other:value "select to_regclass('pgcdc.tables')" or nil)
   server.run({ psql, "-qX", "-v", "ON_ERROR_STOP=1", "-f", path, "-d", other:dsn() },
      { user = false })
   local function plain(text)
      return (text:gsub("_%d+", "_N"):gsub("%d%d%d%d+", "N"))
   end
   lu.assertEquals(plain(contents(other)), plain(contents(db)))
end

-- A table whose index is broken, or that lost it, gets one; one that lost a trigger too.
function TestTriggerInstall.test_repairs()
   local db = new_database()
   stepping.trigger(db, "install")
   local before = contents(db)
   local index = "pgcdc_xid_" .. db:value "select 't'::regclass::oid"
   db:exec(("update pg_index set indisvalid = false where indexrelid = '%s'::regclass"):format(
      index))
   lu.assertStrContains(stepping.trigger(db, "status").stdout, "lacks a valid index")
   stepping.trigger(db, "install")
   lu.assertEquals(contents(db), before)
   db:exec("drop trigger zz_pgcdc_key on t; alter table t disable trigger zz_pgcdc_gone")
   db:exec("drop index " .. index)
   lu.assertStrContains(stepping.trigger(db, "status").stdout, "lacks triggers")
   lu.assertNotStrContains(stepping.trigger(db, "install").stdout, "lacks")
   lu.assertEquals(contents(db), before)
end

-- A writer needs no rights on the schema pgcdc, and cannot deceive what runs with others' rights.
function TestTriggerInstall.test_a_writer_without_privileges()
   local db = new_database()
   local role = cluster.main():role "login"
   db:exec(("grant all on t to %s; grant create on schema public to %s"):format(role, role))
   stepping.trigger(db, "install")
   local poll = stepping.new(db)
   poll()
   local writer = db:connect { user = role }
   writer:exec [[
      create function public.jsonb_build_object(variadic text[]) returns jsonb language sql as
         'select ''{"id": 666}''::jsonb';
      create function public.pg_current_xact_id() returns xid8 language sql as 'select ''3''::xid8';
      create temp table deleted (x int);
      set search_path = public, pg_catalog]]
   writer:exec "insert into public.t values (1), (2), (3)"
   writer:exec "delete from public.t where id = 1; update public.t set id = 4 where id = 2"
   lu.assertEquals(poll(), "upsert 3, delete 1 2, upsert 4")
   writer:exec "truncate public.t"
   lu.assertEquals(poll(), "delete 3 4")
   for _, sql in ipairs { "select * from pgcdc.deleted", "delete from pgcdc.tables",
      "create trigger x after delete on u for each row execute function pgcdc.gone_1()" } do
      writer:exec "create temp table if not exists u (id int)"
      local rows, problem = writer:try(sql)
      lu.assertNil(rows)
      lu.assertEquals(problem.sqlstate, "42501")
   end
end

-- It waits in no queue for long: with the table in use, others go on, and it comes in the end.
function TestTriggerInstall.test_a_busy_table()
   local db = new_database()
   local busy = db:connect()
   busy:exec "begin; insert into t values (1)"
   local p = program.start { bundled = "trigger", dsn = db, state = false,
      args = { action = "install", table = "t" } }
   p:wait_stderr "the table is in use: trying again %(3 of 60%)"
   db:exec "insert into t values (2)"
   busy:exec "commit"
   local result = p:finish()
   lu.assertEquals(result.status, 0, result.stderr)
   busy:exec "begin; select * from t"
   local failed = program.run { bundled = "trigger", dsn = db, state = false,
      args = { action = "remove", table = "t", tries = "1" } }
   lu.assertEquals(failed.status, 3)
   lu.assertStrContains(failed.stderr, "lock timeout")
   busy:exec "commit"
   stepping.trigger(db, "remove")
end

-- ON CONFLICT, MERGE's kin, COPY, foreign keys that cascade, a column that is generated, a trigger
-- of the user's that comes before and meddles.
function TestTriggerInstall.test_ways_to_write()
   local db = new_database [[
      create table t (id int primary key, n int default 0,
         g int generated always as (n + 1) stored);
      create table child (id int primary key, parent int references t on delete cascade
         on update cascade);
      create function meddle() returns trigger language plpgsql as
         'begin new.pgcdc_xid := 3::text::xid8; return new; end';]]
   stepping.trigger(db, "install", { table = "t,child" })
   db:exec "create trigger a before insert or update on t for each row execute function meddle()"
   local poll = stepping.new(db)
   local child = stepping.new(db, { table = "child" })
   poll()
   child()
   db:exec "insert into t values (1), (2), (3); insert into child values (10, 1), (20, 2), (30, 3)"
   lu.assertEquals(poll() .. ", " .. child(), "upsert 1 2 3, upsert 10 20 30")
   db:exec "insert into t values (1, 5) on conflict (id) do update set n = excluded.n"
   db:exec "delete from t where id = 2; update t set id = 33 where id = 3"
   lu.assertEquals(poll(), "upsert 1, delete 2 3, upsert 33")
   lu.assertEquals(child(), "delete 20, upsert 30")
   db:exec "copy t (id) from program 'seq 40 41'"
   lu.assertEquals(poll(), "upsert 40 41")
end

-- Two-phase commits work without NOTIFY, and only so.
function TestTriggerInstall.test_two_phase_commits()
   local db = new_database()
   stepping.trigger(db, "install")
   local rows, problem = db:try "begin; insert into t values (1); prepare transaction 'trigger x'"
   lu.assertNil(rows)
   lu.assertStrContains(problem.message, "LISTEN, UNLISTEN, or NOTIFY")
   db:exec "rollback"
   stepping.trigger(db, "install", { notify = "no" })
   local poll = stepping.new(db)
   poll()
   db:exec "begin; insert into t values (1); prepare transaction 'trigger y'"
   db:exec "insert into t values (2)"
   lu.assertEquals(poll(), "upsert 2")
   db:exec "commit prepared 'trigger y'"
   lu.assertEquals(poll(), "upsert 1")
end

-- What it refuses, it says.
function TestTriggerInstall.test_what_is_refused()
   local db = new_database [[create table t (id int primary key); create view v as select 1 as id;
      create table keyless (id int); create table parent (id int primary key);
      create table child (n int) inherits (parent);
      create table p (id int primary key) partition by range (id);
      create table p1 partition of p for values from (0) to (100)]]
   for args, message in pairs {
      [{ action = "install", table = "nowhere" }] = "there is no table nowhere",
      [{ action = "install", table = "v" }] = "public.v is no table",
      [{ action = "install", table = "keyless" }] = "public.keyless has no primary key: say pk=",
      [{ action = "install", table = "keyless", pk = "x" }] = 'has no column \\"x\\"',
      [{ action = "install", table = "parent" }] = "other tables inherit from public.parent",
      [{ action = "install", table = "p1" }] = "public.p1 is a partition",
      [{ action = "prune", table = "t" }] = "public.t has no triggers",
      [{ action = "prune", table = "t", older_than = "x" }] = "older_than: say 7d",
      [{ action = "instal", table = "t" }] = "action must be install, remove",
   } do
      local result = program.run { bundled = "trigger", dsn = db, args = args, state = false }
      lu.assertNotEquals(result.status, 0)
      lu.assertStrContains(result.stderr, message)
   end
   stepping.trigger(db, "install", { table = "keyless", pk = "id" })
   lu.assertStrContains(stepping.trigger(db, "status", { table = "keyless" }).stdout, "key id")
end

-- What it says is what was done: nothing where the role may not, or one of the tables is missing.
function TestTriggerInstall.test_says_what_was_done()
   local db = fixtures.database "create table t (id int primary key)"
   local role = db.cluster:role "login"
   local function install(dsn, tables)
      local result = program.run { dsn = dsn, bundled = "trigger", state = false,
         args = { action = "install", table = tables } }
      return result.status, select(2, result.stderr:gsub("level=info", "")), result.stderr
   end
   local status, said, stderr = install(db:dsn { user = role }, "t")
   lu.assertEquals({ status, said }, { 3, 0 }, stderr)
   lu.assertStrContains(stderr, 'level=error msg="permission denied')
   lu.assertStrContains(stderr, "(42501): to install or remove, a role owns the table, may CREATE")
   lu.assertNotStrContains(stderr, "traceback")
   status, said, stderr = install(db:dsn(), "t,nowhere")
   lu.assertEquals({ status, said }, { 3, 0 }, stderr)
   lu.assertStrContains(stderr, "there is no table nowhere")
   status, said = install(db:dsn(), "t")
   lu.assertEquals(status, 0)
   lu.assertTrue(said > 5)
   db.cluster:drop_role(role)
end

return TestTriggerInstall
