-- load_test.lua: much work for one program: memory, descriptors and threads stay what they are.
-- SPDX-License-Identifier: MIT
--
-- The short form is part of every run. `make soak SECONDS= SOAK_ROWS=` is the long one: pgbench for
-- $PGCDC_SOAK_SECONDS (default 6), one transaction of $PGCDC_SOAK_ROWS / 4 rows (default 100,000),
-- a table of $PGCDC_SOAK_ROWS rows (default: left out).

local cluster = require "cluster"
local files = require "files"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local pgbench = require "pgbench"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local TestLoad = {}

local seconds = tonumber(os.getenv "PGCDC_SOAK_SECONDS" or "") or 6
local rows = math.tointeger(tonumber(os.getenv "PGCDC_SOAK_ROWS" or ""))
local patience = 60 + (rows or 0) / 20000

local function count(path)
   return #(native.listdir(path) or {})
end

-- What the program holds now.
local function sample(p)
   local _, now_kb = p:rss()
   local proc = "/proc/" .. p:pid()
   return { kb = now_kb, fds = count(proc .. "/fd"), threads = count(proc .. "/task") }
end

local function extreme(samples, from, to, field, better)
   local best = samples[from][field]
   for i = from, to do
      best = better(best, samples[i][field])
   end
   return best
end

-- Nothing grows over the last half: of memory the peak of the last quarter is at most a tenth and
-- 8 MB above that of the one before. (Batches and a spool come and go; what leaks, stays.)
local function assert_flat(samples)
   local n = #samples
   lu.assertTrue(n >= 8, "hardly anything was measured")
   local half, late = n // 2, n // 4 * 3
   local before = extreme(samples, half, late - 1, "kb", math.max)
   local last = extreme(samples, late, n, "kb", math.max)
   lu.assertEquals(extreme(samples, late, n, "fds", math.min),
      extreme(samples, half, late - 1, "fds", math.min), "descriptors")
   lu.assertEquals(extreme(samples, half, n, "threads", math.min),
      extreme(samples, half, n, "threads", math.max), "threads")
   lu.assertTrue(last <= before * 1.1 + 8192, ("memory grows: %d kB, then %d kB"):format(before,
      last))
   return before, last
end

-- Each change is there once, and the last one of each key is what the table holds.
local function assert_file(path, db, tables)
   local seen, last, n = {}, {}, 0
   for line in io.lines(path) do
      local id = line:match '"id":"([^"]*)"}$'
      lu.assertNil(seen[id], id)
      seen[id], n = true, n + 1
      last[id:gsub("/%d+/", "/")] = line
   end
   for name, key in pairs(tables) do
      for _, row in ipairs(db:exec(("select %s, row_to_json(t) from %s t"):format(key, name))) do
         local line = last[("public.%s/%s"):format(name, row[1])]
         if line:match '"row":({.*}),"xid"' ~= row[2] then -- the same text, as a rule: quicker
            lu.assertEquals(json.decode(line).row, json.decode(row[2]))
         end
      end
   end
   return n
end

local tables = { pgbench_accounts = "aid", pgbench_tellers = "tid", pgbench_branches = "bid",
   pgbench_history = "id" }
local names = "pgbench_accounts,pgbench_tellers,pgbench_branches,pgbench_history"

local both = [[
   local bundled = require "pgcdc.bundled"
   local options = bundled.options {{"target", pgcdc.required, ""}, {"out", pgcdc.required, ""}}
   local file = pgcdc.sinks.jsonl {path = options.out}
   for i, source in ipairs(bundled.sources(options)) do
      local name = bundled.list(options.table)[i]
      source:sink(file)
      source:sink(pgcdc.sinks.postgres {table = name, connect = options.target})
   end]]

-- Watches while pgbench writes. Returns the samples, and the longest time that a row of the history
-- took to reach the target.
local function watch(p, work, source, target)
   local samples, marks, lag = {}, {}, 0
   while not work:wait(0.25) do
      if not p:alive() then
         error(p:describe())
      end
      samples[#samples + 1] = sample(p)
      marks[#marks + 1] = { at = native.now(), id = tonumber(
         source:value "select coalesce(max(id), 0) from pgbench_history") }
      local there = tonumber(target:value "select coalesce(max(id), 0) from pgbench_history")
      while marks[1] and marks[1].id <= there do
         lag = math.max(lag, native.now() - table.remove(marks, 1).at)
      end
      if marks[1] then
         lag = math.max(lag, native.now() - marks[1].at)
      end
   end
   return samples, lag
