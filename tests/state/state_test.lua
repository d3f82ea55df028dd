-- state_test.lua: pgcdc.state, a table that is saved with the positions, exactly.
-- SPDX-License-Identifier: MIT
--
-- Promise: what a script keeps there is after any crash what it was when the last batch that is
-- saved had ended: a count is the count of what was delivered, whatever was killed and when.

local files = require "files"
local fixtures = require "fixtures"
local homes = require "homes"
local json = require "json"
local killing = require "killing"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local scope = require "scope"

local TestState = {}

local function database(n)
   return fixtures.t_and_u("v int not null", "0", n)
end

local run = once.script

-- values ---------------------------------------------------------------------------------------

-- Whatever has a JSON comes back as it was, in the main chunk already; keys too.
function TestState.test_values()
   local db, state = database(1), fixtures.state()
   local script = [[
      local st = pgcdc.state "all"
      local values = {
         text = "a \n \"\0 é \127", empty = "", yes = true, no = false, null = pgcdc.null,
         int = 42, big = math.maxinteger, small = math.mininteger, float = 1.0, half = -0.5,
         huge = 1e300, tiny = 5e-324, third = 1/3, object = {a = {b = {c = {1, 2, {}}}}},
         list = {1, "two", false, {3}}, none = pgcdc.array {}, nested = {{{{}}}},
         [""] = "no key", ["\xff"] = "no text", ["key \n\t\0 é"] = "odd key", ["1"] = "text one",
      }
      local n, same = 0, 0
      for name, value in pairs(st) do
         n = n + 1
         local want = values[name]
         if pgcdc.json.encode(value) == pgcdc.json.encode(want)
            and math.type(value) == math.type(want) and type(value) == type(want) then
            same = same + 1
         else
            print("differs", name, pgcdc.json.encode(value))
         end
      end
      print(n, same)
      pgcdc.source {table = "t", on_change = function()
         for name, value in pairs(values) do st[name] = value end
      end}]]
   lu.assertEquals(run(db, script, 0, { state = state }).stdout, "0\t0\n")
   lu.assertEquals(run(db, script, 0, { state = state }).stdout, "21\t21\n")
end

-- Changes at any depth are seen, keys that are removed are gone, what is not touched stays; two
-- states do not mix, and one name is one table.
function TestState.test_changes()
   local db, state = database(1), fixtures.state()
   local script = [[
      local a, b = pgcdc.state "a", pgcdc.state "b"
      assert(pgcdc.state "a" == a and a ~= b)
      print(pgcdc.json.encode(a), pgcdc.json.encode(b))
      pgcdc.source {table = "t", on_change = function(c)
         if c.row.v == 0 then
            a.deep, a.gone, b.deep = {list = {1, {x = 1}}}, 1, "b"
         elseif c.row.v == 1 then
            a.deep.list[2].x = 2
            table.insert(a.deep.list, 3)
            a.gone = nil
         elseif c.row.v == 2 then
            a.deep.list[2] = nil
            a.deep.list[3] = nil
            b.deep = nil
         end
      end}]]
   lu.assertEquals(run(db, script, 0, { state = state }).stdout, "{}\t{}\n")
   local seen = {}
   for v = 1, 3 do
      db:exec("update t set v = " .. v)
      seen[v] = run(db, script, 0, { state = state }).stdout
   end
   lu.assertEquals(seen, {
      '{"deep":{"list":[1,{"x":1}]},"gone":1}\t{"deep":"b"}\n',
      '{"deep":{"list":[1,{"x":2},3]}}\t{"deep":"b"}\n',
      '{"deep":{"list":[1]}}\t{}\n' })
end

