-- pgcdc.sinks.postgres.target_connection: a connection to a target, and our rows there.
-- SPDX-License-Identifier: MIT
--
-- Sinks with the same target share a connection, so that they can share transactions.
--
-- What the server says is raised as a *problem*: {message =, sqlstate =, kind = as in
-- src/lua/api_db.h, what = which privilege is missing, or nil}. `attempt` turns it into an error
-- that the host understands. Statements block until the server has answered.
--
-- Where the state is in a database, our row has the number of the newest lease that has written it,
-- which only grows. `recall` writes ours, under the lock that each transaction takes first; so what
-- a former process has on its way is committed before we read what is there, or never. One that was
-- stopped in the middle of its transaction is not waited for: that is ended.

local raw = require "pgcdc.raw"
local participants = require "pgcdc.delivery.participants"
local answer = require "pgcdc.postgres.answer"

local BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"

local POSITION = [[
   CREATE TABLE IF NOT EXISTS pgcdc.position (pipeline text, sink text, savepoint text,
      flush text, saved timestamptz NOT NULL DEFAULT now(), epoch bigint,
      PRIMARY KEY (pipeline, sink))]]

-- SQLSTATEs of constraints that forbid a row because of other rows: a foreign key, a unique index,
-- an exclusion constraint.
local refusals = { ["23503"] = true, ["23505"] = true, ["23P01"] = true }

local LONGEST_WAIT = 60 -- seconds

local NO_TABLE = "pgcdc.position cannot be made: grant CREATE on the target database, or let its"
   .. " owner make it"
local NO_EPOCH = "pgcdc.position is of an earlier version, and only its owner can change it: ALTER"
   .. " TABLE pgcdc.position ADD epoch bigint"
local NO_ROW = "pgcdc.position cannot be used: grant USAGE on the schema pgcdc, and SELECT, INSERT"
   .. " and UPDATE on the table"

local OURS = " FROM pgcdc.position WHERE pipeline = $1 AND sink = $2"

local SAVED = answer.question("SELECT savepoint, flush" .. OURS,
   { savepoint = "text?", flush = "text?" })
local LOCKED = answer.question("SELECT flush" .. OURS .. " FOR UPDATE", { flush = "text?" })
local LEASED = answer.question("SELECT flush, epoch" .. OURS .. " FOR UPDATE",
   { flush = "text?", epoch = "integer?" })
local TAKE = answer.question([[UPDATE pgcdc.position SET epoch = $3
   WHERE pipeline = $1 AND sink = $2 AND coalesce(epoch, 0) <= $3 RETURNING sink]],
   { sink = "text" })

-- Ends a transaction of an older lease that has locked our row.
local END_FORMER = [[
   SELECT pg_catalog.pg_terminate_backend(k.pid)
   FROM pgcdc.position p JOIN pg_catalog.pg_locks k ON k.locktype = 'transactionid' AND k.granted
      AND k.transactionid = p.xmax
   WHERE p.pipeline = $1 AND p.sink = $2 AND coalesce(p.epoch, 0) < $3
      AND k.pid <> pg_catalog.pg_backend_pid()]]

local HAS_SCHEMA = answer.question(
   "SELECT pg_catalog.to_regnamespace('pgcdc') IS NOT NULL AS yes", { yes = "boolean" })
local HAS_TABLE = answer.question(
   "SELECT pg_catalog.to_regclass('pgcdc.position') IS NOT NULL AS yes", { yes = "boolean" })

local HAS_EPOCH = answer.question([[SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute
   WHERE attrelid = 'pgcdc.position'::pg_catalog.regclass AND attname = 'epoch') AS yes]],
   { yes = "boolean" })

-- Tokens are made of this name, which no other run has.
local run_name = ("%s-%.6f"):format(tostring({}):match "0x(%x+)" or "", raw.now())
local tokens = 0

-- True if the same may succeed later.
local function is_passing(problem)
   return problem.kind == "connection" or raw.sqlstate_passes(problem.sqlstate)
end

local Problem = { __name = "pgcdc.problem" }

local Connection = {}
Connection.__index = Connection

local connections = {} -- by conninfo
local targets = {}     -- connection -> conninfo, which may hold a password; no field of the
                       -- connection, since scripts can look into that

-- Raises a problem.
local function raise(message, sqlstate, kind)
   local problem = { message = message, sqlstate = sqlstate, kind = kind }
   error(setmetatable(problem, Problem), 0)
end

