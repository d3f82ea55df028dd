-- pgcdc.change: changes that a script makes by hand.
-- SPDX-License-Identifier: MIT
--
-- Operators and sinks take such a change as any other. A row, or an old row, that was taken from
-- another change keeps its columns and types; a plain table becomes a row with these columns,
-- sorted by name, whose values are of any type.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local sorted = require("pgcdc.names").sorted

local change = {}

local fields = { op = true, table = true, key = true, row = true, old = true, schema = true,
                 database = true, source = true, xid = true, seq = true, ts = true, id = true }
local ops = { read = true, upsert = true, insert = true, update = true, delete = true }

local run_name -- a text that no other run of the program has, for ids
local count = 0

-- Columns and key as text -> class of the changes that have them.
local classes = setmetatable({}, { __mode = "v" })

--- Raises unless the value is a table with named fields. `what`: how the error names it.
function change.check_row(what, row)
   check.type(what, row, "table")
   if raw.is_part(row) then
      return
   end
   for name in next, row do
      if type(name) ~= "string" then
         check.fail("%s must have named fields, and one is named by a %s%s", what, type(name),
            name == 1 and ": is it a list? (flatten() takes lists apart)" or "")
      elseif name:find "\0" then
         check.fail("%s has a field with a zero byte in its name", what)
      end
   end
end

-- The names in a table: of a row or a key in the order of its columns, else sorted.
local function names_of(t)
   if not raw.is_part(t) then
      return sorted(t)
   end
   local names = {}
   for name in pairs(t) do
      names[#names + 1] = name
   end
   return names
end

-- A new id.
local function new_id(table_name)
   run_name = run_name or ("%s-%.6f"):format(tostring({}):match "0x(%x+)", raw.now())
   count = count + 1
   return ("%s/%s/%d"):format(table_name, run_name, count)
end

-- The class of changes with the row's columns and the key's. `spec`: what the script gave.
local function class_of(spec, row_names, key_names)
   local names, places = {}, {}
   local function add(name)
      if not places[name] then
         names[#names + 1] = name
         places[name] = #names
      end
   end
   for _, name in ipairs(row_names) do
      add(name)
   end
   local facts = { database = spec.database or "", schema = spec.schema or "", table = spec.table,
                   source = spec.source or spec.table, names = names, n_row = #names, key = {} }
   for i, name in ipairs(key_names) do
      add(name)
      facts.key[i] = places[name]
   end
   local signature = raw.encode { facts.database, facts.schema, facts.table, facts.source,
                                  raw.encode(names), facts.n_row, raw.encode(facts.key) }
   local class = classes[signature]
   if not class then
      class = raw.change_class(facts)
      classes[signature] = class
   end
   return class
end

-- Returns a clone of the row, if it is a plain table; else nil, and a clone of the row.
local function split(row)
   if row and raw.is_part(row) then
      return nil, raw.clone(row)
   end
   return row and raw.clone(row), nil
end

-- Makes a change; the fields of `spec` were checked.
local function make(spec)
   local key = spec.key or {}
   local row, own_row = split(spec.row)
   local old, own_old = split(spec.old)
   local class = class_of(spec, row and names_of(row) or {}, names_of(key))
   local made = raw.change_new(class, spec.op, row or own_row and {}, raw.clone(key))
   if own_row then
      made.row = own_row
   end
   if old then
      own_old = raw.change_row(class_of(spec, names_of(old), {}), old)
   end
   made.old = own_old
   made.xid, made.seq, made.ts = spec.xid, spec.seq, spec.ts
   made.id = spec.id or new_id(spec.table)
   return made
end

--- Makes a change. `spec`: {op =, table =, key =, row =, old =} and what else a change has.
function change.make(spec)
   local what = "pgcdc.change"
   check.type(what .. ": its argument", spec, "table")
   check.fields(what, spec, fields)
   check.one_of(what .. ": op", spec.op, ops)
   for _, name in ipairs { "table", "schema", "database", "source", "ts", "id" } do
      if spec[name] ~= nil then
         check.text(("%s: %s"):format(what, name), spec[name])
      end
   end
   if spec.table == nil then
      check.fail("%s: table is required", what)
   end
   for _, name in ipairs { "key", "row", "old" } do
      if spec[name] ~= nil then
         change.check_row(("%s: %s"):format(what, name), spec[name])
      end
   end
   if spec.row == nil and spec.op ~= "delete" then
      check.fail("%s: row is required where op is not 'delete'", what)
   elseif spec.row == nil and spec.key == nil then
      check.fail("%s: a delete needs a key", what)
   end
   for _, name in ipairs { "xid", "seq" } do
      if spec[name] ~= nil and math.type(spec[name]) ~= "integer" then
         check.fail("%s: %s must be a whole number", what, name)
      end
   end
   return make(spec)
end

--- A change with these values, of a sink's own.
function change.of_values(op, table_name, key, row)
   return make { op = op, table = table_name, key = key, row = row }
end

--- A change is returned as it is; for a table with named fields, an upsert that has it as its row.
--- `what`: how errors name the caller.
function change.of(what, value)
   if raw.is_change(value) then
      return value
   end
   if type(value) ~= "table" then
      check.fail("%s: takes changes and tables with named fields, not a %s", what, type(value))
   end
   change.check_row(what .. ": a row", value)
   return make { op = "upsert", table = "", row = value }
end

return change
