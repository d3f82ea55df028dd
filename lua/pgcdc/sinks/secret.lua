-- pgcdc.sinks.secret: options that may stand in the environment or in credential files.
-- SPDX-License-Identifier: MIT
--
--    password = "$REDIS_PASSWORD"            see src/base/variable.h
--
-- Nothing is expanded in the sandbox: a script that nobody has read would see what is not its
-- business.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"

local secret = {}

-- sink -> its texts as they were given, so that a file can be read again; no field of the sink,
-- since scripts can look into that.
local texts = setmetatable({}, { __mode = "k" })

--- The text with what stands for its variables.
function secret.expand(what, text)
   if raw.is_sandboxed or not text:find("$", 1, true) then
      return text
   end
   return raw.expand(what, text)
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

--- The name of the variable that the text is, or nil.
function secret.variable_of(sink, field)
   local kept = texts[sink] and texts[sink][field]
   return kept and kept.text:match "^%$([%a_][%w_]*)$"
end

--- The files that the texts of the sink are in, or name, and that nobody else may read: a list.
function secret.files(sink)
   local found, folder = {}, os.getenv "CREDENTIALS_DIRECTORY"
   for field, kept in pairs(texts[sink] or {}) do
      local name = kept.text:match "^%$CREDENTIALS_DIRECTORY/(.+)$"
      if field == "tls.key" then
         found[#found + 1] = secret.of(sink, field)
      elseif name and folder then
         found[#found + 1] = folder .. "/" .. name
      elseif field == "credentials" and not kept.text:find "[\n$]" then
         found[#found + 1] = kept.text
      end
   end
   table.sort(found)
   return found
end

return secret
