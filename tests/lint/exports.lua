-- exports.lua: prints what scripts may use, one name a line: pgcdc.x, stream:x, db:x,
-- pgcdc.sinks.x.
-- SPDX-License-Identifier: MIT
--
-- For lint.lua, in the top folder. Loads the Lua half of the program on a module pgcdc.raw that
-- does nothing.

-- Methods of streams for operators and the library itself.
local internal = { accept = true, input = true, is_ready = true, rewire = true }

local raw = {
   version = "", null = {}, array_metatable = {}, words = {}, lua_dir = "no folder",
   scripts_dir = "no folder", script = "no script", is_sandboxed = false,
}
package.preload["pgcdc.raw"] = function()
   return setmetatable(raw, { __index = function()
      return function() end
   end })
end
package.path = "lua/?.lua;lua/?/init.lua;" .. package.path

local pgcdc = require "pgcdc"
local names = {}

local function add(prefix, t)
   for name, value in next, t do
      names[#names + 1] = prefix .. name
      if prefix == "pgcdc." and (name == "json" or name == "log") then
         add("pgcdc." .. name .. ".", value)
      end
   end
end

add("pgcdc.", pgcdc)
for name, value in next, require "pgcdc.stream.stream".class do
   if type(value) == "function" and not name:find "^__" and not internal[name] then
      names[#names + 1] = "stream:" .. name
   end
end
for name in next, getmetatable(require "pgcdc.postgres.client"()) do
   if not name:find "^__" then
      names[#names + 1] = "db:" .. name
   end
end
for _, name in ipairs(getmetatable(pgcdc.sinks).names) do
   names[#names + 1] = "pgcdc.sinks." .. name
end
table.sort(names)
print(table.concat(names, "\n"))
