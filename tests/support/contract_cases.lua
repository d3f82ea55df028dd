-- contract_cases.lua: troubles of every sink, one by one, made to happen at a certain moment.
-- SPDX-License-Identifier: MIT
--
-- Each case gets the name of a driver, a target of it and a tag, see contract_drivers.lua. It
-- raises what did not hold; tests/mutants has programs with which it must.

local contract = require "contract"
local drivers = require "contract_drivers"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local tables = require "tables"
local wait = require "wait"

local cases = {}

local ROWS = 30
local MARK = "7000000" -- how values of v begin that the network waits for

-- What makes versions with the mark, of the rows for which a condition is true.
local function mark(db, condition)
   db:exec("update t set v = " .. MARK .. "00 + nextval('versions') where " .. condition)
end

local function update(db, condition)
   db:exec("update t set v = nextval('versions') where " .. condition)
end

local function new_database()
   return fixtures.database(([[
      create sequence versions;
      create table t (id int primary key, v bigint not null default nextval('versions'));
      insert into t select generate_series(1, %d)]]):format(ROWS))
end

-- A database, and options of program.start.
local function new_run(name, target, tag, fields)
   local db = new_database()
   return db, {
      dsn = db, state = fixtures.state(), script = drivers[name].script(target, tag, fields)
         .. 'pgcdc.source {table = "t", interval = 0.02, deletes = true}:sink(sink)',
   }
end

local function check(name, target, tag, db)
   contract.check(drivers[name], target, tag, db, "case of " .. tag)
end

-- Waits until the target has what the table has.
local function await_same(name, target, tag, db, what)
   local why
   wait.until_(function()
      local ok, problem = pcall(check, name, target, tag, db)
      why = type(problem) == "table" and problem.msg or tostring(problem)
      return ok
   end, 20, function() return ("what came after %s:\n%s"):format(what, why) end)
end

-- ---- the network ----

local function await_fault(target)
   wait.until_(function() return target.way:stats().faults > 0 end, 20, "the fault")
end

-- A flush has sent everything, and the network holds what commits it. The program dies; the next
-- one, whose clock is slow, goes on with other changes. Then what was held comes to the target.
function cases.held(name, target, tag)
   local driver = drivers[name]
   local db, how = new_run(name, target, tag)
   once.ok(how)
   target.way:fault("stall", "up", driver.commit, false, driver.behind and MARK)
   mark(db, "id <= 10")
   local p = program.start(how)
   await_fault(target)
   p:kill9()
   update(db, "id between 6 and 15")
   db:exec "delete from t where id = 3"
   local next_one = program.start(tables.merge(how, {
      options = { "--once" }, env = { SABOTAGE_CLOCK = "-3600" },
      binary = program.binary() .. "-sabotaged",
   }))
   if driver.is_waiting then
      next_one:wait_until(function() return driver.is_waiting(target) end, 20, "it to wait")
      target.way:heal()
   end
   lu.assertEquals(next_one:finish(30).status, 0, next_one:stderr())
   update(db, "id > 25")
   once.ok(how)
   target.way:heal()
   wait.until_(function() return target.way:stats().open == 0 end, 20, "the held connection's end")
   update(db, "id = 20")
   once.ok(how)
   check(name, target, tag, db)
end

-- The data of a flush vanishes on its way, and the program dies.
function cases.vanished(name, target, tag)
   local db, how = new_run(name, target, tag)
   once.ok(how)
   target.way:fault("swallow", "up", MARK)
   mark(db, "id <= 10")
   local p = program.start(how)
   await_fault(target)
   p:kill9()
   target.way:heal()
   update(db, "id between 8 and 12")
   once.ok(how)
   check(name, target, tag, db)
end

-- The target answers what passes by itself, a few times.
function cases.trouble(name, target, tag)
   local db, how = new_run(name, target, tag)
   once.ok(how)
   drivers[name].trouble(target, 3)
   update(db, "id <= 10")
   once.ok(how)
   check(name, target, tag, db)
end

-- The program dies before and after the commit of a flush, several times in a row, each time with
-- more changes. (For a driver whose script knows die=.)
function cases.dies(name, target, tag)
   local db, how = new_run(name, target, tag)
   for i, die in ipairs { "before", "after", "after", "before", "after" } do
      how.args = { die = die }
      lu.assertEquals(once.run(how).status, 7)
      how.args = nil
      if i % 2 == 0 then
         once.ends(0, how)
         check(name, target, tag, db)
      end
      update(db, "id % 5 < 2 and id > " .. i)
   end
   once.ok(how)
   check(name, target, tag, db)
end

-- A flush is cut off, or its bytes vanish: at the data, at what commits it, at the answer to that.
-- The program goes on by itself.
function cases.network(name, target, tag)
   local driver = drivers[name]
   local db, how = new_run(name, target, tag, not driver.is_patient and "timeout = 0.5")
   local p = program.start(how)
   await_same(name, target, tag, db, "the start")
   for _, fault in ipairs {
      { "rst", "up", MARK }, { "swallow", "up", MARK }, { "fin", "up", driver.commit },
      { "swallow", "up", driver.commit }, { "rst", "answer", driver.commit },
      { "swallow", "answer", driver.commit },
   } do
      if (fault[3] ~= MARK or driver.behind) and not (fault[1] == "swallow" and driver.is_patient)
      then
         target.way:fault(fault[1], fault[2], fault[3], false,
            fault[3] ~= MARK and driver.behind and MARK or nil)
         mark(db, "id % 3 = 0")
         await_fault(target)
         update(db, "id % 4 = 0")
         await_same(name, target, tag, db, table.concat(fault, " "))
         lu.assertTrue(p:alive(), p:stderr())
         target.way:heal()
      end
   end
   lu.assertEquals(p:stop().status, 0)
   check(name, target, tag, db)
end

return cases
