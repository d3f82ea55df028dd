-- pgcdc.sinks.postgres.orphans: rows of a target that its source does not have, found and removed.
-- SPDX-License-Identifier: MIT
--
--    a reading of the source begins,     rows are upserted, and their     all of it was read:
--    and the table is not empty          keys collected in the target     rows without a key there
--                                                                         are orphans: removed
--    table    1 2 3 4                    1 2 3 4 5                        1 2 4 5
--    keys                                1 2   4 5                        -
--
-- All of that happens in the sink's transactions, with its rows and its savepoint: whatever is
-- killed, the keys are those of the rows that were written, and what is owed is done later. Keys
-- are in a table of the target, so memory is bounded. A table that is empty when the reading begins
-- has no orphans, and nothing is collected. In a history an orphan's version ends, and it stays.
--
-- Nothing is removed that may not be an orphan:
-- * rows that were there before we wrote to the table, unless `existing` says so;
-- * rows of a table to which others write;
-- * if not all sources that feed the sink were read, or an operator may have dropped rows that it
--   had passed on before, or a source had rows and none of them came to the sink.
--
-- What is known of a sink's rows is stored beside its savepoint, see orphan_state.

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"
local feeds = require "pgcdc.delivery.feeds"
local orphan_keys = require "pgcdc.sinks.postgres.orphan_keys"
local orphan_state = require "pgcdc.sinks.postgres.orphan_state"
local other_writers = require "pgcdc.sinks.postgres.other_writers"
local postgres_target = require "pgcdc.sinks.postgres.target"

local orphans = {}

local Orphans = {}
Orphans.__index = Orphans

local referenced = { ["23503"] = true, ["23001"] = true }

-- ---- what is stored ----

local SUFFIX = other_writers.SUFFIX

local FIND = answer.question(
   "SELECT savepoint FROM pgcdc.position WHERE pipeline = $1 AND sink = $2",
   { savepoint = "text?" })

local SAVE = [[
   INSERT INTO pgcdc.position (pipeline, sink, savepoint) VALUES ($1, $2, $3)
   ON CONFLICT (pipeline, sink) DO UPDATE SET savepoint = EXCLUDED.savepoint, saved = now()]]

local function copy(value)
   return value and raw.decode(raw.encode(value))
end

-- Reads what is stored under the name of this pipeline, or of a former one. Sets is_known: we have
-- written to the table before.
function Orphans:load()
   local connection, name = self.sink.connection, self.sink.name
   local function read(pipeline, sink)
      local row = connection:maybe(FIND, pipeline, sink)
      return row and row.savepoint
   end
   local text = read(connection.pipeline, name .. SUFFIX)
   self.is_known = text ~= nil or not connection.is_new[name]
      or raw.kept("commit", name)[""] ~= nil
   self.state = text and orphan_state.decode(text)
   for _, pipeline in ipairs(self.is_known and {} or other_writers.former_pipelines()) do
      text = read(pipeline, name .. SUFFIX)
      if text or read(pipeline, name) then
         self.is_known, self.is_reset = true, true
         self.state = text and orphan_state.decode(text)
         break
      end
   end
   self.is_loaded = true
end

-- ---- what the sink asks ----

