-- debezium_real_test.lua: changes that Debezium itself has written into Kafka, read again.
-- SPDX-License-Identifier: MIT
--
-- For `make check-kafka`, which fetches Debezium's engine too, see tests/README.md.

local tree = require "tree"
package.path = tree.top .. "/tests/bench/peers/?.lua;" .. package.path

local cluster = require "cluster"
local contenders = require "contenders"
local fixtures = require "fixtures"
local kafka = require "kafka"
local lu = require "luaunit"
local program = require "program"
local wait = require "wait"

local TestDebeziumReal = {}

local TABLE = [[create table t (id int primary key, price numeric(12,2), free numeric, day date,
      clock time, at timestamp, zoned timestamptz, doc jsonb, raw bytea, list int[], flag boolean,
      u uuid, small smallint, large bigint, f real, d double precision, name text, long text);
   alter table t alter long set storage external;
   create publication peers for table t]]

local ROWS = [[insert into t select i, (i - 50) * 1234567.89, (i - 50) * 1e20 / 7,
      date '1960-02-28' + i * 400, time '00:00:00.000001' * 1 + i * interval '7 minutes 1 us',
      timestamp '1969-12-31 23:59:59.999999' + i * interval '3 days 1 us',
      timestamptz '2020-02-29 12:00:00+00' + i * interval '1 day 1 us',
      jsonb_build_object('i', i, 'x', 1.50), decode(md5(i::text), 'hex'), array[i, null, -i],
      i %% 2 = 0, md5(i::text)::uuid, -i, i * 90000000000000000, i * 0.1, i / 3.0,
      case when i %% 5 = 0 then null else E'n\t"' || i end, repeat('x', 3000)
   from generate_series(%d, %d) i]]

-- One server for all tests.
local server, broker

function TestDebeziumReal.setupClass()
   if os.getenv "PGCDC_KAFKA" then
      broker = kafka.new()
      server = cluster.new { name = "debezium", tcp = true, keep = true,
                             conf = { wal_level = "logical" } }
   end
end

local function test(name, f)
   TestDebeziumReal["test_" .. name] = function()
      if kafka.is_real_there() then
         f()
      end
   end
end

-- Debezium writes the table into a topic, with these settings.
local function start(name, settings)
   local self = { topic = name .. ".public.t" }
   broker:admin(("topic,%s,3"):format(self.topic))
   self.db = server:database()
   self.db:exec(TABLE)
   self.db:exec(ROWS:format(1, 50))
   self.contender = contenders.debezium(name, self.db, settings)
   self.proc = self.contender.start { kind = "kafka", brokers = broker.brokers,
                                      topic = self.topic }
   return self
end

local function await_records(self, n)
   wait.until_(function()
      assert(self.proc:alive(), self.proc:describe())
      return broker:count(self.topic) >= n
   end, 120, "Debezium")
end

local function contents(db, name, columns)
   return db:value(("select string_agg(r::text, E'\\n' order by id) from (select id, %s from %s) r")
      :format(columns, name))
end

-- A mirror of the topic is as the table, whatever happens to that.
local function check(self, columns)
   local target = cluster.main():database()
   local p = program.start { state = fixtures.state(), script = ([[
      pgcdc.source {kafka = %q, topic = %q}:sink(pgcdc.sinks.postgres {connect = %q,
         table = "copy"})]]):format(broker.brokers, self.topic, target:dsn()) }
   local function await(what)
      local ok, problem = pcall(wait.until_, function()
         assert(p:alive(), p:stderr())
         return target:value "select to_regclass('copy') is not null" == "t"
            and contents(target, "copy", columns) == contents(self.db, "t", columns)
      end, 30, what)
      if not ok then
         local got = contents(target, "copy", columns):gmatch "[^\n]+"
         for line in contents(self.db, "t", columns):gmatch "[^\n]+" do
            lu.assertEquals((got() or ""):sub(1, 400), line:sub(1, 400), problem)
         end
      end
   end
   await "the rows"
   self.db:exec(ROWS:format(51, 100))
   self.db:exec "update t set name = 'new' where id % 3 = 0" -- long stays as it was
   self.db:exec "update t set id = id + 1000, long = 'y' where id % 10 = 1"
   self.db:exec "delete from t where id % 4 = 0"
   self.db:exec "insert into t (id) values (0)"
   await_records(self, 150)
   await "the changes"
   local result = p:stop()
   lu.assertEquals(result.status, 0, result.stderr)
end

test("with_schemas", function()
   local self = start("schemas", { ["converter.schemas.enable"] = "true",
                                   ["tombstones.on.delete"] = "true" })
   await_records(self, 50)
   check(self, "price, trim_scale(free), day, clock, at, zoned, doc, raw, list, flag, u, small, "
      .. "large, f, d, name, long")
   self.proc:kill9()
end)

test("without_schemas", function()
   local self = start("plain", { ["tombstones.on.delete"] = "true",
                                 ["decimal.handling.mode"] = "string" })
   await_records(self, 50)
   check(self, "price::text, u::text, flag, small::int8, large, name, long")
   self.proc:kill9()
end)

-- Each delete is one change, though Debezium writes two records.
test("a_delete_is_one", function()
   local self = start("deletes", { ["tombstones.on.delete"] = "true" })
   await_records(self, 50)
   self.db:exec "delete from t where id <= 20"
   await_records(self, 90)
   local p = program.start { state = fixtures.state(), options = { "--once" }, script = ([[
      pgcdc.source {kafka = %q, topic = %q}:on("change", function(c) print(c.op) end)]]):format(
         broker.brokers, self.topic) }
   local result = p:finish(60)
   lu.assertEquals(result.status, 0, result.stderr)
   local count = {}
   for _, op in ipairs(result.lines) do
      count[op] = (count[op] or 0) + 1
   end
   lu.assertEquals(count, { read = 50, delete = 20 })
   self.proc:kill9()
end)

return TestDebeziumReal
