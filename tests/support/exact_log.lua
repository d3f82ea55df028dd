-- exact_log.lua: holds what came by the log against what the server itself says of its log.
-- SPDX-License-Identifier: MIT
--
-- A second slot, of the plug-in test_decoding, is made before the program starts. In the end it
-- tells every committed change of the tables, in the order of commits. What the program delivers by
-- its log must be just that, in that order, each once. The changes before it are those that its
-- first read and the poll after it showed: of each key the last of these must have come as a row.
--
-- Of a program that is killed: each life goes on at a change that was reached before, or right
-- after the last one that was.

local exact_log = {}

local methods = {}
methods.__index = methods

-- In <db>, whose name the slot bears: the server tells from now on. <tables>: leaf -> table. The
-- caller drops the slot.
function exact_log.new(db, tables)
   local self = setmetatable({
      slot = "oracle_" .. db.name:gsub("%W", "_"), leaves = tables,
      heard = {},   -- what came by the log: {life =, t =, op =, k =, v =, xid =, lsn =}
      polled = {},  -- by table and "key version": it came as a row of the first read or of a poll
      ready = {},   -- by table: an LSN beyond what the poll may have shown
      life = 1,
   }, methods)
   db:exec(("select pg_create_logical_replication_slot('%s', 'test_decoding')"):format(self.slot))
   return self
end

-- A change that the program has told. <lsn>: "-" if it did not come by the log.
function methods:hear(t, op, k, v, xid, lsn)
   if lsn == "-" then
      self.polled[("%s %s %s"):format(t, k, v)] = true
   else
      self.heard[#self.heard + 1] = { life = self.life, t = t, op = op, k = k, v = v, xid = xid,
         lsn = lsn }
   end
end

