-- tail: changes as they come, for people: time, op, table, key, and the columns that changed.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"
local show = require "pgcdc.terminal"

local options = bundled.options {
   { "width", 80, "the longest value that is shown whole; 0: show all of them whole" },
}

local colours = { read = "blue", insert = "green", upsert = "green", update = "yellow",
                  delete = "red" }

-- "name=value" for each of the names, or for all columns but those in `key`.
local function columns(row, names, key)
   local words = {}
   if names then
      for i, name in ipairs(names) do
         words[i] = show.field(name, row[name], options.width)
      end
   else
      for name, value in pairs(row) do
         words[#words + 1] = key[name] == nil and show.field(name, value, options.width) or nil
      end
   end
   return table.concat(words, " ")
end

local function line(change)
   local op = change.op
   local names = op == "update" and change.changed or nil
   local row = change.row or change.old
   return table.concat({
      show.paint("dim", show.time_of_day(change.ts)),
      show.paint(colours[op], ("%-6s"):format(op)),
      show.paint("bold", show.text(change.schema .. "." .. change.table)),
      show.paint("cyan", columns(change.key, nil, {})),
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
