-- kafka_takeover_test.lua: takeovers of a pipeline that writes into Apache Kafka itself.
-- SPDX-License-Identifier: MIT
--
-- For `make check-kafka`. What happens to a leader: support/takeover.lua; $PGCDC_TAKEOVERS: how
-- often each.

local audits = require "takeover_audits"
local json = require "json"
local kafka = require "kafka"
local takeover = require "takeover"

local TestKafkaTakeover = {}

local cluster -- one node for all tests, which have topics of their own

function TestKafkaTakeover.setupClass()
   cluster = os.getenv "PGCDC_KAFKA" and kafka.new()
end

local serial = 0

-- For `contract`; the target is the name of a topic.
local driver = {
   promise = "exact",
   audit = audits.kafka(function() return cluster end),
   opens = 3, -- seconds until a broker on a busy machine has let a new program in
   start = function()
      serial = serial + 1
      return "takeover" .. serial
   end,
   script = function(topic)
      return ([[local sink = pgcdc.sinks.kafka {brokers = %q, topic = %q, name = %q}
         ]]):format(cluster.brokers, topic, topic)
   end,
   read = function(topic)
      local changes = {}
      for i, message in ipairs(cluster:read(topic)) do
         local change = json.decode(message.payload)
         changes[i] = { id = change.id, key = tostring(change.key.id), seq = change.seq,
                        op = change.op, v = change.row and change.row.v }
      end
      return changes
   end,
   cut = function()
      cluster.nodes[1].proc:kill "STOP"
   end,
   heal = function()
      cluster.nodes[1].proc:kill "CONT"
   end,
}

for what in pairs(takeover.troubles) do
   TestKafkaTakeover["test_" .. what] = function()
      if kafka.is_real_there() then
         takeover.repeated(driver, what, takeover.times or 1)
      end
   end
end

return TestKafkaTakeover
