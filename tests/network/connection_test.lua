-- connection_test.lua: ways to a server: TLS, passwords, poolers, a role with next to no rights.
-- SPDX-License-Identifier: MIT
--
-- On each way the same pipeline runs: a table is captured by xmin, with deletes, and by triggers;
-- there are a snapshot, polls, a restart; and what came is compared with the table, exactly.

local certificates = require "certificates"
local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local pooler = require "pooler"
local program = require "program"
local scope = require "scope"
local server = require "server"
local stepping = require "stepping"
local tables = require "tables"
local watch = require "watch"

local TestConnection = {}

local PASSWORD = "q7-hidden-treasure"
local KINDS = { "xmin", "deletes", "trigger" }

local SCRIPT = [[
   local fields = {
      xmin = {}, deletes = {deletes = true}, trigger = {capture = "trigger", interval = 0.3},
   }
   for kind in pgcdc.args.kinds:gmatch "%a+" do
      local spec = fields[kind]
      spec.name, spec.table, spec.interval = kind, "public.t", spec.interval or 0.05
      pgcdc.source(spec)
         :on("change", function(c)
            print(kind, c.op, c.key.id, c.row and c.row.n, c.id:match "/.*")
         end)
         :on("ready", function() print(kind, "ready") end)
   end]]

local function new_database(one)
   local db = one:database()
   db:exec [[create table t (id int primary key, n int not null);
      insert into t select i, i from generate_series(1, 500) i]]
   return db
end

-- What the lines of the programs come to: by kind {rows: n by id, ids: how often each id came,
-- ready: how often}.
local function sum_up(programs)
   local sums = {}
   for _, kind in ipairs(KINDS) do
      sums[kind] = { rows = {}, ids = {}, ready = 0 }
   end
   for _, p in ipairs(programs) do
      for _, line in ipairs(p:lines()) do
         local kind, op, key, n, id = line:match "^(%a+)\t(%a+)\t?(%d*)\t?(%w*)\t?(.*)$"
         local sum = assert(sums[kind], line)
         if op == "ready" then
            sum.ready = sum.ready + 1
         else
            sum.rows[tonumber(key)] = op ~= "delete" and tonumber(n) or nil
            sum.ids[id] = (sum.ids[id] or 0) + 1
         end
      end
   end
   return sums
end

