-- pgcdc.options: the NAME=VALUE words of the command line, declared and checked.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local help = require "pgcdc.help"
local sorted = require("pgcdc.names").sorted

local options = {}

--- The default of an option that must be given; its value is text.
options.required = setmetatable({}, { __name = "pgcdc.required", __tostring = function()
   return "required"
end })

local truths = { ["true"] = true, yes = true, on = true, ["1"] = true,
                 ["false"] = false, no = false, off = false, ["0"] = false }

--- Words as a table, values as text. The last one wins.
function options.words(words)
   local args = {}
   for _, word in ipairs(words) do
      local name, value = word:match("^([^=]+)=(.*)$")
      args[name] = value
   end
   return args
end

-- The value that `text` stands for, or nil and what is wrong with it.
local function read(name, text, default)
   if default == options.required then
      if not text:find("[^%s,]") then -- nor a list of nothing
         return nil, ("%s must not be empty"):format(name)
      end
      return text
   elseif type(default) == "number" then
      local value = tonumber(text)
      if not value or value ~= value or value == math.huge or value == -math.huge then
         return nil, ("%s must be a number, not '%s'"):format(name, text)
      end
      return value
   elseif type(default) == "boolean" then
      local value = truths[text:lower()]
      if value == nil then
         return nil, ("%s must be true or false, not '%s'"):format(name, text)
      end
      return value
   end
   return text
end

--- Declares the script's options: a table from names to defaults (text, a number, true or
--- false, or pgcdc.required). Returns the values. Whatever is wrong with the words of the
--- command line is a usage error that lists all of it; help=1 lists the options instead.
function options.read(defaults)
   check.type("pgcdc.options: its argument", defaults, "table")
   local given, values, wrong = options.words(raw.words), {}, {}
   for _, name in ipairs(sorted(given)) do
      if defaults[name] == nil then
         wrong[#wrong + 1] = ("unknown option %s%s"):format(name,
            check.nearest(name, sorted(defaults)))
      end
   end
   for _, name in ipairs(sorted(defaults)) do
      local default = defaults[name]
      if default ~= options.required then
         check.type("pgcdc.options: " .. name, default, "string", "number", "boolean")
      end
   end
   if defaults.help == nil and truths[(given.help or "no"):lower()] then
      raw.answer(help.text(defaults, options.required))
   end
   for _, name in ipairs(sorted(defaults)) do
      local default = defaults[name]
      local text = given[name]
      if text ~= nil then
         local value, problem = read(name, text, default)
         values[name] = value
         wrong[#wrong + 1] = problem
      elseif default == options.required then
         wrong[#wrong + 1] = ("%s=... is required"):format(name)
      else
         values[name] = default
      end
   end
   if #wrong > 0 then
      raw.usage(table.concat(wrong, "; "))
   end
   return values
end

return options
