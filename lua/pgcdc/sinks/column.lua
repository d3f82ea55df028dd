-- pgcdc.sinks.column: a column of a change, for texts that depend on it.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

--- Returns the value of that column of the row, of a delete that of the old row or the key; nil is
--- NULL. Raises an error, which begins with `what`, if there is no such column.
return function(what, change, name)
   local row = change.row or change.old or change.key
   local value = raw.get(row, name)
   if value ~= nil then
      return value
   end
   local columns = {}
   for column in pairs(row) do
      if column == name then
         return nil
      end
      columns[#columns + 1] = column
   end
   error(("%s: %s of %s.%s has no column '%s'%s"):format(what,
      change.op == "delete" and "a delete" or "a change", change.schema, change.table, name,
      change.op == "delete" and ": say old = true at its source"
         or check.nearest(name, columns)), 0)
end
