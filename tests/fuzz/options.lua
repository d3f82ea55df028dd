-- options.lua: any words against several declarations of options, and what must hold of the answer.
-- SPDX-License-Identifier: MIT
--
-- The fuzzer loads this as its script, and calls what it leaves as module "fuzz.options".

local pgcdc = require "pgcdc"
local raw = require "pgcdc.raw"

local declarations = {
   {
      table = pgcdc.required, interval = 10, factor = 0.5, verbose = false, quiet = true, tag = "",
   },
   { help = "none", a = "", ["a=b"] = 1, ["\n"] = true, ["é"] = pgcdc.required },
   {},
   pgcdc.required and { only = pgcdc.required },
}

local answered, refused = {}, {}

raw.answer = function(text)
   assert(type(text) == "string" and text ~= "")
   error(answered)
end

raw.usage = function(message)
   refused.message = message
   error(refused)
end

local function is_of_type(value, default)
   if default == pgcdc.required then
      return type(value) == "string" and value:find "[^%s,]" ~= nil
   end
   return type(value) == type(default) and value == value and value ~= math.huge
      and value ~= -math.huge
end

-- What the words say by name, as they are.
local function given_by(words)
   local given = {}
   for _, word in ipairs(words) do
      local at = word:find("=", 1, true)
      given[word:sub(1, at - 1)] = word:sub(at + 1)
   end
   return given
end

local function check_values(values, declared, given)
   for name, default in pairs(declared) do
      assert(is_of_type(values[name], default), name)
      if given[name] == nil then
         assert(values[name] == default, name)
      elseif type(default) ~= "boolean" and type(default) ~= "number" then
         assert(values[name] == given[name], name)
      end
   end
   for name in pairs(values) do
      assert(declared[name] ~= nil, name)
   end
   for name in pairs(given) do
      assert(declared[name] ~= nil, name)
   end
end

-- All that is wrong is listed, and something is.
local function check_message(message, declared, given)
   local is_wrong = false
   for name in pairs(given) do
      if declared[name] == nil then
         is_wrong = true
         assert(message:find("unknown option " .. name, 1, true), name)
      end
   end
   for name, default in pairs(declared) do
      local must = name .. " must "
      if default == pgcdc.required and given[name] == nil then
         is_wrong = true
         assert(message:find(name .. "=... is required", 1, true), name)
      elseif given[name] ~= nil and message:find(must, 1, true) then
         is_wrong = true
      end
   end
   assert(is_wrong, message)
end

package.loaded["fuzz.options"] = function(which, ...)
   local declared = declarations[which % #declarations + 1]
   raw.words = { ... }
   local given = given_by(raw.words)
   local ok, result = pcall(pgcdc.options, declared)
   if ok then
      check_values(result, declared, given)
   elseif result == refused then
      check_message(result.message, declared, given)
   elseif result == answered then
      assert(given.help and declared.help == nil)
   else
      error(result, 0)
   end
end
