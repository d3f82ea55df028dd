-- constraints_test.lua: mirrors into tables with constraints of their own: unique and exclusion
-- constraints whose values change hands, foreign keys.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local wait = require "wait"

local rows = require("connected").rows

local TestConstraints = {}

-- The two tables have the same rows, in the columns that the source has.
local function assert_same(source, target, name)
   local columns = source:value(([[select string_agg(quote_ident(attname), ', ' order by attnum)
      from pg_attribute where attrelid = '%s'::regclass and attnum > 0 and not attisdropped]])
      :format(name:gsub("'", "''")))
   local sql = ("select * from (select %s from %s) x order by x::text"):format(columns, name)
   lu.assertEquals(rows(target, sql), rows(source, sql), name)
end

-- A function that runs a script with `sink(table)` and `source(table)` in it, once, to the end.
local function runner(source, target, script)
   local state = fixtures.state()
   local prelude = ([[
      local function sink(name, more)
         local spec = { connect = %q, table = name }
         for k, v in pairs(more or {}) do spec[k] = v end
         return pgcdc.sinks.postgres(spec)
      end
      local function source(name)
         return pgcdc.source { table = name, deletes = true, old = true }
      end
   ]]):format(target:dsn())
   return function(options)
      return program.run { script = prelude .. script, dsn = source, state = state,
                           options = options or { "--once" } }
   end
end

local succeed = once.succeed

-- ---- values that change hands ----

-- Each: {name of the table in both databases, `source`: the columns there, `target`: DDL there,
-- `first`: rows of the source, `then_`: what it does between two polls}, and perhaps `version`, the
-- first server that can, or `check`: {SQL about the target, its answer}.
local hands = {
   -- a value is given up, taken, and the first row is touched once more
   { "handed_over", source = "id int primary key, mail text, seen int",
     target = "create table handed_over (id int primary key, mail text not null unique, seen int)",
     first = "(1, 'a', 0), (2, 'b', 0)",
     then_ = [[update handed_over set mail = 'old' where id = 2;
        update handed_over set mail = 'b' where id = 1;
        update handed_over set seen = 1 where id = 2]] },
   { "swaps", source = "id int primary key, n int",
     target = "create table swaps (id int primary key, n int not null unique)",
     first = "(1, 10), (2, 20), (3, 30), (4, 40), (5, 50)",
     then_ = [[update swaps set n = case id when 1 then 20 when 2 then 10 when 3 then 40
        when 4 then 50 else 30 end]] },
   { "shifts", source = "id int primary key, n int",
     target = "create table shifts (id int primary key, n int not null unique)",
     first = "(1, 1), (2, 2), (3, 3), (4, 4)",
     then_ = "update shifts set n = n + 1; insert into shifts values (9, 1)" },
   -- a row that is deleted leaves its value to an old row and to a new one
   { "inherits", source = "id int primary key, a text, b text",
     target = [[create table inherits (id int primary key, a text not null unique,
        b text not null unique)]],
     first = "(1, 'a', 'a'), (2, 'b', 'b'), (3, 'c', 'c')",
     then_ = [[delete from inherits where id = 1; update inherits set a = 'a' where id = 2;
        insert into inherits values (4, 'b', 'a')]] },
   { "partial", source = "id int primary key, who int, active bool",
     target = [[create table partial (id int primary key, who int, active bool);
        create unique index on partial (who) where active]],
     first = "(1, 7, true), (2, 7, false), (3, 8, true)",
     then_ = [[update partial set active = not active where who = 7;
        update partial set who = 8 where id = 1]] },
   { "expression", source = "id int primary key, mail text, j json",
     target = [[create table expression (id int primary key, mail text not null, j json);
        create unique index on expression (lower(mail), (id > 0))]],
     first = "(1, 'A@x', '{}'), (2, 'B@x', null)",
     then_ = "update expression set mail = case id when 1 then 'b@X' else 'a@X' end" },
   { "excludes", source = "id int primary key, during int4range",
     target = [[create table excludes (id int primary key, during int4range not null,
        exclude using gist (during with &&))]],
     first = "(1, '[1,5)'), (2, '[5,9)'), (3, '[9,12)')",
     then_ = "update excludes set during = case id when 1 then '[6,11)' when 2 then '[11,20)' else"
        .. " '[1,6)' end::int4range" },
   { "twice", source = "id int primary key, a int, b int, c text",
     target = [[create table twice (id int primary key, a int not null, b int not null, c text,
        unique (a, b), unique (c))]],
     first = "(1, 1, 1, 'x'), (2, 1, 2, 'y'), (3, 2, 1, 'z')",
     then_ = "update twice set a = b, b = a, c = case id when 1 then 'z' else 'x' || id end" },
   { "nulls", source = "id int primary key, n int", version = 150000,
     target = "create table nulls (id int primary key, n int unique nulls not distinct)",
     first = "(1, null), (2, 2)",
     then_ = "update nulls set n = case id when 1 then 2 end" },
   { "deferrable_", source = "id int primary key, n int",
     target = "create table deferrable_ (id int primary key, n int unique deferrable)",
     first = "(1, 1), (2, 2)", then_ = "update deferrable_ set n = 3 - n" },
   -- what else the target has stays: its own columns, what is generated, an identity
   { [["It's a ""table"""]], source = '"the ""id""" int primary key, "n" int, k text',
     target = [[create table "It's a ""table""" (own text not null default 'own',
        "the ""id""" int generated always as identity primary key, "n" int,
        low text generated always as (lower(k)) stored unique, k text, unique ("n"))]],
     first = "(1, 1, 'a'), (2, 2, 'b')",
     before = [[update "It's a ""table""" set own = 'kept' || n]],
     then_ = [[update "It's a ""table""" set n = 3 - n, k = chr(ascii('C') - n);
        insert into "It's a ""table""" values (3, 3, 'c')]],
     check = { [[select own, low from "It's a ""table""" order by n]],
               "kept2 a, kept1 b, own c" } },
   { "parts", source = "id int, p int, n int, primary key (id, p)",
     target = [[create table parts (id int, p int, n int not null, primary key (id, p),
           unique (n, p)) partition by list (p);
        create table parts_1 partition of parts for values in (1);
        create table parts_2 partition of parts for values in (2)]],
     first = "(1, 1, 1), (2, 1, 2), (1, 2, 1), (2, 2, 2)", then_ = "update parts set n = 3 - n" },
}

