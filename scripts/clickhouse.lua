-- clickhouse: tables in ClickHouse that have the rows of tables here.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options({
   { "url", pgcdc.required, "http://host:8123 or https://host:8443" },
   { "into", "{table}", "the table there" },
   { "database", "default", "its database" },
   { "create", true, "make tables and columns that are missing there" },
   { "user", "", "of the server" },
   { "password", "", "its password, such as $CLICKHOUSE_PASSWORD" },
   { "ca", "", "a file: certificates of who may sign the server's, in the place of the system's" },
   { "gzip", false, "compress what is sent" },
}, { deletes = "yes" })

local function given(value)
   return value ~= "" and value or nil
end

local sink = pgcdc.sinks.clickhouse {
   url = options.url, into = options.into, database = options.database, create = options.create,
   user = given(options.user), password = given(options.password), gzip = options.gzip,
   tls = given(options.ca) and { ca = options.ca },
}

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   source:sink(sink)
end

return sources
