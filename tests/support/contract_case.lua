-- contract_case.lua: a small table, a sink of a driver, and what a test does to them.
-- SPDX-License-Identifier: MIT
--
-- Row versions are (id, v): v comes of a sequence, so it rises with each version of a row.

local contract = require "contract"
local drivers = require "contract_drivers"
local fixtures = require "fixtures"
local once = require "once"
local program = require "program"
local tables = require "tables"
local wait = require "wait"

local contract_case = {}

local methods = {}
local mt = { __index = methods }

contract_case.ROWS = 30 -- in the table at first
contract_case.MARK = "7000000" -- how values of v begin that the network waits for

-- A new table and a state file, and the options of program.start for them. `name`: of a driver;
-- `target`, `tag`: see contract_drivers. `options`: rows; and, all text, fields = of the sink,
-- source = of the source, script = more of the script.
function contract_case.new(name, target, tag, options)
   options = options or {}
   local self = setmetatable({ name = name, target = target, tag = tag }, mt)
   self.driver = drivers[name]
   self.db = fixtures.database([[
      create sequence versions;
      create table t (
         id int primary key, v bigint not null default nextval('versions'), name text);
      insert into t select generate_series(1, %d)]], options.rows or contract_case.ROWS)
   self.how = {
      dsn = self.db, state = fixtures.state(),
      script = ([[%s %s
         pgcdc.source {table = "t", interval = 0.02, deletes = true, %s}:sink(sink)]]):format(
         self.driver.script(target, tag, options.fields), options.script or "",
         options.source or ""),
   }
   return self
end

-- New versions of the rows for which a condition is true.
function methods:update(condition)
   self.db:exec("update t set v = nextval('versions') where " .. condition)
end

-- The same, with versions that begin with the mark.
function methods:mark(condition)
   self.db:exec(("update t set v = %s0000 + nextval('versions') where %s"):format(
      contract_case.MARK, condition))
end

-- Runs the program with --once, which must end well.
function methods:once(more)
   return once.ok(self.how, more)
end

-- The same with a wrong clock, that is `seconds` slow. Returns the program before its end.
function methods:start_slow(seconds, more)
   return program.start(tables.merge(self.how, {
      options = tables.join({ "--once" }, more), env = { SABOTAGE_CLOCK = "-" .. seconds },
      binary = program.binary() .. "-sabotaged",
   }))
end

-- Compares what is in the target with the table. `promise`: that counts here; by default the
-- driver's.
function methods:check(promise)
   contract.check(self.driver, self.target, self.tag, self.db, "case of " .. self.tag, promise)
end

-- Waits until the target has what the table has. `what`: after what.
function methods:await(what)
   local why
   wait.until_(function()
      local ok, problem = pcall(self.check, self)
      why = type(problem) == "table" and problem.msg or tostring(problem)
      return ok
   end, 20, function() return ("what came after %s:\n%s"):format(what, why) end)
end

return contract_case