-- nil, or how what came differs from the table.
local function difference(db, kinds, sums)
   local rows, versions = {}, {}
   for _, row in ipairs(db:exec "select id, n, xmin from t") do
      rows[tonumber(row[1])] = tonumber(row[2])
      versions[#versions + 1] = ("/%s/%s"):format(row[3], row[1])
   end
   for _, kind in ipairs(kinds) do
      for _, id in ipairs(versions) do
         if sums[kind].ids[id] ~= 1 then
            return ("%s: %s came %s times"):format(kind, id, sums[kind].ids[id])
         end
      end
      for key, n in pairs(rows) do
         if sums[kind].rows[key] ~= n then
            return ("%s: row %d is %s, not %d"):format(kind, key, sums[kind].rows[key], n)
         end
      end
      for key in pairs(sums[kind].rows) do
         if kind ~= "xmin" and not rows[key] then
            return ("%s: row %d is gone"):format(kind, key)
         end
      end
   end
   return nil
end

local function wait_exact(db, kinds, programs)
   local last, problem = programs[#programs], nil
   last:wait_until(function()
      problem = difference(db, kinds, sum_up(programs))
      return not problem
   end, 30, setmetatable({}, { __concat = function(_, text) return problem .. text end }))
end

local function work(db, round)
   db:exec(("insert into t select i, i from generate_series(%d, %d) i"):format(
      round * 1000, round * 1000 + 50))
   db:exec(("update t set n = n + %d where id %% 10 = %d"):format(round, round % 10))
   db:exec(("delete from t where id %% 50 = %d"):format(round % 10 + 20))
end

-- The whole of it over <dsn>. options: kinds, default all; env, of the program; first, the number
-- of the round before the first; during, called with the program, when it has caught up, and which
-- start of it this is: what it changes must come. Returns all that was said on standard error.
local function pipeline(db, dsn, options)
   options = options or {}
   local kinds = options.kinds or KINDS
   local state = fixtures.state()
   local programs, said, round = {}, "", options.first or 0
   for turn = 1, 2 do
      local p = program.start { script = SCRIPT, dsn = dsn, state = state, env = options.env,
         options = { "--log-level=debug" }, args = { kinds = table.concat(kinds, ",") } }
      programs[turn] = p
      p:wait_until(function()
         local sums = sum_up { p }
         for _, kind in ipairs(kinds) do
            if sums[kind].ready == 0 then
               return false
            end
         end
         return true
      end, 30, "ready")
      for _ = 1, 2 do
         round = round + 1
         work(db, round)
         wait_exact(db, kinds, programs)
      end
      if options.during then
         options.during(p, turn)
         wait_exact(db, kinds, programs)
      end
      lu.assertEquals(p:stop().status, 0, p:stderr())
      said = said .. p:stderr()
      round = round + 1
      work(db, round) -- while nobody looks
      lu.assertNotStrContains(p:stderr(), "level=error")
   end
   for kind, sum in pairs(sum_up(programs)) do
      for id, count in pairs(sum.ids) do
         lu.assertEquals(count, 1, kind .. " " .. id)
      end
   end
   return said
end

-- ---- TLS and passwords ----

-- A cluster that is reached over TLS and with a SCRAM password only, but for the tests themselves.
function TestConnection.setupClass()
   local dir = scope.dir "certificates"
   local ca, ca_key = certificates.authority(dir, "ca")
   local one = cluster.new { name = "tls", tcp = true, start = false, conf = {
      ssl = "on", password_encryption = "scram-sha-256",
   } }
   certificates.give(one, dir, ca, ca_key)
   one:hba "local all,replication all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
   one:start()
   one:exec(("create role \"far\" superuser login password '%s'"):format(PASSWORD))
   TestConnection.one, TestConnection.ca, TestConnection.dir = one, ca, dir
end

-- The way of the README: verify-full, and the password in a file.
local function far_dsn(db, keywords)
   return db:dsn(tables.merge({ host = "localhost", hostaddr = "127.0.0.1", user = "far",
      sslmode = "verify-full", sslrootcert = TestConnection.ca }, keywords))
end

local function password_file(password)
   local path = scope.dir "pass" .. "/pgpass"
   files.write(path, "localhost:*:*:far:" .. password .. "\n")
   server.run({ "chmod", "600", path }, { user = false })
   return { PGPASSFILE = path }
end

function TestConnection.test_tls_and_a_password_from_a_file()
   local db = new_database(TestConnection.one)
   stepping.trigger(db, "install")
   local said = pipeline(db, far_dsn(db), {
      env = password_file(PASSWORD),
      during = function()
         lu.assertEquals(db:value [[select bool_and(ssl) and count(*) > 1 from pg_stat_ssl
            join pg_stat_activity using (pid) where application_name = 'pgcdc-lua']], "t")
      end,
   })
   lu.assertNotStrContains(said, PASSWORD)
   lu.assertNotStrContains(said, "level=warn")
end

-- One line, exit status 3, at once: an error of the kind that does not heal was once retried for
-- ever, since libpq gives it no SQLSTATE.
local function assert_refused(dsn, env, why)
   local p = program.start { script = SCRIPT, args = { kinds = "xmin" }, dsn = dsn, env = env,
      options = { "--log-level=debug" } }
   local result = p:finish(20)
   lu.assertEquals({ result.status, result.stdout }, { 3, "" }, result.stderr)
   lu.assertStrContains(result.stderr, why)
   lu.assertEquals(select(2, result.stderr:gsub("level=%a+", "")), 1, result.stderr)
   lu.assertNotStrContains(result.stderr, PASSWORD)
   lu.assertNotStrContains(result.stderr, "wrong-secret")
end

function TestConnection.test_certificates_that_do_not_verify()
   local db = new_database(TestConnection.one)
   local right = password_file(PASSWORD)
   local other = certificates.authority(TestConnection.dir, "other")
   assert_refused(far_dsn(db, { sslrootcert = other }), right, "certificate verify failed")
   assert_refused(far_dsn(db, { host = "elsewhere.example" }), right,
      [[does not match host name \"elsewhere.example\"]])
   assert_refused(far_dsn(db, { sslrootcert = "/nonexistent.crt" }), right, "nonexistent.crt")
end

function TestConnection.test_passwords_that_are_wrong()
   local db = new_database(TestConnection.one)
   assert_refused(far_dsn(db), password_file "wrong-secret", "password authentication failed")
   assert_refused(far_dsn(db), { PGPASSFILE = "/nonexistent" }, "no password supplied")
   lu.assertNotStrContains(TestConnection.one:log(), "wrong-secret")
end

-- A server that does not offer TLS is not trusted where sslmode asks for it.
function TestConnection.test_no_tls_where_it_is_asked_for()
   local one = cluster.new { name = "plain", tcp = true }
   local db = new_database(one)
   assert_refused(far_dsn(db, { user = "postgres" }), nil, "SSL was required")
end

-- A certificate that is replaced by a bad one while the program runs: it stays for a while, and
-- goes on when the right one is back.
function TestConnection.test_a_certificate_that_is_mended()
   local one, dir = TestConnection.one, TestConnection.dir
   local db = new_database(one)
   local p = watch.start(db, { dsn = far_dsn(db), env = password_file(PASSWORD) })
   watch.wait_ready(p)
   local kept = dir .. "/kept.crt"
   server.run({ "mv", TestConnection.ca, kept }, { user = false })
   one:exec [[select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'pgcdc-lua']]
   watch.wait_line(p, "^error: .*certificate", 20)
   db:exec "update t set n = -1 where id = 1"
   server.run({ "mv", kept, TestConnection.ca }, { user = false })
   watch.wait_current(p, db, "t", { seconds = 30 })
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(p:stop().status, 0)
end

-- ---- a role with next to no rights ----

-- Nothing but SELECT on one table, and for triggers the tables of theirs that `readers` names.
function TestConnection.test_a_role_that_may_only_select()
   local one = TestConnection.one
   local db = new_database(one)
   local role = one:role()
   db:exec(([[revoke all on schema public from public; revoke all on database "%s" from public;
      grant connect on database "%s" to %s; grant usage on schema public to %s;
      grant select on t to %s]]):format(db.name, db.name, role, role, role))
   pipeline(db, db:dsn { user = role }, { kinds = { "xmin", "deletes" } })
   stepping.trigger(db, "install", { readers = role })
   pipeline(db, db:dsn { user = role }, { kinds = { "trigger" }, first = 20 })
   db:exec(("drop owned by %s; drop role %s"):format(role, role))
end

-- ---- poolers ----

-- A database with triggers, and its conninfo through a pooler.
local function behind_pooler(mode)
   local db = new_database(cluster.main())
   -- in transaction pooling few connections, over which the transactions are spread
   local pool = pooler.new(cluster.main(), mode, mode == "transaction" and 3 or 10)
   lu.skipIf(not pool, "there is no pgbouncer")
   stepping.trigger(db, "install")
   return db, pool:dsn(db.name)
end

-- There commits wake the source as ever.
function TestConnection.test_session_pooling()
   local db, dsn = behind_pooler "session"
   lu.assertNotStrContains(pipeline(db, dsn), "level=warn")
   local p = watch.start(db, { dsn = dsn, source = { capture = "trigger", interval = 3600 } })
   watch.wait_ready(p)
   db:exec "update t set n = -1 where id <= 3"
   watch.wait_current(p, db)
   lu.assertEquals(p:stop().status, 0)
end

-- A hot standby serves all three captures; it cannot LISTEN either, which is said once.
function TestConnection.test_a_hot_standby()
   local db = new_database(TestConnection.one)
   stepping.trigger(db, "install")
   local standby = TestConnection.one:standby "behind"
   standby:wait_replay()
   local said = pipeline(db, standby:dsn(db.name), {
      during = function(p) p:wait_stderr("commits are not announced here", 30) end,
   })
   lu.assertEquals(select(2, said:gsub("commits are not announced here", "")), 2, said)
   standby:destroy()
end

-- LISTEN has no ear there: the source says so once, and lives by its interval.
function TestConnection.test_transaction_pooling()
   local db, dsn = behind_pooler "transaction"
   local silent = "commits are not announced here"
   local said = pipeline(db, dsn, {
      during = function(p, turn)
         if turn == 2 then
            p:wait_stderr(silent, 30)
            work(db, 50)
         end
      end,
   })
   local _, count = said:gsub(silent, "")
   lu.assertTrue(count == 1 or count == 2, said) -- the first start has hardly the time to find out
end

return TestConnection