end

-- Eight clients at full speed, four sources, a mirror and a file together.
function TestLoad.test_a_mirror_and_a_file_under_pgbench()
   local source = cluster.main():database { name = "load" }
   local target = cluster.main():database { name = "load_target" }
   pgbench.make_tables(source)
   source:exec "alter table pgbench_history add column id bigserial primary key"
   local dir = scope.dir "load"
   local options = { script = both, dsn = source, state = dir .. "/state.db",
      args = { table = names,
      target = target:dsn(), out = dir .. "/out.jsonl", interval = 0.2 }, deadline = 300 }
   local p = program.start(options)
   p:wait_until(function()
      return select(2, p:stderr():gsub('msg="ready"', "")) == 4
   end, 60, "the snapshots")
   source:exec "insert into pgbench_history (tid) values (1)"
   p:wait_until(function()
      return target:value "select to_regclass('pgbench_history')" ~= false
   end, 60, "the history")
   local work = pgbench.start(source, "-n", "-c", "8", "-T", tostring(math.ceil(seconds)))
   local samples, lag = watch(p, work, source, target)
   local before, last = assert_flat(samples)
   lu.assertTrue(lag < wait.scaled(30), ("a row took %.1f s"):format(lag))
   lu.assertEquals(p:stop("TERM", 60).status, 0)
   local once = program.run(setmetatable({ options = { "--once" } }, { __index = options }))
   lu.assertEquals(once.status, 0, once.stderr)
   local verified = program.run { bundled = "verify", dsn = source, deadline = 120,
      args = { table = names, target = target:dsn(), settle = 0 } }
   lu.assertEquals(verified.status, 0, verified.stdout .. verified.stderr)
   local n = assert_file(dir .. "/out.jsonl", source, tables)
   local end_of = samples[#samples]
   io.write(("%d changes, %s rows written, lag at most %.1f s, %d kB then %d kB, %d descriptors,"
      .. " %d threads ... "):format(n, source:value "select count(*) from pgbench_history", lag,
      before, last, end_of.fds, end_of.threads))
end

-- A hundred sources share eight connections, and none is forgotten.
function TestLoad.test_a_hundred_sources()
   local db = cluster.main():database { name = "hundred" }
   db:exec [[do $$ begin for i in 1..100 loop
      execute format('create table t%s (id int primary key, v int)', i);
      execute format('insert into t%s select g, 0 from generate_series(1, 10) g', i);
      end loop; end $$]]
   local p = program.start { dsn = db, script = [[
      for i = 1, 100 do
         pgcdc.source {table = "t" .. i, interval = 0.2, on_change = function(change)
            print(change.op, change.table, change.row.v)
         end}
      end]] }
   local function come(op, v, n)
      p:wait_until(function()
         local seen, all = {}, 0
         for _, line in ipairs(p:lines()) do
            if line:find(("^%s\tt%%d+\t%d$"):format(op, v)) then
               seen[line] = (seen[line] or 0) + 1
               all = all + 1
            end
         end
         local different = 0
         for _, times in pairs(seen) do
            different = different + (times == n and 1 or 0)
         end
         return different == 100 and all == 100 * n
      end, 60, ("%s %d of each table"):format(op, v))
   end
   come("read", 0, 10)
   for v = 1, 3 do
      db:exec(([[do $$ begin for i in 1..100 loop
         execute format('update t%%s set v = %d where id <= 2', i); end loop; end $$]]):format(v))
      come("upsert", v, 2)
   end
   local connections = tonumber(db:value [[select count(*) from pg_stat_activity
      where datname = current_database() and application_name = 'pgcdc-lua']])
   local now = sample(p)
   lu.assertTrue(connections <= 8, connections .. " connections")
   local watchers = os.getenv "TSAN_OPTIONS" and 1 or 0 -- ThreadSanitizer has a thread of its own
   lu.assertTrue(now.threads <= 10 + watchers, now.threads .. " threads")
   lu.assertTrue(now.kb < 100000, now.kb .. " kB")
   lu.assertEquals(p:stop().status, 0)
   io.write(("%d connections, %d threads, %d kB ... "):format(connections, now.threads, now.kb))
end

-- Starts a program that writes the key of each change into a file, exactly once. <slow>: it takes
-- its time for every thousandth.
local function start_keys(db, dir, slow, start)
   return program.start { dsn = db, state = dir .. "/state.db", args = { start = start },
      script = ([[
      local options = pgcdc.options {start = "snapshot"}
      local n, seen = 0, io.open(%q, "a")
      seen:setvbuf "no"
      pgcdc.source {table = "t", interval = 0.2, start = options.start}:map(function(change)
         n = n + 1
         if n %% 1000 == 0 then
            seen:write "x"
         end
         if n %% 1000 == 0 and %s then
            local stop = os.clock() + 0.005
            while os.clock() < stop do end
         end
         return change.key.id
      end):sink(pgcdc.sinks.text {path = %q})]]):format(dir .. "/seen", slow, dir .. "/keys") }
end

-- Waits until the file has as many lines as bytes say; then each key from 1 to n is there once.
local function wait_keys(p, path, n)
   local bytes, digits, from = 0, 1, 1
   while from <= n do
      local to = math.min(from * 10 - 1, n)
      bytes = bytes + (to - from + 1) * (digits + 1)
      from, digits = from * 10, digits + 1
   end
   local peak = 0
   p:wait_until(function()
      local size = files.size(path)
      peak = math.max(peak, (p:rss()) or 0)
      return size >= bytes
   end, patience, "all keys")
   lu.assertEquals(p:stop("TERM", patience).status, 0)
   local seen, lines = {}, 0
   for line in io.lines(path) do
      local id = math.tointeger(tonumber(line))
      lu.assertTrue(id and id >= 1 and id <= n and not seen[id], line)
      seen[id], lines = true, lines + 1
   end
   lu.assertEquals(lines, n)
   return peak
end

local function large_transaction(slow, killed)
   local n = (rows or 400000) // 4
   local db = cluster.main():database { name = "large" }
   db:exec "create table t (id bigint primary key)"
   local dir = scope.dir "large"
   local p = start_keys(db, dir, slow, "now")
   p:wait_stderr('msg="ready"', 30)
   local start = native.now()
   db:exec(("insert into t select g from generate_series(1, %d) g"):format(n), patience)
   local path, seen = dir .. "/keys", dir .. "/seen"
   for _ = 1, killed and 3 or 0 do
      local before = files.size(seen)
      p:wait_until(function() return files.size(seen) > before end, patience, "some keys")
      p:kill9()
      p = start_keys(db, dir, slow, "now")
   end
   local peak = wait_keys(p, path, n)
   lu.assertTrue(peak < 150000, peak .. " kB")
   io.write(("%d rows, %.1f s, %d kB ... "):format(n, native.now() - start, peak))
end

-- One transaction of many rows: bounded memory, each row once.
function TestLoad.test_a_large_transaction()
   large_transaction(false, false)
end

-- The same with a handler that cannot keep up, and killed in between.
function TestLoad.test_a_large_transaction_slowly_and_killed()
   large_transaction(true, true)
end

-- A table of many rows: the snapshot, polls, memory.
function TestLoad.test_a_large_table()
   lu.skipIf(not rows, "make soak has it")
   local db = cluster.main():database { name = "large table" }
   db:exec "create unlogged table t (id bigint primary key)"
   db:exec(("insert into t select g from generate_series(1, %d) g"):format(rows), patience)
   local dir = scope.dir "large table"
   local p = start_keys(db, dir, false, "snapshot")
   local start = native.now()
   p:wait_stderr('msg="ready"', patience)
   local took = native.now() - start
   start = native.now()
   db:exec(("insert into t values (%d)"):format(rows + 1))
   local peak = wait_keys(p, dir .. "/keys", rows + 1)
   lu.assertTrue(peak < 150000, peak .. " kB")
   io.write(("%d rows: snapshot %.1f s, a poll within %.1f s, %d kB ... "):format(rows, took,
      native.now() - start, peak))
end

return TestLoad