function Orphans:begin_reading(source, seal)
   self.begins[#self.begins + 1] = { name = raw.source_name(source), seal = seal }
end

--- The source's table was truncated, after what was sealed up to this number.
function Orphans:empty(source, seal)
   for _, part in ipairs(self.sink.sealed) do
      for _, layout in ipairs(part.layouts) do
         layout.is_over = true
      end
   end
   self.begins[#self.begins + 1] = { name = raw.source_name(source), seal = seal, is_empty = true }
end

--- False if it is known that there was no table when the sink stored something last: what was
--- stored is where its sources are, and no row.
function Orphans:has_had_table()
   return not self.state or self.state.table ~= nil
end

function Orphans:owes()
   return self.state ~= nil and self.state.reading ~= nil or #self.begins > 0
end

-- True if deletes of the source are told from now on, and were not before.
function Orphans:wants_reading(source)
   local name = raw.source_name(source)
   local position = raw.kept("position", name)[""]
   if not feeds.facts(source).deletes or not position or not self.is_known or self.is_reset then
      return false
   elseif self.state then
      return self.state.tells[name] == false and not self.state.existing
   end
   -- an older version wrote there
   return not position:find "\nreads " and not position:find "\nstamped_since "
end

--- Adds to a part of a transfer what is to be done in its transaction: `begins`, a list of
--- {name = a source whose reading begins, is_empty = its table was truncated}; `ends_reading`.
function Orphans:plan(part, upto)
   part.begins = {}
   local left = {}
   for _, begin in ipairs(self.begins) do
      if upto and begin.seal >= upto then
         left[#left + 1] = begin
      else
         part.begins[#part.begins + 1] = begin
      end
   end
   self.begins = left
   local is_open = #part.begins > 0 or self.state and self.state.reading
   part.ends_reading = is_open and not upto and not self.waits and feeds.all_read(self.sink)
      or false
   part.reached = self.sink.participant.reached
   self.sink.participant.reached = {}
   self.sink.participant.origin = nil -- so that the next value counts as reached
end

--- The transaction of `part` was undone, and its rows come with those of the next one.
function Orphans:give_back(part)
   for i, begin in ipairs(part.begins) do
      begin.seal = -1
      table.insert(self.begins, i, begin)
   end
   for source in pairs(part.reached or {}) do
      self.sink.participant.reached[source] = true
   end
end

-- ---- in the sink's transaction ----

local function run(self, ...)
   return self.sink.connection:run(...)
end

-- Logs a message once the transaction is committed. `...`: as for string.format.
local function tell(self, level, text, ...)
   self.said[#self.said + 1] = { level = level, text = text:format(...) }
end

-- The table of that name, or nil.
local function find(self, name)
   return postgres_target.find(function(...)
      return run(self, ...)
   end, name)
end

-- The table, or nil; and whether it has rows.
local function look(self)
   local found = find(self, self.sink.table)
   return found, found and self.sink.connection:row(answer.question(
      ("SELECT EXISTS (SELECT FROM %s) AS yes"):format(found.full), { yes = "boolean" })).yes
      or false
end

-- The first flush: what is there was not written by us. Sets work.existing.
local function decide_on_existing(self, found, part)
   if self.is_known
      or other_writers.has_sibling(other_writers.of(self, found, find), "has_written") then
      return
   elseif self.existing then
      self.work.existing = self.existing == "keep" and "keep" or nil
   elseif #part.begins > 0 then
      error(("the table %s in the target has rows that were not written here before: say"
         .. " existing=remove to remove those that the source does not have, or existing=keep to"
         .. " leave them"):format(found.full), 0)
   else
      self.work.existing = "unasked"
   end
end

-- Returns why nothing may be removed, and says so; or nil. `is_empty`: the source has no rows, so
-- that it does not count what an operator has left out.
local function find_obstacle(self, found, is_empty)
   local others = other_writers.of(self, found, find)
   local _, operator = feeds.of(self.sink)
   operator = not is_empty and operator
   local what = ("rows of %s that the source does not have"):format(found.full)
   if self.existing == "remove" and other_writers.has_sibling(others) then
      error(("existing=remove, and other sinks write to %s, too: %s"):format(found.full,
         other_writers.names(others)), 0)
   elseif self.existing == "remove" then
      other_writers.forget(self.sink.connection, others)
   elseif self.existing == "keep" or self.work.existing then
      self.work.existing = self.existing or self.work.existing
      tell(self, "warn", "%s stay there: %s", what, self.work.existing == "keep"
         and "existing=keep" or "it had rows before; existing=remove removes them")
      return "existing"
   elseif #others > 0 then
      tell(self, "warn", "%s are not looked for, since others write to it, too: %s", what,
         other_writers.names(others))
      return "others"
   end
   if operator then
      tell(self, "warn", "%s are not looked for: %s() may have left out rows that they have", what,
         operator)
      return "operator"
   end
   self.work.existing = nil
end

local function start_over(self, found, has_rows, is_empty)
   orphan_keys.drop(self.sink, self.work.reading)
   local reading = { sources = {}, clean = not has_rows and not is_empty }
   self.work.reading = reading
   reading.blocked = has_rows and find_obstacle(self, found, is_empty) or nil
end

-- The table of a source was truncated: all that it has is what comes in this transfer, after that,
-- and later. Sets part.is_emptied: so the target has no rows of it.
local function begin_empty(self, name, part)
   local found, has_rows = look(self)
   if #feeds.of(self.sink) > 1 then
      tell(self, "warn", "%s was truncated, and its rows in %s stay there, since others feed it,"
         .. " too", name, self.sink.table)
   elseif self.sink.mode == "history" then -- what came before is to be written, then closed
      start_over(self, found, has_rows, true)
      self.work.reading.sources[name] = "reached"
      part.ends_reading = true
   elseif not has_rows or not find_obstacle(self, found, true) then
      local reading = self.work.reading
      orphan_keys.drop(self.sink, reading)
      if reading then
         reading.clean = true
      end
      part.is_emptied, part.found = true, found
   end
end

-- The reading of a source begins.
local function begin_source(self, name)
   local found, has_rows = look(self)
   local reading = self.work.reading
   if not reading then
      start_over(self, found, has_rows)
   elseif reading.sources[name] and #feeds.of(self.sink) == 1 then
      start_over(self, found, has_rows)
   elseif reading.sources[name] and not reading.blocked then
      tell(self, "warn", "%s is read again while other sources of %s are read: rows that it does"
         .. " not have may be left; --reset reads all of them", name, self.sink.table)
      reading.blocked = "again"
   end
   self.work.reading.sources[name] = "begun"
end

-- Records which of the sources tell deletes.
local function record_tells(self)
   for _, number in ipairs(feeds.of(self.sink)) do
      local name, facts = feeds.name(number), feeds.facts(number)
      if name then
         self.work.tells[name] = facts.deletes
      end
   end
end

-- The rows of the part are not written yet.
local function begin(self, part)
   if not self.is_loaded then
      self:load()
   end
   self.said, self.work = {}, copy(self.state) or { tells = {} }
   if self.is_reset then
      orphan_keys.drop(self.sink, self.work.reading)
      self.work.reading = nil
   end
   if not self.state then
      local found, has_rows = look(self)
      if has_rows then
         decide_on_existing(self, found, part)
      end
   end
   for _, source in ipairs(part.begins) do
      local begin_reading = source.is_empty and begin_empty or begin_source
      begin_reading(self, source.name, part)
   end
end

--- True if the keys of rows are wanted.
function Orphans:collects()
   local reading = self.work.reading
   return reading and not reading.clean and not reading.blocked or false
end

--- Rows of a layout are in its temporary table: `keys` is SQL that reads their keys.
function Orphans:collect(layout, keys)
   local reading, found = self.work.reading, look(self)
   reading.blocked = orphan_keys.collect(self.sink, reading, found, layout, keys)
   if reading.blocked == "denied" then
      tell(self, "warn", "rows of %s that the source does not have cannot be looked for: grant"
         .. " CREATE on the schema pgcdc, and read the source again with --reset", found.full)
   elseif reading.blocked == "keys" then
      tell(self, "warn", "rows of %s that the source does not have are not looked for: its changes"
         .. " have several keys", found.full)
   end
end

-- Returns true if all of the sources came to the table, and says so if not.
local function is_complete(self, found)
   local reading = self.work.reading
   for _, number in ipairs(feeds.of(self.sink)) do
      local name = feeds.name(number)
      local how = name and reading.sources[name]
      if not how then
         tell(self, "warn", "rows of %s that its sources do not have are not looked for, since %s"
            .. " was not read again: --reset reads all of them", found.full, name or "one of them")
         return false
      elseif how ~= "reached" and feeds.has_rows(number) then
         tell(self, "warn", "rows of %s that the source does not have are not looked for, since no"
            .. " row of %s came here", found.full, name)
         return false
      end
   end
   return true
end

-- The parts of a transfer whose readings are over. Sets `found`, their table, and `removes`: it may
-- have orphans that can be removed.
local function find_ending(parts)
   local list = {}
   for _, part in ipairs(parts) do
      local self = part.sink.orphans
      local reading = self.work.reading
      if part.ends_reading and reading then
         part.sink.connection:set_subject(part.sink.name)
         if part.removes == nil then
            part.found = look(self)
            part.removes = part.found and not reading.clean and not reading.blocked
               and is_complete(self, part.found) or false
         end
         list[#list + 1] = part
      end
   end
   return list
end

local function removal(part)
   return orphan_keys.removal(part.sink, part.sink.orphans.work.reading or {}, part.found)
end

-- Removes the orphans of these parts, in one statement. Returns false if others refer to them.
local function remove(parts)
   local connection, removals, counts, n = parts[1].sink.connection, {}, {}, nil
   local columns = {}
   for i, part in ipairs(parts) do
      removals[i] = ("o%d AS (%s)"):format(i, removal(part))
      counts[i] = ("(SELECT count(*) FROM o%d) AS n%d"):format(i, i)
      columns["n" .. i] = "integer"
   end
   connection:set_subject(parts[1].sink.name)
   local is_done = connection:try(referenced, function()
      n = connection:row(answer.question(("WITH %s SELECT %s"):format(
         table.concat(removals, ", "), table.concat(counts, ", ")), columns))
   end)
   for i, part in ipairs(is_done and parts or {}) do
      part.n_removed, part.removes = part.n_removed + n["n" .. i], false
   end
   return is_done
end

-- Removes the orphans of these parts as far as others do not refer to them: children go before
-- their parents, then those that refer to each other, together. Returns those that must wait.
local function remove_all(parts)
   local left = {}
   for _, part in ipairs(parts) do
      left[#left + 1] = part.removes and not remove { part } and part or nil
   end
   if #left > 0 and #left < #parts then
      return remove_all(left)
   end
   return #left > 1 and remove(left) and {} or left
end

-- A reading is over, and its orphans are removed.
local function end_reading(part)
   local self = part.sink.orphans
   if part.n_removed > 0 then
      tell(self, "info", "rows of %s that the source does not have were %s", part.found.full,
         self.sink.mode == "history" and "closed" or "removed")
      self.said[#self.said].rows = part.n_removed
   end
   orphan_keys.drop(self.sink, self.work.reading)
   self.work.reading = nil
end

-- Records from which sources rows came.
local function record_reached(self, part)
   local reading = self.work.reading
   for number in pairs(reading and part.reached or {}) do
      local name = feeds.name(number)
      reading.sources[name] = reading.sources[name] and "reached"
   end
end

-- Others refer to orphans: they stay until another sink of this target has removed its own.
local function wait(self)
   if not self.was_referenced then
      tell(self, "warn", "rows of %s that the source does not have are referenced by others: they"
         .. " stay until those are gone", (look(self)).full)
   end
   self.waits, self.was_referenced = true, true
end

local function save(self)
   record_tells(self)
   if not self.work.table then
      local found = look(self)
      self.work.table = found and found.name
   end
   local text = raw.encode(self.work)
   if self.is_reset or not self.state or text ~= raw.encode(self.state) then
      run(self, SAVE, self.sink.connection.pipeline, self.sink.name .. SUFFIX, text)
   end
end

-- The transaction of the part is committed.
local function committed(self, part)
   if not self.work then
      return -- it was committed before, and its answer was lost
   end
   for _, line in ipairs(self.said) do
      raw.log(line.level, line.text, { sink = self.sink.name, rows = line.rows })
   end
   local has_ended = part.ends_reading and not self.work.reading
   self.state, self.is_known, self.is_reset = self.work, true, false
   self.said, self.work = {}, nil
   for _, sink in ipairs(has_ended and self.siblings or {}) do
      if sink.orphans and sink.orphans.waits then -- for rows that were perhaps ours
         sink.orphans.waits = false
         feeds.set_due(sink)
      end
   end
end

-- Those parts of a transfer whose sink looks for orphans.
local function parts_of(transfer)
   local parts = {}
   for _, part in ipairs(transfer) do
      parts[#parts + 1] = part.sink.orphans and part or nil
   end
   return parts
end

-- Takes away the rows of sources whose tables were truncated. Nothing that stays can refer to them:
-- then the source would not have been truncated.
local function empty(parts)
   local list = {}
   for _, part in ipairs(parts) do
      if part.is_emptied and part.found then
         part.removes, list[#list + 1] = true, part
      end
   end
   for _, part in ipairs(remove_all(list)) do
      part.sink.connection:run(removal(part))
   end
   for _, part in ipairs(list) do
      tell(part.sink.orphans, "info", "its source was truncated: all rows of %s were removed",
         part.found.full)
      part.removes, part.found, part.n_removed = nil, nil, 0
   end
end

--- The transaction of a transfer has begun, and nothing is written yet. Sets `is_emptied` in parts
--- of which nothing is to be written that was taken before the table was truncated.
function orphans.begin(transfer)
   local parts = parts_of(transfer)
   for _, part in ipairs(parts) do
      part.sink.connection:set_subject(part.sink.name)
      part.removes, part.n_removed, part.is_emptied = nil, 0, false
      begin(part.sink.orphans, part)
   end
   empty(parts)
end

local function note_all_reached(parts)
   for _, part in ipairs(parts) do
      record_reached(part.sink.orphans, part)
   end
end

--- All keys of a transfer are collected, and not all is written. Returns what is to be run with the
--- last of it, a list of SQL that returns a row for each row it removes, and a function that is to
--- be given how many rows each of them removed.
function orphans.removals(transfer)
   local parts, list, removing = parts_of(transfer), {}, {}
   note_all_reached(parts)
   for _, part in ipairs(find_ending(parts)) do
      if part.removes then
         list[#list + 1] = removal(part)
         removing[#list] = part
      end
   end
   return list, function(counts)
      for i, part in ipairs(removing) do
         part.n_removed, part.removes = counts[i], false
      end
   end
end

--- The rows of a transfer are written.
function orphans.finish(transfer)
   local parts, is_waiting = parts_of(transfer), {}
   note_all_reached(parts)
   local ending = find_ending(parts)
   for _, part in ipairs(remove_all(ending)) do
      part.sink.connection:set_subject(part.sink.name)
      wait(part.sink.orphans)
      is_waiting[part] = true
   end
   for _, part in ipairs(ending) do
      if not is_waiting[part] then
         end_reading(part)
      end
   end
   for _, part in ipairs(parts) do
      save(part.sink.orphans)
   end
end

--- The transaction of a transfer is committed.
function orphans.committed(transfer)
   for _, part in ipairs(parts_of(transfer)) do
      committed(part.sink.orphans, part)
   end
end

local siblings = setmetatable({}, { __mode = "k" }) -- connection -> list of sinks

--- What a sink knows of its rows; nil where it has no key to know them by. `existing`: "keep",
--- "remove" or nil.
function orphans.new(sink, existing)
   local list = siblings[sink.connection] or {}
   siblings[sink.connection] = list
   list[#list + 1] = sink
   if sink.mode == "append" then
      return nil
   end
   return setmetatable({ sink = sink, existing = existing, begins = {}, said = {},
                         siblings = list }, Orphans)
end

return orphans
