-- once.lua: runs the program with --once, and says how that, or any other run, must end.
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

-- The same for a script that reads from <db>.
function once.script(db, script, status, options)
   return once.ends(status, { script = script, dsn = db }, options)
end

-- Runs a script whose one handler, of all changes of table t, has this body: `c` is the change.
-- Returns the lines that it prints; it must end well.
function once.on_change(db, body, more)
   return once.ok({
      script = ("pgcdc.source {table = 't', on_change = function(c)\n%s\nend}"):format(body),
      dsn = db,
   }, more).lines
end

-- Returns the result of a run, which must have ended well.
function once.succeed(result)
   lu.assertEquals(result.status, 0, result.stderr)
   return result
end

-- The lines that are no report of --check.
local function without_report(text)
   local lines = {}
   for line in text:gmatch "[^\n]+" do
      lines[#lines + 1] = not line:find "^wrong  " and not line:find "^ok     "
         and not line:find "^mend   " and not line:find "^warn   " and line or nil
   end
   return table.concat(lines, "\n")
end

-- Returns the result of a run, which must have ended with this status and message, and with nothing
-- on its standard output but what --check reports.
function once.fail(status, message, result)
   lu.assertStrContains(result.stderr, message)
   lu.assertEquals(result.status, status)
   lu.assertEquals(without_report(result.stdout), "")
   return result
end

return once
