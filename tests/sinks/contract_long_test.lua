-- contract_long_test.lua: full disks, and what takes too long for `make check`, by each sink.
-- SPDX-License-Identifier: MIT
--
-- The latter for `make contract`.

local child = require "child"
local contract = require "contract"
local contract_case = require "contract_case"
local drivers = require "contract_drivers"
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
   target.way:fault("stall", "up", case.driver.commit, true,
      case.driver.behind and not case.driver.is_apart and contract_case.MARK or nil)
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

-- Puts a folder, with what is in it, on a disk of so many MB. Returns a function that undoes that;
-- nil, and says so, where we may not.
local function mount(dir, size)
   local _, status = child.run { argv = { "sh", "-ec", [[
      cp -a "$1" "$1.old"
      mount -t tmpfs -o size=$2m none "$1" 2>/dev/null || exit 9
      cp -a "$1.old/." "$1"
      chown --reference="$1.old" "$1"
      chmod --reference="$1.old" "$1"]], "sh", dir, tostring(size) } }
   if status.exit ~= 0 then
      io.write "skipped, only root may mount a small disk ... "
      return nil
   end
   return function()
      child.run { argv = { "umount", "-l", dir } }
   end
end

-- The disk of the target is full in the middle of flushes. When there is room again, and a server
-- that has ended was started again, all is there.
local function full(name, target, tag)
   local driver = drivers[name]
   local dir = driver.shrink(target, mount)
   if not dir then
      return
   end
   local case = contract_case.new(name, target, tag)
   local p = program.start(case.how)
   case:await "the start"
   local said = #p:stderr()
   local hog <close> = assert(io.open(dir .. "/hog", "wb"))
   hog:setvbuf "no"
   while hog:write(("x"):rep(4096)) do end
   case.db:exec "update t set v = nextval('versions'), name = repeat(md5(v::text), 1000)"
   wait.until_(function()
      return p:stderr():find("level=warn", said + 1) or p:stderr():find("level=error", said + 1)
         or pcall(case.check, case) -- NATS acknowledges what it has not written
   end, 90, "trouble")
   assert(os.remove(dir .. "/hog"))
   hog:close()
   if driver.kill then
      driver.kill(target) -- some do not write any more until then
   end
   if p:alive() then
      p:stop()
   end
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
                    "clickhouse", "opensearch", "kafka" })
contract.add(TestContractLong, "full", full, { "jsonl", "csv", "text", "many_files", "postgres",
                                               "redis_stream", "redis_hash", "clickhouse" })
add("full", full, { "nats", "kafka" })
-- (The web server of the tests would take hours, and the mock cluster keeps 5 MB of a topic.)
add("million", million, { "jsonl", "postgres", "redis_stream", "redis_hash", "nats",
                          "clickhouse", "kafka" })

return TestContractLong
