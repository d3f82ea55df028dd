-- jsonl: every change as one line of JSON, on standard output or in a file.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options {
   { "out", "-", "a file to append to, each change exactly once" },
   { "rotate", "", "begin a new file at that size, such as 100M" },
   { "every", 0, "begin a new file after so many seconds" },
}
bundled.check_out(options)

local sink = pgcdc.sinks.jsonl { path = options.out, rotate = bundled.rotation(options) }

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   if options.out == "-" then
      source:on("change", print) -- the same, and faster
   else
      source:sink(sink)
   end
end

return sources
