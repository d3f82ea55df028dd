-- contract_kafka.lua: the driver of Kafka itself, see contract_drivers; for `make check-kafka`.
-- SPDX-License-Identifier: MIT

local child = require "child"
local contract_read = require "contract_read"
local kafka = require "kafka"
local lu = require "luaunit"
local scope = require "scope"

local drivers = {}

local node -- of Kafka itself, which all tests of a run share; each has topics of its own
local node_tests = 0

local kafka_target = {}
kafka_target.__index = kafka_target

function kafka_target:topic(tag)
   return self.prefix .. tag
end

-- (Kafka takes hours to forget a position, so a target that was emptied is none of its cases.)
drivers.kafka = {
   promise = "exact", is_there = kafka.is_real_there,
   start = function()
      node = node or kafka.new(1, nil, { has_way = true, keep = true })
      node.way:heal()
      node_tests = node_tests + 1
      return setmetatable({ way = node.way, prefix = ("contract%d."):format(node_tests) },
         kafka_target)
   end,
   script = function(target, tag, fields)
      return ("local sink = pgcdc.sinks.kafka {brokers = %q, topic = %q, name = %q, "
         .. "config = {['compression.type'] = 'none'}, %s}\n"):format(node.way_brokers,
         target:topic(tag), target:topic(tag), fields or "")
   end,
   read = function(target, tag)
      local changes = {}
      for i, message in ipairs(node:read(target:topic(tag))) do
         changes[i] = contract_read.change(message.payload)
         lu.assertEquals(message.headers.id, changes[i].id)
      end
      return changes
   end,
   kill = function()
      node:kill()
      node:start()
      node:await(1)
   end,
   peer = function()
      return node.way_brokers:match ":(%d+)$"
   end,
   commit = "\0\x1a\0\x01\0\0", behind = true, is_apart = true, -- a request EndTxn
   timeout = 3,
   patience = 120, -- each of them is found in a transaction of its own
   bad = "repeat(md5(v::text), 40000)",
   -- (Everything else that the node has got meanwhile is lost with the disk.)
   shrink = function(_, mount)
      node:kill()
      local dir = node.nodes[1].dir
      local undo = mount(dir, 64)
      node:start()
      node:await(1)
      if undo then
         scope.add(function()
            node:kill()
            undo()
            node:start()
            node:await(1)
         end)
         return dir
      end
   end,
   copy = function()
      node:kill()
      local copy = scope.dir "copy" .. "/copy"
      child.run { argv = { "cp", "-a", node.nodes[1].dir, copy } }
      node:start()
      node:await(1)
      return copy
   end,
   back = function(_, copy)
      node:kill()
      child.run { argv = { "sh", "-c", 'rm -rf "$1"/* && cp -a "$2"/. "$1"', "sh",
                           node.nodes[1].dir, copy } }
      node:start()
      node:await(1)
   end,
}

return drivers
