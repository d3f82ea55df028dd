-- logical_stream_test.lua: what comes out of the server's log: old rows, large transactions,
-- several sources at one moment, ends of transactions, messages.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local files = require "files"
local json = require "json"
local killing = require "killing"
local lu = require "luaunit"
local native = require "native"
local pgbench = require "pgbench"
local program = require "program"
local scope = require "scope"
local wait = require "wait"
local watch = require "watch"

local TestLogicalStream = {}

-- The row before comes where the replica identity has it, and nowhere else.
function TestLogicalStream.test_old_rows_by_replica_identity()
   local db = by_log.database "ALTER TABLE t ADD n int DEFAULT 7"
   local p = by_log.start(db)
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'a' WHERE id = 1; DELETE FROM t WHERE id = 3"
   db:exec "ALTER TABLE t REPLICA IDENTITY FULL"
   db:exec "UPDATE t SET v = 'b' WHERE id = 1; UPDATE t SET id = 4 WHERE id = 1"
   db:exec "INSERT INTO t VALUES (5, NULL); UPDATE t SET v = '\t\\' WHERE id = 5"
   db:exec "DELETE FROM t WHERE id = 5; DELETE FROM t WHERE id = 2"
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 u1=a d3 u1=b<a d1<b i4=b i5=null u5=\t\\<null d5<\t\\"
      .. " d2<v2")
   lu.assertEquals(p:changes()[12].old, { id = 2, v = "v2", n = 7 })
   lu.assertEquals(tostring(p:changes()[12].row), "null")
   p:stop()
end

-- old = true asks for a replica identity that has the row; what follows from it works.
function TestLogicalStream.test_old_rows_that_are_asked_for()
   local db = by_log.database()
   local source = { table = "t", capture = "logical", old = true, deletes = false }
   local result = program.run { dsn = db, script = watch.script(source), options = { "--once" } }
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrContains(result.stderr, "public.t: old = true needs old rows, which the log has only"
      .. " with ALTER TABLE public.t REPLICA IDENTITY FULL")
   db:exec "ALTER TABLE t REPLICA IDENTITY FULL"
   local p = by_log.start(db, { source = { old = true }, more = [[
      source:on("update", function(c) print(table.concat(c.changed, ",")) end)
      source:only(function(c) return c.row.v ~= "x" end):sink(function(c)
         io.stdout:write("only ", c.op, "\n") end)]] })
   watch.wait_ready(p)
   db:exec "UPDATE t SET v = 'x' WHERE id = 1; UPDATE t SET v = 'y' WHERE id = 1"
   watch.wait_line(p, "^only insert$", 20)
   lu.assertStrContains(table.concat(p:lines(), "\n"), "only delete")
   watch.wait_line(p, "^v$", 20)
   p:stop()
end

-- A partition that has only keys, where the whole table says that old rows are complete.
function TestLogicalStream.test_partitions_with_another_identity()
   local db = by_log.database [[CREATE TABLE p (id int, v text, PRIMARY KEY (id))
         PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
      ALTER TABLE p REPLICA IDENTITY FULL; ALTER PUBLICATION pgcdc ADD TABLE p;
      INSERT INTO p VALUES (1, 'a')]]
   local script = watch.script { table = "p", capture = "logical", interval = 0.2 }
   local result = program.run { dsn = db, script = script, options = { "--once" } }
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrContains(result.stderr, "public.p has REPLICA IDENTITY FULL, and a partition of it"
      .. " has not: ALTER TABLE ... REPLICA IDENTITY FULL of each partition")
   db:exec "ALTER TABLE p1 REPLICA IDENTITY FULL"
   local p = by_log.start(db, { table = "p" })
   watch.wait_ready(p)
   db:exec "UPDATE p SET v = 'b'; UPDATE p SET id = 2"
   by_log.wait_words(p, "r1=a u1=b<a d1<b i2=b")
   p:stop()
end

-- ---- deletes during the first read ----

