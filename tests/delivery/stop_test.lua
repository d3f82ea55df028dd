-- stop_test.lua: SIGINT, SIGTERM and pgcdc.stop end it cleanly: nothing twice and nothing lost.
-- SPDX-License-Identifier: MIT
--
-- Promise: the change in hand is finished, sinks are flushed, the
-- position is saved; a second signal stops at once, which is as safe as kill -9.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local wait = require "wait"

local TestStop = {}

-- A handler that says which change it has in hand and goes on when it is told so, by a line on its
-- standard input; told "free" it asks no more.
local ASKING = [[
   pgcdc.log.info "loading"
   local is_free = pgcdc.args.free
   pgcdc.source {table = "t", interval = 0.05, on_change = function(c)
      print(c.op, c.key.id)
      if not is_free then
         io.stdout:flush()
         is_free = io.stdin:read "l" == "free"
      end
   end}:on("batch", function(b)
      pgcdc.log.info("batch", {count = b.count})
   end)]]

-- Adds what a run printed to <got> (id -> times); returns how many lines there were.
local function count(lines, got)
   for _, line in ipairs(lines) do
      local id = assert(line:match "^%l+\t(%d+)$", line)
      got[id + 0] = (got[id + 0] or 0) + 1
   end
   return #lines
end

local function check_exactly_once(got, from, to)
   for id = from, to do
      if got[id] ~= 1 then
         lu.fail(("id %d came %d times"):format(id, got[id] or 0))
      end
   end
end

