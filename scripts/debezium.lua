-- debezium: every change as one line of JSON, the value envelope that Debezium writes.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options {
   { "out", "-", "a file to append to, each change exactly once" },
   { "rotate", "", "begin a new file at that size, such as 100M" },
   { "every", 0, "begin a new file after so many seconds" },
}

local sink = pgcdc.sinks.jsonl { path = options.out, rotate = bundled.rotation(options) }

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   source:debezium():sink(sink)
end

return sources
