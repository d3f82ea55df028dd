-- pgcdc.sinks.nats: changes into a stream of NATS JetStream.
-- SPDX-License-Identifier: MIT
--
-- A stream has no transactions. A flush publishes the data, waits until all of it is acknowledged,
-- and then publishes the savepoint, as a message of the same stream:
--
--    41 cdc.public.t   a change
--    42 cdc.public.t   another one
--    43 cdc._pgcdc.nats   the savepoint: what is before it is settled
--    44 cdc.public.t   the tail, of a flush that did not end: when its changes come again they
--                      are passed over, known by subject and Nats-Msg-Id
--
-- The savepoint is published only if the newest message of its subject is the one that we know. A
-- connection begins by publishing again what is there: from then on a savepoint that a program
-- before us, or a connection before this one, has on its way is refused. Such a copy says where its
-- tail begins (Pgcdc-From), as does a savepoint while changes of the tail may still come.
--
-- Where another process may take over (the state is in a database) each message of data says which
-- sequence is the stream's last before it: the savepoint's, and one more for each message; and of
-- which id, see src/sinks/nats_fence.h. So once the next process has published its copy of the
-- savepoint, what the process before it had in hand is refused. In a stream that others write to
-- the numbers are wrong, though nobody took over: see `loosen`. Then who was stopped looks before
-- each message whether he still has the pipeline, and what the client library had in hand comes
-- late; the server knows its ids for the stream's duplicate_window.
--
-- So changes can be read before their savepoint is there: the sink `is_early`.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local feeds = require "pgcdc.delivery.feeds"
local headers = require "pgcdc.sinks.headers"
local jetstream = require "pgcdc.sinks.jetstream"
local native = require "pgcdc.native.nats"
local nats_stream = require "pgcdc.sinks.nats_stream"
local overtaken = require "pgcdc.sinks.overtaken"
local pattern = require "pgcdc.sinks.pattern"
local read_host = require "pgcdc.sinks.address"
local remote = require "pgcdc.sinks.remote"
local subject = require "pgcdc.sinks.subject"
local io = rawget(_G, "io")

local PORT = "4222"
local WINDOW = 4000 -- messages that are unanswered
local MOST_WINDOW = 60000
local LONGEST_CONNECT = 5 -- seconds for one server
local KEEP = 64 -- savepoints
local LONGEST_TAIL = 200000 -- messages, of a tail that is kept after the first savepoint
local TRIES = 10
local MOST_LOOSE = 1024 -- savepoints

-- ---- the connection ----

local function read_servers(what, text)
   local urls, has_tls = {}, false
   if text:find("@", 1, true) then
      check.fail("%s: say the user and the password by user = and password = , such as "
         .. 'password = "$NATS_PASSWORD"', what)
   end
   for one in text:gmatch "[^,]+" do
      local scheme, rest = one:match "^(%a+)://([^/]+)/?$"
      if scheme ~= "nats" and scheme ~= "tls" then
         check.fail("%s: say nats://host:port, or tls://host:port; of several servers with commas "
            .. "between", what)
      end
      local host = read_host(what, rest, PORT)
      has_tls = has_tls or scheme == "tls"
      urls[#urls + 1] = ("nats://%s:%s"):format(host.host:find ":" and "[" .. host.host .. "]"
         or host.host, host.port)
   end
   if #urls == 0 then
      check.fail("%s: there is no server in it", what)
   end
   return table.concat(urls, ","), has_tls
end

local CREDENTIALS = "%-%-BEGIN NATS USER JWT%-%-%-%-%-%s+(%S+)%s.*%-%-BEGIN USER NKEY SEED"
   .. "%-%-%-%-%-%s+(%S+)%s"

-- The token and the seed of a file of credentials, or of its text.
local function read_credentials(sink)
   local text = sink:secret "credentials"
   if not text then
      return
   elseif not text:find("BEGIN NATS USER JWT", 1, true) then
      local f, problem = io.open(text, "rb")
      local content = f and f:read "a"
      if f then
         f:close()
      end
      if not content then
         sink:deny("credentials: " .. (problem or text .. " is no file"))
      end
      text = content
   end
   local jwt, seed = text:match(CREDENTIALS)
   if not jwt then
      sink:deny("credentials: that is no file of credentials, with a JWT and an NKEY seed")
   end
   return jwt, seed
