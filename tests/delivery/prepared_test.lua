-- prepared_test.lua: sinks that store a short text, and what else a target may say.
-- SPDX-License-Identifier: MIT
--
-- Promises: what a target has decides whether a savepoint counts, wherever the program died; a
-- savepoint of another state file is taken if it is whole, and refused if not; a record that a
-- target can never take becomes a dead letter, exactly once; a sink is flushed when it asks.

local files = require "files"
local fixtures = require "fixtures"
local homes = require "homes"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local proxy = require "proxy"
local scope = require "scope"
local wait = require "wait"

local TestPrepared = {}

-- A sink whose target is a file: the short text, then a line "id seq" for each change. A flush is
-- one rename. Dies at the step that is named, in the flush of that number.
local SINK = [[
   local keep = require "pgcdc.delivery.participants"
   local args = pgcdc.args
   local flushes = 0
   local function step(name)
      if name == args.die and flushes == tonumber(args.at or 1) then os.exit(7) end
   end
   local function read(path)
      local file = io.open(path)
      if not file then return nil, "" end
      local text = file:read "l"
      local rest = file:read "a"
      file:close()
      return text ~= "" and text or nil, rest
   end
   local function new_sink(name, more)
      local sink = {name = name, prepares = true, pending = {}, path = args.dir .. "/" .. name}
      function sink:recall() return (read(self.path)) end
      function sink:write(c) table.insert(self.pending, ("%s %s\n"):format(c.key.id, c.seq)) end
      function sink:put(text)
         local _, data = read(self.path)
         local file = io.open(self.path .. ".new", "w")
         file:write(text, "\n", data, table.concat(self.pending))
         file:close()
         step "amid"
         os.rename(self.path .. ".new", self.path)
         self.pending = {}
      end
      function sink:flush(text)
         flushes = flushes + 1
         step "before"
         self:put(text)
         step "after"
      end
      for field, value in pairs(more or {}) do sink[field] = value end
      return sink
   end
]]

local ONE = SINK .. 'pgcdc.source {table = "t"}:sink(new_sink "out")'

local function new_database(n)
   return fixtures.names(n or 3)
end

