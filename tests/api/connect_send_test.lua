-- connect_send_test.lua: pgcdc.connect: statements whose result is waited for later.
-- SPDX-License-Identifier: MIT

local client = require "client"
local cluster = require "cluster"
local lu = require "luaunit"
local program = require "program"
local wait = require "wait"

local TestConnectSend = {}

local prelude = [[
local db, other = pgcdc.connect(), pgcdc.connect()
local function value(sql, ...)
   return select(2, next(other:query("select " .. sql, ...)[1]))
end
local function pid(of) return of:query("select pg_backend_pid() as p")[1].p end
local function is_there(p) return value("count(*) from pg_stat_activity where pid = $1", p) == 1 end
local _ = fails, value, pid, is_there
]]
prelude = client.FAILS .. prelude:gsub("\n", " ")

-- Runs a script whose `db` and `other` are connected to a new database, or to <database>.
local function run(script, database, options)
   local result = program.run { script = prelude .. script, state = false, options = options,
      dsn = database or cluster.main():database() }
   lu.assertEquals(result.status, 0, result.stderr)
   return result.lines, result
end

-- Waits until so many backends of a database wait for a lock, or sleep.
local function wait_workers(database, n)
   wait.until_(function()
      return tonumber(database.cluster:value(([[select count(*) from pg_stat_activity where
         datname = '%s' and (wait_event = 'advisory' or wait_event = 'PgSleep')]]):format(
         database.name))) == n
   end, 30, n .. " statements at work")
end

-- The server works while the script goes on: it waits for a lock that is let go only later.
function TestConnectSend.test_the_server_works_meanwhile()
   lu.assertEquals(run [[
      other:exec "select pg_advisory_lock(1)"
      db:send "select pg_advisory_lock(1), 7 as n"
      repeat until value "count(*) from pg_locks where locktype = 'advisory' and not granted" == 1
      other:exec "select pg_advisory_unlock(1)"
      print(db:result()[1].n)
   ]], { "7" })
end

