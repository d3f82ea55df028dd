-- pgcdc.postgres.hints: what lets a role know which blocks of a table were written, as SQL.
-- SPDX-License-Identifier: MIT
--
-- The functions of the extension pg_walinspect show the bytes of every table that are in the WAL.
-- So a reader gets another function, one for each table, which runs with the rights of who made it:
-- it returns transaction ids and block numbers of that table, and nothing else. Its name has the
-- table's oid; src/capture/sql_hints.c looks for it.

local answer = require "pgcdc.postgres.answer"

local hints = {}

local LEAST_VERSION = 150000
local BLOCKS_VERSION = 160000 -- from here on the extension has pg_get_wal_block_info

local FIND = answer.question([[
   SELECT c.oid::int8 AS oid, format('%I.%I', n.nspname, c.relname) AS name,
      c.relkind IN ('r', 'p', 'm') AS is_table,
      c.relpersistence = 'p' AND NOT c.relisshared AS is_logged,
      current_setting('server_version_num')::int8 AS version,
      pg_is_in_recovery() AS in_recovery,
      x.extversion AS extension, e.nspname::text AS schema,
      EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_walinspect') AS is_available,
      EXISTS (SELECT FROM pg_namespace WHERE nspname = 'pgcdc') AS has_schema,
      to_regprocedure(format('pgcdc.wal_blocks_%s(pg_lsn,pg_lsn)', c.oid)) IS NOT NULL AS is_there,
      ARRAY(SELECT r.rolname::text FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a
         JOIN pg_roles r ON r.oid = a.grantee WHERE a.grantee <> p.proowner AND p.oid
         = to_regprocedure(format('pgcdc.wal_blocks_%s(pg_lsn,pg_lsn)', c.oid))
         ORDER BY 1) AS readers
   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   LEFT JOIN pg_extension x ON x.extname = 'pg_walinspect'
   LEFT JOIN pg_namespace e ON e.oid = x.extnamespace WHERE c.oid = to_regclass($1)]], {
   oid = "integer", name = "text", is_table = "boolean", is_logged = "boolean",
   version = "integer", in_recovery = "boolean", extension = "text?", schema = "text?",
   is_available = "boolean", has_schema = "boolean", is_there = "boolean", readers = "texts" })

local OTHERS = answer.question([[
   SELECT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_namespace'::regclass
      AND d.refobjid = to_regnamespace('pgcdc') AND NOT (d.classid = 'pg_proc'::regclass
      AND d.objid = to_regprocedure(
         format('pgcdc.wal_blocks_%s(pg_lsn,pg_lsn)', $1::int8)))) AS has]],
   { has = "boolean" })

local ROLE = answer.question("SELECT to_regrole($1)::text AS name", { name = "text?" })

-- The function `run` for questions (see answer) that are asked of this connection.
local function by(db)
   return function(...)
      return db:query(...)
   end
end

