-- redis_cluster_test.lua: pgcdc.sinks.redis against servers of a cluster.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local redis = require "redis"
local remote_sinks = require "remote_sinks"
local wait = require "wait"

local TestRedisCluster = {}

local test = remote_sinks.tests(TestRedisCluster, redis.is_there, redis.new)
local ids = remote_sinks.ids

-- A script that puts table t into Redis. <options>: fields of the sink.
local function script(server, options)
   return ([[pgcdc.source {table = "t", interval = 0.02}:sink(pgcdc.sinks.redis {
      connect = %q, %s})]]):format(server:url(), options or "")
end

test("a_cluster_wants_the_hash_tag", function(server)
   server:call("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
   wait.until_(function()
      return server:try("CLUSTER", "INFO"):find "cluster_state:ok"
   end, 20, "the cluster")
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   once.ok(how)
   lu.assertEquals(#server:stream "{redis}:t", 3)
   local result = once.ends(1, { dsn = db, script = script(server, 'key = "{table}"') })
   lu.assertStrContains(result.text, "all keys need the hash tag: say {name} in it")
   result = once.ends(1, { dsn = db, script = script(server,
      "name = 'other', key = function() return 'k' end") })
   lu.assertStrContains(result.text, "the key 'k' lacks the hash tag {other}")
   -- a place that nobody has for a while
   local slot = tostring(server:call("CLUSTER", "KEYSLOT", "{redis}"))
   local p = program.start(how)
   p:wait_stderr 'msg="?ready'
   server:call("CLUSTER", "DELSLOTS", slot)
   db:exec "insert into t values (4, 'n4')"
   p:wait_stderr 'level=warn msg="redis: [^\n]*CLUSTERDOWN Hash slot not served'
   server:call("CLUSTER", "ADDSLOTS", slot)
   wait.until_(function() return #server:stream "{redis}:t" == 4 end, 60, "the entry")
   lu.assertEquals(p:stop().status, 0)
end, { "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no" })

-- The keys of a cluster are followed to the node that has them, also while they move to another.
test("a_cluster_whose_keys_move", function(one)
   local two = redis.new { "--cluster-enabled", "yes" }
   one:call("CLUSTER", "MEET", "127.0.0.1", tostring(two.port), tostring(two.cluster_port))
   two:call("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
   for _, node in ipairs { one, two } do
      wait.until_(function()
         local info = node:try("CLUSTER", "INFO")
         return info:find "cluster_state:ok" and info:find "cluster_known_nodes:2"
      end, 20, "the cluster")
   end
   local db = fixtures.names(3)
   local p = program.start { dsn = db, script = script(one) }
   local function await(node, last)
      wait.until_(function()
         local entries = node:stream "{redis}:t"
         return #entries > 0 and json.decode(entries[#entries].data).row.id == last
      end, 60, "row " .. last)
   end
   await(two, 3)
   local slot = tostring(two:call("CLUSTER", "KEYSLOT", "{redis}"))
   one:call("CLUSTER", "SETSLOT", slot, "IMPORTING", two:call("CLUSTER", "MYID"))
   two:call("CLUSTER", "SETSLOT", slot, "MIGRATING", one:call("CLUSTER", "MYID"))
   for i, key in ipairs { "pgcdc:{redis}", "{redis}:t", "pgcdc:{redis}:epoch" } do
      two:call("MIGRATE", "127.0.0.1", tostring(one.port), key, "0", "5000")
      db:exec(("insert into t values (%d, 'n')"):format(3 + i))
   end
   p:wait_stderr ": ASK "
   one:call("CLUSTER", "SETSLOT", slot, "NODE", one:call("CLUSTER", "MYID"))
   two:call("CLUSTER", "SETSLOT", slot, "NODE", one:call("CLUSTER", "MYID"))
   await(one, 6)
   lu.assertEquals(ids(one:stream "{redis}:t"), "1 2 3 4 5 6")
   lu.assertNotStrContains(p:stderr(), "MOVED") -- which says where to: nothing is waited for
   lu.assertEquals(p:stop().status, 0)
end, { "--cluster-enabled", "yes" })

return TestRedisCluster
