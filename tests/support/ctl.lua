-- ctl.lua: asks a program that runs, as a user does.
-- SPDX-License-Identifier: MIT

local child = require "child"
local homes = require "homes"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local ctl = {}

-- Runs `pgcdc-lua ctl -s STATE` with these words. Returns its status, standard output and standard
-- error. `p`: the program that is asked. Where its state is in a database it is asked as its user
-- does, by its script.
function ctl.run(p, ...)
   p = rawget(p, "program") or p
   local is_file = p.state:find "^/"
   local result = program.run { state = false, env = { HOME = not is_file and p.dir or nil },
      options = is_file and { "ctl", "-s", homes.place(p.state), ... } or { "ctl", p.script, ... } }
   return result.status, result.stdout, result.stderr
end

-- The same, which must do what it is asked. Returns what it says.
function ctl.ok(p, ...)
   local status, text, why = ctl.run(p, ...)
   lu.assertEquals({ status, why }, { 0, "" })
   return (text:gsub("\n$", ""))
end

-- The same; what is asked must not be possible. Returns why.
function ctl.fails(p, ...)
   local status, text, why = ctl.run(p, ...)
   lu.assertEquals({ status, text }, { 1, "" }, why)
   return (why:gsub("^pgcdc%-lua: ", ""):gsub("\n$", ""))
end

-- The same with --json. Returns the answer, decoded.
function ctl.json(p, ...)
   local _, text = ctl.run(p, "--json", ...)
   lu.assertNotNil(text:match "^[^\n]+\n$", text)
   return json.decode(text)
end

-- The status, decoded.
function ctl.status(p)
   return ctl.json(p, "status").status
end

-- Runs it on a terminal of so many columns, with these words, until it ends or `seconds` have
-- passed. Returns what it writes.
function ctl.on_terminal(p, seconds, columns, ...)
   local words = table.concat({ program.binary(), "ctl", "-s", homes.place(p.state), ... }, " ")
   local command = ("stty cols %d rows 24; exec timeout -s INT %g %s"):format(columns, seconds,
      words)
   return (child.run({ argv = { "script", "-qec", command, "/dev/null" }, stderr = "null",
                       stdin = "null" }, 30))
end

-- ---- a terminal that a test drives ----

local Terminal = {}
Terminal.__index = Terminal

-- Starts it on a terminal of so many columns.
function ctl.start_on_terminal(p, columns, ...)
   local words = table.concat({ program.binary(), "ctl", "-s", homes.place(p.state), ... }, " ")
   local proc = assert(native.spawn { stdin = "pipe", stdout = "pipe", stderr = "null",
      argv = { "script", "-qec", ("stty cols %d rows 24; tty; exec %s"):format(columns, words),
               "/dev/null" } })
   scope.add(function()
      proc:kill "KILL"
      proc:wait(wait.scaled(10))
   end)
   local self = setmetatable({ proc = proc, text = "" }, Terminal)
   self.path = self:wait "/dev/pts/%d+\r?\n":match "/dev/pts/%d+"
   return self
end

-- Waits for what matches the pattern. Returns all that came up to there, since the wait before.
function Terminal:wait(pattern)
   while not self.text:find(pattern) do
      self.text = self.text .. assert(self.proc:read("stdout", wait.scaled(20)))
   end
   local _, last = self.text:find(pattern)
   local text = self.text:sub(1, last)
   self.text = self.text:sub(last + 1)
   return text
end

function Terminal:resize(columns)
   child.run { argv = { "stty", "-F", self.path, "cols", tostring(columns) } }
end

function Terminal:press(key)
   assert(self.proc:write(key))
end

-- The status with which it ends.
function Terminal:finish()
   return assert(self.proc:wait(wait.scaled(10))).exit
end

return ctl
