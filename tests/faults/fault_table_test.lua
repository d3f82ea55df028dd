-- fault_table_test.lua: the table changes under the program: dropped, swapped, truncated, altered.
-- SPDX-License-Identifier: MIT
--
-- A table that is another one is read again, with a warning; one whose columns changed goes on
-- after a schema event; one that cannot be captured exactly is refused. Odd shapes too.

local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local wait = require "wait"
local watch = require "watch"

local TestFaultTable = {}

local CREATE = fixtures.numbers(20)

local function new_database(sql)
   return fixtures.database(sql or CREATE)
end

-- Starts a statement that the program's next poll has to wait for: returns a function that commits.
-- Something else is committed meanwhile, so that there is a poll.
local function hold_lock(db, sql)
   local conn = db:connect()
   conn:exec("begin;" .. sql)
   db:exec "create table something (); drop table something"
   wait.until_(function()
      return db:value [[select 1 from pg_stat_activity where application_name = 'pgcdc-lua'
         and datname = current_database() and wait_event_type = 'Lock']]
   end, 10, "the poll to wait for the lock")
   return function()
      conn:exec "commit"
      conn:close()
   end
end

local function assert_read_again(p, times)
   local _, count = p:stderr():gsub("level=warn [^\n]*read again from its start", "")
   lu.assertEquals(count, times, p:stderr())
end

-- Another table under the same name -------------------------------------------------------------

-- In one transaction: the oid alone tells.
function TestFaultTable.test_dropped_and_created_again()
   local db = new_database()
   local p = watch.start_current(db)
   db:exec("drop table t;" .. CREATE)
   watch.wait_current(p, db)
   db:exec "update t set n = 1 where id = 1"
   watch.wait_current(p, db)
   lu.assertEquals(watch.ops(p), { read = 40, upsert = 1 })
   lu.assertEquals(watch.repeats(p), {})
   assert_read_again(p, 1)
   lu.assertEquals(p:stop().status, 0)
end

