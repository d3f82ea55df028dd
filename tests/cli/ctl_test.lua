-- ctl_test.lua: pgcdc-lua ctl: what each command answers, and that it does so.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local child = require "child"
local ctl = require "ctl"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local served = require "served"

local TestCtl = {}

local SCRIPT = [[
   pgcdc.source { table = "t", interval = 0.05 }:on("change", function(c)
      print(c.op, c.key.id)
   end)
]]

local function start(db, script, more)
   local options = { dsn = db, script = script or SCRIPT }
   for name, value in pairs(more or {}) do
      options[name] = value
   end
   local p = program.start(options)
   p:wait_stderr "msg=\"?ready"
   return p
end

-- ---- dead letters ----

function TestCtl.test_dead_letters()
   local db, mended = fixtures.names(3), scope.dir "mended" .. "/yes"
   local p = start(db, [[
      pgcdc.source { table = "t", interval = 0.05, on_error = "dead_letter",
         on_change = function(c)
            if c.row.name == "n2" and not io.open(pgcdc.args.mended) then error "not this one" end
            print(c.row.name)
         end}]], { args = { mended = mended } })
   p:wait_until(function() -- until it is saved: the lines come before that
      return ctl.ok(p, "dead-letters", "list", "public.t"):find("not this one", 1, true)
   end)
   lu.assertEquals(#p:lines(), 2)
   lu.assertStrContains(ctl.ok(p, "dead-letters", "show"), "n2")
   lu.assertStrContains(ctl.fails(p, "dead-letters", "replay"), "delivered 0 of 1")
   files.write(mended, "")
   lu.assertEquals(ctl.ok(p, "dead-letters", "replay"), "delivered 1 of 1 dead letters")
   lu.assertEquals(ctl.ok(p, "dead-letters"), "there is no dead letter")
   p:wait_until(function() return p:lines()[3] == "n2" end)
   lu.assertStrContains(ctl.ok(p, "dead-letters", "purge"), "0")
   p:stop()
end

-- ---- how it is ----

function TestCtl.test_status()
   local p = start(fixtures.names(3))
   local text = ctl.ok(p, "status")
   lu.assertStrContains(text, "public.t")
   lu.assertStrContains(text, "following")
   lu.assertNotStrContains(text, "\27")
   local answer = ctl.json(p, "status")
   lu.assertEquals({ answer.ctl, answer.ok, answer.status.version }, { 1, true, 1 })
   lu.assertEquals(answer.status.sources[1].changes.read, 3)
   lu.assertTrue(answer.status.ready)
   lu.assertEquals(p:stop().status, 0)
end

function TestCtl.test_status_while_a_handler_hangs()
   local db = fixtures.names(1)
   local p = program.start { dsn = db, script = [[
      pgcdc.source { table = "t", interval = 0.05 }:on("change", function(c)
         print(c.key.id)
         io.stdout:flush()
         while true do end
      end)]] }
   p:wait_until(function() return #p:lines() == 1 end)
   lu.assertStrContains(ctl.ok(p, "status"), "delivers changes of public.t")
   local answer = ctl.json(p, "pause")
   lu.assertEquals({ answer.ok, answer.pending }, { true, true })
   lu.assertStrContains(answer.text, "delivers changes of public.t")
   lu.assertEquals(ctl.ok(p, "stop"), "it stops")
   lu.assertEquals(ctl.ok(p, "stop"), "it is stopping already")
   p:kill9()
end

-- ---- pauses, polls ----

function TestCtl.test_pause_and_resume()
   local db = fixtures.names(1)
   local p = start(db)
   p:wait_until(function() return #p:lines() == 1 end)
   lu.assertEquals(ctl.ok(p, "pause", "t"), "public.t: paused")
   lu.assertEquals(ctl.ok(p, "pause", "source=public.t"), "public.t: already paused")
   lu.assertTrue(ctl.status(p).sources[1].paused_by_user)
   lu.assertStrContains(ctl.ok(p, "status"), "paused")
   db:exec "INSERT INTO t VALUES (2, 'b')"
   lu.assertEquals(ctl.fails(p, "poll"), "public.t is paused: resume it first")
   lu.assertEquals(#p:stop().lines, 1)

   p = program.start { dsn = db, script = SCRIPT, state = p.state }
   p:wait_stderr "paused by pgcdc%-lua ctl"
   p:wait_until(function() return ctl.status(p).sources[1].paused end)
   local polls = ctl.status(p).sources[1].polls
   lu.assertEquals(polls.changed + polls.empty + polls.skipped, 0)
   lu.assertEquals(ctl.ok(p, "resume", "t"), "public.t: resumed")
   p:wait_until(function() return #p:lines() == 1 end)
   lu.assertEquals(p:lines(), { "upsert\t2" })
   lu.assertEquals(ctl.ok(p, "resume"), "public.t: is not paused")
   p:stop()
   p = start(db, nil, { state = p.state })
   lu.assertFalse(ctl.status(p).sources[1].paused)
   p:stop()
end

-- Sources that share a slot pause together, whichever of them is paused, and each says so. What
-- comes meanwhile comes, of both, when that one is resumed.
function TestCtl.test_sources_of_one_slot_pause_together()
   local db = by_log.database [[CREATE TABLE u (id int PRIMARY KEY, v text);
      CREATE TABLE w (id int PRIMARY KEY); ALTER PUBLICATION pgcdc ADD TABLE u]]
   local p = program.start { dsn = db, script = [[
      for name, capture in pairs { t = "logical", u = "logical", w = "xmin" } do
         pgcdc.source { table = name, capture = capture, interval = 0.2, start = "now",
            on_change = function(c) print(name, c.key.id) end }
      end]] }
   p:wait_stderr "msg=\"?ready.*msg=\"?ready.*msg=\"?ready"
   local function paused()
      local is = {}
      for _, source in ipairs(ctl.status(p).sources) do
         is[source.table] = source.paused
      end
      return is
   end
   lu.assertEquals(ctl.ok(p, "pause", "u"), "public.u: paused")
   lu.assertEquals(paused(), { t = true, u = true, w = false })
   db:exec "INSERT INTO t VALUES (4, 'x'); INSERT INTO u VALUES (5, 'y')"
   db:exec "INSERT INTO w VALUES (6)" -- which is captured in another way
   p:wait_until(function() return #p:lines() > 0 end)
   lu.assertEquals(p:lines(), { "w\t6" })
   lu.assertEquals(ctl.ok(p, "resume", "u"), "public.u: resumed")
   p:wait_until(function() return #p:lines() == 3 end)
   lu.assertEquals(p:lines(), { "w\t6", "t\t4", "u\t5" })
   lu.assertEquals(paused(), { t = false, u = false, w = false })
   p:stop()
end

-- With --once a source that is paused brings nothing, and the program ends.
function TestCtl.test_paused_and_once()
   local db = fixtures.names(1)
   local p = start(db)
   ctl.ok(p, "pause")
   p:stop()
   db:exec "INSERT INTO t VALUES (2, 'b')"
   local result = program.run { dsn = db, script = SCRIPT, state = p.state,
                                options = { "--once" } }
   lu.assertEquals({ result.status, result.stdout }, { 0, "" })
end

function TestCtl.test_poll_now()
   local db = fixtures.names(0)
   local p = start(db, (SCRIPT:gsub("0.05", "3600")))
   db:exec "INSERT INTO t VALUES (7, 'b')"
   lu.assertEquals(ctl.ok(p, "poll"), "public.t: is polled now")
   p:wait_until(function() return p:lines()[1] == "upsert\t7" end)
   p:stop()
end

-- ---- changes, as they are delivered ----

function TestCtl.test_tap()
   local db = fixtures.names(0)
   local p = start(db)
   local tap = program.start { state = false, stdout = "pipe",
                               options = { "ctl", "-s", p.state, "tap", "count=2" } }
   local n = 0
   tap:wait_until(function() -- it may not have begun yet
      n = n + 1
      db:exec("INSERT INTO t VALUES (" .. n .. ", 'a')")
      return #tap:lines() > 0
   end)
   db:exec "INSERT INTO t VALUES (1000, 'b'), (1001, 'c')"
   local lines = tap:finish().lines
   lu.assertEquals(#lines, 2)
   local first, second = json.decode(lines[1]), json.decode(lines[2])
   lu.assertEquals({ first.op, first.row.name, first.table }, { "upsert", "a", "t" })
   lu.assertTrue(second.key.id > first.key.id)
   p:wait_until(function() return #p:lines() == n + 2 end)
   lu.assertStrContains(ctl.fails(p, "tap", "count=all"), "write how many changes")
   p:stop()
end

-- ---- a terminal ----

function TestCtl.test_top()
   local p = start(fixtures.names(2))
   local plain = ctl.ok(p, "top", "count=2", "interval=0.1")
   lu.assertNotStrContains(plain, "\27")
   local _, heads = plain:gsub("SOURCE +CAPTURE", "")
   lu.assertEquals(heads, 2)
   lu.assertStrMatches(plain, ".*public%.t +xmin +following +%d.*")
   local lines = ctl.ok(p, "top", "count=2", "interval=0.1", "--json")
   for line in lines:gmatch "[^\n]+" do
      lu.assertEquals(json.decode(line).status.sources[1].name, "public.t")
   end
   lu.assertEquals(select(2, lines:gsub("\n", "")), 1)
   local screen = ctl.on_terminal(p, 1, 40, "top")
   lu.assertStrContains(screen, "\27[?1049h") -- takes the screen, and gives it back
   lu.assertStrContains(screen, "\27[?1049l")
   lu.assertStrContains(screen, "\27[32mready")
   for line in screen:gsub("\27%[[%d;?]*[A-Za-z]", ""):gmatch "[^\r\n]+" do
      lu.assertTrue(utf8.len(line) <= 40, line)
   end
   p:stop()
end

-- It is drawn anew when the terminal gets another size, and ends by a key. (The interval is longer
-- than the test.)
function TestCtl.test_top_on_a_terminal_that_is_resized()
   local p = start(fixtures.names(2))
   local terminal = ctl.start_on_terminal(p, 100, "top", "interval=600")
   local text = terminal:wait "q ends"
   lu.assertStrContains(text, "CAPTURE    STATE         LAG      CHANGES      PER SECOND")
   terminal:resize(30)
   text = terminal:wait "q ends"
   lu.assertStrContains(text, "public.t")
   for line in text:gsub("\27%[[%d;?]*[A-Za-z]", ""):gmatch "[^\r\n]+" do
      lu.assertTrue(utf8.len(line) <= 30, line)
   end
   terminal:press "q"
   lu.assertStrContains(terminal:wait "\27%[%?1049l", "\27[?25h")
   lu.assertEquals(terminal:finish(), 0)
   p:stop()
end

-- ---- a change that is tried again ----

function TestCtl.test_skip()
   local db = fixtures.names(2)
   local p = program.start { dsn = db, script = [[
      local t = pgcdc.source { table = "t", interval = 0.05,
         on_error = { retry = 1000, wait = 3600, otherwise = "dead_letter" },
         dead_letter = function(letter) print("dead", letter.change.key.id) end }
      t:on("change", function(c)
         print(c.key.id)
         assert(c.key.id ~= 1, "not one")
      end)]] }
   p:wait_stderr "not one"
   local said = ctl.ok(p, "skip")
   lu.assertStrMatches(said, "public.t: change public.t/%d+/1 is a dead letter now")
   p:wait_until(function() return p:lines()[3] == "2" end)
   lu.assertEquals(p:lines(), { "1", "dead\t1", "2" })
   lu.assertEquals(ctl.fails(p, "skip"), "public.t: no change is tried again")
   p:stop()
end

function TestCtl.test_nothing_is_lost_by_skip()
   local db = fixtures.names(1)
   local p = program.start { dsn = db, script = [[
      pgcdc.source { table = "t", interval = 0.05, on_error = { retry = 1000, wait = 3600 } }
         :on("change", function() error "never" end)]] }
   p:wait_stderr "never"
   lu.assertStrContains(ctl.fails(p, "skip"), "has no dead_letter")
   p:stop()
end

-- ---- the program ----

function TestCtl.test_log_level()
   local p = start(fixtures.names(0))
   lu.assertEquals(ctl.ok(p, "log-level"), "the level is info")
   lu.assertEquals(ctl.ok(p, "log-level", "warn"), "the level is warn")
   lu.assertEquals(ctl.ok(p, "log-level", "warn"), "the level is warn already")
   lu.assertStrContains(ctl.fails(p, "log-level", "loud"), "use error, warn, info or debug")
   p:stop()
end

function TestCtl.test_status_in_the_log()
   local p = start(fixtures.names(3))
   p:signal "USR1"
   p:wait_stderr 'msg="status" source=public.t phase=following paused=false changes=3 lag_s=%d'
   p:stop()
end

-- ---- over HTTP ----

function TestCtl.test_post()
   if not served.is_there() then
      return
   end
   local db = fixtures.names(1)
   local token = ("t"):rep(20)
   local path = scope.dir "token" .. "/token"
   files.write(path, token .. "\n")
   native.chmod(path, 384)
   local p = served.start { dsn = db, script = SCRIPT, options = { "--listen-token-file", path } }
   p:wait_stderr "msg=\"?ready"
   local function post(command, ...)
      return p:get("/ctl/" .. command, { "-X", "POST", "-H", "Authorization: Bearer " .. token,
                                         ... })
   end
   local status, body = post("pause", "-d", "source=public.t")
   lu.assertEquals({ status, json.decode(body).text }, { 200, "public.t: paused" })
   status, body = post("poll", "--data-urlencode", "source=t")
   lu.assertEquals({ status, json.decode(body).error }, { 409,
      "public.t is paused: resume it first" })
   lu.assertEquals((post "resume"), 200)
   status, body = post "status"
   lu.assertEquals({ status, json.decode(body).status.version }, { 200, 1 })
   status = post("snapshot", "--data-urlencode", "where=id = 1 + 0 AND name LIKE '%1'")
   lu.assertEquals(status, 200)
   p:wait_until(function() return #p:lines() == 2 end)
   lu.assertEquals((post "tap"), 501)
   lu.assertEquals((post "nothing"), 409)
   lu.assertEquals((post("pause", "-H", "Content-Length: 1000000000")), 413)
   lu.assertEquals((p:get("/ctl/stop", { "-H", "Authorization: Bearer " .. token })), 405)
   lu.assertEquals((p:get("/ctl/stop", { "-X", "POST", "-u", "a:" .. token })), 401)
   lu.assertEquals((p:get("/ctl/stop", { "-X", "POST" })), 401)
   lu.assertEquals((post "stop"), 200)
   lu.assertEquals(p:finish().status, 0)
end

-- ---- bad input ----

-- What is wrong on the socket gets one line, and holds nobody up.
function TestCtl.test_hostile_clients()
   local python = native.realpath "/usr/bin/python3"
   lu.skipIf(not python, "there is no python3")
   local p = start(fixtures.names(1))
   local text = child.run({ stderr = "null", argv = { python, "-c", [[
import socket, sys
def connect():
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(20); return s
def ask(data):
    s = connect()
    try:
        while data:
            data = data[s.send(data[:65536]):]
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    try:
        return s.recv(4096).decode().strip()
    except OSError:
        return "cut off"
print(ask(b"GET / HTTP/1.1\r\n\r\n"))
print(ask(b"pgcdc-ctl 2\0status\0\0"))
print(ask(b"pgcdc-ctl 1\0\0"))
print(ask(b"pgcdc-ctl 1\0pause\0source=" + b"x" * 1000000))
idle = []
for i in range(1000):
    idle.append(connect())
print(ask(b"pgcdc-ctl 1\0ping\0\0"))
]], p.state .. ".ctl" } }, 60)
   local lines = {}
   for line in text:gmatch "[^\n]+" do
      lines[#lines + 1] = line
   end
   lu.assertStrContains(lines[1], "this is not what pgcdc-lua ctl sends")
   lu.assertStrContains(lines[2], "ctl is of another version than the program that runs")
   lu.assertStrContains(lines[3], "this is not what pgcdc-lua ctl sends")
   lu.assertStrContains(lines[4], "longer than 64 kB")
   lu.assertStrContains(lines[5], '"ok":true', text)
   lu.assertEquals(ctl.status(p).sources[1].changes.read, 1)
   lu.assertEquals(p:stop().status, 0)
end

-- A path that is too long for a socket's is none for us; a name that is gets a warning.
function TestCtl.test_long_paths()
   local db = fixtures.names(1)
   local folder = scope.dir "long" .. ("/" .. ("f"):rep(90)):rep(2)
   os.execute("mkdir -p " .. folder)
   local p = start(db, nil, { state = folder .. "/s.db" })
   lu.assertStrContains(ctl.ok(p, "status"), "public.t")
   p:stop()
   p = start(db, nil, { state = p.dir .. "/" .. ("n"):rep(100) })
   p:wait_stderr "ctl cannot reach this program.*choose one of at most 70 bytes"
   lu.assertStrContains(ctl.fails(p, "status"), "name of the state file is too long")
   p:stop()
end

-- A socket that was left by a program that was killed is replaced, and is the user's only.
function TestCtl.test_a_socket_that_was_left()
   local db = fixtures.names(1)
   local p = start(db)
   p:kill9()
   lu.assertStrContains(ctl.fails(p, "status"), "nobody listens")
   p = start(db, nil, { state = p.state })
   lu.assertStrContains(ctl.ok(p, "status"), "public.t")
   lu.assertStrMatches(child.run { argv = { "stat", "-c", "%a %F", p.state .. ".ctl" } },
      "600 socket\n")
   p:stop()
   lu.assertNil(native.realpath(p.state .. ".ctl"))
end

function TestCtl.test_bad_words()
   local p = start(fixtures.names(0))
   local function usage(...)
      local result = program.run { state = false, options = { "ctl", "-s", p.state, ... } }
      lu.assertEquals({ result.status, result.stdout }, { 2, "" })
      return result.stderr
   end
   lu.assertStrContains(usage(), "which command?")
   lu.assertStrContains(usage "statu", "did you mean status?")
   lu.assertStrContains(usage("status", "now"), "it takes no now")
   lu.assertEquals(ctl.fails(p, "dead-letters", "eat"),
      "dead-letters: use list, show, replay or purge")
   lu.assertStrContains(usage("dead-letters", "list", "t", "u"), "it takes no u")
   lu.assertEquals(ctl.fails(p, "pause", "u"), "there is no source u; there is public.t")
   lu.assertEquals(ctl.fails(p, "pause", "table=t"), "pause takes no table")
   p:stop()
   lu.assertStrMatches(ctl.fails(p, "status"), "nobody listens at .*%.ctl: no program runs.*")
   lu.assertEquals(ctl.json(p, "status").ok, false)
end

return TestCtl
