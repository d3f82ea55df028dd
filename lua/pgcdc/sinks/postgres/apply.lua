-- pgcdc.sinks.postgres.apply: writes the rows of a layout to the target.
-- SPDX-License-Identifier: MIT

local postgres_sql = require "pgcdc.sinks.postgres.sql"
local postgres_target = require "pgcdc.sinks.postgres.target"

local apply = {}

-- SQLSTATEs with which a COPY into the table itself may be refused where an INSERT is not: a key is
-- there already, row-level security, a view.
local refusals = { ["23505"] = true, ["0A000"] = true, ["42809"] = true }

-- "ON CONFLICT DO UPDATE command cannot affect row a second time"
local twice = { ["21000"] = true }

-- Returns the statements for this layout. Makes them anew if what was known of the target is not
-- valid any more.
local function prepare(self, layout)
   local connection = self.connection
   if layout.generation ~= connection.generation then
      local number = connection:next_temporary()
      local facts = postgres_target.prepare(function(...)
         return connection:run(...)
      end, self, layout, "pgcdc_type_" .. number, function(...)
         self:log(...)
      end)
      if facts.is_made and not connection.is_new[self.name] then
         self:log("warn", "the table was gone from the target, and what had been written to it"
            .. " does not come again by itself: --reset reads the source from the start")
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

--- Writes the rows of a layout of the sink `self` to the target.
function apply.layout(self, layout)
   local statements = prepare(self, layout)
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

return apply
