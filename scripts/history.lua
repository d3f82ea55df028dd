-- history: keeps every version of rows in another table, with valid_from, valid_to and op.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options({
   { "target", pgcdc.required, "the database that it is kept in: a conninfo string or URI" },
   { "suffix", "_history", "what is added to the names of tables there" },
   { "create", true, "make tables and columns that are missing there" },
   { "rename", "", "OLD:NEW with commas between: columns that have other names there" },
   { "existing", "", "rows that others wrote there and the source lacks: keep or remove them" },
}, { deletes = "yes" })

-- Returns 'orders_history' for 'orders', '"My Orders_history"' for '"My Orders"'.
local function target_name(name)
   local quoted = name:match('^(.*)"$')
   return quoted and quoted .. options.suffix .. '"' or name .. options.suffix
end

local names = bundled.list(options.table)
local rename = bundled.pairs("rename", options.rename)
bundled.check_columns(options, "rename", rename or {})
local sources = bundled.sources(options)
for i, source in ipairs(sources) do
   source:sink(pgcdc.sinks.postgres {
      name = "history " .. names[i],
      connect = options.target,
      table = target_name(names[i]),
      mode = "history",
      create = options.create,
      rename = rename,
      existing = options.existing ~= "" and options.existing or nil,
   })
end

return sources
