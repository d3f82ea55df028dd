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

-- A delete that the sink writes twice, as a value and as a tombstone, is one; also where a run ends
-- between the two. (One that follows a tombstone is of its own.)
test("a_delete_and_its_tombstone_are_one", function(cluster)
   local db, writes, reads = fixtures.names(3), fixtures.state(), fixtures.state()
   write(cluster, db, writes, 'deletes = "both"')
   read(cluster, reads)
   db:exec "DELETE FROM t WHERE id = 2"
   lu.assertEquals(read(cluster, reads), {})
   local written = write(cluster, db, writes, 'deletes = "both"')
   lu.assertEquals(#written, 1)
   lu.assertEquals(read(cluster, reads), written)
   lu.assertEquals(read(cluster, reads), {})
   local headers = cluster:read(TOPIC)[1].headers
   cluster:write(TOPIC, '{"id":9}', '{"op":"delete","key":{"id":9},"row":null,"xid":1,"seq":2,'
      .. '"ts":"2026-01-01T00:00:00.000Z","id":"public.t/1/9/deleted"}',
      { shape = headers.shape, op = "delete" })
   lu.assertEquals(#read(cluster, reads), 1)
   local of = { shape = headers.shape, op = "delete", ts = headers.ts, seq = "3" }
   cluster:write(TOPIC, '{"id":9}', nil, of)
   lu.assertEquals(read(cluster, reads), {})
   cluster:write(TOPIC, '{"id":9}', nil, of)
   lu.assertEquals(#read(cluster, reads), 1) -- that one is of its own
end)

-- ---- Debezium ----

local FIELDS = [[{"type":"int32","optional":false,"field":"id"},
   {"type":"bytes","optional":true,"name":"org.apache.kafka.connect.data.Decimal",
    "parameters":{"scale":"2","connect.decimal.precision":"10"},"field":"price"},
   {"type":"int32","name":"io.debezium.time.Date","field":"day"},
   {"type":"int64","name":"io.debezium.time.MicroTimestamp","field":"at"},
   {"type":"string","name":"io.debezium.time.ZonedTimestamp","field":"zoned"},
   {"type":"string","name":"io.debezium.data.Json","field":"doc"},
   {"type":"bytes","field":"raw"},
   {"type":"array","items":{"type":"int32"},"field":"list"},
   {"type":"boolean","field":"flag"},
   {"type":"string","field":"long"}]]

local AFTER = [[{"id":7,"price":"/w==","day":-1,"at":1500000001234567,
   "zoned":"2026-01-02T03:04:05.5Z","doc":"{\"a\": 1.50}","raw":"AP8=","list":[1,null],"flag":true,
   "long":"__debezium_unavailable_value"}]]

local function flat(text)
   return (text:gsub("\n%s*", ""))
end

local SOURCE = '"source":{"ts_ms":1500000000123,"db":"shop","schema":"public","table":"o",'
   .. '"txId":99,"lsn":5}'

test("an_envelope_with_its_schema", function(cluster)
   local value = flat(([[{"schema":{"type":"struct","fields":[
      {"type":"struct","fields":[%s],"optional":true,"field":"after"}]},
      "payload":{"before":null,"after":%s,%s,"op":"u","ts_ms":1}}]]):format(FIELDS, AFTER, SOURCE))
   cluster:write(TOPIC, '{"schema":{"type":"struct"},"payload":{"id":7}}', value)
   local change = json.decode(read(cluster, fixtures.state())[1])
   lu.assertEquals({ change.op, change.key, change.xid, change.ts },
      { "update", { id = 7 }, 99, "2017-07-14T02:40:00.123Z" })
   lu.assertStrMatches(change.id, "public%.o/99/%d%.0")
   lu.assertEquals(change.row, { id = 7, price = -0.01, day = "1969-12-31",
      at = "2017-07-14T02:40:01.234567", zoned = "2026-01-02T03:04:05.5+00:00",
      doc = { a = 1.5 }, raw = "\\x00ff", list = { 1, json.null }, flag = true })
end)

test("an_envelope_without_a_schema", function(cluster)
   local function put(key, op, before, after)
      cluster:write(TOPIC, key, ('{"before":%s,"after":%s,%s,"op":"%s"}'):format(before, after,
         SOURCE, op))
   end
   local key = '{"id":1}'
   put(key, "r", "null", '{"id":1,"n":12345678901234567,"x":1.5,"b":false,"d":{"a":[]},"t":null}')
   put(key, "u", '{"id":1,"n":1,"t":null}', '{"id":1,"n":2.5,"t":"text"}')
   put(key, "d", '{"id":1,"n":null,"t":null}', "null")
   put(key, "t", "null", "null")
   cluster:write(TOPIC, "no json", '{"before":null,"after":{"id":1},' .. SOURCE .. ',"op":"c"}')
   local result = once.run { state = fixtures.state(), script = ([[
      pgcdc.source {kafka = %q, topic = %q, on_error = "dead_letter", dead_letter = function(l)
         print("letter " .. l.error) end}:on("change", print)]]):format(cluster.brokers, TOPIC) }
   once.succeed(result)
   local changes, letters = {}, {}
   for _, line in ipairs(result.lines) do
      if line:find "^letter" then
         letters[#letters + 1] = line
      else
         changes[#changes + 1] = json.decode(line)
      end
   end
   table.sort(letters)
   lu.assertEquals(letters, { "letter it has no key: its table has no primary key, perhaps",
                              "letter it is no change of a row: its op is 't'" })
   lu.assertEquals({ changes[1].op, changes[1].row }, { "read", { id = 1, n = 12345678901234567,
      x = 1.5, b = false, d = { a = {} }, t = json.null } })
   lu.assertEquals({ changes[2].op, changes[2].row, changes[2].old }, { "update",
      { id = 1, n = 2.5, t = "text" }, { id = 1, n = 1, t = json.null } })
   lu.assertEquals({ changes[3].op, changes[3].row, changes[3].old, #changes },
      { "delete", json.null, nil, 3 })
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
   state = fixtures.state() -- what came before the first of these may have been saved
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
