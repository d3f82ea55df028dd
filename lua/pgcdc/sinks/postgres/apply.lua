-- pgcdc.sinks.postgres.apply: writes what one transaction has to the tables.
-- SPDX-License-Identifier: MIT
--
-- A job is a layout of a sink: {sink =, layout =, facts = of its table, root = its oid, or that of
-- the partitioned table, temporary = the name of its temporary table}. The quick way is one job
-- after the other: deletes first, those of tables that refer to others before those of the others;
-- then rows, the other way around. Where a constraint forbids that, the transaction is begun again,
-- and what mirrors have goes by way of temporary tables, see staging.

local raw = require "pgcdc.raw"
local constraints = require "pgcdc.sinks.postgres.constraints"
local misfits = require "pgcdc.sinks.postgres.misfits"
local partial = require "pgcdc.sinks.postgres.partial"
local postgres_orphans = require "pgcdc.sinks.postgres.orphans"
local postgres_sql = require "pgcdc.sinks.postgres.sql"
local postgres_target = require "pgcdc.sinks.postgres.target"
local staging = require "pgcdc.sinks.postgres.staging"

local apply = {}

-- SQLSTATEs with which a COPY into the table itself may be refused where an INSERT is not: a key is
-- there already, row-level security, a view.
local refusals = { ["23505"] = true, ["0A000"] = true, ["42809"] = true }

-- "ON CONFLICT DO UPDATE command cannot affect row a second time"
local twice = { ["21000"] = true }

-- Finds out what must be known of the target to write this layout, unless that is known. What is to
-- be logged goes to `log`.
local function prepare(self, layout, log)
   local connection = self.connection
   if layout.generation == connection.generation then
      return
   end
   local number = connection:next_temporary()
   local function run(...)
      return connection:run(...)
   end
   local facts = postgres_target.prepare(run, self, layout, "pgcdc_type_" .. number, log)
   if facts.is_made and not connection.is_new[self.name]
      and (not self.orphans or self.orphans:has_had_table()) then
      log("warn", "the table was gone from the target, and what had been written to it"
         .. " does not come again by itself: --reset reads the source from the start")
   end
   if facts.is_altered then
      connection.generation = connection.generation + 1
   end
   layout.facts, layout.temporary = facts, "pgcdc_rows_" .. number
   layout.root = constraints.root(run, facts.oid)
   layout.foreign_keys = constraints.foreign_keys(run, layout.root)
   layout.statements = postgres_sql.build(layout, facts, self.mode, layout.temporary)
   layout.generation = connection.generation
end

local function logger(sink)
   return function(level, message)
      sink:log(level, message)
   end
end

-- The tables that sources read whose changes, or what became of them, the sink is to write, as far
-- as they are to be looked at: id -> {started =}.
local function tables_read(sink, layouts)
   local generation, tables = sink.connection.generation, {}
   for id, read in pairs(sink.reads_checked ~= generation and sink.reads or {}) do
      tables[id] = read
   end
   for _, layout in ipairs(layouts) do
      for id, seen in pairs(layout.generation ~= generation and layout.by_table or {}) do
         tables[id] = seen
      end
   end
   return tables
end

--- Raises an error if a target is what a source reads. To be called before anything else is found
--- out about the targets.
function apply.refuse_loops(connection, transfer)
   for _, part in ipairs(transfer) do
      connection:set_subject(part.sink.name)
      postgres_target.refuse_loop(function(...)
         return connection:run(...)
      end, part.sink.table, tables_read(part.sink, part.layouts))
      part.sink.reads_checked = connection.generation
   end
end

-- Makes a temporary table and writes these lines to it.
local function fill(self, create, copy_sql, lines)
   self.connection:run(create)
   self.connection:copy(copy_sql, lines)
end

local function has_deletes(layout)
   return layout.deletes and layout.deletes:count() > 0
end

local function apply_mirror(self, layout, statements)
   if statements.partial then
      partial.update(self.connection, statements.partial, layout)
   elseif has_deletes(layout) then
      self.connection:run(statements.apply_after_deletes)
   elseif not self.connection:try(twice, function() self.connection:run(statements.apply) end) then
      self.connection:run(statements.apply_last)
   end
end

