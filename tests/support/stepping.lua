-- stepping.lua: runs the program with --once between statements, and says what came.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local tables = require "tables"
local watch = require "watch"

local stepping = {}

-- Runs the bundled script trigger on <db>, which must end well; returns its result.
function stepping.trigger(db, action, args)
   local all = tables.merge({ action = action, table = "t" }, args)
   local result = program.run { bundled = "trigger", dsn = db, args = all, state = false }
   lu.assertEquals(result.status, 0, result.stderr)
   return result
end

-- A database after this SQL, which makes a table t, for which triggers are then installed.
function stepping.installed(sql, args)
   local db = fixtures.database(sql)
   stepping.trigger(db, "install", args)
   return db
end

-- The changes as they came: "read 1 2, delete 3, upsert 4".
function stepping.words(changes)
   local words, last = {}, nil
   for _, change in ipairs(changes) do
      local key = {}
      for _, value in pairs(change.key) do
         key[#key + 1] = tostring(value)
      end
      local new = change.op == last and "" or (last and ", " or "") .. change.op
      words[#words + 1] = new .. " " .. table.concat(key, "/")
      last = change.op
   end
   return table.concat(words)
end

-- A function that runs the program once more and returns its changes as words, and the result.
-- <source>: fields of the source; those given to the function replace them, false takes one away.
-- <meanwhile>: a function that is called while the program runs.
function stepping.new(db, source)
   local state = fixtures.state()
   return function(more, meanwhile)
      local fields = tables.replace({ table = "t", capture = "trigger" }, source, more)
      local p = program.start {
         dsn = db, script = watch.script(fields), options = { "--once" }, state = state,
      }
      if meanwhile then
         meanwhile(p)
      end
      local result = p:finish()
      lu.assertEquals(result.status, 0, result.stderr)
      return stepping.words(result.changes), result
   end
end

-- The same for a source that is captured by xmin, unless <source> says else: the function returns
-- what <tell> makes of the changes, and fails if there is a warning.
function stepping.quiet(db, source, tell)
   local state
   return function()
      local result = watch.once(db, state, source)
      state = result.program.state
      lu.assertNotStrContains(result.stderr, "level=warn")
      return tell(result.changes)
   end
end

return stepping
