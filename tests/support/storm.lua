-- storm.lua: what a hostile finalizer does, see storm.c.
-- SPDX-License-Identifier: MIT
--
-- Runs before the script. Returns attack(recent); recent: changes and rows that are there, some of
-- them in the making. What it does must change nothing that a script can see: it uses what C uses,
-- adds fields and takes them away again, which moves the other ones. A script that defines a global
-- function storm() gets worse: that is called instead.

local pairs, pcall, rawget, rawset, error, tostring = pairs, pcall, rawget, rawset, error, tostring
local globals, getmetatable, type = _G, getmetatable, type

local turn = 0

local names = {}
for i = 1, 9 do
   names[i] = ("storm %d"):format(i)
end

local function extend(t)
   for _, name in pairs(names) do
      rawset(t, name, true)
   end
   for _, name in pairs(names) do
      rawset(t, name, nil)
   end
end

local fields = { "op", "table", "key", "row", "old", "xid", "seq", "ts", "id", "changed" }

local function use(pgcdc, value)
   local text = tostring(value)
   pcall(pgcdc.json.decode, text)
   pcall(pgcdc.json.encode, { value, names, null = pgcdc.null })
   for i = 1, #fields do
      pcall(value.get, value, fields[i])
   end
end

local ways = {
   function(recent)
      for _, value in pairs(recent) do
         extend(value)
      end
   end,
   function(recent, pgcdc)
      for _, value in pairs(recent) do
         if type(getmetatable(value)) == "table" then -- it is made
            pcall(use, pgcdc, value)
            return
         end
      end
   end,
   function()
      error("a finalizer fails")
   end,
}

return function(recent)
   local script = rawget(globals, "storm")
   if script then
      script(recent)
      return
   end
   local pgcdc = rawget(globals, "pgcdc")
   if pgcdc then
      turn = turn % #ways + 1
      ways[turn](recent, pgcdc)
   end
end