-- What cannot be saved is told with the state's name and the key, and nothing is saved.
function TestState.test_values_without_a_json()
   local db, state = database(1), fixtures.state()
   for value, message in pairs {
      ["st.bad = print"] = "'bad'",
      ["st.bad = io.stdout"] = "'bad'",
      ["st.bad = {deep = {coroutine.create(print)}}"] = "'bad'",
      ["st.bad = '\\xff'"] = "UTF-8",
      ["st.bad = {[1.5] = 1}"] = "'bad'",
      ["st.bad = {1, nil, 3, x = 1}"] = "'bad'",
      ["st.bad = {} st.bad.bad = st.bad"] = "'bad'",
      ["st[1] = 1"] = "key that is a number; keys are text",
      ["st[true] = 1"] = "key that is a boolean; keys are text",
   } do
      local result = run(db, ([[
         local st = pgcdc.state "mine"
         pgcdc.source {table = "t", on_error = "skip", on_change = function() %s end}]])
         :format(value), 1, { state = state })
      lu.assertStrContains(result.text, "'mine'")
      lu.assertStrContains(result.text, message)
      lu.assertStrContains(result.text, "source public.t: ")
   end
   lu.assertEquals(run(db, [[
      for key in pairs(pgcdc.state "mine") do print("kept", key) end
      pgcdc.source {table = "t", on_change = function(c) print(c.key.id) end}]], 0,
      { state = state }).stdout, "1\n")
end

-- A change and its row have a JSON.
function TestState.test_a_row_in_the_state()
   local db, state = database(1), fixtures.state()
   local script = [[
      local st = pgcdc.state "last"
      print(st.row and st.row.v, st.change and st.change.op)
      pgcdc.source {table = "t", on_change = function(c) st.row = c.row st.change = c end}]]
   lu.assertEquals(run(db, script, 0, { state = state }).stdout, "nil\tnil\n")
   lu.assertEquals(run(db, script, 0, { state = state }).stdout, "0\tread\n")
end

function TestState.test_misuse()
   for case, message in pairs {
      ["pgcdc.state()"] = "pgcdc.state: the name must be a string, not nil",
      ["pgcdc.state ''"] = "pgcdc.state: the name must not be empty",
      ["pgcdc.state {}"] = "pgcdc.state: the name must be a string, not a table",
      ["pgcdc.stream{}:accumulate(math.max, {persist = 'x'}) pgcdc.state 'x'"] = "taken",
      ["pgcdc.state 'x' pgcdc.stream{}:accumulate(math.max, {persist = 'x'})"] = "taken",
   } do
      local result = program.run { script = "\n" .. case }
      lu.assertEquals(result.status, 1, case)
      lu.assertStrContains(result.stderr, "script.lua:2: ")
      lu.assertStrContains(result.stderr, message)
   end
end

-- the state file -------------------------------------------------------------------------------

-- --reset forgets all; --reset=SOURCE the position of that source and nothing else.
function TestState.test_reset()
   local db, state = database(3), fixtures.state()
   local script = [[
      local st = pgcdc.state "n"
      print("starts", st.n, st.n == nil)
      local s = pgcdc.source {table = "t"}
      s:on("change", function() st.n = (st.n or 0) + 1 end)
      s:sink {name = "file", write = function() end, flush = function() return "token" end,
         restore = function(_, token) print("token", token) end}]]
   local function starts(...)
      return run(db, script, 0, { state = state, options = { ... } }).stdout
   end
   lu.assertEquals(starts(), "starts\tnil\ttrue\ntoken\tnil\n")
   lu.assertEquals(starts(), "starts\t3\tfalse\ntoken\ttoken\n")
   lu.assertEquals(starts "--reset=public.t", "starts\t3\tfalse\ntoken\ttoken\n")
   lu.assertEquals(starts(), "starts\t6\tfalse\ntoken\ttoken\n")
   lu.assertEquals(starts "--reset", "starts\tnil\ttrue\ntoken\tnil\n")
   lu.assertEquals(starts(), "starts\t3\tfalse\ntoken\ttoken\n")
end

