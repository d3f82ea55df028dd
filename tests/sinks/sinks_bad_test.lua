-- sinks_bad_test.lua: what each sink says of a target that it cannot use; no secret is ever shown.
-- SPDX-License-Identifier: MIT
--
-- What passes by itself is a warning, and is tried again; what does not ends the program with one
-- line and status 3. Servers are real; those that are not of a sink's kind, too. (What Kafka itself
-- refuses: kafka_secure.)

local certificates = require "certificates"
local files = require "files"
local fixtures = require "fixtures"
local kafka = require "kafka"
local lu = require "luaunit"
local native = require "native"
local nats = require "nats"
local once = require "once"
local program = require "program"
local receiver = require "receiver"
local redis = require "redis"

local TestSinksBad = {}

local SECRET = "hush-7s3cr3t"

-- By name of a sink: is_there; text: Lua of its options, %s being an address; address(host, port,
-- has_tls); secure(made): starts a server with these certificates, returns its port; what is said
-- of an authority that is `unknown`, of a `stranger`, which is a server of another kind.
local function of_http(kind)
   return {
      is_there = receiver.is_there, text = kind .. ' {url = "%s", user = "me", ',
      address = function(host, port, has_tls)
         return ("%s://%s:%d"):format(has_tls and "https" or "http", host, port)
      end,
      unknown = "unable to get local issuer certificate", stranger = "Empty reply from server",
      secure = function(made)
         return receiver.new { dir = made.dir }.port
      end,
   }
end

local kinds = {
   http = of_http "http", clickhouse = of_http "clickhouse", opensearch = of_http "opensearch",
   redis = {
      is_there = redis.is_there, text = 'redis {connect = "%s", ',
      address = function(host, port, has_tls)
         return ("%s://%s:%d"):format(has_tls and "rediss" or "redis", host, port)
      end,
      unknown = "the server's certificate does not verify: ",
      stranger = "127%.0%.0%.1:%d+: the server does not speak the protocol of Redis",
      secure = function(made)
         local port = assert(native.free_port())
         redis.new { "--tls-port", tostring(port), "--tls-cert-file", made.cert, "--tls-key-file",
                     made.key, "--tls-ca-cert-file", made.ca, "--tls-auth-clients", "no" }
         return port
      end,
   },
   nats = {
      is_there = nats.is_there, text = 'nats {servers = "%s", stream = "S", user = "me", ',
      address = function(host, port, has_tls)
         return ("%s://%s:%d"):format(has_tls and "tls" or "nats", host, port)
      end,
      unknown = "unable to get local issuer certificate", stranger = "cannot connect: Timeout",
      secure = function(made)
         return nats.new(([[tls { cert_file: "%s", key_file: "%s" }]]):format(made.cert,
            made.key)).port
      end,
   },
   kafka = {
      is_there = kafka.is_there,
      text = 'kafka {brokers = "%s", user = "me", config = {["sasl.mechanisms"] = "PLAIN"}, ',
      address = function(host, port)
         return ("%s:%d"):format(host, port)
      end,
      stranger = "cannot connect to 127%.0%.0%.1:%d+: .*: no broker of Kafka answers there",
   },
}

-- A program whose sink is of this kind; `more`: other options of the sink.
local function how(kind, host, port, has_tls, more)
   return {
      dsn = fixtures.names(2), state = fixtures.state(), env = { SECRET = SECRET },
      options = { "--log-level", "debug" },
      script = ([[pgcdc.source {table = "t"}:sink(pgcdc.sinks.%s password = "$SECRET", %s})]])
         :format(kinds[kind].text:format(kinds[kind].address(host, port, has_tls)), more or ""),
   }
end

local function assert_hidden(run, result)
   for _, text in ipairs { result.stdout, result.stderr, files.read(run.state) or "",
                           files.read(run.state .. "-wal") or "" } do
      lu.assertNotStrContains(text, SECRET)
   end
end

-- It goes on trying, and says why. Returns what it said.
local function assert_waits(kind, run, pattern)
   local p = program.start(run)
   p:wait_stderr(("level=warn msg=\"[^\n]*%s: [^\n]*%s"):format(kind, pattern), 60)
   local result = p:stop()
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertNotStrContains(result.stderr, "level=error")
   assert_hidden(run, result)
   return result.stderr
end

-- It ends with one line.
local function assert_ends(kind, run, pattern)
   local result = program.start(run):finish(30)
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrMatches(result.stderr, ".*level=error msg=\"[^\n]*" .. kind .. ": [^\n]*" .. pattern
      .. ".*")
   lu.assertEquals(select(2, result.stderr:gsub("level=error", "")), 1, result.stderr)
   assert_hidden(run, result)
   run.options = { "--check" }
   result = program.run(run)
   lu.assertEquals(result.status, 3, result.stderr)
   assert_hidden(run, result)
end

for kind, it in pairs(kinds) do
   local function test(name, f)
      TestSinksBad[("test_%s_%s"):format(kind, name)] = function()
         if it.is_there() then
            f()
         end
      end
   end

   test("nobody_listens", function()
      local port = assert(native.free_port())
      assert_waits(kind, how(kind, "127.0.0.1", port), "[Cc]onnect")
   end)

   test("a_host_that_is_not_known", function()
      local text = assert_waits(kind, how(kind, "nowhere.invalid", 1, it.secure ~= nil),
         "nowhere%.invalid")
      lu.assertTrue(text:find "not known" ~= nil or text:find "not resolve host" ~= nil, text)
   end)

   test("a_server_of_another_kind", function()
      local other = (kind == "redis" or kind == "nats" or kind == "kafka") and receiver or redis
      if other.is_there() then
         assert_waits(kind, how(kind, "127.0.0.1", other.new().port), it.stranger)
      end
   end)

   if it.secure then
      test("certificates", function()
         local made, old = certificates.localhost(), certificates.localhost(-1)
         local port, old_port = it.secure(made), it.secure(old)
         local function tls(path)
            return ("tls = {ca = %q}"):format(path)
         end
         assert_ends(kind, how(kind, "localhost", port, true, tls(made.other)),
            it.unknown)
         assert_ends(kind, how(kind, "127.0.0.1", port, true, tls(made.ca)), "match")
         assert_ends(kind, how(kind, "localhost", old_port, true, tls(old.ca)), "expired")
         assert_ends(kind, how(kind, "localhost", port, true, tls "/nowhere/ca.pem"),
            "/nowhere/ca.pem")
      end)
   end
end

-- Brokers of before 0.11 know no transactions, nor messages with a number in them.
for name, options in pairs { transactions = "", numbers = ", exact = false" } do
   TestSinksBad["test_brokers_of_kafka_without_" .. name] = function()
      if not kafka.is_there() then
         return
      end
      local cluster = kafka.mock()
      for _, api in ipairs { "init", "add_partitions", "add_offsets", "end_transaction" } do
         cluster:tell("without %d", kafka.api[api])
      end
      local result = once.ends(1, { dsn = fixtures.names(2), script = ([[
         pgcdc.source {table = "t"}:sink(pgcdc.sinks.kafka {brokers = %q%s})]]):format(
         cluster.brokers, options) })
      lu.assertStrContains(result.text, "requires Apache Kafka broker version >= 0.11.0")
   end
end

return TestSinksBad
