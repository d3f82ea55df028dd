-- pgcdc.sinks.opensearch: rows as documents in OpenSearch, or Elasticsearch.
-- SPDX-License-Identifier: MIT
--
-- The number of a change is the version of its document: the server takes no older version, so it
-- does not matter how often they come. A deleted document's version is remembered there for
-- `index.gc_deletes`, 60 seconds; a request must not take longer.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local http_check = require "pgcdc.sinks.http_check"
local http_client = require "pgcdc.sinks.http_client"
local http_flush = require "pgcdc.sinks.http_flush"
local opensearch_check = require "pgcdc.sinks.opensearch_check"
local pattern = require "pgcdc.sinks.pattern"
local remote = require "pgcdc.sinks.remote"
local whole = require "pgcdc.sinks.whole"

local BATCH, BATCH_BYTES = 500, 1 << 20
local LONGEST_ID = 512 -- bytes
local LONGEST = 60 -- seconds
local BLOCKED = "cluster_block_exception" -- of an index or the cluster, also by a disk that is full
local BULK = "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"

-- ---- documents ----

local function id_of(change)
   local id = pattern.key(change)
   return #id <= LONGEST_ID and id or raw.sha256(id)
end

local function encode(sink, change)
   remote.only_changes(sink, change)
   local index = sink.index(change, sink)
   if not index then
      return
   end
   local text
   local is_deleted = change.op == "delete"
   if not is_deleted then
      if not sink.has_format then
         whole.check("opensearch", change)
      end
      text = sink.has_format and sink.format(change) or not sink.has_format
         and raw.encode(change.row)
      if not text then
         return
      elseif text:find("\n", 1, true) then
         error(sink:text "format: the JSON of a document must be one line", 0)
      end
   end
   local action = ('{"%s":{"_index":%s,"_id":%s,"version":%d,"version_type":"external_gte"}}')
      :format(is_deleted and "delete" or "index", raw.encode(index), raw.encode(id_of(change)),
      change.seq)
   http_flush.put(sink, remote.lane(change), change.id, nil, text and action .. "\n" .. text
      or action)
end

-- What a dead letter gets: the document.
local function value_of(body, id)
   local document = body:match "\n(.*)"
   return document and raw.decode(document) or { id = id, body = body }
end

-- ---- answers ----

-- Errors of which no document is to blame: it would be the same with others.
local of_the_index = { [BLOCKED] = "later", index_not_found_exception = "stop",
                       security_exception = "denied" }

-- What became of one document: "done", "later" or "refused"; of all of its index: also "denied" or
-- "stop".
local function fate_of(action, result)
   local status = result.status
   if status // 100 == 2 or status == 409 or action == "delete" and status == 404 then
      return "done"
   end
   local fate = of_the_index[result.error and result.error.type]
      or (status == 401 or status == 403) and "denied"
   return fate or (status == 429 or status >= 500) and "later" or "refused"
end

-- `result`: {status =, error = {type =, reason =}}, of a document or of a whole request.
local function message_of(sink, result)
   local why = result.error or {}
   local message = http_client.describe(sink, { status = result.status,
      body = ("%s: %s"):format(why.type or "?", why.reason or "?") })
   return why.type == BLOCKED and message:gsub(";$", "") .. "; it waits until the block is removed"
      or message
end

-- The error of a request that was refused as a whole, since the cluster is blocked; or nil.
local function block_of(answer)
   local ok, found = pcall(raw.decode, answer.body)
   local why = ok and type(found) == "table" and found.error
   return type(why) == "table" and why.type == BLOCKED and why or nil
end

-- Takes what is not done out of the batch. Returns the verdict on what stays in it.
local function share_out(sink, items, run, batch)
   local later, stay, problem = {}, {}, nil
   batch.is_told = true
   for i, item in ipairs(items) do
      local action, result = next(item)
      local fate = fate_of(action, result)
      if fate == "stop" or fate == "denied" then
         return fate, message_of(sink, result) .. (fate == "stop"
            and ", and it is not made by itself: make it" or "")
      elseif fate == "later" then
         later[#later + 1], problem = i, message_of(sink, result)
      else
         stay[#stay + 1] = fate == "refused" and message_of(sink, result) or false
      end
   end
   if #stay == 0 then
      return "later", problem
   elseif #later > 0 then
      http_flush.part_of(run, batch, later, "later", problem)
   end
   local count = #stay
   for i = #stay, 1, -1 do
      if stay[i] and count > 1 then
         http_flush.part_of(run, batch, { i }, "refused", stay[i])
         table.remove(stay, i)
         count = count - 1
      end
   end
   return stay[1] and "refused" or "done", stay[1] or nil
end

-- See http_flush.read_answer.
local function read_answer(sink, answer, run, batch)
   if answer.status == 200 then
      local result = raw.decode(answer.body)
      local items = type(result) == "table" and result.items
      if type(result) == "table" and result.errors == false then
         return "done"
      elseif type(items) == "table" and #items == run.lanes:count(batch.number) then
         return share_out(sink, items, run, batch)
      elseif run.lanes:count(batch.number) > 1 then
         return "refused" -- half of it has a shorter answer
      end
      return "stop", http_client.describe(sink, answer) .. ": this is no answer of OpenSearch"
   end
   local block = block_of(answer)
   if block then
      return "later", message_of(sink, { status = answer.status, error = block }), answer.seconds
   end
   local verdict, message, seconds = http_flush.read_answer(sink, answer)
   if verdict == "refused" and answer.status ~= 400 and answer.status ~= 413 then
      verdict = "stop"
   end
   return verdict, message, seconds
end

-- ---- options ----

local fields = http_client.fields { index = true }

local function read(sink, spec, what)
   local index = spec.index or "{table}"
   sink.index = pattern.option(what .. ": index", index)
   sink.index_text = type(index) == "string" and index or nil
   sink.columns, sink.expect = {}, opensearch_check.expect -- source -> its columns
   if type(index) == "string" and index:gsub("{[^}]*}", ""):find '[%u%c\\/*?"<>| ,#:]' then
      check.fail('%s: index: names have no upper-case letters, blanks and \\ / * ? " < > | , # :',
         what)
   elseif sink.timeout >= LONGEST then
      check.fail("%s: timeout must be less than %d: so long are deletes remembered there", what,
         LONGEST)
   end
   local url = remote.expanded(what, "url", spec.url)
   http_client.read_common(sink, spec, what, url)
   if url:find "[?#]" then
      check.fail("%s: url ends before the ?", what)
   end
   sink.prefix = url:gsub("/$", ""):sub(#sink.address + 1)
   sink.url, sink.method = sink.address .. sink.prefix .. BULK, "POST"
   sink.shown = "POST " .. spec.url:gsub("/$", "") .. "/_bulk"
   sink.content_type, sink.frame = "application/x-ndjson", { "", "\n", "\n" }
   sink.batch, sink.batch_bytes = BATCH, BATCH_BYTES
   sink.read_answer, sink.value_of = read_answer, value_of
end

return remote.sink {
   kind = "opensearch", address = "url", fields = fields, read = read, encode = encode,
   open = http_client.open, send = http_flush.send, close = http_client.close,
   check = opensearch_check.check, mends = http_check.mends, holds = http_flush.HELD,
   promise = { crash = "the end state is exact",
               position = "the state file", order = "per key" },
}
