-- sinks_file_test.lua: pgcdc.sinks.jsonl, csv and text: what they write, and exactly once.
-- SPDX-License-Identifier: MIT

local alone = require "alone"
local cluster = require "cluster"
local files = require "files"
local fixtures = require "fixtures"
local homes = require "homes"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local TestSinksFile = {}

-- A script that writes t into sink `kind` at `path`; `more`: further fields.
local function script(kind, path, more)
   return ([[
      pgcdc.source { table = "t", interval = 0.02 }
         :sink(pgcdc.sinks.%s { path = %q, %s })]]):format(kind, path, more or "")
end

local run = alone.run

-- Each id of t is in the files exactly once. `paths`: a list.
local function assert_once(db, paths)
   local count = {}
   for _, path in ipairs(paths) do
      for line in io.lines(path) do
         local id = json.decode(line).key.id
         count[id] = (count[id] or 0) + 1
      end
   end
   for _, row in ipairs(db:exec "select id from t order by id") do
      local id = math.tointeger(row[1])
      lu.assertEquals(count[id], 1, ("id %d"):format(id))
   end
end

-- What is written ------------------------------------------------------------------------------

function TestSinksFile.test_what_is_written()
   local result, folder = run [[
      local s = pgcdc.stream {}
      s:sink(pgcdc.sinks.jsonl { path = "a.jsonl" })
      s:pluck "a":sink(pgcdc.sinks.text { path = "a.txt" })
      s:sink(pgcdc.sinks.csv { path = "a.csv" })
      s:sink(pgcdc.sinks.csv { path = "b.csv", columns = { "b", "nothing", "a" }, header = false })
      s:sink(pgcdc.sinks.csv { path = "c.csv", columns = { "b" }, meta = { "a", 'an "odd" one' } })
      s:sink(pgcdc.sinks.jsonl {})
      s:sink(pgcdc.sinks.csv { path = "-" })
      s:sink(pgcdc.sinks.text { path = "/dev/stdout" })
      s:emit { a = 1, b = 'x,"y"\n\r', ['an "odd" one'] = "\\." }
      s:emit { a = 0.1, b = "", ['an "odd" one'] = " é☃\t" }
      s:emit { a = { x = "q" }, b = true }
      s:emit { a = pgcdc.array {}, b = pgcdc.null }]]
   lu.assertEquals(result.status, 0)
   lu.assertNotStrContains(result.stderr, "level=error")
   lu.assertEquals(files.text(folder .. "/a.jsonl"),
      '{"a":1,"an \\"odd\\" one":"\\\\.","b":"x,\\"y\\"\\n\\r"}\n'
      .. '{"a":0.1,"an \\"odd\\" one":" é☃\\t","b":""}\n'
      .. '{"a":{"x":"q"},"b":true}\n{"a":[],"b":null}\n')
   lu.assertEquals(files.text(folder .. "/a.txt"), '1\n0.1\n{"x":"q"}\n[]\n')
   local csv = 'a,"an ""odd"" one",b\n1,"\\.","x,""y""\n\r"\n0.1, é☃\t,""\n'
      .. '"{""x"":""q""}",,true\n"[]",,\n'
   lu.assertEquals(files.text(folder .. "/a.csv"), csv)
   lu.assertEquals(files.text(folder .. "/b.csv"),
      '"x,""y""\n\r",,1\n"",,0.1\ntrue,,"{""x"":""q""}"\n,,"[]"\n')
   lu.assertEquals(files.text(folder .. "/c.csv"), 'a,"an ""odd"" one",b\n1,"\\.","x,""y""\n\r"\n'
      .. '0.1, é☃\t,""\n"{""x"":""q""}",,true\n"[]",,\n')
   lu.assertStrContains(result.stdout, '{"a":0.1,"an \\"odd\\" one":" é☃\\t","b":""}\n0.1, é')
end

