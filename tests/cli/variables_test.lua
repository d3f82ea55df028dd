-- variables_test.lua: $NAME and files of credentials in connection strings.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local scope = require "scope"

local TestVariables = {}

local ODD = [[it's a \ "pass" = $word %41 @:/]]

-- A database, its server's socket folder and port, and a role with a password that is odd.
local function place()
   local db = fixtures.names(2)
   local one = cluster.main()
   local names = { db = db.name, dsn = db:dsn() }
   names.host, names.port = db:dsn():match "host='([^']+)'", db:dsn():match "port='([^']+)'"
   lu.assertNotNil(names.host, db:dsn())
   return db, names, one
end

local PRINT = "local s = pgcdc.source { table = 't', connect = %s }"
   .. " s:on('change', function(c) print(c.key.id) end)"

local function run(connect, env, more)
   more = more or {}
   more.env = env
   return once.run({ dsn = more.dsn or false, script = PRINT:format(connect) }, more)
end

local function succeed(result)
   lu.assertEquals({ result.status, result.stdout }, { 0, "1\n2\n" }, result.stderr)
end

-- In a string, in a table, as the whole string, in --dsn.
function TestVariables.test_where_they_may_stand()
   local _, at = place()
   local env = { AT_HOST = at.host, AT_PORT = at.port, AT_DB = at.db, AT_ALL = at.dsn,
                 AT_USER = at.dsn:match "user='([^']+)'" }
   succeed(run("'host=$AT_HOST port=${AT_PORT} dbname=$AT_DB user=$AT_USER'", env))
   succeed(run("{host = '$AT_HOST', port = '$AT_PORT', dbname = '${AT_DB}', user = '$AT_USER'}",
      env))
   succeed(run("'$AT_ALL'", env))
   succeed(run("nil", env, { dsn = "$AT_ALL" }))
   succeed(run("nil", env, { dsn = "host=$AT_HOST port=$AT_PORT dbname=$AT_DB user=$AT_USER" }))
   succeed(run("nil", env, { dsn = "$AT_ALL", options = { "--sandbox" } }))
end

-- A value may hold any character; nothing of it is logged, or seen by the script.
function TestVariables.test_odd_secrets()
   local _, at = place()
   local dir = scope.dir "credentials"
   files.write(dir .. "/one", ODD .. "\r\n")
   local env = { AT_ALL = at.dsn, ODD = ODD, CREDENTIALS_DIRECTORY = dir, AT_HOST = at.host,
                 AT_PORT = at.port }
   for value, expected in pairs { ["$ODD"] = ODD, ["$CREDENTIALS_DIRECTORY/one"] = ODD,
                                  ["a${ODD}b$$"] = "a" .. ODD .. "b$" } do
      local result = once.ends(0, { dsn = false, env = env, options = { "--log-level", "debug" },
         script = ([[
            local target = {host = "$AT_HOST", port = "$AT_PORT", user = "postgres",
                            dbname = "postgres", password = %q, application_name = %q}
            local sink = pgcdc.sinks.postgres {connect = target, table = "u"}
            pgcdc.source {table = "t", connect = "$AT_ALL"}:on("ready", function()
               for k, v in pairs(sink) do io.stderr:write(tostring(k), tostring(v)) end
               print(pgcdc.connect(target):query [[
                  select current_setting('application_name') as a]].."]]"..[[[1].a)
            end)]]):format(value, value) })
      lu.assertEquals(result.stdout, expected .. "\n")
      lu.assertNotStrContains(result.stderr, "word %41")
   end
end

function TestVariables.test_mistakes()
   local dir = scope.dir "credentials"
   local env = { CREDENTIALS_DIRECTORY = dir, PW = "x" }
   for value, message in pairs {
      ["$NONE"] = "password: $NONE is not set in the environment ($$ is a dollar)",
      ["${NONE}"] = "password: $NONE is not set in the environment",
      ["a$"] = "password: after a $ comes the name of a variable; $$ is a dollar",
      ["$1"] = "after a $ comes the name", ["${PW"] = "after a $ comes the name",
      ["$CREDENTIALS_DIRECTORY/none"] = "password: the credential file"
         .. " $CREDENTIALS_DIRECTORY/none cannot be read: No such file or directory",
      ["$CREDENTIALS_DIRECTORY/"] = "after a $ comes the name",
   } do
      local connect = ("'host=h password=%s'"):format(value)
      local result = run(connect, env)
      lu.assertEquals(result.status, 1)
      lu.assertStrContains(result.stderr, "script.lua:1: pgcdc.source: connect: ")
      lu.assertStrContains(result.stderr, message)
      result = run("nil", env, { dsn = "host=h password=" .. value })
      lu.assertEquals(result.status, 2)
      lu.assertStrContains(result.stderr, "--dsn: ")
      lu.assertStrContains(result.stderr, message)
   end
end

-- What a sandboxed script writes is not expanded: it could look at the environment.
function TestVariables.test_not_in_the_sandbox()
   local db = fixtures.names(1)
   local result = program.run { dsn = db, env = { SECRET = "seen" }, options = { "--sandbox",
      "--once" }, script = [[pgcdc.source {table = "t", connect = "host=/none dbname=$SECRET"}]] }
   lu.assertNotStrContains(result.stderr, "seen")
   lu.assertNotEquals(result.status, 0)
end

return TestVariables
