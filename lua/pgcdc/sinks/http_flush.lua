-- pgcdc.sinks.http_flush: what was taken goes out as requests, several at a time.
-- SPDX-License-Identifier: MIT
--
--    outbox --take--> batch --request--> answer: done      its records leave the outbox
--                       ^                        later     it waits; its lanes with it, no others
--                       |                        refused   halves, until it is one record
--                       +--- half, or its time has come
--
-- A batch is {number = of pgcdc.raw's lanes, tries =, due = when it may be tried again, seen = how
-- many requests had succeeded when it failed first, is_apart = its records are being told apart,
-- is_told = its last answer was one for each record, follower = the half that comes after it}.
-- Batches last as long as a flush; what is to be waited for longer is kept by lane, in sink.holds:
-- lane -> {due =, tries =, seen =}.
--
-- A batch that fails twice, while others succeed, is taken apart as a refused one, unless the
-- server has answered for each of its records: then only the lanes wait that are the reason. When
-- all that is left is such lanes, the flush is over, and they are in the outbox: what comes later
-- goes on beside them.
--
-- After TRIPPED failures in a row, of records that had not failed before, there is one request at a
-- time, and none before sink.probe_due: preferably of a lane that has not failed yet, since others
-- are perhaps the reason.
--
-- A kind of sink that sends by this module gives
--    sink.read_answer(sink, answer, run, batch)   what an answer means, see http_flush.read_answer;
--                                                 it may take records out of the batch by part_of
--    sink.value_of(body, id)                      what a dead letter gets of a record

local raw = require "pgcdc.raw"
local native = require "pgcdc.native.http"
local http_client = require "pgcdc.sinks.http_client"
local leftover = require "pgcdc.sinks.leftover"
local remote = require "pgcdc.sinks.remote"

local http_flush = {}

local STEP = 0.1 -- seconds
local LONGEST_WAIT = 60
local LONGEST_ASKED = 3600 -- seconds that a server may ask for
local TRIPPED = 5
local MOST_GARBAGE = 4 << 20 -- bytes of bodies; the collector would let more of them pile up
local MOST_REFUSED = 100 -- then the policy of their source is asked

-- The parts of a record, see `http_flush.put`.
local ID, URL, BODY, OWN_ID, HELD = 1, 3, 4, 5, 6
http_flush.ID, http_flush.BODY, http_flush.HELD = ID, BODY, HELD

--- Puts a record into the outbox. `url`: nil where it is sink.url for all; `own_id`: for values
--- that have no id of their own.
function http_flush.put(sink, lane, id, url, body, own_id)
   sink:put(lane, id, url, body, own_id, leftover.hold(sink))
end

--- The same of a change whose body is its JSON. Returns false if a script has altered it.
function http_flush.put_json(sink, change, url)
   return sink:put_change(nil, change, url, leftover.hold(sink), raw.put_json)
end

local function is_open(sink)
   return sink.in_a_row >= TRIPPED
end

-- ---- requests ----

-- What identifies a request to its receiver: the id of its only change, or a hash of all ids, so
-- that no batch is taken for another one.
local function message_id(run, batch)
   local lanes, number = run.lanes, batch.number
   if run.sink.batch == 1 then
      local id = lanes:part(number, ID, 1) or lanes:part(number, OWN_ID, 1)
      return (id:gsub("[^\x21-\x24\x26-\x7e]", function(c) return ("%%%02X"):format(c:byte()) end))
   end
   return raw.sha256(lanes:text(number, ID, nil, "\n") .. "\n" .. lanes:text(number, OWN_ID, nil,
      "\n"))
end

