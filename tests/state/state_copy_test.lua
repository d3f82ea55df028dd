-- state_copy_test.lua: `pgcdc-lua state`: room for states, carried elsewhere, shown, taken away.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local environment = require "environment"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local scope = require "scope"
local tables = require "tables"
local wait = require "wait"

local TestStateCopy = {}

-- What came, and how often, in a state and in an operator that persists; deletes.
local SCRIPT = [[
   local counts = pgcdc.state "counts"
   local t = pgcdc.source { table = "t", interval = 0.02, deletes = true, old = true }
   t:on("change", function(c)
      counts[c.op] = (counts[c.op] or 0) + 1
      print(c.op, c.key.id, c.old and c.old.name)
   end)
   t:reduce_by(function(c) return c.op end, function(n) return n + 1 end,
      { start = 0, persist = "by op" }):sink(function(x) print(x.key .. "s", x.state) end)
   if pgcdc.args.mirror then
      t:sink(pgcdc.sinks.postgres { table = "m" })
   end]]

-- A database with a table, another one for states, a state file, and two ways to run: by the
-- file, and by the database.
local function case(rows, script)
   local db, home = fixtures.names(rows), cluster.main():database()
   local file = fixtures.state()
   local how = { dsn = db, script = script or SCRIPT }
   return db, home, file, tables.merge(how, { state = file }),
      tables.merge(how, { state = home:dsn(), options = { "--name", "state" } })
end

-- Runs the bundled script; returns its result.
local function tool(args, more)
   return program.run(tables.merge({ bundled = "state", state = false, args = args }, more))
end

local function ok(args)
   local result = once.succeed(tool(args))
   lu.assertNil(result.stderr:match "level=error[^\n]*")
   return result.stdout
end

local function fails(message, args, status)
   local result = tool(args)
   lu.assertEquals(result.status, status or 4, result.stderr)
   lu.assertStrContains(result.stderr, message)
   lu.assertEquals(select(2, result.stderr:gsub("\n", "")), 1, result.stderr) -- one line
end

-- From the file to the database and back, and there again: nothing comes again, nothing is lost,
-- what is counted goes on.
function TestStateCopy.test_there_and_back()
   local db, home, file, by_file, by_database = case(3)
   local conninfo = home:dsn()
   local function run(how)
      local lines = once.ok(how, { args = { mirror = 1 } }).lines
      local rows = "select string_agg(id || name, ',' order by id) from "
      lu.assertEquals(db:exec(rows .. "m"), db:exec(rows .. "t"))
      return lines
   end
   lu.assertEquals(run(by_file),
      { "read\t1\tnil", "reads\t1", "read\t2\tnil", "reads\t2", "read\t3\tnil", "reads\t3" })
   lu.assertStrContains(ok { action = "copy", from = file, to = conninfo },
      "copied, and goes on as the pipeline state in the database")
   db:exec "update t set name = 'x' where id = 1; delete from t where id = 2"
   lu.assertItemsEquals(run(by_database),
      { "update\t1\tn1", "updates\t1", "delete\t2\tn2", "deletes\t1" })
   lu.assertEquals(run(by_database), {})
   ok { action = "copy", from = conninfo, to = file, name = "state" }
   lu.assertEquals(run(by_file), {})
   db:exec "delete from t where id = 1; insert into t values (4, 'y')"
   lu.assertItemsEquals(run(by_file),
      { "delete\t1\tx", "deletes\t2", "insert\t4\tnil", "inserts\t1" })
   ok { action = "copy", from = file, to = conninfo }
   db:exec "delete from t"
   lu.assertItemsEquals(run(by_database),
      { "delete\t3\tn3", "deletes\t3", "delete\t4\ty", "deletes\t4" })
   lu.assertEquals(home:value [[select string_agg(convert_from(key, 'UTF8') || '='
      || convert_from(value, 'UTF8'), ' ' order by key) from pgcdc.state
      where name = 'counts' and kind = 'state']], "delete=4 insert=1 read=3 update=1")
end

