-- sinks_paths_test.lua: sinks of many files: paths that are patterns or functions.
-- SPDX-License-Identifier: MIT

local alone = require "alone"
local child = require "child"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local killing = require "killing"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local TestSinksPaths = {}

local run = alone.run

-- All files below a folder, sorted, as paths below it.
local function tree(folder)
   local names = {}
   for line in (child.run { argv = { "find", folder, "-type", "f" } }):gmatch "[^\n]+" do
      names[#names + 1] = line:sub(#folder + 2)
   end
   table.sort(names)
   return names
end

-- Whatever a value is, its file is below the fixed part of the path.
function TestSinksPaths.test_odd_values()
   local result, folder = run [[
      local s = pgcdc.stream {}
      s:sink(pgcdc.sinks.text { path = "in/x/{a}.txt" })
      for _, a in ipairs { "plain", "a/b", "../../up", "..", ".", "", ".hidden", "-x", "A", "a",
                           "%2F", "\0", "é", "new\nline", 1.5, true, pgcdc.null,
                           ("x"):rep(300), ("x"):rep(301), "~", "$(x)" } do
         s:emit { a = a }
      end
      s:emit {}]]
   lu.assertEquals(result.status, 0, result.stderr)
   local names = tree(folder)
   lu.assertEquals(#names, 21) -- NULL and what is not there are one
   local there = {}
   for _, name in ipairs(names) do
      there[name:match "^in/x/([^/]+)%.txt$" or name] = true
      lu.assertTrue(#name < 240)
   end
   for _, name in ipairs { "plain", "a%2Fb", "%2E.%2F..%2Fup", "%2E.", "%2E", "%empty", "%2Ehidden",
                           "%2Dx", "A", "a", "%252F", "%00", "%C3%A9", "new%0Aline", "1.5", "true",
                           "%null", "%7E", "%24%28x%29" } do
      lu.assertTrue(there[name], name)
   end
end

-- The same for what a function returns, in which slashes are folders.
function TestSinksPaths.test_a_function()
   local result, folder = run [[
      local s = pgcdc.stream {}
      s:sink(pgcdc.sinks.jsonl { dir = "in", path = function(v) return v.to end })
      for _, to in ipairs { "a.jsonl", "b/c.jsonl", "../d", "/etc/e", "./f", "g//h", "i\0j", 7,
                            "k/..", ("l"):rep(300) .. ".jsonl" } do
         s:emit { to = to }
      end]]
   lu.assertEquals(result.status, 0, result.stderr)
   local names = tree(folder)
   lu.assertEquals(table.remove(names):match "^in/l+%%long%-%x+%.jsonl$" ~= nil, true)
   lu.assertEquals(names, { "in/%2E%2E/d", "in/%2E/f", "in/%empty/etc/e", "in/7", "in/a.jsonl",
      "in/b/c.jsonl", "in/g/%empty/h", "in/i%00j", "in/k/%2E%2E" })
end

-- A symbolic link below the root that leads out of it is not followed.
function TestSinksPaths.test_symbolic_links()
   for _, link in ipairs { "in/a.txt", "in/a" } do
      local folder, outside = scope.dir "out", scope.dir "outside"
      assert(native.mkdir(folder .. "/in"))
      files.write(outside .. "/theirs.txt", "theirs\n")
      lu.assertTrue(os.execute(("ln -s %s %s/%s"):format(
         link:find "txt" and outside .. "/theirs.txt" or outside, folder, link)))
      local path = link:find "txt" and "in/{a}.txt" or "in/{a}/new/{a}.txt"
      local result = program.run { cwd = folder, state = false, script = ([[
         local s = pgcdc.stream {}
         s:sink(pgcdc.sinks.text { path = %q })
         s:emit { a = "a" }]]):format(path) }
      lu.assertEquals(result.status, 1, link)
      lu.assertStrContains(result.stderr, "a symbolic link leads out of the folder")
      lu.assertEquals(tree(outside), { "theirs.txt" })
      lu.assertEquals(files.text(outside .. "/theirs.txt"), "theirs\n")
   end
end

-- Each CSV has its header, once, also if another run goes on with it.
function TestSinksPaths.test_csv()
   local text = [[
      local s = pgcdc.stream {}
      s:sink(pgcdc.sinks.csv { path = "{region}/{{{tenant}}}.csv" })
      s:emit { region = "eu", tenant = 1, n = pgcdc.args.n }
      s:emit { region = "eu", tenant = 2, n = pgcdc.args.n }
      s:emit { region = "us", tenant = 1, n = pgcdc.args.n }
      s:emit { region = "eu", tenant = 1, n = pgcdc.args.n }]]
   local result, folder = run(text, { args = { n = "1" } })
   lu.assertEquals(result.status, 0, result.stderr)
   result = program.run { script = text, cwd = folder, state = false, args = { n = "2" } }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(tree(folder), { "eu/{1}.csv", "eu/{2}.csv", "us/{1}.csv" })
   lu.assertEquals(files.text(folder .. "/eu/{1}.csv"),
      "n,region,tenant\n1,eu,1\n1,eu,1\n2,eu,1\n2,eu,1\n")
   lu.assertEquals(files.text(folder .. "/us/{1}.csv"), "n,region,tenant\n1,us,1\n2,us,1\n")
end

function TestSinksPaths.test_misuse()
   local cases = {
      { 'jsonl { path = "a{b" }', "write {column}, or {{ and }} for braces" },
      { 'jsonl { path = "{}" }', "write {column}" },
      { 'jsonl { path = "{a}/../b" }', "there must be no '..' between slashes" },
      { 'jsonl { path = "{a}//b" }', "there must be no '' between slashes" },
      { 'jsonl { path = "{a}", append = false }', "append = false is for a single file" },
      { 'jsonl { path = "a", dir = "b" }', "dir is for a path that is a function" },
      { 'csv { path = "{a}", header = false }', "header = false: say columns" },
   }
   local result = alone.try_sinks(cases)
   lu.assertEquals(#result.lines, #cases, result.stderr)
   for i, case in ipairs(cases) do
      lu.assertStrContains(result.lines[i], case[2])
   end
   lu.assertStrContains(run [[
      local s = pgcdc.stream {}
      s:sink(pgcdc.sinks.jsonl { path = function() end })
      s:emit { a = 1 }]].stderr, "its function must return a path, not nil")
   lu.assertStrContains(run [[
      local s = pgcdc.stream {}
      s:sink(pgcdc.sinks.jsonl { path = "{a}" })
      s:emit "x"]].stderr, "{a} is the field of a table, and this value is a string")
   lu.assertStrContains(run("pgcdc.sinks.jsonl { path = '{a}' }",
      { options = { "--sandbox" } }).stderr, "the sandbox allows no files")
end

-- A column that the table does not have is an error; of a delete it must be known.
function TestSinksPaths.test_columns()
   local db = fixtures.names(2)
   local function once(path, more)
      return program.run { dsn = db, cwd = scope.dir "out", options = { "--once" },
         state = fixtures.state(), script = ([[
         pgcdc.source { table = "t", %s }:sink(pgcdc.sinks.jsonl { path = %q })]])
            :format(more or "", path) }
   end
   local result = once "{nme}.jsonl"
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "'nme'")
   lu.assertEquals(once("{change.table}/{change.op}.jsonl").status, 0)
end

-- Killed at any moment, each line is in one of many files once; they are rotated, too.
function TestSinksPaths.test_killed_at_random()
   local db = fixtures.database [[
      create table t (id int primary key, tenant int);
      insert into t select i, i % 40 from generate_series(1, 400) i]]
   local folder, state = scope.dir "out", fixtures.state()
   local n = 400
   killing.run {
      script = ([[
         local source = pgcdc.source { table = "t", interval = 0.02 }
         source:sink(pgcdc.sinks.jsonl { path = "%s/j/{tenant}/x.jsonl", rotate = {size = 1500} })
         source:sink(pgcdc.sinks.csv { path = "%s/c/{tenant}.csv" })]]):format(folder, folder),
      dsn = db, state = state, seconds = 2, life = 0.6,
      write = function()
         db:exec(("insert into t select i, i %% 40 from generate_series(%d, %d) i")
            :format(n + 1, n + 8))
         n = n + 8
      end,
   }
   local count, rows, rotated = {}, 0, 0
   for _, name in ipairs(tree(folder)) do
      local path = folder .. "/" .. name
      if name:find "^j/" then
         rotated = rotated + (name:find "/x%-" and 1 or 0)
         for line in io.lines(path) do
            local row = json.decode(line).row
            count[row.id] = (count[row.id] or 0) + 1
            lu.assertTrue(name:find(("j/%d/"):format(row.tenant), 1, true) == 1)
         end
      else
         local text = files.text(path)
         lu.assertStrMatches(text, "id,tenant\n.*")
         rows = rows + select(2, text:gsub("\n", "")) - 1
      end
   end
   for id = 1, n do
      if count[id] ~= 1 then
         lu.fail(("id %d of %d came %s times"):format(id, n, count[id]))
      end
   end
   lu.assertEquals(rows, n)
   lu.assertTrue(rotated > 0, "none was rotated")
end

-- What is saved of them does not grow with their number, nor does the number of open files; and
-- it takes about as long as one file does (it once took hours: each file was synced by itself, and
-- again whenever it made room for another).
function TestSinksPaths.test_many()
   local db = fixtures.database [[
      create table t (id int primary key);
      insert into t select generate_series(1, 9600)]]
   for _, script in ipairs {
      [[pgcdc.source { table = "t" }:map(function(c) return { t = c.row.id % 1200 } end)
         :sink(pgcdc.sinks.jsonl { path = "out/{t}.jsonl", name = "many" })]],
      [[local sinks = {}
      pgcdc.source { table = "t" }:sink(function(c)
         local name = c.row.id % 1200
         sinks[name] = sinks[name] or pgcdc.sinks.jsonl { path = "out/" .. name .. ".jsonl" }
         sinks[name]:write { t = name }
      end)]],
   } do
      local folder, state = scope.dir "out", fixtures.state()
      assert(native.mkdir(folder .. "/out"))
      local result = program.run { dsn = db, state = state, cwd = folder, script = script,
         options = { "--once" }, rlimits = { nofile = 300 }, deadline = wait.scaled(40) }
      lu.assertEquals(result.status, 0, result.stderr)
      local names = tree(folder)
      lu.assertEquals(#names, 1200)
      for i = 0, 1199, 83 do
         lu.assertEquals(files.text(("%s/out/%d.jsonl"):format(folder, i)),
            ('{"t":%d}\n'):format(i):rep(8))
      end
      if script:find "many" then
         result = program.run { state = state, script = [[
            for key, token in pairs(require "pgcdc.raw".kept("sink", "many")) do
               print(key, token)
            end]] }
         lu.assertStrMatches(result.stdout, '\t{"epoch":%d+}\n')
      end
   end
end

return TestSinksPaths
