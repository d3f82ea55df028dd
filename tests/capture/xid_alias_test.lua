-- xid_alias_test.lua: frozen rows whose xmins are given out again, 2^32 transactions later.
-- SPDX-License-Identifier: MIT
--
-- Such a row may come once more. It must never be taken for a sign that the transaction which has
-- its xid now was seen already: what that writes would be lost.

local cluster = require "cluster"
local deletes = require "deletes"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local run = require "exact_run"
local seeds = require "seeds"
local tables = require "tables"
local wait = require "wait"
local watch = require "watch"
local xids = require "xids"

local TestXidAlias = {}

local wrap = 1 << 32
local asked = tonumber(os.getenv "PGCDC_EXACT_SECONDS" or "")

-- A stopped cluster with 20 rows, frozen: row i has the xmin first - wrap + i - 1. It is about to
-- give these out again, in epoch 1.
local template, first

function TestXidAlias.setupClass()
   lu.skipIf(not xids.can_move(), "there is no pg_resetwal")
   template = cluster.new { conf = xids.conf }
   template:exec "create table t (id int primary key, n int default 0)"
   template:exec [[do $$ begin for i in 1 .. 2000 loop
      begin perform pg_current_xact_id(); insert into t values (0); raise 'undo';
      exception when raise_exception then null; end; end loop; end $$]]
   for id = 1, 20 do
      template:exec(("insert into t values (%d)"):format(id))
   end
   first = wrap + math.tointeger(template:value "select xmin from t where id = 1")
   xids.move(template, first - 500)
   lu.assertEquals(template:value "select xmin from t where id = 1", tostring(first - wrap))
   lu.assertTrue(xids.next(template) < first)
   template:stop()
end

local function new_cluster()
   return template:copy():start()
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

-- How often changes of each row came, by key: {read =, upsert =}; with deletes = true by ops of it.
local function count(p)
   local counts = {}
   for _, change in ipairs(p:changes()) do
      local id = change.key.id
      counts[id] = counts[id] or {}
      counts[id][change.op] = (counts[id][change.op] or 0) + 1
   end
   return counts
end

local function wait_row(p, id)
   watch.wait_line(p, ('"id":%d[,}]'):format(id))
end

-- Each row from before came, and came again at most once.
local function assert_old_rows(counts, op)
   for id = 1, 20 do
      lu.assertEquals(counts[id].read, 1, "row " .. id)
      lu.assertTrue((counts[id][op or "upsert"] or 0) <= 1, "row " .. id)
   end
end

function TestXidAlias.test_frozen_rows_repeat_once_at_most()
   local one = new_cluster()
   local state = fixtures.state()
   local p = watch.start(one, { state = state })
   watch.wait_ready(p)
   burn(one, first - 5)
   for id = 101, 140 do
      one:exec(("insert into t values (%d)"):format(id))
      wait_row(p, id)
   end
   lu.assertEquals(p:stop().status, 0)
   local counts, repeats = count(p), 0
   assert_old_rows(counts)
   for id = 1, 20 do
      repeats = repeats + (counts[id].upsert or 0)
   end
   for id = 101, 140 do
      lu.assertEquals(counts[id], { upsert = 1 })
   end
   lu.assertTrue(repeats > 0, "the case was not provoked")
   -- and not at the next start
   local q = program.run { dsn = one, state = state, script = watch.script { table = "t" },
      options = { "--once" } }
   lu.assertEquals(q.status, 0, q.stderr)
   lu.assertEquals(q.changes, {})
end

-- A frozen row's xmin is given out again, and while that transaction is open, a poll finds the
-- frozen row, whose xid looks new. Taken for seen, the xid hid what the transaction wrote,
-- when it committed: rows were lost. The snapshot's text told transactions of a primary, but no
-- savepoints, and nobody on a standby: those were lost for longer.
local function hides_nobody(one, source)
   local p = watch.start(source)
   watch.wait_ready(p)
   burn(one, first + 2)
   local open = one:connect()
   open:exec [[begin; insert into t values (200);
      savepoint a; insert into t values (201); release a;
      savepoint b; insert into t values (202)]]
   lu.assertEquals(open:value "select max(xmin::text::bigint) from t where id >= 200",
      tostring(first + 4 - wrap))
   one:exec "insert into t values (101)"
   wait_row(p, 101)
   lu.assertNil(count(p)[3].upsert, "a frozen row came, whose xid is in use")
   open:exec "commit"
   one:exec "insert into t values (102)"
   wait_row(p, 102)
   lu.assertEquals(p:stop().status, 0)
   local counts = count(p)
   assert_old_rows(counts)
   for _, id in ipairs { 101, 102, 200, 201, 202 } do
      lu.assertEquals(counts[id], { upsert = 1 }, "row " .. id)
   end
