-- harness_test.lua: the test support library: processes, scopes, the program's runner, JSON.
-- SPDX-License-Identifier: MIT
--
-- The other suites trust what is checked here: that output is complete, that a deadline is one,
-- that a run leaves nothing, however it ends. Servers: harness_cluster_test.lua.

local child = require "child"
local cluster = require "cluster"
local environment = require "environment"
local files = require "files"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local server = require "server"
local tree = require "tree"
local wait = require "wait"

local TestHarness = {}

local function write_file(path, text, mode)
   files.write(path, text)
   assert(native.chmod(path, mode or 420))
   return path
end

-- Helpers are looked for in the index, so all of them must stand there.
function TestHarness.test_the_index_names_every_helper()
   local support = tree.top .. "/tests/support"
   local index = files.text(support .. "/README.md")
   for _, name in ipairs(files.names(support)) do
      local module = name:match "^(.*)%.lua$"
      lu.assertTrue(not module or index:find("\n* `" .. module .. "[`:.]") ~= nil, module)
   end
end

-- Processes ------------------------------------------------------------------------------------

function TestHarness.test_spawn_output_and_status()
   local text, ended = child.run { argv = { "sh", "-c", "echo out; exit 7" } }
   lu.assertEquals(text, "out\n")
   lu.assertEquals(ended.exit, 7)
   lu.assertNil(ended.signal)
   lu.assertTrue(ended.user >= 0 and ended.sys >= 0 and ended.maxrss_kb > 0)
end

function TestHarness.test_spawn_environment_directory_and_names_with_spaces()
   local dir = scope.dir "with a space"
   local file = dir .. "/an output"
   local proc = native.spawn {
      argv = { "sh", "-c", 'pwd; echo "$HARNESS_A,${HOME-unset}"; echo "$1"', "sh", "two words" },
      env = { HARNESS_A = 12, HOME = false }, cwd = dir, stdout = file,
   }
   lu.assertEquals(proc:wait(wait.scaled(10)).exit, 0)
   lu.assertEquals(files.text(file), dir .. "\n12,unset\ntwo words\n")
end

function TestHarness.test_spawn_says_what_it_cannot_do()
   local proc, message = native.spawn { argv = { "/no/such/program" } }
   lu.assertNil(proc)
   lu.assertEquals(message, "/no/such/program: exec: No such file or directory")
   proc, message = native.spawn { argv = { "true" }, cwd = "/no/such/dir" }
   lu.assertNil(proc)
   lu.assertStrContains(message, "cwd")
   lu.assertErrorMsgContains("stdout: /no/such/file", native.spawn,
                             { argv = { "true" }, stdout = "/no/such/file" })
   lu.assertErrorMsgContains("argv", native.spawn, {})
   lu.assertErrorMsgContains("unknown user", native.spawn,
      { argv = { "true" }, user = "no such user" })
end

function TestHarness.test_spawn_write_and_streams_apart()
   local proc = native.spawn {
      argv = { "sh", "-c", "cat; echo oops >&2" }, stdin = "pipe", stderr = "pipe",
   }
   lu.assertTrue(proc:write "one\n")
   lu.assertEquals(proc:read("stdout", wait.scaled(10)), "one\n")
   local chunk, why = proc:read("stdout", 0)
   lu.assertNil(chunk)
   lu.assertEquals(why, "timeout")
   proc:close "stdin"
   lu.assertEquals(proc:read("stderr", wait.scaled(10)), "oops\n")
   lu.assertEquals(select(2, proc:read("stdout", wait.scaled(10))), "eof")
   lu.assertEquals(proc:wait(wait.scaled(10)).exit, 0)
end

function TestHarness.test_spawn_closed_descriptors()
   local dir = scope.dir()
   local _, ended = child.run {
      argv = { "sh", "-c", "ls -l /proc/self/fd >" .. dir .. "/fds" },
      stdin = "closed", stderr = "closed",
   }
   lu.assertEquals(ended.exit, 0)
   lu.assertNotStrContains(files.text(dir .. "/fds"), " 2 -> ")
end

function TestHarness.test_spawn_gives_no_other_descriptor()
   local held = assert(native.spawn { argv = { "cat" }, stdin = "pipe" })
   local conn = cluster.main():connect()
   local text = child.run { argv = { "sh", "-c", "exec ls /proc/self/fd" } }
   lu.assertEquals(text, "0\n1\n2\n3\n") -- 3 is the directory that ls reads
   conn:close()
   held:kill "KILL"
