-- exact_numbers_test.lua: numbers in documents that Lua has no number for keep all their digits.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"

local TestExactNumbers = {}

local BIG = "18446744073709551615"
local WEI = "25000000000000000000"
local THIRD = "0.33333333333333333333"

-- A database with t: a document, an array and a composite of numbers.
local function database()
   return fixtures.database([[create type amount as (unit text, value numeric);
      create table t (id int primary key, j jsonb, a numeric[], m amount);
      insert into t values (1, '{"id": %s, "text": "%s", "third": %s, "n": 1, "list": [%s, 2.50]}',
         '{%s,1.10,%s}', ('wei', %s))]], BIG, BIG, THIRD, WEI, WEI, THIRD, WEI)
end

local run = once.on_change

-- A number that Lua has is a number; any other is the text of its digits.
function TestExactNumbers.test_what_a_handler_sees()
   local lines = run(database(), [[
      local j, a = c.row.j, c.row.a
      print(j.id, type(j.id), j.third, j.n + 1, j.list[1], j.list[2])
      print(a[1], a[2], math.type(a[2]), a[3], c.row.m.value)
      print(("%.3e"):format(tonumber(j.id)))]])
   lu.assertEquals(lines, {
      ("%s\tstring\t%s\t2\t%s\t2.5"):format(BIG, THIRD, WEI),
      ("%s\t1.1\tfloat\t%s\t%s"):format(WEI, THIRD, WEI),
      "1.845e+19",
   })
end

-- What a script changes is encoded anew: numbers beside it are numbers with the same digits, and
-- text that looks like one of them stays text.
function TestExactNumbers.test_written_back()
   local lines = run(database(), [[
      local before = tostring(c.row)
      local _ = c.row.j.list[1], c.row.a[1], c.row.m.value
      assert(tostring(c.row) == before)
      c.row.j.n = 2
      c.row.a[2] = 7
      c.row.m.unit = "gwei"
      print(pgcdc.json.encode(c.row.j))
      print(c.row)
      print(pgcdc.json.encode(pgcdc.json.decode(pgcdc.json.encode(c.row.j))))]])
   local j = ('{"id":%s,"list":[%s,2.5],"n":2,"text":"%s","third":%s}'):format(BIG, WEI, BIG, THIRD)
   lu.assertEquals(lines, { j, ('{"id":1,"j":%s,"a":[%s,7,%s],"m":{"unit":"gwei","value":%s}}')
      :format(j, WEI, THIRD, WEI), j })
end

-- A clone (what a retry gets, what `add` makes) encodes the same.
function TestExactNumbers.test_clones()
   local lines = once.ok { dsn = database(), script = [[
      pgcdc.source { table = "t", on_error = { retry = 1, wait = 0.001 } }
         :tap(function(c) c.row.j.n = 2 end)
         :add { more = function(c) return c.row.j end }
         :select { "j", "more" }
         :sink(function(c) print(c.row) end)]] }.lines
   local j = ('{"id":%s,"list":[%s,2.5],"n":2,"text":"%s","third":%s}'):format(BIG, WEI, BIG, THIRD)
   lu.assertEquals(lines, { ('{"j":%s,"more":%s}'):format(j, j) })
end

-- Into another table, changed on the way: the same numbers.
function TestExactNumbers.test_into_a_table()
   local db = database()
   once.ok { dsn = db, script = [[
      pgcdc.source { table = "t" }:tap(function(c)
         c.row.j.n, c.row.a[2], c.row.m.unit = 2, 7, "gwei"
      end):sink(pgcdc.sinks.postgres { table = "copy" })]] }
   lu.assertEquals(db:value "select a::text || m::text || (j - 'n' - 'list')::text from copy",
      ('{%s,7,%s}(gwei,%s){"id": %s, "text": "%s", "third": %s}'):format(WEI, THIRD, WEI, BIG, BIG,
      THIRD))
   lu.assertEquals(db:value "select jsonb_typeof(j->'id') from copy", "number")
end

return TestExactNumbers
