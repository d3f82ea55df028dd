-- dead_letters_test.lua: the built-in store: letters are listed, shown, delivered again, removed.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local connected = require "connected"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local scope = require "scope"

local TestDeadLetters = {}

-- What a script does at the end of its first read: `act` of the store, with these arguments.
local ACT = [[
   local dead_letters = require "pgcdc.delivery.dead_letters"
   if pgcdc.args.act then
      source:on("ready", function()
         local ok, text, facts = dead_letters[pgcdc.args.act](nil, pgcdc.args.letter)
         print("act", ok, text)
         if facts then print("json " .. pgcdc.json.encode(facts)) end
      end)
   end]]

local function runner(db, script)
   local state = scope.dir "letters" .. "/state.db"
   return function(args)
      return once.ends(0, { dsn = db, state = state, args = args,
                       script = script .. "\n" .. ACT })
   end, state
end

local function facts_of(result)
   for _, line in ipairs(result.lines) do
      if line:find "^json " then
         return json.decode(line:sub(6))
      end
   end
end

local FAILS = [[
   local source = pgcdc.source { table = "t", on_error = %s }
   source:on("change", function(c) print("first", c.key.id) end)
   source:on("change", function(c)
      if c.key.id > 1 and not pgcdc.args.mended then error("boom " .. c.row.name) end
      print("second", c.op, c.key.id, c.row.name, c.id, c.seq, math.type(c.row.id))
   end)
   source:on("change", function(c) print("third", c.key.id) end)]]

