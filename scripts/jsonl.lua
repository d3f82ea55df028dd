-- jsonl: every change as one line of JSON, on standard output or in a file.
-- SPDX-License-Identifier: MIT

local options = pgcdc.options {
   table = pgcdc.required, -- one, or several with commas between
   pk = "",                -- key columns with commas between; default: the primary key
   columns = "",           -- columns to read, with commas between; default: all
   where = "",             -- SQL condition
   interval = 1,           -- seconds between polls
   start = "snapshot",     -- "now", or a transaction id
   out = "-",              -- a file to append to
}

-- "a,b" as {"a", "b"}; "" as nil.
local function list(text)
   local items = {}
   for item in text:gmatch("[^,]+") do
      items[#items + 1] = item:match("^%s*(.-)%s*$")
   end
   return #items > 0 and items or nil
end

local file
if options.out ~= "-" then
   file = assert(io.open(options.out, "a"))
   file:setvbuf("full", 65536)
end

local function write(change)
   assert(file:write(tostring(change), "\n"))
end

for _, name in ipairs(list(options.table) or {}) do
   local source = pgcdc.source {
      table = name,
      pk = list(options.pk),
      columns = list(options.columns),
      where = options.where ~= "" and options.where or nil,
      interval = options.interval,
      start = math.tointeger(tonumber(options.start)) or options.start,
   }
   source:on("change", file and write or print)
   if file then
      source:on("batch", function()
         assert(file:flush()) -- what cannot be written must not count as delivered
      end)
   end
end
