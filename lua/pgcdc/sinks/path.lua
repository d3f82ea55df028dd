-- pgcdc.sinks.path: which file a value goes to, where that depends on the value.
-- SPDX-License-Identifier: MIT
--
--    "out/{region}/{tenant}.jsonl"   root "out", and for each value such as "eu/acme.jsonl"
--
-- Whatever the values are, a path names a file below its root: what is no plain letter, digit or
-- one of "-_." is written %XX in it.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local column_of = require "pgcdc.sinks.column"

local path = {}

local MAX_NAME = 200 -- file systems allow 255 bytes, and a rotated file's name is longer
local MAX_CACHE = 10000

local function escape(c)
   return ("%%%02X"):format(c:byte())
end

-- A name that is too long is cut, and its checksum is added.
local function shortened(name)
   if #name <= MAX_NAME then
      return name
   end
   local ending = name:match "%.%w+$" or ""
   ending = #ending <= 20 and ending or ""
   return name:sub(1, 100):gsub("%%%x?$", "") .. "%long-" .. raw.sha256(name) .. ending
end

--- A name for a file, which is different for each value and names no other folder. The empty text
--- and NULL have names that no other text has.
function path.name(value)
   if value == nil or value == raw.null then
      return "%null"
   elseif value == "" then
      return "%empty"
   end
   local text = type(value) == "string" and value or raw.encode(value)
   local name = text:gsub("[^%w_.-]", escape):gsub("^[.-]", escape)
   if #name > MAX_NAME then
      name = name:sub(1, 120):gsub("%%%x?$", "") .. "%long-" .. raw.sha256(text)
   end
   return name
end

-- ---- patterns ----

-- The column `name` of a change, or the field of another table.
local function field(what, value, name)
   if not raw.is_change(value) then
      if type(value) ~= "table" then
         check.fail("%s: {%s} is the field of a table, and this value is %s", what, name,
            type(value) == "string" and "a string" or "a " .. type(value))
      end
      return value[name]
   end
   local of_change = name:match "^change%.(.*)$"
   if of_change then
      return value[of_change]
   end
   return column_of(what, value, name)
end

-- A part of a pattern, between slashes, as a list of pieces: text, or {name = of a column}.
local function parse_part(what, part)
   local pieces, at = {}, 1
   while at <= #part do
      local literal, stop = part:match("^([^{}]+)()", at)
      if literal then
         pieces[#pieces + 1] = literal
      else
         local name
         literal, stop = part:match("^([{}])%1()", at)
         if literal then
            pieces[#pieces + 1] = literal
         else
            name, stop = part:match("^{([^{}]+)}()", at)
            if not name then
               check.fail("%s: in '%s' write {column}, or {{ and }} for braces", what, part)
            end
            pieces[#pieces + 1] = { name = name }
         end
      end
      at = stop
   end
   if #pieces <= 1 and (part == "" or part == "." or part == "..") then
      check.fail("%s: after the first {column} there must be no '%s' between slashes", what, part)
   end
   return pieces
end

-- A function that returns what path.name returns, and remembers it.
local function cached_names()
   local cache, count = {}, 0
   return function(value)
      local name = cache[value]
      if not name then
         if count >= MAX_CACHE then
            cache, count = {}, 0
         end
         name = path.name(value)
         cache[value], count = name, count + 1
      end
      return name
   end
end

-- A function from values to paths below the root.
local function compile(what, parts)
   local name_of = cached_names()
   return function(value)
      local names = {}
      for i, pieces in ipairs(parts) do
         local name = ""
         for _, piece in ipairs(pieces) do
            if type(piece) == "string" then
               name = name .. piece
            else
               local content = field(what, value, piece.name)
               name = name .. (type(content) == "string" and name_of(content) or path.name(content))
            end
         end
         names[i] = shortened(name)
      end
      return table.concat(names, "/")
   end
end

--- True if the text has {column} in it.
function path.is_pattern(text)
   return text:gsub("{{", ""):find("{", 1, true) ~= nil
end

--- The columns that a pattern names, as a set.
function path.columns(text)
   local columns = {}
   for name in text:gsub("{{", ""):gmatch "{([^{}]+)}" do
      columns[name] = not name:find "^change%." or nil
   end
   return columns
end

--- The text with `{{` and `}}` as single braces, where it is no pattern.
function path.plain(text)
   return (text:gsub("{{", "{"):gsub("}}", "}"))
end

--- Takes a pattern apart. Returns its root, a folder, and a function from values to paths below it.
function path.pattern(what, text)
   local fixed = text:match("^[^{]*")
   local folder, rest = text:sub(1, #fixed):match "^(.*)/", text
   if folder then
      rest = text:sub(#folder + 2)
      folder = folder == "" and "/" or folder
   end
   local parts = {}
   for part in (rest .. "/"):gmatch "([^/]*)/" do
      parts[#parts + 1] = parse_part(what, part)
   end
   return folder or ".", compile(what, parts)
end

-- ---- functions ----

local function safe_part(part)
   if part == "" then
      return "%empty"
   elseif part == "." or part == ".." then
      return (part:gsub("%.", escape))
   end
   return shortened((part:gsub("%c", escape)))
end

--- A function from values to paths below a root, whatever `f` returns: a path there.
function path.from_function(what, f)
   return function(value)
      local text = f(value)
      if type(text) == "number" then
         text = tostring(text)
      elseif type(text) ~= "string" then
         check.fail("%s: its function must return a path, not %s", what,
            text == nil and "nil" or text == raw.null and "null" or "a " .. type(text))
      end
      local names = {}
      for part in (text .. "/"):gmatch "([^/]*)/" do
         names[#names + 1] = safe_part(part)
      end
      return table.concat(names, "/")
   end
end

return path
