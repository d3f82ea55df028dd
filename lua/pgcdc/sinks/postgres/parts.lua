-- pgcdc.sinks.postgres.parts: what types consist of, and whether one holds the values of another.
-- SPDX-License-Identifier: MIT
--
-- A *part* is {type = as format_type() writes it, of what a domain is over, steps = {step = part},
-- names = list of the steps}, see src/capture/sql_parts.h; where there are no steps the type itself
-- says all (see fits). The whole is a part, too.

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"
local fits = require "pgcdc.sinks.postgres.fits"
local quote = require("pgcdc.names").quote

local parts = {}

-- What the types in $1, a list of {oid, typmod}, consist of.
local PARTS = answer.question(raw.parts_sql [[SELECT n, (v ->> 0)::oid, (v ->> 1)::int4
   FROM pg_catalog.json_array_elements($1::json) WITH ORDINALITY AS u(v, n)]],
   { num = "integer", parts = "text", attributes = "text?" })

local function new(type)
   return { type = type, steps = {}, names = {} }
end

--- The part that JSON tells; `type`: what it is where there is no JSON.
function parts.read(json, type)
   local root = new(type)
   for _, pair in ipairs(json and raw.decode(json) or {}) do
      local path, at = pair[1], root
      for _, step in ipairs(path) do
         if not at.steps[step] then
            at.steps[step] = new()
            at.names[#at.names + 1] = step
         end
         at = at.steps[step]
      end
      at.type = pair[2]
   end
   return root
end

--- The parts of types in the target. `types`: a list of {oid =, typmod =, type =}.
function parts.of_types(run, types)
   local asked, found = {}, {}
   for i, type in ipairs(types) do
      asked[i] = setmetatable({ type.oid, type.typmod }, raw.array_metatable)
   end
   if #asked == 0 then
      return found
   end
   local rows = PARTS:rows(run, raw.encode(setmetatable(asked, raw.array_metatable)))
   if #rows ~= #asked then
      PARTS:fail("%d rows came in place of %d", #rows, #asked)
   end
   for i, row in ipairs(rows) do
      found[i] = parts.read(row.parts, types[i].type)
   end
   return found
end

local function is_row(part)
   return part.names[1] and part.names[1]:sub(1, 1) == "."
end

-- The part of an array's elements, or nil.
local function element_of(part)
   local type, n = part.type:gsub("%[%]$", "")
   return part.steps["[]"] or n > 0 and #part.names == 0 and new(type) or nil
end

local differ -- defined below; compare_rows calls it

-- Values that come as rows into rows.
local function compare_rows(from, to, found)
   for _, step in ipairs(from.names) do
      local there = to.steps[step]
      if there then
         differ(from.steps[step], there, true, false, found)
      else
         found.missing[#found.missing + 1] = ("ALTER TYPE %s ADD ATTRIBUTE %s %s"):format(to.type,
            quote(step:sub(2)), from.steps[step].type)
      end
   end
end

-- Adds to `found` what `to` cannot hold of `from`: see parts.compare.
function differ(from, to, wants_json, is_key, found)
   local element, to_element = element_of(from), element_of(to)
   if is_row(from) and is_row(to) then
      compare_rows(from, to, found)
   elseif element and to_element then
      differ(element, to_element, true, false, found)
   elseif from.steps["<>"] and to.steps["<>"] then
      found.others = found.others or not fits(from.type, to.type, wants_json, is_key)
      differ(from.steps["<>"], to.steps["<>"], false, false, found)
   elseif is_row(from) or element then
      local is_text = #to.names == 0 and not to_element
         and (fits("text", to.type) or to.type == "json" or to.type == "jsonb")
      found.others = found.others or not (is_text and wants_json)
   elseif is_row(to) or to_element or not fits(from.type, to.type, wants_json, is_key) then
      found.others = true
   end
end

--- What a column of the part `to` cannot hold of values of the part `from`: nil, or {missing =
--- statements that add attributes, others = true if there is more than that}. `wants_json` and
--- `is_key` as in fits.
function parts.compare(from, to, wants_json, is_key)
   local found = { missing = {} }
   differ(from, to, wants_json, is_key, found)
   return (found.others or #found.missing > 0) and found or nil
end

--- True if it holds them all.
function parts.hold(from, to, wants_json, is_key)
   return not parts.compare(from, to, wants_json, is_key)
end

--- A type of the server's own that holds all values of the part.
function parts.plain(part, wants_json)
   local depth, at = 0, part
   while element_of(at) do
      depth, at = depth + 1, element_of(at)
   end
   local is_known = #at.names == 0 and not at.type:find '[."]'
   if is_known and depth < 2 then
      return at.type .. ("[]"):rep(depth)
   end
   return wants_json and "jsonb" or "text"
end

--- True if the part consists of others.
function parts.are_many(part)
   return #part.names > 0
end

return parts
