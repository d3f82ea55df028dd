-- cuts.lua: connections of one program that are cut at one byte after the other.
-- SPDX-License-Identifier: MIT
--
-- The program lives on: it has many workers, sources or sinks, each over a proxy of its own, which
-- cuts each connection a byte later than the one before; every second one has polled or written
-- before it is cut, so that the program does not try ever more slowly. Meanwhile somebody writes,
-- and in the end all that was written has come to each worker, once.

local lu = require "luaunit"
local native = require "native"
local program = require "program"
local proxy = require "proxy"

local cuts = {}

local PAUSE = 0.2    -- seconds between two that are written
local BACKLOG = 1500 -- bytes: what has been written while a worker was away takes less

-- Each byte is PGCDC_NETWORK_STRIDE=1.
cuts.stride = math.tointeger(tonumber(os.getenv "PGCDC_NETWORK_STRIDE" or ""))

local SCRIPT = [[
   local function source(name, connect, capture)
      pgcdc.source {table = "t", name = name, connect = connect, capture = capture, interval = 0.1,
         slot = capture == "logical" and name or nil}
         :on("change", function(c) print(name, c.op, c.key.id, c.row and c.row.n, c.id) end)
   end
   local function sink(name, connect)
      pgcdc.source {table = "t", name = name, interval = 0.1}
         :sink(pgcdc.sinks.postgres {connect = connect, table = name, name = name, mode = "append"})
   end
   ]]

cuts.TABLE = [[create table t (id int primary key, n int not null);
   insert into t select i, 0 from generate_series(1, 20) i]]

-- What one worker has told: {rows = n by id, ids = how often each came}. Raises where a row goes
-- back, or something comes twice.
local function take(worker, op, key, n, id)
   key, n = tonumber(key), tonumber(n)
   local what = ("%s: %s %s %s"):format(worker.name, op, key, id)
   lu.assertNil(worker.ids[id], what)
   worker.ids[id] = true
   if op == "delete" then -- perhaps of a row that came and went between two polls
      worker.rows[key], worker.gone[key] = nil, true
   else
      lu.assertTrue(not worker.gone[key] and n > (worker.rows[key] or -1), what)
      worker.rows[key] = n
   end
   worker.count = worker.count + 1
end

local function listen(self)
   local lines = self.p:lines()
   for i = self.upto + 1, #lines do
      local name, op, key, n, id = lines[i]:match "^(%S+)\t(%a+)\t(%d+)\t(%S+)\t(%S+)$"
      take(self.by_name[name], op, key, n, id)
   end
   self.upto = #lines
end

local function count(self, worker)
   if worker.kind ~= "sink" then
      listen(self)
      return worker.count
   end
   local sql = "select count(*) from " .. worker.name
   return tonumber(self.target:try(sql) and self.target:value(sql) or 0)
end

-- Somebody writes, now and then: one row again and again, and others that stay, or are deleted.
local function write(self)
   if native.now() < self.next then
      return
   end
   self.n, self.next = self.n + 1, native.now() + PAUSE
   self.db:exec(("update t set n = %d where id = 1"):format(self.n))
   if self.n % 5 == 0 then
      self.db:exec(("insert into t values (%d, 0)"):format(1000 + self.n))
   end
   if self.n % 25 == 0 and not self.by_name.sink0 then -- which would not tell
      self.db:exec(("delete from t where id = %d"):format(1000 + self.n - 20))
   end
end

-- Starts it: {db =, with cuts.TABLE in it; kinds = "xmin", "trigger", "logical" or "sink" of each
-- worker; target = sinks' database; keywords = of libpq; tcp = see proxy.new; env = of the
-- program}.
-- Half of a kind's workers are cut upwards, half downwards; half by "fin", half by "rst".
function cuts.start(spec)
   local self = setmetatable({ workers = {}, by_name = {}, upto = 0, n = 0, next = 0 },
      { __index = spec })
   local lines, numbers = {}, {}
   for i, kind in ipairs(spec.kinds) do
      numbers[kind] = (numbers[kind] or -1) + 1
      local worker = { kind = kind, number = numbers[kind] // 2, rows = {}, ids = {}, gone = {},
         count = 0, direction = numbers[kind] % 2 == 0 and "up" or "down",
         name = kind .. numbers[kind],
         proxy = proxy.new(kind == "sink" and spec.target or spec.db, spec.tcp) }
      self.workers[i], self.by_name[worker.name] = worker, worker
      local dsn = worker.proxy:dsn(spec.keywords)
      lines[i] = kind == "sink" and ("sink(%q, %q)"):format(worker.name, dsn)
         or ("source(%q, %q, %q)"):format(worker.name, dsn, kind)
   end
   self.p = program.start { script = SCRIPT .. table.concat(lines, "\n"), env = spec.env,
      dsn = spec.db }
   self.p:wait_until(function()
      for _, worker in ipairs(self.workers) do
         if count(self, worker) < 20 then
            return false
         end
      end
      return true
   end, 30, "the snapshots")
   return self
