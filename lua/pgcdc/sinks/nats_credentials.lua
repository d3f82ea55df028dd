-- pgcdc.sinks.nats_credentials: files of credentials, as NATS has them.
-- SPDX-License-Identifier: MIT

local io = rawget(_G, "io")

local CREDENTIALS = "%-%-BEGIN NATS USER JWT%-%-%-%-%-%s+(%S+)%s.*%-%-BEGIN USER NKEY SEED"
   .. "%-%-%-%-%-%s+(%S+)%s"

--- The token and the seed of the sink's file of credentials, or of its text; nil if it has none.
return function(sink)
   local text = sink:secret "credentials"
   if not text then
      return
   elseif not text:find("BEGIN NATS USER JWT", 1, true) then
      local f, problem = io.open(text, "rb")
      local content = f and f:read "a"
      if f then
         f:close()
      end
      if not content then
         sink:deny("credentials: " .. (problem or text .. " is no file"))
      end
      text = content
   end
   local jwt, seed = text:match(CREDENTIALS)
   if not jwt then
      sink:deny("credentials: that is no file of credentials, with a JWT and an NKEY seed")
   end
   return jwt, seed
end
