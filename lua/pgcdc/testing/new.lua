-- pgcdc.testing.new: what --new NAME runs: writes a script, and its test, to begin with.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"

local script = [[
-- %s: paid orders, as lines of JSON.
-- pgcdc-lua %s.lua out=paid.jsonl

local options = pgcdc.options {
   out = pgcdc.required, -- the file
   min = 100,            -- the least total
}

local orders = pgcdc.source { table = "orders", pk = "id", interval = 1 }

orders
   :filter(function(change)
      return change.op ~= "delete" and change.row.total >= options.min
   end)
   :sink(pgcdc.sinks.jsonl { path = options.out })
]]

local test = [[
-- %s_test: pgcdc-lua --test %s_test.lua runs this, without a database.

local lu = require "luaunit"

TestOrders = {}

function TestOrders.test_small_orders_are_left_out()
   local run = pgcdc.testing.script("%s.lua", { out = "paid.jsonl", min = 100 })
   run:feed("orders",
      { op = "insert", row = { id = 1, total = 120 } },
      { op = "insert", row = { id = 2, total = 20 } })
   local written = run:sink "paid.jsonl"
   lu.assertEquals(#written, 1)
   lu.assertEquals(written[1].row, { id = 1, total = 120 })
end

function TestOrders.test_a_crash_loses_nothing()
   local run = pgcdc.testing.script("%s.lua", { out = "paid.jsonl" })
   run:fail("paid.jsonl", 1)
   run:feed("orders", { op = "insert", row = { id = 1, total = 120 } })
   run:crash()
   run:restart()
   lu.assertEquals(#run:sink "paid.jsonl", 1)
end
]]

local name = (raw.files[1]:gsub("%.lua$", ""))
local base = name:match "[^/]*$"
if #raw.files > 1 or base == "" then
   raw.usage "--new takes one name, such as: pgcdc-lua --new paid"
end

local files = { { name .. ".lua", script }, { name .. "_test.lua", test } }
for _, file in ipairs(files) do
   local there = io.open(file[1])
   if there then
      there:close()
      raw.usage(("--new: %s is there already: name another one"):format(file[1]))
   end
end
for _, file in ipairs(files) do
   local to, why = io.open(file[1], "w")
   if not to then
      raw.usage(("--new: %s"):format(why))
   end
   assert(to:write((file[2]:gsub("%%s", base))))
   assert(to:close())
   print("made " .. file[1])
end
print(("try it: pgcdc-lua --test %s_test.lua"):format(name))
