-- bad_input_test.lua: nonsense in a script or on the server: message and exit status of each case.
-- SPDX-License-Identifier: MIT
--
-- Handlers that fail are in bad_script_test.lua, state files and outputs in bad_state_test.lua,
-- words on the command line in cli_test.lua and options_test.lua.

local cluster = require "cluster"
local files = require "files"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local scope = require "scope"
local tables = require "tables"
local wait = require "wait"

local TestBadInput = {}

local LISTEN = ":on('change', function(c) print(c) end)"

-- Runs the script; checks the status, a piece of what it says, and that no change came.
local function check(status, message, options)
   options.options = options.options or { "--once" }
   options.deadline = 10
   local result = program.run(options)
   result.stderr = result.stderr:gsub('\\"', '"') -- as it was before it was logged
   if options.options[1] == "--check" then -- which says the same on its standard output
      lu.assertStrContains(result.stdout, "wrong  source ")
      lu.assertStrContains(result.stdout, message)
   end
   return once.fail(status, message, result)
end

-- The fields of pgcdc.source {...} and what is said of them; status 1 with file and line.
local function check_declarations(cases)
   for _, case in ipairs(cases) do
      local result = check(1, case[2], { script = "\n\n" .. case[1] })
      lu.assertStrContains(result.stderr, "script.lua:3: ")
      lu.assertStrContains(result.stderr, "level=error")
   end
end

-- What is declared ------------------------------------------------------------------------------

function TestBadInput.test_fields_of_a_source()
   check_declarations {
      { "pgcdc.source()", "pgcdc.source: its argument must be a table, not nil" },
      { "pgcdc.source 'orders'", "pgcdc.source: its argument must be a table, not a string" },
      { "pgcdc.source {}", "pgcdc.source: table is required" },
      { "pgcdc.source {tabel = 't'}",
        "pgcdc.source: unknown field 'tabel'; did you mean 'table'?" },
      { "pgcdc.source {table = 't', where_ = 'x'}",
         "unknown field 'where_'; did you mean 'where'?" },
      { "pgcdc.source {table = 't', zzzzzzzz = 1}", "pgcdc.source: unknown field 'zzzzzzzz'" },
      { "pgcdc.source {'t'}", "pgcdc.source: unknown field '1'" },
      { "pgcdc.source {table = 5}", "pgcdc.source: table must be a string or a table" },
      { "pgcdc.source {table = ''}", "pgcdc.source: table must not be empty" },
      { "pgcdc.source {table = {}}", "pgcdc.source: table must be a name" },
      { "pgcdc.source {table = {'a', 'b', 'c'}}", "pgcdc.source: table must be a name" },
      { "pgcdc.source {table = {'a', 7}}", "pgcdc.source: table must be a string, not a number" },
      { "pgcdc.source {table = 't', pk = {}}", "pgcdc.source: pk must name at least one column" },
      { "pgcdc.source {table = 't', pk = 7}", "pgcdc.source: pk must be a string or a table" },
      { "pgcdc.source {table = 't', pk = {'a', 'a'}}", "pgcdc.source: pk names 'a' twice" },
      { "pgcdc.source {table = 't', columns = {'a', false}}", "pgcdc.source: columns[2]" },
      { "pgcdc.source {table = 't', where = ''}", "pgcdc.source: where must not be empty" },
      { "pgcdc.source {table = 't', where = 7}", "pgcdc.source: where must be a string" },
      { "pgcdc.source {table = 't', rls = 1}", "pgcdc.source: rls must be a boolean" },
      { "pgcdc.source {table = 't', name = 7}", "pgcdc.source: name must be a string" },
      { "pgcdc.source {table = 't', connect = 7}", "pgcdc.source: connect must be a string" },
      { "pgcdc.source {table = 't', connect = {host = {}}}", "pgcdc.source: connect.host" },
      { "pgcdc.source {table = 't', on_change = 'x'}",
        "pgcdc.source: on_change must be a function, not a string" },
      { "pgcdc.source {table = 't', table = 'a\\0b'}", "'table' holds a zero byte" },
      { "pgcdc.source {table = 't', pk = {'id\\0'}}", "a name in 'pk' holds a zero byte" },
      { "pgcdc.source {table = 't', columns = 'id\\0x'}", "a name in 'columns' holds a zero byte" },
   }
