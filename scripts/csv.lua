-- csv: every change's row as a line of CSV, on standard output or in a file.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options {
   { "out", "-", "a file to append to, each change exactly once" },
   { "header", true, "the first line names the columns" },
   { "meta", "", "what stands in front of the row, such as op,table,xid,seq,ts" },
   { "rotate", "", "begin a new file at that size, such as 100M" },
   { "every", 0, "begin a new file after so many seconds" },
}
bundled.check_out(options)
bundled.check_fields("meta", bundled.names(options.meta))

local sink = pgcdc.sinks.csv {
   path = options.out,
   columns = bundled.names(options.columns),
   header = options.header,
   meta = bundled.names(options.meta),
   rotate = bundled.rotation(options),
}

local sources = bundled.sources(options)
if bundled.tells_deletes(options) and not ("," .. options.meta .. ","):find("[, ]op[, ]") then
   pgcdc.log.warn "a deleted row looks like any other in CSV: meta=op tells them apart"
end
for _, source in ipairs(sources) do
   source:sink(sink)
end

return sources
