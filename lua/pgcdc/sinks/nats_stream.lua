-- pgcdc.sinks.nats_stream: whether the stream of a sink can keep what it publishes.
-- SPDX-License-Identifier: MIT

local mend = require "pgcdc.mend"
local jetstream = require "pgcdc.sinks.jetstream"
local subject = require "pgcdc.sinks.subject"

local nats_stream = {
   DUPLICATES = 120, -- seconds that the server knows an id, at least
}

local SMALL = 1 << 20 -- bytes: a server that takes no message of so many refuses some rows

--- True if the stream keeps what is published to this subject. `info`: what the server says of it.
function nats_stream.takes(info, text)
   for _, subscription in ipairs(info.config.subjects or {}) do
      if subject.matches(subscription, text) then
         return true
      end
   end
   return false
end

-- Raises unless the stream keeps what it is given, and positions.
local function check_stream(sink, info)
   local config = info.config
   local function stop(text, ...)
      sink:stop(("the stream '%s' "):format(sink.stream) .. text:format(...))
   end
   if config.mirror then
      stop "is a mirror, which nothing can be published to: name the stream that it mirrors"
   elseif config.retention ~= "limits" then
      stop("has the retention '%s', by which messages, and our position, are gone once they were "
         .. "read: use one with the retention 'limits'", config.retention)
   elseif config.no_ack then
      stop "has no_ack: it does not say what it has stored"
   elseif config.sealed then
      stop "is sealed: nothing can be published to it"
   elseif not nats_stream.takes(info, sink.positions) then
      stop("has the subjects %s, and not %s, where the position is kept: add it, or say "
         .. "positions = with another one", table.concat(config.subjects or {}, ", "),
         sink.positions)
   end
end

-- What may come twice, as text; or nil.
local function problem_of_window(sink, info)
   local seconds = (info.config.duplicate_window or 0) / 1e9
   return seconds < nats_stream.DUPLICATES and ("the stream '%s' knows an id for %g s only "
      .. "(duplicate_window): what a program that was killed has on its way may come twice; say "
      .. "%d s or more"):format(sink.stream, seconds, nats_stream.DUPLICATES) or nil
end

local function no_stream(sink)
   return ("there is no stream '%s' at %s: make it, or say create = {}"):format(sink.stream,
      sink.client:address())
end

--- What is known of the stream, which is made if it is not there and the script says so.
function nats_stream.find(sink)
   local info = jetstream.stream(sink)
   if not info and sink.create then
      jetstream.create(sink, sink.create())
      info = jetstream.stream(sink)
   end
   if not info then
      sink:stop(no_stream(sink))
   end
   check_stream(sink, info)
   local problem = problem_of_window(sink, info)
   if problem and not sink.has_warned then
      sink.has_warned = true
      sink:log("warn", problem)
   end
   return info
end

-- For --check: what would run badly. `info`: of the stream, or nil.
local function warn(sink, info)
   local most = sink.client:max_payload()
   if most < SMALL then
      sink:warn(("the server takes messages of %d bytes at most: it refuses rows that are longer")
         :format(most), { mend.nats("max_payload: 8MB", "reload") })
   end
   local longest = info and info.config.max_msg_size or -1
   if longest > 0 and longest < SMALL then
      sink:warn(("the stream '%s' takes messages of %d bytes at most (max_msg_size): it refuses "
         .. "rows that are longer"):format(sink.stream, longest))
   end
   local problem = info and problem_of_window(sink, info)
   if problem then
      sink:warn(problem)
   end
end

--- For --check: a line about the stream; raises why it cannot be used.
function nats_stream.check(sink)
   local info = jetstream.stream(sink)
   if not info and not sink.create then
      sink:stop(no_stream(sink))
   end
   warn(sink, info)
   if not info then
      return ("nats at %s; the stream '%s' will be made"):format(sink.client:address(),
         sink.stream)
   end
   check_stream(sink, info)
   return ("nats at %s, stream '%s' with %d messages"):format(sink.client:address(), sink.stream,
      info.state.messages)
end

--- What mends an error of --check, a text: a list, see pgcdc.mend, or nil.
function nats_stream.mends(sink, text)
   if text:find "there is no stream" then
      return { mend.option("create", "yes") }
   elseif text:find "no JetStream answers" then
      return { mend.nats('jetstream { store_dir: "/var/lib/nats" }', "restart") }
   elseif text:find "Authorization Violation" and not sink:secret "user"
      and not sink:secret "password" and not sink.credentials then
      return { mend.option("user", "$NATS_USER"), mend.option("password", "$NATS_PASSWORD") }
   end
end

return nats_stream
