-- contract_test.lua: what every sink keeps whatever dies, each by the same test.
-- SPDX-License-Identifier: MIT

local contract = require "contract"
local drivers = require "contract_drivers"

local TestContract = {}

for name, driver in pairs(drivers) do
   TestContract["test_" .. name] = function()
      if driver.is_there() then
         local count, kills = contract.run(driver, {})
         io.write(("%d changes, %d kills ... "):format(count, kills))
      end
   end
end

return TestContract
