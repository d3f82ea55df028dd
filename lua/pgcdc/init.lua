-- pgcdc: what scripts see. The global `pgcdc` is this table.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local options = require "pgcdc.options"
local timer = require "pgcdc.timer"

local pgcdc = {
   version = raw.version,
   null = raw.null,
   source = require "pgcdc.source",
   options = options.read,
   required = options.required,
   args = options.words(raw.words),
   every = timer.every,
   after = timer.after,
   stop = raw.stop,
}

--- Values as JSON text and back. `decode` returns nil and a message for what is no JSON.
pgcdc.json = {
   encode = raw.encode,
   decode = raw.decode,
}

--- Marks a table as a sequence, so that an empty one is written `[]`. Returns the table.
function pgcdc.array(list)
   return setmetatable(list or {}, raw.array_metatable)
end

pgcdc.log = {}
for _, level in ipairs { "error", "warn", "info", "debug" } do
   --- One line on standard error. `fields`: a table of what belongs to the message, or nil.
   pgcdc.log[level] = function(message, fields)
      raw.log(level, tostring(message), fields)
   end
end

timer.start(raw.now)
raw.on_timers(timer.run)

return pgcdc
