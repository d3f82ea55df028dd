-- pgcdc.sinks.secret: options that may stand in the environment or in credential files.
-- SPDX-License-Identifier: MIT
--
--    password = "$REDIS_PASSWORD"                        the variable
--    password = "$CREDENTIALS_DIRECTORY/redis"           the file of that name in that folder
--    url = "https://$HOST/in"   "${HOST}9"   "$$"        in a longer text; a dollar
--
-- A newline at the end of a file is cut off. Nothing is expanded in the sandbox: a script that
-- nobody has read would see what is not its business.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local io, os = rawget(_G, "io"), os

local secret = {}

local FOLDER = "CREDENTIALS_DIRECTORY"

local getenv = not raw.is_sandboxed and os.getenv
local open = not raw.is_sandboxed and io.open

-- sink -> its texts as they were given, so that a file can be read again; no field of the sink,
-- since scripts can look into that.
local texts = setmetatable({}, { __mode = "k" })

local function variable(what, name)
   return getenv(name)
      or error(("%s: $%s is not set in the environment ($$ is a dollar)"):format(what, name), 0)
end

local function file(what, name)
   local path = variable(what, FOLDER) .. "/" .. name
   local f, problem = open(path, "rb")
   local text = f and f:read "a"
   if f then
      f:close()
   end
   if not text then
      error(("%s: the credential file $%s/%s cannot be read: %s"):format(what, FOLDER, name,
         problem or "it is no file"), 0)
   end
   return (text:gsub("\r?\n$", ""))
end

--- The text with what stands for its variables.
function secret.expand(what, text)
   if raw.is_sandboxed or not text:find("$", 1, true) then
      return text
   end
   local parts, at = {}, 1
   while true do
      local from = text:find("$", at, true)
      parts[#parts + 1] = text:sub(at, (from or #text + 1) - 1)
      if not from then
         return table.concat(parts)
      end
      local name, stop = text:match("^%$CREDENTIALS_DIRECTORY/([%w_.-]+)()", from)
      if name then
         parts[#parts + 1] = file(what, name)
      else
         name, stop = text:match("^%$([%a_][%w_]*)()", from)
         if not name then
            name, stop = text:match("^%${([%a_][%w_]*)}()", from)
         end
         if not name and text:sub(from + 1, from + 1) ~= "$" then
            error(("%s: after a $ comes the name of a variable; $$ is a dollar"):format(what), 0)
         end
         parts[#parts + 1] = name and variable(what, name) or "$"
         stop = name and stop or from + 2
      end
      at = stop
   end
end

--- Keeps a text of the sink that must not be seen, or that can change. Checks that it can be
--- expanded.
function secret.keep(sink, what, field, text)
   local ok, problem = pcall(secret.expand, what, text)
   if not ok then
      check.fail("%s", problem)
   end
   texts[sink] = texts[sink] or {}
   texts[sink][field] = { what = what, text = text }
end

--- What it stands for now, or nil.
function secret.of(sink, field)
   local kept = texts[sink] and texts[sink][field]
   return kept and secret.expand(kept.what, kept.text)
end

return secret
