-- scale.lua: what each part of a pipeline does on one core, and how many cores that makes.
-- SPDX-License-Identifier: MIT
--
-- Called by bench.lua, with its tools. Figures are processor time of whole runs, less that of a run
-- that does nothing, so that they hold where many run side by side. Where machines are missing
-- scale_model.lua stands for them: what it does is held against the arithmetic of lua/scaling.md.

local cluster = require "cluster"
local kafka = require "kafka"
local model = require "scale_model"
local native = require "native"
local program = require "program"
local scope = require "scope"

local ROWS = 200000

local SINKS = {
   handler = 's:on("change", function(c) n = n + c.row.id end)',
   five = [[s:filter(function(c) return c.row.id > 0 end)
      :map(function(c) return {id = c.row.id, name = c.row.name} end)
      :map(function(x) x.more = x.id + 1 return x end)
      :reduce_by(function(x) return x.id % 1000 end, function(k) return k + 1 end, {start = 0})
      :sink(function(x) n = n + x.state end)]],
   file = 's:sink(pgcdc.sinks.jsonl {path = pgcdc.args.path})',
   mirror = 's:sink(pgcdc.sinks.postgres {connect = pgcdc.args.target, table = "m"})',
   kafka = [[s:sink(pgcdc.sinks.kafka {brokers = pgcdc.args.brokers, topic = "scale",
      exact = false})]],
}

local SOURCES = {
   snapshot = 'local s = pgcdc.source {table = "scale"}',
   log = 'local s = pgcdc.source {table = "scale", capture = "logical"}',
   topic = 'local s = pgcdc.source {kafka = pgcdc.args.brokers, topic = "scale"}',
}

-- ---- what one core does ----

local function measure(b)
   local one = cluster.new { name = "scale", conf = { wal_level = "logical",
      shared_buffers = "256MB", max_wal_size = "8GB", checkpoint_timeout = "1h" } }
   local db, target = one:database(), one:database()
   db:exec(([[create table scale (id int primary key, name text, amount numeric(12,2), note text);
      insert into scale select i, 'name ' || i, i / 100.0, md5(i::text)
         from generate_series(1, %d) i;
      create publication pgcdc for table scale]]):format(ROWS), b.patience)
   local args = { target = target:dsn(), path = scope.dir "scale" .. "/file" }
   local broker = kafka.is_there() and kafka.mock()
   if broker then
      broker:tell "topic scale 4"
      args.brokers = broker.brokers
   end

   local function run(source, sink, state)
      local result = program.run { dsn = db, state = state, args = args, deadline = b.patience,
         script = "local n = 0\n" .. SOURCES[source] .. "\n" .. (SINKS[sink] or ""),
         options = { "--once", "--log-level", "warn" } }
      assert(result.status == 0, result.stderr)
      return result.user + result.sys
   end

   local figures = {}
   local function per_core(what, seconds, nothing)
      figures[what] = ROWS / (seconds - nothing)
      b.say("%-44s %9.0f a second and core", what, figures[what])
   end

   local state = scope.dir "scale" .. "/log.db"
   run("log", nil, state)
   local function update()
      db:exec("update scale set note = md5(note)", b.patience)
   end
   local nothing = run("log", nil, state)
   update()
   per_core("changes of the log, a handler", run("log", "handler", state), nothing)
   nothing = (function()
      local empty = db:value "select count(*) from scale where id < 0"
      assert(empty == "0")
      local result = program.run { dsn = db, script = 'pgcdc.source {table = "scale", '
         .. 'where = "id < 0"}', options = { "--once" } }
      return result.user + result.sys
   end)()
   for _, sink in ipairs { "handler", "five", "file", "mirror", "kafka" } do
      if sink ~= "kafka" or broker then
         os.remove(args.path)
         target:exec "drop table if exists m; drop schema if exists pgcdc cascade"
         per_core("rows of a table, into " .. sink, run("snapshot", sink), nothing)
      end
   end
   if broker then
      per_core("changes out of Kafka, a handler", run("topic", "handler"), nothing)
   end
   local backend = db:connect()
   local pid = math.tointeger(tonumber(backend:value "select pg_backend_pid()"))
   backend:exec "set max_parallel_workers_per_gather = 0; select count(*) from scale"
   local began = native.proc_cpu(pid)
   for _ = 1, 50 do
      backend:exec "select count(*) from scale"
   end
   figures.scan = 50 * ROWS / (native.proc_cpu(pid) - began)
   b.say("%-44s %9.0f a second and core", "rows that a poll scans, the server's", figures.scan)
   return figures
end

-- ---- the arithmetic, and the model ----

local function holds(b, what, got, expected)
   b.line("model: " .. what, ("%.1f"):format(got), ("%.1f +- 5 %%"):format(expected),
      math.abs(got / expected - 1) <= 0.05)
end

local function check_model(b)
   local spec = { partitions = 12, machines = 1, cores = 8, wait = 0.002, cpu = 0.00005,
                  arriving = 8000, seconds = 20 }
   local function with(more)
      local all = {}
      for _, of in ipairs { spec, more } do
         for name, value in pairs(of) do
            all[name] = value
         end
      end
      return model.run(all)
   end
   -- what waits: as many at a time as there are partitions, whatever the machines
   holds(b, "12 partitions that wait 2 ms, changes/s", with({}).rate, 12 / 0.00205)
   -- what computes: as many as there are cores
   local busy = { wait = 0, cpu = 0.001, cores = 2, arriving = 20000 }
   local rates = {}
   for _, machines in ipairs { 1, 2, 4 } do
      busy.machines = machines
      rates[machines] = with(busy).rate
      holds(b, ("1 ms of a core, %d machines of 2, changes/s"):format(machines), rates[machines],
         math.min(12, 2 * machines) / 0.001)
   end
   -- a machine of two dies: its partitions wait for a lease and a second, at half of what they can
   local died = with { machines = 2, arriving = 6 / 0.00205, seconds = 60,
                       events = { { at = 10, machine = 1, gap = 11 } } }
   holds(b, "a machine of 2 dies at half load, backlog", died.backlog, 3 / 0.00205 * 11)
   holds(b, "the same, seconds until it is worked off", died.recovered - 21, 11)
   -- one partition is ten times slower: the others have no backlog of their own
   local slow = with { arriving = 6 / 0.00205, slow = { [3] = 10 } }
   local others = 0
   for i, partition in ipairs(slow.queues) do
      others = math.max(others, i ~= 3 and partition.queue or 0)
   end
   b.line("model: the largest backlog beside a slow partition", ("%.0f"):format(others), "<= 50",
      others <= 50)
end

-- What 10^9 rows, 10^4 tables and 10^5 changes a second take.
local function say_sizes(b, f)
   local log, kafka_sink = f["changes of the log, a handler"], f["rows of a table, into kafka"]
   b.say("10^9 rows, read once by one core into a handler: %.0f minutes",
      1e9 / f["rows of a table, into handler"] / 60)
   b.say("10^9 rows, one scan by a core of the server: %.0f s", 1e9 / f.scan)
   b.say("10^5 changes a second: %.2f cores by the log%s", 1e5 / log, kafka_sink and
      (", %.2f more into Kafka, %.2f cores of workers without the handler's own time"):format(
         1e5 / kafka_sink, 1e5 / f["changes out of Kafka, a handler"]) or "")
end

return function(b)
   say_sizes(b, measure(b))
   check_model(b)
end
