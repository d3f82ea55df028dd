-- values_test.lua: every type's JSON is the server's own, and its Lua value what the manual says.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local json = require "json"
local lu = require "luaunit"
local program = require "program"
local seeds = require "seeds"
local values = require "values"

local TestValues = {}

local seed = seeds.asked or os.time()

-- Runs a script, or the bundled jsonl, once on a table.
local function run(db, options)
   options.dsn, options.options = options.dsn or db, { "--once" }
   options.bundled = not options.script and "jsonl" or nil
   return program.run(options)
end

local function lines_of(db, name)
   local result = run(db, { args = { table = name } })
   lu.assertEquals(result.stderr:match "level=error.*", nil)
   lu.assertEquals(result.status, 0)
   return result.lines
end

local assert_like_row_to_json = values.assert_like_row_to_json

-- The oracle: row_to_json() in a session whose time zone is UTC, for every type there is and
-- whatever the settings of the database are.
function TestValues.test_json_of_every_type_is_row_to_json()
   local db = cluster.main():database { name = "values" }
   io.write("seed ", seed, " ... ")
   local names = values.create(db, 60, seed)
   local lines = lines_of(db, '"values"')
   assert_like_row_to_json(values.normal_session(db:connect()), '"values"', lines)
   for _, line in ipairs(lines) do
      local change = json.decode(line, { numbers = "tagged", duplicates = true })
      lu.assertEquals(json.keys(change.row), names)
      lu.assertEquals(json.keys(change),
         { "op", "schema", "table", "key", "row", "xid", "seq", "ts", "id" })
   end
end

-- A json column passes byte for byte, but for newlines and the like outside strings, which become
-- spaces: also what jsonb cannot take, and what a JSON library would choke on.
local odd_documents = {
   [[{"a":1e400}]], [["\u0000"]], [["\ud800"]], "1" .. ("0"):rep(400),
   ("["):rep(400) .. ("]"):rep(400), ('{"a":'):rep(400) .. "1" .. ("}"):rep(400),
   [[ { "b" : 1.50 , "a":2,"a" : 3 } ]],
   "\n[1,\r\n\t2 ]\n", [["\/\b\f\n\r\t\"\\é🐘"]], "-0.0", "1E+5", "null", [[{"":{"":""}}]],
   [[{"\u0000":1}]], "[1.0000000000000000000000000000001]", "\"\127\"",
}

local function create_documents(db)
   local conn = db:connection()
   conn:exec "create table docs (id int primary key, j json, a json[])"
   for i, text in ipairs(odd_documents) do
      conn:exec(("insert into docs values (%d, %s, array[%s::json, null])"):format(i,
         conn:escape(text), conn:escape(text)))
   end
end

