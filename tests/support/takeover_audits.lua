-- takeover_audits.lua: the target itself says who has written what to it, and in which order.
-- SPDX-License-Identifier: MIT
--
-- For takeover.lua, where process 1 leads first and process 2 after it. An audit is a table:
--    script(text, target, n)   the script of process n, which can be told from the other one
--    begin(target)             begins to note writes; the first one has made what it needs by then
--    lanes(target)             {name = {n, n, ...}}: who wrote, in the order of each lane; later
--                              processes have greater numbers
-- Postgres has an audit of its own there, since its writes carry the epoch.

local files = require "files"
local native = require "native"
local scope = require "scope"
local wait = require "wait"

local audits = {}

-- ---- Redis: its MONITOR shows each command that it has run, and where that came from ----

local redis = {}

-- The first one comes by TCP, the second one by the local socket.
function redis.script(text, server, n)
   return n == 1 and text or (text:gsub("redis://127%.0%.0%.1:%d+", "unix:" .. server.socket))
end

function redis.begin(server)
   local path = scope.dir "monitor" .. "/commands"
   local proc = assert(native.spawn { argv = { "redis-cli", "-s", server.socket, "MONITOR" },
                                      stdout = path, stderr = "null" })
   scope.add(function()
      proc:kill "KILL"
      proc:wait(wait.scaled(10))
   end)
   wait.until_(function() return files.text(path):find "OK" end, 20, "the monitor")
   server.commands = path
end

-- What changes nothing.
local reads = {}
for word in ([[WATCH UNWATCH GET MULTI EXEC DISCARD TYPE PING ECHO HELLO CLIENT INFO SELECT AUTH
   WAIT COMMAND CONFIG XRANGE XINFO HMGET HGETALL SCAN EVAL EXISTS CLUSTER]]):gmatch "%S+" do
   reads[word] = true
end

function redis.lanes(server)
   server:call("ECHO", "all was noted")
   wait.until_(function()
      return files.text(server.commands):find("all was noted", 1, true)
   end, 20, "the monitor")
   local list = {}
   for from, word in files.text(server.commands):gmatch '%[%d+ ([^%]]+)%] "(%a+)"' do
      if not reads[word:upper()] and from ~= "lua" then
         list[#list + 1] = from:find "^unix:" and 2 or 1
      end
   end
   return { commands = list }
end

-- ---- messages with a header that says whose they are ----

-- Adds the header to the sink of a script.
local function with_header(text, _, n)
   return (text:gsub("(pgcdc%.sinks%.%l+ {)", ("%%1headers = {writer = '%d'}, "):format(n), 1))
end

local nats = { script = with_header }

-- What is in the stream is copied into another one, at once: also what is removed again.
function nats.begin(server)
   server:stream("AUDIT", { mirror = { name = "contract" } })
end

function nats.lanes(server)
   local function last(name)
      return server:api("STREAM.INFO." .. name).state.last_seq
   end
   wait.until_(function() return last "AUDIT" == last "contract" end, 20, "the copy of the stream")
   local changes, savepoints, writers = {}, {}, {}
   for _, message in ipairs(server:messages("AUDIT", ">")) do
      local epoch = message.headers["Pgcdc-Epoch"]
      if epoch then
         if not writers[epoch] then
            writers[epoch], writers[#writers + 1] = #writers + 1, epoch
         end
         savepoints[#savepoints + 1] = writers[epoch]
      else
         changes[#changes + 1] = tonumber(message.headers.writer)
      end
   end
   return { changes = changes, savepoints = savepoints }
end

--- Of a cluster's topics, which are the targets.
function audits.kafka(cluster)
   return { script = with_header, begin = function() end, lanes = function(topic)
      local lanes = {}
      for _, message in ipairs(cluster():read(topic)) do
         lanes[message.partition] = lanes[message.partition] or {}
         table.insert(lanes[message.partition], tonumber(message.headers.writer))
      end
      return lanes
   end }
end

--- By the names of drivers.
audits.by_name = { redis_stream = redis, redis_hash = redis, nats = nats }

--- How many of a lane came of an earlier process after a later one had written.
function audits.late(lane)
   local newest, late = 0, 0
   for _, n in ipairs(lane) do
      newest = math.max(newest, n)
      late = late + (n < newest and 1 or 0)
   end
   return late, newest
end

return audits
