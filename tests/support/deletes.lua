-- deletes.lua: what the tests of deletes = true have in common.
-- SPDX-License-Identifier: MIT

local json = require "json"
local once = require "once"

local deletes = {}

-- A script that prints every change of a source with these fields.
function deletes.printing(fields)
   return ("pgcdc.source {deletes = true, %s, on_change = function(c) print(c) end}\n")
      :format(fields)
end

-- One run with --once; its changes, and its standard error.
function deletes.run(db, fields, state)
   local result = once.ok { script = deletes.printing(fields), dsn = db, state = state }
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

return deletes
