-- pgcdc.delivery.state: values that are kept over restarts, saved with the positions of the sources
-- that they come from.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local groups = require "pgcdc.delivery.groups"
local participants = require "pgcdc.delivery.participants"

local state = {}

local function load_state(name)
   local values = {}
   for key, text in pairs(raw.kept("state", name)) do
      local value, why = raw.decode(text)
      if value == nil then
         error(("the state '%s' cannot be read: %s"):format(name, why), 0)
      end
      values[key] = value
   end
   return values
end

local function capture_cells(participant, records)
   local name = participant.name
   for key, text in pairs(participant.changed) do
      records[#records + 1] = { "state", name, key, text, participant = participant }
   end
   participant.changed = {}
end

local function adopt_cell(participant, key, text)
   local value = text and raw.decode(text)
   participant.values[key], participant.changed[key] = value, nil
   if participant.on_adopted then
      participant.on_adopted(key, value)
   end
end

local Cells = {}
Cells.__index = Cells

--- Makes cells: text -> a value that JSON can write. They are saved with the positions of the
--- sources that the values come from. `what` (an operator, say) is for messages. Raises an error if
--- the name is taken, or what is saved under it cannot be read. cells:get(key) is nil where there
--- is none; cells:set(key, value); cells:all() is the table of all of them, not to be changed.
function state.cells(what, name)
   check.text(what .. ": persist", name)
   if participants.find("state", name) then
      check.fail("%s: the name '%s' is taken by another state of this script", what, name)
   end
   local participant = participants.add {
      kind = "state", name = name, changed = {}, capture = capture_cells, adopt = adopt_cell,
   }
   participant.values = load_state(name)
   return setmetatable({ participant = participant }, Cells)
end

function Cells:get(key)
   return self.participant.values[key]
end

--- The value is encoded now; it must not be changed in place without another `set`.
function Cells:set(key, value)
   local participant = self.participant
   participants.touch(participant)
   participant.changed[key] = raw.encode(value)
   participant.values[key] = value
end

function Cells:all()
   return self.participant.values
end

--- f(key, value) is called when a value is not what it was when the cells were made: before the
--- first change comes, a target was found to have a newer one (or none: nil).
function Cells:on_adopted(f)
   self.participant.on_adopted = f
end

-- A script may change its table at any depth: the JSON of each entry is compared with what it was.
local function capture_table(participant, records)
   local name, seen = participant.name, {}
   for key, value in pairs(participant.values) do
      if type(key) ~= "string" then
         error(("pgcdc.state: '%s' has a key that is a %s; keys are text"):format(name,
            type(key)), 0)
      end
      local ok, text = pcall(raw.encode, value)
      if not ok then
         error(("pgcdc.state: '%s': what is at '%s' cannot be saved: %s"):format(name, key,
            text), 0)
      end
      seen[key] = true
      if participant.texts[key] ~= text then
         participant.texts[key] = text
         records[#records + 1] = { "state", name, key, text, participant = participant }
      end
   end
   for key in pairs(participant.texts) do
      if not seen[key] then
         participant.texts[key] = nil
         records[#records + 1] = { "state", name, key, false, participant = participant }
      end
   end
end

local function adopt_entry(participant, key, text)
   participant.values[key] = text and raw.decode(text)
   participant.texts[key] = text
end

--- A table that is kept over restarts: text -> a value that JSON can write. It is saved with the
--- positions, as it is when a batch ends. The same name gives the same table. All sources are one
--- group from then on: which of them changes the table is not known.
function state.table(name)
   check.text("pgcdc.state: the name", name)
   local participant = participants.find("state", name)
   if participant and participant.capture ~= capture_table then
      check.fail("pgcdc.state: the name '%s' is taken by an operator of this script", name)
   end
   if not participant then
      participant = participants.add {
         kind = "state", name = name, texts = {}, capture = capture_table, adopt = adopt_entry,
         is_always_dirty = true,
      }
      participant.values = load_state(name)
      for key, value in pairs(participant.values) do
         participant.texts[key] = raw.encode(value)
      end
      groups.unite_all()
   end
   return participant.values
end

return state
