-- pgcdc.sinks.subject: subjects of NATS: words with dots between.
-- SPDX-License-Identifier: MIT

local check = require "pgcdc.check"

local subject = {}

local LONGEST = 1000 -- bytes; a server takes lines of 4 KB, with the subject for the answer

local function hex(byte)
   return ("%%%02X"):format(byte:byte())
end

--- A value as one word of a subject.
function subject.escape(text)
   return text:find "[^A-Za-z0-9_-]" and text:gsub("[^A-Za-z0-9_-]", hex) or text
end

--- What is wrong with a subject for messages, or nil.
function subject.problem(text)
   if #text > LONGEST then
      return ("has %d bytes, and may have %d"):format(#text, LONGEST)
   elseif text:find "[%s%c]" then
      return "has a space or a control character in it"
   elseif text:find "[*>]" then
      return "has a * or > in it, which are for subscribers"
   elseif ("." .. text .. "."):find("..", 1, true) then
      return "has an empty word in it"
   end
end

--- Checks an option that is a pattern, whose fixed parts must be parts of subjects.
function subject.check(what, pattern)
   local problem = subject.problem((pattern:gsub("{[^{}]*}", "x")))
   if problem then
      check.fail("%s: '%s' %s", what, pattern, problem)
   end
end

--- The words before the first that depends on the value, each with a dot: "cdc." of
--- "cdc.{schema}.{table}".
function subject.fixed_part(pattern)
   return pattern:match("^[^{]*"):match "^.*%." or ""
end

--- True if a subscription, which may have * and > in it, takes the subject.
function subject.matches(subscription, text)
   local words = text:gmatch "[^.]+"
   for wanted in subscription:gmatch "[^.]+" do
      local word = words()
      if word == nil then
         return false
      elseif wanted == ">" then
         return true
      elseif wanted ~= "*" and wanted ~= word then
         return false
      end
   end
   return words() == nil
end

return subject
