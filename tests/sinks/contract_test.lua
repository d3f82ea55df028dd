-- contract_test.lua: what every sink keeps whatever dies, each by the same test.
-- SPDX-License-Identifier: MIT

local contract = require "contract"
local drivers = require "contract_drivers"

local TestContract = {}

local LONG = { kills = 50, target_kills = 24, rounds = 1500, seconds = 900 }

for name, driver in pairs(drivers) do
   TestContract["test_" .. name] = function()
      if contract.is_there(name) then
         local count, kills = contract.run(driver, contract.is_whole and LONG or {})
         io.write(("%d changes, %d kills ... "):format(count, kills))
      end
   end
end

return TestContract
