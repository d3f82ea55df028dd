-- network_tls_test.lua: TLS over a network that cuts, stalls, trickles and is half open.
-- SPDX-License-Identifier: MIT
--
-- Promise: the same as without TLS. The proxy passes the records on as they are, so that faults
-- come in the middle of a handshake and of a record, too. $PGCDC_NETWORK_STRIDE and
-- $PGCDC_TEST_OFFSETS: at more places.

local certificates = require "certificates"
local cluster = require "cluster"
local cuts = require "cuts"
local lu = require "luaunit"
local scope = require "scope"
local sessions = require "sessions"
local tables = require "tables"

local TestNetworkTls = {}

-- A server that is reached over TLS only, but for the tests themselves.
function TestNetworkTls.setupClass()
   local dir = scope.dir "certificates"
   local ca, ca_key = certificates.authority(dir, "ca")
   local one = cluster.new { name = "tls", tcp = true, start = false, conf = { ssl = "on" } }
   certificates.give(one, dir, ca, ca_key)
   one:hba "local all all trust\nhostssl all all 127.0.0.1/32 trust\n"
   one:start()
   TestNetworkTls.one = one
   TestNetworkTls.verified = { host = "localhost", hostaddr = "127.0.0.1", sslmode = "verify-full",
      sslrootcert = ca }
end

local function keywords(more)
   return tables.merge(TestNetworkTls.verified, more)
end

local function new_database()
   local db = TestNetworkTls.one:database()
   db:exec(cuts.TABLE)
   return db
end

-- A run with a snapshot.
local function new_session(more)
   return { db = new_database(), tcp = true, keywords = keywords(more), script = [[
      pgcdc.source {table = "t", deletes = true, on_change = function(c) print(c) end}]] }
end

function TestNetworkTls.test_polls_and_sinks_are_cut()
   local db, target = new_database(), TestNetworkTls.one:database()
   local running = cuts.start { db = db, target = target, tcp = true, keywords = keywords(),
      kinds = cuts.kinds { xmin = 12, sink = 16 } }
   local n, text = cuts.sweep(running, cuts.stride or 700)
   for _, each in ipairs { db, target } do
      lu.assertEquals(each:value [[select bool_or(ssl) from pg_stat_ssl
         join pg_stat_activity using (pid) where application_name = 'pgcdc-lua'
            and datname = current_database()]], "t")
   end
   cuts.finish(running)
   io.write(("%d cuts (%s) ... "):format(n, text))
end

function TestNetworkTls.test_stalled_and_half_open()
   local met, longest = sessions.sweep(new_session(sessions.QUICK), { "stall", "swallow" }, 3)
   io.write(("%d stalled, the longest %.1f s ... "):format(met, longest))
   lu.assertTrue(longest < sessions.NOTICED + 12, longest)
end

function TestNetworkTls.test_one_byte_at_a_time()
   local session = new_session()
   lu.assertTrue(#sessions.trickle(session).lines >= 20)
end

return TestNetworkTls
