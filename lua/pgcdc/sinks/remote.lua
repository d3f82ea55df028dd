-- pgcdc.sinks.remote: what sinks that send to another system over the network have in common.
-- SPDX-License-Identifier: MIT
--
-- `write` encodes a value and puts it into the sink's outbox; `flush` moves what is in there to the
-- target, all or nothing, with the savepoint where the target can keep one. A flush that fails
-- leaves the outbox as it was, and the host calls it again:
--
--    write    encode -> outbox
--    flush    open, recall      connects, and asks what the target has, where that is not known
--             send, commit      records and savepoint; returns when they are durable
--             drop              from the outbox
--
-- A kind that `holds` may end a flush with records that are not there, see sinks/leftover.
--
-- A kind of sink is a table, see `remote.sink`. Its functions get the sink, which has the methods
-- below, and raise what is wrong by one of
--
--    sink:broken(message)         the connection is lost: once more, with a new one, at once; if
--                                 that does not help, later
--    sink:retry(message, seconds) the target cannot now: later, after so many seconds, or after 1,
--                                 2, 4 ... 60 s; without end
--    sink:again(message)          another program or a late answer came in between: once more, at
--                                 once
--    sink:refuse(list)            these records can never go: as the policy of their source says
--    sink:stop(message)           nothing helps: the program ends, status 1
--    sink:deny(message)           login or privileges: the program ends, status 3
--
-- After each of them but `refuse` the connection is closed, and the next try opens it again.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local participants = require "pgcdc.delivery.participants"
local format = require "pgcdc.sinks.format"
local intake = require "pgcdc.sinks.intake"
local leftover = require "pgcdc.sinks.leftover"
local secret = require "pgcdc.sinks.secret"
local tls = require "pgcdc.sinks.tls"

local remote = {}

local LONGEST_WAIT = 60 -- seconds
local LAST_WAIT = 15 -- seconds that a flush has after the program was asked to stop
local AT_ONCE = 5 -- tries of a flush that one call makes, see `again`
local TRIPPED = 5 -- failures in a row
local FLUSH_ROWS = 100000
local FLUSH_BYTES = "64M"

local Again = { __tostring = function(e)
   return e.message
end }
local Refusal = {}

-- ---- trouble ----

local stopping_since -- when it was noticed that the program is to stop

--- True if the program was asked to stop and a flush has had its time.
function remote.is_time_up()
   if raw.sleep(0) then
      return false
   end
   stopping_since = stopping_since or raw.now()
   return raw.now() - stopping_since >= LAST_WAIT
end

local Sink = {}
Sink.__index = Sink
require("pgcdc.seal").sink(Sink, "pgcdc.sinks.remote")

