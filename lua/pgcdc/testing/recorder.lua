-- pgcdc.testing.recorder: sinks of a test, which keep what is written to them.
-- SPDX-License-Identifier: MIT
--
-- A sink is made by its own constructor, which checks its options; then what it does is replaced:
--
--    write   adds to the list of its *target*; flush makes durable what is there
--
-- A target outlives the script, as a file or a database does: {kind =, values = all that was
-- written, n_durable = how many of them a crash leaves, savepoint =, failures =, refusals =}. What
-- it keeps over a crash depends on the real sink: one with `recall` has the savepoint with its
-- data, one that returns tokens is cut to the saved one, any other keeps all.

local raw = require "pgcdc.raw"
local fields = require "pgcdc.fields"

local recorder = {}

local parts = { "key", "row", "old" }

-- A table that shares nothing with `value`: a change is {op =, table =, key =, row =, old =}.
local function plain(value)
   if raw.is_change(value) then
      local copy = { op = value.op, table = value.table }
      for _, part in ipairs(parts) do
         local t = fields.get(value, part)
         copy[part] = t ~= nil and fields.copy(t) or nil
      end
      return copy
   elseif type(value) == "table" then
      return fields.copy(value)
   end
   return value
end

-- The target of this name, made where there is none.
local function target_of(world, kind, name)
   local target = world.targets[name]
   if not target then
      target = { kind = kind, name = name, values = {}, n_durable = 0, failures = 0, origins = {},
                 is_refused = {} }
      world.targets[name] = target
   end
   return target
end

-- Raises what the test wants the next flush to fail with.
local function fail_if_asked(world, target)
   if target.failures > 0 then
      target.failures = target.failures - 1
      local participants = world.require "pgcdc.delivery.participants"
      error(participants.later(target.name .. ": fails, as the test wants", 1), 0)
   end
end

-- Raises those of the values that are not durable which the target refuses for ever.
local function refuse_if_asked(world, target, last)
   local list = {}
   for i = target.n_durable + 1, last do
      local why = target.refuses and not target.is_refused[i] and target.refuses(target.values[i])
      if why then
         list[#list + 1] = { i, why, value = target.origins[i].value,
                             source = target.origins[i].source }
         target.is_refused[i] = true
      end
   end
   if #list > 0 then
      error(world.require "pgcdc.delivery.participants".refused(list), 0)
   end
end

-- Makes the values up to this place durable, without those that were refused. `seals`: places among
-- the values, which move with them.
local function settle(target, last, seals)
   local values, origins, moved = {}, {}, { [0] = 0 }
   for i = 1, #target.values do
      if not target.is_refused[i] then
         values[#values + 1], origins[#origins + 1] = target.values[i], target.origins[i]
      end
      moved[i] = #values
   end
   for i, place in ipairs(seals) do
      seals[i] = moved[place]
   end
   target.values, target.origins, target.is_refused = values, origins, {}
   target.n_durable = moved[last]
end

-- Cuts what a target has to its first values.
local function cut(target, n)
   for i = #target.values, n + 1, -1 do
      target.values[i], target.origins[i] = nil, nil
   end
   target.n_durable = n
end

-- Takes from a sink what it does besides.
local function take_away(sink)
   for _, name in ipairs { "prepares", "flush_together", "together", "expect", "wants_flush" } do
      if sink[name] ~= nil then
         rawset(sink, name, false)
      end
   end
   for _, name in ipairs { "saved", "close", "owes", "wants_reading", "begin_reading", "empty",
                           "add_table" } do
      if sink[name] ~= nil then
         rawset(sink, name, function()
            return false
         end)
      end
   end
   rawset(sink, "saves_itself", false)
end

-- Replaces what a sink does.
local function replace(world, sink, target)
   local participants = world.require "pgcdc.delivery.participants"
   local is_exact, has_token = sink.recall ~= nil, sink.saves_itself
   local seals = {}

   local function flush_to(last)
      fail_if_asked(world, target)
      refuse_if_asked(world, target, last)
      settle(target, last, seals)
   end

   rawset(sink, "write", function(_, value)
      local before = participants.enter_sink(sink)
      participants.touch(participants.sink(sink))
      local i = #target.values + 1
      target.values[i] = plain(value)
      target.origins[i] = { value = value, source = participants.source() }
      participants.leave_sink(before)
   end)
   rawset(sink, "flush", function(_, savepoint, upto)
      local last = upto and seals[upto] or #target.values
      flush_to(last)
      if is_exact then
         target.savepoint = savepoint
      elseif has_token then
         return { length = target.n_durable }
      end
   end)
   rawset(sink, "restore", function(_, token)
      if has_token and token then
         cut(target, math.min(token.length, #target.values))
      end
   end)
   if is_exact then
      rawset(sink, "recall", function()
         cut(target, target.n_durable)
         return target.savepoint
      end)
      rawset(sink, "seal", function()
         seals[#seals + 1] = #target.values
         return #seals
      end)
      rawset(sink, "identify", function() end)
   end
   take_away(sink)
end

-- What is shown of a value: JSON, of changes by hand without times and ids.
local function text_of(value)
   if raw.is_change(value) and raw.is_by_hand(value) then
      value = plain(value)
   end
   local ok, text = pcall(raw.encode, value)
   return ok and text or tostring(value)
end

-- Has a sink show what is written to it, and keep nothing.
local function show(world, sink, name)
   local participants = world.require "pgcdc.delivery.participants"
   local is_exact = sink.recall ~= nil
   rawset(sink, "write", function(_, value)
      local before = participants.enter_sink(sink)
      participants.touch(participants.sink(sink))
      world.shows.value(name, text_of(value))
      participants.leave_sink(before)
   end)
   for _, method in ipairs { "flush", "restore", "recall", "identify" } do
      if method == "flush" or method == "restore" or is_exact then
         rawset(sink, method, function() end)
      end
   end
   if is_exact then
      rawset(sink, "seal", function()
         return 1
      end)
   end
   take_away(sink)
end

--- Replaces what a sink that a script has made does. `kind`: its name in pgcdc.sinks. Returns it.
function recorder.record(world, kind, sink)
   local name = rawget(sink, "name") or kind .. " -"
   if world.shows then
      show(world, sink, name)
   else
      replace(world, sink, target_of(world, kind, name))
   end
   world.sinks[#world.sinks + 1] = sink
   return sink
end

return recorder
