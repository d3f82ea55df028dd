-- pgcdc.timer: pgcdc.every and pgcdc.after. The host asks when it should call again.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

local timer = {}

local LEAST = 0.001

local timers = {} -- sorted by `due`, the earliest last
local windows = 0 -- how many of them belong to operators that hold values
local now

--- `clock`: a function that returns seconds, never going back.
function timer.start(clock)
   now = clock
   timers, windows = {}, 0
end

--- The seconds of that clock.
function timer.now()
   return now()
end

local function insert(t)
   local i = #timers
   while i > 0 and timers[i].due <= t.due do
      i = i - 1
   end
   table.insert(timers, i + 1, t)
end

local Timer = {}
Timer.__index = Timer
Timer.__name = "pgcdc.timer"

--- It will not be called again.
function Timer:cancel()
   for i, t in ipairs(timers) do
      if t == self then
         table.remove(timers, i)
         windows = windows - (t.is_window and 1 or 0)
         break
      end
   end
end

local function add(what, seconds, f, period)
   check.seconds(what .. ": the time", seconds, LEAST)
   check.type(what .. ": the function", f, "function")
   local t = setmetatable({ due = now() + seconds, f = f, period = period }, Timer)
   insert(t)
   return t
end

--- Calls `f` every so many seconds, the first time after so many. Returns the timer, which has
--- a method `cancel`. Calls that were missed are not made up for.
function timer.every(seconds, f)
   return add("pgcdc.every", seconds, f, seconds)
end

--- Calls `f` once, after so many seconds. Returns the timer.
function timer.after(seconds, f)
   return add("pgcdc.after", seconds, f, nil)
end

--- A window is the timer of an operator that holds values: `--once` waits for it. Calls `f`
--- once, after so many seconds (0: at the next turn). Returns the timer.
function timer.window(seconds, f)
   local t = setmetatable({ due = now() + seconds, f = f, is_window = true }, Timer)
   insert(t)
   windows = windows + 1
   return t
end

--- Runs what is due. Returns the seconds until the next timer, nil if there is none, and whether
--- there are windows.
function timer.run()
   local moment = now()
   while #timers > 0 and timers[#timers].due <= moment do
      local t = table.remove(timers)
      if t.period then
         t.due = math.max(t.due + t.period, moment + LEAST)
         insert(t)
      end
      windows = windows - (t.is_window and 1 or 0)
      raw.clock_anew()
      t.f()
   end
   if #timers > 0 then
      return math.max(timers[#timers].due - now(), 0), windows > 0
   end
   return nil, false
end

return timer
