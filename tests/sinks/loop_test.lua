-- loop_test.lua: a sink whose target is what its source reads is refused before it writes.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local wait = require "wait"

local rows = require("connected").rows

local TestLoop = {}

local TABLES = [[create table t (id int primary key, a text);
   insert into t values (1, 'x'), (2, 'y');
   create table "P q" (id int primary key, a text) partition by range (id);
   create table low partition of "P q" for values from (0) to (100);
   create table high partition of "P q" for values from (100) to (200);
   insert into "P q" values (1, 'x'), (101, 'y');
   create table child (primary key (id)) inherits (t);
   create view v as select id, a from t where a <> 'q';
   create view w as select * from v;
   create view busy as select t.id, t.a from t where not exists (
      select from "P q" p where p.id = t.id);
   create table plain (id int, a text); insert into plain values (1, 'x');
   create table empty (id int primary key, a text);]]

-- A script from this source into this table of the same database.
local function script_of(db, source, sink)
   return ("pgcdc.source {%s}:sink(pgcdc.sinks.postgres {connect = %q, existing = %s, %s})"):format(
      source, db:dsn(), sink:find "append" and "nil" or '"keep"', sink)
end

local function contents(db)
   return rows(db, [[select array(select row(t.*)::text from t order by 1)::text,
      array(select row(p.*)::text from "P q" p order by 1)::text,
      array(select row(p.*)::text from plain p order by 1)::text]])
end

local function check_refused(db, source, sink, message)
   local before = contents(db)
   local result = once.ends(1, { dsn = db, script = script_of(db, source, sink) })
   lu.assertStrContains(result.text, message)
   lu.assertStrContains(result.text, "name another table, or another database as connect")
   lu.assertEquals(contents(db), before)
end

function TestLoop.test_refused()
   local db = fixtures.database(TABLES)
   local same = "is the table that the source reads"
   check_refused(db, 'table = "t"', 'table = "t"', same)
   check_refused(db, 'table = "t"', 'table = "public.t", mode = "append"', same)
   check_refused(db, 'table = "plain", pk = "id"', 'table = "plain", mode = "append"', same)
   check_refused(db, 'table = "empty"', 'table = "empty"', same)
   check_refused(db, 'table = "t", capture = "increment", column = "id"',
      'table = "t", mode = "append"', same)
   check_refused(db, 'table = "t", columns = {"id"}', 'table = "t", pk = "id"', same)
   check_refused(db, [[table = '"P q"']], [[table = '"P q"']], same)
end

function TestLoop.test_refused_where_rows_are_of_both()
   local db = fixtures.database(TABLES)
   local holds = 'holds rows of "public"."%s", which the source reads'
   check_refused(db, [[table = '"P q"']], 'table = "low"', holds:format "P q")
   check_refused(db, 'table = "high"', [[table = '"P q"', mode = "append"]], holds:format "high")
   check_refused(db, 'table = "t"', 'table = "child"', holds:format "t")
   check_refused(db, 'table = "t"', 'table = "v", mode = "append"', holds:format "t")
   check_refused(db, 'table = "t"', 'table = "w", mode = "append"', holds:format "t")
   check_refused(db, 'table = "w", capture = "increment", column = "id", pk = "id"',
      'table = "t", mode = "append"', holds:format "w")
end

-- What is no loop: another part of the same table, a view that looks at the target besides, a table
-- of the same oid in a copy of the database.
function TestLoop.test_not_refused()
   local db = fixtures.database(TABLES)
   db.conn:close()
   db.conn = nil
   local copy = db.cluster:database { sql = ('template "%s"'):format(db.name) }
   for _, case in ipairs {
      { 'table = "low"', 'table = "empty"' },
      { 'table = "low", where = "false"', 'table = "high"' },
      { 'table = "busy", capture = "increment", column = "id", pk = "id"', [[table = '"P q"']] },
   } do
      once.ok { dsn = db, script = script_of(db, case[1], case[2]) }
   end
   once.ok { dsn = copy, script = script_of(db, 'table = "t"', 'table = "t"') }
end

