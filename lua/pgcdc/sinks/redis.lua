-- pgcdc.sinks.redis: changes into Redis: streams, JSON or hashes by key, or published.
-- SPDX-License-Identifier: MIT
--
-- A flush is one MULTI, with the savepoint in the key pgcdc:{NAME}. At the start the key
-- pgcdc:{NAME}:epoch is counted up; where the state is in a database its upper bits are the number
-- of our lease there, so that nobody who had the pipeline before can count it up any more. Both are
-- watched, from before they are read until EXEC. So an EXEC does nothing if another program has
-- counted since, or if an earlier EXEC of ours, whose answer was lost, came late. Redis does not
-- undo what a transaction did before one of its commands failed. So it is found out before whether
-- a command would fail (a stream is watched, and asked for its type).

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local native = require "pgcdc.native.redis"
local overtaken = require "pgcdc.sinks.overtaken"
local pattern = require "pgcdc.sinks.pattern"
local read_host = require "pgcdc.sinks.address"
local remote = require "pgcdc.sinks.remote"
local whole = require "pgcdc.sinks.whole"

local PORT = "6379"
local HIGH, LOW = 1 << 20, 1 << 18 -- bytes that wait to be sent
local STEP = 0.1 -- seconds
local LEASE = 32 -- where the bits of the lease begin in an epoch
local PATIENT = 3 -- times that EXEC may do nothing before streams are not watched any more

local modes = { stream = true, json = true, hash = true, publish = true }

-- Errors that pass by themselves.
local passing = { OOM = true, READONLY = true, LOADING = true, BUSY = true, MISCONF = true,
                  CLUSTERDOWN = true, TRYAGAIN = true, NOREPLICAS = true, MASTERDOWN = true,
                  MOVED = true, ASK = true }
-- Errors that ask for another login.
local denied = { NOAUTH = true, WRONGPASS = true, NOPERM = true }

-- ---- addresses ----

