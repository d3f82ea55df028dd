-- nats_login_test.lua: pgcdc.sinks.nats: logins, TLS, wrong options, the sandbox.
-- SPDX-License-Identifier: MIT

local certificates = require "certificates"
local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local nats = require "nats"
local once = require "once"
local program = require "program"
local scope = require "scope"

local TestNatsLogin = {}

local test, script, ids = nats.tests(TestNatsLogin), nats.script, nats.ids

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
   local dir = scope.dir "certificates"
   local ca, ca_key = certificates.authority(dir, "ca")
   local other = certificates.authority(dir, "other")
   certificates.give({ data = dir }, scope.dir "server", ca, ca_key)
   local server = nats.new(([[tls { cert_file: "%s/server.crt", key_file: "%s/server.key" }]])
      :format(dir, dir))
   local db = fixtures.names(3)
   local function how(scheme, host, authority)
      return { dsn = db, script = script(("%s://%s:%d"):format(scheme, host, server.port),
         "create = {}" .. (authority and (", tls = {ca = %q}"):format(authority) or "")) }
   end
   once.ok(how("tls", "localhost", ca))
   once.ok(how("nats", "localhost", ca))
   once.ok(how("tls", "localhost"), { env = { SSL_CERT_FILE = ca } })
   for _, case in ipairs { { "127.0.0.1", ca, "IP address mismatch" },
                           { "localhost", other, "unable to get local issuer certificate" },
                           { "localhost", false, "unable to get local issuer certificate" } } do
      local p = program.start(how("tls", case[1], case[2]))
      p:wait_stderr("cannot connect: SSL handshake error: .*" .. case[3])
      p:kill9()
   end
end

-- ---- bad input ----

function TestNatsLogin.test_bad_input()
   if not nats.is_there() then
      return
   end
   local ok = 'servers = "nats://h", stream = "S", '
   local wrong = {
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
   }
   local list = {}
   for options in pairs(wrong) do
      list[#list + 1] = ("[%q] = {%s},"):format(options, options)
   end
   local result = program.run { state = false, script = [[
      for options, spec in pairs {]] .. table.concat(list, "\n") .. [[} do
         local ok, why = pcall(pgcdc.sinks.nats, spec)
         print(pgcdc.json.encode {options = options, ok = ok, why = ok or why})
      end]] }
   lu.assertEquals(result.status, 0, result.stderr)
   local count = 0
   for _, it in ipairs(result.changes) do
      count = count + 1
      lu.assertFalse(it.ok, it.options)
      lu.assertStrContains(it.why, wrong[it.options])
      lu.assertStrContains(it.why, "pgcdc.sinks.nats: ")
      lu.assertNotStrContains(it.why, "pw@")
   end
   lu.assertEquals(count, #list)
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
   local result = once.ends(1, { dsn = db, script = script(server), options = { "--sandbox" } })
   lu.assertStrContains(result.text,
      "the sink 'nats' needs the network, which the sandbox has only with --allow-network")
   local options = { "--sandbox", "--allow-network" }
   once.ok { dsn = db, script = script(server), options = options }
   lu.assertEquals(#server:messages "CDC", 3)
   result = once.ends(1, { dsn = db, options = options,
      script = script(server, 'credentials = "/etc/passwd"') })
   lu.assertStrContains(result.text, "credentials: the sandbox allows no files")
end)

return TestNatsLogin
