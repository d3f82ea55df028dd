-- contenders.lua: who delivers the changes of the table t: Debezium and this program.
-- SPDX-License-Identifier: MIT
--
-- A contender has `name`, `start(place)`, which returns a process, `await()`, which returns when
-- that has read the table and follows it, and `forget()`, which lets the server forget it. A place
-- is {kind = "file", path =} or {kind = "kafka", brokers =, topic =}. The process has `pid`,
-- `signal`, `alive`, `describe` and `kill9`, and dies with its scope.

local files = require "files"
local native = require "native"
local program = require "program"
local scope = require "scope"
local tree = require "tree"
local wait = require "wait"

local contenders = {}

-- What Kafka's own scripts give to a process of Kafka Connect. $HEAP: the JVM's, at most.
local JVM = { "-server", "-Xms256M", "-Xmx" .. (os.getenv "HEAP" or "2G"), "-XX:+UseG1GC",
              "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
              "-XX:+ExplicitGCInvokesConcurrent" }

local jvm_methods = {}
local jvm_mt = { __index = jvm_methods }

function jvm_methods:pid()
   return self.proc:pid()
end

function jvm_methods:signal(name)
   return self.proc:kill(name)
end

function jvm_methods:alive()
   return self.proc:alive()
end

function jvm_methods:describe()
   return "Debezium says: " .. (files.read(self.errors) or "")
end

function jvm_methods:kill9()
   self.forget()
   self.proc:kill "KILL"
   self.proc:wait(wait.scaled(20))
end

local function is_read(database, slot)
   return database:value(("select active from pg_replication_slots where slot_name = '%s'"):format(
      slot)) == "t"
end

-- Drops a slot when nobody reads it any more.
local function drop_slot(database, slot)
   wait.until_(function() return not is_read(database, slot) end, 60, "the slot to be free")
   database:exec(("select pg_drop_replication_slot('%s')"):format(slot))
end

-- Debezium's engine with these settings besides what it must be told.
local function debezium(name, database, settings)
   local slot = name:lower():gsub("%W", "_")
   local self = { name = name, is_peer = true, uses_slot = true }

   function self.start(place)
      local dir = scope.dir(slot)
      local all = {
         name = slot, ["connector.class"] = "io.debezium.connector.postgresql.PostgresConnector",
         ["offset.storage"] = "org.apache.kafka.connect.storage.FileOffsetBackingStore",
         ["offset.storage.file.filename"] = dir .. "/offsets",
         ["database.hostname"] = "127.0.0.1", ["database.port"] = database.cluster.port,
         ["database.user"] = "postgres", ["database.password"] = "x",
         ["database.dbname"] = database.name, ["topic.prefix"] = "peer",
         ["plugin.name"] = "pgoutput", ["slot.name"] = slot, ["publication.name"] = "peers",
         ["publication.autocreate.mode"] = "disabled", ["table.include.list"] = "public.t",
         ["snapshot.mode"] = "initial", ["tombstones.on.delete"] = "false",
         ["converter.schemas.enable"] = "false",
      }
      for key, value in pairs(settings) do
         all[key] = value
      end
      local lines = {}
      for key, value in pairs(all) do
         lines[#lines + 1] = ("%s=%s\n"):format(key, value)
      end
      files.write(dir .. "/properties", table.concat(lines))
      local argv = table.move(JVM, 1, #JVM, 2, { "java" })
      for _, word in ipairs { "-cp", tree.top .. "/build/peers/classes:" .. tree.top
         .. "/build/peers/libs/*", "Peer", dir .. "/properties", place.kind,
         place.path or place.brokers, place.topic } do
         argv[#argv + 1] = word
      end
      local jvm = setmetatable({ errors = dir .. "/errors" }, jvm_mt)
      jvm.proc = assert(native.spawn { argv = argv, stdout = "null", stderr = jvm.errors })
      jvm.forget = scope.add(function() jvm:kill9() end)
      return jvm
   end

   function self.await() -- whatever is written from now on is in its slot
   end

   function self.forget()
      drop_slot(database, slot)
   end
   return self
end

contenders.debezium = debezium

-- This program with these fields of its source, and of the sink kafka. <slot>: of the source.
local function ours(name, database, slot, source, sink)
   local self = { name = name }
   local process
   if slot then
      source = ('capture = "logical", publication = "peers", slot = %q, %s'):format(slot, source)
   end

   function self.start(place)
      local target = place.kind == "file" and ("jsonl {path = %q}"):format(place.path)
         or ("kafka {brokers = %q, topic = %q, name = %q%s}"):format(place.brokers, place.topic,
            place.topic, sink or "")
      process = program.start { dsn = database:dsn { host = "127.0.0.1" }, stdout = "null",
         script = ('pgcdc.source {table = "t", %s}:sink(pgcdc.sinks.%s)'):format(source, target) }
      return process
   end

   -- Deletes before that are not told.
   function self.await()
      process:wait_stderr('msg="ready"', 60)
      wait.until_(function() return not slot or is_read(database, slot) end, 60, "a stream")
   end

   function self.forget()
      if slot then
         drop_slot(database, slot)
      end
   end
   return self
end

-- Those that a place of this kind is measured with, as far as <only> is part of their name.
function contenders.all(database, kind, only)
   local list = {
      debezium("Debezium", database, {}),
      debezium("Debezium, tuned", database, { ["max.batch.size"] = 8192,
         ["max.queue.size"] = 32768, ["poll.interval.ms"] = 5 }),
      ours("logical", database, "logical", "interval = 1"),
      ours("xmin", database, nil, "deletes = true, interval = 1"),
   }
   if kind == "kafka" then -- what Debezium promises
      table.insert(list, 4, ours("logical, not exact", database, "not_exact", "interval = 1",
         ", exact = false"))
   end
   local chosen = {}
   for _, contender in ipairs(list) do
      if contender.name:find(only, 1, true) then
         chosen[#chosen + 1] = contender
      end
   end
   return chosen
end

return contenders
