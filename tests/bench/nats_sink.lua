-- nats_sink.lua: the whole program into a stream of NATS, against libnats' own publisher in a loop.
-- SPDX-License-Identifier: MIT
--
-- Called by bench.lua, with its tools. The publisher sends as many messages of the same size, with
-- the same headers, to the same server. Without a server, libnats or its headers nothing is
-- measured.

local json = require "json"
local nats = require "nats"
local scope = require "scope"
local server = require "server"
local tree = require "tree"

local MOST = 300000 -- rows

local function compile(to)
   server.run({ "sh", "-ec", 'cc -O2 -o "$1" "$2" $(pkg-config --cflags --libs libnats)', "sh", to,
                tree.top .. "/tests/bench/nats_bare.c" }, { user = false })
end

local function new_stream(target)
   if target.has_stream then
      target:api "STREAM.DELETE.CDC"
   end
   target.has_stream = true
   target:stream("CDC", {})
end

-- Seconds that the publisher takes for messages such as this one.
local function bare(target, path, count, like)
   new_stream(target)
   local argv = { path, target:url(), "cdc.public.t", tostring(count), tostring(#like.data) }
   for name, value in pairs(like.headers) do
      if name ~= "Nats-Msg-Id" then
         argv[#argv + 1] = name
         argv[#argv + 1] = value
      end
   end
   return assert(tonumber((server.run(argv, { user = false }))))
end

-- A script that puts the table into the stream. It prints how many messages the flushes so far had,
-- and their seconds; the last flush, which comes after the last batch, is not in that.
local script = [[
   local sink = pgcdc.sinks.nats {servers = %q, stream = "CDC"}
   local source, seconds = pgcdc.source {table = "t", where = "id <= %d"}, 0
   source:sink(sink)
   source:on("batch", function()
      local stats = sink:stats()
      seconds = seconds + stats.flush_seconds
      print(stats.records, seconds)
   end)]]

return function(bench)
   if not nats.is_there() then
      return bench.say "nats: not measured: apt install nats-server libnats-dev, then make modules"
   end
   local count = math.min(bench.rows, MOST)
   local path = scope.dir "nats_bare" .. "/nats_bare"
   compile(path)
   local target = nats.new()
   local flushes, peak = {}, 0
   local function ours(limit)
      new_stream(target)
      local result = bench.run { script = script:format(target:url(), limit) }
      local records, seconds = result.lines[#result.lines]:match "(%S+)%s+(%S+)"
      peak = math.max(peak, result.maxrss_kb)
      flushes[#flushes + 1] = seconds / math.max(tonumber(records), 1) * limit
      return result.seconds
   end
   ours(1)
   local like = target:messages("CDC", "cdc.public.t")[1]
   assert(json.decode(like.data).row.id == 1)
   local m = bench.in_turns {
      function() return bare(target, path, count, like) end,
      function() return ours(count) end,
      function() return bench.into_file(count) end,
   }
   table.move(flushes, 3, #flushes + 2, 1) -- the first two warmed up
   table.sort(flushes)
   local flush = flushes[#flushes // 2 + 1]
   bench.say("%d messages: libnats alone %.2f s, our flushes %.2f s, the program %.2f s, into a "
      .. "file %.2f s", count, m[1], flush, m[2], m[3])
   bench.line("flushes into NATS, as fast as libnats alone", ("%.2f"):format(m[1] / flush),
      ">= 0.80", m[1] / flush >= 0.8)
   bench.line("the whole program into NATS, the same", ("%.2f"):format(m[1] / m[2]), ">= 0.50",
      m[1] / m[2] >= 0.5)
   bench.memory("nats", peak)
end
