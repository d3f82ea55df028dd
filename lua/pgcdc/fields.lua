-- pgcdc.fields: fields of changes, rows and keys that may be absent, and plain copies of these.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

local fields = {}

--- The field of a change, a row, a key or any other table, or nil if it is absent. (To index a
--- change, a row or a key without that field is an error.)
function fields.get(t, name)
   check.type("get: its first argument", t, "table")
   return raw.get(t, name)
end

--- A plain table with the same fields, NULLs left out, that shares nothing with `t`: for libraries
--- that look into tables by themselves.
function fields.copy(t)
   check.type("copy: its argument", t, "table")
   if not raw.is_part(t) then
      return raw.clone(t)
   end
   local copy = {}
   for name, value in pairs(t) do
      if type(value) == "table" then
         value = fields.copy(value)
      end
      copy[name] = value
   end
   return copy
end

raw.methods { get = fields.get, copy = fields.copy }

return fields
