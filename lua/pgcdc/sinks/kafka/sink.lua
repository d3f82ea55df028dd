-- pgcdc.sinks.kafka.sink: changes into topics of Kafka, a flush in one transaction.
-- SPDX-License-Identifier: MIT
--
-- The savepoint is the text of a consumer group's offset, which is part of the transaction:
--
--    group, transactional id     pgcdc.NAME
--    partition 0 of `positions`  offset: the savepoint's serial; text: TOKEN@ID SAVEPOINT
--
-- A start *fences*: it asks Kafka for the transactional id, which ends what a former program has on
-- its way, before it reads what is stored. Then it stores that again, with a token of its own. So
-- one that was fenced can tell whether somebody else has taken over, or it was too slow only: it
-- looks for its token, before it asks for the id again.
--
-- Sinks with the same brokers and settings share a producer and its transactions. These are those
-- of the first one, their `owner`; each has a group of its own. A script that is changed may have
-- them in other company: so ID says by whose transactions the position was stored, and a start
-- fences that one too.
--
-- After every error there is a new producer, and the flush begins again from the outbox.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local early = require "pgcdc.sinks.kafka.early"
local kafka_check = require "pgcdc.sinks.kafka.check"
local flushed = require "pgcdc.sinks.kafka.flushed"
local native = require "pgcdc.native.kafka"
local overtaken = require "pgcdc.sinks.overtaken"
local record = require "pgcdc.sinks.kafka.record"
local remote = require "pgcdc.sinks.remote"
local settings = require "pgcdc.sinks.kafka.settings"
local task = require "pgcdc.sinks.kafka.task"

local ask, raise, serve, STEP = task.ask, task.raise, task.serve, task.STEP

local PUSH = 0.002 -- seconds that librdkafka is told not to wait for more, see `push`
local PATIENCE = 0.01 -- seconds without a report before that

-- Errors of which the record is to blame. All of its batch fail with it.
local unfit = { MSG_SIZE_TOO_LARGE = true, RECORD_LIST_TOO_LARGE = true, INVALID_RECORD = true,
                INVALID_MSG_SIZE = true }
-- What follows from another error.
local following = { _STATE = true, _PURGE_QUEUE = true, _PURGE_INFLIGHT = true, _FATAL = true }

-- ---- the connection ----

-- Makes a topic of ours, unless it is there.
local function make_topic(sink, topic, is_compact)
   local _, _, _, is_there = ask(sink, "connect", { topic = topic })
   if is_there then
      return
   end
   local ok, problem = ask(sink, "create", { topic = topic, is_compact = is_compact }, true)
   if not ok and problem.name ~= "_UNSUPPORTED_FEATURE" then
      if problem.name:find "AUTHORIZATION" then
         sink:deny(("the topic '%s' is not there, or the user may not see it, who needs %s on it: "
            .. "create it, with one partition%s, or let the user create it"):format(topic,
            is_compact and "WRITE and DESCRIBE" or "READ",
            is_compact and " and cleanup.policy=compact" or ""))
      end
      raise(sink, "create the topic " .. topic, problem, topic)
   end
end

-- The sink whose producer this one uses.
local function home_of(sink)
   return sink.owner or sink
end

local function make_client(sink)
   sink.is_connected, sink.trouble = false, nil
   local client, problem = native.open(settings.of(sink))
   if not client then
      sink:stop(problem)
   end
   client:limit(settings.limits(sink))
   sink.client = client
end

local function open(sink)
   local home = home_of(sink)
   if home.client then -- another one of those that share it has opened it
      return
   end
   make_client(home)
   local _, cluster, brokers = ask(home, "connect")
   home.cluster, home.broker_count, home.is_connected = cluster or "?", brokers, true
end

local function close(sink)
   local home = home_of(sink)
   pcall(early.leave, home)
   remote.close_client(home)
   for _, other in ipairs(home.guests) do
      other.is_open, other.is_recalled = false, false
   end
end

local function check_brokers(sink)
   local home = home_of(sink)
   kafka_check.cluster(sink, home)
   return ("Kafka cluster %s, %d brokers, exact = %s"):format(home.cluster, home.broker_count,
      sink.id ~= nil)
end

local function identify(sink)
   return "the Kafka cluster " .. home_of(sink).cluster
end

-- ---- the savepoint ----

