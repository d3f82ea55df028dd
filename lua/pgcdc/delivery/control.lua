-- pgcdc.delivery.control: commands of users that are about deliveries: pgcdc-lua ctl.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local dead_letters = require "pgcdc.delivery.dead_letters"
local on_error = require "pgcdc.delivery.on_error"

local control = {}

local commands = {}

function commands.skip(number)
   return on_error.skip(number)
end

local actions = { list = true, show = true, replay = true, purge = true }

commands["dead-letters"] = function(number, words)
   if not actions[words.action or "list"] then
      return false, "dead-letters: use list, show, replay or purge"
   end
   local ok, text, facts = dead_letters[words.action or "list"](number, words.letter)
   return ok, text, facts and raw.encode(facts)
end

--- Does what `command` asks for. `number`: of the source that it is about, nil for all of them;
--- `words`: a table by name. Returns true and what was done, or false and why it cannot be; as
--- text, and as JSON (an object), or nil.
function control.run(command, number, words)
   return commands[command](number, words)
end

return control
