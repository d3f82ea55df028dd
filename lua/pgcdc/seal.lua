-- pgcdc.seal: in the sandbox scripts get handles in place of our objects.
-- SPDX-License-Identifier: MIT
--
-- A stream, a sink, a connection or a timer is a table with fields that our own functions trust. A
-- sandboxed script gets an empty table that stands for it, its *handle*, whose methods find the
-- object. So there is nothing to read, to take or to put something else in its place. Outside of
-- the sandbox, where scripts have the debug library, they get the objects themselves.
--
-- Whoever takes an object from a script calls `seal.open`. Methods are called with the object, and
-- what they return is closed. A function of a script that is called with objects is called by
-- `seal.caller`, or gets them from `seal.close`.
--
-- What a script has thrown, or has as a metatable, may have an __eq, which would be called with the
-- table of ours that it is compared with: such values are compared by rawequal.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local strict = require "pgcdc.strict"

local seal = {}

local kinds = {} -- the metatable of an object -> what its handles are, see seal.kind
local objects = setmetatable({}, { __mode = "k" }) -- handle -> object
local handles = setmetatable({}, { __mode = "k" }) -- object -> handle
local methods = {} -- name -> the function that scripts get

local function has(kind, name)
   return kind.public[name] or kind.also and kind.also[name]
end

--- The handle of an object, where scripts get handles; else the value.
function seal.close(value)
   local kind = raw.is_sandboxed and type(value) == "table" and kinds[getmetatable(value)]
   if not kind then
      return value
   end
   local handle = handles[value]
   if not handle then
      handle = setmetatable({}, kind.metatable)
      handles[value], objects[handle] = handle, value
   end
   return handle
end

--- The object of a handle; any other value is returned.
function seal.open(value)
   return value ~= nil and objects[value] or value
end

local function closed(n, first, ...)
   if n > 1 then
      return seal.close(first), closed(n - 1, ...)
   elseif n == 1 then
      return seal.close(first)
   end
end

local function close_all(...)
   return closed(select("#", ...), ...)
end

--- A function of a script, for what calls it with objects among its arguments.
function seal.caller(f)
   if not raw.is_sandboxed then
      return f
   end
   return function(...)
      return f(close_all(...))
   end
end

--- `f` for scripts: what it returns is closed.
function seal.result(f)
   if not raw.is_sandboxed then
      return f
   end
   return function(...)
      return close_all(f(...))
   end
end

-- The method of this name for scripts. It is for handles alone: with another table in the place of
-- one, our functions would write into that.
local function method(name)
   if not methods[name] then
      methods[name] = function(handle, ...)
         local object = handle ~= nil and objects[handle]
         if not object or not has(kinds[getmetatable(object)], name) then
            check.fail("%s: call it with a colon, as :%s(...)", name, name)
         end
         return close_all(object[name](object, ...))
      end
   end
   return methods[name]
end

--- Scripts get handles of the objects with this metatable. `name`: its name for `tostring`;
--- `public`: the set of the fields that scripts may read (functions are methods), which may grow;
--- `also`: another such set, or nil; `what`: what a field is, where it is an error to read another
--- one, or nil.
function seal.kind(class, name, public, also, what)
   local kind = { public = public, also = also }
   kind.metatable = { __name = name, __index = function(handle, field)
      if not has(kind, field) then
         if what then
            return strict.missing(what, public, field, also)
         end
         return nil
      end
      local value = objects[handle][field]
      if type(value) == "function" then
         return method(field)
      end
      return value
   end }
   if class.__close then
      kind.metatable.__close = function(handle)
         objects[handle]:close()
      end
   end
   kinds[class] = kind
end

-- What a script may do with a sink of ours, and what its own sink may have.
local of_sinks = { write = true, stats = true, flush = true, restore = true, saved = true,
                   close = true, recall = true, identify = true, name = true, prepares = true,
                   wants_flush = true }

--- The same for a class of sinks.
function seal.sink(class, name)
   seal.kind(class, name, of_sinks)
end

return seal
