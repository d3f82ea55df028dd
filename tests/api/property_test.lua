-- property_test.lua: 20,000 random rows of random types: their JSON is the server's own, and what
-- Lua or a sink gives back to a server is what came from one.
-- SPDX-License-Identifier: MIT
--
-- The seed is printed where a test fails: $PGCDC_TEST_SEED makes the same types and values again.
-- $PGCDC_TEST_ROWS: how many rows there are (20000).

local cluster = require "cluster"
local crew = require "exact_crew"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local random_types = require "random_types"
local seeds = require "seeds"
local values = require "values"

local TestProperty = {}

local seed = seeds.asked or 1795821306
local n_rows = math.tointeger(tonumber(os.getenv "PGCDC_TEST_ROWS" or "")) or 20000
local n_tables = 20 -- of some 20 columns, so that every type has one
local rows_of_a_table, rows_of_a_statement = n_rows // n_tables, 100
local odd_names = { 'a"b\\c', "tab\there", "new\nline", "🐘", "select", "\1", "$1", "%s", "A b" }

-- A function that raises the errors of <f> with the seed in front.
local function with_seed(f)
   return function()
      local ok, problem = xpcall(f, function(problem)
         if type(problem) == "table" and problem.msg then
            problem.msg = ("with PGCDC_TEST_SEED=%d: %s"):format(seed, problem.msg)
            return problem
         end
         return ("with PGCDC_TEST_SEED=%d: %s"):format(seed, problem)
      end)
      if not ok then
         error(problem, 0)
      end
   end
end

-- ---- types and tables ----

local function has_hstore(conn)
   return conn:value "select 1 from pg_available_extensions where name = 'hstore'" ~= nil
end

-- A database in which all types are made, and a session in it as the manual's section on values
-- means it.
local function new_database(statements, hstore, encoding)
   local db = encoding and fixtures.encoded(encoding, "property")
      or cluster.main():database { name = "property" }
   local conn = values.normal_session(db:connect { client_encoding = "UTF8" })
   if hstore then
      conn:exec "create extension hstore"
   end
   conn:exec(table.concat(statements, ";"))
   return db, conn
end

local function new_types(rng, encoding)
   local conn = cluster.main():connection()
   local hstore = has_hstore(conn)
   local types, statements = random_types.new(rng, cluster.version(), function(text)
      return conn:escape(text)
   end, hstore, encoding)
   return types, statements, hstore
end

