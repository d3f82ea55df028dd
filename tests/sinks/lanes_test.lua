-- lanes_test.lua: which records of an outbox may go, against a model, at random.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local seeds = require "seeds"

local TestLanes = {}

-- Takes, divides, ends and holds batches at random. In the model each lane is a list of the numbers
-- of its records; those that may go are the oldest ones of lanes of which none is on its way.
local SCRIPT = [[
   local raw = package.loaded["pgcdc.raw"]
   math.randomseed(tonumber(%q))
   local ID, URL, BODY = 1, 2, 3

   local function round(count, lane_count, body_size)
      local outbox = raw.outbox()
      local queue, lane_of, done = {}, {}, {}
      for i = 1, count do
         local lane = math.random(lane_count)
         lane_of[i] = lane
         queue[lane] = queue[lane] or {}
         table.insert(queue[lane], i)
         local url = math.random(3)
         outbox:put(lane, tostring(i), url > 1 and "u" .. url or nil,
            tostring(i) .. ("x"):rep(math.random(0, body_size)))
      end
      local lanes = raw.lanes(outbox, nil, URL)
      local batches, busy, held, left = {}, {}, {}, count

      local function take()
         local rows = math.random(1, 20)
         local limit = math.random(1, 3 * body_size)
         local batch = lanes:take(rows, limit, BODY)
         if not batch then
            for lane, list in pairs(queue) do
               assert(#list == 0 or busy[lane] or held[lane], "a lane was forgotten")
            end
            return
         end
         assert(not batches[batch], "the number of a batch is in use")
         local numbers, bytes, url, mine = {}, 0, lanes:part(batch, URL, 1), {}
         for i = 1, lanes:count(batch) do
            local number = tonumber(lanes:part(batch, ID, i))
            local lane = lane_of[number]
            assert(not held[lane] and (not busy[lane] or mine[lane]), "a lane overtakes itself")
            assert(table.remove(queue[lane], 1) == number, "the order of a lane")
            mine[lane] = true
            busy[lane] = (busy[lane] or 0) + 1
            assert(lanes:part(batch, URL, i) == url, "two addresses in a batch")
            numbers[i] = number
            bytes = bytes + #lanes:part(batch, BODY, i)
         end
         assert(#numbers <= rows and (#numbers == 1 or bytes <= limit), "too much")
         batches[batch] = numbers
      end

      local function check(batch)
         local numbers, texts, of = batches[batch], {}, {}
         for i, number in ipairs(numbers) do
            assert(lanes:part(batch, ID, i) == tostring(number), "the order of a batch")
            texts[i], of[i] = lanes:part(batch, BODY, i), lane_of[number]
         end
         assert(lanes:text(batch, BODY, "[", ", ", "]") == "[" .. table.concat(texts, ", ") .. "]")
         local given = lanes:lanes(batch)
         for i = 1, #of do
            assert(given[i] == of[i], "its lanes")
         end
      end

      local function divide(batch)
         local list, one, other = {}, {}, {}
         for i, number in ipairs(batches[batch]) do
            local is_other = math.random(2) == 1
            list[#list + 1] = is_other and i or nil
            table.insert(is_other and other or one, number)
         end
         if #one > 0 and #other > 0 then
            local new = lanes:divide(batch, list)
            assert(not batches[new], "the number of a batch is in use")
            batches[batch], batches[new] = one, other
            check(new)
         end
      end

      local function finish(batch)
         local index = 1
         for number = 1, batches[batch][1] - 1 do
            index = index + (done[number] and 0 or 1)
         end
         assert(lanes:index(batch) == index, "its place")
         lanes:done(batch)
         for _, number in ipairs(batches[batch]) do
            local lane = lane_of[number]
            busy[lane] = busy[lane] > 1 and busy[lane] - 1 or nil
            done[number] = true
            left = left - 1
         end
         batches[batch] = nil
      end

      local function any()
         local list = {}
         for batch in pairs(batches) do
            list[#list + 1] = batch
         end
         table.sort(list)
         return #list > 0 and list[math.random(#list)]
      end

      while left > 0 do
         local what, batch = math.random(10), any()
         if what <= 4 then
            take()
         elseif what == 5 then
            local lane = math.random(lane_count)
            held[lane] = not held[lane] or nil
            lanes[held[lane] and "hold" or "free"](lanes, lane)
         elseif batch then
            check(batch)
            if what <= 7 then
               divide(batch)
            else
               finish(batch)
            end
         end
         assert(lanes:left() == left, "left")
      end
      for record in outbox:each() do
         error("a record is left: " .. record)
      end
   end

   for _ = 1, 60 do
      round(math.random(1, 300), math.random(1, 40), math.random(1, 100))
   end
   round(2000, 5, 3000) -- a part of it is in a file
   print "done"]]

function TestLanes.test_at_random()
   local seed = seeds.asked or seeds.fresh()
   local result = program.run { state = false, script = SCRIPT:format(seed) }
   lu.assertEquals(result.stdout, "done\n", "seed " .. seed .. "\n" .. result.stderr)
end

-- Of more records than are known at a time those of lanes that are free still go.
function TestLanes.test_many_records()
   local result = program.run { state = false, script = [[
      local raw = package.loaded["pgcdc.raw"]
      local outbox = raw.outbox()
      for i = 1, 100000 do
         outbox:put(i, tostring(i), "x")
      end
      local lanes, count = raw.lanes(outbox), 0
      local first = lanes:take(1, 100, 2)
      while true do
         local batch = lanes:take(1000, 1 << 20, 2)
         if not batch then break end
         count = count + lanes:count(batch)
         lanes:done(batch)
      end
      print(count, lanes:part(first, 1, 1), lanes:left(), outbox:rows())
      lanes:done(first)
      print(lanes:left(), pcall(lanes.count, lanes, first))]] }
   lu.assertEquals(result.stderr, "")
   lu.assertStrMatches(result.stdout, "99999\t1\t1\t100000\n0\tfalse\t.*no such batch%)\n")
end

-- raw.put_change gives a change the lane that it has by remote.lane: so it follows those of its key
-- that were put in the other way. The second message of a change has an id of its own.
function TestLanes.test_changes_that_are_put_as_they_came()
   local db = fixtures.database [[create table "T é" (a int, b text, c numeric, d jsonb, e bytea,
      primary key (a, b, c, d, e));
      insert into "T é" values (1, E'p,"q\\\\\n', 1.50, '{"k": [1, null]}', '\\x00ff'),
         (2, '', 'NaN', 'null', ''), (3, 'Ä', 123456789012345678901234567890, '1e3', '\\x41')]]
   local result = once.ok { dsn = db, script = [[
      local raw, remote = package.loaded["pgcdc.raw"], require "pgcdc.sinks.remote"
      local known, counts = {}, raw.id_counts()
      pgcdc.source {table = '"T é"'}:on("change", function(c)
         local outbox = raw.outbox()
         raw.learn_change(known, c, "topic", "")
         for _ = 1, 2 do
            assert(raw.put_change(outbox, known, "7", c, counts))
         end
         local own = {}
         for lane, id, source, topic, key, text, _, own_id in outbox:each() do
            assert(lane == raw.hash(remote.lane(c)), "another lane: " .. key)
            assert(id == c.id and source == "7" and topic == "topic" and text == raw.encode(c))
            own[#own + 1] = own_id or "none"
         end
         print(own[1], own[2] == c.id .. "/2")
      end)]] }
   lu.assertEquals(result.stdout, ("none\ttrue\n"):rep(3))
end

return TestLanes
