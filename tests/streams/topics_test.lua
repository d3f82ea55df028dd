-- topics_test.lua: sources that read what a sink wrote into topics of Kafka, from a mock cluster.
-- SPDX-License-Identifier: MIT

local ctl = require "ctl"
local fixtures = require "fixtures"
local json = require "json"
local kafka = require "kafka"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local remote_sinks = require "remote_sinks"
local values = require "values"

local TestTopics = {}

local TOPIC = "cdc.public.t"

local test = remote_sinks.tests(TestTopics, kafka.is_there, function()
   local cluster = kafka.mock()
   cluster:tell("topic %s 3", TOPIC)
   return cluster
end)

-- Puts table t into Kafka; returns the lines of JSON that the same changes are without it.
local function write(cluster, db, state, sink)
   local result = once.ok {
      dsn = db, state = state,
      script = ([[local t = pgcdc.source {table = "t", interval = 0.02, deletes = true}
         t:on("change", print)
         t:sink(pgcdc.sinks.kafka {brokers = %q, exact = false, %s})]]):format(cluster.brokers,
         sink or ""),
   }
   table.sort(result.lines)
   return result.lines
end

-- Reads the topic; returns the lines, sorted.
local function read(cluster, state, options)
   local result = once.ok {
      state = state,
      script = ([[pgcdc.source {kafka = %q, topic = %q, %s}:on("change", print)]]):format(
         cluster.brokers, TOPIC, options or ""),
   }
   table.sort(result.lines)
   return result.lines
end

test("changes_are_what_they_were", function(cluster)
   local db, writes, reads = fixtures.names(3), fixtures.state(), fixtures.state()
   local written = write(cluster, db, writes)
   lu.assertEquals(#written, 3)
   lu.assertEquals(read(cluster, reads), written)
   lu.assertEquals(read(cluster, reads), {}) -- the position was kept
   db:exec "UPDATE t SET name = E'tab\there' WHERE id = 2; DELETE FROM t WHERE id = 3"
   written = write(cluster, db, writes)
   lu.assertEquals(#written, 2)
   lu.assertEquals(read(cluster, reads), written)
end)

test("tombstones_are_deletes", function(cluster)
   local db, writes, reads = fixtures.names(2), fixtures.state(), fixtures.state()
   write(cluster, db, writes, 'deletes = "tombstone"')
   read(cluster, reads)
   db:exec "DELETE FROM t WHERE id = 2"
   local written = json.decode(write(cluster, db, writes, 'deletes = "tombstone"')[1])
   local change = json.decode(read(cluster, reads)[1])
   written.row = json.null
   lu.assertEquals({ change.op, change.key, change.row, change.xid, change.seq, change.ts },
      { "delete", { id = 2 }, json.null, written.xid, written.seq, written.ts })
end)

test("what_is_no_change_goes_the_way_of_on_error", function(cluster)
   local state = fixtures.state()
   write(cluster, fixtures.names(1), fixtures.state())
   local shape = cluster:read(TOPIC)[1].headers.shape
   cluster:write(TOPIC, "k", "no header")
   cluster:write(TOPIC, "k", "{}", { shape = "0123456789abcdef" })
   cluster:write(TOPIC, "k", '{"op":"update"}', { shape = shape })
   local source = 'pgcdc.source {kafka = %q, topic = %q, %s}:on("change", print)'
   local result = once.script(nil, source:format(cluster.brokers, TOPIC, ""), 1, { state = state })
   lu.assertStrContains(result.text, "it is no change: it has no header 'shape'")
   lu.assertStrContains(result.text, "topic 'cdc.public.t', partition ")
   result = once.succeed(once.run { state = state, script = source:format(cluster.brokers, TOPIC,
      [[on_error = "dead_letter", dead_letter = function(letter)
         print(letter.error, letter.change.value) end]]) })
   table.sort(result.lines)
   lu.assertEquals({ #result.lines, table.unpack(result.lines, 1, 3) }, { 4,
      "it is no change: it has no header 'shape', and is no envelope of Debezium's\tno header",
      "it is no change: it has no key\t{\"op\":\"update\"}",
      "its shape 0123456789abcdef is not in the topic 'pgcdc-shapes'\t{}",
   })
   lu.assertEquals(read(cluster, state), {}) -- the position moved past them
end)

test("bad_input", function(cluster)
   local function fails(status, text, spec, options)
      local result = once.script(nil, ("pgcdc.source {kafka = %q, %s}"):format(cluster.brokers,
         spec), status, options)
      lu.assertStrContains(result.text, text)
   end
   fails(1, 'topic = "..." says what of Kafka is read', "")
   fails(1, "cannot be the name of a topic", 'topic = "a b"')
   fails(1, "pgcdc.source{kafka=...}: unknown field 'interval'", 'topic = "t", interval = 1')
   fails(1, "start: unknown (a number); there are: now, snapshot", 'topic = "t", start = 7')
   -- a position that is not in the topic
   write(cluster, fixtures.names(3), fixtures.state())
   local state = fixtures.state()
   read(cluster, state)
   local other = kafka.mock()
   other:tell("topic %s 3", TOPIC)
   local result = once.script(nil, ("pgcdc.source {kafka = %q, topic = %q}"):format(other.brokers,
      TOPIC), 1, { state = state })
   lu.assertStrContains(result.text, "has the offsets 0 to 0, and the position is ")
   lu.assertStrContains(result.text, "--reset reads it from its start")
end)

-- Every type: the JSON of each change, and what Lua finds in its row, are as if the table was read.
-- (The null of a jsonb column is NULL afterwards: JSON has one null only.)
test("values_of_every_type", function(cluster)
   local db, writes = fixtures.database "", fixtures.state()
   values.create(db, 40, 1)
   db:exec 'alter table "values" rename to t'
   local show = [[t:on("change", function(c)
      local list = {tostring(c)}
      for name, value in pairs(c.row) do
         if value == pgcdc.null then
            value = nil
         end
         list[#list + 1] = ("%q %s %q"):format(name, math.type(value) or type(value),
            type(value) == "table" and pgcdc.json.encode(value) or tostring(value))
      end
      print((table.concat(list, ";"):gsub("\n", "N")))
   end)]]
   local function lines(source)
      local result = once.ok { dsn = db, state = source.state,
         script = ("local t = pgcdc.source {%s}\n%s\n%s"):format(source.spec, show,
            source.more or "") }
      table.sort(result.lines)
      return result.lines
   end
   local written = lines {
      state = writes, spec = "table = 't'",
      more = ("t:sink(pgcdc.sinks.kafka {brokers = %q, exact = false})"):format(cluster.brokers),
   }
   lu.assertEquals(#written, 40)
   local again = lines {
      state = fixtures.state(),
      spec = ("kafka = %q, topic = %q"):format(cluster.brokers, TOPIC),
   }
   lu.assertEquals(#again, #written)
   for i, line in ipairs(written) do
      local at = 1
      while at <= #line and line:byte(at) == again[i]:byte(at) do
         at = at + 1
      end
      lu.assertEquals(again[i]:sub(at - 30, at + 30), line:sub(at - 30, at + 30))
   end
end)

test("status", function(cluster)
   local db = fixtures.names(3)
   write(cluster, db, fixtures.state())
   local p = program.start { script = ([[pgcdc.source {kafka = %q, topic = %q}
      :on("change", print)]]):format(cluster.brokers, TOPIC) }
   p:wait_until(function() return #p:lines() == 3 end)
   local source = ctl.status(p).sources[1]
   lu.assertEquals({ source.name, source.table, source.capture }, { TOPIC, TOPIC, "kafka" })
   p:stop()
end)

return TestTopics
