-- install_test.lua: make install: the copy works from anywhere, and uninstall leaves nothing.
-- SPDX-License-Identifier: MIT

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
   native.setenv("PGCDC_LUA", self.before)
   make("uninstall", self.destdir)
   lu.assertEquals(files_below(self.destdir), "")
end

return TestInstall
