-- logical.lua: a part of bench.lua: changes by the server's log.
-- SPDX-License-Identifier: MIT
--
-- The yardsticks are pg_recvlogical, which writes what pgoutput sends to /dev/null, and a bare
-- client of libpq, logical_bare.c, that does nothing with it. All read the same part of the log,
-- by copies of a slot.

local child = require "child"
local cluster = require "cluster"
local files = require "files"
local native = require "native"
local pgbench = require "pgbench"
local program = require "program"
local scope = require "scope"
local server = require "server"
local tree = require "tree"

local UPDATES = 400000
local SAMPLES = 300

local count_rows = [[
   local rows = 0
   local t = pgcdc.source {table = "%s", capture = "logical", slot = "ours", interval = 1}
   t:on("change", function(change) rows = rows + (change.row.id and 1 or 0) end)
   t:on("batch", function() print(rows) end)
]]

local tell_rows = [[
   local t = pgcdc.source {table = "t", capture = "logical", slot = "ours", interval = 1}
   t:on("change", function(change)
      if change.op ~= "read" then io.write(change.key.id, "\n") io.flush() end
   end)
   t:on("ready", function() io.write("ready\n") io.flush() end)
]]

local function compile()
   local path = scope.dir "logical_bare" .. "/logical_bare"
   server.run({ "sh", "-ec", 'cc -O2 -o "$1" "$2" $(pkg-config --cflags --libs libpq)', "sh", path,
                tree.top .. "/tests/bench/logical_bare.c" }, { user = false })
   return path
end

local function make_database()
   local one = cluster.new { name = "log", keep = true, conf = {
      wal_level = "logical", shared_buffers = "256MB", max_wal_size = "8GB",
      checkpoint_timeout = "1h",
   } }
   local database = one:database { name = "log", keep = true }
   database:exec [[
      create table t (id bigint primary key, name text, email text, amount numeric(12,2),
                      created timestamptz, active bool, note text);
      create table big (id bigint primary key, name text);
      insert into t select i, 'name ' || i, 'user' || i || '@example.com', i / 100.0,
                           timestamptz '2020-01-01' + i * interval '1 second', i % 3 = 0,
                           md5(i::text)
      from generate_series(1, 10000) i;
      create publication pgcdc for table t, big;
      create procedure write(count int) language plpgsql as $$
         begin
            for i in 1 .. count loop
               update t set amount = amount + 1 where id = 1 + i % 10000;
               commit;
            end loop;
         end $$]]
   database:exec "vacuum analyze t"
   return database
end

