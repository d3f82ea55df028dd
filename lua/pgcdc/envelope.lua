-- pgcdc.envelope: changes as other programs write them.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local change_of = require("pgcdc.change").of
local check = require "pgcdc.check"

local envelope = {}

local codes = { insert = "c", update = "u", upsert = "u", delete = "d", read = "r" }

local cumulative = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 }

-- A time such as "2026-11-23T05:04:57.057Z" in milliseconds since 1970.
local function milliseconds(ts)
   local year, month, day, hour, minute, second, fraction =
      ts:match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)%.?(%d*)"
   local y = math.tointeger(year) - (math.tointeger(month) <= 2 and 1 or 0)
   local days = 365 * (math.tointeger(year) - 1970) + cumulative[math.tointeger(month)]
      + math.tointeger(day) - 1 + (y // 4 - y // 100 + y // 400) - 477 -- leap days until 1970
   local seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
   return math.tointeger(seconds * 1000 + math.tointeger((fraction .. "000"):sub(1, 3)))
end

-- The number of a change as text, as both formats have it.
local function digits_of(seq)
   return seq ~= nil and tostring(seq) or nil
end

-- The last time that was converted, since all changes of a chunk have the same.
local last_ts, last_ms

local function ms_of(change)
   local ts = change.ts
   if ts ~= last_ts then
      last_ts, last_ms = ts, milliseconds(ts)
   end
   return last_ms
end

--- The value envelope of Debezium, as a table.
function envelope.debezium(value)
   local change = change_of("debezium", value)
   local op = change.op
   local ms = ms_of(change)
   return {
      before = change.old or raw.null,
      after = change.row or raw.null,
      source = {
         version = raw.version, connector = "pgcdc-lua", name = change.source, ts_ms = ms,
         snapshot = op == "read" and "true" or "false", db = change.database,
         schema = change.schema, table = change.table, txId = change.xid,
         sequence = digits_of(change.seq),
      },
      op = codes[op] or check.fail("debezium: there is no code for the op '%s'", tostring(op)),
      ts_ms = ms,
   }
end

-- Name of a database, schema or table -> the same as part of a URI; filled as names are asked for.
local escaped = setmetatable({}, { __index = function(known, name)
   local text = name:gsub("[^%w%-._~]", function(byte)
      return ("%%%02X"):format(byte:byte())
   end)
   known[name] = text
   return text
end })

--- CloudEvents 1.0.
function envelope.cloudevents(value)
   local change = change_of("cloudevents", value)
   return {
      specversion = "1.0",
      id = change.id,
      type = "pgcdc." .. change.op,
      source = ("/%s/%s/%s"):format(escaped[change.database], escaped[change.schema],
         escaped[change.table]),
      time = change.ts,
      sequence = digits_of(change.seq),
      datacontenttype = "application/json",
      data = value,
   }
end

return envelope
