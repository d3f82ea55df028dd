-- walls_paths_test.lua: nobody else leads the program to write where he likes: symbolic links of
-- others, in any place of a path, and files that may be traps.
-- SPDX-License-Identifier: MIT

local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local server = require "server"

local TestWallsPaths = {}

local function sh(command, ...)
   local p = assert(native.spawn { argv = { "sh", "-ec", command, "sh", ... } })
   lu.assertEquals(p:wait(10).exit, 0)
end

-- The user that attacks, and that of the program if it is not root.
local function other_user()
   lu.skipIf(native.getuid() ~= 0, "only root can make links of others")
   return "nobody"
end

-- A folder with `real`, a folder, and these links in it; of the other user, unless said.
local function with_links(links, owner)
   local dir = scope.dir()
   sh('mkdir "$1/real" "$1/real/out" && chmod 755 "$1" "$1/real" "$1/real/out"', dir)
   for name, target in pairs(links) do
      sh('ln -s "$2" "$1" && chown -h "$3" "$1"', dir .. "/" .. name,
         (target:gsub("^DIR", dir)), owner or other_user())
   end
   return dir
end

local function run(db, script, options)
   options = options or {}
   options.dsn, options.script = db, 'local t = pgcdc.source {table = "t"}\n' .. script
   options.options = options.options or { "--once" }
   return program.run(options)
end

-- What was written anywhere below the folder.
local function count_files(dir)
   local p = io.popen(("find -L '%s' -type f | wc -l"):format(dir))
   local n = tonumber(p:read "l")
   p:close()
   return n
end

local function assert_refused(result, link, status)
   lu.assertEquals(result.status, status or 1, result.stderr)
   lu.assertStrContains(result.stderr, "/" .. link .. " is a symbolic link of nobody, which is not "
      .. "followed: remove it, or name a path without it")
   lu.assertEquals(select(2, result.stderr:gsub("level=error", "")), 1)
end

-- ---- symbolic links ----

local sinks = {
   'pgcdc.sinks.jsonl {path = "%s/a.jsonl"}', 'pgcdc.sinks.csv {path = "%s/a.csv"}',
   'pgcdc.sinks.text {path = "%s/a.txt"}', 'pgcdc.sinks.jsonl {path = "%s/{id}.jsonl"}',
   'pgcdc.sinks.jsonl {path = "%s/{id}/{id}.jsonl"}', 'pgcdc.sinks.csv {path = "%s/new/{id}.csv"}',
   'pgcdc.sinks.text {dir = "%s", path = function(c) return "x/" .. c.key.id end}',
}

local function sink_script(sink, folder)
   return "t:map(function(c) return c end):sink(" .. sink:format(folder) .. ")"
end

