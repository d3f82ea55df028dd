-- clickhouse_test.lua: pgcdc.sinks.clickhouse against a real server.
-- SPDX-License-Identifier: MIT

local clickhouse = require "clickhouse"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local receiver = require "receiver"
local remote_sinks = require "remote_sinks"
local wait = require "wait"

local TestClickhouse = {}

local test = remote_sinks.tests(TestClickhouse, clickhouse.is_there, clickhouse.new)

-- A script that puts table t there. <options>: fields of the sink, <source>: of the source.
local function script(server, options, source)
   return ([[pgcdc.source {table = "t", interval = 0.02, deletes = true, %s}:sink(
      pgcdc.sinks.clickhouse {url = %q, %s})]]):format(source or "", server:url(), options or "")
end

local function ids(server)
   local list = {}
   for i, row in ipairs(server:table "t") do
      list[i] = row.id
   end
   return table.concat(list, " ")
end

test("values", function(server)
   local db = fixtures.database [[
      create domain price as numeric(5,1);
      create table t (id bigint primary key, a numeric(10,2), b numeric, c timestamptz,
         d timestamp(3), e date, f float8, g bool, h uuid, i jsonb, j int[], k price, l bytea,
         m real, n varchar(10), o int, p smallint);
      insert into t values (9007199254740993, 1.5, 2.50, '2024-01-02 03:04:05.5+02',
         '2024-01-02 03:04:05', '2024-01-02', 1e300, true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
         '{"a": "x\"y"}', '{1,2}', 3, '\x01', 1.5, E'\\q''', -5, 7);
      insert into t (id) values (2)]]
   once.ok { dsn = db, script = script(server) }
   local rows = server:table "t"
   lu.assertEquals(#rows, 2)
   local row = rows[2]
   lu.assertEquals({ row.id, tostring(row.a), row.b, row.c:sub(1, 21), row.d:sub(1, 19), row.e },
      { "9007199254740993", "1.5", "2.50", "2024-01-02 01:04:05.5", "2024-01-02 03:04:05",
        "2024-01-02" })
   lu.assertEquals({ row.f, row.g, row.h, row.i, row.j, tostring(row.k), row.l, row.m, row.n,
                     row.o, row.p },
      { 1e300, 1, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", '{"a":"x\\"y"}', "[1,2]", "3.0",
        "\\x01", 1.5, "\\q'", -5, 7 })
   for name, value in pairs(rows[1]) do
      lu.assertTrue(value == json.null or name == "id" or name:find "^_" ~= nil, name)
   end
end)

test("changes_and_deletes", function(server)
   local db, state = fixtures.names(5), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   once.ok(how)
   lu.assertEquals(ids(server), "1 2 3 4 5")
   db:exec "update t set name = 'x' where id = 2; delete from t where id = 3"
   db:exec "update t set id = 7 where id = 4"
   once.ok(how)
   lu.assertEquals(ids(server), "1 2 5 7")
   lu.assertEquals(server:table "t"[2].name, "x")
   db:exec "insert into t values (3, 'again')"
   once.ok(how)
   lu.assertEquals(ids(server), "1 2 3 5 7")
   -- an old version that comes late changes nothing
   local before = server:table "t"
   server:try "INSERT INTO t (id, name, _seq, _is_deleted) VALUES (1, 'old', 1, 0)"
   lu.assertEquals(server:table "t", before)
   once.ok { dsn = db, state = fixtures.state(), script = script(server) }
   lu.assertEquals(ids(server), "1 2 3 5 7")
end)

