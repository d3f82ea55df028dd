-- pgcdc.stream.ordered: a table whose keys are in an order; they can be added at both ends.
-- SPDX-License-Identifier: MIT

local Ordered = {}
Ordered.__index = Ordered

--- Puts a key that is not there at the end. Returns its entry, {key =, value =}.
function Ordered:push(key, value)
   local entry = { key = key, value = value, before = self.last }
   if self.last then
      self.last.after = entry
   else
      self.first = entry
   end
   self.last = entry
   self.entries[key] = entry
   self.count = self.count + 1
   return entry
end

--- Puts a key that is not there at the beginning. Returns its entry.
function Ordered:put_first(key, value)
   local entry = { key = key, value = value, after = self.first }
   if self.first then
      self.first.before = entry
   else
      self.last = entry
   end
   self.first = entry
   self.entries[key] = entry
   self.count = self.count + 1
   return entry
end

--- The entry of a key, or nil. Its `after` is the next one; the first is `ordered.first`.
function Ordered:find(key)
   return self.entries[key]
end

--- Takes a key out, if it is there. Returns the entry that it had, or nil.
function Ordered:remove(key)
   local entry = self.entries[key]
   if not entry then
      return nil
   end
   local before, after = entry.before, entry.after
   if before then
      before.after = after
   else
      self.first = after
   end
   if after then
      after.before = before
   else
      self.last = before
   end
   self.entries[key] = nil
   self.count = self.count - 1
   return entry
end

--- Makes an ordered table, which is empty. Its `count` is how many keys it has.
return function()
   return setmetatable({ entries = {}, count = 0 }, Ordered)
end
