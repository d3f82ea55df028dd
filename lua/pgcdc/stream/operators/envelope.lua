-- pgcdc.stream.operators.envelope: changes as other programs write them.
-- SPDX-License-Identifier: MIT
--
-- debezium cloudevents

local envelope = require "pgcdc.envelope"
local stream = require "pgcdc.stream.stream"

--- debezium(): changes as the value envelope of Debezium. cloudevents(): as CloudEvents 1.0.
for _, name in ipairs { "debezium", "cloudevents" } do
   stream.operator(name, function(node)
      node.input = function(value)
         node.out(envelope[name](value))
      end
   end)
end