-- Writes rows to the table itself, without a temporary one. Returns false where that is impossible.
local function apply_direct(self, layout, statements)
   local rows, changed = layout.lines:count()
   if not (statements.direct and self.is_direct) or has_deletes(layout)
      or changed > 0 and self.mode ~= "append" then
      return false
   end
   self.is_direct = rows == 0 or self.connection:try(refusals, function()
      self.connection:copy(statements.direct, layout.lines)
   end)
   return self.is_direct
end

-- Deletes the rows whose keys a layout of a mirror has as deleted.
local function delete_rows(self, layout)
   if has_deletes(layout) then
      local statements = layout.statements
      fill(self, statements.create_deletes, statements.copy_deletes, layout.deletes)
      self.connection:run(statements.delete)
   end
end

-- True if the keys of the rows that a layout has are wanted.
local function collects_keys(self, layout)
   return self.orphans and self.orphans:collects() and not layout.is_over
end

-- Writes the rows of a layout.
local function write_rows(self, layout)
   local statements = layout.statements
   local collects = collects_keys(self, layout)
   if layout.lines:count() == 0 and not collects then
      return -- its columns were announced, or it has deletes only
   end
   if not collects and apply_direct(self, layout, statements) then
      return
   end
   fill(self, statements.create, statements.copy, layout.lines)
   misfits.check(self.connection, statements.misfits, layout.facts.full)
   if collects then
      self.orphans:collect(layout, statements.row_keys)
   end
   if self.mode == "mirror" then
      apply_mirror(self, layout, statements)
   else
      if self.mode == "history" then
         self.connection:run(statements.close)
      end
      self.connection:run(statements.apply)
   end
end

--- Writes some of the rows that a layout has, or of its deletes. `what`: "lines" or "deletes";
--- `lines`: what is written in their place. Nothing else is done.
function apply.try(sink, layout, what, lines)
   prepare(sink, layout, logger(sink))
   local without_orphans = setmetatable({ orphans = false }, { __index = sink })
   local part = setmetatable({ [what] = lines, deletes = what == "deletes" and lines },
      { __index = layout })
   if what == "deletes" then
      delete_rows(without_orphans, part)
   else
      write_rows(without_orphans, part)
   end
end

--- Finds out what must be known to write a layout. Returns false if something was to be done in the
--- target for that, or to be said: then all is to be undone.
function apply.is_ready(sink, layout)
   local is_silent = true
   apply.refuse_loops(sink.connection, { { sink = sink, layouts = { layout } } })
   prepare(sink, layout, function()
      is_silent = false
   end)
   local facts = layout.facts
   return is_silent and not (facts.is_made or facts.is_altered or facts.is_changed)
end

--- Makes the table ready for a layout, and writes no rows to it in all ways that its mode has, so
--- that what would be refused at a start is refused. Returns facts about the table.
function apply.try_nothing(sink, layout)
   local connection, nothing = sink.connection, raw.copy_lines()
   postgres_target.refuse_loop(function(...)
      return connection:run(...)
   end, sink.table, tables_read(sink, { layout }))
   prepare(sink, layout, logger(sink))
   local statements = layout.statements
   for _, what in ipairs { "create", "copy", "close", "apply", "create_deletes", "copy_deletes",
                           "delete", "direct" } do
      local statement = statements[what]
      if statement and (what:find "^copy" or what == "direct") then
         connection:copy(statement, nothing)
      elseif statement then
         connection:run(statement)
      end
   end
   return layout.facts
end

--- The name of the column whose value in one of these lines of a layout is none of its type in the
--- target, or nil. What it does is to be undone.
function apply.find_column(sink, layout, lines)
   local connection = sink.connection
   fill(sink, layout.statements.create, layout.statements.copy, lines)
   for _, value in ipairs(layout.statements.values) do
      local problem = connection:probe(function()
         connection:run(value.create)
         connection:run(value.insert)
      end)
      if problem then
         return value.name
      end
   end
end

-- True if one table has several jobs, and deletes: then the order of the jobs counts.
local function must_keep_order(jobs)
   local is_there, is_double, deletes = {}, false, false
   for _, job in ipairs(jobs) do
      is_double = is_double or is_there[job.facts.oid]
      is_there[job.facts.oid] = true
      deletes = deletes or has_deletes(job.layout)
   end
   return is_double and deletes
