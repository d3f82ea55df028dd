-- slot: what capture = "logical" needs on the server: installs it, removes it, tells of it.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"
local plan = require "pgcdc.postgres.plan"
local slot = require "pgcdc.postgres.slot"

local options = bundled.own_options {
   { "table", pgcdc.required, "one, or several with commas between" },
   { "action", pgcdc.required, "install, remove, status, or print: install's SQL, not run" },
   { "publication", "pgcdc", "what is to have the tables" },
   { "slot", "", "the replication slot; default: those that sources make unless they name one" },
   { "pk", "", "columns that identify a row; default: the primary key" },
   { "readers", "", "roles, with commas between, that sources connect as" },
   { "tries", 60, "how often a table that is in use is tried" },
}

local db = pgcdc.connect()
local readers = bundled.list(options.readers)
local actions = {}

local function look()
   return slot.look(db, bundled.list(options.table) or bundled.usage "table must not be empty", {
      publication = options.publication, slot = options.slot, pk = bundled.names(options.pk),
   })
end

function actions.install(seen)
   plan.run(db, slot.install(db, seen, readers), options.tries, pgcdc.log.info)
   for _, statement in ipairs(slot.permissions(db, readers)) do
      pgcdc.log.warn(("a role may not read the log yet: %s (on RDS: GRANT rds_replication TO it)")
         :format(statement))
   end
   print((slot.status(look())))
end

function actions.remove(seen)
   plan.run(db, slot.remove(seen, options), options.tries, pgcdc.log.info)
   print(slot.left(look()))
end

function actions.status(seen)
   local text, is_healthy = slot.status(seen)
   print(text)
   pgcdc.stop(is_healthy and 0 or 1)
end

function actions.print(seen)
   local steps = slot.install(db, seen, readers)
   for _, statement in ipairs(slot.permissions(db, readers)) do
      steps[#steps + 1] = { alone = statement }
   end
   print(plan.text(steps))
end

local action = actions[options.action]
   or bundled.usage "action must be install, remove, status or print"
plan.explain(function()
   action(look())
end, slot.allowed)
