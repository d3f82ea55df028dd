-- webhook: every change as an HTTP request.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options {
   { "url", pgcdc.required, "https://host/path; {table}, {key}, {row.COLUMN} are of the change" },
   { "body", "one", "a change in a request (one), or several: ndjson or array" },
   { "batch", 500, "how many at most, of ndjson and array" },
   { "sign", "", "secrets of Standard Webhooks, one or two with a comma between" },
   { "header", "", "NAME: TEXT, such as 'Authorization: Bearer $TOKEN'" },
   { "ca", "", "a file: certificates of who may sign the server's, in the place of the system's" },
   { "format", "json", "json, debezium or cloudevents" },
   { "gzip", false, "compress bodies" },
   { "in_flight", 4, "how many requests at a time" },
   { "timeout", 30, "seconds that a request may take" },
}

local headers = {}
if options.header ~= "" then
   local name, text = options.header:match "^([^:%s]+):%s*(.+)$"
   if not name then
      bundled.usage(("header=%s: say NAME: TEXT"):format(options.header))
   end
   headers[name] = text
end

local sink = pgcdc.sinks.http {
   url = options.url, body = options.body, headers = headers, format = options.format,
   batch = options.body ~= "one" and (math.tointeger(options.batch) or options.batch) or nil,
   sign = bundled.list(options.sign), gzip = options.gzip, timeout = options.timeout,
   in_flight = math.tointeger(options.in_flight) or options.in_flight,
   tls = options.ca ~= "" and { ca = options.ca } or nil,
}

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   source:sink(sink)
end

return sources
