-- pgcdc.testing.lint: what --lint SCRIPT [NAME=VALUE]... runs: loads a script without a database,
-- and says what in it cannot be meant.
-- SPDX-License-Identifier: MIT
--
-- Each complaint is a line "script.lua:3: ...". What stops a script while it loads (unknown
-- options, two sinks of one name, words that are missing) is one, and the last.

local raw = require "pgcdc.raw"
local names = require "pgcdc.names"
local world = require "pgcdc.testing.world"

-- Operators that are used for what they do, also where nobody takes what they pass on.
local ends = { sink = true, sink_to_list = true, sink_to_textfile = true, tap = true, route = true }

local words, complaints = {}, {}

local function complain(text)
   complaints[#complaints + 1] = text
end

-- From now on the world notes the globals that the script makes, and where its streams come from.
local function watch(w)
   local globals, places = {}, {}
   local stream, check = w.require "pgcdc.stream.stream", w.require "pgcdc.check"
   getmetatable(w.globals).__newindex = function(t, name, value)
      globals[name] = globals[name] or check.place()
      rawset(t, name, value)
   end
   local add = stream.add
   stream.add = function(node)
      places[node] = places[node] or check.place()
      return add(node)
   end
   return globals, places
end

local function look_at_streams(w, places)
   for _, node in ipairs(w.require "pgcdc.stream.stream".nodes) do
      local place = places[node] or ""
      if #node.consumers > 0 or ends[node.kind] then
         goto continue
      elseif node.number then
         complain(("%snobody listens to the source %s: what it finds is dropped"):format(place,
            w.sources[node.number].name))
      else
         complain(("%snobody takes what this %s passes on: end it with sink()"):format(place,
            node.kind))
      end
      ::continue::
   end
end

local function lint(path)
   local globals, places, ok, why
   local w
   ok, why = raw.try(raw.explain, world.open, {
      path = path, words = words, records = {}, targets = {}, clock = 0, log = {}, output = {},
      on_made = function(made)
         w = made
         globals, places = watch(made)
      end,
   })
   for _, name in ipairs(names.sorted(globals or {})) do
      complain(("%s'%s' is made a global here: write `local %s`"):format(globals[name], name,
         name))
   end
   if ok then
      look_at_streams(w, places)
   else
      complain(why)
   end
end

local path
for _, word in ipairs(raw.files) do
   if path then
      words[#words + 1] = word:find "^[^=]+=" and word
         or raw.usage(("%s: words behind the script are written NAME=VALUE"):format(word))
   else
      path = word
   end
end
lint(world.find(path)
   or raw.usage(("--lint: there is no script %s, here or among the bundled ones"):format(path)))
for _, text in ipairs(complaints) do
   print(text)
end
raw.stop(#complaints > 0 and 1 or 0)
