-- contract_long_test.lua: what takes too long for `make check`, by each sink; for `make contract`.
-- SPDX-License-Identifier: MIT

local contract = require "contract"
local contract_case = require "contract_case"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local wait = require "wait"

local TestContractLong = {}

local ROWS = math.tointeger(tonumber(os.getenv "PGCDC_CONTRACT_ROWS" or "")) or 1000000
local HOLD = 70 -- seconds, longer than anybody waits for an answer

local function add(case, f, names)
   contract.add(TestContractLong, case, function(...)
      if contract.is_whole then
         f(...)
      else
         io.write "skipped, this is for make contract ... "
      end
   end, names)
end

-- Everything on the way stands still for so long, in the middle of a flush. The program goes on by
-- itself.
local function held(name, target, tag)
   local case = contract_case.new(name, target, tag)
   local p = program.start(case.how)
   case:await "the start"
   target.way:fault("stall", "up", case.driver.commit, true, case.driver.behind
      and contract_case.MARK)
   case:mark "id <= 10"
   wait.until_(function() return target.way:stats().faults > 0 end, 20, "the fault")
   case:update "id between 8 and 20"
   native.sleep(HOLD)
   target.way:heal()
   case:update "id > 25"
   wait.until_(function() return pcall(case.check, case) end, 120, "all to come")
   lu.assertEquals(p:stop().status, 0, p:stderr())
   case:once()
   case:check()
end

-- All rows of a big table in one transaction, in the middle of which the program dies, twice.
local function million(name, target, tag)
   local case = contract_case.new(name, target, tag, { rows = ROWS, source = 'start = "now"' })
   case:once()
   case:update "true"
   for _ = 1, 2 do
      local p = program.start(case.how)
      native.sleep(1 + 4 * math.random())
      p:kill9()
   end
   local p = program.start(setmetatable({ options = { "--once" } }, { __index = case.how }))
   lu.assertEquals(p:finish(1800).status, 0, p:stderr())
   case:check()
   case:update "id % 1000 = 1"
   case:once()
   case:check()
end

add("held", held, { "redis_stream", "redis_hash", "nats", "http_one", "http_batches",
                    "clickhouse", "opensearch" })
-- (The web server of the tests would take hours.)
add("million", million, { "jsonl", "postgres", "redis_stream", "redis_hash", "nats", "clickhouse",
                          "kafka_plain" })

return TestContractLong
