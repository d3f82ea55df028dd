-- xid_boundary_test.lua: exact where transaction ids wrap.
-- SPDX-License-Identifier: MIT
--
-- The clusters are moved there with pg_resetwal; all that was in them before is frozen, its
-- xmins are those of long ago. What these can be taken for: xid_alias_test.lua.

local cluster = require "cluster"
local exact_checker = require "exact_checker"
local lu = require "luaunit"
local program = require "program"
local run = require "exact_run"
local seeds = require "seeds"
local xids = require "xids"

local TestXidBoundary = {}

local wrap = 1 << 32
local ahead = 500 -- transactions from where writers begin to the boundary

local function new_cluster()
   lu.skipIf(not xids.can_move(), "there is no pg_resetwal")
   return cluster.new { conf = xids.conf }
end

-- Stopped in good order, with what it knows of the rows, the program starts again.
local function start_again(checker, options, state)
   local db, _, dsn = table.unpack(options.prepared)
   db:exec "delete from plain where k in (select k from plain limit 5); delete from parted"
   local result = program.run { script = exact_checker.script, dsn = dsn, state = state,
      args = { tables = table.concat(checker.tables, ","), deletes = true },
      options = { "--once" } }
   lu.assertEquals(result.status, 0, result.stderr)
   for _, line in ipairs(result.lines) do
      lu.assertStrContains(line, "delete")
      checker:take(line)
   end
   checker:compare(db:connection())
end

-- Writers take the cluster over <boundary> while the program watches.
local function cross(boundary, capture, deletes)
   local one = new_cluster()
   local seed = seeds.fresh()
   local options = { cluster = one, seconds = 2, seed = seed, capture = capture,
      deletes = deletes }
   function options.enough()
      return xids.next(one) > boundary + 100
   end
   run.prepare(options)
   xids.move(one, boundary - ahead)
   local before = xids.next(one)
   lu.assertTrue(before < boundary, "moved too far: " .. before)
   local checker, stats, result = run.random(options)
   local message = ("seed %d"):format(seed)
   if deletes then
      start_again(checker, options, result.program.state)
   end
   lu.assertNil(checker:verdict(), message)
   lu.assertEquals(result.status, 0, message)
   lu.assertTrue(xids.next(one) > boundary, "the boundary was not reached")
   lu.assertTrue(stats.committed > 0)
   if capture ~= "increment" then -- that knows no xids
      lu.assertTrue(checker.lowest >= before and checker.lowest < boundary, message)
      lu.assertTrue(checker.highest > boundary and checker.highest < xids.next(one), message)
   end
end

function TestXidBoundary.test_exact_across_2_31()
   cross(1 << 31)
end

function TestXidBoundary.test_exact_across_2_32()
   cross(wrap)
end

function TestXidBoundary.test_exact_across_2_32_by_triggers()
   cross(wrap, "trigger")
end

function TestXidBoundary.test_exact_across_2_32_by_increment()
   cross(wrap, "increment")
end

function TestXidBoundary.test_exact_across_2_31_with_deletes()
   cross(1 << 31, nil, true)
end

function TestXidBoundary.test_exact_across_2_32_with_deletes()
   cross(wrap, nil, true)
end

function TestXidBoundary.test_exact_in_the_middle_of_epoch_1()
   cross(wrap + (1 << 31))
end

function TestXidBoundary.test_exact_into_epoch_2()
   cross(2 * wrap)
end

return TestXidBoundary
