-- lint.lua: checks the source against the rules of the project; `make lint`.
-- SPDX-License-Identifier: MIT
--
-- Runs in the top folder. $FLAGS is what the compilers get. Prints one line for each offence,
-- FILE:LINE: RULE, and exits with 1 if there is any. tests/harness/lint_test.lua has a tree that
-- breaks each rule once.

package.path = arg[0]:match "^(.*/)" .. "?.lua;" .. package.path

local tree = require "tree"

-- Runs a tool whose own lines are the offences.
local function run_tool(command)
   local lines, ok = tree.capture(command .. " 2>&1")
   if not ok then
      tree.offences = tree.offences + 1
      io.write(table.concat(lines, "\n"), "\n")
   end
end

local function check_tools()
   for _, cc in ipairs { "gcc", "clang" } do
      if os.execute("command -v " .. cc .. " >/dev/null") then
         run_tool(("find src -name '*.c' | xargs -P 2 -n 15 %s %s -Werror -fsyntax-only"):format(cc,
            os.getenv "FLAGS" or ""))
      end
   end
   run_tool "luacheck --no-color --quiet --codes lua scripts tests"
end

for _, subject in ipairs { "layers", "names", "pointers", "text", "pages" } do
   require(subject).check()
end
check_tools()
if tree.offences > 0 then
   io.write(tree.offences, " offences\n")
   os.exit(1)
end
