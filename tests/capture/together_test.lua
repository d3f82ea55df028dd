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
local native = require "native"
local once = require "once"
local program = require "program"
local wait = require "wait"

local TestTogether = {}

local TABLES = { "orders", "items", "credit", "debit" }
local COLUMNS = { orders = "id, name", items = "id, parent, n", credit = "id, amount",
                  debit = "id, amount" }
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

-- Sessions whose transactions overlap. Returns a function that does one thing in one of them, and
-- one that commits what is open.
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
      local sql = ("select string_agg(row(%s)::text, ' ' order by id) from %s"):format(
         COLUMNS[name], name)
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

-- Writers at work, the program stopped and killed at random moments, and its connections cut.
-- options: fields, own: as for `script`; before: is given the source's database first.
local function assert_exact(options)
   local source, target = databases()
   if options.before then
      options.before(source)
   end
   local write, finish = writer(source)
   local run = { dsn = source.cluster:dsn(source.name, { application_name = "together" }),
                 state = fixtures.state(), stops = true, life = 1.5, seconds = 3,
                 script = script(target, options.fields, options.own) }
   local next_cut = native.now()
   function run.write()
      write()
      if native.now() > next_cut then
         next_cut = native.now() + math.random()
         source:exec [[select pg_terminate_backend(pid) from pg_stat_activity
            where application_name = 'together' and state <> 'idle']]
      end
   end
   local _, kills = killing.run(run)
   lu.assertTrue(kills > 0)
   finish()
   once.ok { dsn = source, script = run.script, state = run.state }
   assert_equal(source, target)
   assert_moments(target, 2)
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

-- The bundled script reads its tables together, unless it is told not to.
function TestTogether.test_mirror()
   for together, commits in pairs { yes = "1", no = "4" } do
      local source, target = databases()
      once.ok { bundled = "mirror", dsn = source, args = { table = table.concat(TABLES, ","),
         target = target:dsn(), together = together } }
      assert_equal(source, target)
      lu.assertEquals(target:value "select count(*) from moments", commits)
   end
end

-- Rows that the source does not have any more are removed with the rest of the reading.
function TestTogether.test_read_again_from_the_start()
   local source, target = databases()
   local state, text = fixtures.state(), script(target, "")
   once.ok { dsn = source, state = state, script = text }
   source:exec [[begin; delete from credit where id = 44; delete from items where id > 100;
      delete from orders where id >= 50;
      update debit set amount = amount + 100 where id = 1; commit]]
   once.ok { dsn = source, state = state, script = text, options = { "--once", "--reset" } }
   assert_equal(source, target)
   assert_moments(target, 2)
end

-- Whatever the capture, in one group.
function TestTogether.test_captures_of_several_kinds()
   local function install(source)
      local result = program.run { bundled = "trigger", dsn = source, state = false,
         args = { action = "install", table = "orders,credit" } }
      lu.assertEquals(result.status, 0, result.stderr)
   end
   local by_trigger = 'capture = "trigger",'
   assert_exact { fields = "deletes = true,", before = install,
                  own = { orders = by_trigger, credit = by_trigger } }
end

-- One of the tables is made anew, again and again, and read again: the others wait for it.
function TestTogether.test_a_table_that_is_read_again()
   local source, target = databases()
   local p = program.start { dsn = source, script = script(target, "deletes = true,") }
   p:wait_stderr("ready.*ready.*ready.*ready")
   for i = 1, 3 do
      source:exec(([[begin; drop table credit;
         create table credit (id int primary key, amount bigint);
         insert into credit select i, 100 from generate_series(%d, %d) i;
         update debit set amount = amount + 1 where id < 10;
         update debit set amount = amount - 1 where id >= 10 and id < 20;
         commit]]):format(i, 44 + i))
      wait.until_(function()
         return target:value "select min(id) from credit" == tostring(i)
      end, 10, "the rows of the new table")
   end
   lu.assertEquals(p:stop().status, 0)
   assert_equal(source, target)
   assert_moments(target, 4)
end

