-- bad_state_test.lua: state files and outputs that are damaged, full, locked, closed or not there.
-- SPDX-License-Identifier: MIT
--
-- Promise: a clear message, status 4 for the state file and 1 for standard output, and nothing
-- lost: what was not delivered comes when the trouble is over.

local environment = require "environment"
local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local scope = require "scope"
local server = require "server"
local tables = require "tables"
local wait = require "wait"

local TestBadState = {}

local PRINT = [[
   pgcdc.source {table = "t", interval = 0.05, on_change = function(c)
      print(c.key.id, c.row.name)
   end}]]

local function run(db, state, more)
   return program.run(tables.merge(
      { script = PRINT, dsn = db, state = state, options = { "--once" } }, more))
end

local check = once.fail

-- Delivers the rest; its lines must be these.
local function check_rest(db, state, lines)
   local result = run(db, state)
   lu.assertEquals(result.status, 0)
   lu.assertEquals(result.lines, lines)
end

-- Damage ---------------------------------------------------------------------------------------

function TestBadState.test_a_file_that_is_something_else()
   local db, state = fixtures.names(1), fixtures.state()
   for _, text in ipairs { "garbage", ("garbage "):rep(2000), ("\0"):rep(8192) } do
      files.write(state, text)
      check(4, "the state file " .. state .. " is damaged, or is not one of pgcdc-lua",
            run(db, state))
      lu.assertEquals(files.read(state), text)
   end
   check(4, "the state file /dev/null", run(db, "/dev/null"))
   local folder = scope.dir()
   check(4, "the state file " .. folder .. " cannot be written: Is a directory", run(db, folder))
   check(4, "for the state file", run(db, state .. "/below/a/file.db"))
   files.write(state, "") -- what mktemp makes
   check_rest(db, state, { "1\tn1" })
end

function TestBadState.test_a_database_of_another_program()
   local db, state = fixtures.names(1), fixtures.state()
   run(db, state)
   local whole = files.read(state)
   lu.assertEquals(whole:sub(1, 15), "SQLite format 3")
   lu.assertEquals(whole:sub(69, 72), "pgcd") -- the application's id
   files.write(state, whole:sub(1, 68) .. "else" .. whole:sub(73))
   check(4, "is a database of another program", run(db, state))
   lu.assertEquals(whole:sub(61, 63), "\0\0\0") -- the format's version
   files.write(state, whole:sub(1, 63) .. "\99" .. whole:sub(65))
   check(4, "has format 99", run(db, state))
   files.write(state, whole)
   check_rest(db, state, {})
end

-- Runs with <text> as the state file: that is refused, or nothing is lost, and the two changes made
-- since come. Returns nil, or what was wrong.
local function try_state(db, state, text)
   files.write(state, text)
   os.remove(state .. "-wal")
   os.remove(state .. "-journal")
   local result = run(db, state)
   local came = result.stdout:find("2\tb\n", 1, true) and result.stdout:find("4\td\n", 1, true)
   if result.status == 4 or result.status == 0 and came then
      return nil
   end
   return ("status %s, %q, %s"):format(result.status or result.signal, result.stdout, result.stderr)
end

