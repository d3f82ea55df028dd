-- doctor_sinks_test.lua: --check says what mends a target of the network, and that mends it.
-- SPDX-License-Identifier: MIT
--
-- As doctor_test.lua, with real servers and the bundled scripts that write into them.

local certificates = require "certificates"
local clickhouse = require "clickhouse"
local files = require "files"
local kafka = require "kafka"
local lu = require "luaunit"
local mending = require "mending"
local nats = require "nats"
local native = require "native"
local opensearch = require "opensearch"
local program = require "program"
local receiver = require "receiver"
local redis = require "redis"
local scope = require "scope"
local wait = require "wait"

local TestDoctorSinks = {}

-- A table that can be read, and a bundled script that writes its changes with these options.
local function setup(bundled, args, env)
   args.table = "t"
   return mending.setup([[create table t (id int primary key, name text);
      insert into t values (1, 'a'); grant select on t to ROLE]], args,
      { bundled = bundled, env = env })
end

local function mend(says, ...)
   return mending.mend(setup(...), says)
end

-- ---- Redis ----

-- A server, and its address.
local function start_redis(...)
   local server = redis.new { ... }
   return server, "redis://127.0.0.1:" .. server.port
end

function TestDoctorSinks.test_redis()
   if not redis.is_there() then
      return
   end
   local server, address = start_redis("--requirepass", "pw")
   server.password = "pw"
   local env = { REDIS_PASSWORD = "pw", REDISCLI_AUTH = "pw" }
   mend("NOAUTH Authentication required", "redis", { connect = address }, env)
   -- who may do nothing gets what each mode needs, and nothing beyond
   server:call("ACL", "SETUSER", "app", "on", ">pw")
   for _, mode in ipairs { "stream", "json", "hash", "publish" } do
      server:call("ACL", "SETUSER", "app", "resetkeys", "resetchannels", "-@all")
      mend("NOPERM", "redis", { connect = address, user = "app", password = "pw", mode = mode },
         env)
      lu.assertStrContains(server:try("ACL", "GETUSER", "app"), "-@all", mode)
   end
   -- another password there than in the environment
   server:call("ACL", "SETUSER", "app", "resetpass", ">other")
   mend("WRONGPASS", "redis", { connect = address, user = "app", mode = "publish",
                                password = "$REDIS_PASSWORD" }, env)
   -- a replica
   local _, replica = start_redis("--replicaof", "127.0.0.1 " .. server.port, "--masterauth", "pw",
      "--requirepass", "pw")
   mend("READONLY", "redis", { connect = replica, password = "$REDIS_PASSWORD" }, env)
   -- a key that is something else, and has blanks
   server:call("SET", "a key", "x")
   mend("the key 'a key' is a string, and no stream", "redis",
      { connect = address, password = "pw", key = "a key" }, env)
   lu.assertEquals(server:call("GET", "a key:before"), "x")
   -- nothing was written by all these checks
   lu.assertEquals(server:call "DBSIZE", 1)
end

-- Settings with which a server forgets.
function TestDoctorSinks.test_redis_that_may_lose()
   if not redis.is_there() then
      return
   end
   local server, address = start_redis("--appendonly", "no", "--appendfsync", "everysec",
      "--maxmemory-policy", "allkeys-lru")
   local printed = mend("warn   sink redis: the server has appendonly no", "redis",
      { connect = address })
   lu.assertStrContains(printed, "maxmemory-policy allkeys-lru: it may drop keys")
   server:call("CONFIG", "SET", "appendfsync", "everysec")
   mend("appendfsync everysec", "redis", { connect = address })
end

