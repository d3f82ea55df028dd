-- contract_files.lua: drivers of sinks that write files, and of commands; see contract_drivers.
-- SPDX-License-Identifier: MIT

local contract_read = require "contract_read"
local files = require "files"
local lu = require "luaunit"
local native = require "native"
local scope = require "scope"
local tables = require "tables"

local drivers = {}

local function yes()
   return true
end

local function folder()
   return scope.dir "contract"
end

drivers.text = {
   promise = "exact", is_there = yes, start = folder, shrink = contract_read.shrink_folder,
   script = function(dir, tag, fields)
      return ("local sink = pgcdc.sinks.text {path = '%s/%s.txt', name = %q, %s}\n"):format(dir,
         tag, tag, fields or "")
   end,
   read = function(dir, tag)
      return contract_read.changes(files.lines(("%s/%s.txt"):format(dir, tag)))
   end,
}

drivers.csv = {
   promise = "exact", is_there = yes, start = folder, shrink = contract_read.shrink_folder,
   script = function(dir, tag, fields)
      return ([[local sink = pgcdc.sinks.csv {path = '%s/%s.csv', name = %q, header = false,
         meta = {"op", "id", "seq"}, columns = {"id", "v"}, %s}
         ]]):format(dir, tag, tag, fields or "")
   end,
   read = function(dir, tag)
      return contract_read.changes(files.lines(("%s/%s.csv"):format(dir, tag)), function(line)
         local op, id, seq, key, v = line:match "^(%l+),([^,]+),(%d+),(%d+),(%d*)$"
         lu.assertNotNil(op, line)
         return { id = id, key = key, seq = tonumber(seq), op = op, v = v }
      end)
   end,
}

-- All versions of a row are in one of the files.
drivers.many_files = {
   promise = "exact", is_there = yes, start = folder, shrink = contract_read.shrink_folder,
   script = function(dir, tag, fields)
      return ([[local sink = pgcdc.sinks.jsonl {dir = %q, name = %q,
         path = function(c) return ("%s/%%d.jsonl"):format(c.key.id %% 16) end, %s}
         ]]):format(dir, tag, tag, fields or "")
   end,
   read = function(dir, tag)
      local lines = {}
      for _, name in ipairs(native.listdir(dir .. "/" .. tag) or {}) do
         lines = tables.join(lines, files.lines(("%s/%s/%s"):format(dir, tag, name)))
      end
      return contract_read.changes(lines)
   end,
}

-- The command waits for the one before it, which goes on reading when its program was killed, and
-- leaves out a line that did not come to its end.
drivers.exec = {
   promise = "repeats", is_there = yes, start = folder,
   script = function(dir, tag)
      return ([[local sink = pgcdc.sinks.exec {name = %q, command = "exec 9>%s/lock; flock 9; "
         .. "while IFS= read -r line; do printf '%%s\\n' \"$line\"; done >>%s/%s.jsonl"}
         ]]):format(tag, dir, dir, tag)
   end,
   read = function(dir, tag)
      return contract_read.changes(files.lines(("%s/%s.jsonl"):format(dir, tag)))
   end,
}

return drivers
