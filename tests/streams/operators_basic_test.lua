-- operators_basic_test.lua: map and its like, ends, and the order in which values go.
-- SPDX-License-Identifier: MIT

local files = require "files"
local lu = require "luaunit"
local pipeline = require "pipeline"
local program = require "program"
local scope = require "scope"

local TestOperatorsBasic = {}

local expect = pipeline.expect

function TestOperatorsBasic.test_map()
   expect([[
      s:map(function(x) return x + 1 end):sink(tell "one")
      s:map(function(x, a, b) return x + a * b end, 10, 3):sink(tell "more")
      s:map(function(x, a) return x + a end, 100):sink(tell "hundred")
      s:map(function(x) return x, "second" end):map(function(...) return select("#", ...) end)
         :sink(tell "count")
      feed(1, 2)]], {
      "one 2", "more 31", "hundred 101", "count 1",
      "one 3", "more 32", "hundred 102", "count 1",
   })
end

-- nil is a value like any other: dropping it silently would be a loss.
function TestOperatorsBasic.test_nil_is_passed_on()
   expect([[
      local gone = s:map(function() end)
      gone:sink(tell "nil")
      gone:filter():sink(tell "never")
      gone:tap(tell "tapped"):remove(function(x) return x == nil end):sink(tell "never")
      gone:partition(2):sink(tell "list")
      gone:pluck(function() return nil, 1 end):sink(tell "pluck")
      feed(1, 2)]], {
      "nil null", "tapped null", "pluck null", "nil null", "tapped null",
      "list [null,null]", "pluck null",
   })
end

function TestOperatorsBasic.test_starmap()
   expect([[
      s:starmap(function(a, b, c) return { c or "no", b, a } end):sink(tell "three")
      s:starmap(function(a, b, x) return a .. b .. x end, "!"):sink(tell "bound")
      feed({ 1, 2 }, { "a", "b" })]], {
      'three ["no",2,1]', "bound 12!", 'three ["no","b","a"]', "bound ab!",
   })
end

function TestOperatorsBasic.test_filter_remove_tap()
   expect([[
      local function big(x, least) return x and x > (least or 2) end
      s:filter(big):sink(tell "big")
      s:filter(big, 3):sink(tell "bigger")
      s:remove(big):sink(tell "small")
      s:tap(function(x) return { x } end):sink(tell "same")
      s:filter():sink(tell "true")
      feed(2, 3, 4, false)]], {
      "small 2", "same 2", "true 2",
      "big 3", "same 3", "true 3",
      "big 4", "bigger 4", "same 4", "true 4",
      "small false", "same false",
   })
end

function TestOperatorsBasic.test_pluck()
   expect([[
      s:pluck("a"):sink(tell "a")
      s:pluck(1):sink(tell "1")
      s:pluck{ "a", "z", 1 }:sink(tell "list")
      s:pluck(function(x) return x.a * 2 end):sink(tell "f")
      feed({ a = 1, "first" })]], {
      "a 1", "1 first", 'list [1,null,"first"]', "f 2",
   })
end

function TestOperatorsBasic.test_flatten()
   expect([[
      s:flatten():sink(tell "flat")
      s:concat():sink(tell "cat")
      feed({ 1, 2 }, {}, { { 3 } })
      s:partition(2):map(function(l) return l end)
      print(fails(function() s:emit(7) end))]], {
      "flat 1", "flat 2", "cat 1", "cat 2", "flat [3]", "cat [3]",
      "script.lua:5: flatten: the value must be a list, not a number",
   })
end

-- Depth first, in the order in which consumers were attached, whatever they are.
function TestOperatorsBasic.test_order()
   expect([[
      local a, b = s:map(function(x) return x end), s:map(function(x) return x end)
      a:sink(tell "a1")
      b:sink(tell "b1")
      a:map(function(x) return x end):sink(tell "a2")
      s:sink(tell "s")
      b:sink(tell "b2")
      a:sink(tell "a3")
      feed(1, 2)]], {
      "a1 1", "a2 1", "a3 1", "b1 1", "b2 1", "s 1",
      "a1 2", "a2 2", "a3 2", "b1 2", "b2 2", "s 2",
   })
end

-- A value that is emitted while another is on its way overtakes it: emission is synchronous.
function TestOperatorsBasic.test_order_of_nested_emissions()
   expect([[
      s:sink(function(x) if x < 3 then s:emit(x + 1) end end)
      s:sink(tell "x")
      feed(1)]], { "x 3", "x 2", "x 1" })
