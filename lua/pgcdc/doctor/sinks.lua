-- pgcdc.doctor.sinks: what mends a sink whose target cannot be used.
-- SPDX-License-Identifier: MIT
--
-- A sink that knows what mends it leaves a list of that in its field `mends`; what would run badly
-- in `warnings`, a list as an item has it.

local raw = require "pgcdc.raw"
local mend = require "pgcdc.mend"
local secret = require "pgcdc.sinks.secret"

local sinks = {}

local rules = {
   { ": (%S.*): there is no such folder", function(folder)
      return { mend.shell("mkdir -p " .. mend.quoted(folder)) }
   end },
   { "(/.*): Permission denied", function(path)
      return { mend.shell(("chmod u+rw %s || sudo chown \"$(id -un)\" %s"):format(mend.quoted(path),
         mend.quoted(path))) }
   end },
}

-- Warns of secrets that others may read.
local function warn_of_files(item, sink)
   for _, path in ipairs(raw.is_sandboxed and {} or secret.files(sink)) do
      local kind, _, mode = raw.file_stat(path)
      if kind == "file" and mode & 7 ~= 0 then
         item.warnings[#item.warnings + 1] = { text = path .. " may be read by everybody",
            mends = { mend.shell("chmod o-rwx " .. mend.quoted(path)) } }
      end
   end
end

--- Completes the item of a sink, see pgcdc.doctor.doctor.
function sinks.examine(item, sink)
   warn_of_files(item, sink)
   table.move(rawget(sink, "warnings") or {}, 1, #(rawget(sink, "warnings") or {}),
      #item.warnings + 1, item.warnings)
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
