-- sabotage_fail_test.lua: every fallible call fails in turn: once, and from there on.
-- SPDX-License-Identifier: MIT
--
-- Whatever fails, the program ends in time, with a status that is documented and one line that says
-- why, or goes on as if nothing had been. What it delivered, with what a run after it delivers, is
-- exact. Here some steps of each kind, in `make sweep` all of them, in a program that
-- watches its memory.

local lu = require "luaunit"
local sabotage = require "sabotage"

local TestSabotageFail = {}

local is_whole = os.getenv "PGCDC_SWEEP" ~= nil

local function count(text, pattern)
   return select(2, text:gsub(pattern, ""))
end

-- It ends by itself, in good order.
local function check(p)
   local result = sabotage.finish(p, 60)
   local errors = count(result.stderr, "level=error") + count(result.stderr, "\npgcdc%-lua: ")
      + count(result.stderr:sub(1, 11), "^pgcdc%-lua: ")
   lu.assertNotNil(result.status, "it crashed")
   if result.status == 0 then
      lu.assertEquals(errors, 0, "an error, and status 0")
   else
      lu.assertTrue(({ [1] = true, [3] = true, [4] = true, [70] = true })[result.status],
         "status " .. result.status)
      lu.assertEquals(errors, 1, "lines that tell the error")
      lu.assertNil(result.stderr:find('msg=""', 1, true))
      lu.assertNil(result.stderr:find("not an error", 1, true))
   end
   return result
end

-- The server never answers again, so it is asked to stop when it has said so.
local function check_lost(p)
   local function has_told()
      return p:stderr():find "retry_in" or p:stderr():find "level=warn[^\n]*pipeline="
   end
   while p:alive() and not has_told() do
      sabotage.rest()
   end
   p:signal "TERM"
   local result = sabotage.finish(p, 30)
   if result.signal ~= 15 then -- before it could hear it
      check(p)
   end
   return result
end

local function test(name, class, scenario, errors, hows)
   for _, error in ipairs(errors) do
      for _, how in ipairs(hows or { "once", "on" }) do
         local is_lost = error == "cut" and how == "on"
         TestSabotageFail[("test_%s_%s_%s"):format(name, error:lower(), how)] = function()
            lu.skipIf(class == "memory" and os.getenv "PGCDC_TEST_COVER",
               "what counts lines does not survive without memory")
            lu.assertTrue(sabotage.sweep(scenario,
               { class = class, how = how, error = error, rounds = 2 }, 3,
               is_lost and check_lost or check) > 0)
         end
      end
   end
end

test("memory", "memory", "both", { "none" })
test("lua", "lua", "both", { "none" })
test("limit", "limit", "both", { "none" })
test("postgres", "postgres", "postgres", { "refuse", "cut" })
-- (the same calls as above, and those of the log; each run makes a slot, which takes its time)
test("logical", "postgres", "logical", is_whole and { "refuse", "cut" } or { "cut" },
   not is_whole and { "once" })
-- (the same calls as above, and those of the state's database)
test("database", "postgres", "database", is_whole and { "refuse", "cut" } or { "cut" },
   not is_whole and { "once" })
test("database_memory", "memory", "database", { "none" }, not is_whole and { "once" })
test("sqlite", "sqlite", "files", { "NOMEM", "FULL", "IOERR", "BUSY" })
test("pages", "pages", "files", { "none" })
test("files", "files", "files", { "ENOSPC", "EIO", "short" })

return TestSabotageFail
