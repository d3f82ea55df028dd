-- contract_cases.lua: troubles of every sink, one by one, made to happen at a certain moment.
-- SPDX-License-Identifier: MIT
--
-- Each case gets the name of a driver, a target of it and a tag, see contract_drivers.lua. It
-- raises what did not hold; tests/mutants has programs with which it must.

local contract_case = require "contract_case"
local drivers = require "contract_drivers"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local wait = require "wait"

local cases = {}

local MARK, ROWS = contract_case.MARK, contract_case.ROWS

-- The network is to fail so, see native_proxy.c. Returns a function that waits until it has.
local function arm(target, ...)
   local before, what = target.way:stats().faults, table.concat({ ... }, " ", 1, 3)
   target.way:fault(...)
   return function()
      wait.until_(function() return target.way:stats().faults > before end, 20, what)
   end
end

-- A flush has sent everything, and the network holds what commits it. The program dies; the next
-- one, whose clock is slow, goes on with other changes. Then what was held comes to the target.
function cases.held(name, target, tag)
   local case = contract_case.new(name, target, tag)
   local driver = case.driver
   case:once()
   local await_fault = arm(target, "stall", "up", driver.commit, false,
      driver.is_apart and driver.commit or driver.behind and MARK)
   case:mark "id <= 10"
   local p = program.start(case.how)
   await_fault()
   p:kill9()
   case:update "id between 6 and 15"
   case.db:exec "delete from t where id = 3"
   local next_one = case:start_slow(3600)
   if driver.is_waiting then
      next_one:wait_until(function() return driver.is_waiting(target) end, 20, "it to wait")
      target.way:heal()
   end
   lu.assertEquals(next_one:finish(30).status, 0, next_one:stderr())
   case:update "id > 25"
   case:once()
   target.way:heal()
   wait.until_(function() return target.way:stats().open == 0 end, 20, "the held connection's end")
   case:update "id = 20"
   case:once()
   case:check()
end

-- The data of a flush vanishes on its way, and the program dies.
function cases.vanished(name, target, tag)
   local case = contract_case.new(name, target, tag)
   case:once()
   local await_fault = arm(target, "swallow", "up", MARK)
   case:mark "id <= 10"
   local p = program.start(case.how)
   await_fault()
   p:kill9()
   target.way:heal()
   case:update "id between 8 and 12"
   case:once()
   case:check()
end

-- The target answers what passes by itself, a few times.
function cases.trouble(name, target, tag)
   local case = contract_case.new(name, target, tag)
   case:once()
   case.driver.trouble(target, 3)
   case:update "id <= 10"
   case:once()
   case:check()
end

-- The program dies before and after the commit of a flush, several times in a row, each time with
-- more changes. (For a driver whose script knows die=.)
function cases.dies(name, target, tag)
   local case = contract_case.new(name, target, tag)
   for i, die in ipairs { "before", "after", "after", "before", "after" } do
      case.how.args = { die = die }
      lu.assertEquals(once.run(case.how).status, 7)
      case.how.args = nil
      if i % 2 == 0 then
         once.ends(0, case.how)
         case:check()
      end
      case:update("id % 5 < 2 and id > " .. i)
   end
   case:once()
   case:check()
end

-- A flush is cut off, or its bytes vanish: at the data, at what commits it, at the answer to that.
-- The program goes on by itself.
function cases.network(name, target, tag)
   local driver = drivers[name]
   local case = contract_case.new(name, target, tag,
      { fields = not driver.is_patient and "timeout = " .. (driver.timeout or 0.5) })
   local p = program.start(case.how)
   case:await "the start"
   for _, fault in ipairs {
      { "rst", "up", MARK }, { "swallow", "up", MARK }, { "fin", "up", driver.commit },
      { "swallow", "up", driver.commit }, { "rst", "answer", driver.commit },
      { "swallow", "answer", driver.commit },
   } do
      local is_data = fault[3] == MARK
      if (driver.behind or not is_data) and not (driver.is_patient and fault[1] == "swallow") then
         local await_fault = arm(target, fault[1], fault[2], fault[3], false,
            not is_data and driver.behind and not driver.is_apart and MARK or nil)
         case:mark "id % 3 = 0"
         await_fault()
         case:update "id % 4 = 0"
         case:await(table.concat(fault, " "))
         lu.assertTrue(p:alive(), p:stderr())
         target.way:heal()
      end
   end
   lu.assertEquals(p:stop().status, 0)
   case:check()
end

-- A state of the script counts the changes, and makes savepoints of 200 kB. Flushes are cut off,
-- and the program dies while one is held.
local COUNTING = [[
   local state = pgcdc.state "big"
   local function count()
      state.n = (state.n or 0) + 1
      for i = 1, 1000 do state["key" .. i] = ("x"):rep(200) .. state.n end
   end
   if pgcdc.args.count then print(state.n) end]]

function cases.big(name, target, tag)
   local case = contract_case.new(name, target, tag,
      { script = COUNTING, source = "on_change = count" })
   local driver = case.driver
   local p = program.start(case.how)
   case:await "the start"
   for i, fault in ipairs { { "rst", "up" }, { "rst", "answer" }, { "stall", "up" } } do
      local await_fault = arm(target, fault[1], fault[2], driver.commit, false,
         not driver.is_apart and MARK or nil)
      case:mark("id % 10 = " .. i)
      await_fault()
      if fault[1] ~= "stall" then
         case:await(fault[1])
         target.way:heal()
      end
   end
   p:kill9()
   case:update "id % 10 = 4"
   target.way:heal()
   wait.until_(function() return target.way:stats().open == 0 end, 20, "the held connection's end")
   case:once()
   case:check()
   local result = case:once { args = { count = "yes" } }
   lu.assertEquals(result.lines, { tostring(ROWS + 4 * ROWS // 10) })
end

return cases
