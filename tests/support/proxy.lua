-- proxy.lua: a network that fails between the program and a cluster.
-- SPDX-License-Identifier: MIT
--
-- What it can do is told in native_proxy.c: proxy:pace, :fault, :sweep, :strike, :heal, :stats. It
-- listens on a unix socket of its own, in a folder of its own, or on a port of 127.0.0.1, and is
-- closed with the scope it was made in.

local native = require "native"
local scope = require "scope"
local server = require "server"

local proxy = {}

local methods = {}
local mt = {
   __index = function(self, name)
      return methods[name] or function(_, ...) return self.raw[name](self.raw, ...) end
   end,
}

-- A proxy in front of the server of <db>, a database or a cluster. <tcp>: on a port of 127.0.0.1,
-- as the server is.
function proxy.new(db, tcp)
   local cluster = db.cluster or db
   local dir = scope.dir("proxy", server.root())
   local name = "/.s.PGSQL." .. cluster.port
   local port = tcp and assert(native.free_port()) or false
   local ends = tcp and { listen = port, target = cluster.port }
      or { listen = dir .. name, target = server.socket_dir() .. name }
   local self = setmetatable({
      db = db, dir = dir, port = port, raw = assert(native.proxy(ends)),
   }, mt)
   scope.add(function() self.raw:close() end)
   return self
end

-- Conninfo that leads through it. <keywords>: more libpq keywords.
function methods:dsn(keywords)
   local all = { host = self.port and "127.0.0.1" or self.dir, port = self.port or nil }
   for name, value in pairs(keywords or {}) do
      all[name] = value
   end
   if self.db.cluster then
      return self.db:dsn(all)
   end
   return self.db:dsn(nil, all)
end

return proxy
