-- pgcdc.doctor.state: whether positions can be kept where a run would keep them.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local mend = require "pgcdc.mend"

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

--- An item (see pgcdc.doctor.doctor), or nil where nothing would be kept. `has_sources`: there is
--- something to keep. Makes nothing.
function state.examine(has_sources)
   local path = raw.state_asked
   if not has_sources or not path then
      return nil
   end
   local item = { kind = "state", name = path, ok = true, mends = {}, warnings = {} }
   local there, kind = existing(path)
   if there == path and kind == "folder" then
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
   return item
end

return state
