-- tree.lua: what lint knows of files: their lines, what they say without comments, who offends.
-- SPDX-License-Identifier: MIT

local tree = { offences = 0 }

--- Prints an offence: FILE:LINE: RULE, or FILE: RULE where `line` is nil.
function tree.report(where, line, ...)
   tree.offences = tree.offences + 1
   io.write(line and ("%s:%d"):format(where, line) or where, ": ", string.format(...), "\n")
end

--- The lines that a command prints, and whether it succeeded.
function tree.capture(command)
   local pipe = assert(io.popen(command))
   local lines = {}
   for line in pipe:lines() do
      lines[#lines + 1] = line
   end
   return lines, pipe:close()
end

--- The files that `find ARGUMENTS` finds, sorted; none where a folder is not there.
function tree.find(arguments)
   return (tree.capture("find " .. arguments .. " -type f 2>/dev/null | LC_ALL=C sort"))
end

--- The text of a file; "" if it is not there.
function tree.read(path)
   local f = io.open(path, "rb")
   local text = f and f:read "a" or ""
   if f then
      f:close()
   end
   return text
end

function tree.lines(text)
   local lines = {}
   for line in (text:find "\n$" and text or text .. "\n"):gmatch "([^\n]*)\n" do
      lines[#lines + 1] = line
   end
   return lines
end

local function blank(part)
   return (part:gsub("[^\n]", " "))
end

-- Where the quoted text that begins at `from` ends.
local function end_of_quote(text, from)
   local quote, to = text:sub(from, from), from + 1
   while to <= #text and text:sub(to, to) ~= quote do
      to = to + (text:sub(to, to) == "\\" and 2 or 1)
   end
   return to
end

--- C without what stands in quotes and, unless `keeps_comments`, without comments: blanks are in
--- their place, so that lines and columns stay what they were.
function tree.strip_c(text, keeps_comments)
   local out, at = {}, 1
   while true do
      local from = text:find("[\"'/]", at)
      if not from then
         break
      end
      local two, to, keep = text:sub(from, from + 1), from, false
      if two == "/*" then
         to, keep = select(2, text:find("*/", from + 2, true)) or #text, keeps_comments
      elseif two == "//" then
         to, keep = (text:find("\n", from, true) or #text + 1) - 1, keeps_comments
      elseif text:sub(from, from) ~= "/" then
         to = end_of_quote(text, from)
      end
      out[#out + 1] = text:sub(at, from - 1)
      local part = text:sub(from, to)
      out[#out + 1] = (keep or to == from) and part or blank(part)
      at = to + 1
   end
   out[#out + 1] = text:sub(at)
   return table.concat(out)
end

--- Lua without what stands in quotes. (Comments stay; long strings count as comments do.)
function tree.strip_lua(text)
   local lines = tree.lines(text)
   for i, line in ipairs(lines) do
      local out, at = {}, 1
      while true do
         local from = line:find("[\"']", at)
         local comment = line:find("--", at, true)
         if not from or comment and comment < from then
            break
         end
         local to = end_of_quote(line, from)
         out[#out + 1] = line:sub(at, from - 1)
         out[#out + 1] = blank(line:sub(from, to))
         at = to + 1
      end
      lines[i] = table.concat(out) .. line:sub(at)
   end
   return table.concat(lines, "\n")
end

return tree
