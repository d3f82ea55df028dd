-- pgcdc.strict: a global that nobody has set is a mistake, where a script reads it.
-- SPDX-License-Identifier: MIT
--
-- Libraries that a script loads may look for globals that are not there; many do.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

-- What the sandbox takes: a script may ask whether it is there.
local taken = { io = true, debug = true, dofile = true, loadfile = true }

--- From now on the script, or a bundled one, that reads an unknown global is told so.
return function()
   local script, bundled = "@" .. raw.script, "@" .. raw.scripts_dir .. "/"
   setmetatable(_G, { __index = function(globals, name)
      local reader = raw.where(2)
      if taken[name] then
         return nil
      elseif reader ~= script and (not reader or reader:sub(1, #bundled) ~= bundled) then
         return nil
      end
      local names = {}
      for known in next, globals do
         names[#names + 1] = type(known) == "string" and known or nil
      end
      error(("there is no global '%s'%s"):format(tostring(name), check.nearest(name, names)), 2)
   end })
end
