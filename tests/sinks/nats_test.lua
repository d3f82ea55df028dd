-- nats_test.lua: pgcdc.sinks.nats against a real server.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local nats = require "nats"
local once = require "once"

local TestNats = {}

-- Each test gets a server that others have not used, with a stream CDC; without one on this machine
-- it does nothing. <config>: of the stream.
local function test(name, f, config, server_config)
   TestNats["test_" .. name] = function()
      if nats.is_there() then
         local server = nats.new(server_config)
         if config ~= false then
            server:stream("CDC", config or {})
         end
         f(server)
      end
   end
end

-- A script that puts table t into the stream. <options>: fields of the sink, <source>: of the
-- source.
local function script(server, options, source)
   return ([[pgcdc.source {table = "t", interval = 0.02, %s}:sink(pgcdc.sinks.nats {
      servers = %q, stream = "CDC", %s})]]):format(source or "", type(server) == "string" and server
      or server:url(), options or "")
end

local function ids(messages)
   local list = {}
   for i, message in ipairs(messages) do
      list[i] = tostring(json.decode(message.data).row.id)
   end
   return table.concat(list, " ")
end

test("a_stream", function(server)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   once.ok(how)
   local messages = server:messages "CDC"
   lu.assertEquals(#messages, 3)
   for i, message in ipairs(messages) do
      local change, h = json.decode(message.data), message.headers
      lu.assertEquals(message.subject, "cdc.public.t")
      lu.assertEquals({ h.op, change.op, change.row.id, change.id, tostring(change.seq), h.id },
         { "read", "read", i, h["Nats-Msg-Id"], h.seq, change.id })
      lu.assertEquals({ h.schema, h.table, h.ts }, { "public", "t", change.ts })
   end
   db:exec "update t set name = 'x' where id = 2"
   once.ok(how)
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3 2")
   once.ok(how)
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3 2")
end)

return TestNats
