-- census.lua: what deletes = true costs: the snapshot, the state file, looking for what is gone.
-- SPDX-License-Identifier: MIT
--
-- Called by bench.lua, with its tools and yardsticks.

local child = require "child"
local files = require "files"
local native = require "native"
local program = require "program"
local scope = require "scope"
local server = require "server"

local runs = math.tointeger(tonumber(os.getenv "RUNS" or "3"))
local database, patience, rows, say, report

local function line(what, measured, unit, limit)
   report(what, ("%.2f %s"):format(measured, unit), ("<= %g %s"):format(limit, unit),
      measured <= limit)
end

-- Measures each of the list <runs> times, in turns, since a busy machine is not always so. Returns
-- the median of each.
local function medians(list)
   local seconds, result = {}, {}
   for round = 1, runs do
      for i, measure in ipairs(list) do
         seconds[i] = seconds[i] or {}
         seconds[i][round] = measure()
      end
   end
   for i, of_one in ipairs(seconds) do
      table.sort(of_one)
      result[i] = of_one[(runs + 1) // 2]
   end
   return table.unpack(result)
end

local function psql(sql)
   return child.seconds({
      argv = { server.bin "psql", "-X", "-q", "-d", database:dsn(), "-c", sql },
      env = { PGOPTIONS = "-c max_parallel_workers_per_gather=0" },
   }, patience)
end

local function run(name, state)
   local result = program.run {
      script = ([[
         pgcdc.source {table = %q, deletes = true}:on("batch", function(b) print(b.count) end)]])
         :format(name),
      dsn = database, state = state, deadline = patience, options = { "--once" },
   }
   assert(result.status == 0, result.stderr)
   local sum = 0
   for _, text in ipairs(result.lines) do
      sum = sum + tonumber(text)
   end
   return result, sum
end

-- <snapshots>, <checks>: what they may take, in C and in N.
local function measure(name, key, snapshots, checks)
   database:exec(([[
      create table %s (id %s primary key, name text, email text, amount numeric(12,2),
                       created timestamptz, active bool, note text)]]):format(name,
      key == "i" and "bigint" or "uuid"))
   database:exec(([[
      insert into %s select %s, 'name ' || i, 'user' || i || '@example.com', (i %% 1000000) / 100.0,
                           timestamptz '2020-01-01' + i * interval '1 second', i %% 3 = 0,
                           md5(i::text)
      from generate_series(1, %d) i]]):format(name, key, rows), patience)
   database:exec("vacuum analyze " .. name, patience)
   database:exec("checkpoint", patience)
   local function copy()
      return psql("copy (select xmin, * from " .. name .. ") to stdout")
   end
   local function count()
      return psql("select count(*) from " .. name)
   end
   local state, peak
   local c, snapshot = medians { copy, function()
      state = scope.dir "state" .. "/state.db"
      local result, sum = run(name, state)
      assert(sum == rows, sum)
      peak = result.maxrss_kb / 1024
      return result.seconds
   end }
   say("%s: C = %.3f s, snapshot %.3f s", key, c, snapshot)
   line("snapshot with deletes, " .. key, snapshot / c, "C", snapshots)
   line("  peak memory", peak, "MB", 80)
   if key == "i" then
      line("  state file, a row", files.size(state) / rows, "bytes", 80)
   else
      say("  state file, a row: %.1f bytes", files.size(state) / rows)
   end
   local n, check = medians { count, function()
      database:exec(([[delete from %s where id in
         (select id from %s tablesample system (0.2) limit 10)]]):format(name, name), patience)
      local result, sum = run(name, state)
      assert(sum == 10, sum)
      peak = result.maxrss_kb / 1024
      return result.seconds
   end }
   say("  N = %.3f s", n)
   line("  a check that finds 10 rows gone, with the start", check / n, "N", checks)
   line("  peak memory", peak, "MB", 80)
   local watcher = program.start {
      script = ([[
         local t = pgcdc.source {table = %q, deletes = true, interval = 0.01, max_load = 1}
         t:on("batch", function(b) print(b.count) end)]]):format(name),
      dsn = database, state = state, options = { "--log-level", "warn" },
   }
   native.sleep(rows / 200000) -- it reads what it knows, and makes its first check
   local seen = 0
   local running
   n, running = medians { count, function()
      native.sleep(1)
      database:exec(([[delete from %s where id in
         (select id from %s tablesample system (0.2) limit 10)]]):format(name, name), patience)
      local start = native.now()
      watcher:wait_until(function() return #watcher:lines() > seen end, patience, "the deletes")
      seen = seen + 1
      return native.now() - start
   end }
   watcher:stop()
   line("  the same in a program that runs", running / n, "N", checks)
   say("  bytes of a tally: %s", database:value(([[
      select sum(length(b::text) + length(c::text) + length(x::text) + 5 + 5) from (
         select h >> 56 b, count(*) c, bit_xor(h) x from (
            select %s h from %s offset 0) s group by 1) s]]):format(
               key == "i" and "hashint8extended(id, 0)" or "uuid_hash_extended(id, 0)", name)))
end

return function(bench)
   database, patience, rows = bench.database, bench.patience, bench.rows
   say, report = bench.say, bench.line
   measure("by_bigint", "i", 2.0, 3.5)
   measure("by_uuid", "md5(i::text)::uuid", 6, 6)
end
