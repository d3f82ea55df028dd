-- state: makes room for states in a database, carries one elsewhere, shows it, takes it away.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"
local homes = require "pgcdc.homes"
local plan = require "pgcdc.postgres.plan"
local state_tables = require "pgcdc.postgres.state_tables"

local options = bundled.own_options {
   { "action", pgcdc.required, "install, print (install's SQL, not run), copy, export, remove" },
   { "state", "", "but for copy: the database or the file, as --state says it" },
   { "from", "", "copy: the file or database where the state is" },
   { "to", "", "copy: where it is to be, and goes on" },
   { "name", "", "of the pipeline in a database; default: the file's name without .db" },
   { "roles", "", "install: roles, with commas between, that programs connect as" },
}

local actions = {}

local function home(option)
   return options[option] ~= "" and options[option]
      or bundled.usage(("%s: say where, as --state does: a file or a database"):format(option))
end

-- Calls f with a plan that makes what is missing, and its connection.
local function with_plan(f)
   plan.explain(function()
      local db = pgcdc.connect(home "state")
      f(state_tables.install(db, bundled.list(options.roles)), db)
   end, state_tables.allowed)
end

function actions.install()
   with_plan(function(steps, db)
      plan.run(db, steps, 1, function(statement)
         pgcdc.log.info(statement:match "^[^\n(]*") -- print() would show it later
      end)
   end)
   print "states can be kept there"
end

function actions.print()
   with_plan(function(steps)
      print(plan.text(steps))
   end)
end

function actions.copy()
   print(homes.copy(home "from", home "to", options.name))
end

function actions.export()
   homes.export(home "state", options.name, print)
end

function actions.remove()
   print(homes.remove(home "state", options.name))
end

(actions[options.action] or bundled.usage "action must be install, print, copy, export or remove")()
