-- pgcdc.delivery.participants: what takes part in a save: sinks, and states that scripts name.
-- SPDX-License-Identifier: MIT
--
--    change ──┬── accumulate(persist = "sum") ──── participant {kind = "state", name = "sum"}
--             └── sink {name = "out"} ──────────── participant {kind = "sink", name = "out"}
--
--    when the batch ends, in one transaction:   position   t    {...}
--                                               state      sum  17
--                                               sink       out  {"length":4711}
--
-- Before a participant takes a value, `touch` is called with it, which records the sources that it
-- stems from: sources that meet in one participant are a group (see groups). When a batch ends,
-- what has changed in a participant is captured as *records* {kind, name, key, value}, all of them
-- text (value: false to remove it), which are saved with the positions (see checkpoint).
--
-- A participant:
--    kind, name        no other participant has the same two
--    sink              the sink, of kind "sink"
--    capture           function(participant, records): adds what has changed to the records
--    sources           set of the numbers of the sources that it stems from
--    is_dirty          it may have changed since checkpoint captured it
--    is_always_dirty   nobody can tell whether it has
--    is_late           values have reached it after their batch; until checkpoint saves while
--                      nothing is held
--    token             of a sink: what was captured last, as text
--    is_prepared, recalled, target   of a sink: recovery has set it to where it goes on; the
--                      savepoint that its target had, false: none; what tells that target
--    stored_serial     of a sink: the number of the savepoint that its target had at the start
--    attempt           of a sink that `prepares`: a flush that has not returned, see checkpoint
--    asked             of a sink that sets `wants_flush`: how many values have come since the host
--                      was asked for a checkpoint; nil: it was not asked
--    about, stats      of a sink of ours: its kind, and its method `stats`, if it counts
--    took, flushed     of a sink: how long its flushes took, and when the last one was over
--    reached           of a sink that has this field: set of the sources of which values came
--    settles           of a sink: it holds batches, see sinks/leftover
--    origin, live      what lineage.current and lineage.live were at the last `touch`
--    values, and changed or texts   of a state, see state
--    adopt             of a state: function(participant, key, text or nil): a target had this, and
--                      the state file did not; it has been saved here

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local groups = require "pgcdc.delivery.groups"
local lineage = require "pgcdc.delivery.lineage"
local troubles = require "pgcdc.delivery.troubles"

local participants = {
   list = {},     -- all of them, in the order in which they were made
   in_sink = nil, -- the sink that is being called just now: if it fails, the change is not to
                  -- blame. Other modules read this and do not write it
}

local by_name = {} -- "kind name" -> participant
local by_sink = {}
local sink_count = 0
local listener     -- see `on_new_sink`

-- ---- a target that is away ----

local Later = { __tostring = function(e)
   return e.message
end }

--- Makes an error for a sink to raise while its target is away: the host tries again after so many
--- seconds, without end.
function participants.later(message, seconds)
   return setmetatable({ message = message, again_after = seconds }, Later)
end

--- The seconds of an error that `participants.later` made; nil of any other.
function participants.again_after(err)
   return rawequal(getmetatable(err), Later) and err.again_after or nil
end

-- ---- records that a target can never take ----

local Refused = { __tostring = function(e)
   return e.message
end }

--- Makes an error for a sink to raise from its flush, which must have undone all: the target can
--- never take these records. `list`: of {index, message, value =, source =, sink =}; index: which
--- record of the flush it is, for the log; value: what the dead letter has as its change; source:
--- what `participants.source` returned when the record was written, or nil; sink: the name of the
--- sink that it was written to, or nil: the one that raises the error. Their source's on_error says
--- what becomes of them; unless that ends the program, the sink is flushed again, and must leave
--- them out.
function participants.refused(list)
   local first = list[1]
   local more = #list > 1 and (" (and %d more)"):format(#list - 1) or ""
   return setmetatable({ message = tostring(first[2]) .. more, list = list }, Refused)
end

--- The list that `participants.refused` was given; nil of any other error.
function participants.refused_list(err)
   return rawequal(getmetatable(err), Refused) and err.list or nil
end

--- The number of the source that the value in hand stems from, or of the first, if there are
--- several; nil: it stems from none.
function participants.source()
   local origin = lineage.current
   return origin and (origin.source or origin[1] and origin[1].source)
end

-- ---- all participants ----

