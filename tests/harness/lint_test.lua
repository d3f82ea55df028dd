-- lint_test.lua: the source keeps the rules of the house, and `make lint` finds who does not.
-- SPDX-License-Identifier: MIT

local child = require "child"
local files = require "files"
local lu = require "luaunit"
local native = require "native"
local scope = require "scope"
local tree = require "tree"
local wait = require "wait"

local TestLint = {}

local top = tree.top

-- Runs `make lint` in a folder; returns what it prints and its exit status.
local function lint(folder)
   local text, ended = child.run({
      argv = { "sh", "-c", "exec env -u MAKEFLAGS make -s lint 2>&1" }, cwd = folder,
   }, 240)
   return text, ended.exit
end

local function run(...)
   local proc = assert(native.spawn { argv = { ... } })
   lu.assertEquals(assert(proc:wait(wait.scaled(240))).exit, 0)
end

local function write(folder, name, text)
   files.write(folder .. "/" .. name, text)
end

function TestLint.test_the_source_keeps_the_rules()
   local text, status = lint(top)
   lu.assertEquals(text, "")
   lu.assertEquals(status, 0)
end

-- A small tree that breaks each rule once: a check that finds nothing is found out.
function TestLint.test_every_rule_bites()
   local folder = scope.dir "bad tree"
   run("mkdir", "-p", folder .. "/src", folder .. "/lua/pgcdc", folder .. "/scripts",
      folder .. "/tests/some")
   run("cp", top .. "/.luacheckrc", folder)
   run("cp", top .. "/tests/lint.lua", top .. "/tests/exports.lua", folder .. "/tests")
   write(folder, "Makefile", ([[
# SPDX-License-Identifier: MIT
ROOMS_0 = low
ROOMS_2 = mid \
>high gone
lint:
>@FLAGS=-Wall lua5.4 tests/lint.lua
]]):gsub(">", "\t"))
   write(folder, "notes.txt", "")
   write(folder, "src/low.h", [[
/* low.h -- the lowest room.                                           floor 1
 * SPDX-License-Identifier: MIT */
#include <lua.h>
]])
   write(folder, "src/mid.h", [[
/* mid.h -- a room.                                                    floor 2
 * SPDX-License-Identifier: MIT */
#include "high.h"
]])
   write(folder, "src/high.h", [[
/* SPDX-License-Identifier: MIT */
]])
   write(folder, "src/high.c", [[
/* high.c -- sprintf(here) is no call.                                 floor 2
 * SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <libpq-fe.h>
#include <sqlite3.h>
static const char *text = "/* strcpy(no)";
static int throws(lua_State *L)
{
    lua_call(L, 0, 0);
    return atoi("1");
}

static int catches(struct script *s)
{
    lua_call(s->L, 0, 0);
    return 0;
}
]])
   write(folder, "src/stray.c", "/* SPDX-License-Identifier: MIT */ \n" .. ("x\n"):rep(600))
   write(folder, "lua/bad.lua", "\tnot_declared = 1 -- " .. ("ü"):rep(100) .. "\n")
   write(folder, "lua/pgcdc/init.lua",
      "return {told = 1, lost = 1, sinks = setmetatable({}, {names = {'tape'}})}")
   write(folder, "lua/pgcdc/stream.lua", "return {class = {told = print, lose = print}}")
   write(folder, "lua/pgcdc/connect.lua",
      "return function() return setmetatable({}, {told = print, leave = print}) end")
   write(folder, "lua/pgcdc/meta.lua", "\npgcdc.told = 1\nfunction Stream:told() end\n"
      .. "function Connection:told() end\nfunction sinks.tape(spec) end\n")
   write(folder, "README.md", "lost, tape\n| `pgcdc.told(f)` | `f(lose)` |\n")
   write(folder, "tests/README.md", "`told`, `told.here`, `told.gone`, `lost.tape`\n")
   write(folder, "tests/some/told_test.lua",
      "-- SPDX-License-Identifier: MIT\nreturn {test_here = 1}\n")
   write(folder, "tests/some/mute_test.lua", "-- SPDX-License-Identifier: MIT\nreturn {}\n")
   local text, status = lint(folder)
   lu.assertEquals(status, 2)
   for _, offence in ipairs {
      "Makefile: there is no room gone in src/",
      "src/low.h:1: says floor 1, the Makefile says 0",
      "src/low.h:3: only floors 4 and 5 may include <lua.h>",
      "src/mid.h:3: high.h stands behind mid",
      "src/high.h:1: the first line must be",
      "src/high.c:3: only json may include <jansson.h>",
      "src/high.c:4: only db, db_rows, dial, pulse may include <libpq-fe.h>",
      "src/high.c:5: only image, known, store may include <sqlite3.h>",
      "src/high.c:10: atoi is banned",
      "src/high.c:15: lua_call in a function that takes no lua_State",
      "src/stray.c: belongs to none of the Makefile's rooms",
      "src/stray.c:1: blanks at the end",
      "src/stray.c: 601 lines",
      "lua/pgcdc/meta.lua: says nothing of pgcdc.lost",
      "lua/pgcdc/meta.lua: says nothing of stream:lose",
      "README.md: no table names pgcdc.lost",
      "README.md: no table names stream:lose",
      "lua/pgcdc/meta.lua: says nothing of db:leave",
      "README.md: no table names db:leave",
      "README.md: no table names pgcdc.sinks.tape",
      "tests/README.md: there is no test told.gone",
      "tests/README.md: there is no test lost.tape",
      "tests/README.md: says nothing of tests/some/mute_test.lua",
      "lua/bad.lua:1: a tab",
      "lua/bad.lua:1: more than 100 columns",
      "lua/bad.lua: no line SPDX",
      "notes.txt: has no place in the top folder",
      "error: unknown type name", -- a compiler
      "(W111) setting non-standard global variable", -- luacheck
   } do
      lu.assertStrContains(text, offence)
   end
   lu.assertNotStrContains(text:gsub("there is no test told%.gone", ""), "told")
   lu.assertNotStrContains(text, "meta.lua: says nothing of pgcdc.sinks.tape")
   lu.assertNotStrContains(text, "high.c:1:")
   lu.assertNotStrContains(text, "high.c:6:")
   lu.assertNotStrContains(text, "high.c:9: lua")
end

return TestLint
