-- http_test.lua: pgcdc.sinks.http against a real web server.
-- SPDX-License-Identifier: MIT

local certificates = require "certificates"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local receiver = require "receiver"
local remote_sinks = require "remote_sinks"
local scope = require "scope"
local wait = require "wait"

local TestHttp = {}

local SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
local OTHER = "whsec_" .. ("A"):rep(32)

local test = remote_sinks.tests(TestHttp, receiver.is_there, receiver.new)

-- A script that sends table t there. <options>: fields of the sink, <source>: of the source.
local function script(server, options, source)
   return ([[local sink = pgcdc.sinks.http {url = %q, %s}
      pgcdc.source {table = "t", interval = 0.02, %s}:sink(sink)]]):format(
      type(server) == "string" and server or server:url(), options or "", source or "")
end

-- The ids of the changes that were taken, as text, and in order if they are to be `sorted`.
local function ids(server, sorted)
   local list = {}
   for i, change in ipairs(server:changes()) do
      list[i] = change.row.id
   end
   if sorted then
      table.sort(list)
   end
   return table.concat(list, " ")
end

-- The requests whose body has this text in it.
local function about(server, text)
   local list = {}
   for _, request in ipairs(server:requests()) do
      if request.body:find(text, 1, true) then
         list[#list + 1] = request
      end
   end
   return list
end

-- ---- what is sent ----

test("a_request_for_each_change", function(server)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   once.ok(how)
   lu.assertEquals(ids(server, true), "1 2 3")
   for _, request in ipairs(server:requests()) do
      local change, headers = json.decode(request.body), request.headers
      lu.assertEquals({ request.method, request.path, headers["content-type"],
                        headers["idempotency-key"], change.op },
         { "POST", "/in", "application/json", change.id, "read" })
      lu.assertNil(headers["webhook-id"])
      lu.assertNil(headers.expect)
   end
   db:exec "update t set name = 'x' where id = 2"
   once.ok(how)
   once.ok(how)
   lu.assertEquals(#server:requests(), 4)
   lu.assertEquals(server:changes()[4].op, "upsert")
end)

test("signatures", function(server)
   local db = fixtures.names(5)
   once.ok { dsn = db, script = script(server, 'sign = "$KEY"'), env = { KEY = SECRET } }
   once.ok { dsn = db, script = script(server, ('sign = {%q, %q}'):format(OTHER, SECRET)) }
   once.ok { dsn = db, script = script(server, ('sign = %q, body = "ndjson"'):format(SECRET)) }
   local by, seen = nil, {}
   for _, request in ipairs(server:requests()) do
      by = request.verified
      lu.assertTrue(by == "standardwebhooks" or by == "hmac", by)
      seen[request.headers["webhook-id"]] = (seen[request.headers["webhook-id"]] or 0) + 1
   end
   io.write("verified by ", by, " ... ")
   local change = json.decode(server:requests()[1].body)
   lu.assertEquals(seen[change.id], 2)
   once.ok { dsn = db, script = script(server, ('sign = %q'):format(OTHER)) }
   local last = server:requests()[12].verified
   lu.assertTrue(last ~= "standardwebhooks" and last ~= "hmac", last)
end, { secret = SECRET })

-- A batch that comes again has the same id if it has the same changes, and only then.
test("ids_of_batches", function(server)
   local db = fixtures.names(6)
   local function run(options)
      once.ok { dsn = db, script = script(server, ('sign = %q, body = "array", %s'):format(SECRET,
         options)) }
   end
   for _, options in ipairs { "", "batch = 3", "", "batch = 3" } do
      run(options)
   end
   local seen = {}
   for i, request in ipairs(server:requests()) do
      seen[i] = request.headers["webhook-id"]
      lu.assertNil(request.headers["idempotency-key"])
   end
   lu.assertEquals(#seen, 6)
   table.sort(seen)
   lu.assertEquals({ seen[1], seen[3], seen[5] }, { seen[2], seen[4], seen[6] })
   lu.assertTrue(seen[2] ~= seen[3] and seen[4] ~= seen[5])
end, { secret = SECRET })

test("batches", function(server)
   local db = fixtures.names(1000)
   local function run(options)
      local before = #server:requests()
      once.ok { dsn = db, script = script(server, options) }
      local requests = table.move(server:requests(), before + 1, #server:requests(), 1, {})
      return requests
   end
   local requests = run 'body = "ndjson", batch = 300'
   lu.assertEquals(#requests, 4)
   lu.assertEquals(requests[1].headers["content-type"], "application/x-ndjson")
   lu.assertEquals(select(2, requests[1].body:gsub("\n", "")), 300)
   lu.assertNil(requests[1].headers["idempotency-key"])
   requests = run 'body = "array", gzip = true'
   lu.assertEquals(#requests, 2)
   lu.assertEquals(requests[1].headers["content-encoding"], "gzip")
   lu.assertTrue(tonumber(requests[1].headers["content-length"]) < #requests[1].body / 3)
   lu.assertEquals(#json.decode(requests[2].body), 500)
   requests = run 'body = "ndjson", batch = 100000, batch_bytes = "20k"'
   for _, request in ipairs(requests) do
      lu.assertTrue(#request.body <= 20 * 1024 + 1000, #request.body)
   end
   lu.assertEquals(#server:changes(), 3000)
   local seen = {}
   for _, change in ipairs(server:changes()) do
      seen[change.id] = (seen[change.id] or 0) + 1
   end
   for id, count in pairs(seen) do
      lu.assertEquals({ id, count }, { id, 3 })
   end
end)

test("addresses_that_depend_on_the_change", function(server)
   local db = fixtures.names(3, "'a/ä?' || i")
   once.ok { dsn = db, script = script(server:url "/{schema}/{table}/{key}/{row.name}",
      'method = "PUT", headers = {["X-Source"] = "shop", ["Content-Type"] = "text/x"}, '
      .. 'idempotency = false, format = function(c) return c.row.id < 3 and "v" or nil end') }
   local requests = server:requests()
   table.sort(requests, function(a, b) return a.path < b.path end)
   lu.assertEquals(#requests, 2)
   lu.assertEquals(requests[1].path, "/public/t/1/a%2F%C3%A4%3F1")
   lu.assertEquals({ requests[2].method, requests[2].body, requests[2].headers["x-source"],
                     requests[2].headers["content-type"] }, { "PUT", "v", "shop", "text/x" })
   lu.assertNil(requests[1].headers["idempotency-key"])
   -- of a batch all go to one address
   once.ok { dsn = db, script = script(server:url "/{key}", 'body = "array"') }
   requests = table.move(server:requests(), 3, 9, 1, {})
   table.sort(requests, function(a, b) return a.path < b.path end)
   lu.assertEquals(#requests, 3)
   for i, request in ipairs(requests) do
      lu.assertEquals({ request.path, json.decode(request.body)[1].row.id }, { "/" .. i, i })
   end
end)

test("values_that_are_no_changes", function(server)
   once.ok { state = false, script = ([[local s = pgcdc.sinks.http {url = %q}
      for i = 1, 3 do s:write {v = i} end]]):format(server:url()) }
   local seen = {}
   for i, request in ipairs(server:requests()) do
      lu.assertEquals(json.decode(request.body), { v = i })
      local id = request.headers["idempotency-key"]
      lu.assertNil(seen[id])
      seen[id] = true
   end
   lu.assertEquals(#server:requests(), 3)
end)

-- ---- order ----

-- While the requests of one key are not answered those of all others are; its own keep their order.
test("a_slow_key_holds_no_other", function(server)
   local db = fixtures.names(0)
   local gate = server:gate()
   server:rules { { match = '"id":1,', gate = gate } }
   local p = program.start { dsn = db, script = script(server, "in_flight = 2") }
   p:wait_stderr 'msg="ready"'
   db:exec [[begin; insert into t select i, 'n' from generate_series(1, 300) i; commit]]
   wait.until_(function() return #server:changes() >= 299 end, 30, "all other keys")
   lu.assertEquals(#about(server, '"id":1,'), 1)
   server:open(gate)
   wait.until_(function() return #server:changes() == 300 end, 20, "the slow key")
   lu.assertEquals(server:changes()[300].row.id, 1)
   lu.assertEquals(p:stop().status, 0)
end)

-- The same of a key that fails, with requests of one change and of several: there the others are
-- taken out of its batch by and by.
for _, body in ipairs { "one", "ndjson" } do
   test("a_failing_key_holds_no_other_" .. body, function(server)
      local db = fixtures.names(300)
      server:rules { { match = '"id":7,', status = 503 } }
      local p = program.start { dsn = db, script = script(server,
         ('in_flight = 2, batch_bytes = %s, body = %q'):format(body == "one" and "nil" or '"5k"',
         body)) }
      wait.until_(function() return #server:changes() >= 299 end, 60, "all other keys")
      lu.assertEquals(ids(server):find "%f[%d]7%f[%D]", nil)
      server:rules {}
      wait.until_(function() return #server:changes() == 300 end, 60, "the failing key")
      lu.assertEquals(p:stop().status, 0)
   end)
end

-- The changes of a key, by their names, in the order in which they were taken.
local function names_of(server, id)
   local list = {}
   for _, change in ipairs(server:changes()) do
      if change.row.id == id then
         list[#list + 1] = change.row.name
      end
   end
   return table.concat(list, " ")
end

-- Later batches go on beside a key that fails for long, which keeps its order. Nothing is repeated
-- where nothing crashed.
test("a_failing_key_holds_no_later_batch", function(server)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server, "in_flight = 2") }
   server:rules { { match = '"id":2,', status = 503, body = "not 2" } }
   local p = program.start(how)
   p:wait_stderr "503: not 2 %(1 left, for later%)"
   local function await(count)
      wait.until_(function() return #server:changes() >= count end, 30, count .. " changes")
      lu.assertEquals(#server:changes(), count)
      lu.assertEquals(names_of(server, 2), "")
   end
   await(2)
   for i = 4, 20 do -- one by one, each a batch
      db:exec(("insert into t values (%d, 'n')"):format(i))
      await(i - 1)
   end
   db:exec "update t set name = 'x' where id = 2"
   db:exec "insert into t select i, 'n' from generate_series(21, 400) i" -- the outbox is made anew
   await(399)
   db:exec "update t set name = 'y' where id in (2, 3)"
   await(400)
   server:rules {}
   wait.until_(function() return names_of(server, 2) == "n2 x y" end, 60, "the failing key")
   p:wait_stderr "all that was left has been sent"
   lu.assertEquals(p:stop().status, 0)
   once.ok(how)
   lu.assertEquals(#server:changes(), 403)
end)

-- What is left comes again after a crash, with all that came after it.
test("what_is_left_outlives_a_crash", function(server)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server, 'body = "ndjson"') }
   once.ok(how)
   server:rules { { match = '"id":2,', status = 503 } }
   local p = program.start(how)
   p:wait_stderr 'msg="ready"'
   db:exec "update t set name = 'x' where id = 2"
   p:wait_stderr "1 left, for later"
   for i = 4, 8 do
      db:exec(("insert into t values (%d, 'n')"):format(i))
      wait.until_(function() return names_of(server, i) == "n" end, 30, "a change")
   end
   p:kill9()
   server:rules {}
   once.ok(how)
   lu.assertEquals({ names_of(server, 2), names_of(server, 3), names_of(server, 8) },
      { "n2 x", "n3", "n n" })
   once.ok(how)
   lu.assertEquals(names_of(server, 8), "n n")
end)

-- Not more is left than `flush_rows`: then the source waits.
test("how_much_is_left", function(server)
   local db = fixtures.names(1)
   server:rules { { match = '"id":1,', times = 2, status = 503, body = "not 1" } }
   local p = program.start { dsn = db, script = script(server, "flush_rows = 1") }
   p:wait_stderr "503: not 1.*retry_in="
   db:exec "insert into t values (2, 'n')"
   wait.until_(function() return #server:changes() == 2 end, 30, "both changes")
   lu.assertEquals(ids(server), "1 2")
   lu.assertEquals(p:stop().status, 0)
end)

-- Requests of one key never overlap, also where several of them are in one flush.
test("keys_keep_their_order", function(server)
   local db = fixtures.database [[create table t (id int, n int, primary key (id, n));
      insert into t select i % 5, i from generate_series(1, 100) i]]
   server:rules { { match = '"id":3,', times = 2, status = 503 },
                  { match = '"id":4,', times = 1, cut = "answer" } }
   once.ok { dsn = db, script = script(server, 'in_flight = 8', 'pk = "id"') }
   local last, open = {}, {}
   for _, request in ipairs(server:requests()) do
      local row = json.decode(request.body).row
      local before = last[row.id]
      if before then
         lu.assertTrue(before.went < request.came, row.id .. ": one has overtaken another")
         local n = json.decode(before.body).row.n
         lu.assertTrue(before.status == 200 and row.n >= n or row.n == n, row.id .. " went on")
      end
      last[row.id] = request
      open[row.id] = true
   end
   lu.assertEquals(#open + (open[0] and 1 or 0), 5)
end)

-- ---- answers ----

test("what_passes_is_tried_again", function(server)
   local db = fixtures.names(6)
   server:rules {
      { match = '"id":1,', times = 1, status = 408 },
      { match = '"id":2,', times = 1, status = 425 },
      { match = '"id":3,', times = 1, status = 429 },
      { match = '"id":4,', times = 1, status = 500 },
      { match = '"id":5,', times = 1, cut = "request" },
      { match = '"id":6,', times = 1, cut = "answer" },
   }
   once.ok { dsn = db, script = script(server) }
   for i = 1, 6 do
      local tries = about(server, ('"id":%d,'):format(i))
      lu.assertEquals({ i, #tries, tries[2] and tries[2].status }, { i, 2, 200 })
      lu.assertEquals(tries[1].headers["idempotency-key"], tries[2].headers["idempotency-key"])
   end
end)

-- Retry-After counts, also where another change was refused, after which the flush begins anew.
test("a_time_that_the_server_asks_for", function(server)
   local db = fixtures.names(3)
   local date = os.date("!%a, %d %b %Y %H:%M:%S GMT", os.time() + 3)
   server:rules {
      { match = '"id":1,', times = 1, status = 429, headers = { ["Retry-After"] = "2" } },
      { match = '"id":2,', times = 1, status = 503, headers = { ["Retry-After"] = date } },
      { match = '"id":3,', status = 400 },
   }
   once.run { dsn = db, script = script(server, "", 'on_error = "skip"') }
   lu.assertEquals(ids(server, true), "1 2")
   for id, least in ipairs { 1.9, 1 } do
      local tries = about(server, ('"id":%d,'):format(id))
      lu.assertEquals(#tries, 2)
      lu.assertTrue(tonumber(tries[2].at) - tonumber(tries[1].at) >= least, id)
   end
end)

-- Whose fault it is is found out by halves; the others are sent.
test("what_is_refused", function(server)
   local db = fixtures.names(200)
   server:rules { { match = '"id":77,', status = 422, body = "no 77" },
                  { match = '"id":150,', status = 400 } }
   local function run(policy, status)
      local state = fixtures.state()
      return once.run { dsn = db, state = state, script = script(server, 'body = "ndjson"',
         policy), status = status }
   end
   local result = run ""
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "422: no 77")
   local before = #server:changes()
   result = run(remote_sinks.DEAD_LETTERS)
   lu.assertEquals(remote_sinks.dead(result), { 77, 150 })
   lu.assertStrContains(result.stdout, "422: no 77")
   local seen, count = {}, 0
   for i, change in ipairs(server:changes()) do
      if i > before then
         lu.assertNil(seen[change.id])
         seen[change.id], count = true, count + 1
      end
   end
   lu.assertEquals(count, 198)
end)

-- A redirect is no success: nothing is sent elsewhere, and nothing is lost.
test("redirects_are_not_followed", function(server)
   local db, state = fixtures.names(2), fixtures.state()
   server:rules { { path = "/in", status = 302, headers = { Location = "/other?key=s3cret" } } }
   local how = { dsn = db, state = state, script = script(server, "in_flight = 1") }
   local result = once.ends(1, how)
   lu.assertStrContains(result.text, "302; redirects are not followed: say url = http://127.0.0.1:"
      .. server.port .. "/other if that is")
   lu.assertNotStrContains(result.text, "s3cret")
   lu.assertEquals(#server:requests(), 1)
   server:rules {}
   once.ok(how)
   lu.assertEquals(ids(server, true), "1 2")
end)

-- Where all fails there are few requests, one at a time.
test("a_breaker", function(server)
   local db = fixtures.names(500)
   server:rules { { status = 503, body = "away" } }
   local p = program.start { dsn = db, script = script(server) .. [[
      pgcdc.every(0.05, function() if sink:stats().is_tripped then print "tripped" end end)]] }
   p:wait_stderr "503: away"
   wait.until_(function() return p:stdout():find "tripped" end, 20, "the breaker")
   server:await(7)
   local requests = server:requests()
   for i = 10, #requests do
      lu.assertTrue(requests[i - 1].went < requests[i].came)
   end
   lu.assertTrue(#requests < 20, #requests)
   server:rules {}
   wait.until_(function() return #server:changes() == 500 end, 30, "all changes")
   lu.assertEquals(p:stop().status, 0)
end)

test("a_server_that_is_away", function(server)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   local p = program.start(how)
   wait.until_(function() return #server:changes() == 3 end, 20, "three changes")
   server:kill()
   db:exec "insert into t values (4, 'n4')"
   p:wait_stderr "[Cc]onnect"
   lu.assertEquals(p:stop().status, 0)
   p = program.start(how)
   p:wait_stderr "[Cc]onnect"
   server:start()
   wait.until_(function() return #server:changes() == 4 end, 20, "the change")
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(ids(server):match "4$", "4")
end)

test("a_server_that_says_nothing", function(server)
   local db = fixtures.names(1)
   local gate = server:gate()
   server:rules { { gate = gate, times = 1 } }
   local p = program.start { dsn = db, script = script(server, "timeout = 0.3") }
   p:wait_stderr "timed out"
   wait.until_(function() return #server:changes() == 1 end, 20, "the change")
   lu.assertEquals(p:stop().status, 0)
   server:open(gate)
end)

-- ---- logins, secrets ----

test("a_login", function(server)
   local db = fixtures.names(1)
   server:rules { { login = "Basic bWU6czNjcmV0", status = 401, body = "it was me:s3cret" } }
   local function run(options, env)
      return once.run { dsn = db, script = script(server, options), env = env }
   end
   local result = run 'user = "me", password = "s3cre"'
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "401")
   lu.assertEquals(run('user = "me", password = "$PW"', { PW = "s3cret" }).status, 0)
   lu.assertEquals(run('headers = {Authorization = "Basic $PW"}',
      { PW = "bWU6czNjcmV0" }).status, 0)
   result = run('headers = {["X-Key"] = "$PW"}', { PW = "me:s3cret" })
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "it was ***")
   lu.assertNotStrContains(result.stderr, "s3cret")
   lu.assertEquals(run('user = "me", password = "$NOT_SET"').status, 1)
end)

-- A credential file that was exchanged is read again when the old one is not taken any more.
test("a_credential_file_that_changes", function(server)
   local db, dir = fixtures.names(1), scope.dir "credentials"
   files.write(dir .. "/token", "old\n")
   server:rules { { login = "Bearer old", status = 401 } }
   local p = program.start { dsn = db, env = { CREDENTIALS_DIRECTORY = dir }, script = script(
      server, 'headers = {Authorization = "Bearer $CREDENTIALS_DIRECTORY/token"}') }
   wait.until_(function() return #server:changes() == 1 end, 20, "the first change")
   files.write(dir .. "/token", "new\n")
   server:rules { { login = "Bearer new", status = 401 } }
   db:exec "insert into t values (2, 'n2')"
   wait.until_(function() return #server:changes() == 2 end, 20, "the second change")
   server:rules { { login = "Bearer other", status = 401 } }
   db:exec "insert into t values (3, 'n3')"
   local result = p:finish()
   lu.assertEquals(result.status, 3)
   lu.assertEquals(#server:requests(), 5)
end)

function TestHttp.test_tls()
   if not receiver.is_there() then
      return
   end
   local made = certificates.localhost()
   local server = receiver.new { dir = made.dir }
   local db = fixtures.names(3)
   local function run(url, authority)
      return once.run { dsn = db, script = script(url, ('tls = {ca = %q}'):format(authority)) }
   end
   lu.assertEquals(run(server:url(), made.ca).status, 0)
   lu.assertEquals(#server:changes(), 3)
   for _, it in ipairs { { server:url(), made.other },
                         { (server:url():gsub("localhost", "127.0.0.1")), made.ca } } do
      local result = run(it[1], it[2])
      lu.assertEquals(result.status, 3)
      lu.assertStrContains(result.stderr, "SSL")
   end
   lu.assertEquals(#server:requests(), 3)
end

-- ---- the rest ----

-- More than what is kept in memory, in one transaction.
test("a_big_batch", function(server)
   local db = fixtures.names(30, "repeat(chr(64 + i), 500000 + i)")
   server:rules { { short = true } }
   once.ok { dsn = db, script = script(server, 'format = function(c) return c.row.name end') }
   local lengths = {}
   for i, request in ipairs(server:requests()) do
      lengths[i] = tonumber(request.body)
   end
   table.sort(lengths)
   lu.assertEquals(#lengths, 30)
   for i = 1, 30 do
      lu.assertEquals(lengths[i], 500000 + i)
   end
end)

-- Much that waits takes little memory.
test("memory", function(server)
   local db = fixtures.names(100000, "repeat('x', 100)")
   local gate = server:gate()
   server:rules { { gate = gate, short = true } }
   local p = program.start { dsn = db, script = script(server, 'body = "ndjson"') }
   server:await(4, 60)
   server:open(gate)
   wait.until_(function() return #server:requests() >= 200 end, 60, "all requests")
   local peak = math.tointeger(tonumber(files.text(("/proc/%d/status"):format(p:pid()))
      :match "VmHWM:%s*(%d+)"))
   io.write(("%.1f MB ... "):format(peak / 1024))
   lu.assertTrue(peak <= 40 * 1024 or wait.slow > 1, peak)
   lu.assertEquals(p:stop().status, 0)
end)

test("check", function(server)
   local db = fixtures.names(1)
   local function check()
      return program.run { dsn = db, script = script(server), options = { "--check" } }
   end
   local result = check()
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stdout, "sink http: POST " .. server:url() .. ": connects")
   lu.assertEquals(server:requests()[1].method, "GET") -- which changes nothing there
   server:kill()
   result = check()
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "http: http://127.0.0.1:" .. server.port .. ": ")
end)

function TestHttp.test_bad_input()
   if not receiver.is_there() then
      return
   end
   remote_sinks.check_bad_options("http", {
      [""] = "url is required",
      ["url = 7"] = "url must be a string",
      ['url = "file:///etc/passwd"'] = "url: say http://host/path",
      ['url = "example.com/in"'] = "url: say http://host/path",
      ['url = "https://me:pw@host/"'] = "say the user and the password by user = ",
      ['url = "https:///in"'] = "after https:// comes a host",
      ['url = "https://h:99999/in"'] = "after https:// comes a host, and perhaps a :port",
      ['url = "https://h/a b"'] = "write blanks as %20",
      ['url = "https://{row.host}/"'] = "the host cannot depend on the value",
      ['url = "https://h/{nmae}"'] = "in braces: unknown 'nmae'; did you mean 'name'?",
      ['url = "https://h/", method = "GET"'] = "method: unknown 'GET'",
      ['url = "https://h/", body = "xml"'] = "body: unknown 'xml'",
      ['url = "https://h/", batch = 5'] = "batch is for body",
      ['url = "https://h/", body = "array", batch = 0'] = "batch must be a whole number",
      ['url = "https://h/", body = "array", batch_bytes = "x"'] = "batch_bytes: say a size",
      ['url = "https://h/", body = "array", batch_bytes = 1.5'] = "batch_bytes: say a size",
      ['url = "https://h/", in_flight = 0'] = "in_flight must be a whole number, at least 1",
      ['url = "https://h/", in_flight = 500'] = "in_flight must be 100 at most",
      ['url = "https://h/", sign = "secret"'] = "a secret is whsec_ and base64",
      ['url = "https://h/", sign = "whsec_AAAA"'] = "of 16 bytes or more",
      ['url = "https://h/", sign = "whsec_!"'] = "a secret is whsec_ and base64",
      ['url = "https://h/", sign = {"a", "b", "c"}'] = "say one secret, or a list of two",
      ['url = "https://h/", gzip = true, sign = "' .. SECRET .. '"'] = "gzip is not for what is",
      ['url = "https://h/", body = "array", idempotency = true'] = "idempotency is for body",
      ['url = "https://h/", headers = {["A\\n"] = "b"}'] = "its name must be letters",
      ['url = "https://h/", headers = {A = "b\\r\\nC: d"}'] = "a header has one line",
      ['url = "https://h/", headers = {["Content-Length"] = "1"}'] = "is set by the sink",
      ['url = "http://h/", user = "u", password = "p"'] = "go over https only",
      ['url = "http://h/", headers = {Authorization = "x"}'] = "go over https only",
      ['url = "https://h/", password = "p"'] = "password needs a user",
      ['url = "http://h/", tls = {}'] = "tls is for url = https://",
      ['url = "https://h/", tiemout = 1'] = "unknown field 'tiemout'",
   })
end

test("the_sandbox", function(server)
   local db = fixtures.names(3)
   remote_sinks.check_needs_network("http", { dsn = db, script = script(server) })
   once.ok { dsn = db, script = script(server), options = { "--sandbox", "--allow-network" } }
   lu.assertEquals(#server:changes(), 3)
end)

return TestHttp
