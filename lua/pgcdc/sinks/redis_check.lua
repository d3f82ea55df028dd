-- pgcdc.sinks.redis_check: what --check finds out about a server of Redis, and what mends that.
-- SPDX-License-Identifier: MIT
--
-- Whether the sink may do what it will do is asked by a transaction of all its commands, which is
-- discarded: the server holds each against its rights, its memory and its role when it is queued,
-- and does nothing.

local mend = require "pgcdc.mend"
local feeds = require "pgcdc.delivery.feeds"
local redis_client = require "pgcdc.sinks.redis_client"
local secret = require "pgcdc.sinks.secret"
local tls = require "pgcdc.sinks.tls"

local redis_check = {}

local ask = redis_client.ask

-- ---- what the sink does ----

-- The keys (or channels) of data, as far as they can be told before there is a change.
local function data_keys(sink)
   local keys = {}
   for _, number in ipairs(sink.key_text and feeds.of(sink) or {}) do
      local schema, name = (feeds.name(number) or ""):match "^([^.]*)%.(.*)$"
      if schema then
         local values = { name = sink.named.name, schema = schema, table = name }
         keys[#keys + 1] = sink.key_text:gsub("{([^{}]+)}", function(field)
            return values[field] or "0"
         end)
      end
   end
   return keys
end

local writes = {
   stream = function(key) return { { "XADD", key, "*", "op", "read" } } end,
   publish = function(key) return { { "PUBLISH", key, "" } } end,
   json = function(key) return { { "SET", key, "" }, { "DEL", key } } end,
   hash = function(key)
      return { { "DEL", key }, { "HSET", key, "a", "" }, { "EXPIRE", key, 1 } }
   end,
}

-- What it does outside of transactions, besides AUTH, SELECT, WATCH and WAIT.
local function own_commands(sink)
   return { { "INCR", sink.epoch_key }, { "INCRBY", sink.epoch_key, 0 }, { "GET", sink.epoch_key },
            { "SET", sink.savepoint_key, "" }, { "DEL", sink.savepoint_key } }
end

local words = "+auth +select +info +watch +unwatch +multi +exec +discard +wait +get +set +del +incr"
   .. " +incrby"
local words_of = { stream = " +xadd +type", publish = " +publish", json = "",
                   hash = " +hset +expire" }

-- ---- what mends it ----

-- Text that Redis takes as a pattern, which means this text.
local function literal(text)
   return (text:gsub("[%[%]?*\\]", "\\%0"))
end

