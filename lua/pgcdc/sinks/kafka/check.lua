-- pgcdc.sinks.kafka.check: what --check finds out about a cluster of Kafka, and what mends that.
-- SPDX-License-Identifier: MIT
--
-- Nothing is made, and nothing is written. So of a topic is found out whether it is there and may
-- be seen, and of the group whether it may be; Kafka says only to who writes whether he may do so,
-- and only to who fences a former program whether he may use the transactional id.

local mend = require "pgcdc.mend"
local native = require "pgcdc.native.kafka"
local pattern = require "pgcdc.sinks.pattern"
local record = require "pgcdc.sinks.kafka.record"
local settings = require "pgcdc.sinks.kafka.settings"
local task = require "pgcdc.sinks.kafka.task"
local tls = require "pgcdc.sinks.tls"

local kafka_check = {}

local unknown = { _UNKNOWN_TOPIC = true, UNKNOWN_TOPIC_OR_PART = true, _UNKNOWN_PARTITION = true }
local final = { TOPIC_AUTHORIZATION_FAILED = true, TOPIC_EXCEPTION = true }

-- The topics that the sink writes to, as far as they can be told before there is a change.
local function data_topics(sink)
   local list = sink.topic_text and pattern.expected(sink.topic_text, sink) or {}
   list[#list + 1] = sink.dead_topic
   return list
end

-- ---- what mends it ----

-- A command of Kafka's, as an administrator, whose login is in a file.
local function command(sink, name, words)
   local list = { name, "--bootstrap-server", sink.brokers }
   if sink:secret "user" then
      list[4], list[5] = "--command-config", "admin.properties"
   end
   table.move(words, 1, #words, #list + 1, list)
   for i, word in ipairs(list) do
      list[i] = mend.quoted(word)
   end
   return mend.shell(table.concat(list, " "))
end

local function create(sink, topic, ...)
   return command(sink, "kafka-topics.sh", { "--create", "--if-not-exists", "--topic", topic, ... })
end

-- The privileges that the sink needs, and no others.
local function grants(sink)
   local user = sink:secret "user"
   if not user and sink:tls_files().cert then
      return {} -- the user is who the certificate names, by rules of the brokers
   end
   local function allow(operation, ...)
      return command(sink, "kafka-acls.sh", { "--add", "--allow-principal", "User:"
         .. (user or "ANONYMOUS"), "--operation", operation, ... })
   end
   local topics = {}
   for _, topic in ipairs(data_topics(sink)) do
      topics[#topics + 1] = "--topic"
      topics[#topics + 1] = topic
   end
   if sink.shapes then
      topics[#topics + 1] = "--topic"
      topics[#topics + 1] = sink.shapes
   end
   if not sink.id then
      return { allow("WRITE", table.unpack(topics)) }
   end
   return { allow("WRITE", "--transactional-id", sink.id, table.unpack(topics)),
            allow("READ", "--group", sink.id, "--topic", sink.positions) }
end

-- A login is missing, or another one is needed.
local function login(sink, text)
   local supported = text:match "supported mechanisms: ([%w-]+)"
   if not sink:secret "user" then
      return { mend.option("user", "$KAFKA_USER"), mend.option("password", "$KAFKA_PASSWORD") }
   elseif supported or settings.hint(text) ~= "" then
      return { mend.option("mechanism", supported or "PLAIN") }
   end
end

--- What mends an error of --check, a text: a list, see pgcdc.mend, or nil.
function kafka_check.mends(sink, text)
   local host, port = sink.brokers:match "^([^,]*):(%d+)"
   if text:find("certificate could not be verified", 1, true)
      or text:find("certificate verify failed", 1, true) then
      return not sink:tls_files().ca and tls.accept((host or sink.brokers):gsub("[%[%]]", ""),
         port or "9092") or nil
   elseif text:find "SSL listener" then
      return { mend.option("tls", "true") }
   elseif text:find "PLAINTEXT broker listener" or text:find "isconnected.*SSL_HANDSHAKE" then
      return { mend.option("tls", "false"), sink:tls_files().ca and mend.option("ca", "") or nil }
   elseif text:find "SASL" or text:find "isconnected" then
      return login(sink, text)
   end
end

-- ---- what is asked ----

local function deny(sink, text, mends)
   sink.mends = mends
   sink:deny(text)
end

-- Whether there is a topic; raises if that may not be known.
local function has_topic(sink, reader, topic, privilege)
   local problem = record.problem(topic)
   if problem then
      sink:stop(problem .. ": say another `topic`")
   end
   local clock = sink:clock("topic " .. topic)
   while true do
      local count, name, text = reader:partitions(topic, task.STEP)
      if count or unknown[name] then
         return count ~= nil
      elseif final[name] then
         deny(sink, ("topic '%s': %s: the user needs %s on it"):format(topic, text, privilege),
            grants(sink))
      end
      clock:check(false)
   end
end

local function check_topics(sink, reader)
   for _, topic in ipairs(data_topics(sink)) do
      if not has_topic(sink, reader, topic, "WRITE and DESCRIBE") then
         sink:warn(("there is no topic '%s' yet, and not all brokers make one with the first "
            .. "record (auto.create.topics.enable)"):format(topic), { create(sink, topic) })
      end
   end
   if sink.shapes and not has_topic(sink, reader, sink.shapes, "WRITE and DESCRIBE")
      and sink:secret "user" then
      sink:warn(("there is no topic '%s' yet, and the user may not be allowed to make it"):format(
         sink.shapes), { create(sink, sink.shapes, "--partitions", "1", "--config",
            "cleanup.policy=compact") })
   end
   if sink.id and not has_topic(sink, reader, sink.positions, "READ") and sink:secret "user" then
      sink:warn(("there is no topic '%s' yet, and the user may not be allowed to make it"):format(
         sink.positions), { create(sink, sink.positions, "--partitions", "1") })
   end
end

-- Whether the group may be asked for.
local function check_group(sink, home)
   local ok, problem = task.ask(home, "recall", { topic = sink.positions, group = sink.id }, true)
   if not ok and problem.name == "GROUP_AUTHORIZATION_FAILED" then
      deny(sink, ("%s: the user needs READ on the group '%s'"):format(problem.text, sink.id),
         grants(sink))
   elseif not ok then
      sink:retry(problem.text)
   end
end

--- Asks for what the sink needs. `home`: the sink whose client it uses, which is connected. Raises
--- what is wrong.
function kafka_check.cluster(sink, home)
   local reader, problem = native.reader(settings.of_reader(home))
   if not reader then
      sink:stop(problem)
   end
   local ok, why = pcall(check_topics, sink, reader)
   reader:close()
   if not ok then
      error(why, 0)
   end
   if sink.id then
      check_group(sink, home)
   end
end

return kafka_check
