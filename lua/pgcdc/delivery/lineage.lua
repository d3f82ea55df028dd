-- pgcdc.delivery.lineage: which batches a value stems from, and which batches are held.
-- SPDX-License-Identifier: MIT
--
--    orders    batch 7   batch 8   batch 9 (being delivered)
--                 │         │
--                 a         b       partition(3) keeps a and b until a third value comes
--
--    held: batch 7 once, batch 8 once. The position after batch 6 may be saved, no later one:
--    after a crash a and b must come again, or the list of three would lack them.
--
-- A *batch* is all the changes of one poll, or of one range of the snapshot:
-- {source = the source's number, number = its own among those of the source, held = how many values
-- of it operators keep, is_listed = it is in `lists`}. The *origin* of a
-- value is what it stems from: a batch; or a list of batches, the oldest one of each source; or
-- nil, where it came from no source. While a value is passed on, its origin is `lineage.current`.
--
-- An operator that keeps a value beyond the call that brought it retains the value's origin, and
-- releases it after the emission that passes the value on. While a batch is held, neither it nor
-- any later batch of its source is saved (see checkpoint).
--
-- An emission that fails leaves everything as it was before the value that triggered it came, so
-- that the same value can be given again: emit first, then release.

local raw = require "pgcdc.raw"
local groups = require "pgcdc.delivery.groups"

local lineage = {
   -- Other modules read these and do not write them:
   current = nil,        -- the origin of the value in hand
   live = nil,           -- the batch that the host delivers just now
   has_released = false, -- something was released since the host looked last
}

-- source -> its batches from the oldest that is held on, as far as they are or were held:
-- list[list.first] to list[list.last], the oldest first.
local lists = {}

local newest = {}  -- source -> the number of the newest batch that was begun
local is_open = {} -- source -> true while that batch has not ended

-- ---- what the host delivers ----

--- The host begins or resumes the delivery of the batch of this number.
function lineage.enter(source, number)
   newest[source], is_open[source] = number, true
   local batch = lineage.live
   if not batch or batch.source ~= source or batch.number ~= number then
      local list = lists[source]
      batch = list and list[list.last]
      if not batch or batch.number ~= number then
         batch = { source = source, number = number, held = 0 }
      end
   end
   lineage.live, lineage.current = batch, batch
end

--- The host has delivered all changes that it has of the batch, or has stopped before.
function lineage.leave()
   lineage.live, lineage.current = nil, nil
end

--- The newest batch of a source has ended.
function lineage.end_batch(source)
   is_open[source] = nil
end

--- The number of the newest batch of a source, 0 before the first one; and whether it has not
--- ended yet.
function lineage.newest_batch(source)
   return newest[source] or 0, is_open[source] or false
end

--- Makes `origin` that of the value in hand again, after a call that failed.
function lineage.resume(origin)
   lineage.current = origin
end

--- Makes the host look again at what can be saved, as after the release of a value.
function lineage.set_released()
   lineage.has_released = true
end

--- Forgets that something was released. `has_released` is false from then on.
function lineage.clear_released()
   lineage.has_released = false
end

-- ---- what is held ----

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
      lineage.has_released = true
   end
end

--- The oldest batch of a source that is held, or nil.
function lineage.oldest_held(source)
   local list = lists[source]
   return list and list[list.first]
end

--- The newest batch of a source that is held, or nil.
function lineage.newest_held(source)
   local list = lists[source]
   for i = list and list.last or 0, list and list.first or 1, -1 do
      if list[i].held > 0 then
         return list[i]
      end
   end
end

-- Notes that the operator `node` holds a value more of this origin.
local function note(node, origin)
   local holding = node.holding
   if not holding then
      holding = {}
      node.holding = holding
   end
   local it = holding[origin]
   if it then
      it.count = it.count + 1
   else
      holding[origin] = { count = 1, since = raw.now() }
   end
end

local function forget(node, origin)
   local it = node.holding[origin]
   it.count = it.count - 1
   if it.count == 0 then
      node.holding[origin] = nil
   end
end

--- How many batches the operator `node` holds values of, and since when it holds the oldest.
function lineage.held_by(node)
   local count, since, seen = 0, nil, {}
   for origin, it in pairs(node.holding or {}) do
      for _, batch in ipairs(origin.held and { origin } or origin) do
         count = count + (seen[batch] and 0 or 1)
         seen[batch] = true
      end
      since = math.min(since or it.since, it.since)
   end
   return count, since
end

--- Holds the batches of the value in hand. `node`: the operator that keeps the value, so that it is
--- known who holds them, or nil. Returns its origin, for `lineage.release`.
function lineage.retain(node)
   local origin = lineage.current
   if origin then
      if node then
         note(node, origin)
      end
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

--- Releases what `lineage.retain(node)` returned; nil is allowed.
function lineage.release(origin, node)
   if origin then
      if node then
         forget(node, origin)
      end
      if origin.held then
         release_batch(origin)
      else
         for i = 1, #origin do
            release_batch(origin[i])
         end
      end
   end
end

-- ---- values that are made of others ----

local function add(origin, batch)
   for i = 1, #origin do
      if origin[i].source == batch.source then
         if batch.number < origin[i].number then
            origin[i] = batch
         end
         return
      end
   end
   if origin[1] then -- a value of one source must not find another partner after a crash
      groups.unite(origin[1].source, batch.source)
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

--- The origin of something that was made of values with the origins `a` and `b`. Sources that meet
--- in it are one group from then on.
function lineage.merge(a, b)
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

--- Passes `x`, a value with this origin, on through the function `out`.
function lineage.pass(origin, out, x)
   local before = lineage.current
   lineage.current = origin
   out(x)
   lineage.current = before
end

--- Passes `x`, a value whose origin was retained as `origin`, on through the function `out`,
--- then releases it.
function lineage.emit(origin, out, x)
   lineage.pass(lineage.merge(lineage.current, origin), out, x)
   lineage.release(origin)
end

-- ---- bags ----

--- A bag holds the origins of values that are passed on together.
local Bag = {}
Bag.__index = Bag

--- A new bag of the operator `node`, which is empty.
function lineage.bag(node)
   return setmetatable({ node = node }, Bag)
end

--- Retains the origin of the value in hand. It is cheap enough to be called for every value: if the
--- value before had the same origin, nothing is done.
function Bag:add()
   if lineage.current and lineage.current ~= self[#self] then
      self[#self + 1] = lineage.retain(self.node)
   end
end

--- Releases all origins in the bag.
function Bag:release()
   for i = #self, 1, -1 do
      lineage.release(self[i], self.node)
      self[i] = nil
   end
end

--- Passes `x`, made of all values whose origins are in the bag (and of the value in hand), on
--- through `out`, then releases them.
function Bag:emit(out, x)
   local origin = lineage.current
   for i = 1, #self do
      origin = lineage.merge(origin, self[i])
   end
   lineage.pass(origin, out, x)
   self:release()
end

return lineage
