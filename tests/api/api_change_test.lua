-- api_change_test.lua: the change object: its fields, its key and row, what a script assigns.
-- SPDX-License-Identifier: MIT
--
-- How each type of Postgres is shown in Lua and in JSON belongs to the suites about values.

local cluster = require "cluster"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local program = require "program"

local TestApiChange = {}

local STAMP = "%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ"

-- A database with t as <columns> say, holding one row.
local function database(columns, values)
   return fixtures.database("create table t (%s); insert into t values (%s)", columns, values)
end

local run = once.on_change

-- The xmin of t's row with the id, as 64 bit (no epoch has passed in a throw-away cluster).
local function xid_of(db, id)
   return tonumber(db:value("select xmin from t where id = " .. (id or 1)))
end

-- Fields ---------------------------------------------------------------------------------------

function TestApiChange.test_fields()
   local db = database("id int primary key, name text", "1, 'one'")
   local lines = run(db, [[
      print(type(c), c.op, c.schema, c.table, c.source, c.key.id, c.row.name, c.old)
      print(math.type(c.xid), c.xid, c.id)
      print(c.ts)
      print(c:get "nothing", c[1], c[print], c[pgcdc.null])
      print(c.key == c.key, c.row == c.row)
      print(rawequal(c.row.name, "one"), c.row.id + 1, c.row:get "nothing",
         c.row[1], c.key:get "nothing")]])
   local xid = xid_of(db)
   lu.assertEquals(lines[1], "table\tread\tpublic\tt\tpublic.t\t1\tone\tnil")
   lu.assertEquals(lines[2], ("integer\t%d\tpublic.t/%d/1"):format(xid, xid))
   lu.assertStrMatches(lines[3], STAMP)
   local age = db:value(("select extract(epoch from now() - '%s')"):format(lines[3]))
   lu.assertTrue(math.abs(age) < 60)
   lu.assertEquals(lines[4], "nil\tnil\tnil\tnil")
   lu.assertEquals(lines[5], "true\ttrue")
   lu.assertEquals(lines[6], "true\t2\tnil\tnil\tnil")
end

-- The bytes of a change are a format that tools depend on.
function TestApiChange.test_tostring()
   local db = database("id int primary key, name text, amount numeric(9,2), data jsonb, extra int",
                       [[1, E'quote " backslash \\ tab \t é 😀 \x01', 12.50,
                         '{"b": [1, null]}', null]])
   local lines = run(db, "print(tostring(c))\nprint(pgcdc.json.encode(c))")
   local ts = json.decode(lines[1]).ts
   lu.assertStrMatches(ts, STAMP)
   local expected = '{"op":"read","schema":"public","table":"t","key":{"id":1},"row":{"id":1,'
      .. [["name":"quote \" backslash \\ tab \t é 😀 \u0001","amount":12.50,]]
      .. '"data":{"b": [1, null]},"extra":null},"xid":XID,"seq":SEQ,"ts":"TS",'
      .. '"id":"public.t/XID/1"}'
   local seq = lines[1]:match '"seq":(%d+)'
   expected = expected:gsub("XID", xid_of(db)):gsub("SEQ", seq):gsub("TS", ts)
   lu.assertEquals(lines[1], expected)
   lu.assertEquals(lines[2], expected)
end

-- Reading fields must change nothing of it; nor must one change's text tell of another.
function TestApiChange.test_tostring_after_reading()
   local db = database("id int primary key, data jsonb, list int[], at timestamptz",
                       [['1', '{"z": 1.0, "a": [1e2, {}]}', '{1,2,null}', '2020-02-02 02:02+02']])
   local lines = run(db, [[
      local before = tostring(c)
      local _ = c.key.id, c.row.data.a[1], c.row.list[2], c.row.at, c.id, c.ts
      for name, value in pairs(c) do _ = name, value end
      for name, value in pairs(c.row) do _ = name, value end
      for name, value in pairs(c.key) do _ = name, value end
      print(before == tostring(c))
      print(before)]])
   lu.assertEquals(lines[1], "true")
   lu.assertStrContains(lines[2], [["data":{"a": [100, {}], "z": 1.0},"list":[1,2,null],]])
end

-- Keys -----------------------------------------------------------------------------------------

