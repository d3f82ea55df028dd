-- lint.lua: holds the source against the rules of the house; `make lint`.
-- SPDX-License-Identifier: MIT
--
-- Runs in the top folder. The rooms of src/ and their floors are those of the
-- Makefile's ROOMS_n. $FLAGS is what the compilers get. Prints one line for each offence,
-- FILE:LINE: RULE, and exits with 1 if there is any.

local max_lines, max_columns = 600, 100

-- Which floors, or which rooms, may include a library's header.
local walls = {
   ["lua.h"] = { floors = { ["4"] = true, ["5"] = true } },
   ["lauxlib.h"] = { floors = { ["4"] = true, ["5"] = true } },
   ["lualib.h"] = { floors = { ["4"] = true, ["5"] = true } },
   ["libpq-fe.h"] = { rooms = { dial = true, pulse = true, db_rows = true, db = true } },
   ["sqlite3.h"] = { rooms = { store = true, image = true, known = true } },
   ["jansson.h"] = { rooms = { json = true } },
   ["openssl/evp.h"] = { rooms = { hash = true } },
}

local banned = {
   "strcpy", "strcat", "sprintf", "vsprintf", "strtok", "atoi", "atol", "atoll", "atof", "gets",
   "localtime", "gmtime",
}

-- What may stand in the top folder besides dotfiles; build/ is never committed.
local top_level = {
   src = true, lua = true, scripts = true, tests = true, build = true,
   Makefile = true, ["README.md"] = true, LICENSE = true,
}

local offences = 0

local function report(where, line, ...)
   offences = offences + 1
   io.write(line and ("%s:%d"):format(where, line) or where, ": ", string.format(...), "\n")
end