-- Handlers of one source fail, or pause it: the others wait too.
function TestTogether.test_a_source_that_is_paused()
   local source, target = databases()
   local own = { items = [[deletes = true, on_error = { retry = 5, wait = 0.01 },
      on_change = function(c)
         failed = failed or {}
         if c.op ~= "read" and not failed[c.id] then
            failed[c.id] = true
            error "not yet"
         end
      end,]] }
   local p = program.start { dsn = source,
      script = "rawset(_G, 'failed', {})\n" .. script(target, "deletes = true,", own) }
   p:wait_stderr("ready.*ready.*ready.*ready")
   for i = 200, 204 do
      source:exec(([[begin; insert into orders values (%d, 'x');
         insert into items values (%d, %d, 0), (%d, %d, 0);
         update credit set amount = amount - 5; update debit set amount = amount + 5;
         delete from orders where id = %d; commit]]):format(i, i, i, i + 1000, i, i - 200))
   end
   wait.until_(function()
      return target:value "select count(*) from orders where id >= 200" == "5"
   end, 10, "the orders")
   lu.assertEquals(p:stop().status, 0)
   assert_equal(source, target)
   assert_moments(target, 2)
end

-- Sources that were read apart before, one of them in the middle of its first read.
function TestTogether.test_from_apart_to_together()
   local source, target = databases()
   local state = fixtures.state()
   source:exec [[alter table debit add pad text;
      update debit set pad = repeat('x', 1500);
      insert into debit select i, 0, repeat('x', 1500) from generate_series(100, 3000) i]]
   local text = script(target, "deletes = true,", {
      debit = 'deletes = true, columns = {"id", "amount"},' })
   local apart = text:gsub('together = "books",', "")
   once.run { dsn = source, state = state, script = apart .. [[

      local n = 0
      pgcdc.source { table = "debit", name = "other", on_change = function()
         n = n + 1
         if n == 1500 then pgcdc.stop() end
      end }]] }
   once.ok { dsn = source, state = state, script = text }
   assert_equal(source, target)
   target:exec "truncate moments"
   source:exec [[update credit set amount = amount - 1;
      update debit set amount = amount + 1 where id < 45]]
   once.ok { dsn = source, state = state, script = text }
   assert_equal(source, target)
end

-- What handlers are told, in order: all rows, then that all tables are read.
function TestTogether.test_events()
   local db = fixtures.t_and_u "n int"
   db:exec "insert into t values (1, 1); insert into u values (1, 1), (2, 2)"
   local p = program.start { dsn = db, script = [[
      for _, name in ipairs { "t", "u" } do
         pgcdc.source { table = name, together = "both", interval = 0.02, deletes = true }
            :on("change", function(c) print(c.op, c.table, c.key.id) end)
            :on("batch", function(b) print("batch", b.source, b.count) end)
            :on("ready", function(r) print("ready", r.source) end)
      end]] }
   p:wait_stderr "ready.*ready"
   db:exec "begin; delete from u where id = 1; insert into t values (2, 2); commit"
   p:wait_until(function() return p:stdout():find "delete.*batch.public.u" end, 10, "the delete")
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals((p:stdout():gsub("\t", " ")), [[
read t 1
batch public.t 1
read u 1
read u 2
batch public.u 2
ready public.t
ready public.u
insert t 2
batch public.t 1
delete u 1
batch public.u 1
]])
end

-- Only what commits after the start, of all tables the same.
function TestTogether.test_start_now()
   local db, state = fixtures.t_and_u "n int", fixtures.state()
   db:exec "insert into t values (1, 1); insert into u values (1, 1)"
   local text = [[
      for _, name in ipairs { "t", "u" } do
         pgcdc.source { table = name, together = "both", start = "now", where = "n > 0",
            on_change = function(c) print(c.table, c.key.id) end }
      end]]
   lu.assertEquals(once.ok({ dsn = db, state = state, script = text }).stdout, "")
   db:exec "begin; insert into u values (2, 2), (3, 0); insert into t values (2, 2); commit"
   lu.assertEquals(once.ok({ dsn = db, state = state, script = text }).stdout, "t\t2\nu\t2\n")
   lu.assertEquals(once.ok({ dsn = db, state = state, script = text }).stdout, "")
end

-- Partitions that are new, and tables without rows or partitions.
function TestTogether.test_partitions()
   local db, state = fixtures.database [[
      create table p (id int primary key) partition by range (id);
      create table empty (id int primary key);
      create table t (id int primary key)]], fixtures.state()
   local text = [[
      for _, name in ipairs { "p", "empty", "t" } do
         pgcdc.source { table = name, together = "all", deletes = true,
            on_change = function(c) print(c.op, c.table, c.key.id) end }
      end]]
   local function run()
      return once.ok({ dsn = db, state = state, script = text }).stdout
   end
   lu.assertEquals(run(), "")
   db:exec "create table p1 partition of p for values from (0) to (10); insert into p values (1)"
   db:exec "insert into t values (1)"
   lu.assertEquals(run(), "insert\tp\t1\ninsert\tt\t1\n")
   db:exec "begin; delete from p; delete from t; insert into empty values (1); commit"
   lu.assertEquals(run(), "delete\tp\t1\ninsert\tempty\t1\ndelete\tt\t1\n")
   lu.assertEquals(run(), "")
