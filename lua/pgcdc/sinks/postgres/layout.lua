-- pgcdc.sinks.postgres.layout: which columns of changes go over, under which names.
-- SPDX-License-Identifier: MIT
--
-- A *form* is what changes with one metatable have in common: {layout =, plan =, gone =, key =,
-- added =}; its plans turn changes into the lines of its layout. A *layout* is a list of columns:
-- {columns =, key =, lines =, gone = lines of deletes}; forms with the same columns share one.

local raw = require "pgcdc.raw"

local layout = {}

local HISTORY = { "op", "valid_from", "valid_to" }

-- The type of a column that a script added, by one of its values.
local function type_of(value)
   local types = { boolean = "boolean", table = "jsonb", number = math.type(value) == "integer"
      and "bigint" or "double precision" }
   return types[type(value)] or "text"
end

-- Columns that are in the row but not in its form, which scripts added.
local function find_added(change, known, added)
   local row = raw.copy_added(change)
   if type(row) ~= "table" then
      error(("the row of a change is a %s"):format(type(row)), 0)
   end
   local names = {}
   for name in pairs(row) do
      if type(name) ~= "string" then
         error(("the row of a change has a key that is a %s"):format(type(name)), 0)
      end
      names[#names + 1] = not known[name] and name or nil
   end
   table.sort(names)
   for _, name in ipairs(names) do
      known[name] = true
      added[#added + 1] = { name = name, type = type_of(row[name]), kind = "text" }
   end
   return added
end

-- The columns that make the key, out of `columns`.
local function find_key(sink, columns)
   local key = {}
   if sink.pk then
      for i, name in ipairs(sink.pk) do
         for _, column in ipairs(columns) do
            if column.name == name or column.target == name and not key[i] then
               key[i] = column
            end
         end
         if not key[i] then
            error(("pk names '%s', and the changes have no such column"):format(name), 0)
         end
      end
   else
      for _, column in ipairs(columns) do
         if column.key then
            key[column.key] = column
         end
      end
   end
   if #key == 0 and sink.mode ~= "append" then
      error("the changes have no key: name columns as pk=", 0)
   end
   return key
end

-- The columns that go over, with the names that they have there.
local function choose_columns(sink, all, added)
   local columns, by_target, left = {}, {}, {}
   for name in pairs(sink.rename) do
      left[name] = true
   end
   for i, column in ipairs(all) do
      column.slot = i
   end
   for _, list in ipairs { all, added } do
      for _, column in ipairs(list) do
         column.target = sink.rename[column.name] or column.name
         left[column.name] = nil
         if column.in_row ~= false or sink.mode ~= "append" and (column.key or sink.pk) then
            if by_target[column.target] then
               error(("two columns are named '%s' in the target"):format(column.target), 0)
            end
            by_target[column.target] = true
            columns[#columns + 1] = column
            column.place = #columns
         end
      end
   end
   if next(left) then
      error(("rename names '%s', and the changes have no such column"):format(next(left)), 0)
   end
   for _, name in ipairs(sink.mode == "history" and HISTORY or {}) do
      if by_target[name] then
         error(("a column is named '%s', as one of those that a history adds: give it another name"
            .. " with rename="):format(name), 0)
      end
   end
   return columns
end

local function signature(columns, key)
   local words = {}
   for i, column in ipairs(columns) do
      words[i] = ("%q %q %s %s"):format(column.target, column.type, column.kind, column.wants_json)
   end
   for _, column in ipairs(key) do
      words[#words + 1] = column.place
   end
   return table.concat(words, "\n")
end

local function slots_of(columns)
   local slots = {}
   for i, column in ipairs(columns) do
      slots[i] = column.slot or column.name
   end
   return slots
end

--- Learns how changes of this kind become lines. `sink`: {pk =, mode =, rename =}; `layouts`: those
--- that there are, by signature; `form`: what was known before, or nil. Returns the form.
function layout.learn(sink, layouts, change, form)
   local all = raw.copy_columns(change)
   local known, added = {}, {}
   for _, column in ipairs(all) do
      known[column.name] = true
   end
   for _, column in ipairs(form and form.added or {}) do
      known[column.name] = true
      added[#added + 1] = column
   end
   find_added(change, known, added)
   local columns = choose_columns(sink, all, added)
   local key = find_key(sink, columns)
   local sign = signature(columns, key)
   local rows = layouts[sign]
   if not rows then
      rows = { columns = columns, key = key, lines = raw.copy_lines(),
               gone = sink.mode == "mirror" and raw.copy_lines() or nil }
      layouts[sign] = rows
   end
   local tail = sink.mode == "history" and "version" or ""
   form = { layout = rows, added = added, key = key,
            plan = raw.copy_plan(change, rows.lines, slots_of(columns), tail, known) }
   if sink.mode == "mirror" then
      form.gone = raw.copy_plan(change, rows.gone, slots_of(key), "count", known)
   end
   return form
end

return layout

