-- bench.lua: speed and memory against what was promised, as ratios of one run; `make bench`.
-- SPDX-License-Identifier: MIT
--
--    lua5.4 tests/bench/bench.lua [ROWS]
--
-- The yardsticks are psql's, on the same table, warm, in the same minutes: C reads all rows with
-- their xmin, N counts them. Ours are whole runs of the program, from start to exit. What is
-- compared takes turns; of each the median of $RUNS runs (default 7) counts. $ONLY: just some
-- of the parts, such as "snapshot latency". Exit status 1: a promise is not kept.

local here = arg[0]:match "^(.*)/[^/]*$" or "."
package.path = here .. "/../support/?.lua;" .. here .. "/?.lua;" .. package.path
package.cpath = here .. "/../../build/tests/?.so;" .. package.cpath

local armed = require "armed"
local census = require "census"
local child = require "child"
local cluster = require "cluster"
local http = require "http"
local increment = require "increment"
local json = require "json"
local group_speed = require "group_speed"
local kafka_speed = require "kafka_speed"
local listen = require "listen"
local logical = require "logical"
local many = require "many"
local mirror = require "mirror"
local native = require "native"
local nats_sink = require "nats_sink"
local polls = require "polls"
local program = require "program"
local redis_sink = require "redis_sink"
local scale = require "scale"
local scope = require "scope"
local server = require "server"
local state_home = require "state_home"
local trigger = require "trigger"

local rows = assert(math.tointeger(tonumber(arg[1] or "2000000")), "usage: bench.lua [ROWS]")
local runs = math.tointeger(tonumber(os.getenv "RUNS" or "7"))
local only = os.getenv "ONLY" or ""
local patience = 120 + rows / 10000 -- seconds for anything that handles all rows
local database
local missed = 0
local peak_kb = 0 -- of all runs of the program that saw all rows

