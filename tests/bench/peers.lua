-- peers.lua: Debezium and this program beside each other, in one run; `make bench-peers`.
-- SPDX-License-Identifier: MIT
--
--    lua5.4 tests/bench/peers.lua [ROWS]
--
-- Each contender delivers the same table and the same changes, into a file and into a real Kafka
-- ($ONLY: one of both; $CONTENDER: those with this in their name), in turns, $ROUNDS times (default
-- 3); medians count. An observer that is none of them (peers/observer.c) sees when a change is
-- there. First each reads the table (of the ROWS, by default a million, those of the second half
-- count: a JVM is warm then). From then on all of them are there, and sleep (SIGSTOP) while it is
-- not their turn. They get a tenth of the changes to warm up. Then 0.4 ROWS changes, each a
-- transaction, are written while all sleep, and one after the other catches up. Then changes come
-- at a steady rate ($RATE a second, default 2000), and one at a time is awake: the time from the
-- statement that commits to the arrival is taken.

local here = arg[0]:match "^(.*)/[^/]*$" or "."
package.path = here .. "/../support/?.lua;" .. here .. "/peers/?.lua;" .. package.path
package.cpath = here .. "/../../build/tests/?.so;" .. package.cpath

local cluster = require "cluster"
local contenders = require "contenders"
local files = require "files"
local kafka = require "kafka"
local native = require "native"
local observer = require "observer"
local pgbench = require "pgbench"
local scope = require "scope"
local wait = require "wait"

local rows = assert(math.tointeger(tonumber(arg[1] or "1000000")), "usage: peers.lua [ROWS]")
local rounds = math.tointeger(tonumber(os.getenv "ROUNDS" or "3"))
local rate = math.tointeger(tonumber(os.getenv "RATE" or "2000"))
local only = os.getenv "ONLY" or ""
local contender = os.getenv "CONTENDER" or ""
local changes = rows * 4 // 10
local steady_seconds = 6
assert(rows >= rate * steady_seconds * 10, "ROWS is too small for this RATE")
local patience = 60 + rows / 1000 -- seconds for anything that handles all rows
local database

local function say(text, ...)
   io.write(text:format(...), "\n")
   io.flush()
end

