-- pgcdc.sinks.postgres.refusal: what a target refused, because of a value or other rows, in words.
-- SPDX-License-Identifier: MIT

local groups = require "pgcdc.delivery.groups"
local participants = require "pgcdc.delivery.participants"
local refused = require "pgcdc.delivery.refused"
local answer = require "pgcdc.postgres.answer"
local quote = require("pgcdc.names").quote

local refusal = {}

local FOREIGN_KEY = "23503"
local NOT_NULL, NO_VALUE = "23502", "22P02"

local ROOT = answer.question([[SELECT coalesce(pg_catalog.pg_partition_root(oid), oid)::int8 AS oid
   FROM pg_catalog.to_regclass($1) oid WHERE oid IS NOT NULL]], { oid = "integer" })

-- ---- values ----

-- The text with the names of columns in the place of those that they have in temporary tables.
local function name_columns(transfer, message)
   return (message:gsub("COPY (pgcdc_rows_%d+)[%a_]*, line %d+, column c(%d+)", function(name, n)
      for _, part in ipairs(transfer) do
         for _, layout in ipairs(part.layouts) do
            local column = layout.temporary == name and layout.columns[tonumber(n)]
            if column then
               return ("COPY %s, column %s"):format(layout.facts.full, quote(column.target))
            end
         end
      end
   end))
end

-- True if a column with this name is in the key of a mirror.
local function is_in_key(transfer, name)
   for _, part in ipairs(transfer) do
      for _, layout in ipairs(part.layouts) do
         if refusal.is_key(part.sink, layout, name) then
            return true
         end
      end
   end
   return false
end

--- True if the sink is a mirror, and a column with this name is in the key of its layout.
function refusal.is_key(sink, layout, name)
   for _, column in ipairs(sink.mode == "mirror" and layout.key or {}) do
      if column.target == name then
         return true
      end
   end
   return false
end

--- The message with what to do about the value that the target refuses with this SQLSTATE.
--- is_key(name): true if a column is in the key of a mirror.
function refusal.advise(state, message, is_key)
   local type_name, value = message:match '^invalid input value for enum (.-): "(.-)"'
   local column = message:match '^null value in column "(.-)"'
   if state == NO_VALUE and type_name then
      return ("%s: if it is new in the source, ALTER TYPE %s ADD VALUE '%s' in the target")
         :format(message, type_name, (value:gsub("'", "''")))
   elseif state == NOT_NULL and column and is_key(column) then
      return message .. ": it is in the key of the mirror, which has no NULL: name other columns"
         .. " as pk=, or leave such rows out with the source's where="
   end
   return message
end

--- Makes the message of `problem`, as the connection raised it, say what to do about values that
--- the target refuses.
function refusal.explain(transfer, problem)
   local state = type(problem) == "table" and problem.sqlstate
   if state == NO_VALUE or state == NOT_NULL then
      problem.message = refusal.advise(state, name_columns(transfer, problem.message),
         function(name) return is_in_key(transfer, name) end)
   end
end

-- ---- other rows ----

--- True if the rows of this transfer may fit later, though a constraint forbade them: `problem` as
--- the connection raised it.
function refusal.may_pass(transfer, problem)
   local is_mirror = false
   for _, part in ipairs(transfer) do
      is_mirror = is_mirror or part.sink.mode == "mirror"
   end
   return type(problem) == "table" and (problem.sqlstate == FOREIGN_KEY or is_mirror)
end

-- The foreign key that the message names, or nil.
local function find_key(transfer, message)
   local found
   for _, part in ipairs(transfer) do
      for _, layout in ipairs(part.layouts) do
         for _, key in ipairs(layout.foreign_keys or {}) do
            if message:find(key.name, 1, true) and #key.name > #(found and found.name or "") then
               found = key
            end
         end
      end
   end
   return found
end

-- The sources whose changes the sink has got, as text; those that are read together are one.
local function sources_of(sink)
   local is_there, list = {}, {}
   for source in pairs(participants.sink(sink).sources) do
      local leader = groups.leader(source)
      list[#list + 1] = not is_there[leader] and leader or nil
      is_there[leader] = true
   end
   table.sort(list)
   return table.concat(list, " ")
end

-- The sinks that may bring what is missing: those that write to one of the two tables of the key,
-- while another sink writes to the other table what it gets by other polls.
local function find_partners(connection, key)
   local writers, partners = { [key.child] = {}, [key.parent] = {} }, {}
   for _, sink in ipairs(connection.sinks) do
      local root = connection:maybe(ROOT, sink.table)
      if root and writers[root.oid] then
         table.insert(writers[root.oid], sink)
      end
   end
   for _, child in ipairs(writers[key.child]) do
      for _, parent in ipairs(writers[key.parent]) do
         if sources_of(child) ~= sources_of(parent) then
            partners[#partners + 1], partners[#partners + 2] = parent, child
         end
      end
   end
   return partners
end

-- True if a sink of the transfer writes to the table with this oid.
local function has_table(transfer, oid)
   for _, part in ipairs(transfer) do
      for _, layout in ipairs(part.layouts) do
         if layout.root == oid then
            return true
         end
      end
   end
   return false
end

-- A text for the log: what the rows wait for, and what the user can do.
local function explain(transfer, problem, key, partners)
   if problem.sqlstate ~= FOREIGN_KEY and transfer.is_limited then
      return "a foreign key acts on deletes of this table, so that its values can only change hands"
         .. " if the constraint is DEFERRABLE: make it so in the target"
   elseif problem.sqlstate ~= FOREIGN_KEY then
      return "a row of the target that did not change in the source since holds the value: if the"
         .. " source has deleted it, let the source tell deletes, or remove it; if the source"
         .. " allows both, drop the constraint in the target"
   elseif #partners > 0 then
      local is_child = has_table(transfer, key.child) and not has_table(transfer, key.parent)
      return ("the rows wait for those of '%s'; sources with the same `together` are read in one"
         .. " snapshot and need not wait"):format(partners[is_child and 1 or 2].name)
   elseif key and not has_table(transfer, key.parent) then
      return ("no sink writes to %s: mirror it too, or drop the constraint in the target"):format(
         key.parent_name)
   elseif key and not has_table(transfer, key.child) then
      return ("no sink writes to %s, whose rows refer to rows that are deleted: mirror it too, or"
         .. " drop the constraint in the target"):format(key.child_name)
   end
   return "the source has sent no such row: is it left out by a filter or where=?"
end

local function count_reads(transfer)
   local reads = 0
   for _, part in ipairs(transfer) do
      for _, layout in ipairs(part.layouts) do
         local count, changed = layout.lines:count()
         reads = reads + count - changed
      end
   end
   return reads
end

--- Raises the error of a transfer that was refused and undone.
function refusal.raise(connection, transfer, problem)
   local key = problem.sqlstate == FOREIGN_KEY and find_key(transfer, problem.message)
   local partners = key and find_partners(connection, key) or {}
   error(refused.problem(("%s: %s (%s): %s"):format(connection.subject, problem.message,
      problem.sqlstate, explain(transfer, problem, key, partners)), partners,
      count_reads(transfer)), 0)
end

return refusal
