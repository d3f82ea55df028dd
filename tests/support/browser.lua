-- browser.lua: Chromium without a window, which a test drives (browser.py).
-- SPDX-License-Identifier: MIT

local json = require "json"
local native = require "native"
local scope = require "scope"
local served = require "served"
local wait = require "wait"

local browser = {}

local methods = {}
local mt = { __name = "browser", __index = methods }
local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" or "."

-- True if there is what it takes; says so where there is not.
function browser.is_there()
   return served.is_there("chromium", "python3")
end

-- Starts one; it dies with its scope.
function browser.new()
   local self, home = setmetatable({ text = "" }, mt), scope.dir "home"
   self.proc = assert(native.spawn {
      argv = { served.find "python3", here .. "/browser.py", served.find "chromium",
               scope.dir "chromium" },
      stdin = "pipe", stderr = "null", env = { HOME = home, TMPDIR = home },
   })
   scope.add(function()
      self.proc:close "stdin"
      self.proc:wait(wait.scaled(10))
      self.proc:kill "KILL"
   end)
   return self
end

-- Gives it an order. Returns the answer.
function methods:order(order)
   assert(self.proc:write(json.encode(order) .. "\n"))
   while not self.text:find "\n" do
      self.text = self.text .. assert(self.proc:read("stdout", wait.scaled(30)))
   end
   local line, rest = self.text:match "^(.-)\n(.*)$"
   self.text = rest
   return json.decode(line)
end

function methods:open(url)
   self:order { open = url }
end

-- What a piece of JavaScript is worth, in the page.
function methods:eval(text)
   return self:order { eval = text }
end

-- Waits until the text of the first element that the selector finds matches a pattern. Returns it.
function methods:wait_text(selector, pattern, seconds)
   local text
   wait.until_(function()
      text = self:eval(("(document.querySelector(%q) || {}).innerText || ''"):format(selector))
      return text:find(pattern)
   end, seconds or 20, function()
      return ("%s to be like %s, it is: %s"):format(selector, pattern, text)
   end)
   return text
end

return browser
