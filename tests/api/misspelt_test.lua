-- misspelt_test.lua: names that are not there, and errors of scripts that explain themselves.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"

local TestMisspelt = {}

local function database()
   return fixtures.database([[create table orders (id int primary key, total numeric, name text);
      insert into orders values (1, 120.50, null)]])
end

-- The lines that a handler prints, its `try` calls f and prints the error.
local function run(db, body)
   return once.ok { dsn = db, script = [[
      local function try(f) print((select(2, pcall(f)):gsub("^.-([^/]*%.lua:%d+:)", "%1"))) end
      pgcdc.source { table = "orders", on_change = function(c)
]] .. body .. "\nend }" }.lines
end

-- Changes, rows, keys --------------------------------------------------------------------------

function TestMisspelt.test_changes_rows_and_keys()
   local lines = run(database(), [[
      try(function() return c.kye end)
      try(function() return c.row.totl end)
      try(function() return c.key.idd end)
      try(function() return c.row.entirely_else end)
      print(c.old, c.changed, c.row.name, c.key.id)]])
   lu.assertEquals(lines, {
      [[script.lua:3: there is no field 'kye' in a change; did you mean 'key'? ]]
         .. [[(:get("kye") gives nil where there is none)]],
      [[script.lua:4: there is no column 'totl' in public.orders; did you mean 'total'? ]]
         .. [[(:get("totl") gives nil where there is none)]],
      [[script.lua:5: there is no column 'idd' in the key of public.orders; did you mean 'id'? ]]
         .. [[(:get("idd") gives nil where there is none)]],
      [[script.lua:6: there is no column 'entirely_else' in public.orders ]]
         .. [[(:get("entirely_else") gives nil where there is none)]],
      "nil\tnil\tnil\t1",
   })
end

-- What may be absent, and what scripts add, be it nil.
function TestMisspelt.test_what_may_be_absent()
   local lines = run(database(), [[
      print(c:get "kye", c:get "op", c.row:get "totl", c.row:get "total", c.key:get "idd",
         pgcdc.get(c.row, "totl"), pgcdc.get({}, "x"), pgcdc.get({ x = 1 }, "x"))
      c.row.vip, c.row.none, c.more = true, nil, 5
      print(c.row.vip, c.row.none, c.more, c:get "more", c.row:get "vip")
      print(c.row)
      c.row.vip = nil
      print(c.row.vip, c.row)]])
   lu.assertEquals(lines, {
      "nil\tread\tnil\t120.50\tnil\tnil\tnil\t1",
      "true\tnil\t5\t5\ttrue",
      '{"id":1,"total":120.50,"name":null,"vip":true}',
      'nil\t{"id":1,"total":120.50,"name":null}',
   })
end

-- A column that has the name of a method is the column.
function TestMisspelt.test_columns_named_as_methods()
   local db = fixtures.database([[create table t (id int primary key, get text, copy int);
      insert into t values (1, 'x', null)]])
   local lines = once.ok { dsn = db, script = [[
      pgcdc.source { table = "t", on_change = function(c)
         print(c.row.get, c.row.copy, pgcdc.get(c.row, "copy"), pgcdc.copy(c.row).get)
      end }]] }.lines
   lu.assertEquals(lines, { "x\tnil\tnil\tx" })
end

-- Operators that take the name of a column say where they were made.
function TestMisspelt.test_names_for_operators()
   local db = database()
   for _, case in ipairs {
      { "pluck 'totl'", "pluck: the field", "totl" },
      { "pluck {'id', 'totl'}", "pluck: field 2", "totl" },
      { "reduce_by('naem', function() return 1 end)", "reduce_by: key", "naem" },
      { "route('naem', { x = print })", "route: f", "naem" },
      { "unique { key = 'naem' }", "unique: key", "naem" },
   } do
      local result = once.ends(1, { dsn = db,
         script = "pgcdc.source { table = 'orders' }\n:" .. case[1] .. ":sink(print)" })
      lu.assertStrMatches(result.stderr, (".*script.lua:%%d: %s[^\n]*: there is no column '%s' in "
         .. "public.orders; did you mean '%%a+'?.*"):format(case[2], case[3]))
   end
   lu.assertEquals(once.ok { dsn = db, script = [[
      pgcdc.source { table = "orders" }:pluck "name":sink(print)]] }.lines, { "nil" })
end

-- The API --------------------------------------------------------------------------------------

function TestMisspelt.test_the_api()
   local result = program.run { state = false, script = [[
      local function try(f) print((select(2, pcall(f)):gsub("^.-([^/]*%.lua:%d+:)", "%1"))) end
      local s, n = pgcdc.stream { name = "s" }, pgcdc.source { table = "t" }
      try(function() s:fliter(print) end)
      try(function() n:mapp(print) end)
      try(function() n:onn("change", print) end)
      try(function() return pgcdc.sorce {} end)
      try(function() return pgcdc.sinks.josnl {} end)
      try(function() return pgcdc.json.enocde {} end)
      try(function() return pgcdc.log.wran "" end)
      try(function() return pgcdc.options { limit = 5 }.limt end)
      try(function() pgcdc.connect "":qeury "" end)
      try(function() pgcdc.after(100, print):cancle() end)
      print(s.name, s.field_of_mine == nil)]] }
   lu.assertEquals(result.lines, {
      "script.lua:3: there is no operator 'fliter'; did you mean 'filter'?",
      "script.lua:4: there is no operator 'mapp'; did you mean 'map'?",
      "script.lua:5: there is no operator 'onn'; did you mean 'on'?",
      "script.lua:6: there is no field of pgcdc 'sorce'; did you mean 'source'?",
      "script.lua:7: pgcdc.sinks: there is no sink 'josnl'; did you mean 'jsonl'?",
      "script.lua:8: there is no field of pgcdc.json 'enocde'; did you mean 'encode'?",
      "script.lua:9: there is no field of pgcdc.log 'wran'; did you mean 'warn'?",
      "script.lua:10: there is no option 'limt'; did you mean 'limit'?",
      "script.lua:11: there is no method of a connection 'qeury'; did you mean 'query'?",
      "script.lua:12: there is no method of a timer 'cancle'; did you mean 'cancel'?",
   })
   lu.assertStrContains(result.stderr, "there is no operator 'field_of_mine'")
end

-- Events: what they may lack is nil, all else is an error.
function TestMisspelt.test_events()
   local lines = program.run { dsn = "host=/nowhere", options = { "--once" }, script = [[
      local function try(f) print((select(2, pcall(f)):gsub("^.-([^/]*%.lua:%d+:)", "%1"))) end
      pgcdc.source { table = "t" }:on("error", function(e)
         print(e.sqlstate, #e.message > 0, e.source, e.retry_in > 0)
         try(function() return e.mesage end)
         try(function() return e.sqlsate end)
         pgcdc.stop(0)
      end)]] }.lines
   lu.assertEquals(lines, {
      "nil\ttrue\tt\ttrue",
      "script.lua:4: there is no field of the event 'error' 'mesage'; did you mean 'message'?",
      "script.lua:5: there is no field of the event 'error' 'sqlsate'; did you mean 'sqlstate'?",
   })
   local db, state = database(), fixtures.state()
   local options = { dsn = db, state = state, script = [[
      local function try(f) print((select(2, pcall(f)):gsub("^.-([^/]*%.lua:%d+:)", "%1"))) end
      pgcdc.source { table = "orders" }:on("schema", function(old, new)
         print(#old, #new, new[4].name, new[4].type, old[4])
         try(function() return new[4].typ end)
         try(function() return old.id end)
      end)]] }
   once.ok(options)
   db:exec "alter table orders add column more int"
   lu.assertEquals(once.ok(options).lines, {
      "3\t4\tmore\tinteger\tnil",
      "script.lua:4: there is no field of a column of the event 'schema' 'typ';"
         .. " did you mean 'type'?",
      "script.lua:5: there is no field of the list of columns of the event 'schema' 'id'",
   })
end

-- Errors ---------------------------------------------------------------------------------------

-- The error of a script that does this with `c`, in a handler or behind operators.
local function error_of(db, script, options)
   return once.ends(1, { dsn = db, script = script, options = options }).stderr
end

function TestMisspelt.test_a_numeric_is_compared()
   local db = database()
   local why = "; the column 'total' of public.orders is numeric, and its values are text: "
      .. "tonumber() makes numbers of them"
   for _, script in ipairs {
      "pgcdc.source { table = 'orders', on_change = function(c) return c.row.total > 100 end }",
      "pgcdc.source { table = 'orders' }:filter(function(c) return 100 < c.row.total end)",
      "pgcdc.source { table = 'orders' }:pluck 'total':filter(function(t) return t >= 1 end)",
      [[local function big(total) return total > 5 end
         pgcdc.source { table = 'orders', on_error = { retry = 1, wait = 0 },
            on_change = function(c) big(c.row.total) end }]],
   } do
      local text = error_of(db, script)
      lu.assertStrContains(text, "attempt to compare")
      lu.assertStrContains(text, why)
      lu.assertEquals(select(2, text:gsub("; the column", "")), script:find "retry" and 2 or 1)
   end
   lu.assertStrContains(error_of(db,
      "pgcdc.source { table = 'orders', on_change = function() return '5' < 6 end }"),
      "tonumber() makes a number of it")
end

-- Lua raises no error where a text is equal to a number or not: the start warns of such lines.
function TestMisspelt.test_a_numeric_is_equal()
   local db = database()
   local function warnings(script, options)
      local found = {}
      local result = once.ok { dsn = db, options = options,
         script = "local orders = pgcdc.source { table = 'orders' }\n" .. script }
      for text in result.stderr:gmatch "level=warn msg=(%b\"\")" do
         found[#found + 1] = text:match "line (.-) true: the column 'total' is numeric"
      end
      return found
   end
   for line, is in pairs {
      ["return c.row.total == 100"] = "2: c.row.total == 100 is never",
      ["return c.old ~= nil and c.old.total ~= 1.5"] = "2: c.old.total ~= 1.5 is always",
      ["local order = c.row if order.total == -1 then return true end"] =
         "2: order.total == -1 is never",
      ["return 5 == c.row['total']"] = "2: 5 == c.row['total'] is never",
      ["local a --[[ c.row.total == 1\n]] return (c.row.total == 0x10)"] =
         "3: c.row.total == 0x10 is never",
   } do
      local script = ("orders:filter(function(c) %s end):sink(print)"):format(line)
      lu.assertEquals(warnings(script), { is })
   end
   lu.assertEquals(warnings [==[
      local state, t = { total = 5 }, "c.row.total == 5"
      orders:sink(function(c)
         local name = c.row.name
         print(state.total == 5, c.row.id == 5, tonumber(c.row.total) == 5, c.row.total + 0 == 5,
            1 + c.row.total == 5, c.row.total == "5", #c.row.total == 5, name == 5,
            [[row.total == 5]], "\"c.row.total == 5", 5 == c.row.total - 1,
            c.row.total == 5 .. "") -- c.row.total == 5
      end)]==], {})
   lu.assertEquals(warnings("orders:filter(function(c) return c.row.total == 1 end):sink(print)",
      { "--sandbox" }), {}) -- which reads no files
end

function TestMisspelt.test_the_row_of_a_delete()
   local db = database()
   local state = fixtures.state()
   once.ok { dsn = db, state = state, script = [[
      pgcdc.source { table = 'orders', deletes = true, on_change = print }]] }
   db:exec "delete from orders"
   local why = "; the row of a delete is nil: look at change.op, use change.key or change.old, or "
      .. "say :only(f) instead of :filter(f)"
   for _, body in ipairs {
      "return c.row.total", "local row = c.row print(row.total)", "return c.row.total .. 'x'",
   } do
      local result = once.ends(1, { dsn = db, state = state, script = ([[
         pgcdc.source { table = 'orders', deletes = true }:filter(function(c) %s end):sink(print)]])
         :format(body) })
      lu.assertStrContains(result.stderr, why)
   end
   local result = once.ends(1, { dsn = db, state = state, script = [[
      pgcdc.source { table = 'orders', deletes = true,
         on_change = function(c) print(c.old.id) end }]] })
   lu.assertStrContains(result.stderr, "change.old is there where the source says old = true")
end

function TestMisspelt.test_tables_that_are_thrown()
   local db = database()
   for thrown, shown in pairs {
      ["{ code = 7, why = 'no' }"] = '{"code":7,"why":"no"}',
      ["{ 1, 2 }"] = "[1,2]",
      ["{ f = print }"] = "{f=function: ",
      ["setmetatable({ code = 7 }, { __tostring = function(e) return 'code ' .. e.code end })"] =
         "code 7",
   } do
      local result = once.run { dsn = db, log_json = true, script = ([[
         pgcdc.source { table = 'orders', on_error = "skip",
            on_change = function() error(%s) end }]]):format(thrown) }
      lu.assertStrContains((result.stderr:gsub('\\"', '"')), shown)
      result = once.ends(1, { dsn = db, script = ([[
         pgcdc.source { table = 'orders', on_change = function() error(%s) end }]])
         :format(thrown) })
      lu.assertStrContains((result.stderr:gsub('\\"', '"')), shown)
   end
end

-- A traceback shows the script, and ours too at --log-level debug.
function TestMisspelt.test_tracebacks()
   local db = database()
   local script = [[
      local function fail(c)
         error(c.op)
      end
      pgcdc.source { table = 'orders', on_error = { retry = 0 } }
         :map(function(c) return c end):filter(function(c) fail(c) end):sink(print)]]
   local text = error_of(db, script)
   lu.assertStrMatches(text, ".*traceback=.*script.lua:2: in upvalue 'fail'.*script.lua:5: in .*")
   lu.assertStrContains(text, "function 'error'")
   lu.assertNil(text:find "basic.lua")
   lu.assertNil(text:find "on_error.lua")
   lu.assertNil(text:find("in ?", 1, true))
   lu.assertStrContains(error_of(db, script, { "--log-level", "debug" }), "basic.lua")
end

return TestMisspelt
