-- pgcdc.testing.run: drives a world as the host does: changes, the end of batches, time, crashes.
-- SPDX-License-Identifier: MIT
--
--    run:feed("orders", {...})   one poll: a batch, delivered, and saved unless it is held back
--    run:advance(60)             timers, windows, retries
--    run:crash()                 what was not saved is lost
--    run:restart()               the script is loaded again; what was not saved comes again
--
-- A position is the number of the last batch that is saved whole. Everything that was fed is kept,
-- so that it can come again.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local strict = require "pgcdc.strict"
local recording = require "pgcdc.testing.recording"
local world = require "pgcdc.testing.world"

local FIRST_XID = 1000
local FIRST_CLOCK = 1000 -- seconds
local MOST_STEPS = 100000 -- of one `advance`: an endless chain of timers

local Run = strict.class("method of a run", {})
Run.__index = Run
Run.__name = "pgcdc.testing.run"

-- ---- what waits ----

-- The sources that are one group with this one, as a set of numbers.
local function members_of(self, source)
   local members = {}
   for _, other in ipairs(self.world.sources) do
      if other.group == source.group then
         members[other.number] = true
      end
   end
   return members
end

-- True if a batch of the source has begun and has not ended.
local function is_amid(source)
   return source.batch ~= nil and source.done < source.batch.count
end

-- The positions of these sources, and true if they can be told: none is in the middle of a batch.
local function positions_of(self, members)
   local positions, is_known = {}, true
   for number in pairs(members) do
      local source = self.world.sources[number]
      if source.ended > source.saved then
         positions[number] = { text = tostring(source.ended), last_change = source.ended }
      end
      is_known = is_known and not is_amid(source)
   end
   return positions, is_known
end

-- Saves what can be saved of the group of a source. Returns false if that is to be done again.
local function save(self, source, is_moment)
   local members = members_of(self, source)
   local positions, is_known = positions_of(self, members)
   local ended = {}
   for number in pairs(members) do
      ended[number] = self.world.sources[number].ended
   end
   local is_done, is_taken = self.world.hooks.checkpoint(source.number,
      is_known and positions or nil, members, is_moment)
   if is_taken then
      for number, batch in pairs(ended) do
         local other = self.world.sources[number]
         for i = self.forgets and other.saved + 1 or batch + 1, batch do
            self.batches[other.name][i] = false
         end
         other.saved = batch
      end
   end
   return is_done
end

-- ---- delivery ----

-- Tells the script which columns changes of a class have, if others came before.
local function announce(source, class)
   if class and class ~= source.class then
      source.class = class
      source.handlers.columns(raw.recorded_example(class))
   end
end

-- Tells the script an event in the middle of a batch.
local function tell(hooks, source, batch, item)
   local f = source.handlers[item.event]
   if f then
      hooks.leave()
      f(item.facts)
      hooks.enter(source.number, batch.number, false)
   end
end

-- Gives the next thing of the batch in hand to the script. Returns true if that wants it again.
local function deliver_item(hooks, source, batch)
   local place = source.done + 1
   if not source.item or source.item.place ~= place then
      local change, event, facts = batch.make(place)
      source.item = { place = place, change = change, event = event, facts = facts }
   end
   local item = source.item
   if item.event then
      tell(hooks, source, batch, item)
      return false
   end
   announce(source, batch.class and batch.class(place))
   local f = source.handlers[item.change.op]
   return f and rawequal(f(item.change), raw.again)
end

-- Gives the rest of the batch in hand to the script, up to where the source is paused.
local function deliver(self, source)
   local batch, hooks = source.batch, self.world.hooks
   hooks.enter(source.number, batch.number, source.done < batch.count)
   while source.done < batch.count and source.pauses <= 0 do
      if deliver_item(hooks, source, batch) then
         break
      end
      source.done = source.done + 1
   end
   if source.done == batch.count then
      source.item = nil
   end
   hooks.leave()
end

-- The batch in hand was delivered whole: tells that, and saves.
local function finish_batch(self, source)
   local batch = source.batch
   if not source.is_saving then
      if batch.count > 0 and source.handlers.batch then
         source.handlers.batch { source = source.name, count = batch.n_changes }
      end
      source.ended, source.is_saving = batch.number, true
   end
   if save(self, source, true) then
      source.batch, source.is_saving = nil, false
   end
end

-- Tells that the first read of a source is over, once.
local function become_ready(self, source)
   if not source.is_ready then
      source.is_ready = true
      self.world.hooks.ready(source.number, 0)
      if source.handlers.ready then
         source.handlers.ready { source = source.name }
      end
   end
