-- cluster.lua: throw-away Postgres clusters.
-- SPDX-License-Identifier: MIT
--
-- Every cluster is a postgres process that is our direct child, so that it dies with
-- us. It listens on a unix socket, never on the network unless asked, trusts
-- everybody, and does not care for power cuts (fsync off). One initdb serves
-- all clusters of a run with the same arguments, so they share a system
-- identifier unless `fresh` is asked for. As root the server runs as postgres, or nobody.
-- Not here: tablespaces, archiving, pg_ctl.

local connected = require "connected"
local database = require "database"
local files = require "files"
local native = require "native"
local scope = require "scope"
local server = require "server"
local wait = require "wait"

local cluster = {}

local methods = connected.methods {} -- with the database postgres
local mt = {
   __name = "cluster",
   __index = methods,
   __tostring = function(self) return "cluster " .. self.name end,
}

local default_conf = {
   autovacuum = "off",
   dynamic_shared_memory_type = "mmap", -- files of the data directory: nothing is left in /dev/shm
   fsync = "off",
   full_page_writes = "off",
   hot_standby = "on",
   log_line_prefix = "%m [%p] %a: ",
   max_prepared_transactions = "20",
   max_wal_senders = "10",
   shared_buffers = "32MB",
   wal_keep_size = "256MB",
   wal_level = "replica",
   wal_retrieve_retry_interval = "100ms",
}

local templates = {} -- by initdb and its arguments: a data directory
local main_cluster
local serial = 0

-- Writes a file that belongs to the server.
local function write_file(path, text)
   files.write(path, text)
   if server.user() then
      assert(native.chown(path, server.user()))
   end
end

-- The object, and its directory without a data directory in it.
local function new_object(options, like)
   serial = serial + 1
   local name = options.name or "c" .. serial
   local self = setmetatable({
      name = name,
      dir = scope.dir(name, server.root()),
      conf = {},
      connections = setmetatable({}, { __mode = "k" }),
      tcp = options.tcp,
      bin = options.bin,
   }, mt)
   if server.user() then
      assert(native.chown(self.dir, server.user()))
   end
   self.data = self.dir .. "/data"
   self.log_path = self.dir .. "/log"
   self.port = options.tcp and assert(native.free_port()) or 10000 + serial
   for key, value in pairs(like and like.conf or default_conf) do
      self.conf[key] = value
   end
   self.conf.cluster_name = server.root():match "[^/]*$" .. "/" .. name
   self.conf.primary_conninfo = nil
   for key, value in pairs(options.conf or {}) do
      self.conf[key] = value
   end
   self.forget = scope.add(function() self:destroy() end, options.keep)
   return self
end

-- Path of a server program of the cluster that these are the options of.
local function program_of(options, name)
   return options.bin and options.bin .. "/" .. name or server.bin(name)
end