-- The percentile of a sorted list.
local function percentile(list, p)
   return list[math.ceil(#list * p / 100)]
end

-- What bench.lua gives: `rows`, `in_turns`, `line`, `say`, `patience`, `median`.
return function(b)
   local database = make_database()
   local bare_path = compile()
   local recvlogical = server.client "pg_recvlogical"
   local state = scope.dir "logical" .. "/state.db"

   local function drop(slot)
      database:exec(("select pg_drop_replication_slot(slot_name) from pg_replication_slots "
         .. "where slot_name = '%s'"):format(slot))
   end

   -- The slot again where the base is, by the same name.
   local function rewind(slot)
      drop(slot)
      database:exec(("select pg_copy_logical_replication_slot('base', '%s')"):format(slot))
   end

   local function run(text, from)
      local result = program.run { script = text, dsn = database, deadline = b.patience,
         state = from, options = { "--once", "--log-level", "warn" } }
      assert(result.status == 0, result.stderr)
      return result
   end

   -- From here on the slot `base` is kept, and a state file that is where it is.
   local function mark(name)
      drop "ours" -- a source takes no slot that it has not made
      run(count_rows:format(name), state)
      drop "base"
      database:exec "select pg_copy_logical_replication_slot('ours', 'base')"
      return files.read(state)
   end

   local function ours(name, base, count)
      local path = scope.dir "logical" .. "/state.db"
      files.write(path, base)
      rewind "ours"
      local result = run(count_rows:format(name), path)
      assert(result.lines[#result.lines] == tostring(count), result.stdout)
      return result
   end

   -- ---- catching up ----

   local base = mark "t"
   pgbench.finish(pgbench.start_script(database, ("call write(%d);"):format(UPDATES), "-t", "1"),
      b.patience)
   local finish = database:value "select pg_current_wal_insert_lsn()"
   database:exec "create table marks (id int)" -- the log goes on beyond that
   local cpu = {}
   local function take_cpu(name, seconds)
      cpu[name] = cpu[name] or {}
      table.insert(cpu[name], seconds / UPDATES * 1e6)
   end
   local m = b.in_turns {
      function()
         rewind "theirs"
         return child.seconds({ argv = { recvlogical, "-d", database:dsn(), "-S", "theirs",
            "--start", "--no-loop", "--fsync-interval=0", "--endpos=" .. finish, "-f", "/dev/null",
            "-o", "proto_version=1", "-o", "publication_names=pgcdc" } }, b.patience)
      end,
      function()
         rewind "bare"
         local start = native.now()
         local proc = assert(native.spawn { argv = { bare_path, database:dsn(), "bare", "pgcdc",
            finish } })
         local text = child.read_all(proc, b.patience)
         local ended = proc:wait(10)
         assert(text == UPDATES .. "\n", text)
         take_cpu("bare", ended.user + ended.sys)
         return native.now() - start
      end,
      function()
         local result = ours("t", base, UPDATES)
         take_cpu("ours", result.user + result.sys)
         return result.seconds
      end,
   }
   b.say("%d transactions: pg_recvlogical %.3f s, a bare client %.3f s (%.2f µs of CPU each), "
      .. "ours %.3f s (%.2f µs)", UPDATES, m[1], m[2], b.median(cpu.bare), m[3],
      b.median(cpu.ours))
   b.line("by the log, catching up, to pg_recvlogical", ("%.2f x"):format(m[3] / m[1]),
      "<= 1.20 x", m[3] / m[1] <= 1.2)

   -- ---- latency ----

   -- Commits so many updates and waits for each; adds how long that took to figures.
   local function sample(figures, next_line)
      local list = {}
      for i = 1, SAMPLES do
         native.sleep(math.random() * 0.004)
         database:exec(("update t set amount = 0 where id = %d"):format(i))
         local start = native.now()
         next_line(tostring(i))
         list[i] = native.now() - start
      end
      table.sort(list)
      for _, p in ipairs { 50, 99 } do
         figures[p] = figures[p] or {}
         table.insert(figures[p], percentile(list, p) * 1000)
      end
   end

   local function from_pipe(proc)
      local text = ""
      return function(expected)
         while not text:find "\n" do
            text = text .. assert(proc:read("stdout", b.patience))
         end
         local line, rest = text:match "^([^\n]*)\n(.*)$"
         text = rest
         assert(line == expected, line)
      end
   end

   local bare, handler = {}, {}
   rewind "ours"
   for _ = 1, 5 do
      drop "bare"
      database:exec "select pg_create_logical_replication_slot('bare', 'pgoutput')"
      local proc = assert(native.spawn { argv = { bare_path, database:dsn(), "bare", "pgcdc" } })
      local next_line = from_pipe(proc)
      next_line "ready"
      sample(bare, next_line)
      proc:kill "KILL"
      proc:wait(10)
      run(count_rows:format "t", state) -- what was written for the other
      local watcher = program.start { script = tell_rows, dsn = database, stdout = "pipe",
         state = state }
      next_line = from_pipe(watcher.proc)
      next_line "ready"
      sample(handler, next_line)
      watcher:stop()
   end
   b.say("commit to handler: p50 %.2f ms, p99 %.2f ms; a bare client: p50 %.2f ms, p99 %.2f ms",
      b.median(handler[50]), b.median(handler[99]), b.median(bare[50]), b.median(bare[99]))
   local ratio = b.median(handler[99]) / b.median(bare[99])
   b.line("by the log, commit to handler, p99, to a bare client", ("%.2f x"):format(ratio),
      "<= 3.00 x", ratio <= 3)

   -- ---- large transactions ----

   -- What the program takes, and how long, for a transaction of so many rows.
   local function take(count, sql)
      database:exec "truncate big"
      local before = mark "big"
      database:exec(sql:format(count), b.patience)
      return ours("big", before, count)
   end

   local insert = "insert into big select i, md5(i::text) from generate_series(1, %d) i"
   local copy = "copy big (id) from program 'seq 1 %d'"
   local million = b.rows // 2
   local least = take(1000, insert).maxrss_kb
   for what, sql in pairs { INSERT = insert, COPY = copy } do
      local memory = take(million, sql).maxrss_kb
      b.line(("by the log, memory of %d rows by %s, to 1000 rows"):format(million, what),
         ("%.2f x"):format(memory / least), "<= 1.10 x", memory <= 1.1 * least)
   end
   local many = b.rows * 5 // 2
   local result = take(many, insert)
   b.line(("by the log, memory of a transaction of %d rows"):format(many),
      ("%.1f MB"):format(result.maxrss_kb / 1024), "<= 40 MB", result.maxrss_kb <= 40 * 1024)
   b.say("%.3f s, %.0f rows/s; 1000 rows take %.1f MB", result.seconds, many / result.seconds,
      least / 1024)
end
