-- kafka_secure_test.lua: pgcdc.sinks.kafka and a cluster that lets not everybody do everything.
-- SPDX-License-Identifier: MIT
--
-- For `make check-kafka`. The user `writer` has what the manual says that he needs, and no more.

local certificates = require "certificates"
local files = require "files"
local fixtures = require "fixtures"
local kafka = require "kafka"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local scope = require "scope"

local TestKafkaSecure = {}

local TOPIC = "cdc.public.t"
local PASSWORD = "correct-horse"
local WRITING = "the user needs WRITE and DESCRIBE on the "

-- What a user needs; and what is said to one who has all but that. (DESCRIBE is a part of READ and
-- of WRITE.)
local NEEDED = {
   ["topic,cdc.*,WRITE"] = WRITING .. "topic 'cdc.public.t'",
   ["topic,pgcdc-shapes,WRITE"] =
      "'pgcdc-shapes' is not there, or the user may not see it, who needs WRITE and DESCRIBE on it",
   ["topic,pgcdc-positions,READ"] =
      "'pgcdc-positions' is not there, or the user may not see it, who needs READ on it",
   ["transactional_id,pgcdc.*,WRITE"] = WRITING .. "transactional id 'pgcdc.s",
   ["group,pgcdc.*,READ"] = "the user needs READ on the group 'pgcdc.s",
}

local cluster, made

function TestKafkaSecure.setupClass()
   if not os.getenv "PGCDC_KAFKA" then
      return
   end
   made = certificates.localhost()
   local users = { writer = PASSWORD, nobody = PASSWORD }
   local commands = { "topic,pgcdc-positions,1", "topic,pgcdc-shapes,1", "topic," .. TOPIC .. ",3" }
   for privilege in pairs(NEEDED) do
      local lacking = "without_" .. privilege:gsub("[^%w]", "_")
      users[lacking] = PASSWORD
      commands[#commands + 1] = "allow,writer," .. privilege
      for other in pairs(NEEDED) do
         commands[#commands + 1] = other ~= privilege and ("allow,%s,%s"):format(lacking, other)
            or nil
      end
   end
   cluster = kafka.new(1, { key = made.key, cert = made.cert, users = users })
   cluster:admin(table.unpack(commands))
end

local function test(name, f)
   TestKafkaSecure["test_" .. name] = function()
      if kafka.is_real_there() then
         f()
      end
   end
end

local serial = 0

-- The options of a sink for a user. (PLAIN, since an old librdkafka and a new Kafka do not
-- understand each other's SCRAM.)
local function login(user)
   return ([[user = %q, password = %q, tls = {ca = %q},
      config = {["sasl.mechanisms"] = "PLAIN"},]]):format(user, PASSWORD, made.ca)
end

-- How to run a script whose sink has these options, and a name of its own. <who>: see login.
local function how(options, who)
   serial = serial + 1
   return { dsn = fixtures.names(3), state = fixtures.state(), script = ([[
      pgcdc.source {table = "t"}:sink(pgcdc.sinks.kafka {brokers = %q, name = "s%d", timeout = 10,
         %s %s})]]):format(cluster.secure_brokers, serial, who or login "writer", options) }
end

local function count(topic)
   return #cluster:read(topic)
end

test("what_the_manual_says_is_enough", function()
   local before = count(TOPIC)
   local run = how ""
   once.ok(run)
   lu.assertEquals(count(TOPIC), before + 3)
   run.state = fixtures.state() -- the position is in the group
   once.ok(run)
   lu.assertEquals(count(TOPIC), before + 3)
   once.ok(how "exact = false")
   lu.assertEquals(count(TOPIC), before + 6)
end)

test("a_password_in_a_file", function()
   local dir = scope.dir "credentials"
   files.write(dir .. "/kafka", PASSWORD .. "\n")
   local run = how("", ([[user = "writer", password = "$CREDENTIALS_DIRECTORY/kafka",
      tls = {ca = %q}, config = {["sasl.mechanisms"] = "PLAIN"},]]):format(made.ca))
   run.env = { CREDENTIALS_DIRECTORY = dir }
   once.ok(run)
end)

test("scram", function()
   local run = how("", ([[user = "writer", password = %q, tls = {ca = %q},]]):format(PASSWORD,
      made.ca))
   local version = program.run({ options = { "--version" } }).stdout:match "librdkafka ([%d.]+)"
   local major, minor, patch = version:match "(%d+)%.(%d+)%.(%d+)"
   if major * 10000 + minor * 100 + patch >= 20601 then
      once.ok(run)
   else
      lu.assertStrContains(once.ends(3, run).text, "takes SCRAM of librdkafka from 2.6.1 on only")
   end
end)

-- ---- who does not get in ----

local function refused(run, ...)
   local result = once.ends(3, run)
   for _, text in ipairs { ... } do
      lu.assertStrContains(result.text, text)
   end
   lu.assertNotStrContains(result.text, PASSWORD)
   lu.assertEquals(select(2, result.stderr:gsub("level=error", "")), 1)
end

-- The same of --check.
local function check_refused(run, ...)
   refused(run, ...)
   local check = program.run { dsn = run.dsn, state = fixtures.state(), script = run.script,
                               options = { "--check" } }
   lu.assertEquals(check.status, 3, check.stderr)
end

test("a_wrong_password", function()
   for _, mechanism in ipairs { "SCRAM-SHA-512", "PLAIN" } do
      check_refused(how("", ([[user = "writer", password = "wrong", tls = {ca = %q},
         config = {["sasl.mechanisms"] = %q},]]):format(made.ca, mechanism)),
         "uthentication failed")
   end
end)

test("another_authority", function()
   check_refused(how("", ([[user = "writer", password = %q, tls = {ca = %q},]]):format(
      PASSWORD, made.other)), "certificate verify failed")
end)

test("another_name_than_that_of_the_certificate", function()
   local run = how ""
   run.script = run.script:gsub("localhost:", "127.0.0.1:")
   refused(run, "certificate verify failed")
end)

test("a_server_that_wants_another_mechanism", function()
   refused(how("", ([[user = "writer", password = %q, tls = {ca = %q},
      config = {["sasl.mechanisms"] = "SCRAM-SHA-256"},]]):format(PASSWORD, made.ca)),
      "SCRAM-SHA-256")
end)

-- ---- what is not allowed ----

test("each_privilege_is_needed", function()
   local before = count(TOPIC)
   for privilege, text in pairs(NEEDED) do
      refused(how("", login("without_" .. privilege:gsub("[^%w]", "_"))), text)
   end
   lu.assertEquals(count(TOPIC), before)
end)

test("nobody_may_do_nothing", function()
   refused(how("", login "nobody"), "the user needs")
end)

test("a_topic_that_is_not_there", function()
   local run = how 'topic = "cdc.elsewhere"'
   run.script = run.script:gsub("timeout = 10", "timeout = 4")
   refused(run,
      "the topic 'cdc.elsewhere' is not there, and Kafka does not make it: create it")
end)

test("a_topic_of_positions_that_may_not_be_made", function()
   refused(how 'positions = "elsewhere"', "the topic 'elsewhere' is not there",
      "create it, with one partition, or let the user create it")
end)

return TestKafkaSecure
