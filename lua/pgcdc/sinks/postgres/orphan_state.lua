-- pgcdc.sinks.postgres.orphan_state: what is stored of a sink's rows, see orphans.
-- SPDX-License-Identifier: MIT
--
-- It is a JSON in pgcdc.position, beside the savepoint:
--    table      the name of the table
--    existing   "keep": it has rows of others, which stay; "unasked": likewise, and nobody said so
--    tells      name of a source -> whether it tells deletes
--    reading    while one is under way: {sources = {name = "begun", or "reached": rows came},
--               clean = the table was empty, blocked = why nothing is collected, helper = the table
--               of keys, keys = the numbers that its columns have in the target (older versions:
--               their names), types = their types}
--
-- Somebody else may have written there, so it is checked: the name of the table of keys becomes
-- part of SQL.

local raw = require "pgcdc.raw"

local orphan_state = {}

local function is_text_or_nil(value)
   return value == nil or type(value) == "string"
end

-- True for a list of texts and integers, and for nil.
local function is_list(list)
   for _, item in ipairs(type(list) == "table" and list or {}) do
      if type(item) ~= "string" and math.type(item) ~= "integer" then
         return false
      end
   end
   return list == nil or type(list) == "table"
end

local function is_reading(reading)
   return type(reading) == "table" and type(reading.sources) == "table" and is_list(reading.keys)
      and is_list(reading.types) and is_text_or_nil(reading.blocked)
      and (reading.helper == nil or type(reading.helper) == "string" and reading.keys ~= nil
         and reading.helper:find "^pgcdc%.keys_%x+$" ~= nil)
end

--- What is stored as that text; nil if it is none of ours.
function orphan_state.find(text)
   local ok, state = pcall(raw.decode, text)
   return ok and type(state) == "table" and type(state.tells) == "table"
      and is_text_or_nil(state.table) and is_text_or_nil(state.existing)
      and (state.reading == nil or is_reading(state.reading)) and state or nil
end

--- The same; raises an error if it is none of ours.
function orphan_state.decode(text)
   return orphan_state.find(text) or error("what pgcdc.position in the target has of its rows"
      .. " cannot be read, since somebody else has changed it: delete its row there, and say"
      .. " existing=", 0)
end

return orphan_state