-- A letter is there with its position, and delivered to the handler that failed and those after it,
-- as it came from the server; then it is gone.
function TestDeadLetters.test_delivered_again()
   local run = runner(fixtures.names(3), FAILS:format "'dead_letter'")
   local first = run {}
   lu.assertEquals(first.lines[5], "first\t3")
   local list = facts_of(run { act = "list" }).letters
   lu.assertEquals({ #list, list[1].letter, list[2].letter }, { 2, "1", "2" })
   lu.assertStrMatches(list[1].error, ".*script.lua:4: boom n2")
   lu.assertEquals({ list[1].source, list[1].attempts, list[1].can_be_replayed },
      { "public.t", 1, true })
   local shown = facts_of(run { act = "show", letter = 2 }).letters
   lu.assertEquals({ #shown, shown[1].value.row.name, shown[1].value.id },
      { 1, "n3", list[2].change })
   local result = run { act = "replay", letter = 1, mended = 1 }
   lu.assertEquals(#result.lines, 4)
   lu.assertStrMatches(result.lines[1], "second\tread\t2\tn2\t" .. list[1].change
      .. "\t%d+\tinteger")
   lu.assertEquals({ table.unpack(result.lines, 2, 3) },
      { "third\t2", "act\ttrue\tdelivered 1 of 1 dead letters" })
   lu.assertEquals(#facts_of(run { act = "list" }).letters, 1)
   run { act = "replay", mended = 1 }
   lu.assertEquals(run { act = "list" }.lines[1], "act\ttrue\tthere is no dead letter")
end

-- A letter that fails again stays, with the new error; another change of the handler is not called.
function TestDeadLetters.test_failing_again()
   local run = runner(fixtures.names(2), FAILS:format "{ otherwise = 'dead_letter' }")
   run {}
   lu.assertEquals(run { act = "replay" }.lines[1], "act\tfalse\tdelivered 0 of 1 dead letters")
   local list = facts_of(run { act = "list" }).letters
   lu.assertEquals({ #list, list[1].attempts }, { 1, 2 })
   lu.assertEquals(run { act = "show", letter = 9 }.lines[1],
      "act\tfalse\tthere is no dead letter 9")
   lu.assertEquals(run { act = "purge" }.lines[1], "act\ttrue\tremoved 1 dead letters")
   lu.assertEquals(#facts_of(run { act = "list" }).letters, 0)
end

-- What a handler has put into a change before it failed is in the letter; values of any bytes too.
function TestDeadLetters.test_changed_changes()
   local db = cluster.main():database()
   db:exec [[create table t (id int primary key, raw bytea);
      insert into t values (1, '\xff00'), (2, null)]]
   local run = runner(db, [[
      local source = pgcdc.source { table = "t", on_error = "dead_letter" }
      source:on("change", function(c) if c.key.id == 2 then c.row.raw = "by hand" end end)
      source:on("change", function(c)
         if not pgcdc.args.mended then error "boom" end
         print(c.key.id, #c.row.raw, c.row.raw == "\xff\0" or c.row.raw)
      end)]])
   run {}
   local result = run { act = "replay", mended = 1 }
   lu.assertEquals({ result.lines[1], result.lines[2] }, { "1\t2\ttrue", "2\t7\tby hand" })
end

-- Into an exact sink each letter comes once, whenever the program is killed.
function TestDeadLetters.test_once_across_kills()
   local db, target = fixtures.names(3), cluster.main():database()
   local script = ([[
      local raw = require "pgcdc.raw"
      local source = pgcdc.source { table = "t", on_error = "dead_letter" }
      local mirror = pgcdc.sinks.postgres { connect = %q, table = "u", mode = "append" }
      source:map(function(c)
         if not pgcdc.args.mended then error "boom" end
         return c
      end):sink(mirror)
      local left = tonumber(pgcdc.args.die or 99)
      local function die()
         left = left - 1
         if left == 0 then os.execute "kill -9 $PPID" end
      end
      for _, name in ipairs { "save", "want_flush" } do
         local f = raw[name]
         raw[name] = function(...)
            die()
            f(...)
            die()
         end
      end]]):format(target:dsn())
   local state = fixtures.state()
   local function run(args, is_killed)
      local result = once.run { dsn = db, state = state, args = args,
         script = script .. "\n" .. ACT }
      lu.assertEquals(result.signal, is_killed and "KILL" or nil, result.stderr)
      return result
   end
   run {}
   lu.assertEquals(#facts_of(run { act = "list", mended = 1 }).letters, 3)
   local kills = 0
   for die = 1, 12 do
      local result = once.run { dsn = db, state = state,
         args = { act = "replay", mended = 1, die = die },
         script = script .. "\n" .. ACT }
      kills = kills + (result.signal and 1 or 0)
      if not result.signal then
         break
      end
   end
   lu.assertTrue(kills >= 4, kills)
   run { act = "replay", mended = 1 }
   lu.assertEquals(connected.rows(target, "select id, count(*) from u group by id order by id"),
      "1 1, 2 1, 3 1")
   lu.assertEquals(#facts_of(run { act = "list", mended = 1 }).letters, 0)
end

-- A row that a target refused goes to that target, when it takes it.
function TestDeadLetters.test_what_a_target_refused()
   local db, target = fixtures.names(3), cluster.main():database()
   target:exec "create table u (id int primary key, name text check (name <> 'n2'))"
   local run = runner(db, ([[
      local source = pgcdc.source { table = "t", on_error = "dead_letter" }
      source:sink(pgcdc.sinks.postgres { connect = %q, table = "u" })
      source:on("change", function(c) print(c.key.id) end)]]):format(target:dsn()))
   run {}
   local list = facts_of(run { act = "list" }).letters
   lu.assertEquals(#list, 1)
   lu.assertStrContains(list[1].error, "u_name_check")
   lu.assertStrContains(list[1].sink, "u")
   run { act = "replay" } -- it is refused again, and is one letter again
   list = facts_of(run { act = "list" }).letters
   lu.assertEquals({ #list, list[1].letter }, { 1, "2" })
   target:exec "alter table u drop constraint u_name_check"
   lu.assertEquals(run { act = "replay" }.lines[1], "act\ttrue\tdelivered 1 of 1 dead letters")
   lu.assertEquals(connected.rows(target, "select id, name from u order by id"), "1 n1, 2 n2, 3 n3")
   lu.assertEquals(#facts_of(run { act = "list" }).letters, 0)
end

return TestDeadLetters
