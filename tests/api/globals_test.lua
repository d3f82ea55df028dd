-- globals_test.lua: a script that reads a global that nobody has set is told so.
-- SPDX-License-Identifier: MIT

local files = require "files"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"

local TestGlobals = {}

-- Each case is a line of one script, called in a pcall: the message that it fails with.
local cases = {
   { "return prnt", "there is no global 'prnt'; did you mean 'print'?" },
   { "prnt 'x'", "there is no global 'prnt'" },
   { "return pgcdb.source", "there is no global 'pgcdb'; did you mean 'pgcdc'?" },
   { "return source {}", "there is no global 'source'; did you mean 'pgcdc.source'?" },
   { "return quite_unlike_anything", "there is no global 'quite_unlike_anything'" },
   { "return _G.prnt", "there is no global 'prnt'" },
   { "return _ENV.prnt", "there is no global 'prnt'" },
   { "return _G[1]", "there is no global '1'" },
   { "local f = function() return (function() return undefined_there end)() end return f()",
     "there is no global 'undefined_there'" },
   { "coroutine.wrap(function() return undefined_there end)()", "'undefined_there'" },
   { "table.sort({1, 2}, function() return undefined_there end)", "'undefined_there'" },
   { "return tostring(setmetatable({}, {__tostring = function() return undefined_there end}))",
     "'undefined_there'" },
   { "defined = 7 assert(defined == 7) defined = nil return defined", "no global 'defined'" },
   { "local mine <const> = 1 return mne", "there is no global 'mne'" },
}

function TestGlobals.test_unknown_ones()
   local script = {}
   for i, case in ipairs(cases) do
      script[i] = ("print(select(2, pcall(function() %s end)))"):format(case[1])
   end
   for _, options in ipairs { {}, { "--sandbox" } } do
      local result = program.run { script = table.concat(script, "\n"), state = false,
         options = options }
      lu.assertEquals(result.status, 0, result.stderr)
      for i, case in ipairs(cases) do
         lu.assertStrContains(result.lines[i], ("script.lua:%d: "):format(i))
         lu.assertStrContains(result.lines[i], case[2])
      end
      lu.assertNotStrContains(result.lines[5], "did you mean")
   end
end

-- It ends the program, in the main chunk, in handlers and in timers; the state is loaded and the
-- graph drawn no differently.
function TestGlobals.test_it_is_an_error_like_others()
   for case, options in pairs {
      ["pritn 'x'"] = {},
      ["pgcdc.after(0.001, function() pritn 'x' end)"] = {},
      ["pgcdc.stream {}:map(function(x) return pritn(x) end):upstreams()[1]:emit(1)"] = {},
      ["local x = pritn"] = { "--graph" },
   } do
      local result = program.run { script = "\n" .. case, state = false, options = options }
      lu.assertEquals(result.status, 1, case)
      lu.assertStrContains(result.stderr, "script.lua:2: there is no global 'pritn'")
      lu.assertStrContains(result.stderr, "did you mean 'print'?")
   end
end

-- What is right: globals that were set, to false as well, rawget, and whatever is no global.
function TestGlobals.test_known_ones()
   local result = program.run { state = false, script = [[
      yes, no, fun = 1, false, function() return later end
      later = "set after it"
      print(yes, no, fun(), rawget(_G, "unknown"))
      local env = setmetatable({}, {__index = _G})
      print(load("return inner, print ~= nil", "chunk", "t", {print = print})())
      local t = {}
      print(t.unknown, env.yes, _VERSION)
      for name, value in pairs(_G) do assert(name and value ~= nil) end]] }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.stdout,
      "1\tfalse\tset after it\tnil\nnil\ttrue\nnil\t1\tLua 5.4\n")
end

-- Libraries probe for globals, and may.
function TestGlobals.test_libraries_may_look()
   local dir = scope.dir()
   files.write(dir .. "/library.lua", [[
      local M = {}
      M.found = unknown_to_all ~= nil
      function M.look() return jit, bit32, unknown_to_all, _G.setfenv end
      return M]])
   files.write(dir .. "/main.lua", [[
      local library = require "library"
      print(library.found, library.look())
      print(pcall(function() return unknown_to_all end))]])
   local result = program.run { file = dir .. "/main.lua", state = false }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.lines[1], "false\tnil\tnil\tnil\tnil")
   lu.assertStrContains(result.lines[2], "main.lua:3: there is no global 'unknown_to_all'")
end

-- The name of the script does not matter: relative, absolute, through a link, with odd bytes.
function TestGlobals.test_names_of_scripts()
   local dir = scope.dir()
   for _, name in ipairs { "plain.lua", "with space.lua", "50% [odd].lua", "noending" } do
      files.write(dir .. "/" .. name, "return pritn")
      for _, path in ipairs { dir .. "/" .. name, "./" .. name } do
         local result = program.run { bundled = path, cwd = dir, state = false }
         lu.assertEquals(result.status, 1, path)
         lu.assertStrContains(result.stderr, "there is no global 'pritn'")
      end
   end
end

return TestGlobals
