-- pgcdc.stream.operators.ends: where values go to: functions, sinks, lists and files.
-- SPDX-License-Identifier: MIT
--
-- sink sink_to_list sink_to_textfile

local stream = require "pgcdc.stream.stream"
local check = require "pgcdc.check"
local feeds = require "pgcdc.delivery.feeds"
local participants = require "pgcdc.delivery.participants"
local keys = require "pgcdc.stream.keys"
local new_text = require "pgcdc.sinks.text"
local seal = require "pgcdc.seal"

local ends = {}

local methods = { "flush", "restore", "saved", "recall", "identify", "close" }

--- Raises unless `sink` is a function or a sink. `what`: for the message. Returns it, opened.
function ends.check(what, sink)
   sink = seal.open(sink)
   if type(sink) == "function" then
      return sink
   elseif type(sink) ~= "table" or type(sink.write) ~= "function" then
      check.fail("%s must be a function or a sink, a table with a function `write`, not %s", what,
         stream.of(sink) and "a stream: use connect" or sink == nil and "nil" or
         type(sink) == "table" and "a table without one" or "a " .. type(sink))
   end
   for _, name in ipairs(methods) do
      if sink[name] ~= nil then
         check.type(("%s: its %s"):format(what, name), sink[name], "function")
      end
   end
   if sink.name ~= nil then
      check.text(what .. ": its name", sink.name)
   end
   return sink
end

-- A function that gives values to a sink by `write`. If the sink has a field `wants_flush`, that is
-- looked at after each value.
local function asking(sink, write)
   if sink.wants_flush == nil then
      return write
   end
   return function(x)
      write(x)
      if sink.wants_flush then
         participants.ask_flush(sink.participant or participants.sink(sink))
      end
   end
end

-- A function that gives values to a sink. A built-in sink has a field `participant` and calls
-- `touch` itself; one that `enters_itself` calls enter_sink and leave_sink, too.
local function writer(sink)
   if sink.participant and sink.enters_itself then
      return function(x)
         sink:write(x)
      end
   end
   local participant = not sink.participant and participants.sink(sink)
   return function(x)
      if participant then
         participants.touch(participant)
      end
      local before = participants.enter_sink(sink)
      sink:write(x)
      participants.leave_sink(before)
   end
end

-- Operators that may hold back a row which they passed on before, or make one value of several.
local dropping = { unique = true, slice = true, latest = true, zip = true, zip_latest = true,
                   combine_latest = true, collect = true, frequencies = true }

-- Operators that pass on every change.
local passing = { source = true, sink = true, select = true, drop = true, rename = true,
                  add = true, mask = true, union = true, stream = true }

-- What the function `find` of feeds.add returns for a node.
local function find_feeds(node)
   local sources, nodes = stream.sources_of(node)
   local numbers, operator, passes_all = {}, nil, #sources > 0
   for i, source in ipairs(sources) do
      numbers[i] = source.number
   end
   for _, at in ipairs(nodes) do
      operator = operator or dropping[at.kind] and at.kind
      passes_all = passes_all and passing[at.kind] or false
   end
   return numbers, operator, passes_all
end

local function set_target(node, what, target)
   target = ends.check(what, target)
   node.about = target
   if type(target) == "function" then
      node.input = target
      return
   end
   feeds.add(target, function()
      return find_feeds(node)
   end)
   node.input = asking(target, writer(target))
   node.name = target.name
   if target.expect then
      function node.columns(_, x)
         target:expect(x, stream.announcing)
      end
   end
end

--- A node that gives its values to `target`, a function or a sink.
function ends.node(what, target)
   local node = stream.node("sink")
   set_target(node, what, target)
   return stream.add(node)
end

--- sink(f, ...): f(x, ...); sink(sink): sink:write(x). Returns the end of the stream.
stream.operator("sink", function(node, _, target, ...)
   set_target(node, "sink: its argument", target)
   local n = select("#", ...)
   if n > 0 and type(target) == "function" then
      local rest = table.pack(...)
      node.input = function(x)
         target(x, table.unpack(rest, 1, n))
      end
   elseif n > 0 then
      check.fail("sink: further arguments are for functions, not for sinks")
   end
end)

--- sink_to_list(): returns the list, which grows.
stream.operator("sink_to_list", function(node)
   local list = {}
   node.input = function(x)
      list[#list + 1] = keys.item(x)
   end
   return list
end)

--- sink_to_textfile(path, {append=}): one line for each value, tostring(value).
stream.operator("sink_to_textfile", function(node, _, path, given)
   check.text("sink_to_textfile: path", path)
   local options = stream.options("sink_to_textfile", given, { append = true })
   local append = check.flag("sink_to_textfile: append", options.append, nil)
   set_target(node, "sink_to_textfile", new_text { path = path, append = append })
end)

return ends
