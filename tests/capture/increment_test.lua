-- increment_test.lua: capture = "increment": windows, late rows, rechecks, switches, refusals.
-- SPDX-License-Identifier: MIT
--
-- Concurrent writers are in exact_test.lua, the rule by itself in unit/increment.c.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local stepping = require "stepping"
local tables = require "tables"
local watch = require "watch"

local TestIncrement = {}

local function new_database(sql)
   return fixtures.database(sql or fixtures.numbers(3))
end

-- A function that polls once; a recheck comes only where the test asks for it.
local function new_poll(db, fields)
   local source = { capture = "increment", column = "id", lookback = 0, recheck = 1e6 }
   local poll = stepping.new(db, tables.merge(source, fields))
   return function(...)
      -- What is not flushed yet, such as a word of the background writer's, would hold the floor
      -- back, and the window: what is late would come before a recheck. So a commit flushes it.
      db:exec "select pg_logical_emit_message(true, 'flush', '')"
      return poll(...)
   end
end

-- What a recheck that is due at once brings.
local recheck = { recheck = 0.001 }

-- New rows come by the index; updates below the window at the next recheck, which counts them.
function TestIncrement.test_windows_and_rechecks()
   local db = new_database()
   local poll = new_poll(db)
   lu.assertEquals(poll(), "read 1 2 3")
   db:exec "insert into t values (4), (5)"
   lu.assertEquals(poll(), "upsert 4 5")
   db:exec "update t set n = 1 where id = 2; insert into t values (6)"
   lu.assertEquals(poll(), "upsert 6")
   lu.assertEquals(poll(), "")
   local words, result = poll(recheck)
   lu.assertEquals(words, "upsert 2")
   lu.assertStrContains(result.stderr, 'level=warn msg="the recheck found 1 rows that the index on')
   words, result = poll(recheck)
   lu.assertEquals(words, "")
   lu.assertNotStrContains(result.stderr, "the recheck found")
end

-- The naive cursor never sees what commits after a higher value. Here it comes at once, though a
-- poll of the higher one came in between: by the transactions that were under way then.
function TestIncrement.test_late_commits()
   local db = new_database()
   local poll = new_poll(db)
   poll()
   local late, later = db:connect(), db:connect()
   late:exec "begin; insert into t values (10); savepoint s; insert into t values (11); release s"
   later:exec "begin; insert into t values (15)"
   db:exec "insert into t values (20)"
   lu.assertEquals(poll(), "upsert 20")
   db:exec "insert into t values (30)"
   lu.assertEquals(poll(), "upsert 30")
   late:exec "savepoint s; insert into t values (12); release s; commit"
   lu.assertEquals(poll(), "upsert 10 11 12")
   later:exec "insert into t values (16); commit"
   db:exec "insert into t values (5)"
   lu.assertEquals(poll(), "upsert 15 16 5")
   local words, result = poll(recheck)
   lu.assertEquals(words, "")
   lu.assertNotStrContains(result.stderr, "the recheck found")
end

-- One transaction writes a low value and a high one: by xid alone the low one would count as
-- delivered for ever. The recheck finds it, and that only, also when the floor has long passed.
function TestIncrement.test_a_low_and_a_high_value_in_one_transaction()
   local db = new_database "create table t (id int primary key); insert into t values (1000)"
   local poll = new_poll(db)
   poll()
   db:exec "insert into t values (2000)"
   poll()
   db:exec "insert into t values (1), (3000), (2), (2500)"
   lu.assertEquals(poll(), "upsert 2500 3000")
   for i = 4, 6 do
      db:exec(("insert into t values (%d)"):format(i * 1000))
      lu.assertEquals(poll(), ("upsert %d"):format(i * 1000))
   end
   local words, result = poll(recheck)
   lu.assertEquals(words, "upsert 1 2")
   lu.assertStrContains(result.stderr, "the recheck found 2 rows")
   lu.assertEquals(poll(recheck), "")
end

