-- pgcdc.stream.operators.combine: values of several streams put together.
-- SPDX-License-Identifier: MIT
--
-- zip combine_latest zip_latest union
--
-- Such a node has an *inlet* for each upstream, in the order of the arguments. A stream that is
-- disconnected leaves its inlet, which then holds nothing and does not count, and gets it back when
-- it is connected again.

local stream = require "pgcdc.stream.stream"
local check = require "pgcdc.check"
local held = require "pgcdc.stream.held"
local keys = require "pgcdc.stream.keys"
local undo = require "pgcdc.stream.undo"

-- Defines an operator of several streams. `known`: the set of its options, or nil. `build(node,
-- streams, options)` makes the node take values; `streams` is a table.pack.
local function operator(name, known, build)
   stream.method(name, function(...)
      local streams = table.pack(...)
      local last, options = streams[streams.n], nil
      if known and streams.n > 1 and type(last) == "table" and not stream.of(last) then
         options = last
         streams[streams.n] = nil
         streams.n = streams.n - 1
      end
      for i = 2, streams.n do
         streams[i] = stream.check(("%s: stream %d"):format(name, i - 1), streams[i])
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

-- Gives the node inlets. `new_inlet(up)` makes one; `take(inlet, x)` gets the values;
-- `clear(inlet)` releases what an inlet holds. Returns the list of the inlets that are connected,
-- which changes.
local function set_inlets(node, streams, new_inlet, take, clear)
   local all, connected = {}, {}

   local function update()
      for i = #connected, 1, -1 do
         connected[i] = nil
      end
      for _, inlet in ipairs(all) do
         connected[#connected + 1] = inlet.is_connected and inlet or nil
      end
   end
   local function add(up)
      local inlet = new_inlet(up)
      inlet.up = up
      all[#all + 1] = inlet
      return inlet
   end
   local function find(up, is_connected)
      for _, inlet in ipairs(all) do
         if inlet.up == up and (inlet.is_connected or false) == is_connected then
            return inlet
         end
      end
   end

   function node.accept(_, up)
      local inlet = find(up, false) or add(up)
      inlet.is_connected = true
      update()
      return function(x)
         take(inlet, x)
      end
   end
   function node.lost(_, up)
      local inlet = find(up, true)
      clear(inlet)
      inlet.is_connected = false
      update()
   end
   function node.forget()
      for _, inlet in ipairs(all) do
         clear(inlet)
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

--- zip(stream, ...): lists of the first values of all streams, of the second ones, and so on.
--- Values wait until all other streams have theirs; there is no limit to how many wait.
operator("zip", nil, function(node, streams)
   local connected
   local function take(inlet, x)
      local queue = inlet.queue
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
   connected = set_inlets(node, streams, function()
      return { queue = held.queue(node) }
   end, take, function(inlet)
      inlet.queue:clear()
   end)
end)

-- ---- combine_latest ----

-- The set of the streams whose values cause lists, or nil for all.
local function emitters(streams, emit_on)
   if emit_on == nil then
      return nil
   end
   check.type("combine_latest: emit_on", emit_on, "table")
   local is_known, set = {}, {}
   for i = 1, streams.n do
      is_known[streams[i]] = true
   end
   for _, given in ipairs(stream.of(emit_on) and { emit_on } or emit_on) do
      local up = stream.of(given)
      if not up or not is_known[up] then
         check.fail("combine_latest: emit_on names something that is not one of the streams")
      end
      set[up] = true
   end
   if next(set) == nil then
      check.fail("combine_latest: emit_on names no stream")
   end
   return set
end

-- The entries of all inlets, or nil if one has none.
local function all_entries(inlets)
   local entries = {}
   for i, inlet in ipairs(inlets) do
      if not inlet.entry then
         return nil
      end
      entries[i] = inlet.entry
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

local function entry_back(inlet, before)
   if inlet.entry ~= before then
      held.release(inlet.entry)
   end
   inlet.entry = before
end

--- combine_latest(stream, ..., {emit_on=}): lists of the latest values of all streams, for each
--- value of any of them, once all have one. `emit_on`: only for values of this stream, or of a
--- list of them.
operator("combine_latest", { emit_on = true }, function(node, streams, options)
   local emits = emitters(streams, options.emit_on)
   local connected
   local function take(inlet, x)
      local before = inlet.entry
      inlet.entry = held.new(node, x) -- held until it has been part of a list
      local entries = (not emits or emits[inlet.up]) and all_entries(connected)
      if entries then
         local attempt <close> = undo(entry_back, inlet, before)
         held.emit(entries, node.out, list_of(entries))
         attempt.is_done = true
      end
      held.release(before)
   end
   connected = set_inlets(node, streams, function()
      return {}
   end, take, function(inlet)
      entry_back(inlet, nil)
   end)
end)

-- ---- zip_latest ----

local function latest_back(inlet, before)
   inlet.entry = before
end

--- zip_latest(stream, ...): for each value of the first stream a list of it and the latest of the
--- others. Its values wait until all others have one; none is left out.
operator("zip_latest", nil, function(node, streams)
   local queue = held.queue(node) -- of the first stream
   local connected, first

   -- The latest values of the others are not held: no list is promised for each of them.
   local function flush()
      local entries = all_entries(connected)
      local function pass(x)
         local list = {}
         for i, inlet in ipairs(connected) do
            if inlet == first then
               list[i] = keys.item(x)
            else
               list[i] = keys.item(inlet.entry.x)
            end
         end
         node.out(list)
      end
      while entries and queue:count() > 0 do
         queue:pass(pass)
      end
   end
   local function take(inlet, x)
      if inlet == first then
         local attempt <close> = undo(queue.unpush, queue, queue:push(x))
         flush()
         attempt.is_done = true
      else
         local attempt <close> = undo(latest_back, inlet, inlet.entry)
         inlet.entry = { x = x }
         flush()
         attempt.is_done = true
      end
   end
   connected = set_inlets(node, streams, function()
      local inlet = {}
      if not first then
         first = inlet
         inlet.entry = {} -- its values are in the queue
      end
      return inlet
   end, take, function(inlet)
      if inlet == first then
         queue:clear()
      else
         inlet.entry = nil
      end
   end)
end)

--- union(stream, ...): the values of all streams as they come.
operator("union", nil, function(node)
   node.columns = stream.pass_columns
   node.input = function(x)
      node.out(x)
   end
end)
