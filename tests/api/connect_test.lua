-- connect_test.lua: pgcdc.connect: values both ways, errors, transactions, lost connections.
-- SPDX-License-Identifier: MIT

local client = require "client"
local cluster = require "cluster"
local lu = require "luaunit"
local program = require "program"

local TestConnect = {}

local prelude = [[
local connect = pgcdc.connect or require "pgcdc.postgres.client"
local db = connect()
local function show(v) print(pgcdc.json.encode(v)) end
local _ = show, fails
]]
prelude = client.FAILS .. prelude:gsub("\n", " ")

-- Runs a script whose `db` is connected to a new database, or to <database>; returns what it
-- prints.
local function run(script, database)
   local result = program.run { script = prelude .. script, state = false,
                                dsn = database or cluster.main():database() }
   lu.assertEquals(result.status, 0, result.stderr)
   return result.lines
end

-- Vectors and arrays of boxes are read as lists, and were given back as arrays are written: an
-- error, since they have blanks and semicolons. A number that is no integer had seventeen digits,
-- so that 0.1 for a numeric was 0.10000000000000001.
function TestConnect.test_parameters_of_odd_arrays_and_numbers()
   lu.assertEquals(run [===[
      local function again(sql, cast)
         local value = db:query("select " .. sql .. " as v")[1].v
         print(db:query("select ($1::" .. cast .. ")::text as v", value)[1].v)
      end
      again("'1 -2'::int2vector", "int2vector")
      again("'1 4294967295'::oidvector", "oidvector")
      again("''::oidvector", "oidvector")
      again("'{(2,2),(0,0);(1,1),(0,0)}'::box[]", "box[]")
      again("0.1::float8", "numeric") again("1e22::float8", "numeric")
      again("'{0.1,3}'::float8[]", "numeric[]") again("5::float8", "int")
   ]===], {
      "1 -2", "1 4294967295", "", "{(2,2),(0,0);(1,1),(0,0)}", "0.1", "10000000000000000000000",
      "{0.1,3}", "5",
   })
end

-- Tables by name were JSON for rows and hstore, which refuse it, and in arrays nothing at all: an
-- array of rows arrived as an empty one.
function TestConnect.test_parameters_of_rows_and_hstore()
   lu.assertEquals(run [===[
      db:exec [[create extension if not exists hstore;
         create domain raw_text as bytea;
         create type part as ("a ""b\c" text, n int8, raw raw_text, list float8[]);
         create domain part_list as part[];
         create type whole as (p part, parts part[], h hstore, v int2vector, j jsonb,
            more part_list)]]
      local function gives(type, value)
         print(db:query("select ($1::" .. type .. ")::text as v", value)[1].v)
      end
      local function is(type, value, sql)
         local same = ("select $1::%s::text = (%s)::text as v"):format(type, sql)
         assert(db:query(same, value)[1].v, sql)
      end
      local part = {['a "b\\c'] = 'x,"y"\\(z)\n', n = math.mininteger, raw = "\0\255",
                    list = {0.1, -1/0, pgcdc.null}}
      local row = [[row(E'x,"y"\\(z)\n', -9223372036854775808, '\x00ff', '{0.1,-inf,null}')::part]]
      is("part", part, row) is("part[]", {part, pgcdc.null}, "array[" .. row .. ", null]")
      is("whole", {p = part, parts = {part}, h = {a = "1"}, v = {1, -2}, j = {x = {}},
                   more = {{n = 3}}}, "row(" .. row .. ", array[" .. row .. [[], 'a=>1', '1 -2',
         '{"x": {}}', array[row(null, 3, null, null)::part])::whole]])
      gives("part", {}) gives("part", {['a "b\\c'] = ""}) gives("part_list", {{n = 1}})
      gives("part[]", {{{n = 1}}, {{}}}) gives("part_list[]", {{{n = 1}, {n = 2}}, {}})
      gives("hstore", {['k "\\'] = 'v"\\'}) gives("hstore", {n = pgcdc.null}) gives("hstore", {})
      gives("hstore[]", {{a = "1"}, {}}) gives("text[]", {{a = 1}, "x"})
      fails(db.query, db, "select $1::part", {m = 1})
      fails(db.query, db, "select $1::part", {n = print})
      fails(db.query, db, "select $1::part", {['a "b\\c'] = "\0"})
   ]===], {
      "(,,,)", '("",,,)', '{"(,1,,)"}', '{{"(,1,,)"},{"(,,,)"}}',
      [[{"{\"(,1,,)\",\"(,2,,)\"}","{}"}]], [["k \"\\"=>"v\"\\"]], '"n"=>NULL', "",
      [[{"\"a\"=>\"1\"",""}]], [[{"{\"a\":1}",x}]],
      "db:query: the type part has no field 'm'", "db:query: a parameter holds a function",
      "db:query: a text holds a zero byte, which Postgres cannot take",
   })
