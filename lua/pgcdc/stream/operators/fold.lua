-- pgcdc.stream.operators.fold: one running state that every value goes into.
-- SPDX-License-Identifier: MIT
--
-- accumulate (= scan) frequencies

local stream = require "pgcdc.stream.stream"
local check = require "pgcdc.check"
local saved_state = require "pgcdc.delivery.state"
local keys = require "pgcdc.stream.keys"
local undo = require "pgcdc.stream.undo"

local known = { start = true, returns_state = true, with_state = true, persist = true }

--- accumulate(f, {start=, returns_state=, with_state=, persist=}): f(state, x) gives the new
--- state, which is passed on, or with `returns_state` the new state and what is passed on. The
--- first value is the first state where there is no `start`, and is passed on. `with_state` passes
--- on {state, result}. `persist`: the name under which the state is kept, which JSON must be able
--- to write. f should make a new state and not change the old one; else a value that is tried again
--- counts twice.
local function accumulate(node, _, f, given)
   local what = node.kind
   node.about = check.type(what .. ": f", f, "function")
   local options = stream.options(what, given, known)
   local returns_state = check.flag(what .. ": returns_state", options.returns_state, false)
   local with_state = check.flag(what .. ": with_state", options.with_state, false)
   local cells = options.persist ~= nil and saved_state.cells(what, options.persist)
   local state = cells and cells:get("")
   if not cells or state == nil then
      state = options.start
   end
   if cells then
      cells:on_adopted(function(_, value)
         state = value
      end)
   end

   local function back(before)
      state = before
   end
   local function fold(x)
      if state == nil then
         return x, x
      end
      local new, result = f(state, x)
      if new == nil then
         check.fail("%s: f returned nil instead of a state", what)
      end
      if not returns_state then
         result = new
      end
      return new, result
   end

   node.input = function(x)
      local new, result = fold(x)
      local attempt <close> = undo(back, state)
      state = new
      if with_state then
         result = { keys.item(new), keys.item(result) }
      end
      node.out(result)
      if cells and state ~= nil then
         cells:set("", state) -- a feedback loop may have changed it again
      end
      attempt.is_done = true
   end
end
stream.operator("accumulate", accumulate)
stream.operator("scan", accumulate)

--- frequencies(): how often each value has come: a new table for each value.
stream.operator("frequencies", function(node)
   local counts = {}
   local function back(key, count)
      counts[key] = count
   end
   node.input = function(x)
      local key = keys.of(x)
      local attempt <close> = undo(back, key, counts[key])
      counts[key] = (counts[key] or 0) + 1
      local now = {}
      for value, count in pairs(counts) do
         now[value] = count
      end
      node.out(now)
      attempt.is_done = true
   end
end)
