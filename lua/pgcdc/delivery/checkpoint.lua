-- pgcdc.delivery.checkpoint: what may be saved, and when.
-- SPDX-License-Identifier: MIT
--
-- A checkpoint is what one transaction saves: the positions of a group of sources (see groups), and
-- what has changed in the participants that stem from them (see participants). All of it must be
-- as it was at one *moment*, the end of a batch; otherwise a crash would lose or repeat changes.
--
--    batch 1 ends     nothing is held                      saved: what is true now
--    batch 2 ends     an operator holds a value of 2       waits: the moment after batch 2
--    batch 3 ends     it holds one of 2 and one of 3       waits: the moment after batch 3
--    2 is released    it holds one of 3                    saved: the moment after batch 2
--    3 is released    nothing is held                      saved: what is true now
--
-- While values are held (see lineage) what was captured waits, in the order of the moments. When
-- the last value that held a moment is released, there are two cases:
-- * Nothing of the group is held any more: what is true now is saved. That is exact.
-- * Something newer is held: the newest moment that is free is saved, which is exact for every
--   participant that values reach at once. A participant that they reach through the operator that
--   held them is *late*: it is saved as it is now. What it was told of newer batches comes again
--   after a crash, and nothing is lost.
--
-- A sink with a method `recall` stores savepoints together with its data: a savepoint is the
-- checkpoint as text, with a serial number. It is stored there first, then saved here; recovery
-- compares the two after a crash.
--
-- A sink whose target has little room says `prepares`. Its savepoint is saved here first, as a
-- record `prepared`, and the sink stores a short text that says which savepoint it is:
--
--    saved here: prepared 813    a crash: the target has 812, and all of 813 comes again
--    flush: the target has 813   a crash: recovery saves what was prepared
--    saved here: records of 813, and prepared is removed

local raw = require "pgcdc.raw"
local feeds = require "pgcdc.delivery.feeds"
local groups = require "pgcdc.delivery.groups"
local lineage = require "pgcdc.delivery.lineage"
local participants = require "pgcdc.delivery.participants"
local refused = require "pgcdc.delivery.refused"

local checkpoint = {}

-- The moments that were captured and are not saved, the oldest first: {members = {[source] = number
-- of the batch that had ended}, records =, index = place of each record by its name,
-- seals = {[participant] = what its sink calls what it had got by then}}.
local waiting = {}

local INLINE = 3500 -- the most bytes that a short text may have with the whole savepoint in it

local unsaved = {} -- source -> records that were captured, and are neither saved nor waiting, since
                   -- a sink failed
local serial       -- of the newest savepoint