end

-- What comes back has the Lua types of the manual: as in changes.
function TestConnect.test_values_of_every_kind_come_back()
   local lines = run [===[
      local function has(sql, check)
         local rows = db:query("select " .. sql .. " as v")
         assert(#rows == 1 and check(rows[1].v), sql)
      end
      local function is(value)
         return function(v) return v == value and math.type(v) == math.type(value) end
      end
      local function json(text) return function(v) return pgcdc.json.encode(v) == text end end
      has("1::int2", is(1)) has("'-9223372036854775808'::int8", is(math.mininteger))
      has("0.1::float4", is(0.1)) has("5::float8", is(5.0)) has("'-inf'::float8", is(-math.huge))
      has("'NaN'::float8", function(v) return v ~= v end)
      has("1.50::numeric", is "1.50") has("true", is(true)) has("null::int", is(nil))
      has("'é'::text", is "é") has("'ab'::char(4)", is "ab  ") has("'x'::\"char\"", is "x")
      has("'\\x00ff0a'::bytea", is "\0\255\n") has("''::bytea", is "")
      has("'2026-11-23 00:50:57.7219+01'::timestamptz", is "2026-11-22T23:50:57.7219+00:00")
      has("'infinity'::timestamp", is "infinity") has("'2026-11-23'::date", is "2026-11-23")
      has("'1 day 02:03:04'::interval", is "1 day 02:03:04")
      has("'{\"a\":[1,null]}'::json", json '{"a":[1,null]}') has("'null'::jsonb", is(pgcdc.null))
      has("array[1,null,3]", json "[1,null,3]")
      has("'{{a,b},{c,d}}'::text[]", json '[["a","b"],["c","d"]]')
      has("'{}'::int[]", json "[]") has("array['1 day'::interval]", json '["1 day"]')
      db:exec "create type pair as (a int, b text); create type mood as enum ('ok', 'so \"so\"')"
      db:exec "create domain raw as bytea; create domain pairs as pair[]"
      has("row(1,'x\"y')::pair", json [=[{"a":1,"b":"x\"y"}]=])
      has("array[row(1,null)::pair]::pairs", json '[{"a":1,"b":null}]')
      has("'so \"so\"'::mood", is 'so "so"') has("'\\x01'::raw", is "\1")
      has("'[1,5)'::int4range", is "[1,5)") has("'10.0.0.0/8'::inet", is "10.0.0.0/8")
      db:exec "create extension if not exists hstore"
      has("'a=>1, b=>NULL'::hstore", json '{"a":"1","b":null}')
      print(#db:query "select 1 where false", #db:query "create table t (id int primary key)",
         #db:query "select g from generate_series(1, 1000) g")
   ]===]
   lu.assertEquals(lines, { "0\t0\t1000" })
end

-- What a parameter becomes depends on its Lua type and on the type that the server expects.
function TestConnect.test_parameters_are_bound()
   local lines = run [===[
      local function gives(type, value, text)
         local got = db:query("select ($1::" .. type .. ")::text as v", value)[1].v
         assert(got == text, ("%s: %s instead of %s"):format(type, got, text))
      end
      gives("int", 5, "5") gives("int", 5.0, "5")
      gives("int8", math.mininteger, "-9223372036854775808")
      gives("float8", 0.1, "0.1") gives("float8", 1/0, "Infinity") gives("float8", 0/0, "NaN")
      gives("numeric", "123456789012345678901234567890.10", "123456789012345678901234567890.10")
      gives("bool", false, "false") gives("text", true, "true") gives("text", nil, nil)
      gives("text", pgcdc.null, nil) gives("text", "it's $1 \\ \"é\"\n", "it's $1 \\ \"é\"\n")
      gives("bytea", "\0\255\\x", "\\x00ff5c78") gives("text", 12, "12") gives("text", "", "")
      gives("jsonb", {a = {1, pgcdc.null}}, '{"a": [1, null]}') gives("json", pgcdc.array {}, "[]")
      gives("text", {a = 1}, '{"a":1}') gives("int[]", {1, pgcdc.null, 3}, "{1,NULL,3}")
      gives("text[]", {"a,b", '"q"\\', "", "NULL", "{}"}, [[{"a,b","\"q\"\\","","NULL","{}"}]])
      gives("int[]", {{1, 2}, {3, 4}}, "{{1,2},{3,4}}") gives("int[]", {}, "{}")
      gives("bytea[]", {"\0", "x"}, [[{"\\x00","\\x78"}]]) gives("bool[]", {true, false}, "{t,f}")
      gives("jsonb[]", {{a = 1}, pgcdc.array {}}, [[{"{\"a\": 1}",[]}]])
      gives("float8[]", {0.1, -1/0, 0/0}, "{0.1,-Infinity,NaN}")
      db:exec "create domain raw as bytea; create domain rawer as raw"
      gives("rawer", "\0", "\\x00") gives("rawer[]", {"\0"}, [[{"\\x00"}]])
      db:exec "create table t (id int, v text, b bytea)"
      print(db:exec("insert into t values ($1, $2, $3), ($1 + 1, $2, $3)", 1,
         "'); drop table t; --", "\0"))
      print(db:exec("update t set v = $1", nil), db:exec "delete from t",
         db:exec "select 1 union select 2")
      print(db:query("select $1::int + $2::int as sum", 1, 2)[1].sum)
   ]===]
   lu.assertEquals(lines, { "2", "2\t2\t2", "3" })
end

-- The server's settings, whatever they are, do not show.
function TestConnect.test_session_is_pinned()
   local database = cluster.main():database()
   local conn = database:connection()
   for _, setting in ipairs { "timezone = 'Asia/Kolkata'", "datestyle = 'SQL, DMY'",
      "bytea_output = 'escape'", "extra_float_digits = -10", "intervalstyle = 'iso_8601'",
      "standard_conforming_strings = off", "client_encoding = 'latin1'", "array_nulls = off" } do
      conn:exec(("alter database %s set %s"):format(database.name, setting))
   end
   local lines = run([[
      local row = db:query("select '2026-11-23 12:00Z'::timestamptz t, '\\x00'::bytea b,"
         .. " '1 day'::interval i, 0.1::float8 f, chr(8364) as e,"
         .. " array['2026-11-23 12:00Z'::timestamptz] a")[1]
      print(row.t, #row.b, row.i, row.f, row.e, row.a[1],
         db:query("select ($1::text[])[1] is null as v", {pgcdc.null})[1].v)
   ]], database)
   local noon = "2026-11-23T12:00:00+00:00"
   lu.assertEquals(lines, { noon .. "\t1\t1 day\t0.1\t€\t" .. noon .. "\ttrue" })
end

-- Every misuse and every refusal is an error that says what, and the connection stays good.
function TestConnect.test_errors()
   local lines = run [[
      fails(db.query, db, "select * from nix")
      fails(db.query, db, "select $1::int", "x")
      fails(db.query, db, "select 1", 1)
      fails(db.query, db, "select 1", "x")
      fails(db.query, db, "select $1::text", "a\0b")
      fails(db.query, db, "select 1\0")
      fails(db.query, db, "select $1::text", print)
      fails(db.query, db)
      fails(db.query, "select 1")
      fails(db.exec, db, "copy (select 1) to stdout")
      fails(db.exec, db, "begin")
      fails(db.query, db, "select '[\"\\ud800\"]'::json as j")
      fails(connect, 5)
      fails(connect, {port = {}})
      fails(connect "host=/nowhere".query, connect "host=/nowhere", "select 1")
      local garbled = connect "postgres://u:se@cret@h/d"
      fails(garbled.query, garbled, "select 1")
      print(db:query("select 1 as still_there")[1].still_there)
   ]]
   local expected = {
      'db:query: relation "nix" does not exist (42P01)',
      'db:query: invalid input syntax for type integer: "x" (22P02)',
      "db:query: .*supplies 1 parameters, but prepared statement .* requires 0 .08P01.",
      "db:query: the statement has no parameter $1",
      "db:query: a text holds a zero byte, which Postgres cannot take",
      ".*a statement must not hold a zero byte.*",
      "db:query: parameter $1 is a function",
      "db:query: the statement must be a string, not nil",
      "db:query: call it with a colon, as db:query(...)",
      "db:exec: COPY is not possible here",
      "db:exec: a transaction was begun and not ended; use db:transaction(f)",
      ".*column j holds JSON that cannot be decoded: .*",
      "pgcdc.connect: the connection must be a string or a table, not a number",
      "pgcdc.connect: the connection.port must be a string or a number or a boolean, not a table",
      'db:query: connection to server on socket "/nowhere/.s.PGSQL.5432" failed: .*',
      "db:query: the connection string cannot be read .*",
      "1",
   }
   client.assert_lines(lines, expected)
   lu.assertNil(table.concat(lines, "\n"):find "cret")
end

-- An error nobody catches names the line of the script, not one of ours.
function TestConnect.test_errors_blame_the_script()
   local result = program.run { state = false, dsn = cluster.main():database(), script = [[
      local db = (pgcdc.connect or require "pgcdc.postgres.client")()
      db:query("select nonsense")]] }
   lu.assertEquals(result.status, 1)
   lu.assertStrMatches(result.stderr, '.*%.lua:2: db:query: column \\"nonsense\\" does not exist.*')
end

-- A transaction commits when f returns, and only then; what f returns or raises comes out.
function TestConnect.test_transactions()
   local database = cluster.main():database()
   database:exec "create table t (id int primary key deferrable initially deferred)"
   local lines = run([[
      local function put(i) return function(d) d:exec("insert into t values ($1)", i) end end
      print(db:transaction(function(d) put(1)(d) assert(d == db) return 1, nil, 3 end))
      fails(db.transaction, db, function(d) put(2)(d) error("oops", 0) end)
      print(select("#", pcall(db.transaction, db, function() error() end)))
      fails(db.transaction, db, function(d) put(3)(d) pcall(d.exec, d, "select 1/0") end)
      fails(db.transaction, db, function(d) d:transaction(put(4)) end)
      fails(db.transaction, db, function(d) put(5)(d) d:exec "rollback" end)
      fails(db.transaction, db, function(d) put(1)(d) end)
      fails(db.transaction, db, function(d) d:close() end)
      fails(db.transaction, db)
      print(db:transaction(function(d) return #d:query "select * from t" end))
   ]], database)
   lu.assertEquals(lines[1], "1\tnil\t3")
   lu.assertEquals(lines[2], "oops")
   lu.assertEquals(lines[3], "2")
   lu.assertEquals(lines[4],
      "db:transaction: a statement failed, so that nothing can be committed")
   lu.assertEquals(lines[5], "db:transaction: there is one already")
   lu.assertEquals(lines[6],
      "db:transaction: the transaction was ended by a statement inside it")
   lu.assertStrContains(lines[7], "duplicate key value violates unique constraint")
   lu.assertEquals(lines[8], "db:close: a transaction is open")
   lu.assertEquals(lines[9], "db:transaction: its argument must be a function, not nil")
   lu.assertEquals(lines[10], "1")
   lu.assertEquals(database:value "select string_agg(id::text, ',') from t", "1")
end

-- A connection that is found dead is made anew; a statement in flight is never sent again, and what
-- was lost with a transaction is an error even if the script overlooks the first one.
function TestConnect.test_lost_connections()
   local database = cluster.main():database()
   database:exec "create table t (id serial)"
   local lines = run([[
      local other = connect()
      local function pid() return db:query("select pg_backend_pid() as p")[1].p end
      local first = pid()
      other:exec("select pg_terminate_backend($1)", first)
      local gone = "select count(*) as n from pg_stat_activity where pid = $1"
      repeat until other:query(gone, first)[1].n == 0
      assert(pid() ~= first)
      fails(db.exec, db, "insert into t select; select pg_terminate_backend(pg_backend_pid())")
      print(db:query("select count(*) as n from t")[1].n)
      fails(db.transaction, db, function(d)
         d:exec "insert into t select"
         pcall(d.exec, d, "select pg_terminate_backend(pg_backend_pid())")
         pcall(d.exec, d, "insert into t select")
      end)
      print(db:query("select count(*) as n from t")[1].n)
      db:close() db:close()
      print(db:query("select 1 as n")[1].n)
   ]], database)
   lu.assertStrContains(lines[1], "terminating connection due to administrator command")
   lu.assertStrContains(lines[1], "whether the statement was run is not known")
   lu.assertEquals(lines[2], "0")
   lu.assertEquals(lines[3],
      "db:transaction: the connection was lost, and the transaction with it")
   lu.assertEquals({ lines[4], lines[5] }, { "0", "1" })
end

-- Enrichment: a handler asks, in the change's own database or another one, also in the sandbox.
function TestConnect.test_from_a_handler()
   local database = cluster.main():database()
   database:exec [[
      create table customers (id int primary key, name text);
      insert into customers values (1, 'Ada'), (2, 'Bob');
      create table orders (id int primary key, customer int);
      insert into orders values (10, 2), (11, 1)]]
   local result = program.run { dsn = database, options = { "--once", "--sandbox" }, script = [[
      local db = (pgcdc.connect or require "pgcdc.postgres.client")()
      pgcdc.source {table = "orders", on_change = function(change)
         local found = db:query("select name from customers where id = $1", change.row.customer)
         print(change.row.id, found[1].name)
      end}]] }
   lu.assertEquals(result.status, 0, result.stderr)
   table.sort(result.lines)
   lu.assertEquals(result.lines, { "10\tBob", "11\tAda" })
end

-- The row of a change is a row for a parameter of the table's type, and loses nothing on the way.
function TestConnect.test_a_row_of_a_change_is_a_parameter()
   local database = cluster.main():database()
   database:exec [[create table t (id int primary key, "n""\" numeric, b bytea, j json, l text[]);
      insert into t values (1, 1.2345678901234567890, '\x00ff', '{"a": [null]}', '{"x,\"",null}'),
         (2, null, null, null, null);
      create table copy (like t)]]
   local result = program.run { dsn = database, options = { "--once" }, script = [[
      local db = pgcdc.connect()
      pgcdc.source {table = "t", on_change = function(change)
         db:exec("insert into copy select ($1::t).*", change.row)
      end}]] }
   lu.assertEquals(result.status, 0, result.stderr)
   local sql = [[select string_agg(row(id, "n""\", b, j::jsonb, l)::text, ' ' order by id) from ]]
   lu.assertEquals(database:value(sql .. "copy"), database:value(sql .. "t"))
end

return TestConnect
