-- misfits_test.lua: values of a script's that the target would round, cut or leave out.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"

local TestMisfits = {}

local TYPES = [[create type money_ as (amount numeric(10, 2), at timestamp(0), tags name[]);
   create domain cents as numeric(6, 2); create type pairs as (l money_[], d cents);
   create type around as range (subtype = cents)]]

local COLUMNS = [[id int primary key, n numeric(6, 2), d cents, r real, f float8, m money,
   v varchar(2), na name, ch "char", ts timestamp, tz timestamptz(3), da date, ti time,
   iv interval(0), ns numeric(6, 1)[], p pairs, ps pairs[], g around]]

-- What types would round, cut or leave out without an error, in parts as well: column -> values, as
-- Lua.
local LOST = {
   n = { '"1.005"', "1.005", "0.1 + 0.2", "123.456" }, d = { '"0.001"' },
   r = { '"0.123456789"', "16777217" },
   f = { "9007199254740993", '"1.00000000000000000001"', '"1.0000000000000001"',
         '"9007199254740993.0"', '"0.30000000000000001"' },
   m = { "1.005" }, v = { '"ab "' }, na = { '("x"):rep(64)' }, ch = { '"ab"' },
   ts = { '"2026-01-02T03:04:05+02:00"', '"2026-01-02 03:04:05.1234567"' },
   tz = { '"2026-01-02T03:04:05.1234Z"' }, da = { '"2026-01-02T03:04:05Z"' },
   ti = { '"2026-01-02 03:04:05"', '"03:04:05+02"' }, iv = { '"1.5 seconds"' },
   ns = { "{ 1, 1.25 }", "{ { 1 }, { 1.25 } }", '"{1,1.25}"' },
   p = { "{ d = 1.005 }", "{ l = { { amount = 1 }, { amount = 1.005 } } }", "{ x = 1 }",
         '{ l = { { at = "2026-01-02T03:04:05.5Z" } } }', [['({},1.005)']],
         '{ l = { { tags = { ("x"):rep(64) } } } }', "{ l = { { amout = 1 } } }",
         [[{ l = '{"(1.005,,)"}' }]], '{ l = { { tags = "{" .. ("x"):rep(64) .. "}" } } }' },
   ps = { "{ { d = 1 }, { d = 1.005 } }", '{ "(,1.005)" }' }, g = { '"[1.005,2)"' },
}

-- What only looks different.
local KEPT = {
   n = { '"1.500"', "1.5", "1e2", '"NaN"' }, r = { "0.1", '"1e10"', "16777216", "1/0" },
   f = { "0.1 + 0.2", "1e300", "2^-1074", "2^-24", "2^-44", "-2^131 / 3",
         '"2.503465091049843e+16"' },
   m = { "1.5", '"$2.50"' }, v = { '"ab"' }, ch = { '"a"' },
   ts = { '"2026-01-02T03:04:05.123456Z"', '"2026-01-02 03:04"', '"infinity"' },
   tz = { '"2026-01-02T03:04:05.120Z"', '"2026-01-02 03:04:05+02"' },
   da = { '"2026-01-02"', '"2026-01-02T00:00:00Z"', '"5000000-01-01"' }, iv = { '"1 day"' },
   ti = { '"03:04"', '"03:04:05Z"' }, ns = { '"{1.50,NULL}"', "{ { 1 }, { 2.5 } }" },
   p = { '{ l = { { amount = "1.10", tags = { "a", pgcdc.null } } }, d = 1.5 }', '"(,1.50)"',
         "{ x = pgcdc.null }", '{ l = { { tags = "{a,b}" } } }' },
   ps = { "{ { d = 1 }, pgcdc.null }", '{ "(,1.50)" }' }, g = { '"[1.50,)"' },
}

