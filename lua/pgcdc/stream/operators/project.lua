-- pgcdc.stream.operators.project: select, drop, rename, add, mask: changes with other columns.
-- SPDX-License-Identifier: MIT
--
-- Each makes a new change of a change; other consumers of the old one do not see that. A spec says
-- what an operator does; `raw.projection` (see src/lua/project.h) makes a function of it:
--    what       the operator
--    names      old name -> new name, or false where it is dropped
--    keep       whether names that are not in there stay
--    wanted     names that must be there
--    order      the columns of the row, where the operator says it
--    functions  name -> f(value, change) -> new value
--    computed   the names of these, sorted
--    are_texts  set of those that give text, whatever the type of the column
--    adds       whether names of `computed` may be new
-- Columns are not known before the first change comes: only then a wrong name is an error.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local check_row = require("pgcdc.change").check_row
local copy = require("pgcdc.fields").copy
local sorted = require("pgcdc.names").sorted
local stream = require "pgcdc.stream.stream"

local function set_of(list)
   local set = {}
   for i, name in ipairs(list) do
      set[name] = i
   end
   return set
end

-- ---- columns ----

-- The names of what scripts have added to the row, as a list.
local function extras_of(facts)
   local extras, seen = {}, set_of(facts.row)
   local function add(name)
      if type(name) == "string" and not seen[name] then
         seen[name] = true
         extras[#extras + 1] = name
      end
   end
   for _, name in ipairs(facts.assigned or {}) do
      add(name)
   end
   for name in pairs(type(facts.plain) == "table" and facts.plain or {}) do
      add(name)
   end
   return extras
end

local function check_names(spec, facts, extras)
   local known = {}
   for _, list in ipairs { facts.row, facts.key_only, extras } do
      for _, name in ipairs(list) do
         known[name] = true
      end
   end
   for _, name in ipairs(spec.wanted) do
      if not known[name] then
         check.fail("%s: %s.%s has no column '%s'%s", spec.what, facts.schema, facts.table, name,
            check.nearest(name, sorted(known)))
      end
   end
end

-- The new name of a column; nil where it is dropped.
local function new_name(spec, name)
   local to = spec.names[name]
   if to == nil and spec.keep then
      return name
   end
   return to or nil
end

-- Raises where two columns would have the same name.
local function check_renamed(spec, columns, extras)
   local seen = {}
   local function add(name)
      if seen[name] then
         check.fail("%s: there is a column '%s' already", spec.what, name)
      end
      seen[name] = true
   end
   for _, column in ipairs(columns) do
      add(column.name)
   end
   for _, name in ipairs(extras) do
      add(new_name(spec, name))
   end
end

-- Adds the columns of the old row that have these names; `offset` others stand before them there.
local function add_old(spec, columns, names, offset)
   for i, name in ipairs(names) do
      local to = new_name(spec, name)
      if to then
         local f = not (spec.adds and offset > 0) and spec.functions[name] or nil
         columns[#columns + 1] =
            { name = to, from = offset + i, f = f, text = f and spec.are_texts[name] }
      end
   end
end

-- Adds the columns that `spec.order` names, in that order.
local function add_ordered(spec, columns, facts)
   local places, key_only = set_of(facts.row), set_of(facts.key_only)
   for _, name in ipairs(spec.order) do
      if not key_only[name] then
         columns[#columns + 1] = { name = name, from = places[name] }
      end
   end
end

-- Adds the columns that are computed and that the old row does not have.
local function add_new(spec, columns, facts)
   local places, key_only = set_of(facts.row), set_of(facts.key_only)
   for _, name in ipairs(spec.computed) do
      if not places[name] and (spec.adds or not key_only[name]) then
         columns[#columns + 1] = { name = name, f = spec.functions[name], text = true }
      end
   end
end

-- The places of the columns that are computed, by name.
local function order_of(columns)
   local places, order = {}, {}
   for i, column in ipairs(columns) do
      if column.f then
         places[column.name] = i
      end
   end
   for i, name in ipairs(sorted(places)) do
      order[i] = places[name]
   end
   return order
end

-- True if ids must not show the key, since a column of it is dropped or computed.
local function hides_key(spec, facts)
   local row = set_of(facts.row)
   for name in pairs(facts.key) do
      if not new_name(spec, name) or (spec.functions[name] and (row[name] or not spec.adds)) then
         return true
      end
   end
   return false
end

-- The layout of what the operator makes of the changes of one row class. For `facts` and the layout
-- see src/lua/project.h.
local function resolve(spec, facts)
   local columns, extras = {}, extras_of(facts)
   check_names(spec, facts, extras)
   if spec.order then
      add_ordered(spec, columns, facts)
   else
      add_old(spec, columns, facts.row, 0)
      add_new(spec, columns, facts)
   end
   local n_row = #columns
   add_old(spec, columns, facts.key_only, #facts.row)
   if spec.what == "rename" then
      check_renamed(spec, columns, extras)
   end
   return {
      columns = columns, n_row = n_row, order = order_of(columns),
      hides_key = hides_key(spec, facts),
   }
end

-- ---- plain tables ----

-- The value of a computed column in a key: that in the row, unless the script gave the key another
-- value.
local function key_value(spec, name, value, values, change)
   local row = change.row
   if spec.adds or type(row) ~= "table" or raw.get(row, name) == value then
      return values[name]
   end
   return spec.functions[name](value, change)
end

-- Makes the new table for `old`, a plain one that a script has put in the place of the row, the key
-- or the old row. `values`: what the functions gave for `change`, by name; `what`: "row" or "key".
local function part(spec, old, values, what, change)
   local new = {}
   for name, value in next, old do
      local to = new_name(spec, name)
      if to ~= nil and not spec.functions[name] then
         new[to] = raw.clone(value)
      end
   end
   for _, name in ipairs(spec.computed) do
      local value = rawget(old, name)
      if what == "row" and (spec.adds or value ~= nil) then
         new[name] = values[name] == nil and raw.null or values[name]
      elseif value ~= nil then
         new[name] = key_value(spec, name, value, values, change)
      end
   end
   return new
end

-- ---- rows that are no part of a change ----

-- Raises unless the row has all the names that the operator wants.
local function check_row_names(spec, row)
   for _, name in ipairs(spec.wanted) do
      if row[name] == nil then
         check.fail("%s: the row has no field '%s'%s", spec.what, name,
            check.nearest(name, sorted(row)))
      end
   end
   local seen = {}
   for name in pairs(row) do
      local to = new_name(spec, name)
      if to and seen[to] then
         check.fail("%s: there is a field '%s' already", spec.what, to)
      end
      seen[to or false] = true
   end
end

-- A function that makes new rows of rows: tables with named fields. A name that the first row lacks
-- is an error; in later rows a missing field counts as nil.
local function project_rows(spec)
   local is_checked = false
   return function(row)
      if type(row) ~= "table" then
         error(("%s: takes changes and tables with named fields, not a %s"):format(spec.what,
            type(row)), 0)
      end
      check_row(spec.what .. ": a row", row)
      row = raw.is_part(row) and copy(row) or row
      if not is_checked then
         check_row_names(spec, row)
         is_checked = true
      end
      local values = {}
      for _, name in ipairs(spec.computed) do
         values[name] = spec.functions[name](row[name], row)
      end
      return part(spec, row, values, "row", row)
   end
end

-- ---- operators ----

local function set_input(node, spec)
   spec.names = spec.names or {}
   spec.wanted = spec.wanted or {}
   spec.functions = spec.functions or {}
   spec.computed = sorted(spec.functions)
   spec.are_texts = spec.are_texts or {}
   spec.salt = spec.salt or ""
   spec.resolve = function(facts)
      return resolve(spec, facts)
   end
   spec.part = function(...)
      return part(spec, ...)
   end
   local projection, row_projection = raw.projection(spec), project_rows(spec)
   node.input = function(value)
      node.out((raw.is_change(value) and projection or row_projection)(value))
   end
   function node:columns(change)
      if not spec.adds then -- functions of `mask` are not called for NULL
         local ok, result = pcall(projection, change)
         if ok then -- a name may be one that a script adds to the row before
            stream.pass_columns(self, result)
         end
      end
   end
end

-- A table whose keys are names of columns; not empty.
local function by_column(what, given)
   check.type(what .. ": the columns", given, "table")
   if next(given) == nil then
      check.fail("%s must name at least one column", what)
   end
   for name in pairs(given) do
      check.text(what .. ": the name of a column", name)
   end
   return given
end

local function names_of(what, given)
   return { table.unpack(check.names(what, check.type(what .. ": the columns", given,
      "table", "string"))) }
end

stream.operator("select", function(node, _, columns)
   local list, names = names_of("select", columns), {}
   for _, name in ipairs(list) do
      names[name] = name
   end
   set_input(node, { what = "select", names = names, wanted = list, order = list })
end)

stream.operator("drop", function(node, _, columns)
   local list, names = names_of("drop", columns), {}
   for _, name in ipairs(list) do
      names[name] = false
   end
   set_input(node, { what = "drop", keep = true, names = names, wanted = list })
end)

stream.operator("rename", function(node, _, given)
   local names, taken = {}, {}
   for _, name in ipairs(sorted(by_column("rename", given))) do
      local to = check.text(("rename: the new name of '%s'"):format(name), given[name])
      if taken[to] then
         check.fail("rename: '%s' and '%s' would both be '%s'", taken[to], name, to)
      end
      names[name], taken[to] = to, name
   end
   set_input(node, { what = "rename", keep = true, names = names, wanted = sorted(names) })
end)

stream.operator("add", function(node, _, given)
   local functions = {}
   for name, f in pairs(by_column("add", given)) do
      check.type(("add: the value of '%s'"):format(name), f, "function")
      functions[name] = function(_, change)
         return f(change)
      end
   end
   set_input(node, { what = "add", keep = true, adds = true, functions = functions })
end)

local function text_of(value)
   return type(value) == "table" and raw.encode(value) or tostring(value)
end

local function redact()
   return "***"
end

-- Returns a function that keeps the first `n` characters of a value and writes "***" for the rest.
-- What is kept ends before bytes that are not UTF-8.
local function shortener(n)
   return function(value)
      local text = text_of(value):sub(1, 4 * n)
      local _, bad = utf8.len(text)
      text = bad and text:sub(1, bad - 1) or text
      return text:sub(1, (utf8.offset(text, n + 1) or #text + 1) - 1) .. "***"
   end
end

local function hasher(salt)
   return function(value)
      return raw.sha256(salt .. text_of(value))
   end
end

-- Returns the function that masks a column, and whether its results are text.
local function masker(name, how, salt)
   local what = ("mask: the way of '%s'"):format(name)
   if type(how) == "function" then
      return how, false
   elseif type(how) == "table" then
      local keep = check.taken(what, how, { keep = true }).keep
      if math.type(keep) ~= "integer" or keep < 0 then
         check.fail("mask: keep of '%s' must be a number of characters", name)
      end
      return shortener(keep), true
   end
   check.type(what, how, "string", "table", "function")
   check.one_of(what, how, { sha256 = true, redact = true })
   return how == "redact" and redact or hasher(salt), true
end

stream.operator("mask", function(node, _, given, options)
   options = stream.options("mask", options, { salt = true })
   local salt = options.salt == nil and "" or check.type("mask: salt", options.salt, "string")
   local functions, are_texts = {}, {}
   for name, how in pairs(by_column("mask", given)) do
      local f
      f, are_texts[name] = masker(name, how, salt)
      functions[name] = function(value, change)
         if value ~= nil then -- NULL stays NULL
            return f(value, change)
         end
      end
   end
   set_input(node, {
      what = "mask", keep = true, salt = salt, functions = functions, are_texts = are_texts,
      wanted = sorted(functions),
   })
end)
