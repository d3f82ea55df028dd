-- contract_losses_test.lua: every sink, when its target or its state file is lost or another one.
-- SPDX-License-Identifier: MIT

local contract = require "contract"
local losses = require "contract_losses"

local TestContractLosses = {}

local function add(case, names)
   contract.add(TestContractLosses, case, losses[case], names)
end

local IN_TARGET = { "postgres", "redis_stream", "redis_hash", "nats" } -- where the position is

add("restored", IN_TARGET)
add("restored", { "kafka" })
add("emptied", IN_TARGET)
add("exchanged", IN_TARGET)
add("state_file", { "redis_stream", "redis_hash", "nats", "postgres", "clickhouse", "opensearch",
                    "http_one", "kafka" })
add("reset", { "postgres", "redis_stream", "redis_hash", "nats", "http_one", "http_batches",
               "clickhouse", "opensearch", "kafka_plain", "kafka", "jsonl", "prepared" })
add("taken_over", { "redis_stream", "redis_hash", "nats", "kafka" })
add("two_programs", { "clickhouse", "opensearch" }) -- which have versions of rows

return TestContractLosses
