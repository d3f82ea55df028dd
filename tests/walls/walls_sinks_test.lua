-- walls_sinks_test.lua: scripts in the sandbox that want out by a sink that connects to others.
-- SPDX-License-Identifier: MIT
--
-- What a sink is told is checked when it is made; libraries do more than a script may: librdkafka
-- loads plugins and runs kinit, libcurl connects to sockets.

local files = require "files"
local lu = require "luaunit"
local native = require "native"
local nats = require "nats"
local program = require "program"
local receiver = require "receiver"
local redis = require "redis"
local scope = require "scope"

local TestWallsSinks = {}

-- True if the program has that module.
local function has(name)
   local is_there = native.realpath(program.binary():match "^(.*)/" .. "/modules/" .. name .. ".so")
   if not is_there then
      io.write(("skipped, the module %s was not built ... "):format(name))
   end
   return is_there ~= nil
end

local function run(script, args, ...)
   return program.run { state = false, dsn = "host=/nonexistent", args = args,
                        options = { "--allow-network", ... }, script = script }
end

-- Options whose values become others once they were read.
local CHANGING = [[
   local asked
   local function changing(values)
      asked = {}
      return setmetatable({}, {__pairs = function() return next, {} end,
         __index = function(_, name)
            asked[name] = (asked[name] or 0) + 1
            if asked[name] == 1 then return values[name] end
            return {{}}
         end})
   end
   local sinks = {
      clickhouse = {url = "http://127.0.0.1:1"}, http = {url = "http://127.0.0.1:1"},
      kafka = {brokers = "127.0.0.1:1", config = {}}, opensearch = {url = "http://127.0.0.1:1"},
      nats = {servers = "nats://127.0.0.1:1", stream = "S", create = {},
              credentials = "BEGIN NATS USER JWT"},
      redis = {connect = "redis://127.0.0.1:1"}, postgres = {table = "t", connect = "host=x"},
      jsonl = {path = "-"}, csv = {path = "-"}, text = {path = "-"}, exec = {command = "true"},
   }
   for name, options in pairs(sinks) do
      local ok, problem = pcall(pgcdc.sinks[name], changing(options))
      assert(ok or problem:find "allows no commands" or problem:find "not built"
         or problem:find "not installed", problem)
      for field, n in pairs(asked) do
         assert(n == 1 or name == "kafka" and field == "exact",
            ("%s.%s was read %d times"):format(name, field, n))
      end
   end
   print "done"
   pgcdc.stop()]]

function TestWallsSinks.test_options_are_read_once()
   for _, option in ipairs { "--sandbox", "--log-level=info" } do
      local result = run(CHANGING, nil, option)
      lu.assertEquals(result.stdout, "done\n", result.stderr)
   end
end

local PLUGIN = [[
   local plugin, n = {["plugin.library.paths"] = pgcdc.args.dir .. "/evil.so"}, 0
   local later = {}
   local options = {brokers = "127.0.0.1:1", topic = "t", exact = false, timeout = 0.2}
   local function try(name, config)
      options.name, options.config = name, config
      local ok, sink = pcall(pgcdc.sinks.kafka, options)
      if not ok then return print(sink) end
      later["plugin.library.paths"] = plugin["plugin.library.paths"]
      sink:write {id = 1}
      print(select(2, pcall(sink.flush, sink)))
   end
   for first = 1, 4 do
      later = {}
      try("later" .. first, later)
      try("pairs" .. first, setmetatable({}, {__pairs = function()
         n = n + 1
         return next, n >= first and plugin or {}
      end}))
      n = 0
   end
   pgcdc.stop()]]

function TestWallsSinks.test_kafka_loads_no_plugins()
   if not has "kafka" then
      return
   end
   local dir = scope.dir()
   files.write(dir .. "/evil.so", "")
   lu.assertStrContains(run(PLUGIN, { dir = dir }).stdout, "evil.so")
   local result = run(PLUGIN, { dir = dir }, "--sandbox")
   lu.assertStrContains(result.stdout, "the sandbox does not allow plugin.library.paths")
   lu.assertStrContains(result.stdout, "cannot connect")
   lu.assertNotStrContains(result.stdout .. result.stderr, "evil.so")
end

-- The default of librdkafka is GSSAPI, which runs kinit.
function TestWallsSinks.test_kafka_uses_no_tickets()
   if not has "kafka" then
      return
   end
   local script = [[
      for i, config in ipairs {
         {["security.protocol"] = "sasl_plaintext"}, {["security.protocol"] = "SASL_PLAINTEXT"},
         {["security.protocol"] = "sasl_plaintext", ["sasl.mechanism"] = "GSSAPI"},
         {["security.protocol"] = "sasl_plaintext", ["sasl.mechanisms"] = "GSSAPI"},
         {["security.protocol"] = "sasl_plaintext", ["sasl.mechanisms"] = "OAUTHBEARER"},
      } do
         print((select(2, pcall(function()
            local sink = pgcdc.sinks.kafka {name = "k" .. i, brokers = "127.0.0.1:1", topic = "t",
               exact = false, timeout = 0.2, config = config}
            sink:write {id = 1}
            sink:flush()
         end))))
      end
      pgcdc.stop()]]
   lu.assertStrContains(run(script).stdout, "kerberos")
   local result = run(script, nil, "--sandbox")
   lu.assertNotStrContains(result.stdout .. result.stderr, "kerberos")
   lu.assertStrContains(result.lines[1], "sasl.username")
   lu.assertStrContains(result.lines[2], "sasl.username")
   for i = 3, 5 do
      lu.assertStrContains(result.lines[i],
         "the sandbox allows PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512")
   end
