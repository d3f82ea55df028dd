-- pgcdc.names: lists of names, and names in SQL.
-- SPDX-License-Identifier: MIT

local names = {}

-- Those of Postgres that stand for no name of a table, column, role or database.
local reserved = {}
for word in ([[all analyse analyze and any array as asc asymmetric authorization both case cast
      check collate collation column concurrently constraint create cross current_date current_role
      current_user default deferrable desc distinct do else end except false fetch for foreign
      freeze from full grant group having ilike in initially inner intersect into is isnull join
      lateral leading left like limit localtime natural not notnull null offset on only or order
      outer overlaps placing primary references returning right select session_user similar some
      symmetric table tablesample then to trailing true union unique user using variadic verbose
      when where window with]]):gmatch "%S+" do
   reserved[word] = true
end

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

--- The same, without quotes where the name needs none. (Words that SQL reserves get them.)
function names.plain(name)
   return name:find "^[a-z_][a-z0-9_]*$" and not reserved[name] and name or names.quote(name)
end

return names