-- An id as text without blanks.
local function escaped(id)
   return (id:gsub("[%s%c%%]", function(c)
      return ("%%%02X"):format(c:byte())
   end))
end

local function unescaped(text)
   return (text:gsub("%%(%x%x)", function(hex)
      return string.char(tonumber(hex, 16))
   end))
end

-- {token =, id = of the transactions, savepoint =, serial =}; where nothing is stored without the
-- first three. A transaction that stores another one is waited for, unless it `is_quick`.
local function stored_in(sink, is_quick)
   local _, text, serial = ask(home_of(sink), "recall", { topic = sink.positions,
                                                           group = sink.id, is_quick = is_quick })
   local token, id, savepoint = (text or ""):match "^([^%s@]+)@?(%S*) ?(.*)$"
   return { token = token, id = token and (id ~= "" and unescaped(id) or sink.id), serial = serial,
            savepoint = savepoint ~= "" and savepoint or nil }
end

-- Raises if what is stored in the sink is not ours any more. What others store is newer than ours.
local function check_stored(sink, stored)
   local token = stored.token
   if sink.has_announced and token and token ~= sink.token then
      if stored.serial < sink.serial then
         sink:stop "the target went back: a new start goes on from what is there"
      end
      overtaken(sink, function()
         sink.has_announced = false
      end)
   end
end

local function store(sink, savepoint, serial)
   local home = home_of(sink)
   local id = home == sink and "" or "@" .. escaped(home.id)
   ask(home, "offsets", { topic = sink.positions, group = sink.id, number = serial,
                          text = sink.token .. id .. (savepoint and " " .. savepoint or "") })
end

-- Ends what another program has on its way under this transactional id.
local function fence(home, id)
   local former = setmetatable({ id = id }, { __index = home })
   make_client(former)
   local ok, problem = pcall(ask, former, "init")
   former.client:close()
   if not ok then
      error(problem, 0)
   end
end

-- Fences whoever had the sink before. Returns what is stored in it.
local function take_over(sink)
   local home = home_of(sink)
   local is_over = { [home.id] = true }
   local stored = stored_in(sink)
   while not (is_over[sink.id] and is_over[stored.id or sink.id]) do
      for _, id in ipairs { sink.id, stored.id } do
         if not is_over[id] then
            fence(home, id)
            is_over[id] = true
         end
      end
      stored = stored_in(sink)
   end
   return stored
end

local function recall(sink)
   local home = home_of(sink)
   if sink.has_announced then -- our own transaction may be open still, which `init` ends
      check_stored(sink, stored_in(sink, true))
   end
   if home == sink then
      ask(sink, "init")
   end
   make_topic(home, sink.positions)
   local stored = sink.has_announced and stored_in(sink) or take_over(sink)
   check_stored(sink, stored)
   if not sink.has_announced then
      ask(home, "begin")
      sink.serial = math.max(stored.serial, 0)
      store(sink, stored.savepoint, sink.serial)
      ask(home, "commit")
      sink.has_announced = true
   end
   return stored.savepoint
end

-- ---- messages ----

-- Waits for reports, and has messages go that librdkafka keeps back until a batch is full. It is
-- told so for moments only: meanwhile its threads turn round and round where a batch is on its way
-- to the partition for which they have more, since that has to wait for the other one.
local function push(sink, clock)
   local pause = PATIENCE
   local has_moved = false
   repeat
      sink.client:start("flush", PUSH)
      repeat
         has_moved = serve(sink, "reports", STEP) or has_moved
      until sink.client:result() ~= nil
      has_moved = has_moved or serve(sink, "reports", pause)
      pause = math.min(2 * pause, STEP)
      clock:check(has_moved)
   until has_moved
end