-- Values that are drawn early and written late, as cached sequences and now() give them, lie
-- within the lookback.
function TestIncrement.test_lookback()
   local db = new_database "create table t (id int primary key); insert into t values (1000)"
   local poll = new_poll(db, { lookback = 100 })
   poll()
   db:exec "insert into t values (2000)"
   poll()
   db:exec "insert into t values (1950), (1899)"
   lu.assertEquals(poll(), "upsert 1950")
   db:exec "insert into t values (2050)" -- less than a lookback higher: the window stays
   lu.assertEquals(poll(), "upsert 2050")
   db:exec "insert into t values (1901)"
   lu.assertEquals(poll(), "upsert 1901")
   db:exec "insert into t values (1901 + 1000), (1900)"
   lu.assertEquals(poll(), "upsert 1900 2901")
end

function TestIncrement.test_ties_and_nulls()
   local db = new_database "create table t (id int primary key, at int); create index on t (at)"
   local poll = new_poll(db, { column = "at" })
   db:exec "insert into t values (1, 5), (2, 5), (3, null)"
   lu.assertEquals(poll(), "read 1 2 3")
   db:exec "insert into t values (4, 5)"
   lu.assertEquals(poll(), "upsert 4")
   db:exec "insert into t values (5, 5), (6, 5), (7, null), (8, 6)"
   lu.assertEquals(poll(), "upsert 5 6 8")
   db:exec "insert into t values (9, 6)"
   lu.assertEquals(poll(), "upsert 9")
   local words, result = poll(recheck)
   lu.assertEquals(words, "upsert 7")
   lu.assertStrContains(result.stderr, "the recheck found 1 rows")
end

-- Each type with values before and after 1970, far away, and infinite ones, which are not the top.
function TestIncrement.test_types()
   local types = {
      { "smallint", "-5", "-3", "7" },
      { "bigint", "-9223372036854775800", "5", "9223372036854775000" },
      { "date", "'0044-03-15 BC'", "'1969-12-30'", "'5874897-12-31'" },
      { "timestamp", "'4713-01-01 BC'", "'1969-12-31 23:59:59.999999'", "'290000-12-31 23:59:59'" },
      { "timestamptz", "'1200-01-01'", "'1970-01-01 00:00:00.000001+00'", "'9999-01-01'" },
   }
   for _, case in ipairs(types) do
      local name, low, middle, high = table.unpack(case)
      local db = new_database(("create table t (id int primary key, at %s);"
         .. "create index on t (at)"):format(name))
      local poll = new_poll(db, { column = "at" })
      db:exec(("insert into t values (1, %s)"):format(low))
      lu.assertEquals(poll(), "read 1", name)
      db:exec(("insert into t values (2, %s)"):format(middle))
      lu.assertEquals(poll(), "upsert 2", name)
      if not name:find "int" then
         db:exec "insert into t values (3, 'infinity'), (4, '-infinity')"
         lu.assertEquals(poll(), "upsert 3", name)
      end
      db:exec(("insert into t values (5, %s), (6, %s)"):format(middle, low))
      lu.assertEquals(poll(), "upsert 5", name)
      db:exec(("insert into t values (7, %s)"):format(high))
      lu.assertEquals(poll(), "upsert 7", name)
      db:exec(("insert into t values (8, %s), (9, %s)"):format(high, middle))
      lu.assertEquals(poll(), "upsert 8", name)
      local words = poll(recheck)
      lu.assertEquals(words, name:find "int" and "upsert 6 9" or "upsert 4 6 9", name)
   end
end

