-- contract_refused_test.lua: every sink whose target refuses some rows.
-- SPDX-License-Identifier: MIT

local contract = require "contract"
local refused = require "contract_refused"

local TestContractRefused = {}

for case, f in pairs(refused) do
   contract.add(TestContractRefused, case, f, { "postgres", "nats", "http_one", "http_batches",
                                                "clickhouse", "opensearch", "kafka_plain",
                                                "kafka" })
end

return TestContractRefused