-- A file is appended to; the header of a CSV is not repeated, its columns are those of the file,
-- and a column that it has not is told of once. append=false begins anew.
function TestSinksFile.test_again()
   local text = [[
      local s = pgcdc.stream {}
      local given = pgcdc.args.columns and { "a", "b" } or nil
      s:sink(pgcdc.sinks.csv { path = "a.csv", columns = given })
      s:sink(pgcdc.sinks.text { path = "new.txt", append = false })
      s:emit(pgcdc.args.more and { b = 2, c = 3, a = 1 } or { b = "x", a = "y" })]]
   local result, folder = run(text)
   lu.assertEquals(result.status, 0, result.stderr)
   local function again(...)
      return program.run { script = text, cwd = folder, state = false, args = { ... } }
   end
   result = again "more=1"
   lu.assertStrContains(result.stderr, "columns that the CSV has not")
   lu.assertEquals(files.text(folder .. "/a.csv"), "a,b\ny,x\n1,2\n")
   lu.assertEquals(select(2, files.text(folder .. "/new.txt"):gsub("\n", "")), 1)
   lu.assertEquals(again "columns=1".status, 0)
   files.write(folder .. "/a.csv", 'b,"a\n"\n')
   result = again "columns=1"
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "/a.csv: its columns are b, a")
   files.write(folder .. "/a.csv", "no end")
   lu.assertStrContains(again().stderr, "/a.csv: it has no header, and")
end

-- Values of every kind of column: the text of their JSON, which is that of COPY but for times,
-- truths and composite values. A JSON null is no NULL.
function TestSinksFile.test_csv_of_a_table()
   local db = cluster.main():database()
   db:exec [[
      create table v (id int8 primary key, n numeric, f float8, t text, b bytea, j jsonb, k json,
         ts timestamptz, ok bool, a int[], "Odd ""Name""" text);
      insert into v values
         (9007199254740993, 1.50, 'NaN', E'tab\t"q"', '\x0001ff', '{"a":1.10}',
          E'{"x":\n"y"}', '2026-01-02 03:04:05.6+00', true, '{1,2}', 'plain'),
         (2, 'Infinity', 0.1, '', '', 'null', '"text"', null, false, '{}', 'a,b'),
         (3, null, null, null, null, null, null, null, null, null, null)]]
   local result = program.run { bundled = "csv", dsn = db, options = { "--once" },
                                args = { table = "v", meta = "op,key" } }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.stdout, [[
op,key,id,n,f,t,b,j,k,ts,ok,a,"Odd ""Name"""
read,"{""id"":9007199254740993}",9007199254740993,1.50,NaN,]]
      .. '"tab\t""q""",\\x0001ff,"{""a"": 1.10}",'
      .. [["{""x"": ""y""}",2026-01-02T03:04:05.6+00:00,true,"[1,2]",plain
read,"{""id"":2}",2,Infinity,0.1,"",\x,null,text,,false,"[]","a,b"
read,"{""id"":3}",3,,,,,,,,,,
]])
end

