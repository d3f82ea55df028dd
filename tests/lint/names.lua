-- names.lua: public names begin with their file's name; words that must not come back.
-- SPDX-License-Identifier: MIT

local tree = require "tree"

local names = {}

-- What a header gives a name to, at the left margin: functions, variables, tags, macros.
local function public_names(text)
   local found, depth, in_enum = {}, 0, false
   for i, line in ipairs(tree.lines(tree.strip_c(text))) do
      local function add(name)
         found[#found + 1] = { name = name, line = i }
      end
      local macro = line:match "^#%s*define%s+([%w_]+)"
      local tag = line:match "^struct%s+([%w_]+)%s*{" or line:match "^enum%s+([%w_]+)%s*{"
         or line:match "^typedef%s.*[%s*]([%w_]+)%(" or line:match "^union%s+([%w_]+)%s*{"
      if macro then
         add(macro)
      elseif tag then
         add(tag)
      elseif depth == 0 and line:find "^%a" and not line:find "^%a+%s+[%w_]+;" then
         local name = line:match "^[%w_ *]-([%w_]+)%("
         if line:find "^extern" then
            for variable in line:gmatch "([%w_]+)%s*%f[%[,;]" do
               add(variable)
            end
         elseif name and not name:find "^__" then
            add(name)
         end
      end
      if line:find "^enum[^(;]*{" then
         in_enum = true
      end
      if in_enum then
         local list = line:gsub("^enum[^{]*{?", "")
         for name in list:gmatch "%f[%w_](%u[%u%d_]+)%f[^%w_]" do
            if not list:find("=%s*[%w_ +*()<]*" .. name) then
               add(name)
            end
         end
         in_enum = not line:find "}"
      end
      depth = depth + select(2, line:gsub("{", "")) - select(2, line:gsub("}", ""))
   end
   return found
end

local function check_prefixes(path, text)
   local file = path:match "([%w_]+)%.h$"
   local guard = file:upper() .. "_H"
   for _, it in ipairs(public_names(text)) do
      local name = it.name:lower()
      -- (what modules show to the program is seen by linkers)
      local begins = name == file or name:sub(1, #file + 1) == file .. "_"
         or path == "src/sinks/module.h" and name:find "^pgcdc_module"
      if not begins and it.name ~= guard then
         tree.report(path, it.line, "the name %s does not begin with its file's, %s", it.name, file)
      end
   end
end

-- A word, what to say instead, and what is allowed: a pattern of lines where it has a meaning of
-- its own, or patterns of files that are about the thing itself.
local words = {
   { "lament", "say what is wrong" },
   { "bury", "say what is dropped" },
   { "insist", "say what is required" },
   { "soil", "say what is spoiled" },
   { "judge", "say what is decided, and by what" },
   { "judged", "say what is decided, and by what" },
   { "gone", "deleted, lost or dropped", files = { "%.md$" } },
   { "form", "a row class, or the columns of kept rows", lines = "kind \"form\"",
      files = { "%.md$" } },
   { "slot", "a slot is a replication slot", files = {
      "%.md$", "^src/pg/replication%.", "^src/capture/stream%.", "^src/capture/follower.*%.",
      "^src/capture/stream_connect%.", "^src/capture/log_keys%.",
      "^src/capture/.*logical.*%.", "^src/capture/config%.", "^src/capture/source%.h",
      "^src/capture/meter%.", "^src/serve/metrics%.", "^src/serve/status%.",
      "^src/capture/position_text%.", "^src/lua/api_source%.", "^lua/pgcdc/stream/source",
      "^lua/pgcdc/stream/messages%.lua", "^lua/pgcdc/meta%.lua", "^lua/pgcdc/postgres/slot%.lua",
      "^lua/pgcdc/doctor/log%.lua",
      "^scripts/slot%.lua", "^src/capture/slot_" } },
   { "link", "say what is connected, or a plan", lines = "symbolic link", files = { "%.md$" } },
   { "keyset", "a multiset of keys" },
   { "ledger", "diff" },
   { "survey", "facts" },
   { "pulse", "liveness" },
   { "meaning_of", "sqlstate" },
   { "reshape", "project" },
   { "reshaper", "projection" },
}

-- `word` in lower case, as a part of a name between underscores, or as a word, also with an "s"
-- after it.
local function holds(line, word)
   return line:lower():find("%f[%w]" .. word .. "s?%f[^%w]")
end

local function is_one_of(path, patterns)
   for _, pattern in ipairs(patterns or {}) do
      if path:find(pattern) then
         return true
      end
   end
   return false
end

local function check_words(path, text)
   for i, line in ipairs(tree.lines(text)) do
      for _, word in ipairs(words) do
         local allowed = word.lines and line:find(word.lines) or is_one_of(path, word.files)
         if holds(line, word[1]) and not allowed then
            tree.report(path, i, "the word \"%s\" is not to come back: %s", word[1], word[2])
         end
      end
   end
end

-- A cast to a struct says that bytes are what they may not be. The struct around a field is found
-- with offsetof; a void pointer is assigned; Lua's are what a userdata holds.
local function check_casts(path, text)
   for i, line in ipairs(tree.lines(text)) do
      line = line:gsub("%f[%w_]const%f[^%w_]%s*", "")
      local at = line:match "%(%s*struct%s+[%w_]+%s*%*+%s*%)%s*()[%w_&(*]"
      if at and not line:find("^lua_", at) and not line:find("offsetof", at, true) then
         tree.report(path, i, "a cast to a pointer to a struct: use offsetof, or a variable")
      end
   end
end

function names.check()
   for _, path in ipairs(tree.find "src -name '*.[ch]'") do
      local text = tree.read(path)
      if path:find "%.h$" then
         check_prefixes(path, text)
      end
      check_words(path, tree.strip_c(text, true))
      check_casts(path, tree.strip_c(text))
   end
   for _, path in ipairs(tree.find "lua scripts -name '*.lua'") do
      check_words(path, tree.strip_lua(tree.read(path)))
   end
   for _, path in ipairs(tree.find "README.md src lua scripts -name '*.md'") do
      check_words(path, tree.read(path))
   end
end

return names
