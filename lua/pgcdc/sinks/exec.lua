-- pgcdc.sinks.exec: one line of JSON for each value, into the standard input of a command.
-- SPDX-License-Identifier: MIT
--
-- Lines are kept until it is known that the command has read them. A command that is started in the
-- place of one that failed gets them again: nothing is lost, lines may come twice.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local mend = require "pgcdc.mend"
local counts = require "pgcdc.sinks.counts"
local participants = require "pgcdc.delivery.participants"
local recovery = require "pgcdc.delivery.recovery"

local SEND = 64 * 1024   -- bytes that are written at once
local KEEP = 1024 * 1024 -- bytes that are kept before we wait until they are read
local PATIENCE = 1       -- seconds that we wait for its end before a message says so

local Exec = { enters_itself = true }
Exec.__index = Exec

local function fail(self, message, ...)
   local command = self.command:gsub("%s+", " ")
   if #command > 60 then
      command = command:sub(1, 57) .. "..."
   end
   error(("pgcdc.sinks.exec: the command '%s' %s"):format(command, message:format(...)), 0)
end

-- How a command ended, for messages.
local function ending(how, number)
   return how == "signal" and ("was ended by signal %d"):format(number)
      or ("ended with status %d"):format(number)
end

-- The command does not read any more: ends it, so that it can be started again, and raises why.
local function fail_ended(self)
   local child = self.child
   child:close_input()
   local how, number = child:wait(1)
   if how then
      fail(self, "%s, though there is more to read", ending(how, number))
   end
   child:kill(15)
   if not child:wait(2) then
      child:kill(9)
      child:wait(2)
   end
   fail(self, "has closed its input")
end

-- Returns the command, which is running then: it is started at first, and again after it failed;
-- then it gets what it may not have read. A failure that is found here is raised first, once.
local function ready(self)
   recovery.prepare(self.participant)
   local child = self.child
   if not self.is_started then
      child:start()
      self.is_started = true
   elseif not child:is_running() then
      if self.is_failed then
         raw.log("info", "starting the command again", { command = self.command })
         child:start()
         self.is_failed = false
      else
         self.is_failed = true
         fail_ended(self)
      end
   end
   return child
end

-- Writes what the command was given. Blocks while its pipe is full.
local function send(self)
   if not self.child:send() then
      self.is_failed = true
      fail_ended(self)
   end
end

-- Blocks until the command has read everything.
local function drain(self)
   local child, nap = self.child, 0.00005
   local given = child:pending()
   send(self)
   while true do
      local unread = child:unread()
      if not unread or not child:is_running() then
         self.is_failed = true
         fail_ended(self)
      elseif unread == 0 then
         child:forget()
         self.counts.bytes = self.counts.bytes + given
         counts.done(self.counts)
         return
      end
      raw.nap(nap)
      nap = math.min(nap * 2, 0.02)
   end
end

--- Takes one value.
function Exec:write(value)
   local before = participants.enter_sink(self)
   participants.touch(self.participant)
   local child = self.child
   if not self.is_started or self.is_failed then
      ready(self)
   end
   local given, unsent = child:pending()
   if given >= KEEP then
      ready(self)
      drain(self)
   elseif unsent >= SEND then
      ready(self)
      send(self)
   end
   child:put(value)
   self.counts.taken = self.counts.taken + 1
   participants.leave_sink(before)
end

--- Starts the command.
function Exec:restore()
   self.child:start()
   self.is_started = true
end

--- Blocks until the command has read everything.
function Exec:flush()
   local began = raw.now()
   if self.child:pending() > 0 then
      ready(self)
      drain(self)
   end
   self.counts.flush_seconds = raw.now() - began
end

--- What has become of the values. See lua/README.md.
function Exec:stats()
   return counts.stats(self.counts, (self.child:pending()), self.is_started and not self.is_failed)
end

--- Closes the command's input and waits for its end. Raises an error unless its status is 0.
function Exec:close()
   local child = self.child
   if not self.is_started then
      return
   end
   child:send()
   child:close_input()
   local how, number = child:wait(PATIENCE)
   if not how and child:is_running() then
      raw.log("info", "waiting for the command to end", { command = self.command })
      repeat
         how, number = child:wait(3600)
      until how or not child:is_running()
   end
   self.is_started = false
   if how and not (how == "exit" and number == 0) then
      fail(self, "%s", ending(how, number))
   end
end

--- For --check: whether there is the program that the command begins with, as far as that can be
--- told without running it. Returns a line about it; raises why not.
function Exec:check()
   local word = (self.command .. " "):match "^%s*([%w_./+-]+)%s"
   local function is(test)
      return os.execute((test .. " %s >/dev/null 2>&1"):format(word))
   end
   if not word then
      return "a command"
   elseif is(word:find "/" and "test -x" or "command -v --") then
      return "a command, " .. word
   elseif word:find "/" and is "test -f" then
      self.mends = { mend.shell("chmod +x " .. word) }
      fail(self, "cannot be run: %s is not executable", word)
   end
   fail(self, "cannot be run: there is no %s", word)
end

--- Makes a sink. `spec`: its options, see lua/README.md.
return function(spec)
   local what = "pgcdc.sinks.exec"
   check.type(what .. ": its argument", spec, "table")
   spec = check.taken(what, spec, { command = true, name = true })
   check.text(what .. ": command", spec.command)
   if spec.name ~= nil then
      check.text(what .. ": name", spec.name)
   end
   if raw.is_sandboxed then
      check.fail("%s: the sandbox allows no commands", what)
   end
   local self = setmetatable({ command = spec.command, name = spec.name,
                               child = raw.child_new(spec.command),
                               is_started = false, counts = counts.new() }, Exec)
   self.promise = { crash = "at least once", position = "the state file", order = "the source's" }
   self.participant = participants.sink(self)
   self.participant.about, self.participant.stats = "exec", Exec.stats
   return self
end
