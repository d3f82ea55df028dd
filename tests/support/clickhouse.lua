-- clickhouse.lua: throw-away ClickHouse servers.
-- SPDX-License-Identifier: MIT
--
-- Each listens on a port of 127.0.0.1, in a folder of its own, and dies with the scope that it was
-- started in.

local child = require "child"
local files = require "files"
local json = require "json"
local native = require "native"
local receiver = require "receiver"
local scope = require "scope"
local wait = require "wait"

local clickhouse = {}

local methods = {}
local mt = { __name = "clickhouse", __index = methods }

local CONFIG = [[<yandex>
   <logger><level>warning</level><log>%s/log</log><errorlog>%s/errors</errorlog></logger>
   <http_port>%d</http_port><listen_host>127.0.0.1</listen_host><timezone>Europe/Berlin</timezone>
   <path>%s/data/</path><tmp_path>%s/tmp/</tmp_path><users_config>users.xml</users_config>
   <default_profile>default</default_profile><default_database>default</default_database>
   <mark_cache_size>5368709</mark_cache_size>
</yandex>
]]

local USERS = [[<yandex>
   <profiles><default></default></profiles><quotas><default></default></quotas>
   <users><default><password>%s</password><networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile><quota>default</quota></default></users>
</yandex>
]]

-- The path of a program of the server; nil if it is not there.
local function find(name)
   for dir in ((os.getenv "PATH" or "") .. ":/usr/sbin:/usr/bin"):gmatch "[^:]+" do
      if native.realpath(dir .. "/" .. name) then
         return dir .. "/" .. name
      end
   end
end

-- True if the sink was built and there is a server to test with; says so where there is not.
function clickhouse.is_there()
   if not receiver.is_there() then
      return false
   elseif find "clickhouse-server" and find "curl" then
      return true
   end
   io.write "skipped, there is no clickhouse-server, or no curl ... "
   return false
end

-- Starts one. <password>: of its user, default; none if it is nil.
function clickhouse.new(password)
   local dir = scope.dir "clickhouse"
   local self = setmetatable({ dir = dir, port = assert(native.free_port()),
                               password = password or "" }, mt)
   files.write(dir .. "/config.xml", CONFIG:format(dir, dir, self.port, dir, dir))
   files.write(dir .. "/users.xml", USERS:format(self.password))
   self:start()
   scope.add(function() self:kill() end)
   return self
end

function methods:start()
   self.proc = assert(native.spawn {
      argv = { find "clickhouse-server", "--config-file=" .. self.dir .. "/config.xml" },
      cwd = self.dir, stdout = self.dir .. "/out", stderr = self.dir .. "/out",
   })
   wait.until_(function()
      assert(self.proc:alive(), files.read(self.dir .. "/out"))
      return self:try "SELECT 1" == "1\n"
   end, 60, "clickhouse-server to take connections")
end

-- SIGKILL.
function methods:kill()
   self.proc:kill "KILL"
   self.proc:wait(wait.scaled(10))
end

-- What the server says to a statement; errors too.
function methods:try(sql)
   return (child.run { argv = { find "curl", "-s", "-u", "default:" .. self.password,
      "--data-binary", sql, self:url() }, stderr = "null" })
end

-- The rows of a query, each as a table by its columns' names.
function methods:rows(sql)
   local rows = {}
   for line in self:try(sql .. " FORMAT JSONEachRow"):gmatch "[^\n]+" do
      local ok, row = pcall(json.decode, line)
      rows[#rows + 1] = ok and row or error(line)
   end
   return rows
end

-- The rows of a table that are not deleted, each in its newest version, in the order of its column
-- id; none if it is not there.
function methods:table(name)
   if self:try("EXISTS TABLE " .. name) ~= "1\n" then
      return {}
   end
   return self:rows(("SELECT * FROM %s FINAL WHERE _is_deleted = 0 ORDER BY id"):format(name))
end

function methods:url()
   return ("http://127.0.0.1:%d/"):format(self.port)
end

return clickhouse
