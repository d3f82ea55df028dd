-- databases_test.lua: bundled scripts that ask a server at once: slot, trigger, hints, verify; what
-- they refuse before that. What they do is tested with a server.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"

TestDatabases = {}

local ASKS = "a test has no database"

-- Each is refused with these words, or asks the server.
local function check(script, cases)
   for _, case in ipairs(cases) do
      lu.assertErrorMsgContains(case[1], pgcdc.testing.script, script, case[2])
   end
end

for script, wrong in pairs {
   slot = "install, remove, status or print", hints = "install, remove, status or print",
   trigger = "install, remove, status, prune or print",
} do
   TestDatabases["test_" .. script] = function()
      check(script, {
         { "action=... is required; table=... is required", {} },
         { "action must be " .. wrong, { table = "t", action = "instal" } },
         { "table must not be empty", { table = " , ", action = "print" } },
         { "unknown option tabel; did you mean 'table'?", { tabel = "t", action = "print" } },
         { "tries must be a number, not 'x'", { table = "t", action = "install", tries = "x" } },
         { ASKS, { table = "t,sales.u", action = "print" } },
      })
   end
end

function TestDatabases.test_verify()
   local function with(name, value)
      return { table = "t", target = "dbname=copy", [name] = value }
   end
   check("verify", {
      { "table=... is required; target=... is required", {} },
      { "target must not be empty", with("target", "") },
      { "target_table must have as many names as table", with("target_table", "a,b") },
      { "rename names two columns 'b'", with("rename", "a:b,c:b") },
      { "limit must be a whole number, not 1.5", with("limit", 1.5) },
      { "settle must be a whole number, not -1", with("settle", -1) },
      { "wait must be a number of seconds, at most 3600", with("wait", 3601) },
      { ASKS, with("columns", "a,b") },
   })
end
