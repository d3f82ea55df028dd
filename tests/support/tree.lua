-- tree.lua: the source tree that the tests belong to, and small trees with other suites in them.
-- SPDX-License-Identifier: MIT

local files = require "files"
local native = require "native"
local scope = require "scope"

local tree = {}

-- The folder with the Makefile.
tree.top = native.realpath(debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" .. "/../..")

-- Makes a tree with these suites and no others, by name their text. Returns its folder, and the
-- words of a command line that runs run.lua there.
function tree.with_suites(suites)
   local dir = scope.dir "tree"
   assert(native.mkdir(dir .. "/tests"))
   assert(native.mkdir(dir .. "/build"))
   for _, name in ipairs { "tests/run.lua", "tests/support", "build/tests" } do
      local link = native.spawn { argv = { "ln", "-s", tree.top .. "/" .. name,
         dir .. "/" .. name } }
      assert(assert(link:wait(20)).exit == 0, "ln failed")
   end
   for name, text in pairs(suites) do
      files.write(("%s/tests/%s_test.lua"):format(dir, name), text)
   end
   return dir, { arg[-1], dir .. "/tests/run.lua" }
end

return tree
