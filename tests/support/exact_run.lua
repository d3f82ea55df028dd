-- exact_run.lua: one run of the exactness test: writers at work, the program watching, trouble.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local checker = require "exact_checker"
local crew = require "exact_crew"
local exact_log = require "exact_log"
local native = require "native"
local program = require "program"
local scope = require "scope"
local wait = require "wait"
local writers = require "exact_writers"

local run = {}

-- Prepared transactions outlive their sessions, and would keep the database from being dropped.
local function roll_back_prepared(db)
   if db.cluster:running() then
      for _, row in ipairs(db:exec [[
            select format('rollback prepared %L', gid) from pg_prepared_xacts
               where database = current_database()]]) do
         db:exec(row[1])
      end
   end
end

-- The watcher of the program: takes its lines and, at random moments, makes trouble.
local Watcher = {}
Watcher.__index = Watcher

local function start_program(self)
   self.program = program.start {
      script = checker.script, dsn = self.dsn, state = self.state,
      args = { tables = table.concat(self.checker.tables, ","), capture = self.capture or "xmin",
         deletes = self.checker.deletes, hints = self.hints or "auto",
         parallel = self.parallel, calm = self.calm or "" },
      options = self.hints and { "--log-level", "debug" },
   }
   self.taken = 0
end

local function take_lines(self)
   local lines = self.program:lines()
   for i = self.taken + 1, #lines do
      self.checker:take(lines[i])
   end
   self.taken = #lines
   for name in pairs(self.log and self.checker.ready or {}) do
      self.log:note_ready(name, self.admin)
   end
end

-- True if the program has read all tables of the writers.
local function are_ready(text)
   for _, name in ipairs(writers.tables) do
      if not text:find(('"ready" source=public.%s\n'):format(name), 1, true) then
         return false
      end
   end
   return true
end

local function terminate_backends(self)
   local pids = self.admin:exec [[
      select pid from pg_stat_activity where application_name = 'exact' order by backend_start]]
   for _, row in ipairs(pids) do
      if self.rng:chance(70) then
         self.admin:exec("select pg_terminate_backend(" .. row[1] .. ")")
         self.stats.terminated = self.stats.terminated + 1
      end
   end
end

local function kill_program(self)
   self.program:kill9()
   take_lines(self)
   if self.killed then
      self.killed(self.program:stderr())
   end
   self.program:discard()
   if self.log then
      self.log:begin_life()
   end
   start_program(self)
   self.stats.killed = self.stats.killed + 1
end

local function crash_server(self)
   self.admin:kill9()
   self.admin:start()
   self.stats.crashed = self.stats.crashed + 1
end

-- Called again and again while the writers work.
function Watcher:watch()
   take_lines(self)
   -- a table rewritten while its snapshot is read is read again: repeats that are promised
   local is_ready = are_ready(self.program:stderr())
      or self.log ~= nil and self.log:is_ready(writers.tables)
   self.stats.may_rewrite = self.stats.may_rewrite or self.with_kills or is_ready
   self.stats.may_alter = self.stats.may_alter or is_ready
   self.stats.patience = self.is_hasty and not is_ready and 0.05 or 1
   if native.now() < self.next_trouble or self.is_hasty and not is_ready then
      return
   end
   if not self.program:alive() then
      error("the program has ended\n" .. self.program:describe(), 0)
   end
   -- a slot is made when all who write have ended once: ever more peace for that
   local is_early = self.log and not is_ready
   self.peace = is_early and 2 * (self.peace or 0.3) or 0.8
   self.next_trouble = native.now()
      + self.rng:float(is_early and self.peace / 2 or 0.05, self.peace)
   if self.with_crashes and self.rng:chance(self.stats.crashed == 0 and 60 or 10) then
      crash_server(self)
   elseif self.with_kills and self.rng:chance(70) then
      if not self.may_kill or self.may_kill(self.program) then
         kill_program(self)
      end
   else
      terminate_backends(self)
   end
end

-- Waits until the marks came through.
function Watcher:finish()
   wait.until_(function()
      take_lines(self)
      return self.checker:is_complete() or not self.program:alive()
   end, 60, function() return "the marks\n" .. self.program:describe() end)
   return self.program:stop()
end

