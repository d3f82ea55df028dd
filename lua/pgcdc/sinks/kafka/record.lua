-- pgcdc.sinks.kafka.record: what becomes of a value: topic, key, text and headers.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local column_of = require "pgcdc.sinks.column"
local native = require "pgcdc.native.kafka"
local pattern = require "pgcdc.sinks.pattern"

local record = {}

-- ---- names of topics ----

-- Why a text cannot be the name of a topic, or nil.
local function problem_of(topic)
   if #topic > 249 or topic:find "[^%w._-]" or topic == "." or topic == ".." then
      return ("'%s' cannot be the name of a topic: it has letters, digits, '.', '_' and '-', 249 "
         .. "at most"):format(topic)
   end
end

--- An option that is the name of a topic.
function record.topic(what, given)
   local problem = problem_of(check.text(what, given))
   if problem then
      check.fail("%s: %s", what, problem)
   end
   return given
end

-- ---- a record ----

-- The name of a change's shape, or nil; keeps what has to be told of it.
local function shape_of(sink, value)
   local shape = sink.shapes and raw.shape(value)
   if not shape then
      return
   end
   local name = sink.shape_names[shape]
   if not name then
      local text = raw.encode(shape)
      name = raw.sha256(text):sub(1, 16)
      sink.shape_names[shape] = name
      if not sink.told_shapes[name] then
         sink.told_shapes[name], sink.new_shapes[name] = true, text
      end
   end
   return name
end

local function headers_of(sink, value)
   local is_change = raw.is_change(value)
   local shape = is_change and shape_of(sink, value)
   local packed = ""
   if sink.header_names then
      local words, n = {}, 0
      for i, name in ipairs(sink.header_names) do
         words[n + 1], words[n + 2] = name, sink.header_texts[i](value, sink)
         n = n + 2
      end
      packed = native.headers(table.unpack(words, 1, n))
   elseif sink.has_headers and is_change then
      local seq = value.seq
      packed = native.headers("op", value.op, "id", value.id, "seq", seq and ("%d"):format(seq),
         "schema", value.schema, "table", value.table, "ts", value.ts)
   end
   return shape and packed .. native.headers("shape", shape) or packed
end

--- Puts a value into the outbox: topic, key, text, headers, and whether a tombstone follows.
function record.encode(sink, value)
   local topic = sink.topic(value, sink)
   if topic == nil then
      return
   elseif topic ~= sink.last_topic then
      local problem = problem_of(topic)
      if problem then
         error(sink:text(problem .. ": say another `topic`"), 0)
      end
      sink.last_topic = topic
   end
   local is_delete = raw.is_change(value) and value.op == "delete"
   local is_tombstone = is_delete and sink.deletes ~= "value"
   local text
   if not is_delete or sink.deletes ~= "tombstone" then
      text = sink.format(value)
      if text == nil then
         return
      end
   end
   local key = sink.key(value, sink)
   if is_tombstone and key == nil then
      error(sink:text "key: a tombstone needs one", 0)
   end
   sink:put(nil, raw.is_change(value) and value.id or nil, topic, key, text,
      headers_of(sink, value), is_tombstone and text and "both" or nil)
end

-- ---- options ----

local deletes = { value = true, tombstone = true, both = true }

-- Returns a function from a value and the sink to the key, or nil.
local function read_key(what, given)
   if given == nil then
      return function(value)
         return raw.is_change(value) and raw.encode(value.key) or nil
      end
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
   if spec.shapes ~= false and sink.has_headers and is_json then
      sink.shapes = record.topic(what .. ": shapes", spec.shapes == nil and "pgcdc-shapes"
         or spec.shapes)
   elseif spec.shapes then
      check.fail('%s: shapes is for format = "json" with headers', what)
   end
   sink.shape_names, sink.told_shapes = setmetatable({}, { __mode = "k" }), {}
   sink.new_shapes, sink.dead = {}, {}
end

return record
