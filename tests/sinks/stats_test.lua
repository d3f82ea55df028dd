-- stats_test.lua: what sinks tell of themselves, sink:stats().
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local receiver = require "receiver"
local redis = require "redis"
local scope = require "scope"

local TestStats = {}

-- What a sink tells before the first value, with three that were taken, and when they were saved.
-- <make>: Lua that makes it.
local function stats_of(db, make, options)
   options = options or {}
   options.dsn, options.state = db, options.state or fixtures.state()
   options.script = ([[
      local sink = %s
      local all = {sink:stats()}
      local source = pgcdc.source {table = "t"}
      source:sink(sink)
      source:on("batch", function() all[2] = sink:stats() end)
      pgcdc.every(0.01, function()
         local now = sink:stats()
         if now.records == 3 and not all[3] then
            all[3] = now
            io.stderr:write(pgcdc.json.encode(all), "\n")
            pgcdc.stop()
         end
      end)]]):format(make)
   local result = program.run(options)
   lu.assertEquals(result.status, 0, result.stderr)
   return json.decode(result.stderr:match "(%[.*%])\n")
end

local function check(all, has_bytes)
   for i, wanted in ipairs { { 0, 0 }, { 0, 3 }, { 3, 0 } } do
      local stats = all[i]
      lu.assertEquals({ stats.records, stats.unsent_rows }, wanted)
      lu.assertEquals({ stats.retries, stats.refused, stats.in_flight, stats.is_tripped },
         { 0, 0, 0, false })
      lu.assertNil(stats.last_error)
      lu.assertEquals(math.type(stats.bytes), has_bytes and "integer" or nil)
   end
   lu.assertEquals(all[3].is_open, true)
   lu.assertTrue(all[3].flush_seconds >= 0)
   if has_bytes then
      lu.assertTrue(all[1].bytes == 0 and all[2].bytes == 0 and all[3].bytes > 30)
      lu.assertEquals(all[3].unsent_bytes, 0)
      lu.assertTrue(all[2].unsent_bytes > 30)
   end
end

function TestStats.test_files_and_commands()
   local db, dir = fixtures.names(3), scope.dir "stats"
   for _, make in ipairs {
      'pgcdc.sinks.jsonl {path = "%s/a.jsonl"}', 'pgcdc.sinks.csv {path = "%s/{id}.csv"}',
      'pgcdc.sinks.exec {command = "cat > %s/b"}',
   } do
      check(stats_of(db, make:format(dir)), true)
   end
end

function TestStats.test_postgres()
   local db, target = fixtures.names(3), fixtures.database ""
   check(stats_of(db, ('pgcdc.sinks.postgres {connect = %q, table = "t"}'):format(target:dsn())))
end

function TestStats.test_over_the_network()
   local db = fixtures.names(3)
   if receiver.is_there() then
      check(stats_of(db, ("pgcdc.sinks.http {url = %q}"):format(receiver.new():url())), true)
   end
   if redis.is_there() then
      check(stats_of(db, ("pgcdc.sinks.redis {connect = %q}"):format(redis.new():url())), true)
   end
end

-- What fails is counted, for a sink of any kind.
function TestStats.test_failures()
   local db, dir = fixtures.names(3), scope.dir "stats"
   local result = once.run { dsn = db, status = 1, script = ([[
      local sink = pgcdc.sinks.exec {command = "test -e %s/go && exec cat; touch %s/go; exit 3"}
      local source = pgcdc.source {table = "t", on_error = {retry = 3, wait = 0.1}}
      source:sink(sink)
      pgcdc.every(0.01, function()
         local stats = sink:stats()
         if stats.last_error then print(stats.retries, stats.last_error) end
         if stats.records == 3 then print("done", stats.retries, stats.last_error) end
      end)]]):format(dir, dir) }
   lu.assertStrMatches(result.stdout, "1\t.-status 3.*")
end

return TestStats
