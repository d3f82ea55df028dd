-- mirror.lua: a part of bench.lua: how fast rows get into another database.
-- SPDX-License-Identifier: MIT
--
-- The yardstick is psql: COPY out of one database, through a pipe, COPY into the other.

local child = require "child"
local scope = require "scope"

-- What bench.lua gives: `database` with the table t of `rows` rows, `cluster`, `psql` (a path),
-- `run` (of the program), `in_turns`, `line`, `say`, `patience`.
return function(b)
   local target = b.cluster:database { name = "mirror", keep = true }
   local columns = [[id bigint primary key, name text, email text, amount numeric(12,2),
      created timestamptz, active bool, note text]]
   local state

   local function pipe()
      target:exec "drop table if exists t"
      target:exec(("create table t (%s)"):format(columns))
      local psql = ("'%s' -X -q -d '%%s' -c '%%s'"):format(b.psql)
      local command = (psql .. " | " .. psql):format(b.database:dsn(), "copy t to stdout",
         target:dsn(), "copy t from stdin")
      return child.seconds({ argv = { "/bin/sh", "-c", command } }, b.patience)
   end

   local function mirror()
      return b.run { bundled = "mirror", state = state,
                     args = { table = "t", target = target:dsn() } }.seconds
   end

   local function snapshot()
      target:exec "drop table if exists t"
      target:exec "drop schema if exists pgcdc cascade"
      state = scope.dir "mirror" .. "/state.db"
      local took = mirror()
      assert(target:value "select count(*) from t" == tostring(b.rows), "rows are missing")
      return took
   end

   local m = b.in_turns { pipe, snapshot }
   b.say("psql | psql %.3f s, mirror %.3f s", m[1], m[2])
   b.line("mirror, a snapshot, to psql COPY | psql COPY",
      ("%.2f x, %.0f rows/s"):format(m[2] / m[1], b.rows / m[2]), ">= 150000 rows/s",
      b.rows / m[2] >= 150000)
   b.database:exec("update t set active = not active", b.patience)
   local took = mirror()
   b.say("mirror, every row updated: %.3f s, %.0f rows/s", took, b.rows / took)
end
