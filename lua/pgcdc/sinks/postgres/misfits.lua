-- pgcdc.sinks.postgres.misfits: values that a script makes and the target would round, cut or leave
-- out.
-- SPDX-License-Identifier: MIT
--
-- Nothing is known of such values before they come, so the server is asked about them in the
-- temporary table: one statement for all columns whose types lose anything without an error. What
-- a value is given as, text or JSON, is compared with what the type makes of it, part by part (see
-- parts). The session's time zone is UTC.
--
-- A script's are the values of its own rows, of columns that it adds, and of those of a source to
-- which it has assigned any (there the server's own values, which fit, are looked at as well).

local answer = require "pgcdc.postgres.answer"
local quote = require("pgcdc.names").quote

local misfits = {}

local NUMBER = [['^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$']]
local BELOW_MICROSECONDS = [['\.[0-9]{6}[0-9]*[1-9]']]
local HAS_DATE = [['[0-9][-/][0-9].*[T ].*:']]

local function literal(text)
   return "'" .. text:gsub("'", "''") .. "'"
end

-- ---- one value without parts ----

local function number(x, type)
   return ("CASE WHEN %s ~ %s THEN %s::numeric <> (%s::%s)::text::numeric END"):format(x, NUMBER, x,
      x, type)
end

-- Type without its length or precision -> function(x, type, n): SQL that is true if the type cuts
-- or rounds the text x. n: its length or precision as text, or nil.
local losses = { real = number }

-- The server writes some doubles with other digits than those that a script's number has (see
-- types_float_text): one more where those of the number are half way between two doubles, one less
-- for some powers of two, and fewer where doubles are less precise. All of these have a point or an
-- exponent.
losses["double precision"] = function(x, type)
   local n = ("pg_catalog.trim_scale(%s::numeric)"):format(x)
   local t = ("(%s::%s)::text::numeric"):format(x, type)
   local scale = ("CASE pg_catalog.scale(%s) WHEN 0 THEN pg_catalog.length(pg_catalog.rtrim("
      .. "%s::text, '0')) - pg_catalog.length(%s::text) ELSE pg_catalog.scale(%s) END"):format(n,
      n, n, n)
   local function digits(of)
      return ("pg_catalog.length(pg_catalog.btrim(pg_catalog.translate(%s::text, '.-', ''), '0'))")
         :format(of)
   end
   local is_power = ("pg_catalog.right(pg_catalog.encode(pg_catalog.float8send(%s::%s), 'hex'), 13)"
      .. " = '0000000000000'"):format(x, type)
   return ("CASE WHEN %s THEN %s !~ '[.eE]' OR pg_catalog.abs(%s) > 2.2250738585072014e-308"
      .. " AND pg_catalog.round(%s, %s) <> %s AND NOT (%s AND %s = 17 AND %s = 16) END"):format(
      number(x, type), x, n, t, scale, n, is_power, digits(n), digits(t))
end

function losses.numeric(x, type, n)
   return n and number(x, type)
end

function losses.money(x)
   return ("CASE WHEN %s ~ %s THEN %s::numeric <> (%s::money)::numeric END"):format(x, NUMBER, x, x)
end

losses["character varying"] = function(x, _, n)
   return n and ("pg_catalog.char_length(%s) > %s"):format(x, n)
end

function losses.name(x)
   return ("pg_catalog.octet_length(%s) > 63"):format(x)
end

losses['"char"'] = function(x)
   return ([[pg_catalog.octet_length(%s) > 1 AND %s !~ '^\\[0-3][0-7][0-7]$']]):format(x, x)
end

losses["timestamp with time zone"] = function(x, type)
   return ("%s ~ %s OR %s::timestamptz <> %s::%s"):format(x, BELOW_MICROSECONDS, x, x, type)
end

-- A text with a zone that is not UTC is another moment without it.
losses["timestamp without time zone"] = function(x, type)
   return ("%s ~ %s OR %s::timestamptz <> %s::%s AT TIME ZONE 'UTC'"):format(x, BELOW_MICROSECONDS,
      x, x, type)
