-- operators_hold_test.lua: what operators hold keeps its batch unsaved, exactly as long as it is
-- held, and an emission that fails leaves an operator as it was.
-- SPDX-License-Identifier: MIT

local pipeline = require "pipeline"

local TestOperatorsHold = {}

local expect = pipeline.expect

-- Emits 1 in batch 1, 2 in batch 2 and so on, and prints which is the oldest that is held after
-- each of them; `held(n, f)`: the same with a value made by f.
local held = [[
      local function held(n, make)
         local seen = {}
         for i = 1, n do
            batch(i)
            s:emit(make and make(i) or i)
            batch()
            seen[i] = oldest()
         end
         print(table.concat(seen, " "))
      end
]]

-- What passes a value on at once holds nothing.
function TestOperatorsHold.test_nothing()
   expect(held .. [[
      local other = pgcdc.stream {}
      s:map(function(x) return { x } end):flatten():filter():tap(print):remove(function() end)
      s:accumulate(function(a, b) return a + b end):sink_to_list()
      s:frequencies():slice(1):unique()
      s:reduce_by(function(x) return x end, function(a) return a end)
      s:union(other):buffer(5):latest():sink_to_list()
      s:branch(function() return true end)
      s:route(function(x) return x end, {}, { default = other })
      s:partition(1):partition_unique(1):sliding_window(1, { return_partial = false })
      held(3)]], { "1", "2", "3", "nothing nothing nothing" })
end

function TestOperatorsHold.test_partition()
   expect(held .. [[
      s:partition(3):sink(function() print("oldest", oldest()) end)
      held(7)]], { "oldest\t1", "oldest\t4", "1 1 nothing 4 4 nothing 7" })
end

-- Each list holds its own batches: that of a rare key also those after it.
function TestOperatorsHold.test_partition_by_key()
   expect(held .. [[
      s:partition(2, { key = function(x) return x == 1 or x == 6 end })
      held(7)]], { "1 1 1 1 1 nothing 7" })
end

function TestOperatorsHold.test_partition_with_a_timeout()
   expect(held .. [[
      s:partition(3, { timeout = 10 })
      held(2)
      at(10)
      print(oldest())]], { "1 1", "nothing" })
end

-- A value that is dropped or replaced is held no longer.
function TestOperatorsHold.test_distinct()
   expect(held .. [[
      local first = s:partition_unique(2, { key = function(x) return x == 5 end })
      held(5)
      first:destroy()
      local last = s:partition_unique(2, { key = function(x) return x == 5 end, keep = "last" })
      held(5)
      last:destroy()
      last = s:timed_window_unique(1, { key = function(x) return x == 3 end, keep = "last" })
      held(4)
      at(1)
      print(oldest())]], { "1 1 1 1 nothing", "1 2 3 4 nothing", "1 2 2 3", "nothing" })
end

function TestOperatorsHold.test_windows()
   expect(held .. [[
      local all = s:sliding_window(3)
      held(4)
      all:destroy()
      all = s:sliding_window(2, { return_partial = false })
      held(3)
      all:destroy()
      s:timed_window(1):sink(function() print("oldest", oldest()) end)
      held(3)
      at(1)
      print(oldest())]], { "1 1 2 3", "1 2 3", "1 1 1", "oldest\t1", "nothing" })
end

function TestOperatorsHold.test_collect()
   expect(held .. [[
      local all = s:collect()
      held(3)
      all:sink(function() print("oldest", oldest()) end)
      all:flush()
      print(oldest())]], { "1 1 1", "oldest\t1", "nothing" })
end

function TestOperatorsHold.test_delay_and_rate_limit()
   expect(held .. [[
      local slow = s:delay(10)
      for i = 1, 3 do
         at(i)
         batch(i)
         s:emit(i)
         batch()
      end
      for t = 10, 13 do
         at(t)
         print(t, oldest())
      end
      slow:destroy()
      s:rate_limit(10)
      held(3)
      at(23)
      print(oldest())
      at(33)
      print(oldest())]], {
      "10\t1", "11\t2", "12\t3", "13\tnothing", "nothing 2 2", "3", "nothing",
   })
end

function TestOperatorsHold.test_buffer_and_latest()
   expect(held .. [[
      local buffer = s:buffer(2)
      buffer:rate_limit(10)
      held(4)
      at(10)
      print(oldest())
      buffer:destroy()
      print(oldest())
      at(100)
      s:latest():rate_limit(10)
      held(4)
      at(110)
      print(oldest())]], { "nothing 2 2 2", "3", "nothing", "nothing 2 3 4", "nothing" })
end

function TestOperatorsHold.test_zip()
   expect([[
      local a = pgcdc.stream {}
      s:zip(a)
      batch(1) feed(1, 1)
      batch(2) feed(2)
      print(oldest())
      batch(3) a:emit(1)
      print(oldest())
      batch(4) a:emit(1)
      print(oldest())
      batch(5) a:emit(2) a:emit(3)
      print(oldest())
      batch(6) feed(3)
      print(oldest())]], { "1", "1", "2", "5", "nothing" })