-- From xmin and back, and to another column: the position is kept, nothing comes twice, and what
-- no window had shown comes with the poll that leaves the column.
function TestIncrement.test_switches()
   local db = new_database [[create table t (id int primary key, n int default 0);
      create index on t (n); insert into t values (1), (2), (3)]]
   local poll = new_poll(db)
   local xmin = { capture = "xmin", column = false, lookback = false, recheck = false }
   lu.assertEquals(poll(xmin), "read 1 2 3")
   db:exec "insert into t values (4)"
   lu.assertEquals(poll(), "upsert 4")
   db:exec "insert into t values (5); update t set n = 1 where id = 1"
   lu.assertEquals(poll(), "upsert 5")
   local words, result = poll(xmin)
   lu.assertEquals(words, "upsert 1")
   lu.assertStrContains(result.stderr, "the recheck found 1 rows")
   lu.assertEquals(poll(xmin), "")
   db:exec "update t set n = 2 where id = 2"
   lu.assertEquals(poll(xmin), "upsert 2")
   lu.assertEquals(poll(), "")
   db:exec "insert into t values (6, 3); update t set n = 4 where id = 3"
   lu.assertEquals(poll(), "upsert 6")
   lu.assertEquals(poll { column = "n" }, "upsert 3")
   db:exec "update t set n = 5 where id = 4; update t set n = 0 where id = 5"
   lu.assertEquals(poll { column = "n" }, "upsert 4")
   db:exec "drop index t_n_idx; alter table t drop n"
   lu.assertEquals(poll(), "upsert 4 5") -- which of them a window showed cannot be told any more
   db:exec "insert into t values (7)"
   lu.assertEquals(poll(), "upsert 7")
   lu.assertEquals(poll(recheck), "")
end

-- To triggers: rows that no window had shown are not lost.
function TestIncrement.test_to_triggers()
   local db = new_database()
   local poll = new_poll(db)
   poll()
   db:exec "insert into t values (4)"
   poll()
   db:exec "insert into t values (5); update t set n = 1 where id = 1"
   lu.assertEquals(poll(), "upsert 5")
   stepping.trigger(db, "install")
   db:exec "update t set n = 1 where id = 2"
   local trigger = { capture = "trigger", column = false, lookback = false, recheck = false }
   lu.assertEquals(poll(trigger), "upsert 1 2")
   db:exec "delete from t where id = 1"
   lu.assertEquals(poll(trigger), "delete 1")
   db:exec "insert into t values (9)"
   lu.assertEquals(poll(), "upsert 9")
   lu.assertEquals(poll(recheck), "")
end

-- A partition that is attached is read whole, and what was delivered of it does not come again.
function TestIncrement.test_partitions()
   local db = new_database [[
      create table t (id int, n int, primary key (id, n)) partition by list (n);
      create table t1 partition of t for values in (1);
      insert into t values (1, 1);
      create table t2 (id int, n int, primary key (id, n)); insert into t2 values (7, 2), (50, 2)]]
   local poll = new_poll(db, { pk = "id" })
   lu.assertEquals(poll(), "read 1")
   db:exec "insert into t values (20, 1)"
   poll()
   db:exec "insert into t values (30, 1), (10, 1)"
   lu.assertEquals(poll(), "upsert 30")
   db:exec "insert into t2 values (8, 2); alter table t attach partition t2 for values in (2)"
   lu.assertEquals(poll(), "read 7 50, upsert 8 10") -- reading it whole is a recheck as well
   lu.assertEquals(poll(recheck), "")
end

-- Runs one poll with a handler that stops the program at the change of <id>.
local function stop_at(db, state, id, fields)
   local source = { table = "t", capture = "increment", column = "id", lookback = 0, recheck = 1e6 }
   source = tables.replace(source, fields)
   local result = program.run {
      dsn = db, state = state, options = id and {} or { "--once" },
      script = watch.script(source, id and ([[
         source:on("change", function(change)
            if change.key.id == %d then pgcdc.stop() end
         end)]]):format(id)),
   }
   lu.assertEquals(result.status, 0, result.stderr)
   return stepping.words(result.changes), result
end

