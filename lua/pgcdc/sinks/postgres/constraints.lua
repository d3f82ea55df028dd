-- pgcdc.sinks.postgres.constraints: what the target's constraints say about the order of writes.
-- SPDX-License-Identifier: MIT
--
-- Everything here runs inside the sink's transaction. `run(sql, ...)` returns rows, or raises what
-- the server says.

local answer = require "pgcdc.postgres.answer"

local constraints = {}

-- Foreign keys that have the table $1 on either side. Of a partition the table that is partitioned
-- counts.
local FOREIGN_KEYS = answer.question([[
   SELECT DISTINCT c.conname AS name, child.oid::int8 AS child, parent.oid::int8 AS parent,
      child.relname AS child_name, parent.relname AS parent_name
   FROM pg_catalog.pg_constraint c
      JOIN pg_catalog.pg_class child
         ON child.oid = coalesce(pg_catalog.pg_partition_root(c.conrelid), c.conrelid)
      JOIN pg_catalog.pg_class parent
         ON parent.oid = coalesce(pg_catalog.pg_partition_root(c.confrelid), c.confrelid)
   WHERE c.contype = 'f' AND $1::oid IN (child.oid, parent.oid)]], {
   name = "text", child = "integer", parent = "integer", child_name = "text",
   parent_name = "text" })

-- Columns of the table $1 that unique indexes and exclusion constraints are about, except the one
-- unique index that is on exactly the columns $2.
local GUARDS = answer.question([[
   SELECT a.attname AS name, i.indexrelid::int8 AS index,
      a.attnotnull OR coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false)
         OR t.typnotnull AS wants_value
   FROM pg_catalog.pg_index i
      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum > 0
         AND NOT a.attisdropped
      JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
   WHERE i.indrelid = $1 AND (i.indisunique OR i.indisexclusion) AND i.indisready
      AND (a.attnum = ANY (i.indkey::int2[]) OR EXISTS (SELECT FROM pg_catalog.pg_depend d
         WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = i.indexrelid
            AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = i.indrelid
            AND d.refobjsubid = a.attnum))
      AND NOT (i.indpred IS NULL AND i.indexprs IS NULL
         AND i.indnkeyatts = pg_catalog.json_array_length($2::json)
         AND NOT EXISTS (SELECT FROM pg_catalog.json_array_elements_text($2::json) n
            WHERE n::int2 <> ALL ((i.indkey::int2[])[0:i.indnkeyatts - 1])))
   ORDER BY i.indexrelid, a.attnum]], {
   name = "text", index = "integer", wants_value = "boolean" })

-- Whether a foreign key does something when a row of the table $1 is deleted, or forbids it even
-- if the row is there again when the statement ends.
local IS_HELD = answer.question([[
   SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint
      WHERE contype = 'f' AND confrelid = $1 AND confdeltype <> 'a') AS yes]], { yes = "boolean" })

local ROOT = answer.question(
   "SELECT coalesce(pg_catalog.pg_partition_root($1::oid::regclass), $1::oid)::int8 AS oid",
   { oid = "integer" })

--- The table that counts for foreign keys: of a partition the one that is partitioned.
function constraints.root(run, oid)
   return ROOT:row(run, oid).oid
end

--- The foreign keys that have the table on either side, `oid` as by `root`: a list of
--- {name =, child =, parent = oids, child_name =, parent_name =}.
function constraints.foreign_keys(run, oid)
   return FOREIGN_KEYS:rows(run, oid)
end

--- The columns of the table that are in unique indexes or exclusion constraints, for each of these:
--- a list of {name =, index = its oid, wants_value = NULL is refused, or may be there once only}.
--- The unique index on exactly the columns whose numbers are `key` (a list, as JSON) is left out.
function constraints.guards(run, oid, key)
   return GUARDS:rows(run, oid, key)
end

--- True if a row of the table cannot be deleted and inserted again in one statement as if nothing
--- had been.
function constraints.is_held(run, oid)
   return IS_HELD:row(run, oid).yes
end

--- Sorts `list`, whose elements have a table's oid as `root`, so that the tables that others refer
--- to come first, as far as that is possible; `foreign_keys`: as above. Elements with the same
--- table keep their order.
function constraints.sort(list, foreign_keys)
   local parents, elements, sorted, is_seen = {}, {}, {}, {}
   for _, element in ipairs(list) do
      parents[element.root] = {}
      elements[element.root] = elements[element.root] or {}
      table.insert(elements[element.root], element)
   end
   for _, key in ipairs(foreign_keys) do
      if parents[key.child] and parents[key.parent] then
         table.insert(parents[key.child], key.parent)
      end
   end
   local function visit(root)
      if is_seen[root] then
         return
      end
      is_seen[root] = true
      for _, parent in ipairs(parents[root]) do
         visit(parent)
      end
      table.move(elements[root], 1, #elements[root], #sorted + 1, sorted)
   end
   for _, element in ipairs(list) do
      visit(element.root)
   end
   return sorted
end

return constraints
