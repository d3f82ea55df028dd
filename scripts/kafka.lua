-- kafka: every change into topics of Kafka, in transactions.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options {
   { "brokers", pgcdc.required, "host:port, with commas between" },
   { "topic", "cdc.{schema}.{table}", "a text with {schema}, {table}, {row.COLUMN} ..." },
   { "key", "", "a column, or none; default: the JSON of the key" },
   { "delete", "value", "what a delete is: value, tombstone or both" },
   { "exact", true, "exactly once, in transactions" },
   { "format", "json", "json, debezium or cloudevents" },
   { "dead_topic", "", "of records that Kafka never takes" },
   { "name", "kafka", "each program that writes needs another one" },
   { "user", "", "of the cluster" },
   { "password", "", "its password, such as $KAFKA_PASSWORD" },
   { "mechanism", "", "of the login: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, the default" },
   { "tls", false, "connect with TLS" },
   { "ca", "", "a file: certificates of who may sign the server's, in the place of the system's" },
}

local function given(value)
   return value ~= "" and value or nil
end

local sink = pgcdc.sinks.kafka {
   brokers = options.brokers, topic = options.topic, key = given(options.key),
   deletes = options.delete, exact = options.exact, format = options.format,
   dead_topic = given(options.dead_topic), name = options.name, user = given(options.user),
   password = given(options.password),
   config = given(options.mechanism) and { ["sasl.mechanisms"] = options.mechanism },
   tls = (options.tls or options.ca ~= "") and { ca = given(options.ca) } or nil,
}

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   source:sink(sink)
end

return sources
