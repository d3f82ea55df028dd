-- pgcdc.sinks.redis: changes into Redis: streams, JSON or hashes by key, or published.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local native = require "pgcdc.native.redis"
local pattern = require "pgcdc.sinks.pattern"
local read_host = require "pgcdc.sinks.address"
local redis_check = require "pgcdc.sinks.redis_check"
local redis_client = require "pgcdc.sinks.redis_client"
local redis_transaction = require "pgcdc.sinks.redis_transaction"
local remote = require "pgcdc.sinks.remote"
local whole = require "pgcdc.sinks.whole"

local ask = redis_client.ask

local PORT = "6379"
local STEP = 0.1 -- seconds
local AHEAD = 64 * 1024 -- bytes that are taken before they are sent

local modes = { stream = true, json = true, hash = true, publish = true }

-- ---- addresses ----

-- Reads `connect`. Returns a list of {host =, port =} or {path =}, the number of the database and
-- whether TLS is spoken.
local function read_address(what, text)
   local path = text:match "^unix:/*(/.*)$"
   if path and raw.is_sandboxed then -- what connects there tells which files there are
      check.fail("%s: the sandbox allows no sockets by their path", what)
   elseif path then
      return { { path = path } }, 0, false
   end
   local scheme, rest = text:match "^(rediss?)://(.*)$"
   if not scheme then
      check.fail("%s: say redis://host:port, rediss://host:port (with TLS) or unix:/path", what)
   elseif rest:find("@", 1, true) then
      check.fail("%s: say the user and the password by user = and password = , such as "
         .. 'password = "$REDIS_PASSWORD"', what)
   end
   local list, database = rest:match "^([^/]*)/?(%d*)$"
   if not list or list == "" then
      check.fail("%s: after %s:// come hosts, with commas between, and perhaps /DATABASE", what,
         scheme)
   end
   local hosts = {}
   for host in list:gmatch "[^,]+" do
      hosts[#hosts + 1] = read_host(what, host, PORT)
   end
   return hosts, math.tointeger(tonumber(database)) or 0, scheme == "rediss"
end

-- ---- the connection ----

local function address_of(host)
   return host.path and "unix:" .. host.path or host.host .. ":" .. host.port
end

local function connect(sink, host)
   local tls
   if sink.has_tls then
      tls = sink:tls_files()
      tls.name = host.host
   end
   local client, problem = native.open { host = host.host, port = host.port, path = host.path,
                                         tls = tls }
   if not client then
      return problem
   end
   sink.client, sink.place = client, address_of(host)
   local clock = sink:clock "connect"
   while not client:is_connected() do
      local moved, why = client:step(STEP)
      if moved == nil then
         return why
      end
      clock:check(moved)
   end
end

local function login(sink)
   local user, password = sink:secret "user", sink:secret "password"
   if password then
      local words = user and { "AUTH", user, password } or { "AUTH", password }
      local kind, text = ask(sink, true, table.unpack(words))
      if kind == "error" then -- who does not know the command repeats its words
         redis_client.raise(sink, "AUTH", (text:gsub(", with args beginning with.*", "")))
      end
   end
   if sink.database > 0 then
      ask(sink, false, "SELECT", sink.database)
   end
end

-- In a cluster all keys must be in one place, which the tag sees to.
local function check_cluster(sink)
   local kind, text = ask(sink, true, "INFO", "cluster")
   sink.is_cluster = kind == "text" and text:find "cluster_enabled:1" ~= nil
   if sink.is_cluster and sink.key_text and not pattern.has(sink.key_text, "name") then
      sink:stop(("key = '%s': the server is a cluster, where all keys need the hash tag: say "
         .. "{name} in it"):format(sink.key_text))
   end
end

-- True if it would be the same the next time: the server is not to be trusted, or a file cannot be
-- used.
local function is_final(problem)
   return problem:find("certificate does not verify", 1, true) or problem:find "^tls%.%l+: "
end

local function open(sink)
   local problems, are_final = {}, true
   for _ = 1, #sink.hosts do
      local host = sink.hosts[sink.turn]
      local problem = connect(sink, host)
      if not problem then
         login(sink)
         check_cluster(sink)
         return
      end
      problems[#problems + 1] = address_of(host) .. ": " .. problem
      are_final = are_final and is_final(problem)
      sink.turn = sink.turn % #sink.hosts + 1
   end
   if are_final then
      sink:deny(table.concat(problems, "; "))
   end
   sink:retry(table.concat(problems, "; "))
end

local function close(sink)
   sink.ahead = nil
   remote.close_client(sink)
   if sink.is_sent_on then
      sink.is_sent_on = false
   elseif sink.failures > 0 then -- perhaps another one can be written to
      sink.turn = sink.turn % #sink.hosts + 1
   end
end

-- ---- --check ----

local function check_server(sink)
   return ("redis %s at %s, mode %s"):format(redis_check.server(sink),
      address_of(sink.hosts[sink.turn]), sink.mode)
end

-- ---- values ----

-- A column as a hash has it.
local function text_of(value)
   return type(value) == "string" and value or raw.encode(value)
end

local encoders = {}

-- The headers of a change that raw.put_change does not add, see redis_entry.h.
local heads = setmetatable({}, { __index = function(heads, op)
   local head = ("=s4s4"):pack("op", op)
   heads[op] = head
   return head
end })

function encoders.stream(sink, value, key)
   if sink.is_plain and raw.is_change(value) and not (rawget(value, "op")
      or rawget(value, "schema") or rawget(value, "table")) then
      raw.learn_change(sink.learned, value, key, heads[value.op])
   end
   local text = sink.format(value)
   if not text then
      return
   end
   redis_transaction.meet_stream(sink, key)
   local head = sink.maxlen and { "XADD", key, "MAXLEN", "~", sink.maxlen, "*" }
      or { "XADD", key, "*" }
   local n = #head
   if raw.is_change(value) then
      head[n + 1], head[n + 2], head[n + 3], head[n + 4] = "op", value.op, "id", value.id
      n = n + 4
      if value.seq ~= nil then
         head[n + 1], head[n + 2] = "seq", value.seq
         n = n + 2
      end
   end
   head[n + 1], head[n + 2] = "data", text
   return 1, native.command(table.unpack(head, 1, n + 2))
end

function encoders.publish(sink, value, key)
   local text = sink.format(value)
   if text then
      return 1, native.command("PUBLISH", key, text)
   end
end

local function is_delete(value)
   return raw.is_change(value) and value.op == "delete"
end

function encoders.json(sink, value, key)
   if is_delete(value) then
      return 1, native.command("DEL", key)
   end
   if not sink.has_format then
      whole.check("redis", value)
   end
   local text = sink.has_format and sink.format(value)
      or not sink.has_format and raw.encode(raw.is_change(value) and value.row or value)
   if not text then
      return
   elseif sink.expire then
      return 1, native.command("SET", key, text, "EX", sink.expire)
   end
   return 1, native.command("SET", key, text)
end

function encoders.hash(sink, value, key)
   local delete = native.command("DEL", key)
   if is_delete(value) then
      return 1, delete
   end
   whole.check("redis", value)
   local row = raw.is_change(value) and value.row or value
   if type(row) ~= "table" then
      error(('mode = "hash" takes changes and tables with named fields, not a %s'):format(
         type(row)), 0)
   end
   local words, n = { "HSET", key }, 2
   for name in pairs(row) do
      local content = raw.get(row, name)
      if content ~= nil then
         words[n + 1], words[n + 2] = tostring(name), text_of(content)
         n = n + 2
      end
   end
   if n == 2 then
      return 1, delete
   end
   local hset = native.command(table.unpack(words, 1, n))
   if sink.expire then
      return 3, delete .. hset .. native.command("EXPIRE", key, sink.expire)
   end
   return 2, delete .. hset
end

-- What names the sink in keys: a hash tag, so that all of them are in one place of a cluster.
local function tag(name)
   return "{" .. name .. "}"
end

local function encode(sink, value)
   if sink.is_plain and sink:put_change(sink.learned, value) then
      return
   end
   local key = sink.key(value, sink.named)
   if key == nil then
      return
   elseif sink.is_cluster and not key:find(sink.named.name, 1, true) then
      error(sink:text(("the key '%s' lacks the hash tag %s, which all keys in a cluster need")
         :format(key, sink.named.name)), 0)
   end
   local commands, bytes = sink.encoder(sink, value, key)
   if commands then
      sink:put(commands, raw.is_change(value) and value.id or nil, bytes)
   end
end

local function send_early(sink)
   sink.early_at = sink.outbox:bytes() + AHEAD
   if sink.can_go_ahead then
      redis_transaction.go_ahead(sink)
   end
end

-- ---- options ----

local fields = { mode = true, key = true, maxlen = true, replicas = true, expire = true }

local function read(sink, spec, what)
   local mode = spec.mode == nil and "stream" or spec.mode
   check.one_of(what .. ": mode", mode, modes)
   sink.mode, sink.encoder = mode, encoders[mode]
   local is_mirror = mode == "json" or mode == "hash"
   local key = spec.key or (is_mirror and "{name}:{table}:{key}" or "{name}:{table}")
   sink.key = pattern.option(what .. ": key", key)
   sink.key_text = type(key) == "string" and key or nil
   if sink.name:find "[{}]" then
      check.fail("%s: name must have no braces: it is the hash tag of the keys", what)
   end
   sink.named = { name = tag(sink.name) }
   if spec.maxlen ~= nil and mode ~= "stream" then
      check.fail('%s: maxlen is for mode = "stream"', what)
   elseif spec.expire ~= nil and not is_mirror then
      check.fail('%s: expire is for mode = "json" and "hash"', what)
   elseif sink.has_format and mode == "hash" then
      check.fail('%s: format is not for mode = "hash", whose fields are the columns', what)
   end
   sink.maxlen = spec.maxlen and check.count(what .. ": maxlen", spec.maxlen, 1)
   sink.expire = spec.expire and check.count(what .. ": expire", spec.expire, 1)
   sink.replicas = spec.replicas and check.count(what .. ": replicas", spec.replicas, 0) or 0
   local address = remote.expanded(what, "connect", spec.connect)
   sink.hosts, sink.database, sink.has_tls = read_address(what .. ": connect", address)
   if spec.tls and not sink.has_tls then
      check.fail("%s: tls is for connect = rediss://...", what)
   elseif spec.user ~= nil and spec.password == nil then
      check.fail("%s: user needs a password", what)
   end
   sink.turn, sink.nulls, sink.streams = 1, 0, {}
   -- Changes of a table all go into one stream, which need not be worked out for each.
   sink.is_plain = mode == "stream" and not sink.has_format and sink.key_text ~= nil
      and not sink.key_text:gsub("{name}", ""):gsub("{schema}", ""):gsub("{table}", "")
         :find "[{}]"
   sink.can_go_ahead = sink.is_plain or mode ~= "stream"
   sink.learned = setmetatable({}, { __mode = "k" }) -- see raw.learn_change
   sink.savepoint_key = "pgcdc:" .. tag(sink.name) .. raw.suffix
   sink.epoch_key = sink.savepoint_key .. ":epoch"
end

local function promise(sink)
   return {
      crash = sink.mode == "publish" and "once, or more after a fault" or "exactly once",
      position = "a key, set in the same `MULTI`", order = "the source's",
   }
end

return remote.sink {
   kind = "redis", address = "connect", fields = fields, read = read, encode = encode, open = open,
   recall = redis_transaction.recall, send = redis_transaction.send,
   early_after = AHEAD, send_early = send_early, commit = redis_transaction.commit,
   close = close, check = check_server, mends = redis_check.mends, promise = promise,
   takes_rows = true,
}
