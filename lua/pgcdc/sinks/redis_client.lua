-- pgcdc.sinks.redis_client: what a sink asks a server of Redis, and what its errors mean.
-- SPDX-License-Identifier: MIT
--
-- A sink has `client`, see src/sinks/redis.c; `place`, where that is connected to, for errors; and
-- `hosts`, which are asked in turn; is_sent_on: the one whose turn it is is to be asked next.

local redis_client = {}

local STEP = 0.1 -- seconds

-- Errors that pass by themselves.
local passing = { OOM = true, READONLY = true, LOADING = true, BUSY = true, MISCONF = true,
                  CLUSTERDOWN = true, TRYAGAIN = true, NOREPLICAS = true, MASTERDOWN = true,
                  MOVED = true, ASK = true }
-- Errors that ask for another login.
local denied = { NOAUTH = true, WRONGPASS = true, NOPERM = true }

-- The node of a cluster where a key is, as "MOVED 3999 127.0.0.1:6381" has it, gets the next turn.
-- Returns false if there is none in the text. (A host that is empty is the one that says so.)
local function go_on_to(sink, text)
   local host, port = text:match "^%u+ %d+ (%S*):(%d+)%s*$"
   host = host == "" and sink.hosts[sink.turn].host or host
   if not host or host == "" then
      return false
   end
   for turn, other in ipairs(sink.hosts) do
      if other.host == host and other.port == port then
         sink.turn, sink.is_sent_on = turn, true
         return true
      end
   end
   table.insert(sink.hosts, 1, { host = host, port = port })
   sink.turn, sink.is_sent_on = 1, true
   return true
end

--- What the server said, as an error of the sink. `what`: to which command.
function redis_client.raise(sink, what, text)
   local word = text:match "^%u+"
   local message = ("%s: %s"):format(what, text)
   if word == "MOVED" and go_on_to(sink, text) then
      sink:again(message)
   elseif word == "ASK" and go_on_to(sink, text) then -- until it is there we are sent back
      sink:broken(message)
   end
   if denied[word] then
      sink:deny(message)
   elseif passing[word] then
      sink:retry(message)
   elseif word == "CROSSSLOT" then
      sink:stop(message .. ": in a cluster all keys need the hash tag: say {name} in `key`")
   end
   sink:stop(message)
end

--- The connection is of no use any more.
function redis_client.broken(sink, problem)
   sink:broken(("%s: %s"):format(sink.place, problem))
end

--- Sends and receives, as far as that is possible now. `clock`: that of the wait.
function redis_client.pump(sink, clock)
   local moved, problem = sink.client:step(STEP)
   if moved == nil then
      redis_client.broken(sink, problem)
   end
   clock:check(moved)
end

--- Calls a method of the client, which raises when the connection is broken.
function redis_client.call(sink, method, ...)
   local ok, a, b, c, d, e = pcall(method, sink.client, ...)
   if not ok then
      redis_client.broken(sink, a)
   end
   return a, b, c, d, e
end

--- The next reply: its kind and value.
function redis_client.reply(sink, what)
   local clock = sink:clock(what)
   while true do
      local kind, value = redis_client.call(sink, sink.client.reply)
      if kind then
         return kind, value
      end
      redis_client.pump(sink, clock)
   end
end

--- Sends one command. Returns its reply: kind and value; an error is raised unless `may_fail`.
function redis_client.ask(sink, may_fail, ...)
   sink.client:call(...)
   local what = (...)
   local kind, value = redis_client.reply(sink, what)
   if kind == "error" and not may_fail then
      redis_client.raise(sink, what, value)
   end
   return kind, value
end

return redis_client
