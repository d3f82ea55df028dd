-- stages.lua: what five stages cost, as a ratio to the same five as plain nested Lua calls.
-- SPDX-License-Identifier: MIT
--
--    pgcdc-lua tests/bench/stages.lua [values=1000000] [rounds=9]
--
-- A script for the program. Prints one line of JSON: the best time of each over some rounds, in
-- seconds, and their ratio.

-- luacheck: read globals pgcdc

local options = pgcdc.options { values = 1000000, rounds = 9 }
local values = math.tointeger(options.values)

local function is_wanted(x) -- most are, so that all stages have to do
   return x % 100 ~= 0
end

local function add_one(x)
   return x + 1
end

local function triple(x)
   return x * 3
end

local function is_small(x)
   return x < 1e9
end

local sum

local function add(x)
   sum = sum + x
end

local stream = pgcdc.stream {}
stream:filter(is_wanted):map(add_one):map(triple):filter(is_small):sink(add)

local function with_stages()
   for x = 1, values do
      stream:emit(x)
   end
end

local function nested(x)
   if is_wanted(x) then
      local y = triple(add_one(x))
      if is_small(y) then
         add(y)
      end
   end
end

local function with_calls()
   for x = 1, values do
      nested(x)
   end
end

local function timed(run, best)
   sum = 0
   local start = os.clock()
   run()
   return math.min(best, os.clock() - start), sum
end

local calls, stages = math.huge, math.huge
for _ = 1, options.rounds do -- in turn, so that a noisy moment hits both
   local expected, got
   calls, expected = timed(with_calls, calls)
   stages, got = timed(with_stages, stages)
   assert(got == expected, "the stages must come to the same result")
end
print(pgcdc.json.encode { values = values, stages = stages, calls = calls,
                          ratio = stages / calls })
