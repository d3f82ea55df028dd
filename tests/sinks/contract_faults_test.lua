-- contract_faults_test.lua: every sink in every trouble that can be made to happen.
-- SPDX-License-Identifier: MIT

local cases = require "contract_cases"
local drivers = require "contract_drivers"

local TestContractFaults = {}

local function add(case, names)
   for _, name in ipairs(names) do
      TestContractFaults[("test_%s_%s"):format(name, case)] = function()
         local driver = drivers[name]
         if driver.is_there() then
            cases[case](name, driver.start(), "one")
         end
      end
   end
end

-- (Who gets requests by HTTP must look at their numbers for that.)
add("held", { "postgres", "redis_stream", "redis_hash", "nats", "clickhouse", "opensearch" })
add("network", { "postgres", "redis_stream", "redis_hash", "nats", "http_one", "http_batches",
                 "clickhouse", "opensearch" })
-- (Postgres keeps locks of who is gone until it notices: network_dead.)
add("vanished", { "redis_stream", "redis_hash", "nats" })
add("trouble", { "http_one", "http_batches", "kafka_plain" })
add("dies", { "prepared" })

return TestContractFaults
