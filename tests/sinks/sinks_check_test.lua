-- sinks_check_test.lua: --check opens the targets of a script, and leaves nothing there.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"

local TestSinksCheck = {}

-- Runs --check on a source whose changes go to a sink with these fields, as Lua, which may hold %q
-- for the target.
local function check(source, dsn, sink, status, fields)
   local result = program.run { dsn = source, options = { "--check" }, script = ([[
      pgcdc.source { table = "t", %s }:sink(pgcdc.sinks.postgres { connect = %q, %s })]]):format(
      fields or "", dsn, sink) }
   lu.assertEquals(result.status, status, result.stdout .. result.stderr)
   return (result.stdout .. result.stderr):gsub('\\"', '"')
end

local function databases(sql)
   local source, target = fixtures.database [[
      create table t (id int primary key, v text, n numeric(8, 2));
      insert into t values (1, 'a', 1)]], cluster.main():database { name = "checked" }
   target:exec(sql or "")
   return source, target
end

-- Everything that a database has of its own, as text.
local function all_of(db)
   return db:value [[select coalesce(string_agg(format('%s.%s %s', n.nspname, relname, relkind), ' '
      order by n.nspname, relname), '') || ' ' || (select count(*) from pg_namespace)
      from pg_class c join pg_namespace n on n.oid = relnamespace
      where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')]]
end

function TestSinksCheck.test_nothing_is_made()
   local source, target = databases()
   local before = all_of(target)
   for _, mode in ipairs { "mirror", "append", "history" } do
      local text = check(source, target:dsn(), ('table = "copy", mode = "%s"'):format(mode), 0)
      lu.assertStrContains(text, "sink postgres copy: table public.copy, which would be made, in"
         .. " database " .. target:value "select current_database()" .. " as role ")
      lu.assertNotStrContains(text, "was made")
      lu.assertEquals(all_of(target), before)
   end
   target:exec [[create table copy (id int primary key, v text, n numeric);
      insert into copy values (1)]]
   before = all_of(target)
   local text = check(source, target:dsn(), 'table = "copy", mode = "mirror"', 0, "deletes = true")
   lu.assertStrContains(text, "sink postgres copy: table public.copy, in database ")
   lu.assertEquals(all_of(target), before)
   lu.assertEquals(target:value "select count(*) from copy", "1")
end

-- What a start would refuse.
function TestSinksCheck.test_what_is_refused()
   local source, target = databases [[create table keyless (id int, v text, n numeric);
      create table narrow (id int primary key, v varchar(3), n numeric);
      create table short (id int primary key, v text);
      create table guarded (id int primary key, v text, n numeric)]]
   local name = target:value "select current_database()"
   local role = cluster.main():role "login"
   target:exec(("grant create on database %s to %s; grant insert on guarded to %s"):format(
      target:connect():ident(name), role, role))
   local weak = cluster.main():role "login"
   for _, case in ipairs {
      { 'table = "missing", create = false', "there is no table missing in the target" },
      { 'table = "nowhere.t"', "there is no schema nowhere in the target: create it first" },
      { 'table = "keyless"', "it needs a unique index on (\"id\")" },
      { 'table = "narrow"', "ALTER TABLE" },
      { 'table = "short"', '"n"' },
      { 'table = "copy", rename = { x = "y" }', "rename names 'x', and the changes have no such" },
      { 'table = "copy", pk = { "x" }', "pk names 'x'" },
      { 'table = "guarded"', "permission denied for table guarded", target:dsn { user = role } },
      { 'table = "copy"', "pgcdc.position cannot be made: grant CREATE on the target database",
         target:dsn { user = weak } },
      { 'table = "copy"', "connection to server", "host=/nowhere" },
      { 'table = "t"', "reads", source:dsn() },
   } do
      local text = check(source, case[3] or target:dsn(), case[1], 3)
      lu.assertStrContains(text, "msg=\"postgres ")
      lu.assertStrContains(text, case[2])
   end
   lu.assertStrContains(all_of(target), "public.guarded_pkey i public.keyless r")
   lu.assertNotStrContains(all_of(target), "pgcdc")
end

-- Rows of a script's own are not known before they come; columns that are named are.
function TestSinksCheck.test_what_is_not_known()
   local source, target = databases()
   local result = program.run { dsn = source, options = { "--check" }, script = ([[
      pgcdc.source { table = "t" }:map(function(c) return { a = 1 } end)
         :sink(pgcdc.sinks.postgres { connect = %q, table = "sums", pk = "a" })]]):format(
      target:dsn()) }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stdout,
      "sink postgres sums: table sums, whose columns are known with the first row, in database ")
   result = program.run { bundled = "mirror", dsn = source, options = { "--check" },
      args = { table = "t", target = target:dsn(), rename = "v:value" } }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stdout, "sink mirror t: table public.t, which would be made")
   lu.assertNotStrContains(all_of(target), "public")
end

-- Files: those that can be written or made, and those that cannot; nothing is made.
function TestSinksCheck.test_files()
   local source = databases()
   local dir = scope.dir "files"
   files.write(dir .. "/there", "12345\n")
   local function of(spec, status)
      local result = program.run { dsn = source, options = { "--check" }, script =
         ('pgcdc.source { table = "t" }:sink(pgcdc.sinks.jsonl { %s })'):format(spec) }
      lu.assertEquals(result.status, status, result.stdout .. result.stderr)
      return result.stdout .. result.stderr
   end
   for _, case in ipairs {
      { 'path = "%s/there"', 0, "file %s/there, 6 bytes" },
      { 'path = "%s/new"', 0, "file %s/new, which would be made" },
      { 'path = "%s/deep/{id}.jsonl"', 0, "folder %s/deep, which would be made" },
      { 'path = "/dev/null"', 0, "file /dev/null" },
      { 'path = "%s"', 3, "%s: is a folder" },
      { 'path = "%s/no/new"', 3, "%s/no: there is no such folder" },
      { 'path = "%s/there/new"', 3, "%s/there: is no folder" },
      { 'path = "%s/there/{id}"', 3, "%s/there: is no folder" },
   } do
      lu.assertStrContains(of(case[1]:gsub("%%s", dir), case[2]), (case[3]:gsub("%%s", dir)))
   end
   lu.assertEquals(files.names(dir), { "there" })
end

return TestSinksCheck
