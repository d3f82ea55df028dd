-- network_places_test.lua: a connection that is cut, or falls silent, at a statement that matters.
-- SPDX-License-Identifier: MIT
--
-- Promise: nothing is lost and nothing comes twice, and silence is noticed in time, at BEGIN, in
-- the middle of a COPY, at a COMMIT that the server did not get, and at one that it did, whose
-- answer is lost: of a poll, and of a sink. The proxy waits for the statement's text. (At every
-- byte: network_bytes_test.lua.)

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local proxy = require "proxy"
local wait = require "wait"

local TestNetworkPlaces = {}

local KEYWORDS = { keepalives_idle = 1, keepalives_interval = 1, keepalives_count = 1,
   connect_timeout = 2 }
local NOTICED = 2 -- seconds, with these
local SLACK = 10  -- of a busy machine, and of the backoff

local ROWS = 200

local function new_database()
   return fixtures.database([[create table t (id int primary key, n int default 0, pad text);
      insert into t select i, 0, 'row ' || i || ' of all' from generate_series(1, %d) i]], ROWS)
end

-- Each place with each fault: {name =, how =, direction =, text =, is_for_all =}. Some fall silent
-- for all connections for a while too, since then the server cannot be asked.
local function cases(places, hows)
   local list = {}
   for _, place in ipairs(places) do
      for _, how in ipairs(hows) do
         local is_silent = how == "stall" or how == "swallow"
         for _, is_for_all in ipairs { false, is_silent and place[4] or nil } do
            list[#list + 1] = { direction = place[2], text = place[3], behind = place[5],
               how = how, is_for_all = is_for_all,
               name = place[1] .. "_" .. how .. (is_for_all and "_for_all" or "") }
         end
      end
   end
   return list
end

-- Arms all that have met no fault yet, changes each row, and waits by <wait_rows>(so many), again
-- if somebody has met none: its BEGIN was under way already. Returns how often each row came.
local function attack(all, db, wait_rows)
   local rounds, is_missed = 0
   repeat
      for _, case in ipairs(all) do
         if case.proxy:stats().faults == 0 then
            case.proxy:fault(case.how, case.direction, case.text, case.is_for_all, case.behind)
         end
      end
      rounds = rounds + 1
      db:exec("update t set n = " .. rounds)
      wait_rows((rounds + 1) * ROWS)
      is_missed = false
      for _, case in ipairs(all) do
         is_missed = is_missed or case.proxy:stats().faults == 0 and case.name
      end
   until not is_missed or rounds == 5
   lu.assertFalse(is_missed)
   return rounds + 1
end

-- No backend of the program in <db> holds a transaction while nobody is at its other end.
local function assert_nothing_left(db)
   local sql = [[select count(*) from pg_stat_activity where datname = current_database()
      and application_name = 'pgcdc-lua' and state like 'idle in%']]
   wait.until_(function() return db:value(sql) == "0" end, 5, function()
      return db:value(sql) .. " backends to end"
   end)
end

-- ---- polls ----

