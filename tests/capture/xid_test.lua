-- xid_test.lua: transaction ids near 2^31, near 2^32 and in later epochs.
-- SPDX-License-Identifier: MIT
--
-- pg_resetwal moves clusters there. A server takes no step of more than 2^31 transactions beyond
-- the oldest row that is not frozen, so it goes by steps with VACUUM FREEZE in between. The rows of
-- before are frozen then, and keep the 32-bit xid that they were written with.
--
-- $PGCDC_EXACT_SECONDS: how long writers work in all, and then on all ways (default 15).

local cluster = require "cluster"
local lu = require "luaunit"
local run = require "exact_run"
local seeds = require "seeds"
local stepping = require "stepping"
local xids = require "xids"

local TestXid = {}

local asked = tonumber(os.getenv "PGCDC_EXACT_SECONDS" or "")
local seconds = (asked or 15) / 6
local seed = seeds.asked or os.time()

local STEP = 1500000000
local EPOCH = 1 << 32

-- Freezes everything in the running cluster, and goes on at <xid>.
local function move(one, xid)
   xids.freeze(one)
   one:stop()
   xids.set_next(one, xid)
   one:start()
   local now = xids.next(one)
   assert(now >= xid and now < xid + 100, "the cluster did not move to " .. xid)
end

-- Of the clusters that all tests copy: at the first step, and at the second.
local first, second

-- A table whose rows have an xid each, and are frozen before long.
local OLD = [[create table t (id int primary key, n int default 0);
   create function fill() returns void language plpgsql as $$
   begin
      for i in 1 .. 40 loop
         begin -- a subtransaction of its own
            insert into t values (i);
         exception when unique_violation then null;
         end;
      end loop;
   end $$;
   select fill()]]

function TestXid.setupClass()
   lu.skipIf(not xids.can_move(), "there is no pg_resetwal")
   first = cluster.new { name = "first", conf = { autovacuum_freeze_max_age = "2000000000" } }
   first:exec(OLD)
   move(first, STEP)
   xids.freeze(first)
   first:stop()
   second = first:copy "second"
   second:start()
   move(second, 2 * STEP)
   xids.freeze(second)
   second:stop()
end

-- Writers take a cluster across <boundary>, beginning a little below.
local function cross(boundary, capture)
   local one = (boundary < EPOCH and first or second):copy():start()
   local checker, stats, result = run.random {
      cluster = one, seconds = seconds, seed = seed, capture = capture,
      before = function(db)
         move(one, boundary - 400)
         local old = db:value "select count(*) from plain where age(xmin) > 1000000"
         lu.assertTrue(tonumber(old) > 1000, "the rows of before are not old")
      end,
      enough = function() return xids.next(one) > boundary + 200 end,
   }
   lu.assertNil(checker:verdict(), "seed " .. seed)
   lu.assertEquals(result.status, 0)
   lu.assertTrue(stats.committed > 0)
   local below, above = 0, 0
   for _, name in ipairs(checker.tables) do
      for id in pairs(checker.seen[name]) do
         local xid = math.tointeger(id:match "/(%d+)$")
         lu.assertTrue(xid < boundary + (1 << 20), id)
         below = below + (xid >= boundary - 400 and xid < boundary and 1 or 0)
         above = above + (xid >= boundary and 1 or 0)
      end
   end
   io.write(("%d changes below, %d above ... "):format(below, above))
   lu.assertTrue(below > 0, "nothing was written below the boundary")
   lu.assertTrue(above > 0, "the boundary was not crossed")
   one:destroy()
end

function TestXid.test_across_2_31()
   cross(1 << 31, "xmin")
end

function TestXid.test_across_2_31_by_triggers()
   cross(1 << 31, "trigger")
end

function TestXid.test_across_2_32_into_epoch_1()
   cross(EPOCH, "xmin")
end

function TestXid.test_across_2_32_into_epoch_1_by_triggers()
   cross(EPOCH, "trigger")
end

function TestXid.test_into_epoch_2()
   cross(2 * EPOCH, "xmin")
end

function TestXid.test_into_epoch_2_by_triggers()
   lu.skipIf(not asked, "make exact only")
   cross(2 * EPOCH, "trigger")
end

-- Takes <n> transaction ids, one after the other.
local function burn(one, n)
   one:exec(([[do $$ begin
      for i in 1 .. %d loop perform pg_current_xact_id(); commit; end loop; end $$]]):format(n))
end

-- The least and the greatest 32-bit xid of the rows that are there.
local function raw_xids(one)
   local row = one:exec "select min(xmin::text::bigint), max(xmin::text::bigint) from t"[1]
   return math.tointeger(row[1]), math.tointeger(row[2])
end

-- Frozen rows of epoch 0 look new when the same 32-bit xids come round again: each comes once more,
-- and only while the floor, held back by an open transaction, lets it. That is documented, and all.
function TestXid.test_aliases()
   for _, capture in ipairs { "xmin", "trigger" } do
      local one = second:copy():start()
      local low, high = raw_xids(one)
      lu.assertTrue(high - low == 39 and low > 100)
      move(one, EPOCH + low - 60)
      if capture == "trigger" then
         stepping.trigger(one, "install")
      end
      local poll, all = stepping.new(one, { capture = capture }), {}
      for i = 1, 40 do
         all[i] = tostring(i)
      end
      all = table.concat(all, " ")
      lu.assertEquals(poll(), "read " .. all)
      one:exec "update t set n = 1 where id = 40"
      lu.assertEquals(poll(), "upsert 40")
      lu.assertTrue(xids.next(one) < EPOCH + low, "the old xids have come round already")
      local holder = one:connect()
      holder:exec "begin; select pg_current_xact_id()"
      burn(one, EPOCH + high + 50 - xids.next(one))
      local again = poll()
      lu.assertEquals(again, capture == "xmin" and "upsert " .. all:gsub(" 40$", "") or "")
      lu.assertEquals(poll(), "") -- once
      holder:exec "commit"
      lu.assertEquals(poll(), "")
      burn(one, 100)
      lu.assertEquals(poll(), "")
      one:exec "update t set n = 2 where id = 1"
      lu.assertEquals(poll(), "upsert 1")
      one:destroy()
   end
end

-- Where nobody holds the floor back while they come round, not even that.
function TestXid.test_aliases_that_nobody_sees()
   local one = second:copy():start()
   local low, high = raw_xids(one)
   move(one, EPOCH + low - 60)
   local poll = stepping.new(one, { capture = "xmin" })
   poll()
   burn(one, high - low + 200)
   local words = poll() -- the floor of the snapshot is still below: this poll passes it
   burn(one, 100)
   lu.assertEquals(poll(), "")
   one:exec "update t set n = 1 where id = 7"
   lu.assertEquals(poll(), "upsert 7")
   lu.assertTrue(words == "" or select(2, words:gsub("%d+", "")) == 40, words)
   one:destroy()
end

return TestXid
