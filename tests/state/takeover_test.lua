-- takeover_test.lua: two processes have one pipeline, whose state is in a database, one after the
-- other: nothing is lost, exact sinks are exact, and who was taken over writes nothing any more.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local cluster = require "cluster"
local contract = require "contract"
local drivers = require "contract_drivers"
local ctl = require "ctl"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local proxy = require "proxy"
local scope = require "scope"
local served = require "served"
local sockets = require "sockets"
local tables = require "tables"
local takeover = require "takeover"
local wait = require "wait"

local TestTakeover = {}

-- Which of them are tried each time: the others in `make takeover`, all of them with each sink.
local CHOSEN = {
   slept = { redis_stream = true, nats = true }, -- (in Postgres in a transaction, below)
   cut_off_from_the_state = { postgres = true }, clock_moved = { redis_stream = true },
   slowed = { postgres = true },
}

for what in pairs(takeover.troubles) do
   for _, name in ipairs { "postgres", "redis_stream", "redis_hash", "nats" } do
      if takeover.times or CHOSEN[what] and CHOSEN[what][name] then
         TestTakeover[("test_%s_%s"):format(name, what)] = function()
            if drivers[name].is_there() then
               takeover.repeated(drivers[name], what, takeover.times or 1, not takeover.times)
            end
         end
      end
   end
end

-- Two machines whose clocks are two days apart: the second one waits, and one that goes by its own
-- clock does not.
local function second_by_the_clock(binary)
   local c = takeover.case(drivers.postgres)
   takeover.before.clock_moved(c)
   c.first.binary, c.how.binary = binary or c.first.binary, binary or c.how.binary
   takeover.await_leader(program.start(c.first))
   return program.start(c.how):wait_stderr("waiting: (.*), pid %d+, is at work on the pipeline")
end

function TestTakeover.test_the_clock_of_the_database_counts()
   lu.assertNotNil(second_by_the_clock())
   local waits, why = pcall(second_by_the_clock, program.binary() .. "-home_lease_row")
   lu.assertFalse(waits)
   lu.assertStrContains(why, "leads the pipeline")
end

-- Stopped in the middle of its transaction, which holds locks in the target.
function TestTakeover.test_postgres_slept_in_a_transaction()
   local c = takeover.case(drivers.postgres)
   local old, new = takeover.start_two(c)
   wait.until_(function()
      return c.target.db:value "select to_regclass('mcontract') is not null" == "t"
         and c.target.db:value "select count(*) from mcontract" == "400"
   end, 20, "the rows")
   local blocker = c.target.db:connect()
   blocker:exec "begin; lock mcontract"
   c.db:exec "update t set v = nextval('versions') where id < 20"
   wait.until_(function() return drivers.postgres.is_waiting(c.target) end, 20, "the flush")
   old:signal "STOP"
   blocker:exec "rollback"
   takeover.await_takeover(c, new)
   old:signal "CONT"
   takeover.await_fenced(old)
   takeover.finish(c, { new }, function() return false end)
end

-- What a leader had sent, and the network brings after its successor has begun, is refused.
function TestTakeover.test_nats_what_was_on_its_way()
   if not drivers.nats.is_there() then
      return
   end
   local c = takeover.case(drivers.nats)
   local target = c.target
   c.how.script = c.how.script:gsub(tostring(target.way_port), tostring(target.port))
   local old, new = takeover.start_two(c)
   local function update()
      c.db:exec "update t set v = nextval('versions') where id < 200"
   end
   update()
   wait.until_(function()
      return pcall(contract.check, c.driver, target, contract.tag, c.db, "")
   end, 60, "what the first one writes")
   local before = target.way:stats().up
   target.way:strike("stall", true)
   update()
   wait.until_(function() return sockets.unread(target.way_port) > 0 end, 30, "the flush")
   old:signal "STOP"
   local unread = sockets.unread(target.way_port)
   update()
   takeover.await_takeover(c, new, true)
   wait.until_(function()
      return pcall(contract.check, c.driver, target, contract.tag, c.db, "")
   end, 60, "what the second one writes")
   target.way:heal()
   wait.until_(function() return target.way:stats().up >= before + unread end, 30, "the rest")
   old:signal "CONT"
   takeover.await_fenced(old)
   takeover.finish(c, { new }, function() return false end)
