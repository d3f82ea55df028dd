-- network_bytes_test.lua: a connection is cut at one byte after the other of what goes over it.
-- SPDX-License-Identifier: MIT
--
-- Promise: nothing is lost and nothing comes twice, wherever that is: a new connection with the
-- poll, or the transaction of a sink, behind it, and the one behind that, in both directions, by
-- an end and by a break. $PGCDC_NETWORK_STRIDE: at every how manieth byte (default: few); 1 takes
-- minutes. (Snapshots and deletes: network_test.lua, network_offsets_test.lua.)

local cluster = require "cluster"
local cuts = require "cuts"
local stepping = require "stepping"

local TestNetworkBytes = {}

local function new_database()
   local db = cluster.main():database()
   db:exec(cuts.TABLE)
   return db
end

local function kinds(kind, n)
   local list = {}
   for i = 1, n do
      list[i] = kind
   end
   return list
end

-- Some workers of a kind, with few bytes or all.
local function run(spec, kind, few, stride)
   spec.kinds = kinds(kind, cuts.stride and 64 or few)
   local running = cuts.start(spec)
   local n, text = cuts.sweep(running, cuts.stride or stride, cuts.stride and 3000 or 60)
   cuts.finish(running)
   io.write(("%d cuts (%s) ... "):format(n, text))
end

function TestNetworkBytes.test_polls()
   run({db = new_database()}, "xmin", 16, 300)
end

function TestNetworkBytes.test_polls_by_triggers()
   local db = new_database()
   stepping.trigger(db, "install", {notify = "no"}) -- an ear is another connection
   run({db = db}, "trigger", 16, 300)
end

function TestNetworkBytes.test_sinks()
   run({db = new_database(), target = cluster.main():database()}, "sink", 12, 600)
end

return TestNetworkBytes
