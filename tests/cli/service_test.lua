-- service_test.lua: what systemd is told, by the protocol of $NOTIFY_SOCKET.
-- SPDX-License-Identifier: MIT

local child = require "child"
local cluster = require "cluster"
local files = require "files"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local server = require "server"
local tables = require "tables"
local tree = require "tree"
local wait = require "wait"

local TestService = {}

local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" or "."

-- Starts what takes the messages. Returns its socket, and a function that gives all of them, a line
-- each; nil where there is no Python.
local function notified()
   local python = native.realpath "/usr/bin/python3"
   if not python then
      io.write "skipped, there is no python3 ... "
      return nil
   end
   local dir = scope.dir "notified"
   local proc = assert(native.spawn {
      argv = { python, here .. "/../support/notified.py", dir .. "/socket" },
      stdout = dir .. "/messages",
   })
   scope.add(function()
      proc:kill "KILL"
      proc:wait(5)
   end)
   local function messages()
      return files.read(dir .. "/messages") or ""
   end
   wait.until_(function()
      return messages():find "bound\n"
   end)
   return dir .. "/socket", messages
end

local function count(text, line)
   return select(2, ("\n" .. text):gsub("%f[^\n]" .. line .. "\n", "%0"))
end

local function start(socket, db, options)
   return program.start {
      script = options.script or 'pgcdc.source { table = "t", interval = 0.1 }:sink(print)',
      dsn = db, binary = options.binary,
      env = { NOTIFY_SOCKET = socket, WATCHDOG_USEC = options.watchdog }, options = options.options,
   }
end

local function table_of_one(db)
   db:exec "create table t (id int primary key); insert into t values (1)"
end

-- Ready is said once, after what was there was read; then signs of life; at the end that it ends.
function TestService.test_a_life()
   local socket, messages = notified()
   if not socket then
      return
   end
   local db = cluster.main():database()
   table_of_one(db)
   local p = start(socket, db, { watchdog = "400000" })
   wait.until_(function()
      return count(messages(), "WATCHDOG=1") >= 3 and count(messages(), "READY=1") == 1
   end, 20, messages)
   lu.assertStrContains(messages(), "STATUS=1 source, 0 s late\n")
   p.proc:kill "TERM"
   lu.assertEquals(p:finish().status, 0)
   wait.until_(function()
      return count(messages(), "STOPPING=1") == 1
   end, 10, messages)
   lu.assertEquals(count(messages(), "READY=1"), 1)
end

-- Not ready while the database is away, but alive; and the status says what is wrong.
function TestService.test_a_database_that_is_away()
   local socket, messages = notified()
   if not socket then
      return
   end
   local p = start(socket, "host=127.0.0.1 port=1 dbname=x", { watchdog = "400000" })
   wait.until_(function()
      return count(messages(), "WATCHDOG=1") >= 3 and messages():find "STATUS=[^\n]*refused"
   end, 20, messages)
   lu.assertEquals(count(messages(), "READY=1"), 0)
   p.proc:kill "TERM"
   p:finish()
end

-- A handler that does not come back: there are no more signs of life, so systemd kills it. (This
-- program was built to take a loop for dead after 1.5 s.)
function TestService.test_a_loop_that_does_not_turn()
   local socket, messages = notified()
   if not socket then
      return
   end
   local db = cluster.main():database()
   table_of_one(db)
   local fifo = scope.dir "fifo" .. "/fifo"
   assert(os.execute("mkfifo " .. fifo))
   local p = start(socket, db, { watchdog = "400000", binary = program.binary() .. "-hasty",
      script = ([[pgcdc.source { table = "t", interval = 0.1 }:on("change", function()
         io.open(%q):read "a"
      end)]]):format(fifo) })
   local function told()
      return messages():match "STATUS=the loop does not turn: it delivers changes of public.t\n.*"
   end
   wait.until_(told, 20, messages)
   local other_socket, others = notified() -- of one that is well: so time has passed
   local other = start(other_socket, db, { watchdog = "400000" })
   wait.until_(function() return count(others(), "WATCHDOG=1") >= 5 end, 20, others)
   lu.assertEquals(count(told(), "WATCHDOG=1"), 0)
   files.write(fifo, "go on")
   wait.until_(function() return count(told(), "WATCHDOG=1") > 1 end, 20, messages)
   other:stop()
   p:stop()
