-- pgcdc.stream.operators.reduce: one running state for each key.
-- SPDX-License-Identifier: MIT
--
-- reduce_by

local raw = require "pgcdc.raw"
local stream = require "pgcdc.stream.stream"
local check = require "pgcdc.check"
local lineage = require "pgcdc.delivery.lineage"
local saved_state = require "pgcdc.delivery.state"
local keys = require "pgcdc.stream.keys"
local ordered = require "pgcdc.stream.ordered"
local timer = require "pgcdc.timer"
local undo = require "pgcdc.stream.undo"

-- A value that shares no table with this one.
local function clone(value)
   if type(value) ~= "table" then
      return value
   end
   local new = {}
   for k, v in pairs(value) do
      new[k] = clone(v)
   end
   return raw.set_metatable_of(new, value)
end

-- The states of a node: kept.states[key]. kept:save(key) saves one of them, if they are persisted.
local Kept = {}
Kept.__index = Kept

local function new_kept(persist)
   local self = setmetatable({ states = {} }, Kept)
   if persist ~= nil then
      self.cells = saved_state.cells("reduce_by", persist)
      for text, state in pairs(self.cells:all()) do
         self.states[keys.from_text(text)] = state
      end
      self.cells:on_adopted(function(text, state)
         self.states[keys.from_text(text)] = state
      end)
   end
   return self
end

function Kept:save(key)
   if self.cells then
      local text = keys.text(key)
      if not text then
         check.fail("reduce_by: a key that is a %s cannot be kept", type(key))
      end
      self.cells:set(text, self.states[key])
   end
end

-- Passes on the keys that changed, every so many seconds. Returns a function to be called with each
-- key that changes.
local function tell_later(node, states, seconds)
   local pending = ordered()  -- keys, in the order in which they changed first
   local bag = lineage.bag(node)
   local clock

   local function put_back(key)
      pending:remove(key)
      pending:put_first(key)
   end
   local function tell(key)
      pending:remove(key)
      local attempt <close> = undo(put_back, key)
      node.out({ key = key, state = states[key] })
      attempt.is_done = true
   end
   local function tell_all(count) -- what changes meanwhile is for the next time
      for _ = 1, count do
         tell(pending.first.key)
      end
   end

   local function refill(before)
      table.move(bag, 1, #bag, #before + 1, before)
      bag = before
   end
   local tick
   local function arm() -- no window until it is due: --once does not wait for it, it calls finish
      clock = clock or timer.after(seconds, function()
         clock = stream.after(node, 0, tick)
      end)
   end
   function tick()
      local full = bag
      bag = lineage.bag(node)
      local attempt <close> = undo(refill, full)
      full:emit(tell_all, pending.count)
      attempt.is_done = true
      clock = nil
      if pending.count > 0 then
         arm()
      end
   end

   function node.finish()
      if pending.count > 0 then
         clock:cancel()
         tick()
      end
   end

   function node.forget()
      if clock then
         clock:cancel()
      end
      bag:release()
      pending = ordered()
   end

   return function(key)
      if not pending:find(key) then
         pending:push(key)
      end
      bag:add()
      arm()
   end
end

local known = { start = true, every = true, persist = true }

--- reduce_by(key, f, {start=, every=, persist=}): f(state, x) gives the new state of x's key; the
--- first value is the first state where there is no `start`, of which each key has a clone. Passes
--- on {key =, state =} for each value, or with `every` what changed, every so many seconds, in the
--- order of each key's first change. `persist`: the name under which the states are kept; JSON must
--- be able to write them, and keys must be text, numbers, true, false or nil.
stream.operator("reduce_by", function(node, _, key, f, given)
   check.type("reduce_by: key", key, "function", "string", "number")
   node.about = key
   local key_of = stream.getter("reduce_by: key", key)
   check.type("reduce_by: f", f, "function")
   local options = stream.options("reduce_by", given, known)
   local start, every = options.start, options.every
   if every ~= nil then
      check.seconds("reduce_by: every", every, 0.001)
   end
   local kept = new_kept(options.persist)
   local states = kept.states
   local changed = every and tell_later(node, states, every)

   local function fold(k, x)
      local state = states[k]
      if state == nil then
         if start == nil then
            return keys.item(x)
         end
         state = clone(start)
      end
      local new = f(state, x)
      if new == nil then
         check.fail("reduce_by: f returned nil instead of a state")
      end
      return new
   end
   local function back(k, before)
      states[k] = before
   end

   node.input = function(x)
      local k = keys.of((key_of(x)))
      local new = fold(k, x)
      local attempt <close> = undo(back, k, states[k])
      states[k] = new
      if changed then
         kept:save(k)
         changed(k)
      else
         node.out({ key = k, state = new })
         kept:save(k) -- a feedback loop may have changed it again
      end
      attempt.is_done = true
   end
end)
