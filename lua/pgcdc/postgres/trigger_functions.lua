-- pgcdc.postgres.trigger_functions: the functions on the server that triggers call.
-- SPDX-License-Identifier: MIT
--
-- Each table has its own, whose names end in the number of its entry, see trigger:
--
--    stamp      before a row is written: the transaction's id goes into it
--    (DELETED)  after a row was deleted: a tombstone
--    moved      after an update: a tombstone if it has changed the key
--    emptied    before TRUNCATE: a tombstone for each row
--    key, arguments   what these need where columns have other names than at the installation

local quote = require("pgcdc.names").quote

local functions = {}

local function literal(text)
   return "'" .. text:gsub("'", "''") .. "'"
end

-- The trigger function that writes the xid into each row. All names in it are qualified, since it
-- runs with the search_path of the session that writes.
local STAMP = [[
CREATE OR REPLACE FUNCTION pgcdc.%s() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
   NEW.pgcdc_xid := pg_catalog.pg_current_xact_id();
%s   RETURN NEW;
END $$]]

-- The other functions run with the rights of the role that installed them, and those that make
-- tombstones with fixed values of all settings that shape text.
local SETTINGS = [[
SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres'
SET TimeZone = 'UTC' SET extra_float_digits = 1 SET bytea_output = 'hex' SET row_security = off]]

-- The arguments of jsonb_build_object for the key as the columns are now: 'id', OLD.id, 'b', OLD.b.
-- NULL where one of them was dropped. `side` is OLD, say.
local ARGUMENTS = [[
CREATE OR REPLACE FUNCTION pgcdc.arguments_%d(side text) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $body$
   SELECT CASE WHEN count(coalesce(named.attname, numbered.attname)) = count(*) THEN string_agg(
      format('%%L, %%s.%%I', k.label, side, coalesce(named.attname, numbered.attname)), ', ') END
   FROM unnest(%s::text[], '{%s}'::int2[]) k(label, num)
   LEFT JOIN pg_attribute named ON named.attrelid = %d AND named.attname = k.label
      AND named.attnum > 0 AND NOT named.attisdropped
   LEFT JOIN pg_attribute numbered ON numbered.attrelid = %d AND numbered.attnum = k.num
      AND NOT numbered.attisdropped
$body$]]

-- The key of a row whatever its columns are called now; {} if it cannot be made.
local KEY = [[
CREATE OR REPLACE FUNCTION pgcdc.key_%d(r record) RETURNS jsonb LANGUAGE plpgsql
]] .. SETTINGS .. [[ AS $body$
DECLARE k jsonb;
BEGIN
   EXECUTE 'SELECT jsonb_build_object(' || pgcdc.arguments_%d('($1)') || ')' INTO k USING r;
   RETURN k;
EXCEPTION WHEN OTHERS THEN
   RETURN '{}';
END $body$]]

-- First the key is read by its names, which is quick and nearly always right. (The block that
-- catches errors takes no subtransaction id, since nothing is written in it.)
local DELETED = [[
CREATE OR REPLACE FUNCTION pgcdc.%s_%d() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
]] .. SETTINGS .. [[ AS $body$
DECLARE k jsonb;
BEGIN
   BEGIN
      k := jsonb_build_object(%s);
   EXCEPTION WHEN OTHERS THEN
      k := pgcdc.key_%d(OLD);
   END;
   INSERT INTO pgcdc.deleted ("table", key) VALUES (%d, k);
%s   RETURN NULL;
END $body$]]

-- An update is a delete too if it changes the key, down to the last byte. All names are qualified:
-- to fix settings would cost more than the rest.
local MOVED = [[
CREATE OR REPLACE FUNCTION pgcdc.moved_%d() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
AS $body$
BEGIN
   BEGIN
      IF %s OPERATOR(pg_catalog.*=) %s THEN
         RETURN NULL;
      END IF;
   EXCEPTION WHEN OTHERS THEN
      IF pgcdc.key_%d(OLD)::pg_catalog.text OPERATOR(pg_catalog.=)
         pgcdc.key_%d(NEW)::pg_catalog.text THEN
         RETURN NULL;
      END IF;
   END;
   INSERT INTO pgcdc.deleted ("table", key) VALUES (%d, pgcdc.key_%d(OLD));
%s   RETURN NULL;
END $body$]]

