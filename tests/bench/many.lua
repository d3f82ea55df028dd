-- many.lua: what a thousand small tables cost that few write, in a database that is busy.
-- SPDX-License-Identifier: MIT
--
-- Called by bench.lua, with its tools. Each table has 100 rows and is polled once a second;
-- somebody else commits ten times a second. The processor time is that of all our backends, and our
-- own, as parts of one core.

local native = require "native"
local program = require "program"

local TABLES = 1000
local SECONDS = 20
local COMMITS = 10 -- a second

local script = ([[
   local ready = 0
   for i = 1, %d do
      pgcdc.source { table = "many_" .. i, interval = 1, max_load = 1, hints = HINTS }
         :on("ready", function() ready = ready + 1 if ready == %d then print "ready" end end)
         :on("change", function(c) if c.op ~= "read" then print(c.source, c.key.id) end end)
   end]]):format(TABLES, TABLES)

local function backends(db)
   local sum = 0
   for pid in db:value([[select string_agg(pid::text, ' ') from pg_stat_activity
      where backend_type = 'client backend' and pid <> pg_backend_pid()
        and datname = current_database()]]):gmatch "%d+" do
      sum = sum + native.proc_cpu(math.tointeger(tonumber(pid)))
   end
   return sum
end

local function busy(db, seconds)
   local deadline = native.now() + seconds
   while native.now() < deadline do
      db:exec "insert into elsewhere values (1)"
      native.sleep(1 / COMMITS)
   end
end

-- Cores of the server's and of ours, and how long a change took that came in between.
local function measure(b, db, hints)
   local p = program.start { dsn = db, state = false,
      script = script:gsub("HINTS", hints) }
   p:wait_until(function() return p:stdout():find "ready" end, b.patience, "the first reads")
   busy(db, 10) -- until notes are armed
   local theirs, ours, began = backends(db), p:cpu(), native.now()
   busy(db, SECONDS / 2)
   local written = native.now()
   db:exec(("update many_%d set note = 'y' where id = 7"):format(TABLES // 2))
   p:wait_until(function() return p:stdout():find "many_%d+%s+7" end, b.patience, "the change")
   local latency = native.now() - written
   busy(db, SECONDS / 2)
   local seconds = native.now() - began
   theirs, ours = (backends(db) - theirs) / seconds, (p:cpu() - ours) / seconds
   assert(p:stop().status == 0)
   return theirs, ours, latency
end

return function(b)
   local db = b.cluster:database { name = "many" }
   db:exec "create table elsewhere (id int)"
   for i = 1, TABLES, 100 do
      db:exec(([[do $$ begin for i in %d .. %d loop
         execute format('create table many_%%s (id int primary key, note text)', i);
         execute format('insert into many_%%s select generate_series(1, 100), ''x''', i);
      end loop; end $$]]):format(i, i + 99))
   end
   if not db:try "create extension pg_walinspect" then
      b.say "a thousand tables: no pg_walinspect on this server"
      return
   end
   local scans, _ = measure(b, db, "false")
   local theirs, ours, latency = measure(b, db, '"auto"')
   b.say("%d tables at 1 s, %d commits a second elsewhere: by scans %.2f cores of the server's,"
      .. " by hints %.2f, ours %.2f, a change came after %.1f s", TABLES, COMMITS, scans, theirs,
      ours, latency)
   b.line(("%d quiet tables, busy cluster, the server"):format(TABLES),
      ("%.2f cores"):format(theirs), "<= 0.20 cores", theirs <= 0.2)
end
