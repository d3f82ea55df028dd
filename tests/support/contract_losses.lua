-- contract_losses.lua: targets and state files that are lost, of another day or of somebody else.
-- SPDX-License-Identifier: MIT
--
-- Cases as those of contract_cases.lua.

local contract_case = require "contract_case"
local drivers = require "contract_drivers"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"

local losses = {}

-- The program runs while the target goes back to what it was, or loses all. It ends, and says so; a
-- new start goes on from what is there.
local function assert_noticed(case, change)
   local p = program.start(case.how)
   p:wait_stderr 'msg="ready"'
   change()
   case:update "id = 11"
   local result = p:finish(30)
   lu.assertEquals(result.status, 1, result.stderr)
   lu.assertTrue(result.stderr:find "a new start goes on from what is there" ~= nil
      or case.driver.is_gone and result.stderr:find(case.driver.is_gone) ~= nil, result.stderr)
end

-- The target is restored from an older copy: what it lacks comes again, and nothing else.
function losses.restored(name, target, tag)
   local case = contract_case.new(name, target, tag)
   case:once()
   case:update "id <= 5"
   case:once()
   local copy = case.driver.copy(target)
   case:update "id between 3 and 8"
   case:once()
   case:update "id between 7 and 10"
   case:once()
   case.driver.back(target, copy)
   case:update "id = 20"
   case:once()
   case:check()
   copy = case.driver.copy(target)
   case:update "id between 21 and 24"
   case:once()
   assert_noticed(case, function() case.driver.back(target, copy) end)
   case:once()
   case:check()
end

-- The target loses all that it has: all rows come again.
function losses.emptied(name, target, tag)
   local case = contract_case.new(name, target, tag)
   case:once()
   case:update "id <= 5"
   case:once()
   case.driver.empty(target, tag)
   case:update "id between 3 and 8"
   case:once()
   case:check()
   assert_noticed(case, function() case.driver.empty(target, tag) end)
   case:once()
   case:check()
end

-- There is another target in the place of the first, and then the first one again.
function losses.exchanged(name, target, tag)
   local case = contract_case.new(name, target, tag)
   case:once()
   local other = case.driver.copy(target)
   case.driver.empty(target, tag)
   case:update "id between 3 and 8"
   case:once()
   case:check()
   case:update "id between 7 and 12"
   case:once()
   case.driver.back(target, other)
   case:update "id > 25"
   case:once()
   case:check()
end

-- The state file is lost, twice; and replaced by an older copy.
function losses.state_file(name, target, tag)
   local case = contract_case.new(name, target, tag, { fields = drivers[name].without_state })
   case:once()
   local copy = fixtures.state(case.how.state)
   for i = 1, 2 do
      case:update("id <= " .. 5 * i)
      case.how.state = fixtures.state()
      case:once()
      case:check()
      case:update("id between 4 and " .. 4 + i)
      case:once()
      case:check()
   end
   case.how.state = copy
   case:update "id > 25"
   case:once()
   case:check()
end

-- --reset reads everything again, with greater numbers, also by a clock that is slow; what a
-- program that was reset brings next is newer than all that.
function losses.reset(name, target, tag)
   local case = contract_case.new(name, target, tag)
   case:once()
   for i = 1, 3 do
      case:update("id between 3 and " .. 4 + i)
      local p = case:start_slow(3600 * i, { "--reset" })
      lu.assertEquals(p:finish(30).status, 0, p:stderr())
      case:check "repeats"
      case:update("id > " .. 20 + i)
      p = case:start_slow(7200 * i)
      lu.assertEquals(p:finish(30).status, 0, p:stderr())
      case:check "repeats"
   end
end

-- Another program begins under the same name while this one is stopped for a moment; then it goes
-- on, and must not write any more.
function losses.taken_over(name, target, tag)
   local case = contract_case.new(name, target, tag, { fields = drivers[name].beside_others })
   local state = fixtures.state()
   local old = program.start(case.how)
   case:await "the start"
   old:signal "STOP"
   case:update "id <= 10"
   once.ok(case.how, { state = state })
   case:check()
   case:update "id between 5 and 15"
   old:signal "CONT"
   local result = old:finish(30)
   lu.assertEquals(result.status, 1, result.stderr)
   lu.assertStrContains(result.stderr, "another pgcdc-lua has taken over the sink")
   once.ok(case.how, { state = state })
   case:check()
end

-- Two programs with state files of their own write to one target all the time: the end state is
-- exact once each of them has come to its end. (What one has read before a delete it may write
-- after the other one has told that, with a later number; then it tells the delete, too.)
function losses.two_programs(name, target, tag)
   local case = contract_case.new(name, target, tag)
   local programs = {}
   for i = 1, 2 do
      programs[i] = program.start { dsn = case.how.dsn, script = case.how.script,
                                    state = fixtures.state() }
   end
   case:await "the start"
   for i = 1, 20 do
      programs[i % 2 + 1]:signal "STOP"
      case:update(("id %% 5 = %d"):format(i % 5))
      programs[i % 2 + 1]:signal "CONT"
   end
   case.db:exec "delete from t where id % 7 = 0"
   case:update "id = 1"
   for i = 1, 2 do
      lu.assertEquals(programs[i]:stop().status, 0, programs[i]:stderr())
   end
   for i = 1, 2 do
      once.ok(case.how, { state = programs[i].state })
   end
   case:check()
end

return losses
