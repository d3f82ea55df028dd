-- pgcdc.sinks.redis_transaction: a flush into Redis, with its savepoint, and the fence around it.
-- SPDX-License-Identifier: MIT
--
-- A flush is one MULTI, with the savepoint in the key pgcdc:{NAME}. At the start the key
-- pgcdc:{NAME}:epoch is counted up; where the state is in a database its upper bits are the number
-- of our lease there, so that nobody who had the pipeline before can count it up any more. Both are
-- watched, from before they are read until EXEC. So an EXEC does nothing if another program has
-- counted since, or if an earlier EXEC of ours, whose answer was lost, came late. Redis does not
-- undo what a transaction did before one of its commands failed. So it is found out before whether
-- a command would fail (a stream is watched, and asked for its type).

local raw = require "pgcdc.raw"
local overtaken = require "pgcdc.sinks.overtaken"
local redis_client = require "pgcdc.sinks.redis_client"

local redis_transaction = {}

local ask, call_of, pump, raise, reply = redis_client.ask, redis_client.call, redis_client.pump,
   redis_client.raise, redis_client.reply

local HIGH, LOW = 1 << 20, 1 << 18 -- bytes that wait to be sent
local LEASE = 32 -- where the bits of the lease begin in an epoch
local PATIENT = 3 -- times that EXEC may do nothing before streams are not watched any more

-- ---- the savepoint ----

-- Raises unless the epoch is ours.
local function check_epoch(sink, kind, text)
   if kind == "text" and text == sink.epoch then
      return
   elseif kind == "error" then
      raise(sink, "GET", text)
   elseif kind == "text" and math.tointeger(text)
      and math.tointeger(text) > math.tointeger(sink.epoch) then
      overtaken(sink)
   end
   sink:stop("the target went back, or was emptied: a new start goes on from what is there")
end

-- Waits until enough replicas have what was written by this connection.
local function await_replicas(sink)
   local clock = sink:clock "WAIT"
   local began = raw.now()
   while sink.replicas > 0 do
      local _, count = ask(sink, false, "WAIT", sink.replicas, 100)
      if count >= sink.replicas then
         return
      elseif raw.now() - began > sink.timeout then
         sink:retry(("%d of %d replicas have it"):format(count, sink.replicas))
      end
      clock:check(true)
   end
end

-- Counts the epoch up to one of our own.
local function take_epoch(sink)
   local lease = raw.epoch()
   if not lease then
      local _, epoch = ask(sink, false, "INCR", sink.epoch_key)
      sink.epoch = tostring(epoch)
      return
   end
   ask(sink, false, "WATCH", sink.epoch_key)
   local kind, text = ask(sink, false, "GET", sink.epoch_key)
   local epoch = kind == "text" and math.tointeger(tonumber(text)) or 0
   if epoch >> LEASE > lease then
      overtaken(sink)
   end
   local mine = tostring(math.max(epoch, lease << LEASE) + 1)
   ask(sink, false, "MULTI")
   ask(sink, false, "SET", sink.epoch_key, mine)
   if ask(sink, false, "EXEC") ~= "list" then
      sink:again "the epoch: others count it up"
   end
   sink.epoch = mine
end

function redis_transaction.recall(sink)
   if not sink.epoch then
      take_epoch(sink)
   elseif sink.replicas > 0 then
      ask(sink, false, "INCRBY", sink.epoch_key, 0) -- what WAIT waits for, with all before it
      await_replicas(sink)
   end
   ask(sink, false, "WATCH", sink.epoch_key, sink.savepoint_key)
   check_epoch(sink, ask(sink, true, "GET", sink.epoch_key))
   local kind, text = ask(sink, false, "GET", sink.savepoint_key)
   return kind == "text" and text or nil
end

-- ---- flush ----

