-- pgcdc.stream.workers: a member of a group of Kafka, and its workers.
-- SPDX-License-Identifier: MIT
--
--    the group says        what is done                            then
--    assigned 3            it is accepted, NAME/3 is started
--    revoked 3             NAME/3 is asked to stop                 it has ended: accepted
--    lost 3                NAME/3 is killed                        it has ended: accepted
--
-- Nothing is read here. How the processes are started is in src/host/workers.h, which has the proof
-- too. Only members may commit offsets to a group that has some: so a worker tells what it has
-- saved, and the member commits that.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

local workers = {
   feeds = {}, -- what reads the sources that have a group
   NEEDS_DATABASE = "a source with a group needs its state in a database, that every worker can "
      .. "reach: name one with --state",
}

local COMMIT = 1       -- seconds between two commits of offsets
local TICK = 1         -- between two turns, at most
local SOON = 0.02      -- where a process is about to end
local FIRST_PAUSE, LONGEST_PAUSE = 1, 60 -- before a worker that has died is started again
local LONG = 60        -- who has run for so long begins with the first pause again
local AGAIN = 60       -- seconds until the same problem is told again
local LONG_ENOUGH = 15 -- to be given partitions
local ASK, STALE = 0.1, 2 -- seconds that a question how much is left takes, and between two of them
local PATIENCE = 240   -- for a worker that is to stop: the group waits for 300 s

-- Exit statuses after which another start comes to the same: wrong words, a database that refuses,
-- a state that does not fit.
local fatal = { [2] = true, [3] = true, [4] = true }

local native
local member           -- of the group; nil until the first turn
local feed             -- of the first source, once that is there
local wanted = {}      -- the set of partitions that are ours
local running = {}     -- partition -> its worker: {pid =, fd =, since =, asked = when it was asked
                       -- to stop, is_ready =, ends = the other end of the socket is closed}
local paused = {}      -- partition -> {until_ =, seconds =}: it has died
local pending          -- what is to be accepted once its workers have ended: {list =, is_lost =}
local saved = {}       -- "topic partition" -> {topic, partition, offset}, not committed yet
local places = {}      -- "topic partition" -> offset, of all that workers have told
local restarts = {}    -- partition -> how often its worker has died
local ends = {}        -- partition -> records beyond what its worker has saved; nil: not known
local asked_at         -- when that was asked for
local committed_at = 0
local resets           -- the set of partitions that --reset is for: those that are assigned first,
                       -- since other members may have read others meanwhile; nil: none are yet
local began_at         -- when it joined
local is_leaving = false
local is_over = false

local function name_of(partition)
   return ("%s/%d"):format(raw.pipeline_name, partition)
end

local function say(level, message, partition, more)
   local fields = more or {}
   fields.worker = name_of(partition)
   raw.log(level, message, fields)
end

-- ---- what workers tell ----

local function take_position(text)
   for topic, partition, offset in text:gmatch "(%S+) (%d+) (%d+)\n" do
      saved[topic .. " " .. partition] = { topic, math.tointeger(partition),
         math.tointeger(offset) }
      places[topic .. " " .. partition] = math.tointeger(offset)
   end
end

local function hear(partition, worker)
   while not worker.ends do
      local text = raw.worker_take(worker.fd)
      if text == nil then
         worker.ends = true
      elseif text == "" then
         return
      elseif text:sub(1, 1) == "P" then
         take_position(text:sub(2))
      elseif text:sub(1, 1) == "R" then
         worker.is_ready = true
      elseif text:sub(1, 1) == "E" then
         worker.asked = raw.now()
         say("info", "the script has asked for a stop", partition)
         raw.stop(math.tointeger(text:sub(2)) or 0)
      end
   end
   raw.watch(worker.fd, nil)
end

-- ---- processes ----

local function start(partition)
   local worker = { since = raw.now() }
   worker.pid, worker.fd = raw.worker_start(partition, resets[partition] == true)
   resets[partition] = nil
   running[partition] = worker
   raw.watch(worker.fd, function()
      hear(partition, worker)
   end)
   say("info", "the worker begins", partition, { pid = worker.pid })
end

-- It has died, and nobody asked it to.
local function restart(partition, worker, status, signal)
   local how = status and "status " .. status or "signal " .. signal
   if status and fatal[status] then
      say("error", ("the worker ended with %s, which another start would not mend: the program "
         .. "ends too"):format(how), partition)
      return raw.stop(status)
   end
   restarts[partition] = (restarts[partition] or 0) + 1
   local before = paused[partition]
   local seconds = before and raw.now() - worker.since < LONG
      and math.min(2 * before.seconds, LONGEST_PAUSE) or FIRST_PAUSE
   paused[partition] = { until_ = raw.now() + seconds, seconds = seconds }
   say(status == 0 and "info" or "error", ("the worker ended with %s; it is started again in %d s")
      :format(how, seconds), partition)
