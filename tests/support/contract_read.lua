-- contract_read.lua: what drivers of contract_drivers read of their targets.
-- SPDX-License-Identifier: MIT

local json = require "json"
local scope = require "scope"

local contract_read = {}

--- A change as `contract` wants it, from its JSON.
function contract_read.change(change)
   if type(change) == "string" then
      change = json.decode(change)
   end
   return { id = change.id, key = tostring(change.key.id), seq = change.seq, op = change.op,
            v = change.row and change.row.v }
end

--- A row of a target that has rows only.
function contract_read.row(id, v)
   return { id = tostring(id), key = tostring(id), op = "read", v = v }
end

--- The changes in lines, by read(line), or each its JSON.
function contract_read.changes(lines, read)
   local changes = {}
   for i, line in ipairs(lines) do
      changes[i] = (read or contract_read.change)(line)
   end
   return changes
end

--- `shrink` of drivers whose target is a folder.
function contract_read.shrink_folder(dir, mount)
   local undo = mount(dir, 8)
   if undo then
      scope.add(undo)
      return dir
   end
end

return contract_read
