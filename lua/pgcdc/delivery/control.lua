-- pgcdc.delivery.control: commands of users that are about deliveries: pgcdc-lua ctl.
-- SPDX-License-Identifier: MIT

local on_error = require "pgcdc.delivery.on_error"

local control = {}

local commands = {}

function commands.skip(number)
   return on_error.skip(number)
end

--- Does what `command` asks for. `number`: of the source that it is about; `words`: a table by
--- name. Returns true and what was done, or false and why it cannot be; as text, and as JSON (an
--- object), or nil.
function control.run(command, number, words)
   return commands[command](number, words)
end

return control
