-- pgcdc.delivery.feeds: which sources feed a sink, and whether all of their rows have come to it.
-- SPDX-License-Identifier: MIT
--
--    users_a ── filter ──┐
--                        ├── sink      the sink is fed by users_a and users_b. It has got all that
--    users_b ────────────┘             they have when both were read from their start to the end,
--                                      and nothing of that is held
--
-- A *reading* is the snapshot of a source, or a later one, as after a failover. A sink is told of
-- readings if it has asked for that (`watch`); then it has these methods:
--    sink:begin_reading(number)    a source that feeds it is read, and all its rows are to come
--    sink:empty(number)            the table of a source that feeds it was truncated, and no
--                                  deletes come: all that came from there is to be taken away
--    sink:owes()                   returns true if it has something to do when readings are over;
--                                  it does that in its next flush, if `all_read`
--    sink:wants_reading(number)    the name of a source is known, and it goes on from its position.
--                                  Returns true if the sink needs all its rows once more
--
-- A sink that has this method is told, before any row comes, what the sources read that are
-- attached to it, also through operators that make other values of changes:
--    sink:add_table(table)         {id =, started =}, as raw.copy_columns has them; may be told
--                                  again. Returns true if it wants a flush for that
-- A handler may write to a sink by hand, and nobody knows which: such a sink counts as fed by all
-- sources.

local raw = require "pgcdc.raw"
local lineage = require "pgcdc.delivery.lineage"
local participants = require "pgcdc.delivery.participants"

local feeds = {}

local declared = {}   -- source -> what `declare` was given
local inputs = setmetatable({}, { __mode = "k" })  -- sink -> list of functions, see `add`
local by_hand = setmetatable({}, { __mode = "k" }) -- sink -> true
local watchers = {}   -- list of sinks
local names = {}      -- source -> its name, once it is known
local tables = {}     -- source -> {id =, started =}, see `set_table`
local is_read = {}    -- source -> true while no reading is under way or to come
local has_rows = {}   -- source -> true if its last reading brought rows
local is_due = false

-- ---- what is known of sources and sinks ----

--- To be called when a source is declared. `facts`: {deletes = it tells deletes, old = its deletes
--- have the old row, capture = how changes are found, starts_with_snapshot =, leads_to = a function
--- that returns true if all that it finds goes to these sinks (a set) and nowhere else}.
function feeds.declare(number, facts)
   declared[number] = facts
end

--- What `declare` was given for a source.
function feeds.facts(number)
   return declared[number]
end

--- The name of a source; nil until it is known.
function feeds.name(number)
   return names[number]
end

--- To be called for --check, which reads no position (see `resolve`).
function feeds.set_name(number, name)
   names[number] = name
end

--- To be called when a sink is attached to a stream. `find`: a function that returns the sources
--- that feed it there, as a list of numbers; an operator on the way that may drop a row which it
--- has passed on before, or nil; and whether every change of these sources comes to the sink.
function feeds.add(sink, find)
   inputs[sink] = inputs[sink] or {}
   table.insert(inputs[sink], find)
end

--- To be called when a handler writes to a sink by itself.
function feeds.set_by_hand(sink)
   by_hand[sink] = true
end

