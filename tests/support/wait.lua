-- wait.lua: waiting for a condition, with a deadline, never for a time.
-- SPDX-License-Identifier: MIT
--
-- Every deadline is multiplied by $PGCDC_TEST_SLOW (default 1), which builds
-- with sanitizers or valgrind set, so a test writes what a healthy machine needs
-- several times over and nothing more.

local native = require "native"

local wait = {}

wait.slow = tonumber(os.getenv "PGCDC_TEST_SLOW" or "") or 1

-- How many seconds <seconds> are in this run.
function wait.scaled(seconds)
   return seconds * wait.slow
end

-- Calls <condition> until it returns something true and returns that (all its values). When
-- <seconds> (default 10, scaled) are over, raises "timeout after N s waiting for <what>"; <what>
-- may be a function that is asked for the text only then. Errors of <condition> pass through.
function wait.until_(condition, seconds, what)
   local limit = wait.scaled(seconds or 10)
   local deadline = native.now() + limit
   local pause = 0.001
   while true do
      local late = native.now() >= deadline
      local result = table.pack(condition())
      if result[1] then
         return table.unpack(result, 1, result.n)
      end
      if late then
         if type(what) == "function" then
            what = what()
         end
         error(("timeout after %g s waiting for %s"):format(limit, what or "a condition"), 2)
      end
      native.sleep(pause)
      pause = math.min(pause * 1.5, 0.02)
   end
end

local MOST = 10

-- Like wait.until_, but the time begins anew whenever <progress>() returns another value than
-- before: it ends when nothing has moved for so long, or after ten times as long.
function wait.moving(condition, progress, seconds, what)
   local began, moved, last = native.now(), native.now(), progress()
   return wait.until_(function()
      local now, result = native.now(), table.pack(condition())
      local value = progress()
      if value ~= last then
         moved, last = native.now(), value
      end
      if result[1] then
         return table.unpack(result, 1, result.n)
      elseif now - moved >= wait.scaled(seconds) then
         error(("nothing has moved for %g s, after %.0f s, waiting for %s"):format(
            wait.scaled(seconds), now - began, type(what) == "function" and what() or what), 0)
      end
   end, MOST * seconds, what)
end

return wait
