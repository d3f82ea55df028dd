-- power_loss.lua: what a power loss may leave of files that a program wrote.
-- SPDX-License-Identifier: MIT
--
-- The program's writes are recorded by saboteur.c. A power loss at some moment leaves of each file
-- what was written before its last sync, and any part of what was written since: each later
-- write is there, is not, or is torn, whole sectors of it; lengths likewise. That a file was
-- made, renamed or is gone is taken for lasting at once: SQLite and our sinks sync the folder.

local power_loss = {}

local SECTOR = 512

-- The recorded steps: {what =, file =, at =, data =}; a file is the same one when it is renamed.
function power_loss.read(path)
   local f = assert(io.open(path, "rb"))
   local text = f:read "a"
   f:close()
   local steps, files, pos = {}, {}, 1
   while pos <= #text do
      local what, at, len, name, stop = text:match("^(%l+) (%d+) (%d+) ([^\n]+)\n()", pos)
      assert(what, "the record is not understood")
      pos = stop + len
      local step = {what = what, name = name, at = math.tointeger(tonumber(at)),
                    data = text:sub(stop, pos - 1)}
      files[name] = files[name] or {}
      step.file = files[name]
      if what == "rename" then
         files[name], files[step.data] = nil, files[name]
      elseif what == "unlink" then
         files[name] = nil
      end
      steps[#steps + 1] = step
   end
   return steps
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

-- What a file has in it behind a step, or behind what is left of it.
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

-- Makes in <folder> the files that a power loss right behind step <n> may leave.
function power_loss.image(steps, n, folder)
   local synced, texts, names = {}, {}, {}
   for i = 1, n do
      if steps[i].what == "sync" then
         synced[steps[i].file] = i
      end
   end
   for i = 1, n do
      local step = steps[i]
      local file = step.file
      if step.what == "unlink" then
         names[step.name] = nil
      elseif step.what == "rename" then
         names[step.name], names[step.data] = nil, file
      elseif step.what ~= "sync" then
         names[step.name] = file
         texts[file] = applied(texts[file] or "", step, i < (synced[file] or 0))
      end
   end
   for name, file in pairs(names) do
      local f = assert(io.open(folder .. "/" .. name, "wb"))
      assert(f:write(texts[file]))
      assert(f:close())
   end
end

return power_loss
