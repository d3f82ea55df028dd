-- hints_test.lua: polls that read the blocks which the WAL names, and no others.
-- SPDX-License-Identifier: MIT
--
-- hints = "check" compares each such poll with a scan in the same snapshot, and ends the program
-- where they differ. So "read=hint" in its log says that the two were the same.

local cluster = require "cluster"
local lu = require "luaunit"
local program = require "program"
local run = require "exact_run"
local seeds = require "seeds"

local TestHints = {}

local is_there = cluster.version() >= 15

-- A database of the cluster with table t (id, n) of <rows> rows, some six to a block, and the
-- extension.
local function database(rows, of)
   local db = (of or cluster.main()):database()
   db:exec(([[create extension pg_walinspect;
      create table t (id int primary key, n int default 0, pad text default repeat('x', 1000));
      alter table t alter pad set storage plain;
      insert into t select generate_series(1, %d)]]):format(rows))
   return db
end

-- Starts the program on table t. Its lines are "op id n".
local function start(db, fields, options)
   local p = program.start(setmetatable({
      dsn = options and options.dsn or db, options = { "--log-level", "debug" },
      script = ([[pgcdc.source { table = "t", interval = 0.02, %s }:on("change", function(c)
         io.write(c.op, " ", c.key.id, " ", c.row.n, "\n")
      end)]]):format(fields or 'hints = "check"'),
   }, { __index = options }))
   return p
end

local function wait_line(p, line)
   p:wait_until(function()
      local lines = p:lines()
      return lines[#lines] == line
   end, 20, line)
end

local function count(text, pattern)
   return select(2, text:gsub(pattern, ""))
end

-- Updates row after row until a poll was by hint after this moment; the polls that were.
local function wait_armed(p, db, id)
   local before = count(p:stderr(), "read=hint")
   local n = 0
   p:wait_until(function()
      n = n + 1
      db:exec(("update t set n = n + 1 where id = %d"):format(id or 1))
      return count(p:stderr(), "read=hint") > before
   end, 20, "a poll by hint")
end

if is_there then

function TestHints.test_a_poll_reads_the_blocks_that_were_written()
   local db = database(3000)
   local p = start(db)
   p:wait_stderr "ready"
   wait_armed(p, db)
   db:exec "insert into t values (9001, 1); update t set n = 77 where id in (7, 1500)"
   wait_line(p, "upsert 9001 1")
   local blocks, of = p:stderr():match ".*read=hint blocks=(%d+) of=(%d+)"
   lu.assertTrue(tonumber(blocks) <= 6 and tonumber(of) >= 400, blocks .. " of " .. of)
   lu.assertEquals(p:stop().status, 0)
end

local seed = seeds.asked or seeds.fresh()

-- Eight writers at random; each poll is compared with a scan of its own snapshot.
local function assert_exact(options)
   io.write("seed ", seed, " ... ")
   io.flush()
   options.seed, options.hints, options.seconds = seed, "check", options.seconds or 4
   options.before = function(db)
      db:exec "create extension pg_walinspect"
   end
   local checker, stats, result = run.random(options)
   local armed, scans = count(result.stderr, "read=hint"), count(result.stderr, "read=scan")
   io.write(("%d polls by hint, %d by scan, %d changes ... "):format(armed, scans,
      checker.delivered))
   lu.assertNil(checker:verdict(), "seed " .. seed)
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertTrue(armed >= 20, ("%d polls by hint"):format(armed))
   return stats
end

-- Nothing is missed and nothing repeated, whatever the writers do, VACUUM FULL included.
function TestHints.test_exact_beside_a_scan_under_writers()
   assert_exact { cluster = cluster.main() }
end

function TestHints.test_exact_beside_a_scan_on_a_standby()
   local primary = cluster.new { name = "hints primary" }
   local standby = primary:standby("hints standby", {
      conf = { max_standby_streaming_delay = "100ms" },
   })
   assert_exact { cluster = primary, standby = standby }
end

end

return TestHints