end

-- Somebody who locks the tables in another order is never told of a deadlock because of us.
function TestTogether.test_locks()
   local db = fixtures.t_and_u "n int"
   local p = program.start { dsn = db.cluster:dsn(db.name, { application_name = "together" }),
      script = [[
      for _, name in ipairs { "t", "u" } do
         pgcdc.source { table = name, together = "both", interval = 0.02,
            on_change = function(c) print(c.table, c.key.id) end }
      end]] }
   p:wait_stderr "ready.*ready"
   local ddl = db:connect()
   ddl:exec "begin; lock table u in access exclusive mode"
   db:exec "insert into t values (1, 1)"
   wait.until_(function()
      return db:value [[select count(*) from pg_locks join pg_stat_activity using (pid)
         where application_name = 'together' and not granted]] ~= "0"
   end, 10, "a lock that is waited for")
   ddl:exec "lock table t in access exclusive mode; insert into u values (1, 1); commit"
   p:wait_until(function() return p:stdout() == "t\t1\nu\t1\n" end, 10, "both rows")
   local result = p:stop()
   lu.assertEquals(result.status, 0)
   lu.assertNotStrContains(result.stderr, "level=warn")
end

-- Deletes and rows are handed over when all tables were read: a stop while the server is away finds
-- nothing half done.
function TestTogether.test_a_read_that_fails()
   local db = fixtures.database [[
      create table t (id int primary key, n int);
      create table u (id int primary key, n int);
      create function hold(int) returns int language plpgsql as $$
      begin
         if $1 = 2 then
            perform pg_advisory_lock(1);
            perform pg_advisory_unlock(1);
         end if;
         return $1;
      end $$;
      insert into t values (1, 1), (2, 1); insert into u values (1, 1)]]
   local state = fixtures.state()
   local function start(options)
      return program.start { state = state, options = options,
         dsn = db.cluster:dsn(db.name, { application_name = "together" }), script = [[
         local function show(c) print(c.op, c.table, c.key.id) end
         pgcdc.source { table = "t", together = "both", interval = 0.02, deletes = true,
            on_change = show }
         pgcdc.source { table = "u", together = "both", interval = 0.02, deletes = true,
            on_change = show, where = "public.hold(id) > 0" }]] }
   end
   local p = start()
   p:wait_stderr "ready.*ready"
   local before = p:stdout()
   local holder = db:connect()
   holder:exec "select pg_advisory_lock(1)"
   db:exec [[begin; delete from t where id = 1; update t set n = 2;
      insert into u values (2, 2); commit]]
   wait.until_(function()
      return db:value [[select count(*) from pg_locks join pg_stat_activity using (pid)
         where application_name = 'together' and locktype = 'advisory' and not granted]] ~= "0"
   end, 10, "the poll of u")
   db:exec [[select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'together']]
   p:wait_stderr "level=warn"
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(p:stdout(), before)
   holder:exec "select pg_advisory_unlock(1)"
   local result = start({ "--once" }):finish()
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.stdout, "delete\tt\t1\nupdate\tt\t2\ninsert\tu\t2\n")
end

-- What cannot be read together is refused.
function TestTogether.test_refused()
   local db = fixtures.t_and_u "n int"
   db:exec "create view v as select * from t"
   local function fails(fields, status, message)
      local result = once.ends(status, { dsn = db, script = ([[
         pgcdc.source { table = "t", together = "both", interval = 1 }
         pgcdc.source { %s }]]):format(fields) })
      lu.assertStrContains(result.stderr, message)
   end
   fails('table = "u", together = "both"', 1,
      "t and u are read together, so they need the same interval")
   fails('table = "u", together = "both", interval = 1, connect = "dbname=x"', 1,
      "t and u are read together, so they need the same connect")
   fails('table = "u", together = 1, interval = 1', 1, "together")
   fails('table = "t", together = "both", interval = 1', 1, "two sources are named public.t")
   fails([[table = "v", pk = "id", together = "both", interval = 1, capture = "increment",
      column = "id"]], 3, "leave it out of together")
end

return TestTogether
