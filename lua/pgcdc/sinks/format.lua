-- pgcdc.sinks.format: the text of a value, for sinks that send one.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local envelope = require "pgcdc.envelope"

local format = {}

local function json_of(value)
   return raw.encode(value)
end

local formats = { json = json_of }
for _, name in ipairs { "debezium", "cloudevents" } do
   formats[name] = function(value)
      return raw.encode(envelope[name](value))
   end
end

--- What `format` means: a function value -> text, or nil to leave the value out.
function format.read(what, given)
   if type(given) ~= "function" then
      check.one_of(what .. ": format", given, formats)
      return formats[given]
   end
   return function(value)
      local text = given(value)
      if text ~= nil and type(text) ~= "string" then
         error(("%s: format: its function must return a text, or nil to leave the value out, not "
            .. "a %s"):format(what, type(text)), 0)
      end
      return text
   end
end

return format
