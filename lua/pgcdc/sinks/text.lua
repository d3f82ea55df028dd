-- pgcdc.sinks.text: tostring(value) as a line for each value; a table that has no text is JSON.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local file_sink = require "pgcdc.sinks.file"

local text = file_sink.kind { kind = "text" }

function text.line(_, value)
   if type(value) == "table" and not raw.is_part(value) then
      local mt = getmetatable(value)
      if type(mt) ~= "table" or rawequal(mt, raw.array_metatable)
         or not (mt.__tostring or mt.__name) then
         return raw.encode(value)
      end
   end
   return tostring(value)
end

function text.put(self, file, value)
   return file:add(text.line(self, value) .. "\n")
end

--- Makes a sink. `spec`: its options, see lua/README.md.
return function(spec)
   return file_sink.register((file_sink.new(text, spec)))
end
