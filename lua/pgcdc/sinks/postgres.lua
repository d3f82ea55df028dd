-- pgcdc.sinks.postgres: changes into a table of a Postgres database, exactly once.
-- SPDX-License-Identifier: MIT
--
-- Rows are kept as the lines of a COPY until `flush`, which is one transaction: they go over, and
-- the position of the pipeline with them, into pgcdc.position. What a transaction was tried with
-- is kept until it is known to be committed. Whether one was whose COMMIT was not answered is
-- told by the token in that table.
--
-- Rows that have other columns (of another source, or behind an ALTER TABLE) are kept apart, and
-- go over in the order in which each list of columns was first used.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local conninfo = require "pgcdc.conninfo"
local keep = require "pgcdc.keep"
local new_link = require "pgcdc.sinks.postgres_link"
local postgres_layout = require "pgcdc.sinks.postgres_layout"
local postgres_sql = require "pgcdc.sinks.postgres_sql"
local postgres_target = require "pgcdc.sinks.postgres_target"

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
   return self.link:attempt(function()
      self.link:connect()
      return self.link:recall()
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
      form.gone:add_delete(change, (form.layout.lines:rows()))
   end
end

local function is_change(value)
   local class = type(value) == "table" and getmetatable(value)
   return class and class.__name == "pgcdc.change"
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
   keep.touch(self.keeper)
   local plan = self.plan
   if plan and plan:add(change) then
      return
   end
   if not is_change(change) then
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
      local facts = postgres_target.prepare(function(...)
         return link:run(...)
      end, self.table, layout, self.mode, self.create, log(self))
      self.temporaries = self.temporaries + 1
      layout.statements = postgres_sql.build(layout, facts, self.mode,
         "pgcdc_rows_" .. self.temporaries)
      layout.generation = link.generation
   end
   return layout.statements
end

local function fill(self, create, copy, lines)
   self.link:run(create)
   self.link:copy(copy, lines)
end

local function apply_mirror(self, layout, statements)
   if layout.gone:rows() > 0 then
      fill(self, statements.gone, statements.copy_gone, layout.gone)
      self.link:run(statements.delete)
      self.link:run(statements.apply_behind_deletes)
   elseif not self.link:try(twice, function() self.link:run(statements.apply) end) then
      self.link:run(statements.apply_last)
   end
end

-- Into the table itself, without a detour. Returns false where that cannot be.
local function apply_direct(self, layout, statements)
   local rows, changed = layout.lines:rows()
   if not (statements.direct and self.is_direct) or layout.gone and layout.gone:rows() > 0
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

-- Moves a batch {layouts =, savepoint =, token =} to the target, all or nothing.
local function commit(self, batch)
   self.link:commit(batch.token, batch.savepoint, function()
      for _, layout in ipairs(batch.layouts) do
         apply(self, layout)
      end
   end)
   for _, layout in ipairs(batch.layouts) do
      layout.lines:clear()
      if layout.gone then
         layout.gone:clear()
      end
      layout.is_used = nil
   end
end

local function new_batch(layouts, savepoint)
   tokens = tokens + 1
   return { layouts = layouts, savepoint = savepoint, token = ("%s-%d"):format(run_name, tokens) }
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

--- Everything that was written goes over, or what was before the seal of that number. `savepoint`,
--- text or nil, is stored in the same transaction.
function Sink:flush(savepoint, upto)
   self.link:attempt(function()
      if self.tried then -- with a savepoint of its own, and perhaps committed
         commit(self, self.tried)
         self.tried = nil
      end
      local is_all = upto == nil
      local batch = new_batch(take(self, upto), savepoint)
      if #batch.layouts == 0 and savepoint == nil then
         return
      end
      local ok, problem = pcall(commit, self, batch)
      if ok and is_all then
         self.used, self.plan = {}, nil
      elseif not ok then
         self.tried = batch
         if is_all then
            detach(self)
         end
         error(problem, 0)
      end
   end)
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
      seal_count = 0, temporaries = 0, ignored = 0,
      is_direct = true, -- COPY into the table itself was never refused
   }, Sink)
   sink.link = new_link(sink.name, conninfo.text(what .. ": connect", spec.connect))
   sink.keeper = keep.sink(sink)
   return sink
end
