-- run.lua: runs the test suites, tests/*_test.lua.
-- SPDX-License-Identifier: MIT
--
--    lua5.4 tests/run.lua [--filter PATTERN] [--list] [SUITE]...
--
-- A suite is a file that returns a table of luaunit tests; tests/some_name_test.lua is suite
-- TestSomeName, and SUITE is any of some_name, TestSomeName or the path. PATTERN is a
-- Lua pattern that must be found in "TestSomeName.test_this". Needs build/tests/native.so.
-- Prints each test with its time, failures where they happen, the slowest tests, and as its last
-- line "N passed, N failed". Exit status 0: something ran and nothing failed; 2: usage.

local here = arg[0]:match "^(.*)/[^/]*$" or "."
local top = here:match "^(.*)/tests$" or here == "tests" and "." or here .. "/.."
package.path = table.concat({
   top .. "/tests/support/?.lua", top .. "/lua/?.lua", top .. "/lua/?/init.lua", package.path,
}, ";")
package.cpath = top .. "/build/tests/?.so;" .. package.cpath

local luaunit = require "luaunit"
local native = require "native"
local scope = require "scope"

local function usage(message)
   io.stderr:write("run.lua: ", message, "\n")
   io.stderr:write "usage: lua5.4 tests/run.lua [--filter PATTERN] [--list] [SUITE]...\n"
   os.exit(2)
end

local function parse(words)
   local options = {suites = {}}
   local i = 1
   while i <= #words do
      local word = words[i]
      if word == "--list" then
         options.list = true
      elseif word == "--filter" then
         i = i + 1
         options.filter = words[i] or usage "--filter needs a pattern"
      elseif word:find "^%-" then
         usage("unknown option " .. word)
      else
         options.suites[#options.suites + 1] = word
      end
      i = i + 1
   end
   return options
end

-- "some_name" of a file's name, a suite's name, or either's path.
local function short_name(word)
   word = word:match "[^/]*$":gsub("%.lua$", ""):gsub("_test$", "")
   local camel = word:match "^Test(%u.*)"
   return camel and camel:gsub("(%l)(%u)", "%1_%2"):lower() or word
end

local function suite_name(short)
   return "Test" .. ("_" .. short):gsub("_(%w)", string.upper)
end

-- The short names of the suites to run, sorted.
local function select_suites(wanted)
   local there, names = {}, {}
   for _, file in ipairs(assert(native.listdir(top .. "/tests"))) do
      local short = file:match "^(.*)_test%.lua$"
      if short then
         there[short] = true
         names[#names + 1] = short
      end
   end
   if #wanted > 0 then
      names = {}
      for _, word in ipairs(wanted) do
         local short = short_name(word)
         if not there[short] then
            usage("there is no suite " .. word)
         end
         names[#names + 1] = short
      end
   end
   table.sort(names)
   return names
end

local last_trace -- of the newest error that went through traced()

-- The function, leaving behind the traceback of its error, from there to here: luaunit's own
-- stops at an error that is a table or has no position.
local function traced(fn)
   return function(self)
      local ok, problem = xpcall(fn, function(problem)
         local trace = debug.traceback(nil, 2)
         last_trace = trace:match "^(.-)\n%s*%[C%]: in function 'xpcall'" or trace
         return problem
      end, self)
      if not ok then
         error(problem, 0)
      end
   end
end

-- Makes errors of the suite's tests traceable. luaunit stumbles over an error in setupClass or
-- teardownClass: the first becomes the error of each test, the second a line in <late>.
local function guard(name, suite, late)
   local broken
   local fixtures = {setUp = true, tearDown = true, setupClass = true, teardownClass = true}
   for key, value in pairs(suite) do
      if fixtures[key] or luaunit.LuaUnit.isMethodTestName(key) and type(value) == "function" then
         suite[key] = traced(value)
      end
   end
   local setup, teardown, set_up = suite.setupClass, suite.teardownClass, suite.setUp
   suite.setupClass = setup and function(self)
      local ok, problem = pcall(setup, self)
      broken = not ok and ("setupClass: %s\n%s"):format(problem, last_trace) or nil
   end
   suite.setUp = function(self)
      if broken then
         error(broken, 0)
      end
      if set_up then
         set_up(self)
      end
   end
   suite.teardownClass = teardown and function(self)
      local ok, problem = pcall(teardown, self)
      if not ok then
         late[#late + 1] = ("%s.teardownClass: %s\n%s"):format(name, problem, last_trace)
      end
   end
end

-- The tests to run as luaunit wants them: {{"TestName.test_this", suite}, ...}.
local function collect(options, late)
   local tests = {}
   for _, short in ipairs(select_suites(options.suites)) do
      local name = suite_name(short)
      local path = ("%s/tests/%s_test.lua"):format(top, short)
      local ok, suite = xpcall(dofile, debug.traceback, path)
      if not ok or type(suite) ~= "table" then
         local message = ok and path .. " returns no table" or suite
         suite = {test_loads = function() error(message, 0) end}
      end
      guard(name, suite, late)
      for _, test in ipairs(luaunit.LuaUnit.expandClasses {{name, suite}}) do
         if not options.filter or test[1]:find(options.filter) then
            tests[#tests + 1] = test
         end
      end
   end
   return tests
end

local function indent(text)
   return "   " .. text:gsub("\n(.)", "\n   %1")
end

-- A luaunit output class; it also opens and closes the scopes of suites and tests.
local function new_output(late, times)
   local output = luaunit.genericOutput.new()
   local started

   local class = {}
   function class.new(runner)
      local self = luaunit.genericOutput.new(runner)
      return setmetatable(self, {__index = output})
   end

   function output.startClass()
      scope.open()
   end

   function output.startTest(_, name)
      io.write(name, " ... ")
      io.flush()
      started, last_trace = native.now(), nil
      scope.open()
   end

   function output:endTest(node)
      local problems = scope.close()
      if problems and node:isSuccess() then
         node:error("what the test made could not be released:\n" .. problems, "")
         table.insert(self.result.errorTests, node)
      end
      local took = native.now() - started
      times[#times + 1] = {name = node.testName, seconds = took}
      if node:isSuccess() then
         io.write(("ok %.3f s\n"):format(took))
      elseif node:isSkipped() then
         io.write("skipped: ", tostring(node.msg), "\n")
      else
         io.write(("FAILED %.3f s\n"):format(took))
         io.write(indent(tostring(node.msg)), "\n")
         if last_trace then
            io.write(indent(last_trace), "\n")
         end
      end
      io.flush()
   end

   function output.endClass()
      late[#late + 1] = scope.close()
   end

   return class
end

local function print_slowest(times)
   table.sort(times, function(a, b) return a.seconds > b.seconds end)
   io.write "\nslowest tests:\n"
   for i = 1, math.min(10, #times) do
      io.write(("   %8.3f s  %s\n"):format(times[i].seconds, times[i].name))
   end
end

local function main()
   local options = parse(arg)
   local late, times = {}, {}
   scope.begin_run()
   local tests = collect(options, late)
   if options.list then
      for _, test in ipairs(tests) do
         print(test[1])
      end
      return 0
   end
   local runner = luaunit.LuaUnit.new()
   runner.outputType = new_output(late, times)
   runner:runSuiteByInstances(tests, "--verbose") -- an argument, or it would parse our command line
   late[#late + 1] = scope.end_run()

   local result = runner.result
   local failed = #result.failedTests + #result.errorTests + #late
   for _, message in ipairs(late) do
      io.write("FAILED after a suite\n", indent(message), "\n")
   end
   print_slowest(times)
   if failed > 0 then
      io.write "\nfailed:\n"
      for _, list in ipairs {result.failedTests, result.errorTests} do
         for _, node in ipairs(list) do
            io.write("   ", node.testName, "\n")
         end
      end
   end
   io.write(("\n%d passed, %d failed"):format(result.successCount, failed))
   if #result.skippedTests > 0 then
      io.write((", %d skipped"):format(#result.skippedTests))
   end
   io.write "\n"
   return failed == 0 and result.successCount > 0 and 0 or 1
end

os.exit(main(), true)
