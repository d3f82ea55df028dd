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
   }, 900)
   return text, ended.exit
end

local function run(...)
   local proc = assert(native.spawn { argv = { ... } })
   lu.assertEquals(assert(proc:wait(wait.scaled(900))).exit, 0)
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
local bad_tree = {
   Makefile = "# SPDX-License-Identifier: MIT\nlint:\n"
      .. "\t@FLAGS=-Isrc\\ -Wall lua5.4 tests/lint/lint.lua\n" .. ("#\n"):rep(118),
   ["notes.txt"] = "",
   ["src/capture/low.h"] = [[
/* low.h -- what it is.
 * SPDX-License-Identifier: MIT */
#include "state/high.h"
#include <lua.h>
#include <libpq-fe.h>
#include "capture/nowhere.h"
struct low {
    int sprintf; /* a survey of nothing */
};
struct other {
    int x;
};
enum low_kind { LOW_ONE, HIGH_TWO };
#define MAX_OF_LOW 3
#define LOW_H
bool low_get(const struct low *l);
struct low *take_low(void);
extern const char *const low_names[], *odd;
]],
   ["src/capture/one.h"] = [[
/* one.h -- the first of a circle.
 * SPDX-License-Identifier: MIT */
#include "capture/two.h"
]],
   ["src/capture/two.c"] = [[
/* two.c -- the second, whose source closes it.
 * SPDX-License-Identifier: MIT */
#include "capture/two.h"
#include "capture/three.h"
]],
   ["src/capture/two.h"] = [[
/* two.h -- the second.
 * SPDX-License-Identifier: MIT */
]],
   ["src/capture/three.h"] = [[
/* three.h -- the third.
 * SPDX-License-Identifier: MIT */
#include "capture/one.h"
]],
   ["src/state/high.h"] = "/* SPDX-License-Identifier: MIT */\n",
   ["src/state/high.c"] = [[
/* high.c -- sprintf(here) is no call.
 * SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <libpq-fe.h>
#include <sqlite3.h>
static const char *text = "/* strcpy(no), a survey";
static int throws(lua_State *L)
{
    lua_call(L, 0, 0);
    return atoi("1");
}

static int catches(struct script *s)
{
    lua_call(s->L, 0, 0);
    ((const struct low *)text)->x;
    ((struct low *)lua_touserdata(L, 1))->x;
    return (struct low *)((char *)x - offsetof(struct low, x));
}
]],
   ["src/capture/store.c"] = [[
/* store.c -- a wall.
 * SPDX-License-Identifier: MIT */
#include <sqlite3.h>
]],
   ["src/lua/held.c"] = [[
/* held.c -- pointers that are held too long.
 * SPDX-License-Identifier: MIT */
#include "lua/held.h"
static void held(lua_State *L)
{
    struct conn *conn = api_db_check(L, 1);

    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        lua_pushvalue(L, -1);
        lua_pushstring(L, "x");
    }
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) /* no script has this table */
        lua_createtable(L, 0, 0);
    name = lua_tostring(L, -1);
    lua_pop(L, 1);
    name = lua_tostring(L, -1); /* the list keeps it */
    lua_pop(L, 1);
    conn_send(conn);
    lua_pushstring(L, "x");
}
]],
   ["src/sinks/tape.c"] = [[
/* tape.c -- a module that knows more than it may.
 * SPDX-License-Identifier: MIT */
#include "lua/native.h"
#include "sinks/module.h"
#include <lua.h>
#include <openssl/ssl.h>
#include <dlfcn.h>
]],
   ["src/sinks/module.h"] = [[
/* module.h -- what a module shows.
 * SPDX-License-Identifier: MIT */
struct pgcdc_module {
    int x;
};
struct pgcdc_tape {
    int x;
};
]],
   ["src/lua/native.h"] = [[
/* native.h -- who may know it.
 * SPDX-License-Identifier: MIT */
#include "sinks/module.h"
#include <curl/curl.h>
#include <nats.h>
]],
   ["src/lua/other.h"] = [[
/* other.h -- who may not.
 * SPDX-License-Identifier: MIT */
#include "sinks/module.h"
]],
   ["src/README.md"] = "`two`, `one.h`, `tape`, `module`, `native`, `other`, `far`, `listen`,"
      .. " three\n",
   ["src/host/far.c"] = [[
/* far.c -- who may not either.
 * SPDX-License-Identifier: MIT */
#include "listen/listen.h"
]],
   ["src/listen/listen.h"] = "/* listen.h -- a module.\n * SPDX-License-Identifier: MIT */\n",
   ["src/stray.c"] = "/* SPDX-License-Identifier: MIT */ \n" .. ("x\n"):rep(600),
   ["src/odd/file.c"] = "/* SPDX-License-Identifier: MIT */\n",
   ["lua/bad.lua"] = "\tnot_declared = 1 -- " .. ("ü"):rep(100) .. "\n",
   ["lua/words.lua"] = "-- SPDX-License-Identifier: MIT\nlocal t = {}\nlocal text = \"a survey\"\n"
      .. "function t.bury_it()\n   return text\nend\n\nreturn t\n",
   ["lua/pgcdc/init.lua"] =
      "return {told = 1, lost = 1, sinks = setmetatable({}, {names = {'tape'}})}",
   ["lua/pgcdc/equal.lua"] = "-- SPDX-License-Identifier: MIT\n"
      .. "return getmetatable(1) == 2 or rawequal(getmetatable(1), 2)\n"
      .. "   or rawequal(getmetatable(1), 2)\n",
   ["lua/pgcdc/stream/stream.lua"] = "return {class = {told = print, lose = print}}",
   ["lua/pgcdc/postgres/client.lua"] =
      "return function() return setmetatable({}, {told = print, leave = print}) end",
   ["lua/pgcdc/meta.lua"] = "\npgcdc.told = 1\nfunction Stream:told() end\n"
      .. "function Connection:told() end\nfunction sinks.tape(spec) end\n",
   ["README.md"] = ("o"):rep(101) .. ("\n"):rep(201),
   ["lua/README.md"] = "lost, `tape`\n* `pgcdc.told(f)`:\n  `f(lose)`\n`leave`\n",
   ["tests/README.md"] = "`told`, `told.here`, `told.gone`, `lost.tape`\n",
   ["tests/some/told_test.lua"] =
      "-- SPDX-License-Identifier: MIT\nreturn {test_here = 1}\n",
   ["tests/some/mute_test.lua"] = "-- SPDX-License-Identifier: MIT\nreturn {}\n",
   ["scripts/none.lua"] = "-- SPDX-License-Identifier: MIT\n",
}

