-- pgcdc.sinks.text: tostring(value) as a line for each value.
-- SPDX-License-Identifier: MIT

local file_sink = require "pgcdc.sinks.file"

local text = file_sink.kind { kind = "text" }

function text.put(_, file, value)
   return file:add(tostring(value) .. "\n")
end

function text.line(_, value)
   return tostring(value)
end

--- Makes a sink. `spec`: its options, see lua/README.md.
return function(spec)
   return file_sink.register(file_sink.new(text, spec))
end
