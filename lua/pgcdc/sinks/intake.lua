-- pgcdc.sinks.intake: how values get into the outbox of a sink, see sinks/remote.
-- SPDX-License-Identifier: MIT
--
-- A value that is written becomes a record by `put`, or by `put_change` if it is a change as it
-- came, which needs less of Lua. Where all that a source finds goes to the sink as it is, the host
-- puts the rows without Lua (`way`).

local raw = require "pgcdc.raw"
local participants = require "pgcdc.delivery.participants"

local intake = {}

local AT_ONCE = { rows = 256, bytes = 64 * 1024 } -- that are put before they are counted

-- Records were put into the outbox, which has so many bytes now.
local function count(sink, n, bytes)
   local rows = sink.rows + n
   sink.rows, sink.unsent_rows = rows, sink.unsent_rows + n
   if rows >= sink.flush_rows or bytes >= sink.flush_bytes then
      sink.wants_flush = true
   end
   if bytes >= sink.early_at then
      sink.kind.send_early(sink)
   end
end

--- Puts a record into the outbox; `encode` calls it. `lane`: see remote.lane. `id`: of the change,
--- or nil; ...: texts, or nil for what is absent, always as many of one kind of sink.
function intake.put(sink, lane, id, ...)
   local before = participants.enter_sink(sink) -- from now on the value is not to blame
   local source = participants.source()
   sink.outbox:put(lane, id, source and tostring(source), ...)
   participants.leave_sink(before)
   count(sink, 1, sink.outbox:bytes())
end

-- The number of the source that the value in hand stems from, as text, or nil.
local function source_of(sink)
   local origin = sink.participant.origin -- `touch` has set it
   if origin ~= sink.last_origin then
      local source = participants.source()
      sink.last_origin, sink.last_source = origin, source and tostring(source)
   end
   return sink.last_source
end

--- Puts a change, as `put` does: raw.put_change (nil) or raw.put_json. `a` and `b`: what that gets
--- after the change. Returns false if it cannot.
function intake.put_change(sink, known, change, a, b, put)
   local source = source_of(sink)
   local before = participants.enter_sink(sink)
   local bytes = (put or raw.put_change)(sink.outbox, known, source, change, a, b)
   participants.leave_sink(before)
   if not bytes then
      return false
   end
   count(sink, 1, bytes)
   return true
end

--- To be called before values are written.
function intake.touch(sink)
   participants.touch(sink.participant)
   sink.is_touched = true
end

--- How rows get into the outbox without Lua, see raw.direct; nil: all values are to be written.
--- `may_begin()`: whether rows may go that way just now.
function intake.way(sink, may_begin)
   if not (sink.kind.takes_rows and sink.is_plain) then
      return nil
   end
   local write = sink.write
   return {
      sink.outbox, sink.learned, math.min(AT_ONCE.rows, sink.flush_rows),
      math.min(AT_ONCE.bytes, sink.flush_bytes),
      function(n, bytes)
         count(sink, n, bytes)
         if sink.wants_flush then
            participants.ask_flush(sink.participant, n)
         end
      end,
      function()
         if sink.write ~= write or not may_begin() then
            return false
         end
         intake.touch(sink)
         return source_of(sink)
      end,
   }
end

return intake