--- Adds a participant, whose name is new among its kind. Returns it.
function participants.add(participant)
   participant.sources = {}
   participants.list[#participants.list + 1] = participant
   by_name[participant.kind .. " " .. participant.name] = participant
   return participant
end

--- The participant of that kind and name, or nil.
function participants.find(kind, name)
   return by_name[kind .. " " .. name]
end

--- True if the participant may stem from one of these sources, a set of numbers.
function participants.is_of(participant, members)
   if groups.is_single_group() or next(participant.sources) == nil then
      return true
   end
   for source in pairs(participant.sources) do
      if members[source] then
         return true
      end
   end
   return false
end

-- ---- the values that they take ----

local function add_source(participant, batch)
   if participant.reached then
      participant.reached[batch.source] = true
   end
   if not participant.sources[batch.source] then
      local other = next(participant.sources)
      participant.sources[batch.source] = true
      if other then
         groups.unite(other, batch.source)
      end
   end
end

--- Adds a source to those that the participant stems from, although no value of it may have come.
function participants.attach(participant, source)
   local reached = participant.reached
   participant.reached = nil
   add_source(participant, { source = source })
   participant.reached = reached
end

-- Records where the value in hand comes from: its sources, and whether it is late.
local function add_origin(participant)
   local origin = lineage.current
   participant.origin, participant.live = origin, lineage.live
   if origin == nil then
      return
   elseif origin.held then
      add_source(participant, origin)
   else
      for i = 1, #origin do
         add_source(participant, origin[i])
      end
   end
   if origin ~= lineage.live then
      participant.is_late = true
   end
end

--- To be called before the participant takes the value in hand.
function participants.touch(participant)
   participant.is_dirty = true
   if lineage.current ~= participant.origin or lineage.live ~= participant.live then
      add_origin(participant)
   end
end

--- To be called when the participant has changed without a value that was given to it.
function participants.set_dirty(participant)
   participant.is_dirty = true
end

-- ---- sinks ----

local AGAIN = 10000 -- values, before the host is asked again

--- The sink has much that is not flushed: asks the host to save at the next row where it may. To be
--- called after each write, or after n of them, while `wants_flush` is set. Something may hold the
--- save back, so after some more values the host is asked again.
function participants.ask_flush(participant, n)
   participant.asked = (participant.asked or AGAIN) + (n or 1)
   if participant.asked > AGAIN then
      participant.asked = 0
      raw.want_flush()
   end
end

--- To be called before a method of the sink. Returns what `leave_sink` must be given after it. If
--- the method fails, `leave_sink` is not called, and `in_sink` tells which sink failed.
function participants.enter_sink(sink)
   local before = participants.in_sink
   participants.in_sink = sink
   return before
end

--- To be called when the method has returned. `before`: what `enter_sink` returned; nil: no sink is
--- being called any more.
function participants.leave_sink(before)
   participants.in_sink = before
end

--- Calls a method of a sink. Returns its first result.
function participants.call(sink, method, ...)
   local before = participants.enter_sink(sink)
   local result = sink[method](sink, ...)
   participants.leave_sink(before)
   return result
end

-- Adds a time to a histogram, see src/base/histogram.h.
local function add_time(participant, seconds)
   local h = participant.took
   if not h then
      h = { count = 0, sum = 0 }
      for i = 1, #raw.histogram_bounds + 1 do
         h[i] = 0
      end
      participant.took = h
   end
   local i = 1
   while raw.histogram_bounds[i] and seconds > raw.histogram_bounds[i] do
      i = i + 1
   end
   h[i], h.count, h.sum, h.last = h[i] + 1, h.count + 1, h.sum + seconds, seconds
end

--- A flush of these sinks, a list of participants, has taken the time since `began`.
function participants.flushed(list, began)
   local now = raw.now()
   for _, participant in ipairs(list) do
      add_time(participant, now - began)
      participant.flushed = now
      troubles.recover_sink(participant.sink)
   end
end

local function capture_sink(participant, records)
   local sink = participant.sink
   if not sink.flush then
      return
   end
   local began = raw.now()
   local token = participants.call(sink, "flush")
   participants.flushed({ participant }, began)
   participant.asked = nil
   if token ~= nil then
      local text = raw.encode(token)
      if text ~= participant.token then
         participant.token = text
         records[#records + 1] = { "sink", participant.name, "", text, participant = participant }
      end
   end
end

--- The record among a savepoint's that says which one a sink has stored, or nil.
function participants.commit_record(participant, records)
   for _, record in ipairs(records) do
      if record[1] == "commit" and record[2] == participant.name then
         return record
      end
   end
end

--- True if there is any sink.
function participants.has_sinks()
   return sink_count > 0
end

--- The participant of a sink; makes one for a sink that is not known yet.
function participants.sink(sink)
   if by_sink[sink] then
      return by_sink[sink]
   end
   local name = sink.name or ("sink " .. sink_count + 1)
   if by_name["sink " .. name] then
      check.fail("two sinks are named '%s': give one of them another name", name)
   end
   local participant = participants.add {
      kind = "sink", name = name, sink = sink, capture = capture_sink,
   }
   by_sink[sink] = participant
   sink_count = sink_count + 1
   if listener then
      listener(participant)
   end
   return participant
end

--- Asks the sinks that have a method `check` whether they can be used: each returns a line about
--- its target, or raises why it cannot. Calls found(participant, ok, the line or why) for each.
function participants.check(found)
   for _, participant in ipairs(participants.list) do
      local sink = participant.sink
      if sink and sink.check then
         local before = participants.enter_sink(sink)
         local ok, text = raw.try(tostring, sink.check, sink)
         participants.leave_sink(before)
         found(participant, ok, text)
      end
   end
end

--- From now on `f(participant)` is called once for each sink that becomes known, before `sink`
--- returns. Recovery asks for it at the start, since sinks that are made later must find what they
--- had stored, too. An error of `f` is raised where the sink is made.
function participants.on_new_sink(f)
   listener = f
end

return participants