end

function TestBadInput.test_intervals_and_starts()
   check_declarations {
      { "pgcdc.source {table = 't', interval = 0}",
        "pgcdc.source: interval must be a number of seconds, at least 0.01, not 0" },
      { "pgcdc.source {table = 't', interval = 0.001}", "at least 0.01" },
      { "pgcdc.source {table = 't', interval = -5}", "at least 0.01, not -5" },
      { "pgcdc.source {table = 't', interval = '1'}",
        "pgcdc.source: interval must be a number, not a string" },
      { "pgcdc.source {table = 't', interval = 0/0}",
         "pgcdc.source: interval must be a number of" },
      { "pgcdc.source {table = 't', interval = 1/0}",
         "pgcdc.source: interval must be a number of" },
      { "pgcdc.source {table = 't', interval = {1}}",
        "pgcdc.source: interval must be seconds or {min, max}" },
      { "pgcdc.source {table = 't', interval = {1, 2, 3}}", "seconds or {min, max}" },
      { "pgcdc.source {table = 't', interval = {2, 1}}", "pgcdc.source: interval[2]" },
      { "pgcdc.source {table = 't', interval = {'a', 1}}", "pgcdc.source: interval[1]" },
      { "pgcdc.source {table = 't', start = 'later'}",
        'start must be "snapshot", "now" or a transaction id, not "later"' },
      { "pgcdc.source {table = 't', start = 1.5}", "start = 1.5 is no transaction id" },
      { "pgcdc.source {table = 't', start = 1}",
        "start = 1 is no transaction id, which is a whole number of 3 or more (SELECT pg_current" },
      { "pgcdc.source {table = 't', start = true}", "or a transaction id, not true" },
   }
end

function TestBadInput.test_events_and_timers()
   check_declarations {
      { "pgcdc.source {table = 't'}:on('chnage', print)",
        "source:on: unknown 'chnage'; did you mean 'change'?" },
      { "pgcdc.source {table = 't'}:on('zzzzzzzz', print)", "source:on: unknown 'zzzzzzzz'" },
      { "pgcdc.source {table = 't'}:on(nil, print)", "source:on: unknown (a nil)" },
      { "pgcdc.source {table = 't'}:on 'read'", "the handler must be a function, not nil" },
      { "pgcdc.every(0, print)", "pgcdc.every: the time must be a number of seconds" },
      { "pgcdc.every('1', print)", "pgcdc.every: the time must be a number" },
      { "pgcdc.after(1)", "pgcdc.after: the function must be a function, not nil" },
      { "pgcdc.after(0/0, print)", "pgcdc.after: the time" },
      { "pgcdc.stop(256)", "an exit status is 0 to 255" },
      { "pgcdc.options {a = {}}", "pgcdc.options: a must be a string" },
      { "pgcdc.options()", "pgcdc.options: its argument must be a table" },
   }
end

