-- group_test.lua: sources with a group: a member of it, and a worker for each partition.
--
-- With a mock cluster; what only Kafka itself can show is in kafka/group_real_test.lua.
-- SPDX-License-Identifier: MIT

local child = require "child"
local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
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
