-- pgcdc.sinks.by_name: the sinks that come with the program, each loaded at its first use.
-- SPDX-License-Identifier: MIT
--
-- sinks/NAME.lua, or sinks/NAME/sink.lua, returns the constructor: a function from a table of
-- options to a sink.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

local names = { "csv", "exec", "jsonl", "postgres", "text" }
local modules = { postgres = "postgres.sink" }

local known = {}
for _, name in ipairs(names) do
   known[name] = true
end

local sinks = setmetatable({}, {
   names = names, -- to list them
   __index = function(t, name)
      if not known[name] then
         check.fail("pgcdc.sinks: there is no sink '%s'%s", tostring(name),
            check.nearest(name, names))
      end
      local constructor = require("pgcdc.sinks." .. (modules[name] or name))
      rawset(t, name, constructor)
      return constructor
   end,
})

-- In the sandbox all are loaded now: later, `require` cannot find our modules any more.
for _, name in ipairs(raw.is_sandboxed and names or {}) do
   local _ = sinks[name]
end

return sinks
