-- pgcdc.check: checks what scripts pass in; errors name it, and the line of the script.
-- SPDX-License-Identifier: MIT
--
-- `what`, the first argument of most functions, is how errors name the value. Functions that
-- describe a value ("A string that is not empty") raise an error unless it is one, and return it.

local raw = require "pgcdc.raw"
local names = require "pgcdc.names"

local check = {}

local MOST_LISTED = 12

local ours = "@" .. raw.lua_dir .. "/"
local bundled = "@" .. raw.scripts_dir .. "/"
local is_loaded = false

-- The level of the function that called into the library, the first one that is not ours, counted
-- from here: this function is 1. 0 if there is none.
local function caller_level()
   local level = 3
   local source = raw.where(level)
   while source do
      if source ~= "=[C]" and source:sub(1, #ours) ~= ours then
         return level
      end
      level = level + 1
      source = raw.where(level)
   end
   return 0
end

--- To be called when the script is loaded.
function check.set_loaded()
   is_loaded = true
end

-- True if a bundled script is loaded, and is the one that called into the library with what the
-- message says is wrong. What it passes to sources and sinks are words of the command line.
local function passes_on_words(level, message)
   local source = not is_loaded and level > 0 and raw.where(level)
   return source and source:sub(1, #bundled) == bundled
      and ("@" .. raw.script):sub(1, #bundled) == bundled
      and message:find "^pgcdc%.s[%w.]+: "
end

--- Raises an error at the line of the script that called into the library. `message`, `...`: as
--- for string.format.
function check.fail(message, ...)
   local level, text = caller_level(), message:format(...)
   if passes_on_words(level, text) then
      raw.usage((text:gsub("^[%w.]+: ", "")))
   end
   error(text, level > 0 and level - 1 or 0)
end

--- "script.lua:3: ", the line of the script that called into the library; "" if none did.
function check.place()
   local level = caller_level()
   if level == 0 then
      return ""
   end
   local _, line, shown = raw.where(level - 1)
   return ("%s:%d: "):format(shown, line)
end

--- "; did you mean ...?" for a name that is near one of `candidates`, else "".
function check.nearest(given, candidates)
   local found = type(given) == "string" and raw.nearest(given, candidates)
   return found and ("; did you mean '%s'?"):format(found) or ""
end

-- As `nearest`; but if no candidate is near and there are few, it lists them.
local function nearest_or_all(given, candidates)
   local near = check.nearest(given, candidates)
   if near ~= "" or #candidates > MOST_LISTED then
      return near
   end
   return "; there are: " .. table.concat(candidates, ", ")
end

--- Raises unless every key of `given` is one of `known`.
function check.fields(what, given, known)
   for name in pairs(given) do
      if known[name] == nil then
         check.fail("%s: unknown field '%s'%s", what, tostring(name),
            nearest_or_all(name, names.sorted(known)))
      end
   end
end

--- A table of our own with the fields of `given`, which must be among `known`. What a script gives
--- is read once, here: another time it may be something else (a metatable, or the script, can
--- change it), and nothing would have checked that. Tables in it are still the script's.
function check.taken(what, given, known)
   local taken = {}
   check.fields(what, given, known)
   for name in pairs(known) do
      taken[name] = given[name]
   end
   return taken
end

--- Raises unless `given` is one of `known`.
function check.one_of(what, given, known)
   if type(given) ~= "string" or not known[given] then
      check.fail("%s: unknown %s%s", what,
         type(given) == "string" and ("'%s'"):format(given) or "(a " .. type(given) .. ")",
         nearest_or_all(given, names.sorted(known)))
   end
end

--- Raises unless `value` is of one of the types named. Returns it.
function check.type(what, value, ...)
   local is = type(value)
   for i = 1, select("#", ...) do
      if is == select(i, ...) then
         return value
      end
   end
   check.fail("%s must be a %s, not %s", what, table.concat({ ... }, " or a "),
      is == "nil" and "nil" or "a " .. is)
end

--- A string that is not empty.
function check.text(what, value)
   check.type(what, value, "string")
   if value == "" then
      check.fail("%s must not be empty", what)
   end
   return value
end

--- A finite number of seconds, at least `least`.
function check.seconds(what, value, least)
   check.type(what, value, "number")
   if value ~= value or value < least or value > 1e8 then
      check.fail("%s must be a number of seconds, at least %s, not %s", what, least, value)
   end
   return value
end

--- A name or a list of names, as a list of our own; nil stays nil.
function check.names(what, value)
   if value == nil then
      return nil
   end
   if type(value) == "string" then
      value = { value }
   end
   check.type(what, value, "string", "table")
   if #value == 0 then
      check.fail("%s must name at least one column", what)
   end
   local list, seen = {}, {}
   for i, name in ipairs(value) do
      check.text(("%s[%d]"):format(what, i), name)
      if seen[name] then
         check.fail("%s names '%s' twice", what, name)
      end
      list[i], seen[name] = name, true
   end
   return list
end

--- The name of a table as SQL text. "orders" and '"Weird Table"' are for the server to resolve;
--- {"sales", "orders"} is exact.
function check.table_name(what, value)
   check.type(what, value, "string", "table")
   if type(value) == "string" then
      return check.text(what, value)
   end
   if #value < 1 or #value > 2 then
      check.fail("%s must be a name, {name} or {schema, name}", what)
   end
   local parts = {}
   for i, part in ipairs(value) do
      parts[i] = names.quote(check.text(what, part))
   end
   return table.concat(parts, ".")
end

--- A whole number, at least `least`.
function check.count(what, value, least)
   check.type(what, value, "number")
   if math.type(value) ~= "integer" or value < least then
      check.fail("%s must be a whole number, at least %d, not %s", what, least, value)
   end
   return value
end

--- True or false; `default` for nil.
function check.flag(what, value, default)
   if value == nil then
      return default
   end
   return check.type(what, value, "boolean")
end

--- A size such as "100M", or a number of bytes, of at least `least`. Returns bytes.
function check.size(what, value, least)
   check.type(what, value, "string", "number")
   local text = tostring(value)
   local bytes = text:find "^[%d.]+[KMGTkmgt]?$" and raw.size(text)
   if not bytes or bytes < 1 then
      check.fail('%s must be a size such as "100M", not %s', what, text)
   end
   if least and bytes < least then
      check.fail("%s must be at least %d, not %s", what, least, text)
   end
   return bytes
end

return check
