-- pgcdc.sinks.postgres.layout: which columns of changes go to the target, under which names.
-- SPDX-License-Identifier: MIT
--
-- A *layout* is a list of columns in the target, with the rows that wait to go there:
--    {columns =, key = those of them that identify a row, lines = rows as lines of a COPY,
--     deletes = in a mirror, keys of deleted rows as lines of another COPY,
--     by_table = what raw.copy_columns calls `table_id` -> the columns of the changes from there,
--     in the order of `columns`, with its `numbers`, `dropped` and `started`,
--     lacking = names of columns that are not in it though the changes have them, see partial}
-- A *mapping* makes such lines of all changes that have the same metatable: those of one source,
-- until its columns change. Mappings to the same columns share a layout:
--    {layout =, plan = makes lines of rows, delete_plan = in a mirror, makes lines of deletes,
--     key = the columns of the key, added = columns that scripts have added to rows, n_assigned =
--     that of the sink when it was made}
-- The plans are made by raw.copy_plan, see src/lua/api_copy.h. A column is what raw.copy_columns
-- says, with `whole`, its type as a part (see parts), `asked`, the name that it is to have there,
-- `target`, the one that it has, `to`, that column, as target knows it, `place`, its number in the
-- layout, `from`, its number among the columns of the change (nil: a script added it), and
-- `is_assigned`: a script may have given it values.
--
-- A sink remembers in which columns of the target scripts' values came, and from then on expects
-- them there of all changes: so those of other streams, too, come into one layout, in order.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local postgres_parts = require "pgcdc.sinks.postgres.parts"

local layout = {}

local HISTORY = { "op", "valid_from", "valid_to" }

-- The type of a column that a script added, guessed from one of its values.
local function type_of(value)
   local types = { boolean = "boolean", table = "jsonb", number = math.type(value) == "integer"
      and "bigint" or "double precision" }
   return types[type(value)] or "text"
end

-- Appends to `added` the columns that scripts have added to the row and that are not in `known`,
-- and adds them there.
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

-- Those of the columns that identify a row. Raises an error if there are none and the mode needs
-- them.
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

-- The columns that go to the target, with the names that they have there.
local function choose_columns(sink, all, added)
   local columns, by_target, left = {}, {}, {}
   for name in pairs(sink.rename) do
      left[name] = true
   end
   for i, column in ipairs(all) do
      column.from = i
   end
   for _, list in ipairs { all, added } do
      for _, column in ipairs(list) do
         column.target = sink.rename[column.name] or column.name
         column.asked = column.target
         column.whole = postgres_parts.read(column.parts, column.base_type or column.type)
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
      local names = {}
      for i, column in ipairs(columns) do
         names[i] = column.name
      end
      error(("rename names '%s', and the changes have no such column%s"):format(next(left),
         check.nearest(next(left), names)), 0)
   end
   for _, name in ipairs(sink.mode == "history" and HISTORY or {}) do
      if by_target[name] then
         error(("a column is named '%s', as one of those that a history adds: give it another name"
            .. " with rename="):format(name), 0)
      end
   end
   return columns
end

