-- power_loss_test.lua: a power loss at any moment, for the state file and the files of sinks.
-- SPDX-License-Identifier: MIT
--
-- The state file is in SQLite's WAL mode with synchronous = FULL: a commit syncs the log, and a
-- sink's file is synced before. So whatever a power loss leaves opens, holds a position that
-- was reached, and none that is newer than what the sinks had made durable: each change
-- is in the files exactly once in the end, and the count that is kept with the position is right.
-- Here some images, in `make sweep` hundreds.
--
-- The state file is in folders that the program makes. Once nobody synced the folder that these
-- were made in: a power loss could take all of them, while the files that sinks had written and
-- rotated by then stayed, and everything came again.

local lu = require "luaunit"
local power_loss = require "power_loss"
local sabotage = require "sabotage"
local scope = require "scope"

local TestPowerLoss = {}

local images = os.getenv "PGCDC_SWEEP" and 150 or 12

local function attack(name)
   local db = sabotage.database()
   local path, run = sabotage.record(db, name)
   local steps = power_loss.read(path)
   local syncs = 0
   for _, step in ipairs(steps) do
      syncs = syncs + (step.what == "sync" and 1 or 0)
   end
   lu.assertTrue(syncs > 10, "what was recorded")
   for i = 1, images do
      local dir, n = scope.dir "image", math.random(#steps)
      power_loss.image(steps, n, dir)
      local ok, why = pcall(sabotage.go_on, run, dir)
      if not ok then
         lu.fail(("%s, image %d, after step %d of %d, in %s: %s"):format(name, i, n, #steps, dir,
            type(why) == "table" and why.msg or why))
      end
   end
end

function TestPowerLoss.test_files()
   attack "files"
end

function TestPowerLoss.test_state()
   attack "state"
end

return TestPowerLoss
