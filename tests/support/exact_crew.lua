-- exact_crew.lua: many database sessions at once, driven by one Lua thread.
-- SPDX-License-Identifier: MIT
--
-- A member of the crew is a function that talks to the server through its session and reads
-- like straight-line code; it runs as a coroutine, gives way while it waits for an answer or for
-- a moment, and has random numbers of its own, so that what it decides depends on the seed alone.

local native = require "native"
local wait = require "wait"

local crew = {}

-- Random numbers: splitmix64.
local random = {}
random.__index = random

function crew.random(seed)
   return setmetatable({ state = seed }, random)
end

local function next_bits(self)
   self.state = self.state + 0x9E3779B97F4A7C15
   local z = self.state
   z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
   z = (z ~ (z >> 27)) * 0x94D049BB133111EB
   return z ~ (z >> 31)
end

-- An integer from <low> to <high>.
function random:int(low, high)
   return low + (next_bits(self) >> 1) % (high - low + 1)
end

-- A number >= <low> and < <high>.
function random:float(low, high)
   return low + (high - low) * ((next_bits(self) >> 11) * 2.0 ^ -53)
end

-- True in <percent> of 100 cases.
function random:chance(percent)
   return self:float(0, 100) < percent
end

-- One of the list {weight, value, weight, value, ...}.
function random:pick(list)
   local sum = 0
   for i = 1, #list, 2 do
      sum = sum + list[i]
   end
   local at = self:int(1, sum)
   for i = 1, #list, 2 do
      at = at - list[i]
      if at <= 0 then
         return list[i + 1]
      end
   end
end

local session = {}
session.__index = session

-- rows, or nil and the error.
function session:try(sql)
   assert(self.conn:send(sql))
   while self.conn:busy() do
      coroutine.yield()
   end
   return self.conn:collect(0)
end

-- rows; any error ends the run.
function session:exec(sql)
   local rows, problem = self:try(sql)
   if not rows then
      error(("%s\n   in: %s"):format(problem, sql), 2)
   end
   return rows
end

-- Lets others work for <seconds>, or until the crew is told to finish.
function session:pause(seconds)
   local deadline = native.now() + seconds
   while native.now() < deadline and not self.crew.is_finishing do
      coroutine.yield(deadline)
   end
end

function session:should_finish()
   return self.crew.is_finishing
end

local methods = {}
methods.__index = methods

function crew.new()
   return setmetatable({ members = {} }, methods)
end

-- Adds a member: <work>(session), with a connection that it owns (nil: it needs none).
-- <connect>(), if it is given, returns another one, when a crash of the server has ended it: then
-- the work begins anew.
function methods:add(conn, rng, work, connect)
   local s = setmetatable({ conn = conn, rng = rng, crew = self }, session)
   self.members[#self.members + 1] = { session = s, thread = coroutine.create(work), work = work,
      connect = connect }
end

-- Lets the member go on. False: it is over. True, and until when it rests.
local function resume(member)
   local ok, due = coroutine.resume(member.thread, member.session)
   if not ok and member.connect and not member.session.conn:alive() then
      member.session.conn = member.connect()
      member.thread = coroutine.create(member.work)
      return true, 0
   elseif not ok then
      error(debug.traceback(member.thread, tostring(due)), 0)
   end
   return coroutine.status(member.thread) ~= "dead", due
end

-- Lets every member that can go on do so, then waits for answers, at most a moment.
local function turn(self)
   local busy, nearest = {}, native.now() + 0.01
   for i = #self.members, 1, -1 do
      local member = self.members[i]
      local goes_on, due = resume(member)
      if not goes_on then
         table.remove(self.members, i)
      elseif due then
         nearest = math.min(nearest, due)
      else
         busy[#busy + 1] = member.session.conn
      end
   end
   native.poll(busy, math.max(0, nearest - native.now()))
end

-- Works for <seconds>, and longer until <enough>() is true, if that is given, calling <watch>() in
-- between, then tells the members to finish and waits until all have. <enough> returns false and
-- what is missing.
function methods:run(seconds, watch, enough)
   local stop = native.now() + seconds
   local too_late = stop + wait.scaled(180) -- on a machine that does much besides it takes long
   local function goes_on()
      if native.now() < stop or not enough then
         return native.now() < stop
      end
      local is_enough, missing = enough()
      assert(is_enough or native.now() < too_late, missing)
      return not is_enough
   end
   while goes_on() do
      turn(self)
      watch()
   end
   self.is_finishing = true
   local deadline = native.now() + wait.scaled(60)
   while #self.members > 0 do
      assert(native.now() < deadline, "the writers do not finish")
      turn(self)
      watch()
   end
end

return crew