-- Also where one name is explicit and the other the default, and nobody else's name is taken for
-- it: "a" names no source of table "a", whose name is "public.a".
function TestBadInput.test_two_sources_with_one_name()
   local db = cluster.main():database()
   db:exec "create table a (id int primary key); insert into a values (1)"
   db:exec "create table b (id int primary key); insert into b values (2)"
   check_declarations {
      { "pgcdc.source {table = 'a', name = 'n'} pgcdc.source {table = 'b', name = 'n'}",
        "pgcdc.source: two sources are named 'n'" },
   }
   for _, pair in ipairs {
      { "{table = 'a'}", "{table = 'public.a'}" }, { "{table = 'a'}", "{table = {'public', 'a'}}" },
      { "{table = 'a'}", "{table = 'b', name = 'public.a'}" },
      { "{table = 'b', name = 'public.a'}", "{table = 'a'}" },
   } do
      local result = program.run {
         script = "pgcdc.source " .. pair[1] .. "\npgcdc.source " .. pair[2],
         dsn = db, options = { "--once" },
      }
      lu.assertStrContains(result.stderr, "two sources are named public.a")
      lu.assertEquals(result.status, 1)
   end
   for _ = 1, 5 do
      local result = program.run {
         script = ([[pgcdc.source {table = "a"} LISTEN
            pgcdc.source {table = "b", name = "a"} LISTEN
            pgcdc.source {table = "a", name = "b"} LISTEN]]):gsub("LISTEN", LISTEN),
         dsn = db, options = { "--once" },
      }
      lu.assertEquals(result.stderr:match "level=error[^\n]*", nil)
      lu.assertEquals(result.status, 0)
      lu.assertEquals(#result.lines, 3)
   end
end

-- A handler comes too late to declare a source.
function TestBadInput.test_a_source_declared_in_a_handler()
   local db = cluster.main():database()
   db:exec "create table t (id int primary key); insert into t values (1)"
   local result = check(1, "sources are declared while the script loads", { dsn = db, script = [[
      pgcdc.source {table = "t", on_change = function()
         pgcdc.source {table = "t", name = "another"}
      end}]] })
   lu.assertStrContains(result.stderr, "script.lua:2")
end

function TestBadInput.test_scripts_that_do_not_load()
   local result = check(1, "script.lua:2:", { script = "local a = 1\nlocal = 2" })
   lu.assertStrContains(result.stderr, "near '='")
   check(1, "script.lua:1: boom", { script = "error 'boom'" })
   check(1, "module 'no.such.module' not found", { script = "require 'no.such.module'" })
   check(1, "attempt to index a nil value", { script = "local x; x.y = 1" })
   local dir = scope.dir "a folder"
   check(1, "cannot read " .. dir, { file = dir, options = {} })
end

-- What the server does not have -----------------------------------------------------------------

-- Each of them ends at once with status 3, with --once, with --check and without.
local function check_refused(dsn, message, source, more)
   local script = "pgcdc.source {" .. source .. "}" .. LISTEN
   for _, options in ipairs(more or { { "--once" }, { "--check" }, {} }) do
      check(3, message, { script = script, dsn = dsn, options = options })
   end
end

function TestBadInput.test_relations_that_are_no_tables()
   local db = cluster.main():database()
   db:exec [[
      create table t (id int primary key, v int);
      create view a_view as select * from t;
      create materialized view matview as select * from t;
      create sequence a_sequence;
      create type a_type as (id int);
      create table parted (id int) partition by range (id);
      create extension file_fdw;
      create server files foreign data wrapper file_fdw;
      create foreign table a_foreign (id int) server files options (filename '/dev/null');
      create foreign table parted_foreign partition of parted for values from (0) to (10)
         server files options (filename '/dev/null')]]
   check_refused(db, "there is no table nowhere", "table = 'nowhere'")
   check_refused(db, "there is no table No.Where", "table = 'No.Where'")
   check_refused(db, 'there is no table "public"."T"', "table = {'public', 'T'}")
   check_refused(db, "public.a_view is a view", "table = 'a_view'")
   check_refused(db, "public.matview is a materialized view", "table = 'matview'")
   check_refused(db, "public.a_foreign is a foreign table", "table = 'a_foreign'")
   check_refused(db, "public.a_sequence is a sequence", "table = 'a_sequence'")
   check_refused(db, "public.a_type is not a table", "table = 'a_type'")
   check_refused(db, "public.t_pkey is not a table", "table = 't_pkey'")
   check_refused(db, "public.parted_foreign, a part of public.parted, is a foreign table",
                 "table = 'parted', pk = 'id'")
   check_refused(db, "too many dotted names", "table = 'a.b.c.d.e'")
end

function TestBadInput.test_keys_and_columns_that_are_not_there()
   local db = cluster.main():database()
   db:exec "create table bare (ident int, name text)"
   db:exec "create table t (id int primary key, name text)"
   check_refused(db, "public.bare has no primary key: say which columns identify a row",
                 "table = 'bare'")
   check_refused(db, 'public.bare has no column "idnet" (named in pk); the nearest is '
                 .. '"ident"', "table = 'bare', pk = 'idnet'")
   check_refused(db, 'public.t has no column "nmae" (named in columns); the nearest is '
                 .. '"name"', "table = 't', columns = {'id', 'nmae'}")
   check_refused(db, 'has no column "ID"', "table = 't', pk = {'ID'}")
   check_refused(db, 'has no column "xmin"', "table = 't', pk = 'xmin'")
end

-- A condition that the server refuses is no passing trouble: it was once retried for a minute.
function TestBadInput.test_conditions_that_are_wrong()
   local db = cluster.main():database()
   db:exec "create table t (id int primary key, name text); insert into t values (1, 'a')"
   for _, case in ipairs {
      { "id = = 1", "syntax error" }, { "nosuch = 1", 'column "nosuch" does not exist; '
         .. "the condition where is nosuch = 1 (text stands in single quotes)" },
      { "id = 'x'", "invalid input syntax" }, { "name + 1 > 0", "operator does not exist" },
      { "nosuch(id)", "function nosuch(integer) does not exist" },
      { "id) OR (id = ", "syntax error" },
      { "/* id = 1", "unterminated /* comment" }, { "name", "must be type boolean" },
      { "1 / (id - 1) > 0", "division by zero" },
   } do
      check_refused(db, case[2], ("table = 't', where = %q"):format(case[1]), { { "--once" }, {} })
   end
end

function TestBadInput.test_privileges()
   local db = cluster.main():database()
   local role = cluster.main():role "login"
   db:exec "create table t (id int primary key); create schema closed"
   db:exec "create table closed.t (id int primary key)"
   local dsn = db:dsn { user = role }
   check_refused(dsn, "permission denied for table t", "table = 't'")
   check_refused(dsn, "permission denied for schema closed", "table = 'closed.t'")
   db:exec(('grant select on t to "%s"'):format(role))
   lu.assertEquals(program.run({
      script = "pgcdc.source {table = 't'}", options = { "--once" }, dsn = dsn,
   }).status, 0)
   db:exec "alter table t enable row level security"
   check_refused(dsn, "row-level security would hide rows of public.t", "table = 't'")
   db:exec(('drop owned by "%s"'):format(role))
end

-- Where nobody answers --------------------------------------------------------------------------

-- --once and --check give up after three tries; else it goes on for ever.
function TestBadInput.test_a_server_that_is_not_there()
   local script = "pgcdc.source {table = 't'}" .. LISTEN
   for _, option in ipairs { "--once", "--check" } do
      local result = check(3, "No such file or directory", {
         script = script, dsn = "host=/nonexistent", options = { option },
      })
      lu.assertEquals(select(2, result.stderr:gsub("level=warn [^\n]* retry_in=", "")), 2)
      lu.assertEquals(select(2, result.stderr:gsub("level=error", "")), 1)
   end
   local p = program.start { script = script, dsn = "host=127.0.0.1 port=1 connect_timeout=2" }
   p:wait_until(function()
      return select(2, p:stderr():gsub("retry_in=", "")) >= 4
   end, 20, "four tries")
   lu.assertNotStrContains(p:stderr(), "level=error")
   lu.assertEquals(p:stop().status, 0)
end

-- It was away when the program started, and comes.
function TestBadInput.test_a_server_that_comes_later()
   local late = cluster.new { name = "late", start = false }
   local p = program.start { script = "pgcdc.source {table = 't'}" .. LISTEN, dsn = late }
   p:wait_stderr "retry_in"
   late:start()
   late:exec "create table t (id int primary key); insert into t values (1)"
   -- between the two it may find no table, which is an end
   wait.until_(function() return #p:changes() == 1 or not p:alive() end, 30, "the change")
   local result = p:stop()
   if result.status == 3 then
      lu.assertStrContains(result.stderr, "there is no table t")
   else
      lu.assertEquals(#result.changes, 1)
   end
end

function TestBadInput.test_databases_and_roles_that_are_not_there()
   local main = cluster.main()
   check_refused(main:dsn "no_such_database", "no_such_database", "table = 't'")
   check_refused(main:dsn(nil, { user = "no_such_role" }), "no_such_role", "table = 't'")
end

-- Passwords -------------------------------------------------------------------------------------

-- No way of writing a connection string lets its password, or a piece of it, into a message.
function TestBadInput.test_passwords_are_never_shown()
   local guarded = cluster.new { name = "guarded", tcp = true }
   guarded:exec "create role joe login password 'right'; create table t (id int primary key)"
   guarded:exec "grant select on t to joe; insert into t values (1)"
   guarded:hba "local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
   local script = "pgcdc.source {table = 't'}" .. LISTEN
   local at = ("127.0.0.1:%d"):format(guarded.port)
   local words = ("host=127.0.0.1 port=%d dbname=postgres user=joe "):format(guarded.port)
   lu.assertEquals(#program.run({
      script = script, options = { "--once" }, dsn = words .. "password=right",
   }).changes, 1)

   local shown = {}
   local function check_hidden(status, dsn, message, more)
      local result = program.run(tables.merge({
         script = script, dsn = dsn, options = { "--once", "--log-level=debug" },
      }, more))
      local text = result.stderr .. (files.read(result.program.state) or "")
      if text:find "Ecre" or text:find "Iece" or result.status ~= status
         or not text:find(message, 1, true) then
         shown[#shown + 1] = ("%s: status %s\n%s"):format(dsn, result.status, result.stderr)
      end
   end
   local refused = "password authentication failed for user"
   check_hidden(3, words .. "password=sEcret", refused)
   check_hidden(3, ("postgresql://joe:sEcret@%s/postgres"):format(at), refused)
   check_hidden(3, ("postgres://%s/postgres?user=joe&password=sEcret"):format(at), refused)
   check_hidden(3, words, refused, { env = { PGPASSWORD = "sEcret" } })
   check_hidden(3, nil, refused, {
      script = ([[pgcdc.source {table = "t", connect = {
         host = "127.0.0.1", port = %d, user = "joe", dbname = "postgres",
         password = "it's\\sEcret"}}]]):format(guarded.port),
   })
   local unreadable = "the connection string cannot be read"
   check_hidden(2, words .. "password='sEcret", unreadable)
   check_hidden(2, words .. "password=x sEcret", unreadable)
   check_hidden(2, words .. "password=x sEcret=pIece", unreadable)
   check_hidden(2, "postgres://joe:sEcret%zz@host/db", unreadable)
   -- signs that a URI wants written as %XX
   check_hidden(2, ("postgres://joe:sEcret/pIece@%s/postgres"):format(at), unreadable)
   check_hidden(2, ("postgres://joe:x@sEcret@%s/postgres"):format(at), unreadable)
   check_hidden(2, ("postgres://joe:12/sEcret@%s/postgres"):format(at), unreadable)
   -- what libpq would take for the name of a database
   local env = { PGHOST = "127.0.0.1", PGPORT = guarded.port, PGUSER = "joe", PGPASSWORD = "right" }
   check_hidden(2, ("postgress://joe:sEcret@%s/postgres"):format(at), unreadable, { env = env })
   check_hidden(2, ("joe:sEcret@%s/postgres"):format(at), unreadable, { env = env })
   lu.assertEquals(table.concat(shown, "\n"), "")
end

return TestBadInput
