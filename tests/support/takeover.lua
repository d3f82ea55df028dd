-- takeover.lua: two processes have one pipeline, whose state is in a database: one leads, in
-- trouble, the other waits; and what must hold then.
-- SPDX-License-Identifier: MIT
--
-- Whether two were at work the target itself says: in Postgres a trigger writes down the epoch of
-- each flush; others are told the two apart, see takeover_audits.lua.
-- $PGCDC_TAKEOVER_STOPPED: for how many seconds a leader is stopped that goes on later; else until
-- the other one is at work.

local audits = require "takeover_audits"
local cluster = require "cluster"
local contract = require "contract"
local drivers = require "contract_drivers"
local files = require "files"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local proxy = require "proxy"
local scope = require "scope"
local tables = require "tables"
local wait = require "wait"

local takeover = {}

local LEASE = 3
local QUICK = { keepalives_idle = 1, keepalives_interval = 1, keepalives_count = 2 } -- of a stall
local STOPPED = tonumber(os.getenv "PGCDC_TAKEOVER_STOPPED")

-- Who writes to a target of Postgres, in the order of their commits: epoch, and the backend.
local AUDIT = [[
   create table audit (n bigint generated always as identity, epoch bigint, backend int);
   create function audit() returns trigger language plpgsql as $$ begin
      insert into audit (epoch, backend) values (new.epoch, pg_backend_pid());
      return new;
   end $$;
   create trigger audit after update on pgcdc.position for each row execute function audit()]]

-- The audit of a driver; nil: that of Postgres, above.
local function audit_of(driver)
   for name, audit in pairs(audits.by_name) do
      if driver == drivers[name] then
         return audit
      end
   end
   return driver.audit
end

-- Nothing that the first process writes comes after what the second one does.
local function check_lanes(c, is_taken)
   local newest_of_all = 0
   for name, lane in pairs(audit_of(c.driver).lanes(c.target)) do
      local late, newest = audits.late(lane)
      lu.assertEquals(late, 0, "so many came late: " .. name)
      newest_of_all = math.max(newest_of_all, newest)
   end
   lu.assertTrue(newest_of_all > 1 or not is_taken, "the second one has written")
end

-- Epochs never go back, and no connection writes under two of them. `is_taken`: somebody has taken
-- over.
local function check_audit(c, is_taken)
   if audit_of(c.driver) then
      return check_lanes(c, is_taken)
   end
   local newest, epochs = 0, {}
   for _, row in ipairs(c.target.db:exec "select epoch, backend from audit order by n") do
      local epoch = tonumber(row[1])
      lu.assertTrue(epoch >= newest, "an older epoch wrote")
      lu.assertTrue((epochs[row[2]] or epoch) == epoch, "one process wrote under two epochs")
      newest, epochs[row[2]] = epoch, epoch
   end
   lu.assertTrue(newest > 1 or not is_taken)
end

--- A pipeline into a target of this driver (see contract_drivers): how its processes are started.
-- The first one reaches the state by a way that can be cut.
function takeover.case(driver)
   local target, db, home = driver.start(), contract.make_database(), cluster.main():database()
   local way = proxy.new(home)
   local script, audit = contract.script(driver, target, driver.beside_others), audit_of(driver)
   local function script_of(n)
      return audit and audit.script(script, target, n) or script
   end
   local how = { dsn = db, state = home:dsn(), options = { "--lease", tostring(LEASE) },
                 script = script_of(2) }
   return { driver = driver, target = target, db = db, home = home, how = how, way = way,
            first = tables.merge(how, { state = way:dsn(QUICK), script = script_of(1) }) }
end

--- Waits until it delivers.
function takeover.await_leader(p)
   p:wait_stderr('msg="ready"', 30)
end

--- The first one, which leads, and the second one, which waits.
function takeover.start_two(c)
   local old = program.start(c.first)
   takeover.await_leader(old)
   if audit_of(c.driver) then
      audit_of(c.driver).begin(c.target)
   else
      c.target.db:exec(AUDIT)
   end
   local new = program.start(c.how)
   new:wait_stderr("waiting: .*, pid %d+, is at work on the pipeline script", 30)
   return old, new
end

--- The second one is to lead soon, within the lease, a second, and what a driver has as `opens`.
--- `is_quick`: the lease is made to end now.
function takeover.await_takeover(c, new, is_quick)
   local since = native.now()
   if is_quick then -- as it is after a while
      c.home:exec "update pgcdc.lease set expires = now()"
   end
   takeover.await_leader(new)
   local took = native.now() - since
   lu.assertTrue(took <= wait.scaled(LEASE + 1 + (c.driver.opens or 0)),
      ("it took long: %s\n%s"):format(took, new:stderr()))
   takeover.longest = math.max(takeover.longest or 0, took)
end

--- The one that was taken over ends, and says why.
function takeover.await_fenced(old)
   local result = old:finish(30)
   lu.assertEquals(result.status, 5, result.stderr)
   lu.assertStrContains(result.stderr, "the pipeline script was taken over by ")
end

