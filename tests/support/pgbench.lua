-- pgbench.lua: Postgres' own writer of transactions.
-- SPDX-License-Identifier: MIT

local files = require "files"
local lu = require "luaunit"
local native = require "native"
local scope = require "scope"
local server = require "server"
local wait = require "wait"

local pgbench = {}

-- Starts it on a database with more words of its command line; skips the test where there is none.
-- Returns its process.
function pgbench.start(db, ...)
   local binary = server.client "pgbench"
   lu.skipIf(not binary, "there is no pgbench")
   local argv = { binary, "-h", server.socket_dir(), "-p", tostring(db.cluster.port),
      "-U", "postgres", ... }
   argv[#argv + 1] = db.name
   return assert(native.spawn { argv = argv, stdout = "null", stderr = "null" })
end

-- The same, with a script of SQL for it.
function pgbench.start_script(db, sql, ...)
   local path = scope.dir "pgbench" .. "/script.sql"
   files.write(path, sql)
   return pgbench.start(db, "-n", "-f", path, ...)
end

-- Waits until it has ended well.
function pgbench.finish(proc, seconds)
   local ended = proc:wait(wait.scaled(seconds)) or error("pgbench does not end", 2)
   lu.assertEquals(ended.exit, 0, "pgbench")
end

-- Makes pgbench's tables.
function pgbench.make_tables(db, ...)
   pgbench.finish(pgbench.start(db, "-i", "-q", ...), 60)
end

return pgbench
