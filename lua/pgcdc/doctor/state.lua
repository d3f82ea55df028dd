-- pgcdc.doctor.state: whether positions can be kept where a run would keep them.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local mend = require "pgcdc.mend"
local refused = require "pgcdc.postgres.refused"
local workers = require "pgcdc.stream.workers"

local state = {}

local function folder_of(path)
   local folder = path:match "^(.*)/[^/]*$"
   return folder == "" and "/" or folder or "."
end

-- What of the path is there: the file, or the folder in which the first thing would be made.
local function existing(path)
   local kind = raw.file_stat(path)
   while not kind and path ~= "/" and path ~= "." do
      path = folder_of(path)
      kind = raw.file_stat(path)
   end
   return path, kind
end

local function of_file(item, path)
   local there, kind = existing(path)
   if workers.is_used() then
      item.ok, item.text = false, workers.NEEDS_DATABASE
   elseif there == path and kind == "folder" then
      item.ok, item.text = false, ("the state file %s is a folder: name a file in it"):format(path)
   elseif there ~= path and kind ~= "folder" then
      item.ok, item.text = false, ("the state file %s: %s is no folder"):format(path, there)
   else
      local ok, problem = pcall(raw.file_check_write, there)
      item.ok, item.text = ok, ok and (there == path and "is there" or "would be made")
         or "the state file: " .. problem
      if not ok then
         item.mends = { mend.shell(("chmod u+w %s || sudo chown \"$(id -un)\" %s"):format(
            mend.quoted(there), mend.quoted(there))) }
      end
   end
end

-- What mends a database that cannot keep it: what it said names the statements.
local function of_text(text, database)
   local create = text:match "(GRANT CREATE ON DATABASE .-), or let its owner run "
   if create then
      return { mend.sql(database, create) }
   elseif text:find "brings them up to date with" then
      return { mend.shell("pgcdc-lua state action=install state="
         .. mend.quoted("dbname=" .. database)) }
   end
   local mends = {}
   for grant in (text:match "GRANT USAGE .*" or ""):gmatch "[^;]+" do
      mends[#mends + 1] = mend.sql(database, (grant:gsub("^ ", "")))
   end
   return mends[1] and mends or refused.mends(text)
end

local function of_database(item)
   local database
   item.ok, item.text, database = raw.state_look()
   if not item.ok then
      item.mends = of_text(item.text, database)
   elseif workers.is_used() then
      item.text = ("each partition has a pipeline there: %s/0 and so on"):format(item.name)
   end
end

--- An item (see pgcdc.doctor.doctor), or nil where nothing would be kept. `has_sources`: there is
--- something to keep. Makes nothing.
function state.examine(has_sources)
   local path = raw.state_asked
   if not has_sources or not path then
      return nil
   end
   local item = { kind = "state", name = path, mends = {}, warnings = {} }
   if raw.pipeline_name then
      of_database(item)
   else
      of_file(item, path)
   end
   return item
end

return state