-- Into a table that is made, or named, only while it runs; the rows that came before stay.
function TestLoop.test_refused_while_it_runs()
   local db = fixtures.database(TABLES)
   local p = program.start { dsn = db, script = ([[
      local sinks = {}
      pgcdc.source {table = "t", interval = 0.02}:sink(function(change)
         local name = change.row.a
         if name == "x" or name == "y" then
            name = "empty"
         end
         sinks[name] = sinks[name] or pgcdc.sinks.postgres {connect = %q, table = name,
            mode = "append"}
         sinks[name]:write(change)
      end)]]):format(db:dsn()) }
   wait.until_(function()
      return db:value "select count(*) from empty" == "2"
   end)
   db:exec "insert into t values (3, 't')"
   local result = p:finish()
   lu.assertEquals(result.status, 1, result.stderr)
   lu.assertStrContains(result.stderr, "is the table that the source reads")
   lu.assertEquals(db:value "select count(*) from t", "3")
end

-- Rows of a script's own, before any of them comes; also by a function that writes, for what it has
-- of a source in hand, and then before the first one is written.
function TestLoop.test_refused_of_rows_of_ones_own()
   local db = fixtures.database(TABLES)
   local same = "is the table that the source reads"
   local function check(source, operators, sink, message)
      local before = contents(db)
      local result = once.ends(1, { dsn = db, script = ("local out = pgcdc.sinks.postgres"
         .. " {connect = %q, existing = %s, %s} pgcdc.source {%s}%s"):format(db:dsn(),
         sink:find "append" and "nil" or '"keep"', sink, source, operators) })
      lu.assertStrContains(result.text, message)
      lu.assertStrContains(result.text, "name another table, or another database as connect")
      lu.assertEquals(contents(db), before)
   end
   local map = ":map(function(c) return { id = c.key.id + 10, a = 'z' } end):sink(out)"
   check('table = "t"', map, 'table = "t", pk = "id"', same)
   check('table = "t"', map, 'table = "v", mode = "append"', "holds rows of")
   check('table = "empty"', map, 'table = "empty", mode = "append"', same)
   check([[table = '"P q"']], ":partition(2):flatten():map(function() return {id = 5} end)"
      .. ":sink(out)", 'table = "low", mode = "append"', "holds rows of")
   check('table = "t"', ":reduce_by('a', function(n) return n + 1 end, { start = 0, every = 60 })"
      .. ":sink(out)", 'table = "t", pk = "key"', same)
   local write = "function(c) out:write { id = 9, a = 'z' } end)"
   check('table = "t"', ":sink(" .. write, 'table = "t", pk = "id"', same)
   check('table = "t"', ':on("change", ' .. write, 'table = "t", mode = "append"', same)
   check('table = "t"', [[:sink(function(c) out:write(pgcdc.change { op = "upsert", table = "t",
      key = { id = 9 }, row = { id = 9, a = "z" } }) end)]], 'table = "t"', same)
end

-- What a source makes goes into a table that another source reads, whose values go elsewhere.
function TestLoop.test_rows_of_ones_own_that_are_no_loop()
   local db = fixtures.database(TABLES)
   local result = once.ok { dsn = db, script = ([[
      local out = pgcdc.sinks.postgres { connect = %q, table = "empty", pk = "id" }
      pgcdc.source { table = "t" }:sink(function(c) out:write { id = c.key.id } end)
      pgcdc.source { table = "plain", pk = "id" }:map(function(c) return { id = 7 } end):sink(out)
      pgcdc.source { table = "empty" }:sink(function(c) print(c.key.id) end)]]):format(db:dsn()) }
   lu.assertEquals(rows(db, "select id from empty order by id"), "1, 2, 7", result.stderr)
end

function TestLoop.test_mirror()
   local db = fixtures.database(TABLES)
   local result = once.ends(1, { dsn = db, bundled = "mirror",
                                 args = { table = "empty,t", target = db:dsn() } })
   lu.assertStrContains(result.text, "is the table that the source reads")
end

-- A standby is its primary, until it is promoted; then it is another server with the same ids.
function TestLoop.test_standby()
   local primary = cluster.new { name = "primary of a loop" }
   primary:exec(TABLES)
   local standby = primary:standby "standby of a loop"
   local target = { dsn = function() return primary:dsn "postgres" end }
   local options = { dsn = standby:dsn "postgres", state = fixtures.state(),
                     script = script_of(target, 'table = "t"', 'table = "t"') }
   lu.assertStrContains(once.ends(1, options).text, "is the table that the source reads")
   standby:promote()
   once.ok(options, { state = fixtures.state() })
end

return TestLoop
