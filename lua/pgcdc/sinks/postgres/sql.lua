-- pgcdc.sinks.postgres.sql: the statements that move rows from a COPY into a table.
-- SPDX-License-Identifier: MIT
--
-- Rows go into a temporary table with the columns c1, c2 and so on, and o, which numbers them in
-- the order in which they came (a row that is short may stand in a page before the others); from
-- there one statement takes all of them. Where no row can collide with one that is there and no
-- value needs a conversion, a COPY writes to the table itself.

local misfits = require "pgcdc.sinks.postgres.misfits"
local own_rows = require "pgcdc.sinks.postgres.own_rows"
local partial = require "pgcdc.sinks.postgres.partial"
local quote = require("pgcdc.names").quote

local sql = {}

local NUMBER = "pg_catalog.row_number() OVER (ORDER BY o)"
local ORDER = "o int8 GENERATED ALWAYS AS IDENTITY (CACHE 1000)"

-- The name of column number i in the temporary table.
local function c(i)
   return "c" .. i
end

-- True if the text of the column is JSON, because the source reads it through to_json(), and the
-- target wants something else.
local function wants_conversion(column, to)
   return column.is_own or misfits.wants_text(column, to) or column.wants_json
      and to.category ~= "S" and to.type_name ~= "json" and to.type_name ~= "jsonb"
end

-- Types that JSON has as arrays, while the text of their values is another one.
local vectors = { int2vector = true, oidvector = true }

-- SQL for the target's value of JSON text; nil where a cast makes it.
local function of_json(name, to)
   if vectors[to.type_name] and to.type_schema == "pg_catalog" then
      return ("CASE WHEN %s IS NOT NULL THEN (SELECT coalesce(pg_catalog.string_agg(e.v, ' '"
         .. " ORDER BY e.n), '') FROM pg_catalog.json_array_elements_text(%s::json)"
         .. " WITH ORDINALITY e(v, n))"
         .. "::%s END"):format(name, name, to.type)
   elseif to.is_made_of_parts then
      return ("(SELECT x.v%s FROM pg_catalog.json_to_record(pg_catalog.json_build_object('v',"
         .. " %s::json)) AS x(v %s))"):format(to.shadow and "::text::" .. to.type or "", name,
         to.shadow or to.type)
   elseif to.type_name == "hstore" then
      local schema = quote(to.type_schema)
      return ("CASE WHEN %s IS NOT NULL THEN (SELECT coalesce(%s.hstore(pg_catalog.array_agg(e.k),"
         .. " pg_catalog.array_agg(e.v)), ''::%s.hstore) FROM pg_catalog.json_each_text(%s::json)"
         .. " e(k, v)) END"):format(name, schema, schema, name)
   end
end

-- SQL for the target's value, made of the column `name` of the temporary table.
local function expression(name, column, to)
   if column.is_own then
      return own_rows.expression(name, to, of_json(name, to) and function(json)
         return of_json(json, to)
      end)
   elseif misfits.wants_text(column, to) then
      return ("%s::%s"):format(name, own_rows.type_without_length(to))
   elseif not column.wants_json then
      return name
   end
   return of_json(name, to) or ("%s::%s"):format(name, to.type)
end

