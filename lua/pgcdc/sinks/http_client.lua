-- pgcdc.sinks.http_client: what sinks that speak HTTP have in common: options and connections.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local native = require "pgcdc.native.http"
local remote = require "pgcdc.sinks.remote"

local http_client = {}

local STEP = 0.1 -- seconds
local LEAST_HIDDEN = 8 -- letters of a word of a path that may be a secret

-- sink -> its connection: {client = of the module, lines = headers of all requests, keys = secrets
-- to sign with, or nil, secrets = texts that must not be seen, is_stale}; no field of the sink,
-- since scripts can look into that.
local connections = setmetatable({}, { __mode = "k" })

--- The connection of a sink that is open.
function http_client.of(sink)
   return connections[sink]
end

-- Headers that are ours.
local reserved = { ["content-length"] = true, ["transfer-encoding"] = true, connection = true,
                   ["content-encoding"] = true, ["webhook-id"] = true, expect = true,
                   ["webhook-timestamp"] = true, ["webhook-signature"] = true }

-- ---- addresses ----

local function percent(c)
   return ("%%%02X"):format(c:byte())
end

function http_client.percent_encoded(text)
   if text == "." or text == ".." then
      error(("url: '%s' cannot stand in a path"):format(text), 0)
   end
   return (text:gsub("[^%w%-._~]", percent))
end

-- True of the machine's own addresses, to which a password may go without TLS.
local function is_local(host)
   return host == "localhost" or host == "[::1]" or host:find "^127%.%d+%.%d+%.%d+$" ~= nil
end

--- Reads `url`. Returns the address without a path, such as "http://host:80", its host and whether
--- TLS is spoken.
function http_client.read_address(what, text)
   local scheme, authority, rest = text:match "^(%a[%w+.-]*)://([^/?#]*)(.*)$"
   scheme = scheme and scheme:lower()
   if scheme ~= "http" and scheme ~= "https" then
      check.fail("%s: say http://host/path or https://host/path", what)
   elseif authority:find("@", 1, true) then
      check.fail("%s: say the user and the password by user = and password = , such as "
         .. 'password = "$PASSWORD"', what)
   elseif authority:find "[{}]" then
      check.fail("%s: the host cannot depend on the value: braces may only be after the /", what)
   end
   local host, port = authority:match "^(%[[%x:.]+%]):?(%d*)$"
   if not host then
      host, port = authority:match "^([%w._-]+):?(%d*)$"
   end
   if not host or port ~= "" and (tonumber(port) < 1 or tonumber(port) > 65535) then
      check.fail("%s: after %s:// comes a host, and perhaps a :port", what, scheme)
   elseif rest:find "[%c ]" then
      check.fail("%s: write blanks as %%20", what)
   end
   return scheme .. "://" .. authority, host:lower(), scheme == "https"
end

-- ---- options ----

-- Checks the value of a header as it is now.
local function check_header(what, text)
   if text:find "[\r\n%z]" then
      check.fail("%s: a header has one line", what)
   end
   return text
end

