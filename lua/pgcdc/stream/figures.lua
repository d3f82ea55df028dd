-- pgcdc.stream.figures: what the host shows of a running pipeline.
-- SPDX-License-Identifier: MIT
--
-- One table of plain values, as src/lua/script_figures.c reads it. It is made about once a second
-- while somebody watches, and never otherwise.

local raw = require "pgcdc.raw"
local feeds = require "pgcdc.delivery.feeds"
local graph = require "pgcdc.stream.graph"
local lineage = require "pgcdc.delivery.lineage"
local participants = require "pgcdc.delivery.participants"
local stream = require "pgcdc.stream.stream"
local topics = require "pgcdc.stream.topics"
local troubles = require "pgcdc.delivery.troubles"
local workers = require "pgcdc.stream.workers"

local figures = {}

local pipeline, node_count -- the text of the graph, of so many nodes

-- How many values filters have kept back, by the number of the one source that they came from.
-- (Where sources have met before, nobody can tell of which it was.)
local function count_filtered()
   local filtered = {}
   for _, node in ipairs(stream.nodes) do
      local count = node.count_filtered and node.count_filtered() or 0
      if count > 0 then
         local sources = stream.sources_of(node)
         if #sources == 1 then
            local number = sources[1].number
            filtered[number] = (filtered[number] or 0) + count
         end
      end
   end
   return filtered
end

local function list_sources()
   local list, filtered, handlers = {}, count_filtered(), graph.handlers()
   for number = 1, raw.source_count() do
      local it = troubles.of(number)
      list[number] = { filtered = filtered[number], failed = it.failed, retries = it.retries,
                       dead_letters = it.dead_letters, trouble = it.trouble,
                       handlers = handlers[number] }
   end
   return list
end

local counted = { "records", "bytes", "retries", "refused", "unsent_rows", "unsent_bytes" }

-- What a sink of ours counts, into `to`. (The method of a script's own sink is not called: it may
-- do anything.)
local function add_stats(to, participant)
   local stats = participant.stats(participant.sink)
   to.has_stats, to.is_open, to.is_tripped = true, stats.is_open, stats.is_tripped
   for _, name in ipairs(counted) do
      to[name] = stats[name]
   end
end

local function list_sinks()
   local list = {}
   for _, participant in ipairs(participants.list) do
      local sink = participant.sink
      if sink then
         local to = {
            name = participant.name, kind = participant.about, trouble = troubles.sinks[sink],
            flush_seconds = participant.took, flushed = participant.flushed,
            sources = feeds.of(sink),
         }
         if participant.stats then
            add_stats(to, participant)
         end
         list[#list + 1] = to
      end
   end
   return list
end

-- The operators that have held something.
local function list_operators()
   local list, count_of = {}, {}
   for _, node in ipairs(stream.nodes) do
      count_of[node.kind] = (count_of[node.kind] or 0) + 1
      if node.holding then
         local held, since = lineage.held_by(node)
         local numbers = {}
         for i, source in ipairs((stream.sources_of(node))) do
            numbers[i] = source.number
         end
         local name = type(node.name) == "string" and node.name
            or ("%s %d"):format(node.kind, count_of[node.kind])
         list[#list + 1] = { name = name, kind = node.kind, place = graph.place_of(node),
                             held = held, since = since, sources = numbers }
      end
   end
   return list
end

--- All of it.
function figures.all()
   if node_count ~= #stream.nodes then
      pipeline, node_count = raw.encode(graph.describe()), #stream.nodes
   end
   return {
      sources = list_sources(), sinks = list_sinks(), operators = list_operators(),
      letters = troubles.letters, graph = pipeline, partitions = topics.partitions(),
      workers = workers.list(),
   }
end

return figures
