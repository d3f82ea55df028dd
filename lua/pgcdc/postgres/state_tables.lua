-- pgcdc.postgres.state_tables: the tables of a state that is kept in a database, and the rights on
-- them.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"

local state_tables = {}

local MAY = answer.question([[
   SELECT to_regrole($1)::text AS name, to_regclass('pgcdc.lease') IS NOT NULL
      AND coalesce(has_schema_privilege(to_regrole($1), 'pgcdc', 'USAGE')
      AND (SELECT bool_and(has_table_privilege(to_regrole($1), c.oid, p))
         FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) p,
            unnest(ARRAY[to_regclass('pgcdc.state'), to_regclass('pgcdc.state_rows'),
               to_regclass('pgcdc.lease'), to_regclass('pgcdc.standby')]) c(oid)), false)
         AS may]],
   { name = "text?", may = "boolean" })

local IS_CURRENT = answer.question([[
   SELECT coalesce(format('COMMENT ON TABLE pgcdc.lease IS %L', obj_description(
      to_regclass('pgcdc.lease'), 'pg_class')) = $1, false) AS yes]], { yes = "boolean" })

--- The plan that makes what is missing, and gives these roles (nil: nobody) what they need.
function state_tables.install(db, roles)
   local function run(...)
      return db:query(...)
   end
   local statements, rights, tables = raw.state_schema()
   local steps = {}
   if not IS_CURRENT:row(run, statements[#statements]).yes then -- the last one says the format
      steps[1] = statements
   end
   for _, role in ipairs(roles or {}) do
      local found = MAY:row(run, role)
      local name = found.name or error(("there is no role %s"):format(role), 0)
      if not found.may then
         steps[#steps + 1] = { ("GRANT USAGE ON SCHEMA pgcdc TO %s"):format(name),
                               ("GRANT %s ON %s TO %s"):format(rights, tables, name) }
      end
   end
   return steps
end

--- To whom the server allows what the plan does.
state_tables.allowed = "to make the tables takes the right to CREATE in the database; to give"
   .. " others rights on them, their owner"

return state_tables
