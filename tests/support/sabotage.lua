-- sabotage.lua: short runs of the program that are broken at one step, and what must hold then.
-- SPDX-License-Identifier: MIT
--
-- A scenario is a script with a snapshot, polls and sinks. It changes the table by itself, after
-- the snapshot and after each poll, and stops after the fourth, or sooner. Every write to the
-- table gives its row another number v, so that (id, v) names a version.
--
-- The broken run is followed by more changes and by a run in which nothing fails. Then what was
-- delivered by both is compared with the table: see `check` of each scenario.
--
-- A sweep has several such pairs under way at once, each lane in a coroutine and in a database of
-- its own: a run mostly waits for its server.
--
-- How runs are broken: see saboteur.c.

local by_log = require "by_log"
local cluster = require "cluster"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local tables = require "tables"
local wait = require "wait"

local sabotage = {}

-- $PGCDC_SWEEP: every how many steps one is broken, the first step, the last step.
local sweep_stride, sweep_first, sweep_last = (function()
   local numbers = {}
   for word in (os.getenv "PGCDC_SWEEP" or ""):gmatch "%d+" do
      numbers[#numbers + 1] = math.tointeger(word)
   end
   return table.unpack(numbers, 1, 3)
end)()
local sweep_lanes = math.tointeger(tonumber(os.getenv "PGCDC_SWEEP_LANES" or "")) or 4

-- In runs that nothing breaks, a program that does not watch itself will do.
local function whole_binary()
   return os.getenv "PGCDC_SWEEP_WHOLE" or program.binary()
end

local FRESH = 100 -- so many runs in a database: what they leave in it makes later ones slower

-- A database for a scenario, whose function work() inserts, updates and deletes a few rows of t;
-- row 1 is hot.
function sabotage.database(name)
   local one = name == "logical" and by_log.cluster() or cluster.main()
   local db = one:database { name = "sabotage" }
   db:exec [[
      CREATE SEQUENCE versions;
      CREATE TABLE t (id int PRIMARY KEY, v bigint NOT NULL DEFAULT nextval('versions'));
      INSERT INTO t (id) SELECT i FROM generate_series(1, 12) i;
      CREATE FUNCTION work() RETURNS void LANGUAGE sql AS $$
         INSERT INTO t (id) SELECT m + i FROM generate_series(1, 2) i, (SELECT max(id) m FROM t) x;
         UPDATE t SET v = nextval('versions')
            WHERE id = 1 OR id % 5 = (SELECT max(id) / 2 % 5 FROM t);
         DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY v LIMIT 2);
      $$]]
   if name == "trigger" then
      local result = program.run { bundled = "trigger", dsn = db, state = false,
                                   args = { action = "install", table = "t" } }
      lu.assertEquals(result.status, 0, result.stderr)
   elseif name == "logical" then
      db.forget_slots = scope.add(function() by_log.drop_slots(db) end)
      db:exec "CREATE PUBLICATION pgcdc FOR TABLE t WITH (publish_via_partition_root = true)"
   end
   return db
end

-- A database cannot be dropped before its slots.
local function drop(db)
   if db.forget_slots then
      by_log.drop_slots(db)
      db.forget_slots()
   end
   db:drop()
end

-- Scripts --------------------------------------------------------------------------------------

local HEAD = [[
local final = pgcdc.args.final
local source = pgcdc.source { table = "t", interval = 0.03, %s }
]]

local TAIL = [[
local db, rounds = pgcdc.connect(), 0
local function work()
   rounds = rounds + 1
   if rounds > tonumber(pgcdc.args.rounds) then pgcdc.stop() else db:exec "SELECT work()" end
end
if not final then
   source:on("ready", work)
   source:on("batch", work)
end
]]

-- What a table should be: id -> v, as text.
local function rows_of(conn, sql)
   local rows = {}
   for _, row in ipairs(conn:exec(sql)) do
      rows[row[1] ] = row[2]
   end
   return rows
end

local function truth(db)
   return rows_of(db, "SELECT id, v FROM t")
end

