-- contract.lua: one pipeline for every sink: writers, kills of both ends, and what must hold then.
-- SPDX-License-Identifier: MIT
--
-- What a driver is, is told in contract_drivers.lua.
-- $PGCDC_TEST_SEED: when who is killed; a failure names the seed.

local drivers = require "contract_drivers"
local fixtures = require "fixtures"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local seeds = require "seeds"
local wait = require "wait"

local contract = {
   is_whole = os.getenv "PGCDC_CONTRACT" ~= nil, -- `make contract`: more of everything
   tag = "contract", -- of the sink
}

local WRITERS = 8
local ROWS = 400

-- Row versions are (id, v): v comes of a sequence, so it rises with each version of a row. Half of
-- the keys change, row 1 is hot, some transactions are long and some are undone.
function contract.make_database()
   return fixtures.database([[
      create table t (id int primary key, v int not null, pad text);
      create sequence versions;
      insert into t select i, nextval('versions'), repeat('x', i %% 200)
         from generate_series(1, %d) i;
      create procedure work(me int, rounds int) language plpgsql as $$ begin
         for i in 1..rounds loop
            update t set v = nextval('versions') where id = 1;
            commit;
            update t set v = nextval('versions') where id %% 37 = (i * 7 + me) %% 37 and id > 1;
            if i %% 5 = 0 then
               update t set id = id + 10000, v = nextval('versions')
                  where id = (select max(id) from t where id < 10000 and id %% 8 = me);
            end if;
            if i %% 7 = 0 then
               delete from t where id = (select min(id) from t where id > 1 and id %% 8 = me);
            end if;
            insert into t values (20000 + me * 1000 + i, nextval('versions'), 'new')
               on conflict do nothing;
            perform pg_sleep(case when i %% 9 = 0 then 0.05 else 0.01 end);
            if i %% 11 = 0 then rollback; else commit; end if;
         end loop;
      end $$]], ROWS)
end

-- Eight sessions, each of which does so many rounds of work. Returns a function that tells whether
-- they are at work. Deadlocks undo some of it, which is as good.
function contract.start_writers(db, rounds)
   local writers = {}
   for i = 1, WRITERS do
      writers[i] = db:connect()
      writers[i]:send(("call work(%d, %d)"):format(i - 1, rounds))
   end
   return function()
      for _, writer in ipairs(writers) do
         if writer:busy() then
            return true
         end
      end
      return false
   end
end

--- The pipeline. `fields`: more options of the sink, or nil.
function contract.script(driver, target, fields)
   return driver.script(target, contract.tag, fields) .. [[
      pgcdc.source {table = "t", interval = 0.02, deletes = true}:sink(sink)]]
end

-- ---- what must hold ----

-- Reads of ids that were written once and are there twice.
local function twice(changes)
   local seen, found = {}, {}
   for _, change in ipairs(changes) do
      if seen[change.id] then
         found[#found + 1] = change.id
      end
      seen[change.id] = true
   end
   return found
end

-- The newest version of each key, by the order in which they are in the target; what comes again
-- is passed over. Keys that went back to an older version are reported.
local function newest(changes)
   local last, seen, backward = {}, {}, {}
   for _, change in ipairs(changes) do
      local before = last[change.key]
      if not seen[change.id] then
         if before and change.seq and before.seq and change.seq < before.seq then
            backward[#backward + 1] = change.key
         end
         last[change.key] = change
      end
      seen[change.id] = true
   end
   return last, backward
end

-- Compares what is in the target with the table. `seed`: how it was, for errors. `promise`: that
-- counts, by default the driver's. Returns how many changes there are.
function contract.check(driver, target, tag, db, seed, promise)
   local changes = driver.read(target, tag)
   if (promise or driver.promise) == "exact" then
      lu.assertEquals(twice(changes), {}, "there twice, " .. seed)
   end
   local last, backward = newest(changes)
   lu.assertEquals(backward, {}, "gone back, " .. seed)
   local rows = {}
   for _, row in ipairs(db:exec "select id, v from t order by id") do
      rows[row[1]] = row[2]
      local there = last[row[1]]
      lu.assertTrue(there ~= nil and there.op ~= "delete" and tostring(there.v) == row[2],
         ("row %s is not there as it is, %s, but %s %s, %s"):format(row[1], row[2],
            there and there.op, there and there.v, seed))
   end
   for key, change in pairs(last) do
      lu.assertTrue(rows[key] ~= nil or change.op == "delete",
         ("row %s was deleted, and is there, %s"):format(key, seed))
   end
   return #changes
end

-- True if this machine has what the driver of that name needs. $PGCDC_CONTRACT_SINK: its name or
-- several, with blanks between; else it has none of it.
function contract.is_there(name)
   local only = os.getenv "PGCDC_CONTRACT_SINK"
   return (not only or (" %s "):format(only):find((" %s "):format(name), 1, true) ~= nil)
      and drivers[name].is_there()
end

-- Adds tests to a suite: f(name, target, tag) for each of these drivers. `case`: what they are
-- called by.
function contract.add(suite, case, f, names)
   for _, name in ipairs(names) do
      suite[("test_%s_%s"):format(name, case)] = function()
         if contract.is_there(name) then
            f(name, drivers[name].start(), "one")
         end
      end
   end
end

-- A scenario for `sabotage`: the sink of this driver, in a place of its own in <target>.
function contract.scenario(name, target)
   local driver = drivers[name]
   local function tag_of(run)
      return "s" .. run.serial
   end
   return {
      name = name, "deletes = true",
      function(run)
         return driver.script(target, tag_of(run)) .. "source:sink(sink)\n"
      end,
      function(run)
         contract.check(driver, target, tag_of(run), run.db, "serial " .. run.serial)
      end,
   }
end

-- Runs the pipeline until the writers are done and it was killed `kills` times (default 6), and the
-- target `target_kills` times, or now and then; then once more to its end, and checks what is
-- there.
-- `options`: {kills =, target_kills =, rounds = of each writer, seconds = the longest, pause = how
-- long the program runs at most}. Returns how many changes and kills of each there were.
function contract.run(driver, options)
   local seed_number = seeds.asked or seeds.fresh()
   local seed = "seed " .. seed_number
   math.randomseed(seed_number)
   local target, db = driver.start(), contract.make_database()
   local state = fixtures.state()
   local how = { dsn = db, state = state, script = contract.script(driver, target) }
   local is_writing = contract.start_writers(db, options.rounds or 80)
   local wanted, target_wanted = options.kills or 6, driver.kill and options.target_kills or 0
   local kills, target_kills = 0, 0
   local deadline = native.now() + wait.scaled(options.seconds or 60)
   while is_writing() or kills < wanted or target_kills < target_wanted do
      assert(native.now() < deadline, "the writers do not end")
      local p = program.start(how)
      if math.random(3) > 1 then -- on a busy machine it would else die before it does anything
         p:wait_stderr('msg="ready"', 30)
      end
      native.sleep(math.random() * (options.pause or 0.4))
      if driver.kill and (options.target_kills and target_kills * wanted < kills * target_wanted
         or not options.target_kills and math.random(3) == 1) then
         driver.kill(target)
         target_kills = target_kills + 1
         native.sleep(math.random() * 0.2)
      end
      if not p:alive() then
         error(seed .. ": it ended by itself\n" .. p:stderr())
      end
      p:kill9()
      kills = kills + 1
   end
   once.ok(how)
   return contract.check(driver, target, contract.tag, db, seed), kills, target_kills
end

return contract
