-- tail: changes as they come, for people: time, op, table, key, and the columns that changed.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"
local terminal = require "pgcdc.terminal"

local options = bundled.options({
   { "width", 80, "the longest value that is shown whole; 0: show all of them whole" },
}, { start = "now" })

local colours = { read = "blue", insert = "green", upsert = "green", update = "yellow",
                  delete = "red" }

-- "name=value" for each of the names, or for all columns but those in `key`.
local function columns(row, names, key)
   local fields = {}
   if names then
      for i, name in ipairs(names) do
         fields[i] = terminal.field(name, row[name], options.width)
      end
   else
      for name, value in pairs(row) do
         if pgcdc.get(key, name) == nil then
            fields[#fields + 1] = terminal.field(name, value, options.width)
         end
      end
   end
   return table.concat(fields, " ")
end

local function line(change)
   local op = change.op
   local names = op == "update" and change.changed or nil
   local row = change.row or change.old
   return table.concat({
      terminal.paint("dim", terminal.time_of_day(change.ts)),
      terminal.paint(colours[op], ("%-6s"):format(op)),
      terminal.paint("bold", terminal.text(change.schema .. "." .. change.table)),
      terminal.paint("cyan", columns(change.key, nil, {})),
      row and columns(row, names, change.key) or nil,
   }, " ")
end

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   source:on("change", function(change)
      print(line(change))
   end)
end

return sources
