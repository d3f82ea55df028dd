-- exact_test.lua: no committed row version is missed, none is delivered twice; and that this bites.
-- SPDX-License-Identifier: MIT
--
-- $PGCDC_EXACT_SECONDS: how long writers work in all (default 36); $PGCDC_TEST_SEED: what they do.

local by_log = require "by_log"
local cluster = require "cluster"
local environment = require "environment"
local lu = require "luaunit"
local program = require "program"
local run = require "exact_run"
local seeds = require "seeds"

local TestExact = {}

local seconds = tonumber(os.getenv "PGCDC_EXACT_SECONDS" or "") or 36
local seed = seeds.asked or seeds.fresh()

local function random_run(options)
   io.write("seed ", seed, " ... ")
   io.flush()
   options.seed = seed
   local checker, stats, result = run.random(options)
   local report = {}
   for name, count in pairs(stats) do
      report[#report + 1] = ("%d %s"):format(count, name)
   end
   table.sort(report)
   io.write(("%d changes, %d repeated (%s) ... "):format(checker.delivered, checker.repeated,
      table.concat(report, ", ")))
   return checker, stats, result
end

-- That there was trouble of each kind, or the run proves little.
local function assert_busy(stats, checker, kinds)
   for _, kind in ipairs(kinds) do
      lu.assertTrue(stats[kind] > 0, "no transaction was " .. kind)
   end
   lu.assertTrue(checker.delivered > 20 * seconds / 3, "hardly anything was delivered")
end

local usual = { "committed", "aborted", "released", "undone", "prepared", "held", "vacuumed",
   "rewritten" }

-- A random run must miss nothing, and repeat nothing unless the program was killed; and there must
-- be trouble of each kind. Returns what was counted, and the program's result.
local function assert_nothing_lost(options)
   options.kinds = usual
   local checker, stats, result = random_run(options)
   lu.assertNil(checker:verdict(), "seed " .. seed)
   lu.assertEquals(result.status, 0)
   assert_busy(stats, checker, usual)
   return stats, result
end

-- Nothing is missed, nothing delivered twice, although its connection is cut again and again.
function TestExact.test_nothing_lost_nothing_twice()
   local stats = assert_nothing_lost { cluster = cluster.main(), seconds = seconds / 3 }
   lu.assertTrue(stats.terminated > 0, "its connection was never cut")
end

-- SIGKILL at any moment loses nothing either; what was in hand may come again.
function TestExact.test_nothing_lost_when_killed()
   local stats = assert_nothing_lost {
      cluster = cluster.main(), seconds = seconds / 3, kills = true,
   }
   lu.assertTrue(stats.killed > 0, "the program was never killed")
end

-- A hot standby is as good a source, with recovery conflicts all the time. Its snapshots list no
-- transaction at all.
function TestExact.test_nothing_lost_nothing_twice_on_a_standby()
   local primary = cluster.new { name = "exact primary" }
   local standby = primary:standby("exact standby", {
      conf = { max_standby_streaming_delay = "100ms" },
   })
   assert_nothing_lost {
      cluster = primary, standby = standby, seconds = seconds / 3,
   }
end

-- The same by the stamps of triggers; and the keys that the script holds are those of the table.
function TestExact.test_nothing_lost_nothing_twice_by_triggers()
   assert_nothing_lost {
      cluster = cluster.main(), seconds = seconds / 4, capture = "trigger",
   }
end

function TestExact.test_nothing_lost_when_killed_by_triggers()
   assert_nothing_lost {
      cluster = cluster.main(), seconds = seconds / 4, capture = "trigger", kills = true,
   }
end

-- The same by a column that grows, as far as it does: keys are random, so that most rows lie below
-- the window, and rechecks have to find them, but not again what a window showed.
function TestExact.test_nothing_lost_nothing_twice_by_increment()
   local _, result = assert_nothing_lost {
      cluster = cluster.main(), seconds = seconds / 4, capture = "increment",
   }
   lu.assertStrContains(result.stderr, "the recheck found")
end

function TestExact.test_nothing_lost_when_killed_by_increment()
   assert_nothing_lost {
      cluster = cluster.main(), seconds = seconds / 4, capture = "increment", kills = true,
   }
end

-- By the log every version that was committed comes once, in the order of commits, over TRUNCATE
-- and columns that come and go: just what the server itself says of its log.
local function assert_by_log(options)
   options.cluster, options.capture = by_log.cluster(), "logical"
   options.seconds, options.hasty = seconds / 18, seconds < 60
   local checker, stats, result = random_run(options)
   lu.assertNil(checker:verdict(), ("seed %d\n%s"):format(seed, result.stderr:sub(-3000)))
   lu.assertEquals(result.status, 0)
   assert_busy(stats, checker, options.kinds)
   io.write(("%d of %d by the log ... "):format(checker.by_log, checker.told))
end

function TestExact.test_each_version_in_order_by_the_log()
   assert_by_log { kinds = { "committed", "aborted", "released", "undone", "prepared", "altered",
      "truncated", "terminated" } }
end

function TestExact.test_each_version_in_order_by_the_log_when_killed()
   assert_by_log { kills = true, crashes = true, kinds = { "committed", "aborted", "released",
      "undone", "prepared", "altered", "killed", "crashed" } }
end

-- A poll whose connection breaks goes on after the last row that was delivered. The second break
-- in a row once forgot where the first had been, and rows came again.
function TestExact.test_nothing_twice_when_a_poll_is_cut_twice()
   local checker, twice = run.cut { cluster = cluster.main(), polls = 2 }
   lu.assertNil(checker:verdict())
   lu.assertTrue(twice > 0, "no poll was cut twice")
end

-- What the mutants stumble over is no trouble for the rule.
function TestExact.test_savepoint_open_while_a_later_transaction_commits()
   lu.assertNil(run.scripted { cluster = cluster.main() }:verdict())
end

-- Runs <fn> with the program whose capture rule is replaced by tests/mutants/horizon_<name>.c.
local function with_mutant(name, fn)
   environment.with("PGCDC_LUA", ("%s-%s"):format(program.binary(), name), fn)
end

-- The test must find a mutant out: by the interleaving that was made for it, and at random.
local function assert_found_out(name)
   with_mutant(name, function()
      local verdict = run.scripted { cluster = cluster.main() }:verdict()
      lu.assertStrContains(verdict or "no problem", "plain 4 version 1")
      local tries = 0
      repeat
         tries = tries + 1
         local checker = run.random {
            cluster = cluster.main(), seconds = 2 * tries, calm = true, seed = seed + tries,
         }
      until checker:verdict() or tries == 4
      lu.assertTrue(tries < 4, "four random runs found nothing wrong with the mutant")
   end)
end

-- The test bites: "visible in the previous snapshot" loses what a released savepoint wrote.
function TestExact.test_finds_out_the_rule_of_the_previous_snapshot()
   assert_found_out "visible"
end

-- The test bites: "above the highest xid seen" loses whatever commits late.
function TestExact.test_finds_out_the_rule_of_the_highest_xid()
   assert_found_out "highest"
end

return TestExact
