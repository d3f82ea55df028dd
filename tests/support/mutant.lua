-- mutant.lua: the program with something wrong in it, which tests must find out.
-- SPDX-License-Identifier: MIT

local child = require "child"
local environment = require "environment"
local files = require "files"
local program = require "program"
local scope = require "scope"
local tree = require "tree"

local mutant = {}

-- A text in which <from>, which must be there once, is <to>.
local function replaced(text, from, to)
   local first, last = text:find(from, 1, true)
   assert(first, "the mutant fits no more, there is no: " .. from)
   assert(not text:find(from, last + 1, true), "the mutant fits more than once: " .. from)
   return text:sub(1, first - 1) .. to .. text:sub(last + 1)
end

-- Calls <fn> while the program under test is another one. <what>: of tests/mutants/sinks.lua.
function mutant.with(what, fn)
   local dir, build = scope.dir "mutant", program.binary():match "^(.*)/"
   local linked = what.program and "pgcdc-lua-" .. what.program
   local _, status = child.run { argv = { "sh", "-ec", [[
      mkdir "$1/build"
      cp "$2/$4" "$1/build/pgcdc-lua"
      cp "$2/$5" "$1/build/pgcdc-lua-sabotaged"
      [ ! -e "$2/modules" ] || cp -r "$2/modules" "$1/build"
      cp -r "$3/lua" "$3/scripts" "$1"]], "sh", dir, build, tree.top,
      linked or "pgcdc-lua", linked or "pgcdc-lua-sabotaged" } }
   assert(status.exit == 0, "the program cannot be copied")
   if what.file then
      local path = ("%s/lua/pgcdc/%s"):format(dir, what.file)
      local text = files.text(path)
      for _, change in ipairs(what.changes) do
         text = replaced(text, change[1], change[2])
      end
      files.write(path, text)
   end
   environment.with("PGCDC_LUA", dir .. "/build/pgcdc-lua", fn)
end

return mutant