-- A window that ends early leaves a cut: rows of its xid up to a key. Rows of the same xid that
-- lie below the window were taken for delivered by the recheck that came next, and lost for ever.
function TestIncrement.test_a_recheck_after_a_window_that_was_cut()
   for _, case in ipairs { "attach", "another column", "xmin", "trigger", "renamed" } do
      local db = new_database [[
         create table t (id int, n int, part int default 1, primary key (id, part))
            partition by list (part);
         create table t1 partition of t for values in (1);
         create index on t (n);
         create table t2 (id int, n int, part int, primary key (id, part));
         insert into t values (1000, 1000), (2000, 2000)]]
      local state = fixtures.state()
      local by = { pk = "id", column = "n" }
      lu.assertEquals(stop_at(db, state, nil, by), "read 1000 2000")
      db:exec "insert into t values (1, 1), (3001, 3001)"
      lu.assertEquals(stop_at(db, state, nil, by), "upsert 3001", case)
      db:exec "begin; insert into t values (2, 2), (4000, 4000), (4001, 4001), (3, 3); commit"
      lu.assertEquals(stop_at(db, state, 4000, by), "upsert 4000", case)
      if case == "attach" then
         db:exec [[insert into t2 values (7, 7, 2);
            alter table t attach partition t2 for values in (2)]]
         lu.assertEquals(stop_at(db, state, nil, by), "upsert 7 1 2 3 4001", case)
      elseif case == "trigger" then
         stepping.trigger(db, "install", { pk = "id" })
         by = { pk = "id", capture = "trigger", column = false, lookback = false, recheck = false }
         lu.assertEquals(stop_at(db, state, nil, by), "upsert 1 2 3 4001", case)
      elseif case == "renamed" then -- what a window showed cannot be told any more
         db:exec "alter table t rename n to m"
         by.column = "m"
         local words = stop_at(db, state, nil, by)
         for _, id in ipairs { 1, 2, 3, 4001 } do
            lu.assertStrContains(words .. " ", (" %d "):format(id))
         end
      else
         by = case == "xmin" and { pk = "id", capture = "xmin", column = false, lookback = false,
            recheck = false } or { pk = "id", column = "id" }
         lu.assertEquals(stop_at(db, state, nil, by), "upsert 1 2 3 4001", case)
      end
      lu.assertEquals(stop_at(db, state, nil, by), "", case)
   end
end

-- recheck = 0: what no window showed is never found, and nothing is kept for it.
function TestIncrement.test_without_rechecks()
   local db = new_database()
   local poll = new_poll(db, { recheck = 0 })
   poll()
   for id = 10, 15 do
      db:exec(("insert into t values (%d)"):format(id))
      lu.assertEquals(poll(), "upsert " .. id)
   end
   db:exec "update t set n = 1 where id = 1"
   lu.assertEquals(poll(), "")
   lu.assertEquals(poll(recheck), "")
   db:exec "update t set n = 1 where id = 2"
   lu.assertEquals(poll(recheck), "upsert 2")
end

-- What the lookback is for, as servers do it: a session that goes on with the values it took from
-- a sequence long ago, and now() of a transaction that had no xid yet when others were seen.
function TestIncrement.test_cached_sequences_and_now()
   local db = new_database [[create sequence s cache 100;
      create table t (id int primary key default nextval('s'), at timestamptz default now());
      create index on t (at)]]
   local by_id, by_time = new_poll(db, { lookback = false }),
      new_poll(db, { lookback = false, column = "at" })
   local one, two, slow = db:connect(), db:connect(), db:connect()
   one:exec "insert into t default values"
   by_id()
   by_time()
   two:exec "insert into t default values; insert into t default values"
   slow:exec "begin; select now()"
   two:exec "insert into t default values"
   lu.assertEquals(by_id(), "upsert 101 102 103")
   lu.assertEquals(by_time(), "upsert 101 102 103")
   one:exec "insert into t default values"
   lu.assertEquals(by_id(), "upsert 2")
   lu.assertEquals(by_time(), "upsert 2")
   slow:exec "insert into t default values; commit"
   lu.assertEquals(by_id(), "upsert 201")
   lu.assertEquals(by_time(), "upsert 201")
   for _, poll in ipairs { by_id, by_time } do
      local words, result = poll(recheck)
      lu.assertEquals(words, "")
      lu.assertNotStrContains(result.stderr, "the recheck found")
   end
end

-- A lookback that would begin before the first possible date begins there.
function TestIncrement.test_a_long_lookback()
   for _, name in ipairs { "date", "timestamp", "timestamptz" } do
      local db = new_database(("create table t (id int primary key, at %s);"
         .. "create index on t (at); insert into t values (1, '2020-01-01')"):format(name))
      local poll = new_poll(db, { column = "at", lookback = 1e12 })
      lu.assertEquals(poll(), "read 1")
      db:exec "insert into t values (2, '2020-01-02')"
      lu.assertEquals(poll(), "upsert 2")
      db:exec "insert into t values (3, '4713-01-01 BC')"
      lu.assertEquals(poll(), "upsert 3", name)
   end