end

-- What was fed, as a batch: {number =, count =, n_changes = those of them that are no events,
-- make = function(place) -> change, or nil, an event and its facts; class = function(place) ->
-- class of a recorded change, or nil}.
local function batch_of(self, fed)
   local batch = { number = fed.number, count = #(fed.specs or fed.items or {}) }
   batch.n_changes = fed.n_changes or batch.count
   if fed.items then
      batch.make = function(place)
         return recording.item(fed.items[place])
      end
      batch.class = function(place)
         return fed.items[place].class
      end
   else
      batch.make = function(place)
         return self.world.pgcdc.change(fed.specs[place])
      end
   end
   return batch
end

-- Does one thing for a source. Returns false where nothing can be done.
local function go_on(self, source)
   if source.pauses > 0 or self.world.is_stopping then
      return false
   end
   if not source.batch then
      local fed = self.batches[source.name] or {}
      local batch = fed[source.ended + 1]
      if not batch then
         return false
      elseif batch.is_ready then
         become_ready(self, source)
      end
      source.batch, source.done = batch_of(self, batch), 0
   end
   if is_amid(source) then
      deliver(self, source)
      return not is_amid(source)
   end
   finish_batch(self, source)
   return source.batch == nil
end

-- Runs timers and all that can be done now. Returns the seconds until the next timer, or nil.
local function settle(self)
   local w = self.world
   for _ = 1, MOST_STEPS do
      local seconds, _, has_released, is_due = w.hooks.timers()
      local has_moved = false
      if has_released and w.is_held_back or is_due or w.wants_flush or w.is_due then
         w.wants_flush, w.is_due = false, false
         for _, source in ipairs(w.sources) do
            if source.group == source.number then
               w.is_due = not (source.pauses <= 0 and save(self, source, false)) or w.is_due
            end
         end
         has_moved = not w.is_due
      end
      for _, source in ipairs(w.sources) do
         has_moved = go_on(self, source) or has_moved
      end
      if not has_moved then
         return seconds
      end
   end
   error("the script never comes to rest", 0)
end

-- Calls f(self, ...); a failure that would have ended the program ends the run.
local function guarded(self, f, ...)
   if not self.world then
      error("pgcdc.testing: the run has ended: restart() begins it again", 3)
   end
   local ok, result = raw.try(raw.explain, f, self, ...)
   if not ok then
      self.world = nil
      error(result, 0)
   end
   return result
end

-- ---- a start ----

-- Where the source goes on: after the batch that is saved.
local function restore(self, source)
   local saved = (self.records.position or {})[source.name]
   source.saved = saved and tonumber(saved[""]) or 0
   source.ended, source.done = source.saved, 0
   source.is_ready = self.is_ready[source.name] and source.saved >= self.is_ready[source.name]
   self.world.hooks.resolved(source.number)
   if not saved then
      self.world.hooks.reading(source.number)
   end
end

local function start(self)
   self.world = world.open { path = self.path, words = self.words, records = self.records,
                             targets = self.targets, clock = self.clock, connect = self.connect,
                             log = self.messages, output = self.printed, epoch = self.epoch,
                             shows = self.shows }
   self.world.hooks.wire()
   self.world.hooks.start()
   for number, source in ipairs(self.world.sources) do
      source.name = self.names[number] or source.name
      restore(self, source)
   end
   settle(self)
end

-- A list of NAME=VALUE of a table of options.
local function words_of(options)
   local words = {}
   for name, value in pairs(options or {}) do
      check.type("pgcdc.testing.script: the name of an option", name, "string")
      words[#words + 1] = ("%s=%s"):format(name, tostring(value))
   end
   table.sort(words)
   return words
end

local services = { connect = true }

local run = {}

--- Starts a run of a script. `facts`: {path = its file, words = list of NAME=VALUE, connect = as in
--- `script`, epoch =, shows = as world.open takes them, forgets = true: what is saved is not kept,
--- so that the run cannot begin again; or nil each}. Returns the run.
function run.start(facts)
   local self = setmetatable({ path = facts.path, words = facts.words, records = {}, targets = {},
                               clock = FIRST_CLOCK, connect = facts.connect or false, batches = {},
                               epoch = facts.epoch or false, shows = facts.shows or false,
                               forgets = facts.forgets or false, is_ready = {}, xid = FIRST_XID,
                               seq = 0, messages = {}, printed = {}, world = false,
                               recorded_at = false, names = {} }, Run)
   local ok, why = raw.try(raw.explain, start, self)
   if not ok then
      error(why, 0)
   end
   return self
end

--- Loads a script. `options`: its NAME=VALUE words as a table, or nil. `given`: {connect =
--- function(conninfo) -> what stands for the connection}, or nil. Returns the run.
function run.script(path, options, given)
   check.text("pgcdc.testing.script: the path", path)
   given = check.taken("pgcdc.testing.script", given or {}, services)
   path = world.find(path) or check.fail(
      "pgcdc.testing.script: there is no script %s, here or among the bundled ones", path)
   return run.start { path = path, words = words_of(options), connect = given.connect }
end

-- ---- what a test does ----

-- The source with this name or table; nil: the only one.
local function source_of(self, name)
   local sources, names = self.world.sources, {}
   if name == nil and #sources == 1 then
      return sources[1]
   end
   for i, source in ipairs(sources) do
      if source.name == name or source.table == name then
         return source
      end
      names[i] = source.name
   end
   check.fail("pgcdc.testing: %s%s", name == nil and "the script has several sources: name one"
      or ("the script has no source '%s'"):format(tostring(name)),
      "; there are: " .. table.concat(names, ", "))
end

-- The names of a table: "sales.orders" as schema and name.
local function table_of(source)
   local schema, name = source.table:match '^"?([^".]+)"?%."?([^".]+)"?$'
   return schema or "public", name or source.table:gsub('"', "")
end

-- The key of a row, by the columns that the source names, or `id`.
local function key_of(source, spec)
   local from, key = spec.row or spec.old, {}
   if not from then
      check.fail("run:feed: a change needs a row, an old row or a key")
   end
   for _, name in ipairs(source.pk or { "id" }) do
      if from[name] == nil then
         check.fail("run:feed: the key of a change of %s is not known: its row has no '%s'; give"
            .. " key = {...}, or the source pk = ...", source.name, name)
      end
      key[name] = from[name]
   end
   return key
end

-- What pgcdc.change takes, of what a test feeds.
local function complete(self, source, given)
   local spec = {}
   check.type("run:feed: a change", given, "table")
   for name, value in pairs(given) do
      spec[name] = value
   end
   local schema, name = table_of(source)
   self.seq = self.seq + 1
   spec.op = spec.op or "upsert"
   spec.schema, spec.table = spec.schema or schema, spec.table or name
   spec.source, spec.database = spec.source or source.name, spec.database or "test"
   spec.key = spec.key or key_of(source, spec)
   spec.xid, spec.seq = spec.xid or self.xid, spec.seq or self.seq
   spec.ts = spec.ts or os.date("!%Y-%m-%dT%H:%M:%S.000000Z", self.world.clock // 1 | 0)
   if spec.op == "delete" and spec.row then
      check.fail("run:feed: a delete has a key and an old row, and no row")
   end
   return spec
end

-- Appends to what was fed of a source.
local function add(self, source, batch)
   local fed = self.batches[source.name] or {}
   self.batches[source.name] = fed
   batch.number = #fed + 1
   fed[#fed + 1] = batch
end

local function feed(self, name, ...)
   local source = source_of(self, name)
   local specs, has_new = {}, false
   for i, given in ipairs { ... } do
      specs[i] = complete(self, source, given)
      has_new = has_new or specs[i].op ~= "read"
   end
   self.xid = self.xid + 1
   if has_new and not self.is_ready[source.name] then
      self:ready(source.name)
   end
   if #specs > 0 then
      add(self, source, { specs = specs })
   end
   settle(self)
end

--- One poll of a source (its name, or its table): these changes, tables with op, row, old, key.
--- The op is "upsert" where none is given, the key that of the source's `pk`, or `id`. Raises what
--- would have ended the program.
function Run:feed(name, ...)
   guarded(self, feed, name, ...)
end

local function ready(self, name)
   local source = source_of(self, name)
   if not self.is_ready[source.name] then
      add(self, source, { is_ready = true })
      self.is_ready[source.name] = #self.batches[source.name]
      settle(self)
   end
end

--- The first read of a source is over. (Before the first change that is no `read`, that is so by
--- itself.)
function Run:ready(name)
   guarded(self, ready, name)
end

local function advance(self, seconds)
   local w = self.world
   local till = w.clock + seconds
   for _ = 1, MOST_STEPS do
      local wait = settle(self)
      if not wait or w.clock + wait > till then
         w.clock = till
         settle(self)
         self.clock = till
         return
      end
      w.clock = w.clock + math.max(wait, 1e-6)
   end
   error("the script sets timers without end", 0)
end

-- Gives a source the name that it had where it was recorded, unless something was fed already.
local function rename(self, source, name)
   if not self.batches[source.name] then
      self.names[source.number] = name
      source.name = name
   end
   return source
end

-- The source that a step of a recording is of: by its name, else by its table; nil: there is none.
local function recorded_source(self, step)
   for _, source in ipairs(self.world.sources) do
      if source.name == step.source then
         return source
      end
   end
   for _, source in ipairs(self.world.sources) do
      local schema, name = table_of(source)
      local has_schema = source.table:find(".", 1, true)
      if name == step.table and (not has_schema or schema == step.schema)
         or step.source == source.table or step.source == ("%s.%s"):format(schema, name) then
         return rename(self, source, step.source)
      end
   end
end

-- Moves the clock to the time of a step, by the hour: a timer may run often meanwhile. While the
-- program did not run no time passes.
local function follow_clock(self, step)
   local seconds = not step.begins and self.recorded_at and step.at - self.recorded_at or 0
   self.recorded_at = math.max(step.at, self.recorded_at or step.at)
   while seconds > 0 do
      self:advance(math.min(seconds, 3600))
      seconds = seconds - 3600
   end
end

--- Feeds a step of a recording (see testing/recording). Returns false if the script has no source
--- for it.
function Run:take(step)
   follow_clock(self, step)
   local source = recorded_source(self, step)
   if not source then
      return false
   elseif step.is_ready then
      self:ready(source.name)
      return true
   end
   local n = 0
   for _, item in ipairs(step.items) do
      n = n + (item.line and 1 or 0)
   end
   add(self, source, { items = step.items, n_changes = n })
   guarded(self, settle)
   return true
end

--- Feeds all that was recorded by --record, at the times at which it came.
function Run:replay(path)
   check.text("run:replay: the file", path)
   for step in recording.steps(path) do
      if not self:take(step) then
         check.fail("run:replay: the script has no source for %s, which %s has", step.source, path)
      end
   end
end

--- Moves the clock, and runs what is due on the way: timers, windows, further tries.
function Run:advance(seconds)
   check.seconds("run:advance", seconds, 0)
   guarded(self, advance, seconds)
end

--- The program is killed: what was not saved is lost. `restart` begins it again.
function Run:crash()
   if self.world then
      self.clock = self.world.clock
   end
   self.world = nil
end

--- Loads the script again, as it is now. It goes on from what was saved; what was fed since comes
--- again.
function Run:restart()
   self:crash()
   local ok, why = raw.try(raw.explain, start, self)
   if not ok then
      self.world = nil
      error(why, 0)
   end
end

local function stop(self)
   local hooks = self.world.hooks
   settle(self)
   hooks.last()
   for _, source in ipairs(self.world.sources) do
      if source.group == source.number then
         save(self, source, false)
      end
   end
   hooks.finish()
end

--- The program is asked to stop, as by SIGTERM, and ends in good order.
function Run:stop()
   guarded(self, stop)
   self:crash()
end

-- The target of a sink, by its name or the end of it.
local function target_of(self, name)
   check.text("pgcdc.testing: the name of a sink", name)
   local found, names = self.targets[name], {}
   for known, target in pairs(self.targets) do
      names[#names + 1] = known
      if not found and known:sub(-#name) == name
         and known:sub(-#name - 1, -#name - 1):find "[ /]" then
         found = target
      end
   end
   table.sort(names)
   if not found then
      check.fail("pgcdc.testing: the script has no sink '%s'; there are: %s", name,
         table.concat(names, ", "))
   end
   return found
end

--- What a sink has got: a list of values, of changes {op =, table =, key =, row =, old =}. `name`:
--- the sink's name, or the end of its name, such as that of a file.
function Run:sink(name)
   local list = {}
   for i, value in ipairs(target_of(self, name).values) do
      list[i] = value
   end
   return list
end

--- The next `times` flushes of a sink fail, as those of a target that is away.
function Run:fail(name, times)
   target_of(self, name).failures = check.count("run:fail: how often", times, 0)
end

--- From now on a sink refuses values for ever: those for which `f(value)` returns why.
function Run:refuse(name, f)
   target_of(self, name).refuses = check.type("run:refuse: its function", f, "function")
end

--- What the script has printed: a list of lines.
function Run:output()
   return { table.unpack(self.printed) }
end

--- What the script and the program have logged: a list of {level =, message =, fields =}.
function Run:log()
   return { table.unpack(self.messages) }
end

--- The exit status that the script asked for by pgcdc.stop; nil: it runs.
function Run:status()
   return self.world and self.world.status
end

return run
