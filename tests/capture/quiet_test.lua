-- quiet_test.lua: counters that stand still spare scans, and lose nothing.
-- SPDX-License-Identifier: MIT
--
-- A session reports what it did late, and whoever asks may see it late: each case of quiet.h here
-- is one in which the counters say nothing for a while. $PGCDC_QUIET_LONG: those too that take ten
-- seconds and more.

local cluster = require "cluster"
local environment = require "environment"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local wait = require "wait"

local TestQuiet = {}

-- Runs SQL in a session of its own, which reports at its end what it has done.
local function reported(db, sql)
   local conn = db:connect()
   local pid = conn:exec("select pg_backend_pid()")[1][1]
   conn:exec(sql)
   conn:close()
   wait.until_(function()
      return db:value(("select count(*) from pg_stat_activity where pid = %s"):format(pid)) == "0"
   end, 20, "the end of the session")
end

-- A database with tables t and noise.
local function database()
   local db = fixtures.database "create table noise (id int)"
   reported(db, [[create table t (id int primary key, n int);
      insert into t select generate_series(1, 5), 0]])
   return db
end

local function script(fields)
   return ([[pgcdc.source { table = "t", interval = 0.02, %s }:on("change", function(c)
      io.write(c.op, " ", c.key.id, " ", c.row and c.row.n or "-", "\n")
   end)]]):format(fields)
end

local function start(db, fields, options)
   local p = program.start(setmetatable({
      dsn = db, options = { "--log-level", "debug" }, script = script(fields),
   }, { __index = options }))
   p:wait_stderr "ready"
   return p
end

local function count(p, pattern)
   return select(2, p:stderr():gsub(pattern, ""))
end

-- Commits elsewhere until <n> more polls were left out.
local function wait_quiet(p, db, n)
   local before = count(p, "read=quiet")
   p:wait_until(function()
      db:exec "insert into noise values (1)"
      return count(p, "read=quiet") >= before + (n or 1)
   end, 20, "polls that are left out")
end

-- Commits elsewhere, so that polls are due, until the program has told this.
local function wait_line(p, db, line)
   p:wait_until(function()
      db:exec "insert into noise values (1)"
      return p:stdout():find(line, 1, true)
   end, 20, line)
end

function TestQuiet.test_a_table_that_stands_still_is_not_scanned()
   local db = database()
   local p = start(db, "quiet = 100")
   wait_quiet(p, db)
   local scans = count(p, "read=scan")
   wait_quiet(p, db, 20)
   lu.assertEquals(count(p, "read=scan"), scans)
   reported(db, "insert into t values (6, 1)")
   wait_line(p, db, "upsert 6 1")
   reported(db, "update t set n = 2 where id = 3")
   wait_line(p, db, "upsert 3 2")
   wait_quiet(p, db)
   lu.assertEquals(p:stop().status, 0)
end

-- A session reports nothing of what it has done while it is in a transaction. Polls are left out
-- meanwhile; the first scan after `quiet` finds what it wrote.
local function write_unreported(db, quiet)
   local p = start(db, ("quiet = %g"):format(quiet))
   local writer = db:connect()
   wait_quiet(p, db)
   writer:exec "begin; insert into t values (10, 1); commit; begin; select 1"
   wait_quiet(p, db, 3) -- though the row is there
   return p, writer
end

function TestQuiet.test_what_was_not_reported_comes_after_quiet()
   local db = database()
   local p, writer = write_unreported(db, 1.5)
   lu.assertNotStrContains(p:stdout(), "upsert 10")
   wait_line(p, db, "upsert 10 1")
   writer:exec "commit"
   lu.assertEquals(p:stop().status, 0)
end

-- Calls f() while the program is tests/mutants/quiet.c, with this rule.
local function with_mutant(rule, f)
   environment.with("PGCDC_LUA", program.binary() .. "-quiet", function()
      environment.with("PGCDC_QUIET_RULE", rule, f)
   end)
end

