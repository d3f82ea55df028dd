-- group_real_test.lua: members of a group and their workers, against Apache Kafka itself.
-- SPDX-License-Identifier: MIT
--
-- For `make check-kafka`, see tests/README.md. $PGCDC_GROUP_SECONDS: how long members are killed,
-- stopped and started, for each number of members (default 20).

local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local kafka = require "kafka"
local lu = require "luaunit"
local mending = require "mending"
local mutant = require "mutant"
local native = require "native"
local program = require "program"
local scope = require "scope"
local seeds = require "seeds"
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

-- ---- trouble ----

local function pick(list)
   return list[math.random(#list)]
end

-- A member, without its workers, gets a signal.
local function kill_member(self, i, signal)
   local p = table.remove(self.members, i)
   p.proc:kill(signal)
   table.insert(self.gone, p)
end

local troubles = {
   killed = function(self)
      kill_member(self, math.random(#self.members), "KILL")
      start(self)
   end,
   stopped = function(self)
      kill_member(self, math.random(#self.members), "TERM")
      start(self)
   end,
   sleeps = function(self)
      local p = pick(self.members)
      p.proc:kill "STOP"
      table.insert(self.asleep, { pid = p:pid(), until_ = native.now() + math.random() * 10 })
   end,
   worker_killed = function(self)
      local pid = pick(native.children(pick(self.members):pid()))
      if pid then
         native.kill(pid, "KILL")
      end
   end,
   worker_sleeps = function(self)
      local pid = pick(native.children(pick(self.members):pid()))
      if pid then
         native.kill(pid, "STOP")
         table.insert(self.asleep, { pid = pid, until_ = native.now() + math.random() * 6 })
      end
   end,
   broker = function(self)
      if not self.has_lost_broker then
         self.has_lost_broker = true
         broker:kill()
         broker:start()
         broker:await(1)
      end
   end,
}
local kinds = { "killed", "stopped", "sleeps", "worker_killed", "worker_sleeps", "broker" }

local function wake(self, all)
   for i = #self.asleep, 1, -1 do
      if all or native.now() >= self.asleep[i].until_ then
         native.kill(self.asleep[i].pid, "CONT")
         table.remove(self.asleep, i)
      end
   end
end

-- Random trouble for so many members, while rows are written.
local function rage(self, count, seconds)
   local seed = seeds.asked or seeds.fresh()
   math.randomseed(seed)
   io.write(("seed %d ... "):format(seed))
   self.gone, self.asleep = {}, {}
   for _ = 1, count do
      start(self)
   end
   local until_, next_one, done = native.now() + seconds, native.now() + 5, {}
   while native.now() < until_ do
      self.db:exec(("update t set n = n + 1 where id %% 7 = %d"):format(math.random(0, 6)))
      self.db:exec(("insert into t values (%d, 1) on conflict do nothing"):format(
         math.random(1, 300)))
      if native.now() >= next_one then
         local kind = pick(kinds)
         troubles[kind](self)
         done[#done + 1] = kind
         next_one = native.now() + 0.5 + 2.5 * math.random()
      end
      wake(self)
      native.sleep(0.05)
   end
   wake(self, true)
   return done
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
   local wants, rows, outputs = expected(self), {}, 0
   for id, list in pairs(wants) do
      outputs = outputs + #list
      rows[#rows + 1] = ("%d:%d:%d"):format(id, list[#list][1], list[#list][2])
   end
   table.sort(rows)
   local want = table.concat(rows, " ")
   wait.until_(function()
      if self.target:value "select to_regclass('sums') is null" == "t" then
         return false
      end
      return self.target:value [[select string_agg(x, ' ' order by x collate "C")
         from (select id || ':' || count || ':' || sum as x from sums) s]] == want
   end, seconds or 60, "the sums")
   wait.until_(function() -- its commit follows that of the table
      return #broker:read(self.out) >= outputs
   end, seconds or 60, "the last outputs")
   local seen = {}
   for _, message in ipairs(broker:read(self.out)) do
      local row = json.decode(message.payload)
      local key = ("%d %d"):format(row.id, row.count)
      lu.assertNil(seen[key], "twice: " .. key)
      seen[key] = row.sum
   end
   local count = 0
   for id, list in pairs(wants) do
      for _, each in ipairs(list) do
         count = count + 1
         lu.assertEquals(seen[("%d %d"):format(id, each[1])], each[2], "output " .. id)
      end
   end
   lu.assertEquals(count, outputs)
   for _ in pairs(seen) do
      count = count - 1
   end
   lu.assertEquals(count, 0, "outputs of nothing")
   return outputs
end

local function stop_all(self)
   for _, p in ipairs(self.members) do
      p.proc:kill "TERM"
   end
   for _, p in ipairs(self.members) do
      local result = p:finish(60)
      lu.assertEquals(result.status, 0, result.stderr)
   end
   for _, p in ipairs(self.gone or {}) do
      p:finish(60)
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
   -- nothing is left, though each transaction of the writer ends with an offset of its own
   wait.until_(function()
      local text = program.run { state = false, env = { HOME = self.members[1].dir },
         options = { "ctl", "-s", self.home:dsn(), "--name", self.name, "--json", "status" },
      }.stdout
      local left = 0
      for _, worker in ipairs(json.decode(text).status.workers) do
         left = left + (worker.records_left ~= json.null and worker.records_left or 1)
      end
      return left == 0
   end, 30, "nothing to be left")
   stop_all(self)
end)

-- ---- what happens to topics ----

-- A partition that is added is noticed. (Keys move to other partitions then, so no sums.)
local PRINTS = [[
   pgcdc.source {kafka = %q, topic = {%s}, group = %q, config = {
      ["topic.metadata.refresh.interval.ms"] = 1000, ["session.timeout.ms"] = 6000}}
      :on("change", function(c) print(c.op .. " " .. c.key.id .. " " .. pgcdc.partition) end)]]

local function prints(self, topics)
   return PRINTS:format(broker.brokers, topics or ("%q"):format(self.topic), self.name)
end

test("a_topic_that_grows_and_shrinks", function()
   local self = case(2)
   self.db:exec "insert into t select i, i from generate_series(1, 50) i"
   local p = start(self, prints(self))
   p:wait_until(function() return #p:lines() == 50 end, 60, "the rows")
   broker:admin(("grow,%s,5"):format(self.topic))
   p:wait_stderr('msg="the worker begins".*worker=' .. self.name .. "/4", 60)
   self.writer:stop()
   self.db:exec "insert into t select i, i from generate_series(51, 200) i"
   self.writer = program.start { dsn = self.db, state = self.writer.state,
                                 file = self.writer.script }
   p:wait_until(function() return #p:lines() == 200 end, 60, "the other rows")
   local has = {}
   for _, line in ipairs(p:lines()) do
      has[line:match "%d+$"] = true
   end
   lu.assertTrue(has["3"] or has["4"])
   stop_all(self)
   -- what the group notes is what was delivered
   local noted = 0
   for offset in broker:admin("offsets," .. self.name):gmatch " (%d+)\n" do
      noted = noted + math.tointeger(tonumber(offset))
   end
   lu.assertTrue(noted >= 200)
   -- fewer partitions than before
   broker:admin("drop," .. self.topic)
   wait.until_(function()
      return pcall(broker.admin, broker, ("topic,%s,3"):format(self.topic))
   end, 30, "the topic to be gone")
   local result = program.start(how(self, prints(self))):finish(60)
   lu.assertEquals(result.status, 4, result.stderr)
   lu.assertStrContains(result.stderr, "has 3 partitions, and had 5: changes are lost, or it is "
      .. "another topic; --reset reads it from its start")
end)

test("a_topic_that_is_misspelt", function()
   local self = case(2)
   mending.mend({ args = { topic = self.topic .. "a" }, state = self.home:dsn(), script = ([[
      local o = pgcdc.options {topic = pgcdc.required}
      pgcdc.source {kafka = %q, topic = o.topic, group = "g"}:on("change", print)]]):format(
         broker.brokers) }, ("topic '%sa': "):format(self.topic))
   stop_all(self)
end)

-- Each worker has the same partition of both topics, where rows of one key meet.
test("partitions_of_two_topics_meet", function()
   local self = case(4)
   local other = self.topic .. ".u"
   broker:admin(("topic,%s,4"):format(other))
   self.db:exec [[insert into t select i, i from generate_series(1, 100) i;
      insert into u select i, -i from generate_series(1, 100) i]]
   local second = program.start { dsn = self.db, script = ([[
      pgcdc.source {table = "u", interval = 0.05, deletes = true}:sink(pgcdc.sinks.kafka {
         brokers = %q, topic = %q, name = %q})]]):format(broker.brokers, other, other) }
   local script = prints(self, ("%q, %q"):format(self.topic, other))
   local p, q = start(self, script), start(self, script)
   local places = {}
   wait.until_(function()
      local count = #p:lines() + #q:lines()
      return count == 200
   end, 60, "the rows")
   for _, member in ipairs { p, q } do
      for _, line in ipairs(member:lines()) do
         local id, partition = line:match " (%d+) (%d+)$"
         lu.assertEquals(places[id] or partition, partition)
         places[id] = partition
      end
   end
   stop_all(self)
   second:stop()
end)

-- ---- rebalances while something is held ----

test("windows_are_open_while_partitions_move", function()
   local self = case(6)
   self.db:exec "insert into t select i, 1 from generate_series(1, 60) i"
   local script = ([[
      local source = pgcdc.source {kafka = %q, topic = %q, group = %q, config = {
         ["session.timeout.ms"] = 6000}}
      source:timed_window(1.5):map(function(list) return {count = #list} end)
         :sink(pgcdc.sinks.kafka {brokers = %q, topic = %q, name = %q, key = "none"})]]):format(
            broker.brokers, self.topic, self.name, broker.brokers, self.out, self.name .. "o")
   local function total()
      local n = 0
      for _, message in ipairs(broker:read(self.out)) do
         n = n + json.decode(message.payload).count
      end
      return n
   end
   local function sent(n)
      wait.until_(function() return #broker:read(self.topic) == n end, 60, "the writer")
   end
   start(self, script)
   sent(60)
   for round = 1, 6 do
      self.db:exec(("update t set n = n + 1 where id %% 6 = %d"):format(round % 6))
      sent(60 + 10 * round)
      if round % 2 == 0 then
         start(self, script)
      end
   end
   wait.until_(function() return total() >= 120 end, 60, "the windows")
   stop_all(self)
   lu.assertEquals(total(), 120)
end)

-- The times of a message in the log of a member, by worker.
local function times(p, message)
   local at = {}
   for time, worker in p:stderr():gmatch('ts=(%S+) level=info msg="' .. message
      .. '"[^\n]* worker=(%S+)') do
      at[worker] = at[worker] or time
   end
   return at
end

-- A second member gets partitions whose workers are in the middle of a change. It may not begin
-- before that is over: it would have to wait for the lease, and with it all of the partition.
local function hand_over()
   local self = case(4)
   self.db:exec "insert into t select i, i from generate_series(1, 200) i"
   local dir = scope.dir "hold"
   files.write(dir .. "/hold", "")
   local script = ([[
      pgcdc.source {kafka = %q, topic = %q, group = %q}:on("change", function(c)
         print(c)
         io.open(%q .. pgcdc.partition, "w"):close()
         while io.open(%q) do
            os.execute "sleep 0.1"
         end
      end)]]):format(broker.brokers, self.topic, self.name, dir .. "/", dir .. "/hold")
   local first = start(self, script)
   first:wait_until(function() -- each is in the middle of a change
      return #native.listdir(dir) == 5
   end, 60, "the changes")
   local second = start(self, script)
   first:wait_stderr('msg="the worker is asked to stop"', 60)
   pcall(second.wait_stderr, second, 'msg="the worker begins"', 3)
   os.remove(dir .. "/hold")
   second:wait_stderr('msg="leads the pipeline"', 60)
   local ended = times(first, "the worker has ended")
   for worker, time in pairs(times(second, "the worker begins")) do
      lu.assertTrue(ended[worker] and ended[worker] <= time, worker)
   end
   wait.until_(function() return #first:lines() + #second:lines() >= 200 end, 60, "the rest")
   stop_all(self)
   lu.assertNotStrContains(second:stderr(), "waiting: ")
   lu.assertEquals(#first:lines() + #second:lines(), 200)
end

test("a_partition_is_given_up_when_its_worker_has_ended", hand_over)

test("finds_out_who_gives_up_before_that", function()
   mutant.with({ file = "stream/workers.lua", changes = { { [[
      if running[partition] then
         return
      end]], "" } } }, function()
      local ok, problem = pcall(hand_over)
      lu.assertFalse(ok)
      lu.assertStrMatches(tostring(problem.msg or problem), ".*g%d+/%d.*")
   end)
end)

for _, count in ipairs { 1, 2, 4 } do
   test(("each_output_once_with_%d"):format(count), function()
      local self = case(12)
      self.db:exec "insert into t select i, i from generate_series(1, 200) i"
      local done = rage(self, count, SECONDS)
      local outputs = check(self, 120)
      stop_all(self)
      table.sort(done)
      io.write(("%d outputs, %s ... "):format(outputs, table.concat(done, " ")))
   end)
end

return TestGroupReal
