-- pgcdc.sinks.leftover: records that a flush has left in the outbox, for later ones.
-- SPDX-License-Identifier: MIT
--
-- A target may take some records and not others, such as those of a key. Then a flush is over all
-- the same, and what comes later goes on beside those that are left:
--
--    batch 7    A1 B1     A1 is left                   saved: the position after batch 6
--    batch 8    B2 C1     both go
--    batch 9    A2        waits for A1                 held: the batches 7 and 9
--    a timer              A1 and A2 go                 saved: the position after batch 9
--
-- Until its records are there a batch is held, as operators hold batches (see delivery/lineage):
-- from its first record on, since a batch that nobody holds cannot be held again. So a sink of such
-- a kind is asked to `settle` before a checkpoint looks at what is held, and by a timer when what
-- is left may be tried again. After a crash the held batches come again, and what came after them.
--
-- Of the sink: held = the batches, a list of {id = text that records of it have as a part, origin =
-- as retained, value = the origin of its values}; hold_count, timer, warned.

local raw = require "pgcdc.raw"
local lineage = require "pgcdc.delivery.lineage"
local participants = require "pgcdc.delivery.participants"
local timer = require "pgcdc.timer"

local leftover = {}

local REMINDER = 60 -- seconds between two warnings
local FEW = 100 -- records that are done, and do not matter

function leftover.start(sink)
   sink.held, sink.hold_count = {}, 0
end

--- Holds the batch that the value in hand stems from. Returns a text that must be a part of the
--- value's record, see `holds` of remote.sink.
function leftover.hold(sink)
   local held, current = sink.held, lineage.current
   local last = held[#held]
   if not last or last.value ~= current then
      sink.hold_count = sink.hold_count + 1
      last = { id = tostring(sink.hold_count), value = current, origin = lineage.retain() }
      held[#held + 1] = last
      if current ~= lineage.live then -- no batch may end that would bring a flush
         lineage.set_released()
      end
   end
   return last.id
end

-- Lets go the batches of which nothing is left.
local function let_go(sink)
   local is_left, rest, held = {}, {}, sink.held
   for _, id in ipairs(sink.unsent_rows > 0 and sink.outbox:distinct(sink.kind.holds) or {}) do
      is_left[id] = true
   end
   for _, it in ipairs(held) do
      rest[#rest + 1] = is_left[it.id] and it or nil
   end
   sink.held = rest
   for _, it in ipairs(held) do
      if not is_left[it.id] then
         lineage.release(it.origin)
      end
   end
end

-- Makes the outbox anew, with what is left, if most of it is done.
local function compact(sink)
   local old, fresh = sink.outbox, raw.outbox()
   if old:rows() < 2 * sink.unsent_rows + FEW then
      return
   end
   local function put(lane, ...)
      if lane then
         fresh:put(lane, ...)
         return true
      end
   end
   local next_record = old:each()
   while put(next_record()) do
   end
   sink.sent_bytes = sink.sent_bytes + old:bytes() - fresh:bytes()
   sink.outbox, sink.rows, sink.left_out = fresh, fresh:rows(), 0
end

-- Something is left, and may be tried again in so many seconds; nil: nothing is left.
local function wait(sink, seconds)
   if sink.timer then
      sink.timer:cancel()
      sink.timer = nil
   end
   if not seconds then
      if sink.warned then
         sink:log("info", "all that was left has been sent")
      end
      sink.warned = nil
      return
   end
   sink.timer = timer.window(seconds, function()
      sink.timer, sink.is_due = nil, true
      raw.hold_back(true)
      lineage.set_released()
   end)
   local now = raw.now()
   if not sink.warned or now - sink.warned > REMINDER then
      sink.warned = now
      sink:log("warn", ("%s (%d left, for later)"):format(sink.last_error, sink.unsent_rows))
   end
end

-- `left` records are not in the target, and may be tried again in so many seconds.
local function end_part(sink, left, seconds)
   local bytes = sink.outbox:bytes() // sink.outbox:rows() * left
   sink.sent_rows, sink.unsent_rows = sink.sent_rows + sink.unsent_rows - left, left
   sink.failures, sink.wait = 0, 0
   sink.last_error = sink:text(sink.last_problem or "not all was sent")
   if left >= sink.flush_rows or bytes >= sink.flush_bytes then
      error(participants.later(sink.last_error, seconds), 0)
   end
   compact(sink)
end

--- Brings to the target what can go now. Raises if nothing can, or if too much is left. `steps`:
--- functions of remote, {persist =, make_ready =, end_flush =}. `is_last`: nobody would ask for the
--- rest later.
function leftover.settle(sink, steps, is_last)
   if not sink.is_touched and not sink.is_due then
      return
   end
   local began, seconds = raw.now(), nil
   sink.wants_flush = false
   steps.persist(sink, function()
      local left = 0
      if sink.unsent_rows > 0 then
         steps.make_ready(sink)
         left, seconds = sink.kind.send(sink)
      end
      if left == 0 then
         seconds = nil
         return steps.end_flush(sink)
      end
      end_part(sink, left, seconds)
   end)
   sink.is_touched, sink.is_due = false, false
   sink.flush_seconds = raw.now() - began
   wait(sink, seconds)
   let_go(sink)
   if is_last and sink.unsent_rows > 0 then
      error(participants.later(sink.last_error, 1), 0)
   end
end

return leftover
