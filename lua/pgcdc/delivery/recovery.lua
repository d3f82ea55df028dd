-- pgcdc.delivery.recovery: at a start, compares what sinks have with what is saved.
-- SPDX-License-Identifier: MIT
--
-- A run may have ended between any two steps of a checkpoint: sinks made durable what they had got
-- (flush), then the state file was written. So each sink is told at the start where to go on.
--
--    a sink that returns tokens        the state file has   `restore` sets the sink to it:
--    (a file, say)                     token {length: 40}   a file of 55 bytes is cut to 40
--
--    a sink that stores savepoints     state file  target
--    with its data (a database)             7        7      nothing is to be done
--                                           7        8      the run died in between: the records
--                                                           that the target has are saved here
--                                           7        6      the target was restored from a backup:
--                                                           its positions count; if it has none,
--                                                           the tables are read again
--
--    a sink that `prepares`            state file  target
--    (what is prepared is told          7, 8 is      7       what is prepared is dropped: its data
--    from other savepoints by a         prepared             comes again
--    checksum)                                       8       what is prepared is saved here
--                                       7            9       another state file has written since:
--                                                            refused, unless the target has the
--                                                            whole savepoint, and the script has
--                                                            no states
--                                       7            -       it has forgotten: going on from 7
--                                                           (so of others that `has_forgotten`)
--
-- A savepoint that was stored by a state file which was reset since does not count.
--
-- A savepoint may be about several sinks, in several targets. It counts if all of them have it.
-- While a target is away the start waits.

local raw = require "pgcdc.raw"
local groups = require "pgcdc.delivery.groups"
local participants = require "pgcdc.delivery.participants"
local troubles = require "pgcdc.delivery.troubles"

local recovery = {
   is_exact = true, -- every sink has what the saved positions say; set by this file only
}

-- Saves what a target has and the state file has not. The script may have loaded its states
-- already, and would save them again as they were before.
local function adopt(records)
   raw.save(records)
   for _, record in ipairs(records) do
      local participant = record[1] == "state" and participants.find("state", record[2])
      if participant then
         participant.adopt(participant, record[3], type(record[4]) == "string" and record[4] or nil)
      end
   end
end

-- ---- savepoints ----

-- True for {kind, name, key, value}, all of them text, or value false or null.
local function is_record(record)
   if type(record) ~= "table" then
      return false
   end
   for i = 1, 4 do
      if type(record[i]) ~= "string" and (i < 4 or record[i] and record[i] ~= raw.null) then
         return false
      end
   end
   if record[1] == "commit" and type(record[4]) == "string" then
      local ok, commit = pcall(raw.decode, record[4])
      return ok and type(commit) == "table" and math.type(commit.serial) == "integer"
         and type(commit.sources) == "table"
   end
   return true
end

-- True for a savepoint, or for the short text that stands for one where there is little room.
local function is_savepoint(x)
   local ok = type(x) == "table" and math.type(x.serial) == "integer"
      and (x.owner == nil or type(x.owner) == "string")
   if ok and x.sha256 ~= nil then
      return type(x.sha256) == "string" and (x.savepoint == nil or is_savepoint(x.savepoint))
   end
   for _, record in ipairs(ok and type(x.records) == "table" and x.records or {}) do
      ok = ok and is_record(record)
   end
   return ok and type(x.records) == "table"
end

-- The savepoint that a text stands for, which a sink has stored. Raises an error if it is none.
local function read_savepoint(text)
   local ok, savepoint = pcall(raw.decode, text)
   return ok and is_savepoint(savepoint) and savepoint
      or error("the savepoint that is stored there cannot be read: somebody else has changed it", 0)
end

-- The sinks that a savepoint is about: name -> serial.
local function partners_of(savepoint)
   local partners = {}
   for _, record in ipairs(savepoint.records) do
      if record[1] == "commit" and record[4] then
         partners[record[2]] = raw.decode(record[4]).serial
      end
   end
   return partners
end

-- True if all sinks that the savepoint is about have stored it, or a later one.
local function is_complete(savepoint)
   for name, number in pairs(partners_of(savepoint)) do
      local participant = participants.find("sink", name)
      local theirs = participant and participant.recalled
      if participant and not (theirs and theirs.serial >= number) then
         return false
      end
   end
   return true