-- --check looks and keeps nothing.
function TestState.test_check_makes_no_file()
   local db, state = database(1), fixtures.state()
   local result = run(db, [[
      local st = pgcdc.state "n"
      st.n = 1
      print("n", st.n)
      pgcdc.stream {}:accumulate(math.max, {persist = "max"})
      pgcdc.source {table = "t"}:sink {write = print, flush = function() return 1 end,
         restore = function() print "restored" end}]], 0,
            { state = state, options = { "--check" } })
   lu.assertStrContains(result.stdout, "n\t1\n")
   lu.assertStrContains(result.stdout, "source public.t")
   lu.assertNotStrContains(result.stdout, "restored")
   lu.assertNil(io.open(state))
end

-- A flipped bit in what is kept does not pass for another value: status 4, or the value as it was.
function TestState.test_flipped_bits()
   homes.for_files()
   local db, state = database(1), fixtures.state()
   local script = [[
      local st = pgcdc.state "marked"
      print(st.value, st.more and st.more.deep[1])
      pgcdc.source {table = "t", on_change = function()
         st.value = "a value to be found in the file"
         st.more = {deep = {"another one of these"}}
      end}:sink {name = "marked sink", write = function() end,
         flush = function() return "the token in the file" end,
         restore = function(_, token) print("token", token) end}]]
   local first = run(db, script, 0, { state = state })
   local good = run(db, script, 0, { state = state }).stdout
   lu.assertEquals(first.stdout, "nil\tnil\ntoken\tnil\n")
   local text = files.text(state)
   local damaged = 0
   for _, word in ipairs { "a value to be found", "another one", "the token in", '"deep"' } do
      local at = assert(text:find(word, 1, true), word)
      for bit = 0, 6, 3 do
         local other = fixtures.state()
         local at_byte = at + bit
         files.write(other, text:sub(1, at_byte - 1)
            .. string.char(text:byte(at_byte) ~ (1 << bit)) .. text:sub(at_byte + 1))
         local result = program.run { script = script, dsn = db, options = { "--once" },
            state = other }
         if result.status == 0 then
            lu.assertEquals(result.stdout, good)
         else
            damaged = damaged + 1
            lu.assertEquals(result.status, 4, result.stderr)
            lu.assertStrContains(result.stderr, "is damaged")
            lu.assertStrContains(result.stderr, "marked")
         end
      end
   end
   lu.assertTrue(damaged >= 9, damaged)
end

-- A state file that is in use, or of another format, is status 4 in the main chunk as well.
function TestState.test_a_state_file_that_cannot_be_opened()
   homes.for_files()
   local db, state = database(1), fixtures.state()
   local script = "pgcdc.state 'x'\npgcdc.source {table = 't', interval = 0.05}"
   local p = program.start { script = script, dsn = db, state = state }
   p:wait_stderr "ready"
   local result = run(db, script, 4, { state = state })
   lu.assertStrContains(result.text, "in use by another process")
   p:stop()
   local other = scope.dir() .. "/text.db"
   files.write(other, ("this is no database "):rep(1000))
   result = run(db, script, 4, { state = other })
   lu.assertStrContains(result.text, "damaged")
end

-- stops ----------------------------------------------------------------------------------------

-- A stop in the middle of a batch records the state as it is after the change in hand.
function TestState.test_a_stop_in_the_middle()
   local db, state = database(5), fixtures.state()
   local script = [[
      local st = pgcdc.state "n"
      local stop = tonumber(pgcdc.args.stop)
      pgcdc.source {table = "t", on_change = function(c)
         st.n = (st.n or 0) + 1
         print(c.key.id, st.n)
         if c.key.id == stop then pgcdc.stop() end
      end}]]
   lu.assertEquals(run(db, script, 0, { state = state, args = { stop = 2 } }).stdout,
      "1\t1\n2\t2\n")
   lu.assertEquals(run(db, script, 0, { state = state, args = { stop = 4 } }).stdout,
      "3\t3\n4\t4\n")
   lu.assertEquals(run(db, script, 0, { state = state, args = { stop = 0 } }).stdout, "5\t5\n")
end