-- Begins a transaction. Streams are watched, so that EXEC does nothing if one of them became
-- something else, and asked for their type. Returns the run: {heads = the commands before MULTI
-- whose replies are read one by one, a list of {what =, key =}, seen = how many of them were,
-- left = how many replies come after those, place = in the outbox, where it goes on, bytes = how
-- many of its bytes are sent}.
local function begin(sink)
   local client, heads = sink.client, {}
   for key in pairs(sink.streams) do
      if sink.nulls < PATIENT then
         client:call("WATCH", key)
         heads[#heads + 1] = { what = "WATCH", key = key }
      end
      client:call("TYPE", key)
      heads[#heads + 1] = { what = "TYPE", key = key }
   end
   client:begin_skip()
   client:call "MULTI"
   return { heads = heads, seen = 0, left = 1, bytes = 0 }
end

-- Raises what is wrong with a reply of what comes before MULTI.
local function check_head(sink, head, kind, text)
   if kind == "error" then
      raise(sink, head.what, text)
   elseif head.what == "TYPE" and text ~= "stream" and text ~= "none" then
      sink:stop(("the key '%s' is a %s, and no stream: rename it, or say another `key`"):format(
         head.key, text))
   end
end

-- Takes the replies that are there. Those in the transaction are passed over: the client counts
-- errors.
local function take_replies(sink, run)
   while run.seen < #run.heads do
      local kind, text = call_of(sink, sink.client.reply)
      if not kind then
         return
      end
      run.seen = run.seen + 1
      check_head(sink, run.heads[run.seen], kind, text)
   end
   run.left = run.left - call_of(sink, sink.client.skip, run.left)
end

-- Adds the next records before that seal to the transaction. Returns false if there are none.
local function add_some(sink, run, upto)
   local bytes, place = sink.outbox:chunk(run.place, upto)
   if not bytes then
      return false
   end
   run.left = run.left + sink.client:add(bytes, sink.maxlen)
   run.place, run.bytes = place, run.bytes + #bytes
   return true
end

-- Waits until no more than so many bytes are to be sent, and so many replies to come.
local function drain(sink, run, clock, most, replies)
   while sink.client:pending() > most or run.left > replies do
      pump(sink, clock)
      take_replies(sink, run)
   end
end

-- ---- what is sent before the flush ----

-- While a batch is taken its first records are sent already, in a transaction that nothing is done
-- of before EXEC: so the server reads them while we make the next ones. They stay in the outbox.
--
--    put 1 .. 256     WATCH TYPE MULTI, 1 .. 256
--    put 257 .. 512   257 .. 512
--    put 513 .. 600
--    flush            513 .. 600, savepoint, EXEC
--
-- The flush takes that transaction only if it is what it would send: it has nothing after the
-- flush's seal, and all of its streams were watched. Else it is discarded, with all watches, and
-- the flush begins as after a connection: it watches, and compares epoch and savepoint. A failure
-- is kept for the flush, where failures belong.
--
-- It is not done where it would be in vain: by `is_partial`, while operators hold values, so that
-- flushes end at a seal before the newest record; by `is_shared`, once others have written to what
-- is watched: the less time it is watched the better.

--- To be called with the stream of each record, before it is put. (Nothing can be watched within a
--- transaction.)
function redis_transaction.meet_stream(sink, key)
   if sink.streams[key] then
      return
   end
   sink.streams[key] = true
   if sink.ahead then
      sink.ahead.is_void = true
   end
end

local function push_ahead(sink)
   local client, run = sink.client, sink.ahead or begin(sink)
   sink.ahead = run
   while client:pending() < HIGH and add_some(sink, run) do
   end
   local moved, problem = client:step(0)
   if moved == nil then
      redis_client.broken(sink, problem)
   end
   take_replies(sink, run)
end

--- Sends what the outbox has beyond what was sent. Raises nothing.
function redis_transaction.go_ahead(sink)
   local run = sink.ahead
   if not sink.is_recalled or sink.is_busy or sink.is_partial or sink.is_shared
      or run and (run.problem or run.is_void) then
      return
   end
   local ok, problem = sink:use(push_ahead)
   if not ok then
      sink.ahead = { problem = problem }
   end
end

-- Gives up the transaction that has begun, which another one follows.
local function discard(sink, run)
   run.left = run.left + 1
   sink.client:call "DISCARD"
   drain(sink, run, sink:clock "DISCARD", 0, 0)
   if redis_transaction.recall(sink) ~= sink.stored then
      sink.is_recalled = false
      sink:again "the position has changed"
   end
end

-- The transaction of this flush, which has begun.
local function begun(sink, upto)
   local run, bytes = sink.ahead, sink.outbox:bytes(upto)
   sink.ahead, sink.is_partial = nil, bytes < sink.outbox:bytes()
   if run and run.problem then
      error(run.problem, 0)
   elseif run and not run.is_void and run.bytes <= bytes then
      return run
   elseif run then
      discard(sink, run)
   end
   return begin(sink)
end

-- ---- the flush ----

-- Some commands of the transaction failed, others did not. Gives the old savepoint back, so that
-- nothing is lost.
local function raise_in_exec(sink, text, at)
   if sink.stored then
      ask(sink, true, "SET", sink.savepoint_key, sink.stored)
   else
      ask(sink, true, "DEL", sink.savepoint_key)
   end
   sink:stop(("command %d of a transaction failed, and Redis does not undo the others, so the last "
      .. "batch comes again: %s"):format(at, text))
end

-- EXEC did nothing since what is watched has changed.
local function raise_null(sink)
   ask(sink, true, "UNWATCH")
   check_epoch(sink, ask(sink, true, "GET", sink.epoch_key))
   sink.nulls, sink.is_shared = sink.nulls + 1, true
   sink:again("what it watches has changed")
end

function redis_transaction.send(sink, upto, savepoint)
   local run, client, clock = begun(sink, upto), sink.client, sink:clock "MULTI"
   while add_some(sink, run, upto) do
      if client:pending() >= HIGH then
         drain(sink, run, clock, LOW, math.huge)
      end
   end
   if savepoint then
      client:call("SET", sink.savepoint_key, savepoint)
      run.left = run.left + 1
   end
   drain(sink, run, clock, 0, 0)
   local _, _, errors, text = client:skipped()
   if errors > 0 then
      raise(sink, "flush", text) -- nothing is done: there was no EXEC
   end
end

function redis_transaction.commit(sink)
   local client = sink.client
   client:begin_skip()
   client:call "EXEC"
   client:call("WATCH", sink.epoch_key, sink.savepoint_key)
   client:call("GET", sink.epoch_key)
   drain(sink, { heads = {}, seen = 0, left = 1 }, sink:clock "EXEC", 0, 0)
   local values, nulls, errors, text, at = client:skipped()
   reply(sink, "WATCH")
   local kind, epoch = reply(sink, "GET")
   if nulls > 0 then
      raise_null(sink)
   elseif errors > 0 and values == 1 then
      raise(sink, "EXEC", text)
   elseif errors > 0 then
      raise_in_exec(sink, text, at)
   end
   await_replicas(sink)
   sink.nulls = 0
   if not sink.is_plain then
      sink.streams = {}
   end
   if not (kind == "text" and epoch == sink.epoch) then
      sink.is_recalled = false -- the next flush finds out
   end
end

return redis_transaction