local function median(list)
   local sorted = table.move(list, 1, #list, 1, {})
   table.sort(sorted)
   local n = #sorted
   return n % 2 == 1 and sorted[n // 2 + 1] or (sorted[n // 2] + sorted[n // 2 + 1]) / 2
end

-- ---- what is written ----

-- The ids: deletes take them from the lowest on, updates those of the upper half in turns, inserts
-- go on above; so no row is changed twice before everybody has seen it, where there are enough.
local function make_table()
   database:exec [[
      create table t (id bigint primary key, name text not null, price numeric(12,2) not null,
                      at timestamptz not null, details jsonb, stock int not null,
                      active bool not null);
      create publication peers for table t;
      create sequence deleted; create sequence updated minvalue 0; create sequence inserted]]
   database:exec(([[
      insert into t select i, 'the name of ' || i, (i %% 1000000) / 100.0,
                           timestamptz '2026-01-01' + i * interval '1 millisecond',
                           jsonb_build_object('sku', 'A-' || i, 'tags', array['new', 'red'],
                                              'size', i %% 7),
                           i %% 1000, i %% 3 = 0
      from generate_series(1, %d) i]]):format(rows), patience)
   database:exec(([[
      select setval('inserted', %d);
      create procedure write(count bigint) language plpgsql as $$
         declare
            k bigint;
         begin
            for i in 1 .. count loop
               case i %% 5 when 0 then
                  k := nextval('deleted');
                  delete from t where id = k;
               when 1 then
                  insert into t values (nextval('inserted'), 'a new name', i %% 1000,
                     clock_timestamp(), '{"sku": "B-1", "tags": ["new", "red"], "size": 3}',
                     i %% 1000, true);
               else
                  k := %d + nextval('updated') %% %d;
                  update t set stock = stock + 1, at = clock_timestamp() where id = k;
               end case;
               commit;
            end loop;
         end $$]]):format(rows, rows // 2 + 1, rows // 2), patience)
   database:exec("vacuum analyze t", patience)
   database:exec("checkpoint", patience)
end

-- Writes so many changes, a transaction each, by two sessions at a time.
local function write(count)
   local sessions = {}
   for i = 1, 2 do
      sessions[i] = pgbench.start_script(database, ("call write(%d);"):format(count // 2),
         "-t", "1")
   end
   for _, session in ipairs(sessions) do
      pgbench.finish(session, patience)
   end
   return count // 2 * 2
end

-- Starts writers of updates and inserts at the steady rate; returns their process, and how many
-- changes they will have written.
local function write_steadily()
   local each = rate * steady_seconds // 4
   local path = scope.dir "steady"
   files.write(path .. "/update", ([[
      update t set stock = stock + 1, at = clock_timestamp()
      where id = %d + (select nextval('updated')) %% %d;]]):format(rows // 2 + 1, rows // 2))
   files.write(path .. "/insert", [[
      insert into t values (nextval('inserted'), 'a new name', 12.5, clock_timestamp(),
         '{"sku": "B-1", "tags": ["new", "red"], "size": 3}', 7, true);]])
   return pgbench.start(database, "-n", "-c", "4", "-R", tostring(rate), "-t", tostring(each), "-M",
      "prepared", "-f", path .. "/update@4", "-f", path .. "/insert@1"), each * 4
end

-- ---- what is measured ----

-- CPU seconds of each of the server's processes, by id.
local function server_cpu()
   local all = {}
   for _, pid in ipairs(native.children(database.cluster:postmaster_pid())) do
      all[pid] = native.proc_cpu(pid)
   end
   return all
end

-- What those took since then that are there still.
local function server_cpu_since(before)
   local sum = 0
   for pid, seconds in pairs(server_cpu()) do
      sum = sum + seconds - (before[pid] or 0)
   end
   return sum
end

-- Where a contender's changes go this time, and its observer.
local function open_place(c, kind, broker)
   local place = { kind = kind }
   if kind == "file" then
      place.path = scope.dir "place" .. "/changes.jsonl"
      files.write(place.path, "")
   else
      c.serial = (c.serial or 0) + 1
      place.brokers = broker.brokers
      place.topic = ("%s.%d"):format(c.name:gsub("%W", "_"), c.serial)
   end
   c.place = place
   local function check(in_time)
      if not in_time or c.proc and not c.proc:alive() then
         error(("%d of %d changes come by %s\n%s"):format(c.observer:so_far(), c.observer.count,
            c.name, c.proc:describe()), 0)
      end
   end
   if kind == "file" then
      c.observer = observer.new(check, "file", place.path)
   else
      c.observer = observer.new(check, "kafka", place.brokers, place.topic)
   end
end

-- Lets a contender be awake while `body` runs; returns what came, with the CPU seconds of the
-- contender and of the server since before.
local function awake(c, count, late, body)
   c.observer:expect(count, late)
   local own, server = native.proc_cpu(c.proc:pid()), server_cpu()
   c.proc:signal "CONT"
   if body then
      body()
   end
   local result = c.observer:result(patience)
   result.own = native.proc_cpu(c.proc:pid()) - own
   result.server = server_cpu_since(server)
   c.proc:signal "STOP"
   return result
end

local function note(c, name, value)
   c.figures[name] = c.figures[name] or {}
   table.insert(c.figures[name], value)
end

local function end_of(c)
   c.proc:kill9()
   c.observer:close()
   c.proc = nil
   if c.place.path then
      os.remove(c.place.path)
   end
   c.forget()
end

local function snapshots(all, kind, broker)
   local there = math.tointeger(tonumber(database:value "select count(*) from t"))
   for round = 1, rounds do
      for _, c in ipairs(all) do
         if c.proc then
            end_of(c)
         end
         open_place(c, kind, broker)
         c.observer:expect(there)
         c.proc = c.start(c.place)
         local result = c.observer:result(patience)
         c.await()
         c.proc:signal "STOP"
         note(c, "start", result.first)
         note(c, "snapshot", result.second_half)
         note(c, "snapshot cpu", native.proc_cpu(c.proc:pid()) / there * 1e6)
         say("%s, %d: snapshot by %s: %.1f s, first after %.1f s, %.0f rows/s", kind, round, c.name,
            result.last, result.first, result.second_half)
      end
   end
end

local function catch_up(all, kind)
   for round = 0, rounds do
      local count = write(round == 0 and changes // 10 or changes)
      for _, c in ipairs(all) do
         local result = awake(c, count)
         if round > 0 then
            note(c, "changes", count / result.last)
            note(c, "cpu", result.own / count * 1e6)
            note(c, "server", result.server / count * 1e6)
            note(c, "bytes", result.bytes)
         end
         say("%s, %d: %d changes by %s: %.2f s, CPU %.2f s, server %.2f s", kind, round, count,
            c.name, result.last, result.own, result.server)
      end
   end
end

local function steady(all, kind)
   local missed = {} -- by contender: changes that were written while it slept
   for round = 1, rounds do
      for i, c in ipairs(all) do
         if (missed[i] or 0) > 0 then
            awake(c, missed[i])
            missed[i] = 0
         end
         local writers, count
         local result = awake(c, rate * steady_seconds // 4 * 4, true, function()
            writers, count = write_steadily()
         end)
         pgbench.finish(writers, patience)
         for k in ipairs(all) do
            missed[k] = (missed[k] or 0) + (k == i and 0 or count)
         end
         note(c, "p50", result.p50)
         note(c, "p99", result.p99)
         note(c, "longest", result.longest)
         note(c, "steady cpu", result.own / count * 1e6)
         say("%s, %d: steady by %s: p50 %.1f ms, p99 %.1f ms, longest %.0f ms", kind, round, c.name,
            result.p50, result.p99, result.longest)
      end
   end
end

-- ---- the table ----

local lines = {
   { "snapshot", "reading the table, rows/s", "%.0f", more = true },
   { "snapshot cpu", "CPU, µs a row", "%.1f" },
   { "start", "start to the first row, s", "%.1f" },
   { "changes", "catching up, changes/s", "%.0f", more = true },
   { "cpu", "CPU, µs a change", "%.1f" },
   { "server", "CPU of the server, µs a change", "%.1f" },
   { "p50", "commit to delivery, p50, ms", "%.1f" },
   { "p99", "commit to delivery, p99, ms", "%.1f" },
   { "steady cpu", "CPU meanwhile, µs a change", "%.0f" },
   { "memory", "peak memory, MB", "%.0f" },
   { "bytes", "bytes a change", "%.0f" },
}

-- "12,345" of "12345".
local function grouped(text)
   local n
   repeat
      text, n = text:gsub("^(%d+)(%d%d%d)", "%1,%2")
   until n == 0
   return text
end

-- The better figure of the peers, or nil.
local function best_of_peers(all, line)
   local best
   for _, c in ipairs(all) do
      local value = c.is_peer and median(c.figures[line[1]])
      if value then
         best = best and (line.more and math.max or math.min)(best, value) or value
      end
   end
   return best
end

-- Markdown; ours also as a multiple of the better one of the peers.
local function report(all, kind)
   local words = { "into " .. (kind == "file" and "a file" or "Kafka") }
   for _, c in ipairs(all) do
      words[#words + 1] = c.name
   end
   say("\n| %s |\n|%s", table.concat(words, " | "), ("---|"):rep(#words))
   for _, line in ipairs(lines) do
      local best = best_of_peers(all, line)
      words = { line[2] }
      for _, c in ipairs(all) do
         local value = median(c.figures[line[1]])
         local text = grouped(line[3]:format(value))
         if best and not c.is_peer then
            local ratio = value / best
            text = text .. (ratio < 0.995 and " (%.2f x)" or " (%.1f x)"):format(ratio)
         end
         words[#words + 1] = text
      end
      say("| %s |", table.concat(words, " | "))
   end
   say ""
end

local function measure(kind, broker)
   scope.open()
   local all = contenders.all(database, kind, contender)
   for _, c in ipairs(all) do
      c.figures = {}
   end
   snapshots(all, kind, broker)
   catch_up(all, kind)
   steady(all, kind)
   for _, c in ipairs(all) do
      note(c, "memory", native.proc_rss(c.proc:pid()) / 1024)
   end
   report(all, kind)
   for _, c in ipairs(all) do
      end_of(c)
   end
   assert(not scope.close())
end

local function main()
   scope.begin_run()
   local start = native.now()
   local server = cluster.new { name = "peers", tcp = true, keep = true, conf = {
      wal_level = "logical", shared_buffers = "1GB", max_wal_size = "16GB",
      checkpoint_timeout = "1h", wal_sender_timeout = "0", max_replication_slots = "20",
   } }
   database = server:database { name = "peers", keep = true }
   make_table()
   say("%d rows, %s, Postgres %s, %d CPUs", rows,
      database:value "select pg_size_pretty(pg_table_size('t'))",
      database:value "show server_version", native.cpu_count())
   for _, kind in ipairs { "file", "kafka" } do
      if only == "" or only == kind then
         measure(kind, kind == "kafka" and kafka.new())
      end
   end
   say("%.0f s", native.now() - start)
   local problem = scope.end_run()
   assert(not problem, problem)
end

wait.scaled(1)
main()
