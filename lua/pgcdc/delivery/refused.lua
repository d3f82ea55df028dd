-- pgcdc.delivery.refused: rows that a target refuses for now, because of others that it lacks yet.
-- SPDX-License-Identifier: MIT
--
--    child   batch 7: row (1, parent 5)   refused: a foreign key, there is no parent 5
--    child   batch 8: row (2, parent 1)   waits with batch 7
--    parent  batch 3: row 5               saved; now batches 7 and 8 are tried again, together
--
-- While its rows are refused, a group of sources goes on, since a later change may make the rows
-- fit (a delete of the child, say). The sinks keep the rows, and no position of the group is saved.
-- The rows are tried again when another group was saved, and from time to time. If no sink is known
-- that may bring the missing rows, the program ends after a while; if it ends anyway while rows
-- wait, it ends with the error.
--
-- A sink says so by raising `refused.problem(...)` from its flush, which must have undone all.

local raw = require "pgcdc.raw"
local groups = require "pgcdc.delivery.groups"
local lineage = require "pgcdc.delivery.lineage"
local participants = require "pgcdc.delivery.participants"
local timer = require "pgcdc.timer"
local troubles = require "pgcdc.delivery.troubles"

local refused = {}

local PATIENCE = 20 -- seconds, if no sink is known that may bring the missing rows
local LONGEST_WAIT = 10 -- seconds between two tries
local REMINDER = 300 -- seconds between two warnings
local SHARE = 5 -- tries take at most a fifth of the time
local LEAST = 0.001

-- The groups that wait, by raw.now(): {members = set of their sources, text = of the error, sink =
-- the name of the one that refused, began = when it first did, since = when the patience began,
-- patience = seconds, warned = when, reads = rows of a first snapshot among those that wait, wait =
-- seconds to the next try, earliest = when the next try may be, timer = for it, is_due = it may be
-- now}.
local entries = {}
local is_ending = false -- the program is about to end: each try is the last one

local Problem = { __tostring = function(e)
   return e.message
end }

-- error -> {partners =, reads =}. No fields: a script may catch the error.
local facts = setmetatable({}, { __mode = "k" })

--- Makes the error for a sink to raise. `partners`: other sinks that may bring what is missing;
--- `reads`: how many of the rows that wait stem from a first snapshot.
function refused.problem(message, partners, reads)
   local problem = setmetatable({ message = message }, Problem)
   facts[problem] = { partners = partners, reads = reads }
   return problem
end

--- The error itself if `refused.problem` made it, else nil.
function refused.of(err)
   return rawequal(getmetatable(err), Problem) and err or nil
end

--- True if the rows of any group wait.
function refused.any()
   return #entries > 0
end

-- The names of the sources, with commas between.
local function names_of(entry)
   return table.concat(groups.names(entry.members), ",")
end

-- Takes the entry of these sources out of the list, and returns it, or nil. There are several if
-- groups were united since: then it is the oldest, with the sources of all.
local function take(members)
   local entry, left = nil, {}
   for _, candidate in ipairs(entries) do
      if not groups.share(candidate.members, members) then
         left[#left + 1] = candidate
      else
         for source in pairs(candidate.members) do
            (entry or candidate).members[source] = true
         end
         if candidate.timer then
            candidate.timer:cancel()
         end
         entry = entry or candidate
      end
   end
   entries = left
   return entry
end

-- Asks the host for another try.
local function set_due(entry)
   entry.is_due = true
   raw.hold_back(true)
   lineage.set_released()
end

-- Plans another try after so many seconds, by a timer that `set` makes.
local function set_timer(entry, set, seconds)
   if entry.timer then
      entry.timer:cancel()
   end
   entry.timer = set(math.max(seconds, LEAST), function()
      entry.timer = nil
      set_due(entry)
   end)
end

-- Something was saved, perhaps what other groups wait for: they are tried again. (--once waits for
-- these tries, but not for those that come from time to time.)
local function wake_others()
   for _, entry in ipairs(entries) do
      set_timer(entry, timer.window, entry.earliest - raw.now())
   end
end

--- True if the rows of these sources wait, and another try is not due. `is_moment`: a batch has
--- ended, which may have brought what is missing, so the next try comes soon.
function refused.is_waiting(members, is_moment)
   local now = raw.now()
   for _, entry in ipairs(entries) do
      local may_try = entry.is_due or is_ending or is_moment and now >= entry.earliest
      if not may_try and groups.share(entry.members, members) then
         if is_moment then
            set_timer(entry, timer.window, entry.earliest - now)
         end
         return true
      end
   end
   return false
end

--- A checkpoint of these sources is over. `is_moment`: it was at the end of a batch.
function refused.saved(members, is_moment)
   local entry = take(members)
   if entry and participants.sink(entry.sink).is_dirty then -- it was not flushed
      entries[#entries + 1], entry.is_due = entry, false
      return set_timer(entry, timer.after, entry.wait)
   elseif entry then
      raw.log("info", "the rows that waited are written", { source = names_of(entry),
         waited = ("%.1f"):format(raw.now() - entry.began) })
   end
   if #entries > 0 and (entry or is_moment) then
      wake_others()
   end
end

-- If a group that may bring what is missing waits, too, each may wait for the other: from now on
-- the two are saved together. Returns true then.
local function unite(entry, partners)
   for _, sink in ipairs(partners) do
      for source in pairs(participants.sink(sink).sources) do
         for _, other in ipairs(entries) do
            if other.members[source] and not entry.members[source] then
               groups.unite(next(entry.members), source)
               other.is_due = true
               return true
            end
         end
      end
   end
   return false
end

local function warn(entry, now)
   if not entry.warned or now - entry.warned > REMINDER then
      entry.warned = now
      raw.log("warn", entry.text, { source = names_of(entry) })
   end
end

--- `sink` refused the rows of these sources by `problem`, after a try of so many seconds.
--- `patience`: seconds that they may need to bring what is missing. Returns true if they wait,
--- false if they have waited long enough.
function refused.add(members, sink, problem, took, patience)
   local now, partners, reads = raw.now(), facts[problem].partners, facts[problem].reads
   local entry = take(members) or { members = {}, began = now, since = now, wait = 0.5, reads = 0,
                                    patience = 0 }
   for member in pairs(members) do
      entry.members[member] = true
   end
   entry.text, entry.sink, entry.is_due = problem.message, sink, false
   entry.wait = math.min(2 * entry.wait, LONGEST_WAIT)
   entry.patience = math.max(entry.patience, PATIENCE + patience)
   entry.earliest = now + SHARE * took
   if #partners > 0 or reads > entry.reads then
      entry.since = now
   end
   entry.reads = reads
   entries[#entries + 1] = entry
   if now - entry.since > entry.patience then
      return false
   end
   troubles.refuse(sink, problem, entry.wait)
   warn(entry, now)
   if unite(entry, partners) then
      set_due(entry)
   else
      set_timer(entry, timer.after, math.max(entry.wait, SHARE * took))
   end
   return true
end

--- The program is about to end: what waits is tried once more.
function refused.set_ending()
   is_ending = true
end

--- The program ends. Raises the error of what still waits, unless it was told to stop: then what
--- waits comes again at the next start.
function refused.finish()
   for _, entry in ipairs(entries) do
      if raw.sleep(0) then
         error(entry.text, 0)
      end
      raw.log("warn", "rows that wait are not written: they come again at the next start",
         { source = names_of(entry) })
   end
end

return refused
