-- sabotage_kill_test.lua: SIGKILL at every step of a snapshot, of polls and of saves.
-- SPDX-License-Identifier: MIT
--
-- A step is a call of libpq, of SQLite, or one that changes a file (SQLite's own are among them); a
-- write is done to its half. Here some steps of each scenario, in `make sweep` all of them.

local lu = require "luaunit"
local program = require "program"
local sabotage = require "sabotage"

local TestSabotageKill = {}

-- It was killed, or, where the step was not reached any more, came to its end.
local function judge(p)
   local result = p:finish(60)
   lu.assertTrue(result.signal == 9 or result.status == 0, result.stderr)
   return result
end

local function sweep(name)
   local db = sabotage.database()
   if name == "trigger" then
      local result = program.run {bundled = "trigger", dsn = db, state = false,
                                  args = {action = "install", table = "t"}}
      lu.assertEquals(result.status, 0, result.stderr)
   end
   local how = {class = "postgres sqlite files", how = "kill"}
   lu.assertTrue(sabotage.sweep(db, name, how, 5, judge) >= 3)
end

for name in pairs(sabotage.scenarios) do
   TestSabotageKill["test_" .. name] = function() sweep(name) end
end

return TestSabotageKill
