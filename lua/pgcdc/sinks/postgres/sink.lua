-- pgcdc.sinks.postgres.sink: changes into a table of a Postgres database, exactly once.
-- SPDX-License-Identifier: MIT
--
-- Rows are kept as the lines of a COPY until `flush`, which is one transaction: they go over, and
-- the position of the pipeline with them, into pgcdc.position. What a transaction was tried with
-- is kept until it is known to be committed. Whether one was whose COMMIT was not answered is
-- told by the token in that table.
--
-- Sinks with the same target can share a transaction, see `flush_together`.
--
-- Rows that have other columns (of another source, or behind an ALTER TABLE) are kept apart, and
-- go over in the order in which each list of columns was first used.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local conninfo = require "pgcdc.postgres.conninfo"
local participants = require "pgcdc.delivery.participants"
local new_link = require "pgcdc.sinks.postgres.target_connection"
local postgres_layout = require "pgcdc.sinks.postgres.layout"
local postgres_sql = require "pgcdc.sinks.postgres.sql"
local postgres_target = require "pgcdc.sinks.postgres.target"

local fields = { connect = true, table = true, pk = true, mode = true, create = true,
                 rename = true, name = true }
local modes = { mirror = true, append = true, history = true }

-- Why a COPY into the table itself may be refused where an INSERT is not: a key is there already,
-- row-level security, a view.
local refusals = { ["23505"] = true, ["0A000"] = true, ["42809"] = true }

-- "ON CONFLICT DO UPDATE command cannot affect row a second time"
local twice = { ["21000"] = true }

-- Tokens are of this run and no other.
local run_name = ("%s-%.6f"):format(tostring({}):match "0x(%x+)" or "", raw.now())
local tokens = 0

local Sink = {}
Sink.__index = Sink
Sink.__name = "pgcdc.sinks.postgres"

local function log(self)
   return function(level, message)
      raw.log(level, message, { sink = self.name })
   end
end

--- The savepoint that was stored last, or nil.
function Sink:recall()
   return self.link:attempt(self.name, function()
      self.link:connect()
      return self.link:recall(self.name)
   end)
end

-- ---- taking changes ----

local function learn(self, change, form)
   form = postgres_layout.learn(self, self.layouts, change, form)
   self.forms[getmetatable(change)] = form
   return form
end

