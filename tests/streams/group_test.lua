-- group_test.lua: sources with a group: a member of it, and a worker for each partition.
--
-- With a mock cluster; what only Kafka itself can show is in kafka/group_real_test.lua.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local kafka = require "kafka"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local remote_sinks = require "remote_sinks"
local wait = require "wait"

local TestGroup = {}

local TOPIC = "cdc.public.t"

local test = remote_sinks.tests(TestGroup, kafka.is_there, function()
   local mock = kafka.mock()
   mock:tell("topic %s 3", TOPIC)
   return mock
end)

-- Puts table t of <db> into Kafka; returns the lines that its changes are.
local function write(mock, db, state)
   local result = once.ok { dsn = db, state = state, script = ([[
      local t = pgcdc.source {table = "t", interval = 0.02, deletes = true}
      t:on("change", print)
      t:sink(pgcdc.sinks.kafka {brokers = %q, exact = false})]]):format(mock.brokers) }
   table.sort(result.lines)
   return result.lines
end

-- How a member is started; its script prints what comes.
local function how(mock, home, more)
   return { state = home:dsn(), options = { "--name", "enrich", "--lease", "3" }, script = ([[
      pgcdc.source {kafka = %q, topic = %q, group = "g", config = {
         ["topic.metadata.refresh.interval.ms"] = 500}, %s}:on("change", print)]]):format(
            mock.brokers, TOPIC, more or "") }
end

local function sorted(p)
   local lines = {}
   for i, line in ipairs(p:lines()) do
      lines[i] = line
   end
   table.sort(lines)
   return lines
end

local function leases(home)
   return home:value [[select string_agg(pipeline || case when expires > now() then '' else '-' end,
      ' ' order by pipeline) from pgcdc.lease]]
end

test("each_partition_has_a_worker", function(mock)
   local db, writes, home = fixtures.names(20), fixtures.state(), cluster.main():database()
   local written = write(mock, db, writes)
   local p = program.start(how(mock, home))
   p:wait_until(function() return #p:lines() >= 20 end, 30, "the changes")
   lu.assertEquals(sorted(p), written)
   wait.until_(function()
      return leases(home) == "enrich/0 enrich/1 enrich/2"
   end, 20, "the leases")
   local result = p:stop()
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(leases(home), "enrich/0- enrich/1- enrich/2-")
   -- nothing comes again
   db:exec "insert into t select i, 'more' from generate_series(21, 40) i"
   written = write(mock, db, writes)
   p = program.start(how(mock, home))
   p:wait_until(function() return #p:lines() >= 20 end, 30, "the changes")
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(sorted(p), written)
end)

return TestGroup
