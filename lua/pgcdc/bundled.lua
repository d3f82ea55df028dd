-- pgcdc.bundled: what the bundled scripts have in common: options, and the sources they declare.
-- SPDX-License-Identifier: MIT
--
--    local bundled = require "pgcdc.bundled"
--    local options = pgcdc.options(bundled.defaults {
--       target = pgcdc.required, -- what NAME help=1 says about it
--    })
--    for _, source in ipairs(bundled.sources(options)) do ... end

local check = require "pgcdc.check"
local source = require "pgcdc.source"
local required = require("pgcdc.options").required

local bundled = {}

-- The comments are what help=1 prints.
local common = {
   table = required,   -- one, or several with commas between
   pk = "",            -- key columns with commas between; default: the primary key
   columns = "",       -- columns to read, with commas between; default: all
   where = "",         -- SQL condition
   interval = 1,       -- seconds between polls
   start = "snapshot", -- snapshot, now, or a transaction id
}

--- The options of all bundled scripts and `own` as one table, for pgcdc.options.
function bundled.defaults(own)
   local defaults = {}
   for name, default in pairs(common) do
      defaults[name] = default
   end
   for name, default in pairs(own or {}) do
      if common[name] ~= nil then
         check.fail("pgcdc.bundled: the option %s is everybody's", name)
      end
      defaults[name] = default
   end
   return defaults
end

--- 'a, "b,c"' as {'a', '"b,c"'}: commas within double quotes do not part, blanks around an item
--- do not count. Nothing but commas and blanks: nil.
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

--- The same for names of columns, which stand for themselves: quotes around one are taken off.
function bundled.names(text)
   local names = bundled.list(text)
   for i, name in ipairs(names or {}) do
      local quoted = name:match('^"(.*)"$')
      names[i] = quoted and quoted:gsub('""', '"') or name
   end
   return names
end

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
