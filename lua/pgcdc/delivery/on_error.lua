-- pgcdc.delivery.on_error: what happens when a handler, a sink or a save raises an error.
-- SPDX-License-Identifier: MIT
--
--    on_error = {retry = 2, wait = 1, factor = 3, otherwise = "dead_letter"}
--
--    change 5   handler 1 takes it   handler 2 fails      the source is paused for 1 s
--               (not called again)   handler 2 fails      ... for 3 s
--                                    handler 2 fails      dead_letter gets change 5
--    change 6   handler 1 takes it   handler 2 takes it
--
-- A policy is {tries =, wait =, factor =, otherwise =}: how often a change is tried again, after
-- how many seconds, how much longer each time, and what becomes of it then: "stop", "skip" or
-- "dead_letter". A sink that fails is tried again in the same way, but the change is not to blame,
-- so that can end in a stop only; while its target is away (see participants.later) it is tried
-- again without end. Records that a target can never take (see participants.refused) go the way of
-- a change that failed for the last time, and the sink is flushed without them.
--
-- While a source waits for another try it is paused: its later changes wait in the host, and other
-- sources go on.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local checkpoint = require "pgcdc.delivery.checkpoint"
local letters = require "pgcdc.delivery.letters"
local lineage = require "pgcdc.delivery.lineage"
local participants = require "pgcdc.delivery.participants"
local refused = require "pgcdc.delivery.refused"
local strict = require "pgcdc.strict"
local counts = require "pgcdc.sinks.counts"
local timer = require "pgcdc.timer"
local troubles = require "pgcdc.delivery.troubles"

local on_error = {}

local LONGEST_MESSAGE = 4000 -- bytes that are logged of it
local LONGEST_WAIT = 86400 -- seconds
local LEAST = 0.001

local ends = { stop = true, skip = true, dead_letter = true }
local fields = { retry = true, wait = true, factor = true, otherwise = true }

--- Checks `on_error` of a source. Returns the policy.
function on_error.policy(value)
   local what = "pgcdc.source: on_error"
   if value == nil then
      value = "stop"
   end
   check.type(what, value, "string", "table")
   if type(value) == "string" then
      check.one_of(what, value, ends)
      return { tries = 0, wait = 0, factor = 1, otherwise = value }
   end
   value = check.taken(what, value, fields)
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

-- Returns what is known of an error. raw.try calls it where the error was raised.
local function describe(err)
   local text = raw.explain(err)
   if not utf8.len(text) then -- JSON must be able to write it
      text = text:gsub("[\128-\255]", "?")
   end
   return { text = text, again_after = participants.again_after(err), refused = refused.of(err),
            records = participants.refused_list(err),
            traceback = raw.traceback(2):sub(1, LONGEST_MESSAGE) }
end

-- Calls f(...). Returns true and its result; or false and a description of the error:
-- {text =, traceback =, again_after = seconds or nil, refused = as the sink raised it, or nil,
-- records = those that the sink can never take, or nil, sink = the sink that failed, or nil}.
local function try(f, ...)
   participants.leave_sink(nil) -- a script may have caught the failure of a sink
   local ok, result = raw.try(describe, f, ...)
   if ok then
      return true, result
   end
   if type(result) ~= "table" then -- no memory, or an error in `describe`
      local hint = result == "not enough memory" and " (see --max-memory)" or ""
      result = { text = tostring(result) .. hint, traceback = "stack traceback: lost" }
   end
   result.sink = participants.in_sink
   participants.leave_sink(nil)
   return false, result
end

-- ---- another try ----

local failing_since = {} -- source's number -> when the first of its tries failed

-- To be called when a change or a save of the source has succeeded: logs that, if it had failed.
local function end_failure(source)
   local since = failing_since[source.number]
   if since then
      failing_since[source.number] = nil
      troubles.recover(source.number)
      raw.log("info", ("works again, after %.1f s"):format(raw.now() - since),
         { source = raw.source_name(source.number) })
   end
end

