-- pgcdc.postgres.client: a small client of a database, for enrichment and for sinks of one's own.
-- SPDX-License-Identifier: MIT
--
-- It connects when it is first used. Every call but `send` blocks the program until the server has
-- answered; with `send` two servers, or a server and the program, can work at the same time.
--
-- A connection that is found dead before a statement is sent is made anew. A statement that was
-- perhaps run is never sent again. Inside a transaction nothing is repeated.

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"
local check = require "pgcdc.check"
local conninfo = require "pgcdc.postgres.conninfo"
local literal = require "pgcdc.postgres.literal"
local seal = require "pgcdc.seal"
local strict = require "pgcdc.strict"

-- Settings that shape text, so that values come as they do in changes.
local SETTINGS = raw.session("client", 0)

-- Facts about a type: what arrays and rows consist of, and how its values are read. A type of an
-- extension with a cast to json is read as JSON, as to_json does.
local FACTS = answer.question([[
   SELECT t.oid::int8 AS oid, pg_catalog.format_type(t.oid, NULL) AS name,
      CASE WHEN t.typelem <> 0 AND t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
         THEN t.typelem::int8 END AS element, t.typdelim::text AS delimiter,
      t.typtype = 'c' AS is_composite,
      (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', attname,
            'oid', atttypid::int8) ORDER BY attnum)
         FROM pg_catalog.pg_attribute WHERE t.typtype = 'c' AND attrelid = t.typrelid
            AND attnum > 0 AND NOT attisdropped) AS fields,
      t.typtype = 'b' AND t.typname = 'hstore' AS is_hstore,
      t.oid >= 16384 AND EXISTS (SELECT FROM pg_catalog.pg_cast WHERE castsource = t.oid
         AND castmethod = 'f' AND casttarget = 'pg_catalog.json'::regtype) AS has_json,
      CASE WHEN t.typtype = 'd' THEN t.typbasetype::int8 END AS base
   FROM pg_catalog.pg_type t WHERE t.oid = $1]], {
   oid = "integer", name = "text", element = "integer?", delimiter = "text",
   is_composite = "boolean", fields = answer.records({ name = "text", oid = "integer" }, true),
   is_hstore = "boolean", has_json = "boolean", base = "integer?" })

local TEXT = 25
local MOST_BASES = 100 -- of a domain of a domain
local MOST_DESCRIBED = 1000

-- Connection -> conninfo, which may hold a password.
local targets = setmetatable({}, { __mode = "k" })

local Connection = strict.class("method of a connection", {})
Connection.__index = Connection
Connection.__name = "pgcdc.connection"

-- Raises the server's message, at the line of the script.
local function fail(what, message, sqlstate)
   check.fail("%s: %s%s", what, message, sqlstate ~= "" and (" (%s)"):format(sqlstate) or "")
end

-- Closes the connection; the next statement makes another one. What belonged to it is forgotten.
local function forget(self)
   self.raw:close()
   self.former, self.raw, self.facts, self.is_sent = self.raw, nil, {}, false
end

-- Calls a method of the connection of pgcdc.raw. Returns up to three results. Raises the error of
-- the server, or one about an argument. A lost connection is forgotten.
local function call(self, what, method, ...)
   local ok, result, message, sqlstate, kind = pcall(self.raw[method], self.raw, ...)
   if not ok then
      check.fail("%s: %s", what, (result:gsub("^[^ ]*:%d+: ", "")))
   elseif result == nil then
      if self.raw:transaction() == "lost" then
         forget(self)
         if kind ~= "sql" then
            message = message .. "; whether the statement was run is not known"
         end
      end
      fail(what, message, sqlstate)
   end
   return result, message, sqlstate
end

-- Waits for a statement that was sent and drops its result, which nobody took. (An error may have
-- come before `result` was called.)
local function drop_result(self)
   self.is_sent = false
   local ok, rows, message = pcall(self.raw.answer, self.raw)
   if ok and rows == nil then
      raw.log("warn", "a statement failed whose result nobody took", { error = message })
   end
   local state = self.raw:transaction()
   if state == "lost" or not self.in_transaction and state ~= "idle" then
      forget(self)
   end
