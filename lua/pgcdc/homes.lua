-- pgcdc.homes: states in other places than that of this run: files and databases.
-- SPDX-License-Identifier: MIT
--
-- A home is what --state says. Errors about them end the program.

local raw = require "pgcdc.raw"

local homes = {}

-- What a pipeline is called in a database whose state file would have this path.
local function name_of(path)
   return path:match "([^/]*)$":gsub("%.db$", "")
end

-- The name of a pipeline in these homes.
local function find_name(name, ...)
   if name ~= "" then
      return name
   end
   local are_databases = true
   for _, home in ipairs { ... } do
      if not raw.state_is_database(home) then
         name, are_databases = name_of(home), false
      end
   end
   return not are_databases and name or raw.usage "name: say which pipeline"
end

-- How users know a home. (A conninfo may have a password.)
local function shown(home, name)
   return raw.state_is_database(home) and ("the pipeline %s in the database"):format(name)
      or ("the file %s"):format(home)
end

--- Copies a state, which goes on in its new home; returns a line that says so.
function homes.copy(from, to, asked)
   local name = find_name(asked, from, to)
   local is_new = raw.state_copy(from, name, to, name)
   return ("%s: %s, and goes on as %s"):format(shown(from, name),
      is_new and "copied" or "was copied before", shown(to, name))
end

-- The fields of what is kept, in their order; those of a row have more.
local RECORD = { "kind", "name", "key", "value" }
local ROW = { "table", "id", "change", "xid", "flags", "key", "row" }

--- Calls `write` with a line of JSON for each record, and for each row that is known.
function homes.export(home, asked, write)
   raw.state_read(home, find_name(asked, home), function(...)
      local n = select("#", ...)
      local line = {}
      for i, field in ipairs(n == #RECORD and RECORD or ROW) do
         line[field] = (select(i, ...))
      end
      write(raw.encode(line))
   end)
end

--- Takes a state away; returns a line that says so.
function homes.remove(home, asked)
   local name = find_name(asked, home)
   raw.state_remove(home, name)
   return ("%s: removed"):format(shown(home, name))
end

return homes
