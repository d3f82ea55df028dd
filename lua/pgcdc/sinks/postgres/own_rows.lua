-- pgcdc.sinks.postgres.own_rows: rows of a script's own, and changes that it makes by hand.
-- SPDX-License-Identifier: MIT
--
-- The types of their columns are those of the target, which are not known before a flush. So they
-- wait as text that says what was text and what was not (see src/lua/api_tagged.h), and SQL makes
-- values of it. Where the table is to be made, types are guessed from values.
--
-- All of them have one layout, with the columns that any of them had so far: what a row lacks is
-- NULL. From the first one on a sink takes other changes in the same way, so that all stay in
-- order.

local raw = require "pgcdc.raw"
local by_hand = require "pgcdc.change"
local postgres_layout = require "pgcdc.sinks.postgres.layout"
local quote = require("pgcdc.names").quote

local own_rows = {}

-- ---- SQL ----

--- The name of a type: explicit casts to it would cut to its length if it had one.
function own_rows.type_without_length(to)
   return quote(to.type_schema) .. "." .. quote(to.type_name)
end

--- SQL for the target's value, made of the column `name` of the temporary table. `of_json(name)`:
--- SQL for the value that JSON text stands for, where that needs more than a cast.
function own_rows.expression(name, to, of_json)
   local rest = ("pg_catalog.substr(%s, 2)"):format(name)
   local bytes = ("pg_catalog.decode(%s, 'hex')"):format(rest)
   local text = ("CASE pg_catalog.left(%s, 1) WHEN 'b' THEN pg_catalog.convert_from(%s, 'UTF8')"
      .. " ELSE %s END"):format(name, bytes, rest)
   if to.type_name == "bytea" then
      return ("CASE pg_catalog.left(%s, 1) WHEN 'b' THEN %s ELSE pg_catalog.convert_to(%s, 'UTF8')"
         .. " END"):format(name, bytes, rest)
   elseif to.type_name == "json" or to.type_name == "jsonb" then
      return ("CASE pg_catalog.left(%s, 1) WHEN 'j' THEN %s::json ELSE pg_catalog.to_json(%s)"
         .. " END::%s"):format(name, rest, text, to.type_name)
   elseif of_json then
      if to.category == "A" then -- an empty table of Lua is an empty list there
         rest = ("CASE %s WHEN '{}' THEN '[]' ELSE %s END"):format(rest, rest)
      end
      return ("CASE pg_catalog.left(%s, 1) WHEN 'j' THEN %s ELSE (%s)::%s END"):format(name,
         of_json(rest), text, to.type)
   end
   return ("(%s)::%s"):format(text, own_rows.type_without_length(to))
end

-- ---- columns ----

-- The type of a column of a table that is to be made, guessed from one of its values. Numbers may
-- get a fraction later, so they are numeric, but in keys.
local function type_of(value, is_key)
   if is_key and math.type(value) == "integer" then
      return "bigint"
   end
   if type(value) == "string" then
      return (utf8.len(value) and not value:find "\0") and "text" or "bytea"
   end
   return ({ boolean = "boolean", number = "numeric", table = "jsonb" })[type(value)] or "text"
end

-- Adds a column that is not known yet.
local function add(own, name, type, in_row)
   if not own.known[name] then
      own.known[name] = true
      own.names[#own.names + 1] = { name = name, type = type, in_row = in_row }
      own.is_grown = true
   end
end

-- Adds the columns of the change, or of the row, that are not known yet.
local function add_columns(own, change, row)
   for _, typed in ipairs { row or change, change } do
      for _, column in ipairs(not raw.is_by_hand(typed) and raw.copy_columns(typed) or {}) do
         add(own, column.name, column.type, column.in_row)
      end
   end
   local names = {}
   for name in pairs(row or {}) do
      names[#names + 1] = not own.known[name] and name or nil
   end
   if row and not raw.is_part(row) then
      table.sort(names)
   end
   for _, name in ipairs(names) do
      add(own, name, type_of(raw.get(row, name), own.is_key[name]), true)
   end
   for name, value in pairs(change and change.key or {}) do
      add(own, name, type_of(value, own.is_key[name]), false)
   end
end

-- The names of the key columns of the first change, in order.
local function key_names(self, change)
   local names = {}
   for name in pairs(not self.pk and change and change.key or {}) do
      names[#names + 1] = name
   end
   return self.pk or names
end

-- The columns as layout.own takes them.
local function columns_of(own)
   local places, columns = {}, {}
   for i, name in ipairs(own.key) do
      places[name] = i
   end
   for i, column in ipairs(own.names) do
      columns[i] = { name = column.name, type = column.type, kind = "text", is_own = true,
                     in_row = column.in_row, key = places[column.name] }
   end
   return columns
end

-- The layout of all that the sink takes now.
local function layout_of(self, own)
   local layout = self.mappings.own
   if not layout or own.is_grown then
      layout = postgres_layout.own(self, self.layouts, columns_of(own))
      own.columns, own.key_columns = {}, {}
      for i, column in ipairs(layout.columns) do
         own.columns[i] = column.name
      end
      for i, column in ipairs(layout.key) do
         own.key_columns[i] = column.name
      end
      self.mappings.own, own.is_grown = layout, false
   end
   return layout
end

-- ---- taking them ----

-- The table in which the key is, and the one for what that lacks.
local function key_tables(change, row)
   local first = change and change.key or row
   return first, row or change and change.old or nil
end

local function check_key(self, own, first, second)
   for _, name in ipairs(self.mode ~= "append" and own.key_columns or {}) do
      local value = raw.get(first, name)
      if value == nil and second then
         value = raw.get(second, name)
      end
      if value == nil or value == raw.null then
         error(("a row has no '%s', which is in its key"):format(name), 0)
      end
   end
end

-- What stands after the fields of a line.
local function tail(self, op, ts)
   if self.mode == "history" then
      return op, ts
   end
end

--- True if a sink must take the value, a change or not, as this module does.
function own_rows.takes(self, value)
   return self.own ~= nil or raw.is_by_hand(value) or not raw.is_change(value)
end

--- Takes a change or a row. `use(layout)`: the layout is used; `ignore()`: a delete is left out.
function own_rows.write(self, value, use, ignore)
   local change = raw.is_change(value) and value or nil
   if not change then
      by_hand.of("pgcdc.sinks.postgres", value) -- raises unless it is a row
   end
   local row = value
   if change then
      row = change.row
   end
   local op, ts = change and change.op or "upsert", change and change.ts or raw.utc()
   if op == "delete" and self.mode == "append" then
      return ignore()
   end
   local own = self.own
   if not own then
      own = { names = {}, known = {}, key = key_names(self, change), is_key = {} }
      for _, name in ipairs(own.key) do
         own.is_key[name] = true
      end
      self.own = own
   end
   add_columns(own, change, row)
   local layout = layout_of(self, own)
   local key, other = key_tables(change, row)
   check_key(self, own, key, other)
   use(layout)
   if op == "delete" and self.mode == "mirror" then
      raw.copy_tagged(layout.deletes, own.key_columns, key, other,
         tostring((layout.lines:count())))
   elseif op == "delete" then
      raw.copy_tagged(layout.lines, own.columns, key, change.old or row, tail(self, op, ts))
   else
      raw.copy_tagged(layout.lines, own.columns, row, change and change.key, tail(self, op, ts))
   end
end

return own_rows
