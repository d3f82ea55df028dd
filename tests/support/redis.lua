-- redis.lua: throw-away Redis servers.
-- SPDX-License-Identifier: MIT
--
-- Each listens on a local socket in a folder of its own, and on a port of 127.0.0.1. It syncs its
-- log at every write unless told otherwise, and dies with the scope that it was started in.

local child = require "child"
local files = require "files"
local json = require "json"
local native = require "native"
local scope = require "scope"
local wait = require "wait"

local redis = {}

local methods = {}
local mt = { __name = "redis", __index = methods }

-- Its path; not resolved, since one program is several by its name.
local function find(name)
   for dir in ((os.getenv "PATH" or "") .. ":/usr/local/bin"):gmatch "[^:]+" do
      if native.realpath(dir .. "/" .. name) then
         return dir .. "/" .. name
      end
   end
end

--- True if there is a server to test with; says so where there is none.
function redis.is_there()
   if find "redis-server" and find "redis-cli" then
      return true
   end
   io.write "skipped, there is no redis-server ... "
   return false
end

-- Starts one. <options>: words of its configuration, such as { "--maxmemory", "1mb" }.
function redis.new(options)
   local dir = scope.dir "redis"
   local self = setmetatable({
      dir = dir, socket = dir .. "/s", port = assert(native.free_port()), options = options or {},
   }, mt)
   self:start()
   scope.add(function() self:kill() end)
   return self
end

function methods:start()
   local argv = { find "redis-server", "--bind", "127.0.0.1", "--port", tostring(self.port),
                  "--unixsocket", self.socket, "--dir", self.dir, "--save", "", "--appendonly",
                  "yes", "--appendfsync", "always" }
   table.move(self.options, 1, #self.options, #argv + 1, argv)
   if self.options[1] == "--cluster-enabled" then -- by default a port that may be too high
      self.cluster_port = self.cluster_port or assert(native.free_port())
      table.move({ "--cluster-port", tostring(self.cluster_port) }, 1, 2, #argv + 1, argv)
   end
   self.proc = assert(native.spawn {
      argv = argv, stdout = self.dir .. "/log", stderr = self.dir .. "/log",
   })
   wait.until_(function()
      assert(self.proc:alive(), files.read(self.dir .. "/log"))
      return self:try("PING"):find "PONG" or self:try("PING"):find "NOAUTH"
   end, 20, "redis-server to take connections")
end

-- SIGKILL.
function methods:kill()
   self.proc:kill "KILL"
   self.proc:wait(wait.scaled(10))
end

function methods:stop()
   self.proc:kill "TERM"
   self.proc:wait(wait.scaled(10))
end

-- What redis-cli prints for a command; errors too.
function methods:try(...)
   local argv = { find "redis-cli", "-s", self.socket, "--no-auth-warning" }
   if self.password then
      table.move({ "-a", self.password }, 1, 2, #argv + 1, argv)
   end
   table.move({ ... }, 1, select("#", ...), #argv + 1, argv)
   return (child.run({ argv = argv, stderr = "null" }, 120)) -- a million entries take long
end

-- Somebody hears the channels of this pattern from now on, and writes into a file what he hears:
-- lines of "pmessage", pattern, channel and message.
function methods:hear(channels, path)
   local proc = assert(native.spawn { argv = { find "redis-cli", "-s", self.socket, "PSUBSCRIBE",
                                               channels }, stdout = path })
   scope.add(function()
      proc:kill "KILL"
      proc:wait(wait.scaled(10))
   end)
   wait.until_(function() return (files.read(path) or ""):find "psubscribe" end, 20, "somebody")
end

-- The answer to a command, as a value of Lua.
function methods:call(...)
   local text = self:try("-3", "--json", ...)
   local ok, value = pcall(json.decode, text)
   return ok and value or error(text)
end

-- The entries of a stream, each as a table of its fields.
function methods:stream(key)
   local entries = {}
   for i, entry in ipairs(self:call("XRANGE", key, "-", "+")) do
      local fields = {}
      for k = 1, #entry[2], 2 do
         fields[entry[2][k]] = entry[2][k + 1]
      end
      entries[i] = fields
   end
   return entries
end

-- What `connect` of the sink says; over TCP with <tcp>.
function methods:url(tcp)
   return tcp and "redis://127.0.0.1:" .. self.port or "unix:" .. self.socket
end

return redis
