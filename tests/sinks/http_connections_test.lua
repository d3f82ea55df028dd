-- http_connections_test.lua: connections of pgcdc.sinks.http, proxies, and what a request is.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local lu = require "luaunit"
local nats = require "nats"
local once = require "once"
local program = require "program"
local receiver = require "receiver"
local remote_sinks = require "remote_sinks"
local wait = require "wait"

local TestHttpConnections = {}

local test = remote_sinks.tests(TestHttpConnections, receiver.is_there, receiver.new)

-- A script that sends table t to an address.
local function script(url, options)
   return ([[pgcdc.source {table = "t", interval = 0.02}:sink(pgcdc.sinks.http {url = %q, %s})]])
      :format(url, options or "")
end

-- A connection that the server has closed since the last answer is no failure: there is a new one.
test("a_connection_that_was_closed_meanwhile", function(server)
   local db = fixtures.names(2)
   local p = program.start { dsn = db, script = script(server:url()) }
   wait.until_(function() return #server:changes() == 2 end, 20, "two changes")
   server:kill()
   server:start()
   db:exec "insert into t select i, 'n' from generate_series(3, 30) i"
   wait.until_(function() return #server:changes() == 30 end, 20, "the others")
   lu.assertEquals(p:stop().status, 0)
   lu.assertNotStrContains(p:stderr(), "level=warn")
   lu.assertEquals(#server:requests(), 30)
end)

-- The server closes each connection after its answer, and says so.
test("connections_for_one_request", function(server)
   server:rules { { headers = { Connection = "close" }, body = "taken" } }
   local db = fixtures.names(40)
   local result = once.ok { dsn = db, script = script(server:url()) }
   lu.assertEquals({ #server:requests(), #server:changes() }, { 40, 40 })
   lu.assertNotStrContains(result.stderr, "level=warn")
end)

-- What is no HTTP ends the program. (A server of NATS greets who connects.)
test("another_protocol", function()
   if nats.is_there() then
      local result = once.ends(3, { dsn = fixtures.names(1),
         script = script(("http://127.0.0.1:%d/"):format(nats.new().port)) })
      lu.assertStrContains(result.text, "HTTP/0.9")
   end
end)

-- A proxy, by the option or the environment, gets the requests, with whole addresses.
test("a_proxy", function(server)
   local db, url = fixtures.names(2), "http://nowhere.invalid:81/in?x=1"
   once.ok { dsn = db, script = script(url, ("proxy = %q"):format(server:url ""), "") }
   once.ok { dsn = db, script = script(url), env = { http_proxy = server:url "" } }
   local requests = server:requests()
   lu.assertEquals(#requests, 4)
   for _, request in ipairs(requests) do
      lu.assertEquals({ request.path, request.headers.host }, { url, "nowhere.invalid:81" })
   end
   once.ok { dsn = db, script = script(server:url(), "proxy = false"),
             env = { http_proxy = "http://nowhere.invalid" } }
   lu.assertEquals(#server:requests(), 6)
end)

-- What a request is, whether they go many at a time, one by one (those that are signed) or each to
-- an address of its own.
test("the_same_request_by_all", function(server)
   local db, seen = fixtures.names(3), {}
   local options = [[in_flight = 1, headers = {["X-A"] = "b", Accept = "text/x"}]]
   once.ok { dsn = db, script = script(server:url "/a/../in?q=1#f", options) }
   once.ok { dsn = db, script = script(server:url "/a/../in?q=1#f", options
      .. ', user = "u", password = "p", sign = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"') }
   once.ok { dsn = db, script = script(server:url "/{table}?q={key}", options .. ", gzip = true") }
   local requests = server:requests()
   for i, request in ipairs(requests) do
      local headers = request.headers
      seen[i] = { headers.authorization ~= nil, headers["content-encoding"], request.path }
      lu.assertStrContains(request.body, ('"id":%d'):format((i - 1) % 3 + 1))
      lu.assertStrMatches(headers["idempotency-key"], "public%.t/%d+/" .. (i - 1) % 3 + 1)
      for _, name in ipairs { "authorization", "content-encoding", "content-length",
                              "idempotency-key", "webhook-id", "webhook-signature",
                              "webhook-timestamp" } do
         headers[name] = nil
      end
      lu.assertEquals(headers, requests[1].headers)
   end
   local many, own = { false, nil, "/in?q=1" }, { true, nil, "/in?q=1" }
   lu.assertEquals(seen, { many, many, many, own, own, own, { false, "gzip", "/t?q=1" },
      { false, "gzip", "/t?q=2" }, { false, "gzip", "/t?q=3" } })
end)

return TestHttpConnections
