-- kafka_real_test.lua: pgcdc.sinks.kafka against Apache Kafka itself.
-- SPDX-License-Identifier: MIT
--
-- For `make check-kafka`, see tests/README.md. $PGCDC_KAFKA_KILLS: how often the program is killed,
-- a fifth as often the broker.

local contract = require "contract"
local fixtures = require "fixtures"
local json = require "json"
local kafka = require "kafka"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local tables = require "tables"
local wait = require "wait"

local TestKafkaReal = {}

local KILLS = math.tointeger(os.getenv "PGCDC_KAFKA_KILLS") or 15

local cluster -- one node for all tests, which have names of their own

function TestKafkaReal.setupClass()
   cluster = os.getenv "PGCDC_KAFKA" and kafka.new()
end

local function test(name, f)
   TestKafkaReal["test_" .. name] = function()
      if kafka.is_real_there() then
         f()
      end
   end
end

local function script(options)
   return ([[pgcdc.source {table = "t", interval = 0.02, deletes = true}:sink(pgcdc.sinks.kafka {
      brokers = %q, %s})]]):format(cluster.brokers, options)
end

-- A topic of its own, and the options for it.
local serial = 0
local function fresh()
   serial = serial + 1
   local name = "k" .. serial
   return name, ('topic = %q, name = %q'):format(name, name)
end

local function ids(messages)
   local list = {}
   for i, message in ipairs(messages) do
      list[i] = json.decode(message.payload).row.id
   end
   table.sort(list)
   return table.concat(list, " ")
end

test("a_lost_state_file", function()
   local topic, options = fresh()
   local db = fixtures.names(5)
   once.ok { dsn = db, state = fixtures.state(), script = script(options) }
   db:exec "update t set name = 'x' where id = 3"
   once.ok { dsn = db, state = fixtures.state(), script = script(options) }
   lu.assertEquals(ids(cluster:read(topic)), "1 2 3 3 4 5")
end)

