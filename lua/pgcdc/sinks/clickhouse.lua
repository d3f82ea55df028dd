-- pgcdc.sinks.clickhouse: changes into ClickHouse, over HTTP.
-- SPDX-License-Identifier: MIT
--
-- A row goes as it is, with its number in `_seq` and 0 in `_is_deleted`; of a deleted one its key,
-- number and 1. The engine ReplacingMergeTree keeps the version with the highest number: so it does
-- not matter how often, or in which order, they come.
--
-- A *target* is a table there: {name =, url = where its rows go, columns = by name, of {name =,
-- type =, place = in the key, or nil}, is_ready = it has these columns, was_ready = it was once}. A
-- *plan* is for changes that have the same metatable: {columns = a list of {name =, head =
-- '"name":', encode = a function from a value to JSON, type =, place =}, known = set of their
-- names, targets = set of those that have these columns}.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local mend = require "pgcdc.mend"
local http_check = require "pgcdc.sinks.http_check"
local http_client = require "pgcdc.sinks.http_client"
local http_flush = require "pgcdc.sinks.http_flush"
local pattern = require "pgcdc.sinks.pattern"
local remote = require "pgcdc.sinks.remote"
local whole = require "pgcdc.sinks.whole"

local BATCH, BATCH_BYTES = 16384, 1 << 20
local MOST_DIGITS = 38 -- of a Decimal, in every version
local SEQ, DELETED = "_seq", "_is_deleted"

-- Codes of errors. The server says 500 for rows that it can never take, too.
local refused = { [6] = true, [26] = true, [27] = true, [33] = true, [38] = true, [41] = true,
                  [53] = true, [69] = true, [72] = true, [117] = true, [130] = true,
                  [349] = true }
local denied = { [192] = true, [193] = true, [194] = true, [497] = true, [516] = true }
local wrong = { [16] = true, [60] = true, [62] = true, [81] = true }

-- ---- values ----

local function quoted(value)
   return raw.encode(type(value) == "string" and value or raw.encode(value))
end

-- As Postgres writes it.
local function hex(value)
   return '"\\\\x' .. value:gsub(".", function(c) return ("%02x"):format(c:byte()) end) .. '"'
end

-- The number in front of a date, or nil.
local function year_of(text)
   return not text:find "BC$" and tonumber(text:match "^(%d+)%-%d%d%-%d%d")
end

-- The server takes the next year that it knows for one that it does not, and says nothing.
local function check_year(name, text)
   local year = year_of(text)
   if not year or year < 1900 or year > 2299 then
      error(("clickhouse: %s is %s, and dates there are from 1900 to 2299"):format(name, text), 0)
   end
end

-- "2026-11-23T05:04:57.057+00:00" as "2026-11-23 05:04:57.057000", which is UTC.
local function timestamp(name)
   return function(text)
      check_year(name, text)
      local day, time, fraction = text:match "^([%d-]+)[T ]([%d:]+)%.?(%d*)"
      return ('"%s %s.%s"'):format(day, time, (fraction .. "000000"):sub(1, 6))
   end
end

local function date(name)
   return function(text)
      check_year(name, text)
      return raw.encode(text)
   end
end

local plain = { smallint = "Int16", integer = "Int32", bigint = "Int64", real = "Float32",
                ["double precision"] = "Float64", boolean = "UInt8", uuid = "UUID" }

-- What a column becomes: its type there and how its values are written. The type of times depends
-- on the server, see `type_there`.
local function type_of(column)
   local source_type = column.base_type or column.type
   local digits, scale = source_type:match "^numeric%((%d+),(%-?%d+)%)$"
   digits, scale = tonumber(digits), tonumber(scale)
   if plain[source_type] then
      return plain[source_type], raw.encode
   elseif digits and digits <= MOST_DIGITS and scale >= 0 and scale <= digits then
      return ("Decimal(%d, %d)"):format(digits, scale), tostring
   elseif column.kind == "timestamp" then
      return "DateTime64(6, 'UTC')", timestamp(column.name)
   elseif source_type == "date" then
      return "Date32", date(column.name)
   elseif column.kind == "bytea" then
      return "String", hex
   elseif column.kind == "json" or column.kind == "numeric" then
      return "String", quoted
   end
   return "String", raw.encode
end

-- Older servers have no such types, or round to seconds.
local function type_there(sink, column)
   local is_time = column.type == "Date32" or column.type:find "^DateTime64"
   return is_time and not sink.has_times and "String" or column.type
end

local guessed = { number = "Float64", boolean = "UInt8" }

-- ---- plans ----

local function new_plan(change)
   local plan = { columns = {}, known = {}, targets = {} }
   for i, column in ipairs(raw.copy_columns(change)) do
      local column_type, encode = type_of(column)
      plan.columns[i] = { name = column.name, head = raw.encode(column.name) .. ":",
                          encode = encode, type = column_type, place = column.key }
      plan.known[column.name] = plan.columns[i]
   end
   return plan
end

