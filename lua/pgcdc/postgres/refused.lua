-- pgcdc.postgres.refused: what mends a connection that a server refuses.
-- SPDX-License-Identifier: MIT
--
-- There is no connection to ask, so the text of the server is all there is: it is understood in
-- English only.

local mend = require "pgcdc.mend"
local plain = require("pgcdc.names").plain

local refused = {}

local ADMIN = "postgres" -- a database that every server has

local function sql(text, ...)
   return { mend.sql(ADMIN, text:format(...)) }
end

-- A line of pg_hba.conf that lets this client in.
local function line(host, user, database)
   local from = host == "[local]" and "local %s %s" or "host %s %s " .. host
      .. (host:find ":" and "/128" or "/32")
   return { mend.hba((from .. " scram-sha-256"):format(database, plain(user))) }
end

-- Patterns of what servers say, and what mends that. The last argument is the role, or nil.
local rules = {
   { 'no pg_hba%.conf entry for host "(.-)", user "(.-)", database "(.-)"',
     function(host, user, database)
        return line(host, user, plain(database))
     end },
   { 'no pg_hba%.conf entry for replication connection from host "(.-)", user "(.-)"',
     function(host, user)
        return line(host, user, "replication")
     end },
   { 'role "(.-)" does not exist', function(role)
      return sql("CREATE ROLE %s LOGIN", plain(role))
   end },
   { 'role "(.-)" is not permitted to log in', function(role)
      return sql("ALTER ROLE %s LOGIN", plain(role))
   end },
   { 'too many connections for role "(.-)"', function(role)
      return sql("ALTER ROLE %s CONNECTION LIMIT -1", plain(role))
   end },
   { 'too many connections for database "(.-)"', function(database)
      return sql("ALTER DATABASE %s CONNECTION LIMIT -1", plain(database))
   end },
   { 'database "(.-)" does not exist', function(database)
      return sql("CREATE DATABASE %s", plain(database))
   end },
   { 'database "(.-)" is not currently accepting connections', function(database)
      return sql("ALTER DATABASE %s ALLOW_CONNECTIONS true", plain(database))
   end },
   { 'permission denied for database "(.-)"', function(database, role)
      return sql("GRANT CONNECT ON DATABASE %s TO %s", plain(database), role and plain(role)
         or "PUBLIC")
   end },
}

--- What mends a connection of `role` (nil: not known) that failed with this text: a list, empty
--- where nothing is known.
function refused.mends(message, role)
   for _, rule in ipairs(rules) do
      local found = { message:match(rule[1]) }
      if found[1] then
         found[#found + 1] = role
         return rule[2](table.unpack(found))
      end
   end
   return {}
end

return refused