end

-- Its messages are on their way when it is stopped, and come when the second one has stored fewer
-- than they are: each place in the stream that they expect is still to come.
function TestTakeover.test_nats_on_its_way()
   if not drivers.nats.is_there() then
      return
   end
   local c = takeover.case(drivers.nats)
   local server, port = c.target, assert(native.free_port())
   local way = assert(native.proxy { listen = port, target = server.port })
   scope.add(function() way:close() end)
   c.how.script = c.how.script:gsub(server.way_port, port)
   local function stored()
      return server:api("STREAM.INFO.contract").state.last_seq
   end
   local old, new = takeover.start_two(c)
   wait.until_(function() return stored() > 400 end, 20, "the rows")
   server.way:pace(100, 0.01)
   local up = server.way:stats().up
   c.db:exec "update t set v = nextval('versions')"
   wait.until_(function() return server.way:stats().up > up + 3000 end, 20, "the flush")
   server.way:strike("stall", true)
   old:signal "STOP"
   c.db:exec "update t set v = nextval('versions')"
   way:pace(500, 0.02)
   takeover.await_takeover(c, new)
   local before = stored()
   wait.until_(function() return stored() > before + 20 end, 20, "the second one's")
   way:strike("stall", true)
   lu.assertTrue(stored() < before + 300, "the second one is done")
   server.way:pace(0, 0)
   server.way:heal()
   old:signal "CONT"
   takeover.await_fenced(old)
   way:pace(0, 0)
   way:heal()
   takeover.finish(c, { new }, function() return false end)
end

