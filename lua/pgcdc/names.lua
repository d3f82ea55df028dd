-- pgcdc.names: lists of names, and names in SQL.
-- SPDX-License-Identifier: MIT

local names = {}

--- The keys of a table, which must all be text or all be numbers, as a sorted list.
function names.sorted(t)
   local list = {}
   for name in pairs(t) do
      list[#list + 1] = name
   end
   table.sort(list)
   return list
end

--- A name as SQL writes it, in double quotes.
function names.quote(name)
   return '"' .. name:gsub('"', '""') .. '"'
end

return names
