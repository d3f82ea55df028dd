-- mirror_day_test.lua: mirrors of tables that are migrated again and again, while writers are at
-- work, and the program is killed and stopped.
-- SPDX-License-Identifier: MIT
--
-- $PGCDC_EXACT_SECONDS: how long each test writes (default 3); $PGCDC_TEST_SEED: who does what;
-- $PGCDC_TEST_GAP: the longest time between two migrations (default 0.4 s).

local by_log = require "by_log"
local cluster = require "cluster"
local killing = require "killing"
local lu = require "luaunit"
local native = require "native"
local picture = require "picture"
local program = require "program"
local scope = require "scope"
local shop = require "shop"
local tables = require "tables"

local TestMirrorDay = {}

local seconds = tonumber(os.getenv "PGCDC_EXACT_SECONDS" or "") or 3
local gap = tonumber(os.getenv "PGCDC_TEST_GAP" or "") or 0.4

local TABLES = { "note", "account", "customer", "loose" }

-- In SQL below, an upper-case name is that of a key as it is called now, as CK of customer.
local DDL = [[
   create table customer (ck int primary key, mail text not null unique deferrable initially
      deferred, best int, base int);
   create table account (ak int primary key, slot int not null unique deferrable initially
      deferred, customer int not null references customer, pad text, base int);
   alter table customer add foreign key (best) references account;
   create table note (nk int primary key, account int not null references account on delete
      cascade, earlier int references note);
   create table loose (lk int primary key, v int);
   create index on account (customer);
   create index on note (account);]]

-- What the test adds to the tables that the program has made.
local CONSTRAINTS = [[
   alter table customer add unique (mail);
   alter table account add unique (slot), add foreign key (customer) references customer;
   alter table customer add foreign key (best) references account;
   alter table note add foreign key (account) references account,
      add foreign key (earlier) references note;]]

-- ---- writers ----

-- What they do besides, see shop.
local steps = tables.join(tables.join({
   [[insert into customer (CK, mail, base) values (n, 'mail ' || n, n);
     insert into account (AK, slot, customer, base) values (n, n, n, n);
     insert into note (NK, account) values (n, n);
     update customer set best = n where CK = n]],
   [[insert into account (AK, slot, customer) select n, n, CK from customer
        order by random() limit 1;
     insert into note (NK, account, earlier) select n, n, (select max(NK) from note)
        where exists (select from account where AK = n)]],
}, shop.steps), {
   [[insert into loose (LK, v) select coalesce(max(LK), 0) + 1, n from loose;
     update loose set v = n where LK % 3 = a % 3; delete from loose where LK % 17 = b % 17]],
})

