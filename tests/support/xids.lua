-- xids.lua: moves a cluster's next transaction id, as years of work would.
-- SPDX-License-Identifier: MIT
--
-- A server refuses to work when its oldest unfrozen row is 2^31 transactions back, and it judges
-- by what its catalogs say. So the way is made in steps that it can stand, and at each stop
-- all databases are frozen, those that nobody may connect to as well. The epoch is a number in the
-- control file alone, and may be set to any.

local native = require "native"
local server = require "server"

local xids = {}

local wrap = 1 << 32
local farthest = 1900000000
local per_segment = 32768 * 32 -- transactions in a file of pg_xact

-- What a cluster needs in its conf, or each step starts a vacuum of the server's own.
xids.conf = {autovacuum_freeze_max_age = "2000000000"}

-- Not every build of the server comes with it.
function xids.can_move()
   return native.realpath(server.bin "pg_resetwal") ~= nil
end

-- The next transaction id, which nobody gets.
function xids.next(one)
   return math.tointeger(one:value "select pg_snapshot_xmax(pg_current_snapshot())")
end

local function freeze(one)
   one:exec "update pg_database set datallowconn = true"
   for _, row in ipairs(one:exec "select datname from pg_database") do
      local conn = one:connect(row[1])
      conn:exec "vacuum freeze"
      conn:close()
   end
end

local function set_next(one, xid)
   local low = xid % wrap
   -- the server opens the file that the id is in, and makes only those after it
   server.run {"truncate", "-s", "262144",
      ("%s/pg_xact/%04X"):format(one.data, low // per_segment)}
   server.run {server.bin "pg_resetwal", "-x", tostring(low), "-e", tostring(xid // wrap), "-D",
      one.data}
end

-- Moves the running cluster on so that <xid>, or one soon after it, is the next. All rows of before
-- are frozen.
function xids.move(one, xid)
   local left
   repeat
      freeze(one)
      local far = (xid - xids.next(one)) % wrap
      left = math.max(0, far - farthest)
      one:stop()
      set_next(one, xid - left)
      one:start()
   until left == 0
   freeze(one)
end

return xids
