-- pgcdc.stream.topics: changes that a sink wrote into topics of Kafka, read again.
-- SPDX-License-Identifier: MIT
--
--    topic cdc.public.orders, partition 0   ... |41|42|43|     the position has of each partition
--                             partition 1   ... |17|           the offset after the last change
--    topic pgcdc-shapes       hash of a shape -> what its rows consist of
--
-- A batch is what has come at a time. A record that is no change moves the position too, as does
-- the end of a partition: the ends of transactions take offsets of their own, and else there would
-- seem to be something left for ever.
--
-- With a group the program is a member of it, or a worker, which reads one partition of each topic:
-- see pgcdc.stream.workers. Its position also has how many partitions there are.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local debezium = require "pgcdc.stream.debezium"
local lineage = require "pgcdc.delivery.lineage"
local secret = require "pgcdc.sinks.secret"
local tls = require "pgcdc.sinks.tls"
local workers = require "pgcdc.stream.workers"

local topics = {}

local MOST = 500 -- records of a batch
local GOAL = 0.5 -- seconds that a batch shall take: it is finished before a stop
local WAIT = 0.1 -- seconds that one question to brokers may take
local PATIENCE = 60 -- seconds of such questions
local BRIEF = 10 -- the same of --check
local NAP = 0.01
local FIRST = -2 -- as an offset, in librdkafka's words
local headers = { "shape", "id", "seq", "ts", "op" } -- that are looked at
local STALE = 2 -- seconds between two questions how much is left, where nothing is read
local BEFORE = 3 -- so many records before the position are looked at, see note

topics.fields = {
   kafka = true, topic = true, name = true, group = true, start = true, shapes = true,
   config = true, user = true, password = true, tls = true, on_change = true, on_error = true,
   dead_letter = true,
}

local native -- the module, once a source needs it

local feeds = {} -- by the number of their source

-- ---- options ----

local Feed = {}
Feed.__index = Feed

function Feed:secret(field)
   return secret.of(self, field)
end

Feed.tls_files = tls.files

local function read_group(feed, what, group)
   if group ~= nil then
      feed.group = check.text(what .. ": group", group)
      if feed.start == "now" then
         check.fail('%s: start = "now" is not for a group: a partition that is added later is to '
            .. "be read from its start", what)
      end
      workers.join(feed, what)
   end
end

--- Checks the options of a source of topics. Returns what reads them.
function topics.new(spec)
   local what = "pgcdc.source"
   if not raw.has_network then
      check.fail("%s: the sandbox allows no network, unless the program was started with "
         .. "--allow-network", what)
   end
   native = native or require "pgcdc.native.kafka"
   local settings = require "pgcdc.sinks.kafka.settings"
   local record = require "pgcdc.sinks.kafka.record"
   local feed = setmetatable({ timeout = 30, types = {}, offsets = {}, ends = {}, told = {},
                               deleted = {}, most = 1, count_fed = 0,
                               memory = debezium.memory() }, Feed)
   feed.brokers = secret.expand(what .. ": kafka", check.text(what .. ": kafka", spec.kafka))
   feed.topics = check.names(what .. ": topic", spec.topic)
   if not feed.topics then
      check.fail('%s: topic = "..." says what of Kafka is read', what)
   end
   for _, topic in ipairs(feed.topics) do
      record.topic(what .. ": topic", topic)
   end
   feed.shapes = record.topic(what .. ": shapes", spec.shapes == nil and "pgcdc-shapes"
      or spec.shapes)
   feed.start = spec.start == nil and "snapshot" or spec.start
   check.one_of(what .. ": start", feed.start, { snapshot = true, now = true })
   read_group(feed, what, spec.group)
   for _, field in ipairs { "user", "password" } do
      if spec[field] ~= nil then
         secret.keep(feed, what .. ": " .. field, field, check.text(what .. ": " .. field,
            spec[field]))
      end
   end
   feed.has_tls = spec.tls ~= nil
   tls.read(feed, what, spec.tls)
   settings.read(feed, what .. ": config", spec.config or {})
   return feed
end

-- ---- questions to brokers ----

local unknown = { _UNKNOWN_TOPIC = true, UNKNOWN_TOPIC_OR_PART = true }
local problems = {
   _UNKNOWN_TOPIC = true, UNKNOWN_TOPIC_OR_PART = true, TOPIC_AUTHORIZATION_FAILED = true,
   _UNKNOWN_PARTITION = true, _AUTHENTICATION = true,
}

-- What may be meant by the name of a topic that is not there, as the end of a sentence.
local function nearest_topic(client, topic)
   local names = client:topics(WAIT)
   local near = names and raw.nearest(topic, names)
   return near and ("; did you mean '%s'?"):format(near) or ""
