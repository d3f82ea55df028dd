-- contract_sweep_test.lua: every sink, killed or cut off at each step of what it sends and saves.
-- SPDX-License-Identifier: MIT
--
-- A step is a send to the target, an answer of it, or a call that changes a file. A kill or a cut
-- is in the middle of a send, and after an answer has come, before the program has it. Here some
-- of the steps; in `make sweep` all. The run that goes on after a kill has a clock that is an hour
-- slow, so that numbers of changes must not be taken from it.

local contract = require "contract"
local drivers = require "contract_drivers"
local lu = require "luaunit"
local sabotage = require "sabotage"

local TestContractSweep = {}

local is_whole = os.getenv "PGCDC_SWEEP" ~= nil

-- It was killed, or, where the step was not reached any more, came to its end.
local function is_killed(p)
   local result = sabotage.finish(p, 60)
   lu.assertTrue(result.signal == 9 or result.status == 0, result.stderr)
   return result
end

-- What was cut off goes on by itself.
local function goes_on(p)
   local result = sabotage.finish(p, 60)
   lu.assertEquals(result.status, 0, result.stderr)
   return result
end

local function test(name, how, n, expect)
   local driver = drivers[name]
   if contract.is_there(name) then
      local target = driver.start()
      how.peer = driver.peer and driver.peer(target)
      local count = sabotage.sweep(contract.scenario(name, target), how, n, expect)
      lu.assertTrue(count > 0 or is_whole) -- whose strides may be long
   end
end

for name, driver in pairs(drivers) do
   local over_network = driver.peer ~= nil
   TestContractSweep[("test_%s_killed"):format(name)] = function()
      local class = is_whole and "sends files" or over_network and "sends" or "files"
      test(name, { class = class, how = "kill", clock = -3600 }, 3, is_killed)
   end
   if over_network then
      TestContractSweep[("test_%s_cut_off"):format(name)] = function()
         test(name, { class = "sends answers", how = "once" }, 2, goes_on)
      end
   end
end

return TestContractSweep
