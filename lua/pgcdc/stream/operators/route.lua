-- pgcdc.stream.operators.route: each value to one of several streams.
-- SPDX-License-Identifier: MIT
--
-- route branch

local stream = require "pgcdc.stream.stream"
local check = require "pgcdc.check"
local ends = require "pgcdc.stream.operators.ends"

-- The names of the targets in an order that is the same at each start.
local function sorted_names(targets)
   local names = {}
   for name in pairs(targets) do
      names[#names + 1] = name
   end
   table.sort(names, function(a, b)
      if type(a) ~= type(b) then
         return type(a) < type(b)
      elseif type(a) == "number" then
         return a < b
      end
      return tostring(a) < tostring(b)
   end)
   return names
end

local function check_target(what, target)
   if not stream.of(target) then
      ends.check(what, target)
   end
end

-- Connects a target to the node, unless it is connected already. `label` is shown by --graph.
-- Returns the target's node.
local function attach(node, label, target)
   target = stream.of(target) or ends.node(label, target)
   for _, consumer in ipairs(node.consumers) do
      if consumer.node == target then
         consumer.label = consumer.label .. ", " .. label
         return target
      end
   end
   node:connect(target)
   node.consumers[#node.consumers].label = label
   return target
end

-- Gives the node an input that calls f and passes the value to the target or targets that f names.
local function set_routes(node, f, targets, default)
   local nodes, functions, default_function = {}, {}, nil
   local is_target = {}

   -- Consumers that are no targets get all values, by `out`.
   function node:rewire()
      local by_node, others = {}, {}
      for _, consumer in ipairs(self.consumers) do
         if is_target[consumer.node] then
            by_node[consumer.node] = consumer.f
         else
            others[#others + 1] = consumer.f
         end
      end
      for name, target in pairs(nodes) do
         functions[name] = by_node[target]
      end
      default_function = default and by_node[default]
      self.out = stream.to_all(others)
   end

   for _, name in ipairs(sorted_names(targets)) do
      nodes[name] = attach(node, tostring(name), targets[name])
      is_target[nodes[name]] = true
   end
   if default ~= nil then
      default = attach(node, "default", default)
      is_target[default] = true
   end
   node:rewire()

   local function target_of(name)
      local target = functions[name] or default_function -- functions[nil] is nil
      if not target then
         check.fail("%s: there is no target for %s, and no default", node.kind,
            type(name) == "string" and ("%q"):format(name) or tostring(name))
      end
      return target
   end

   node.input = function(x)
      local name = f(x)
      if type(name) == "table" then
         local found = {} -- all of them, before any gets the value
         for i = 1, #name do
            found[i] = target_of(name[i])
         end
         for i = 1, #found do
            found[i](x)
         end
      else
         target_of(name)(x)
      end
      node.out(x)
   end
end

--- route(f, {name = stream or sink, ...}, {default=}): f(x), or the field f, names one target or
--- is a list of names. A name that has no target means `default`; without a default it is an error.
--- Streams that are attached to the one that is returned get every value, after the targets.
stream.operator("route", function(node, _, f, targets, given)
   check.type("route: f", f, "function", "string", "number")
   node.about = f
   check.type("route: the targets", targets, "table")
   if stream.of(targets) then
      check.fail("route: the targets must be a table from names to streams or sinks, not a stream")
   end
   local options = stream.options("route", given, { default = true })
   if next(targets) == nil and options.default == nil then
      check.fail("route: there are no targets, and no default")
   end
   for _, name in ipairs(sorted_names(targets)) do -- all of them, before any is attached
      check_target(("route: the target '%s'"):format(tostring(name)), targets[name])
   end
   if options.default ~= nil then
      check_target("route: the default", options.default)
   end
   set_routes(node, stream.getter("route: f", f), targets, options.default)
end)

local function pass_on(kind, name)
   local node = stream.node(kind)
   node.name = name
   node.input = function(x)
      node.out(x)
   end
   return stream.add(node)
end

--- branch(f): two streams: the values for which f(x) is true, and the others.
stream.method("branch", function(up, f)
   check.type("branch: f", f, "function")
   local node = stream.add(stream.node("branch"))
   node.about = f
   local yes, no = pass_on("stream", "yes"), pass_on("stream", "no")
   set_routes(node, function(x)
      return f(x) and true or false
   end, { [true] = yes, [false] = no })
   up:connect(node)
   return yes, no
end, "f")
