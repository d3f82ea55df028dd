-- pgcdc.stream.source: declares a table to watch; a source is the stream of its changes.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local compared = require "pgcdc.compared"
local conninfo = require "pgcdc.postgres.conninfo"
local feeds = require "pgcdc.delivery.feeds"
local groups = require "pgcdc.delivery.groups"
local lineage = require "pgcdc.delivery.lineage"
local on_error = require "pgcdc.delivery.on_error"
local options = require "pgcdc.stream.source_options"
local seal = require "pgcdc.seal"
local strict = require "pgcdc.strict"
local topics = require "pgcdc.stream.topics"
local dead_letter = require "pgcdc.stream.dead_letter"
local leads = require "pgcdc.stream.leads"
local stream = require "pgcdc.stream.stream"

local fields = {
   table = true, pk = true, interval = true, connect = true, name = true, start = true,
   columns = true, where = true, rls = true, on_change = true, on_error = true,
   dead_letter = true, soft_delete = true, deletes = true, old = true, skip_unchanged = true,
   capture = true, column = true, lookback = true, recheck = true, together = true,
   connections = true, slot = true, publication = true, max_retained = true, on_full = true,
   slot_connect = true, failover = true, toast = true, hints = true, quiet = true,
   max_load = true, parallel = true, readers = true,
}

-- How changes are found.
local captures = { xmin = true, increment = true, trigger = true, logical = true }

local ops = { read = true, upsert = true, insert = true, update = true, delete = true }
-- The set of the events of the host.
local all_events = { batch = true, ready = true, truncate = true, schema = true, error = true,
                     commit = true, message = true }
-- Event of a script -> the set of the events of the host that it stands for.
local events = { change = ops }
for event in pairs(all_events) do
   events[event] = { [event] = true }
end
for op in pairs(ops) do
   all_events[op] = true
   events[op] = { [op] = true }
end

for field in pairs(topics.fields) do
   fields[field] = true
end

local names_taken = {}

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

-- The sources that are read together, by the name that `together` gives them: {connect =, least =,
-- greatest = as the first one has them, name = its table, members = numbers of the sources}.
local units = {}

-- The unit that a source is to be part of, made on first demand; nil where it is alone. Raises an
-- error where it asks for something else than the others.
local function unit_of(spec, table_name)
   local together = spec.together
   if together == nil then
      return nil
   end
   check.text("pgcdc.source: together", together)
   local connect = conninfo.text("pgcdc.source: connect", spec.connect)
   local least, greatest = options.interval(spec.interval)
   local unit = units[together]
   if not unit then
      unit = { connect = connect, least = least, greatest = greatest, name = table_name,
               members = {} }
      units[together] = unit
   elseif unit.connect ~= connect then
      check.fail("pgcdc.source: %s and %s are read together, so they need the same connect",
         unit.name, table_name)
   elseif unit.least ~= least or unit.greatest ~= greatest then
      check.fail("pgcdc.source: %s and %s are read together, so they need the same interval",
         unit.name, table_name)
   end
   return unit
end

local by_slot = {} -- connection -> slot, "" for one of our own -> the sources that read it

