-- pgcdc.sinks.http: changes as HTTP requests: webhooks, or any service that takes JSON.
-- SPDX-License-Identifier: MIT
--
-- What is sent at once, and what an answer means, is http_flush's; here are the options.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local native = require "pgcdc.native.http"
local http_check = require "pgcdc.sinks.http_check"
local http_client = require "pgcdc.sinks.http_client"
local http_flush = require "pgcdc.sinks.http_flush"
local pattern = require "pgcdc.sinks.pattern"
local remote = require "pgcdc.sinks.remote"

local LEAST_SECRET = 16 -- bytes

-- Methods, and how records become a body: what stands before, between and after them.
local methods = { POST = true, PUT = true, PATCH = true }
local frames = { one = {}, ndjson = { "", "\n", "\n" }, array = { "[", ",", "]" } }
local types = { one = "application/json", array = "application/json",
                ndjson = "application/x-ndjson" }

-- ---- options ----

local function read_sign(sink, what, given)
   local list = type(given) == "table" and given or { given }
   if #list < 1 or #list > 2 then
      check.fail("%s: say one secret, or a list of two while they change", what)
   end
   for i, text in ipairs(list) do
      sink:keep_secret(what, "sign" .. i, check.type(what, text, "string"))
      local bytes = native.secret(sink:secret("sign" .. i))
      if not bytes or #bytes < LEAST_SECRET then
         check.fail("%s: a secret is whsec_ and base64 of %d bytes or more, as Standard Webhooks "
            .. "has it", what, LEAST_SECRET)
      end
      sink.has_files = sink.has_files or text:find("$CREDENTIALS_DIRECTORY/", 1, true) ~= nil
   end
   sink.sign_count = #list
end

local fields = http_client.fields {
   method = true, body = true, batch = true, batch_bytes = true, sign = true, idempotency = true,
}

local function value_of(sink)
   return function(body, id)
      local value = not sink.has_format and raw.decode(body)
      if not value and not utf8.len(body) then -- JSON must be able to write it
         body = body:gsub("[\x80-\xff]", "?")
      end
      return value or { id = id, body = body }
   end
end

local function read_batch(sink, spec, what)
   local body = spec.body == nil and "one" or spec.body
   check.one_of(what .. ": body", body, frames)
   sink.body_kind, sink.content_type = body, types[body]
   sink.frame = body ~= "one" and frames[body] or nil
   for _, name in ipairs { "batch", "batch_bytes" } do
      if body == "one" and spec[name] ~= nil then
         check.fail('%s: %s is for body = "ndjson" and "array"', what, name)
      end
   end
   sink.batch = body == "one" and 1 or check.count(what .. ": batch", spec.batch or 500, 1)
   sink.batch_bytes = remote.size(what .. ": batch_bytes", spec.batch_bytes or "1M")
end

local function read(sink, spec, what)
   read_batch(sink, spec, what)
   sink.has_idempotency = sink.body_kind == "one"
   if spec.idempotency ~= nil then
      sink.has_idempotency = check.flag(what .. ": idempotency", spec.idempotency)
      if sink.has_idempotency and sink.body_kind ~= "one" then
         check.fail('%s: idempotency is for body = "one": a batch comes again with other borders',
            what)
      end
   end
   sink.method = spec.method == nil and "POST" or spec.method
   check.one_of(what .. ": method", sink.method, methods)
   if spec.sign ~= nil then
      read_sign(sink, what .. ": sign", spec.sign)
      if spec.gzip then
         check.fail("%s: gzip is not for what is signed: receivers verify the body as it came",
            what)
      end
   end
   sink.has_ids = sink.has_idempotency or spec.sign ~= nil
   sink.has_singles = sink.body_kind == "one" and spec.sign == nil -- see http_flush
   local url = remote.expanded(what, "url", spec.url)
   http_client.read_common(sink, spec, what, url)
   sink.shown = sink.method .. " " .. spec.url -- without what stands in the environment
   sink.url = url
   if url:find "[{}]" then
      sink.url_of = pattern.compile(what .. ": url", url, http_client.percent_encoded)
   end
   sink.value_of, sink.read_answer = value_of(sink), http_flush.read_answer
   sink.own_count, sink.own_prefix = 0, ("%x"):format(native.now()) .. "-"
      .. ("%08x"):format(math.random(0, 0xffffffff))
end

-- ---- values ----

local function encode(sink, value)
   if not sink.has_format and raw.is_change(value)
      and http_flush.put_json(sink, value, sink.url_of and sink.url_of(value, sink)) then
      return
   end
   local text = sink.format(value)
   if not text then
      return
   elseif sink.has_format and sink.body_kind == "ndjson" and text:find("\n", 1, true) then
      error(sink:text 'format: with body = "ndjson" a text must be one line', 0)
   end
   local id = raw.is_change(value) and value.id or nil
   local own_id
   if not id and sink.has_ids then
      sink.own_count = sink.own_count + 1
      own_id = sink.own_prefix .. "/" .. sink.own_count
   end
   http_flush.put(sink, remote.lane(value), id, sink.url_of and sink.url_of(value, sink), text,
      own_id)
end

return remote.sink {
   kind = "http", address = "url", fields = fields, read = read, encode = encode,
   open = http_client.open, send = http_flush.send, close = http_client.close,
   check = http_check.check, mends = http_check.mends, holds = http_flush.HELD,
   promise = { crash = "at least once; a repeat has the same `id`", position = "the state file",
               order = "per key" },
}
