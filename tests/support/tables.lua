-- tables.lua: Lua tables made of others.
-- SPDX-License-Identifier: MIT

local tables = {}

-- A new table with the fields of all of these; of two with one name the later counts. nil counts as
-- an empty table.
function tables.merge(...)
   local all = {}
   for i = 1, select("#", ...) do
      for name, value in pairs((select(i, ...)) or {}) do
         all[name] = value
      end
   end
   return all
end

-- The same, but what is false is left out.
function tables.replace(...)
   local all = tables.merge(...)
   for name, value in pairs(all) do
      all[name] = value or nil
   end
   return all
end

-- A new list of the members of both; nil is an empty one.
function tables.join(first, second)
   local all = table.move(first or {}, 1, #(first or {}), 1, {})
   return table.move(second or {}, 1, #(second or {}), #all + 1, all)
end

return tables