-- The key keeps the order of the primary key, the row that of the table.
function TestApiChange.test_composite_keys()
   local db = database([["z" int, "a" text, n numeric, "M" timestamptz,
      primary key ("M", "z", "a")]], [[-3, 'x,"y"', 1, '2020-01-02 03:04:05.6+00']])
   local lines = run(db, [[
      local names = {}
      for name, value in pairs(c.key) do names[#names + 1] = name .. "=" .. tostring(value) end
      print(table.concat(names, " "))
      print(c.id)
      print(tostring(c.key), pgcdc.json.encode(c.key))
      print(c)]])
   lu.assertEquals(lines[1], 'M=2020-01-02T03:04:05.6+00:00 z=-3 a=x,"y"')
   lu.assertStrMatches(lines[2], 'public%.t/%d+/2020%-01%-02T03:04:05%.6%+00:00,%-3,x,"y"')
   local key = [[{"M":"2020-01-02T03:04:05.6+00:00","z":-3,"a":"x,\"y\""}]]
   lu.assertEquals(lines[3], key .. "\t" .. key)
   lu.assertStrContains(lines[4], '"key":' .. key .. ',"row":{"z":-3,"a":')
   lu.assertEquals(json.decode(lines[4]).id, lines[2])
end

-- pk may name any columns in any order, also such as `columns` leaves out. Where no unique index
-- says that they tell rows apart the place of the row is part of the id.
function TestApiChange.test_pk_and_columns()
   local db = database("id int primary key, a text, b int", "1, 'x', null")
   local function source(fields)
      local result = program.run {
         dsn = db, options = { "--once" }, script = ([[
            pgcdc.source {table = "t", %s, on_change = function(c)
               print(tostring(c.key), tostring(c.row), c.row:get "id", c.row:get "b",
                  c.key:get "b", c.id)
            end}]]):format(fields),
      }
      return (result.stdout:gsub("public.t/%d+/", "public.t/XID/"):gsub("/%d+%.%d+%.%d+", "/PLACE"))
   end
   lu.assertEquals(source [[pk = {"b", "a"}]],
      '{"b":null,"a":"x"}\t{"id":1,"a":"x","b":null}\t1\tnil\tnil\tpublic.t/XID/null,x/PLACE\n')
   lu.assertEquals(source [[pk = "a", columns = {"b"}]],
      '{"a":"x"}\t{"b":null}\tnil\tnil\tnil\tpublic.t/XID/x/PLACE\n')
   lu.assertEquals(source [[columns = {"b", "a"}]],
      '{"id":1}\t{"b":null,"a":"x"}\tnil\tnil\tnil\tpublic.t/XID/1\n')
   lu.assertEquals(source [[columns = "a"]], '{"id":1}\t{"a":"x"}\tnil\tnil\tnil\tpublic.t/XID/1\n')
end

-- An id is the same at every redelivery of a row version, and never that of another.
function TestApiChange.test_ids()
   local db = database("id int primary key, name text", "1, 'a'")
   local state = fixtures.state()
   local failing = program.run { dsn = db, state = state, script = [[
      pgcdc.source {table = "t", on_change = function(c) print(c.id) error "no" end}]] }
   lu.assertEquals(failing.status, 1)
   local first = run(db, "print(c.id)", { state = state })
   lu.assertEquals(first, failing.lines)
   db:exec "update t set name = 'b'; insert into t values (2)"
   local seen, n = { [first[1]] = true }, 0
   for _, id in ipairs(run(db, "print(c.id)", { state = state })) do
      lu.assertNil(seen[id])
      seen[id], n = true, n + 1
   end
   lu.assertEquals(n, 2)
end

-- Rows -----------------------------------------------------------------------------------------

function TestApiChange.test_pairs_of_a_row()
   local db = database("z int primary key, y int, x text, w bool, v json",
                       "1, null, 'x', null, 'null'")
   lu.assertEquals(run(db, [[
      for name, value in pairs(c.row) do print(name, value) end
      c.row.y = 2
      c.row.x = nil
      c.row.b = "new"
      c.row.a = 1
      for name, value in pairs(c.row) do print(name, value) end]]), {
      "z\t1", "y\tnil", "x\tx", "w\tnil", "v\tnull",
      "z\t1", "y\t2", "x\tnil", "w\tnil", "v\tnull", "b\tnew", "a\t1",
   })
end

-- What a script assigns is what it reads back, and what is written.
function TestApiChange.test_assignment()
   local db = database([[id int primary key, email text, amount numeric, raw bytea, data jsonb,
                         n int]],
                       [[1, 'a@b', 1.10, '\x00ff', '{"k": 1}', null]])
   local lines = run(db, [[
      local row = c.row
      row.email = nil
      row.amount = "2.50"
      row.raw = "A\0\xff"
      row.data = {list = {1, 2, {}}, none = pgcdc.null}
      row.n = 7
      row.added = "x"
      row.other = {pgcdc.null}
      row.gone = 1
      row.gone = nil
      print(row.email, row.amount, #row.raw, row.data.list[2], row.n, row.added, row.gone)
      print(row, pgcdc.json.encode(row))
      print(c)
      print(c.key.id, tostring(c.key))
      row.email = pgcdc.null
      row.added = nil
      row.id = 2
      print(row.email, row.added)
      print(row)
      print(c.key.id)]])
   local row = [["id":1,"email":null,"amount":2.50,"raw":"\\x4100ff",]]
      .. [["data":{"list":[1,2,{}],"none":null},"n":7,"added":"x","other":[null]}]]
   lu.assertEquals(lines[1], "nil\t2.50\t3\t2\t7\tx\tnil")
   lu.assertEquals(lines[2], "{" .. row .. "\t{" .. row)
   lu.assertStrContains(lines[3], '"key":{"id":1},"row":{' .. row .. ',"xid":')
   lu.assertEquals(lines[4], '1\t{"id":1}')
   lu.assertEquals(lines[5], "nil\tnil")
   lu.assertStrContains(lines[6], '{"id":2,"email":null,')
   lu.assertNotStrContains(lines[6], "added")
   lu.assertEquals(lines[7], "1")
end

-- Of what was decoded the script may change a part, and all else stays as the server wrote it.
function TestApiChange.test_changes_inside_a_value()
   local db = database("id int primary key, data json, list int[]",
                       [[1, '{"z": 1.0,  "a": [1, 2]}', '{1,2}']])
   local lines = run(db, [[
      c.row.data.a[3] = 3
      print(c.row)
      c.row.data.a[3] = nil
      c.row.list[1] = c.row.list[1] + 10
      print(c.row)]])
   lu.assertEquals(lines[1], '{"id":1,"data":{"a":[1,2,3],"z":1.0},"list":[1,2]}')
   lu.assertEquals(lines[2], '{"id":1,"data":{"z": 1.0,  "a": [1, 2]},"list":[11,2]}')
end

-- Values of other types than the column's are the script's own affair, as far as JSON has them.
function TestApiChange.test_values_of_other_types()
   local db = database("id int primary key, amount numeric, flag bool, name text",
                       "1, 2, true, 'x'")
   local lines = run(db, [[
      c.row.amount = 3
      c.row.flag = "perhaps"
      c.row.name = 1.5
      print(c.row)
      c.row.amount = "not a number"
      print(c.row)
      c.row.amount = "NaN"
      c.row.name = 0/0
      print(c.row)
      for _, bad in ipairs {"\xff", print, {[1.5] = 1}, {print}, coroutine.create(print)} do
         c.row.name = bad
         print(pcall(tostring, c))
         c.row.name = "fine"
      end
      print(pcall(function() c.row[1] = 2 end))
      print(pcall(function() c.row[{}] = 2 end))
      c.row["\xff"] = 1
      print(pcall(tostring, c))]])
   lu.assertEquals(lines[1], '{"id":1,"amount":3,"flag":"perhaps","name":1.5}')
   lu.assertEquals(lines[2], '{"id":1,"amount":"not a number","flag":"perhaps","name":1.5}')
   lu.assertEquals(lines[3], '{"id":1,"amount":"NaN","flag":"perhaps","name":"NaN"}')
   for i = 4, 11 do
      lu.assertStrMatches(lines[i], "false\t.+")
   end
   lu.assertStrContains(lines[4], "UTF-8")
   lu.assertStrContains(lines[4], "name")
   lu.assertStrContains(lines[5], "function")
   lu.assertEquals(#lines, 11)
end

-- Fields of the change itself may be replaced or added as well.
function TestApiChange.test_assigning_to_the_change()
   local db = database("id int primary key, name text", "1, 'x'")
   local lines = run(db, [[
      c.op = "delete"
      c.zone, c.extra = {1}, "more"
      c.old = {id = 1}
      print(c)
      for name, value in pairs(c) do
         if type(value) ~= "table" and name ~= "ts" and name ~= "xid" and name ~= "seq"
            and name ~= "id" then
            print(name, value)
         end
      end
      c.row = {b = 1, a = {}}
      print(c)
      c.row = nil
      c.op = nil
      print(c.row.name, c.op)]])
   local tail = [["xid":X,"seq":X,"ts":"X","id":"X","extra":"more","zone":[1]}]]
   local function plain(line)
      return (line:gsub('"xid":%d+', '"xid":X'):gsub('"seq":%d+', '"seq":X')
              :gsub('"ts":"[^"]*"', '"ts":"X"')
              :gsub('"id":"[^"]*"', '"id":"X"'))
   end
   lu.assertEquals(plain(lines[1]), [[{"op":"delete","schema":"public","table":"t","key":{"id":1},]]
      .. [["row":{"id":1,"name":"x"},"old":{"id":1},]] .. tail)
   lu.assertEquals({ lines[2], lines[3], lines[4], lines[5], lines[6] }, {
      "op\tdelete", "schema\tpublic", "table\tt", "source\tpublic.t", "extra\tmore",
   })
   lu.assertStrContains(lines[7], '"row":{"a":{},"b":1},"old":{"id":1},')
   lu.assertEquals(lines[8], "x\tread")
end

-- A change may be kept: it is worth the same when the batch is long gone.
function TestApiChange.test_changes_that_are_kept()
   local db = cluster.main():database()
   db:exec "create table t (id int primary key, name text)"
   db:exec "insert into t select i, 'name ' || i from generate_series(1, 5000) i"
   local result = program.run { dsn = db, options = { "--once" }, script = [[
      local kept, texts = {}, {}
      local s = pgcdc.source {table = "t", on_change = function(c)
         if c.key.id % 10 == 0 then
            kept[#kept + 1] = c
            texts[#texts + 1] = tostring(c)
         end
      end}
      s:on("ready", function()
         collectgarbage()
         for i, c in ipairs(kept) do
            assert(tostring(c) == texts[i])
            assert(c.row.name == "name " .. c.key.id and c.key.id == i * 10)
         end
         print(#kept)
      end)]] }
   lu.assertEquals(result.stdout, "500\n")
end

-- Metamethods called on something else say so and do no harm.
function TestApiChange.test_misuse()
   local db = database("id int primary key, name text", "1, 'x'")
   local lines = run(db, [[
      local getmetatable = debug.getmetatable
      local mt, row_mt = getmetatable(c), getmetatable(c.row)
      for _, f in ipairs {mt.__tostring, mt.__pairs, mt.__index,
                          row_mt.__tostring, row_mt.__pairs, row_mt.__index, row_mt.__newindex,
                          getmetatable(c.key).__tostring, getmetatable(c.key).__pairs} do
         for _, value in ipairs {{}, 5, "x", print, io.stdout, pgcdc.null} do
            pcall(f, value, "name", 1)
         end
         pcall(f)
      end
      print(rawlen(c), next({}), pcall(next, c))
      print(c)]])
   lu.assertStrContains(lines[#lines], '"row":{"id":1,"name":"x"}')
end

-- Names of tables and columns go into JSON, quoted where they must be, and read as they are.
function TestApiChange.test_odd_names()
   local db = cluster.main():database()
   db:exec [[create table "We""ird
Täble" ("Col ""x""" int, "\" int, "op" int, primary key ("Col ""x"""))]]
   db:exec [[insert into "We""ird
Täble" values (1, 2, 3)]]
   local result = program.run { dsn = db, options = { "--once" }, script = [[
      pgcdc.source {table = {"public", 'We"ird\nTäble'}, on_change = function(c)
         print(c.key['Col "x"'], c.row["\\"], c.row.op, c.table)
         print(c)
      end}]] }
   lu.assertEquals(result.lines[1], '1\t2\t3\tWe"ird')
   local change = result.changes[1]
   lu.assertEquals(change.table, 'We"ird\nTäble')
   lu.assertEquals(json.keys(change.row), { 'Col "x"', "\\", "op" })
   lu.assertStrMatches(change.id, 'public%.We"ird\nTäble/%d+/1')
end

return TestApiChange
