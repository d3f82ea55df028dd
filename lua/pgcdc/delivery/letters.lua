-- pgcdc.delivery.letters: the built-in store of dead letters, in the state file.
-- SPDX-License-Identifier: MIT
--
--    on_error = "dead_letter"                 without a sink of the script's own
--
-- Each source has a store, a participant of the kind "state": a letter is saved together with the
-- position behind its change, so it is there once, whatever dies. A letter that is delivered again
-- is removed together with what that brings to states and sinks.
--
-- A record of a store is JSON: {at =, source =, id = of the change, error =, attempts =, handler =
-- the place of the handler that failed, or sink = the name of the one that refused it, and what it
-- was about: class and line (as in a recording: a change as the server sent it), change = the
-- fields of one that a script has made or changed, value = what was no change; none of these: JSON
-- could not say it}.
--
-- Letters are listed from the state file: one that is not saved yet is not there.

local raw = require "pgcdc.raw"
local fields = require "pgcdc.fields"
local names = require "pgcdc.names"
local participants = require "pgcdc.delivery.participants"

local letters = {}

local PREFIX = "dead letters of "

local stores = {} -- source's number -> {participant =, number =, removed = set of keys}
local newest      -- the number of the newest letter of all stores; nil: not known yet

-- letter -> {handler =, sink =}, see `tell`
local about = setmetatable({}, { __mode = "k" })

local function capture(participant, records)
   for key, text in pairs(participant.changed) do
      records[#records + 1] = { "state", participant.name, key, text, participant = participant }
   end
   participant.changed = {}
end

--- Makes the store of a source; returns a function that takes its letters. `name`: as the script
--- calls the source.
function letters.open(name)
   local store = { removed = {}, participant = participants.add {
      kind = "state", name = PREFIX .. name, changed = {}, capture = capture,
      adopt = function() end } }
   return store, function(letter)
      letters.put(store, letter)
   end
end

--- Says which source a store is of.
function letters.assign(store, number)
   stores[number], store.number = store, number
end

--- Says where a letter comes from, before it is put: {handler = place} or {sink = name}.
function letters.tell(letter, facts)
   about[letter] = facts
end

local function next_key()
   if not newest then
      newest = 0
      for _, store in pairs(stores) do
         for key in pairs(raw.kept("state", store.participant.name)) do
            newest = math.max(newest, tonumber(key))
         end
      end
   end
   newest = newest + 1
   return ("%d"):format(newest)
end

-- ---- what a letter is about, as JSON ----

local parts = { "key", "row", "old" }
local plain = { "op", "schema", "table", "source", "database", "xid", "seq", "ts", "id" }

-- The fields of a change, as pgcdc.change takes them.
local function fields_of(change)
   local copy = {}
   for _, name in ipairs(plain) do
      local value = fields.get(change, name)
      copy[name] = value ~= "" and value or nil
   end
   for _, name in ipairs(parts) do
      local t = fields.get(change, name)
      copy[name] = t ~= nil and fields.copy(t) or nil
   end
   return copy
end

-- Adds to a record what it is about.
local function add_value(record, value)
   if raw.is_change(value) then
      record.class, record.line = raw.recorded_text(value)
      if not record.line then
         local ok, text = pcall(raw.encode, fields_of(value))
         record.change = ok and text or nil
      end
   else
      local ok, text = pcall(raw.encode, value)
      record.value = ok and text or nil
   end
end

local function id_of(value)
   local ok, id = pcall(function()
      return value.id
   end)
   return ok and type(id) == "string" and id or nil
end

--- Keeps a letter: {change =, error =, attempts =}.
function letters.put(store, letter)
   local told = about[letter] or {}
   local record = { at = raw.utc(), source = raw.source_name(store.number), error = letter.error,
                    attempts = letter.attempts, handler = told.handler, sink = told.sink,
                    id = id_of(letter.change) }
   add_value(record, letter.change)
   participants.touch(store.participant)
   store.participant.changed[next_key()] = raw.encode(record)
end

--- What a letter is about: a change, as it was, or another value; nil if it could not be kept.
--- `make`: pgcdc.change. `record`: as `find` returns it.
function letters.value(record, make)
   if record.line then
      return raw.recorded_change(raw.recorded_class(raw.decode(record.class)),
         raw.decode(record.line))
   elseif record.change then
      return make(raw.decode(record.change))
   end
   return record.value and raw.decode(record.value)
end

-- ---- what is there ----

--- The letters that are saved, the oldest first: a list of {key =, number = of the source,
--- record =}. `number`: of one source; nil: of all. `key`: of one letter; nil: all.
function letters.find(number, key)
   local found = {}
   for of, store in pairs(stores) do
      local kept = (number == nil or of == number)
         and raw.kept("state", store.participant.name) or {}
      for _, name in ipairs(names.sorted(kept)) do
         if not store.removed[name] and (key == nil or name == key) then
            found[#found + 1] = { key = name, number = of, record = raw.decode(kept[name]) }
         end
      end
   end
   table.sort(found, function(a, b)
      return tonumber(a.key) < tonumber(b.key)
   end)
   return found
end

--- Removes a letter that `find` returned, with the next save.
function letters.remove(letter)
   local store = stores[letter.number]
   store.removed[letter.key] = true
   store.participant.changed[letter.key] = false
   participants.touch(store.participant)
end

--- A letter that `find` returned failed again: keeps why, and how often.
function letters.fail(letter, err)
   local store, record = stores[letter.number], letter.record
   record.error, record.attempts = err.text, record.attempts + 1
   record.handler = err.handler or record.handler
   store.participant.changed[letter.key] = raw.encode(record)
   participants.touch(store.participant)
end

return letters