end

function losses.date(x)
   return ("CASE WHEN %s ~ ':' THEN %s::timestamptz <> %s::date::timestamp AT TIME ZONE 'UTC' END")
      :format(x, x, x)
end

losses["time with time zone"] = function(x, type)
   return ("%s ~ %s OR %s ~ %s OR %s::timetz <> %s::%s"):format(x, BELOW_MICROSECONDS, x, HAS_DATE,
      x, x, type)
end

losses["time without time zone"] = function(x, type)
   return ("%s ~ %s OR %s ~ %s OR %s::timetz <> %s::%s::timetz"):format(x, BELOW_MICROSECONDS, x,
      HAS_DATE, x, x, type)
end

function losses.interval(x, type)
   return ("%s ~ %s OR %s::interval::text <> %s::%s::text"):format(x, BELOW_MICROSECONDS, x, x,
      type)
end

-- SQL that is true if the type, without parts, cuts or rounds the text x; nil: none does.
local function of_text(x, type)
   local n = type:match "%((%d+)"
   local name = type:gsub("%(.-%)", ""):gsub("^(interval).*", "%1")
   local f = losses[name]
   local sql = f and f(x, type, n)
   return sql and "(" .. sql .. ")" or nil
end

-- ---- values with parts ----

local of_json -- defined below; the functions before it call it

