-- mask: every change as one line of JSON, with columns hashed, redacted or cut short.
-- SPDX-License-Identifier: MIT

local bundled = require "pgcdc.bundled"

local options = bundled.options {
   { "mask", pgcdc.required,
     "such as email:sha256,phone:redact,name:keep2 (the first 2 characters)" },
   { "salt", "", "what is hashed in front of every value" },
   { "out", "-", "a file to append to, each change exactly once" },
   { "rotate", "", "begin a new file at that size, such as 100M" },
   { "every", 0, "begin a new file after so many seconds" },
}

-- Returns {email = "sha256", name = {keep = 2}}. What cannot be understood ends the program, so
-- that no value passes unmasked.
local function read_masks(text)
   local masks = {}
   for _, item in ipairs(bundled.list(text) or {}) do
      local column, how = item:match "^(.*%S)%s*:%s*(%w+)$"
      local name = bundled.names(column or "")
      name = name and #name == 1 and name[1]
      local characters = how and math.tointeger(tonumber(how:match "^keep(%d+)$"))
      if not name or not (characters or how == "sha256" or how == "redact") then
         bundled.usage(("mask=%s: say COLUMN:sha256, COLUMN:redact or COLUMN:keepN"):format(item))
      elseif masks[name] then
         bundled.usage(("mask names the column %s twice"):format(name))
      end
      masks[name] = characters and { keep = characters } or how
   end
   return masks
end

local masks = read_masks(options.mask)
bundled.check_columns(options, "mask", masks)
bundled.check_out(options)
local sink = pgcdc.sinks.jsonl { path = options.out, rotate = bundled.rotation(options) }

local sources = bundled.sources(options)
for _, source in ipairs(sources) do
   source:mask(masks, { salt = options.salt }):sink(sink)
end

return sources
