-- pgcdc.sinks.jsonl: one line of JSON for each value.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local file_sink = require "pgcdc.sinks.file"

local jsonl = file_sink.kind { kind = "jsonl" }

function jsonl.put(_, file, value)
   return file:put(value)
end

function jsonl.line(_, value)
   if raw.is_change(value) then
      return value -- printing it needs no text in between
   end
   return raw.encode(value)
end

--- Makes a sink. `spec`: its options, see lua/README.md.
return function(spec)
   return file_sink.register((file_sink.new(jsonl, spec)))
end
