-- deletes_test.lua: deletes = true: rows that are gone, inserts told from updates, rows before.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local TestDeletes = {}

local function new_state()
   return scope.dir "state" .. "/state.db"
end

-- A script that prints every change of a source with these fields.
local function printing(fields)
   return ("pgcdc.source {deletes = true, %s, on_change = function(c) print(c) end}\n")
      :format(fields)
end

-- One run with --once; its changes.
local function run(db, fields, state)
   local result = program.run {
      script = printing(fields), dsn = db, state = state, options = {"--once"},
   }
   lu.assertEquals({result.status, result.stderr:match "level=error[^\n]*"}, {0})
   return result.changes
end

-- "op key" of each change, in order.
local function ops(changes)
   local list = {}
   for i, change in ipairs(changes) do
      local key = {}
      for _, name in ipairs(json.keys(change.key)) do
         key[#key + 1] = tostring(change.key[name])
      end
      list[i] = change.op .. " " .. table.concat(key, ",")
   end
   return list
end

local function sorted(list)
   table.sort(list)
   return list
end

local function database(sql)
   local db = cluster.main():database {name = "deletes"}
   db:exec(sql)
   return db
end

-- Ops: inserts, updates and deletes are told apart, a row deleted and inserted again is updated, a
-- changed key is a delete and an insert; deletes come first, so that what is unique stays so.
function TestDeletes.test_inserts_updates_and_deletes_are_told_apart()
   local db = database [[
      CREATE TABLE t (id bigint PRIMARY KEY, name text UNIQUE);
      INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, 9) i]]
   local state = new_state()
   lu.assertEquals(#run(db, 'table = "t"', state), 9)
   lu.assertEquals(run(db, 'table = "t"', state), {})
   db:exec [[
      UPDATE t SET name = 'other' WHERE id = 1;
      DELETE FROM t WHERE id = 2;
      INSERT INTO t VALUES (20, 'n2');
      DELETE FROM t WHERE id = 3;
      INSERT INTO t VALUES (3, 'n3');
      UPDATE t SET id = 40 WHERE id = 4]]
   local changes = run(db, 'table = "t"', state)
   local list = ops(changes)
   lu.assertEquals(sorted {list[1], list[2]}, {"delete 2", "delete 4"})
   lu.assertEquals(sorted(list),
      {"delete 2", "delete 4", "insert 20", "insert 40", "update 1", "update 3"})
   local gone = changes[1]
   lu.assertEquals(json.keys(gone), {"op", "schema", "table", "key", "row", "xid", "ts", "id"})
   lu.assertEquals(gone.row, json.null)
   lu.assertStrContains(gone.id, "/deleted")
   lu.assertEquals(run(db, 'table = "t"', state), {})
end

return TestDeletes
