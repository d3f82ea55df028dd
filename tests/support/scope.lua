-- scope.lua: releases what a test made when the test is over; directories for tests.
-- SPDX-License-Identifier: MIT
--
-- Things that must be released register here. Scopes nest: the run, the suite that
-- runs, the test that runs. What is made in setUp or in a test is released at the end of
-- that test, what is made in setupClass at the end of the suite, the newest first. If the
-- run ends any other way (SIGKILL too), a reaper process removes the directories and
-- the kernel kills the children; see reaper.sh.

local native = require "native"
local wait = require "wait"

local scope = {}

local stack = { {} }
local base, reaper, serial = nil, nil, 0
local roots = {} -- directories that the reaper removes
local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" or "."

-- Once, before anything else: the caller's libpq settings and language do not reach the tests, and
-- SIGINT and SIGTERM end the run at once, in C code too.
function scope.begin_run()
   local f = assert(io.open("/proc/self/environ", "rb"))
   for name in ("\0" .. f:read "a"):gmatch "%z(PG%u+)=" do
      if name ~= "PGBIN" then
         native.setenv(name, nil)
      end
   end
   f:close()
   native.setenv("LC_ALL", "C")
   native.default_signals()
end

-- <release> is called once, at the end of the innermost scope, or of the run if <keep>. Returns a
-- function that forgets it, for things that are released early.
function scope.add(release, keep)
   local list = keep and stack[1] or stack[#stack]
   local entry = { release = release }
   list[#list + 1] = entry
   return function()
      entry.release = nil
   end
end

-- Opens an inner scope.
function scope.open()
   stack[#stack + 1] = {}
end

-- Releases what the innermost scope holds; returns nil, or what went wrong meanwhile.
function scope.close()
   local list = stack[#stack]
   local problems = {}
   while #list > 0 do
      local entry = table.remove(list)
      if entry.release then
         local ok, message = pcall(entry.release)
         if not ok then
            problems[#problems + 1] = tostring(message)
         end
      end
   end
   if #stack > 1 then
      table.remove(stack)
   end
   return #problems > 0 and table.concat(problems, "\n") or nil
end

-- Releases everything and removes all directories; returns nil, or what went wrong meanwhile:
-- also what the run has left in the folder for temporary files.
function scope.end_run()
   local problems = {}
   repeat
      local last = #stack == 1
      problems[#problems + 1] = scope.close()
   until last
   for _, name in ipairs(base and native.listdir(base .. "/tmp") or {}) do
      problems[#problems + 1] = "left in the folder for temporary files: " .. name
   end
   if reaper then
      reaper:close "stdin"
      if not reaper:wait(wait.scaled(60)) then
         problems[#problems + 1] = "the reaper does not end"
      end
      for _, path in ipairs(roots) do
         if native.listdir(path) then
            problems[#problems + 1] = "left after the run: " .. path
         end
      end
      base, reaper, roots = nil, nil, {}
   end
   return #problems > 0 and table.concat(problems, "\n") or nil
end

-- A directory that the reaper removes with all that is in it when the run is over, however it ends.
-- Named <parent>/pgcdc-XXXXXX; anybody may enter it.
function scope.root(parent)
   local path = assert(native.mkdtemp(parent .. "/pgcdc-", 493)) -- 0755
   reaper = reaper or assert(native.spawn {
      argv = { "sh", here .. "/reaper.sh" },
      stdin = "pipe", stdout = "null", stderr = "null", detached = true,
   })
   assert(reaper:write(path .. "\n"))
   roots[#roots + 1] = path
   return path
end

-- The run's own directory, in $TMPDIR or /tmp. From then on $TMPDIR is a folder in it, for us and
-- for what we start, so that it is seen at the end what has been left there.
function scope.base()
   if not base then
      base = scope.root(assert(native.realpath(os.getenv "TMPDIR" or "/tmp")))
      assert(native.mkdir(base .. "/tmp", 1023)) -- 01777
      native.setenv("TMPDIR", base .. "/tmp")
   end
   return base
end

-- A new empty directory in <root> (default: the run's); <name> is only for people who look.
-- It stays until the end of the run.
function scope.dir(name, root)
   serial = serial + 1
   local path = ("%s/%03d-%s"):format(root or scope.base(), serial, name or "test")
   assert(native.mkdir(path))
   return path
end

-- Removes a directory of files before that, for a test that makes thousands.
function scope.remove(path)
   for _, name in ipairs(assert(native.listdir(path))) do
      assert(os.remove(path .. "/" .. name))
   end
   assert(os.remove(path))
end

return scope
