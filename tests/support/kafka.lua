-- kafka.lua: throw-away clusters of Kafka: a mock that fails as it is told, and real ones.
-- SPDX-License-Identifier: MIT
--
-- The mock is kafka_mock.c. It needs no Java, but forgets offsets that were part of a transaction,
-- shows what was aborted, and fences nobody. The real ones are for `make check-kafka`, which
-- puts the server's jars into build/kafka. All listen on ports of 127.0.0.1 and die with their
-- scope. kcat reads.

local child = require "child"
local files = require "files"
local json = require "json"
local native = require "native"
local remote_sinks = require "remote_sinks"
local scope = require "scope"
local tree = require "tree"
local wait = require "wait"

local kafka = {}

-- The numbers of requests and errors, for `fail`.
kafka.api = { produce = 0, metadata = 3, offset_fetch = 9, find_coordinator = 10, init = 22,
              add_partitions = 24, add_offsets = 25, end_transaction = 26, commit_offsets = 28 }
kafka.code = { unknown_topic = 3, not_leader = 6, too_large = 10, load_in_progress = 14,
               not_coordinator = 16, topic_denied = 29, group_denied = 30, cluster_denied = 31,
               concurrent = 51, id_denied = 53, sasl_failed = 58, invalid_epoch = 47,
               invalid_record = 87, fenced = 90 }

local MOCK = tree.top .. "/build/tests/kafka_mock"
local JARS = tree.top .. "/build/kafka/libs"

local function find(name)
   for dir in (os.getenv "PATH" or ""):gmatch "[^:]+" do
      local path = native.realpath(dir .. "/" .. name)
      if path then
         return path
      end
   end
end

local methods = {}
local mt = { __name = "kafka", __index = methods }

-- ---- reading ----

