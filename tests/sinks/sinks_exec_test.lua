-- sinks_exec_test.lua: pgcdc.sinks.exec: a command that reads what is written, or does not.
-- SPDX-License-Identifier: MIT

local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local TestSinksExec = {}

-- Runs a script that gives rows of t to a command. `more`: further fields of the source.
local function options(db, command, more)
   return {
      dsn = db, options = { "--once" }, args = { command = command },
      script = ([[
         pgcdc.source { table = "t", interval = 0.02, %s }
            :sink(pgcdc.sinks.exec { command = pgcdc.args.command })]]):format(more or ""),
   }
end

local function run(...)
   return program.run(options(...))
end

-- The ids of the whole lines that a command has written to a file.
local function ids_in(path)
   local ids = {}
   for line in (files.read(path) or ""):gmatch "([^\n]*)\n" do
      ids[#ids + 1] = json.decode(line).key.id
   end
   return ids
end

local function assert_each_once(ids, n)
   table.sort(ids)
   lu.assertEquals(#ids, n)
   for i = 1, n do
      lu.assertEquals(ids[i], i)
   end
end

-- The command reads all of it, to the end, and its end is waited for.
function TestSinksExec.test_it_reads_everything()
   local db, folder = fixtures.hashes(3000), scope.dir "exec"
   local result = run(db, ("cat > %s/out; sleep 0.3; echo done"):format(folder))
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.stdout, "done\n")
   assert_each_once(ids_in(folder .. "/out"), 3000)
   -- an input that is empty is an input
   lu.assertEquals(run(fixtures.hashes(0), "wc -l").stdout:match "%d+", "0")
end

-- It gets standard output and error as they are, no other descriptor of ours, and signals as a
-- program expects them; but the keyboard's are ignored.
function TestSinksExec.test_what_it_inherits()
   local result = run(fixtures.hashes(1), [[
      cat > /dev/null; ls /proc/$$/fd | grep -v '^[012]$' | sort -n | head -1
      grep -E '^Sig(Blk|Ign)' /proc/self/status; (kill -PIPE $$) || true; echo not here]])
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "was ended by signal 13")
   local blocked, ignored = result.stdout:match "SigBlk:%s*(%x+)%s*SigIgn:%s*(%x+)"
   lu.assertEquals(tonumber(blocked, 16), 0)
   -- SIGINT and SIGQUIT; the C library's own, which it may have inherited ignored, do not count
   lu.assertEquals(tonumber(ignored, 16) & 0x7fffffff, 1 << 1 | 1 << 2)
   lu.assertStrMatches(result.stdout:match "^[^S]*", "%d*\n?") -- the shell's own, at most
   lu.assertNotStrContains(result.stdout, "not here")
end

-- What ends too early or badly is an error that names it and says how.
function TestSinksExec.test_it_fails()
   for _, case in ipairs {
      { "exit 3", "the command 'exit 3' ended with status 3" },
      { "head -n 3 > /dev/null", "ended with status 0, though there is more to read" },
      { "kill -9 $$", "was ended by signal 9" },
      { "no-such-command-anywhere", "ended with status 127" },
      { "exec 0<&-; sleep 60", "has closed its input" },
      { "cat > /dev/null; exit 4", "ended with status 4" },
   } do
      local result = run(fixtures.hashes(20000), case[1])
      lu.assertEquals(result.status, 1, case[1])
      lu.assertStrContains(result.stderr, case[2])
      lu.assertTrue(result.seconds < 5 * wait.slow, case[1])
   end
end

