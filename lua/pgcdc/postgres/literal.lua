-- pgcdc.postgres.literal: Lua values as texts that Postgres reads: arrays, rows, hstore.
-- SPDX-License-Identifier: MIT
--
-- `types` is {what = how errors name the caller, facts = f}. f(oid) returns the facts of a type, of
-- a domain those of its base: {oid =, name =, element = oid of the elements of an array,
-- delimiter =, fields = of a row, a list of {name =, oid =}, is_hstore =}.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

local literal = {}

local BYTEA, JSON, JSONB = 17, 114, 3802
local INT2VECTOR, OIDVECTOR = 22, 30
local FIRST_USER_TYPE = 16384

local function bytes(value)
   return "\\x" .. value:gsub(".", function(c)
      return ("%02x"):format(c:byte())
   end)
end

-- The shortest text that reads back as the same number.
local function number_text(value)
   if math.type(value) == "integer" then
      return tostring(value)
   elseif value ~= value or value == math.huge or value == -math.huge then
      return value ~= value and "NaN" or value > 0 and "Infinity" or "-Infinity"
   end
   for digits = 15, 17 do
      local text = ("%." .. digits .. "g"):format(value)
      if tonumber(text) == value then
         return text
      end
   end
end

-- A string as the text of a value: of bytea, its bytes.
local function string_text(types, value, oid)
   if (oid < FIRST_USER_TYPE and oid or types.facts(oid).oid) == BYTEA then
      return bytes(value)
   elseif value:find("\0", 1, true) then
      check.fail("%s: a text holds a zero byte, which Postgres cannot take", types.what)
   end
   return value
end

local function is_vector(facts)
   return facts.oid == INT2VECTOR or facts.oid == OIDVECTOR
end

-- True if a table among the elements of an array is one more dimension, false if it is a value of
-- the array's element type.
local function is_dimension(value, facts)
   if is_vector(facts) then
      return type(value[1]) == "table" or value[1] == raw.null
   elseif facts.element or facts.oid == JSON or facts.oid == JSONB then
      return false
   end
   return #value > 0 or rawequal(getmetatable(value), raw.array_metatable)
      or next(value) == nil and not facts.fields and not facts.is_hstore
end

--- A sequence as the text of an array whose elements are of that type. The delimiter is a comma,
--- except for boxes.
function literal.array(types, list, oid, delimiter)
   local items = {}
   for i = 1, #list do
      local value = list[i]
      if type(value) == "table" and is_dimension(value, types.facts(oid)) then
         items[i] = literal.array(types, value, oid, delimiter)
      else
         local text = literal.text(types, value, oid)
         items[i] = text and '"' .. text:gsub('[\\"]', "\\%0") .. '"' or "NULL"
      end
   end
   return "{" .. table.concat(items, delimiter) .. "}"
end

-- A table by field names as the text of a row. Fields that it does not have are NULL.
local function row_text(types, row, facts)
   local items, is_field = {}, {}
   for i, field in ipairs(facts.fields) do
      local text = literal.text(types, row[field.name], field.oid)
      items[i] = text and '"' .. text:gsub('[\\"]', "%0%0") .. '"' or ""
      is_field[field.name] = true
   end
   for name in pairs(row) do
      if not is_field[name] then
         check.fail("%s: the type %s has no field '%s'", types.what, facts.name, tostring(name))
      end
   end
   return "(" .. table.concat(items, ",") .. ")"
end

local TEXT = 25

local function hstore_text(types, map)
   local items = {}
   for key, value in pairs(map) do
      local text = literal.text(types, value, TEXT)
      items[#items + 1] = ('"%s"=>%s'):format(tostring(key):gsub('[\\"]', "\\%0"),
         text and '"' .. text:gsub('[\\"]', "\\%0") .. '"' or "NULL")
   end
   return table.concat(items, ",")
end

local function table_text(types, value, oid)
   local facts = types.facts(oid)
   if is_vector(facts) then
      return table.concat(value, " ") -- of numbers, or of the texts that an oid is
   elseif facts.element then
      return literal.array(types, value, facts.element, facts.delimiter)
   elseif facts.fields then
      return row_text(types, value, facts)
   elseif facts.is_hstore then
      return hstore_text(types, value)
   end
   return raw.encode(value)
end

--- The text of a value of the type with that oid; nil for NULL.
function literal.text(types, value, oid)
   local kind = type(value)
   if value == nil or value == raw.null then
      return nil
   elseif kind == "string" then
      return string_text(types, value, oid)
   elseif kind == "number" then
      return number_text(value)
   elseif kind == "boolean" then
      return tostring(value)
   elseif kind ~= "table" then
      check.fail("%s: a parameter holds a %s", types.what, kind)
   end
   return table_text(types, value, oid)
end

return literal
