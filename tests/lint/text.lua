-- text.lua: columns, blanks, tabs, lengths, licences of all files; what stands in the top folder.
-- SPDX-License-Identifier: MIT

local tree = require "tree"

local text = {}

local max_columns = 100

-- How many lines a file may have; nil: as many as it needs.
local function max_lines(path)
   if path == "README.md" then
      return 200
   elseif path == "Makefile" then
      return 120
   end
   return not path:find "%.md$" and not path:find "%.1$" and 600 or nil
end

-- What may stand in the top folder besides dotfiles; build/ is never committed.
local top_level = {
   src = true, lua = true, scripts = true, tests = true, build = true,
   Makefile = true, ["README.md"] = true, LICENSE = true,
}

-- Recipes begin with tabs, and programs print some, which manuals show.
local function may_have_tabs(path)
   return path == "Makefile" or path:find "%.mk$" or path:find "%.md$" or path:find "%.[15]$"
      or path == "src/dist/debian/rules"
end

-- Files whose form Debian fixes, and which may have no comments.
local function may_lack_licence(path)
   return path:find "%.md$" or path:find "^src/dist/debian/" and not path:find "/rules$"
end

local function check_file(path)
   local lines = tree.lines(tree.read(path))
   local has_licence = may_lack_licence(path)
   if path:find "%.json$" then -- one value, which has no comments and whose texts cannot be folded
      return
   end
   for i, line in ipairs(lines) do
      has_licence = has_licence or line:find "SPDX%-License%-Identifier: MIT"
      if (utf8.len(line) or #line) > max_columns then
         tree.report(path, i, "more than %d columns", max_columns)
      end
      if line:find "%s$" then
         tree.report(path, i, "blanks at the end")
      end
      if line:find "\t" and not may_have_tabs(path) then
         tree.report(path, i, "a tab")
      end
   end
   local limit = max_lines(path)
   if limit and #lines > limit then
      tree.report(path, nil, "%d lines; it has at most %d", #lines, limit)
   end
   if not has_licence then
      tree.report(path, nil, "no line SPDX-License-Identifier: MIT")
   end
end

function text.check()
   local all = ".ci .luacheckrc Makefile README.md src lua scripts tests"
      .. " ! -path 'tests/fuzz/corpus/*'" -- which has any bytes at all
   for _, path in ipairs(tree.find(all)) do
      check_file(path)
   end
   for _, name in ipairs((tree.capture "ls")) do
      if not top_level[name] then
         tree.report(name, nil, "has no place in the top folder")
      end
   end
end

return text
