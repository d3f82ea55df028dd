-- own_rows_test.lua: rows of a script's own, and changes that it makes by hand.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"

local TestOwnRows = {}

-- A source and a target database.
local function databases()
   local source = fixtures.database([[
      create table orders (id int primary key, customer text, total numeric(12,2), doc json);
      insert into orders values (1, 'Ada', 120.50, '{"a":  1.50}'), (2, 'Bob', 101, null),
         (3, 'Ada', 0.10, '[18446744073709551615]')]])
   return source, cluster.main():database()
end

local function options(source, target, script, state)
   return { dsn = source, state = state or fixtures.state(), script = ([[local target = %q
      local function sink(spec) spec.connect = target; return pgcdc.sinks.postgres(spec) end
      local orders = pgcdc.source { table = "orders", interval = 0.1 }
   ]]):format(target:dsn()):gsub("\n", " ") .. script }
end

local function run(source, target, script, state)
   return once.ok(options(source, target, script, state))
end

-- Rows of the target as text, in order.
local function rows(target, sql)
   local text = sql:gsub(" from ", "::text from ", 1)
   local list, all = {}, target:value("select string_agg(t, E'\n' order by t) from (select "
      .. text .. ") x(t)")
   for line in (all or ""):gmatch "[^\n]+" do
      list[#list + 1] = line
   end
   return list
end

-- Into tables ----------------------------------------------------------------------------------

-- An audit of every change has the row before and after it, also where `old` was kept.
function TestOwnRows.test_audits_of_old_and_new_rows()
   local source, target = databases()
   local state = fixtures.state()
   local script = [[local kept = pgcdc.source { table = "orders", name = "kept", deletes = true,
         old = true, columns = { "id", "customer" } }
      kept:map(function(c)
         return { what = c.op, id = c.key.id, before = c.old, after = c.row, changed = c.changed }
      end):sink(sink { table = "audit", mode = "append" })]]
   run(source, target, script, state)
   source:exec [[update orders set customer = 'Eve' where id = 1; delete from orders where id = 2]]
   run(source, target, script, state)
   lu.assertEquals(rows(target, [[format('%s %s|%s|%s|%s', id, what, before, after, changed)
      from audit where what <> 'read']]), {
      '1 update|{"id": 1, "customer": "Ada"}|{"id": 1, "customer": "Eve"}|["customer"]',
      '2 delete|{"id": 2, "customer": "Bob"}||',
   })
end

-- Aggregates and audits are three lines.
function TestOwnRows.test_aggregates_and_audits()
   local source, target = databases()
   local state = fixtures.state()
   local script = [[
      orders:reduce_by("customer", function(n, c) return n + c.row.total end,
         { start = 0, persist = "totals" }):sink(sink { table = "totals", pk = "key" })
      orders:map(function(c) return { what = c.op, id = c.key.id, new = c.row } end)
         :sink(sink { table = "audit", mode = "append" })
      orders:map(function(c) return { id = c.row.id, customer = c.row.customer } end)
         :sink(sink { table = "versions", pk = "id", mode = "history" })]]
   run(source, target, script, state)
   source:exec [[insert into orders values (4, 'Bob', 9);
      update orders set customer = 'Eve' where id = 3]]
   run(source, target, script, state)
   lu.assertEquals(rows(target, "key || ' ' || state from totals"),
      { "Ada 120.6", "Bob 110", "Eve 0.1" })
   lu.assertEquals(rows(target, "id || what || (new->>'total') from audit"),
      { "1read120.50", "2read101.00", "3read0.10", "3upsert0.10", "4upsert9.00" })
   lu.assertEquals(rows(target, "id || customer || (valid_to is null) || op from versions"),
      { "1Adatrueupsert", "2Bobtrueupsert", "3Adafalseupsert", "3Evetrueupsert", "4Bobtrueupsert" })
end

-- Values become what the columns of the target are, exactly.
function TestOwnRows.test_types_of_the_target()
   local source, target = databases()
   target:exec [[create extension hstore; create type mood as enum ('sad', 'happy');
      create type pair as (a int, b text); create domain short as varchar(3);
      create table t (id bigint primary key, n numeric, i int, f float8, b bool, s varchar(3),
         c char(4), d short, at timestamptz, day date, m mood, p pair, a int[], ta text[], h hstore,
         j json, jb jsonb, js jsonb, by bytea, u uuid, iv interval, extra int default 7)]]
   run(source, target, [[
      orders:filter(function(c) return c.key.id == 1 end):map(function()
         return { id = 9007199254740993, n = "123456789012345678901234567890.10", i = 5.0, f = 0.1,
            b = true, s = "abc", c = "ab", d = "xyz", at = "2026-01-02T03:04:05Z",
            day = "2026-01-02", m = "happy", p = { a = 1, b = "x\"y" }, a = { 1, 2, pgcdc.null },
            ta = { "a,b", "c" }, h = { k = "v" }, j = { 1, { x = pgcdc.null } }, jb = "text",
            js = pgcdc.json.decode "{\"n\": 18446744073709551615}", by = "\0\255x",
            u = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", iv = "1 day" }
      end):sink(sink { table = "t", pk = "id" })]])
   lu.assertEquals(target:value "select t::text from t", '(9007199254740993,'
      .. '123456789012345678901234567890.10,5,0.1,t,abc,"ab  ",xyz,"2026-01-02 03:04:05+00",'
      .. '2026-01-02,happy,"(1,""x""""y"")","{1,2,NULL}","{""a,b"",c}","""k""=>""v""",'
      .. '"[1,{""x"":null}]",'
      .. '"""text""","{""n"": 18446744073709551615}","\\\\x00ff78",'
      .. 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,"1 day",7)')
end

-- What is no value of the column's type is refused; nothing is rounded or cut.
function TestOwnRows.test_refusals()
   local source, target = databases()
   target:exec "create table t (id int primary key, i int, s varchar(3), a int[], b bool)"
   for value, message in pairs {
      ["i = 1.5"] = "invalid input syntax for type integer",
      ["s = 'abcd'"] = "cannot hold abcd as it is",
      ["a = 5"] = "expected JSON array", ["s = print"] = "a value is a function",
      ["nothing = 1"] = "has no column \"nothing\"",
   } do
      local result = once.ends(1, options(source, target, ([[
         orders:map(function() return { id = 1, %s } end):sink(sink { table = "t", pk = "id" })]])
         :format(value)))
      lu.assertStrContains((result.stderr:gsub('\\"', '"')), message)
   end
   for script, message in pairs {
      ["orders:map(function() return { 1, 2 } end):sink(sink { table = 'x' })"] =
         "must have named fields, and one is named by a number: is it a list?",
      ["orders:map(function() return 5 end):sink(sink { table = 'x' })"] =
         "it takes changes and tables with named fields, not a number",
      ["orders:map(function() return { a = 1 } end):sink(sink { table = 'x' })"] =
         "the changes have no key: name columns as pk=",
      ["orders:map(function() return { a = 1 } end):sink(sink { table = 'x', pk = 'b' })"] =
         "pk names 'b', and the changes have no such column",
      ["local n = 0 orders:map(function() n = n + 1 return { a = n, b = n == 1 and 1 or nil } end)"
         .. ":sink(sink { table = 'x', pk = 'b' })"] = "a row has no 'b', which is in its key",
   } do
      lu.assertStrContains(once.ends(1, options(source, target, script)).stderr, message)
   end
end

-- Values that the target would round are refused (misfits has the kinds) also where what the rows
-- are to become is worked out first, and in rows of a source that are rows of one's own.
function TestOwnRows.test_nothing_is_rounded()
   local source, target = databases()
   target:exec "create table t (id int primary key, n numeric(6, 2))"
   lu.assertStrContains(once.ends(1, options(source, target, [[
      local first = sink { table = "t", pk = "id", existing = "keep", name = "first" }
      local second = sink { table = "t", pk = "id", existing = "keep", name = "second" }
      orders:filter(function(c) return c.key.id == 1 end):sink(function()
         first:write(pgcdc.change { op = "delete", table = "t", key = { id = 1 } })
         second:write { id = 1, n = 1.005 }
      end)]])).text, "which cannot hold 1.005 as it is")
   -- a row of a row of a source, with a type that is narrower in the target
   source:exec "alter table orders alter total type numeric; update orders set total = 1.0050"
   lu.assertStrContains(once.ends(1, options(source, target, [[
      orders:map(function(c) return { id = c.key.id, n = c.row.total } end)
         :sink(sink { table = "t", pk = "id", existing = "keep" })]])).text,
      "is numeric(6,2), which cannot hold 1.0050 as it is")
end

-- The same for columns that `add` makes, in the key as well.
function TestOwnRows.test_nothing_is_rounded_that_operators_make()
   local source, target = databases()
   target:exec [[create table t (id int primary key, gross numeric(6, 2), total numeric(12, 2),
         day date, customer text, code varchar(4), doc jsonb);
      create table k (k numeric(6, 1) primary key, customer text)]]
   local function write(operators, spec)
      return options(source, target, ([[orders:filter(function(c) return c.key.id == 1 end)%s
         :sink(sink { existing = %s, %s })]]):format(operators,
         spec and spec:find "append" and "nil" or '"keep"', spec or 'table = "t"'))
   end
   for operators, column in pairs {
      [":add { gross = function(c) return c.row.total * 1.001 end }"] = "gross",
      [":add { day = function() return '2026-01-02 03:04' end }"] = "day",
      [":select { 'id', 'total' }:rename { total = 'doc' }:add { total = function(c)"
         .. " return c.row.doc / 7 end }:drop { 'doc' }"] = "total",
      [":add { code = function(c) return c.row.customer .. '  ' end }"] = "code",
   } do
      for _, spec in ipairs { false, 'table = "t", mode = "append"' } do
         lu.assertStrContains(once.ends(1, write(operators, spec or nil)).text,
            ('the column "%s" of "public"."t" in the target is'):format(column))
      end
   end
   local key = [[:select { "customer", "total" }:add { k = function(c) return c.row.total / %d end }
      :select { "k", "customer" }]]
   lu.assertStrContains(once.ends(1, write(key:format(7), 'table = "k", pk = "k"')).text,
      "cannot hold 17.2142857")
   once.ok(write(key:format(5), 'table = "k", pk = "k"'))
   once.ok(write [[:add { gross = function(c) return c.row.total * 2 end,
      day = function(c) return c.ts:sub(1, 10) end }:mask { customer = { keep = 1 } }]])
   lu.assertEquals(target:value "select gross || customer || (day > '2020-01-01') from t",
      "241.00A***true")
   lu.assertEquals(target:value "select k::text || customer from k", "24.1Ada")
end

-- A table that is to be made: types are guessed, rows may have different fields, what they lack is
-- NULL, and what is deleted by hand is deleted, in the order in which all that came.
function TestOwnRows.test_a_table_that_is_made()
   local source, target = databases()
   run(source, target, [[
      local out = sink { table = "made", pk = "id" }
      orders:filter(function(c) return c.key.id == 1 end):sink(function(c)
         out:write { id = 1, n = 1, t = "x", ok = true, l = { 1 }, bytes = "\255" }
         out:write { id = 2, n = 1.5, late = "only here" }
         out:write { id = 3, n = pgcdc.null }
         out:write(pgcdc.change { op = "delete", table = "made", key = { id = 3 } })
         out:write { id = 4, n = 4 }
         out:write(pgcdc.change { op = "delete", table = "made", key = { id = 4 } })
         out:write { id = 4, n = 44, later = 5 }
         out:write { id = 2, n = 2 }
         out:write(pgcdc.change { op = "insert", table = "made", row = { id = 5, n = "6.10" } })
         out:write(pgcdc.change { op = "update", table = "made", key = { id = 6 },
            row = { n = 7 } })
      end)]])
   lu.assertEquals(rows(target,
      "id || ':' || n || coalesce(late, '') || coalesce(later, 0) from made"),
      { "1:10", "2:20", "4:445", "5:6.100", "6:70" })
   lu.assertEquals(target:value [[select
      string_agg(attname || ' ' || format_type(atttypid, -1), ', ' order by attname)
      from pg_attribute
      where attrelid = 'made'::regclass and attnum > 0]],
      "bytes bytea, id bigint, l jsonb, late text, later numeric, n numeric, ok boolean, t text")
end

-- A sink that gets changes of a source and some made by hand keeps them in order, and documents as
-- they are.
function TestOwnRows.test_with_changes_of_a_source()
   local source, target = databases()
   run(source, target, [[
      local out = sink { table = "mixed" }
      orders:sink(function(c)
         if c.key.id == 2 then
            out:write(pgcdc.change { op = "delete", table = "x", key = { id = 1 } })
         end
         out:write(c)
         if c.key.id == 3 then
            out:write(pgcdc.change { op = "delete", table = "x", key = c.key })
            out:write(c)
            out:write(pgcdc.change { op = "upsert", table = "x", key = { id = 9 }, row = c.row })
         end
      end)]])
   lu.assertEquals(rows(target, "mixed::text from mixed"), {
      "(2,Bob,101.00,)", "(3,Ada,0.10,[18446744073709551615])" })
   lu.assertEquals(target:value [[select string_agg(format_type(atttypid, atttypmod), ', '
      order by attnum) from pg_attribute where attrelid = 'mixed'::regclass and attnum > 0]],
      "integer, text, numeric(12,2), json")
end

-- What was written once is there once after kills.
function TestOwnRows.test_exactly_once()
   local source, target = databases()
   source:exec "insert into orders select g, 'C' || g % 7, g from generate_series(10, 1000) g"
   local state = fixtures.state()
   local script = options(source, target, [[
      local n = 0
      orders:reduce_by("customer", function(sum, c) return sum + c.row.total end,
         { start = 0, persist = "totals" }):sink(sink { table = "totals", pk = "key" })
      orders:map(function(c) return { id = c.key.id } end)
         :sink(sink { table = "audit", mode = "append" })
      orders:sink(function() n = n + 1 if n == 500 and os.getenv "DIE" then os.exit(9) end end)]],
      state)
   local first = program.run { dsn = source, state = state, script = script.script,
                               options = { "--once" }, env = { DIE = "1" } }
   lu.assertEquals(first.status, 9)
   once.ok(script)
   source:exec "update orders set total = total + 1 where id < 100"
   once.ok(script)
   lu.assertEquals(target:value "select count(*) - count(distinct id) from audit",
      source:value "select count(*) from orders where id < 100")
   lu.assertEquals(target:value "select count(distinct id) from audit",
      source:value "select count(*) from orders")
end

-- Into other sinks and through operators -------------------------------------------------------

local BY_HAND = [[pgcdc.change { op = "upsert", table = "totals", key = { id = 1 }, ts =
   "2026-01-01T00:00:00.000Z", id = "x", row = { id = 1, name = "Ada", list = { 1, 2 } } }]]

function TestOwnRows.test_other_sinks()
   local source, target = databases()
   local lines = run(source, target, ([[
      local one = orders:filter(function(c) return c.key.id == 1 end)
      local hand = one:map(function() return %s end)
      local plain = one:map(function() return { id = 1, name = "Ada", list = { 1, 2 } } end)
      for i, stream in ipairs { hand, plain } do
         stream:sink(pgcdc.sinks.jsonl { name = "jsonl" .. i })
         stream:sink(pgcdc.sinks.text { name = "text" .. i })
         stream:sink(pgcdc.sinks.csv { name = "csv" .. i })
         stream:sink(pgcdc.sinks.exec { name = "exec" .. i, command = "sed s/^/exec:/" })
      end]]):format(BY_HAND)).lines
   local change = '{"op":"upsert","schema":"","table":"totals","key":{"id":1},"row":{"id":1,'
      .. '"list":[1,2],"name":"Ada"},"xid":null,"seq":null,'
      .. '"ts":"2026-01-01T00:00:00.000Z","id":"x"}'
   local row = '{"id":1,"list":[1,2],"name":"Ada"}'
   table.sort(lines)
   local expected = { 'id,list,name', 'id,list,name', '1,"[1,2]",Ada', '1,"[1,2]",Ada', change,
                      change, row, row, "exec:" .. change, "exec:" .. row }
   table.sort(expected)
   lu.assertEquals(lines, expected)
end

function TestOwnRows.test_dead_letters()
   local source, target = databases()
   local script = options(source, target, [[
      local s = pgcdc.source { table = "orders", name = "second", where = "id = 1",
         on_error = "dead_letter", dead_letter = sink { table = "dead", mode = "append" } }
      s:sink(function(c) error("no", 0) end)]])
   script.options = { "--once" }
   lu.assertEquals(program.run(script).status, 0)
   lu.assertEquals(rows(target, "attempts || error || (change->'row'->>'customer') from dead"),
      { "1noAda" })
end

function TestOwnRows.test_operators()
   local result = program.run { state = false, script = ([[
      local s = pgcdc.stream {}
      local function show(name, stream)
         stream:sink(function(x)
            print(name, pgcdc.json.encode(pgcdc.is_change(x) and x.row or x))
         end)
      end
      local function f(x) return pgcdc.is_change(x) and x.row or x end
      show("select", s:select { "name", "id" })
      show("drop", s:drop { "list" })
      show("rename", s:rename { name = "who" })
      show("add", s:add { twice = function(x) return f(x).id * 2 end })
      show("mask", s:mask { name = { keep = 1 }, list = function(v, x) return #v + f(x).id end })
      show("only", s:only(function(x) return f(x).id == 1 end))
      show("pluck", s:pluck { "id", "name" })
      s:debezium():sink(function(e) print("debezium", e.op, pgcdc.json.encode(e.after)) end)
      s:cloudevents():sink(function(e) print("cloudevents", e.type, e.id ~= "",
         pgcdc.json.encode(f(e.data))) end)
      s:route("name", { Ada = function() print "routed" end })
      s:emit(%s)
      s:emit { id = 1, name = "Ada", list = { 1, 2 } }]]):format(BY_HAND) }
   lu.assertEquals(result.status, 0, result.stderr)
   local half = #result.lines // 2
   lu.assertEquals({ table.unpack(result.lines, half + 1) },
      (function(lines)
         lines[1] = 'select\t{"id":1,"name":"Ada"}' -- a plain table has no order
         lines[8] = 'debezium\tu\t{"id":1,"list":[1,2],"name":"Ada"}'
         return lines
      end)({ table.unpack(result.lines, 1, half) }))
   lu.assertEquals({ table.unpack(result.lines, 1, half) }, {
      'select\t{"name":"Ada","id":1}', 'drop\t{"id":1,"name":"Ada"}',
      'rename\t{"id":1,"list":[1,2],"who":"Ada"}',
      'add\t{"id":1,"list":[1,2],"name":"Ada","twice":2}',
      'mask\t{"id":1,"list":3,"name":"A***"}', 'only\t{"id":1,"list":[1,2],"name":"Ada"}',
      'pluck\t[1,"Ada"]', 'debezium\tu\t{"id":1,"list":[1,2],"name":"Ada"}',
      'cloudevents\tpgcdc.upsert\ttrue\t{"id":1,"list":[1,2],"name":"Ada"}', "routed",
   })
end

-- pgcdc.change ---------------------------------------------------------------------------------

function TestOwnRows.test_changes_made_by_hand()
   local result = program.run { state = false, script = [[
      local c = pgcdc.change { op = "update", table = "t", schema = "s", database = "d", xid = 7,
         source = "src", key = { b = 2, a = 1 }, row = { a = 1, v = pgcdc.null, w = "x" },
         old = { a = 1, v = 5 } }
      print(c.op, c.table, c.schema, c.database, c.xid, c.source, c.key.b, c.row.v, c.old.v)
      print(c.row.w, pcall(function() return c.row.x end))
      c.row.w, c.row.new = "y", true
      print(c.row, c.key, #c.ts, c.id ~= pgcdc.change { op = "read", table = "t", row = {} }.id)
      local d = pgcdc.change { op = "delete", table = "t", key = c.key, old = c.row }
      print(d.row, d.old, d.key, d.op)
      local row = { a = { 1 } }
      local e = pgcdc.change { op = "insert", table = "t", row = row }
      row.a[1] = 2
      print(e.row.a[1], pgcdc.is_change(e), pgcdc.is_change(row), getmetatable(e).__name)
      for _, spec in ipairs { {}, { op = "merge", table = "t", row = {} },
            { op = "read", row = {} }, { op = "read", table = "t" }, { op = "delete", table = "t" },
            { op = "read", table = "t", rwo = {} }, { op = "read", table = "t", row = { 1 } },
            { op = "read", table = "t", row = {}, key = 5 }, 5 } do
         print((select(2, pcall(pgcdc.change, spec)):gsub("^.-%.lua:%d+: pgcdc.change", "")))
      end]] }
   lu.assertEquals(result.status, 0, result.stderr)
   local lines = result.lines
   lu.assertEquals(lines[1], "update\tt\ts\td\t7\tsrc\t2\tnil\t5")
   lu.assertStrContains(lines[2], "there is no column 'x' in s.t")
   lu.assertEquals(lines[3], '{"a":1,"v":null,"w":"y","new":true}\t{"a":1,"b":2}\t24\ttrue')
   lu.assertEquals(lines[4], 'nil\t{"a":1,"v":null,"w":"y","new":true}\t{"a":1,"b":2}\tdelete')
   lu.assertEquals(lines[5], "1\ttrue\tfalse\tpgcdc.change")
   local ops = "; there are: delete, insert, read, update, upsert"
   lu.assertEquals({ table.unpack(lines, 6) }, {
      ": op: unknown (a nil)" .. ops, ": op: unknown 'merge'" .. ops, ": table is required",
      ": row is required where op is not 'delete'", ": a delete needs a key",
      ": unknown field 'rwo'; did you mean 'row'?",
      ": row must have named fields, and one is named by a number: is it a list? "
         .. "(flatten() takes lists apart)",
      ": key must be a table, not a number", ": its argument must be a table, not a number",
   })
end

-- Plain tables of changes, for libraries that know no more.
function TestOwnRows.test_copies()
   local source, target = databases()
   local lines = run(source, target, [[
      orders:filter(function(c) return c.key.id < 3 end):sink(function(c)
         c.row.more = { 1 }
         local row, all = c.row:copy(), c:copy()
         row.customer, row.more[1] = "changed", 2
         assert(not getmetatable(row) and not getmetatable(all) and not getmetatable(all.key))
         print(c.row.customer, c.row.more[1], row.total, next(all) ~= nil, all.op, all.row.id,
            all.key.id, row.doc and row.doc.a, rawget(row, "doc") == nil)
      end)]]).lines
   lu.assertEquals(lines, { "Ada\t1\t120.50\ttrue\tread\t1\t1\t1.5\tfalse",
                            "Bob\t1\t101.00\ttrue\tread\t2\t2\tnil\ttrue" })
end

return TestOwnRows
