-- redis_sink.lua: a part of bench.lua: how fast rows get into Redis.
-- SPDX-License-Identifier: MIT
--
-- The yardsticks send the same entries to the same server: redis-cli --pipe, from a file, and
-- redis-benchmark, by one connection with 64 commands on their way. Ours are whole runs of the
-- program.

local child = require "child"
local files = require "files"
local redis = require "redis"
local scope = require "scope"

local MOST = 1000000 -- rows

-- A command as Redis reads it.
local function command(words)
   local parts = { "*" .. #words .. "\r\n" }
   for i, word in ipairs(words) do
      parts[i + 1] = ("$%d\r\n%s\r\n"):format(#word, word)
   end
   return table.concat(parts)
end

-- Puts the entries of the stream "ours" as commands into a file. Returns the words of the last one.
local function write_commands(target, path)
   local out, words = assert(io.open(path, "w")), nil
   local last = "-"
   repeat
      local entries = target:call("XRANGE", "ours", last, "+", "COUNT", "1000")
      for _, entry in ipairs(entries) do
         words = table.move(entry[2], 1, #entry[2], 4, { "XADD", "theirs", "*" })
         out:write(command(words))
      end
      last = #entries > 0 and "(" .. entries[#entries][1]
   until not last
   out:close()
   return words
end

-- What bench.lua gives: `run` (of the program), `rows` of the table t, `in_turns`, `line`, `say`,
-- `memory`, `into_file`, `patience`.
return function(b)
   if not redis.is_there() then
      return b.say "redis: not measured: apt install redis-server redis-tools, then make modules"
   end
   local count = math.min(b.rows, MOST)
   local target = redis.new { "--appendonly", "no" }
   local path = scope.dir "redis" .. "/commands"
   local pipe = scope.dir "tools" .. "/pipe.sh"

   local function ours()
      target:try "FLUSHALL"
      local result = b.run { script = ([[
         pgcdc.source {table = "t", where = "id <= %d"}:sink(pgcdc.sinks.redis {
            connect = %q, key = "ours"})]]):format(count, target:url()) }
      assert(target:call("XLEN", "ours") == count, "entries are missing")
      return result.seconds, result.maxrss_kb
   end

   local function theirs(argv)
      target:try "FLUSHALL"
      local seconds = child.seconds({ argv = argv, stderr = "null" }, b.patience)
      -- redis-benchmark sends whole pipelines only
      assert(math.abs(target:call("XLEN", "theirs") - count) < 64, "entries are missing")
      return seconds
   end

   local _, kb = ours() -- the size of this process counts as well, which grows from now on
   local words = write_commands(target, path)
   files.write(pipe, 'exec redis-cli -s "$1" --pipe < "$2"\n')
   local benchmark = { "redis-benchmark", "-s", target.socket, "-n", tostring(count), "-P", "64",
                       "-c", "1", "-q" }
   table.move(words, 1, #words, #benchmark + 1, benchmark)
   local m = b.in_turns {
      function()
         return theirs { "/bin/sh", pipe, target.socket, path }
      end,
      function() return theirs(benchmark) end,
      ours,
      function() return b.into_file(count) end,
   }
   b.say("%d entries: redis-cli --pipe %.2f s, redis-benchmark -P 64 %.2f s, the program %.2f s, "
      .. "into a file %.2f s", count, m[1], m[2], m[3], m[4])
   b.ratio("the whole program into Redis, to redis-cli --pipe", m[1] / m[3], 0.5)
   b.ratio("the whole program into Redis, to redis-benchmark", m[2] / m[3], 0.5)
   b.ratio("the whole program into Redis, to a file", m[4] / m[3], 0.5)
   b.memory("redis", kb)
end