-- Pauses a source. Returns the timer that ends that.
local function pause(source, seconds)
   raw.pause(source.number, 1, seconds)
   return timer.after(math.max(seconds, LEAST), function()
      raw.pause(source.number, -1)
   end)
end

-- Pauses these sources until the next try, as the policy of the first one says. Returns the
-- seconds, and the timer for the first one.
local function wait(sources, err, attempts)
   local source = sources[1]
   local policy = source.policy
   local seconds = err.again_after
      or math.min(policy.wait * policy.factor ^ (attempts - 1), LONGEST_WAIT)
   raw.log("warn", err.text:sub(1, LONGEST_MESSAGE), { source = raw.source_name(source.number),
      attempt = attempts, retry_in = seconds })
   failing_since[source.number] = failing_since[source.number] or raw.now()
   troubles.fail(sources, err, attempts, seconds)
   local first
   for _, s in ipairs(sources) do
      local t = pause(s, seconds)
      first = first or t
   end
   return seconds, first
end

-- Raises the error for the host, which ends the program.
local function stop(err, attempts)
   local count = attempts > 1 and (" (after %d attempts)"):format(attempts) or ""
   raw.rethrow(err.text .. count, err.traceback)
end

-- ---- changes ----

-- What a source tries again: source -> {attempts =, and either handler = the place of the handler
-- that failed, change = what it got, err = the error, timer = what it waits for, is_given_up = a
-- user does not want another try; or letter = a dead letter}.
local retries = {}

-- The numbers of sources of which a change is half done: some handlers took it, others have not
-- yet. What participants have of it must not be saved, since all of it comes again after a crash.
local half_done = {}

local by_number = {}   -- number -> source
local handlers_of = {} -- number -> op -> list of functions

local function id_of(change)
   local ok, id = pcall(function()
      return change.id
   end)
   return ok and id or "?"
end

-- Gives a letter to the dead_letter of the source. Returns raw.again if that is to be tried again.
local function deliver_letter(source, letter, attempts)
   local origin = lineage.current
   local ok, err = try(source.dead_letter, letter)
   if ok then
      return end_failure(source)
   end
   lineage.resume(origin)
   attempts = attempts + 1
   if not err.again_after and attempts > source.policy.tries then
      stop(err, attempts)
   end
   retries[source] = { letter = letter, attempts = attempts }
   half_done[source.number] = true
   wait({ source }, err, attempts)
   return raw.again
end

-- Does what the policy says of a change that failed for the last time, or `otherwise`. Returns as
-- deliver_letter.
local function give_up(source, change, err, attempts, otherwise)
   otherwise = otherwise or source.policy.otherwise
   if err.sink or otherwise == "stop" then
      stop(err, attempts)
   end
   local id = id_of(change)
   local failed = troubles.give_up(source.number, { text = err.text, change = id },
      otherwise == "dead_letter")
   raw.log("error", err.text:sub(1, LONGEST_MESSAGE), { attempts = attempts,
      source = raw.source_name(source.number), change = id, failed = failed,
      ["then"] = otherwise == "skip" and "skipped" or "dead letter" })
   if otherwise == "dead_letter" then
      local letter = strict.table("field of a dead letter", { change = change, error = err.text,
         traceback = err.traceback, attempts = attempts })
      letters.tell(letter, { handler = err.handler })
      return deliver_letter(source, letter, 0)
   end
end

-- The handler at this place failed: sees to another try, or gives up. `change`: what the handler
-- gets the next time. Returns raw.again if there is one.
local function fail_handler(source, place, change, err, attempts)
   err.handler = place
   if not err.again_after and attempts > source.policy.tries then
      return give_up(source, change, err, attempts)
   end
   half_done[source.number] = place > 1 or nil
   local _, t = wait({ source }, err, attempts)
   retries[source] = { handler = place, change = change, attempts = attempts, err = err,
                       timer = t }
   return raw.again
end

