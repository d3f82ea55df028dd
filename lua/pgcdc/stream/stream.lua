-- pgcdc.stream.stream: a graph of streams, through which values are passed on.
-- SPDX-License-Identifier: MIT
--
--    source ──▶ filter ──▶ map ──▶ sink        a stream is a *node* of a graph, an operator makes
--                 │                            one; a value goes from consumer to consumer in the
--                 └──────▶ map ──▶ sink        order in which they were attached, depth first
--
-- The interface of a node. An operator sets `input` or `accept`, and of the others what it needs;
-- the methods of the class below serve the rest.
--
--    node.input(x)        A value comes from upstream. Passes on what it makes of it, at once or
--                         later, with node.out. Returns nothing.
--    node.out(x)          Passes x on to all consumers. Set by `rewire`, so that it changes: call
--                         it as `node.out(x)`, do not keep the function.
--    node:accept(up)      The node is being connected to the stream `up`. Returns the function that
--                         takes its values; default: `input`. For operators that must tell their
--                         upstreams apart. May raise an error: then nothing is connected.
--    node:lost(up)        The node is no longer connected to `up`. Releases what it holds of it.
--    node:rewire()        The consumers have changed: makes `out` anew. An operator that does more
--                         than that calls stream.class.rewire(node), too.
--    node:forget()        The node is destroyed, after it was disconnected. Cancels its timers,
--                         releases what it holds, passes nothing on.
--    node:finish()        The program stops in good order. An operator that may pass on early what
--                         it holds does so; what others hold comes again at the next start.
--    node:is_ready()      Returns true if a value that is given to the node now would be passed on
--                         at once. Default: whether all consumers are ready. A node that returns
--                         false calls stream.ready(node) when it takes values again.
--    node:on_ready()      Nodes downstream may be ready again. If a node has this method, its
--                         upstreams are not told: it tells them itself, by stream.ready(node).
--    node:columns(x)      Changes are to come that have the columns of x, a change whose values are
--                         all NULL. A node that passes changes on as they are, at once, has
--                         stream.pass_columns here. Default: nobody downstream is told.
--    node.about           What --graph shows beside the kind: a function, a name, a number, or a
--                         list of such. `kind` is the operator, `name` what the script says.
--
-- Errors. What `input` or a timer of stream.after raises goes up through all nodes to the source,
-- whose policy decides what happens next (see delivery/on_error). The same value may be given
-- again, so the node must be as it was before the value came: it changes its state first, emits
-- then, and takes the change back where that fails (see undo). An error in any other method is
-- raised where it was called: in the script, or in the host, which ends the program.
--
-- Values that are kept. An operator that keeps a value after `input` has returned retains its
-- origin and releases it after the value was passed on (see delivery/lineage, held): until then no
-- position that follows the value is saved.

local check = require "pgcdc.check"
local on_error = require "pgcdc.delivery.on_error"
local raw = require "pgcdc.raw"
local seal = require "pgcdc.seal"
local strict = require "pgcdc.strict"
local timer = require "pgcdc.timer"

local stream = {}

local Stream = strict.class("operator", {})
Stream.__index = Stream
Stream.__name = "pgcdc.stream"

--- The methods of every stream; operators are added to it.
stream.class = Stream

--- The set of what scripts may use of a node. Operators are added to it.
stream.public = { connect = true, disconnect = true, destroy = true, upstreams = true,
                  downstreams = true, emit = true, flush = true, name = true, kind = true }

--- The set of the metatables of nodes.
stream.classes = { [Stream] = true }
seal.kind(Stream, Stream.__name, stream.public, nil, "operator")

--- The number of the source whose columns are being told just now, see `columns`.
stream.announcing = nil

--- Every stream that was made and not destroyed, in that order.
stream.nodes = {}

local function nothing()
end

-- Returns a function that calls all of these with its argument. The list must not change after
-- that: a consumer that is attached or detached during a call counts from the next value.
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