-- The row is below the floor when the table is scanned at last.
function TestQuiet.test_finds_out_a_floor_that_moves()
   with_mutant("rise", function()
      local db = database()
      local p, writer = write_unreported(db, 100)
      reported(db, "insert into t values (11, 1)")
      wait_line(p, db, "upsert 11 1")
      lu.assertNotStrContains(p:stdout(), "upsert 10")
      writer:exec "commit"
      p:stop()
   end)
end

-- The same, where the rule holds: both of them come.
function TestQuiet.test_a_scan_finds_all_since_the_last_one()
   local db = database()
   local p, writer = write_unreported(db, 100)
   reported(db, "insert into t values (11, 1)")
   wait_line(p, db, "upsert 11 1")
   lu.assertStrContains(p:stdout(), "upsert 10 1")
   writer:exec "commit"
   lu.assertEquals(p:stop().status, 0)
end

function TestQuiet.test_finds_out_that_the_last_scan_may_be_old()
   with_mutant("age", function()
      local db = database()
      local p, writer = write_unreported(db, 0.5)
      wait_quiet(p, db, 40) -- of 20 ms and more each
      lu.assertNotStrContains(p:stdout(), "upsert 10")
      writer:exec "commit"
      p:stop()
   end)
end

-- ---- when sessions report ----

-- After f(), which writes n = <n> into a row, the change comes because it is counted.
local function comes(p, db, n, f)
   wait_quiet(p, db)
   f()
   wait_line(p, db, ("upsert 1 %d"):format(n))
end

function TestQuiet.test_what_is_reported_late_comes_when_it_is()
   local db = database()
   local p = start(db, "quiet = 100")
   local writer = db:connect()
   comes(p, db, 1, function() -- commits all the time
      p:wait_until(function()
         writer:exec "update t set n = 1 where id = 1"
         return p:stdout():find "upsert 1 1"
      end, 20, "what is written all the time")
   end)
   comes(p, db, 2, function() -- idle in transaction, until that ends
      writer:exec "begin; update t set n = 2 where id = 1; commit; begin; select 1"
      wait_quiet(p, db, 2)
      writer:exec "select pg_sleep(1)"
      writer:exec "commit"
   end)
   comes(p, db, 3, function() -- one long query
      writer:exec "update t set n = 3 where id = 1"
      writer:exec "select pg_sleep(1.1)"
   end)
   writer:exec [[create procedure works() language plpgsql as $$ begin
      update t set n = 4 where id = 1; commit; perform pg_sleep(1.1); end $$]]
   comes(p, db, 4, function() -- a procedure that commits and goes on
      writer:exec "call works()"
   end)
   lu.assertEquals(p:stop().status, 0)
end

-- A session that is idle reports after ten seconds; on 14 it never does.
function TestQuiet.test_what_an_idle_session_has_done()
   if not os.getenv "PGCDC_QUIET_LONG" or cluster.version() < 15 then
      return
   end
   local db = database()
   local p = start(db, "quiet = 100")
   local writer = db:connect()
   comes(p, db, 1, function()
      writer:exec "update t set n = 0 where id = 2"
      writer:exec "update t set n = 1 where id = 1"
   end)
   comes(p, db, 2, function()
      writer:exec "begin; update t set n = 2 where id = 1; prepare transaction 'quiet'"
      wait_quiet(p, db)
      writer:exec "commit prepared 'quiet'"
   end)
   lu.assertEquals(p:stop().status, 0)
end

-- ---- where counters say nothing ----

-- The sum is what it was, since it was counted anew from 0.
local function reset(db, p)
   wait_quiet(p, db)
   p:signal "STOP"
   reported(db, "select pg_stat_reset()")
   reported(db, "insert into t values (20, 1), (21, 1), (22, 1), (23, 1), (24, 1)")
   p:signal "CONT"
end

