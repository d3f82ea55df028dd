-- debezium: every change as one line of JSON, the value envelope that Debezium writes.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options {
   { "out", "-", "a file to append to, each change exactly once" },
   { "rotate", "", "begin a new file at that size, such as 100M" },
   { "every", 0, "begin a new file after so many seconds" },
}
bundled.check_out(options)

local of_change, file = bundled.pattern(options.out)
local sink = pgcdc.sinks.jsonl {
   dir = of_change and of_change.dir,
   path = of_change and function() return file end or options.out,
   name = of_change and "jsonl " .. options.out,
   rotate = bundled.rotation(options),
}

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   if of_change then -- after debezium() a value has no columns
      source:tap(function(change) file = of_change.path(change) end)
   end
   source:debezium():sink(sink)
end

return sources
