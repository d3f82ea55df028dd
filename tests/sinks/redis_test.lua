-- redis_test.lua: pgcdc.sinks.redis against a real server.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local redis = require "redis"

local TestRedis = {}

local function setup()
   if not redis.is_there() then
      return nil
   end
   return redis.new()
end

local function script(server, options, source)
   return ([[pgcdc.source {table = "t", interval = 0.02, %s}:sink(pgcdc.sinks.redis {
      connect = %q, %s})]]):format(source or "", server:url(), options or "")
end

function TestRedis.test_a_stream()
   local server = setup()
   if not server then
      return
   end
   local db, state = fixtures.names(3), fixtures.state()
   once.ok { dsn = db, state = state, script = script(server) }
   local entries = server:stream "{redis}:t"
   lu.assertEquals(#entries, 3)
   for i, entry in ipairs(entries) do
      local change = json.decode(entry.data)
      lu.assertEquals({ entry.op, change.op, change.row.id, change.id, tostring(change.seq) },
         { "read", "read", i, entry.id, entry.seq })
   end
   db:exec "update t set name = 'x' where id = 2"
   once.ok { dsn = db, state = state, script = script(server) }
   entries = server:stream "{redis}:t"
   lu.assertEquals(#entries, 4)
   lu.assertEquals(json.decode(entries[4].data).row.name, "x")
end

return TestRedis
