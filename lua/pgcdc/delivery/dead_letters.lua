-- pgcdc.delivery.dead_letters: what users do with the letters of the built-in store.
-- SPDX-License-Identifier: MIT
--
-- Each function returns true and what was done, or false and why it cannot be; as text, and as a
-- table for JSON. `number`: of the source that it is about; nil: of all. `key`: of one letter, as
-- `list` has it; nil: all.

local raw = require "pgcdc.raw"
local change = require "pgcdc.change"
local letters = require "pgcdc.delivery.letters"
local lineage = require "pgcdc.delivery.lineage"
local on_error = require "pgcdc.delivery.on_error"

local dead_letters = {}

local LONGEST_LINE = 200 -- bytes of an error in a list

local function array(list)
   return setmetatable(list, raw.array_metatable)
end

-- The letters that are asked for; or nil, and why there are none.
local function wanted(number, key)
   local found = letters.find(number, key)
   if #found == 0 and key then
      return nil, ("there is no dead letter %s"):format(key)
   end
   return found
end

-- What a letter is, for JSON. The errors and ids may show values of rows.
local function facts_of(letter)
   local record = letter.record
   return { letter = letter.key, source = record.source, at = record.at, change = record.id,
            sink = record.sink, attempts = record.attempts, error = record.error,
            can_be_replayed = (record.line or record.change or record.value) ~= nil }
end

--- All letters, a line for each.
function dead_letters.list(number)
   local lines, list = {}, array {}
   for i, letter in ipairs(letters.find(number)) do
      local facts = facts_of(letter)
      list[i] = facts
      lines[i] = ("%s  %s  %s  %s"):format(facts.letter, facts.at, facts.change or facts.source,
         facts.error:gsub("%c", " "):sub(1, LONGEST_LINE))
   end
   return true, #lines > 0 and table.concat(lines, "\n") or "there is no dead letter",
      { letters = list }
end

--- Letters with what they are about.
function dead_letters.show(number, key)
   local found, why = wanted(number, key)
   if not found then
      return false, why
   end
   local lines, list = {}, array {}
   for i, letter in ipairs(found) do
      local facts = facts_of(letter)
      facts.value = letters.value(letter.record, change.make)
      list[i], lines[i] = facts, raw.encode(facts)
   end
   return true, table.concat(lines, "\n"), { letters = list }
end

-- Does f(letter) as part of the newest batch of the letter's source, so that what comes of it is
-- saved together.
local function within_batch(letter, f)
   local before = lineage.current
   lineage.resume { source = letter.number, number = lineage.newest_batch(letter.number), held = 0 }
   local ok, result = pcall(f, letter)
   lineage.resume(before)
   if not ok then
      error(result, 0)
   end
   return result
end

-- Delivers a letter again. Returns true if that succeeded.
local function redeliver(letter)
   local record = letter.record
   local value = letters.value(record, change.make)
   if value == nil then
      return false
   end
   local ok, err = on_error.redeliver(letter.number, value, record)
   if ok then
      letters.remove(letter)
   else
      letters.fail(letter, err)
      raw.log("warn", err.text, { source = record.source, letter = letter.key })
   end
   return ok
end

--- Delivers letters again, each to the handler that failed and those after it, or to the sink that
--- refused it, and removes it with the same save. One that fails again stays.
function dead_letters.replay(number, key)
   local found, why = wanted(number, key)
   if not found then
      return false, why
   end
   local n = 0
   for _, letter in ipairs(found) do
      n = n + (within_batch(letter, redeliver) and 1 or 0)
   end
   raw.want_flush()
   return n == #found, ("delivered %d of %d dead letters"):format(n, #found),
      { delivered = n, failed = #found - n }
end

--- Removes letters, without another try.
function dead_letters.purge(number, key)
   local found, why = wanted(number, key)
   if not found then
      return false, why
   end
   for _, letter in ipairs(found) do
      within_batch(letter, letters.remove)
   end
   raw.want_flush()
   return true, ("removed %d dead letters"):format(#found), { removed = #found }
end

return dead_letters
