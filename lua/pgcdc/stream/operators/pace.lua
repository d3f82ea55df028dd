-- pgcdc.stream.operators.pace: values later, slower, or fewer of them.
-- SPDX-License-Identifier: MIT
--
-- delay rate_limit buffer latest
--
-- A stream is *ready* if a value that is given to it would be passed on at once. rate_limit makes
-- streams not ready; buffer and latest ask whether what follows them is.

local stream = require "pgcdc.stream.stream"
local check = require "pgcdc.check"
local held = require "pgcdc.stream.held"
local timer = require "pgcdc.timer"
local undo = require "pgcdc.stream.undo"

local LEAST = 0.001
local A_LITTLE = 1e-6 -- seconds, since due + (x - due) need not be exactly x

-- Pauses the sources of a node, or lets them go on. Calling it again with the same value does
-- nothing.
local function set_held_up(node, is_held)
   if is_held ~= (node.is_holding_up or false) then
      node.is_holding_up = is_held
      stream.hold_up(node, is_held)
   end
end

-- True if all that follows the node is ready.
local is_clear = stream.class.is_ready

--- delay(seconds): each value so many seconds later.
stream.operator("delay", function(node, _, seconds)
   node.about = check.seconds("delay: the time", seconds, LEAST)
   local queue = held.queue(node)
   local clock, tick

   local function arm()
      local oldest = queue[queue.first]
      clock = oldest and stream.after(node, math.max(oldest.due - timer.now(), 0), tick)
   end
   function tick()
      local moment = timer.now() + A_LITTLE
      while queue:count() > 0 and queue[queue.first].due <= moment do
         queue:pass(node.out)
      end
      arm()
   end
   node.input = function(x)
      queue:push(x).due = timer.now() + seconds
      if not clock then
         arm()
      end
   end
   function node.forget()
      if clock then
         clock:cancel()
      end
      queue:clear()
   end
end)

local MOST_WAITING = 1000

--- rate_limit(seconds): values at least so many seconds apart. What comes too early waits; when
--- more than 1000 values wait, the sources are paused until half of them were passed on.
stream.operator("rate_limit", function(node, _, seconds)
   node.about = check.seconds("rate_limit: the time", seconds, LEAST)
   local queue = held.queue(node)
   local due = -math.huge  -- when the next value may be passed on
   local clock, tick
   local is_asked = false  -- an upstream waits until this stream is ready

   local function is_open()
      return queue:count() == 0 and timer.now() >= due - A_LITTLE
   end
   local function arm()
      clock = clock or stream.after(node, math.max(due - timer.now(), 0), tick)
   end
   local function back(before)
      due = before
   end
   local function pass_next(x) -- the oldest that waits, or x
      local attempt <close> = undo(back, due)
      due = timer.now() + seconds
      if queue:count() > 0 then
         queue:pass(node.out)
      else
         node.out(x)
      end
      attempt.is_done = true
   end
   local function rewind(before)
      if clock then
         clock:cancel()
      end
      clock = before
   end
   function tick()
      local attempt <close> = undo(rewind, clock)
      clock = nil
      if queue:count() > 0 then
         pass_next()
      end
      if queue:count() <= MOST_WAITING // 2 then
         set_held_up(node, false)
      end
      if is_open() then
         is_asked = false
         stream.ready(node)
      end
      attempt.is_done = true
      if queue:count() > 0 or is_asked then
         arm()
      end
   end

   node.input = function(x)
      if is_open() then
         pass_next(x)
         return
      end
      queue:push(x)
      arm()
      if queue:count() > MOST_WAITING then
         set_held_up(node, true)
      end
   end
   function node.is_ready()
      if is_open() then
         return is_clear(node)
      end
      is_asked = true
      arm()
      return false
   end
   function node.forget()
      rewind(nil)
      queue:clear()
      set_held_up(node, false)
   end
end)

-- Passes on what waits in the queue as long as what follows is ready.
local function drain(node, queue)
   while queue:count() > 0 and is_clear(node) do
      queue:pass(node.out)
   end
end

-- When consumers come or go, what follows may be ready without telling so.
local function drain_when_rewired(node, queue)
   local clock
   function node:rewire()
      stream.class.rewire(self)
      if queue:count() > 0 and not clock then
         clock = stream.after(node, 0, function()
            node:on_ready()
            clock = nil
         end)
      end
   end
end

--- buffer(n): passes values on at once while what follows is ready, else lets up to n of them
--- wait. When n wait, the sources are paused until there is room.
stream.operator("buffer", function(node, _, n)
   node.about = check.count("buffer: n", n, 1)
   local queue = held.queue(node)
   node.input = function(x)
      if queue:count() == 0 and is_clear(node) then
         node.out(x)
         return
      end
      queue:push(x)
      if queue:count() >= n then
         set_held_up(node, true)
      end
   end
   function node.on_ready()
      drain(node, queue)
      if node.is_holding_up and queue:count() < n then
         set_held_up(node, false)
         stream.ready(node)
      end
   end
   function node.is_ready() -- it takes a value and pauses nobody
      return queue:count() < n
   end
   function node.forget()
      queue:clear()
      set_held_up(node, false)
   end
   drain_when_rewired(node, queue)
end)

--- latest(): passes values on at once while what follows is ready, else keeps the newest one only
--- and drops the older ones.
stream.operator("latest", function(node)
   local queue = held.queue(node) -- of one
   node.input = function(x)
      if queue:count() == 0 and is_clear(node) then
         node.out(x)
         return
      end
      queue:push(x)
      if queue:count() > 1 then
         held.release(queue:pop())
      end
      drain(node, queue)
   end
   function node.on_ready()
      drain(node, queue)
   end
   function node.is_ready() -- it never pauses anybody
      return true
   end
   function node.forget()
      queue:clear()
   end
   drain_when_rewired(node, queue)
end)