local function use(self, form)
   local layout = form.layout
   if not layout.is_used then
      layout.is_used = true
      self.used[#self.used + 1] = layout
   end
   self.plan = form.plan
end

local function check_deleted_key(form, change)
   for _, column in ipairs(form.key) do
      if change.key[column.name] == nil and (not change.old or change.old[column.name] == nil) then
         error(("a delete does not tell its '%s', which is in pk"):format(column.name), 0)
      end
   end
end

local function take_delete(self, form, change)
   if self.mode == "append" then
      self.ignored = self.ignored + 1
      if self.ignored == 1 then
         log(self)("warn", "deletes are not appended; this is the first one")
      end
      return
   end
   check_deleted_key(form, change)
   if self.mode == "history" then
      form.plan:add_delete(change)
   else
      form.gone:add_delete(change, (form.layout.lines:count()))
   end
end

-- Whatever the plan in hand cannot take.
local function write_slowly(self, change)
   local form = self.forms[getmetatable(change)] or learn(self, change)
   use(self, form)
   if change.op == "delete" then
      return take_delete(self, form, change)
   end
   if not form.plan:add(change) then
      form = learn(self, change, form)
      use(self, form)
      assert(form.plan:add(change), "a change cannot be written")
   end
end

--- Takes a change, which goes over with the next `flush`.
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

-- From now on rows are kept anew, apart from those that are there.
local function detach(self)
   self.forms, self.layouts, self.used, self.plan = {}, {}, {}, nil
end

-- ---- flush ----

-- The facts about the target that statements for this layout are made of, and these.
local function prepare(self, layout)
   local link = self.link
   if layout.generation ~= link.generation then
      link.temporaries = link.temporaries + 1
      local facts = postgres_target.prepare(function(...)
         return link:run(...)
      end, self.table, layout, self.mode, self.create, "pgcdc_type_" .. link.temporaries, log(self))
      if facts.is_made and not link.is_new[self.name] then
         log(self)("warn", "the table was gone from the target, and what had been written to it"
            .. " does not come again by itself: --reset reads the source from the start")
      end
      layout.statements = postgres_sql.build(layout, facts, self.mode,
         "pgcdc_rows_" .. link.temporaries)
      layout.generation = link.generation
   end
   return layout.statements
end

local function fill(self, create, copy, lines)
   self.link:run(create)
   self.link:copy(copy, lines)
end

local function apply_mirror(self, layout, statements)
   if layout.gone:count() > 0 then
      fill(self, statements.gone, statements.copy_gone, layout.gone)
      self.link:run(statements.delete)
      self.link:run(statements.apply_behind_deletes)
   elseif not self.link:try(twice, function() self.link:run(statements.apply) end) then
      self.link:run(statements.apply_last)
   end
end

-- Into the table itself, without a detour. Returns false where that cannot be.
local function apply_direct(self, layout, statements)
   local rows, changed = layout.lines:count()
   if not (statements.direct and self.is_direct) or layout.gone and layout.gone:count() > 0
      or changed > 0 and self.mode ~= "append" then
      return false
   end
   self.is_direct = rows == 0 or self.link:try(refusals, function()
      self.link:copy(statements.direct, layout.lines)
   end)
   return self.is_direct
end

local function apply(self, layout)
   local statements = prepare(self, layout)
   if apply_direct(self, layout, statements) then
      return
   end
   fill(self, statements.create, statements.copy, layout.lines)
   if self.mode == "mirror" then
      apply_mirror(self, layout, statements)
   else
      if self.mode == "history" then
         self.link:run(statements.close)
      end
      self.link:run(statements.apply)
   end
end

--- What was written so far is kept apart from what comes. Returns a number for `flush`.
function Sink:seal()
   self.sealed[#self.sealed + 1] = { layouts = self.used, number = self.seal_count + 1 }
   self.seal_count = self.seal_count + 1
   detach(self)
   return self.seal_count
end

-- All layouts that were sealed up to this number, or all there are.
local function take(self, upto)
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

-- Moves a batch to the target, all or nothing.
local function commit(link, batch)
   link:commit(batch.names, batch.token, batch.savepoint, function()
      for _, part in ipairs(batch) do
         link.subject = part.sink.name
         for _, layout in ipairs(part.layouts) do
            apply(part.sink, layout)
         end
      end
   end)
   for _, part in ipairs(batch) do
      for _, layout in ipairs(part.layouts) do
         link.is_new[part.sink.name] = false
         layout.lines:clear()
         if layout.gone then
            layout.gone:clear()
         end
         layout.is_used = nil
      end
   end
end

-- A batch: {sink =, layouts =, is_all =} for each sink, with savepoint, token, the sinks' names.
local function new_batch(parts, savepoint)
   tokens = tokens + 1
   local batch = { savepoint = savepoint, token = ("%s-%d"):format(run_name, tokens), names = {} }
   for i, part in ipairs(parts) do
      batch.names[i] = part.sink.name
      batch[i] = { sink = part.sink, layouts = take(part.sink, part.upto), is_all = not part.upto }
   end
   table.sort(batch.names) -- the order in which rows are locked
   return batch
end

local function concerns(batch, parts)
   for _, part in ipairs(parts) do
      for _, name in ipairs(batch.names) do
         if name == part.sink.name then
            return true
         end
      end
   end
   return false
end

-- What was tried before and concerns these sinks comes first: it has savepoints of its own, and is
-- perhaps committed.
local function commit_tried(link, parts)
   local i = 1
   while i <= #link.tried do
      if concerns(link.tried[i], parts) then
         commit(link, link.tried[i])
         table.remove(link.tried, i)
      else
         i = i + 1
      end
   end
end

local function has_rows(batch)
   for _, part in ipairs(batch) do
      if #part.layouts > 0 then
         return true
      end
   end
   return false
end

--- Flushes several sinks whose `together` is the same, in one transaction: `parts` is a list of
--- {sink =, upto = number of a seal, or nil for everything}.
function Sink:flush_together(savepoint, parts)
   local link = self.link
   link:attempt(self.name, function()
      commit_tried(link, parts)
      local batch = new_batch(parts, savepoint)
      if not has_rows(batch) and savepoint == nil then
         return
      end
      local ok, problem = pcall(commit, link, batch)
      for _, part in ipairs(batch) do
         if part.is_all and ok then
            part.sink.used, part.sink.plan = {}, nil
         elseif part.is_all then
            detach(part.sink)
         end
      end
      if not ok then
         link.tried[#link.tried + 1] = batch
         error(problem, 0)
      end
   end)
end

--- Everything that was written goes over, or what was before the seal of that number. `savepoint`,
--- text or nil, is stored in the same transaction.
function Sink:flush(savepoint, upto)
   self:flush_together(savepoint, { { sink = self, upto = upto } })
end

function Sink:close()
   self.link:close()
end

-- ---- birth ----

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

--- See the README for the fields of `spec`.
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
   local full_name = conninfo.table_name(what .. ": table", spec.table)
   local sink = setmetatable({
      table = full_name,
      pk = check.names(what .. ": pk", spec.pk),
      mode = mode,
      create = create,
      rename = read_rename(spec.rename),
      name = spec.name and check.text(what .. ": name", spec.name) or "postgres " .. full_name,
      forms = {}, layouts = {}, used = {}, sealed = {},
      seal_count = 0, ignored = 0,
      is_direct = true, -- COPY into the table itself was never refused
   }, Sink)
   sink.link = new_link(conninfo.text(what .. ": connect", spec.connect))
   sink.together = sink.link
   sink.participant = participants.sink(sink)
   return sink
end