end

-- What the script starts is not the service: it finds nothing of this in its environment.
function TestService.test_what_a_script_starts()
   local socket = notified()
   if not socket then
      return
   end
   local p = start(socket, nil, { watchdog = "400000", script = [[
      local child = io.popen "env"
      print(select(2, child:read "a":gsub("NOTIFY_SOCKET", "")), os.getenv "WATCHDOG_USEC")]] })
   lu.assertEquals(p:finish().lines, { "0\tnil" })
end

function TestService.test_a_socket_that_cannot_be()
   for _, socket in ipairs { "relative", "/" .. ("x"):rep(200) } do
      local result = start(socket, nil, {}):finish()
      lu.assertEquals(result.status, 2)
      lu.assertStrContains(result.stderr, "$NOTIFY_SOCKET is no path of a socket: " .. socket)
   end
end

-- A reload is no end: it is told as what it is, and then that all is read again.
function TestService.test_a_reload()
   local socket, messages = notified()
   if not socket then
      return
   end
   local db = cluster.main():database()
   table_of_one(db)
   local p = start(socket, db, {})
   wait.until_(function() return count(messages(), "READY=1") == 1 end, 20, messages)
   local began = native.now()
   p:signal "HUP"
   wait.until_(function() return count(messages(), "READY=1") == 2 end, 20, messages)
   local _, reloads = messages():gsub("RELOADING=1|MONOTONIC_USEC=%d+\n", "")
   -- systemd takes it for the answer to its signal if it is later than that
   local usec = tonumber(messages():match "RELOADING=1|MONOTONIC_USEC=(%d+)\n")
   lu.assertTrue(usec >= began * 1e6 and usec <= native.now() * 1e6, usec)
   lu.assertEquals({ reloads, count(messages(), "STOPPING=1") }, { 1, 0 }, messages())
   p:stop()
   wait.until_(function() return count(messages(), "STOPPING=1") == 1 end, 10, messages)
end

-- A service of the unit, as its user: /var/lib is a folder of ours. Its home is /, where it may
-- write nothing, so what belongs to the machine is in its own folder, also where the state is in a
-- database; and root reaches it there.
function TestService.test_the_unit_with_a_state_in_a_database()
   local unit, user = files.text(tree.top .. "/src/dist/pgcdc-lua@.service"), server.user()
   local db, home = cluster.main():database(), cluster.main():database()
   table_of_one(db)
   local lib = scope.dir("lib", server.root())
   local folder = lib .. "/pgcdc-lua/orders"
   child.run { argv = { "mkdir", "-p", folder } }
   if user then
      assert(native.chown(folder, user))
   end
   local env, options = { HOME = "/" }, {}
   for name, value in unit:gmatch "\nEnvironment=([%w_]+)=(%S+)" do
      env[name] = value:gsub("%%S", lib):gsub("%%i", "orders")
   end
   local words = unit:match "\nExecStart=%S+ ([^\n]+) %$OPTIONS "
   for word in words:gmatch "%S+" do
      options[#options + 1] = word:gsub("%${STATE_DIRECTORY}", folder)
   end
   local p = program.start { state = false, user = user, dsn = db, cwd = folder, env = env,
      script = 'pgcdc.source { table = "t", interval = 0.1 }:sink(print)', name = "orders.lua",
      options = tables.join(options, { "--state", home:dsn(), "--name", "orders" }) }
   p:wait_stderr('msg="ready"', 20)
   local result = program.run { state = false, env = { XDG_STATE_HOME = env.XDG_STATE_HOME },
      options = { "ctl", "-s", home:dsn(), "--name", "orders", "status" } }
   lu.assertStrContains(result.stdout, "leader, epoch 1;", false, result.stderr)
   lu.assertEquals(p:stop().status, 0)
end

return TestService