end

local function open(sink)
   local jwt, seed = read_credentials(sink)
   local files = sink:tls_files()
   local client, problem = native.open {
      servers = sink.servers, user = sink:secret "user", password = sink:secret "password",
      jwt = jwt, seed = seed, ca = files.ca, cert = files.cert, key = files.key,
      has_tls = sink.has_tls, timeout = math.min(sink.timeout, LONGEST_CONNECT),
      window = sink.window,
   }
   if not client then
      sink:retry(problem)
   end
   sink.client = client
   local clock = sink:clock "connect"
   while not client:is_connected() do
      local moved, why, is_denied = client:wait(0.1)
      if moved == nil then
         why = ("%s: cannot connect: %s"):format(sink.servers, why)
         if is_denied then
            sink:deny(why)
         end
         sink:retry(why)
      end
      clock:check(true) -- libnats gives each server its time
   end
end

-- ---- the savepoint ----

-- What is published from now on is to be stored right after the savepoint, if that can be expected.
local function expect(sink)
   sink.client:expect(raw.epoch() and sink.loose == 0 and sink.position_seq or 0, sink.origin,
      sink.origin > 0 and sink.origin + MOST_WINDOW or 0)
end

-- Something else was stored in between. If that was no process that has taken over, which `recall`
-- finds out, it was somebody else's, or one of ours was there already: expects nothing until the
-- next savepoint, and each time that this comes again for twice as many.
local function loosen(sink)
   sink.loose = math.min(sink.loosened, MOST_LOOSE)
   sink.loosened = sink.loosened * 2
   sink:again "another message came in between"
end

-- A flush is done.
local function tighten(sink)
   if sink.loose == 0 then
      sink.loosened = 1
   else
      sink.loose = sink.loose - 1
   end
end