end

-- Makes sure that there is a connection on which a statement can be sent. Raises an error if there
-- cannot be one.
local function ready(self, what)
   if self.is_sent then
      drop_result(self)
   end
   if self.in_transaction then
      if not self.raw then
         check.fail("%s: the connection was lost, and the transaction with it", what)
      end
      return
   end
   if self.raw and not self.raw:alive() then
      forget(self)
   end
   if not self.raw then
      local connection, message, sqlstate = raw.db_open(targets[self], self.is_brief, self.former)
      if not connection then
         fail(what, message, sqlstate)
      end
      self.raw, self.former = connection, nil
      call(self, what, "run", SETTINGS)
   end
end

-- Facts about a type; of a domain, those of its base.
local function type_facts(self, what, oid)
   local facts = self.facts[oid]
   for _ = 1, facts and 0 or MOST_BASES do
      facts = FACTS:maybe(function(sql, base)
         return call(self, what, "run", sql, 1, { base })
      end, facts and facts.base or oid) or {}
      if not facts.base then
         self.facts[oid] = facts
         return facts
      end
   end
   return facts or FACTS:fail("the domain %d has no end", oid)
end

-- ---- parameters ----

-- The argument `types` of the functions of literal.
local function types_for(self, what)
   return { what = what, facts = function(oid)
      return type_facts(self, what, oid)
   end }
end

-- The oids of the types of the parameters of a statement. They are remembered.
local function described(self, what, sql)
   local types = self.types[sql]
   if not types then
      types = call(self, what, "describe", sql)
      self.described = self.described + 1
      if self.described > MOST_DESCRIBED then
         self.types, self.described = {}, 1
      end
      self.types[sql] = types
   end
   return types
end

-- The parameters as pgcdc.raw takes them: texts and tables become text of the type of their place.
local function bind(self, what, sql, parameters)
   local bound = {}
   for i = 1, parameters.n do
      local value = parameters[i]
      local kind = type(value)
      if kind == "function" or kind == "thread" or kind == "userdata" and value ~= raw.null then
         check.fail("%s: parameter $%d is a %s", what, i, kind)
      end
      if kind == "string" or kind == "table" then
         local oid = described(self, what, sql)[i]
         if not oid then
            check.fail("%s: the statement has no parameter $%d", what, i)
         end
         value = literal.text(types_for(self, what), value, oid)
      end
      bound[i] = value
   end
   return bound
end

-- ---- rows ----

