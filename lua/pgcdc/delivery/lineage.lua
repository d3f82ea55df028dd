-- pgcdc.delivery.lineage: which batches the value in hand stems from, and which are still held.
-- SPDX-License-Identifier: MIT
--
-- A batch is one poll, or one range of a snapshot: {source = number, seq = number, held = count}.
-- An *origin* is what a value stems from: a batch, or a list of batches, the oldest of each
-- source, or nil where it came from no source. While a value is passed on, its origin is
-- `hold.current`.
--
-- An operator that keeps a value beyond the call that brought it retains the origin, and releases
-- it behind the emission that passes the value on. A batch that is held, and every later one of
-- its source, is not saved.
--
-- An emission that fails leaves everything as it was before the value that triggered it came, so
-- that it can be tried again: emit first, then forget.

local raw = require "pgcdc.raw"

local hold = {
   meet = nil,     -- function(a, b), set by participants, for values of two sources
   current = nil,  -- the origin of the value in hand
   live = nil,     -- the batch that the host delivers just now
   has_released = false, -- something was let go since the host looked last
}

-- Per source: the batches that are or were held, [first] to [last], the oldest first.
local lists = {}

--- The host begins or resumes the delivery of a batch.
function hold.enter(source, seq)
   local batch = hold.live
   if not batch or batch.source ~= source or batch.seq ~= seq then
      local list = lists[source]
      batch = list and list[list.last]
      if not batch or batch.seq ~= seq then
         batch = { source = source, seq = seq, held = 0 }
      end
   end
   hold.live, hold.current = batch, batch
end

--- The host has delivered what there was, or stopped in between.
function hold.leave()
   hold.live, hold.current = nil, nil
end

local function retain_batch(batch)
   if batch.held == 0 and not batch.is_listed then
      local list = lists[batch.source]
      if not list then
         list = { first = 1, last = 0 }
         lists[batch.source] = list
      end
      list.last = list.last + 1
      list[list.last] = batch
      batch.is_listed = true
      raw.keeps(true) -- the host asks before it saves
   end
   batch.held = batch.held + 1
end

local function release_batch(batch)
   batch.held = batch.held - 1
   if batch.held > 0 then
      return
   end
   local list = lists[batch.source]
   while list.first <= list.last and list[list.first].held == 0 do
      list[list.first].is_listed = nil
      list[list.first] = nil
      list.first = list.first + 1
      hold.has_released = true
   end
end

--- The oldest batch of a source that is held, or nil.
function hold.oldest(source)
   local list = lists[source]
   return list and list[list.first]
end

--- The newest batch of a source that is held, or nil.
function hold.newest(source)
   local list = lists[source]
   for i = list and list.last or 0, list and list.first or 1, -1 do
      if list[i].held > 0 then
         return list[i]
      end
   end
end

--- Holds the batches of the value in hand. Returns its origin, for `hold.release`.
function hold.retain()
   local origin = hold.current
   if origin then
      if origin.held then
         retain_batch(origin)
      else
         for i = 1, #origin do
            retain_batch(origin[i])
         end
      end
   end
   return origin
end

--- Lets go of what `hold.retain` returned; nil is allowed.
function hold.release(origin)
   if origin then
      if origin.held then
         release_batch(origin)
      else
         for i = 1, #origin do
            release_batch(origin[i])
         end
      end
   end
end

local function add(origin, batch)
   for i = 1, #origin do
      if origin[i].source == batch.source then
         if batch.seq < origin[i].seq then
            origin[i] = batch
         end
         return
      end
   end
   if origin[1] then
      hold.meet(origin[1].source, batch.source)
   end
   origin[#origin + 1] = batch
end

local function add_all(origin, other)
   if other.held then
      add(origin, other)
   else
      for i = 1, #other do
         add(origin, other[i])
      end
   end
end

--- The origin of something that was made of values with the origins `a` and `b`.
function hold.merge(a, b)
   if a == b or b == nil then
      return a
   elseif a == nil then
      return b
   end
   local origin = {}
   add_all(origin, a)
   add_all(origin, b)
   return origin
end

--- Passes `x`, a value whose origin was retained as `origin`, on through the function `out`,
--- then lets go of it.
function hold.emit(origin, out, x)
   local before = hold.current
   hold.current = hold.merge(before, origin)
   out(x)
   hold.current = before
   hold.release(origin)
end

--- A bag holds the origins of values that are passed on together.
local Bag = {}
Bag.__index = Bag

function hold.bag()
   return setmetatable({}, Bag)
end

--- Holds the batches of the value in hand. Idempotent enough to be called for every value.
function Bag:add()
   if hold.current and hold.current ~= self[#self] then
      self[#self + 1] = hold.retain()
   end
end

--- Takes back the `Bag:add` that was called last, where an emission failed: `mark` is what
--- `#bag` was before it.
function Bag:undo(mark)
   while #self > mark do
      hold.release(table.remove(self))
   end
end

--- Lets go of all.
function Bag:release()
   for i = #self, 1, -1 do
      hold.release(self[i])
      self[i] = nil
   end
end

--- Passes `x`, made of all values whose origins are in the bag (and the value in hand), on
--- through `out`, then lets go of them.
function Bag:emit(out, x)
   local before = hold.current
   local origin = before
   for i = 1, #self do
      origin = hold.merge(origin, self[i])
   end
   hold.current = origin
   out(x)
   hold.current = before
   self:release()
end

return hold
