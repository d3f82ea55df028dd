-- certificates.lua: certificates for servers that speak TLS.
-- SPDX-License-Identifier: MIT

local native = require "native"
local scope = require "scope"
local server = require "server"

local certificates = {}

local function openssl(dir, ...)
   server.run({ "openssl", ... }, { user = false, accept = false, cwd = dir })
end

-- Makes an authority of this name in <dir>; returns the paths of its certificate and its key.
function certificates.authority(dir, name)
   local path = dir .. "/" .. name
   openssl(dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
      "-nodes", "-days", "2", "-subj", "/CN=" .. name, "-keyout", path .. ".key", "-out",
      path .. ".crt")
   return path .. ".crt", path .. ".key"
end

-- Has <ca> sign a certificate for "localhost" and gives it to the cluster's server. <days>: how
-- long it counts, 2 if nil; negative: no more.
function certificates.give(one, dir, ca, ca_key, days)
   local path = dir .. "/server"
   openssl(dir, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
      "-subj", "/CN=localhost", "-keyout", path .. ".key", "-out", path .. ".csr")
   openssl(dir, "x509", "-req", "-in", path .. ".csr", "-CA", ca, "-CAkey", ca_key,
      "-CAcreateserial", "-days", tostring(days or 2), "-out", path .. ".crt")
   for _, name in ipairs { "server.key", "server.crt" } do
      local target = one.data .. "/" .. name
      server.run({ "cp", dir .. "/" .. name, target }, { user = false })
      server.run({ "chmod", "600", target }, { user = false })
      if server.user() then
         assert(native.chown(target, server.user()))
      end
   end
end

-- What a server for "localhost" needs, in a new folder: {dir =, cert =, key =, ca = the authority
-- that signed it, other = one that did not}, paths. <days>: as of `give`.
function certificates.localhost(days)
   local dir = scope.dir "certificates"
   local ca, ca_key = certificates.authority(dir, "ca")
   local other = certificates.authority(dir, "other")
   certificates.give({ data = dir }, scope.dir "server", ca, ca_key, days)
   return { dir = dir, cert = dir .. "/server.crt", key = dir .. "/server.key", ca = ca,
            other = other }
end

return certificates