-- TRUNCATE of a partitioned table calls the triggers of all its parts; parts that were made later
-- have none.
local EMPTIED = [[
CREATE OR REPLACE FUNCTION pgcdc.emptied_%d() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
]] .. SETTINGS .. [[ AS $body$
DECLARE part oid;
BEGIN
   FOR part IN SELECT c.oid FROM pg_class c
      WHERE c.oid = TG_RELID AND c.relkind = 'r' UNION ALL
      SELECT p.relid FROM pg_partition_tree(TG_RELID) p WHERE p.isleaf AND p.relid <> TG_RELID
      AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = p.relid AND tgname = TG_NAME)
   LOOP
      BEGIN
         EXECUTE 'INSERT INTO pgcdc.deleted ("table", key) SELECT %d, jsonb_build_object('
            || pgcdc.arguments_%d('OLD') || ') FROM ONLY ' || part::regclass || ' OLD';
      EXCEPTION WHEN OTHERS THEN
         INSERT INTO pgcdc.deleted ("table", key) VALUES (%d, '{}');
      END;
   END LOOP;
%s   RETURN NULL;
END $body$]]

-- Appends text to a list, by string.format if there are arguments.
local function add(list, text, ...)
   list[#list + 1] = select("#", ...) > 0 and text:format(...) or text
end

-- The arguments of jsonb_build_object for a key: 'id', OLD.id, 'b', OLD.b
local function key_arguments(key)
   local parts = {}
   for i, name in ipairs(key) do
      parts[i] = ("%s, OLD.%s"):format(literal(name), quote(name))
   end
   return table.concat(parts, ", ")
end

-- The key as a row of SQL. `side`: "OLD" or "NEW".
local function key_row(side, key)
   local parts = {}
   for i, name in ipairs(key) do
      parts[i] = ("%s.%s"):format(side, quote(name))
   end
   return ("ROW(%s)::record"):format(table.concat(parts, ", "))
end

-- A list of text as an array of SQL.
function functions.array(list)
   local parts = {}
   for i, text in ipairs(list) do
      parts[i] = literal(text)
   end
   return ("ARRAY[%s]"):format(table.concat(parts, ", "))
end

-- Those that triggers call, and those that these call.
local TRIGGER_FUNCTIONS = { "stamp", "gone", "moved", "emptied" }
local FUNCTIONS = { "stamp()", "gone()", "moved()", "emptied()", "key(record)", "arguments(text)" }

-- The name of one of them, with its arguments: pgcdc.stamp_17().
local function function_name(signature, number)
   return "pgcdc." .. signature:gsub("%(", ("_%d("):format(number))
end

--- Adds statements that make them. `number`: that of the entry; `attnums`: of the key's columns.
function functions.add(step, t, number, key, attnums, notify)
   local notification = notify
      and ("   PERFORM pg_catalog.pg_notify('pgcdc', '%d');\n"):format(number) or ""
   add(step, ARGUMENTS, number, functions.array(key), table.concat(attnums, ","), t.oid, t.oid)
   add(step, KEY, number, number)
   add(step, STAMP, "stamp_" .. number, notification)
   add(step, DELETED, "gone", number, key_arguments(key), number, number, notification)
   add(step, MOVED, number, key_row("OLD", key), key_row("NEW", key), number, number, number,
      number, notification)
   add(step, EMPTIED, number, number, number, number, notification)
   for _, signature in ipairs(FUNCTIONS) do
      add(step, "REVOKE ALL ON FUNCTION " .. function_name(signature, number) .. " FROM PUBLIC")
   end
   for _, name in ipairs(TRIGGER_FUNCTIONS) do -- the owner needs them to make partitions
      add(step, "GRANT EXECUTE ON FUNCTION pgcdc.%s_%d() TO %s", name, number, t.owner)
   end
end

--- Adds statements that drop them.
function functions.drop(step, number)
   for _, signature in ipairs(FUNCTIONS) do
      add(step, "DROP FUNCTION IF EXISTS " .. function_name(signature, number))
   end
end

return functions
