-- hints: what hints = "wal" needs on the server: installs it, removes it, tells of it.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"
local hints = require "pgcdc.postgres.hints"
local plan = require "pgcdc.postgres.plan"

local options = bundled.own_options {
   { "table", pgcdc.required, "one, or several with commas between" },
   { "action", pgcdc.required, "install, remove, status, or print: install's SQL, not run" },
   { "readers", "", "roles, with commas between, that sources connect as" },
   { "tries", 60, "how often a step that has to wait is tried" },
}

local db = pgcdc.connect()
local readers = bundled.list(options.readers)
local actions = {}

local function say(statement)
   pgcdc.log.info(statement:match "^[^\n]*") -- print() would show it later
end

function actions.install(t)
   plan.run(db, hints.install(db, t, readers), options.tries, say)
   actions.status(hints.look(db, t.name))
end

function actions.remove(t)
   plan.run(db, hints.remove(db, t), options.tries, say)
   actions.status(hints.look(db, t.name))
end

function actions.status(t)
   print(hints.status(t))
end

function actions.print(t)
   print(plan.text(hints.install(db, t, readers)))
end

local action = actions[options.action]
   or bundled.usage "action must be install, remove, status or print"
plan.explain(function()
   local names = bundled.list(options.table) or bundled.usage "table must not be empty"
   for _, t in ipairs(hints.look_all(db, names)) do
      action(t)
   end
end, hints.allowed)
