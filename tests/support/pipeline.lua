-- pipeline.lua: runs a script of streams without a database, with a clock that the script sets.
-- SPDX-License-Identifier: MIT
--
-- What such a script finds:
--    s                a stream made by hand
--    tell(name)       a function that prints "name value", values as JSON
--    show(value)      the text that `tell` prints
--    feed(...)        emits these values into s
--    at(t)            sets the clock (it starts at 0) and runs the timers that are due
--    batch(n)         what is emitted now comes from batch n of source 1; none: from nowhere
--    oldest()         the oldest batch of source 1 that is held, or "nothing"
--    fails(f)         calls f, which must fail; returns the message
--    broken           set it to true and `s:fragile()` raises "broken" after its consumers
-- The lines of the script keep their numbers.

local lu = require "luaunit"
local program = require "program"

local pipeline = {}

local prelude = [[
local hold, timer = require "pgcdc.delivery.lineage", require "pgcdc.timer"
local raw, now = require "pgcdc.raw", 0
timer.start(function() return now end)
local function at(t) now = t; timer.run() end
local s, broken = pgcdc.stream { name = "s" }, false
local function show(v) return type(v) == "string" and v or pgcdc.json.encode(v) end
local function tell(name) return function(v) print(name .. " " .. show(v)) end end
local function feed(...) for _, v in ipairs { ... } do s:emit(v) end end
local function batch(n) if n then hold.enter(1, n) else hold.leave() end end
local function oldest() local b = hold.oldest_held(1); return b and b.number or "nothing" end
local function fails(f)
   local current = hold.current
   local ok, why = pcall(f)
   hold.resume(current)
   assert(not ok, "this should have failed")
   return (tostring(why):gsub("^.-([^/]*%.lua:%d+:)", "%1"))
end
pgcdc.register("fragile", function(up)
   return up:tap(function() if broken then error("broken", 0) end end)
end)
local _ = at, s, broken, show, tell, feed, batch, oldest, fails
]]
prelude = prelude:gsub("\n", " ")

-- The fake clock stands still, so that timers that are left would never be due.
local finish = [[

require("pgcdc.timer").start(require("pgcdc.raw").now)
]]

--- Runs the script, which must end well. Returns the lines that it prints.
function pipeline.run(script, ...)
   local result = program.run { script = prelude .. script .. finish, state = false,
                                options = { ... } }
   lu.assertEquals(result.status, 0, result.stderr)
   return result.lines
end

--- Runs the script and compares the lines that it prints.
function pipeline.expect(script, expected)
   lu.assertEquals(table.concat(pipeline.run(script), "\n"), table.concat(expected, "\n"))
end

return pipeline