-- Waits until <look>(case) is true for all of them. What is silent for all connections heals when
-- its second result, a number of errors, grows: it was noticed.
local function wait_all(all, look)
   local missing = {}
   wait.until_(function()
      local left = {}
      for _, case in ipairs(all) do
         local is_done, errors = look(case)
         if case.is_for_all and errors > (case.errors or 0) then
            case.proxy:heal()
            case.errors = errors
         end
         left[#left + 1] = not is_done and case.name or nil
      end
      missing = left
      return #left == 0
   end, NOTICED + SLACK, function() return table.concat(missing, ", ") end)
end

local POLL = {
   { "begin", "up", "BEGIN" },
   { "begin_unanswered", "answer", "BEGIN" },
   { "copy", "up", "COPY (SELECT" },
   { "copy_unanswered", "answer", "COPY (SELECT" },
   { "in_the_copy", "down", "row 100 of all", true },
   { "commit", "up", "COMMIT", true, "row 100 of all" },
   { "commit_unanswered", "answer", "COMMIT", true, "row 100 of all" },
}

-- What each source of p has told: {[name] = {ids = how often each came, n = how many, errors =}}.
local function told(p)
   p.told = p.told or {}
   local all, lines = p.told, p:lines()
   for i = (p.told_upto or 0) + 1, #lines do
      local name, id = lines[i]:match "^(.-)\t(.*)$"
      local one = all[name] or { ids = {}, n = 0, errors = 0 }
      all[name], p.told_upto = one, i
      if id == "error" then
         one.errors = one.errors + 1
      else
         one.n = one.n + 1
         one.ids[id] = (one.ids[id] or 0) + 1
      end
   end
   return all
end

-- All of them are sources of one program, each over a network of its own.
function TestNetworkPlaces.test_a_poll_loses_its_connection_anywhere()
   local db = new_database()
   local all, lines = cases(POLL, { "fin", "rst", "stall", "swallow" }), {}
   for i, case in ipairs(all) do
      case.proxy = proxy.new(db)
      lines[i] = ("source(%q, %q)"):format(case.name, case.proxy:dsn(KEYWORDS))
   end
   local p = program.start { script = [[
      local function source(name, connect)
         pgcdc.source {table = "t", name = name, connect = connect, interval = 0.05}
            :on("change", function(c) print(name, c.id) end)
            :on("error", function() print(name, "error") end)
      end
      ]] .. table.concat(lines, "\n") }
   local function wait_rows(n)
      wait_all(all, function(case)
         local one = told(p)[case.name] or { n = 0, errors = 0 }
         return one.n >= n, one.errors
      end)
   end
   wait_rows(ROWS)
   local times = attack(all, db, wait_rows)
   for _, case in ipairs(all) do
      local one = told(p)[case.name]
      lu.assertTrue(one.errors >= 1, case.name)
      lu.assertEquals({ case.name, one.n }, { case.name, times * ROWS })
      for id, count in pairs(one.ids) do
         lu.assertEquals({ case.name, id, count }, { case.name, id, 1 })
      end
   end
   assert_nothing_left(db)
   lu.assertEquals(p:stop().status, 0)
   io.write(("%d places ... "):format(#all))
end

-- ---- sinks ----

local SINK = {
   { "begin", "up", "BEGIN" },
   { "begin_unanswered", "answer", "BEGIN" },
   { "in_the_copy", "up", "row 100 of all", true },
   { "position", "up", "UPDATE pgcdc.position", false, "row 100 of all" },
   { "commit", "up", "COMMIT", true, "row 100 of all" },
   { "commit_unanswered", "answer", "COMMIT", true, "row 100 of all" },
}

local SINK_SCRIPT = [[
   local function sink(name, connect)
      pgcdc.source {table = "t", name = name, interval = 0.02}
         :sink(pgcdc.sinks.postgres {connect = connect, table = name, name = name, mode = "append"})
   end
   ]]

local function start_sinks(source, target, all)
   local lines = {}
   for i, case in ipairs(all) do
      case.proxy = proxy.new(target)
      lines[i] = ("sink(%q, %q)"):format(case.name, case.proxy:dsn(KEYWORDS))
   end
   local p = program.start { dsn = source, script = SINK_SCRIPT .. table.concat(lines, "\n") }
   for _, case in ipairs(all) do
      case.p = p
   end
end

-- Waits until each table has so many rows.
local function wait_target(target, all, n)
   wait_all(all, function(case)
      local sql = ("select count(*) from %s"):format(case.name)
      return tonumber(target:try(sql) and target:value(sql)) == n,
         select(2, case.p:stderr():gsub("retry_in=", ""))
   end)
end

-- Cut off, by one program for all places, and silent, by one for each, since they wait. Also silent
-- for all of its connections, so that the server could not be asked to end what is left: a
-- transaction that held the sink's row in pgcdc.position kept the next one from it for ever.
function TestNetworkPlaces.test_a_sink_loses_its_connection_anywhere()
   local source, target = new_database(), cluster.main():database()
   local all = cases(SINK, { "fin", "rst" })
   start_sinks(source, target, all)
   for _, case in ipairs(cases({ SINK[3], SINK[5], SINK[6] }, { "stall", "swallow" })) do
      start_sinks(source, target, { case })
      all[#all + 1] = case
   end
   wait_target(target, all, ROWS)
   local times = attack(all, source, function(n) wait_target(target, all, n) end)
   for _, case in ipairs(all) do
      lu.assertEquals({ case.name, target:value(
         ("select count(distinct (id, n)) from %s"):format(case.name)) },
         { case.name, tostring(times * ROWS) })
   end
   assert_nothing_left(target)
   for _, case in ipairs(all) do
      lu.assertEquals(case.p:stop().status, 0)
   end
   io.write(("%d places ... "):format(#all))
end

-- ---- what scripts connect to ----

-- The same for a transaction of a script's own, whose locks met its next one.
function TestNetworkPlaces.test_a_transaction_that_meets_silence()
   local db = new_database()
   local between = proxy.new(db)
   local p = program.start { script = ([[
      local db = pgcdc.connect(%q)
      local step = 0
      pgcdc.every(0.02, function()
         step = step + 1
         local ok, problem = pcall(db.transaction, db, function()
            db:exec("update t set n = $1 where id = 1", step)
         end)
         print(ok and "done" or problem)
      end)]]):format(between:dsn(KEYWORDS)) }
   p:wait_until(function() return #p:lines() > 3 end)
   between:fault("swallow", "up", "COMMIT", true)
   p:wait_until(function() return p:stdout():find "is not known" end, NOTICED + SLACK)
   between:heal()
   local n = #p:lines()
   p:wait_until(function()
      return #p:lines() > n and p:lines()[#p:lines()] == "done"
   end, SLACK)
   assert_nothing_left(db)
   lu.assertEquals(p:stop().status, 0)
end

return TestNetworkPlaces
