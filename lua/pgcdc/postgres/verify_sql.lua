-- pgcdc.postgres.verify_sql: the SQL by which verify reads one side.
-- SPDX-License-Identifier: MIT
--
-- A row is compared by the md5 of one text, which is the same on both sides if the values are the
-- same: columns in one order, each as its type writes it, with fixed settings, in UTF-8.
-- ROW()::text tells NULL from '', and no value can look like two. md5 is the same on every server
-- of any version; that is not promised of the hash functions of types.
--
-- Where the types of the two sides differ, or one value has several texts, both sides write what
-- they have in common: numbers without zeros at the end, json as jsonb writes it, arrays and
-- composites (whose bounds are not mirrored) as JSON, char(n) without its blanks.

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"
local quote = require("pgcdc.names").quote

local sql = {}

sql.BUCKETS = 16384

--- The settings with which a transaction begins, before anything has taken its snapshot.
function sql.settings(version)
   return "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
      .. raw.session("verify", version)
end

--- A statement that takes the snapshot of a transaction, if it is the first one that needs one.
sql.SNAPSHOT = answer.question("SELECT", {})

--- A question about the table that the name $1 means.
sql.FIND = answer.question([[
   SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
      pg_catalog.current_setting('server_encoding') AS encoding
   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = pg_catalog.to_regclass($1)]], {
   oid = "integer", schema = "text", name = "text", kind = "text", encoding = "text" })

--- A question about the columns of the table with the oid $1, with the base types of domains;
--- `key`: the place in the primary key.
sql.COLUMNS = answer.question([[
   WITH RECURSIVE base(num, typ) AS (
      SELECT attnum, atttypid FROM pg_catalog.pg_attribute
         WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped
      UNION ALL
      SELECT num, t.typbasetype FROM base JOIN pg_catalog.pg_type t ON t.oid = typ
         WHERE t.typtype = 'd')
   SELECT a.attname AS name, a.attnotnull AS is_not_null, t.typname AS type,
      pg_catalog.format('%I.%I', n.nspname, t.typname) AS full_type,
      t.typcategory::text AS category,
      t.typtype = 'c' OR t.typelem <> 0
         AND t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc AS has_parts,
      t.oid >= 16384 AND EXISTS (SELECT FROM pg_catalog.pg_cast WHERE castsource = t.oid
         AND castmethod = 'f' AND casttarget = 'pg_catalog.json'::regtype) AS has_json,
      k.place AS key
   FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typ AND t.typtype <> 'd'
      JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
      JOIN pg_catalog.pg_attribute a ON a.attrelid = $1::oid AND a.attnum = b.num
      LEFT JOIN pg_catalog.pg_index i ON i.indrelid = $1::oid AND i.indisprimary
      LEFT JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(num, place)
         ON k.num = b.num AND k.place <= i.indnkeyatts
   ORDER BY a.attnum]], {
   name = "text", is_not_null = "boolean", type = "text", full_type = "text", category = "text",
   has_parts = "boolean", has_json = "boolean", key = "integer?" })

-- ---- columns ----

local numbers = { int2 = true, int4 = true, int8 = true, numeric = true, float4 = true,
                  float8 = true }
local moments = { date = true, timestamp = true, timestamptz = true }

-- A pattern of texts that json and text can hold and jsonb cannot.
local NOT_FOR_JSONB = [['\\u(0000|[dD][89a-fA-F])']]

local function is_json(column)
   return column.type == "json" or column.type == "jsonb"
end

-- How the values of two columns of different types, or of one whose values have several texts,
-- become comparable; "plain": by their texts.
local function choose(a, b)
   local is_same = a.full_type == b.full_type
   if is_same and a.type == "jsonb" then
      return "plain"
   elseif is_json(a) or is_json(b) or a.has_parts or b.has_parts
      or not is_same and (a.has_json or b.has_json) then
      return (a.category == "S" or b.category == "S") and "json_text" or "json"
   elseif is_same then
      return (a.type == "numeric" or a.type == "bpchar") and a.type or "plain"
   elseif numbers[a.type] and numbers[b.type] then
      return "number"
   elseif moments[a.type] and moments[b.type] then
      return "moment"
   elseif a.type == "bpchar" or b.type == "bpchar" then
      return "bpchar"
   end
   return "plain"
end

-- SQL for the text of a JSON value.
local function json_text(name, column)
   if is_json(column) or column.category == "S" then
      return name .. "::text"
   end
   return ("pg_catalog.to_json(%s)::text"):format(name)
end

local expressions = {
   plain = function(name) return name end,
   numeric = function(name) return ("pg_catalog.trim_scale(%s)"):format(name) end,
   number = function(name) return ("pg_catalog.trim_scale(%s::text::numeric)"):format(name) end,
   moment = function(name) return name .. "::timestamp" end,
   bpchar = function(name) return ("pg_catalog.rtrim(%s::text)"):format(name) end,
   json_text = json_text,
   json = function(name, column)
      local text = json_text(name, column)
      return ("CASE WHEN %s ~ %s THEN pg_catalog.translate(%s, E'\\n\\r\\t', '   ')"
         .. " ELSE (%s)::jsonb::text END"):format(text, NOT_FOR_JSONB, text, text)
   end,
}

