-- group_speed.lua: a part of bench.lua: what several workers of a topic are worth.
-- SPDX-License-Identifier: MIT
--
-- A handler waits 2 ms for a server, as one does that asks somebody else. The topic has one
-- partition, or four; a member starts as many workers. Their own clock says how long it took, the
-- server's.

local cluster = require "cluster"
local kafka = require "kafka"
local native = require "native"
local program = require "program"
local wait = require "wait"

local ROWS = 4000

-- What is done by a member, with its workers: changes a second, and the share of a core that the
-- member takes itself.
local function measure(broker, topic, database)
   local p = program.start {
      state = cluster.main():database():dsn(), options = { "--name", topic }, dsn = database,
      script = ([[
         local db = pgcdc.connect()
         pgcdc.source {kafka = %q, topic = %q, group = %q}:on("change", function()
            local row = db:query("select extract(epoch from clock_timestamp()) as at, "
               .. "pg_sleep(0.002)")[1]
            print(row.at)
         end)]]):format(broker.brokers, topic, topic),
   }
   p:wait_until(function() return #p:lines() > 0 end, 60, "the first change")
   local began, cpu = native.now(), native.proc_cpu(p:pid())
   p:wait_until(function() return #p:lines() >= ROWS end, 300, "all changes")
   local share = (native.proc_cpu(p:pid()) - cpu) / (native.now() - began)
   local first, last = math.huge, 0
   for _, line in ipairs(p:lines()) do
      local at = tonumber(line)
      first, last = math.min(first, at), math.max(last, at)
   end
   local result = p:stop()
   assert(result.status == 0, result.stderr)
   return ROWS / (last - first), share
end

-- What bench.lua gives: `line`, `say`.
return function(b)
   if not kafka.is_there() then
      return b.say "workers: not measured: apt install kcat librdkafka-dev, make native modules"
   end
   local broker = kafka.has_jars() and kafka.new() or kafka.mock()
   local database = cluster.main():database()
   database:exec(([[create table t (id int primary key);
      insert into t select generate_series(1, %d)]]):format(ROWS))
   local function topic(partitions)
      local name = "speed" .. partitions
      if broker.nodes then
         broker:admin(("topic,%s,%d"):format(name, partitions))
      else
         broker:tell("topic %s %d", name, partitions)
      end
      local result = program.run { dsn = database, bundled = "kafka", options = { "--once" },
         args = { table = "t", brokers = broker.brokers, topic = name, exact = "false",
                  name = name } }
      assert(result.status == 0, result.stderr)
      wait.until_(function() return broker:count(name, partitions) >= ROWS end, 60, "the topic")
      return name
   end
   local one, four = topic(1), topic(4)
   local slow = measure(broker, one, database)
   local fast, share = measure(broker, four, database)
   b.say("a handler that waits 2 ms: one worker %.0f changes/s, four %.0f", slow, fast)
   b.line("workers, four, to one", ("%.2f x"):format(fast / slow), ">= 3.50 x", fast / slow >= 3.5)
   b.line("workers, their member", ("%.2f %% of a core"):format(100 * share), "<= 1.00 %",
      share <= 0.01)
end
