-- orphans_test.lua: rows of a mirror that the source does not have are found and removed.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local tables = require "tables"
local wait = require "wait"

local TestOrphans = {}

local TEN = [[create table t (id int primary key, v text);
   insert into t select i, 'v' || i from generate_series(1, 10) i]]

-- A source with this SQL, and an empty target.
local function databases(sql)
   local source, target = cluster.main():database(), cluster.main():database()
   source:exec(sql or TEN)
   return source, target
end

-- Returns a function run(name, args, options) that runs a bundled script to its end, with one state
-- for all runs, and returns the result. `name` may be a script, in which `sink(spec)` makes a sink.
local function runner(source, target)
   local state = fixtures.state()
   return function(name, args, ...)
      local is_bundled = name:find "^%l+$"
      local prelude = ("local function sink(s) s.connect = %q return pgcdc.sinks.postgres(s) end ")
         :format(target:dsn())
      return program.run { bundled = is_bundled and name or nil, dsn = source, state = state,
         script = not is_bundled and prelude .. name or nil, options = { "--once", ... },
         args = is_bundled and tables.merge({ table = "t", target = target:dsn() }, args or {})
            or nil }
   end
end

local succeed = once.succeed

local function ids(db, sql)
   return db:value(sql or "select coalesce(string_agg(id::text, ' ' order by id), '') from t")
end

-- The same rows on both sides, whoever looks; and no table of keys is left.
local function assert_same(source, target, columns)
   local sql = ("select coalesce(string_agg(t::text, ' ' order by t::text), '') from"
      .. " (select %s from t) t"):format(columns or "*")
   lu.assertEquals(target:value(sql), source:value(sql))
   local result = program.run { bundled = "verify", dsn = source, state = false,
      args = { table = "t", target = target:dsn(), settle = 0 } }
   lu.assertEquals(result.status, 0, result.stdout .. result.stderr)
   lu.assertEquals(target:value("select count(*) from pg_class c join pg_namespace n on"
      .. " n.oid = relnamespace where nspname = 'pgcdc' and relkind = 'r'"), "1")
end

-- ---- when all of the source is read once more ----