local function initdb(program, path, args)
   local argv = {
      program, "-D", path, "-U", "postgres", "-A", "trust", "-E", "UTF8",
      "--no-locale", "--no-sync",
   }
   table.move(args, 1, #args, #argv + 1, argv)
   server.run(argv)
   local f = assert(io.open(path .. "/postgresql.conf", "ab"))
   assert(f:write "\ninclude_if_exists 'test.conf'\n")
   f:close()
end

local function template(program, args)
   local key = program .. "\0" .. table.concat(args, "\0")
   if not templates[key] then
      local dir = scope.dir("template", server.root())
      if server.user() then
         assert(native.chown(dir, server.user()))
      end
      initdb(program, dir .. "/data", args)
      templates[key] = dir .. "/data"
   end
   return templates[key]
end

-- A new cluster, running unless start = false. It is destroyed at the end of the scope it was made
-- in. Options:
--    name         for directories, logs and process titles; may hold spaces
--    conf         settings, added to the defaults of this module (or of the copied cluster)
--    initdb       list of more arguments of initdb
--    bin          the directory of another server's programs; it has no standbys
--    fresh        an initdb of its own, so another system identifier
--    tcp          listens on 127.0.0.1 too, at self.port
--    keep         until the end of the run
--    copy_of      a stopped cluster whose files are copied
--    standby_of   a running cluster that it replays as a hot standby
function cluster.new(options)
   options = options or {}
   if options.copy_of then
      local copy = options.copy_of:copy(options.name, options)
      return options.start == false and copy or copy:start()
   elseif options.standby_of then
      return options.standby_of:standby(options.name, options)
   end
   local self = new_object(options)
   if options.fresh then
      initdb(program_of(options, "initdb"), self.data, options.initdb or {})
   else
      local from = template(program_of(options, "initdb"), options.initdb or {})
      server.run { "cp", "-a", from, self.data }
   end
   return options.start == false and self or self:start()
end

-- The cluster all tests share, started when first asked for. Do not stop it or change its settings.
function cluster.main()
   if not main_cluster then
      main_cluster = cluster.new { name = "main", keep = true }
   end
   return main_cluster
end

-- Major version of the server, as a number.
function cluster.version()
   return server.version()
end

-- Conninfo string. <keywords>: more libpq keywords, or other values (user = "joe", host = false).
function methods:dsn(dbname, keywords)
   local all = {
      host = server.socket_dir(),
      port = self.port,
      user = "postgres",
      dbname = dbname or "postgres",
   }
   for key, value in pairs(keywords or {}) do
      all[key] = value or nil
   end
   local words = {}
   for key, value in pairs(all) do
      words[#words + 1] = ("%s='%s'"):format(key, tostring(value):gsub("[\\']", "\\%0"))
   end
   table.sort(words)
   return table.concat(words, " ")
end

-- A new connection, closed with the cluster at the latest. Raises if it cannot connect.
function methods:connect(dbname, keywords)
   local conn, message = native.connect(self:dsn(dbname, keywords))
   if not conn then
      error(("%s: %s"):format(self, message), 2)
   end
   self.connections[conn] = true
   return conn
end

-- A new database with a unique name; options as in database.new.
function methods:database(options)
   return database.new(self, options)
end

-- Makes a database of just this name, which nobody drops. Returns the name.
function methods:createdb(name)
   self:exec(("create database %s"):format(self:connection():ident(name)))
   return name
end

-- Makes a role with a unique name; <options> is what follows CREATE ROLE name. Returns the name.
function methods:role(options)
   serial = serial + 1
   local name = "role_" .. serial
   self:exec(("create role %s %s"):format(name, options or "login"))
   return name
end

-- Drops roles and what they own in database postgres; those that are not there are no error.
function methods:drop_role(...)
   for _, name in ipairs { ... } do
      local conn = self:connection()
      if conn:value("select 1 from pg_roles where rolname = " .. conn:escape(name)) then
         local quoted = conn:ident(name)
         self:exec(("drop owned by %s cascade; drop role %s"):format(quoted, quoted))
      end
   end
end

-- Whether the postmaster is there.
function methods:running()
   return self.proc ~= nil and self.proc:alive()
end

function methods:in_recovery()
   return self:value "select pg_is_in_recovery()" == "t"
end

function methods:postmaster_pid()
   return self.proc and self.proc:pid()
end

-- All that the server has logged so far.
function methods:log()
   return files.read(self.log_path) or ""
end

local function write_conf(self)
   local lines = {}
   for key, value in pairs(self.conf) do
      lines[#lines + 1] = ("%s = '%s'\n"):format(key, tostring(value):gsub("[\\']", "%0%0"))
   end
   table.sort(lines)
   write_file(self.data .. "/test.conf", table.concat(lines))
end

-- Starts it and waits until it takes connections. Returns itself. Raises with the end of its log if
-- it does not come up.
function methods:start(seconds)
   assert(not self:running(), "the cluster runs already")
   write_conf(self)
   self.proc = assert(native.spawn {
      argv = {
         program_of(self, "postgres"), "-D", self.data, "-p", tostring(self.port),
         "-c", 'unix_socket_directories="' .. server.socket_dir() .. '"',
         "-c", "listen_addresses=" .. (self.tcp and "127.0.0.1" or ""),
      },
      user = server.user(), cwd = "/", stdout = self.log_path, stderr = self.log_path,
   })
   self:wait_ready(seconds)
   return self
end

-- Waits until the running server takes connections.
function methods:wait_ready(seconds)
   local lock = self.data .. "/postmaster.pid"
   local function tail()
      return ("%s to take connections; its log ends:\n%s"):format(self, self:log():sub(-2000))
   end
   wait.until_(function()
      if not self.proc:alive() then
         error("the server has ended while we waited for " .. tail(), 0)
      end
      -- The server's own word for it, as pg_ctl reads it: cheaper than to be refused and logged.
      local text = files.read(lock) or ""
      local pid, status = text:match("^(%d+)\n" .. ("[^\n]*\n"):rep(6) .. "(%a+)")
      if tonumber(pid) ~= self.proc:pid() or status ~= "ready" then
         return false
      end
      local conn = native.connect(self:dsn())
      if conn then
         if self.conn then
            self.conn:close()
         end
         self.conn = conn
      end
      return conn
   end, seconds or 60, tail)
end

local function close_kept(self)
   if self.conn then
      self.conn:close()
      self.conn = nil
   end
end

-- Stops it: "fast" (default), "immediate", "smart". Nothing if it is not running. "smart" waits for
-- connections other than the object's own to go.
function methods:stop(mode, seconds)
   local signals = { smart = "TERM", fast = "INT", immediate = "QUIT" }
   local signal = signals[mode or "fast"] or error("no such way to stop: " .. tostring(mode), 2)
   close_kept(self)
   if not self:running() then
      return
   end
   self.proc:kill(signal)
   if not self.proc:wait(wait.scaled(seconds or 60)) then
      self:kill9()
      error(("%s did not stop, its log ends:\n%s"):format(self, self:log():sub(-2000)), 2)
   end
end

function methods:restart(mode)
   self:stop(mode)
   return self:start()
end

-- SIGKILL to the postmaster and all it has started, as if the machine had died but for the page
-- cache. Returns when all are gone, so that it can be started again.
function methods:kill9()
   close_kept(self)
   if not self:running() then
      return
   end
   local pid = self.proc:pid()
   self.proc:kill "STOP" -- it starts nobody else while we look
   local children = native.children(pid)
   self.proc:kill "KILL"
   for _, child in ipairs(children) do
      native.kill(child, "KILL")
   end
   assert(self.proc:wait(wait.scaled(30)), "the postmaster survives SIGKILL")
   for _, child in ipairs(children) do
      wait.until_(function() return not native.running(child) end, 30, "a backend to die")
   end
end

-- SIGKILL to one backend, as the out-of-memory killer does: the postmaster ends all connections,
-- recovers and lives on. Returns when that is done.
function methods:crash()
   local mark = "select stats_reset from pg_stat_bgwriter"
   local before = self:value(mark)
   native.kill(self:connect():pid(), "KILL")
   wait.until_(function()
      local conn = native.connect(self:dsn())
      local rows = conn and conn:try(mark)
      return rows and rows[1][1] ~= before
   end, 60, function()
      return ("%s to recover; its log ends:\n%s"):format(self, self:log():sub(-2000))
   end)
end

-- Changes settings and lets the running server read them: returns when it has. For settings that
-- need a restart set self.conf and restart.
function methods:configure(conf)
   for key, value in pairs(conf or {}) do
      self.conf[key] = value
   end
   self:reload()
end

function methods:reload()
   write_conf(self)
   local read_at = "select pg_conf_load_time()"
   local before = self:value(read_at)
   self.proc:kill "HUP"
   wait.until_(function() return self:value(read_at) ~= before end, 30, "the settings to be read")
end

-- Replaces pg_hba.conf and lets the running server read it.
function methods:hba(text)
   write_file(self.data .. "/pg_hba.conf", text)
   if self:running() then
      self:reload()
   end
end

-- A copy of the stopped cluster's files as another cluster, not started. Options: cluster.new's.
function methods:copy(name, options)
   assert(not self:running(), "stop the cluster before you copy it")
   options = setmetatable({ name = name }, { __index = options })
   local copy = new_object(options, self)
   server.run { "cp", "-a", self.data, copy.data }
   os.remove(copy.data .. "/postmaster.pid")
   return copy
end

-- Copies the files of the running cluster to <target> between start and stop of a backup. Without
-- WAL: a standby streams that. (Not pg_basebackup, which not every build of the server has.)
local function base_backup(self, target)
   local start, stop = "pg_backup_start('test', true)", "pg_backup_stop(false)"
   if server.version() < 15 then
      start, stop = "pg_start_backup('test', true, false)", "pg_stop_backup(false, false)"
   end
   local conn = self:connect()
   conn:exec("select " .. start)
   local argv = { "cp", "-a", "--" }
   for _, entry in ipairs(assert(native.listdir(self.data))) do
      if entry ~= "pg_wal" and not entry:find "^postmaster%." and not entry:find "%.signal$" then
         argv[#argv + 1] = self.data .. "/" .. entry
      end
   end
   argv[#argv + 1] = target
   local wal = target .. "/pg_wal"
   server.run { "mkdir", "-m", "700", target, wal, wal .. "/archive_status" }
   server.run(argv, {
      accept = function(line) return line:find "No such file" end, -- removed meanwhile
   })
   local label = conn:value("select labelfile from " .. stop)
   conn:close()
   write_file(target .. "/backup_label", label)
   write_file(target .. "/standby.signal", "")
end

-- A hot standby of the running cluster, streaming over the socket; running unless options.start is
-- false. Options as for cluster.new; conf is added to the primary's. A standby of a standby needs
-- full_page_writes on at the primary.
function methods:standby(name, options)
   options = setmetatable({ name = name }, { __index = options })
   local standby = new_object(options, self)
   standby.primary = self
   standby.conf.primary_conninfo = options.conf and options.conf.primary_conninfo
      or self:dsn(nil, { dbname = false, application_name = standby.name })
   base_backup(self, standby.data)
   return options.start == false and standby or standby:start()
end

-- Makes the standby a primary; returns when it is one.
function methods:promote()
   assert(self:value "select pg_promote(true, 60)" == "t", "promotion failed")
   self.primary = nil
   self.conf.primary_conninfo = nil
end

-- The WAL position up to which this server has written (a primary) or replayed (a standby).
-- At the start of a page a primary's is after the page's header, where no record ends: less that.
function methods:lsn()
   return self:value [[
      select case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
         else l - case when (l - '0/0') % 8192 in (24, 40) then (l - '0/0') % 8192 else 0 end end
      from (select case when not pg_is_in_recovery() then pg_current_wal_insert_lsn() end l) x]]
end

-- Waits until the standby has replayed <lsn>, by default all that its primary has written by now.
function methods:wait_replay(lsn, seconds)
   lsn = lsn or self.primary:lsn()
   local sql = ("select pg_last_wal_replay_lsn() >= '%s'"):format(lsn)
   wait.until_(function() return self:value(sql) == "t" end, seconds or 60, function()
      return ("%s to replay %s, it is at %s"):format(self, lsn, self:lsn())
   end)
end

-- Stops it and removes it with all its files.
function methods:destroy()
   self.forget()
   for conn in pairs(self.connections) do
      conn:close()
   end
   if self:running() and not pcall(self.stop, self, "immediate", 20) then
      self:kill9()
   end
   local segment = (files.read(self.data .. "/postmaster.pid") or ""):match "(%d+)\n%a* *\n$"
   if segment then
      native.shm_remove(tonumber(segment)) -- left by a SIGKILL
   end
   server.run({ "rm", "-rf", "--", self.dir }, { user = false })
   if self == main_cluster then
      main_cluster = nil
   end
end

return cluster
