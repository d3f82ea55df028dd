-- testing_test.lua: --test, --lint and --new: scripts without a database.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local files = require "files"
local json = require "json"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"

local TestTesting = {}

-- Writes files into a folder of their own: {name = text}. Returns the folder.
local function folder(texts)
   local dir = scope.dir "tested"
   for name, text in pairs(texts) do
      files.write(("%s/%s.lua"):format(dir, name), text)
   end
   return dir
end

local function run(dir, ...)
   return program.run { options = { ... }, state = false, cwd = dir }
end

-- Runs a body of a test on a script. Returns the result of the program.
local function run_test(script, body)
   local dir = folder { script = script, test = ([[
      local lu = require "luaunit"
      function test_it()
         local script = pgcdc.testing.script
         %s
      end]]):format(body) }
   return run(dir, "--test", "test.lua")
end

local function check(script, body)
   local result = run_test(script, body)
   lu.assertEquals(result.status, 0, result.stdout .. result.stderr)
end

local SUM = [[
   local options = pgcdc.options { min = 0 }
   local orders = pgcdc.source { table = "sales.orders", pk = "id" }
   local big = orders:filter(function(c) return c.op == "delete" or c.row.total >= options.min end)
   big:sink(pgcdc.sinks.jsonl { path = "big.jsonl" })
   big:sink(pgcdc.sinks.postgres { connect = "host=nowhere", table = "big", name = "mirror" })
   orders:map(function(c) return c.row and c.row.total or 0 end)
      :accumulate(function(a, b) return a + b end, { start = 0, persist = "sum" })
      :sink(print)]]

function TestTesting.test_sinks_get_changes()
   check(SUM, [[
      local run = script("script.lua", { min = 100 })
      run:feed("sales.orders", { op = "insert", row = { id = 1, total = 120 } },
         { op = "insert", row = { id = 2, total = 20 } })
      run:feed(nil, { op = "delete", old = { id = 1, total = 120 } })
      local expected = {
         { op = "insert", table = "orders", key = { id = 1 }, row = { id = 1, total = 120 } },
         { op = "delete", table = "orders", key = { id = 1 }, old = { id = 1, total = 120 } } }
      lu.assertEquals(run:sink "big.jsonl", expected)
      lu.assertEquals(run:sink "mirror", expected)
      lu.assertEquals(run:output(), { "120", "140", "140" })]])
end