function TestQuiet.test_a_reset_makes_a_scan()
   local db = database()
   local p = start(db, "quiet = 100")
   reset(db, p)
   wait_line(p, db, "upsert 24 1")
   local scans = count(p, "read=scan")
   wait_quiet(p, db)
   reported(db, "select pg_stat_reset_shared('bgwriter')") -- as a crash does
   p:wait_until(function()
      db:exec "insert into noise values (1)"
      return count(p, "read=scan") > scans
   end, 20, "a scan")
   wait_quiet(p, db)
   lu.assertEquals(p:stop().status, 0)
end

function TestQuiet.test_finds_out_that_a_reset_does_not_matter()
   with_mutant("reset", function()
      local db = database()
      local p = start(db, "quiet = 100")
      reset(db, p)
      wait_quiet(p, db, 10)
      lu.assertNotStrContains(p:stdout(), "upsert 24")
      p:stop()
   end)
end

local function scans_only(db, fields, options)
   local p = start(db, fields, options)
   p:wait_until(function()
      db:exec "insert into noise values (1)"
      return count(p, "read=scan") > 8
   end, 20, "scans")
   lu.assertEquals({ count(p, "read=quiet"), p:stop().status }, { 0, 0 })
end

local function check(db, fields)
   local result = program.run { dsn = db, options = { "--check" }, script = script(fields) }
   lu.assertEquals(result.status, 0, result.stderr)
   return result.stdout .. result.stderr
end

function TestQuiet.test_counters_that_are_off_are_not_asked()
   local db = database()
   lu.assertStrContains(check(db, "quiet = 60"),
      "none for 60 s while its counters stand still")
   db:exec(('alter database "%s" set track_counts = off'):format(db.name))
   lu.assertStrContains(check(db, "quiet = 60"), "quiet = 60 does nothing: track_counts is off")
   scans_only(db, "quiet = 60")
   local role = cluster.main():role()
   db:exec(('alter database "%s" reset track_counts; alter role %s in database "%s"'
      .. " set track_counts = 'OFF'"):format(db.name, role, db.name))
   lu.assertStrContains(check(db, "quiet = 60"), "track_counts is off") -- of somebody's sessions
end

function TestQuiet.test_it_is_off_by_default()
   scans_only(database(), "")
end

-- ---- with other options ----

function TestQuiet.test_deletes_come()
   local db = database()
   local p = start(db, "quiet = 100, deletes = true")
   wait_quiet(p, db)
   reported(db, "delete from t where id = 4")
   wait_line(p, db, "delete 4")
   wait_quiet(p, db)
   lu.assertEquals(p:stop().status, 0)
end

-- One of them is due: all of them are read.
function TestQuiet.test_sources_that_are_read_together()
   local db = database()
   db:exec "create table u (id int primary key)"
   local p = program.start { dsn = db, options = { "--log-level", "debug" }, script = [[
      for _, name in ipairs { "t", "u" } do
         pgcdc.source { table = name, together = "both", interval = 0.02, quiet = 100 }
            :on("change", function(c) print(name, c.op, c.key.id) end)
      end]] }
   p:wait_stderr "ready.*ready"
   wait_quiet(p, db)
   reported(db, "insert into u values (1)")
   wait_line(p, db, "u\tupsert\t1")
   wait_quiet(p, db)
   reported(db, "begin; insert into u values (2); insert into t values (7); commit")
   wait_line(p, db, "t\tupsert\t7")
   wait_line(p, db, "u\tupsert\t2")
   lu.assertEquals(p:stop().status, 0)
end

function TestQuiet.test_what_makes_no_sense_is_refused()
   local db = database()
   local function refused(fields)
      return once.ends(1, { dsn = db, script = script(fields) }).text
   end
   lu.assertStrContains(refused "quiet = '5'", "quiet must be a number, not a string")
   lu.assertStrContains(refused "quiet = -1",
      "quiet must be a number of seconds, at least 0, not -1")
   lu.assertStrContains(refused "quiet = 0.02", "quiet = 0.02 spares no scan, since polls are"
      .. " 0.02 s apart: it must be longer than the interval")
   lu.assertStrContains(refused "quiet = 5, capture = 'trigger'",
      'quiet = 5 is for capture = "xmin", which scans tables')
end

return TestQuiet
