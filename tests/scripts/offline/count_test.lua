-- count_test.lua: the bundled script count, without a server.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"

TestCount = {}

local function start()
   return pgcdc.testing.script("count", { table = "orders", by = "status", out = "counts.jsonl" })
end

-- What changes is counted, and reported a second later.
function TestCount.test_a_report_each_second()
   local run = start()
   run:feed("orders", { row = { id = 1, status = "paid" } }, { row = { id = 2, status = "new" } },
      { row = { id = 3, status = "paid" } })
   lu.assertEquals(run:sink "counts.jsonl", {})
   run:advance(1)
   local lines = run:sink "counts.jsonl"
   table.sort(lines)
   lu.assertEquals(lines, { '{"value":"new","count":1}', '{"value":"paid","count":2}' })
end

-- Counts are kept with the position: after a crash none is lost, and none is twice as high.
function TestCount.test_a_crash()
   local run = start()
   run:feed("orders", { row = { id = 1, status = "paid" } })
   run:advance(1)
   run:crash()
   run:restart()
   run:feed("orders", { row = { id = 2, status = "paid" } })
   run:advance(1)
   local lines = run:sink "counts.jsonl"
   lu.assertEquals(lines[#lines], '{"value":"paid","count":2}')
end
