-- exact_writers.lua: what the sessions of the exactness test do to the tables, at random.
-- SPDX-License-Identifier: MIT
--
-- Each row carries a version. bump(table, key) counts it up in a row of `versions`, whose lock
-- orders all writers of one key until they commit, so that a key's versions grow in
-- the order in which they become visible, over deletes, new inserts and key changes too. It also
-- writes (key, version) to `history` under the xid that writes the row: what is delivered must be
-- there.

local writers = {}

writers.keys = 600      -- that the writers work on; more rows are there only to be read
local wide_rows = 1400  -- rows of one block each, so that the snapshot takes several ranges

writers.tables = { "plain", "parted" }
writers.leaves = { parted_1 = "parted", parted_2 = "parted", parted_3 = "parted" }

-- Makes the tables in the database of <conn>.
function writers.create(conn)
   conn:exec [[
      create table plain (k int primary key, v bigint not null, pad text not null default '');
      alter table plain alter pad set storage plain;
      create table parted (k int primary key, v bigint not null, pad text not null default '')
         partition by range (k);
      create table parted_1 partition of parted for values from (minvalue) to (100);
      create table parted_2 partition of parted for values from (100) to (300);
      create table parted_3 partition of parted default;
      create table versions (t text, k int, v bigint not null, primary key (t, k))
         with (fillfactor = 50);
      create table history (t text, k int, v bigint);
      create function bump(tab text, key int) returns bigint language sql as $$
         with new as (
            insert into versions as old values (tab, key, 1)
               on conflict (t, k) do update set v = old.v + 1 returning v),
         noted as (insert into history select tab, key, v from new returning v)
         select v from noted $$;]]
   conn:exec(([[
      insert into plain select k, bump('plain', k), repeat('x', 7000)
         from generate_series(%d, %d) k;
      insert into plain select k, bump('plain', k) from generate_series(1, %d, 2) k;
      insert into parted select k, bump('parted', k) from generate_series(1, %d, 2) k]]):format(
         writers.keys + 1, writers.keys + wide_rows, writers.keys, writers.keys))
end

-- History by stamps, as the tables have them.
function writers.stamp_history(conn)
   conn:exec [[alter table history add pgcdc_xid xid8;
      alter table history alter pgcdc_xid set default pg_current_xact_id()]]
end

-- Whether a statement's error is one that busy sessions must expect.
local function is_passing(problem)
   local state = problem.sqlstate
   return state == "40001" or state == "40P01" -- serialization, deadlock
      or state == "55P03" or state == "23505"  -- lock timeout, a key that is there
end

local statements = {
   insert = function(t, k)
      return ("insert into %s values (%d, bump('%s', %d))"):format(t, k, t, k)
   end,
   upsert = function(t, k)
      return ("insert into %s values (%d, bump('%s', %d)) on conflict (k) do update set v = "
         .. "excluded.v, pad = ''"):format(t, k, t, k)
   end,
   update = function(t, k)
      return ("update %s set v = bump('%s', k), pad = '' where k = %d"):format(t, t, k)
   end,
   update_some = function(t, k)
      return ("update %s set v = bump('%s', k) where k between %d and %d"):format(t, t, k, k + 7)
   end,
   delete = function(t, k)
      return ("delete from %s where k = %d"):format(t, k)
   end,
   rekey = function(t, k, other)
      return ("update %s set k = %d, v = bump('%s', %d) where k = %d"):format(t, other, t, other, k)
   end,
   lock = function(t, k)
      return ("select from %s where k = %d for no key update"):format(t, k)
   end,
   -- a subtransaction of its own, which is released
   block = function(t, k)
      return ("do $$ begin update %s set v = bump('%s', k) where k = %d; "
         .. "exception when unique_violation then null; end $$"):format(t, t, k)
   end,
}

local mix = { 10, "insert", 12, "upsert", 40, "update", 4, "update_some", 14, "delete", 10, "rekey",
   4, "lock", 6, "block" }

