-- pgcdc.stream.held: values that an operator keeps, each with its origin (see delivery/lineage).
-- SPDX-License-Identifier: MIT

local lineage = require "pgcdc.delivery.lineage"
local undo = require "pgcdc.stream.undo"

local held = {}

--- Makes an entry of `x`, the value in hand, which the operator `node` keeps: {x =, node =,
--- origin =}. Its batches are held until the entry is released.
function held.new(node, x)
   return { x = x, node = node, origin = lineage.retain(node) }
end

--- Releases the batches of an entry. An entry that was released, and nil, are allowed.
function held.release(entry)
   if entry and entry.origin then
      local origin = entry.origin
      entry.origin = nil
      lineage.release(origin, entry.node)
   end
end

--- Passes `value`, made of these entries (and of the value in hand), on through the function
--- `out`, then releases them.
function held.emit(entries, out, value)
   local origin = lineage.current
   for i = 1, #entries do
      origin = lineage.merge(origin, entries[i].origin)
   end
   lineage.pass(origin, out, value)
   for i = 1, #entries do
      held.release(entries[i])
   end
end

-- ---- a queue of entries ----

local Queue = {}
Queue.__index = Queue

--- A new queue of the operator `node`, which is empty. The oldest entry is queue[queue.first],
--- the newest queue[queue.last].
function held.queue(node)
   return setmetatable({ node = node, first = 1, last = 0 }, Queue)
end

function Queue:count()
   return self.last - self.first + 1
end

--- Appends the value in hand. Returns its entry.
function Queue:push(x)
   local entry = held.new(self.node, x)
   self.last = self.last + 1
   self[self.last] = entry
   return entry
end

--- Takes the oldest entry out and returns it, still held. The queue must not be empty.
function Queue:pop()
   local entry = self[self.first]
   self[self.first] = nil
   self.first = self.first + 1
   return entry
end

--- Undoes the `pop` that returned this entry.
function Queue:unpop(entry)
   self.first = self.first - 1
   self[self.first] = entry
end

-- Releases and removes all entries after this position.
local function cut(queue, position)
   while queue.last > position and queue.last >= queue.first do
      held.release(queue[queue.last])
      queue[queue.last] = nil
      queue.last = queue.last - 1
   end
end

--- Undoes the `push` that made this entry, if it is still there, and all that came after it.
function Queue:unpush(entry)
   for position = self.last, self.first, -1 do
      if self[position] == entry then
         cut(self, position - 1)
         return
      end
   end
end

--- Releases and removes all entries.
function Queue:clear()
   cut(self, self.first - 1)
end

local function unpass(queue, entry, last)
   cut(queue, last) -- what a feedback loop has brought
   queue:unpop(entry)
end

--- Takes the oldest value out and passes it on through the function `out`. If that raises an error
--- the value is put back.
function Queue:pass(out)
   local entry = self:pop()
   local attempt <close> = undo(unpass, self, entry, self.last)
   held.emit({ entry }, out, entry.x)
   attempt.is_done = true
end

return held
