-- pgcdc.delivery.troubles: what fails and is tried again just now, and what was given up.
-- SPDX-License-Identifier: MIT
--
-- Decides nothing: on_error and refused tell it what they do, stream/figures asks. A *trouble* is
-- {since =, again = seconds of raw.now(), attempts = in a row, text = the error, place = where in a
-- script it was raised, may_have_data = the text may show values of rows}. Only what tells that a
-- target is away shows none of them.

local raw = require "pgcdc.raw"

local troubles = {
   show = nil,   -- a function that shows the newest figures, if somebody watches; init sets it
   sinks = {},   -- sink -> its trouble
   letters = {}, -- the last changes that were given up, the newest first: {source = its number,
                 -- at =, sink = the name of the one that refused it, place =, text =, change = its
                 -- id}
}

local MOST_LETTERS = 10
local LONGEST = 4000

local sources = {}
local awaited = {} -- set of the sinks that a start has waited for

--- What is known of a source: {filtered =, failed =, dead_letters =, retries =, trouble = or nil}.
function troubles.of(number)
   local it = sources[number]
   if not it then
      it = { failed = 0, dead_letters = 0, retries = 0 }
      sources[number] = it
   end
   return it
end

-- Where in a script an error was raised, as its text says.
local function place_of(text)
   return text:match "^[^%s:]-([^%s:/]+%.lua:%d+): "
end

local function trouble_of(before, err, attempts, seconds)
   local now = raw.now()
   return {
      since = before and before.since or now, again = now + seconds, attempts = attempts,
      text = err.text:sub(1, LONGEST), place = place_of(err.text),
      may_have_data = not err.again_after,
   }
end

--- What these sources bring is tried again after so many seconds. `err`: as `try` of on_error
--- returns it.
function troubles.fail(list, err, attempts, seconds)
   local first = troubles.of(list[1].number)
   first.retries = first.retries + 1
   for _, source in ipairs(list) do
      local it = troubles.of(source.number)
      it.trouble = trouble_of(it.trouble, err, attempts, seconds)
   end
   if err.sink then
      troubles.sinks[err.sink] = trouble_of(troubles.sinks[err.sink], err, attempts, seconds)
   end
end

--- What failed of a source, or of a sink, works again.
function troubles.recover(number)
   troubles.of(number).trouble = nil
end

function troubles.recover_sink(sink)
   troubles.sinks[sink] = nil
end

--- A start waits for the target of a sink, which is away, for so many seconds. The host shows that
--- at once, since it asks for nothing meanwhile.
function troubles.await(sink, text, seconds)
   if sink then
      local before = troubles.sinks[sink]
      troubles.sinks[sink] = trouble_of(before, { text = text, again_after = seconds },
         (before and before.attempts or 0) + 1, seconds)
      awaited[sink] = true
   end
   troubles.show()
end

--- It is there.
function troubles.end_await()
   if next(awaited) then
      for sink in pairs(awaited) do
         troubles.sinks[sink], awaited[sink] = nil, nil
      end
      troubles.show()
   end
end

--- Rows wait in a sink, which refuses them for now; `seconds`: until the next try.
function troubles.refuse(sink, problem, seconds)
   troubles.sinks[sink] = trouble_of(troubles.sinks[sink], { text = problem.message }, 1, seconds)
end

--- A change of a source was given up. `letter`: {text =, sink =, change =}.
function troubles.give_up(number, letter, is_dead_letter)
   local it = troubles.of(number)
   it.failed = it.failed + 1
   it.dead_letters = it.dead_letters + (is_dead_letter and 1 or 0)
   letter.source, letter.at = number, raw.now()
   letter.text = letter.text:sub(1, LONGEST)
   letter.place = place_of(letter.text)
   table.insert(troubles.letters, 1, letter)
   troubles.letters[MOST_LETTERS + 1] = nil
   return it.failed
end

return troubles
