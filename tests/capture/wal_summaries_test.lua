-- wal_summaries_test.lua: summaries take the place of WAL that is gone.
-- SPDX-License-Identifier: MIT
--
-- Of Postgres 17 and later, whose servers keep them longer than the WAL. Each poll is compared with
-- a scan of its snapshot (see hints_runs). $PGCDC_EXACT_SECONDS: how long writers work (default 4),
-- and a hundred polls by summaries, not twelve, beside eight writers that nothing is missed of.

local cluster = require "cluster"
local exact_run = require "exact_run"
local fixtures = require "fixtures"
local hints_runs = require "hints_runs"
local lu = require "luaunit"
local native = require "native"
local pgbench = require "pgbench"
local program = require "program"
local seeds = require "seeds"
local server = require "server"
local wait = require "wait"

local TestWalSummaries = {}

local step, with_mutant = hints_runs.step, hints_runs.with_mutant

local own_cluster
local function own()
   own_cluster = own_cluster or cluster.new { name = "summaries", keep = true, conf = {
      summarize_wal = "on", wal_keep_size = 0, min_wal_size = "32MB", max_wal_size = "32MB",
      max_prepared_transactions = 20 } }
   return own_cluster
end

-- Until the WAL of this moment is gone, so that only summaries tell of it.
local function lose_wal(admin)
   local file = admin:value "select pg_walfile_name(pg_current_wal_insert_lsn())"
   wait.until_(function()
      admin:exec "select pg_logical_emit_message(false, '', ''), pg_switch_wal()"
      admin:exec "checkpoint"
      return admin:value(("select count(*) from pg_ls_waldir() where name = '%s'"):format(file))
         == "0"
   end, 60, "the WAL is removed")
end

-- A database whose next poll goes by hints; its state.
local function armed()
   local db, state = hints_runs.database(300, own()), fixtures.state()
   db:exec "checkpoint" -- no summary has both this and what comes
   hints_runs.arm({ primary = db, read = db }, state)
   return db, state
end

