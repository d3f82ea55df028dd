-- operators_persist_test.lua: operators on real tables: state that survives, windows and --once,
-- sources that are held up.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local scope = require "scope"

local TestOperatorsPersist = {}

local function new_table(columns)
   local db = cluster.main():database()
   db:exec(("CREATE TABLE t (id int PRIMARY KEY, %s)"):format(columns))
   return db
end

-- Runs the script with --once, on the same state each time. Returns the lines that it prints.
local function polled(db, state, script)
   return once.ends(0, { script = script, dsn = db, state = state }).lines
end

function TestOperatorsPersist.test_accumulate()
   local db, state = new_table "n int", scope.dir "state" .. "/state"
   local script = [[
      local t = pgcdc.source { table = "t" }
      local sum = t:pluck("n"):accumulate(function(a, b) return a + b end, { persist = "sum" })
      sum:sink(function(x) print("sum", x) end)
      t:accumulate(function(seen, change) return { n = seen.n + 1, last = change.key.id } end,
         { start = { n = 0 }, persist = "seen" })
         :sink(function(x) print("seen", x.n, x.last) end)]]
   db:exec "INSERT INTO t VALUES (1, 10), (2, 20)"
   lu.assertEquals(polled(db, state, script), { "sum\t10", "seen\t1\t1", "sum\t30", "seen\t2\t2" })
   lu.assertEquals(polled(db, state, script), {})
   db:exec "INSERT INTO t VALUES (3, 5)"
   lu.assertEquals(polled(db, state, script), { "sum\t35", "seen\t3\t3" })
end

-- Keys keep their types: 1 is not "1", and NULL is a key.
function TestOperatorsPersist.test_reduce_by()
   local db, state = new_table "i int, f float8, b bool, s text", scope.dir "state" .. "/state"
   local script = [[
      local t = pgcdc.source { table = "t" }
      local function count(n) return n + 1 end
      for _, name in ipairs { "i", "f", "b", "s" } do
         t:reduce_by(name, count, { start = 0, persist = "by " .. name })
            :sink(function(x) print(name, math.type(x.key) or type(x.key), x.key, x.state) end)
      end
      t:reduce_by(function(c) return c.row.i and c.row.i or c.row.s end, count,
         { start = 0, persist = "both" }):sink(function(x) print("both", x.key, x.state) end)]]
   local row = "i\tinteger\t1\t%d f\tfloat\tinf\t%d b\tboolean\tfalse\t%d s\tstring\t1\t%d"
      .. " both\t1\t1"
   local none = "i\tuserdata\tnull\t%d f\tstring\tNaN\t%d b\tuserdata\tnull\t%d s\tstring\t1\t%d"
      .. " both\t1\t1"
   local function check(sql, line, ...)
      db:exec(sql)
      lu.assertEquals(table.concat(polled(db, state, script), " "), line:format(...))
   end
   check("INSERT INTO t VALUES (1, 1, 'infinity', false, '1')", row, 1, 1, 1, 1)
   check("INSERT INTO t VALUES (2, NULL, 'NaN', NULL, '1')", none, 1, 1, 1, 2)
   check("INSERT INTO t VALUES (3, NULL, 'NaN', NULL, '1')", none:gsub("1$", "2"), 2, 2, 2, 3)
   check("INSERT INTO t VALUES (4, 1, 'infinity', false, '1')", row:gsub("1$", "2"), 2, 2, 2, 4)
end

-- Counts of each key are told at the tick, or at the clean end that --once is; what was held until
-- then was saved with the position.
function TestOperatorsPersist.test_reduce_by_every()
   local db, state = new_table "s text", scope.dir "state" .. "/state"
   local script = [[
      pgcdc.source { table = "t" }
         :reduce_by("s", function(n) return n + 1 end, { start = 0, every = 1000, persist = "n" })
         :sink(function(x) print(x.key, x.state) end)]]
   db:exec "INSERT INTO t VALUES (1, 'b'), (2, 'a'), (3, 'b')"
   lu.assertEquals(polled(db, state, script), { "b\t2", "a\t1" })
   lu.assertEquals(polled(db, state, script), {})
   db:exec "INSERT INTO t VALUES (4, 'b')"
   lu.assertEquals(polled(db, state, script), { "b\t3" })
end

function TestOperatorsPersist.test_one_name_for_two()
   local result = program.run { state = false, script = [[
      local s = pgcdc.stream {}
      s:accumulate(print, { persist = "x" })
      s:reduce_by("k", print, { persist = "x" })]] }
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr,
      "script.lua:3: reduce_by: the name 'x' is taken by another state of this script")
end

-- --once waits for a window to close; what it passes on is not passed on again.
function TestOperatorsPersist.test_once_waits_for_windows()
   local db, state = new_table "n int", scope.dir "state" .. "/state"
   local script = [[
      pgcdc.source { table = "t" }:timed_window(0.3):sink(function(l) print("list", #l) end)]]
   db:exec "INSERT INTO t SELECT i, i FROM generate_series(1, 100) i"
   lu.assertEquals(polled(db, state, script), { "list\t100" })
   lu.assertEquals(polled(db, state, script), {})
end

-- A list that is not full is not saved: its values come again.
function TestOperatorsPersist.test_what_is_held_comes_again()
   local db, state = new_table "n int", scope.dir "state" .. "/state"
   local script = [[
      pgcdc.source { table = "t" }:pluck("n"):partition(3)
         :sink(function(l) print(table.concat(l, " ")) end)]]
   db:exec "INSERT INTO t VALUES (1, 1), (2, 2)"
   lu.assertEquals(polled(db, state, script), {})
   db:exec "INSERT INTO t VALUES (3, 3)"
   lu.assertEquals(polled(db, state, script), { "1 2 3" })
   lu.assertEquals(polled(db, state, script), {})
end

-- A slow stream holds its sources up instead of taking in all there is, and nothing is lost.
function TestOperatorsPersist.test_slow_streams()
   local db = new_table "n int"
   db:exec "INSERT INTO t SELECT i, i FROM generate_series(1, 1500) i"
   local lines = polled(db, false, [[
      local t = pgcdc.source { table = "t" }
      local fast, slow, buffered, sum = 0, 0, 0, 0
      t:sink(function() fast = fast + 1 end)
      t:pluck("n"):rate_limit(0.001):sink(function(n)
         slow, sum = slow + 1, sum + n
         assert(fast - slow <= 1100, fast)
         if slow == 1500 then print("sum", sum) end
      end)
      t:buffer(10):rate_limit(0.001):sink(function()
         buffered = buffered + 1
         assert(fast - buffered <= 1100, fast)
         if buffered == 1500 then print("buffered", fast) end
      end)
      t:pluck("n"):latest():rate_limit(0.2):sink(function(n)
         if n == 1500 then print("latest", n) end
      end)]])
   table.sort(lines)
   lu.assertEquals(lines, { "buffered\t1500", "latest\t1500", "sum\t1125750" })
end

return TestOperatorsPersist