-- One random statement, on table <t> or any. True: done; false: the (sub)transaction is broken.
local function change(s, t)
   local rng = s.rng
   t = t or writers.tables[rng:int(1, #writers.tables)]
   local k, other = rng:int(1, writers.keys), rng:int(1, writers.keys)
   local what = rng:pick(mix)
   local rows, problem = s:try(statements[what](t, k, other))
   if not rows and not is_passing(problem) then
      error(("%s in %s"):format(problem, what), 0)
   end
   return rows ~= nil
end

-- Random statements, with savepoints in between. False: the transaction is broken.
local function change_some(s, stats, t, depth)
   local rng = s.rng
   for _ = 1, rng:int(1, 4) do
      if depth < 4 and rng:chance(35) then
         s:exec "savepoint s"
         local ok = change_some(s, stats, t, depth + 1)
         if not ok or rng:chance(30) then
            s:exec "rollback to s; release s"
            stats.undone = stats.undone + 1
         else
            s:exec "release s"
            stats.released = stats.released + 1
         end
      elseif not change(s, t) then
         return false
      end
   end
   return true
end

-- Ends a transaction in two phases, the second a while after the first.
local function end_in_two_phases(s, stats, name)
   if not s:try(("prepare transaction '%s'"):format(name)) then
      return -- a serializable one may fail here, and is over then
   end
   stats.prepared = stats.prepared + 1
   s:pause(s.rng:float(0, s.rng:chance(10) and 1.5 * stats.patience or 0.05))
   s:exec((s.rng:chance(75) and "commit prepared '%s'" or "rollback prepared '%s'"):format(name))
end

local function transaction(s, stats, name)
   local rng = s.rng
   s:exec("begin isolation level "
      .. rng:pick { 80, "read committed", 15, "repeatable read", 5, "serializable" })
   local t = rng:chance(70) and writers.tables[rng:int(1, #writers.tables)] or nil
   local ok = change_some(s, stats, t, 0)
   if ok and rng:chance(2) then
      stats.held = stats.held + 1
      s:pause(rng:float(0.5, 3) * stats.patience)
      ok = change_some(s, stats, t, 0)
   elseif ok and rng:chance(15) then
      s:pause(rng:float(0, 0.1))
   end
   if not ok or rng:chance(12) then
      s:exec "rollback"
      stats.aborted = stats.aborted + 1
   elseif rng:chance(8) then
      end_in_two_phases(s, stats, name)
   elseif s:try "commit" then
      stats.committed = stats.committed + 1
   end
end

-- Ends what the writer has prepared before a crash.
local function end_prepared(s, name)
   for _, row in ipairs(s:exec(("select gid from pg_prepared_xacts where gid ~ '^%s_'")
         :format(name))) do
      s:exec(("%s prepared '%s'"):format(s.rng:chance(75) and "commit" or "rollback", row[1]))
   end
end

-- A writer. <name> is the start of its prepared transactions' names.
function writers.write(name, stats)
   return function(s)
      s:exec "set deadlock_timeout = '50ms'; set lock_timeout = '100ms'"
      end_prepared(s, name)
      s.n = s.n or 0
      while not s:should_finish() do
         s.n = s.n + 1
         if s.rng:chance(20) then
            change(s) -- a transaction of its own
         else
            transaction(s, stats, ("%s_%d"):format(name, s.n))
         end
      end
   end
end

-- A writer in another database, which has an xid open nearly all the time.
function writers.stand_in_the_way(stats)
   return function(s)
      s:exec "create table if not exists elsewhere (n int)"
      while not s:should_finish() do
         s:exec "begin; insert into elsewhere values (1)"
         s:pause(s.rng:float(0, 1.5) * stats.patience)
         s:exec(s.rng:chance(50) and "commit" or "rollback")
      end
   end
end

-- VACUUM in all its forms. One that is refused its lock is not counted. VACUUM FULL only while
-- stats.may_rewrite, and with much patience until it was done once.
function writers.vacuum(stats)
   return function(s)
      s:exec "set deadlock_timeout = '50ms'"
      while not s:should_finish() or stats.may_rewrite and stats.rewritten == 0 do
         s:pause(s.rng:float(0.1, 0.6))
         local full = stats.may_rewrite and (s.rng:chance(40) or stats.rewritten == 0)
         local how = full and "(full)" or s.rng:chance(50) and "(freeze)" or ""
         local t = s.rng:pick { 3, "plain", 1, "parted", 1, "parted_1", 1, "parted_2", 1,
            "versions" }
         s:exec(("set lock_timeout = '%dms'"):format(stats.rewritten == 0 and 2500 or 400))
         local rows, problem = s:try(("vacuum %s %s"):format(how, t))
         assert(rows or is_passing(problem), problem)
         local kind = full and "rewritten" or "vacuumed"
         stats[kind] = stats[kind] + (rows and 1 or 0)
      end
   end
end

-- Columns that come and go, and TRUNCATE, while stats.may_alter.
function writers.alter(stats)
   return function(s)
      s:exec "set deadlock_timeout = '50ms'; set lock_timeout = '500ms'"
      while not s:should_finish() do
         s:pause(s.rng:float(0.05, 0.3))
         local how = s.rng:pick { 3, "alter table %s add extra int", 2,
            "alter table %s add extra int default 7", 4, "alter table %s drop extra", 3,
            "truncate %s" }
         local kind = how:find "truncate" and "truncated" or "altered"
         if stats.may_alter then
            local rows, problem = s:try(how:format(writers.tables[s.rng:int(1, #writers.tables)]))
            assert(rows or is_passing(problem) or problem.sqlstate:find "^4270", problem)
            stats[kind] = stats[kind] + (rows and 1 or 0)
         end
      end
   end
end

-- patience: how long transactions stay open, 1: up to three seconds.
function writers.new_stats()
   return { patience = 1, committed = 0, aborted = 0, released = 0, undone = 0, prepared = 0,
      held = 0, vacuumed = 0, rewritten = 0, altered = 0, truncated = 0,
      terminated = 0, killed = 0, crashed = 0 }
end

return writers
