-- outbox_test.lua: what an outbox gives back, against a model, at random.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"
local program = require "program"
local seeds = require "seeds"

local TestOutbox = {}

-- In the model an outbox is a list of records, {lane =, parts =, is_left_out =}, and seals are the
-- numbers of records put before them. Sizes are such that a part is in memory only, a part in the
-- file, and that the file is used again, and is given up as it has become large.
local SCRIPT = [[
   local raw = package.loaded["pgcdc.raw"]
   math.randomseed(tonumber(%q))
   local ABSENT, LEFT_OUT = 0xffffffff, 0x80000000
   local outbox = raw.outbox()
   local list, first, seals, dropped = {}, 1, {}, 0
   local letters = {}
   for i = 0, 25 do letters[i] = string.char(97 + i) end

   local function put(size)
      local n = #list + 1
      local parts = { tostring(n), n %% 3 > 0 and letters[n %% 26]:rep(math.random(0, size)) or nil,
                      n %% 5 > 0 and "" or nil }
      list[n] = { lane = n %% 7, parts = parts }
      outbox:put(n %% 7, parts[1], parts[2], parts[3])
   end

   local function check_each(number, to)
      local i = first
      for lane, id, text, last in outbox:each(number) do
         while list[i].is_left_out do i = i + 1 end
         local record = list[i]
         assert(lane == record.lane and id == record.parts[1], "record " .. i .. " is " .. id)
         assert(text == record.parts[2] and last == record.parts[3], "the parts of " .. id)
         i = i + 1
      end
      while list[i] and list[i].is_left_out do i = i + 1 end
      assert(i > to, "records are missing")
      assert(outbox:rows(number) == to - first + 1, "rows")
   end

   -- In steps, between which more is put: as a sink that sends early reads.
   local function check_chunks(size)
      local i, place = first, nil
      for _ = 1, math.random(200) do
         local bytes, after, length = outbox:chunk(place)
         if not bytes then break end
         local at = 1
         assert(#bytes == length, "length")
         while at <= #bytes do
            local len, parts, lane, n = string.unpack("=I4I4I8", bytes, at)
            assert((parts & LEFT_OUT ~= 0) == (list[i].is_left_out or false), "left out")
            assert(lane == list[i].lane, "lane")
            local p = at + 16
            for k = 1, parts & ~LEFT_OUT do
               local text
               n, p = string.unpack("=I4", bytes, p)
               if n ~= ABSENT then
                  text, p = bytes:sub(p, p + n - 1), p + n
               end
               assert(text == list[i].parts[k], "a part of " .. i)
            end
            assert(p == at + len, "the end of " .. i)
            at, i = at + len, i + 1
         end
         place = after
         if math.random(3) == 1 then put(size) end
      end
   end

   for _ = 1, 25 do
      local size = ({ 10, 1000, 20000, 300000 })[math.random(4)]
      for _ = 1, math.random(200) do put(size) end
      check_chunks(size)
      if math.random(2) == 1 then
         local number = outbox:seal()
         seals[#seals + 1] = { number = number, at = #list }
      end
      if math.random(3) == 1 and #list >= first then
         local which, k = {}, 0
         for i = first, #list do
            if not list[i].is_left_out then
               k = k + 1
               if math.random(20) == 1 then
                  which[#which + 1] = k
                  list[i].is_left_out = true
               end
            end
         end
         outbox:leave_out(which)
      end
      if math.random(2) == 1 then
         check_each(nil, #list) -- reads all: so what was left out is written to the file
      end
      if #seals > 0 and math.random(3) > 1 then
         local seal = table.remove(seals, math.random(#seals))
         if math.random(2) == 1 then check_each(seal.number, math.max(seal.at, first - 1)) end
         outbox:drop(seal.number)
         first = math.max(first, seal.at + 1)
         for i = #seals, 1, -1 do
            if seals[i].number < seal.number then table.remove(seals, i) end
         end
         check_each(nil, #list)
      elseif math.random(8) == 1 then
         outbox:drop()
         first, seals = #list + 1, {}
         assert(outbox:rows() == 0 and outbox:bytes() == 0)
      end
      for i = dropped + 1, first - 1 do list[i].parts = nil end
      dropped = first - 1
   end
   print "done"]]

function TestOutbox.test_at_random()
   local seed = seeds.asked or seeds.fresh()
   local result = program.run { state = false, script = SCRIPT:format(seed) }
   lu.assertEquals(result.stdout, "done\n", "seed " .. seed .. "\n" .. result.stderr)
end

return TestOutbox
