-- pgcdc.doctor.columns: the columns and keys of a table that a source could name.
-- SPDX-License-Identifier: MIT

local answer = require "pgcdc.postgres.answer"
local mend = require "pgcdc.mend"
local plain = require("pgcdc.names").plain

local columns = {}

-- Of each column whether it grows, as capture = "increment" needs it, and whether an index that is
-- valid begins with it.
local COLUMNS = answer.question([[
   SELECT a.attname::text AS name, a.atttypid IN (20, 21, 23, 1082, 1114, 1184) AS grows,
      a.attnotnull AS is_not_null, EXISTS (SELECT FROM pg_catalog.pg_index i
         WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indkey[0] = a.attnum) AS is_indexed
   FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum > 0
      AND NOT a.attisdropped ORDER BY a.attnum]], {
   name = "text", grows = "boolean", is_not_null = "boolean", is_indexed = "boolean" })

-- Columns by which rows are told apart: those of the shortest unique index without NULLs.
local KEY = answer.question([[
   SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, place)
      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
      WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS names
   FROM pg_catalog.pg_index i WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid
      AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (
         SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid
         AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)
   ORDER BY i.indnkeyatts, i.indexrelid LIMIT 1]], { names = "texts" })

local function by(db)
   return function(...)
      return db:query(...)
   end
end

local function list(value)
   return type(value) == "string" and { value } or value or {}
end

-- Names for a bundled script: those with odd letters are quoted there, too.
local function quoted(names)
   local result = {}
   for i, name in ipairs(names) do
      result[i] = plain(name)
   end
   return result
end

--- What mends that a name in this option is no column, where `nearest` is the one that is meant.
function columns.misspelt(facts, option, wrong, nearest)
   local given = list(facts.spec[option])
   local names = {}
   for i, name in ipairs(given) do
      names[i] = name == wrong and nearest or name
   end
   return names[1] and { mend.option(option, quoted(names)) } or {}
end

--- What mends that the table has no primary key.
function columns.no_key(db, t)
   local key = KEY:maybe(by(db), t.oid)
   if key then
      return { mend.option("pk", quoted(key.names)) }
   end
   return { mend.sql(t.database, ("ALTER TABLE %s ADD COLUMN pgcdc_id bigint GENERATED ALWAYS AS"
      .. " IDENTITY PRIMARY KEY"):format(t.name)) }
end

--- What mends that the relation can be captured by a growing column only, or that another column
--- was named for that: the column to name, and the key where there is none.
function columns.growing(db, t, facts)
   local mends = {}
   for _, column in ipairs(COLUMNS:rows(by(db), t.oid)) do
      if column.grows then
         if facts.capture ~= "increment" then
            mends[1] = mend.option("capture", "increment")
         end
         mends[#mends + 1] = mend.option("column", plain(column.name))
         if not facts.spec.pk and not KEY:maybe(by(db), t.oid) then
            mends[#mends + 1] = mend.option("pk", plain(column.name))
         end
         return mends
      end
   end
   return mends
end

--- Adds a warning where no index begins with the growing column.
function columns.warn_index(item, db, t, facts)
   for _, column in ipairs(t.kind ~= "v" and COLUMNS:rows(by(db), t.oid) or {}) do
      if column.name == facts.spec.column and not column.is_indexed then
         item.warnings[#item.warnings + 1] = {
            text = ("no index begins with %s: each poll reads the whole table"):format(
               plain(column.name)),
            mends = t.kind ~= "f" and { mend.sql(t.database, ("CREATE INDEX %sON %s (%s)"):format(
               t.kind == "r" and "CONCURRENTLY " or "", t.name, plain(column.name))) } or {},
         }
      end
   end
end

return columns
