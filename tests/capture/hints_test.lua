-- hints_test.lua: polls that read the blocks which the WAL names, and no others.
-- SPDX-License-Identifier: MIT
--
-- $PGCDC_EXACT_SECONDS: how long writers work in each of two tests (default 2).

local cluster = require "cluster"
local fixtures = require "fixtures"
local hints_runs = require "hints_runs"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local run = require "exact_run"
local seeds = require "seeds"
local wait = require "wait"

local TestHints = {}

local database, script, step, arm = hints_runs.database, hints_runs.script, hints_runs.step,
   hints_runs.arm
local with_mutant, assert_found = hints_runs.with_mutant, hints_runs.assert_found

local seed = seeds.asked or seeds.fresh()
local seconds = tonumber(os.getenv "PGCDC_EXACT_SECONDS" or "") or 2
local armed_polls = os.getenv "PGCDC_EXACT_SECONDS" and 100 or 15 -- at least
local passed_polls = os.getenv "PGCDC_EXACT_SECONDS" and 100 or 0 -- of them in rounds

-- The server that is stopped, crashes and has odd settings.
local own_cluster
local function own()
   own_cluster = own_cluster or cluster.new { name = "hints", keep = true, conf = {
      wal_level = "minimal", max_wal_senders = 0, wal_keep_size = 0, min_wal_size = "32MB",
      max_wal_size = "32MB", wal_skip_threshold = 0 } }
   return own_cluster
end

-- Starts the program on table t. Its lines are "op id n".
local function start(db, fields, options)
   return program.start(setmetatable({
      dsn = options and options.dsn or db, options = { "--log-level", "debug" },
      script = script(fields),
   }, { __index = options }))
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

local function both(db)
   return { primary = db, read = db }
end

-- What must hold after a fault: the change comes, by a scan; later ones by hints again.
local function assert_scans_once(db, state, id, why)
   db.primary:exec(("update t set n = 500 where id = %d"):format(id))
   local how, result = step(db.read, state)
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stdout, ("upsert %d 500"):format(id))
   lu.assertEquals(how, "scan")
   lu.assertStrContains(result.stderr, why)
   arm(db, state)
end

if cluster.version() >= 15 then

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

-- No scan at all over many polls, by the server's own count. And a long transaction makes none of
-- them a scan, though its blocks are read until it is over.
function TestHints.test_no_scan_while_polls_are_armed()
   local db = database(600)
   local p = start(db, 'hints = "wal"')
   p:wait_stderr "ready"
   wait_armed(p, db)
   local long = db:connect()
   long:exec "begin; update t set n = -1 where id = 600"
   local scans = count(p:stderr(), "read=scan")
   for _ = 1, 10 do
      wait_armed(p, db, 5)
   end
   long:exec "commit"
   p:wait_until(function() return p:stdout():find "upsert 600 %-1" end, 20, "the long one")
   lu.assertEquals(count(p:stderr(), "read=scan"), scans)
   lu.assertEquals(p:stop().status, 0)
end

-- With a column that grows only rechecks read by blocks, also what windows have not seen.
function TestHints.test_rechecks_by_a_column_that_grows()
   local db = database(3000)
   local p = start(db, [[capture = "increment", column = "id", lookback = 0, recheck = 0.1,
      hints = "check"]])
   p:wait_stderr "ready"
   wait_armed(p, db)
   db:exec "insert into t values (9001, 1); update t set n = 77 where id in (7, 1500)"
   p:wait_until(function()
      local text = p:stdout()
      return text:find "upsert 9001 1\n" and text:find "upsert 7 77\n"
         and text:find "upsert 1500 77\n"
   end, 20, "the rows")
   wait_armed(p, db)
   db:exec "update t set n = 78 where id = 1501"
   db:exec "vacuum full t"
   p:wait_until(function() return p:stdout():find "upsert 1501 78\n" end, 20, "the row")
   wait_armed(p, db)
   local blocks, of = p:stderr():match ".*read=hint blocks=(%d+) of=(%d+)"
   lu.assertTrue(tonumber(blocks) <= 6 and tonumber(of) >= 400, blocks .. " of " .. of)
   lu.assertEquals(p:stop().status, 0)
end