--- Raises a problem as if the server had refused a value of this column. `message`: what is wrong.
function Connection.refuse(_, message, column)
   error(setmetatable({ message = message, column = column, sqlstate = "22000", kind = "sql" },
      Problem), 0)
end

--- Runs a statement; `...` are its parameters. Returns its rows.
function Connection:run(sql, ...)
   local rows, message, sqlstate, kind = self.db:run(sql, select("#", ...), { ... })
   if not rows then
      raise(message, sqlstate, kind)
   end
   return rows
end

--- Asks a question (see answer): returns its rows, its row, or its row or nil.
function Connection:rows(question, ...)
   return question:rows(self.runner, ...)
end

function Connection:row(question, ...)
   return question:row(self.runner, ...)
end

function Connection:maybe(question, ...)
   return question:maybe(self.runner, ...)
end

--- Hands statements without parameters to the server, and does not wait for their end. Nothing else
--- may be run on the connection before `await`.
function Connection:send(sql)
   local ok, message, sqlstate, kind = self.db:send(sql, 0, {})
   if not ok then
      raise(message, sqlstate, kind)
   end
end

--- Waits for the end of what was sent.
function Connection:await()
   local rows, message, sqlstate, kind = self.db:answer()
   if not rows then
      raise(message, sqlstate, kind)
   end
end

--- Runs `sql`, a COPY FROM STDIN, with these lines (raw.copy_lines), or with those behind so many
--- bytes.
function Connection:copy(sql, lines, from)
   local ok, message, sqlstate, kind = self.db:load(sql)
   if ok then
      ok, message, sqlstate, kind = lines:send(self.db, from)
   end
   if ok then
      ok, message, sqlstate, kind = self.db:finish()
   end
   if not ok then
      raise(message, sqlstate, kind)
   end
end

--- Calls f() inside the transaction. Returns false if a statement was refused with one of these
--- SQLSTATEs, and undone.
function Connection:try(states, f)
   self:run "SAVEPOINT pgcdc"
   local ok, problem = pcall(f)
   if ok then
      self:run "RELEASE pgcdc"
      return true
   elseif not rawequal(getmetatable(problem), Problem) or not states[problem.sqlstate] then
      error(problem, 0)
   end
   self:run "ROLLBACK TO pgcdc; RELEASE pgcdc"
   return false
end

--- The same, whatever the server refuses it with.
function Connection:attempt_part(f)
   self:run "SAVEPOINT pgcdc_part"
   local ok, problem = pcall(f)
   if not ok and (not rawequal(getmetatable(problem), Problem) or is_passing(problem)) then
      error(problem, 0)
   end
   self:run(ok and "RELEASE pgcdc_part" or "ROLLBACK TO pgcdc_part; RELEASE pgcdc_part")
   return ok
end

--- Calls f() inside the transaction, checks the constraints that wait, and undoes all. Returns nil,
--- or the problem with which the server refused it.
function Connection:probe(f)
   self:run "SAVEPOINT pgcdc_probe"
   local ok, problem = pcall(function()
      f()
      self:run "SET CONSTRAINTS ALL IMMEDIATE"
   end)
   if not ok and (not rawequal(getmetatable(problem), Problem) or is_passing(problem)) then
      error(problem, 0)
   end
   self:run "ROLLBACK TO pgcdc_probe; RELEASE pgcdc_probe"
   return not ok and problem or nil
end

--- The role that it connects as, or nil if that is not known.
function Connection:role()
   return raw.db_user(targets[self])
end

--- Undoes the transaction, if there is one, and calls f() in another one, which is undone, too.
function Connection:rehearse(f)
   if self.db:transaction() ~= "idle" then
      self:run "ROLLBACK"
   end
   self.generation = self.generation + 1
   self:begin()
   f()
   self:run "ROLLBACK"
   self.generation = self.generation + 1
end

--- Errors name the sink `name` from now on.
function Connection:set_subject(name)
   self.subject = name
end

--- A number for temporary tables and types that no other has on this connection.
function Connection:next_temporary()
   self.temporaries = self.temporaries + 1
   return self.temporaries
end

--- The sink `name` has written rows.
function Connection:set_written(name)
   self.is_new[name] = false
end

--- Ends the connection; `connect` makes another one.
function Connection:close()
   if self.db then
      self.db:close()
      self.former, self.db = self.db, nil
   end
end

--- The text of an error. `message`: what is said in the place of the problem's own, or nil.
function Connection:describe(problem, message)
   local place = ""
   if problem.kind == "sql" and self.db then
      place = (", in database %s as role %s"):format(self.db:place())
   end
   return ("%s: %s%s%s%s"):format(self.subject, problem.what and problem.what .. ": " or "",
      message or problem.message,
      problem.sqlstate ~= "" and (" (%s)"):format(problem.sqlstate) or "", place)
