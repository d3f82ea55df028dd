-- doctor_test.lua: --check says what mends a set-up that is broken, and that mends it.
-- SPDX-License-Identifier: MIT
--
-- Each test breaks something, runs --check, runs what that printed, line by line, and runs --check
-- again, until it is well and has nothing more to say.

local files = require "files"
local json = require "json"
local lu = require "luaunit"
local mending = require "mending"
local program = require "program"
local scope = require "scope"
local tables = require "tables"

local TestDoctor = {}

local check, mend, one, setup, shell = mending.check, mending.mend, mending.one, mending.setup,
   mending.shell

local T = "create table t (id int primary key, name text); insert into t values (1, 'a');"
local READ = T .. "grant select on t to ROLE;"

-- ---- rights on tables ----

function TestDoctor.test_no_select()
   mend(setup(T), "wrong  source public.t: permission denied for table t")
end

function TestDoctor.test_no_usage_of_a_schema()
   mend(setup("create schema closed; create table closed.t (id int primary key)",
      { table = "closed.t" }), "permission denied for schema closed")
end

function TestDoctor.test_no_select_of_a_column()
   mend(setup(T .. "grant select (id) on t to ROLE"), "permission denied for table t")
end

function TestDoctor.test_rows_are_hidden()
   mend(setup(READ .. "alter table t enable row level security"), "row-level security would hide")
end

-- ---- tables, columns and keys ----

function TestDoctor.test_a_table_of_another_schema()
   mend(setup("create schema sales; create table sales.orders (id int primary key)",
      { table = "orders" }), "there is no table orders")
end

function TestDoctor.test_a_table_that_is_misspelt()
   mend(setup(READ .. 'create table "Ord ers" (id int primary key)', { table = '"Ord_ers"' }),
      "there is no table")
end

function TestDoctor.test_a_column_that_is_misspelt()
   mend(setup(READ, { table = "t", columns = "id,nmae" }), 'has no column "nmae"')
end

function TestDoctor.test_a_key_that_is_misspelt()
   mend(setup(READ, { table = "t", pk = "idd" }), 'has no column "idd"')
end

function TestDoctor.test_a_key_that_is_not_named()
   mend(setup [[create table t (a int not null, "B" int not null, unique (a, "B"));
      grant select on t to ROLE]], "has no primary key")
end

function TestDoctor.test_no_key_at_all()
   mend(setup "create table t (a int); grant select on t to ROLE", "has no primary key")
end

-- ---- captures ----

function TestDoctor.test_a_view()
   mend(setup(T .. "create view v as select name, id from t; grant select on v to ROLE",
      { table = "v" }), "public.v is a view")
end

function TestDoctor.test_a_column_that_does_not_grow()
   mend(setup(READ, { table = "t", capture = "increment", column = "name" }),
      'capture = "increment" goes by')
end

function TestDoctor.test_a_growing_column_without_an_index()
   mend(setup("create table t (id int primary key, at timestamptz); grant select on t to ROLE",
      { table = "t", capture = "increment", column = "at" }), "no index begins with at")
end

function TestDoctor.test_no_triggers()
   mend(setup(READ, { table = "t", capture = "trigger" }), "finds no triggers")
end

function TestDoctor.test_notes_of_triggers_that_are_not_readable()
   local s = setup(READ, { table = "t", capture = "trigger" })
   shell(("pgcdc-lua -d 'dbname=%s' trigger action=install table=t"):format(
      s.db:value "select current_database()"))
   mend(s, "this role may not read")
end

function TestDoctor.test_triggers_of_another_key()
   local s = setup("create table t (id int primary key, a int not null unique);"
      .. " grant select on t to ROLE", { table = "t", capture = "trigger", pk = "a" })
   shell(("pgcdc-lua -d 'dbname=%s' trigger action=install table=t readers=%s"):format(
      s.db:value "select current_database()", s.role))
   mend(s, "the triggers note another key")
end

function TestDoctor.test_triggers_that_were_dropped()
   local s = setup(READ, { table = "t", capture = "trigger" })
   shell(("pgcdc-lua -d 'dbname=%s' trigger action=install table=t readers=%s"):format(
      s.db:value "select current_database()", s.role))
   s.db:exec [[do $$ declare g record; begin for g in select tgname from pg_trigger
      where tgrelid = 't'::regclass loop execute format('drop trigger %I on t', g.tgname);
      end loop; end $$]]
   mend(s, "lacks triggers")