-- Tables that are written now and then, in whatever transaction the writers do so, and sometimes
-- anew; polls of them are part of rounds.
local calm = [[
   create table calm_1 (k int, pad text default repeat('x', 1000), primary key (k));
   create table calm_2 (like calm_1 including all);
   create table calm_3 (k int primary key, pad text) partition by range (k);
   create table calm_3_low partition of calm_3 for values from (minvalue) to (200);
   create table calm_3_high partition of calm_3 default;
   create table calm_4 (like calm_1 including all);
   create function disturb() returns trigger language plpgsql as $$ begin
      if random() < 0.004 then
         insert into calm_1 values (new.k) on conflict (k) do update set pad = excluded.pad || '.';
      elsif random() < 0.004 then
         insert into calm_2 values (new.k) on conflict (k) do update set pad = calm_2.pad;
         delete from calm_2 where k = new.k + 1;
      elsif random() < 0.004 then
         insert into calm_3 values (new.k) on conflict (k) do update set pad = 'y';
      end if;
      return new; end $$;
   create trigger disturb after insert or update on plain for each row execute function disturb()]]

-- Eight writers at random; each poll is compared with a scan of its own snapshot.
local function assert_exact(options)
   io.write("seed ", seed, " ... ")
   io.flush()
   options.seed, options.hints, options.seconds = seed, "check", seconds
   local least = options.capture and armed_polls // 3 or armed_polls -- rechecks are rare
   local deadline = native.now() + wait.scaled(60)
   function options.enough(p)
      local text = p:stderr()
      return native.now() > deadline or (count(text, "read=hint blocks=[1-9]") >= least
         and (options.capture or count(text, "in a round") >= passed_polls))
   end
   options.calm_tables = passed_polls > 0 and "calm_1,calm_2,calm_3,calm_4" or ""
   options.before = function(db)
      db:exec "create extension pg_walinspect"
      if passed_polls > 0 then
         db:exec(calm)
      end
   end
   local checker, _, result = run.random(options)
   local armed, scans = count(result.stderr, "read=hint"), count(result.stderr, "read=scan")
   local passed = count(result.stderr, "in a round")
   io.write(("%d polls by hint, %d of them in rounds, %d by scan, %d changes ... "):format(armed,
      passed, scans, checker.delivered))
   lu.assertNil(checker:verdict(), "seed " .. seed)
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertTrue(armed >= least and (passed >= passed_polls or options.capture),
      ("%d polls by hint, %d in rounds"):format(armed, passed))
end

-- Nothing is missed and nothing repeated, whatever the writers do, VACUUM FULL included.
function TestHints.test_exact_beside_a_scan_under_writers()
   assert_exact { cluster = cluster.main() }
end

-- The same of rechecks.
function TestHints.test_rechecks_exact_beside_a_scan_under_writers()
   assert_exact { cluster = cluster.main(), capture = "increment" }
end

-- The same on a standby; and then that is promoted.
function TestHints.test_exact_beside_a_scan_on_a_standby()
   local primary = cluster.new { name = "hints primary" }
   local standby = primary:standby("hints standby", {
      conf = { max_standby_streaming_delay = "100ms" },
   })
   assert_exact { cluster = primary, standby = standby }
   local db, state = database(300, primary), fixtures.state()
   local function replayed()
      standby:wait_replay()
      return standby:dsn(db.name)
   end
   arm(setmetatable({ primary = db }, { __index = replayed }), state)
   db:exec "update t set n = 43 where id = 40"
   local dsn = replayed()
   primary:stop "fast"
   standby:promote()
   local how, result = step(dsn, state)
   lu.assertEquals(how, "scan", result.stderr)
   lu.assertStrContains(result.stdout, "upsert 40 43")
   arm({ primary = standby:connect(db.name), read = dsn }, state)
end

-- ---- faults ----