-- A link to a folder: as the folder, above it, relative, by way of our own link, with dots.
function TestWallsPaths.test_a_folder()
   local db = fixtures.names(2)
   local dir = with_links { trap = "real", ["real/up"] = "..", far = "DIR/real" }
   sh('ln -s trap "$1/mine"', dir)
   for i, sink in ipairs(sinks) do
      local ways = { { "trap", "trap" }, { "trap/out", "trap" }, { "far", "far" },
                     { "mine", "trap" }, { "real/up/real", "up" },
                     { "real/../trap/./out", "trap" } }
      local way = ways[i % #ways + 1]
      assert_refused(run(db, sink_script(sink, dir .. "/" .. way[1])), way[2])
   end
   assert_refused(run(db, sink_script(sinks[1], "trap"), { cwd = dir }), "trap")
   lu.assertEquals(count_files(dir .. "/real/out"), 0)
end

-- A link as the file itself, also one that leads to nothing, and below a pattern's folder.
function TestWallsPaths.test_a_file()
   local db = fixtures.names(2)
   local dir = with_links { ["a.jsonl"] = "real/there", ["b.jsonl"] = "real/not_there",
                            ["1.jsonl"] = "real/not_there", ["2"] = "real" }
   files.write(dir .. "/real/there", "")
   assert_refused(run(db, sink_script('pgcdc.sinks.jsonl {path = "%s/a.jsonl"}', dir)), "a.jsonl")
   assert_refused(run(db, sink_script('pgcdc.sinks.jsonl {path = "%s/b.jsonl"}', dir)), "b.jsonl")
   assert_refused(run(db, sink_script('pgcdc.sinks.jsonl {path = "%s/{id}.jsonl"}', dir)),
      "1.jsonl")
   assert_refused(run(db, sink_script('pgcdc.sinks.jsonl {path = "%s/{id}/x.jsonl"}', dir)), "2")
   lu.assertEquals(files.read(dir .. "/real/there"), "")
   lu.assertNil(files.read(dir .. "/real/not_there"))
end

-- Links of root and of our own are followed, so are those of the system.
function TestWallsPaths.test_links_that_are_followed()
   other_user()
   local db = fixtures.names(2)
   local dir = with_links({ mine = "real", dangling = "real/b.jsonl" }, "root")
   for _, path in ipairs { "mine/a.jsonl", "mine/../mine/out/a.jsonl", "dangling" } do
      local result = run(db, sink_script('pgcdc.sinks.jsonl {path = "%s"}', dir .. "/" .. path))
      lu.assertEquals(result.status, 0, result.stderr)
   end
   lu.assertEquals(count_files(dir .. "/real"), 3)
   for _, path in ipairs { "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/stderr" } do
      local result = run(db, sink_script('pgcdc.sinks.jsonl {path = "%s"}', path))
      lu.assertEquals(result.status, 0, result.stderr)
      lu.assertStrContains(path == "/dev/stderr" and result.stderr or result.stdout, '"id":2')
   end
   -- another user than root: its own link, and root's
   local user = server.user()
   local links = { mine = user, roots = "root" }
   for name, owner in pairs(links) do
      local home = scope.dir("home", server.root())
      sh('mkdir "$1/real" && ln -s real "$1/$2" && chown -h "$3" "$1/$2" && chown "$4" "$1/real"'
         .. ' && chmod 755 "$1"', home, name, owner, user)
      local result = run(db, sink_script(sinks[1], home .. "/" .. name), { user = user })
      lu.assertEquals(result.status, 0, result.stderr)
   end
end

-- ---- traps ----

-- In a folder that all may write to: a file with a second name, and one that somebody else made.
function TestWallsPaths.test_traps()
   local db, dir = fixtures.names(2), scope.dir()
   sh([[chmod 755 "$1"; mkdir "$1/all"; chmod 1777 "$1/all"; echo secret >"$1/mine"
      ln "$1/mine" "$1/all/a.jsonl"; ln "$1/mine" "$1/b.jsonl"; mkfifo "$1/all/f"
      touch "$1/all/c.jsonl"; mkdir "$1/all/d"; touch "$1/all/d/e.jsonl"
      chown "$2" "$1/all/c.jsonl" "$1/all/f" "$1/all/d/e.jsonl"]], dir, other_user())
   local function write(name, status, what)
      local result = run(db, sink_script('pgcdc.sinks.jsonl {path = "%s"}', dir .. "/" .. name))
      lu.assertEquals(result.status, status, result.stderr)
      lu.assertStrContains(result.stderr, what)
   end
   write("all/a.jsonl", 1, "has 3 names, in a folder that others may write to")
   write("all/c.jsonl", 1, "was made by nobody in a folder that all may write to")
   write("all/f", 1, "was made by nobody in a folder that all may write to")
   lu.assertEquals(files.read(dir .. "/mine"), "secret\n")
   write("all/new.jsonl", 0, "") -- of our own, and in folders of our own all is as before
   write("all/new.jsonl", 0, "")
   write("all/d/e.jsonl", 0, "")
   write("b.jsonl", 0, "")
   local result = run(db, "", { state = dir .. "/all/c.jsonl" })
   lu.assertEquals(result.status, 4)
   lu.assertStrContains(result.stderr, "was made by nobody in a folder that all may write to")
end

-- While the program writes to many files somebody swaps a folder of his for a symbolic link.
function TestWallsPaths.test_a_race()
   local db, dir = fixtures.database(fixtures.numbers(300)), scope.dir("race", server.root())
   local user = other_user()
   sh('mkdir "$1/his" "$1/his/d" "$1/kept" && chmod 755 "$1" && chown "$2" "$1/his"', dir, user)
   sh('ln -s ../kept "$1/his/l" && chown -h "$2" "$1/his/l"', dir, user)
   local swapper = assert(native.spawn { user = user, cwd = dir .. "/his", argv = { "lua5.4", "-e",
      "while true do os.rename('d', 'x') os.rename('l', 'd') os.rename('d', 'l') "
         .. "os.rename('x', 'd') end" } })
   local refused = 0
   for _ = 1, 8 do
      local result = run(db, sink_script('pgcdc.sinks.jsonl {path = "%s/his/d/{id}.jsonl"}', dir))
      refused = refused + (result.stderr:find "symbolic link of nobody" and 1 or 0)
   end
   swapper:kill "KILL"
   swapper:wait(10)
   lu.assertTrue(refused > 0)
   lu.assertEquals(count_files(dir .. "/kept"), 0)
end

-- ---- the state file ----

function TestWallsPaths.test_the_state_file()
   local db = fixtures.names(2)
   local dir = with_links { trap = "real", ["s.db-files"] = "real/journal",
                            ["w.db-wal"] = "real/wal" }
   assert_refused(run(db, "", { state = dir .. "/trap/s.db" }), "trap", 4)
   assert_refused(run(db, "", { state = dir .. "/trap/new/s.db" }), "trap", 4)
   assert_refused(run(db, "", { state = dir .. "/w.db" }), "w.db-wal", 4)
   assert_refused(run(db, sink_script(sinks[1], dir .. "/real"), { state = dir .. "/s.db" }),
      "s.db-files")
   lu.assertNil(files.read(dir .. "/real/journal"))
   -- the default one
   local home = with_links { [".local"] = "real" }
   assert_refused(run(db, "", { state = false, env = { HOME = home } }), ".local", 4)
   lu.assertEquals(count_files(home), 0)
end

return TestWallsPaths
