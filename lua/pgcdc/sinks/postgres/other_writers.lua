-- pgcdc.sinks.postgres.other_writers: who else writes to the table of a sink.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"
local orphan_state = require "pgcdc.sinks.postgres.orphan_state"

local other_writers = {}

--- After the name of a sink, in pgcdc.position: what is stored of its rows.
other_writers.SUFFIX = ": rows"

local OTHERS = answer.question([[
   SELECT pipeline, sink, savepoint FROM pgcdc.position
   WHERE pg_catalog.right(sink, 6) = ': rows' AND savepoint IS NOT NULL]], {
   pipeline = "text", sink = "text", savepoint = "text" })

--- The pipelines that the state file was before it was reset, the newest first.
function other_writers.former_pipelines()
   local list = {}
   for name in (raw.kept("former", "")[""] or ""):gmatch "%S+" do
      table.insert(list, 1, name)
   end
   return list
end

-- True if the sink has written to its target before.
local function is_writer(sink)
   return sink.orphans and sink.orphans.is_known or sink.connection.is_new[sink.name] == false
end

--- Other sinks than that of the orphans `self` that write to the table `found`: those of this
--- program, and those that are stored here, as a list of {pipeline =, name =, is_ours = it is of
--- this pipeline, has_written = rows that are there may be ours by it}. `find(self, name)`: the
--- table of that name, or nil.
function other_writers.of(self, found, find)
   local list, seen = {}, { [self.sink.name] = true }
   for _, sink in ipairs(self.siblings) do
      local theirs = sink ~= self.sink and find(self, sink.table)
      if theirs and theirs.name == found.name then
         list[#list + 1] = { pipeline = self.sink.connection.pipeline, name = sink.name,
                             is_ours = true, has_written = is_writer(sink) }
         seen[sink.name] = true
      end
   end
   local is_former = {}
   for _, pipeline in ipairs(other_writers.former_pipelines()) do
      is_former[pipeline] = true
   end
   for _, row in ipairs(self.sink.connection:rows(OTHERS)) do
      local name = row.sink:sub(1, -1 - #other_writers.SUFFIX)
      local state = orphan_state.find(row.savepoint)
      local is_ours = row.pipeline == self.sink.connection.pipeline
      if state and state.table == found.name and not is_former[row.pipeline]
         and not (is_ours and seen[name]) then
         list[#list + 1] = { pipeline = row.pipeline, name = name, is_ours = is_ours,
                             has_written = is_ours }
      end
   end
   return list
end

--- True if another sink of this pipeline writes to the table; `field` "has_written": or has done
--- so.
function other_writers.has_sibling(others, field)
   for _, other in ipairs(others) do
      if other[field or "is_ours"] then
         return true
      end
   end
   return false
end

--- Their names, as text.
function other_writers.names(others)
   local names = {}
   for i, other in ipairs(others) do
      names[i] = other.name
   end
   return table.concat(names, ", ")
end

--- What other pipelines have stored does not count any more.
function other_writers.forget(connection, others)
   for _, other in ipairs(others) do
      connection:run("UPDATE pgcdc.position SET savepoint = NULL WHERE pipeline = $1 AND sink = $2",
         other.pipeline, other.name .. other_writers.SUFFIX)
   end
end

return other_writers
