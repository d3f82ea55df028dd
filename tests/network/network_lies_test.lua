-- network_lies_test.lua: whatever a server says, the program ends in time, with one clear line,
-- within bounded memory, and writes no line that is none of its own.
-- SPDX-License-Identifier: MIT
--
-- Two servers that lie (support/native_liar.c): one that answers nonsense, each kind of it for each
-- kind of client; and one that changes messages of a true server, by a seed.
-- PGCDC_NETWORK_SEEDS=500 tries so many; PGCDC_NETWORK_SEEDS=17-17 the one.

local fixtures = require "fixtures"
local json = require "json"
local liar = require "liar"
local lu = require "luaunit"
local native = require "native"
local program = require "program"
local tables = require "tables"
local tree = require "tree"
local wait = require "wait"

local TestNetworkLies = {}

local STOP = 1       -- seconds that a stop may take
local MEMORY = 400e3 -- kB; a script's own statement may have 1 GB
local AT_ONCE = os.getenv "ASAN_OPTIONS" and 6 or 16 -- programs
local LEAKS = {      -- see there
   LSAN_OPTIONS = "print_suppressions=0:suppressions=" .. tree.top .. "/tests/support/libpq.supp",
}

-- ---- what holds of every run ----

-- Nothing in the log but its lines, each plain.
local function assert_log(text, about)
   for line in text:gmatch "[^\n]*\n?" do
      if line ~= "" then
         lu.assertNotNil(line:find "^ts=%d+%-%d+%-%d+T[%d:.]+Z level=%a+ msg=.*\n$", about)
         lu.assertNil(line:find("[\1-\9\11-\31\127]"), about)
         lu.assertNil(line:find("^ts=1 "), about)
         lu.assertNotNil(utf8.len(line), about)
      end
   end
end

local function assert_ended(result, about)
   about = about .. "\n" .. result.stderr:sub(-3000)
   lu.assertNil(result.signal, about)
   lu.assertNotEquals(result.status, 99, about) -- a finding of a sanitizer
   lu.assertNotEquals(result.status, 70, about)
   if not os.getenv "ASAN_OPTIONS" and not os.getenv "TSAN_OPTIONS" then
      lu.assertTrue(result.maxrss_kb < MEMORY, about .. result.maxrss_kb)
   end
   lu.assertNil(result.stderr:find "attempt to", about) -- an error in our own Lua
   assert_log(result.stderr, about)
end

-- Lets all programs of <running> run to their end, or for a second, after which a stop must end
-- them in time. <check> gets the name of each, its result, and whether it was stopped.
local function finish_all(running, what, check)
   local deadline, is_stopped = native.now() + wait.scaled(1), {}
   for name, p in pairs(running) do
      while p:alive() and native.now() < deadline do
         native.sleep(0.02)
      end
      is_stopped[name] = p:alive()
   end
   for name in pairs(running) do
      if is_stopped[name] then
         running[name]:signal "TERM"
      end
   end
   deadline = native.now() + wait.scaled(STOP)
   for name, p in pairs(running) do
      local about = ("%s%s"):format(what, name)
      while p:alive() and native.now() < deadline do
         native.sleep(0.02)
      end
      lu.assertFalse(p:alive(), about .. " does not stop")
      local result = p:finish()
      assert_ended(result, about)
      check(name, result, is_stopped[name])
   end
end

-- ---- a server that answers nonsense ----