end

-- A list of kinds, for cuts.start: so many of each.
function cuts.kinds(numbers)
   local list = {}
   for kind, n in pairs(numbers) do
      for _ = 1, n do
         list[#list + 1] = kind
      end
   end
   return list
end

local function check_sink(self, worker)
   local rows = self.target:exec(([[select count(*), count(distinct (id, n)),
      count(*) filter (where id <> 1), max(n) from %s]]):format(worker.name))[1]
   local expected = self.db:exec "select count(*) filter (where id <> 1), max(n) from t"[1]
   return rows[1] == rows[2] and rows[3] == expected[1] and rows[4] == expected[2]
end

local function check_source(self, worker)
   listen(self)
   local n = 0
   for _, row in ipairs(self.db:exec "select id, n from t") do
      n = n + 1
      if worker.rows[tonumber(row[1])] ~= tonumber(row[2]) then
         return false
      end
   end
   for _ in pairs(worker.rows) do
      n = n - 1
   end
   return n == 0 or worker.kind == "xmin" and n < 0
end

-- How many bytes a new connection takes until something has come over it, in both directions.
local function measure(self, worker)
   local check = worker.kind == "sink" and check_sink or check_source
   self.p:wait_until(function() return check(self, worker) end, 20, worker.name)
   local before, had = worker.proxy:stats(), count(self, worker)
   worker.proxy:strike "fin"
   self.next = 0
   self.p:wait_until(function()
      write(self)
      return count(self, worker) > had
   end, 20, "a change")
   local after = worker.proxy:stats()
   return { up = after.up - before.up, down = after.down - before.down }
end

local function how_many(self, worker, of)
   local n = 0
   for _, other in ipairs(self.workers) do
      n = n + (other[of] == worker[of] and other.kind == worker.kind
         and other.direction == worker.direction and 1 or 0)
   end
   return n
end

-- Cuts at every <stride>-th byte. Returns how many cuts there were, and a text about it.
function cuts.sweep(self, stride)
   local sizes, words, total = {}, {}, 0
   for _, worker in ipairs(self.workers) do
      sizes[worker.kind] = sizes[worker.kind] or measure(self, worker)
   end
   for kind, size in pairs(sizes) do
      words[#words + 1] = ("%s: %d bytes up, %d down"):format(kind, size.up, size.down)
   end
   for _, worker in ipairs(self.workers) do
      local size, among = sizes[worker.kind][worker.direction], how_many(self, worker, "kind")
      worker.n = (size - worker.number * stride + among * stride - 1) // (among * stride)
      worker.proxy:sweep(worker.number % 2 == 0 and "fin" or "rst", worker.direction,
         worker.number * stride, among * stride, worker.n, size + BACKLOG)
      worker.before = worker.proxy:stats().faults
      total = total + 2 * worker.n
   end
   local done
   self.p:wait_until(function()
      write(self)
      listen(self)
      done = 0
      for _, worker in ipairs(self.workers) do
         done = done + math.min(worker.proxy:stats().faults - worker.before, 2 * worker.n)
      end
      return done >= total
   end, cuts.stride and 3000 or 60, setmetatable({}, { __concat = function(_, text)
      return ("%d cuts of %d%s"):format(done, total, text)
   end }))
   return done, table.concat(words, "; ")
end

-- Waits until all that was written has come, and ends it.
function cuts.finish(self)
   for _, worker in ipairs(self.workers) do
      local check = worker.kind == "sink" and check_sink or check_source
      self.p:wait_until(function() return check(self, worker) end, 60, worker.name)
   end
   lu.assertEquals(self.p:stop().status, 0)
   for _, worker in ipairs(self.workers) do
      lu.assertTrue((worker.kind == "sink" and check_sink or check_source)(self, worker))
   end
end

return cuts