-- Where a foreign key acts on deletes a row cannot be taken away for a moment.
for i, action in ipairs { "cascade", "restrict", "set null", "set default" } do
   local t, kind = "held_" .. i, ({ "int not null", "text not null", "uuid not null",
                                    "date" })[i]
   local values = ({ "11 22 33", "a b c", "00000000-0000-0000-0000-000000000001"
      .. " 00000000-0000-0000-0000-000000000002 00000000-0000-0000-0000-000000000003",
      "2026-01-01 2026-01-02 2026-01-03" })[i]
   local a, b, c = values:match "(%S+) (%S+) (%S+)"
   hands[#hands + 1] = { t, source = "id int primary key, v " .. kind,
      target = ([[create table T (id int primary key, v %s unique, own int default 5);
         create table child_T (id int primary key, p int default 1 references T on delete %s)]])
         :format(kind, action):gsub("T", t),
      first = ("(1, '%s'), (2, '%s'), (3, '%s')"):format(a, b, c),
      before = ("update %s set own = id; insert into child_%s values (1, 1), (2, 2)"):format(t, t),
      then_ = ("delete from T where id = 3; update T set v = case id when 1 then '%s' else '%s'"
         .. " end::%s; insert into T values (4, '%s')"):format(b, c, kind:match "%a+", a)
         :gsub("T", t),
      check = { ("select c.p, own from child_%s c join %s t on t.id = c.p order by 1"):format(t, t),
                "1 1, 2 2" } }
end

local function version_of(db)
   return tonumber(db:value "show server_version_num")
end

