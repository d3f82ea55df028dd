-- together_test.lua: sources that are read together are at one moment: each commit in the target is
-- a state in which the source was.
-- SPDX-License-Identifier: MIT
--
-- Money moves between the tables credit and debit, so that their sum never changes; an item always
-- has its order. The target looks at both whenever anything commits there.

local cluster = require "cluster"
local fixtures = require "fixtures"
local killing = require "killing"
local lu = require "luaunit"
local once = require "once"

local TestTogether = {}

local TABLES = { "orders", "items", "credit", "debit" }
local SUM = 9000

local schema = [[
   create table orders (id int primary key, name text);
   create table items (id int primary key, parent int not null, n int);
   create table credit (id int primary key, amount bigint);
   create table debit (id int primary key, amount bigint)]]

-- Every commit writes what it saw to table moments.
local observer = [[
   create table moments (total bigint, orphans bigint);
   create function look() returns trigger language plpgsql as $$
   begin
      if current_setting('look.at', true) is distinct from pg_current_xact_id()::text then
         perform set_config('look.at', pg_current_xact_id()::text, false);
         insert into moments select (select coalesce(sum(amount), 0) from credit) +
            (select coalesce(sum(amount), 0) from debit),
            (select count(*) from items where not exists
               (select from orders where orders.id = items.parent));
      end if;
      return null;
   end $$;]]

-- A source and a target database.
local function databases()
   local source, target = cluster.main():database(), cluster.main():database()
   source:exec(schema)
   source:exec [[
      alter table items add foreign key (parent) references orders on delete cascade;
      insert into orders select i, 'order ' || i from generate_series(0, 59) i;
      insert into items select i, i / 2, i from generate_series(0, 119) i;
      insert into credit select i, 100 from generate_series(0, 44) i;
      insert into debit select i, 100 from generate_series(0, 44) i]]
   target:exec(schema)
   target:exec(observer)
   for _, name in ipairs(TABLES) do
      target:exec(([[create constraint trigger look after insert or update or delete on %s
         deferrable initially deferred for each row execute function look()]]):format(name))
   end
   return source, target
end

-- A script that mirrors the tables together. `fields`: of all sources; `own`: table -> fields.
local function script(target, fields, own)
   local lines = { ("local target = %q"):format(target:dsn()) }
   for _, name in ipairs(TABLES) do
      lines[#lines + 1] = ([[pgcdc.source { table = %q, together = "books", %s %s }
         :sink(pgcdc.sinks.postgres { table = %q, connect = target })]]):format(name,
         own and own[name] or fields, fields:find "interval" and "" or "interval = 0.02", name)
   end
   return table.concat(lines, "\n")
end

-- Sessions whose transactions overlap. Returns a function that does one thing in one of them.
local function writer(source)
   local sessions = {}
   for i = 1, 3 do
      sessions[i] = { conn = source:connect(), number = i - 1, next = 1000 * i }
   end
   local function own(session, count) -- ids that no other session writes
      return math.random(0, count // 3 - 1) * 3 + session.number
   end
   local steps = {
      function(s)
         local n = math.random(50)
         local from = ("update credit set amount = amount - %d where id = %d"):format(n, own(s, 45))
         local to = ("update debit set amount = amount + %d where id = %d"):format(n, own(s, 45))
         if math.random(2) == 1 then
            from, to = to, from
         end
         s.conn:exec(from)
         s.conn:exec("savepoint s; " .. to .. "; release s")
      end,
      function(s)
         s.next = s.next + 3
         s.conn:exec(("insert into orders values (%d, 'new')"):format(s.next))
         s.conn:exec(("insert into items values (%d, %d, 1), (%d, %d, 2)"):format(s.next, s.next,
            s.next + 10000, s.next))
      end,
      function(s)
         s.conn:exec(("delete from orders where id = %d"):format(own(s, 60)))
         s.conn:exec(("delete from orders where id = %d"):format(s.next - 3 * math.random(0, 5)))
      end,
      function(s)
         s.conn:exec(("update items set n = n + 1 where parent = %d"):format(s.next))
      end,
   }
   return function()
      local s = sessions[math.random(#sessions)]
      if not s.is_open then
         s.conn:exec "begin"
         s.is_open = true
      elseif math.random(3) == 1 then
         s.conn:exec(math.random(5) == 1 and "rollback" or "commit")
         s.is_open = false
      else
         steps[math.random(#steps)](s)
      end
   end, function()
      for _, s in ipairs(sessions) do
         if s.is_open then
            s.conn:exec "commit"
         end
      end
   end
end

local function assert_equal(source, target)
   for _, name in ipairs(TABLES) do
      local sql = ("select string_agg(t::text, ' ' order by id) from %s t"):format(name)
      lu.assertEquals(target:value(sql), source:value(sql), name)
   end
end

-- What commits of the target saw that was no state of the source; "" if nothing.
local function mixtures(target)
   return target:value(([[select coalesce(string_agg(distinct format('%%s %%s', total, orphans),
      ', '), '') from moments where total <> %d or orphans > 0]]):format(SUM))
end

-- Every commit was a state of the source, and there were some.
local function assert_moments(target, least)
   lu.assertEquals(mixtures(target), "")
   lu.assertTrue(tonumber(target:value "select count(*) from moments") >= least)
end

-- Writers at work, the program stopped and killed at random moments. options: fields, own: as for
-- `script`; before: is given the source's database first; least: so many commits are expected.
local function assert_exact(options)
   local source, target = databases()
   if options.before then
      options.before(source)
   end
   local write, finish = writer(source)
   local run = { dsn = source, state = fixtures.state(), stops = true, life = 0.5, write = write,
                 seconds = options.seconds or 4,
                 script = script(target, options.fields, options.own) }
   local _, kills = killing.run(run)
   lu.assertTrue(kills > 0)
   finish()
   once.ok { dsn = source, script = run.script, state = run.state }
   assert_equal(source, target)
   assert_moments(target, options.least or 5)
end

function TestTogether.test_first_read_is_one_commit()
   local source, target = databases()
   local state = fixtures.state()
   once.ok { dsn = source, state = state, script = script(target, "deletes = true,") }
   assert_equal(source, target)
   lu.assertEquals(target:value "select count(*) from moments", "1")
   lu.assertEquals(mixtures(target), "")
end

function TestTogether.test_every_commit_is_a_state_of_the_source()
   assert_exact { fields = "deletes = true," }
end

return TestTogether