-- A row that was read and is deleted before there is a slot: the log does not have that, so the
-- keys are counted once more. Making the slot waits for a writer.
function TestLogicalStream.test_deletes_during_the_first_read()
   local db = by_log.database "CREATE TABLE w (id int)"
   local writer = db:connect()
   writer:exec "BEGIN; INSERT INTO w VALUES (1)"
   local p = by_log.start(db)
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3")
   db:exec "DELETE FROM t WHERE id = 2; UPDATE t SET v = 'a' WHERE id = 3"
   writer:exec "COMMIT"
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 d2 u3=a")
   watch.wait_ready(p)
   db:exec "DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (2, 'b')"
   by_log.wait_words(p, "r1=v1 r2=v2 r3=v3 d2 u3=a d3 i2=b")
   p:stop()
   db:exec "DELETE FROM t WHERE id = 1"
   local again = by_log.start(db, { state = p.state })
   by_log.wait_words(again, "d1")
   again:stop()
end

-- ---- large transactions ----

local BIG = 60000

-- The ids of table big that one run prints, until it has printed enough, or all that are left.
local function run_until(db, state, enough)
   local p = program.start { dsn = db, state = state, script = [[
      local source = pgcdc.source { table = "big", capture = "logical", interval = 0.5 }
      local n = 0
      source:on("insert", function(c)
         n = n + 1
         while n == 23000 do end -- until it is killed
         print(c.key.id)
      end)
      source:on("ready", function() print "ready" end)]] }
   watch.wait_ready(p)
   if enough == 0 then
      p:stop()
      return {}, p.state
   end
   p:wait_until(function()
      local n = #p:lines()
      return n > enough or tonumber(p:lines()[n]) == BIG
   end, 60, "a part of the transaction")
   p:kill9()
   local ids = {}
   for _, line in ipairs(p:lines()) do
      ids[#ids + 1] = math.tointeger(line)
   end
   return ids, p.state
end

-- A transaction that is larger than a batch is saved in its middle: a run that was killed goes on
-- there, and not at the beginning. Rows of COPY share places in the log.
function TestLogicalStream.test_a_large_transaction_is_saved_inside()
   for _, sql in ipairs { "INSERT INTO big SELECT generate_series(1, %d)",
                          "COPY big FROM PROGRAM 'seq 1 %d'" } do
      local db = by_log.database [[CREATE TABLE big (id int PRIMARY KEY);
         ALTER PUBLICATION pgcdc ADD TABLE big]]
      local _, state = run_until(db, nil, 0)
      db:exec(sql:format(BIG))
      local first, last, runs = 0, 0, 0
      while last < BIG do
         local ids = run_until(db, state, 19000)
         lu.assertTrue(ids[1] > first and ids[1] <= last + 1, ("%d after %d to %d"):format(ids[1],
            first, last))
         for i, id in ipairs(ids) do
            lu.assertEquals(id, ids[1] + i - 1)
         end
         first, last, runs = ids[1], ids[#ids], runs + 1
      end
      lu.assertTrue(runs > 2, runs)
   end
end

-- The same of two tables that one transaction writes by turns, into a file that is exact; killed
-- at random.
function TestLogicalStream.test_large_transactions_of_two_tables_are_exact()
   local db = by_log.database [[CREATE TABLE a (id int PRIMARY KEY, v text);
      CREATE TABLE b (id int PRIMARY KEY, v text); ALTER PUBLICATION pgcdc ADD TABLE a, b]]
   local path = scope.dir "exact" .. "/out.jsonl"
   local options = { dsn = db, script = ([[
      local sink = pgcdc.sinks.jsonl { path = %q }
      for _, name in ipairs { "a", "b" } do
         local source = pgcdc.source { table = name, capture = "logical", interval = 0.5 }
         source:on("ready", function() print("ready " .. name) end)
         source:sink(sink)
      end]]):format(path) }
   local p = program.start(options)
   watch.wait_line(p, "^ready a$", 30)
   watch.wait_line(p, "^ready b$", 30)
   options.state = p.state
   db:exec [[DO $$ BEGIN
      FOR i IN 1 .. 15000 LOOP
         INSERT INTO a VALUES (i, repeat('x', 100));
         IF i % 3 = 0 THEN
            INSERT INTO b SELECT i * 10 + k, 'y' FROM generate_series(1, 3) k;
         END IF;
      END LOOP; END $$]]
   p:kill9()
   options.seconds, options.life = 3, 0.8
   options.write = function() native.sleep(0.01) end
   local result = killing.run(options)
   lu.assertEquals(result.status, 0, result.stderr)
   local n, last = 0, 0
   for line in io.lines(path) do
      local change = json.decode(line)
      local place = change.table == "a" and change.key.id * 10 or change.key.id
      lu.assertTrue(place > last, killing.seed() .. ": " .. line)
      n, last = n + 1, place
   end
   lu.assertEquals(n, 30000, killing.seed())
end

-- ---- several sources at one moment ----

local books = [[
   CREATE TABLE parent (id int PRIMARY KEY, n int);
   CREATE TABLE child (id bigint PRIMARY KEY, parent int NOT NULL REFERENCES parent)]]

-- Each transaction keeps parent.n the number of the children. The second one writes a part of it
-- after a savepoint.
local transactions = [[
\set parent random(1, 20)
\set kind random(1, 3)
BEGIN;
INSERT INTO parent VALUES (:parent, 0) ON CONFLICT DO NOTHING;
UPDATE parent SET n = n + 2 WHERE id = :parent;
SAVEPOINT s;
INSERT INTO child SELECT nextval('ids'), :parent FROM generate_series(1, 2);
\if :kind = 1
WITH gone AS (DELETE FROM child WHERE parent = :parent RETURNING 1)
   UPDATE parent SET n = n - (SELECT count(*) FROM gone) WHERE id = :parent;
\endif
COMMIT;
]]

-- Two tables with a foreign key, mirrored with one sink each: each commit of the target is a state
-- that the source had, also when the program is killed.
function TestLogicalStream.test_a_mirror_shows_states_of_the_source()
   local db = by_log.database(books .. [[; CREATE SEQUENCE ids;
      INSERT INTO parent SELECT n, 0 FROM generate_series(1, 10) n;
      ALTER PUBLICATION pgcdc ADD TABLE parent, child]])
   local target = by_log.cluster():database()
   target:exec(books .. [[; CREATE TABLE moments (wrong bigint);
      CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         IF current_setting('look.at', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
            PERFORM set_config('look.at', pg_current_xact_id()::text, false);
            INSERT INTO moments SELECT coalesce(sum(n), 0) - (SELECT count(*) FROM child)
               FROM parent;
         END IF;
         RETURN NULL; END $$;
      CREATE CONSTRAINT TRIGGER look AFTER INSERT OR UPDATE OR DELETE ON parent
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look();
      CREATE CONSTRAINT TRIGGER look AFTER INSERT OR UPDATE OR DELETE ON child
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look()]])
   local options = { dsn = db, script = ([[
      local target = %q
      for _, name in ipairs { "parent", "child" } do
         local source = pgcdc.source { table = name, capture = "logical", interval = 0.5 }
         source:on("ready", function() print("ready " .. name) end)
         source:sink(pgcdc.sinks.postgres { table = name, connect = target })
      end]]):format(target:dsn()) }
   local p = program.start(options)
   watch.wait_line(p, "^ready parent$", 30)
   watch.wait_line(p, "^ready child$", 30)
   options.state = p.state
   local writer = pgbench.start_script(db, transactions, "-c", "4", "-T", "4", "--max-tries=100")
   wait.until_(function()
      return tonumber(target:value "SELECT count(*) FROM moments") > 8
   end, 30, "commits of the target")
   p:kill9()
   options.seconds, options.life = 3, 0.8
   options.write = function() native.sleep(0.01) end
   killing.run(options)
   pgbench.finish(writer, 60)
   killing.run { dsn = db, script = options.script, state = options.state, seconds = 0 }
   lu.assertEquals(target:value "SELECT count(*) FROM moments WHERE wrong <> 0", "0",
      killing.seed())
   for _, sql in ipairs { "SELECT id, n FROM parent ORDER BY 1", "TABLE child ORDER BY 1" } do
      lu.assertEquals(target:exec(sql), db:exec(sql), killing.seed())
   end
end

-- Sources that share nothing but the slot are saved at once: what comes again after a kill is whole
-- transactions, also of two sources.
function TestLogicalStream.test_sources_of_a_slot_are_one_checkpoint()
   local db = by_log.database [[CREATE TABLE u (id int PRIMARY KEY); CREATE SEQUENCE ids START 10;
      ALTER PUBLICATION pgcdc ADD TABLE u]]
   local script = [[
      for _, name in ipairs { "t", "u" } do
         local source = pgcdc.source { table = name, capture = "logical", interval = 0.5 }
         source:on("ready", function() print("ready " .. name) end)
         source:on("insert", function(c) print(name, c.key.id) end)
         source:on("batch", function() -- where it is killed
            local over = os.clock() + 0.05
            while os.clock() < over do end
            print("over " .. name)
         end)
      end]]
   local p = program.start { dsn = db, script = script }
   watch.wait_line(p, "^ready t$", 30)
   watch.wait_line(p, "^ready u$", 30)
   p:kill9()
   local writer = pgbench.start_script(db, [[
      BEGIN; SELECT nextval('ids') AS id \gset
      INSERT INTO t VALUES (:id); INSERT INTO u VALUES (:id); COMMIT]], "-T", "60")
   for round = 1, 6 do
      p = program.start { dsn = db, script = script, state = p.state }
      p:wait_until(function() return p:stdout():find "over u\n.*over u\n.*over t\n" end, 30,
         "batches")
      p:kill9()
      local first = { t = p:stdout():match "t\t(%d+)\n", u = p:stdout():match "u\t(%d+)\n" }
      lu.assertEquals(first.t, first.u, round)
   end
   writer:kill(15)
   writer:wait(10)
end

-- A source that is added while another one streams, and writers write both tables: each row comes
-- once, also when the program is killed in the first read or stopped.
function TestLogicalStream.test_a_source_that_is_added()
   local db = by_log.database [[CREATE TABLE a (id bigint PRIMARY KEY, v text);
      CREATE TABLE b (id bigint PRIMARY KEY, v text); CREATE SEQUENCE ids;
      ALTER PUBLICATION pgcdc ADD TABLE a, b;
      INSERT INTO b SELECT -n, repeat('x', 200) FROM generate_series(1, 5000) n]]
   local path = scope.dir "added" .. "/out.jsonl"
   local options = { dsn = db, script = ([[
      local sink = pgcdc.sinks.jsonl { path = %q }
      for name in pgcdc.args.tables:gmatch "%%a" do
         local source = pgcdc.source { table = name, capture = "logical", interval = 0.2 }
         source:on("ready", function() print("ready " .. name) end)
         source:sink(sink)
      end]]):format(path), args = { tables = "a" } }
   local p = program.start(options)
   watch.wait_line(p, "^ready a$", 30)
   options.state = p.state
   local writer = pgbench.start_script(db, [[
      BEGIN; SELECT nextval('ids') AS id \gset
      INSERT INTO a VALUES (:id, 'x'); INSERT INTO b VALUES (:id, 'y'); COMMIT]],
      "-c", "2", "-T", "4")
   local before = #p:lines()
   p:wait_until(function()
      return files.size(path) > 2000 and #p:lines() == before
   end, 30, "rows of the first source")
   p:kill9()
   options.args = { tables = "ab" }
   options.seconds, options.life, options.stops = 3, 0.8, true
   options.write = function() native.sleep(0.01) end
   killing.run(options)
   pgbench.finish(writer, 60)
   killing.run { dsn = db, script = options.script, state = options.state, seconds = 0,
                 args = { tables = "ab" } }
   local seen, n = {}, { a = 0, b = 0 }
   for line in io.lines(path) do
      local change = json.decode(line)
      local key = change.table .. change.key.id
      lu.assertNil(seen[key], killing.seed() .. ": twice: " .. line)
      seen[key], n[change.table] = true, n[change.table] + 1
   end
   for _, name in ipairs { "a", "b" } do
      lu.assertEquals(n[name], tonumber(db:value("SELECT count(*) FROM " .. name)),
         killing.seed())
   end
end

-- ---- transactions and messages ----

-- The end of a transaction comes after its last change, for each source that it changed; also of
-- one that is larger than a batch.
function TestLogicalStream.test_commits()
   local db = by_log.database [[CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE w (id int);
      ALTER PUBLICATION pgcdc ADD TABLE u, w]]
   local p = program.start { dsn = db, script = [[
      for _, name in ipairs { "t", "u" } do
         local source = pgcdc.source { table = name, capture = "logical", interval = 0.5 }
         source:on("ready", function() print("ready " .. name) end)
         source:on("change", function(c)
            if c.op ~= "read" and c.key.id < 100 then print(name, c.op, c.key.id) end
         end)
         source:on("commit", function(e)
            print("commit", e.source, e.count)
            io.stderr:write("at ", e.xid, " ", e.lsn, " ", e.commit_ts, "\n")
         end)
      end]] }
   watch.wait_line(p, "^ready t$", 30)
   watch.wait_line(p, "^ready u$", 30)
   local before = #p:lines()
   local session = db:connect()
   session:exec [[BEGIN; INSERT INTO t VALUES (4, 'x'); INSERT INTO u VALUES (1), (2);
      SAVEPOINT s; UPDATE t SET v = 'y' WHERE id = 4; RELEASE s]]
   local xid = session:value "SELECT txid_current()"
   session:exec "COMMIT"
   db:exec "INSERT INTO w VALUES (1); BEGIN; DELETE FROM u WHERE id = 1; ROLLBACK"
   db:exec "INSERT INTO u SELECT generate_series(101, 25100)"
   db:exec "DELETE FROM t WHERE id = 4"
   watch.wait_line(p, "^t\tdelete\t4$", 30)
   p:wait_until(function() return #p:lines() - before >= 9 end, 30, "the last commit")
   lu.assertEquals(table.concat(p:lines(), "; ", before + 1):gsub("\t", " "), "t insert 4;"
      .. " u insert 1; u insert 2; t update 4; commit public.t 2; commit public.u 2;"
      .. " commit public.u 25000; t delete 4; commit public.t 1")
   p:wait_stderr("at " .. xid .. " %x+/%x+ 20%d%d%-.-Z\n")
   p:stop()
end

-- A stop between two batches of transactions: what is told of one comes with its rows.
function TestLogicalStream.test_a_handler_of_commits_that_fails()
   local db = by_log.database()
   local script = [[
      local source = pgcdc.source { table = "t", capture = "logical", interval = 0.5 }
      source:on("insert", function(c) print("insert", c.key.id) end)
      source:on("commit", function(e)
         print("commit")
         if pgcdc.args.fail then error "no" end
      end)
      source:on("ready", function() print "ready" end)]]
   local p = program.start { dsn = db, script = script, args = { fail = 1 } }
   watch.wait_ready(p)
   db:exec "INSERT INTO t VALUES (4)"
   local result = p:finish()
   lu.assertEquals(result.status, 1, result.stderr)
   p = program.start { dsn = db, script = script, state = p.state }
   watch.wait_line(p, "^commit$", 30)
   lu.assertEquals(table.concat(p:lines(), " "), "ready insert\t4 commit")
   p:stop()
end

-- Messages of transactions come among the changes, into streams; also after a kill.
function TestLogicalStream.test_messages()
   local db = by_log.database()
   local path = scope.dir "messages" .. "/out.jsonl"
   local script = ([[
      local audit = pgcdc.messages { prefix = "audit" }
      local source = pgcdc.source { table = "t", capture = "logical", interval = 0.5 }
      source:on("ready", function() print "ready" end)
      source:on("insert", function(c) print("insert", c.key.id) end)
      pgcdc.messages {}:on("message", function(m) print(m.prefix, m.content, m.op) end)
      local sink = pgcdc.sinks.jsonl { path = %q }
      audit:map(function(m) return { m.content, m.xid } end):partition(2):sink(sink)]]):format(path)
   local p = program.start { dsn = db, script = script }
   watch.wait_ready(p)
   local function emit(prefix, content, is_transactional)
      return ("SELECT pg_logical_emit_message(%s, '%s', '%s');"):format(is_transactional ~= false,
         prefix, content)
   end
   db:exec("BEGIN; INSERT INTO t VALUES (4);" .. emit("audit", "a") .. "INSERT INTO t VALUES (5);"
      .. emit("other", "b") .. "COMMIT")
   db:exec(emit("audit", "none", false) .. "BEGIN;" .. emit("audit", "lost") .. "ROLLBACK")
   watch.wait_line(p, "^other\tb\tmessage$", 30)
   p:kill9()
   p = program.start { dsn = db, script = script, state = p.state }
   watch.wait_ready(p)
   local session = db:connect()
   session:exec("BEGIN;" .. emit("audit", "c") .. emit("audit", "d") .. emit("other", "end"))
   local xid = session:value "SELECT txid_current()"
   session:exec "COMMIT"
   watch.wait_line(p, "^other\tend\tmessage$", 30)
   p:stop()
   -- the first one was held by the operator, so it came again
   lu.assertEquals(table.concat(p:lines(), " "):gsub("\t", ":"), "ready insert:4 audit:a:message"
      .. " insert:5 other:b:message audit:c:message audit:d:message other:end:message")
   local lists = {}
   for line in io.lines(path) do
      lists[#lists + 1] = json.decode(line)
   end
   lu.assertEquals(#lists, 1)
   lu.assertEquals({ lists[1][1][1], lists[1][2][1] }, { "a", "c" })
   lu.assertEquals(lists[1][2][2], tonumber(xid))
end

-- What came by the log is fed again as it came: old rows, places in the log, messages, commits,
-- a TRUNCATE, values that an update left as they were.
function TestLogicalStream.test_recorded()
   local db = by_log.database [[ALTER TABLE t ALTER v SET STORAGE EXTERNAL, ADD n int;
      UPDATE t SET v = repeat('x', 9000) WHERE id = 1]]
   local dir = scope.dir "by_log_recorded"
   files.write(dir .. "/s.lua", [[
      local source = pgcdc.source { table = "t", capture = "logical", interval = 0.5,
                                    toast = "leave" }
      source:on("ready", function(e) print("ready", e.source) end)
      source:on("change", function(c)
         print(c.op, c.id, c.lsn, c.commit_ts, c.xid, c.seq,
            table.concat(c.unchanged or {}, ","), c)
      end)
      source:on("commit", function(e) print("commit", e.xid, e.lsn, e.commit_ts, e.count) end)
      source:on("truncate", function(e) print("truncate", e.source) end)
      pgcdc.messages {}:on("message", function(m) print(m.prefix, m.content, m.xid, m.lsn) end)]])
   local p = program.start { dsn = db, file = dir .. "/s.lua", cwd = dir,
                             options = { "--record", "a.rec" } }
   watch.wait_line(p, "^ready\t", 30)
   db:exec [[BEGIN; INSERT INTO t VALUES (4); SELECT pg_logical_emit_message(true, 'p', 'é');
      UPDATE t SET n = 5 WHERE id = 1; DELETE FROM t WHERE id = 2; COMMIT]]
   db:exec "TRUNCATE t"
   db:exec "BEGIN; INSERT INTO t VALUES (9); SELECT pg_logical_emit_message(true, 'p', 'end'); END"
   watch.wait_line(p, "^p\tend\t", 30)
   p:stop()
   local lines = p:lines()
   local result = program.run { state = false, cwd = dir,
                                options = { "--replay", "a.rec", "s.lua" } }
   lu.assertEquals(result.status, 0, result.stderr)
   for i, line in ipairs(lines) do
      lu.assertEquals((result.lines[i] or ""):sub(1, 300), line:sub(1, 300))
   end
   lu.assertEquals(#result.lines, #lines)
   local text = table.concat(lines, "\n")
   for _, word in ipairs { "\nupdate\t[^\n]*\tv\t", "\ntruncate\tpublic.t", "\ncommit\t%d+" } do
      lu.assertStrMatches(text, ".*" .. word .. ".*")
   end
end

-- Wrong use: one line that says what is wrong.
function TestLogicalStream.test_bad_input()
   local db = by_log.database()
   local function fails(text, status, script)
      local result = program.run { dsn = db, script = script, options = { "--once" } }
      lu.assertEquals(result.status, status, result.stderr)
      lu.assertStrContains((result.stderr:gsub('\\"', '"')), text)
   end
   fails('source:on("commit") is for capture = "logical"', 1, [[
      pgcdc.source { table = "t" }:on("commit", print)]])
   fails("messages are a stream of their own, see pgcdc.messages", 1, [[
      pgcdc.source { table = "t", capture = "logical" }:on("message", print)]])
   fails('declare one with capture = "logical", and the same connect and slot', 1, [[
      pgcdc.source { table = "t", capture = "logical", slot = "other" }
      pgcdc.messages {}:on("message", print)]])
   fails("pgcdc.messages: unknown field 'prefx'; did you mean 'prefix'?", 1, [[
      pgcdc.messages { prefx = "audit" }]])
   fails("messages:on: unknown 'mesage'; did you mean 'message'?", 1, [[
      pgcdc.messages {}:on("mesage", print)]])
   fails('together is not for capture = "logical": transactions come whole', 1, [[
      pgcdc.source { table = "t", capture = "logical", together = "books" }]])
   fails('rls is not for capture = "logical"', 1, [[
      pgcdc.source { table = "t", capture = "logical", rls = true }]])
end

return TestLogicalStream