-- A batch is legal when it is whole; row after row it is not.
function TestConstraints.test_values_change_hands()
   local source, target = cluster.main():database(), cluster.main():database()
   local cases, script = {}, {}
   for _, case in ipairs(hands) do
      if version_of(target) >= (case.version or 0) then
         cases[#cases + 1] = case
         source:exec(("create table %s (%s); insert into %s values %s"):format(case[1], case.source,
            case[1], case.first))
         target:exec(case.target)
         script[#script + 1] = ("source(%q):sink(sink(%q))"):format(case[1], case[1])
      end
   end
   local run = runner(source, target, table.concat(script, "\n"))
   succeed(run())
   for _, case in ipairs(cases) do
      if case.before then
         target:exec(case.before)
      end
      source:exec(case.then_)
   end
   succeed(run())
   for _, case in ipairs(cases) do
      assert_same(source, target, case[1])
      if case.check then
         lu.assertEquals(rows(target, case.check[1]), case.check[2], case[1])
      end
   end
end

-- ---- foreign keys within one transfer ----

-- Three kinds of rows of one table go to three tables of the target. That is one transfer, whose
-- sinks are declared in an order that is wrong for foreign keys.
local kinds = [[
   local all = source "everything"
   for _, kind in ipairs { "leaf", "child", "parent" } do
      all:filter(function(change) return (change.row or change.old).kind == kind end)
         :sink(sink(kind, { pk = { "id" } }))
   end]]

local function with_kinds(source, target, ddl)
   source:exec [[create table everything (kind text, id int, p int, n int, primary key (kind, id))]]
   target:exec(ddl)
   local run = runner(source, target, kinds)
   -- runs once, after these statements in the source; then the tables are the same
   return function(sql)
      source:exec(sql)
      local result = succeed(run())
      for _, kind in ipairs { "leaf", "child", "parent" } do
         lu.assertEquals(rows(target, ("select id, p, n from %s order by id"):format(kind)),
            rows(source, ("select id, p, n from everything where kind = '%s' order by id")
               :format(kind)), kind .. " after " .. sql)
      end
      return result
   end
end

local columns = "(kind text, id int primary key, p int %s, n int unique)"

-- Parents come before children, and go after them; and children go from a parent that is deleted
-- to another one, also where a unique value goes with it.
function TestConstraints.test_foreign_keys()
   local source, target = cluster.main():database(), cluster.main():database()
   local step = with_kinds(source, target, table.concat {
      "create table parent ", columns:format "", ";",
      "create table child ", columns:format "not null references parent", ";",
      "create table leaf ", columns:format "not null references child", ";",
      "create table log (t text, op text); create function log() returns trigger language plpgsql",
      " as $$ begin insert into log values (tg_table_name, tg_op); return null; end $$;",
      "create trigger log after insert or delete on parent for each row execute function log();",
      "create trigger log after insert or delete on leaf for each row execute function log();" })
   step [[insert into everything values ('leaf', 1, 1, 1), ('child', 1, 1, 1), ('parent', 1, 0, 1),
      ('leaf', 2, 2, 2), ('child', 2, 1, 2), ('parent', 2, 0, 2)]]
   lu.assertEquals(rows(target, "select t, op, count(*) from log group by 1, 2 order by 1"),
      "leaf INSERT 2, parent INSERT 2")
   step [[delete from everything where id = 2; insert into everything values ('leaf', 3, 1, 3)]]
   lu.assertEquals(rows(target, "select t, op, count(*) from log group by 1, 2 order by 1, 2"),
      "leaf DELETE 1, leaf INSERT 3, parent DELETE 1, parent INSERT 2")
   step [[insert into everything values ('parent', 3, 0, 1), ('child', 3, 3, 1);
      update everything set p = 3 where kind in ('leaf', 'child');
      delete from everything where id = 1 and kind in ('parent', 'child')]]
   step "delete from everything"
   succeed(program.run { bundled = "verify", dsn = source, args = { table = "everything",
      target = target:dsn(), target_table = "parent", where = "kind = 'parent'", columns = "id,p,n",
      pk = "id", settle = 0 } })
end

-- A row refers to one of another table, which refers back, or to its own table.
function TestConstraints.test_cycles_of_foreign_keys()
   local source, target = cluster.main():database(), cluster.main():database()
   local step = with_kinds(source, target, table.concat {
      "create table parent ", columns:format "not null", ";",
      "create table child ", columns:format "not null references parent", ";",
      "alter table parent add foreign key (p) references child;",
      "create table leaf ", columns:format "references leaf on delete cascade" })
   step [[insert into everything values ('parent', 1, 2, 1), ('child', 1, 1, 1),
      ('parent', 2, 1, 2), ('child', 2, 2, 2), ('leaf', 1, 2, 1), ('leaf', 2, 3, 2),
      ('leaf', 3, 3, 3), ('leaf', 4, null, 4)]]
   step [[update everything set n = case n when 1 then 2 else 1 end, p = 1 where kind <> 'leaf';
      update everything set n = case n when 1 then 2 when 2 then 1 else n + 10 end, p = 1
         where kind = 'leaf']]
   step [[delete from everything where id = 2;
      insert into everything values ('parent', 5, 1, 1), ('child', 5, 5, 1), ('leaf', 5, 4, 1)]]
   step "delete from everything"
end

-- Rows of one source that have other columns than those before them, since the script adds some:
-- the order of the tables stays what the foreign keys need, also where the target gets a column.
function TestConstraints.test_rows_with_other_columns()
   for _, is_made in ipairs { false, true } do
      local source, target = cluster.main():database(), cluster.main():database()
      source:exec [[create table everything (kind text, id int, p int, n int,
         primary key (kind, id))]]
      local run = runner(source, target, [[
         local all = source "everything"
         for _, kind in ipairs { "leaf", "child", "parent" } do
            all:filter(function(change) return (change.row or change.old).kind == kind end)
               :tap(function(change)
                  local row = change.row
                  if row and row.n > 1 then row.extra = "extra " .. row.n end
                  if row and row.n > 3 then row.more = "more " .. row.n end
               end)
               :sink(sink(kind, { pk = { "id" } }))
         end]])
      local function step(sql)
         source:exec(sql)
         succeed(run())
         for _, kind in ipairs { "leaf", "child", "parent" } do
            lu.assertEquals(rows(target, ("select id, p, n, extra, more from %s order by id")
               :format(kind)), rows(source, ([[select id, p, n, case when n > 1 then 'extra ' || n
               end, case when n > 3 then 'more ' || n end from everything where kind = '%s'
               order by id]]):format(kind)), kind .. " after " .. sql)
         end
      end
      if not is_made then
         target:exec(([[create table parent COLUMNS); create table child COLUMNS references parent);
            create table leaf COLUMNS references child)]]):gsub("COLUMNS",
            "(kind text, id int primary key, n int, extra text, more text, p int"))
      else
         succeed(run())
         target:exec [[alter table child add foreign key (p) references parent;
            alter table leaf add foreign key (p) references child]]
      end
      step [[insert into everything values ('leaf', 1, 2, 1), ('leaf', 2, 1, 2),
         ('child', 1, 2, 1), ('child', 2, 1, 4), ('parent', 1, 0, 1), ('parent', 2, 0, 2),
         ('parent', 3, 0, 5), ('leaf', 3, 2, 6)]]
      step [[delete from everything where kind = 'parent' and id = 3;
         insert into everything values ('leaf', 4, 4, 4), ('child', 4, 5, 1), ('child', 5, 4, 5),
            ('parent', 4, 0, 6), ('parent', 5, 0, 0);
         update everything set p = 4 where kind in ('leaf', 'child');
         delete from everything where kind <> 'leaf' and id < 3]]
      step "delete from everything"
   end
