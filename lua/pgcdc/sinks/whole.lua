-- pgcdc.sinks.whole: for targets that take whole rows only, in the place of what they had.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"

local whole = {}

--- Raises an error if values of the row are not known: the target would lose them.
function whole.check(what, value)
   local names = raw.is_change(value) and value.op ~= "delete" and value.unchanged
   if names then
      error(('%s: the value of column "%s" is not known, since an update left it as it was and the'
         .. " log does not have it, and whole rows are wanted: ALTER TABLE ... REPLICA IDENTITY"
         .. ' FULL, and toast = "require"'):format(what, names[1]), 0)
   end
end

return whole
