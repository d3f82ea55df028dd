-- scripts_shape_test.lua: the bundled scripts mask and debezium.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local files = require "files"
local json = require "json"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"

local TestScriptsShape = {}

local db

function TestScriptsShape.setupClass()
   db = cluster.main():database { name = "scripts shape" }
   db:exec [[
      create table people (id int primary key, name text, email text, "a:b, c" text);
      insert into people values (1, 'Ada', 'ada@example.org', 'x');
      create table other (id int primary key, total numeric(12,2));
      insert into other values (1, 2)]]
end

local function run(name, args, status, ...)
   local result = program.run { bundled = name, dsn = db, options = { "--once", ... }, args = args }
   lu.assertEquals(result.status, status or 0, result.stderr)
   return result.lines, result.stderr
end

function TestScriptsShape.test_mask()
   local lines = run("mask", { table = "people", salt = "s",
      mask = [[email:sha256, name:keep2,"a:b, c":redact]] })
   lu.assertEquals(#lines, 1)
   lu.assertEquals(lines[1]:match '"row":({.-}),"xid"', ([[{"id":1,"name":"Ad***",]]
      .. [["email":"%s","a:b, c":"***"}]]):format(
      db:value "select encode(sha256('sada@example.org'), 'hex')"))
   lu.assertEquals(json.decode(lines[1]).key.id, 1)
   lines = run("mask", { table = "people", mask = "id:keep0" }, 0, "--sandbox")
   lu.assertStrContains(lines[1], '"key":{"id":"***"},"row":{"id":"***",')
end

-- A mask that is not understood, or names no column, must end the program, not pass the data.
function TestScriptsShape.test_wrong_masks()
   for mask, message in pairs {
      ["email"] = "mask=email: say COLUMN:sha256, COLUMN:redact or COLUMN:keepN",
      ["email:sha265"] = "mask=email:sha265: say", ["email:keep"] = "mask=email:keep: say",
      [":redact"] = "mask=:redact: say", ["email:redact,email:sha256"] = "the column email twice",
      [","] = "mask",
   } do
      local lines, errors = run("mask", { table = "people", mask = mask }, 2)
      lu.assertStrContains(errors, message)
      lu.assertEquals(lines, {})
   end
   local lines, errors = run("mask", { table = "people,other", mask = "email:redact" }, 3)
   lu.assertStrContains(errors, "mask: public.other has no column 'email'")
   for _, line in ipairs(lines) do
      lu.assertStrContains(line, '"email":"***"')
   end
end

function TestScriptsShape.test_debezium()
   local path = scope.dir "debezium" .. "/out.jsonl"
   lu.assertEquals(run("debezium", { table = "people,other", columns = "id", out = path }), {})
   lu.assertEquals(run("debezium", { table = "other" })[1]:match '"after":{.-}',
      '"after":{"id":1,"total":2.00}')
   local tables = {}
   for _, line in ipairs(files.lines(path)) do
      local envelope = json.decode(line)
      lu.assertEquals({ envelope.op, envelope.before, envelope.after, envelope.source.db },
         { "r", json.null, { id = 1 }, db.name })
      tables[envelope.source.table] = (tables[envelope.source.table] or 0) + 1
   end
   lu.assertEquals(tables, { people = 1, other = 1 })
end

return TestScriptsShape
