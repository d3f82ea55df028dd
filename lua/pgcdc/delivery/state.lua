-- pgcdc.delivery.state: values that survive, saved with the positions of what they come from.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local keep = require "pgcdc.delivery.participants"

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

local function capture_cells(keeper, records)
   for key, text in pairs(keeper.changed) do
      records[#records + 1] = { "state", keeper.name, key, text, keeper = keeper }
   end
   keeper.changed = {}
end

local Cells = {}
Cells.__index = Cells

--- Values by key, text to anything that has a JSON, which are saved with the positions of the
--- values that they come from. `what` (an operator, say) is for messages.
--- cells:get(key), cells:set(key, value); cells:all() is a table of all of them.
function state.cells(what, name)
   check.text(what .. ": persist", name)
   if keep.find("state", name) then
      check.fail("%s: the name '%s' is taken by another state of this script", what, name)
   end
   local keeper = keep.add { kind = "state", name = name, changed = {}, capture = capture_cells }
   keeper.values = load_state(name)
   return setmetatable({ keeper = keeper }, Cells)
end

function Cells:get(key)
   return self.keeper.values[key]
end

--- The value is encoded now; it must not be changed in place without another `set`.
function Cells:set(key, value)
   local keeper = self.keeper
   keep.touch(keeper)
   keeper.changed[key] = raw.encode(value)
   keeper.values[key] = value
end

function Cells:all()
   return self.keeper.values
end

-- A script's table can change anywhere in its depth: each entry is compared with what it was.
local function capture_table(keeper, records)
   local seen = {}
   for key, value in pairs(keeper.values) do
      if type(key) ~= "string" then
         error(("pgcdc.state: '%s' has a key that is a %s; keys are text"):format(keeper.name,
            type(key)), 0)
      end
      local ok, text = pcall(raw.encode, value)
      if not ok then
         error(("pgcdc.state: '%s': what is at '%s' cannot be saved: %s"):format(keeper.name, key,
            text), 0)
      end
      seen[key] = true
      if keeper.texts[key] ~= text then
         keeper.texts[key] = text
         records[#records + 1] = { "state", keeper.name, key, text, keeper = keeper }
      end
   end
   for key in pairs(keeper.texts) do
      if not seen[key] then
         keeper.texts[key] = nil
         records[#records + 1] = { "state", keeper.name, key, false, keeper = keeper }
      end
   end
end

--- A table that survives, of values that have a JSON, under text keys. It is saved with the
--- positions, as it is when a batch ends. The same name gives the same table.
function state.table(name)
   check.text("pgcdc.state: the name", name)
   local keeper = keep.find("state", name)
   if keeper and keeper.capture ~= capture_table then
      check.fail("pgcdc.state: the name '%s' is taken by an operator of this script", name)
   end
   if not keeper then
      keeper = keep.add { kind = "state", name = name, texts = {}, capture = capture_table,
                            is_always_dirty = true }
      keeper.values = load_state(name)
      for key, value in pairs(keeper.values) do
         keeper.texts[key] = raw.encode(value)
      end
      keep.unite_all()
   end
   return keeper.values
end

keep.cells = state.cells

return state