-- Starts a run and lets it finish <n> changes; the next one is in hand then.
local function start(db, state, n, script)
   local p = program.start { script = script or ASKING, dsn = db, state = state, stdin = "pipe" }
   p.proc:write(("\n"):rep(n))
   p:wait_until(function() return #p:lines() > n end, 20, n + 1 .. " lines")
   return p
end

-- Stops it, and checks that it finishes the change in hand, and not one more.
local function stop(p, sig, got)
   local before = #p:lines()
   p:signal(sig)
   p.proc:write "\nfree\n" -- the signal may have come between two reads
   local result = p:finish(10)
   lu.assertEquals(result.status, 0)
   lu.assertNotStrContains(result.stderr, "level=error")
   lu.assertEquals(count(result.lines, got), before)
   return result
end

-- Delivers all that is left; returns how many changes that was.
local function finish(db, state, got, script)
   local result = program.run {
      script = script or ASKING, options = { "--once" }, dsn = db, state = state,
      args = { free = 1 },
   }
   lu.assertEquals(result.status, 0)
   return count(result.lines, got)
end

-- Signals --------------------------------------------------------------------------------------

-- The snapshot of a table of several ranges is cut at the very row.
function TestStop.test_a_slow_snapshot_stops_at_any_row()
   local db, state, got = fixtures.hashes(20000), fixtures.state(), {}
   stop(start(db, state, 30), "TERM", got)
   stop(start(db, state, 4000), "INT", got)
   stop(start(db, state, 0), "TERM", got)
   finish(db, state, got)
   check_exactly_once(got, 1, 20000)
end

-- Before there is a change, too.
function TestStop.test_a_stop_before_the_first_change()
   local db, state, got = fixtures.hashes(100), fixtures.state(), {}
   for _ = 1, 4 do
      local p = program.start { script = ASKING, dsn = db, state = state, args = { free = 1 } }
      p:wait_stderr "loading"
      local result = p:stop("TERM", 10)
      lu.assertEquals(result.status, 0)
      count(result.lines, got)
   end
   finish(db, state, got)
   check_exactly_once(got, 1, 100)
end

-- One transaction of many rows: a poll is cut inside one xid, by key.
function TestStop.test_a_slow_poll_stops_inside_one_transaction()
   local db, state, got = fixtures.hashes(0), fixtures.state(), {}
   lu.assertEquals(finish(db, state, got), 0)
   db:exec "insert into t select i, md5(i::text) from generate_series(1, 20000) i"
   stop(start(db, state, 30), "INT", got)
   stop(start(db, state, 0), "TERM", got)
   stop(start(db, state, 5000), "TERM", got)
   finish(db, state, got)
   check_exactly_once(got, 1, 20000)
end

-- Many transactions, and rows on both sides of the cut change again while the program is away.
function TestStop.test_a_slow_poll_stops_between_transactions()
   local db, state, got = fixtures.hashes(0), fixtures.state(), {}
   lu.assertEquals(finish(db, state, got), 0)
   for i = 1, 100 do
      db:exec(("insert into t values (%d), (%d), (%d)"):format(3 * i - 2, 3 * i - 1, 3 * i))
   end
   stop(start(db, state, 28), "TERM", got)
   db:exec "update t set name = 'again' where id = 1; update t set name = 'later' where id = 300"
   stop(start(db, state, 28), "INT", got)
   finish(db, state, got)
   lu.assertEquals(got[1], 2)
   got[1] = 1
   check_exactly_once(got, 1, 300)
end

-- Keys that are hard to compare: the cut names the last key delivered, and SQL does the rest.
function TestStop.test_a_poll_is_cut_by_any_key()
   local script = ASKING:gsub("c%.key%.id", "c.row.id")
   for _, key in ipairs {
      { "k uuid", "md5(i::text)::uuid" },
      { "k text", "chr(9) || '\\' || i || '''\"é' || chr(10)" },
      { "k timestamptz", "timestamptz '2000-01-01 UTC' + i * interval '1.000001 s'" },
      { "k bytea", "decode(md5(i::text), 'hex')" },
      { "k numeric", "-i / 7.0" },
      { "k bool, l float8", "i % 2 = 0, i / 3.0", "k, l" },
      { "k int, l text collate \"C\"", "i / 3, case i % 3 when 0 then '' else md5(i::text) end",
        "k, l" },
   } do
      local db, state, got = cluster.main():database(), fixtures.state(), {}
      db:exec(("create table t (id int, %s, primary key (%s))"):format(key[1], key[3] or "k"))
      lu.assertEquals(finish(db, state, got, script), 0)
      db:exec(("insert into t select i, %s from generate_series(1, 60) i"):format(key[2]))
      stop(start(db, state, 7, script), "TERM", got)
      stop(start(db, state, 0, script), "TERM", got)
      finish(db, state, got, script)
      check_exactly_once(got, 1, 60)
   end
end

-- What was delivered of the poll in hand counts as a batch of its own.
function TestStop.test_a_stop_ends_the_batch()
   local result = stop(start(fixtures.hashes(500), nil, 9), "TERM", {})
   lu.assertStrContains(result.stderr, 'msg="batch" count=10\n')
   lu.assertEquals(select(2, result.stderr:gsub('msg="batch"', "")), 1)
end

-- A handler that was fast when the range was asked for and is slow by now: such a range was once
-- delivered to its end, which may take hours.
function TestStop.test_a_handler_that_becomes_slow()
   local db, state, got = cluster.main():database(), fixtures.state(), {}
   db:exec "create table t (id int); insert into t select generate_series(1, 200000)"
   local script = [[
      local n, is_free = 0, pgcdc.args.free
      pgcdc.source {table = "t", pk = "id", on_change = function(c)
         n = n + 1
         print(c.op, c.key.id)
         if n > 150000 and not is_free then
            io.stdout:flush()
            is_free = io.stdin:read "l" == "free"
         end
      end}]]
   local p = program.start { script = script, dsn = db, state = state, stdin = "pipe" }
   p:wait_until(function() return #p:lines() > 150000 end, 20, "150001 lines")
   stop(p, "TERM", got)
   finish(db, state, got, script)
   check_exactly_once(got, 1, 200000)
end

-- The second signal does not wait for the handler, whichever two they are.
function TestStop.test_a_second_signal_ends_it_at_once()
   local db = fixtures.hashes(3)
   for _, sigs in ipairs {
      { "TERM", "TERM" }, { "INT", "INT" }, { "INT", "TERM" }, { "TERM", "INT" },
   } do
      local state = fixtures.state()
      local p = program.start { dsn = db, state = state, script = [[
         pgcdc.source {table = "t", on_change = function(c)
            pgcdc.log.info "in the handler"
            while true do os.time() end -- a call: the thread sanitizer hands signals over at calls
         end}]] }
      p:wait_stderr "in the handler"
      p:signal(sigs[1])
      lu.assertErrorMsgContains("timeout", wait.until_, function() return not p:alive() end, 0.1)
      local result = p:stop(sigs[2], 5)
      lu.assertTrue(result.signal == 15 or result.signal == 2)
      lu.assertEquals(finish(db, state, {}), 3)
   end
end

-- What --max-time cannot interrupt: C functions and finalizers. (They are documented.)
function TestStop.test_a_second_signal_where_no_limit_reaches()
   lu.skipIf(os.getenv "TSAN_OPTIONS", "ThreadSanitizer holds signals back while no function of "
      .. "the system is called")
   local db = fixtures.hashes(3)
   for _, body in ipairs {
      "local _ = ('a'):rep(3000):find '.-.-.-.-.-.-.-b'",
      "local _ = ('a'):rep(3000):gsub('(.-)(.-)(.-)(.-)(.-)(.-)b', error)",
      "setmetatable({}, {__gc = function() while true do os.time() end end}) collectgarbage()",
      "local t <close> = setmetatable({}, {__close = function() "
         .. "return ('a'):rep(3000):find '.-.-.-.-.-.-.-b' end})",
   } do
      local state = fixtures.state()
      local p = program.start { dsn = db, state = state, options = { "--max-time=0.1" },
         script = ([[
         pgcdc.source {table = "t", on_change = function(c)
            pgcdc.log.info "in the handler"
            %s
         end}]]):format(body) }
      p:wait_stderr "in the handler"
      p:signal "TERM"
      lu.assertErrorMsgContains("timeout", wait.until_, function() return not p:alive() end, 0.3)
      local result = p:stop("INT", 5)
      lu.assertEquals({ body, result.signal }, { body, 2 })
      lu.assertEquals(finish(db, state, {}), 3)
   end
end

-- While it waits: for the owner of a lock, for a server that is not there, for the next poll, for a
-- timer.
function TestStop.test_a_stop_while_it_waits()
   local db = fixtures.hashes(2)
   local locker = db:connect()
   locker:exec "begin; lock table t in access exclusive mode"
   local p = program.start { script = ASKING, dsn = db }
   wait.until_(function()
      return db:value "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
   end, 10, "the lock")
   lu.assertEquals(p:stop("TERM", 5).status, 0)
   locker:close()

   p = program.start { script = ASKING, dsn = "host=/nonexistent" }
   p:wait_stderr "retry_in"
   lu.assertEquals(p:stop("INT", 5).status, 0)

   p = program.start { dsn = db, script = [[
      pgcdc.source {table = "t", interval = 1000, on_change = function(c) print(c) end}
      pgcdc.every(1000, print)]] }
   p:wait_stderr '"ready"'
   lu.assertEquals(#p:stop("TERM", 5).lines, 2)

   p = program.start { script = "pgcdc.log.info 'up'; pgcdc.every(1000, print)" }
   p:wait_stderr "up"
   lu.assertEquals(p:stop("INT", 5).status, 0)
end

-- A signal in the main chunk is not lost: it ends when that returns, and delivers nothing.
function TestStop.test_a_stop_while_the_script_loads()
   local p = program.start { dsn = fixtures.hashes(2), stdin = "pipe", script = [[
      pgcdc.source {table = "t", on_change = function(c) print(c) end}
      pgcdc.log.info "loading"
      io.stdin:read "l"]] }
   p:wait_stderr "loading"
   p:signal "TERM"
   p.proc:write "go on\n"
   local result = p:finish(10)
   lu.assertEquals(result.status, 0)
   lu.assertEquals(result.stdout, "")
end

-- pgcdc.stop -----------------------------------------------------------------------------------

local STOPPING = [[
   local n = 0
   pgcdc.source {table = "t", interval = 0.05, on_change = function(c)
      n = n + 1
      print(c.op, c.key.id)
      if n == (pgcdc.args.n or 0) + 0 then
         pgcdc.stop(7)
      end
   end}]]

-- As good as a signal, with a status: in a snapshot, and in a poll.
function TestStop.test_pgcdc_stop_in_a_handler()
   local db, state, got = fixtures.hashes(3000), fixtures.state(), {}
   local function check(n)
      local result = program.run { script = STOPPING, dsn = db, state = state, args = { n = n } }
      lu.assertEquals(result.status, 7)
      lu.assertEquals(count(result.lines, got), n)
   end
   check(1)
   check(2)
   check(100)
   lu.assertEquals(finish(db, state, got, STOPPING), 2897)
   check_exactly_once(got, 1, 3000)
   db:exec "insert into t select i, '' from generate_series(3001, 4000) i"
   check(10)
   check(1)
   lu.assertEquals(finish(db, state, got, STOPPING), 989)
   check_exactly_once(got, 1, 4000)
end

-- In the middle of a snapshot that runs fast the next call must not come either.
function TestStop.test_pgcdc_stop_in_a_fast_snapshot()
   local db, state, got = cluster.main():database(), fixtures.state(), {}
   db:exec "create table t (id int); insert into t select generate_series(1, 200000)"
   local script = STOPPING:gsub("table = \"t\"", '%0, pk = "id"')
   local result = program.run { script = script, dsn = db, state = state, args = { n = 150001 } }
   lu.assertEquals(result.status, 7)
   lu.assertEquals(count(result.lines, got), 150001)
   lu.assertEquals(finish(db, state, got, script), 49999)
   check_exactly_once(got, 1, 200000)
end

-- os.exit in the middle of it all. It ran what libraries do at an exit while the threads were at
-- work: over TLS one of ten ended by a signal.
function TestStop.test_os_exit_beside_tls()
   local one = cluster.new { name = "tls", tcp = true }
   one:exec "create table t (id int primary key); insert into t select generate_series(1, 5)"
   lu.assertTrue(os.execute(([[cd "%s" && openssl req -new -x509 -days 2 -nodes \
      -subj /CN=localhost -out server.crt -keyout server.key 2>/dev/null && chmod 600 server.key &&
      chown --reference=postgresql.conf server.crt server.key &&
      echo 'ssl = on' >> postgresql.conf]]):format(one.data)))
   one:restart()
   local dsn = ("host=127.0.0.1 port=%d dbname=postgres user=postgres sslmode=require"):format(
      one.port)
   for i = 1, 24 do
      local result = program.run { dsn = dsn, script = ([[
         for i = 1, 8 do pgcdc.source {table = "t", name = "s" .. i, interval = 0.01} end
         pgcdc.source {table = "t", on_change = function(c)
            if c.key.id == 3 then os.exit(7) end
         end}
         print(("text"):rep(5000)) -- is written all the same
         pgcdc.after(%g, function() os.exit(7) end)]]):format(0.01 + i % 8 / 100) }
      lu.assertEquals({ result.status, result.signal }, { 7 })
      lu.assertEquals(#result.stdout, 20001)
   end
end

return TestStop