--- Adds a node that is complete to the list. Returns it.
function stream.add(node)
   stream.nodes[#stream.nodes + 1] = node
   return node
end

--- The node that `value` is, or that it stands for (see seal), if it is a stream; else nil.
function stream.of(value)
   value = seal.open(value)
   return type(value) == "table" and stream.classes[getmetatable(value)] and value or nil
end

--- Raises an error unless `value` is a stream (a source is one). Returns its node.
function stream.check(what, value)
   return stream.of(value) or check.fail("%s must be a stream, not %s", what,
      value == nil and "nil" or "a " .. type(value))
end

function Stream:rewire()
   local functions = {}
   for i, consumer in ipairs(self.consumers) do
      functions[i] = consumer.f
   end
   self.out = to_all(functions)
end

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
   down = stream.check("connect: the stream", down)
   self.consumers[#self.consumers + 1] = { node = down, f = down:accept(self) }
   down.producers[#down.producers + 1] = self
   self:rewire()
   return down
end

--- Undoes `connect`. Returns this stream.
function Stream:disconnect(down)
   down = stream.check("disconnect: the stream", down)
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

--- Disconnects this stream from all others, on both sides. What it still holds is released.
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
   local list = {}
   for i, up in ipairs(self.producers) do
      list[i] = seal.close(up)
   end
   return list
end

--- The streams that this one passes its values on to, as a list.
function Stream:downstreams()
   local list = {}
   for _, consumer in ipairs(self.consumers) do
      list[#list + 1] = seal.close(consumer.node)
   end
   return list
end

-- ---- time, and sources that are paused ----

--- The sources that values of `node` may come from, and the nodes before it, as lists.
function stream.sources_of(node)
   local found, nodes, seen, todo = {}, {}, {}, { node }
   while #todo > 0 do
      local at = table.remove(todo)
      if not seen[at] then
         seen[at] = true
         nodes[#nodes + 1] = at
         found[#found + 1] = at.number and at or nil
         table.move(at.producers, 1, #at.producers, #todo + 1, todo)
      end
   end
   return found, nodes
end
local sources_of = stream.sources_of

--- Calls `f` for the operator `node` once, after so many seconds. `--once` waits for it. If it
--- fails and the source's policy is to retry, it is called again. Returns something with a method
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

--- Pauses all sources that values of `node` come from (`is_held`), or lets the same ones go on. To
--- be called in turn with true and false.
function stream.hold_up(node, is_held)
   if is_held then
      node.held_up = sources_of(node)
   end
   for _, source in ipairs(node.held_up) do
      raw.pause(source.number, is_held and 1 or -1)
   end
end

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

--- Tells the consumers of `node` that changes like the example `x` are to come.
function stream.pass_columns(node, x)
   if node.is_telling then -- a loop
      return
   end
   node.is_telling = true
   for _, consumer in ipairs({ table.unpack(node.consumers) }) do
      if consumer.node and consumer.node.columns then
         consumer.node:columns(x)
      end
   end
   node.is_telling = nil
end

--- Tells the upstreams of `node` that it takes values again. Those that have an `on_ready` are
--- called; the upstreams of the others are told.
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

--- The program stops in good order: calls the `finish` of all nodes.
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
   spec = check.taken("pgcdc.stream", spec, { name = true })
   local node = stream.node("stream")
   if spec.name ~= nil then
      node.name = check.text("pgcdc.stream: name", spec.name)
   end
   node.input = function(x)
      node.out(x)
   end
   node.columns = stream.pass_columns
   node.emit = function(_, x) -- as Stream:emit, with nothing on the way
      node.out(x)
   end
   return stream.add(node)
end

--- Passes `value` into this stream, as if it had come from upstream.
function Stream:emit(value)
   (self.input or self.out)(value)
end

--- Adds a method to all streams: `f(up, ...)`, where `up` is a stream. `name` must be new.
--- `arguments`: what a message says that it takes; default: "...".
function stream.method(name, f, arguments)
   assert(Stream[name] == nil, name)
   stream.public[name] = true
   Stream[name] = function(up, ...)
      if not stream.of(up) then
         check.fail("%s: call it as stream:%s(%s)", name, name, arguments or "...")
      end
      return f(up, ...)
   end
end

--- Defines the operator `name`. `build(node, up, ...)` gets a new node and the arguments, checks
--- these, and gives the node what it needs of the interface above; what it returns, if anything, is
--- returned instead of the node. After that the node is connected to `up`.
function stream.operator(name, build)
   stream.method(name, function(up, ...)
      local node = stream.node(name)
      local result = build(node, up, ...)
      stream.add(node)
      up:connect(node)
      return result == nil and node or result
   end)
end

-- Raises, with the line of the script where the operator was made, unless the change has such a
-- column.
local function check_column(what, place, change, name)
   local names = {}
   for column in pairs(change.row) do
      if column == name then
         return
      end
      names[#names + 1] = column
   end
   error(("%s%s: there is no column '%s' in %s.%s%s"):format(place, what, name, change.schema,
      change.table, check.nearest(name, names)), 0)
end

-- Returns a function that gets this field: of a change, from its row (of a delete, from its old
-- row, or its key where that is not known); of any other table, from the table.
local function field_of(what, name)
   local place = check.place()
   local known = setmetatable({}, { __mode = "k" }) -- classes of rows that have it
   return function(x)
      if not raw.is_change(x) then
         return x[name]
      end
      local row = x.row
      if not row then
         return raw.get(x.old or x.key, name)
      end
      local value = raw.get(row, name)
      if value == nil and raw.is_part(row) and not known[getmetatable(row)] then
         check_column(what, place, x, name)
         known[getmetatable(row)] = true
      end
      return value
   end
end

--- `key`, a function or the name of a field, as a function from a value; nil stays nil. `what`: how
--- errors name it.
function stream.getter(what, key)
   if key == nil or type(key) == "function" then
      return key
   end
   check.type(what, key, "function", "string", "number")
   return field_of(what, key)
end

--- The options of an operator: the table `given`, or an empty one for nil. Raises an error if it
--- has others than `known`, a set of names.
function stream.options(what, given, known)
   given = check.type(what .. ": the options", given or {}, "table")
   return check.taken(what, given, known)
end

-- What a node may have, and what others look for there: no names for operators of scripts.
local inner = {}
for _, name in ipairs { "about", "columns", "consumers", "dead_letter", "finish", "flush", "forget",
                        "held_up", "input", "is_asking", "is_holding_up", "is_telling", "kind",
                        "lost", "members", "name", "number", "on", "on_ready", "out", "patience",
                        "policy", "producers", "table" } do
   inner[name] = true
end

--- Adds a method to all streams, for scripts: `f(stream, ...)`, whose results the method returns.
function stream.register(name, f)
   check.text("pgcdc.register: the name", name)
   check.type("pgcdc.register: the function", f, "function")
   if not name:find "^%a[%w_]*$" then -- the class is a metatable, too
      check.fail("pgcdc.register: a name begins with a letter, and has letters, digits and _ : '%s'"
         .. " does not", name)
   end
   if Stream[name] ~= nil then
      check.fail("pgcdc.register: there is an operator '%s' already", name)
   elseif inner[name] then
      check.fail("pgcdc.register: the name '%s' is taken: say another one", name)
   end
   stream.public[name] = true
   Stream[name] = seal.caller(f)
end

return stream
