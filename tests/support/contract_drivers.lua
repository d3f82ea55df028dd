-- contract_drivers.lua: each kind of sink and a target for it, for tests that all of them pass.
-- SPDX-License-Identifier: MIT
--
-- More of them: contract_files, contract_kafka. A driver is a table:
--    promise    "exact": nothing is twice; "repeats": what is twice has the same id; "state": there
--               is only the newest version of each row
--    is_there() true if this machine has what it needs; says so where not
--    start()    starts a target; returns it
--    script(target, tag, fields)   Lua that makes the sink and calls it `sink`. What has another
--               tag, a word, is another sink with a place of its own in the target. `fields`: more
--               options, as text
--    read(target, tag)   a list of {id =, key = text, seq = or nil, op =, v = of the row}, as they
--               are in the target; with "state" one for each row
--    kill(target)   SIGKILL to the target's server, which is up again when it returns; or nil
--    peer(target)   what the sink connects to, for saboteur_net.c; nil: it writes files
--    commit     a text that is sent when a flush is about to be done; or, unless `behind` is set,
--               when its data is sent
--    behind     true if the data can be read on its way, before `commit`
--    is_apart   true if `commit` goes by another connection than the data; on that it is sent once
--               at the start
--    is_waiting(target)   true while the target makes a program wait for what an earlier one has
--               begun; nil: it never does
--    copy(target)   what is in the target; back(target, copy): makes it so again; empty(target):
--               takes all out of it; nil: its position is not in the target
--    is_gone    what a running program says when its position is gone, a pattern; nil: what all say
--    without_state, beside_others   options of the sink for a state file that is lost, and where
--               two programs use one name
--    trouble(target, n)   its next n answers say that it cannot now; or nil
--    bad        SQL of a name of rows that it never takes, if prepare(target, tag), where there is
--               one, was called before, and the sink has the options `picky`; or nil
--    patience   seconds that a run may take whose target refuses many rows; nil: 30
--    timeout    option of the sink for a network that fails; nil: 0.5
--    shrink(target, mount)   puts the target on a small disk by mount(folder, MB), which returns a
--               function that undoes it, or nil; returns the folder whose files fill the disk, or
--               nil. The target is not used any more by others
--    is_patient true if a server that says nothing is waited for much longer than a test lasts
--
-- A target over the network has `way`, a proxy through which the sink goes (but for the mock of
-- Kafka, whose brokers say where they are).

local child = require "child"
local clickhouse = require "clickhouse"
local cluster = require "cluster"
local contract_read = require "contract_read"
local files = require "files"
local kafka = require "kafka"
local lu = require "luaunit"
local native = require "native"
local nats = require "nats"
local opensearch = require "opensearch"
local proxy = require "proxy"
local receiver = require "receiver"
local redis = require "redis"
local postgres = require "server"
local scope = require "scope"
local wait = require "wait"

local drivers = {}

-- The server, with a proxy before it.
local function with_way(server)
   server.way_port = assert(native.free_port())
   server.way = assert(native.proxy { listen = server.way_port, target = server.port })
   scope.add(function() server.way:close() end)
   return server
end

local function restart(server)
   server:kill()
   server:start()
end

-- Of servers that have all in one.
local function shrink_server(size)
   return function(server, mount)
      server:kill()
      local undo = mount(server.dir, size)
      server:start()
      if undo then
         scope.add(function()
            server:kill()
            undo()
         end)
         return server.dir
      end
   end
end

-- All that is in a server's folder, while the server is down, and back.
local function copy_folder(server)
   local copy = scope.dir "copy" .. "/copy"
   server:kill()
   child.run { argv = { "cp", "-a", server.dir, copy } }
   server:start()
   return copy
end

local function folder_back(server, copy)
   server:kill()
   child.run { argv = { "sh", "-c", 'rm -rf "$1"/* && cp -a "$2"/. "$1"', "sh", server.dir, copy } }
   server:start()
end

local function way_port(server)
   return server.way_port
end

local function yes()
   return true
end

for _, name in ipairs { "contract_files", "contract_kafka" } do
   for kind, driver in pairs(require(name)) do
      drivers[kind] = driver
   end
end

-- ---- files and Postgres ----

