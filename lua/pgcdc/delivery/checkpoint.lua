-- pgcdc.delivery.checkpoint: what may be saved, and when.
-- SPDX-License-Identifier: MIT
--
-- While an operator holds values (see lineage) what was captured (see participants) waits. When
-- they are let go it is saved, with the positions of its own moment. Two cases:
-- * Nothing of the group is held any more: what is true now is saved. That is exact.
-- * Something newer is held: what was captured with the newest moment that is free is saved, which
--   is exact for every keeper that values reach at once. A keeper that they reach by way of the
--   operator that held them is *late*: it is saved as it is now. What it was told of newer batches
--   comes again after a crash, and nothing is lost.

local raw = require "pgcdc.raw"
local hold = require "pgcdc.delivery.lineage"
local keep = require "pgcdc.delivery.participants"

local settle = {}

local waiting = {}  -- captured, not saved: {members = {[source] = seq}, records =, index =,
                    -- seals = {[keeper] = number}}
local unsaved = {}  -- captured, neither saved nor waiting, since a sink failed: source -> records
local serial        -- of the newest savepoint

local function append(records, more, wanted)
   for _, record in ipairs(more) do
      if not wanted or record.keeper and wanted(record.keeper) then
         records[#records + 1] = record
      end
   end
end

-- Captures what has changed in the keepers of these sources for which `wanted` is true. Returns
-- that, with what was captured before a sink failed, as records; they are returned again until
-- `settle_captured` is called.
local function capture(members, wanted)
   local all, home = {}, nil
   for source in pairs(members) do
      append(all, unsaved[source] or {})
      unsaved[source] = nil
      home = math.min(home or source, source)
   end
   unsaved[home] = all
   for _, keeper in ipairs(keep.list) do
      if (keeper.is_dirty or keeper.is_always_dirty) and keep.is_of(keeper, members)
         and not (keeper.sink and keeper.sink.recall) and wanted(keeper) then
         keeper.capture(keeper, all)
         keeper.is_dirty = false
      end
   end
   local records = {}
   append(records, all, wanted)
   return records
end

-- What was captured for these sources is saved, or remembered.
local function settle_captured(members, wanted)
   for source in pairs(members) do
      local left = {}
      append(left, unsaved[source] or {}, function(keeper)
         return not wanted(keeper)
      end)
      unsaved[source] = #left > 0 and left or nil
   end
end

local function is_anything()
   return true
end

local function is_late(keeper)
   return keeper.is_late
end

local function is_punctual(keeper)
   return not keeper.is_late
end

-- True if nothing of these sources is held, up to the batches named.
local function is_free(members)
   for source, seq in pairs(members) do
      local oldest = hold.oldest(source)
      if oldest and oldest.seq <= seq then
         return false
      end
   end
   return true
end

-- True if something is held of a batch that has not ended yet. That is no moment to remember: what
-- is let go later in that batch reaches keepers as if it were not late.
local function is_amid(members)
   for source, seq in pairs(members) do
      local newest = hold.newest(source)
      if keep.is_open[source] and newest and newest.seq == seq then
         return true
      end
   end
   return false
end

local function shares(members, others)
   for source in pairs(members) do
      if others[source] then
         return true
      end
   end
   return false
end

local function member_names(members)
   local names = {}
   for source in pairs(members) do
      names[#names + 1] = raw.source_name(source)
   end
   table.sort(names)
   return names
end

-- The token of a sink that is among the records, or nil.
local function find_token(keeper, records)
   for i = #records, 1, -1 do
      if records[i].keeper == keeper and keeper.sink then
         return records[i][4]
      end
   end
end

local function array(list)
   return setmetatable(list, raw.array_metatable)
end

-- Those that can share a transaction (whose `together` is the same) are flushed in one. `upto`:
-- keeper -> how far; all of it, where there is none.
local function flush_targets(targets, savepoint, upto)
   local done = {}
   for _, keeper in ipairs(targets) do
      local sink = keeper.sink
      if not done[sink] then
         local parts = {}
         for _, other in ipairs(targets) do
            if other.sink == sink or sink.together and other.sink.together == sink.together then
               parts[#parts + 1] = { sink = other.sink, upto = upto[other] }
               done[other.sink] = true
            end
         end
         if sink.flush_together then
            keep.call(sink, "flush_together", savepoint, parts)
         else
            keep.call(sink, "flush", savepoint, upto[keeper])
         end
         for _, part in ipairs(parts) do
            keep.sink(part.sink).is_dirty = part.upto ~= nil
         end
      end
   end
end

-- The sinks of these sources that store savepoints and were written to.
local function dirty_targets(members)
   local targets = {}
   for _, keeper in ipairs(keep.list) do
      if keeper.sink and keeper.sink.recall and keeper.is_dirty and keep.is_of(keeper, members) then
         targets[#targets + 1] = keeper
      end
   end
   return targets
end

-- What is written to a sink from now on can be told from what was written before.
local function seal(members)
   local seals = {}
   for _, keeper in ipairs(dirty_targets(members)) do
      seals[keeper] = keeper.sink.seal and keeper.sink:seal()
   end
   return seals
end

-- Lets the sinks that store savepoints with their data do so, then saves it here. `seals`: those of
-- the moment that is saved; nil for now.
local function commit(members, records, seals)
   local targets, upto = {}, {}
   for _, keeper in ipairs(dirty_targets(members)) do
      if seals and keeper.sink.seal and not keeper.is_late then
         upto[keeper] = seals[keeper]
      end
      if not seals or upto[keeper] or keeper.is_late or not keeper.sink.seal then
         targets[#targets + 1] = keeper
      end
   end
   if #targets > 0 then
      serial = (serial or raw.decode(raw.kept("serial", "")[""] or "0")) + 1
      records[#records + 1] = { "serial", "", "", raw.encode(serial) }
      for _, keeper in ipairs(targets) do
         records[#records + 1] = { "commit", keeper.name, "", raw.encode {
            serial = serial, sources = array(member_names(members)) } }
      end
      local plain = {}
      for i, record in ipairs(records) do
         plain[i] = { record[1], record[2], record[3], record[4] }
      end
      local savepoint = raw.encode { serial = serial, records = array(plain) }
      flush_targets(targets, savepoint, upto)
   end
   raw.save(records)
   for _, keeper in ipairs(keep.list) do
      local saved = find_token(keeper, records)
      if saved and keeper.sink.saved then
         keep.call(keeper.sink, "saved", raw.decode(saved))
      end
   end
end

local function position_records(positions, records)
   for source, text in pairs(positions) do
      records[#records + 1] = { "position", raw.source_name(source), "", text }
   end
end

local function forget_waiting(members, upto)
   local left = {}
   for i, moment in ipairs(waiting) do
      if i > upto or not shares(moment.members, members) then
         left[#left + 1] = moment
      end
   end
   waiting = left
   raw.waits(#waiting > 0)
end

-- True if whatever frees `moment` frees what is true now as well: they may be one.
local function can_join(moment, members)
   for source, seq in pairs(moment.members) do
      local newest = hold.newest(source)
      if not members[source] or newest and newest.seq > seq then
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
      moment = shares(candidate.members, members) and candidate or moment
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
   raw.waits(true)
end

-- Nothing is held: what is true now.
local function save_now(members, positions)
   local records = {}
   for _, moment in ipairs(waiting) do
      if shares(moment.members, members) then
         append(records, moment.records)
      end
   end
   append(records, capture(members, is_anything))
   position_records(positions, records)
   commit(members, records)
   settle_captured(members, is_anything)
   forget_waiting(members, #waiting)
   for _, keeper in ipairs(keep.list) do
      if keep.is_of(keeper, members) then
         keeper.is_late = nil
      end
   end
end

-- The newest moment that waits such that nothing holds it any more, nor one before it. (Of other
-- sources, those before it may be: they were of another group then.)
local function newest_free(members)
   local newest
   for i, moment in ipairs(waiting) do
      if shares(moment.members, members) then
         if not is_free(moment.members) then
            break
         end
         newest = i
      end
   end
   return newest
end

local function save_free(members)
   local newest = newest_free(members)
   if not newest then
      return
   end
   local records, rest = {}, {}
   for i, moment in ipairs(waiting) do
      if shares(moment.members, members) then
         for _, record in ipairs(moment.records) do
            if i <= newest then
               records[#records + 1] = record
            elseif record.keeper and record.keeper.is_late then
               rest[#rest + 1] = record
            end
         end
      end
   end
   append(records, rest)
   append(records, capture(members, is_late))
   commit(members, records, waiting[newest].seals)
   settle_captured(members, is_late)
   forget_waiting(members, newest)
end

--- A batch of a source has ended, or something was let go. `positions`: source -> text, of all
--- sources of the group, as they are now; nil where one of them cannot be told now.
--- `is_moment`: a batch has ended, so that this is a moment to remember.
--- Returns true if these positions are saved, or remembered to be saved.
function settle.settle(positions, members, is_moment)
   hold.has_released = hold.has_released and is_moment -- of other sources, if it is one
   for source in pairs(members) do
      members[source] = keep.seqs[source] or 0
   end
   if positions and is_free(members) then
      save_now(members, positions)
      return true
   end
   local is_taken = positions ~= nil and is_moment and not is_amid(members)
   if is_taken then
      local records = capture(members, is_punctual)
      position_records(positions, records)
      remember(members, records)
      settle_captured(members, is_punctual)
   end
   save_free(members)
   return is_taken
end

-- ---- birth ----

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
      local keeper = keep.find("sink", name)
      local theirs = keeper and keeper.recalled
      if keeper and not (theirs and theirs.serial >= number) then
         return false
      end
   end
   return true
end

-- The target went back, or lost everything.
local function go_back(keeper, mine, theirs)
   raw.log("warn", theirs and "the target is older than the state file: going on from there" or
      "the target has lost its position: reading the tables again", { sink = keeper.name })
   local records = { { "commit", keeper.name, "", false } }
   for _, name in ipairs(mine.sources) do
      records[#records + 1] = { "position", name, "", false }
   end
   for _, record in ipairs(theirs and theirs.records or {}) do
      if record[1] == "position" or record[1] == "commit" and record[2] == keeper.name then
         records[#records + 1] = record
      end
   end
   raw.save(records)
end

-- Sinks have stored savepoints together with their data. A crash before these were saved here is
-- no harm: we go on from there.
local function catch_up(all)
   for _, keeper in ipairs(all) do
      local kept = raw.kept("commit", keeper.name)[""]
      local mine, theirs = kept and raw.decode(kept), keeper.recalled
      if theirs and (not mine or theirs.serial > mine.serial) then
         if is_complete(theirs) then
            raw.log("info", "the target is ahead of the state file: going on from there",
               { sink = keeper.name })
            raw.save(theirs.records)
         else
            raw.log("warn", "one of several targets is ahead of the others: the last batch comes "
               .. "again, and may be there twice", { sink = keeper.name })
         end
      elseif mine and (not theirs or theirs.serial < mine.serial) then
         go_back(keeper, mine, theirs)
      end
   end
end

-- Calls `f` until no target is away. False: the program was asked to stop.
local function insist(f)
   while true do
      local ok, err = pcall(f)
      if ok then
         return true
      elseif not keep.again_after(err) then
         error(err, 0)
      end
      raw.log("warn", tostring(err), { retry_in = err.again_after })
      keep.in_sink = nil
      if not raw.sleep(err.again_after) then
         return false
      end
   end
end

local function recall(keeper)
   return insist(function()
      local text = keep.call(keeper.sink, "recall")
      keeper.recalled = text and raw.decode(text) or false
   end)
end

-- Once, before the first write, which may come while the script loads.
local function prepare(keeper)
   local sink = keeper.sink
   if keeper.is_prepared then
      return
   end
   if sink.recall and keeper.recalled == nil then -- made when all others are at work already
      recall(keeper)
      catch_up { keeper }
   end
   keeper.token = raw.kept("sink", keeper.name)[""]
   local is_ready = not sink.restore or insist(function()
      keep.call(sink, "restore", keeper.token and raw.decode(keeper.token))
   end)
   keeper.is_prepared = is_ready
   return is_ready
end
keep.prepare = prepare

local function restore(keeper)
   local sink = keeper.sink
   if not keeper.is_prepared and not prepare(keeper) then
      return -- asked to stop
   end
   if sink.flush and not sink.recall then -- so that a crash before the first save is seen
      local records = {}
      keeper.capture(keeper, records)
      if raw.source_count() > 0 then
         raw.save(records)
      end
   end
   keeper.is_dirty = false
end

--- The script is loaded and the state file is open.
function settle.start()
   if keep.is_everybodys() then
      keep.unite_all()
   end
   local targets = {}
   for _, keeper in ipairs(keep.list) do
      if keeper.sink and keeper.sink.recall and not keeper.is_prepared then
         targets[#targets + 1] = keeper
         if not recall(keeper) then
            return
         end
      end
   end
   catch_up(targets)
   for i = 1, #keep.list do
      if keep.list[i].sink then
         restore(keep.list[i])
      end
   end
   keep.on_sink = restore
end

-- ---- end ----

-- Where there is no source nothing is ever settled: what was named is saved at the end.
local function save_state()
   local records = {}
   for _, keeper in ipairs(keep.list) do
      if keeper.kind == "state" then
         keeper.capture(keeper, records)
      end
   end
   raw.save(records)
end

--- The program ends in good order: nothing more will be written.
function settle.finish()
   if raw.source_count() == 0 then
      save_state()
   end
   for _, keeper in ipairs(keep.list) do
      local sink = keeper.sink
      if sink and sink.flush and keeper.is_dirty and raw.source_count() == 0 then
         keep.call(sink, "flush")
      end
      if sink and sink.close then
         keep.call(sink, "close")
      end
   end
end

return settle
