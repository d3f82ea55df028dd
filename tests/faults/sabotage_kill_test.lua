-- sabotage_kill_test.lua: SIGKILL at every step of a snapshot, of polls and of saves.
-- SPDX-License-Identifier: MIT
--
-- A step is a call of libpq, of SQLite, or one that changes a file (SQLite's own are among them); a
-- write is done to its half. Here some of the steps that change files (or, where there is a target,
-- talk to it), which are fewer and matter more; in `make sweep` all. What goes on after a crash
-- may crash as well.

local lu = require "luaunit"
local sabotage = require "sabotage"

local TestSabotageKill = {}

local is_whole = os.getenv "PGCDC_SWEEP" ~= nil

-- It was killed, or, where the step was not reached any more, came to its end.
local function check(p)
   local result = sabotage.finish(p, 60)
   lu.assertTrue(result.signal == 9 or result.status == 0, result.stderr)
   return result
end

local BY_CALLS = { postgres = true, logical = true, database = true }

local function sweep(name, n, again)
   local class = is_whole and "postgres sqlite files" or BY_CALLS[name] and "postgres" or "files"
   lu.assertTrue(sabotage.sweep(name, { class = class, how = "kill", again = again }, n, check) > 0)
end

for name in pairs(sabotage.scenarios) do
   if name ~= "both" then -- which is for failures
      local n = (name == "logical" or name == "database") and 4 or 10 -- these take their time
      TestSabotageKill["test_" .. name] = function() sweep(name, n) end
   end
end

for _, name in ipairs { "files", "state", "postgres" } do
   TestSabotageKill[("test_%s_again"):format(name)] = function() sweep(name, 5, true) end
end

return TestSabotageKill
