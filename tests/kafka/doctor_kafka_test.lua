-- doctor_kafka_test.lua: --check says what mends a cluster of Kafka that lets nobody in.
-- SPDX-License-Identifier: MIT
--
-- For `make check-kafka`. As tests/cli/doctor_test.lua, with Kafka's own commands.

local certificates = require "certificates"
local files = require "files"
local kafka = require "kafka"
local lu = require "luaunit"
local mending = require "mending"
local once = require "once"
local program = require "program"
local scope = require "scope"

local TestDoctorKafka = {}

local PASSWORD = "correct-horse"

-- The login of an administrator, as Kafka's commands read it.
local ADMIN = [[
security.protocol=SASL_SSL
sasl.mechanism=PLAIN
sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
   username="admin" password="%s";
ssl.truststore.type=PEM
ssl.truststore.location=%s
]]

-- TLS, who signed the certificate, the login, its mechanism, privileges, topics: one after the
-- other; then a run has all that it needs.
function TestDoctorKafka.test_from_nothing()
   if not kafka.is_real_there() then
      return
   end
   local dir = scope.dir "run"
   local cert, key = certificates.authority(dir, "localhost") -- it has signed itself
   local cluster = kafka.new(1, { key = key, cert = cert, users = { app = PASSWORD,
      admin = PASSWORD } })
   files.write(dir .. "/admin.properties", ADMIN:format(PASSWORD, cert))
   local s = mending.setup([[create table t (id int primary key, name text);
      insert into t values (1, 'a'); grant select on t to ROLE]],
      { table = "t", brokers = cluster.secure_brokers, dead_topic = "it.is-dead" },
      { bundled = "kafka", cwd = dir, env = { KAFKA_USER = "app", KAFKA_PASSWORD = PASSWORD,
         PATH = ("%s:%s:%s"):format(kafka.commands(), program.binary():match "^(.*)/",
            os.getenv "PATH") } })
   local printed = mending.mend(s, "wrong  sink kafka: ")
   for _, text in ipairs { "certificate could not be verified", "option: ca=localhost.pem",
                           "option: user=$KAFKA_USER", "the user needs ",
                           "there is no topic 'cdc.public.t' yet",
                           "there is no topic 'it.is-dead' yet",
                           "there is no topic 'pgcdc-positions' yet",
                           "there is no topic 'pgcdc-shapes' yet" } do
      lu.assertStrContains(printed, text)
   end
   lu.assertNotStrContains(printed, PASSWORD)
   once.ok { bundled = "kafka", args = s.args, dsn = s.dsn, env = s.env, cwd = dir }
   lu.assertEquals(#cluster:read "cdc.public.t", 1)
end

return TestDoctorKafka
