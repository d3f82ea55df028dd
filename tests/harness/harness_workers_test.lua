-- harness_workers_test.lua: suites that run at the same time are counted as if they ran one by one.
-- SPDX-License-Identifier: MIT

local child = require "child"
local lu = require "luaunit"
local scope = require "scope"
local suites = require "suites"
local tables = require "tables"
local tree = require "tree"

local TestHarnessWorkers = {}

-- Runs a tree of its own with suites, by name their text, and returns what was written and
-- how it ended. <words>: of the command line.
local function run(texts, words)
   local _, argv = tree.with_suites(texts)
   return child.run({ argv = tables.join(argv, words), stderr = "null" }, 60)
end

local fine = [[
   local lu = require "luaunit"
   return {
      test_a = function() end,
      test_b = function() lu.skip "no need" end,
      test_c = function() end,
   }]]

function TestHarnessWorkers.test_counts_and_names()
   local text, ended = run({
      one = fine, two = fine, three = [[return {test_d = function() error "on purpose" end}]],
   }, { "--jobs", "2" })
   lu.assertEquals(ended.exit, 1)
   lu.assertEquals(text:match "([^\n]*)\n$", "4 passed, 1 failed, 2 skipped")
   lu.assertStrContains(text, "\nfailed:\n   TestThree.test_d\n")
   lu.assertStrContains(text, "on purpose")
   lu.assertNotStrContains(text, "\2")
   for _, suite in ipairs { "One", "Two" } do
      local block = "X.test_a ... ok [%d.]+ s\nX.test_b ... skipped: no need\nX.test_c ... ok"
      lu.assertNotNil(text:find(block:gsub("X", "Test" .. suite), 1))
   end
end

function TestHarnessWorkers.test_two_at_a_time()
   local meeting = scope.dir "meeting"
   local suite = [[
      local native, wait = require "native", require "wait"
      return {test_meets_the_other = function()
         io.open(%q .. "/%s", "w"):close()
         wait.until_(function() return #native.listdir(%q) == 2 end, 60, "the other suite")
      end}]]
   local text, ended = run({
      one = suite:format(meeting, "one", meeting), two = suite:format(meeting, "two", meeting),
   }, { "--jobs", "2" })
   lu.assertEquals(ended.exit, 0)
   lu.assertEquals(text:match "([^\n]*)\n$", "2 passed, 0 failed")
end

-- Two that come before a long one by name wait for it.
function TestHarnessWorkers.test_the_longest_comes_first()
   local longest = suites.longest[1]
   local file = scope.dir "begun" .. "/begun"
   local waits = ([[
      local files, wait = require "files", require "wait"
      return {test_waits = function()
         wait.until_(function() return files.read(%q) end, 30, "the long one")
      end}]]):format(file)
   local text, ended = run({
      a = waits, b = waits,
      [longest] = ("return {test_begins = function() io.open(%q, 'w'):close() end}"):format(file),
   }, { "--jobs", "2" })
   lu.assertEquals(ended.exit, 0, text)
   lu.assertStrMatches(text, ".*slowest suites:.*  Test.*3 passed, 0 failed\n")
end

function TestHarnessWorkers.test_the_long_ones_are_there()
   local there = suites.find(tree.top)
   for _, name in ipairs(suites.longest) do
      lu.assertNotNil(there[name], name)
   end
   lu.assertEquals(suites.longest_first { "a", suites.longest[2], "b", suites.longest[1] },
      { suites.longest[1], suites.longest[2], "a", "b" })
end

function TestHarnessWorkers.test_a_process_that_dies_fails_its_suite_alone()
   local dies = [[
      local native = require "native"
      return {test_dies = function()
         native.kill(tonumber(io.open "/proc/self/stat":read "a":match "%d+"), "KILL")
      end}]]
   local text, ended = run({
      a = dies, b = fine, c = fine, d = fine,
   }, { "--jobs", "2" })
   lu.assertEquals(ended.exit, 1)
   lu.assertEquals(text:match "([^\n]*)\n$", "6 passed, 1 failed, 3 skipped")
   lu.assertStrContains(text, "a: its process was killed by signal 9")
end

-- A large one would make its children look large.
function TestHarnessWorkers.test_a_process_that_grows_retires()
   local grows = [[
      local kept = {}
      return {test_grows = function()
         for i = 1, 100 do kept[i] = ("x"):rep(1000000) .. i end
         _G.kept = kept
      end}]]
   local small = [[
      local native = require "native"
      return {test_is_small = function() assert(_G.kept == nil) end}]]
   local text, ended = run({ a = grows, b = grows, c = small, d = small, e = small },
      { "--jobs", "2" })
   lu.assertEquals(ended.exit, 0, text)
   lu.assertEquals(text:match "([^\n]*)\n$", "5 passed, 0 failed")
end

function TestHarnessWorkers.test_a_filter()
   local text, ended = run({ one = fine, two = fine },
      { "--jobs", "2", "--filter", "Two%.test_[ab]" })
   lu.assertEquals(ended.exit, 0)
   lu.assertEquals(text:match "([^\n]*)\n$", "1 passed, 0 failed, 1 skipped")
end

return TestHarnessWorkers
