-- pgcdc.sinks.postgres.sink: changes into a table of a Postgres database, exactly once.
-- SPDX-License-Identifier: MIT
--
-- Rows are kept as the lines of a COPY until `flush`, which is one transaction: it writes them to
-- the table, and the savepoint to pgcdc.position in the same database. Rows of a transaction that
-- failed are kept until one with the same rows is committed. Where the answer to a COMMIT was lost,
-- the token in pgcdc.position says whether it was committed.
--
-- Sinks with the same target can share a transaction, see `flush_together`.
--
-- Rows with other columns (of another source, or after an ALTER TABLE) have a layout of their own
-- (see layout). Layouts are written in the order in which each was first used.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local feeds = require "pgcdc.delivery.feeds"
local counts = require "pgcdc.sinks.counts"
local lineage = require "pgcdc.delivery.lineage"
local participants = require "pgcdc.delivery.participants"
local seal = require "pgcdc.seal"
local new_connection = require "pgcdc.sinks.postgres.target_connection"
local postgres_advice = require "pgcdc.sinks.postgres.advice"
local postgres_apply = require "pgcdc.sinks.postgres.apply"
local postgres_blame = require "pgcdc.sinks.postgres.blame"
local early = require "pgcdc.sinks.postgres.early"
local own_rows = require "pgcdc.sinks.postgres.own_rows"
local postgres_layout = require "pgcdc.sinks.postgres.layout"
local postgres_orphans = require "pgcdc.sinks.postgres.orphans"
local postgres_partial = require "pgcdc.sinks.postgres.partial"
local postgres_refusal = require "pgcdc.sinks.postgres.refusal"
local postgres_spec = require "pgcdc.sinks.postgres.spec"

-- connection -> transfers whose transaction failed, or may have failed, the oldest first.
local tried = setmetatable({}, { __mode = "k" })

local Sink = {}
Sink.__index = Sink
Sink.__name = "pgcdc.sinks.postgres"
seal.sink(Sink, Sink.__name)

--- Logs a message that names the sink.
function Sink:log(level, message)
   if self.is_trying and level == "info" then -- what is done is undone
      return
   end
   raw.log(level, message, { sink = self.name })
end

--- The savepoint that was stored last, as text, or nil.
function Sink:recall()
   early.leave(self)
   return self.connection:attempt(self.name, function()
      self.connection:connect()
      local savepoint = self.connection:recall(self.name)
      if self.orphans then
         self.orphans:load()
      end
      return savepoint
   end)
end

-- ---- readings, see feeds ----

function Sink:begin_reading(source)
   self.orphans:begin_reading(source, self.seal_count)
end

function Sink:empty(source)
   self.orphans:empty(source, self:seal())
end

function Sink:owes()
   return self.orphans:owes()
end

function Sink:wants_reading(source)
   return self.orphans:wants_reading(source)
end

-- ---- taking changes ----

--- A source whose values come to the sink reads this table (see feeds): the sink refuses to write
--- there. Returns true if that was not known.
function Sink:add_table(read)
   local known = self.reads[read.id]
   if known and known.started == read.started then
      return false
   end
   self.reads[read.id], self.reads_checked = read, nil
   return true
end

-- Raises an error if deletes will come and not tell the whole key.
local function check_key_of_deletes(self, mapping)
   local batch = lineage.live
   local facts = batch and feeds.facts(batch.source)
   if not facts or not facts.deletes or facts.old or self.mode == "append"
      or not feeds.passes_all(self) then
      return
   end
   for _, column in ipairs(mapping.key) do
      if not column.key then
         error(("a delete of %s will not tell its '%s', which is in pk: %s"):format(
            raw.source_name(batch.source), column.name, facts.capture == "trigger"
            and 'triggers know only the key of a deleted row; capture = "xmin" with deletes = true,'
               .. " old = true knows all of it" or "say old = true in its source"), 0)
      end
   end
end

-- Makes the mapping of changes like this one. `before`: the one that they had until now, or nil.
local function make_mapping(self, change, before)
   local mapping = postgres_layout.map(self, self.layouts, change, before)
   check_key_of_deletes(self, mapping)
   self.mappings[getmetatable(change)] = mapping
   return mapping
end

-- From now on changes are given to the plan of this mapping first: those that come next are
-- probably like this one.
local function use(self, mapping)
   local layout = mapping.layout
   if not layout.is_used then
      layout.is_used, layout.order = true, #self.used + 1
      self.used[layout.order] = layout
   end
   self.plan = not self.last_of_key and mapping.plan or nil
end

-- Raises an error if a delete does not tell the whole key.
local function check_deleted_key(mapping, change)
   for _, column in ipairs(mapping.key) do
      if raw.get(change.key, column.name) == nil
         and (not change.old or raw.get(change.old, column.name) == nil) then
         error(("a delete does not tell its '%s', which is in pk: with old = true its source keeps"
            .. " the rows to know it by (those that were read before need a --reset)"):format(
            column.name), 0)
      end
   end