-- Decodes the columns `odd`, in place: the server makes JSON of what came as text (arrays, rows and
-- so on). Returns the rows.
local function decode(self, what, rows, odd)
   for _, column in ipairs(odd) do
      local facts = type_facts(self, what, column.type)
      if facts.element or facts.is_composite or facts.has_json then
         local texts, places = {}, {}
         for _, row in ipairs(rows) do
            if row[column.name] ~= nil then
               texts[#texts + 1] = row[column.name]
               places[#places + 1] = row
            end
         end
         local question = answer.question(
            ("SELECT pg_catalog.to_json(v::%s) AS v FROM pg_catalog.unnest($1::text[])"
               .. " WITH ORDINALITY u(v, n) ORDER BY n"):format(facts.name), { v = "any" })
         local decoded = #texts > 0 and question:check(call(self, what, "run", question.sql, 1,
            { literal.array(types_for(self, what), texts, TEXT, ",") })) or {}
         if #decoded ~= #places then
            question:fail("%d rows came in place of %d", #decoded, #places)
         end
         for i, row in ipairs(places) do
            row[column.name] = decoded[i].v
         end
      end
   end
   return rows
end

local function check_self(self, what)
   if not rawequal(getmetatable(self), Connection) then
      check.fail("%s: call it with a colon, as %s(...)", what, what)
   end
end

-- Hands a statement to a method of the connection of pgcdc.raw.
local function start(self, what, method, sql, ...)
   check_self(self, what)
   check.type(what .. ": the statement", sql, "string")
   local parameters = table.pack(...)
   ready(self, what)
   return call(self, what, method, sql, parameters.n, bind(self, what, sql, parameters))
end

-- A statement has ended: raises an error if it has left a transaction open.
local function check_ended(self, what)
   if not self.in_transaction and self.raw:transaction() ~= "idle" then
      forget(self)
      check.fail("%s: a transaction was begun and not ended; use db:transaction(f)", what)
   end
end

local function run(self, what, sql, ...)
   local rows, affected, odd = start(self, what, "run", sql, ...)
   check_ended(self, what)
   return rows, affected, odd
end

--- Runs a statement and returns the list of its rows, tables by column name; an empty one where it
--- has none. `...`: the values of $1, $2 and so on; they are never part of the text. Raises an
--- error with the server's message and SQLSTATE.
function Connection:query(sql, ...)
   local rows, _, odd = run(self, "db:query", sql, ...)
   return decode(self, "db:query", rows, odd)
end

--- Runs a statement and returns the number of rows that it changed.
function Connection:exec(sql, ...)
   local _, affected = run(self, "db:exec", sql, ...)
   return affected
end

--- Hands a statement to the server and returns at once; `result` waits for its end. Any other use
--- of this connection before that waits for the statement and drops its result.
function Connection:send(sql, ...)
   start(self, "db:send", "send", sql, ...)
   self.is_sent = true
end

--- Waits for the statement that was sent. Returns the list of its rows and the number of rows that
--- it changed, or read; raises its error.
function Connection:result()
   local what = "db:result"
   check_self(self, what)
   if not self.is_sent then
      check.fail("%s: no statement was sent, or its result is taken or lost", what)
   end
   self.is_sent = false
   local rows, affected, odd = call(self, what, "answer")
   check_ended(self, what)
   return decode(self, what, rows, odd), affected
end

-- ---- transactions ----

-- Commits the open transaction. Raises an error if it cannot.
local function commit(self)
   local what = "db:transaction"
   ready(self, what)
   local state = self.raw:transaction()
   if state == "aborted" then
      check.fail("%s: a statement failed, so that nothing can be committed", what)
   elseif state ~= "open" then
      check.fail("%s: the transaction was ended by a statement inside it", what)
   end
   call(self, what, "run", "COMMIT")
end

local function roll_back(self)
   if self.is_sent then
      forget(self) -- this ends the statement, too, without a wait
   elseif self.raw and self.raw:transaction() ~= "idle" and not self.raw:run "ROLLBACK" then
      forget(self)
   end
end

--- Calls f(db) inside a transaction: commits when it returns, rolls back and raises its error again
--- when it raises one. Returns what f returns.
function Connection:transaction(f)
   local what = "db:transaction"
   check_self(self, what)
   check.type(what .. ": its argument", f, "function")
   if self.in_transaction then
      check.fail("%s: there is one already", what)
   end
   ready(self, what)
   call(self, what, "run", "BEGIN")
   self.in_transaction = true
   local results = table.pack(pcall(f, seal.close(self)))
   if results[1] then
      local is_done, problem = pcall(commit, self)
      if not is_done then
         results = { false, problem }
      end
   end
   self.in_transaction = false
   if not results[1] then
      roll_back(self)
      error(results[2], 0)
   end
   return table.unpack(results, 2, results.n)
end

--- Ends the connection; the next use makes another one.
function Connection:close()
   if self.in_transaction then
      check.fail "db:close: a transaction is open"
   end
   if self.raw then
      forget(self)
   end
end

Connection.__close = Connection.close
seal.kind(Connection, Connection.__name, { query = true, exec = true, send = true, result = true,
                                           transaction = true, close = true }, nil,
   "method of a connection")
Connection.__gc = function(self)
   if self.raw then
      self.raw:close()
   end
end

--- A connection to the database that `target` names, see conninfo; nil: that of --dsn. `is_brief`:
--- a stop of the program ends a statement that is running; else the stop waits for it.
return function(target, is_brief)
   local self = setmetatable({ facts = {}, types = {}, described = 0,
                               is_brief = is_brief == true }, Connection)
   targets[self] = conninfo.text("pgcdc.connect: the connection", target)
   return self
end