function TestSinksFile.test_misuse()
   local cases = {
      { 'jsonl { pth = "x" }', "jsonl: unknown field 'pth'; did you mean 'path'?" },
      { "jsonl { path = 1 }", "jsonl: path must be a string, not a number" },
      { 'jsonl { path = "" }', "jsonl: path must not be empty" },
      { 'jsonl "x"', "jsonl: its argument must be a table" },
      { 'jsonl { path = "x", name = "" }', "jsonl: name must not be empty" },
      { 'jsonl { path = "x", rotate = "100M" }', "rotate must be a table" },
      { 'jsonl { path = "x", rotate = {} }', "rotate must say when" },
      { 'jsonl { path = "x", rotate = { size = "many" } }', "rotate.size must be a size" },
      { 'jsonl { path = "x", rotate = { size = 0 } }', "rotate.size must be a size" },
      { 'jsonl { path = "x", rotate = { evry = 1 } }', "did you mean 'every'?" },
      { 'jsonl { path = "x", rotate = { every = -1 } }',
         "rotate.every must be a number of seconds" },
      { "jsonl { rotate = { size = 1 } }", "standard output is none" },
      { 'csv { path = "x", columns = {} }', "columns must name at least one column" },
      { 'csv { path = "x", columns = { "a", "a" } }', "names 'a' twice" },
      { 'csv { path = "x", header = 1 }', "header must be a boolean" },
      { 'text { path = "x", append = "no" }', "append must be a boolean" },
      { "cvs {}", "there is no sink 'cvs'; did you mean 'csv'?" },
   }
   local result, folder = alone.try_sinks(cases)
   lu.assertEquals(#result.lines, #cases, result.stderr)
   for i, case in ipairs(cases) do
      lu.assertStrContains(result.lines[i], case[2])
      lu.assertStrMatches(result.lines[i], (".*script%%.lua:%d: .*"):format(i))
   end
   lu.assertEquals(files.names(folder), {}) -- nothing is opened before all is declared
   result = run [[
      pgcdc.sinks.jsonl { path = "x" }
      pgcdc.sinks.jsonl { path = "./x" }]]
   lu.assertStrContains(result.stderr, "two sinks are named")
   result = run [[
      pgcdc.sinks.jsonl { path = "x" }
      pgcdc.sinks.text { path = "x" }]]
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "/x: another sink or program is writing to this file")
end

function TestSinksFile.test_in_the_sandbox()
   local result, folder = run([[
      print(pcall(function() pgcdc.sinks.jsonl { path = "x" } end))
      pgcdc.stream {}:connect(pgcdc.stream {}):sink(pgcdc.sinks.csv {})
      local s = pgcdc.stream {}
      s:sink(pgcdc.sinks.csv {})
      s:emit { a = 1 }]], { options = { "--sandbox" } })
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stdout, "jsonl: the sandbox allows no files")
   lu.assertStrContains(result.stdout, "\na\n1\n")
   lu.assertEquals(files.names(folder), {})
end

