-- pgcdc.source: declares a table to watch, and who listens to its changes.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

local DEFAULT_INTERVAL = 10
local LEAST_INTERVAL = 0.01

local fields = {
   table = true, pk = true, interval = true, connect = true, name = true, start = true,
   columns = true, where = true, rls = true, on_change = true,
}

-- Which of the host's events a script's event stands for.
local ops = { "read", "upsert", "insert", "update", "delete" }
local events = {
   change = ops,
   batch = { "batch" }, ready = { "ready" }, schema = { "schema" }, error = { "error" },
}
for _, op in ipairs(ops) do
   events[op] = { op }
end

local names_taken = {}

local function quote_identifier(name)
   return '"' .. name:gsub('"', '""') .. '"'
end

-- "orders" and '"Weird Table"' are for the server to resolve; {"sales", "orders"} is exact.
local function table_name(value)
   check.type("pgcdc.source: table", value, "string", "table")
   if type(value) == "string" then
      return check.text("pgcdc.source: table", value)
   end
   if #value < 1 or #value > 2 then
      check.fail("pgcdc.source: table must be a name, {name} or {schema, name}")
   end
   local parts = {}
   for i, part in ipairs(value) do
      parts[i] = quote_identifier(check.text("pgcdc.source: table", part))
   end
   return table.concat(parts, ".")
end

-- {host = "x", password = "it's"} as libpq reads it.
local function conninfo(value)
   if value == nil then
      return raw.dsn
   end
   check.type("pgcdc.source: connect", value, "string", "table")
   if type(value) == "string" then
      return value
   end
   local words = {}
   for keyword, v in pairs(value) do
      check.type("pgcdc.source: a keyword of connect", keyword, "string")
      check.type("pgcdc.source: connect." .. keyword, v, "string", "number", "boolean")
      words[#words + 1] = ("%s='%s'"):format(keyword, tostring(v):gsub("[\\']", "\\%0"))
   end
   table.sort(words)
   return table.concat(words, " ")
end

local function interval(value)
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
   check.seconds(what .. "[1]", value[1], LEAST_INTERVAL)
   check.seconds(what .. "[2]", value[2], value[1])
   return value[1], value[2]
end

local function start(value)
   if value == nil then
      return "snapshot"
   end
   if math.type(value) == "integer" and value >= 3 then
      return value
   end
   if value ~= "snapshot" and value ~= "now" then
      check.fail('pgcdc.source: start must be "snapshot", "now" or a transaction id, not %s',
         type(value) == "string" and ("%q"):format(value) or tostring(value))
   end
   return value
end

local function name(value)
   if value == nil then
      return nil
   end
   check.text("pgcdc.source: name", value)
   if names_taken[value] then
      check.fail("pgcdc.source: two sources are named '%s'", value)
   end
   names_taken[value] = true
   return value
end

-- One function that calls all handlers of an event in the order in which they were added.
local function in_turn(handlers)
   if #handlers <= 1 then
      return handlers[1]
   end
   return function(...)
      for i = 1, #handlers do
         handlers[i](...)
      end
   end
end

local Source = {}
Source.__index = Source
Source.__name = "pgcdc.source"

--- Calls `handler` on every `event`. Returns the source.
function Source:on(event, handler)
   check.one_of("source:on", event, events)
   check.type(("source:on(%q): the handler"):format(event), handler, "function")
   for _, raw_event in ipairs(events[event]) do
      local handlers = self.handlers[raw_event] or {}
      handlers[#handlers + 1] = handler
      self.handlers[raw_event] = handlers
      raw.handle(self.number, raw_event, in_turn(handlers))
   end
   return self
end

--- Declares a source. See the README for the fields.
return function(spec)
   check.type("pgcdc.source: its argument", spec, "table")
   check.fields("pgcdc.source", spec, fields)
   if spec.table == nil then
      check.fail("pgcdc.source: table is required")
   end
   if spec.where ~= nil then
      check.text("pgcdc.source: where", spec.where)
   end
   if spec.rls ~= nil then
      check.type("pgcdc.source: rls", spec.rls, "boolean")
   end
   if spec.on_change ~= nil then
      check.type("pgcdc.source: on_change", spec.on_change, "function")
   end
   local min, max = interval(spec.interval)
   local source = setmetatable({ handlers = {} }, Source)
   source.number = raw.declare {
      table = table_name(spec.table),
      pk = check.names("pgcdc.source: pk", spec.pk),
      columns = check.names("pgcdc.source: columns", spec.columns),
      interval_min = min,
      interval_max = max,
      connect = conninfo(spec.connect),
      name = name(spec.name),
      start = start(spec.start),
      where = spec.where,
      rls = spec.rls or false,
   }
   if spec.on_change then
      source:on("change", spec.on_change)
   end
   return source
end