-- A database with the tables, and another one, or those that run.prepare made. options: see
-- run.random.
local function set_up(options)
   if options.prepared then
      return table.unpack(options.prepared)
   end
   local primary = options.cluster
   local db, other = primary:database { name = "exact" }, primary:database { name = "elsewhere" }
   writers.create(db)
   if options.capture == "trigger" then -- two-phase commits and NOTIFY exclude each other
      local result = program.run { bundled = "trigger", dsn = db, state = false,
         args = { action = "install", table = table.concat(writers.tables, ","), notify = "no" } }
      assert(result.status == 0, result.stderr)
      writers.stamp_history(db)
   end
   local log
   if options.capture == "logical" then
      scope.add(function() by_log.drop_slots(db) end)
      db:exec(("create publication pgcdc for table %s with (publish_via_partition_root = true)")
         :format(table.concat(writers.tables, ",")))
      log = exact_log.new(db, writers.leaves)
   end
   scope.add(function() roll_back_prepared(db) end)
   if options.before then
      options.before(db)
   end
   local source = options.standby or primary
   local dsn = source:dsn(db.name, { application_name = "exact" })
   if options.standby then
      options.standby:wait_replay()
   end
   return db, other, dsn, log
end

-- Makes the tables before run.random does, for what is to happen to them first. They are kept in
-- <options>, which run.random must get.
function run.prepare(options)
   options.prepared = { set_up(options) }
end