function TestHints.test_a_note_outlives_the_program()
   local db, state = both(database(300)), fixtures.state()
   arm(db, state)
   db.primary:exec "update t set n = 9 where id = 250"
   local how, result = step(db.read, state)
   lu.assertEquals(how, "hint", result.stderr)
   lu.assertEquals(result.lines[#result.lines], "upsert 250 9")
end

function TestHints.test_a_table_that_was_written_anew_is_scanned()
   local db, state = both(database(300)), fixtures.state()
   arm(db, state)
   db.primary:exec "vacuum full t"
   assert_scans_once(db, state, 100, "the table was written anew")
end

function TestHints.test_partitions_come_and_go()
   local db = cluster.main():database()
   db:exec [[create extension pg_walinspect;
      create table t (id int primary key, n int default 0, pad text default repeat('x', 1000))
         partition by range (id);
      create table t1 partition of t for values from (0) to (1000);
      insert into t select generate_series(1, 300)]]
   db = both(db)
   local state = fixtures.state()
   arm(db, state)
   db.primary:exec [[create table t2 partition of t for values from (1000) to (2000);
      insert into t values (1500, 3)]]
   assert_scans_once(db, state, 1500, "has other partitions")
   db.primary:exec "update t set n = 12 where id = 1500; update t set n = 13 where id = 3"
   local how, result = step(db.read, state)
   lu.assertEquals(how, "hint", result.stderr)
   lu.assertStrContains(result.stdout, "upsert 3 13\nupsert 1500 12")
end

function TestHints.test_a_prepared_transaction_older_than_the_note_is_waited_for()
   local db, state = database(300), fixtures.state()
   db:exec "begin; update t set n = 8 where id = 8; prepare transaction 'old'"
   step(db, state)
   for i = 1, 3 do
      db:exec(("update t set n = n + 1 where id = %d"):format(i))
      local how, result = step(db, state)
      lu.assertEquals(how, "scan")
      lu.assertStrContains(result.stderr, "older than the note")
   end
   db:exec "commit prepared 'old'"
   local _, result = step(db, state)
   lu.assertEquals(result.lines, { "upsert 8 8" })
   arm(both(db), state)
end

-- (After half a second, in this program, not after an hour.)
function TestHints.test_one_that_is_older_for_an_hour_is_told()
   local db = database(300)
   db:exec "begin; update t set n = 8 where id = 8; prepare transaction 'forgotten'"
   local p = start(db, 'hints = "check"', { binary = program.binary() .. "-hasty" })
   p:wait_stderr "ready"
   local told = "level=warn[^\n]*a transaction has been open or prepared for an hour"
   local function poll(is_enough)
      p:wait_until(function()
         db:exec "update t set n = n + 1 where id = 1"
         return is_enough(count(p:stderr(), "older than the note"))
      end, 20, "polls")
   end
   poll(function(n) return n > 0 end)
   lu.assertEquals(count(p:stderr(), told), 0, "it was told at once")
   poll(function() return p:stderr():find(told) end)
   poll(function() return count(p:stderr(), told) == 2 end)
   lu.assertTrue(count(p:stderr(), "older than the note") > 4, "it is told at each poll")
   db:exec "rollback prepared 'forgotten'"
   wait_armed(p, db)
   lu.assertEquals(p:stop().status, 0)
end

function TestHints.test_wal_that_is_gone()
   local db, state = both(database(300, own())), fixtures.state()
   arm(db, state)
   for _ = 1, 4 do
      db.primary:exec "update t set n = n where id = 1; select pg_switch_wal()"
      db.primary:exec "checkpoint"
   end
   assert_scans_once(db, state, 200, "the WAL cannot be read, so the table is scanned")
end

function TestHints.test_a_crash_behind_a_note()
   local db, state = both(database(300, own())), fixtures.state()
   arm(db, state)
   db.primary:exec "update t set n = 41 where id = 40"
   own():crash()
   local how, result = step(db.read, state)
   lu.assertEquals(how, "hint", result.stderr)
   lu.assertStrContains(result.stdout, "upsert 40 41")
   arm(db, state)
end

-- ---- rights ----

local function reader_of(db)
   local role = cluster.main():role()
   db:exec(("grant select on t to %s"):format(role))
   return role, db.cluster:dsn(db.name, { user = role })
end

local function hints(db, action, args, status)
   local all = { action = action, table = "t" }
   for name, value in pairs(args or {}) do
      all[name] = value
   end
   local result = program.run { bundled = "hints", dsn = db, state = false, args = all }
   lu.assertEquals(result.status, status or 0, result.stderr)
   return result
end

function TestHints.test_what_is_missing_is_said_with_what_to_run()
   local db = fixtures.database(fixtures.numbers(3))
   local role, dsn = reader_of(db)
   local function refused()
      return once.ends(3, { dsn = dsn, script = script 'hints = "wal"' }).text
   end
   lu.assertStrContains(refused(), ("hints action=install table=public.t readers=%s, or CREATE"
      .. " EXTENSION pg_walinspect"):format(role))
   local how, result = step(dsn, fixtures.state(), "hints = 'auto'")
   lu.assertEquals({ how ~= "hint", result.status }, { true, 0 }, result.stderr)
   db:exec "create extension pg_walinspect"
   lu.assertStrContains(refused(), "GRANT EXECUTE ON FUNCTION public.pg_get_wal_")
   db:exec "alter table t set unlogged"
   lu.assertStrContains(refused(), "the WAL does not have public.t, which is unlogged")
   lu.assertStrContains(select(2, step(dsn, fixtures.state(), "hints = 'auto'")).stderr,
      "level=info msg=\"the WAL does not have the table, which is unlogged")
end

-- The function tells the blocks of one table, to those whom it was given to, and nothing else.
function TestHints.test_install_gives_a_role_block_numbers_and_nothing_else()
   local db = fixtures.database(fixtures.numbers(3))
   db:exec "create table other (id int primary key)"
   local role, dsn = reader_of(db)
   lu.assertStrContains(hints(db, "print", { readers = role }).stdout, "SECURITY DEFINER")
   lu.assertStrContains(hints(db, "status").stdout, "public.t: no hints")
   lu.assertStrContains(hints(db, "install", { readers = role }).stdout,
      ("public.t: hints for %s, pg_walinspect\n"):format(role))
   local state = fixtures.state()
   arm({ primary = db, read = dsn }, state)
   local oid = db:value "select 't'::regclass::oid::int8"
   local reader = db.cluster:connect(db.name, { user = role })
   local from = db:value "select pg_current_wal_flush_lsn()"
   db:exec "insert into other values (1); insert into t values (50, 0)"
   local call = ("select count(*), min(filenode) = pg_relation_filenode('t') from"
      .. " pgcdc.wal_blocks_%s('%s', pg_current_wal_flush_lsn())"):format(oid, from)
   local rows = reader:exec(call)
   lu.assertEquals({ rows[1][1], rows[1][2] }, { "1", "t" })
   for _, name in ipairs { "pg_get_wal_block_info", "pg_get_wal_records_info" } do
      local _, problem = reader:try(("select * from pgcdc.%s('%s', '%s')"):format(name, from, from))
      lu.assertTrue(problem.sqlstate == "42501" or problem.sqlstate == "42883", problem)
   end
   lu.assertStrContains(hints(db, "remove").stdout, "public.t: no hints")
   local problem = once.ends(3, { dsn = dsn, state = state, script = script 'hints = "wal"' }).text
   lu.assertStrContains(problem, "may not read the WAL")
end

function TestHints.test_a_right_that_is_revoked_between_two_polls()
   local db = database(300)
   local role, dsn = reader_of(db)
   local p, q
   hints(db, "install", { readers = role })
   p = start(db, 'hints = "wal"', { dsn = dsn })
   q = start(db, 'hints = "auto"', { dsn = dsn })
   p:wait_stderr "ready"
   q:wait_stderr "ready"
   wait_armed(p, db)
   wait_armed(q, db)
   hints(db, "remove")
   local said
   q:wait_until(function() -- a poll that does not read the WAL does not notice
      db:exec "update t set n = n + 1 where id = 69"
      said = q:stderr():match "level=info[^\n]*the table is scanned[^\n]*"
      return said
   end, 20, "the notice")
   lu.assertStrContains(said, "pgcdc")
   db:exec "update t set n = 71 where id = 70"
   wait_line(q, "upsert 70 71")
   wait.until_(function() -- at the next poll that is due
      db:exec "update t set n = 72 where id = 70"
      return not p:alive()
   end, 20, "the end of the program")
   local result = p:finish()
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrContains(result.stderr, "may not read the WAL: as a superuser run pgcdc-lua hints")
   wait_line(q, "upsert 70 72")
   lu.assertEquals(q:stop().status, 0)
end

-- A function that somebody else has put there runs with our rights: it is not called.
function TestHints.test_functions_of_strangers_are_not_called()
   local db = database(300)
   local stranger = cluster.main():role()
   local _, dsn = reader_of(db)
   db:exec(([[create schema pgcdc authorization %s; grant usage on schema pgcdc to public;
      create function pgcdc.wal_blocks_%s(pg_lsn, pg_lsn) returns table (xid xid, filenode oid,
         block bigint) language plpgsql security definer as $$ begin raise 'called'; end $$;
      alter function pgcdc.wal_blocks_%s owner to %s]]):format(stranger,
      db:value "select 't'::regclass::oid::int8", db:value "select 't'::regclass::oid::int8",
      stranger))
   local text = once.ends(3, { dsn = dsn, script = script 'hints = "wal"' }).text
   lu.assertStrContains(text, "may not read the WAL")
end

-- ---- wrong rules are found out ----

-- The xmax of a snapshot, which is below open xids that write before L0.
function TestHints.test_finds_out_the_xmax_for_the_next_xid()
   local db = database(300, own())
   local open = db:connect()
   open:exec "begin; update t set n = 6 where id = 6"
   db:exec "checkpoint"
   with_mutant("xmax", function()
      local p = start(db)
      p:wait_stderr "ready"
      open:exec "commit"
      lu.assertStrContains(p:finish().stderr, "a scan finds")
   end)
end

-- Rules of which pairs count: <rule> must be found out by a run after this SQL.
local function assert_pairs_found(rule, ...)
   local db, state = database(300), fixtures.state()
   arm(both(db), state)
   for _, sql in ipairs { ... } do
      db:exec(sql)
   end
   with_mutant(rule, function()
      assert_found(db, state)
   end)
end

function TestHints.test_finds_out_that_a_HOT_update_is_left_out()
   assert_pairs_found("hot", "delete from t where id = 100", "vacuum t",
      "update t set n = 5 where id = 101")
end

function TestHints.test_finds_out_that_the_old_page_is_taken()
   assert_pairs_found("old_page", "update t set n = 5 where id = 150")
end

-- What commits without waiting is visible before it is flushed. The rule waits, and scans in the
-- end; where the WAL is flushed later, polls go by hints again.
function TestHints.test_finds_out_that_the_flush_is_taken_for_the_end()
   local db, state = database(300, own()), fixtures.state()
   arm(both(db), state)
   own():configure { wal_writer_delay = "10s" }
   db:exec "set synchronous_commit = off"
   db:exec "update t set n = 5 where id = 150"
   for _, rule in ipairs(cluster.version() > 15 and { "no_wait", "end" } or { "end" }) do
      with_mutant(rule, function()
         local _, result = step(db, fixtures.state(state))
         lu.assertStrContains(result.stderr, "a scan finds")
      end)
   end
   db:exec "update t set n = 6 where id = 150"
   local how, result = step(db, state)
   lu.assertEquals({ how, result.stdout }, { "scan", "upsert 150 6\n" }, result.stderr)
   lu.assertStrContains(result.stderr, "the WAL was not flushed in time")
   lu.assertTrue(tonumber(result.stderr:match "read=scan flush_wait=([%d.]+)") > 0, result.stderr)
   own():configure { wal_writer_delay = "200ms" }
   db:exec "set synchronous_commit = on"
   arm(both(db), state)
end

-- With wal_level = minimal a table that is written anew is not in the WAL, neither by its former
-- file nor by the new one.
function TestHints.test_finds_out_that_a_new_file_is_taken_for_the_old_one()
   local db, state = database(300, own()), fixtures.state()
   arm(both(db), state)
   db:exec "update t set n = 5 where id = 150"
   db:exec "vacuum full t"
   for _, rule in ipairs { "file", "new_file" } do
      with_mutant(rule, function()
         assert_found(db, state)
      end)
   end
end

-- Where the WAL is flushed by pages a record may begin before that place and end after it. (By
-- chance, so it may take minutes: only in the long run.)
if os.getenv "PGCDC_EXACT_SECONDS" then
function TestHints.test_finds_out_that_reading_ends_where_the_WAL_is_flushed()
   local db = database(5000, own()) -- so many that few other records name the same block
   db:exec "alter table t set (fillfactor = 40)"
   db:exec "vacuum full t"
   db:exec "create table other (id int, pad text); alter table other alter pad set storage plain"
   local writer = db:connect()
   writer:exec "set synchronous_commit = off"
   assert(writer:send [[do $$ declare k int; begin loop
      k := 1 + random() * 4999;
      update t set n = n + 1 where id = k;
      insert into other values (1, repeat('x', 1 + (random() * 7000)::int));
      commit; end loop; end $$]])
   with_mutant("border", function()
      lu.assertStrContains(start(db):finish(600).stderr, "a scan finds")
   end)
   db:exec(("select pg_terminate_backend(%d)"):format(writer:pid()))
end
end

end

return TestHints
