-- hints_runs.lua: runs of the program whose polls may read the blocks that the WAL names.
-- SPDX-License-Identifier: MIT
--
-- hints = "check" compares each such poll with a scan in the same snapshot, and ends the program
-- where they differ. So "read=hint" in its log says that the two were the same.

local cluster = require "cluster"
local environment = require "environment"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"

local runs = {}

-- A database of the cluster (the main one) with table t (id, n) of <rows> rows, some six to a
-- block, and the extension.
function runs.database(rows, of)
   local db = (of or cluster.main()):database()
   db:exec(([[create extension pg_walinspect;
      create table t (id int primary key, n int default 0, pad text default repeat('x', 1000));
      alter table t alter pad set storage plain;
      insert into t select generate_series(1, %d)]]):format(rows))
   return db
end

-- The script of these runs.
function runs.script(fields)
   return ([[pgcdc.source { table = "t", interval = 0.02, %s }:on("change", function(c)
      io.write(c.op, " ", c.key.id, " ", c.row.n, "\n")
   end)]]):format(fields or 'hints = "check"')
end

-- Starts it on this state.
function runs.start(db, state, fields)
   return program.start { dsn = db, state = state, script = runs.script(fields),
      options = { "--log-level", "debug" } }
end

-- Updates row 1 until a poll was by hint after this moment.
function runs.wait_hint(p, db)
   local function count()
      return select(2, p:stderr():gsub("read=hint", ""))
   end
   local before = count()
   p:wait_until(function()
      db:exec "update t set n = n + 1 where id = 1"
      return count() > before
   end, 20, "a poll by hint")
end

-- One run with --once. How its polls were read: "hint", "scan" or "" (there was none); its result.
function runs.step(db, state, fields, more)
   local result = once.run({ dsn = db, state = state, script = runs.script(fields),
      options = { "--log-level", "debug" } }, more)
   return result.stderr:match "read=(%l+)" or "", result
end

-- Runs until a note is kept, so that the next run goes by hints.
function runs.arm(db, state, fields, more)
   for i = 1, 10 do
      db.primary:exec(("update t set n = n + 1 where id = %d"):format(i))
      local how, result = runs.step(db.read, state, fields, more)
      lu.assertEquals(result.status, 0, result.stderr)
      if how == "hint" then
         return
      end
   end
   lu.fail "no poll was by hint"
end

-- Calls f() while the program is tests/mutants/hints.c, with this rule.
function runs.with_mutant(rule, f)
   environment.with("PGCDC_LUA", program.binary() .. "-hints", function()
      environment.with("PGCDC_HINTS_RULE", rule, f)
   end)
end

-- (A poll scans if WAL that reading has made is not flushed in time.)
function runs.assert_found(db, state)
   for i = 1, 10 do
      local how, result = runs.step(db, fixtures.state(state))
      if how ~= "scan" then
         lu.assertStrContains(result.stderr, "a scan finds")
         lu.assertEquals(result.status, 70)
         return
      end
      db:exec(("create table flushed_%d ()"):format(i)) -- its commit flushes the WAL
   end
   lu.fail "no poll was by hint"
end

return runs
