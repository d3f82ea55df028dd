-- harness_cluster_test.lua: the test support library: servers and connections to them.
-- SPDX-License-Identifier: MIT
--
-- The other suites trust what is checked here: that a server that was stopped or killed is gone
-- with all its processes, that a standby has replayed what we waited for, that one thread drives
-- many connections.

local cluster = require "cluster"
local lu = require "luaunit"
local native = require "native"
local scope = require "scope"
local server = require "server"
local wait = require "wait"

local TestHarnessCluster = {}

-- Connections ----------------------------------------------------------------------------------

function TestHarnessCluster.test_rows_and_errors()
   local db = cluster.main():database()
   local rows = db:exec [[
      select 1 as a, null as b, 'x''y' as c union all select 2, 'n', '' order by 1]]
   lu.assertEquals(rows[1], { "1", false, "x'y" })
   lu.assertEquals(rows[2], { "2", "n", "" })
   lu.assertEquals(rows.columns, { "a", "b", "c" })
   lu.assertEquals(#rows, 2)
   db:exec "create table t (id int)"
   lu.assertEquals(db:exec "insert into t select generate_series(1, 5); select 1/1".count, 1)
   lu.assertEquals(db:exec "delete from t where id > 3".count, 2)
   db:exec "insert into t values (4), (5)"
   lu.assertEquals(db:value "select count(*) from t", "5")
   lu.assertNil(db:value "select id from t where id > 5")
   local none, err = db:try "select 1/0"
   lu.assertNil(none)
   lu.assertEquals(err.sqlstate, "22012")
   lu.assertEquals(tostring(err), "22012: division by zero")
   local ok, raised = pcall(db.exec, db, "select nowhere")
   lu.assertFalse(ok)
   lu.assertEquals(raised.sqlstate, "42703")
   lu.assertEquals(db:value "select 1", "1")
   local odd = "it's \\ \"odd\""
   lu.assertEquals(db:value("select " .. db:connection():escape(odd)), odd)
   lu.assertEquals(db:connection():ident 'a"b', '"a""b"')
   lu.assertErrorMsgContains("zero byte", db.exec, db, "select '\0'")
   lu.assertEquals(db:exec "".count, 0)
end

function TestHarnessCluster.test_connect_fails_with_a_message()
   local conn, message = native.connect(cluster.main():dsn "no_such_database")
   lu.assertNil(conn)
   lu.assertStrContains(message, "no_such_database")
   conn, message = native.connect "host=/no/such/dir"
   lu.assertNil(conn)
   lu.assertStrContains(message, "No such file or directory")
end

function TestHarnessCluster.test_a_statement_past_its_time_is_cancelled()
   local db = cluster.main():database()
   local _, err = db:try("select pg_sleep(1000)", 0.05)
   lu.assertEquals(err.sqlstate, "57014")
   lu.assertEquals(db:value "select 2", "2")
end

function TestHarnessCluster.test_copy_closes_the_connection()
   local db = cluster.main():database()
   local _, err = db:try "copy (select 1) to stdout"
   lu.assertEquals(err.sqlstate, "0A000")
   lu.assertEquals(db:value "select 3", "3")
end

function TestHarnessCluster.test_many_connections_at_once()
   local db = cluster.main():database()
   db:exec "create table t (writer int, n int)"
   local writers, statements = 12, 40
   local conns, left = {}, {}
   for i = 1, writers do
      conns[i] = db:connect()
      left[conns[i]] = statements
   end
   local function next_statement(conn, i)
      left[conn] = left[conn] - 1
      assert(conn:send(("insert into t values (%d, %d)"):format(i, left[conn])))
   end
   for i, conn in ipairs(conns) do
      next_statement(conn, i)
   end
   local deadline = native.now() + wait.scaled(60)
   local open = writers
   while open > 0 do
      assert(native.now() < deadline, "the writers take too long")
      native.poll(conns, 1)
      for i, conn in ipairs(conns) do
         if left[conn] and not conn:busy() then
            lu.assertEquals(assert(conn:collect()).count, 1)
            if left[conn] > 0 then
               next_statement(conn, i)
            else
               left[conn] = nil
               open = open - 1
            end
         end
      end
   end
   lu.assertEquals(db:value "select count(*) from (select distinct * from t) x",
                   tostring(writers * statements))
end

function TestHarnessCluster.test_asynchronous_errors_and_misuse()
   local db = cluster.main():database()
   local conn = db:connect()
   lu.assertErrorMsgContains("nothing was sent", conn.collect, conn)
   lu.assertTrue(conn:send "select pg_sleep(1000)")
   lu.assertTrue(conn:busy())
   lu.assertEquals(select(2, conn:collect(0.01)), "timeout")
   lu.assertErrorMsgContains("not been collected", conn.send, conn, "select 1")
   db:exec(("select pg_terminate_backend(%d)"):format(conn:pid()))
   local rows, err = conn:collect(wait.scaled(10))
   lu.assertNil(rows)
   lu.assertEquals(err.sqlstate, "57P01")
   lu.assertFalse(conn:alive())
   rows, err = conn:try "select 1"
   lu.assertNil(rows)
   lu.assertEquals(err.sqlstate, "08006")
   conn:close()
   lu.assertErrorMsgContains("closed", conn.exec, conn, "select 1")
end

-- Clusters -------------------------------------------------------------------------------------

function TestHarnessCluster.test_defaults()
   local main = cluster.main()
   for setting, value in pairs {
      fsync = "off", full_page_writes = "off", autovacuum = "off", wal_level = "replica",
      max_prepared_transactions = "20", max_wal_senders = "10", hot_standby = "on",
      listen_addresses = "", server_encoding = "UTF8",
   } do
      lu.assertEquals(main:value("show " .. setting), value)
   end
   lu.assertEquals(main:value "select current_user", "postgres")
   lu.assertEquals(cluster.version(), main:value "show server_version_num" // 10000)
   lu.assertIs(cluster.main(), main)
end

function TestHarnessCluster.test_databases_have_unique_names_and_go()
   local main = cluster.main()
   scope.open()
   local one, two = main:database(), main:database { name = "named", sql = "encoding 'UTF8'" }
   lu.assertNotEquals(one.name, two.name)
   lu.assertEquals(two:value "select current_database()", two.name)
   local conn = one:connect()
   lu.assertNil(scope.close())
   lu.assertFalse(conn:alive())
   local sql = "select count(*) from pg_database where datname in ('%s', '%s')"
   lu.assertEquals(main:value(sql:format(one.name, two.name)), "0")
end

function TestHarnessCluster.test_roles()
   local main = cluster.main()
   local role = main:role "login password 'x'"
   lu.assertEquals(main:connect(nil, { user = role }):value "select current_user", role)
   main:exec("create table owned (); alter table owned owner to " .. role)
   main:drop_role(role, "no such role")
   lu.assertFalse(main:value(("select to_regrole('%s')"):format(role)))
   lu.assertFalse(main:value "select to_regclass('owned')")
end

function TestHarnessCluster.test_stop_restart_and_settings()
   local one = cluster.new { name = "a name with spaces", conf = { work_mem = "3MB" } }
   lu.assertStrContains(one.data, "a name with spaces")
   lu.assertEquals(one:value "show work_mem", "3MB")
   one:exec "create table t as select 7 as x"
   for _, mode in ipairs { "fast", "immediate", "smart" } do
      local pid = one:postmaster_pid()
      one:stop(mode)
      lu.assertFalse(one:running())
      lu.assertFalse(native.running(pid))
      one:start()
      lu.assertNotEquals(one:postmaster_pid(), pid)
      lu.assertEquals(one:value "select x from t", "7")
   end
   one:configure { work_mem = "5MB", log_line_prefix = [[it's \ %p ]] }
   lu.assertEquals(one:value "show work_mem", "5MB")
   lu.assertEquals(one:value "show log_line_prefix", [[it's \ %p ]])
   one:exec "alter system set work_mem = '6MB'"
   one:reload()
   lu.assertEquals(one:value "show work_mem", "6MB")
   one:restart()
   lu.assertEquals(one:value "show work_mem", "6MB")
   lu.assertStrContains(one:log(), "database system is ready")
   lu.assertErrorMsgContains("no such way", one.stop, one, "gentle")
   local dir = one.dir
   one:destroy()
   lu.assertNil(native.listdir(dir))
end

function TestHarnessCluster.test_a_server_that_cannot_start_says_why()
   local one = cluster.new { start = false, conf = { shared_buffers = "nonsense" } }
   lu.assertErrorMsgContains("nonsense", one.start, one)
   lu.assertFalse(one:running())
end

function TestHarnessCluster.test_kill9_leaves_nobody_and_starts_again()
   local one = cluster.new()
   one:exec "create table t (x int)"
   one:exec "insert into t values (1)"
   local conn = one:connect()
   conn:send "select pg_sleep(1000)"
   local pids = native.children(one:postmaster_pid())
   lu.assertTrue(#pids >= 3)
   pids[#pids + 1] = one:postmaster_pid()
   one:kill9()
   for _, pid in ipairs(pids) do
      lu.assertFalse(native.running(pid))
   end
   lu.assertNil((conn:collect(wait.scaled(10))))
   one:start()
   lu.assertEquals(one:value "select x from t", "1")
   lu.assertStrContains(one:log(), "was not properly shut down")
   one:kill9() -- and destroyed by the end of this test, segment and all
end

function TestHarnessCluster.test_crash_of_a_backend()
   local one = cluster.new()
   local pid = one:postmaster_pid()
   local conn = one:connect()
   one:exec "create table t as select 1 as x"
   one:crash()
   lu.assertEquals(one:value "select x from t", "1")
   lu.assertStrContains(one:log(), "reinitializing")
   lu.assertFalse(conn:alive())
   lu.assertEquals(one:postmaster_pid(), pid)
end

function TestHarnessCluster.test_copy_shares_the_identity_and_fresh_does_not()
   local identity = "select system_identifier from pg_control_system()"
   local one = cluster.new()
   one:exec "create table t as select 1 as x"
   local id = one:value(identity)
   lu.assertErrorMsgContains("stop the cluster", one.copy, one, "early")
   one:stop()
   local two = one:copy "second"
   lu.assertFalse(two:running())
   one:start():exec "insert into t values (2)"
   two:start()
   lu.assertEquals(two:value "select count(*) from t", "1")
   lu.assertEquals(two:value(identity), id)
   one:kill9()
   local three = cluster.new { copy_of = one, conf = { work_mem = "9MB" } }
   lu.assertEquals(three:value "show work_mem", "9MB")
   lu.assertEquals(three:value "select count(*) from t", "2")
   local other = cluster.new { fresh = true, initdb = { "--wal-segsize=1" }, tcp = true }
   lu.assertNotEquals(other:value(identity), id)
   lu.assertEquals(other:value "show wal_segment_size", "1MB")
   local conn = other:connect(nil, { host = "127.0.0.1" })
   lu.assertEquals(conn:value "select inet_server_port()", tostring(other.port))
end

function TestHarnessCluster.test_standby_replays_and_is_promoted()
   local one = cluster.new { name = "primary" }
   one:exec "create table t (x int)"
   local two = one:standby("second", { conf = { max_standby_streaming_delay = "-1" } })
   lu.assertTrue(two:in_recovery())
   lu.assertEquals(two:value "show max_standby_streaming_delay", "-1")
   for i = 1, 20 do
      one:exec(("insert into t select generate_series(1, %d)"):format(i * 37))
      two:wait_replay()
      lu.assertEquals(two:value "select count(*) from t", one:value "select count(*) from t")
   end
   lu.assertEquals(one:value "select application_name from pg_stat_replication", "second")
   local _, err = two:try "insert into t values (1)"
   lu.assertEquals(err.sqlstate, "25006")
   two:restart()
   lu.assertTrue(two:in_recovery())
   two:kill9()
   two:start()
   one:stop "immediate"
   two:promote()
   lu.assertFalse(two:in_recovery())
   two:exec "insert into t values (1)"
   two:restart()
   lu.assertFalse(two:in_recovery())
   local three = cluster.new { standby_of = two, name = "third" }
   three:wait_replay(two:lsn())
   lu.assertTrue(three:in_recovery())
end

function TestHarnessCluster.test_waiting_for_replay_at_the_start_of_a_page()
   local one = cluster.new { name = "primary" }
   local two = one:standby "second"
   one:exec "select pg_switch_wal()"
   two:wait_replay()
   one:exec "checkpoint"
   two:wait_replay()
end

function TestHarnessCluster.test_hba()
   local one = cluster.new()
   one:exec "create role joe login password 'secret'"
   one:hba "local all postgres trust\nlocal all joe scram-sha-256\n"
   local conn, message = native.connect(one:dsn(nil, { user = "joe", password = "wrong" }))
   lu.assertNil(conn)
   lu.assertStrContains(message, "password authentication failed")
   lu.assertEquals(one:connect(nil, { user = "joe", password = "secret" }):value "select 1", "1")
end

function TestHarnessCluster.test_server_runs_as_an_ordinary_user()
   local f = assert(io.open(("/proc/%d/status"):format(cluster.main():postmaster_pid())))
   local uid = tonumber(f:read("a"):match "Uid:%s+(%d+)")
   f:close()
   lu.assertNotEquals(uid, 0)
   lu.assertEquals(uid, server.user() and (native.user(server.user())) or native.getuid())
end

return TestHarnessCluster