-- While the program does not run; the new rows have the keys of the old ones.
function TestFaultTable.test_dropped_and_created_between_two_runs()
   local db = new_database()
   local result = watch.once(db)
   lu.assertEquals(#result.changes, 20)
   db:exec "drop table t"
   db:exec(CREATE)
   db:exec "update t set n = 7 where id = 3"
   result = watch.once(db, result.program.state)
   lu.assertEquals(watch.ops(result.program), { read = 20, upsert = 0 })
   lu.assertStrContains(result.stderr, "the table was dropped and created again, or swapped: the"
      .. " table is read again from its start")
   result = watch.once(db, result.program.state)
   lu.assertEquals(#result.changes, 0)
end

-- With seconds in between, in which there is no such table: that is waited out.
function TestFaultTable.test_dropped_and_created_seconds_later()
   local db = new_database()
   local p = watch.start_current(db)
   db:exec "drop table t"
   p:wait_stderr "42P01.*42P01.*42P01"
   db:exec(CREATE)
   watch.wait_current(p, db)
   lu.assertEquals(watch.ops(p), { read = 40, upsert = 0 })
   assert_read_again(p, 1)
   lu.assertEquals(p:stop().status, 0)
end

-- Rows of the other table have old xids, which only reading it again can bring.
function TestFaultTable.test_swapped_by_rename_in_one_transaction()
   local db = new_database(CREATE .. [[
      create table other (id int primary key, n int default 0);
      insert into other select generate_series(1001, 1010)]])
   local p = watch.start_current(db)
   db:exec "begin; alter table t rename to t_old; alter table other rename to t; commit"
   watch.wait_current(p, db)
   lu.assertEquals(watch.ops(p), { read = 30, upsert = 0 })
   assert_read_again(p, 1)
   -- and the other way round while a poll waits for the lock, which it gets on the other table
   local commit = hold_lock(db, "alter table t rename to other; alter table t_old rename to t")
   commit()
   db:exec "insert into t values (21)"
   watch.wait_current(p, db)
   assert_read_again(p, 2)
   lu.assertEquals(watch.ops(p).read >= 50, true)
   lu.assertEquals(p:stop().status, 0)
end

-- With a start from now on there is nothing to read at the start, but the new table is read.
function TestFaultTable.test_swapped_between_two_runs()
   local db = new_database()
   local result = watch.once(db, nil, { start = "now" })
   local state = result.program.state
   lu.assertEquals(#result.changes, 0)
   db:exec("alter table t rename to t_old;" .. CREATE)
   result = watch.once(db, state, { start = "now" })
   lu.assertEquals(watch.ops(result.program), { read = 20, upsert = 0 })
   lu.assertStrContains(result.stderr, "level=warn")
   lu.assertEquals(#watch.once(db, state, { start = "now" }).changes, 0)
end

-- Dropped for good: given up in the end, but not within the first second.
function TestFaultTable.test_never_there()
   local db = new_database "select 1"
   local result = program.run { dsn = db, script = watch.script { table = "t" } }
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "there is no table t")
end

-- TRUNCATE ----------------------------------------------------------------------------------------

function TestFaultTable.test_truncate_while_running()
   local db = new_database()
   local p = watch.start_current(db)
   for i = 1, 10 do
      db:exec(([[begin; truncate t; insert into t select i, %d from generate_series(1, 5) i;
         commit]]):format(i))
      if i % 3 == 0 then
         watch.wait_current(p, db)
      end
   end
   watch.wait_current(p, db)
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(watch.ops(p).read, 20)
   assert_read_again(p, 0)
   lu.assertEquals(p:stop().status, 0)
end

-- A poll that had its snapshot before its lock would see an empty table here.
function TestFaultTable.test_truncate_racing_with_a_poll()
   local db = new_database()
   local p = watch.start_current(db)
   local commit = hold_lock(db, "truncate t; insert into t select generate_series(1, 7)")
   commit()
   watch.wait_current(p, db)
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(watch.ops(p), { read = 20, upsert = 7 })
   lu.assertEquals(p:stop().status, 0)
end

-- ALTER TABLE -------------------------------------------------------------------------------------

-- The last change of <p>, and how many there are.
local function last_change(p, db)
   watch.wait_current(p, db)
   local changes = p:changes()
   return changes[#changes], #changes
end

-- Each of them brings a schema event, once, and rows decode right from then on.
function TestFaultTable.test_columns_change_while_running()
   local db = new_database [[
      create table t (id int primary key, a text, b numeric(10, 2));
      insert into t select i, 'a' || i, i from generate_series(1, 20) i]]
   local p = watch.start_current(db)
   local steps = {
      { "add column c int",
         "id integer, a text, b numeric(10,2) -> id integer, a text, b numeric(10,2), c integer",
         { id = 1, a = "1", b = 1, c = 7 } },
      { "drop column a",
         "a text, b numeric(10,2), c integer -> id integer, b numeric(10,2), c integer",
         { id = 2, b = 2, c = 7 } },
      { "rename column c to \"Odd \"\"name\"",
         " -> id integer, b numeric(10,2), Odd \"name integer",
         { id = 3, b = 3, ['Odd "name'] = 7 } },
      { "alter column b type text using 'x' || b", " -> id integer, b text, Odd \"name integer",
         { id = 4, b = "x4.00", ['Odd "name'] = 7 } },
      { "alter column b type varchar(30)", " -> id integer, b character varying(30), ",
         { id = 5, b = "x5.00", ['Odd "name'] = 7 } },
      { "alter column b type jsonb using jsonb_build_object('b', b)", " -> id integer, b jsonb, ",
         { id = 6, b = { b = "x6.00" }, ['Odd "name'] = 7 } },
      { "add column g int generated always as (id * 2) stored", ", g integer",
         { id = 7, b = { b = "x7.00" }, ['Odd "name'] = 7, g = 14 } },
   }
   for i, step in ipairs(steps) do
      db:exec("alter table t " .. step[1])
      if i == 1 then
         db:exec "update t set a = id::text where id = 1; update t set c = 7"
      else -- touches one row, whichever columns there are
         db:exec(("update t set id = id where id = %d"):format(i))
      end
      watch.wait_current(p, db)
      local schemas = watch.lines(p, "^schema: ")
      lu.assertEquals(#schemas, i)
      lu.assertStrContains(schemas[i], step[2])
      local found
      for _, change in ipairs(p:changes()) do
         found = change.key.id == i and change.row or found -- the newest
      end
      lu.assertEquals(found, step[3])
   end
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(watch.ops(p).read, 40) -- the last column has values in all rows
   assert_read_again(p, 1)
   lu.assertEquals(#watch.lines(p, "^error: "), 0)
   lu.assertEquals(p:stop().status, 0)
end

-- A rewriting ALTER that commits while the poll waits for it: the poll sees the new columns and all
-- rows, which are new versions. The order of the schema event and the rows is the right one.
function TestFaultTable.test_a_rewriting_alter_racing_with_a_poll()
   local db = new_database()
   local p = watch.start_current(db)
   local commit = hold_lock(db, [[alter table t alter column n type text using 'n' || n;
      alter table t add column more int default 3; update t set n = 'last' where id = 20]])
   commit()
   local change, count = last_change(p, db)
   lu.assertEquals(change.row, { id = 20, n = "last", more = 3 })
   lu.assertEquals(count, 40)
   lu.assertEquals(watch.repeats(p), {})
   local lines = p:lines()
   lu.assertStrContains(lines[22],
                        "schema: id integer, n integer -> id integer, n text, more integer")
   lu.assertEquals(p:stop().status, 0)
end

-- The event comes again only if the columns change again; between two runs it comes at the next.
function TestFaultTable.test_columns_change_between_two_runs()
   local db = new_database()
   local p = watch.start_current(db)
   p:stop()
   db:exec "alter table t add column more int; insert into t values (21, 1, 2)"
   local q = watch.start(db, { state = p.state })
   watch.wait_current({ p, q }, db)
   lu.assertEquals(q:changes()[1].row, { id = 21, n = 1, more = 2 })
   lu.assertEquals(#watch.lines(q, "^schema: "), 1)
   q:stop()
   local r = watch.start(db, { state = p.state })
   db:exec "insert into t values (22, 1, 2)"
   watch.wait_current({ p, q, r }, db)
   lu.assertEquals(#watch.lines(r, "^schema: "), 0)
   lu.assertEquals(watch.repeats { p, q, r }, {})
   r:stop()
end

-- Its primary key may change too: keys of changes are then those of the new one.
function TestFaultTable.test_the_key_changes_while_running()
   local db = new_database()
   local p = watch.start_current(db)
   db:exec [[begin; alter table t drop constraint t_pkey; alter table t add column a text;
      update t set a = 'k' || id; alter table t add primary key (a, id); commit]]
   watch.wait_current(p, db, "t", { key = "a || ',' || id" })
   local changes = p:changes()
   lu.assertEquals(#changes, 40)
   lu.assertEquals(changes[40].key.a, "k" .. changes[40].key.id)
   db:exec "alter table t drop constraint t_pkey"
   local result = p:finish()
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "no primary key")
end

-- What cannot be captured -----------------------------------------------------------------------

local function assert_refused(db, source, pattern, dsn)
   local result = program.run { dsn = dsn or db, script = watch.script(source),
      options = { "--once" } }
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrMatches(result.stderr, ".*" .. pattern .. ".*")
   lu.assertEquals(result.stdout, "")
end

function TestFaultTable.test_views_and_their_like_are_refused()
   local db = new_database(CREATE .. [[
      create view v as select * from t;
      create materialized view m as select * from t;
      create sequence s;
      create foreign data wrapper w; create server s foreign data wrapper w;
      create foreign table f (id int) server s;
      create index i on t (n)]])
   assert_refused(db, { table = "v" }, "is a view")
   assert_refused(db, { table = "m" }, "is a materialized view")
   assert_refused(db, { table = "f" }, "is a foreign table")
   assert_refused(db, { table = "s" }, "is a sequence")
   assert_refused(db, { table = "i" }, "is not a table")
   assert_refused(db, { table = "pg_stat_activity" }, "is a view")
end

-- Also one that becomes a view while the program runs.
function TestFaultTable.test_a_view_in_the_place_of_the_table()
   local db = new_database()
   local p = watch.start_current(db)
   db:exec "begin; alter table t rename to t_old; create view t as select * from t_old; commit"
   local result = p:finish()
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "is a view")
end

-- Rows that a policy hides would make the position lie; unless the source asks for just those.
function TestFaultTable.test_row_level_security()
   local db = new_database()
   local main = db.cluster
   local role, free = main:role "login", main:role "login bypassrls"
   db:exec(([[
      alter table t enable row level security;
      create policy even on t using (id %% 2 = 0);
      grant select on t to %s, %s]]):format(role, free))
   assert_refused(db, { table = "t" }, "row%-level security.*rls = true", db:dsn { user = role })
   local result = program.run {
      dsn = db:dsn { user = free }, script = watch.script { table = "t" }, options = { "--once" },
   }
   lu.assertEquals(#result.changes, 20)
   local p = watch.start(db, { dsn = db:dsn { user = role }, source = { rls = true } })
   watch.wait_ready(p)
   lu.assertEquals(#p:changes(), 10)
   db:exec "update t set n = 1 where id <= 4"
   p:wait_changes(12)
   db:exec "insert into t values (101), (102)"
   local changes = p:wait_changes(13)
   for _, change in ipairs(changes) do
      lu.assertEquals(change.key.id % 2, 0)
   end
   lu.assertEquals(#p:stop().changes, 13)
   -- switched on while the program runs, by whoever may
   db:exec "alter table t disable row level security"
   p = watch.start(db, { dsn = db:dsn { user = role }, source = { start = "now" } })
   watch.wait_ready(p)
   db:exec "alter table t enable row level security"
   result = p:finish()
   lu.assertEquals(result.status, 3)
   lu.assertStrMatches(result.stderr, ".*row%-level security.*")
   db:exec(("drop owned by %s, %s"):format(role, free))
   main:drop_role(role, free)
end

-- Odd shapes ------------------------------------------------------------------------------------

function TestFaultTable.test_generated_and_dropped_columns()
   local db = new_database [[
      create table t (gone1 int, id int, gone2 text, a int,
         g int generated always as (a * 2) stored, gone3 int, "z" text, primary key (id));
      insert into t (id, a, z) values (1, 2, 'z');
      alter table t drop gone1, drop gone2, drop gone3]]
   local p = watch.start_current(db)
   db:exec "update t set a = 5"
   watch.wait_current(p, db)
   local changes = p:stop().changes
   lu.assertEquals(changes[1].row, { id = 1, a = 2, g = 4, z = "z" })
   lu.assertEquals(changes[2].row, { id = 1, a = 5, g = 10, z = "z" })
   lu.assertStrContains(p:lines()[1], [["row":{"id":1,"a":2,"g":4,"z":"z"}]])
end

function TestFaultTable.test_nothing_but_a_key()
   local db = new_database "create table t (id uuid primary key)"
   local p = watch.start(db)
   watch.wait_ready(p)
   db:exec "insert into t select gen_random_uuid() from generate_series(1, 5)"
   watch.wait_current(p, db)
   local change = p:stop().changes[1]
   lu.assertEquals(change.row, change.key)
end

function TestFaultTable.test_1500_columns()
   local columns, row = {}, { id = 1 }
   for i = 1, 1499 do
      columns[i] = ("c%d int default %d"):format(i, i)
      row["c" .. i] = i
   end
   local db = new_database(("create table t (id int primary key, %s)"):format(
      table.concat(columns, ", ")))
   local p = watch.start(db)
   db:exec "insert into t values (1)"
   watch.wait_current(p, db)
   lu.assertEquals(p:stop().changes[1].row, row)
end

-- It may cost a few times itself in memory. The value is compared where it is: in the script.
function TestFaultTable.test_a_value_of_50_MB()
   local db = new_database [[
      create table t (id int primary key, v text);
      insert into t select 1, repeat('0123456789', 5000000)]]
   local p = watch.start(db, { brief = true, more = [[
      source:on("change", function(change)
         local v = change.row.v
         print(#v, v == ("0123456789"):rep(#v // 10))
      end)]] })
   watch.wait_current(p, db, "t", { seconds = 60 })
   db:exec "update t set v = v || '0123456789'"
   watch.wait_current(p, db, "t", { seconds = 60 })
   lu.assertEquals(watch.lines(p, "true"), { "50000000\ttrue", "50000010\ttrue" })
   lu.assertEquals(p:stop().status, 0)
end

-- In any schema, whatever the name, also one that the search_path does not have.
function TestFaultTable.test_tables_in_any_schema()
   local db = new_database [[
      create schema "Odd ""schema'\"; create schema plain;
      create table "Odd ""schema'\"."t.""'\ä" (id int primary key, "c""'\ä" int);
      create table plain.t (id int primary key, n int);
      create table t (id int primary key, n int)]]
   local p = program.start { dsn = db, script = [==[
      for _, name in ipairs {{[[Odd "schema'\]], [[t."'\ä]]}, "plain.t", [["public"."t"]]} do
         pgcdc.source {table = name, interval = 0.02, on_change = function(change)
            print(change)
         end}
      end]==] }
   db:exec [[
      insert into "Odd ""schema'\"."t.""'\ä" values (1, 1);
      insert into plain.t values (1, 2); insert into t values (1, 3)]]
   local changes = p:wait_changes(3)
   local function row(schema, name, column, value)
      return { schema, name, { id = 1, [column] = value } }
   end
   local got = {}
   for i, change in ipairs(changes) do
      got[i] = { change.schema, change.table, change.row }
   end
   table.sort(got, function(a, b) return a[1] < b[1] end)
   lu.assertEquals(got, {
      row([[Odd "schema'\]], [[t."'\ä]], [[c"'\ä]], 1), row("plain", "t", "n", 2),
      row("public", "t", "n", 3),
   })
   lu.assertEquals(#p:stop().changes, 3)
end

return TestFaultTable
