-- pgcdc.sinks.kafka.settings: what librdkafka is told.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local native = require "pgcdc.native.kafka"

local settings = {}

local PROPAGATION = "topic.metadata.propagation.max.ms"
local MESSAGES, KBYTES = "queue.buffering.max.messages", "queue.buffering.max.kbytes"

-- What librdkafka is told. Its own names; `config` may replace these,
local defaults = {
   ["linger.ms"] = 100, ["batch.size"] = 200000, ["compression.type"] = "lz4",
   [KBYTES] = 768, [MESSAGES] = 5000,
   ["transaction.timeout.ms"] = 60000, [PROPAGATION] = 15000,
   ["message.max.bytes"] = 64000000, ["client.id"] = "pgcdc-lua",
   ["reconnect.backoff.max.ms"] = 2000,
}
-- but not these. The values: what to say in their place.
local ours = {
   ["acks"] = "", ["request.required.acks"] = "", ["enable.idempotence"] = "",
   ["partitioner"] = "key", ["transactional.id"] = "name", ["log.queue"] = "",
   ["batch.num.messages"] = "batch.size", ["bootstrap.servers"] = "brokers",
   ["metadata.broker.list"] = "brokers", ["sasl.username"] = "user", ["sasl.password"] = "password",
   ["ssl.ca.location"] = "tls", ["ssl.certificate.location"] = "tls", ["ssl.key.location"] = "tls",
   ["enabled_events"] = "", ["dr_cb"] = "", ["dr_msg_cb"] = "",
}
-- In the sandbox only these: others read files, load libraries or run commands.
local harmless = {}
for name in pairs(defaults) do
   harmless[name] = true
end
for _, name in ipairs { "security.protocol", "sasl.mechanism", "sasl.mechanisms",
                        "broker.address.family", "message.timeout.ms", "request.timeout.ms" } do
   harmless[name] = true
end
-- and of the mechanisms these: GSSAPI, which is librdkafka's default, runs a command and uses the
-- tickets of the user.
local SCRAM = "SCRAM-SHA-512"
local by_password = { PLAIN = true, ["SCRAM-SHA-256"] = true, [SCRAM] = true }

-- ---- what is told ----

--- How many messages, and bytes, may be on their way: what the queue's options say. librdkafka
--- itself is told more, since it never takes a message that is larger than its queue.
function settings.limits(sink)
   local function of(name)
      return sink.config[name] or defaults[name]
   end
   return of(MESSAGES), 1024 * of(KBYTES)
end