-- The files of summaries that have WAL from this LSN on.
local function summaries_since(db, lsn)
   local names = {}
   for _, row in ipairs(db:exec(([[select lpad(to_hex(tli), 8, '0')
         || lpad(upper(to_hex((start_lsn - '0/0')::bigint)), 16, '0')
         || lpad(upper(to_hex((end_lsn - '0/0')::bigint)), 16, '0')
      from pg_available_wal_summaries() where end_lsn > '%s' order by start_lsn]]):format(lsn))) do
      names[#names + 1] = ("%s/pg_wal/summaries/%s.summary"):format(own().data, row[1])
   end
   return names
end

if cluster.version() >= 17 then

function TestWalSummaries.test_they_tell_what_the_WAL_does_not_any_more()
   local db, state = armed()
   db:exec "update t set n = 5 where id = 150; insert into t values (900, 6)"
   lose_wal(db)
   db:exec "update t set n = 7 where id = 20"
   local how, result = step(db, state)
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals({ how, result.lines }, { "hint", { "upsert 150 5", "upsert 900 6",
      "upsert 20 7" } }, result.stderr)
   lu.assertTrue(tonumber(result.stderr:match "summaries=(%d+)") > 0, result.stderr)
   db:exec "update t set n = 8 where id = 20"
   how, result = step(db, state)
   lu.assertEquals({ how, result.stdout }, { "hint", "upsert 20 8\n" }, result.stderr)
end

-- Nobody need grant anything for them: a role that was given the blocks of the WAL is enough.
function TestWalSummaries.test_no_right_is_needed()
   local db, state = hints_runs.database(300, own()), fixtures.state()
   local role = own():role()
   local dsn = own():dsn(db.name, { user = role })
   db:exec(("grant select on t to %s; grant pg_read_server_files to %s"):format(role, role))
   hints_runs.arm({ primary = db, read = dsn }, state)
   db:exec(("revoke pg_read_server_files from %s; grant execute on function"
      .. " pg_get_wal_block_info to %s"):format(role, role))
   db:exec "update t set n = 5 where id = 150"
   lose_wal(db)
   local how, result = step(dsn, state)
   lu.assertEquals({ how, result.stdout }, { "hint", "upsert 150 5\n" }, result.stderr)
end

-- What is under way in WAL that is gone: its blocks are read until it is over.
local function write_openly()
   local db, state = armed()
   local open = db:connect()
   open:exec "begin; update t set n = 6 where id = 200"
   lose_wal(db)
   return db, state, open
end

function TestWalSummaries.test_blocks_of_what_is_under_way_are_read_until_it_is_over()
   local db, state, open = write_openly()
   local p = hints_runs.start(db, state)
   hints_runs.wait_hint(p, db)
   open:exec "commit"
   p:wait_until(function() return p:stdout():find "upsert 200 6" end, 20, "the row")
   lu.assertEquals(p:stop().status, 0)
end

function TestWalSummaries.test_finds_out_the_xmax_for_the_next_xid()
   local db, state, open = write_openly()
   with_mutant("open", function()
      local p = hints_runs.start(db, state)
      p:wait_stderr "summaries="
      p:wait_stderr "ready"
      open:exec "commit"
      lu.assertStrContains(p:finish().stderr, "a scan finds")
   end)
end

-- Where one of them is missing the table is scanned.
function TestWalSummaries.test_a_hole_between_them()
   local db, state = armed()
   local lsn = db:value "select pg_current_wal_insert_lsn()"
   lose_wal(db)
   local before = #summaries_since(db, lsn)
   db:exec "insert into t select generate_series(1000, 1099)" -- into blocks that nobody else names
   lose_wal(db)
   lose_wal(db)
   local all = summaries_since(db, lsn)
   for i = before, #all - 1 do -- the last one is after the rows
      server.run { "rm", all[i] }
   end
   with_mutant("hole", function()
      hints_runs.assert_found(db, state)
   end)
   local how, result
   for i = 1, 10 do
      db:exec(("create table committed_%d ()"):format(i)) -- what is not flushed is another reason
      how, result = step(db, fixtures.state(state))
      if not result.stderr:find "flushed in time" then
         break
      end
   end
   lu.assertEquals({ how, #result.lines }, { "scan", 100 }, result.stderr)
   lu.assertStrContains(result.stderr, "the WAL cannot be read, so the table is scanned")
end

-- Eight writers; the program is killed again and again, and the WAL is gone when it comes back.
function TestWalSummaries.test_exact_beside_a_scan_under_writers()
   local seed = seeds.asked or seeds.fresh()
   io.write("seed ", seed, " ... ")
   io.flush()
   local deadline = native.now() + wait.scaled(60)
   local summarized = 0
   local checker, _, result = exact_run.random {
      cluster = own(), seed = seed, hints = "check", kills = true,
      seconds = tonumber(os.getenv "PGCDC_EXACT_SECONDS" or "") or 4,
      before = function(db) db:exec "create extension pg_walinspect" end,
      may_kill = function(p) -- only what was read by hints begins with summaries
         return p:stderr():find "read=hint"
      end,
      killed = function(text)
         summarized = summarized + select(2, text:gsub("summaries=[1-9]", ""))
         lose_wal(own():connect "postgres")
      end,
      enough = function(p)
         return native.now() > deadline
            or summarized + select(2, p:stderr():gsub("summaries=[1-9]", "")) >= 5
      end,
   }
   io.write(("%d polls by summaries, %d changes ... "):format(summarized, checker.delivered))
   lu.assertNil(checker:verdict(), "seed " .. seed)
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertTrue(summarized > 0)
end

local tables = 4
local written = [[
   create table w%d (id bigint generated by default as identity primary key, n int,
      pad text default repeat('x', 500)) with (fillfactor = 80);
   insert into w%d (n) select 0 from generate_series(1, 8000)]]
-- Some do not wait for the flush, some roll a savepoint back, some take a while.
local writes = [[
\set t random(1, 4)
\set id random(1, 8500)
\set kind random(1, 100)
\if :kind <= 25
set synchronous_commit = off;
\else
set synchronous_commit = on;
\endif
begin;
update w:t set n = n + 1 where id = :id;
\if :kind = 50
select pg_sleep(0.5);
\endif
savepoint s;
insert into w:t (n) values (0);
\if :kind % 3 = 0
rollback to s;
\endif
end;
delete from w:t where id = :id - 7 and :kind < 10;
\sleep 100 ms
]]
local watch = [[for t = 1, 4 do
   pgcdc.source { table = "w" .. t, interval = 0.1, max_load = 1, hints = "check" }
      :on("change", function(c)
         print(c.id, c.key.id, c.row.n)
      end)
end]]

-- Eight writers; the program is stopped again and again, and the WAL is gone when it comes back. So
-- each life begins with polls by summaries. It ends well, so nothing may come twice.
function TestWalSummaries.test_nothing_is_missed_and_nothing_repeated_beside_eight_writers()
   local least = os.getenv "PGCDC_EXACT_SECONDS" and 100 or 12
   local db, state = own():database(), fixtures.state()
   local admin = own():connect "postgres"
   db:exec "create extension pg_walinspect"
   for t = 1, tables do
      db:exec(written:format(t, t))
   end
   local heard, last, twice = 0, {}, {}
   local ids, polls, blocks, of = {}, 0, 0, 0
   -- Lives until there were so many more polls of each table.
   local function live(more)
      local p = program.start { dsn = db, state = state, script = watch,
         options = { "--log-level", "debug" } }
      p:wait_until(function()
         local text = p:stderr()
         for t = 1, tables do
            if select(2, text:gsub("poll: [^\n]*source=public.w" .. t, "")) < more then
               return not p:alive()
            end
         end
         return true
      end, 60, "polls")
      local result = p:stop()
      lu.assertEquals(result.status, 0, result.stderr)
      for _, line in ipairs(result.lines) do
         local id, key, n = line:match "^(%S+)\t(%d+)\t(%d+)$"
         twice[#twice + 1] = ids[id] and id
         ids[id], heard, last[id:match "w%d" .. " " .. key] = true, heard + 1, n
      end
      for block, whole in result.stderr:gmatch "blocks=(%d+) of=(%d+)[^\n]-summaries=[1-9]" do
         polls, blocks, of = polls + 1, blocks + block, of + whole
      end
   end
   live(1)
   local writers = pgbench.start_script(db, writes, "-c", "8", "-T", "900")
   live(5)
   local deadline = native.now() + wait.scaled(200)
   while polls < least and native.now() < deadline do
      lose_wal(admin)
      live(3)
   end
   writers:kill(15)
   writers:wait(20)
   lose_wal(admin)
   live(2)
   io.write(("%d polls by summaries, %.0f %% of the blocks, %d changes ... "):format(polls,
      100 * blocks / of, heard))
   lu.assertEquals(twice, {})
   for t = 1, tables do
      for _, row in ipairs(db:exec(("select id, n from w%d"):format(t))) do
         lu.assertEquals(last[("w%d %s"):format(t, row[1])], row[2], t .. " " .. row[1])
      end
   end
   lu.assertTrue(polls >= least)
end

end

return TestWalSummaries
