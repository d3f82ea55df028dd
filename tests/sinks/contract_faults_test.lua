-- contract_faults_test.lua: every sink in trouble that is made to happen at a certain moment.
-- SPDX-License-Identifier: MIT

local cases = require "contract_cases"
local contract = require "contract"

local TestContractFaults = {}

local function add(case, names)
   contract.add(TestContractFaults, case, cases[case], names)
end

-- (Who gets requests by HTTP must look at their numbers for that.)
add("held", { "postgres", "redis_stream", "redis_hash", "nats", "clickhouse", "opensearch",
              "kafka" })
add("network", { "postgres", "redis_stream", "redis_hash", "nats", "http_one", "http_batches",
                 "clickhouse", "opensearch", "kafka" })
-- (Postgres keeps locks of who is gone until it notices: network_dead.)
add("vanished", { "redis_stream", "redis_hash", "nats", "kafka" })
add("trouble", { "http_one", "http_batches", "kafka_plain" })
add("big", { "postgres", "redis_stream", "redis_hash", "nats", "kafka" })
add("dies", { "prepared" })

return TestContractFaults