-- Transactions of the log are of all sources of its slot, so these are saved at once.
local function share_log(connect, slot, source)
   local slots = by_slot[connect] or {}
   by_slot[connect], slot = slots, slot or ""
   slots[slot] = slots[slot] or { members = {} }
   source.members = slots[slot].members
   source.members[#source.members + 1] = source.number
   slots[slot].first = slots[slot].first or source
   groups.unite(source.members[1], source.number)
end

-- Adds a source to a unit. What its members bring is saved at once.
local function join(unit, source)
   unit.members[#unit.members + 1] = source.number
   source.members = unit.members
   groups.read_together(unit.members[1], source.number)
end

-- A source is a stream. Its consumers and its handlers are one list, in the order in which they
-- were attached: {node =, f =} or {event =, f =, about = the function of the script}. The host gets
-- one function for each event.
local Source = strict.class("operator", {}, stream.class)
Source.__index = Source
Source.__name = "pgcdc.source"
stream.classes[Source] = true
seal.kind(Source, Source.__name, { on = true }, stream.public, "operator")

local sources = {} -- by number
local is_loaded = false

--- To be called when the script is loaded.
function Source.set_loaded()
   is_loaded = true
end

--- The source that messages come with of this connection and slot, nil for our own; nil if no
--- source reads it.
function Source.of_log(connect, slot)
   local of = by_slot[connect] and by_slot[connect][slot or ""]
   return of and of.first
end

--- The source of this number, or nil.
function Source.by_number(number)
   return sources[number]
end

-- True if this consumer or handler takes an event of the host.
local function takes(entry, event)
   if not entry.event then
      return ops[event]
   end
   return events[entry.event][event]
end

-- The functions that take an event of the host, in order.
local function functions_of(source, event)
   local functions = {}
   for _, entry in ipairs(source.consumers) do
      if takes(entry, event) then
         functions[#functions + 1] = entry.f
      end
   end
   return functions
end

-- True if this consumer or handler takes changes.
local function takes_changes(entry)
   for op in pairs(ops) do
      if takes(entry, op) then
         return true
      end
   end
   return false
end

-- How all changes get to the one sink that takes them, without Lua, see raw.direct; nil: they are
-- for the handlers.
local function way_of(source)
   local only
   for _, entry in ipairs(source.consumers) do
      if takes_changes(entry) then
         if only then
            return nil
         end
         only = entry
      end
   end
   local node = only and only.node
   local sink = node and node.kind == "sink" and node.about
   return type(sink) == "table" and sink.enters_itself and sink.way and sink:way(function()
      return not on_error.is_waiting(source)
   end) or nil
end

function Source:rewire()
   for event in pairs(all_events) do
      local functions = functions_of(self, event)
      local f
      if #functions > 0 then
         f = ops[event] and on_error.guard(self, functions, event) or stream.to_all(functions)
      end
      raw.handle(self.number, event, f)
   end
   raw.direct(self.number, way_of(self))
   raw.handle(self.number, "columns", function(x)
      local columns = raw.copy_columns(x)
      compared.warn(raw.source_name(self.number), columns)
      feeds.set_table(self.number, columns)
      stream.announcing = self.number
      stream.pass_columns(self, x)
   end)
   local all = functions_of(self, "read")
   self.out = stream.to_all(all)
end

--- Gives the host the handlers of all sources anew. To be called when something has changed that
--- they depend on.
function Source.rewire_all()
   for _, source in ipairs(sources) do
      source:rewire()
   end
end

--- Logs a warning for each source that nobody listens to. To be called when the script is loaded.
function Source.tell_of_unheard()
   for _, source in ipairs(sources) do
      if #source.consumers == 0 then
         raw.log("warn", "nobody listens to this source: what it finds is dropped; :on(\"change\","
            .. " f) or :sink(...) listens", { source = source.name })
      end
   end
end

-- Events whose handlers get a table -> the fields that it may lack.
local strict_events = { batch = {}, ready = {}, truncate = {}, commit = {}, message = {},
                        error = { sqlstate = true } }

-- The columns of a schema.
local function strict_columns(list)
   local what = "field of a column of the event 'schema'"
   for i, column in ipairs(list) do
      list[i] = strict.table(what, column)
   end
   return strict.table("field of the list of columns of the event 'schema'", list)
end

--- Makes the log bring an event: "commit" or "message".
function Source:want(event)
   if self.capture ~= "logical" then
      check.fail('source:on("%s") is for capture = "logical"', event)
   elseif is_loaded then
      check.fail('source:on("%s") is called while the script loads', event)
   end
   raw.want(self.number, event)
end

--- Calls `f` with each message of the log that comes to this source, where it stands among the
--- changes. What it passes on stems from the batch that it is part of.
function Source:on_message(f)
   self:want "message"
   self.consumers[#self.consumers + 1] = { event = "message", f = function(message)
      local newest, is_open = lineage.newest_batch(self.number)
      lineage.enter(self.number, is_open and newest or newest + 1)
      f(message)
      lineage.leave()
   end }
   self:rewire()
end

--- Calls `handler` at every `event`. Returns the source.
function Source:on(event, handler)
   check.one_of("source:on", event, events)
   check.type(("source:on(%q): the handler"):format(event), handler, "function")
   local f = handler
   if event == "commit" then
      self:want(event)
   elseif event == "message" then
      check.fail 'source:on: messages are a stream of their own, see pgcdc.messages'
   end
   if strict_events[event] then
      handler = function(facts)
         f(strict.table(("field of the event '%s'"):format(event), facts, strict_events[event]))
      end
   elseif event == "schema" then
      handler = function(old, new)
         f(strict_columns(old), strict_columns(new))
      end
   end
   self.consumers[#self.consumers + 1] = { event = event, f = handler, about = f }
   self:rewire()
   return self
end

--- Tells the host which sources are exact: also after a crash, those who listen have what the saved
--- position says, and no more. To be called after recovery.start.
function Source.tell_exact()
   for _, source in ipairs(sources) do
      if not source.dead_letter and leads.exactly(source.consumers) then
         raw.set_exact(source.number)
      end
   end
end

--- Passes a value that did not come from the table to the streams that are attached to the source.
function Source:emit(value)
   for _, entry in ipairs({ table.unpack(self.consumers) }) do
      if entry.node then
         entry.f(value)
      end
   end
end

-- Adds a source that has its number, with all that those have in common that read tables and those
-- that read topics. `name`: as messages call it. `letters`: see dead_letter.node.
local function add(source, spec, name_of, letters)
   sources[source.number] = source
   if letters then
      letters(source.number)
   end
   source.name = name_of
   stream.add(source)
   if groups.is_single_group() then
      groups.unite_all()
   end
   if spec.on_change then
      source:on("change", spec.on_change)
   end
   return source
end

-- Declares a source whose changes come from topics of Kafka.
local function declare_topics(spec)
   check.fields("pgcdc.source{kafka=...}", spec, topics.fields)
   local feed = topics.new(spec)
   local called = spec.name or table.concat(feed.topics, ",")
   local source = setmetatable(stream.node("source"), Source)
   source.policy, source.patience, source.capture = on_error.policy(spec.on_error), 0, "feed"
   local letters
   source.dead_letter, letters = dead_letter.node(spec.dead_letter, source.policy, called)
   source.number = raw.declare { table = called, name = name(called), capture = "feed",
                                 start = feed.start }
   topics.declare(source, feed)
   feeds.declare(source.number, {
      deletes = true, old = false, spec = spec, table = called, interval = 0, capture = "feed",
      starts_with_snapshot = feed.start == "snapshot",
      leads_to = function(sinks)
         return leads.only_to(source, sinks)
      end,
   })
   return add(source, spec, called, letters)
end

-- The fields of what a script gives. Raises unless they are known and of the right types, as far as
-- the functions above do not check them.
local function read_spec(given)
   check.type("pgcdc.source: its argument", given, "table")
   local spec = check.taken("pgcdc.source", given, fields)
   if spec.kafka ~= nil then
      return spec
   elseif spec.table == nil then
      check.fail("pgcdc.source: table is required")
   end
   for _, field in ipairs { "where", "soft_delete" } do
      if spec[field] ~= nil then
         check.text("pgcdc.source: " .. field, spec[field])
      end
   end
   if spec.capture ~= nil then
      check.one_of("pgcdc.source: capture", spec.capture, captures)
   end
   if spec.rls ~= nil then
      check.type("pgcdc.source: rls", spec.rls, "boolean")
   end
   if spec.on_change ~= nil then
      check.type("pgcdc.source: on_change", spec.on_change, "function")
   end
   return spec
end

--- Declares a source and returns it. `spec`: its fields, see lua/README.md.
function Source.declare(spec)
   spec = read_spec(spec)
   if spec.kafka ~= nil then
      return declare_topics(spec)
   end
   local min, max = options.interval(spec.interval)
   local has_deletes, check_interval = options.deletes(spec.deletes)
   local capture = spec.capture or "xmin"
   if has_deletes and capture == "increment" then
      check.fail('pgcdc.source: deletes is for captures that tell them: "xmin" and "trigger"')
   end
   -- triggers and the log tell deletes by themselves
   local keeps_keys = has_deletes and capture == "xmin"
   local column, lookback, recheck = options.increment(spec)
   local log = options.logical(spec)
   local full_name = check.table_name("pgcdc.source: table", spec.table)
   local unit = unit_of(spec, full_name)
   local source = setmetatable(stream.node("source"), Source)
   source.policy = on_error.policy(spec.on_error)
   source.patience = 2 * check_interval -- seconds in which a delete may come later than its rows
   local letters
   source.dead_letter, letters = dead_letter.node(spec.dead_letter, source.policy,
      spec.name or full_name)
   source.number = raw.declare {
      table = full_name,
      pk = check.names("pgcdc.source: pk", spec.pk),
      columns = check.names("pgcdc.source: columns", spec.columns),
      interval_min = min,
      interval_max = max,
      connect = conninfo.text("pgcdc.source: connect", spec.connect),
      name = name(spec.name),
      start = options.start(spec.start),
      where = spec.where,
      soft_delete = spec.soft_delete,
      capture = spec.capture,
      slot = log.slot,
      publication = log.publication,
      max_retained = log.max_retained or 0,
      on_full = log.on_full,
      failover = log.failover or false,
      slot_connect = log.slot_connect,
      toast = log.toast,
      column = column,
      lookback = lookback,
      recheck = recheck,
      rls = spec.rls or false,
      hints = options.hints(spec.hints, capture),
      quiet = options.quiet(spec.quiet, capture, min),
      max_load = options.max_load(spec.max_load),
      parallel = options.parallel(spec.parallel, capture),
      readers = options.readers(spec.readers),
      connections = options.connections(spec.connections),
      deletes = keeps_keys,
      counts_first = spec.deletes ~= false and capture == "logical"
         and options.start(spec.start) == "snapshot",
      check_interval = check_interval,
      old = options.with_deletes("old", spec.old, has_deletes, capture),
      skip_unchanged = options.with_deletes("skip_unchanged", spec.skip_unchanged, has_deletes,
         capture),
      unit = unit and (unit.members[1] or "its own"),
   }
   if unit then
      join(unit, source)
   end
   if capture == "logical" then
      share_log(conninfo.text("pgcdc.source: connect", spec.connect), log.slot, source)
   end
   feeds.declare(source.number, {
      deletes = has_deletes or capture == "trigger" or capture == "logical",
      old = spec.old or spec.soft_delete ~= nil,
      spec = spec, table = full_name, interval = min, max_load = options.max_load(spec.max_load),
      capture = capture, starts_with_snapshot = options.start(spec.start) == "snapshot",
      leads_to = function(sinks)
         return leads.only_to(source, sinks)
      end,
   })
   source.capture = capture
   return add(source, spec, spec.name or full_name, letters)
end

return Source
