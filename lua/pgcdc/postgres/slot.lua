-- pgcdc.postgres.slot: what capture = "logical" needs on the server, as SQL.
-- SPDX-License-Identifier: MIT
--
-- That is a publication which has the tables. The slot itself is made by the source, at the moment
-- from which on it reads the log, so that nothing holds the log before somebody reads it.
--
-- A table in a publication whose replica identity does not say which row is meant cannot be updated
-- any more: the server refuses the statements of its writers. So such a table, and one whose later
-- partitions would be such, is refused.
--
-- Publications that were made here are known by their comment. Others are used as they are, and not
-- changed. Slots have the names that sources give them, unless one is named.

local answer = require "pgcdc.postgres.answer"
local names = require "pgcdc.names"

local slot = {}

local OURS = "made by pgcdc-lua slot"
local STORED_GENERATED = 180000 -- the first version whose log has stored generated columns

local function literal(text)
   return "'" .. text:gsub("'", "''") .. "'"
end

-- Appends text to a list, by string.format if there are arguments.
local function add(list, text, ...)
   list[#list + 1] = select("#", ...) > 0 and text:format(...) or text
end

-- The function `run` for questions (see answer) that are asked of this connection.
local function by(db)
   return function(...)
      return db:query(...)
   end
end

local function refuse(text, ...)
   error(text:format(...), 0)
end

-- ---- what is there ----

local SERVER = answer.question([[
   SELECT current_setting('wal_level') AS wal_level, pg_is_in_recovery() AS in_recovery,
      current_setting('server_version_num')::int8 AS version,
      current_setting('max_replication_slots')::int8 AS max_slots,
      (SELECT count(*) FROM pg_replication_slots)::int8 AS slots,
      (SELECT string_agg(slot_name, ', ' ORDER BY slot_name) FROM pg_replication_slots
         WHERE NOT active) AS idle,
      (SELECT string_agg(slot_name, ', ' ORDER BY slot_name) FROM pg_replication_slots
         WHERE slot_type = 'logical') AS logical,
      current_setting('max_wal_senders')::int8 AS max_senders,
      (SELECT count(*) FROM pg_stat_replication)::int8 AS senders,
      current_setting('max_slot_wal_keep_size') AS keep_size,
      (SELECT count(*) FROM pg_publication)::int8 AS publications]], {
   wal_level = "text", in_recovery = "boolean", version = "integer", max_slots = "integer",
   slots = "integer", idle = "text?", logical = "text?", max_senders = "integer",
   senders = "integer", keep_size = "text", publications = "integer" })

local PUBLICATION = answer.question([[
   SELECT p.puballtables AS has_all, p.pubviaroot AS has_root,
      p.pubinsert AND p.pubupdate AND p.pubdelete AS has_ops,
      coalesce(to_jsonb(p) ->> 'pubgencols', 's') = 's' AS has_stored,
      coalesce(obj_description(p.oid, 'pg_publication'), '') AS comment,
      ARRAY(SELECT r.prrelid::int8 FROM pg_publication_rel r WHERE r.prpubid = p.oid) AS members
   FROM pg_publication p WHERE p.pubname = $1]], {
   has_all = "boolean", has_root = "boolean", has_ops = "boolean", has_stored = "boolean",
   comment = "text", members = "integers" })

-- The publication has a table by its name, its schema, or since it has all. (Row filters and lists
-- of columns are new in 15.)
local TABLE = answer.question([[
   SELECT c.oid::int8 AS oid, format('%I.%I', n.nspname, c.relname) AS name,
      c.relkind::text AS kind, c.relpersistence::text AS persistence,
      c.relispartition AS is_partition, c.oid < 16384 AS is_catalog,
      EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid AND c.relkind = 'r') AS is_parent,
      EXISTS (SELECT FROM pg_publication_tables p WHERE p.pubname = $2
         AND p.schemaname = n.nspname AND p.tablename = c.relname) AS is_published,
      EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
         WHERE p.pubname = $2 AND r.prrelid = c.oid AND (to_jsonb(r) ->> 'prqual' IS NOT NULL
         OR to_jsonb(r) ->> 'prattrs' IS NOT NULL)) AS is_filtered,
      ARRAY(SELECT a.attname::text FROM pg_index i
         CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(num, place)
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
         WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts
         ORDER BY k.place) AS primary_key,
      ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
         AND NOT a.attisdropped ORDER BY a.attnum) AS columns
   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)]], {
   oid = "integer", name = "text", kind = "text", persistence = "text", is_partition = "boolean",
   is_catalog = "boolean", is_parent = "boolean", is_published = "boolean",
   is_filtered = "boolean", primary_key = "texts", columns = "texts" })

