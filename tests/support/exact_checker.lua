-- exact_checker.lua: holds what the program has delivered against what is in the tables.
-- SPDX-License-Identifier: MIT
--
-- Reads the lines of checker.script. Problems are collected, not raised: a test of the
-- test wants to see them.

local checker = {}

-- Prints a line for each change. The tables' names come as arguments.
checker.script = [[
local options = pgcdc.options {tables = pgcdc.required, interval = 0.02, capture = "xmin",
   deletes = false, hints = "auto", parallel = 0}
local by_log = options.capture == "logical"
local grows = options.capture == "increment" or nil
for name in options.tables:gmatch "[^,]+" do
   local source = pgcdc.source {table = name, interval = options.interval,
      capture = options.capture, deletes = not by_log and options.deletes or nil,
      hints = not by_log and options.hints or nil,
      parallel = options.parallel,
      column = grows and "k", lookback = grows and 5, recheck = grows and 0.4,
      on_change = function(change)
         local v = change.row and change.row.v or 0
         io.write(("%s %d %d %d %s %d %s\n"):format(change.table, change.key.k, v, change.xid,
            change.op, change.seq, change.lsn or "-"))
      end}
   if by_log then
      source:on("ready", function() print("ready", name) end)
      source:on("truncate", function() print("truncate", name) end)
   end
end]]

local max_problems = 20

local methods = {}
methods.__index = methods

-- options.tables: their names; options.repeats: a (key, xid) may come twice; options.stamps: the
-- xids are those of triggers, and deletes come; options.deletes: these come, and inserts are told
-- from updates; options.log: the server's own word on its log (exact_log.lua).
function checker.new(options)
   local self = setmetatable({
      tables = options.tables, repeats = options.repeats, stamps = options.stamps,
      deletes = options.deletes, log = options.log,
      last = {},     -- by table and key: {v =, xid =} as delivered last
      seen_gone = {},
      seen = {},     -- by table, key and xid: the version that was delivered
      seqs = {},     -- by table: the number of the change that was delivered last
      marks = {},    -- by table: its mark was delivered
      ready = {},    -- by table: it is
      delivered = 0, repeated = 0,
      lowest = math.maxinteger, highest = 0, -- the xids of what polls delivered
      problems = {}, n_problems = 0,
   }, methods)
   for _, name in ipairs(options.tables) do
      self.last[name], self.seen[name] = {}, {}
   end
   return self
end

function methods:complain(text, ...)
   self.n_problems = self.n_problems + 1
   if self.n_problems <= max_problems then
      self.problems[self.n_problems] = text:format(...)
   end
end

-- A key went. (One that was never seen may: it came and went between two polls.)
local function take_delete(self, name, k, place)
   local id = ("%d/%s/deleted"):format(k, place)
   if self.seen_gone[id .. name] and not self.repeats then
      self:complain("%s %d: the delete by %s was delivered twice", name, k, place)
   end
   self.seen_gone[id .. name] = true
   if self.last[name][k] then
      self.last[name][k].is_gone = true
   end
end

-- The number of a change is greater than that of every one before, also over kills.
local function take_seq(self, name, k, seq)
   local last = self.seqs[name]
   if seq and last and seq <= last then
      self:complain("%s %s has the number %d, after %d", name, k, seq, last)
   end
   self.seqs[name] = seq or last
end

-- Takes a line about a table, which only sources by the log write.
local function take_event(self, event, name)
   if event == "truncate" then
      self.log:hear_truncate(name)
      for _, last in pairs(self.last[name]) do
         last.is_gone = true
      end
   end
   self.ready[name] = self.ready[name] or event == "ready"
end

