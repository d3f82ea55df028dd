-- connected.lua: what a cluster and a database have in common: SQL over a connection of their own.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"
local wait = require "wait"

local connected = {}

-- Adds to methods that have `connect`: connection, exec, try, value; returns them. (What the last
-- three do is told in native_pg.c.)
function connected.methods(methods)
   -- The connection that exec, try and value use. A new one if the last is broken.
   function methods:connection()
      if not (self.conn and self.conn:alive()) then
         self.conn = self:connect()
      end
      return self.conn
   end

   for _, name in ipairs { "exec", "try", "value" } do
      methods[name] = function(self, sql, seconds)
         local conn = self:connection()
         return conn[name](conn, sql, seconds)
      end
   end
   return methods
end

-- The rows of a query as one text, "1 a, 2 -", NULL as "-". <db>: whatever has exec.
function connected.rows(db, sql)
   local lines = {}
   for i, row in ipairs(db:exec(sql)) do
      for k = 1, #row do
         row[k] = row[k] or "-"
      end
      lines[i] = table.concat(row, " ")
   end
   return table.concat(lines, ", ")
end

-- Waits until two queries, of two databases, bring the same rows. Fails with both, and what
-- <explain>() returns.
function connected.wait_same(db, sql, other, other_sql, seconds, explain)
   local is_same = pcall(wait.until_, function()
      local ok, rows = pcall(connected.rows, db, sql) -- its table may still have to be made
      return ok and rows == connected.rows(other, other_sql)
   end, seconds, "the same rows")
   if not is_same then
      lu.assertEquals(connected.rows(db, sql), connected.rows(other, other_sql), explain())
   end
end

return connected