end

-- The target went back to an older savepoint (`theirs`), or lost everything (nil, or false): saves
-- here what it has. `mine`: what is saved here of it.
local function go_back(participant, mine, theirs)
   recovery.is_exact = false
   raw.log("warn", not theirs and "the target has lost its position: reading the tables again"
      or theirs.records and "the target is older than the state file: going on from there"
      or "the target is older than the state file: reading the tables again",
      { sink = participant.name })
   local records = { { "commit", participant.name, "", false } }
   if theirs and not theirs.records then
      records[1][4] = raw.encode { serial = theirs.serial, sources = mine.sources,
                                   target = mine.target }
   end
   for _, name in ipairs(mine.sources) do
      records[#records + 1] = { "position", name, "", false }
   end
   for _, record in ipairs(theirs and theirs.records or {}) do
      if record[1] == "position" or record[1] == "commit" and record[2] == participant.name then
         records[#records + 1] = record
      end
   end
   raw.save(records)
end

local function has_states()
   for _, participant in ipairs(participants.list) do
      if participant.kind == "state" then
         return true
      end
   end
   return false
end

-- The target has a newer savepoint than is saved here: saves it here. If the last run stored it,
-- and died then, nothing else is missing here; otherwise, states that changed in between are.
local function go_forward(participant, theirs)
   local is_next = theirs.is_prepared or not participant.sink.prepares
      and (theirs.owner or raw.pipeline()) == raw.pipeline()
   if not theirs.records or not is_next and has_states() then
      raw.stale(("sink '%s': savepoint %d was prepared by another state file%s: name it by "
         .. "--state, or --reset"):format(participant.name, theirs.serial,
         theirs.records and ", and the states of the script are only there" or ""))
   elseif is_complete(theirs) then
      raw.log(is_next and "info" or "warn",
         "the target is ahead of the state file: going on from there", { sink = participant.name })
      adopt(theirs.records)
   else
      recovery.is_exact = false
      raw.log("warn", "one of several targets is ahead of the others: the last batch comes "
         .. "again, and may be there twice", { sink = participant.name })
      if participant.sink.prepares then -- what is prepared next takes the place of this one
         raw.save { participants.commit_record(participant, theirs.records) }
      end
   end
end

-- The target has no savepoint any more: it is of a kind that may forget what it stored.
local function go_on(participant, prepared)
   if not prepared then
      return raw.log("warn", "the target has forgotten its position: going on from that of the "
         .. "state file", { sink = participant.name })
   end
   recovery.is_exact = false
   raw.log("warn", "the target has forgotten its position: the last batch comes again, and may be "
      .. "there twice", { sink = participant.name })
end

-- Compares what a sink has stored with what is saved here, and saves here what counts.
local function compare(participant)
   local kept = raw.kept("commit", participant.name)[""]
   local prepared = raw.kept("prepared", participant.name)[""]
   local mine, theirs = kept and raw.decode(kept), participant.recalled
   if mine and mine.target and participant.target and mine.target ~= participant.target then
      raw.stale(("sink '%s': the target is %s, and the state file is of %s: name that one, or "
         .. "another --state, or --reset"):format(participant.name, participant.target,
         mine.target))
   elseif theirs and (not mine or theirs.serial > mine.serial) then
      go_forward(participant, theirs)
   elseif mine and not theirs
      and (participant.sink.prepares or participant.sink.has_forgotten) then
      go_on(participant, prepared)
   elseif mine and (not theirs or theirs.serial < mine.serial) then
      go_back(participant, mine, theirs)
   end
   if prepared then
      raw.save { { "prepared", participant.name, "", false } }
   end
end

local function catch_up(all)
   for _, participant in ipairs(all) do
      compare(participant)
   end
end

-- ---- one sink ----

-- Calls `f` again and again while a target is away. Returns true when it succeeds, false if the
-- program was asked to stop.
local function await(f)
   while true do
      local ok, err = pcall(f)
      if ok then
         troubles.end_await()
         return true
      elseif not participants.again_after(err) then
         error(err, 0)
      end
      raw.log("warn", tostring(err), { retry_in = err.again_after })
      troubles.await(participants.in_sink, tostring(err), err.again_after)
      participants.leave_sink(nil)
      if not raw.sleep(err.again_after) then
         return false
      end
   end
end

-- True if the owner of a savepoint is a state file that was reset. In a start with --reset all
-- other owners count as such.
local function is_forgotten(owner)
   local former = raw.kept("former", "")[""] or ""
   if (" " .. former):find(" " .. owner .. " ", 1, true) then
      return true
   elseif raw.is_reset and owner ~= raw.pipeline() then
      raw.save { { "former", "", "", former .. owner .. " " } }
      return true
   end
   return false
end

-- The savepoint that a text of a target stands for: {serial =, owner =, records = nil if only
-- another state file has them, is_prepared = it is prepared here}; false if there is none.
local function savepoint_of(participant, text)
   local stored = text and read_savepoint(text)
   if not stored then
      return false
   end
   participant.stored_serial = stored.serial
   if stored.owner and is_forgotten(stored.owner) then
      return false
   elseif not stored.sha256 then
      return stored
   end
   local prepared = raw.kept("prepared", participant.name)[""]
   if prepared and raw.sha256(prepared) == stored.sha256 then
      local savepoint = raw.decode(prepared)
      savepoint.is_prepared = true
      return savepoint
   end
   return stored.savepoint or { serial = stored.serial, owner = stored.owner }
end

-- Asks a sink for the savepoint that it stored last, and which target it has. Returns false if the
-- program is to stop.
local function recall(participant)
   local sink = participant.sink
   return await(function()
      local text = participants.call(sink, "recall")
      raw.confirm() -- who comes late has perhaps taken the target, and is to write nothing to it
      participant.recalled = savepoint_of(participant, text)
      participant.target = sink.identify and participants.call(sink, "identify")
   end)
end

--- Sets a sink to where it goes on from, at its first call for this sink: at the start, or before
--- the first write, which may come while the script loads. Blocks while the target is away. Returns
--- false if the program was asked to stop.
function recovery.prepare(participant)
   local sink = participant.sink
   if participant.is_prepared then
      return true
   end
   if sink.recall and participant.recalled == nil then -- it was made after the start
      recall(participant)
      catch_up { participant }
   end
   participant.token = raw.kept("sink", participant.name)[""]
   local is_ready = not sink.restore or await(function()
      participants.call(sink, "restore", participant.token and raw.decode(participant.token))
   end)
   participant.is_prepared = is_ready
   return is_ready
end

-- ---- all sinks ----

-- Sets a sink to where it goes on from, and saves its token, so that a crash before the first save
-- is noticed. (`saves_itself`: the sink does that before it writes anything.)
local function begin(participant)
   local sink = participant.sink
   if not recovery.prepare(participant) then
      return -- asked to stop
   end
   if sink.flush and not sink.recall and not sink.saves_itself then
      local records = {}
      participant.capture(participant, records)
      if raw.source_count() > 0 then
         raw.save(records)
      end
   end
   -- (what a script wrote while it loaded is flushed with a savepoint, where there is one)
   participant.is_dirty = participant.is_dirty and sink.recall ~= nil
end

--- True if the sink has what the saved positions say, also after a crash, and nothing else. (One
--- that `is_early` may have changes already that come again.) To be called after `start`.
function recovery.is_exact_sink(sink)
   local participant = sink.participant or participants.sink(sink)
   return recovery.is_exact and (sink.recall ~= nil and not sink.is_early
      or participant.token ~= nil or sink.saves_itself and sink.is_exact ~= false)
end

--- To be called when the script is loaded and the state file is open: makes all sinks ready.
--- Returns early if the program was asked to stop.
function recovery.start()
   if groups.is_single_group() then
      groups.unite_all()
   end
   local targets = {}
   for _, participant in ipairs(participants.list) do
      if participant.sink and participant.sink.recall and not participant.is_prepared then
         targets[#targets + 1] = participant
         if not recall(participant) then
            return
         end
      end
   end
   catch_up(targets)
   for i = 1, #participants.list do
      if participants.list[i].sink then
         begin(participants.list[i])
      end
   end
   participants.on_new_sink(begin)
end

return recovery
