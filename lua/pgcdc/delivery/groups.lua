-- pgcdc.delivery.groups: sources whose positions are saved together.
-- SPDX-License-Identifier: MIT
--
--    orders ────┐
--               ├── zip ── sink A         orders and payments are one group,
--    payments ──┘                         visits is a group of its own
--    visits ─────────────── sink B
--
-- What sink A holds stems from orders and payments. So the positions of these two are saved in one
-- transaction, both as they are at one moment: after a crash, values of the two meet the same
-- partners again. Groups only grow. The host is told which source is in which group.

local raw = require "pgcdc.raw"

local groups = {}

local leader = {}            -- source -> the first one of those that are read together with it
local group = {}             -- source -> the list of the members of its group, which they share
local is_single_group = false -- all sources are one group, also those that are declared later

local function group_of(source)
   if not group[source] then
      group[source] = { source }
      raw.group(source, source)
   end
   return group[source]
end

--- From now on the two sources, given by their numbers, are in one group.
function groups.unite(a, b)
   local into, from = group_of(a), group_of(b)
   if into ~= from then
      for _, source in ipairs(from) do
         into[#into + 1] = source
         group[source] = into
         raw.group(source, into[1])
      end
   end
end

--- The two sources are read in one snapshot, and are one group; `a` was declared first.
function groups.read_together(a, b)
   leader[b] = a
   groups.unite(a, b)
end

--- The first one of the sources that are read in one snapshot with this one: itself if it is alone.
function groups.leader(source)
   return leader[source] or source
end

--- All sources are one group from now on: something cannot tell which of them it stems from. To be
--- called again when another source was declared.
function groups.unite_all()
   is_single_group = true
   for i = 2, raw.source_count() do
      groups.unite(1, i)
   end
end

--- True if `unite_all` was called.
function groups.is_single_group()
   return is_single_group
end

--- True if the two sets of sources have one in common.
function groups.share(members, others)
   for source in pairs(members) do
      if others[source] then
         return true
      end
   end
   return false
end

--- The names of a set of sources, sorted.
function groups.names(members)
   local names = {}
   for source in pairs(members) do
      names[#names + 1] = raw.source_name(source)
   end
   table.sort(names)
   return names
end

return groups