-- Takes the columns with these names out of the list. Returns a list of them.
local function leave_out(columns, names)
   local left, n = {}, #columns
   for i = 1, n do
      local column = columns[i]
      columns[i] = nil
      if names[column.name] then
         left[#left + 1] = column.name
      else
         column.place = i - #left
         columns[column.place] = column
      end
   end
   return left
end

-- Marks the columns to which a script gives values, in this change or an earlier one.
local function mark_assigned(sink, change, all, columns)
   local function set(column)
      if column.asked and column.base_type and not sink.assigned[column.asked] then
         sink.assigned[column.asked] = true
         sink.n_assigned = sink.n_assigned + 1
      end
   end
   for _, number in ipairs(raw.copy_assigned(change)) do
      set(all[number])
   end
   for _, column in ipairs(columns) do
      if column.is_computed then
         set(column)
      end
   end
   for _, column in ipairs(columns) do
      column.is_assigned = sink.assigned[column.asked] or false
   end
end

-- A text that is the same for layouts that can be one.
local function signature_of(columns, key)
   local parts = {}
   for i, column in ipairs(columns) do
      parts[i] = ("%q %q %s %s %s %s %q %q"):format(column.target, column.type, column.kind,
         column.wants_json, column.is_own, column.is_assigned, column.base_type or "",
         column.parts or "")
   end
   for _, column in ipairs(key) do
      parts[#parts + 1] = column.place
   end
   return table.concat(parts, "\n")
end

-- True if the columns of these changes have other numbers than those from the same table that the
-- layout has already.
local function is_renumbered(to, id, columns)
   for place, column in ipairs(to.by_table[id] or {}) do
      if column.number ~= columns[place].number then
         return true
      end
   end
   return false
end

-- True if rows from that table went to another layout since they went to this one: a column has got
-- another type, and the old one again. What comes now is to be written after those.
local function is_overtaken(sink, to, id)
   for i = to.is_used and to.by_table[id] and to.order + 1 or #sink.used + 1, #sink.used do
      if sink.used[i].by_table[id] then
         return true
      end
   end
   return false
end

-- Where the values of these columns are in a change: a column's number, or the name of one that a
-- script added.
local function origins_of(columns)
   local origins = {}
   for i, column in ipairs(columns) do
      origins[i] = column.from or column.name
   end
   return origins
end

-- Whether a script may have given values, for each of the columns.
local function assigned_of(columns)
   local assigned = {}
   for i, column in ipairs(columns) do
      assigned[i] = column.is_assigned or not column.base_type
   end
   return assigned
end

-- The layout with these columns; `layouts`: those that there are, by signature; `all`: what
-- raw.copy_columns returned, or a list.
local function layout_with(sink, layouts, columns, key, all, lacking)
   local signature = signature_of(columns, key) .. (lacking and "\npartial" or "")
   local to = layouts[signature]
   if not to or all.table_id and (is_renumbered(to, all.table_id, columns)
      or is_overtaken(sink, to, all.table_id)) then
      to = { columns = columns, key = key, lines = raw.copy_lines(), by_table = {},
             deletes = sink.mode == "mirror" and raw.copy_lines() or nil, lacking = lacking }
      layouts[signature] = to
      for _, column in ipairs(key) do
         column.is_key = true
      end
   end
   local seen = all.table_id and to.by_table[all.table_id]
   if all.table_id and (not seen or seen.started ~= all.started) then
      columns.numbers, columns.dropped, columns.started = all.numbers, all.dropped, all.started
      to.by_table[all.table_id], to.generation = columns, nil
   end
   return to
end

--- The layout of rows with these columns, which are no changes of a source: see own_rows.
function layout.own(sink, layouts, all)
   local columns = choose_columns(sink, {}, all)
   return layout_with(sink, layouts, columns, find_key(sink, columns), all)
end

--- Makes the mapping of changes like this one. `sink`: {pk =, mode =, rename =, assigned = set of
--- names, n_assigned = how many, see above}; `layouts`: those that there are, by signature;
--- `before`: the mapping that they had until now, or nil. `lacking`: a set of names of columns that
--- the layout is to lack, or nil.
function layout.map(sink, layouts, change, before, lacking)
   local all = raw.copy_columns(change)
   local known, added = {}, {}
   for _, column in ipairs(all) do
      known[column.name] = true
   end
   for _, column in ipairs(before and before.added or {}) do
      known[column.name] = true
      added[#added + 1] = column
   end
   find_added(change, known, added)
   local columns = choose_columns(sink, all, added)
   mark_assigned(sink, change, all, columns)
   local left = lacking and leave_out(columns, lacking)
   local key = find_key(sink, columns)
   local to = layout_with(sink, layouts, columns, key, left and {} or all, left)
   local tail = sink.mode == "history" and "version" or ""
   local mapping = { layout = to, added = added, key = key, n_assigned = sink.n_assigned,
      plan = raw.copy_plan(change, to.lines, origins_of(columns), tail, known,
         assigned_of(columns)) }
   if sink.mode == "mirror" then
      mapping.delete_plan = raw.copy_plan(change, to.deletes, origins_of(key), "count", known, {})
   end
   return mapping
end

return layout
