-- json.lua: a strict JSON decoder and encoder for tests.
-- SPDX-License-Identifier: MIT
--
-- Written apart from the program's own, so that a test never asks the decoder
-- under test whether its encoder is right. Strict: RFC 8259 to the letter, valid
-- UTF-8, no lone surrogates, no key twice, nothing after the value.

local json = {}

local function constant(text)
   return setmetatable({}, {
      __name = "json." .. text,
      __tostring = function() return text end,
      __newindex = function() error("json." .. text .. " is a constant", 2) end,
   })
end

-- JSON null, equal only to itself.
json.null = constant "null"

local array_mt = { __name = "json.array" }
local number_mt = {
   __name = "json.number",
   __tostring = function(n) return n.number end,
   __eq = function(a, b) return a.number == b.number end,
}
local order = setmetatable({}, { __mode = "k" })

-- Marks <list> as an array, so that an empty one is written as []. Returns it.
function json.array(list)
   return setmetatable(list or {}, array_mt)
end

-- Whether a decoded table was written as an array.
function json.is_array(value)
   return getmetatable(value) == array_mt
end

-- A number with its text, as decode(text, {numbers = "tagged"}) gives it.
function json.number(text)
   return setmetatable({ number = text }, number_mt)
end

-- The keys of a decoded object in the order of the text.
function json.keys(object)
   return order[object]
end

local escapes = {
   ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
}

local function fail(s, at, message)
   local near = s.text:sub(at, at + 20)
   error({ json = ("%s at byte %d, near '%s'"):format(message, at, near) }, 0)
end

local function skip(s)
   s.at = s.text:find("[^ \t\r\n]", s.at) or #s.text + 1
end

local function code_unit(s, at)
   local hex = s.text:match("^\\u(%x%x%x%x)", at)
   return hex and tonumber(hex, 16)
end

local function unescape(s, at)
   local unit = code_unit(s, at)
   if not unit then
      local plain = escapes[s.text:sub(at + 1, at + 1)]
      return plain or fail(s, at, "unknown escape"), at + 2
   end
   if unit >= 0xD800 and unit <= 0xDBFF then
      local low = code_unit(s, at + 6)
      if not low or low < 0xDC00 or low > 0xDFFF then
         fail(s, at, "lone surrogate")
      end
      return utf8.char(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)), at + 12
   elseif unit >= 0xDC00 and unit <= 0xDFFF then
      fail(s, at, "lone surrogate")
   end
   return utf8.char(unit), at + 6
end

