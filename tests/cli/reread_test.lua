-- reread_test.lua: pgcdc-lua ctl snapshot: rows are read again while polls go on.
-- SPDX-License-Identifier: MIT

local ctl = require "ctl"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local pgbench = require "pgbench"
local program = require "program"
local wait = require "wait"

local TestReread = {}

local function script(fields)
   return ([[
      pgcdc.source { table = "t", interval = 0.05 %s }:on("change", function(c)
         print(c.op, c.key.id)
      end)]]):format(fields or "")
end

local function start(db, text, more)
   local options = { dsn = db, script = text }
   for name, value in pairs(more or {}) do
      options[name] = value
   end
   local p = program.start(options)
   p:wait_stderr "msg=\"?ready"
   return p
end

local function wait_lines(p, expected)
   p:wait_until(function() return #p:lines() >= #expected end)
   local lines = table.move(p:lines(), 1, #p:lines(), 1, {})
   lu.assertEquals(lines, expected)
end

function TestReread.test_a_part_is_read_again()
   local db = fixtures.names(3)
   local p = start(db, script())
   lu.assertEquals(ctl.ok(p, "snapshot", "where=id >= 2"), "public.t: is read again")
   p:wait_stderr "was read again: 2 rows"
   wait_lines(p, { "read\t1", "read\t2", "read\t3", "read\t2", "read\t3" })
   db:exec "INSERT INTO t VALUES (4, 'x')"
   wait_lines(p, { "read\t1", "read\t2", "read\t3", "read\t2", "read\t3", "upsert\t4" })
   ctl.ok(p, "snapshot")
   p:wait_stderr "was read again: 4 rows"
   lu.assertEquals(#p:stop().lines, 10)
end

function TestReread.test_a_condition_that_is_none()
   local db = fixtures.names(1)
   local p = start(db, script())
   lu.assertStrContains(ctl.fails(p, "snapshot", "where=nothing = 1"),
      'column "nothing" does not exist')
   lu.assertStrContains(ctl.fails(p, "snapshot", "where=true); SELECT (1"), "syntax error")
   lu.assertEquals(ctl.ok(p, "snapshot", "where=1 / (id - 1) = 0"), "public.t: is read again")
   p:wait_stderr "rows are not read again: .*division by zero"
   db:exec "INSERT INTO t VALUES (2, 'x')"
   wait_lines(p, { "read\t1", "upsert\t2" })
   p:stop()
end

-- ---- exact ----

local ROWS = 6000
local WRITE = [[
   \set id random(1, 6000)
   \set pause random(0, 30)
   BEGIN;
   UPDATE t SET version = version + 1 WHERE id = :id;
   SELECT pg_sleep(:pause * 0.001);
   UPDATE t SET version = version + 1 WHERE id = :id % 100 + 1;
   COMMIT;]]

local function make_table()
   return fixtures.database(([[
      CREATE TABLE t (id int PRIMARY KEY, version int NOT NULL, filler text);
      INSERT INTO t SELECT i, 0, repeat('x', 1500) FROM generate_series(1, %d) i;]]):format(ROWS))
end

-- Holds what came against the rules: a key's version never goes back, nothing but reads comes
-- twice, all that is there has come. Returns how many reads there were.
local function check(db, lines)
   local newest, seen, reads = {}, {}, 0
   for _, line in ipairs(lines) do
      local op, id, key, version = line:match "^(%a+) (%S+) (%d+) (%d+)$"
      key, version = tonumber(key), tonumber(version)
      local before = newest[key] or -1
      newest[key] = version
      if op == "read" then
         lu.assertTrue(version >= before, line .. ": its key goes back")
         reads = reads + 1
      else
         lu.assertTrue(version > before, line .. ": it had come")
         lu.assertNil(seen[id], line .. ": came twice")
         seen[id] = true
      end
   end
   local there = db:value "SELECT string_agg(id || ' ' || version, ',' ORDER BY id) FROM t"
   local came = {}
   for key = 1, ROWS do
      came[key] = ("%d %d"):format(key, newest[key] or -1)
   end
   lu.assertEquals(table.concat(came, ","), there)
   return reads
end

-- Rows are read again, three times, while eight clients write, and the program is stopped and
-- started in the middle.
local function attack(db, fields)
   local text = ([[
      pgcdc.source { table = "t", interval = 0.02 %s }:on("change", function(c)
         print(c.op .. " " .. c.id .. " " .. c.key.id .. " " .. c.row.version)
      end)]]):format(fields)
   local p = start(db, text)
   local lines, stops = {}, 0
   local writer = pgbench.start_script(db, WRITE, "-c", "8", "-T", tostring(wait.scaled(4)))
   local function restart()
      table.move(p:stop().lines, 1, #p:lines(), #lines + 1, lines)
      p = start(db, text, { state = p.state })
      stops = stops + 1
   end
   for round = 1, 3 do
      lu.assertEquals(ctl.ok(p, "snapshot"), "public.t: is read again")
      if round < 3 then
         restart()
      end
      p:wait_stderr("was read again: %d+ rows", 60)
   end
   pgbench.finish(writer, 60)
   local position = db:value "SELECT sum(version) FROM t"
   p:wait_until(function()
      local all = table.move(p:lines(), 1, #p:lines(), #lines + 1,
         table.move(lines, 1, #lines, 1, {}))
      local newest, sum = {}, 0
      for _, line in ipairs(all) do
         local key, version = line:match "(%d+) (%d+)$"
         newest[key] = tonumber(version)
      end
      for _, version in pairs(newest) do
         sum = sum + version
      end
      return ("%d"):format(sum) == position
   end, 30)
   table.move(p:stop().lines, 1, #p:lines(), #lines + 1, lines)
   local reads = check(db, lines)
   -- what was updated while it was read again came as an update
   lu.assertTrue(reads > 2 * ROWS and reads <= 4 * ROWS, reads .. " reads")
   lu.assertEquals(stops, 2)
end

function TestReread.test_exact_under_writers()
   attack(make_table(), "")
end

function TestReread.test_exact_with_deletes()
   attack(make_table(), ", deletes = true")
end

function TestReread.test_exact_by_triggers()
   local db = make_table()
   once.ok { bundled = "trigger", dsn = db, args = { action = "install", table = "t" } }
   attack(db, ", capture = 'trigger'")
end

return TestReread
