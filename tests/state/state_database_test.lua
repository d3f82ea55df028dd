-- state_database_test.lua: state that is kept in a database of Postgres, in place of a file.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local killing = require "killing"
local lu = require "luaunit"
local native = require "native"
local once = require "once"
local program = require "program"
local proxy = require "proxy"
local scope = require "scope"
local tables = require "tables"
local wait = require "wait"

local TestStateDatabase = {}

local COUNTS = [[pgcdc.source {table = "t", interval = 0.02, deletes = true, on_change = function(c)
   print(c.op .. " " .. (c.row or c.key).id) end}]]

-- A database with a table, another one for state, and how the program is started with them.
local function case(rows, script)
   local db, home = fixtures.names(rows), cluster.main():database()
   return db, home, { dsn = db, script = script or COUNTS, state = home:dsn() }
end

-- What a stalled connection is noticed by, in seconds.
local QUICK = { keepalives_idle = 1, keepalives_interval = 1, keepalives_count = 2 }

-- Waits for so many lines; returns them.
local function await(p, n)
   wait.until_(function() return #p:lines() >= n end, 20, "lines")
   return p:lines()
end

-- The lease of one who was killed is over, as it would be after a while.
local function expire(home)
   home:exec [[do $$ begin if to_regclass('pgcdc.lease') is not null then
      update pgcdc.lease set expires = now(); end if; end $$]]
end

-- Waits until the program says that it is held up, by its lease or in the middle of a save.
local function await_trouble(p)
   wait.until_(function()
      return p:stderr():find "the lease cannot be renewed" or p:stderr():find "state's database"
   end, 20, "trouble with the state's database")
end

function TestStateDatabase.test_nothing_comes_again()
   local db, home, how = case(3)
   lu.assertEquals(once.ok(how).lines, { "read 1", "read 2", "read 3" })
   db:exec "update t set name = 'x' where id = 1; delete from t where id = 2"
   lu.assertItemsEquals(once.ok(how).lines, { "update 1", "delete 2" })
   lu.assertEquals(once.ok(how).lines, {})
   lu.assertEquals(home:value "select count(*) from pgcdc.state_rows", "2")
   lu.assertEquals(home:value "select epoch from pgcdc.lease where pipeline = 'script'", "3")
end

-- A process that was stopped, while another one took over, saves nothing when it goes on.
function TestStateDatabase.test_one_who_slept_is_fenced()
   local db, home, how = case(2)
   local old = program.start(how)
   await(old, 2)
   old:signal "STOP"
   expire(home)
   lu.assertEquals(once.ok(how).lines, {})
   db:exec "update t set name = 'x' where id = 1"
   local new = program.start(how)
   lu.assertEquals(await(new, 1), { "update 1" })
   old:signal "CONT"
   local result = old:finish(20)
   lu.assertEquals(result.status, 5, result.stderr)
   lu.assertStrContains(result.stderr, "the pipeline script was taken over by ")
   lu.assertEquals(new:stop().status, 0)
   lu.assertEquals(once.ok(how).lines, {})
end

-- Somebody takes over after a change was delivered and before that is saved, and has saved nothing
-- yet. Returns the end of the program, and whether the change is counted in the database.
local function save_after_a_takeover(binary)
   local gate = scope.dir "gate" .. "/open"
   local db, home, how = case(1, ([[
      local counts = pgcdc.state "counts"
      pgcdc.source {table = "t", interval = 0.02}:on("change", function(c)
         local key = tostring(c.key.id)
         counts[key] = (counts[key] or 0) + 1
         io.write(key, "\n")
         io.flush()
         while c.key.id == 2 and not io.open %q do end
      end)]]):format(gate))
   how.binary = binary
   local old = program.start(how)
   await(old, 1)
   db:exec "insert into t values (2)"
   await(old, 2)
   home:exec [[update pgcdc.lease set epoch = epoch + 1, owner = 'other', host = 'host-b',
      expires = now() + interval '1 h']]
   files.write(gate, "")
   return old:finish(20), home:value [[select count(*) from pgcdc.state
      where kind = 'state' and name = 'counts' and key = '2']]
end

function TestStateDatabase.test_no_save_after_a_takeover()
   local result, count = save_after_a_takeover()
   lu.assertEquals({ result.status, count }, { 5, "0" })
   lu.assertStrContains(result.stderr, "the pipeline script was taken over by host-b, pid ")
end

function TestStateDatabase.test_finds_out_saves_without_an_epoch()
   local _, count = save_after_a_takeover(program.binary() .. "-home_database")
   lu.assertEquals(count, "1")
end

-- Who comes second says so, waits, and begins as soon as the first one has stopped.
function TestStateDatabase.test_a_second_one_waits()
   local db, _, how = case(2)
   local first = program.start(how)
   await(first, 2)
   local second = program.start(how)
   second:wait_stderr "waiting: .*, pid %d+, is at work on the pipeline script"
   lu.assertEquals(first:stop().status, 0)
   db:exec "insert into t values (3)"
   lu.assertEquals(await(second, 1), { "insert 3" })
   lu.assertEquals(second:stop().status, 0)
end

-- The position of the first batch is saved, so that nothing is on its way to the state's database.
local function await_save(home)
   wait.until_(function()
      return home:value "select count(*) from pgcdc.state where kind = 'position'" ~= "0"
         and home:value [[select count(*) from pg_stat_activity where state <> 'idle'
            and application_name = 'pgcdc-lua' and datname = current_database()]] == "0"
   end, 20, "the first save")
end

-- Who cannot renew its lease delivers nothing, and goes on when it can again.
function TestStateDatabase.test_cut_off_from_the_state()
   local db, home, how = case(1)
   local way = proxy.new(home)
   how.state, how.options = way:dsn(QUICK), { "--lease", "3" }
   local p = program.start(how)
   await(p, 1)
   await_save(home)
   way:strike("stall", true)
   await_trouble(p)
   db:exec "insert into t values (2), (3)"
   local at = db:value "select clock_timestamp()"
   wait.until_(function()
      return db:value(([[select count(*) from pg_stat_activity where datname = current_database()
         and application_name = 'pgcdc-lua' and state = 'idle' and query ilike '%%commit%%'
         and query_start > '%s']]):format(at)) ~= "0"
   end, 20, "the poll that reads them")
   lu.assertEquals(#p:lines(), 1)
   way:heal()
   lu.assertEquals(#await(p, 3), 3)
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(once.ok(how).lines, {})
end

-- The same when another one has taken over meanwhile.
function TestStateDatabase.test_taken_over_while_cut_off()
   local db, home, how = case(1)
   local way = proxy.new(home)
   local p = program.start(tables.merge(how, { state = way:dsn(QUICK),
                                               options = { "--lease", "3" } }))
   await(p, 1)
   await_save(home)
   way:strike("stall", true)
   await_trouble(p)
   db:exec "insert into t values (2)"
   local lines = once.ok(how).lines -- an upsert where it cannot know what the other one told
   lu.assertEquals(#lines, 1)
   lu.assertStrMatches(lines[1], "%a+ 2")
   way:heal()
   local result = p:finish(30)
   lu.assertEquals(result.status, 5, result.stderr)
   lu.assertEquals(#result.lines, 1)
end

-- A lease that is renewed does not end.
function TestStateDatabase.test_a_lease_is_renewed()
   local _, home, how = case(1)
   how.options = { "--lease", "3" }
   local p = program.start(how)
   await(p, 1)
   local first = home:value "select expires from pgcdc.lease"
   wait.until_(function()
      return home:value "select expires from pgcdc.lease" ~= first
   end, 20, "the renewal")
   lu.assertEquals(home:value "select count(*) from pgcdc.lease where expires > now()", "1")
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(home:value "select count(*) from pgcdc.lease where expires > now()", "0")
end

-- Connections to the state's database break again and again: nothing is lost, nothing comes twice.
function TestStateDatabase.test_the_database_breaks_off()
   local db, home, how = case(0)
   local p = program.start(how)
   for i = 1, 30 do
      db:exec(("insert into t values (%d)"):format(i))
      home:exec [[select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()]]
   end
   local lines = await(p, 30)
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(once.ok(how).lines, {})
   local seen = {}
   for _, line in ipairs(lines) do
      lu.assertNil(seen[line], line .. " came twice")
      seen[line] = true
   end
end

-- Killed at any moment: what is counted with the positions is right.
function TestStateDatabase.test_killed_at_random()
   local db, home, how = case(0, [[
      local st = pgcdc.state "count"
      pgcdc.source {table = "t", interval = 0.01, deletes = true, on_change = function(c)
         local key = c.op .. " " .. c.key.id
         st[key] = (st[key] or 0) + 1
      end}]])
   how.seconds, how.ended = 2, function() expire(home) end
   local inserted, deleted = 0, 0
   how.write = function(n)
      native.sleep(0.001)
      db:exec(("insert into t values (%d)"):format(n))
      inserted = n
      if n % 3 == 0 then
         deleted = deleted + 1
         db:exec(("delete from t where id = %d"):format(n // 3))
      end
   end
   local result, kills = killing.run(how)
   lu.assertTrue(kills > 3)
   local inserts = 0
   for _, line in ipairs(result.lines) do
      local count, op = line:match "(%d+)\t(%a+)"
      lu.assertEquals(count, "1", line .. killing.seed())
      inserts = inserts + (op == "delete" and 0 or 1)
   end
   lu.assertTrue(inserts <= inserted)
   local told = {} -- a delete may be told of a row that was in doubt when its program died
   for _, row in ipairs(home:exec [[select split_part(convert_from(key, 'UTF8'), ' ', 2)
      from pgcdc.state where kind = 'state' and key not like 'delete%']]) do
      told[row[1]] = true
   end
   for _, row in ipairs(db:exec "select id from t") do
      lu.assertTrue(told[row[1]], row[1] .. " was not told, " .. killing.seed())
   end
   lu.assertEquals(home:value [[select count(*) from pgcdc.state_rows where flags & 2 = 0]],
      tostring(inserted - deleted))
end

function TestStateDatabase.test_bad_input()
   local db = fixtures.names(1)
   local plain = cluster.main():database { sql = "encoding 'LATIN1' template template0 locale 'C'" }
   for state, message in pairs {
      [plain:dsn()] = "its encoding is LATIN1: state is kept in a database with UTF8",
      ["postgres://%zz"] = "the connection string cannot be read",
   } do
      local result = program.run { dsn = db, script = COUNTS, state = state,
                                   options = { "--once" } }
      lu.assertNotEquals(result.status, 0)
      lu.assertStrContains(result.stderr, message)
   end
   for _, options in ipairs { { "--lease", "2" }, { "--lease", "x" } } do
      local result = program.run { dsn = db, script = COUNTS, options = options }
      lu.assertEquals(result.status, 2)
      lu.assertStrContains(result.stderr, "write a whole number of seconds, from 3 to 86400")
   end
   local result = program.run { dsn = db, script = COUNTS, state = fixtures.state(),
                                options = { "--name", "x" } }
   lu.assertEquals(result.status, 2)
   lu.assertStrContains(result.stderr, "--name and --lease are for a state in a database")
end

-- A standby cannot be written; one that is promoted can.
function TestStateDatabase.test_a_standby()
   local db, home, how = case(1)
   local standby = cluster.main():standby "state standby"
   how.state = standby:dsn(home.name)
   local text = once.ends(4, how).text
   lu.assertStrContains(text, "the state's database: it is a standby: state is kept on a primary")
   lu.assertEquals(select(2, text:gsub("\n", "")), 1, text)
   standby:promote()
   lu.assertEquals(once.ok(how).lines, { "read 1" })
   db:exec "delete from t"
   lu.assertEquals(once.ok(how).lines, { "delete 1" })
   standby:destroy()
end

-- Without privileges it says which, as what is to be run; that mends it.
function TestStateDatabase.test_privileges()
   local db, home = fixtures.names(1), cluster.main():database()
   home:exec "drop role if exists keeper; create role keeper login"
   local how = { dsn = db, script = COUNTS, state = home:dsn { user = "keeper" } }
   local text = once.ends(4, how).text
   local grant = text:match "GRANT CREATE ON DATABASE [%w_]+ TO keeper"
   lu.assertNotNil(grant, text)
   lu.assertStrContains(text, "or let its owner run pgcdc-lua state action=install")
   home:exec(grant)
   once.ok(how)
   once.ok { dsn = db, script = COUNTS, state = home:dsn { user = "keeper" } }
   home:exec "drop schema pgcdc cascade"
   home:exec(grant:gsub("GRANT", "REVOKE"):gsub(" TO ", " FROM "))
   once.ok { dsn = db, script = COUNTS, state = home:dsn() }
   text = once.ends(4, how).text
   lu.assertStrContains(text, "keeper may not write state there: GRANT USAGE")
   home:exec((text:match "GRANT USAGE.-TO keeper.-TO keeper"))
   once.ok(how)
   home:exec "drop owned by keeper; drop role keeper"
end

-- Tables of an older program are brought up to date, those of a newer one are left alone.
function TestStateDatabase.test_formats()
   local _, home, how = case(1)
   once.ok(how)
   home:exec "comment on table pgcdc.lease is 'pgcdc-lua state, format 99'"
   lu.assertStrContains(once.ends(4, how).text,
      "its tables have format 99, and this pgcdc-lua knows 1: use a newer one")
   home:exec "comment on table pgcdc.lease is null"
   lu.assertStrContains(once.ends(4, how).text, "its tables have format 0, and this pgcdc-lua"
      .. " needs 1: their owner brings them up to date with pgcdc-lua state action=install")
   once.succeed(program.run { bundled = "state", state = false,
                              args = { action = "install", state = home:dsn() } })
   lu.assertEquals(once.ok(how).lines, {})
end

-- Two pipelines of one name: the second one, which has other sources, is refused.
function TestStateDatabase.test_other_sources()
   local db, home, how = case(1)
   once.ok(how)
   db:exec "create schema s; create table s.u (id int primary key); insert into s.u values (1)"
   local other = tables.merge(how, { script = COUNTS:gsub('"t"', '"s.u"') })
   lu.assertStrContains(once.ends(4, other).text, "the pipeline script in the state's database is"
      .. " of other sources (public.t): choose another --name, or forget them with --reset")
   lu.assertEquals(once.ok(other, { options = { "--name", "other" } }).lines, { "read 1" })
   local both = tables.merge(how, { script = how.script .. "\n" .. other.script })
   lu.assertEquals(once.ok(both).lines, { "read 1" }) -- a source that is added
   lu.assertEquals(once.ok(other).lines, {})
   lu.assertEquals(once.ok(how, { options = { "--reset" } }).lines, { "read 1" })
   lu.assertEquals(home:value "select count(*) from pgcdc.lease", "2")
end

return TestStateDatabase