end

-- Asks a client until there is an answer. Raises what does not pass by itself.
local function ask_client(feed, client, method, ...)
   local args = table.pack(...)
   args[args.n + 1] = WAIT
   local began = raw.now()
   while true do
      local a, b, text = client[method](client, table.unpack(args, 1, args.n + 1))
      if a then
         return a, b
      elseif problems[b] then
         error(("kafka: topic '%s': %s%s"):format(args[1], text,
            unknown[b] and nearest_topic(client, args[1]) or ""), 0)
      elseif raw.now() - began > (feed.mode == "check" and BRIEF or PATIENCE) then
         error(("kafka: %s does not answer: %s"):format(feed.brokers, text), 0)
      elseif not raw.sleep(0) then
         error("stopped", 0)
      end
   end
end

local function ask(feed, method, ...)
   return ask_client(feed, feed.reader, method, ...)
end

-- How many partitions a topic has. With a group all topics have as many, since one worker has the
-- same partition of all.
local function partitions_of(feed, client, topic, like)
   local n = ask_client(feed, client, "partitions", topic)
   if feed.group and like.count and like.count ~= n then
      error(("kafka: topic '%s' has %d partitions, and '%s' %d: with a group all topics have as "
         .. "many"):format(topic, n, like.topic, like.count), 0)
   end
   like.count, like.topic = n, topic
   return n
end

--- For the member of a group: raises unless all topics have as many partitions.
function Feed.check_partitions(_, client)
   local like = {}
   for _, feed in ipairs(workers.feeds) do
      for _, topic in ipairs(feed.topics) do
         partitions_of(feed, client, topic, like)
      end
   end
end

-- ---- shapes ----

local function learn(feed, record)
   if record.key and record.value then
      local shape = raw.decode(record.value)
      local ok, type = pcall(raw.feed_type, shape, "")
      if ok then
         feed.types[record.key] = { type = type, head = ("%s.%s/"):format(shape.schema,
            shape.table) }
      end
   end
end