-- The list of f(column, place) for each column; nil is left out.
local function each(columns, f)
   local parts = {}
   for i, column in ipairs(columns) do
      parts[#parts + 1] = f(column, i)
   end
   return parts
end

-- The same as text, with commas between.
local function comma(columns, f)
   return table.concat(each(columns, f), ", ")
end

-- "t.a = s.c1 AND ..." for the key; `f(column)`: the right side.
local function same_key(layout, f)
   return table.concat(each(layout.key, function(column)
      return ("t.%s = %s"):format(quote(column.target), f(column))
   end), " AND ")
end

-- What the statements of all modes need of a layout: to (the table), layout, keep (the columns that
-- can be written), needs_conversion, and pieces of SQL: into, from, key, rows(...).
local function describe(layout, facts)
   local d = { to = facts.full, layout = layout, keep = {}, needs_conversion = false }
   for _, column in ipairs(layout.columns) do
      local to = facts.by_name[column.target]
      if to.is_generated then
         d.needs_conversion = true -- COPY cannot leave it out
      else
         d.keep[#d.keep + 1] = column
         d.needs_conversion = d.needs_conversion or wants_conversion(column, to)
      end
   end
   d.into = comma(d.keep, function(column)
      return quote(column.target)
   end)
   d.from = comma(d.keep, function(column)
      return "s." .. c(column.place)
   end)
   d.key = comma(layout.key, function(column)
      return "s." .. c(column.place)
   end)
   -- SQL for the converted rows of the table `temp`; `o` is their order, `more` are other columns
   function d.rows(temp, order, more)
      return ("(SELECT %s%s, %s AS o FROM %s)"):format(comma(d.keep, function(column)
         local to = facts.by_name[column.target]
         return ("%s AS %s"):format(expression(c(column.place), column, to), c(column.place))
      end), more or "", order, temp)
   end
   return d
end

-- The statement that makes a temporary table of these columns. `more`: definitions of others, or
-- nil.
local function temporary(name, columns, facts, more)
   local parts = each(columns, function(column)
      local to = facts.by_name[column.target]
      local type = (column.is_own or column.wants_json or to.is_generated
         or misfits.wants_text(column, to)) and "text" or to.type
      return ("%s %s"):format(c(column.place), type)
   end)
   parts[#parts + 1] = more
   return ("CREATE TEMPORARY TABLE IF NOT EXISTS %s (%s) ON COMMIT DELETE ROWS"):format(name,
      table.concat(parts, ", "))
end

local function copy_from(to, columns)
   return ("COPY %s (%s) FROM STDIN"):format(to, columns)
end

local function all_places(columns, more)
   return comma(columns, function(column)
      return c(column.place)
   end) .. (more or "")
end

-- ---- append ----

local function append(d, temp)
   return {
      apply = ("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s s ORDER BY s.o")
         :format(d.to, d.into, d.from, d.rows(temp, "o")),
   }
end

-- ---- mirror ----

local function on_conflict(d, facts)
   local is_key = {}
   for _, column in ipairs(d.layout.key) do
      is_key[column] = true
   end
   local set = each(d.keep, function(column)
      if not is_key[column] and not facts.by_name[column.target].is_always_identity then
         return ("%s = EXCLUDED.%s"):format(quote(column.target), quote(column.target))
      end
   end)
   return ("ON CONFLICT (%s) DO %s"):format(comma(d.layout.key, function(column)
      return quote(column.target)
   end), #set > 0 and "UPDATE SET " .. table.concat(set, ", ") or "NOTHING")
end

local function mirror(d, temp, deletes, facts)
   local insert = ("INSERT INTO %s AS t (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM "):format(d.to,
      d.into, d.from)
   local conflict = on_conflict(d, facts)
   -- the last one of each key
   local function last(rows)
      return ("(SELECT DISTINCT ON (%s) s.* FROM %s s ORDER BY %s, s.o DESC)"):format(d.key, rows,
         d.key)
   end
   local deleted_keys = comma(d.layout.key, function(column)
      return ("%s AS %s"):format(expression(c(column.place), column, facts.by_name[column.target]),
         c(column.place))
   end)
   local deleted_rows = ("(SELECT %s, n FROM %s)"):format(deleted_keys, deletes)
   local is_same = table.concat(each(d.layout.key, function(column)
      return ("g.%s = s.%s"):format(c(column.place), c(column.place))
   end), " AND ")
   return {
      -- of rows that lack columns
      partial = d.layout.lacking and partial.statement(d.to, each(d.keep, function(column)
         if not column.is_key and not facts.by_name[column.target].is_always_identity then
            return ("%s = s.%s"):format(quote(column.target), c(column.place))
         end
      end), last(d.rows(temp, "o")), same_key(d.layout, function(column)
         return "s." .. c(column.place)
      end)) or nil,
      -- where no key comes twice
      apply = ("%s%s s %s"):format(insert, d.rows(temp, "o"), conflict),
      apply_last = ("%s%s s %s"):format(insert, last(d.rows(temp, "o")), conflict),
      -- n: how many rows had come before the delete
      delete = ("DELETE FROM %s AS t USING (SELECT DISTINCT %s FROM %s s) s WHERE %s"):format(d.to,
         d.key, deleted_rows, same_key(d.layout, function(column)
            return "s." .. c(column.place)
         end)),
      apply_after_deletes = ("%s%s s WHERE NOT EXISTS (SELECT FROM %s g WHERE %s AND g.n >= s.o)"
         .. " %s"):format(insert, last(d.rows(temp, NUMBER)), deleted_rows, is_same, conflict),
      -- all keys that come, as rows k, and what makes them the keys of the rows t
      keys = ("(SELECT %s FROM %s s UNION SELECT %s FROM %s s) k ON %s"):format(d.key,
         d.rows(temp, "o"), d.key, deleted_rows, same_key(d.layout, function(column)
            return "k." .. c(column.place)
         end)),
      create_deletes = temporary(deletes, d.layout.key, facts, "n int8"),
      copy_deletes = copy_from(deletes, all_places(d.layout.key, ", n")),
   }
end

-- ---- history ----

local function history(d, temp)
   local rows = d.rows(temp, "o", ", op, ts")
   return {
      close = ("UPDATE %s AS t SET valid_to = n.ts FROM (SELECT DISTINCT ON (%s) s.* FROM %s s"
         .. " ORDER BY %s, s.o) n WHERE %s AND t.valid_to IS NULL"):format(d.to, d.key, rows, d.key,
         same_key(d.layout, function(column)
            return "n." .. c(column.place)
         end)),
      apply = ("INSERT INTO %s (%s, op, valid_from, valid_to) OVERRIDING SYSTEM VALUE SELECT %s,"
         .. " s.op, s.ts, s.next FROM (SELECT s.*, pg_catalog.lead(s.ts) OVER (PARTITION BY %s"
         .. " ORDER BY s.o) AS next FROM %s s) s WHERE s.op <> 'delete' ORDER BY s.o"):format(d.to,
         d.into, d.from, d.key, rows),
   }
end

--- The statements for rows of `layout` into the table with these facts. `temp`: the name of a
--- temporary table.
---    create, copy     the temporary table, and what fills it
---    misfits          what to ask about values in it that a script made, see there; nil: nothing
--    row_keys         SQL that reads the keys of its rows, as the target has them
---    direct           COPY into the table itself; nil where that is impossible
---    apply and others what moves the rows from one to the other
---    values           of each column {name =, create = a temporary table, insert = what puts the
---                     values of the column in the first one there}
function sql.build(layout, facts, mode, temp)
   local d = describe(layout, facts)
   local statements, more, more_columns
   if mode == "mirror" then
      statements = mirror(d, "pg_temp." .. temp, "pg_temp." .. temp .. "_deletes", facts)
   elseif mode == "history" then
      statements = history(d, "pg_temp." .. temp)
      more, more_columns = ", op, ts", "op text, ts timestamptz"
   else
      statements = append(d, "pg_temp." .. temp)
   end
   statements.create = temporary("pg_temp." .. temp, layout.columns, facts,
      more_columns and ORDER .. ", " .. more_columns or ORDER)
   statements.copy = copy_from("pg_temp." .. temp, all_places(layout.columns, more))
   statements.misfits = misfits.of(layout, facts, "pg_temp." .. temp)
   statements.row_keys = ("SELECT %s FROM %s s"):format(d.key, d.rows("pg_temp." .. temp, "o"))
   statements.values = each(d.keep, function(column)
      local name, to = ("pg_temp.%s_%d"):format(temp, column.place), facts.by_name[column.target]
      return { name = column.target,
         create = ("CREATE TEMPORARY TABLE %s (v %s)"):format(name, to.type),
         insert = ("INSERT INTO %s SELECT %s FROM pg_temp.%s"):format(name,
            expression(c(column.place), column, to), temp) }
   end)
   if not d.needs_conversion and not layout.lacking and (mode == "append" or facts.is_unique) then
      local added = mode == "history" and ", op, valid_from" or ""
      statements.direct = copy_from(d.to, d.into .. added)
   end
   return statements
end

return sql
