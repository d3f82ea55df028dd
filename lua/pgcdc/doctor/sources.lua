-- pgcdc.doctor.sources: what mends a source that cannot be read, and what it costs if it can.
-- SPDX-License-Identifier: MIT
--
-- What is wrong was found where a run would find it. Here the server is asked, by the source's own
-- role, for what is missing. Where that cannot be asked, there is no advice.

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"
local columns = require "pgcdc.doctor.columns"
local connect = require "pgcdc.postgres.client"
local conninfo = require "pgcdc.postgres.conninfo"
local load = require "pgcdc.doctor.load"
local log = require "pgcdc.doctor.log"
local mend = require "pgcdc.mend"
local refused = require "pgcdc.postgres.refused"
local topics = require "pgcdc.doctor.topics"

local sources = {}

-- Relations that the name of a source may mean, those that it means first. to_regclass() would
-- raise an error where a schema may not be used.
local RELATIONS = answer.question([[
   SELECT c.oid::int8 AS oid, format('%I.%I', n.nspname, c.relname) AS name,
      quote_ident(n.nspname) AS schema, c.relname::text AS plain_name, c.relkind::text AS kind,
      has_schema_privilege(n.oid, 'USAGE') AS may_use,
      has_table_privilege(c.oid, 'SELECT') AS may_select,
      quote_ident(current_user) AS role, current_database()::text AS database
   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      CROSS JOIN (SELECT parse_ident($1) AS p) asked
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_'
      AND n.nspname <> 'information_schema'
   ORDER BY c.relname = p[cardinality(p)] AND (cardinality(p) = 1
         AND pg_table_is_visible(c.oid) OR n.nspname = p[cardinality(p) - 1]) DESC NULLS LAST,
      c.relname = p[cardinality(p)] DESC, n.nspname, c.relname LIMIT 1000]], {
   oid = "integer", name = "text", schema = "text", plain_name = "text", kind = "text",
   may_use = "boolean", may_select = "boolean", role = "text", database = "text" })

local PGCDC = answer.question([[
   SELECT has_schema_privilege(n.oid, 'USAGE') AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c
      WHERE c.relnamespace = n.oid AND c.relname IN ('tables', 'deleted')
      AND NOT has_table_privilege(c.oid, 'SELECT')) AS may
   FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pgcdc']], { may = "boolean" })

local function by(db)
   return function(...)
      return db:query(...)
   end
end

-- ---- rules ----

-- The triggers of the source, installed anew.
local function trigger(t, facts)
   local pk = facts.spec.pk
   return { mend.install("trigger", t, pk and "pk="
      .. (type(pk) == "table" and table.concat(pk, ",") or pk)) }
end

-- What the role may not do.
local function rights(t)
   local mends = {}
   if not t.may_use then
      mends[1] = mend.sql(t.database, ("GRANT USAGE ON SCHEMA %s TO %s"):format(t.schema, t.role))
   end
   if not t.may_select then
      mends[#mends + 1] = mend.sql(t.database, ("GRANT SELECT ON %s TO %s"):format(t.name, t.role))
   end
   return mends
end

-- There is no table of this name: one in another schema, or with nearly the same name.
local function other_table(relations, facts)
   local wanted = facts.table:match '([^."]+)"?$' or facts.table
   local names = {}
   for i, r in ipairs(relations) do
      names[i] = r.plain_name
   end
   local nearest = raw.nearest(wanted, names)
   for _, r in ipairs(relations) do
      if r.plain_name == nearest then
         local mends = rights(r)
         mends[#mends + 1] = mend.option("table", r.name)
         return mends
      end
   end
   return {}
end

-- {a pattern of the message, what mends it: f(t, facts, db, what the pattern has found)}. The first
-- that gives something counts.
local rules = {
   { "row%-level security would hide", function(t)
      return { mend.sql(t.database, ("ALTER ROLE %s BYPASSRLS"):format(t.role)) }
   end },
   { "has no primary key", function(t, _, db)
      return columns.no_key(db, t)
   end },
   { 'has no column "(.-)" %(named in (%l+)%); the nearest is "(.-)"',
     function(_, facts, _, wrong, option, nearest)
        return columns.misspelt(facts, option, wrong, nearest)
     end },
   { 'capture = "increment" goes by', function(t, facts, db)
      return columns.growing(db, t, facts)
   end },
   { 'capture = "trigger" finds no triggers', trigger },
   { "may not read what the triggers note", trigger },
   { "the triggers note another key", trigger },
   { "is a .*view", function(t, facts, db)
      return columns.growing(db, t, facts)
   end },
   { "is a foreign table", function(t, facts, db)
      return columns.growing(db, t, facts)
   end },
}

local function advice(item, facts, db)
   local relations = RELATIONS:rows(by(db), facts.table)
   local t = relations[1]
   if not t or item.text:find "there is no table" then
      return other_table(relations, facts)
   elseif item.sqlstate == "42501" and (not t.may_use or not t.may_select) then
      return rights(t)
   end
   for _, rule in ipairs(rules) do
      local found = { item.text:match(rule[1]) }
      if found[1] then
         return rule[2](t, facts, db, table.unpack(found))
      end
   end
   return facts.capture == "logical" and log.mends(item, t, facts, db) or {}
end

local function diagnose(item, facts, db)
   item.mends = advice(item, facts, db)
end

-- A source that can be read.
local function look_closer(item, facts, db)
   local t = RELATIONS:rows(by(db), facts.table)[1]
   if not t then
      return
   end
   load.examine(item, db, t, facts)
   for _, warning in ipairs(item.warnings) do
      if warning.text:find "lacks triggers" or warning.text:find "for TRUNCATE"
         or warning.text:find "lacks a valid index" then
         warning.mends = trigger(t, facts)
      end
   end
   if facts.capture == "increment" then
      columns.warn_index(item, db, t, facts)
   elseif facts.capture == "logical" then
      log.examine(item, db, t, facts)
   elseif facts.capture == "trigger" and item.ok then
      local seen = PGCDC:maybe(by(db))
      if seen and not seen.may then
         item.warnings[#item.warnings + 1] = {
            text = "this role may not read all that the triggers note",
            mends = trigger(t, facts) }
      end
   end
end

--- Completes the item of a source (see pgcdc.doctor.doctor): mends, warnings, load. `facts`: of the
--- source, see feeds. Asks the server, unless that cannot be reached.
function sources.examine(item, facts)
   if facts.capture == "feed" then
      return topics.examine(item, facts)
   end
   local target = conninfo.text("pgcdc.source: connect", facts.spec.connect)
   item.mends = not item.ok and refused.mends(item.text, raw.db_user(target)) or {}
   if item.mends[1] or not item.ok and item.text:find "connection to server" then
      return
   end
   local db = connect(facts.spec.connect)
   local ok, problem = pcall(item.ok and look_closer or diagnose, item, facts, db)
   if not ok then
      item.warnings[#item.warnings + 1] = { text = "more is not known: " .. tostring(problem),
                                            mends = {} }
   end
   pcall(db.close, db)
end

return sources
