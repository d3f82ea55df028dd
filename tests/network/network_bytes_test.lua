-- network_bytes_test.lua: a connection is cut at one byte after the other of what goes over it.
-- SPDX-License-Identifier: MIT
--
-- Promise: nothing is lost and nothing comes twice, wherever that is: while it connects, in the
-- poll or the transaction of a sink after that, and in the next one, in both directions, by an end
-- and by a break. $PGCDC_NETWORK_STRIDE=n: at every n-th byte (default: few); 1 takes minutes for
-- each. (Snapshots and deletes: network_test.lua, network_offsets_test.lua.)

local by_log = require "by_log"
local cluster = require "cluster"
local cuts = require "cuts"
local fixtures = require "fixtures"
local scope = require "scope"
local stepping = require "stepping"

local TestNetworkBytes = {}

local MANY = 64 -- workers, for each byte

local function new_database()
   return fixtures.database(cuts.TABLE)
end

local function run(spec, stride)
   local running = cuts.start(spec)
   local n, text = cuts.sweep(running, cuts.stride or stride)
   cuts.finish(running)
   io.write(("%d cuts (%s) ... "):format(n, text))
end

function TestNetworkBytes.test_polls()
   local db = new_database()
   stepping.trigger(db, "install", { notify = "no" }) -- an ear is another connection
   local each = cuts.stride and MANY // 2 or 12
   run({ db = db, kinds = cuts.kinds { xmin = each, trigger = each } }, 400)
end

-- Two connections for each: one that asks for facts, and the one of the log.
function TestNetworkBytes.test_the_log()
   local db = by_log.cluster():database()
   scope.add(function() by_log.drop_slots(db) end)
   db:exec(cuts.TABLE)
   db:exec "create publication pgcdc for table t with (publish_via_partition_root = true)"
   run({ db = db, kinds = cuts.kinds { logical = cuts.stride and 16 or 4 } }, 4000)
end

function TestNetworkBytes.test_sinks()
   run({ db = new_database(), target = cluster.main():database(),
         kinds = cuts.kinds { sink = cuts.stride and MANY or 12 } }, 600)
end

return TestNetworkBytes