-- Runs the script over a folder of targets and a state file of its own.
local function new_runs(db, script)
   local runs = { db = db, dir = scope.dir "target", state = fixtures.state(), script = script }
   function runs:run(status, args, more)
      local all = { dir = self.dir }
      for name, value in pairs(args or {}) do
         all[name] = value
      end
      return once.ends(status, { script = self.script, dsn = self.db, state = self.state,
                                 args = all }, more)
   end
   -- What the target has: its text, and the ids in order. The numbers grow.
   function runs:target(name)
      local lines, ids, last = files.lines(self.dir .. "/" .. (name or "out")), {}, 0
      local text = table.remove(lines, 1)
      for _, line in ipairs(lines) do
         local id, seq = line:match "^(%d+) (%d+)$"
         seq = math.tointeger(seq)
         lu.assertTrue(seq > last, line)
         last = seq
         ids[#ids + 1] = id
      end
      return text, table.concat(ids, " "), ids
   end
   return runs
end

-- The program dies before, in and after each flush: all comes, each once.
function TestPrepared.test_dies_at_each_step()
   for die, again in pairs { before = 7, amid = 7, after = 0 } do
      local db = new_database(3)
      local runs = new_runs(db, ONE)
      runs:run(7, { die = die })
      runs:run(again, { die = die })
      db:exec "insert into t values (4, 'n4'); update t set name = 'new' where id = 2"
      runs:run(7, { die = die })
      runs:run(0)
      local text, _, ids = runs:target()
      table.sort(ids)
      lu.assertEquals(table.concat(ids, " "), die == "after" and "1 2 2 3 4" or "1 2 3 4", die)
      lu.assertStrMatches(text, '{"owner":"%x+","savepoint":.*,"serial":%d+,"sha256":"%x+"}')
      lu.assertTrue(#text <= 3500)
   end
end

-- So with savepoints that the target has no room for.
local BIG = SINK .. [[
   local big = pgcdc.state "big"
   big.count = big.count or 0
   if args.count then print(big.count) end
   pgcdc.source {table = "t", on_change = function()
      big.count = big.count + 1
      for i = 1, 100 do big["key" .. i] = ("x"):rep(60) .. big.count end
   end}:sink(new_sink "out")]]

function TestPrepared.test_big_savepoints()
   for die, again in pairs { before = 7, after = 0 } do
      local db = new_database(3)
      local runs = new_runs(db, BIG)
      runs:run(7, { die = die })
      runs:run(again, { die = die })
      db:exec "insert into t values (4, 'n4')"
      runs:run(7, { die = die })
      runs:run(0)
      db:exec "insert into t values (5, 'n5')"
      local result = runs:run(0, { count = "yes" })
      local text, ids = runs:target()
      lu.assertEquals(ids, "1 2 3 4 5", die)
      lu.assertEquals(result.stdout, "4\n")
      lu.assertStrMatches(text, '{"owner":"%x+","serial":%d+,"sha256":"%x+"}')
   end
end

-- The program dies when the target has a flush, and the next one brings more: what the script keeps
-- counts both, though it was loaded before the target was asked.
local STATES = SINK .. [[
   local count, sum, by = pgcdc.state "count", nil, {}
   local t = pgcdc.source {table = "t", on_change = function() count.n = (count.n or 0) + 1 end}
   t:sink(new_sink("out", {prepares = args.short == "yes"}))
   t:accumulate(function(n) return n + 1 end, {start = 0, persist = "sum"})
      :sink(function(n) sum = n end)
   t:reduce_by(function(c) return c.key.id % 2 end, function(n) return n + 1 end,
      {start = 0, persist = "by"}):sink(function(x) by[x.key] = x.state end)
   t:on("batch", function() print(count.n, sum, by[0], by[1]) end)]]

function TestPrepared.test_states_that_only_the_target_has()
   for _, short in ipairs { "yes", "no" } do
      local db = new_database(4)
      local runs = new_runs(db, STATES)
      runs:run(7, { die = "after", short = short })
      db:exec "insert into t values (5, 'n5'), (6, 'n6')"
      lu.assertEquals(runs:run(0, { short = short }).stdout, "6\t6\t3\t3\n", short)
      db:exec "insert into t values (7, 'n7'), (8, 'n8')"
      lu.assertEquals(runs:run(0, { short = short }).stdout, "8\t8\t4\t4\n", short)
   end
end

-- The target is restored from an older copy: what it lacks comes again, and nothing else.
function TestPrepared.test_target_goes_back()
   local db = new_database(3)
   local runs = new_runs(db, ONE)
   runs:run(0)
   local old = files.text(runs.dir .. "/out")
   db:exec "insert into t values (4, 'n4')"
   runs:run(0)
   files.write(runs.dir .. "/out", old)
   local result = runs:run(0)
   lu.assertStrContains(result.text, "the target is older than the state file: going on")
   lu.assertEquals(select(2, runs:target()), "1 2 3 4")
   runs:run(0)
   lu.assertEquals(select(2, runs:target()), "1 2 3 4")
end

-- So where the older copy has no whole savepoint: then the table is read again.
function TestPrepared.test_target_goes_back_far()
   local db = new_database(2)
   local runs = new_runs(db, BIG)
   runs:run(0)
   local old = files.text(runs.dir .. "/out")
   db:exec "insert into t values (4, 'n4')"
   runs:run(0)
   files.write(runs.dir .. "/out", old)
   local result = runs:run(7, { die = "before" })
   lu.assertStrContains(result.text, "the target is older than the state file: reading the tables")
   runs:run(0)
   lu.assertEquals(select(2, runs:target()), "1 2 1 2 4")
end

-- A new state file goes on from the savepoint that the target has, if that is all.
function TestPrepared.test_state_file_lost()
   local db = new_database(3)
   local runs = new_runs(db, ONE)
   runs:run(0)
   runs.state = fixtures.state()
   db:exec "insert into t values (4, 'n4')"
   runs:run(7, { die = "before" })
   runs:run(0)
   lu.assertEquals(select(2, runs:target()), "1 2 3 4")
   -- what is not whole, or has no states, is not taken
   runs = new_runs(db, BIG)
   runs:run(0)
   runs.state = fixtures.state()
   local result = runs:run(4)
   lu.assertStrContains(result.text, "sink 'out': savepoint 1 was prepared by another state file: "
      .. "name it by --state, or --reset")
   runs = new_runs(db, ONE)
   runs:run(0)
   runs.state = fixtures.state()
   runs.script = ONE .. ' pgcdc.state "mine"'
   lu.assertStrContains(runs:run(4).text, "the states of the script are only there")
end

local TWO_SOURCES = SINK .. [[
   local sink = new_sink "out"
   for _, name in ipairs {"t", "u"} do pgcdc.source {table = name}:sink(sink) end]]

-- All sources of a sink go back with it, also one that brought nothing last.
function TestPrepared.test_target_of_two_sources_goes_back()
   local db = new_database(2)
   db:exec "create table u (id int primary key)"
   local runs = new_runs(db, TWO_SOURCES)
   runs:run(0)
   local old = files.text(runs.dir .. "/out")
   db:exec "insert into u values (11)"
   runs:run(0)
   db:exec "insert into t values (3, 'n3')"
   runs:run(0)
   files.write(runs.dir .. "/out", old)
   runs:run(0)
   local _, _, ids = runs:target()
   table.sort(ids)
   lu.assertEquals(table.concat(ids, " "), "1 11 2 3")
end

-- A savepoint has the positions of all its sources.
function TestPrepared.test_state_file_of_two_sources_lost()
   local db = new_database(2)
   db:exec "create table u (id int primary key); insert into u values (11), (12)"
   local runs = new_runs(db, TWO_SOURCES)
   runs:run(0)
   db:exec "insert into t values (3, 'n3')"
   runs:run(0)
   runs.state = fixtures.state()
   db:exec "insert into u values (13)"
   runs:run(0)
   local _, _, ids = runs:target()
   table.sort(ids)
   lu.assertEquals(table.concat(ids, " "), "1 11 12 13 2 3")
end

-- Also if one of them has not reached its server yet, and so has no name.
function TestPrepared.test_state_file_lost_before_a_server_was_reached()
   local db = new_database(2)
   db:exec "create table u (id int primary key); insert into u values (11), (12)"
   local runs = new_runs(db, SINK .. [[local sink = new_sink "out"
      pgcdc.source {table = "t"}:sink(sink)
      pgcdc.source {table = "u", connect = args.connect}:sink(sink)]])
   local between = proxy.new(db)
   runs:run(0, { connect = between:dsn() })
   between:fault("swallow", "down", 0, true)
   db:exec "insert into t values (3, 'n3')"
   local p = program.start { script = runs.script, dsn = db, state = runs.state,
                             args = { dir = runs.dir, connect = between:dsn() } }
   wait.until_(function() return #select(3, runs:target()) == 5 end, 20, "the new row")
   p:kill9()
   runs.state = fixtures.state()
   db:exec "insert into u values (13)"
   runs:run(0, { connect = db:dsn() })
   local _, _, ids = runs:target()
   table.sort(ids)
   lu.assertEquals(table.concat(ids, " "), "1 11 12 13 2 3")
end

-- An older state file: the target has what another one wrote since.
function TestPrepared.test_state_file_restored()
   local db = new_database(3)
   local runs = new_runs(db, ONE)
   runs:run(0)
   local old = homes.copy(runs.state)
   db:exec "insert into t values (4, 'n4')"
   runs:run(0)
   db:exec "insert into t values (5, 'n5')"
   runs:run(7, { die = "before" })
   homes.back(runs.state, old)
   db:exec "insert into t values (6, 'n6')"
   lu.assertStrContains(runs:run(0).text, "the target is ahead of the state file")
   lu.assertEquals(select(2, runs:target()), "1 2 3 4 5 6")
end

-- What was reset begins anew, wherever that dies, though the target has a savepoint.
function TestPrepared.test_reset()
   for _, is_lost in ipairs { false, true } do
      local db = new_database(2)
      local runs = new_runs(db, ONE)
      runs:run(0)
      runs:run(0)
      runs.state = is_lost and fixtures.state() or runs.state
      runs:run(7, { die = "before" }, { options = { "--reset" } })
      runs:run(0)
      lu.assertEquals(select(2, runs:target()), "1 2 1 2")
      runs:run(7, { die = "after" }, { options = { "--reset" } })
      runs:run(0)
      local text, ids = runs:target()
      lu.assertEquals(ids, "1 2 1 2 1 2")
      lu.assertStrContains(text, '"serial":3,')
   end
end

-- A target that has forgotten its position is believed to have its data.
function TestPrepared.test_target_forgets()
   local db = new_database(2)
   local runs = new_runs(db, ONE)
   local function forget()
      files.write(runs.dir .. "/out", "\n" .. files.text(runs.dir .. "/out"):match "\n(.*)")
   end
   runs:run(0)
   forget()
   db:exec "insert into t values (3, 'n3')"
   lu.assertStrContains(runs:run(0).text, "going on from that of the state file")
   lu.assertEquals(select(2, runs:target()), "1 2 3")
   db:exec "insert into t values (4, 'n4')"
   runs:run(7, { die = "after" })
   forget()
   lu.assertStrContains(runs:run(0).text, "may be there twice")
   lu.assertEquals(select(2, runs:target()), "1 2 3 4 4")
end

-- Another target of the same name is not the one that has the data.
function TestPrepared.test_another_target()
   local db = new_database(1)
   local runs = new_runs(db, SINK .. [[
      local function identify() return args.id end
      pgcdc.source {table = "t"}:sink(new_sink("out", {identify = identify}))]])
   runs:run(0, { id = "one" })
   lu.assertStrContains(runs:run(4, { id = "two" }).text,
      "sink 'out': the target is two, and the state file is of one")
   runs:run(0, { id = "one" })
end

-- An answer that is lost: the flush is there, or not, and later flushes find out. It dies then.
local DOUBT = SINK .. [[
   local sink = new_sink "out"
   local sent, fails = nil, tonumber(args.fails)
   function sink:ask()
      if sent and (read(self.path)) == sent then self.pending = {} end
      sent = nil
   end
   function sink:recall() self:ask() return (read(self.path)) end
   local put = sink.put
   function sink:put(text)
      if fails > 0 then
         fails = fails - 1
         local pending = self.pending
         if args.how == "there" then put(self, text) self.pending = pending end
         sent = text
         error(keep.later("no answer", 0.001))
      end
      put(self, text)
   end
   pgcdc.source {table = "t"}:sink(sink)]]

function TestPrepared.test_in_doubt()
   for _, how in ipairs { "there", "not there" } do
      for die, status in pairs { never = 0, before = 7, amid = 7, after = 7 } do
         local db = new_database(2)
         local runs = new_runs(db, DOUBT)
         runs:run(status, { how = how, fails = 2, die = die, at = 3 })
         runs:run(0, { how = how, fails = 1 })
         db:exec "insert into t values (3, 'n3')"
         runs:run(0, { how = how, fails = 1 })
         lu.assertEquals(select(2, runs:target()), "1 2 3", how .. " " .. die)
      end
   end
end

-- Two targets that share no transaction: nothing is lost, and what comes again is told.
function TestPrepared.test_two_targets()
   local db = new_database(2)
   local runs = new_runs(db, SINK .. [[
      local t = pgcdc.source {table = "t"}
      t:sink(new_sink "out")
      t:sink(new_sink "other")]])
   runs:run(7, { die = "before", at = 2 }) -- the first one has it
   runs:run(7, { die = "before", at = 1 })
   local result = runs:run(0)
   lu.assertEquals(select(2, runs:target "out"), "1 2 1 2")
   lu.assertEquals(select(2, runs:target "other"), "1 2")
   lu.assertNil(result.text:find "level=error")
end

-- records that a target can never take ---------------------------------------------------------

-- The target refuses the ids that are named.
local PICKY = SINK .. [[
   local sink = new_sink "out"
   local bad = {}
   for id in (args.bad or ""):gmatch "%d+" do bad[id] = true end
   local put = sink.put
   function sink:write(c) table.insert(self.pending, {c.key.id, c.seq, c}) end
   function sink:put(text)
      local refused, rest, lines = {}, {}, {}
      for i, record in ipairs(self.pending) do
         if bad[tostring(record[1])] then
            table.insert(refused, {i, "too large", value = record[3], source = record.source})
         else
            table.insert(rest, record)
            table.insert(lines, ("%s %s\n"):format(record[1], record[2]))
         end
      end
      self.pending = rest
      if #refused > 0 then error(keep.refused(refused)) end
      self.pending = lines
      put(self, text)
   end
   local letters = pgcdc.sinks.jsonl {path = args.dir .. "/letters", name = "letters"}
   pgcdc.source {table = "t", on_error = args.policy,
      dead_letter = args.policy == "dead_letter" and letters or nil}:sink(sink)]]

local function letters_of(runs)
   local ids = {}
   for _, line in ipairs(files.lines(runs.dir .. "/letters")) do
      local letter = json.decode(line)
      lu.assertEquals({ letter.error, letter.attempts, letter.change.row.name },
         { "too large", 1, "n" .. letter.change.key.id })
      ids[#ids + 1] = letter.change.key.id
   end
   return table.concat(ids, " ")
end

-- First, last, alone, all: dead letters come once, whatever dies.
function TestPrepared.test_refused_records()
   for bad, rest in pairs { ["1"] = "2 3", ["3"] = "1 2", ["2"] = "1 3", ["1 2 3"] = "" } do
      local runs = new_runs(new_database(3), PICKY)
      local result = runs:run(0, { bad = bad, policy = "skip" })
      lu.assertEquals(select(2, runs:target()), rest)
      lu.assertStrContains(result.text, "too large")
      lu.assertStrContains(result.text, "skipped")
   end
   for die, at in pairs { before = 2, amid = 2, after = 2 } do
      local db = new_database(3)
      local runs = new_runs(db, PICKY)
      runs:run(7, { bad = "2", policy = "dead_letter", die = die, at = at })
      runs:run(0, { bad = "2", policy = "dead_letter" })
      lu.assertEquals(select(2, runs:target()), "1 3")
      lu.assertEquals(letters_of(runs), "2")
   end
end

-- By default the program stops, and what was refused comes again.
function TestPrepared.test_refused_records_stop()
   local runs = new_runs(new_database(3), PICKY)
   for _ = 1, 2 do
      lu.assertStrContains(runs:run(1, { bad = "2", policy = "stop" }).text, "too large")
   end
   runs:run(0, { policy = "stop" })
   lu.assertEquals(select(2, runs:target()), "1 2 3")
end

-- when a sink asks ---------------------------------------------------------------------------

local ASKING = SINK .. [[
   local sink = new_sink("out", {wants_flush = false, prepares = args.short == nil})
   local write, put = sink.write, sink.put
   local most, n = 0, 0
   function sink:write(c)
      write(self, c)
      self.wants_flush = #self.pending >= 100
      most = math.max(most, #self.pending)
   end
   function sink:put(text)
      n = n + (#self.pending > 0 and 1 or 0)
      put(self, text)
      self.wants_flush = false
   end
   function sink:close() print(most, n) end
   local t = pgcdc.source {table = "t", together = args.together}
   if args.held then
      t:delay(0.01):sink(sink)
   else
      t:sink(sink)
   end]]

-- In the middle of a range and of a poll, and of one transaction; also where it dies.
function TestPrepared.test_a_sink_asks_to_be_flushed()
   local db = new_database(1050)
   local runs = new_runs(db, ASKING)
   lu.assertEquals(runs:run(0).stdout, "100\t11\n")
   db:exec "update t set name = 'new'"
   runs:run(7, { die = "after", at = 4 })
   db:exec "update t set name = 'newer' where id <= 10"
   runs:run(7, { die = "before", at = 4 })
   runs:run(0)
   local _, _, ids = runs:target()
   local counts = {}
   for _, id in ipairs(ids) do
      counts[id] = (counts[id] or 0) + 1
   end
   for i = 11, 1050 do
      lu.assertEquals(counts[tostring(i)], 2)
   end
   for i = 1, 10 do -- a version of a row that was written again may never have come
      local n = counts[tostring(i)]
      lu.assertTrue(n == 2 or n == 3, n)
   end
end

-- Not where operators hold values, or several tables are one batch.
function TestPrepared.test_a_sink_asks_in_vain()
   local db = new_database(300)
   lu.assertEquals(new_runs(db, ASKING):run(0, { together = "x" }).stdout, "300\t1\n")
   local runs = new_runs(db, ASKING)
   runs:run(0, { held = "yes" })
   lu.assertEquals(#select(3, runs:target()), 300)
end

-- descriptors ------------------------------------------------------------------------------------

-- The program waits for a descriptor as for all else.
function TestPrepared.test_watch()
   local path = scope.dir "watch" .. "/fifo"
   lu.assertTrue(os.execute("mkfifo " .. path))
   local p = program.start { dsn = new_database(1), state = fixtures.state(),
      args = { fifo = path }, script = [[
         local raw = require "pgcdc.raw"
         local fifo = io.open(pgcdc.args.fifo, "r+") -- its own writer, so that it never ends
         local fd
         for i = 3, 20 do
            local link = io.popen("readlink /proc/$PPID/fd/" .. i):read "l"
            fd = link == pgcdc.args.fifo and i or fd
         end
         fifo:setvbuf "no"
         raw.watch(fd, function(is_readable, is_writable)
            local line = fifo:read "l"
            print(line, is_readable, is_writable)
            io.flush()
            if line == "end" then raw.watch(fd, nil) pgcdc.stop() end
         end)
         pgcdc.source {table = "t", interval = 60}:sink(function() print "row" io.flush() end)]] }
   p:wait_until(function() return p:stdout() == "row\n" end, 10, "the row")
   files.write(path, "one\n")
   p:wait_until(function() return p:stdout() == "row\none\ttrue\tfalse\n" end, 10, "a line")
   files.write(path, "end\n")
   lu.assertEquals(p:finish().status, 0)
   lu.assertStrContains(p:stdout(), "end\ttrue\tfalse\n")
end

return TestPrepared