-- Appends records to a list; if `wanted` is given, those of participants for which it is true.
local function append(records, more, wanted)
   for _, record in ipairs(more) do
      if not wanted or record.participant and wanted(record.participant) then
         records[#records + 1] = record
      end
   end
end

-- ---- capturing ----

-- True if the participant is to be asked what has changed. (Sinks that store savepoints are flushed
-- instead.)
local function is_captured(participant, members)
   return (participant.is_dirty or participant.is_always_dirty)
      and participants.is_of(participant, members)
      and not (participant.sink and participant.sink.recall)
end

-- Captures what has changed in the participants of these sources for which `wanted` is true.
-- Returns that as records, with what was captured before a sink failed; they are returned again
-- until `drop_captured` is called. (`unsaved` has them under one source of the group, the first.)
local function capture(members, wanted)
   local all, home = {}, nil
   for source in pairs(members) do
      append(all, unsaved[source] or {})
      unsaved[source] = nil
      home = math.min(home or source, source)
   end
   unsaved[home] = all
   for _, participant in ipairs(participants.list) do
      if is_captured(participant, members) and wanted(participant) then
         participant.capture(participant, all)
         participant.is_dirty = false
      end
   end
   local records = {}
   append(records, all, wanted)
   return records
end

-- Forgets what was captured for these sources, of participants for which `wanted` is true: it is
-- saved, or it waits.
local function drop_captured(members, wanted)
   for source in pairs(members) do
      local left = {}
      append(left, unsaved[source] or {}, function(participant)
         return not wanted(participant)
      end)
      unsaved[source] = #left > 0 and left or nil
   end
end

local function is_anything()
   return true
end

local function is_late(participant)
   return participant.is_late
end

local function is_punctual(participant)
   return not participant.is_late
end

-- ---- moments ----

-- True if nothing is held of the batches in `members`, source -> number, and of those before them.
local function is_free(members)
   for source, number in pairs(members) do
      local oldest = lineage.oldest_held(source)
      if oldest and oldest.number <= number then
         return false
      end
   end
   return true
end

-- True if something is held of a batch that has not ended yet. Such a moment cannot be remembered:
-- what is released later in that batch reaches participants as if it were not late.
local function is_amid(members)
   for source, number in pairs(members) do
      local newest = lineage.newest_held(source)
      local _, is_open = lineage.newest_batch(source)
      if is_open and newest and newest.number == number then
         return true
      end
   end
   return false
end

-- ---- saving ----

-- The last token of each sink among the records: participant -> text.
local function last_tokens(records)
   local tokens = {}
   for _, record in ipairs(records) do
      if record.participant and record.participant.sink then
         tokens[record.participant] = record[4]
      end
   end
   return tokens
end

local function array(list)
   return setmetatable(list, raw.array_metatable)
end

-- Flushes these sinks; those that can share a transaction (whose `together` is the same) in one.
-- `upto`: participant -> the seal up to which it is flushed; one without a seal is flushed whole.
-- `attempt`: see `prepare`.
local function flush_targets(targets, attempt, upto)
   local done = {}
   for _, participant in ipairs(targets) do
      local sink = participant.sink
      if not done[sink] then
         local parts = {}
         for _, other in ipairs(targets) do
            if rawequal(other.sink, sink)
               or sink.together and rawequal(other.sink.together, sink.together) then
               parts[#parts + 1] = { sink = other.sink, upto = upto[other] }
               done[other.sink] = true
            end
         end
         local text = sink.prepares and attempt.short or attempt.text
         local began, all = raw.now(), {}
         if sink.flush_together then
            participants.call(sink, "flush_together", text, parts)
         else
            participants.call(sink, "flush", text, upto[participant])
         end
         for _, part in ipairs(parts) do
            local flushed = participants.sink(part.sink)
            all[#all + 1] = flushed
            flushed.is_dirty = part.upto ~= nil -- values may have come after the seal
            flushed.asked, flushed.attempt, attempt.pending[flushed] = nil, nil, nil
         end
         participants.flushed(all, began)
      end
   end
end

-- The sinks of these sources that store savepoints and were written to.
local function dirty_targets(members)
   local targets = {}
   for _, participant in ipairs(participants.list) do
      if participant.sink and participant.sink.recall and participant.is_dirty
         and participants.is_of(participant, members) then
         targets[#targets + 1] = participant
      end
   end
   return targets
end

-- From now on the sinks of these sources that store savepoints can tell what they get from what
-- they got before. Returns participant -> seal, for `flush`.
local function seal(members)
   local seals = {}
   for _, participant in ipairs(dirty_targets(members)) do
      seals[participant] = participant.sink.seal and participant.sink:seal()
   end
   return seals
end

-- The last flush of this sink failed, and nobody knows whether the target has its savepoint. Asks
-- the target, and saves here what was prepared if it has. (What is prepared may be removed only
-- after that.)
local function clear_doubt(participant)
   local attempt = participant.attempt
   local stored = participants.call(participant.sink, "recall")
   if stored == attempt.short then
      attempt.pending[participant] = nil
      local is_complete = next(attempt.pending) == nil
      raw.save(is_complete and attempt.records or {
         participants.commit_record(participant, attempt.records),
         { "prepared", participant.name, "", false },
      })
   end
   participant.attempt = nil
end

-- Saves the savepoint for those sinks that store a short text. `attempt`: {text = the savepoint,
-- short = the short text, records =, pending = set of the participants whose flush has not
-- returned}.
local function prepare(targets, savepoint, attempt)
   local prepared = {}
   for _, participant in ipairs(targets) do
      attempt.pending[participant] = true
      if participant.sink.prepares then
         participant.attempt = attempt
         prepared[#prepared + 1] = { "prepared", participant.name, "", attempt.text }
         attempt.records[#attempt.records + 1] = { "prepared", participant.name, "", false }
      end
   end
   if #prepared == 0 then
      return
   end
   local short = { owner = savepoint.owner, serial = savepoint.serial,
                   sha256 = raw.sha256(attempt.text) }
   attempt.short = raw.encode(short)
   if #attempt.short + #attempt.text + #',"savepoint":' <= INLINE then
      short.savepoint = savepoint
      attempt.short = raw.encode(short)
   end
   raw.save(prepared)
end

-- A number for a savepoint that is greater than that of every one that was stored, also by a state
-- file that was lost or reset.
local function next_serial(targets)
   serial = serial or raw.decode(raw.kept("serial", "")[""] or "0")
   for _, participant in ipairs(targets) do
      serial = math.max(serial, participant.stored_serial or 0)
   end
   serial = serial + 1
   return serial
end

-- The names of all sources that a savepoint in these sinks is about: their positions go back if a
-- target does. (So also sources that feed these sinks, and are not of the group since they brought
-- nothing yet. One that has not reached its server has no name yet: until then the names count that
-- were saved last.)
local function names_of(members, targets)
   local names, is_whole = {}, true
   for number in pairs(members) do
      names[raw.source_name(number)] = true
   end
   for _, participant in ipairs(raw.source_count() > 1 and targets or {}) do
      for _, number in ipairs(feeds.of(participant.sink)) do
         local name, is_known = raw.source_name(number)
         names[name] = is_known or names[name]
         is_whole = is_whole and is_known
      end
   end
   for _, participant in ipairs(is_whole and {} or targets) do
      local kept = raw.kept("commit", participant.name)[""]
      for _, name in ipairs(kept and raw.decode(kept).sources or {}) do
         names[name] = true
      end
   end
   local list = {}
   for name in pairs(names) do
      list[#list + 1] = name
   end
   table.sort(list)
   return array(list)
end

-- The records as a savepoint has them: text only, and with a position of each of these sources, so
-- that it is complete if the state file is lost.
local function plain_records(names, records)
   local plain, has_position = {}, {}
   for i, record in ipairs(records) do
      plain[i] = { record[1], record[2], record[3], record[4] }
      has_position[record[2]] = has_position[record[2]] or record[1] == "position"
   end
   for _, name in ipairs(names) do
      local saved = not has_position[name] and raw.kept("position", name)[""]
      if saved then
         plain[#plain + 1] = { "position", name, "", saved }
      end
   end
   return array(plain)
end

-- Stores a savepoint, the records so far, in these sinks together with their data. Adds to the
-- records what recovery compares it with.
local function store_savepoint(members, records, targets, upto)
   for _, participant in ipairs(targets) do
      if participant.attempt then
         clear_doubt(participant)
      end
   end
   local number, names = next_serial(targets), names_of(members, targets)
   records[#records + 1] = { "serial", "", "", raw.encode(number) }
   for _, participant in ipairs(targets) do
      records[#records + 1] = { "commit", participant.name, "", raw.encode {
         serial = number, sources = names, target = participant.target } }
   end
   local savepoint = { owner = raw.pipeline(), serial = number,
                       records = plain_records(names, records) }
   local attempt = { text = raw.encode(savepoint), records = records, pending = {} }
   prepare(targets, savepoint, attempt)
   flush_targets(targets, attempt, upto)
end

-- The sinks that store savepoints and are to be flushed, as a list; and participant -> the seal up
-- to which it is flushed. `seals`: those of the moment that is saved; nil: what is true now is.
local function choose_targets(members, seals)
   local targets, upto = {}, {}
   for _, participant in ipairs(dirty_targets(members)) do
      if seals and participant.sink.seal and not participant.is_late then
         upto[participant] = seals[participant]
      end
      if not seals or upto[participant] or participant.is_late or not participant.sink.seal then
         targets[#targets + 1] = participant
      end
   end
   return targets, upto
end

-- Saves the records: in the sinks that store savepoints first, then here.
local function commit(members, records, seals)
   local targets, upto = choose_targets(members, seals)
   if #targets > 0 then
      store_savepoint(members, records, targets, upto)
   end
   raw.save(records)
   local tokens = last_tokens(records)
   for _, participant in ipairs(participants.list) do
      local saved = tokens[participant]
      if saved and participant.sink.saved then
         participants.call(participant.sink, "saved", raw.decode(saved))
      end
   end
end

local function add_positions(positions, records)
   for source, position in pairs(positions) do
      records[#records + 1] = { "position", raw.source_name(source), "", position.text,
                                position.last_change }
   end
end

-- Forgets the moments of these sources, up to that place among those that wait.
local function forget_waiting(members, upto)
   local left = {}
   for i, moment in ipairs(waiting) do
      if i > upto or not groups.share(moment.members, members) then
         left[#left + 1] = moment
      end
   end
   waiting = left
   raw.hold_back(#waiting > 0 or refused.any())
end

-- True if `moment` and what is true now are freed together, so that the two can be one.
local function can_join(moment, members)
   for source, number in pairs(moment.members) do
      local newest = lineage.newest_held(source)
      if not members[source] or newest and newest.number > number then
         return false
      end
   end
   for source in pairs(members) do
      if not moment.members[source] then
         return false
      end
   end
   return true
end

-- Remembers what was captured now. Moments that would be freed together are one, so that there are
-- never more of them than batches that are held.
local function remember(members, records)
   local moment
   for _, candidate in ipairs(waiting) do
      moment = groups.share(candidate.members, members) and candidate or moment
   end
   if not moment or not can_join(moment, members) then
      moment = { records = {}, index = {} }
      waiting[#waiting + 1] = moment
   end
   moment.members, moment.seals = members, seal(members)
   for _, record in ipairs(records) do
      local id = table.concat({ record[1], record[2], record[3] }, "\0")
      local at = moment.index[id] or #moment.records + 1
      moment.index[id] = at
      moment.records[at] = record
   end
   raw.hold_back(true)
end

-- Saves what is true now. To be called when nothing of these sources is held.
local function save_now(members, positions)
   local records = {}
   for _, moment in ipairs(waiting) do
      if groups.share(moment.members, members) then
         append(records, moment.records)
      end
   end
   append(records, capture(members, is_anything))
   add_positions(positions, records)
   commit(members, records)
   drop_captured(members, is_anything)
   forget_waiting(members, #waiting)
   for _, participant in ipairs(participants.list) do
      if participants.is_of(participant, members) then
         participant.is_late = nil
      end
   end
end

-- The place of the newest moment of these sources that is free, as are all their moments before it;
-- nil if there is none. (Moments of other sources before it may be held.)
local function newest_free(members)
   local newest
   for i, moment in ipairs(waiting) do
      if groups.share(moment.members, members) then
         if not is_free(moment.members) then
            break
         end
         newest = i
      end
   end
   return newest
end

-- Saves the newest moment that is free, and late participants as they are now.
local function save_free(members)
   local newest = newest_free(members)
   if not newest then
      return
   end
   local records, rest = {}, {}
   for i, moment in ipairs(waiting) do
      if groups.share(moment.members, members) then
         for _, record in ipairs(moment.records) do
            if i <= newest then
               records[#records + 1] = record
            elseif record.participant and record.participant.is_late then
               rest[#rest + 1] = record
            end
         end
      end
   end
   append(records, rest)
   append(records, capture(members, is_late))
   commit(members, records, waiting[newest].seals)
   drop_captured(members, is_late)
   forget_waiting(members, newest)
end

--- A batch of a source has ended, or something was released. `positions`: source -> {text =,
--- last_change = the number of the last change that it accounts for}, of all sources of the group
--- that have a new one, as they are now; nil where one of them is not known now.
--- `members`: the sources of the group, as a set, which is changed.
--- `is_moment`: a batch has ended, so that this is a moment to remember.
--- Returns true if these positions are saved, or wait to be saved. Raises the error of a sink or of
--- the state file; called again, it goes on from there.
function checkpoint.advance(positions, members, is_moment)
   if not is_moment then -- at the end of a batch, values of other sources may have been released
      lineage.clear_released()
   end
   for source in pairs(members) do
      members[source] = lineage.newest_batch(source)
   end
   if positions and is_free(members) then
      save_now(members, positions)
      return true
   end
   local is_taken = positions ~= nil and is_moment and not is_amid(members)
   if is_taken then
      local records = capture(members, is_punctual)
      add_positions(positions, records)
      remember(members, records)
      drop_captured(members, is_punctual)
   end
   save_free(members)
   return is_taken
end

-- ---- end ----

-- Where there is no source, no batch ever ends: state is saved when the program ends.
local function save_state()
   local records = {}
   for _, participant in ipairs(participants.list) do
      if participant.kind == "state" then
         participant.capture(participant, records)
      end
   end
   raw.save(records)
end

--- The program ends in good order, and nothing more will be written: closes the sinks.
function checkpoint.finish()
   if raw.source_count() == 0 then
      save_state()
   end
   for _, participant in ipairs(participants.list) do
      local sink = participant.sink
      if sink and sink.flush and participant.is_dirty and raw.source_count() == 0 then
         participants.call(sink, "flush")
      end
      if sink and sink.close then
         participants.call(sink, "close")
      end
   end
end

return checkpoint
