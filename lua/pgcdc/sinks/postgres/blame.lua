-- pgcdc.sinks.postgres.blame: which rows a target refuses because of what they are.
-- SPDX-License-Identifier: MIT
--
--    1 2 3 4 5 6 7 8     refused: a value that a constraint of the target forbids
--    1 2 3 4             taken
--            5 6 7 8     refused
--            5 6         refused
--            5           taken
--              6         refused: it is this one
--                7 8     taken
--
-- The rows are written by halves, in a transaction that is undone. Where both halves are taken and
-- the whole is not, rows do not go together: then the first one is looked for with which those
-- before it are refused. Tables are tried one after the other, each with the rows before that the
-- target takes.

local raw = require "pgcdc.raw"
local change = require "pgcdc.change"
local participants = require "pgcdc.delivery.participants"
local apply = require "pgcdc.sinks.postgres.apply"
local refusal = require "pgcdc.sinks.postgres.refusal"

local blame = {}

local MOST = 20 -- rows that are looked for at once

-- Classes of SQLSTATEs of which a row is to blame: data, constraints, limits, check options, what
-- triggers raise.
local classes = { ["22"] = true, ["23"] = true, ["54"] = true, ["44"] = true, P0 = true }

local FOREIGN_KEY = "23503"

--- True if the problem, as the connection raised it, may be that of single rows.
function blame.may_find(problem)
   return type(problem) == "table" and problem.kind == "sql"
      and classes[problem.sqlstate:sub(1, 2)] ~= nil and problem.sqlstate ~= FOREIGN_KEY
end

-- ---- the search ----

-- A search: {connection =, sqlstate =, found = list of {sink =, layout =, what = "lines" or
-- "deletes", number = of the line, problem =, message =, column = its name, or nil}}.

-- Tries lines of a job. Returns what the target says if it refuses them for the same reason.
local function refused(search, job, first, last)
   local problem = search.connection:probe(function()
      apply.try(job.sink, job.layout, job.what, job.lines:part(first, last))
   end)
   return problem and problem.sqlstate == search.sqlstate and problem or nil
end

-- The message without its context, and the column that this names, or nil. (In a temporary table
-- columns have numbers.)
local function split(message, layout)
   local head, column = message:match '^(.*); COPY .*, line %d+, column ([^:\n]+): .*$'
   if not head then
      return message:match '^(.*); COPY .*, line %d+' or message
   end
   local place = column:match "^c(%d+)$"
   local known = place and layout.columns[math.tointeger(place)]
   return head, known and known.target or column
end

-- The line of this number is to blame.
local function add(search, job, number, problem)
   local message, column = split(problem.message, job.layout)
   column = column or problem.column
   if not column and job.what == "lines" and problem.sqlstate:sub(1, 2) == "22" then
      search.connection:probe(function()
         column = apply.find_column(job.sink, job.layout, job.lines:part(number, number))
      end)
   end
   message = refusal.advise(problem.sqlstate, message, function(name)
      return refusal.is_key(job.sink, job.layout, name)
   end)
   table.insert(search.found, { sink = job.sink, layout = job.layout, what = job.what,
      number = number, problem = problem, message = message, column = column })
end

-- Finds the first line with which those from `first` on are refused, while neither half is.
local function find_together(search, job, first, last)
   local taken, bad, problem = first, last, refused(search, job, first, last)
   while problem and bad - taken > 1 do
      local middle = (taken + bad) // 2
      local now = refused(search, job, first, middle)
      if now then
         bad, problem = middle, now
      else
         taken = middle
      end
   end
   if problem then
      add(search, job, bad, problem)
   end
end

-- Finds lines among these, which the target has refused as `problem` says.
local function find(search, job, first, last, problem)
   if first == last then
      return add(search, job, first, problem)
   end
   local middle, before = (first + last) // 2, #search.found
   for _, half in ipairs { { first, middle }, { middle + 1, last } } do
      local now = #search.found < MOST and refused(search, job, half[1], half[2])
      if now then
         find(search, job, half[1], half[2], now)
      end
   end
   if #search.found == before then
      find_together(search, job, first, last)
   end
