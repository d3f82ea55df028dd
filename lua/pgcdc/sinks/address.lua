-- pgcdc.sinks.address: "host:port", as options of sinks have it.
-- SPDX-License-Identifier: MIT

local check = require "pgcdc.check"

--- Returns {host =, port = text} of "host:port", "[::1]:port" or "host", whose port is `default`.
--- `what`: how errors name the option.
return function(what, text, default)
   local host, port = text:match "^%[([%x:.]+)%]:?(%d*)$"
   if not host then
      host, port = text:match "^([^:%[%]@/]+):?(%d*)$"
   end
   if not host then
      check.fail("%s: '%s' is no host:port", what, text)
   end
   port = port == "" and default or port
   if tonumber(port) < 1 or tonumber(port) > 65535 then
      check.fail("%s: there is no port %s", what, port)
   end
   return { host = host, port = port }
end
