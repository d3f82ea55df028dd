-- record_test.lua: --record and --replay: what reached a script is fed to it again.
-- SPDX-License-Identifier: MIT

local child = require "child"
local cluster = require "cluster"
local files = require "files"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local scope = require "scope"
local values = require "values"

local TestRecord = {}

-- A folder with these files: {name = text}.
local function folder(texts)
   local dir = scope.dir "recorded"
   for name, text in pairs(texts) do
      files.write(("%s/%s"):format(dir, name), text)
   end
   return dir
end

local function run(dir, ...)
   return program.run { options = { ... }, state = false, cwd = dir }
end

-- Runs the script of the folder once, and records into a.rec.
local function record(dir, db, script, more)
   local options = { "--once", "--record", "a.rec" }
   table.move(more or {}, 1, #(more or {}), #options + 1, options)
   return program.run { file = ("%s/%s"):format(dir, script), dsn = db, cwd = dir,
                        options = options, state = dir .. "/state.db" }
end

local function succeed(result)
   lu.assertEquals(result.status, 0, result.stderr)
   return result
end

local function orders()
   local db = cluster.main():database()
   db:exec [[create table orders (id int primary key, total numeric, items jsonb, note text);
      insert into orders values (1, 120.50, '[{"sku": "A"}]', E'a\tb\\c'), (2, 7, null, null)]]
   return db
end

-- Every value of every type comes again as it came: the same lines, old rows, deletes and ids too.
function TestRecord.test_every_type_as_it_was()
   local db = cluster.main():database()
   values.create(db, 30, 3)
   local dir = folder { ["all.lua"] = [[
      pgcdc.source { table = '"values"', deletes = true, old = true }
         :sink(pgcdc.sinks.jsonl { path = "out" })]] }
   succeed(record(dir, db, "all.lua"))
   db:exec [[update "values" set c30 = default where id < 5; delete from "values" where id > 25]]
   succeed(record(dir, db, "all.lua"))
   local lines = {}
   for line in (files.read(dir .. "/out")):gmatch "[^\n]+" do
      lines[#lines + 1] = "jsonl out\t" .. line
   end
   lu.assertEquals(#lines, 30 + 4 + 5)
   os.remove(dir .. "/out")
   local replayed = succeed(run(dir, "--replay", "a.rec", "all.lua"))
   lu.assertEquals(#replayed.lines, #lines)
   for i, line in ipairs(lines) do
      lu.assertTrue(replayed.lines[i] == line, replayed.lines[i]:sub(1, 2000))
   end
   lu.assertNil(files.read(dir .. "/out")) -- sinks print and do not write
end

-- Values are of the types that a script gets from the server.
function TestRecord.test_a_script_gets_values_of_its_types()
   local db = orders()
   local dir = folder { ["s.lua"] = [[
      local source = pgcdc.source { table = "orders", on_change = function(c)
         print(c.op, c.key.id, math.type(c.row.id), type(c.row.total), c.row.total,
            c.row.items and c.row.items[1].sku, c.row.note, c.row.note == nil)
      end }
      source:on("batch", function(facts) print("batch", facts.source, facts.count) end)
      source:on("ready", function(facts) print("ready", facts.source) end)]] }
   local real = succeed(record(dir, db, "s.lua"))
   lu.assertStrContains(real.stdout, "read\t1\tinteger\tstring\t120.50\tA\ta\tb\\c\tfalse")
   lu.assertEquals(succeed(run(dir, "--replay", "a.rec", "s.lua")).stdout, real.stdout)
end

-- A test feeds a recording.
function TestRecord.test_in_a_test()
   local db = orders()
   local dir = folder { ["s.lua"] = [[
      pgcdc.source { table = "orders" }
         :filter(function(c) return tonumber(c.row.total) > 100 end)
         :sink(pgcdc.sinks.jsonl { path = "big" })]], ["s_test.lua"] = [[
      local lu = require "luaunit"
      function test_it()
         local run = pgcdc.testing.script "s.lua"
         run:replay "a.rec"
         lu.assertEquals(#run:sink "big", 1)
         lu.assertEquals(run:sink "big"[1].row.total, "120.50")
         run:crash()
         run:restart()
         lu.assertEquals(#run:sink "big", 1)
         run:feed("orders", { row = { id = 3, total = 101 } })
         lu.assertEquals(#run:sink "big", 2)
      end
      function test_another_script()
         local run = pgcdc.testing.script("jsonl", { table = "lines", out = "x" })
         lu.assertErrorMsgContains("no source for public.orders", run.replay, run, "a.rec")
      end]] }
   succeed(record(dir, db, "s.lua"))
   succeed(run(dir, "--test", "s_test.lua"))
end

-- Two versions of a script: what differs is shown batch by batch, and the status says whether.
function TestRecord.test_two_scripts()
   local db = orders()
   local script = [[
      local options = pgcdc.options { min = 0 }
      pgcdc.source { table = "orders" }
         :filter(function(c) return tonumber(c.row.total) >= options.min end)
         :map(function(c) return { id = c.row.id, total = %s } end)
         :sink(pgcdc.sinks.jsonl { path = "out" })]]
   local dir = folder { ["old.lua"] = script:format "c.row.total",
                        ["new.lua"] = script:format "c.row.id == 2 and 70 or c.row.total" }
   succeed(record(dir, db, "old.lua"))
   lu.assertEquals(succeed(run(dir, "--replay", "a.rec", "old.lua", "old.lua")).lines,
      { "--- old.lua", "+++ old.lua" })
   local result = run(dir, "--replay", "a.rec", "old.lua", "new.lua")
   lu.assertEquals(result.status, 1)
   lu.assertStrMatches(result.lines[3], "@@ public.orders 20[%d-]+T[%d:]+Z, 2 changes @@")
   lu.assertEquals({ table.unpack(result.lines, 4) },
      { '-jsonl out\t{"id":2,"total":"7"}', '+jsonl out\t{"id":2,"total":70}' })
   result = run(dir, "--replay", "a.rec", "old.lua", "min=100", "old.lua")
   lu.assertEquals({ table.unpack(result.lines, 4) }, { '+jsonl out\t{"id":2,"total":"7"}' })
end

-- Time passes as it did when it was recorded: windows close where they closed.
function TestRecord.test_time_passes_as_it_did()
   local dir = folder { ["s.lua"] = [[
      pgcdc.source { table = "t" }:timed_window(60):map(function(list) return #list end)
         :sink(pgcdc.sinks.jsonl { path = "n" })
      pgcdc.every(30, function() print(os.date("!%H:%M", os.time())) end)]], ["a.rec"] =
      [[{"recording":1,"version":"x","script":"s.lua","at":"2026-11-23T05:00:00.000Z"}
{"class":1,"source":"public.t","database":"d","schema":"public","table":"t",]]
      .. [["columns":[{"name":"id","type":"integer","kind":"int"}],"key":[1],"n_row":1}
{"event":"ready","source":"public.t","at":"2026-11-23T05:00:00.000Z"}
{"op":"upsert","of":1,"xid":7,"seq":1,"ts":"2026-11-23T05:00:10.000000Z","row":"1"}
{"event":"batch","source":"public.t","at":"2026-11-23T05:00:10.000Z"}
{"op":"upsert","of":1,"xid":8,"seq":2,"ts":"2026-11-23T05:00:20.000000Z","row":"2"}
{"event":"batch","source":"public.t","at":"2026-11-23T05:00:20.000Z"}
{"op":"upsert","of":1,"xid":9,"seq":3,"ts":"2026-11-23T05:01:11.000000Z","row":"3"}
{"event":"batch","source":"public.t","at":"2026-11-23T05:01:11.000Z"}
]] }
   lu.assertEquals(succeed(run(dir, "--replay", "a.rec", "s.lua")).lines,
      { "05:00", "05:01", "jsonl n\t2" }) -- the last window is not over
end

-- What a killed run had begun comes again in the next one: it is fed once. A line that it had begun
-- is cut off.
function TestRecord.test_a_run_that_was_killed()
   local db = orders()
   local dir = folder { ["s.lua"] = [[
      pgcdc.source { table = "orders" }:sink(pgcdc.sinks.jsonl { path = "out" })]] }
   succeed(record(dir, db, "s.lua"))
   local text = files.read(dir .. "/a.rec")
   local upto = text:find('\n{"event":"batch"', 1, true)
   files.write(dir .. "/a.rec", text:sub(1, upto) .. [[{"op":"rea]])
   os.remove(dir .. "/state.db")
   os.remove(dir .. "/out")
   succeed(record(dir, db, "s.lua"))
   lu.assertEquals(#succeed(run(dir, "--replay", "a.rec", "s.lua")).lines, 2)
   files.write(dir .. "/a.rec", text:sub(1, upto))
   lu.assertEquals(#succeed(run(dir, "--replay", "a.rec", "s.lua")).lines, 2)
end

-- The change that a handler failed at is recorded: so the failure can be looked at.
function TestRecord.test_a_failure_comes_again()
   local db = orders()
   local dir = folder { ["s.lua"] = [[
      pgcdc.source { table = "orders", on_change = function(c)
         print(c.row.items[1].sku)
      end }]] }
   lu.assertEquals(record(dir, db, "s.lua").status, 1)
   local result = run(dir, "--replay", "a.rec", "s.lua")
   lu.assertEquals({ result.status, result.stdout }, { 1, "A\n" })
   lu.assertStrContains(result.stderr, "s.lua:2: attempt to index a nil value (field 'items')")
end

-- Others cannot read what was recorded.
function TestRecord.test_only_ours()
   local dir = folder { ["s.lua"] = [[pgcdc.source { table = "orders" }:sink(print)]] }
   succeed(record(dir, orders(), "s.lua"))
   local mode = child.run { argv = { "stat", "-c", "%a", dir .. "/a.rec" }, stdout = "pipe" }
   lu.assertEquals(mode, "600\n")
end

-- A disk that is full ends the recording, and not the run.
function TestRecord.test_a_full_disk()
   local dir = folder { ["s.lua"] = [[pgcdc.source { table = "orders" }:sink(function(c)
      print(c.key.id) end)]], ["a.rec"] = "" }
   local db = orders()
   db:exec "insert into orders select n, n from generate_series(3, 3000) n"
   local result = program.run { file = dir .. "/s.lua", dsn = db, cwd = dir,
      options = { "--once", "--record", "a.rec" }, rlimits = { fsize = 100000 } }
   succeed(result)
   lu.assertEquals(#result.lines, 3000)
   lu.assertStrContains(result.stderr, "the recording a.rec ends here: File too large")
   lu.assertStrMatches(files.read(dir .. "/a.rec"), "^{\"recording\":1,.*")
end

function TestRecord.test_mistakes()
   local db = orders()
   local dir = folder { ["s.lua"] = [[pgcdc.source { table = "orders" }:sink(print)]],
                        ["text"] = "no recording\n", ["short"] = "x",
                        ["next"] = [[{"recording":2}]],
                        ["bare"] = [[{"op":"read","of":1}]] }
   native.mkdir(dir .. "/folder")
   for _, case in ipairs {
      { { "--record", "text" }, "--record text: it is there and is no recording" },
      { { "--record", "short" }, "--record short: it is there and is no recording" },
      { { "--record", "folder" }, "--record folder: Is a directory" },
      { { "--record", "none/a" }, "--record none/a: No such file or directory" },
   } do
      local result = program.run { file = dir .. "/s.lua", dsn = db, cwd = dir,
                                   options = { "--once", table.unpack(case[1]) } }
      lu.assertEquals(result.status, 2)
      lu.assertStrContains(result.stderr, case[2])
   end
   for _, case in ipairs {
      { { "none", "s.lua" }, "none: No such file or directory" },
      { { "text", "s.lua" }, "text: line 1 is no line of a recording" },
      { { "next", "s.lua" }, "next is a recording of another version" },
      { { "bare", "s.lua" }, "bare is no recording: --record writes one" },
      { { "bare", "none.lua" }, "there is no script none.lua" },
      { { "bare", "a=1", "s.lua" }, "name a script before a=1" },
      { { "bare", "s.lua", "s.lua", "s.lua" }, "takes one script, or two" },
      { { "bare" }, "which script?" }, { {}, "option --replay needs a value" },
   } do
      local result = run(dir, "--replay", table.unpack(case[1]))
      lu.assertEquals(result.status ~= 0, true)
      lu.assertStrContains(result.stderr, case[2])
   end
end

-- A line that somebody has changed: an error that names the line, and no crash.
function TestRecord.test_a_damaged_recording()
   local dir = folder { ["s.lua"] = [[pgcdc.source { table = "orders" }:sink(function(c)
      print(c) end)]] }
   succeed(record(dir, orders(), "s.lua"))
   local text = files.read(dir .. "/a.rec")
   local changes = {
      { '"of":1', '"of":2' }, { '"key":%[1%]', '"key":[9]' }, { '"kind":"int"', '"kind":"ant"' },
      { '"n_row":4', '"n_row":5' }, { '"n_row":4', '"n_row":-1' }, { '"op":"read"', '"op":"rad"' },
      { '"row":"1\\t', '"row":"1' }, { '"row":"1', '"row":"x' }, { '"xid":%d+', '"xid":"x"' },
      { '"columns":%[', '"columns":[7,' }, { '"name":"id"', '"name":7' },
      { '"row":"', '"row_hex":"zz' }, { '"ts":"', '"ts":"' .. ("9"):rep(100) },
   }
   local names = {}
   for i, change in ipairs(changes) do
      local damaged, n = text:gsub(change[1], change[2])
      lu.assertTrue(n > 0, change[1])
      names[i] = ("%q"):format(i .. ".rec")
      files.write(("%s/%d.rec"):format(dir, i), damaged)
   end
   files.write(dir .. "/test.lua", ([[
      local lu = require "luaunit"
      function test_it()
         for _, name in ipairs { %s } do
            local ok, why = pcall(function() pgcdc.testing.script "s.lua":replay(name) end)
            lu.assertFalse(ok, name)
            print(name, why)
         end
      end]]):format(table.concat(names, ",")))
   local result = succeed(run(dir, "--test", "test.lua"))
   lu.assertEquals(#changes, select(2, result.stdout:gsub("%.rec\t[^\n]", "")))
end

return TestRecord
