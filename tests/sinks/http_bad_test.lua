-- http_bad_test.lua: what pgcdc.sinks.http is given, and cannot be: certificates, secrets, answers,
-- texts.
-- SPDX-License-Identifier: MIT

local certificates = require "certificates"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local receiver = require "receiver"
local remote_sinks = require "remote_sinks"
local scope = require "scope"

local TestHttpBad = {}

local test = remote_sinks.tests(TestHttpBad, receiver.is_there, receiver.new)

local function script(url, options, source)
   return ([[pgcdc.source {table = "t", interval = 0.02, %s}:sink(pgcdc.sinks.http {
      url = %q, %s})]]):format(source or "", url, options or "")
end

function TestHttpBad.test_a_certificate_that_has_expired()
   if not receiver.is_there() then
      return
   end
   local made = certificates.localhost(-1)
   local server, db = receiver.new { dir = made.dir }, fixtures.names(1)
   local result = once.ends(3, { dsn = db, script = script(server:url(), ("tls = {ca = %q}"):format(
      made.ca)) })
   lu.assertStrContains(result.text, "http: POST " .. server:url())
   lu.assertStrContains(result.text, "expired")
   lu.assertEquals(#server:requests(), 0)
end

-- A batch is sent in halves where it is too large; what a server cannot do at all ends the program.
test("what_a_server_does_not_take", function(server)
   server:rules { { match = "\n{", status = 413 }, { match = '"id":3,', status = 413 },
                  { match = '"id":5,', times = 1, status = 501, body = ("no "):rep(100000) } }
   local how = { dsn = fixtures.names(5), state = fixtures.state(),
                 script = script(server:url(), 'body = "ndjson", gzip = false, in_flight = 1',
      'on_error = "skip"') }
   local result = once.ends(1, how)
   lu.assertStrContains(result.text, "501: no no no")
   lu.assertTrue(#result.text < 2000, #result.text)
   result = once.run(how)
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(select(2, result.stderr:gsub("then=skipped", "")), 1)
   lu.assertStrContains(result.stderr, ": 413\" failed=1")
   local there = {}
   for _, change in ipairs(server:changes()) do
      there[change.row.id] = true
   end
   lu.assertEquals(there, { true, true, nil, true, true })
end)

-- What is there to be sent stays here, and is not shown, wherever a redirect leads.
test("a_redirect_to_another_server", function(server)
   local other = receiver.new()
   server:rules { { status = 307, headers = { Location = other:url "/?token=s3cret" } } }
   local result = once.ends(1, { dsn = fixtures.names(3), script = script(server:url(),
      'headers = {Authorization = "Bearer s3cret"}') })
   lu.assertStrContains(result.text, "307; redirects are not followed: say url = " .. other:url "/")
   lu.assertNotStrContains(result.text, "s3cret")
   lu.assertEquals(#other:requests(), 0)
end)

-- Whoever knows the path may send there, so it stands in the environment: it is not shown, whatever
-- a server says of it.
test("a_path_that_is_a_secret", function(server)
   local db, path = fixtures.names(1), "/services/T0s3cr3t/B0s3cr3t?token=pa55word"
   local run = { dsn = db, env = { HOOK_URL = server:url(path) }, script = script "$HOOK_URL",
                 options = { "--log-level", "debug" } }
   for status, answer in pairs {
      [302] = { headers = { Location = "https://elsewhere.example" .. path } },
      [404] = { body = "Cannot POST " .. path .. ("."):rep(300) },
      [403] = { body = ("."):rep(180) .. "no such token: pa55word" },
      [400] = { body = "T0s3cr3t knows no B0s3cr3t" },
   } do
      answer.status = status
      server:rules { answer }
      local result = once.run(run)
      lu.assertStrContains(result.stderr, "POST $HOOK_URL: " .. status)
      lu.assertNotStrContains(result.stderr, "s3cr3t")
      lu.assertNotStrContains(result.stderr, "pa55")
   end
   server:rules {}
   once.ok(run)
   lu.assertEquals(#server:changes(path), 1)
end)

-- What a server repeats of a request shows no login, nor what it is signed with.
test("requests_that_are_repeated", function(server)
   local db = fixtures.names(1)
   local function run(options, secret)
      local result = once.ends(1, { dsn = db, script = script(server:url(), options), env = {
         PW = "pa55word", SIGN = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" } })
      lu.assertStrContains(result.text, ": 400: you sent ***")
      lu.assertNotStrContains(result.text, secret)
   end
   server:rules { { status = 400, body = "you sent bWU6cGE1NXdvcmQ=" } }
   run('user = "me", password = "$PW"', "bWU6")
   server:rules { { status = 400, body = "you sent MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" } }
   run('sign = "$SIGN"', "MfKQ9r8")
end)

test("credential_files", function(server)
   local dir, db = scope.dir "credentials", fixtures.names(1)
   local function run(name, status)
      return once.ends(status, { dsn = db, env = { CREDENTIALS_DIRECTORY = dir },
         script = script(server:url(), ('user = "me", password = "$CREDENTIALS_DIRECTORY/%s"')
            :format(name)) })
   end
   lu.assertStrContains(run("none", 1).text, "pgcdc.sinks.http: password: the credential file "
      .. "$CREDENTIALS_DIRECTORY/none cannot be read: ")
   files.write(dir .. "/two", "s3cret\r\nmore\n")
   files.write(dir .. "/one", "s3cret\r\n")
   server:rules { { login = "Basic bWU6czNjcmV0", status = 401 } }
   lu.assertNotStrContains(run("two", 3).text, "s3cret")
   once.ok { dsn = db, env = { CREDENTIALS_DIRECTORY = dir }, script = script(server:url(),
      'user = "me", password = "$CREDENTIALS_DIRECTORY/one"') }
   lu.assertEquals(#server:changes(), 1)
end)

test("two_sinks_of_one_name", function(server)
   local result = once.ends(1, { dsn = fixtures.names(1), script = ([[
      local source = pgcdc.source {table = "t"}
      source:sink(pgcdc.sinks.http {url = %q})
      source:sink(pgcdc.sinks.http {url = %q})]]):format(server:url(), server:url()) })
   lu.assertStrContains(result.text, "two sinks are named 'http': give one of them another name")
end)

-- A body may be any bytes. One that is refused is in its dead letter, with the id of its change; of
-- bytes that are no text JSON has question marks.
test("bodies_that_are_no_json", function(server)
   server:rules { { status = 400, body = "\x01\u{e9} what?" } }
   local result = once.run { dsn = fixtures.names(2), script = ([[
      local source = pgcdc.source {table = "t", on_error = {otherwise = "dead_letter"},
         dead_letter = pgcdc.sinks.jsonl {}}
      source:sink(pgcdc.sinks.http {url = %q, format = function(change)
         return change.row.id == 1 and "no json" or "\xff\xfe"
      end})]]):format(server:url()) }
   lu.assertEquals(result.status, 0, result.stderr)
   local letters = {}
   for i, line in ipairs(result.lines) do
      letters[i] = json.decode(line)
      lu.assertStrContains(letters[i].error, "400: ??? what?")
      lu.assertStrMatches(letters[i].change.id, "public%.t/.*")
   end
   lu.assertEquals(#letters, 2)
   table.sort(letters, function(a, b) return a.change.body < b.change.body end)
   lu.assertEquals({ letters[1].change.body, letters[2].change.body }, { "??", "no json" })
end)

return TestHttpBad
