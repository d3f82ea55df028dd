-- keys_test.lua: keys that are NULL, not unique, without an order, or spelled in several ways.
-- SPDX-License-Identifier: MIT
--
-- Each kind of key has a table with a column n, which tells the rows apart. The program is stopped
-- after every few rows, of all tables together, until nothing is left: each row came once.

local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local stepping = require "stepping"

local TestKeys = {}

-- What they need, then: name, columns, pk, values of the key (a list of SQL values of all columns).
local NEEDS = [[
   create extension citext;
   create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
   create type pair as (a int, b text);
   create type mood as enum ('sad', 'ok', 'glad');
   create domain word as citext;]]

local KINDS = {
   { "with_null", "k text unique", "k", "null", "'a'", "null", "'b'", "null" },
   { "repeated", "k int not null", "k", "1", "1", "2", "1", "1" },
   { "two_columns", "k int, l text", "k,l", "1, null", "1, null", "null, 'x'", "1, 'x'", "2, ''" },
   { "of_unique_and_null", "k int not null unique, l text", "k,l", "1, null", "2, 'x'", "3, null",
      "4, null", "5, 'x'" },
   { "points", "k point not null", "k", "'(1,1)'", "'(1,1)'", "'(2,1)'", "'(0,0)'", "'(1,1)'",
      by_trigger = "point" },
   { "jsons", "k json", "k", "'1'", "'[1, 2]'", "'[1,2]'", "null", "'1'", by_trigger = "json" },
   { "jsonbs", "k jsonb primary key", "k", "'1'", "'1.0'::jsonb || '2'", "'{}'", "'null'",
      "'\"a\"'" },
   { "xids", "k xid not null", "k", "'7'", "'7'", "'8'", "'4294967295'", "'3'" },
   { "ci_text", "k public.citext primary key", "k", "'b'", "'A'", "'c'", "'Z'", "'ä'" },
   { "ci_text_twice", "k public.word", "k", "'a'", "'A'", "'a'", "'B'", "null" },
   { "ignoring_case", "k text collate ci primary key", "k", "'b'", "'A'", "'c'", "'Z'", "'ä'" },
   { "ignoring_case_twice", "k text collate ci", "k", "'a'", "'A'", "'b'", "'a'", "'B'" },
   { "icu", 'k text collate "und-x-icu" primary key', "k", "'b'", "'A'", "'a'", "'Z'", "'ä'" },
   { "chars", "k char(3), l varchar primary key", "l,k", "'a', 'a'", "'b', 'a '", "null, 'A'",
      "'', ''", "'c', 'b'" },
   { "numerics", "k numeric", "k", "1.0", "1.00", "1", "'NaN'", "1.0" },
   { "floats", "k float8", "k", "'0'", "'-0'", "'NaN'", "'NaN'", "'-0'" },
   { "intervals", "k interval", "k", "'1 mon'", "'30 days'", "'720:00'", "'1 day'", "'24:00'" },
   { "records", "k pair primary key", "k", "'(1,)'", "'(2,\"\")'", "'(1,b)'", "'(,a)'", "'(0,b)'" },
   { "arrays", "k int[]", "k", "'{1}'", "'[0:0]={1}'", "'{1}'", "'{}'", "null" },
   { "enums", "k mood, l bool", "k,l", "'sad', true", "'ok', null", "'sad', true", "'glad', false",
      "null, null" },
   { "partitioned", "k int, part int", "k", "1, 1", "1, 2", "2, 1", "2, 2", "1, 1" },
}

local function create(kind)
   local name, columns = kind[1], kind[2]
   if name == "partitioned" then
      return ([[create table partitioned (n int, %s) partition by list (part);
         create table p1 partition of partitioned for values in (1);
         create table p2 partition of partitioned for values in (2);]]):format(columns)
   end
   return ('create table "%s" (n int, %s);'):format(name, columns)
end

-- SQL that inserts the rows of all kinds, in one transaction; <base> is added to n. Keys that must
-- be unique are so within one call.
local function insert(kinds, base)
   local list = {}
   for _, kind in ipairs(kinds) do
      for i = 4, #kind do
         list[#list + 1] = ('insert into "%s" values (%d, %s);'):format(kind[1], base + i - 3,
            kind[i])
      end
   end
   return table.concat(list, "\n")
