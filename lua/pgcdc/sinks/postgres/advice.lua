-- pgcdc.sinks.postgres.advice: what mends a target that a sink cannot write to.
-- SPDX-License-Identifier: MIT

local mend = require "pgcdc.mend"
local answer = require "pgcdc.postgres.answer"
local refused = require "pgcdc.postgres.refused"

local advice = {}

local SERVER = answer.question([[
   SELECT quote_ident(current_user) AS role, quote_ident(current_database()) AS database,
      current_database()::text AS name,
      has_database_privilege(current_database(), 'CREATE') AS may_create,
      has_database_privilege(current_database(), 'TEMPORARY') AS may_temporary,
      EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'pgcdc') AS has_schema,
      (SELECT has_schema_privilege(n.oid, 'USAGE') FROM pg_catalog.pg_namespace n
         WHERE nspname = 'pgcdc') AS may_use,
      (SELECT has_schema_privilege(n.oid, 'CREATE') FROM pg_catalog.pg_namespace n
         WHERE nspname = 'pgcdc') AS may_make,
      (SELECT has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
         AND has_table_privilege(c.oid, 'UPDATE') FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE nspname = 'pgcdc' AND relname = 'position') AS may_write]], {
   role = "text", database = "text", name = "text", may_create = "boolean",
   may_temporary = "boolean", has_schema = "boolean", may_use = "boolean?", may_make = "boolean?",
   may_write = "boolean?" })

-- The schema that the table is in, or would be made in, and the table, if it is there.
local TABLE = answer.question([[
   WITH asked AS (SELECT parse_ident($1) AS p),
      wanted AS (SELECT CASE WHEN cardinality(p) > 1 THEN p[1] ELSE coalesce((
            SELECT n.nspname::text FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relname = p[1] AND pg_catalog.pg_table_is_visible(c.oid)),
            current_schema()::text, 'public') END AS schema, p[cardinality(p)] AS name FROM asked)
   SELECT quote_ident(w.schema) AS schema, n.oid IS NOT NULL AS has_schema,
      has_schema_privilege(n.oid, 'USAGE') AS may_use,
      has_schema_privilege(n.oid, 'CREATE') AS may_create,
      format('%I.%I', w.schema, w.name) AS name, c.oid IS NOT NULL AS is_there,
      has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
         AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE') AS may
   FROM wanted w LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
      LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name]], {
   schema = "text", has_schema = "boolean", may_use = "boolean?", may_create = "boolean?",
   name = "text", is_there = "boolean", may = "boolean?" })

-- What the role lacks to use pgcdc.position.
local function of_position(server, add)
   if not server.has_schema then
      return not server.may_create
         and add("GRANT CREATE ON DATABASE %s TO %s", server.database, server.role)
   elseif server.may_write == nil then -- there is no table
      return not (server.may_use and server.may_make)
         and add("GRANT USAGE, CREATE ON SCHEMA pgcdc TO %s", server.role)
   end
   if not server.may_use then
      add("GRANT USAGE ON SCHEMA pgcdc TO %s", server.role)
   end
   if not server.may_write then
      add("GRANT SELECT, INSERT, UPDATE ON pgcdc.position TO %s", server.role)
   end
end

-- What it lacks to write to the table.
local function of_table(server, t, add)
   if not t.has_schema then
      add("CREATE SCHEMA %s AUTHORIZATION %s", t.schema, server.role)
   elseif not t.may_use or not t.is_there and not t.may_create then
      add("GRANT USAGE%s ON SCHEMA %s TO %s", t.is_there and "" or ", CREATE", t.schema,
         server.role)
   end
   if t.is_there and not t.may then
      add("GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s", t.name, server.role)
   end
   if not server.may_temporary then
      add("GRANT TEMPORARY ON DATABASE %s TO %s", server.database, server.role)
   end
end

-- Statements that the message itself has.
local function of_message(message, t, add)
   local statements = message:match ": (ALTER T.-), or leave"
   for statement in (statements or ""):gmatch "[^;]+" do
      add("%s", (statement:gsub("^%s+", "")))
   end
   local key = message:match "it needs a unique index on (%b())"
   if key then
      add("CREATE UNIQUE INDEX ON %s %s", t.name, key)
   end
end

--- A list of what mends that the target of this connection cannot be used for the table `asked`,
--- for which `message` says why. No transaction must be open.
function advice.mends(connection, asked, message)
   local mends = refused.mends(message, connection:role())
   if mends[1] or not connection.db then
      return mends
   end
   local server, t = connection:row(SERVER), connection:row(TABLE, asked)
   local function add(text, ...)
      mends[#mends + 1] = mend.sql(server.name, text:format(...))
   end
   if message:find "42501" or message:find "there is no schema" then
      of_position(server, add)
      of_table(server, t, add)
   elseif message:find "there is no table" then
      mends[1] = mend.option("create", "yes")
   else
      of_message(message, t, add)
   end
   return mends
end

return advice
