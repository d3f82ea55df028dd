-- doctor_state_test.lua: what --check says of a state in a database, and of sources with a group.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local fixtures = require "fixtures"
local json = require "json"
local kafka = require "kafka"
local lu = require "luaunit"
local mending = require "mending"
local program = require "program"
local remote_sinks = require "remote_sinks"
local tables = require "tables"

local TestDoctorState = {}

local mend = mending.mend

-- A table that can be read, and a state in another database, after this SQL, as a role of its own.
local function setup(sql)
   local s = mending.setup "create table t (id int primary key); grant select on t to ROLE"
   s.home = mending.one():database()
   s.home:exec((sql or ""):gsub("ROLE", s.role):gsub("DB", s.home.name), nil)
   s.bundled, s.script = nil, 'pgcdc.source { table = "t", interval = 0.02 }:on("change", print)'
   s.state = s.home:dsn { user = s.role }
   return s
end

-- The item of the state, with --json.
local function item(s)
   local result = mending.check(tables.merge(s, { as_json = true }))
   for _, each in ipairs(json.decode(result.stdout).items) do
      if each.kind == "state" then
         return each, result
      end
   end
   lu.fail("there is no item: " .. result.stdout)
end

-- It makes nothing; and what it would find is told.
function TestDoctorState.test_well()
   local s = setup "grant create on database DB to ROLE"
   local found = item(s)
   lu.assertEquals({ found.ok, found.text }, { true, "its tables would be made" })
   lu.assertEquals(s.home:value "select count(*) from pg_namespace where nspname = 'pgcdc'", "0")
   local p = program.start(s)
   p:wait_stderr('msg="ready"', 20)
   lu.assertStrMatches(item(s).text, ".+, pid " .. p:pid()
      .. ", is at work on the pipeline script: this one would wait")
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(item(s).text, "the pipeline script would go on")
   s.home:exec "delete from pgcdc.lease"
   lu.assertEquals(item(s).text, "the pipeline script would be made")
end

function TestDoctorState.test_no_right_to_make_tables()
   mend(setup(), "it has no tables for state yet, and")
end

local function installed()
   local s = setup()
   mending.shell(("pgcdc-lua state action=install state=dbname=%s"):format(s.home.name))
   return s
end

function TestDoctorState.test_no_rights_on_the_tables()
   mend(installed(), "may not write state there")
end

function TestDoctorState.test_tables_of_another_format()
   local s = installed()
   mending.shell(("pgcdc-lua state action=install state=dbname=%s roles=%s"):format(s.home.name,
      s.role))
   s.home:exec "comment on table pgcdc.lease is 'pgcdc-lua state, format 0'"
   mend(s, "its tables have format 0")
   s.home:exec "comment on table pgcdc.lease is 'pgcdc-lua state, format 999'"
   local found, result = item(s)
   lu.assertEquals({ found.ok, found.mends, result.status }, { false, {}, 3 })
   lu.assertStrContains(found.text, "format 999, and this pgcdc-lua knows 1: use a newer one")
end

function TestDoctorState.test_a_database_that_is_not_there()
   local s = setup "grant create on database DB to ROLE"
   s.state = s.state:gsub(s.home.name, "not_yet", 1)
   local text = mend(s, 'database "not_yet" does not exist')
   lu.assertStrContains(text, "GRANT CREATE ON DATABASE not_yet TO ")
   mending.one():exec "drop database not_yet with (force)"
end

function TestDoctorState.test_an_encoding()
   local s = setup()
   local plain = mending.one():database {
      sql = "encoding 'LATIN1' template template0 locale 'C'" }
   s.state = plain:dsn { user = s.role }
   local found, result = item(s)
   lu.assertEquals({ found.ok, found.mends, result.status }, { false, {}, 3 })
   lu.assertStrContains(found.text, "its encoding is LATIN1")
end

-- ---- sources with a group ----

local test = remote_sinks.tests(TestDoctorState, kafka.is_there, function()
   local mock = kafka.mock()
   mock:tell "topic cdc.public.orders 3"
   mock:tell "topic two 2"
   return mock
end)

local function group(mock, topic, more)
   return { args = { topic = topic or "cdc.public.orders" },
            state = cluster.main():database():dsn(), script = ([[
      local o = pgcdc.options { topic = pgcdc.required }
      pgcdc.source { kafka = %q, topic = o.topic, group = "enrich" }:on("change", print)
      %s]]):format(mock.brokers, more or "") }
end

test("a_group_is_well", function(mock)
   local s = group(mock)
   local found, result = item(s)
   lu.assertEquals({ found.text, result.status, result.stderr },
      { "each partition has a pipeline there: script/0 and so on", 0, "" })
   lu.assertEquals(mending.check(s).stdout, "ok     source cdc.public.orders: 3 partitions of "
      .. "cdc.public.orders, for the workers of the group 'enrich'\n")
end)

test("a_group_with_its_state_in_a_file", function(mock)
   local found, result = item(tables.merge(group(mock), { state = fixtures.state() }))
   lu.assertEquals({ found.ok, found.mends, result.status }, { false, {}, 3 })
   lu.assertEquals(found.text, "a source with a group needs its state in a database, that every "
      .. "worker can reach: name one with --state")
end)

-- What a run would refuse.
test("a_group_that_cannot_be", function(mock)
   local result = mending.check(group(mock, nil,
      ('pgcdc.source { kafka = %q, topic = "two", group = "enrich" }:on("change", print)'):format(
         mock.brokers)))
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrContains(result.stdout, "wrong  source cdc.public.orders: kafka: topic 'two' has 2 "
      .. "partitions, and 'cdc.public.orders' 3")
end)

test("brokers_that_are_away", function(mock)
   local s = group(mock)
   s.script = s.script:gsub(mock.brokers:gsub("%p", "%%%0"), "127.0.0.1:1")
   local result = mending.check(s)
   lu.assertEquals(result.status, 3, result.stderr)
   lu.assertStrContains(result.stdout, "wrong  source cdc.public.orders: kafka: 127.0.0.1:1 does "
      .. "not answer")
end)

return TestDoctorState
