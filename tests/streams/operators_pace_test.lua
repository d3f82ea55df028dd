-- operators_pace_test.lua: delay, rate_limit, buffer and latest, with a clock that the test sets.
-- SPDX-License-Identifier: MIT

local pipeline = require "pipeline"

local TestOperatorsPace = {}

local expect = pipeline.expect

-- Timers, against a list that is sorted: in the order of their time, and of their birth where that
-- is the same, whatever is cancelled. One thousand were slow, ten thousand took seconds to be set,
-- as `partition` sets them for each key.
function TestOperatorsPace.test_timers()
   expect([[
      math.randomseed(7)
      for round = 1, 200 do
         local model, got, want = {}, {}, {}
         for id = 1, math.random(60) do
            local t = { due = now + math.random(8), id = id }
            t.timer = pgcdc.after(t.due - now, function() got[#got + 1] = id end)
            model[#model + 1] = t
            if math.random(3) == 1 then
               local gone = table.remove(model, math.random(#model))
               gone.timer:cancel()
               gone.timer:cancel()
            end
         end
         table.sort(model, function(a, b)
            return a.due < b.due or a.due == b.due and a.id < b.id
         end)
         for i, t in ipairs(model) do want[i] = t.id end
         for _ = 1, 8 do at(now + 1) end
         assert(table.concat(got, " ") == table.concat(want, " "), round)
      end
      local start, n = os.clock(), 0
      for _ = 1, 20000 do pgcdc.after(5, function() n = n + 1 end) end
      at(now + 5)
      print(n, os.clock() - start < 5)]], { "20000\ttrue" })
end

function TestOperatorsPace.test_delay()
   expect([[
      s:delay(10):sink(function(x) print(now, x) end)
      feed("a", "b")
      at(3)
      feed("c")
      at(9.9)
      at(10)
      at(12)
      at(13)
      at(50)
      feed("d")
      at(61)]], { "10\ta", "10\tb", "13\tc", "61\td" })
end

-- 0.1 + (0.3 - 0.1) is not 0.3: a clock that stands just before `due` must not spin.
function TestOperatorsPace.test_delay_and_fractions()
   expect([[
      s:delay(0.1):sink(tell "x")
      for i = 1, 100 do
         at(i * 0.1)
         feed(i)
      end
      at(10.2)]], (function()
      local lines = {}
      for i = 1, 100 do
         lines[i] = "x " .. i
      end
      return lines
   end)())
end

function TestOperatorsPace.test_rate_limit()
   expect([[
      s:rate_limit(10):sink(function(x) print(now, x) end)
      feed("a", "b", "c")
      at(5)
      feed("d")
      for t = 6, 35 do at(t) end
      feed("e")
      for t = 36, 60 do at(t) end
      feed("f", "g")
      at(69)
      at(75)
      feed("h")
      for t = 76, 90 do at(t) end]], {
      "0\ta", "10\tb", "20\tc", "30\td", "40\te", "60\tf", "75\tg", "85\th",
   })
end

-- A double of the two calls that hold sources up, to see when they are made.
local watched = [[
      local stream = require "pgcdc.stream.stream"
      stream.hold_up = function(node, is_held) print(node.kind, is_held and "hold" or "go") end
]]

-- More than 1000 waiting values hold the sources up, until half of them are gone.
function TestOperatorsPace.test_rate_limit_holds_up()
   expect(watched .. [[
      local list = s:rate_limit(1):sink_to_list()
      for i = 1, 1001 do s:emit(i) end
      print(#list, "1000 wait")
      feed(1002)
      feed(1003)
      for t = 1, 501 do at(t) end
      print(#list, 1003 - #list)
      at(502)
      print(#list, 1003 - #list)
      at(503)
      for t = 504, 1100 do at(t) end
      print(#list, list[1003])]], {
      "1\t1000 wait", "rate_limit\thold", "502\t501", "rate_limit\tgo", "503\t500", "1003\t1003",
   })
end

-- Passes on at once while the consumer is ready, then lets n wait, and loses nothing.
function TestOperatorsPace.test_buffer()
   expect(watched .. [[
      s:buffer(2):tap(tell "out"):rate_limit(10):sink(function(x) print(now, x) end)
      feed(1)
      print "ready no more"
      feed(2)
      print "one waits"
      feed(3)
      feed(4) -- from somewhere that cannot be held up
      for t = 1, 40 do at(t) end
      feed(5)]], {
      "out 1", "0\t1", "ready no more", "one waits", "buffer\thold",
      "out 2", "10\t2", "out 3", "20\t3", "buffer\tgo", "out 4", "30\t4", "out 5", "40\t5",
   })
end

-- Nothing holds a buffer up where nothing is slow.
function TestOperatorsPace.test_buffer_without_a_slow_consumer()
   expect(watched .. [[
      s:buffer(1):sink(tell "x")
      s:latest():sink(tell "y")
      feed(1, 2)]], { "x 1", "y 1", "x 2", "y 2" })
end

function TestOperatorsPace.test_latest()
   expect([[
      s:latest():rate_limit(10):sink(function(x) print(now, x) end)
      feed(1, 2, 3)
      at(5)
      feed(4)
      for t = 6, 12 do at(t) end
      feed(5, 6)
      for t = 13, 40 do at(t) end
      feed(7)]], { "0\t1", "10\t4", "20\t6", "40\t7" })
end

-- Readiness is seen through operators in between, and through several of these.
function TestOperatorsPace.test_readiness_travels()
   expect([[
      s:latest():map(function(x) return x end):partition(1):rate_limit(10)
         :sink(function(x) print("a", now, show(x)) end)
      s:latest():latest():buffer(1):map(function(x) return x end):rate_limit(10)
         :sink(function(x) print("b", now, x) end)
      feed(1, 2, 3, 4)
      for t = 1, 40 do at(t) end]], {
      "a\t0\t[1]", "b\t0\t1", "a\t10\t[4]", "b\t10\t2", "b\t20\t4",
   })
end

-- A consumer that is never ready goes away; what waited for it goes to those that are left.
function TestOperatorsPace.test_consumers_change()
   expect([[
      local buffer, latest = s:buffer(10), s:latest()
      local slow, slow_too = buffer:rate_limit(100), latest:rate_limit(100)
      slow:sink(tell "slow")
      slow_too:sink(tell "slow too")
      feed(1, 2, 3)
      slow:destroy()
      slow_too:destroy()
      buffer:sink(tell "buffer")
      latest:sink(tell "latest")
      at(1)
      feed(4)]], {
      "slow 1", "slow too 1", "buffer 2", "buffer 3", "latest 3", "buffer 4", "latest 4",
   })
end

-- A loop is asked whether it is ready, and must not ask itself for ever.
function TestOperatorsPace.test_readiness_of_a_loop()
   expect([[
      local a = s:buffer(3)
      local b = a:map(function(x) return x - 1 end)
      b:sink(tell "b")
      b:filter(function(x) return x > 0 end):connect(a)
      local c = pgcdc.stream {}
      local d = c:map(function(x) return x end)
      d:filter(function() return false end):connect(c)
      s:latest():connect(c)
      d:sink(tell "d")
      feed(2)]], { "b 1", "b 0", "d 2" })
end

return TestOperatorsPace