-- Each kind of sink keeps over a crash what the real one keeps; states are those of the position.
function TestTesting.test_a_crash()
   check(SUM, [[
      local run = script "script.lua"
      run:feed(nil, { row = { id = 1, total = 1 } })
      run:fail("mirror", 2)
      run:feed(nil, { row = { id = 2, total = 2 } })
      run:crash()
      run:restart()
      lu.assertEquals(#run:sink "mirror", 2) -- one that came again, and waits for another try
      run:crash()
      lu.assertErrorMsgContains("restart() begins it again", run.feed, run, nil, {})
      run:restart()
      lu.assertEquals(#run:sink "mirror", 2)
      lu.assertEquals(#run:sink "big.jsonl", 2)
      run:feed(nil, { row = { id = 3, total = 3 } })
      lu.assertEquals(run:output(), { "1", "3", "3", "3", "6" })]])
end

function TestTesting.test_retries_and_dead_letters()
   check([[
      local letters = pgcdc.sinks.jsonl { path = "letters" }
      local source = pgcdc.source { table = "t", on_error = { retry = 2, wait = 5,
         otherwise = "dead_letter" }, dead_letter = letters }
      source:on("change", function(c)
         print("try", c.row.id)
         if c.row.id == 1 then error "no" end
      end)
      source:sink(pgcdc.sinks.postgres { table = "u", name = "u", connect = "dbname=x" })]], [[
      local run = script "script.lua"
      run:refuse("u", function(c) return c.row.id == 3 and "never" end)
      run:feed("t", { row = { id = 1 } }, { row = { id = 2 } }, { row = { id = 3 } })
      lu.assertEquals(run:output(), { "try\t1" })
      run:advance(4.9)
      lu.assertEquals(#run:output(), 1)
      run:advance(5.2)
      lu.assertEquals(run:output(), { "try\t1", "try\t1", "try\t1", "try\t2", "try\t3" })
      local letters = run:sink "letters"
      lu.assertEquals(#letters, 2)
      lu.assertStrContains(letters[1].error, "script.lua:6: no")
      lu.assertEquals(letters[2].error, "never")
      lu.assertEquals(#run:sink "u", 1)
      lu.assertStrContains(run:log()[1].message, "no")]])
end

-- What a window holds is not saved: it comes again.
function TestTesting.test_windows_and_the_clock()
   check([[
      local source = pgcdc.source { table = "t" }
      source:timed_window(60):map(function(list) return { n = #list } end)
         :sink(pgcdc.sinks.jsonl { path = "n" })
      pgcdc.every(10, function() print(os.time()) end)]], [[
      local run = script "script.lua"
      run:feed("t", { row = { id = 1 } })
      run:advance(50)
      lu.assertEquals(#run:output(), 5)
      lu.assertEquals(tonumber(run:output()[5]) - tonumber(run:output()[1]), 40)
      run:crash()
      run:restart()
      lu.assertEquals(run:sink "n", {})
      run:feed("t", { row = { id = 2 } })
      run:advance(60)
      lu.assertEquals(run:sink "n", { { n = 2 } })
      run:stop()]])
end

-- The same changes, in a test and from a server: the same values into the same file.
function TestTesting.test_as_with_a_database()
   local script = [[
      local source = pgcdc.source { table = "orders", name = "orders", interval = 0.05 }
      source:map(function(c)
         return { op = c.op, id = c.key.id, x = c.row.x, t = type(c.row.x) }
      end)
         :sink(pgcdc.sinks.jsonl { path = "out" })]]
   local db = cluster.main():database()
   db:exec "create table orders (id int primary key, x numeric)"
   db:exec "insert into orders values (1, 2.50)"
   local dir = folder { script = script, test = [[
      function test_it()
         local run = pgcdc.testing.script "script.lua"
         run:feed("orders", { op = "read", row = { id = 1, x = "2.50" } })
         print(pgcdc.json.encode(run:sink "out"[1]))
      end]] }
   local real = program.run { file = dir .. "/script.lua", dsn = db, options = { "--once" },
                              cwd = dir }
   lu.assertEquals(real.status, 0, real.stderr)
   local tested = run(dir, "--test", "test.lua")
   local line = tested.stdout:match "{[^\n]*}"
   lu.assertEquals(json.decode(line), json.decode(files.read(dir .. "/out")))
end

function TestTesting.test_connections_are_the_tests()
   local script = [[
      local db = pgcdc.connect "dbname=x"
      pgcdc.source { table = "t" }:sink(function(c)
         print(db:query("select name from c where id = $1", c.row.id)[1].name)
      end)]]
   check(script, [[
      local run = script("script.lua", nil, { connect = function(conninfo)
         return { query = function(_, _, id) return { { name = conninfo .. " " .. id } } end }
      end })
      run:feed("t", { row = { id = 7 } })
      lu.assertEquals(run:output(), { "dbname=x 7" })]])
   local result = run_test(script, [[script "script.lua":feed("t", { row = { id = 7 } })]])
   lu.assertStrContains(result.stdout, "a test has no database")
end

-- Two runs of one script share nothing.
function TestTesting.test_runs_share_nothing()
   check([[
      n = (rawget(_G, "n") or 0) + 1
      string.twice = function(s) return s .. s end
      pgcdc.source { table = "t" }:sink(function() print(n) end)]], [[
      for _ = 1, 3 do
         local run = script "script.lua"
         run:feed("t", { row = { id = 1 } })
         lu.assertEquals(run:output(), { "1" })
      end
      lu.assertNil(rawget(_G, "n"))
      lu.assertNil(string.twice)]])
end

-- The bundled scripts can be tested, too.
function TestTesting.test_bundled_scripts()
   check("", [[
      local run = script("jsonl", { table = "orders,lines", out = "all.jsonl" })
      run:feed("lines", { row = { id = 1 } })
      lu.assertEquals(#run:sink "all.jsonl", 1)
      run = script("route", { table = "orders", by = "city", dir = "d" })
      run:feed("orders", { row = { id = 1, city = "Rome" } })]])
end

-- Wrong tests and scripts: an error with the line that is to be changed.
function TestTesting.test_mistakes()
   local script = [[
      local source = pgcdc.source { table = "orders" }
      source:on("change", function(c)
         print(c.row.totl)
      end)]]
   for _, case in ipairs {
      { [[script "script.lua":feed("orders", { row = { id = 1, total = 1 } })]],
        "script.lua:3: there is no column 'totl' in public.orders; did you mean 'total'?" },
      { [[script "script.lua":feed("order", {})]], "test.lua:4: pgcdc.testing: the script has no" },
      { [[script "script.lua":feed("orders", { row = { x = 1 } })]], "its row has no 'id'" },
      { [[script "script.lua":feed("orders", { op = "insrt", row = { id = 1 } })]],
        "unknown 'insrt'" },
      { [[script "script.lua":sink "x"]], "the script has no sink 'x'" },
      { [[script "script.lua":fed("orders")]],
        "there is no method of a run 'fed'; did you mean 'feed'?" },
      { [[script "nothing.lua"]], "there is no script nothing.lua" },
      { [[script("script.lua", nil, { conect = print })]], "unknown field 'conect'" },
   } do
      local result = run_test(script, case[1])
      lu.assertEquals(result.status, 1, case[1])
      lu.assertStrContains(result.stdout, case[2])
   end
end

function TestTesting.test_status()
   local dir = folder { good = [[function test_a() end]], bad = [[function test_b() error "x" end]],
                        ends = [[os.exit(require "luaunit".LuaUnit.run())]],
                        broken = [[function]] }
   lu.assertEquals(run(dir, "--test", "good.lua", "ends.lua").status, 0)
   lu.assertEquals(run(dir, "--test", "ends.lua", "good.lua", "bad.lua").status, 1)
   lu.assertEquals(run(dir, "--test", "broken.lua").status, 1)
   lu.assertStrContains(run(dir, "--test", "missing.lua").stderr, "missing.lua")
   local result = run(dir, "--test")
   lu.assertEquals(result.status, 2)
   lu.assertStrContains(result.stderr, "which file?")
end

function TestTesting.test_lint()
   local dir = folder { good = SUM, taken = [[
      local s = pgcdc.source { table = "t" }
      s:sink(pgcdc.sinks.jsonl { path = "x" })
      s:sink(pgcdc.sinks.jsonl { path = "x" })]],
      unread = [[
local s = pgcdc.source { table = "t" }
total = 0
s:map(function(c) return c end)
local other = pgcdc.source { table = "u", name = "others" }]],
      unknown = [[pgcdc.source { tabel = "t" }]] }
   local result = run(dir, "--lint", "good.lua", "min=3")
   lu.assertEquals({ result.status, result.stdout }, { 0, "" })
   result = run(dir, "--lint", "good.lua", "mim=3")
   lu.assertEquals({ result.status, result.stdout },
      { 1, "unknown option mim; did you mean 'min'?\n" })
   result = run(dir, "--lint", "taken.lua")
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stdout, "taken.lua:3: two sinks ")
   result = run(dir, "--lint", "unread.lua")
   lu.assertEquals(result.status, 1)
   lu.assertEquals(result.lines, {
      "unread.lua:2: 'total' is made a global here: write `local total`",
      "unread.lua:3: nobody takes what this map passes on: end it with sink()",
      "unread.lua:4: nobody listens to the source others: what it finds is dropped",
   })
   result = run(dir, "--lint", "unknown.lua")
   lu.assertStrContains(result.stdout, "unknown.lua:1: pgcdc.source: unknown field 'tabel'")
   lu.assertEquals(run(dir, "--lint", "missing.lua").status, 2)
end

-- What --new writes is right as it stands, and overwrites nothing.
function TestTesting.test_new()
   local dir = folder {}
   lu.assertEquals(run(dir, "--new", "paid").status, 0)
   local result = run(dir, "--test", "paid_test.lua")
   lu.assertEquals(result.status, 0, result.stdout)
   lu.assertEquals(run(dir, "--lint", "paid.lua", "out=x").stdout, "")
   files.write(dir .. "/paid.lua", "mine")
   result = run(dir, "--new", "paid")
   lu.assertEquals(result.status, 2)
   lu.assertStrContains(result.stderr, "paid.lua is there already")
   lu.assertEquals(files.read(dir .. "/paid.lua"), "mine")
   lu.assertEquals(run(dir, "--new", "no/folder").status, 2)
end

return TestTesting
