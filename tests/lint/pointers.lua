-- pointers.lua: what can be checked of the rule that no pointer outlives a call that may run Lua.
-- SPDX-License-Identifier: MIT
--
-- A loop of lua_next must not call what may run a finalizer, unless a comment above or on it says
-- that "no script" has the table. A text that is borrowed from a value must not be used after that
-- was popped, unless a comment says what "keeps" it. A connection that was looked up is used at
-- once. And of our Lua half: it compares no metatable of a script's value by ==.

local tree = require "tree"

local pointers = {}

local runs_lua = { "lua_pushl?string%(", "lua_pushliteral%(", "lua_pushv?fstring%(",
   "lua_createtable%(", "lua_newuserdatauv%(", "lua_p?callk?%(", "lua_getfield%(",
   "lua_gettable%(", "luaL_tolstring%(", "_push_clone%(", "push_clone%(", "clone_push%(",
   "json_put", "json_exact_remember%(", "push_new_field%(" }

local function finds_any(line, patterns)
   for _, pattern in ipairs(patterns) do
      if line:find(pattern) then
         return true
      end
   end
end

-- Whether a comment on one of the lines has the words.
local function is_said(lines, first, last, words)
   for i = math.max(first, 1), last do
      local comment = (lines[i] or ""):match "/?%*.*$"
      if comment and comment:find(words) then
         return true
      end
   end
end

local function indent_of(line)
   return #line:match "^ *"
end

local function check_loop(path, lines, at)
   if is_said(lines, at - 6, at, "no script") then
      return
   end
   for i = at + 1, #lines do
      local line = lines[i]
      if line ~= "" and indent_of(line) <= indent_of(lines[at]) then
         return
      end
      if finds_any(line, runs_lua) then
         tree.report(path, i, "in a loop of lua_next: a finalizer may change the table")
      end
   end
end

local function check_text(path, lines, at)
   local name = lines[at]:match "([%w_]+) = luaL?_%w+string%(L, %-1[,%)]"
   local popped = name and (lines[at + 1] or ""):find "lua_pop%(L"
   if popped and not is_said(lines, at - 3, at + 1, "keep") then
      tree.report(path, at, "'%s' is borrowed from a value that is popped", name)
   end
end

local function check_connection(path, lines, at)
   if not lines[at]:find "conn = api_db_check%(" then
      return
   end
   for i = at + 1, #lines do
      if lines[i] == "}" or lines[i]:find "conn_%w" then
         return
      elseif finds_any(lines[i], runs_lua) or lines[i]:find "luaL_check" then
         tree.report(path, i, "may run a finalizer, which may close the connection")
      end
   end
end

function pointers.check()
   for _, path in ipairs(tree.find "lua/pgcdc -name '*.lua'") do
      for i, line in ipairs(tree.lines(tree.read(path))) do
         if line:find "getmetatable%b() *[~=]=" or line:find "[~=]= *raw%.array_metatable" then
            tree.report(path, i, "a script's __eq gets the metatable: rawequal")
         end
      end
   end
   for _, path in ipairs(tree.find "src/lua -name '*.c'") do
      local lines = tree.lines(tree.read(path))
      for i, line in ipairs(lines) do
         if line:gsub("/%*.*", ""):find "lua_next%(L" then
            check_loop(path, lines, i)
         end
         check_text(path, lines, i)
         check_connection(path, lines, i)
      end
   end
end

return pointers
