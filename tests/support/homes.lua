-- homes.lua: with $PGCDC_TEST_STATE=database, what tests take for state files is in a database.
-- SPDX-License-Identifier: MIT
--
-- Each path of a state file stands for a pipeline, in one database that all tests of this process
-- share. What belongs to the machine is in the folder of that path.

local cluster = require "cluster"

local homes = {}

homes.are_databases = os.getenv "PGCDC_TEST_STATE" == "database"

local home
local names, count, users = {}, 0, {} -- by path: what it is called, the program that used it last

local function open()
   home = home or cluster.main():database { name = "home", keep = true }
   return home
end

-- The lease of a program that was killed is over, as it would be after a while.
local function expire(path)
   local last = users[path]
   if last and not last:alive() then
      open():exec(([[do $$ begin if to_regclass('pgcdc.lease') is not null then
         update pgcdc.lease set expires = now() where pipeline = '%s'; end if; end $$]])
         :format(names[path]))
   end
end

-- The options of a program that has its state there, and its environment, for program.lua. <p>: the
-- program that is started.
function homes.options(path, p)
   if not homes.are_databases or not path or not path:find "^/" then
      return path and { "--state", path } or {}, {}
   end
   if not names[path] then
      count = count + 1
      names[path] = "p" .. count
   end
   expire(path)
   users[path] = p
   return { "--state", open():dsn(), "--name", names[path] },
      { XDG_STATE_HOME = path:match "^(.*)/" }
end

return homes
