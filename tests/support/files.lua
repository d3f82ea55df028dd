-- files.lua: whole files, read and written.
-- SPDX-License-Identifier: MIT

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

function files.write(path, text)
   local f = assert(io.open(path, "wb"))
   assert(f:write(text))
   assert(f:close())
end

return files
