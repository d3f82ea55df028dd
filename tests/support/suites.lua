-- suites.lua: runs test suites in this process, and counts what passed and failed.
-- SPDX-License-Identifier: MIT

local luaunit = require "luaunit"
local native = require "native"
local scope = require "scope"

local suites = {}

local last_trace -- of the newest error that went through traced()

-- The function, which also keeps the traceback of its error: luaunit's own stops at an error that
-- is a table or has no position.
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
   local fixtures = { setUp = true, tearDown = true, setupClass = true, teardownClass = true }
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

-- The suites that there are, by short name: {path =, folder =}, the folder's name below tests/ ("":
-- tests/ itself). <top>: where the folder tests is.
function suites.find(top)
   local there = {}
   local function look(folder)
      local path = top .. "/tests/" .. folder
      for _, file in ipairs(native.listdir(path) or {}) do
         local short = file:match "^(.*)_test%.lua$"
         if short then
            assert(not there[short], short .. " stands in two folders")
            there[short] = { path = path .. "/" .. file, folder = folder }
         end
      end
   end
   look ""
   for _, folder in ipairs(assert(native.listdir(top .. "/tests"))) do
      look(folder)
   end
   return there
end

-- What takes longest, the longest first. (What is not here takes less than a hundredth of the time
-- of all. A run prints its slowest suites.)
suites.longest = { "exact", "sabotage_fail", "contract_losses", "logical_stream", "logical_fault",
   "sabotage_kill", "contract_faults", "load", "xid_boundary", "takeover", "logical", "network",
   "hints", "increment", "exactly_once", "contract", "snapshot", "lint", "contract_refused",
   "group", "keys", "contract_sweep", "network_tls", "xid", "logical_toast", "fault_connection",
   "trigger" }

-- The names, those of suites.longest first: who runs several at a time does not wait for a long one
-- in the end.
function suites.longest_first(names)
   local left, list = {}, {}
   for _, name in ipairs(names) do
      left[name] = true
   end
   for _, order in ipairs { suites.longest, names } do
      for _, name in ipairs(order) do
         list[#list + 1] = left[name] and name
         left[name] = nil
      end
   end
   return list
end

-- "TestSomeName" of "some_name".
local function suite_name(short)
   return "Test" .. ("_" .. short):gsub("_(%w)", string.upper)
end

-- The tests to run as luaunit wants them: {{"TestName.test_this", suite}, ...}.
local function collect(top, names, filter, late)
   local tests, there = {}, suites.find(top)
   for _, short in ipairs(names) do
      local name = suite_name(short)
      local path = there[short].path
      local ok, suite = xpcall(dofile, debug.traceback, path)
      if not ok or type(suite) ~= "table" then
         local message = ok and path .. " returns no table" or suite
         suite = { test_loads = function() error(message, 0) end }
      end
      guard(name, suite, late)
      for _, test in ipairs(luaunit.LuaUnit.expandClasses { { name, suite } }) do
         if not filter or test[1]:find(filter) then
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
      return setmetatable(self, { __index = output })
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
      times[#times + 1] = { name = node.testName, seconds = took }
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

-- The full names of the tests of these suites, in the order in which they run. <top>: where the
-- folder tests is; <filter>: a Lua pattern, or nil.
function suites.list(top, names, filter)
   local list = {}
   for _, test in ipairs(collect(top, names, filter, {})) do
      list[#list + 1] = test[1]
   end
   return list
end

-- Runs them, writing about each test as it ends. Returns passed and skipped, numbers; failed, a
-- list of names, or of messages about what came after a suite; times, of {name=, seconds=}.
function suites.run(top, names, filter)
   local late, times, failed = {}, {}, {}
   local tests = collect(top, names, filter, late)
   local runner = luaunit.LuaUnit.new()
   runner.outputType = new_output(late, times)
   runner:runSuiteByInstances(tests, "--verbose") -- an argument, or it would parse our command line
   for _, list in ipairs { runner.result.failedTests, runner.result.errorTests } do
      for _, node in ipairs(list) do
         failed[#failed + 1] = node.testName
      end
   end
   for _, message in ipairs(late) do
      io.write("FAILED after a suite\n", indent(message), "\n")
      failed[#failed + 1] = "after a suite: " .. message:match "[^\n]*"
   end
   return {
      passed = runner.result.successCount, skipped = #runner.result.skippedTests,
      failed = failed, times = times,
   }
end

return suites