-- After a copy the old home is of no use to a run: it says where the state is.
function TestStateCopy.test_the_old_home_is_left()
   local db, home, file, by_file, by_database = case(1)
   once.ok(by_file)
   ok { action = "copy", from = file, to = home:dsn() }
   db:exec "insert into t values (2)"
   lu.assertStrContains(once.ends(4, by_file).text,
      "this state was copied, and goes on as the pipeline state in host=")
   lu.assertStrContains(once.ends(4, by_file, { options = { "--reset" } }).text, "was copied")
   lu.assertEquals(once.ok(by_database).lines, { "insert\t2\tnil", "inserts\t1" })
   lu.assertStrContains(ok { action = "copy", from = file, to = home:dsn() }, "was copied before")
   lu.assertEquals(once.ok(by_database).lines, {})
   fails("it was copied, and goes on as the pipeline state in",
      { action = "copy", from = file, to = fixtures.state() })
   ok { action = "copy", from = home:dsn(), to = file, name = "state" }
   lu.assertStrContains(once.ends(4, by_database).text, "goes on as the file " .. file)
   lu.assertEquals(once.ok(by_file).lines, {})
end

local STEPS = 4 -- at which a copy is killed; PGCDC_SWEEP=1: at each
local LAST = { "delete\t2\tn2", "deletes\t1" }

-- The test above finds out a program that goes on with the home that was left.
function TestStateCopy.test_finds_out_who_uses_both_homes()
   environment.with("PGCDC_LUA", program.binary() .. "-home_transfer", function()
      local is_right, why = pcall(TestStateCopy.test_the_old_home_is_left)
      lu.assertFalse(is_right)
      lu.assertStrContains(why.msg or why, "actual: {0}") -- which went on
   end)
end