-- A flipped bit is noticed, or does not matter. One in the floor lost changes without a word.
function TestBadState.test_flipped_bits_and_truncated_files()
   local db, state = fixtures.names(3), fixtures.state()
   run(db, state)
   local xmin = tonumber(db:value "select pg_snapshot_xmin(pg_current_snapshot())")
   db:exec "update t set name = 'b' where id = 2; insert into t values (4, 'd')"
   local whole = files.read(state)
   local places, n = {}, 0
   for i = 1, #whole - 1 do -- what may be a floor or an xmax, and every fourth of all other bytes
      local two = string.unpack(">I2", whole, i)
      n = n + (whole:byte(i) ~= 0 and 1 or 0)
      if math.abs(two - xmin) < 5 then
         places[i], places[i + 1] = 16, 4
      elseif whole:byte(i) ~= 0 and n % (i > 4096 and 4 or 40) == 0 then
         places[i] = places[i] or 1 << (n // 4 % 8)
      end
   end
   local wrong, tried = {}, 0
   for i, bit in pairs(places) do
      tried = tried + 1
      wrong[#wrong + 1] = try_state(db, state, whole:sub(1, i - 1)
         .. string.char(whole:byte(i) ~ bit) .. whole:sub(i + 1))
   end
   for _, size in ipairs { #whole - 1, #whole - 100, #whole - 4096, 4096, 100, 1 } do
      wrong[#wrong + 1] = try_state(db, state, whole:sub(1, size))
   end
   lu.assertEquals(table.concat(wrong, "\n"), "")
   lu.assertTrue(tried > 30 and tried < 150, tried)
end

-- Refusals of the system -----------------------------------------------------------------------

function TestBadState.test_a_read_only_file()
   local db, state = fixtures.names(1), scope.dir("state", server.root()) .. "/state.db"
   run(db, state)
   local user = server.user() -- root may write anywhere
   if user then
      native.chown(state:match "^(.*)/", user)
      native.chown(state, user)
   end
   native.chmod(state, 256) -- 0400
   check(4, "the state file " .. state .. " cannot be written: ", run(db, state, { user = user }))
   native.chmod(state, 384)
   native.chmod(state:match "^(.*)/", 320) -- 0500: no place for the write-ahead log
   check(4, "the state file " .. state, run(db, state, { user = user }))
   check(4, "cannot", run(db, state .. "2", { user = user }))
   native.chmod(state:match "^(.*)/", 493)
   db:exec "insert into t values (2, 'b')"
   lu.assertEquals(run(db, state, { user = user }).lines, { "2\tb" })
end

function TestBadState.test_a_file_in_use()
   local db, state = fixtures.names(1), fixtures.state()
   local p = program.start { script = PRINT, dsn = db, state = state }
   p:wait_until(function() return #p:lines() == 1 end)
   check(4, "the state file " .. state .. " is in use by another process", run(db, state))
   check(4, "is in use by another process", run(db, state, { options = { "--reset", "--once" } }))
   db:exec "insert into t values (2, 'b')"
   p:wait_until(function() return #p:lines() == 2 end)
   lu.assertEquals(p:stop().status, 0)
   check_rest(db, state, {})
   -- somebody who was killed holds nothing
   p = program.start { script = PRINT, dsn = db, state = state }
   p:wait_stderr '"ready"'
   p:kill9()
   check_rest(db, state, {})
end

-- A disk that holds <kb> and no more, in a mount namespace of its own: it is gone with its keeper,
-- that is with us. Skips the test where that takes rights we do not have. Fields: path, as the
-- program sees it, and here, as we do.
local function small_disk(kb)
   local path = scope.dir "disk"
   local keeper = native.getuid() == 0 and native.spawn {
      argv = { "unshare", "-m", "sh", "-c",
               'mount -t tmpfs -o size="$1"k none "$2" && echo mounted && exec sleep 1000000', "sh",
               tostring(kb), path }, stderr = "null",
   }
   if not keeper or keeper:read("stdout", wait.scaled(10)) ~= "mounted\n" then
      lu.skip "only root can mount a small disk"
   end
   scope.add(function() keeper:kill "KILL" end)
   return { path = path, here = ("/proc/%d/root%s"):format(keeper:pid(), path), keeper = keeper }
end

-- Calls <fn>, and programs that it starts see the disk.
local function with_disk(disk, fn)
   local wrapper = ("nsenter -t %d -m -- %s"):format(disk.keeper:pid(),
      os.getenv "PGCDC_TEST_WRAPPER" or "")
   environment.with("PGCDC_TEST_WRAPPER", wrapper, fn)
end

-- Leaves no room on the disk.
local function fill(disk)
   local f = assert(io.open(disk.here .. "/ballast", "wb"))
   f:setvbuf "no"
   while f:write(("x"):rep(1024)) do end
   f:close()
end

local function empty(disk)
   assert(os.remove(disk.here .. "/ballast"))
end

-- Full from the start, and while it runs; when there is room again it goes on where it was.
function TestBadState.test_a_full_disk()
   local disk = small_disk(300)
   with_disk(disk, function()
      local db, state = fixtures.names(3), disk.path .. "/state.db"
      fill(disk)
      check(4, "cannot be written: the disk is full", run(db, state))
      empty(disk)
      check_rest(db, state, { "1\tn1", "2\tn2", "3\tn3" })
      local p = program.start { script = PRINT, dsn = db, state = state }
      p:wait_stderr '"ready"'
      fill(disk)
      local id = 3
      while p:alive() and id < 2000 do -- its log has some room of its own
         id = id + 1
         db:exec(("insert into t values (%d, 'x')"):format(id))
         native.poll({ p.proc }, 0.001)
      end
      local result = p:finish()
      lu.assertEquals(result.status, 4)
      lu.assertStrContains(result.stderr, "cannot be written: the disk is full")
      empty(disk)
      local rest = run(db, state)
      lu.assertEquals(rest.status, 0)
      local came = {}
      for _, lines in ipairs { result.lines, rest.lines } do
         for _, line in ipairs(lines) do
            came[tonumber(line:match "^%d+")] = true
         end
      end
      for i = 4, id do
         lu.assertEquals({ i, came[i] }, { i, true })
      end
   end)
end

-- A limit on file sizes is no reason to die by a signal.
function TestBadState.test_a_limit_on_file_sizes()
   local db, state = fixtures.names(3), fixtures.state()
   local result = run(db, state, { rlimits = { fsize = 4096 }, stdout = "pipe" })
   lu.assertEquals(result.signal, nil)
   lu.assertEquals(result.status, 4)
   lu.assertStrContains(result.stderr, "the state file " .. state)
   os.remove(state)
   check_rest(db, state, { "1\tn1", "2\tn2", "3\tn3" })
end

-- What the queue cannot hold goes to a file beside the state file, which needs room too.
function TestBadState.test_no_room_for_the_overflow()
   local disk = small_disk(2000)
   with_disk(disk, function()
      local db, state = fixtures.names(), disk.path .. "/state.db"
      lu.assertEquals(run(db, state).status, 0)
      db:exec "insert into t select i, repeat(md5(i::text), 100) from generate_series(1, 5000) i"
      local p = program.start { dsn = db, state = state, stdin = "pipe", script = [[
         pgcdc.source {table = "t", on_change = function(c)
            pgcdc.log.info "in hand"
            io.stdin:read "l"
         end}]] }
      p:wait_stderr "in hand"
      wait.until_(function() -- the poll is over
         return not db:value [[
            select 1 from pg_stat_activity where application_name = 'pgcdc-lua'
            and state <> 'idle']]
      end, 20, "the end of the poll")
      p.proc:close "stdin"
      local result = p:finish()
      lu.assertStrContains(result.stderr, "No space left on device")
      lu.assertEquals(result.status, 4)
      db:exec "delete from t where id > 3; update t set name = 'n'"
      check_rest(db, state, { "1\tn", "2\tn", "3\tn" })
   end)
end

-- Standard output ------------------------------------------------------------------------------

function TestBadState.test_standard_output_that_is_closed()
   local db, state = fixtures.names(2), fixtures.state()
   check(1, "standard output is closed", run(db, state, { stdout = "closed" }))
   lu.assertNil(io.open(state))
   check_rest(db, state, { "1\tn1", "2\tn2" })
end

function TestBadState.test_standard_output_that_is_full()
   local db, state = fixtures.names(2), fixtures.state()
   check(1, "standard output cannot be written: No space left on device",
         run(db, state, { stdout = "/dev/full" }))
   check_rest(db, state, { "1\tn1", "2\tn2" })
   db:exec "insert into t values (3, 'c')"
   check(1, "standard output cannot be written", run(db, state, { stdout = "/dev/full" }))
   check(1, "standard output cannot be written", run(db, state, { stdout = "/dev/full" }))
   check_rest(db, state, { "3\tc" })
   for _, option in ipairs { "--help", "--version", "--check" } do
      local result = run(db, state, { stdout = "/dev/full", options = { option } })
      lu.assertEquals({ option, result.status }, { option, 1 })
      lu.assertStrContains(result.stderr, "No space left on device")
   end
end

-- More than the buffer holds, so that it is a write in the middle that fails.
function TestBadState.test_much_output_to_a_full_disk()
   local db, state = fixtures.names(30000), fixtures.state()
   local result = run(db, state, { stdout = "/dev/full" })
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "standard output cannot be written")
   lu.assertEquals(#run(db, state).lines, 30000)
end

-- A disk that is full for a while: a change that could not be written once must not be taken for
-- delivered because the next ones could.
function TestBadState.test_output_to_a_disk_that_is_full_for_a_while()
   local disk = small_disk(200)
   local db, state = fixtures.names(5000), fixtures.state()
   local script = ([[
      local source = pgcdc.source
      function pgcdc.source(spec)
         return source(spec):on("change", function(c)
            if c.key.id == 4000 then
               pgcdc.log.info "in hand"
               io.stdin:read "l"
            end
         end)
      end
      dofile %q]]):format(native.realpath(program.binary() .. "/../../scripts/jsonl.lua"))
   with_disk(disk, function()
      for _, to_file in ipairs { true, false } do
         os.remove(state)
         files.write(disk.here .. "/out", "")
         fill(disk)
         local p = program.start {
            script = script, dsn = db, state = state, options = { "--once" }, stdin = "pipe",
            args = { table = "t", out = to_file and disk.path .. "/out" or "-" },
            stdout = not to_file and disk.here .. "/out" or nil,
         }
         wait.until_(function()
            return not p:alive() or p:stderr():find "in hand"
         end, 20, "row 4000")
         empty(disk)
         p.proc:close "stdin"
         local result = p:finish()
         lu.assertStrContains(result.stderr, "level=error")
         lu.assertEquals(result.status, 1)
         assert(os.remove(disk.here .. "/out"))
         lu.assertEquals(#run(db, state).lines, 5000)
      end
   end)
end

return TestBadState
