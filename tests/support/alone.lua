-- alone.lua: scripts without a source, each in a folder of its own.
-- SPDX-License-Identifier: MIT

local program = require "program"
local scope = require "scope"

local alone = {}

-- Runs a script. Returns the result and the folder.
function alone.run(text, options)
   local folder = scope.dir "out"
   options = options or {}
   options.script, options.cwd, options.state = text, folder, false
   return program.run(options), folder
end

-- Runs a script that tries to make sinks and prints why each cannot be made, a line each. `cases`:
-- of {call, ...}, such as {'jsonl { pth = "x" }'}. Returns the result and the folder.
function alone.try_sinks(cases)
   local calls = {}
   for i, case in ipairs(cases) do
      calls[i] = ("print(select(2, pcall(function() pgcdc.sinks.%s end)))"):format(case[1])
   end
   return alone.run(table.concat(calls, "\n"))
end

return alone