end

-- ---- rows that wait for others ----

-- A source without foreign keys, so that a test says when a parent comes, and a target with them.
local function waiting_databases(ddl)
   local source, target = cluster.main():database(), cluster.main():database()
   for _, name in ipairs { "leaf", "child", "parent", "other" } do
      source:exec(("create table %s (id int primary key, p int)"):format(name))
   end
   target:exec(ddl or [[create table parent (id int primary key, p int);
      create table child (id int primary key, p int not null references parent);
      create table leaf (id int primary key, p int not null references child);
      create table other (id int primary key, p int)]])
   return source, target
end

-- A script that mirrors these tables, each by a source of its own.
local function mirrors(target, names)
   local lines = {}
   for i, name in ipairs(names) do
      lines[i] = ([[pgcdc.source { table = %q, deletes = true, interval = 0.05 }
         :sink(pgcdc.sinks.postgres { connect = %q, table = %q })]]):format(name, target:dsn(),
         name)
   end
   return table.concat(lines, "\n")
end

local function wait_rows(target, name, expected)
   wait.until_(function()
      return rows(target, ("select id, p from %s order by id"):format(name)) == expected
   end, 20, name .. " to be " .. expected)
end

local function count(text, pattern)
   return select(2, text:gsub(pattern, ""))
end

