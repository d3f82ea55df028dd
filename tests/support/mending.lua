-- mending.lua: runs what --check prints as mends, until it is well and has nothing more to say.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local files = require "files"
local lu = require "luaunit"
local program = require "program"
local server = require "server"
local tables = require "tables"

local mending = {}

local MOST_ROUNDS = 8

-- One server for all: what is wrong with its settings is mended, too.
local shared

function mending.one()
   shared = shared or cluster.new { name = "doctor", tcp = true, keep = true, conf = {
      wal_level = "replica", max_replication_slots = "1" } }
   return shared
end

-- ---- running what was printed ----

-- Runs a command where the program is in the path, and psql reaches the server. `env`: further
-- variables, or nil; `cwd`: where, or nil.
function mending.shell(command, env, cwd)
   local argv = { "env", "PGHOST=" .. server.socket_dir(), "PGPORT=" .. mending.one().port,
                  "PGUSER=postgres",
                  "PATH=" .. program.binary():match "^(.*)/" .. ":" .. os.getenv "PATH" }
   for name, value in pairs(env or {}) do
      argv[#argv + 1] = name .. "=" .. value
   end
   command = (cwd and "cd '" .. cwd .. "' && " or "") .. command
   table.move({ "sh", "-c", command }, 1, 3, #argv + 1, argv)
   server.run(argv, { user = false })
end

-- Runs one line, and what the server needs then.
local function run_line(line, setup)
   local how, text = line:match "^(.-): (.*)$"
   local kind, after = how:match "^(.-), then (%l+)$"
   kind = kind or how
   local database = kind:match "^SQL in (.*)$"
   local name, value = text:match "^([%w_]+)=(.*)$"
   if kind == "nats-server.conf" then
      return setup.nats:configure(text, after)
   elseif database then
      mending.one():connect(database):exec(text)
   elseif kind == "shell" then
      mending.shell(text, setup.env, setup.cwd)
   elseif kind == "option" and name then
      setup.args[name] = value
   elseif kind == "pg_hba.conf" then
      mending.one():hba(text .. "\n" .. files.read(mending.one().data .. "/pg_hba.conf"))
   else
      lu.fail("nobody can run this: " .. line)
   end
   if after == "restart" then
      mending.one():restart()
   elseif after then
      mending.one():reload()
   end
end

function mending.check(setup)
   return program.run { bundled = setup.bundled or "jsonl", args = setup.args, dsn = setup.dsn,
                        options = setup.as_json and { "--check", "--json" } or { "--check" },
                        script = setup.script, env = setup.env, cwd = setup.cwd,
                        state = setup.state }
end

-- What --check prints after "mend", and the run.
local function look(setup)
   local result, lines = mending.check(setup), {}
   for line in result.stdout:gmatch "mend +([^\n]+)" do
      lines[#lines + 1] = line
   end
   return lines, result
end

-- Runs --check, which must say this first, and mends what it finds, until nothing is left. Returns
-- all that --check has printed.
function mending.mend(setup, says)
   local lines, result = look(setup)
   lu.assertStrContains(result.stdout, says, false, result.stdout .. result.stderr)
   lu.assertEquals(result.status, result.stdout:find "wrong " and 3 or 0, result.stderr)
   lu.assertNotNil(lines[1], "nothing is printed that mends it: " .. result.stdout)
   local printed = { result.stdout }
   for _ = 1, MOST_ROUNDS do
      for _, line in ipairs(lines) do
         run_line(line, setup)
      end
      lines, result = look(setup)
      printed[#printed + 1] = result.stdout
      if not lines[1] then
         break
      end
   end
   lu.assertEquals(result.status, 0, result.stdout .. result.stderr)
   lu.assertNotStrContains(result.stdout, "wrong ")
   lu.assertNotStrContains(result.stdout, "mend ")
   return table.concat(printed)
end

-- A database after this SQL, in which ROLE is a new role, and how the program connects as that.
function mending.setup(sql, args, more)
   local db = mending.one():database()
   local role = mending.one():role(more and more.may or "login")
   db:exec((sql:gsub("ROLE", role)))
   return tables.merge({ db = db, role = role, args = args or { table = "t" },
                         dsn = db:dsn { user = role } }, more)
end

return mending
