-- opensearch: indexes in OpenSearch or Elasticsearch that have the rows of tables.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options({
   { "url", pgcdc.required, "https://host:9200" },
   { "index", "{table}", "the index" },
   { "user", "", "of the server" },
   { "password", "", "its password, such as $OPENSEARCH_PASSWORD" },
   { "ca", "", "a file: certificates of who may sign the server's, in the place of the system's" },
   { "gzip", false, "compress what is sent" },
}, { deletes = "yes" })

local function given(value)
   return value ~= "" and value or nil
end

local sink = pgcdc.sinks.opensearch {
   url = options.url, index = options.index, gzip = options.gzip,
   user = given(options.user), password = given(options.password),
   tls = given(options.ca) and { ca = options.ca },
}

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   source:sink(sink)
end

return sources