-- The poll of the child came before that of the parent: the mirror stopped. Other tables go on
-- meanwhile; that rows wait is said once, and when it is over.
function TestConstraints.test_a_child_waits_for_its_parent()
   local source, target = waiting_databases()
   local state, names = fixtures.state(), { "leaf", "child", "parent", "other" }
   local p = program.start { dsn = source, state = state, script = mirrors(target, names) }
   p:wait_stderr 'msg="?ready'
   source:exec "insert into child values (1, 1)"
   p:wait_stderr "the rows wait for those of 'postgres parent'"
   source:exec "insert into leaf values (1, 1), (2, 2); insert into other values (1, 1)"
   wait_rows(target, "other", "1 1")
   source:exec "insert into child values (2, 1)"
   p:wait_stderr "the rows wait for those of 'postgres child'"
   lu.assertEquals(rows(target, "select count(*) from child"), "0")
   source:exec "insert into parent values (1, 0)"
   wait_rows(target, "leaf", "1 1, 2 2")
   wait_rows(target, "child", "1 1, 2 1")
   p:wait_stderr "the rows that waited are written" -- said after the rows are there
   lu.assertEquals(count(p:stderr(), "level=warn"), 2, p:stderr())
   -- the other way around: the parent goes first; and what is there again before anybody knows
   source:exec "delete from parent"
   p:wait_stderr "still referenced"
   source:exec "delete from leaf where id = 1; delete from child where id = 1"
   source:exec "update child set p = 3; insert into other values (2, 2)"
   wait_rows(target, "other", "1 1, 2 2")
   source:exec "insert into parent values (3, 0)"
   wait_rows(target, "parent", "3 0")
   wait_rows(target, "child", "2 3")
   lu.assertEquals(p:stop().status, 0)
end

-- What made the rows of no use comes later from the same source: nothing waits for ever.
function TestConstraints.test_a_child_that_goes_before_its_parent_comes()
   local source, target = waiting_databases()
   local state, script = fixtures.state(), mirrors(target, { "child", "parent" })
   local p = program.start { dsn = source, state = state, script = script }
   p:wait_stderr 'msg="?ready'
   source:exec "insert into parent values (1, 0); insert into child values (1, 9), (2, 1)"
   p:wait_stderr "the rows wait"
   source:exec "delete from child where id = 1"
   wait_rows(target, "child", "2 1")
   -- killed while rows wait, stopped while they wait: they come again
   source:exec "insert into child values (3, 3)"
   p:wait_until(function() return count(p:stderr(), "the rows wait") == 2 end)
   p:kill9()
   p = program.start { dsn = source, state = state, script = script }
   p:wait_stderr "the rows wait"
   local result = p:stop()
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stderr, "they come again at the next start")
   source:exec "insert into parent values (3, 0)"
   once.ends(0, { dsn = source, state = state, script = script })
   lu.assertEquals(rows(target, "select id, p from child order by id"), "2 1, 3 3")
end

-- Each source waits for the other: they are saved together then.
function TestConstraints.test_sources_that_wait_for_each_other()
   local source, target = waiting_databases [[
      create table parent (id int primary key, p int);
      create table child (id int primary key, p int references parent);
      alter table parent add foreign key (p) references child]]
   source:exec "insert into parent values (1, 2), (2, 1); insert into child values (1, 1), (2, 2)"
   local state, script = fixtures.state(), mirrors(target, { "child", "parent" })
   once.ends(0, { dsn = source, state = state, script = script })
   lu.assertEquals(rows(target, "select * from parent order by id"), "1 2, 2 1")
   local p = program.start { dsn = source, state = state, script = script }
   p:wait_stderr 'msg="?ready'
   source:exec "insert into parent values (3, 3)"
   p:wait_stderr "the rows wait"
   source:exec "insert into child values (3, 3)"
   wait_rows(target, "child", "1 1, 2 2, 3 3")
   source:exec "begin; delete from parent; delete from child; commit"
   wait_rows(target, "child", "")
   wait_rows(target, "parent", "")
   lu.assertEquals(p:stop().status, 0)
   once.ends(0, { dsn = source, state = state, script = script })