end

--- Returns f(). After an error no transaction is open, and a new `generation` says that what was
--- known of the target is no longer valid; where the error passes, the host is to try again later.
--- `name`: the sink that errors name, unless f sets another `subject`.
function Connection:attempt(name, f)
   self:set_subject(name)
   local ok, result = pcall(f)
   if ok then
      self.wait = 0
      return result
   end
   if self.db and self.db:transaction() ~= "idle" and not self.db:run "ROLLBACK" then
      self:close()
   end
   self.generation = self.generation + 1
   if not rawequal(getmetatable(result), Problem) then
      error(type(result) == "string" and ("%s: %s"):format(self.subject, result) or result, 0)
   elseif is_passing(result) then
      self:close()
      self.wait = math.min(math.max(2 * self.wait, 1), LONGEST_WAIT)
      error(participants.later(self:describe(result), self.wait), 0)
   end
   error(self:describe(result), 0)
end

--- If `problem` is that a constraint forbade rows because of other rows, ends the transaction
--- without a trace, and returns true.
function Connection:undo_refused(problem)
   if not rawequal(getmetatable(problem), Problem) or not refusals[problem.sqlstate] then
      return false
   elseif self.db:transaction() ~= "idle" then
      self:run "ROLLBACK"
   end
   self.generation = self.generation + 1
   return true
end

--- Begins a transaction, with the settings of a target.
function Connection:begin()
   self:run(BEGIN .. raw.session("target", self.db:version()))
end

-- Calls f(). Where a privilege is missing, the error says what it was needed for.
local function explain(what, f)
   local ok, problem = pcall(f)
   if not ok then
      if rawequal(getmetatable(problem), Problem) and problem.sqlstate == "42501" then
         problem.what = what
      end
      error(problem, 0)
   end
end

-- Makes pgcdc.position, in a transaction of its own.
local function make_table(self)
   self:begin()
   self:run "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('pgcdc.position'))"
   if not self:row(HAS_SCHEMA).yes then
      self:run "CREATE SCHEMA pgcdc"
   end
   self:run(POSITION)
   self:run "COMMIT"
end

--- Makes sure that there is a connection, and the table pgcdc.position.
function Connection:connect()
   if self.db and not self.db:alive() then
      self:close()
   end
   if self.db then
      return
   end
   if self.away and not raw.sleep(0) then
      raise(table.unpack(self.away)) -- the program is to stop: one try was enough
   end
   local db, message, sqlstate, kind = raw.db_open(targets[self], false, self.former)
   if not db then
      self.away = { message, sqlstate, kind }
      raise(message, sqlstate, kind)
   end
   self.db, self.former, self.away = db, nil, nil
   self.generation = self.generation + 1
   local has_table
   explain(NO_ROW, function()
      has_table = self:row(HAS_TABLE).yes
   end)
   if not has_table then
      explain(NO_TABLE, function()
         make_table(self)
      end)
   elseif raw.epoch() and not self:row(HAS_EPOCH).yes then
      explain(NO_EPOCH, function()
         self:run "ALTER TABLE pgcdc.position ADD COLUMN IF NOT EXISTS epoch bigint"
      end)
   end
end

-- Raises that our row is not what it was.
local function refuse_row()
   raw.confirm() -- who has lost the pipeline ends with that
   error("pgcdc.position in the target is not what was stored there: it went back, or somebody"
      .. " else uses the same state; a new start goes on from what is there", 0)
end

-- From now on nobody who had the pipeline before us writes for this sink.
local function take_row(self, name, epoch)
   if not self:maybe(TAKE, self.pipeline, name, epoch) then
      refuse_row()
   end
end

--- Reads what the target knows of the sink `name`. Returns the savepoint, nil where there is none.
function Connection:recall(name)
   self.pipeline = self.pipeline or raw.pipeline()
   local row
   local epoch = raw.epoch()
   explain(NO_ROW, function()
      if epoch then -- (where we may; else it is awaited)
         self.db:run(END_FORMER, 3, { self.pipeline, name, epoch })
      end
      self:run("INSERT INTO pgcdc.position (pipeline, sink) VALUES ($1, $2) ON CONFLICT DO NOTHING",
         self.pipeline, name)
      if epoch then
         take_row(self, name, epoch)
      end
      row = self:row(SAVED, self.pipeline, name)
   end)
   self.flushed[name], self.is_recalled[name] = row.flush, true
   self.is_new[name] = row.savepoint == nil
   return row.savepoint