end

-- A script that stops after <stop> rows; <fields> are more fields of each source.
local function script_of(kinds, stop, fields)
   local list = { ([[
local seen = 0
local function tell(c)
   print(c.table .. " " .. (c.row and c.row.n or tostring(c.key)), c.id)
   seen = seen + 1
   if seen == %d then pgcdc.stop() end
end]]):format(stop) }
   for _, kind in ipairs(kinds) do
      list[#list + 1] = ([[pgcdc.source { table = "%s", pk = {"%s"}, on_change = tell, %s }]])
         :format(kind[1], kind[3]:gsub(",", '","'), fields)
   end
   return table.concat(list, "\n")
end

-- Runs the script of <kinds>, with these fields of sources, until all rows are told and then once
-- more; returns the rows, sorted, and their ids. <between> is called after each run with its
-- number. <count>: how many rows a kind has, default all of it.
local function run_all(db, state, kinds, fields, between, count)
   local rows, ids, told, left = {}, {}, {}, kinds
   for i = 1, 100 do
      local result = program.run {
         dsn = db, script = script_of(left, 7, fields), state = state, options = { "--once" },
      }
      lu.assertEquals({ result.status, result.stderr:match "level=[we][^\n]*" }, { 0 })
      for _, line in ipairs(result.lines) do
         local row, name, id = line:match "^((%S+) .-)\t(.*)$"
         rows[#rows + 1], ids[#ids + 1] = row, id
         told[name] = (told[name] or 0) + 1
      end
      if #result.lines == 0 then
         break
      end
      left = {}
      for _, kind in ipairs(kinds) do
         if (told[kind[1]] or 0) < (count and count[kind[1]] or #kind - 3) then
            left[#left + 1] = kind
         end
      end
      left = #left > 0 and left or kinds
      if between then
         between(i)
      end
   end
   table.sort(rows)
   return rows, ids
end

local function expected(kinds, base)
   local rows = {}
   for _, kind in ipairs(kinds) do
      for i = 4, #kind do
         rows[#rows + 1] = kind[1] .. " " .. base + i - 3
      end
   end
   table.sort(rows)
   return rows
end

local function assert_unique(ids)
   local known = {}
   for _, id in ipairs(ids) do
      lu.assertNil(known[id], id)
      known[id] = true
   end
end

local function new_database(kinds)
   local list = { NEEDS }
   for _, kind in ipairs(kinds) do
      list[#list + 1] = create(kind)
   end
   return fixtures.database(table.concat(list, "\n"))
end

local function empty(db, kinds)
   for _, kind in ipairs(kinds) do
      db:exec(('delete from "%s"'):format(kind[1]))
   end
end

local function rewrite(db, kinds)
   for _, kind in ipairs(kinds) do
      db:exec(('vacuum full "%s"'):format(kind[1]))
   end
end

-- By xmin: the snapshot, then a poll of one transaction. Tables are rewritten in the middle of the
-- poll, behind free space, so that the rows move to other places.
function TestKeys.test_by_xmin()
   local db, state = new_database(KINDS), fixtures.state()
   db:exec(insert(KINDS, 0))
   local rows, ids = run_all(db, state, KINDS, "")
   lu.assertEquals(rows, expected(KINDS, 0))
   assert_unique(ids)
   empty(db, KINDS)
   db:exec("begin;" .. insert(KINDS, 10) .. "commit")
   local more
   rows, more = run_all(db, state, KINDS, "", function(i)
      if i == 6 then
         rewrite(db, KINDS)
      end
   end)
   lu.assertEquals(rows, expected(KINDS, 10))
   assert_unique(table.move(more, 1, #more, #ids + 1, ids))
end

-- A script that prints what <print> makes of each change c, and stops after two.
local function two_at_a_time(source, print)
   return ([[
local seen = 0
pgcdc.source { %s, on_change = function(c)
   print(%s)
   seen = seen + 1
   if seen == 2 then pgcdc.stop() end
end }]]):format(source, print)
end

-- Runs it until nothing comes; returns the lines, sorted, and the log.
local function drain(db, state, text)
   local lines, log = {}, {}
   repeat
      local result = once.ok { dsn = db, script = text, state = state }
      table.move(result.lines, 1, #result.lines, #lines + 1, lines)
      log[#log + 1] = result.stderr
   until #result.lines == 0
   table.sort(lines)
   return lines, table.concat(log)
end

-- Rows that are alike in all columns are counted. (That the third one is deleted in between, or the
-- first one, comes to the same.)
function TestKeys.test_rows_that_are_alike()
   local db, state = fixtures.database "create table t (k text)", fixtures.state()
   local text = two_at_a_time([[table = "t", pk = "k"]], "c.row.k")
   lu.assertEquals(drain(db, state, text), {})
   db:exec "insert into t values ('a'), ('a'), ('a'), ('a'), ('b'), (null), (null)"
   lu.assertEquals(#once.ok({ dsn = db, script = text, state = state }).lines, 2)
   db:exec "vacuum full t"
   lu.assertEquals(#once.ok({ dsn = db, script = text, state = state }).lines, 2)
   db:exec "delete from t where ctid = '(0,1)'"
   db:exec "vacuum full t"
   local lines = drain(db, state, text)
   lu.assertTrue(#lines == 3 or #lines == 2, #lines) -- it was delivered before or not
end

-- A key that is added to, and a unique index that goes away, in the middle of a transaction's rows:
-- what was delivered is still known, or comes again with a warning. Nothing is lost.
function TestKeys.test_columns_that_change_in_the_middle()
   local changes = {
      { "alter table t add column v int", 6, "come again" },
      { "alter table t add unique (n); alter table t alter n set not null", 6, nil },
   }
   for _, change in ipairs(changes) do
      local db, state = fixtures.database "create table t (k text, n int)", fixtures.state()
      local text = two_at_a_time([[table = "t", pk = "k"]], "c.row.n")
      drain(db, state, text)
      db:exec "insert into t select 'k', i from generate_series(1, 6) i"
      once.ok { dsn = db, script = text, state = state }
      db:exec(change[1])
      local lines, log = drain(db, state, text)
      lu.assertEquals(#lines, change[3] and 6 or 4)
      lu.assertEquals(log:find "come again" ~= nil, change[3] ~= nil, log)
   end
   local db, state = fixtures.database "create table t (k text primary key, n int)",
      fixtures.state()
   local text = two_at_a_time([[table = "t", pk = "k"]], "c.row.n")
   drain(db, state, text)
   db:exec "insert into t select 'k' || i, i from generate_series(1, 6) i"
   local first = once.ok { dsn = db, script = text, state = state }
   db:exec "alter table t drop constraint t_pkey; alter table t alter k drop not null"
   local lines = drain(db, state, text)
   table.move(first.lines, 1, 2, #lines + 1, lines)
   table.sort(lines)
   lu.assertEquals(lines, { "1", "2", "3", "4", "5", "6" })
end

-- More rows of one value and key than a page of a view has; rows that are alike; one more of them.
function TestKeys.test_views()
   local db, state = fixtures.database [[create extension citext;
      create table t (at int, k citext, n int);
      insert into t select 1, case when i % 2 = 0 then 'a' else 'A' end, i
         from generate_series(1, 6000) i;
      insert into t values (2, 'b', 1), (2, 'b', 1), (2, 'c', 2);
      create view v as select * from t]], fixtures.state()
   local text = [[pgcdc.source { table = "v", pk = "k", capture = "increment", column = "at",
      on_change = function(c) print(c.row.n, c.id) end }]]
   local function run()
      local ids, lines = {}, once.ok({ dsn = db, script = text, state = state }).lines
      for i, line in ipairs(lines) do
         ids[i] = line:match "\t(.*)"
      end
      assert_unique(ids)
      return lines
   end
   lu.assertEquals(#run(), 6003)
   lu.assertEquals(run(), {})
   db:exec "insert into t values (2, 'b', 1)"
   lu.assertEquals(#run(), 1)
   lu.assertEquals(run(), {})
end

-- Keys by which pages cannot follow each other, or with which nobody could say whether a row that
-- was deleted is there again: the line names the column.
function TestKeys.test_what_is_refused()
   local db = fixtures.database [[
      create table t (id int, p point, j json, n text);
      insert into t values (1, '(1,1)', '1', null);
      create view v as select * from t]]
   local cases = {
      { [[table = "v", capture = "increment", column = "id", pk = "p"]], 'column "p" of the key' },
      { [[table = "v", capture = "increment", column = "id", pk = "n"]], 'key, column "n"' },
      { [[table = "v", capture = "increment", column = "id", pk = "j"]], 'column "j"' },
      { [[table = "t", capture = "trigger", pk = {"id", "p"}]], 'column "p" of the key' },
   }
   stepping.trigger(db, "install", { pk = "id,p" })
   for _, case in ipairs(cases) do
      local result = once.ends(3, { dsn = db, script = ("pgcdc.source {%s}"):format(case[1]) })
      lu.assertStrContains(result.text, case[2])
   end
end

-- Rows that one transaction wrote, with keys and names of tables that could be taken for others.
function TestKeys.test_ids()
   local tables = {
      { "t", "(a text, b text, n int, primary key (a, b, n))", "1,2|3|1", "1|2,3|1", "1%2C2|3|1",
         "1%252C2|3|1", "100%|25|1", "100%25||1" },
      { "one", "(a text primary key)", "x,y", "x", "x/deleted", "x%2Fdeleted", "x%252Fdeleted",
         "null", "%6Eull", "deleted", "/deleted", "" },
      { "n", "(a text unique)", "null", "NULL", "NULL", "%6Eull", "a", "a/deleted" },
      { "two", "(a text unique, b text unique)", "x|NULL", "NULL|x", "NULL|null", "NULL|NULL" },
      { '"a.b"."c"', "(a text primary key)", "1" }, { '"a"."b.c"', "(a text primary key)", "1" },
      { '"a/1"', "(a text primary key)", "1" }, { '"a%2F1"', "(a text primary key)", "1" },
   }
   local sql, script = { [[create schema a; create schema "a.b"; begin]] }, {}
   local count = 0
   for i, t in ipairs(tables) do
      sql[#sql + 1] = ("create table %s %s"):format(t[1], t[2])
      for k = 3, #t do
         local values = ("'" .. t[k]:gsub("|", "','") .. "'"):gsub("'NULL'", "NULL")
         sql[#sql + 1] = ("insert into %s values (%s)"):format(t[1], values)
         count = count + 1
      end
      local pk = t[1] == "n" and 'pk = "a", ' or t[1] == "two" and 'pk = {"a", "b"}, ' or ""
      script[#script + 1] = ("source { table = [[%s]], name = 's%d', %s }"):format(t[1], i, pk)
   end
   local db, state = fixtures.database(table.concat(sql, ";") .. "; commit"), fixtures.state()
   local text = [[local function source(fields)
      fields.deletes, fields.on_change = true, function(c)
         print(c.id)
         assert(pgcdc.json.decode(tostring(c)).id == c.id)
      end
      pgcdc.source(fields)
   end
   ]] .. table.concat(script, "\n")
   local ids = once.ok({ dsn = db, state = state, script = text }).lines
   assert_unique(ids)
   lu.assertEquals(#ids, count)
   local plain = {}
   for _, id in ipairs(ids) do
      plain[id:gsub("/%d+/", "/XID/", 1)] = true
   end
   for _, id in ipairs { "public.one/XID/x,y", "public.one/XID/null", "public.one/XID/x",
      "public.one/XID/", "public.t/XID/100%,25,1" } do
      lu.assertTrue(plain[id], id) -- what nobody can mistake stays as it is
   end
   for _, t in ipairs(tables) do
      db:exec(("delete from %s"):format(t[1]))
   end
   local deleted = once.ok({ dsn = db, state = state, script = text }).lines
   lu.assertEquals(#deleted, count - 1) -- two rows of n have one key
   assert_unique(table.move(deleted, 1, #deleted, #ids + 1, ids))
end

-- Two databases have a table of one name.
function TestKeys.test_ids_of_two_databases()
   local script = [[
      pgcdc.source { table = "t", on_change = function(c) print(c.id) end }
      pgcdc.source { table = "t", name = "eu", connect = %q,
         on_change = function(c) print(c.id) end }
      pgcdc.source { table = "u", name = "u", on_change = function(c) print(c.id) end }]]
   local one, other = fixtures.t_and_u "n int", fixtures.names(1)
   one:exec "insert into t values (1, 1); insert into u values (1, 1)"
   local lines = once.ok({ dsn = one, script = script:format(other:dsn()) }).lines
   for i, line in ipairs(lines) do
      lines[i] = line:gsub("%d+/", "XID/")
   end
   table.sort(lines)
   lu.assertEquals(lines, { "eu:public.t/XID/1", "public.t/XID/1", "u:public.u/XID/1" })
   lines = once.ok({ dsn = one, script = script:gsub("connect = %%q,", "") }).lines
   table.sort(lines)
   lu.assertStrMatches(lines[1], "public.t/%d+/1")
   lu.assertEquals(lines[1], lines[2]) -- one row version, twice
   lu.assertStrMatches(lines[3], "public.u/%d+/1")
end

-- The kinds with these names.
local function some(names)
   local list = {}
   for _, kind in ipairs(KINDS) do
      if (" " .. names .. " "):find(" " .. kind[1] .. " ", 1, true) then
         list[#list + 1] = kind
      end
   end
   return list
end

-- By triggers: rows, then tombstones. One delete comes for a key, when its last row is deleted.
function TestKeys.test_by_triggers()
   local kinds = some("with_null repeated two_columns ci_text ignoring_case_twice icu numerics "
      .. "records xids partitioned")
   local db, state, by = new_database(kinds), fixtures.state(), 'capture = "trigger"'
   for _, kind in ipairs(kinds) do
      stepping.trigger(db, "install", { table = kind[1], pk = kind[3] })
   end
   lu.assertEquals(run_all(db, state, kinds, by), {})
   db:exec("begin;" .. insert(kinds, 0) .. "commit")
   local rows, ids = run_all(db, state, kinds, by)
   lu.assertEquals(rows, expected(kinds, 0))
   local deletes, count, wanted = {}, {}, {}
   for _, kind in ipairs(kinds) do
      local key = kind[3]:gsub("%w+", "'%0', to_json(%0)")
      local keys = db:value(([[select string_agg(distinct json_build_object(%s)::text, '|')
         from "%s"]]):format(key, kind[1]))
      count[kind[1]] = 0
      for text in keys:gmatch "[^|]+" do
         wanted[#wanted + 1] = kind[1] .. " " .. text:gsub('" : ', '":'):gsub(", ", ",")
         count[kind[1]] = count[kind[1]] + 1
      end
      deletes[#deletes + 1] = ('delete from "%s" where n %% 2 = 0'):format(kind[1])
      deletes[#deletes + 1] = ('delete from "%s"'):format(kind[1])
   end
   table.sort(wanted)
   db:exec("begin;" .. table.concat(deletes, ";") .. "; commit")
   local more
   rows, more = run_all(db, state, kinds, by, nil, count)
   lu.assertEquals(rows, wanted)
   assert_unique(table.move(more, 1, #more, #ids + 1, ids))
end

-- By a column that grows: windows and rechecks.
function TestKeys.test_by_increment()
   local kinds = some "with_null repeated points ci_text_twice arrays"
   local db, state = new_database(kinds), fixtures.state()
   local by = 'capture = "increment", column = "n", recheck = '
   for _, kind in ipairs(kinds) do
      db:exec(('create index on "%s" (n)'):format(kind[1]))
   end
   lu.assertEquals(run_all(db, state, kinds, by .. "0"), {})
   db:exec("begin;" .. insert(kinds, 0) .. "commit")
   lu.assertEquals(run_all(db, state, kinds, by .. "0"), expected(kinds, 0))
   empty(db, kinds)
   db:exec("begin;" .. insert(kinds, 10) .. "commit")
   lu.assertEquals(run_all(db, state, kinds, by .. "0.001"), expected(kinds, 10))
end

return TestKeys
