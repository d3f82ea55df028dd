-- homes.lua: with $PGCDC_TEST_STATE=database, what tests take for state files is in a database.
-- SPDX-License-Identifier: MIT
--
-- Each path of a state file stands for a pipeline, in one database that all tests of this process
-- share. What belongs to the machine is in the folder of that path.

local cluster = require "cluster"
local files = require "files"
local lu = require "luaunit"

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

local function name_of(path)
   if not names[path] then
      count = count + 1
      names[path] = "p" .. count
   end
   return names[path]
end

local function is_in_database(path)
   return homes.are_databases and path and path:find "^/" ~= nil
end

--- The rest of a test is about state files, or about two runs that share one by mistake.
function homes.for_files()
   lu.skipIf(homes.are_databases, "this is about state files")
end

--- The path of the state file, or of what a program has on its machine in place of it.
function homes.place(path)
   return is_in_database(path) and ("%s/pgcdc-lua/%s.db"):format(path:match "^(.*)/", name_of(path))
      or path
end

-- What is kept of one pipeline, as that of another one, in place of what is kept of that.
local function replace(from, to)
   for _, name in ipairs { "state", "state_rows" } do
      open():exec(([[do $$ begin if to_regclass('pgcdc.lease') is not null then
         create temporary table copied as select * from pgcdc.%s where pipeline = '%s';
         update copied set pipeline = '%s';
         delete from pgcdc.%s where pipeline = '%s';
         insert into pgcdc.%s select * from copied;
         drop table copied; end if; end $$]]):format(name, from, to, name, to, name))
   end
end

--- All that is kept there, to be put back; nobody is at work on it.
function homes.copy(path)
   if is_in_database(path) then
      count = count + 1
      replace(name_of(path), "copy" .. count)
      return "copy" .. count
   end
   local copy = {}
   for _, ending in ipairs { "", "-wal", ".image" } do
      copy[ending] = files.read(path .. ending)
   end
   return copy
end

--- Puts it back, or to another path.
function homes.back(path, copy)
   if is_in_database(path) then
      return replace(copy, name_of(path))
   end
   for _, ending in ipairs { "", "-wal", ".image" } do
      if copy[ending] then
         files.write(path .. ending, copy[ending])
      else
         os.remove(path .. ending)
      end
   end
end

--- Forgets the records of this kind.
function homes.forget(path, kind)
   if is_in_database(path) then
      return open():exec(("delete from pgcdc.state where pipeline = '%s' and kind = '%s'"):format(
         name_of(path), kind))
   end
   local p = assert(io.popen(("sqlite3 '%s' \"DELETE FROM kept WHERE kind = '%s'\" 2>&1"):format(
      path, kind)))
   local said = p:read "a"
   p:close()
   assert(said == "", said)
end

-- The options of a program that has its state there, and its environment, for program.lua. <p>: the
-- program that is started.
function homes.options(path, p)
   if not is_in_database(path) then
      return path and { "--state", path } or {}, {}
   end
   expire(path)
   users[path] = p
   return { "--state", open():dsn(), "--name", name_of(path) },
      { XDG_STATE_HOME = path:match "^(.*)/" }
end

return homes
