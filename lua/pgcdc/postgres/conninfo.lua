-- pgcdc.postgres.conninfo: what a script gives as a connection, as libpq reads it.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

local conninfo = {}

--- Returns a conninfo string or URI. `value`: the same; or a table of libpq keywords, such as
--- {host = "x", password = "it's"}; or nil for --dsn. `what`: how errors name it.
function conninfo.text(what, value)
   if value == nil then
      return raw.dsn
   end
   check.type(what, value, "string", "table")
   if type(value) == "string" then
      return value
   end
   local parts = {}
   for keyword, v in pairs(value) do
      check.type(what .. ": a keyword", keyword, "string")
      check.type(("%s.%s"):format(what, keyword), v, "string", "number", "boolean")
      parts[#parts + 1] = ("%s='%s'"):format(keyword, tostring(v):gsub("[\\']", "\\%0"))
   end
   table.sort(parts)
   return table.concat(parts, " ")
end

return conninfo
