-- network_dead_test.lua: dead connections, what they leave, and what only looks like one.
-- SPDX-License-Identifier: MIT
--
-- That they are noticed in time, and stops meanwhile: network_test.lua.

local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local proxy = require "proxy"
local scope = require "scope"
local sessions = require "sessions"
local wait = require "wait"
local watch = require "watch"

local TestNetworkDead = {}

local function new_database(rows)
   return fixtures.database(fixtures.numbers(rows or 10))
end

-- The program on <db>, through a proxy.
local function start(db, options)
   local between = proxy.new(db)
   options = setmetatable({ dsn = between:dsn(options and options.keywords or sessions.QUICK) },
      { __index = options })
   return watch.start(db, options), between
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

-- A COPY of more than fits into sockets, whose server does not read on for some seconds. <keywords>
-- lead to it.
local function start_slow_target(keywords)
   local target, source = new_database(0), new_database(300)
   source:exec "alter table t add pad text default repeat('x', 100000)"
   target:exec [[create table a (id int, n int, pad text);
      create function slow() returns trigger language plpgsql as $$ begin
         perform pg_sleep(case new.id when 20 then 4 else 0 end); return new; end $$;
      create trigger slow before insert on a for each row execute function slow()]]
   return program.start { dsn = source, options = { "--once" }, script = ([[
      pgcdc.source {table = "t"}
         :sink(pgcdc.sinks.postgres {connect = %q, table = "a", mode = "append"})]]):format(
      proxy.new(target):dsn(keywords)) }, target
end

-- A scan whose first byte comes later than any of these times is waited for, and a target that
-- takes nothing. (tcp_user_timeout, which was set, ended that one, again and again.) Asking about
-- it leaves nothing open.
function TestNetworkDead.test_a_slow_server_is_waited_for()
   local keywords = { keepalives_idle = 1, keepalives_interval = 1, keepalives_count = 1 }
   local db = new_database(12)
   db:exec [[create function slow(int) returns boolean language plpgsql as
      'begin perform pg_sleep($1 * 0.25); return true; end']]
   local sink, target = start_slow_target(keywords)
   local p, between = start(db, { source = { where = "public.slow(n)" }, keywords = keywords })
   watch.wait_ready(p, 30)
   local fds, asked = holds(p), between:stats().accepted
   db:exec "update t set n = 1"
   watch.assert_exact(p, db, 12)
   lu.assertTrue(between:stats().accepted > asked)
   lu.assertEquals((holds(p)), fds)
   lu.assertNotStrContains(p:stderr(), "level=warn")
   lu.assertEquals(p:stop().status, 0)
   local result = sink:finish()
   lu.assertEquals({ result.status, result.stderr:match "level=warn[^\n]*" }, { 0 })
   lu.assertEquals(target:value "select count(*) from a", "300")
end

-- A backend that a half-open connection leaves would hold its locks, and vacuum back,
-- until the server finds out, hours later. It is ended, since the server can be asked.
function TestNetworkDead.test_nothing_is_left_at_the_server()
   local db = new_database()
   local p, between = start(db, { keywords = { keepalives_idle = 1, keepalives_interval = 1,
      keepalives_count = 2 } })
   watch.wait_ready(p)
   for _, direction in ipairs { "down", "up" } do
      local before = select(2, p:stderr():gsub("retry_in", ""))
      between:fault("swallow", direction, 400) -- after BEGIN and LOCK, before their end
      db:exec "update t set n = n + 1"
      p:wait_until(function()
         return select(2, p:stderr():gsub("retry_in", "")) > before
      end, 15, "the end of a connection")
      watch.assert_exact(p, db, 10)
      db:exec "set lock_timeout = '2 s'; lock table t in access exclusive mode"
      wait.until_(function() return #backends(db) == 1 end, 10, function()
         return "one backend in the place of " .. table.concat(backends(db), ", ")
      end)
   end
   p:stop()
end

-- A host that does not answer is given up for the next one. It was tried again and again instead.
function TestNetworkDead.test_the_next_host()
   local db = new_database()
   local dead, dead_too, alive = proxy.new(db), proxy.new(db), proxy.new(db)
   dead:strike("swallow", true)
   dead_too:strike("stall", true)
   local p = watch.start(db, { dsn = alive:dsn { connect_timeout = 2,
      host = table.concat({ dead.dir, dead_too.dir, alive.dir }, ",") } })
   watch.wait_ready(p, 15)
   watch.assert_exact(p, db, 10)
   lu.assertEquals({ dead:stats().accepted, dead_too:stats().accepted }, { 1, 1 })
   p:stop()
end

-- Keepalives of TCP are on, and the user's own count, from a service file too. (Libpq's defaults
-- are the kernel's: two hours.)
function TestNetworkDead.test_keepalives_of_tcp()
   local one = cluster.new { name = "tcp", tcp = true }
   one:exec "create table t (id int primary key); insert into t values (1)"
   local file = scope.dir "service" .. "/services"
   files.write(file, ("[shop]\nhost=127.0.0.1\nport=%d\nkeepalives_idle=7\n"):format(one.port))
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
   local dsn = one:dsn(nil, { host = "127.0.0.1" })
   for _, case in ipairs {
      { dsn, 20, 30 }, { dsn .. " keepalives_idle=100", 70, 100 }, { dsn .. " keepalives=0" },
      { "service=shop user=postgres dbname=postgres", 3, 7, { PGSERVICEFILE = file } },
   } do
      local p = watch.start(one, { dsn = case[1], env = case[4], source = { interval = 3600 } })
      watch.wait_ready(p)
      -- while a byte is on its way, the timer of the connection is another one
      local left = case[2] and wait.until_(due, 10, "the timer of a keepalive") or due()
      if case[2] then
         lu.assertTrue(left and left > case[2] and left <= case[3] + 0.1, tostring(left))
      else
         lu.assertNil(left)
      end
      p:stop()
   end
end

-- Connections that break again and again are made ever more slowly, and leave nothing.
function TestNetworkDead.test_backoff_and_nothing_left()
   local db = new_database()
   local p, between = start(db)
   watch.wait_ready(p)
   local fds, size = holds(p)
   for i = 1, 12 do
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
   watch.assert_exact(p, db, 10)
   p:stop()
end

return TestNetworkDead
