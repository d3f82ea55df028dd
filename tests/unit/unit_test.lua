-- unit_test.lua: the C without I/O, through build/tests/unit, which is made of tests/unit.
-- SPDX-License-Identifier: MIT
--
-- Each case is a test here, in a process of its own.

local program = require "program"
local server = require "server"

local TestUnit = {}

local runner = program.binary():match "^(.*)/" .. "/tests/unit"

for name in server.run({ runner, "--list" }, { user = false }):gmatch "%S+" do
   TestUnit["test_" .. name] = function()
      server.run({ runner, name }, { user = false })
   end
end

return TestUnit
