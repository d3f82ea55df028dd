-- pgcdc.sinks.postgres.staging: what a mirror is to become, in temporary tables, and from there in
-- one statement.
-- SPDX-License-Identifier: MIT
--
--    before   the rows of the table whose keys the transfer has     all columns
--    after    what becomes of them, and the new ones                the columns that we write
--
-- `after` begins as `before`, and has no constraint but its key, so all that the transfer has is
-- written to it in order. Then one statement for all tables of the transfer takes away what is to
-- go, and writes what is to be. Foreign keys are checked when a statement ends, so their order
-- inside it does not matter, nor do cycles.
--
-- Unique and exclusion constraints are checked at each row. So a row whose value is to change in
-- such a constraint is taken away first, too, and inserted again: its value is free then. That
-- does not do where a foreign key acts on deletes (ON DELETE CASCADE, say). There such rows first
-- get a value that nobody has: NULL, or one that is made up.

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"
local constraints = require "pgcdc.sinks.postgres.constraints"
local misfits = require "pgcdc.sinks.postgres.misfits"
local partial = require "pgcdc.sinks.postgres.partial"
local postgres_sql = require "pgcdc.sinks.postgres.sql"
local quote = require("pgcdc.names").quote

local staging = {}

local function list(items)
   return raw.encode(setmetatable(items, raw.array_metatable))
end

-- The names, with `prefix` before each and commas between.
local function comma(names, prefix)
   local parts = {}
   for i, name in ipairs(names) do
      parts[i] = (prefix or "") .. quote(name)
   end
   return table.concat(parts, ", ")
end

local function names_of(columns)
   local names = {}
   for i, column in ipairs(columns) do
      names[i] = column.target
   end
   return names
end

-- SQL: the rows `a` and `b` have the same key.
local function same(stage, a, b)
   local parts = {}
   for i, name in ipairs(stage.key) do
      parts[i] = ("%s.%s = %s.%s"):format(a, quote(name), b, quote(name))
   end
   return table.concat(parts, " AND ")
end

-- ---- the temporary tables ----

-- Sets stage.written, the columns that the jobs write, and stage.rest, others that can be written.
local function find_columns(stage)
   local is_written = {}
   for _, job in ipairs(stage.jobs) do
      for _, column in ipairs(job.layout.columns) do
         is_written[column.target] = true
      end
   end
   stage.written, stage.rest = {}, {}
   for _, column in ipairs(stage.facts.columns) do
      if not column.is_generated then
         table.insert(is_written[column.name] and stage.written or stage.rest, column.name)
      end
   end
end

