-- pgcdc.sinks.redis_transaction: a flush into Redis, with its savepoint, and the fence around it.
-- SPDX-License-Identifier: MIT
--
-- A flush is one MULTI, with the savepoint in the key pgcdc:{NAME}. At the start the key
-- pgcdc:{NAME}:epoch is counted up. Both are watched, from before they are read until EXEC. So an
-- EXEC does nothing if another program has counted since, or if an earlier EXEC of ours, whose
-- answer was lost, came late. Redis does not undo what a transaction did before one of its commands
-- failed. So it is found out before whether a command would fail (a stream is watched, and asked
-- for its type).

local raw = require "pgcdc.raw"
local redis_client = require "pgcdc.sinks.redis_client"

local redis_transaction = {}

local ask, call_of, pump, raise, reply = redis_client.ask, redis_client.call, redis_client.pump,
   redis_client.raise, redis_client.reply

local HIGH, LOW = 1 << 20, 1 << 18 -- bytes that wait to be sent
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
      sink:stop(("another pgcdc-lua has taken over the sink '%s': each needs a name of its own")
         :format(sink.name))
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

function redis_transaction.recall(sink)
   if not sink.epoch then
      local _, epoch = ask(sink, false, "INCR", sink.epoch_key)
      sink.epoch = tostring(epoch)
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

-- Watches the streams, so that EXEC does nothing if one of them became something else.
local function watch_streams(sink)
   local keys = {}
   for key in pairs(sink.streams) do
      if sink.nulls < PATIENT then
         sink.client:call("WATCH", key)
      end
      sink.client:call("TYPE", key)
      keys[#keys + 1] = key
   end
   for _, key in ipairs(keys) do
      if sink.nulls < PATIENT then
         local kind, text = reply(sink, "WATCH")
         if kind == "error" then
            raise(sink, "WATCH", text)
         end
      end
      local kind, is = reply(sink, "TYPE")
      if kind == "error" then
         raise(sink, "TYPE", is)
      elseif is ~= "stream" and is ~= "none" then
         sink:stop(("the key '%s' is a %s, and no stream: rename it, or say another `key`"):format(
            key, is))
      end
   end
end

-- Waits until no more than `most` bytes are to be sent; passes over replies meanwhile.
-- `state.left`: how many replies are to come.
local function drain(sink, state, most)
   while sink.client:pending() > most do
      pump(sink, state.clock)
      state.left = state.left - call_of(sink, sink.client.skip, state.left)
   end
end

local function skip(sink, state)
   while state.left > 0 do
      local n = call_of(sink, sink.client.skip, state.left)
      state.left = state.left - n
      if state.left > 0 then
         pump(sink, state.clock)
      end
   end
end

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
   sink.nulls = sink.nulls + 1
   sink:again("what it watches has changed")
end

function redis_transaction.send(sink, upto, savepoint)
   watch_streams(sink)
   local client = sink.client
   local state = { left = 1, clock = sink:clock "MULTI" }
   client:begin_skip()
   client:call "MULTI"
   local bytes, place = sink.outbox:chunk(nil, upto)
   while bytes do
      local at = 0
      while at < #bytes do
         local commands
         at, commands = client:add(bytes, at, sink.maxlen, HIGH)
         state.left = state.left + commands
         if client:pending() >= HIGH then
            drain(sink, state, LOW)
         end
      end
      bytes, place = sink.outbox:chunk(place, upto)
   end
   if savepoint then
      client:call("SET", sink.savepoint_key, savepoint)
      state.left = state.left + 1
   end
   skip(sink, state)
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
   skip(sink, { left = 1, clock = sink:clock "EXEC" })
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
