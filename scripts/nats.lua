-- nats: every change into a stream of NATS JetStream.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options {
   { "servers", pgcdc.required, "nats://host:port, tls:// for TLS; several with commas between" },
   { "stream", pgcdc.required, "the stream's name" },
   { "create", false, "make the stream if it is not there" },
   { "subject", "cdc.{schema}.{table}", "the subject of a message" },
   { "format", "json", "json, debezium or cloudevents" },
   { "name", "nats", "part of the position's subject; each program that writes needs another one" },
   { "user", "", "of the server" },
   { "password", "", "its password, such as $NATS_PASSWORD; without a user: a token" },
   { "credentials", "", "a file of credentials" },
   { "ca", "", "a file: certificates of who may sign the server's, in the place of the system's" },
}

local function given(value)
   return value ~= "" and value or nil
end

local sink = pgcdc.sinks.nats {
   servers = options.servers, stream = options.stream, subject = options.subject,
   create = options.create and {} or nil, format = options.format, name = options.name,
   user = given(options.user), password = given(options.password),
   credentials = given(options.credentials), tls = given(options.ca) and { ca = options.ca },
}

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   source:sink(sink)
end

return sources
