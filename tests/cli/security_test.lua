-- security_test.lua: what the man page says under SECURITY: privileges, files, passwords.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local files = require "files"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local server = require "server"
local wait = require "wait"

local TestSecurity = {}

local SECRET = "hidden-treasure"

local function as_is(argv)
   return (server.run(argv, { user = false }):gsub("%s+$", ""))
end

-- The SQL of the page's section, with our names in it.
local function manual_sql(role, database)
   local text = files.text(program.binary():match "^(.*)/build/" .. "/src/pgcdc-lua.1")
   local sql = assert(text:match "\n%.SH SECURITY.-\n%.EX\n(.-)%.EE\n"):gsub("\\%(aq", "'")
   sql = sql:gsub("capture_role", role):gsub("shop", database)
   lu.assertEquals(select(2, sql:gsub(";", "")), 3)
   return sql
end

-- The role can do that, and the program needs no more: snapshot, polls, a change of columns.
function TestSecurity.test_least_privilege()
   local main = cluster.main()
   local db = main:database()
   db:exec "create table orders (id int primary key, total numeric); create table secret (id int)"
   db:exec "revoke all on schema public from public; insert into orders values (1, 10), (2, 20)"
   local role = "least_" .. db.name
   main:exec(("drop role if exists %s"):format(role))
   db:exec(manual_sql(role, db.name))
   local check = program.run { bundled = "jsonl", options = { "--check" },
      args = { table = "orders" },
      dsn = db:dsn { user = role } }
   lu.assertEquals({ check.status, check.stderr }, { 0, "" })
   local p = program.start { bundled = "jsonl", args = { table = "orders", interval = 0.05 },
      dsn = db:dsn { user = role } }
   p:wait_stderr '"ready"'
   db:exec "update orders set total = 11 where id = 1; alter table orders add column note text"
   db:exec "insert into orders values (3, 30, 'new')"
   p:wait_until(function() return #p:lines() >= 4 end)
   lu.assertEquals(p:stop().status, 0)
   local refused = program.run { bundled = "jsonl", options = { "--once" },
      args = { table = "secret", pk = "id" }, dsn = db:dsn { user = role } }
   lu.assertEquals({ refused.status, refused.stdout }, { 3, "" })
   lu.assertStrContains(refused.stderr, "permission denied for table secret")
   local conn = main:connect(db.name, { user = role })
   lu.assertNil((pcall(conn.exec, conn, "insert into orders values (9)")) or nil)
   conn:close()
   db:exec(("drop owned by %s; drop role %s"):format(role, role))
end

-- The mode of each file that the process <pid> has open without a name.
local function unnamed_modes(pid)
   local modes = {}
   for _, fd in ipairs(assert(native.listdir(("/proc/%d/fd"):format(pid)))) do
      local path = ("/proc/%d/fd/%s"):format(pid, fd)
      local target = as_is { "readlink", path }
      if target:find "%(deleted%)" and not target:find "memfd" then
         modes[#modes + 1] = as_is { "stat", "-L", "-c", "%a", path }
      end
   end
   return modes
end

-- The state file, what SQLite puts beside it, and what overflows are for the user alone, whatever
-- the umask. What a script writes has the mode that the umask gives.
function TestSecurity.test_modes_of_files()
   for umask, mode in pairs { ["022"] = "644", ["000"] = "666" } do
      local db = cluster.main():database()
      db:exec "create table t (id int primary key, filler text)"
      local dir = scope.dir()
      local script = dir .. "/script.lua"
      files.write(script, [[
         local s = pgcdc.source {table = "t", interval = 0.05, start = "now"}
         pgcdc.state "kept".n = 1
         s:on("ready", function() pgcdc.log.info "here" end)
         s:sink(pgcdc.sinks.jsonl {path = pgcdc.args.dir .. "/out.jsonl"})
         local waited
         s:on("upsert", function()
            if not waited then waited = true pgcdc.log.info "in hand" io.read "l" end
         end)]])
      local proc = assert(native.spawn {
         argv = { "sh", "-c", "umask $0; exec \"$@\"", umask, program.binary(), "--dsn", db:dsn(),
                  "--state", dir .. "/deep/state.db", script, "dir=" .. dir },
         stdin = "pipe", stdout = "null", stderr = dir .. "/stderr",
      })
      scope.add(function() proc:kill "KILL" end)
      local function wait_for(text)
         wait.until_(function()
            return (files.read(dir .. "/stderr") or ""):find(text, 1, true)
         end, 20, text)
      end
      wait_for "here"
      db:exec "insert into t select i, repeat(md5(i::text), 30) from generate_series(1, 60000) i"
      wait_for "in hand"
      wait.until_(function() return #unnamed_modes(proc:pid()) > 0 end, 20, "the spool file")
      lu.assertEquals(unnamed_modes(proc:pid()), { "600" })
      lu.assertEquals(as_is { "stat", "-c", "%a", dir .. "/deep" }, "700")
      local names = assert(native.listdir(dir .. "/deep"))
      lu.assertTrue(#names >= 2, #names)
      for _, name in ipairs(names) do
         lu.assertEquals({ name, as_is { "stat", "-c", "%a", dir .. "/deep/" .. name } },
            { name, "600" })
      end
      lu.assertEquals(as_is { "stat", "-c", "%a", dir .. "/out.jsonl" }, mode)
      proc:kill "KILL"
      proc:wait(10)
   end
end

-- Neither the state file nor a log knows a password, at the most talkative.
function TestSecurity.test_passwords_are_not_kept()
   local db = cluster.main():database()
   db:exec "create table t (id int primary key); insert into t values (1), (2)"
   local dsn = db:dsn() .. " password=" .. SECRET
   local result = program.run { dsn = dsn, options = { "--once", "--log-level=debug" }, script = ([[
      local dsn = "%s"
      local s = pgcdc.source {table = "t", connect = dsn}
      pgcdc.state "kept".n = 1
      s:sink(pgcdc.sinks.postgres {table = "copy", connect = dsn})
      s:on("ready", function()
         print(pgcdc.connect(dsn):query("SELECT count(*) AS n FROM t")[1].n)
         pgcdc.connect(dsn):query "SELECT nonsense"
      end)]]):format(dsn) }
   lu.assertEquals({ result.status, result.stdout }, { 1, "2\n" })
   lu.assertNotStrContains(result.stderr, SECRET)
   local dir = result.program.state:match "^(.*)/"
   for _, name in ipairs(assert(native.listdir(dir))) do
      if name:find "^state" then
         lu.assertNil(files.text(dir .. "/" .. name):find(SECRET, 1, true), name)
      end
   end
end

return TestSecurity
