-- operators_envelope_test.lua: changes as Debezium and CloudEvents write them.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local json = require "json"
local lu = require "luaunit"
local program = require "program"

local TestOperatorsEnvelope = {}

local db

function TestOperatorsEnvelope.setupClass()
   db = cluster.main():database { name = "envelope é/%" }
   db:exec [[
      create schema "a b"; create table "a b"."t/ü" (id int primary key, n numeric, doc jsonb);
      insert into "a b"."t/ü" values
         (1, 1234567890123456789012345678901234567890.1234567890, '{"b": 1.50, "a": null}'),
         (2, null, null)]]
end

local function run(script)
   local result = program.run { dsn = db, options = { "--once" }, state = false, script = [[
      local t = pgcdc.source {table = {"a b", "t/ü"}, name = "mine"}
      local function encode(x) print(pgcdc.json.encode(x)) end
   ]] .. script }
   lu.assertEquals(result.status, 0, result.stderr)
   return result.lines
end

-- Milliseconds since 1970 of an instant, by the server.
local function ms_of(ts)
   return math.tointeger(db:value(("select (extract(epoch from '%s'::timestamptz) * 1000)::bigint")
      :format(ts)))
end

-- The members, and the row with all its digits.
function TestOperatorsEnvelope.test_debezium()
   local lines = run "t:debezium():sink(encode) t:sink(print)"
   local change = json.decode(lines[2])
   local envelope = json.decode(lines[1])
   lu.assertEquals(json.keys(envelope), { "after", "before", "op", "source", "ts_ms" })
   lu.assertEquals(lines[1]:match '^{"after":(.*),"before":null,"op":"r","source":{',
      [[{"id":1,"n":1234567890123456789012345678901234567890.1234567890,]]
         .. [["doc":{"a": null, "b": 1.50}}]])
   lu.assertEquals(envelope.ts_ms, ms_of(change.ts))
   lu.assertEquals(envelope.source, {
      version = envelope.source.version, connector = "pgcdc-lua", name = "mine",
      db = db.name, schema = "a b", table = "t/ü", txId = change.xid, ts_ms = envelope.ts_ms,
      snapshot = "true", sequence = tostring(change.seq),
   })
   lu.assertStrMatches(envelope.source.version, "%d+%.%d+%.%d+")
   lu.assertEquals(#lines, 4)
end

-- Every op has its letter; times of all sorts are the server's milliseconds.
function TestOperatorsEnvelope.test_debezium_of_ops_and_times()
   local times = {
      "1970-01-01T00:00:00.000Z", "1999-12-31T23:59:59.999Z", "2000-02-29T12:00:00.5Z",
      "2100-03-01T00:00:00Z", "2024-02-29T23:00:00.123Z", "2023-03-01T00:00:00.001Z",
      "1969-12-31T23:59:59.999Z", "2026-11-23T05:04:57.057Z",
   }
   local lines = run(([[
      local first = true
      t:filter(function(c) return c.key.id == 1 end):sink(function(c)
         local s = pgcdc.stream {}
         s:debezium():sink(encode)
         for op in ("insert update upsert delete read"):gmatch "%%a+" do
            c.op = op
            c.old = op == "update" and {id = 1} or nil
            s:emit(c)
         end
         for _, ts in ipairs {%s} do
            c.ts = ts
            s:emit(c)
         end
         c.op = "truncate"
         print(pcall(s.emit, s, c))
         print(pcall(s.emit, s, "text"))
         print(select(2, pcall(s.debezium, s, 1)))
      end)]]):format('"' .. table.concat(times, '","') .. '"'))
   local ops = {}
   for i = 1, 5 do
      local envelope = json.decode(lines[i])
      ops[i] = envelope.op .. " " .. envelope.source.snapshot
      lu.assertEquals(envelope.before, i == 2 and { id = 1 } or json.null)
   end
   lu.assertEquals(ops, { "c false", "u false", "u false", "d false", "r true" })
   for i, ts in ipairs(times) do
      lu.assertEquals(json.decode(lines[5 + i]).ts_ms, ms_of(ts), ts)
   end
   lu.assertStrContains(lines[14], "false\t")
   lu.assertStrContains(lines[14], "debezium: there is no code for the op 'truncate'")
   lu.assertStrContains(lines[15],
      "debezium: takes changes and tables with named fields, not a string")
end

-- The required attributes, a source that is a URI reference, and the change as it is.
function TestOperatorsEnvelope.test_cloudevents()
   local lines = run [[
      t:cloudevents():sink(encode)
      t:sink(print)
      local s = pgcdc.stream {}
      s:cloudevents()
      print(select(2, pcall(s.emit, s, "x")))]]
   table.remove(lines, 1)
   local change = json.decode(lines[2])
   local event = json.decode(lines[1])
   lu.assertEquals(json.keys(event), { "data", "datacontenttype", "id", "sequence", "source",
      "specversion", "time", "type" })
   lu.assertEquals(lines[1]:match '^{"data":(.*),"datacontenttype":"application/json"', lines[2])
   local database = "envelope%20%C3%A9%2F%25" .. db.name:match "_%d+$"
   lu.assertEquals({ event.id, event.source, event.specversion, event.time, event.type },
      { change.id, "/" .. database .. "/a%20b/t%2F%C3%BC", "1.0", change.ts, "pgcdc.read" })
end

-- What was shaped before is what is enveloped: nothing that was dropped or masked is in it.
function TestOperatorsEnvelope.test_shaped_changes()
   local lines = run [[
      local shaped = t:filter(function(c) return c.key.id == 1 end)
         :mask {id = "redact"}:drop {"doc"}:rename {n = "amount"}
      shaped:debezium():sink(encode)
      shaped:cloudevents():sink(encode)]]
   lu.assertStrContains(lines[1], [[{"after":{"id":"***",]]
      .. [["amount":1234567890123456789012345678901234567890.1234567890},"before":null]])
   lu.assertStrContains(lines[2], [["key":{"id":"***"},"row":{"id":"***","amount":]])
   lu.assertEquals(#lines, 2)
end

return TestOperatorsEnvelope
