-- pgcdc.delivery.on_error: what happens when a handler or a sink raises an error.
-- SPDX-License-Identifier: MIT
--
-- A policy is {tries =, wait =, factor =, otherwise =}: how often a change is tried again, after
-- how many seconds, how much longer each time, and what becomes of it then: "stop", "skip" or
-- "dead_letter". A failing sink is tried again in the same way, but is no change's fault, so that
-- it can end in a stop only.
--
-- While a source waits for another try it is paused: its later changes wait in the host, and other
-- sources go on.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local hold = require "pgcdc.delivery.lineage"
local keep = require "pgcdc.delivery.participants"
local settle = require "pgcdc.delivery.checkpoint"
local timer = require "pgcdc.timer"

local failure = {}

local LOGGED = 4000 -- bytes of a message

local ends = { stop = true, skip = true, dead_letter = true }
local fields = { retry = true, wait = true, factor = true, otherwise = true }

--- Checks `on_error` of a source and returns the policy.
function failure.policy(value)
   local what = "pgcdc.source: on_error"
   if value == nil then
      value = "stop"
   end
   check.type(what, value, "string", "table")
   if type(value) == "string" then
      check.one_of(what, value, ends)
      return { tries = 0, wait = 0, factor = 1, otherwise = value }
   end
   check.fields(what, value, fields)
   local tries, factor = value.retry or 0, value.factor or 1
   if math.type(tries) ~= "integer" or tries < 0 then
      check.fail("%s.retry must be a whole number of tries, not %s", what, tostring(tries))
   end
   check.type(what .. ".factor", factor, "number")
   if not (factor >= 1 and factor < math.huge) then
      check.fail("%s.factor must be at least 1, not %s", what, factor)
   end
   local otherwise = value.otherwise or "stop"
   check.one_of(what .. ".otherwise", otherwise, ends)
   return { tries = tries, wait = check.seconds(what .. ".wait", value.wait or 1, 0),
            factor = factor, otherwise = otherwise }
end

-- ---- what was raised ----

-- The error of `pcall`, with what is known where it was raised.
local function catch(err)
   local text = type(err) == "string" and err or nil
   if not text then
      local ok, told = pcall(tostring, err)
      text = ok and told or "an error that cannot be told"
   end
   if not utf8.len(text) then -- it shall have a JSON
      text = text:gsub("[\128-\255]", "?")
   end
   return { text = text, again_after = keep.again_after(err),
            traceback = raw.traceback(2):sub(1, 4000) }
end

-- Calls f(x). Returns true and its result, or false and what `catch` made of the error.
local function try(f, ...)
   keep.in_sink = nil -- a script may have caught the failure of a sink
   local ok, result = raw.try(catch, f, ...)
   if not ok and type(result) ~= "table" then -- no memory, or an error in `catch`
      local hint = result == "not enough memory" and " (see --max-memory)" or ""
      result = { text = tostring(result) .. hint, traceback = "stack traceback: lost" }
   end
   if not ok then
      result.sink, keep.in_sink = keep.in_sink, nil
   end
   return ok, result
end

local function wait_of(policy, attempts)
   return math.min(policy.wait * policy.factor ^ (attempts - 1), 86400)
end

local function log_retry(number, err, attempts, seconds)
   raw.log("warn", err.text:sub(1, LOGGED), { source = raw.source_name(number), attempt = attempts,
      retry_in = seconds })
end

-- Lets a source wait.
local function pause(number, seconds)
   raw.pause(number, 1)
   timer.after(math.max(seconds, 0.001), function()
      raw.pause(number, -1)
   end)
end

-- A stop.
local function stop(err, attempts)
   local told = attempts > 1 and (" (after %d attempts)"):format(attempts) or ""
   raw.fail(err.text .. told, err.traceback)
end

-- ---- changes ----

local function text_of_change(change)
   local ok, id = pcall(function()
      return change.id
   end)
   return ok and id or "?"
end

-- The sources of which a change is half done: some handlers took it, others are still to. What
-- keepers have of it must not be saved, since it comes again as a whole after a new start.
local half_done = {}

