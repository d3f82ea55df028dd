-- pgcdc.stream.operators.choose: some of the values, by their position or by what came before.
-- SPDX-License-Identifier: MIT
--
-- slice unique

local stream = require "pgcdc.stream.stream"
local check = require "pgcdc.check"
local keys = require "pgcdc.stream.keys"
local ordered = require "pgcdc.stream.ordered"
local undo = require "pgcdc.stream.undo"

--- slice(start, stop, step): the values at the positions start, start + step, ... before stop.
--- Positions count from 0; the defaults are 0, no end, and 1.
stream.operator("slice", function(node, _, start, stop, step)
   start = start == nil and 0 or check.count("slice: start", start, 0)
   stop = stop == nil and math.huge or check.count("slice: stop", stop, 0)
   step = step == nil and 1 or check.count("slice: step", step, 1)
   local position = 0
   local function back(before)
      position = before
   end
   node.input = function(x)
      local at = position
      if at >= stop then
         return
      end
      position = at + 1
      if at >= start and (at - start) % step == 0 then
         local attempt <close> = undo(back, at)
         node.out(x)
         attempt.is_done = true
      end
   end
end)

local MAXSIZE = 100000

local function check_maxsize(value)
   if value == nil then
      return MAXSIZE
   elseif value == math.huge then
      return value
   end
   return check.count("unique: maxsize", value, 1)
end

--- unique({key=, maxsize=100000}): drops a value whose key (default: the value itself) has come
--- before. Remembers the `maxsize` keys that came last; math.huge: all of them.
stream.operator("unique", function(node, _, given)
   local options = stream.options("unique", given, { key = true, maxsize = true })
   local key_of = stream.getter("unique: key", options.key)
   node.about = options.key
   local maxsize = check_maxsize(options.maxsize)
   local seen = ordered() -- the key that came last is the last

   local function forget(key, oldest)
      seen:remove(key)
      if oldest ~= nil and not seen:find(oldest) then
         seen:put_first(oldest)
      end
   end
   node.input = function(x)
      local key = x
      if key_of then
         key = key_of(x)
      end
      key = keys.of(key)
      if seen:remove(key) then
         seen:push(key)
         return
      end
      seen:push(key)
      local oldest
      if seen.count > maxsize then
         oldest = seen:remove(seen.first.key).key
      end
      local attempt <close> = undo(forget, key, oldest)
      node.out(x)
      attempt.is_done = true
   end
end)
