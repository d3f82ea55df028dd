-- pgcdc.stream.debezium: changes that Debezium wrote into topics.
-- SPDX-License-Identifier: MIT
--
-- The rule by which a record is one: its value is a JSON object, whose `payload`, or which itself,
-- has `op` and a `source` with a `table`. With `payload` there is a `schema`, that says the types;
-- without it they are those that JSON has: see `widest`.

local raw = require "pgcdc.raw"
local values = require "pgcdc.stream.connect_values"

local debezium = {}

local ops = { c = "insert", u = "update", d = "delete", r = "read" }
local UNKNOWN = "__debezium_unavailable_value" -- of a column that an update left as it was

local function is_table(value)
   return type(value) == "table"
end

-- ---- what a record says ----

-- The payload of a text, and the schema or nil; nil if it is no JSON object.
local function open(text)
   local value = text and raw.decode(text)
   if not is_table(value) then
      return nil
   elseif is_table(value.payload) and value.schema ~= nil then
      return value.payload, is_table(value.schema) and value.schema or nil
   end
   return value
end

--- The envelope that the value of a record is, {payload =, schema = or nil}; nil if it is none.
function debezium.envelope(text)
   local payload, schema = open(text)
   if payload and type(payload.op) == "string" and is_table(payload.source)
      and type(payload.source.table) == "string" then
      return { payload = payload, schema = schema }
   end
end

-- ---- columns ----

-- The type of a value without a schema.
local function plain_type(value)
   local kind = math.type(value) or type(value)
   if value == raw.null then
      return nil
   elseif kind == "integer" then
      return "bigint"
   elseif kind == "float" then
      return "double precision"
   elseif kind == "boolean" then
      return "boolean"
   elseif kind == "table" then
      return "jsonb"
   end
   return tonumber(value) and kind ~= "string" and "numeric" or "text"
end

local ranks = { bigint = 1, ["double precision"] = 2, numeric = 3 }

-- The type that holds values of both: numbers become wider, documents stay documents, and what is
-- of two kinds is text.
local function widest(a, b)
   if a == nil or b == nil or a == b then
      return a or b
   elseif ranks[a] and ranks[b] then
      return ranks[a] > ranks[b] and a or b
   end
   return (a == "jsonb" or b == "jsonb") and "jsonb" or "text"
end

-- The fields of a row in a schema of the envelope: {name -> field}, in order.
local function fields_of(schema)
   for _, part in ipairs(schema and schema.fields or {}) do
      if (part.field == "after" or part.field == "before") and is_table(part.fields) then
         return part.fields
      end
   end
end

-- The columns of a row by its schema: {{name =, type =, field =, json =}, ...}.
local function by_schema(fields)
   local list = {}
   for i, field in ipairs(fields) do
      local type_name, to_json = values.type_of(field)
      list[i] = { name = field.field, type = type_name, field = field, to_json = to_json }
   end
   return list
end

