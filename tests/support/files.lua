-- files.lua: whole files, read and written.
-- SPDX-License-Identifier: MIT

local native = require "native"

local files = {}

-- The bytes of a file, nil if it cannot be read.
function files.read(path)
   local f = io.open(path, "rb")
   local text = f and f:read "a"
   if f then
      f:close()
   end
   return text
end

-- The bytes of a file that must be there.
function files.text(path)
   return files.read(path) or error("cannot read " .. path, 2)
end

-- How many bytes a file has, 0 if there is none.
function files.size(path)
   local f = io.open(path, "rb")
   local size = f and f:seek "end" or 0
   if f then
      f:close()
   end
   return size
end

-- The lines of a file, or what <each> makes of them.
function files.lines(path, each)
   local lines = {}
   for line in io.lines(path) do
      lines[#lines + 1] = each and each(line) or line
   end
   return lines
end

-- The names in a folder, sorted.
function files.names(folder)
   local names = assert(native.listdir(folder))
   table.sort(names)
   return names
end

-- Makes a file of these bytes, or replaces it.
function files.write(path, text)
   local f = assert(io.open(path, "wb"))
   assert(f:write(text))
   assert(f:close())
end

return files
