-- operators_fold_test.lua: accumulate, frequencies, reduce_by, slice and unique.
-- SPDX-License-Identifier: MIT

local pipeline = require "pipeline"

local TestOperatorsFold = {}

local expect = pipeline.expect

function TestOperatorsFold.test_accumulate()
   expect([[
      local function add(a, b) return a + b end
      s:accumulate(add):sink(tell "sum")
      s:scan(add, { start = 10 }):sink(tell "from ten")
      s:accumulate(function(n, x) return n + 1, x * n end, { start = 1, returns_state = true })
         :sink(tell "result")
      s:accumulate(add, { with_state = true }):sink(tell "with state")
      s:scan(function(n, x) return n + 1, { x } end,
         { start = 0, returns_state = true, with_state = true }):sink(tell "both")
      feed(2, 3)]], {
      "sum 2", "from ten 12", "result 2", "with state [2,2]", "both [1,[2]]",
      "sum 5", "from ten 15", "result 6", "with state [5,5]", "both [2,[3]]",
   })
end

-- The result may be nil or false, the state may be false, but not nil.
function TestOperatorsFold.test_accumulate_without_a_state()
   expect([[
      s:accumulate(function(n) return n + 1, nil end, { start = 0, returns_state = true })
         :sink(tell "nil")
      s:accumulate(function(n) return n + 1, false end, { start = 0, returns_state = true })
         :sink(tell "false")
      s:accumulate(function(n) return not n end, { start = false }):sink(tell "not")
      feed(1, 2)
      local t = pgcdc.stream {}
      t:accumulate(function() end, { start = 0 })
      print(fails(function() t:emit(1) end))]], {
      "nil null", "false false", "not true", "nil null", "false false", "not false",
      "script.lua:9: accumulate: f returned nil instead of a state",
   })
end

function TestOperatorsFold.test_accumulate_in_a_loop()
   expect([[
      local sum = s:accumulate(function(a, b) return a + b end, { start = 0 })
      sum:sink(tell "sum")
      sum:filter(function(x) return x < 10 end):connect(sum)
      feed(3)
      feed(1)]], { "sum 3", "sum 6", "sum 12", "sum 13" })
end