end

-- libcurl takes socks5h://localhost/PATH as a socket: it would tell which files there are.
function TestWallsSinks.test_http_uses_no_sockets()
   if not has "http" then
      return
   end
   local script = [[
      for i, proxy in ipairs {
         "socks5h://localhost" .. pgcdc.args.dir, "socks5://u:p@localhost" .. pgcdc.args.dir,
         "socks4a://LOCALHOST/" .. pgcdc.args.dir, "localhost" .. pgcdc.args.dir,
         "socks5h://localhost?" .. pgcdc.args.dir, "socks5h://localhost#/" .. pgcdc.args.dir,
         "socks5h://localhost\\" .. pgcdc.args.dir, "file://" .. pgcdc.args.dir,
      } do
         for _, kind in ipairs {"http", "clickhouse", "opensearch"} do
            print((select(2, pcall(pgcdc.sinks[kind], {name = kind .. i, proxy = proxy,
               url = "http://127.0.0.1:1"}))))
         end
      end
      pgcdc.sinks.http {url = "http://127.0.0.1:1", proxy = "http://u:p@[::1]:3128/"}
      pgcdc.sinks.http {name = "no", url = "http://127.0.0.1:1", proxy = false}
      print "done"
      pgcdc.stop()]]
   local result = run(script, { dir = scope.dir() }, "--sandbox")
   lu.assertEquals(#result.lines, 25, result.stderr)
   for i = 1, 24 do
      lu.assertStrContains(result.lines[i], "the sandbox allows no sockets by their path")
   end
end

-- ---- in the middle of a flush ----

-- Finalizers run in any allocation: here they close what is in use.
local HOSTILE = [[
   local sink = pgcdc.sinks[pgcdc.args.kind](load("return " .. pgcdc.args.options)())
   local is_on, refused = true, 0
   local function trap()
      setmetatable({}, {__gc = function()
         if not is_on then return end
         local ok, problem = pcall(sink.close, sink)
         if not ok then
            assert(problem:find "in the middle of a flush", problem)
            assert(not pcall(sink.flush, sink))
            refused = refused + 1
         end
         trap()
      end})
   end
   for i = 1, 20 do sink:write {id = i} end
   trap()
   collectgarbage("incremental", 1, 1000, 30) -- a whole collection in each allocation,
   collectgarbage() -- from the next one on
   sink:flush()
   is_on = false
   collectgarbage "generational"
   assert(refused > 0, "nothing ran in the middle")
   print(sink:stats().records, sink:stats().retries)
   pgcdc.stop()]]

local function in_the_middle(kind, options)
   for _, option in ipairs { "--sandbox", "--log-level=info" } do
      local result = run(HOSTILE, { kind = kind, options = options }, option)
      lu.assertEquals(result.stdout, "20\t0\n", result.stderr)
   end
end

function TestWallsSinks.test_http_is_not_closed_in_use()
   if receiver.is_there() then
      in_the_middle("http", ("{url = %q}"):format(receiver.new():url "/"))
   end
end

function TestWallsSinks.test_redis_is_not_closed_in_use()
   if redis.is_there() then
      in_the_middle("redis", ("{connect = %q, key = 'k'}"):format(redis.new():url(true)))
   end
end

function TestWallsSinks.test_nats_is_not_closed_in_use()
   if nats.is_there() then
      local server = nats.new()
      server:stream("CDC", {})
      in_the_middle("nats", ("{servers = %q, stream = 'CDC', subject = 'cdc.t'}"):format(
         server:url()))
   end
end

-- The same with the client itself, of which the sink knows nothing. (In the sandbox no script has
-- it.) What is closed between two calls is only closed; the memory that a call reads stays.
local CLOSING = [[
   local sink = pgcdc.sinks[pgcdc.args.kind](load("return " .. pgcdc.args.options)())
   local refused, is_on = 0, true
   local function trap()
      setmetatable({}, {__gc = function()
         if not is_on then return end
         local client = sink.client
         local ok, problem = pcall(function() client:close() end)
         refused = refused + (not ok and tostring(problem):find "it is in use" and 1 or 0)
         trap()
      end})
   end
   collectgarbage("incremental", 1, 1000, 30)
   for i = 1, 50 do
      sink:write {id = i}
      is_on = false
      pcall(sink.flush, sink) -- connects
      is_on = true
      trap()
      collectgarbage()
      sink:write {id = i}
      pcall(sink.flush, sink)
      if refused > 0 then break end
   end
   is_on = false
   print(refused > 0)
   pgcdc.stop()]]

local function is_refused(kind, options)
   local result = run(CLOSING, { kind = kind, options = options })
   lu.assertEquals({ result.stdout, result.signal }, { "true\n" }, result.stderr)
end

function TestWallsSinks.test_the_client_of_redis_is_not_closed_in_use()
   if redis.is_there() then
      is_refused("redis", ("{connect = %q, key = 'k'}"):format(redis.new():url(true)))
   end
end

function TestWallsSinks.test_the_client_of_nats_is_not_closed_in_use()
   if nats.is_there() then
      local server = nats.new()
      server:stream("CDC", {})
      is_refused("nats", ("{servers = %q, stream = 'CDC', subject = 'cdc.t'}"):format(
         server:url()))
   end
end

return TestWallsSinks
