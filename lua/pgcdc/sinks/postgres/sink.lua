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
local conninfo = require "pgcdc.postgres.conninfo"
local lineage = require "pgcdc.delivery.lineage"
local participants = require "pgcdc.delivery.participants"
local new_connection = require "pgcdc.sinks.postgres.target_connection"
local postgres_layout = require "pgcdc.sinks.postgres.layout"
local postgres_sql = require "pgcdc.sinks.postgres.sql"
local postgres_target = require "pgcdc.sinks.postgres.target"

local fields = { connect = true, table = true, pk = true, mode = true, create = true,
                 rename = true, name = true }
local modes = { mirror = true, append = true, history = true }

-- SQLSTATEs with which a COPY into the table itself may be refused where an INSERT is not: a key is
-- there already, row-level security, a view.
local refusals = { ["23505"] = true, ["0A000"] = true, ["42809"] = true }

-- "ON CONFLICT DO UPDATE command cannot affect row a second time"
local twice = { ["21000"] = true }

-- connection -> transfers whose transaction failed, or may have failed, the oldest first.
local tried = setmetatable({}, { __mode = "k" })

-- Tokens are made of this name, which no other run has.
local run_name = ("%s-%.6f"):format(tostring({}):match "0x(%x+)" or "", raw.now())
local tokens = 0

local Sink = {}
Sink.__index = Sink
Sink.__name = "pgcdc.sinks.postgres"

-- Returns a function log(level, message) whose messages name the sink.
local function log(self)
   return function(level, message)
      raw.log(level, message, { sink = self.name })
   end
end

--- The savepoint that was stored last, as text, or nil.
function Sink:recall()
   return self.connection:attempt(self.name, function()
      self.connection:connect()
      return self.connection:recall(self.name)
   end)
end

-- ---- taking changes ----

-- Makes the mapping of changes like this one. `before`: the one that they had until now, or nil.
local function make_mapping(self, change, before)
   local mapping = postgres_layout.map(self, self.layouts, change, before)
   self.mappings[getmetatable(change)] = mapping
   return mapping
end

