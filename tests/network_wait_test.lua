-- network_wait_test.lua: what is dead is told from what is slow; stops while the network hangs.
-- SPDX-License-Identifier: MIT
--
-- Promise: a dead connection is noticed within keepalives_idle + keepalives_count *
-- keepalives_interval seconds, a slow statement or a lock never is; a stop takes ten seconds at
-- most, a second one none. Each byte of a session in turn: network_test.lua.

local cluster = require "cluster"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local proxy = require "proxy"
local scope = require "scope"
local sessions = require "sessions"
local stepping = require "stepping"
local wait = require "wait"
local watch = require "watch"

local TestNetworkWait = {}

local function new_database(rows)
   local db = cluster.main():database()
   db:exec(("create table t (id int primary key, n int default 0);"
      .. "insert into t select i, 0 from generate_series(1, %d) i"):format(rows or 10))
   return db
end

-- The program on <db>, through a proxy.
local function start(db, options)
   local between = proxy.new(db)
   options = setmetatable({dsn = between:dsn(options and options.keywords or sessions.QUICK)},
      {__index = options})
   return watch.start(db, options), between
end

local function assert_exact(p, db, reads)
   watch.wait_current(p, db)
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(watch.ops(p).read, reads)
end

-- The backends of the program in <db>: "state event" of each.
local function backends(db)
   local list = {}
   for i, row in ipairs(db:exec [[select state, wait_event from pg_stat_activity
         where datname = current_database() and application_name like 'pgcdc-lua%']]) do
      list[i] = ("%s %s"):format(row[1], row[2])
   end
   return list
end

-- How many descriptors it has, and its resident size in kB.
local function holds(p)
   return #native.listdir(("/proc/%d/fd"):format(p:pid())), select(2, p:rss())
end

-- Dead and slow --------------------------------------------------------------------------------

-- The way is dead for all, also for new connections, and heals later.
function TestNetworkWait.test_the_way_is_dead_for_a_while()
   local db = new_database()
   for _, how in ipairs {"stall", "swallow", "fin", "rst"} do
      local p, between = start(db)
      watch.wait_ready(p)
      between:strike(how, true)
      local began = native.now()
      db:exec "update t set n = n + 1 where id <= 3"
      p:wait_stderr("retry_in", 15)
      local noticed = native.now() - began
      lu.assertTrue(noticed < wait.scaled(sessions.NOTICED + 3), ("%s: %.1f s"):format(how, noticed))
      between:heal()
      assert_exact(p, db, 10)
      lu.assertEquals(p:stop("TERM", 12).status, 0)
   end
end

-- A statement that takes longer than any of these times is waited for, on the same connection: a
-- scan whose first byte comes late, and a lock.
function TestNetworkWait.test_slow_is_not_dead()
   local db = new_database(12)
   db:exec [[create function slow(int) returns boolean language plpgsql as
      'begin perform pg_sleep(0.35); return true; end']]
   local keywords = {keepalives_idle = 1, keepalives_interval = 1, keepalives_count = 1}
   local p, between = start(db, {source = {where = "public.slow(id)"}, keywords = keywords})
   watch.wait_ready(p, 30)
   lu.assertEquals(p:stop().status, 0)
   lu.assertNotStrContains(p:stderr(), "level=warn")
   lu.assertTrue(between:stats().accepted > 1) -- it asked

   p = start(db, {keywords = keywords})
   watch.wait_ready(p)
   local pid, fds = watch.backend(db), holds(p)
   local locker = db:connect()
   locker:exec "begin; lock table t in access exclusive mode; update t set n = 7"
   db:exec "create table other ()"
   wait.until_(function()
      return db:value [[select 1 from pg_stat_activity where wait_event_type = 'Lock'
         and clock_timestamp() - state_change > '3.5 s']]
   end, 20, "the poll to wait for its lock")
   locker:exec "commit"
   assert_exact(p, db, 12)
   lu.assertEquals({watch.backend(db), (holds(p))}, {pid, fds})
   lu.assertNotStrContains(p:stderr(), "level=warn")
   p:stop()
end