--- What is known of the table that `name` means, and of the server. Raises an error if the WAL does
--- not have the table, or nothing can read it.
function hints.look(db, name)
   local t = FIND:maybe(by(db), name)
   if not t then
      error(("there is no table %s"):format(name), 0)
   elseif not t.is_table then
      error(("%s is no table"):format(t.name), 0)
   elseif not t.is_logged then
      error(("%s is unlogged, or shared by all databases, so the WAL does not have it")
         :format(t.name), 0)
   elseif t.version < LEAST_VERSION then
      error(("hints need Postgres 15 or later, and this server is %d.%d"):format(
         t.version // 10000, t.version % 10000), 0)
   elseif not t.extension and not t.is_available then
      error("the server does not have the extension pg_walinspect: install Postgres' contrib"
         .. " modules on it", 0)
   end
   return t
end

--- `look` for each of these names, before anything is done to one of them.
function hints.look_all(db, list)
   local tables = {}
   for i, name in ipairs(list) do
      tables[i] = hints.look(db, name)
   end
   return tables
end

-- An extension that was there before the server became a newer one.
local function is_old(t)
   return t.extension == "1.0" and t.version >= BLOCKS_VERSION
end

-- ---- install ----

local HEAD = [[
CREATE OR REPLACE FUNCTION pgcdc.wal_blocks_%d("from" pg_lsn, "to" pg_lsn)
RETURNS TABLE (xid xid, filenode oid, block bigint) LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $body$
   WITH RECURSIVE tree(oid) AS (SELECT %d::oid
      UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid),
   files AS (SELECT pg_relation_filenode(c.oid) AS node, d.oid AS base,
         '/' || d.oid || '/' || pg_relation_filenode(c.oid) || ' fork main blk ' AS tag
      FROM tree JOIN pg_class c USING (oid), pg_database d
      WHERE c.relkind IN ('r', 'm') AND d.datname = current_database())
]]

local TAIL = [[
      AND w.xid <> '0'::xid AND record_type <> ALL ('{LOCK,LOCK_UPDATED,DELETE,VACUUM,VISIBLE,
      FREEZE_PAGE,INPLACE,CONFIRM}') AND record_type NOT LIKE 'PRUNE%'
$body$]]

local BLOCKS = [[
   SELECT DISTINCT w.xid, relfilenode, relblocknumber
      FROM {schema}.pg_get_wal_block_info("from", "to", false) w
      JOIN files f ON f.node = relfilenode AND f.base = reldatabase
      WHERE relforknumber = 0
]]

local RECORDS = [[
   SELECT DISTINCT w.xid, node, substring(split_part(block_ref, tag, n) FROM '^[0-9]+')::bigint
      FROM {schema}.pg_get_wal_records_info("from", "to") w
      JOIN files f ON position(tag IN block_ref) > 0, generate_series(2, 3) AS n
      WHERE split_part(block_ref, tag, n) <> ''
]]

local function quote(name)
   return '"' .. name:gsub('"', '""') .. '"'
end

--- The plan that installs the extension, the function of `t`, and the right of `readers`, roles as
--- SQL writes them, to call it; or nil.
function hints.install(db, t, readers)
   if t.in_recovery then
      error("this server is a standby: run it on the primary", 0)
   end
   local body = t.version >= BLOCKS_VERSION and BLOCKS or RECORDS
   local schema = (quote(t.schema or "pgcdc"):gsub("%%", "%%%%"))
   local steps = { { "CREATE SCHEMA IF NOT EXISTS pgcdc" } }
   local step = steps[1]
   if not t.extension then
      step[#step + 1] = "CREATE EXTENSION IF NOT EXISTS pg_walinspect SCHEMA pgcdc"
   elseif is_old(t) then
      step[#step + 1] = "ALTER EXTENSION pg_walinspect UPDATE"
   end
   step[#step + 1] = HEAD:format(t.oid, t.oid) .. body:gsub("{schema}", schema) .. TAIL
   local signature = ("pgcdc.wal_blocks_%d(pg_lsn, pg_lsn)"):format(t.oid)
   step[#step + 1] = ("REVOKE ALL ON FUNCTION %s FROM PUBLIC"):format(signature)
   for _, role in ipairs(readers or {}) do
      local name = ROLE:row(by(db), role).name
         or error(("there is no role %s"):format(role), 0)
      step[#step + 1] = ("GRANT USAGE ON SCHEMA pgcdc TO %s"):format(name)
      step[#step + 1] = ("GRANT EXECUTE ON FUNCTION %s TO %s"):format(signature, name)
   end
   return steps
end

--- The plan that takes the function of `t` away; the schema goes with the last thing in it.
function hints.remove(db, t)
   if not t.is_there then
      return {}
   end
   local step = { ("DROP FUNCTION pgcdc.wal_blocks_%d(pg_lsn, pg_lsn)"):format(t.oid) }
   if not OTHERS:row(by(db), t.oid).has then
      step[2] = "DROP SCHEMA pgcdc"
   end
   return { step }
end

--- A line about the table.
function hints.status(t)
   local extension = not t.extension and "no pg_walinspect"
      or is_old(t) and "pg_walinspect 1.0, which action=install brings up to date"
      or "pg_walinspect"
   if not t.is_there then
      return ("%s: no hints, %s"):format(t.name, extension)
   end
   return ("%s: hints for %s, %s"):format(t.name,
      t.readers[1] and table.concat(t.readers, ", ") or "its owner alone", extension)
end

--- To whom the server allows what a plan does.
hints.allowed = "to install hints takes a superuser, or a member of pg_read_server_files once the"
   .. " extension pg_walinspect is there, with the right to CREATE in the database"

return hints
