-- seq_test.lua: the numbers of changes, which only grow.
-- SPDX-License-Identifier: MIT
--
-- Promises: change.seq is greater than that of every change that was delivered before, over kills,
-- restarts, --reset, clocks that are set back, lost and older state files; whatever is made of a
-- change keeps it; another try has the same.

local files = require "files"
local fixtures = require "fixtures"
local homes = require "homes"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local scope = require "scope"

local TestSeq = {}

local function new_database(n)
   return fixtures.names(n or 3)
end

-- Prints each number at once, so that one that was delivered is known.
local SCRIPT = [[
   pgcdc.source {table = "t", deletes = pgcdc.args.deletes == "yes"}
      :on("change", function(c) io.write(c.seq, "\n") io.flush() end)]]

-- The highest number that a run printed; they grow, and the first one is greater than `last`. Lines
-- that were cut do not count.
local function highest(result, last)
   for text in result.stdout:gmatch "(%d+)\n" do
      local seq = math.tointeger(text)
      lu.assertTrue(seq > last and seq < 1 << 53, ("%d after %d"):format(seq, last))
      last = seq
   end
   return last
end

-- Runs the script with a clock that is wrong by so many seconds.
local function run_at(db, state, seconds, more)
   local env = { SABOTAGE_CLOCK = tostring(seconds) }
   for name, value in pairs(more and more.env or {}) do
      env[name] = value
   end
   return program.run { script = more and more.script or SCRIPT, dsn = db, state = state,
      binary = program.binary() .. "-sabotaged", env = env, args = more and more.args,
      options = { "--once", more and more.option } }
end

