-- run.lua: runs the test suites, tests/*/*_test.lua.
-- SPDX-License-Identifier: MIT
--
--    lua5.4 tests/run.lua [--filter PATTERN] [--jobs N] [--list] [SUITE]...
--
-- A suite is a file that returns a table of luaunit tests; tests/folder/some_name_test.lua is suite
-- TestSomeName, and SUITE is any of some_name, TestSomeName or the path. Where no suite has this
-- name, SUITE is a folder and means all suites in it; "folder/" is always the folder. PATTERN is a
-- Lua pattern that must be found in "TestSomeName.test_this". N suites run at a time, each of these
-- processes with servers of its own, the longest suites first; the default is one. Needs
-- build/tests/native.so.
-- Prints each test with its time, failures where they happen, the slowest suites and tests, and as
-- its last line "N passed, N failed". Exit status 0: something ran and nothing failed; 2: usage.

local here = arg[0]:match "^(.*)/[^/]*$" or "."
local top = here:match "^(.*)/tests$" or here == "tests" and "." or here .. "/.."
package.path = table.concat({
   top .. "/tests/support/?.lua", top .. "/lua/?.lua", top .. "/lua/?/init.lua", package.path,
}, ";")
package.cpath = top .. "/build/tests/?.so;" .. package.cpath

local scope = require "scope"
local suites = require "suites"
local workers = require "workers"

local function usage(message)
   io.stderr:write("run.lua: ", message, "\n")
   io.stderr:write "usage: lua5.4 tests/run.lua [--filter PATTERN] [--jobs N] [--list] [SUITE]...\n"
   os.exit(2)
end

local function parse(words)
   local options = { suites = {} }
   local i = 1
   while i <= #words do
      local word = words[i]
      if word == "--list" or word == "--worker" then
         options[word:sub(3)] = true
      elseif word == "--filter" then
         i = i + 1
         options.filter = words[i] or usage "--filter needs a pattern"
      elseif word == "--jobs" then
         i = i + 1
         options.jobs = math.tointeger(tonumber(words[i])) or usage "--jobs needs a number"
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

-- The short names of the suites to run, each once, sorted.
local function select_suites(wanted)
   local there, names, chosen = suites.find(top), {}, {}
   local function choose(short)
      if not chosen[short] then
         chosen[short] = true
         names[#names + 1] = short
      end
   end
   local function choose_folder(folder)
      local before = #names
      for short, suite in pairs(there) do
         if not folder or suite.folder == folder then
            choose(short)
         end
      end
      return #names > before
   end
   for _, word in ipairs(wanted) do
      local short = short_name(word)
      if there[short] then
         choose(short)
      elseif not choose_folder(word:match "([^/]+)/*$") then
         usage("there is no suite and no folder " .. word)
      end
   end
   if #wanted == 0 then
      choose_folder(nil)
   end
   table.sort(names)
   return names
end

-- <times>: of {name =, seconds =}.
local function print_slowest(what, times)
   table.sort(times, function(a, b) return a.seconds > b.seconds end)
   io.write("\nslowest ", what, ":\n")
   for i = 1, math.min(10, #times) do
      io.write(("   %8.3f s  %s\n"):format(times[i].seconds, times[i].name))
   end
end

-- The times of the suites, from those of their tests.
local function sum_up(times)
   local list, by_name = {}, {}
   for _, test in ipairs(times) do
      local name = test.name:match "^[^.]*"
      if not by_name[name] then
         by_name[name] = { name = name, seconds = 0 }
         list[#list + 1] = by_name[name]
      end
      by_name[name].seconds = by_name[name].seconds + test.seconds
   end
   return list
end

local function print_outcome(outcome)
   local of_suites = sum_up(outcome.times)
   if #of_suites > 1 then
      print_slowest("suites", of_suites)
   end
   print_slowest("tests", outcome.times)
   if #outcome.failed > 0 then
      io.write("\nfailed:\n   ", table.concat(outcome.failed, "\n   "), "\n")
   end
   io.write(("\n%d passed, %d failed"):format(outcome.passed, #outcome.failed))
   if outcome.skipped > 0 then
      io.write((", %d skipped"):format(outcome.skipped))
   end
   io.write "\n"
end

local function main()
   local options = parse(arg)
   if options.worker then
      scope.begin_run()
      workers.serve(function(name) return suites.run(top, { name }, options.filter) end)
      local late = scope.end_run()
      if late then
         io.stderr:write("FAILED after the run\n", late, "\n")
      end
      return late and 1 or 0
   end
   local names = select_suites(options.suites)
   local outcome
   scope.begin_run()
   if options.list then
      print(table.concat(suites.list(top, names, options.filter), "\n"))
      return 0
   end
   if (options.jobs or 1) > 1 and #names > 1 then
      local argv = { arg[-1], arg[0], "--worker" }
      if options.filter then
         table.move({ "--filter", options.filter }, 1, 2, #argv + 1, argv)
      end
      outcome = workers.run(argv, options.jobs, suites.longest_first(names))
   else
      outcome = suites.run(top, names, options.filter)
      local late = scope.end_run()
      if late then
         io.write("FAILED after the run\n", late, "\n")
         table.insert(outcome.failed, "after the run: " .. late:match "[^\n]*")
      end
   end
   print_outcome(outcome)
   return #outcome.failed == 0 and outcome.passed > 0 and 0 or 1
end

os.exit(main(), true)