end

function TestXidAlias.test_a_frozen_row_hides_nobody()
   local one = new_cluster()
   hides_nobody(one, one)
end

function TestXidAlias.test_a_frozen_row_hides_nobody_on_a_standby()
   local one = new_cluster()
   local standby = one:standby "standby"
   standby:wait_replay()
   hides_nobody(one, standby)
end

-- Writers with savepoints get the xids of frozen rows of the tables that they write to.
local function beside_writers(fields)
   local one = cluster.new { conf = xids.conf }
   local seed = seeds.fresh()
   local options = tables.merge(
      { cluster = one, seconds = asked and asked / 12 or 2, seed = seed }, fields)
   local from
   function options.before(db)
      db:exec [[do $$
         declare key int;
         begin
            for key in select k from plain order by k loop
               begin -- each in a subtransaction of its own
                  update plain set v = bump('plain', key) where k = key;
               exception when unique_violation then null;
               end;
            end loop;
         end $$]]
      from = wrap + math.tointeger(db:value "select min(xmin::text::bigint) from plain")
      xids.move(one, from - 300)
      options.standby = fields.on_a_standby and one:standby "standby"
   end
   function options.enough()
      return xids.next(one) > from + 1000
   end
   local checker, stats, result = run.random(options)
   lu.assertNil(checker:verdict(), ("seed %d"):format(seed))
   lu.assertEquals(result.status, 0)
   lu.assertTrue(stats.released > 0 and checker.highest > from)
end

function TestXidAlias.test_exact_beside_writers()
   beside_writers { deletes = true }
end

function TestXidAlias.test_exact_beside_writers_in_other_ways()
   lu.skipIf(not asked, "make exact only")
   beside_writers {}
   beside_writers { capture = "increment" }
   beside_writers { kills = true }
   beside_writers { on_a_standby = true }
end

-- A transaction that ends while the snapshot is taken may be in it or not. What it
-- wrote comes with the next poll, even if nothing else happens, and is an insert where deletes are
-- looked for.
function TestXidAlias.test_who_ends_while_a_poll_begins()
   local one = new_cluster()
   local p = watch.start(one, { source = { deletes = true } })
   watch.wait_ready(p)
   burn(one, first + 2)
   local older, open, locker = one:connect(), one:connect(), one:connect()
   older:exec "begin; select pg_current_xact_id()" -- or all would be below the snapshot's xmin
   open:exec "begin; insert into t values (200); savepoint a; insert into t values (201)"
   assert(locker:send "begin; lock table t in access exclusive mode")
   local function wait_locks(n)
      wait.until_(function()
         local waiting = one:value "select count(*) from pg_locks where not granted"
         return tonumber(waiting) >= n -- a poll may be among them at once
      end, 20, n .. " sessions to wait for a lock")
   end
   wait_locks(1)
   one:exec "select pg_current_xact_id()" -- so that there is something to look for
   wait_locks(2)
   open:exec "commit"
   assert(locker:collect(wait.scaled(20)))
   locker:exec "commit"
   wait_row(p, 200)
   wait_row(p, 201)
   one:exec "delete from t where id in (3, 5, 200)"
   p:wait_until(function()
      local counts = count(p)
      return counts[3].delete and counts[5].delete and counts[200].delete
   end, 20, "the deletes")
   lu.assertEquals(p:stop().status, 0)
   local counts = count(p)
   assert_old_rows(counts, "update")
   lu.assertEquals({ counts[200], counts[201] }, { { insert = 1, delete = 1 }, { insert = 1 } })
   for id = 1, 20 do
      lu.assertEquals(counts[id].delete, (id == 3 or id == 5) and 1 or nil)
      lu.assertNil(counts[id].insert)
   end
end

-- What is there when deletes are looked for for the first time is learned: also a frozen row whose
-- xid is in use. (It was taken for one that the poll delivers, and its end was never told.)
function TestXidAlias.test_a_frozen_row_is_learned()
   local one = new_cluster()
   burn(one, first + 3)
   local open = one:connect()
   open:exec "begin; insert into t values (200)"
   one:exec "select pg_current_xact_id()" -- the snapshot lists that one from now on
   local state = fixtures.state()
   local fields = 'table = "t", start = "now"'
   lu.assertEquals(deletes.run(one, fields, state), {})
   one:exec "delete from t where id in (4, 5, 6)"
   lu.assertEquals(deletes.ops(deletes.run(one, fields, state)),
      { "delete 4", "delete 5", "delete 6" })
   open:exec "commit"
   lu.assertEquals(deletes.ops(deletes.run(one, fields, state)), { "insert 200" })
end

return TestXidAlias