-- Publishes a savepoint. Returns false if another one came in between. `from`: see above.
local function publish_position(sink, text, from)
   local size = #text + 300
   if size > sink.client:max_payload() then
      sink:stop(("the position has %d bytes, and the server takes messages of %d: raise its "
         .. "max_payload"):format(#text, sink.client:max_payload()))
   end
   local list = { "Nats-Expected-Last-Subject-Sequence", tostring(sink.position_seq),
                  "Pgcdc-Epoch", sink.epoch }
   if from then
      list[5], list[6] = "Pgcdc-From", tostring(from)
   end
   sink.is_epoch_known = true
   local answer, problem = jetstream.call(sink, "the position", sink.positions, text,
      headers.pack(list))
   if problem and jetstream.is_overtaken(problem) then
      return false
   elseif problem then
      jetstream.raise(sink, "the position", problem)
   end
   sink.position_seq = answer.seq
   expect(sink)
   return true
end

-- The newest savepoint of the stream: {seq =, text =, epoch =, from = the last message before its
-- tail}. seq is 0 if there is none.
local function newest_position(sink, info)
   local message = jetstream.message(sink, { last_by_subj = sink.positions })
   if not message then
      return { seq = 0, from = info.state.last_seq }
   end
   local from = math.tointeger(tonumber(message.headers["Pgcdc-From"]))
   return { seq = message.seq, from = from or message.seq, epoch = message.headers["Pgcdc-Epoch"],
            text = message.text ~= "" and message.text or nil }
end

-- Raises if the savepoint is not ours any more, which this program has written already. Where the
-- stream has dropped it, as streams do with what is old, it is as it was.
local function check_position(sink, info, position)
   if position.seq == 0 and info.state.first_seq > sink.position_seq then
      position.text, position.from = sink.stored, sink.position_seq
   elseif position.seq < sink.position_seq then
      sink:stop "the target went back, or was emptied: a new start goes on from what is there"
   elseif position.seq > 0 and position.epoch ~= sink.last_epoch
      and position.epoch ~= sink.epoch then
      overtaken(sink, function()
         sink.is_epoch_known = false
      end)
   end
end

-- What the tail has, as a set of subject and id.
local function read_tail(sink, from)
   local tail = {}
   if sink.position_seq > from + 1 then
      local only = sink.subjects and nats_stream.takes(sink.info, sink.subjects) and sink.subjects
         or nil
      jetstream.each(sink, from + 1, only, function(name, id)
         if id and name ~= sink.positions then
            tail[name .. "\0" .. id] = true
         end
      end)
   end
   return tail
end

local function recall(sink)
   local info = nats_stream.find(sink)
   sink.info = info
   local position
   for try = 1, TRIES do
      position = newest_position(sink, info)
      if sink.is_epoch_known and sink.position_seq then
         check_position(sink, info, position)
      end
      sink.last_epoch, sink.position_seq = position.epoch, position.seq
      if publish_position(sink, position.text or "", position.from) then
         break
      elseif try == TRIES then
         sink:retry "the position: others write there"
      end
   end
   -- (In a stream that never had a message nobody has some on their way.)
   sink.origin = (position.seq > 0 or info.state.last_seq > 0) and sink.position_seq or 0
   expect(sink)
   sink.tail_from = position.from
   sink.tail = read_tail(sink, position.from)
   -- A stream that has dropped messages has perhaps dropped ours; one that never did had none.
   sink.has_forgotten = not position.text and info.state.first_seq > 1
   return position.text
end

-- ---- flush ----

local function refuse(run, index, message)
   run.refused[#run.refused + 1] = { index = index, message = message }
end

-- Takes the answers that have come.
local function take_answers(sink, run)
   while true do
      local kind, number, data, status = sink.client:answer()
      if not kind then
         sink.in_flight = sink.client:in_flight()
         return
      elseif kind == "message" then
         local answer, problem = jetstream.read(sink, data, status)
         if problem and jetstream.is_overtaken(problem) then
            run.is_interrupted = true
         elseif problem and jetstream.is_too_large(problem) then
            refuse(run, number, problem.description)
         elseif problem then
            run.problem = run.problem or problem
         elseif answer.duplicate then
            run.doubtful[number], run.is_in_doubt = answer.seq, true
         end
      end
   end
end

-- Waits until all that was published is answered. Raises what is wrong.
local function drain(sink, run)
   local clock = sink:clock "acknowledgements"
   take_answers(sink, run)
   while sink.in_flight > 0 do
      jetstream.wait(sink, clock, true)
      take_answers(sink, run)
   end
   if run.problem then
      jetstream.raise(sink, "publish", run.problem)
   elseif run.is_interrupted then
      loosen(sink)
   end
end

-- Raises if the state is in a database and another program may have taken it over.
local function check_lead()
   if not raw.leads() then
      raw.confirm()
   end
end

-- True if the message that the server took this one for is the same.
local function is_same(sink, seq, id, name)
   local message = jetstream.message(sink, { seq = seq })
   return message ~= nil and message.subject == name
      and (message.headers["Nats-Msg-Id"] == id or message.headers["Pgcdc-Id"] == id)
end

-- Calls f(number, lane, id, subject, headers, data) for the records up to that seal.
local function each(sink, upto, f)
   local number, bytes, place = 0, sink.outbox:chunk(nil, upto)
   while bytes do
      local function pass(after, lane, ...)
         if lane then
            number = number + 1
            f(number, lane, ...)
         end
         return after
      end
      local at = 0
      while at do
         at = pass(sink.client:read(bytes, at))
      end
      bytes, place = sink.outbox:chunk(place, upto)
   end
end

-- The server has passed over messages as if it had them. That may be wrong: they may have been
-- purged, or be another sink's. Then they are published by another id. Before this no other message
-- of their lanes is.
local function clear_doubts(sink, run, upto)
   while run.is_in_doubt do
      drain(sink, run)
      local wrong = {}
      each(sink, upto, function(number, _, id, name)
         local seq = run.doubtful[number]
         wrong[number] = seq and not is_same(sink, seq, id, name) and seq or nil
      end)
      run.doubtful, run.is_in_doubt = {}, false
      each(sink, next(wrong) and upto or 0, function(number, lane, id, name, list, data)
         local seq, clock = wrong[number], nil
         list = seq and headers.pack { "Pgcdc-Id", id } .. list
         check_lead()
         while seq and not sink.client:publish(number, lane, ("%s?%d"):format(id, seq), name, list,
            data) do
            clock = clock or sink:clock "acknowledgements"
            jetstream.wait(sink, clock)
            take_answers(sink, run)
         end
      end)
      drain(sink, run)
   end
end

-- What is wrong with a subject, or nil.
local function problem_of(sink, name)
   if not nats_stream.takes(sink.info, name) then
      return ("the stream '%s' has the subjects %s, and not '%s': add it, or change subject =")
         :format(sink.stream, table.concat(sink.info.config.subjects, ", "), name)
   end
end

-- Publishes the records of a chunk. `run.known`: subject -> true, or what is wrong with it.
local function publish(sink, run, bytes, upto)
   local client, limit = sink.client, sink.client:max_payload()
   local tail = next(sink.tail) and sink.tail or nil
   local at, clock = 0, nil
   repeat
      local why, what
      check_lead()
      at, run.number, why, what = client:add(bytes, at, run.number, run.known, tail, limit)
      if why == "wait" then
         clock = clock or sink:clock "acknowledgements"
         jetstream.wait(sink, clock)
      elseif why == "subject" then
         run.known[what] = problem_of(sink, what) or true
      elseif why == "refused" then
         refuse(run, run.number, what)
      elseif why == "size" then
         refuse(run, run.number, ("the message has %d bytes, and the server takes %d (max_payload)")
            :format(what, limit))
      end
      take_answers(sink, run)
      clear_doubts(sink, run, upto)
   until not why or run.problem or run.is_interrupted
end

local function send(sink, upto)
   local run = { refused = {}, doubtful = {}, is_in_doubt = false, problem = nil, number = 0,
                 known = {} }
   local bytes, place = sink.outbox:chunk(nil, upto)
   while bytes and not (run.problem or run.is_interrupted) do
      publish(sink, run, bytes, upto)
      bytes, place = sink.outbox:chunk(place, upto)
   end
   drain(sink, run)
   clear_doubts(sink, run, upto)
   if #run.refused > 0 then
      sink.is_recalled = false -- what was published is found again
      table.sort(run.refused, function(a, b) return a.index < b.index end)
      sink:refuse(run.refused)
   end
end

-- Where the tail begins that is still of use, or nil.
local function tail_of_use(sink)
   if next(sink.tail) and not feeds.all_read(sink)
      and sink.position_seq - sink.tail_from < LONGEST_TAIL then
      return sink.tail_from
   end
   sink.tail = {}
end

local function commit(sink, savepoint)
   sink.copies:clear()
   if not savepoint then
      return
   elseif not publish_position(sink, savepoint, tail_of_use(sink)) then
      sink:again "the position: another message came in between"
   end
   tighten(sink)
   expect(sink)
   sink.last_epoch = sink.epoch
   sink.commits = sink.commits + 1
   if sink.commits % KEEP == 0 then
      jetstream.purge(sink, sink.positions, KEEP)
   end
end

-- ---- values ----

-- Checks a subject, unless it is like the one before.
local function check_subject(sink, name)
   local problem = subject.problem(name)
   if problem or name == sink.positions then
      error(sink:text(("the subject '%s' %s"):format(name, problem or "is that of the positions")),
         0)
   end
   sink.last_subject = name
end

-- From now on raw.put_change can put changes like this one, if all of a table have one subject.
local function learn(sink, value, name, list)
   if sink.is_plain and raw.is_change(value) and not (rawget(value, "op")
      or rawget(value, "schema") or rawget(value, "table")) then
      raw.learn_change(sink.learned, value, name, headers.pack { table.unpack(list, 1, 6) })
   end
end

local function encode(sink, value)
   if sink.is_plain and sink:put_change(sink.learned, value, sink.copies) then
      return
   end
   local name = sink.subject(value, sink)
   if name == nil then
      return
   elseif name ~= sink.last_subject then
      check_subject(sink, name)
   end
   local text = sink.format(value)
   if not text then
      return
   end
   local id = raw.is_change(value) and value.id or nil
   local list = sink.headers(value, sink, id)
   learn(sink, value, name, list)
   -- Each message of a change has an id of its own: from the second one on with a number.
   local n = id and sink.copies:add(id) or 1
   sink:put(remote.lane(value), id, name, nil, text, headers.pack(list),
      n > 1 and ("%s/%d"):format(id, n) or nil)
end

-- ---- options ----

local fields = { stream = true, create = true, subject = true, positions = true, headers = true,
                 credentials = true, window = true }

local create_fields = { subjects = true, storage = true, replicas = true, max_age = true,
                        max_bytes = true, duplicates = true }

-- A function that returns the configuration of a stream, as JetStream has it.
local function read_create(sink, what, given)
   check.type(what, given, "table")
   given = check.taken(what, given, create_fields)
   local storage = given.storage or "file"
   check.one_of(what .. ": storage", storage, { file = true, memory = true })
   local subjects = given.subjects or sink.subjects
   if subjects == nil then
      check.fail("%s: subjects is required where subject does not begin with fixed words", what)
   end
   subjects = check.names(what .. ": subjects", subjects)
   if not nats_stream.takes({ config = { subjects = subjects } }, sink.positions) then
      subjects[#subjects + 1] = sink.positions
   end
   local config = {
      subjects = subjects, storage = storage, retention = "limits",
      discard = "old", max_consumers = -1, max_msgs = -1,
      num_replicas = check.count(what .. ": replicas", given.replicas or 1, 1),
      max_age = math.floor(check.seconds(what .. ": max_age", given.max_age or 0, 0) * 1e9),
      max_bytes = given.max_bytes and remote.size(what .. ": max_bytes", given.max_bytes) or -1,
      duplicate_window = math.floor(check.seconds(what .. ": duplicates",
         given.duplicates or nats_stream.DUPLICATES, 0.1) * 1e9),
   }
   if config.max_age > 0 and config.duplicate_window > config.max_age then
      check.fail("%s: duplicates must be at most max_age", what)
   end
   return function()
      return config
   end
end

local function read_login(sink, spec, what)
   if spec.user ~= nil and spec.password == nil then
      check.fail("%s: user needs a password", what)
   elseif spec.credentials == nil then
      return
   elseif spec.password ~= nil then
      check.fail("%s: credentials and password exclude each other", what)
   end
   sink:keep_secret(what, "credentials", spec.credentials)
   if raw.is_sandboxed and not spec.credentials:find("BEGIN NATS USER JWT", 1, true) then
      check.fail("%s: credentials: the sandbox allows no files", what)
   end
end

local function read(sink, spec, what)
   local address = remote.expanded(what, "servers", spec.servers)
   sink.servers, sink.has_tls = read_servers(what .. ": servers", address)
   sink.has_tls = sink.has_tls or spec.tls ~= nil
   sink.stream = check.text(what .. ": stream", spec.stream)
   if sink.stream:find "[%s%c.*>/\\]" then
      check.fail("%s: stream: '%s' is no name of a stream", what, sink.stream)
   end
   local name = spec.subject == nil and "cdc.{schema}.{table}" or spec.subject
   sink.subject = pattern.option(what .. ": subject", name, subject.escape)
   local fixed = "cdc."
   if type(name) == "string" then
      subject.check(what .. ": subject", name)
      fixed = subject.fixed_part(name)
      sink.subjects = fixed ~= "" and fixed .. ">" or nil
   end
   sink.positions = spec.positions == nil and (fixed:match "^[^.]+%." or "cdc.") .. "_pgcdc."
      .. subject.escape(sink.name .. raw.suffix)
      or check.text(what .. ": positions", spec.positions)
   if subject.problem(sink.positions) then
      check.fail("%s: positions: '%s' %s", what, sink.positions, subject.problem(sink.positions))
   end
   sink.headers = headers.option(what .. ": headers", spec.headers == nil or spec.headers)
   sink.window = check.count(what .. ": window", spec.window or WINDOW, 1)
   if sink.window > MOST_WINDOW then
      check.fail("%s: window must be at most %d", what, MOST_WINDOW)
   end
   sink.create = spec.create ~= nil and read_create(sink, what .. ": create", spec.create) or nil
   read_login(sink, spec, what)
   sink.epoch, sink.commits, sink.copies = native.unique(), 0, raw.id_counts()
   sink.loose, sink.loosened, sink.origin = 0, 1, 0
   sink.is_plain = not sink.has_format and spec.headers ~= false and type(spec.headers) ~= "table"
      and type(name) == "string" and not name:gsub("{name}", ""):gsub("{schema}", "")
         :gsub("{table}", ""):find "[{}]"
   sink.learned = setmetatable({}, { __mode = "k" }) -- see raw.learn_change
   sink.is_early = true
end

return remote.sink {
   kind = "nats", address = "servers", fields = fields, read = read, encode = encode, open = open,
   recall = recall, send = send, commit = commit, close = remote.close_client,
   check = nats_stream.check, mends = nats_stream.mends,
   promise = { crash = "exactly once", position = "the stream itself", order = "per key" },
}
