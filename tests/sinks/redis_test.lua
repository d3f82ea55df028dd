-- redis_test.lua: pgcdc.sinks.redis against a real server.
-- SPDX-License-Identifier: MIT

local certificates = require "certificates"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local redis = require "redis"
local remote_sinks = require "remote_sinks"
local scope = require "scope"
local wait = require "wait"

local TestRedis = {}

local test = remote_sinks.tests(TestRedis, redis.is_there, redis.new)
local ids = remote_sinks.ids

-- A script that puts table t into Redis. <options>: fields of the sink, <source>: of the source.
local function script(server, options, source)
   return ([[pgcdc.source {table = "t", interval = 0.02, %s}:sink(pgcdc.sinks.redis {
      connect = %q, %s})]]):format(source or "", type(server) == "string" and server
      or server:url(), options or "")
end

-- ---- modes ----

test("a_stream", function(server)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   once.ok(how)
   local entries = server:stream "{redis}:t"
   lu.assertEquals(#entries, 3)
   for i, entry in ipairs(entries) do
      local change = json.decode(entry.data)
      lu.assertEquals({ entry.op, change.op, change.row.id, change.id, tostring(change.seq) },
         { "read", "read", i, entry.id, entry.seq })
   end
   db:exec "update t set name = 'x' where id = 2"
   once.ok(how)
   lu.assertEquals(ids(server:stream "{redis}:t"), "1 2 3 2")
   once.ok(how)
   lu.assertEquals(ids(server:stream "{redis}:t"), "1 2 3 2")
end)

test("a_stream_with_a_length_of_its_own_and_a_format", function(server)
   local db = fixtures.names(1000)
   once.ok { dsn = db, script = script(server, [[maxlen = 10, key = "s:{schema}.{table}:{op}",
      format = function(c) return c.row.id % 2 == 0 and "id " .. c.row.id or nil end]]) }
   local entries = server:stream "s:public.t:read"
   lu.assertTrue(#entries < 200, #entries)
   lu.assertEquals(entries[#entries].data, "id 1000")
end)

-- Rows that go to one plain sink get there without Lua; with a function in between each is a call.
-- What arrives is the same, whatever kinds of rows and options there are.
test("rows_arrive_the_same_with_a_handler_and_without", function(server)
   local db = fixtures.database [[create table t (id int primary key, n numeric, d double precision,
      ts timestamptz, b bytea, j jsonb, a text[], name text, x xml, i interval);
      alter table t replica identity full]]
   local hows = {}
   for name, middle in pairs { direct = "", called = ":map(function(c) return c end)" } do
      for kind, with in pairs { plain = {}, limited = { "--max-time", "5" },
                                recorded = { "--record", "changes" } } do
         local key = name .. " " .. kind
         hows[key] = { dsn = db, state = fixtures.state(), options = with, script = ([[
            pgcdc.source {table = "t", deletes = true, on_error = "skip"}%s
               :sink(pgcdc.sinks.redis {connect = %q, key = %q, name = %q})]]):format(middle,
            server:url(), key, name .. kind) }
      end
   end
   for i, sql in ipairs {
      [[insert into t select i, i / 8.0, 'NaN',
         timestamptz '2024-02-29 12:00+00' + i * interval '1 s', decode(md5(i::text), 'hex'),
         '{"k": [1, null, "\u00e9"]}', array['a', null, '"'],
         E'tab\tnew\nline é', '<a/>', '-1 day' from generate_series(1, 40) i;
        insert into t (id, name) values (0, ''), (-1, null), (-2147483648, repeat('é', 70000))]],
      [[update t set n = 'NaN', d = '-Infinity', ts = 'infinity' where id % 7 = 0;
        delete from t where id % 5 = 0]],
      [[update t set id = id + 1000 where id between 1 and 9;
        alter table t add column later int default 5;
        insert into t (id) values (5000)]],
   } do
      db:exec(sql)
      local expected
      for key, how in pairs(hows) do
         once.ok(how)
         local all = {}
         for k, entry in ipairs(server:stream(key)) do
            local change = json.decode(entry.data)
            change.seq, change.ts = nil, nil
            all[k] = entry.op .. " " .. entry.id .. " " .. json.encode(change)
         end
         table.sort(all)
         expected = expected or all
         for k = 1, math.max(#all, #expected) do -- else a difference takes minutes to be shown
            if all[k] ~= expected[k] then
               error(("%s, step %d: %s, not %s"):format(key, i, all[k], expected[k]))
            end
         end
      end
      lu.assertTrue(#expected > 40)
   end
end)

test("hashes_are_the_rows", function(server)
   local db = fixtures.database [[create table t (a int, b text, x numeric, ok bool, j jsonb,
      primary key (a, b));
      insert into t values (1, 'p,q', 1.50, true, '{"k": [1]}'), (2, '', null, null, 'null')]]
   local how = { dsn = db, state = fixtures.state(),
                 script = script(server, 'mode = "hash"', "deletes = true") }
   once.ok(how)
   lu.assertEquals(server:call("HGETALL", "{redis}:t:1,p\\,q"),
      { a = "1", b = "p,q", x = "1.50", ok = "true", j = '{"k":[1]}' })
   lu.assertEquals(server:call("HGETALL", "{redis}:t:2,"), { a = "2", b = "", j = "null" })
   db:exec [[update t set ok = null, x = null where a = 1; delete from t where a = 2]]
   once.ok(how)
   lu.assertEquals(server:call("HGETALL", "{redis}:t:1,p\\,q"),
      { a = "1", b = "p,q", j = '{"k":[1]}' })
   lu.assertEquals(server:call("EXISTS", "{redis}:t:2,"), 0)
   db:exec "update t set a = 7"
   once.ok(how)
   lu.assertEquals(server:call("KEYS", "{redis}:t:*"), { "{redis}:t:7,p\\,q" })
end)

test("json_by_key_that_expires", function(server)
   local db = fixtures.names(2)
   local how = { dsn = db, state = fixtures.state(), script = script(server,
      'mode = "json", expire = 500, key = "{name}:{row.name}", name = "cache"', "deletes = true") }
   once.ok(how)
   lu.assertEquals(json.decode(server:call("GET", "{cache}:n1")), { id = 1, name = "n1" })
   local left = server:call("TTL", "{cache}:n2")
   lu.assertTrue(left > 400 and left <= 500, left)
   local hash = { dsn = db, script = script(server, 'mode = "hash", expire = 500, name = "h"') }
   once.ok(hash)
   lu.assertTrue(server:call("TTL", "{h}:t:2") > 400)
end)

test("messages", function(server)
   local db = fixtures.names(2)
   local heard = server.dir .. "/heard"
   local ear = assert(native.spawn {
      argv = { "redis-cli", "-s", server.socket, "SUBSCRIBE", "{redis}:t" }, stdout = heard,
   })
   scope.add(function() ear:kill "KILL" end)
   wait.until_(function() return files.read(heard):find "subscribe" end, 10, "a subscriber")
   once.ok { dsn = db, script = script(server, 'mode = "publish"') }
   wait.until_(function()
      return select(2, files.read(heard):gsub('"op":"read"', "")) == 2
   end, 10, "both messages")
end)

test("values_that_are_no_changes", function(server)
   local how = { state = false, script = ([[
      local s = pgcdc.sinks.redis {connect = %q, key = function(v) return v.k end, %%s}
      for i = 1, 2 do s:write {k = "key" .. i, v = i, w = "x"} end]]):format(server:url()) }
   for mode, more in pairs { json = "", hash = "", stream = "" } do
      local one = { state = false, script = how.script:format(
         ('mode = "%s", name = "%s"'):format(mode, mode)) .. more }
      server:call "FLUSHALL"
      once.ok(one)
      local seen = mode == "json" and json.decode(server:call("GET", "key2"))
         or mode == "hash" and server:call("HGETALL", "key2")
         or json.decode(server:stream "key2"[1].data)
      lu.assertEquals({ mode, seen.k, tostring(seen.v) }, { mode, "key2", "2" })
   end
end)

-- ---- what is sent before the flush ----

-- While a batch is taken its entries are queued at the server already, and none of them is there.
test("a_batch_is_sent_while_it_is_taken", function(server)
   local db = fixtures.names(1000)
   local seen = once.ok { dsn = db, script = ([[
      local function ask(what)
         local f = io.popen("redis-cli -s %s " .. what)
         local text = f:read "a"
         f:close()
         return text
      end
      local s = pgcdc.source {table = "t"}
      s:sink(pgcdc.sinks.redis {connect = "unix:%s"})
      s:on("change", function(c)
         if c.row.id == 900 then
            local most = 0
            for n in ask "CLIENT LIST":gmatch "multi=(%%d+)" do
               most = math.max(most, tonumber(n))
            end
            print(most, ask "XLEN {redis}:t")
         end
      end)]]):format(server.socket, server.socket) }
   local queued, len = seen.stdout:match "(%d+)%s+(%d+)"
   lu.assertTrue(tonumber(queued) >= 512, seen.stdout)
   lu.assertEquals(len, "0")
   local expected = {}
   for i = 1, 1000 do
      expected[i] = tostring(i)
   end
   lu.assertEquals(ids(server:stream "{redis}:t"), table.concat(expected, " "))
end)

-- A stream that comes later in the batch is watched, and asked for its type, all the same: nothing
-- of the batch is there unless all of it can be.
test("a_stream_that_comes_late_and_is_none", function(server)
   local db = fixtures.names(900)
   local how = { dsn = db, state = fixtures.state(), script = ([[
      pgcdc.source {table = "t"}:map(function(c)
         if c.row.id > 600 then c.table = "late" end
         return c
      end):sink(pgcdc.sinks.redis {connect = %q})]]):format(server:url()) }
   server:call("SET", "{redis}:late", "x")
   local result = once.run(how)
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "the key '{redis}:late' is a string, and no stream")
   lu.assertEquals(server:call("EXISTS", "{redis}:t"), 0)
   server:call("DEL", "{redis}:late")
   once.ok(how)
   lu.assertEquals({ server:call("XLEN", "{redis}:t"), server:call("XLEN", "{redis}:late") },
      { 600, 300 })
end)

-- An operator of another branch holds a row of each poll, so the position that can be saved is that
-- before: what is sent already of later polls is not stored with it.
test("what_is_sent_beyond_the_position", function(server)
   local db, state = fixtures.database "create table t (id int primary key, k text)",
      fixtures.state()
   local how = { dsn = db, state = state, script = ([[
      local s = pgcdc.source {table = "t", interval = 0.01, start = "now"}
      s:sink(pgcdc.sinks.redis {connect = %q})
      s:only(function(c) return c.row.k end):partition(2, {key = "k"}):sink(function() end)
      s:on("ready", function() print "ready" io.flush() end)
      s:on("batch", function(batch) print("batch " .. batch.count) io.flush() end)]]):format(
         server:url()) }
   local p = program.start(how)
   local function add(first, last, at_first, at_last)
      db:exec(([[insert into t select i, case i when %d then %s when %d then %s end
         from generate_series(%d, %d) i]]):format(first, at_first, last, at_last, first, last))
      p:wait_until(function()
         return p:stdout():find("batch " .. last - first + 1 .. "\n", 1, true)
      end, 20, "a batch")
   end
   p:wait_until(function() return p:stdout():find "ready" end, 20, "the start")
   add(1, 401, "null", "'a'")
   lu.assertEquals(server:call("XLEN", "{redis}:t"), 0)
   add(402, 1003, "'a'", "'b'")
   wait.until_(function() return server:call("XLEN", "{redis}:t") == 401 end, 20, "the first poll")
   add(1004, 1406, "'b'", "null")
   wait.until_(function() return server:call("XLEN", "{redis}:t") >= 1003 end, 20, "the rest")
   p:kill9()
   once.ok(how)
   local seen, count = {}, 0
   for _, entry in ipairs(server:stream "{redis}:t") do
      lu.assertNil(seen[entry.id], entry.id .. " is there twice")
      seen[entry.id], count = true, count + 1
   end
   lu.assertEquals(count, 1406)
end)

-- ---- trouble ----

test("two_programs_of_one_name", function(server)
   remote_sinks.check_take_over("redis", script(server), function()
      return #server:stream "{redis}:t"
   end)
end)

test("a_server_that_is_full_is_waited_for", function(server)
   local db = fixtures.hashes(2000)
   local p = program.start { dsn = db, script = script(server) }
   p:wait_stderr "OOM command not allowed"
   lu.assertEquals(server:call("EXISTS", "{redis}:t"), 0)
   server:call("CONFIG", "SET", "maxmemory", "0")
   wait.until_(function() return server:call("EXISTS", "{redis}:t") == 1 end, 20, "the entries")
   p:wait_stderr "works again"
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(#server:stream "{redis}:t", 2000)
end, { "--maxmemory", "2mb" })

-- A replica, until it is none any more.
test("a_server_that_is_read_only_is_waited_for", function(server)
   local replica = redis.new { "--replicaof", "127.0.0.1 " .. server.port }
   local p = program.start { dsn = fixtures.names(3), script = script(replica) }
   p:wait_stderr "level=warn msg=\"redis: [^\n]*READONLY You can't write against a read only"
   replica:call("REPLICAOF", "NO", "ONE")
   wait.until_(function() return replica:call("EXISTS", "{redis}:t") == 1 end, 20, "the entries")
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(ids(replica:stream "{redis}:t"), "1 2 3")
end)

test("of_several_hosts_the_one_that_can_be_written_to", function(server)
   server:call("CONFIG", "SET", "repl-diskless-sync-delay", "0")
   local replica = redis.new { "--replicaof", "127.0.0.1 " .. server.port }
   wait.until_(function()
      return replica:try("INFO", "replication"):find "master_link_status:up"
   end, 10, "the replica")
   local db = fixtures.names(3)
   once.ok { dsn = db, script = script(("redis://127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d"):format(
      assert(native.free_port()), replica.port, server.port), "replicas = 1") }
   lu.assertEquals(#replica:stream "{redis}:t", 3)
end)

-- Nothing is written, and nothing is lost.
test("a_key_that_is_no_stream", function(server)
   server:call("SET", "{redis}:t", "mine")
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   local result = once.ends(1, how)
   lu.assertStrContains(result.text, "redis: the key '{redis}:t' is a string, and no stream")
   lu.assertEquals(server:call("EXISTS", "pgcdc:{redis}"), 0)
   server:call("DEL", "{redis}:t")
   once.ok(how)
   lu.assertEquals(ids(server:stream "{redis}:t"), "1 2 3")
end)

-- Who empties the target, or restores an old one, has the tables read again.
test("a_target_that_went_back", function(server)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   once.ok(how)
   local old = server:call("GET", "pgcdc:{redis}")
   db:exec "insert into t values (4, 'n4')"
   once.ok(how)
   server:call("SET", "pgcdc:{redis}", old)
   local result = once.run(how)
   lu.assertStrContains(result.stderr, "the target is older than the state file")
   lu.assertEquals(ids(server:stream "{redis}:t"), "1 2 3 4 4")
   local p = program.start(how)
   p:wait_stderr 'msg="ready"'
   server:call "FLUSHALL"
   db:exec "insert into t values (5, 'n5')"
   local ended = p:finish()
   lu.assertEquals(ended.status, 1)
   lu.assertStrContains(ended.stderr, "the target went back, or was emptied")
   result = once.run(how)
   lu.assertStrContains(result.stderr, "reading the tables again")
   lu.assertEquals(ids(server:stream "{redis}:t"), "1 2 3 4 5")
end)

test("a_state_file_that_is_lost", function(server)
   remote_sinks.check_lost_state(script(server), function()
      return server:stream "{redis}:t"
   end)
end)

-- The answer to EXEC is lost, or its request: what is done is not done again.
test("an_answer_that_is_lost", function(server)
   local dir = scope.dir "proxy"
   local proxy = assert(native.proxy { listen = dir .. "/s", target = server.socket })
   scope.add(function() proxy:close() end)
   local db = fixtures.names(20)
   local p = program.start { dsn = db, script = script("unix:" .. dir .. "/s",
      "timeout = 0.5") }
   p:wait_stderr 'msg="ready"'
   local count = 20
   local function has_come()
      return #server:stream "{redis}:t" == count
   end
   for i, fault in ipairs { { "fin", "answer", "EXEC" }, { "rst", "up", "EXEC" },
                            { "swallow", "answer", "EXEC" }, { "stall", "answer", "EXEC" },
                            { "fin", "up", "MULTI" }, { "swallow", "up", "MULTI" } } do
      wait.until_(has_come, 20, "the entries before fault " .. i)
      proxy:fault(table.unpack(fault))
      db:exec("update t set name = 'x" .. i .. "'")
      count = count + 20
      wait.until_(function() return proxy:stats().faults > 0 end, 10, "the fault")
      wait.until_(function() return #server:stream "{redis}:t" >= count end, 20, "entries")
      proxy:heal()
   end
   db:exec "insert into t values (1000, 'end')"
   count = count + 1
   wait.until_(has_come, 20, "the last entry")
   lu.assertEquals(p:stop().status, 0)
   local seen = {}
   for _, entry in ipairs(server:stream "{redis}:t") do
      lu.assertNil(seen[entry.id])
      seen[entry.id] = true
   end
end)

-- It is stopped while the server is away: it ends soon, and what is left comes at the next start.
test("a_stop_while_the_server_is_away", function(server)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   local p = program.start(how)
   wait.until_(function() return server:call("EXISTS", "{redis}:t") == 1 end, 10, "the entries")
   server:kill()
   db:exec "insert into t values (4, 'n4')"
   p:wait_stderr "cannot connect"
   local result = p:stop()
   lu.assertEquals(result.status, 0, result.stderr)
   server:start()
   once.ok(how)
   lu.assertEquals(ids(server:stream "{redis}:t"), "1 2 3 4")
end)

test("a_server_that_says_nothing", function(server)
   local db = fixtures.names(3)
   server.proc:kill "STOP"
   local p = program.start { dsn = db, script = script(server, "timeout = 0.2") }
   p:wait_stderr "no answer for 0.2 s"
   server.proc:kill "CONT"
   wait.until_(function() return #server:stream "{redis}:t" == 3 end, 20, "the entries")
   lu.assertEquals(p:stop().status, 0)
end)

-- More than what is kept in memory, in one transaction.
test("a_big_batch", function(server)
   local db = fixtures.names(20, "repeat(chr(64 + i), 1000000)")
   once.ok { dsn = db, script = script(server) }
   lu.assertEquals(server:call("XLEN", "{redis}:t"), 20)
   lu.assertTrue(server:call("EVAL", [[local bytes = 0
      for _, entry in ipairs(redis.call("XRANGE", KEYS[1], "-", "+")) do
         bytes = bytes + #entry[2][8]
      end
      return bytes]], "1", "{redis}:t") > 20000000)
end)

-- A poll is one batch, however big: rows are flushed before that where they are many.
test("many_flushes_of_one_poll", function(server)
   local db = fixtures.names(3000)
   once.ok { dsn = db, script = script(server, "flush_rows = 100") }
   lu.assertEquals(server:call("XLEN", "{redis}:t"), 3000)
   local serial = server:call("GET", "pgcdc:{redis}"):match '"serial":(%d+)'
   lu.assertTrue(math.tointeger(serial) >= 20, serial)
end)

test("check", function(server)
   local db = fixtures.names(3)
   local function check(options)
      return program.run { dsn = db, script = script(server, options), options = { "--check" } }
   end
   local result = check ""
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrMatches(result.stdout,
      ".*\nok     sink redis: redis %d+%.[%d.]+ at unix:/.*, mode stream\n")
   lu.assertNotStrContains(result.stdout, "warn   sink")
   lu.assertEquals(server:call("KEYS", "*"), {})
   server:call("CONFIG", "SET", "appendfsync", "everysec")
   server:call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
   result = check ""
   lu.assertStrContains(result.stdout, "appendfsync everysec")
   lu.assertStrContains(result.stdout, "maxmemory-policy allkeys-lru")
   server:call("CONFIG", "SET", "appendonly", "no")
   lu.assertStrContains(check("").stdout, "appendonly no")
   server:kill()
   result = check ""
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "redis: unix:" .. server.socket .. ": cannot connect")
end)

-- ---- login ----

test("a_login", function(server)
   server.password = "s3cret$"
   local db = fixtures.names(3)
   local function run(options, env)
      return once.run { dsn = db, script = script(server, options), env = env }
   end
   local result = run ""
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "NOAUTH")
   result = run 'password = "wr0ng"'
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "WRONGPASS")
   lu.assertNotStrContains(result.stderr, "wr0ng")
   result = run 'password = "$NOT_SET"'
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "password: $NOT_SET is not set in the environment")
   lu.assertEquals(run('password = "s3cret$$"').status, 0)
   lu.assertEquals(run('name = "b", user = "default", password = "${SECRET}"',
      { SECRET = "s3cret$" }).status, 0)
   local dir = scope.dir "credentials"
   files.write(dir .. "/redis", "s3cret$\n")
   lu.assertEquals(run('name = "c", password = "$CREDENTIALS_DIRECTORY/redis"',
      { CREDENTIALS_DIRECTORY = dir }).status, 0)
   result = run('password = "$CREDENTIALS_DIRECTORY/none"', { CREDENTIALS_DIRECTORY = dir })
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "$CREDENTIALS_DIRECTORY/none cannot be read")
end, { "--requirepass", "s3cret$" })

-- A server without that command repeats its words.
test("a_login_that_is_not_known", function(server)
   for _, options in ipairs { 'password = "hush-7s3"', 'user = "me", password = "hush-7s3"' } do
      local result = once.ends(1, { dsn = fixtures.names(1), script = script(server, options) })
      lu.assertStrContains(result.text, "redis: AUTH: ERR unknown command 'AUTH'")
      lu.assertNotStrContains(result.text, "hush")
   end
end, { "--rename-command", "AUTH", "" })

function TestRedis.test_tls()
   if not redis.is_there() then
      return
   end
   local made = certificates.localhost()
   local port = assert(native.free_port())
   local server = redis.new {
      "--tls-port", tostring(port), "--tls-cert-file", made.cert, "--tls-key-file", made.key,
      "--tls-ca-cert-file", made.ca, "--tls-auth-clients", "no",
   }
   local db = fixtures.names(2000)
   local function run(host, options)
      return once.run { dsn = db, script = script(("rediss://%s:%d"):format(host, port), options) }
   end
   lu.assertEquals(run("localhost", ("tls = {ca = %q}"):format(made.ca)).status, 0)
   lu.assertEquals(#server:stream "{redis}:t", 2000)
   for host, options in pairs { ["127.0.0.1"] = ("tls = {ca = %q}"):format(made.ca),
                                localhost = ("tls = {ca = %q}"):format(made.other) } do
      local result = run(host, options)
      lu.assertEquals(result.status, 3)
      lu.assertStrContains(result.stderr, "TLS: the server's certificate does not verify: ")
   end
   -- a host that is away may come back, one that is not to be trusted will not become another
   local p = program.start { dsn = db, script = script(
      ("rediss://localhost:%d,127.0.0.1:%d"):format(assert(native.free_port()), port),
      ("tls = {ca = %q}"):format(made.ca)) }
   p:wait_stderr "Connection refused; 127%.0%.0%.1:%d+: TLS: the server's certificate does not"
   lu.assertEquals(p:stop().status, 0)
end

-- ---- bad input ----

function TestRedis.test_bad_input()
   if not redis.is_there() then
      return
   end
   remote_sinks.check_bad_options("redis", {
      [""] = "connect is required",
      ["connect = 7"] = "connect must be a string",
      ['connect = "http://x"'] = "connect: say redis://host:port",
      ['connect = "redis://me:pw@host"'] = "say the user and the password by user = ",
      ['connect = "redis://"'] = "come hosts",
      ['connect = "redis://h:99999"'] = "there is no port 99999",
      ['connect = "redis://h", mode = "list"'] = "mode: unknown 'list'",
      ['connect = "redis://h", key = "{nmae}"'] = "in braces: unknown 'nmae'; did you mean 'name'?",
      ['connect = "redis://h", key = "a{"'] = "write {name}, or {{ and }} for braces",
      ['connect = "redis://h", expire = 5'] = "expire is for mode",
      ['connect = "redis://h", mode = "hash", maxlen = 5'] = "maxlen is for mode",
      ['connect = "redis://h", maxlen = 0'] = "maxlen must be a whole number, at least 1",
      ['connect = "redis://h", format = "xml"'] = "format: unknown 'xml'",
      ['connect = "redis://h", tls = {}'] = "tls is for connect = rediss://",
      ['connect = "redis://h", tls = {crt = "x"}'] = "unknown field 'crt'",
      ['connect = "redis://h", user = "u"'] = "user needs a password",
      ['connect = "redis://h", name = "a{b"'] = "name must have no braces",
      ['connect = "redis://h", flush_bytes = "much"'] = "flush_bytes: say a size",
      ['connect = "redis://h", flush_bytes = 1.5'] = "flush_bytes: say a size",
      ['connect = "redis://h", timeout = 0'] = "timeout must be a number of seconds",
      ['connect = "redis://h", tpye = 1'] = "unknown field 'tpye'",
   })
end

-- What a script gives for a key is the change's affair, and its source's on_error.
test("a_key_function_that_fails", function(server)
   local db = fixtures.names(3)
   local result = once.ends(1, { dsn = db, script = script(server,
      "key = function() return {} end") })
   lu.assertStrContains(result.text, "key: its function must return a text, or nil to leave")
   once.run { dsn = db, script = script(server,
      "key = function(c) return c.row.id == 2 and {} or 's' end", 'on_error = "skip"') }
   lu.assertEquals(ids(server:stream "s"), "1 3")
end)

test("the_sandbox", function(server)
   local db = fixtures.names(3)
   remote_sinks.check_needs_network("redis", { dsn = db, script = script(server) })
   local url, options = server:url(true), { "--sandbox", "--allow-network" }
   once.ok { dsn = db, script = script(url), options = options }
   lu.assertEquals(#server:stream "{redis}:t", 3)
   local result = once.ends(1, { dsn = db, script = script(server), options = options })
   lu.assertStrContains(result.text, "the sandbox allows no sockets by their path")
   result = once.run { options = options, state = false, script = [[
      for _, name in ipairs {"pgcdc.native.redis", "pgcdc.sinks.redis"} do
         print(name, (pcall(require, name)), package.loaded[name])
      end]] }
   lu.assertEquals(result.lines,
      { "pgcdc.native.redis\tfalse\tnil", "pgcdc.sinks.redis\tfalse\tnil" })
   result = once.ends(1, { dsn = db, options = options, env = { SECRET = "s" },
      script = script(url, 'password = "$SECRET"') })
   lu.assertNotStrContains(result.text, "$SECRET is not set")
end)

return TestRedis
