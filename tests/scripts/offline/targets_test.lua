-- targets_test.lua: bundled scripts that write to other systems, without any of them.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"

TestTargets = {}

local ADA = { op = "insert", row = { id = 1, name = "Ada" } }

-- Each table goes to its own, and what was not saved comes again without being there twice.
function TestTargets.test_mirror()
   local run = pgcdc.testing.script("mirror", { table = "people,orders", target = "dbname=x" })
   run:feed("people", ADA)
   run:feed("orders", { row = { id = 7 } })
   run:crash()
   run:restart()
   lu.assertEquals(run:sink "mirror people"[1].row, ADA.row)
   lu.assertEquals(#run:sink "mirror orders", 1)
   run:fail("mirror people", 3) -- the target is away for a while
   run:feed("people", { op = "delete", key = { id = 1 } })
   run:advance(60)
   lu.assertEquals(#run:sink "mirror people", 2)
end

function TestTargets.test_history()
   local run = pgcdc.testing.script("history", { table = "people", target = "dbname=x" })
   run:feed("people", ADA, { op = "update", row = { id = 1, name = "Ada L." } })
   lu.assertEquals(#run:sink "history people", 2)
end

-- Each sink has each change once, also after a crash between two batches. (A sink that is not
-- installed here is left out.)
local function check_sink(script, options, name)
   local given = { table = "people" }
   for option, value in pairs(options) do
      given[option] = value
   end
   local is_there, run = pcall(pgcdc.testing.script, script, given)
   if not is_there and run:find "is not installed" then
      return
   end
   lu.assertTrue(is_there, run)
   run:feed("people", ADA)
   run:crash()
   run:restart()
   run:feed("people", { op = "update", row = { id = 1, name = "Ada L." } })
   local list = run:sink(name)
   lu.assertEquals({ #list, list[1].row.name, list[2].op }, { 2, "Ada", "update" }, script)
end

function TestTargets.test_sinks()
   check_sink("exec", { command = "cat" }, "exec -")
   check_sink("webhook", { url = "http://localhost/x", body = "ndjson" }, "http")
   check_sink("redis", { connect = "redis://localhost" }, "redis")
   check_sink("nats", { servers = "nats://localhost", stream = "cdc" }, "nats")
   check_sink("kafka", { brokers = "localhost:9092" }, "kafka")
   check_sink("clickhouse", { url = "http://localhost:8123" }, "clickhouse")
   check_sink("opensearch", { url = "http://localhost:9200" }, "opensearch")
end

function TestTargets.test_wrong_options()
   lu.assertErrorMsgContains("say NAME: TEXT", pgcdc.testing.script, "webhook",
      { table = "people", url = "http://localhost", header = "x" })
   lu.assertErrorMsgContains("brokers=... is required", pgcdc.testing.script, "kafka",
      { table = "people" })
end

-- What people see at a terminal.
function TestTargets.test_tail()
   local run = pgcdc.testing.script("tail", { table = "people" })
   run:feed("people", ADA)
   lu.assertStrMatches(run:output()[1], '.* insert *public.people id=1 name="?Ada"?')
end
