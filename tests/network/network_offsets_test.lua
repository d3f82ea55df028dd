-- network_offsets_test.lua: a connection that stalls, or is half open, from some byte of it on.
-- SPDX-License-Identifier: MIT
--
-- Promise: nothing is lost and nothing comes twice, and it is noticed in time, wherever in a
-- session that is: a snapshot, a poll with a census, one by triggers, a sink's COPY and COMMIT.
-- (More cuts: network_test.lua, network_bytes_test.lua.) $PGCDC_TEST_OFFSETS: at how many bytes.

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local sessions = require "sessions"
local stepping = require "stepping"

local TestNetworkOffsets = {}

local TABLE = [[create table t (id int primary key, n int default 0, pad text);
   insert into t select i, 0, repeat('x', 20) from generate_series(1, 60) i]]

local function script(fields)
   return ("pgcdc.source {table = 't', %s, on_change = function(c) print(c) end}"):format(fields)
end

-- The snapshot of a table, and the poll after it.
local function snapshot()
   local db = cluster.main():database()
   db:exec(TABLE)
   return { db = db, script = script "deletes = true" }
end

-- A poll with a census: rows came, changed and went.
local function poll()
   local session = snapshot()
   session.state = fixtures.state()
   local result = program.run { dsn = session.db, script = session.script, state = session.state,
                                options = { "--once" } }
   lu.assertEquals(result.status, 0)
   session.db:exec [[update t set n = 1 where id % 2 = 0; delete from t where id % 5 = 0;
      insert into t select i from generate_series(100, 120) i]]
   return session
end

-- A poll by an index, with tombstones.
local function triggers()
   local db = cluster.main():database()
   db:exec(TABLE)
   stepping.trigger(db, "install")
   local session = { db = db, script = script "capture = 'trigger'",
                     state = fixtures.state() }
   local result = program.run { dsn = db, script = session.script, state = session.state,
                                options = { "--once" } }
   lu.assertEquals(result.status, 0)
   db:exec "update t set n = 1 where id % 2 = 0; delete from t where id % 5 = 0"
   return session
end

-- Rows that go into another database: each run has a table of its own there.
local function sink()
   local session = snapshot()
   session.target = cluster.main():database()
   session.script = [[pgcdc.source {table = "t"}:sink(pgcdc.sinks.postgres {
      connect = pgcdc.args.target, table = pgcdc.args.into, mode = "append"})]]
   session.args = function(dsn, number)
      return { target = dsn, into = "into" .. number }
   end
   return session
end

-- COMMIT and all that goes before it, answered or not: each row is there, once.
local function check_sink(session)
   return function(run, what)
      local table_name = "into" .. run.number
      lu.assertEquals({ what, session.target:value(
         ("select count(*) || ' ' || count(distinct id) from %s"):format(table_name)) },
         { what, "60 60" })
   end
end

local function cut(session, n, check)
   sessions.sweep(session, { "fin", "rst" }, n, check)
end

-- A dead connection is noticed in time; what is more is the backoff, and a busy machine.
local function stall(session, n, check)
   local met, longest = sessions.sweep(session, { "stall", "swallow" }, n, check)
   io.write(("%d stalled, the longest %.1f s ... "):format(met, longest))
   lu.assertTrue(longest < sessions.NOTICED + 12, longest)
end

function TestNetworkOffsets.test_cut_in_a_poll_by_triggers() cut(triggers(), 2) end
function TestNetworkOffsets.test_cut_in_a_sink()
   local session = sink()
   cut(session, 2, check_sink(session))
end

function TestNetworkOffsets.test_stalled_in_a_snapshot() stall(snapshot(), 2) end
function TestNetworkOffsets.test_stalled_in_a_poll() stall(poll(), 3) end
function TestNetworkOffsets.test_stalled_in_a_sink()
   local session = sink()
   stall(session, 2, check_sink(session))
end

-- A COPY that nobody takes any more, of more than fits into sockets. Sending it waited for ever,
-- deaf to everything.
function TestNetworkOffsets.test_stalled_in_a_big_copy()
   local session = sink()
   session.db:exec "update t set pad = repeat('x', 100000)"
   local run = sessions.start(session, function(between)
      between:fault("stall", "up", 1000000)
   end, 1)
   lu.assertEquals(run.p:finish(20).status, 0, run.p:stderr())
   lu.assertEquals(run.proxy:stats().faults, 1)
   check_sink(session)({ number = 1 }, "big")
end

-- Pieces of one byte, each way: all is slower, and the same. (The usual times
-- hold: with shorter ones a network of 1 kB/s counts as dead.)
function TestNetworkOffsets.test_one_byte_at_a_time()
   for _, make in ipairs { triggers, sink } do
      local session = make()
      session.keywords = {}
      sessions.trickle(session)
      if session.target then
         check_sink(session)({ number = 1 }, "one byte")
      end
   end
end

return TestNetworkOffsets
