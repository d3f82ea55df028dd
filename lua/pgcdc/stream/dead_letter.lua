-- pgcdc.stream.dead_letter: what gets the dead letters of a source.
-- SPDX-License-Identifier: MIT

local check = require "pgcdc.check"
local letters = require "pgcdc.delivery.letters"
local stream = require "pgcdc.stream.stream"

local dead_letter = {}

--- The function or sink that gets dead letters, as a function; nil where the policy has none. If
--- the built-in store gets them, also a function that is to be told the number of the source.
--- `value`: as the script has it; `source_name`: as that calls the source.
function dead_letter.node(value, policy, source_name)
   local what = "pgcdc.source: dead_letter"
   if value == nil then
      if policy.otherwise ~= "dead_letter" then
         return nil
      end
      value = true
   elseif value ~= true then
      check.type(what, value, "function", "table")
   end
   if policy.otherwise ~= "dead_letter" then
      check.fail('%s is never used: say on_error = "dead_letter", or {otherwise = "dead_letter"}',
         what)
   end
   local store
   if value == true then
      store, value = letters.open(source_name)
   end
   local node = stream.add(stream.node("dead_letter"))
   node.name = source_name
   node.input = function(x)
      node.out(x)
   end
   local sink = node:sink(value)
   if store then
      sink.about = "the state file"
   end
   return node.input, store and function(number)
      letters.assign(store, number)
   end
end

return dead_letter
