-- pgcdc.sinks: the sinks that come with the program, each loaded when it is first asked for.
-- SPDX-License-Identifier: MIT
--
-- lua/pgcdc/sinks/NAME.lua returns the constructor: a function from a table of options to a sink.

local check = require "pgcdc.check"

local names = { "csv", "exec", "jsonl", "postgres", "text" }

local known = {}
for _, name in ipairs(names) do
   known[name] = true
end

return setmetatable({}, {
   __index = function(sinks, name)
      if not known[name] then
         check.fail("pgcdc.sinks: there is no sink '%s'%s", tostring(name),
            check.nearest(name, names))
      end
      local constructor = require("pgcdc.sinks." .. name)
      rawset(sinks, name, constructor)
      return constructor
   end,
   __pairs = function(sinks)
      return function(_, name)
         local next_name
         for i, candidate in ipairs(names) do
            if candidate == name then
               next_name = names[i + 1]
            end
         end
         next_name = name == nil and names[1] or next_name
         return next_name, next_name and sinks[next_name]
      end, sinks, nil
   end,
})
