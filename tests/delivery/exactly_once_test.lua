-- exactly_once_test.lua: bundled scripts under SIGKILL: nothing lost, nothing doubled.
-- SPDX-License-Identifier: MIT
--
-- $PGCDC_EXACT_SECONDS: how long pgbench writes (default 12); $PGCDC_TEST_SEED: when who is killed.

local cluster = require "cluster"
local files = require "files"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local pgbench = require "pgbench"
local program = require "program"
local scope = require "scope"
local seeds = require "seeds"
local wait = require "wait"

local TestExactlyOnce = {}

local seconds = tonumber(os.getenv "PGCDC_EXACT_SECONDS" or "") or 12
local seed = seeds.asked or seeds.fresh()

local tables = { "pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history" }

-- A database with pgbench's tables, all of them with a key.
local function bench_database()
   local db = cluster.main():database { name = "exactly_once" }
   pgbench.make_tables(db, "-s", "1")
   db:exec "ALTER TABLE pgbench_history ADD COLUMN id bigserial PRIMARY KEY"
   db:exec "DELETE FROM pgbench_accounts WHERE aid % 10 > 0" -- each row is compared in the end
   return db
end

-- A program that is killed at random moments and started again until `over`.
local function mortal(options)
   local self = { kills = 0, options = options }
   function self.start()
      self.program = program.start(options)
      self.dies = native.now() + 0.05 + math.random() * 1.5
   end
   function self.tend()
      if not self.program:alive() then
         error("it ended by itself: " .. self.program:stderr())
      end
      if native.now() > self.dies then
         self.program:kill9()
         self.kills = self.kills + 1
         self.start()
      end
   end
   -- A last run that delivers what there is.
   function self.finish()
      self.program:kill9()
      local last = setmetatable({ options = { "--once" } }, { __index = options })
      local result = program.run(setmetatable({ deadline = 60 }, { __index = last }))
      lu.assertEquals(result.status, 0, result.stderr)
   end
   self.start()
   return self
end

-- The rows of a table, each as text, in order of their key.
local function content(conn, name)
   local rows = {}
   for i, row in ipairs(conn:exec(("SELECT row_to_json(t)::jsonb::text FROM %s t ORDER BY 1")
      :format(name))) do
      rows[i] = row[1]
   end
   return rows
end

