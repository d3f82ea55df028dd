-- connected.lua: what a cluster and a database have in common: SQL over a connection of their own.
-- SPDX-License-Identifier: MIT

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

return connected
