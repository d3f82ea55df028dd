-- pgcdc.stream.source_options: checks options of pgcdc.source, and gives them their defaults.
-- SPDX-License-Identifier: MIT
--
-- Each function takes an option as a script gave it, or the table of all of them, and raises an
-- error that says what is wrong.

local check = require "pgcdc.check"
local conninfo = require "pgcdc.postgres.conninfo"

local options = {}

local DEFAULT_INTERVAL = 10
local DEFAULT_RECHECK = 3600
local MOST_CONNECTIONS = 8
local LEAST_INTERVAL = 0.01
local MOST_WORKERS = 64
local MOST_READERS = 2
local DEFAULT_LOAD = 0.1
local LEAST_LOAD = 0.001
local DEFAULT_RETAINED = "16G"
local LEAST_RETAINED = 64 << 20 -- four files of the log
local LONGEST_SLOT = 50 -- a name of 63 has room for that of a slot beside it

local toasts = { fill = true, leave = true, require = true } -- of long values that are as before

--- Returns the least and the greatest number of seconds between polls.
function options.interval(value)
   local what = "pgcdc.source: interval"
   if value == nil then
      return DEFAULT_INTERVAL, DEFAULT_INTERVAL
   end
   if type(value) ~= "table" then
      check.seconds(what, value, LEAST_INTERVAL)
      return value, value
   end
   if #value ~= 2 then
      check.fail("%s must be seconds or {min, max}", what)
   end
   local least = check.seconds(what .. "[1]", value[1], LEAST_INTERVAL)
   return least, check.seconds(what .. "[2]", value[2], least)
end

--- Returns whether deleted rows are looked for, and after how many seconds each time (0: in each
--- poll).
function options.deletes(value)
   local what = "pgcdc.source: deletes"
   if type(value) ~= "table" then
      if value ~= nil then
         check.type(what, value, "boolean", "table")
      end
      return value or false, 0
   end
   local seconds = check.taken(what, value, { interval = true }).interval
   return true, seconds == nil and 0
      or check.seconds(what .. ".interval", seconds, LEAST_INTERVAL)
end

--- Checks an option that needs rows to be kept. Returns its value, false for nil.
function options.with_deletes(option, value, has_deletes, capture)
   if value == nil then
      return false
   end
   check.type("pgcdc.source: " .. option, value, "boolean")
   if value and capture == "logical" then
      return true -- from a replica identity that has the row
   elseif value and capture == "trigger" then
      check.fail('pgcdc.source: %s = true needs capture = "xmin": capture = "trigger" tells only'
         .. " the key of a deleted row", option)
   elseif value and not has_deletes then
      check.fail("pgcdc.source: %s = true needs deletes = true, which keeps the rows", option)
   end
   return value
end

--- The options of capture = "increment". Returns the column, how far below its greatest value a
--- poll begins (-1: as suits its type), and the seconds between two looks at all rows.
function options.increment(spec)
   if spec.capture ~= "increment" then
      for _, option in ipairs { "column", "lookback", "recheck" } do
         if spec[option] ~= nil then
            check.fail('pgcdc.source: %s is for capture = "increment"', option)
         end
      end
      return nil, -1, 0
   end
   if spec.column == nil then
      check.fail('pgcdc.source: capture = "increment" needs column = "...", one whose values grow')
   end
   check.text("pgcdc.source: column", spec.column)
   if spec.lookback ~= nil then
      check.type("pgcdc.source: lookback", spec.lookback, "number")
      if not (spec.lookback >= 0 and spec.lookback <= 1e12) then
         check.fail("pgcdc.source: lookback must be a number of at least 0, not %s", spec.lookback)
      end
   end
   if spec.recheck ~= nil then
      check.seconds("pgcdc.source: recheck", spec.recheck, 0)
   end
   return spec.column, spec.lookback or -1, spec.recheck or DEFAULT_RECHECK
end

local on_full = { drop = true, keep = true, stop = true }

