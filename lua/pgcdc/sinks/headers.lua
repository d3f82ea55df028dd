-- pgcdc.sinks.headers: headers of messages: what is known of a change, or texts of the script.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local names = require "pgcdc.names"
local pattern = require "pgcdc.sinks.pattern"

local headers = {}

local function none()
   return {}
end

-- What every message of a change has.
local function of_change(value)
   if not raw.is_change(value) then
      return {}
   end
   local list = { "op", value.op, "id", value.id, "schema", value.schema, "table", value.table,
                  "ts", value.ts }
   if value.seq ~= nil then
      list[11], list[12] = "seq", tostring(value.seq)
   end
   return list
end

local function check_line(what, name, text)
   if text:find "[\r\n%z]" then
      error(("%s: the header '%s' must have no line break in it"):format(what, name), 0)
   end
   return text
end

-- Headers whose texts are patterns.
local function of_patterns(what, given)
   local texts = {}
   for name, text in pairs(given) do
      if type(name) ~= "string" or not name:find "^[%w._-]+$" then
         check.fail("%s: '%s' is no name of a header: letters, digits, _, - and dots", what,
            tostring(name))
      end
      texts[name] = pattern.compile(what .. "." .. name, text)
      check_line(what, name, text)
   end
   local sorted = names.sorted(texts)
   return function(value, sink)
      local list = {}
      for i, name in ipairs(sorted) do
         list[2 * i - 1], list[2 * i] = name, texts[name](value, sink)
      end
      return list
   end
end

--- What the option `headers` means: a function(value, sink) -> a list of names and texts in turns,
--- none of which has a line break in it. true: op, id, seq, schema, table and ts of a change;
--- false: none; a table: texts with patterns.
function headers.option(what, given)
   check.type(what, given, "boolean", "table")
   local list_of = given == true and of_change or given == false and none
      or of_patterns(what, given)
   return function(value, sink)
      local list = list_of(value, sink)
      for i = 2, #list, 2 do
         if list[i]:find "[\r\n%z]" then
            check_line(what, list[i - 1], list[i])
         end
      end
      return list
   end
end

return headers
