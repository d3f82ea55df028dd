-- offline_test.lua: the bundled scripts' own tests, which need no server: those of offline/.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"
local native = require "native"
local program = require "program"
local tree = require "tree"

local TestOffline = {}

function TestOffline.test_bundled_scripts()
   local dir, options = tree.top .. "/tests/scripts/offline", { "--test" }
   for _, name in ipairs(native.listdir(dir)) do
      options[#options + 1] = dir .. "/" .. name
   end
   lu.assertTrue(#options > 4)
   local result = program.run { options = options, state = false }
   lu.assertEquals(result.status, 0, result.stdout)
   lu.assertStrMatches(result.stdout, ".*Ran %d%d tests in .*")
end

return TestOffline
