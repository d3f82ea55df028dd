-- operators_combine_test.lua: zip, combine_latest, zip_latest, union, route and branch.
-- SPDX-License-Identifier: MIT

local pipeline = require "pipeline"

local TestOperatorsCombine = {}

local expect = pipeline.expect

local two = [[local a, b = pgcdc.stream {}, pgcdc.stream {}
]]

function TestOperatorsCombine.test_zip()
   expect(two .. [[
      s:zip(a, b):sink(tell "zip")
      a:emit("a1")
      a:emit("a2")
      b:emit("b1")
      feed(1, 2, 3)
      b:emit("b2")
      b:emit("b3")
      a:emit(nil)]], { 'zip [1,"a1","b1"]', 'zip [2,"a2","b2"]', 'zip [3,null,"b3"]' })
end

-- The same stream twice is two streams.
function TestOperatorsCombine.test_with_itself()
   expect(two .. [[
      s:zip(s):sink(tell "zip")
      a:combine_latest(a):sink(tell "latest")
      b:union(b):sink(tell "union")
      feed(1, 2)
      a:emit(1)
      a:emit(2)
      b:emit(1)]], {
      "zip [1,1]", "zip [2,2]", "latest [1,1]", "latest [2,1]", "latest [2,2]",
      "union 1", "union 1",
   })
end

function TestOperatorsCombine.test_combine_latest()
   expect(two .. [[
      s:combine_latest(a, b):sink(tell "any")
      s:combine_latest(a, { emit_on = s }):sink(tell "s")
      s:combine_latest(a, b, { emit_on = { a, b } }):sink(tell "a or b")
      feed(1)
      a:emit("a1")
      feed(2)
      b:emit("b1")
      feed(3)
      a:emit("a2")
      b:emit(nil)]], {
      's [2,"a1"]', 'any [2,"a1","b1"]', 'a or b [2,"a1","b1"]',
      'any [3,"a1","b1"]', 's [3,"a1"]',
      'any [3,"a2","b1"]', 'a or b [3,"a2","b1"]',
      'any [3,"a2",null]', 'a or b [3,"a2",null]',
   })
end

function TestOperatorsCombine.test_zip_latest()
   expect(two .. [[
      s:zip_latest(a, b):sink(tell "zip")
      feed(1, 2)
      a:emit("a1")
      a:emit("a2")
      b:emit("b1")
      b:emit("b2")
      feed(3)
      s:emit(nil)]], {
      'zip [1,"a2","b1"]', 'zip [2,"a2","b1"]', 'zip [3,"a2","b2"]', 'zip [null,"a2","b2"]',
   })
end

function TestOperatorsCombine.test_union()
   expect(two .. [[
      local all = s:union(a, b)
      all:sink(tell "all")
      feed(1)
      b:emit(2)
      a:emit(3)
      print(all:upstreams()[1] == s, all:upstreams()[2] == a, #all:upstreams())]], {
      "all 1", "all 2", "all 3", "true\ttrue\t3",
   })
end

-- A stream that is disconnected does not count, until it comes back.
function TestOperatorsCombine.test_disconnect()
   expect(two .. [[
      local zip, latest, first = s:zip(a, b), s:combine_latest(a), s:zip_latest(a)
      zip:sink(tell "zip")
      latest:sink(tell "latest")
      first:sink(tell "first")
      a:emit("a1")
      for _, x in ipairs { zip, latest, first } do a:disconnect(x) end
      b:disconnect(zip)
      print "s alone"
      feed(1)
      for _, x in ipairs { zip, latest, first } do a:connect(x) end
      feed(2)
      a:emit("a2")
      local c = pgcdc.stream {}
      c:connect(zip)
      feed(3)
      a:emit("a3")
      c:emit("c1")]], {
      "s alone", "zip [1]", "latest [1]", "first [1]",
      'zip [2,"a2"]', 'latest [2,"a2"]', 'first [2,"a2"]',
      'latest [3,"a2"]', 'first [3,"a2"]', 'latest [3,"a3"]', 'zip [3,"a3","c1"]',
   })
end

function TestOperatorsCombine.test_zip_in_a_loop()
   expect(two .. [[
      local zip = s:zip(a)
      zip:sink(tell "zip")
      zip:map(function(l) return l[1] + l[2] end):filter(function(x) return x < 10 end):connect(a)
      a:emit(1)
      feed(1, 2, 3, 4)]], { "zip [1,1]", "zip [2,2]", "zip [3,4]", "zip [4,7]" })
end

-- ---- route ----

function TestOperatorsCombine.test_route()
   expect([[
      local a, all = pgcdc.stream {}, { write = function(_, x) print("sink " .. show(x)) end }
      a:sink(tell "a")
      s:route("to", { a = a, b = tell "b", all = all, [1] = tell "one", [true] = tell "yes" },
         { default = tell "default" }):pluck("to"):sink(tell "routed")
      for _, to in ipairs { "a", "b", "all", 1, true, "c", { "b", "a", "nowhere" }, {} } do
         s:emit { to = to }
      end
      s:emit {}]], {
      'a {"to":"a"}', "routed a",
      'b {"to":"b"}', "routed b",
      'sink {"to":"all"}', "routed all",
      'one {"to":1}', "routed 1",
      'yes {"to":true}', "routed true",
      'default {"to":"c"}', "routed c",
      'b {"to":["b","a","nowhere"]}', 'a {"to":["b","a","nowhere"]}',
      'default {"to":["b","a","nowhere"]}', 'routed ["b","a","nowhere"]',
      "routed {}",
      "default {}", "routed null",
   })
end

-- Without a default an unknown name is an error, before any target of a list has got the value.
function TestOperatorsCombine.test_route_to_nowhere()
   expect([[
      s:route(function(x) return x end, { a = tell "a" })
      feed("a")
      for _, x in ipairs { "b", 7, true } do
         print(fails(function() s:emit(x) end))
      end
      print(fails(function() s:emit { "a", "b" } end))
      print(fails(function() s:emit(nil) end))]], {
      "a a",
      'script.lua:4: route: there is no target for "b", and no default',
      "script.lua:4: route: there is no target for 7, and no default",
      "script.lua:4: route: there is no target for true, and no default",
      'script.lua:6: route: there is no target for "b", and no default',
      "script.lua:7: route: there is no target for nil, and no default",
   })
end

-- One stream under two names, also as the default; and one that is taken away.
function TestOperatorsCombine.test_route_to_the_same_stream()
   expect([[
      local a, b = pgcdc.stream {}, pgcdc.stream {}
      a:sink(tell "a")
      b:sink(tell "b")
      local route = s:route(function(x) return x end, { x = a, y = a, b = b }, { default = a })
      feed("x", "y", "z", "b")
      print(#route:downstreams())
      route:disconnect(b)
      feed("b")
      route:disconnect(a)
      print(fails(function() s:emit("x") end))
      route:connect(b)
      feed("b")]], {
      "a x", "a y", "a z", "b b", "2", "a b",
      'script.lua:10: route: there is no target for "x", and no default',
      "b b",
   })
end

function TestOperatorsCombine.test_branch()
   expect([[
      local even, odd = s:branch(function(x) return x % 2 == 0 and "yes" end)
      even:sink(tell "even")
      odd:sink(tell "odd")
      even:sink(tell "even too")
      feed(1, 2)]], { "odd 1", "even 2", "even too 2" })
end

return TestOperatorsCombine