end

-- Finds lines of a job, and writes the others where that is possible, for those that come later.
local function find_in(search, job)
   local count = job.lines:count()
   local problem = count > 0 and #search.found < MOST and refused(search, job, 1, count)
   if problem then
      return find(search, job, 1, count, problem)
   end
   search.connection:attempt_part(function()
      apply.try(job.sink, job.layout, job.what, job.lines)
   end)
end

local function find_all(search, transfer)
   for _, part in ipairs(transfer) do
      search.connection:set_subject(part.sink.name)
      for _, layout in ipairs(part.layouts) do
         for _, what in ipairs { "deletes", "lines" } do
            if layout[what] then
               find_in(search, { sink = part.sink, layout = layout, what = what,
                                 lines = layout[what] })
            end
         end
      end
   end
end

-- ---- what is said ----

-- The value of a field of a line; raw.null for NULL.
local function value_of(column, field)
   if not field then
      return raw.null
   elseif not column.is_own then
      return field
   end
   local rest = field:sub(2) -- see src/lua/api_tagged.h
   return field:sub(1, 1) == "j" and raw.decode(rest) or rest
end

-- The columns of a line of the search, and its values by their names.
local function values_of(it)
   local columns = it.what == "lines" and it.layout.columns or it.layout.key
   local fields, values = it.layout[it.what]:fields(it.number), {}
   for i, column in ipairs(columns) do
      values[column.target] = value_of(column, fields[i])
   end
   return values
end

local function key_text(key, values)
   local parts = {}
   for i, column in ipairs(key) do
      local value = values[column.target]
      local text = type(value) == "string" and value or raw.encode(value)
      parts[i] = ("%s=%s"):format(column.target, text:find "^[%w_.:+-]+$" and text
         or value == raw.null and "NULL" or raw.encode(value))
   end
   return table.concat(parts, " ")
end

-- What is raised of a line.
local function describe(connection, it)
   local values, key = values_of(it), {}
   connection:set_subject(it.sink.name)
   for _, part in ipairs(it.layout.key) do
      key[part.target] = values[part.target]
   end
   local place = ("table %s%s%s"):format(it.sink.table,
      #it.layout.key > 0 and ", key " .. key_text(it.layout.key, values) or "",
      it.column and ", column " .. it.column or "")
   local is_delete = it.what == "deletes"
   return { it.number, connection:describe(it.problem, place .. ": " .. it.message),
      source = next(participants.sink(it.sink).sources), sink = it.sink.name,
      value = change.of_values(is_delete and "delete" or "upsert", it.sink.table, key,
         not is_delete and values or nil) }
end

-- The transfer goes without these lines from now on.
local function leave_out(found)
   local numbers, order = {}, {}
   for _, it in ipairs(found) do
      local lines = it.layout[it.what]
      if not numbers[lines] then
         numbers[lines] = { layout = it.layout, what = it.what }
         order[#order + 1] = lines
      end
      table.insert(numbers[lines], it.number)
   end
   for _, lines in ipairs(order) do
      local list = numbers[lines]
      table.sort(list)
      lines:leave_out(list)
      if list.what == "lines" and list.layout.deletes then
         list.layout.deletes:recount(list)
      end
   end
end

--- The transfer was refused with `problem`, which may_find. Undoes it, and finds rows that are to
--- blame: takes them out of the transfer and returns them as participants.refused wants them. nil
--- if there are none. Raises a problem if that could not be found out.
function blame.find(connection, transfer, problem)
   local search = { connection = connection, sqlstate = problem.sqlstate, found = {} }
   connection:rehearse(function()
      find_all(search, transfer)
   end)
   if #search.found == 0 then
      return nil
   end
   local list = {}
   for i, it in ipairs(search.found) do
      list[i] = describe(connection, it)
   end
   leave_out(search.found)
   return list
end

return blame