-- The table and its partitions, each with the columns of its replica identity, and, if that is
-- FULL, with one that is generated, of each kind. The server uses no index for it that is not valid
-- or whose check may be deferred.
local PARTS = answer.question([[
   WITH RECURSIVE tree(oid, level) AS (SELECT $1::oid, 0
      UNION ALL SELECT inhrelid, level + 1 FROM pg_inherits JOIN tree ON inhparent = tree.oid)
   SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind::text AS kind,
      c.relpersistence::text AS persistence, c.relreplident::text AS identity,
      ARRAY(SELECT a.attname::text FROM pg_index i
         CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(num, place)
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
         WHERE i.indrelid = c.oid AND i.indisvalid AND i.indisunique AND i.indimmediate
         AND k.place <= i.indnkeyatts AND (c.relreplident = 'd' AND i.indisprimary
         OR c.relreplident = 'i' AND i.indisreplident) ORDER BY k.place) AS columns,
      (SELECT min(a.attname::text) FROM pg_attribute a WHERE a.attrelid = c.oid
         AND NOT a.attisdropped AND a.attgenerated = 's' AND c.relreplident = 'f') AS stored,
      (SELECT min(a.attname::text) FROM pg_attribute a WHERE a.attrelid = c.oid
         AND NOT a.attisdropped AND a.attgenerated = 'v' AND c.relreplident = 'f') AS virtual
   FROM tree JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
   ORDER BY tree.level, c.oid]], {
   name = "text", kind = "text", persistence = "text", identity = "text", columns = "texts",
   stored = "text?", virtual = "text?" })

local SLOTS = answer.question([[
   SELECT slot_name::text AS name, active, active_pid::int8 AS pid, wal_status,
      coalesce(plugin = 'pgoutput' AND database = current_database(), false) AS is_ours,
      (l.lsn - restart_lsn)::int8 AS holds, (l.lsn - confirmed_flush_lsn)::int8 AS behind,
      coalesce(to_jsonb(s) ->> 'invalidation_reason', '') AS reason
   FROM pg_replication_slots s CROSS JOIN LATERAL (SELECT CASE WHEN pg_is_in_recovery()
      THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END AS lsn) l
   WHERE slot_name = $1 OR ($1 = '' AND slot_name ~ '^pgcdc_[0-9a-f]{8}$'
      AND plugin = 'pgoutput' AND database = current_database())
   ORDER BY slot_name]], {
   name = "text", active = "boolean", pid = "integer?", wal_status = "text?", is_ours = "boolean",
   holds = "integer?", behind = "integer?", reason = "text" })

local READER = answer.question([[
   SELECT to_regrole($1)::text AS name, has_table_privilege(r.oid, $2::oid, 'SELECT')
      AND has_schema_privilege(r.oid, c.relnamespace, 'USAGE') AS may_read,
      n.nspname::text AS schema FROM pg_roles r, pg_class c
   JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE r.oid = to_regrole($1) AND c.oid = $2::oid]], {
   name = "text", may_read = "boolean", schema = "text" })

local MAY_REPLICATE = answer.question([[
   SELECT rolsuper OR rolreplication OR EXISTS (SELECT FROM pg_roles m
      WHERE m.rolname = 'rds_replication' AND pg_has_role(r.oid, m.oid, 'MEMBER')) AS may,
      quote_ident(rolname) AS name FROM pg_roles r
   WHERE oid = coalesce(to_regrole(nullif($1, '')), current_user::text::regrole)]], {
   may = "boolean", name = "text" })

local kinds = { v = "a view", m = "a materialized view", f = "a foreign table" }

-- Why no publication can have the table; nil: one can.
local function unfit(t)
   if t.is_catalog then
      return ("%s is a catalog of the server, and the log does not tell of those"):format(t.name)
   elseif kinds[t.kind] then
      return ("%s is %s, which the log does not have: use capture = \"increment\""):format(t.name,
         kinds[t.kind])
   elseif t.kind ~= "r" and t.kind ~= "p" then
      return ("%s is no table"):format(t.name)
   elseif t.is_partition then
      return ("%s is a partition: name the table that it is a part of"):format(t.name)
   elseif t.is_parent then
      return ("other tables inherit from %s, and a publication takes in none that is added later:"
         .. " use capture = \"xmin\""):format(t.name)
   end
   for _, part in ipairs(t.parts) do
      if part.kind ~= "r" and part.kind ~= "p" then
         return ("%s, a part of %s, is no table: use capture = \"xmin\""):format(part.name, t.name)
      elseif part.persistence ~= "p" then
         return ("%s is %s, and the log does not have it: use capture = \"xmin\""):format(part.name,
            part.persistence == "u" and "unlogged" or "temporary")
      end
   end