-- From now on changes are given to the plan of this mapping first: those that come next are
-- probably like this one.
local function use(self, mapping)
   local layout = mapping.layout
   if not layout.is_used then
      layout.is_used = true
      self.used[#self.used + 1] = layout
   end
   self.plan = mapping.plan
end

-- Raises an error if a delete does not tell the whole key.
local function check_deleted_key(mapping, change)
   for _, column in ipairs(mapping.key) do
      if change.key[column.name] == nil and (not change.old or change.old[column.name] == nil) then
         error(("a delete does not tell its '%s', which is in pk"):format(column.name), 0)
      end
   end
end

local function take_delete(self, mapping, change)
   if self.mode == "append" then
      self.ignored = self.ignored + 1
      if self.ignored == 1 then
         log(self)("warn", "deletes are not appended; this is the first one")
      end
      return
   end
   check_deleted_key(mapping, change)
   if self.mode == "history" then
      mapping.plan:add_delete(change)
   else
      mapping.delete_plan:add_delete(change, (mapping.layout.lines:count()))
   end
end

-- Takes a change that the plan in hand cannot take.
local function write_slowly(self, change)
   local mapping = self.mappings[getmetatable(change)] or make_mapping(self, change)
   use(self, mapping)
   if change.op == "delete" then
      return take_delete(self, mapping, change)
   end
   if not mapping.plan:add(change) then
      mapping = make_mapping(self, change, mapping)
      use(self, mapping)
      assert(mapping.plan:add(change), "a change cannot be written")
   end
end

--- Takes a change, which the next `flush` writes to the target.
function Sink:write(change)
   participants.touch(self.participant)
   local plan = self.plan
   if plan and plan:add(change) then
      return
   end
   if not raw.is_change(change) then
      check.fail("pgcdc.sinks.postgres: it takes changes, not a %s", type(change))
   end
   local ok, problem = pcall(write_slowly, self, change)
   if not ok then
      check.fail("%s: %s", self.name, tostring(problem))
   end
end

--- Changes like this one, whose values do not count, are to come: the next `flush` makes the target
--- ready for them, or fails.
function Sink:expect(example)
   if not raw.is_change(example) or self.mappings[getmetatable(example)] then
      return
   end
   local ok, mapping = pcall(make_mapping, self, example) -- what fails will fail with a change, too
   if ok then
      participants.attach(self.participant, lineage.live.source)
      participants.set_dirty(self.participant)
      use(self, mapping)
   end
end

-- Changes that come from now on are kept apart from those that were taken so far.
local function detach(self)
   self.mappings, self.layouts, self.used, self.plan = {}, {}, {}, nil
end

-- ---- flush ----

-- Returns the statements for this layout. Makes them anew if what was known of the target is not
-- valid any more.
local function prepare(self, layout)
   local connection = self.connection
   if layout.generation ~= connection.generation then
      local number = connection:next_temporary()
      local facts = postgres_target.prepare(function(...)
         return connection:run(...)
      end, self, layout, "pgcdc_type_" .. number, log(self))
      if facts.is_made and not connection.is_new[self.name] then
         log(self)("warn", "the table was gone from the target, and what had been written to it"
            .. " does not come again by itself: --reset reads the source from the start")
      end
      if facts.is_altered then
         connection.generation = connection.generation + 1
      end
      layout.statements = postgres_sql.build(layout, facts, self.mode, "pgcdc_rows_" .. number)
      layout.generation = connection.generation
   end
   return layout.statements
end

-- Makes a temporary table and writes these lines to it.
local function fill(self, create, copy_sql, lines)
   self.connection:run(create)
   self.connection:copy(copy_sql, lines)
end

local function apply_mirror(self, layout, statements)
   if layout.deletes:count() > 0 then
      fill(self, statements.create_deletes, statements.copy_deletes, layout.deletes)
      self.connection:run(statements.delete)
      self.connection:run(statements.apply_after_deletes)
   elseif not self.connection:try(twice, function() self.connection:run(statements.apply) end) then
      self.connection:run(statements.apply_last)
   end
end

-- Writes rows to the table itself, without a temporary one. Returns false where that is impossible.
local function apply_direct(self, layout, statements)
   local rows, changed = layout.lines:count()
   if not (statements.direct and self.is_direct) or layout.deletes and layout.deletes:count() > 0
      or changed > 0 and self.mode ~= "append" then
      return false
   end
   self.is_direct = rows == 0 or self.connection:try(refusals, function()
      self.connection:copy(statements.direct, layout.lines)
   end)
   return self.is_direct
end

-- Writes the rows of a layout to the target.
local function apply(self, layout)
   local statements = prepare(self, layout)
   if layout.lines:count() == 0 and not (layout.deletes and layout.deletes:count() > 0) then
      return -- it was announced, see Sink:expect
   end
   if apply_direct(self, layout, statements) then
      return
   end
   fill(self, statements.create, statements.copy, layout.lines)
   if self.mode == "mirror" then
      apply_mirror(self, layout, statements)
   else
      if self.mode == "history" then
         self.connection:run(statements.close)
      end
      self.connection:run(statements.apply)
   end
end

--- From now on what was taken so far can be flushed alone. Returns the number of the seal, for
--- `flush`.
function Sink:seal()
   self.sealed[#self.sealed + 1] = { layouts = self.used, number = self.seal_count + 1 }
   self.seal_count = self.seal_count + 1
   detach(self)
   return self.seal_count
end

-- Takes all layouts that were sealed up to this number, or all there are.
local function take_layouts(self, upto)
   local layouts, left = {}, {}
   for _, part in ipairs(self.sealed) do
      if not upto or part.number <= upto then
         table.move(part.layouts, 1, #part.layouts, #layouts + 1, layouts)
      else
         left[#left + 1] = part
      end
   end
   self.sealed = left
   if not upto then
      table.move(self.used, 1, #self.used, #layouts + 1, layouts)
   end
   return layouts
end

-- Writes a transfer to the target, all or nothing. Its rows are dropped when it is committed.
local function commit(connection, transfer)
   connection:commit(transfer.names, transfer.token, transfer.savepoint, function()
      for _, part in ipairs(transfer) do
         connection:set_subject(part.sink.name)
         for _, layout in ipairs(part.layouts) do
            apply(part.sink, layout)
         end
      end
   end)
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

-- Makes a transfer, which is what one transaction writes: a list of {sink =, layouts =, is_all = no
-- seal limits it}, with the fields savepoint (text or nil), token and names (of the sinks).
local function new_transfer(parts, savepoint)
   tokens = tokens + 1
   local token = ("%s-%d"):format(run_name, tokens)
   local transfer = { savepoint = savepoint, token = token, names = {} }
   for i, part in ipairs(parts) do
      transfer.names[i] = part.sink.name
      transfer[i] = { sink = part.sink, layouts = take_layouts(part.sink, part.upto),
                      is_all = not part.upto }
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

-- Writes the transfers again that failed and concern these sinks. They come before anything newer,
-- since each has its own savepoint and is perhaps committed.
local function commit_tried(connection, parts)
   local i, transfers = 1, tried[connection]
   while i <= #transfers do
      if concerns(transfers[i], parts) then
         commit(connection, transfers[i])
         table.remove(transfers, i)
      else
         i = i + 1
      end
   end
end

local function has_rows(transfer)
   for _, part in ipairs(transfer) do
      if #part.layouts > 0 then
         return true
      end
   end
   return false
end

--- Flushes several sinks whose `together` is the same, in one transaction: `parts` is a list of
--- {sink =, upto = number of a seal, or nil for everything}.
function Sink:flush_together(savepoint, parts)
   local connection = self.connection
   connection:attempt(self.name, function()
      commit_tried(connection, parts)
      local transfer = new_transfer(parts, savepoint)
      if not has_rows(transfer) and savepoint == nil then
         return
      end
      local ok, problem = pcall(commit, connection, transfer)
      for _, part in ipairs(transfer) do
         if part.is_all and ok then
            part.sink.used, part.sink.plan = {}, nil
         elseif part.is_all then
            detach(part.sink)
         end
      end
      if not ok then
         table.insert(tried[connection], transfer)
         error(problem, 0)
      end
   end)
end

--- Writes everything that was taken, or what was taken before the seal of that number, to the
--- target. `savepoint`, text or nil, is stored in the same transaction.
function Sink:flush(savepoint, upto)
   self:flush_together(savepoint, { { sink = self, upto = upto } })
end

function Sink:close()
   self.connection:close()
end

-- ---- making one ----

local function read_rename(value)
   local rename = check.type("pgcdc.sinks.postgres: rename", value or {}, "table")
   local taken = {}
   for from, to in pairs(rename) do
      check.text("pgcdc.sinks.postgres: a name in rename", from)
      check.text("pgcdc.sinks.postgres: rename." .. from, to)
      if taken[to] then
         check.fail("pgcdc.sinks.postgres: rename names two columns '%s'", to)
      end
      taken[to] = true
   end
   return rename
end

--- Makes a sink. `spec`: its options, see lua/README.md.
return function(spec)
   local what = "pgcdc.sinks.postgres"
   check.type(what .. ": its argument", spec, "table")
   check.fields(what, spec, fields)
   if spec.table == nil then
      check.fail("%s: table is required", what)
   end
   local mode = spec.mode == nil and "mirror" or spec.mode
   check.one_of(what .. ": mode", mode, modes)
   local create = spec.create == nil or check.type(what .. ": create", spec.create, "boolean")
   local full_name = check.table_name(what .. ": table", spec.table)
   local sink = setmetatable({
      table = full_name,
      pk = check.names(what .. ": pk", spec.pk),
      mode = mode,
      create = create,
      rename = read_rename(spec.rename),
      name = spec.name and check.text(what .. ": name", spec.name) or "postgres " .. full_name,
      mappings = {}, layouts = {}, used = {}, sealed = {},
      seal_count = 0, ignored = 0,
      is_direct = true, -- COPY into the table itself was never refused
   }, Sink)
   sink.connection = new_connection(conninfo.text(what .. ": connect", spec.connect))
   sink.together = sink.connection
   tried[sink.connection] = tried[sink.connection] or {}
   sink.participant = participants.sink(sink)
   return sink
end
