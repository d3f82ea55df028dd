-- logical_test.lua: capture = "logical", changes by the server's log.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local killing = require "killing"
local log_history = require "log_history"
local lu = require "luaunit"
local native = require "native"
local pgbench = require "pgbench"
local program = require "program"
local proxy = require "proxy"
local scope = require "scope"
local tables = require "tables"
local wait = require "wait"
local watch = require "watch"

local TestLogical = {}

local conf = { wal_level = "logical", max_replication_slots = "20", max_wal_senders = "20" }
local shared

-- A cluster that writes what decoding needs.
local function logical_cluster()
   shared = shared or cluster.new { name = "logical", keep = true, conf = conf }
   return shared
end

-- A database cannot be dropped before its slots.
local function drop_slots(db)
   wait.until_(function()
      return db:value [[SELECT count(*) FROM (SELECT CASE WHEN active_pid IS NOT NULL
         THEN pg_terminate_backend(active_pid) ELSE pg_drop_replication_slot(slot_name) IS NULL END
         FROM pg_replication_slots WHERE database = current_database()) s]] == "0"
   end, 20, "the end of all slots")
end

-- A database with a table t of three rows, in a publication.
local function database(sql, one)
   local db = (one or logical_cluster()):database()
   scope.add(function() drop_slots(db) end)
   db:exec [[CREATE TABLE t (id int PRIMARY KEY, v text);
      INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 3) n;
      CREATE PUBLICATION pgcdc FOR TABLE t WITH (publish_via_partition_root = true)]]
   if sql then
      db:exec(sql)
   end
   return db
end

local function start(db, more)
   local options = { source = { capture = "logical", interval = 0.5 } }
   for name, value in pairs(more or {}) do
      options[name] = value
   end
   return watch.start(db, options)
end

-- The slot of the database, as text.
local function slot(db, what)
   return db:value("SELECT " .. what .. " FROM pg_replication_slots"
      .. " WHERE database = current_database()")
end

-- What was delivered, as words: "r1 u2 d3".
local function words(p)
   local list = {}
   for i, change in ipairs(p:changes()) do
      local value = change.op ~= "delete" and "=" .. tostring(change.row.v) or ""
      list[i] = change.op:sub(1, 1) .. change.key.id .. value
   end
   return table.concat(list, " ")
end

local function wait_words(p, expected)
   local ok, why = pcall(p.wait_until, p, function() return words(p) == expected end, 20, expected)
   lu.assertTrue(ok, words(p) .. '  ' .. tostring(why))
end

function TestLogical.test_first_read_then_the_log()
   local db = database()
   local p = start(db)
   watch.wait_ready(p)
   wait_words(p, "r1=v1 r2=v2 r3=v3")
   db:exec "UPDATE t SET v = 'a' WHERE id = 1"
   db:exec "UPDATE t SET v = 'b' WHERE id = 1"
   db:exec "BEGIN; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (4, 'x'); COMMIT"
   wait_words(p, "r1=v1 r2=v2 r3=v3 u1=a u1=b d2 i4=x")
   p:stop()
end

function TestLogical.test_restart_goes_on_where_it_was()
   local db = database()
   local p = start(db)
   watch.wait_ready(p)
   db:exec "INSERT INTO t VALUES (4, 'x')"
   wait_words(p, "r1=v1 r2=v2 r3=v3 i4=x")
   p:stop()
   db:exec "UPDATE t SET v = 'a' WHERE id = 4; UPDATE t SET v = 'b' WHERE id = 4"
   db:exec "DELETE FROM t WHERE id = 1"
   local again = start(db, { state = p.state })
   wait_words(again, "u4=a u4=b d1")
   again:stop()
end

-- The server is told what is saved, and nothing before that.
function TestLogical.test_what_is_saved_is_confirmed()
   local db = database()
   local p = start(db)
   watch.wait_ready(p)
   db:exec "INSERT INTO t VALUES (4, 'x')"
   local lsn = db:value "SELECT pg_current_wal_insert_lsn()"
   wait.until_(function()
      return slot(db, ("confirmed_flush_lsn >= '%s'"):format(lsn)) == "t"
   end, 30, "a confirmed slot")
   p:stop()
end