-- At most a hundred are open at a time; nobody notices.
function TestSinksFile.test_many_files()
   local result, folder = run([[
      local sinks = {}
      for i = 1, 300 do
         sinks[i] = pgcdc.sinks.jsonl { path = ("%03d"):format(i) }
      end
      for n = 1, 3 do
         for i = 1, 300 do
            sinks[i]:write { n = n }
         end
      end]], { rlimits = { nofile = 150 } })
   lu.assertEquals(result.status, 0, result.stderr)
   local names = files.names(folder)
   lu.assertEquals(#names, 300)
   for _, name in ipairs(names) do
      lu.assertEquals(files.text(folder .. "/" .. name), '{"n":1}\n{"n":2}\n{"n":3}\n')
   end
end

-- What is no regular file ------------------------------------------------------------------------

-- A fifo is waited for and written as it is; nothing of it is remembered.
function TestSinksFile.test_a_fifo()
   local db, folder = fixtures.hashes(3), scope.dir "fifo"
   local path = folder .. "/pipe"
   lu.assertTrue(os.execute("mkfifo " .. path))
   for _ = 1, 2 do
      local p = program.start { script = script("jsonl", path), dsn = db, options = { "--once" } }
      local reader = assert(native.spawn { argv = { "cat", path } })
      local text = ""
      repeat
         local chunk = reader:read("stdout", 10)
         text = text .. (chunk or "")
      until not chunk
      lu.assertEquals(select(2, text:gsub("\n", "")), 3)
      lu.assertEquals(p:finish().status, 0)
   end
   -- asked to stop while nobody reads
   local p = program.start { script = script("jsonl", path), dsn = db }
   p:wait_until(function()
      local file = io.open(("/proc/%d/status"):format(p:pid()))
      local caught = file and file:read "a":match "SigCgt:%s*%x+(%x)%x%x%x" or "0"
      return tonumber(caught, 16) & 4 ~= 0 -- SIGTERM is handled
   end)
   lu.assertEquals(p:stop().status, 0)
end

-- /dev/stdout may be a regular file: it is not ours to cut.
function TestSinksFile.test_standard_output_is_never_cut()
   local db, folder = fixtures.hashes(2), scope.dir "out"
   for i = 1, 2 do
      local result = program.run { script = script("jsonl", "/proc/self/fd/1"), dsn = db,
                                   options = { "--once" }, stdout = folder .. "/x",
                                   state = folder .. "/state.db" }
      lu.assertEquals(result.status, 0, result.stderr)
      lu.assertEquals(select(2, files.text(folder .. "/x"):gsub("\n", "")), 2, i)
   end
end

-- Exactly once -----------------------------------------------------------------------------------

-- Inserts rows with ids above n, now and then, up to a random moment, `longer` (default 1) times
-- as late. Returns the highest id.
local function insert_for_a_while(db, n, longer)
   local stop = native.now() + (0.03 + math.random() * 0.2) * (longer or 1)
   repeat
      db:exec(("insert into t select i, 'x' from generate_series(%d, %d) i"):format(n + 1, n + 7))
      n = n + 7
      native.sleep(0.01 * math.random())
   until native.now() > stop
   return n
end

-- What was written after the last position that was saved is cut off and comes again, in
-- each kind of file. Lines that others had written before us stay.
function TestSinksFile.test_killed_at_random()
   local db, folder = fixtures.hashes(200), scope.dir "out"
   local state = folder .. "/state.db"
   files.write(folder .. "/a.jsonl", '{"key":{"id":0}}\n')
   local text = script("jsonl", folder .. "/a.jsonl") .. "\n"
      .. script("csv", folder .. "/a.csv"):gsub("interval", 'name = "csv", interval') .. "\n"
      .. script("text", folder .. "/a.txt"):gsub("interval", 'name = "text", interval')
   local n = 200
   for _ = 1, 12 do
      local p = program.start { script = text, dsn = db, state = state }
      n = insert_for_a_while(db, n)
      p:kill9()
   end
   local result = program.run { script = text, dsn = db, state = state, options = { "--once" } }
   lu.assertEquals(result.status, 0, result.stderr)
   assert_once(db, { folder .. "/a.jsonl" })
   assert_once(db, { folder .. "/a.txt" })
   lu.assertEquals(select(2, files.text(folder .. "/a.csv"):gsub("\n", "")), n + 1)
   lu.assertStrMatches(files.text(folder .. "/a.jsonl"), '{"key":{"id":0}}\n.*')
end

-- Rotated files are never lost or doubled, wherever the crash came; a new one begins with a
-- header where it is a CSV.
function TestSinksFile.test_killed_while_rotating()
   local db, folder = fixtures.hashes(100), scope.dir "out"
   local state = fixtures.state()
   local text = script("jsonl", folder .. "/a.jsonl", 'rotate = { size = "4K" }') .. "\n"
      .. script("csv", folder .. "/b.csv", "rotate = { size = 500 }")
         :gsub("interval", 'name = "csv", interval')
   local n, kills, deadline = 100, 0, native.now() + wait.scaled(60)
   local before, longer = 0, 1
   repeat
      local p = program.start { script = text, dsn = db, state = state }
      n = insert_for_a_while(db, n, longer)
      p:kill9()
      kills = kills + 1
      if #files.names(folder) == before then -- on a busy machine it was killed as it began
         longer = longer * 1.5
      end
      before = #files.names(folder)
      lu.assertTrue(native.now() < deadline, "too few files")
   until kills >= 15 and #files.names(folder) > 16
   local result = program.run { script = text, dsn = db, state = state, options = { "--once" } }
   lu.assertEquals(result.status, 0, result.stderr)
   local jsonl, rows = {}, 0
   for _, name in ipairs(files.names(folder)) do
      local path = folder .. "/" .. name
      if name:find "^a" then
         lu.assertTrue(name == "a.jsonl" or name:find "^a%-%d+T%d+Z_?%d*%.jsonl$" ~= nil, name)
         jsonl[#jsonl + 1] = path
      else
         local lines = files.text(path)
         lu.assertStrMatches(lines, lines == "" and "" or "id,name\n.*")
         rows = rows + math.max(select(2, lines:gsub("\n", "")) - 1, 0)
      end
   end
   lu.assertTrue(#jsonl > 5, #jsonl .. " files")
   assert_once(db, jsonl)
   lu.assertEquals(rows, n)
end

-- Each moment of a rotation at which a crash can come, made by hand: what restore finds.
function TestSinksFile.test_the_moments_of_a_rotation()
   for _, case in ipairs {
      { "before", "a.jsonl" }, { "after, no new file", "to" }, { "after", "to", "" },
      { "after, and written", "to", "never saved" },
      { "before, and written", "a.jsonl", "never saved" },
   } do
      local folder, state = scope.dir "out", fixtures.state()
      local function run_here(text)
         local result = program.run { state = state, cwd = folder, script = text }
         lu.assertEquals(result.status, 0, case[1] .. result.stderr)
         return result.stdout
      end
      files.write(folder .. "/" .. case[2], "12345\n")
      if case[3] == "" then
         files.write(folder .. "/a.jsonl", case[3])
      elseif case[3] then
         run_here(('pgcdc.sinks.text { path = "a.jsonl" }:write %q'):format(case[3]))
      end
      lu.assertStrMatches(run_here [[
         local sink = pgcdc.sinks.text { path = "a.jsonl" }
         sink:restore { length = 6, since = 1, to = "to" }
         sink.participant.is_prepared = true
         sink:write "new"
         print(pgcdc.json.encode(sink:flush()))]], '{"length":4,"since":%d+}\n')
      lu.assertEquals(files.names(folder), { "a.jsonl", "to" }, case[1])
      lu.assertEquals(files.text(folder .. "/a.jsonl"), "new\n", case[1])
      lu.assertEquals(files.text(folder .. "/to"), "12345\n", case[1])
   end
end

-- The file is renamed when the token that says so was saved, and that very one, not before.
function TestSinksFile.test_when_it_is_renamed()
   local result, folder = run [[
      local sink = pgcdc.sinks.text { path = "a.txt", rotate = { size = 4 } }
      sink:write "1234"
      local first = sink:flush()
      print(first.to, first.length, (select(2, require "pgcdc.raw".file_stat "a.txt")))
      sink:write "5" -- an operator held something back: what was saved is older than this
      sink:saved(first)
      print((select(2, require "pgcdc.raw".file_stat "a.txt")))
      local second = sink:flush()
      print(second.to == first.to, second.length)
      sink:saved(first)
      print((select(2, require "pgcdc.raw".file_stat "a.txt")))
      sink:saved(second)
      print((select(2, require "pgcdc.raw".file_stat "a.txt")), sink:flush().to)
      sink:saved(second)]]
   lu.assertEquals(result.status, 0, result.stderr)
   local to = result.lines[1]:match "^(a%-%d+T%d+Z%.txt)\t5\t5$"
   lu.assertNotNil(to, result.stdout)
   lu.assertEquals({ table.unpack(result.lines, 2) }, { "5", "true\t7", "7", "0\tnil" })
   lu.assertEquals(files.names(folder), { to, "a.txt" })
   lu.assertEquals(files.text(folder .. "/" .. to), "1234\n5\n")
end

-- Age counts, across restarts too.
function TestSinksFile.test_rotation_by_age()
   local db, folder = fixtures.hashes(1), scope.dir "out"
   local state = fixtures.state()
   local text = script("jsonl", folder .. "/a.jsonl", "rotate = { every = 1 }")
   local function once()
      lu.assertEquals(program.run { script = text, dsn = db, state = state,
                                    options = { "--once" } }.status, 0)
   end
   once()
   lu.assertEquals(files.names(folder), { "a.jsonl" })
   native.sleep(2.1) -- the clock of the file's age has whole seconds
   db:exec "insert into t values (2)"
   once()
   lu.assertEquals(#files.names(folder), 2)
   lu.assertEquals(files.text(folder .. "/a.jsonl"), "")
end

-- A file that others have cut, moved or written is not ours to guess at.
function TestSinksFile.test_a_file_that_others_changed()
   local db, folder = fixtures.hashes(3), scope.dir "out"
   local path, state = folder .. "/a.jsonl", folder .. "/state.db"
   local function once(...)
      return program.run { script = script("jsonl", path), dsn = db, state = state,
                           options = { "--once", ... } }
   end
   lu.assertEquals(once().status, 0)
   local whole = files.text(path)
   for _, case in ipairs {
      { whole:sub(1, -2), "it was cut or replaced" }, { nil, "is not there" },
   } do
      os.remove(path)
      if case[1] then
         files.write(path, case[1])
      end
      local result = once()
      lu.assertEquals(result.status, 1)
      lu.assertStrContains(result.stderr, path)
      lu.assertStrContains(result.stderr, case[2])
      lu.assertStrContains(result.stderr, "--reset")
      lu.assertEquals(case[1] and files.text(path), case[1])
   end
   files.write(path, whole .. "somebody's line\n")
   local result = once()
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "somebody else has written since: cut the file to")
   lu.assertEquals(files.text(path), whole .. "somebody's line\n")
   os.remove(path)
   lu.assertEquals(once "--reset".status, 0)
   assert_once(db, { path })

   for _, case in ipairs { { "mv %s %s.moved", "was moved" }, { ": > %s", "was cut" } } do
      local p = program.start { script = script("jsonl", path), dsn = db,
                                state = fixtures.state() }
      p:wait_stderr 'msg="ready"'
      p:wait_until(function() return #files.text(path) > 0 end)
      lu.assertTrue(os.execute(case[1]:format(path, path)))
      db:exec "insert into t select max(id) + 1 from t"
      result = p:finish(10)
      lu.assertEquals(result.status, 1)
      lu.assertStrContains(result.stderr, case[2])
   end
end

-- A run that writes five rows of t more than it saves, and is killed. Returns what the file had
-- before them.
local function die_with_unsaved_lines(db, path, state)
   lu.assertEquals(program.run { script = script("jsonl", path), dsn = db, state = state,
                                 options = { "--once" } }.status, 0)
   local before = files.text(path)
   db:exec "insert into t select max(id) + i from t, generate_series(1, 5) i group by i"
   local result = program.run { dsn = db, state = state, script = ([[
      local n = 0
      local source = pgcdc.source { table = "t" }
      source:sink(pgcdc.sinks.jsonl { path = %q })
      source:on("change", function()
         n = n + 1
         if n == 5 then
            require "pgcdc.sinks.one_file".flush_all()
            os.execute "kill -9 $PPID"
         end
      end)]]):format(path) }
   lu.assertEquals(result.signal, 9, result.stderr)
   lu.assertTrue(#files.text(path) > #before)
   return before
end

-- Lines that were written and not saved are ours: they are cut off, which is said, and come again.
-- Not if anybody else wrote to the file, before, after or instead of them.
function TestSinksFile.test_what_is_cut_is_ours()
   for _, case in ipairs {
      { "nothing", nil }, { "a line", function(text) return text .. "theirs\n" end },
      { "another", function(text, n) return text:sub(1, n) .. ("x"):rep(#text - n) end },
      { "one byte", function(text, n) return text:sub(1, n + 9) .. "x" .. text:sub(n + 11) end },
      { "a line before", function(text, n)
         return text:sub(1, n) .. "theirs\n" .. text:sub(n + 1)
      end },
   } do
      local db, path, state = fixtures.hashes(3), scope.dir "out" .. "/a.jsonl", fixtures.state()
      local before = die_with_unsaved_lines(db, path, state)
      local left = files.text(path)
      if case[2] then
         left = case[2](left, #before)
         files.write(path, left)
      end
      local result = program.run { script = script("jsonl", path), dsn = db, state = state,
                                   options = { "--once" } }
      if case[2] then
         lu.assertEquals(result.status, 1, case[1])
         lu.assertStrContains(result.stderr, "somebody else has written since")
         lu.assertStrContains(result.stderr, ("truncate -s %d"):format(#before))
         lu.assertEquals(files.text(path), left, case[1])
      else
         lu.assertEquals(result.status, 0, result.stderr)
         lu.assertStrContains(result.stderr, ("bytes=%d"):format(#left - #before))
         assert_once(db, { path })
      end
   end
end

-- Several pipelines and one file: nobody cuts away what another has written.
function TestSinksFile.test_one_file_of_two_pipelines()
   homes.for_files()
   local db, path = fixtures.hashes(3), scope.dir "out" .. "/a.jsonl"
   local state, other = fixtures.state(), fixtures.state()
   local function once(kept, ...)
      return program.run { script = script("jsonl", path), dsn = db, state = kept,
                           options = { "--once", ... } }
   end
   lu.assertEquals(once(state).status, 0)
   lu.assertEquals(once(other).status, 0) -- it writes after what is there
   local both = files.text(path)
   lu.assertEquals(select(2, both:gsub("\n", "")), 6)
   local result = once(state)
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, path)
   lu.assertEquals(files.text(path), both)
   lu.assertEquals(once(other).status, 0)
   lu.assertEquals(once(state, "--reset").status, 0) -- that means: write after it
   lu.assertEquals(files.text(path):sub(1, #both), both)

   -- a state file that was copied
   local copy = fixtures.state()
   files.write(copy, files.read(state))
   db:exec "insert into t select max(id) + 1 from t"
   lu.assertEquals(once(state).status, 0)
   both = files.text(path)
   lu.assertEquals(once(copy).status, 1)
   lu.assertEquals(files.text(path), both)

   -- both at once
   local p = program.start { script = script("jsonl", path), dsn = db, state = state }
   p:wait_stderr 'msg="ready"'
   result = once(fixtures.state())
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "is writing to this file")
   lu.assertEquals(p:stop().status, 0)
end

-- append = false begins a new file, and loses nothing of the old one.
function TestSinksFile.test_a_new_file_at_the_first_start()
   local db, folder, state = fixtures.hashes(3), scope.dir "out", fixtures.state()
   files.write(folder .. "/a.jsonl", "theirs\n")
   for i = 1, 2 do
      lu.assertEquals(program.run { script = script("jsonl", folder .. "/a.jsonl",
         "append = false"), dsn = db, state = state, options = { "--once" } }.status, 0)
      local names = files.names(folder)
      lu.assertEquals(#names, 2, i)
      lu.assertEquals(files.text(folder .. "/" .. names[1]), "theirs\n")
      assert_once(db, { folder .. "/a.jsonl" })
   end
end

-- A disk that is full (here: a limit on the size of files) is an error that names the file, and
-- the next run mends what was written in part.
function TestSinksFile.test_no_room()
   local db, folder = fixtures.hashes(5000), scope.dir "out"
   local path, state = folder .. "/a.jsonl", folder .. "/state.db"
   local result = program.run { script = script("jsonl", path), dsn = db, state = state,
                                options = { "--once" }, rlimits = { fsize = 600001 } }
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, path .. ": File too large")
   result = program.run { script = script("jsonl", path), dsn = db, state = state,
                          options = { "--once" } }
   lu.assertEquals(result.status, 0, result.stderr)
   assert_once(db, { path })
end

return TestSinksFile