local function read_headers(sink, what, given)
   check.type(what, given, "table")
   sink.header_names = {}
   for name, text in pairs(given) do
      local field = ("%s: the header '%s'"):format(what, tostring(name))
      if type(name) ~= "string" or not name:find "^[%w!#$%%&'*+.^_`|~-]+$" then
         check.fail("%s: its name must be letters, digits and -", field)
      elseif reserved[name:lower()] or name:lower() == "idempotency-key" and sink.has_ids then
         check.fail("%s is set by the sink", field)
      end
      sink:keep_secret(what, "headers." .. name, check.type(field, text, "string"))
      check_header(field, sink:secret("headers." .. name))
      sink.has_login = sink.has_login or name:lower() == "authorization"
         or not raw.is_sandboxed and text:gsub("%$%$", ""):find("$", 1, true) ~= nil
      sink.has_files = sink.has_files or text:find("$CREDENTIALS_DIRECTORY/", 1, true) ~= nil
      sink.header_names[#sink.header_names + 1] = name
   end
   table.sort(sink.header_names)
end

-- Nothing that lets others in goes over the network unencrypted.
local function check_login(sink, what, host, has_tls, spec)
   sink.has_login = sink.has_login or spec.user ~= nil or spec.password ~= nil
   if sink.has_login and not has_tls and not is_local(host) then
      check.fail("%s: passwords and headers from the environment go over https only", what)
   elseif spec.password ~= nil and spec.user == nil then
      check.fail("%s: password needs a user", what)
   elseif spec.tls and not has_tls then
      check.fail("%s: tls is for url = https://...", what)
   end
   for _, field in ipairs { "user", "password" } do
      sink.has_files = sink.has_files or type(spec[field]) == "string"
         and spec[field]:find("$CREDENTIALS_DIRECTORY/", 1, true) ~= nil
   end
end

-- The address of a proxy. libcurl takes a socket, too: socks5h://localhost/path.
local function read_proxy(what, given)
   local text = remote.expanded(what, "proxy", given)
   if raw.is_sandboxed and not text:find "^%a%w*://[%w._~%%!$&'()*+,;=:@%[%]-]+/?$" then
      check.fail("%s: proxy: say http://host:port: the sandbox allows no sockets by their path",
         what)
   end
   return text
end

--- What all kinds that send over HTTP read. `url`: with what stands for the variables of spec.url.
function http_client.read_common(sink, spec, what, url)
   sink.holds, sink.successes = {}, 0
   sink.in_a_row, sink.probe_due, sink.probe_wait = 0, 0, 0
   sink.most_in_flight = check.count(what .. ": in_flight", spec.in_flight
      or sink.in_flight_default or 4, 1)
   if sink.most_in_flight > 100 then
      check.fail("%s: in_flight must be 100 at most", what)
   end
   sink.connect_timeout = check.seconds(what .. ": connect_timeout", spec.connect_timeout or 10,
      0.1)
   sink.proxy = spec.proxy and read_proxy(what, spec.proxy) or spec.proxy
   sink.gzip = check.flag(what .. ": gzip", spec.gzip, false)
   read_headers(sink, what .. ": headers", spec.headers or {})
   local address, host, has_tls = http_client.read_address(what .. ": url", url)
   check_login(sink, what, host, has_tls, spec)
   sink.address = address
   if url ~= spec.url then -- perhaps whoever knows the path may send there
      sink.hidden_path = url:sub(#address + 1)
   end
end

local common = { in_flight = true, gzip = true, headers = true, proxy = true,
                 connect_timeout = true }

--- The set of a kind's fields: its own, and those that all kinds have that send over HTTP.
function http_client.fields(own)
   for name in pairs(common) do
      own[name] = true
   end
   return own
end

-- ---- the connection ----

local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

-- As a login is sent.
local function base64(text)
   local padding = -#text % 3
   local digits = (text .. ("\0"):rep(padding)):gsub("...", function(three)
      local value = (">I3"):unpack(three)
      return ("%c%c%c%c"):format(LETTERS:byte((value >> 18) + 1),
         LETTERS:byte((value >> 12 & 63) + 1), LETTERS:byte((value >> 6 & 63) + 1),
         LETTERS:byte((value & 63) + 1))
   end)
   return digits:sub(1, #digits - padding) .. ("="):rep(padding)
end

-- Texts that must not be seen in what a server said.
local function secrets_of(sink)
   local list = {}
   local function add(text)
      if text and #text >= 4 then
         list[#list + 1] = text
      end
   end
   local user, password = sink:secret "user", sink:secret "password"
   if user and password then
      add(base64(user .. ":" .. password))
   end
   add(password)
   for i = 1, sink.sign_count or 0 do
      add(sink:secret("sign" .. i):match "^whsec_(.*)$")
   end
   for _, name in ipairs(sink.header_names) do
      if sink.has_login then
         local text = sink:secret("headers." .. name)
         add(text)
         add(text:match "^%a+ (%S+)$") -- Bearer ...
      end
   end
   add(sink.hidden_path)
   for word in (sink.hidden_path or ""):gmatch "[^/?&=]+" do
      add(#word >= LEAST_HIDDEN and word)
   end
   return list
end

local function lines_of(sink)
   local lines = { "Expect:", "User-Agent: pgcdc-lua/" .. raw.version }
   local has_type = false
   for _, name in ipairs(sink.header_names) do
      local text = check_header("headers: '" .. name .. "'", sink:secret("headers." .. name))
      lines[#lines + 1] = name .. ": " .. text
      has_type = has_type or name:lower() == "content-type"
   end
   if not has_type then
      lines[#lines + 1] = "Content-Type: " .. sink.content_type
   end
   if sink.gzip then
      lines[#lines + 1] = "Content-Encoding: gzip"
   end
   return lines
end

-- The secrets to sign with, or nil.
local function keys_of(sink)
   local keys = sink.sign_count and {}
   for i = 1, sink.sign_count or 0 do
      keys[i] = native.secret(sink:secret("sign" .. i)) or sink:stop(
         "sign: what its variable or file has is no secret any more")
   end
   return keys
end

--- Makes the client, with what stands in the environment and credential files now.
function http_client.open(sink)
   local old = connections[sink]
   if old and not old.is_stale then
      return
   end
   local options = sink:tls_files()
   options.timeout, options.connect_timeout = sink.timeout, sink.connect_timeout
   options.user, options.password = sink:secret "user", sink:secret "password"
   options.proxy = sink.proxy == false and "" or sink.proxy
   connections[sink] = { client = native.open(options), lines = lines_of(sink),
                         keys = keys_of(sink), secrets = secrets_of(sink) }
   if old then
      old.client:close()
   end
end

--- The next `open` makes a new client.
function http_client.renew(sink)
   connections[sink].is_stale = true
end

--- Ends what is on its way. Connections stay, for the next try.
function http_client.close(sink)
   if connections[sink] then
      connections[sink].client:cancel()
   end
   sink.in_flight = 0
end

-- The text without secrets.
local function without_secrets(sink, text)
   for _, secret in ipairs(connections[sink].secrets) do
      local from, to = text:find(secret, 1, true)
      while from do
         text = text:sub(1, from - 1) .. "***" .. text:sub(to + 1)
         from, to = text:find(secret, from + 3, true)
      end
   end
   return text
end

--- "POST http://host/in: 503: what the server said", without secrets.
function http_client.describe(sink, answer)
   local text = without_secrets(sink, answer.body)
   text = text:sub(1, 200):gsub("%s+", " "):gsub("[%c\x80-\xff]", "?")
   return ("%s: %d%s"):format(sink.shown, answer.status, text:find "%S" and ": " .. text or "")
end

--- Where a redirect leads, without what may be a secret.
function http_client.location(sink, answer)
   local location = answer.location and answer.location:gsub("[?#].*$", "") or "elsewhere"
   return without_secrets(sink, location)
end

--- Sends one request, with that body, while no other is on its way. Returns {status =, body =,
--- seconds =, location =}.
function http_client.ask(sink, url, body)
   local connection, clock = connections[sink], sink:clock(sink.shown)
   connection.client:send(0, "POST", url, connection.lines, body, sink.gzip)
   while not connection.client:step(STEP) do
      clock:check(false)
   end
   local _, status, text, seconds, location = connection.client:next()
   if status then
      return { status = status, body = text, seconds = seconds, location = location }
   elseif seconds then -- it is of no use to try again
      sink:deny(("%s: %s"):format(sink.shown, text))
   end
   sink:broken(("%s: %s"):format(sink.shown, text))
end

return http_client
