-- reload_test.lua: SIGHUP and pgcdc-lua ctl reload.
-- SPDX-License-Identifier: MIT

local ctl = require "ctl"
local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local pgbench = require "pgbench"
local program = require "program"

local TestReload = {}

local function script(tag)
   return ([[
      pgcdc.source { table = "t", interval = 0.02 }:on("change", function(c)
         print("%s", c.op, c.key.id)
      end)]]):format(tag)
end

local function count(p, pattern)
   local _, n = p:stderr():gsub(pattern, "")
   return n
end

function TestReload.test_another_script_in_the_same_process()
   local db = fixtures.names(1)
   local p = program.start { dsn = db, script = script "old" }
   p:wait_stderr "msg=\"?ready"
   local pid = p:pid()
   files.write(p.script, script "new")
   p:signal "HUP"
   p:wait_until(function() return count(p, "msg=\"?ready") == 2 end)
   db:exec "INSERT INTO t VALUES (2, 'b')"
   p:wait_until(function() return p:lines()[2] end)
   lu.assertEquals(p:lines(), { "old\tread\t1", "new\tupsert\t2" })
   lu.assertEquals(p:pid(), pid)
   files.write(p.script, script "third")
   lu.assertEquals(ctl.ok(p, "reload"), "the script is good: the program starts anew")
   db:exec "INSERT INTO t VALUES (3, 'b')"
   p:wait_until(function() return p:lines()[3] == "third\tupsert\t3" end)
   lu.assertEquals(p:stop().status, 0)
end

-- A sink that is added gets what comes from then on, and the rows that are there when they are read
-- again. (So scripts move to another target without a stop.)
function TestReload.test_a_sink_that_is_added()
   local db = fixtures.names(2)
   local source = script "old" .. "source:sink(pgcdc.sinks.postgres { table = 'm' })"
   source = "local source = " .. source:gsub("%)source", ")\nsource")
   local p = program.start { dsn = db, script = source }
   p:wait_stderr "msg=\"?ready"
   files.write(p.script, source .. "\nsource:sink(pgcdc.sinks.postgres { table = 'added' })")
   ctl.ok(p, "reload")
   p:wait_until(function() return count(p, "msg=\"?ready") == 2 end)
   local function rows(name)
      return db:value(("SELECT string_agg(id || name, ' ' ORDER BY id) FROM %s"):format(name))
   end
   db:exec "INSERT INTO t VALUES (3, 'b')"
   p:wait_until(function() return db:value "SELECT to_regclass('added')" ~= nil end)
   p:wait_until(function()
      return db:value "SELECT to_regclass('added') IS NOT NULL" == "t" and rows "added" == "3b"
   end)
   ctl.ok(p, "snapshot")
   p:wait_until(function() return rows "added" == "1n1 2n2 3b" end)
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(rows "m", "1n1 2n2 3b")
end

function TestReload.test_a_bad_script_is_refused()
   local db = fixtures.names(0)
   local p = program.start { dsn = db, script = script "old" }
   p:wait_stderr "msg=\"?ready"
   for bad, why in pairs {
      ["pgcdc.source { tabel = 't' }"] = "unknown field 'tabel'", ["x ="] = "unexpected symbol",
      ["error 'no'"] = "no", ["os.exit(5)"] = "status 5", ["pgcdc.nothing()"] = "nothing",
   } do
      files.write(p.script, bad)
      lu.assertStrContains(ctl.fails(p, "reload"), "not reloaded: ")
      p:wait_stderr("goes on with the script that it has\" error=[^\n]*" .. why)
   end
   p:signal "HUP"
   db:exec "INSERT INTO t VALUES (2, 'b')"
   p:wait_until(function() return p:lines()[1] == "old\tupsert\t2" end)
   lu.assertEquals(count(p, "msg=\"?ready"), 1)
   p:stop()
end

-- Reloads in a row, by both ways, while eight clients write: each version comes once.
-- $PGCDC_RELOADS: how many.
function TestReload.test_exact_under_writers()
   local db = fixtures.database [[
      CREATE TABLE t (id int PRIMARY KEY, version int NOT NULL);
      INSERT INTO t SELECT i, 0 FROM generate_series(1, 200) i;]]
   local p = program.start { dsn = db, script = [[
      pgcdc.source { table = "t", interval = 0.01, deletes = true }:on("change", function(c)
         print(c.op .. " " .. c.id .. " " .. c.key.id .. " " .. c.row.version)
      end)]] }
   p:wait_stderr "msg=\"?ready"
   local n = tonumber(os.getenv "PGCDC_RELOADS") or 6
   local writer = pgbench.start_script(db, [[
      \set id random(1, 200)
      UPDATE t SET version = version + 1 WHERE id = :id;]], "-c", "8", "-R", "400", "-T", "600")
   for i = 1, n do
      if i % 2 == 0 then
         ctl.ok(p, "reload")
      else
         p:signal "HUP"
      end
      p:wait_until(function() return count(p, "msg=\"?ready") == i + 1 end, 30)
   end
   writer:kill "KILL"
   writer:wait(10)
   local last = db:value "SELECT string_agg(id || ' ' || version, ',' ORDER BY id) FROM t"
   local newest = {}
   local function is_all()
      local seen = {}
      for _, line in ipairs(p:lines()) do
         local id, key, version = line:match "^%a+ (%S+) (%d+) (%d+)$"
         lu.assertNil(seen[id], line .. ": came twice")
         seen[id], newest[tonumber(key)] = true, key .. " " .. version
      end
      return table.concat(newest, ",") == last
   end
   p:wait_until(is_all, 20, "the newest versions")
   p:stop()
   lu.assertTrue(is_all())
   lu.assertEquals(count(p, "level=info msg=\"reloading\""), n)
end

-- --reset forgets once.
function TestReload.test_nothing_is_forgotten_again()
   local db = fixtures.names(2)
   local p = program.start { dsn = db, script = script "a", options = { "--log-level", "info",
                                                                       "--reset" } }
   p:wait_stderr "msg=\"?ready"
   ctl.ok(p, "reload")
   db:exec "INSERT INTO t VALUES (3, 'b')"
   p:wait_until(function() return p:lines()[3] end)
   lu.assertEquals(p:stop().lines, { "a\tread\t1", "a\tread\t2", "a\tupsert\t3" })
end

return TestReload
