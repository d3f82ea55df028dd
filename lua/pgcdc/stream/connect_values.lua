-- pgcdc.stream.connect_values: values as converters of Kafka Connect write them.
-- SPDX-License-Identifier: MIT
--
-- A field of a schema is {type =, name = what it means, parameters =, items =}. `type_of` says
-- which type of Postgres holds its values, and gives the function that makes JSON of one, such as
-- capture/shaped reads it.

local raw = require "pgcdc.raw"

local values = {}

-- ---- bytes ----

local digits = {}
do
   local all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
   for i = 1, #all do
      digits[all:byte(i)] = i - 1
   end
end

-- The bytes that base64 stands for.
local function bytes_of(text)
   local out, bits, n = {}, 0, 0
   for i = 1, #text do
      local digit = digits[text:byte(i)]
      if digit then
         bits, n = (bits << 6 | digit) & 0xffffff, n + 6
         if n >= 8 then
            n = n - 8
            out[#out + 1] = string.char(bits >> n & 0xff)
         end
      end
   end
   return table.concat(out)
end

local function hex_of(bytes)
   return (bytes:gsub(".", function(c)
      return ("%02x"):format(c:byte())
   end))
end

-- The number that two's complement, the highest byte first, stands for, in decimal digits.
local function integer_of(bytes)
   local is_negative = #bytes > 0 and bytes:byte(1) >= 128
   local limbs, carry = { 0 }, is_negative and 1 or 0 -- of 7 digits, the lowest first
   local list = { bytes:byte(1, -1) }
   if is_negative then -- what is to be negated: inverted, and one more
      for i = #list, 1, -1 do
         local byte = (~list[i] & 0xff) + carry
         list[i], carry = byte & 0xff, byte >> 8
      end
   end
   for _, byte in ipairs(list) do
      local rest = byte
      for i = 1, #limbs do
         local n = limbs[i] * 256 + rest
         limbs[i], rest = n % 10000000, n // 10000000
      end
      if rest > 0 then
         limbs[#limbs + 1] = rest
      end
   end
   local parts = { tostring(limbs[#limbs]) }
   for i = #limbs - 1, 1, -1 do
      parts[#parts + 1] = ("%07d"):format(limbs[i])
   end
   return table.concat(parts), is_negative
end

-- The same with so many digits after the point.
local function decimal_of(bytes, scale)
   local text, is_negative = integer_of(bytes)
   if scale < 0 then
      text = text == "0" and text or text .. ("0"):rep(-scale)
   elseif scale > 0 then
      text = ("0"):rep(scale + 1 - #text) .. text
      text = text:sub(1, -scale - 1) .. "." .. text:sub(-scale)
   end
   return (is_negative and "-" or "") .. text
end

-- Bits of a bit string: the lowest byte first.
local function bits_of(bytes, length)
   local out = {}
   for i = 1, #bytes do
      for k = 0, 7 do
         out[#out + 1] = bytes:byte(i) >> k & 1
      end
   end
   while #out < length do
      out[#out + 1] = 0
   end
   return table.concat(out, "", 1, length):reverse()
end

-- ---- times ----

local FOREVER, NEVER = 9223372036825200000, -9223372036832400000 -- infinity, in microseconds

-- Days since 1970 as a date.
local function date_of(days)
   local z = days + 719468
   local era = z // 146097
   local of_era = z % 146097
   local year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
   local of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
   local month = (5 * of_year + 2) // 153
   local day = of_year - (153 * month + 2) // 5 + 1
   month = month < 10 and month + 3 or month - 9
   local year = year_of_era + era * 400 + (month <= 2 and 1 or 0)
   if year < 1 then
      return ("%04d-%02d-%02d"):format(1 - year, month, day), " BC"
   end
   return ("%04d-%02d-%02d"):format(year, month, day), ""
end

local function time_of(us)
   local seconds, fraction = us // 1000000, us % 1000000
   local text = ("%02d:%02d:%02d"):format(seconds // 3600, seconds // 60 % 60, seconds % 60)
   return fraction == 0 and text or text .. ("." .. ("%06d"):format(fraction)):gsub("0+$", "")
end

local function timestamp_of(us)
   if us >= FOREVER then
      return "infinity"
   elseif us <= NEVER then
      return "-infinity"
   end
   local date, ad = date_of(us // 86400000000)
   return date .. "T" .. time_of(us % 86400000000) .. ad
end

--- Milliseconds since 1970 as changes have their `ts`.
function values.ts_of(ms)
   local date = date_of(ms // 86400000)
   return ("%sT%s.%03dZ"):format(date, time_of(ms % 86400000 // 1000 * 1000000), ms % 1000)
end

-- ---- types ----

local function quoted(f)
   return function(value, field)
      return raw.encode(f(value, field))
   end
end

local encode = raw.encode

local function of_date(days)
   if days >= 2147483647 then
      return "infinity"
   elseif days <= -2147483648 then
      return "-infinity"
   end
   local date, ad = date_of(days)
   return date .. ad
end

local function scaled(f, times, parts)
   return quoted(function(n)
      return f(n * times // parts)
   end)
end

local function zoned(text)
   return (text:gsub("Z$", "+00:00"))
end

local function in_zone(text)
   return (text:gsub("Z$", "+00"))
end

local function scale_of(field)
   return math.tointeger(tonumber(field.parameters and field.parameters.scale)) or 0
end

local function length_of(field)
   return math.tointeger(tonumber(field.parameters and field.parameters.length)) or 1
end

local of_decimal = quoted(function(text, field)
   return decimal_of(bytes_of(text), scale_of(field))
end)

-- By the name of a schema: the type, and what makes JSON of a value.
local by_name = {
   ["io.debezium.time.Date"] = { "date", quoted(of_date) },
   ["io.debezium.time.Time"] = { "time without time zone", scaled(time_of, 1000, 1) },
   ["io.debezium.time.MicroTime"] = { "time without time zone", scaled(time_of, 1, 1) },
   ["io.debezium.time.NanoTime"] = { "time without time zone", scaled(time_of, 1, 1000) },
   ["io.debezium.time.ZonedTime"] = { "time with time zone", quoted(in_zone) },
   ["io.debezium.time.Timestamp"] = { "timestamp without time zone",
                                      scaled(timestamp_of, 1000, 1) },
   ["io.debezium.time.MicroTimestamp"] = { "timestamp without time zone",
                                           scaled(timestamp_of, 1, 1) },
   ["io.debezium.time.NanoTimestamp"] = { "timestamp without time zone",
                                          scaled(timestamp_of, 1, 1000) },
   ["io.debezium.time.ZonedTimestamp"] = { "timestamp with time zone", quoted(zoned) },
   ["io.debezium.time.Interval"] = { "interval", encode },
   ["io.debezium.data.Json"] = { "jsonb", function(text) return text end },
   ["io.debezium.data.Uuid"] = { "uuid", encode },
   ["io.debezium.data.Xml"] = { "xml", encode },
   ["io.debezium.data.Bits"] = { "bit varying", quoted(function(text, field)
      return bits_of(bytes_of(text), length_of(field))
   end) },
   ["io.debezium.data.VariableScaleDecimal"] = { "numeric", quoted(function(value)
      return decimal_of(bytes_of(value.value), value.scale)
   end) },
   ["org.apache.kafka.connect.data.Decimal"] = { "numeric", of_decimal },
   ["org.apache.kafka.connect.data.Date"] = { "date", quoted(of_date) },
   ["org.apache.kafka.connect.data.Time"] = { "time without time zone", scaled(time_of, 1000, 1) },
   ["org.apache.kafka.connect.data.Timestamp"] = { "timestamp without time zone",
                                                   scaled(timestamp_of, 1000, 1) },
}

local by_type = {
   int8 = { "smallint", encode }, int16 = { "smallint", encode }, int32 = { "integer", encode },
   int64 = { "bigint", encode }, float = { "real", encode }, float32 = { "real", encode },
   double = { "double precision", encode }, float64 = { "double precision", encode },
   boolean = { "boolean", encode }, string = { "text", encode },
   bytes = { "bytea", quoted(function(text)
      return "\\x" .. hex_of(bytes_of(text))
   end) },
}

local documents = { "jsonb", encode }

local function of_array(field)
   local items = field.items or {}
   local item = by_name[items.name] or by_type[items.type]
   if not item then
      return documents
   end
   return { item[1] .. "[]", function(list)
      local parts = {}
      for i, value in ipairs(list) do
         parts[i] = value == raw.null and "null" or item[2](value, items)
      end
      return "[" .. table.concat(parts, ",") .. "]"
   end }
end

--- The type of a field's values, and the function from a value that is not null, and the field, to
--- its JSON.
function values.type_of(field)
   local found = by_name[field.name] or (field.type == "array" and of_array(field))
      or by_type[field.type] or documents
   return found[1], found[2]
end

return values
