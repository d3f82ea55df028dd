-- observer.lua: sees when changes arrive, whoever delivers them; see observer.c.
-- SPDX-License-Identifier: MIT

local native = require "native"
local scope = require "scope"
local tree = require "tree"
local wait = require "wait"

local observer = {}

local methods = {}
local mt = { __name = "observer", __index = methods }

-- The next line that it prints.
local function answer(self, seconds)
   local deadline = native.now() + wait.scaled(seconds)
   while not self.output:find "\n" do
      self.check(native.now() < deadline)
      self.output = self.output .. (self.proc:read("stdout", 0.2) or "")
   end
   local line, rest = self.output:match "^([^\n]*)\n(.*)$"
   self.output = rest
   return line
end

-- Looks at "file" or "kafka" with the words that observer.c wants. <check> is called while it
-- waits, with false when it has waited for too long, and raises where nothing can come any more.
function observer.new(check, ...)
   local self = setmetatable({ output = "", check = check }, mt)
   self.proc = assert(native.spawn {
      argv = { tree.top .. "/build/peers/observer", ... }, stdin = "pipe", stdout = "pipe",
   })
   self.forget = scope.add(function() self:close() end)
   assert(answer(self, 60) == "ok")
   return self
end

-- From now on it counts the next <count> changes; `result` waits for them. <late>: also how late
-- they come.
function methods:expect(count, late)
   self.count = count
   assert(self.proc:write((late and "-%d\n" or "%d\n"):format(count)))
end

-- What came: `bytes` of a change; seconds from `expect` to the `first` and the `last`; how many
-- came a second in the `second_half`; and with <late> p50, p99, longest (ms). Raises where more
-- came.
function methods:result(seconds)
   local n = {}
   for word in answer(self, seconds):gmatch "%S+" do
      n[#n + 1] = tonumber(word)
   end
   assert(n[1] == self.count, ("%d changes instead of %d"):format(n[1], self.count))
   return { bytes = n[2] / n[1], first = n[3], last = n[5],
            second_half = (n[1] - n[6]) / (n[5] - n[4]), late = n[7], p50 = n[8], p99 = n[9],
            longest = n[10] }
end

-- How many have come of those that are expected.
function methods:so_far()
   assert(self.proc:write "0\n")
   return tonumber((answer(self, 10)))
end

function methods:close()
   self.forget()
   self.proc:close "stdin"
   self.proc:kill "KILL"
   self.proc:wait(wait.scaled(10))
end

return observer