-- In a cluster all keys need the hash tag.
function TestDoctorSinks.test_a_cluster_of_redis()
   if not redis.is_there() then
      return
   end
   local server, address = start_redis("--cluster-enabled", "yes")
   server:call("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
   wait.until_(function()
      return server:try("CLUSTER", "INFO"):find "cluster_state:ok"
   end, 20, "the cluster")
   local s = setup("redis", { connect = address, key = "all:{table}" })
   mending.mend(s, "need the hash tag")
   lu.assertEquals(s.args.key, "{name}:all:{table}")
end

-- ---- certificates ----

-- What serves TLS for "localhost": what somebody unknown has signed, or it has itself.
local function each_certificate(try)
   local made = certificates.localhost()
   try(made.dir, made.cert, made.key)
   local own = certificates.localhost()
   local cert, key = certificates.authority(own.dir, "localhost")
   assert(os.rename(cert, own.cert) and os.rename(key, own.key))
   try(own.dir, own.cert, own.key)
end

function TestDoctorSinks.test_redis_with_an_unknown_certificate()
   if not redis.is_there() then
      return
   end
   each_certificate(function(dir, cert, key)
      local port = native.free_port()
      redis.new { "--tls-port", tostring(port), "--tls-cert-file", cert, "--tls-key-file", key,
         "--tls-ca-cert-file", cert, "--tls-auth-clients", "no" }
      local s = setup("redis", { connect = "rediss://localhost:" .. port })
      s.cwd = dir
      mending.mend(s, "certificate does not verify")
      lu.assertEquals(s.args.ca, "localhost.pem")
   end)
end

function TestDoctorSinks.test_a_web_server_with_an_unknown_certificate()
   if not receiver.is_there() then
      return
   end
   each_certificate(function(dir)
      local s = setup("webhook", { url = ("https://localhost:%d/in"):format(
         receiver.new { dir = dir }.port) })
      s.cwd = dir
      mending.mend(s, "SSL certificate problem")
   end)
   -- one that is over is its owner's affair
   local made = certificates.localhost(-1)
   local text = mending.check(setup("webhook", { ca = made.ca,
      url = ("https://localhost:%d/in"):format(receiver.new { dir = made.dir }.port) })).stdout
   lu.assertStrContains(text, "certificate has expired")
   lu.assertNotStrContains(text, "mend ")
end

-- Files that are not there are named, whatever the library would say.
function TestDoctorSinks.test_files_for_tls()
   for kind, address in pairs { http = 'url = "https://localhost:1/"',
                                kafka = 'brokers = "localhost:1"',
                                redis = 'connect = "rediss://localhost:1"',
                                nats = 'stream = "CDC", servers = "tls://localhost:1"' } do
      if native.realpath(program.binary():match "^(.*)/" .. "/modules/" .. kind .. ".so") then
         local s = setup(nil, {})
         s.script = ('pgcdc.source { table = "t" }:sink(pgcdc.sinks.%s { %s, tls = { ca = %q } })')
            :format(kind, address, "/nowhere/ca.pem")
         local result = mending.check(s)
         lu.assertEquals(result.status, 3)
         lu.assertStrContains(result.stdout, ("wrong  sink %s: %s: tls.ca: /nowhere/ca.pem: No "
            .. "such file or directory\n"):format(kind, kind))
      end
   end
end

-- ---- the web ----

function TestDoctorSinks.test_a_web_server_that_wants_a_login()
   if not receiver.is_there() then
      return
   end
   local server = receiver.new()
   local url = ("http://localhost:%d/in"):format(server.port)
   server:rules { { login = "Bearer right", status = 401, times = 1000 } }
   local s = setup("webhook", { url = url }, { TOKEN = "right" })
   mending.mend(s, ": 401")
   -- what is given already is wrong: nobody else knows better
   s.env.TOKEN = "wrong"
   local text = mending.check(s).stdout
   lu.assertStrContains(text, "wrong  sink http: ")
   lu.assertNotStrContains(text, "mend ")
   server:rules { { status = 404, times = 1000 } }
   local result = mending.check(s)
   lu.assertStrContains(result.stdout, "warn   sink http: asked by GET the server says 404: is")
   lu.assertEquals(result.status, 0)
end

function TestDoctorSinks.test_opensearch_that_wants_a_login()
   if not receiver.is_there() then
      return
   end
   local server = receiver.new()
   server:rules { { login = "Basic bWU6cHc=", status = 401, times = 1000 } }
   mend(": 401", "opensearch", { url = "http://localhost:" .. server.port },
      { OPENSEARCH_USER = "me", OPENSEARCH_PASSWORD = "pw" })
end

-- An index that takes no documents, or not these.
function TestDoctorSinks.test_indexes_of_opensearch()
   if not opensearch.is_there() then
      return
   end
   local server = opensearch.new()
   local s = setup("opensearch", { url = server:url "" })
   lu.assertEquals(mending.check(s).status, 0)
   server:request("PUT", "/t", [[{"settings": {"index.blocks.write": true},
      "mappings": {"dynamic": "strict", "properties": {"id": {"type": "integer"}}}}]])
   local printed = mending.mend(s, "the index t takes no documents: index.blocks.write is set")
   lu.assertStrContains(printed, "the mapping of the index t is strict, and lacks name")
   server:request("PUT", "/_cluster/settings",
      '{"persistent": {"cluster.blocks.read_only": true}}')
   mending.mend(s, "the cluster takes no documents: cluster.blocks.read_only is set")
   server:request("DELETE", "/t")
   server:request("PUT", "/t", '{"mappings": {"properties": {"name": {"type": "integer"}}}}')
   mending.mend(s, "refuses what does not fit: name is integer there, and text here")
   lu.assertEquals(s.args.index, "{table}_2")
end

function TestDoctorSinks.test_clickhouse()
   if not clickhouse.is_there() then
      return
   end
   local server = clickhouse.new "pw"
   local env = { CLICKHOUSE_USER = "default", CLICKHOUSE_PASSWORD = "pw" }
   local args = { url = server:url():gsub("/$", ""), database = "it's new", create = "no" }
   local s = setup("clickhouse", args, env)
   local printed = mending.mend(s, "Password required for user")
   lu.assertStrContains(printed, "Code: 81")
   lu.assertStrContains(printed, "there is no table t in the database it's new")
   lu.assertEquals(s.args.create, "yes")
end

-- ---- secrets ----

function TestDoctorSinks.test_secrets_that_everybody_may_read()
   if not redis.is_there() then
      return
   end
   local _, address = start_redis("--requirepass", "pw")
   local dir = scope.dir "secrets"
   files.write(dir .. "/redis", "pw\n")
   native.chmod(dir .. "/redis", 420) -- 644
   mend("/redis may be read by everybody", "redis", { connect = address,
      password = "$CREDENTIALS_DIRECTORY/redis" }, { CREDENTIALS_DIRECTORY = dir })
end

-- ---- NATS ----

function TestDoctorSinks.test_nats()
   if not nats.is_there() then
      return
   end
   local server = nats.new 'authorization { users = [ { user: "me", password: "pw" } ] }'
   local printed = mend("Authorization Violation", "nats",
      { servers = "nats://127.0.0.1:" .. server.port, stream = "CDC" },
      { NATS_USER = "me", NATS_PASSWORD = "pw" })
   lu.assertStrContains(printed, "there is no stream 'CDC'")
   lu.assertStrContains(printed, "create=yes")
end

-- A server that keeps nothing, or takes short messages only.
function TestDoctorSinks.test_nats_that_is_not_set_up()
   if not nats.is_there() then
      return
   end
   local server = nats.new("max_payload: 1000", true)
   local s = setup("nats", { servers = server:url(), stream = "CDC", create = "yes" })
   s.nats = server
   local printed = mending.mend(s, "no JetStream answers")
   lu.assertStrContains(printed, "takes messages of 1000 bytes at most")
   server:stream("CDC", { max_msg_size = 2000, duplicate_window = 1000000000 })
   local text = mending.check(s).stdout
   lu.assertStrContains(text, "the stream 'CDC' takes messages of 2000 bytes at most")
   lu.assertStrContains(text, "warn   sink nats: the stream 'CDC' knows an id for 1 s only")
end

-- ---- Kafka ----

-- (What needs a real one is in tests/kafka/doctor_kafka_test.lua.)
function TestDoctorSinks.test_kafka()
   if not kafka.is_there() then
      return
   end
   mend("SSL_HANDSHAKE", "kafka", { brokers = kafka.mock().brokers, tls = "true" })
   local result = mending.check(setup("kafka", { brokers = "127.0.0.1:1" }))
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stdout, "wrong  sink kafka: kafka: cannot connect to 127.0.0.1:1: ")
   lu.assertStrContains(result.stdout, "Connection refused")
   lu.assertEquals(select(2, result.stderr:gsub("\n", "")), 1)
end

-- ---- commands ----

function TestDoctorSinks.test_exec()
   local path = scope.dir "bin" .. "/take"
   files.write(path, "#!/bin/sh\nexec cat\n")
   native.chmod(path, 384) -- 600
   mend("is not executable", "exec", { command = path .. " --all" })
   local result = mending.check(setup("exec", { command = "no_such_command --x" }))
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stdout, "there is no no_such_command")
   lu.assertStrContains(mending.check(setup("exec", { command = "A=1 no_such" })).stdout,
      "ok     sink ")
end

return TestDoctorSinks
