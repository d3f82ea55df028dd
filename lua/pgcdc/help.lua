-- pgcdc.help: what `pgcdc-lua SCRIPT help=1` prints: what the script is for, and its options.
-- SPDX-License-Identifier: MIT
--
-- An option is {name, default, text}. Bundled scripts declare such a list (see bundled). A script
-- that gives pgcdc.options a plain table says in comments what its options are for: these are read
-- from its file.

local raw = require "pgcdc.raw"

local help = {}

local io = rawget(_G, "io") -- the sandbox has none, and then no file is read

-- The file of the script that calls us: that of the first function that is not one of ours.
local function script_path()
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

-- What the script is for: its first line, if that is a comment. (--list prints it, too.)
local function read_title(path)
   local file = assert(io.open(path))
   local line = file:read "l"
   file:close()
   return line and line:match "^%-%-%s*(.*)$"
end

-- Reads {name = value, -- comment} after the first line that calls pgcdc.options. Returns a list of
-- the options that are in `defaults`, in the order of the file.
local function read_comments(path, defaults)
   local found, is_inside, last = {}, false, nil
   for line in io.lines(path) do
      if not is_inside then
         is_inside = line:find "pgcdc%.options"
      elseif line:find "^%s*}" then
         break
      end
      local name, comment = line:match "^%s*([%a_][%w_]*)%s*=.-%-%-%s*(.*)$"
      if is_inside and name and defaults[name] ~= nil then
         last = { name, defaults[name], comment }
         found[#found + 1] = last
      elseif last and line:find "^%s*%-%-" then
         last[3] = last[3] .. " " .. line:match "^%s*%-%-%s*(.*)$"
      else
         last = nil
      end
   end
   return found
end

-- Returns a list with each option once, as it is last in `list`, and the set of their names.
local function without_doubles(list)
   local seen, kept = {}, {}
   for i = #list, 1, -1 do
      if not seen[list[i][1]] then
         seen[list[i][1]] = true
         table.insert(kept, 1, list[i])
      end
   end
   return kept, seen
end

-- Tables of defaults -> lists of options whose texts are no comments of the script.
local texts = setmetatable({}, { __mode = "k" })

--- Tells what options of the table `defaults` are for, which has no comments on them: `list`.
function help.add_texts(defaults, list)
   texts[defaults] = list
end

-- The options in this table with the texts of `help.add_texts`.
local function read_texts(defaults)
   local found = {}
   for _, option in ipairs(texts[defaults] or {}) do
      local name = option[1]
      if defaults[name] ~= nil then
         found[#found + 1] = { name, defaults[name], option[3] }
      end
   end
   return found
end

--- The options of the script that calls us, whose defaults are in this table, as a list: those with
--- texts of `help.add_texts`, those with comments in the script's file, the others by name.
function help.from_comments(defaults)
   local path = io and script_path()
   local found = read_texts(defaults)
   local comments = path and read_comments(path, defaults) or {}
   local list, seen = without_doubles(table.move(comments, 1, #comments, #found + 1, found))
   local rest = {}
   for name, default in pairs(defaults) do
      if not seen[name] then
         rest[#rest + 1] = { name, default, "" }
      end
   end
   table.sort(rest, function(a, b) return a[1] < b[1] end)
   return table.move(rest, 1, #rest, #list + 1, list)
end

--- The text for the script that calls us. `list`: its options; `required`: the default of those
--- that must be given.
function help.text(list, required)
   local path = io and script_path()
   local title = path and read_title(path)
   local lines, left, width = {}, {}, 0
   for i, option in ipairs(list) do
      local name, default = option[1], option[2]
      left[i] = name .. "=" .. (default == required and "..." or tostring(default))
      width = math.max(width, #left[i])
   end
   for i, option in ipairs(list) do
      local text = option[3]
      if option[2] == required then
         text = text ~= "" and "required: " .. text or "required"
      end
      lines[i] = ("  %-" .. width .. "s  %s"):format(left[i], text):gsub("%s+$", "")
   end
   if title then
      table.insert(lines, 1, title)
   end
   return table.concat(lines, "\n") .. "\n"
end

return help