-- Kafka forgets a position that nobody has stored anew for a week: that of the state file counts.
test("a_position_that_is_forgotten", function()
   local topic, options = fresh()
   local db, state = fixtures.names(5), fixtures.state()
   local how = { dsn = db, state = state, script = script(options) }
   once.ok(how)
   cluster:admin("forget,pgcdc." .. topic)
   db:exec "update t set name = 'x' where id = 3"
   once.ok(how)
   lu.assertEquals(ids(cluster:read(topic)), "1 2 3 3 4 5")
   local p = program.start(how)
   p:wait_stderr 'msg="ready"'
   cluster:admin("forget,pgcdc." .. topic)
   db:exec "update t set name = 'x' where id = 4"
   wait.until_(function() return #cluster:read(topic) == 7 end, 30, "the change")
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(ids(cluster:read(topic)), "1 2 3 3 4 4 5")
end)

-- In another cluster there is nothing of what the state file says, so it does not go on there.
test("another_cluster", function()
   local topic, options = fresh()
   local db, state = fixtures.names(5), fixtures.state()
   once.ok { dsn = db, state = state, script = script(options) }
   local other = kafka.new(1, nil, { id = "BBBBBBBBBBBBBBBBBBBBBQ" })
   local how = { dsn = db, state = state, script = script(options):gsub(cluster.brokers,
      other.brokers) }
   local result = once.ends(4, how)
   lu.assertStrContains(result.text, "the Kafka cluster BBBBBBBBBBBBBBBBBBBBBQ")
   lu.assertEquals(other:read(topic), {})
   once.ok(how, { options = { "--reset" } })
   lu.assertEquals(ids(other:read(topic)), "1 2 3 4 5")
end)

-- Somebody else has the name, while this one sleeps: it must write nothing more.
test("a_stopped_process_is_refused", function()
   local topic, options = fresh()
   local db = fixtures.names(5)
   local old = program.start { dsn = db, state = fixtures.state(), script = script(options) }
   wait.until_(function() return #cluster:read(topic) == 5 end, 30, "all rows")
   old:signal "STOP"
   db:exec "update t set name = 'x' where id = 3"
   once.ok { dsn = db, state = fixtures.state(), script = script(options) }
   old:signal "CONT"
   local result = old:finish(60)
   lu.assertEquals(result.status, 1, result.stderr)
   lu.assertStrContains(result.stderr, "another pgcdc-lua has taken over the sink")
   lu.assertEquals(ids(cluster:read(topic)), "1 2 3 3 4 5")
end)

-- ---- several sinks ----

-- Sinks of a script share a producer. Somebody else has one of them, alone, while this one sleeps.
test("one_of_two_sinks_has_moved", function()
   local odd, first = fresh()
   local even, second = fresh()
   local db = fixtures.names(6)
   local both = ([[local t = pgcdc.source {table = "t", interval = 0.02}
      local first = pgcdc.sinks.kafka {brokers = %q, %s}
      local second = pgcdc.sinks.kafka {brokers = %q, %s}
      t:filter(function(c) return c.row.id %% 2 == 1 end):sink(first)
      t:filter(function(c) return c.row.id %% 2 == 0 end):sink(second)]]):format(cluster.brokers,
      first, cluster.brokers, second)
   local old = program.start { dsn = db, state = fixtures.state(), script = both }
   wait.until_(function()
      return #cluster:read(odd) + #cluster:read(even) == 6
   end, 30, "all rows")
   old:signal "STOP"
   db:exec "update t set name = 'x' where id = 4"
   once.ok { dsn = db, state = fixtures.state(), script = ([[
      pgcdc.source {table = "t"}:filter(function(c) return c.row.id %% 2 == 0 end)
         :sink(pgcdc.sinks.kafka {brokers = %q, %s})]]):format(cluster.brokers, second) }
   db:exec "update t set name = 'x' where id in (2, 3)"
   old:signal "CONT"
   local result = old:finish(60)
   lu.assertEquals(result.status, 1, result.stderr)
   lu.assertStrContains(result.stderr, "another pgcdc-lua has taken over the sink")
   lu.assertEquals({ ids(cluster:read(odd)), ids(cluster:read(even)) }, { "1 3 5", "2 4 4 6" })
   -- both go on together, with what the other program has done
   once.ok { dsn = db, state = fixtures.state(), script = both }
   lu.assertEquals({ ids(cluster:read(odd)), ids(cluster:read(even)) },
      { "1 3 3 5", "2 2 4 4 6" })
end)

-- ---- kills ----

-- The changes of a topic, as `contract` has them.
local function changes_of(target, topic)
   local changes = {}
   for i, message in ipairs(target:read(topic)) do
      local change = json.decode(message.payload)
      changes[i] = { id = change.id, key = tostring(change.key.id), seq = change.seq,
                     op = change.op, v = change.row and change.row.v }
   end
   return changes
end

-- A driver for `contract`. <start>: makes the cluster.
local function driver_of(topic, options, start, kill)
   return {
      promise = "exact",
      start = start,
      script = function(target)
         return ("local sink = pgcdc.sinks.kafka {brokers = %q, %s}\n"):format(target.brokers,
            options)
      end,
      read = function(target)
         return changes_of(target, topic)
      end,
      kill = kill,
   }
end

-- Java's consumer sees the same records, and Java's partitioner would have put them there.
local function check_java(target, topic)
   local seen = {}
   for line in target:java("Read.java", topic):gmatch "[^\n]+" do
      seen[#seen + 1] = line:gsub("\t", " ")
   end
   local ours = {}
   for i, message in ipairs(target:read(topic)) do
      ours[i] = table.concat({ message.partition, message.key, message.headers.id }, " ")
   end
   table.sort(seen)
   table.sort(ours)
   lu.assertEquals(seen, ours)
end

-- Each has half of the rows: what one has and the other has not would come again in one of them.
test("kills_with_two_sinks", function()
   local odd, first = fresh()
   local even, second = fresh()
   local driver = driver_of(nil, nil, function() return cluster end)
   function driver.script()
      return ([[local first = pgcdc.sinks.kafka {brokers = %q, %s}
         local second = pgcdc.sinks.kafka {brokers = %q, %s}
         local function sink(c) return (c.key.id %% 2 == 0 and second or first):write(c) end
         ]]):format(cluster.brokers, first, cluster.brokers, second)
   end
   function driver.read()
      return tables.join(changes_of(cluster, odd), changes_of(cluster, even))
   end
   local count, kills = contract.run(driver, { kills = KILLS // 2, pause = 1, rounds = 5 * KILLS,
                                               seconds = 60 + 20 * KILLS })
   io.write(("%d changes, %d kills ... "):format(count, kills))
end)

-- Two tables, of which a transaction changes both: what a transaction of ours brings is of one
-- snapshot of both, whatever is killed. Everything has one key, so it is in one partition, where
-- the end of each transaction takes an offset that is no message's.
test("kills_of_two_tables_that_are_read_together", function()
   local topic, options = fresh()
   local db = fixtures.database [[
      create table a (id int primary key, v int);
      create table b (id int primary key, v int);
      insert into a select i, 100 from generate_series(1, 20) i;
      insert into b select * from a;
      create procedure move() language plpgsql as $$
      declare
         i int := 0;
      begin
         loop
            i := i % 20 + 1;
            update a set v = v - 1 where id = i;
            perform pg_sleep(0.005);
            update b set v = v + 1 where id = i;
            commit;
            exit when i = 20 and exists (select from pg_class where relname = 'stopped');
         end loop;
      end $$]]
   local how = { dsn = db, state = fixtures.state(), script = ([[
      local sink = pgcdc.sinks.kafka {brokers = %q, key = function() return "one" end, %s}
      for _, name in ipairs {"a", "b"} do
         pgcdc.source {table = name, together = "both", interval = 0.02}:sink(sink)
      end]]):format(cluster.brokers, options) }
   local writer = db:connect()
   writer:send "call move()"
   for _ = 1, KILLS do
      local p = program.start(how)
      p:wait_stderr('msg="ready"', 60)
      local before = cluster:count(topic)
      wait.until_(function() return cluster:count(topic) > before + 100 end, 60, "transactions")
      p:kill9()
   end
   db:exec "create table stopped ()"
   wait.until_(function() return not writer:busy() end, 60, "the writer to stop")
   once.ok(how)
   local balance, last, seen, transactions = { a = {}, b = {} }, nil, {}, 0
   local function check()
      for id = 1, 20 do
         lu.assertEquals(balance.a[id] + balance.b[id], 200, "of row " .. id)
      end
      transactions = transactions + 1
   end
   for _, message in ipairs(cluster:read(topic)) do
      if last and message.offset > last + 1 then
         check()
      end
      last = message.offset
      local change = json.decode(message.payload)
      lu.assertNil(seen[change.id], change.id)
      seen[change.id] = true
      balance[change.table][change.key.id] = change.row.v
   end
   check()
   for _, name in ipairs { "a", "b" } do
      lu.assertEquals(table.concat(balance[name], " "),
         db:value("select string_agg(v::text, ' ' order by id) from " .. name))
   end
   lu.assertTrue(transactions > KILLS, transactions)
   io.write(("%d transactions, %d kills ... "):format(transactions, KILLS))
end)

test("kills_of_both_ends", function()
   local topic, options = fresh()
   local driver = driver_of(topic, options, function() return cluster end, function(target)
      target:kill()
      target:start()
      target:await(1)
   end)
   local count, kills, target_kills = contract.run(driver, { kills = KILLS, pause = 1,
      target_kills = KILLS // 5, rounds = 10 * KILLS, seconds = 60 + 20 * KILLS })
   io.write(("%d changes, %d kills, %d of the broker ... "):format(count, kills, target_kills))
   check_java(cluster, topic)
end)

test("one_of_three_brokers_is_lost", function()
   local three
   local lost = 0
   local topic, options = fresh()
   local driver = driver_of(topic, options, function()
      three = kafka.new(3)
      return three
   end, function(target)
      target:kill(lost + 1)
      target:start(lost + 1)
      target:await(3)
      lost = (lost + 1) % 3
   end)
   local count, kills, target_kills = contract.run(driver, { kills = 6, target_kills = 3, pause = 1,
                                                             rounds = 80, seconds = 300 })
   io.write(("%d changes, %d kills, %d of a broker ... "):format(count, kills, target_kills))
   check_java(three, topic)
end)

-- ---- what is sent before the flush ----

-- Rows of which the broker has some before their batch is complete.
local LARGE = "repeat(md5(i::text), 30)"

-- An operator of another branch holds a row of each poll, so the position that can be saved is that
-- before: what is sent already of later polls is not stored with it.
test("what_is_sent_beyond_the_position", function()
   local topic, options = fresh()
   local db = fixtures.database "create table t (id int primary key, name text, k text)"
   local how = { dsn = db, state = fixtures.state(), script = ([[
      local s = pgcdc.source {table = "t", interval = 0.01, start = "now"}
      s:sink(pgcdc.sinks.kafka {brokers = %q, %s})
      s:only(function(c) return c.row.k end):partition(2, {key = "k"}):sink(function() end)
      s:on("ready", function() print "ready" io.flush() end)
      s:on("batch", function(batch) print("batch " .. batch.count) io.flush() end)]]):format(
         cluster.brokers, options) }
   local p = program.start(how)
   local function add(first, last, at_first, at_last)
      db:exec(([[insert into t select i, %s, case i when %d then %s when %d then %s end
         from generate_series(%d, %d) i]]):format(LARGE, first, at_first, last, at_last, first,
         last))
      p:wait_until(function()
         return p:stdout():find("batch " .. last - first + 1 .. "\n", 1, true)
      end, 20, "a batch")
   end
   p:wait_until(function() return p:stdout():find "ready" end, 20, "the start")
   add(1, 801, "null", "'a'")
   lu.assertEquals(cluster:read(topic), {})
   add(802, 1803, "'a'", "'b'")
   wait.until_(function() return #cluster:read(topic) == 801 end, 20, "the first poll")
   add(1804, 2606, "'b'", "null")
   wait.until_(function() return #cluster:read(topic) >= 1803 end, 20, "the rest")
   p:kill9()
   once.ok(how)
   local expected = {}
   for i = 1, 2606 do
      expected[i] = i
   end
   lu.assertEquals(ids(cluster:read(topic)), table.concat(expected, " "))
end)

-- It is killed when the broker has some of a batch, and when it has all of it or not.
test("kills_while_a_batch_is_sent", function()
   local topic, options = fresh()
   local db, state = fixtures.names(6000, LARGE), fixtures.state()
   local how = { dsn = db, state = state, script = script(options) }
   for round = 1, KILLS do
      local before = round > 1 and cluster:count(topic) or 0
      local p = program.start(how)
      wait.until_(function()
         return cluster:count(topic) > before + 100
      end, 30, "a part of a batch")
      p:kill9()
      db:exec(("update t set name = name || 'x' where id %% 7 = %d"):format(round % 7))
   end
   once.ok(how)
   local seen = {}
   for _, message in ipairs(cluster:read(topic)) do
      lu.assertNil(seen[message.headers.id], message.headers.id)
      seen[message.headers.id] = true
   end
   local all = db:value "select string_agg('public.t/' || xmin || '/' || id, ' ') from t"
   local count = 0
   for id in all:gmatch "%S+" do
      lu.assertTrue(seen[id], id)
      count = count + 1
   end
   lu.assertEquals(count, 6000)
end)

-- ---- records that are too large ----

test("a_record_too_large_for_the_broker", function()
   local topic, options = fresh()
   -- hashes, so that no compression helps
   local db = fixtures.database [[create table t (id int primary key, name text);
      insert into t select i, case when i = 7 then (select string_agg(md5(k::text), '')
         from generate_series(1, 60000) k) else 'n' end from generate_series(1, 20) i]]
   local how = { dsn = db, state = fixtures.state(), script = script(options) }
   local result = once.ends(1, how)
   lu.assertStrContains(result.text, "Message size too large")
   lu.assertEquals(cluster:read(topic), {})
   how.script = script(options .. ', dead_topic = "pgcdc.dead", config = {["compression.type"] '
      .. '= "none"}')
   result = once.run(how)
   lu.assertEquals(result.status, 1, result.stderr) -- it is too large for the other topic, too
   how.script = script(options):gsub("deletes = true}", 'deletes = true, on_error = "skip"}')
   lu.assertEquals(once.run(how).status, 0)
   lu.assertEquals(ids(cluster:read(topic)), "1 2 3 4 5 6 8 9 10 11 12 13 14 15 16 17 18 19 20")
end)

-- Each is found by itself, and undone with all that was sent beside it.
test("records_too_large_for_the_broker", function()
   local topic, options = fresh()
   local db = fixtures.database [[create table t (id int primary key, name text);
      insert into t select i, case when i in (1, 7, 8, 20) then (select string_agg(md5(
         (i * k)::text), '') from generate_series(1, 60000) k) else 'n' end
         from generate_series(1, 20) i]]
   local result = once.run { dsn = db, state = fixtures.state(),
      script = script(options):gsub("deletes = true}", 'deletes = true, on_error = "skip"}') }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(ids(cluster:read(topic)), "2 3 4 5 6 9 10 11 12 13 14 15 16 17 18 19")
   lu.assertEquals(select(2, result.stderr:gsub("Message size too large", "")), 4)
end)

-- The limit is of what is compressed, which only the broker knows.
test("a_large_record_that_compresses", function()
   local topic, options = fresh()
   local db = fixtures.names(3, "repeat('x', 3000000)")
   once.ok { dsn = db, state = fixtures.state(), script = script(options) }
   lu.assertEquals(ids(cluster:read(topic)), "1 2 3")
end)

return TestKafkaReal
