-- pgcdc.postgres.plan: SQL that changes what is on a server, step by step.
-- SPDX-License-Identifier: MIT
--
-- A plan is a list of steps, in their order. {a statement, ...} is one transaction, which waits for
-- its locks for a second only and is tried again, so that other sessions never wait long for it;
-- {alone = statement} is a statement outside of any transaction. A plan has only what is missing:
-- where one has failed, a new plan is the rest of it.

local raw = require "pgcdc.raw"

local plan = {}

local LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"

local function run_once(db, step)
   if step.alone then
      return db:exec(step.alone)
   end
   db:transaction(function()
      db:exec "SET LOCAL lock_timeout = '1s'"
      for _, statement in ipairs(step) do
         db:exec(statement)
      end
   end)
end

--- Runs a plan. `tries`: how often a step is tried that finds the table in use; `say`: is called
--- with each statement that was done, and with a message when a step is tried again. Blocks; raises
--- the error of a step.
function plan.run(db, steps, tries, say)
   for _, step in ipairs(steps) do
      for try = 1, tries do
         local ok, problem = pcall(run_once, db, step)
         if ok then
            break
         end
         local is_passing = tostring(problem):find(LOCK_NOT_AVAILABLE, 1, true)
            or tostring(problem):find(DEADLOCK, 1, true)
         if not is_passing or try == tries then
            error(problem, 0)
         end
         say(("the table is in use: trying again (%d of %d)"):format(try + 1, tries))
         db:query("SELECT pg_sleep($1)", math.min(try, 5) * 0.5)
      end
      for _, statement in ipairs(step.alone and { step.alone } or step) do
         say(statement)
      end
   end
end

--- Calls f(). Ends the program with status 3 and one line if the server, or a table, does not allow
--- it. `allowed`: to whom it allows it.
function plan.explain(f, allowed)
   local ok, problem = pcall(f)
   if ok then
      return
   elseif type(problem) ~= "string" then
      error(problem, 0)
   end
   local text = problem:gsub("^.-:%d+: db:%l+: ", ""):gsub("^db:%l+: ", "")
   if text:find("(42501)", 1, true) then
      text = text .. ": " .. allowed
   end
   raw.refuse(text)
end

--- The plan as a script for psql.
function plan.text(steps)
   local lines = {}
   for _, step in ipairs(steps) do
      if step.alone then
         lines[#lines + 1] = step.alone .. ";"
      else
         lines[#lines + 1] = "BEGIN;\nSET LOCAL lock_timeout = '1s';"
         for _, statement in ipairs(step) do
            lines[#lines + 1] = statement .. ";"
         end
         lines[#lines + 1] = "COMMIT;"
      end
   end
   return table.concat(lines, "\n")
end

return plan
