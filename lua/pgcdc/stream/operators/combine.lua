-- operators/combine.lua: values of several streams put together.
-- SPDX-License-Identifier: MIT
--
-- zip combine_latest zip_latest union
--
-- Such a node has a *slot* for each upstream, in the order of the arguments. A stream that is
-- disconnected leaves its slot, which then holds nothing and does not count, and gets it back when
-- it is connected again.

local stream = require "pgcdc.stream.stream"
local check = require "pgcdc.check"
local held = require "pgcdc.stream.held"
local keys = require "pgcdc.stream.keys"
local undo = require "pgcdc.stream.undo"

-- Defines an operator of several streams. `build(node, streams, options)` sets the node's input.
local function operator(name, known, build)
   stream.method(name, function(...)
      local streams = table.pack(...)
      local last, options = streams[streams.n], nil
      if known and streams.n > 1 and type(last) == "table" and not stream.is(last) then
         options = last
         streams[streams.n] = nil
         streams.n = streams.n - 1
      end
      for i = 2, streams.n do
         stream.check(("%s: stream %d"):format(name, i - 1), streams[i])
      end
      local node = stream.node(name)
      build(node, streams, known and stream.options(name, options, known))
      stream.add(node)
      for i = 1, streams.n do
         streams[i]:connect(node)
      end
      return node
   end)
end

-- Gives the node slots. `new_slot(up)` makes one; `take(slot, x)` gets the values;
-- `clear(slot)` lets go of what a slot holds. Returns the list of the slots that are connected,
-- which changes.
local function set_slots(node, streams, new_slot, take, clear)
   local all, connected = {}, {}

   local function update()
      for i = #connected, 1, -1 do
         connected[i] = nil
      end
      for _, slot in ipairs(all) do
         connected[#connected + 1] = slot.is_connected and slot or nil
      end
   end
   local function add(up)
      local slot = new_slot(up)
      slot.up = up
      all[#all + 1] = slot
      return slot
   end
   local function find(up, is_connected)
      for _, slot in ipairs(all) do
         if slot.up == up and (slot.is_connected or false) == is_connected then
            return slot
         end
      end
   end

   function node.accept(_, up)
      local slot = find(up, false) or add(up)
      slot.is_connected = true
      update()
      return function(x)
         take(slot, x)
      end
   end
   function node.lost(_, up)
      local slot = find(up, true)
      clear(slot)
      slot.is_connected = false
      update()
   end
   function node.forget()
      for _, slot in ipairs(all) do
         clear(slot)
      end
   end

   for i = 1, streams.n do
      add(streams[i])
   end
   return connected
end

-- ---- zip ----

local function zip_back(taken, queue, entry)
   for _, one in ipairs(taken) do
      one.queue:unpop(one.entry)
   end
   queue:unpush(entry)
end

--- zip(stream, ...): lists of the first values of all streams, of the second ones, and so on. What
--- has no counterpart yet waits, however many they are.
operator("zip", nil, function(node, streams)
   local connected
   local function take(slot, x)
      local queue = slot.queue
      local newest = queue:push(x)
      for _, other in ipairs(connected) do
         if other.queue:count() == 0 then
            return
         end
      end
      local taken, entries, list = {}, {}, {}
      for i, other in ipairs(connected) do
         local entry = other.queue:pop()
         taken[i] = { queue = other.queue, entry = entry }
         entries[i], list[i] = entry, keys.item(entry.x)
      end
      local attempt <close> = undo(zip_back, taken, queue, newest)
      held.emit(entries, node.out, list)
      attempt.is_done = true
   end
   connected = set_slots(node, streams, function()
      return { queue = held.queue() }
   end, take, function(slot)
      slot.queue:clear()
   end)
end)

-- ---- combine_latest ----

-- The set of the streams that cause lists, or nil for all.
local function emitters(streams, emit_on)
   if emit_on == nil then
      return nil
   end
   check.type("combine_latest: emit_on", emit_on, "table")
   local is_known, set = {}, {}
   for i = 1, streams.n do
      is_known[streams[i]] = true
   end
   local list = stream.is(emit_on) and { emit_on } or emit_on
   for _, up in ipairs(list) do
      if not is_known[up] then
         check.fail("combine_latest: emit_on names something that is not one of the streams")
      end
      set[up] = true
   end
   if next(set) == nil then
      check.fail("combine_latest: emit_on names no stream")
   end
   return set
end

-- The entries of all slots, or nil if one has none.
local function all_entries(slots)
   local entries = {}
   for i, slot in ipairs(slots) do
      if not slot.entry then
         return nil
      end
      entries[i] = slot.entry
   end
   return entries
end

local function list_of(entries)
   local list = {}
   for i, entry in ipairs(entries) do
      list[i] = keys.item(entry.x)
   end
   return list
end

local function entry_back(slot, before)
   if slot.entry ~= before then
      held.release(slot.entry)
   end
   slot.entry = before
end

--- combine_latest(stream, ..., {emit_on=}): lists of the latest values of all streams, for each
--- value of any of them, once all have one. `emit_on`: only for values of this stream, or of a
--- list of them.
operator("combine_latest", { emit_on = true }, function(node, streams, options)
   local emits = emitters(streams, options.emit_on)
   local connected
   local function take(slot, x)
      local before = slot.entry
      slot.entry = held.new(x) -- held until it was part of a list
      local entries = (not emits or emits[slot.up]) and all_entries(connected)
      if entries then
         local attempt <close> = undo(entry_back, slot, before)
         held.emit(entries, node.out, list_of(entries))
         attempt.is_done = true
      end
      held.release(before)
   end
   connected = set_slots(node, streams, function()
      return {}
   end, take, function(slot)
      entry_back(slot, nil)
   end)
end)

-- ---- zip_latest ----

local function latest_back(slot, before)
   slot.entry = before
end

--- zip_latest(stream, ...): for each value of the first stream a list of it and the latest of the
--- others. Its values wait until all others have one; none is left out.
operator("zip_latest", nil, function(node, streams)
   local queue = held.queue() -- of the first stream
   local connected, first

   -- The latest values are not held: only those of the first stream are owed to anybody.
   local function flush()
      local entries = all_entries(connected)
      local function pass(x)
         local list = {}
         for i, slot in ipairs(connected) do
            if slot == first then
               list[i] = keys.item(x)
            else
               list[i] = keys.item(slot.entry.x)
            end
         end
         node.out(list)
      end
      while entries and queue:count() > 0 do
         queue:pass(pass)
      end
   end
   local function take(slot, x)
      if slot == first then
         local attempt <close> = undo(queue.unpush, queue, queue:push(x))
         flush()
         attempt.is_done = true
      else
         local attempt <close> = undo(latest_back, slot, slot.entry)
         slot.entry = { x = x }
         flush()
         attempt.is_done = true
      end
   end
   connected = set_slots(node, streams, function()
      local slot = {}
      if not first then
         first = slot
         slot.entry = {} -- what it has is in the queue
      end
      return slot
   end, take, function(slot)
      if slot == first then
         queue:clear()
      else
         slot.entry = nil
      end
   end)
end)

--- union(stream, ...): the values of all streams as they come.
operator("union", nil, function(node)
   node.input = function(x)
      node.out(x)
   end
end)
