-- increment_view_test.lua: capture = "increment" of what has no xmin: views, foreign tables.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local stepping = require "stepping"
local tables = require "tables"
local wait = require "wait"
local watch = require "watch"

local TestIncrementView = {}

local function new_poll(db, fields)
   local source = { table = "v", capture = "increment", column = "id", pk = "id", lookback = 10 }
   return stepping.new(db, tables.merge(source, fields))
end

local function new_database(sql)
   return fixtures.database(sql or fixtures.numbers(3) .. "create view v as select id, n from t")
end

-- Rows that were there are read; new ones, late ones within the lookback, and rows of the window
-- that became others come once.
function TestIncrementView.test_a_view()
   local db = new_database()
   local poll = new_poll(db)
   local words, result = poll()
   lu.assertEquals(words, "read 1 2 3")
   lu.assertStrMatches(result.lines[1], '.*"xid":null,.*"id":"public.v/%d+/1"}')
   local first = result.lines[1]:match '"id":"([^"]*)"'
   lu.assertEquals(poll(), "")
   db:exec "insert into t values (20), (100)"
   lu.assertEquals(poll(), "upsert 20 100")
   lu.assertEquals(poll(), "")
   db:exec "insert into t values (95), (89), (105)"
   lu.assertEquals(poll(), "upsert 95 105") -- 89 is more than the lookback below 100
   db:exec "update t set n = 1 where id in (20, 105)"
   lu.assertEquals(poll(), "upsert 105")
   -- an id stands for a version: what drops changes whose id it knows would drop the update
   poll = new_poll(db)
   result = select(2, poll())
   lu.assertEquals(result.lines[1]:match '"id":"([^"]*)"', first)
   db:exec "update t set n = 1 where id = 1"
   result = select(2, new_poll(db)())
   lu.assertStrMatches(result.lines[1], '.*"id":"public.v/%d+/1"}')
   lu.assertNotEquals(result.lines[1]:match '"id":"([^"]*)"', first)
   lu.assertEquals(poll(), "")
end

-- A transaction that was open when the highest value was seen may commit later, with a value below
-- the lookback.
function TestIncrementView.test_late_commits()
   local db = new_database()
   local poll = new_poll(db)
   poll()
   local late = db:connect()
   late:exec "begin; insert into t values (50)"
   db:exec "insert into t values (1000)"
   lu.assertEquals(poll(), "upsert 1000")
   db:exec "insert into t values (2000)"
   lu.assertEquals(poll(), "upsert 2000")
   late:exec "commit"
   lu.assertEquals(poll(), "upsert 50")
   lu.assertEquals(poll(), "")
end

-- More rows than a page has, with many of one value, negative ones, and none.
function TestIncrementView.test_pages()
   local db = new_database [[create table t (id int primary key, at int, s text);
      create view v as select * from t;
      insert into t select i, i / 7000 - 1, 'a' || i from generate_series(1, 21000) i;
      insert into t values (0, null, 'x')]]
   local state = fixtures.state()
   local script = watch.script({ table = "v", capture = "increment", column = "at", interval = 1,
      lookback = 1 }, nil, true):gsub("pgcdc.source {", 'pgcdc.source { pk = {"s", "id"},')
   local function poll()
      local result = program.run { dsn = db, script = script, options = { "--once" },
         state = state }
      lu.assertEquals(result.status, 0, result.stderr)
      local ops, ids = {}, {}
      for line in result.stdout:gmatch '"op":"(%l+)"' do
         ops[line] = (ops[line] or 0) + 1
      end
      for id in result.stdout:gmatch '"id":"([^"]*)"' do
         ids[id] = true
      end
      local n = 0
      for _ in pairs(ids) do
         n = n + 1
      end
      return ops, n
   end
   local ops, n = poll()
   lu.assertEquals(ops, { read = 21000 })
   lu.assertEquals(n, 21000)
   db:exec "insert into t select i, 5, 'b' || i from generate_series(30001, 42000) i"
   ops, n = poll()
   lu.assertEquals(ops, { upsert = 12000 })
   lu.assertEquals(n, 12000)
   lu.assertEquals(poll(), {})
end

