-- pgcdc.bundled: what the bundled scripts have in common: options, and the sources they declare.
-- SPDX-License-Identifier: MIT
--
--    local bundled = require "pgcdc.bundled"
--    local options = bundled.options {
--       { "target", pgcdc.required, "what NAME help=1 says about it" },
--    }
--    for _, source in ipairs(bundled.sources(options)) do ... end

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local help = require "pgcdc.help"
local declare = require("pgcdc.options").declare
local required = require("pgcdc.options").required
local path = require "pgcdc.sinks.path"
local source = require "pgcdc.stream.source"

local bundled = {}

-- What `sources` reads: {name, default, text of help=1}.
local common = {
   { "table", required, "one, or several with commas between" },
   { "pk", "", "key columns with commas between; default: the primary key" },
   { "columns", "", "columns to read, with commas between; default: all" },
   { "where", "", "SQL condition" },
   { "interval", 1, "seconds between polls" },
   { "connections", 8, "how many connections to the database at most" },
   { "start", "snapshot", "snapshot, now, or a transaction id" },
   { "capture", "xmin",
     "xmin, increment, or trigger (install it first: pgcdc-lua trigger help=1)" },
   { "column", "", "with capture=increment: the column that grows" },
}

--- Declares the options that `sources` reads and those of `own`, a list of {name, default, text of
--- help=1}. Returns their values by name, as pgcdc.options does.
function bundled.options(own)
   local list = table.move(common, 1, #common, 1, {})
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

--- What the options rotate= and every= mean to a sink; nil: nothing.
function bundled.rotation(options)
   local size = options.rotate ~= "" and options.rotate or nil
   local every = options.every ~= 0 and options.every or nil
   return (size or every) and { size = size, every = every } or nil
end

--- The value of a column of a change; an error if its table has no such column.
function bundled.column(change, name)
   local row = change.row or change.old or change.key
   local value = row[name]
   if value == nil and change.row then
      for column in pairs(row) do
         if column == name then
            return nil
         end
      end
      error(("the table %s.%s has no column '%s' among those that are read"):format(
         change.schema, change.table, name), 0)
   end
   return value
end

--- A name for a file, which is different for each value and names no other folder.
bundled.file_name = path.name

--- Declares one source for each table that the options name. Returns the list. `more`: further
--- fields for all of them, as pgcdc.source has them.
function bundled.sources(options, more)
   local sources = {}
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
      }
      for field, value in pairs(more or {}) do
         spec[field] = value
      end
      sources[i] = source.declare(spec)
   end
   return sources
end

return bundled
