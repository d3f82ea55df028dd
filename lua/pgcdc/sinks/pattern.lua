-- pgcdc.sinks.pattern: texts that depend on the value: topics, keys, addresses.
-- SPDX-License-Identifier: MIT
--
--    "cdc.{schema}.{table}"   a change of public.orders: "cdc.public.orders"
--
-- {schema} {table} {source} {op} {key} {row.COLUMN} are of the change, {name} is the sink's; {{ and
-- }} are braces. The key is its one value, or its values with commas between.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local feeds = require "pgcdc.delivery.feeds"
local column_of = require "pgcdc.sinks.column"

local pattern = {}

local plain = { schema = true, table = true, source = true, op = true }
local known = { schema = true, table = true, source = true, op = true, key = true, name = true,
                ["row.COLUMN"] = true }

-- A value as text. NULL is "null".
local function text_of(value)
   return type(value) == "string" and value or value == nil and "null" or raw.encode(value)
end

local function escape(c)
   return "\\" .. c
end

--- The key of a change as text, which no other key of its table has.
function pattern.key(change)
   local texts, count = {}, 0
   for name in pairs(change.key) do
      count = count + 1
      texts[count] = text_of(raw.get(change.key, name))
   end
   if count == 1 then
      return texts[1]
   end
   for i = 1, count do
      texts[i] = texts[i]:gsub("[\\,]", escape)
   end
   return table.concat(texts, ",")
end

local function value_of(what, name, value, sink)
   if name == "name" then
      return sink.name
   elseif not raw.is_change(value) then
      error(("%s: {%s} is of changes, and this value is a %s: give a function"):format(what, name,
         type(value)), 0)
   elseif plain[name] then
      return value[name]
   elseif name == "key" then
      return pattern.key(value)
   end
   return text_of(column_of(what, value, name:sub(5)))
end

-- The pieces of a pattern: text, or {name = what stands in braces}.
local function parse(what, text)
   local pieces, at = {}, 1
   while at <= #text do
      local piece, stop = text:match("^([^{}]+)()", at)
      if not piece then
         piece, stop = text:match("^([{}])%1()", at)
      end
      if not piece then
         local name
         name, stop = text:match("^{([^{}]+)}()", at)
         if not name then
            check.fail("%s: in '%s' write {name}, or {{ and }} for braces", what, text)
         elseif not name:find "^row%.." then
            check.one_of(what .. ": in braces", name, known)
         end
         piece = { name = name }
      end
      pieces[#pieces + 1] = piece
      at = stop
   end
   return pieces
end

--- A function (value, sink) -> text. `what`: how errors name the option. `escaped`: a function that
--- what stands for braces goes through, or nil.
function pattern.compile(what, text, escaped)
   local pieces = parse(what, check.text(what, text))
   if #pieces == 1 and type(pieces[1]) == "string" then
      return function()
         return pieces[1]
      end
   end
   return function(value, sink)
      local texts = {}
      for i = 1, #pieces do
         local piece = pieces[i]
         if type(piece) == "table" then
            piece = value_of(what, piece.name, value, sink)
            piece = escaped and escaped(piece) or piece
         end
         texts[i] = piece
      end
      return table.concat(texts)
   end
end

--- The same for an option that may be a function(value) -> text, or nil to leave the value out.
function pattern.option(what, given, escaped)
   if type(given) ~= "function" then
      check.type(what, given, "string", "function")
      return pattern.compile(what, given, escaped)
   end
   return function(value)
      local text = given(value)
      if type(text) == "number" then
         return tostring(text)
      elseif text ~= nil and type(text) ~= "string" then
         error(("%s: its function must return a text, or nil to leave the value out, not a %s")
            :format(what, type(text)), 0)
      elseif text == "" then
         error(what .. ": its function must not return an empty text", 0)
      end
      return text
   end
end

--- For --check: the texts that a pattern has for changes of the sources that feed the sink, a list
--- without those that depend on what a change holds; and of each the number of a source.
function pattern.expected(text, sink)
   local list, numbers, seen = {}, {}, {}
   for _, number in ipairs(feeds.of(sink)) do
      local source = feeds.name(number) or ""
      local schema, name = source:match "^([^.]*)%.(.*)$"
      local values = { schema = schema, table = name, source = source, name = sink.name }
      local texts, pieces = {}, parse("", text)
      for _, piece in ipairs(pieces) do
         local value = type(piece) == "table" and values[piece.name]
         texts[#texts + 1] = type(piece) == "string" and piece or value or nil
      end
      local result = #texts == #pieces and table.concat(texts)
      if result and not seen[result] then
         seen[result] = true
         list[#list + 1], numbers[#numbers + 1] = result, number
      end
   end
   return list, numbers
end

--- True if the pattern has {name} in it.
function pattern.has(text, name)
   return text:gsub("{{", ""):find("{" .. name .. "}", 1, true) ~= nil
end

return pattern
