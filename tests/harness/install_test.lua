-- install_test.lua: make install: the copy works from anywhere, and uninstall leaves nothing.
-- SPDX-License-Identifier: MIT

local child = require "child"
local cluster = require "cluster"
local files = require "files"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local server = require "server"
local tree = require "tree"

local TestInstall = {}

local top = tree.top

-- Runs a target of the Makefile for the program under test, as somebody with a closed umask would.
local function make(target, destdir)
   local binary = program.binary()
   assert(binary:sub(1, #top) == top, "the program under test is not of this tree")
   binary = binary:sub(#top + 2)
   return server.run({
      -- What the make that runs the tests was told is not for this one.
      "env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL",
      "sh", "-c", 'umask 077; exec make -s -C "$@"', "sh", top, target,
      "BUILD=" .. binary:match "^(.*)/[^/]*$", "--old-file=" .. binary,
      "PREFIX=/opt/pgcdc lua", "DESTDIR=" .. destdir,
   }, { user = false })
end

local function files_below(path)
   return server.run({ "find", path, "-not", "-type", "d" }, { user = false })
end

function TestInstall:setUp()
   self.destdir = scope.dir "dest dir"
   make("install", self.destdir)
   self.before = os.getenv "PGCDC_LUA"
   native.setenv("PGCDC_LUA", self.destdir .. "/opt/pgcdc lua/bin/pgcdc-lua")
end

function TestInstall:tearDown()
   native.setenv("PGCDC_LUA", self.before)
end

function TestInstall.test_installed_copy_says_its_version_anywhere()
   local result = program.run { options = { "--version" }, state = false, cwd = "/" }
   lu.assertEquals(result.status, 0)
   local modules = native.listdir(program.binary():match "^(.*)/" .. "/../lib/pgcdc-lua") or {}
   lu.assertStrMatches(result.stdout, "pgcdc%-lua %d+%.%d+%.%d+\n" .. ("%l+: .*\n"):rep(#modules))
end

-- Its Lua files and the bundled scripts are those installed with it.
function TestInstall.test_installed_copy_runs_a_bundled_script()
   local db = cluster.main():database()
   db:exec "create table orders (id int primary key, what text); insert into orders values (1, 'a')"
   local result = program.run {
      dsn = db, bundled = "jsonl", args = { "table=orders" }, options = { "--once" }, cwd = "/",
   }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(#result.changes, 1)
   lu.assertEquals(result.changes[1].row.what, "a")
end

-- All may read and run it, whatever umask it was installed with.
function TestInstall:test_installed_files_are_for_everybody()
   local closed = server.run({
      "find", self.destdir .. "/opt", "-not", "-perm", "-444", "-o", "-type", "d", "-not", "-perm",
      "-555",
   }, { user = false })
   lu.assertEquals(closed, "")
end

function TestInstall:test_the_man_page_is_installed()
   local page = self.destdir .. "/opt/pgcdc lua/share/man/man1/pgcdc-lua.1"
   lu.assertEquals(files.read(page), files.read(top .. "/src/pgcdc-lua.1"))
end

function TestInstall:test_uninstall_leaves_nothing()
   local before = files_below(self.destdir)
   lu.assertStrContains(before, "/share/pgcdc-lua/scripts/jsonl.lua\n")
   lu.assertStrContains(before, "/share/man/man1/pgcdc-lua.1\n")
   lu.assertStrContains(before, "/lib/sysusers.d/pgcdc-lua.conf\n")
   native.setenv("PGCDC_LUA", self.before)
   make("uninstall", self.destdir)
   lu.assertEquals(files_below(self.destdir), "")
end

-- ---- completions ----

local BASH = top .. "/src/dist/pgcdc-lua.bash"

-- What bash would offer for the last of these words after the program's name, sorted.
local function offers(...)
   local command = [[source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pgcdc_lua
      printf '%s\n' "${COMPREPLY[@]}" | sort]]
   local text = child.run { argv = { "/bin/bash", "-c", command, BASH, program.binary(), ... },
                            stderr = "null" } -- compopt works within a completion only
   return (text:gsub("\n$", ""))
end

-- Options with a value, in the order of --help, that a script's name may follow.
local function options_with_values(help)
   local list = {}
   for option, value in help:gmatch "\n[^\n]-(%-%-[%l-]+) (%u+)%f[%s]" do
      if value ~= "SCRIPT" and option ~= "--new" then
         list[#list + 1] = option
      end
   end
   return list
end

-- Completions offer all options, scripts and the words of the script in hand, whatever option with
-- a value stands before it; that of zsh skips the same ones.
function TestInstall.test_completions()
   local help = program.run { options = { "--help" }, state = false }.stdout
   local found = offers "--"
   for option in help:gmatch "%-%-[%l-]+" do
      lu.assertStrContains("\n" .. found .. "\n", "\n" .. option .. "\n")
   end
   lu.assertEquals(offers "jso", "jsonl")
   lu.assertEquals(offers("--log-level", "d"), "debug")
   lu.assertEquals(offers("jsonl", "tab"), "table=")
   lu.assertEquals(offers("ctl", "pau"), "pause")
   local zsh = files.read(top .. "/src/dist/_pgcdc-lua")
   local options = options_with_values(help)
   lu.assertTrue(#options >= 12)
   for _, option in ipairs(options) do
      lu.assertEquals({ option, offers(option, "x", "jsonl", "tab") }, { option, "table=" })
      lu.assertNotNil(zsh:find("[| ]" .. option:gsub("%-", "%%-") .. "[ )]"), option)
   end
end

return TestInstall
