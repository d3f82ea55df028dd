-- xids.lua: moves a cluster's next transaction id, as years of work would.
-- SPDX-License-Identifier: MIT
--
-- A server refuses to work when its oldest unfrozen row is 2^31 transactions back; it goes by what
-- its catalogs say. So the id is moved in steps that the server accepts, and after each step all
-- databases are frozen, those that nobody may connect to as well. The epoch is a number in the
-- control file alone, and may be set to any.

local native = require "native"
local server = require "server"

local xids = {}

local wrap = 1 << 32
local farthest = 1900000000
local per_segment = 32768 * 32 -- transactions in a file of pg_xact

-- What a cluster needs in its conf, or each step starts a vacuum of the server's own.
xids.conf = { autovacuum_freeze_max_age = "2000000000" }

-- Not every build of the server comes with pg_resetwal. Those of these versions read the control
-- files of each other.
local alike = { [14] = true, [15] = true, [16] = true }

-- pg_resetwal, and its version; or nil.
local function find_pg_resetwal()
   local path = server.client "pg_resetwal"
   local major = path and tonumber(server.run({ path, "-V" }):match "(%d+)")
   if major == server.version() or (alike[major] and alike[server.version()]) then
      return path, major
   end
   return nil
end

function xids.can_move()
   return find_pg_resetwal() ~= nil
end

-- The next transaction id, which nobody gets.
function xids.next(one)
   return math.tointeger(one:value "select pg_snapshot_xmax(pg_current_snapshot())")
end

-- Freezes every row of the running cluster.
function xids.freeze(one)
   one:exec "update pg_database set datallowconn = true"
   for _, row in ipairs(one:exec "select datname from pg_database") do
      local conn = one:connect(row[1])
      conn:exec "vacuum freeze"
      conn:close()
   end
end

-- Gives each segment of the stopped cluster's WAL the two bytes that it begins with, which stand
-- for the server's version; returns what stood there before.
local function set_magic(one, magic)
   local before
   for _, name in ipairs(assert(native.listdir(one.data .. "/pg_wal"))) do
      if name:find("^" .. ("%x"):rep(24) .. "$") then
         local f = assert(io.open(one.data .. "/pg_wal/" .. name, "r+b"))
         before = f:read(2)
         if magic then
            assert(f:seek "set" == 0 and f:write(magic))
         end
         assert(f:close())
      end
   end
   return before
end

local function set_version(one, version)
   local f = assert(io.open(one.data .. "/PG_VERSION", "w"))
   assert(f:write(version, "\n") and f:close())
end

-- Makes the 64-bit <xid> the next one of the stopped cluster.
function xids.set_next(one, xid)
   local pg_resetwal, version = find_pg_resetwal()
   local low, magic = xid % wrap, set_magic(one)
   -- the server opens the file that the id is in, and makes only those after it
   server.run { "truncate", "-s", "262144",
      ("%s/pg_xact/%04X"):format(one.data, low // per_segment) }
   set_version(one, version)
   server.run { pg_resetwal, "-x", tostring(low), "-e", tostring(xid // wrap), "-D", one.data }
   set_version(one, server.version())
   set_magic(one, magic)
end

-- Moves the running cluster on so that <xid>, or one soon after it, is the next. All rows from
-- before are frozen.
function xids.move(one, xid)
   local left
   repeat
      xids.freeze(one)
      local far = (xid - xids.next(one)) % wrap
      left = math.max(0, far - farthest)
      one:stop()
      xids.set_next(one, xid - left)
      one:start()
   until left == 0
   xids.freeze(one)
end

return xids