-- A stop while a change is tried again: what the handlers before the failing one counted does not
-- count twice when that change comes again.
function TestState.test_a_stop_between_two_tries()
   local db, state = database(5), fixtures.state()
   local script = [[
      local st, bad = pgcdc.state "n", tonumber(pgcdc.args.bad)
      local s = pgcdc.source {table = "t", interval = 0.02, on_error = {retry = 1, wait = 60}}
      s:on("change", function(c) st.n = (st.n or 0) + 1 end)
      s:on("change", function(c) if c.key.id == bad then error "boom" end end)
      s:on("change", function(c) print(c.key.id, st.n) end)]]
   for _, bad in ipairs { 1, 3, 3 } do
      local p = program.start { script = script, dsn = db, state = state, args = { bad = bad } }
      p:wait_stderr "retry_in=60"
      lu.assertEquals(p:stop().status, 0)
   end
   local result = run(db, script, 0, { state = state, args = { bad = 0 } })
   lu.assertStrContains(result.stdout, "5\t5\n")
end

-- A sink that fails after the state changed: the state is not lost with that try.
function TestState.test_a_flush_that_fails_loses_no_state()
   local db, state = database(3), fixtures.state()
   local script = [[
      local st = pgcdc.state "n"
      print("starts", st.n)
      local sum = pgcdc.stream {}
      sum:accumulate(function(a, b) return a + b end, {start = 0, persist = "sum"})
         :sink(function(x) print("sum", x) end)
      local is_bad = false
      local s = pgcdc.source {table = "t", on_error = {retry = 5, wait = 0.001}}
      s:sink {name = "bad", write = function() is_bad = true end, flush = function()
         if is_bad then
            is_bad = false
            error "refused"
         end
      end}
      s:on("change", function(c) st.n = (st.n or 0) + 1 sum:emit(c.key.id) end)]]
   lu.assertStrContains(run(db, script, 0, { state = state }).stdout, "sum\t6\n")
   db:exec "insert into t values (4, 0)"
   lu.assertEquals(run(db, script, 0, { state = state }).stdout, "starts\t3\nsum\t10\n")
   lu.assertEquals(run(db, script, 0, { state = state }).stdout, "starts\t4\n")
end

-- Without a source there is no position to save it with: it is saved at the end.
function TestState.test_without_a_source()
   local state = fixtures.state()
   for i = 0, 2 do
      local result = program.run { state = state, script = [[
         local st, sum = pgcdc.state "n", pgcdc.stream {}
         print(st.n or 0)
         sum:accumulate(math.max, {persist = "max"}):sink(print)
         pgcdc.after(0.001, function()
            st.n = (st.n or 0) + 1
            sum:emit(st.n == 2 and 7 or st.n)
         end)]] }
      lu.assertEquals(result.status, 0, result.stderr)
      lu.assertEquals(result.stdout, ({ [0] = "0\n1\n", "1\n7\n", "2\n7\n" })[i])
   end
end

-- SIGKILL at random ----------------------------------------------------------------------------

-- The lines of a file of "source id v", checked: none twice, the last v of each id is the table's.
local function check_file(db, path, name)
   local seen, last, n = {}, {}, 0
   for line in io.lines(path) do
      local source, id, v = line:match "^(%S+) (%d+) (%d+)$"
      if source == name then
         lu.assertNil(seen[line], killing.seed() .. ": twice: " .. line)
         seen[line] = true
         last[tonumber(id)] = tonumber(v)
         n = n + 1
      end
   end
   for _, row in ipairs(db:exec("select id, v from " .. name)) do
      lu.assertEquals(last[tonumber(row[1])], tonumber(row[2]), killing.seed())
   end
   return n
end

