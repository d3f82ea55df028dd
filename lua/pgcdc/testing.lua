-- pgcdc.testing: pipelines are tested before they run. For files that --test is given.
-- SPDX-License-Identifier: MIT
--
--    local run = pgcdc.testing.script("paid.lua", { min = 100 })
--    run:feed("orders", { op = "update", row = { id = 1, total = 120 } })
--    run:sink("paid.jsonl")   --> { {op = "update", row = ...} }

local strict = require "pgcdc.strict"

return strict.table("field of pgcdc.testing", {
   script = require("pgcdc.testing.run").script,
})
