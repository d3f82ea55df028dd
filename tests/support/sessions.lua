-- sessions.lua: one and the same session over many bad networks.
-- SPDX-License-Identifier: MIT
--
-- A session is a run with --once, from a given state file, whose output is known. It is repeated
-- with a fault at one offset of its bytes after the other, several at a time, each through a proxy
-- of its own: whatever the fault, what comes out is the same. How many offsets: quickly a few, with
-- $PGCDC_TEST_OFFSETS more, up to every byte.

local fixtures = require "fixtures"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local proxy = require "proxy"
local wait = require "wait"

local sessions = {}

local AT_A_TIME = 12

-- A dead connection is noticed within 2 s with these.
sessions.QUICK = { keepalives_idle = 1, keepalives_interval = 1, keepalives_count = 1,
                   connect_timeout = 2 }
sessions.NOTICED = 2

-- Starts a session: {db =, script =, and if need be
--    state      the state file to begin with
--    target     another database: then what leads to that is bad
--    args       function(dsn, number): the words of the command line
--    keywords   of libpq, default QUICK
--    tcp        see proxy.new}
-- <arm> is called with the proxy first.
function sessions.start(session, arm, number)
   local between = proxy.new(session.target or session.db, session.tcp)
   local dsn = between:dsn(session.keywords or sessions.QUICK)
   if arm then
      arm(between)
   end
   local args = session.args and session.args(dsn, number)
   local p = program.start {
      dsn = session.target and session.db or dsn, script = session.script, args = args,
      state = fixtures.state(session.state), options = { "--once" },
   }
   return { p = p, proxy = between, number = number, began = native.now() }
end

-- What a run printed, without the time.
local function sorted_lines(result)
   local lines, last = {}, 0
   for i, line in ipairs(result.lines) do
      local seq = tonumber(line:match '"seq":(%d+)') -- another one in each run, but it grows
      lu.assertTrue(seq > last, line)
      lines[i], last = line:gsub('"ts":"[^"]*"', ""):gsub('"seq":%d+', ""), seq
   end
   table.sort(lines)
   return table.concat(lines, "\n")
end

local function finish(run, what, seconds)
   local result = run.p:finish(seconds or 40)
   lu.assertEquals({ what, result.status, result.stderr:match "level=error[^\n]*" }, { what, 0 })
   run.result, run.output = result, sorted_lines(result)
   run.stats = run.proxy:stats()
   run.proxy:close()
   return run
end

-- One run without a fault: its output, and how many bytes went each way.
function sessions.reference(session)
   return finish(sessions.start(session, nil, 0), "without a fault")
end

-- Runs a session whose bytes travel one by one, each way. It must end well and print as many lines
-- as without that; returns its result.
function sessions.trickle(session)
   local reference = sessions.reference(session)
   local run = sessions.start(session, function(between) between:pace(1) end, 1)
   local result = run.p:finish(60)
   lu.assertEquals({ result.status, result.stderr:match "level=[ew][^\n]*" }, { 0 })
   lu.assertEquals(#result.lines, #reference.result.lines)
   return result
end

local function offsets_of(total, n)
   n = math.min(math.tointeger(tonumber(os.getenv "PGCDC_TEST_OFFSETS" or "")) or n, total)
   local list = {}
   for i = 1, n do
      list[i] = (i - 1) * total // n
   end
   return list
end

-- The session with each of <faults>, in each direction, at <n> offsets. <check>(run) looks at more.
-- Returns how many runs met their fault, and the longest time of one.
function sessions.sweep(session, faults, n, check)
   local reference = session.reference or sessions.reference(session)
   session.reference = reference
   local todo, running, met, longest = {}, {}, 0, 0
   for _, how in ipairs(faults) do
      for _, direction in ipairs { "up", "down" } do
         for _, offset in ipairs(offsets_of(reference.stats[direction], n)) do
            todo[#todo + 1] = { how = how, direction = direction, offset = offset }
         end
      end
   end
   local function complete(run)
      local what = ("%s %s at %d"):format(run.fault.how, run.fault.direction, run.fault.offset)
      finish(run, what)
      lu.assertEquals(run.output, reference.output, what)
      met = met + run.stats.faults
      longest = math.max(longest, run.result.seconds)
      if check then
         check(run, what)
      end
   end
   for number, fault in ipairs(todo) do
      if #running == AT_A_TIME then
         complete(table.remove(running, 1))
      end
      local run = sessions.start(session, function(between)
         between:fault(fault.how, fault.direction, fault.offset)
      end, number)
      run.fault = fault
      running[#running + 1] = run
   end
   while #running > 0 do
      complete(table.remove(running, 1))
   end
   lu.assertTrue(met >= #todo * 0.8, ("%d of %d met their fault"):format(met, #todo))
   return met, longest / wait.slow
end

return sessions