local bad_tree_offences = {
   "Makefile: 121 lines; it has at most 120",
   "src/capture/low.h:3: state/high.h is to the right of capture/",
   "src/capture/low.h:4: only folders from lua on, and sinks may include <lua.h>",
   "src/capture/low.h:5: only pg may include <libpq-fe.h>",
   "src/capture/low.h:6: there is no header src/capture/nowhere.h",
   "src/capture/low.h:8: the word \"survey\" is not to come back",
   "src/capture/low.h:10: the name other does not begin with its file's, low",
   "src/capture/low.h:13: the name HIGH_TWO does not begin",
   "src/capture/low.h:14: the name MAX_OF_LOW does not begin",
   "src/capture/low.h:17: the name take_low does not begin",
   "src/capture/low.h:18: the name odd does not begin",
   "src/capture/three.h:3: a circle of includes: capture/one > capture/two > capture/three > ",
   "src/state/high.h:1: the first line must be",
   "src/state/high.c:3: only cli/ctl_show, lua/json may include <jansson.h>",
   "src/state/high.c:4: only pg may include <libpq-fe.h>",
   "src/capture/store.c:3: only state may include <sqlite3.h>",
   "src/state/high.c:10: atoi is banned",
   "src/state/high.c:16: a cast to a pointer to a struct",
   "src/state/high.c:15: lua_call in a function that takes no lua_State",
   "src/lua/held.c:10: in a loop of lua_next: a finalizer may change the table",
   "src/lua/held.c:10: may run a finalizer, which may close the connection",
   "src/lua/held.c:14: 'name' is borrowed from a value that is popped",
   "src/sinks/tape.c:3: lua/native.h is to the right of sinks/",
   "src/sinks/tape.c:7: only lua/native, serve/server may include <dlfcn.h>",
   "src/sinks/module.h:6: the name pgcdc_tape does not begin with its file's, module",
   "src/lua/native.h:4: only sinks may include <curl/curl.h>",
   "src/lua/native.h:5: only sinks may include <nats.h>",
   "src/lua/other.h:3: sinks/module.h is for modules and for lua/native",
   "src/host/far.c:3: listen/listen.h is for modules and for serve/server",
   "src/odd/file.c: has no place in src/",
   "src/stray.c:1: blanks at the end",
   "src/stray.c: 601 lines",
   "lua/words.lua:4: the word \"bury\" is not to come back",
   "lua/pgcdc/equal.lua:2: a script's __eq gets the metatable: rawequal",
   "lua/pgcdc/meta.lua: says nothing of pgcdc.lost",
   "lua/pgcdc/meta.lua: says nothing of stream:lose",
   "lua/README.md: no list names pgcdc.lost",
   "lua/README.md: no list names stream:lose",
   "lua/pgcdc/meta.lua: says nothing of db:leave",
   "lua/README.md: no list names db:leave",
   "lua/README.md: no list names pgcdc.sinks.tape",
   "README.md:1: more than 100 columns",
   "README.md: 201 lines; it has at most 200",
   "tests/README.md: there is no test told.gone",
   "tests/README.md: there is no test lost.tape",
   "tests/README.md: says nothing of tests/some/mute_test.lua",
   "lua/bad.lua:1: a tab",
   "lua/bad.lua:1: more than 100 columns",
   "lua/bad.lua: no line SPDX",
   "src/README.md: says nothing of src/capture/three.h",
   "notes.txt: has no place in the top folder",
   "error: unknown type name", -- a compiler
   "(W111) setting non-standard global variable", -- luacheck
}

