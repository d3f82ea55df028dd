-- pgcdc.postgres.trigger: what capture = "trigger" needs on the server, as SQL.
-- SPDX-License-Identifier: MIT
--
-- Every table has one row in pgcdc.tables, its *entry*. The entry's number stands for the table in
-- tombstones and notifications, since names change, and a dump does not keep oids.
--
-- A tombstone has the values of the key under *labels*, the names that its columns had when the
-- triggers were installed; the entry has the labels (`key`), and the numbers of the columns
-- (`attnums`, in the table with the oid `relation`). A label stands for the column of that name or,
-- where there is none any more, for the one with its number. Whatever becomes of the columns, the
-- triggers let the statements of others pass: where a column was dropped the tombstone is empty,
-- so the source knows that a row was deleted, but not which. Nothing refers to a column but to our
-- own, so that all others can be changed and dropped.

local answer = require "pgcdc.postgres.answer"
local quote = require("pgcdc.names").quote
local functions = require "pgcdc.postgres.trigger_functions"

local trigger = {}

local function literal(text)
   return "'" .. text:gsub("'", "''") .. "'"
end

-- ---- what is there ----

local FIND = answer.question([[
   SELECT c.oid::int8 AS oid, format('%I.%I', n.nspname, c.relname) AS name,
      c.relkind::text AS kind,
      c.relispartition AS is_partition, quote_ident(pg_get_userbyid(c.relowner)) AS owner,
      EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid AND c.relkind = 'r') AS is_parent,
      to_regclass('pgcdc.tables') IS NOT NULL AS has_tables,
      EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'pgcdc_xid'
         AND NOT a.attisdropped) AS has_column,
      ARRAY(SELECT a.attname::text FROM pg_index i
         CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(num, place)
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
         WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts
         ORDER BY k.place) AS primary_key,
      ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
         AND NOT a.attisdropped ORDER BY a.attnum) AS columns,
      ARRAY(SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
         AND NOT a.attisdropped ORDER BY a.attnum) AS attnums,
      ARRAY(SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0
         AND NOT a.attisdropped ORDER BY a.attnum) AS types,
      EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass('pgcdc.tables')
         AND a.attname = 'attnums') AS has_attnums
   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)]], {
   oid = "integer", name = "text", kind = "text", is_partition = "boolean", owner = "text",
   is_parent = "boolean", has_tables = "boolean", has_column = "boolean", primary_key = "texts",
   columns = "texts", attnums = "integers", types = "texts", has_attnums = "boolean" })

-- The relations of a partitioned table, roots before their leaves; or the table itself.
local PARTS = answer.question([[
   WITH RECURSIVE tree(oid, parent, level) AS (SELECT $1::oid, NULL::oid, 0
      UNION ALL SELECT inhrelid, inhparent, level + 1 FROM pg_inherits JOIN tree ON inhparent = oid)
   SELECT c.oid::int8 AS oid, tree.parent::int8 AS parent, c.relkind::text AS kind,
      format('%I.%I', n.nspname, c.relname) AS name,
      format('%I.', n.nspname) || quote_ident('pgcdc_xid_' || c.oid) AS own_index,
      ix.name AS index, ix.is_valid, ix.is_attached,
      to_regclass(format('%I.', n.nspname) || quote_ident('pgcdc_xid_' || c.oid)) IS NOT NULL
         AS has_own_index,
      ARRAY(SELECT t.tgname::text FROM pg_trigger t WHERE t.tgrelid = c.oid
         AND t.tgname LIKE 'zz\_pgcdc\_%' AND t.tgenabled IN ('O', 'A')) AS triggers
   FROM tree JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
   LEFT JOIN LATERAL (
      SELECT format('%I.%I', m.nspname, x.relname) AS name, i.indisvalid AS is_valid,
         x.relispartition AS is_attached
      FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
      JOIN pg_namespace m ON m.oid = x.relnamespace
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
      WHERE i.indrelid = c.oid AND i.indnatts = 1 AND a.attname = 'pgcdc_xid'
      ORDER BY i.indisvalid DESC, x.relispartition DESC LIMIT 1) ix ON true
   ORDER BY tree.level, c.oid]], {
   oid = "integer", parent = "integer?", kind = "text", name = "text", own_index = "text",
   index = "text?", is_valid = "boolean?", is_attached = "boolean?", has_own_index = "boolean",
   triggers = "texts" })

