-- pgcdc.sinks.postgres.spec: what a script says of a sink.
-- SPDX-License-Identifier: MIT

local check = require "pgcdc.check"
local conninfo = require "pgcdc.postgres.conninfo"

local spec = {}

local WHAT = "pgcdc.sinks.postgres"

local fields = { connect = true, table = true, pk = true, mode = true, create = true,
                 rename = true, name = true, existing = true }
local modes = { mirror = true, append = true, history = true }

local function read_rename(value)
   local rename = check.type(WHAT .. ": rename", value or {}, "table")
   local taken = {}
   for from, to in pairs(rename) do
      check.text(WHAT .. ": a name in rename", from)
      check.text(WHAT .. ": rename." .. from, to)
      if taken[to] then
         check.fail("%s: rename names two columns '%s'", WHAT, to)
      end
      taken[to] = true
   end
   return rename
end

-- What becomes of rows that were in the table before: "keep", "remove", or nil: not asked for.
local function read_existing(value, mode)
   if value == nil then
      return nil
   elseif mode == "append" then
      check.fail('%s: existing is for mode = "mirror" and "history"', WHAT)
   end
   check.one_of(WHAT .. ": existing", value, { keep = true, remove = true })
   return value
end

--- The options of a sink, see lua/README.md, complete: {connect = a conninfo, table =, pk =,
--- mode =, create =, rename =, name =, existing = "keep", "remove" or nil}. Raises what is wrong
--- with them.
function spec.read(given)
   check.type(WHAT .. ": its argument", given, "table")
   given = check.taken(WHAT, given, fields)
   if given.table == nil then
      check.fail("%s: table is required", WHAT)
   end
   local mode = given.mode == nil and "mirror" or given.mode
   check.one_of(WHAT .. ": mode", mode, modes)
   local create = given.create == nil or check.type(WHAT .. ": create", given.create, "boolean")
   local full_name = check.table_name(WHAT .. ": table", given.table)
   return {
      table = full_name, mode = mode, create = create,
      pk = check.names(WHAT .. ": pk", given.pk),
      rename = read_rename(given.rename),
      name = given.name and check.text(WHAT .. ": name", given.name) or "postgres " .. full_name,
      connect = conninfo.text(WHAT .. ": connect", given.connect),
      existing = read_existing(given.existing, mode),
   }
end

return spec