-- A backend that is left behind by a half-open connection would hold its locks, and vacuum back,
-- until the server finds out, hours later. It is ended, since the server can be asked.
function TestNetworkWait.test_nothing_is_left_at_the_server()
   local db = new_database()
   local p, between = start(db)
   watch.wait_ready(p)
   for _, direction in ipairs {"down", "up"} do
      local before = select(2, p:stderr():gsub("retry_in", ""))
      between:fault("swallow", direction, 400) -- behind BEGIN and LOCK, before their end
      db:exec "update t set n = n + 1"
      p:wait_until(function()
         return select(2, p:stderr():gsub("retry_in", "")) > before
      end, 15, "the end of a connection")
      assert_exact(p, db, 10)
      db:exec "set lock_timeout = '2 s'; lock table t in access exclusive mode"
      lu.assertEquals(#backends(db), 1, table.concat(backends(db), ", "))
   end
   p:stop()
end

-- A host that does not answer is given up for the next one. It was tried again and again instead.
function TestNetworkWait.test_the_next_host()
   local db = new_database()
   local dead, dead_too, alive = proxy.new(db), proxy.new(db), proxy.new(db)
   dead:strike("swallow", true)
   dead_too:strike("stall", true)
   local p = watch.start(db, {dsn = alive:dsn {connect_timeout = 2,
      host = table.concat({dead.dir, dead_too.dir, alive.dir}, ",")}})
   watch.wait_ready(p, 15)
   assert_exact(p, db, 10)
   lu.assertEquals({dead:stats().accepted, dead_too:stats().accepted}, {1, 1})
   p:stop()
end

-- The bell of capture = "trigger": what is announced into a dead connection is found at the
-- interval, and the bell hears again in time.
function TestNetworkWait.test_a_silent_bell()
   local db = new_database()
   stepping.trigger(db, "install")
   local swallowed, by = start(db, {source = {capture = "trigger", interval = 3600}})
   local stalled, by_too = start(db, {source = {capture = "trigger", interval = 3600}})
   local function update(n)
      db:exec(("update t set n = %d where id = 1"):format(n))
      for _, p in ipairs {swallowed, stalled} do
         p:wait_until(function() return #watch.lines(p, '"n":' .. n) == 1 end, 20, "change " .. n)
      end
   end
   watch.wait_ready(swallowed)
   watch.wait_ready(stalled)
   wait.until_(function() return #backends(db) == 4 end, 10, "the bells")
   update(1)
   by:strike "swallow" -- those that there are
   by_too:strike "stall"
   update(2) -- is found by the next bell
   update(3)
   lu.assertEquals({swallowed:stop().status, stalled:stop().status}, {0, 0})
end

-- Keepalives of TCP are on, and the user's own count, from a service file too. (Libpq's defaults
-- are the kernel's: two hours.)
function TestNetworkWait.test_keepalives_of_tcp()
   local one = cluster.new {name = "tcp", tcp = true}
   one:exec "create table t (id int primary key); insert into t values (1)"
   local file = scope.dir "service" .. "/services"
   local f = assert(io.open(file, "wb"))
   f:write(("[shop]\nhost=127.0.0.1\nport=%d\nkeepalives_idle=7\n"):format(one.port))
   f:close()
   local ends = ":" .. ("%04X"):format(one.port) .. " 01 "
   -- seconds until the next keepalive of a connection to the server
   local function due()
      local longest
      for line in io.lines "/proc/net/tcp" do
         local kind, at = line:match(ends .. "%x+:%x+ (%x+):(%x+)")
         if kind == "02" then
            longest = math.max(longest or 0, tonumber(at, 16) / 100)
         end
      end
      return longest
   end
   local dsn = one:dsn(nil, {host = "127.0.0.1"})
   for _, case in ipairs {
      {dsn, 20, 30}, {dsn .. " keepalives_idle=100", 70, 100}, {dsn .. " keepalives=0"},
      {"service=shop user=postgres dbname=postgres", 3, 7, {PGSERVICEFILE = file}},
   } do
      local p = watch.start(one, {dsn = case[1], env = case[4], source = {interval = 3600}})
      watch.wait_ready(p)
      local left = due()
      if case[2] then
         lu.assertTrue(left and left > case[2] and left <= case[3] + 0.1, tostring(left))
      else
         lu.assertNil(left)
      end
      p:stop()
   end
end

-- Stops ----------------------------------------------------------------------------------------

-- Seconds from the signal to the end.
local function stop(p)
   local began = native.now()
   local result = p:stop("TERM", 25)
   return (native.now() - began) / wait.slow, result
end

-- With the usual times, which are longer than a stop may take.
function TestNetworkWait.test_a_stop_while_the_network_hangs()
   local db = new_database()
   for _, how in ipairs {"stall", "swallow"} do
      local p, between = start(db, {keywords = {}})
      watch.wait_ready(p)
      between:fault(how, "up", 10, true)
      db:exec "update t set n = n + 1"
      wait.until_(function() return between:stats().faults > 0 end, 5, "a statement to be sent")
      local took, result = stop(p)
      lu.assertEquals(result.status, 0, result.stderr)
      lu.assertTrue(took < 10, took)
   end
end

-- True if it read its standard input and its main thread waits in poll().
local function is_asleep(p)
   local f = io.open(("/proc/%d/wchan"):format(p:pid()))
   local where = f and f:read "a" or ""
   if f then
      f:close()
   end
   return where:find "poll" or where == "0" -- a kernel that does not tell
end

-- The statement of a handler, and of a sink. A stop waited for it for ever. (A handler that fails
-- is a script that fails; what a sink has not taken comes again.)
function TestNetworkWait.test_a_stop_while_a_handler_hangs()
   local db = new_database(1)
   db:exec "create table m (id int primary key, n int)"
   local waiting = {}
   for _, body in ipairs {
      [[pgcdc.source {table = "t", on_change = function()
         local db = pgcdc.connect(pgcdc.args.target)
         db:query "select 1"
         pgcdc.log.info "now"
         io.stdin:read "l"
         db:query "select 2"
      end}]],
      [[local sink = pgcdc.sinks.postgres {connect = pgcdc.args.target, table = "m"}
      pgcdc.source {table = "t", on_change = function()
         pgcdc.log.info "now"
         io.stdin:read "l"
      end}:sink(sink)]],
   } do
      for _ = 1, 2 do
         local between = proxy.new(db)
         local p = program.start {dsn = db, script = body, stdin = "pipe",
                                  args = {target = between:dsn()}}
         p:wait_stderr "now"
         between:strike("swallow", true)
         p.proc:write "\n"
         waiting[#waiting + 1] = p
      end
   end
   for _, p in ipairs(waiting) do
      p:wait_until(function() return is_asleep(p) end, 5, "it to wait for an answer")
      p:signal "TERM"
   end
   local began, statuses = native.now(), {1, 0}
   for i, p in ipairs(waiting) do
      if i % 2 == 0 then -- a second signal does not wait
         local result = p:stop("INT", 5)
         lu.assertEquals(result.signal, 2)
         lu.assertTrue(result.seconds < 5 * wait.slow, result.seconds)
      end
   end
   for i, p in ipairs(waiting) do
      if i % 2 == 1 then
         local result = p:finish(25)
         lu.assertEquals(result.status, table.remove(statuses, 1), result.stderr)
         lu.assertTrue(native.now() - began < wait.scaled(15), native.now() - began)
      end
   end
end

-- A stop ends what the server works at, or waits for, as well.
function TestNetworkWait.test_a_stop_ends_what_waits_for_a_lock()
   local db = new_database()
   local p = start(db)
   watch.wait_ready(p)
   local locker = db:connect()
   locker:exec "begin; lock table t in access exclusive mode"
   db:exec "create table other ()"
   wait.until_(function()
      return db:value "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
   end, 10, "the lock")
   local took, result = stop(p)
   lu.assertEquals(result.status, 0)
   lu.assertTrue(took < 5, took)
   wait.until_(function() return #backends(db) == 0 end, 2, "no backend to be left")
   locker:close()
end

-- Reconnecting ---------------------------------------------------------------------------------

-- Connections that break again and again are made ever more slowly, and leave nothing behind.
function TestNetworkWait.test_backoff_and_nothing_left()
   local db = new_database()
   local p, between = start(db)
   watch.wait_ready(p)
   local fds, size = holds(p)
   for i = 1, 25 do
      between:strike(i % 2 == 0 and "fin" or "rst")
      db:exec(("update t set n = %d where id = 1"):format(i))
      watch.wait_current(p, db)
   end
   local fds_after, size_after = holds(p)
   lu.assertTrue(fds_after <= fds + 1, ("%d descriptors, %d before"):format(fds_after, fds))
   if wait.slow == 1 then
      lu.assertTrue(size_after < size + 2048, ("%d kB, %d before"):format(size_after, size))
   end
   local began, errors = native.now(), #watch.lines(p, "^error: ")
   between:strike("rst", true)
   p:wait_until(function() return #watch.lines(p, "^error: ") >= errors + 4 end, 40, "4 failures")
   lu.assertTrue(native.now() - began > 0.75 * (0.1 + 0.5 + 1)) -- jitter takes a quarter at most
   between:heal()
   assert_exact(p, db, 10)
   p:stop()
end

return TestNetworkWait
