-- pgcdc.stream.stream: a graph of streams, through which values are passed on.
-- SPDX-License-Identifier: MIT
--
-- A node has `out`, a function that passes a value to its consumers in the order in which they
-- were attached, depth first, and `input`, which takes a value from upstream. Both may be
-- replaced: `out` whenever a consumer comes or goes, so operators call `node.out(x)` and never
-- keep the function.

local check = require "pgcdc.check"
local on_error = require "pgcdc.delivery.on_error"
local raw = require "pgcdc.raw"
local timer = require "pgcdc.timer"

local stream = {}

local Stream = {}
Stream.__index = Stream
Stream.__name = "pgcdc.stream"

--- The methods of every stream; operators are added to it.
stream.class = Stream

--- Every stream that was made and not destroyed, in that order.
stream.nodes = {}

local function nothing()
end

-- Passes on to all; a consumer that is attached or detached meanwhile counts from the next value.
local function to_all(functions)
   if #functions == 0 then
      return nothing
   elseif #functions == 1 then
      return functions[1]
   elseif #functions == 2 then
      local a, b = functions[1], functions[2]
      return function(x)
         a(x)
         b(x)
      end
   end
   return function(x)
      for i = 1, #functions do
         functions[i](x)
      end
   end
end
stream.to_all = to_all

--- Makes a node that is connected to nothing. `kind` is the operator's name.
function stream.node(kind)
   local node = setmetatable({
      kind = kind,
      consumers = {},  -- {node =, f =}, in the order in which they were attached
      producers = {},  -- nodes
      out = nothing,
   }, Stream)
   return node
end