-- Writers work for options.seconds on options.cluster while the program reads it, or
-- options.standby. options.seed; options.kills: the program is killed again and again;
-- options.crashes: the server is, now and then; options.hasty: no transaction is long, and nothing
-- is cut or killed, before the sources are ready; options.capture, options.deletes, options.hints,
-- options.parallel: as a source has them; options.killed: is called with what the program has
-- logged, after it was killed and before it is started again; options.may_kill: given the program,
-- says whether it is killed yet; options.calm_tables: names of more tables, "a,b", which are read
-- too; options.before: is given the database, with its tables, before the program starts, and may
-- restart the cluster; options.enough: the writers go on until it, given the program, returns true,
-- and until there was trouble of options.kinds. Returns the checker, after its comparison; the
-- statistics; the result of the program.
function run.random(options)
   local db, other, dsn, log = set_up(options)
   local rng = crew.random(options.seed)
   local stats, team = writers.new_stats(), crew.new()
   local function add(where, work)
      local function connect() return where:connect() end
      team:add(connect(), crew.random(rng:int(1, 1 << 60)), work, options.crashes and connect)
   end
   for i = 1, 8 do
      add(db, writers.write(("%s_%d"):format(db.name, i), stats))
   end
   add(other, writers.stand_in_the_way(stats))
   add(db, writers.vacuum(stats))
   if log then
      add(db, writers.alter(stats))
   end
   local watcher = setmetatable({
      dsn = dsn, state = scope.dir "exact" .. "/state.db", rng = rng, with_kills = options.kills,
      stats = stats, capture = options.capture, log = log, with_crashes = options.crashes,
      is_hasty = options.hasty, hints = options.hints, parallel = options.parallel,
      calm = options.calm_tables, killed = options.killed, may_kill = options.may_kill,
      checker = checker.new { tables = writers.tables, repeats = options.kills,
         deletes = options.deletes, stamps = options.capture == "trigger", log = log },
      admin = options.standby or options.cluster,
      next_trouble = native.now() + rng:float(0.02, 0.5),
   }, Watcher)
   if options.calm then
      watcher.next_trouble = math.huge
   end
   start_program(watcher)
   local function enough()
      for _, kind in ipairs(options.kinds or {}) do
         if stats[kind] == 0 then
            return false, ("no transaction was %s\n%s"):format(kind, watcher.program:describe())
         end
      end
      if log and not log:is_ready(writers.tables) then
         return false, "not all sources are ready"
      elseif log and #log.heard <= 200 then
         return false, ("only %d changes came by the log"):format(#log.heard)
      end
      return not options.enough or options.enough(watcher.program),
         "what the test waits for does not come"
   end
   team:run(options.seconds, function() watcher:watch() end, enough)
   watcher.checker:mark(db:connection())
   local result = watcher:finish()
   watcher.checker:compare(db:connection())
   stats.may_rewrite, stats.may_alter, stats.patience = nil, nil, nil
   return watcher.checker, stats, result
end

-- hunt(rows) ends the connection of the next poll that has sent that many rows, and locks the
-- table, so that the poll after it waits until all who write have committed. False: there was none
-- within 5 s.
local hunter = [[
   create function hunt(rows int) returns bool language plpgsql as $$
   declare
      give_up timestamptz := clock_timestamp() + interval '5 s';
   begin
      while clock_timestamp() < give_up loop
         perform pg_stat_clear_snapshot();
         perform pg_terminate_backend(pid) from pg_stat_progress_copy join pg_stat_activity
            using (pid) where application_name = 'exact' and tuples_processed >= rows;
         if found then
            lock table big in access exclusive mode;
            return true;
         end if;
         perform pg_sleep(0.0005);
      end loop;
      return false;
   end $$]]

-- Cuts the next big poll, and commits on <writer> before the one after it. Whether one was cut.
local function cut_poll(watcher, rows, db, writer)
   local admin = watcher.admin
   assert(admin:send(("select hunt(%d)"):format(rows)))
   wait.until_(function()
      return not admin:busy() or db:value(
         "select 1 from pg_locks where not granted and pid = " .. admin:pid())
   end, 30, "the lock")
   writer:exec "commit"
   local found = assert(admin:collect(wait.scaled(30)))
   take_lines(watcher)
   return found[1][1] == "t"
end

-- Big polls lose their connection in the middle, twice in a row. Between the two an older
-- transaction commits. Returns the checker and how often a poll was cut twice.
function run.cut(options)
   local db, _, dsn = set_up(options)
   db:exec "create table big (k int primary key, v bigint not null, pad text not null default '')"
   db:exec(hunter)
   local watcher = setmetatable({
      dsn = dsn, state = scope.dir "exact" .. "/state.db", admin = db:connect(),
      checker = checker.new { tables = { "big" } },
   }, Watcher)
   start_program(watcher)
   watcher.program:wait_stderr "ready"
   local one, many, twice = [[insert into big select k, bump('big', k), repeat('x', 1800)
      from generate_series(%d, %d) k]],
      -- each row by a subtransaction of its own: wherever the poll is cut, an xid is complete
      [[do $$ begin for k in %d .. %d loop
         begin
            insert into big values (k, bump('big', k), repeat('x', 1800));
         exception when unique_violation then null;
         end;
      end loop; end $$]], 0
   local older, newer = db:connect(), db:connect()
   for i = 1, options.polls do
      older:exec("begin;" .. (i % 2 == 0 and one or many):format(i * 100000, i * 100000 + 10000))
      newer:exec("begin;" .. (i % 2 == 0 and many or one):format(i * 100000 + 20000,
         i * 100000 + 30000))
      newer:exec "commit"
      if cut_poll(watcher, 3000, db, older) and cut_poll(watcher, 6000, db, newer) then
         twice = twice + 1
      end
   end
   watcher.checker:mark(db:connection())
   watcher:finish()
   watcher.checker:compare(db:connection())
   return watcher.checker, twice
end

-- The interleaving that slips through simpler rules: a transaction with a savepoint is open while a
-- later one commits and is delivered; then it commits. Returns the checker.
function run.scripted(options)
   local db, _, dsn = set_up(options)
   local old, new = db:connect(), db:connect()
   local watcher = setmetatable({
      dsn = dsn, state = scope.dir "exact" .. "/state.db",
      checker = checker.new { tables = writers.tables },
   }, Watcher)
   local function wait_for(k)
      watcher.program:wait_until(function()
         take_lines(watcher)
         return watcher.checker.last.plain[k]
      end, 20, "row " .. k)
   end
   start_program(watcher)
   wait_for(1)
   old:exec "begin; insert into plain values (2, bump('plain', 2))"
   old:exec "savepoint s; insert into plain values (4, bump('plain', 4)); release s"
   old:exec "savepoint s; update plain set v = bump('plain', 1) where k = 1"
   new:exec "insert into plain values (6, bump('plain', 6))"
   wait_for(6)
   old:exec "commit"
   watcher.checker:mark(db:connection())
   watcher:finish()
   watcher.checker:compare(db:connection())
   return watcher.checker
end

return run
