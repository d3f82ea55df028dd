-- operators_only_test.lua: after only(f) there is what matches, and nothing else.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"

local TestOperatorsOnly = {}

local function database()
   return fixtures.database([[create table orders (id int primary key, status text, n int);
      insert into orders values (1, 'paid', 1), (2, 'new', 1), (3, 'paid', 1)]])
end

local ONLY = ":only(function(c) return c.row.status == 'paid' end)"

-- A function that runs a source with these fields once and returns "op key row" of what comes.
local function runner(db, fields, after)
   local state = fixtures.state()
   return function()
      return once.ok { dsn = db, state = state, script = ([[
         pgcdc.source { table = "orders", interval = 0.1, %s }%s
            :sink(function(c) print(c.op, c.key.id, c.row and c.row.status) end)]]):format(fields,
            after or ONLY) }.lines
   end
end

local CHANGES = [[
   update orders set status = 'sent' where id = 1;     -- leaves
   update orders set status = 'paid' where id = 2;     -- comes
   update orders set n = 2 where id = 3;               -- stays
   insert into orders values (4, 'paid', 1), (5, 'new', 1)]]

local function sorted(list)
   table.sort(list)
   return list
end

-- By xmin alone nobody knows whether a row matched before.
function TestOperatorsOnly.test_upserts()
   local db = database()
   local run = runner(db, "")
   lu.assertEquals(sorted(run()), { "read\t1\tpaid", "read\t3\tpaid" })
   db:exec(CHANGES)
   lu.assertEquals(sorted(run()), { "delete\t1\tnil", "delete\t5\tnil", "upsert\t2\tpaid",
                                    "upsert\t3\tpaid", "upsert\t4\tpaid" })
end

function TestOperatorsOnly.test_with_deletes()
   local db = database()
   local run = runner(db, "deletes = true")
   lu.assertEquals(sorted(run()), { "read\t1\tpaid", "read\t3\tpaid" })
   db:exec(CHANGES)
   lu.assertEquals(sorted(run()), { "delete\t1\tnil", "insert\t4\tpaid", "update\t2\tpaid",
                                    "update\t3\tpaid" })
   db:exec "delete from orders where id in (3, 5); update orders set n = 9 where id = 1"
   lu.assertEquals(sorted(run()), { "delete\t1\tnil", "delete\t3\tnil", "delete\t5\tnil" })
end

-- Where old rows are kept, what follows is told exactly what where= would tell.
function TestOperatorsOnly.test_with_old_rows()
   local db = database()
   local run, where = runner(db, "deletes = true, old = true"),
      runner(db, "deletes = true, old = true, where = \"status = 'paid'\"", "")
   for _, sql in ipairs { "select 1", CHANGES, [[delete from orders where id in (3, 5);
         update orders set n = 9 where id = 1; update orders set status = null where id = 2]],
         "update orders set status = 'paid'", "delete from orders" } do
      db:exec(sql)
      lu.assertEquals(sorted(run()), sorted(where()), sql)
   end
end

-- A mirror has what matches, whatever happened before, and shapers in between do not matter.
function TestOperatorsOnly.test_mirrors()
   local db, target = database(), cluster.main():database()
   local state = fixtures.state()
   local script = ([[
      local target = %q
      local paid = pgcdc.source { table = "orders", interval = 0.1, deletes = true }%s
      paid:sink(pgcdc.sinks.postgres { connect = target, table = "whole" })
      paid:add { more = function(c) return #c.row.status end }
         :mask { status = "redact" }:drop { "n" }
         :sink(pgcdc.sinks.postgres { connect = target, table = "shaped" })
      paid:sink(pgcdc.sinks.postgres { connect = target, table = "history", mode = "history" })
      paid:sink(pgcdc.sinks.jsonl { path = "/dev/null" })]]):format(target:dsn(), ONLY)
   for _, sql in ipairs { "select 1", CHANGES, "delete from orders where id = 3",
                          "update orders set status = 'paid' where id = 5" } do
      db:exec(sql)
      once.ok { dsn = db, state = state, script = script }
      local expected = db:value [[select string_agg(id || status || n, ' ' order by id) from orders
         where status = 'paid']]
      lu.assertEquals(target:value
         "select string_agg(id || status || n, ' ' order by id) from whole", expected)
      lu.assertEquals(target:value
         [[select string_agg(id || status || n, ' ' order by id) from history
         where valid_to is null]], expected)
      lu.assertEquals(target:value
         "select string_agg(id || status || more, ' ' order by id) from shaped",
         db:value [[select string_agg(id || '***4', ' ' order by id) from orders
            where status = 'paid']])
   end
end

-- The table is read again: rows that ceased to match meanwhile leave a mirror, and no other sink is
-- told of rows that it cannot have.
function TestOperatorsOnly.test_a_table_that_is_read_again()
   local db, target = database(), cluster.main():database()
   local state = fixtures.state()
   local script = ([[
      local paid = pgcdc.source { table = "orders", interval = 0.1 }%s
      paid:sink(pgcdc.sinks.postgres { connect = %q, table = "paid" })
      paid:sink(function(c) print(c.op, c.key.id) end)]]):format(ONLY, target:dsn())
   once.ok { dsn = db, state = state, script = script }
   db:exec "update orders set status = 'sent' where id = 1"
   local result = once.ok { dsn = db, state = state, script = script, options = { "--reset" } }
   lu.assertEquals(result.lines, { "read\t3" })
   lu.assertEquals(target:value "select string_agg(id::text, ' ') from paid", "3")
end

-- Deletes pass through shapers: functions get no change without a row.
function TestOperatorsOnly.test_deletes_and_shapers()
   local db = database()
   local run = runner(db, "deletes = true", [[
      :add { up = function(c) return c.row.status:upper() end }
      :mask { n = function(v, c) return v + #c.row.status end, status = "sha256" }
      :rename { n = "m" }:drop { "status" }:select { "id", "m", "up" }
      :map(function(c) return pgcdc.change { op = c.op, table = c.table, key = c.key,
         row = c.row and { status = c.row.up } } end)]])
   lu.assertEquals(sorted(run()), { "read\t1\tPAID", "read\t2\tNEW", "read\t3\tPAID" })
   db:exec "delete from orders where id > 1"
   lu.assertEquals(sorted(run()), { "delete\t2\tnil", "delete\t3\tnil" })
end

-- Ids of deletes are not those of the rows, and the same when they come again.
function TestOperatorsOnly.test_ids_and_misuse()
   local db = database()
   local script = [[
      local s = pgcdc.stream {}
      s:only(function(c, status) return c.row.status == status end, "paid")
         :sink(function(c) print(c.op, (c.id:gsub("/%d+/", "/"))) end)
      pgcdc.source { table = "orders" }:sink(function(c) c.op = "upsert" s:emit(c) end)
      print(pcall(s.only, s, 5))
      print(pcall(s.emit, s, 5))]]
   local lines = once.ok { dsn = db, script = script }.lines
   lu.assertStrContains(lines[1], "only: f must be a function, not a number")
   lu.assertStrContains(lines[2], "attempt to index a number value")
   lu.assertEquals({ table.unpack(lines, 3) }, { "upsert\tpublic.orders/1",
      "delete\tpublic.orders/2/deleted", "upsert\tpublic.orders/3" })
end

return TestOperatorsOnly