-- The position is not saved before the command has read everything.
function TestSinksExec.test_unread_lines_come_again()
   local db, folder = fixtures.hashes(10), scope.dir "exec"
   local state = folder .. "/state.db"
   local slow = options(db, ("while [ ! -e %s/go ]; do sleep 0.02; done; exec cat > %s/out")
      :format(folder, folder))
   slow.state = state
   local p = program.start(slow)
   native.poll({ p.proc }, 0.3)
   lu.assertTrue(p:alive())
   p:kill9()
   local all = options(db, ("cat >> %s/out"):format(folder))
   all.state = state
   lu.assertEquals(program.run(all).status, 0)
   assert_each_once(ids_in(folder .. "/out"), 10)
   all.args.command = ("cat >> %s/again"):format(folder)
   lu.assertEquals(program.run(all).status, 0)
   lu.assertEquals(#ids_in(folder .. "/again"), 0)
end

-- A retry starts it anew and gives it all that the dead one may not have read: nothing is lost.
function TestSinksExec.test_it_is_started_again()
   local db, folder = fixtures.hashes(20000), scope.dir "exec"
   local result = run(db, ([[
      n=$(cat %s/starts 2> /dev/null || echo 0); n=$((n + 1)); echo $n > %s/starts
      if [ $n -le 3 ]; then head -n 5000 >> %s/out; exit 7; fi
      exec cat >> %s/out]]):format(folder, folder, folder, folder),
      "on_error = { retry = 3, wait = 0.01 }")
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stderr, "starting the command again")
   local seen, count = {}, 0
   for _, id in ipairs(ids_in(folder .. "/out")) do
      count = count + (seen[id] and 0 or 1)
      seen[id] = true
   end
   lu.assertEquals(count, 20000)
   -- one try too few
   os.remove(folder .. "/starts")
   result = run(db, "exit 7", "on_error = { retry = 2, wait = 0.01, otherwise = 'skip' }")
   lu.assertEquals(result.status, 1) -- what a sink refuses is not one change's fault
   lu.assertStrContains(result.stderr, "(after 3 attempts)")
end

-- One that reads slowly holds us up; it is not told to end by the Ctrl-C that we get, so that it
-- can read to the end of its input.
function TestSinksExec.test_a_stop_lets_it_finish()
   local db, folder = fixtures.hashes(200), scope.dir "exec"
   local run_it = options(db, ([[
      cat > %s/out; sleep 0.2; echo done > %s/done]]):format(folder, folder))
   run_it.options = {}
   for _, sig in ipairs { "INT", "TERM" } do
      os.remove(folder .. "/done")
      os.remove(folder .. "/out") -- also written by the run before
      run_it.state = fixtures.state()
      local p = program.start(run_it)
      p:wait_until(function() return #ids_in(folder .. "/out") == 200 end)
      p.proc:kill(sig, sig == "INT" and "group" or nil)
      local result = p:finish(10)
      lu.assertEquals(result.status, 0, ("%s: %s %s"):format(sig, result.signal, result.stderr))
      lu.assertNotNil(io.open(folder .. "/done"))
   end
end

-- A command that never ends: a second signal ends us at once.
function TestSinksExec.test_a_second_signal()
   local p = program.start(options(fixtures.hashes(1),
      "cat > /dev/null; exec sleep 30 > /dev/null 2>&1"))
   p:wait_stderr("waiting for the command to end", 10)
   p:signal "TERM"
   native.poll({ p.proc }, 0.2)
   lu.assertTrue(p:alive())
   lu.assertEquals(p:stop("TERM", 5).signal, 15)
   p.proc:kill("KILL", "group")
end

function TestSinksExec.test_misuse()
   local result = program.run { state = false, script = [[
      for _, spec in ipairs { false, {}, { command = "" }, { comand = "x" }, { command = 1 } } do
         print(select(2, pcall(pgcdc.sinks.exec, spec)))
      end]] }
   for i, text in ipairs {
      "its argument must be a table", "command must be a string, not nil", "must not be empty",
      "unknown field 'comand'; did you mean 'command'?", "command must be a string, not a number",
   } do
      lu.assertStrContains(result.lines[i], "pgcdc.sinks.exec: ")
      lu.assertStrContains(result.lines[i], text)
   end
   result = program.run { state = false, options = { "--sandbox" },
                          script = "pgcdc.sinks.exec { command = 'true' }" }
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "exec: the sandbox allows no commands")
end

return TestSinksExec