-- Values of the types that columns get: SQL in which N is a number.
local VALUES = {
   int = "N", bigint = "N + 5000000000", ["numeric(8,2)"] = "N / 7.0",
   ["numeric(12,4)"] = "N / 7.0", text = "'text ' || N", ["varchar(30)"] = "'short ' || N",
   boolean = "N % 2 = 0", ["int[]"] = "array[N, null]", jsonb = "jsonb_build_object('n', N)",
   timestamptz = "'2024-01-01'::timestamptz + N * interval '1 s'",
}
local TYPES = {}
for type in pairs(VALUES) do
   TYPES[#TYPES + 1] = type
end
table.sort(TYPES)

local function any(list)
   return list[math.random(#list)]
end

local function value(type, number)
   return (VALUES[type]:gsub("N", number))
end

-- ---- migrations ----

-- What they know: names of keys, and by table the columns that come and go, {name =, type =}. And
-- what is done: to which `tables`, by which `steps`, `never` which kinds of migrations, and with
-- the rows whose keys are not lower than the highest one by more than `reach`.
local function new_state()
   local day = { keys = { CK = "ck", AK = "ak", NK = "nk", LK = "lk" }, columns = {}, n = 0,
                 key_types = {}, migrations = 0, story = {}, tables = TABLES, steps = steps,
                 never = {}, reach = 1e9 }
   for _, name in ipairs(TABLES) do
      day.columns[name] = {}
   end
   return day
end

local function new_name(day)
   day.n = day.n + 1
   return any { "c%d", '"C %d"', '"c;%d"' }:format(day.n)
end

local function alter(t, what, ...)
   return ("alter table %s %s"):format(t, what:format(...))
end

local KEY_OF = { customer = "CK", account = "AK", note = "NK", loose = "LK" }

-- Each returns SQL, or nil if it cannot be done now. `columns`: of the table t; `c`: one of them.
local kinds = {
   add = function(day, t, columns)
      local c = { name = new_name(day), type = any(TYPES) }
      columns[#columns + 1] = c
      return alter(t, "add %s %s", c.name, c.type)
   end,
   add_with_default = function(day, t, columns)
      local c = { name = new_name(day), type = any(TYPES) }
      columns[#columns + 1] = c
      return alter(t, "add %s %s default %s", c.name, c.type, value(c.type, tostring(day.n)))
   end,
   add_generated = function(day, t, columns)
      local c = { name = new_name(day), is_generated = true }
      columns[#columns + 1] = c
      return alter(t, "add %s int generated always as (%s) stored", c.name,
         t == "loose" and "v * 2" or t == "note" and "earlier + 1" or "base * 2")
   end,
   drop = function(_, t, columns, c)
      for i, other in ipairs(columns) do
         if other == c then
            table.remove(columns, i)
         end
      end
      return alter(t, "drop %s", c.name)
   end,
   rename = function(day, t, _, c)
      local from = c.name
      c.name = new_name(day)
      return alter(t, "rename %s to %s", from, c.name)
   end,
   swap_names = function(_, t, columns, c)
      local other = any(columns)
      if other == c then
         return nil
      end
      c.name, other.name = other.name, c.name
      return alter(t, "rename %s to tmp; ", other.name)
         .. alter(t, "rename %s to %s; ", c.name, other.name)
         .. alter(t, "rename tmp to %s", c.name)
   end,
   replace = function(day, t, _, c)
      c.type, c.is_generated = any(TYPES), nil
      return alter(t, "drop %s; ", c.name) .. alter(t, "add %s %s%s", c.name, c.type,
         any { "", " default " .. value(c.type, tostring(day.n)) })
   end,
   retype = function(_, t, _, c)
      if c.is_generated then
         return nil
      end
      local using = value("text", ("length(%s::text)"):format(c.name)) -- rewrites it in any case
      c.type = any(TYPES)
      if c.type ~= "text" then
         using = value(c.type, ("length(%s::text)"):format(c.name))
      end
      return alter(t, "alter %s drop default, alter %s type %s using %s", c.name, c.name, c.type,
         using)
   end,
   widen = function(_, t, _, c)
      local wider = { int = "bigint", ["numeric(8,2)"] = "numeric(12,4)", ["varchar(30)"] = "text" }
      local from = c.type
      c.type = wider[from] or from
      return wider[from] and alter(t, "alter %s type %s", c.name, c.type)
   end,
   fixed = function(_, t)
      local now = { account = { "slot type bigint", "slot type int", "customer type bigint",
                                "customer type int", "pad type varchar(500)", "pad type text" },
                    customer = { "mail type varchar(90)", "mail type text", "best type bigint",
                                 "best type int" } }
      return now[t] and alter(t, "alter %s", any(now[t]))
   end,
   rename_key = function(day, t)
      local key, from = KEY_OF[t], day.keys[KEY_OF[t]]
      day.keys[key] = any { key:lower(), key:lower() .. "_new", ('"The %s"'):format(key) }
      if day.keys[key] ~= from then
         return alter(t, "rename %s to %s", from, day.keys[key])
      end
   end,
   retype_key = function(day, t)
      day.key_types[t] = day.key_types[t] == "bigint" and "int" or "bigint"
      return alter(t, "alter %s type %s", day.keys[KEY_OF[t]], day.key_types[t])
   end,
   renumber = function(day)
      local key = day.keys.LK
      day.key_types.loose = any { "bigint", "int" }
      return alter("loose", "alter %s type %s using %s * 2 + 1", key, day.key_types.loose, key)
         .. "; delete from loose where " .. key .. " > 100000"
   end,
   truncate = function(_, t)
      return "truncate " .. t .. (t == "customer" and ", account, note"
         or t == "account" and " cascade" or "")
   end,
   rewrite = function(_, t)
      return "vacuum full " .. t
   end,
}
local KINDS = {}
for name in pairs(kinds) do
   KINDS[#KINDS + 1] = name
end
table.sort(KINDS)

local WANTS_COLUMN = { drop = true, rename = true, swap_names = true, replace = true,
                       retype = true, widen = true }

-- Does one migration, in a transaction of its own.
local function migrate(day, conn)
   local sql, kind
   repeat
      kind = any(KINDS)
      local t = any(day.tables)
      local columns = day.columns[t]
      local c = any { table.unpack(columns) }
      if not day.never[kind] and (c or not WANTS_COLUMN[kind])
         and (#columns < 6 or not kind:find "^add")
         and (kind ~= "truncate" or math.random(2) == 1) then
         sql = kinds[kind](day, t, columns, c)
      end
   until sql
   if kind == "rewrite" then
      conn:exec(sql)
   else
      conn:exec("begin; " .. sql .. "; commit")
   end
   day.migrations = day.migrations + 1
   day.story[#day.story + 1] = sql
end

-- A function that makes the next transaction, and now and then a migration.
local function writer(source, day)
   local conn, next_one = source:connect(), 0
   local n = 0
   local function write(step)
      n = n + 1
      conn:exec(shop.sql(step, n, day.keys))
   end
   for _ = 1, 40 do
      write(day.steps[1])
      write(day.steps[#day.steps])
   end
   return function()
      if native.now() > next_one then
         migrate(day, conn)
         next_one = native.now() + math.random() * gap
      end
      write(math.random(3) == 1 and day.steps[1] or any(day.steps))
      local t = any(day.tables)
      for _, c in ipairs(day.columns[t]) do
         if not c.is_generated then
            local key = day.keys[KEY_OF[t]]
            conn:exec(("update %s set %s = %s where %s %% 7 = %d and %s > (select max(%s) from %s)"
               .. " - %d"):format(t, c.name, value(c.type, tostring(n)), key, n % 7, key, key, t,
               day.reach))
         end
      end
   end, function() return n end
end

-- ---- the day ----

-- Writes, migrates, kills and stops for a while; then source and target are the same. `limits`:
-- fields of the state that are others, or nil.
local function assert_true(args, prepare, limits)
   local day = tables.merge(new_state(), limits)
   local is_by_log = args.capture == "logical"
   local source = (is_by_log and by_log.cluster() or cluster.main()):database()
   local target = cluster.main():database()
   source:exec(picture.ddl .. DDL)
   target:exec(picture.ddl)
   prepare(source)
   local words = { table = table.concat(day.tables, ","), target = target:dsn(), interval = 0.05 }
   for name, word in pairs(args) do
      words[name] = word
   end
   local options = { dsn = source, bundled = "mirror", args = words,
                     state = scope.dir "state" .. "/state.db", seconds = seconds, life = 2,
                     stops = true, options = { "--once" } }
   local first = program.run(options)
   lu.assertEquals(first.status, 0, first.stderr)
   if #day.tables == #TABLES then
      target:exec(CONSTRAINTS)
   end
   options.options = nil
   math.randomseed(killing.seed_number)
   local count
   options.write, count = writer(source, day)
   local story = day.story -- what a failure shows
   function options.ended(p)
      story[#story + 1] = p:stderr()
   end
   local ok, last, kills = pcall(killing.run, options)
   if not ok then
      error(table.concat(story, "\n") .. "\n" .. tostring(last), 0)
   end
   story[#story + 1] = last.stderr
   for _, name in ipairs(day.tables) do
      local key = day.keys[KEY_OF[name]]
      lu.assertEquals(picture.of(target, name, key), picture.of(source, name, key),
         name .. ", " .. killing.seed() .. "\n" .. table.concat(story, "\n"))
   end
   local verified = program.run { bundled = "verify", dsn = source, args = { settle = 0,
      table = words.table, target = words.target } }
   lu.assertEquals(verified.status, 0, verified.stdout .. verified.stderr)
   io.write(("%d migrations, %d kills, %d transactions ... "):format(day.migrations, kills,
      count()))
end

function TestMirrorDay.test_together()
   assert_true({}, function() end)
end

function TestMirrorDay.test_one_by_one()
   assert_true({ together = "no" }, function() end)
end

-- A table that is added to, and whose newest rows change.
function TestMirrorDay.test_by_a_column_that_grows()
   assert_true({ capture = "increment", column = "lk", deletes = "no" }, function() end, {
      tables = { "loose" }, reach = 500,
      never = { truncate = true, renumber = true, rename_key = true },
      steps = { [[insert into loose (LK, v) select coalesce(max(LK), 0) + 1, n from loose;
         update loose set v = n where LK % 3 = a % 3 and LK > (select max(LK) from loose) - 500]] },
   })
end

function TestMirrorDay.test_by_triggers()
   assert_true({ capture = "trigger", together = "no" }, function(source)
      local result = program.run { bundled = "trigger", dsn = source, state = false,
         args = { action = "install", table = table.concat(TABLES, ",") } }
      lu.assertEquals(result.status, 0, result.stderr)
   end)
end

-- (What an ALTER TABLE did to rows without writing them is not in the log.)
function TestMirrorDay.test_by_the_log()
   assert_true({ capture = "logical" }, function(source)
      scope.add(function() by_log.drop_slots(source) end)
      source:exec("create publication pgcdc for table " .. table.concat(TABLES, ", ")
         .. " with (publish_via_partition_root = true)")
   end, { never = { retype = true, replace = true, renumber = true, add_with_default = true,
                    add_generated = true, retype_key = true, widen = true, fixed = true } })
end

return TestMirrorDay