--- One function that gives a change to all handlers in turn, as the source's policy wants it; it
--- returns raw.again if the host is to give it the same change again. Returns nil if the handlers
--- may be called as they are. `source`: {number =, policy =, dead_letter = a function, or nil}.
--- `op`: of the changes.
function on_error.guard(source, handlers, op)
   local policy = source.policy
   by_number[source.number] = source
   handlers_of[source.number] = handlers_of[source.number] or {}
   handlers_of[source.number][op] = handlers
   local is_plain = policy.tries == 0 and policy.otherwise == "stop"
   if is_plain and not participants.has_sinks() then -- of a sink, the target may be away
      return nil
   end
   return function(change)
      local retry = retries[source]
      local first, attempts = 1, 0
      if retry then
         retries[source], half_done[source.number] = nil, nil
         if retry.letter then
            return deliver_letter(source, retry.letter, retry.attempts)
         elseif retry.is_given_up then
            end_failure(source)
            return give_up(source, retry.change, retry.err, retry.attempts, retry.otherwise)
         end
         first, change, attempts = retry.handler, retry.change, retry.attempts
      end
      for i = first, #handlers do
         local origin = lineage.current
         -- a handler may change it before it fails
         local before = is_plain and change or raw.clone(change)
         local ok, err = try(handlers[i], change)
         if not ok then
            lineage.resume(origin)
            return fail_handler(source, i, before, err, attempts + 1)
         end
         attempts = 0
      end
      if retry then
         end_failure(source)
      end
   end
end

--- True if a change of the source, or a dead letter, is to be tried again before others come.
function on_error.is_waiting(source)
   return retries[source] ~= nil
end

--- A user gives up the change of the source that is tried again. Returns true, and what becomes of
--- it; or false, and why there is nothing to give up.
function on_error.skip(number)
   local name, source = raw.source_name(number), by_number[number]
   local retry = source and retries[source]
   if not retry or not retry.err or retry.is_given_up then
      return false, name .. ": no change is tried again"
   elseif retry.err.sink then
      return false, ("%s: the sink %s fails, which no change is to blame for"):format(name,
         participants.sink(retry.err.sink).name)
   elseif not source.dead_letter and source.policy.otherwise ~= "skip" then
      return false, name .. ": the change would be lost, since the source has no dead_letter"
   end
   retry.is_given_up = true
   retry.otherwise = source.dead_letter and "dead_letter" or "skip"
   retry.timer:cancel()
   raw.pause(number, -1)
   return true, ("%s: change %s is %s"):format(name, id_of(retry.change),
      source.dead_letter and "a dead letter now" or "skipped")
end

-- Calls the handlers of these changes from a place on. Raises what one raises; `at.handler` is the
-- place of the one that runs.
local function call_handlers(number, change, at)
   local handlers = handlers_of[number] and handlers_of[number][change.op] or {}
   if not handlers[at.handler] then
      error(("the script has no handler %d of these changes any more"):format(at.handler), 0)
   end
   for i = at.handler, #handlers do
      at.handler = i
      handlers[i](change)
   end
end

--- Delivers what a dead letter is about once more, without another try. `value`: the change, or
--- what a sink refused; `record`: as letters.find has it. Returns true; or false and a description
--- of the error, with `handler` = the place of the one that failed now, if it was one.
function on_error.redeliver(number, value, record)
   local at = { handler = record.handler }
   local ok, err = try(function()
      if not record.sink then
         return call_handlers(number, value, at)
      end
      local participant = participants.find("sink", record.sink)
      if not participant then
         error(("the script has no sink %s any more"):format(record.sink), 0)
      end
      participant.sink:write(value)
   end)
   if not ok then
      err.handler = at.handler
   end
   return ok, err
end

-- ---- what comes later than its change ----

--- Calls `f` for an operator, later than the changes that it is about. `sources`: a list of those
--- that these may come from. A failure is tried again as the policy of the first one says, by
--- calling `again(seconds)`; when that does not help the program ends. `state`: a table, empty at
--- first, that counts the attempts.
function on_error.later(sources, state, f, again)
   local source = sources[1]
   if not source then
      return f()
   end
   local origin = lineage.current
   local ok, err = try(f)
   lineage.resume(origin)
   if ok then
      if state.attempts and state.attempts > 0 then
         end_failure(source)
      end
      state.attempts = 0
      return
   end
   state.attempts = (state.attempts or 0) + 1
   if not err.again_after and state.attempts > source.policy.tries then
      stop(err, state.attempts)
   end
   again(math.max(wait(sources, err, state.attempts), LEAST))
