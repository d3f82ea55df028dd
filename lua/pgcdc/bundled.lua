-- pgcdc.bundled: what the bundled scripts have in common: options, and the sources they declare.
-- SPDX-License-Identifier: MIT
--
--    local bundled = require "pgcdc.bundled"
--    local options = bundled.options {
--       { "target", pgcdc.required, "what NAME help=1 says about it" },
--    }
--    for _, source in ipairs(bundled.sources(options)) do ... end

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"
local check = require "pgcdc.check"
local connect = require "pgcdc.postgres.client"
local help = require "pgcdc.help"
local options_of = require "pgcdc.options"
local path = require "pgcdc.sinks.path"
local seal = require "pgcdc.seal"
local sorted = require("pgcdc.names").sorted
local source = require "pgcdc.stream.source"

local declare, required = options_of.declare, options_of.required
local declare_source = seal.result(source.declare)

local bundled = {}

-- What `sources` reads: {name, default, text of help=1}.
local common = {
   { "table", required, "one, or several with commas between" },
   { "pk", "", "key columns with commas between; default: the primary key" },
   { "columns", "", "columns to read, with commas between; default: all" },
   { "where", "", "SQL condition" },
   { "interval", 1, "seconds between polls" },
   { "max_load", 0.1, "share of the time that scans may take, else polls wait; 1: they never do" },
   { "connections", 8, "how many connections to the database at most" },
   { "start", "snapshot",
     "begin with the rows that are there (snapshot), with what comes (now), or at an xid" },
   { "deletes", "no", "tell deletes: yes, no, or the seconds between two looks for them" },
   { "old", false, "with deletes: keep the rows, to tell what they were before" },
   { "capture", "xmin",
     "xmin, increment, or what is to be installed first: trigger (pgcdc-lua trigger help=1),"
        .. " logical (pgcdc-lua slot help=1)" },
   { "column", "", "with capture=increment: the column that grows" },
   { "publication", "pgcdc", "with capture=logical: what has the tables" },
   { "slot", "", "with capture=logical: the replication slot; default: one of this script's own" },
   { "slot_connect", "", "with capture=logical: how the slot is reached; default: as the tables" },
   { "max_retained", "16G", "with capture=logical: how much log the slot may hold" },
   { "on_full", "drop", "with capture=logical: a slot that holds more: drop, keep or stop" },
   { "failover", false, "with capture=logical: the slot is to be on standbys too" },
   { "toast", "fill", "with capture=logical: unchanged long values: fill, leave or require" },
}
-- Those of capture=logical.
local by_log = { "publication", "slot", "slot_connect", "max_retained", "on_full", "failover",
   "toast" }

