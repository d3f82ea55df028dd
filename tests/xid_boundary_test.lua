-- xid_boundary_test.lua: exact where transaction ids wrap, and in clusters older than 2^32 of them.
-- SPDX-License-Identifier: MIT
--
-- The clusters are moved there with pg_resetwal; all that was in them before is frozen, its
-- xmins are those of long ago.

local cluster = require "cluster"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local run = require "exact_run"
local scope = require "scope"
local watch = require "watch"
local xids = require "xids"

local TestXidBoundary = {}

local wrap = 1 << 32
local ahead = 500 -- transactions from where writers begin to the boundary

local function new_cluster()
   lu.skipIf(not xids.can_move(), "there is no pg_resetwal")
   return cluster.new {conf = xids.conf}
end

-- Writers take the cluster over <boundary> while the program watches.
local function cross(boundary, capture)
   local one = new_cluster()
   local seed = os.time() * 1000003 + math.floor(native.now() * 1e6) % 1000003
   local options = {cluster = one, seconds = 2, seed = seed, capture = capture}
   function options.enough()
      return xids.next(one) > boundary + 100
   end
   run.prepare(options)
   xids.move(one, boundary - ahead)
   local before = xids.next(one)
   lu.assertTrue(before < boundary, "moved too far: " .. before)
   local checker, stats, result = run.random(options)
   local message = ("seed %d"):format(seed)
   lu.assertNil(checker:verdict(), message)
   lu.assertEquals(result.status, 0, message)
   lu.assertTrue(xids.next(one) > boundary, "the boundary was not reached")
   lu.assertTrue(stats.committed > 0)
   if capture ~= "increment" then -- that knows no xids
      lu.assertTrue(checker.lowest >= before and checker.lowest < boundary, message)
      lu.assertTrue(checker.highest > boundary and checker.highest < xids.next(one), message)
   end
end

function TestXidBoundary.test_exact_across_2_31()
   cross(1 << 31)
end

function TestXidBoundary.test_exact_across_2_32()
   cross(wrap)
end

function TestXidBoundary.test_exact_across_2_32_by_triggers()
   cross(wrap, "trigger")
end

function TestXidBoundary.test_exact_across_2_32_by_increment()
   cross(wrap, "increment")
end

function TestXidBoundary.test_exact_in_the_middle_of_epoch_1()
   cross(wrap + (1 << 31))
end

function TestXidBoundary.test_exact_into_epoch_2()
   cross(2 * wrap)
end

-- A cluster with 20 rows, frozen, whose xmins are <first> and the 19 after it; it is about to give
-- these out again, in epoch 1.
local function with_aliases()
   local one = new_cluster()
   one:exec "create table t (id int primary key, n int default 0)"
   one:exec [[do $$ begin for i in 1 .. 2000 loop
      begin perform pg_current_xact_id(); insert into t values (0); raise 'undo';
      exception when raise_exception then null; end; end loop; end $$]]
   for id = 1, 20 do
      one:exec(("insert into t values (%d)"):format(id))
   end
   local first = math.tointeger(one:value "select xmin from t where id = 1")
   xids.move(one, wrap + first - 500)
   lu.assertEquals(one:value "select xmin from t where id = 1", tostring(first))
   lu.assertTrue(xids.next(one) < wrap + first)
   return one, wrap + first
end

-- Takes transaction ids until <xid> is the next.
local function burn(one, xid)
   one:exec "create table if not exists burnt ()"
   local n = xid - xids.next(one) - 1 -- one for the block itself
   if n >= 0 then
      one:exec(([[do $$ begin perform pg_current_xact_id(); for i in 1 .. %d loop
         begin insert into burnt default values; exception when raise_exception then null; end;
         end loop; end $$]]):format(n))
   end
   lu.assertEquals(xids.next(one), xid)
end

-- How often changes of each row came: by key, {read =, upsert =}.
local function count(p)
   local counts = {}
   for _, change in ipairs(p:changes()) do
      local id = change.key.id
      counts[id] = counts[id] or {read = 0, upsert = 0}
      counts[id][change.op] = counts[id][change.op] + 1
   end
   return counts
end

-- Frozen rows whose xmins are given out again are delivered once more at most, and nothing else is.
function TestXidBoundary.test_a_frozen_row_with_an_xmin_to_come_repeats_once_at_most()
   local one, first = with_aliases()
   local state = scope.dir "state" .. "/state.db"
   local p = watch.start(one, {state = state})
   watch.wait_ready(p)
   burn(one, first - 5)
   for id = 101, 140 do
      one:exec(("insert into t values (%d)"):format(id))
      watch.wait_line(p, ('"id":%d[,}]'):format(id))
   end
   lu.assertEquals(p:stop().status, 0)
   local counts, repeats = count(p), 0
   for id = 1, 20 do
      lu.assertEquals(counts[id].read, 1)
      lu.assertTrue(counts[id].upsert <= 1, ("row %d came %d times"):format(id, counts[id].upsert))
      repeats = repeats + counts[id].upsert
   end
   for id = 101, 140 do
      lu.assertEquals(counts[id], {read = 0, upsert = 1})
   end
   lu.assertTrue(repeats > 0, "the case was not provoked")
   -- and not at the next start
   local q = program.run {dsn = one, state = state, script = watch.script {table = "t"},
      options = {"--once"}}
   lu.assertEquals(q.status, 0, q.stderr)
   lu.assertEquals(q.changes, {})
end

-- A frozen row's xmin is given out again, and while that transaction is open, a poll finds the
-- frozen row, whose xid looks new. Taken for seen, the xid hid what the transaction wrote,
-- when it committed: rows were lost.
function TestXidBoundary.test_a_frozen_row_hides_no_open_transaction()
   local one, first = with_aliases()
   local p = watch.start(one)
   watch.wait_ready(p)
   burn(one, first + 3)
   local open = one:connect()
   open:exec "begin; insert into t values (100)"
   lu.assertEquals(open:value "select xmin from t where id = 100", tostring(first + 3 - wrap))
   one:exec "insert into t values (101)"
   watch.wait_line(p, '"id":101[,}]')
   open:exec "commit"
   one:exec "insert into t values (102)"
   watch.wait_line(p, '"id":102[,}]')
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(count(p)[100], {read = 0, upsert = 1})
end

return TestXidBoundary
