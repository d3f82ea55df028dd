-- fixtures.lua: what many tests begin with: databases with tables in them, and state files.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local homes = require "homes"
local scope = require "scope"

local fixtures = {}

-- The path of a state file in a folder of its own. It is not there yet, or is a copy of <from>,
-- with what is beside that.
function fixtures.state(from)
   local path = scope.dir "state" .. "/state.db"
   if from then
      homes.back(path, homes.copy(from))
   end
   return path
end

-- A database of the cluster that all tests share, after this SQL; what else is given is for
-- string.format.
function fixtures.database(sql, ...)
   local db = cluster.main():database()
   db:exec(select("#", ...) > 0 and sql:format(...) or sql)
   return db
end

-- One with table t (id, name) of <n> rows (default 0); <name>: SQL of row i's name, default n1, n2
-- and so on.
function fixtures.names(n, name)
   return fixtures.database([[create table t (id int primary key, name text);
      insert into t select i, %s from generate_series(1, %d) i]], name or "'n' || i", n or 0)
end

-- The same with names that are hashes: all of one length, and as good as random.
function fixtures.hashes(n)
   return fixtures.names(n, "md5(i::text)")
end

-- SQL of a table t (id, n) with the ids 1 to <count>, n being 0.
function fixtures.numbers(count)
   return ([[create table t (id int primary key, n int default 0);
      insert into t select generate_series(1, %d);]]):format(count)
end

-- A database with the tables t and u, which have an id and this column. t has <n> rows (default 0)
-- with this value, SQL for row i; u has none.
function fixtures.t_and_u(column, value, n)
   return fixtures.database([[create table t (id int primary key, %s);
      create table u (id int primary key, %s);
      insert into t select i, %s from generate_series(1, %d) i]], column, column, value or "null",
      n or 0)
end

-- A database in which texts are in <encoding>.
function fixtures.encoded(encoding, name)
   return cluster.main():database {
      name = name,
      sql = ("template template0 encoding '%s' lc_collate 'C' lc_ctype 'C'"):format(encoding),
   }
end

return fixtures