local function assert_same_tables(source, target)
   for _, name in ipairs(tables) do
      local want, got = content(source, name), content(target, name)
      lu.assertTrue(#want > 0)
      lu.assertEquals(#got, #want, name)
      for i = 1, #want do
         if got[i] ~= want[i] then
            lu.fail(("%s: %s is %s in the target (seed %d)"):format(name, want[i], got[i], seed))
         end
      end
   end
end

-- Each (key, xid) is there once, and the last one of each key is what the table holds.
local function assert_once(path, db)
   local seen, last = {}, {}
   for _, change in ipairs(files.lines(path, json.decode)) do
      if seen[change.id] then
         lu.fail(("%s is there twice (seed %d)"):format(change.id, seed))
      end
      seen[change.id] = true
      last[change.table .. " " .. (change.key.aid or change.key.tid or change.key.bid
         or change.key.id)] = change.row
   end
   local n = 0
   for _, name in ipairs(tables) do
      local key = name == "pgbench_history" and "id" or name:match "_(.)" .. "id"
      for _, row in ipairs(db:exec(("SELECT %s, row_to_json(t) FROM %s t"):format(key, name))) do
         lu.assertEquals(last[name .. " " .. row[1]], json.decode(row[2]))
         n = n + 1
      end
   end
   return n
end

-- The last count reported for each teller is the number of rows of the history that name it.
local function assert_counts(path, db)
   local counts = {}
   for _, line in ipairs(files.lines(path, json.decode)) do
      counts[line.value] = line.count
   end
   local tellers = db:exec "SELECT tid, count(*) FROM pgbench_history GROUP BY tid"
   lu.assertTrue(#tellers > 0)
   for _, row in ipairs(tellers) do
      lu.assertEquals(counts[math.tointeger(row[1])], math.tointeger(row[2]),
         ("teller %s (seed %d)"):format(row[1], seed))
   end
end

-- The promise: with the position in the same transaction as the data, or beside the length of the
-- file or the state, a crash at any moment loses and doubles nothing.
function TestExactlyOnce.test_killed_at_random()
   io.write("seed ", seed, " ... ")
   math.randomseed(seed)
   local db = bench_database()
   local target = cluster.main():database { name = "exactly_once_target" }
   local dir = scope.dir "exactly once"
   local all = table.concat(tables, ",")
   local work = pgbench.start(db, "-n", "-c", "4", "-R", "900", "-T",
      tostring(math.ceil(seconds)))
   local state = function(name)
      return dir .. "/" .. name .. ".db"
   end
   local programs = {
      mortal { bundled = "mirror", dsn = db, state = state "mirror", args = {
         table = all, target = target:dsn(), interval = 0.1 } },
      mortal { bundled = "jsonl", dsn = db, state = state "jsonl", args = {
         table = all, out = dir .. "/out.jsonl", interval = 0.1 } },
      mortal { bundled = "count", dsn = db, state = state "count", args = {
         table = "pgbench_history", by = "tid", every = 0.2, out = dir .. "/count.jsonl",
         interval = 0.1 } },
   }
   while not work:wait(0) do
      for _, p in ipairs(programs) do
         p.tend()
      end
      native.sleep(0.02)
   end
   local kills = 0
   for _, p in ipairs(programs) do
      p.finish()
      kills = kills + p.kills
   end
   assert_same_tables(db:connection(), target:connection())
   local verified = program.run { bundled = "verify", dsn = db, deadline = 120, args = {
      table = all, target = target:dsn(), settle = 0 } }
   lu.assertEquals(verified.status, 0, verified.stdout .. verified.stderr)
   assert_once(dir .. "/out.jsonl", db)
   assert_counts(dir .. "/count.jsonl", db)
   lu.assertTrue(kills > seconds / 3, "hardly anybody was killed")
   io.write(kills, " kills, ", #files.lines(dir .. "/out.jsonl", json.decode), " changes ... ")
end

-- A table without a key cannot be mirrored: rows could not be told apart.
function TestExactlyOnce.test_a_mirror_needs_a_key()
   local db = cluster.main():database()
   db:exec "CREATE TABLE keyless (v int)"
   local result = program.run { bundled = "mirror", dsn = db, options = { "--once" }, args = {
      table = "keyless", target = db:dsn() } }
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "has no primary key")
end

-- What a window holds is not lost when the program is killed: it comes again.
function TestExactlyOnce.test_windows_lose_nothing()
   io.write("seed ", seed, " ... ")
   math.randomseed(seed)
   local db = cluster.main():database()
   db:exec "CREATE TABLE w (id serial PRIMARY KEY, n int)"
   local dir = scope.dir "windows"
   local mortal_one = mortal { dsn = db, state = dir .. "/state.db", script = ([[
      pgcdc.source {table = "w", interval = 0.05}
         :timed_window(0.5)
         :flatten()
         :sink(pgcdc.sinks.jsonl {path = %q})
   ]]):format(dir .. "/out.jsonl") }
   local deadline = native.now() + wait.scaled(math.min(seconds, 10))
   local written = 0
   while native.now() < deadline do
      db:exec(("INSERT INTO w (n) SELECT g FROM generate_series(1, %d) g"):format(
         math.random(1, 20)))
      written = written + 1
      mortal_one.tend()
      native.sleep(0.01)
   end
   mortal_one.finish()
   local seen = {}
   for _, change in ipairs(files.lines(dir .. "/out.jsonl", json.decode)) do
      seen[change.key.id] = (seen[change.key.id] or 0) + 1
   end
   local rows = db:exec "SELECT id FROM w"
   for _, row in ipairs(rows) do
      lu.assertEquals(seen[math.tointeger(row[1])] or 0, 1, "row " .. row[1])
   end
   lu.assertTrue(mortal_one.kills > 2 and written > 50, "too little has happened")
end

return TestExactlyOnce
