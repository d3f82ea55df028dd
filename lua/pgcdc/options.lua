-- pgcdc.options: the NAME=VALUE arguments of the command line, declared and checked.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local help = require "pgcdc.help"
local sorted = require("pgcdc.names").sorted
local strict = require "pgcdc.strict"

local options = {}

--- The default of an option that must be given; its value is text.
options.required = setmetatable({}, { __name = "pgcdc.required", __tostring = function()
   return "required"
end })

--- Words that mean yes or no -> true or false.
options.truths = { ["true"] = true, yes = true, on = true, ["1"] = true,
                   ["false"] = false, no = false, off = false, ["0"] = false }
local truths = options.truths

--- Arguments as a table, values as text. Of two with one name the last one counts.
function options.parse(arguments)
   local args = {}
   for _, argument in ipairs(arguments) do
      local name, value = argument:match("^([^=]+)=(.*)$")
      args[name] = value
   end
   return args
end

--- True if the command line says NAME=VALUE.
function options.is_given(name)
   return options.parse(raw.words)[name] ~= nil
end

-- The value that `text` stands for, or nil and what is wrong with it.
local function read(name, text, default)
   if default == options.required then
      if not text:find("[^%s,]") then -- a list without items is empty, too
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

-- Raises unless all defaults are of types that an argument can have.
local function check_defaults(defaults)
   for _, name in ipairs(sorted(defaults)) do
      if defaults[name] ~= options.required then
         check.type("pgcdc.options: " .. name, defaults[name], "string", "number", "boolean")
      end
   end
end

-- Returns a list of complaints: one for each name that is given and not declared.
local function unknown_arguments(given, defaults)
   local wrong = {}
   for _, name in ipairs(sorted(given)) do
      if defaults[name] == nil then
         wrong[#wrong + 1] = ("unknown option %s%s"):format(name,
            check.nearest(name, sorted(defaults)))
      end
   end
   return wrong
end

-- The values of the options with these defaults. `list` is a function that returns the options as a
-- list for help=1 (see help). Ends the program after help=1, and if the command line is wrong.
local function read_all(defaults, list)
   local given, values = options.parse(raw.words), {}
   local wrong = unknown_arguments(given, defaults)
   check_defaults(defaults)
   if defaults.help == nil and truths[(given.help or "no"):lower()] then
      raw.answer(help.text(list(), options.required))
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
   return strict.table("option", values)
end

--- Declares the script's options: a table from names to defaults (text, a number, true or
--- false, or pgcdc.required). Returns the values. All that is wrong with the command line is
--- reported in one usage error. With help=1 the options are listed, and the program ends.
function options.read(defaults)
   check.type("pgcdc.options: its argument", defaults, "table")
   return read_all(defaults, function()
      return help.from_comments(defaults)
   end)
end

--- Does the same with a list of {name, default, text}, in the order in which help=1 lists them.
function options.declare(list)
   local defaults = {}
   for _, option in ipairs(list) do
      if defaults[option[1]] ~= nil then
         check.fail("pgcdc.bundled: the option %s is declared twice", option[1])
      end
      defaults[option[1]] = option[2]
   end
   return read_all(defaults, function()
      return list
   end)
end

return options