drivers.jsonl = {
   promise = "exact", is_there = yes,
   start = function()
      return scope.dir "contract"
   end,
   script = function(dir, tag, fields)
      return ("local sink = pgcdc.sinks.jsonl {path = '%s/%s.jsonl', name = %q, %s}\n"):format(dir,
         tag, tag, fields or "")
   end,
   read = function(dir, tag)
      local changes = {}
      for i, line in ipairs(files.lines(("%s/%s.jsonl"):format(dir, tag))) do
         changes[i] = contract_read.change(line)
      end
      return changes
   end,
   copy = function(dir)
      local copy = scope.dir "copy" .. "/copy"
      child.run { argv = { "cp", "-a", dir, copy } }
      return copy
   end,
   back = function(dir, copy)
      child.run { argv = { "sh", "-c", 'rm -rf "$1"/* && cp -a "$2"/. "$1"', "sh", dir, copy } }
   end,
   shrink = contract_read.shrink_folder,
}

drivers.postgres = {
   promise = "state", is_there = yes,
   start = function()
      local db = cluster.main():database()
      return { db = db, way = proxy.new(db) }
   end,
   script = function(target, tag, fields)
      return ("local sink = pgcdc.sinks.postgres {connect = %q, name = %q, table = 'm%s', %s}\n")
         :format(target.way:dsn(), tag, tag, fields or "")
   end,
   read = function(target, tag)
      local changes = {}
      if target.db:value(("select to_regclass('m%s')"):format(tag)) then
         for i, row in ipairs(target.db:exec(("select id, v from m%s"):format(tag))) do
            changes[i] = contract_read.row(row[1], row[2])
         end
      end
      return changes
   end,
   commit = "COMMIT", behind = true, is_patient = true,
   bad = "'bad'",
   prepare = function(target, tag)
      target.db:exec(([[create table m%s (id int primary key, v bigint,
         name text check (name not like 'bad%%'))]]):format(tag))
   end,
   without_state = 'existing = "remove"', is_gone = "does not exist", -- database or table
   copy = function(target)
      target.db:connection():close()
      local others = ("select count(*) from pg_stat_activity where datname = '%s'"):format(
         target.db.name)
      wait.until_(function()
         return target.db.cluster:value(others) == "0"
      end, 20, "the end of its connections")
      return cluster.main():database { sql = "template " .. target.db.name }
   end,
   back = function(target, copy)
      copy.cluster:exec(('drop database "%s" with (force)'):format(target.db.name))
      copy.cluster:exec(('create database "%s" template "%s"'):format(target.db.name, copy.name))
   end,
   empty = function(target, tag)
      target.db:exec(("drop table m%s; drop schema pgcdc cascade"):format(tag))
   end,
   shrink = function(target, mount)
      local one, dir = cluster.new { name = "small" }, scope.dir("small", postgres.root())
      assert(not postgres.user() or native.chown(dir, postgres.user()))
      local undo = mount(dir, 20)
      if undo then
         scope.add(undo)
         one:exec(("create tablespace small location '%s'"):format(dir))
         target.db = one:database { sql = "tablespace small" }
         target.way = proxy.new(target.db)
         return dir
      end
   end,
   is_waiting = function(target)
      return target.db:value [[select count(*) from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock']] == "1"
   end,
   peer = function(target)
      return target.way.dir .. "/.s.PGSQL." .. target.db.cluster.port
   end,
}

-- ---- Redis ----

local function redis_driver(mode, read)
   return {
      promise = mode == "stream" and "exact" or "state", is_there = redis.is_there,
      start = function()
         return with_way(redis.new())
      end,
      script = function(server, tag, fields)
         return ("local sink = pgcdc.sinks.redis {connect = 'redis://127.0.0.1:%d', mode = %q, "
            .. "name = %q, %s}\n"):format(server.way_port, mode, tag, fields or "")
      end,
      read = read, kill = restart, peer = way_port, commit = "EXEC", behind = true,
      copy = copy_folder, back = folder_back, shrink = shrink_server(8),
      empty = function(server)
         server:call "FLUSHALL"
      end,
   }
end

drivers.redis_stream = redis_driver("stream", function(server, tag)
   local changes = {}
   for i, entry in ipairs(server:stream(("{%s}:t"):format(tag))) do
      changes[i] = contract_read.change(entry.data)
      lu.assertEquals({ entry.id, entry.op, tonumber(entry.seq) },
         { changes[i].id, changes[i].op, changes[i].seq })
   end
   return changes
end)

-- Some of the hashes: where to go on, then key, id and v of each. (All of a million at once would
-- take minutes, in which the server answers nobody.)
local HASHES = [[
   local found = redis.call("SCAN", ARGV[1], "MATCH", ARGV[2], "COUNT", 20000)
   local list = {found[1]}
   for _, key in ipairs(found[2]) do
      local row = redis.call("HMGET", key, "id", "v")
      list[#list + 1], list[#list + 2], list[#list + 3] = key, row[1], row[2]
   end
   return list]]

-- The same of JSON.
local DOCUMENTS = HASHES:gsub("local row = .-\n", [[
      local row = redis.call("GET", key)
      row = {row:match '"id":(%%d+)', row:match '"v":(%%d+)'}
]])

-- A function that reads what a script finds.
local function read_by(script)
   return function(server, tag)
      local changes, place, seen, cursor = {}, ("{%s}:t:"):format(tag), {}, "0"
      repeat
         local list = server:call("EVAL", script, "0", cursor, place .. "*")
         cursor = list[1]
         for i = 2, #list, 3 do
            if not seen[list[i]] then -- a scan may come by twice
               seen[list[i]] = true
               changes[#changes + 1] = contract_read.row(list[i + 1], list[i + 2])
               lu.assertEquals(list[i], place .. list[i + 1])
            end
         end
      until cursor == "0"
      return changes
   end
end

drivers.redis_hash = redis_driver("hash", read_by(HASHES))
drivers.redis_json = redis_driver("json", read_by(DOCUMENTS))

-- Somebody hears all messages: what was sent has come to him when what is sent later has. (Who
-- hears is lost with the server, so that is not killed.)
drivers.redis_publish = redis_driver("publish", function(server, tag)
   server.ends = server.ends + 1
   server:call("PUBLISH", "end", "end " .. server.ends)
   local changes = {}
   wait.until_(function()
      return (files.read(server.heard) or ""):find(("end %d\n"):format(server.ends), 1, true)
   end, 20, "the last message")
   for channel, message in files.read(server.heard):gmatch "pmessage\n%*\n([^\n]*)\n([^\n]*)\n" do
      if channel == ("{%s}:t"):format(tag) then
         changes[#changes + 1] = contract_read.change(message)
      end
   end
   return changes
end)
drivers.redis_publish.promise, drivers.redis_publish.kill = "repeats", nil
drivers.redis_publish.copy, drivers.redis_publish.back = nil, nil
drivers.redis_publish.start = function()
   local server = with_way(redis.new())
   server.ends, server.heard = 0, server.dir .. "/heard"
   server:hear("*", server.heard)
   return server
end

-- ---- NATS ----

-- The server forgets ids at once, so that what is there twice is seen.
drivers.nats = {
   promise = "exact", is_there = nats.is_there,
   start = function()
      return with_way(nats.new())
   end,
   script = function(server, tag, fields)
      return ("local sink = pgcdc.sinks.nats {servers = 'nats://127.0.0.1:%d', stream = %q, name = "
         .. "%q, subject = '%s.{schema}.{table}', create = {duplicates = 0.1}, %s}\n"):format(
         server.way_port, tag, tag, tag, fields or "")
   end,
   read = function(server, tag)
      local changes = {}
      for i, message in ipairs(server:messages(tag)) do
         changes[i] = contract_read.change(message.data)
         lu.assertEquals(message.headers["Pgcdc-Id"] or message.headers["Nats-Msg-Id"],
            changes[i].id)
      end
      return changes
   end,
   kill = restart, peer = way_port, commit = "._pgcdc.", behind = true,
   bad = "'bad' || repeat('x', 1100000)",
   beside_others = "create = {}", -- where ids are not forgotten at once
   copy = copy_folder, back = folder_back, shrink = shrink_server(8),
   empty = function(server, tag)
      server:api("STREAM.DELETE." .. tag)
   end,
}

-- ---- HTTP ----

local function http_driver(options)
   return {
      promise = "repeats", is_there = receiver.is_there,
      start = function()
         return with_way(receiver.new())
      end,
      script = function(server, tag, fields)
         return ("local sink = pgcdc.sinks.http {url = 'http://127.0.0.1:%d/%s', name = %q, "
            .. "%s%s}\n"):format(server.way_port, tag, tag, options, fields or "")
      end,
      read = function(server, tag)
         local changes = {}
         for i, change in ipairs(server:changes("/" .. tag)) do
            changes[i] = contract_read.change(change)
         end
         return changes
      end,
      kill = restart, peer = way_port, commit = "POST",
      bad = "'bad'",
      prepare = function(server)
         server:rules { { match = '"name":"bad', status = 422 } }
      end,
      trouble = function(server, n)
         server:rules { { status = 503, times = n } }
      end,
   }
end

drivers.http_one = http_driver ""
drivers.http_batches = http_driver 'body = "ndjson", batch = 20, gzip = true, '

drivers.clickhouse = {
   promise = "state", is_there = clickhouse.is_there,
   start = function()
      return with_way(clickhouse.new())
   end,
   script = function(server, tag, fields)
      return ("local sink = pgcdc.sinks.clickhouse {url = 'http://127.0.0.1:%d/', name = %q, "
         .. "into = %q, %s}\n"):format(server.way_port, tag, tag, fields or "")
   end,
   read = function(server, tag)
      local changes = {}
      for i, row in ipairs(server:table(tag)) do
         changes[i] = contract_read.row(row.id, row.v)
      end
      return changes
   end,
   kill = restart, peer = way_port, commit = "INSERT", shrink = shrink_server(64),
   bad = "'bad'",
   prepare = function(server, tag)
      lu.assertEquals(server:try(("CREATE TABLE %s (id Int32, v Nullable(Int64), name "
         .. "Nullable(Int32), _seq UInt64, _is_deleted UInt8) ENGINE = ReplacingMergeTree(_seq) "
         .. "ORDER BY id"):format(tag)), "")
   end,
}

drivers.opensearch = {
   promise = "state", is_there = opensearch.is_there,
   start = function()
      return with_way(opensearch.new())
   end,
   script = function(server, tag, fields)
      return ("local sink = pgcdc.sinks.opensearch {url = 'http://127.0.0.1:%d', name = %q, "
         .. "index = %q, %s}\n"):format(server.way_port, tag, tag, fields or "")
   end,
   read = function(server, tag)
      local changes = {}
      for id, document in pairs(server:documents(tag)) do
         changes[#changes + 1] = contract_read.row(id, document.v)
      end
      return changes
   end,
   kill = restart, peer = way_port, commit = "_bulk",
   bad = "'bad'",
   prepare = function(server)
      if opensearch.is_real then
         server:be_picky()
      end
   end,
}

-- ---- Kafka ----

-- (In a mock cluster nothing is exact.)
drivers.kafka_plain = {
   promise = "repeats", is_there = kafka.is_there,
   start = kafka.mock,
   script = function(server, tag, fields)
      return ("local sink = pgcdc.sinks.kafka {brokers = %q, exact = false, topic = %q, name = %q,"
         .. " %s}\n"):format(server.brokers, tag, tag, fields or "")
   end,
   read = function(server, tag)
      local changes = {}
      for i, message in ipairs(server:read(tag)) do
         changes[i] = contract_read.change(message.payload)
      end
      return changes
   end,
   peer = function(server)
      return server.brokers:match ":(%d+)$"
   end,
   bad = "'bad' || repeat('x', 5000)",
   picky = 'config = {["message.max.bytes"] = 2000, ["batch.size"] = 1500}',
   trouble = function(server, n)
      server:fail("produce", "not_leader", n)
   end,
}

-- ---- a target with little room ----

-- A sink of a script's own, which stores a short text: a file, whose first line that is. A flush is
-- one rename, before or after which it dies if that is asked for. A state makes the savepoint too
-- big for it.
local PREPARING = [[
   local path = %q
   local function read()
      local file = io.open(path)
      if not file then return nil, "" end
      local text, rest = file:read "l", file:read "a"
      file:close()
      return text ~= "" and text or nil, rest
   end
   local sink = {name = %q, prepares = true, pending = {}}
   function sink:recall() return (read()) end
   function sink:write(c) table.insert(self.pending, pgcdc.json.encode(c) .. "\n") end
   function sink:flush(text)
      local _, data = read()
      local file = io.open(path .. ".new", "w")
      file:write(text, "\n", data, table.concat(self.pending))
      file:close()
      if pgcdc.args.die == "before" then os.exit(7) end
      os.rename(path .. ".new", path)
      if pgcdc.args.die == "after" then os.exit(7) end
      self.pending = {}
   end
   local big = pgcdc.state "big"
   for i = 1, 100 do big["key" .. i] = ("x"):rep(60) end
]]

drivers.prepared = {
   promise = "exact", is_there = yes,
   start = function()
      return scope.dir "contract"
   end,
   script = function(dir, tag)
      return PREPARING:format(dir .. "/" .. tag, tag)
   end,
   read = function(dir, tag)
      local changes = {}
      for i, line in ipairs(files.lines(dir .. "/" .. tag)) do
         if i > 1 then
            changes[i - 1] = contract_read.change(line)
         end
      end
      return changes
   end,
}

return drivers
