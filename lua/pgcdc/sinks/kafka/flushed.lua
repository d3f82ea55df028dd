-- pgcdc.sinks.kafka.flushed: finding the records of a flush again.
-- SPDX-License-Identifier: MIT
--
-- A flush is of several sinks: a list of parts {sink =, seal = up to where, base = number of
-- records before it}.

local flushed = {}

--- The part that has the record of this index, and its number there.
function flushed.find(parts, index)
   for i = #parts, 1, -1 do
      if index > parts[i].base then
         return parts[i], index - parts[i].base
      end
   end
end

--- The topics of these records, a set of indices.
function flushed.topics(parts, wanted)
   local topics = {}
   for _, part in ipairs(parts) do
      local of = part.sink
      if next(of.new_shapes) then
         topics[0] = of.shapes
      end
      for number, _, _, topic in of:records(part.seal) do
         if wanted[part.base + number] then
            topics[part.base + number] = of.dead[number] and of.dead_topic or topic
         end
      end
   end
   return topics
end

return flushed
