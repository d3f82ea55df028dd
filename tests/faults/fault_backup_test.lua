-- fault_backup_test.lua: a server is replaced by a base backup of itself.
-- SPDX-License-Identifier: MIT
--
-- Recovered to the backup's end, the cluster has forgotten what was written since, and gives the
-- xids of that out again: what they write now must come. Copies of files: fault_identity_test.lua.

local cluster = require "cluster"
local deletes = require "deletes"
local fixtures = require "fixtures"
local lu = require "luaunit"
local server = require "server"
local wait = require "wait"
local watch = require "watch"

local TestFaultBackup = {}

local function new_cluster()
   local one = cluster.new()
   one:exec(fixtures.numbers(20))
   return one
end

-- Takes a backup of the running cluster; returns where it is.
local function back_up(one)
   local path = one.dir .. "/backup"
   server.run { server.client "pg_basebackup", "-D", path, "-d", one:dsn(nil, { dbname = false }),
      "--checkpoint=fast", "--no-sync" }
   return path
end

-- Facts that the backup must share, or not, with what it takes the place of.
local function identity(one)
   return one:exec [[select system_identifier,
      substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
      from pg_control_system()]][1]
end

-- The backup becomes the cluster, under the same address. <conf>: of a recovery to a point in time,
-- which begins a new timeline.
local function restore(one, backup, conf)
   local before = identity(one)
   one:stop()
   server.run { "rm", "-rf", "--", one.data }
   server.run { "mv", "--", backup, one.data }
   for key, value in pairs(conf or {}) do
      one.conf[key] = value
   end
   if conf then
      server.run { "touch", one.data .. "/recovery.signal" }
   end
   one:start()
   wait.until_(function() return not one:in_recovery() end, 30, "the end of recovery")
   local after = identity(one)
   lu.assertEquals(after[1], before[1])
   lu.assertEquals(after[2] ~= before[2], conf ~= nil, "the timeline")
end

local function need_pg_basebackup()
   local program = server.client "pg_basebackup"
   lu.skipIf(not program, "there is no pg_basebackup")
   local major = tonumber(server.run({ program, "-V" }):match "(%d+)")
   lu.skipIf(major ~= server.version(), "there is no pg_basebackup of this version")
end

-- Writes rows with an xid each; returns these.
local function insert(one, from, to)
   local xids = {}
   for id = from, to do
      xids[#xids + 1] = one:value(("insert into t values (%d) returning xmin"):format(id))
   end
   return xids
end

-- Between two runs. Where deletes are looked for what was written in between is taken back, and
-- nothing else comes again.
function TestFaultBackup.test_restored_between_two_runs()
   need_pg_basebackup()
   local one = new_cluster()
   local state = fixtures.state()
   lu.assertEquals(#deletes.run(one, 'table = "t"', state), 20)
   local backup = back_up(one)
   one:exec "update t set n = 1 where id <= 2; delete from t where id = 20"
   local xids = insert(one, 101, 105)
   lu.assertEquals(#deletes.run(one, 'table = "t"', state), 8)
   restore(one, backup)
   one:exec "create table elsewhere (); update t set n = 2 where id = 3" -- xids of the first update
   insert(one, 201, 201)
   lu.assertTrue(tonumber(one:value "select xmin from t where id = 201") <= tonumber(xids[1]))
   local changes, stderr = deletes.run(one, 'table = "t"', state)
   lu.assertStrContains(stderr, "level=warn")
   lu.assertStrContains(stderr, "went back")
   lu.assertStrContains(stderr, "read again from its start")
   lu.assertEquals(deletes.sorted(deletes.ops(changes)), { "delete 101", "delete 102", "delete 103",
      "delete 104", "delete 105", "insert 20", "insert 201", "update 1", "update 2", "update 3" })
   lu.assertEquals(deletes.run(one, 'table = "t"', state), {})
   insert(one, 202, 202)
   lu.assertEquals(deletes.ops(deletes.run(one, 'table = "t"', state)), { "insert 202" })
end

-- Under a program that runs on, and looks again only when the restored cluster has given out more
-- xids, and written more, than it had seen: the new timeline tells.
function TestFaultBackup.test_recovered_to_a_point_in_time()
   need_pg_basebackup()
   local one = new_cluster()
   local p = watch.start_current(one)
   local backup = back_up(one)
   local xids = insert(one, 101, 105)
   local lsn = one:lsn()
   watch.wait_current(p, one)
   p:signal "STOP"
   restore(one, backup, { recovery_target = "immediate", recovery_target_action = "promote",
      restore_command = "false" })
   local again = insert(one, 201, 220)
   lu.assertTrue(tonumber(again[1]) <= tonumber(xids[1]))
   lu.assertTrue(tonumber(again[#again]) > tonumber(xids[#xids]))
   while one:value(("select pg_current_wal_insert_lsn() <= '%s'"):format(lsn)) == "t" do
      one:exec "create table if not exists big (); select pg_switch_wal(); drop table big"
   end
   p:signal "CONT"
   p:wait_stderr "level=warn [^\n]*timeline changed[^\n]*read again from its start"
   watch.wait_current(p, one)
   insert(one, 221, 221)
   watch.wait_current(p, one)
   lu.assertEquals(watch.ops(p), { read = 20 + 40, upsert = 5 + 1 })
   lu.assertEquals(p:stop().status, 0)
end

return TestFaultBackup
