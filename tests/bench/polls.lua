-- polls.lua: what polls by xmin cost: a scan, one that a worker shares, one by blocks that the WAL
-- names, by how many there are; how fast the WAL is read; and that scans take no more of the time
-- than they may.
-- SPDX-License-Identifier: MIT
--
-- Called by bench.lua, with its tools and yardsticks.

local native = require "native"
local program = require "program"

local POLLS = 9

-- Polls while something commits, as often as it takes. Returns of each but the first ones its
-- seconds, whole and of the COPY alone, and when it ended.
local function polls_of(bench, fields, pattern, change)
   local db = bench.database
   local p = program.start { dsn = db, options = { "--log-level", "debug" }, script = ([[
      pgcdc.source { table = "t", start = "now", interval = 0.05, on_change = function() end, %s }
      ]]):format(fields) }
   local polls = {}
   local function read()
      polls = {}
      for minute, second, whole, ms in p:stderr():gmatch("T%d+:(%d+):([%d.]+)Z level=debug msg="
         .. "\"poll: %d+ rows in ([%d.]+) s, " .. pattern .. "[^\n]-ms=([%d.]+)") do
         polls[#polls + 1] = { seconds = tonumber(whole), scan = ms / 1000,
                               at = minute * 60 + second }
      end
      return #polls
   end
   p:wait_until(function()
      change(db)
      native.sleep(0.05)
      return read() >= POLLS + 2
   end, bench.patience, "polls")
   p:stop()
   return { table.unpack(polls, 3) }
end

local function median(polls, field)
   local list = {}
   for i, poll in ipairs(polls) do
      list[i] = poll[field]
   end
   table.sort(list)
   return list[#list // 2 + 1]
end

-- 100 rows all over the table.
local function scatter(rows)
   local step, offset = rows // 100, 0
   return function(db)
      offset = offset % step + 1
      db:exec(("update t set amount = 1 where id in (select generate_series(%d, %d, %d))"):format(
         offset, 99 * step + offset, step))
   end
end

-- Which share of the blocks of a table was written, one row of each, and what reading them may
-- take, in N.
local SHARES = { { 0.02, 0.036 }, { 0.1, 0.156 }, { 0.25, 0.41 }, { 0.48, 0.78 } }

local function shares_of_blocks(bench, n)
   local db = bench.database
   db:exec("create table sparse (like t including all) with (fillfactor = 90)", bench.patience)
   db:exec("insert into sparse select * from t", bench.patience)
   db:exec("vacuum analyze sparse", bench.patience)
   local first = "select array_agg(id) from (select min(id) as id from sparse"
      .. " group by (ctid::text::point)[0] order by 1) as s"
   db:exec(("create table firsts as select unnest((%s)) as id"):format(first), bench.patience)
   local blocks = tonumber(db:value "select count(*) from firsts")
   for _, share in ipairs(SHARES) do
      local function change()
         db:exec(([[update sparse set active = not active
            where id in (select id from firsts order by id limit %d)]]):format(
            math.floor(share[1] * blocks)), bench.patience)
      end
      change() -- after it the WAL has no images of whole pages
      local took = median(polls_of(bench, 'table = "sparse", max_load = 1, hints = "wal"',
         "read=hint", change), "scan")
      bench.ratio(("  %d %% of the blocks by hints"):format(math.floor(share[1] * 100)), took, n,
         "N", share[2])
   end
end

-- How fast the server reads its WAL for us.
local function wal_speed(bench)
   local db = bench.database
   local function lsn()
      return db:value "select pg_current_wal_flush_lsn() - '0/0'"
   end
   local from = lsn()
   db:exec("update sparse set note = note || '.' where id % 4 = 0", bench.patience)
   local to = lsn()
   local has_blocks = db:value "select to_regproc('pg_get_wal_block_info') is not null" == "t"
   local range = "('0/0'::pg_lsn + %s, '0/0'::pg_lsn + %s"
   local reads = has_blocks and "pg_get_wal_block_info" .. range .. ", false) where relfilenode = 1"
      or "pg_get_wal_records_info" .. range .. ") where position('/5/1 ' in block_ref) > 0"
   local seconds = bench.in_turns { function()
      return bench.psql_seconds(("select count(*) from " .. reads):format(from, to))
   end }[1]
   local speed = (to - from) / 1e6 / seconds
   bench.line("the WAL is read", ("%.0f MB/s"):format(speed), ">= 100 MB/s", speed >= 100)
end

return function(bench)
   local db, rows = bench.database, bench.rows
   local function one_row()
      db:exec "insert into pulse values (1) on conflict (id) do update set id = 1"
   end
   db:exec "create table pulse (id int primary key); create extension if not exists pg_walinspect"
   local any = "max_load = 1, "
   local n = bench.in_turns { function()
      return bench.psql_seconds "select count(*) from t"
   end }[1]
   local scan = median(polls_of(bench, any .. "hints = false", "read=scan", one_row), "scan")
   local shared = median(polls_of(bench, any .. "hints = false, parallel = 1", "read=scan",
      one_row), "scan")
   local hinted = median(polls_of(bench, any .. "hints = 'wal'", "read=hint", scatter(rows)),
      "seconds")
   bench.say("N = %.3f s, a scan %.3f s, with a worker %.3f s, by hints %.4f s", n, scan, shared,
      hinted)
   bench.ratio("a poll that scans", scan, n, "N", 1.25)
   bench.ratio("the same, parallel = 1", shared, n, "N", 0.8)
   bench.ratio("a poll by hints, 100 rows changed", hinted, n, "N", 0.05)
   shares_of_blocks(bench, n)
   wal_speed(bench)
   local polls = polls_of(bench, "max_load = 0.1, hints = false", "read=scan", one_row)
   local took = 0
   for i = 2, #polls do
      took = took + polls[i].scan
   end
   local share = took / ((polls[#polls].at - polls[1].at) % 3600)
   bench.line("scans at max_load = 0.1, share of time", ("%.3f"):format(share), "<= 0.12",
      share <= 0.12)
end
