-- mirror: keeps copies of tables in another Postgres database, each change exactly once.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options({
   { "target", pgcdc.required, "the other database: a conninfo string or URI" },
   { "create", true, "make tables and columns that are missing there" },
   { "together", true, "read all tables in one snapshot, and write them in one transaction" },
   { "rename", "", "OLD:NEW with commas between: columns that have other names there" },
   { "existing", "", "rows that others wrote there and the source lacks: keep or remove them" },
}, { deletes = "yes" })

local names = bundled.list(options.table)
local rename = bundled.pairs("rename", options.rename)
bundled.check_columns(options, "rename", rename or {})
-- (what is captured by a growing column is not of one moment; by the log transactions come whole)
local together = options.together and names[2] and options.capture ~= "increment"
   and options.capture ~= "logical"
local sources = bundled.sources(options, { together = together and "tables" or nil })
for i, source in ipairs(sources) do
   source:sink(pgcdc.sinks.postgres {
      name = "mirror " .. names[i],
      connect = options.target,
      table = names[i],
      create = options.create,
      rename = rename,
      existing = options.existing ~= "" and options.existing or nil,
   })
end

return sources
