-- doctor_sinks_test.lua: --check says what mends a target of the network, and that mends it.
-- SPDX-License-Identifier: MIT
--
-- As doctor_test.lua, with real servers and the bundled scripts that write into them.

local files = require "files"
local lu = require "luaunit"
local mending = require "mending"
local nats = require "nats"
local native = require "native"
local redis = require "redis"
local scope = require "scope"

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
