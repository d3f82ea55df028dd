-- pgcdc.strict: a script that reads a name that is not there gets an error with the nearest one.
-- SPDX-License-Identifier: MIT
--
-- Other libraries that a script loads may read globals that are not there, as many do.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

-- The globals that the sandbox removes. A script may ask whether they are there.
local removed = { io = true, debug = true, dofile = true, loadfile = true }

local strict = {}

local ours = "@" .. raw.lua_dir .. "/"

--- Raises an error, that `t` has no field of this name, if a script asks for it; nil for our own
--- code. `class`: another table whose names count, or nil. A function __index of the table calls it
--- as its last act.
function strict.missing(what, t, name, class)
   if type(name) ~= "string" then
      return nil
   end
   local reader = raw.where(2) -- who indexes t
   if not reader or reader == "=[C]" or reader:sub(1, #ours) == ours then
      return nil
   end
   local known = {}
   for _, from in ipairs { t, class } do
      for field in next, from do
         known[#known + 1] = type(field) == "string" and field or nil
      end
   end
   table.sort(known)
   check.fail("there is no %s '%s'%s", what, name, check.nearest(name, known))
end

--- From now on a script that reads a field that the table does not have gets an error. `what`: what
--- a field of it is. `absent`: set of the fields that it may lack, or nil. Returns the table, whose
--- metatable is set.
function strict.table(what, t, absent)
   return setmetatable(t, { __index = function(self, name)
      if absent and absent[name] then
         return nil
      end
      return strict.missing(what, self, name, absent)
   end })
end

--- The same for all objects of a class, a table of methods that is its own __index. `also`: another
--- table whose names count, or nil.
function strict.class(what, class, also)
   return setmetatable(class, { __index = function(self, name)
      if also and also[name] ~= nil then
         return also[name]
      end
      return strict.missing(what, self, name, also)
   end })
end

--- From now on it is an error if the script, or a bundled one, reads an unknown global.
function strict.globals()
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
      local api = rawget(globals, "pgcdc")
      error(("there is no global '%s'%s"):format(tostring(name), type(api) == "table"
         and rawget(api, name) ~= nil and ("; did you mean 'pgcdc.%s'?"):format(name)
         or check.nearest(name, names)), 2)
   end })
end

return strict