local two_columns = [[
   local rows, ids, longest = 0, 0, 0
   local t = pgcdc.source {table = "t"}
   t:on("change", function(change)
      local row = change.row
      rows = rows + 1
      ids = ids + row.id
      longest = math.max(longest, #row.name)
   end)
   t:on("ready", function() print(rows, ids, longest) end)
]]

local seven_columns = [[
   local rows, sum = 0, 0
   local t = pgcdc.source {table = "t"}
   t:on("change", function(change)
      local row = change.row
      rows = rows + 1
      sum = sum + row.id + #row.name + #row.email + #row.amount + #row.created + #row.note
         + (row.active and 1 or 0)
   end)
   t:on("ready", function() print(rows, sum) end)
]]

local count_changes = [[
   pgcdc.source {table = "t"}:on("batch", function(batch) print(batch.count) end)
]]

-- About a tenth of what the reader could bring.
local slow_handler = [[
   local t = pgcdc.source {table = "t"}
   t:on("change", function() for _ = 1, 1500 do end end)
   t:on("batch", function(batch) print(batch.count) end)
]]

local function median(list)
   table.sort(list)
   local n = #list
   return n % 2 == 1 and list[n // 2 + 1] or (list[n // 2] + list[n // 2 + 1]) / 2
end

local function say(text, ...)
   io.write(text:format(...), "\n")
   io.flush()
end

local function line(what, measured, limit, is_met)
   say("%-50s %-18s %-16s %s", what, measured, limit, is_met and "met" or "MISSED")
   missed = missed + (is_met and 0 or 1)
end

-- The program itself where there is one beside the server: what Debian has in the path is a script
-- that takes as long as a small query.
local psql_path = os.execute(("test -x '%s'"):format(server.bin "psql")) and server.bin "psql"
   or "psql"

-- Seconds that psql takes for a statement.
local function psql(sql)
   return child.seconds({
      argv = { psql_path, "-X", "-q", "-d", database:dsn(), "-c", sql },
      env = { PGOPTIONS = "-c max_parallel_workers_per_gather=0" },
   }, patience)
end

-- A run of the program to its end; returns its result.
local function run(options)
   options.dsn = database
   options.deadline = patience
   options.options = { "--once", "--log-level", "warn" }
   local result = program.run(options)
   assert(result.status == 0, result.stderr)
   -- The kernel's word for the largest size; never below the size of this process at the start,
   -- which is a few megabytes.
   peak_kb = math.max(peak_kb, result.maxrss_kb)
   return result
end

local function total(result)
   local sum = 0
   for _, text in ipairs(result.lines) do
      sum = sum + math.tointeger(tonumber(text))
   end
   return sum
end

local function make_table()
   database:exec [[
      create table t (id bigint primary key, name text, email text, amount numeric(12,2),
                      created timestamptz, active bool, note text)]]
   database:exec(([[
      insert into t select i, 'name ' || i, 'user' || i || '@example.com', (i %% 1000000) / 100.0,
                           timestamptz '2020-01-01' + i * interval '1 second', i %% 3 = 0,
                           md5(i::text)
      from generate_series(1, %d) i]]):format(rows), patience)
   database:exec("analyze t", patience)
   database:exec("select count(*) from t", patience) -- sets the hint bits
   database:exec("checkpoint", patience)
   say("%d rows, %s, Postgres %s, %d CPUs", rows,
      database:value "select pg_size_pretty(pg_table_size('t'))",
      database:value "show server_version", native.cpu_count())
end

local yard_c = "copy (select xmin, * from t) to stdout"
local yard_n = "select count(*) from t"

-- Calls each function of the list <runs> times, in turns; returns the median of what each returned,
-- and all that the first one returned.
local function in_turns(list)
   local seconds = {}
   for round = 0, runs do
      for i, measure in ipairs(list) do
         seconds[i] = seconds[i] or {}
         seconds[i][round] = measure() -- round 0 warms up: median() does not see it
      end
   end
   local medians = {}
   for i in ipairs(list) do
      medians[i] = median(seconds[i])
   end
   return medians, seconds[1]
end

local function ratio(what, ours, yard, unit, limit)
   line(what, ("%.2f %s"):format(ours / yard, unit), ("<= %.2f %s"):format(limit, unit),
      ours / yard <= limit)
end

-- The same of a speed, or of a ratio that is to be large.
local function at_least(what, measured, limit)
   line(what, ("%.2f x"):format(measured), (">= %.2f x"):format(limit), measured >= limit)
end

-- What a sink may take, whatever the target.
local function memory(kind, kb)
   line(("%s, peak memory"):format(kind), ("%.1f MB"):format(kb / 1024), "<= 40 MB",
      kb <= 40 * 1024)
end

-- Seconds that the first so many rows take into a file.
local function into_file(count)
   return run({ script = ([[pgcdc.source {table = "t", where = "id <= %d"}:sink(
      pgcdc.sinks.jsonl {path = %q})]]):format(count, scope.dir "file" .. "/t.jsonl") }).seconds
end

local function bench_snapshots()
   local m, all = in_turns {
      function() return psql(yard_c) end,
      function()
         local result = run { script = two_columns }
         assert(result.stdout:match "^%d+" == tostring(rows), result.stdout)
         return result.seconds
      end,
      function()
         return run({ script = seven_columns }).seconds
      end,
      function()
         return run({ script = (two_columns:gsub('table = "t"', "%0, readers = 2")) }).seconds
      end,
      function()
         return run({ bundled = "jsonl", args = { "table=t" }, stdout = "null" }).seconds
      end,
   }
   say("C = %.3f s (%.3f to %.3f), two columns %.3f s, by two readers %.3f s, seven %.3f s,"
      .. " jsonl %.3f s", m[1], all[1], all[#all], m[2], m[4], m[3], m[5])
   ratio("snapshot, a handler reads two columns", m[2], m[1], "C", 1.25)
   ratio("the same, readers = 2", m[4], m[1], "C", 1.25)
   ratio("snapshot, a handler reads seven columns", m[3], m[1], "C", 1.75)
   ratio("snapshot through jsonl to /dev/null", m[5], m[1], "C", 1.5)
end

local function bench_once()
   local state = scope.dir "once" .. "/state.db"
   run { script = count_changes, state = state }
   local step, offset = rows // 100, 0
   local m, all = in_turns {
      function() return psql(yard_n) end,
      function()
         offset = offset + 1
         database:exec(("update t set amount = 1 where id in (select generate_series(%d, %d, %d))")
            :format(offset, 99 * step + offset, step))
         local result = run { script = count_changes, state = state }
         assert(total(result) == 100, result.stdout)
         return result.seconds
      end,
   }
   say("N = %.3f s (%.3f to %.3f), ours %.3f s", m[1], all[1], all[#all], m[2])
   ratio("--once with a position, 100 rows changed", m[2], m[1], "N", 1.5)
end

-- CPU seconds that the program and its server process take in <seconds>, with nothing to do.
local function bench_idle()
   local seconds = 20
   local state = scope.dir "idle" .. "/state.db"
   local watcher = program.start {
      dsn = database, state = state,
      script = [[
         local t = pgcdc.source {table = "t", interval = 0.1, start = "now"}
         t:on("ready", function() print "ready" end)
      ]],
   }
   watcher:wait_until(function() return #watcher:lines() > 0 end, patience, "the start")
   native.sleep(1) -- the poll after the start scans
   local backend = math.tointeger(tonumber(database:value [[
      select pid from pg_stat_activity
      where backend_type = 'client backend' and pid <> pg_backend_pid()
        and datname = current_database()]]))
   local ours, theirs = watcher:cpu(), native.proc_cpu(backend)
   native.sleep(seconds)
   ours = watcher:cpu() - ours
   theirs = native.proc_cpu(backend) - theirs
   assert(watcher:stop().status == 0)
   line(("idle for %d s at interval = 0.1"):format(seconds),
      ("%.2f + %.2f s CPU"):format(ours, theirs), "<= 0.20 s", ours + theirs <= 0.2)
end

local function bench_latency()
   local samples = 400
   database:exec "create table small (id bigint primary key, note text)"
   local watcher = program.start {
      dsn = database, stdout = "pipe",
      script = [[
         local t = pgcdc.source {table = "small", interval = 0.02}
         t:on("change", function(change) io.write(change.key.id, "\n") io.flush() end)
         t:on("ready", function() io.write("ready\n") io.flush() end)
      ]],
   }
   watcher:wait_until(function() return #watcher:lines() == 1 end, 20, "the start")
   local latencies = {}
   for i = 1, samples do
      native.sleep(math.random() * 0.04)
      local start = native.now() -- before the commit, so a little too long
      database:exec(("insert into small values (%d, 'x')"):format(i))
      while #watcher:lines() <= i do
         assert(native.now() < start + 20, "a change does not arrive")
         native.poll({ watcher.proc }, 1)
      end
      latencies[i] = native.now() - start
      assert(watcher:lines()[i + 1] == tostring(i))
   end
   watcher:stop()
   table.sort(latencies)
   for _, p in ipairs { { 50, 0.030 }, { 99, 0.100 } } do
      local took = latencies[math.ceil(samples * p[1] / 100)]
      line(("commit to handler, interval = 0.02, p%d"):format(p[1]),
         ("%.1f ms"):format(took * 1000), ("<= %.0f ms"):format(p[2] * 1000), took <= p[2])
   end
end

-- Every row is new at one poll, and the handler is slow: what the queue cannot hold is spooled.
local function bench_memory()
   local state = scope.dir "memory" .. "/state.db"
   run { script = count_changes, state = state }
   database:exec("update t set active = not active", patience)
   local result = run { script = slow_handler, state = state }
   assert(total(result) == rows, result.stdout)
   line(("peak memory, all %d rows, slow and fast handlers"):format(rows),
      ("%.1f MB"):format(peak_kb / 1024), "<= 40 MB", peak_kb <= 40 * 1024)
end

-- What five stages cost, as a ratio to the same five as plain nested calls.
local function bench_stages()
   local result = program.run { file = here .. "/stages.lua", state = false, deadline = 600 }
   assert(result.status == 0, result.stderr)
   local got = json.decode(result.lines[1])
   line("five stages to nested calls, 1M values", ("%.2f (%.2f s)"):format(got.ratio, got.stages),
      "<= 2.50", got.ratio <= 2.5)
end

local function main()
   scope.begin_run()
   local cache_mb = math.max(128, math.min(4096, rows * 400 // 1000000))
   local bench = cluster.new { name = "bench", conf = {
      shared_buffers = cache_mb .. "MB", max_wal_size = "8GB", checkpoint_timeout = "1h",
   } }
   database = bench:database { name = "bench", keep = true }
   make_table()
   for _, part in ipairs {
      { "snapshot", bench_snapshots }, { "once", bench_once }, { "idle", bench_idle },
      { "polls", function()
         polls { database = database, rows = rows, psql_seconds = psql, in_turns = in_turns,
                 line = line, ratio = ratio, say = say, patience = patience }
      end },
      { "armed", function()
         armed { database = database, line = line, say = say, patience = patience }
      end },
      { "latency", bench_latency }, { "memory", bench_memory }, { "stages", bench_stages },
      { "mirror", function()
         mirror { database = database, cluster = bench, rows = rows, psql = psql_path, run = run,
                  in_turns = in_turns, line = line, say = say, patience = patience }
      end },
      { "kafka", function()
         kafka_speed { database = database, rows = rows, run = run, in_turns = in_turns,
                       line = line, say = say, patience = patience }
      end },
      { "workers", function()
         group_speed { line = line, say = say }
      end },
      { "http", function()
         http { rows = rows, run = run, in_turns = in_turns, line = line, say = say,
                ratio = at_least, memory = memory, into_file = into_file, patience = patience }
      end },
      { "redis", function()
         redis_sink { rows = rows, run = run, in_turns = in_turns, say = say, ratio = at_least,
                      memory = memory, into_file = into_file, patience = patience }
      end },
      { "deletes", function()
         census { database = database, rows = rows, line = line, say = say, patience = patience }
      end },
      { "increment", function()
         increment { database = database, rows = rows, line = line, say = say, patience = patience }
      end },
      { "trigger", function()
         trigger { database = database, rows = rows, line = line, say = say, patience = patience }
      end },
      { "logical", function()
         logical { rows = rows, in_turns = in_turns, line = line, say = say, median = median,
                   patience = patience }
      end },
      { "listen", function()
         listen { database = database, rows = rows, script = two_columns, in_turns = in_turns,
                  line = line, say = say, patience = patience }
      end },
      { "many", function()
         many { cluster = bench, line = line, say = say, patience = patience }
      end },
      { "state", function()
         state_home { in_turns = in_turns, ratio = ratio, say = say, patience = patience }
      end },
      { "scale", function()
         scale { line = line, say = say, patience = patience }
      end },
      { "nats", function()
         nats_sink { rows = rows, run = run, in_turns = in_turns, line = line, say = say,
                     memory = memory, into_file = into_file }
      end },
   } do
      if only == "" or only:find(part[1], 1, true) then
         part[2]()
      end
   end
   local problem = scope.end_run()
   assert(not problem, problem)
   say("%s", missed == 0 and "all met" or missed .. " missed")
   return missed == 0
end

os.exit(main(), true)
