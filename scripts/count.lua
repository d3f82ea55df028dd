-- count: how many changes there were for each value of a column, kept across restarts.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options({
   { "by", pgcdc.required, "the column" },
   { "every", 1, "seconds between reports of what has changed" },
   { "out", "-", "a file to append to" },
}, { old = true })
bundled.check_columns(options, "by", { [options.by] = true })

-- {"value":"paid","count":3}
local function line(counted)
   return ('{"value":%s,"count":%d}'):format(pgcdc.json.encode(counted.key), counted.state)
end

local changes = pgcdc.stream { name = "changes" }
for _, source in ipairs(bundled.sources(options)) do
   source:connect(changes)
end

return changes
   :reduce_by(options.by, function(count)
      return count + 1
   end, { start = 0, every = options.every, persist = "count by " .. options.by })
   :map(line)
   :sink(pgcdc.sinks.text { path = options.out })
