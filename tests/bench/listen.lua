-- listen.lua: what --listen costs while somebody scrapes it every second.
-- SPDX-License-Identifier: MIT
--
-- Called by bench.lua, with its tools. Processor seconds of whole runs are compared, with and
-- without, in turns: the clock on the wall says what else the machine does.

local files = require "files"
local native = require "native"
local program = require "program"
local scope = require "scope"
local served = require "served"

local LIMIT = 1.02

return function(bench)
   if not served.is_there() then
      bench.say "listen: not measured: apt install libmicrohttpd-dev curl, then make modules"
      return
   end
   local port = native.free_port()
   local scraper = assert(native.spawn {
      argv = { "sh", "-c", ([[
         while :; do
            curl -s -o /dev/null http://127.0.0.1:%d/metrics
            sleep 1
         done]]):format(port) }, stdout = "null", stderr = "null",
   })
   scope.add(function()
      scraper:kill "KILL"
      scraper:wait(10)
   end)

   -- The seconds of a run that goes on from a copy of <state>, or from none.
   local function measure(state, options)
      local words = { "--once", "--log-level", "warn", table.unpack(options) }
      local copy = scope.dir "listen" .. "/state.db"
      if state then
         files.write(copy, files.read(state))
      end
      local result = program.run { dsn = bench.database, script = bench.script, options = words,
                                   state = copy, deadline = bench.patience }
      assert(result.status == 0, result.stderr)
      return result.user + result.sys
   end

   local listening = { "--listen", "127.0.0.1:" .. port }
   local function compare(what, state)
      local m = bench.in_turns {
         function() return measure(state, {}) end,
         function() return measure(state, listening) end,
      }
      bench.line(what, ("%.3f times"):format(m[2] / m[1]), ("<= %.2f times"):format(LIMIT),
         m[2] / m[1] <= LIMIT)
   end

   compare "snapshot with --listen, processor time"
   local state = scope.dir "listen" .. "/state.db"
   program.run { dsn = bench.database, script = bench.script, state = state,
                 options = { "--once", "--log-level", "warn" }, deadline = bench.patience }
   bench.database:exec(("update t set note = 'x' where id <= %d"):format(bench.rows // 2),
      bench.patience)
   compare("poll with --listen, processor time", state)
end