-- A copy that is killed at each of its steps: no home is used that is not whole, and the same copy
-- once more brings it to its end.
local function killed(from_file)
   local db, home, file, by_file, by_database = case(4)
   local conninfo = home:dsn()
   local first, second = by_file, by_database
   local copy = { action = "copy", from = file, to = conninfo }
   if not from_file then
      first, second = by_database, by_file
      copy = { action = "copy", from = conninfo, to = file, name = "state" }
   end
   local log = scope.dir "log" .. "/log"
   -- Copies what is new; a program that counts its steps, or is killed at one.
   local function start(how, step)
      os.remove(file)
      os.remove(file .. "-wal")
      home:exec "drop schema if exists pgcdc cascade"
      db:exec "delete from t; insert into t select i, 'n' || i from generate_series(1, 4) i"
      lu.assertEquals(#once.ok(first).lines, 8)
      db:exec "delete from t where id = 2"
      return tool(copy, {
         binary = program.binary() .. "-sabotaged",
         env = { SABOTAGE_CLASS = "postgres files", SABOTAGE_HOW = how, SABOTAGE_STEP = step,
                 SABOTAGE_LOG = log },
      })
   end
   once.succeed(start())
   local total, ways = math.tointeger(tonumber(files.text(log))), {}
   local stride = tonumber((os.getenv "PGCDC_SWEEP" or ""):match "%d+") or total // STEPS
   local steps = { total - 1 } -- when all is done but the end
   for step = math.random(stride), total, stride do
      steps[#steps + 1] = step
   end
   for _, step in ipairs(steps) do
      local result = start("kill", step)
      lu.assertTrue(result.signal == 9 or result.status == 0, result.stderr)
      home:exec [[do $$ begin if to_regclass('pgcdc.lease') is not null then
         update pgcdc.lease set expires = now(); end if; end $$]]
      local old = once.run(first)
      if old.status == 0 then -- the origin may be used, and then the target may not
         lu.assertEquals(old.lines, LAST)
         ok(copy)
         lu.assertEquals(once.ok(second).lines, {})
         ways.origin = true
      else
         lu.assertStrContains(old.stderr, "this state was copied")
         local new = once.run(second)
         if new.status ~= 0 then
            lu.assertStrContains(new.stderr, "is not whole")
            ok(copy)
            new = once.ok(second)
         end
         lu.assertEquals(new.lines, LAST)
         ways.target = true
      end
   end
   lu.assertTrue(ways.origin and ways.target)
end

function TestStateCopy.test_killed_on_the_way_to_a_database()
   killed(true)
end

function TestStateCopy.test_killed_on_the_way_to_a_file()
   killed(false)
end

-- Nobody may be at work on either home.
function TestStateCopy.test_while_somebody_is_at_work()
   local _, home, file, by_file, by_database = case(1)
   local p = program.start(by_file)
   p:wait_until(function() return #p:lines() == 2 end, 20, "the row")
   fails("is in use by another process", { action = "copy", from = file, to = home:dsn() })
   fails("is in use by another process", { action = "remove", state = file })
   lu.assertEquals(p:stop().status, 0)
   ok { action = "copy", from = file, to = home:dsn() }
   p = program.start(by_database)
   wait.until_(function()
      return home:value "select count(*) from pgcdc.lease where expires > now()" == "1"
   end, 20, "the lease")
   for _, action in ipairs { "copy", "export", "remove" } do
      fails(", is at work on the pipeline state: stop it first", {
         action = action, from = home:dsn(), to = file, state = home:dsn(), name = "state" })
   end
   lu.assertEquals(p:stop().status, 0)
end

function TestStateCopy.test_export_and_remove()
   local _, home, file, by_file, by_database = case(2)
   once.ok(by_file)
   local function exported(args)
      local found = {}
      for line in ok(tables.merge({ action = "export" }, args)):gmatch "[^\n]+" do
         local item = json.decode(line)
         if item.kind ~= "epoch" then -- which only a database has
            found[#found + 1] = item.kind and ("%s %s %s"):format(item.kind, item.name, item.key)
               or ("row %s %s"):format(item.key, item.row)
         end
      end
      table.sort(found)
      return found
   end
   local there = exported { state = file }
   lu.assertItemsEquals(exported { state = file }, there)
   lu.assertStrContains(table.concat(there, "\n"), "position public.t ")
   lu.assertStrContains(table.concat(there, "\n"), "row 1 1\tn1")
   lu.assertStrContains(table.concat(there, "\n"), "state counts read")
   ok { action = "copy", from = file, to = home:dsn() }
   lu.assertEquals(exported { state = home:dsn(), name = "state" }, there)
   ok { action = "remove", state = home:dsn(), name = "state" }
   lu.assertEquals(home:value [[select (select count(*) from pgcdc.state)
      + (select count(*) from pgcdc.state_rows) + (select count(*) from pgcdc.lease)]], "0")
   lu.assertEquals(#once.ok(by_database).lines, 4)
   ok { action = "remove", state = file }
   lu.assertEquals(#once.ok(by_file).lines, 4)
end

-- Tables and rights are made by their owner for others; what is there is left as it is.
function TestStateCopy.test_install()
   local db, home = fixtures.names(1), cluster.main():database()
   home:exec "drop role if exists keeper; create role keeper login"
   local args = { action = "install", state = home:dsn(), roles = "keeper" }
   local printed = ok(tables.merge(args, { action = "print" }))
   lu.assertStrContains(printed, "GRANT USAGE ON SCHEMA pgcdc TO keeper;")
   lu.assertEquals(home:value "select count(to_regnamespace('pgcdc'))", "0")
   local result = once.succeed(tool(args))
   lu.assertStrContains(result.stderr, 'msg="CREATE SCHEMA IF NOT EXISTS pgcdc"')
   lu.assertNil(once.succeed(tool(args)).stderr:find "msg=")
   once.ok { dsn = db, script = SCRIPT, state = home:dsn { user = "keeper" } }
   fails("there is no role nobody_there",
      { action = "install", state = home:dsn(), roles = "nobody_there" }, 3)
   home:exec "drop owned by keeper; drop role keeper"
end

function TestStateCopy.test_bad_input()
   local _, home, file, by_file = case(1)
   once.ok(by_file)
   for message, args in pairs {
      ["action must be"] = { action = "x" },
      ["from: say where"] = { action = "copy", to = "x" },
      ["to: say where"] = { action = "copy", from = "x" },
      ["state: say where"] = { action = "export" },
      ["name: say which pipeline"] = { action = "export", state = home:dsn() },
      ["from and to are the same"] = { action = "copy", from = file, to = file },
   } do
      fails(message, args, 2)
   end
   for message, args in pairs {
      ["there is no state file /no/file.db"] = { action = "copy", from = "/no/file.db", to = file },
      ["nothing is kept there yet"] = { action = "export", state = home:dsn(), name = "x" },
   } do
      fails(message, args)
   end
   ok { action = "copy", from = file, to = home:dsn(), name = "orders" }
   fails("there is no pipeline ordres; those that are there: orders",
      { action = "copy", from = home:dsn(), to = file, name = "ordres" })
   local other = fixtures.state()
   once.ok(by_file, { state = other })
   fails("the target has a state already",
      { action = "copy", from = other, to = home:dsn(), name = "orders" })
end

return TestStateCopy
