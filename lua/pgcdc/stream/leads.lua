-- pgcdc.stream.leads: where all goes that a source finds.
-- SPDX-License-Identifier: MIT

local recovery = require "pgcdc.delivery.recovery"

local leads = {}

-- Events of handlers that get changes.
local is_of_changes = { change = true, read = true, upsert = true, insert = true, update = true,
                        delete = true }

-- Operators that pass on at once what they make of a value, and keep nothing of it.
local at_once = {
   map = true, starmap = true, filter = true, remove = true, pluck = true, flatten = true,
   concat = true, select = true, drop = true, rename = true, add = true, mask = true,
   debezium = true, cloudevents = true,
}

--- True if all that the consumers get goes at once to sinks that are exact, and to nobody else.
function leads.exactly(consumers)
   for _, entry in ipairs(consumers) do
      local node = entry.node
      local target = node and node.kind == "sink" and node.about
      if target then
         if type(target) ~= "table" or not recovery.is_exact_sink(target) then
            return false
         end
      elseif node and not (at_once[node.kind] and leads.exactly(node.consumers)) then
         return false
      elseif entry.event and is_of_changes[entry.event] then
         return false
      end
   end
   return true
end

-- Operators that pass values on, remember nothing and do nothing else.
local passive = { sink = true, filter = true, remove = true, select = true, drop = true,
                  rename = true, add = true, mask = true, union = true, stream = true }

--- True if all that the source finds goes to these sinks, a set, and nothing else comes of it.
function leads.only_to(source, sinks)
   local seen, todo = {}, { source }
   while #todo > 0 do
      local at = table.remove(todo)
      for _, consumer in ipairs(not seen[at] and at.consumers or {}) do
         local node = consumer.node
         if not node or not passive[node.kind] or node.kind == "sink" and not sinks[node.about] then
            return false
         end
         todo[#todo + 1] = node
      end
      seen[at] = true
   end
   return true
end

return leads
