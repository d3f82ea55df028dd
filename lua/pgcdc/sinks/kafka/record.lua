-- pgcdc.sinks.kafka.record: what becomes of a value: topic, key, text and headers.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local column_of = require "pgcdc.sinks.column"
local native = require "pgcdc.native.kafka"
local pattern = require "pgcdc.sinks.pattern"

local record = {}

-- ---- names of topics ----

--- Why a text cannot be the name of a topic, or nil.
function record.problem(topic)
   if #topic > 249 or topic:find "[^%w._-]" or topic == "." or topic == ".." then
      return ("'%s' cannot be the name of a topic: it has letters, digits, '.', '_' and '-', 249 "
         .. "at most"):format(topic)
   end
end

--- An option that is the name of a topic.
function record.topic(what, given)
   local problem = record.problem(check.text(what, given))
   if problem then
      check.fail("%s: %s", what, problem)
   end
   return given
end

-- ---- a record ----

-- The name of a shape, of which is kept what has to be told of it.
local function name_of(sink, shape)
   local text = raw.encode(shape)
   local name = raw.sha256(text):sub(1, 16)
   if not sink.told_shapes[name] then
      sink.told_shapes[name], sink.new_shapes[name] = true, text
   end
   return name
end

-- What is the same for all changes of a shape, but those that a script has given another table:
-- {topic, heads = {[op] = packed headers}, name}.
local function known_of(sink, shape, value)
   local is_usual = not (rawget(value, "schema") or rawget(value, "table")
      or rawget(value, "source"))
   local known = is_usual and sink.known[shape]
   if not known then
      known = { heads = {}, name = sink.shapes and name_of(sink, shape) }
      if sink.has_plain_topic then
         known.topic = sink.topic(value, sink)
      end
      sink.known[shape] = is_usual and known or sink.known[shape]
   end
   return known
end

local nothing_known = { heads = {} }

-- The headers of a change that depend on its shape and op only.
local function head_of(sink, value, known)
   local op = value.op
   local head = known.heads[op]
   if not head then
      head = sink.header_names and "" or native.headers("op", op, "schema", value.schema, "table",
         value.table)
      if known.name then
         head = head .. native.headers("shape", known.name)
      end
      if known ~= nothing_known then
         known.heads[op] = head
      end
   end
   return head
end

local function headers_of(sink, value, id, known)
   local packed = id and sink.has_headers and head_of(sink, value, known) or ""
   if sink.header_names then
      local words, n = {}, 0
      for i, name in ipairs(sink.header_names) do
         words[n + 1], words[n + 2] = name, sink.header_texts[i](value, sink)
         n = n + 2
      end
      return packed .. native.headers(table.unpack(words, 1, n))
   elseif id and sink.has_headers then
      return packed .. native.headers("id", id, "seq", value.seq, "ts", value.ts)
   end
   return packed
end

-- The topic of a value, checked; nil: it is left out.
local function topic_of(sink, value, known)
   local topic = known.topic or sink.topic(value, sink)
   if topic and topic ~= sink.last_topic then
      local problem = record.problem(topic)
      if problem then
         error(sink:text(problem .. ": say another `topic`"), 0)
      end
      sink.last_topic = topic
   end
   return topic
end

--- Puts a value into the outbox: topic, key, text, headers, and whether a tombstone follows.
function record.encode(sink, value)
   if sink.is_plain and sink:put_change(sink.learned, value) then
      return
   end
   local is_change = raw.is_change(value)
   local shape = is_change and raw.shape(value)
   local known = shape and known_of(sink, shape, value) or nothing_known
   local topic = topic_of(sink, value, known)
   if topic == nil then
      return
   end
   if sink.is_plain and known ~= nothing_known and sink.known[shape] == known and known.topic
      and (sink.deletes == "value" or value.op ~= "delete") and not rawget(value, "op") then
      raw.learn_change(sink.learned, value, topic, head_of(sink, value, known))
   end
   local is_tombstone = is_change and sink.deletes ~= "value" and value.op == "delete"
   local text
   if not is_tombstone or sink.deletes == "both" then
      text = sink.format(value)
      if text == nil then
         return
      end
   end
   local key
   if sink.key then
      key = sink.key(value, sink)
   elseif is_change then
      key = raw.key_json(value)
   end
   if is_tombstone and key == nil then
      error(sink:text "key: a tombstone needs one", 0)
   end
   local id = is_change and value.id or nil
   sink:put(nil, id, topic, key, text, headers_of(sink, value, id, known),
      is_tombstone and text and "both" or nil)
