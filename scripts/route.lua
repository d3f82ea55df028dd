-- route: every change as one line of JSON in the file of its value of a column, one for each value.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options({
   { "by", pgcdc.required, "the column" },
   { "dir", pgcdc.required, "the folder of the files; it is made if it is not there" },
   { "rotate", "", "begin a new file at that size, such as 100M" },
   { "every", 0, "begin a new file after so many seconds" },
}, { old = true })
bundled.check_columns(options, "by", { [options.by] = true })

local sink = pgcdc.sinks.jsonl {
   dir = options.dir,
   path = function(change)
      return bundled.file_name(bundled.column(change, options.by)) .. ".jsonl"
   end,
   name = "route",
   rotate = bundled.rotation(options),
}

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   source:sink(sink)
end

return sources
