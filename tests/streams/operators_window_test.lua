-- operators_window_test.lua: partitions, windows and collect: lists, times, order.
-- SPDX-License-Identifier: MIT

local pipeline = require "pipeline"

local TestOperatorsWindow = {}

local expect = pipeline.expect

function TestOperatorsWindow.test_partition()
   expect([[
      s:partition(3):sink(tell "three")
      s:partition(1):sink(tell "one")
      s:partition(2, { key = "k" }):pluck{ 1, 2 }:map(function(l) return { l[1].v, l[2].v } end)
         :sink(tell "key")
      s:partition(2, { key = function(x) return x.v % 2 end }):map(function(l) return #l end)
         :sink(tell "f")
      for i, k in ipairs { "a", "b", "a", "b" } do s:emit { k = k, v = i } end]], {
      'one [{"k":"a","v":1}]', 'one [{"k":"b","v":2}]',
      'three [{"k":"a","v":1},{"k":"b","v":2},{"k":"a","v":3}]',
      'one [{"k":"a","v":3}]', "key [1,3]", "f 2",
      'one [{"k":"b","v":4}]', "key [2,4]", "f 2",
   })
end

-- nil, null and NaN are keys too.
function TestOperatorsWindow.test_partition_by_odd_keys()
   expect([[
      s:partition(2, { key = function(x) return x[1] end })
         :map(function(l) return l[1][2] .. l[2][2] end):sink(tell "pair")
      feed({ nil, "a" }, { 0/0, "b" }, { pgcdc.null, "c" }, { 0/0, "d" }, { false, "e" },
         { false, "f" }, { 1, "g" }, { 1.0, "h" })]], {
      "pair ac", "pair bd", "pair ef", "pair gh",
   })
end

-- The list that is passed on belongs to whoever gets it.
function TestOperatorsWindow.test_lists_are_new_ones()
   expect([[
      local lists = s:sliding_window(2):sink_to_list()
      local parts = s:partition(2):tap(function(l) l[3] = "changed" end):sink_to_list()
      feed(1, 2, 3, 4)
      print(show(lists), show(parts))]], {
      '[[1],[1,2],[2,3],[3,4]]\t[[1,2,"changed"],[3,4,"changed"]]',
   })
end

-- A short list so many seconds after its first value; a list that was filled starts no clock.
function TestOperatorsWindow.test_partition_with_a_timeout()
   expect([[
      s:partition(3, { timeout = 10 }):sink(tell "list")
      feed(1, 2)
      at(9)
      print "nine"
      at(10)
      print "ten"
      at(20)
      feed(3, 4, 5, 6)
      at(29)
      feed(7)
      at(30)
      print "thirty"
      at(40)
      feed(8)
      at(49)
      print "end"]], {
      "nine", "list [1,2]", "ten", "list [3,4,5]", "list [6,7]", "thirty", "end",
   })
end

function TestOperatorsWindow.test_partition_with_a_timeout_and_keys()
   expect([[
      s:partition(2, { timeout = 10, key = function(x) return x % 2 end }):sink(tell "list")
      feed(1)
      at(5)
      feed(2)
      at(10)
      print "ten"
      feed(3)
      at(15)
      feed(5)
      at(30)]], { "list [1]", "ten", "list [2]", "list [3,5]" })
end

function TestOperatorsWindow.test_partition_unique()
   expect([[
      s:partition_unique(2):sink(tell "value")
      s:partition_unique(2, { key = function(x) return x // 10 end }):sink(tell "first")
      s:partition_unique(2, { key = function(x) return x // 10 end, keep = "last" })
         :sink(tell "last")
      s:partition_unique(1):sink(tell "one")
      feed(10, 10, 11, 20, 21, 12)]], {
      "one [10]", "one [10]", "value [10,11]", "one [11]",
      "first [10,20]", "last [11,20]", "one [20]",
      "value [20,21]", "one [21]", "first [21,12]", "last [21,12]", "one [12]",
   })
end

-- keep="last" moves to the end: the order is that of the values that stay.
function TestOperatorsWindow.test_partition_unique_moves_to_the_end()
   expect([[
      local key = function(x) return x:sub(1, 1) end
      s:partition_unique(3, { key = key, keep = "last" }):sink(tell "last")
      s:partition_unique(3, { key = key }):sink(tell "first")
      feed("a1", "b1", "a2", "b2", "a3", "c1")]], {
      'last ["b2","a3","c1"]', 'first ["a1","b1","c1"]',
   })
end

function TestOperatorsWindow.test_sliding_window()
   expect([[
      s:sliding_window(3):sink(tell "partial")
      s:sliding_window(3, { return_partial = false }):sink(tell "full")
      s:sliding_window(1):sink(tell "one")
      feed(1, 2, 3, 4)]], {
      "partial [1]", "one [1]", "partial [1,2]", "one [2]",
      "partial [1,2,3]", "full [1,2,3]", "one [3]",
      "partial [2,3,4]", "full [2,3,4]", "one [4]",
   })
end

-- A window opens with its first value. Nothing is emitted for an empty one.
function TestOperatorsWindow.test_timed_window()
   expect([[
      s:timed_window(1):sink(tell "list")
      at(5)
      feed(1)
      at(5.5)
      feed(2)
      at(5.99)
      print "not yet"
      at(6)
      feed(3)
      at(6.5)
      print "not yet"
      at(7)
      at(20)
      print "end"]], { "not yet", "list [1,2]", "not yet", "list [3]", "end" })
end

function TestOperatorsWindow.test_timed_window_unique()
   expect([[
      local key = function(x) return x:sub(1, 1) end
      s:timed_window_unique(1, { key = key }):sink(tell "first")
      s:timed_window_unique(1, { key = key, keep = "last" }):sink(tell "last")
      s:timed_window_unique(1):sink(tell "value")
      feed("a1", "b1", "a2", "b1")
      at(1)
      feed("a3")
      at(2)]], {
      'first ["a1","b1"]', 'last ["a2","b1"]', 'value ["a1","b1","a2"]',
      'first ["a3"]', 'last ["a3"]', 'value ["a3"]',
   })
end

function TestOperatorsWindow.test_collect()
   expect([[
      local all = s:collect()
      all:sink(tell "all")
      all:flush()
      feed(1, 2)
      s:emit(nil)
      all:flush()
      all:flush()
      feed(3)]], { "all []", "all [1,2,null]", "all []" })
end

-- What comes back through a loop belongs to the next list.
function TestOperatorsWindow.test_lists_in_a_loop()
   expect([[
      local lists = s:partition(2)
      lists:sink(tell "list")
      lists:map(function(l) return l[1] + l[2] end):filter(function(x) return x < 20 end):connect(s)
      feed(1, 2, 3, 4)
      local all = pgcdc.stream {}
      local collected = all:collect()
      collected:sink(tell "collected")
      collected:flatten():filter(function(x) return x > 0 end):map(function(x) return x - 1 end)
         :connect(all)
      all:emit(1)
      all:emit(5)
      collected:flush()
      collected:flush()]], {
      "list [1,2]", "list [3,3]", "list [6,4]",
      "collected [1,5]", "collected [0,4]",
   })
end

return TestOperatorsWindow
