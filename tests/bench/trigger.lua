-- trigger.lua: what capture = "trigger" costs: a poll, a commit's way to the handler, the writers.
-- SPDX-License-Identifier: MIT
--
-- Called by bench.lua, with its tools.

local files = require "files"
local native = require "native"
local program = require "program"
local scope = require "scope"
local server = require "server"

local samples = 400

-- Installs the triggers of table <name>, or does another action.
local function trigger(bench, action, name, args)
   local all = { action = action, table = name }
   for k, v in pairs(args or {}) do
      all[k] = v
   end
   local result = program.run { bundled = "trigger", dsn = bench.database, args = all,
      state = false, deadline = bench.patience }
   assert(result.status == 0, result.stderr)
end

-- A watcher of table <name> that prints a line for every change.
local function watch(bench, name)
   local p = program.start {
      dsn = bench.database, stdout = "pipe",
      script = ([[
         local t = pgcdc.source {table = "%s", interval = 60, capture = "trigger", start = "now"}
         t:on("change", function(change) io.write(change.key.id, "\n") io.flush() end)
         t:on("ready", function() io.write("ready\n") io.flush() end)
      ]]):format(name),
   }
   p:wait_until(function() return #p:lines() == 1 end, 20, "the start")
   local deadline = native.now() + 20
   local listening = "select count(*) from pg_stat_activity where query ~ '^LISTEN'"
   while bench.database:value(listening) ~= "1" do
      assert(native.now() < deadline, "it does not listen")
      native.sleep(0.05)
   end
   native.sleep(0.5)
   return p
end

-- Seconds from before each of <n> commits of <sql>(i) to the last of its <changes>, sorted.
local function latencies(bench, p, n, changes, sql)
   local list, seen = {}, #p:lines()
   for i = 1, n do
      native.sleep(math.random() * 0.04)
      local start = native.now() -- before the commit, so a little too long
      bench.database:exec(sql(i))
      seen = seen + changes
      while #p:lines() < seen do
         assert(native.now() < start + 20, "a change does not arrive")
         native.poll({ p.proc }, 1)
      end
      list[i] = native.now() - start
      assert(#p:lines() == seen)
   end
   table.sort(list)
   return list
end

-- A transaction of 100 changes, and what all of them takes from before its commit.
local function measure_polls(bench, name, rows)
   local p = watch(bench, name)
   local step = rows // 100
   local function statement(i)
      return ("update %s set amount = %d where id in (select generate_series(%d, %d, %d))"):format(
         name, i, i, 99 * step + i, step)
   end
   local list = latencies(bench, p, 60, 100, statement)
   p:stop()
   -- the statement itself, when nobody waits for it
   local own = {}
   for i = 1, 60 do
      local start = native.now()
      bench.database:exec(statement(1000 + i))
      own[i] = native.now() - start
   end
   table.sort(own)
   return list[30], own[30]
end

local function bench_polls(bench)
   local rows = 5 * bench.rows
   bench.database:exec [[
      create table big (id bigint primary key, name text, amount int, note text);
      create table little (like big including all)]]
   for name, n in pairs { big = rows, little = rows // 100 } do
      bench.database:exec(([[insert into %s select i, 'name ' || i, 0, md5(i::text)
         from generate_series(1, %d) i]]):format(name, n), bench.patience)
      bench.database:exec("vacuum analyze " .. name, bench.patience)
      trigger(bench, "install", name)
   end
   local little, little_own = measure_polls(bench, "little", rows // 100)
   local big, big_own = measure_polls(bench, "big", rows)
   bench.say("100 changes, from before their commit to the handler: %.1f ms of %d rows, %.1f ms of "
      .. "%d rows; their own statements: %.1f ms, %.1f ms", little * 1000, rows // 100, big * 1000,
      rows, little_own * 1000, big_own * 1000)
   bench.line(("a poll by triggers, 100 changes in %d rows"):format(rows),
      ("%.1f ms"):format((big - big_own) * 1000), "<= 10 ms", big - big_own <= 0.010)
   bench.database:exec "drop table big"
end

local function bench_latency(bench)
   local p = watch(bench, "little")
   local list = latencies(bench, p, samples, 1, function(i)
      return ("update little set amount = %d where id = %d"):format(i, i)
   end)
   p:stop()
   for _, limit in ipairs { { 50, 0.005 }, { 99, 0.025 } } do
      local took = list[math.ceil(samples * limit[1] / 100)]
      bench.line(("commit to handler by NOTIFY, p%d"):format(limit[1]),
         ("%.1f ms"):format(took * 1000), ("<= %.0f ms"):format(limit[2] * 1000), took <= limit[2])
   end
end

-- Transactions a second of two sessions.
local function pgbench(bench, script)
   local path = scope.dir "pgbench" .. "/script.sql"
   files.write(path, script)
   local text = server.run({ server.bin "pgbench", "-n", "-c", "2", "-T", "4", "-f", path,
      bench.database:dsn() }, { user = false })
   return assert(tonumber(text:match "tps = ([%d.]+)"), text)
end

local scripts = {
   { "inserts", "insert into written (note) values ('x');" },
   { "updates", "\\set id random(1, 100000)\n"
      .. "update written set amount = amount + 1 where id = :id;" },
}

local function bench_writers(bench)
   local ways = {
      { "no triggers" }, { "triggers", { notify = "no" } },
      { "triggers and NOTIFY", { notify = "yes" } },
   }
   for _, what in ipairs(scripts) do
      local tps = {}
      for _, way in ipairs(ways) do
         bench.database:exec [[
            create table written (id bigint generated always as identity primary key, note text,
               amount int default 0);
            insert into written (note) select 'x' from generate_series(1, 100000);
            analyze written]]
         if way[2] then
            trigger(bench, "install", "written", way[2])
         end
         tps[#tps + 1] = pgbench(bench, what[2])
         if way[2] then
            trigger(bench, "remove", "written")
         end
         bench.database:exec "drop table written"
      end
      bench.say("single-row %s, transactions a second to those without triggers: %.2f, with NOTIFY "
         .. "%.2f (%.0f, %.0f, %.0f)", what[1], tps[2] / tps[1], tps[3] / tps[1], tps[1], tps[2],
         tps[3])
   end
end

return function(bench)
   bench_polls(bench)
   bench_latency(bench)
   bench_writers(bench)
end