test("columns_that_are_added", function(server)
   local db, state = fixtures.names(2), fixtures.state()
   local how = { dsn = db, state = state, script = script(server, 'into = "x_{table}"') }
   once.ok(how)
   db:exec "alter table t add column n int; update t set n = 5 where id = 2"
   once.ok(how)
   lu.assertEquals(server:rows "SELECT n FROM x_t FINAL WHERE id = 2"[1].n, 5)
   local own = { dsn = db, script = script(server, "create = false", "columns = {'id', 'n'}") }
   local result = once.ends(1, own)
   lu.assertStrContains(result.text, "there is no table t: CREATE TABLE IF NOT EXISTS `t` (`id` ")
   server:try "CREATE TABLE t (id Int32, x Int32) ENGINE = MergeTree ORDER BY id"
   lu.assertStrContains(once.ends(1, own).text, "the table t needs columns _seq UInt64")
   server:try "ALTER TABLE t ADD COLUMN _seq UInt64"
   server:try "ALTER TABLE t ADD COLUMN _is_deleted UInt8"
   lu.assertStrContains(once.ends(1, own).text,
      "the table t lacks columns: ALTER TABLE `t` ADD COLUMN `n` Nullable(Int32)")
   server:try "ALTER TABLE t ADD COLUMN `n` Nullable(Int32)"
   lu.assertStrContains(once.ok(own).stderr, "the table t has the engine MergeTree")
   lu.assertEquals(#server:rows "SELECT id FROM t WHERE _is_deleted = 0", 2)
end)

-- The server says 500 to a row that it cannot take: the others go, it becomes a dead letter.
test("rows_that_are_refused", function(server)
   server:try [[CREATE TABLE t (id Int32, name Nullable(Int32), _seq UInt64, _is_deleted UInt8)
      ENGINE = ReplacingMergeTree(_seq) ORDER BY id]]
   local db = fixtures.names(100, "case when i % 40 = 7 then 'none' else i::text end")
   local state = fixtures.state()
   local result = once.run { dsn = db, state = state, script = script(server) }
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "Code: ")
   result = once.run { dsn = db, state = state, script = script(server, "",
      remote_sinks.DEAD_LETTERS) }
   lu.assertEquals(remote_sinks.dead(result), { 7, 47, 87 })
   lu.assertEquals(#server:table "t", 97)
end)

test("a_server_that_is_killed", function(server)
   local db = fixtures.names(3)
   local p = program.start { dsn = db, script = script(server) }
   wait.until_(function() return ids(server) == "1 2 3" end, 20, "three rows")
   server:kill()
   db:exec "insert into t values (4, 'n4'); delete from t where id = 1"
   p:wait_stderr "[Cc]onnect"
   server:start()
   wait.until_(function() return ids(server) == "2 3 4" end, 30, "the changes")
   lu.assertEquals(p:stop().status, 0)
end)

test("logins_and_check", function(server)
   local db = fixtures.names(1)
   local function run(options, more)
      return once.run({ dsn = db, script = script(server, options), env = { PW = "s3cret" } }, more)
   end
   local result = run ""
   lu.assertEquals(result.status, 3, result.stderr)
   result = run 'user = "default", password = "wr0ng"'
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertNotStrContains(result.stderr, "wr0ng")
   lu.assertEquals(run('user = "default", password = "$PW"').status, 0)
   lu.assertEquals(ids(server), "1")
   result = run 'user = "default", password = "$PW", database = "none"'
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "none")
   result = program.run { dsn = db, options = { "--check" }, env = { PW = "s3cret" },
                          script = script(server, 'user = "default", password = "$PW"') }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrMatches(result.stdout,
      ".*\nok     sink clickhouse: ClickHouse [%d.]+ at http://127.0.0.1:%d+, database default\n")
end, "s3cret")

-- What the server of Debian is too old for is asked of one that only says that it is newer.
function TestClickhouse.test_what_newer_servers_get()
   if not receiver.is_there() then
      return
   end
   local server = receiver.new()
   server:rules { { path = "version", body = "25.3.1.1\n" },
                  { path = "system.columns", times = 1, body = "" },
                  { path = "system.columns", body = "id\nc\nd\n_seq\n_is_deleted\n" } }
   local db = fixtures.database [[create table t (id int primary key, c timestamptz, d date);
      insert into t values (1, '2024-01-02 03:04:05Z', '2024-01-02')]]
   once.ok { dsn = db, script = ([[pgcdc.source {table = "t"}:sink(pgcdc.sinks.clickhouse {
      url = %q, database = "my db"})]]):format(server:url "/?a=b") }
   local create, insert
   for _, request in ipairs(server:requests()) do
      local path = request.path:gsub("%%(%x%x)", function(x)
         return string.char(tonumber(x, 16))
      end)
      lu.assertStrContains(path, "/?a=b&database=my db&query=")
      create = path:match "CREATE TABLE.*" or create
      insert = request.body ~= "" and { path:match "query=(.*)", request.body } or insert
   end
   lu.assertEquals(create, "CREATE TABLE IF NOT EXISTS `t` (`id` Int32, "
      .. "`c` Nullable(DateTime64(6, 'UTC')), `d` Nullable(Date32), _seq UInt64, "
      .. "_is_deleted UInt8) ENGINE = ReplacingMergeTree(_seq, _is_deleted) ORDER BY (`id`)")
   lu.assertEquals(insert[1], "INSERT INTO `t` FORMAT JSONEachRow")
   lu.assertStrMatches(insert[2],
      '{"id":1,"c":"2024%-01%-02 03:04:05.000000","d":"2024%-01%-02","_seq":%d+,"_is_deleted":0}\n')
end

function TestClickhouse.test_values_that_are_no_changes()
   if clickhouse.is_there() then
      remote_sinks.check_only_changes "clickhouse"
   end
end

return TestClickhouse
