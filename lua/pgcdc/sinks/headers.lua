-- pgcdc.sinks.headers: headers of messages: what is known of a change, or texts of the script.
-- SPDX-License-Identifier: MIT
--
-- They are packed: names and values in turns, as the parts of base/packed.h.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local names = require "pgcdc.names"
local pattern = require "pgcdc.sinks.pattern"

local headers = {}

local function none()
   return {}
end

-- What every message of a change has: first what raw.put_change does not add.
local function of_change(value, _, id)
   if not raw.is_change(value) then
      return {}
   end
   return { "op", value.op, "schema", value.schema, "table", value.table, "id", id, "ts", value.ts,
            value.seq ~= nil and "seq" or nil, value.seq }
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
      if text:find "[\r\n%z]" then
         check.fail("%s: the header '%s' must have no line break in it", what, name)
      end
   end
   local sorted = names.sorted(texts)
   return function(value, sink)
      local list = {}
      for i, name in ipairs(sorted) do
         list[2 * i - 1], list[2 * i] = name, (texts[name](value, sink):gsub("%z", ""))
      end
      return list
   end
end

--- A list of names and values, packed.
function headers.pack(list)
   return ("s4"):rep(#list):pack(table.unpack(list))
end

--- What the option `headers` means: a function(value, sink, id) -> list of names and values. No
--- value has a line break in it: that is an error. true: op, schema, table, id, ts and seq of a
--- change, in this order, which may have no seq; false: none; a table: texts with patterns.
function headers.option(what, given)
   check.type(what, given, "boolean", "table")
   local list_of = given == true and of_change or given == false and none
      or of_patterns(what, given)
   return function(value, sink, id)
      local list = list_of(value, sink, id)
      for i = 2, #list, 2 do
         if tostring(list[i]):find "[\r\n]" then
            error(("%s: the header '%s' must have no line break in it"):format(what, list[i - 1]),
               0)
         end
      end
      return list
   end
end

return headers
