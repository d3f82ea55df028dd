-- log_state.lua: what state files say of the log, and such as say something else than was saved.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"

local log_state = {}

local FNV_START, FNV_PRIME = 0xcbf29ce484222325, 1099511628211

local function hash(h, text)
   for i = 1, #text do
      h = (h ~ text:byte(i)) * FNV_PRIME
   end
   return h
end

-- As in store.c: the sum of a row of the table kept.
local function sum_row(...)
   local h = FNV_START
   for _, text in ipairs { ... } do
      h = (hash(h, text) ~ 0x100) * FNV_PRIME
   end
   return h
end

local function sqlite(path, sql)
   local p = assert(io.popen(("sqlite3 '%s' \"%s\" 2>&1"):format(path, sql)))
   local text = p:read "a"
   p:close()
   return text
end

-- The text of the position of <source> that is saved in the state file at <path>.
function log_state.position(path, source)
   return sqlite(path, ("SELECT value FROM kept WHERE kind = 'position' AND name = '%s'"):format(
      source))
end

-- The position of <source>, in the state file at <path>, was saved inside a transaction that
-- commits at <commit>, an LSN as a number, after one change of it.
function log_state.set_inside(path, source, commit)
   local where = ("kind = 'position' AND name = '%s'"):format(source)
   local text = log_state.position(path, source):sub(1, -2)
   local before, after = text:match "^(.*\npublished %d+\n)(.*\n)sum %x+\n$"
   lu.assertNotNil(before, text)
   text = ("%sinside %s %s 1\n%s"):format(before, commit, commit, after)
   text = ("%ssum %016x\n"):format(text, hash(hash(FNV_START, source), text))
   local file = path .. ".text"
   local f = assert(io.open(file, "w"))
   f:write(text)
   f:close()
   lu.assertEquals(sqlite(path, ("UPDATE kept SET value = CAST(readfile('%s') AS TEXT), sum = %d"
      .. " WHERE %s"):format(file, sum_row("position", source, "", text), where)), "")
   os.remove(file)
end

return log_state
