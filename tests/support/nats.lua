-- nats.lua: throw-away NATS servers with JetStream, and a client of our own that reads streams.
-- SPDX-License-Identifier: MIT
--
-- Each listens on a port of 127.0.0.1, keeps its streams in a folder of its own, and dies with the
-- scope that it was started in. The client speaks the protocol of NATS, which is text, through a
-- shell that has the connection; it knows nothing of libnats.

local files = require "files"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local remote_sinks = require "remote_sinks"
local scope = require "scope"
local wait = require "wait"

local nats = {}

local AT_A_TIME = 5000 -- messages; from a client that has many before it a server turns away

local methods = {}
local mt = { __name = "nats", __index = methods }

local function find()
   for dir in ((os.getenv "PATH" or "") .. ":/usr/local/bin:/usr/sbin"):gmatch "[^:]+" do
      if native.realpath(dir .. "/nats-server") then
         return dir .. "/nats-server"
      end
   end
end

--- True if there is a server to test with, and our module; says so where not.
function nats.is_there()
   if find() and native.realpath((os.getenv "PGCDC_LUA"):match "^(.*)/" .. "/modules/nats.so") then
      return true
   end
   io.write "skipped, there is no nats-server or no libnats ... "
   return false
end

-- Starts one. <config>: more lines of its configuration. <is_bare>: without JetStream.
function nats.new(config, is_bare)
   local dir = scope.dir "nats"
   local self = setmetatable({ dir = dir, port = assert(native.free_port()), login = {} }, mt)
   files.write(dir .. "/conf", ([[
      listen: "127.0.0.1:%d"
      %s
      %s]]):format(self.port, is_bare and "" or ('jetstream { store_dir: "%s" }'):format(dir),
      config or ""))
   self:start()
   scope.add(function() self:kill() end)
   return self
end

function methods:start()
   self.proc = assert(native.spawn {
      argv = { find(), "-c", self.dir .. "/conf" }, stdout = self.dir .. "/log",
      stderr = self.dir .. "/log",
   })
   wait.until_(function()
      assert(self.proc:alive(), files.read(self.dir .. "/log"))
      return (files.read(self.dir .. "/log") or ""):find "Server is ready"
   end, 20, "nats-server to take connections")
end

-- SIGKILL.
function methods:kill()
   self:disconnect()
   self.proc:kill "KILL"
   self.proc:wait(wait.scaled(10))
   os.remove(self.dir .. "/log")
end

-- Adds a line to its configuration (what is in /var there is in a folder of its own); <how>: what
-- it needs then, "restart" or "reload".
function methods:configure(line, how)
   files.write(self.dir .. "/conf", files.read(self.dir .. "/conf") .. "\n"
      .. line:gsub('"/var', '"' .. self.dir) .. "\n")
   if how == "restart" then
      self:kill()
      return self:start()
   end
   self.proc:kill "HUP"
   wait.until_(function()
      return files.read(self.dir .. "/log"):find "Reloaded server configuration"
   end, 20, "nats-server to read its configuration")
end

function methods:url()
   return "nats://127.0.0.1:" .. self.port
end

-- ---- the client ----

local function refill(self)
   local chunk, why = self.conn:read("stdout", wait.scaled(60))
   self.buffer = self.buffer:sub(self.at + 1) .. (chunk
      or error("the connection to nats-server: " .. why))
   self.at = 0
end

-- The next <n> bytes that come.
local function bytes(self, n)
   while #self.buffer - self.at < n do
      refill(self)
   end
   self.at = self.at + n
   return self.buffer:sub(self.at - n + 1, self.at)
end

local function line(self)
   while not self.buffer:find("\r\n", self.at + 1, true) do
      refill(self)
   end
   return (bytes(self, self.buffer:find("\r\n", self.at + 1, true) + 1 - self.at):sub(1, -3))
end

local function read_headers(text)
   local headers = {}
   for name, value in text:gmatch "([^\r\n:]+): ?([^\r\n]*)\r\n" do
      headers[name] = value
   end
   return headers
end