end

-- The rows of these jobs went by way of staging: keeps their keys where those are wanted.
local function collect_keys(jobs)
   for _, job in ipairs(jobs) do
      if collects_keys(job.sink, job.layout) then
         job.sink.orphans:collect(job.layout, job.layout.statements.row_keys)
      end
   end
end

local function write_in_order(connection, jobs)
   for i = #jobs, 1, -1 do
      connection:set_subject(jobs[i].sink.name)
      delete_rows(jobs[i].sink, jobs[i].layout)
   end
   for _, job in ipairs(jobs) do
      connection:set_subject(job.sink.name)
      write_rows(job.sink, job.layout)
   end
end

-- Prepares a layout of the sink before rows of another one are written to the same table. Returns
-- false, and has done nothing, if the statements for those would not do any more.
local function prepare_besides(sink, layout)
   local connection, notes = sink.connection, {}
   local generation = connection.generation
   connection:run "SAVEPOINT pgcdc_besides"
   prepare(sink, layout, function(...)
      notes[#notes + 1] = { ... }
   end)
   if layout.facts.is_changed then
      connection:run "ROLLBACK TO pgcdc_besides"
      connection.generation, layout.generation = generation, nil
      notes = {}
   end
   connection:run "RELEASE pgcdc_besides"
   for _, note in ipairs(notes) do
      sink:log(table.unpack(note))
   end
   return layout.generation ~= nil
end

-- True if preparing the sink's layout may alter the table to which others of its layouts, with
-- other columns of the same source, are still to be written.
local function is_newer(sink, layout, jobs)
   for _, job in ipairs(layout.generation ~= sink.connection.generation and jobs or {}) do
      for id in pairs(job.sink == sink and job.layout.by_table or {}) do
         if layout.by_table[id] and job.layout ~= layout and job.layout.lines:count() > 0 then
            return true
         end
      end
   end
   return false
end

-- Jobs that are to be written: those of mirrors, of others, and the foreign keys of their tables.
local function no_jobs()
   return { mirrors = {}, others = {}, keys = {} }
end

-- `is_last`: there are no more, so that orphans are known.
local function write_jobs(connection, transfer, jobs, is_staged, is_last)
   local mirrors, others = jobs.mirrors, jobs.others
   if is_staged then
      connection:run "SET CONSTRAINTS ALL DEFERRED"
   end
   if #mirrors > 0 and (is_staged or must_keep_order(mirrors)) then
      staging.write(connection, mirrors, function()
         transfer.is_limited = true
      end, function()
         collect_keys(mirrors)
         if is_last and #others == 0 then
            return postgres_orphans.removals(transfer)
         end
         return {}, function() end
      end)
   else
      table.move(mirrors, 1, #mirrors, #others + 1, others)
   end
   write_in_order(connection, constraints.sort(others, jobs.keys))
end

-- Those whose rows are to be written.
local function layouts_of(part)
   local list = {}
   for _, layout in ipairs(part.layouts) do
      list[#list + 1] = not (part.is_emptied and layout.is_over) and layout or nil
   end
   return list
end

--- Writes the rows of a transfer, a list of {sink =, layouts =}, inside a transaction.
--- `is_staged`: the quick way was refused. Sets transfer.is_limited if staging says so.
function apply.transfer(connection, transfer, is_staged)
   local jobs = no_jobs()
   for _, part in ipairs(transfer) do
      local kind = part.sink.mode == "mirror" and "mirrors" or "others"
      connection:set_subject(part.sink.name)
      for _, layout in ipairs(layouts_of(part)) do
         if is_newer(part.sink, layout, jobs[kind]) and not prepare_besides(part.sink, layout) then
            write_jobs(connection, transfer, jobs, is_staged)
            jobs = no_jobs()
            connection:set_subject(part.sink.name)
         end
         prepare(part.sink, layout, logger(part.sink))
         table.insert(jobs[kind], { sink = part.sink, layout = layout, facts = layout.facts,
            root = layout.root, temporary = layout.temporary })
         table.move(layout.foreign_keys, 1, #layout.foreign_keys, #jobs.keys + 1, jobs.keys)
      end
   end
   write_jobs(connection, transfer, jobs, is_staged, true)
end

return apply
