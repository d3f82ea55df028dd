-- deletes.lua: what the tests of deletes = true have in common.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local json = require "json"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"

local deletes = {}

function deletes.new_state()
   return scope.dir "state" .. "/state.db"
end

-- A script that prints every change of a source with these fields.
function deletes.printing(fields)
   return ("pgcdc.source {deletes = true, %s, on_change = function(c) print(c) end}\n")
      :format(fields)
end

-- One run with --once; its changes, and its standard error.
function deletes.run(db, fields, state)
   local result = program.run {
      script = deletes.printing(fields), dsn = db, state = state, options = { "--once" },
   }
   lu.assertEquals({ result.status, result.stderr:match "level=error[^\n]*" }, { 0 })
   return result.changes, result.stderr
end

-- "op key" of each change, in order.
function deletes.ops(changes)
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

function deletes.sorted(list)
   table.sort(list)
   return list
end

function deletes.database(sql)
   local db = cluster.main():database { name = "deletes" }
   db:exec(sql)
   return db
end

return deletes