-- By to_jsonb, since tables of earlier versions have no column attnums.
local ENTRY = answer.question([[
   SELECT number::int8, key, notify, since::text, pruned::text,
      ARRAY(SELECT n::int2 FROM jsonb_array_elements_text(CASE WHEN to_jsonb(t) ->> 'relation'
         = $1::oid::text THEN to_jsonb(t) -> 'attnums' END) n) AS attnums
   FROM pgcdc.tables t WHERE "table" = $1::oid]], {
   number = "integer", key = "texts", notify = "boolean", since = "text", pruned = "text",
   attnums = "integers" })

-- The function `run` for questions (see answer) that are asked of this connection.
local function by(db)
   return function(...)
      return db:query(...)
   end
end

--- `look` for each of these names, before anything is done to one of them.
function trigger.look_all(db, names)
   local tables = {}
   for i, name in ipairs(names) do
      tables[i] = trigger.look(db, name)
   end
   return tables
end

--- What is known of the table that `name` means: its facts, `parts` (itself, its partitions) and
--- `entry`, or nil where there is none. Raises an error if it cannot have triggers.
function trigger.look(db, name)
   local t = FIND:maybe(by(db), name)
   if not t then
      error(("there is no table %s"):format(name), 0)
   elseif t.kind ~= "r" and t.kind ~= "p" then
      error(("%s is no table"):format(t.name), 0)
   elseif t.is_partition then
      error(("%s is a partition: name the table that it is a part of"):format(t.name), 0)
   elseif t.is_parent then
      error(("other tables inherit from %s, and triggers are not inherited: use capture = \"xmin\"")
         :format(t.name), 0)
   end
   if #t.attnums ~= #t.columns or #t.types ~= #t.columns then
      FIND:fail "there are not as many numbers and types as columns"
   end
   t.parts = PARTS:rows(by(db), t.oid)
   local is_part = {}
   for i, part in ipairs(t.parts) do
      if i > 1 and not is_part[part.parent or 0] then
         PARTS:fail("row %d is a part of no other one", i)
      end
      is_part[part.oid] = true
      if part.kind ~= "r" and part.kind ~= "p" then
         error(("%s, a part of %s, is no table"):format(part.name, t.name), 0)
      end
   end
   t.entry = t.has_tables and ENTRY:maybe(by(db), t.oid) or nil
   return t
end

-- ---- install ----

local SCHEMA = { [[CREATE SCHEMA IF NOT EXISTS pgcdc]], [[
CREATE TABLE IF NOT EXISTS pgcdc.tables (
   number bigint PRIMARY KEY,
   "table" regclass NOT NULL UNIQUE,
   key text[] NOT NULL,
   notify boolean NOT NULL,
   since xid8 NOT NULL DEFAULT pg_current_xact_id(),
   pruned xid8 NOT NULL DEFAULT '0',
   relation oid,
   attnums int2[])]], [[
CREATE TABLE IF NOT EXISTS pgcdc.deleted (
   "table" bigint NOT NULL,
   key jsonb NOT NULL,
   xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
   at timestamptz NOT NULL DEFAULT clock_timestamp())]],
[[CREATE INDEX IF NOT EXISTS deleted_table_xid ON pgcdc.deleted ("table", xid)]] }

