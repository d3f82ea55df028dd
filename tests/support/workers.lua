-- workers.lua: several processes that run test suites, one suite at a time each.
-- SPDX-License-Identifier: MIT
--
-- A worker is run.lua --worker: it reads names of suites, a line each, and writes what suites.run
-- writes, then the marked lines of tell(). What it wrote about a suite is passed on when that is
-- over, so that suites do not mix. A worker that dies fails its suite; the next gets a new one. One
-- that has grown large retires: what a child takes is told as no less than what its parent took.

local native = require "native"
local wait = require "wait"

local workers = {}

local MARK = "\2"
local LARGE_KB = 40000

-- In a worker: the outcome of a suite, for the process that waits for it.
local function tell(outcome)
   for _, each in ipairs(outcome.times) do
      io.write(("%stime %f %s\n"):format(MARK, each.seconds, each.name))
   end
   for _, name in ipairs(outcome.failed) do
      io.write(MARK, "failed ", name, "\n")
   end
   io.write(("%send %d %d %s\n"):format(MARK, outcome.passed, outcome.skipped,
      outcome.retires and "retires" or "stays"))
   io.flush()
end

-- The other half of tell(); true after the last line.
local function hear(line, outcome)
   local what, rest = line:match "^(%l+) (.*)"
   if what == "time" then
      local seconds, name = rest:match "^(%S+) (.*)"
      table.insert(outcome.times, { name = name, seconds = tonumber(seconds) })
   elseif what == "failed" then
      table.insert(outcome.failed, rest)
   else
      local passed, skipped, next_step = rest:match "^(%d+) (%d+) (%l+)$"
      outcome.passed = outcome.passed + tonumber(passed)
      outcome.skipped = outcome.skipped + tonumber(skipped)
      outcome.retires = next_step == "retires"
   end
   return what == "end"
end

-- In a worker: <run> is called with each name that comes.
function workers.serve(run)
   for name in io.lines() do
      local outcome = run(name)
      collectgarbage()
      local _, now_kb = native.proc_rss(tonumber(native.realpath "/proc/self":match "%d+"))
      outcome.retires = now_kb > LARGE_KB
      tell(outcome)
   end
end

-- Adds what the worker wrote; true when its suite is over.
local function take(worker, chunk, outcome)
   local over = false
   worker.text = worker.text .. chunk
   for line in worker.text:gmatch "([^\n]*)\n" do
      if line:sub(1, #MARK) ~= MARK then
         worker.about[#worker.about + 1] = line .. "\n"
      elseif hear(line:sub(#MARK + 1), outcome) then
         over = true
      end
   end
   worker.text = worker.text:match "[^\n]*$"
   return over
end

local function print_about(worker)
   io.write(table.concat(worker.about))
   io.flush()
   worker.about = {}
end

local function describe(ended)
   if not ended then
      return "does not end"
   end
   return ended.exit and "ended with status " .. ended.exit
      or "was killed by signal " .. ended.signal
end

-- Runs the suites in <jobs> workers started by <argv>; returns what suites.run returns.
function workers.run(argv, jobs, names)
   local outcome = { passed = 0, skipped = 0, failed = {}, times = {} }
   local running, procs, next_name = {}, {}, 1

   local function start()
      local proc = assert(native.spawn { argv = argv, stdin = "pipe" })
      procs[#procs + 1] = proc
      running[proc] = { about = {}, text = "" }
   end

   -- Hands out the next suite, or nothing more.
   local function give(proc)
      local worker = running[proc]
      worker.suite = not outcome.retires and names[next_name] or nil
      if worker.suite then
         next_name = next_name + 1
         proc:write(worker.suite .. "\n")
      else
         proc:close "stdin"
      end
   end

   local function forget(index)
      local proc = table.remove(procs, index)
      local worker = running[proc]
      local ended = proc:wait(wait.scaled(60))
      print_about(worker)
      running[proc] = nil
      if worker.suite or not ended or ended.exit ~= 0 then
         local whose = worker.suite or "after the last suite"
         table.insert(outcome.failed, ("%s: its process %s"):format(whose, describe(ended)))
      end
      if next_name <= #names then
         outcome.retires = false
         start()
         give(procs[#procs])
      end
   end

   for _ = 1, math.min(jobs, #names) do
      start()
      give(procs[#procs])
   end
   while #procs > 0 do
      native.poll(procs, 60)
      for i = #procs, 1, -1 do
         local proc = procs[i]
         local worker, open = running[proc], false
         for _, stream in ipairs { "stderr", "stdout" } do
            local chunk, why = proc:read(stream, 0)
            open = open or why ~= "eof"
            if chunk and stream == "stderr" then
               table.insert(worker.about, chunk)
            elseif chunk and take(worker, chunk, outcome) then
               print_about(worker)
               give(proc)
            end
         end
         if not open then
            forget(i)
         end
      end
   end
   return outcome
end

return workers
