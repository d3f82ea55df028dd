-- liar.lua: a server that says anything; see native_liar.c.
-- SPDX-License-Identifier: MIT

local native = require "native"
local scope = require "scope"
local server = require "server"

local liar = {}

-- Conninfo of a server that lets everybody in and then does what <mode> names.
function liar.new(mode)
   local dir = scope.dir("liar", server.root())
   local raw = assert(native.liar { listen = dir .. "/.s.PGSQL.5432", mode = mode })
   scope.add(function() raw:close() end)
   return ("host=%s port=5432 user=u dbname=d"):format(dir)
end

-- Conninfo of the server of <db>, some of whose messages are changed, as <seed> says.
function liar.before(db, seed)
   local dir = scope.dir("liar", server.root())
   local name = "/.s.PGSQL." .. db.cluster.port
   local raw = assert(native.liar {
      listen = dir .. name, target = server.socket_dir() .. name, seed = seed,
   })
   scope.add(function() raw:close() end)
   return db:dsn { host = dir }
end

-- Conninfo of the server of <db>, whose log is told with this lie:
--    cut off, length, kind   a row that ends too early, whose field does, or of an unknown kind
--    columns                 a row that has its first column only
--    unannounced             a row of a table of which nothing was said
--    no begin, no commit     a transaction that lacks this
--    other commit            one that ends as another than began
function liar.of_log(db, lie)
   local dir = scope.dir("liar", server.root())
   local name = "/.s.PGSQL." .. db.cluster.port
   local raw = assert(native.liar {
      listen = dir .. name, target = server.socket_dir() .. name, mode = lie,
   })
   scope.add(function() raw:close() end)
   return db:dsn { host = dir }
end

return liar
