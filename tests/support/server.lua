-- server.lua: where the Postgres server is, who runs it, and the places for its files.
-- SPDX-License-Identifier: MIT
--
-- The binaries are those of $PGBIN, or of pg_config, or the newest below
-- /usr/lib/postgresql. A server refuses to run as root: then it runs as postgres, or nobody.

local native = require "native"
local scope = require "scope"
local wait = require "wait"

local server = {}

local found = {} -- bin, user, root, socket_dir, version: each looked up once

local function is_bindir(path)
   local f = path and io.open(path .. "/postgres", "rb")
   return f and f:close()
end

local function find_bindir()
   local asked = os.getenv "PGBIN"
   if asked then
      return is_bindir(asked) and asked or error("no postgres in $PGBIN, " .. asked)
   end
   local pipe = io.popen "pg_config --bindir 2>/dev/null"
   local path = pipe:read "l"
   pipe:close()
   if is_bindir(path) then
      return path
   end
   local newest = 0
   for _, name in ipairs(native.listdir "/usr/lib/postgresql" or {}) do
      local candidate = "/usr/lib/postgresql/" .. name .. "/bin"
      if is_bindir(candidate) and (tonumber(name) or 0) > newest then
         newest, path = tonumber(name), candidate
      end
   end
   return newest > 0 and path or error "no Postgres server found: set PGBIN to its bin directory"
end

-- Path of a server program.
function server.bin(name)
   found.bin = found.bin or find_bindir()
   return found.bin .. "/" .. name
end

-- Path of a client program, such as pgbench, which may be of another version: not every build of a
-- server comes with them. nil if there is none.
function server.client(name)
   local path = native.realpath(server.bin(name))
   for _, version in ipairs(not path and native.listdir "/usr/lib/postgresql" or {}) do
      path = path or native.realpath(("/usr/lib/postgresql/%s/bin/%s"):format(version, name))
   end
   for dir in (path and "" or os.getenv "PATH" or ""):gmatch "[^:]+" do
      path = path or native.realpath(dir .. "/" .. name)
   end
   return path
end

-- Major version as a number.
function server.version()
   if not found.version then
      found.version = tonumber(server.run({ server.bin "postgres", "-V" }):match "(%d+)")
   end
   return found.version
end

-- The user that servers run as, nil: ours.
function server.user()
   if found.user == nil then
      found.user = native.getuid() == 0 and (native.user "postgres" and "postgres" or "nobody")
   end
   return found.user or nil
end

-- Runs a command and returns its output. Raises if it fails. Options:
--    user     false: as ourselves, not as the server's user
--    accept   a function that is asked about each line on standard error: if it says yes to all,
--             a failure is none
function server.run(argv, options)
   options = options or {}
   local user, accept = server.user(), options.accept
   if options.user == false then
      user = nil
   end
   local proc = assert(native.spawn { argv = argv, user = user, cwd = "/" })
   local deadline = native.now() + wait.scaled(120)
   local text = { stdout = "", stderr = "" }
   local open = { stdout = true, stderr = true }
   repeat
      assert(native.poll({ proc }, deadline - native.now())[1], "a command takes too long")
      for which in pairs(text) do
         local chunk, why = proc:read(which)
         text[which] = text[which] .. (chunk or "")
         open[which] = open[which] and why ~= "eof"
      end
   until not (open.stdout or open.stderr)
   local ended = assert(proc:wait(deadline - native.now()), "a command takes too long")
   if ended.exit ~= 0 then
      local refused = not accept
      for line in text.stderr:gmatch "[^\n]+" do
         refused = refused or not accept(line)
      end
      if refused then
         local how = ended.exit and "exit " .. ended.exit or "signal " .. ended.signal
         error(("%s: %s\n%s"):format(argv[1], how, text.stderr), 2)
      end
   end
   return text.stdout
end

-- Where data directories go: the run's directory, or one in /tmp if the server's user may not enter
-- that.
function server.root()
   if not found.root then
      found.root = scope.base()
      if not pcall(server.run, { "test", "-x", found.root }) then
         found.root = scope.root "/tmp"
      end
   end
   return found.root
end

-- Where sockets go: beside the data, or in /tmp if that path is too long for the kernel (107 bytes
-- with the socket's name).
function server.socket_dir()
   if not found.socket_dir then
      local root = server.root()
      if #root + #"/s/.s.PGSQL.65535.lock" > 107 then
         root = scope.root "/tmp"
      end
      found.socket_dir = root .. "/s"
      assert(native.mkdir(found.socket_dir))
      if server.user() then
         assert(native.chown(found.socket_dir, server.user()))
      end
   end
   return found.socket_dir
end

return server