end

--- What is known of the server, the publication and each of the tables that `list` names, before
--- anything is done. `options`: publication, slot ("": those with names that sources give them), pk
--- (a list of names, or nil). Raises an error if one of the tables cannot be captured by the log.
function slot.look(db, list, options)
   local seen = {
      server = SERVER:row(by(db)), tables = {},
      publication = PUBLICATION:maybe(by(db), options.publication), name = options.publication,
      quoted = names.quote(options.publication),
   }
   for i, name in ipairs(list) do
      local t = TABLE:maybe(by(db), name, options.publication)
         or refuse("there is no table %s", name)
      t.parts = PARTS:rows(by(db), t.oid)
      local why = unfit(t)
      if why then
         error(why, 0)
      end
      t.key = options.pk or t.primary_key
      seen.tables[i] = t
   end
   seen.slots = SLOTS:rows(by(db), options.slot)
   for _, s in ipairs(seen.slots) do
      if not s.is_ours then
         refuse("slot %s is of another database or plug-in", s.name)
      end
   end
   return seen
end

-- ---- what is wrong ----

local function contains(list, names_of_columns)
   local is_there = {}
   for _, name in ipairs(list) do
      is_there[name] = true
   end
   for _, name in ipairs(names_of_columns) do
      if not is_there[name] then
         return false, name
      end
   end
   return true
end

-- What of a table would make its writers fail, or leave us without keys, as a list of texts.
local function identity_faults(t)
   local faults = {}
   if #t.key == 0 then
      add(faults, "%s has no primary key: say pk=, the columns that identify a row", t.name)
      return faults
   end
   local has_column, missing = contains(t.columns, t.key)
   if not has_column then
      add(faults, "%s has no column \"%s\"", t.name, missing)
      return faults
   end
   for _, part in ipairs(t.parts) do
      if part.identity ~= "f" and #part.columns == 0 then
         add(faults, "%s has no replica identity, so what updates or deletes its rows would fail:"
            .. " ALTER TABLE %s REPLICA IDENTITY FULL, or give it a primary key that is not"
            .. " deferrable", part.name, part.name)
      elseif part.identity ~= "f" and not contains(part.columns, t.key) then
         add(faults, "the replica identity of %s does not have the key (%s): ALTER TABLE %s"
            .. " REPLICA IDENTITY FULL, or USING INDEX one that has it", part.name,
            table.concat(t.key, ", "), part.name)
      elseif part.virtual then
         add(faults, "%s has REPLICA IDENTITY FULL and a virtual column, \"%s\", which no"
            .. " publication has, so what updates or deletes its rows would fail: ALTER TABLE %s"
            .. " REPLICA IDENTITY DEFAULT, with a primary key", part.name, part.virtual, part.name)
      end
   end
   if #faults == 0 and t.kind == "p" and #t.primary_key == 0 then
      add(faults, "%s has no primary key, so partitions that are added later would have no replica"
         .. " identity, and what updates their rows would fail: give it one, or use"
         .. " capture = \"xmin\"", t.name)
   end
   return faults
end

-- What of the publication, if it is there, does not do for the table.
local function publication_faults(seen, t)
   local p, faults = seen.publication, {}
   if not p.has_ops then
      add(faults, "publication %s leaves out inserts, updates or deletes: ALTER PUBLICATION %s SET"
         .. " (publish = 'insert, update, delete, truncate')", seen.name, seen.quoted)
   end
   if t.kind == "p" and not p.has_root then
      add(faults, "publication %s publishes partitions one by one: ALTER PUBLICATION %s SET"
         .. " (publish_via_partition_root = true)", seen.name, seen.quoted)
   end
   for _, part in ipairs(t.parts) do
      if part.stored and not p.has_stored then
         add(faults, "%s has REPLICA IDENTITY FULL, and publication %s leaves out its generated"
            .. " column \"%s\", so what updates or deletes its rows would fail: ALTER PUBLICATION"
            .. " %s SET (publish_generated_columns = stored)", part.name, seen.name, part.stored,
            seen.quoted)
      end
   end
   if t.is_filtered then
      add(faults, "publication %s has a row filter or a list of columns of %s: take it away",
         seen.name, t.name)
   end
   return faults
end

