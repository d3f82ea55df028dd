-- pgcdc.sinks.jetstream: questions to JetStream, and what its answers mean.
-- SPDX-License-Identifier: MIT
--
-- Its interface is messages with JSON in them. A sink has `client`, see src/sinks/nats.c, `stream`,
-- the stream's name, and `servers`, as text for errors.

local raw = require "pgcdc.raw"
local native = require "pgcdc.native.nats"

local jetstream = {}

local STEP = 0.1 -- seconds
local AT_A_TIME = 500 -- messages that a consumer brings

-- Errors by their number, err_code. Those that pass by themselves, beside all whose code is 503 and
-- those of a stream that is full (10077):
local passing = { [10002] = true, [10005] = true, [10006] = true, [10008] = true, [10009] = true,
                  [10023] = true, [10047] = true, [10076] = true, [10077] = true }
local NO_STREAM, NO_MESSAGE, TOO_LARGE = 10059, 10037, 10054
local wrong_last = { [10070] = true, [10071] = true } -- id, sequence

-- ---- answers ----

--- Waits until something has happened, for a moment. `clock`: of sink:clock. `is_for_all`: until
--- everything is answered.
function jetstream.wait(sink, clock, is_for_all)
   local moved, problem, is_denied = sink.client:wait(STEP, is_for_all)
   if moved == nil and is_denied then
      sink:deny(problem)
   elseif moved == nil then
      sink:broken(problem)
   end
   clock:check(moved)
end

--- True for an error that says that another message came in between.
function jetstream.is_overtaken(problem)
   return wrong_last[problem.err_code] or false
end

--- True for an error that says that the message is too large for the stream.
function jetstream.is_too_large(problem)
   return problem.err_code == TOO_LARGE
end

--- True for an error that passes by itself.
function jetstream.passes(problem)
   return problem.code == 503 or passing[problem.err_code] or false
end

--- Raises what an error of JetStream means. `what`: what was asked.
function jetstream.raise(sink, what, problem)
   local message = ("%s: %s"):format(what, problem.description or raw.encode(problem))
   if jetstream.passes(problem) then
      sink:retry(message)
   end
   sink:stop(message)
end

--- The table of an answer, and its error as {code =, err_code =, description =}, or nil.
function jetstream.read(sink, data, status)
   if status == "503" then
      return nil, { code = 503, description = ("no JetStream answers at %s (no responders); is it "
         .. "enabled, and has it the stream '%s'?"):format(sink.client:address(), sink.stream) }
   end
   local ok, answer = pcall(raw.decode, data)
   if not ok or type(answer) ~= "table" then
      sink:broken("the server's answer is no JSON: " .. data:sub(1, 100))
   end
   return answer, type(answer.error) == "table" and answer.error or nil
end

-- Sends a question. Returns its number. `headers`: see src/sinks/nats.c.
local function ask(sink, subject, body, headers)
   sink.question = (sink.question or 0) + 1
   sink.client:ask(sink.question, subject, headers or "", body)
   return sink.question
end

--- Sends a message and waits for its answer. Returns it, and an error as `read` does. `what`: for
--- errors.
function jetstream.call(sink, what, subject, body, headers)
   local number, clock = ask(sink, subject, body, headers), sink:clock(what)
   while true do
      local kind, of, data, status = sink.client:answer()
      if kind == "answer" and of == number then
         return jetstream.read(sink, data, status)
      elseif not kind then -- (others are late, and nobody waits for them)
         jetstream.wait(sink, clock)
      end
   end
end

local function api(sink, what, name, body)
   return jetstream.call(sink, what, "$JS.API." .. name, body and raw.encode(body) or "")
end

-- ---- streams ----

--- What is known of the stream; nil if there is none.
function jetstream.stream(sink)
   local info, problem = api(sink, "the stream", "STREAM.INFO." .. sink.stream)
   if problem and problem.err_code == NO_STREAM then
      return nil
   elseif problem then
      jetstream.raise(sink, ("the stream '%s'"):format(sink.stream), problem)
   end
   return info
end

--- Makes the stream. `config`: as JetStream has it.
function jetstream.create(sink, config)
   config.name = sink.stream
   local _, problem = api(sink, "create", "STREAM.CREATE." .. sink.stream, config)
   if problem then
      jetstream.raise(sink, ("create: the stream '%s'"):format(sink.stream), problem)
   end
end

--- Removes all messages of a subject but the newest. Nobody waits for that.
function jetstream.purge(sink, subject, keep)
   ask(sink, "$JS.API.STREAM.PURGE." .. sink.stream, raw.encode { filter = subject, keep = keep })
end

-- ---- messages ----

local function headers_of(message)
   local headers = {}
   local text = message.hdrs and native.decode64(message.hdrs) or ""
   for name, value in text:gmatch "([^\r\n:]+):[ ]?([^\r\n]*)\r\n" do
      headers[name] = value
   end
   return headers
end

--- A message of the stream: {seq =, subject =, headers =, text =}; nil if it is not there. `which`:
--- {seq =} or {last_by_subj =}.
function jetstream.message(sink, which)
   local answer, problem = api(sink, "a message of the stream", "STREAM.MSG.GET." .. sink.stream,
      which)
   if problem and problem.err_code == NO_MESSAGE then
      return nil
   elseif problem then
      jetstream.raise(sink, "a message of the stream", problem)
   end
   local message = answer.message
   return { seq = message.seq, subject = message.subject, headers = headers_of(message),
            text = message.data and native.decode64(message.data) or "" }
end

-- How many messages are left behind the one whose subject for answers this is.
local function left_behind(reply)
   local words = {}
   for word in reply:gmatch "[^.]+" do
      words[#words + 1] = word
   end
   return math.tointeger(tonumber(words[#words == 9 and 9 or 11]))
end

-- Calls f(subject, id) for the next messages of a consumer. Returns how many are left.
local function take_some(sink, consumer, f)
   local number = ask(sink, ("$JS.API.CONSUMER.MSG.NEXT.%s.%s"):format(sink.stream, consumer),
      raw.encode { batch = AT_A_TIME, no_wait = true })
   local clock, count, left = sink:clock "messages of the stream", 0, nil
   while left ~= 0 and count < AT_A_TIME do
      local kind, of, _, status, subject, reply, id = sink.client:answer()
      if not kind then
         jetstream.wait(sink, clock)
      elseif kind == "answer" and of == -1 and reply:find("." .. consumer .. ".", 1, true) then
         f(subject, id)
         count, left = count + 1, left_behind(reply)
      elseif kind == "answer" and of == number and status == "404" then
         return 0
      elseif kind == "answer" and of == number then
         sink:broken("messages of the stream: status " .. tostring(status))
      end
   end
   return left
end

--- Calls f(subject, id) for each message of the stream from that sequence on. `subjects`: a
--- subscription. Id: its Nats-Msg-Id, or nil.
function jetstream.each(sink, from, subjects, f)
   local answer, problem = api(sink, "a consumer", "CONSUMER.CREATE." .. sink.stream, {
      stream_name = sink.stream, config = {
         deliver_policy = "by_start_sequence", opt_start_seq = from, ack_policy = "none",
         replay_policy = "instant", headers_only = true, filter_subject = subjects,
         inactive_threshold = 60 * 1000000000, mem_storage = true,
      } })
   if problem then
      jetstream.raise(sink, "a consumer", problem)
   end
   local left = answer.num_pending
   while left > 0 do
      left = take_some(sink, answer.name, f)
   end
   ask(sink, ("$JS.API.CONSUMER.DELETE.%s.%s"):format(sink.stream, answer.name), "")
end

return jetstream
