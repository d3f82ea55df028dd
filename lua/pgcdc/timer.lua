-- pgcdc.timer: pgcdc.every and pgcdc.after. The host asks when it should call again.
-- SPDX-License-Identifier: MIT

local check = require "pgcdc.check"

local timer = {}

local LEAST = 0.001

local timers = {} -- sorted by `due`, the earliest last
local now

--- `clock`: a function that returns seconds, never going back.
function timer.start(clock)
   now = clock
   timers = {}
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
   self.is_cancelled = true
   for i, t in ipairs(timers) do
      if t == self then
         table.remove(timers, i)
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

--- Runs what is due. Returns the seconds until the next timer, nil if there is none.
function timer.run()
   local moment = now()
   while #timers > 0 and timers[#timers].due <= moment do
      local t = table.remove(timers)
      if t.period then
         t.due = math.max(t.due + t.period, moment + LEAST)
         insert(t)
      end
      t.f()
   end
   if #timers > 0 then
      return math.max(timers[#timers].due - now(), 0)
   end
end

return timer