end

local function ignore_delete(self)
   self.ignored = self.ignored + 1
   if self.ignored == 1 then
      self:log("warn", "deletes are not appended; this is the first one")
   end
end

local function take_delete(self, mapping, change)
   if self.mode == "append" then
      return ignore_delete(self)
   end
   check_deleted_key(mapping, change)
   if self.mode == "history" then
      mapping.plan:add_delete(change)
   else
      mapping.delete_plan:add_delete(change, (mapping.layout.lines:count()))
   end
end

-- The mapping for the columns that a change has.
local function mapping_of(self, change, mapping)
   use(self, mapping) -- the target is to have all columns
   if change.op == "delete" or not change.unchanged then
      return mapping
   end
   local part = postgres_partial.of(self, change, mapping)
   postgres_partial.begin(self)
   use(self, part)
   return part
end

-- The same, so that what is written comes after what came of its key before.
local function mapping_in_order(self, change, mapping)
   local part = mapping_of(self, change, mapping)
   if not postgres_partial.is_in_order(self, change, mapping, part.layout) then
      self.mappings, self.layouts = {}, {}
      mapping = make_mapping(self, change, mapping)
      part = mapping_of(self, change, mapping)
      assert(postgres_partial.is_in_order(self, change, mapping, part.layout))
   end
   return part
end

-- Takes a change that the plan in hand cannot take.
local function write_slowly(self, change)
   local mapping = self.mappings[getmetatable(change)]
   if not mapping or mapping.n_assigned ~= self.n_assigned then
      mapping = make_mapping(self, change, mapping)
   end
   local part = mapping_in_order(self, change, mapping)
   if change.op == "delete" then
      return take_delete(self, part, change)
   end
   if not part.plan:add(change) then
      mapping = make_mapping(self, change, mapping)
      part = mapping_in_order(self, change, mapping)
      assert(part.plan:add(change), "a change cannot be written")
   end
end

-- Takes a row of the script's own, or a change that it made.
local function write_own(self, value)
   if lineage.current ~= self.origin then
      self.origin = lineage.current
      for _, read in ipairs(feeds.tables_of(self.origin)) do
         self:add_table(read)
      end
   end
   own_rows.write(self, value, function(layout)
      use(self, { layout = layout })
   end, function()
      ignore_delete(self)
   end)
end

