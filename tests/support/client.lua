-- client.lua: what tests of pgcdc.connect share.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"

local client = {}

-- A function for scripts, on one line: fails(f, ...) calls f, which must fail, and prints why,
-- without the place.
client.FAILS = ([[
local function fails(f, ...)
   local ok, why = pcall(f, ...)
   assert(not ok, "this should have failed")
   print((tostring(why):gsub("^[^ ]*:%d+: ", "")))
end
]]):gsub("\n", " ")

-- The lines must be the expected ones, each as it is or as a pattern.
function client.assert_lines(lines, expected)
   lu.assertEquals(#lines, #expected, table.concat(lines, "\n"))
   for i, line in ipairs(lines) do
      if line ~= expected[i] then
         lu.assertStrMatches(line, expected[i])
      end
   end
end

return client