-- What the error must tell; false: it may go on for ever, and a stop ends it.
local MODES = {
   nulls = "missing %(NULL%)", words = "is no integer", empty = "1 columns came in place of 7",
   rows = "1 columns", results = "1 columns", copyout = "COPY", copyin = "COPY",
   copyboth = "COPY", negative = "1 columns", errors = "forged", notices = "MB came",
   params = "MB came", names = "came that", greeting = "MB came", long = false, silent = false,
}
local NAMES = {}
for mode in pairs(MODES) do
   NAMES[#NAMES + 1] = mode
end
table.sort(NAMES)

-- Runs <options> with the server of each mode, some at once.
local function each_mode(options, check)
   for first = 1, #NAMES, AT_ONCE do
      local running = {}
      for i = first, math.min(first + AT_ONCE - 1, #NAMES) do
         running[NAMES[i]] = program.start(options(liar.new(NAMES[i])))
      end
      finish_all(running, "", check)
   end
end

local function assert_told(mode, result, is_stopped)
   local about = mode .. ": " .. result.stderr
   if MODES[mode] and not is_stopped then
      lu.assertEquals(result.status, 3, about)
      lu.assertNotNil(result.stderr:find(MODES[mode]), about)
      lu.assertEquals(select(2, result.stderr:gsub("level=error", "")), 1, about)
      if mode ~= "errors" and mode ~= "greeting" then
         lu.assertStrContains(result.stderr, [[answer to \"SELECT c.oid]], false, false, about)
      end
   end
   lu.assertEquals(result.stdout, "", about)
end

function TestNetworkLies.test_a_source()
   each_mode(function(dsn)
      return { bundled = "jsonl", args = { table = "t" }, dsn = dsn, options = { "--once" } }
   end, assert_told)
end

function TestNetworkLies.test_a_source_that_is_checked()
   each_mode(function(dsn)
      return { bundled = "jsonl", args = { table = "t" }, dsn = dsn, options = { "--check" } }
   end, function() end)
end

-- A script's own connection, and those of the bundled scripts that have some.
function TestNetworkLies.test_other_clients()
   for _, script in ipairs {
      { script = [[local o = pgcdc.options {target = pgcdc.required}
           local db = pgcdc.connect(o.target)
           for _ = 1, 3 do pcall(db.query, db, "select 1 as a, 2 as b") end]] },
      { bundled = "trigger", args = { action = "status", table = "t" } },
      { bundled = "verify", args = { table = "t" } },
   } do
      each_mode(function(dsn)
         local args = tables.merge(script.args or {}, script.bundled ~= "trigger" and
            { target = dsn } or nil)
         return { script = script.script, bundled = script.bundled, args = args, dsn = dsn }
      end, function() end)
   end
end

function TestNetworkLies.test_a_target()
   local db = fixtures.names(3)
   each_mode(function(dsn)
      return { bundled = "mirror", args = { table = "t", target = dsn }, dsn = db }
   end, function(mode, result)
      if mode == "nulls" or mode == "words" or mode == "empty" then
         lu.assertStrContains(result.stderr, [[answer to \"SELECT pg_catalog.to_regclass(]])
      end
   end)
end

-- A server that hangs while a connection is made, or says a little all the time.
function TestNetworkLies.test_a_stop_while_it_connects()
   local db, running = fixtures.names(3), {}
   for i, script in ipairs {
      [[pgcdc.source {connect = pgcdc.args.liar, table = "t"}:sink(pgcdc.sinks.jsonl {})]],
      [[pgcdc.source {table = "t"}:sink(pgcdc.sinks.postgres {connect = pgcdc.args.liar,
         table = "a"})]],
      [[local db = pgcdc.connect(pgcdc.args.liar)
        pgcdc.source {table = "t", on_change = function() db:query "select 1" end}]],
   } do
      for _, mode in ipairs { "mute", "sasl", "dripping", "drip", "silent" } do
         running[mode .. " " .. i] = program.start { script = script, dsn = db,
            args = { liar = liar.new(mode) .. " password=x" } }
      end
   end
   finish_all(running, "", function(name, _, is_stopped)
      lu.assertTrue(is_stopped, name)
   end)
end

-- ---- a true server's messages, changed ----

local asked = os.getenv "PGCDC_NETWORK_SEEDS" or "30"
local first = math.tointeger(asked:match "^(%d+)%-") or 1
local last = math.tointeger(asked:match "%d+$")

-- What a seed runs.
local function options_of(seed, db, dsn)
   local kinds = {
      { bundled = "jsonl", args = { table = "t" } },
      { script = [[pgcdc.source {table = "t", deletes = true, on_change = function(c)
           print(pgcdc.json.encode(c)) end}]] },
      { script = [[pgcdc.source {table = "t", capture = "trigger"}:sink(pgcdc.sinks.jsonl {})]] },
      { script = [[pgcdc.source {table = "t", capture = "increment", column = "n"}
           :sink(pgcdc.sinks.jsonl {})]] },
      { bundled = "mirror", args = { table = "t", target = db.copy:dsn() } },
      { script = [[local o = pgcdc.options {target = pgcdc.required}
           local db = pgcdc.connect(o.target)
           for i = 1, 20 do
              local ok, rows = pcall(db.query, db, "select * from t where id > $1", i)
              if ok then print(pgcdc.json.encode(rows)) end
           end]], args = { target = dsn } },
      { script = [[local o = pgcdc.options {target = pgcdc.required}
           pgcdc.source {table = "t"}:sink(pgcdc.sinks.postgres {connect = o.target,
              table = "u"})]],
        args = { target = dsn }, dsn = db },
      { bundled = "verify", args = { table = "t", target = dsn }, dsn = db, is_text = true },
   }
   local kind = kinds[seed % #kinds + 1]
   return tables.merge({ dsn = dsn, options = { "--once" }, env = LEAKS }, kind)
end

function TestNetworkLies.test_changed_messages()
   local db = fixtures.database [[
      create table t (id int primary key, n int, name text, j jsonb, a int[], at timestamptz);
      insert into t select i, i, repeat('x', i), '{"a": [1, 2]}', array[i], now()
         from generate_series(1, 40) i;]]
   db.copy = fixtures.database "select 1"
   lu.assertEquals(program.run { bundled = "trigger", dsn = db,
      args = { action = "install", table = "t" } }.status, 0)
   for kind = 1, 8 do -- else the lies would meet nothing
      local result = program.run(options_of(kind, db, db:dsn()))
      lu.assertEquals(result.status, 0, result.stderr)
      lu.assertEquals(#result.lines > 0, kind ~= 4 and kind ~= 6, kind) -- those have a target
   end
   for from = first, last, AT_ONCE do
      local running, all = {}, {}
      for seed = from, math.min(from + AT_ONCE - 1, last) do
         local options = options_of(seed, db, liar.before(db, seed))
         running[seed], all[seed] = program.start(options), options
      end
      finish_all(running, "seed ", function(seed, result)
         for line in result.stdout:gmatch "[^\n]+" do
            lu.assertTrue(all[seed].is_text or pcall(json.decode, line), seed .. ": " .. line)
         end
      end)
   end
end

return TestNetworkLies