end

-- A port that another test was given, or at which a connection began, was in use when a server came
-- to take it.
function TestHarness.test_a_free_port_stays_free()
   local lowest, highest = files.text "/proc/sys/net/ipv4/ip_local_port_range":match "(%d+)%s+(%d+)"
   local text = child.run { argv = { "lua5.4", "-e", ([[
      package.cpath = %q
      local native = require "native"
      for _ = 1, 800 do
         print(native.free_port())
      end]]):format(package.cpath) } }
   local had, count = {}, 0
   for word in text:gmatch "%d+" do
      local port = tonumber(word)
      lu.assertTrue(port < tonumber(lowest) or port > tonumber(highest), word)
      lu.assertNil(had[port], word)
      had[port], count = true, count + 1
   end
   lu.assertEquals(count, 800)
end

function TestHarness.test_kill_wait_and_alive()
   local proc = native.spawn { argv = { "sleep", "1000" } }
   lu.assertTrue(proc:alive())
   lu.assertEquals(select(2, proc:wait(0.01)), "timeout")
   lu.assertTrue(proc:kill "SIGTERM")
   lu.assertEquals(proc:wait(wait.scaled(10)).signal, 15)
   lu.assertEquals(proc:wait(0).signal, 15)
   lu.assertFalse(proc:alive())
   lu.assertEquals(select(2, proc:kill(9)), "gone")
   lu.assertErrorMsgContains("unknown signal", proc.kill, proc, "NOPE")
end

function TestHarness.test_collected_process_is_killed_with_its_children()
   local file = scope.dir() .. "/pids"
   local proc = native.spawn {
      argv = { "sh", "-c", "sleep 1000 & echo $$ $!; wait" }, stdout = file,
   }
   local mine, its_child = wait.until_(function()
      return files.text(file):match "(%d+) (%d+)\n"
   end, 10, "the process ids")
   lu.assertEquals(tonumber(mine), proc:pid())
   proc = nil -- luacheck: ignore
   collectgarbage()
   for _, pid in ipairs { mine, its_child } do
      wait.until_(function() return not native.running(tonumber(pid)) end, 10, "its death")
   end
end

