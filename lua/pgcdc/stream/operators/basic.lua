-- pgcdc.stream.operators.basic: one value in, what a function makes of it out.
-- SPDX-License-Identifier: MIT
--
-- map starmap filter remove tap pluck flatten (= concat)
--
-- Most values pass through these, so they do nothing per value but call the function: they make no
-- table, use no pcall, and build no argument list unless further arguments were given.

local stream = require "pgcdc.stream.stream"
local check = require "pgcdc.check"
local keys = require "pgcdc.stream.keys"

-- A function of one argument that calls f with it and the further arguments.
local function bind(f, ...)
   local n = select("#", ...)
   if n == 0 then
      return f
   elseif n == 1 then
      local a = ...
      return function(x)
         return f(x, a)
      end
   end
   local rest = table.pack(...)
   return function(x)
      return f(x, table.unpack(rest, 1, n))
   end
end

-- Checks f, the function of an operator. Returns it, bound to the further arguments.
local function take_f(node, f, ...)
   node.about = check.type(node.kind .. ": f", f, "function")
   return bind(f, ...)
end

local function check_list(node, x)
   if type(x) ~= "table" then
      check.fail("%s: the value must be a list, not %s", node.kind,
         x == nil and "nil" or "a " .. type(x))
   end
end

--- map(f, ...): f(x, ...). Only the first result counts; nil is passed on like any value.
stream.operator("map", function(node, _, f, ...)
   f = take_f(node, f, ...)
   node.input = function(x)
      node.out((f(x)))
   end
end)

--- starmap(f, ...): f(x[1], x[2], ... x[#x], ...) of lists.
stream.operator("starmap", function(node, _, f, ...)
   f = check.type("starmap: f", f, "function")
   node.about = f
   local n, rest = select("#", ...), table.pack(...)
   node.input = function(x)
      check_list(node, x)
      if n == 0 then
         node.out((f(table.unpack(x))))
      else
         local all = table.move(x, 1, #x, 1, {})
         table.move(rest, 1, n, #x + 1, all)
         node.out((f(table.unpack(all, 1, #x + n))))
      end
   end
end)

--- filter(f, ...): passes x on if f(x, ...); without f, if x is neither nil nor false.
stream.operator("filter", function(node, _, f, ...)
   node.columns = stream.pass_columns
   local filtered = 0
   function node.count_filtered()
      return filtered
   end
   if f == nil then
      node.input = function(x)
         if x then
            node.out(x)
         else
            filtered = filtered + 1
         end
      end
      return
   end
   f = take_f(node, f, ...)
   node.input = function(x)
      if f(x) then
         node.out(x)
      else
         filtered = filtered + 1
      end
   end
end)

--- remove(f, ...): passes x on unless f(x, ...).
stream.operator("remove", function(node, _, f, ...)
   node.columns = stream.pass_columns
   local filtered = 0
   function node.count_filtered()
      return filtered
   end
   f = take_f(node, f, ...)
   node.input = function(x)
      if not f(x) then
         node.out(x)
      else
         filtered = filtered + 1
      end
   end
end)

--- tap(f, ...): calls f(x, ...) and passes x on.
stream.operator("tap", function(node, _, f, ...)
   node.columns = stream.pass_columns
   f = take_f(node, f, ...)
   node.input = function(x)
      f(x)
      node.out(x)
   end
end)

local function pluck_list(node, names)
   if #names == 0 then
      check.fail("pluck: the list of fields is empty")
   end
   local getters = {}
   for i, name in ipairs(names) do
      getters[i] = stream.getter(("pluck: field %d of the list"):format(i), name)
   end
   node.input = function(x)
      local list = {}
      for i = 1, #getters do
         list[i] = keys.item((getters[i](x)))
      end
      node.out(list)
   end
end

--- pluck(k): x[k], of the row where x is a change; pluck{a, b}: a list of them.
stream.operator("pluck", function(node, _, k)
   check.type("pluck: the field", k, "string", "number", "function", "table")
   node.about = k
   if type(k) == "table" then
      pluck_list(node, k)
      return
   end
   local get = stream.getter("pluck: the field", k)
   node.input = function(x)
      node.out((get(x)))
   end
end)

--- flatten(), concat(): each element of a list.
local function flatten(node)
   node.input = function(x)
      check_list(node, x)
      for i = 1, #x do
         node.out(x[i])
      end
   end
end
stream.operator("flatten", flatten)
stream.operator("concat", flatten)
