-- pgcdc.sinks.tls: the option `tls`: files with certificates and keys.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local mend = require "pgcdc.mend"
local secret = require "pgcdc.sinks.secret"
local io = rawget(_G, "io")

local tls = {}

local fields = { ca = true, cert = true, key = true }

--- Keeps the paths of the option.
function tls.read(sink, what, given)
   if given == nil then
      return
   end
   check.type(what .. ": tls", given, "table")
   given = check.taken(what .. ": tls", given, fields)
   if raw.is_sandboxed then
      check.fail("%s: tls: the sandbox allows no files", what)
   elseif (given.cert == nil) ~= (given.key == nil) then
      check.fail("%s: tls: cert and key belong together", what)
   end
   for field, path in pairs(given) do
      secret.keep(sink, what .. ": tls." .. field, "tls." .. field, check.text(what .. ": tls."
         .. field, path))
   end
end

--- {ca =, cert =, key =}, paths, as they are now.
function tls.files(sink)
   local files = {}
   for field in pairs(fields) do
      files[field] = secret.of(sink, "tls." .. field)
   end
   return files
end

--- Why one of the files cannot be read, a text; or nil. (What is no regular file, a folder or a
--- pipe, is left to the library.)
function tls.problem(sink)
   for field, path in pairs(tls.files(sink)) do
      local kind = raw.file_stat(path)
      local file, why = nil, nil
      if kind == nil or kind == "file" then
         file, why = io.open(path, "rb")
      end
      if file then
         why = not file:read(0) and path .. ": it is empty" or nil
         file:close()
      end
      if why then
         return ("tls.%s: %s"):format(field, why)
      end
   end
end

-- What OpenSSL says of certificates that somebody unknown has signed.
local unknown = { "self.signed certificate", "issuer certificate", "verify the first certificate" }

--- What has us accept the certificate that a server has, by the option `ca` of bundled scripts: a
--- list, see pgcdc.mend.
function tls.accept(host, port)
   return {
      mend.shell(("openssl s_client -connect %s:%s -showcerts </dev/null 2>/dev/null | "
         .. "sed -n '/^-----BEGIN/,/^-----END/p' >%s.pem # if it is whose it should be"):format(
         host:find ":" and "[" .. host .. "]" or host, port, host)),
      mend.option("ca", host .. ".pem"),
   }
end

--- What mends an error of --check, a text, if that is a certificate of a server there that somebody
--- unknown has signed: a list, see pgcdc.mend; or nil.
function tls.mends(text, host, port)
   for _, words in ipairs(unknown) do
      if text:find(words) then
         return tls.accept(host, port)
      end
   end
end

return tls
