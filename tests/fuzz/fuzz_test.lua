-- fuzz_test.lua: the inputs of tests/fuzz/corpus, each given to its target, through
-- build/tests/replay.
-- SPDX-License-Identifier: MIT
--
-- They are where `make fuzz` begins, and what it has found: a file that once failed stays.

local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local server = require "server"

local TestFuzz = {}

local build = program.binary():match "^(.*)/"
local corpus = build:match "^(.*)/build" .. "/tests/fuzz/corpus/"
local replay = build .. "/tests/replay"

for target in server.run({ replay }, { user = false }):gmatch "%S+" do
   TestFuzz["test_" .. target] = function()
      local argv, dir = { replay, target }, scope.dir "fuzz"
      for _, name in ipairs(native.listdir(corpus .. target)) do
         argv[#argv + 1] = corpus .. target .. "/" .. name
      end
      lu.assertTrue(#argv > 2, "there are no inputs")
      local proc = assert(native.spawn {
         argv = argv, stdout = dir .. "/out", stderr = dir .. "/err",
      })
      local ended = proc:wait(60)
      local f = assert(io.open(dir .. "/err", "rb"))
      local told = f:read "a"
      f:close()
      lu.assertNotNil(ended, "this takes too long: " .. told:sub(-1000))
      lu.assertEquals(ended.exit, 0, told:sub(-1000))
      lu.assertEquals(select(2, told:gsub("\n", "")), #argv - 2)
   end
end

return TestFuzz
