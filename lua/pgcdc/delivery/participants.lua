-- pgcdc.delivery.participants: what is saved with positions: state, and how far sinks have come.
-- SPDX-License-Identifier: MIT
--
-- A *keeper* is a sink, or a piece of state that a script named. When a batch ends its changes
-- are captured as records {kind, name, key, value}, all of them text (value: false to remove it),
-- and saved in the same transaction as the position: see checkpoint.
--
-- Sources that a keeper has met are a *group*: their positions are saved together, as they are at
-- one moment, since what the keeper holds then stems from all of them.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local hold = require "pgcdc.delivery.lineage"

local keep = {}

--- All keepers, in the order in which they were made: {kind =, name =, sources = set of numbers,
--- capture = function(keeper, records), is_dirty =, is_late =, ...}.
keep.list = {}

--- The newest batch of each source, and whether it has not ended yet.
keep.seqs, keep.is_open = {}, {}

local by_name = {}  -- "kind name" -> keeper
local by_sink = {}
local sink_count = 0
local group = {}    -- source -> group, a list of sources; shared by its members
local all_in_one = false -- something belongs to all sources

--- Which sink is being called just now, or nil: its failure is not the fault of one change.
keep.in_sink = nil

local Later = { __tostring = function(e)
   return e.message
end }

--- An error for sinks whose target is away for a while: the host tries again after so many
--- seconds, as long as it takes.
function keep.later(message, seconds)
   return setmetatable({ message = message, again_after = seconds }, Later)
end

--- The seconds of an error that `keep.later` made; nil of any other.
function keep.again_after(err)
   return getmetatable(err) == Later and err.again_after or nil
end

-- ---- groups ----

local function group_of(source)
   if not group[source] then
      group[source] = { source }
      raw.group(source, source)
   end
   return group[source]
end

local function unite(a, b)
   local into, from = group_of(a), group_of(b)
   if into ~= from then
      for _, source in ipairs(from) do
         into[#into + 1] = source
         group[source] = into
         raw.group(source, into[1])
      end
   end
end

hold.meet = unite -- lest a value of one source finds another partner after a crash

local function meet(keeper, batch)
   if not keeper.sources[batch.source] then
      local other = next(keeper.sources)
      keeper.sources[batch.source] = true
      if other then
         unite(other, batch.source)
      end
   end
end

-- The keeper meets the value in hand for the first time since something changed.
local function note(keeper)
   local origin = hold.current
   keeper.origin, keeper.live = origin, hold.live
   if origin == nil then
      return
   elseif origin.held then
      meet(keeper, origin)
   else
      for i = 1, #origin do
         meet(keeper, origin[i])
      end
   end
   if origin ~= hold.live then
      keeper.is_late = true
   end
end

--- Tells that the keeper is about to take the value in hand.
function keep.touch(keeper)
   keeper.is_dirty = true
   if hold.current ~= keeper.origin or hold.live ~= keeper.live then
      note(keeper)
   end
end

--- Adds a keeper, whose name is new among its kind.
function keep.add(keeper)
   keeper.sources = {}
   keep.list[#keep.list + 1] = keeper
   by_name[keeper.kind .. " " .. keeper.name] = keeper
   raw.keeps(true)
   return keeper
end

--- The keeper of that kind and name, or nil.
function keep.find(kind, name)
   return by_name[kind .. " " .. name]
end

--- True if the keeper may have to do with one of these sources, a set of numbers.
function keep.is_of(keeper, members)
   if all_in_one or next(keeper.sources) == nil then
      return true
   end
   for source in pairs(keeper.sources) do
      if members[source] then
         return true
      end
   end
   return false
end

--- Something that cannot tell which source it hears of: all sources are one group from now on.
function keep.unite_all()
   all_in_one = true
   for i = 2, raw.source_count() do
      unite(1, i)
   end
end

--- True if some state belongs to all sources.
function keep.is_everybodys()
   return all_in_one
end

--- The host has begun a batch of a source.
function keep.enter(source, seq)
   keep.seqs[source], keep.is_open[source] = seq, true
   hold.enter(source, seq)
end

-- ---- sinks ----

--- Calls a method of a sink. Should it fail, `keep.in_sink` tells which one.
function keep.call(sink, method, ...)
   local before = keep.in_sink
   keep.in_sink = sink
   local result = sink[method](sink, ...)
   keep.in_sink = before
   return result
end

local function capture_sink(keeper, records)
   local sink = keeper.sink
   if not sink.flush then
      return
   end
   local token = keep.call(sink, "flush")
   if token ~= nil then
      local text = raw.encode(token)
      if text ~= keeper.token then
         keeper.token = text
         records[#records + 1] = { "sink", keeper.name, "", text, keeper = keeper }
      end
   end
end

--- True if there is any sink.
function keep.has_sinks()
   return sink_count > 0
end

--- Makes a sink known, if it is not yet. Returns its keeper.
function keep.sink(sink)
   if by_sink[sink] then
      return by_sink[sink]
   end
   local name = sink.name or ("sink " .. sink_count + 1)
   if by_name["sink " .. name] then
      check.fail("two sinks are named '%s': give one of them another name", name)
   end
   local keeper = keep.add { kind = "sink", name = name, sink = sink, capture = capture_sink }
   by_sink[sink] = keeper
   sink_count = sink_count + 1
   if keep.on_sink then
      keep.on_sink(keeper)
   end
   return keeper
end

--- Set when the program has started: what is to be done with a sink that is made now.
keep.on_sink = nil

return keep