--- Pairs a column of one side with that of the other: {name =, a =, b = SQL of what is compared,
--- is_same = the columns are compared by their own types, a_column =, b_column =}.
function sql.pair(a, b)
   local how = choose(a, b)
   local name = "t." .. quote(a.name)
   return { name = a.name, a_column = a, b_column = b,
            is_same = a.full_type == b.full_type and how ~= "json" and how ~= "json_text",
            a = expressions[how](name, a), b = expressions[how](name, b) }
end

-- What is compared of one side, as SQL with commas between. `side`: "a" or "b".
local function list(pairs_of_columns, side)
   local parts = {}
   for i, pair in ipairs(pairs_of_columns) do
      parts[i] = pair[side]
   end
   return table.concat(parts, ", ")
end

-- ---- statements ----

local function hash_of(text)
   return ("pg_catalog.md5(pg_catalog.convert_to(%s, 'UTF8'))"):format(text)
end

local function from(side, where)
   return ("FROM %s t%s"):format(side.rows, where and (" WHERE (%s)"):format(where) or "")
end

-- SQL for the number in 16 hex digits of the hash h, from the digit `first` on. Of its 32 the last
-- 16 choose the bucket.
local function number(first)
   return ("('x' || pg_catalog.substr(h, %d, 16))::bit(64)::int8"):format(first)
end

local BUCKET = ("(%s & %d)"):format(number(17), sql.BUCKETS - 1)

--- The questions for one side. `side`: {rows = the table as SQL reads it, letter = "a" or "b"};
--- `columns`, `key`: lists of what sql.pair returns; `where`: SQL or nil.
---    buckets   bucket, n, x: how many rows, and the xor of their hashes
---    rows      k, h: keys and hashes of the rows in the buckets $1; sorted, so that each server
---              does its work before it sends the first of them, and both work at the same time
---    named     the same, and c, the hashes of the columns, of rows by key: the arrays $1 ... are
---              the columns of the keys, the last one is what was k
---    scanned   the same, by $1, a list of what was k
function sql.statements(side, columns, key, where)
   local letter = side.letter
   local key_text = ("ROW(%s)::text"):format(list(key, letter))
   local hash = hash_of(("ROW(%s)::text"):format(list(columns, letter)))
   local source = from(side, where)
   local each, arrays, names, matches, parts, outer = {}, {}, {}, {}, {}, {}
   local read = {}
   for i, pair in ipairs(columns) do
      read[i] = "t." .. quote(pair.name)
      each[i] = ("pg_catalog.left(%s, 8)"):format(hash_of(("ROW(%s)::text"):format(pair[letter])))
   end
   for i, pair in ipairs(key) do
      -- a name that no column of the table has
      local column, name = pair[letter .. "_column"], quote("pgcdc k" .. i)
      local value, wanted = pair[letter] .. "::text", "v." .. name
      if pair.is_same then -- so that the server can use an index
         value, wanted = "t." .. quote(pair.name), ("%s::%s"):format(wanted, column.full_type)
      end
      matches[i] = column.is_not_null and ("%s = %s"):format(value, wanted)
         or ("(%s = %s OR %s IS NULL AND v.%s IS NULL)"):format(value, wanted, value, name)
      arrays[i], names[i] = ("pg_catalog.unnest($%d::text[])"):format(i), name
      parts[i] = ("CASE WHEN %s IS NOT NULL THEN pg_catalog.format('%%s', %s) END AS k%d"):format(
         pair[letter], pair[letter], i)
      outer[i] = "k" .. i
   end
   local of_buckets = { bucket = "integer", n = "integer", x = "integer" }
   local of_rows, of_columns = { k = "text", h = "text" }, { k = "text", h = "text", c = "text" }
   for _, name in ipairs(outer) do
      of_rows[name] = "text?"
   end
   local columns_hash = ("pg_catalog.array_to_string(ARRAY[%s], ',') AS c"):format(
      table.concat(each, ", "))
   local rows = ("(SELECT %s %s) t"):format(table.concat(read, ", "), source)
   -- what an index finds may be equal without being the same, as with citext
   local whole = quote "pgcdc key"
   matches[#matches + 1] = ("%s = v.%s"):format(key_text, whole)
   arrays[#arrays + 1], names[#names + 1] =
      ("pg_catalog.unnest($%d::text[])"):format(#key + 1), whole
   local texts = {
      buckets = ("SELECT %s AS bucket, pg_catalog.count(*) AS n, pg_catalog.bit_xor(%s) AS x FROM"
         .. " (SELECT %s AS h %s) s GROUP BY 1"):format(BUCKET, number(1), hash, source),
      rows = ("SELECT k, h, %s FROM (SELECT %s AS k, %s, %s AS h %s) s WHERE %s = ANY ($1::int8[])"
         .. " ORDER BY h"):format(table.concat(outer, ", "), key_text, table.concat(parts, ", "),
         hash, source, BUCKET),
      named = ("SELECT %s AS k, %s AS h, %s FROM ROWS FROM (%s) v(%s) JOIN %s ON %s"):format(
         key_text, hash, columns_hash, table.concat(arrays, ", "), table.concat(names, ", "), rows,
         table.concat(matches, " AND ")),
      scanned = ("SELECT %s AS k, %s AS h, %s FROM %s WHERE"
         .. " pg_catalog.convert_to(%s, 'UTF8') = ANY ($1::bytea[])"):format(key_text, hash,
         columns_hash, rows, key_text),
   }
   local questions = {}
   for what, text in pairs(texts) do
      questions[what] = answer.question(text, what == "buckets" and of_buckets
         or what == "rows" and of_rows or of_columns)
   end
   return questions
end

return sql