-- The same without one: `types`, what was seen of the table, by name, is made wider.
local function by_values(types, rows)
   local list, names = {}, {}
   for _, row in ipairs(rows) do
      for name, value in pairs(row) do
         if not names[name] then
            names[name] = true
            list[#list + 1] = { name = name, to_json = raw.encode }
         end
         if value ~= UNKNOWN then
            types[name] = widest(types[name], plain_type(value))
         end
      end
   end
   table.sort(list, function(a, b)
      return a.name < b.name
   end)
   for _, column in ipairs(list) do
      column.type = types[column.name] or "text"
   end
   return list
end

-- ---- JSON of a change, as capture/shaped reads it ----

local function json_of(columns, row)
   local parts = {}
   for _, column in ipairs(columns) do
      local value = row[column.name]
      if value ~= nil and value ~= UNKNOWN then
         parts[#parts + 1] = raw.encode(column.name) .. ":" .. (value == raw.null and "null"
            or column.to_json(value, column.field))
      end
   end
   return "{" .. table.concat(parts, ",") .. "}"
end

-- Whether an old row is more than a key: without REPLICA IDENTITY FULL all else is null there.
local function is_whole(before, key)
   local others = 0
   for name, value in pairs(before) do
      if key[name] == nil then
         others = others + 1
         if value ~= raw.null then
            return true
         end
      end
   end
   return others == 0
end

local function key_columns(columns, key)
   local list, by_name = {}, {}
   for _, column in ipairs(columns) do
      if key[column.name] ~= nil then
         list[#list + 1] = column
         by_name[column.name] = true
      end
   end
   local names = {}
   for name in pairs(key) do
      names[#names + 1] = not by_name[name] and name or nil
   end
   table.sort(names)
   for _, name in ipairs(names) do
      list[#list + 1] = { name = name, type = plain_type(key[name]) or "text",
                          to_json = raw.encode }
   end
   return list
end

-- ---- types of rows ----

local function shape_of(memory, where, columns, keys, has_xid)
   local parts = { where.schema, where.table, tostring(has_xid) }
   for _, list in ipairs { columns, keys } do
      for _, column in ipairs(list) do
         parts[#parts + 1] = column.name .. " " .. column.type
      end
      parts[#parts + 1] = ""
   end
   local signature = table.concat(parts, "\0")
   if not memory.shapes[signature] then
      local function plain(list)
         local copy = {}
         for i, column in ipairs(list) do
            copy[i] = { name = column.name, type = column.type }
         end
         return copy
      end
      memory.shapes[signature] = raw.feed_type({ schema = where.schema, table = where.table,
         columns = plain(columns), key = plain(keys), xid = has_xid }, where.database)
   end
   return memory.shapes[signature]
end

local function id_of(where, xid, record)
   return raw.encode(("%s.%s/%d/%d.%d"):format(where.schema, where.table, xid, record.partition,
      record.offset))
end

-- ---- all of it ----

--- What is remembered of a source: of its topics and tables.
function debezium.memory()
   return { shapes = {}, tables = {}, topics = {} }
end

local function text_of(value, otherwise)
   return type(value) == "string" and value or otherwise
end

--- The type of the rows of a record whose value is this envelope, and the JSON of the change; or
--- nil and what is wrong with it.
function debezium.read(memory, record, envelope)
   local payload, source = envelope.payload, envelope.payload.source
   local op = ops[payload.op]
   if not op then
      return nil, ("it is no change of a row: its op is '%s'"):format(payload.op)
   end
   local key = open(record.key)
   if not key or next(key) == nil then
      return nil, "it has no key: its table has no primary key, perhaps"
   end
   local where = { schema = text_of(source.schema, text_of(source.db, "")), table = source.table,
                   database = text_of(source.db, "") }
   local before = is_table(payload.before) and payload.before or nil
   local after = is_table(payload.after) and payload.after or nil
   if op ~= "delete" and not after then
      return nil, "it has no row: its `after` is missing"
   end
   local name = where.schema .. "." .. where.table
   memory.tables[name] = memory.tables[name] or {}
   local fields = fields_of(envelope.schema)
   local columns = fields and by_schema(fields)
      or by_values(memory.tables[name], { before or after, after })
   memory.topics[record.topic] = { where = where, columns = columns }
   local keys = key_columns(columns, key)
   local xid = math.type(source.txId) == "integer" and source.txId or nil
   local ms = math.tointeger(source.ts_ms) or math.tointeger(payload.ts_ms) or 0
   local old = before and is_whole(before, key) and json_of(columns, before) or "null"
   return shape_of(memory, where, columns, keys, xid ~= nil),
      ('{"op":"%s","key":%s,"row":%s,"old":%s,"xid":%d,"seq":%d,"ts":"%s","id":%s}'):format(op,
         json_of(keys, key), op == "delete" and "null" or json_of(columns, after), old, xid or 0,
         record.offset, values.ts_of(ms), id_of(where, xid or 0, record))
end

--- The same for a record without a value: a delete of its key. Its table is that of the record
--- before it in the topic, or what the topic's name ends with.
function debezium.tombstone(memory, record)
   local key = open(record.key)
   if not key or next(key) == nil then
      return nil, "it has neither a value nor a key"
   end
   local schema, name = record.topic:match "([^.]+)%.([^.]+)$"
   local of = memory.topics[record.topic] or { columns = {}, where = { schema = schema or "",
      table = name or record.topic, database = "" } }
   local keys = key_columns(of.columns, key)
   return shape_of(memory, of.where, of.columns, keys, false),
      ('{"op":"delete","key":%s,"row":null,"xid":0,"seq":%d,"ts":"%s","id":%s}'):format(
         json_of(keys, key), record.offset, values.ts_of(record.time or 0),
         id_of(of.where, 0, record))
end

return debezium
