-- deletes_known_test.lua: what is known of rows: no insert of a row that was there, no delete of a
-- row that never came.
-- SPDX-License-Identifier: MIT

local deletes = require "deletes"
local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"
local watch = require "watch"

local TestDeletesKnown = {}

-- Runs a source with deletes that stops after <n> changes; "op key" of each.
local function run_some(db, state, n, fields)
   local result = program.run { dsn = db, state = state, options = { "--once" }, script = ([[
      local n = 0
      pgcdc.source {table = "t", deletes = true, %s on_change = function(c)
         print(c)
         n = n + 1
         if n == %d then pgcdc.stop() end
      end}]]):format(fields or "", n) }
   lu.assertEquals(result.status, 0, result.stderr)
   return deletes.ops(result.changes)
end

local BIG = [[
   CREATE TABLE t (id int PRIMARY KEY, v text);
   INSERT INTO t SELECT i, repeat('x', 2000) FROM generate_series(1, 400) i]]

-- A row that is updated while the first read is under way, before it is read, was there; one that
-- is inserted was not. Nobody can tell the two apart, so both are upserts. Later ones are told.
function TestDeletesKnown.test_rows_that_change_during_the_snapshot()
   local db, state = fixtures.database(BIG), fixtures.state()
   lu.assertEquals(#run_some(db, state, 3, "old = true,"), 3)
   db:exec "UPDATE t SET v = 'new' WHERE id IN (1, 399); INSERT INTO t VALUES (401, 'new')"
   db:exec "DELETE FROM t WHERE id IN (2, 398)"
   local ops = run_some(db, state, 1000, "old = true,")
   local last = table.move(ops, #ops - 3, #ops, 1, {})
   lu.assertEquals(#ops, 395 + 4)
   lu.assertEquals(deletes.sorted(last), { "delete 2", "update 1", "upsert 399", "upsert 401" })
   db:exec "INSERT INTO t VALUES (402, ''); UPDATE t SET v = '' WHERE id IN (399, 400)"
   lu.assertEquals(deletes.sorted(run_some(db, state, 1000, "old = true,")),
      { "insert 402", "update 399", "update 400" })
end

-- The table was made anew before its first read was over: what comes then is read, not inserted.
function TestDeletesKnown.test_a_first_read_that_begins_again()
   local db, state = fixtures.database(BIG), fixtures.state()
   run_some(db, state, 3)
   db:exec("DROP TABLE t;" .. BIG .. "; DELETE FROM t WHERE id = 2")
   local ops = run_some(db, state, 1000)
   lu.assertEquals(#ops, 397 + 1)
   lu.assertEquals(ops[1], "read 4")
   lu.assertEquals(ops[#ops], "delete 2")
end

-- A stop in the middle of a poll: rows that were read and not yet told never were there.
function TestDeletesKnown.test_a_stop_amid_inserts()
   local db = fixtures.database "CREATE TABLE t (id int PRIMARY KEY, v text)"
   local state = fixtures.state()
   lu.assertEquals(run_some(db, state, 1), {})
   db:exec "INSERT INTO t SELECT i, '' FROM generate_series(1, 6) i"
   lu.assertEquals(run_some(db, state, 2), { "insert 1", "insert 2" })
   db:exec "DELETE FROM t WHERE id IN (1, 4, 5); UPDATE t SET v = 'a' WHERE id = 6"
   lu.assertEquals(run_some(db, state, 9), { "delete 1", "insert 3", "insert 6" })
   lu.assertEquals(run_some(db, state, 9), {})
end

-- The same for an error of the script, except for the row that it failed with.
function TestDeletesKnown.test_an_error_amid_inserts()
   local db = fixtures.database "CREATE TABLE t (id int PRIMARY KEY, v text)"
   local state = fixtures.state()
   run_some(db, state, 1)
   db:exec "INSERT INTO t SELECT i, '' FROM generate_series(1, 6) i"
   local result = program.run { dsn = db, state = state, options = { "--once" }, script = [[
      pgcdc.source {table = "t", deletes = true, on_change = function(c)
         print(c)
         if c.key.id == 3 then error "no" end
      end}]] }
   lu.assertEquals(result.status, 1)
   db:exec "DELETE FROM t WHERE id IN (1, 3, 4, 5)"
   lu.assertEquals(deletes.sorted(run_some(db, state, 9)),
      { "delete 1", "delete 3", "insert 2", "insert 6" })
end

local SMALL = [[
   CREATE TABLE t (id int PRIMARY KEY, v text);
   INSERT INTO t SELECT i, 'a' FROM generate_series(1, 5) i]]

-- With start = "now" what is there is learned first, with the rows if they are wanted.
function TestDeletesKnown.test_start_now()
   local db, state = fixtures.database(SMALL), fixtures.state()
   local function run()
      local list = {}
      for i, c in ipairs((deletes.run(db, 'table = "t", start = "now", old = true', state))) do
         list[i] = ("%s %s %s"):format(c.op, c.key.id, c.old and c.old.v)
      end
      return deletes.sorted(list)
   end
   lu.assertEquals(run(), {})
   db:exec [[UPDATE t SET v = 'b' WHERE id = 1; DELETE FROM t WHERE id = 2;
      INSERT INTO t VALUES (6, 'a')]]
   lu.assertEquals(run(), { "delete 2 a", "insert 6 nil", "update 1 a" })
   db:exec "UPDATE t SET v = 'c' WHERE id = 1"
   lu.assertEquals(run(), { "update 1 b" })
   db:exec [[BEGIN; DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v text);
      INSERT INTO t VALUES (1, 'c'), (3, 'z'), (4, 'a'); COMMIT]]
   lu.assertEquals(run(), { "delete 5 a", "delete 6 a", "update 3 a" })
end

-- A source is ready once all is learned.
function TestDeletesKnown.test_start_now_is_ready_in_time()
   for _, fields in ipairs { "deletes = true", "deletes = true, old = true",
      "deletes = {interval = 0.1}", "deletes = true, skip_unchanged = true" } do
      local db = fixtures.database(SMALL)
      local p = program.start { dsn = db, script = ([[
         local source = pgcdc.source {table = "t", interval = 0.02, start = "now", %s}
         source:on("change", function(c) print(c.op, c.key.id) end)
         source:on("ready", function() print "ready" end)]]):format(fields) }
      watch.wait_ready(p)
      db:exec "UPDATE t SET v = 'a' WHERE id = 3"
      db:exec "UPDATE t SET v = 'b' WHERE id = 1; DELETE FROM t WHERE id = 2"
      watch.wait_line(p, "^delete\t2$")
      watch.wait_line(p, "^update\t1$")
      local same = watch.lines(p, "^update\t3$")
      lu.assertEquals(#same, fields:find "unchanged" and 0 or 1)
      db:exec "INSERT INTO t VALUES (2, 'a')"
      watch.wait_line(p, "^insert\t2$")
      p:stop()
   end
end

-- A kill in the first read, and in a poll: a sink that keeps its place with its data gets no delete
-- of a row that it never had, a handler may have had it.
function TestDeletesKnown.test_a_kill_before_an_exact_sink_has_it()
   for _, case in ipairs { { "true", "nothing" }, { "false", "delete" } } do
      local db, state = fixtures.database(SMALL), fixtures.state()
      local dir = scope.dir "exact"
      local function run(last)
         return program.run { dsn = db, state = state, options = { "--once" },
            args = { "dir=" .. dir }, script = ([[
            local s = pgcdc.source {table = "t", deletes = true}
            s:map(function(c)
               if c.key.id == %d then os.execute "kill -9 $PPID" end
               return c
            end):sink(pgcdc.sinks.jsonl {path = pgcdc.args.dir .. "/out.jsonl"})
            if not %s then s:on("change", function(c) end) end]]):format(last, case[1]) }
      end
      run(4)
      db:exec "DELETE FROM t WHERE id IN (2, 3)"
      lu.assertEquals(run(0).status, 0)
      db:exec "INSERT INTO t SELECT i, 'b' FROM generate_series(11, 15) i"
      run(14)
      db:exec "DELETE FROM t WHERE id IN (12, 13, 5)"
      lu.assertEquals(run(0).status, 0)
      local found = {}
      for _, line in ipairs(files.lines(dir .. "/out.jsonl")) do
         if line:find '"op":"delete"' then
            found[#found + 1] = line:match '"key":{"id":(%d+)}'
         end
      end
      lu.assertEquals(table.concat(deletes.sorted(found), " "),
         case[2] == "nothing" and "5" or "12 13 2 3 5")
   end
end

return TestDeletesKnown
