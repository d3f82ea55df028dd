-- http.lua: a part of bench.lua: how fast changes get to a web server, nginx on this machine.
-- SPDX-License-Identifier: MIT
--
-- nginx takes the bodies and answers 204. It counts the requests, so that none is missing. wrk
-- sends it one body of the same size again and again.

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

-- Seconds that wrk takes for so many requests of so many bytes.
local function wrk(url, count, bytes)
   local script = scope.dir "wrk" .. "/post.lua"
   files.write(script, ([[wrk.method = "POST"
      wrk.headers["Content-Type"] = "application/json"
      wrk.headers["Idempotency-Key"] = "public.t/1234/123456"
      wrk.body = ("x"):rep(%d)]]):format(bytes))
   local said = child.run({ argv = { "wrk", "-t1", "-c16", "-d2s", "-s", script, url } }, 30)
   return count / assert(tonumber(said:match "Requests/sec:%s*([%d.]+)"), said)
end

-- What bench.lua gives: `run` (of the program), `rows` of the table t, `in_turns`, `line`, `say`,
-- `ratio`, `memory`, `into_file`.
return function(b)
   if not native.realpath(nginx) then
      return b.say "http: not measured: apt install nginx-light"
   end
   local url, has_wrk = start(), native.realpath "/usr/bin/wrk" ~= nil

   local function requests()
      local said = child.run { argv = { "curl", "-s", url .. "count" }, stderr = "null" }
      return math.tointeger(tonumber(said:match "requests\n%s*%d+ %d+ (%d+)")) - 1
   end

   local peak = 0

   -- Seconds for so many rows.
   local function seconds(count, options)
      local before = requests()
      local result = b.run { state = scope.dir "http" .. "/state.db", script = ([[
         local sink = pgcdc.sinks.http {url = %q, %s}
         pgcdc.source {table = "t", where = "id <= %d"}:sink(sink)]]):format(url, options, count) }
      local sent = requests() - before - 1
      assert(sent >= count / 500, ("%d requests"):format(sent))
      assert(sent >= count or not options:find "one", "requests are missing")
      peak = math.max(peak, result.maxrss_kb)
      return result.seconds
   end

   local few = math.min(b.rows, 100000)
   local function ours(count, options)
      return function() return seconds(count, options) end
   end
   local m = b.in_turns {
      ours(b.rows, 'body = "ndjson"'),
      ours(b.rows, 'body = "ndjson", gzip = true'),
      ours(few, 'body = "one"'),
      ours(few, 'body = "one", sign = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"'),
      ours(few, 'body = "one", in_flight = 16'),
      function() return has_wrk and wrk(url, few, 230) or 1 end,
      function() return b.into_file(b.rows) end,
   }
   local function speed(what, count, took, floor)
      if not floor then
         return b.say("%-50s %.0f changes/s", "http, " .. what, count / took)
      end
      b.line("http, " .. what, ("%.0f changes/s"):format(count / took), (">= %d"):format(floor),
         count / took >= floor)
   end
   speed("500 in a request", b.rows, m[1], 20000)
   speed("500 in a request, compressed", b.rows, m[2])
   speed("one in a request", few, m[3], 5000)
   speed("one in a request, signed", few, m[4])
   b.ratio("http, 500 in a request, compressed, to not", m[1] / m[2], 0.4)
   if has_wrk then
      b.ratio("http, one in a request, 16 in flight, to wrk -c16", m[6] / m[5], 0.6)
   else
      b.say "http, to wrk: not measured: apt install wrk"
   end
   b.ratio("the whole program to http, to a file", m[7] / m[1], 0.5)
   b.memory("http", peak)
end