-- Appends text to a list, by string.format if there are arguments.
local function add(list, text, ...)
   list[#list + 1] = select("#", ...) > 0 and text:format(...) or text
end

-- The numbers of these columns.
local function attnums_of(t, names)
   local number = {}
   for i, name in ipairs(t.columns) do
      number[name] = t.attnums[i]
   end
   local list = {}
   for i, name in ipairs(names) do
      list[i] = number[name]
   end
   return list
end

-- Adds the triggers: first those that partitions inherit from their root, then those that each
-- partition needs for itself. The condition of the first trigger names the column that it writes,
-- so the server refuses to drop that column unless the trigger is dropped, too.
local function add_triggers(step, t, number)
   local made = "CREATE OR REPLACE TRIGGER zz_pgcdc_%s %s ON %s FOR EACH %s%s"
      .. " EXECUTE FUNCTION pgcdc.%s_%d()"
   add(step, made, "stamp", "BEFORE INSERT OR UPDATE", t.name, "ROW",
      " WHEN (NEW.pgcdc_xid IS DISTINCT FROM pg_catalog.pg_current_xact_id())", "stamp", number)
   add(step, made, "gone", "AFTER DELETE", t.name, "ROW", "", "gone", number)
   add(step, made, "key", "AFTER UPDATE", t.name, "ROW", "", "moved", number)
   for _, part in ipairs(t.parts) do
      add(step, made, "emptied", "BEFORE TRUNCATE", part.name, "STATEMENT", "", "emptied", number)
   end
end

local function same(a, b)
   return table.concat(a, "\0") == table.concat(b, "\0")
end

local function has_all_triggers(t)
   for _, part in ipairs(t.parts) do
      if #part.triggers < 4 then
         return false
      end
   end
   return true
end

local NEXT = answer.question("SELECT max(number)::int8 + 1 AS n FROM pgcdc.tables",
   { n = "integer" })

-- The number for a new entry: the oid of the table, unless another one has it already, which was
-- restored from a dump.
local function free_number(db, t)
   if t.has_tables and #db:query("SELECT 1 FROM pgcdc.tables WHERE number = $1", t.oid) > 0 then
      return NEXT:row(by(db)).n
   end
   return t.oid
end

-- The columns that the labels of the entry stand for now, see above. (Entries of earlier versions
-- have names only: then a label without a column stands for the one column of the primary key that
-- has no label.)
local function columns_of_labels(t)
   local name_of, is_label, lost = {}, {}, {}
   for i, name in ipairs(t.columns) do
      name_of[t.attnums[i]], name_of[name] = name, name
   end
   for _, label in ipairs(t.entry.key) do
      is_label[label] = true
   end
   for _, name in ipairs(t.primary_key) do
      lost[#lost + 1] = not is_label[name] and name or nil
   end
   local names = {}
   for i, label in ipairs(t.entry.key) do
      names[i] = name_of[label] or name_of[t.entry.attnums[i] or 0]
         or #t.entry.attnums == 0 and #lost == 1 and lost[1] or ""
   end
   return names
end

-- True if the values of all tombstones can be read as values of these columns, as their types are
-- now.
local function are_readable(db, t, labels, key)
   local type_of, parts = {}, {}
   for i, name in ipairs(t.columns) do
      type_of[name] = t.types[i]
   end
   for i, label in ipairs(labels) do
      parts[i] = ("%s %s"):format(quote(label), type_of[key[i] ])
   end
   return (pcall(db.query, db, ([[SELECT count(k) FROM pgcdc.deleted
      CROSS JOIN LATERAL jsonb_to_record(key) k(%s) WHERE "table" = %d]]):format(
      table.concat(parts, ", "), t.entry.number)))
end

-- Adds statements that make the tombstones of another installation those of this one. Returns true
-- if they had to be deleted.
local function add_tombstones(step, db, t, key)
   local entry = t.entry
   if not entry then
      return false
   elseif not same(columns_of_labels(t), key) or not are_readable(db, t, entry.key, key) then
      add(step, 'DELETE FROM pgcdc.deleted WHERE "table" = %d', entry.number)
      return true
   elseif not same(entry.key, key) then
      local parts = {}
      for i, name in ipairs(key) do
         parts[i] = ("%s, key -> %s"):format(literal(name), literal(entry.key[i]))
      end
      add(step, [[UPDATE pgcdc.deleted SET key = jsonb_build_object(%s)
   WHERE "table" = %d AND key <> '{}']], table.concat(parts, ", "), entry.number)
   end
   return false
end

-- Adds the step that makes the entry, the column and the triggers, unless all are there.
local function add_entry(steps, db, t, key, notify)
   local entry = t.entry
   local attnums = attnums_of(t, key)
   if entry and t.has_column and entry.notify == notify and same(entry.key, key)
      and same(entry.attnums, attnums) and has_all_triggers(t)
      and are_readable(db, t, key, key) then
      return
   end
   local number = entry and entry.number or free_number(db, t)
   local step = {}
   for _, statement in ipairs(SCHEMA) do
      add(step, statement)
   end
   if t.has_tables and not t.has_attnums then
      add(step, "ALTER TABLE pgcdc.tables ADD COLUMN relation oid, ADD COLUMN attnums int2[]")
   end
   if not t.has_column then
      add(step, "ALTER TABLE %s ADD COLUMN pgcdc_xid xid8", t.name)
   end
   functions.add(step, t, number, key, attnums, notify)
   add_triggers(step, t, number)
   -- a source whose position was taken before `since` reads by xmin once; one that has not read up
   -- to `pruned` reads the table again
   local is_whole = t.has_column and has_all_triggers(t)
   local has_pruned = add_tombstones(step, db, t, key)
   add(step, [[
INSERT INTO pgcdc.tables (number, "table", key, notify, relation, attnums)
   VALUES (%d, %s::regclass, %s, %s, %d, '{%s}')
   ON CONFLICT (number) DO UPDATE SET key = excluded.key, notify = excluded.notify,
   relation = excluded.relation, attnums = excluded.attnums, since = %s, pruned = %s]], number,
      literal(t.name), functions.array(key), notify, t.oid, table.concat(attnums, ","),
      is_whole and "tables.since" or "excluded.since",
      has_pruned and "excluded.since" or "tables.pruned")
   steps[#steps + 1] = step
end

-- Rows that were not written since the column was added have NULL there, so the index is small at
-- first.
local INDEX = "CREATE INDEX %s%s ON %s%s (pgcdc_xid) WHERE pgcdc_xid IS NOT NULL"

local function index_name(part)
   return part.index or part.own_index
end

-- Adds steps for the indexes that are missing: those of partitioned tables, which have no rows,
-- then of the tables that have; then each is attached to the one above it.
local function add_indexes(steps, t)
   local by_oid = {}
   for _, part in ipairs(t.parts) do
      by_oid[part.oid] = part
      local leaf_name = part.own_index:match "[^.]*$"
      if part.kind == "p" and not part.index then
         steps[#steps + 1] = { INDEX:format("", leaf_name, "ONLY ", part.name) }
      end
   end
   for _, part in ipairs(t.parts) do
      if part.kind == "r" then
         local is_broken = part.index and not part.is_valid or not part.index and part.has_own_index
         if is_broken then
            steps[#steps + 1] = { alone = "DROP INDEX CONCURRENTLY " .. index_name(part) }
            part.index = nil
         end
         if not part.index then
            steps[#steps + 1] = { alone = INDEX:format("CONCURRENTLY ",
               part.own_index:match "[^.]*$", "", part.name) }
         end
      end
   end
   for i = #t.parts, 2, -1 do -- the deepest first
      local part = t.parts[i]
      if not part.is_attached then
         steps[#steps + 1] = { ("ALTER INDEX %s ATTACH PARTITION %s"):format(
            index_name(by_oid[part.parent]), index_name(part)) }
      end
   end
end

-- The key where none is asked for: the one that was installed, by the names that it has now, or the
-- primary key.
local function default_key(t)
   local entry = t.entry
   if not entry then
      return t.primary_key
   end
   local name_of, by_number = {}, {}
   for i, name in ipairs(t.columns) do
      name_of[t.attnums[i] ] = name
   end
   for i, number in ipairs(entry.attnums) do
      by_number[i] = name_of[number] or ""
   end
   if same(by_number, t.primary_key) then
      return t.primary_key
   end
   local names = columns_of_labels(t)
   for _, name in ipairs(names) do
      if name == "" then
         return t.primary_key
      end
   end
   return names
end

--- The plan that installs what is missing. `t`: what `trigger.look` returned. `options`: key (a
--- list of names; nil: that of the entry, or the primary key), notify (true or false), readers (a
--- list of roles as SQL writes them, which may use it then; or nil).
function trigger.install(db, t, options)
   local key = options.key or default_key(t)
   local is_column = {}
   for _, name in ipairs(t.columns) do
      is_column[name] = true
   end
   for _, name in ipairs(key) do
      if not is_column[name] then
         error(("%s has no column \"%s\""):format(t.name, name), 0)
      end
   end
   if #key == 0 then
      error(("%s has no primary key: say pk=, the columns that identify a row"):format(t.name), 0)
   end
   local steps = {}
   add_entry(steps, db, t, key, options.notify)
   local n = #steps
   add_indexes(steps, t)
   if #steps > n then
      steps[#steps + 1] = { ("ANALYZE %s (pgcdc_xid)"):format(t.name) }
   end
   for _, role in ipairs(options.readers or {}) do
      steps[#steps + 1] = { "GRANT USAGE ON SCHEMA pgcdc TO " .. role,
         "GRANT SELECT ON pgcdc.tables, pgcdc.deleted TO " .. role }
   end
   return steps
end

-- ---- remove ----

-- True if the schema has tables besides those of triggers: what sinks keep in a target.
local function holds_more(db)
   return #db:query [[SELECT 1 FROM pg_catalog.pg_class
      WHERE relnamespace = pg_catalog.to_regnamespace('pgcdc')
         AND relkind <> 'i' AND relname NOT IN ('deleted', 'tables')]] > 0
end

--- The plan that removes all that was installed for the table; with the last table, the schema too
--- unless sinks keep something there.
function trigger.remove(db, t)
   local step = {}
   for i, part in ipairs(t.parts) do
      for _, name in ipairs(part.triggers) do
         if i == 1 or name == "zz_pgcdc_emptied" then -- dropping those of the root drops the others
            add(step, "DROP TRIGGER %s ON %s", name, part.name)
         end
      end
   end
   if t.has_column then
      add(step, "ALTER TABLE %s DROP COLUMN pgcdc_xid", t.name)
   end
   if t.entry then
      functions.drop(step, t.entry.number)
      add(step, 'DELETE FROM pgcdc.deleted WHERE "table" = %d', t.entry.number)
      add(step, "DELETE FROM pgcdc.tables WHERE number = %d", t.entry.number)
      if #db:query("SELECT 1 FROM pgcdc.tables WHERE number <> $1", t.entry.number) == 0 then
         add(step, "DROP TABLE pgcdc.deleted, pgcdc.tables")
         if not holds_more(db) then
            add(step, "DROP SCHEMA pgcdc")
         end
      end
   end
   return #step > 0 and { step } or {}
end

-- ---- prune ----

local PRUNE = answer.question([[
   WITH removed AS (DELETE FROM pgcdc.deleted
      WHERE "table" = $1 AND at < now() - make_interval(secs => $2)
      AND xid < pg_snapshot_xmin(pg_current_snapshot()) RETURNING xid::text::int8),
   newest AS (SELECT count(*)::int8 AS n, max(xid) + 1 AS below FROM removed)
   UPDATE pgcdc.tables SET pruned = greatest(pruned::text::int8, below)::text::xid8
   FROM newest WHERE number = $1 RETURNING n]], { n = "integer" })

--- Removes tombstones that are older than `seconds`. Returns how many. A source that has not read
--- them reads the table again.
function trigger.prune(db, t, seconds)
   if not t.entry then
      error(("%s has no triggers"):format(t.name), 0)
   end
   return PRUNE:row(by(db), t.entry.number, seconds).n
end

local units = { s = 1, m = 60, h = 3600, d = 86400 }

--- "7d" in seconds, or nil.
function trigger.seconds(text)
   local n, unit = text:match "^([%d.]+)([smhd])$"
   return tonumber(n) and tonumber(n) * units[unit]
end

-- ---- status ----

local COUNT = answer.question([[
   SELECT count(*)::int8 AS n, to_char(min(at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS
   oldest FROM pgcdc.deleted WHERE "table" = $1]], { n = "integer", oldest = "text?" })

-- What is wrong with an installation, as a list of texts.
local function faults(t)
   local found = {}
   for i, part in ipairs(t.parts) do
      if #part.triggers < 4 then
         add(found, "%s lacks triggers, or they are disabled", part.name)
      end
      if not part.index or not part.is_valid or (i > 1 and not part.is_attached) then
         add(found, "%s lacks a valid index on pgcdc_xid", part.name)
      end
   end
   return found
end

--- A line about what is installed for the table, and one for each fault of it.
function trigger.status(db, t)
   if not t.entry then
      return ("%s: not installed"):format(t.name)
   end
   local deleted = COUNT:row(by(db), t.entry.number)
   local lines = {}
   add(lines, "%s: installed since transaction %s, key %s, notify %s, %d deletes kept%s", t.name,
      t.entry.since, table.concat(t.entry.key, ","), t.entry.notify and "yes" or "no", deleted.n,
      deleted.oldest and " since " .. deleted.oldest or "")
   for _, fault in ipairs(faults(t)) do
      add(lines, "   " .. fault:gsub("%%", "%%%%"))
   end
   return table.concat(lines, "\n")
end

--- To whom the server allows what a plan does.
trigger.allowed = "to install or remove, a role owns the table, may CREATE in its schema and, the"
   .. " first time, CREATE on the database, and owns the schema pgcdc after that; to look, it may"
   .. " read there (readers=)"

return trigger