-- The lines a command prints, and whether it succeeded.
local function capture(command)
   local pipe = assert(io.popen(command))
   local lines = {}
   for line in pipe:lines() do
      lines[#lines + 1] = line
   end
   return lines, pipe:close()
end

local function read_lines(path)
   local lines = {}
   for line in io.lines(path) do
      lines[#lines + 1] = line
   end
   return lines
end

-- room -> {floor =, rank =}, from the Makefile.
local function read_rooms()
   local rooms, rank = {}, 0
   local text = "\n" .. table.concat(read_lines "Makefile", "\n"):gsub("\\\n", " ")
   for floor, names in text:gmatch "\nROOMS_(%d+) = ([^\n]*)" do
      for name in names:gmatch "%S+" do
         rank = rank + 1
         rooms[name] = { floor = floor, rank = rank }
      end
   end
   return rooms
end

-- The lines of C without comments and what stands in quotes, so that words there do not count.
local function strip(lines)
   local text = table.concat(lines, "\n") .. "\n"
   local function blank(part)
      return (part:gsub("[^\n]", " "))
   end
   local out, at = {}, 1
   while true do
      local from = text:find("[\"'/]", at)
      if not from then
         break
      end
      local to
      local two = text:sub(from, from + 1)
      if two == "/*" then
         to = select(2, text:find("*/", from + 2, true))
      elseif two == "//" then
         to = text:find("\n", from, true) - 1
      elseif text:sub(from, from) ~= "/" then
         local quote = text:sub(from, from)
         to = from + 1
         while text:sub(to, to) ~= quote do
            to = to + (text:sub(to, to) == "\\" and 2 or 1)
         end
      end
      to = to or from
      out[#out + 1] = text:sub(at, from - 1)
      out[#out + 1] = to > from and blank(text:sub(from, to)) or text:sub(from, to)
      at = to + 1
   end
   out[#out + 1] = text:sub(at)
   local stripped = {}
   for line in table.concat(out):gmatch "([^\n]*)\n" do
      stripped[#stripped + 1] = line
   end
   return stripped
end

local function check_title(path, lines, room)
   local name = path:match "[^/]*$"
   local title, floor = (lines[1] or ""):match "^/%* (%S+) %-%- .*%S%s+floor (%d)$"
   if title ~= name then
      report(path, 1, "the first line must be \"/* %s -- its job.  floor N\"", name)
   elseif floor ~= room.floor then
      report(path, 1, "says floor %s, the Makefile says %s", floor, room.floor)
   end
end

-- The members of a set, sorted.
local function names_of(set)
   local names = {}
   for name in pairs(set) do
      names[#names + 1] = name
   end
   table.sort(names)
   return table.concat(names, ", ")
end

local function check_includes(path, lines, name, rooms)
   local is_header = path:find "%.h$"
   for i, line in ipairs(lines) do
      local own = line:match '^%s*#%s*include%s*"([^"]*)"'
      local header = line:match "^%s*#%s*include%s*<([^>]*)>"
      local other = own and rooms[own:match "^(.*)%.h$" or own]
      local wall = walls[header]
      if own and not other then
         report(path, i, "%s is no room's header", own)
      elseif own and (other.rank > rooms[name].rank or is_header and other == rooms[name]) then
         report(path, i, "%s stands behind %s in the Makefile's list of rooms", own, name)
      elseif wall and not (wall.floors or {})[rooms[name].floor]
         and not (wall.rooms or {})[name] then
         report(path, i, "only %s may include <%s>",
            wall.rooms and names_of(wall.rooms) or "floors 4 and 5", header)
      end
   end
end

local function check_calls(path, lines)
   local throws = false -- whether the function we are in takes a lua_State
   for i, line in ipairs(strip(lines)) do
      if line:find "^[%a_].*%(" then
         throws = line:find "lua_State *" ~= nil
      end
      for _, name in ipairs(banned) do
         if line:find("%f[%w_]" .. name .. "%s*%(") then
            report(path, i, "%s is banned", name)
         end
      end
      if line:find "%f[%w_]lua_callk?%s*%(" and not throws then
         report(path, i, "lua_call in a function that takes no lua_State: nobody catches")
      end
   end
end

local function check_rooms(rooms)
   for _, path in ipairs((capture "find src -type f | LC_ALL=C sort")) do
      local name = path:match "^src/([%w_]+)%.[ch]$"
      if path ~= "src/README.md" and not rooms[name] then
         report(path, nil, "belongs to none of the Makefile's rooms")
      elseif rooms[name] then
         local lines = read_lines(path)
         check_title(path, lines, rooms[name])
         check_includes(path, lines, name, rooms)
         check_calls(path, lines)
      end
   end
   for name in pairs(rooms) do
      local f = io.open("src/" .. name .. ".c") or io.open("src/" .. name .. ".h")
      if f then
         f:close()
      else
         report("Makefile", nil, "there is no room %s in src/", name)
      end
   end
end

local function check_text()
   local find = "find .ci .luacheckrc Makefile src lua scripts tests -type f"
      .. " ! -path 'tests/fuzz/corpus/*' 2>/dev/null" -- any bytes at all
   for _, path in ipairs((capture(find .. " | LC_ALL=C sort"))) do
      local lines = read_lines(path)
      local has_licence = false
      for i, line in ipairs(lines) do
         has_licence = has_licence or line:find "SPDX%-License%-Identifier: MIT" ~= nil
         if (utf8.len(line) or #line) > max_columns then
            report(path, i, "more than %d columns", max_columns)
         end
         if line:find "%s$" then
            report(path, i, "blanks at the end")
         end
         if line:find "\t" and path ~= "Makefile" and not path:find "%.mk$" then
            report(path, i, "a tab")
         end
      end
      if #lines > max_lines then
         report(path, nil, "%d lines; a file has at most %d", #lines, max_lines)
      end
      if not has_licence and not path:find "%.md$" then
         report(path, nil, "no line SPDX-License-Identifier: MIT")
      end
   end
end

local function check_top_level()
   for _, name in ipairs((capture "ls")) do
      if not top_level[name] then
         report(name, nil, "has no place in the top folder")
      end
   end
end

-- Runs a tool whose own lines are the offences.
local function run_tool(command)
   local lines, ok = capture(command .. " 2>&1")
   if not ok then
      offences = offences + 1
      io.write(table.concat(lines, "\n"), "\n")
   end
end

local function check_tools()
   for _, cc in ipairs { "gcc", "clang" } do
      if os.execute("command -v " .. cc .. " >/dev/null") then
         run_tool(("%s %s -Werror -fsyntax-only src/*.c"):format(cc, os.getenv "FLAGS" or ""))
      end
   end
   run_tool "luacheck --no-color --quiet --codes lua scripts tests"
end

local function read_file(path)
   local f = io.open(path)
   local text = f and f:read "a" or ""
   if f then
      f:close()
   end
   return text
end

-- The words that the pieces of code in a page's tables begin with, as a set: of `a.b(c)` a and b.
local function words_of_tables(text)
   local words = {}
   for row in text:gmatch "\n(|[^\n]*)" do
      for code in row:gmatch "`([^`]*)`" do
         for word in (code:match "^[%w_.:]+" or ""):gmatch "[%w_]+" do
            words[word] = true
         end
      end
   end
   return words
end

-- What scripts may use is annotated for editors, and stands in a table of the README.
local function check_exports()
   local names, ok = capture "lua5.4 tests/lint/exports.lua 2>&1"
   if not ok then
      report("tests/lint/exports.lua", nil, "%s", table.concat(names, "\n"))
      return
   end
   local meta = "\n" .. read_file "lua/pgcdc/meta.lua"
   local words = words_of_tables(read_file "README.md")
   for _, name in ipairs(names) do
      local last = name:match "[%w_]+$"
      local as = name:gsub("^stream:", "Stream:"):gsub("^db:", "Connection:")
         :gsub("^pgcdc%.sinks%.", "sinks.")
      local pattern = as:gsub("%.", "%%.")
      if not meta:find("\nfunction " .. pattern .. "%(")
         and not meta:find("\n" .. pattern .. " =") then
         report("lua/pgcdc/meta.lua", nil, "says nothing of %s", name)
      end
      if not words[last] then
         report("README.md", nil, "no table names %s", name)
      end
   end
end

-- tests/README.md names every suite, and none, and no test, that is not there.
local function check_promises()
   local page, named, paths = "tests/README.md", {}, {}
   local found = capture "find tests -name '*_test.lua' | LC_ALL=C sort"
   for _, path in ipairs(found) do
      paths[path:match "([^/]*)_test%.lua$"] = path
   end
   for code in read_file(page):gmatch "`([%l%d_.]+)`" do
      local suite, test = code:match "^([%l%d_]+)%.?([%l%d_]*)$"
      local is_there = read_file(paths[suite] or ""):find("test_" .. (test or "") .. "%f[^%w_]")
      if (test or "") ~= "" and suite ~= "suite" and not is_there then
         report(page, nil, "there is no test %s", code)
      end
      named[suite or ""] = true
   end
   for _, path in ipairs(found) do
      if not named[path:match "([^/]*)_test%.lua$"] then
         report(page, nil, "says nothing of %s", path)
      end
   end
end

check_rooms(read_rooms())
check_exports()
check_promises()
check_text()
check_top_level()
check_tools()
if offences > 0 then
   io.write(offences, " offences\n")
   os.exit(1)
end