-- `redis-cli`, as whoever may do so, with these words.
local function cli(sink, ...)
   local host = sink.hosts[sink.turn]
   local list = { "redis-cli", host.path and "-s" or "-h", host.path or host.host }
   if host.port then
      table.move({ "-p", host.port }, 1, 2, #list + 1, list)
   end
   list[#list + 1] = sink.has_tls and "--tls" or nil
   for _, word in ipairs { ... } do
      list[#list + 1] = word
   end
   for i, word in ipairs(list) do
      list[i] = word:find '^">%$' and word or mend.quoted(tostring(word))
   end
   return mend.shell(table.concat(list, " "))
end

local function user_of(sink)
   return sink:secret "user" or "default"
end

-- All rights that the sink needs, and no others.
local function grants(sink)
   local list, pieces = { "~" .. literal(sink.savepoint_key) .. "*" }, {}
   for text, field in ((sink.key_text or "{}") .. "{}"):gmatch "([^{}]*){([^{}]*)}" do
      pieces[#pieces + 1] = literal(text)
      pieces[#pieces + 1] = field == "name" and literal(sink.named.name)
         or field ~= "" and "*" or nil
   end
   local keys = sink.key_text and table.concat(pieces) or "*"
   list[2] = (sink.mode == "publish" and "&" or "~") .. keys
   for word in (words .. words_of[sink.mode]):gmatch "%S+" do
      list[#list + 1] = word
   end
   return cli(sink, "ACL", "SETUSER", user_of(sink), table.unpack(list))
end

local mends = {}

function mends.NOPERM(sink)
   return { grants(sink) }
end

function mends.NOAUTH()
   return { mend.option("password", "$REDIS_PASSWORD") }
end

function mends.WRONGPASS(sink)
   local name = secret.variable_of(sink, "password")
   return name and { cli(sink, "ACL", "SETUSER", user_of(sink), "on", '">$' .. name .. '"') } or {}
end

-- A replica takes no writes: there is another server that does.
function mends.READONLY(sink)
   local _, text = ask(sink, true, "INFO", "replication")
   text = tostring(text)
   local host, port = text:match "master_host:(%S+)", text:match "master_port:(%d+)"
   return host and port and { mend.option("connect", ("%s://%s:%s%s"):format(
      sink.has_tls and "rediss" or "redis", host, port,
      sink.database > 0 and "/" .. sink.database or "")) } or {}
end

--- What mends an error of the server, a text such as "AUTH: WRONGPASS ...": a list, see pgcdc.mend.
function redis_check.mends(sink, text)
   if text:find "need the hash tag" then
      return { mend.option("key", "{name}:" .. sink.key_text) }
   elseif not sink.hosts[sink.turn].path then
      local unknown = tls.mends(text, sink.hosts[sink.turn].host, sink.hosts[sink.turn].port)
      if unknown then
         return unknown
      end
   end
   for word in text:gmatch "%u+" do
      if mends[word] then
         return mends[word](sink)
      end
   end
   return {}
end

-- ---- what is asked ----

-- A parameter of the server, or nil where we may not ask.
local function parameter(sink, name)
   local kind, list = ask(sink, true, "CONFIG", "GET", name)
   return kind == "list" and list[2] and list[2][2] or nil
end

-- A command that sets a parameter of the server until its next start.
local function set(sink, name, value)
   local m = cli(sink, "CONFIG", "SET", name, value)
   m.text = m.text .. " # and in redis.conf"
   return m
end

-- Warns of settings with which a server that dies may lose changes, deletes among them.
local function warn_of_loss(sink)
   local sync, policy = parameter(sink, "appendfsync"), parameter(sink, "maxmemory-policy")
   local must_sync = sync ~= "always" and set(sink, "appendfsync", "always") or nil
   if parameter(sink, "appendonly") == "no" then
      sink:warn("the server has appendonly no: it may lose what it has, and deletes that were told "
         .. "are not told again", { set(sink, "appendonly", "yes"), must_sync })
   elseif sync and must_sync then
      sink:warn(("the server has appendfsync %s: a crash of its machine may lose the last second, "
         .. "and deletes are not told again"):format(sync), { must_sync })
   end
   if policy and policy:find "^allkeys" then
      sink:warn(("the server has maxmemory-policy %s: it may drop keys, our position too"):format(
         policy), { set(sink, "maxmemory-policy", "noeviction") })
   end
end

local function stop(sink, text)
   sink.mends = redis_check.mends(sink, text)
   sink:stop(text)
end

-- Asks, and stops with what mends an error.
local function must(sink, ...)
   local kind, value = ask(sink, true, ...)
   if kind == "error" then
      stop(sink, ("%s: %s"):format((...), value))
   end
   return kind, value
end

local function check_rights(sink, keys)
   must(sink, "WATCH", sink.epoch_key, sink.savepoint_key)
   must(sink, "MULTI")
   local problem
   local function queue(commands)
      for _, command in ipairs(commands) do
         local kind, text = ask(sink, true, table.unpack(command))
         problem = problem or kind == "error" and ("%s: %s"):format(command[1], text)
      end
   end
   queue(own_commands(sink))
   for _, key in ipairs(keys) do
      queue(writes[sink.mode](key))
   end
   must(sink, "DISCARD")
   if problem then
      stop(sink, problem)
   end
end

local function check_types(sink, keys)
   for _, key in ipairs(sink.mode == "stream" and keys or {}) do
      local _, text = must(sink, "TYPE", key)
      if text ~= "stream" and text ~= "none" then
         sink.mends = { cli(sink, "RENAME", key, key .. ":before") }
         sink:stop(("the key '%s' is a %s, and no stream"):format(key, text))
      end
   end
end

--- Whether the server, to which the sink is connected, will take what it sends. Returns its
--- version, or "?" where we may not ask; raises why not.
function redis_check.server(sink)
   local keys = data_keys(sink)
   local kind, text = ask(sink, true, "INFO", "server")
   check_rights(sink, keys)
   check_types(sink, keys)
   warn_of_loss(sink)
   return kind == "text" and text:match "redis_version:(%S+)" or "?"
end

return redis_check
