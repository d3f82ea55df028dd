-- pgcdc.sinks.postgres.target: the table that a sink writes to: what it is, how it is made.
-- SPDX-License-Identifier: MIT
--
-- Everything here runs inside the sink's transaction. `run(sql, ...)` returns rows, or raises what
-- the server says. Errors of our own are plain text. `asked`: the name as the script wrote it.

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"
local follow = require "pgcdc.sinks.postgres.follow"
local loop = require "pgcdc.sinks.postgres.loop"
local postgres_parts = require "pgcdc.sinks.postgres.parts"
local postgres_shadow = require "pgcdc.sinks.postgres.shadow"
local users_table = require "pgcdc.sinks.postgres.users_table"
local quote = require("pgcdc.names").quote

local target = {}

-- The comment on tables that we made: these follow the source, if we own them.
local OUR_COMMENT = "made by pgcdc-lua"

local TABLE = answer.question([[
   SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
      coalesce(pg_catalog.obj_description(c.oid, 'pg_class') = $2, false)
         AND pg_catalog.pg_has_role(c.relowner, 'USAGE') AS is_ours,
      pg_catalog.current_setting('server_version_num')::int8 AS version
   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = pg_catalog.to_regclass($1)]], {
   oid = "integer", schema = "text", name = "text", kind = "text", is_ours = "boolean",
   version = "integer" })

local COLUMNS = answer.question([[
   WITH RECURSIVE base(num, typ, typmod) AS (
      SELECT attnum, atttypid, atttypmod FROM pg_catalog.pg_attribute
         WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
      UNION ALL
      SELECT num, t.typbasetype, t.typtypmod FROM base JOIN pg_catalog.pg_type t ON t.oid = typ
         WHERE t.typtype = 'd')
   SELECT a.attname AS name, a.attnum::int8 AS number, a.atttypid::int8 AS full_oid,
      a.atttypmod::int8 AS typmod,
      pg_catalog.format_type(b.typ, b.typmod) AS type, t.oid::int8 AS oid,
      pg_catalog.format_type(a.atttypid, a.atttypmod) AS full_type,
      pg_catalog.col_description(a.attrelid, a.attnum) AS comment,
      CASE WHEN a.attgenerated <> '' THEN (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid)
         FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)
         END AS expression,
      t.typname AS type_name, n.nspname AS type_schema, t.typcategory::text AS category,
      a.attgenerated <> '' AS is_generated, a.attidentity = 'a' AS is_always_identity,
      t.typtype = 'c' OR t.typelem <> 0
         AND t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc AS is_made_of_parts
   FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typ AND t.typtype <> 'd'
      JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
      JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = b.num
   ORDER BY a.attnum]], {
   name = "text", number = "integer", full_oid = "integer", typmod = "integer", type = "text",
   oid = "integer", full_type = "text",
   comment = "text?", expression = "text?", type_name = "text", type_schema = "text",
   category = "text", is_generated = "boolean", is_always_identity = "boolean",
   is_made_of_parts = "boolean" })

-- Types whose oid is at least this were made by somebody: initdb makes those below it.
local FIRST_OID = 16384

-- Whether there is a unique index on exactly these columns, with exactly this condition ('': none).
local UNIQUE = answer.question([[
   SELECT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = $1 AND i.indisunique
      AND i.indisvalid AND i.indimmediate AND i.indexprs IS NULL
      AND coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), '') = $3
      AND i.indnkeyatts = pg_catalog.json_array_length($2::json)
      AND NOT EXISTS (SELECT FROM pg_catalog.json_array_elements_text($2::json) n
         WHERE n::int2 <> ALL ((i.indkey::int2[])[0:i.indnkeyatts - 1]))) AS is_there]],
   { is_there = "boolean" })

-- The primary key of a mirror that we made; the indexes that keep open versions apart in a history.
local OUR_KEYS = answer.question([[
   SELECT pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS sql
   FROM pg_catalog.pg_constraint WHERE conrelid = $1 AND contype = 'p' AND $2
   UNION ALL
   SELECT pg_catalog.format('DROP INDEX %s', indexrelid::regclass)
   FROM pg_catalog.pg_index WHERE indrelid = $1 AND NOT $2 AND indisunique
      AND pg_catalog.pg_get_expr(indpred, indrelid) = '(valid_to IS NULL)']], { sql = "text" })

