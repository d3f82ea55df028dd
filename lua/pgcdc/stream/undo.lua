-- pgcdc.stream.undo: takes back what an operator did, when passing the result on fails.
-- SPDX-License-Identifier: MIT
--
-- An operator changes its state first and emits then, so that a value which a feedback loop brings
-- back meets the new state. If the emission raises an error, the state must be what it was before,
-- since the same value may be given again:
--
--    local attempt <close> = undo(back, before)
--    node.out(x)
--    attempt.is_done = true
--
-- A pcall would do the same, but lose the traceback.

local Attempt = {
   __close = function(self)
      if not self.is_done then
         self.back(self.a, self.b, self.c)
      end
   end,
}

--- A value for a <close> variable: calls `back(a, b, c)` at the end of the block, unless its field
--- `is_done` was set.
return function(back, a, b, c)
   return setmetatable({ back = back, a = a, b = b, c = c }, Attempt)
end
