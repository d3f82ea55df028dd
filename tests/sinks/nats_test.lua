-- nats_test.lua: pgcdc.sinks.nats against a real server: what it publishes, whatever happens.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local nats = require "nats"
local once = require "once"
local program = require "program"
local remote_sinks = require "remote_sinks"
local scope = require "scope"
local tables = require "tables"
local wait = require "wait"

local TestNats = {}

local test, script, ids = nats.tests(TestNats), nats.script, remote_sinks.ids

-- What is published comes in the order of the table. Waits until there are so many.
local function await(server, count)
   wait.until_(function()
      return #server:messages "CDC" >= count
   end, 20, count .. " messages")
end

-- ---- what a message is ----

test("a_stream", function(server)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   once.ok(how)
   local messages = server:messages "CDC"
   lu.assertEquals(#messages, 3)
   for i, message in ipairs(messages) do
      local change, h = json.decode(message.data), message.headers
      lu.assertEquals(message.subject, "cdc.public.t")
      lu.assertEquals({ h.op, change.op, change.row.id, change.id, tostring(change.seq), h.id },
         { "read", "read", i, h["Nats-Msg-Id"], h.seq, change.id })
      lu.assertEquals({ h.schema, h.table, h.ts }, { "public", "t", change.ts })
   end
   db:exec "update t set name = 'x' where id = 2"
   once.ok(how)
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3 2")
   once.ok(how)
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3 2")
end)

test("subjects_formats_and_headers", function(server)
   local db = fixtures.database [[create table "a.b c" (id int primary key, "K" text);
      insert into "a.b c" values (1, 'x.y*'), (2, 'Ä'), (3, null)]]
   once.ok { dsn = db, script = ([[
      local t = pgcdc.source {table = '"a.b c"'}
      local function sink(name, fields)
         fields.servers, fields.stream, fields.name = %q, "CDC", name
         t:sink(pgcdc.sinks.nats(fields))
      end
      sink("one", {subject = "cdc.{table}.{row.K}.{op}", headers = {v = "{row.K}!", n = "{name}"}})
      sink("two", {subject = function(c) return c.row.id < 3 and "cdc.f" or nil end,
                   headers = false,
                   format = function(c) return c.row.id ~= 2 and "row " .. c.row.id or nil end})
      sink("six", {subject = "cdc.six", format = "cloudevents"})]]):format(server:url()) }
   local subjects, found = {}, {}
   for i, message in ipairs(server:messages "CDC") do
      subjects[i] = message.subject
      found[message.subject] = message
   end
   table.sort(subjects)
   lu.assertEquals(subjects, { "cdc.a%2Eb%20c.%C3%84.read", "cdc.a%2Eb%20c.null.read",
      "cdc.a%2Eb%20c.x%2Ey%2A.read", "cdc.f", "cdc.six", "cdc.six", "cdc.six" })
   local headers = found["cdc.a%2Eb%20c.x%2Ey%2A.read"].headers
   lu.assertEquals({ headers.v, headers.n, headers.op }, { "x.y*!", "one" })
   lu.assertEquals({ found["cdc.f"].data, found["cdc.f"].headers.op }, { "row 1" })
   lu.assertStrContains(found["cdc.six"].data, '"specversion":"1.0"')
end)

-- Several messages of one change have ids of their own.
test("copies_of_a_change", function(server)
   local db = fixtures.names(2)
   once.ok { dsn = db, script = ([[
      local t = pgcdc.source {table = "t"}
      t:map(function(c) return {c, c, c} end):flatten():sink(pgcdc.sinks.nats {servers = %q,
         stream = "CDC"})]]):format(server:url()) }
   local messages = server:messages "CDC"
   lu.assertEquals(ids(messages), "1 1 1 2 2 2")
   local id = messages[1].headers.id
   lu.assertEquals({ messages[1].headers["Nats-Msg-Id"], messages[2].headers["Nats-Msg-Id"],
      messages[3].headers["Nats-Msg-Id"] }, { id, id .. "/2", id .. "/3" })
end)

test("values_that_are_no_changes", function(server)
   once.ok { state = false, script = ([[
      local s = pgcdc.sinks.nats {servers = %q, stream = "CDC", subject = "cdc.v"}
      for i = 1, 50 do s:write {v = i} end]]):format(server:url()) }
   local messages = server:messages "CDC"
   lu.assertEquals(#messages, 50)
   for i, message in ipairs(messages) do
      lu.assertEquals({ json.decode(message.data).v, message.headers["Nats-Msg-Id"] }, { i })
   end
end)

-- Of the positions few are kept; a batch is many flushes where it is big.
test("many_flushes_of_one_poll", function(server)
   local db = fixtures.names(4000)
   once.ok { dsn = db, script = script(server, "flush_rows = 25, window = 7") }
   lu.assertEquals(#server:messages "CDC", 4000)
   local positions = server:messages("CDC", "cdc._pgcdc.nats")
   lu.assertTrue(#positions >= 64 and #positions < 130, #positions)
   lu.assertTrue(json.decode(positions[#positions].data).serial >= 140)
end)

-- With a state in a database messages say what is to be stored before them, which is not so where
-- others write to the stream; and where a message is there already.
test("a_stream_that_others_write_to", function(server)
   local db, home = fixtures.names(300), cluster.main():database()
   local function sink(name)
      return ([[t:sink(pgcdc.sinks.nats {servers = %q, stream = "CDC", name = %q,
         subject = "cdc.%s", flush_rows = 10, window = 50})]]):format(server:url(), name, name)
   end
   local p = program.start { dsn = db, state = home:dsn(), script = ([[
      local t = pgcdc.source {table = "t", interval = 0.02}
      %s %s]]):format(sink "one", sink "two") }
   wait.until_(function()
      return server:api("STREAM.INFO.CDC").state.messages > 100
   end, 60, "messages")
   for i = 1, 100 do
      server:call("cdc.else", tostring(i))
   end
   p:wait_stderr('msg="ready"', 30)
   local expected = {}
   for i = 1, 300 do
      expected[i] = tostring(i)
   end
   for round = 0, 8 do
      table.sort(expected)
      for _, name in ipairs { "one", "two" } do
         wait.until_(function()
            return #server:messages("CDC", "cdc." .. name) >= 300 + 3 * round
         end, 60, "what is in the table")
         local found = {}
         for id in ids(server:messages("CDC", "cdc." .. name)):gmatch "%d+" do
            found[#found + 1] = id
         end
         table.sort(found) -- in the order of each row
         lu.assertEquals(table.concat(found, " "), table.concat(expected, " "))
      end
      server:call("cdc.else", "once more")
      db:exec "update t set name = 'x' where id <= 3"
      expected = tables.join(expected, { "1", "2", "3" })
   end
   lu.assertEquals(p:stop().status, 0)
end, { subjects = { "cdc.>" } })

test("a_big_batch", function(server)
   local db = fixtures.names(40, "repeat(chr(64 + i % 20), 900000)")
   once.ok { dsn = db, script = script(server) }
   local count = 0
   for i, message in ipairs(server:messages "CDC") do
      local row = json.decode(message.data).row
      lu.assertEquals({ row.id, #row.name, row.name:byte() }, { i, 900000, 64 + i % 20 })
      count = i
   end
   lu.assertEquals(count, 40)
end)

-- ---- positions ----

test("two_programs_of_one_name", function(server)
   remote_sinks.check_take_over("nats", script(server), function()
      return #server:messages "CDC"
   end, function()
      return #server:messages("CDC", "cdc._pgcdc.nats") >= 2
   end)
end)

test("a_state_file_that_is_lost", function(server)
   remote_sinks.check_lost_state(script(server), function()
      return server:messages "CDC"
   end)
end)

-- What a killed program has done of a flush is passed over, long after the server forgot the ids;
-- and its savepoint, which comes when the next program is at work, counts no more.
test("a_late_savepoint", function(server)
   local port = assert(native.free_port())
   local proxy = assert(native.proxy { listen = port, target = server.port })
   scope.add(function() proxy:close() end)
   local db, state = fixtures.names(3), fixtures.state()
   local function how(address)
      return { dsn = db, state = state, script = script(address) }
   end
   once.ok(how(server))
   db:exec "update t set name = 'x'"
   local dying = program.start(how("nats://127.0.0.1:" .. port))
   local before = server:messages("CDC", "cdc._pgcdc.nats")
   proxy:fault("stall", "up", ('"serial":%d'):format(json.decode(before[#before].data).serial + 1))
   wait.until_(function() return proxy:stats().faults > 0 end, 20, "the savepoint, held")
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3 1 2 3")
   dying:kill9()
   db:exec "update t set name = 'y' where id = 2"
   once.ok(how(server))
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3 1 2 3 2")
   local positions = #server:messages("CDC", "cdc._pgcdc.nats")
   proxy:heal()
   wait.until_(function() return proxy:stats().open == 0 end, 20, "the end of what was held")
   lu.assertEquals(#server:messages("CDC", "cdc._pgcdc.nats"), positions)
   once.ok(how(server))
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3 1 2 3 2")
end, { duplicate_window = 100 * 1000000 })

-- A stream drops what is old, and with it perhaps the position.
test("a_stream_that_was_purged", function(server)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   once.ok(how)
   server:api "STREAM.PURGE.CDC"
   db:exec "insert into t values (4, 'n4')"
   local result = once.run(how)
   lu.assertStrContains(result.stderr, "the target has forgotten its position: going on from")
   lu.assertEquals(ids(server:messages "CDC"), "4")
   local p = program.start(how)
   p:wait_stderr 'msg="ready"'
   server:api "STREAM.PURGE.CDC"
   server:kill()
   server:start()
   db:exec "insert into t values (5, 'n5')"
   await(server, 1)
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(ids(server:messages "CDC"), "5")
end)

-- One that was made anew never had our position: the rows are for it, too.
test("a_stream_that_was_made_anew", function(server)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   once.ok(how)
   server:api "STREAM.DELETE.CDC"
   server:stream("CDC", {})
   local result = once.run(how)
   lu.assertStrContains(result.stderr, "reading the tables again")
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3")
   local p = program.start(how)
   p:wait_stderr 'msg="ready"'
   server:api "STREAM.DELETE.CDC"
   server:stream("CDC", {})
   db:exec "insert into t values (4, 'n4')"
   result = p:finish()
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "the target went back, or was emptied")
end)

-- The server knows ids of messages that are gone, and of those of other sinks: they are no
-- duplicates.
test("ids_that_the_server_knows_already", function(server)
   local db, state = fixtures.names(300), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   once.ok(how)
   for _ = 1, 2 do
      server:api "STREAM.PURGE.CDC"
      once.ok(how, { options = { "--reset" } })
      lu.assertEquals(#server:messages "CDC", 300)
   end
   once.ok(how, { options = { "--reset" } })
   local messages = server:messages "CDC"
   lu.assertEquals(#messages, 300)
   lu.assertEquals({ messages[1].headers.id, json.decode(messages[300].data).row.id },
      { messages[1].headers["Pgcdc-Id"], 300 })
   once.ok { dsn = db, script = script(server, 'subject = "cdc.other", name = "other"') }
   lu.assertEquals(#server:messages("CDC", "cdc.other"), 300)
end)

-- ---- trouble ----

test("a_stream_that_is_full_is_waited_for", function(server)
   local db = fixtures.names(50)
   local p = program.start { dsn = db, script = script(server) }
   p:wait_stderr "maximum messages exceeded"
   local config = server:api "STREAM.INFO.CDC".config
   config.max_msgs = -1
   server:api("STREAM.UPDATE.CDC", config)
   await(server, 50)
   lu.assertEquals(p:stop().status, 0)
   local seen = {}
   for _, message in ipairs(server:messages "CDC") do
      local id = json.decode(message.data).row.id
      lu.assertNil(seen[id])
      seen[id] = true
   end
   lu.assertEquals(#seen, 50)
end, { max_msgs = 20, discard = "new", duplicate_window = 100 * 1000000 })

-- A record that can never go is one change's fault.
test("what_is_too_large", function(server)
   server:stream("SMALL", { subjects = { "small.>" }, max_msg_size = 3000 })
   local db = fixtures.database [[create table t (id int primary key, name text);
      insert into t select i, repeat('x', case when i in (3, 5) then 2000000 when i = 6 then 4000
         else 1 end) from generate_series(1, 7) i]]
   local result = once.ends(1, { dsn = db, script = script(server, 'name = "a"') })
   lu.assertStrMatches(result.text,
      ".*nats a: the message has 2000%d%d%d bytes, and the server takes 1048576 %(max_payload%).*")
   once.run { dsn = db, script = script(server, 'name = "b"', 'on_error = "skip"') }
   lu.assertEquals(ids(server:messages "CDC"), "1 2 4 6 7") -- a's are there already
   local letters = scope.dir "dead" .. "/letters.jsonl"
   once.run { dsn = db, script = script(server,
      'name = "c", stream = "SMALL", subject = "small.{table}"', ([[on_error = "dead_letter",
         dead_letter = pgcdc.sinks.jsonl {path = %q}]]):format(letters)) }
   lu.assertEquals(ids(server:messages "SMALL"), "1 2 4 7")
   local dead = files.lines(letters)
   lu.assertEquals(#dead, 3)
   lu.assertStrContains(dead[1] .. dead[2] .. dead[3], "message size exceeds maximum allowed")
end)

test("a_subject_that_the_stream_has_not", function(server)
   local db = fixtures.names(3)
   local how = { dsn = db, script = script(server,
      'subject = function(c) return c.row.id == 2 and "other.x" or "cdc.x" end') }
   local result = once.ends(1, how)
   lu.assertStrContains(result.text, "the stream 'CDC' has the subjects cdc.>, and not 'other.x'")
   for name, problem in pairs { ["cdc.a b"] = "has a space", ["cdc.*"] = "has a * or >",
                                ["cdc..x"] = "has an empty word", ["cdc._pgcdc.nats"] =
                                "is that of the positions" } do
      result = once.ends(1, { dsn = db, script = script(server,
         ("subject = function() return %q end"):format(name)) })
      lu.assertStrContains(result.text, ("the subject '%s' %s"):format(name, problem))
   end
end)

-- The answer to a message is lost, or the message: each is there once.
test("an_answer_that_is_lost", function(server)
   local port = assert(native.free_port())
   local proxy = assert(native.proxy { listen = port, target = server.port })
   scope.add(function() proxy:close() end)
   local db = fixtures.names(20)
   local p = program.start { dsn = db, script = script("nats://127.0.0.1:" .. port,
      "timeout = 0.5") }
   p:wait_stderr 'msg="ready"'
   local count = 20
   for i, fault in ipairs { { "fin", "down", '"seq"' }, { "rst", "up", "public.t" },
                            { "swallow", "down", '"seq"' }, { "stall", "up", "_pgcdc" },
                            { "fin", "answer", "_pgcdc" }, { "swallow", "up", "public.t" } } do
      await(server, count)
      proxy:fault(table.unpack(fault))
      db:exec("update t set name = 'x" .. i .. "'")
      count = count + 20
      wait.until_(function() return proxy:stats().faults > 0 end, 10, "the fault")
      await(server, count)
      proxy:heal()
   end
   db:exec "insert into t values (1000, 'end')"
   await(server, count + 1)
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(#server:messages "CDC", count + 1)
   local seen = {}
   for _, message in ipairs(server:messages "CDC") do
      lu.assertNil(seen[message.headers.id])
      seen[message.headers.id] = true
   end
end, { duplicate_window = 100 * 1000000 })

test("a_stop_while_the_server_is_away", function(server)
   local db, state = fixtures.names(3), fixtures.state()
   local how = { dsn = db, state = state, script = script(server) }
   local p = program.start(how)
   await(server, 3)
   server:kill()
   db:exec "insert into t values (4, 'n4')"
   p:wait_stderr "cannot connect"
   lu.assertEquals(p:stop().status, 0)
   server:start()
   once.ok(how)
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3 4")
end)

test("a_server_that_says_nothing", function(server)
   local db = fixtures.names(3)
   server.proc:kill "STOP"
   local p = program.start { dsn = db, script = script(server, "timeout = 0.2") }
   p:wait_stderr(server:url() .. ": cannot connect: ")
   server.proc:kill "CONT"
   await(server, 3)
   lu.assertEquals(p:stop().status, 0)
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3")
end)

test("of_several_servers_one_that_answers", function(server)
   local db = fixtures.names(3)
   once.ok { dsn = db, script = script(("nats://127.0.0.1:%d,%s"):format(
      assert(native.free_port()), server:url())) }
   lu.assertEquals(ids(server:messages "CDC"), "1 2 3")
end)

-- ---- streams ----

test("a_stream_that_is_not_there", function(server)
   local db = fixtures.names(3)
   local result = once.ends(1, { dsn = db, script = script(server) })
   lu.assertStrContains(result.text, "there is no stream 'CDC' at " .. server:url()
      .. ": make it, or say create = {}")
   local how = { dsn = db, script = script(server,
      'create = {max_age = 3600, max_bytes = "10M", duplicates = 600}, subject = "db.{table}"') }
   result = program.run { dsn = db, script = how.script, options = { "--check" } }
   lu.assertStrContains(result.stdout, "; the stream 'CDC' will be made")
   once.ok(how)
   local config = server:api "STREAM.INFO.CDC".config
   lu.assertEquals({ config.subjects, config.max_age, config.max_bytes, config.duplicate_window,
      config.retention, config.storage }, { { "db.>" }, 3600000000000, 10485760, 600000000000,
      "limits", "file" })
   lu.assertEquals(#server:messages("CDC", "db._pgcdc.nats"), 2)
   lu.assertEquals(#server:messages "CDC", 3)
end, false)

test("streams_of_another_kind", function(server)
   local db = fixtures.names(3)
   server:stream("CDC", {})
   server:stream("W", { subjects = { "w.>" }, retention = "workqueue" })
   server:stream("N", { subjects = { "n.>" }, no_ack = true })
   server:stream("M", { mirror = { name = "CDC" } })
   server:stream("S", { subjects = { "s.t" } })
   for name, problem in pairs { W = "has the retention 'workqueue', by which", N = "has no_ack",
                                M = "is a mirror",
                                S = "has the subjects s.t, and not s._pgcdc.nats" } do
      local options = ('stream = "%s", subject = "%s.{table}"'):format(name, name:lower())
      local result = once.ends(1, { dsn = db, script = script(server, options) })
      lu.assertStrContains(result.text, ("nats: the stream '%s' %s"):format(name, problem))
   end
   server:stream("P", { subjects = { "p.t", "pos" } })
   once.ok { dsn = db, script = script(server,
      'stream = "P", subject = "p.{table}", positions = "pos"') }
   lu.assertEquals(#server:messages("P", "p.t"), 3)
end, false)

test("no_jetstream", function(server)
   server:kill()
   local config = files.read(server.dir .. "/conf"):gsub("jetstream[^\n]*", "")
   files.write(server.dir .. "/conf", config)
   server:start()
   local p = program.start { dsn = fixtures.names(3), script = script(server) }
   p:wait_stderr "no JetStream answers at nats://127.0.0.1:%d+ %(no responders%)"
   p:kill9()
end)

test("check", function(server)
   local db = fixtures.names(3)
   local function check(options)
      return program.run { dsn = db, script = script(server, options), options = { "--check" } }
   end
   local result = check ""
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stdout,
      ("\nok     sink nats: nats at %s, stream 'CDC' with 0 messages\n"):format(server:url()))
   lu.assertStrContains(result.stdout, "knows an id for 0.1 s only (duplicate_window)")
   lu.assertEquals(check('stream = "NONE"').status, 3)
   server:kill()
   result = check ""
   lu.assertEquals(result.status, 3)
   lu.assertStrContains(result.stderr, server:url() .. ": cannot connect: ")
end, { duplicate_window = 100 * 1000000 })

return TestNats
