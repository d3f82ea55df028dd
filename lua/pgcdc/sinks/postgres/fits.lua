-- pgcdc.sinks.postgres.fits: whether a column can hold all values of another type as they are.
-- SPDX-License-Identifier: MIT
--
-- Types are text as format_type() writes it. What is in no list fits only into its own type, or
-- into text. A value that the server would refuse counts as well as one that it would round, cut
-- or pad.

local TEXTS = { text = true, ["character varying"] = true, citext = true }

-- How long the text of a value can be.
local LENGTHS = { boolean = 5, smallint = 6, integer = 11, bigint = 20, oid = 10, uuid = 36,
                  ['"char"'] = 4, macaddr = 17, macaddr8 = 23, pg_lsn = 17, name = 63 }

-- How many digits integers have at most, and how many of them always fit.
local DIGITS = { smallint = { 5, 4 }, integer = { 10, 9 }, bigint = { 19, 18 }, oid = { 10, 9 } }

-- Type -> those without a length or precision whose values it can hold.
local HOLDS = {
   integer = { smallint = true },
   bigint = { smallint = true, integer = true, oid = true },
   numeric = { smallint = true, integer = true, bigint = true, oid = true, real = true,
               ["double precision"] = true },
   real = { smallint = true },
   ["double precision"] = { smallint = true, integer = true, real = true },
   json = { jsonb = true },
   jsonb = { json = true },
   inet = { cidr = true },
   macaddr8 = { macaddr = true },
   ["timestamp without time zone"] = { date = true },
   ["timestamp with time zone"] = { date = true },
}

-- Type -> the other types with a precision, of seconds, whose values it can hold.
local HOLDS_TIMES = {
   ["timestamp with time zone"] = { ["timestamp without time zone"] = true },
   ["time with time zone"] = { ["time without time zone"] = true },
}

local TIMES = { ["timestamp without time zone"] = true, ["timestamp with time zone"] = true,
                ["time without time zone"] = true, ["time with time zone"] = true,
                interval = true }

-- Takes a type apart: {name = without its schema, mods = what is in brackets, as one or two
-- numbers, if they are numbers, or nil, is_array =}.
local function parse(text)
   local name, is_array = text:gsub("%[%]$", "")
   local mods
   name = name:gsub("%((.-)%)", function(inside)
      local a, b = inside:match "^(%-?%d+),?(%-?%d*)$"
      mods = { math.tointeger(a) or inside, math.tointeger(b) }
      return ""
   end)
   name = name:gsub('^"[^"]*"%.', ""):gsub("^[%w_$]+%.", "")
   return { name = name, mods = mods, is_array = is_array > 0 }
end

local function has_room_for(from, length)
   if from.name == "character varying" or from.name == "character" then
      return from.mods and from.mods[1] <= length
   end
   return LENGTHS[from.name] and LENGTHS[from.name] <= length
end

-- Whether numeric(precision, scale) holds the values.
local function fits_numeric(from, precision, scale)
   if from.name == "numeric" and from.mods then
      local digits, after = from.mods[1], from.mods[2] or 0
      return after <= scale and digits - after <= precision - scale
   end
   return DIGITS[from.name] and scale >= 0 and DIGITS[from.name][1] <= precision - scale
end

-- Whether numbers without a precision hold those of a numeric with one.
local function fits_number(from, to)
   local digits, scale = from.mods[1], from.mods[2] or 0
   local most = { real = 6, ["double precision"] = 15 }
   if most[to.name] then
      return digits <= most[to.name] and scale >= 0 and scale <= digits
   end
   return DIGITS[to.name] and scale == 0 and digits <= DIGITS[to.name][2]
end

local function fits_time(from, to)
   if from.name == to.name or (HOLDS_TIMES[to.name] or {})[from.name] then
      return (from.mods and from.mods[1] or 6) <= (to.mods and to.mods[1] or 6)
   end
   return (HOLDS[to.name] or {})[from.name]
      or to.name == "interval" and not to.mods and from.name:find "^interval"
end

-- The same for types of which `to` has a length or a precision.
local function fits_mods(from, to)
   if to.name == "character varying" then
      return has_room_for(from, to.mods[1])
   elseif to.name == "character" then
      return from.name ~= "character varying" and has_room_for(from, to.mods[1])
   elseif to.name == "numeric" then
      return fits_numeric(from, to.mods[1], to.mods[2] or 0)
   elseif to.name == "bit varying" then
      return (from.name == "bit varying" or from.name == "bit") and from.mods
         and from.mods[1] <= to.mods[1]
   end
   return from.name == to.name and from.mods and from.mods[1] == to.mods[1]
      and from.mods[2] == to.mods[2]
end

local function fits(from, to, is_key)
   if TEXTS[to.name] and not to.mods then
      return not is_key or to.name ~= "citext" or from.name == "citext"
   elseif from.name == "citext" then
      from = { name = "text" }
   end
   if TIMES[to.name] then
      return fits_time(from, to)
   elseif to.mods then
      return fits_mods(from, to)
   elseif from.name == to.name then
      return true
   elseif from.name == "numeric" and from.mods then
      return fits_number(from, to)
   elseif from.name == "bit" then
      return to.name == "bit varying"
   elseif from.name == "character" then
      return to.name == "bpchar"
   end
   return (HOLDS[to.name] or {})[from.name]
end

--- True if a column of the type `to` can hold all values of the type `from`. `wants_json`: the
--- values come as JSON; `is_key`: different values must stay different.
return function(from, to, wants_json, is_key)
   from, to = parse(from), parse(to)
   if to.is_array or from.is_array then
      if to.is_array and from.is_array then
         return fits(from, to, false) and true or false
      end
      return wants_json and not to.mods
         and (TEXTS[to.name] or to.name == "json" or to.name == "jsonb") or false
   end
   if wants_json and (to.name == "json" or to.name == "jsonb") then
      return true
   end
   return fits(from, to, is_key) and true or false
end
