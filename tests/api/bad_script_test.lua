-- bad_script_test.lua: handlers that throw, never return or eat memory.
-- SPDX-License-Identifier: MIT
--
-- Promise: it stops with status 1, the message names source, key and script line, with a
-- traceback, and nothing past the failed change is recorded.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local wait = require "wait"

local TestBadScript = {}

-- Runs the script, which must fail, and returns what it said with quotes as they were.
local function run_failing(options)
   local result = program.run(options)
   lu.assertEquals({ result.status, result.stderr:match "panic" }, { 1 })
   local text = result.stderr:gsub('\\"', '"'):gsub("\\t", "\t"):gsub("\\n", "\n")
   return text, result
end

-- A script whose handler does <body> with the change of key 3, and prints the others.
local function handler(body)
   return ([[
pgcdc.source {table = "t", interval = 0.05, on_change = function(change)
   if change.key.id == 3 then %s end
   print(change.key.id)
end}]]):format(body)
end

local PRINT = handler ""

-- What is thrown -------------------------------------------------------------------------------

function TestBadScript.test_handlers_that_throw()
   local db = fixtures.names(5)
   for body, message in pairs {
      ["error 'boom'"] = "script.lua:2: boom",
      ["error('boom', 0)"] = "boom",
      ["error {code = 7}"] = 'key 3: {"code":7}',
      ["error(setmetatable({}, {__tostring = function() return 'my boom' end}))"] = "my boom",
      ["error()"] = "nil",
      ["error(nil)"] = "nil",
      ["error(42)"] = "42",
      ["error(true)"] = "boolean",
      ["error(print)"] = "function",
      ["local x; x.y = 1"] = "script.lua:2: attempt to index a nil value (local 'x')",
      ["error('two\\nlines')"] = "two lines",
      ["error('bytes \\xff\\0 end')"] = "bytes ",
      ["error(('long '):rep(100000))"] = "long long",
      ["error(setmetatable({}, {__tostring = error}))"] = "",
      ["error(setmetatable({}, {__tostring = function() return {} end}))"] = "",
      ["local function f() return f() + 1 end f()"] = "stack overflow",
      ["assert(false, 'asserted')"] = "asserted",
      ["string.rep('x', -1, error) .. nil"] = "script.lua:2",
      ["coroutine.wrap(function() error 'inside' end)()"] = "inside",
   } do
      if not load(body) then
         body = "local _ = " .. body
      end
      local text, result = run_failing { script = handler(body), dsn = db, options = { "--once" } }
      lu.assertEquals(result.stdout, "1\n2\n")
      lu.assertStrContains(text, message)
      lu.assertStrContains(text, "source public.t, key 3")
      lu.assertStrContains(text, "traceback=")
      if message ~= "stack overflow" then
         lu.assertStrMatches(text, ".*stack traceback:.*script.lua:2: in function.*")
      end
      lu.assertEquals(select(2, text:gsub("level=error", "")), 1)
   end
end

-- The changes before the failed one were delivered, and come again: nothing was recorded of the
-- batch. The failed one comes again too, and what comes after it.
function TestBadScript.test_nothing_past_the_failed_change_is_recorded()
   local db = fixtures.names(5)
   local state = fixtures.state()
   local _, result = run_failing { script = handler "error 'x'", dsn = db, state = state }
   lu.assertEquals(result.stdout, "1\n2\n")
   local function finish()
      local ended = program.run {
         script = PRINT, dsn = db, state = state, options = { "--once" },
      }
      lu.assertEquals(ended.status, 0)
      return ended.stdout
   end
   lu.assertStrContains(finish(), "3\n4\n5\n")
   lu.assertEquals(finish(), "")
   db:exec "update t set name = 'new'"
   _, result = run_failing { script = handler "error 'x'", dsn = db, state = state }
   lu.assertEquals(result.stdout, "1\n2\n")
   lu.assertStrContains(finish(), "3\n4\n5\n")
   lu.assertEquals(finish(), "")
end

function TestBadScript.test_a_composite_key_in_the_message()
   local db = cluster.main():database()
   db:exec "create table t (a int, b text, primary key (b, a)); insert into t values (7, 'x y')"
   local text = run_failing {
      script = "pgcdc.source {table = 't', on_change = function() error 'x' end}", dsn = db,
   }
   lu.assertStrContains(text, "source public.t, key x y,7: ")
end

