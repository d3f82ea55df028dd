-- pooler.lua: pgbouncer in front of a cluster.
-- SPDX-License-Identifier: MIT
--
-- It listens on a unix socket beside the server's, lets everybody in under any name, and
-- runs as the server's user where we are root, which it refuses to be.

local files = require "files"
local native = require "native"
local scope = require "scope"
local server = require "server"
local wait = require "wait"

local pooler = {}

local methods = {}
local mt = { __name = "pooler", __index = methods }

local function find_binary()
   for dir in ((os.getenv "PATH" or "") .. ":/usr/sbin"):gmatch "[^:]+" do
      local path = native.realpath(dir .. "/pgbouncer")
      if path then
         return path
      end
   end
   return nil
end

-- Starts it for <cluster>; <mode>: "session" or "transaction". <size>: how many connections to the
-- server it has for a user and a database. It dies with the scope. nil if there is no pgbouncer.
function pooler.new(cluster, mode, size)
   local binary = find_binary()
   if not binary then
      return nil
   end
   local self = setmetatable({ cluster = cluster, port = cluster.port + 20000 }, mt)
   self.dir = scope.dir("pooler", server.root())
   files.write(self.dir .. "/pgbouncer.ini", ([[
[databases]
* = host=%s port=%d
[pgbouncer]
listen_port = %d
unix_socket_dir = %s
auth_type = trust
auth_file = %s/users
pool_mode = %s
default_pool_size = %d
max_client_conn = 100
]]):format(server.socket_dir(), cluster.port, self.port, server.socket_dir(), self.dir, mode, size))
   files.write(self.dir .. "/users", '"postgres" ""\n')
   self.proc = assert(native.spawn {
      argv = { binary, self.dir .. "/pgbouncer.ini" }, user = server.user(), cwd = "/",
      stdout = self.dir .. "/log", stderr = self.dir .. "/log",
   })
   scope.add(function() self:stop() end)
   wait.until_(function()
      assert(self.proc:alive(), "pgbouncer has ended: " .. self:log())
      local conn = native.connect(self:dsn "postgres")
      return conn and (conn:close() or true)
   end, 20, "pgbouncer to take connections")
   return self
end

function methods:dsn(dbname)
   return self.cluster:dsn(dbname, { port = self.port })
end

function methods:log()
   return files.read(self.dir .. "/log") or ""
end

function methods:stop()
   self.proc:kill "KILL"
   self.proc:wait(wait.scaled(10))
end

return pooler