-- What is in a topic, as a list of {topic =, partition =, offset =, key =, payload =, headers =
-- {name = value}}, by partition and offset. <isolation>: default "read_committed".
function methods:read(topic, isolation)
   local text = child.run({ argv = {
      find "kcat", "-b", self.brokers, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J",
      "-X", "isolation.level=" .. (isolation or "read_committed"), "-X", "fetch.wait.max.ms=20",
   }, stderr = "null" }, 60)
   local list = {}
   for line in text:gmatch "[^\n]+" do
      local message = json.decode(line)
      local headers = {}
      for i = 1, #(message.headers or {}), 2 do
         headers[message.headers[i]] = message.headers[i + 1]
      end
      message.headers = headers
      message.key = message.key ~= json.null and message.key or nil
      message.payload = message.payload ~= json.null and message.payload or nil
      list[#list + 1] = message
   end
   table.sort(list, function(a, b)
      if a.partition ~= b.partition then
         return a.partition < b.partition
      end
      return a.offset < b.offset
   end)
   return list
end

-- How many records a topic of so many partitions (default 3) has got, those of transactions that
-- have not ended too.
function methods:count(topic, partitions)
   local argv = { find "kcat", "-b", self.brokers, "-Q" }
   for i = 1, partitions or 3 do
      argv[#argv + 1] = "-t"
      argv[#argv + 1] = ("%s:%d:-1"):format(topic, i - 1)
   end
   local sum = 0
   for offset in child.run({ argv = argv, stderr = "null" }, 60):gmatch "offset (%d+)" do
      sum = sum + math.tointeger(tonumber(offset))
   end
   return sum
end

-- Puts one record into a topic, by kcat. <text> nil: one without a value. <headers>: {name =
-- value}, or nil.
function methods:write(topic, key, text, headers)
   local argv = { find "kcat", "-b", self.brokers, "-P", "-t", topic,
                  table.unpack(text and { "-k", key } or { "-Z", "-K", "\1" }) }
   text = text or key .. "\1\n"
   for name, value in pairs(headers or {}) do
      argv[#argv + 1], argv[#argv + 2] = "-H", name .. "=" .. value
   end
   local proc = assert(native.spawn { argv = argv, stdin = "pipe" })
   assert(proc:write(text))
   proc:close "stdin"
   assert(proc:wait(wait.scaled(60)), "kcat does not end")
end

-- The changes of a topic, from their JSON.
function methods:changes(topic)
   local list = {}
   for i, message in ipairs(self:read(topic)) do
      list[i] = json.decode(message.payload)
   end
   return list
end

-- ---- the mock ----

--- True if there is a mock to test with; says so where there is none.
function kafka.is_there()
   if native.realpath(MOCK) and find "kcat" then
      return true
   end
   io.write "skipped, there is no librdkafka-dev or no kcat ... "
   return false
end

-- A mock with so many brokers (default 1).
function kafka.mock(brokers)
   local self = setmetatable({}, mt)
   self.proc = assert(native.spawn {
      argv = { MOCK, tostring(brokers or 1) }, stdin = "pipe", stdout = "pipe", stderr = "null",
   })
   self.brokers = self:answer()
   self:tell "topic pgcdc-positions 1" -- it cannot be asked for topics
   self:tell "topic pgcdc-shapes 1"
   scope.add(function()
      self.proc:close "stdin"
      self.proc:wait(wait.scaled(10))
   end)
   return self
end

-- The next line that it prints.
function methods:answer()
   self.output = self.output or ""
   while not self.output:find "\n" do
      self.output = self.output .. assert(self.proc:read("stdout", wait.scaled(10)))
   end
   local line, rest = self.output:match "^([^\n]*)\n(.*)$"
   self.output = rest
   return line
end

-- Tells the mock something, see kafka_mock.c.
function methods:tell(command, ...)
   assert(self.proc:write(command:format(...) .. "\n"))
   assert(self:answer() == "ok")
end

-- The next requests of that kind, as many, get this error.
function methods:fail(api, code, times)
   self:tell("error %d %d %d", assert(kafka.api[api]), assert(kafka.code[code]), times or 1)
end

-- ---- real ones ----

-- True if the server was fetched.
function kafka.has_jars()
   return native.listdir(JARS) ~= nil and find "java" ~= nil and find "kcat" ~= nil
end

-- True in `make check-kafka` only; says so elsewhere.
function kafka.is_real_there()
   if os.getenv "PGCDC_KAFKA" then
      return true
   end
   io.write "skipped, this is for make check-kafka ... "
   return false
end

local function java(...)
   return { find "java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp",
            JARS .. "/*", ... }
end

-- What a node needs to let users in at another port, with TLS, passwords and privileges. Who comes
-- to the first port may do everything, and so may the user `admin`. `secure`: {key =, cert =, users
-- = {[name] = password}}.
local function of_security(node, secure)
   local lines, users = {}, {}
   for name, password in pairs(secure.users) do
      users[#users + 1] = ('user_%s="%s"'):format(name, password)
   end
   local file = node.dir .. "/server.pem"
   local key = child.run { argv = { find "openssl", "pkcs8", "-topk8", "-nocrypt", "-in",
                                    secure.key } }
   files.write(file, key .. files.read(secure.cert))
   local prefix, modules = "listener.name.secure.", "org.apache.kafka.common.security."
   for name, value in pairs {
      ["listener.security.protocol.map"] =
         "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
      ["sasl.enabled.mechanisms"] = "SCRAM-SHA-512,PLAIN",
      [prefix .. "scram-sha-512.sasl.jaas.config"] = modules
         .. "scram.ScramLoginModule required;",
      [prefix .. "plain.sasl.jaas.config"] = ("%splain.PlainLoginModule required %s;"):format(
         modules, table.concat(users, " ")),
      [prefix .. "ssl.keystore.type"] = "PEM", [prefix .. "ssl.keystore.location"] = file,
      ["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
      ["super.users"] = "User:ANONYMOUS;User:admin", ["auto.create.topics.enable"] = "false",
   } do
      lines[#lines + 1] = name .. "=" .. value
   end
   return "\n" .. table.concat(lines, "\n")
end

-- What a node needs to be reached by another port, too, through a network that fails.
local function of_way(node)
   return "\nlistener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
      .. "WAY:PLAINTEXT", (",WAY://127.0.0.1:%d"):format(node.way_target),
      (",WAY://127.0.0.1:%d"):format(node.way_port)
end

-- The configuration of a node, which is broker and controller.
local function configuration(nodes, i, secure)
   local voters = {}
   for k, node in ipairs(nodes) do
      voters[k] = ("%d@127.0.0.1:%d"):format(k, node.controller)
   end
   local replicas = #nodes
   local listeners = ("PLAINTEXT://127.0.0.1:%d"):format(nodes[i].port)
   local advertised = listeners
   if secure then
      listeners = ("%s,SECURE://127.0.0.1:%d"):format(listeners, nodes[i].secure_port)
      advertised = ("%s,SECURE://localhost:%d"):format(advertised, nodes[i].secure_port)
   end
   local more = ""
   if nodes[i].way_port then
      local to, from
      more, to, from = of_way(nodes[i])
      listeners, advertised = listeners .. to, advertised .. from
   end
   local lines = {
      "process.roles=broker,controller", "node.id=" .. i,
      "controller.quorum.voters=" .. table.concat(voters, ","),
      "controller.listener.names=CONTROLLER", "inter.broker.listener.name=PLAINTEXT",
      ("listeners=%s,CONTROLLER://127.0.0.1:%d"):format(listeners, nodes[i].controller),
      "advertised.listeners=" .. advertised, "log.dirs=" .. nodes[i].dir .. "/log",
      "num.partitions=3", "default.replication.factor=" .. replicas,
      "min.insync.replicas=" .. (replicas > 1 and 2 or 1),
      "offsets.topic.replication.factor=" .. replicas, "offsets.topic.num.partitions=3",
      "transaction.state.log.replication.factor=" .. replicas,
      "transaction.state.log.min.isr=" .. (replicas > 1 and 2 or 1),
      "transaction.state.log.num.partitions=3", "group.initial.rebalance.delay.ms=0",
   }
   return table.concat(lines, "\n") .. (secure and of_security(nodes[i], secure) or "") .. more
      .. "\n"
end

-- A cluster of so many nodes (default 1), which is up. `secure`: see of_security; then it makes no
-- topics by itself, and users connect to `secure_brokers`. `options`: keep = true: until the end of
-- the run; has_way = true: it has a proxy, `way`, through which who connects to `way_brokers` goes;
-- id = of the cluster.
function kafka.new(count, secure, options)
   local self = setmetatable({ nodes = {} }, mt)
   local addresses = {}
   options = options or {}
   for i = 1, count or 1 do
      self.nodes[i] = { dir = scope.dir "kafka", port = assert(native.free_port()),
                        controller = assert(native.free_port()),
                        secure_port = secure and assert(native.free_port()),
                        way_port = options.has_way and assert(native.free_port()),
                        way_target = options.has_way and assert(native.free_port()) }
      addresses[i] = "127.0.0.1:" .. self.nodes[i].port
   end
   if options.has_way then
      local node = self.nodes[1]
      self.way_brokers = "127.0.0.1:" .. node.way_port
      self.way = assert(native.proxy { listen = node.way_port, target = node.way_target })
      scope.add(function() self.way:close() end, options.keep)
   end
   self.brokers = table.concat(addresses, ",")
   self.secure_brokers = secure and "localhost:" .. self.nodes[1].secure_port
   for i, node in ipairs(self.nodes) do
      node.file = node.dir .. "/properties"
      files.write(node.file, configuration(self.nodes, i, secure))
      local text, status = child.run({
         argv = java("kafka.tools.StorageTool", "format", "-t", options.id
            or "AAAAAAAAAAAAAAAAAAAAAQ", "-c", node.file), stderr = node.dir .. "/format",
      }, 60)
      assert(status.exit == 0, text)
   end
   scope.add(function()
      for i in ipairs(self.nodes) do
         self:kill(i)
      end
   end, options.keep)
   for i in ipairs(self.nodes) do
      self:start(i)
   end
   self:await(#self.nodes)
   if secure then
      local commands = {}
      for name, password in pairs(secure.users) do
         commands[#commands + 1] = ("user,%s,%s"):format(name, password)
      end
      self:admin(table.unpack(commands))
   end
   return self
end

-- Starts a node (default: the first), without waiting for it.
function methods:start(i)
   local node = self.nodes[i or 1]
   node.proc = assert(native.spawn {
      argv = java("kafka.Kafka", node.file), stdout = node.dir .. "/out",
      stderr = node.dir .. "/out",
   })
end

-- SIGKILL to a node.
function methods:kill(i)
   local node = self.nodes[i or 1]
   if node.proc then
      node.proc:kill "KILL"
      node.proc:wait(wait.scaled(10))
      node.proc = nil
   end
end

-- Waits until so many brokers are up.
function methods:await(count)
   wait.until_(function()
      for _, node in ipairs(self.nodes) do
         assert(not node.proc or node.proc:alive(), files.read(node.dir .. "/out"))
      end
      local text = child.run { argv = { find "kcat", "-b", self.brokers, "-L", "-m", "2" },
                               stderr = "null" }
      return text:find((" %d brokers:"):format(count), 1, true)
   end, 180, "Kafka to take connections")
end

-- A folder with Kafka's own commands, as far as tests need them, that run as they are.
function kafka.commands()
   local folder = scope.dir "commands"
   for name, class in pairs { topics = "TopicCommand", acls = "AclCommand" } do
      local path = ("%s/kafka-%s.sh"):format(folder, name)
      files.write(path, ("#!/bin/sh\nexec java -cp '%s/*' org.apache.kafka.tools.%s \"$@\"\n")
         :format(JARS, class))
      native.chmod(path, tonumber("755", 8))
   end
   return folder
end

-- Has an administrator do these things: see tests/kafka/Admin.java.
function methods:admin(...)
   return self:java("Admin.java", ...)
end

-- The output of a program of Java, a source file in tests/kafka, that gets these words.
function methods:java(file, ...)
   local argv = java(tree.top .. "/tests/kafka/" .. file)
   for _, word in ipairs { self.brokers, ... } do
      argv[#argv + 1] = word
   end
   local text, status = child.run({ argv = argv, stderr = "null" }, 120)
   assert(status.exit == 0, text)
   return text
end

-- ---- suites against the mock ----

-- What adds a test to a suite, as remote_sinks.tests: it gets a mock with the topic of table t.
function kafka.tests(suite)
   return remote_sinks.tests(suite, kafka.is_there, function()
      local cluster = kafka.mock()
      cluster:tell "topic cdc.public.t 3"
      return cluster
   end)
end

-- A script that puts table t into Kafka. <cluster>: it, or its brokers. <options>: fields of the
-- sink, <source>: of the source.
function kafka.script(cluster, options, source)
   return ([[pgcdc.source {table = "t", interval = 0.02, %s}:sink(pgcdc.sinks.kafka {
      brokers = %q, %s})]]):format(source or "", type(cluster) == "string" and cluster
      or cluster.brokers, options or "")
end

-- The numbers of the rows in these messages, sorted; with <is_set>, each once.
function kafka.ids(messages, is_set)
   local list, seen = {}, {}
   for _, message in ipairs(messages) do
      local id = json.decode(message.payload).row.id
      if not (is_set and seen[id]) then
         list[#list + 1] = id
      end
      seen[id] = true
   end
   table.sort(list)
   return table.concat(list, " ")
end

return kafka