function TestValues.test_odd_json_passes_as_it_is()
   local db = cluster.main():database()
   create_documents(db)
   local lines = lines_of(db, "docs")
   lu.assertEquals(#lines, #odd_documents)
   for i, line in ipairs(lines) do
      local one_line = odd_documents[i]:gsub("[\t\r\n]", " ")
      lu.assertEquals(line:match('"row":(.*),"xid":%d+,"seq":%d+,"ts":"[^"]*",'
         .. '"id":"public.docs/%d+/%d+"}$'),
         ('{"id":%d,"j":%s,"a":[%s,null]}'):format(i, one_line, one_line))
   end
end

-- Reading a document and leaving it alone changes nothing of that; one that Lua cannot hold is an
-- error that names the column, and only when it is read.
function TestValues.test_odd_json_that_is_read()
   local db = cluster.main():database()
   create_documents(db)
   local result = run(db, { script = [[
      pgcdc.source {table = "docs", on_change = function(change)
         local before = tostring(change)
         local ok, problem = pcall(function() return change.row.j end)
         print(change.key.id, ok, not ok and problem)
         assert(tostring(change) == before)
      end}]] })
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(#result.lines, #odd_documents)
   local undecodable = 0
   for i, line in ipairs(result.lines) do
      local id, ok, problem = line:match "^(%d+)\t(%a+)\t(.*)"
      lu.assertEquals(tonumber(id), i)
      if ok == "false" then
         undecodable = undecodable + 1
         lu.assertStrContains(problem, "column j of public.docs holds JSON that cannot be decoded")
      end
   end
   lu.assertStrMatches(result.lines[1], "1\ttrue.*") -- 1e400
   lu.assertTrue(undecodable < 8, "hardly any document can be read")
end

-- An error nobody catches ends the program; it names source, key and column.
function TestValues.test_json_that_cannot_be_decoded_ends_the_program()
   local db = cluster.main():database()
   db:exec [[create table docs (id int primary key, j json);
      insert into docs values (7, '["\ud800"]')]]
   local result = run(db, { script = [[
      pgcdc.source {table = "docs", on_change = function(change) print(change.row.j) end}]] })
   lu.assertEquals(result.status, 1)
   lu.assertEquals(result.stdout, "")
   lu.assertStrContains(result.stderr, "column j of public.docs")
   lu.assertStrContains(result.stderr, "source public.docs, key 7")
end

-- {column, type, literal, what the script sees}: an expression, with v the value.
local seen_by_lua = {
   { "b", "bool", "'t'", "v == true" },
   { "i2", "int2", "-32768", "math.type(v) == 'integer' and v == -32768" },
   { "i4", "int4", "0", "math.type(v) == 'integer' and v == 0" },
   { "i8", "int8", "'-9223372036854775808'", "math.type(v) == 'integer' and v == math.mininteger" },
   { "big", "int8", "9007199254740993", "math.type(v) == 'integer' and v == 9007199254740993" },
   { "f4", "float4", "0.1", "math.type(v) == 'float' and v == 0.1" },
   { "f8", "float8", "5", "math.type(v) == 'float' and v == 5.0" },
   { "huge", "float8", "1e300", "math.type(v) == 'float' and v == 1e300" },
   { "nan", "float8", "'NaN'", "math.type(v) == 'float' and v ~= v" },
   { "inf", "float4", "'-Infinity'", "v == -math.huge" },
   { "n", "numeric", "123456789012345678901234567890.10",
      "v == '123456789012345678901234567890.10'" },
   { "n2", "numeric(12,2)", "5", "v == '5.00'" },
   { "nnan", "numeric", "'NaN'", "v == 'NaN'" },
   { "t", "text", [[E'tab\t nl\n back\\slash "é🐘" \\N']],
      [[v == 'tab\t nl\n back\\slash "é🐘" \\N']] },
   { "c", "char(5)", "'ab'", "v == 'ab   '" },
   { "ch", '"char"', "'x'", "v == 'x'" },
   { "u", "uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
      "v == 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'" },
   { "o", "oid", "16384", "v == '16384'" },
   { "ip", "inet", "'10.0.0.1'", "v == '10.0.0.1'" },
   { "m", "money", "1234.5", "v == '$1,234.50'" },
   { "iv", "interval", "'1 day 2 h'", "v == '1 day 02:00:00'" },
   { "r", "int4range", "'[1,5)'", "v == '[1,5)'" },
   { "d", "date", "'0044-03-15 BC'", "v == '0044-03-15 BC'" },
   { "tm", "time", "'12:00'", "v == '12:00:00'" },
   { "tz", "timetz", "'12:00+05:30'", "v == '12:00:00+05:30'" },
   { "ts", "timestamp", "'2026-11-23 00:50:57.7219'", "v == '2026-11-23T00:50:57.7219'" },
   { "tstz", "timestamptz", "'2026-11-23 02:50:57.7219+02'",
      "v == '2026-11-23T00:50:57.7219+00:00'" },
   { "bc", "timestamptz", "'0044-03-15 12:00+00 BC'", "v == '0044-03-15T12:00:00+00:00 BC'" },
   { "never", "timestamptz", "'infinity'", "v == 'infinity'" },
   { "raw", "bytea", [['\x00ff5c0a']], [[v == '\0\xff\\\n']] },
   { "nothing_raw", "bytea", "''", "v == ''" },
   { "xm", "xml", "'<a/>'", "v == '<a/>'" },
   { "j", "json", [['{"a": {"b": null}, "l": [1, 2.5, true, "x"]}']], "v.a.b == pgcdc.null "
      .. "and math.type(v.l[1]) == 'integer' and v.l[2] == 2.5 and v.l[3] == true "
      .. "and v.l[4] == 'x'" },
   { "jb", "jsonb", "'[]'", "type(v) == 'table' and #v == 0" },
   { "jnull", "json", "'null'", "v == pgcdc.null" },
   { "js", "jsonb", [['"text"']], "v == 'text'" },
   { "jn", "jsonb", "'5'", "math.type(v) == 'integer' and v == 5" },
   { "arr", "int4[]", "'{1,NULL,3}'", "v[1] == 1 and v[2] == pgcdc.null and v[3] == 3" },
   { "arr2", "text[]", "'{{a,b},{c,d}}'", "v[2][1] == 'c'" },
   { "comp", "pair", "'(1,\"x y\")'", "v.a == 1 and v.b == 'x y'" },
   { "dom", "dom_int", "5", "math.type(v) == 'integer' and v == 5" },
   { "domn", "dom_numeric", "5", "v == '5'" },
   { "domj", "dom_json", "'[1]'", "v[1] == 1" },
   { "e", "mood", "'ok'", "v == 'ok'" },
   { "no", "int4", "null", "v == nil" },
   { "noj", "json", "null", "v == nil" },
   { "noa", "int4[]", "null", "v == nil" },
}

-- The types of values in Lua, one by one, by dot and by pairs(), which gives all columns in order.
function TestValues.test_lua_values()
   local db = cluster.main():database()
   db:exec [[create type pair as (a int, b text); create type mood as enum ('ok');
      create domain dom_int as int; create domain dom_numeric as numeric;
      create domain dom_json as json]]
   local columns, literals, checks = {}, {}, {}
   for i, item in ipairs(seen_by_lua) do
      columns[i], literals[i] = item[1] .. " " .. item[2], item[3]
      checks[i] = ("check(%d, %q, function(v) return %s end)"):format(i, item[1], item[4])
   end
   db:exec(("create table t (%s, primary key (i2)); insert into t values (%s)"):format(
      table.concat(columns, ", "), table.concat(literals, ", ")))
   local result = run(db, { script = ([[
      pgcdc.source {table = "t", on_change = function(change)
         local names, by_pairs, n = {}, {}, 0
         for name, value in pairs(change.row) do
            n = n + 1
            names[n], by_pairs[n] = name, value
         end
         local function check(i, name, is_right)
            assert(names[i] == name, i)
            assert(is_right(change.row[name]), name)
            assert(is_right(by_pairs[i]), name .. " in pairs")
            assert(is_right(change.row[name]), name .. " again")
            local kind = type(change.row[name])
            assert(kind ~= "table" or rawequal(change.row[name], by_pairs[i]), name .. " made anew")
         end
         %s
         assert(n == %d)
         print "all right"
      end}]]):format(table.concat(checks, "\n"), #seen_by_lua) })
   lu.assertEquals(result.stderr:match "level=error.*", nil)
   lu.assertEquals(result.stdout, "all right\n")
   lu.assertEquals(result.status, 0)
end

-- The row part of the one line that a script prints after it has done <work> to the row of a table
-- with id, j json, n numeric, raw bytea, t text, l int[].
local function row_after(work)
   local db = cluster.main():database()
   db:exec [[create table t (id int primary key, j json, n numeric, raw bytea, t text, l int[]);
      insert into t values (1, '{"b" : 1.50, "a":[1]}', 1.50, '\x00', 'x', '{1,2}')]]
   local result = run(db, { script = ([[
      pgcdc.source {table = "t", on_change = function(change)
         local row = change.row
         %s
         print(change)
      end}]]):format(work) })
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(#result.lines, 1)
   return result.lines[1]:match '"row":(.*),"xid":', result.lines[1]
end

-- What is read stays as the server wrote it; what is changed is encoded anew, its keys sorted.
function TestValues.test_json_that_is_changed()
   local function assert_document(work, document)
      lu.assertEquals(row_after(work),
         ([=[{"id":1,"j":%s,"n":1.50,"raw":"\\x00","t":"x","l":[1,2]}]=]):format(document))
   end
   local original = [=[{"b" : 1.50, "a":[1]}]=]
   assert_document("", original)
   assert_document("assert(row.j.b == 1.5 and row.l[1] == 1)", original)
   assert_document("row.j.c = 1 row.j.c = nil", original)
   assert_document("row.j.c = 'new'", [=[{"a":[1],"b":1.5,"c":"new"}]=])
   assert_document("row.j.a[2] = pgcdc.null", [=[{"a":[1,null],"b":1.5}]=])
   assert_document("row.j.a = pgcdc.array {}", [=[{"a":[],"b":1.5}]=])
   assert_document("row.j = nil", "null")
   assert_document("row.j = {1, {}, 'x'}", [=[[1,{},"x"]]=])
   lu.assertEquals(row_after "row.l[2] = nil row.l[1] = nil",
      [=[{"id":1,"j":{"b" : 1.50, "a":[1]},"n":1.50,"raw":"\\x00","t":"x","l":[]}]=])
end

-- Assigned values are written as their column's type is: a numeric's text as a number, a bytea's
-- bytes in hex, and what is added comes last.
function TestValues.test_values_that_are_assigned()
   local function assert_row(work, rest)
      lu.assertEquals(row_after(work), [=[{"id":1,"j":{"b" : 1.50, "a":[1]},]=] .. rest)
   end
   assert_row("row.n = '1e5'", [=["n":1e5,"raw":"\\x00","t":"x","l":[1,2]}]=])
   assert_row("row.n = 'NaN' row.t = nil", [=["n":"NaN","raw":"\\x00","t":null,"l":[1,2]}]=])
   assert_row([=[row.raw = "\xff\0" row.extra = true row.t = "\n\"é"]=],
      [=["n":1.50,"raw":"\\xff00","t":"\n\"é","l":[1,2],"extra":true}]=])
   assert_row("row.n = 2^53", [=["n":9007199254740992.0,"raw":"\\x00","t":"x","l":[1,2]}]=])
end

-- A server that does not know its encoding holds anything. What is not UTF-8 is an error of the
-- server's, never a line that is no JSON.
function TestValues.test_sql_ascii()
   local db = cluster.main():database {
      sql = "template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'",
   }
   db:exec "create table good (id int primary key, t text); insert into good values (1, 'é🐘')"
   local lines = lines_of(db, "good")
   lu.assertEquals(#lines, 1)
   lu.assertEquals(json.decode(lines[1]).row.t, "é🐘")

   local tables = {
      text = [[(id int primary key, t text); insert into %s values (1, 'fine'), (2, E'a\xff')]],
      json = [[(id int primary key, t json); insert into %s values (1, '0'), (2, E'"\xe9"')]],
      list = [[(id int primary key, t text[]); insert into %s values (1, '{}'), (2, E'{"\xe9"}')]],
      key = [[(id text primary key, t text); insert into %s values ('1', ''), (E'\xe92', '')]],
   }
   for name, sql in pairs(tables) do
      db:exec(("create table bad_%s " .. sql):format(name, "bad_" .. name))
      local result = run(db, { args = { table = "bad_" .. name } })
      lu.assertEquals(result.status, 3, name)
      lu.assertTrue(#result.lines <= 1 and utf8.len(result.stdout) ~= nil, name)
      lu.assertNotNil(utf8.len(result.stderr), "standard error of " .. name)
      lu.assertStrContains(result.stderr, "source public.bad_" .. name)
      lu.assertStrContains(result.stderr, "sqlstate=22021")
   end
end

-- The text of a database with another encoding is converted, its names too.
function TestValues.test_latin1()
   local db = cluster.main():database {
      sql = "template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'",
   }
   local conn = db:connect { client_encoding = "UTF8" }
   conn:exec [[create table "été" (id int primary key, "où" text, a text[], j json);
      insert into "été" values (1, 'é\ÿ"', '{ß}', '"ü"'), (2, chr(255), null, null)]]
   for _, keywords in ipairs { {}, { client_encoding = "LATIN1" }, { client_encoding = "UTF8" } } do
      local result = run(db, {
         args = { table = '"été"', where = [["où" <> 'ø']] }, dsn = db:dsn(keywords),
      })
      lu.assertEquals(#result.lines, 2, (keywords.client_encoding or "") .. result.stderr)
      lu.assertStrContains(result.lines[1], [["table":"été","key":{"id":1},"row":{"id":1,]]
         .. [["où":"é\\ÿ\"","a":["ß"],"j":"ü"},]])
      lu.assertStrContains(result.lines[2], [["où":"ÿ"]])
   end
   assert_like_row_to_json(conn, '"été"', lines_of(db, '"été"'))
end

return TestValues