--- The writers are done; one more process, and what is there is what is in the table.
-- `processes`: those that run, who leads first.
function takeover.finish(c, processes, is_writing)
   wait.until_(function() return not is_writing() end, 60 + 4 * (STOPPED or 0), "the writers")
   c.db:exec "update t set v = nextval('versions') where id = 1" -- so that the leader writes
   wait.until_(function()
      return pcall(contract.check, c.driver, c.target, contract.tag, c.db, "", c.driver.promise)
   end, 60, "what the leader writes at last")
   for _, p in ipairs(processes) do
      lu.assertEquals(p:stop(nil, 30).status, 0, p:stderr())
   end
   once.ok(c.how)
   contract.check(c.driver, c.target, contract.tag, c.db, c.driver.promise)
   check_audit(c, #processes == 1)
end

-- ---- troubles ----

-- What can happen to a leader: trouble(c, old, new, is_quick) returns those that run afterwards,
-- the leader first. What trouble has in `before`, if anything, changes how both are started.
local troubles, before = {}, {}

function troubles.killed(c, old, new, is_quick)
   old:kill9()
   takeover.await_takeover(c, new, is_quick)
   return { new }
end

-- Stopped, until another one is at work; then it goes on.
function troubles.slept(c, old, new, is_quick)
   local since = native.now()
   old:signal "STOP"
   takeover.await_takeover(c, new, is_quick)
   native.sleep(math.max(0, (STOPPED or 0) - (native.now() - since)))
   old:signal "CONT"
   takeover.await_fenced(old)
   return { new }
end

function troubles.cut_off_from_the_state(c, old, new)
   c.way:strike("stall", true)
   takeover.await_takeover(c, new)
   c.way:heal()
   takeover.await_fenced(old)
   return { new }
end

-- That is no reason for another one to lead.
function troubles.cut_off_from_the_target(c, old, new)
   local driver = c.driver
   local cut = driver.cut or function(target) target.way:strike("stall", true) end
   local heal = driver.heal or function(target) target.way:heal() end
   cut(c.target)
   native.sleep(LEASE * (0.5 + math.random()))
   heal(c.target)
   lu.assertTrue(old:alive() and not new:stderr():find "leads the pipeline")
   old:kill9()
   takeover.await_takeover(c, new)
   return { new }
end

-- The machines' clocks are wrong, and set anew while both run: the database's clock alone counts.
function before.clock_moved(c)
   c.clock = scope.dir "clock" .. "/seconds"
   files.write(c.clock, "-86400\n")
   local binary = program.binary() .. "-sabotaged"
   c.first.binary, c.how.binary = binary, binary
   c.first.env = { SABOTAGE_CLOCK = c.clock }
   c.how.env = { SABOTAGE_CLOCK = "86400" }
end

function troubles.clock_moved(c, old, new, is_quick)
   local ends = native.now() + LEASE * 1.2
   while native.now() < ends do
      files.write(c.clock, ("%d\n"):format(math.random(-200000, 200000)))
      native.sleep(math.random() * 0.5)
      lu.assertTrue(old:alive(), old:stderr())
      lu.assertFalse(not not new:stderr():find "leads the pipeline", "a clock took over")
   end
   old:kill9()
   takeover.await_takeover(c, new, is_quick)
   return { new }
end

-- It gets so little time that its lease may end: either one of them may lead then.
function troubles.slowed(c, old, new)
   local ends = native.now() + LEASE * 2
   while old:alive() and native.now() < ends do
      old:signal "STOP"
      native.sleep(math.random() * LEASE * 0.7)
      old:signal "CONT"
      native.sleep(0.01 + math.random() * 0.03)
   end
   local epoch = wait.until_(function() -- who has the lease now keeps it
      return c.home:value "select epoch from pgcdc.lease where expires > now() + interval '1 s'"
   end, 20, "a leader")
   if epoch == "1" then
      lu.assertTrue(old:alive(), old:stderr())
      return { old, new }
   end
   takeover.await_fenced(old)
   return { new }
end

--- By name, for whoever lists tests.
takeover.troubles, takeover.before = troubles, before

--- A leader gets into this trouble. `is_quick`: a lease need not end by itself.
function takeover.trouble(driver, what, is_quick)
   local c = takeover.case(driver)
   if before[what] then
      before[what](c)
   end
   local is_writing = contract.start_writers(c.db, is_quick and 40 or 120 + 25 * (STOPPED or 0))
   local old, new = takeover.start_two(c)
   native.sleep(math.random() * 0.2) -- somewhere in what it does
   takeover.finish(c, troubles[what](c, old, new, is_quick), is_writing)
end

--- $PGCDC_TAKEOVERS, as a number: each trouble so often; nil: a choice of them.
takeover.times = tonumber(os.getenv "PGCDC_TAKEOVERS")

--- The same trouble `n` times; tells how long takeovers took at most.
function takeover.repeated(driver, what, n, is_quick)
   takeover.longest = nil
   for _ = 1, n do
      scope.open()
      takeover.trouble(driver, what, is_quick)
      scope.close()
   end
   if takeover.times and takeover.longest then
      io.write(("%d times, takeovers within %.1f s ... "):format(n, takeover.longest))
   end
end

return takeover