-- A switch of capture by one word loses nothing and repeats nothing.
function TestLogical.test_from_xmin_and_back()
   local db = database()
   local function once(capture)
      local result = watch.once(db, db.state, { capture = capture })
      db.state = result.program.state
      local p = result.program
      return words(p)
   end
   lu.assertEquals(once "xmin", "r1=v1 r2=v2 r3=v3")
   db:exec "UPDATE t SET v = 'a' WHERE id = 1"
   lu.assertEquals(once "logical", "u1=a")
   db:exec "UPDATE t SET v = 'b' WHERE id = 1; UPDATE t SET v = 'c' WHERE id = 1"
   db:exec "BEGIN; INSERT INTO t VALUES (4, 'x'); DELETE FROM t WHERE id = 2; COMMIT"
   lu.assertEquals(once "logical", "u1=b u1=c i4=x d2")
   db:exec "UPDATE t SET v = 'y' WHERE id = 4"
   lu.assertEquals(once "xmin", "u4=y")
   lu.assertEquals(once "xmin", "")
   db:exec "UPDATE t SET v = 'z' WHERE id = 4"
   lu.assertEquals(once "logical", "u4=z")
   lu.assertEquals(once "logical", "")
end

-- What comes while the script is busy is one batch, however many transactions it was: each is saved
-- for itself, which may take its time.
function TestLogical.test_small_transactions_share_a_batch()
   local db = database()
   local p = start(db, { stdin = "pipe", more = [[
      local is_held = true
      source:on("change", function(change)
         if change.op == "insert" and is_held then
            print "held"
            io.stdout:flush()
            assert(io.read "l" == "go")
            is_held = false
         end
      end)
      source:on("batch", function(batch) print("batch " .. batch.count) end)]] })
   watch.wait_ready(p)
   db:exec "INSERT INTO t VALUES (100, 'x')"
   watch.wait_line(p, "^held$")
   for i = 101, 160 do
      db:exec(("INSERT INTO t VALUES (%d, 'x')"):format(i))
   end
   p.proc:write "go\n"
   p:wait_changes(64, 20)
   wait.until_(function() return select(2, p:stdout():gsub("batch", "")) >= 3 end, 20, "batches")
   p:stop()
   local batches = watch.lines(p, "^batch")
   lu.assertTrue(#batches <= 6, table.concat(batches, ", "))
end

-- A source whose handler fails is paused, and what comes for it waits. Those of another slot go on.
function TestLogical.test_a_paused_source_holds_no_other_slot_up()
   local db = database [[CREATE TABLE u (id int PRIMARY KEY);
      ALTER PUBLICATION pgcdc ADD TABLE u]]
   local p = start(db, { source = { capture = "logical", interval = 60 },
      more = [[
      local failing = pgcdc.source {table = "u", capture = "logical", interval = 60,
                                    slot = "apart", on_error = {retry = 1000, wait = 60}}
      failing:on("change", function() error "not now" end)
      failing:on("ready", function() print "u is ready" end)]] })
   local function wait_soon(expected) -- before a step, which comes after 10 s
      lu.assertTrue(pcall(p.wait_until, p, function() return words(p) == expected end, 5), words(p))
   end
   watch.wait_ready(p)
   watch.wait_line(p, "^u is ready$")
   db:exec "INSERT INTO u VALUES (1)"
   p:wait_stderr "not now"
   db:exec "INSERT INTO u VALUES (2)"
   db:exec "INSERT INTO t VALUES (4, 'x')"
   wait_soon "r1=v1 r2=v2 r3=v3 i4=x"
   db:exec "INSERT INTO u VALUES (3); INSERT INTO t VALUES (5, 'y')"
   db:exec "UPDATE t SET v = 'z' WHERE id = 5"
   wait_soon "r1=v1 r2=v2 r3=v3 i4=x i5=y u5=z"
   -- a transaction may not end in its middle: it is not waited for if that is in vain
   p.proc:kill "TERM"
   lu.assertEquals(p:finish(10).status, 0)
end

-- A step that took longer than its interval was due again as soon as it was over. So one source
-- took its steps for ever, the log was not read, and the others did not become ready.
function TestLogical.test_steps_that_take_longer_than_their_interval()
   local db = database [[CREATE TABLE u (id int PRIMARY KEY);
      ALTER PUBLICATION pgcdc ADD TABLE u; CREATE TABLE elsewhere (n int)]]
   local between = proxy.new(db)
   between:pace(200, 0.001)
   local writer = db:connect() -- each step has something to read
   writer:send [[DO $$ BEGIN LOOP
      INSERT INTO elsewhere VALUES (1);
      COMMIT;
      PERFORM pg_sleep(0.001);
   END LOOP; END $$]]
   local p = start(db, { dsn = between:dsn(), source = { capture = "logical", interval = 0.01 },
      more = [[
      local other = pgcdc.source {table = "u", capture = "logical", interval = 0.01}
      other:on("change", function(c) print("u", c.key.id) end)
      other:on("ready", function() print "u is ready" end)]] })
   watch.wait_ready(p, 20)
   watch.wait_line(p, "^u is ready$", 20)
   for i = 1, 3 do
      db:exec(("INSERT INTO t VALUES (%d, 'x'); INSERT INTO u VALUES (%d)"):format(10 + i, i))
      watch.wait_line(p, ("^u\t%d$"):format(i), 20)
   end
   wait_words(p, "r1=v1 r2=v2 r3=v3 i11=x i12=x i13=x")
   p:stop()
   writer:close()
end

function TestLogical.test_columns_that_change()
   local db = database()
   local p = start(db)
   watch.wait_ready(p)
   db:exec "INSERT INTO t VALUES (4, 'x')"
   wait_words(p, "r1=v1 r2=v2 r3=v3 i4=x")
   db:exec "ALTER TABLE t ADD COLUMN w text"
   db:exec "INSERT INTO t VALUES (5, 'y', 'new')"
   wait_words(p, "r1=v1 r2=v2 r3=v3 i4=x i5=y")
   lu.assertEquals(p:changes()[5].row.w, "new")
   db:exec "ALTER TABLE t DROP COLUMN w"
   db:exec "INSERT INTO t VALUES (6, 'z')"
   wait_words(p, "r1=v1 r2=v2 r3=v3 i4=x i5=y i6=z")
   lu.assertNil(p:changes()[6].row.w)
   p:stop()
end

function TestLogical.test_a_key_that_changes()
   local db = database()
   local p = start(db)
   watch.wait_ready(p)
   db:exec "UPDATE t SET id = 9 WHERE id = 1"
   wait_words(p, "r1=v1 r2=v2 r3=v3 d1 i9=v1")
   db:exec "ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET id = 8, v = 'b' WHERE id = 9"
   db:exec "UPDATE t SET v = 'c' WHERE id = 8; DELETE FROM t WHERE id = 8"
   wait_words(p, "r1=v1 r2=v2 r3=v3 d1 i9=v1 d9 i8=b u8=c d8")
   p:stop()
end

-- A truncate is told where it stands among the rows, once.
function TestLogical.test_truncate()
   local db = database "CREATE TABLE u (id int); ALTER PUBLICATION pgcdc ADD TABLE u"
   local p = start(db, { more = [[
      source:on("truncate", function(e) print("truncate " .. e.source) end)]] })
   watch.wait_ready(p)
   local before = #p:lines()
   local function told()
      local list = {}
      for i, line in ipairs(p:lines()) do
         list[i - before] = line:match '"op":"(%a+)"' or line
      end
      return table.concat(list, ", ")
   end
   local function wait_told(expected)
      local ok = pcall(p.wait_until, p, function() return told() == expected end, 20, expected)
      lu.assertTrue(ok, told())
   end
   db:exec [[BEGIN; INSERT INTO t VALUES (4, 'x'); TRUNCATE u, t; INSERT INTO t VALUES (4, 'y');
      COMMIT]]
   db:exec "TRUNCATE u; UPDATE t SET v = 'z'"
   wait_told "insert, truncate public.t, insert, update"
   p:wait_stderr "the table was truncated: no deletes are told of its rows"
   db:exec "TRUNCATE t"
   wait_told "insert, truncate public.t, insert, update, truncate public.t"
   p:stop()
   lu.assertEquals(told(), "insert, truncate public.t, insert, update, truncate public.t")
end

-- A connection that is lost in the middle of a transaction: its rows come once.
function TestLogical.test_a_stream_that_breaks_in_a_transaction()
   local db = database()
   local p = start(db)
   watch.wait_ready(p)
   db:exec "INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(10, 20009) n"
   p:wait_until(function() return #p:lines() > 1000 end, 20, "a part of the transaction")
   for _ = 1, 3 do
      db:value [[SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots
         WHERE database = current_database() AND active_pid IS NOT NULL]]
      native.sleep(0.2)
   end
   p:wait_until(function() return #p:changes() >= 20003 end, 60, "all rows")
   db:exec "INSERT INTO t VALUES (7, 'end')"
   p:wait_until(function() return p:changes()[20004] end, 30, "the end")
   for n = 10, 20009 do
      lu.assertEquals(p:changes()[n - 6].key.id, n)
   end
   lu.assertEquals(#p:changes(), 20004)
   p:stop()
end

function TestLogical.test_the_slot_is_dropped()
   local db = database()
   local p = start(db)
   watch.wait_ready(p)
   db:exec "INSERT INTO t VALUES (4, 'x')"
   wait_words(p, "r1=v1 r2=v2 r3=v3 i4=x")
   p:stop()
   drop_slots(db)
   db:exec "INSERT INTO t VALUES (5, 'y')"
   p = start(db, { state = p.state })
   p:wait_stderr("the slot is not there any more: what changed since transaction %d+ is read"
      .. " by xmin; deletes since then are not known")
   p:wait_until(function() return words(p):find "u5=y" end, 20, "the row")
   db:exec "UPDATE t SET v = 'a' WHERE id = 5"
   p:wait_until(function() return words(p):find "u5=a" end, 20, "the update")
   -- while it runs
   drop_slots(db)
   db:exec "UPDATE t SET v = 'b' WHERE id = 5"
   p:wait_until(function() return words(p):find "u5=b" end, 30, "the update")
   db:exec "DELETE FROM t WHERE id = 5"
   p:wait_until(function() return words(p):find "d5" end, 20, "the delete")
   p:stop()
end

-- A table that leaves the publication and is back before anybody looks, running and stopped: what
-- the log does not have of it is read by xmin, also of a transaction that it has a part of.
function TestLogical.test_the_publication_lacks_the_table_for_a_while()
   local db = database()
   local lacks = "the publication was altered, and may have lacked changes of the table: what"
      .. " changed since transaction %d+ is read by xmin"
   local p = start(db)
   watch.wait_ready(p)
   db:exec "INSERT INTO t VALUES (4, 'x')"
   wait_words(p, "r1=v1 r2=v2 r3=v3 i4=x")
   db:exec [[BEGIN; UPDATE t SET v = 'a' WHERE id = 1; ALTER PUBLICATION pgcdc DROP TABLE t;
      UPDATE t SET v = 'b' WHERE id = 2; ALTER PUBLICATION pgcdc ADD TABLE t; COMMIT]]
   p:wait_until(function() return words(p):find "u2=b" end, 30, "the row")
   p:wait_stderr(lacks)
   db:exec "DELETE FROM t WHERE id = 3"
   p:wait_until(function() return words(p):find "d3" end, 30, "the delete")
   p:stop()
   db:exec "ALTER PUBLICATION pgcdc SET (publish = 'insert')"
   db:exec "UPDATE t SET v = 'c' WHERE id = 1"
   db:exec "ALTER PUBLICATION pgcdc SET (publish = 'insert, update, delete, truncate')"
   p = start(db, { state = p.state })
   p:wait_stderr(lacks)
   p:wait_until(function() return words(p):find "u1=c" end, 30, "the row")
   db:exec "DELETE FROM t WHERE id = 1"
   p:wait_until(function() return words(p):find "d1" end, 30, "the delete")
   p:stop()
end

-- The same where the publication has the table's schema, and other schemas come and go.
function TestLogical.test_the_publication_lacks_the_schema_for_a_while()
   local db = database()
   if tonumber(db:value "SHOW server_version_num") < 150000 then
      lu.skip "publications of schemas are new in 15"
   end
   db:exec [[CREATE SCHEMA other; DROP PUBLICATION pgcdc;
      CREATE PUBLICATION pgcdc FOR TABLES IN SCHEMA public]]
   local p = start(db)
   watch.wait_ready(p)
   db:exec "ALTER PUBLICATION pgcdc ADD TABLES IN SCHEMA other"
   db:exec "UPDATE t SET v = 'a' WHERE id = 1; UPDATE t SET v = 'b' WHERE id = 1"
   wait_words(p, "r1=v1 r2=v2 r3=v3 u1=a u1=b")
   p:stop()
   db:exec "ALTER PUBLICATION pgcdc DROP TABLES IN SCHEMA other, public"
   db:exec "UPDATE t SET v = 'c' WHERE id = 1"
   db:exec "ALTER PUBLICATION pgcdc ADD TABLES IN SCHEMA public"
   p = start(db, { state = p.state })
   p:wait_stderr "the publication was altered, and may have lacked changes of the table"
   p:wait_until(function() return words(p):find "u1=c" end, 30, "the row")
   p:stop()
end

-- An output that nobody reads: the slot does not hold the log for ever, and nothing is lost.
function TestLogical.test_the_slot_holds_no_more_than_it_may()
   local db = database()
   local p = start(db, { hold = true,
      source = { capture = "logical", interval = 0.5, max_retained = "64M" } })
   wait.until_(function() return slot(db, "count(*)") == "1" end, 20, "a slot")
   wait.until_(function() return slot(db, "active") == "t" end, 20, "a stream")
   db:exec "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(10, 5009) n"
   for _ = 1, 70 do
      db:exec "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))"
   end
   wait.until_(function() return slot(db, "count(*)") == "0" end, 40, "the end of the slot")
   p:release()
   p:wait_until(function() return #p:changes() >= 5003 end, 60, "all rows")
   p:wait_stderr "slot pgcdc_%x+ held more than max_retained %(64 MB%) of the log, and was dropped"
   db:exec "UPDATE t SET v = 'end' WHERE id = 1"
   p:wait_until(function() return words(p):find "u1=end" end, 40, "the end")
   local seen, n = {}, 0
   for _, change in ipairs(p:changes()) do
      n = n + (seen[change.key.id] and 0 or 1)
      seen[change.key.id] = true
   end
   lu.assertEquals(n, 5003)
   p:stop()
end

-- Wrong input: one line that says what is wrong and what to do.
function TestLogical.test_bad_input()
   local function fails(db, source, text)
      local result = program.run { dsn = db, script = watch.script(tables.merge(
         { table = "t", capture = "logical" }, source)), options = { "--once" } }
      lu.assertEquals(result.status, 3, result.stderr)
      lu.assertStrContains(result.stderr, text)
   end
   local db = database()
   fails(db, { publication = "none" }, "there is no publication none: CREATE PUBLICATION none FOR"
      .. " TABLE public.t WITH (publish_via_partition_root = true)")
   db:exec "CREATE PUBLICATION empty; CREATE PUBLICATION half FOR TABLE t WITH (publish = 'insert')"
   fails(db, { publication = "empty" }, "publication empty does not have public.t: ALTER"
      .. " PUBLICATION empty ADD TABLE public.t")
   fails(db, { publication = "half" }, "publication half leaves out inserts, updates or deletes")
   db:exec "SELECT pg_create_logical_replication_slot('other', 'test_decoding')"
   fails(db, { slot = "other" }, "slot other is of another database or plug-in: name another one")
   db:exec "ALTER TABLE t REPLICA IDENTITY NOTHING"
   fails(db, {}, "see ALTER TABLE ... REPLICA IDENTITY")
   local plain = cluster.main():database()
   plain:exec "CREATE TABLE t (id int PRIMARY KEY)"
   fails(plain, {}, 'needs wal_level = logical, and it is replica: ALTER SYSTEM SET')
end

-- ---- exactness ----

-- The first read, and the poll that hands over, under writers, killed again and again: each version
-- that is told is told once, no key goes back, and the last one of each key is what there is.
function TestLogical.test_first_read_under_writers()
   local db = database(log_history.tables)
   local path = scope.dir "exact" .. "/out.jsonl"
   local options = { dsn = db, script = log_history.script(path), seconds = 2, life = 0.4,
      state = path .. ".db", write = function() native.sleep(0.01) end }
   local writer = log_history.write(db, 2)
   killing.run(options)
   pgbench.finish(writer, 60)
   log_history.run_once(options)
   log_history.assert_newest(db, path)
end

function TestLogical.test_exact_when_killed()
   local db = database(log_history.tables)
   local path = scope.dir "exact" .. "/out.jsonl"
   local script = log_history.script(path)
   local p = program.start { dsn = db, script = script }
   for _, name in ipairs { "a", "b", "h" } do
      watch.wait_line(p, "^ready " .. name .. "$", 30)
   end
   p:kill9()
   local writer = log_history.write(db, 3)
   local _, kills = killing.run { dsn = db, script = script, state = p.state, seconds = 3,
      life = 0.8, write = function() native.sleep(0.01) end }
   pgbench.finish(writer, 60)
   log_history.run_once { dsn = db, script = script, state = p.state }
   lu.assertTrue(kills > 2, kills)
   log_history.assert_exact(db, path)
end

-- The same over crashes of the server, in the middle of transactions.
function TestLogical.test_exact_when_the_server_crashes()
   local one = cluster.new { conf = conf }
   local db = database(log_history.tables, one)
   local path = scope.dir "exact" .. "/out.jsonl"
   local p = program.start { dsn = db, script = log_history.script(path) }
   for _, name in ipairs { "a", "b", "h" } do
      watch.wait_line(p, "^ready " .. name .. "$", 30)
   end
   for round = 1, 3 do
      local writer = log_history.write(db, 20)
      local before = tonumber(db:value "SELECT count(*) FROM h")
      wait.until_(function()
         return tonumber(db:value "SELECT count(*) FROM h") > before + 200
      end, 30, "transactions")
      if round == 2 then
         one:kill9()
         one:start()
      else
         one:crash()
      end
      writer:wait(wait.scaled(30))
      lu.assertTrue(p:alive(), "round " .. round)
   end
   p:stop()
   log_history.run_once { dsn = db, script = log_history.script(path), state = p.state }
   log_history.assert_exact(db, path)
end

return TestLogical
