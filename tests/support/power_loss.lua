-- power_loss.lua: what a power loss may leave of files that a program wrote.
-- SPDX-License-Identifier: MIT
--
-- The program's writes are recorded by saboteur.c. A power loss at some moment leaves of each file
-- what was written before its last sync, and any part of what was written since: each later
-- write is there, is not, or is torn, whole sectors of it; lengths likewise. Of each folder it
-- leaves the names as they were at its last sync, and any of the changes since: a file that was
-- made is not there, one that was renamed has its old name, one that was deleted is back.

local files = require "files"
local native = require "native"

local power_loss = {}

local SECTOR = 512

-- The recorded steps: {what =, name =, file =, at =, data =}; what = make: a file or a folder; of a
-- rename, data is the new name. A file is the same one when it is renamed.
function power_loss.read(path)
   local text = assert(files.read(path))
   local steps, known, pos = {}, {}, 1
   while pos <= #text do
      local what, at, len, name, stop = text:match("^(%l+) (%d+) (%d+) ([^\n]+)\n()", pos)
      assert(what, "the record is not understood")
      pos = stop + len
      local step = { what = what, name = name, at = math.tointeger(tonumber(at)),
                     data = text:sub(stop, pos - 1) }
      if what == "open" and not known[name] then
         step.what = "make"
      elseif what == "mkdir" then
         step.what, known[name] = "make", { is_folder = true }
      end
      known[name] = known[name] or {}
      step.file = known[name]
      if what == "rename" then
         known[name], known[step.data] = nil, known[name]
      elseif what == "unlink" then
         known[name] = nil
      end
      steps[#steps + 1] = step
   end
   return steps
end

local function folder_of(name)
   return name:match "^(.*)/[^/]*$" or "."
end

local function overwritten(text, at, data)
   if #text < at then
      text = text .. ("\0"):rep(at - #text)
   end
   return text:sub(1, at) .. data .. text:sub(at + #data + 1)
end

-- Some of the sectors of a write, at random.
local function torn(text, step)
   local pos = 1
   while pos <= #step.data do
      local len = SECTOR - (step.at + pos - 1) % SECTOR
      if math.random(2) == 1 then
         text = overwritten(text, step.at + pos - 1, step.data:sub(pos, pos + len - 1))
      end
      pos = pos + len
   end
   return text
end

-- What a file has in it after a step, or after what is left of the step.
local function applied(text, step, is_certain)
   local luck = is_certain and 1 or math.random(3)
   if luck == 1 and step.what == "write" then
      return overwritten(text, step.at, step.data)
   elseif luck == 2 and step.what == "write" then
      return torn(text, step)
   elseif luck == 1 and step.what == "cut" then
      return #text > step.at and text:sub(1, step.at) or overwritten(text, step.at, "")
   end
   return text
end

local changes_names = { make = true, unlink = true, rename = true }

-- The names that are there, name -> file, after the first <n> steps. Of one name no later change
-- is there without the earlier ones.
local function names_left(steps, n, synced)
   local names, is_old = {}, {}
   for i = 1, n do
      local step = steps[i]
      local from, to = step.name, step.what == "rename" and step.data or step.name
      local is_certain = i < (synced[folder_of(from)] or 0)
      local is_lost = not is_certain and (is_old[from] or is_old[to] or math.random(2) == 1)
      if changes_names[step.what] and is_lost then
         is_old[from], is_old[to] = true, true
      elseif changes_names[step.what] then
         names[from] = nil
         names[to] = step.what ~= "unlink" and step.file or nil
      end
   end
   return names
end

-- Makes in <folder> what a power loss right after step <n> may leave.
function power_loss.image(steps, n, folder)
   local synced, texts, sorted = {}, {}, {}
   for i = 1, n do
      if steps[i].what == "sync" then
         synced[steps[i].file], synced[steps[i].name] = i, i
      end
   end
   for i = 1, n do
      local file = steps[i].file
      texts[file] = applied(texts[file] or "", steps[i], i < (synced[file] or 0))
   end
   local names = names_left(steps, n, synced)
   for name in pairs(names) do
      sorted[#sorted + 1] = name
   end
   table.sort(sorted) -- folders before what is in them
   local folders = { ["."] = true }
   for _, name in ipairs(sorted) do
      local path, file = folder .. "/" .. name, names[name]
      if folders[folder_of(name)] and file.is_folder then
         folders[name] = assert(native.mkdir(path))
      elseif folders[folder_of(name)] then
         files.write(path, texts[file])
      end
   end
end

return power_loss