-- Hands over a dead letter. Returns raw.again where that is to be tried again.
local function bury(source, letter, attempts)
   local policy, origin = source.policy, hold.current
   local ok, err = try(source.dead_letter, letter)
   if ok then
      return
   end
   hold.current = origin
   attempts = attempts + 1
   if not err.again_after and attempts > policy.tries then
      stop(err, attempts)
   end
   local seconds = err.again_after or wait_of(policy, attempts)
   source.again = { letter = letter, attempts = attempts }
   half_done[source.number] = true
   log_retry(source.number, err, attempts, seconds)
   pause(source.number, seconds)
   return raw.again
end

local function give_up(source, change, err, attempts)
   local policy = source.policy
   if err.sink or policy.otherwise == "stop" then
      stop(err, attempts)
   end
   source.failed = source.failed + 1
   raw.log("error", err.text:sub(1, LOGGED), { attempts = attempts,
      source = raw.source_name(source.number), change = text_of_change(change),
      failed = source.failed,
      ["then"] = policy.otherwise == "skip" and "skipped" or "dead letter" })
   if policy.otherwise == "dead_letter" then
      return bury(source, { change = change, error = err.text, traceback = err.traceback,
                            attempts = attempts }, 0)
   end
end

-- What is being tried again: {handler = index, change = as that handler got it, attempts =}.
local function start_of(source, change)
   local again = source.again
   if again then
      return again.handler, again.change, again.attempts
   end
   return 1, change, 0
end

--- One function that gives a change to all handlers in turn, as the source's policy wants it.
function failure.guard(source, handlers)
   local policy = source.policy
   local is_plain = policy.tries == 0 and policy.otherwise == "stop"
   if is_plain and not keep.has_sinks() then -- of a sink, the target may be away
      return nil
   end
   return function(change)
      local first, current, attempts = start_of(source, change)
      local letter = source.again and source.again.letter
      source.again, half_done[source.number] = nil, nil
      if letter then
         return bury(source, letter, attempts)
      end
      for i = first, #handlers do
         local origin = hold.current
         -- a handler may change it before it fails
         local before = is_plain and current or raw.copy(current)
         local ok, err = try(handlers[i], current)
         if not ok then
            hold.current = origin
            attempts = attempts + 1
            if err.again_after or attempts <= policy.tries then
               local seconds = err.again_after or wait_of(policy, attempts)
               source.again = { handler = i, change = before, attempts = attempts }
               half_done[source.number] = i > 1 or nil
               log_retry(source.number, err, attempts, seconds)
               pause(source.number, seconds)
               return raw.again
            end
            return give_up(source, before, err, attempts)
         end
         attempts = 0
      end
   end
end

-- ---- what comes later than its change ----

--- Calls `f` for an operator, later than the changes that it is about. `sources`: a list of those
--- that these may come from. A failure is tried again as the first of them wants it, by calling
--- `again(seconds)`, and is a stop when that does not help. `state` counts the attempts.
function failure.later(sources, state, f, again)
   local source = sources[1]
   if not source then
      return f()
   end
   local origin = hold.current
   local ok, err = try(f)
   hold.current = origin
   if ok then
      state.attempts = 0
      return
   end
   local attempts = (state.attempts or 0) + 1
   state.attempts = attempts
   if not err.again_after and attempts > source.policy.tries then
      stop(err, attempts)
   end
   local seconds = err.again_after or wait_of(source.policy, attempts)
   log_retry(source.number, err, attempts, seconds)
   for _, s in ipairs(sources) do
      pause(s.number, seconds)
   end
   again(math.max(seconds, 0.001))
end

--- Settles (see checkpoint) for a source. Returns true, and whether the positions were taken;
--- or false: a sink failed, try again when the source is not paused.
function failure.settle(source, positions, members, is_moment)
   for number in pairs(#keep.list > 0 and half_done or {}) do
      if members[number] then
         positions = nil
      end
   end
   if is_moment then
      keep.is_open[source.number] = nil
   end
   local ok, err = try(settle.settle, positions, members, is_moment)
   if ok then
      source.settle_attempts = 0
      return true, err
   end
   local attempts = (source.settle_attempts or 0) + 1
   source.settle_attempts = attempts
   if not err.sink or not err.again_after and attempts > source.policy.tries then
      stop(err, attempts)
   end
   local seconds = err.again_after or wait_of(source.policy, attempts)
   log_retry(source.number, err, attempts, seconds)
   pause(source.number, seconds)
   return false, false
end

return failure
