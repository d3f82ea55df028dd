-- files_test.lua: bundled scripts that write files, without a server: jsonl, csv, debezium, route.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"

TestFiles = {}

local ADA = { op = "insert", row = { id = 1, name = "Ada", city = "Rome" } }
local GONE = { op = "delete", old = { id = 1, name = "Ada", city = "Rome" } }

-- Each change is there once, whatever happens.
function TestFiles.test_jsonl_after_a_crash()
   local run = pgcdc.testing.script("jsonl", { table = "people", out = "people.jsonl" })
   run:feed("people", ADA)
   run:fail("people.jsonl", 1)
   run:feed("people", GONE)
   run:crash()
   run:restart()
   run:advance(60)
   local ops = {}
   for i, change in ipairs(run:sink "people.jsonl") do
      ops[i] = change.op
   end
   lu.assertEquals(ops, { "insert", "delete" })
end

-- On standard output changes are printed as JSON.
function TestFiles.test_jsonl_prints()
   local run = pgcdc.testing.script("jsonl", { table = "people" })
   run:feed("people", ADA)
   lu.assertEquals(pgcdc.json.decode(run:output()[1]).row.name, "Ada")
end

-- Who asks for deletes in CSV is told that they look like any other row.
function TestFiles.test_csv_warns()
   local run = pgcdc.testing.script("csv", { table = "people", out = "p.csv", deletes = "yes" })
   lu.assertStrContains(run:log()[1].message, "meta=op tells them apart")
   run:feed("people", ADA)
   lu.assertEquals(run:sink "p.csv"[1].row, ADA.row)
end

function TestFiles.test_debezium_envelopes()
   local run = pgcdc.testing.script("debezium", { table = "people", out = "d.jsonl" })
   run:feed("people", ADA, GONE)
   local list = run:sink "d.jsonl"
   lu.assertEquals({ list[1].op, list[1].after.name }, { "c", "Ada" })
   lu.assertEquals({ list[2].op, list[2].before.name }, { "d", "Ada" })
end

function TestFiles.test_route_by_a_column()
   local run = pgcdc.testing.script("route", { table = "people", by = "city", dir = "cities" })
   run:feed("people", ADA)
   lu.assertEquals(#run:sink "route", 1)
   lu.assertErrorMsgContains("by=... is required", pgcdc.testing.script, "route",
      { table = "people", dir = "cities" })
end

function TestFiles.test_mask()
   local run = pgcdc.testing.script("mask", { table = "people", mask = "name:keep1,city:redact",
                                              out = "masked.jsonl" })
   run:feed("people", ADA)
   local row = run:sink "masked.jsonl"[1].row
   lu.assertEquals(row.id, 1)
   lu.assertEquals(row.name:sub(1, 1), "A")
   lu.assertNotEquals(row.name, "Ada")
   lu.assertNotEquals(row.city, "Rome")
   lu.assertErrorMsgContains("say COLUMN:sha256", pgcdc.testing.script, "mask",
      { table = "people", mask = "name" })
end
