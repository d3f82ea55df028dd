-- pgcdc.stream.keys: values as keys of tables, and as text under which state is kept.
-- SPDX-License-Identifier: MIT
--
-- A table has no place for nil, neither as a key nor in a list: there it is `pgcdc.null`, as in a
-- JSON document.

local raw = require "pgcdc.raw"

local null = raw.null

local keys = {}

--- A value as an item of a list: nil becomes null.
function keys.item(x)
   if x == nil then
      return null
   end
   return x
end

--- A value as a key: nil is null, and the number NaN is the text "NaN".
function keys.of(x)
   if x == nil then
      return null
   elseif x ~= x then
      return "NaN"
   end
   return x
end

local special = { [math.huge] = "inf", [-math.huge] = "-inf" }
local specials = { inf = math.huge, ["-inf"] = -math.huge }

--- A key as text, different for different keys; nil for a key that has no text, such as a table.
function keys.text(key)
   local kind = type(key)
   if kind == "string" or kind == "number" or kind == "boolean" or key == null then
      return special[key] or raw.encode(key)
   end
end

--- The key from which `keys.text` made this text.
function keys.from_text(text)
   local key = specials[text]
   if key == nil then
      key = raw.decode(text)
   end
   return key
end

return keys