end

-- The same table goes everywhere.
function TestOperatorsBasic.test_values_are_passed_by_reference()
   expect([[
      local seen = s:tap(function(x) x.n = x.n + 1 end):sink_to_list()
      s:sink(function(x) x.n = x.n * 10 end)
      local x = { n = 1 }
      s:emit(x)
      print(rawequal(seen[1], x), x.n)]], { "true\t20" })
end

-- Consumers may come and go while values are on their way.
function TestOperatorsBasic.test_graph_changes()
   expect([[
      local doubled = s:map(function(x) return x * 2 end)
      local ending = doubled:sink(tell "end")
      print(doubled:upstreams()[1] == s, s:downstreams()[1] == doubled, #ending:upstreams())
      feed(1)
      doubled:disconnect(ending)
      feed(2)
      s:connect(ending)
      feed(3)
      ending:destroy()
      feed(4)
      print(#s:downstreams(), #ending:upstreams())
      print(fails(function() s:disconnect(ending) end))]], {
      "true\ttrue\t1", "end 2", "end 3", "1\t0",
      "script.lua:12: disconnect: sink is not connected to stream",
   })
end

-- Streamz's loop: 10 is halved until it is odd.
function TestOperatorsBasic.test_feedback_loop()
   expect([[
      local halves = s:map(function(x) return x // 2 end)
      halves:sink(tell "half")
      halves:filter(function(x) return x % 2 == 0 and x > 0 end):connect(s)
      feed(16)]], { "half 8", "half 4", "half 2", "half 1" })
end

function TestOperatorsBasic.test_register()
   expect([[
      pgcdc.register("twice", function(up, n) return up:map(function(x) return x * n end) end)
      s:twice(2):twice(5):sink(tell "x")
      feed(1)
      print(fails(function() pgcdc.register("twice", print) end))
      print(fails(function() pgcdc.register("map", print) end))]], {
      "x 10",
      "script.lua:4: pgcdc.register: there is an operator 'twice' already",
      "script.lua:5: pgcdc.register: there is an operator 'map' already",
   })
end

-- ---- ends ----

function TestOperatorsBasic.test_sink_to_list()
   expect([[
      local list = s:map(function(x) return x end):sink_to_list()
      print(#list)
      feed(1, 2)
      s:emit(nil)
      print(show(list))]], { "0", "[1,2,null]" })
end

function TestOperatorsBasic.test_sink_with_a_function()
   expect([[
      local ending = s:sink(function(x, a, b) print(x, a, b) end, "more", nil)
      print(ending.kind, #ending:downstreams())
      feed(1)]], { "sink\t0", "1\tmore\tnil" })
end

-- A sink's methods are called as methods; participants.in_sink tells whose failure it is.
function TestOperatorsBasic.test_sink_with_a_sink()
   expect([[
      local keep = require "pgcdc.delivery.participants"
      local sink = { name = "mine" }
      function sink:write(x)
         print("write", x, keep.in_sink == self)
         if x == 2 then error("no", 0) end
      end
      function sink:close() print "close" end
      s:sink(sink)
      feed(1)
      print(keep.in_sink)
      print(fails(function() s:emit(2) end), keep.in_sink == sink)
      keep.leave_sink(nil)]], {
      "write\t1\ttrue", "nil", "write\t2\ttrue", "no\ttrue", "close",
   })
end

-- A sink that is a participant already, as the built-in ones have, is not registered again.
function TestOperatorsBasic.test_sink_that_keeps_itself()
   expect([[
      local keep = require "pgcdc.delivery.participants"
      local sink = { name = "own", write = tell "own" }
      sink.write = function(_, x) print("own " .. x) end
      sink.participant = keep.sink(sink)
      local before = #keep.list
      s:sink(sink)
      s:map(function(x) return x * 2 end):sink(sink)
      print(#keep.list - before)
      feed(1)]], { "0", "own 1", "own 2" })
end

function TestOperatorsBasic.test_sink_to_textfile()
   local path = scope.dir "textfile" .. "/out.txt"
   local script = ([[
      local s = pgcdc.stream {}
      s:sink_to_textfile(%q, { append = true })
      for _, x in ipairs { "one", 2, true } do s:emit(x) end]]):format(path)
   for _ = 1, 2 do
      local result = program.run { script = script, state = false }
      lu.assertEquals(result.status, 0, result.stderr)
   end
   lu.assertEquals(files.text(path), ("one\n2\ntrue\n"):rep(2))
end

return TestOperatorsBasic