-- Appends the values that <values> has to the list <cases> of {column =, value =, is_lost =}.
local function add_cases(cases, values, is_lost)
   for column, list in pairs(values) do
      for _, value in ipairs(list) do
         cases[#cases + 1] = { column = column, value = value, is_lost = is_lost }
      end
   end
end

-- A source with a row for each case, and a target; both have the table t.
local function databases(cases)
   local create = ("%s; create table t (%s)"):format(TYPES, COLUMNS)
   local source = fixtures.database(("%s; insert into t (id) select generate_series(1, %d)"):format(
      create, #cases))
   local target = cluster.main():database()
   target:exec(create)
   return source, target
end

-- Runs a script in which values[id]() is the value of a case, columns[id] its column, all() the
-- changes, a stream, and sink() the sink, and whose refused rows are left out. Checks that those
-- are the lost ones, each with a message that names its column.
local function check(source, target, cases, script, fields)
   local values, columns = {}, {}
   for i, case in ipairs(cases) do
      values[i] = ("function() return %s end"):format(case.value)
      columns[i] = ("%q"):format(case.column)
   end
   target:exec "truncate t"
   local lines = once.run { dsn = source, state = fixtures.state(), script = ([[
      local values, columns = { %s }, { %s }
      local function all()
         return pgcdc.source { table = "t", on_error = "dead_letter", dead_letter = function(d)
            print(math.tointeger(d.change.row.id), d.error)
         end }
      end
      local function sink()
         return pgcdc.sinks.postgres { connect = %q, table = "t", %s }
      end
      %s]]):format(table.concat(values, ", "), table.concat(columns, ", "), target:dsn(),
      fields or 'pk = "id", existing = "keep"', script) }
   lu.assertEquals(lines.status, 0, lines.stderr)
   local messages = {}
   for _, line in ipairs(lines.lines) do
      local id, message = line:match "^(%d+)\t(.*)$"
      messages[tonumber(id)] = message
   end
   local expected, found = {}, {}
   for i, case in ipairs(cases) do
      local what = case.column .. " = " .. case.value
      if case.is_lost then
         lu.assertStrContains(messages[i] or "",
            ('the column "%s" of "public"."t" in the target is'):format(case.column), false, what)
         lu.assertStrContains(messages[i], "nothing is rounded", false, what)
      else
         lu.assertNil(messages[i], what)
      end
      expected[i] = ("%d:%d"):format(i, case.is_lost and 0 or 1)
      found[i] = ("select '%d:' || count(%s) as x from t where id = %d"):format(i, case.column, i)
   end
   lu.assertEquals(target:value(("select string_agg(x, ' ') from (%s) x"):format(
      table.concat(found, " union all "))), table.concat(expected, " "))
end

local function all_cases()
   local cases = {}
   add_cases(cases, LOST, true)
   add_cases(cases, KEPT, false)
   return cases
end

-- Rows of a script's own.
function TestMisfits.test_own_rows()
   local cases = all_cases()
   add_cases(cases, { ns = { "{}" } }, false) -- for a column of a source that is an empty object
   local source, target = databases(cases)
   check(source, target, cases, [[all():map(function(c)
         local id = c.key.id
         return { id = id, [columns[id] ] = values[id]() }
      end):sink(sink())]])
end

local ASSIGN = [[local out = sink()
   all():sink(function(c)
      local id = c.key.id
      c.row[columns[id] ] = values[id]()
      out:write(c)
   end)]]

-- Values that a script assigns to columns of a source.
function TestMisfits.test_assigned()
   local cases = all_cases()
   local source, target = databases(cases)
   check(source, target, cases, ASSIGN)
end

-- By the other ways into a table.
function TestMisfits.test_other_modes()
   local cases = {}
   add_cases(cases, { n = LOST.n, p = LOST.p, ts = LOST.ts }, true)
   add_cases(cases, { n = KEPT.n, p = KEPT.p, ts = KEPT.ts }, false)
   local source, target = databases(cases)
   for _, fields in ipairs { 'mode = "append"',
                             'mode = "history", pk = "id", existing = "keep"' } do
      if fields:find "history" then
         target:exec [[alter table t drop constraint t_pkey, add op text,
            add valid_from timestamptz, add valid_to timestamptz]]
      end
      check(source, target, cases, ASSIGN, fields)
      check(source, target, cases, [[all():map(function(c)
            local id = c.key.id
            return { id = id, [columns[id] ] = values[id]() }
         end):sink(sink())]], fields)
   end
end

-- Another table as the row, and what is changed inside of a document.
function TestMisfits.test_rows_and_documents()
   local source, target = databases { 1 }
   source:exec "update t set ns = '{1.5,2.5}', p = '({},1.5)'"
   for script, message in pairs {
      ["c.row = { id = 1, n = 1.005 }"] = "cannot hold 1.005 as it is",
      ["c.row.ns[2] = 2.25"] = "cannot hold [1.5,2.25] as it is",
      ["c.row.p.d = '1.505'"] = '"d":"1.505"',
   } do
      local text = once.ends(1, { dsn = source, script = ([[
         local out = pgcdc.sinks.postgres { connect = %q, table = "t", existing = "keep" }
         pgcdc.source { table = "t" }:sink(function(c) out:write(c) %s out:write(c) end)]]):format(
         target:dsn(), script) }).text
      lu.assertStrContains(text, message)
      lu.assertEquals(target:value "select count(*) from t", "0")
   end
end

-- Changes that a script has touched, and others of other streams, stay in order.
function TestMisfits.test_order()
   local source, target = databases { 1, 2 }
   source:exec "update t set v = 'ab', n = 1"
   once.ok { dsn = source, state = fixtures.state(), script = ([[
      local out = pgcdc.sinks.postgres { connect = %q, table = "t", existing = "keep" }
      local all, masked = pgcdc.source { table = "t" }, nil
      all:mask { v = function() return "x" end }:sink(function(c) masked = c end)
      all:sink(function(c)
         out:write(c)
         out:write(masked)
         if c.key.id == 1 then
            out:write(c)
         else
            c.row.n = 2
            out:write(c)
            out:write(masked)
         end
      end)]]):format(target:dsn()) }
   lu.assertEquals(target:value "select string_agg(id || v || n, ' ' order by id) from t",
      "1ab1.00 2x1.00")
end

-- A key that a script makes is not rounded to that of another row, in deletes neither.
function TestMisfits.test_keys()
   local source = fixtures.database [[create table k (k numeric(6, 1) primary key, v text);
      insert into k values (1.2, 'a'), (1.3, 'b')]]
   local target = cluster.main():database()
   target:exec "create table k (k numeric(6, 1) primary key, v text)"
   local script = [[pgcdc.source { table = "k", deletes = true }
      :mask { k = function(k) return k == "1.3" and "%s" or k end }
      :sink(pgcdc.sinks.postgres { connect = %q, table = "k", existing = "keep" })]]
   local state = fixtures.state()
   lu.assertStrContains(once.ends(1, { dsn = source, script = script:format("1.25",
      target:dsn()) }).text, "cannot hold 1.25 as it is")
   once.ok { dsn = source, state = state, script = script:format("1.4", target:dsn()) }
   lu.assertEquals(target:value "select string_agg(k || v, ' ' order by k) from k", "1.2a 1.4b")
   source:exec "delete from k where k = 1.3"
   once.ok { dsn = source, state = state, script = script:format("1.25", target:dsn()) }
   lu.assertEquals(target:value "select string_agg(k || v, ' ' order by k) from k", "1.2a 1.4b")
   source:exec "delete from k where k = 1.2"
   once.ok { dsn = source, state = state, script = script:format("1.4", target:dsn()) }
   lu.assertEquals(target:value "select string_agg(k || v, ' ' order by k) from k", "1.4b")
end

-- Values that functions make for columns of a source.
function TestMisfits.test_computed()
   local cases = all_cases()
   local source, target = databases(cases)
   check(source, target, cases, [[local functions = {}
      for _, name in ipairs(columns) do
         functions[name] = function(c)
            return columns[c.key.id] == name and values[c.key.id]() or nil
         end
      end
      all():add(functions):sink(sink())]])
end

return TestMisfits