local function decode_string(s)
   local parts, at = {}, s.at + 1
   while true do
      local stop = s.text:find('[%c"\\]', at)
      while stop and s.text:byte(stop) == 127 do -- DEL is a control character to Lua, not to JSON
         stop = s.text:find('[%c"\\]', stop + 1)
      end
      if not stop then
         fail(s, s.at, "unfinished string")
      end
      parts[#parts + 1] = s.text:sub(at, stop - 1)
      local char = s.text:sub(stop, stop)
      if char == '"' then
         s.at = stop + 1
         return table.concat(parts)
      elseif char ~= "\\" then
         fail(s, stop, "control character in a string")
      end
      parts[#parts + 1], at = unescape(s, stop)
   end
end

local function decode_number(s)
   local whole = s.text:match("^%-?0", s.at) or s.text:match("^%-?[1-9]%d*", s.at)
   if not whole then
      fail(s, s.at, "no value")
   end
   local at = s.at + #whole
   local rest = s.text:match("^%.%d+", at) or ""
   rest = rest .. (s.text:match("^[eE][+-]?%d+", at + #rest) or "")
   local text = whole .. rest
   s.at = s.at + #text
   if s.numbers == "string" then
      return text
   elseif s.numbers == "tagged" then
      return json.number(text)
   end
   return rest == "" and math.tointeger(tonumber(text)) or tonumber(text) + 0.0
end

local decode_value

-- Members up to <close>; <member> reads one, at its first character.
local function decode_members(s, close, member)
   s.at = s.at + 1
   skip(s)
   if s.text:sub(s.at, s.at) == close then
      s.at = s.at + 1
      return
   end
   while true do
      member()
      skip(s)
      local char = s.text:sub(s.at, s.at)
      s.at = s.at + 1
      if char == close then
         return
      elseif char ~= "," then
         fail(s, s.at - 1, "',' or '" .. close .. "' expected")
      end
      skip(s)
   end
end

local function decode_object(s)
   local object, keys = {}, {}
   decode_members(s, "}", function()
      if s.text:sub(s.at, s.at) ~= '"' then
         fail(s, s.at, "a key expected")
      end
      local start = s.at
      local key = decode_string(s)
      if object[key] == nil then
         keys[#keys + 1] = key
      elseif not s.duplicates then
         fail(s, start, "key twice")
      end
      skip(s)
      if s.text:sub(s.at, s.at) ~= ":" then
         fail(s, s.at, "':' expected")
      end
      s.at = s.at + 1
      skip(s)
      object[key] = decode_value(s)
   end)
   order[object] = keys
   return object
end

local function decode_array(s)
   local array = json.array()
   decode_members(s, "]", function()
      array[#array + 1] = decode_value(s)
   end)
   return array
end

local literals = { ["true"] = true, ["false"] = false, ["null"] = json.null }

function decode_value(s)
   local char = s.text:sub(s.at, s.at)
   if char == "{" then
      return decode_object(s)
   elseif char == "[" then
      return decode_array(s)
   elseif char == '"' then
      return decode_string(s)
   end
   local word = s.text:match("^%a+", s.at)
   if not word then
      return decode_number(s)
   elseif literals[word] == nil then
      fail(s, s.at, "no value")
   end
   s.at = s.at + #word
   return literals[word]
end

-- Decodes one JSON text; raises on one that is not. Objects and arrays are tables (json.is_array
-- tells them apart, json.keys gives an object's order), null is json.null. Numbers are, by
-- options.numbers:
--    nil        a Lua integer where the text is one that fits in 64 bits, else a float
--    "string"   the text
--    "tagged"   json.number(text)
-- options.duplicates: the last of several equal keys counts.
function json.decode(text, options)
   options = options or {}
   local s = { text = text, at = 1, numbers = options.numbers, duplicates = options.duplicates }
   local ok, value = pcall(function()
      local _, bad = utf8.len(text)
      if bad then
         fail(s, bad, "invalid UTF-8")
      end
      skip(s)
      local decoded = decode_value(s)
      skip(s)
      if s.at <= #text then
         fail(s, s.at, "something after the value")
      end
      return decoded
   end)
   if not ok then
      error(type(value) == "table" and "JSON: " .. value.json or value, 2)
   end
   return value
end

local function encode_string(value)
   return '"' .. value:gsub('[%c"\\]', function(char)
      if char == '"' or char == "\\" then
         return "\\" .. char
      end
      return char ~= "\127" and ("\\u%04x"):format(char:byte()) or nil
   end) .. '"'
end

local encode_value

local function encode_table(value, options)
   local parts = {}
   if getmetatable(value) == array_mt or #value > 0 then
      for i = 1, #value do
         parts[i] = encode_value(value[i], options)
      end
      return "[" .. table.concat(parts, ",") .. "]"
   end
   local keys = {}
   for key in pairs(value) do
      if type(key) ~= "string" then
         error("an object with a key that is no string", 0)
      end
      keys[#keys + 1] = key
   end
   table.sort(keys)
   if options.keys == "kept" and order[value] then
      keys = order[value]
   end
   for i, key in ipairs(keys) do
      parts[i] = encode_string(key) .. ":" .. encode_value(value[key], options)
   end
   return "{" .. table.concat(parts, ",") .. "}"
end

function encode_value(value, options)
   local kind = type(value)
   if value == json.null then
      return "null"
   elseif getmetatable(value) == number_mt then
      return value.number
   elseif kind == "table" then
      return encode_table(value, options)
   elseif kind == "string" then
      return encode_string(value)
   elseif kind == "boolean" or math.type(value) == "integer" then
      return tostring(value)
   elseif kind == "number" and value == value and value ~= math.huge and value ~= -math.huge then
      return ("%.17g"):format(value)
   end
   error("JSON has no " .. tostring(value), 0)
end

-- Encodes a value that decode() gives, or a plain one: an empty table is {}, keys are sorted
-- (options.keys = "kept": in the order in which they were decoded). Raises on what JSON cannot say.
function json.encode(value, options)
   return encode_value(value, options or {})
end

return json
