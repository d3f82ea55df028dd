-- pages.lua: what the manuals say of the API and of the tests, against what is there.
-- SPDX-License-Identifier: MIT

local tree = require "tree"

local pages = {}

-- The words that the pieces of code in a page's lists begin with, as a set: of `a.b(c)` a and b.
local function words_of_lists(text)
   local words, items, is_inside = {}, {}, false
   for _, line in ipairs(tree.lines(text)) do
      is_inside = line:find "^%s*%* " or is_inside and line:find "^%s+%S"
      items[#items + 1] = is_inside and line or nil
   end
   for code in table.concat(items, " "):gmatch "`([^`]*)`" do
      for word in (code:match "^[%w_.:]+" or ""):gmatch "[%w_]+" do
         words[word] = true
      end
   end
   return words
end

-- What scripts may use is annotated for editors, and stands in a list of its manual.
local function check_exports()
   local names, ok = tree.capture "lua5.4 tests/lint/exports.lua 2>&1"
   if not ok then
      tree.report("tests/lint/exports.lua", nil, "%s", table.concat(names, "\n"))
      return
   end
   local meta = "\n" .. tree.read "lua/pgcdc/meta.lua" .. tree.read "lua/pgcdc/meta_sinks.lua"
   local manual = "lua/README.md"
   local words = words_of_lists(tree.read(manual))
   for _, name in ipairs(names) do
      local last = name:match "[%w_]+$"
      local as = name:gsub("^stream:", "Stream:"):gsub("^db:", "Connection:")
         :gsub("^pgcdc%.sinks%.", "sinks.")
      local pattern = as:gsub("%.", "%%.")
      if not meta:find("\nfunction " .. pattern .. "%(")
         and not meta:find("\n" .. pattern .. " =") then
         tree.report("lua/pgcdc/meta.lua", nil, "says nothing of %s", name)
      end
      if not words[last] then
         tree.report(manual, nil, "no list names %s", name)
      end
   end
end

-- tests/README.md names every suite, and none, and no test, that is not there.
local function check_promises()
   local page, named, paths = "tests/README.md", {}, {}
   local found = tree.capture "find tests -name '*_test.lua' | LC_ALL=C sort"
   for _, path in ipairs(found) do
      paths[path:match "([^/]*)_test%.lua$"] = path
   end
   for code in tree.read(page):gmatch "`([%l%d_.]+)`" do
      local suite, test = code:match "^([%l%d_]+)%.?([%l%d_]*)$"
      local is_there = tree.read(paths[suite] or ""):find("test_" .. (test or "") .. "%f[^%w_]")
      if (test or "") ~= "" and suite ~= "suite" and not is_there then
         tree.report(page, nil, "there is no test %s", code)
      end
      named[suite or ""] = true
   end
   for _, path in ipairs(found) do
      if not named[path:match "([^/]*)_test%.lua$"] then
         tree.report(page, nil, "says nothing of %s", path)
      end
   end
end

-- src/README.md names every file of src/ and of lua/pgcdc/, by its last name, in a piece of code.
local function check_files()
   local page, named = "src/README.md", {}
   for code in tree.read(page):gmatch "`([^`\n]*)`" do
      named[code:match "([%w_]+)%.?[ch]?$" or ""] = true
   end
   for _, path in ipairs(tree.find "src lua/pgcdc") do
      local name = path:match "([%w_]+)%.[chl]u?a?$"
      if name and not named[name] then
         named[name] = true
         tree.report(page, nil, "says nothing of %s", path)
      end
   end
end

function pages.check()
   check_files()
   check_exports()
   check_promises()
end

return pages