-- What query and exec give, result gives; parameters are bound in the same way.
function TestConnectSend.test_results()
   lu.assertEquals(run [[
      db:exec "create table t (id int, v text[], b bytea)"
      db:send("insert into t values ($1, $2, $3), ($1 + 1, null, $3)", 1, {"a", "b,c"}, "\0")
      local rows, n = db:result()
      print(#rows, n)
      db:send "select * from t order by id"
      rows, n = db:result()
      print(n, rows[1].id, rows[1].v[2], rows[1].b == "\0", rows[2].id, rows[2].v)
      db:send "select 1 as a; select 2 as b"
      print(db:result()[1].b)
      db:send ""
      print(#db:result())
   ]], { "0\t2", "2\t1\tb,c\ttrue\t2\tnil", "2", "0" })
end

-- Far more than what the network holds, both ways, on two connections at once.
function TestConnectSend.test_much()
   lu.assertEquals(run [[
      local long = ("x"):rep(8000000)
      for _, conn in ipairs {db, other} do
         conn:send("select $1::text || g as v from generate_series(1, 2) g", long)
      end
      for _, conn in ipairs {db, other} do
         print(conn:result()[2].v == long .. "2")
      end
   ]], { "true", "true" })
end

function TestConnectSend.test_errors()
   local lines = run [[
      fails(db.result, db)
      db:send "select nonsense"
      fails(db.result, db)
      fails(db.result, db)
      fails(db.send, db, "select $1::int", "x", print)
      db:send("select $1::int", "x")
      fails(db.result, db)
      db:send "copy (select 1) to stdout"
      fails(db.result, db)
      db:send "begin"
      fails(db.result, db)
      fails(db.send, db)
      fails(db.send, "select 1")
      fails(db.result)
      fails(db.send, pgcdc.connect "host=/nowhere", "select 1")
      db:send "select 1 as still_there"
      print(db:result()[1].still_there)
   ]]
   local none = "db:result: no statement was sent, or its result is taken or lost"
   local expected = {
      none,
      'db:result: column "nonsense" does not exist (42703)',
      none,
      "db:send: parameter $2 is a function",
      'db:result: invalid input syntax for type integer: "x" (22P02)',
      "db:result: COPY is not possible here",
      "db:result: a transaction was begun and not ended; use db:transaction(f)",
      "db:send: the statement must be a string, not nil",
      "db:send: call it with a colon, as db:send(...)",
      "db:result: call it with a colon, as db:result(...)",
      'db:send: connection to server on socket "/nowhere/.s.PGSQL.5432" failed: .*',
      "1",
   }
   client.assert_lines(lines, expected)
end

-- A result that nobody takes is dropped by what comes next, which is not disturbed by it.
function TestConnectSend.test_results_that_nobody_takes()
   local lines, result = run [[
      db:exec "create table t (id int primary key)"
      db:send "insert into t values (1)"
      db:send "insert into t values (2)"
      print(db:exec "insert into t values (3)")
      fails(db.result, db)
      db:send "insert into t values (3)"
      print(db:query("select count(*) as n from t")[1].n)
      db:send "begin"
      print(db:query("select 1 as n")[1].n)
      db:send "select 1"
      print(db:transaction(function(d)
         d:send "insert into t values (4)"
         d:send "insert into t values (5)"
         return d:query("select count(*) as n from t")[1].n
      end))
      fails(db.transaction, db, function(d)
         d:exec "insert into t values (6)"
         d:send "insert into t values (6)"
      end)
      db:transaction(function(d) d:send "insert into t values (7)" end)
      print(value("string_agg(id::text,',') from t"))
   ]]
   lu.assertEquals(lines, {
      "1", "db:result: no statement was sent, or its result is taken or lost", "3", "1", "5",
      "db:transaction: a statement failed, so that nothing can be committed", "1,2,3,4,5,7" })
   local _, warnings = result.stderr:gsub("level=warn", "")
   lu.assertEquals(warnings, 2)
   lu.assertStrContains(result.stderr, "a statement failed whose result nobody took")
   lu.assertStrContains(result.stderr, "duplicate key value")
end

-- A statement that nobody is to wait for any more is ended at the server: by close, by the
-- collector, by an error in a transaction, and by the end of the program.
function TestConnectSend.test_who_goes_takes_the_statement_along()
   local database = cluster.main():database()
   local lines = run([[
      local forever = "select pg_sleep(100000)"
      local p = pid(db)
      db:send(forever)
      db:close()
      fails(db.result, db)
      repeat until not is_there(p)
      p = pid(db)
      fails(db.transaction, db, function(d)
         d:send(forever)
         error("enough", 0)
      end)
      repeat until not is_there(p)
      local third = pgcdc.connect()
      p = pid(third)
      third:send(forever)
      third = nil
      collectgarbage() collectgarbage()
      repeat until not is_there(p)
      print(db:query("select 1 as n")[1].n)
      db:send(forever)
   ]], database)
   lu.assertEquals(lines,
      { "db:result: no statement was sent, or its result is taken or lost", "enough", "1" })
   wait_workers(database, 0)
end

-- A connection lost in the meantime is an error of result, and the next use connects again; but not
-- inside a transaction. Nothing is sent again.
function TestConnectSend.test_lost_connections()
   local lines = run [[
      db:exec "create table t (id serial)"
      local sql = "insert into t select from pg_sleep(100000)"
      local function lose(d)
         local p = pid(d)
         d:send(sql)
         other:exec("select pg_terminate_backend($1)", p)
         repeat until not is_there(p)
      end
      lose(db)
      fails(db.result, db)
      fails(db.result, db)
      lose(db)
      print(db:query("select count(*) as n from t")[1].n)
      fails(db.transaction, db, function(d)
         lose(d)
         pcall(d.result, d)
         pcall(d.send, d, "insert into t select")
      end)
      fails(db.transaction, db, lose)
      print(db:query("select count(*) as n from t")[1].n)
   ]]
   lu.assertStrContains(lines[1], "terminating connection due to administrator command")
   lu.assertStrContains(lines[1], "whether the statement was run is not known")
   lu.assertStrContains(lines[2], "no statement was sent")
   lu.assertEquals(lines[3], "0")
   lu.assertEquals(lines[4],
      "db:transaction: the connection was lost, and the transaction with it")
   lu.assertEquals(lines[5],
      "db:transaction: the connection was lost, and the transaction with it")
   lu.assertEquals(lines[6], "0")
end

-- A first signal waits for a statement whose result is waited for, as it does for db:query; a
-- second one does not.
function TestConnectSend.test_signals()
   local database = cluster.main():database()
   database:exec "create table t (id int primary key); insert into t values (1)"
   local locker = database:connect()
   for _, is_patient in ipairs { true, false } do
      locker:exec "select pg_advisory_lock(1)"
      local it = program.start { dsn = database, state = false, script = [[
         local db = pgcdc.connect()
         pgcdc.source {table = "t", on_change = function()
            db:send "select pg_advisory_xact_lock(1), 5 as n"
            print(db:result()[1].n)
         end}]] }
      wait_workers(database, 1)
      it:signal "TERM"
      if is_patient then
         locker:exec "select pg_advisory_unlock(1)"
         local result = it:finish()
         lu.assertEquals({ result.status, result.lines }, { 0, { "5" } }, result.stderr)
      else
         wait.until_(function()
            it:signal "TERM" -- two that come at once are one
            return not it:alive()
         end, 30, "the end of the program")
         lu.assertEquals(it:finish().lines, {})
         locker:exec "select pg_advisory_unlock(1)"
      end
      wait_workers(database, 0)
   end
end

-- A handler that --max-time cuts off between send and result does not spoil the connection for the
-- next one; nor does the sandbox mind.
function TestConnectSend.test_a_handler_that_is_cut_off()
   local database = cluster.main():database()
   database:exec "create table t (id int primary key); insert into t values (1), (2), (3)"
   local result = program.run { dsn = database, state = false,
      options = { "--once", "--sandbox", "--max-time", "0.5" }, script = [[
         local db = pgcdc.connect()
         pgcdc.source {table = "t", on_error = "skip", on_change = function(change)
            db:send("select $1::int as n", change.key.id)
            while change.key.id == 2 do end
            print(db:result()[1].n)
         end}]] }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.lines, { "1", "3" })
end

return TestConnectSend