--- Takes a change, or a row, a table with named fields. The next `flush` writes it to the target.
function Sink:write(value)
   if not rawequal(participants.in_sink, self) then
      feeds.set_by_hand(self)
   end
   participants.touch(self.participant)
   local taken = self.counts.taken + 1
   self.counts.taken = taken
   local plan = self.plan
   if plan and plan:add(value) then
      if taken >= self.early_at then
         early.send(self, #tried[self.connection] > 0)
      end
      return
   end
   if type(value) ~= "table" then
      check.fail("pgcdc.sinks.postgres: it takes changes and tables with named fields, not a %s",
         type(value))
   end
   local write = own_rows.takes(self, value) and write_own or write_slowly
   local ok, problem = pcall(write, self, value)
   if not ok then
      check.fail("%s: %s", self.name, tostring(problem))
   end
end

--- Changes like this one, whose values do not count, are to come from the source of this number:
--- the next `flush` makes the target ready for them, or fails.
function Sink:expect(example, source)
   if self.own or not raw.is_change(example) or self.mappings[getmetatable(example)] then
      return
   end
   local ok, mapping = pcall(make_mapping, self, example) -- what fails will fail with a change, too
   self.misfit = not ok and mapping or nil
   if ok then
      participants.attach(self.participant, source)
      participants.set_dirty(self.participant)
      use(self, mapping)
   end
end

-- Changes that come from now on are kept apart from those that were taken so far.
local function detach(self)
   self.mappings, self.layouts, self.used, self.plan = {}, {}, {}, nil
   postgres_partial.finish(self)
end

-- ---- flush ----

--- From now on what was taken so far can be flushed alone. Returns the number of the seal, for
--- `flush`.
function Sink:seal()
   self.sealed[#self.sealed + 1] = { layouts = self.used, number = self.seal_count + 1 }
   self.seal_count = self.seal_count + 1
   self.counts.at[self.seal_count] = self.counts.taken
   detach(self)
   return self.seal_count
end

-- Takes all layouts that were sealed up to this number, or all there are. Returns them, and the
-- seals.
local function take_layouts(self, upto)
   local layouts, taken, left = {}, {}, {}
   for _, part in ipairs(self.sealed) do
      if not upto or part.number <= upto then
         table.move(part.layouts, 1, #part.layouts, #layouts + 1, layouts)
         taken[#taken + 1] = part
      else
         left[#left + 1] = part
      end
   end
   self.sealed = left
   if not upto then
      table.move(self.used, 1, #self.used, #layouts + 1, layouts)
   end
   return layouts, taken
end

-- If `problem` is that a constraint forbade the transfer, for now or in this order, undoes it, and
-- returns true.
local function undo_refused(connection, transfer, problem)
   return postgres_refusal.may_pass(transfer, problem) and connection:undo_refused(problem)
end

-- Writes a transfer to the target, all or nothing. Its rows are dropped when it is committed.
-- `sent`: what early.take returned, or nil.
local function commit(connection, transfer, sent)
   local function write(is_staged)
      connection:commit(transfer.names, transfer.token, transfer.savepoint, function()
         postgres_apply.refuse_loops(connection, transfer)
         postgres_orphans.begin(transfer)
         local ok, problem
         if sent and not is_staged then
            ok, problem = pcall(early.finish, transfer[1].sink, sent)
         else
            ok, problem = pcall(postgres_apply.transfer, connection, transfer, is_staged)
         end
         if not ok then
            postgres_refusal.explain(transfer, problem)
            error(problem, 0)
         end
         postgres_orphans.finish(transfer)
      end, sent and not is_staged)
   end
   local ok, problem = pcall(write, false)
   if not ok and undo_refused(connection, transfer, problem) then
      write(true)
   elseif not ok then
      error(problem, 0)
   end
   postgres_orphans.committed(transfer)
   for _, part in ipairs(transfer) do
      for _, layout in ipairs(part.layouts) do
         connection:set_written(part.sink.name)
         layout.lines:clear()
         if layout.deletes then
            layout.deletes:clear()
         end
         layout.is_used = nil
      end
   end
end

-- Makes a transfer, which is what one transaction writes: a list of {sink =, layouts =, sealed =
-- the seals among them, is_all = no seal limits it, and what orphans add}, with the fields
-- savepoint (text or nil), token and names (of the sinks).
local function new_transfer(connection, parts, savepoint)
   local transfer = { savepoint = savepoint, token = connection.new_token(), names = {} }
   for i, part in ipairs(parts) do
      transfer.names[i] = part.sink.name
      local layouts, sealed = take_layouts(part.sink, part.upto)
      transfer[i] = { sink = part.sink, layouts = layouts, sealed = sealed,
                      is_all = not part.upto }
      if part.sink.orphans then
         part.sink.orphans:plan(transfer[i], part.upto)
      end
   end
   table.sort(transfer.names) -- the order in which rows are locked
   return transfer
end

-- True if the transfer is about one of these sinks.
local function concerns(transfer, parts)
   for _, part in ipairs(parts) do
      for _, name in ipairs(transfer.names) do
         if name == part.sink.name then
            return true
         end
      end
   end
   return false
end

-- A transfer was refused, and undone: its sealed rows are to be taken again before all others.
local function give_back(transfer)
   for _, part in ipairs(transfer) do
      local sealed = part.sealed
      table.move(part.sink.sealed, 1, #part.sink.sealed, #sealed + 1, sealed)
      part.sink.sealed = sealed
      if part.sink.orphans then
         part.sink.orphans:give_back(part)
      end
   end
end

-- A transfer failed with `problem`. If that is because of single rows, undoes it, takes these out,
-- and returns them. Otherwise returns nil and the problem.
local function find_blamed(connection, transfer, problem)
   if not postgres_blame.may_find(problem) then
      return nil, problem
   end
   local ok, list = pcall(postgres_blame.find, connection, transfer, problem)
   return ok and list or nil, ok and problem or list
end

-- Writes the transfers again that failed and concern these sinks. They come before anything newer,
-- since each has its own savepoint and is perhaps committed. What is refused now is not committed,
-- so its rows go with what is newer.
local function commit_tried(connection, parts)
   local i, transfers = 1, tried[connection]
   while i <= #transfers do
      if concerns(transfers[i], parts) then
         local ok, problem = pcall(commit, connection, transfers[i])
         local list
         if not ok and not undo_refused(connection, transfers[i], problem) then
            list, problem = find_blamed(connection, transfers[i], problem)
            if not list then
               error(problem, 0)
            end
         end
         for _, part in ipairs(not ok and transfers[i] or {}) do
            part.sealed = { { layouts = part.layouts, number = 0 } }
         end
         if not ok then
            give_back(transfers[i])
         end
         table.remove(transfers, i)
         if list then
            error(participants.refused(list), 0)
         end
      else
         i = i + 1
      end
   end
end

local function has_work(transfer)
   for _, part in ipairs(transfer) do
      if #part.layouts > 0 or part.ends_reading or part.begins and #part.begins > 0
         or next(part.sink.reads) and not part.sink.reads_checked then
         return true
      end
   end
   return false
end

--- Flushes several sinks whose `together` is the same, in one transaction: `parts` is a list of
--- {sink =, upto = number of a seal, or nil for everything}.
function Sink:flush_together(savepoint, parts)
   local connection, began = self.connection, raw.now()
   connection:attempt(self.name, function()
      commit_tried(connection, parts)
      local transfer = new_transfer(connection, parts, savepoint)
      local sent = early.take(transfer[1].sink, transfer)
      if not has_work(transfer) and savepoint == nil then
         return
      end
      transfer.token = sent and sent.token or transfer.token
      local ok, problem = pcall(commit, connection, transfer, sent)
      if not ok and undo_refused(connection, transfer, problem) then
         give_back(transfer)
         postgres_refusal.raise(connection, transfer, problem)
      elseif not ok then
         local list
         list, problem = find_blamed(connection, transfer, problem)
         if list then
            give_back(transfer)
            error(participants.refused(list), 0)
         end
      end
      for _, part in ipairs(transfer) do
         if part.is_all and ok then
            part.sink.used, part.sink.plan = {}, nil
            postgres_partial.finish(part.sink)
         elseif part.is_all then
            detach(part.sink)
         end
      end
      if not ok then
         table.insert(tried[connection], transfer)
         error(problem, 0)
      end
   end)
   for _, part in ipairs(parts) do
      counts.done(part.sink.counts, part.upto)
      part.sink.counts.flush_seconds = raw.now() - began
   end
end

--- Writes everything that was taken, or what was taken before the seal of that number, to the
--- target. `savepoint`, text or nil, is stored in the same transaction.
function Sink:flush(savepoint, upto)
   self:flush_together(savepoint, { { sink = self, upto = upto } })
end

function Sink:close()
   early.leave(self)
   self.connection:close()
end

--- What has become of the values. See lua/README.md. Bytes are not counted.
function Sink:stats()
   return counts.stats(self.counts, nil, self.connection.db ~= nil)
end

-- ---- --check ----

-- What --check says of the layouts, in the transaction that is undone.
local function try_layouts(self)
   local text = ("table %s"):format(self.table)
   self.is_trying = true
   for _, layout in ipairs(self.used) do
      local facts = postgres_apply.try_nothing(self, layout)
      text = ("table %s.%s%s"):format(facts.schema, facts.name,
         facts.is_made and ", which would be made"
         or facts.is_altered and ", which would be altered" or "")
   end
   if #self.used == 0 then
      text = text .. ", whose columns are known with the first row"
   end
   return text
end

--- For --check: does in the target what a start would do, and undoes it. Returns a line about it.
--- Ends the program with why the target cannot be used.
function Sink:check()
   local connection, text = self.connection, nil
   local ok, problem = pcall(connection.attempt, connection, self.name, function()
      if self.misfit then
         error(self.misfit, 0)
      end
      connection:try_all(function()
         text = try_layouts(self)
      end)
      text = ("%s, in database %s as role %s"):format(text, connection.db:place())
   end)
   if not ok then
      local knows, mends = pcall(postgres_advice.mends, connection, self.table, tostring(problem))
      self.mends = knows and mends or nil
   end
   connection:close()
   if not ok then
      raw.refuse(tostring(problem))
   end
   return text
end

-- ---- making one ----

--- Makes a sink. `given`: its options, see lua/README.md.
return function(given)
   local spec = postgres_spec.read(given)
   local sink = setmetatable({
      table = spec.table, pk = spec.pk, mode = spec.mode, create = spec.create,
      rename = spec.rename, name = spec.name,
      is_by_key = spec.mode ~= "append", -- a delete of what it does not have does nothing
      mappings = {}, layouts = {}, used = {}, sealed = {}, counts = counts.new(),
      reads = {}, -- table id -> {id =, started =} of the tables that sources read, see add_table
      -- reads_checked: the generation of the connection in which that was last no loop
      -- origin: the last one of a row of a script's own
      assigned = {}, n_assigned = 0, -- columns to which scripts give values, see layout
      seal_count = 0, ignored = 0, early_at = early.ROWS,
      is_direct = true, -- COPY into the table itself was never refused
      promise = { crash = "exactly once", position = "a row, written in the same transaction",
                  order = "the source's" },
   }, Sink)
   sink.connection = new_connection(spec.connect)
   sink.together = sink.connection
   table.insert(sink.connection.sinks, sink)
   sink.orphans = postgres_orphans.new(sink, spec.existing)
   tried[sink.connection] = tried[sink.connection] or {}
   sink.participant = participants.sink(sink)
   sink.participant.about, sink.participant.stats = "postgres", Sink.stats
   if sink.orphans then
      sink.participant.reached = {}
      feeds.watch(sink)
   end
   return sink
end
