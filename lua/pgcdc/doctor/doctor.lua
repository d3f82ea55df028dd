-- pgcdc.doctor.doctor: what --check has found: of each source and sink "ok", or what is wrong and
-- what mends it.
-- SPDX-License-Identifier: MIT
--
-- An *item* is {kind = "source", "sink" or "state", name =, ok =, text = what would be done, or why
-- not, sqlstate =, mends = a list (see pgcdc.mend), warnings = a list of {text =, mends =},
-- load = see pgcdc.doctor.load, or nil}.

local raw = require "pgcdc.raw"
local mend = require "pgcdc.mend"
local participants = require "pgcdc.delivery.participants"
local feeds = require "pgcdc.delivery.feeds"
local of_sinks = require "pgcdc.doctor.sinks"
local of_sources = require "pgcdc.doctor.sources"
local of_state = require "pgcdc.doctor.state"

local print, plain = print, raw.plain -- names and messages may hold anything

local doctor = {}

local sources = {} -- number -> item

--- A source was looked at, see src/lua/hooks_check.c.
function doctor.source(number, name, text, message, sqlstate)
   local item = { kind = "source", name = name, ok = message == nil, text = message,
                  sqlstate = sqlstate ~= "" and sqlstate or nil, mends = {}, warnings = {} }
   for line in (text or ""):gmatch "[^\n]+" do
      if item.text then
         item.warnings[#item.warnings + 1] = { text = line, mends = {} }
      else
         item.text = line
      end
   end
   feeds.set_name(number, name)
   of_sources.examine(item, feeds.facts(number))
   sources[number] = item
end

local function add_sinks(items)
   participants.check(function(participant, ok, text)
      local item = { kind = "sink", name = participant.name, ok = ok, text = text, mends = {},
                     warnings = {} }
      of_sinks.examine(item, participant.sink)
      items[#items + 1] = item
   end)
end

-- ---- printing ----

local function print_mends(mends)
   for _, m in ipairs(mends) do
      print("mend   " .. plain(mend.line(m)))
   end
end

local function print_text(item)
   local load = item.load and "; " .. item.load.text or ""
   print(plain(("%-6s %s %s: %s%s"):format(item.ok and "ok" or "wrong", item.kind, item.name,
      item.text, load)))
   print_mends(item.mends)
   for _, warning in ipairs(item.warnings) do
      print(plain(("warn   %s %s: %s"):format(item.kind, item.name, warning.text)))
      print_mends(warning.mends)
   end
end

local function listed(list, convert)
   local result = setmetatable({}, raw.array_metatable)
   for i, value in ipairs(list) do
      result[i] = convert and convert(value) or value
   end
   return result
end

local function as_json(item)
   local load = item.load
   return {
      kind = item.kind, name = item.name, ok = item.ok, text = item.text, sqlstate = item.sqlstate,
      mends = listed(item.mends), warnings = listed(item.warnings, function(warning)
         return { text = warning.text, mends = listed(warning.mends) }
      end),
      load = load and { rows = load.rows, bytes = load.bytes, scan_seconds = load.seconds,
                        of_interval = load.share },
   }
end

local function show(items, is_well)
   if raw.as_json then
      print(raw.encode { version = 1, ok = is_well, items = listed(items, as_json) })
      return
   end
   for _, item in ipairs(items) do
      if item.kind ~= "state" or not item.ok then
         print_text(item)
      end
   end
end

--- All sources were looked at: looks at the rest, prints everything, and stops the script with
--- status 3 if something is wrong. What is wrong is in the log as well.
function doctor.finish()
   local items, is_well = {}, true
   table.move(sources, 1, #sources, 1, items)
   add_sinks(items)
   items[#items + 1] = of_state.examine(#sources > 0)
   for _, item in ipairs(items) do
      if not item.ok then
         is_well = false
         raw.log("error", item.kind == "source" and ("source %s: %s"):format(item.name, item.text)
            or item.text, { sqlstate = item.sqlstate })
      end
   end
   show(items, is_well)
   if not is_well then
      raw.stop(3)
   end
end

return doctor
