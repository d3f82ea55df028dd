-- sabotage.lua: short runs of the program that are broken at one step, and what must hold then.
-- SPDX-License-Identifier: MIT
--
-- A scenario is a script with a snapshot, polls and sinks. It changes the table by itself, behind
-- the snapshot and behind each poll, and stops behind the third. Every write to the table
-- gives its row another number v, so that (id, v) names a version.
--
-- The broken run is followed by more changes and by a run in which nothing fails. Then what was
-- delivered by both is compared with the table: see `check` of each scenario.
--
-- How runs are broken: see saboteur.c.

local cluster = require "cluster"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"

local sabotage = {}

local sweep_stride = math.tointeger(tonumber(os.getenv "PGCDC_SWEEP" or ""))

-- A database whose function work() inserts, updates and deletes a few rows of t.
function sabotage.database()
   local db = cluster.main():database {name = "sabotage"}
   db:exec [[
      CREATE SEQUENCE versions;
      CREATE TABLE t (id int PRIMARY KEY, v bigint NOT NULL DEFAULT nextval('versions'));
      INSERT INTO t (id) SELECT i FROM generate_series(1, 12) i;
      CREATE FUNCTION work() RETURNS void LANGUAGE sql AS $$
         INSERT INTO t (id) SELECT m + i FROM generate_series(1, 2) i, (SELECT max(id) m FROM t) x;
         UPDATE t SET v = nextval('versions') WHERE id % 5 = (SELECT max(id) / 2 % 5 FROM t);
         DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY v LIMIT 2);
      $$]]
   return db
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
   if rounds > 4 then pgcdc.stop() else db:exec "SELECT work()" end
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
      list[i] = {op = change.op, id = tostring(change.key.id), v = v and tostring(v)}
   end
   return list
end