-- The next message that comes: {subject =, reply =, headers =, data =}.
local function next_message(self)
   while true do
      local text = line(self)
      local word = text:match "^%S+"
      local args = {}
      for arg in text:gmatch "%S+" do
         args[#args + 1] = arg
      end
      if word == "MSG" or word == "HMSG" then
         local n, head = math.tointeger(tonumber(args[#args])), 0
         if word == "HMSG" then
            head = math.tointeger(tonumber(table.remove(args, #args - 1)))
         end
         local body = bytes(self, n + 2)
         return { subject = args[2], reply = #args == 5 and args[4] or nil,
                  headers = read_headers(body:sub(1, head)), data = body:sub(head + 1, n) }
      elseif word == "PING" then
         self.conn:write "PONG\r\n"
      elseif word == "-ERR" then
         error(text)
      end
   end
end

local function connect(self)
   if self.conn then
      return
   end
   self.conn = assert(native.spawn {
      argv = { "bash", "-c", ('exec 3<>/dev/tcp/127.0.0.1/%d; cat <&3 & exec cat >&3'):format(
         self.port) }, stdin = "pipe", stdout = "pipe" })
   self.buffer, self.at = "", 0
   local options = { verbose = false, headers = true, no_responders = true, user = self.login.user,
                     pass = self.login.password, auth_token = self.login.token }
   self.conn:write(("CONNECT %s\r\nSUB in.> 1\r\n"):format(json.encode(options)))
end

function methods:disconnect()
   if self.conn then
      self.conn:kill("KILL", "group")
      self.conn:wait(wait.scaled(10))
      self.conn = nil
   end
end

-- Publishes, and returns the answer as a table.
function methods:call(subject, data)
   connect(self)
   self.conn:write(("PUB %s in.answer %d\r\n%s\r\n"):format(subject, #data, data))
   while true do
      local message = next_message(self)
      if message.subject == "in.answer" then
         return json.decode(message.data)
      end
   end
end

-- A question to JetStream, which must be answered without an error.
function methods:api(name, body)
   local answer = self:call("$JS.API." .. name, body and json.encode(body) or "")
   lu.assertNil(answer.error, name .. ": " .. json.encode(answer))
   return answer
end

-- Makes a stream with these subjects and fields.
function methods:stream(name, config)
   config.name = name
   config.subjects = config.subjects or not config.mirror and { "cdc.>" } or nil
   config.storage = config.storage or "file"
   config.retention = config.retention or "limits"
   return self:api("STREAM.CREATE." .. name, config)
end

-- The messages of a stream: all but those that keep positions; or those of a subject.
function methods:messages(name, subject)
   local consumer = self:api("CONSUMER.CREATE." .. name, { stream_name = name, config = {
      deliver_policy = "all", ack_policy = "none", replay_policy = "instant",
      filter_subject = subject, inactive_threshold = 60 * 1000000000,
   } })
   local list = {}
   for i = 0, consumer.num_pending - 1 do
      if i % AT_A_TIME == 0 then
         local request = json.encode { batch = math.min(AT_A_TIME, consumer.num_pending - i),
                                       no_wait = true }
         self.conn:write(("PUB $JS.API.CONSUMER.MSG.NEXT.%s.%s in.all %d\r\n%s\r\n"):format(name,
            consumer.name, #request, request))
      end
      local message = next_message(self)
      if subject or not message.subject:find "%._pgcdc%." then
         list[#list + 1] = message
      end
   end
   self:api(("CONSUMER.DELETE.%s.%s"):format(name, consumer.name))
   return list
end

-- ---- tests ----

-- remote_sinks.tests, where a test gets a server with a stream CDC: test(name, f, config,
-- server_config). <config>: of the stream; false: there is no stream.
function nats.tests(suite)
   return remote_sinks.tests(suite, nats.is_there, function(config, server_config)
      local server = nats.new(server_config)
      if config ~= false then
         server:stream("CDC", config or {})
      end
      return server
   end)
end

-- A script that puts table t into the stream. <server>: or its URL; <options>: fields of the sink,
-- <source>: of the source.
function nats.script(server, options, source)
   return ([[pgcdc.source {table = "t", interval = 0.02, %s}:sink(pgcdc.sinks.nats {
      servers = %q, stream = "CDC", %s})]]):format(source or "", type(server) == "string" and server
      or server:url(), options or "")
end

return nats
