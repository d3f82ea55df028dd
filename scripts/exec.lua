-- exec: every change as one line of JSON into the standard input of a command.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options {
   { "command", pgcdc.required,
     "what /bin/sh runs; it must read to the end and end with status 0" },
   { "retry", 0, "how often a command that fails is started again" },
   { "wait", 1, "seconds before that, twice as many each time" },
}

local sink = pgcdc.sinks.exec { command = options.command }

local sources = bundled.sources(options, {
   on_error = { retry = options.retry, wait = options.wait, factor = 2 },
})
for _, source in ipairs(sources) do
   source:sink(sink)
end

return sources