-- The program has told a TRUNCATE: after that change of the table which it told last.
function methods:hear_truncate(t)
   self.heard[#self.heard + 1] = { life = self.life, t = t, op = "truncate" }
end

-- The program was killed, and starts again.
function methods:begin_life()
   self.life = self.life + 1
end

function methods:is_ready(tables)
   for _, t in ipairs(tables) do
      if not self.ready[t] then
         return false
      end
   end
   return true
end

-- The table is ready. The server is asked how far its log is.
function methods:note_ready(t, conn)
   self.ready[t] = self.ready[t] or conn:value "select pg_current_wal_insert_lsn()"
end

-- "A/12" as a number.
local function number_of(lsn)
   local high, low = lsn:match "^(%x+)/(%x+)$"
   return tonumber(high, 16) << 32 | tonumber(low, 16)
end

-- Adds what a line of test_decoding says of a row to <list>, without LSN and xid.
local function read_row(list, t, data)
   local op, rest = data:match "^table [^:]+: (%u+): (.*)$"
   local new = rest:match "new%-tuple: (.*)$" or rest
   local k, v = new:match "k%[integer%]:(%d+)", new:match "v%[bigint%]:(%d+)"
   local old = rest:match "^old%-key: k%[integer%]:(%d+)"
   if old and old ~= k then
      list[#list + 1] = { t = t, op = "delete", k = old, v = "0" }
      op = "INSERT"
   end
   list[#list + 1] = { t = t, op = op:lower(), k = k, v = op == "DELETE" and "0" or v }
end

-- What the server says: a list of {t =, op =, k =, v =, xid =, lsn =, commit =}.
local function tell(self, conn)
   local list, xid, first = {}, nil, 1
   for _, row in ipairs(conn:exec(([[select lsn, data from pg_logical_slot_get_changes('%s', null,
         null, 'include-timestamp', '0') where data !~ '^table public\.(versions|history):']])
         :format(self.slot))) do
      local lsn, data = row[1], row[2]
      local before = #list
      if data:find "^BEGIN" then
         xid, first = data:match "%d+", #list + 1
      elseif data:find "^COMMIT" then
         for i = first, #list do
            list[i].commit = number_of(lsn)
         end
      elseif data:find ": TRUNCATE:" then
         local t = data:match "^table public%.([%w_]+)"
         list[#list + 1] = { t = self.leaves[t] or t, op = "truncate" }
      else
         local t = data:match "^table public%.([%w_]+):"
         read_row(list, self.leaves[t] or t, data)
      end
      for i = before + 1, #list do
         list[i].lsn, list[i].xid = lsn, xid
      end
   end
   return list
end

local function words(change)
   return ("%s %s %s version %s of xid %s at %s"):format(change.t, change.op, change.k, change.v,
      change.xid, change.lsn)
end

-- The changes of each table, where in that list each of them is, by its place in the log, and after
-- which of them it was truncated, and how often.
local function sort_out(told)
   local of = {}
   for i, change in ipairs(told) do
      local list = of[change.t] or { at = {}, truncated = {} }
      of[change.t] = list
      change.i = i
      if change.op == "truncate" then
         list.truncated[#list] = (list.truncated[#list] or 0) + 1
      else
         list[#list + 1] = change
         list.at[("%s %s %s"):format(change.lsn, change.op, change.k)] = #list
      end
   end
   return of
end

-- A TRUNCATE was told. Where no change of this life was told before, nobody knows which.
local function take_truncate(place, list, heard, complain)
   if place.life ~= heard.life then
      return
   end
   place.truncated[place.now] = (place.truncated[place.now] or 0) + 1
   if not list.truncated[place.now] then
      complain("%s was not truncated after %s", heard.t, words(list[place.now]))
   end
end

-- Each TRUNCATE that follows a change which came by the log was told, once.
local function check_truncates(place, list, t, complain)
   for j, n in pairs(list.truncated) do
      if j > 0 and not place.skipped[j] and place.truncated[j] ~= n then
         complain("%s was truncated after %s, and this was told %d times", t, words(list[j]),
            place.truncated[j] or 0)
      end
   end
end

-- The changes of the table that did not come by the log: they must be of transactions that the
-- poll may have shown; and it must have shown what they have left.
local function check_passed(self, complain, list, skipped)
   local last = {}
   for j, change in ipairs(list) do
      if skipped[j] then
         last[change.k] = change
         if change.commit > number_of(self.ready[change.t] or "0/0") then
            complain("the log never brought %s", words(change))
         end
      end
   end
   for k, change in pairs(last) do
      if change.op ~= "delete" and not self.polled[("%s %s %s"):format(change.t, k, change.v)] then
         complain("no poll and no log brought %s", words(change))
      end
   end
end

-- Where the change stands among those of its table; nil: nowhere.
local function find(list, heard)
   local j = list.at[("%s %s %s"):format(heard.lsn, heard.op, heard.k)]
   local told = j and list[j]
   return told and told.v == heard.v and told.xid == heard.xid and j or nil
end

-- Takes one change of a table, the <j>th of <list>. <place>: how far the table is, in this life and
-- in all, and what was passed over: in its first life transactions that the poll has shown.
local function take(place, list, j, life, complain)
   local is_first = place.life ~= life
   if not is_first and j <= place.now then
      complain("the log brought again, or too late, %s", words(list[j]))
   end
   for i = (is_first and place.reached or place.now) + 1, j - 1 do
      if i > place.reached then
         place.skipped[i] = true
      elseif not place.skipped[i] then
         complain("what came again went on behind %s", words(list[i]))
      end
   end
   place.skipped[j] = nil
   place.now, place.reached, place.life = j, math.max(place.reached, j), life
end

-- One change that was heard. Returns which of the server's it is, or nil.
local function compare_one(heard, list, place, complain)
   if heard.op == "truncate" then
      take_truncate(place, list, heard, complain)
      return nil
   end
   local j = find(list, heard)
   if not j then
      complain("the server's log does not have %s", words(heard))
      return nil
   end
   take(place, list, j, heard.life, complain)
   return list[j]
end

-- Compares, when all has come. complain(text, ...) is called for each problem; <repeats>: it was
-- killed. Returns how many changes came by the log, and how many the server knows.
function methods:compare(conn, repeats, complain)
   local told = tell(self, conn)
   local of, places, last, life = sort_out(told), {}, nil, 0
   for t in pairs(of) do
      places[t] = { now = 0, reached = 0, life = 0, skipped = {}, truncated = {} }
   end
   for _, heard in ipairs(self.heard) do
      local change = compare_one(heard, of[heard.t], places[heard.t], complain)
      if change and life == heard.life and last and change.i < last.i then
         complain("not in the order of commits: %s, after %s", words(change), words(last))
      end
      last, life = change or last, heard.life
   end
   for t, list in pairs(of) do
      local place = places[t]
      for i = place.reached + 1, #list do
         place.skipped[i] = true
      end
      check_passed(self, complain, list, place.skipped)
      if not repeats then
         check_truncates(place, list, t, complain)
      end
   end
   return #self.heard, #told
end

return exact_log