function TestOperatorsFold.test_frequencies()
   expect([[
      local all = s:frequencies():sink_to_list()
      feed("a", "b", "a")
      print(show(all))
      local t = pgcdc.stream {}
      local counts = t:frequencies():sink_to_list()
      for i = 1, 2 do t:emit(nil); t:emit(0/0); t:emit(1); t:emit(1.0) end
      local last = counts[#counts]
      print(last[pgcdc.null], last.NaN, last[1])]], {
      '[{"a":1},{"a":1,"b":1},{"a":2,"b":1}]', "2\t2\t4",
   })
end

function TestOperatorsFold.test_slice()
   expect([[
      for i, args in ipairs { {}, { 2 }, { 1, 3 }, { nil, 2 }, { 1, nil, 2 }, { 0, 5, 3 },
                              { 3, 2 }, { 0, 0 } } do
         local list = s:slice(table.unpack(args, 1, 3)):sink_to_list()
         pgcdc.register("x" .. i, function() print(i, show(pgcdc.array(list))) end)
      end
      feed("a", "b", "c", "d", "e", "f")
      for i = 1, 8 do s["x" .. i](s) end]], {
      '1\t["a","b","c","d","e","f"]', '2\t["c","d","e","f"]', '3\t["b","c"]', '4\t["a","b"]',
      '5\t["b","d","f"]', '6\t["a","d"]', "7\t[]", "8\t[]",
   })
end

function TestOperatorsFold.test_unique()
   expect([[
      local function list(...)
         local l = s:unique(...):sink_to_list()
         return function() print(show(l)) end
      end
      local all = { list(), list { maxsize = 2 }, list { key = function(x) return x % 10 end },
                    list { maxsize = math.huge }, list { maxsize = 1 } }
      feed(1, 2, 1, 3, 1, 2, 13, 13)
      for _, f in ipairs(all) do f() end
      local t = pgcdc.stream {}
      local odd = t:unique{ key = 1 }:sink_to_list()
      for _ = 1, 2 do t:emit {}; t:emit { 0/0 }; t:emit { false } t:emit { "1" } t:emit { 1 } end
      print(#odd)]], {
      "[1,2,3,13]", "[1,2,3,2,13]", "[1,2,3]", "[1,2,3,13]", "[1,2,1,3,1,2,13]", "5",
   })
end

-- A hit makes a key younger: LRU, not first in, first out. The default keeps 100000 keys.
function TestOperatorsFold.test_unique_forgets_the_least_recent()
   expect([[
      local list = s:unique():sink_to_list()
      for i = 1, 100000 do s:emit(i) end
      feed(1, "one more", 1, 2)
      print(#list, list[100001], list[100002], list[100003])]], {
      "100002\tone more\t2\tnil",
   })
end

function TestOperatorsFold.test_reduce_by()
   expect([[
      local function add(a, b) return a + b end
      s:reduce_by("k", function(n) return n + 1 end, { start = 0 }):sink(tell "count")
      s:map(function(x) return x.v end):reduce_by(function(v) return v % 2 end, add)
         :sink(tell "sum")
      s:reduce_by("k", function(l, x) l[#l + 1] = x.v return l end, { start = pgcdc.array {} })
         :sink(tell "list")
      feed({ k = "a", v = 1 }, { k = "b", v = 2 }, { k = "a", v = 3 }, { v = 4 })]], {
      'count {"key":"a","state":1}', 'sum {"key":1,"state":1}', 'list {"key":"a","state":[1]}',
      'count {"key":"b","state":1}', 'sum {"key":0,"state":2}', 'list {"key":"b","state":[2]}',
      'count {"key":"a","state":2}', 'sum {"key":1,"state":4}', 'list {"key":"a","state":[1,3]}',
      'count {"key":null,"state":1}', 'sum {"key":0,"state":6}', 'list {"key":null,"state":[4]}',
   })
end

-- Only what changed, in the order of each key's first change; nothing while nothing changes.
function TestOperatorsFold.test_reduce_by_every()
   expect([[
      s:reduce_by(function(x) return x end, function(n) return n + 1 end, { start = 0, every = 10 })
         :sink(function(x) print(now, x.key, x.state) end)
      feed("b", "a", "b")
      at(9)
      at(10)
      at(25)
      feed("c")
      at(30)
      feed("a", "c")
      at(35)
      at(60)]], { "10\tb\t2", "10\ta\t1", "35\tc\t2", "35\ta\t2" })
end

-- A clean stop passes on what is pending.
function TestOperatorsFold.test_reduce_by_finish()
   expect([[
      local stream = require "pgcdc.stream.stream"
      s:reduce_by(function(x) return x end, function(n) return n + 1 end, { start = 0, every = 10 })
         :sink(function(x) print(x.key, x.state) end)
      stream.finish()
      feed("b", "a", "b")
      stream.finish()
      stream.finish()
      at(50)
      feed("a")
      at(60)]], { "b\t2", "a\t1", "a\t2" })
end

-- What a tick causes by way of a loop is for the next tick.
function TestOperatorsFold.test_reduce_by_every_in_a_loop()
   expect([[
      local counts = s:reduce_by(function(x) return x end, function(n) return n + 1 end,
         { start = 0, every = 10 })
      counts:sink(function(x) print(now, x.key, x.state) end)
      counts:filter(function(x) return x.state < 3 end):pluck("key"):connect(s)
      feed("a", "b")
      for t = 10, 100, 10 do at(t) end]], {
      "10\ta\t1", "10\tb\t1", "20\ta\t2", "20\tb\t2", "30\ta\t3", "30\tb\t3",
   })
end

return TestOperatorsFold