-- Follows changes {op =, id =, v =}. Exactly once: no version comes twice, nor is a row inserted
-- that is there, or updated that is not.
local function follow(list, is_once)
   local live, seen = {}, {}
   for _, c in ipairs(list) do
      if is_once and c.op ~= "delete" then
         local version = c.id .. " " .. c.v
         lu.assertNil(seen[version], "twice: " .. c.op .. " " .. version)
         seen[version] = true
         if c.op == "insert" or c.op == "read" then
            lu.assertNil(live[c.id], c.op .. " of a row that is there: " .. version)
         elseif c.op == "update" then
            lu.assertNotNil(live[c.id], "update of a row that is not there: " .. version)
         end
      end
      live[c.id] = c.op ~= "delete" and c.v or nil
   end
   return live
end

-- Changes of lines of JSON.
local function read_json(lines)
   local list = {}
   for i, line in ipairs(lines) do
      local change = json.decode(line)
      local v = type(change.row) == "table" and change.row.v
      list[i] = { op = change.op, id = tostring(change.key.id), v = v and tostring(v) }
   end
   return list
end

-- The lines of a file and of those that it was before it was rotated, in order.
local function lines_of(folder, stem, ending)
   local files = {}
   for _, name in ipairs(native.listdir(folder)) do
      local time, n = name:match("^" .. stem .. "%-(%d+T%d+Z)_?(%d*)%." .. ending .. "$")
      if time or name == stem .. "." .. ending then
         files[#files + 1] = { name = name, time = time or "9", n = tonumber(n) or 1 }
      end
   end
   table.sort(files, function(a, b)
      if a.time ~= b.time then
         return a.time < b.time
      end
      return a.n < b.n
   end)
   local lines = {}
   for _, file in ipairs(files) do
      for line in io.lines(folder .. "/" .. file.name) do
         lines[#lines + 1] = line
      end
   end
   return lines
end

local function check_jsonl(run)
   local changes = read_json(lines_of(run.dir, "out", "jsonl"))
   lu.assertEquals(follow(changes, true), truth(run.db), "jsonl")
   return changes
end

local function check_csv(run)
   local list = {}
   for _, line in ipairs(lines_of(run.dir, "table", "csv")) do
      if line ~= "op,id,v" then
         local op, id, v = line:match "^(%l+),(%d+),(%d+)$"
         lu.assertNotNil(op, line)
         list[#list + 1] = { op = op, id = id, v = v }
      end
   end
   local live, there = follow(list, false), truth(run.db)
   local seen = {}
   for _, c in ipairs(list) do
      local version = c.id .. " " .. c.v
      lu.assertNil(seen[version], "twice in the CSV: " .. version)
      seen[version] = true
   end
   for id, v in pairs(there) do -- deletes were left out
      lu.assertEquals(live[id], v, "csv")
   end
end

local function check_mirror(run)
   lu.assertEquals(rows_of(run.db, "SELECT id, v FROM m" .. run.serial), truth(run.db), "mirror")
end

local function check_versions(run)
   local h, a = "h" .. run.serial, "a" .. run.serial
   lu.assertEquals(rows_of(run.db, "SELECT id, v FROM " .. h .. " WHERE valid_to IS NULL"),
      truth(run.db), "history")
   for _, name in ipairs { h, a } do
      lu.assertEquals(run.db:value(("SELECT count(*) FROM (SELECT FROM %s GROUP BY id, v"
         .. " HAVING count(*) > 1) x"):format(name)), "0", "twice in " .. name)
   end
   lu.assertEquals(run.db:value(("SELECT count(*) FROM t LEFT JOIN %s a USING (id, v)"
      .. " WHERE a.id IS NULL"):format(a)), "0", "not in " .. a)
end

local JSONL = [[
source:sink(pgcdc.sinks.jsonl { name = "out", path = "out.jsonl", rotate = { size = 1000 } })
]]

-- By name: fields of the source, more lines of the script (or a function of the run that returns
-- them), and what must hold in the end; home: the state is in a database.
sabotage.scenarios = {
   -- nothing lost
   stdout = { "deletes = true", "source:on('change', print)\n", function(run)
      local lines = {}
      for _, result in ipairs(run.results) do
         for _, line in ipairs(result.lines) do
            lines[#lines + 1] = line
         end
      end
      lu.assertEquals(follow(read_json(lines), false), truth(run.db), "standard output")
   end },
   -- exactly once
   files = { "deletes = true, old = true", JSONL .. [[
      source:filter(function(c) return c.op ~= "delete" end):sink(pgcdc.sinks.csv {
         name = "table", path = "table.csv", columns = { "id", "v" }, meta = { "op" },
         rotate = { size = 200 } })
   ]], function(run)
      check_jsonl(run)
      check_csv(run)
   end },
   -- a count that is kept is the number of lines
   state = { "", JSONL .. [[
      local state = pgcdc.state "sums"
      source:on("change", function() state.n = (state.n or 0) + 1 end)
      if final then
         source:on("batch", function() print(state.n) end)
      end
   ]], function(run)
      local list = read_json(lines_of(run.dir, "out", "jsonl"))
      local live, seen = follow(list, true), {}
      for id, v in pairs(truth(run.db)) do
         lu.assertEquals(live[id], v)
      end
      for line in table.concat(run.results[#run.results].lines, "\n"):gmatch "%d+" do
         seen[#seen + 1] = line
      end
      lu.assertEquals(seen[#seen], tostring(#list), "the count that is kept")
   end },
   -- exactly once, with deletes for the mirror
   postgres = { "deletes = true", [[
      for name, mode in pairs { m = "mirror", a = "append", h = "history" } do
         source:sink(pgcdc.sinks.postgres { table = name .. pgcdc.args.serial, mode = mode })
      end
   ]], function(run)
      check_mirror(run)
      check_versions(run)
   end },
   -- both kinds of sinks
   both = { "deletes = true", JSONL .. [[
      source:sink(pgcdc.sinks.postgres { table = "m" .. pgcdc.args.serial })
   ]], function(run)
      check_jsonl(run)
      check_mirror(run)
   end },
   -- the same with the state in a database, and a count that is kept there
   database = { home = true, "deletes = true", JSONL .. [[
      source:sink(pgcdc.sinks.postgres { table = "m" .. pgcdc.args.serial })
      local state = pgcdc.state "sums"
      source:on("change", function() state.n = (state.n or 0) + 1 end)
   ]], function(run)
      local list = check_jsonl(run)
      check_mirror(run)
      lu.assertEquals(run.db:value(([[SELECT convert_from(value, 'UTF8') FROM pgcdc.state
         WHERE pipeline = '%s' AND kind = 'state' AND name = 'sums']]):format(run.home)),
         tostring(#list), "the count that is kept")
   end },
   -- by the log, and both kinds
   logical = { "capture = 'logical'", JSONL .. [[
      source:sink(pgcdc.sinks.postgres { table = "m" .. pgcdc.args.serial })
   ]], function(run)
      check_jsonl(run)
      check_mirror(run)
   end },
   -- by triggers, and both kinds
   trigger = { "capture = 'trigger'", JSONL .. [[
      source:sink(pgcdc.sinks.postgres { table = "m" .. pgcdc.args.serial })
   ]], function(run)
      local list = read_json(lines_of(run.dir, "out", "jsonl"))
      lu.assertEquals(follow(list, true), truth(run.db), "jsonl")
      check_mirror(run)
   end },
}

-- Runs -----------------------------------------------------------------------------------------

local serial = 0

-- A scenario with the state in the source's database: what it is started with.
local function options_of_home(run)
   run.options.state, run.home = run.db:dsn(), "s" .. run.serial
   run.options.options = { "--name", run.home, "--lease", "3" }
   run.options.env = { XDG_STATE_HOME = run.dir }
end

-- The lease of a program that was killed is over, as it would be after a while.
local function expire(run)
   if run.home then
      run.db:exec(([[DO $$ BEGIN IF to_regclass('pgcdc.lease') IS NOT NULL THEN
         UPDATE pgcdc.lease SET expires = now() WHERE pipeline = '%s'; END IF; END $$]])
         :format(run.home))
   end
end

-- Lets the other lanes of a sweep go on, or time pass.
function sabotage.rest()
   if coroutine.isyieldable() then
      coroutine.yield()
   else
      native.sleep(0.005)
   end
end

-- The end of a program, as p:finish(seconds).
function sabotage.finish(p, seconds)
   local deadline = native.now() + wait.scaled(seconds)
   while coroutine.isyieldable() and p:alive() and native.now() < deadline do
      coroutine.yield()
   end
   return p:finish(seconds)
end

-- A new place for two runs of a scenario, or of the one of that name.
local function new_run(db, name, rounds)
   serial = serial + 1
   local scenario = type(name) == "table" and name or assert(sabotage.scenarios[name])
   local dir = scope.dir "sabotage"
   local run = {
      db = db, dir = dir, serial = serial, check = scenario[3], results = {}, log = dir .. "/log",
      dirs = { dir },
      options = {
         dsn = db, state = dir .. "/state.db", cwd = dir,
         args = { serial = serial, rounds = rounds or 4 },
      },
   }
   if scenario.home then
      options_of_home(run)
   end
   local lines = type(scenario[2]) == "function" and scenario[2](run) or scenario[2]
   run.options.script = HEAD:format(scenario[1]) .. lines .. TAIL
   return run
end

local function start(run, options)
   expire(run)
   options.env = tables.merge(run.options.env, options.env)
   options.options = tables.join(run.options.options or {}, options.options or {})
   local p = program.start(setmetatable(options, { __index = run.options }))
   table.insert(run.dirs, p.dir)
   return p
end

-- Starts the broken run. <how>: class, how, step, error, peer, record; see saboteur.c. Here and
-- below it may have rounds, the number of polls, as well; and clock: by how many seconds that of
-- the whole run after it is wrong.
local function start_broken(run, how)
   local env = { SABOTAGE_LOG = run.log }
   for _, field in ipairs { "class", "how", "step", "error", "peer", "record" } do
      env["SABOTAGE_" .. field:upper()] = how[field] and tostring(how[field])
   end
   return start(run, { env = env, binary = program.binary() .. "-sabotaged" })
end

-- A program that was killed may have left a statement that still runs, work() for one.
local function wait_for_its_backends(db)
   wait.until_(function()
      return db:value [[SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name LIKE 'pgcdc-lua%']] == "0"
   end, 30, "the killed program's statements to end")
end

local function finish_clean(run, clock)
   wait_for_its_backends(run.db)
   run.db:exec "SELECT work()"
   local p = start(run, {
      args = { serial = run.serial, final = 1 }, options = { "--once" },
      binary = clock and program.binary() .. "-sabotaged" or whole_binary(),
      env = { SABOTAGE_CLOCK = clock and tostring(clock) },
   })
   local result = sabotage.finish(p, 60)
   lu.assertEquals(result.status, 0, result.stderr)
   run.results[#run.results + 1] = result
   run.check(run)
end

local function clean_up(run)
   if run.db.forget_slots then
      by_log.drop_slots(run.db)
   end
   run.db:exec(("SET client_min_messages = error; DROP TABLE IF EXISTS m%d, a%d, h%d")
      :format(run.serial, run.serial, run.serial))
   if native.listdir(run.dir .. "/pgcdc-lua") then -- of a state in a database
      scope.remove(run.dir .. "/pgcdc-lua")
   end
   for _, dir in ipairs(run.dirs) do
      scope.remove(dir)
   end
end

-- The number of steps of a run that was not broken, or nil and the call at which it was.
local function read_log(path)
   local total, call
   for line in io.lines(path) do
      call = call or line:match "^%d+ (.+)$"
      total = line:match "^(%d+)$" or total
   end
   return math.tointeger(tonumber(total)), call
end

-- A run is broken in this way, and followed by a whole one. <expect> gets the program that was just
-- started and sees to its end (with finish and rest of here, so that other lanes go on); it
-- returns its result. how.again: the run that comes next is broken as well, sooner. Returns true if
-- the step was reached.
function sabotage.once(db, name, how, expect)
   local run = new_run(db, name, how.rounds)
   local p = start_broken(run, how)
   local call
   local ok, why = pcall(function()
      run.results[1] = expect(p)
      call = select(2, read_log(run.log))
      if how.again and call then
         wait_for_its_backends(run.db)
         p = start_broken(run, setmetatable({ step = math.random(how.step) }, { __index = how }))
         run.results[2] = expect(p)
      end
      finish_clean(run, how.clock)
   end)
   if not ok then
      call = call or select(2, read_log(run.log))
      local words = {}
      for field, value in pairs(how) do
         words[#words + 1] = field .. "=" .. tostring(value)
      end
      table.sort(words)
      error(("%s, %s, at %s, in %s:\n%s\nthe broken run said:\n%s"):format(
         type(name) == "table" and name.name or name, table.concat(words, " "), call, run.dir,
         type(why) == "table" and why.msg or tostring(why), p:stderr():sub(-2000)), 0)
   end
   clean_up(run)
   return call ~= nil
end

-- How many steps a run has that nothing breaks.
local function count_steps(db, name, how)
   local run = new_run(db, name, how.rounds)
   local p = start_broken(run, { class = how.class, error = how.error, peer = how.peer })
   lu.assertEquals(p:finish(60).status, 0, p:stderr())
   local total = assert(read_log(run.log))
   clean_up(run)
   return total
end

local function set_folder(run, dir)
   run.dir, run.options.cwd, run.options.state = dir, dir, dir .. "/made/here/state.db"
end

-- A whole run, whose writes are recorded, those in folders that it makes as well. Returns the
-- path of the record, and the run.
function sabotage.record(db, name)
   local run = new_run(db, name)
   local path = run.dir .. "/record"
   set_folder(run, run.dir)
   local p = start_broken(run, { record = path })
   lu.assertEquals(p:finish(60).status, 0, p:stderr())
   return path, run
end

-- A run in which nothing fails, with the files in <dir> as they were left, and the comparison.
function sabotage.go_on(run, dir)
   set_folder(run, dir)
   finish_clean(run)
end

-- Sweeps ---------------------------------------------------------------------------------------

-- Breaks runs, each at the next step, until steps are not reached any more. Which steps there are
-- depends a little on how fast the server answers: so `patience` of them. Many problems end it too.
local function lane(sweep)
   local db, n = nil, 0
   while sweep.misses < sweep.patience and #sweep.problems < 20 and sweep.next <= sweep.stop do
      local step = sweep.next
      sweep.next = step + sweep.stride
      if n % FRESH == 0 then
         local fresh = sabotage.database(sweep.name)
         if db then
            drop(db)
         end
         db = fresh
      end
      n = n + 1
      local ok, reached = pcall(sabotage.once, db, sweep.name,
         { class = sweep.class, how = sweep.how, error = sweep.error, rounds = sweep.rounds,
           again = sweep.again, peer = sweep.peer, clock = sweep.clock, step = step }, sweep.expect)
      if not ok then
         table.insert(sweep.problems, reached)
      elseif reached then
         sweep.done, sweep.last, sweep.misses = sweep.done + 1, math.max(sweep.last, step), 0
      else
         sweep.misses = sweep.misses + 1
      end
   end
end

-- Until all have come to their ends.
local function run_lanes(n, sweep)
   local lanes = {}
   for i = 1, n do
      lanes[i] = coroutine.create(lane)
   end
   while #lanes > 0 do
      for i = #lanes, 1, -1 do
         local ok, why = coroutine.resume(lanes[i], sweep)
         if not ok then
            error(debug.traceback(lanes[i], why), 0)
         elseif coroutine.status(lanes[i]) == "dead" then
            table.remove(lanes, i)
         end
      end
      native.sleep(0.002)
   end
end

-- Breaks runs of a scenario (or the one of that name) at <n> of their steps, beginning at a random
-- one, until one is not reached any more; with PGCDC_SWEEP="STRIDE [FIRST [LAST]]" at every
-- STRIDE-th, and tells. <how>: class, how, error, peer, rounds, clock, again. Returns how many were
-- broken; raises, after the last one, what went wrong.
function sabotage.sweep(name, how, n, expect)
   local stride, lanes, started = sweep_stride, sweep_lanes, native.now()
   if not stride then
      local db = sabotage.database(name)
      stride, lanes = math.max(count_steps(db, name, how) // n, 1), 1
      drop(db)
   end
   local first = sweep_first or math.random(stride)
   local sweep = setmetatable({
      name = name, expect = expect, next = first, stop = sweep_last or math.huge, stride = stride,
      done = 0, last = 0, misses = 0, patience = sweep_stride and 3 or 1, problems = {},
   }, { __index = how })
   run_lanes(lanes, sweep)
   if sweep_stride then
      io.write(("%d runs broken, at step %d to %d by %d, %d wrong, %.0f s ... "):format(
         sweep.done + #sweep.problems, first, sweep.last, stride, #sweep.problems,
         native.now() - started))
   end
   if #sweep.problems > 0 then -- some: luaunit chews long on long messages
      error(("%d runs went wrong\n%s"):format(#sweep.problems,
         table.concat(sweep.problems, "\n\n", 1, math.min(#sweep.problems, 4))), 0)
   end
   return sweep.done
end

return sabotage
