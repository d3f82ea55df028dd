-- mirror: keeps copies of tables in another Postgres database, each change exactly once.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options({
   { "target", pgcdc.required, "the other database: a conninfo string or URI" },
   { "create", true, "make tables and columns that are missing there" },
   { "rename", "", "OLD:NEW with commas between: columns that have other names there" },
   { "existing", "", "rows that others wrote there and the source lacks: keep or remove them" },
}, { deletes = "yes" })

local names = bundled.list(options.table)
local rename = bundled.pairs("rename", options.rename)
local sources = bundled.sources(options)
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
