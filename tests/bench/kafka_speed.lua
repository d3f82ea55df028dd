-- kafka_speed.lua: a part of bench.lua: how fast rows get into Kafka.
-- SPDX-License-Identifier: MIT
--
-- The yardstick is kcat, which sends the same keys and values, from a file, and headers like ours,
-- to the same broker: a real one if `make check-kafka` has fetched it, else a mock. Ours are whole
-- runs of the program.

local kafka = require "kafka"
local native = require "native"
local scope = require "scope"

-- Seconds that `sh -c command` takes.
local function shell(command, patience)
   local start = native.now()
   local proc = assert(native.spawn { argv = { "/bin/sh", "-c", command }, stdout = "null",
                                      stderr = "null" })
   local ended = assert(proc:wait(patience), "kcat does not end")
   assert(ended.exit == 0, command)
   return native.now() - start
end

-- What bench.lua gives: `database` with the table t of `rows` rows, `run` (of the program),
-- `in_turns`, `line`, `say`, `patience`.
return function(b)
   if not kafka.is_there() then
      return b.say "kafka: not measured: apt install kcat librdkafka-dev, then make native modules"
   end
   local count = b.rows // 4
   local cluster = kafka.has_jars() and kafka.new() or kafka.mock()
   local file = scope.dir "kafka" .. "/messages"
   local serial = 0

   local function ours(exact)
      serial = serial + 1
      local result = b.run { bundled = "kafka", state = scope.dir "kafka" .. "/state.db", args = {
         table = "t", where = "id <= " .. count, brokers = cluster.brokers, topic = "ours",
         exact = tostring(exact), name = "bench" .. serial,
      } }
      b.peak = math.max(b.peak or 0, result.maxrss_kb)
      return result.seconds
   end

   local function kcat()
      return shell(("kcat -P -b %s -t theirs -K '\t' -z lz4 -X linger.ms=5 -H op=read "
         .. "-H schema=public -H table=t -H shape=0123456789abcdef -H id=public.t/1234/123456 "
         .. "-H seq=1795979276759123 -H ts=2026-11-29T19:11:09.746Z -l %s"):format(
         cluster.brokers, file), b.patience)
   end

   ours(true)
   shell(("kcat -C -b %s -t ours -o beginning -e -q -f '%%k\t%%s\n' > %s"):format(cluster.brokers,
      file), b.patience)
   shell(("test $(wc -l < %s) = %d"):format(file, count), b.patience)
   local m = b.in_turns {
      kcat, function() return ours(true) end, function() return ours(false) end,
   }
   b.say("kcat %.3f s, kafka in transactions %.3f s, without %.3f s, %.0f rows/s", m[1], m[2], m[3],
      count / m[2])
   b.line("kafka, a snapshot, to kcat -P", ("%.2f x"):format(m[1] / m[2]), ">= 0.50 x",
      m[1] / m[2] >= 0.5)
   b.line("kafka, in transactions, to without", ("%.2f x"):format(m[3] / m[2]), ">= 0.80 x",
      m[3] / m[2] >= 0.8)
   b.line("kafka, memory", ("%.1f MB"):format(b.peak / 1024), "<= 40 MB", b.peak <= 40 * 1024)
end
