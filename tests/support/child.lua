-- child.lua: other programs than the one under test, run to their end.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"
local native = require "native"
local wait = require "wait"

local child = {}

-- All that it writes to standard output (<stream>: or "stderr") from now on, until it closes that.
-- <seconds>: how long it may be silent.
function child.read_all(proc, seconds, stream)
   local parts = {}
   while true do
      local chunk, why = proc:read(stream or "stdout", wait.scaled(seconds))
      if not chunk then
         lu.assertEquals(why, "eof")
         return table.concat(parts)
      end
      parts[#parts + 1] = chunk
   end
end

-- Runs a program, see native.spawn; returns all that it writes, and how it ended. <seconds>: how
-- long it may be silent (default 20).
function child.run(options, seconds)
   local proc = assert(native.spawn(options))
   local text = child.read_all(proc, seconds or 20)
   return text, assert(proc:wait(wait.scaled(seconds or 20)))
end

-- How many seconds a program takes, see native.spawn; what it writes to standard output is dropped.
-- It must end within <limit> seconds, with status 0.
function child.seconds(options, limit)
   local start = native.now()
   options.stdout = "null"
   local proc = assert(native.spawn(options))
   local ended = assert(proc:wait(limit), options.argv[1] .. " does not end")
   local took = native.now() - start
   assert(ended.exit == 0, proc:read "stderr")
   return took
end

return child
