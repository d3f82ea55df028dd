-- pgcdc.sinks.postgres.orphan_keys: the keys of all rows that a reading brought, in a table of the
-- target.
-- SPDX-License-Identifier: MIT
--
-- `reading`: what is known of one that is under way, see orphans. Its table of keys, `helper`, is
-- made when the first rows come. A key is known by the numbers of its columns, since the source may
-- rename them while it is read. Where they get other types, all rows come again, and the keys that
-- came before do not count.

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"
local quote = require("pgcdc.names").quote

local orphan_keys = {}

local denied = { ["42501"] = true }

local KEY_COLUMNS = answer.question([[
   SELECT attname AS name, attnum::int8 AS number FROM pg_catalog.pg_attribute
   WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped]], { name = "text", number = "integer" })

--- Drops the table of keys, if there is one.
function orphan_keys.drop(sink, reading)
   if reading and reading.helper then
      sink.connection:run("DROP TABLE IF EXISTS " .. reading.helper)
      reading.helper = nil
   end
end

-- The columns of the table that are the key of the reading: a list of {name =}; nil if one of them
-- is not there any more.
local function key_columns(sink, reading, found)
   local by_number, columns = {}, {}
   for _, row in ipairs(sink.connection:rows(KEY_COLUMNS, found.oid)) do
      by_number[row.number], by_number[row.name] = row, row
   end
   for i, key in ipairs(reading.keys) do
      columns[i] = by_number[key]
   end
   return #columns == #reading.keys and columns or nil
end

-- Makes the table of keys. Returns false if that is not allowed.
local function make_helper(sink, reading, found, layout)
   local columns = {}
   reading.keys, reading.types = {}, {}
   for i, column in ipairs(layout.key) do
      reading.keys[i], reading.types[i] = column.to.number, column.to.full_type
      columns[i] = ("t.%s AS k%d"):format(quote(column.target), i)
   end
   local helper = "pgcdc.keys_" .. raw.sha256(sink.connection.pipeline .. " "
      .. sink.name):sub(1, 16)
   local is_made = sink.connection:try(denied, function()
      sink.connection:run("DROP TABLE IF EXISTS " .. helper)
      sink.connection:run(("CREATE TABLE %s AS SELECT %s FROM %s t WITH NO DATA"):format(helper,
         table.concat(columns, ", "), found.full))
   end)
   reading.helper = is_made and helper or nil
   return is_made
end

local function same_keys(reading, layout)
   for i, column in ipairs(layout.key) do
      if reading.keys[i] ~= column.to.number and reading.keys[i] ~= column.target then
         return false
      end
   end
   return #reading.keys == #layout.key
end

-- True if the key has other types than when the table of keys was made. Its rows were read before,
-- and all come again.
local function has_other_types(reading, layout)
   for i, column in ipairs(layout.key) do
      if reading.types and reading.types[i] ~= column.to.full_type then
         return true
      end
   end
   return false
end

--- Adds the keys that `keys`, SQL, reads from a temporary table with the layout's rows. `found`:
--- the table, see target.find. Returns why that cannot be, "denied" or "keys" (there are several),
--- or nil.
function orphan_keys.collect(sink, reading, found, layout, keys)
   if reading.helper and same_keys(reading, layout) and has_other_types(reading, layout) then
      orphan_keys.drop(sink, reading)
   end
   if not reading.helper and not make_helper(sink, reading, found, layout) then
      return "denied"
   elseif not same_keys(reading, layout) then
      return "keys"
   end
   sink.connection:run(("INSERT INTO %s %s"):format(reading.helper, keys))
   return nil
end

--- SQL that removes the rows whose keys the reading did not bring, and returns a row for each.
function orphan_keys.removal(sink, reading, found)
   local conditions, same = {}, {}
   local columns = reading.helper and key_columns(sink, reading, found)
   for i, column in ipairs(columns or {}) do
      local name = quote(column.name)
      conditions[i] = ("t.%s IS NOT NULL"):format(name) -- what is NULL equals no key
      same[i] = ("t.%s = k.k%d"):format(name, i)
   end
   if columns then
      conditions[#conditions + 1] = ("NOT EXISTS (SELECT FROM %s k WHERE %s)"):format(
         reading.helper, table.concat(same, " AND "))
   end
   if reading.helper and not columns then
      conditions = { "false" }
   end
   local statement = "DELETE FROM %s AS t%s RETURNING 1"
   if sink.mode == "history" then
      conditions[#conditions + 1] = "t.valid_to IS NULL"
      statement = "UPDATE %s AS t SET valid_to = greatest(now(), valid_from)%s RETURNING 1"
   end
   local where = #conditions > 0 and " WHERE " .. table.concat(conditions, " AND ") or ""
   return statement:format(found.full, where)
end

return orphan_keys