--- The message as errors of this sink have it.
function Sink:text(message)
   local name, kind = self.name, self.kind.kind
   return ("%s: %s"):format(name:sub(1, #kind) == kind and name or kind .. " " .. name, message)
end

--- Logs a message that names the sink.
function Sink:log(level, message)
   raw.log(level, message, { sink = self.name })
end

--- For --check: warns of what would run badly. `mends`: what mends it, see pgcdc.mend, or nil.
function Sink:warn(text, mends)
   self.warnings = self.warnings or {}
   table.insert(self.warnings, { text = text, mends = mends or {} })
end

function Sink:retry(message, seconds)
   if not seconds then
      self.wait = math.min(math.max(2 * self.wait, 1), LONGEST_WAIT)
      seconds = self.wait * (0.75 + math.random() / 2)
   end
   error(participants.later(self:text(message), seconds), 0)
end

function Sink:again(message)
   error(setmetatable({ message = self:text(message), is_worse = false }, Again), 0)
end

function Sink:broken(message)
   if self.failures > 0 then
      self:retry(message)
   end
   self:again(message)
end

function Sink:stop(message)
   error(self:text(message), 0)
end

function Sink:deny(message)
   raw.refuse(self:text(message))
end

--- `list`: of {index = which record of this flush, from 1, message =, value = what a dead letter
--- gets, or nil}. The sink must have undone all of the flush.
function Sink:refuse(list)
   error(setmetatable({ list = list, sink = self }, Refusal), 0)
end

--- True after several failures in a row, of a flush or (`in_a_row`) of requests of it.
function Sink:is_tripped()
   return (self.in_a_row or self.failures) >= TRIPPED
end

-- ---- waiting ----

local Clock = {}
Clock.__index = Clock

--- A clock for a wait. `what`: what does not come, for the error.
function Sink:clock(what)
   return setmetatable({ sink = self, what = what, since = raw.now() }, Clock)
end

--- To be called at least ten times a second. `has_moved`: something has come, or was sent. Raises
--- when nothing has for `timeout` seconds, or when the program is to stop and cannot wait longer.
function Clock:check(has_moved)
   local sink = self.sink
   if has_moved then
      self.since = raw.now()
   elseif raw.now() - self.since > sink.timeout then
      sink:broken(("%s: no answer for %g s"):format(self.what, sink.timeout))
   end
   if remote.is_time_up() then
      sink:retry(self.what .. ": no answer, and the program is to stop")
   end
end

-- ---- records ----

Sink.put, Sink.put_change, Sink.way = intake.put, intake.put_change, intake.way

--- An iterator over the records up to that seal: index, lane, id, then what `encode` gave.
function Sink:records(upto)
   local next_record, index = self.outbox:each(upto), 0
   local function pass(lane, id, _, ...)
      if lane then
         index = index + 1
         return index, lane, id, ...
      end
   end
   return function()
      return pass(next_record())
   end
end

--- A change's lane: what is in one lane stays in order. Values that are no changes have one.
function remote.lane(value)
   if not raw.is_change(value) then
      return 0
   end
   return ("%s\0%s\0%s"):format(value.schema, value.table, raw.key_json(value))
end

--- What `close` does for kinds whose connection is sink.client, an object of their module, or nil.
function remote.close_client(sink)
   if sink.client then
      sink.client:close()
      sink.client = nil
   end
end

--- Raises that a value is no change, for a sink that takes nothing else.
function remote.only_changes(sink, value)
   if not raw.is_change(value) then
      error(("%s takes changes, not a %s"):format(sink.kind.kind, type(value)), 0)
   end
end

--- Takes a value. The next `flush` brings it to the target.
function Sink:write(value)
   intake.touch(self)
   self.kind.encode(self, value)
end

--- From now on what was taken so far can be flushed alone. Returns the number of the seal.
function Sink:seal()
   return self.outbox:seal()
end

-- ---- flush ----

-- The sink whose connection this one uses: itself, or the first one of its kind with the same
-- target.
local function home_of(self)
   return self.owner or self
end

-- Raises while the connection is in use: a finalizer of a script runs in any allocation, and would
-- close or use what the code that it interrupts has in its hands.
local function check_idle(self)
   if home_of(self).is_busy then
      error(self:text "it is in the middle of a flush, where flush and close cannot be called", 0)
   end
end

--- pcall(f, self), where f uses the connection.
function Sink:use(f)
   check_idle(self)
   home_of(self).is_busy = true
   local ok, result = pcall(f, self)
   home_of(self).is_busy = false
   return ok, result
end

local function disconnect(self)
   self.is_open, self.is_recalled = false, false
   if self.kind.close then
      pcall(self.kind.close, self)
   end
end

-- What was taken up to that seal is in the target, with this savepoint.
local function end_flush(self, seal, savepoint)
   local rows = self.kind.holds and self.unsent_rows or self.outbox:rows(seal) - self.left_out
   self.sent_rows, self.unsent_rows = self.sent_rows + rows, self.unsent_rows - rows
   self.sent_bytes = self.sent_bytes + self.outbox:bytes(seal)
   self.outbox:drop(seal)
   self.left_out = 0
   self.rows = self.outbox:rows()
   self.early_at = self.kind.early_after or math.huge
   self.stored = savepoint or self.stored
   self.tried = nil
   self.failures, self.wait, self.last_error = 0, 0, nil
end

-- Asks the target for its savepoint. A flush whose answer was lost is done if that is there.
local function recall(self)
   local text = self.kind.recall(self)
   if self.tried and text == self.tried.savepoint then
      end_flush(self, self.tried.seal, text)
   elseif text == nil and self.was_recalled and self.stored and self.prepares then
      self:log("warn", "the target has forgotten its position: going on from ours")
   elseif self.was_recalled and text ~= self.stored then
      self:stop("the target has not the position that was stored there: it went back, or somebody "
         .. "else uses the same name; a new start goes on from what is there")
   end
   self.stored, self.was_recalled, self.is_recalled = text, true, true
end

-- Connects. A file that is not there is a mistake at the start; later it is perhaps being renewed.
local function open(self)
   local problem = tls.problem(self)
   if problem and self.was_open then
      self:retry(problem)
   elseif problem then
      self:deny(problem)
   end
   self.kind.open(self)
   self.was_open = true
end

-- Makes sure that there is a connection, and that it is known what the target has.
local function make_ready(self)
   if self.owner then
      make_ready(self.owner)
   end
   if not self.is_open then
      if self.last_error and not raw.sleep(0) then -- it is to stop: one try was enough
         error(participants.later(self.last_error, 1), 0)
      end
      open(self)
      self.is_open = true
   end
   if self.kind.recall and not self.is_recalled then
      recall(self)
   end
end

-- Records were refused: they go out of the outbox. Raises what the host understands.
local function drop_refused(self, refusal)
   local messages, indices, found, at = {}, {}, {}, 0
   for _, it in ipairs(refusal.list) do
      messages[it.index] = it
      indices[#indices + 1] = it.index
   end
   for _, id, source in self.outbox:each() do
      at = at + 1
      local it = messages[at]
      if it then
         found[#found + 1] = { at, self:text(it.message), value = it.value or { id = id },
                               source = math.tointeger(source), sink = self.name }
      end
   end
   self.outbox:leave_out(indices)
   self.tried = nil
   self.refused_rows = self.refused_rows + #found
   self.left_out, self.unsent_rows = self.left_out + #found, self.unsent_rows - #found
   error(participants.refused(found), 0)
end

-- Calls f(self). After a failure there is no connection; raises it, as the host understands it.
-- Returns false if it is to be called again at once.
local function attempt(self, f)
   local ok, problem = self:use(f)
   if ok then
      return true
   end
   local mt = getmetatable(problem)
   if mt == Refusal then
      drop_refused(problem.sink, problem)
   end
   disconnect(self)
   self.failures = self.failures + 1
   self.retries = self.retries + 1
   self.last_error = tostring(problem)
   if mt == Again then
      return false
   end
   error(problem, 0)
end

-- Calls f(self) until it succeeds, while there is a sense in doing so at once.
local function persist(self, f)
   for _ = 1, AT_ONCE do
      if attempt(self, f) then
         return
      end
   end
   self.wait = math.min(math.max(2 * self.wait, 1), LONGEST_WAIT)
   error(participants.later(self.last_error, self.wait), 0)
end

local steps = { persist = persist, make_ready = make_ready, end_flush = end_flush }

--- Of a kind that `holds`: brings to the target what can go now, see sinks/leftover.
function Sink:settle()
   leftover.settle(self, steps)
end

-- Brings what the sinks of these parts have taken, {sink =, upto = seal or nil}, to the target.
local function send_parts(home, savepoint, parts)
   local rows = 0
   for _, part in ipairs(parts) do
      rows = rows + part.sink.outbox:rows(part.upto)
   end
   for _, part in ipairs(parts) do
      if savepoint or rows > 0 then
         make_ready(part.sink)
      else
         part.sink.outbox:drop(part.upto)
      end
   end
   if savepoint == nil and rows == 0 then
      return
   end
   for _, part in ipairs(parts) do
      part.seal = part.upto or part.sink.outbox:seal()
      part.sink.tried = savepoint and { savepoint = savepoint, seal = part.seal }
   end
   home.kind.send(home, parts[1].seal, savepoint, parts)
   if home.kind.commit then
      home.kind.commit(home, savepoint, parts)
   end
   for _, part in ipairs(parts) do
      end_flush(part.sink, part.seal, savepoint)
   end
   home.failures, home.wait, home.last_error = 0, 0, nil
end

--- Flushes several sinks whose `together` is the same, all or nothing. `parts`: a list of {sink =,
--- upto = number of a seal, or nil for everything}.
function Sink:flush_together(savepoint, parts)
   local began = raw.now()
   for _, part in ipairs(parts) do
      part.sink.wants_flush = false
   end
   persist(home_of(self), function(home)
      send_parts(home, savepoint, parts)
   end)
   for _, part in ipairs(parts) do
      part.sink.flush_seconds = raw.now() - began
   end
end

--- Brings what was taken, up to that seal or all of it, to the target, all or nothing if the kind
--- keeps savepoints. `savepoint`: text to be stored with it, or nil.
function Sink:flush(savepoint, upto)
   if self.kind.holds then
      return leftover.settle(self, steps, raw.source_count() == 0)
   end
   self:flush_together(savepoint, { { sink = self, upto = upto } })
end

function Sink:close()
   check_idle(self)
   disconnect(self)
end

--- For --check: connects, and returns a line about the target. Changes nothing there. Raises why it
--- cannot be used.
function Sink:check()
   local ok, result = self:use(function()
      open(self)
      return self.kind.check and self.kind.check(self) or "connected"
   end)
   disconnect(self)
   if not ok then
      self.mends = self.mends or self.kind.mends and self.kind.mends(self, tostring(result))
      raw.refuse(tostring(result))
   end
   return result
end

--- What has become of the values. See lua/README.md.
function Sink:stats()
   return {
      records = self.sent_rows, bytes = self.sent_bytes, retries = self.retries,
      refused = self.refused_rows, unsent_rows = self.unsent_rows,
      unsent_bytes = self.outbox:bytes(), in_flight = self.in_flight, is_open = self.is_open,
      is_tripped = self:is_tripped(), flush_seconds = self.flush_seconds,
      last_error = self.last_error,
   }
end

-- ---- making one ----

--- The text of an option, which may name variables.
function remote.expanded(what, field, text)
   what = what .. ": " .. field
   local ok, result = pcall(secret.expand, what, check.text(what, text))
   if not ok then
      check.fail("%s", result)
   end
   return check.text(what, result)
end

local common = { name = true, format = true, timeout = true, flush_rows = true, flush_bytes = true,
                 tls = true, user = true, password = true }

--- Bytes, a whole number, of a number or of text such as "64M".
function remote.size(what, given)
   local bytes
   if type(given) == "number" then
      bytes = math.tointeger(given)
   else
      local size = raw.size(check.text(what, given))
      bytes = size and math.floor(size)
   end
   if not bytes or bytes < 1 then
      check.fail('%s: say a size, such as "64M"', what)
   end
   return bytes
end

--- {ca =, cert =, key =}, paths, as they are now.
Sink.tls_files = tls.files

--- Keeps an option that may be in the environment: `sink:secret(field)` returns its text as it is
--- then.
function Sink:keep_secret(what, field, text)
   secret.keep(self, what .. ": " .. field, field, check.text(what .. ": " .. field, text))
end

function Sink:secret(field)
   return secret.of(self, field)
end

-- The fields that a spec of this kind can have.
local function fields_of(kind)
   local fields = { [kind.address] = true }
   for name in pairs(common) do
      fields[name] = true
   end
   for name in pairs(kind.fields) do
      fields[name] = true
   end
   return fields
end

--- Makes the constructor of a kind of sink, a function from options to a sink. `kind`:
---    kind =      its name
---    address =   the option that says where, which must be given: "connect", say
---    fields =    its own options, as a set
---    defaults =  of the options of all, such as timeout, where they are others; or nil
---    read(sink, spec, what)   checks its own options; `what` is how errors begin
---    encode(sink, value)      calls sink:put(lane, id, ...), at most once
---    open(sink)               connects. Returns when records can be sent
---    recall(sink)             the savepoint of the last flush that is in the target, or nil; none
---                             of a flush before can get there any more. nil: it keeps none
---    send_early(sink)         the outbox has sink.early_at bytes, after a flush `early_after`: may
---                             send some, and sets that anew. Raises nothing; nil: all waits for
---                             `send`
---    send(sink, upto, savepoint)   moves sink:records(upto)
---    commit(sink, savepoint)  makes them durable; nil: `send` does
---    (Both get the list of parts of `flush_together` as well, where sinks have an `owner`: the one
---    whose connection they use.)
---    close(sink)              ends the connection, whatever its state is
---    mends(sink, text)        what mends an error of --check, a list (or in sink.mends), or nil
---    check(sink)              a line about the target, for --check; changes nothing; may warn, by
---                             sink:warn
---    promise =   what the sink promises, or a function of the sink that returns that: {crash = how
---                often a change is there after any crash, position = what it is in, order =
---                whose}, as the table in lua/README.md has it
---    takes_rows =             if sink.is_plain, changes as they came can go into the outbox
---                             without `encode`, by raw.put_change with sink.learned
---    prepares =, identify =   see delivery/checkpoint
---    holds =                  which part of a record is what leftover.hold returned, counted as in
---                             api_outbox.h: `send` may end with records that are left. It returns
---                             how many, and in how many seconds they may be tried again; why is in
---                             sink.last_problem
function remote.sink(kind)
   local fields = fields_of(kind)
   local what = "pgcdc.sinks." .. kind.kind
   return function(spec)
      check.type(what .. ": its argument", spec, "table")
      spec = check.taken(what, spec, fields)
      if not raw.has_network then
         check.fail("%s: the sandbox allows no network, unless the program was started with "
            .. "--allow-network", what)
      elseif spec[kind.address] == nil then
         check.fail("%s: %s is required", what, kind.address)
      end
      local defaults = kind.defaults or {}
      local function given(field, default)
         local value = spec[field]
         if value == nil then
            value = defaults[field]
         end
         return value == nil and default or value
      end
      local sink = setmetatable({
         kind = kind, outbox = raw.outbox(), enters_itself = true, wants_flush = false,
         prepares = kind.prepares, identify = kind.identify,
         name = check.text(what .. ": name", given("name", kind.kind)),
         format = format.read(what, given("format", "json")),
         has_format = spec.format ~= nil,
         timeout = check.seconds(what .. ": timeout", given("timeout", 30), 0.1),
         flush_rows = check.count(what .. ": flush_rows", given("flush_rows", FLUSH_ROWS), 1),
         flush_bytes = remote.size(what .. ": flush_bytes", given("flush_bytes", FLUSH_BYTES)),
         rows = 0, unsent_rows = 0, left_out = 0, sent_rows = 0, sent_bytes = 0, retries = 0,
         refused_rows = 0, in_flight = 0, early_at = kind.early_after or math.huge,
         failures = 0, wait = 0, flush_seconds = 0, is_open = false, is_busy = false,
      }, Sink)
      for _, field in ipairs { "user", "password" } do
         if spec[field] ~= nil then
            sink:keep_secret(what, field, spec[field])
         end
      end
      tls.read(sink, what, spec.tls)
      kind.read(sink, spec, what)
      leftover.start(sink)
      sink.promise = type(kind.promise) == "function" and kind.promise(sink) or kind.promise
      if kind.recall then
         function sink:recall()
            persist(home_of(self), function()
               make_ready(self)
            end)
            return self.stored
         end
      else
         function sink:restore()
            persist(self, make_ready)
         end
      end
      sink.participant = participants.sink(sink)
      sink.participant.settles = kind.holds ~= nil
      sink.participant.about, sink.participant.stats = kind.kind, Sink.stats
      return sink
   end
end

return remote
