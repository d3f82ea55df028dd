-- holding_test.lua: what operators hold is not saved, nor anything that comes after it.
-- SPDX-License-Identifier: MIT
--
-- Promise: the position advances over the contiguous prefix of finished batches only. After a crash
-- what was held comes again; other branches and unrelated sources stay exact meanwhile.

local fixtures = require "fixtures"
local json = require "json"
local killing = require "killing"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local scope = require "scope"

local TestHolding = {}

local run = once.script

-- A run that is fed one poll at a time.
local function start(db, script, state, args)
   local self = { p = program.start { script = script, dsn = db, state = state, args = args } }
   -- Adds rows in one transaction and waits until "saw <last id>" is printed.
   function self.add(name, ...)
      local values = {}
      for _, row in ipairs { ... } do
         values[#values + 1] = ("(%d, '%s')"):format(row[1], row[2])
      end
      db:exec(("insert into %s values %s"):format(name, table.concat(values, ", ")))
      self.wait(("saw %s %d"):format(name, select(select("#", ...), ...)[1]))
   end
   function self.wait(text)
      self.p:wait_until(function() return self.p:stdout():find(text .. "\n", 1, true) end, 10, text)
   end
   -- Until <n> sources (default 1) have read their tables.
   function self.wait_ready(n)
      self.p:wait_until(function()
         return select(2, self.p:stderr():gsub('msg="?ready', "")) == (n or 1)
      end, 10, "the snapshots")
   end
   return self
end

-- The sources t and u, whose changes are printed as they come.
local T_AND_U = [[
   local t = pgcdc.source {table = "t", name = "t", interval = 0.01}
   local u = pgcdc.source {table = "u", name = "u", interval = 0.01}
   t:on("change", function(c) print("saw t " .. c.key.id) io.flush() end)
   u:on("change", function(c) print("saw u " .. c.key.id) io.flush() end)
]]

-- Prints what it sees, holds pairs of one key.
local PAIRS = [[
   local s = pgcdc.source {table = "t", name = "t", interval = 0.01}
   s:on("change", function(c) print("saw t " .. c.key.id) io.flush() end)
   s:partition(2, {key = "k"}):sink(function(list)
      print("pair " .. list[1].key.id .. " " .. list[2].key.id)
   end)]]

-- What a run with a state prints of t, all in one line.
local function again(db, script, state)
   return (run(db, script, 0, { state = state }).stdout:gsub("\n", ", "))
end

-- After a kill -9 what is held comes again, and so does what came after it, though that was passed
-- on; what came before it does not.
function TestHolding.test_the_contiguous_prefix()
   local db, state = fixtures.t_and_u "k text", fixtures.state()
   local r = start(db, PAIRS, state)
   r.wait_ready()
   r.add("t", { 1, "a" })
   r.add("t", { 2, "a" }) -- 1 and 2 are done
   r.add("t", { 3, "b" }) -- held
   r.add("t", { 4, "c" })
   r.add("t", { 5, "c" }) -- passed on, but after 3
   r.p:kill9()
   lu.assertEquals(again(db, PAIRS, state), "saw t 3, saw t 4, saw t 5, pair 4 5, ")
   r = start(db, PAIRS, state)
   r.wait "saw t 5"
   r.add("t", { 6, "b" }) -- lets 3 go, and with it 4 and 5
   r.add("t", { 7, "d" })
   r.add("t", { 8, "e" })
   r.p:kill9()
   lu.assertStrContains(r.p:stdout(), "pair 3 6\n")
   lu.assertEquals(again(db, PAIRS, state), "saw t 7, saw t 8, ")
   -- letting 8 go does not let 7 go
   r = start(db, PAIRS, state)
   r.wait "saw t 8"
   r.add("t", { 9, "e" })
   r.p:kill9()
   lu.assertEquals(again(db, PAIRS, state), "saw t 7, saw t 8, saw t 9, pair 8 9, ")
end

-- The same within one poll, and for a stop by signal, which does not wait for what is held.
function TestHolding.test_a_stop()
   local db, state = fixtures.t_and_u "k text", fixtures.state()
   db:exec "insert into t values (1, 'a'), (2, 'a'), (3, 'b'), (4, 'a')"
   for _ = 1, 2 do
      local r = start(db, PAIRS, state)
      r.wait "saw t 4"
      lu.assertEquals(r.p:stop().status, 0)
      lu.assertEquals(r.p:stdout(), "saw t 1\nsaw t 2\npair 1 2\nsaw t 3\nsaw t 4\n")
   end
   db:exec "insert into t values (5, 'a'), (6, 'b')"
   again(db, PAIRS, state)
   lu.assertEquals(again(db, PAIRS, state), "")
end

-- --once waits for windows, so that nothing comes again; a stop by signal does not wait.
function TestHolding.test_once_waits_for_windows()
   local db, state = fixtures.t_and_u "k text", fixtures.state()
   db:exec "insert into t select i, 'x' from generate_series(1, 5) i"
   local script = [[
      local s = pgcdc.source {table = "t", interval = 0.01}
      s:timed_window(tonumber(pgcdc.args.seconds)):sink(function(list) print(#list) end)
      s:delay(0.05):sink(function(c) print("delayed", c.key.id) end)]]
   local p = program.start { script = script, dsn = db, state = state, args = { seconds = 60 } }
   p:wait_until(function() return p:stdout():find "delayed\t5" end, 10, "all delayed")
   local result = p:stop("TERM", 5)
   lu.assertEquals(result.status, 0)
   lu.assertNotStrContains(result.stdout, "\n5\n")
   result = run(db, script, 0, { state = state, args = { seconds = 0.2 } })
   lu.assertStrContains(result.stdout, "\n5\n")
   lu.assertEquals(run(db, script, 0, { state = state, args = { seconds = 0.2 } }).stdout, "")
end

-- What one source's operators hold does not keep the position of another from being saved, unless
-- they have something in common.
function TestHolding.test_other_sources()
   local db = fixtures.t_and_u "k text"
   for _, shared in ipairs { false, true } do
      local state = fixtures.state()
      db:exec "truncate t, u"
      local script = T_AND_U .. [[
         t:partition(2):sink(print)]]
      if shared then
         script = script .. [[
            local both = {write = function() end}
            t:sink(both)
            u:sink(both)]]
      end
      local r = start(db, script, state)
      r.wait_ready(2)
      r.add("t", { 1, "x" })
      r.add("u", { 1, "x" })
      r.add("u", { 2, "x" }) -- now 1 of u is saved
      r.p:kill9()
      local got = again(db, script, state)
      lu.assertStrContains(got, "saw t 1")
      lu.assertEquals(got:find "saw u 1" ~= nil, shared)
   end
end

-- Two groups of sources become one while both hold something: what is let go of one of them must
-- not carry the other's position along.
function TestHolding.test_sources_that_meet_while_both_are_held()
   local db, state = fixtures.t_and_u "k text", fixtures.state()
   local script = T_AND_U .. [[
      local both = {name = "both", write = function() end, flush = function() end}
      u:partition(3):sink(function() print "never" end)      -- holds u for long
      u:filter(function(c) return c.row.k == "go" end):sink(both)
      t:partition(2):sink(both)]]
   local r = start(db, script, state)
   r.wait_ready(2)
   r.add("u", { 1, "held" })
   r.add("t", { 1, "held" })
   r.add("u", { 2, "go" }) -- the sink meets u
   r.add("t", { 2, "go" }) -- the sink meets t, and 1 and 2 of t are let go
   r.add("t", { 3, "held" })
   r.p:kill9()
   local got = again(db, script, state)
   lu.assertStrContains(got, "saw u 1")
   lu.assertStrContains(got, "saw u 2")
   lu.assertStrContains(got, "saw t 3")
end

-- A zip of two sources holds whichever is ahead.
function TestHolding.test_zip()
   local db, state = fixtures.t_and_u "k text", fixtures.state()
   local script = T_AND_U .. [[
      t:zip(u):sink(function(x) print("zip " .. x[1].key.id .. " " .. x[2].key.id) end)]]
   local r = start(db, script, state)
   r.wait_ready(2)
   r.add("t", { 1, "x" })
   r.add("t", { 2, "x" })
   r.add("u", { 1, "x" }) -- 1 with 1; 2 of t is held
   r.add("u", { 2, "x" }) -- 2 with 2; nothing is held
   r.add("u", { 3, "x" }) -- held
   r.p:kill9()
   lu.assertStrContains(r.p:stdout(), "zip 2 2\n")
   lu.assertEquals(again(db, script, state), "saw u 3, ")
end

-- An operator that is made by hand holds as the built-in ones do; what it holds is let go with it.
function TestHolding.test_an_operator_made_by_hand()
   local db, state = fixtures.t_and_u "k text", fixtures.state()
   local script = [[
      local hold, stream = require "pgcdc.delivery.lineage", require "pgcdc.stream.stream"
      stream.operator("keep_odd", function(node)
         local queue = {}
         node.input = function(c)
            if c.key.id % 2 == 1 then
               queue[#queue + 1] = {c, hold.retain()}
               return
            end
            while queue[1] do
               hold.emit(queue[1][2], node.out, queue[1][1])
               table.remove(queue, 1)
            end
            node.out(c)
         end
         node.forget = function()
            for _, entry in ipairs(queue) do hold.release(entry[2]) end
            queue = {}
         end
      end)
      local s = pgcdc.source {table = "t", name = "t", interval = 0.01}
      s:on("change", function(c) print("saw t " .. c.key.id) io.flush() end)
      local odd = s:keep_odd()
      odd:sink(function(c) print("out " .. c.key.id) end)
      s:on("change", function(c) if c.row.k == "destroy" then odd:destroy() end end)]]
   local r = start(db, script, state)
   r.wait_ready()
   r.add("t", { 1, "x" })
   r.add("t", { 2, "x" })
   r.add("t", { 3, "x" })
   r.add("t", { 5, "x" })
   r.p:kill9()
   lu.assertStrContains(r.p:stdout(), "out 1\nout 2\n")
   lu.assertEquals(again(db, script, state), "saw t 3, saw t 5, ")
   r = start(db, script, state)
   r.wait "saw t 5"
   r.add("t", { 6, "destroy" })
   r.add("t", { 7, "x" })
   r.p:stop()
   lu.assertEquals(again(db, script, state), "")
end

-- The same without a database, as the host calls it: a moment in the middle of a batch of t, of
-- which something is held, comes before what is passed on later in that batch. It must not be saved
-- when that is let go, should the positions of then not be known.
function TestHolding.test_a_moment_in_the_middle_of_a_batch()
   local result = program.run { state = false, dsn = "host=/nonexistent", script = [[
      local raw, hold = require "pgcdc.raw", require "pgcdc.delivery.lineage"
      local keep = require "pgcdc.delivery.participants"
      local failure, source = require "pgcdc.delivery.on_error", require "pgcdc.stream.source"
      function raw.save(records)
         for _, r in ipairs(records) do print(r[1], r[2], r[4]) end
      end
      local t, u = pgcdc.source {table = "t", name = "t"}, pgcdc.source {table = "u", name = "u"}
      local n = 0
      local both = {name = "both", write = function() n = n + 1 end}
      function both.flush() return n end
      t:partition(2):sink(both)
      u:sink(both)
      local function deliver(s, seq, x)
         hold.enter(s.number, seq)
         s:emit(x)
         hold.leave()
      end
      local function settle(s, positions, is_moment)
         print("settle", s.name)
         local function position(text)
            return text and {text = text, last_change = 0}
         end
         local list = positions and {[t.number] = position(positions.t),
                                     [u.number] = position(positions.u)}
         failure.checkpoint(source.by_number(s.number), list,
            {[t.number] = true, [u.number] = true}, is_moment)
      end
      deliver(t, 1, "a") deliver(t, 1, "b")    -- the sink meets t
      settle(t, {t = "t1"}, true)
      deliver(u, 1, "c")                       -- and u
      settle(u, {u = "u1"}, true)
      deliver(t, 2, "d")                       -- held
      deliver(u, 2, "e")
      settle(u, {t = "t1 and d", u = "u2"}, true)
      deliver(u, 3, "f")                       -- in the middle of what cannot be cut
      deliver(t, 2, "g")                       -- lets d go
      settle(t, nil, false)
      settle(t, nil, true)                     -- the end of that batch
      deliver(t, 3, "h")                       -- held
      settle(t, nil, true)
      deliver(t, 4, "i")
      settle(t, {t = "t4", u = "u3"}, true)
      os.exit(0)]] }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.stdout:gsub("\n", ", "), "settle\tt, sink\tboth\t1, position\tt\tt1, "
      .. "settle\tu, sink\tboth\t2, position\tu\tu1, settle\tu, settle\tt, settle\tt, "
      .. "settle\tt, settle\tt, sink\tboth\t6, position\tt\tt4, position\tu\tu3, ")
end

-- SIGKILL at random ----------------------------------------------------------------------------

-- The lines of a file, as a list and how often each of them is there.
local function read_lines(path)
   local list, count = {}, {}
   for line in io.lines(path) do
      list[#list + 1] = line
      count[line] = (count[line] or 0) + 1
   end
   return list, count
end

-- One branch holds: windows and partitions. Another one writes a file, and counts. Nothing that was
-- held is lost; the other branch has each change once, and the count is that of its lines. What the
-- windows pass on goes to a file as well, each at least once.
function TestHolding.test_kills()
   local db, dir = fixtures.t_and_u "k text", scope.dir()
   local conn = db:connection()
   conn:exec "insert into t select i, i % 7 from generate_series(1, 1000) i"
   local _, kills = killing.run { dsn = db, stops = true, state = dir .. "/state.db",
      args = { dir = dir }, options = { "--log-level=warn" }, life = 0.5,
      script = killing.file_sink .. [[
         local st = pgcdc.state "n"
         local s = pgcdc.source {table = "t", name = "t", interval = 0.01}
         s:on("change", function(c) st.n = (st.n or 0) + 1 end)
         local ids = s:map(function(c) return c.key.id end)
         ids:sink(file_sink(pgcdc.args.dir .. "/all", "all"))
         local function ids_of(list)
            local texts = {}
            for i, x in ipairs(list) do texts[i] = type(x) == "table" and x.key.id or x end
            return table.concat(texts, " ")
         end
         ids:timed_window(0.03):map(ids_of):sink(file_sink(pgcdc.args.dir .. "/windows", "windows"))
         s:partition(5, {key = "k", timeout = 0.05}):map(ids_of)
            :sink(file_sink(pgcdc.args.dir .. "/parts", "parts"))
         ids:delay(0.02):sink(file_sink(pgcdc.args.dir .. "/delayed", "delayed"))]],
      write = function(n)
         native.sleep(0.002)
         conn:exec(("insert into t select i, i %% 7 from generate_series(%d, %d) i"):format(
            10000 + n * 100, 10000 + n * 100 + math.random(0, 20)))
      end }
   lu.assertTrue(kills >= 3, kills)
   local rows = db:exec "select id from t"
   local all, count = read_lines(dir .. "/all")
   for _, row in ipairs(rows) do
      lu.assertEquals(count[row[1]], 1, killing.seed())
   end
   lu.assertEquals(#all, #rows, killing.seed())
   for _, name in ipairs { "windows", "parts", "delayed" } do
      local seen = {}
      for _, line in ipairs((read_lines(dir .. "/" .. name))) do
         for id in line:gmatch "%d+" do
            seen[id] = true
         end
      end
      for _, row in ipairs(rows) do
         lu.assertTrue(seen[row[1]], ("%s: %s lacks %s"):format(killing.seed(), name, row[1]))
      end
   end
   local st = json.decode(run(db, [[print(pgcdc.json.encode(pgcdc.state "n"))]], 0,
      { state = dir .. "/state.db" }).lines[1])
   lu.assertEquals(st.n, #rows, killing.seed())
end

-- What is let go by a timer when nothing else is held is exact: each value is in the file once.
function TestHolding.test_kills_of_a_delay_that_is_alone()
   local db, dir = fixtures.t_and_u "k text", scope.dir()
   local conn = db:connection()
   local _, kills = killing.run { dsn = db, stops = true, state = dir .. "/state.db", seconds = 3,
      args = { dir = dir }, options = { "--log-level=warn" }, life = 0.3,
      script = killing.file_sink .. [[
         local s = pgcdc.source {table = "t", name = "t", interval = 0.05}
         s:timed_window(0.01):flatten():map(function(c) return c.key.id end)
            :sink(file_sink(pgcdc.args.dir .. "/all", "all"))]],
      write = function(n)
         conn:exec(("insert into t values (%d, 'x'), (%d, 'y')"):format(2 * n, 2 * n + 1))
      end }
   lu.assertTrue(kills >= 3, kills)
   local rows = db:exec "select id from t"
   local all, count = read_lines(dir .. "/all")
   for _, row in ipairs(rows) do
      lu.assertEquals(count[row[1]], 1, killing.seed() .. " id " .. row[1])
   end
   lu.assertEquals(#all, #rows, killing.seed())
end

return TestHolding
