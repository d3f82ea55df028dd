-- receiver.lua: a real web server on a port of 127.0.0.1, Python's, which answers as it is told.
-- SPDX-License-Identifier: MIT
--
-- receiver.py says which rules there are. It dies with the scope that it was started in.

local files = require "files"
local json = require "json"
local native = require "native"
local scope = require "scope"
local wait = require "wait"

local receiver = {}

local methods = {}
local mt = { __name = "receiver", __index = methods }
local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" or "."

-- The path of the Python to use: $PYTHON, Debian's own, or the first in the path; or nil.
function receiver.python()
   local path = os.getenv "PYTHON" or "/usr/bin/python3"
   if native.realpath(path) then
      return path
   end
   for dir in (os.getenv "PATH" or ""):gmatch "[^:]+" do
      if native.realpath(dir .. "/python3") then
         return dir .. "/python3"
      end
   end
end

-- True if the sink was built and there is a server to test with; says so where there is not.
function receiver.is_there()
   local program = require "program"
   if not native.realpath(program.binary():match "^(.*)/" .. "/modules/http.so") then
      io.write "skipped, the module http was not built ... "
      return false
   elseif not receiver.python() then
      io.write "skipped, there is no python3 ... "
      return false
   end
   return true
end

-- Starts one. <options>: secret = that signatures are verified with; dir = a folder that has
-- server.crt and server.key, for TLS; program = "opensearch": what stands in for that, see
-- opensearch.py.
function receiver.new(options)
   local self = setmetatable({ port = assert(native.free_port()) }, mt)
   self.program = options and options.program or "receiver"
   self.secret = options and options.secret
   self.dir = options and options.dir or scope.dir "receiver"
   self.is_tls = files.read(self.dir .. "/server.crt") ~= nil
   self:start()
   scope.add(function() self:kill() end)
   return self
end

function methods:start()
   os.remove(self.dir .. "/ready")
   self.proc = assert(native.spawn {
      argv = { receiver.python(), ("%s/%s.py"):format(native.realpath(here), self.program),
               self.dir, tostring(self.port), self.secret },
      stdout = self.dir .. "/out", stderr = self.dir .. "/out",
   })
   wait.until_(function()
      assert(self.proc:alive(), files.read(self.dir .. "/out"))
      return files.read(self.dir .. "/ready") == "ready"
   end, 20, "the receiver")
end

-- SIGKILL.
function methods:kill()
   self.proc:kill "KILL"
   self.proc:wait(wait.scaled(10))
end

-- The address of a path of it.
function methods:url(path)
   return ("%s:%d%s"):format(self.is_tls and "https://localhost" or "http://127.0.0.1", self.port,
      path or "/in")
end

-- From now on it answers by these rules.
function methods:rules(rules)
   files.write(self.dir .. "/rules.new", #rules > 0 and json.encode(rules) or "[]")
   assert(os.rename(self.dir .. "/rules.new", self.dir .. "/rules"))
end

-- The path of a file that is not there yet: a gate. `open` makes it.
function methods:gate()
   self.gates = (self.gates or 0) + 1
   return self.dir .. "/gate" .. self.gates
end

function methods.open(_, gate)
   files.write(gate, "")
end

-- All requests in the order in which they came: {n, at, method, path, headers, body, verified,
-- status, came, went}. `came` and `went` are places in one order of both events; no status: not
-- answered.
function methods:requests()
   local list, by_n, place = {}, {}, 0
   for line in (files.read(self.dir .. "/log") or ""):gmatch "([^\n]*)\n" do
      local entry = json.decode(line)
      place = place + 1
      local request = by_n[entry.n]
      if entry.status then
         request.status, request.went = entry.status, place
      else
         entry.came = place
         list[#list + 1], by_n[entry.n] = entry, entry
      end
   end
   return list
end

-- The changes that were taken (at this path, or at all), in the order of the answers: the bodies of
-- requests with a 2xx, each of them JSON, lines of JSON or a list.
function methods:changes(path)
   local taken, changes = {}, {}
   for _, request in ipairs(self:requests()) do
      if request.status and request.status // 100 == 2 and (not path or request.path == path) then
         taken[#taken + 1] = request
      end
   end
   table.sort(taken, function(a, b) return a.went < b.went end)
   for _, request in ipairs(taken) do
      local text = request.body
      if text:sub(1, 1) == "[" then
         for _, change in ipairs(json.decode(text)) do
            changes[#changes + 1] = change
         end
      else
         for line in text:gmatch "[^\n]+" do
            changes[#changes + 1] = json.decode(line)
         end
      end
   end
   return changes
end

-- The documents of an index that opensearch.py has, by their ids.
function methods:documents(index)
   local documents = {}
   for line in (files.read(self.dir .. "/documents") or ""):gmatch "([^\n]*)\n" do
      local key, value = table.unpack(json.decode(line))
      if key[1] == index then
         documents[key[2]] = value[2] ~= json.null and value[2] or nil
      end
   end
   return documents
end

-- Waits until so many requests have come.
function methods:await(count, seconds)
   wait.until_(function() return #self:requests() >= count end, seconds or 20, function()
      return ("%d requests, there are %d"):format(count, #self:requests())
   end)
end

return receiver