end

-- Looks whether it has ended.
local function look(partition, worker, is_stopping)
   local status, signal = raw.worker_end(worker.pid)
   if not status and not signal then
      return
   end
   hear(partition, worker) -- what it has told last
   raw.watch(worker.fd, nil)
   raw.worker_close(worker.fd)
   running[partition] = nil
   if worker.asked or is_stopping then
      paused[partition] = nil
      say("info", "the worker has ended", partition)
   else
      restart(partition, worker, status, signal)
   end
end

local function stop(partition, worker, now)
   if not worker.asked then
      worker.asked = now
      say("info", "the worker is asked to stop", partition)
      raw.worker_signal(worker.pid, "stop")
   elseif not worker.is_killed and now - worker.asked > PATIENCE then
      worker.is_killed = true
      say("warn", ("the worker does not stop within %d s: it is killed"):format(PATIENCE),
         partition)
      raw.worker_signal(worker.pid, "kill")
   end
end

local function kill(partition, worker)
   if not worker.is_killed then
      worker.asked, worker.is_killed = worker.asked or raw.now(), true
      say("warn", "the group has given the partition to another member: the worker is killed",
         partition)
      raw.worker_signal(worker.pid, "kill")
   end
end

-- ---- the group ----

local function raise(problem)
   error(("kafka: group '%s': %s"):format(feed.group, problem.text), 0)
end

-- What does not pass by itself.
local final = { GROUP_AUTHORIZATION_FAILED = true, TOPIC_AUTHORIZATION_FAILED = true,
                INCONSISTENT_GROUP_PROTOCOL = true, _AUTHENTICATION = true,
                INVALID_GROUP_ID = true }

local warned = {} -- name of a problem -> when it was last told

local function warn(problem)
   local now = raw.now()
   if now - (warned[problem.name] or -AGAIN) >= AGAIN then
      warned[problem.name] = now
      raw.log("warn", problem.text, { group = feed.group })
   end
end

local function hear_group()
   local event = member:turn()
   while event do
      if event.problem then
         if event.problem.is_fatal or final[event.problem.name] then
            raise(event.problem)
         end
         warn(event.problem)
      elseif event.assigned then
         member:accept()
         local is_first = resets == nil
         resets = resets or {}
         for _, partition in ipairs(event.assigned) do
            wanted[partition], resets[partition] = true, is_first or nil
         end
      else
         pending = { list = event.revoked, is_lost = event.is_lost }
         for _, partition in ipairs(event.revoked) do
            wanted[partition] = nil
         end
         return -- nothing more comes before it is accepted
      end
      event = member:turn()
   end
end