function TestHarness.test_limits()
   local _, ended = child.run {
      argv = { "sh", "-c", "while :; do :; done" }, rlimits = { cpu = 1 },
   }
   lu.assertTrue(ended.signal == 9 or ended.signal == 24)
   lu.assertTrue(ended.user + ended.sys > 0.5)
   local file = scope.dir() .. "/big"
   local proc = native.spawn {
      argv = { "sh", "-c", "exec dd if=/dev/zero bs=4096 count=10" }, stdout = file,
      stderr = "null",
      rlimits = { fsize = 8192 },
   }
   lu.assertEquals(proc:wait(wait.scaled(10)).signal, 25)
   lu.assertEquals(#files.text(file), 8192)
end

function TestHarness.test_another_user()
   if native.getuid() ~= 0 then
      lu.skip "only root can become another user"
   end
   local uid, gid = native.user "nobody"
   local text = child.run { argv = { "sh", "-c", "id -u; id -g; id -G" }, user = "nobody" }
   lu.assertEquals(text, ("%d\n%d\n%d\n"):format(uid, gid, gid))
end

function TestHarness.test_proc_numbers()
   local proc = native.spawn { argv = { "sh", "-c", "while :; do :; done" } }
   wait.until_(function() return native.proc_cpu(proc:pid()) > 0.05 end, 20, "CPU time")
   local peak, now = native.proc_rss(proc:pid())
   lu.assertTrue(peak >= now and now > 100)
   proc:kill "KILL"
   proc:wait(wait.scaled(10))
   lu.assertNil(native.proc_cpu(proc:pid()))
   lu.assertNil(native.proc_rss(proc:pid()))
   lu.assertTrue(native.cpu_count() >= 1)
end

function TestHarness.test_poll_returns_those_that_are_ready()
   local quiet = native.spawn { argv = { "sleep", "1000" } }
   local loud = native.spawn { argv = { "echo", "hello" } }
   local conn = cluster.main():connect()
   lu.assertEquals(#native.poll({ quiet, conn }, 0), 0)
   lu.assertIs(native.poll({ quiet, loud, conn }, wait.scaled(10))[1], loud)
   conn:send "select 1"
   lu.assertIs(native.poll({ quiet, conn }, wait.scaled(10))[1], conn)
end

function TestHarness.test_wait_until()
   local calls = 0
   lu.assertEquals(wait.until_(function()
      calls = calls + 1
      return calls == 3 and "third"
   end), "third")
   lu.assertErrorMsgContains("waiting for the impossible", wait.until_, function() return false end,
                             0.01, "the impossible")
   lu.assertErrorMsgContains("inner", wait.until_, function() error "inner" end)
end

-- Scopes ---------------------------------------------------------------------------------------

function TestHarness.test_scopes_release_the_newest_first_and_once()
   local order = {}
   scope.open()
   scope.add(function() order[#order + 1] = "a" end)
   local forget = scope.add(function() order[#order + 1] = "b" end)
   scope.add(function() error "broken" end)
   scope.add(function() order[#order + 1] = "c" end)
   forget()
   lu.assertStrContains(scope.close(), "broken")
   lu.assertEquals(order, { "c", "a" })
end

-- A runner of its own in which a suite makes everything there is to make and then <ending> happens;
-- returns its proc, and its directories, when it has come as far as that.
local function nested_runner(ending, env)
   local tmp = env.TMPDIR
   local dir, argv = tree.with_suites { inner = ([[
      local cluster, native, scope = require "cluster", require "native", require "scope"
      return {test_inner = function()
         local one = cluster.new {name = "in ner"}
         one:exec "select 1"
         local busy = native.spawn {argv = {"sleep", "1000"}}
         local f = io.open(%q, "w")
         f:write(("%%d %%d %%s\n"):format(one:postmaster_pid(), busy:pid(), one.data))
         f:close()
         %s
      end}]]):format(tmp .. "/report", ending) }
   local proc = native.spawn { argv = argv, env = env, stderr = dir .. "/stderr" }
   local postmaster, busy, data = wait.until_(function()
      local alive = proc:alive()
      local text = files.read(tmp .. "/report") or ""
      assert(alive or #text > 0, "the inner runner has ended early")
      return text:match "^(%d+) (%d+) (.*)\n"
   end, 60, "the inner runner")
   return proc, { tonumber(postmaster), tonumber(busy) }, data
end

local function check_nothing_left(tmp, pids)
   for _, pid in ipairs(pids) do
      wait.until_(function() return not native.running(pid) end, 30, "process " .. pid .. " to end")
   end
   wait.until_(function()
      return #native.listdir(tmp) == 1 -- the report
   end, 30, "the directories in " .. tmp .. " to go")
end

function TestHarness.test_nothing_is_left_however_the_run_ends()
   for _, sig in ipairs { "INT", "TERM", "KILL" } do
      local tmp = scope.dir("tmp with space " .. sig)
      local proc, pids, data = nested_runner("while true do end", { TMPDIR = tmp })
      -- Its servers' user may have to enter what only we may enter: then they are in /tmp.
      lu.assertStrContains(data, pcall(server.run, { "test", "-x", tmp }) and tmp or "/tmp/")
      proc:kill(sig)
      lu.assertNotNil(proc:wait(wait.scaled(30)).signal)
      check_nothing_left(tmp, pids)
   end
end

function TestHarness.test_nothing_is_left_after_an_error_in_a_test()
   local tmp = scope.dir "tmp"
   local proc, pids = nested_runner("error 'on purpose'", { TMPDIR = tmp })
   local text = child.read_all(proc, 60)
   lu.assertEquals(proc:wait(wait.scaled(60)).exit, 1)
   lu.assertStrContains(text, "on purpose")
   lu.assertStrContains(text, "inner_test.lua:")
   lu.assertEquals(text:match "([^\n]*)\n$", "0 passed, 1 failed")
   check_nothing_left(tmp, pids)
end

function TestHarness.test_a_file_that_is_left_is_told()
   local tmp = scope.dir "tmp"
   local proc, pids = nested_runner([[
      assert(io.open(os.getenv "TMPDIR" .. "/forgotten", "w")):close()
   ]], { TMPDIR = tmp })
   local text = child.read_all(proc, 60)
   lu.assertEquals(proc:wait(wait.scaled(60)).exit, 1)
   lu.assertStrContains(text, "left in the folder for temporary files: forgotten")
   lu.assertEquals(text:match "([^\n]*)\n$", "1 passed, 1 failed")
   check_nothing_left(tmp, pids)
end

function TestHarness.test_a_long_tmpdir_gets_its_sockets_elsewhere()
   local tmp = scope.dir(("long"):rep(30))
   local proc, pids = nested_runner("", { TMPDIR = tmp })
   lu.assertEquals(proc:wait(wait.scaled(60)).exit, 0)
   check_nothing_left(tmp, pids)
end

-- The program's runner -------------------------------------------------------------------------

-- Runs <fn> with a shell script in the place of the program.
local function with_fake(text, fn)
   local path = write_file(scope.dir "fake" .. "/fake", "#!/bin/sh\n" .. text, 493)
   environment.with("PGCDC_LUA", path, fn)
end

function TestHarness.test_program_command_line()
   with_fake([[
      for word; do echo "<$word>"; done
      cat "$5"; echo; echo "$HOME${PGHOST-}" >&2]], function()
      local db = cluster.main():database()
      local p = program.start {
         script = "the script", options = { "--once" }, dsn = db, state = false,
         args = { "verbose", b = 2, a = "x y" },
      }
      local result = p:finish()
      lu.assertEquals(result.lines[1], "<--once>")
      lu.assertEquals(result.lines[2], "<--dsn>")
      lu.assertEquals(result.lines[3], "<" .. db:dsn() .. ">")
      lu.assertEquals(result.lines[4], "<" .. p.script .. ">")
      lu.assertEquals(table.concat(result.lines, " ", 5, 7), "<verbose> <a=x y> <b=2>")
      lu.assertEquals(result.status, 0)
      lu.assertEquals(result.stderr, "cat: verbose: No such file or directory\n" .. p.dir .. "\n")
      lu.assertEquals(files.text(p.script), "the script")
      p = program.start { bundled = "jsonl" }
      lu.assertEquals(p:finish().stdout, ("<--state>\n<%s>\n<jsonl>\n"):format(p.state) .. "\n")
   end)
end

function TestHarness.test_program_changes_as_they_come()
   with_fake([[
      echo 'not json'; echo '{"n":1}'; printf '{"n":'; echo ready >&2
      read -r word; echo '2}'; echo "got $word" >&2
      trap 'echo bye; exit 5' TERM
      while :; do sleep 0.01; done]], function()
      local p = program.start { bundled = "x", stdin = "pipe" }
      lu.assertEquals(p:wait_stderr "ready", "ready")
      lu.assertEquals(p:wait_changes(1), { { n = 1 } })
      lu.assertEquals(p:lines(), { "not json", '{"n":1}' })
      lu.assertEquals(p:stdout(), 'not json\n{"n":1}\n{"n":')
      lu.assertErrorMsgContains("timeout", p.wait_changes, p, 2, 0.05)
      p.proc:write "on\n"
      lu.assertEquals(p:wait_changes(2)[2], { n = 2 })
      lu.assertEquals(p:wait_stderr "got (%a+)", "on")
      local result = p:stop()
      lu.assertEquals(result.status, 5)
      lu.assertEquals(result.lines[4], "bye")
      lu.assertEquals(#result.changes, 2)
      lu.assertIs(p:stop(), result)
      lu.assertErrorMsgContains("the program ended", p.wait_changes, p, 3, 1000)
   end)
end

function TestHarness.test_program_is_not_held_up_unless_asked()
   with_fake([[
      head -c 1000000 /dev/zero | tr '\0' x; echo; echo done >&2]], function()
      lu.assertEquals(#program.run { bundled = "x" }.lines[1], 1000000)
      lu.assertEquals(#program.run({ bundled = "x", stdout = "pipe" }).lines[1], 1000000)
      local p = program.start { bundled = "x", hold = true }
      wait.until_(function() return #native.poll({ p.proc }, 0) > 0 end, 10, "output")
      lu.assertErrorMsgContains("timeout", p.wait_stderr, p, "done", 0.1)
      lu.assertEquals(p:stdout(), "")
      p:release()
      lu.assertEquals(#p:finish().lines[1], 1000000)
      lu.assertEquals(p:stderr(), "done\n")
   end)
end

function TestHarness.test_program_ends()
   with_fake("exec sleep 1000", function()
      local p = program.start { bundled = "x" }
      lu.assertTrue(p:alive() and p:rss() > 0 and p:cpu() >= 0)
      lu.assertEquals(p:kill9().signal, 9)
      p = program.start { bundled = "x" }
      lu.assertErrorMsgContains("timeout waiting for the end", p.finish, p, 0.05)
      lu.assertFalse(p:alive())
      scope.open()
      p = program.start { bundled = "x" }
      lu.assertNil(scope.close())
      lu.assertFalse(p:alive())
   end)
   with_fake("echo '{broken'; echo why >&2; exit 3", function()
      local result = program.run { bundled = "x" }
      lu.assertEquals(result.status, 3)
      lu.assertEquals(result.stderr, "why\n")
      lu.assertErrorMsgContains("line 1 of standard output", function() return result.changes end)
   end)
   with_fake("echo x", function()
      local out = scope.dir() .. "/out"
      lu.assertEquals(program.run({ bundled = "x", stdout = out }).stdout, "")
      lu.assertEquals(files.text(out), "x\n")
      lu.assertNotEquals(program.run({ bundled = "x", stdout = "closed" }).status, 0)
      lu.assertNotEquals(program.run({ bundled = "x", stdout = "/dev/full" }).status, 0)
   end)
end

-- JSON -----------------------------------------------------------------------------------------

function TestHarness.test_json_round_trips()
   for _, text in ipairs {
      "{}", "[]", "null", "true", "false", "0", "-1", "9223372036854775807", "-9223372036854775808",
      '""', '"é😀\127"', '"\\u0000\\u000a\\"\\\\"', "[[],{},[null]]",
      '{"a":{"b":[1,2.5,"3"]},"c":null}',
      "[" .. ("["):rep(1000) .. ("]"):rep(1000) .. "]",
   } do
      lu.assertEquals(json.encode(json.decode(text)), text)
   end
   lu.assertEquals(json.decode '"\\ud83d\\ude00\\/\\b"', "😀/\b")
   lu.assertEquals(json.decode " [ 1 , { \"a\" : 2 } ] \n", { 1, { a = 2 } })
   lu.assertEquals(json.encode { b = 1, a = { json.null, json.array() } }, '{"a":[null,[]],"b":1}')
end

function TestHarness.test_json_numbers_and_order()
   lu.assertEquals(math.type(json.decode "10"), "integer")
   lu.assertEquals(math.type(json.decode "10.0"), "float")
   lu.assertEquals(math.type(json.decode "9223372036854775808"), "float")
   lu.assertEquals(json.decode("[1.10,-0,1e400]", { numbers = "string" }),
      { "1.10", "-0", "1e400" })
   local tagged = json.decode("[1.10]", { numbers = "tagged" })
   lu.assertTrue(tagged[1] == json.number "1.10")
   lu.assertFalse(tagged[1] == json.number "1.1")
   lu.assertEquals(json.encode(tagged), "[1.10]")
   local object = json.decode '{"z":1,"a":null,"m":2}'
   lu.assertEquals(json.keys(object), { "z", "a", "m" })
   lu.assertIs(object.a, json.null)
   lu.assertEquals(json.encode(object, { keys = "kept" }), '{"z":1,"a":null,"m":2}')
   lu.assertEquals(json.decode('{"a":1,"a":2}', { duplicates = true }).a, 2)
   lu.assertTrue(json.is_array(json.decode "[]"))
   lu.assertFalse(json.is_array(json.decode "{}"))
end

function TestHarness.test_json_refuses()
   for _, text in ipairs {
      "", " ", "{", "[", "[1", "[1,]", "[,1]", "{,}", '{"a"}', '{"a":}', '{"a":1,}', "{a:1}",
      "1 2", "[1]x", "01", "1.", ".5", "+1", "-", "1e", "0x10", "NaN", "Infinity", "nul", "truex",
      "'a'", '"a', '"\\x"', '"\\u12"', '"\\ud800"', '"\\ud800\\u0041"', '"\\udc00"', '"\n"', '"\t"',
      '"\0"', '"\xff"', '"\xc0\x80"', '"\xed\xa0\x80"', '{"a":1,"a":1}', "\xef\xbb\xbf1", "[1\f]",
   } do
      lu.assertErrorMsgContains("JSON: ", json.decode, text)
   end
   for _, value in ipairs { 0 / 0, math.huge, print, { [2] = 1 } } do
      lu.assertError(json.encode, value)
   end
end

return TestHarness