-- Reads `connect`. Returns a list of {host =, port =} or {path =}, the number of the database and
-- whether TLS is spoken.
local function read_address(what, text)
   local path = text:match "^unix:/*(/.*)$"
   if path and raw.is_sandboxed then -- what connects there tells which files there are
      check.fail("%s: the sandbox allows no sockets by their path", what)
   elseif path then
      return { { path = path } }, 0, false
   end
   local scheme, rest = text:match "^(rediss?)://(.*)$"
   if not scheme then
      check.fail("%s: say redis://host:port, rediss://host:port (with TLS) or unix:/path", what)
   elseif rest:find("@", 1, true) then
      check.fail("%s: say the user and the password by user = and password = , such as "
         .. 'password = "$REDIS_PASSWORD"', what)
   end
   local list, database = rest:match "^([^/]*)/?(%d*)$"
   if not list or list == "" then
      check.fail("%s: after %s:// come hosts, with commas between, and perhaps /DATABASE", what,
         scheme)
   end
   local hosts = {}
   for host in list:gmatch "[^,]+" do
      hosts[#hosts + 1] = read_host(what, host, PORT)
   end
   return hosts, math.tointeger(tonumber(database)) or 0, scheme == "rediss"
end

-- ---- the connection ----

-- What the server said, as an error of the sink. `what`: to which command.
local function raise(sink, what, text)
   local word = text:match "^%u+"
   local message = ("%s: %s"):format(what, text)
   if word == "MOVED" or word == "ASK" then
      local host, port = text:match "([^%s:]+):(%d+)%s*$"
      if host then -- the key's node; it is asked first from now on
         table.insert(sink.hosts, 1, { host = host, port = port })
         sink.turn = 1
         sink:broken(message)
      end
   end
   if denied[word] then
      sink:deny(message)
   elseif passing[word] then
      sink:retry(message)
   elseif word == "CROSSSLOT" then
      sink:stop(message .. ": in a cluster all keys need the hash tag: say {name} in `key`")
   end
   sink:stop(message)
end

-- Sends and receives, as far as that is possible now. `clock`: that of the wait.
local function pump(sink, clock)
   local moved, problem = sink.client:step(STEP)
   if moved == nil then
      sink:broken(problem)
   end
   clock:check(moved)
end

local function call_of(sink, method, ...)
   local ok, a, b, c, d, e = pcall(method, sink.client, ...)
   if not ok then
      sink:broken(a)
   end
   return a, b, c, d, e
end

-- The next reply: its kind and value.
local function reply(sink, what)
   local clock = sink:clock(what)
   while true do
      local kind, value = call_of(sink, sink.client.reply)
      if kind then
         return kind, value
      end
      pump(sink, clock)
   end
end

-- Sends one command. Returns its reply: kind and value; an error is raised unless `may_fail`.
local function ask(sink, may_fail, ...)
   sink.client:call(...)
   local what = (...)
   local kind, value = reply(sink, what)
   if kind == "error" and not may_fail then
      raise(sink, what, value)
   end
   return kind, value
end

local function connect(sink, host)
   local tls
   if sink.has_tls then
      tls = sink:tls_files()
      tls.name = host.host
   end
   local client, problem = native.open { host = host.host, port = host.port, path = host.path,
                                         tls = tls }
   if not client then
      return problem
   end
   sink.client = client
   local clock = sink:clock "connect"
   while not client:is_connected() do
      local moved, why = client:step(STEP)
      if moved == nil then
         return why
      end
      clock:check(moved)
   end
end

local function address_of(host)
   return host.path and "unix:" .. host.path or host.host .. ":" .. host.port
end

local function login(sink)
   local user, password = sink:secret "user", sink:secret "password"
   if password and user then
      ask(sink, false, "AUTH", user, password)
   elseif password then
      ask(sink, false, "AUTH", password)
   end
   if sink.database > 0 then
      ask(sink, false, "SELECT", sink.database)
   end
end

-- In a cluster all keys must be in one place, which the tag sees to.
local function check_cluster(sink)
   local kind, text = ask(sink, true, "INFO", "cluster")
   sink.is_cluster = kind == "text" and text:find "cluster_enabled:1" ~= nil
   if sink.is_cluster and sink.key_text and not pattern.has(sink.key_text, "name") then
      sink:stop(("key = '%s': the server is a cluster, where all keys need the hash tag: say "
         .. "{name} in it"):format(sink.key_text))
   end
end

local function open(sink)
   local problems = {}
   for _ = 1, #sink.hosts do
      local host = sink.hosts[sink.turn]
      local problem = connect(sink, host)
      if not problem then
         login(sink)
         check_cluster(sink)
         sink.turn_of_connection = sink.turn
         return
      end
      problems[#problems + 1] = address_of(host) .. ": " .. problem
      sink.turn = sink.turn % #sink.hosts + 1
   end
   sink:retry(table.concat(problems, "; "))
end

local function close(sink)
   remote.close_client(sink)
   if sink.failures > 0 then -- perhaps another one can be written to
      sink.turn = sink.turn % #sink.hosts + 1
   end
end

-- ---- --check ----

-- A parameter of the server, or nil where we may not ask.
local function parameter(sink, name)
   local kind, list = ask(sink, true, "CONFIG", "GET", name)
   return kind == "list" and list[2] and list[2][2] or nil
end

-- Warns of settings with which a server that dies may lose changes, deletes among them.
local function warn_of_loss(sink)
   if parameter(sink, "appendonly") == "no" then
      sink:log("warn", "the server has appendonly no: it may lose what it has, and deletes that "
         .. "were told are not told again")
   elseif parameter(sink, "appendfsync") ~= nil
      and parameter(sink, "appendfsync") ~= "always" then
      sink:log("warn", "the server has appendfsync " .. parameter(sink, "appendfsync") .. ": a "
         .. "crash of its machine may lose the last second, and deletes are not told again")
   end
   local policy = parameter(sink, "maxmemory-policy")
   if policy and policy:find "^allkeys" then
      sink:log("warn", ("the server has maxmemory-policy %s: it may drop keys, our position too")
         :format(policy))
   end
end

local function check_server(sink)
   local kind, text = ask(sink, true, "INFO", "server")
   warn_of_loss(sink)
   return ("redis %s at %s, mode %s"):format(kind == "text" and text:match "redis_version:(%S+)"
      or "?", address_of(sink.hosts[sink.turn]), sink.mode)
end

-- ---- the savepoint ----

-- Raises unless the epoch is ours.
local function check_epoch(sink, kind, text)
   if kind == "text" and text == sink.epoch then
      return
   elseif kind == "error" then
      raise(sink, "GET", text)
   elseif kind == "text" and math.tointeger(text)
      and math.tointeger(text) > math.tointeger(sink.epoch) then
      overtaken(sink)
   end
   sink:stop("the target went back, or was emptied: a new start goes on from what is there")
end

-- Waits until enough replicas have what was written by this connection.
local function await_replicas(sink)
   local clock = sink:clock "WAIT"
   local began = raw.now()
   while sink.replicas > 0 do
      local _, count = ask(sink, false, "WAIT", sink.replicas, 100)
      if count >= sink.replicas then
         return
      elseif raw.now() - began > sink.timeout then
         sink:retry(("%d of %d replicas have it"):format(count, sink.replicas))
      end
      clock:check(true)
   end
end

-- Counts the epoch up to one of our own.
local function take_epoch(sink)
   local lease = raw.epoch()
   if not lease then
      local _, epoch = ask(sink, false, "INCR", sink.epoch_key)
      sink.epoch = tostring(epoch)
      return
   end
   ask(sink, false, "WATCH", sink.epoch_key)
   local kind, text = ask(sink, false, "GET", sink.epoch_key)
   local epoch = kind == "text" and math.tointeger(tonumber(text)) or 0
   if epoch >> LEASE > lease then
      overtaken(sink)
   end
   local mine = tostring(math.max(epoch, lease << LEASE) + 1)
   ask(sink, false, "MULTI")
   ask(sink, false, "SET", sink.epoch_key, mine)
   if ask(sink, false, "EXEC") ~= "list" then
      sink:again "the epoch: others count it up"
   end
   sink.epoch = mine
end

local function recall(sink)
   if not sink.epoch then
      take_epoch(sink)
   elseif sink.replicas > 0 then
      ask(sink, false, "INCRBY", sink.epoch_key, 0) -- what WAIT waits for, with all before it
      await_replicas(sink)
   end
   ask(sink, false, "WATCH", sink.epoch_key, sink.savepoint_key)
   check_epoch(sink, ask(sink, true, "GET", sink.epoch_key))
   local kind, text = ask(sink, false, "GET", sink.savepoint_key)
   return kind == "text" and text or nil
end

-- ---- flush ----

-- Watches the streams, so that EXEC does nothing if one of them became something else.
local function watch_streams(sink)
   local keys = {}
   for key in pairs(sink.streams) do
      if sink.nulls < PATIENT then
         sink.client:call("WATCH", key)
      end
      sink.client:call("TYPE", key)
      keys[#keys + 1] = key
   end
   for _, key in ipairs(keys) do
      if sink.nulls < PATIENT then
         local kind, text = reply(sink, "WATCH")
         if kind == "error" then
            raise(sink, "WATCH", text)
         end
      end
      local kind, is = reply(sink, "TYPE")
      if kind == "error" then
         raise(sink, "TYPE", is)
      elseif is ~= "stream" and is ~= "none" then
         sink:stop(("the key '%s' is a %s, and no stream: rename it, or say another `key`"):format(
            key, is))
      end
   end
end

-- Waits until no more than `most` bytes are to be sent; passes over replies meanwhile.
-- `state.left`: how many replies are to come.
local function drain(sink, state, most)
   while sink.client:pending() > most do
      pump(sink, state.clock)
      state.left = state.left - call_of(sink, sink.client.skip, state.left)
   end
end

local function skip(sink, state)
   while state.left > 0 do
      local n = call_of(sink, sink.client.skip, state.left)
      state.left = state.left - n
      if state.left > 0 then
         pump(sink, state.clock)
      end
   end
end

-- Some commands of the transaction failed, others did not. Gives the old savepoint back, so that
-- nothing is lost.
local function raise_in_exec(sink, text, at)
   if sink.stored then
      ask(sink, true, "SET", sink.savepoint_key, sink.stored)
   else
      ask(sink, true, "DEL", sink.savepoint_key)
   end
   sink:stop(("command %d of a transaction failed, and Redis does not undo the others, so the last "
      .. "batch comes again: %s"):format(at, text))
end

-- EXEC did nothing since what is watched has changed.
local function raise_null(sink)
   ask(sink, true, "UNWATCH")
   check_epoch(sink, ask(sink, true, "GET", sink.epoch_key))
   sink.nulls = sink.nulls + 1
   sink:again("what it watches has changed")
end

local function send(sink, upto, savepoint)
   watch_streams(sink)
   local client = sink.client
   local state = { left = 1, clock = sink:clock "MULTI" }
   client:begin_skip()
   client:call "MULTI"
   local bytes, place = sink.outbox:chunk(nil, upto)
   while bytes do
      local at = 0
      while at < #bytes do
         local commands
         at, commands = client:add(bytes, at, sink.maxlen, HIGH)
         state.left = state.left + commands
         if client:pending() >= HIGH then
            drain(sink, state, LOW)
         end
      end
      bytes, place = sink.outbox:chunk(place, upto)
   end
   if savepoint then
      client:call("SET", sink.savepoint_key, savepoint)
      state.left = state.left + 1
   end
   skip(sink, state)
   local _, _, errors, text = client:skipped()
   if errors > 0 then
      raise(sink, "flush", text) -- nothing is done: there was no EXEC
   end
end

local function commit(sink)
   local client = sink.client
   client:begin_skip()
   client:call "EXEC"
   client:call("WATCH", sink.epoch_key, sink.savepoint_key)
   client:call("GET", sink.epoch_key)
   skip(sink, { left = 1, clock = sink:clock "EXEC" })
   local values, nulls, errors, text, at = client:skipped()
   reply(sink, "WATCH")
   local kind, epoch = reply(sink, "GET")
   if nulls > 0 then
      raise_null(sink)
   elseif errors > 0 and values == 1 then
      raise(sink, "EXEC", text)
   elseif errors > 0 then
      raise_in_exec(sink, text, at)
   end
   await_replicas(sink)
   sink.nulls = 0
   if not sink.is_plain then
      sink.streams = {}
   end
   if not (kind == "text" and epoch == sink.epoch) then
      sink.is_recalled = false -- the next flush finds out
   end
end

-- ---- values ----

-- A column as a hash has it.
local function text_of(value)
   return type(value) == "string" and value or raw.encode(value)
end

local encoders = {}

-- The headers of a change that raw.put_change does not add, see redis_entry.h.
local heads = setmetatable({}, { __index = function(heads, op)
   local head = ("=s4s4"):pack("op", op)
   heads[op] = head
   return head
end })

function encoders.stream(sink, value, key)
   if sink.is_plain and raw.is_change(value) and not (rawget(value, "op")
      or rawget(value, "schema") or rawget(value, "table")) then
      raw.learn_change(sink.learned, value, key, heads[value.op])
   end
   local text = sink.format(value)
   if not text then
      return
   end
   sink.streams[key] = true
   local head = sink.maxlen and { "XADD", key, "MAXLEN", "~", sink.maxlen, "*" }
      or { "XADD", key, "*" }
   local n = #head
   if raw.is_change(value) then
      head[n + 1], head[n + 2], head[n + 3], head[n + 4] = "op", value.op, "id", value.id
      n = n + 4
      if value.seq ~= nil then
         head[n + 1], head[n + 2] = "seq", value.seq
         n = n + 2
      end
   end
   head[n + 1], head[n + 2] = "data", text
   return 1, native.command(table.unpack(head, 1, n + 2))
end

function encoders.publish(sink, value, key)
   local text = sink.format(value)
   if text then
      return 1, native.command("PUBLISH", key, text)
   end
end

local function is_delete(value)
   return raw.is_change(value) and value.op == "delete"
end

function encoders.json(sink, value, key)
   if is_delete(value) then
      return 1, native.command("DEL", key)
   end
   if not sink.has_format then
      whole.check("redis", value)
   end
   local text = sink.has_format and sink.format(value)
      or not sink.has_format and raw.encode(raw.is_change(value) and value.row or value)
   if not text then
      return
   elseif sink.expire then
      return 1, native.command("SET", key, text, "EX", sink.expire)
   end
   return 1, native.command("SET", key, text)
end

function encoders.hash(sink, value, key)
   local delete = native.command("DEL", key)
   if is_delete(value) then
      return 1, delete
   end
   whole.check("redis", value)
   local row = raw.is_change(value) and value.row or value
   if type(row) ~= "table" then
      error(('mode = "hash" takes changes and tables with named fields, not a %s'):format(
         type(row)), 0)
   end
   local words, n = { "HSET", key }, 2
   for name in pairs(row) do
      local content = raw.get(row, name)
      if content ~= nil then
         words[n + 1], words[n + 2] = tostring(name), text_of(content)
         n = n + 2
      end
   end
   if n == 2 then
      return 1, delete
   end
   local hset = native.command(table.unpack(words, 1, n))
   if sink.expire then
      return 3, delete .. hset .. native.command("EXPIRE", key, sink.expire)
   end
   return 2, delete .. hset
end

-- What names the sink in keys: a hash tag, so that all of them are in one place of a cluster.
local function tag(name)
   return "{" .. name .. "}"
end

local function encode(sink, value)
   if sink.is_plain and sink:put_change(sink.learned, value) then
      return
   end
   local key = sink.key(value, sink.named)
   if key == nil then
      return
   elseif sink.is_cluster and not key:find(sink.named.name, 1, true) then
      error(sink:text(("the key '%s' lacks the hash tag %s, which all keys in a cluster need")
         :format(key, sink.named.name)), 0)
   end
   local commands, bytes = sink.encoder(sink, value, key)
   if commands then
      sink:put(commands, raw.is_change(value) and value.id or nil, bytes)
   end
end

-- ---- options ----

local fields = { mode = true, key = true, maxlen = true, replicas = true, expire = true }

local function read(sink, spec, what)
   local mode = spec.mode == nil and "stream" or spec.mode
   check.one_of(what .. ": mode", mode, modes)
   sink.mode, sink.encoder = mode, encoders[mode]
   local is_mirror = mode == "json" or mode == "hash"
   local key = spec.key or (is_mirror and "{name}:{table}:{key}" or "{name}:{table}")
   sink.key = pattern.option(what .. ": key", key)
   sink.key_text = type(key) == "string" and key or nil
   if sink.name:find "[{}]" then
      check.fail("%s: name must have no braces: it is the hash tag of the keys", what)
   end
   sink.named = { name = tag(sink.name) }
   if spec.maxlen ~= nil and mode ~= "stream" then
      check.fail('%s: maxlen is for mode = "stream"', what)
   elseif spec.expire ~= nil and not is_mirror then
      check.fail('%s: expire is for mode = "json" and "hash"', what)
   elseif sink.has_format and mode == "hash" then
      check.fail('%s: format is not for mode = "hash", whose fields are the columns', what)
   end
   sink.maxlen = spec.maxlen and check.count(what .. ": maxlen", spec.maxlen, 1)
   sink.expire = spec.expire and check.count(what .. ": expire", spec.expire, 1)
   sink.replicas = spec.replicas and check.count(what .. ": replicas", spec.replicas, 0) or 0
   local address = remote.expanded(what, "connect", spec.connect)
   sink.hosts, sink.database, sink.has_tls = read_address(what .. ": connect", address)
   if spec.tls and not sink.has_tls then
      check.fail("%s: tls is for connect = rediss://...", what)
   elseif spec.user ~= nil and spec.password == nil then
      check.fail("%s: user needs a password", what)
   end
   sink.turn, sink.nulls, sink.streams = 1, 0, {}
   -- Changes of a table all go into one stream, which need not be worked out for each.
   sink.is_plain = mode == "stream" and not sink.has_format and sink.key_text ~= nil
      and not sink.key_text:gsub("{name}", ""):gsub("{schema}", ""):gsub("{table}", "")
         :find "[{}]"
   sink.learned = setmetatable({}, { __mode = "k" }) -- see raw.learn_change
   sink.savepoint_key = "pgcdc:" .. tag(sink.name)
   sink.epoch_key = sink.savepoint_key .. ":epoch"
end

local function promise(sink)
   return {
      crash = sink.mode == "publish" and "once, or more after a fault" or "exactly once",
      position = "a key, set in the same `MULTI`", order = "the source's",
   }
end

return remote.sink {
   kind = "redis", address = "connect", fields = fields, read = read, encode = encode, open = open,
   recall = recall, send = send, commit = commit, close = close, check = check_server,
   promise = promise,
}
