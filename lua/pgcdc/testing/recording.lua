-- pgcdc.testing.recording: reads the file of --record, see src/capture/recording.h.
-- SPDX-License-Identifier: MIT
--
--    for step in recording.steps "orders.rec" do ... end
--
-- A *step* is what a run feeds at once: {source =, schema =, table =, at = seconds since 1970,
-- begins = true if the program was started meanwhile, and either is_ready = true or items = what
-- the batch has: changes and events in their order}. Items stay lines of the file until one is
-- asked for (`recording.item`): a batch may be large.
--
-- What a run of the program had begun and did not finish comes again in the next run, so it is left
-- out; at the end of the file it is a step, as it came to the script.

local raw = require "pgcdc.raw"

local recording = {}

local VERSION = 1

-- Days since 1970 of a date.
local function days(year, month, day)
   year = month <= 2 and year - 1 or year
   local era = year // 400
   local of_era = year - era * 400
   local of_year = (153 * (month + (month > 2 and -3 or 9)) + 2) // 5 + day - 1
   return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
end

-- Seconds since 1970 of a time as recordings have it; nil if it is none.
local function seconds(text)
   local year, month, day, hour, minute, second =
      tostring(text):match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):([%d.]+)Z$"
   if not year then
      return nil
   end
   return days(tonumber(year), tonumber(month), tonumber(day)) * 86400 + hour * 3600
      + minute * 60 + tonumber(second)
end

local function decode(reader, line)
   local facts = raw.decode(line)
   if type(facts) ~= "table" then
      error(("%s: line %d is no line of a recording"):format(reader.path, reader.n), 0)
   end
   return facts
end

-- The batch of a source that is not over yet.
local function open_batch(reader, name)
   local batch = reader.open[name]
   if not batch then
      batch = { source = name, items = {} }
      reader.open[name] = batch
      reader.order[#reader.order + 1] = name
   end
   return batch
end

-- Ends the batch of a source. Returns it, or nil if it has none.
local function close_batch(reader, name, at)
   local batch = reader.open[name]
   for i, other in ipairs(reader.order) do
      if other == name then
         table.remove(reader.order, i)
         break
      end
   end
   reader.open[name] = nil
   if batch then
      local told = reader.tables[name] or {}
      batch.at, batch.schema, batch.table = at, told.schema, told.table
   end
   return batch
end

local takers = {}

function takers.recording(reader, facts)
   if facts.recording ~= VERSION then
      error(("%s is a recording of another version of the program"):format(reader.path), 0)
   end
   reader.classes, reader.open, reader.order = {}, {}, {}
   reader.begins = true
end

function takers.class(reader, facts)
   reader.classes[facts.class] = raw.recorded_class(facts)
   reader.sources[facts.class] = facts.source
   reader.tables[facts.source] = { schema = facts.schema, table = facts.table }
end

function takers.op(reader, facts, line)
   local name = reader.sources[facts.of]
   if not name or not reader.classes[facts.of] then
      error(("%s: line %d is of a table that is not told"):format(reader.path, reader.n), 0)
   end
   reader.at = seconds(facts.ts) or reader.at
   local items = open_batch(reader, name).items
   items[#items + 1] = { line = line, class = reader.classes[facts.of] }
end

function takers.event(reader, facts)
   reader.at = seconds(facts.at) or reader.at
   if facts.event == "batch" then
      return close_batch(reader, facts.source, reader.at)
   elseif facts.event == "ready" then
      open_batch(reader, facts.source)
      local step = close_batch(reader, facts.source, reader.at)
      step.is_ready, step.items = true, nil
      return step
   end
   local items = open_batch(reader, facts.source).items
   items[#items + 1] = { event = facts.event, facts = facts }
end

-- Takes a line. Returns the step that it completes, or nil.
local function take(reader, line)
   local facts = decode(reader, line)
   for _, kind in ipairs { "op", "event", "class", "recording" } do
      if facts[kind] ~= nil then
         if kind ~= "recording" and not reader.classes then
            break
         end
         return takers[kind](reader, facts, line)
      end
   end
   error(("%s is no recording: --record writes one"):format(reader.path), 0)
end

-- The next step, or nil.
local function next_step(reader)
   for line in reader.lines do
      reader.n = reader.n + 1
      local step = take(reader, line)
      if step then
         step.begins, reader.begins = reader.begins, false
         return step
      end
   end
   if reader.order[1] then
      return close_batch(reader, reader.order[1], reader.at)
   end
end

--- A function that returns the steps of a recording, one at each call, nil after the last one.
--- Raises what is wrong with the file.
function recording.steps(path)
   local file, why = io.open(path, "rb")
   if not file then
      error(why, 0)
   end
   local reader = { path = path, n = 0, lines = file:lines(), sources = {}, tables = {}, order = {},
                    open = {}, at = 0 }
   return function()
      return next_step(reader)
   end
end

--- The change that an item is, made anew at each call; or nil, and its event and what is known of
--- that.
function recording.item(item)
   if item.event then
      local facts = {}
      for name, value in pairs(item.facts) do
         facts[name] = value
      end
      facts.event, facts.at = nil, nil
      return nil, item.event, facts
   end
   return raw.recorded_change(item.class, raw.decode(item.line))
end

return recording
