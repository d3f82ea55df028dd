-- pgcdc.sinks.headers: headers of messages: what is known of a change, or texts of the script.
-- SPDX-License-Identifier: MIT
--
-- They are packed: names and values in turns, each with a NUL after it.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local names = require "pgcdc.names"
local pattern = require "pgcdc.sinks.pattern"

local headers = {}

local function none()
   return ""
end

-- What every message of a change has.
local function of_change(value, _, id)
   if not raw.is_change(value) then
      return ""
   end
   local seq = value.seq
   local text = "op\0" .. value.op .. "\0id\0" .. id .. "\0schema\0" .. value.schema .. "\0table\0"
      .. value.table .. "\0ts\0" .. value.ts .. "\0"
   return seq == nil and text or text .. "seq\0" .. seq .. "\0"
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
      local list, n = {}, 0
      for i, name in ipairs(sorted) do
         list[2 * i - 1], list[2 * i] = name, (texts[name](value, sink):gsub("%z", ""))
         n = 2 * i
      end
      return n > 0 and table.concat(list, "\0", 1, n) .. "\0" or ""
   end
end

--- What the option `headers` means: a function(value, sink, id) -> headers, packed. None has a line
--- break in it: that is an error. true: op, id, schema, table, ts and seq of a change; false: none;
--- a table: texts with patterns.
function headers.option(what, given)
   check.type(what, given, "boolean", "table")
   local packed_of = given == true and of_change or given == false and none
      or of_patterns(what, given)
   return function(value, sink, id)
      local packed = packed_of(value, sink, id)
      if packed:find "[\r\n]" then
         local name = packed:match "([^%z]*)%z[^%z\r\n]*[\r\n]"
         error(("%s: the header '%s' must have no line break in it"):format(what, name), 0)
      end
      return packed
   end
end

return headers
