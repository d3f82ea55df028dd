-- pgcdc.testing.main: what --test FILE... runs: the suites of luaunit in these files.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"

local has_luaunit, luaunit = pcall(require, "luaunit")
if not has_luaunit then
   raw.usage("--test needs luaunit: apt install lua-unit, or luarocks install luaunit")
end

local pgcdc = require "pgcdc"
rawset(pgcdc, "testing", require "pgcdc.testing")

-- A file may end as a suite of luaunit does that is run by itself: os.exit(lu.LuaUnit.run()).
local run, exit = luaunit.LuaUnit.run, os.exit

local function load_suites()
   luaunit.LuaUnit.run = function()
      return 0
   end
   rawset(os, "exit", function() end)
   for _, path in ipairs(raw.files) do
      local chunk, why = loadfile(path)
      if not chunk then
         error(why, 0)
      end
      chunk(path)
   end
   luaunit.LuaUnit.run = run
   rawset(os, "exit", exit)
end

load_suites()
local failed = luaunit.LuaUnit.run("--output", "text")
raw.stop(failed > 0 and 1 or 0)