end

--- Calls f() in a transaction that is undone, after pgcdc.position was made in it, if it is not
--- there, and written.
function Connection:try_all(f)
   local db, message, sqlstate, kind = raw.db_open(targets[self], false)
   if not db then
      raise(message, sqlstate, kind)
   end
   self.db = db
   self.generation = self.generation + 1
   self:rehearse(function()
      local has_table
      explain(NO_ROW, function()
         has_table = self:row(HAS_TABLE).yes
      end)
      explain(NO_TABLE, function()
         if not self:row(HAS_SCHEMA).yes then
            self:run "CREATE SCHEMA pgcdc"
         end
         if not has_table then
            self:run(POSITION)
         end
      end)
      explain(NO_ROW, function()
         self:run "INSERT INTO pgcdc.position (pipeline, sink) VALUES ('pgcdc-lua --check', '')"
         self:run(SAVED.sql, "", "")
         self:run "UPDATE pgcdc.position SET saved = now() WHERE pipeline = 'pgcdc-lua --check'"
      end)
      f()
   end)
end

-- Locks our row, and so waits for a COMMIT of ours that the server has not finished. (What a former
-- connection left open was ended by raw.db_open.) Returns true if a transaction with this token was
-- committed. Raises an error if the row is not as we left it.
local function is_done(self, name, token)
   local epoch = raw.epoch()
   local row = self:maybe(epoch and LEASED or LOCKED, self.pipeline, name)
   if row and epoch and row.epoch ~= epoch then
      refuse_row()
   elseif row and row.flush == token then
      return true
   elseif not row or row.flush ~= self.flushed[name] then
      refuse_row()
   end
   return false
end

--- The name of a transaction that no other has, in no run.
function Connection.new_token()
   tokens = tokens + 1
   return ("%s-%d"):format(run_name, tokens)
end

--- Begins the transaction of a `commit` that will come, with this token, for the sink `name` alone,
--- which was recalled. The server ends it if nothing is done in it for so many seconds.
function Connection:begin_early(name, token, seconds)
   self:begin()
   self:run(("SET LOCAL idle_in_transaction_session_timeout = '%ds'"):format(seconds))
   is_done(self, name, token) -- which it is not
end

-- Begins a transaction. Returns true if one with this token was committed.
local function begin_commit(self, names, token)
   self:connect()
   for _, name in ipairs(names) do
      if not self.is_recalled[name] then
         self:recall(name)
      end
   end
   self:begin()
   local done = false
   for _, name in ipairs(names) do
      done = is_done(self, name, token) or done
   end
   return done
end

--- One transaction: calls f() and stores the savepoint, if it is not nil, for the sinks with these
--- names, unless a transaction with this token is committed already. Raises an error if it
--- was not committed, or if that is not known: then it must be called again with the same
--- arguments, but for `is_begun`: begin_early has begun it.
function Connection:commit(names, token, savepoint, f, is_begun)
   local done = not is_begun and begin_commit(self, names, token)
   if not done then
      f()
      for _, name in ipairs(names) do
         self:run([[UPDATE pgcdc.position SET savepoint = coalesce($3, savepoint), flush = $4,
            saved = now() WHERE pipeline = $1 AND sink = $2]], self.pipeline, name, savepoint,
            token)
      end
   end
   self:run(done and "ROLLBACK" or "COMMIT")
   for _, name in ipairs(names) do
      self.flushed[name] = token
   end
end

--- The connection to a target, the same one for all its sinks. It connects when `connect` is
--- called.
return function(conninfo)
   local connection = connections[conninfo] or setmetatable({
      -- db: what raw.db_open returned, or nil; former: the one before it; away: why the last try to
      -- connect failed, or nil; pipeline: raw.pipeline(), once it is needed; runner: its method run
      subject = "pgcdc.sinks.postgres", -- the sink that errors name
      sinks = {},       -- all that write to it
      generation = 0,   -- changes whenever what was known of the target is no longer valid
      temporaries = 0,  -- numbers that were given to temporary tables
      wait = 0,         -- seconds before the next try, as `attempt` said last
      flushed = {},     -- sink's name -> token in pgcdc.position
      is_recalled = {}, -- sink's name -> its token is known
      is_new = {},      -- sink's name -> it has never stored or written anything there
   }, Connection)
   connections[conninfo], targets[connection] = connection, conninfo
   connection.runner = connection.runner or function(...)
      return connection:run(...)
   end
   return connection
end
