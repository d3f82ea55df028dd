-- contract_mutants_test.lua: the cases of contract_faults find out programs that are wrong.
-- SPDX-License-Identifier: MIT
--
-- See tests/mutants/sinks.lua.

local cases = require "contract_cases"
local contract = require "contract"
local drivers = require "contract_drivers"
local files = require "files"
local losses = require "contract_losses"
local lu = require "luaunit"
local mutant = require "mutant"
local refused = require "contract_refused"
local tree = require "tree"

local TestContractMutants = {}

for what, it in pairs(assert(load(files.text(tree.top .. "/tests/mutants/sinks.lua")))()) do
   TestContractMutants["test_" .. what] = function()
      local name, case, words = table.unpack(it.found_by)
      local driver = drivers[name]
      if not contract.is_there(name) then
         return
      end
      mutant.with(it, function()
         local f = cases[case] or losses[case] or refused[case]
         local ok, problem = pcall(f, name, driver.start(), "one")
         lu.assertFalse(ok, "nothing was found wrong with the mutant")
         lu.assertStrContains(type(problem) == "table" and problem.msg or tostring(problem), words)
      end)
   end
end

return TestContractMutants
