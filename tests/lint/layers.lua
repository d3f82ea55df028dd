-- layers.lua: the folders of src/ in their order, circles of includes, walls around libraries.
-- SPDX-License-Identifier: MIT
--
-- A folder includes itself and those to its left; src/*.c may include all. x.c and x.h are one
-- unit: of two units of a folder only one may include the other, however many lie between.
-- The files of sinks/ and listen/ are modules: each includes base/ and the header of its folder
-- that says what a module is, which nobody else does but the file that loads it.

local tree = require "tree"

local layers = {}

local order = { "base", "sinks", "listen", "pg", "capture", "state", "lua", "serve", "host", "cli" }
local rank = {}
for i, folder in ipairs(order) do
   rank[folder] = i
end
local top = #order + 1 -- src/*.c
-- The folders of modules -> the file that loads them.
local modules = { sinks = "lua/native", listen = "serve/server" }

-- The folders, or the files, that may include a library's header.
local walls = {
   ["libpq-fe.h"] = { folders = { pg = true } },
   ["sqlite3.h"] = { folders = { state = true } },
   ["lua.h"] = { from = rank.lua, folders = { sinks = true } },
   ["lauxlib.h"] = { from = rank.lua, folders = { sinks = true } },
   ["lualib.h"] = { from = rank.lua },
   ["dlfcn.h"] = { files = { [modules.sinks] = true, [modules.listen] = true } },
   ["microhttpd.h"] = { folders = { listen = true } },
   ["jansson.h"] = { files = { ["lua/json"] = true, ["cli/ctl_show"] = true } },
   ["openssl/evp.h"] = { files = { ["base/hash"] = true, ["sinks/http_crypto"] = true } },
}
-- Libraries of modules: the beginnings of their headers' names.
local module_libraries = { "openssl/", "librdkafka/", "curl/", "zlib%.h", "hiredis/", "nats/",
   "nats%.h" }

local banned = {
   "strcpy", "strcat", "sprintf", "vsprintf", "strtok", "atoi", "atol", "atoll", "atof", "gets",
   "localtime", "gmtime",
}

-- "capture" and "capture/step" of "src/capture/step.c"; "" and "main" of "src/main.c".
local function place(path)
   local unit = path:match "^src/(.*)%.[ch]$"
   return unit:match "^(.*)/" or "", unit
end

local function rank_of(folder)
   return folder == "" and top or rank[folder]
end

local function check_title(path, text)
   local name = path:match "[^/]*$"
   local first = text:match "^[^\n]*"
   if first:match "^/%* (%S+) %-%- .*%S" ~= name then
      tree.report(path, 1, "the first line must be \"/* %s -- its job.\"", name)
   end
end

local function names_of(set)
   local names = {}
   for name in pairs(set) do
      names[#names + 1] = name
   end
   table.sort(names)
   return table.concat(names, ", ")
end

local function check_wall(path, i, folder, unit, header)
   local wall = walls[header]
   for _, library in ipairs(module_libraries) do
      if not wall and header and header:find("^" .. library) then
         wall = { folders = { sinks = true } }
      end
   end
   if not wall then
      return
   end
   local may = wall.from and rank_of(folder) >= wall.from
      or wall.folders and wall.folders[folder] or wall.files and wall.files[unit]
   if not may then
      tree.report(path, i, "only %s may include <%s>",
         wall.from and "folders from lua on, and sinks"
         or names_of(wall.folders or wall.files), header)
   end
end

-- Checks the includes of a file, and adds to `uses[unit][other]` where it includes other units.
local function check_includes(path, text, uses)
   local folder, unit = place(path)
   for i, line in ipairs(tree.lines(text)) do
      local own = line:match '^%s*#%s*include%s*"([^"]*)"'
      local other = own and own:match "^(.*)%.h$"
      local other_folder = other and (other:match "^(.*)/" or "")
      if own and (not other or not rank_of(other_folder) or tree.read("src/" .. own) == "") then
         tree.report(path, i, "there is no header src/%s", own)
      elseif own and modules[other_folder] and folder ~= other_folder
         and unit ~= modules[other_folder] then
         tree.report(path, i, "%s is for modules and for %s", own, modules[other_folder])
      elseif own and rank_of(other_folder) > rank_of(folder) then
         tree.report(path, i, "%s is to the right of %s/ in %s", own, folder,
            table.concat(order, ", "))
      elseif own and other ~= unit then
         uses[unit] = uses[unit] or {}
         uses[unit][other] = uses[unit][other] or { path = path, line = i }
      end
      check_wall(path, i, folder, unit, line:match "^%s*#%s*include%s*<([^>]*)>")
   end
end

-- Reports each circle once, where its last include stands.
local function check_circles(uses)
   local state, way = {}, {}
   local function visit(unit)
      state[unit] = "open"
      way[#way + 1] = unit
      local others = {}
      for other in pairs(uses[unit] or {}) do
         others[#others + 1] = other
      end
      table.sort(others)
      for _, other in ipairs(others) do
         local at = uses[unit][other]
         if state[other] == "open" then
            local from = #way
            while way[from] ~= other do
               from = from - 1
            end
            tree.report(at.path, at.line, "a circle of includes: %s > %s",
               table.concat(way, " > ", from), other)
         elseif not state[other] then
            visit(other)
         end
      end
      way[#way] = nil
      state[unit] = "done"
   end
   local units = {}
   for unit in pairs(uses) do
      units[#units + 1] = unit
   end
   table.sort(units)
   for _, unit in ipairs(units) do
      if not state[unit] then
         visit(unit)
      end
   end
end

local function check_calls(path, text)
   local throws = false -- whether the function we are in takes a lua_State
   for i, line in ipairs(tree.lines(tree.strip_c(text))) do
      if line:find "^[%a_].*%(" then
         throws = line:find "lua_State *" ~= nil
      end
      for _, name in ipairs(banned) do
         if line:find("%f[%w_]" .. name .. "%s*%(") then
            tree.report(path, i, "%s is banned", name)
         end
      end
      if line:find "%f[%w_]lua_callk?%s*%(" and not throws then
         tree.report(path, i, "lua_call in a function that takes no lua_State: nobody catches")
      end
   end
end

local function is_known(path)
   return path == "src/README.md" or path == "src/pgcdc-lua.1" or path == "src/sinks/modules.mk"
      or path:find "^src/dist/" and not path:find "%.[ch]$"
      or path == "src/serve/page.html" or path == "src/serve/page.css"
      or path == "src/serve/page.js" or path == "src/serve/page_pipeline.js"
end

function layers.check()
   local uses = {}
   for _, path in ipairs(tree.find "src") do
      local folder = path:match "^src/([%w_]+)/[%w_]+%.[ch]$"
         or path:match "^src/[%w_]+%.[ch]$" and ""
      if folder and rank_of(folder) then
         local text = tree.read(path)
         check_title(path, text)
         check_includes(path, text, uses)
         check_calls(path, text)
      elseif not is_known(path) then
         tree.report(path, nil, "has no place in src/: its folders are %s",
            table.concat(order, ", "))
      end
   end
   check_circles(uses)
end

return layers