local function plan_of(sink, change)
   local class = getmetatable(change)
   local plan = sink.plans[class]
   if not plan then
      plan = new_plan(change)
      sink.plans[class] = plan
   end
   return plan
end

-- A column that the script has added.
local function add_guessed(plan, name, value)
   if type(name) ~= "string" then
      error("clickhouse: a row has a field whose name is no text", 0)
   end
   local is_plain = guessed[type(value)]
   local column = { name = name, head = raw.encode(name) .. ":", type = is_plain or "String",
                    encode = is_plain and raw.encode or quoted }
   plan.columns[#plan.columns + 1], plan.known[name] = column, column
   plan.targets = {}
end

local function encoded(change, plan)
   whole.check("clickhouse", change)
   local is_deleted = change.op == "delete"
   local row, parts, n = is_deleted and change.key or change.row, {}, 0
   for name, value in pairs(not is_deleted and raw.copy_added(change) or {}) do
      if not plan.known[name] then
         add_guessed(plan, name, value)
      end
   end
   for _, column in ipairs(plan.columns) do
      if not is_deleted or column.place then
         local value = raw.get(row, column.name)
         n = n + 1
         parts[n] = column.head .. (value == nil and "null" or column.encode(value))
      end
   end
   return ('{%s,"%s":%d,"%s":%d}'):format(table.concat(parts, ","), SEQ, change.seq, DELETED,
      is_deleted and 1 or 0)
end

-- ---- targets ----

local function name_in_sql(name)
   return "`" .. name:gsub("[\\`]", "\\%0") .. "`"
end

local function text_in_sql(text)
   return "'" .. text:gsub("[\\']", "\\%0") .. "'"
end

local function url_of(sink, query)
   return ("%s%sdatabase=%s&query=%s"):format(sink.base, sink.base:find("?", 1, true) and "&"
      or "?", http_client.percent_encoded(sink.database), http_client.percent_encoded(query))
end

local function target_of(sink, name)
   local target = sink.targets[name]
   if not target then
      target = { name = name, columns = {}, is_ready = false, url = url_of(sink,
         ("INSERT INTO %s FORMAT JSONEachRow"):format(name_in_sql(name))) }
      sink.targets[name] = target
      sink.url = sink.url or target.url
   end
   return target
end

-- The target gets the columns of a plan.
local function join(target, plan)
   plan.targets[target] = true
   target.is_ready = false
   for _, column in ipairs(plan.columns) do
      if not target.columns[column.name] then
         target.columns[column.name] = column
         target.columns[#target.columns + 1] = column.name
      end
   end
end

local function encode(sink, change)
   remote.only_changes(sink, change)
   local name = sink.into(change, sink)
   if not name then
      return
   end
   local plan, target = plan_of(sink, change), target_of(sink, name)
   local body = encoded(change, plan)
   if not plan.targets[target] then
      join(target, plan)
   end
   http_flush.put(sink, remote.lane(change), change.id, target.url ~= sink.url and target.url
      or nil, body)
end

-- ---- the server ----

-- What an answer means, see http_flush.read_answer.
local function read_answer(sink, answer)
   if answer.status == 200 then
      return "done"
   end
   local code = tonumber(answer.body:match "Code: (%d+)")
   local message = http_client.describe(sink, answer)
   if refused[code] then
      return "refused", message
   elseif denied[code] then
      return "denied", message
   elseif wrong[code] then
      return "stop", message
   end
   return http_flush.read_answer(sink, answer)
end

-- Asks, and returns the lines of the answer. Raises what the flush is to end with.
local function ask(sink, query)
   local answer = http_client.ask(sink, url_of(sink, query), "")
   local verdict, message, seconds = read_answer(sink, answer)
   if verdict == "done" then
      local lines = {}
      for line in answer.body:gmatch "[^\n]+" do
         lines[#lines + 1] = line
      end
      return lines
   elseif verdict == "denied" then
      sink:deny(message)
   elseif verdict == "later" then
      sink:retry(message, seconds)
   end
   sink:stop(message)
end

-- The types that the server has, by its version.
local function set_version(sink)
   local text = ask(sink, "SELECT version()")[1] or ""
   local major, minor = text:match "^(%d+)%.(%d+)"
   if not major then
      sink:stop(("%s does not say which version of ClickHouse it is"):format(sink.shown))
   end
   local number = tonumber(major) * 100 + tonumber(minor)
   sink.version = text
   sink.has_two = number >= 2302 -- ReplacingMergeTree knows deleted rows
   sink.has_times = number >= 2109
end

local function create_query(sink, target)
   local texts, key = {}, {}
   for i, name in ipairs(target.columns) do
      local column = target.columns[name]
      local is = type_there(sink, column)
      texts[i] = name_in_sql(name) .. " " .. (column.place and is or ("Nullable(%s)"):format(is))
      if column.place then
         key[column.place] = name_in_sql(name)
      end
   end
   if #key == 0 then
      sink:stop(("the changes for %s have no key: name its columns as pk = at their source")
         :format(target.name))
   end
   return ("CREATE TABLE IF NOT EXISTS %s (%s, %s UInt64, %s UInt8) ENGINE = ReplacingMergeTree"
      .. "(%s%s) ORDER BY (%s)"):format(name_in_sql(target.name), table.concat(texts, ", "), SEQ,
      DELETED, SEQ, sink.has_two and ", " .. DELETED or "", table.concat(key, ", "))
end

-- Other engines keep all versions of a row.
local function warn_of_engine(sink, target)
   local engine = ask(sink, ("SELECT engine FROM system.tables WHERE database = %s AND name = %s")
      :format(text_in_sql(sink.database), text_in_sql(target.name)))[1] or "?"
   if not engine:find "Replacing" then
      sink:log("warn", ("the table %s has the engine %s, and keeps old versions of rows: "
         .. "ReplacingMergeTree(%s) does not"):format(target.name, engine, SEQ))
   end
end

-- Makes sure that the table is there and has all columns.
local function prepare(sink, target)
   local there, statements = {}, {}
   local question = ("SELECT name FROM system.columns WHERE database = %s AND table = %s FORMAT "
      .. "TabSeparatedRaw"):format(text_in_sql(sink.database), text_in_sql(target.name))
   local names = ask(sink, question)
   if #names == 0 and sink.create then
      ask(sink, create_query(sink, target))
      names = ask(sink, question)
   end
   for _, name in ipairs(names) do
      there[name] = true
   end
   for _, name in ipairs(target.columns) do
      if not there[name] then
         statements[#statements + 1] = ("ALTER TABLE %s ADD COLUMN %s Nullable(%s)"):format(
            name_in_sql(target.name), name_in_sql(name), type_there(sink, target.columns[name]))
      end
   end
   if #names == 0 then
      sink:stop(("there is no table %s: %s"):format(target.name, create_query(sink, target)))
   elseif not there[SEQ] or not there[DELETED] then
      sink:stop(("the table %s needs columns %s UInt64 and %s UInt8, and the engine "
         .. "ReplacingMergeTree(%s)"):format(target.name, SEQ, DELETED, SEQ))
   elseif #statements > 0 and not sink.create then
      sink:stop(("the table %s lacks columns: %s"):format(target.name, table.concat(statements,
         "; ")))
   end
   for _, statement in ipairs(statements) do
      ask(sink, statement)
   end
   if not target.was_ready then
      warn_of_engine(sink, target)
   end
   target.is_ready, target.was_ready = true, true
end

local function send(sink, upto)
   if not sink.version then
      set_version(sink)
   end
   for _, target in pairs(sink.targets) do
      if not target.is_ready then
         prepare(sink, target)
      end
   end
   return http_flush.send(sink, upto)
end

-- Tables are made with the first change; where they are not, they must be there.
local function check_tables(sink)
   for _, name in ipairs(sink.create and {} or sink.into_text
      and pattern.expected(sink.into_text, sink) or {}) do
      if ask(sink, "EXISTS TABLE " .. name_in_sql(name))[1] ~= "1" then
         sink.mends = { mend.option("create", "yes") }
         sink:stop(("there is no table %s in the database %s"):format(name, sink.database))
      end
   end
end

local function mends(sink, text)
   if text:find "Code: 81%D" then
      return { http_check.curl(sink, "CREATE DATABASE " .. name_in_sql(sink.database)) }
   end
   return http_check.mends(sink, text)
end

local function check_server(sink)
   set_version(sink)
   check_tables(sink)
   return ("ClickHouse %s at %s, database %s"):format(sink.version, sink.address, sink.database)
end

-- ---- options ----

local fields = http_client.fields { into = true, database = true, create = true }

local function value_of(body, id)
   return raw.decode(body) or { id = id, body = body }
end

local function read(sink, spec, what)
   if sink.has_format then
      check.fail("%s: format is not for clickhouse, whose rows are the changes'", what)
   end
   sink.database = spec.database and check.text(what .. ": database", spec.database) or "default"
   sink.into_text = spec.into == nil and "{table}" or type(spec.into) == "string" and spec.into
      or nil
   sink.into = pattern.option(what .. ": into", spec.into or "{table}")
   sink.create = check.flag(what .. ": create", spec.create, true)
   local url = remote.expanded(what, "url", spec.url)
   sink.in_flight_default = 1 -- requests are big
   http_client.read_common(sink, spec, what, url)
   sink.base, sink.shown, sink.method = url, "POST " .. spec.url, "POST"
   sink.content_type, sink.frame = "application/x-ndjson", { "", "\n", "\n" }
   sink.batch, sink.batch_bytes = BATCH, BATCH_BYTES
   sink.plans, sink.targets = setmetatable({}, { __mode = "k" }), {}
   sink.read_answer, sink.value_of = read_answer, value_of
end

return remote.sink {
   kind = "clickhouse", address = "url", fields = fields, read = read, encode = encode,
   open = http_client.open, send = send, close = http_client.close,
   check = check_server, mends = mends, holds = http_flush.HELD,
   promise = { crash = "the end state is exact",
               position = "the state file", order = "per key" },
}