-- Takes one line that the program has written.
function methods:take(line)
   local event, about = line:match "^(%l+)\t(%w+)$"
   if event then
      return take_event(self, event, about)
   end
   local name, k, v, xid, op, seq, lsn =
      line:match "^(%w+) (%d+) (%d+) (%d+) (%a+) ?(%d*) ?([%x/-]*)$"
   if not name then
      self:complain("no change: %q", line)
      return
   end
   if self.log then
      self.log:hear(name, op, k, v, xid, lsn)
   end
   take_seq(self, name, k, math.tointeger(seq))
   k, v = math.tointeger(k), math.tointeger(v)
   self.delivered = self.delivered + 1
   local known = self.last[name][k]
   local is_there = known ~= nil and not known.is_gone
   local tells = self.deletes or self.log and not self.repeats and lsn ~= "-"
   if tells and is_there ~= (op == "update" or op == "delete") then
      self:complain("%s %d came as %s, but was %sthere", name, k, op, is_there and "" or "not ")
   end
   if op == "delete" then
      return take_delete(self, name, k, self.log and lsn ~= "-" and lsn or "xid " .. xid)
   end
   if op ~= "read" then
      self.lowest = math.min(self.lowest, math.tointeger(xid))
      self.highest = math.max(self.highest, math.tointeger(xid))
   end
   -- a transaction of the log brings each version of a key, and batches of it come again
   local last, id = self.last[name][k], k .. "/" .. (self.log and v or xid)
   if last and v < last.v and not (self.log and self.repeats) then
      self:complain("%s %d went back from version %d (xid %s) to %d (xid %s, %s)", name, k, last.v,
         last.xid, v, xid, op)
   end
   local before = self.seen[name][id]
   if before then
      self.repeated = self.repeated + 1
      if before ~= v then
         self:complain("%s %d of xid %s came as version %d and as %d", name, k, xid, before, v)
      elseif not self.repeats then
         self:complain("%s %d version %d of xid %s was delivered twice (%s)", name, k, v, xid, op)
      end
   end
   self.seen[name][id] = v
   self.last[name][k] = { v = v, xid = xid }
   self.marks[name] = self.marks[name] or k == 0
end

-- Marks the end in each table: a row of a transaction that began after all others were over, so
-- whoever sees it sees all.
function methods:mark(conn)
   for _, name in ipairs(self.tables) do
      conn:exec(("insert into %s values (0, bump('%s', 0))"):format(name, name))
   end
end

-- Whether the marks of all tables were delivered.
function methods:is_complete()
   for _, name in ipairs(self.tables) do
      if not self.marks[name] then
         return false
      end
   end
   return true
end

-- Compares with the tables, when nobody writes any more.
function methods:compare(conn)
   local wrap = 1 << 32
   local xid = self.stamps and "coalesce(pgcdc_xid::text, xmin::text)" or "xmin"
   for _, name in ipairs(self.tables) do
      local is_there = {}
      for _, row in ipairs(conn:exec(("select k, v, %s from %s"):format(xid, name))) do
         local k, v, xmin = math.tointeger(row[1]), math.tointeger(row[2]), math.tointeger(row[3])
         xmin = xmin % wrap
         local last = self.last[name][k]
         is_there[k] = true
         if last and last.is_gone then
            self:complain("%s %d is there, but its delete was delivered", name, k)
         end
         if not last then
            self:complain("%s %d version %d of xid %d was never delivered", name, k, v, xmin)
         elseif last.v ~= v or not self.log and math.tointeger(last.xid) % wrap ~= xmin then
            self:complain("%s %d is at version %d of xid %d, the last delivered is %d of xid %s",
               name, k, v, xmin, last.v, last.xid)
         end
      end
      for k, last in pairs((self.stamps or self.deletes or self.log) and self.last[name] or {}) do
         if not is_there[k] and not last.is_gone then
            self:complain("%s %d is gone, and no delete was delivered", name, k)
         end
      end
      -- what was delivered must have been committed
      local written = {}
      local sql = ("select k, v, %s from history where t = %s"):format(
         xid, conn:escape(name))
      for _, row in ipairs(conn:exec(sql)) do
         written[("%s/%d/%s"):format(row[1], math.tointeger(self.log and row[2] or row[3]) % wrap,
            row[2])] = true
      end
      for id, v in pairs(self.seen[name]) do
         local k, stamp = id:match "^(%d+)/(%d+)$"
         if not written[("%s/%d/%d"):format(k, math.tointeger(stamp) % wrap, v)] then
            self:complain("%s %s version %d of xid %s was delivered, but never committed", name, k,
               v, stamp)
         end
      end
   end
   if self.log then
      self.by_log, self.told = self.log:compare(conn, self.repeats, function(...)
         self:complain(...)
      end)
   end
end

-- What is wrong, as text; nil: nothing.
function methods:verdict()
   if self.n_problems == 0 then
      return nil
   end
   return ("%d problems:\n   %s"):format(self.n_problems, table.concat(self.problems, "\n   "))
end

return checker
