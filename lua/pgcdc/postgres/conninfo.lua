-- pgcdc.postgres.conninfo: what scripts give as connections, as libpq reads it; table names.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

local conninfo = {}

--- `value`: a conninfo string or URI, a table of libpq keywords such as {host = "x", password =
--- "it's"}, or nil for --dsn. `what`: for messages.
function conninfo.text(what, value)
   if value == nil then
      return raw.dsn
   end
   check.type(what, value, "string", "table")
   if type(value) == "string" then
      return value
   end
   local words = {}
   for keyword, v in pairs(value) do
      check.type(what .. ": a keyword", keyword, "string")
      check.type(("%s.%s"):format(what, keyword), v, "string", "number", "boolean")
      words[#words + 1] = ("%s='%s'"):format(keyword, tostring(v):gsub("[\\']", "\\%0"))
   end
   table.sort(words)
   return table.concat(words, " ")
end

--- A name as SQL writes it.
function conninfo.quote(name)
   return '"' .. name:gsub('"', '""') .. '"'
end

--- The name of a table as text. "orders" and '"Weird Table"' are for the server to resolve;
--- {"sales", "orders"} is exact.
function conninfo.table_name(what, value)
   check.type(what, value, "string", "table")
   if type(value) == "string" then
      return check.text(what, value)
   end
   if #value < 1 or #value > 2 then
      check.fail("%s must be a name, {name} or {schema, name}", what)
   end
   local parts = {}
   for i, part in ipairs(value) do
      parts[i] = conninfo.quote(check.text(what, part))
   end
   return table.concat(parts, ".")
end

return conninfo
