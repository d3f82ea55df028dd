-- pgcdc.doctor.sinks: what mends a sink whose target cannot be used.
-- SPDX-License-Identifier: MIT
--
-- A sink that knows what mends it (Postgres) leaves a list of that in its field `mends`.

local mend = require "pgcdc.mend"

local sinks = {}

local rules = {
   { ": (%S.*): there is no such folder", function(folder)
      return { mend.shell("mkdir -p " .. mend.quoted(folder)) }
   end },
   { "(/.*): Permission denied", function(path)
      return { mend.shell(("chmod u+w %s || sudo chown \"$(id -un)\" %s"):format(mend.quoted(path),
         mend.quoted(path))) }
   end },
}

--- Completes the item of a sink, see pgcdc.doctor.doctor.
function sinks.examine(item, sink)
   if item.ok then
      return
   end
   item.mends = rawget(sink, "mends") or {}
   for _, rule in ipairs(item.mends[1] and {} or rules) do
      local found = item.text:match(rule[1])
      if found then
         item.mends = rule[2](found)
         return
      end
   end
end

return sinks