--- Adds a node that is ready to the list.
function stream.list(node)
   stream.nodes[#stream.nodes + 1] = node
   return node
end

--- True if `value` is a stream (a source is one).
function stream.is(value)
   return type(value) == "table" and type(value.consumers) == "table"
      and type(value.rewire) == "function"
end

--- Raises unless `value` is a stream.
function stream.check(what, value)
   if not stream.is(value) then
      check.fail("%s must be a stream, not %s", what,
         value == nil and "nil" or "a " .. type(value))
   end
   return value
end

-- The consumers have changed.
function Stream:rewire()
   local functions = {}
   for i, consumer in ipairs(self.consumers) do
      functions[i] = consumer.f
   end
   self.out = to_all(functions)
end

-- The function that takes the values of the stream `up`. Operators that must tell their upstreams
-- apart have one of their own.
function Stream:accept()
   return self.input or check.fail("%s takes no values", self.kind)
end

local function index_of(list, item)
   for i, candidate in ipairs(list) do
      if candidate == item then
         return i
      end
   end
end

--- Passes values of this stream on to `down` too. Returns `down`.
function Stream:connect(down)
   stream.check("connect: the stream", down)
   self.consumers[#self.consumers + 1] = { node = down, f = down:accept(self) }
   down.producers[#down.producers + 1] = self
   self:rewire()
   return down
end

--- Undoes `connect`. Returns this stream.
function Stream:disconnect(down)
   stream.check("disconnect: the stream", down)
   for i, consumer in ipairs(self.consumers) do
      if consumer.node == down then
         table.remove(self.consumers, i)
         table.remove(down.producers, index_of(down.producers, self))
         self:rewire()
         if down.lost then
            down:lost(self)
         end
         return self
      end
   end
   check.fail("disconnect: %s is not connected to %s", down.kind, self.kind)
end

--- Disconnects this stream from all others, on both sides. What it still holds is let go.
function Stream:destroy()
   for _, up in ipairs({ table.unpack(self.producers) }) do
      up:disconnect(self)
   end
   for _, consumer in ipairs({ table.unpack(self.consumers) }) do
      if consumer.node then
         self:disconnect(consumer.node)
      end
   end
   if self.forget then
      self:forget()
   end
   local i = index_of(stream.nodes, self)
   if i then
      table.remove(stream.nodes, i)
   end
end

--- The streams whose values come in here, as a list.
function Stream:upstreams()
   return { table.unpack(self.producers) }
end

--- The streams that this one passes its values on to, as a list.
function Stream:downstreams()
   local list = {}
   for _, consumer in ipairs(self.consumers) do
      list[#list + 1] = consumer.node
   end
   return list
end

-- ---- time, and consumers that are held up ----

-- The sources that values of `node` may come from.
local function sources_of(node)
   local found, seen, todo = {}, {}, { node }
   while #todo > 0 do
      local at = table.remove(todo)
      if not seen[at] then
         seen[at] = true
         found[#found + 1] = at.number and at or nil
         table.move(at.producers, 1, #at.producers, #todo + 1, todo)
      end
   end
   return found
end

--- Calls `f` for the operator `node` once, after so many seconds. `--once` waits for it. Should
--- it fail it is called again, if the source's policy is to retry. Returns something with a method
--- `cancel`.
function stream.after(node, seconds, f)
   local state = {}
   local handle = {}
   local function run()
      on_error.later(sources_of(node), state, f, function(wait)
         handle.timer = timer.window(wait, run)
      end)
   end
   handle.timer = timer.window(seconds, run)
   function handle.cancel()
      handle.timer:cancel()
   end
   return handle
end

--- Holds up, or no longer, all sources that values of `node` come from. To be called in turn with
--- true and false.
function stream.hold_up(node, is_held)
   if is_held then
      node.held_up = sources_of(node)
   end
   for _, source in ipairs(node.held_up) do
      raw.pause(source.number, is_held and 1 or -1)
   end
end

--- True if a value that is given to this stream now would be passed on at once.
function Stream:is_ready()
   if self.is_asking then -- a loop
      return true
   end
   self.is_asking = true
   local is_ready = true
   for _, consumer in ipairs(self.consumers) do
      if consumer.node and not consumer.node:is_ready() then
         is_ready = false
         break
      end
   end
   self.is_asking = false
   return is_ready
end

--- Tells the upstreams of `node` that it takes values again. Those with an `on_ready` hear of it;
--- others pass it on.
function stream.ready(node)
   local seen, todo = { [node] = true }, { table.unpack(node.producers) }
   while #todo > 0 do
      local at = table.remove(todo, 1)
      if not seen[at] then
         seen[at] = true
         if at.on_ready then
            at:on_ready()
         else
            table.move(at.producers, 1, #at.producers, #todo + 1, todo)
         end
      end
   end
end

--- A clean stop: operators that may pass on early what they hold do so.
function stream.finish()
   for _, node in ipairs({ table.unpack(stream.nodes) }) do
      if node.finish then
         node:finish()
      end
   end
end

--- Makes a stream by hand. Feed it with `:emit(value)`.
function stream.new(spec)
   spec = check.type("pgcdc.stream: its argument", spec or {}, "table")
   check.fields("pgcdc.stream", spec, { name = true })
   local node = stream.node("stream")
   if spec.name ~= nil then
      node.name = check.text("pgcdc.stream: name", spec.name)
   end
   node.input = function(x)
      node.out(x)
   end
   node.emit = function(_, x) -- as Stream:emit, with nothing on the way
      node.out(x)
   end
   return stream.list(node)
end

--- Passes `value` into this stream, as if it had come from upstream.
function Stream:emit(value)
   (self.input or self.out)(value)
end

--- Defines the operator `name`. `build(node, up, ...)` gets a new node and the arguments, checks
--- these, and sets `node.input`, or `node.accept`; what it returns, if anything, is returned
--- instead of the node. The node is connected to `up` behind that.
function stream.operator(name, build)
   Stream[name] = function(up, ...)
      if not stream.is(up) then
         check.fail("%s: call it as stream:%s(...)", name, name)
      end
      local node = stream.node(name)
      local result = build(node, up, ...)
      stream.list(node)
      up:connect(node)
      return result == nil and node or result
   end
end

-- A field of the row of a change (of what there is, where it was deleted), or of any other table.
local function field_of(name)
   return function(x)
      if raw.is_change(x) then
         return (x.row or x.old or x.key)[name]
      end
      return x[name]
   end
end

--- A function or the name of a field, as a function; nil stays nil. `what`: for the message.
function stream.getter(what, key)
   if key == nil or type(key) == "function" then
      return key
   end
   check.type(what, key, "function", "string", "number")
   return field_of(key)
end

--- The options table of an operator: nil is none. `known`: a set of names.
function stream.options(what, given, known)
   given = check.type(what .. ": the options", given or {}, "table")
   check.fields(what, given, known)
   return given
end

--- Adds an operator for everybody: `f(stream, ...)` returns a stream, or whatever it likes.
function stream.register(name, f)
   check.text("pgcdc.register: the name", name)
   check.type("pgcdc.register: the function", f, "function")
   if Stream[name] ~= nil then
      check.fail("pgcdc.register: there is an operator '%s' already", name)
   end
   Stream[name] = f
end

return stream
