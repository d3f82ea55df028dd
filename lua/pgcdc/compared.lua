-- pgcdc.compared: finds places of the script that ask whether a numeric is equal to a number.
-- SPDX-License-Identifier: MIT
--
-- A numeric is text, and to Lua a text never equals a number: such a comparison raises no error, as
-- one with < does. So the text of the script is searched, which knows nothing of what it means:
--
--    change.row.total == 100      row, key or old, or a variable that was set to one of these
--    order["total"] ~= 0          the other way around as well
--
-- A comparison that is written otherwise is not found.

local raw = require "pgcdc.raw"

local compared = {}

local LARGEST = 1000000 -- bytes of a script that is looked at

local rows = { row = true, key = true, old = true }
local equals = { ["=="] = "never", ["~="] = "always" }

-- What may stand before the left side of a comparison, and after the right one, where the number,
-- or the column, is all of that side.
local starts = { ["if"] = true, ["elseif"] = true, ["while"] = true, ["until"] = true,
                 ["return"] = true, ["and"] = true, ["or"] = true, ["("] = true, ["="] = true,
                 [","] = true, ["{"] = true }
local ends = { ["."] = true, [".."] = true, ["["] = true, [":"] = true, ["+"] = true,
               ["-"] = true, ["*"] = true,
               ["/"] = true, ["//"] = true, ["%"] = true, ["^"] = true, ["("] = true }

-- Kind -> pattern of a word, tried in this order.
local patterns = {
   { "space", "^%s+" }, { "space", "^%-%-%[(=*)%[.-%]%1%]" }, { "space", "^%-%-[^\n]*" },
   { "text", "^%[(=*)%[.-%]%1%]" }, { "name", "^[%a_][%w_]*" }, { "number", "^0[xX][%x.pP]+" },
   { "number", "^%d[%w.]*" }, { "number", "^%.%d[%w.]*" }, { "sign", "^[=~<>]=" },
   { "sign", "^//" }, { "sign", "^%.%.%.?" }, { "sign", "^." },
}

-- The end of the text in quotes that begins at `at`.
local function end_of_text(text, at)
   local mark, i = text:sub(at, at), at + 1
   while i < #text and text:sub(i, i) ~= mark do
      i = i + (text:sub(i, i) == "\\" and 2 or 1)
   end
   return i
end

-- The words of a script: a list of {kind =, text =, line =}.
local function words_of(text)
   local words, at, line = {}, text:match "^#[^\n]*()" or 1, 1
   while at <= #text do
      local kind, last = "text", nil
      if text:find("^[\"']", at) then
         last = end_of_text(text, at)
      else
         for _, pattern in ipairs(patterns) do
            kind, last = pattern[1], select(2, text:find(pattern[2], at))
            if last then
               break
            end
         end
      end
      local word = text:sub(at, last)
      if kind ~= "space" then
         words[#words + 1] = { kind = kind, text = word, line = line }
      end
      line = line + select(2, word:gsub("\n", ""))
      at = last + 1
   end
   return words
end

local none = { kind = "end", text = "" }

local function word(words, i)
   return words[i] or none
end

-- The names of variables that the script sets to a row, a key or an old row.
local function variables_of(words)
   local names = {}
   for i = 4, #words do
      local last = rows[words[i].text] and words[i - 1].text == "." and words[i - 2].kind == "name"
      if last and words[i - 3].text == "=" and word(words, i - 4).kind == "name"
         and not ends[word(words, i + 1).text] and word(words, i - 5).text ~= "." then
         names[words[i - 4].text] = true
      end
   end
   return names
end

-- If the words from `i` on are a column of a row: its name, the first word and the last one.
local function column_at(words, i, variables)
   local name, is_field = word(words, i), word(words, i - 1).text == "."
   if name.kind ~= "name" or not (is_field and rows[name.text]
      or not is_field and variables[name.text]) then
      return nil
   end
   local first = i
   while word(words, first - 1).text == "." and word(words, first - 2).kind == "name" do
      first = first - 2
   end
   if word(words, i + 1).text == "." and word(words, i + 2).kind == "name" then
      return words[i + 2].text, first, i + 2
   elseif word(words, i + 1).text == "[" and word(words, i + 3).text == "]"
      and word(words, i + 2).kind == "text" then
      return words[i + 2].text:match "^[\"'](.*)[\"']$", first, i + 3
   end
end

-- The last word of the number that begins at `i`, or nil.
local function number_at(words, i)
   i = word(words, i).text == "-" and i + 1 or i
   return word(words, i).kind == "number" and i or nil
end

-- The last word of a comparison with a number that has the column on its left side, from `first` to
-- `last`, or the first word of one that has it on its right side; and the operator.
local function find_number(words, first, last)
   local after, before = word(words, last + 1).text, word(words, first - 1).text
   local number = equals[after] and number_at(words, last + 2)
   if number and not ends[word(words, number + 1).text] and starts[before] then
      return first, number, after
   elseif equals[before] and word(words, first - 2).kind == "number" and not ends[after] then
      local start = word(words, first - 3).text == "-" and first - 3 or first - 2
      return starts[word(words, start - 1).text] and start, last, before
   end
end

local function text_of(words, first, last)
   local parts = {}
   for i = first, last do
      parts[#parts + 1] = (equals[words[i].text] and " %s " or "%s"):format(words[i].text)
   end
   return table.concat(parts)
end

--- The comparisons in the text of a script: a list of {column =, line =, code =, is = "never" or
--- "always" true}.
function compared.find(text)
   local words, found = words_of(text), {}
   local variables = variables_of(words)
   for i = 1, #words do
      local column, first, last = column_at(words, i, variables)
      local start, stop, operator
      if column then
         start, stop, operator = find_number(words, first, last)
      end
      if start then
         found[#found + 1] = { column = column, line = words[i].line,
                               code = text_of(words, start, stop), is = equals[operator] }
      end
   end
   return found
end

local places -- what was found in this script

local function read_script()
   if raw.is_sandboxed or raw.file_stat(raw.script) ~= "file" then -- it is a pipe, say
      return ""
   end
   local file = io.open(raw.script, "rb")
   local text = file and file:read(LARGEST) or ""
   if file then
      file:close()
   end
   return text:sub(1, 1) == "\27" and "" or text
end

--- Warns, once each, of comparisons in the script with columns that are numeric; not in the
--- sandbox, where nothing is read. `columns`: as raw.copy_columns has them.
function compared.warn(source, columns)
   for _, column in ipairs(columns) do
      if column.kind == "numeric" then
         places = places or compared.find(read_script())
         for _, place in ipairs(places) do
            if place.column == column.name and not place.is_told then
               place.is_told = true
               raw.log("warn", ("line %d: %s is %s true: the column '%s' is numeric, and its values"
                  .. " are text: tonumber() makes numbers of them"):format(place.line, place.code,
                  place.is, column.name), { source = source })
            end
         end
      end
   end
end

return compared