-- The lines of a file and of those that it was before it was rotated, in order.
local function lines_of(folder, stem, ending)
   local files = {}
   for _, name in ipairs(native.listdir(folder)) do
      local time, n = name:match("^" .. stem .. "%-(%d+T%d+Z)_?(%d*)%." .. ending .. "$")
      if time or name == stem .. "." .. ending then
         files[#files + 1] = {name = name, time = time or "9", n = tonumber(n) or 1}
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
         list[#list + 1] = {op = op, id = id, v = v}
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
   for _, name in ipairs {h, a} do
      lu.assertEquals(run.db:value(("SELECT count(*) FROM (SELECT FROM %s GROUP BY id, v"
         .. " HAVING count(*) > 1) x"):format(name)), "0", "twice in " .. name)
   end
   lu.assertEquals(run.db:value(("SELECT count(*) FROM t LEFT JOIN %s a USING (id, v)"
      .. " WHERE a.id IS NULL"):format(a)), "0", "not in " .. a)
end

local JSONL = [[
source:sink(pgcdc.sinks.jsonl { name = "out", path = "out.jsonl", rotate = { size = 1000 } })
]]

-- By name: fields of the source, more lines of the script, and what must hold in the end.
sabotage.scenarios = {
   -- nothing lost
   stdout = {"deletes = true", "source:on('change', print)\n", function(run)
      local lines = {}
      for _, result in ipairs(run.results) do
         for _, line in ipairs(result.lines) do
            lines[#lines + 1] = line
         end
      end
      lu.assertEquals(follow(read_json(lines), false), truth(run.db), "standard output")
   end},
   -- exactly once
   files = {"deletes = true, old = true", JSONL .. [[
      source:filter(function(c) return c.op ~= "delete" end):sink(pgcdc.sinks.csv {
         name = "table", path = "table.csv", columns = { "id", "v" }, meta = { "op" },
         rotate = { size = 200 } })
   ]], function(run)
      check_jsonl(run)
      check_csv(run)
   end},
   -- a count that is kept is the number of lines
   state = {"", JSONL .. [[
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
   end},
   -- exactly once, with deletes for the mirror
   postgres = {"deletes = true", [[
      for name, mode in pairs { m = "mirror", a = "append", h = "history" } do
         source:sink(pgcdc.sinks.postgres { table = name .. pgcdc.args.serial, mode = mode })
      end
   ]], function(run)
      check_mirror(run)
      check_versions(run)
   end},
   -- both kinds of sinks
   both = {"deletes = true", JSONL .. [[
      source:sink(pgcdc.sinks.postgres { table = "m" .. pgcdc.args.serial })
   ]], function(run)
      check_jsonl(run)
      check_mirror(run)
   end},
   -- by triggers, and both kinds
   trigger = {"capture = 'trigger'", JSONL .. [[
      source:sink(pgcdc.sinks.postgres { table = "m" .. pgcdc.args.serial })
   ]], function(run)
      local list = read_json(lines_of(run.dir, "out", "jsonl"))
      lu.assertEquals(follow(list, true), truth(run.db), "jsonl")
      check_mirror(run)
   end},
}

-- Runs -----------------------------------------------------------------------------------------

local serial = 0

-- A new place for two runs of a scenario.
local function new_run(db, name)
   serial = serial + 1
   local scenario = assert(sabotage.scenarios[name])
   local dir = scope.dir "sabotage"
   return {
      db = db, dir = dir, serial = serial, check = scenario[3], results = {}, log = dir .. "/log",
      options = {
         dsn = db, state = dir .. "/state.db", cwd = dir, args = {serial = serial},
         script = HEAD:format(scenario[1]) .. scenario[2] .. TAIL,
      },
   }
end

-- Starts the broken run. <how>: class, how, step, error, record; see saboteur.c.
local function start_broken(run, how)
   local env = {SABOTAGE_LOG = run.log}
   for field, value in pairs(how) do
      env["SABOTAGE_" .. field:upper()] = tostring(value)
   end
   return program.start(setmetatable(
      {env = env, binary = program.binary() .. "-sabotaged"}, {__index = run.options}))
end

local function finish_clean(run)
   run.db:exec "SELECT work()"
   local args = {serial = run.serial, final = 1}
   local result = program.run(setmetatable({args = args, options = {"--once"}},
      {__index = run.options}))
   lu.assertEquals(result.status, 0, result.stderr)
   run.results[#run.results + 1] = result
   run.check(run)
end

local function clean_up(run)
   for _, name in ipairs {"m", "a", "h"} do
      run.db:exec(("SET client_min_messages = error; DROP TABLE IF EXISTS %s%d")
         :format(name, run.serial))
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

-- A run is broken in this way, and followed by a whole one. <judge> gets the program that was just
-- started and sees to its end; it returns its result. Returns true if the step was reached.
function sabotage.once(db, name, how, judge)
   local run = new_run(db, name)
   local p = start_broken(run, how)
   local call
   local ok, why = pcall(function()
      run.results[1] = judge(p)
      call = select(2, read_log(run.log))
      finish_clean(run)
   end)
   if not ok then
      call = call or select(2, read_log(run.log))
      local words = {}
      for field, value in pairs(how) do
         words[#words + 1] = field .. "=" .. tostring(value)
      end
      table.sort(words)
      error(("%s, %s, at %s:\n%s\nthe broken run said:\n%s"):format(name, table.concat(words, " "),
         call, type(why) == "table" and why.msg or tostring(why), p:stderr():sub(-2000)), 0)
   end
   clean_up(run)
   return call ~= nil
end

-- How many steps a run has that nothing breaks.
local function count_steps(db, name, how)
   local run = new_run(db, name)
   local p = start_broken(run, {class = how.class, error = how.error})
   lu.assertEquals(p:finish(60).status, 0, p:stderr())
   clean_up(run)
   return (assert(read_log(run.log)))
end

-- A whole run, whose writes are recorded. Returns the path of the record, and the run.
function sabotage.record(db, name)
   local run = new_run(db, name)
   local path = run.dir .. "/record"
   local p = start_broken(run, {record = path})
   lu.assertEquals(p:finish(60).status, 0, p:stderr())
   return path, run
end

-- A run in which nothing fails, with the files in <dir> as they were left, and the comparison.
function sabotage.go_on(run, dir)
   run.dir, run.options.cwd, run.options.state = dir, dir, dir .. "/state.db"
   finish_clean(run)
end

-- Breaks runs of a scenario at <n> of their steps, beginning at a random one, until one is not
-- reached any more; with PGCDC_SWEEP=STRIDE at every STRIDE-th. Returns how many were broken;
-- raises, behind the last one, what went wrong.
function sabotage.sweep(db, name, how, n, judge)
   local stride = sweep_stride or math.max(count_steps(db, name, how) // n, 1)
   local done, step, problems = 0, math.random(stride), {}
   repeat
      local ok, reached = pcall(sabotage.once, db, name,
         {class = how.class, how = how.how, error = how.error, step = step}, judge)
      if not ok then
         problems[#problems + 1] = reached
      end
      done = done + (reached and 1 or 0)
      step = step + stride
   until not reached or #problems >= 20
   if #problems > 0 then
      error(table.concat(problems, "\n\n"), 0)
   end
   return done
end

return sabotage
