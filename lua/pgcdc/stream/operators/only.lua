-- pgcdc.stream.operators.only: what matches, and deletes of what does not match any more.
-- SPDX-License-Identifier: MIT
--
-- only
--
-- A target after such an operator has the rows that match, and no others, if it was empty at first.
-- A row that does not match becomes a delete, if it may have been passed on before:
--
--    op               does not match                        matches
--    read             a delete, for mirrors alone           passes
--    insert           nothing: the row is new               passes
--    upsert           a delete                              passes
--    update           a delete; nothing if the old row is   passes; as an insert if the old row
--                     known and did not match               is known and did not match
--    delete           passes; nothing if the old row is known and did not match
--
-- When a table is read again, a row with op `read` may have been passed on by an earlier run. Only
-- mirrors get its delete, since one of a row that they do not have changes nothing there.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local by_hand = require "pgcdc.change"
local stream = require "pgcdc.stream.stream"

-- Operators that pass a delete on as a delete.
local shapers = { select = true, drop = true, rename = true, add = true, mask = true,
                  union = true, stream = true }

-- True if all that comes after this node are mirrors.
local function ends_in_mirrors(node, seen)
   if node.kind == "sink" then
      return type(node.about) == "table" and node.about.is_by_key == true
   elseif not shapers[node.kind] or seen[node] then
      return false
   end
   seen[node] = true
   for _, consumer in ipairs(node.consumers) do
      if not ends_in_mirrors(consumer.node, seen) then
         return false
      end
   end
   return #node.consumers > 0
end

-- Passes a delete on to those consumers that are nothing but mirrors.
local function tell_mirrors(node, change)
   local delete
   for _, consumer in ipairs({ table.unpack(node.consumers) }) do
      if ends_in_mirrors(consumer.node, {}) then
         delete = delete or raw.change_delete(change)
         consumer.f(delete)
      end
   end
end

-- Whether the old row matches; nil where it is not known.
local function old_matches(f, change)
   local old = change.old
   if type(old) ~= "table" then
      return nil
   end
   local before = raw.clone(change)
   before.row = before.old
   return f(before) and true or false
end

-- What becomes of a row of a script's own that does not match: a delete, whose key is the row.
local function delete_row(row)
   return by_hand.make { op = "delete", table = "row", key = row }
end

--- only(f, ...): passes x on if f(x, ...), else a delete of it where it may have been passed on.
stream.operator("only", function(node, _, f, ...)
   check.type("only: f", f, "function")
   node.about = f
   local n, rest = select("#", ...), table.pack(...)
   local function matches(x)
      if n == 0 then
         return f(x)
      end
      return f(x, table.unpack(rest, 1, n))
   end

   local function pass_delete(change)
      if old_matches(matches, change) ~= false then
         node.out(change)
      end
   end
   local function pass(change, op)
      if op == "update" and old_matches(matches, change) == false then
         change = raw.clone(change)
         change.op = "insert"
      end
      node.out(change)
   end
   local function drop(change, op)
      if op == "read" then
         tell_mirrors(node, change)
      elseif op ~= "insert" and old_matches(matches, change) ~= false then
         node.out(raw.change_delete(change))
      end
   end

   node.input = function(x)
      if not raw.is_change(x) then
         if matches(x) then
            node.out(x)
         else
            by_hand.of("only", x) -- raises unless it is a row
            node.out(delete_row(x))
         end
         return
      end
      local op = x.op
      if op == "delete" then
         pass_delete(x)
      elseif matches(x) then
         pass(x, op)
      else
         drop(x, op)
      end
   end
end)
