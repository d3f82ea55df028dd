-- pgcdc.testing.replay: what --replay FILE SCRIPT [NAME=VALUE]... [SCRIPT [NAME=VALUE]...] runs:
-- feeds a recording to a script, and prints what its sinks would get; to two scripts: where that
-- differs.
-- SPDX-License-Identifier: MIT
--
--    jsonl paid.jsonl<TAB>{"op":"insert",...}    what a sink would get
--    big order 17                              what the script prints
--
-- Of two scripts, what they print for one batch is compared, as diff does it:
--
--    --- old.lua
--    +++ new.lua
--    @@ public.orders 2026-11-23T05:04:52Z, 3 changes @@
--    -jsonl paid.jsonl<TAB>{"op":"insert",...}

local raw = require "pgcdc.raw"
local difference = require "pgcdc.testing.difference"
local recording = require "pgcdc.testing.recording"
local run = require "pgcdc.testing.run"
local world = require "pgcdc.testing.world"

-- The scripts of the command line: a list of {path =, words =}.
local function scripts()
   local list = {}
   for _, word in ipairs(raw.files) do
      if word:find "^[^=/]+=" then
         local script = list[#list] or raw.usage(("--replay: name a script before %s"):format(word))
         table.insert(script.words, word)
      else
         list[#list + 1] = { asked = word, words = {}, path = world.find(word) or raw.usage(
            ("--replay: there is no script %s, here or among the bundled ones"):format(word)) }
      end
   end
   if #list > 2 then
      raw.usage "--replay takes one script, or two to compare"
   end
   return list
end

local function log(level, message, fields)
   raw.log(level, message, fields)
end

local here = (raw.file_real_path "." or "") .. "/"

-- The name of a sink, without the folder in which we are.
local function short(name)
   local from, to = name:find(here, 1, true)
   return from and name:sub(1, from - 1) .. name:sub(to + 1) or name
end

-- Begins a run of a script, whose lines go to `put`.
local function begin(script, epoch, put)
   script.run = run.start { path = script.path, words = script.words, epoch = epoch, forgets = true,
                            shows = { log = log, value = function(sink, text)
      put(sink and ("%s\t%s"):format(short(sink), text) or text)
   end } }
end

local is_told = {} -- script and source -> true

local function feed(script, step)
   if script.run:status() or script.run:take(step) then
      return
   end
   local what = script.asked .. "\0" .. step.source
   if not is_told[what] then
      is_told[what] = true
      raw.log("warn", "the script has no source for this table: what is recorded of it is left out",
         { script = script.asked, source = step.source })
   end
end

local function finish(script)
   if not script.run:status() then
      script.run:stop()
   end
end

-- ---- one script ----

local function show(script)
   for step in recording.steps(raw.replay) do
      if not script.run then
         begin(script, step.at, print)
      end
      feed(script, step)
   end
   if script.run then
      finish(script)
   end
   raw.stop(0)
end

-- ---- two scripts ----

-- Prints where two lists of lines differ. Returns true if they do.
local function compare(title, a, b)
   local lines = difference.of(a, b)
   if #lines == 0 then
      return false
   end
   print(("@@ %s @@"):format(title))
   for _, line in ipairs(lines) do
      print(line)
   end
   return true
end

local function title_of(step)
   local at = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(step.at))
   if step.is_ready then
      return ("%s %s, ready"):format(step.source, at)
   end
   return ("%s %s, %d changes"):format(step.source, at, #step.items)
end

-- Calls f for both scripts, and compares what they print meanwhile. Returns true if that differs.
local function both(list, title, f)
   for _, script in ipairs(list) do
      script.lines = {}
      f(script)
   end
   return compare(title, list[1].lines, list[2].lines)
end

local function differ(list)
   print(("--- %s\n+++ %s"):format(list[1].asked, list[2].asked))
   local differs = false
   for step in recording.steps(raw.replay) do
      differs = both(list, title_of(step), function(script)
         if not script.run then
            begin(script, step.at, function(line)
               table.insert(script.lines, line)
            end)
         end
         feed(script, step)
      end) or differs
   end
   if list[1].run then
      differs = both(list, "the end", finish) or differs
   end
   raw.stop(differs and 1 or 0)
end

local list = scripts()
if #list == 2 then
   differ(list)
else
   show(list[1])
end