--- The sources that feed a sink, as a list of numbers; and an operator, as in `add`.
function feeds.of(sink)
   local list, seen, dropping = {}, {}, nil
   local is_known = inputs[sink] and not by_hand[sink]
   for _, find in ipairs(is_known and inputs[sink] or {}) do
      local found, operator = find()
      is_known = is_known and #found > 0
      dropping = dropping or operator
      for _, number in ipairs(found) do
         list[#list + 1] = not seen[number] and number or nil
         seen[number] = true
      end
   end
   if not is_known then
      list = {}
      for number = 1, raw.source_count() do
         list[number] = number
      end
   end
   return list, dropping
end

--- True if every change of the sources that feed the sink comes to it.
function feeds.passes_all(sink)
   for _, find in ipairs(inputs[sink] or {}) do
      if not select(3, find()) then
         return false
      end
   end
   return inputs[sink] ~= nil and not by_hand[sink]
end

local function is_fed_by(sink, number)
   for _, other in ipairs(feeds.of(sink)) do
      if other == number then
         return true
      end
   end
   return false
end

-- Makes sure that the next checkpoint of the source flushes the sink, even if no value comes.
local function ask_for_flush(sink, number)
   participants.attach(sink.participant, number)
   participants.set_dirty(sink.participant)
end

-- True if the source is attached to the sink, whether or not handlers write to that as well.
local function is_attached(sink, number)
   for _, find in ipairs(inputs[sink]) do
      for _, other in ipairs((find())) do
         if other == number then
            return true
         end
      end
   end
   return false
end

--- To be called before changes come whose columns are these, as raw.copy_columns has them.
function feeds.set_table(number, columns)
   if not columns.table_id then
      return
   end
   tables[number] = { id = columns.table_id, started = columns.started }
   for sink in pairs(inputs) do
      if sink.add_table and is_attached(sink, number) and sink:add_table(tables[number]) then
         ask_for_flush(sink, number)
      end
   end
end

--- The tables that the sources of a batch, or of a list of batches, read.
function feeds.tables_of(origin)
   local found = {}
   for _, batch in ipairs(origin and (origin.held and { origin } or origin) or {}) do
      found[#found + 1] = tables[batch.source]
   end
   return found
end

-- ---- readings ----

--- From now on the sink is told of readings.
function feeds.watch(sink)
   watchers[#watchers + 1] = sink
end

--- True if all rows of the sources that feed a sink have come to it.
function feeds.all_read(sink)
   for _, number in ipairs(feeds.of(sink)) do
      if not is_read[number] or lineage.oldest_held(number) then
         return false
      end
   end
   return true
end

--- True if the last reading of a source brought rows, as far as that is known.
function feeds.has_rows(number)
   return has_rows[number] or false
end

--- Makes a checkpoint due now, so that a sink can do in its flush what it owes.
function feeds.set_due(sink)
   participants.set_dirty(sink.participant)
   is_due = true
end

--- True, once, if a checkpoint is due.
function feeds.take_due()
   local was = is_due
   is_due = false
   return was
end

--- Hook: the name of a source is known, its position is not read yet.
function feeds.resolve(number)
   local name = raw.source_name(number)
   names[number] = name
   local wanting, all = nil, {}
   for _, sink in ipairs(watchers) do
      all[sink] = true
      wanting = wanting or is_fed_by(sink, number) and sink:wants_reading(number) and sink
   end
   if not wanting then
      return
   end
   local facts = declared[number]
   if facts.starts_with_snapshot and facts.leads_to(all) then
      raw.log("warn", "deletes are told from now on: the table is read again, to find what was"
         .. " deleted before", { source = name })
      raw.save { { "position", name, "", false } }
   else
      raw.log("warn", "deletes are told from now on, and what was deleted before stays in the"
         .. " target: --reset=" .. name .. " reads the table again",
         { source = name, sink = wanting.name })
   end
end

--- Hook: the source is read from its start, and all its rows are to come.
function feeds.begin_reading(number)
   is_read[number], has_rows[number] = nil, nil
   for _, sink in ipairs(watchers) do
      if is_fed_by(sink, number) then
         ask_for_flush(sink, number)
         sink:begin_reading(number)
      end
   end
end

--- Hook: the table of a source was truncated by now, and its deletes are not told.
function feeds.empty(number)
   for _, sink in ipairs(watchers) do
      if is_fed_by(sink, number) then
         ask_for_flush(sink, number)
         sink:empty(number)
         is_due = true
      end
   end
end

--- Hook: rows of a source are about to be delivered.
function feeds.enter(number)
   has_rows[number] = true
end

--- Hook: no reading of the source is under way or to come. `rows`: how many its last one had.
function feeds.end_reading(number, rows)
   is_read[number] = true
   has_rows[number] = has_rows[number] or rows > 0
   for _, sink in ipairs(watchers) do
      if is_fed_by(sink, number) and sink:owes() then
         ask_for_flush(sink, number)
         is_due = true
      end
   end
end

return feeds
