-- by_log.lua: a cluster whose log can be decoded, and programs that read it.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local environment = require "environment"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"
local tables = require "tables"
local wait = require "wait"
local watch = require "watch"

local by_log = {}

by_log.conf = { wal_level = "logical", max_replication_slots = "20", max_wal_senders = "20" }

local shared

-- A cluster that the tests share.
function by_log.cluster()
   shared = shared or cluster.new { name = "bylog", keep = true, conf = by_log.conf }
   return shared
end

-- A database cannot be dropped before its slots. `db`: it, or a cluster, of which all are dropped.
function by_log.drop_slots(db)
   local one = db.cluster or db
   if not one:running() then
      return
   end
   wait.until_(function()
      return db:value(([[SELECT count(*) FROM (SELECT CASE WHEN active_pid IS NOT NULL
         THEN pg_terminate_backend(active_pid) ELSE pg_drop_replication_slot(slot_name) IS NULL END
         FROM pg_replication_slots WHERE %s) s]]):format(db.cluster
         and "database = current_database()" or "true")) == "0"
   end, 20, "the end of all slots")
end

-- A database with a table t of three rows, in a publication; <sql> runs after that. <options>: of
-- the database.
function by_log.database(sql, one, options)
   local db = (one or by_log.cluster()):database(options)
   scope.add(function() by_log.drop_slots(db) end)
   db:exec [[CREATE TABLE t (id int PRIMARY KEY, v text);
      INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 3) n;
      CREATE PUBLICATION pgcdc FOR TABLE t WITH (publish_via_partition_root = true)]]
   if sql then
      db:exec(sql)
   end
   return db
end

-- Runs <fn> with the program that tests/mutants/<name>.c is a part of; nil: with the true one.
function by_log.with_mutant(name, fn)
   if name then
      environment.with("PGCDC_LUA", ("%s-%s"):format(program.binary(), name), fn)
   else
      fn()
   end
end

-- Starts the program on table t. Options: those of watch.start.
function by_log.start(db, options)
   options = tables.merge({}, options)
   options.source = tables.merge({ capture = "logical", interval = 0.5 }, options.source)
   return watch.start(db, options)
end

-- What was delivered, as words: "r1=v1 u2=b d3"; of an old row its v comes after "<".
function by_log.words(p)
   local list = {}
   for i, change in ipairs(p:changes()) do
      local value = change.op ~= "delete" and "=" .. tostring(change.row.v) or ""
      local old = change.old and "<" .. tostring(change.old.v) or ""
      list[i] = change.op:sub(1, 1) .. change.key.id .. value .. old
   end
   return table.concat(list, " ")
end

function by_log.wait_words(p, expected)
   local ok, why = pcall(p.wait_until, p, function() return by_log.words(p) == expected end, 20,
      expected)
   lu.assertTrue(ok, by_log.words(p) .. '  ' .. tostring(why) .. p:stderr())
end

return by_log
