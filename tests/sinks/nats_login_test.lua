-- nats_login_test.lua: pgcdc.sinks.nats: logins, TLS, wrong options, the sandbox.
-- SPDX-License-Identifier: MIT

local certificates = require "certificates"
local child = require "child"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local nats = require "nats"
local once = require "once"
local program = require "program"
local receiver = require "receiver"
local remote_sinks = require "remote_sinks"
local scope = require "scope"
local tree = require "tree"
local wait = require "wait"

local TestNatsLogin = {}

local test, script, ids = nats.tests(TestNatsLogin), nats.script, remote_sinks.ids

-- ---- login ----

test("a_login", function(server)
   server.login = { user = "me", password = "s3cret" }
   server:stream("CDC", {})
   local db = fixtures.names(3)
   local function run(options, env)
      return once.run { dsn = db, script = script(server, options), env = env }
   end
   for _, options in ipairs { "", 'user = "me", password = "wr0ng"', 'password = "wr0ng"' } do
      local result = run(options)
      lu.assertEquals(result.status, 3)
      lu.assertStrContains(result.stderr, "cannot connect: Authorization Violation")
      lu.assertNotStrContains(result.stderr, "wr0ng")
   end
   lu.assertEquals(run('user = "me", password = "$SECRET"', { SECRET = "s3cret" }).status, 0)
   local result = run 'user = "other", password = "other"'
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, "Permissions Violation")
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3")
end, false, [[authorization { users = [
   { user: me, password: s3cret },
   { user: other, password: other, permissions: { publish: { deny: "cdc.>" } } } ] }]])

test("a_token", function(server)
   server.login = { token = "t0ken" }
   server:stream("CDC", {})
   once.ok { dsn = fixtures.names(3), script = script(server, 'password = "t0ken"') }
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3")
end, false, "authorization { token: t0ken }")

function TestNatsLogin.test_tls()
   if not nats.is_there() then
      return
   end
   local made = certificates.localhost()
   local server = nats.new(([[tls { cert_file: "%s", key_file: "%s" }]]):format(made.cert,
      made.key))
   local db = fixtures.names(3)
   local function how(scheme, host, authority)
      return { dsn = db, script = script(("%s://%s:%d"):format(scheme, host, server.port),
         "create = {}" .. (authority and (", tls = {ca = %q}"):format(authority) or "")) }
   end
   once.ok(how("tls", "localhost", made.ca))
   once.ok(how("nats", "localhost", made.ca))
   once.ok(how("tls", "localhost"), { env = { SSL_CERT_FILE = made.ca } })
   for _, case in ipairs { { "127.0.0.1", made.ca, "IP address mismatch" },
                           { "localhost", made.other, "unable to get local issuer certificate" },
                           { "localhost", false, "unable to get local issuer certificate" } } do
      lu.assertStrMatches(once.ends(3, how("tls", case[1], case[2])).text,
         ".*cannot connect: SSL handshake error: .*" .. case[3] .. ".*")
   end
end

-- ---- credentials ----

local function crc16(text)
   local crc = 0
   for i = 1, #text do
      crc = crc ~ text:byte(i) << 8
      for _ = 1, 8 do
         crc = (crc & 0x8000 ~= 0 and crc << 1 ~ 0x1021 or crc << 1) & 0xffff
      end
   end
   return string.pack("<I2", crc)
end

