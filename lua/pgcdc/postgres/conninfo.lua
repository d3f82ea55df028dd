-- pgcdc.postgres.conninfo: what a script gives as a connection, as libpq reads it.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

local conninfo = {}

-- Where connections are made C puts in what variables stand for; in the sandbox it sees to it that
-- a script's own connection gets nothing that the user of the program has. Here a script is told
-- early, at its line, what is wrong.
local function checked(what, text)
   local problem = (raw.is_sandboxed or text:find("$", 1, true)) and raw.db_check(text)
   if problem then
      check.fail("%s: %s", what, problem)
   end
   return text
end

--- Returns a conninfo string or URI. `value`: the same; or a table of libpq keywords, such as
--- {host = "x", password = "it's"}; or nil for --dsn, whose text stays unknown: for that it returns
--- what stands for it. `what`: how errors name it.
function conninfo.text(what, value)
   if value == nil then
      return raw.dsn
   end
   check.type(what, value, "string", "table")
   if type(value) == "string" then
      return checked(what, value)
   end
   local parts = {}
   for keyword, v in pairs(value) do
      check.type(what .. ": a keyword", keyword, "string")
      check.type(("%s.%s"):format(what, keyword), v, "string", "number", "boolean")
      parts[#parts + 1] = ("%s='%s'"):format(keyword, tostring(v):gsub("[\\']", "\\%0"))
   end
   table.sort(parts)
   return checked(what, table.concat(parts, " "))
end

return conninfo
