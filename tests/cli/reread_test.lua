-- reread_test.lua: pgcdc-lua ctl snapshot: rows are read again while polls go on.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local cluster = require "cluster"
local ctl = require "ctl"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local pgbench = require "pgbench"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local TestReread = {}

local function script(fields)
   return ([[
      pgcdc.source { table = "t", interval = 0.05 %s }:on("change", function(c)
         print(c.op, c.key.id)
      end)]]):format(fields or "")
end

local function start(db, text, more)
   local options = { dsn = db, script = text }
   for name, value in pairs(more or {}) do
      options[name] = value
   end
   local p = program.start(options)
   p:wait_stderr "msg=\"?ready"
   return p
end

local function wait_lines(p, expected)
   p:wait_until(function() return #p:lines() >= #expected end)
   local lines = table.move(p:lines(), 1, #p:lines(), 1, {})
   lu.assertEquals(lines, expected)
end

function TestReread.test_a_part_is_read_again()
   local db = fixtures.names(3)
   local p = start(db, script())
   lu.assertEquals(ctl.ok(p, "snapshot", "where=id >= 2"), "public.t: is read again")
   p:wait_stderr "was read again: 2 rows"
   wait_lines(p, { "read\t1", "read\t2", "read\t3", "read\t2", "read\t3" })
   db:exec "INSERT INTO t VALUES (4, 'x')"
   wait_lines(p, { "read\t1", "read\t2", "read\t3", "read\t2", "read\t3", "upsert\t4" })
   ctl.ok(p, "snapshot")
   p:wait_stderr "was read again: 4 rows"
   lu.assertEquals(#p:stop().lines, 10)
end

function TestReread.test_a_condition_that_is_none()
   local db = fixtures.names(1)
   local p = start(db, script())
   lu.assertStrContains(ctl.fails(p, "snapshot", "where=nothing = 1"),
      'column "nothing" does not exist')
   lu.assertStrContains(ctl.fails(p, "snapshot", "where=true); SELECT (1"), "syntax error")
   lu.assertEquals(ctl.ok(p, "snapshot", "where=1 / (id - 1) = 0"), "public.t: is read again")
   p:wait_stderr "rows are not read again: .*division by zero"
   db:exec "INSERT INTO t VALUES (2, 'x')"
   wait_lines(p, { "read\t1", "upsert\t2" })
   p:stop()
end

-- ---- exact ----

local ROWS = 3000
-- Both versions are of one transaction, of which the second is often that of a savepoint.
local WRITE = [[
   \set id random(1, 3000)
   \set pause random(0, 30)
   BEGIN;
   UPDATE t SET version = version + 1 WHERE id = :id;
   %s
   SELECT pg_sleep(:pause * 0.001);
   SAVEPOINT one;
   UPDATE t SET version = version + 1 WHERE id = :id %% 100 + 1;
   %s
   RELEASE one;
   SAVEPOINT two;
   UPDATE t SET version = version + 7 WHERE id = 200;
   ROLLBACK TO two;
   COMMIT;]]

local function fill(name)
   return ([[
      CREATE TABLE %s (id int PRIMARY KEY, version int NOT NULL, filler text);
      INSERT INTO %s SELECT i, 0, repeat('x', 1500) FROM generate_series(1, %d) i;]]):format(name,
         name, ROWS)
end

local function make_table()
   return fixtures.database(fill "t")
end

-- A change as it stands in a file.
local function read_line(line)
   return { op = line:match '"op":"(%a+)"', key = tonumber(line:match '"key":{"id":(%d+)}'),
      version = tonumber(line:match '"version":(%d+)'), id = line:match '"id":"([^"]+)"',
      text = line:sub(1, 200) }
end

-- Holds what came of a table against the rules: what is read again is the version that came last,
-- nothing but reads comes twice, no key goes back, all that is there has come; by the log each
-- version has. Returns how many reads there were.
local function check(db, name, changes, is_by_log)
   local newest, seen, reads = {}, {}, 0
   for _, c in ipairs(changes) do
      local before = newest[c.key]
      newest[c.key] = c.version
      if c.op == "read" then
         lu.assertEquals(c.version, before or 0, c.text .. ": it is not what came last")
         reads = reads + 1
      else
         lu.assertTrue(c.version == before + 1 or not is_by_log and c.version > before,
            c.text .. ": came after version " .. before)
         lu.assertNil(seen[c.id], c.text .. ": came twice")
         seen[c.id] = true
      end
   end
   local came = {}
   for key = 1, ROWS do
      came[key] = ("%d %d"):format(key, newest[key] or -1)
   end
   lu.assertEquals(table.concat(came, ","), db:value(
      ("SELECT string_agg(id || ' ' || version, ',' ORDER BY id) FROM %s"):format(name)))
   return reads
end

local MOST_TOLD = 20

-- The keys whose version there is not that in the table, as text; the first ones of many.
local function differences(db, name, newest)
   local found = {}
   for _, row in ipairs(db:exec(("SELECT id, version FROM %s ORDER BY id"):format(name))) do
      local id, version = tonumber(row[1]), tonumber(row[2])
      if newest[id] ~= version then
         found[#found + 1] = ("%d: %s came, %d is there"):format(id, newest[id], version)
      end
   end
   local text = table.concat(found, "; ", 1, math.min(#found, MOST_TOLD))
   return ("%s: %d keys differ: %s"):format(name, #found, text)
end

-- What came of the table, once all that is there has. Waits as long as something comes.
local function all_that_came(db, name, path, p)
   local versions = tonumber(db:value("SELECT sum(version) FROM " .. name))
   local changes, newest, size = {}, {}, nil
   wait.moving(function()
      local now = files.size(path)
      if now == size then
         assert(p:alive(), p:stderr())
         return false
      end
      local sum, is_whole = 0, true
      size, changes, newest = now, files.lines(path, read_line), {}
      for _, c in ipairs(changes) do
         is_whole = c.key and c.version and c.id -- else the last line is being written
         if is_whole then
            sum = sum + c.version - (newest[c.key] or 0)
            newest[c.key] = c.version
         end
      end
      return is_whole and sum == versions
   end, function() return size end, 30, function()
      return differences(db, name, newest) .. "\n" .. p:stderr():sub(-2000)
   end)
   return changes
end

-- Waits until the rows of these tables were read again, each as often as the program says that it
-- begins, or goes on, with it.
local function wait_over(p, names, seconds)
   p:wait_until(function()
      for _, name in ipairs(names) do
         local said = p:stderr()
         local source = "[^\n]*source=public%." .. name
         local _, begun = said:gsub("is read again" .. source, "")
         local _, over = said:gsub("was read again" .. source, "")
         if over < math.max(begun, 1) then
            return false
         end
      end
      return true
   end, seconds)
end

-- How often it has said that a table was read again.
local function readings(p, name)
   return select(2, p:stderr():gsub("was read again[^\n]*source=public%." .. name, ""))
end

-- Waits until it has said so more often than `before` has it, of each table that is in there.
local function wait_read(p, before, seconds)
   p:wait_until(function()
      for name, count in pairs(before) do
         if readings(p, name) <= count then
            return false
         end
      end
      return true
   end, seconds)
end

-- Rows of the tables are read again, three times, while eight clients write, and the program is
-- stopped, or killed, in the middle. `attack`: tables, fields (of the sources), is_by_log, ends
-- ("stop" or "kill9").
local function run_attack(db, attack)
   local names, paths, text = attack.tables or { "t" }, {}, {}
   for i, name in ipairs(names) do
      paths[i] = scope.dir "reread" .. "/" .. name
      text[i] = ([[
         pgcdc.source { table = %q, interval = %g %s }:select { "id", "version" }
            :sink(pgcdc.sinks.jsonl { path = %q, name = %q })]]):format(name,
               attack.is_by_log and 0.5 or 0.02, attack.fields, paths[i], name)
   end
   text = table.concat(text, "\n")
   local p = start(db, text)
   local more = names[2] and { "UPDATE u SET version = version + 1 WHERE id = :id;",
      "UPDATE u SET version = version + 1 WHERE id = :id % 100 + 1;" } or { "", "" }
   local writer = pgbench.start_script(db, WRITE:format(table.unpack(more)), "-c", "8", "-T", "600")
   for round = 1, 3 do
      local before = {}
      for _, name in ipairs(names) do
         before[name] = readings(p, name)
         ctl.ok(p, "snapshot", name) -- on a busy machine: that it will be done
      end
      if round < 3 then
         p:wait_until(function()
            local again = ctl.status(p).sources[1].snapshot_again
            return again ~= json.null and again.rows > 200 * round
               or readings(p, names[1]) > before[names[1]]
         end, 30)
         p[attack.ends or "stop"](p)
         local left = {} -- where it was over, on a busy machine, the next one has nothing to do
         for name, count in pairs(before) do
            left[name] = readings(p, name) == count and 0 or nil
         end
         p = start(db, text, { state = p.state })
         p:wait_stderr('msg="ready"', 60)
         wait_read(p, left, 60)
      else
         wait_read(p, before, 60)
      end
   end
   writer:kill "TERM"
   writer:wait(wait.scaled(20))
   for i, name in ipairs(names) do
      local reads = check(db, name, all_that_came(db, name, paths[i], p), attack.is_by_log)
      -- what was updated while it was read again came as an update
      lu.assertTrue(reads > 2 * ROWS and reads <= 4 * ROWS, reads .. " reads")
   end
   p:stop()
end

function TestReread.test_exact_under_writers()
   run_attack(make_table(), { fields = "" })
end

function TestReread.test_exact_with_deletes()
   run_attack(make_table(), { fields = ", deletes = true" })
end

function TestReread.test_exact_by_triggers()
   local db = make_table()
   once.ok { bundled = "trigger", dsn = db, args = { action = "install", table = "t" } }
   run_attack(db, { fields = ", capture = 'trigger'", ends = "kill9" })
end

-- ---- several tables at one moment ----

function TestReread.test_exact_together()
   local db = make_table()
   db:exec(fill "u")
   run_attack(db, { tables = { "t", "u" }, fields = ", together = 'both', deletes = true",
      ends = "kill9" })
end

-- A target stays at one moment: both sums are equal whenever a batch is over.
function TestReread.test_together_at_one_moment()
   local db = make_table()
   db:exec(fill "u")
   local p = start(db, [[
      local sums, newest = { t = 0, u = 0 }, { t = {}, u = {} }
      for _, name in ipairs { "t", "u" } do
         local source = pgcdc.source { table = name, interval = 0.02, together = "both" }
         source:on("change", function(c)
            sums[name] = sums[name] + c.row.version - (newest[name][c.key.id] or 0)
            newest[name][c.key.id] = c.row.version
         end)
         source:on("batch", function()
            if name == "u" and sums.t ~= sums.u then
               error(("%d in t, %d in u"):format(sums.t, sums.u))
            end
         end)
      end]])
   local writer = pgbench.start_script(db, WRITE:format(
      "UPDATE u SET version = version + 1 WHERE id = :id;",
      "UPDATE u SET version = version + 1 WHERE id = :id % 100 + 1;"), "-c", "4", "-T", "3")
   for _ = 1, 2 do
      lu.assertEquals(ctl.ok(p, "snapshot", "u"), "public.u: is read again")
      lu.assertEquals(ctl.ok(p, "snapshot", "t", "where=id < 1500"), "public.t: is read again")
      wait_over(p, { "t", "u" }, 30)
   end
   pgbench.finish(writer, 60)
   lu.assertEquals(p:stop().status, 0)
end

-- ---- by the log ----

local function by_the_log(sql)
   local db = by_log.cluster():database()
   scope.add(function() by_log.drop_slots(db) end)
   db:exec(sql .. "; CREATE PUBLICATION pgcdc FOR TABLE t")
   return db
end

function TestReread.test_exact_by_the_log()
   run_attack(by_the_log(fill "t"), { fields = ", capture = 'logical'", is_by_log = true })
end

-- (Rows are kept, for old rows that the log does not have.)
function TestReread.test_exact_by_the_log_when_killed()
   run_attack(by_the_log(fill "t"), { fields = ", capture = 'logical', old = true",
      is_by_log = true, ends = "kill9" })
end

-- Rows of a savepoint look new as long as an older transaction is under way: the log says that they
-- are not.
function TestReread.test_rows_of_savepoints_by_the_log()
   local db = by_the_log [[CREATE TABLE t (id int PRIMARY KEY, v text);
      CREATE TABLE other (id int); INSERT INTO t VALUES (1, 'a'), (2, 'b')]]
   local p = start(db, script ", capture = 'logical'")
   local long = db:connect()
   long:exec "BEGIN; INSERT INTO other VALUES (1)"
   db:exec [[BEGIN; SAVEPOINT one; UPDATE t SET v = 'c' WHERE id = 2; RELEASE one;
      INSERT INTO t VALUES (3, 'd'); COMMIT]]
   wait_lines(p, { "read\t1", "read\t2", "update\t2", "insert\t3" })
   lu.assertEquals(ctl.ok(p, "snapshot"), "public.t: is read again")
   p:wait_stderr("was read again: 3 rows", 40)
   local again = table.move(p:lines(), 5, #p:lines(), 1, {})
   table.sort(again)
   lu.assertEquals(again, { "read\t1", "read\t2", "read\t3" })
   long:exec "COMMIT"
   p:stop()
end

-- A commit that waits for a standby is in the log, and not visible yet: what was before it must not
-- come again after it.
function TestReread.test_a_commit_that_nobody_sees_yet()
   local one = cluster.new { conf = by_log.conf }
   local db = by_log.database(nil, one)
   local p = start(db, [[pgcdc.source { table = "t", interval = 0.05, capture = "logical" }
      :on("change", function(c) print(c.op, c.key.id, c.row.v) end)]],
      { options = { "--log-level", "debug" } })
   one:configure { synchronous_standby_names = "nobody" }
   local x = db:connect()
   x:send "UPDATE t SET v = 'unseen' WHERE id = 1"
   wait.until_(function()
      return db:value "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'" == "1"
   end, 30, "a commit that waits")
   local told = { "read\t1\tv1", "read\t2\tv2", "read\t3\tv3", "update\t1\tunseen" }
   wait_lines(p, told)
   ctl.ok(p, "snapshot", "where=id < 3")
   p:wait_stderr "is read again"
   local _, before = p:stderr():gsub("poll: ", "")
   p:wait_until(function() return select(2, p:stderr():gsub("poll: ", "")) > before + 5 end)
   lu.assertEquals(table.move(p:lines(), 1, #p:lines(), 1, {}), told)
   one:configure { synchronous_standby_names = "" }
   x:collect()
   p:wait_stderr("was read again: 2 rows", 40)
   table.move({ "read\t2\tv2", "read\t1\tunseen" }, 1, 2, 5, told)
   wait_lines(p, told)
   p:stop()
end

-- What is read again is finished by --once, too.
function TestReread.test_once_by_the_log()
   local db = by_the_log(fill "t")
   local text = script ", capture = 'logical'"
   local p = start(db, text)
   p:wait_until(function() return #p:lines() == ROWS end)
   lu.assertEquals(ctl.ok(p, "snapshot"), "public.t: is read again")
   p:kill9()
   db:exec "UPDATE t SET version = 1 WHERE id <= 10"
   local result = once.ok { dsn = db, script = text, state = p.state }
   local before = #p:lines() - ROWS
   lu.assertTrue(before + #result.lines >= ROWS, result.stderr)
   lu.assertStrContains(result.stderr, "was read again: ")
end

function TestReread.test_what_the_log_does_not_tell_apart()
   local db = by_the_log [[CREATE TABLE t (id int[] PRIMARY KEY); INSERT INTO t VALUES ('{1}')]]
   local p = start(db, [[pgcdc.source { table = "t", capture = "logical", interval = 0.05 }
      :on("change", function() end)]])
   lu.assertStrContains(ctl.fails(p, "snapshot"), "the log does not tell its rows apart")
   p:stop()
end

return TestReread
