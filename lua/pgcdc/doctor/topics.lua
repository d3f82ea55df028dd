-- pgcdc.doctor.topics: what mends a source of topics of Kafka that cannot be read.
-- SPDX-License-Identifier: MIT
--
-- What is wrong was found where a run would find it, and says what may be meant.

local mend = require "pgcdc.mend"

local topics = {}

-- The option `topic`, with another name in the place of a wrong one.
local function renamed(spec, wrong, right)
   local list = {}
   for i, name in ipairs(type(spec.topic) == "table" and spec.topic or { spec.topic }) do
      list[i] = name == wrong and right or name
   end
   return { mend.option("topic", list) }
end

--- Completes the item of a source, see pgcdc.doctor.doctor. `facts`: of the source, see feeds.
function topics.examine(item, facts)
   local wrong, right = item.text:match "topic '(.-)': .*; did you mean '(.-)'"
   item.mends = not item.ok and wrong and renamed(facts.spec, wrong, right) or {}
end

return topics