local function commit()
   local list = {}
   for key, place in pairs(saved) do
      list[#list + 1], list[#list + 2], list[#list + 3] = place[1], place[2], place[3]
      saved[key] = nil
   end
   if #list > 0 then
      member:commit(list)
   end
   committed_at = raw.now()
end

-- Others move on from here.
local function forget_places(partition)
   for _, of in ipairs(workers.feeds) do
      for _, topic in ipairs(of.topics) do
         places[topic .. " " .. partition] = nil
      end
   end
end

-- Gives up what the group wants back, if nobody is at work on it any more.
local function give_up()
   for _, partition in ipairs(pending.list) do
      if running[partition] then
         return
      end
   end
   commit()
   for _, partition in ipairs(pending.list) do
      forget_places(partition)
   end
   member:accept()
   pending = nil
end

local function begin()
   if not raw.pipeline_name then
      raw.usage(workers.NEEDS_DATABASE)
   end
   feed = workers.feeds[1]
   workers.check(raw.source_count())
   native = require "pgcdc.native.kafka"
   local settings = require "pgcdc.sinks.kafka.settings"
   local problem
   member, problem = native.member(settings.of_member(feed, feed.group), feed.topics[1])
   if not member then
      error("kafka: " .. problem, 0)
   end
   began_at = raw.now()
   feed:check_partitions(member)
   raw.watch(member:fd(), function()
      member:quiet()
   end)
   raw.log("info", "waiting for partitions", { group = feed.group })
end

-- ---- figures ----

-- Records of all topics of a partition that its worker has not saved; nil: nobody tells.
local function ask_left(partition)
   local left = 0
   for _, of in ipairs(workers.feeds) do
      for _, topic in ipairs(of.topics) do
         local first, behind = member:range(topic, partition, ASK)
         if not first then
            return nil
         end
         left = left + math.max(behind - (places[topic .. " " .. partition] or first), 0)
      end
   end
   return left
end

-- Asks for all partitions, some seconds after it was done last. Where the brokers are away the
-- first one waits for nothing, and no other one is asked.
local function ask_all(now)
   if not member or now - (asked_at or -STALE) < STALE then
      return
   end
   asked_at, ends = now, {}
   for partition in pairs(wanted) do
      ends[partition] = ask_left(partition)
      if not ends[partition] then
         return
      end
   end
end

--- The workers of a member: a list of {name =, pid = or nil, is_ready =, since =, restarts =,
--- left = or nil}, one for each partition that is ours.
function workers.list()
   local list, numbers = {}, {}
   ask_all(raw.now())
   for partition in pairs(wanted) do
      numbers[#numbers + 1] = partition
   end
   table.sort(numbers)
   for i, partition in ipairs(numbers) do
      local worker = running[partition] or {}
      list[i] = { name = name_of(partition), pid = worker.pid, since = worker.since,
                  is_ready = worker.is_ready or false, restarts = restarts[partition] or 0,
                  left = ends[partition] }
   end
   return list
end

-- ---- turns ----

local function report()
   local list = {}
   for partition, worker in pairs(running) do
      list[#list + 1] = ("%s (pid %d%s)"):format(name_of(partition), worker.pid,
         worker.is_ready and "" or ", not ready")
   end
   table.sort(list)
   raw.log("info", ("%d workers run"):format(#list), { workers = table.concat(list, ", ") })
end

local function turn_workers(is_stopping, now)
   for partition, worker in pairs(running) do
      if pending and (pending.is_lost or member:is_lost()) and not wanted[partition] then
         kill(partition, worker)
      elseif is_stopping or not wanted[partition] then
         stop(partition, worker, now)
      end
   end
   local list = {}
   for partition in pairs(running) do
      list[#list + 1] = partition
   end
   for _, partition in ipairs(list) do
      look(partition, running[partition], is_stopping)
   end
   for partition in pairs(wanted) do
      local pause = paused[partition]
      if not is_stopping and not running[partition] and not (pause and now < pause.until_) then
         start(partition)
      end
   end
   for partition in pairs(paused) do
      paused[partition] = wanted[partition] and paused[partition] or nil
   end
end

-- True if each partition has a worker that has read what was there. Who has none for long is well.
local function is_ready(now)
   for partition in pairs(wanted) do
      if not (running[partition] and running[partition].is_ready) then
         return false
      end
   end
   return next(wanted) ~= nil or now - began_at > LONG_ENOUGH
end

-- Seconds until something is to be done.
local function wait(now)
   local seconds = TICK
   for partition, pause in pairs(paused) do
      if not running[partition] then
         seconds = math.min(seconds, math.max(pause.until_ - now, 0))
      end
   end
   for _, worker in pairs(running) do
      seconds = (worker.ends or worker.is_killed) and SOON or seconds
   end
   return seconds
end

-- All has to end. Returns seconds until the next turn; nil: it is over.
local function finish(now)
   if next(running) then
      return wait(now)
   elseif not is_leaving then
      is_leaving = true
      commit()
      member:leave()
   end
   hear_group()
   if pending then
      give_up()
   end
   if member:left() then
      member:close()
      return nil
   end
   return SOON
end

--- Hook, see src/lua/hooks_feed.c.
function workers.turn(is_stopping)
   if is_over then
      return nil
   elseif not member then
      if is_stopping then
         return nil
      end
      begin()
   end
   local now = raw.now()
   if not pending then
      hear_group()
   end
   turn_workers(is_stopping, now)
   if pending then
      give_up()
   end
   if now - committed_at >= COMMIT then
      commit()
   end
   raw.set_ready(is_ready(now))
   if raw.wants_report() then
      report()
   end
   if is_stopping then
      local seconds = finish(now)
      is_over = seconds == nil
      return seconds
   end
   return wait(now)
end

-- ---- sources ----

--- A source is read by `of`, and has a group. To be called when its options are read.
function workers.join(of, what)
   local first = workers.feeds[1]
   if first and first.group ~= of.group then
      check.fail("%s: group: '%s', and another source has '%s': a script has one", what, of.group,
         first.group)
   elseif first and first.brokers ~= of.brokers then
      check.fail("%s: kafka: all sources of a group have the same brokers", what)
   end
   table.insert(workers.feeds, of)
   if not raw.partition then
      raw.be_member()
   end
end

--- True if the script has sources with a group.
function workers.is_used()
   return #workers.feeds > 0
end

--- To be called when the script is loaded and has so many sources.
function workers.check(sources)
   if #workers.feeds > 0 and #workers.feeds ~= sources then
      check.fail("pgcdc.source: a script has sources with a group, or others: each worker would "
         .. "read all of the others")
   end
end

return workers
