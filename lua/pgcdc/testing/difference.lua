-- pgcdc.testing.difference: where two lists of lines differ.
-- SPDX-License-Identifier: MIT

local difference = {}

local MOST_PAIRS = 1000000 -- of lines that are compared with each other

-- Lengths of the longest common parts of the lines from i and j on: lengths[i][j].
local function lengths_of(a, b)
   local lengths = {}
   for i = #a + 1, 1, -1 do
      local row = {}
      lengths[i] = row
      for j = #b + 1, 1, -1 do
         if i > #a or j > #b then
            row[j] = 0
         elseif a[i] == b[j] then
            row[j] = lengths[i + 1][j + 1] + 1
         else
            row[j] = math.max(lengths[i + 1][j], row[j + 1])
         end
      end
   end
   return lengths
end

-- Both lists without the lines that are equal at their starts and at their ends.
local function middles(a, b)
   local from, n = 1, math.min(#a, #b)
   while from <= n and a[from] == b[from] do
      from = from + 1
   end
   local back = 0
   while back <= n - from and a[#a - back] == b[#b - back] do
      back = back + 1
   end
   return table.move(a, from, #a - back, 1, {}), table.move(b, from, #b - back, 1, {})
end

--- What is in one of two lists of lines and not in the other, in order: a list of lines, "-" in
--- front of those of `a`, "+" of those of `b`. Of very many lines that differ, all from the first
--- to the last of them.
function difference.of(a, b)
   local lines = {}
   a, b = middles(a, b)
   local lengths = #a * #b <= MOST_PAIRS and lengths_of(a, b)
   local i, j = 1, 1
   while i <= #a or j <= #b do
      if lengths and i <= #a and j <= #b and a[i] == b[j] then
         i, j = i + 1, j + 1
      elseif i <= #a and (j > #b or not lengths or lengths[i + 1][j] >= lengths[i][j + 1]) then
         lines[#lines + 1], i = "-" .. a[i], i + 1
      else
         lines[#lines + 1], j = "+" .. b[j], j + 1
      end
   end
   return lines
end

return difference
