-- pgcdc.stream.operators.window: lists of values that came one after the other.
-- SPDX-License-Identifier: MIT
--
-- partition partition_unique timed_window timed_window_unique sliding_window collect
--
-- All but the last two are one operator: values go into a box until it is full or its time is over;
-- then a list of them is passed on.

local raw = require "pgcdc.raw"
local stream = require "pgcdc.stream.stream"
local check = require "pgcdc.check"
local lineage = require "pgcdc.delivery.lineage"
local held = require "pgcdc.stream.held"
local keys = require "pgcdc.stream.keys"
local ordered = require "pgcdc.stream.ordered"
local undo = require "pgcdc.stream.undo"

local LEAST = 0.001

-- ---- boxes ----
-- box:take(x, limit)    takes x, unless x would be the last of `limit`: then returns false
-- box:list()            returns a new list of what is in it
-- box:emit(out, list)   passes the list on, then releases what is in the box
-- box:forget()          releases what is in the box

local Plain = {}
Plain.__index = Plain

local function plain_box(node)
   return setmetatable({ n = 0, bag = lineage.bag(node) }, Plain)
end

function Plain:take(x, limit)
   local n = self.n + 1
   if n == limit then
      return false
   end
   self.bag:add()
   self[n] = keys.item(x)
   self.n = n
   return true
end

function Plain:list()
   return table.move(self, 1, self.n, 1, {})
end

function Plain:emit(out, list)
   self.bag:emit(out, list)
end

function Plain:forget()
   self.bag:release()
end

-- A box of values with distinct keys. Its `entries`, an ordered table: key -> an entry of held.
local Distinct = {}
Distinct.__index = Distinct

local function distinct_boxes(what, options)
   local key_of = stream.getter(what .. ": key", options.key)
   local keep_which = options.keep
   if keep_which ~= nil then
      check.one_of(what .. ": keep", keep_which, { first = true, last = true })
   end
   return function(node)
      return setmetatable({ node = node, entries = ordered(), key_of = key_of,
                            keeps_last = keep_which == "last" }, Distinct)
   end
end

function Distinct:take(x, limit)
   local entries, key = self.entries, x
   if self.key_of then
      key = self.key_of(x)
   end
   key = keys.of(key)
   if entries:find(key) then
      if self.keeps_last then
         local older = entries:remove(key).value
         entries:push(key, held.new(self.node, x))
         held.release(older)
      end
      return true
   end
   if entries.count + 1 == limit then
      return false
   end
   entries:push(key, held.new(self.node, x))
   return true
end

