-- pgcdc.sinks.kafka.task: what a producer is asked to do, and what its errors mean.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local settings = require "pgcdc.sinks.kafka.settings"

local task = {
   STEP = 0.1, -- seconds of a wait
}

local SLICE = 1 -- seconds of a call that goes on where it was when it is made again
local LEAVE = 1 -- seconds

local resumable = { connect = true, recall = true, init = true, commit = true, abort = true }

local unknown = { _UNKNOWN_TOPIC = true, UNKNOWN_TOPIC_OR_PART = true, _UNKNOWN_PARTITION = true,
                  TOPIC_EXCEPTION = true }
local fenced = { _FENCED = true, PRODUCER_FENCED = true, INVALID_PRODUCER_EPOCH = true }
-- Errors that ask for another login.
local denied = { _AUTHENTICATION = true, SASL_AUTHENTICATION_FAILED = true,
                 UNSUPPORTED_SASL_MECHANISM = true, ILLEGAL_SASL_STATE = true,
                 SECURITY_DISABLED = true }
-- Errors that ask for a privilege, and which one. %s: the topic.
local privileges = {
   TOPIC_AUTHORIZATION_FAILED = "WRITE and DESCRIBE on the topic '%s'",
   GROUP_AUTHORIZATION_FAILED = "READ on the group '%s'",
   TRANSACTIONAL_ID_AUTHORIZATION_FAILED = "WRITE and DESCRIBE on the transactional id '%s'",
   CLUSTER_AUTHORIZATION_FAILED = "IDEMPOTENT_WRITE on the cluster",
}

-- True if this trouble does not pass by itself: brokers let us not in, or we do not trust them.
local function is_final(trouble)
   return trouble.is_fatal or denied[trouble.name]
      or trouble.name == "_SSL" and trouble.text:find("certificate verify failed", 1, true)
end

--- Raises what a problem means. `what`: what was done. `topic`, `group`: those that it was about,
--- or nil.
function task.raise(sink, what, problem, topic, group)
   local name = problem.name
   local message = ("%s: %s"):format(what, problem.text)
   if privileges[name] then
      local of = (name:find "^TOPIC" and (topic or sink.positions))
         or name:find "^GROUP" and group or sink.id
      local needed = name:find "^TOPIC" and group and "READ on the topic '%s'" or privileges[name]
      sink:deny(("%s: the user needs %s"):format(message, needed:format(of)))
   elseif is_final(problem) and not problem.is_fatal then
      sink:deny(message .. settings.hint(message))
   elseif unknown[name] and not sink.is_unknown then -- perhaps it is only being made
      sink.is_unknown = true
      sink:again(message)
   elseif unknown[name] then
      sink:deny(("%s: the topic '%s' is not there, and Kafka does not make it: create it"):format(
         what, topic or sink.positions))
   elseif name == "_UNSUPPORTED_FEATURE"
      or problem.text:find("not supported by any of the", 1, true) then
      sink:stop(message)
   elseif problem.is_fatal or fenced[name] then
      sink:again(message)
   elseif name == "_TRANSPORT" and not sink.is_connected then
      message = ("cannot connect to %s: %s"):format(sink.brokers, sink.trouble or problem.text
         .. ": no broker of Kafka answers there, or one that wants TLS")
   end
   sink:broken(message)
end

--- Takes reports and news from brokers. `what`: what is waited for.
function task.serve(sink, what, seconds)
   local has_moved = sink.client:step(seconds)
   local trouble = sink.client:trouble()
   if trouble then
      if is_final(trouble) then
         task.raise(sink, what, trouble)
      elseif trouble.name ~= "_ALL_BROKERS_DOWN" then
         sink.trouble = trouble.text
      elseif not sink.is_connected then
         sink:retry(("cannot connect to %s: %s"):format(sink.brokers, sink.trouble
            or trouble.text))
      end
   end
   return has_moved
end

--- Does a task, see native.start. Returns what it brings; or nil and the problem, if `may_fail`.
function task.ask(sink, what, argument, may_fail)
   local clock = sink:clock(what)
   while true do
      sink.client:start(what, resumable[what] and SLICE or sink.timeout, argument)
      local is_done, text, number, is_there
      repeat
         task.serve(sink, what, task.STEP)
         is_done, text, number, is_there = sink.client:result()
         if is_done == nil then
            clock:check(false)
         end
      until is_done ~= nil
      if is_done then
         return true, text, number, is_there
      elseif not text.is_retriable and not (resumable[what] and text.name == "_TIMED_OUT") then
         if may_fail then
            return nil, text
         end
         task.raise(sink, what, text, argument and argument.topic, argument and argument.group)
      end
      task.serve(sink, what, task.STEP)
      clock:check(false)
   end
end

--- Ends the transaction, if that is soon done, before its producer is closed: neither readers nor
--- the next producer, which Kafka puts off by half a second otherwise, wait until Kafka has.
function task.leave(sink)
   if sink.id then
      local began = raw.now()
      sink.client:start("abort", LEAVE)
      repeat
         sink.client:step(task.STEP)
      until sink.client:result() ~= nil or raw.now() - began > LEAVE
   end
end

return task