end

-- A latest value is held until it was part of a list once.
function TestOperatorsHold.test_combine_latest()
   expect([[
      local a = pgcdc.stream {}
      s:combine_latest(a, { emit_on = s })
      batch(1) a:emit(1)
      print(oldest())
      batch(2) a:emit(2)
      print(oldest())
      batch(3) feed(1)
      print(oldest())
      batch(4) feed(2)
      print(oldest())
      batch(5) a:emit(3)
      print(oldest())
      s:downstreams()[1]:destroy()
      print(oldest())]], { "1", "2", "nothing", "nothing", "5", "nothing" })
end

-- Only values of the first stream are held: a latest value is owed to nobody.
function TestOperatorsHold.test_zip_latest()
   expect([[
      local a, b = pgcdc.stream {}, pgcdc.stream {}
      local zip = s:zip_latest(a, b)
      batch(1) a:emit(1)
      print(oldest())
      batch(2) feed(1)
      batch(3) feed(2)
      print(oldest())
      batch(4) b:emit(1)
      print(oldest())
      a:disconnect(zip)
      batch(5) feed(1)
      a:connect(zip)
      batch(6) feed(1)
      print(oldest())
      s:disconnect(zip)
      print(oldest())]], { "nothing", "2", "nothing", "6", "nothing" })
end

function TestOperatorsHold.test_reduce_by_every()
   expect(held .. [[
      local by = s:reduce_by(function(x) return x % 2 end, function(a) return a end,
         { every = 10 })
      by:sink(function(x) print(x.key, oldest()) end)
      held(3)
      at(10)
      print(oldest())
      held(1)
      by:destroy()
      print(oldest())]], { "1 1 1", "1\t1", "0\t1", "nothing", "1", "nothing" })
end

-- What is made of held values stems from all of them: a second operator holds the oldest.
function TestOperatorsHold.test_origins_are_handed_on()
   expect(held .. [[
      local last = s:partition(2):collect()
      held(3)
      s:downstreams()[1]:destroy()
      print(oldest())
      last:flush()
      print(oldest())]], { "1 1 1", "1", "nothing" })
end

-- destroy lets go of what is held, and its timers never fire.
function TestOperatorsHold.test_destroy()
   expect([[
      local a = pgcdc.stream {}
      local all = {
         s:partition(3, { timeout = 5 }), s:partition_unique(3), s:sliding_window(3),
         s:timed_window(5), s:timed_window_unique(5), s:delay(5), s:rate_limit(5), s:collect(),
         s:zip(a), s:combine_latest(a), s:zip_latest(a),
         s:reduce_by(function(x) return x end, function(x) return x end, { every = 5 }),
      }
      for _, op in ipairs(all) do op:sink(function() print("never", op.kind) end) end
      all[3]:disconnect(all[3]:downstreams()[1])
      all[7]:disconnect(all[7]:downstreams()[1])
      batch(1) feed(1) feed(2)
      batch()
      print(oldest())
      for _, op in ipairs(all) do
         if oldest() ~= 1 then print("nothing is held before", op.kind) end
         op:destroy()
      end
      print(oldest())
      at(100)]], { "1", "nothing" })
end

-- ---- failures ----

