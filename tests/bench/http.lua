-- http.lua: a part of bench.lua: how fast changes get to a web server, nginx on this machine.
-- SPDX-License-Identifier: MIT
--
-- nginx takes the bodies and answers 204. It counts the requests, so that none is missing.

local child = require "child"
local files = require "files"
local native = require "native"
local scope = require "scope"
local wait = require "wait"

local CONFIG = [[daemon off; worker_processes 1; pid %s/pid; error_log %s/errors;
events { worker_connections 64; }
http {
   access_log off; keepalive_requests 1000000000; client_max_body_size 64m;
   client_body_buffer_size 4m; client_body_temp_path %s/bodies;
   server {
      listen 127.0.0.1:%d;
      location / { return 204; }
      location = /count { stub_status; }
   }
}
]]

local nginx = "/usr/sbin/nginx"

-- Starts it; returns its address.
local function start()
   local dir, port = scope.dir "nginx", assert(native.free_port())
   files.write(dir .. "/conf", CONFIG:format(dir, dir, dir, port))
   local proc = assert(native.spawn { argv = { nginx, "-c", dir .. "/conf", "-e",
      dir .. "/errors" }, stdout = "null", stderr = dir .. "/out" })
   scope.add(function()
      proc:kill "TERM"
      proc:wait(10)
   end)
   local url = ("http://127.0.0.1:%d/"):format(port)
   wait.until_(function()
      return child.run { argv = { "curl", "-s", url .. "count" }, stderr = "null" }:find "server"
   end, 20, "nginx")
   return url
end

-- What bench.lua gives: `run` (of the program), `rows` of the table t, `line`, `say`.
return function(b)
   if not native.realpath(nginx) then
      return b.say "http: there is no nginx here"
   end
   local url = start()

   local function requests()
      local said = child.run { argv = { "curl", "-s", url .. "count" }, stderr = "null" }
      return math.tointeger(tonumber(said:match "requests\n%s*%d+ %d+ (%d+)")) - 1
   end

   -- Changes per second, of so many rows.
   local function measure(what, count, options, floor)
      local before = requests()
      local result = b.run { state = scope.dir "http" .. "/state.db", script = ([[
         local sink = pgcdc.sinks.http {url = %q, %s}
         pgcdc.source {table = "t", where = "id <= %d"}:sink(sink)]]):format(url, options, count) }
      local sent = requests() - before - 1
      assert(sent >= count / 500, ("%d requests"):format(sent))
      assert(sent >= count or not options:find "one", "requests are missing")
      local speed = count / result.seconds
      b.line("http, " .. what, ("%.0f changes/s"):format(speed), floor and (">= %d"):format(floor)
         or "", not floor or speed >= floor)
   end

   measure("500 in a request", b.rows, 'body = "ndjson"', 20000)
   measure("500 in a request, compressed", b.rows, 'body = "ndjson", gzip = true')
   measure("one in a request", math.min(b.rows, 100000), 'body = "one"', 5000)
   measure("one in a request, signed", math.min(b.rows, 100000),
      'body = "one", sign = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"')
end
