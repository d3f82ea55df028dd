-- pgcdc.sinks.http_check: what --check finds out about a web server, and what mends that.
-- SPDX-License-Identifier: MIT
--
-- It is asked for the address that changes go to, or where that depends on them for "/", by a GET,
-- which changes nothing.

local mend = require "pgcdc.mend"
local http_client = require "pgcdc.sinks.http_client"
local secret = require "pgcdc.sinks.secret"
local tls = require "pgcdc.sinks.tls"

local http_check = {}

local STEP = 0.1 -- seconds

--- Asks for an address. Returns {status =, body =}.
function http_check.get(sink, url)
   http_client.open(sink)
   local connection, clock = http_client.of(sink), sink:clock "connect"
   connection.client:send(1, "GET", url, connection.lines, "", false)
   while not connection.client:step(STEP) do
      clock:check(false)
   end
   local _, status, text = connection.client:next()
   connection.client:close()
   http_client.renew(sink)
   if not status then
      sink:stop(sink.address .. ": " .. text)
   end
   return { status = status, body = text or "" }
end

--- Whether the server answers, and lets us in.
function http_check.check(sink)
   local has_path = sink.kind.kind == "http" and not sink.url_of
   local answer = http_check.get(sink, has_path and sink.url or sink.address .. "/")
   if answer.status == 401 or answer.status == 407 then
      sink:deny(http_client.describe(sink, answer))
   elseif has_path and (answer.status == 404 or answer.status == 410) then
      sink:warn(("asked by GET the server says %d: is the path right?"):format(answer.status))
   end
   return sink.shown .. ": connects"
end

local function login(sink)
   if sink.has_login then
      return {}
   elseif sink.kind.kind == "http" then
      return { mend.option("header", "Authorization: Bearer $TOKEN") }
   end
   local prefix = sink.kind.kind:upper()
   return { mend.option("user", ("$%s_USER"):format(prefix)),
            mend.option("password", ("$%s_PASSWORD"):format(prefix)) }
end

--- What mends an error of the server, a text: a list, see pgcdc.mend; or nil.
function http_check.mends(sink, text)
   if text:find ": 401" or text:find "Code: 516%D" or text:find "Code: 19[34]%D" then
      return login(sink)
   end
   local host, port = sink.address:match "^%w+://(.-):?(%d*)$"
   return tls.mends(text, host:gsub("[%[%]]", ""), port ~= "" and port or "443")
end

--- A command that sends this body, SQL or JSON, as whoever the sink is there; or nil, where that
--- would show a password. `method`, `path`: nil: POST, "/".
function http_check.curl(sink, body, method, path)
   local user, password = sink:secret "user", secret.variable_of(sink, "password")
   if sink:secret "password" and not password then
      return
   end
   user = user and (secret.variable_of(sink, "user") and "$" .. secret.variable_of(sink, "user")
      or user)
   local files = sink:tls_files()
   return mend.shell(("curl -sS%s%s%s --data-binary %s %s"):format(
      method and (" -X %s -H 'Content-Type: application/json'"):format(method) or "",
      files.ca and " --cacert " .. mend.quoted(files.ca) or "",
      user and (' -u "%s:%s"'):format(user, password and "$" .. password or "") or "",
      mend.quoted(body), mend.quoted(sink.address .. (path or "/"))))
end

return http_check
