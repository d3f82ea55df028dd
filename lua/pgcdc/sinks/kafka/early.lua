-- pgcdc.sinks.kafka.early: records that go to Kafka while their batch still comes.
-- SPDX-License-Identifier: MIT
--
--    write     many records wait: begins a transaction, and hands over what librdkafka takes at
--              once; again whenever some more wait
--    flush     `take`: goes on after what was handed over; savepoint, commit
--
-- So rows are made records while librdkafka and Kafka are at work on those before them.
--
-- It stays exact, because only a flush commits, and a transaction that it commits has what it
-- covers: what was handed over early are the first records of the outbox, in their order, by the
-- producer that the flush uses, and `take` says so only if the flush covers them all and nothing
-- went wrong. Else the transaction is aborted, or given up with its producer, as after any other
-- error of a flush; and the flush begins at the start of the outbox, which has all of it still.
-- Without transactions, records come again in that case, which is what is promised then.
--
-- Readers wait for the end of a transaction. So one that was begun early and is not flushed soon,
-- because its batch is slow, is aborted. And none is begun by `is_partial`: while operators hold
-- values, flushes end before the newest record, and could use none of it.
--
-- Of the sink: early = what was handed over, {client =, index = the number of the last record,
-- place = where the next one is in the outbox, is_broken =, timer =}, or nil.

local task = require "pgcdc.sinks.kafka.task"
local timer = require "pgcdc.timer"

local early = {
   AFTER = 256 * 1024, -- bytes in the outbox before the first are sent
}

local MORE = 64 * 1024 -- bytes more before the next are
local HOLD = 10 -- seconds that readers wait for

local function forget(sink)
   local it = sink.early
   sink.early = nil
   if it and it.timer then
      it.timer:cancel()
   end
   return it and it.client == sink.client and it or nil
end

-- Ends the transaction, of which nothing is left.
local function abort(sink)
   local clock = sink:clock "reports"
   if sink.id then
      task.ask(sink, "abort")
   end
   while sink.client:outstanding() > 0 do
      clock:check(task.serve(sink, "reports", task.STEP))
   end
end

--- What of the flush of these parts was handed over, {index =, place =}; nil: nothing, and there is
--- no transaction.
function early.take(sink, parts)
   local it, covered = forget(sink), 0
   for _, part in ipairs(parts) do
      local of = part.sink
      local rows = of.outbox:rows(part.seal)
      of.is_partial = rows < of.outbox:rows()
      covered = of == sink and rows or covered
   end
   if not it then
      return nil
   elseif it.is_broken or sink.client:failed() > 0 then
      sink:again "what was sent before the flush did not get there"
   elseif #parts == 1 and it.index <= covered then
      return it
   end
   abort(sink)
end

--- Gives up what was handed over, without an error: a flush sends all of it again.
function early.give_up(sink)
   local it = forget(sink)
   sink.early_at = math.huge
   if it and not (it.is_broken or pcall(abort, sink)) then
      sink.early = { client = it.client, is_broken = true }
   end
end

--- The connection is to be closed: readers need not wait until Kafka aborts the transaction.
function early.leave(sink)
   local it = forget(sink)
   if it and not it.is_broken then
      task.leave(sink)
   end
end

-- True if records can go now: the sink is alone with its producer, and nothing is wrong.
local function can_send(sink)
   return sink.is_open and sink.failures == 0 and sink.left_out == 0 and not sink.is_single
      and not sink.is_partial and not sink.is_unknown and not next(sink.dead)
      and not sink.owner and #sink.guests == 0 and (sink.is_recalled or not sink.id)
end

local function begin(sink)
   if sink.id then
      task.ask(sink, "begin")
   end
   sink.client:begin()
   local it = { client = sink.client, index = 0 }
   it.timer = timer.after(HOLD, function()
      if sink.early == it and not sink.is_busy then
         sink.is_busy = true
         early.give_up(sink)
         sink.is_busy = false
      end
   end)
   return it
end

-- Hands over what librdkafka takes now.
local function hand_over(sink, it)
   local client, outbox = sink.client, sink.outbox
   local bytes, place, length = outbox:chunk(it.place, nil, sink.room)
   while bytes do
      local start = place - length
      local at, index, problem = client:produce_chunk(bytes, 0, it.index, length)
      it.place, it.index = start + at, index
      local has_moved = task.serve(sink, "produce", 0)
      if client:failed() > 0 or problem and problem.name ~= "_QUEUE_FULL" then
         it.is_broken = true
         return
      elseif problem and not has_moved then
         return
      end
      bytes, place, length = outbox:chunk(it.place, nil, sink.room)
   end
end

--- The outbox has many bytes that no flush has sent. Raises nothing.
function early.send(sink)
   if sink.is_busy then -- this is a finalizer in the middle of a flush
      return
   end
   local it = sink.early
   sink.early_at = sink.outbox:bytes() + MORE
   if it and (it.is_broken or it.client ~= sink.client) or not can_send(sink) then
      return
   end
   sink.is_busy = true
   local ok = pcall(function()
      it = it or begin(sink)
      sink.early = it
      hand_over(sink, it)
   end)
   if not ok then
      sink.early = sink.early or { client = sink.client }
      sink.early.is_broken = true
   end
   sink.is_busy = false
end

return early
