-- pgcdc.help: what `pgcdc-lua SCRIPT help=1` prints: the script's options.
-- SPDX-License-Identifier: MIT
--
-- What an option is for is the comment behind it where it is declared, so it is read there.

local raw = require "pgcdc.raw"

local help = {}

local io = rawget(_G, "io") -- the sandbox has none, and then there are no comments

-- The file that calls us: the first function that is not one of ours.
local function caller()
   local level = 2
   local source = raw.where(level)
   while source do
      if source:sub(1, 1) == "@" and source:sub(2, #raw.lua_dir + 2) ~= raw.lua_dir .. "/" then
         return source:sub(2)
      end
      level = level + 1
      source = raw.where(level)
   end
end

-- Reads {name = value, -- comment} behind the first line that `opening` matches. Appends what it
-- finds of `wanted` to `found`, a list of {name =, comment =}. Returns the file's first line.
local function read(path, opening, wanted, found)
   local first, is_inside, last
   for line in io.lines(path) do
      first = first or line
      if not is_inside then
         is_inside = line:find(opening)
      elseif line:find "^%s*}" then
         break
      end
      local name, comment = line:match "^%s*([%a_][%w_]*)%s*=.-%-%-%s*(.*)$"
      if is_inside and name and wanted[name] ~= nil then
         last = { name = name, comment = comment }
         found[#found + 1] = last
      elseif last and line:find "^%s*%-%-" then
         last.comment = last.comment .. " " .. line:match "^%s*%-%-%s*(.*)$"
      else
         last = nil
      end
   end
   return first
end

local function find_comments(defaults)
   local found, path = {}, caller()
   local first
   if io and path then
      read(raw.lua_dir .. "/pgcdc/bundled.lua", "^local common = {", defaults, found)
      first = read(path, "pgcdc%.options", defaults, found)
   end
   local seen, rest = {}, {}
   for i = #found, 1, -1 do -- what the script says itself is behind, and wins
      if seen[found[i].name] then
         table.remove(found, i)
      else
         seen[found[i].name] = true
      end
   end
   for name in pairs(defaults) do
      if not seen[name] then
         rest[#rest + 1] = { name = name, comment = "" }
      end
   end
   table.sort(rest, function(a, b) return a.name < b.name end)
   table.move(rest, 1, #rest, #found + 1, found)
   return found, first and first:match "^%-%-%s*(.*)$"
end

--- The text for a script with these options; `required` marks those that must be given.
function help.text(defaults, required)
   local found, title = find_comments(defaults)
   local lines, width = {}, 0
   for _, option in ipairs(found) do
      local default = defaults[option.name]
      option.left = option.name .. "=" .. (default == required and "..." or tostring(default))
      width = math.max(width, #option.left)
   end
   for i, option in ipairs(found) do
      local text = defaults[option.name] == required and "required" or ""
      text = text .. (text ~= "" and option.comment ~= "" and ": " or "") .. option.comment
      lines[i] = ("  %-" .. width .. "s  %s"):format(option.left, text):gsub("%s+$", "")
   end
   if title then
      table.insert(lines, 1, title)
   end
   return table.concat(lines, "\n") .. "\n"
end

return help
