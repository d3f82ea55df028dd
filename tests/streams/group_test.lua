-- group_test.lua: sources with a group: a member of it, and a worker for each partition.
--
-- With a mock cluster; what only Kafka itself can show is in kafka/group_real_test.lua.
-- SPDX-License-Identifier: MIT

local child = require "child"
local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local kafka = require "kafka"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local remote_sinks = require "remote_sinks"
local scope = require "scope"
local served = require "served"
local tables = require "tables"
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
         ["topic.metadata.refresh.interval.ms"] = 500,
         ["heartbeat.interval.ms"] = 200}, %s}:on("change", print)]]):format(
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
   p.proc:kill("TERM", "group") -- as a terminal does, and systemd: it is no second signal
   lu.assertEquals(p:finish().status, 0)
   lu.assertEquals(leases(home), "enrich/0- enrich/1- enrich/2-")
   lu.assertEquals(sorted(p), written)
   -- all of it comes again
   local again = how(mock, home)
   again.options = tables.join(again.options, { "--reset" })
   p = program.start(again)
   p:wait_until(function() return #p:lines() >= 40 end, 30, "all changes")
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(#p:lines(), 40)
end)

-- The member and its workers can be asked how they are.
test("it_is_shown", function(mock)
   if not served.is_there() then
      return
   end
   write(mock, fixtures.names(200), fixtures.state())
   local options = how(mock, cluster.main():database())
   local dir = scope.dir "sockets"
   options.options = tables.join(options.options,
      { "--max-lag", "1", "--listen", "unix:" .. dir .. "/s" })
   options.script = options.script:gsub("print%)$", function() return [[function(c)
      if pgcdc.partition == 1 and not io.open("]] .. dir .. [[/go") then
         os.execute "sleep 0.5"
      end
      print(c)
   end)]] end)
   local p = program.start(options)
   local function ask(path, socket)
      return child.run({ argv = { served.find "curl", "-s", "-m", "5", "--unix-socket",
         dir .. "/" .. socket, "http://x" .. path }, stderr = "null" }, 10)
   end
   wait.until_(function()
      return ask("/readyz", "s.1"):find "%d s late"
   end, 40, "the lag of a worker that is slow")
   lu.assertStrContains(ask("/readyz", "s"), "waiting for the brokers or for workers")
   p.proc:kill "USR1"
   p:wait_stderr('msg="3 workers run".*enrich/1 %(pid %d+, not ready%)', 10)
   files.write(dir .. "/go", "")
   p:wait_until(function() return #p:lines() >= 200 end, 30, "the changes")
   wait.until_(function()
      return ask("/readyz", "s"):find '"ready": *true' ~= nil
   end, 20, "all to be ready")
   lu.assertEquals(p:stop().status, 0)
end)

-- The value of a sample in the text of /metrics, or nil.
local function sample(text, name)
   for line in text:gmatch "[^\n]+" do
      local value = line:sub(1, #name) == name and line:match " (%S+)$"
      if value then
         return tonumber(value)
      end
   end
end

-- A member that its user asks: ask(name, ...) -> status and what ctl says; status(name); lefts():
-- the records that each worker has left, -1 where that is not known.
local function steered(options, home)
   local self = { program = program.start(options) }
   function self.ask(name, ...)
      local result = program.run { state = false, env = { HOME = self.program.dir }, options = {
         "ctl", "--state", home:dsn(), "--name", name, ... } }
      return result.status, result.status == 0 and result.stdout or result.stderr
   end
   function self.status(name)
      local _, text = self.ask(name, "--json", "status")
      return json.decode(text).status
   end
   function self.lefts()
      local list = {}
      for i, worker in ipairs(self.status("enrich").workers) do
         list[i] = worker.ready and worker.records_left ~= json.null and worker.records_left or -1
      end
      return list
   end
   function self.await_left(n)
      wait.until_(function()
         local sum = 0
         for _, left in ipairs(self.lefts()) do
            sum = left >= 0 and sum + left or math.huge
         end
         return sum == n
      end, 40, ("%d records to be left"):format(n))
   end
   return self
end

-- Users ask the member, and the worker of a partition, by their names.
test("it_is_steered", function(mock)
   local home = cluster.main():database()
   write(mock, fixtures.names(20), fixtures.state())
   local m = steered(how(mock, home), home)
   m.program:wait_until(function() return #m.program:lines() >= 20 end, 30, "the changes")
   wait.until_(function() return m.status("enrich").ready end, 20, "all to be ready")
   m.await_left(0)
   local s = m.status "enrich"
   lu.assertEquals({ s.role, s.lease, #s.workers, s.workers[2].name, s.workers[2].restarts },
      { "member", json.null, 3, "enrich/1", 0 })
   lu.assertStrMatches(select(2, m.ask("enrich", "status")),
      ".*worker enrich/1: pid %d+, ready, restarts: 0, 0 records left\n.*")
   for _, command in ipairs { "pause", "tap", "dead-letters" } do
      lu.assertEquals({ m.ask("enrich", command) }, { 1, "pgcdc-lua: this is a member of a group, "
         .. "and its workers do that: ask the one of a partition, such as --name enrich/0\n" })
   end
   lu.assertStrContains(select(2, m.ask("enrich", "lead")), "who is at work on a partition, the "
      .. "group decides")
   native.kill(s.workers[1].pid, "KILL")
   wait.until_(function()
      local worker = m.status("enrich").workers[1]
      return worker.restarts == 1 and worker.ready
   end, 30, "another worker")
   local _, text = m.ask("enrich", "reload")
   lu.assertStrContains(text, "the script is good: the program starts anew")
   wait.until_(function() return m.status("enrich").ready end, 30, "all to be ready again")
   lu.assertEquals(m.status("enrich").workers[1].restarts, 0)
   lu.assertEquals({ m.ask("enrich", "stop") }, { 0, "it stops\n" })
   lu.assertEquals(m.program:finish(20).status, 0)
   lu.assertEquals(#m.program:lines(), 20)
end)

-- What comes while partitions are paused is left: the member counts it, and each worker.
test("what_is_left_is_counted", function(mock)
   local db, writes, home = fixtures.names(20), fixtures.state(), cluster.main():database()
   write(mock, db, writes)
   local options, dir = how(mock, home), scope.dir "steered"
   if served.is_there() then
      options.options = tables.join(options.options, { "--listen", "unix:" .. dir .. "/s" })
   end
   local m = steered(options, home)
   m.program:wait_until(function() return #m.program:lines() >= 20 end, 30, "the changes")
   m.await_left(0)
   for i = 0, 2 do
      lu.assertEquals({ m.ask("enrich/" .. i, "pause") }, { 0, "cdc.public.t: paused\n" })
   end
   db:exec "insert into t select i, 'more' from generate_series(21, 50) i"
   write(mock, db, writes)
   m.await_left(30)
   local found = {}
   for i = 0, 2 do
      wait.until_(function()
         found[i] = m.status("enrich/" .. i).sources[1].partitions[1]
         return found[i] and found[i].records_left == m.lefts()[i + 1]
      end, 20, "the worker to know that too")
      lu.assertEquals({ found[i].topic, found[i].partition }, { TOPIC, i })
   end
   local function metrics(socket)
      return child.run({ argv = { served.find "curl", "-s", "-m", "5", "--unix-socket",
         dir .. "/" .. socket, "http://x/metrics" }, stderr = "null" }, 10)
   end
   for i = 0, served.is_there() and 2 or -1 do
      lu.assertEquals(sample(metrics("s." .. i), ('pgcdc_lua_records_left{source="cdc.public.t",'
         .. 'topic="cdc.public.t",partition="%d"}'):format(i)), found[i].records_left)
      local of = ('{worker="enrich/%d"}'):format(i)
      lu.assertEquals({ sample(metrics "s", "pgcdc_lua_worker_records_left" .. of),
                        sample(metrics "s", "pgcdc_lua_worker_ready" .. of),
                        sample(metrics "s", "pgcdc_lua_worker_restarts_total" .. of) },
         { found[i].records_left, 1, 0 })
   end
   for i = 0, 2 do
      lu.assertEquals({ m.ask("enrich/" .. i, "resume") }, { 0, "cdc.public.t: resumed\n" })
   end
   m.program:wait_until(function() return #m.program:lines() >= 50 end, 30, "the other changes")
   m.await_left(0)
   lu.assertEquals(m.program:stop().status, 0)
end)

-- A worker that has several sources tells how far each of them is.
test("all_sources_of_a_worker_are_told", function(mock)
   mock:tell "topic other 3"
   local home, db = cluster.main():database(), fixtures.names(20)
   once.ok { dsn = db, script = ([[local t = pgcdc.source {table = "t"}
      for _, topic in ipairs {%q, "other"} do
         t:sink(pgcdc.sinks.kafka {brokers = %q, exact = false, topic = topic, name = topic})
      end]]):format(TOPIC, mock.brokers) }
   local options = how(mock, home)
   options.script = options.script .. ([[
      pgcdc.source {kafka = %q, topic = "other", group = "g"}:on("change", print)]]):format(
         mock.brokers)
   local m = steered(options, home)
   m.program:wait_until(function() return #m.program:lines() >= 40 end, 30, "the changes")
   m.await_left(0)
   lu.assertEquals(m.program:stop().status, 0)
end)

-- ---- what goes wrong ----

test("the_others_go_on_when_one_fails", function(mock)
   local home = cluster.main():database()
   local written = write(mock, fixtures.names(20), fixtures.state())
   local options = how(mock, home)
   options.script = options.script:gsub('print%)$', [[function(c)
      if pgcdc.partition == 1 then
         error "not today"
      end
      print(c)
   end)]])
   local p = program.start(options)
   p:wait_until(function() return #p:lines() > 0 end, 30, "the changes")
   p:wait_stderr("the worker ended with status 1; it is started again in 2 s.*worker=enrich/1", 30)
   lu.assertStrContains(p:stderr(), "not today")
   lu.assertTrue(#p:lines() < #written)
   lu.assertNotStrContains(p:stderr(), "worker ended with status 1; it is started again in 1 s\" "
      .. "worker=enrich/0")
   -- its workers end when it is killed
   local workers = native.children(p:pid())
   lu.assertTrue(#workers >= 2)
   p.proc:kill "KILL"
   wait.until_(function()
      for _, pid in ipairs(workers) do
         if native.running(pid) then
            return false
         end
      end
      return true
   end, 20, "the workers to end")
   lu.assertEquals(home:value "select count(*) from pgcdc.lease where expires > now()", "0")
end)

test("a_script_that_stops_ends_all", function(mock)
   write(mock, fixtures.names(20), fixtures.state())
   local options = how(mock, cluster.main():database())
   options.script = options.script:gsub("print%)$", "function() pgcdc.stop(7) end)")
   lu.assertEquals(program.start(options):finish(30).status, 7)
end)

test("bad_input", function(mock)
   mock:tell "topic two 2"
   local home = cluster.main():database()
   local function fails(status, text, more, options)
      local all = how(mock, home, more)
      for name, value in pairs(options or {}) do
         all[name] = value
      end
      local result = program.run(all)
      lu.assertEquals(result.status, status, result.stderr)
      lu.assertStrContains(result.stderr, text)
   end
   fails(2, "needs its state in a database, that every worker can reach: name one with --state",
      "", { state = fixtures.state(), options = {} })
   fails(2, "--once is not for a source with a group", "",
      { options = { "--name", "enrich", "--once" } })
   fails(1, "start = \\\"now\\\" is not for a group", 'start = "now"')
   fails(1, "topic 'two' has 2 partitions, and 'cdc.public.t' 3", "}:on('change', print) "
      .. ('pgcdc.source {kafka = %q, topic = "two", group = "g"'):format(mock.brokers))
   fails(1, "group: 'other', and another source has 'g'", "}:on('change', print) "
      .. ('pgcdc.source {kafka = %q, topic = "two", group = "other"'):format(mock.brokers))
   fails(1, "a script has sources with a group, or others", "}:on('change', print) "
      .. 'pgcdc.source {table = "t"')
   fails(1, "topic 'none'", "}:on('change', print) "
      .. ('pgcdc.source {kafka = %q, topic = "none", group = "g"'):format(mock.brokers))
   local result = program.run { script = "", env = { PGCDC_MEMBER = "x" } }
   lu.assertEquals(result.status, 2)
   lu.assertStrContains(result.stderr, "$PGCDC_MEMBER is for what this program starts itself")
end)

return TestGroup