function Distinct:list()
   local list, entry = {}, self.entries.first
   while entry do
      list[#list + 1] = keys.item(entry.value.x)
      entry = entry.after
   end
   return list
end

function Distinct:all()
   local all, entry = {}, self.entries.first
   while entry do
      all[#all + 1] = entry.value
      entry = entry.after
   end
   return all
end

function Distinct:emit(out, list)
   held.emit(self:all(), out, list)
end

function Distinct:forget()
   for _, entry in ipairs(self:all()) do
      held.release(entry)
   end
end

-- ---- the operator ----

local ALL = {} -- the name of the only box, where there are no groups

-- Gives the node an input that puts values into boxes and passes on the list of each box that is
-- done. `limit`: how many values fill a box, or nil. `seconds`: how long it stays open, or nil.
-- `group_of`: a function that names the box of a value, or nil.
local function gather(node, new_box, limit, seconds, group_of)
   local boxes = {}

   local function close(box)
      if box.clock then
         box.clock:cancel()
      end
   end
   local function reopen(name, box)
      local newer = boxes[name] -- holds what came back through a feedback loop
      if newer then
         close(newer)
         newer:forget()
      end
      boxes[name] = box
   end
   local function pass_on(name, box, list)
      boxes[name] = nil
      local attempt <close> = undo(reopen, name, box)
      box:emit(node.out, list)
      attempt.is_done = true
   end

   node.input = function(x)
      local name = ALL
      if group_of then
         name = keys.of((group_of(x)))
      end
      local box = boxes[name] or new_box(node)
      if not box:take(x, limit) then
         local list = box:list()
         list[#list + 1] = keys.item(x)
         pass_on(name, box, list)
         close(box)
         return
      end
      boxes[name] = box
      if seconds and not box.clock then
         box.clock = stream.after(node, seconds, function()
            pass_on(name, box, box:list())
         end)
      end
   end

   function node.forget()
      for _, box in pairs(boxes) do
         close(box)
         box:forget()
      end
      boxes = {}
   end
end

--- partition(n, {timeout=, key=}): lists of n values; with `key` one list for each key; with
--- `timeout` a list is passed on that many seconds after its first value, however short.
stream.operator("partition", function(node, _, n, given)
   check.count("partition: n", n, 1)
   local options = stream.options("partition", given, { timeout = true, key = true })
   if options.timeout ~= nil then
      check.seconds("partition: timeout", options.timeout, LEAST)
   end
   node.about = n
   gather(node, plain_box, n, options.timeout, stream.getter("partition: key", options.key))
end)

--- partition_unique(n, {key=, keep="first"}): lists of n values with distinct keys. A value whose
--- key is there already is dropped, or with keep="last" takes the place of the older one, at the
--- end.
stream.operator("partition_unique", function(node, _, n, given)
   check.count("partition_unique: n", n, 1)
   local options = stream.options("partition_unique", given, { key = true, keep = true })
   node.about = n
   gather(node, distinct_boxes("partition_unique", options), n)
end)

--- timed_window(seconds): a list of what came within so many seconds of its first value.
stream.operator("timed_window", function(node, _, seconds)
   node.about = check.seconds("timed_window: the time", seconds, LEAST)
   gather(node, plain_box, nil, seconds)
end)

--- timed_window_unique(seconds, {key=, keep="first"}): the same, of values with distinct keys.
stream.operator("timed_window_unique", function(node, _, seconds, given)
   node.about = check.seconds("timed_window_unique: the time", seconds, LEAST)
   local options = stream.options("timed_window_unique", given, { key = true, keep = true })
   gather(node, distinct_boxes("timed_window_unique", options), nil, seconds)
end)

-- ---- the others ----

--- sliding_window(n, {return_partial=true}): for each value a list of the last n, or of all until
--- there are n; with return_partial=false not before there are n.
stream.operator("sliding_window", function(node, _, n, given)
   node.about = check.count("sliding_window: n", n, 1)
   local options = stream.options("sliding_window", given, { return_partial = true })
   local what = "sliding_window: return_partial"
   local least = check.flag(what, options.return_partial, true) and 1 or n
   local window = {} -- what later lists need, n - 1 at most, held; replaced, never changed

   local function back(before, newest)
      local is_kept = {}
      for _, entry in ipairs(before) do
         is_kept[entry] = true
      end
      for _, entry in ipairs(window) do
         if not is_kept[entry] then
            held.release(entry)
         end
      end
      held.release(newest)
      window = before
   end
   node.input = function(x)
      local before, newest = window, held.new(node, x)
      local all = table.move(before, 1, #before, 1, {})
      all[#all + 1] = newest
      local attempt <close> = undo(back, before, newest)
      window = #all < n and all or table.move(all, 2, n, 1, {})
      if #all >= least then
         local list = {}
         for i, entry in ipairs(all) do
            list[i] = keys.item(entry.x)
         end
         node.out(list)
      end
      attempt.is_done = true
      if #all == n then
         held.release(all[1])
      end
   end
   function node.forget()
      back {}
   end
end)

--- collect(): holds all values until `flush` is called on the stream that is returned: then passes
--- on a list of them, an empty one too.
stream.operator("collect", function(node)
   local box = plain_box()
   local function back(before)
      box:forget()
      box = before
   end
   node.input = function(x)
      box:take(x)
   end
   --- Passes on what was collected.
   function node.flush()
      local full = box
      box = plain_box()
      local attempt <close> = undo(back, full)
      full:emit(node.out, setmetatable(full:list(), raw.array_metatable)) -- [], not {}
      attempt.is_done = true
   end
   function node.forget()
      back(plain_box())
   end
end)