function TestLint.test_every_rule_bites()
   local folder = scope.dir "bad tree"
   run("mkdir", "-p", folder .. "/tests")
   run("cp", top .. "/.luacheckrc", folder)
   run("cp", "-r", top .. "/tests/lint", folder .. "/tests/lint")
   for name, text in pairs(bad_tree) do
      run("mkdir", "-p", (folder .. "/" .. name):match "^(.*)/")
      write(folder, name, text)
   end
   local text, status = lint(folder)
   lu.assertEquals(status, 2)
   for _, offence in ipairs(bad_tree_offences) do
      lu.assertStrContains(text, offence)
   end
   lu.assertNotStrContains(text:gsub("there is no test told%.gone", ""), "told")
   lu.assertNotStrContains(text, "meta.lua: says nothing of pgcdc.sinks.tape")
   -- What compilers say of this tree depends on the libraries that are there.
   local ours = text:gsub("[^\n]*:%d+:%d+:[^\n]*", ""):gsub("In file included[^\n]*", "")
   for _, harmless in ipairs {
      "held.c:9:", "held.c:16:", "held.c:19:", "high.c:1:", "high.c:5:", "high.c:6:",
      "high.c:9: lua", "high.c:17:", "high.c:18:", "low.h:7:", "name LOW", "name low",
      "lua/words.lua:3", "of src/capture/two", "of src/capture/one", "tape.c:4:", "tape.c:5:",
      "tape.c:6:", "module.h:3:", "lua/native.h:3:", "equal.lua:3:",
   } do
      lu.assertNotStrContains(ours, harmless)
   end
end

return TestLint