-- Killed at one step after the other of what it does with its state, with a clock that is set back
-- by an hour each time: before it delivers, and before that is saved. (Where the state is in a
-- database a step of SQLite is one of a copy: what counts goes by libpq.)
function TestSeq.test_grows_when_killed_at_each_step()
   local db, state = new_database(3), fixtures.state()
   local class = homes.are_databases and "postgres" or "sqlite files"
   local last = highest(run_at(db, state, 0), 0)
   local delivered, steps = { [false] = 0, [true] = 0 }, {}
   local log = scope.dir "steps" .. "/log"
   for i = -1, 18 do
      db:exec(("update t set name = name || %d; delete from t where id = %d; "
         .. "insert into t values (%d, 'new')"):format(i, i, i + 10))
      local is_odd = i % 2 == 1
      local is_whole = i < 1 -- how many steps are there?
      local stride = homes.are_databases and 3 or (steps[is_odd] or 0) // 16
      local result = run_at(db, state, -3600 * i, { args = { deletes = is_odd and "yes" },
         env = { SABOTAGE_CLASS = class, SABOTAGE_HOW = not is_whole and "kill",
                 SABOTAGE_LOG = is_whole and log,
                 SABOTAGE_STEP = steps[is_odd] and tostring(steps[is_odd] - stride * (i // 2)) } })
      if is_whole then
         steps[is_odd] = math.tointeger(tonumber(files.text(log):match "(%d+)\n$"))
      elseif result.signal and result.stdout ~= "" then
         delivered[is_odd] = delivered[is_odd] + 1
      end
      last = highest(result, last)
   end
   lu.assertTrue(delivered[true] > 2 and delivered[false] > 2,
      delivered[true] .. " " .. delivered[false])
end

-- --reset, an older state file (the clock goes on), a lost one.
function TestSeq.test_other_state_files()
   local db, state = new_database(3), fixtures.state()
   local last = highest(run_at(db, state, 0), 0)
   local old = homes.copy(state)
   last = highest(run_at(db, state, -3600, { option = "--reset" }), last)
   last = highest(run_at(db, state, -7200, { option = "--reset=t" }), last)
   db:exec "update t set name = 'older'"
   homes.back(state, old)
   last = highest(run_at(db, state, 0), last)
   last = highest(run_at(db, fixtures.state(), 0), last)
   for _ = 1, 8 do -- many kills carry it no more than a second ahead of the clock
      run_at(db, state, 0, { option = "--reset", env = { SABOTAGE_CLASS = "sqlite files",
         SABOTAGE_HOW = "kill", SABOTAGE_STEP = "120" } })
   end
   last = highest(run_at(db, state, 0, { option = "--reset" }), last)
   highest(run_at(db, fixtures.state(), 2), last)
end

-- A state file of a version that kept no number goes on.
function TestSeq.test_old_state_file()
   local db, state = new_database(3), fixtures.state()
   local last = highest(run_at(db, state, 0), 0)
   homes.forget(state, "seq")
   db:exec "update t set name = 'x' where id = 2"
   local result = run_at(db, state, 0)
   lu.assertEquals(#result.lines, 1)
   highest(result, last)
end

-- It is the clock's time, but for what comes faster.
function TestSeq.test_is_a_time()
   local before = os.time() * 1000000
   local seq = highest(once.ok { script = SCRIPT, dsn = new_database(5) }, before)
   lu.assertTrue(seq < (os.time() + 2) * 1000000)
end

-- Another try, a dead letter and what is copied have the same; what is shaped keeps it.
function TestSeq.test_the_same_change()
   local result = once.ends(0, { dsn = new_database(2), script = [[
      local raw = require "pgcdc.raw"
      local first = {}
      local t = pgcdc.source {table = "t", old = true, deletes = true,
         on_error = {retry = 2, wait = 0.001, otherwise = "dead_letter"},
         dead_letter = function(letter)
            print("letter", letter.change.seq == first[letter.change.key.id])
         end}
      t:on("change", function(c)
         if first[c.key.id] then print("again", c.seq == first[c.key.id]) end
         first[c.key.id] = c.seq
         if c.key.id == 2 then error "no" end
      end)
      local function show(what, stream)
         stream:sink(function(c)
            if c.key.id == 1 then print(what, c.seq == first[1], (tostring(c):match '"seq":(%d+)')
               == tostring(c.seq)) end
         end)
      end
      show("select", t:select {"id"})
      show("drop", t:drop {"name"})
      show("rename", t:rename {name = "n"})
      show("add", t:add {more = function() return 1 end})
      show("mask", t:mask {name = "redact"})
      show("delete", t:map(raw.change_delete))
      show("clone", t:map(raw.clone))
      show("copy", t:map(function(c) return pgcdc.change {op = "upsert", table = "x", key = c.key,
         row = c.row, seq = c.seq} end))]] })
   local lines = result.lines
   lu.assertEquals({ lines[1], lines[2], lines[3], lines[4], lines[5], lines[6], lines[7],
                     lines[8] }, { "select\ttrue\ttrue", "drop\ttrue\ttrue", "rename\ttrue\ttrue",
      "add\ttrue\ttrue", "mask\ttrue\ttrue", "delete\ttrue\ttrue", "clone\ttrue\ttrue",
      "copy\ttrue\ttrue" })
   lu.assertEquals({ lines[9], lines[10], lines[11], #lines },
      { "again\ttrue", "again\ttrue", "letter\ttrue", 11 })
end

-- Where it stands, and what has none.
function TestSeq.test_formats()
   local dir = scope.dir "out"
   local result = once.ok { dsn = new_database(1), args = { dir = dir }, script = [[
      local t = pgcdc.source {table = "t"}
      t:sink(print)
      t:sink(pgcdc.sinks.csv {path = pgcdc.args.dir .. "/csv", meta = {"op", "seq"}})
      t:debezium():sink(function(e) print(e.source.sequence) end)
      t:cloudevents():sink(function(e) print(e.sequence) end)
      t:sink(function(c)
         local names = {}
         for name in pairs(c) do names[#names + 1] = name end
         print(table.concat(names, " "))
         local hand = pgcdc.change {op = "delete", table = "x", key = {id = 1}}
         print(hand.seq, tostring(hand):match '"seq":null' ~= nil)
         print(select(2, pcall(pgcdc.change, {op = "delete", table = "x", key = {id = 1},
            seq = "1"})):match "%d+: (.*)")
         for event in pairs {debezium = 1, cloudevents = 1} do
            local s = pgcdc.stream {}
            s[event](s):sink(function(e) print(e.sequence, e.source.sequence) end)
            if event == "debezium" then s:emit(hand) end
         end
         c.seq = 7
         print(tostring(c):match '"seq":7,"ts"' ~= nil)
      end)]] }
   local change = json.decode(result.lines[1])
   lu.assertEquals(math.type(change.seq), "integer")
   lu.assertStrMatches(result.lines[1], '.*,"xid":%d+,"seq":%d+,"ts":".*')
   lu.assertEquals(files.text(dir .. "/csv"), ("op,seq,id,name\nread,%d,1,n1\n"):format(change.seq))
   lu.assertEquals({ table.unpack(result.lines, 2) }, { tostring(change.seq), tostring(change.seq),
      "op schema table source key row xid seq ts id", "nil\ttrue",
      "pgcdc.change: seq must be a whole number", "nil\tnil", "true" })
end

-- No two changes have one, of several sources or of some that are read together; in each they grow.
function TestSeq.test_several_sources()
   for _, together in ipairs { "", ", together = 'x'" } do
      local db = new_database(500)
      db:exec "create table u as select * from t; alter table u add primary key (id)"
      local result = once.ok { dsn = db, script = ([[
         for _, name in ipairs {"t", "u"} do
            pgcdc.source {table = name%s}:sink(function(c) print(name, c.seq) end)
         end]]):format(together) }
      local seen, last = {}, { t = 0, u = 0 }
      for _, line in ipairs(result.lines) do
         local name, seq = line:match "^(%a)\t(%d+)$"
         seq = math.tointeger(seq)
         lu.assertTrue(seq > last[name] and not seen[seq], line)
         last[name], seen[seq] = seq, true
      end
      lu.assertEquals(#result.lines, 1000)
   end
end

return TestSeq