-- Makes the two tables, with a unique index on each key that jobs have.
local function make(run, stage)
   local all = { table.unpack(stage.written) }
   table.move(stage.rest, 1, #stage.rest, #all + 1, all)
   for name, columns in pairs { [stage.before] = all, [stage.after] = stage.written } do
      run(("CREATE TEMPORARY TABLE %s ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA")
         :format(name, comma(columns), stage.facts.full))
      local is_there = {}
      for _, job in ipairs(stage.jobs) do
         local key = comma(names_of(job.layout.key))
         if not is_there[key] then
            is_there[key] = true
            run(("CREATE UNIQUE INDEX ON %s (%s)"):format(name, key))
         end
      end
   end
end

-- Reads the rows whose keys a job has into `before`.
local function read_rows(run, stage, job)
   local all = { table.unpack(stage.written) }
   table.move(stage.rest, 1, #stage.rest, #all + 1, all)
   run(("INSERT INTO %s (%s) SELECT %s FROM %s t JOIN %s %s ON CONFLICT DO NOTHING"):format(
      stage.before, comma(all), comma(all, "t."), stage.facts.full, job.staged.keys,
      stage.facts.kind == "v" and "" or "FOR UPDATE OF t"))
end

-- Writes all that the jobs have to `after`.
local function write_rows(connection, stage)
   for _, job in ipairs(stage.jobs) do
      connection:set_subject(job.sink.name)
      local staged = job.staged
      connection:run(staged.create)
      connection:copy(staged.copy, job.layout.lines)
      misfits.check(connection, staged.misfits, job.facts.full)
      connection:run(staged.create_deletes)
      connection:copy(staged.copy_deletes, job.layout.deletes)
      read_rows(function(sql) return connection:run(sql) end, stage, job)
   end
   connection:run(("INSERT INTO %s SELECT %s FROM %s"):format(stage.after, comma(stage.written),
      stage.before))
   for _, job in ipairs(stage.jobs) do
      connection:run(job.staged.delete)
      if job.staged.partial then
         partial.update(connection, job.staged.partial, job.layout)
      else
         connection:run(job.staged.apply_after_deletes)
      end
   end
end

-- ---- the table itself ----

-- SQL that is true if values that a constraint guards differ between the rows a of `after` and b
-- of `before`.
local function moves(stage)
   local is_written, is_there, names = {}, {}, {}
   for _, name in ipairs(stage.written) do
      is_written[name] = true
   end
   for _, guard in ipairs(stage.guards) do
      local name = guard.name
      if stage.facts.by_name[name].is_generated then
         names = stage.written -- what it is generated from is not known here
         break
      elseif is_written[name] and not is_there[name] then
         is_there[name] = true
         names[#names + 1] = name
      end
   end
   if #names == 0 then
      return "false"
   end
   return ("ROW(%s)::record OPERATOR(pg_catalog.*<>) ROW(%s)::record"):format(comma(names, "a."),
      comma(names, "b."))
end

-- SQL for a value of the column that no row of the table has; nil where we know none. The number of
-- the row is `m."pgcdc n"`.
local function made_up(stage, column)
   local name, type = quote(column.name), column.type
   local kinds = { int2 = "1", int4 = "1", int8 = "1", numeric = "1", float4 = "1", float8 = "1",
                   date = "interval '1 day'", timestamp = "interval '1 day'",
                   timestamptz = "interval '1 day'" }
   if column.category == "S" then
      return ("pg_catalog.md5(pg_catalog.random()::text || m.\"pgcdc n\")::%s"):format(type)
   elseif column.type_name == "uuid" then
      return "pg_catalog.gen_random_uuid()"
   elseif kinds[column.type_name] then
      return ("((SELECT min(%s) FROM %s) - m.\"pgcdc n\" * %s)::%s"):format(name, stage.facts.full,
         kinds[column.type_name], type)
   end
end

-- What is set, column -> SQL, so that rows do not hold guarded values any more: of each index one
-- column of those that we write. And whether that does for all of them.
local function parking(stage)
   local can, done, set = {}, {}, {}
   for _, name in ipairs(stage.written) do
      can[name] = true
   end
   for _, name in ipairs(stage.key) do
      can[name] = nil
   end
   for _, wants_value in ipairs { false, true } do
      for _, guard in ipairs(stage.guards) do
         local value = not wants_value and "NULL"
            or made_up(stage, stage.facts.by_name[guard.name])
         if can[guard.name] and guard.wants_value == wants_value and not done[guard.index]
            and value then
            done[guard.index], set[guard.name] = true, value
         end
      end
   end
   local is_enough = true
   for _, guard in ipairs(stage.guards) do
      is_enough = is_enough and done[guard.index] ~= nil
   end
   return set, is_enough
end

-- Rows that keep their place get values that are in nobody's way. Returns false if there are values
-- of which we cannot make up others.
local function park(run, stage)
   local parts, values, is_enough = {}, parking(stage)
   for name, value in pairs(values) do
      parts[#parts + 1] = ("%s = %s"):format(quote(name), value)
   end
   if #parts > 0 then
      run(("UPDATE %s t SET %s FROM (SELECT %s, pg_catalog.row_number() OVER () AS \"pgcdc n\""
         .. " FROM %s b JOIN %s a ON %s WHERE %s) m WHERE %s"):format(stage.facts.full,
         table.concat(parts, ", "), comma(stage.key, "b."), stage.before, stage.after,
         same(stage, "a", "b"), moves(stage), same(stage, "t", "m")))
   end
   return is_enough
end

-- SQL that takes away what is to go.
local function deletion(stage)
   return ("DELETE FROM %s t USING %s b LEFT JOIN %s a ON %s WHERE %s AND (a.%s IS NULL OR %s)"
      .. " RETURNING 1"):format(stage.facts.full, stage.before, stage.after, same(stage, "a", "b"),
      same(stage, "t", "b"), quote(stage.key[1]), stage.is_held and "false" or moves(stage))
end

-- SQL that writes what is to be, once `condition` holds. First those rows that were there before:
-- their other columns stay.
local function insertions(stage, condition)
   local is_key, set, parts = {}, {}, {}
   for _, name in ipairs(stage.key) do
      is_key[name] = true
   end
   for _, name in ipairs(stage.written) do
      if not is_key[name] and not stage.facts.by_name[name].is_always_identity then
         set[#set + 1] = ("%s = EXCLUDED.%s"):format(quote(name), quote(name))
      end
   end
   local conflict = ("ON CONFLICT (%s) DO %s"):format(comma(stage.key), #set > 0 and "UPDATE SET "
      .. table.concat(set, ", ") or "NOTHING")
   local insert = "INSERT INTO %s AS t (%s) OVERRIDING SYSTEM VALUE"
      .. " SELECT %s FROM %s a %s AND %s %s"
   local before = ("SELECT FROM %s b WHERE %s"):format(stage.before, same(stage, "a", "b"))
   if #stage.rest > 0 then
      parts[1] = insert:format(stage.facts.full, comma(stage.written) .. ", " .. comma(stage.rest),
         comma(stage.written, "a.") .. ", " .. comma(stage.rest, "b."), stage.after,
         ("JOIN %s b ON %s"):format(stage.before, same(stage, "a", "b")), condition, conflict)
   end
   parts[#parts + 1] = insert:format(stage.facts.full, comma(stage.written),
      comma(stage.written, "a."), stage.after, #stage.rest == 0 and "WHERE true" or
      ("WHERE NOT EXISTS (%s)"):format(before), condition, conflict)
   return parts
end

-- Writes all tables in one statement. `removals`: SQL that takes away other rows with those.
-- Returns how many rows each of them took away.
local function write_tables(connection, stages, removals)
   local parts, counts, removed = {}, {}, {}
   for i, stage in ipairs(stages) do
      parts[i] = ("d%d AS (%s)"):format(i, deletion(stage))
      counts[i] = ("(SELECT count(*) FROM d%d)"):format(i)
   end
   for i, removal in ipairs(removals) do
      parts[#parts + 1] = ("r%d AS (%s)"):format(i, removal)
      removed[i] = ("(SELECT count(*) FROM r%d)"):format(i)
   end
   -- nothing is written before all is taken away
   local condition = ("%s + %s >= 0"):format(table.concat(counts, " + "),
      #removed > 0 and table.concat(removed, " + ") or "0")
   for _, stage in ipairs(stages) do
      for _, insertion in ipairs(insertions(stage, condition)) do
         parts[#parts + 1] = ("i%d AS (%s)"):format(#parts, insertion)
      end
   end
   local question = answer.question(
      ("WITH %s SELECT pg_catalog.array_to_json(ARRAY[%s]::int8[]) AS removed"):format(
      table.concat(parts, ", "), table.concat(removed, ", ")), { removed = "integers" })
   local row = connection:row(question)
   if #row.removed ~= #removals then
      question:fail "there are not as many numbers as asked for"
   end
   return row.removed
end

-- ---- a transfer ----

-- The jobs of each table together, in the order of its first one.
local function by_table(jobs)
   local stages, by_oid = {}, {}
   for _, job in ipairs(jobs) do
      local stage = by_oid[job.facts.oid]
      if not stage then
         stage = { facts = job.facts, jobs = {}, key = names_of(job.layout.key) }
         by_oid[job.facts.oid] = stage
         stages[#stages + 1] = stage
      end
      stage.facts = job.facts -- the last one knows columns that were added meanwhile
      table.insert(stage.jobs, job)
   end
   return stages
end

local function key_numbers(stage)
   local numbers = {}
   for i, name in ipairs(stage.key) do
      numbers[i] = stage.facts.by_name[name].number
   end
   return numbers
end

--- Writes what these jobs of mirrors have to their tables: a list of {sink =, layout =, facts =,
--- temporary = the name of a temporary table}. Calls `limit()` if values of a constraint cannot
--- change hands here. `find_removals()` is called when the rows are in those temporary tables. It
--- returns what write_tables is to take away besides, and a function to be told how much that was.
function staging.write(connection, jobs, limit, find_removals)
   local function run(...)
      return connection:run(...)
   end
   local stages, names = by_table(jobs), {}
   for _, stage in ipairs(stages) do
      local number = connection:next_temporary()
      stage.before = "pg_temp.pgcdc_before_" .. number
      stage.after = "pg_temp.pgcdc_after_" .. number
      names[#names + 1] = stage.jobs[1].sink.name
      connection:set_subject(names[#names])
      if stage.facts.kind ~= "v" then -- nobody makes a foreign key or an index from here to the end
         run(("LOCK TABLE %s IN ROW EXCLUSIVE MODE"):format(stage.facts.full))
      end
      stage.guards = constraints.guards(run, stage.facts.oid, list(key_numbers(stage)))
      stage.is_held = constraints.is_held(run, stage.facts.oid)
      find_columns(stage)
      for _, job in ipairs(stage.jobs) do
         job.staged = postgres_sql.build(job.layout, setmetatable({ full = stage.after },
            { __index = job.facts }), "mirror", job.temporary)
      end
      make(run, stage)
      write_rows(connection, stage)
      if stage.is_held and not park(run, stage) then
         limit()
      end
   end
   local removals, set_removed = find_removals()
   connection:set_subject(table.concat(names, ", "))
   set_removed(write_tables(connection, stages, removals))
end

return staging