-- A kill in the middle brings back what was in hand, and loses nothing.
function TestIncrementView.test_killed_in_the_middle()
   local db = new_database [[create table t (id int primary key); create view v as select * from t;
      insert into t select generate_series(1, 12000)]]
   local state = fixtures.state()
   local options = { dsn = db, state = state, brief = true, table = "v",
      source = { capture = "increment", column = "id", pk = "id" } }
   local p = watch.start(db, options)
   p:wait_until(function() return #p:lines() > 6000 end, 20, "some rows")
   p:kill9()
   local seen = {}
   local function take(program_)
      for _, line in ipairs(program_:lines()) do
         local id = line:match '"id":"public.v/%d+/(%d+)"'
         if id then
            seen[id] = (seen[id] or 0) + 1
         end
      end
   end
   take(p)
   p = watch.start(db, options)
   watch.wait_ready(p)
   db:exec "insert into t values (12001)"
   watch.wait_line(p, "/12001\"")
   take(p)
   p:stop()
   local n = 0
   for _ in pairs(seen) do
      n = n + 1
   end
   lu.assertEquals(n, 12001)
end

-- A round of several pages takes as many snapshots. What commits between two of them, with a value
-- that the pages before had passed, was lost: the last page's snapshot, not the first one's, said
-- who had been under way. The view stops at a gate in its second page.
function TestIncrementView.test_a_late_commit_between_two_pages()
   local db = new_database [[create table t (id int primary key);
      create function gate(id int) returns bool language plpgsql volatile as $$ begin
         if id = 26000 then perform pg_advisory_xact_lock_shared(7); end if; return true;
      end $$;
      create view v as select id from t where gate(id);
      insert into t values (1), (2), (3)]]
   local poll = new_poll(db)
   poll()
   local gate, late = db:connect(), db:connect()
   late:exec "begin; insert into t values (100)"
   db:exec "insert into t select generate_series(20000, 31999)"
   gate:exec "select pg_advisory_lock(7)"
   local count = 0
   local _, result = poll({}, function()
      wait.until_(function()
         return db:value "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            == "1"
      end, 30, "the gate")
      late:exec "commit"
      gate:exec "select pg_advisory_unlock(7)"
   end)
   for _, change in ipairs(result.changes) do
      count = count + (change.op == "upsert" and 1 or 0)
   end
   lu.assertEquals(count, 12000)
   lu.assertEquals(poll(), "upsert 100")
end

-- A view was not locked before its snapshot was taken, so that a table under it that was being
-- rewritten looked empty: the round was over, and the pages that were due never came. The view
-- stops at a gate in its first page, where the rewrite gets in line; that stops at one of its own.
function TestIncrementView.test_a_rewrite_of_the_table_under_a_view()
   local db = new_database [[create table t (id int primary key, n int);
      create function gate(id int, at int, number int) returns int language plpgsql volatile as $$
      begin
         if id = at then perform pg_advisory_xact_lock_shared(number); end if; return id;
      end $$;
      create view v as select id from t where gate(id, 2500, 7) > 0;
      insert into t select generate_series(1, 12000)]]
   local poll = new_poll(db)
   local gates, rewriter = db:connect(), db:connect()
   local function wait_for_one(kind, what)
      wait.until_(function()
         return db:value(("select count(*) from pg_locks where locktype = '%s' and not granted")
            :format(kind)) == "1"
      end, 30, what)
   end
   gates:exec "select pg_advisory_lock(7), pg_advisory_lock(8)"
   local _, result = poll({}, function()
      wait_for_one("advisory", "the view's gate")
      rewriter:send "alter table t alter n type bigint using gate(id, 1, 8)"
      wait_for_one("relation", "the rewrite to get in line")
      gates:exec "select pg_advisory_unlock(7)"
      wait_for_one("advisory", "the rewrite's gate")
      wait_for_one("relation", "the second page")
      gates:exec "select pg_advisory_unlock(8)"
      assert(rewriter:collect(30))
   end)
   lu.assertEquals(#result.changes, 12000)
end

-- start = "now": what is there is only learned.
function TestIncrementView.test_start_now()
   local db = new_database()
   local poll = new_poll(db, { start = "now" })
   lu.assertEquals(poll(), "")
   db:exec "insert into t values (4)"
   lu.assertEquals(poll(), "upsert 4")
   db:exec "update t set n = 1 where id = 2"
   lu.assertEquals(poll(), "upsert 2")
end

-- A foreign table, a partition of one, and a materialized view. Commits elsewhere are no commits
-- here: a poll looks all the same.
function TestIncrementView.test_foreign_tables()
   local there = new_database "create table r (id int primary key, at timestamptz default now())"
   local db = cluster.main():database()
   local user = db:value "select current_user"
   local host, port = db:value "select trim('\"' from current_setting('unix_socket_directories'))",
      db:value "show port"
   db:exec(([[create extension postgres_fdw;
      create server s foreign data wrapper postgres_fdw options (host '%s', port '%s', dbname '%s');
      create user mapping for current_user server s options (user '%s', password_required 'false');
      create foreign table v (id int, at timestamptz) server s options (table_name 'r');
      create table p (id int, at timestamptz) partition by list (id);
      create foreign table p1 partition of p for values in (1) server s options (table_name 'r');
      create table p2 partition of p for values in (2)]]):format(host, port, there.name, user))
   there:exec "insert into r values (1, '2001-01-01')"
   local poll = new_poll(db, { column = "at", lookback = 60 })
   lu.assertEquals(poll(), "read 1")
   there:exec "insert into r values (2, '2001-01-02'), (3, '2001-01-02')"
   lu.assertEquals(poll(), "upsert 2 3")
   there:exec "insert into r values (4, '2001-01-01 23:59:10'), (5, 'infinity')"
   lu.assertEquals(poll(), "upsert 4 5")
   lu.assertEquals(poll(), "")
   there:exec "delete from r where id > 1"
   local parted = new_poll(db, { table = "p", column = "id", lookback = 5 })
   lu.assertEquals(parted(), "read 1")
   db:exec "insert into p values (2, now())"
   lu.assertEquals(parted(), "upsert 2")
   db:exec "create materialized view m as select 1 as id union all select 2"
   lu.assertEquals(new_poll(db, { table = "m" })(), "read 1 2")
end

function TestIncrementView.test_what_is_refused()
   local db = new_database()
   db:exec [[create sequence s;
      create view n as select id, nullif(id, 2) as key from t;
      create view a as select id, array[id] as key from t]]
   local cases = {
      { [[table = "v"]], "is a view: its rows have no xmin" },
      { [[table = "v", capture = "increment", column = "id"]], "has no primary key" },
      { [[table = "v", capture = "increment", column = "id", pk = "id", start = 700]],
         "no transaction ids to start at" },
      { [[table = "n", capture = "increment", column = "id", pk = "key"]], "has NULL in its key" },
      { [[table = "a", capture = "increment", column = "id", pk = "key"]],
         "a key of type integer[]" },
      { [[table = "s", capture = "increment", column = "id"]], "is a sequence" },
   }
   for _, case in ipairs(cases) do
      local result = program.run {
         dsn = db, options = { "--once" }, script = ("pgcdc.source {%s}"):format(case[1]),
      }
      lu.assertEquals(result.status, 3, case[1])
      lu.assertStrContains(result.stderr, case[2])
   end
end

return TestIncrementView
