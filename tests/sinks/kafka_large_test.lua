-- kafka_large_test.lua: records that are too large for Kafka, or for pgcdc.sinks.kafka itself.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local kafka = require "kafka"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local tables = require "tables"
local wait = require "wait"

local TestKafkaLarge = {}

local TOPIC = "cdc.public.t"
local TWENTY = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"

local test, script, ids = kafka.tests(TestKafkaLarge), kafka.script, kafka.ids

-- One request is refused as too large, and with it all records in it; then each goes alone. The
-- first one is refused again.
test("a_record_that_is_too_large_is_found", function(cluster)
   cluster:tell "topic one 1"
   local db = fixtures.names(20)
   cluster:fail("produce", "too_large", 2)
   local result = once.run { dsn = db, state = fixtures.state(), script = script(cluster,
      'topic = "one", shapes = false', 'on_error = "skip"') }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stderr, "Message size too large")
   local refused = select(2, result.stderr:gsub("Message size too large", ""))
   local there = ids(cluster:read "one", true)
   lu.assertEquals(refused, 1)
   lu.assertEquals(select(2, there:gsub("%d+", "")), 19)
end)

-- The same, when the transaction that it is found in cannot be undone: there is a new producer.
for _, code in ipairs { "fenced", "not_coordinator" } do
   test("a_record_is_found_though_its_transaction_stays_" .. code, function(cluster)
      cluster:tell "topic one 1"
      local db = fixtures.database "create table t (id int primary key, name text)"
      local p = program.start { dsn = db, state = fixtures.state(), script = script(cluster,
         'topic = "one", shapes = false', 'on_error = "skip"') }
      p:wait_stderr 'msg="?ready'
      cluster:fail("produce", "too_large", 2)
      cluster:fail("end_transaction", code, 1)
      db:exec "insert into t select i, 'n' from generate_series(1, 20) i"
      local function refused()
         return select(2, p:stderr():gsub("Message size too large", ""))
      end
      wait.until_(function()
         return refused() + select(2, ids(cluster:read "one", true):gsub("%d+", "")) == 20
      end, 60, "the other records")
      lu.assertEquals(p:stop().status, 0)
      lu.assertTrue(refused() <= 1) -- 0: the first try went in two requests
   end)
end

test("a_record_goes_to_the_dead_topic", function(cluster)
   cluster:tell "topic one 1"
   cluster:tell "topic dead 1"
   local db = fixtures.names(20)
   cluster:fail("produce", "too_large", 2)
   once.ok { dsn = db, state = fixtures.state(), script = script(cluster,
      'topic = "one", dead_topic = "dead", shapes = false') }
   local dead = cluster:read "dead"
   lu.assertEquals(#dead, 1)
   lu.assertStrContains(dead[1].headers.error, "Message size too large")
   lu.assertEquals(dead[1].headers.op, "read")
   local all = tables.join(cluster:read "one", dead)
   lu.assertEquals(ids(all, true), TWENTY)
end)

-- What librdkafka itself refuses.
test("a_record_beyond_our_own_limit", function(cluster)
   local db = fixtures.names(3, "case when i = 2 then repeat('x', 5000) else 'n' end")
   local options = 'config = {["message.max.bytes"] = 2000, ["batch.size"] = 1500}'
   local how = { dsn = db, state = fixtures.state(), script = script(cluster, options) }
   local result = once.ends(1, how)
   lu.assertStrContains(result.text, "Message size too large")
   how.script = script(cluster, options, 'on_error = "skip"')
   once.run(how)
   lu.assertEquals(ids(cluster:read(TOPIC), true), "1 3")
end)

return TestKafkaLarge
