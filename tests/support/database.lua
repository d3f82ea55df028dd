-- database.lua: a throw-away database in a running cluster.
-- SPDX-License-Identifier: MIT
--
-- Made by cluster:database(); see there. Cheap enough for every test to have its own.
-- It is dropped, and its connections closed, at the end of the scope it was made in.

local connected = require "connected"
local scope = require "scope"
local server = require "server"

local database = {}

local methods = connected.methods {}
local mt = {
   __name = "database",
   __index = methods,
   __tostring = function(self) return self.name end,
}
local serial = 0

-- How a cluster makes a database: by copies of files, as all did before 15. By the log, the default
-- since then, it takes twice the time.
local function strategy_of(cluster)
   return not cluster.bin and server.version() >= 15 and "strategy file_copy" or ""
end

-- Makes a database in <cluster>. options.name: part of its name, which is unique anyway (default
-- "t"); options.sql: what follows CREATE DATABASE name; options.keep: until the end of the run.
function database.new(cluster, options)
   options = options or {}
   serial = serial + 1
   local self = setmetatable({
      cluster = cluster,
      name = ("%s_%d"):format(options.name or "t", serial),
   }, mt)
   cluster:exec(('create database "%s" %s %s'):format(self.name, strategy_of(cluster),
      options.sql or ""))
   self.forget = scope.add(function() self:drop() end, options.keep)
   return self
end

-- Its conninfo; <keywords> as for cluster:dsn.
function methods:dsn(keywords)
   return self.cluster:dsn(self.name, keywords)
end

-- A new connection, closed with the cluster at the latest.
function methods:connect(keywords)
   return self.cluster:connect(self.name, keywords)
end

-- Drops it, whoever is connected. Nothing if the server is down: then it goes with the cluster.
function methods:drop()
   self.forget()
   if self.conn then
      self.conn:close()
      self.conn = nil
   end
   if self.cluster:running() and not self.cluster:in_recovery() then
      self.cluster:exec(('drop database if exists "%s" with (force)'):format(self.name))
   end
end

return database