-- Counts that stem from one source, beside a file that is written exactly once.
function TestState.test_kills()
   local db, dir = database(2000), scope.dir()
   local conn = db:connection()
   local result, kills = killing.run { dsn = db, stops = true, args = { path = dir .. "/out" },
      state = dir .. "/state.db",
      script = killing.file_sink .. [[
         local st = pgcdc.state "n"
         st.n, st.by = st.n or 0, st.by or {}
         local s = pgcdc.source {table = "t", name = "t", interval = 0.01}
         s:on("change", function(c)
            st.n = st.n + 1
            local key = tostring(c.key.id % 3)
            st.by[key] = (st.by[key] or 0) + 1
            if st.n % 50 == 0 then
               local t = os.clock()
               while os.clock() < t + 0.001 do end
            end
         end)
         s:map(function(c) return "t " .. c.key.id .. " " .. c.row.v end)
            :sink(file_sink(pgcdc.args.path, "file"))
         s:accumulate(function(n) return n + 1 end, {start = 0, persist = "folded"})
            :sink(function(n) st.folded = n end)
         if pgcdc.args.final then
            s:on("batch", function() end)
            pgcdc.after(0.001, function() end)
         end]],
      write = function(n)
         conn:exec(("insert into t select i, 0 from generate_series(%d, %d) i"):format(
            10000 + n * 100, 10000 + n * 100 + math.random(0, 60)))
         conn:exec(("update t set v = v + 1 where id %% 97 = %d"):format(n % 97))
      end }
   lu.assertEquals(result.status, 0)
   lu.assertTrue(kills >= 3, kills)
   local n = check_file(db, dir .. "/out", "t")
   local st = json.decode(run(db, [[
      print(pgcdc.json.encode(pgcdc.state "n"))]], 0, { state = dir .. "/state.db" }).lines[1])
   lu.assertEquals({ st.n, st.folded }, { n, n }, killing.seed())
   lu.assertEquals(st.by["0"] + st.by["1"] + st.by["2"], n, killing.seed())
end

-- Two sources and one state: a poll, or a range of the snapshot, of one is in the middle whenever
-- the other ends one, since changes of both fail now and then and are tried again.
function TestState.test_kills_with_two_sources()
   local db, dir = database(3000), scope.dir()
   db:exec "insert into u select i, 0 from generate_series(1, 3000) i"
   local conn = db:connection()
   local script = killing.file_sink .. [[
      local st = pgcdc.state "n"
      local shared = file_sink(pgcdc.args.path, "shared")
      local chance = pgcdc.args.final and 0 or 1
      math.randomseed(os.time(), math.floor(os.clock() * 1e9) ~ tonumber(pgcdc.args.seed))
      for _, name in ipairs {"t", "u"} do
         local s = pgcdc.source {table = name, name = name, interval = 0.01,
            on_error = {retry = 1000, wait = 0.05}}
         s:on("change", function(c)
            if math.random(1500) <= chance then error "flaky" end
            st[name] = (st[name] or 0) + 1
            st.all = (st.all or 0) + 1
         end)
         s:map(function(c) return name .. " " .. c.key.id .. " " .. c.row.v end):sink(shared)
         s:on("change", function() if math.random(300) <= chance then error "flaky behind" end end)
      end]]
   local result, kills = killing.run { dsn = db, stops = true, state = dir .. "/state.db",
      script = script, args = { path = dir .. "/out", seed = math.floor(native.now() * 1000) },
      seconds = 5, life = 0.7, options = { "--log-level=error" },
      write = function(n)
         local name = n % 2 == 0 and "t" or "u"
         native.sleep(0.002)
         if n % 40 < 2 then
            conn:exec(("insert into %s select i, 0 from generate_series(%d, %d) i"):format(
               name, 100000 + n * 1000, 100000 + n * 1000 + 400))
         else
            conn:exec(("insert into %s values (%d, 0)"):format(name, 100000 + n * 1000))
            conn:exec(("update %s set v = v + 1 where id %% 997 = %d"):format(name, n % 997))
         end
      end }
   lu.assertEquals(result.status, 0)
   lu.assertTrue(kills >= 3, kills)
   local t = check_file(db, dir .. "/out", "t")
   local u = check_file(db, dir .. "/out", "u")
   local st = json.decode(run(db, [[
      print(pgcdc.json.encode(pgcdc.state "n"))]], 0, { state = dir .. "/state.db" }).lines[1])
   lu.assertEquals({ st.t, st.u, st.all }, { t, u, t + u }, killing.seed())
end

return TestState