-- How many slots and senders sources still need: a source that is added later takes a temporary
-- slot besides.
local function capacity_faults(seen)
   local server, faults = seen.server, {}
   local n = #seen.slots > 0 and 1 or 2
   if server.wal_level ~= "logical" then
      add(faults, "logical decoding needs wal_level = logical, and it is %s: ALTER SYSTEM SET"
         .. " wal_level = 'logical', and restart the server", server.wal_level)
   end
   if server.slots + n > server.max_slots then
      add(faults, "%d of %d replication slots are in use (inactive: %s), and %d more are needed:"
         .. " raise max_replication_slots, or drop one", server.slots, server.max_slots,
         server.idle or "none", n)
   end
   if server.senders + n > server.max_senders then
      add(faults, "%d of %d WAL senders are in use, and %d more are needed: raise max_wal_senders",
         server.senders, server.max_senders, n)
   end
   return faults
end

-- ---- install ----

local function check_install(seen)
   local faults = capacity_faults(seen)
   for _, t in ipairs(seen.tables) do
      table.move(identity_faults(t), 1, 1, #faults + 1, faults)
      if seen.publication and #faults == 0 then
         table.move(publication_faults(seen, t), 1, 1, #faults + 1, faults)
      end
   end
   if seen.server.in_recovery then
      error("this server is a standby: run it on the primary", 0)
   elseif faults[1] then
      error(faults[1], 0)
   end
end

-- The tables that the publication lacks.
local function missing_of(seen)
   local missing = {}
   for _, t in ipairs(seen.tables) do
      if not t.is_published then
         add(missing, t.name)
      end
   end
   return missing
end

local function add_publication(steps, seen)
   local missing = missing_of(seen)
   if not seen.publication then
      steps[#steps + 1] = {
         ("CREATE PUBLICATION %s FOR TABLE %s WITH (publish_via_partition_root = true%s)"):format(
            seen.quoted, table.concat(missing, ", "),
            seen.server.version >= STORED_GENERATED and ", publish_generated_columns = stored"
               or ""),
         ("COMMENT ON PUBLICATION %s IS %s"):format(seen.quoted, literal(OURS)) }
      return
   end
   for _, name in ipairs(missing) do
      local statement = ("ALTER PUBLICATION %s ADD TABLE %s"):format(seen.quoted, name)
      if seen.publication.comment ~= OURS then
         refuse("publication %s was not made here, and is not changed: %s", seen.name, statement)
      end
      steps[#steps + 1] = { statement }
   end
end

--- Statements for the roles among `readers`, SQL's names or nil, that may not read the log; for the
--- role of the connection if there are none. A list.
function slot.permissions(db, readers)
   local statements = {}
   for _, role in ipairs(readers or { "" }) do
      local found = MAY_REPLICATE:maybe(by(db), role) or refuse("there is no role %s", role)
      if not found.may then
         add(statements, ("ALTER ROLE %s REPLICATION"):format(found.name))
      end
   end
   return statements
end

--- The plan that installs what is missing. `seen`: what `slot.look` returned; `readers`: roles as
--- SQL writes them that may read the tables then; or nil.
function slot.install(db, seen, readers)
   check_install(seen)
   local steps = {}
   add_publication(steps, seen)
   for _, role in ipairs(readers or {}) do
      for _, t in ipairs(seen.tables) do
         local r = READER:maybe(by(db), role, t.oid) or refuse("there is no role %s", role)
         if not r.may_read then
            steps[#steps + 1] = {
               ("GRANT USAGE ON SCHEMA %s TO %s"):format(names.quote(r.schema), r.name),
               ("GRANT SELECT ON %s TO %s"):format(t.name, r.name) }
         end
      end
   end
   return steps
end

-- ---- remove ----

-- True if the publication has no table besides these.
local function is_last(seen)
   local is_listed = {}
   for _, t in ipairs(seen.tables) do
      is_listed[t.oid] = true
   end
   for _, oid in ipairs(seen.publication.members) do
      if not is_listed[oid] then
         return false
      end
   end
   return true
end

-- Drops slots that nobody reads: without a publication they bring nothing, and hold the log.
local function add_drop(steps, seen)
   for _, s in ipairs(seen.slots) do
      if s.active then
         refuse("slot %s is read by pid %s: stop the script that reads it first", s.name,
            s.pid or "?")
      end
      steps[#steps + 1] = { alone = ("SELECT pg_drop_replication_slot(%s)"):format(
         literal(s.name)) }
   end
end

--- The plan that takes the tables out of the publication; with the last one that goes, and the slot
--- that was named, or, if no other publication is there, those with names that sources give.
function slot.remove(seen, options)
   local steps, p = {}, seen.publication
   if not p then
      if options.slot ~= "" or seen.server.publications == 0 then
         add_drop(steps, seen)
      end
      return steps
   elseif p.comment ~= OURS then
      refuse("publication %s was not made here, and is not changed: %s", seen.name, is_last(seen)
         and "DROP PUBLICATION " .. seen.quoted
         or ("ALTER PUBLICATION %s DROP TABLE ..."):format(seen.quoted))
   elseif is_last(seen) then
      if options.slot ~= "" or seen.server.publications == 1 then
         add_drop(steps, seen)
      end
      steps[#steps + 1] = { "DROP PUBLICATION " .. seen.quoted }
      return steps
   end
   for _, t in ipairs(seen.tables) do
      if t.is_published then
         steps[#steps + 1] = { ("ALTER PUBLICATION %s DROP TABLE %s"):format(seen.quoted, t.name) }
      end
   end
   return steps
end

-- ---- status ----

local identities = { d = "the primary key", f = "full", i = "an index", n = "nothing" }

local function size(bytes)
   local units, i = { "B", "kB", "MB", "GB", "TB" }, 1
   while bytes >= 1024 and i < #units do
      bytes, i = bytes / 1024, i + 1
   end
   return (i == 1 and "%d %s" or "%.1f %s"):format(bytes, units[i])
end

local function add_slot(lines, faults, s)
   add(lines, "slot %s: %s, holds %s of the log, %s behind, wal_status %s", s.name,
      s.active and ("read by pid %s"):format(s.pid or "?") or "inactive",
      s.holds and size(s.holds) or "nothing", s.behind and size(s.behind) or "unknown",
      s.wal_status or "unknown")
   if s.wal_status == "lost" then
      add(faults, "slot %s is lost%s: its source reads by xmin what has changed since, and makes it"
         .. " anew", s.name, s.reason ~= "" and " (" .. s.reason .. ")" or "")
   elseif not s.active then
      add(faults, "slot %s is inactive: nobody reads it, and the log grows", s.name)
   elseif s.wal_status == "unreserved" then
      add(faults, "slot %s will be lost soon: what it needs is beyond max_slot_wal_keep_size",
         s.name)
   end
end

local function add_table(lines, faults, seen, t)
   add(lines, "%s: %s, key %s, replica identity %s", t.name,
      t.is_published and "published by " .. seen.name or "not published",
      #t.key > 0 and table.concat(t.key, ",") or "none", identities[t.parts[1].identity] or "?")
   if not t.is_published then
      add(faults, "publication %s %s", seen.name,
         seen.publication and "does not have " .. t.name or "is not there: action=install makes it")
   end
   table.move(identity_faults(t), 1, 1, #faults + 1, faults)
   if t.is_published then
      table.move(publication_faults(seen, t), 1, 1, #faults + 1, faults)
   end
end

--- Lines about tables, slots and limits, and one for each fault. Returns the text, and whether
--- there is no fault.
function slot.status(seen)
   local lines, server = {}, seen.server
   local faults = capacity_faults(seen)
   for _, t in ipairs(seen.tables) do
      add_table(lines, faults, seen, t)
   end
   for _, s in ipairs(seen.slots) do
      add_slot(lines, faults, s)
   end
   if #seen.slots == 0 then
      add(lines, "no slot: a source makes it when it starts")
   end
   add(lines, "wal_level %s, %d of %d slots, %d of %d senders, max_slot_wal_keep_size %s",
      server.wal_level, server.slots, server.max_slots, server.senders, server.max_senders,
      server.keep_size)
   for _, fault in ipairs(faults) do
      lines[#lines + 1] = "   " .. fault
   end
   return table.concat(lines, "\n"), #faults == 0
end

--- A line about what is left after a removal, and what that means to the server.
function slot.left(seen)
   local lines, p = {}, seen.publication
   if p then
      add(lines, "publication %s has %d tables", seen.name, #p.members)
   else
      add(lines, "publication %s: not installed", seen.name)
   end
   for _, s in ipairs(seen.slots) do
      add(lines, "slot %s is left, and holds the log: if no script reads it, action=remove slot=%s",
         s.name, s.name)
   end
   add(lines, seen.server.logical
      and "with logical slots (%s) the server does not start with wal_level = replica"
      or "no logical slot is left", seen.server.logical)
   return table.concat(lines, "\n")
end

--- To whom the server allows what a plan does.
slot.allowed = "to install or remove, a role owns the tables and the publication, and may CREATE on"
   .. " the database; to drop a slot, it has REPLICATION"

return slot
