-- verify: are tables and their mirrors in another database the same? Lists the rows that differ.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"
local connect = require "pgcdc.postgres.client"
local verify = require "pgcdc.postgres.verify"

local options = bundled.own_options {
   { "table", pgcdc.required, "one, or several with commas between" },
   { "target", pgcdc.required, "the other database: a conninfo string or URI" },
   { "target_table", "", "the names there, in the same order; default: the same names" },
   { "pk", "", "columns that identify a row; default: the source's primary key" },
   { "columns", "", "columns to compare, and the key; default: all of the source" },
   { "rename", "", "OLD:NEW with commas between: columns that have other names there" },
   { "where", "", "SQL condition, for both sides, with the names of the source" },
   { "limit", 100, "how many rows of a table are listed" },
   { "settle", 3, "how often rows that differ are looked at again; for a live mirror" },
   { "wait", 1, "seconds before each time: more than the mirror's interval and lag" },
}

local names = bundled.list(options.table)
local target_names = bundled.list(options.target_table) or names
if #target_names ~= #names then
   bundled.usage("target_table must have as many names as table")
end
local rename, is_taken = bundled.pairs("rename", options.rename), {}
for _, name in pairs(rename or {}) do
   if is_taken[name] then
      bundled.usage(("rename names two columns '%s'"):format(name))
   end
   is_taken[name] = true
end
for _, name in ipairs { "limit", "settle" } do
   if math.type(options[name]) ~= "integer" or options[name] < 0 then
      bundled.usage(("%s must be a whole number, not %s"):format(name, options[name]))
   end
end
if options.wait < 0 or options.wait > 3600 then
   bundled.usage "wait must be a number of seconds, at most 3600"
end

-- true: a stop of the program ends a statement that is running
local source, target = connect(nil, true), connect(options.target, true)
local is_equal = true
for i, name in ipairs(names) do
   is_equal = verify.run({
      source = source, target = target,
      table = name, target_table = target_names[i],
      pk = bundled.names(options.pk), columns = bundled.names(options.columns),
      rename = rename,
      where = options.where ~= "" and options.where or nil,
      limit = options.limit, settle = options.settle, wait = options.wait,
   }, print) and is_equal
end
pgcdc.stop(is_equal and 0 or 1)