-- SQL that is true if values are left out of the JSON object j, or lost in it.
local function of_row(j, part, depth)
   local names, tests = {}, {}
   for i, step in ipairs(part.names) do
      local name = literal(step:sub(2))
      names[i] = name
      tests[#tests + 1] = of_json(("(%s -> %s)"):format(j, name), part.steps[step], depth)
   end
   tests[#tests + 1] = ("EXISTS (SELECT FROM pg_catalog.json_each(CASE pg_catalog.json_typeof(%s)"
      .. " WHEN 'object' THEN %s END) o(k, v) WHERE o.k <> ALL (ARRAY[%s]::text[])"
      .. " AND pg_catalog.json_typeof(o.v) <> 'null')"):format(j, j, table.concat(names, ", "))
   return "(" .. table.concat(tests, " OR ") .. ")"
end

-- The same for the elements of an array of any number of dimensions.
local function of_elements(j, element, depth)
   local e = "e" .. depth
   local test = of_json(e .. ".v", element, depth + 1)
   return test and ("EXISTS (WITH RECURSIVE %s(v) AS (SELECT %s UNION ALL SELECT x FROM %s,"
      .. " pg_catalog.json_array_elements(CASE pg_catalog.json_typeof(%s.v) WHEN 'array' THEN %s.v"
      .. " END) x) SELECT FROM %s WHERE pg_catalog.json_typeof(%s.v) <> 'array' AND %s)"):format(e,
      j, e, e, e, e, e, test)
end

-- SQL that is true if the type loses anything of the text x, which is no array and no row; nil: it
-- loses nothing without an error. (The text of a range is cut only where its numbers are.)
local function of_scalar(x, part)
   local element = part.steps["<>"]
   if element then
      return element.type:find "^numeric%(" and ("(%s::%s)::text::numrange <> %s::numrange"):format(
         x, part.type, x) or nil
   end
   return of_text(x, part.type)
end

-- The part of an array's elements, or nil.
local function element_of(part)
   local type, n = part.type:gsub("%[%]$", "")
   return part.steps["[]"]
      or n > 0 and #part.names == 0 and { type = type, steps = {}, names = {} } or nil
end

local function has_rows(part)
   for _, step in ipairs(part.names) do
      if step:sub(1, 1) == "." or has_rows(part.steps[step]) then
         return true
      end
   end
   return false
end

-- SQL that is true if a type that consists of these parts loses anything of the text x; nil: none
-- does.
local function of_parts_text(x, part, depth)
   if has_rows(part) then
      return ("%s <> (%s::%s)::text"):format(x, x, part.type)
   end
   local element = element_of(part)
   return element and of_elements(("pg_catalog.to_json(%s::text[])"):format(x), element, depth)
end

-- The same of the JSON j, where a text stands for what its type reads in it.
function of_json(j, part, depth)
   local x = ("(%s #>> '{}')"):format(j)
   local test
   if (part.names[1] or ""):sub(1, 1) == "." then
      test = of_row(j, part, depth)
   elseif element_of(part) then
      test = of_elements(j, element_of(part), depth)
   else
      return of_scalar(x, part)
   end
   return test and ("CASE pg_catalog.json_typeof(%s) WHEN 'string' THEN %s ELSE %s END"):format(j,
      of_parts_text(x, part, depth), test)
end

-- ---- columns ----

-- SQL that is true if the column `to` loses anything of what the column `name` of the temporary
-- table has, see own_rows; nil: it loses nothing without an error.
local function of_column(name, _, to)
   local rest = ("pg_catalog.substr(%s, 2)"):format(name)
   if to.is_generated or to.type_name == "json" or to.type_name == "jsonb" then
      return nil
   elseif not to.is_made_of_parts then
      return of_scalar(rest, to.whole)
   end
   local by_json = of_json(("(%s::json)"):format(rest), to.whole, 1)
   return by_json and ("CASE pg_catalog.left(%s, 1) WHEN 'j' THEN %s ELSE %s END"):format(name,
      by_json, of_parts_text(rest, to.whole, 1))
end

-- The same for a column that a script has added to changes, or assigned to, where the column of the
-- temporary table is text.
local function of_made(name, column, to)
   if to.is_generated or column.base_type and not column.is_assigned then
      return nil
   elseif not to.is_made_of_parts then
      return not column.wants_json and of_scalar(name, to.whole) or nil
   elseif column.wants_json then
      return of_json(("(%s::json)"):format(name), to.whole, 1)
   end
   return of_parts_text(name, to.whole, 1)
end

--- True if values that a script makes for the column must be text until they were looked at.
function misfits.wants_text(column, to)
   return not (column.is_own or column.wants_json) and of_made("", column, to) ~= nil
end

--- What to ask of the temporary table `temp`: {question =, columns =}, or nil if no column needs
--- it. Columns are named c1, c2 and so on, see sql.
function misfits.of(layout, facts, temp)
   local rows, columns = {}, {}
   for _, column in ipairs(layout.columns) do
      local name, to = "c" .. column.place, facts.by_name[column.target]
      local test = (column.is_own and of_column or of_made)(name, column, to)
      if test then
         columns[#columns + 1] = to
         rows[#rows + 1] = ("(%d, %s, %s)"):format(#columns, test,
            column.is_own and ("pg_catalog.substr(%s, 2)"):format(name) or name)
      end
   end
   return #rows > 0 and { columns = columns, question = answer.question(
      ("SELECT v.n::int8 AS n, v.value FROM %s, LATERAL (VALUES %s) v(n, is_lost, value)"
      .. " WHERE v.is_lost LIMIT 1"):format(temp, table.concat(rows, ", ")),
      { n = "integer", value = "text" }) } or nil
end

local LONGEST = 100 -- bytes of the value that are shown

--- Raises a problem, that of a refused value, if the target would lose anything of the rows in the
--- temporary table. `found`: what `of` returned; `full`: the name of the target's table.
function misfits.check(connection, found, full)
   local row = found and connection:maybe(found.question)
   if not row then
      return
   end
   local to, value = found.columns[row.n], row.value
   if not to then
      found.question:fail "there is no such column"
   elseif #value > LONGEST then
      value = value:sub(1, (utf8.offset(value, 0, LONGEST + 1)) - 1) .. "..."
   end
   connection:refuse(("the column %s of %s in the target is %s, which cannot hold %s as it is, and"
      .. " nothing is rounded, cut or left out: change the value in the script, or the type of the"
      .. " column")
      :format(quote(to.name), full, to.full_type, value), to.name)
end

return misfits