--- A list of names and values, sorted by name, as native.open takes it. `without_id`: what sinks
--- can have in common.
function settings.of(sink, without_id)
   local all = {}
   for name, value in pairs(defaults) do
      all[name] = value
   end
   all[PROPAGATION] = math.min(all[PROPAGATION], sink.timeout * 500 // 1 | 0)
   for name, value in pairs(sink.config) do
      all[name] = value
   end
   all[MESSAGES], all[KBYTES] = 2147483647, 2147483647
   all["bootstrap.servers"] = sink.brokers
   all["acks"], all["enable.idempotence"], all["partitioner"] = "all", true, "murmur2_random"
   all["log.queue"] = all.debug == nil
   if sink.id and not without_id then
      all["transactional.id"] = sink.id
   end
   if sink.is_single then
      all["batch.num.messages"] = 1
   end
   local user, password = sink:secret "user", sink:secret "password"
   if user then
      all["sasl.username"], all["sasl.password"] = user, password
   end
   if (user or raw.is_sandboxed) and all["sasl.mechanisms"] == nil
      and all["sasl.mechanism"] == nil then
      all["sasl.mechanisms"] = SCRAM
   end
   if sink.has_tls then
      local files = sink:tls_files()
      all["ssl.ca.location"], all["ssl.certificate.location"] = files.ca, files.cert
      all["ssl.key.location"] = files.key
   end
   if all["security.protocol"] == nil and (user or sink.has_tls) then
      all["security.protocol"] = (user and "sasl_" or "") .. (sink.has_tls and "ssl"
         or "plaintext")
   end
   local names, list = {}, {}
   for name in pairs(all) do
      names[#names + 1] = name
   end
   table.sort(names)
   for _, name in ipairs(names) do
      list[#list + 1], list[#list + 2] = name, tostring(all[name])
   end
   return list
end

-- What a consumer is told in the place of what is a producer's only.
local of_readers = {
   ["group.id"] = "pgcdc-lua", ["enable.auto.commit"] = false,
   ["enable.auto.offset.store"] = false, ["auto.offset.reset"] = "error",
   ["enable.partition.eof"] = true, ["isolation.level"] = "read_committed",
   ["queued.max.messages.kbytes"] = 4096, ["fetch.max.bytes"] = 4194304, ["log_level"] = 0,
}
local of_producers = {
   ["linger.ms"] = true, ["batch.size"] = true, ["compression.type"] = true, [KBYTES] = true,
   [MESSAGES] = true, ["transaction.timeout.ms"] = true, ["acks"] = true, ["log.queue"] = true,
   ["enable.idempotence"] = true, ["partitioner"] = true, ["batch.num.messages"] = true,
   ["message.max.bytes"] = true, [PROPAGATION] = true,
}

-- The same list for a consumer, with what `more` says.
local function of_consumer(reader, more)
   local all, list, given = settings.of(reader, true), {}, {}
   for i = 1, #all, 2 do
      if not of_producers[all[i]] and of_readers[all[i]] == nil then
         list[#list + 1], list[#list + 2] = all[i], all[i + 1]
         given[all[i]] = true
      end
   end
   for name, value in pairs(of_readers) do
      if more[name] == nil then
         list[#list + 1], list[#list + 2] = name, tostring(value)
      end
   end
   for name, value in pairs(more) do
      if not given[name] then
         list[#list + 1], list[#list + 2] = name, tostring(value)
      end
   end
   return list
end

--- The same list for a consumer: what `reader` (a table like a sink) says.
function settings.of_reader(reader)
   return of_consumer(reader, {})
end

--- The same for a member of a group, which reads nothing. `config` may replace the times.
function settings.of_member(reader, group)
   return of_consumer(reader, {
      ["group.id"] = group, ["partition.assignment.strategy"] = "cooperative-sticky",
      ["session.timeout.ms"] = 10000, ["heartbeat.interval.ms"] = 2000,
      ["topic.metadata.refresh.interval.ms"] = 10000, ["enable.partition.eof"] = false,
      ["auto.offset.reset"] = "latest",
   })
end

--- What may help where a login fails, or "".
function settings.hint(message)
   if native.version() >= 0x020601ff or not message:find("mechanism SCRAM", 1, true) then
      return ""
   end
   return (". If the password is right: Kafka from 3.8.1 on takes SCRAM of librdkafka from 2.6.1 "
      .. 'on only, and this is an older one; config = {["sasl.mechanisms"] = "PLAIN"} with tls is '
      .. "another way")
end

-- ---- options ----

-- Raises unless a script in the sandbox may say this.
local function check_harmless(what, name, value)
   if not harmless[name] then
      check.fail("%s: the sandbox does not allow %s", what, name)
   elseif name:find "^sasl%.mechanism" and not by_password[value] then
      check.fail("%s: %s: the sandbox allows PLAIN, SCRAM-SHA-256 and %s", what, name, SCRAM)
   end
end

--- Checks and keeps `config`. To be called last, since it tries what the others come to.
function settings.read(sink, what, given)
   check.type(what, given, "table")
   sink.config = {} -- what is checked, whatever the script has in its table later
   for name, value in pairs(given) do
      check.text(what .. ": a name", name)
      check.type(what .. "." .. name, value, "string", "number", "boolean")
      if ours[name] then
         check.fail("%s: %s is set by the sink%s", what, name, ours[name] ~= ""
            and ": say " .. ours[name] or "")
      elseif raw.is_sandboxed then
         check_harmless(what, name, value)
      end
      if name == MESSAGES or name == KBYTES then
         value = check.count(what .. "." .. name, math.tointeger(tonumber(value)), 1)
      end
      sink.config[name] = value
   end
   local ok, problem = native.check(settings.of(sink))
   if not ok then
      check.fail("%s: %s", what, problem)
   end
end

return settings
