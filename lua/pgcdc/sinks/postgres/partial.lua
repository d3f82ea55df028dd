-- pgcdc.sinks.postgres.partial: rows of which some values are not known: `change.unchanged`.
-- SPDX-License-Identifier: MIT
--
-- A mirror leaves such columns alone. So these rows have a layout of their own, which lacks them,
-- and they update rows that are there. Layouts are written in the order in which they were first
-- used. From the first such row to the next flush, the sink remembers which layout had the last
-- change of each key: the next one of that key goes to the same or to a later one, or to a new one.

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"
local postgres_layout = require "pgcdc.sinks.postgres.layout"

local partial = {}

-- The key that the change has in the target, as text.
local function key_of(mapping, change)
   local values = {}
   for i, column in ipairs(mapping.key) do
      local value = raw.get(change.key, column.name)
      for _, field in ipairs { "row", "old" } do
         if value == nil and type(change[field]) == "table" then
            value = raw.get(change[field], column.name)
         end
      end
      values[i] = value == nil and false or value
   end
   return raw.encode(values)
end

--- The mapping for the columns that the change has. `mapping`: for all of them.
function partial.of(sink, change, mapping)
   local names, lacking = change.unchanged, {}
   if sink.mode ~= "mirror" then
      error(('the value of column "%s" is not known, since the log does not have it and an update'
         .. " left it as it was: only a mirror can leave it alone; ALTER TABLE ... REPLICA IDENTITY"
         .. ' FULL, and toast = "require"'):format(names[1]), 0)
   end
   for _, name in ipairs(names) do
      lacking[name] = true
   end
   local signature = table.concat(names, "\0")
   mapping.parts = mapping.parts or {}
   if not mapping.parts[signature] then
      mapping.parts[signature] = postgres_layout.map(sink, sink.layouts, change, mapping, lacking)
   end
   return mapping.parts[signature]
end

--- From now on the order of changes is looked after.
function partial.begin(sink)
   sink.last_of_key = sink.last_of_key or {}
end

--- Nothing waits any more.
function partial.finish(sink)
   sink.last_of_key = nil
end

--- True if the change, which goes to this layout, comes there after all that came of its key.
function partial.is_in_order(sink, change, mapping, layout)
   local last = sink.last_of_key
   local key = last and key_of(mapping, change)
   if last and last[key] and layout.order < last[key] then
      return false
   elseif last then
      last[key] = layout.order
   end
   return true
end

--- SQL for `update`, of rows that are there; `rows`: SQL of the last row of each key, as s.
function partial.statement(to, set, rows, same_key)
   return { set = #set > 0 and table.concat(set, ", "), to = to, same_key = same_key, rows = rows }
end

--- Updates the rows of a layout. Raises an error if one is not there.
function partial.update(connection, statement, layout)
   local question = answer.question(("SELECT count(*) AS n FROM %s s WHERE NOT EXISTS (SELECT FROM"
      .. " %s t WHERE %s)"):format(statement.rows, statement.to, statement.same_key),
      { n = "integer" })
   local row = connection:row(question)
   if row.n > 0 then
      error(("%d rows are not in the table, and the values of their column \"%s\" are not known:"
         .. ' ALTER TABLE ... REPLICA IDENTITY FULL of the source, and toast = "require"'):format(
         row.n, layout.lacking[1]), 0)
   end
   if statement.set then
      connection:run(("UPDATE %s AS t SET %s FROM %s s WHERE %s"):format(statement.to,
         statement.set, statement.rows, statement.same_key))
   end
end

return partial
