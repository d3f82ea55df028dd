-- constraints_exact_test.lua: mirrors of tables with foreign keys and unique constraints, while
-- writers move values and rows about, and the program is killed and stopped.
-- SPDX-License-Identifier: MIT
--
-- $PGCDC_EXACT_SECONDS: how long each test writes (default 4); $PGCDC_TEST_SEED: who does what.

local cluster = require "cluster"
local fixtures = require "fixtures"
local killing = require "killing"
local lu = require "luaunit"
local program = require "program"
local shop = require "shop"
local tables = require "tables"

local TestConstraintsExact = {}

local seconds = tonumber(os.getenv "PGCDC_EXACT_SECONDS" or "") or 4

local TABLES = { "note", "account", "customer" } -- children first, which is the wrong order

-- Tables that refer to each other. `when`: when unique constraints are checked.
local function ddl(when)
   return (([[
      create table customer (id int primary key, mail text not null unique WHEN, best int);
      create table account (id int primary key, slot int not null unique WHEN,
         customer int not null references customer, pad text);
      alter table customer add foreign key (best) references account;
      create table note (id int primary key, account int not null references account
         on delete cascade, earlier int references note, during int4range,
         exclude using gist (during with &&) WHEN);
      create index on account (customer);
      create index on note (account)]]):gsub("WHEN", when))
end

-- Tables of the target that have parts of the rows of account, with rows that differ in columns.
local PARTS = [[;
   create table place (id int primary key references account, slot int not null unique);
   create table owner (customer int not null references customer, id int primary key references
      place, is1 boolean, is2 boolean)]]

local KEYS = { CK = "id", AK = "id", NK = "id" }

-- What writers do in the source besides, see shop.
local steps = tables.join({
   [[insert into customer values (n, 'mail ' || n); insert into account values (n, n, n);
     insert into note values (n, n, null, int4range(10 * n, 10 * n + 10));
     update customer set best = n where id = n]],
   [[insert into account select n, n, id from customer order by random() limit 1;
     insert into note select n, n, (select max(id) from note), int4range(10 * n, 10 * n + 10)
        where exists (select from account where id = n)]],
   [[update note t set during = s.during from (select id, coalesce(lag(during) over (order by id),
        last) during from (select id, during, last_value(during) over (order by id range between
           unbounded preceding and unbounded following) last from note where id % 7 = b % 7) x) s
        where s.id = t.id]],
   [[update account set pad = repeat('x', 300) where id % 3 = a % 3]],
}, shop.steps)

-- A function that makes the next transaction.
local function writer(source)
   local sessions = { source:connect(), source:connect() }
   for i = 1, 40 do
      sessions[1]:exec((steps[1]:gsub("%f[%w]n%f[%W]", tostring(i))))
   end
   local n = 40
   return function()
      n = n + 1
      sessions[1 + n % 2]:exec(shop.sql(steps[math.random(#steps)], n, KEYS))
   end
end

-- The script that mirrors all tables. `together`: the field of the sources, as Lua, or nothing.
local function script(target, together)
   return ([[
      local function sink(name)
         return pgcdc.sinks.postgres { connect = %q, table = name }
      end
      for _, name in ipairs { %s } do
         local source = pgcdc.source { table = name, deletes = true, interval = 0.05, %s }
         if name == "account" then
            source:select { "id", "slot" }:sink(sink "place")
            source:select { "customer", "id" }:tap(function(c)
               if c.row and c.key.id %% 3 > 0 then
                  c.row["is" .. c.key.id %% 3] = true
               end
            end):sink(sink "owner")
         end
         source:sink(sink(name))
      end]]):format(target:dsn(), '"' .. table.concat(TABLES, '", "') .. '"', together)
end

-- The rows of a table, as text, in order.
local function rows(db, name)
   return db:value(("select coalesce(string_agg(t::text, e'\n' order by id), '') from %s t")
      :format(name))
end

-- Writes, kills and stops for a while; then source and target are the same.
local function assert_exact(together)
   local source, target = cluster.main():database(), cluster.main():database()
   source:exec(ddl "deferrable initially deferred")
   target:exec(ddl "" .. PARTS)
   local write = writer(source)
   local options = { dsn = source, state = fixtures.state(), script = script(target, together),
                     write = write, seconds = seconds, life = 2, stops = true }
   local _, kills = killing.run(options)
   for _, name in ipairs(TABLES) do
      lu.assertEquals(rows(target, name), rows(source, name), name .. ", " .. killing.seed())
   end
   for sql, part in pairs {
      ["select id, slot from account"] = "place",
      ["select customer, id, case when id % 3 = 1 then true end, case when id % 3 = 2 then true end"
         .. " from account"] = "owner",
   } do
      lu.assertEquals(rows(target, part), source:value(("select coalesce(string_agg(t::text, e'\n'"
         .. " order by id), '') from (%s) t"):format(sql)), part .. ", " .. killing.seed())
   end
   local verified = program.run { bundled = "verify", dsn = source, args = { settle = 0,
      table = table.concat(TABLES, ","), target = target:dsn() } }
   lu.assertEquals(verified.status, 0, verified.stdout .. verified.stderr)
   io.write(kills, " kills, ", source:value "select max(id) from account", " accounts ... ")
end

function TestConstraintsExact.test_tables_read_at_several_moments()
   assert_exact ""
end

function TestConstraintsExact.test_tables_read_at_one_moment()
   assert_exact 'together = "all"'
end

return TestConstraintsExact