end

-- ---- options ----

local deletes = { value = true, tombstone = true, both = true }

-- Returns a function from a value and the sink to the key, or nil; nil: the key's JSON.
local function read_key(what, given)
   if given == nil then
      return nil
   elseif given == "none" then
      return function() end
   elseif type(given) == "function" then
      return pattern.option(what, given)
   end
   check.text(what, given)
   return function(value)
      if not raw.is_change(value) then
         error(("%s: a column is of changes, and this value is a %s: give a function"):format(what,
            type(value)), 0)
      end
      local column = column_of(what, value, given)
      return column == nil and "null" or type(column) == "string" and column or raw.encode(column)
   end
end

local function read_headers(sink, what, given)
   if type(given) ~= "table" then
      sink.has_headers = check.flag(what, given, true)
      return
   end
   local names = {}
   for name, text in pairs(given) do
      check.text(what .. ": a name", name)
      if name:find "%c" then
         check.fail("%s: the name %q must have no control characters", what, name)
      end
      check.text(what .. "." .. name, text)
      names[#names + 1] = name
   end
   table.sort(names)
   sink.has_headers, sink.header_names, sink.header_texts = true, names, {}
   for i, name in ipairs(names) do
      sink.header_texts[i] = pattern.compile(what .. "." .. name, given[name])
   end
end

--- Checks and keeps the options that say what a record is.
function record.read(sink, spec, what)
   local topic = spec.topic == nil and "cdc.{schema}.{table}" or spec.topic
   sink.topic = pattern.option(what .. ": topic", topic)
   sink.topic_text = type(topic) == "string" and topic or nil
   sink.has_plain_topic = type(topic) == "string" and not pattern.has(topic, "key")
      and not pattern.has(topic, "op") and not topic:find("{row.", 1, true)
   if type(topic) == "string" and not topic:find "[{}]" then
      record.topic(what .. ": topic", topic)
   end
   sink.deletes = spec.deletes == nil and "value" or spec.deletes
   check.one_of(what .. ": deletes", sink.deletes, deletes)
   sink.key = read_key(what .. ": key", spec.key)
   if spec.key == "none" and sink.deletes ~= "value" then
      check.fail('%s: deletes = "%s" needs a key', what, sink.deletes)
   end
   read_headers(sink, what .. ": headers", spec.headers)
   sink.positions = record.topic(what .. ": positions", spec.positions == nil and "pgcdc-positions"
      or spec.positions)
   if spec.dead_topic ~= nil then
      sink.dead_topic = record.topic(what .. ": dead_topic", spec.dead_topic)
   end
   local is_json = spec.format == nil or spec.format == "json"
   sink.is_plain = is_json and spec.key == nil and sink.has_headers and not sink.header_names
   if spec.shapes ~= false and sink.has_headers and is_json then
      sink.shapes = record.topic(what .. ": shapes", spec.shapes == nil and "pgcdc-shapes"
         or spec.shapes)
   elseif spec.shapes then
      check.fail('%s: shapes is for format = "json" with headers', what)
   end
   sink.known, sink.told_shapes = setmetatable({}, { __mode = "k" }), {}
   sink.learned = setmetatable({}, { __mode = "k" }) -- see raw.learn_change
   sink.new_shapes, sink.dead = {}, {}
end

return record
