-- on_error_test.lua: what becomes of a change whose handler fails: stop, skip, retry, dead letters.
-- SPDX-License-Identifier: MIT
--
-- Promise: `on_error` of a source says it. Retries hold that source's later changes back and keep
-- other sources going; a stop in between begins again with the same change; nothing is dropped
-- without a log line and a count.

local cluster = require "cluster"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local TestOnError = {}

local run = once.script

-- The log lines of a level, as text.
local function log_lines(result, level)
   local found = {}
   for line in result.stderr:gmatch "[^\n]+" do
      if line:find("level=" .. level, 1, true) then
         found[#found + 1] = line
      end
   end
   return found
end

-- stop -----------------------------------------------------------------------------------------

function TestOnError.test_stop_is_the_default_and_has_a_name()
   local db = fixtures.names(3)
   for _, policy in ipairs { "", ", on_error = 'stop'", ", on_error = {}",
                             ", on_error = {otherwise = 'stop'}" } do
      local result = run(db, ([[
         pgcdc.source {table = "t"%s, on_change = function(c)
            if c.key.id == 2 then error "boom" end
            print(c.key.id)
         end}]]):format(policy), 1)
      lu.assertEquals(result.stdout, "1\n")
      lu.assertStrContains(result.text, "source public.t, key 2: ")
      lu.assertStrContains(result.text, "script.lua:2: boom")
      lu.assertStrContains(result.text, "script.lua:2: in function")
      lu.assertNotStrContains(result.text, "attempts")
   end
end

-- skip -----------------------------------------------------------------------------------------

-- Logged with source, change and count; the rest is delivered; the position is past it.
function TestOnError.test_skip()
   local db, state = fixtures.names(5), fixtures.state()
   local script = [[
      pgcdc.source {table = "t", on_error = "skip", on_change = function(c)
         if c.key.id % 2 == 0 then error "boom" end
         print(c.key.id)
      end}]]
   local result = run(db, script, 0, { state = state })
   lu.assertEquals(result.stdout, "1\n3\n5\n")
   local lines = log_lines(result, "error")
   lu.assertEquals(#lines, 2)
   for i, line in ipairs(lines) do
      lu.assertStrContains(line, "script.lua:2: boom")
      lu.assertStrContains(line, "source=public.t ")
      lu.assertStrMatches(line, (".*change=public.t/%%d+/%d .*"):format(2 * i))
      lu.assertStrContains(line, "failed=" .. i)
      lu.assertStrContains(line, "attempts=1")
      lu.assertStrContains(line, "then=skipped")
   end
   db:exec "insert into t values (7, 'x'), (8, 'y')"
   result = run(db, script, 0, { state = state })
   lu.assertEquals(result.stdout, "7\n")
   lu.assertStrContains(log_lines(result, "error")[1], "failed=1")
end

-- A table, nil, a __tostring that throws: all of them are a failed change and no more. The log
-- lines stay lines.
function TestOnError.test_whatever_is_thrown()
   local db = fixtures.names(1)
   local cases = {
      { "error {code = 7}", [[{\"code\":7}]] },
      { "error()", "nil" },
      { "error(42)", "42" },
      { "error(true)", "true" },
      { "error(print)", "function" },
      { "error('two\\nlines', 0)", "two\\nlines" },
      { "error('bytes \\xff\\0 end', 0)", "bytes " },
      { "error(setmetatable({}, {__tostring = function() return 'my boom' end}))", "my boom" },
      { "error(setmetatable({}, {__tostring = function() error 'no' end}))", "" },
      { "error(setmetatable({}, {__tostring = function() return {} end}))", "" },
      { "error(setmetatable({}, {__index = function() error 'no' end}))", "" },
      { "error(setmetatable({}, {__name = 42}))", "" },
      { "error(setmetatable({}, {__metatable = 1}))", "" },
      { "local x; x.y = 1", "attempt to index a nil value" },
      { "local function f() return f() + 1 end f()", "stack overflow" },
      { "coroutine.wrap(function() error 'inside' end)()", "inside" },
      { "error(c)", "public.t" },
      { "error(('long '):rep(100000))", "long long" },
   }
   local script = {}
   for i, case in ipairs(cases) do
      script[i] = ([[
         pgcdc.source {table = "t", name = "s%d", on_error = {retry = 1, wait = 0,
            otherwise = "skip"}, on_change = function(c) %s end}]]):format(i, case[1])
   end
   local result = run(db, table.concat(script, "\n"), 0)
   local by_source = {}
   for _, line in ipairs(log_lines(result, "error")) do
      local name = line:match "source=(s%d+)"
      lu.assertNil(by_source[name])
      by_source[name] = line
   end
   for i, case in ipairs(cases) do
      local line = by_source["s" .. i]
      lu.assertNotNil(line, case[1])
      lu.assertStrContains(line, case[2])
      lu.assertStrContains(line, "attempts=2")
   end
end

-- Events that are no change have no policy.
function TestOnError.test_other_events_stop()
   local db = fixtures.names(1)
   for _, case in ipairs {
      { "s:on('batch', function() error 'boom' end)" },
      { "s:on('ready', function() error 'boom' end)" },
      { "pgcdc.after(0.001, function() error 'boom' end) pgcdc.after(1, print)" },
   } do
      local result = program.run { dsn = db, script = [[
         local s = pgcdc.source {table = "t", interval = 0.05,
            on_error = {retry = 9, otherwise = "skip"}}
         ]] .. case[1] }
      lu.assertEquals(result.status, 1)
      lu.assertStrContains(result.stderr, "script.lua:3: boom")
   end
end

-- A failing consumer of a stream is a failing handler.
function TestOnError.test_streams_fail_as_handlers_do()
   local db = fixtures.names(4)
   local result = run(db, [[
      local s = pgcdc.source {table = "t", on_error = {retry = 1, wait = 0, otherwise = "skip"}}
      local tries = 0
      s:map(function(c) return c.key.id end):filter(function(id)
         if id == 2 then tries = tries + 1 error "boom" end
         return true
      end):partition(3):sink(function(list) print(table.concat(list, " "), tries) end)]], 0)
   lu.assertEquals(result.stdout, "1 3 4\t2\n")
   lu.assertStrContains(log_lines(result, "error")[1], "attempts=2")
end

-- A partition whose consumer fails at its last value is as it was when that value comes again.
function TestOnError.test_a_retry_through_a_full_operator()
   local db = fixtures.names(4)
   local result = run(db, [[
      local s = pgcdc.source {table = "t", on_error = {retry = 3, wait = 0}}
      local tries = 0
      s:pluck({"id", "name"}):partition(2):sink(function(list)
         tries = tries + 1
         if tries % 3 ~= 0 then error "boom" end
         print(list[1][1], list[2][1])
      end)]], 0)
   lu.assertEquals(result.stdout, "1\t2\n3\t4\n")
   lu.assertEquals(#log_lines(result, "warn"), 4)
end

-- retry ----------------------------------------------------------------------------------------

-- Exactly 1 + retry tries; each wait is factor times the one before; then it is a stop that says
-- how often.
function TestOnError.test_tries_and_waits()
   local db, state = fixtures.names(3), fixtures.state()
   local script = [[
      local timer = require "pgcdc.timer"
      pgcdc.source {table = "t", on_error = {retry = 3, wait = 0.05, factor = 2},
         on_change = function(c)
            print(c.key.id, timer.now())
            if c.key.id == 2 then error "boom" end
         end}]]
   local result = run(db, script, 1, { state = state })
   local times = {}
   for id, time in result.stdout:gmatch "(%d)\t(%S+)" do
      if id == "2" then
         times[#times + 1] = tonumber(time)
      end
   end
   lu.assertEquals(#times, 4)
   lu.assertEquals(#result.lines, 5)
   for i, least in ipairs { 0.05, 0.1, 0.2 } do
      local gap = times[i + 1] - times[i]
      lu.assertTrue(gap >= least and gap < least + wait.scaled(2), gap)
      lu.assertStrMatches(log_lines(result, "warn")[i],
         (".*attempt=%d retry_in=%s source=public.t"):format(i, least))
   end
   lu.assertStrContains(result.text, "source public.t, key 2: ")
   lu.assertStrContains(result.text, "boom (after 4 attempts)")
   lu.assertStrContains(result.text, "script.lua:5: in function")
   -- nothing of the batch was recorded
   lu.assertEquals(run(db, script, 1, { state = state }).stdout:match "^%d", "1")
end

-- The try that works ends it: each change has all of its tries, and no other change comes between.
function TestOnError.test_a_later_try_works()
   local db = fixtures.names(5)
   local result = run(db, [[
      local tries = {}
      pgcdc.source {table = "t", on_error = {retry = 2, wait = 0}, on_change = function(c)
         local id = c.key.id
         tries[id] = (tries[id] or 0) + 1
         io.write(id, " ")
         if tries[id] < 3 and id ~= 5 then error "boom" end
      end}]], 0)
   lu.assertEquals(result.stdout, "1 1 1 2 2 2 3 3 3 4 4 4 5 ")
end

-- Changes of another source arrive while the first one waits: it waits for just that.
function TestOnError.test_other_sources_go_on()
   local db = fixtures.names(3)
   db:exec "create table u (id int primary key)"
   local p = program.start { dsn = db, script = [[
      local others = 0
      pgcdc.source {table = "t", interval = 0.02, on_error = {retry = 1000, wait = 0.02},
         on_change = function(c)
            if others < 3 then
               print "failing"
               error "not yet"
            end
            print("t", c.key.id)
         end}
      pgcdc.source {table = "u", interval = 0.02, start = "now", on_change = function(c)
         others = others + 1
         print("u", c.key.id)
      end}]] }
   for i = 1, 3 do
      local before = select(2, p:stdout():gsub("failing", ""))
      p:wait_until(function()
         return select(2, p:stdout():gsub("failing", "")) > before
            and p:stderr():find('ready" source=public.u', 1, true)
      end, 10, "another try")
      db:exec(("insert into u values (%d)"):format(i))
      p:wait_until(function() return p:stdout():find("u\t" .. i, 1, true) end, 10, "u " .. i)
   end
   p:wait_until(function() return p:stdout():find "t\t3" end, 10, "all of t")
   local got = p:stop().stdout:gsub("failing\n", "")
   lu.assertEquals(got, "u\t1\nu\t2\nu\t3\nt\t1\nt\t2\nt\t3\n")
end

-- A great many changes are held back, more than fit in memory at once; they come in order.
function TestOnError.test_later_changes_wait_in_order()
   local db = fixtures.names(1)
   local p = program.start { dsn = db, script = [[
      local tries, last, count = 0, 1, 0
      pgcdc.source {table = "t", interval = 0.02, on_error = {retry = 1000, wait = 0.05},
         on_change = function(c)
            if c.row.name == "go" or c.op == "read" then
               print("seen", c.key.id)
            elseif c.key.id == 2 then
               tries = tries + 1
               if not io.open(pgcdc.args.flag) then
                  print "failing"
                  error "not yet"
               end
            end
            assert(c.key.id == last or c.key.id == last + 1)
            if c.key.id == last + 1 then count = count + 1 end
            last = c.key.id
            if last == 100000 then print("all", count) end
         end}]], args = { flag = "flag" } }
   p:wait_until(function() return p:stdout():find "seen\t1" end, 10, "the snapshot")
   db:exec "insert into t select i, repeat('x', 300) from generate_series(2, 50000) i"
   p:wait_until(function() return p:stdout():find "failing" end, 10, "the first try")
   db:exec "insert into t select i, repeat('x', 300) from generate_series(50001, 100000) i"
   local tries = select(2, p:stdout():gsub("failing", ""))
   p:wait_until(function()
      return select(2, p:stdout():gsub("failing", "")) > tries + 3
   end, 10, "more tries")
   lu.assertTrue(p:rss() < 60 * 1024 * wait.slow, p:rss())
   assert(io.open(p.dir .. "/flag", "w")):close()
   p:wait_until(function() return p:stdout():find "all\t99999" end, 20, "all of them")
   lu.assertEquals(p:stop().status, 0)
end

-- A stop while a change waits for its next try; the next start begins with that one, its tries
-- begin anew, and nothing before it comes again.
function TestOnError.test_a_stop_in_between()
   local db, state = fixtures.names(6), fixtures.state()
   local script = [[
      local bad = tonumber(pgcdc.args.bad)
      pgcdc.source {table = "t", interval = 0.02, on_error = {retry = 2, wait = 60},
         on_change = function(c)
            print(c.key.id)
            if c.key.id == bad then error "boom" end
         end}]]
   local function start(bad)
      return program.start { script = script, dsn = db, state = state, args = { bad = bad } }
   end
   for i, bad in ipairs { 1, 3, 3, 4 } do
      local p = start(bad)
      p:wait_stderr "retry_in=60"
      local result = p:stop()
      lu.assertEquals(result.status, 0)
      lu.assertEquals(result.stdout, ({ "1\n", "1\n2\n3\n", "3\n", "3\n4\n" })[i])
      lu.assertNotStrContains(result.stderr, "level=error")
      lu.assertStrContains(result.stderr, "attempt=1")
   end
   local rest = run(db, script, 0, { state = state, args = { bad = 0 } }).stdout
   lu.assertEquals(rest, "4\n5\n6\n")
   -- the same in a poll
   db:exec "update t set name = 'new'"
   local p = start(5)
   p:wait_stderr "retry_in=60"
   lu.assertEquals(p:stop().stdout, "1\n2\n3\n4\n5\n")
   lu.assertEquals(run(db, script, 0, { state = state, args = { bad = 0 } }).stdout, "5\n6\n")
   lu.assertEquals(run(db, script, 0, { state = state, args = { bad = 0 } }).stdout, "")
end

-- Nor does a kill -9 in between lose anything.
function TestOnError.test_a_kill_in_between()
   local db, state = fixtures.names(4), fixtures.state()
   local p = program.start { dsn = db, state = state, script = [[
      pgcdc.source {table = "t", interval = 0.02, on_error = {retry = 1, wait = 60},
         on_change = function(c) if c.key.id == 3 then error "boom" end end}]] }
   p:wait_stderr "retry_in=60"
   p:kill9()
   lu.assertEquals(run(db, [[pgcdc.source {table = "t", on_change = function(c)
      io.write(c.key.id, " ") end}]], 0, { state = state }).stdout, "1 2 3 4 ")
end

-- several handlers -----------------------------------------------------------------------------

-- Those before the failing one do not see the change again, those after it see it once, and if
-- it is given up not at all.
function TestOnError.test_several_handlers()
   local db = fixtures.names(3)
   local result = run(db, [[
      local tries = 0
      local s = pgcdc.source {table = "t", on_error = {retry = 2, wait = 0, otherwise = "skip"}}
      s:on("change", function(c) io.write("a", c.key.id, " ") end)
      s:map(function(c) return c.key.id end):sink(function(id) io.write("b", id, " ") end)
      s:on("read", function(c)
         io.write("c", c.key.id, " ")
         tries = tries + 1
         if c.key.id == 2 or c.key.id == 1 and tries < 3 then error "boom" end
      end)
      s:on("upsert", function() io.write "never " end)
      s:sink(function(c) io.write("d", c.key.id, " ") end)]], 0)
   lu.assertEquals(result.stdout, "a1 b1 c1 c1 c1 d1 a2 b2 c2 c2 c2 a3 b3 c3 d3 ")
end

-- What a handler did to the change before it failed is undone; what those before it did is not.
function TestOnError.test_a_change_comes_unchanged_to_the_next_try()
   local db = cluster.main():database()
   db:exec "create table t (id int primary key, name text, j jsonb, a int[])"
   db:exec [[insert into t values (1, 'one', '{"deep": [1, {"x": null}]}', '{1,2}')]]
   local result = run(db, [[
      local s = pgcdc.source {table = "t", on_error = {retry = 3, wait = 0}}
      s:on("change", function(c) c.row.by_first = "kept" c.note = {n = 1} end)
      local tries = 0
      s:on("change", function(c)
         tries = tries + 1
         print(c)
         print(pgcdc.json.encode(c.note))
         c.row.name = nil
         c.row.more = 1
         c.row.j.deep[1] = "spoilt"
         c.row.j.deep[2].x = true
         c.row.a[1] = 99
         c.row.by_first = "changed"
         c.note.n = 2
         c.op = "spoilt"
         if tries < 4 then error "boom" end
      end)
      s:on("change", function(c) print("last", c.row.name, c.row.a[1], c.op, c.note.n) end)]], 0)
   lu.assertEquals(#result.lines, 9)
   for i = 3, 7, 2 do
      lu.assertEquals(result.lines[i], result.lines[1])
      lu.assertEquals(result.lines[i + 1], result.lines[2])
   end
   local first = json.decode(result.lines[1])
   lu.assertEquals({ first.row.name, first.row.by_first, first.row.j.deep[1], first.row.a[1] },
      { "one", "kept", 1, 1 })
   lu.assertEquals(result.lines[9], "last\tnil\t99\tspoilt\t2")
end

-- dead letters ---------------------------------------------------------------------------------

-- The letter holds the change as the failing handler got it, the error, where it was raised, and
-- how often it was tried. A function, a sink, or a stream's sink method will do.
function TestOnError.test_dead_letters()
   local db = fixtures.names(3)
   for _, policy in ipairs {
      { "'dead_letter'", 1, "function(l) letter(l) end" },
      { "{retry = 2, wait = 0, otherwise = 'dead_letter'}", 3, "function(l) letter(l) end" },
      { "{retry = 1, wait = 0, otherwise = 'dead_letter'}", 2,
        "{write = function(self, l) letter(l) end}" },
   } do
      local result = run(db, ([[
         local function letter(l)
            local names = {}
            for name in pairs(l) do names[#names + 1] = name end
            table.sort(names)
            print("letter", table.concat(names, ","), l.attempts)
            print("error", l.error)
            print("where", (l.traceback:gsub("\n", "|")))
            print(l.change)
            print(pgcdc.json.encode(l))
         end
         local s = pgcdc.source {table = "t", on_error = %s, dead_letter = %s}
         s:on("change", function(c) c.row.first = true end)
         s:on("change", function(c)
            c.row.name = "spoilt"
            if c.key.id == 2 then error "boom" end
         end)
         s:on("change", function(c) print(c.key.id) end)]]):format(policy[1], policy[3]), 0)
      lu.assertEquals({ result.lines[1], result.lines[7] }, { "1", "3" }, result.stdout)
      lu.assertEquals(#result.lines, 7)
      lu.assertEquals(result.lines[2], "letter\tattempts,change,error,traceback\t" .. policy[2])
      lu.assertStrMatches(result.lines[3], "error\t.*script.lua:15: boom")
      lu.assertStrMatches(result.lines[4], "where\tstack traceback:|.*script.lua:15: in .*")
      local change = json.decode(result.lines[5])
      lu.assertEquals({ change.key.id, change.row.name, change.row.first }, { 2, "n2", true })
      local all = json.decode(result.lines[6])
      lu.assertEquals({ all.change.id, all.attempts }, { change.id, policy[2] })
      local line = log_lines(result, "error")[1]
      lu.assertStrContains(line, 'then="dead letter"')
      lu.assertStrContains(line, "failed=1")
      lu.assertStrContains(line, "change=" .. change.id)
   end
end

-- A file of dead letters is a sink like others: its token is saved with the position.
function TestOnError.test_dead_letters_in_a_file()
   local db, dir = fixtures.names(4), scope.dir()
   local script = [[
      pgcdc.source {table = "t", on_error = "dead_letter",
         dead_letter = pgcdc.sinks.jsonl {path = pgcdc.args.path},
         on_change = function(c) if c.key.id > 1 then error "boom" end end}]]
   local options = { state = dir .. "/state.db", args = { path = dir .. "/dead.jsonl" } }
   run(db, script, 0, options)
   db:exec "insert into t values (5, 'five')"
   run(db, script, 0, options)
   local ids = {}
   for line in io.lines(dir .. "/dead.jsonl") do
      ids[#ids + 1] = json.decode(line).change.key.id
   end
   lu.assertEquals(ids, { 2, 3, 4, 5 })
end

-- A letter that is not taken is tried again as the policy has it, and is a stop when that does not
-- help; the handler is not called again for that.
function TestOnError.test_a_dead_letter_sink_that_fails()
   local db = fixtures.names(3)
   local script = [[
      local keep = require "pgcdc.delivery.participants"
      local tries, needed = 0, tonumber(pgcdc.args.needed)
      pgcdc.source {table = "t", on_error = {retry = 2, wait = 0, otherwise = "dead_letter"},
         dead_letter = {write = function(_, l)
            tries = tries + 1
            io.write("letter", l.change.key.id, " ")
            if tries < needed then
               error(pgcdc.args.later and keep.later("the office is shut", 0.001) or "refused")
            end
         end},
         on_change = function(c)
            io.write(c.key.id, " ")
            if c.key.id == 2 then error "boom" end
         end}]]
   local result = run(db, script, 0, { args = { needed = 3 } })
   lu.assertEquals(result.stdout, "1 2 2 2 letter2 letter2 letter2 3 ")
   result = run(db, script, 1, { args = { needed = 4 } })
   lu.assertEquals(result.stdout, "1 2 2 2 letter2 letter2 letter2 ")
   lu.assertStrContains(result.text, "refused (after 3 attempts)")
   result = run(db, script, 0, { args = { needed = 9, later = 1 } })
   lu.assertEquals(select(2, result.stdout:gsub("letter2 ", "")), 9)
   lu.assertStrMatches(result.stdout, ".*letter2 3 ")
end

-- An error message of bytes that are no text has a JSON too.
function TestOnError.test_dead_letters_have_a_json()
   local result = run(fixtures.names(1), [[
      pgcdc.source {table = "t", on_error = "dead_letter",
         dead_letter = function(l) print(pgcdc.json.encode(l)) end,
         on_change = function() error("bytes \xff\xfe\0 \xc3", 0) end}]], 0)
   lu.assertStrContains(json.decode(result.lines[1]).error, "bytes ??\0 ?")
end

function TestOnError.test_misuse()
   local cases = {
      { "on_error = 'skp'", "pgcdc.source: on_error: unknown 'skp'; did you mean 'skip'?" },
      { "on_error = 'retry'", "pgcdc.source: on_error: unknown 'retry'" },
      { "on_error = 3", "pgcdc.source: on_error must be a string or a table, not a number" },
      { "on_error = print", "pgcdc.source: on_error must be a string or a table, not a function" },
      { "on_error = {retries = 3}",
        "pgcdc.source: on_error: unknown field 'retries'; did you mean 'retry'?" },
      { "on_error = {'skip'}", "pgcdc.source: on_error: unknown field '1'" },
      { "on_error = {retry = -1}", "on_error.retry must be a whole number of tries, not -1" },
      { "on_error = {retry = 1.5}", "on_error.retry must be a whole number of tries, not 1.5" },
      { "on_error = {retry = '3'}", "on_error.retry must be a whole number of tries, not 3" },
      { "on_error = {retry = true}", "on_error.retry must be a whole number of tries, not true" },
      { "on_error = {wait = -1}", "on_error.wait must be a number of seconds, at least 0, not -1" },
      { "on_error = {wait = 'x'}", "on_error.wait must be a number, not a string" },
      { "on_error = {wait = 0/0}", "on_error.wait must be a number of seconds" },
      { "on_error = {wait = math.huge}", "on_error.wait must be a number of seconds" },
      { "on_error = {factor = 0.5}", "on_error.factor must be at least 1, not 0.5" },
      { "on_error = {factor = 0/0}", "on_error.factor must be at least 1" },
      { "on_error = {factor = math.huge}", "on_error.factor must be at least 1" },
      { "on_error = {factor = '2'}", "on_error.factor must be a number, not a string" },
      { "on_error = {otherwise = 'dead'}", "on_error.otherwise: unknown 'dead'" },
      { "on_error = {otherwise = 'deadletter'}", "did you mean 'dead_letter'?" },
      { "on_error = {otherwise = 7}", "on_error.otherwise: unknown (a number)" },
      { "dead_letter = true", "pgcdc.source: dead_letter is never used" },
      { "dead_letter = print", "pgcdc.source: dead_letter is never used" },
      { "on_error = 'skip', dead_letter = print", "pgcdc.source: dead_letter is never used" },
      { "on_error = 'dead_letter', dead_letter = 7",
        "pgcdc.source: dead_letter must be a function or a table, not a number" },
      { "on_error = 'dead_letter', dead_letter = {}", "write" },
      { "on_error = 'dead_letter', dead_letter = {write = 3}", "write" },
      { "on_eror = 'skip'", "unknown field 'on_eror'; did you mean 'on_error'?" },
   }
   local script = {}
   for i, case in ipairs(cases) do
      script[i] = ("print(select(2, pcall(function() pgcdc.source {table = 't', name = 's%d', %s}"
         .. " end)))"):format(i, case[1])
   end
   script[#script + 1] = "os.exit(0)"
   local result = program.run { script = table.concat(script, "\n"), dsn = "host=/nonexistent" }
   lu.assertEquals(result.status, 0, result.stderr)
   for i, case in ipairs(cases) do
      lu.assertStrContains(result.lines[i], case[2])
      lu.assertStrContains(result.lines[i], ("script.lua:%d: "):format(i))
   end
   lu.assertEquals(#result.lines, #cases)
end

-- limits ---------------------------------------------------------------------------------------

local SHORT = ("--max-time=%g"):format(wait.scaled(0.2))

-- A handler that never returns is a failed change like any other.
function TestOnError.test_a_runaway_handler_is_skipped()
   local db = fixtures.names(4)
   for _, body in ipairs { "while true do end", "while true do pcall(error) end" } do
      local result = run(db, ([[
         local tries = 0
         pgcdc.source {table = "t", on_error = {retry = 1, wait = 0, otherwise = "skip"},
            on_change = function(c)
               tries = tries + 1
               if c.key.id == 2 then %s end
               print(c.key.id, tries)
            end}]]):format(body), 0, { options = { SHORT } })
      lu.assertEquals(result.stdout, "1\t1\n3\t4\n4\t5\n")
      local line = log_lines(result, "error")[1]
      lu.assertStrContains(line, "--max-time")
      lu.assertStrContains(line, "attempts=2")
   end
end

-- So is one that eats all the memory it may have.
function TestOnError.test_a_handler_that_eats_memory_is_skipped()
   local db = fixtures.names(4)
   local result = run(db, [[
      pgcdc.source {table = "t", on_error = "skip", on_change = function(c)
         if c.key.id == 2 then
            local t = {}
            while true do t[#t + 1] = ("x"):rep(1000) .. #t end
         end
         print(c.key.id)
      end}]], 0, { options = { "--max-memory=20M" } })
   lu.assertEquals(result.stdout, "1\n3\n4\n")
   lu.assertStrContains(log_lines(result, "error")[1], "memory")
end

return TestOnError