-- Reads the topic of shapes from its start to its end.
local function read_shapes(feed)
   local reader, problem = native.reader(feed.settings)
   if not reader then
      error("kafka: " .. problem, 0)
   end
   local of = { reader = reader, brokers = feed.brokers }
   local list, left = {}, 0
   for partition = 0, ask(of, "partitions", feed.shapes) - 1 do
      list[#list + 1], list[#list + 2], list[#list + 3] = feed.shapes, partition, FIRST
      left = left + 1
   end
   reader:assign(list)
   local began = raw.now()
   while left > 0 do
      local records = reader:take(MOST, {})
      for _, record in ipairs(records) do
         if record.is_end then
            left = left - 1
         elseif not record.problem then
            learn(feed, record)
         end
      end
      if #records == 0 then
         if not raw.sleep(NAP) or raw.now() - began > PATIENCE then
            break
         end
      end
   end
   reader:close()
end

-- What is known of a shape: {type = of its rows, head = how ids begin}, or nil.
local function known_of(feed, shape)
   if not feed.types[shape] then
      read_shapes(feed)
   end
   return feed.types[shape]
end

-- ---- the position ----

-- "topic partition offset\n" for each; names of topics have no blank. Of a worker "= COUNT\n" too.
local function position_of(feed)
   local lines = { feed.group and ("= %d\n"):format(feed.count) }
   for _, topic in ipairs(feed.topics) do
      for partition, offset in pairs(feed.offsets[topic]) do
         lines[#lines + 1] = ("%s %d %d\n"):format(topic, partition, offset)
      end
   end
   table.sort(lines)
   return table.concat(lines)
end

-- Raises: what the position is of is not in the topic any more.
local function refuse_count(topic, has, had)
   raw.stale(("kafka: topic '%s' has %d partitions, and had %d: changes are lost, or it is another "
      .. "topic; --reset reads it from its start"):format(topic, has, had))
end

-- What is read, and from where, given the text of a position.
local function places(feed, at)
   local kept, list, highest, like = {}, {}, {}, {}
   for topic, partition, offset in (at or ""):gmatch "(%S+) (%d+) (%d+)\n" do
      kept[topic .. " " .. partition] = math.tointeger(offset)
      highest[topic] = math.max(highest[topic] or 0, math.tointeger(partition))
   end
   local counted = math.tointeger((at or ""):match "^= (%d+)\n") or 0
   for _, topic in ipairs(feed.topics) do
      feed.offsets[topic], feed.ends[topic] = {}, {}
      local count = partitions_of(feed, feed.reader, topic, like)
      local had = math.max(counted, (highest[topic] or -1) + 1)
      if count < had then
         refuse_count(topic, count, had)
      end
      feed.count = count
      for partition = raw.partition or 0, raw.partition or count - 1 do
         if partition >= count then
            refuse_count(topic, count, partition + 1)
         end
         local first, behind = ask(feed, "range", topic, partition)
         local offset = kept[topic .. " " .. partition]
         if not offset then
            offset = feed.start == "now" and not at and behind or first
         elseif offset < first or offset > behind then
            error(("kafka: topic '%s', partition %d has the offsets %d to %d, and the position is "
               .. "%d: changes are lost, or it is another topic; --reset reads it from its start")
               :format(topic, partition, first, behind, offset), 0)
         end
         feed.offsets[topic][partition] = offset
         list[#list + 1], list[#list + 2], list[#list + 3] = topic, partition,
            math.max(first, offset - BEFORE)
         feed.left = feed.left + 1
      end
   end
   return list
end

-- ---- records ----

-- Gives a record that is no change to whom the source's policy says.
local function refuse(feed, record, message)
   local source = feed.source
   local where = ("topic '%s', partition %d, offset %d"):format(record.topic, record.partition,
      record.offset)
   local policy = source.policy.otherwise
   if policy == "stop" then
      error(("kafka: %s: %s"):format(where, message), 0)
   end
   raw.log("error", message, { source = raw.source_name(source.number), record = where,
      ["then"] = policy == "skip" and "skipped" or "dead letter" })
   if policy == "dead_letter" then
      local newest, is_open = lineage.newest_batch(source.number)
      lineage.enter(source.number, is_open and newest or newest + 1)
      source.dead_letter { change = record, error = message, traceback = "", attempts = 1 }
      lineage.leave()
   end
end

-- The JSON of a delete of which only the key and the headers are there.
local function of_tombstone(record, known)
   local id = record.id or ""
   local xid = id:sub(1, #known.head) == known.head and id:match("^%d+", #known.head + 1)
   return ('{"op":"delete","key":%s,"row":null,"xid":%s,"seq":%s,"ts":%s,"id":%s}'):format(
      record.key, xid or "null", record.seq or "null", raw.encode(record.ts or ""), raw.encode(id))
end

-- Notes the key that a record has deleted, if it has. A tombstone that follows with the same key
-- says that once more, as both Debezium and our sink with deletes = "both" have it, and is no
-- change. So that this holds after a start too, the records just before the position are read, and
-- only noted.
local function note(feed, record, is_delete)
   local place = record.topic .. " " .. record.partition
   local is_again = record.value == nil and record.key ~= nil
      and feed.deleted[place] == record.key
   feed.deleted[place] = is_delete and record.value and record.key or nil
   return is_again
end

-- The type of the rows of a record that our sink has written, and its JSON; or nil and a message.
local function read_ours(feed, record)
   local known = known_of(feed, record.shape)
   if not known then
      return nil, ("its shape %s is not in the topic '%s'"):format(record.shape, feed.shapes)
   elseif not record.value and not record.key then
      return nil, "it has neither key nor value"
   end
   return known.type, record.value or of_tombstone(record, known)
end

-- The same for one of Debezium's.
local function read_debezium(feed, record, envelope)
   if envelope then
      return debezium.read(feed.memory, record, envelope)
   elseif record.value then
      return nil, "it is no change: it has no header 'shape', and is no envelope of Debezium's"
   end
   return debezium.tombstone(feed.memory, record)
end

-- Feeds a record. Returns whether that was a change.
local function feed_record(feed, record, begins)
   local envelope = not record.shape and debezium.envelope(record.value) or nil
   local op = envelope and envelope.payload.op or record.op
   local is_again = note(feed, record, op == "d" or op == "delete")
   if is_again or record.offset < feed.offsets[record.topic][record.partition] then
      return false
   end
   local type, json
   if record.shape then
      type, json = read_ours(feed, record)
   else
      type, json = read_debezium(feed, record, envelope)
   end
   if not type then
      refuse(feed, record, json)
      return false
   end
   local ok, problem = raw.feed(feed.source.number, type, json, begins, record.time)
   if not ok then
      refuse(feed, record, problem)
   end
   return ok
end

-- A partition was read to its end.
local function reach_end(feed, record)
   local ends = feed.ends[record.topic]
   if not ends[record.partition] then
      ends[record.partition] = true
      feed.left = feed.left - 1
   end
end

-- What is before that offset is done. Returns whether that is news.
local function move_to(feed, record, offset)
   local offsets = feed.offsets[record.topic]
   local is_new = offset > offsets[record.partition]
   offsets[record.partition] = math.max(offset, offsets[record.partition])
   return is_new
end

local function tell_end(feed)
   if feed.left == 0 and not feed.is_ready then
      feed.is_ready = true
      raw.feed_ready(feed.source.number)
      if feed.mode == "once" then
         raw.feed_done(feed.source.number)
      end
   end
end

-- How many records are taken at once. The batch before is delivered when this is asked.
local function batch_size(feed, now)
   if feed.count_fed > 0 then
      local each = (now - feed.fed_at) / feed.count_fed
      feed.most = math.max(1, math.min(MOST, 2 * feed.most, GOAL / math.max(each, 1e-9) // 1))
   end
   return math.tointeger(feed.most)
end

-- Feeds what has come. Returns whether there was anything.
local function fetch(feed)
   local now = raw.now()
   local records = feed.reader:take(batch_size(feed, now), headers)
   feed.fed_at, feed.count_fed = now, #records
   local n, has_moved = 0, false
   for _, record in ipairs(records) do
      local problem = record.problem
      if record.is_end then
         reach_end(feed, record)
         has_moved = move_to(feed, record, record.offset) or has_moved
      elseif problem and (problem.is_fatal or record.topic) then
         error(("kafka: %s: %s"):format(record.topic or feed.brokers, problem.text), 0)
      elseif problem then
         raw.log("warn", problem.text, { source = raw.source_name(feed.source.number) })
      else
         n = feed_record(feed, record, n == 0) and n + 1 or n
         has_moved = move_to(feed, record, record.offset + 1) or has_moved
      end
   end
   if has_moved then
      raw.feed_position(feed.source.number, position_of(feed), n == 0)
   end
   tell_end(feed)
   return #records > 0
end

-- ---- figures ----

-- Asks how far partitions go whose records nobody takes, since then the brokers tell nothing.
local function ask_ends(feed)
   local now = raw.now()
   if not raw.is_paused(feed.source.number) or now - (feed.asked_at or -STALE) < STALE then
      return
   end
   feed.asked_at = now
   for topic, offsets in pairs(feed.offsets) do
      for partition in pairs(offsets) do
         local _, behind = feed.reader:range(topic, partition, WAIT)
         if math.type(behind) ~= "integer" then
            return -- the brokers are away
         end
         feed.told[topic .. " " .. partition] = behind
      end
   end
end

--- What is read, and how much of it is left: a list of {source =, topic =, partition =, left = or
--- nil}.
function topics.partitions()
   local list = {}
   for number, feed in pairs(feeds) do
      if feed.reader then
         ask_ends(feed)
         for topic, offsets in pairs(feed.offsets) do
            for partition, offset in pairs(offsets) do
               local newest = math.max(feed.reader:newest(topic, partition) or -1,
                  feed.told[topic .. " " .. partition] or -1)
               list[#list + 1] = { source = number, topic = topic, partition = partition,
                                   left = newest >= 0 and math.max(newest - offset, 0) or nil }
            end
         end
      end
   end
   table.sort(list, function(a, b)
      if a.source ~= b.source then
         return a.source < b.source
      elseif a.topic ~= b.topic then
         return a.topic < b.topic
      end
      return a.partition < b.partition
   end)
   return list
end

-- ---- hooks ----

--- To be called when a source is declared.
function topics.declare(source, feed)
   feed.source = source
   feeds[source.number] = feed
end

local function open(feed)
   local settings = require "pgcdc.sinks.kafka.settings"
   feed.settings = settings.of_reader(feed)
   local reader, problem = native.reader(feed.settings)
   feed.reader = reader or error("kafka: " .. problem, 0)
end

-- What --check finds: how much there is. Raises what is wrong.
local function look(feed)
   open(feed)
   if feed.group then
      feed:check_partitions(feed.reader)
   end
   return ("%d partitions of %s%s"):format(#places(feed) // 3, table.concat(feed.topics, ", "),
      feed.group and (", for the workers of the group '%s'"):format(feed.group) or "")
end

--- Hook: begins to read, after the position `at`, nil where there is none.
function topics.start(number, at, mode)
   local feed = feeds[number]
   feed.mode, feed.left = mode, 0
   if mode == "check" then
      local ok, text = pcall(look, feed)
      return raw.feed_done(number, tostring(text), not ok)
   end
   open(feed)
   local list, reader = places(feed, at), feed.reader
   reader:assign(list)
   raw.watch(reader:fd(), function()
      reader:quiet()
   end)
end

--- Hook: feeds what has come for all sources. Returns whether there was anything.
function topics.fetch()
   local has_some = false
   for number, feed in pairs(feeds) do
      if feed.reader and not raw.is_paused(number) then
         has_some = fetch(feed) or has_some
      end
   end
   return has_some
end

return topics
