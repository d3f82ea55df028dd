-- route: every change as one line of JSON in the file of its value of a column, one for each value.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options({
   { "by", pgcdc.required, "the column" },
   { "dir", pgcdc.required, "the folder of the files; it is made if it is not there" },
}, { old = true })
bundled.check_columns(options, "by", { [options.by] = true })

local sinks = {} -- by file name

local function write(change)
   local name = bundled.file_name(bundled.column(change, options.by)) .. ".jsonl"
   local sink = sinks[name]
   if not sink then
      bundled.make_folder(options.dir)
      sink = pgcdc.sinks.jsonl { path = options.dir .. "/" .. name }
      sinks[name] = sink
   end
   sink:write(change)
end

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   source:sink(write)
end

return sources
