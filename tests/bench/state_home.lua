-- state_home.lua: what a save costs in a state file and in a database, and beside a target.
-- SPDX-License-Identifier: MIT
--
-- Called by bench.lua, with its tools. The server is one that waits for its disk, as SQLite does.
-- Each transaction of the log has one row, which the script wrote after the one before was
-- delivered: so each has a save.

local child = require "child"
local cluster = require "cluster"
local program = require "program"
local scope = require "scope"

local ROUNDS = 200

-- Prints how long a save took, and how long a round, in milliseconds: medians.
local SCRIPT = ([[
   local raw = require "pgcdc.raw"
   local db, saves, rounds, save = pgcdc.connect(), {}, {}, raw.save
   local began
   function raw.save(records)
      local since = raw.now()
      save(records)
      saves[#saves + 1] = raw.now() - since
   end
   local source = pgcdc.source { table = "t", capture = "logical" }
   if pgcdc.args.target then
      source:sink(pgcdc.sinks.postgres { connect = pgcdc.args.target, table = "m" })
   end
   local function median(list)
      table.sort(list)
      return 1000 * list[#list // 2 + 1]
   end
   local function round()
      rounds[#rounds + 1] = began and raw.now() - began
      began = raw.now()
      if #rounds == %d then
         print(median(saves), median(rounds))
         pgcdc.stop()
      else
         db:exec("update t set note = now() where id = " .. #rounds %% 100)
      end
   end
   source:on("ready", round)
   source:on("batch", round)
]]):format(ROUNDS)

return function(b)
   local kind = child.run { argv = { "stat", "-f", "-c", "%T", scope.base() } }
   if kind:find "tmpfs" then
      return b.say "a save: not measured, files are in memory here: TMPDIR=/var/tmp ONLY=state"
   end
   local one = cluster.new { name = "durable", conf = { fsync = "on", wal_level = "logical" } }
   local db, home, target = one:database(), one:database(), one:database()
   db:exec [[create table t (id int primary key, note text);
      insert into t select i, '' from generate_series(0, 99) i;
      create publication pgcdc for table t]]
   local serial = 0

   local function run(state, more)
      serial = serial + 1
      db:exec "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
      target:exec "drop table if exists m; drop schema if exists pgcdc cascade"
      local options = { "--log-level", "warn" }
      if state ~= "file" then
         table.move({ "--name", "p" .. serial }, 1, 2, 3, options)
      end
      local result = program.run { dsn = db, script = SCRIPT, options = options, args = more,
         state = state == "file" and scope.dir "state" .. "/state.db" or state,
         deadline = b.patience }
      assert(result.status == 0, result.stderr)
      local save, round = result.lines[1]:match "^(%S+)\t(%S+)$"
      return tonumber(save), tonumber(round)
   end

   local saves, rounds = {}, {}
   local sink = { target = target:dsn() }
   local function measure(what, state, more)
      return function()
         local save, round = run(state, more)
         saves[what] = math.min(saves[what] or save, save)
         rounds[what] = math.min(rounds[what] or round, round)
         return round
      end
   end
   b.in_turns { measure("file", "file"), measure("database", home:dsn()),
                measure("file, mirror", "file", sink),
                measure("database, mirror", home:dsn(), sink) }
   b.say("a save: %.2f ms in a file, %.2f in a database; a round with it: %.2f, %.2f;"
      .. " with a mirror %.2f, %.2f", saves.file, saves.database, rounds.file, rounds.database,
      rounds["file, mirror"], rounds["database, mirror"])
   b.ratio("a save in a local Postgres to one in a file", saves.database, saves.file, "x", 3)
   b.ratio("small batches: what a save adds, to a mirror's flush", rounds["database, mirror"]
      - rounds["file, mirror"], rounds["file, mirror"] - rounds.file, "x", 1)
end