--- Declares the options that `sources` reads and those of `own`, a list of {name, default, text of
--- help=1}. Returns their values by name, as pgcdc.options does. `defaults`: name -> default, where
--- the script has another one than the others; or nil.
function bundled.options(own, defaults)
   local list = {}
   for i, option in ipairs(common) do
      list[i] = table.move(option, 1, 3, 1, {})
      if defaults and defaults[option[1]] ~= nil then
         list[i][2] = defaults[option[1]]
      end
   end
   return declare(table.move(own, 1, #own, #list + 1, list))
end

--- The same, for scripts that declare no sources.
bundled.own_options = declare

--- The options that `sources` reads and those of `own`, a table from names to defaults, as a new
--- table for pgcdc.options. Raises an error if `own` has one of the former. Bundled scripts called
--- this once, and scripts that were made from them still do; new ones call `bundled.options`.
function bundled.defaults(own)
   local defaults = {}
   for _, option in ipairs(common) do
      defaults[option[1]] = option[2]
   end
   for name, default in pairs(own or {}) do
      if defaults[name] ~= nil then
         check.fail("pgcdc.bundled: the option %s is everybody's", name)
      end
      defaults[name] = default
   end
   help.add_texts(defaults, common)
   return defaults
end

--- 'a, "b,c"' as {'a', '"b,c"'}: commas inside double quotes do not separate items, blanks around
--- an item are dropped. nil where there is nothing but commas and blanks.
function bundled.list(text)
   local items, item, is_quoted = {}, "", false
   local function finish()
      item = item:match("^%s*(.-)%s*$")
      if item ~= "" then
         items[#items + 1] = item
      end
      item = ""
   end
   for c in text:gmatch(".") do
      if c == "," and not is_quoted then
         finish()
      else
         is_quoted = is_quoted ~= (c == '"')
         item = item .. c
      end
   end
   finish()
   return #items > 0 and items or nil
end

--- The same for names of columns: quotes around one are taken off.
function bundled.names(text)
   local names = bundled.list(text)
   for i, name in ipairs(names or {}) do
      local quoted = name:match('^"(.*)"$')
      names[i] = quoted and quoted:gsub('""', '"') or name
   end
   return names
end

--- Ends the program with a usage error: what is wrong with the command line.
bundled.usage = raw.usage

--- 'a:b,"c:d":e' as {a = "b", ["c:d"] = "e"}; nil where there is nothing. What cannot be understood
--- ends the program. `what`: the name of the option.
function bundled.pairs(what, text)
   local found
   for _, item in ipairs(bundled.list(text) or {}) do
      local from, to = item:match '^(".*")%s*:%s*(.-)$'
      if not from then
         from, to = item:match "^(.-)%s*:%s*(.-)$"
      end
      local names = from and { bundled.names(from), bundled.names(to) } or {}
      if not names[1] or not names[2] then
         bundled.usage(("%s=%s: say OLD:NEW"):format(what, item))
      end
      found = found or {}
      found[names[1][1]] = names[2][1]
   end
   return found
end

--- What the options rotate= and every= mean to a sink; nil: nothing.
function bundled.rotation(options)
   local size = options.rotate ~= "" and options.rotate or nil
   local every = options.every ~= 0 and options.every or nil
   return (size or every) and { size = size, every = every } or nil
end

local has_warned = false -- a warning was logged that deletes do not have a column

--- The value of a column of a change; an error if its table has no such column.
function bundled.column(change, name)
   local row = change.row or change.old or change.key
   local value = raw.get(row, name)
   if value == nil and not change.row and not change.old and not has_warned then
      has_warned = true
      raw.log("warn", ("deletes do not tell the column '%s': they count as NULL (old=yes keeps it,"
         .. " with capture=xmin)"):format(name))
   end
   if value == nil and change.row then
      for column in pairs(row) do
         if column == name then
            return nil
         end
      end
      error(("the table %s.%s has no column '%s' among those that are read%s"):format(
         change.schema, change.table, name, check.nearest(name, sorted(row))), 0)
   end
   return value
end

--- A name for a file, which is different for each value and names no other folder.
bundled.file_name = path.name

local COLUMNS = answer.question([[SELECT n.nspname || '.' || relname AS "table", a.attname AS column
   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = pg_catalog.to_regclass($1) AND attnum > 0 AND NOT attisdropped]],
   { table = "text", column = "text" })

-- The columns of a table that are read, as a set, and its full name; nil where it is not found.
local function columns_of(db, options, name)
   local rows = COLUMNS:rows(function(...) return db:query(...) end, name)
   if #rows == 0 then
      return nil
   end
   local there, read = {}, {}
   for _, row in ipairs(rows) do
      there[row.column] = true
   end
   for _, column in ipairs(bundled.names(options.columns) or sorted(there)) do
      read[column] = there[column]
   end
   return read, rows[1].table
end

--- Ends the program with status 3 if one of the tables that the options name lacks one of
--- `columns`, a set, or if that column is not read, so that the program ends before any row.
--- `what`: the option that names the columns. If the server cannot be asked now, the first change
--- raises the error.
function bundled.check_columns(options, what, columns)
   if not next(columns) then
      return
   end
   local db = connect()
   for _, name in ipairs(bundled.list(options.table)) do
      local ok, there, full_name = pcall(columns_of, db, options, name)
      for _, column in ipairs(ok and there and sorted(columns) or {}) do
         if not there[column] then
            db:close()
            raw.refuse(("%s: %s has no column '%s'%s%s"):format(what, full_name, column,
               bundled.names(options.columns) and " among those that are read" or "",
               check.nearest(column, sorted(there))))
         end
      end
   end
   db:close()
end

--- Ends the program with a usage error unless all of these names, a list or nil, are fields of
--- changes. `what`: the option that names them.
function bundled.check_fields(what, names)
   local is_field = {}
   for _, name in ipairs(raw.change_fields) do
      is_field[name] = true
   end
   for _, name in ipairs(names or {}) do
      if not is_field[name] then
         bundled.usage(("%s: a change has no field '%s'%s"):format(what, name,
            check.nearest(name, raw.change_fields)))
      end
   end
end

--- As check_columns, for the columns that out= has in braces.
function bundled.check_out(options)
   local columns = path.columns(options.out)
   if next(columns) then
      bundled.check_columns(options, "out", columns)
   end
end

--- What out= with columns in braces means: {dir =, path = a function from changes to paths below
--- it}; nil where it has none.
function bundled.pattern(out)
   if not path.is_pattern(out) then
      return nil
   end
   local dir, path_of = path.pattern("out", out)
   return { dir = dir, path = path_of }
end

--- True if the sources of these options tell deletes.
function bundled.tells_deletes(options)
   return options.capture == "trigger" or options.capture == "logical"
      or options_of.truths[options.deletes:lower()] ~= false
end

-- The option deletes= as a source's field `deletes`.
local function read_deletes(options)
   local text = options.deletes:lower()
   local seconds = tonumber(text)
   if options_of.truths[text] == true and text ~= "1" then
      return true
   elseif options_of.truths[text] == false then
      return false
   elseif not seconds then
      bundled.usage(("deletes must be yes, no or a number of seconds, not '%s'"):format(
         options.deletes))
   end
   return { interval = seconds }
end

-- The fields `deletes` and `old` of a source. The script's defaults do not count if the capture
-- cannot tell deletes.
local function deletes_of(options)
   local deletes = read_deletes(options)
   if deletes and options.capture == "increment" and not options_of.is_given "deletes" then
      raw.log("warn", "capture=increment tells no deletes: what is deleted stays where it was"
         .. " written")
      deletes = false
   end
   local has_old = deletes and options.capture == "xmin" or options_of.is_given "old"
   return deletes, has_old and options.old
end

--- Declares one source for each table that the options name. Returns the list. `more`: further
--- fields for all of them, as pgcdc.source has them.
function bundled.sources(options, more)
   local sources = {}
   local deletes, old = deletes_of(options)
   for i, name in ipairs(bundled.list(options.table) or {}) do
      local spec = {
         table = name,
         pk = bundled.names(options.pk),
         columns = bundled.names(options.columns),
         where = options.where ~= "" and options.where or nil,
         interval = options.interval,
         connections = options.connections,
         capture = options.capture,
         column = options.column ~= "" and options.column or nil,
         start = math.tointeger(tonumber(options.start)) or options.start,
         deletes = deletes,
         old = old,
      }
      spec.max_load = options_of.is_given "max_load" and options.max_load or nil
      for _, option in ipairs(by_log) do
         spec[option] = options_of.is_given(option) and options[option] or nil
      end
      for field, value in pairs(more or {}) do
         spec[field] = value
      end
      sources[i] = declare_source(spec)
   end
   return sources
end

return bundled
