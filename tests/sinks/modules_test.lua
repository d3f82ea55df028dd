-- modules_test.lua: modules in C are found in the program's own folder, or it is said why not.
-- SPDX-License-Identifier: MIT

local files = require "files"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local server = require "server"
local tree = require "tree"

local TestModules = {}

local function sh(command, ...)
   return server.run({ "sh", "-ec", command, "sh", ... }, { user = false })
end

-- A copy of the program in a folder of its own, without modules. Returns its path, and the folder
-- for modules.
local function copy_program()
   local dir = scope.dir "copy"
   sh('mkdir -p "$2/build/modules"; cp "$1" "$2/build/pgcdc-lua"; ln -s "$3/lua" "$3/scripts" "$2"',
      program.binary(), dir, tree.top)
   return dir .. "/build/pgcdc-lua", dir .. "/build/modules"
end

-- Compiles a module that says this of itself.
local function compile(folder, name, fields, flags)
   files.write(folder .. "/" .. name .. ".c", ([[
      #include <lua.h>
      static int open(lua_State *L) { lua_pushliteral(L, "theirs"); return 1; }
      const struct { unsigned abi, lua; const char *name, *version; lua_CFunction open; }
         pgcdc_module = { %s, open };]]):format(fields))
   sh('cd "$1"; cc -shared -fPIC $(pkg-config --cflags lua5.4) -o "$2.so" "$2.c" $3', folder, name,
      flags or "")
end

-- What a script gets that makes a sink of this kind.
local function try(binary, name)
   local result = program.run { binary = binary, state = false, script = ([[
      local ok, why = pcall(function() return pgcdc.sinks.%s {connect = "redis://x"} end)
      print(ok, why)]]):format(name) }
   lu.assertEquals(result.status, 0, result.stderr)
   return result.stdout
end

function TestModules.test_why_one_cannot_be_had()
   local binary, folder = copy_program()
   lu.assertStrContains(try(binary, "redis"),
      "the sink 'redis' is not installed: apt install pgcdc-lua-redis, or make MODULES=redis")
   compile(folder, "redis", '2, 504, "redis", "1.0"')
   local of_another = "redis.so is of another version of pgcdc-lua (interface 2, this program has "
      .. "1): upgrade both"
   lu.assertStrContains(try(binary, "redis"), of_another)
   local function version()
      return program.run { binary = binary, options = { "--version" }, state = false }.stdout
   end
   lu.assertStrContains(version(), "\nredis: " .. of_another)
   compile(folder, "redis", '1, 503, "redis", "1.0"')
   lu.assertStrContains(try(binary, "redis"), "for Lua 5.3, this program has 5.4: upgrade both")
   compile(folder, "none", '1, 504, "redis", "1.0"')
   sh('cd "$1"; mv none.so libnone.so', folder)
   compile(folder, "redis", '1, 504, "redis", "1.0"', "-Wl,--no-as-needed -L. -lnone")
   sh('cd "$1"; rm libnone.so', folder)
   lu.assertStrContains(try(binary, "redis"), "the sink 'redis' needs a library that is missing: "
      .. "apt install libssl3 (libnone.so: cannot open shared object file")
   compile(folder, "redis", '1, 504, "redis", "library 1.0"')
   lu.assertStrMatches(version(), "pgcdc%-lua [%d.]+\nredis: library 1%.0\n")
   files.write(folder .. "/redis.so", "no library")
   lu.assertStrContains(try(binary, "redis"), "the sink 'redis' cannot be loaded: ")
end

-- In the sandbox it is said where the script asks for it, and only then.
function TestModules.test_the_sandbox_says_why_too()
   local binary = copy_program()
   local options = { "--sandbox", "--allow-network" }
   local result = program.run { binary = binary, state = false, options = options,
                                script = 'print(pcall(function() return pgcdc.sinks.redis end))' }
   lu.assertStrContains(result.stdout, "the sink 'redis' is not installed")
end

-- A script cannot put another module in the place of ours.
function TestModules.test_paths_of_scripts_do_not_count()
   local dir = scope.dir "theirs"
   sh('mkdir -p "$1/pgcdc/native"', dir)
   compile(dir .. "/pgcdc/native", "redis", '1, 504, "redis", "1.0"')
   files.write(dir .. "/pgcdc/native/redis.lua", "return 'theirs'")
   if not native.realpath(program.binary():match "^(.*)/" .. "/modules/redis.so") then
      return
   end
   local result = program.run { state = false, script = ([[
      package.path = %q .. "/?.lua;" .. package.path
      package.cpath = %q .. "/?.so;" .. package.cpath
      print(type(require "pgcdc.native.redis"))
      print(pgcdc.sinks.redis)]]):format(dir, dir) }
   lu.assertStrMatches(result.stdout, "table\nfunction: .*\n")
end

return TestModules
