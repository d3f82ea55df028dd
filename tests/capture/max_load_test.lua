-- max_load_test.lua: scans take no more of the time than they may; polls are put off for that.
-- SPDX-License-Identifier: MIT
--
-- The rule itself, for many sources and censuses, is in tests/unit/load.c.

local cluster = require "cluster"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local served = require "served"

local TestMaxLoad = {}

local POLLS = 13

-- A table whose scan takes some milliseconds.
local function big_table()
   local db = cluster.main():database()
   db:exec [[create table t (id int primary key, n int default 0);
      insert into t select generate_series(1, 60000);
      create table small (id int primary key, n int default 0); insert into small values (1)]]
   return db
end

-- The polls of table t in a log: {at = seconds, scan = seconds}.
local function polls_of(text)
   local polls = {}
   for minute, second, ms in text:gmatch("ts=[%d-]+T%d+:(%d+):([%d.]+)Z level=debug"
      .. " msg=\"poll[^\n]-ms=([%d.]+)\"? source=public.t\n") do
      local at, last = minute * 60 + second, polls[#polls]
      polls[#polls + 1] = { at = last and at < last.at - 1800 and at + 3600 or at,
                            scan = ms / 1000 }
   end
   return polls
end

-- Runs a source of table t while something commits all the time, for so many polls. Returns them,
-- and the log.
local function run(db, fields, more)
   local p = program.start { dsn = db, options = { "--log-level", "debug" }, script = ([[
      pgcdc.source { table = "t", interval = 0.01, start = "now", %s, on_change = function() end }
      %s]]):format(fields, more or "") }
   p:wait_until(function()
      db:exec "update small set n = n + 1"
      return #polls_of(p:stderr()) > POLLS
   end, 30, "polls")
   p:stop()
   return polls_of(p:stderr()), p:stderr()
end

-- From the second poll on the next one comes after the shorter of the last two scans took its share
-- of the time.
function TestMaxLoad.test_scans_take_their_share()
   local db = big_table()
   local polls, log = run(db, "max_load = 0.1, hints = false",
      'pgcdc.source { table = "small", interval = 0.01, on_change = function() end }')
   local n_far = 0
   for i = 2, #polls - 1 do
      local least = math.min(polls[i].scan, polls[i - 1].scan) / 0.1
      -- a poll is logged when it ends
      local apart = polls[i + 1].at - polls[i + 1].scan - (polls[i].at - polls[i].scan)
      lu.assertTrue(apart > 0.7 * least, ("%g after a scan of %g"):format(apart, polls[i].scan))
      n_far = n_far + (least > 0.015 and 1 or 0)
   end
   lu.assertTrue(n_far > POLLS / 2)
   local told = select(2, log:gsub("level=warn msg=\"scans would take [%d.]+ of the time, of this"
      .. " table [%d.]+, so that it is polled every [%d.]+ s, not 0.01 s: make them rare", ""))
   lu.assertEquals(told, 1)
   local of_small = select(2, log:gsub("msg=\"poll[^\n]*source=public.small\n", ""))
   lu.assertTrue(of_small > #polls, of_small .. " polls of the small table") -- it does not wait
end

function TestMaxLoad.test_any()
   local polls, log = run(big_table(), "max_load = 1, hints = false")
   local longest = 0
   for i = 2, #polls do
      longest = math.max(longest, polls[i].scan)
   end
   lu.assertTrue(polls[#polls].at - polls[1].at < (#polls - 1) * longest / 0.1)
   lu.assertNotStrContains(log, "scans would take")
end

-- What is put off is told, and neither a user's poll nor one by --once waits for it.
function TestMaxLoad.test_shown_and_not_in_the_way()
   local db = big_table()
   local p = served.start { dsn = db, options = { "--log-level", "debug" }, script = [[
      pgcdc.source { table = "t", interval = 0.01, start = "now", max_load = 0.001,
         hints = false }
         :on("change", function(c) print(c.key.id, c.row.n) end)]] }
   p:wait_ready(200)
   local status = p:wait_status("a stretched interval", function(s)
      db:exec "update small set n = n + 1"
      return s.sources[1].stretched_interval_seconds > 1
   end)
   lu.assertEquals(status.sources[1].interval_seconds, 0.01)
   lu.assertTrue(p:metrics()['pgcdc_lua_poll_interval_seconds{source="public.t"}'] > 1)
   p:stop()
   local before = os.time()
   local result = once.ok { dsn = db, script = [[
      pgcdc.source { table = "t", interval = 1, start = "now", max_load = 0.001 }
         :on("change", function() end)]] }
   lu.assertEquals(result.status, 0)
   lu.assertTrue(os.time() - before < 20)
end

function TestMaxLoad.test_refused()
   for _, value in ipairs { "0", "1.5", "-1", "0/0" } do
      local text = once.ends(1, { script = ('pgcdc.source { table = "t", max_load = %s }'):format(
         value), dsn = cluster.main() }).text
      lu.assertStrContains(text, "max_load is a share of time, from 0.001 to 1 (no limit), not ")
   end
end

return TestMaxLoad
