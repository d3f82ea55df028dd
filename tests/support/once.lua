-- once.lua: runs the program with --once, and says how that must end.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"
local program = require "program"
local tables = require "tables"

local once = {}

-- Runs the program with --once; returns its result. <options>: program.start's, and those of
-- <more> count before them; of their list `options` --once is the first.
function once.run(options, more)
   local all = tables.merge(options, more)
   all.options = tables.join({ "--once" }, all.options)
   return program.run(all)
end

-- The same; it must end well, without an error in its log.
function once.ok(options, more)
   local result = once.run(options, more)
   lu.assertEquals({ result.status, result.stderr:match "level=error[^\n]*" }, { 0 })
   return result
end

-- The same; it must end with this status. The result's `text` is its standard error as it was
-- before it was quoted for the log.
function once.ends(status, options, more)
   local result = once.run(options, more)
   lu.assertEquals({ result.status, result.signal }, { status }, result.stderr)
   result.text = result.stderr:gsub('\\"', '"'):gsub("\\n", "\n"):gsub("\\t", "\t")
   return result
end

return once
