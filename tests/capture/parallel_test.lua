-- parallel_test.lua: scans that workers of the server share.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local run = require "exact_run"
local seeds = require "seeds"

local TestParallel = {}

local seconds = tonumber(os.getenv "PGCDC_EXACT_SECONDS" or "") or 2

-- So that tables of any size are shared; <more>: further settings.
local function share(db, more)
   db:exec(([[do $$ begin
      execute format('alter database %%I set min_parallel_table_scan_size = 0', current_database());
      %s end $$]]):format(more or ""))
end

-- A database where workers alone read, and a condition that fails in one.
local function telling()
   local db = fixtures.database [[create table t (id int primary key, v int);
      insert into t select i, 0 from generate_series(1, 2000) i;
      create function in_worker(int) returns bool language plpgsql parallel safe as $$ begin
         if (select backend_type = 'parallel worker' from pg_stat_get_activity(pg_backend_pid()))
         then
            raise 'a worker reads';
         end if;
         return true;
      end $$]]
   share(db, [[execute format('alter database %I set parallel_leader_participation = off',
      current_database());]])
   return db
end

local function script(fields)
   return ([[pgcdc.source { table = "t", hints = false, where = "public.in_worker(id)", %s }
      :on("change", function(c) print(c.op, c.key.id) end)]]):format(fields)
end

-- Polls and counts of keys are shared where that is asked for, and no others.
function TestParallel.test_workers_read()
   local db = telling()
   for _, fields in ipairs { "parallel = 2", "parallel = 2, deletes = true" } do
      local state = fixtures.state()
      local function again(parallel)
         return { dsn = db, state = state, script = script(fields:gsub("parallel = %d",
            "parallel = " .. parallel)) }
      end
      once.ok(again(0))
      db:exec "insert into t select max(id) + 1, 0 from t"
      lu.assertStrContains(once.ends(3, again(2)).text, "a worker reads")
      once.ok(again(0))
   end
end

-- A count of keys alone.
function TestParallel.test_workers_count()
   local db, state = telling(), fixtures.state()
   local counting = script "deletes = { interval = 0.01 }, parallel = 2"
   once.ok { dsn = db, state = state, script = script "deletes = true" }
   db:exec "delete from t where id = 2"
   lu.assertStrContains(once.ends(3, { dsn = db, state = state, script = counting }).text,
      "a worker reads")
end

-- Eight writers at random, with everything that they do, and kills.
function TestParallel.test_nothing_lost_nothing_twice()
   local seed = seeds.asked or seeds.fresh()
   io.write("seed ", seed, " ... ")
   local checker, _, result = run.random { cluster = cluster.main(), seed = seed, parallel = 2,
      seconds = seconds, kills = true, before = share }
   lu.assertNil(checker:verdict(), "seed " .. seed)
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertTrue(checker.delivered > 1000)
end

-- A poll after many transactions has no list of them.
function TestParallel.test_too_many_transactions()
   local db, state = telling(), fixtures.state()
   once.ok { dsn = db, state = state, script = script "parallel = 0" }
   db:exec "insert into t values (3000, 0)"
   db:exec [[do $$ begin for i in 1 .. 10001 loop
      begin perform pg_current_xact_id(); insert into t values (4000, 0); raise 'x';
      exception when raise_exception then end; end loop; end $$]]
   local result = once.ok { dsn = db, state = state, script = script "parallel = 1" }
   lu.assertEquals(result.lines, { "upsert\t3000" })
end

function TestParallel.test_check_and_refused()
   local db = telling()
   local result = once.ok { dsn = db, script = script "parallel = 3", options = { "--check" } }
   lu.assertStrContains(result.stdout, ", scans by up to 3 parallel workers")
   for fields, text in pairs {
      ["parallel = 65"] = "parallel must be at most 64, not 65",
      ["parallel = -1"] = "parallel must be",
      ['parallel = 1, capture = "trigger"'] = 'parallel = 1 is for capture = "xmin"',
   } do
      lu.assertStrContains(once.ends(1, { dsn = db, script = script(fields) }).text, text)
   end
end

return TestParallel
