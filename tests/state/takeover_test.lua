-- takeover_test.lua: two processes have one pipeline, whose state is in a database, one after the
-- other: nothing is lost, exact sinks are exact, and who was taken over writes nothing any more.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local contract = require "contract"
local drivers = require "contract_drivers"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local wait = require "wait"

local TestTakeover = {}

local LEASE = 3

-- A pipeline into a target of this driver: how its processes are started.
local function case(name)
   local driver = drivers[name]
   local target, db, home = driver.start(), contract.make_database(), cluster.main():database()
   local how = { dsn = db, state = home:dsn(), options = { "--lease", tostring(LEASE) },
                 script = contract.script(driver, target, driver.beside_others) }
   return { driver = driver, target = target, db = db, home = home, how = how }
end

local function start(c)
   return program.start(c.how)
end

local function await_leader(p)
   p:wait_stderr('msg="ready"', 30)
end

local function await_standby(p)
   p:wait_stderr("waiting: .*, pid %d+, is at work on the pipeline script", 30)
end

-- The writers are done; one more process, and what is there is what is in the table.
local function finish(c, leader, is_writing)
   wait.until_(function() return not is_writing() end, 60, "the writers")
   lu.assertEquals(leader:stop(nil, 30).status, 0)
   once.ok(c.how)
   contract.check(c.driver, c.target, contract.tag, c.db, c.driver.promise)
end

-- Stopped, until another one is at work; then it goes on.
local function sleep_and_wake(name)
   local c = case(name)
   local is_writing = contract.start_writers(c.db, 40)
   local old = start(c)
   await_leader(old)
   local new = start(c)
   await_standby(new)
   old:signal "STOP"
   local since = native.now()
   await_leader(new)
   lu.assertTrue(native.now() - since <= wait.scaled(LEASE + 1), "it took long")
   old:signal "CONT"
   local result = old:finish(30)
   lu.assertEquals(result.status, 5, result.stderr)
   lu.assertStrContains(result.stderr, "the pipeline script was taken over by ")
   finish(c, new, is_writing)
end

for _, name in ipairs { "postgres", "redis_stream", "nats" } do
   TestTakeover[("test_%s_of_one_who_slept"):format(name)] = function()
      if drivers[name].is_there() then
         sleep_and_wake(name)
      end
   end
end

-- Stopped in the middle of its transaction, which holds locks in the target.
function TestTakeover.test_postgres_of_one_who_slept_in_a_transaction()
   local c = case "postgres"
   local old = start(c)
   wait.until_(function()
      return c.target.db:value "select to_regclass('mcontract') is not null" == "t"
         and c.target.db:value "select count(*) from mcontract" == "400"
   end, 20, "the rows")
   local new = start(c)
   await_standby(new)
   local blocker = c.target.db:connect()
   blocker:exec "begin; lock mcontract"
   c.db:exec "update t set v = nextval('versions') where id < 20"
   wait.until_(function() return drivers.postgres.is_waiting(c.target) end, 20, "the flush")
   old:signal "STOP"
   blocker:exec "rollback"
   local since = native.now()
   await_leader(new)
   lu.assertTrue(native.now() - since <= wait.scaled(LEASE + 1), "it took long")
   old:signal "CONT"
   lu.assertEquals(old:finish(30).status, 5)
   finish(c, new, function() return false end)
end

return TestTakeover
