-- text.lua: columns, blanks, tabs, lengths, licences of all files; what stands in the top folder.
-- SPDX-License-Identifier: MIT

local tree = require "tree"

local text = {}

local max_lines, max_columns = 600, 100

-- What may stand in the top folder besides dotfiles; build/ is never committed.
local top_level = {
   src = true, lua = true, scripts = true, tests = true, build = true,
   Makefile = true, ["README.md"] = true, LICENSE = true,
}

local function is_make(path)
   return path == "Makefile" or path:find "%.mk$"
end

local function check_file(path)
   local lines = tree.lines(tree.read(path))
   local has_licence = path:find "%.md$"
   for i, line in ipairs(lines) do
      has_licence = has_licence or line:find "SPDX%-License%-Identifier: MIT"
      if (utf8.len(line) or #line) > max_columns then
         tree.report(path, i, "more than %d columns", max_columns)
      end
      if line:find "%s$" then
         tree.report(path, i, "blanks at the end")
      end
      if line:find "\t" and not is_make(path) then
         tree.report(path, i, "a tab")
      end
   end
   if #lines > max_lines and not path:find "%.md$" and not path:find "%.1$" then
      tree.report(path, nil, "%d lines; a file has at most %d", #lines, max_lines)
   end
   if path == "Makefile" and #lines > 120 then
      tree.report(path, nil, "%d lines; it has at most 120", #lines)
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
