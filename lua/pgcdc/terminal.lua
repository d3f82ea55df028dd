-- pgcdc.terminal: values as text for people: with colours, and with escapes for control characters.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"

local terminal = {}

local is_coloured = raw.wants_colours(1)

local codes = { bold = "1", dim = "2", red = "31", green = "32", yellow = "33", blue = "34",
                cyan = "36" }

--- The text in a colour, where standard output is a terminal whose user wants colours.
function terminal.paint(colour, text)
   local code = is_coloured and codes[colour]
   return code and ("\27[%sm%s\27[0m"):format(code, text) or text
end

local names = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

-- C1 controls, and characters that are invisible or turn the direction of text.
local function is_harmful(c)
   return c >= 0x80 and c < 0xa0 or c == 0xad or c == 0x61c or c >= 0x200b and c <= 0x200f
      or c >= 0x2028 and c <= 0x202e or c >= 0x2060 and c <= 0x206f or c == 0xfeff
      or c >= 0xfff9 and c <= 0xfffb or c >= 0xe0000 and c <= 0xe0fff
end

local function escape_byte(c)
   return names[c] or ("\\x%02x"):format(c:byte())
end

-- A text that is not valid UTF-8, byte by byte.
local function escape_bytes(text)
   return (text:gsub("[%c\128-\255]", escape_byte))
end

--- The text, with control characters and others that are invisible or misleading written as
--- escapes.
function terminal.text(text)
   text = tostring(text)
   if not text:find "[%c\128-\255]" then
      return text
   elseif not utf8.len(text) then
      return escape_bytes(text)
   end
   return (text:gsub("%c", escape_byte):gsub("[\194-\244][\128-\191]*", function(c)
      local code = utf8.codepoint(c)
      return is_harmful(code) and (code < 0x100 and ("\\x%02x"):format(code)
         or ("\\u{%x}"):format(code)) or nil
   end))
end

-- At most `width` characters; 0: all.
local function cut(text, width)
   if width <= 0 or (utf8.len(text) or #text) <= width then
      return text
   end
   local stop = utf8.len(text) and utf8.offset(text, width) or width
   return text:sub(1, stop - 1) .. "…"
end

--- A value as text for a line of several values: in quotes where its end would be unclear. `width`:
--- the most characters of it that are shown; 0: all.
function terminal.value(value, width)
   if value == nil then
      return terminal.paint("dim", "NULL")
   elseif type(value) ~= "string" then
      return (terminal.text(cut(raw.encode(value), width)))
   end
   local text = terminal.text(cut(value, width))
   if value == "" or value == "NULL" or value:find '[%s%c"=]' then
      return '"' .. text:gsub('"', '\\"') .. '"'
   end
   return text
end

--- The text "name=value". `width`: the most characters of the value that are shown; 0 or nil: all.
function terminal.field(name, value, width)
   return terminal.paint("dim", terminal.text(name) .. "=") .. terminal.value(value, width or 0)
end

--- The local time of day of an RFC 3339 timestamp in UTC.
function terminal.time_of_day(ts)
   local year, month, day, hour, min, sec = ts:match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)"
   local at = os.time { year = year, month = month, day = day, hour = hour, min = min, sec = sec,
                        isdst = false }
   local utc = os.date("!*t", at)
   utc.isdst = false
   return os.date("%H:%M:%S", at + (at - os.time(utc)))
end

return terminal