-- Runs each pipeline twice: one that is disturbed, whose every emission fails once and is tried
-- again with the same value, and one that is not. They must come to the same, in values and in
-- what they hold.
local twice = [[
      local fails_now = false
      raw.pause, raw.log = function() end, function() end
      raw.source_name = function() return "s" end
      local function source() -- retries
         local up = pgcdc.stream {}
         up.number, up.policy = 1, { tries = 1000, wait = 1, factor = 1, otherwise = "stop" }
         return up
      end
      local function run(build, disturbs, steps)
         now = 0
         timer.start(function() return now end)
         hold.leave()
         local up, out, failures = source(), {}, 0
         local result = build(up)
         result:tap(function()
            if fails_now then
               fails_now, failures = false, failures + 1
               error("broken", 0)
            end
         end):sink(function(x) out[#out + 1] = show(x) end)
         for i = 1, steps do
            now = i
            if disturbs then
               fails_now = true
               timer.run()
               fails_now = false
               now = i + 0.5
               timer.run()
               now = i + 1 -- that of the second try
            end
            timer.run()
            batch(i)
            fails_now = disturbs
            local ok = pcall(up.emit, up, i)
            fails_now = false
            batch(i)
            if not ok then up:emit(i) end
            batch()
            out[#out + 1] = "held: " .. oldest()
            now = i
         end
         if rawget(result, "flush") then
            fails_now = disturbs
            local ok = pcall(result.flush, result)
            fails_now = false
            batch()
            if not ok then result:flush() end
         end
         result:destroy()
         out[#out + 1] = "held: " .. oldest()
         return table.concat(out, "\n"), failures
      end
      local function check_twice(name, build, least)
         local plain = run(build, false, 12)
         local disturbed, failures = run(build, true, 12)
         if failures < least then print(name .. ": only " .. failures .. " failures") end
         if plain ~= disturbed then print(name .. ":\n" .. plain .. "\n---\n" .. disturbed) end
      end
]]

function TestOperatorsHold.test_retries()
   expect(twice .. [[
      local function add(a, b) return a + b end
      local function third(x) return x % 3 end
      check_twice("map", function(up) return up:map(function(x) return x end) end, 12)
      check_twice("accumulate", function(up) return up:accumulate(add) end, 12)
      check_twice("with_state", function(up)
         return up:accumulate(add, { start = 5, with_state = true })
      end, 12)
      check_twice("frequencies", function(up)
         return up:map(third):map(tostring):frequencies()
      end, 12)
      check_twice("slice", function(up) return up:slice(1, 10, 2) end, 5)
      check_twice("unique", function(up) return up:map(third):unique{ maxsize = 2 } end, 12)
      check_twice("unique", function(up) return up:map(third):unique() end, 3)
      check_twice("partition", function(up) return up:partition(3) end, 4)
      check_twice("partition by key", function(up) return up:partition(2, { key = third }) end, 6)
      check_twice("partition_unique", function(up)
         return up:partition_unique(2, { key = function(x) return x % 3 > 0 end })
      end, 4)
      check_twice("partition_unique", function(up)
         return up:partition_unique(2, { key = function(x) return x % 3 > 0 end, keep = "last" })
      end, 4)
      check_twice("sliding_window", function(up) return up:sliding_window(3) end, 12)
      check_twice("sliding_window", function(up)
         return up:sliding_window(3, { return_partial = false })
      end, 10)
      check_twice("collect", function(up) return up:collect() end, 1)
      check_twice("reduce_by", function(up) return up:reduce_by(third, add) end, 12)
      check_twice("zip", function(up)
         local even, odd = up:branch(function(x) return x % 2 == 0 end)
         return even:zip(odd)
      end, 6)
      check_twice("zip", function(up)
         return up:filter(function(x) return x > 4 end):zip(up)
      end, 8)
      check_twice("combine_latest", function(up)
         local even, odd = up:branch(function(x) return x % 2 == 0 end)
         return even:combine_latest(odd)
      end, 11)
      check_twice("combine_latest", function(up)
         local even, odd = up:branch(function(x) return x % 3 == 0 end)
         return even:combine_latest(odd, { emit_on = even })
      end, 4)
      check_twice("zip_latest", function(up)
         local even, odd = up:branch(function(x) return x % 3 == 0 end)
         return odd:zip_latest(even)
      end, 7)
      check_twice("route", function(up)
         local a, b = pgcdc.stream {}, pgcdc.stream {}
         up:route(function(x) return x % 2 end, { [0] = a, [1] = b })
         return a:union(b)
      end, 12)]], { "" })
end

-- In a timer a failure is tried again later, one second here.
function TestOperatorsHold.test_retries_of_timers()
   expect([[
      raw.pause, raw.log = function() end, function() end
      raw.source_name = function() return "s" end
      local up = pgcdc.stream {}
      up.number, up.policy = 1, { tries = 1000, wait = 1, factor = 1, otherwise = "stop" }
      for _, op in ipairs { up:partition(3, { timeout = 10 }), up:timed_window(10),
                            up:timed_window_unique(10), up:delay(10),
                            up:filter(function(x) return x > 1 end):rate_limit(10),
                            up:latest():rate_limit(10), up:buffer(3):rate_limit(10),
                            up:reduce_by(function(x) return x end, function(x) return x end,
                               { every = 10 }) } do
         op:fragile():sink(function(x) print(now, op.kind, show(x)) end)
      end
      up:emit(0)
      batch(1) up:emit(1) batch()
      broken = true
      at(10)
      print(oldest())
      at(11)
      batch(2)
      print(pcall(up.emit, up, 5))
      broken = false
      batch(2) up:emit(2) batch()
      print "mended"
      at(12)
      print(oldest())
      for t = 13, 40 do at(t) end
      print(oldest())]], {
      "0\trate_limit\t0", "0\trate_limit\t0",
      "1", "false\tbroken",
      "11\tpartition\t[0,1,2]", -- filled while it waited for another try
      "11\trate_limit\t2", "11\trate_limit\t2", -- in the second one instead of 1
      "mended",
      "12\ttimed_window\t[0,1,2]", "12\ttimed_window_unique\t[0,1,2]",
      "12\tdelay\t0", "12\tdelay\t1",
      "12\trate_limit\t1",
      '12\treduce_by\t{"key":0,"state":0}', '12\treduce_by\t{"key":1,"state":1}',
      '12\treduce_by\t{"key":2,"state":2}',
      "2", "21\tdelay\t2", "22\trate_limit\t2", "nothing",
   })
end

return TestOperatorsHold
