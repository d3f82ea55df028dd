-- pgcdc.sinks.postgres.shadow: types through which JSON becomes values of types that refuse it.
-- SPDX-License-Identifier: MIT
--
-- json_to_record() checks the value of a domain inside an array or a row with the binary input
-- function of its type, which aclitem, gtsvector and many types of extensions do not have: then the
-- statement fails, even if all values are NULL (seen on 14 to 18). So JSON becomes a value of a
-- *shadow* first, the same type without such domains, whose text the type itself can read.

local answer = require "pgcdc.postgres.answer"
local quote = require("pgcdc.names").quote

local shadow = {}

-- All types that the types $1 consist of.
local TYPES = answer.question([[
   WITH RECURSIVE tree(oid) AS (
      SELECT n::oid FROM pg_catalog.json_array_elements_text($1::json) n
      UNION
      SELECT part.oid FROM tree JOIN pg_catalog.pg_type t ON t.oid = tree.oid, LATERAL (
         SELECT t.typbasetype WHERE t.typtype = 'd' UNION ALL
         SELECT t.typelem WHERE t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
         UNION ALL SELECT atttypid FROM pg_catalog.pg_attribute WHERE t.typtype = 'c'
            AND attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped) part(oid))
   SELECT t.oid::int8 AS oid, t.typreceive = 0 AS is_odd,
      CASE WHEN t.typtype = 'd' THEN t.typbasetype::int8 END AS base,
      pg_catalog.format_type(t.typbasetype, t.typtypmod) AS base_name,
      CASE WHEN t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
         THEN t.typelem::int8 END AS element,
      pg_catalog.format_type(t.typelem, NULL) AS element_name,
      (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', attname, 'oid',
         atttypid::int8, 'type', pg_catalog.format_type(atttypid, atttypmod)) ORDER BY attnum)
         FROM pg_catalog.pg_attribute WHERE t.typtype = 'c' AND attrelid = t.typrelid
            AND attnum > 0 AND NOT attisdropped) AS fields
   FROM tree JOIN pg_catalog.pg_type t USING (oid)]], {
   oid = "integer", is_odd = "boolean", base = "integer?", base_name = "text",
   element = "integer?", element_name = "text",
   fields = answer.records({ name = "text", oid = "integer", type = "text" }, true) })

local of, of_type -- defined below; of_row calls of

-- The name of the shadow of a row type, and whether it is another type. make(definition) makes one
-- and returns its name.
local function of_row(types, row, name, make)
   local parts, differs = {}, false
   for i, field in ipairs(row.fields) do
      local type, is_other = of(types, field.oid, field.type, make)
      parts[i] = quote(field.name) .. " " .. type
      differs = differs or is_other
   end
   if not differs then
      return name, false
   end
   row.shadow = row.shadow or make("(" .. table.concat(parts, ", ") .. ")")
   return row.shadow, true
end

-- The name of the shadow of a type that is called `name`, and whether it is another type.
function of(types, oid, name, make)
   local t = types[oid]
   if not t or t.is_open then
      TYPES:fail("the type %s %s", name, t and "is a part of itself" or "is missing")
   end
   t.is_open = true
   local shadow_name, is_other = of_type(types, t, name, make)
   t.is_open = false
   return shadow_name, is_other
end

function of_type(types, t, name, make)
   if t.base then
      local base, is_other = of(types, t.base, t.base_name, make)
      if is_other or types[t.base].is_odd then
         return base, true
      end
   elseif t.element then
      local element, is_other = of(types, t.element, t.element_name, make)
      if is_other then
         return element .. "[]", true
      end
   elseif t.fields then
      return of_row(types, t, name, make)
   end
   return name, false
end

--- Gives the target's columns that need one a field `shadow`, the name of a type.
--- `run(sql, ...)` returns rows; `encode_list` makes JSON of a list. Types that are made are
--- temporary; their names are `prefix` and a number.
function shadow.find(run, columns, prefix, encode_list)
   local oids, types, n_odd, n_made = {}, {}, 0, 0
   for _, column in ipairs(columns) do
      if column.is_made_of_parts then
         oids[#oids + 1] = column.oid
      end
   end
   for _, t in ipairs(#oids > 0 and TYPES:rows(run, encode_list(oids)) or {}) do
      types[t.oid] = t
      n_odd = n_odd + (t.is_odd and 1 or 0)
   end
   if n_odd == 0 then
      return
   end
   local function make(definition)
      n_made = n_made + 1
      local name = ("pg_temp.%s_%d"):format(prefix, n_made)
      run(("CREATE TYPE %s AS %s"):format(name, definition))
      return name
   end
   for _, column in ipairs(columns) do
      if column.is_made_of_parts then
         local name, is_other = of(types, column.oid, column.type, make)
         column.shadow = is_other and name or nil
      end
   end
end

return shadow