-- Every other place where a script is called names itself as well.
function TestBadScript.test_events_and_timers_that_throw()
   local db = fixtures.names(2)
   for _, case in ipairs {
      { "s:on('batch', function() error 'x' end)", "source public.t: " },
      { "s:on('ready', function() error 'x' end)", "script.lua:2: x" },
      { "pgcdc.after(0.001, function() error 'x' end)", "script.lua:2: x" },
      { "pgcdc.every(0.001, function() error() end)", "script.lua:2: in " },
      { "s:on('read', function() error 'x' end) s:on('read', function() error 'y' end)", "2: x" },
   } do
      local text = run_failing {
         script = "local s = pgcdc.source {table = 't'}\n" .. case[1], dsn = db,
      }
      lu.assertStrContains(text, case[2])
   end
   run_failing { dsn = "host=/nonexistent", script = [[
      pgcdc.source {table = "t"}:on("error", function(e) error("seen: " .. e.message) end)]] }
end

-- --max-time -----------------------------------------------------------------------------------

local SHORT = ("--max-time=%g"):format(wait.scaled(0.1))

function TestBadScript.test_handlers_that_never_return()
   local db = fixtures.names(5)
   for _, body in ipairs {
      "while true do end",
      "while true do pcall(function() while true do end end) end",
      "while true do pcall(error) end",
      "while true do xpcall(function() while true do end end, function() end) end",
      "local function f() pcall(f) return f() end f()",
      "while true do coroutine.wrap(function() while true do end end)() end",
      "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
      "while true do load 'while true do end' () end",
      "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) "
         .. "while true do pcall(function() return t[1] end) end",
      "while true do pcall(string.gsub, ('x'):rep(1000), '.', function() end) end",
   } do
      local text, result = run_failing {
         script = handler(body), dsn = db, options = { "--once", SHORT }, deadline = 10,
      }
      lu.assertEquals(result.stdout, "1\n2\n")
      lu.assertStrContains(text, "--max-time")
      lu.assertStrContains(text, "source public.t, key 3")
   end
end

-- Timers and events are calls too. Loading is none: it may fetch what it needs.
function TestBadScript.test_max_time_elsewhere()
   local db = fixtures.names(1)
   local forever = "function() while true do end end"
   for _, script in ipairs {
      "pgcdc.after(0.001, " .. forever .. ")",
      "pgcdc.source {table = 't'}:on('batch', " .. forever .. ")",
      "pgcdc.source {table = 't'}:on('ready', " .. forever .. ")",
   } do
      local text = run_failing { script = script, dsn = db, options = { SHORT } }
      lu.assertStrContains(text, "--max-time")
   end
   local result = program.run { options = { "--max-time=0.05" }, script = [[
      local stop = os.clock() + 0.2
      while os.clock() < stop do end
      print "loaded"]] }
   lu.assertEquals(result.stdout, "loaded\n")
   lu.assertEquals(result.status, 0)
end

-- --max-memory ---------------------------------------------------------------------------------

function TestBadScript.test_handlers_that_eat_memory()
   local db = fixtures.names(5)
   for _, body in ipairs {
      "local t = {} while true do t[#t + 1] = {} end",
      "local s = 'x' while true do s = s .. s end",
      "local _ = ('x'):rep(1 << 40)",
      "local _ = ('x'):rep(100 << 20)",
      "keep = {} while true do keep[#keep + 1] = pgcdc.json.decode '[[1,2,3]]' end",
   } do
      local text, result = run_failing {
         script = handler(body), dsn = db, options = { "--once", "--max-memory=8M" },
      }
      lu.assertEquals(result.stdout, "1\n2\n")
      lu.assertNotNil(text:find("--max-memory", 1, true) or text:find "too large")
      lu.assertTrue(result.maxrss_kb < 60000 or wait.slow > 1, result.maxrss_kb)
   end
   local text = run_failing {
      script = "local s = 'x' while true do s = s .. s end", options = { "--max-memory=1M" },
   }
   lu.assertStrContains(text, "--max-memory")
   text = run_failing { script = "print 'x'", options = { "--max-memory=64K" } }
   lu.assertStrContains(text, "memory")
end

-- A script may catch it, free what it holds, and go on.
function TestBadScript.test_memory_that_is_given_back()
   local result = program.run { options = { "--max-memory=4M" }, script = [[
      for _ = 1, 20 do
         local t = {}
         local ok, message = pcall(function()
            while true do t[#t + 1] = ("x"):rep(10000) .. #t end
         end)
         assert(not ok and message == "not enough memory")
      end
      print "still here"]] }
   lu.assertEquals(result.stdout, "still here\n")
   lu.assertEquals(result.status, 0)
end

return TestBadScript