local function headers_of(run, batch, body)
   local sink = run.sink
   local fixed, keys = run.connection.lines, run.connection.keys
   if not sink.has_ids then
      return fixed
   end
   local lines = table.move(fixed, 1, #fixed, 1, {})
   local id = message_id(run, batch)
   if sink.has_idempotency then
      lines[#lines + 1] = "Idempotency-Key: " .. id
   end
   if keys then
      local now, signatures = tostring(native.now()), {}
      for i, key in ipairs(keys) do
         signatures[i] = "v1," .. native.sign(key, id, ".", now .. ".", body)
      end
      lines[#lines + 1] = "webhook-id: " .. id
      lines[#lines + 1] = "webhook-timestamp: " .. now
      lines[#lines + 1] = "webhook-signature: " .. table.concat(signatures, " ")
   end
   return lines
end

local function collect_garbage(run, bytes)
   run.garbage = run.garbage + bytes
   if run.garbage > MOST_GARBAGE then
      run.garbage = 0
      collectgarbage()
   end
end

local function launch(run, batch)
   local sink, lanes, number = run.sink, run.lanes, batch.number
   local body
   if sink.frame then
      body = lanes:text(number, BODY, sink.frame[1], sink.frame[2], sink.frame[3])
   else
      body = lanes:part(number, BODY, 1)
   end
   run.connection.client:send(number, sink.method, lanes:part(number, URL, 1) or sink.url,
      headers_of(run, batch, body), body, sink.gzip)
   run.flying[number] = batch
   sink.in_flight = sink.in_flight + 1
   collect_garbage(run, #body)
end

-- ---- which batch is next ----

-- The lanes that failed in an earlier flush and may be tried again become free.
local function free_due(run, now)
   if run.held == 0 or now < run.next_due then
      return
   end
   run.next_due = math.huge
   for lane, hold in pairs(run.sink.holds) do
      if hold.is_held and hold.due <= now then
         hold.is_held = false
         run.held = run.held - 1
         run.lanes:free(lane)
      elseif hold.is_held then
         run.next_due = math.min(run.next_due, hold.due)
      end
   end
end

local function take(run)
   local sink = run.sink
   local number = run.lanes:take(sink.batch, sink.batch_bytes, BODY)
   return number and { number = number, tries = 0 }
end

-- The batch that has waited for its time, the one with the fewest tries; nil: none.
local function waited(run, now)
   local found
   for i, batch in ipairs(run.waiting) do
      if batch.due <= now and (not found or batch.tries < run.waiting[found].tries) then
         found = i
      end
   end
   return found and table.remove(run.waiting, found)
end

-- Leaves records out of a batch whose lane waits or was refused: they must not overtake. They are
-- for the next flush. Returns nil if that is all of them.
local function unblocked(run, batch)
   local list, lanes = {}, run.lanes:lanes(batch.number)
   for i, lane in ipairs(next(run.blocked) and lanes or {}) do
      if run.blocked[lane] then
         list[#list + 1] = i
         run.blocked[lane] = "left"
         run.is_left = true
      end
   end
   if #list == #lanes then
      return nil
   elseif #list > 0 then
      run.lanes:divide(batch.number, list)
   end
   return batch
end

-- The next batch to send, or nil.
local function choose(run, now)
   while #run.halves > 0 do
      local half = table.remove(run.halves)
      local follower = half.follower
      half = unblocked(run, half)
      if half then
         return half
      elseif follower then
         run.halves[#run.halves + 1] = follower
      end
   end
   if is_open(run.sink) then
      local batch = take(run)
      if not batch then
         free_due(run, now)
         batch = take(run) or waited(run, now)
      end
      return batch
   end
   free_due(run, now)
   return waited(run, now) or take(run)
end

-- True if what is next is records that are new, each of which is a request: they go many at a time,
-- and have no batch here unless they fail.
local function are_alike(run)
   return run.sink.has_singles and #run.halves == 0 and #run.waiting == 0 and run.held == 0
      and not is_open(run.sink)
end

local function launch_singles(run)
   local sink, connection = run.sink, run.connection
   local bytes, count = run.lanes:singles(sink.most_in_flight - sink.in_flight)
   if not bytes then
      return
   end
   connection.client:send_records(bytes, sink.method, sink.url, connection.lines,
      sink.has_idempotency and "Idempotency-Key" or nil, sink.gzip)
   sink.in_flight = sink.in_flight + count
   collect_garbage(run, #bytes)
end

local function launch_all(run)
   local sink = run.sink
   while not run.ending and #run.refused < MOST_REFUSED do
      local now = raw.now()
      local most = is_open(sink) and 1 or sink.most_in_flight
      if sink.in_flight >= most or is_open(sink) and now < sink.probe_due then
         return
      end
      if are_alike(run) then
         return launch_singles(run)
      end
      local batch = choose(run, now)
      if not batch then
         return
      end
      launch(run, batch)
   end
end

-- ---- answers ----

-- The half that comes after a batch may go.
local function release_follower(run, batch)
   run.halves[#run.halves + 1] = batch.follower
   batch.follower = nil
end

-- No other record of these lanes may go before they are done.
local function block(run, lanes)
   for _, lane in ipairs(lanes) do
      run.blocked[lane] = run.blocked[lane] or "waits"
   end
end

local function set_done(run, batch)
   local sink = run.sink
   if next(sink.holds) or next(run.blocked) then
      for _, lane in ipairs(run.lanes:lanes(batch.number)) do
         sink.holds[lane] = nil
         if run.blocked[lane] == "waits" then
            run.blocked[lane] = nil
         end
      end
   end
   run.lanes:done(batch.number)
   sink.successes = sink.successes + 1
   sink.in_a_row, sink.probe_wait, sink.was_denied = 0, 0, false
   release_follower(run, batch)
end

-- Has the halves of a batch sent, one after the other.
local function send_halves(run, batch)
   local count = run.lanes:count(batch.number)
   local list = {}
   for i = count // 2 + 1, count do
      list[#list + 1] = i
   end
   batch.follower = { number = run.lanes:divide(batch.number, list), tries = batch.tries,
                      seen = batch.seen, is_apart = batch.is_apart, follower = batch.follower }
   run.halves[#run.halves + 1] = batch
end

local function jitter(seconds)
   return seconds * (0.75 + math.random() / 2)
end

-- A lane that fails again and again says nothing about the others.
local function count_failure(sink, is_first, seconds, now)
   if is_first or is_open(sink) then
      sink.in_a_row = sink.in_a_row + 1
   end
   sink.retries = sink.retries + 1
   if is_open(sink) and now >= sink.probe_due then
      sink.probe_wait = math.min(math.max(2 * sink.probe_wait, 1), LONGEST_WAIT)
      sink.probe_due = now + (seconds or jitter(sink.probe_wait))
   end
end

-- What is known of its lanes from earlier flushes.
local function remember(sink, batch, lanes)
   batch.seen = batch.seen or sink.successes
   if batch.tries == 0 and next(sink.holds) then
      for _, lane in ipairs(lanes) do
         local hold = sink.holds[lane]
         if hold then
            batch.tries = math.max(batch.tries, hold.tries)
            batch.seen = math.min(batch.seen, hold.seen)
         end
      end
   end
end

-- The batch is to be tried again.
local function set_later(run, batch, seconds)
   local sink, now = run.sink, raw.now()
   local lanes = run.lanes:lanes(batch.number)
   seconds = seconds and math.min(seconds, LONGEST_ASKED)
   remember(sink, batch, lanes)
   batch.is_apart = batch.is_apart or batch.tries > 0 and sink.successes > batch.seen
   count_failure(sink, batch.tries == 0, seconds, now)
   if batch.is_apart and not batch.is_told and #lanes > 1 and not is_open(sink) then
      return send_halves(run, batch)
   end
   batch.tries = batch.tries + 1
   batch.due = now + (seconds or jitter(math.min(2.0 ^ (batch.tries - 1), LONGEST_WAIT)))
   for _, lane in ipairs(lanes) do
      sink.holds[lane] = { due = batch.due, tries = batch.tries, seen = batch.seen }
   end
   block(run, lanes)
   run.waiting[#run.waiting + 1] = batch
   release_follower(run, batch)
end

local function set_refused(run, batch, message)
   local lanes = run.lanes:lanes(batch.number)
   if #lanes > 1 then
      return send_halves(run, batch)
   end
   run.refused[#run.refused + 1] = { batch = batch, message = message }
   run.sink.holds[lanes[1]] = nil
   run.sink.in_a_row = 0
   block(run, lanes)
   release_follower(run, batch)
end

--- What an answer means: "done"; "later", message, seconds or nil; "refused", message; "denied",
--- message; "stop", message. `answer`: {status =, body =, seconds =, location =}.
function http_flush.read_answer(sink, answer)
   local status = answer.status
   if status >= 200 and status < 300 then
      return "done"
   end
   local message = http_client.describe(sink, answer)
   if status >= 300 and status < 400 then
      return "stop", ("%s; redirects are not followed: say url = %s if that is the right address")
         :format(message, http_client.location(sink, answer))
   elseif status == 401 or status == 403 or status == 407 then
      return "denied", message
   elseif status == 408 or status == 425 or status == 429 or status >= 500 and status ~= 501 then
      return "later", message, answer.seconds
   elseif status >= 400 and status ~= 501 then
      return "refused", message
   end
   return "stop", message
end

--- For `read_answer`: takes records out of a batch, not all of them, and sees to them by the
--- verdict, "later" or "refused". `list`: their numbers, rising.
function http_flush.part_of(run, batch, list, verdict, message)
   local part = { number = run.lanes:divide(batch.number, list), tries = batch.tries,
                  seen = batch.seen, is_told = true }
   if verdict == "later" then
      run.problem = message
      set_later(run, part)
   else
      set_refused(run, part, message)
   end
end

-- What the flush ends with, as soon as nothing is on its way.
local function set_ending(run, method, message)
   run.ending = run.ending or { method = method, message = message }
end

local function set_denied(run, message)
   local sink = run.sink
   if sink.has_files and not sink.was_denied then
      sink.was_denied = true
      http_client.renew(sink) -- reads the files again
      return set_ending(run, "again", message)
   end
   set_ending(run, "deny", message)
end

local function take_answer(run, batch, answer)
   local sink = run.sink
   batch.is_told = nil
   if not answer.status then
      local message = ("%s: %s"):format(sink.shown, answer.message)
      if answer.is_final then
         return set_ending(run, "deny", message)
      end
      run.problem = message
      return set_later(run, batch)
   end
   local verdict, message, seconds = sink.read_answer(sink, answer, run, batch)
   if verdict == "done" then
      set_done(run, batch)
   elseif verdict == "later" then
      run.problem = message
      set_later(run, batch, seconds)
   elseif verdict == "refused" then
      set_refused(run, batch, message)
   elseif verdict == "denied" then
      set_denied(run, message)
   else
      set_ending(run, "stop", message)
   end
end

-- The batch of a request that was answered.
local function landed(run, number)
   local batch = run.flying[number] or { number = number, tries = 0 }
   run.flying[number] = nil
   run.sink.in_flight = run.sink.in_flight - 1
   return batch
end

-- Takes the answers that need no look.
local function take_done(run)
   local sink, list = run.sink, run.connection.client:done()
   if next(run.flying) or next(sink.holds) or next(run.blocked) then
      for _, number in ipairs(list) do
         set_done(run, landed(run, number))
      end
   elseif #list > 0 then
      run.lanes:done(list)
      sink.in_flight, sink.successes = sink.in_flight - #list, sink.successes + #list
      sink.in_a_row, sink.probe_wait, sink.was_denied = 0, 0, false
   end
end

local function take_answers(run)
   if run.sink.has_singles then
      take_done(run)
   end
   local tag, status, body, seconds, location = run.connection.client:next()
   while tag do
      take_answer(run, landed(run, tag), status and { status = status, body = body,
         seconds = seconds, location = location } or { message = body, is_final = seconds })
      tag, status, body, seconds, location = run.connection.client:next()
   end
end

-- ---- the flush ----

local function new_run(sink, upto)
   local run = {
      sink = sink, connection = http_client.of(sink), lanes = raw.lanes(sink.outbox, upto, URL),
      flying = {}, waiting = {}, halves = {}, refused = {}, blocked = {}, held = 0, next_due = 0,
      garbage = 0,
   }
   for lane, hold in pairs(sink.holds) do
      hold.is_held = true
      run.held = run.held + 1
      run.lanes:hold(lane)
   end
   sink.in_flight = 0
   return run
end

-- Seconds until there is something to do for what is left.
local function seconds_to_next(run)
   local sink, due = run.sink, math.huge
   if is_open(sink) then
      due = sink.probe_due
   elseif run.is_left then
      due = 0
   else
      for _, hold in pairs(sink.holds) do
         due = math.min(due, hold.due)
      end
   end
   return math.max(0.01, math.min(due - raw.now(), LONGEST_ASKED))
end

-- Raises what became of what is left.
local function raise_rest(run)
   local sink = run.sink
   if run.ending then
      sink[run.ending.method](sink, run.ending.message)
   end
   local list = {}
   for i, it in ipairs(run.refused) do
      local id = run.lanes:part(it.batch.number, ID, 1)
      list[i] = { index = run.lanes:index(it.batch.number), message = it.message,
                  value = sink.value_of(run.lanes:part(it.batch.number, BODY, 1), id) }
   end
   if #list > 0 then
      table.sort(list, function(a, b) return a.index < b.index end)
      sink:refuse(list)
   end
   sink:retry(sink.last_problem or "not all was sent", seconds_to_next(run))
end

--- Sends what was taken up to that seal. Returns 0 when every record was answered; or how many were
--- not, since their lanes wait for another try, and in how many seconds that is. Raises what the
--- host understands, while nothing is on its way.
function http_flush.send(sink, upto)
   local run = new_run(sink, upto)
   launch_all(run)
   while sink.in_flight > 0 do
      run.connection.client:step(STEP)
      take_answers(run)
      if remote.is_time_up() then
         sink:retry "no answer, and the program is to stop"
      end
      launch_all(run)
   end
   sink.last_problem = run.problem or sink.last_problem
   local left = run.lanes:left()
   if left == 0 then
      sink.holds, sink.last_problem = {}, nil
      return 0
   elseif not left or run.ending or #run.refused > 0 or is_open(sink) then
      raise_rest(run)
   end
   return left, seconds_to_next(run)
end

return http_flush