-- Bytes as digits of so many bits each, the last one filled up.
local function digits(bytes, bits, alphabet)
   local list, value, n = {}, 0, 0
   for i = 1, #bytes do
      value, n = (value << 8 | bytes:byte(i)) & 0xffffff, n + 8
      while n >= bits do
         n = n - bits
         local at = (value >> n & (1 << bits) - 1) + 1
         list[#list + 1] = alphabet:sub(at, at)
      end
   end
   if n > 0 then
      local at = (value << bits - n & (1 << bits) - 1) + 1
      list[#list + 1] = alphabet:sub(at, at)
   end
   return table.concat(list)
end

local function base32(bytes)
   return digits(bytes .. crc16(bytes), 5, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
end

local function base64(bytes)
   return digits(bytes, 6, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
end

-- A key of Ed25519 as NATS writes it. <kind>: the letter that it begins with, O, A or U.
local function new_key(kind)
   local path = scope.dir "key" .. "/pem"
   local function openssl(...)
      return (child.run { argv = { "openssl", ... }, stderr = "null" })
   end
   openssl("genpkey", "-algorithm", "ed25519", "-out", path)
   local prefix = kind:byte() - ("A"):byte() << 3
   local seed = openssl("pkey", "-in", path, "-outform", "DER"):sub(-32)
   local public = openssl("pkey", "-in", path, "-pubout", "-outform", "DER"):sub(-32)
   return {
      public = base32(string.char(prefix) .. public),
      seed = base32(string.char(18 << 3 | prefix >> 5, (prefix & 31) << 3) .. seed),
      sign = function(text)
         files.write(path .. ".text", text)
         return openssl("pkeyutl", "-sign", "-inkey", path, "-rawin", "-in", path .. ".text")
      end,
   }
end

-- A token by which <issuer> says this of a key.
local function token(issuer, subject, claims)
   local text = base64 '{"typ":"JWT","alg":"ed25519-nkey"}' .. "." .. base64(json.encode {
      jti = subject, iat = os.time(), iss = issuer.public, sub = subject, name = "n",
      nats = claims })
   return text .. "." .. base64(issuer.sign(text))
end

function TestNatsLogin.test_credentials()
   if not nats.is_there() then
      return
   end
   local dir = scope.dir "keys"
   local operator, account, user = new_key "O", new_key "A", new_key "U"
   local system = new_key "A"
   local limits = { subs = -1, data = -1, payload = -1, imports = -1, exports = -1, conn = -1,
                    leaf = -1, mem_storage = -1, disk_storage = -1, streams = -1, consumer = -1,
                    wildcards = true }
   files.write(dir .. "/operator.jwt", token(operator, operator.public,
      { type = "operator", version = 2 }))
   local server = nats.new(([[operator: "%s/operator.jwt"
      system_account: %s
      resolver: MEMORY
      resolver_preload: { %s: "%s", %s: "%s" }]]):format(dir, system.public,
      system.public, token(operator, system.public, { type = "account", version = 2 }),
      account.public, token(operator, account.public, { type = "account", version = 2,
      limits = limits })))
   local creds = ("-----BEGIN NATS USER JWT-----\n%s\n------END NATS USER JWT------\n\n"
      .. "-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n"):format(
      token(account, user.public, { type = "user", version = 2, subs = -1, data = -1,
      payload = -1 }), user.seed)
   files.write(dir .. "/me.creds", creds)
   local db = fixtures.names(3)
   local how = { dsn = db, script = script(server,
      ('create = {}, credentials = "%s/me.creds"'):format(dir)) }
   once.ok(how)
   once.ok { dsn = db, env = { CREDENTIALS_DIRECTORY = dir }, script = script(server,
      'credentials = "$CREDENTIALS_DIRECTORY/me.creds", name = "b"') }
   files.write(dir .. "/me.creds", (creds:gsub(user.seed, new_key "U".seed)))
   local result = once.ends(3, how)
   lu.assertStrContains(result.text, "Authorization Violation")
end

-- A server gave a nonce whose signature begins with a zero, as that of one of 256 does; libnats
-- before 3.8 sent none, and who had the right key was refused for ever. The key and the nonces:
-- found by trying.
function TestNatsLogin.test_a_signature_that_begins_with_a_zero()
   local python = receiver.python()
   if not nats.is_there() or not python then
      return
   end
   local proc = assert(native.spawn { stdout = "pipe", argv = { python,
      tree.top .. "/tests/support/nats_nonces.py", "nonce665", "nonce789", "nonce1" } })
   scope.add(function()
      proc:kill "KILL"
      proc:wait(wait.scaled(10))
   end)
   local said = ""
   local function await(pattern)
      while not said:find(pattern) do
         said = said .. assert(proc:read("stdout", wait.scaled(20)))
      end
      return said:match(pattern)
   end
   local creds = ("-----BEGIN NATS USER JWT-----\n%s\n\n-----BEGIN USER NKEY SEED-----\n%s\n")
      :format("a.b.c", "SUAAOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBZ5FE")
   local p = program.start { dsn = fixtures.names(1), script = nats.script(
      "nats://127.0.0.1:" .. await "^(%d+)\n", ("credentials = %q"):format(creds)) }
   await "signed\n"
   lu.assertNotStrContains(said, "unsigned")
   lu.assertEquals(p:stderr(), "")
   p:kill9()
end

-- ---- bad input ----

function TestNatsLogin.test_bad_input()
   if not nats.is_there() then
      return
   end
   local ok = 'servers = "nats://h", stream = "S", '
   remote_sinks.check_bad_options("nats", {
      [""] = "servers is required",
      ["servers = 7"] = "servers must be a string",
      ['servers = "http://x"'] = "servers: say nats://host:port",
      ['servers = "nats://me:pw@host"'] = "say the user and the password by user = ",
      ['servers = "nats://h:99999"'] = "there is no port 99999",
      ['servers = "nats://h"'] = "stream must be a string",
      ['servers = "nats://h", stream = "a.b"'] = "stream: 'a.b' is no name of a stream",
      [ok .. 'subject = "cdc.*"'] = "subject: 'cdc.*' has a * or > in it",
      [ok .. 'subject = "a b"'] = "subject: 'a b' has a space",
      [ok .. 'subject = "a..b"'] = "subject: 'a..b' has an empty word",
      [ok .. 'subject = "a.{nmae}"'] = "in braces: unknown 'nmae'; did you mean 'name'?",
      [ok .. 'positions = "a.>"'] = "positions: 'a.>' has a * or >",
      [ok .. 'headers = {["a b"] = "x"}'] = "headers: 'a b' is no name of a header",
      [ok .. 'headers = {a = "x\\ny"}'] = "the header 'a' must have no line break",
      [ok .. 'headers = "all"'] = "headers must be a boolean or a table",
      [ok .. "window = 0"] = "window must be a whole number, at least 1",
      [ok .. "window = 100000"] = "window must be at most 60000",
      [ok .. "create = {storage = 'tape'}"] = "create: storage: unknown 'tape'",
      [ok .. "create = {name = 'x'}"] = "create: unknown field 'name'",
      [ok .. "create = {max_age = 1}"] = "create: duplicates must be at most max_age",
      [ok .. "create = {}, subject = '{table}'"] = "create: subjects is required where",
      [ok .. 'user = "u"'] = "user needs a password",
      [ok .. 'credentials = "c", password = "p"'] = "credentials and password exclude each other",
      [ok .. 'format = "xml"'] = "format: unknown 'xml'",
      [ok .. "tpye = 1"] = "unknown field 'tpye'",
   })
end

test("credentials_that_are_none", function(server)
   local dir = scope.dir "credentials"
   files.write(dir .. "/me.creds", "nothing")
   local db = fixtures.names(3)
   for path, problem in pairs { [dir .. "/me.creds"] = "that is no file of credentials",
                                [dir .. "/none"] = "No such file or directory" } do
      local result = once.ends(3, { dsn = db, script = script(server,
         ("credentials = %q"):format(path)) })
      lu.assertStrContains(result.text, "nats: credentials: ")
      lu.assertStrContains(result.text, problem)
   end
end)

test("the_sandbox", function(server)
   local db = fixtures.names(3)
   remote_sinks.check_needs_network("nats", { dsn = db, script = script(server) })
   local options = { "--sandbox", "--allow-network" }
   once.ok { dsn = db, script = script(server), options = options }
   lu.assertEquals(#server:messages "CDC", 3)
   local result = once.ends(1, { dsn = db, options = options,
      script = script(server, 'credentials = "/etc/passwd"') })
   lu.assertStrContains(result.text, "credentials: the sandbox allows no files")
end)

return TestNatsLogin
