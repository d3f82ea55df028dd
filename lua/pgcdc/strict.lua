-- pgcdc.strict: a script that reads a global that nobody has set gets an error.
-- SPDX-License-Identifier: MIT
--
-- Other libraries that a script loads may read globals that are not there, as many do.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

-- The globals that the sandbox removes. A script may ask whether they are there.
local removed = { io = true, debug = true, dofile = true, loadfile = true }

--- From now on it is an error if the script, or a bundled one, reads an unknown global.
return function()
   local script, bundled = "@" .. raw.script, "@" .. raw.scripts_dir .. "/"
   setmetatable(_G, { __index = function(globals, name)
      local reader = raw.where(2)
      if removed[name] then
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