end

-- A scan that takes longer than the interval; the rows are few, so the interval is short.
function TestDoctor.test_a_table_that_polls_keep_busy()
   local s = setup([[create table t (id int primary key, v text); grant select on t to ROLE;
      insert into t select i, repeat('x', 200) from generate_series(1, 100000) i]],
      { table = "t", interval = "0.01" })
   mend(s, "more than max_load")
   lu.assertEquals(s.args.capture, "trigger")
end

-- ---- the log ----

local BY_LOG = { script = [[pgcdc.source { table = "t", capture = "logical" }
   :on("change", print)]] }

-- The same for a source by the log; <sql> comes after that of a table t.
local function by_log(sql, may, says)
   return mend(setup("create table t (id int primary key); grant select on t to ROLE;" .. sql, {},
      tables.merge({ may = may }, BY_LOG)), says)
end

-- What the server is asked for, restarted for that; then roles, publications and tables.
function TestDoctor.test_the_log()
   local printed = by_log("", "login", "needs wal_level = logical")
   lu.assertStrContains(printed, "0 of 1 replication slots are in use, and 2 more are needed")
   by_log("create publication pgcdc for table t", "login", "may not replicate")
   by_log("", "login replication", "there is no publication pgcdc")
   by_log("create publication pgcdc", "login replication",
      "publication pgcdc does not have public.t")
   by_log("create publication pgcdc for table t with (publish = 'insert')", "login replication",
      "leaves out")
   by_log("alter table t replica identity nothing; create publication pgcdc for table t",
      "login replication", "REPLICA IDENTITY")
   by_log([[drop table t; create table t (id int, at int, primary key (id, at))
      partition by range (at); create table t_1 partition of t for values from (0) to (10);
      grant select on t to ROLE; create publication pgcdc for table t]], "login replication",
      "publication pgcdc does not have public.t")
end

-- ---- connections ----

function TestDoctor.test_a_role_that_is_not_there()
   local s = setup((READ:gsub("ROLE", "public")))
   s.dsn = s.db:dsn { user = "nobody yet" }
   mend(s, 'role "nobody yet" does not exist')
   one():exec 'drop role "nobody yet"'
end

function TestDoctor.test_a_role_that_may_not_log_in()
   mend(setup(READ, nil, { may = "nologin" }), "is not permitted to log in")
end

function TestDoctor.test_a_role_with_too_few_connections()
   mend(setup(READ, nil, { may = "login connection limit 0" }), "too many connections for role")
end

function TestDoctor.test_a_database_that_nobody_may_enter()
   local s = setup(READ)
   local name = s.db:value "select current_database()"
   s.db:exec(("revoke connect on database %s from public"):format(name))
   mend(s, "permission denied for database")
end

function TestDoctor.test_a_database_that_takes_no_connections()
   local s = setup(READ)
   one():exec(("alter database %s allow_connections false"):format(
      s.db:value "select current_database()"))
   mend(s, "is not currently accepting connections")
end

function TestDoctor.test_pg_hba()
   local s = setup(READ, nil, { may = "login password 'x'" })
   one():hba "local all all trust\n"
   s.dsn = s.db:dsn { user = s.role, host = "127.0.0.1", password = "x" }
   mend(s, "no pg_hba.conf entry")
end

-- ---- the target of a mirror ----

-- A mirror of t into a database after this SQL, as a role that is there only.
local function mirror(sql, args)
   local s = setup(READ)
   local target = one():database()
   target:exec((sql:gsub("ROLE", s.role):gsub("DB", target:value "select current_database()")))
   s.bundled, s.target = "mirror", target
   s.args = tables.merge({ table = "t", target = target:dsn { user = s.role } }, args)
   return s
end

local MAY = "grant create on database DB to ROLE; grant create on schema public to ROLE;"

function TestDoctor.test_a_target_where_nothing_may_be_made()
   mend(mirror "", "pgcdc.position cannot be made")
end

function TestDoctor.test_a_target_whose_positions_may_not_be_written()
   mend(mirror [[create schema pgcdc; create table pgcdc.position (pipeline text, sink text,
      savepoint text, flush text, saved timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (pipeline, sink)); grant create on schema public to ROLE]],
      "pgcdc.position cannot be used")
