-- redis: every change into Redis: a stream, JSON or a hash for each key, or published.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options {
   { "connect", pgcdc.required, "redis://host:port/database, rediss:// for TLS, or unix:/path" },
   { "mode", "stream", "stream, json, hash or publish" },
   { "key", "", "default: {name}:{table}, and for json and hash {name}:{table}:{key}" },
   { "name", "redis", "in the place of {name}; each program that writes needs another one" },
   { "maxlen", 0, "of a stream, about" },
   { "expire", 0, "seconds that a key of json and hash lives" },
   { "replicas", 0, "how many must have a batch before it counts" },
   { "user", "", "of the server" },
   { "password", "", "its password, such as $REDIS_PASSWORD" },
   { "ca", "", "a file: certificates of who may sign the server's, in the place of the system's" },
}

local function given(value)
   return value ~= "" and value ~= 0 and value or nil
end

local sink = pgcdc.sinks.redis {
   connect = options.connect, mode = options.mode, key = given(options.key), name = options.name,
   maxlen = given(math.tointeger(options.maxlen) or options.maxlen),
   expire = given(math.tointeger(options.expire) or options.expire),
   replicas = given(math.tointeger(options.replicas) or options.replicas),
   user = given(options.user), password = given(options.password),
   tls = given(options.ca) and { ca = options.ca },
}

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   source:sink(sink)
end

return sources
