-- pgcdc.sinks.postgres.early: rows that go to a target while their batch still comes.
-- SPDX-License-Identifier: MIT
--
--    write     many changed rows wait: begins the transaction of the flush that will come, sends
--              them, and does not wait for the statement that writes them to the table; again, with
--              those that have come since then, when that statement is over
--    flush     `take`: goes on behind what was sent; then the savepoint, and COMMIT
--
-- So the server is at work on rows while those behind them are read. It stays exact, because only a
-- flush commits, and `take` lets it do so only if the transaction has nothing but the first rows of
-- the one layout that is flushed. Else, or after any error, the transaction is undone, without a
-- word, and the flush writes everything, as without this: all rows wait until they are committed.
-- What the server refuses is refused there again, and told.
--
-- Only for a mirror that nothing stands beside: all sources lead to it alone, and nobody else
-- writes by its connection. So no code of the script, which may use the table as well, waits for
-- our locks. A delete, or other columns, end it for that batch (rows must not be written before the
-- deletes of a transfer), and the next batches are not begun early. A transaction in which nothing
-- has happened for a while is undone, too, so that locks are not kept while a source has nothing.
--
-- Of the sink: early = {layout =, db = the connection to the server, token =, bytes and rows = what
-- was sent of the layout's lines, is_under_way = a statement was sent and not awaited, timer =}, or
-- nil; early_at = when so many values were taken, `send` is to be called; early_skips = so many
-- flushes are to pass before the next try, which were early_skipped the last time; early_apply =
-- the name of the statement that writes rows, if it is not "apply".

local raw = require "pgcdc.raw"
local feeds = require "pgcdc.delivery.feeds"
local apply = require "pgcdc.sinks.postgres.apply"
local timer = require "pgcdc.timer"

local early = {
   ROWS = 20000, -- at least, that are sent at once; less is slower in all
}

local LOOK = 1000   -- values after which it is looked again whether a statement is over
local HOLD = 5      -- seconds
local MOST_SKIPS = 64

-- "ON CONFLICT DO UPDATE command cannot affect row a second time"
local TWICE = "21000"

local function is_alone(sink)
   local sinks = { [sink] = true }
   for number = 1, raw.source_count() do
      local facts = feeds.facts(number)
      if not (facts and facts.leads_to(sinks)) then
         return false
      end
   end
   return #sink.connection.sinks == 1
end

-- True if nothing is to be done in the target but to write rows of this layout.
local function is_plain(layout)
   local statements = layout.statements
   return statements.apply and not statements.partial and not statements.misfits
end

-- The same, as far as it is known without asking the server.
local function looks_plain(sink, layout)
   local orphans = sink.orphans
   return not (layout.deletes and layout.deletes:count() > 0)
      and orphans and orphans.state and not orphans.state.reading and #orphans.begins == 0
      and not orphans.is_reset
end

local function can_begin(sink, is_tried)
   local layout, connection = sink.used[1], sink.connection
   if sink.mode ~= "mirror" or #sink.used ~= 1 or #sink.sealed > 0 or sink.own or sink.last_of_key
      or is_tried or not connection.is_recalled[sink.name] or not connection.db then
      return false
   end
   local rows, changed = layout.lines:count()
   return rows >= early.ROWS and changed > 0 and looks_plain(sink, layout)
      and connection.db:transaction() == "idle" and connection.db:alive() and is_alone(sink)
end

-- Waits for the statement that is under way.
local function settle(sink, it)
   if it.is_under_way then
      it.is_under_way = false
      sink.connection:await()
   end
end

-- Undoes what was sent.
local function undo(sink, it)
   local connection = sink.connection
   connection.generation = connection.generation + 1 -- what is known of the target is of this try
   it.timer:cancel()
   if connection.db ~= it.db then
      return
   end
   pcall(settle, sink, it)
   if it.db:transaction() ~= "idle" and not it.db:run("ROLLBACK", 0, {}) then
      connection:close()
   end
end

-- The same; the next flushes are not begun early.
local function give_up(sink, it)
   sink.early, sink.early_at = nil, math.huge
   sink.early_skipped = math.min(2 * (sink.early_skipped or 0) + 1, MOST_SKIPS)
   sink.early_skips = sink.early_skipped
   undo(sink, it)
end

local function begin(sink)
   local connection = sink.connection
   local it = { layout = sink.used[1], db = connection.db, bytes = 0, rows = 0,
                token = connection.new_token() }
   it.timer = timer.after(HOLD, function()
      if sink.early == it then
         give_up(sink, it)
      end
   end)
   sink.early = it
   connection:begin_early(sink.name, it.token, 2 * HOLD)
   if not (apply.is_ready(sink, it.layout) and is_plain(it.layout)) then
      error("not early", 0)
   end
   connection:run(it.layout.statements.create)
end

-- Fills the temporary table with the rows that were not sent.
local function fill(sink, it)
   local lines = it.layout.lines
   sink.connection:copy(it.layout.statements.copy, lines, it.bytes)
   it.bytes, it.rows = lines:bytes(), (lines:count())
end

local function apply_of(sink, it)
   return it.layout.statements[sink.early_apply or "apply"]
end

local function hand_over(sink, it)
   settle(sink, it)
   fill(sink, it)
   sink.connection:send(("%s; TRUNCATE pg_temp.%s"):format(apply_of(sink, it),
      it.layout.temporary))
   it.is_under_way = true
end

-- Calls f(...). After an error, gives up.
local function attempt(sink, it, f, ...)
   local ok, problem = pcall(f, ...)
   if ok then
      return true
   elseif type(problem) == "table" and problem.sqlstate == TWICE then
      sink.early_apply = "apply_last"
   end
   give_up(sink, it or sink.early)
   return false
end

--- Many values were taken since the last time. `is_tried`: rows of a transaction that failed wait.
--- Raises nothing.
function early.send(sink, is_tried)
   local it, taken = sink.early, sink.counts.taken
   if it and (it.layout ~= sink.used[1] or it.db ~= sink.connection.db) then
      sink.early_at = math.huge
      return
   elseif not it and ((sink.early_skips or 0) > 0 or not can_begin(sink, is_tried)) then
      sink.early_at = taken + early.ROWS
      return
   end
   sink.early_at = taken + LOOK
   if it and (it.layout.lines:count() - it.rows < early.ROWS
      or it.is_under_way and not it.db:has_answer()) then
      return
   end
   if it or attempt(sink, nil, begin, sink) then
      attempt(sink, sink.early, hand_over, sink, sink.early)
   end
end

--- What of a transfer was sent, and is in the transaction that is open; nil: nothing, and none is
--- open. To be called before anything else is done by the connection.
function early.take(sink, transfer)
   local it, part = sink.early, transfer[1]
   sink.early, sink.early_at = nil, sink.counts.taken + early.ROWS
   if not it then
      sink.early_skips = math.max((sink.early_skips or 0) - 1, 0)
      return nil
   end
   it.timer:cancel()
   if #transfer == 1 and #part.layouts == 1 and part.layouts[1] == it.layout
      and it.db == sink.connection.db and it.layout.generation == sink.connection.generation
      and not part.ends_reading and #part.begins == 0 and looks_plain(sink, it.layout)
      and attempt(sink, it, settle, sink, it) then
      sink.early_skipped = nil
      return it
   end
   give_up(sink, it)
end

--- Writes the rest of what `take` returned.
function early.finish(sink, it)
   if it.layout.lines:bytes() > it.bytes then
      fill(sink, it)
      sink.connection:run(apply_of(sink, it))
   end
end

--- Undoes what was sent, if anything was. To be called before the connection is used for something
--- else than a flush.
function early.leave(sink)
   if sink.early then
      give_up(sink, sink.early)
   end
end

return early