end

function TestDoctor.test_a_target_that_may_not_be_written()
   mend(mirror(MAY .. "create table t (id int primary key, name text)"), "permission denied for")
end

function TestDoctor.test_a_target_whose_schema_is_missing()
   local s = mirror(MAY)
   s.bundled, s.script = nil, ([[pgcdc.source { table = "t" }:sink(pgcdc.sinks.postgres {
      connect = %q, table = "far.t" })]]):format(s.args.target)
   mend(s, "there is no schema far")
end

function TestDoctor.test_a_target_without_a_unique_index()
   mend(mirror(MAY .. "create table t (id int, name text); grant all on t to ROLE"),
      "it needs a unique index")
end

function TestDoctor.test_a_target_that_is_too_narrow()
   mend(mirror(MAY .. "create table t (id int primary key, name varchar(3)); "
      .. "grant all on t to ROLE"), "cannot hold all values")
end

function TestDoctor.test_a_target_that_lacks_a_column()
   mend(mirror(MAY .. "create table t (id int primary key); grant all on t to ROLE"),
      "has no column")
end

function TestDoctor.test_a_target_that_is_not_made()
   mend(mirror(MAY, { create = "no" }), "there is no table t in the target")
end

function TestDoctor.test_a_target_without_temporary_tables()
   local s = mirror(MAY .. "create table t (id int primary key, name text); grant all on t to ROLE")
   s.target:exec(("revoke temporary on database %s from public"):format(
      s.target:value "select current_database()"))
   mend(s, "permission denied to create temporary")
end

-- ---- files ----

function TestDoctor.test_a_folder_that_is_missing()
   local dir = scope.dir "out"
   mend(setup(READ, { table = "t", out = dir .. "/it's new/t.jsonl" }), "there is no such folder")
   lu.assertEquals(files.names(dir), { "it's new" })
end

-- ---- the report ----

function TestDoctor.test_everything_is_looked_at()
   local s = setup(READ .. "create table u (id int primary key)")
   local dir = scope.dir "out"
   s.bundled, s.script = nil, ([[
      pgcdc.source { table = "u" }:sink(pgcdc.sinks.jsonl { path = %q, name = "lost" })
      pgcdc.source { table = "t" }:sink(pgcdc.sinks.jsonl { path = %q, name = "here" })
      pgcdc.source { table = "nowhere" }]]):format(dir .. "/no/u", dir .. "/t")
   local result = check(s)
   lu.assertEquals(result.status, 3)
   local name = s.db:value "select current_database()"
   for i, beginning in ipairs {
      "wrong  source public.u: permission denied for table u",
      ("mend   SQL in %s: GRANT SELECT ON public.u TO %s;"):format(name, s.role),
      "ok     source public.t: table public.t, key id, 2 columns",
      "wrong  source nowhere: there is no table nowhere",
      "wrong  sink lost: ", "mend   shell: mkdir -p ", "ok     sink here: file ",
   } do
      lu.assertEquals(result.lines[i]:sub(1, #beginning), beginning)
   end
   lu.assertEquals(#result.lines, 7)
   lu.assertEquals(select(2, result.stderr:gsub("level=error", "")), 3)
end

function TestDoctor.test_json()
   local s = setup(READ .. "create table u (id int primary key)")
   s.args.table = "t,u"
   local result = program.run { bundled = "jsonl", args = s.args, dsn = s.dsn,
                                options = { "--check", "--json" } }
   lu.assertEquals(result.status, 3)
   local found = json.decode(result.stdout)
   lu.assertEquals({ found.version, found.ok, #found.items }, { 1, false, 3 })
   local t, u, state = table.unpack(found.items)
   lu.assertEquals({ t.kind, t.name, t.ok, t.load.rows }, { "source", "public.t", true, 1 })
   lu.assertTrue(t.load.scan_seconds > 0 and t.load.of_interval < 1 and t.load.bytes == 8192)
   lu.assertEquals({ u.ok, u.sqlstate, u.mends[1].kind, u.mends[1].text }, { false, "42501", "sql",
      "GRANT SELECT ON public.u TO " .. s.role .. ";" })
   lu.assertEquals({ state.kind, state.ok }, { "state", true })
end

return TestDoctor
