-- promises_test.lua: what sinks declare is what the manual says, and what the contract is.
-- SPDX-License-Identifier: MIT

local drivers = require "contract_drivers"
local files = require "files"
local json = require "json"
local lu = require "luaunit"
local program = require "program"
local tree = require "tree"

local TestPromises = {}

-- The options with which a sink can be made.
local NEEDED = {
   jsonl = { path = "x.jsonl" }, csv = { path = "x.csv" }, text = { path = "x.txt" },
   exec = { command = "cat" }, postgres = { connect = "dbname=x", table = "x" },
   kafka = { brokers = "127.0.0.1:1" }, http = { url = "http://127.0.0.1:1" },
   redis = { connect = "redis://127.0.0.1:1" },
   nats = { servers = "nats://127.0.0.1:1", stream = "x" },
   clickhouse = { url = "http://127.0.0.1:1" }, opensearch = { url = "http://127.0.0.1:1" },
}

-- What stands in the table of the manual: how the sinks are made, a list of {kind, options}.
local ROWS = {
   ["`jsonl` `csv` `text`"] = { { "jsonl" }, { "csv" }, { "text" } },
   ["the same without `path`, `exec`"] = { { "jsonl", { path = "-" } }, { "exec" } },
   ["`postgres`"] = { { "postgres" } },
   ["`kafka`"] = { { "kafka" } },
   ["`kafka` ¹ `http`"] = { { "kafka", { exact = false } }, { "http" } },
   ["`redis`"] = { { "redis" }, { "redis", { mode = "json" } }, { "redis", { mode = "hash" } } },
   ["`redis` ²"] = { { "redis", { mode = "publish" } } },
   ["`nats`"] = { { "nats" } },
   ["`clickhouse` `opensearch`"] = { { "clickhouse" }, { "opensearch" } },
}

-- What a sink that is made so declares; nil where its module was not built.
local function declared(script)
   local result = program.run { state = false, script = script
      .. 'io.write(pgcdc.json.encode(sink.promise), "\\n") io.flush() os.exit(0)' }
   if result.stderr:find "is not installed" then
      return nil
   end
   lu.assertEquals(result.status, 0, result.stderr)
   return result.changes[1]
end

local function make(kind, options)
   local all = {}
   for name, value in pairs(NEEDED[kind]) do
      all[name] = value
   end
   for name, value in pairs(options or {}) do
      all[name] = value
   end
   return ("local sink = pgcdc.sinks.%s(pgcdc.json.decode [[%s]])\n"):format(kind, json.encode(all))
end

function TestPromises.test_the_table_of_the_manual()
   local text = files.text(tree.top .. "/lua/README.md")
   local seen = {}
   for line in text:match "| by the sink [^\n]*\n|[-|]+\n(.-)\n\n":gmatch "[^\n]+" do
      local name, crash, position, order = line:match "^| (.-) | (.-) | (.-) | (.-) |$"
      lu.assertNotNil(ROWS[name], line)
      seen[name] = true
      for _, it in ipairs(ROWS[name]) do
         local promise = declared(make(table.unpack(it)))
         if promise then
            lu.assertEquals({ promise.crash, promise.position, promise.order },
               { crash, position, order }, it[1])
         end
      end
   end
   for name in pairs(ROWS) do
      lu.assertTrue(seen[name], name)
   end
end

-- How a promise of a driver of the contract begins in words.
local WORDS = { exact = { "exactly once" },
                repeats = { "at least once", "once, or more after a fault" },
                state = { "exactly once", "the end state is exact" } }

function TestPromises.test_what_is_tested_is_what_is_declared()
   for name, driver in pairs(drivers) do
      if name ~= "prepared" and driver.is_there() then
         local crash, ok = declared(driver.script(driver.start(), "one")).crash, false
         for _, words in ipairs(WORDS[driver.promise]) do
            ok = ok or crash:sub(1, #words) == words
         end
         lu.assertTrue(ok, ("%s: %s, but the contract is '%s'"):format(name, crash, driver.promise))
      end
   end
end

return TestPromises
