-- trigger: what capture = "trigger" needs on the server: installs it, removes it, tells of it.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"
local plan = require "pgcdc.postgres.plan"
local trigger = require "pgcdc.postgres.trigger"

local options = bundled.own_options {
   { "table", pgcdc.required, "one, or several with commas between" },
   { "action", pgcdc.required, "install, remove, status, prune, or print: install's SQL, not run" },
   { "pk", "", "columns that identify a row; default: the primary key" },
   { "notify", true, "wake sources at each commit; NOTIFY forbids PREPARE TRANSACTION" },
   { "readers", "", "roles, with commas between, that sources connect as" },
   { "older_than", "7d", "prune: forget deletes that are older than so many s, m, h or d" },
   { "tries", 60, "how often a table that is in use is tried" },
}

local db = pgcdc.connect()
local actions = {}

local function say(statement)
   pgcdc.log.info(statement:match "^[^\n]*") -- print() would show it later
end

local function install(t)
   return trigger.install(db, t, { key = bundled.names(options.pk), notify = options.notify,
                                   readers = bundled.list(options.readers) })
end

function actions.install(t)
   plan.run(db, install(t), options.tries, say)
   actions.status(trigger.look(db, t.name))
end

function actions.remove(t)
   plan.run(db, trigger.remove(db, t), options.tries, say)
   actions.status(trigger.look(db, t.name))
end

function actions.status(t)
   print(trigger.status(db, t))
end

function actions.print(t)
   print(plan.text(install(t)))
end

function actions.prune(t)
   local seconds = trigger.seconds(options.older_than) or bundled.usage "older_than: say 7d or 30m"
   print(("%s: %d deletes forgotten"):format(t.name, trigger.prune(db, t, seconds)))
end

local action = actions[options.action]
   or bundled.usage "action must be install, remove, status, prune or print"
plan.explain(function()
   for _, t in ipairs(trigger.look_all(db, bundled.list(options.table))) do
      action(t)
   end
end, trigger.allowed)
