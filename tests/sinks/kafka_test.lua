-- kafka_test.lua: pgcdc.sinks.kafka against a mock cluster.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local json = require "json"
local kafka = require "kafka"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local remote_sinks = require "remote_sinks"
local wait = require "wait"

local TestKafka = {}

local TOPIC = "cdc.public.t"

local test, script, ids = kafka.tests(TestKafka), kafka.script, kafka.ids

-- ---- records ----

test("a_topic", function(cluster)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(cluster) }
   once.ok(how)
   local messages = cluster:read(TOPIC)
   lu.assertEquals(#messages, 3)
   for _, message in ipairs(messages) do
      local change, headers = json.decode(message.payload), message.headers
      lu.assertEquals({ change.op, message.key }, { "read", json.encode { id = change.row.id } })
      lu.assertEquals({ headers.op, headers.id, headers.seq, headers.schema, headers.table,
                        headers.ts },
         { "read", change.id, tostring(change.seq), "public", "t", change.ts })
   end
   db:exec "update t set name = 'x' where id = 2"
   once.ok(how)
   once.ok(how)
   lu.assertEquals(ids(cluster:read(TOPIC)), "1 2 2 3")
end)

-- What is in the topic, in the order of the partition: key=op or key=nothing.
local function marks(cluster)
   local list = {}
   for _, message in ipairs(cluster:read "one") do
      list[#list + 1] = ("%s=%s"):format(message.key, message.payload
         and json.decode(message.payload).op or "nothing")
   end
   return table.concat(list, " ")
end

test("deletes", function(cluster)
   cluster:tell "topic one 1"
   local db = fixtures.names(1)
   local expected = { value = "n1=read n1=delete", tombstone = "n1=read n1=nothing",
                      both = "n1=read n1=delete n1=nothing" }
   local so_far = ""
   for _, mode in ipairs { "value", "tombstone", "both" } do
      db:exec "delete from t; insert into t values (1, 'n1')"
      local how = { dsn = db, state = fixtures.state(), script = script(cluster,
         ('topic = "one", key = "name", deletes = %q, name = %q'):format(mode, mode),
         "deletes = true, old = true") }
      once.ok(how)
      db:exec "delete from t"
      once.ok(how)
      so_far = so_far .. (so_far == "" and "" or " ") .. expected[mode]
      lu.assertEquals(marks(cluster), so_far)
   end
end)