-- The types whose names are in $1, as far as they are there.
local TYPES = answer.question([[
   SELECT pg_catalog.to_regtype(t)::oid::int8 AS full_oid, (-1)::int8 AS typmod
   FROM pg_catalog.json_array_elements_text($1::json) WITH ORDINALITY AS u(t, n) ORDER BY n]],
   { full_oid = "integer?", typmod = "integer" })

local PARTS_OF_NAME = answer.question(
   "SELECT pg_catalog.array_to_json(pg_catalog.parse_ident($1)) AS parts", { parts = "texts" })

local HAS_SCHEMA = answer.question(
   "SELECT pg_catalog.to_regnamespace($1) IS NOT NULL AS is_there", { is_there = "boolean" })

-- A list as JSON.
local function list(items)
   return raw.encode(setmetatable(items, raw.array_metatable))
end

-- The names of columns in the target, as SQL writes them, with commas between.
local function names_of(columns)
   local names = {}
   for i, column in ipairs(columns) do
      names[i] = quote(column.target)
   end
   return table.concat(names, ", ")
end

-- ---- making one ----

-- Gives those columns, or types, whose type somebody made a field `whole`, see parts.
local function read_parts(run, columns)
   local asked = {}
   for _, column in ipairs(columns) do
      if column.full_oid and column.full_oid >= FIRST_OID then
         asked[#asked + 1] = { oid = column.full_oid, typmod = column.typmod, column = column }
      end
   end
   for i, whole in ipairs(postgres_parts.of_types(run, asked)) do
      asked[i].column.whole = whole
   end
end

-- Sets `made_as`, the type that a column gets in the target: the source's own, if the target has
-- it, and if it is the same there.
local function set_types(run, columns, log)
   local asked = {}
   for i, column in ipairs(columns) do
      asked[i] = column.type
   end
   local rows = TYPES:rows(run, list(asked))
   if #rows ~= #columns then
      TYPES:fail("%d rows came in place of %d", #rows, #columns)
   end
   read_parts(run, rows)
   for i, column in ipairs(columns) do
      local there = rows[i].whole
      column.made_as = column.type
      if not rows[i].full_oid then
         column.made_as = column.kind == "json" and "jsonb" or "text"
         log("warn", ("the target has no type %s: column %s becomes %s"):format(column.type,
            column.target, column.made_as))
      elseif there and column.base_type and (column.parts or postgres_parts.are_many(there))
         and not postgres_parts.hold(column.whole, there, column.wants_json, column.is_key) then
         column.made_as = postgres_parts.plain(column.whole, column.wants_json)
         log("warn", ("the type %s of the target is another one than the source's: column %s"
            .. " becomes %s"):format(column.type, column.target, column.made_as))
      end
   end
end

local function definitions(columns, prefix)
   local parts = {}
   for i, column in ipairs(columns) do
      parts[i] = ("%s%s %s"):format(prefix, quote(column.target), column.made_as)
   end
   return parts
end

-- The schema and the name in `asked`. The schema is nil if it says none.
local function parse(run, asked)
   local parts = PARTS_OF_NAME:row(run, asked).parts
   if #parts == 0 then
      PARTS_OF_NAME:fail "no part came"
   elseif #parts > 2 then
      error(("the name of a table has at most two parts: %s"):format(asked), 0)
   end
   return parts[2] and parts[1], parts[#parts]
end

-- Makes the table, unless somebody else has made it meanwhile.
local function make(run, asked, layout, mode, log)
   local schema, name = parse(run, asked)
   if schema and not HAS_SCHEMA:row(run, quote(schema)).is_there then
      error(("there is no schema %s in the target: create it first"):format(schema), 0)
   end
   local full = (schema and quote(schema) .. "." or "") .. quote(name)
   -- without the lock, one of two programs that make it at the same time would fail
   run("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('pgcdc-lua ' || $1))", asked)
   if #run("SELECT FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1)", full) > 0 then
      return
   end
   set_types(run, layout.columns, log)
   local parts = definitions(layout.columns, "")
   local keys = names_of(layout.key)
   if mode == "history" then
      parts[#parts + 1] = "op text"
      parts[#parts + 1] = "valid_from timestamptz"
      parts[#parts + 1] = "valid_to timestamptz"
   elseif mode == "mirror" then
      parts[#parts + 1] = ("PRIMARY KEY (%s)"):format(keys)
   end
   run(("CREATE TABLE %s (%s)"):format(full, table.concat(parts, ", ")))
   if mode == "history" then
      run(("CREATE UNIQUE INDEX ON %s (%s) WHERE valid_to IS NULL"):format(full, keys))
   end
   run(("COMMENT ON TABLE %s IS '%s'"):format(full, OUR_COMMENT))
   log("info", ("the table %s was made in the target"):format(full))
end

-- ---- what is there ----

-- Facts about the table, or nil if there is none.
local function read(run, sink)
   local facts = TABLE:maybe(run, sink.table, OUR_COMMENT)
   if not facts then
      return nil
   end
   facts.full = quote(facts.schema) .. "." .. quote(facts.name)
   facts.follows = sink.create and facts.is_ours
   facts.columns = COLUMNS:rows(run, facts.oid)
   read_parts(run, facts.columns)
   facts.by_name = {}
   for _, column in ipairs(facts.columns) do
      facts.by_name[column.name] = column
      column.whole = column.whole or postgres_parts.read(nil, column.type)
      column.memory = facts.follows and follow.memory(column.comment) or {}
      column.has_own_comment = column.comment and not next(column.memory)
   end
   return facts
end

local function is_unique(run, facts, key, condition)
   local numbers = {}
   for i, column in ipairs(key) do
      numbers[i] = facts.by_name[column.target].number
   end
   return UNIQUE:row(run, facts.oid, list(numbers), condition).is_there
end

local function missing_columns(layout)
   local missing = {}
   for _, column in ipairs(layout.columns) do
      if not column.to then
         missing[#missing + 1] = column
      end
   end
   return missing
end

local function add_columns(run, facts, missing, log)
   set_types(run, missing, log)
   run(("ALTER TABLE %s %s"):format(facts.full,
      table.concat(definitions(missing, "ADD COLUMN IF NOT EXISTS "), ", ")))
   facts.is_altered = true
   log("info", ("the table %s in the target got the columns %s"):format(facts.full,
      names_of(missing)))
end

-- Sets `made_as` of the columns from each table, and logs nothing.
local function set_types_of_tables(run, layout)
   for _, seen in pairs(layout.by_table) do
      set_types(run, seen, function() end)
   end
end

-- ---- a table that we made, and one that we did not ----

-- Returns the facts after what has changed.
local function read_again(run, sink, before, layout)
   local facts = read(run, sink) or TABLE:fail "the table is not there any more"
   facts.is_altered, facts.is_changed = before.is_altered, before.is_changed
   follow.find(facts, layout)
   return facts
end

-- Makes the index that the mode needs, in the place of one on another key.
local function replace_key(run, facts, layout, mode, is_new)
   for _, row in ipairs(OUR_KEYS:rows(run, facts.oid, mode == "mirror")) do
      run(row.sql)
   end
   local keys = names_of(layout.key)
   if mode == "history" then
      run(("CREATE UNIQUE INDEX ON %s (%s) WHERE valid_to IS NULL"):format(facts.full, keys))
   else
      if is_new then -- rows that were there have no key; all come again
         run("DELETE FROM " .. facts.full)
      end
      run(("ALTER TABLE %s ADD PRIMARY KEY (%s)"):format(facts.full, keys))
   end
   facts.is_altered, facts.is_changed = true, true
end

-- Brings a table that we made in line with the source. Returns facts about it.
local function follow_source(run, sink, facts, layout, log)
   follow.names(run, facts, layout, sink.mode, log)
   follow.find(facts, layout)
   local missing = missing_columns(layout)
   if #missing > 0 then
      add_columns(run, facts, missing, log)
   end
   facts = facts.is_altered and read_again(run, sink, facts, layout) or facts
   set_types_of_tables(run, layout)
   users_table.check_attributes(facts, layout)
   follow.types(run, facts, layout, sink.mode, log)
   local condition = sink.mode == "history" and "(valid_to IS NULL)" or ""
   if sink.mode ~= "append" and not is_unique(run, facts, layout.key, condition) then
      local is_new = false
      for _, column in ipairs(missing) do
         is_new = is_new or column.is_key
      end
      replace_key(run, facts, layout, sink.mode, is_new)
   end
   return facts.is_altered and read_again(run, sink, facts, layout) or facts
end

local function check_users_table(run, sink, facts, layout, log)
   users_table.check_names(facts, layout)
   set_types_of_tables(run, layout)
   users_table.check_attributes(facts, layout)
   users_table.check_values(facts, layout, sink.mode, log)
   users_table.check_dropped(facts, layout, log)
end

-- Values of such a type come as the JSON that its own cast makes, which the type cannot read.
local function check_casts(facts, layout)
   for _, column in ipairs(layout.columns) do
      local to = facts.by_name[column.target]
      if column.has_json_cast and not (to.is_generated or to.category == "S"
         or to.type_name == "json" or to.type_name == "jsonb" or to.type_name == "hstore") then
         error(("values of the column %s come as JSON, by the cast from %s to json, which %s cannot"
            .. " read: make the column jsonb in the target, or leave it out with the source's"
            .. " columns= or :drop{}"):format(quote(column.target), column.type, to.type), 0)
      end
   end
end

-- Raises an error unless the table is fit for the layout. Sets facts.is_unique.
local function check(run, facts, layout, mode)
   for _, column in ipairs(layout.key) do
      if facts.by_name[column.target].is_generated then
         error(("the column %s of %s in the target is generated, so it cannot be written, and it is"
            .. " part of the key"):format(quote(column.target), facts.full), 0)
      end
   end
   if mode == "mirror" then
      facts.is_unique = is_unique(run, facts, layout.key, "")
      if not facts.is_unique and facts.kind ~= "v" then
         error(("to mirror into %s it needs a unique index on (%s): make one, or name other columns"
            .. " as pk="):format(facts.full, names_of(layout.key)), 0)
      end
   elseif mode == "history" then
      for _, name in ipairs { "op", "valid_from", "valid_to" } do
         if not facts.by_name[name] then
            error(("the table %s in the target has no column %s, which a history needs (op text,"
               .. " valid_from timestamptz, valid_to timestamptz)"):format(facts.full, name), 0)
         end
      end
      facts.is_unique = is_unique(run, facts, layout.key, "(valid_to IS NULL)")
   end
end

--- The table that `asked` names, {full = quoted name, name = with its schema, oid =}, or nil.
function target.find(run, asked)
   local facts = TABLE:maybe(run, asked, OUR_COMMENT)
   return facts and { full = quote(facts.schema) .. "." .. quote(facts.name),
                      name = facts.schema .. "." .. facts.name, oid = facts.oid }
end

--- Raises an error if a source that reads one of these tables reads what is written to the table
--- `asked`: see loop.check.
function target.refuse_loop(run, asked, tables)
   local found = next(tables) and target.find(run, asked)
   if found then
      loop.check(run, found, tables)
   end
end

--- Facts about the table that `sink.table` names, fit for `layout`: {full = quoted name, by_name =
--- columns, is_unique = there is an index that refuses doubles, is_made = it was made just now,
--- is_altered = so that what other layouts know of it does not hold any more, is_changed = and
--- more than that it got columns: statements of other layouts may not do any more}.
--- Where it is missing, it is made if `sink.create`; then it follows the source. `sink.mode`: as
--- the manual says. `prefix`: of the names of temporary types. What is made is logged by
--- `log(level, message)`.
function target.prepare(run, sink, layout, prefix, log)
   local facts = read(run, sink)
   if not facts and sink.create then
      make(run, sink.table, layout, sink.mode, log)
      facts = read(run, sink) or TABLE:fail "the table that was made is not there"
      facts.is_made = true
   end
   if not facts then
      error(("there is no table %s in the target"):format(sink.table), 0)
   end
   follow.find(facts, layout)
   if facts.follows then
      facts = follow_source(run, sink, facts, layout, log)
   else
      check_users_table(run, sink, facts, layout, log)
   end
   check_casts(facts, layout)
   check(run, facts, layout, sink.mode)
   postgres_shadow.find(run, facts.columns, prefix, list)
   return facts
end

return target