-- What to do about a record that did not go: true: it is to be tried once more; false: nothing more
-- can go; nil: it can never go, which is noted. `sink`: here and below the one whose client it is.
local function is_to_go_again(sink, clock, problem, index, topic)
   if problem.name == "_QUEUE_FULL" then
      if not serve(sink, "produce", sink.patience) then
         sink.patience = 0 -- it is spread over so many partitions that no batch gets full
         push(sink, clock)
      end
      clock:check(true)
      return true
   elseif following[problem.name] then
      return false
   elseif not unfit[problem.name] then
      raise(sink, "produce", problem, topic)
   end
   problem.index, problem.is_certain = index, true
   sink.unfit[#sink.unfit + 1] = problem
end

-- Hands one message over. Returns false if none can go any more.
local function produce(sink, clock, index, topic, key, value, headers)
   while true do
      local ok, problem = sink.client:produce(index, topic, key, value, headers)
      if ok then
         return true
      end
      local again = is_to_go_again(sink, clock, problem, index, topic)
      if not again then
         return again == nil
      end
   end
end

-- Types of rows of a part that are not in its topic of shapes yet.
local function produce_shapes(sink, clock, part)
   local of = part.sink
   if next(of.new_shapes) and not of.has_shapes then
      make_topic(sink, of.shapes, true)
      of.has_shapes = true
   end
   for name, text in pairs(of.new_shapes) do
      produce(sink, clock, 0, of.shapes, name, text)
   end
end

-- All records of a part, {sink =, seal = up to where, base = number of records before it}, but
-- those that were `sent` early. Returns false, at once, if something failed.
local function produce_all(sink, clock, part, sent)
   local index, outbox, upto = sent and sent.index or part.base, part.sink.outbox, part.seal
   local bytes, place, length = outbox:chunk(sent and sent.place, upto, sink.room)
   while bytes do
      local at = 0
      while at < length do
         local problem, after
         at, index, problem, after = sink.client:produce_chunk(bytes, at, index, length)
         local again = problem and is_to_go_again(sink, clock, problem, index + 1)
         if again == false then
            return false
         elseif problem and again == nil then -- goes on after it
            at, index = after, index + 1
         end
      end
      serve(sink, "produce", 0)
      if sink.client:failed() > 0 then
         return false
      end
      bytes, place, length = outbox:chunk(place, upto, sink.room)
   end
   return true
end

-- The same, while some records go to `dead_topic`.
local function produce_with_dead(sink, clock, part)
   local of = part.sink
   for number, _, _, topic, key, value, headers, is_both in of:records(part.seal) do
      local index, to, reason = part.base + number, topic, of.dead[number]
      if reason then
         to, headers = of.dead_topic, headers .. native.headers("error", reason)
      end
      if not produce(sink, clock, index, to, key, value, headers)
         or is_both and not produce(sink, clock, index, to, key, nil, headers) then
         return false
      end
   end
   return true
end

-- ---- what could not be sent ----

-- Sorts the failures of a flush: those of which the record is to blame go to `unfit`. Raises what
-- others mean.
local function tell_apart(sink, parts)
   local failures, wanted = sink.client:failures(), {}
   for _, failure in ipairs(failures) do
      wanted[failure.index] = true
   end
   local topics = flushed.topics(parts, wanted)
   for _, failure in ipairs(failures) do
      if unfit[failure.name] and failure.index > 0 then
         sink.unfit[#sink.unfit + 1] = failure
      elseif not following[failure.name] then
         raise(sink, "topic " .. (topics[failure.index] or "?"), failure, topics[failure.index])
      end
   end
   if #sink.unfit == 0 and sink.id then -- what has undone the transaction is told to the next call
      local _, problem = ask(sink, "offsets", { topic = sink.positions, group = sink.id }, true)
      raise(sink, "transaction", problem or { name = "", text = "it was undone" },
         flushed.list(parts))
   elseif #sink.unfit == 0 then
      sink:broken "some records did not get there"
   end
end

-- What is sent again goes over a new connection. (The transaction that failed ends with the old
-- one, if not before.) That fences whoever has taken over meanwhile, whose batch must not come once
-- more.
local function reopen(sink, parts)
   pcall(task.leave, sink)
   remote.close_client(sink)
   open(sink)
   if sink.id then
      ask(sink, "init")
      for _, part in ipairs(parts) do
         check_stored(part.sink, stored_in(part.sink))
      end
   end
end

-- Some records are to blame, or one of the same batch is, which a batch for each finds out: they go
-- to `dead_topic`, or are refused.
local function blame(sink, parts)
   local refusing, list, refused = nil, {}, {}
   for _, failure in ipairs(sink.unfit) do
      local part, number = flushed.find(parts, failure.index)
      local of = part.sink
      if not failure.is_certain and not sink.is_single then
         sink.is_single = true
         return
      elseif of.dead_topic and not of.dead[number] then
         of.dead[number] = failure.text
      elseif (refusing or of) == of and not refused[number] then -- others are found the next time
         refusing, refused[number] = of, true
         list[#list + 1] = { index = number, message = failure.text }
      end
   end
   if refusing then
      refusing.dead = {} -- the others will have other numbers
      reopen(sink, parts)
      refusing:refuse(list)
   end
end

-- ---- flush ----

-- Waits for the reports of all messages, or for the first one that failed.
local function await_reports(sink, clock)
   while sink.client:outstanding() > 0 and sink.client:failed() == 0 do
      push(sink, clock)
   end
end

-- Returns false if it must be done again.
local function try(sink, parts)
   local clock = sink:clock "reports"
   sink.unfit, sink.patience = {}, PATIENCE
   local sent = early.take(sink, parts)
   if sink.id and not sent then
      ask(sink, "begin")
   end
   if not sent then
      sink.client:begin()
   end
   local is_whole, base = true, 0
   for _, part in ipairs(parts) do
      part.base, base = base, base + part.sink.outbox:rows(part.seal)
      if is_whole then
         produce_shapes(sink, clock, part)
         is_whole = (next(part.sink.dead) and produce_with_dead or produce_all)(sink, clock, part,
            sent)
      end
   end
   await_reports(sink, clock)
   if is_whole and #sink.unfit == 0 and sink.client:failed() == 0 then
      return true
   end
   tell_apart(sink, parts)
   blame(sink, parts)
   return false
end

local function send(sink, _, savepoint, parts)
   while not try(sink, parts) do
      reopen(sink, parts)
   end
   for _, part in ipairs(savepoint and parts or {}) do
      part.sink.next_serial = raw.decode(savepoint).serial
      store(part.sink, savepoint, part.sink.next_serial)
   end
end

local function commit(sink, _, parts)
   if sink.id then
      ask(sink, "commit")
   end
   sink.is_unknown = false
   for _, part in ipairs(parts) do
      local of = part.sink
      of.new_shapes = {}
      of.serial = of.next_serial or of.serial
      for _ in pairs(of.dead) do
         of.refused_rows = of.refused_rows + 1
      end
      of.dead = {}
   end
   if sink.is_single then -- the next batches are of many again
      sink.is_single = false
      close(sink)
      sink.is_open, sink.is_recalled = false, false
   end
end

-- ---- options ----

local fields = { topic = true, key = true, deletes = true, exact = true, headers = true,
                 dead_topic = true, positions = true, shapes = true, config = true }

local owners = {} -- what sinks that share a producer have in common -> the first one

-- Finds those with which the sink shares a producer.
local function join(sink)
   local shared = raw.sha256(raw.encode(settings.of(sink, true)))
   local owner = owners[shared] or sink
   owners[shared] = owner
   sink.together = owner.guests
   if owner ~= sink then
      sink.owner = owner
      table.insert(owner.guests, sink)
   end
end

local function read(sink, spec, what)
   record.read(sink, spec, what)
   sink.brokers = remote.expanded(what, "brokers", spec.brokers)
   sink.has_tls = spec.tls ~= nil
   if (spec.user == nil) ~= (spec.password == nil) then
      check.fail("%s: user and password belong together", what)
   end
   sink.token, sink.room = native.token(), raw.outbox_room()
   if sink.kind.recall then
      sink.id = "pgcdc." .. sink.name .. raw.suffix
   end
   settings.read(sink, what .. ": config", spec.config == nil and {} or spec.config)
   sink.guests = {}
   if sink.id then
      join(sink)
   end
end

local plain = {
   kind = "kafka", address = "brokers", fields = fields, read = read, encode = record.encode,
   takes_rows = true, open = open, early_after = early.AFTER, send_early = early.send, send = send,
   commit = commit, close = close, check = check_brokers,
   mends = kafka_check.mends,
   promise = { crash = "at least once; a repeat has the same `id`", position = "the state file",
               order = "per key" },
}
local exact = { recall = recall, prepares = true, identify = identify }
for name, value in pairs(plain) do
   exact[name] = value
end
exact.promise = { crash = "exactly once for `read_committed`", position = "the transaction",
                  order = "per key" }

local make_exact, make_plain = remote.sink(exact), remote.sink(plain)

return function(spec)
   local is_exact = type(spec) ~= "table"
      or check.flag("pgcdc.sinks.kafka: exact", spec.exact, true)
   return (is_exact and make_exact or make_plain)(spec)
end