--- The options of capture = "logical", checked and with defaults; a slot of nil is one of our own.
function options.logical(spec)
   if spec.capture ~= "logical" then
      for _, option in ipairs { "slot", "publication", "max_retained", "on_full", "slot_connect",
         "failover", "toast" } do
         if spec[option] ~= nil then
            check.fail('pgcdc.source: %s is for capture = "logical"', option)
         end
      end
      return {}
   end
   if spec.rls then
      check.fail('pgcdc.source: rls is not for capture = "logical", which reads whole tables from'
         .. ' the log; capture = "xmin" has it')
   end
   if spec.together ~= nil then
      check.fail 'pgcdc.source: together is not for capture = "logical": transactions come whole'
   end
   if spec.slot ~= nil then
      check.text("pgcdc.source: slot", spec.slot)
      if #spec.slot > LONGEST_SLOT or not spec.slot:find "^[a-z0-9_]+$" then
         check.fail("pgcdc.source: slot = %q is no name of a slot, which has at most %d small"
            .. " letters, digits and _", spec.slot, LONGEST_SLOT)
      end
   end
   if spec.publication ~= nil then
      check.text("pgcdc.source: publication", spec.publication)
   end
   check.one_of("pgcdc.source: toast", spec.toast or "fill", toasts)
   check.one_of("pgcdc.source: on_full", spec.on_full or "drop", on_full)
   if spec.failover ~= nil then
      check.type("pgcdc.source: failover", spec.failover, "boolean")
   end
   return {
      slot = spec.slot, publication = spec.publication or "pgcdc",
      max_retained = check.size("pgcdc.source: max_retained", spec.max_retained or DEFAULT_RETAINED,
         LEAST_RETAINED),
      toast = spec.toast, on_full = spec.on_full or "drop", failover = spec.failover or false,
      slot_connect = spec.slot_connect ~= nil
         and conninfo.text("pgcdc.source: slot_connect", spec.slot_connect) or nil,
   }
end

--- Where a source begins: "snapshot", "now" or a transaction id.
function options.start(value)
   if value == nil then
      return "snapshot"
   end
   if math.type(value) == "integer" and value >= 3 then
      return value
   elseif type(value) == "number" then
      check.fail('pgcdc.source: start = %s is no transaction id, which is a whole number of 3 or'
         .. ' more (SELECT pg_current_xact_id() gives one); write "now" for what commits from now'
         .. ' on, "snapshot" for existing rows first', value)
   end
   if value ~= "snapshot" and value ~= "now" then
      check.fail('pgcdc.source: start must be "snapshot", "now" or a transaction id, not %s',
         type(value) == "string" and ("%q"):format(value) or tostring(value))
   end
   return value
end

--- How many connections the sources of a database may share at most.
function options.connections(value)
   local what = "pgcdc.source: connections"
   if value ~= nil and check.count(what, value, 1) > MOST_CONNECTIONS then
      check.fail("%s must be at most %d, not %d", what, MOST_CONNECTIONS, value)
   end
   return value or MOST_CONNECTIONS
end

--- The share of time that scans may take.
function options.max_load(value)
   local what = "pgcdc.source: max_load"
   if value == nil then
      return DEFAULT_LOAD
   end
   check.type(what, value, "number")
   if not (value >= LEAST_LOAD and value <= 1) then
      check.fail("%s is a share of time, from %g to 1 (no limit), not %s", what, LEAST_LOAD, value)
   end
   return value
end

--- How many workers of the server may share a scan.
function options.parallel(value, capture)
   local what = "pgcdc.source: parallel"
   if value == nil then
      return 0
   end
   if check.count(what, value, 0) > MOST_WORKERS then
      check.fail("%s must be at most %d, not %d", what, MOST_WORKERS, value)
   end
   if capture ~= "xmin" and value > 0 then
      check.fail('%s = %d is for capture = "xmin", which scans tables', what, value)
   end
   return value
end

--- How many connections read the first read, each a half of its ranges.
function options.readers(value)
   local what = "pgcdc.source: readers"
   if value == nil then
      return 1
   end
   if check.count(what, value, 1) > MOST_READERS then
      check.fail("%s must be 1 or %d, not %d", what, MOST_READERS, value)
   end
   return value
end

local hints = { auto = true, wal = true, check = true }

--- How much the WAL may help polls, as the host calls it.
function options.hints(value, capture)
   if value == nil then
      return "auto"
   elseif value == false then
      return "never"
   end
   check.one_of("pgcdc.source: hints", value, hints)
   if capture ~= "xmin" and capture ~= "increment" and value ~= "auto" then
      check.fail('pgcdc.source: hints = "%s" is for capture = "xmin" and "increment", which scan'
         .. " tables", value)
   end
   return value
end

--- For how many seconds counters that stand still may stand in for a scan; 0: never. `interval`:
--- the shortest one of the polls.
function options.quiet(value, capture, interval)
   if value == nil or value == 0 then
      return 0
   end
   check.seconds("pgcdc.source: quiet", value, 0)
   if capture ~= "xmin" then
      check.fail('pgcdc.source: quiet = %s is for capture = "xmin", which scans tables', value)
   elseif value <= interval then
      check.fail("pgcdc.source: quiet = %s spares no scan, since polls are %s s apart: it must be"
         .. " longer than the interval", value, interval)
   end
   return value
end

return options
