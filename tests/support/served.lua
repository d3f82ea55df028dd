-- served.lua: the program with --listen, and who asks it.
-- SPDX-License-Identifier: MIT

local child = require "child"
local json = require "json"
local native = require "native"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local served = {}

-- The path of a program, or nil.
function served.find(name)
   for dir in ((os.getenv "PATH" or "") .. ":/usr/sbin"):gmatch "[^:]+" do
      if native.realpath(dir .. "/" .. name) then
         return dir .. "/" .. name
      end
   end
end

-- True if the module was built and these programs are there; says so where they are not.
function served.is_there(...)
   if not native.realpath(program.binary():match "^(.*)/" .. "/modules/listen.so") then
      io.write "skipped, the module listen was not built ... "
      return false
   end
   for _, name in ipairs { "curl", ... } do
      if not served.find(name) then
         io.write("skipped, there is no ", name, " ... ")
         return false
      end
   end
   return true
end

local methods = {}
local mt = { __name = "served", __index = function(self, name)
   return methods[name] or function(_, ...)
      return self.program[name](self.program, ...)
   end
end }

-- Starts it as program.start does, with --listen in front of options.options. <options>: listen =
-- where (a free port of 127.0.0.1). What it does not know is asked of the program.
function served.start(options)
   local port = not options.listen and assert(native.free_port())
   local self = setmetatable({ port = port, listen = options.listen or "127.0.0.1:" .. port }, mt)
   local words = { "--listen", self.listen }
   table.move(options.options or {}, 1, #(options.options or {}), 3, words)
   self.program = program.start(setmetatable({ options = words }, { __index = options }))
   self.program:wait_stderr("msg=\"?listening\"? ")
   return self
end

-- Asks for a path with curl. <more>: further arguments, a list. Returns the status (0: there was no
-- answer), the body and the headers, as text.
function served.get(self, path, more)
   local head = scope.dir "head" .. "/head"
   local argv = { served.find "curl", "-sS", "-g", "--max-time", tostring(wait.scaled(10)), "-D",
                  head, "-w", "\n%{http_code}" }
   local socket = self.listen:match "^unix:(.*)"
   if socket then
      table.move({ "--unix-socket", socket }, 1, 2, #argv + 1, argv)
   end
   table.move(more or {}, 1, #(more or {}), #argv + 1, argv)
   argv[#argv + 1] = "http://" .. (socket and "localhost" or self.listen) .. path
   local text = child.run({ argv = argv, stderr = "null" }, 20)
   local body, status = text:match "^(.*)\n(%d+)$"
   local file = io.open(head, "rb")
   local headers = file and file:read "a" or ""
   if file then
      file:close()
   end
   return tonumber(status), body, headers
end
methods.get = served.get

-- What /status says.
function methods:status()
   local status, body = self:get "/status"
   return status == 200 and json.decode(body) or nil
end

-- The samples of /metrics, by name and labels as they stand there.
function methods:metrics()
   local _, body = self:get "/metrics"
   local samples = {}
   for name, value in body:gmatch "([%w_]+[^\n]-) (%S+)\n" do
      samples[name] = tonumber(value)
   end
   return samples, body
end

-- Waits until f(what /status says) is true. Returns what that says.
function methods:wait_status(what, f, seconds)
   local found
   self.program:wait_until(function()
      local s = self:status()
      found = s and f(s) and s
      return found
   end, seconds or 20, what)
   return found
end

-- Waits until /readyz answers so. Returns what it says.
function methods:wait_ready(status, seconds)
   local body
   self.program:wait_until(function()
      local now, text = self:get "/readyz"
      body = text
      return now == status
   end, seconds or 20, "readyz " .. status)
   return json.decode(body)
end

return served
