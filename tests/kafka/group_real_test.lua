-- group_real_test.lua: members of a group and their workers, against Apache Kafka itself.
-- SPDX-License-Identifier: MIT
--
-- For `make check-kafka`, see tests/README.md. $PGCDC_GROUP_SECONDS: how long members are killed,
-- stopped and started, for each number of members (default 20).

local cluster = require "cluster"
local fixtures = require "fixtures"
local json = require "json"
local kafka = require "kafka"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local seeds = require "seeds"
local tables = require "tables"
local wait = require "wait"

local TestGroupReal = {}

local SECONDS = tonumber(os.getenv "PGCDC_GROUP_SECONDS") or 20

local broker -- one node for all tests, which have names of their own

function TestGroupReal.setupClass()
   broker = os.getenv "PGCDC_KAFKA" and kafka.new()
   if broker then
      broker:admin("topic,pgcdc-shapes,1,cleanup.policy=compact", "topic,pgcdc-positions,1")
   end
end

local function test(name, f)
   TestGroupReal["test_" .. name] = function()
      if kafka.is_real_there() then
         f()
      end
   end
end

local serial = 0

-- A topic of so many partitions, which a program fills from table t (id, n) of a database.
local function case(partitions)
   serial = serial + 1
   local self = { topic = "g" .. serial, out = "g" .. serial .. ".out", name = "g" .. serial }
   broker:admin(("topic,%s,%d"):format(self.topic, partitions),
      ("topic,%s,%d"):format(self.out, partitions))
   self.db = fixtures.database [[create table t (id int primary key, n int not null);
      create table u (id int primary key, n int not null)]]
   self.home, self.target = cluster.main():database(), cluster.main():database()
   self.writer = program.start { dsn = self.db, script = ([[
      pgcdc.source {table = "t", interval = 0.05, deletes = true}:sink(pgcdc.sinks.kafka {
         brokers = %q, topic = %q, name = %q})]]):format(broker.brokers, self.topic, self.topic) }
   self.members = {}
   return self
end

-- Sums of n by id, into a table and a topic.
local SUMS = [[
   local sums = pgcdc.state "sums"
   local source = pgcdc.source {kafka = %q, topic = %q, group = %q, config = {
      ["topic.metadata.refresh.interval.ms"] = 1000, ["session.timeout.ms"] = 6000}}
   local out = source:map(function(c)
      local key = tostring(c.key.id)
      local last = sums[key] or {0, 0}
      sums[key] = {last[1] + 1, last[2] + (c.row and c.row.n or 0)}
      return {id = c.key.id, count = sums[key][1], sum = sums[key][2]}
   end)
   out:sink(pgcdc.sinks.postgres {connect = %q, table = "sums", pk = "id"})
   out:sink(pgcdc.sinks.kafka {brokers = %q, topic = %q, name = %q,
      key = function(row) return tostring(row.id) end})]]

local function how(self, script)
   return { state = self.home:dsn(), options = { "--name", self.name, "--lease", "3" },
            script = script or SUMS:format(broker.brokers, self.topic, self.name,
               self.target:dsn(), broker.brokers, self.out, self.name .. "o") }
end

local function start(self, script)
   local p = program.start(how(self, script))
   table.insert(self.members, p)
   return p
end

-- The pids of a member's workers.
local function workers_of(p)
   local list = {}
   return native.children(p:pid())
end

-- What the output must be: {[id] = {{count, sum}, ...}}, from what is in the topic.
local function expected(self)
   local of = {}
   for _, message in ipairs(broker:read(self.topic)) do
      local change = json.decode(message.payload)
      local list = of[change.key.id] or {}
      local last = list[#list] or { 0, 0 }
      of[change.key.id] = list
      list[#list + 1] = { last[1] + 1,
         last[2] + (change.row ~= json.null and change.row and change.row.n or 0) }
   end
   return of
end

-- Waits until the table has the sums, and checks that each output came once.
local function check(self, seconds)
   wait.until_(function() -- all is in the topic
      local n = self.db:value "select count(*) || ' ' || coalesce(sum(n), 0) from t"
      local live = {}
      for _, message in ipairs(broker:read(self.topic)) do
         local change = json.decode(message.payload)
         live[change.key.id] = change.row ~= json.null and change.row and change.row.n or nil
      end
      local count, sum = 0, 0
      for _, value in pairs(live) do
         count, sum = count + 1, sum + value
      end
      return n == ("%d %d"):format(count, sum)
   end, 60, "the writer")
   local wants, rows = expected(self), {}
   for id, list in pairs(wants) do
      rows[#rows + 1] = ("%d:%d:%d"):format(id, list[#list][1], list[#list][2])
   end
   table.sort(rows)
   local want = table.concat(rows, " ")
   wait.until_(function()
      if self.target:value "select to_regclass('sums')" == "" then
         return false
      end
      return self.target:value [[select string_agg(x, ' ' order by x collate "C")
         from (select id || ':' || count || ':' || sum as x from sums) s]] == want
   end, seconds or 60, "the sums")
   local seen = {}
   for _, message in ipairs(broker:read(self.out)) do
      local row = json.decode(message.payload)
      local key = ("%d %d"):format(row.id, row.count)
      lu.assertNil(seen[key], "twice: " .. key)
      seen[key] = row.sum
   end
   local n = 0
   for id, list in pairs(wants) do
      for _, each in ipairs(list) do
         n = n + 1
         lu.assertEquals(seen[("%d %d"):format(id, each[1])], each[2], "output " .. id)
      end
   end
   local count = 0
   for _ in pairs(seen) do
      count = count + 1
   end
   lu.assertEquals(count, n)
   return n
end

local function stop_all(self)
   for _, p in ipairs(self.members) do
      if p:alive() then
         p.proc:kill "TERM"
      end
   end
   for _, p in ipairs(self.members) do
      if not p.is_dead then
         local result = p:finish(60)
         lu.assertEquals(result.status, 0, result.stderr)
      end
   end
   self.writer:stop()
end

test("sums_of_one_member", function()
   local self = case(4)
   self.db:exec "insert into t select i, i from generate_series(1, 100) i"
   start(self)
   for i = 1, 5 do
      self.db:exec(("update t set n = n + %d where id %% 3 = %d"):format(i, i % 3))
      native.sleep(0.3)
   end
   check(self)
   stop_all(self)
end)

return TestGroupReal
