-- listen_test.lua: --listen: what each path answers, and that it is true.
-- SPDX-License-Identifier: MIT

local child = require "child"
local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local served = require "served"
local server = require "server"
local wait = require "wait"

local TestListen = {}

-- Adds a test, of f(), which is skipped where there is no module or none of these programs.
local function test(name, f, ...)
   local programs = { ... }
   TestListen["test_" .. name] = function()
      if served.is_there(table.unpack(programs)) then
         f()
      end
   end
end

local SCRIPT = [[
   local t = pgcdc.source { table = "t", interval = 0.05 }
   t:filter(function(c) return c.row.id % 2 == 0 end):sink(function() end)
]]

-- ---- paths ----

test("what_each_path_answers", function()
   local p = served.start { dsn = fixtures.names(3), script = SCRIPT }
   p:wait_ready(200)
   for path, kind in pairs {
      ["/healthz"] = "text/plain", ["/readyz"] = "application/json",
      ["/status"] = "application/json", ["/metrics"] = "text/plain; version=0.0.4",
      ["/"] = "text/html", ["/?a=b"] = "text/html",
   } do
      local status, body, headers = p:get(path)
      lu.assertEquals(status, 200, path)
      lu.assertStrContains(headers, "Content-Type: " .. kind)
      lu.assertTrue(#body > 2)
      local head_status, nothing = p:get(path, { "-I" })
      lu.assertEquals(head_status, 200, path)
      lu.assertNotStrContains(nothing, body)
   end
   for _, path in ipairs { "/nothing", "/status/", "//", "/../etc/passwd", "/ctl/stop" } do
      lu.assertEquals((p:get(path, { "--path-as-is" })), 404, path)
   end
   for _, method in ipairs { "POST", "PUT", "DELETE", "OPTIONS", "PATCH" } do
      local status, _, headers = p:get("/status", { "-X", method })
      lu.assertEquals(status, 405, method)
      lu.assertStrContains(headers, "Allow: GET, HEAD")
   end
   p:stop()
end)

-- Each figure is what happened.
test("what_happened_is_counted", function()
   local db = fixtures.names(10)
   local p = served.start { dsn = db, script = SCRIPT }
   p:wait_ready(200)
   db:exec "INSERT INTO t SELECT g, 'x' FROM generate_series(11, 15) g"
   db:exec "UPDATE t SET name = 'y' WHERE id = 1"
   local s = p:wait_status("6 upserts", function(s)
      return s.sources[1].changes.upsert == 6 and s.sources[1].position.unsaved_batches == 0
   end)
   local source = s.sources[1]
   lu.assertEquals(s.version, 1)
   lu.assertEquals(source.changes, { read = 10, upsert = 6, insert = 0, update = 0, delete = 0 })
   p:wait_status("what was filtered", function(now)
      return now.sources[1].filtered == 9 -- 1 3 5 7 9, 11 13 15, 1 again
   end)
   lu.assertEquals({ source.name, source.capture, source.phase },
      { "public.t", "xmin", "following" })
   lu.assertEquals({ source.snapshot.done, source.snapshot.rows }, { true, 10 })
   lu.assertTrue(source.polls.changed >= 1)
   lu.assertEquals(source.polls.error, 0)
   lu.assertTrue(source.rows_scanned >= 16)
   lu.assertEquals(source.handler_seconds.count, 16)
   local m = p:metrics()
   lu.assertEquals(m['pgcdc_lua_changes_total{source="public.t",op="read"}'], 10)
   lu.assertEquals(m['pgcdc_lua_changes_total{source="public.t",op="upsert"}'], 6)
   lu.assertEquals(m['pgcdc_lua_handler_seconds_count{source="public.t",handler="filter"}'], 16)
   lu.assertEquals(m['pgcdc_lua_snapshot_rows_total{source="public.t"}'], 10)
   lu.assertEquals(m.pgcdc_lua_up, 1)
   lu.assertTrue(m.pgcdc_lua_resident_bytes > 1e6 and m.pgcdc_lua_state_file_bytes > 1e3)
   p:stop()
   -- the next run goes on, and says so
   p = served.start { dsn = db, script = SCRIPT, state = p.program.state }
   s = p:wait_status("the next run", function(now) return now.sources[1].phase == "following" end)
   lu.assertTrue(s.sources[1].position.kept)
   lu.assertEquals(s.sources[1].changes.read, 0)
   p:stop()
end)

-- ---- Prometheus ----

local function promtool(text)
   local proc = assert(native.spawn { argv = { served.find "promtool", "check", "metrics" },
                                      stdin = "pipe", stderr = "pipe" })
   assert(proc:write(text))
   proc:close "stdin"
   local said = child.read_all(proc, 20, "stderr")
   lu.assertEquals(said, "")
   lu.assertEquals(assert(proc:wait(wait.scaled(20))).exit, 0)
end

test("the_metrics_are_clean", function()
   local dir = scope.dir "out"
   local db = fixtures.database [[CREATE TABLE "odd ""name""\" (id int PRIMARY KEY, name text);
      INSERT INTO "odd ""name""\" SELECT g, 'x' FROM generate_series(1, 5) g]]
   local p = served.start { dsn = db, script = ([[
      local t = pgcdc.source { table = '"odd ""name""\\"', interval = 0.05 }
      t:sink(pgcdc.sinks.jsonl { path = "%s/out.jsonl", name = "a \"b\"" })
      t:partition(3):sink(function() end)]]):format(dir) }
   p:wait_ready(200)
   p:wait_status("a value is held", function(s)
      return s.operators[1] and s.operators[1].held_batches == 1
   end)
   local m, text = p:metrics()
   promtool(text)
   lu.assertEquals(m['pgcdc_lua_held_batches{operator="partition 1"}'], 1)
   lu.assertEquals(m['pgcdc_lua_sink_flush_seconds_count{sink="a \\"b\\""}'] ~= nil, true)
   local _, open, headers = p:get("/metrics", { "-H", "Accept: application/openmetrics-text" })
   lu.assertStrContains(headers, "Content-Type: application/openmetrics-text")
   lu.assertStrContains(open, "# TYPE pgcdc_lua_changes counter\n")
   lu.assertTrue(open:find "# EOF\n$" ~= nil)
   p:stop()
end, "promtool")

-- ---- health ----

-- A handler that does not come back: everything is answered, and after a while healthz says so.
-- (This program was built to say so after 1.5 s; unit/health.c has the 30 s.)
test("a_loop_that_does_not_turn", function()
   local fifo = scope.dir "fifo" .. "/fifo"
   assert(os.execute("mkfifo " .. fifo))
   local p = served.start { dsn = fixtures.names(2), binary = program.binary() .. "-hasty",
                            script = ([[
      pgcdc.source { table = "t", interval = 0.05 }:on("change", function(c)
         if c.row.id == 2 then
            io.open("%s"):read "a"
         end
      end)]]):format(fifo) }
   local began = native.now()
   p:wait_status("the handler", function(s)
      return s.loop.work == "delivers changes of public.t" and s.loop.work_seconds > 1
         and s.holding[1]
   end)
   lu.assertStrContains(p:status().holding[1].message, "has been at work on one change")
   p:wait_until(function() return (p:get "/healthz") == 503 end, 20, "healthz 503")
   lu.assertTrue(native.now() - began > 1.2)
   local s = p:status()
   lu.assertEquals({ s.live, s.ready, s.problems[1].reason }, { false, false, "loop" })
   lu.assertStrContains(s.problems[1].message, "it delivers changes of public.t")
   lu.assertEquals(p:metrics().pgcdc_lua_up, 0)
   files.write(fifo, "go on")
   p:wait_until(function() return (p:get "/healthz") == 200 end, 10, "healthz 200")
   p:stop()
end)

-- The whole program stands still: nobody answers. When it goes on it is well, and has what came.
test("a_program_that_is_stopped", function()
   local db = fixtures.names(2)
   local p = served.start { dsn = db, binary = program.binary() .. "-hasty", script = [[
      pgcdc.source { table = "t", interval = 0.05 }:on("change", function() end)]] }
   p:wait_ready(200)
   p:signal "STOP"
   local began = native.now()
   local status = p:get("/healthz", { "--max-time", "2" }) -- longer than a loop may stand
   lu.assertEquals(status, 0)
   lu.assertTrue(native.now() - began > 1.5)
   db:exec "INSERT INTO t VALUES (3, 'x')"
   p:signal "CONT"
   p:wait_until(function() return (p:get "/healthz") == 200 end, 10, "healthz 200")
   p:wait_status("the change", function(s) return s.sources[1].changes.upsert == 1 end)
   p:wait_ready(200)
   p:stop()
end)

-- A pipe that nobody reads is a target that is away: the loop waits, and does not stand still.
test("a_pipe_that_nobody_reads", function()
   local fifo = scope.dir "fifo" .. "/fifo"
   assert(os.execute("mkfifo " .. fifo))
   local reader = assert(native.spawn { argv = { "sh", "-c", "exec sleep 100 <" .. fifo } })
   scope.add(function()
      reader:kill "KILL"
      reader:wait(wait.scaled(10))
   end)
   local p = served.start { dsn = fixtures.hashes(5000), script = ([[
      pgcdc.source { table = "t" }:sink(pgcdc.sinks.jsonl { path = "%s" })]]):format(fifo) }
   p:wait_status("the loop to turn while the pipe is full", function(s)
      return s.loop.work_seconds > 2 and s.loop.turned_seconds_ago < 1.5
   end)
   lu.assertEquals((p:get "/healthz"), 200)
   p:kill9()
end)

-- A slow handler is at work: its changes are counted while they come.
test("a_slow_handler", function()
   local p = served.start { dsn = fixtures.names(2000), script = [[
      pgcdc.source { table = "t", interval = 0.05 }:on("change", function()
         os.execute "sleep 0.05"
      end)]] }
   local s = p:wait_status("some changes, of one chunk", function(s)
      return s.sources[1].changes.read > 20
   end)
   lu.assertTrue(s.sources[1].changes.read < 2000)
   lu.assertTrue(s.live)
   lu.assertEquals(s.sources[1].phase, "snapshot")
   local mean = s.sources[1].handler_seconds.sum / s.sources[1].handler_seconds.count
   lu.assertTrue(mean > 0.04, tostring(mean))
   p:stop()
end)

-- While the target is away: the sink, the source and the reason are named; then all is well again.
test("a_target_that_is_away", function()
   local db, target = fixtures.names(3), cluster.new { name = "target" }
   target:createdb "reports"
   local p = served.start { dsn = db, options = { "--max-lag", "0.7" }, script = ([[
      pgcdc.source { table = "t", interval = 0.05 }
         :sink(pgcdc.sinks.postgres { connect = "%s", table = "copy", name = "reports" })]]):format(
         target:dsn "reports") }
   p:wait_ready(200)
   target:stop "immediate"
   db:exec "INSERT INTO t VALUES (4, 'secret')"
   p:wait_status("the sink fails", function(s)
      return s.sinks[1].trouble and s.holding[1] and s.holding[1].name == "reports"
   end)
   local said = p:wait_ready(503)
   local reasons, late = {}, nil
   for _, problem in ipairs(said.problems) do
      reasons[problem.reason] = problem
      late = problem.reason == "lag" and problem or late
   end
   lu.assertEquals(reasons.sink.sink, "reports")
   lu.assertStrContains(reasons.sink.message, "connection")
   lu.assertEquals(late.source, "public.t")
   lu.assertTrue(late.blocking)
   lu.assertEquals((p:get "/healthz"), 200)
   lu.assertEquals(p:metrics()['pgcdc_lua_sink_failing{sink="reports"}'], 1)
   target:start()
   p:wait_ready(200, 60)
   local m
   p:wait_until(function() -- the Lua half is asked once a second
      m = p:metrics()
      return m['pgcdc_lua_sink_failing{sink="reports"}'] == 0
   end, 10, "the sink to work")
   lu.assertTrue(m['pgcdc_lua_retries_total{source="public.t"}'] >= 1)
   p:stop()
end)

-- The database is away: in its own words, since when; counted as polls that failed.
test("a_database_that_is_away", function()
   local one = cluster.new { name = "source" }
   local db = one:database()
   db:exec "CREATE TABLE t (id int PRIMARY KEY, name text)"
   local p = served.start { dsn = db, options = { "--max-lag", "0.7" }, script = SCRIPT }
   p:wait_ready(200)
   one:stop "immediate"
   local said = p:wait_ready(503)
   lu.assertEquals(said.problems[1].reason, "database")
   lu.assertStrContains(said.problems[1].message, "connection")
   lu.assertEquals((p:get "/healthz"), 200)
   one:start()
   p:wait_ready(200, 60)
   local m = p:metrics()
   lu.assertTrue(m['pgcdc_lua_polls_total{source="public.t",result="error"}'] >= 1)
   lu.assertTrue(m['pgcdc_lua_reconnects_total{source="public.t"}'] >= 1)
   p:stop()
end)

-- A start that waits for a target.
test("a_target_that_is_away_at_the_start", function()
   local p = served.start { dsn = fixtures.names(1), script = ([[
      pgcdc.source { table = "t" }:sink(pgcdc.sinks.postgres {
         connect = "host=127.0.0.1 port=%d dbname=x", table = "copy", name = "reports" })]]):format(
         native.free_port()) }
   local s = p:wait_status("the sink fails", function(s)
      return s.sinks[1] and s.sinks[1].trouble
   end)
   lu.assertEquals({ s.live, s.ready }, { true, false })
   lu.assertStrContains(s.sinks[1].trouble.message, "Connection refused")
   p:stop()
end)

-- ---- data ----

-- No key, no value of a row and no error of a handler is told, unless --listen-rows says so.
test("no_data_is_shown", function()
   local db = fixtures.database [[CREATE TABLE t (id text PRIMARY KEY, name text);
      INSERT INTO t VALUES ('k3y', 'v4lue')]]
   local script = [[
      pgcdc.source { table = "t", interval = 0.05, on_error = { retry = 1, wait = 0.2,
            otherwise = "dead_letter" }, dead_letter = function() end }
         :on("change", function(c) error("cannot do " .. c.row.name) end)]]
   for _, shows in ipairs { false, true } do
      local p = served.start { dsn = db, script = script, options = shows and { "--listen-rows" } }
      local all = {}
      p:wait_status("the dead letter", function(s)
         local _, text = p:get "/status"
         all[#all + 1] = text
         return s.given_up[1]
      end)
      for _, path in ipairs { "/status", "/metrics", "/readyz" } do
         all[#all + 1] = select(2, p:get(path))
      end
      local text = table.concat(all)
      lu.assertTrue(text:find('"place":"script.lua:', 1, true) ~= nil)
      lu.assertEquals(text:find("v4lue", 1, true) ~= nil, shows)
      lu.assertEquals(text:find("k3y", 1, true) ~= nil, shows)
      local m = p:metrics()
      lu.assertEquals(m['pgcdc_lua_dead_letters_total{source="public.t"}'], 1)
      lu.assertEquals(m['pgcdc_lua_failed_total{source="public.t"}'], 1)
      p:stop()
   end
end)

-- ---- where it listens ----

local function usage(words, complaint)
   local result = program.run { script = "", options = words }
   lu.assertEquals(result.status, 2, table.concat(words, " "))
   lu.assertStrContains(result.stderr, complaint)
   lu.assertEquals(select(2, result.stderr:gsub("\n", "")), 1)
end

test("one_line_for_what_is_wrong", function()
   local dir = scope.dir "x"
   local open, short, good = dir .. "/open", dir .. "/short", dir .. "/good"
   files.write(open, ("x"):rep(32))
   files.write(short, "x\n")
   files.write(good, ("x"):rep(32) .. "\n")
   native.chmod(open, tonumber("644", 8))
   native.chmod(short, tonumber("600", 8))
   native.chmod(good, tonumber("600", 8))
   for _, text in ipairs { "9187", ":9187", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "::1:9187",
                           "example.org:9187", "[::1:9187", "unix:", "127.0.0.1:-1", "" } do
      usage({ "--listen", text }, "write an address and a port")
   end
   usage({ "--listen", "127.0.0.1:65536" }, "a port is a number up to 65535")
   usage({ "--listen", "0.0.0.0:9187" }, "--listen-token-file FILE is required")
   usage({ "--listen", "[::]:9187" }, "--listen-token-file FILE is required")
   usage({ "--listen", "192.0.2.1:9187", "--listen-token-file", good }, "no such address")
   usage({ "--listen", "unix:" .. dir .. "/" .. ("x"):rep(120) },
      "the path of a socket has at most")
   usage({ "--listen", "unix:" .. dir .. "/none/x.sock" }, "No such file or directory")
   usage({ "--listen", "unix:" .. good }, "something is there already")
   usage({ "--listen", "127.0.0.1:0", "--listen-token-file", open }, "others may read")
   usage({ "--listen", "127.0.0.1:0", "--listen-token-file", short }, "16 to 511 characters")
   usage({ "--listen", "127.0.0.1:0", "--listen-token-file", dir }, "it is no file")
   usage({ "--listen", "127.0.0.1:0", "--listen-token-file", dir .. "/none" }, "No such file")
   usage({ "--max-lag", "0" }, "write a number of seconds")
   usage({ "--max-lag", "x" }, "write a number of seconds")
end)

test("a_port_that_is_in_use", function()
   local p = served.start { script = "pgcdc.every(60, function() end)", state = false }
   usage({ "--listen", p.listen }, "another program listens there")
   p:stop()
end)

test("a_port_that_is_privileged", function()
   if tonumber(files.text "/proc/sys/net/ipv4/ip_unprivileged_port_start") <= 80 then
      io.write "skipped, here everybody may use all ports ... "
      return
   end
   local result = program.run { script = "", options = { "--listen", "127.0.0.1:80" },
                                user = server.user() }
   lu.assertEquals(result.status, 2)
   lu.assertStrContains(result.stderr, "ports below 1024 are for root")
   lu.assertEquals(select(2, result.stderr:gsub("\n", "")), 1)
end)

-- A socket in a folder: of its user and group, taken away at the end, replaced when it was left.
test("a_socket_in_a_folder", function()
   local path = scope.dir "socket" .. "/x.sock"
   local options = { script = "pgcdc.every(60, function() end)", state = false,
                     listen = "unix:" .. path }
   local p = served.start(options)
   lu.assertEquals((p:get "/healthz"), 200)
   lu.assertStrContains(child.run { argv = { "stat", "-c", "%a", path } }, "660")
   usage({ "--listen", "unix:" .. path }, "another program listens on it")
   p:kill9()
   p = served.start(options)
   lu.assertEquals((p:get "/healthz"), 200)
   p:stop()
   lu.assertNil(native.realpath(path))
end)

test("only_who_knows_the_token", function()
   local token = scope.dir "token" .. "/token"
   files.write(token, "0123456789abcdef\n")
   native.chmod(token, tonumber("600", 8))
   local p = served.start { script = "pgcdc.every(60, function() end)", state = false,
                            options = { "--listen-token-file", token } }
   for _, path in ipairs { "/", "/healthz", "/status", "/metrics", "/events", "/nothing" } do
      local status, body, headers = p:get(path)
      lu.assertEquals(status, 401, path)
      lu.assertStrContains(headers, "WWW-Authenticate: Basic")
      lu.assertNotStrContains(body, "version")
   end
   for _, wrong in ipairs { "Bearer", "Bearer ", "Bearer 0123456789abcde",
                            "Bearer 0123456789abcdef0", "Basic", "Basic ZZZZ",
                            "0123456789abcdef" } do
      lu.assertEquals((p:get("/status", { "-H", "Authorization: " .. wrong })), 401, wrong)
   end
   lu.assertEquals((p:get("/status", { "-H", "Authorization: Bearer 0123456789abcdef" })), 200)
   lu.assertEquals((p:get("/status", { "-u", "me:0123456789abcdef" })), 200)
   lu.assertEquals((p:get("/status", { "-u", "me:wrong" })), 401)
   lu.assertNotStrContains(p:stderr(), "0123456789abcdef")
   p:stop()
end)

-- A page of somebody else's cannot lead a name of its own to us.
test("only_addresses_without_a_token", function()
   local p = served.start { script = "pgcdc.every(60, function() end)", state = false }
   for host, status in pairs { ["evil.example"] = 403, ["evil.example:9187"] = 403,
                               ["127.0.0.1.evil.example"] = 403, localhost = 200,
                               ["LOCALHOST:1"] = 200, ["[::1]:9187"] = 200, ["10.0.0.1"] = 200 } do
      lu.assertEquals((p:get("/status", { "-H", "Host: " .. host })), status, host)
   end
   p:stop()
end)

-- ---- those who mean no good ----

-- $PGCDC_HOSTILE_SECONDS: how long requests are sent that are none.
test("nobody_who_asks_holds_a_change_up", function()
   local seconds = os.getenv "PGCDC_HOSTILE_SECONDS" or "0"
   local db = fixtures.names(0)
   local p = served.start { dsn = db, script = [[
      local t = pgcdc.source { table = "t", interval = 0.05 }
      t:on("change", function(c) print(c.row.id) end)]] }
   p:wait_ready(200)
   local before = p:rss()
   for i, what in ipairs { "garbage", "crowd", "flood", "deaf" } do
      local proc = assert(native.spawn { argv = { served.find "python3",
         "tests/support/hostile.py", tostring(p.port), what, seconds }, stderr = "null" })
      db:exec(("INSERT INTO t VALUES (%d, 'x')"):format(i))
      p:wait_until(function() return #p:lines() == i end, 10, "the change beside " .. what)
      lu.assertStrContains(child.read_all(proc, 60 + tonumber(seconds)), "done")
      assert(proc:wait(wait.scaled(10)))
      p:wait_until(function() return (p:get "/healthz") == 200 end, 20, "healthz after " .. what)
   end
   lu.assertEquals(p:lines(), { "1", "2", "3", "4" })
   lu.assertTrue(p:rss() - before < 64 << 10, p:rss() - before)
   local result = p:stop()
   lu.assertEquals(result.status, 0)
end, "python3")

-- Without the module all else works, and --listen says what is missing.
function TestListen.test_without_the_module()
   local dir = scope.dir "bin"
   local binary = program.binary()
   assert(os.execute(("mkdir -p '%s/bin' && cp '%s' '%s/bin/pgcdc-lua' && ln -s '%s' '%s/lua' && "
      .. "ln -s '%s' '%s/scripts'"):format(dir, binary, dir, native.realpath "lua", dir,
      native.realpath "scripts", dir)))
   local result = program.run { binary = dir .. "/bin/pgcdc-lua", script = "print 'runs'" }
   lu.assertEquals(result.lines, { "runs" })
   result = program.run { binary = dir .. "/bin/pgcdc-lua", script = "print 'runs'",
                          options = { "--listen", "127.0.0.1:0" } }
   lu.assertEquals(result.status, 2)
   lu.assertStrContains(result.stderr, "--listen needs the module listen.so")
end

return TestListen
