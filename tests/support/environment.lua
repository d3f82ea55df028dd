-- environment.lua: another environment for a while.
-- SPDX-License-Identifier: MIT

local native = require "native"

local environment = {}

-- Calls <fn> while the environment's <name> is <value>; its error is passed on, as it is.
function environment.with(name, value, fn)
   local before = os.getenv(name)
   native.setenv(name, value)
   local ok, problem = xpcall(fn, function(e) return e end)
   native.setenv(name, before)
   if not ok then
      error(problem, 0)
   end
end

return environment
