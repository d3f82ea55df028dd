-- pgcdc.sinks.postgres.follow: a table that we made gets the columns that the source has.
-- SPDX-License-Identifier: MIT
--
-- Columns are followed by the numbers that they have in the source, which a rename does not change.
-- A comment on each column in the target keeps them, with the name and the type of then, for each
-- source that writes to it:
--    made by pgcdc-lua from {"7431/16384/16390":{"name":"total","number":3,"type":"numeric(10,2)"}}
-- The key says what the numbers belong to: cluster, database and table. A column whose comment is
-- not ours is known by its name.
--
-- Rows that the source has changed come after that (see capture/alter.h), so nothing is computed
-- here from old values where they cannot be converted.

local raw = require "pgcdc.raw"
local parts = require "pgcdc.sinks.postgres.parts"
local quote = require("pgcdc.names").quote

local follow = {}

local PREFIX = "made by pgcdc-lua from "

--- What a column's comment tells: a table from ids of tables to {number =, name =, type =}; empty
--- where it is not ours.
function follow.memory(comment)
   local text = comment and comment:sub(1, #PREFIX) == PREFIX and comment:sub(#PREFIX + 1)
   local ok, memory = pcall(raw.decode, text or "{}")
   for _, column in pairs(ok and type(memory) == "table" and memory or {}) do
      ok = ok and type(column) == "table" and math.type(column.number) == "integer"
         and type(column.name) == "string" and type(column.type) == "string"
   end
   return ok and type(memory) == "table" and memory or {}
end

local function log_altered(log, facts, what, ...)
   log("info", ("the table %s in the target: %s, as in the source"):format(facts.full,
      what:format(...)))
end

local function alter(run, facts, what, ...)
   run(("ALTER TABLE %s %s"):format(facts.full, what:format(...)))
   facts.is_altered, facts.is_changed = true, true
end

-- Calls f(). Returns false if a statement was refused, and undoes it.
local function try(run, f)
   run "SAVEPOINT pgcdc_follow"
   local ok, problem = pcall(f)
   if not ok then
      run "ROLLBACK TO pgcdc_follow"
   end
   run "RELEASE pgcdc_follow"
   return ok, problem
end

local function is_shared(column, id)
   for other in pairs(column.memory) do
      if other ~= id then
         return true
      end
   end
   return false
end

local function write_memory(run, facts, column)
   run(("COMMENT ON COLUMN %s.%s IS '%s'"):format(facts.full, quote(column.name),
      ((PREFIX .. raw.encode(column.memory)):gsub("'", "''"))))
end

-- ---- dropped columns ----

local function drop_columns(run, facts, id, seen, layout, mode, log)
   local wanted = {}
   for _, column in ipairs(layout.columns) do
      wanted[column.asked] = true
   end
   for i = #facts.columns, 1, -1 do
      local column = facts.columns[i]
      local then_ = column.memory[id]
      if then_ and not seen.numbers:find((" %d "):format(then_.number), 1, true) then
         column.is_left = true -- by the source
         if is_shared(column, id) then
            column.memory[id], column.is_left = nil, nil
            write_memory(run, facts, column)
         elseif mode == "mirror" and not wanted[column.name] then
            alter(run, facts, "DROP COLUMN %s", quote(column.name))
            log_altered(log, facts, "the column %s was dropped", quote(column.name))
            table.remove(facts.columns, i)
            facts.by_name[column.name] = nil
         end
      end
   end
end

-- ---- renamed columns ----

local function rename(run, facts, column, name)
   alter(run, facts, "RENAME COLUMN %s TO %s", quote(column.name), quote(name))
   facts.by_name[column.name], facts.by_name[name] = nil, column
   column.name = name
end

-- A name that no column of the table has.
local function free_name(facts, name)
   local n = 1
   while facts.by_name[name .. "_old" .. n] do
      n = n + 1
   end
   return name .. "_old" .. n
end

-- Renames the columns of the list, {column, new name}. A name may be that of another one in it.
local function rename_all(run, facts, list, log)
   local is_moving = {}
   for _, one in ipairs(list) do
      is_moving[one[1]] = true
      log_altered(log, facts, "the column %s was renamed to %s", quote(one[1].name), quote(one[2]))
   end
   for _, one in ipairs(list) do
      local other = facts.by_name[one[2]]
      if other and other.is_left then
         rename(run, facts, other, free_name(facts, other.name))
      elseif other and not is_moving[other] then
         error(("the source renamed a column to %s, and the table %s in the target has such a"
            .. " column besides: rename or drop it there"):format(quote(one[2]), facts.full), 0)
      elseif other and other ~= one[1] then
         rename(run, facts, other, free_name(facts, other.name))
      end
      rename(run, facts, one[1], one[2])
   end
end

-- The columns in the target by the numbers that they have in the source.
local function numbered(facts, id)
   local by_number = {}
   for _, column in ipairs(facts.columns) do
      if column.memory[id] then
         by_number[column.memory[id].number] = column
      end
   end
   return by_number
end

-- Renames columns where the source did. One that is called something else only here keeps its name.
local function rename_columns(run, facts, id, seen, layout, log)
   local by_number, list = numbered(facts, id), {}
   for place, column in ipairs(layout.columns) do
      local to = by_number[seen[place].number]
      if to and to.memory[id].name ~= column.asked and to.name ~= column.asked then
         list[#list + 1] = { to, column.asked }
      end
   end
   rename_all(run, facts, list, log)
end

-- ---- types ----

-- The ways to give a column another type, of which one after the other is tried: lists of what
-- stands after ALTER TABLE, or nil for an empty table.
local function ways_to_retype(column, is_key, type, comes_again)
   local name = quote(column.name)
   local to = ("ALTER COLUMN %s TYPE %s"):format(name, type)
   if type == "jsonb" and parts.are_many(column.whole) then
      return { { ("%s USING pg_catalog.to_jsonb(%s)"):format(to, name) } }
   end
   local ways = { { to }, { ("%s USING %s::text::%s"):format(to, name, type) } }
   if comes_again and is_key then
      ways[3] = { "", to .. " USING NULL" }
   elseif comes_again then
      ways[3] = { ("DROP COLUMN %s, ADD COLUMN %s %s"):format(name, name, type) }
   end
   return ways
end

-- `comes_again`: all rows come again, so that no value need be kept.
local function retype(run, facts, column, is_key, type, comes_again, log)
   local ok, problem
   for _, way in ipairs(ways_to_retype(column, is_key, type, comes_again)) do
      ok, problem = try(run, function()
         for _, what in ipairs(way) do
            run(what == "" and "DELETE FROM " .. facts.full
               or ("ALTER TABLE %s %s"):format(facts.full, what))
         end
      end)
      if ok then
         facts.is_altered, facts.is_changed = true, true
         log_altered(log, facts, "the column %s is %s now", quote(column.name), type)
         return
      end
   end
   error(problem, 0)
end

-- A type that holds the values of `former`, which must stay as they are, and those of the source.
local function common_type(former, seen, is_key)
   for _, type in ipairs { seen.made_as, (seen.made_as:gsub("%b()", "")), "numeric" } do
      local is_short = type == "bit" or type == "character" -- of length 1
      local whole = parts.read(nil, type)
      if not is_short and parts.hold(former, whole, false, is_key)
         and parts.hold(seen.whole, whole, seen.wants_json, is_key) then
         return type
      end
   end
   return "text"
end

-- The type that a column in the target is to get; nil: it stays.
local function new_type(column, seen, id, mode)
   local to, then_ = column.to, column.to.memory[id]
   local is_lossless = parts.hold(seen.whole, to.whole, seen.wants_json, column.is_key)
   if seen.made_as == to.full_type then
      return nil
   elseif mode == "mirror" and not is_shared(to, id) then
      return (not is_lossless or then_ and then_.type ~= seen.type) and seen.made_as or nil
   elseif is_lossless then
      return nil
   end
   return common_type(to.whole, seen, column.is_key)
end

-- ---- all ----

local function is_remembered(then_, seen, name)
   return then_ and then_.number == seen.number and then_.name == name and then_.type == seen.type
end

local function remember(run, facts, column, id, seen)
   local to = column.to
   if to.has_own_comment or is_remembered(to.memory[id], seen, column.asked) then
      return
   end
   to.memory[id] = { number = seen.number, name = column.asked, type = seen.type }
   write_memory(run, facts, to)
end

--- Drops and renames columns of a table that we made as the source did.
function follow.names(run, facts, layout, mode, log)
   for id, seen in pairs(layout.by_table) do
      drop_columns(run, facts, id, seen, layout, mode, log)
      rename_columns(run, facts, id, seen, layout, log)
   end
end

--- Sets `to` and `target` of the layout's columns: the column in the target and its name; `to` is
--- nil where there is none.
function follow.find(facts, layout)
   for _, column in ipairs(layout.columns) do
      column.to, column.target = facts.by_name[column.asked], column.asked
   end
   for id, seen in pairs(layout.by_table) do
      local by_number = numbered(facts, id)
      for place, column in ipairs(layout.columns) do
         column.to = by_number[seen[place].number] or column.to
         column.target = column.to and column.to.name or column.asked
      end
   end
end

--- Gives the columns of a table that we made the types that the source has, and remembers which
--- ones they are. `made_as` of the columns in `layout.by_table` must be set.
function follow.types(run, facts, layout, mode, log)
   for id, seen in pairs(layout.by_table) do
      for place, column in ipairs(layout.columns) do
         local to = column.to
         if seen[place].number and not to.is_generated then
            local type = new_type(column, seen[place], id, mode)
            if type then
               retype(run, facts, to, column.is_key, type, mode == "mirror"
                  and not is_shared(to, id), log)
               to.type, to.full_type, to.whole = type, type, parts.read(nil, type)
            end
            remember(run, facts, column, id, seen[place])
         end
      end
   end
end

return follow