end

-- ---- saves ----

-- Dead letters of records that a target can never take: {source =, letter =}. They are delivered
-- before anything is saved.
local posted = {}

-- The source of a record that a sink can never take.
local function source_of(record, sink)
   return by_number[record.source or next(participants.sink(sink).sources)]
end

-- Treats records that a sink can never take as the policies of their sources say. `err`: as `try`
-- returned it.
local function give_up_records(source, err)
   for _, record in ipairs(err.records) do
      local s = source_of(record, err.sink) or source
      local index, message, otherwise = record[1], tostring(record[2]), s.policy.otherwise
      counts.refused(record.sink and participants.find("sink", record.sink).sink or err.sink)
      if otherwise == "stop" then
         stop({ text = message, traceback = err.traceback }, 1)
      end
      local sink = record.sink or participants.sink(err.sink).name
      local failed = troubles.give_up(s.number, { text = message, sink = sink,
         change = id_of(record.value) }, otherwise == "dead_letter")
      raw.log("error", message:sub(1, LONGEST_MESSAGE), {
         sink = sink,
         source = raw.source_name(s.number), record = index, failed = failed,
         ["then"] = otherwise == "skip" and "skipped" or "dead letter" })
      if otherwise == "dead_letter" then
         local letter = strict.table("field of a dead letter", { change = record.value,
            error = message, traceback = err.traceback, attempts = 1 })
         letters.tell(letter, { sink = sink })
         posted[#posted + 1] = { source = s, letter = letter }
      end
   end
end

-- Delivers the letters. Returns as `try`.
local function deliver_letters()
   while posted[1] do
      local source = posted[1].source
      local number = lineage.newest_batch(source.number)
      lineage.resume { source = source.number, number = number, held = 0 }
      local ok, err = try(source.dead_letter, posted[1].letter)
      lineage.resume(nil)
      if not ok then
         return false, err
      end
      table.remove(posted, 1)
   end
   return true
end

-- As `try` of checkpoint.advance, which is called again without the records that sinks can never
-- take.
local function advance(source, ...)
   while true do
      local ok, result = deliver_letters()
      if ok then
         ok, result = try(checkpoint.advance, ...)
      end
      if ok or not result.records then
         return ok, result
      end
      give_up_records(source, result)
   end
end

local save_attempts = {} -- source -> how often a save failed in a row

-- A sink refused rows for now (see refused): they wait, or the program ends.
local function wait_refused(source, members, err, began)
   if not refused.add(members, err.sink, err.refused, raw.now() - began, source.patience) then
      stop(err, 1)
   end
end

--- The host asks for a checkpoint (see checkpoint.advance) for a source. Returns true, and whether
--- the positions are saved or wait; or false: a sink failed, the host is to ask again when the
--- source is no longer paused.
function on_error.checkpoint(source, positions, members, is_moment)
   for number in pairs(#participants.list > 0 and half_done or {}) do
      if members[number] then
         positions = nil
      end
   end
   if is_moment then
      for _, number in ipairs(source.members or { source.number }) do
         lineage.end_batch(number)
      end
   end
   if refused.is_waiting(members, is_moment) then
      lineage.clear_released()
      return true, false
   end
   local began = raw.now()
   local ok, result = advance(source, positions, members, is_moment)
   if ok then
      if (save_attempts[source] or 0) > 0 then
         end_failure(source)
      end
      save_attempts[source] = 0
      refused.saved(members, is_moment)
      return true, result
   elseif result.refused then
      wait_refused(source, members, result, began)
      return true, false
   end
   local attempts = (save_attempts[source] or 0) + 1
   save_attempts[source] = attempts
   if result.sink then
      counts.failed(result.sink, result.text)
   end
   if not result.sink or not result.again_after and attempts > source.policy.tries then
      stop(result, attempts)
   end
   wait({ source }, result, attempts)
   return false, false
end

return on_error