test("topics_keys_and_headers_of_ones_own", function(cluster)
   cluster:tell "topic even 1"
   local how = { dsn = fixtures.names(4), script = script(cluster, [[
      topic = function(c) return c.row.id % 2 == 0 and "even" or nil end,
      key = function(c) return "k" .. c.row.id end,
      headers = {from = "{schema}.{table}", ["a b"] = "{row.name}"},
      format = function(c) return c.row.id == 4 and "" or c.row.name end]]) }
   once.ok(how)
   local messages = cluster:read "even"
   lu.assertEquals(#messages, 2)
   lu.assertEquals({ messages[1].key, messages[1].payload, messages[2].key, messages[2].payload },
      { "k2", "n2", "k4", "" })
   lu.assertEquals(messages[1].headers, { from = "public.t", ["a b"] = "n2" })
end)

test("envelopes_and_no_key", function(cluster)
   once.ok { dsn = fixtures.names(1), script = script(cluster,
      'format = "debezium", key = "none", headers = false') }
   local message = cluster:read(TOPIC)[1]
   lu.assertNil(message.key)
   lu.assertEquals(message.headers, {})
   lu.assertEquals(json.decode(message.payload).op, "r")
end)

-- What Java's client takes for keys like these: Utils.murmur2 of the bytes.
test("partitions_are_those_of_Java", function(cluster)
   cluster:tell "topic seven 7"
   local hashes = { ["21"] = -973932308, foobar = -790332482, ["a-little-bit-long-string"] =
      -985981536, ["a-little-bit-longer-string"] = -1486304829, abc = 479470107 }
   local lines = { ([[local s = pgcdc.sinks.kafka {brokers = %q, topic = "seven",
      key = function(v) return v end}]]):format(cluster.brokers) }
   for key in pairs(hashes) do
      lines[#lines + 1] = ("s:write %q"):format(key)
   end
   once.ok { script = table.concat(lines, "\n") }
   local messages = cluster:read "seven"
   lu.assertEquals(#messages, 5)
   for _, message in ipairs(messages) do
      lu.assertEquals(message.partition, (hashes[message.key] & 0x7fffffff) % 7, message.key)
   end
end)

test("shapes", function(cluster)
   local db, state = fixtures.database [[create domain price as numeric(9, 2);
      create table t (id int primary key, p price, b bytea, l text[]);
      insert into t values (1, 1.50, '\x00', '{a}')]], fixtures.state()
   local how = { dsn = db, state = state, script = script(cluster) }
   once.ok(how)
   once.ok(how)
   local shapes = cluster:read "pgcdc-shapes"
   lu.assertEquals(#shapes, 1)
   lu.assertEquals(json.decode(shapes[1].payload), {
      schema = "public", table = "t", key = { { name = "id", type = "integer" } },
      columns = { { name = "id", type = "integer" }, { name = "p", type = "numeric(9,2)" },
                  { name = "b", type = "bytea" }, { name = "l", type = "text[]" } },
   })
   lu.assertEquals(cluster:read(TOPIC)[1].headers.shape, shapes[1].key)
   db:exec "alter table t add x jsonb; update t set x = '1'"
   once.ok(how)
   shapes = cluster:read "pgcdc-shapes"
   lu.assertEquals(#shapes, 2)
   lu.assertEquals(json.decode(shapes[2].payload).columns[5], { name = "x", type = "jsonb" })
   lu.assertEquals(cluster:read(TOPIC)[2].headers.shape
      == shapes[1].key, cluster:read(TOPIC)[1].headers.shape ~= shapes[1].key)
end)

-- Fields that a script has changed, of one row in two.
test("changes_that_a_script_has_altered", function(cluster)
   cluster:tell "topic cdc.other.t 1"
   once.ok { dsn = fixtures.names(4), script = ([[
      local s = pgcdc.sinks.kafka {brokers = %q}
      pgcdc.source {table = "t"}:on("change", function(c)
         if c.row.id %% 2 == 0 then
            c.id, c.seq, c.ts, c.schema = "mine", 7, "now", "other"
            c.key.id = 100
         end
         s:write(c)
      end)]]):format(cluster.brokers) }
   local usual, other = cluster:read(TOPIC), cluster:read "cdc.other.t"
   lu.assertEquals({ #usual, #other }, { 2, 2 })
   for _, message in ipairs(other) do
      local headers = message.headers
      lu.assertEquals({ headers.id, headers.seq, headers.ts, headers.schema, message.key },
         { "mine", "7", "now", "other", '{"id":100}' })
      lu.assertEquals(json.decode(message.payload).id, "mine")
   end
   for _, message in ipairs(usual) do
      lu.assertEquals({ message.headers.schema, message.headers.id },
         { "public", json.decode(message.payload).id })
   end
end)

-- What is in a topic, by the ids of the changes, without times and numbers that differ by run.
local function contents(cluster, topic)
   local all = {}
   for _, message in ipairs(cluster:read(topic)) do
      local headers = message.headers
      message.payload = message.payload:gsub('"seq":%d+,"ts":"[^"]*"', "")
      headers.seq, headers.ts = nil, nil
      lu.assertNil(all[headers.id], headers.id)
      all[headers.id] = { message.key, message.payload, headers, message.partition }
   end
   return all
end

-- Rows go to a sink without Lua where it is all that listens: what gets there is the same.
test("rows_that_nobody_else_takes", function(cluster)
   cluster:tell "topic direct 3"
   cluster:tell "topic handled 3"
   local db = fixtures.database [[create table t (a text, b int, n numeric, at timestamptz, j jsonb,
         bytes bytea, list int[], x text, primary key (a, b));
      insert into t select 'a,' || i % 7 || E'\t%', i, i / 3.0, timestamptz '2020-01-01' + i
            * interval '1 s', jsonb_build_object('k', i), '\xff00', array[i, null],
            case when i % 3 > 0 then repeat('é"\n', i) end
         from generate_series(1, 400) i]]
   local states = {}
   local function run()
      for topic, more in pairs { direct = "", handled = 's:on("change", function() end)' } do
         states[topic] = states[topic] or fixtures.state()
         once.ok { dsn = db, state = states[topic], script = ([[
            local s = pgcdc.source {table = "t", deletes = true, old = true}
            s:sink(pgcdc.sinks.kafka {brokers = %q, topic = %q})
            %s]]):format(cluster.brokers, topic, more) }
      end
   end
   run()
   db:exec [[update t set x = 'new' where b % 10 = 0;
      insert into t (a, b) select 'null', i from generate_series(1, 50) i;
      delete from t where b between 100 and 150]]
   run()
   local direct, handled = contents(cluster, "direct"), contents(cluster, "handled")
   local count = 0
   for id, message in pairs(direct) do
      lu.assertEquals(message, handled[id])
      count, handled[id] = count + 1, nil
   end
   lu.assertNil(next(handled))
   lu.assertEquals(count, 400 + 34 + 50 + 51)
end)

test("values_that_are_no_changes", function(cluster)
   once.ok { script = ([[local s = pgcdc.sinks.kafka {brokers = %q, topic = %q}
      s:write {a = 1}
      print(pcall(function() s:write "text" end))]]):format(cluster.brokers, TOPIC) }
   local payloads = {}
   for i, message in ipairs(cluster:read(TOPIC)) do
      payloads[i] = message.payload
   end
   table.sort(payloads)
   lu.assertEquals(payloads, { '"text"', '{"a":1}' })
end)

-- ---- several sinks ----

-- Two sinks, that of the even ids has other options.
local function two_sinks(cluster, first, second, more)
   return ([[local t = pgcdc.source {table = "t", interval = 0.02, %s}
      local function is_even(c) return (c.row or c.key).id %% 2 == 0 end
      local odd = pgcdc.sinks.kafka {brokers = %q, topic = "odd", name = "odd", %s}
      local even = pgcdc.sinks.kafka {brokers = %q, topic = "even", name = "even", %s}
      t:remove(is_even):sink(odd)
      t:filter(is_even):sink(even)]]):format(more or "", cluster.brokers, first, cluster.brokers,
      second)
end

test("sinks_of_one_cluster_share_a_transaction", function(cluster)
   cluster:tell "topic odd 1"
   cluster:tell "topic even 1"
   local db, state = fixtures.names(20), fixtures.state()
   local how = { dsn = db, state = state, script = two_sinks(cluster, "", "") }
   once.ok(how)
   lu.assertEquals(ids(cluster:read "odd"), "1 3 5 7 9 11 13 15 17 19")
   lu.assertEquals(ids(cluster:read "even"), "2 4 6 8 10 12 14 16 18 20")
   db:exec "update t set name = 'x' where id = 2"
   once.ok(how)
   db:exec "update t set name = 'x' where id = 3"
   once.ok(how)
   lu.assertEquals(ids(cluster:read "odd"), "1 3 3 5 7 9 11 13 15 17 19")
   lu.assertEquals(ids(cluster:read "even"), "2 2 4 6 8 10 12 14 16 18 20")
end)

test("shared_transactions_survive", function(cluster)
   cluster:tell "topic odd 1"
   cluster:tell "topic even 1"
   for i, fault in ipairs { { "produce", "invalid_epoch", 1 }, { "end_transaction", "fenced", 1 },
                            { "commit_offsets", "load_in_progress", 2 } } do
      cluster:fail(table.unpack(fault))
      local db = fixtures.names(20, "'n" .. i .. "'")
      once.ok { dsn = db, state = fixtures.state(), script = two_sinks(cluster, "", "") }
      for topic, first in pairs { odd = 1, even = 2 } do
         local seen = {}
         for _, message in ipairs(cluster:read(topic)) do
            local row = json.decode(message.payload).row
            seen[row.id] = seen[row.id] or row.name == "n" .. i
         end
         for id = first, 20, 2 do
            lu.assertTrue(seen[id] ~= nil, topic)
         end
      end
   end
end)

-- A record that is too large is found, wherever it is, and refused for its own sink.
test("shared_transactions_and_a_record_that_is_too_large", function(cluster)
   cluster:tell "topic odd 1"
   cluster:tell "topic even 1"
   local options = 'config = {["message.max.bytes"] = 2000, ["batch.size"] = 1500}'
   local db = fixtures.names(20, "case when i in (2, 7, 18) then repeat('x', 5000) else 'n' end")
   local result = once.run { dsn = db, state = fixtures.state(),
      script = two_sinks(cluster, options, options, 'on_error = "skip"') }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(ids(cluster:read "odd", true), "1 3 5 9 11 13 15 17 19")
   lu.assertEquals(ids(cluster:read "even", true), "4 6 8 10 12 14 16 20")
   lu.assertEquals(select(2, result.stderr:gsub("Message size too large", "")), 3)
end)

-- ---- trouble ----

local TWENTY = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"

-- All rows get there, whatever the cluster says to requests of that kind, <times> times. (It does
-- not hide what was undone: so some may be there twice.)
local function survives(api, code, times, options)
   test(("survives_%s_%s"):format(api, code), function(cluster)
      local db = fixtures.names(20)
      cluster:fail(api, code, times)
      once.ok { dsn = db, state = fixtures.state(), script = script(cluster, options) }
      lu.assertEquals(ids(cluster:read(TOPIC), true), TWENTY)
   end)
end

survives("produce", "not_leader", 2)
survives("produce", "invalid_epoch", 1)
survives("produce", "fenced", 1)
survives("init", "load_in_progress", 2)
survives("init", "concurrent", 2)
survives("add_partitions", "not_coordinator", 2)
survives("add_offsets", "concurrent", 2)
survives("commit_offsets", "load_in_progress", 2)
survives("end_transaction", "not_coordinator", 2)
survives("end_transaction", "fenced", 1)
survives("offset_fetch", "not_coordinator", 1)

-- The program ends with that status, and says so.
local function ends(api, code, status, message, options)
   test(("ends_%s_%s"):format(api, code), function(cluster)
      cluster:fail(api, code, 30)
      local result = once.ends(status, { dsn = fixtures.names(1), state = fixtures.state(),
                                         script = script(cluster, options) })
      lu.assertStrContains(result.text, message)
   end)
end

ends("produce", "topic_denied", 3, "kafka: topic cdc.public.t: Broker: Topic authorization failed: "
   .. "the user needs WRITE and DESCRIBE on the topic 'cdc.public.t'", "shapes = false")
ends("init", "id_denied", 3, "the user needs WRITE and DESCRIBE on the transactional id "
   .. "'pgcdc.kafka'")
ends("commit_offsets", "group_denied", 3, "the user needs READ on the group 'pgcdc.kafka'")
ends("add_partitions", "topic_denied", 3, "the user needs WRITE and DESCRIBE on the topic")

-- librdkafka would never take a message that is larger than its queue.
test("more_than_the_queue_takes", function(cluster)
   cluster:tell "topic many 30"
   local db = fixtures.names(60, "case when i = 2 then repeat('x', 5000) else 'n' end")
   once.ok { dsn = db, state = fixtures.state(), script = script(cluster, [[topic = "many",
      config = {["queue.buffering.max.kbytes"] = 1, ["queue.buffering.max.messages"] = 40}]]) }
   lu.assertEquals(select(2, ids(cluster:read "many", true):gsub("%d+", "")), 60)
end)

-- ---- what is sent before the flush ----

-- Rows of which the broker has some before their batch is complete.
local LARGE = "repeat(md5(i::text), 30)"

test("a_batch_is_sent_while_it_is_taken", function(cluster)
   cluster:tell "topic one 1"
   local db = fixtures.names(2000, LARGE)
   local seen = once.ok { dsn = db, script = ([[
      local s = pgcdc.source {table = "t"}
      s:sink(pgcdc.sinks.kafka {brokers = %q, topic = "one"})
      s:on("change", function(c)
         if c.row.id == 1900 then
            local f = io.popen "kcat -b %s -Q -t one:0:-1"
            print(f:read "a":match "offset (%%d+)")
            f:close()
         end
      end)]]):format(cluster.brokers, cluster.brokers) }
   lu.assertTrue(tonumber(seen.stdout) >= 200, seen.stdout)
   lu.assertEquals(select(2, ids(cluster:read "one"):gsub("%d+", "")), 2000)
end)

for _, code in ipairs { "not_leader", "invalid_epoch" } do
   test("trouble_with_what_is_sent_early_" .. code, function(cluster)
      cluster:tell "topic one 1"
      local db = fixtures.names(2000, LARGE)
      cluster:fail("produce", code, 2)
      once.ok { dsn = db, script = script(cluster, 'topic = "one"') }
      lu.assertEquals(select(2, ids(cluster:read "one", true):gsub("%d+", "")), 2000)
   end)
end

test("waits_for_brokers", function(cluster)
   cluster:tell "down 1"
   local p = program.start { dsn = fixtures.names(20), state = fixtures.state(),
                             options = { "--once" }, script = script(cluster) }
   p:wait_stderr "cannot connect to"
   cluster:tell "up 1"
   lu.assertEquals(p:finish().status, 0)
   lu.assertEquals(ids(cluster:read(TOPIC), true), TWENTY)
end)

test("brokers_that_go_and_come_back", function(cluster)
   local db = fixtures.names(20)
   local p = program.start { dsn = db, state = fixtures.state(), script = script(cluster) }
   p:wait_stderr "snapshot finished"
   cluster:tell "down 1"
   db:exec "update t set name = 'x'"
   cluster:tell "up 1"
   wait.until_(function()
      return #cluster:read(TOPIC) >= 40
   end, 30, "the second version of all rows")
   lu.assertEquals(p:stop().status, 0)
end)

test("a_stop_while_brokers_are_away", function(cluster)
   cluster:tell "down 1"
   local p = program.start { dsn = fixtures.names(1), state = fixtures.state(),
                             script = script(cluster) }
   p:wait_stderr "cannot connect to"
   local began = native.now()
   lu.assertEquals(p:stop().status, 0)
   lu.assertTrue(native.now() - began < wait.scaled(3), native.now() - began)
end)

test("without_transactions", function(cluster)
   local db, state = fixtures.names(20), fixtures.state()
   local how = { dsn = db, state = state, script = script(cluster, "exact = false") }
   cluster:fail("produce", "not_leader", 2)
   once.ok(how)
   db:exec "update t set name = 'x' where id = 1"
   once.ok(how)
   lu.assertEquals(ids(cluster:read(TOPIC)), "1 " .. TWENTY)
end)

-- ---- options ----

function TestKafka.test_bad_options()
   if not kafka.is_there() then
      return
   end
   local long = ("x"):rep(250)
   for options, message in pairs {
      ['topic = "a b"'] = "kafka: topic: 'a b' cannot be the name of a topic",
      [('topic = %q'):format(long)] = "249 at most",
      ['topic = "{nothing}"'] = "in braces",
      ["topic = 7"] = "topic",
      ['deletes = "never"'] = "deletes",
      ['deletes = "both", key = "none"'] = 'deletes = "both" needs a key',
      ['headers = "id"'] = "headers",
      ['headers = {["a\\nb"] = "x"}'] = "must have no control characters",
      ['headers = {a = 1}'] = "headers.a",
      ['positions = ""'] = "positions",
      ['positions = "a b"'] = "positions: 'a b' cannot be the name of a topic",
      ['dead_topic = "a/b"'] = "dead_topic: 'a/b' cannot be the name of a topic",
      [('shapes = %q'):format(long)] = "249 at most",
      ['name = ""'] = "name",
      ['flush_rows = 0'] = "flush_rows",
      ['timeout = 0'] = "timeout",
      ['brokers = 7'] = "brokers",
      ['tls = {cert = "/x"}'] = "cert and key belong together",
      ['no_such = 1'] = "no_such",
      ['shapes = "s", format = "debezium"'] = 'shapes is for format = "json" with headers',
      ["config = {acks = 1}"] = "config: acks is set by the sink",
      ['config = {["transactional.id"] = "x"}'] = "transactional.id is set by the sink: say name",
      ['config = {["no.such.thing"] = 1}'] = 'config: No such configuration property: "no.such',
      ['config = {["linger.ms"] = "soon"}'] = "Invalid value",
      ['config = {["linger.ms"] = {}}'] = "config.linger.ms",
      ['config = {["queue.buffering.max.kbytes"] = 0}'] = "at least 1",
      ['user = "u"'] = "user and password belong together",
      ['exact = 1'] = "exact",
   } do
      local result = once.ends(1, { state = false, script = script("127.0.0.1:1", options) })
      lu.assertStrContains(result.text, "pgcdc.sinks.kafka: ")
      lu.assertStrContains(result.text, message)
   end
end

-- An empty text is a value, and no tombstone.
test("an_empty_text", function(cluster)
   once.ok { dsn = fixtures.names(2), state = fixtures.state(), script = script(cluster,
      "format = function(c) return c.row.id == 1 and '' or nil end, shapes = false") }
   local messages = cluster:read(TOPIC)
   lu.assertEquals({ #messages, messages[1].payload, messages[1].key }, { 1, "", '{"id":1}' })
end)

-- What functions return that cannot be: the message names option and row; nothing is sent.
test("what_a_function_may_not_return", function(cluster)
   local db = fixtures.names(2)
   for options, message in pairs {
      ['topic = function() return {} end'] = "topic: its function must return",
      ['topic = function() return "" end'] = "topic: its function must not return an empty text",
      ['topic = function() return ("x"):rep(250) end'] = "249 at most",
      ['key = function() return {} end'] = "key: its function must return",
      ['format = function() return 7 end'] = "format: its function must return",
      ['topic = function() error "mine" end'] = "mine",
      ['key = "nothing"'] = "nothing",
   } do
      local result = once.ends(1, { dsn = db, state = fixtures.state(),
                                    script = script(cluster, options) })
      lu.assertStrContains(result.text, message)
      lu.assertStrContains(result.text, "public.t")
   end
   lu.assertEquals(cluster:read(TOPIC), {})
end)

test("two_sinks_of_one_name", function(cluster)
   local result = once.ends(1, { state = false, script = ([[
      pgcdc.sinks.kafka {brokers = %q} pgcdc.sinks.kafka {brokers = %q}]]):format(cluster.brokers,
      cluster.brokers) })
   lu.assertStrContains(result.text, "two sinks are named 'kafka'")
end)

test("a_name_of_a_topic_that_cannot_be", function(cluster)
   local db = fixtures.names(1, "'a b'")
   local result = once.ends(1, { dsn = db, state = fixtures.state(),
                                 script = script(cluster, 'topic = "{row.name}"') })
   lu.assertStrContains(result.text, "'a b' cannot be the name of a topic")
end)

test("a_check_changes_nothing", function(cluster)
   local result = program.run { dsn = fixtures.names(1), state = fixtures.state(),
                                options = { "--check" }, script = script(cluster) }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrMatches(result.stdout, ".*sink kafka: Kafka cluster %S+, 1 brokers.*")
   lu.assertEquals(cluster:read(TOPIC), {})
   result = program.run { dsn = fixtures.names(1), state = fixtures.state(),
                          options = { "--check" }, script = script "127.0.0.1:1" }
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrContains(result.stderr, "cannot connect to 127.0.0.1:1: ")
end)

test("in_the_sandbox", function(cluster)
   local how = { dsn = fixtures.names(2), state = fixtures.state(), script = script(cluster),
                 options = { "--sandbox", "--allow-network" } }
   once.ok(how)
   lu.assertEquals(ids(cluster:read(TOPIC)), "1 2")
   for _, name in ipairs { "plugin.library.paths", "ssl.engine.location", "debug",
                           "sasl.kerberos.kinit.cmd" } do
      how.script = script(cluster, ('config = {["%s"] = "x"}'):format(name))
      lu.assertStrContains(once.ends(1, how).text, "config: the sandbox does not allow " .. name)
   end
   remote_sinks.check_needs_network("kafka", how)
end)

return TestKafka