end

function TestIncrement.test_soft_delete()
   local db = new_database [[create table t (id int primary key, gone_at timestamptz, v int);
      create index on t (v); insert into t values (1, null, 1), (2, null, 2)]]
   local poll = new_poll(db, { column = "v", soft_delete = "gone_at" })
   lu.assertEquals(poll(), "read 1 2")
   db:exec "update t set gone_at = now(), v = 3 where id = 1"
   lu.assertEquals(poll(), "delete 1")
end

function TestIncrement.test_start_now()
   local db = new_database()
   local poll = new_poll(db, { start = "now" })
   local open = db:connect()
   open:exec "begin; insert into t values (4)"
   lu.assertEquals(poll(), "")
   db:exec "insert into t values (5)"
   open:exec "commit"
   lu.assertEquals(poll(), "upsert 4 5")
   db:exec "update t set n = 1 where id = 1; insert into t values (6)"
   lu.assertEquals(poll(), "upsert 6")
   lu.assertEquals(poll(recheck), "upsert 1")
end

-- A missing index is reported; a partial index does not count.
function TestIncrement.test_no_index()
   local db = new_database [[create table t (id int primary key, n int);
      create index on t (n) where n > 5; insert into t values (1, 1)]]
   local _, result = new_poll(db, { column = "n" })()
   lu.assertStrContains(result.stderr, "has no index that begins with")
   db:exec "create index on t (n, id)"
   _, result = new_poll(db, { column = "n" })()
   lu.assertNotStrContains(result.stderr, "has no index")
end

-- A crash of the server may undo what a poll has seen, and give its xids and values out again.
function TestIncrement.test_a_crash_of_the_server()
   local one = cluster.new { name = "increment crash", conf = { synchronous_commit = "off",
      wal_writer_delay = "10s", fsync = "on" } }
   local db = one:database()
   db:exec "create table t (id int primary key, n int); insert into t values (1, 1)"
   local poll = new_poll(db)
   poll()
   db:exec "insert into t values (2, 2); checkpoint"
   poll()
   db:exec "insert into t values (3, 3)"
   lu.assertEquals(poll(), "upsert 3")
   one:crash()
   local survived = db:value "select count(*) from t where id = 3" == "1"
   db:exec "insert into t values (4, 4)"
   if not survived then
      db:exec "insert into t values (3, 33)"
   end
   local words = poll()
   lu.assertStrContains(words, "4")
   lu.assertStrContains(words .. "3", survived and "" or "3")
   lu.assertEquals(poll(recheck), "")
end

function TestIncrement.test_what_is_refused()
   local db = new_database [[create table t (id int primary key, name text, at timestamptz);
      create view v as select * from t]]
   local cases = {
      { [[capture = "increment"]], 1, "needs column =" },
      { [[column = "id"]], 1, "column is for capture" },
      { [[recheck = 5]], 1, "recheck is for capture" },
      { [[capture = "increment", column = "id", lookback = -1]], 1, "lookback must be" },
      { [[capture = "increment", column = "id", recheck = "x"]], 1, "recheck must be a number" },
      { [[capture = "increment", column = 5]], 1, "column must be" },
      { [[capture = "increment", column = "id", deletes = true]], 1, "deletes is for capture" },
      { [[capture = "increment", column = "ad"]], 3, "(named in column)" },
      { [[capture = "increment", column = "name"]], 3, "is text" },
   }
   for _, case in ipairs(cases) do
      local result = program.run {
         dsn = db, options = { "--once" },
         script = ("pgcdc.source {table = 't', %s}"):format(case[1]),
      }
      lu.assertEquals(result.status, case[2], case[1])
      lu.assertStrContains(result.stderr, case[3])
   end
end

function TestIncrement.test_check_says_what_would_run()
   local db = new_database()
   local result = program.run {
      dsn = db, options = { "--check" },
      script = [[pgcdc.source {table = "t", capture = "increment", column = "id"}]],
   }
   lu.assertEquals(result.status, 0)
   lu.assertStrContains(result.stdout, "by column id")
end

return TestIncrement