-- Deals the types out to tables of some columns each, all of them at least once.
local function deal(rng, types)
   local left, tables = {}, {}
   for i = 1, n_tables do
      tables[i] = { name = "t" .. i, columns = {} }
   end
   for at = 0, math.max(#types, 12 * n_tables) - 1 do
      if #left == 0 then
         table.move(types, 1, #types, 1, left)
      end
      local columns = tables[at % n_tables + 1].columns
      local k = #columns + 1
      columns[k] = {
         type = table.remove(left, rng:int(1, #left)),
         name = odd_names[(at // n_tables + at % n_tables) % 14 + 1] or "c" .. k,
      }
      for i = 1, k - 1 do
         if columns[i].name == columns[k].name then
            columns[k].name = "c" .. k
         end
      end
   end
   return tables
end

local function create(conn, t, name)
   local words = {}
   for i, column in ipairs(t.columns) do
      words[i] = conn:ident(column.name) .. " " .. column.type.name
   end
   conn:exec(("create table %s (id int primary key, %s)"):format(name or t.name,
      table.concat(words, ", ")))
end

-- An expression without a value in one place of eight.
local function literal(rng, column)
   return rng:chance(12) and "null"
      or ("(%s)::%s"):format(column.type.make(), column.type.name)
end

local function fill(conn, rng, t, n)
   for from = 1, n, rows_of_a_statement do
      local rows = {}
      for id = from, math.min(from + rows_of_a_statement - 1, n) do
         local row = { tostring(id) }
         for i, column in ipairs(t.columns) do
            row[i + 1] = literal(rng, column)
         end
         rows[#rows + 1] = "(" .. table.concat(row, ",") .. ")"
      end
      conn:exec(("insert into %s values %s"):format(t.name, table.concat(rows, ",")))
   end
end

-- ---- checks ----

-- The lines of one table against row_to_json() of its rows, by the server. <many>: how many there
-- must be.
local function assert_like_row_to_json(conn, name, lines, many)
   conn:exec "create temp table lines (line jsonb)"
   for from = 1, #lines, 200 do
      local list = {}
      for i = from, math.min(from + 199, #lines) do
         list[#list + 1] = "(" .. conn:escape(lines[i]) .. ")"
      end
      conn:exec("insert into lines values " .. table.concat(list, ","))
   end
   conn:exec "set search_path = ''" -- as in ours: it shows in what an operator is called
   local differences = conn:exec(([[
      with bad as materialized (
         select t.id, line->'row' as line, row_to_json(t)::jsonb as r from public.%s t join lines
            on (line->'key'->>'id')::int = t.id
         where (line->'row')::text is distinct from row_to_json(t)::jsonb::text)
      select id, d.* from bad, lateral (
         select key, ours.value as ours, theirs.value as theirs from jsonb_each(line) ours
            full join jsonb_each(r) theirs using (key)) d
         where ours::text is distinct from theirs::text limit 10]]):format(name))
   conn:exec "reset search_path"
   lu.assertEquals(differences[1] and table.concat(differences[1], " | "), nil)
   lu.assertEquals(conn:value "select count(distinct line->'key'->>'id') from lines",
      tostring(many))
   lu.assertEquals(#lines, many)
   conn:exec "drop table lines"
end

local function by_table(lines)
   local all = {}
   for _, line in ipairs(lines) do
      local name = line:match '^{"op":"%l+","schema":"public","table":"([^"]*)"'
      all[name] = all[name] or {}
      table.insert(all[name], line)
   end
   return all
end

-- Compares what an expression of each column gives in two tables of two databases (or of one).
local function assert_same(from, to, t, other, expression)
   local words = {}
   for i, column in ipairs(t.columns) do
      words[i] = expression(column, from:ident(column.name))
   end
   local digest = "select count(*), md5(string_agg(md5(row(" .. table.concat(words, ",")
      .. ")::text), '' order by id)) from "
   local a, b = from:exec(digest .. t.name)[1], to:exec(digest .. other)[1]
   if a[1] == b[1] and a[2] == b[2] then
      return
   end
   lu.assertEquals(b[1], a[1], "rows")
   for i, column in ipairs(t.columns) do
      local sql = "select id, (" .. words[i] .. ")::text from "
      local ours = to:exec(sql .. other .. " order by id")
      for k, row in ipairs(from:exec(sql .. t.name .. " order by id")) do
         lu.assertEquals(ours[k][2], row[2], ("%s, row %s, column %s of type %s"):format(t.name,
            row[1], column.name, column.type.name))
      end
   end
   lu.fail(t.name .. " differs, and none of its columns")
end

local function names_of(list)
   local names = {}
   for i, t in ipairs(list) do
      names[i] = t.name
   end
   return table.concat(names, ",")
end

local function run(options)
   options.options, options.deadline = { "--once" }, 120
   local result = program.run(options)
   lu.assertEquals(result.stderr:match "level=error.*", nil)
   lu.assertEquals(result.status, 0)
   return result
end

local function columns_of(conn, t)
   local names = {}
   for i, column in ipairs(t.columns) do
      names[i] = conn:ident(column.name)
   end
   return table.concat(names, ", ")
end

local function as_text(_, name)
   return name
end

-- A JSON null inside is Lua's pgcdc.null, which is NULL as a parameter; digits are compared as
-- numbers.
local function as_jsonb(_, name)
   return ("nullif(to_jsonb(%s), 'null')"):format(name)
end

-- ---- tests ----

-- What the tests share: types, a database with tables full of rows, and a session in it.
local types, statements, hstore, db, conn, tables

function TestProperty.setupClass()
   with_seed(function()
      local rng = crew.random(seed)
      types, statements, hstore = new_types(rng)
      db, conn = new_database(statements, hstore)
      tables = deal(rng, types)
      for _, t in ipairs(tables) do
         create(conn, t)
         fill(conn, rng, t, rows_of_a_table)
      end
   end)()
end

-- The tables with those of their columns only that have none of these marks.
local function without(list, ...)
   local rest = {}
   for i, t in ipairs(list) do
      rest[i] = { name = t.name, columns = {} }
      for _, column in ipairs(t.columns) do
         local is_marked = false
         for _, mark in ipairs { ... } do
            is_marked = is_marked or column.type[mark]
         end
         if not is_marked then
            table.insert(rest[i].columns, column)
         end
      end
   end
   return rest
end

-- Lua text of the tables' sources: a list of {table =, columns =, documents =, bytes =}, of which
-- the last two are sets of columns' places.
local function sources_of(list)
   local words = {}
   for i, t in ipairs(list) do
      local names, documents, bytes = { '"id"' }, {}, {}
      for k, column in ipairs(t.columns) do
         names[k + 1] = ("%q"):format(column.name)
         local place = ("[%d] = true"):format(k + 1)
         documents[#documents + 1] = column.type.is_document and place or nil
         bytes[#bytes + 1] = column.type.is_list_of_bytes and place or nil
      end
      words[i] = ("{table = %q, columns = {%s}, documents = {%s}, bytes = {%s}}"):format(t.name,
         table.concat(names, ","), table.concat(documents, ","), table.concat(bytes, ","))
   end
   return "local sources = {" .. table.concat(words, ",\n") .. "}\n"
end

-- A type that the catalog has and this test does not know is a gap in the test.
TestProperty.test_every_built_in_type_is_there = with_seed(function()
   local columns = {}
   for i, kind in ipairs(types) do
      columns[i] = ("c%d %s"):format(i, kind.name)
   end
   conn:exec(("create table every (%s)"):format(table.concat(columns, ", ")))
   local missing = conn:exec [[
      select format_type(t.oid, null) from pg_type t where typnamespace = 'pg_catalog'::regnamespace
         and typtype in ('b', 'r', 'm')
         and not exists (select from pg_type where oid = t.typelem and typtype in ('c', 'p'))
         and not exists (select from pg_attribute where attrelid = 'every'::regclass
            and atttypid = t.oid)]]
   lu.assertEquals(missing[1] and missing[1][1], nil)
end)

-- By the snapshot, and by a poll, of a quarter of the rows.
TestProperty.test_json_is_row_to_json = with_seed(function()
   local args = { table = names_of(tables) }
   local first = run { dsn = db, bundled = "jsonl", args = args }
   lu.assertEquals(#first.lines, rows_of_a_table * #tables)
   for name, lines in pairs(by_table(first.lines)) do
      assert_like_row_to_json(conn, name, lines, rows_of_a_table)
   end
   for _, t in ipairs(tables) do
      conn:exec(("update %s set id = id where id %% 4 = 0"):format(t.name))
   end
   local second = run { dsn = db, bundled = "jsonl", args = args, state = first.program.state }
   lu.assertEquals(#second.lines, rows_of_a_table // 4 * #tables)
   for name, lines in pairs(by_table(second.lines)) do
      assert_like_row_to_json(conn, name, lines, rows_of_a_table // 4)
   end
end)

local mirror = [[
   for _, spec in ipairs(sources) do
      pgcdc.source {table = spec.table, columns = spec.columns}:sink(pgcdc.sinks.postgres {
         connect = pgcdc.args.target, table = spec.table, create = true,
      })
   end]]

-- From one database into another by the sink: into new tables, then over rows that are there. Left
-- out is what Postgres itself does not read back from its JSON.
TestProperty.test_mirror_gives_the_same_values = with_seed(function()
   local target, to = new_database(statements, hstore)
   local list = without(tables, "one_way", "is_vague")
   local script, args = sources_of(list) .. mirror, { target = target:dsn() }
   local first = run { dsn = db, script = script, args = args }
   for _, t in ipairs(list) do
      assert_same(conn, to, t, t.name, as_text)
      -- rows get the values of others
      local names = columns_of(conn, t)
      conn:exec("update " .. t.name .. " t set (" .. names .. ") = (select " .. names .. " from "
         .. t.name .. " where id = t.id - 1) where id % 5 = 2")
   end
   run { dsn = db, script = script, args = args, state = first.program.state }
   for _, t in ipairs(list) do
      assert_same(conn, to, t, t.name, as_text)
   end
end)

local give_back = [[
   local db = pgcdc.connect()
   local function raw(value) -- as a parameter a text is the bytes
      if type(value) == "table" then
         for i, item in ipairs(value) do value[i] = raw(item) end
      elseif type(value) == "string" then
         value = value:gsub("^\\x", ""):gsub("%x%x", function(h)
            return string.char(tonumber(h, 16))
         end)
      end
      return value
   end
   for _, spec in ipairs(sources) do
      local places = {}
      for i in ipairs(spec.columns) do places[i] = "$" .. i end
      local sql = ("insert into copy_%s values (%s)"):format(spec.table, table.concat(places, ","))
      local source = pgcdc.source {
         table = spec.table, columns = spec.columns, where = "id % 2 = 0",
      }
      source:on("change", function(change)
         local values = {}
         for i, name in ipairs(spec.columns) do
            local value = change.row[name]
            if spec.documents[i] and type(value) == "string" then
               value = pgcdc.json.encode(value) -- as a parameter a text is JSON as it stands
            end
            values[i] = spec.bytes[i] and raw(value) or value
         end
         db:exec(sql, table.unpack(values, 1, #places))
      end)
   end]]

-- What Lua sees of every other row, given back as the parameters of a statement. Left out are, in
-- arrays and rows: numeric, which has fewer digits there; bytea and documents, whose text a
-- parameter would read as something else.
TestProperty.test_lua_gives_the_same_values = with_seed(function()
   local list = without(tables, "is_vague", "has_digits", "has_documents")
   for _, t in ipairs(list) do
      for i = #t.columns, 1, -1 do
         local kind = t.columns[i].type
         if kind.has_bytes and not kind.is_list_of_bytes then
            table.remove(t.columns, i)
         end
      end
      create(conn, t, "copy_" .. t.name)
      conn:exec(("create view half_%s as select * from %s where id %% 2 = 0")
         :format(t.name, t.name))
   end
   run { dsn = db, script = sources_of(list) .. give_back }
   for _, t in ipairs(list) do
      local half = { name = "half_" .. t.name, columns = t.columns }
      assert_same(conn, conn, half, "copy_" .. t.name, as_jsonb)
   end
end)

local assign = [[
   for _, spec in ipairs(sources) do
      local source = pgcdc.source {
         table = spec.table, columns = spec.columns, where = "id % 4 = 1",
      }
      source:on("change", function(change)
         local row = change.row
         for _, name in ipairs(spec.columns) do row[name] = row[name] end
      end)
      source:sink(pgcdc.sinks.postgres {
         connect = pgcdc.args.target, table = spec.table, create = true,
      })
   end]]

-- What Lua sees of every fourth row, assigned to the row again, by the sink.
TestProperty.test_assigned_values_are_the_same = with_seed(function()
   local target, to = new_database(statements, hstore)
   local list = without(tables, "one_way", "is_vague", "has_digits")
   run { dsn = db, script = sources_of(list) .. assign, args = { target = target:dsn() } }
   for _, t in ipairs(list) do
      conn:exec(("create view quarter_%s as select * from %s where id %% 4 = 1")
         :format(t.name, t.name))
      assert_same(conn, to, { name = "quarter_" .. t.name, columns = t.columns }, t.name,
         function(_, name) return ("to_jsonb(%s)"):format(name) end)
   end
end)

-- Databases of other encodings, of fewer rows.
for _, encoding in ipairs { "LATIN1", "SQL_ASCII" } do
   TestProperty["test_" .. encoding:lower()] = with_seed(function()
      local rng = crew.random(seed + 5)
      local kinds, made, has = new_types(rng, encoding)
      local from, there = new_database(made, has, encoding)
      local target, to = new_database(made, has, encoding)
      local list, args = deal(rng, kinds), { target = target:dsn() }
      for _, t in ipairs(list) do
         for _, column in ipairs(t.columns) do
            column.name = encoding == "LATIN1" and column.name:gsub("🐘", "ÿ") or column.name
         end
         create(there, t)
         fill(there, rng, t, 20)
      end
      local found = by_table(run { dsn = from, bundled = "jsonl",
         args = { table = names_of(list) } }
         .lines)
      for _, t in ipairs(list) do
         assert_like_row_to_json(there, t.name, found[t.name], 20)
      end
      list = without(list, "one_way", "is_vague")
      run { dsn = from, script = sources_of(list) .. mirror, args = args }
      for _, t in ipairs(list) do
         assert_same(there, to, t, t.name, as_text)
      end
   end)
end

-- As many columns as a table can have.
TestProperty.test_many_columns = with_seed(function()
   local rng = crew.random(seed + 3)
   local few = {}
   for _, kind in ipairs(types) do
      if kind.name == "bool" or kind.name == "int2" or kind.name == '"char"' then
         few[#few + 1] = kind
      end
   end
   local wide, target = cluster.main():database(), cluster.main():database()
   local from, to = values.normal_session(wide:connect()), values.normal_session(target:connect())
   local t = { name = "t1", columns = {} }
   for i = 1, 1599 do
      t.columns[i] = { name = odd_names[i] or "c" .. i, type = few[rng:int(1, #few)] }
   end
   create(from, t)
   fill(from, rng, t, 20)
   assert_like_row_to_json(from, "t1", run { dsn = wide, bundled = "jsonl",
      args = { table = "t1" } }.lines, 20)
   run { dsn = wide, bundled = "mirror", args = { table = "t1", target = target:dsn() } }
   for i = 1, 1599, 400 do
      local part = { name = "t1",
         columns = table.move(t.columns, i, math.min(i + 399, 1599), 1, {}) }
      assert_same(from, to, part, "t1", as_text)
   end
end)

return TestProperty
