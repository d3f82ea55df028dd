-- pgcdc.timer: pgcdc.every and pgcdc.after. The host asks when it should call again.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local seal = require "pgcdc.seal"
local strict = require "pgcdc.strict"

local timer = {}

local LEAST = 0.001

-- A heap: the timer that is due first is on top; of two that are due together, the one that was set
-- first. `at` is the place of a timer in it, nil where it is not waiting.
local heap, count = {}, 0
local serial = 0
local windows = 0 -- how many of those that wait belong to operators that hold values
local now

--- `clock`: a function that returns seconds and never goes back.
function timer.start(clock)
   now = clock
   heap, count, windows = {}, 0, 0
end

--- The seconds of that clock.
function timer.now()
   return now()
end

local function is_before(a, b)
   return a.due < b.due or a.due == b.due and a.serial < b.serial
end

-- Puts `t` at the free place i, or nearer to the top.
local function move_up(t, i)
   while i > 1 and is_before(t, heap[i // 2]) do
      heap[i] = heap[i // 2]
      heap[i].at = i
      i = i // 2
   end
   heap[i], t.at = t, i
end

-- Puts `t` at the free place i, or further down.
local function move_down(t, i)
   while 2 * i <= count do
      local child = 2 * i
      if child < count and is_before(heap[child + 1], heap[child]) then
         child = child + 1
      end
      if not is_before(heap[child], t) then
         break
      end
      heap[i] = heap[child]
      heap[i].at = i
      i = child
   end
   heap[i], t.at = t, i
end

local function insert(t)
   serial = serial + 1
   t.serial = serial
   count = count + 1
   move_up(t, count)
end

local function remove(t)
   local i, last = t.at, heap[count]
   heap[count], t.at = nil, nil
   count = count - 1
   if last ~= t then
      move_up(last, i)
      move_down(last, last.at)
   end
end

local Timer = strict.class("method of a timer", {})
Timer.__index = Timer
Timer.__name = "pgcdc.timer"
seal.kind(Timer, Timer.__name, { cancel = true }, nil, "method of a timer")

--- The function will not be called again. Does nothing if the timer does not wait any more.
function Timer:cancel()
   if self.at then
      remove(self)
      windows = windows - (self.is_window and 1 or 0)
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
--- a method `cancel`. Calls that were missed are not made later.
function timer.every(seconds, f)
   return add("pgcdc.every", seconds, f, seconds)
end

--- Calls `f` once, after so many seconds. Returns the timer.
function timer.after(seconds, f)
   return add("pgcdc.after", seconds, f, nil)
end

--- A window is the timer of an operator that holds values: `--once` waits for it. Calls `f` once,
--- after so many seconds (0: when timers run the next time). Returns the timer.
function timer.window(seconds, f)
   local t = setmetatable({ due = now() + seconds, f = f, is_window = true }, Timer)
   insert(t)
   windows = windows + 1
   return t
end

--- Runs what is due. Returns the seconds until the next timer and whether windows wait; nil and
--- false if no timer waits. An error of a function is raised; its timer has been removed by then,
--- or is due again after its period.
function timer.run()
   local moment = now()
   while count > 0 and heap[1].due <= moment do
      local t = heap[1]
      remove(t)
      if t.period then
         t.due = math.max(t.due + t.period, moment + LEAST)
         insert(t)
      end
      windows = windows - (t.is_window and 1 or 0)
      raw.start_clock()
      t.f()
   end
   if count > 0 then
      return math.max(heap[1].due - now(), 0), windows > 0
   end
   return nil, false
end

return timer
