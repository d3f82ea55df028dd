-- pgcdc.sinks.postgres.loop: refuses a target whose rows the source would read, for ever.
-- SPDX-License-Identifier: MIT

local answer = require "pgcdc.postgres.answer"
local quote = require("pgcdc.names").quote

local loop = {}

local SERVER = answer.question([[
   SELECT (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())::int8
         AS database, extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text AS started,
      pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
         AS tells_system]],
   { database = "integer", started = "text", tells_system = "boolean" })

local SYSTEM = answer.question(
   "SELECT system_identifier::text AS id FROM pg_catalog.pg_control_system()", { id = "text" })

-- The tables in which rows of $1 are seen, and those whose rows are seen in $1: itself, what it
-- inherits from and what inherits from it; of views those that are made of one table.
local RELATED = answer.question([[
   WITH RECURSIVE view(view, base) AS (
      SELECT r.ev_class, min(d.refobjid) FROM pg_catalog.pg_rewrite r
         JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind = 'v'
         JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass
            AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_class'::regclass
            AND d.refobjid <> r.ev_class
      GROUP BY 1 HAVING count(DISTINCT d.refobjid) = 1),
   up(oid) AS (SELECT $1::oid UNION SELECT n.oid FROM up, LATERAL (
      SELECT inhparent FROM pg_catalog.pg_inherits WHERE inhrelid = up.oid
      UNION ALL SELECT base FROM view WHERE view = up.oid
      UNION ALL SELECT view FROM view WHERE base = up.oid) n(oid)),
   down(oid) AS (SELECT $1::oid UNION SELECT n.oid FROM down, LATERAL (
      SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = down.oid
      UNION ALL SELECT base FROM view WHERE view = down.oid
      UNION ALL SELECT view FROM view WHERE base = down.oid) n(oid))
   SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name
   FROM (SELECT oid FROM up UNION SELECT oid FROM down) r
      JOIN pg_catalog.pg_class c USING (oid)
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace]],
   { oid = "integer", schema = "text", name = "text" })

-- The oids of the sources' tables that are in the target's database. (By its start a server is
-- known apart from copies of its files; that of a standby says nothing of its primary.)
local function tables_here(run, tables)
   local here, oids = SERVER:row(run), {}
   local system = here.tells_system and SYSTEM:row(run).id
   for id, seen in pairs(tables) do
      local cluster, database, oid = id:match "^(.-)/(%d+)/(%d+)$"
      local is_here = (not system or cluster == system)
         and (seen.started == here.started or not seen.started and system)
      if is_here and tonumber(database) == here.database then
         oids[tonumber(oid)] = true
      end
   end
   return oids
end

--- Raises an error if a source reads what is written to the table. `facts`: {full =, oid =};
--- `tables`: those that the sources read, id -> {started =}, as raw.copy_columns has them.
function loop.check(run, facts, tables)
   local oids = tables_here(run, tables)
   for _, row in ipairs(next(oids) and RELATED:rows(run, facts.oid) or {}) do
      if oids[row.oid] then
         local full = quote(row.schema) .. "." .. quote(row.name)
         local what = row.oid == facts.oid and "is the table that the source reads"
            or ("holds rows of %s, which the source reads"):format(full)
         error(("the table %s in the target %s, so that what is written there would be read and"
            .. " written again, for ever: name another table, or another database as connect")
            :format(facts.full, what), 0)
      end
   end
end

return loop
