-- manual.lua: a page of the manuals, taken apart: blocks of code, links, headings, names.
-- SPDX-License-Identifier: MIT
--
-- A block of a Markdown page stands between lines of ```; its language follows the first. A block
-- of the man page stands between .EX and .EE, and is of the language console unless it says so.
-- What a test needs to know of a block is said right before it, where a reader does not see it:
--
--    <!-- test: needs=orders fragment -->          in Markdown
--    .\" test: sql db=reports                      in the man page, which may say the language
--
-- as words NAME or NAME=VALUE; after `skip` the rest of the line is the reason.

local files = require "files"

local manual = {}

-- {needs = "orders", fragment = true} of "needs=orders fragment".
local function read_words(text)
   local words = {}
   local before, why = text:match "^(.-)%f[%w]skip%s+(.*)$"
   for word in (before or text):gmatch "%S+" do
      local name, value = word:match "^([^=]+)=(.*)$"
      words[name or word] = value or true
   end
   words.skip = why
   return words
end

-- A line of the man page as it is printed.
local function plain(line)
   return (line:gsub("\\f.", ""):gsub("\\%-", "-"):gsub("\\%(aq", "'"):gsub("\\%(dq", '"')
      :gsub("\\%(ha", "^"):gsub("\\%(ti", "~"):gsub("\\e", "\\"):gsub("\\&", ""))
end

local function new_block(language, words, line)
   return { language = language, words = words, line = line, lines = {} }
end

local function read_markdown(page)
   local block, words
   for i, line in ipairs(page.lines) do
      if block and line:find "^%s*```%s*$" then
         block.text = table.concat(block.lines, "\n") .. "\n"
         page.blocks[#page.blocks + 1] = block
         block, words = nil, nil
      elseif block then
         block.lines[#block.lines + 1] = line
      elseif line:find "^%s*```" then
         block = new_block(line:match "^%s*```(.*)$", words or {}, i)
      else
         local said = line:match "^<!%-%- test: (.*) %-%->$"
         words = said and read_words(said) or line == "" and words or nil
         page.prose[#page.prose + 1] = said and "" or line
      end
   end
   return block and "a block is not closed"
end

local function read_man(page)
   local block, words
   for i, line in ipairs(page.lines) do
      if line == ".EE" and block then
         block.text = table.concat(block.lines, "\n") .. "\n"
         page.blocks[#page.blocks + 1] = block
         block = nil
      elseif block then
         block.lines[#block.lines + 1] = plain(line)
      elseif line == ".EX" then
         words = words or {}
         local language = words.sql and "sql" or words.lua and "lua" or words.text and "text"
         block, words = new_block(language or "console", words, i), nil
      else
         local said = line:match '^%.\\" test: (.*)$'
         words = said and read_words(said) or words
         page.prose[#page.prose + 1] = plain(line)
      end
   end
   return block and "an example is not closed"
end

-- Reads a page. Returns {path=, lines=, prose= (lines outside of blocks), blocks=}; a block is
-- {language=, words=, line=, lines=, text=}.
function manual.read(path)
   local page = { path = path, lines = {}, prose = {}, blocks = {} }
   local text = assert(files.read(path), path)
   for line in text:gmatch "([^\n]*)\n" do
      page.lines[#page.lines + 1] = line
   end
   local wrong = (path:find "%.md$" and read_markdown or read_man)(page)
   assert(not wrong, path .. ": " .. tostring(wrong))
   return page
end

-- The names by which links reach the headings of a page, as a set.
function manual.anchors(page)
   local anchors, count = {}, {}
   for _, line in ipairs(page.prose) do
      local title = line:match "^#+%s+(.-)%s*$"
      if title then
         local anchor = title:lower():gsub("[^%w _-]", ""):gsub(" ", "-")
         local n = count[anchor] or 0
         count[anchor] = n + 1
         anchors[n == 0 and anchor or anchor .. "-" .. n] = true
      end
   end
   return anchors
end

-- The targets of the links of a page: {"lua/README.md#sinks", ...}.
function manual.links(page)
   local links = {}
   local text = table.concat(page.prose, "\n"):gsub("`[^`]*`", "")
   for target in text:gmatch "%]%(([^)%s]+)%)" do
      links[#links + 1] = target
   end
   return links
end

-- All that stands in `code` of the prose, and what is in blocks, as one text, a piece a line.
function manual.code(page)
   local pieces = {}
   for piece in table.concat(page.prose, "\n"):gmatch "`([^`]+)`" do
      pieces[#pieces + 1] = piece:gsub("\n", " ")
   end
   for _, block in ipairs(page.blocks) do
      pieces[#pieces + 1] = block.text
   end
   return table.concat(pieces, "\n")
end

return manual
