-- contract_test.lua: what every sink keeps whatever dies, each by the same test.
-- SPDX-License-Identifier: MIT

local clickhouse = require "clickhouse"
local contract = require "contract"
local cluster = require "cluster"
local files = require "files"
local json = require "json"
local kafka = require "kafka"
local lu = require "luaunit"
local nats = require "nats"
local receiver = require "receiver"
local redis = require "redis"
local scope = require "scope"

local TestContract = {}

-- A change as `contract` wants it, from its JSON.
local function read_change(text)
   local change = json.decode(text)
   return { id = change.id, key = tostring(change.key.id), seq = change.seq, op = change.op,
            n = change.row and change.row.n }
end

local drivers = {}

drivers.jsonl = {
   promise = "exact",
   start = function()
      return scope.dir "contract" .. "/out.jsonl"
   end,
   script = function(path)
      return ("local sink = pgcdc.sinks.jsonl {path = %q}\n"):format(path)
   end,
   read = function(path)
      local changes = {}
      for i, line in ipairs(files.lines(path)) do
         changes[i] = read_change(line)
      end
      return changes
   end,
}

drivers.postgres = {
   promise = "state",
   start = function()
      return cluster.main():database()
   end,
   script = function(target)
      return ("local sink = pgcdc.sinks.postgres {connect = %q, table = 'm'}\n"):format(
         target:dsn())
   end,
   read = function(target)
      local changes = {}
      for i, row in ipairs(target:exec "select id, n from m") do
         changes[i] = { id = row[1], key = row[1], op = "read", n = row[2] }
      end
      return changes
   end,
}

local function redis_driver(mode, read)
   return {
      promise = mode == "stream" and "exact" or "state",
      start = redis.new,
      script = function(server)
         return ("local sink = pgcdc.sinks.redis {connect = %q, mode = %q}\n"):format(server:url(),
            mode)
      end,
      read = read,
      kill = function(server)
         server:kill()
         server:start()
      end,
   }
end

drivers.redis_stream = redis_driver("stream", function(server)
   local changes = {}
   for i, entry in ipairs(server:stream "{redis}:t") do
      changes[i] = read_change(entry.data)
      lu.assertEquals({ entry.id, entry.op, tonumber(entry.seq) },
         { changes[i].id, changes[i].op, changes[i].seq })
   end
   return changes
end)

local function http_driver(options)
   return {
      promise = "repeats",
      start = receiver.new,
      script = function(server)
         return ("local sink = pgcdc.sinks.http {url = %q, %s}\n"):format(server:url(), options)
      end,
      read = function(server)
         local changes = server:changes()
         for i, change in ipairs(changes) do
            changes[i] = { id = change.id, key = tostring(change.key.id), seq = change.seq,
                           op = change.op, n = change.row and change.row.n }
         end
         return changes
      end,
      kill = function(server)
         server:kill()
         server:start()
      end,
   }
end

drivers.http_one = http_driver ""
drivers.http_batches = http_driver 'body = "ndjson", batch = 20, gzip = true'

drivers.clickhouse = {
   promise = "state",
   start = clickhouse.new,
   script = function(server)
      return ("local sink = pgcdc.sinks.clickhouse {url = %q}\n"):format(server:url())
   end,
   read = function(server)
      local changes = {}
      for i, row in ipairs(server:table "t") do
         local id = tostring(row.id)
         changes[i] = { id = id, key = id, op = "read", n = row.n }
      end
      return changes
   end,
   kill = function(server)
      server:kill()
      server:start()
   end,
}

drivers.opensearch = {
   promise = "state",
   start = function()
      return receiver.new { program = "opensearch" }
   end,
   script = function(server)
      return ("local sink = pgcdc.sinks.opensearch {url = %q}\n"):format(server:url "")
   end,
   read = function(server)
      local changes = {}
      for id, document in pairs(server:documents "t") do
         changes[#changes + 1] = { id = id, key = id, op = "read", n = document.n }
      end
      return changes
   end,
   kill = function(server)
      server:kill()
      server:start()
   end,
}

-- All hashes, as JSON.
local HASHES = [[
   local all = {}
   for _, key in ipairs(redis.call("KEYS", ARGV[1])) do
      local row = {}
      local list = redis.call("HGETALL", key)
      for i = 1, #list, 2 do row[list[i] ] = list[i + 1] end
      all[#all + 1] = {key = key, row = row}
   end
   return cjson.encode(all)]]

drivers.redis_hash = redis_driver("hash", function(server)
   local changes = {}
   for i, it in ipairs(json.decode(server:call("EVAL", HASHES, "0", "{redis}:t:*"))) do
      changes[i] = { id = it.row.id, key = it.row.id, op = "read", n = it.row.n }
      lu.assertEquals(it.key, "{redis}:t:" .. it.row.id)
   end
   return changes
end)

-- The server forgets ids at once, so that what is there twice is seen.
drivers.nats = {
   promise = "exact",
   start = function()
      local server = nats.new()
      server:stream("CDC", { duplicate_window = 100 * 1000000 })
      return server
   end,
   script = function(server)
      return ("local sink = pgcdc.sinks.nats {servers = %q, stream = 'CDC'}\n"):format(server:url())
   end,
   read = function(server)
      local changes = {}
      for i, message in ipairs(server:messages "CDC") do
         changes[i] = read_change(message.data)
         lu.assertEquals(message.headers["Nats-Msg-Id"], changes[i].id)
      end
      return changes
   end,
   kill = function(server)
      server:kill()
      server:start()
   end,
}

-- (In a mock cluster nothing is exact.)
drivers.kafka_plain = {
   promise = "repeats",
   start = kafka.mock,
   script = function(server)
      return ("local sink = pgcdc.sinks.kafka {brokers = %q, exact = false}\n"):format(
         server.brokers)
   end,
   read = function(server)
      local changes = {}
      for i, message in ipairs(server:read "cdc.public.t") do
         changes[i] = read_change(message.payload)
      end
      return changes
   end,
}

for name, driver in pairs(drivers) do
   TestContract["test_" .. name] = function()
      if name:find "^redis" and not redis.is_there() or name == "nats" and not nats.is_there()
         or name:find "^kafka" and not kafka.is_there()
         or (name:find "^http" or name == "opensearch") and not receiver.is_there()
         or name == "clickhouse" and not clickhouse.is_there() then
         return
      end
      local count, kills = contract.run(driver, {})
      io.write(("%d changes, %d kills ... "):format(count, kills))
   end
end

return TestContract