-- All positions are forgotten, or one.
function TestOrphans.test_reset()
   local source, target = databases()
   local run = runner(source, target)
   succeed(run "mirror")
   for _, option in ipairs { "--reset", "--reset=public.t", "--reset" } do
      source:exec "delete from t where id = (select min(id) from t)"
      target:exec "insert into t values (99, 'of somebody else')"
      local result = succeed(run("mirror", {}, option))
      lu.assertStrContains(result.stderr, [[rows of \"public\".\"t\" that the source does not have]]
         .. [[ were removed" rows=2 sink="mirror t"]])
      assert_same(source, target)
   end
   lu.assertNotStrContains(succeed(run "mirror").stderr, "removed")
end

-- Without deletes nothing tells what went; a table that is read again does, also while it runs.
function TestOrphans.test_a_table_made_anew()
   local source, target = databases()
   local run = runner(source, target)
   succeed(run("mirror", { deletes = "no" }))
   source:exec("drop table t;" .. TEN .. "; delete from t where id > 3")
   succeed(run("mirror", { deletes = "no" }))
   assert_same(source, target)
   local p = program.start { bundled = "mirror", dsn = source, state = fixtures.state(),
      args = { table = "t", target = target:dsn(), deletes = "no", existing = "remove",
               interval = 0.05 } }
   p:wait_stderr "ready"
   source:exec("drop table t; create table t (id int primary key, v text)")
   wait.until_(function() return ids(target) == "" end, 20, "an empty mirror")
   source:exec "insert into t values (7, 'x')"
   wait.until_(function() return ids(target) == "7" end, 20, "the new row")
   p:stop()
   assert_same(source, target)
end

-- Deletes are told from now on: what was deleted before is found.
function TestOrphans.test_deletes_and_captures_are_switched()
   local source, target = databases()
   local run = runner(source, target)
   local function install()
      succeed(program.run { bundled = "trigger", dsn = source, state = false,
                            args = { table = "t", action = "install" } })
   end
   succeed(run("mirror", { deletes = "no" }))
   source:exec "delete from t where id = 1; update t set v = 'x' where id = 2"
   succeed(run("mirror", { deletes = "no" }))
   lu.assertStrContains(ids(target), "1 2 3")
   lu.assertStrContains(succeed(run "mirror").stderr, "deletes are told from now on: the table")
   assert_same(source, target)
   succeed(run("mirror", { capture = "increment", column = "id" }))
   source:exec "delete from t where id = 3; insert into t values (11, 'y')"
   local result = succeed(run("mirror", { capture = "increment", column = "id" }))
   lu.assertStrContains(result.stderr, "capture=increment tells no deletes")
   lu.assertEquals(ids(target), "2 3 4 5 6 7 8 9 10 11")
   install()
   source:exec "delete from t where id = 4"
   succeed(run("mirror", { capture = "trigger" }))
   assert_same(source, target, "id, v")
   source:exec "delete from t where id = 5"
   lu.assertNotStrContains(succeed(run("mirror", { capture = "trigger" })).stderr, "read again")
   assert_same(source, target, "id, v")
   -- back to xmin: the notes of the triggers tell it, or the table is read again
   source:exec "delete from t where id = 7"
   lu.assertNotStrContains(succeed(run "mirror").stderr, "level=warn")
   assert_same(source, target, "id, v")
   succeed(run("mirror", { capture = "trigger" }))
   source:exec "delete from t where id = 8"
   succeed(program.run { bundled = "trigger", dsn = source, state = false,
                         args = { table = "t", action = "remove" } })
   lu.assertStrContains(succeed(run "mirror").stderr, "the table is read again")
   assert_same(source, target, "id, v")
   -- an older version kept no record of that, and told no deletes
   succeed(run("mirror", { capture = "increment", column = "id" }, "--reset"))
   source:exec "delete from t where id = 6"
   target:exec "delete from pgcdc.position where sink like '%: rows'"
   succeed(run "mirror")
   assert_same(source, target, "id, v")
end

-- Whoever else hears of the source would hear everything twice: then it is only said.
function TestOrphans.test_a_source_with_other_listeners_is_not_read_again()
   local source, target = databases()
   local run = runner(source, target)
   local script = [[local s = pgcdc.source {table = "t", deletes = %s}
      s:sink(sink {table = "t"}) s:on("change", function(c) print(c.op) end)]]
   succeed(run(script:format "false"))
   source:exec "delete from t where id = 1; update t set v = 'x' where id = 2"
   succeed(run(script:format "false"))
   local result = succeed(run(script:format "true"))
   lu.assertStrContains(result.stderr, "--reset=public.t reads the table again")
   lu.assertEquals(result.stdout, "")
   succeed(run(script:format "true", nil, "--reset=public.t"))
   assert_same(source, target)
end

-- ---- rows of others ----

function TestOrphans.test_rows_that_were_there_before()
   local source, target = databases()
   target:exec [[create table t (id int primary key, v text);
      insert into t values (2, 'x'), (99, 'y')]]
   local run = runner(source, target)
   local function refused()
      local result = run "mirror"
      lu.assertEquals(result.status, 1)
      lu.assertStrContains(result.stderr, "existing=remove")
      lu.assertStrContains(result.stderr, "existing=keep")
      lu.assertEquals(ids(target), "2 99")
   end
   refused()
   refused()
   succeed(run("mirror", { existing = "keep" }))
   lu.assertEquals(ids(target), "1 2 3 4 5 6 7 8 9 10 99")
   source:exec "delete from t where id = 1"
   succeed(run "mirror")
   lu.assertEquals(ids(target), "2 3 4 5 6 7 8 9 10 99")
   lu.assertStrContains(succeed(run("mirror", {}, "--reset")).stderr, "stay there: existing=keep")
   lu.assertEquals(ids(target), "2 3 4 5 6 7 8 9 10 99")
   succeed(run("mirror", { existing = "remove" }, "--reset"))
   assert_same(source, target)
   -- another state file knows nothing of what was written by this one
   lu.assertStrContains(runner(source, target)("mirror").stderr, "existing=remove")
   succeed(runner(source, target)("mirror", { existing = "remove" }))
   assert_same(source, target)
   for mode, value in pairs { append = "keep", mirror = "both" } do
      local result = run(([[pgcdc.source {table = "t"}:sink(sink {table = "t", mode = "%s",
         existing = "%s"})]]):format(mode, value))
      lu.assertEquals(result.status, 1)
      lu.assertStrContains(result.stderr, "existing")
   end
end

-- Where nothing is read at first nothing is removed, and rows of others stay for good.
function TestOrphans.test_start_now()
   local source, target = databases()
   target:exec(TEN .. "; insert into t values (99, 'of others')")
   local run = runner(source, target)
   succeed(run("mirror", { start = "now" }))
   source:exec "update t set v = 'x' where id = 1"
   succeed(run("mirror", { start = "now" }))
   lu.assertEquals(target:value "select v from t where id = 1", "x")
   local result = succeed(run("mirror", {}, "--reset"))
   lu.assertStrContains(result.stderr, "it had rows before; existing=remove removes them")
   succeed(run("mirror", { existing = "remove" }, "--reset"))
   assert_same(source, target)
end

-- Two tables in one: only if both were read may anything be removed.
function TestOrphans.test_several_sources()
   local source, target = databases [[create table a (id int primary key, v text);
      create table b (id int primary key, v text);
      insert into a values (1, 'a'), (2, 'a'); insert into b values (11, 'b'), (12, 'b')]]
   local run = runner(source, target)
   local both = [[local s = sink {table = "t"}
      for _, name in ipairs {"a", "b"} do pgcdc.source {table = name}:sink(s) end]]
   succeed(run(both))
   source:exec "delete from a where id = 1; delete from b where id = 11"
   local result = succeed(run(both, nil, "--reset=public.a"))
   lu.assertStrContains(result.stderr, "public.b was not read again")
   lu.assertEquals(ids(target), "1 2 11 12")
   succeed(run(both, nil, "--reset"))
   lu.assertEquals(ids(target), "2 12")
   -- the same by hand, and by two sinks
   local by_hand = [[local s = sink {table = "t"}
      for _, name in ipairs {"a", "b"} do
         pgcdc.source {table = name, on_change = function(c) s:write(c) end}
      end]]
   result = succeed(run(by_hand, nil, "--reset=public.a"))
   lu.assertStrContains(result.stderr, "public.b was not read again")
   lu.assertEquals(ids(target), "2 12")
   local two = [[for _, name in ipairs {"a", "b"} do
      pgcdc.source {table = name}:sink(sink {table = "t", name = name}) end]]
   local fresh = cluster.main():database()
   run = runner(source, fresh)
   succeed(run(two))
   source:exec "delete from a"
   result = succeed(run(two, nil, "--reset"))
   lu.assertStrContains(result.stderr, "are not looked for, since others write to it, too: b")
   lu.assertEquals(ids(fresh), "2 12")
   -- rows of others in a table of two sinks
   fresh = cluster.main():database()
   fresh:exec "create table t (id int primary key, v text); insert into t values (99, 'x')"
   lu.assertStrContains(runner(source, fresh)(two).stderr, "existing=keep")
   result = runner(source, fresh)((two:gsub("name = name}", "name = name, existing = 'remove'}")))
   lu.assertStrContains(result.stderr, "existing=remove, and other sinks write to")
   succeed(runner(source, fresh)((two:gsub("name = name}", "name = name, existing = 'keep'}"))))
   lu.assertEquals(ids(fresh), "12 99")
end

-- What may have left out rows says nothing about them; what lets none pass neither.
function TestOrphans.test_pipelines()
   local source, target = databases()
   local run = runner(source, target)
   succeed(run [[pgcdc.source {table = "t"}:sink(sink {table = "t"})]])
   source:exec "delete from t where id <= 2"
   for pipeline, message in pairs {
      [":unique()"] = "unique() may have left out rows",
      [":filter(function(c) return c.op ~= 'read' end)"] = "no row of public.t came here",
   } do
      local result = succeed(run(('pgcdc.source {table = "t"}%s:sink(sink {table = "t"})')
         :format(pipeline), nil, "--reset"))
      lu.assertStrContains(result.stderr, message)
      lu.assertStrContains(ids(target), "1 2 3")
   end
   -- held for a while, filtered, with another key
   succeed(run([[pgcdc.source {table = "t"}:filter(function(c) return c.row.id ~= 3 end)
      :map(function(c) c.row.id = c.row.id + 100 return c end):delay(0.2)
      :sink(sink {table = "t"})]], nil, "--reset"))
   lu.assertEquals(ids(target), "104 105 106 107 108 109 110")
end

-- ---- what the rows are like ----

function TestOrphans.test_keys()
   local source, target = databases [[create table t (k text, "a ""b" numeric, d date,
         primary key (k, "a ""b", d));
      insert into t select chr(i) || e'\\x\t''', i, date '2026-01-01' + i
         from generate_series(32, 127) i]]
   local run = runner(source, target)
   succeed(run "mirror")
   source:exec [[delete from t where "a ""b" % 3 = 0]]
   target:exec [[insert into t values ('', 1.50, 'infinity'), (E'\\N', 'NaN', '0001-01-01 BC')]]
   succeed(run("mirror", {}, "--reset"))
   assert_same(source, target)
   -- one that is NULL in a table of the user's own; and one whose case does not matter
   source:exec "drop table t; create table t (id int primary key); insert into t values (1)"
   target:exec "drop table t; create table t (id int unique); insert into t values (null), (2)"
   succeed(run("mirror", { existing = "remove" }, "--reset"))
   local with_null = "select string_agg(coalesce(id::text, '-'), ' ' order by id) from t"
   lu.assertEquals(ids(target, with_null), "1 -")
   local nocase = "create collation nocase (provider = icu, locale = 'und-u-ks-level2',"
      .. " deterministic = false)"
   if pcall(target.exec, target, nocase) then
      source:exec [[drop table t; create table t (k text primary key);
         insert into t values ('a'), ('b')]]
      target:exec [[drop table t; create table t (k text collate nocase primary key);
         insert into t values ('A'), ('C')]]
      succeed(run("mirror", { existing = "remove" }, "--reset"))
      lu.assertEquals(ids(target, "select string_agg(k, ' ' order by k) from t"), "A b")
   end
end

-- An empty source; a partitioned target; a view.
function TestOrphans.test_tables()
   local source, target = databases "create table t (id int primary key, v text)"
   target:exec [[create table t (id int primary key, v text) partition by range (id);
      create table t1 partition of t for values from (0) to (50);
      create table t2 partition of t for values from (50) to (100); insert into t values (1), (60)]]
   local run = runner(source, target)
   succeed(run("mirror", { existing = "remove" }))
   lu.assertEquals(ids(target), "")
   source:exec "insert into t values (2, 'a'), (70, 'b')"
   target:exec "insert into t values (3, 'a'), (71, 'b')"
   succeed(run("mirror", {}, "--reset"))
   assert_same(source, target)
end

-- In a history what is gone is closed, whether a delete was told or not.
function TestOrphans.test_history()
   local source, target = databases()
   local run = runner(source, target)
   local open = "select string_agg(id::text, ' ' order by id) from t_history where valid_to is null"
   succeed(run "history")
   source:exec "delete from t where id = 1"
   succeed(run "history")
   lu.assertEquals(ids(target, open), "2 3 4 5 6 7 8 9 10")
   succeed(run("history", { deletes = "no" }))
   source:exec "delete from t where id = 2; update t set v = 'x' where id = 3"
   succeed(run("history", { deletes = "no" }))
   lu.assertEquals(ids(target, open), "2 3 4 5 6 7 8 9 10")
   succeed(run "history")
   lu.assertEquals(ids(target, open), "3 4 5 6 7 8 9 10")
   source:exec "delete from t where id = 3"
   succeed(run("history", {}, "--reset"))
   lu.assertEquals(ids(target, open), "4 5 6 7 8 9 10")
   lu.assertEquals(target:value "select count(*) from t_history where valid_to < valid_from", "0")
end

-- ---- trouble ----

-- Killed while rows are read again, and while orphans are removed: it is done by the next start.
function TestOrphans.test_killed()
   local source, target = databases()
   local state = fixtures.state()
   local function options(...)
      return { bundled = "mirror", dsn = source, state = state, options = { "--once", ... },
               args = { table = "t", target = target:dsn(), deletes = "no" } }
   end
   succeed(program.run(options()))
   source:exec "delete from t where id in (4, 5)"
   local first = true
   for _, id in ipairs { 7, 4 } do -- a row that is written again, one that is removed
      local lock = target:connect()
      lock:exec(("begin; select from t where id = %d for update"):format(id))
      local run = program.start(options(first and "--reset" or nil))
      first = false
      wait.until_(function()
         return target:value("select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            .. " and datname = current_database()") ~= "0"
      end, 20, "the program waits for a row")
      run:kill9()
      lock:exec "rollback"
   end
   lu.assertStrContains(ids(target), "4 5")
   succeed(program.run(options()))
   assert_same(source, target)
end

-- A role that may make no table in the schema is told so; the mirror goes on.
function TestOrphans.test_without_the_right_to_make_tables()
   local source, target = databases()
   local role = "pgcdc_orphans"
   target:exec([[do $$ begin if not exists (select from pg_roles where rolname = 'pgcdc_orphans')
      then create role pgcdc_orphans login; end if; end $$;
      create schema pgcdc; grant usage on schema pgcdc to pgcdc_orphans;
      create table pgcdc.position (pipeline text, sink text, savepoint text, flush text,
         saved timestamptz not null default now(), epoch bigint, primary key (pipeline, sink));
      grant select, insert, update on pgcdc.position to pgcdc_orphans;
      create table t (id int primary key, v text);
      grant all on t to pgcdc_orphans]])
   local run = runner(source, { dsn = function() return target:dsn { user = role } end })
   succeed(run "mirror")
   source:exec "delete from t where id = 1"
   local result = succeed(run("mirror", {}, "--reset"))
   lu.assertStrContains(result.stderr, "grant CREATE on the schema pgcdc")
   lu.assertEquals(ids(target), "1 2 3 4 5 6 7 8 9 10")
   target:exec "grant create on schema pgcdc to pgcdc_orphans"
   succeed(run("mirror", {}, "--reset"))
   assert_same(source, target)
   target:exec "drop owned by pgcdc_orphans"
end

-- Rows that others refer to stay until those are removed, too.
function TestOrphans.test_rows_that_others_reference()
   local source, target = databases [[create table p (id int primary key);
      create table t (id int primary key, p int references p);
      insert into p values (1), (2); insert into t values (1, 1), (2, 2)]]
   target:exec [[create table p (id int primary key);
      create table t (id int primary key, p int references p)]]
   local run = runner(source, target)
   succeed(run("mirror", { table = "p" }))
   succeed(run("mirror", { table = "p,t" }))
   source:exec "delete from t where id = 1; delete from p where id = 1"
   succeed(run("mirror", { table = "p,t" }, "--reset"))
   lu.assertEquals(target:value "select string_agg(id::text, ' ') from p", "2")
   assert_same(source, target)
   target:exec [[insert into p values (9); create table c (p int references p);
      insert into c values (9)]]
   local result = succeed(run("mirror", { table = "p" }, "--reset"))
   lu.assertStrContains(result.stderr, "are referenced by others")
   target:exec "drop table c"
   succeed(run("mirror", { table = "p" }))
   lu.assertEquals(target:value "select string_agg(id::text, ' ') from p", "2")
end

return TestOrphans