end

-- --once ends with an error if what is missing never comes, and says what to do.
function TestConstraints.test_what_never_comes()
   local source, target = waiting_databases()
   source:exec "insert into child values (1, 1)"
   local function fail(names, text)
      local result = once.ends(1, { dsn = source, state = fixtures.state(),
         script = mirrors(target, names):gsub("connect =", 'existing = "keep", connect =') })
      lu.assertStrContains(result.stderr, text)
      lu.assertEquals(count(result.stderr, "level=error"), 1)
   end
   fail({ "child" }, "no sink writes to parent: mirror it too, or drop the constraint")
   fail({ "child", "parent" }, "Key (p)=(1) is not present in table")
   source:exec "insert into parent values (1, 1)"
   once.ends(0, { dsn = source, state = fixtures.state(),
      script = mirrors(target, { "child", "parent" }) })
   -- a value that a row has of which the source tells nothing
   target:exec [[create unique index on other (p); insert into other values (7, 1)]]
   source:exec "insert into other values (1, 1)"
   fail({ "other" }, "duplicate key value violates unique constraint")
   fail({ "other" }, "if the source has deleted it, let the source tell deletes")
end

-- A foreign key acts on deletes, and nobody can make up a value of such a type.
function TestConstraints.test_values_that_cannot_change_hands()
   local source, target = waiting_databases()
   for _, db in ipairs { source, target } do
      db:exec "create type mood as enum ('a', 'b'); create table moods (id int primary key, m mood)"
   end
   source:exec "insert into moods values (1, 'a'), (2, 'b')"
   target:exec [[alter table moods alter m set not null, add constraint one unique (m);
      create table more (id int references moods on delete cascade)]]
   local run = { dsn = source, state = fixtures.state(), script = mirrors(target, { "moods" }) }
   once.ends(0, run)
   source:exec "update moods set m = case id when 1 then 'b' else 'a' end::mood"
   lu.assertStrContains(once.ends(1, run).stderr, "if the constraint is DEFERRABLE: make it so")
   target:exec "alter table moods drop constraint one, add unique (m) deferrable"
   once.ends(0, run)
   lu.assertEquals(rows(target, "select * from moods order by id"), "1 b, 2 a")
end

-- Rows of a table refer to others of it, in ranges of the snapshot that come later.
function TestConstraints.test_a_first_snapshot_that_refers_to_itself()
   local source, target = cluster.main():database(), cluster.main():database()
   source:exec [[create table t (id int primary key, boss int, pad text) with (fillfactor = 10);
      insert into t select i, 1201 - i, repeat('x', 700) from generate_series(1, 1200) i]]
   target:exec "create table t (id int primary key, boss int references t, pad text)"
   local result = once.ends(0, { dsn = source, state = fixtures.state(),
      script = mirrors(target, { "t" }) })
   lu.assertEquals(rows(target, "select count(*), sum(boss) from t"), "1200 720600")
   lu.assertStrContains(result.stderr, "the rows that waited are written")
end

-- A delete that comes later than the row that takes the value over.
function TestConstraints.test_deletes_that_come_later()
   local source, target = waiting_databases()
   source:exec "create table later (id int primary key, n int); insert into later values (1, 1)"
   target:exec "create table later (id int primary key, n int unique)"
   local p = program.start { dsn = source, state = fixtures.state(), script = ([[
      pgcdc.source { table = "later", deletes = { interval = 0.5 }, interval = 0.02 }
         :sink(pgcdc.sinks.postgres { connect = %q, table = "later" })]]):format(target:dsn()) }
   p:wait_stderr 'msg="?ready'
   wait.until_(function() return rows(target, "select * from later") == "1 1" end, 10, "the row")
   source:exec "delete from later; insert into later values (2, 1)"
   wait.until_(function()
      source:exec "insert into other select coalesce(max(id), 0) + 1 from other" -- to be polled
      return rows(target, "select * from later") == "2 1"
   end, 20, "the value to change hands")
   lu.assertEquals(p:stop().status, 0)
end

return TestConstraints