-- A leader by the log that is stopped still holds its slot, for ever: the server is not to look
-- whether it lives. `role`: of the second one; `way`: to the state, of the first one, which is cut
-- in place of a stop. Returns both, and the database.
local function slot_of_a_former_one(timeout, role, way)
   local db = by_log.database()
   db:exec(("alter database %s set wal_sender_timeout = '%s'"):format(db.name, timeout))
   local home = way and way.db or cluster.main():database()
   local how = { state = home:dsn(), options = { "--lease", "3" },
      script = [[pgcdc.source {table = "t", capture = "logical"}:on("change", function(c)
         print(c.op .. (c.row or c.key).id) end)]] }
   if role then
      db:exec(("grant select on t to %s"):format(role))
   end
   local old = program.start(tables.merge(how, { dsn = db, state = way and way:dsn() }))
   takeover.await_leader(old)
   wait.until_(function() return #old:lines() == 3 end, 20, "the rows")
   db:exec "insert into t values (4)"
   wait.until_(function() return #old:lines() == 4 end, 20, "a row of the log")
   local new = program.start(tables.merge(how, { dsn = db:dsn { user = role } }))
   new:wait_stderr("waiting: .*, pid %d+, is at work on the pipeline script", 30)
   if way then
      way:strike("stall", true)
   else
      old:signal "STOP"
   end
   new:wait_stderr("leads the pipeline", 30)
   db:exec "insert into t values (5)"
   return old, new, db
end

-- What came, of the first one's first four lines or more, and of the second one's.
local function check_slot(old, new, db, way)
   wait.until_(function() return #new:lines() >= 1 end, 30, "the row")
   if way then
      way:heal()
   else
      old:signal "CONT"
   end
   takeover.await_fenced(old)
   db:exec "insert into t values (6)"
   wait.until_(function() return #new:lines() >= 2 end, 30, "one row more")
   lu.assertEquals(new:stop().status, 0)
   lu.assertEquals(old:lines(), { "read1", "read2", "read3", "insert4" })
   lu.assertEquals(new:lines(), { "insert5", "insert6" })
end

function TestTakeover.test_the_slot_of_a_stopped_leader()
   local old, new, db = slot_of_a_former_one "0"
   new:wait_stderr("was still read by a process that had the pipeline before", 20)
   check_slot(old, new, db)
end

-- Who is cut off from the state alone still reads its slot, and connects again when that is taken
-- from it.
function TestTakeover.test_the_slot_of_one_who_is_cut_off()
   local way = proxy.new(cluster.main():database())
   local old, new, db = slot_of_a_former_one("0", nil, way)
   new:wait_stderr("was still read by a process that had the pipeline before", 20)
   check_slot(old, new, db, way)
end

-- Where the second one may not end what the first one has begun, the server does so in time.
function TestTakeover.test_the_slot_of_another_role()
   by_log.cluster():exec "drop role if exists second; create role second login replication"
   local old, new, db = slot_of_a_former_one("4s", "second")
   check_slot(old, new, db)
end

local COUNTS = [[pgcdc.source {table = "t", interval = 0.02, deletes = true, on_change = function(c)
   print(c.op .. " " .. (c.row or c.key).id) end}]]

-- A leader and a standby that are asked how they are. Returns them, and the source's database.
local function pair()
   local db = fixtures.names(2)
   local how = { dsn = db, script = COUNTS, state = cluster.main():database():dsn() }
   local leader = served.start(how)
   takeover.await_leader(leader)
   local standby = served.start(how)
   standby:wait_stderr("waiting: .*, pid %d+, is at work on the pipeline script", 30)
   return leader, standby, db
end

function TestTakeover.test_who_leads_is_shown()
   local leader, standby = pair()
   standby:wait_status("a standby", function(s) return s.role == "standby" end)
   local code, body = standby:get "/readyz"
   lu.assertEquals({ code, json.decode(body).role }, { 200, "standby" })
   local s = standby:status()
   lu.assertEquals(s.lease.leader.pid, leader:pid())
   lu.assertEquals(s.problems, {})
   lu.assertEquals(leader:wait_status("a standby is known", function(status)
      return status.lease.standbys == 1
   end).lease.standby.pid, standby:pid())
   lu.assertStrContains(ctl.ok(leader, "status"), "leader, epoch 1; lease of 10 s, renewed ")
   lu.assertStrContains(ctl.ok(standby, "status"), ("pid %d, leads, epoch 1"):format(leader:pid()))
   lu.assertStrContains(ctl.fails(standby, "pause"), "this is a standby: ask ")
   local figures = leader:metrics()
   lu.assertEquals(figures["pgcdc_lua_leader"], 1)
   lu.assertEquals(figures["pgcdc_lua_standbys"], 1)
   lu.assertEquals(standby:metrics()["pgcdc_lua_leader"], 0)
   lu.assertEquals(standby:stop().status, 0)
   leader:wait_status("nobody waits", function(status) return status.lease.standbys == 0 end)
   lu.assertStrContains(ctl.fails(leader, "lead"), "nobody waits for the pipeline")
   lu.assertEquals(leader:stop().status, 0)
end

-- By a command to either of them, there and back, while rows come: nothing comes twice.
function TestTakeover.test_handed_over()
   local a, b, db = pair()
   local told, quickest = { a, b }, math.huge
   for i = 1, 4 do
      local leader, standby = table.unpack(i % 2 == 1 and { a, b } or { b, a })
      leader:wait_status("who waits", function(status) return status.lease.standbys == 1 end)
      db:exec(("insert into t values (%d)"):format(10 + i))
      local since = native.now()
      local said = ctl.ok(told[(i + 1) // 2], "lead")
      standby:wait_status("it leads", function(status)
         return status.ready and status.role == "leader"
      end)
      local took = native.now() - since
      lu.assertTrue(took <= wait.scaled(5), "it took " .. took) -- nobody waits for half a lease
      quickest = math.min(quickest, took)
      lu.assertStrContains(said, i % 4 > 1 and "it leads now, epoch " or "it hands over to ")
      leader:wait_status("it waits", function(status) return status.role == "standby" end)
   end
   -- within a second, where the machine has one for them: one of four times
   lu.assertTrue(quickest <= wait.scaled(1), "the quickest took " .. quickest)
   db:exec "insert into t values (20)"
   wait.until_(function() return #a:lines() + #b:lines() >= 7 end, 20, "the last row")
   lu.assertEquals(b:stop().status, 0)
   lu.assertEquals(a:stop().status, 0)
   local lines = tables.join(a:lines(), b:lines())
   table.sort(lines)
   lu.assertEquals(lines, { "insert 11", "insert 12", "insert 13", "insert 14", "insert 20",
      "read 1", "read 2" })
end

return TestTakeover
