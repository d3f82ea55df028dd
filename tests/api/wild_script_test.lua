-- wild_script_test.lua: scripts that turn the language and the API against the program.
-- SPDX-License-Identifier: MIT
--
-- Promise: whatever a script does ends with status 1 and one message that names source, key and
-- line, or does no harm. Nothing ends the program by a signal, nothing past a failed change is
-- recorded. (What is thrown, endless loops and memory: see bad_script_test.lua.)

local cluster = require "cluster"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local TestWildScript = {}

local db -- of the test that runs

local function database()
   if not db then
      scope.add(function() db = nil end)
      db = cluster.main():database()
      db:exec "create table t (id int primary key, name text, n float8, doc jsonb)"
      db:exec [[insert into t select i, 'n' || i, i, '{"a": [1, 2]}' from generate_series(1, 4) i]]
   end
   return db
end

-- A script whose handler does <body> with the change of key 3, and prints the keys.
local function handler(body, before)
   return ([[%s
pgcdc.source {table = "t", on_change = function(change)
   if change.key.id == 3 then %s end
   print(change.key.id)
end}]]):format(before or "", body)
end

local function run(body, before, options)
   return program.run {
      script = handler(body, before), dsn = database(), options = options or { "--once" },
      deadline = 20,
   }
end

-- It stops at the change of key 3, with one message.
local function check_fails(body, message, before, options)
   local result = run(body, before, options)
   lu.assertEquals({ body, result.status, result.signal }, { body, 1 })
   lu.assertEquals(result.stdout, "1\n2\n")
   lu.assertEquals(select(2, result.stderr:gsub("level=error", "")), 1)
   lu.assertStrContains(result.stderr, "source public.t, key 3: ")
   lu.assertStrContains(result.stderr, message)
   return result
end

-- It goes through, printing <told> at key 3.
local function check_passes(body, told, before, options)
   local result = run(body, before, options)
   lu.assertEquals({ body, result.status, result.stderr:match "level=error.*" }, { body, 0 })
   lu.assertEquals(result.stdout, ("1\n2\n%s3\n4\n"):format(told or ""))
   return result
end

-- Values that hold themselves ------------------------------------------------------------------

-- A change's row was encoded from depth 0 again wherever it stood, so that one that holds itself
-- recursed until the C stack was full: a segmentation fault.
function TestWildScript.test_changes_that_hold_themselves()
   for _, body in ipairs {
      "change.row.me = change.row print(change)",
      "change.row.me = change print(change)",
      "change.row.me = {{deep = change}} print(change)",
      "change.key.id = change print(change.key)",
      "change.me = change tostring(change)",
      "change.a, change.b = change, change pgcdc.json.encode(change)",
      "local t = {} t.t = t change.row.doc = t print(change)",
      "change.row.doc.a[1] = change.row.doc print(change)",
      "change.row.me = change pgcdc.log.warn('it', {change = change})",
   } do
      check_fails(body, "nested too deep")
   end
   check_passes("change.old = change.row change.row.twice = {change.row.doc, change.row.doc} "
      .. "assert(#tostring(change) < 500)")
end

-- Copies of them, for another try and for operators, did the same.
function TestWildScript.test_copies_of_changes_that_hold_themselves()
   for _, use in ipairs {
      "s:on('change', print)",
      "s:mask {name = 'redact'}:sink(print)",
      "s:mask {name = function(value) return value end}:sink(print)",
      "s:add {more = function(c) return c end}:sink(print)",
   } do
      local result = program.run { dsn = database(), options = { "--once" }, script = [[
         local s = pgcdc.source {table = "t", on_error = {retry = 1, wait = 0.001}}
         s:on("change", function(c) c.me, c.row.me, c.key = c, c.row, c end)
      ]] .. use }
      lu.assertEquals({ use, result.status, result.stdout }, { use, 1, "" })
      lu.assertStrContains(result.stderr, "nested too deep")
   end
end

-- Finalizers -----------------------------------------------------------------------------------

-- Values are encoded in one buffer. A finalizer that encoded something meanwhile emptied it, and
-- what came out was a piece of one document after a piece of another.
function TestWildScript.test_finalizers_that_encode()
   local result = check_passes([[
      local made, big = 0, {}
      local function make()
         setmetatable({}, {__gc = function()
            made = made + 1
            local _ = pgcdc.json.encode {1, 2} .. tostring(change.key) .. change.id
            make()
         end})
      end
      for _ = 1, 50 do make() end
      for i = 1, 1000 do big["k" .. i] = {x = "y" .. i} end
      change.row.doc = big
      local text, row = pgcdc.json.encode(big), tostring(change)
      for _ = 1, 200 do
         assert(pgcdc.json.encode(big) == text and tostring(change) == row)
      end
      print(made > 100)]], "true\n")
   lu.assertEquals(result.stderr:match "level=warn.*", nil)
end

-- An error in a finalizer is ignored; the last ones run at the end of the program, and may print.
function TestWildScript.test_finalizers_that_fail()
   check_passes [[
      setmetatable({}, {__gc = function() error "in a finalizer" end})
      setmetatable({}, {__gc = function() error() end})
      collectgarbage()]]
   local result = program.run { state = false, script = [[
      kept = setmetatable({}, {__gc = function()
         print("the end", pgcdc.json.encode {1}, pcall(pgcdc.source, {table = "t"}))
         error "in a finalizer"
      end})]] }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertStrContains(result.stdout, "the end\t[1]\tfalse")
   check_fails("local t <close> = setmetatable({}, {__close = function() error 'closing' end}) "
      .. "error 'first'", "script.lua:3: closing")
end

-- One that asks for a state while another one is read got in between: the rest came from its own.
function TestWildScript.test_finalizers_that_ask_for_state()
   local state = fixtures.state()
   local function run_script(script)
      local result = program.run { script = script, state = state, deadline = 20 }
      lu.assertEquals(result.status, 0, result.stderr)
      return result.stdout
   end
   run_script [[
      for _, name in ipairs {"a", "b"} do
         for i = 1, 3000 do pgcdc.state(name)[name .. i] = ("x"):rep(100) end
      end]]
   lu.assertEquals(run_script [[
      local asked = 0
      local function make()
         setmetatable({}, {__gc = function()
            asked = asked + 1
            for _ in pairs(pgcdc.state "b") do break end
            if asked < 100 then pgcdc.state("c" .. asked) make() end
         end})
      end
      for _ = 1, 20 do make() end
      local n = 0
      for key in pairs(pgcdc.state "a") do
         assert(key:find "^a")
         n = n + 1
      end
      print(n, asked > 20)]], "3000\ttrue\n")
end

-- Functions that are replaced ------------------------------------------------------------------

-- Our modules looked the standard functions up among the globals of the script: one that replaced
-- `error` made mistakes pass, and without `table` the program failed at its end.
function TestWildScript.test_replaced_globals()
   local names = { "assert", "collectgarbage", "coroutine", "error", "getmetatable", "ipairs",
                   "load", "math", "next", "os", "package", "pairs", "pcall", "print", "rawequal",
                   "rawget", "rawlen", "rawset", "require", "select", "setmetatable", "string",
                   "table", "tonumber", "tostring", "type", "utf8", "xpcall" }
   for _, name in ipairs(names) do
      for _, value in ipairs { "nil", "function() end" } do
         local result = program.run { dsn = database(), options = { "--once" }, script = ([[
            local say = print
            %s = %s
            local s = pgcdc.source {table = "t", interval = {1, 2}, columns = {"id", "doc"}}
            local count = pgcdc.state "count"
            s:map(function(c) c.b, c.a = 1, 2 return c end):partition(2):sink(function(pair)
               count.n = (count.n or 0) + #pair
            end)
            s:select {"id"}:sink(pgcdc.sinks.csv {})
            s:on("ready", function()
               pgcdc.log.warn("ready", {b = 1, a = {2}})
               say(count.n, pgcdc.connect():query("SELECT $1::int + 1 AS n", 6)[1].n)
               pgcdc.source {tabel = "t"}
            end)]]):format(name, value) }
         local what = name .. " = " .. value
         lu.assertEquals({ what, result.stdout }, { what, "id\n1\n2\n3\n4\n4\t7\n" })
         lu.assertEquals({ what, result.status }, { what, 1 })
         lu.assertStrContains(result.stderr, 'msg="ready" a=[2] b=1')
         lu.assertStrContains(result.stderr, "unknown field 'tabel'; did you mean 'table'?")
      end
   end
end

-- Methods of text are everybody's: without them the library fails, and says so.
function TestWildScript.test_replaced_methods_of_text()
   for _, before in ipairs {
      "string.format = nil", "getmetatable('').__index = nil",
      "getmetatable('').__index = function() error 'index' end",
   } do
      local result = run("pgcdc.connect():query('SELECT $1::text', 'x')", before)
      lu.assertEquals({ before, result.status }, { before, 1 })
      lu.assertEquals(select(2, result.stderr:gsub("level=error", "")), 1)
   end
end

-- Sinks are loaded when they are first asked for: package.path was to be what it was until then.
function TestWildScript.test_replaced_paths()
   for _, before in ipairs {
      "package.path = '' package.cpath = ''", "package.loaded.pgcdc = nil",
      "package.searchers[3] = nil",
      "setmetatable(_G, {__index = error, __newindex = error})", "setmetatable(_G, nil)",
      "debug.sethook(error, 'l') debug.sethook()", "package.loaded.string = {}",
   } do
      check_passes("out:write(change.key)", '{"id":3}\n',
         before .. " local out = pgcdc.sinks.jsonl {}")
   end
end

-- os.setlocale made 1,5 of every 1.5, in JSON as well.
function TestWildScript.test_a_locale_with_commas()
   local dir = scope.dir()
   lu.assertTrue(os.execute(("localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8"):format(dir)))
   local result = program.run {
      script = handler("assert(os.setlocale 'de_DE.UTF-8' == 'de_DE.UTF-8') change.row.name = 0.5 "
         .. "print(change.row, 1.5, pgcdc.json.decode '2.5')"),
      dsn = database(), options = { "--once" },
      env = { LOCPATH = dir, -- glibc never frees that path
         ASAN_OPTIONS = (os.getenv "ASAN_OPTIONS" or "") .. ":detect_leaks=0" },
   }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.lines[3], '{"id":3,"name":0.5,"n":3,"doc":{"a": [1, 2]}}\t1.5\t2.5')
end

-- The API inside the API -----------------------------------------------------------------------

function TestWildScript.test_calls_where_they_are_refused()
   check_fails("pgcdc.source {table = 't'}", "sources are declared while the script loads")
   check_fails("s:emit(1)", "stack overflow",
      "local s = pgcdc.stream {} s:map(function(x) return x + 1 end):connect(s)")
   check_fails("pgcdc.register('map', print)", "there is an operator 'map' already")
   check_fails("pgcdc.connect():transaction(function(db) db:transaction(print) end)",
      "there is one already")
   check_fails("pgcdc.connect():transaction(function(db) db:close() end)", "a transaction is open")
   check_fails("coroutine.yield(1)", "attempt to yield from outside a coroutine")
   check_fails("error {again_after = 'never'}", [[{\"again_after\":\"never\"}]])
   check_fails("error {again_after = 1}", [[{\"again_after\":1}]],
      "pgcdc.stream {}:sink {write = print} ")
end

function TestWildScript.test_calls_where_they_are_odd()
   check_passes("for _ = 1, 100 do s:on('change', function() end) end", "",
      "s = pgcdc.source {table = 't', name = 's'}")
   check_passes("s:destroy() s:destroy()", "",
      "s = pgcdc.source {table = 't', name = 's'} s:map(type):filter()")
   check_passes("change.row.id = 3", "", "s = pgcdc.source {table = 't', name = 's'} "
      .. "local m = s:map(function(c) s:destroy() return c end) m:sink(function() m:destroy() end)")
   check_passes([[
      pgcdc.register('thrice', function(s) return s:map(function(x) return 3 * x end) end)
      s = pgcdc.stream {} local list = s:thrice():sink_to_list() s:emit(2) print(list[1])]], "6\n")
   check_passes([[pgcdc.connect():transaction(function()
      print(#pgcdc.connect():query 'SELECT 1') end)]], "1\n")
   check_passes("pgcdc.state 'a'.x = pgcdc.state 'b' pgcdc.state 'b'.y = 1 "
      .. "print(pgcdc.json.encode(pgcdc.state 'a'))", '{"x":{"y":1}}\n')
   local result = program.run { dsn = database(), script = [[
      local n = 0
      pgcdc.source {table = "t"}:sink {name = "own", write = function() n = n + 1 end,
         flush = function() if n > 0 then pgcdc.stop(5) end return n end,
         close = function() print("closed", n) end}]] }
   lu.assertEquals({ result.status, result.stdout }, { 5, "closed\t4\n" })
end

-- What never ends of itself ends when it is asked to.
function TestWildScript.test_endless_work_stops_when_asked()
   for _, body in ipairs {
      "local function more() pgcdc.after(0.001, more) end more()",
      "local s = pgcdc.stream {} s:delay(0.001):connect(s) s:emit(1)",
      "local s = pgcdc.stream {} s:rate_limit(0.001):connect(s) s:emit(1) s:emit(2)",
      "local list = {} pgcdc.every(0.001, function() list[#list + 1] = change end)",
      "local function more() pgcdc.every(0.5, print) pgcdc.after(0.01, more) end more()",
   } do
      local script = handler(body .. " pgcdc.log.info 'begun'")
      local p = program.start { dsn = database(), script = script }
      p:wait_stderr "begun"
      p:wait_stderr '"ready"'
      lu.assertEquals({ body, p:stop("TERM", 10).status }, { body, 0 })
   end
end

-- os.exit is the end at once, and what was not saved comes again.
function TestWildScript.test_os_exit()
   local state = fixtures.state()
   for _, exit in ipairs { "os.exit(7)", "os.exit(7, true)", "" } do
      local result = program.run { script = handler(exit), dsn = database(), state = state,
         options = { "--once" } }
      lu.assertEquals({ exit, result.status }, { exit, exit == "" and 0 or 7 })
      lu.assertEquals(result.stdout, exit == "" and "1\n2\n3\n4\n" or "1\n2\n")
   end
end

-- Recursion and coroutines ---------------------------------------------------------------------

function TestWildScript.test_recursion()
   for _, body in ipairs {
      "local function f() return (string.gsub('x', 'x', f)) end f()",
      "local function f() return 1 + f() end f()",
      "local function f() table.sort({1, 2, 3}, f) end f()",
      "local t = setmetatable({}, {}) getmetatable(t).__tostring = tostring tostring(t)",
      "local t = setmetatable({}, {}) getmetatable(t).__concat = function(a, b) return a .. b end "
         .. "return t .. t",
   } do
      check_fails(body, "overflow")
   end
   check_fails("local t = {} for _ = 1, 3000 do t = setmetatable({}, {__index = t}) end print(t.x)",
      "'__index' chain too long")
   check_fails("table.sort({3, 1, 2, 5, 4, 9, 7}, function() return true end)",
      "invalid order function")
   check_fails("error(setmetatable({}, {__tostring = function(e) return tostring(e) end}))", "{}")
   check_fails("local function f() return coroutine.wrap(f)() end f()", "script.lua:3: ")
   check_passes "local function f() return pcall(f) end f()"
   check_passes "local function f() return coroutine.resume(coroutine.create(f)) end f()"
   check_passes "local function f() return load(f) end f()"
end

function TestWildScript.test_deep_documents()
   check_passes("print(pgcdc.json.decode(('['):rep(100000)))",
      "nil\tmaximum parsing depth reached near '['\n")
   check_fails("local t = {} for _ = 1, 100000 do t = {t} end pgcdc.json.encode(t)",
      "nested too deep")
   check_fails("local t = {} for _ = 1, 100000 do t = {t} end change.row.doc = t print(change)",
      "nested too deep")
   local other = cluster.main():database()
   other:exec [[create table t (id int primary key, doc json);
      insert into t values (1, (repeat('[', 3000) || repeat(']', 3000))::json)]]
   local result = program.run { dsn = other, options = { "--once" }, script = [[
      pgcdc.source {table = "t", on_change = function(change)
         print(#tostring(change) > 6000, change.row.doc)
      end}]] }
   lu.assertEquals({ result.status, result.stdout }, { 1, "" })
   lu.assertStrContains(result.stderr, "column doc of public.t holds JSON that cannot be decoded")
end

function TestWildScript.test_coroutines()
   local script = [[
      local kept = {}
      local handle = coroutine.wrap(function(change)
         while true do
            kept[#kept + 1] = change
            print(change.key.id, change.row.name)
            change = coroutine.yield()
         end
      end)
      local s = pgcdc.source {table = "t", on_change = function(c) handle(c) end}
      s:on("ready", function()
         for _, change in ipairs(kept) do -- long after its batch, in a coroutine inside another
            coroutine.wrap(function() coroutine.wrap(function()
               change.row.n = change.row.n + 0.5
               print(change.row, change.id)
            end)() end)()
         end
         local f = coroutine.create(function() coroutine.yield() end)
         coroutine.resume(f)
         print(coroutine.close(f), pcall(handle, nil))
      end)]]
   local result = program.run { script = script, dsn = database(), options = { "--once" } }
   lu.assertEquals({ result.status, #result.lines }, { 0, 9 })
   lu.assertStrMatches(result.lines[8],
      '{"id":4,"name":"n4","n":4.5,"doc":{"a": %[1, 2%]}}\tpublic.t/%d+/4')
   lu.assertStrContains(result.lines[9], "true\tfalse")
end

-- No coroutine outlives a call that was too long, unless it waits; later calls have all their time.
function TestWildScript.test_coroutines_and_the_limit()
   local result = program.run {
      dsn = database(), deadline = 30,
      options = { "--once", ("--max-time=%g"):format(wait.scaled(0.2)) },
      script = [[
      local old = coroutine.create(function()
         pcall(function() while true do end end)
         while true do coroutine.yield() end
      end)
      local waiting = coroutine.wrap(function() while true do coroutine.yield(true) end end)
      pcall(waiting)
      pgcdc.source {table = "t", on_error = "skip", on_change = function(c)
         if c.key.id == 2 then coroutine.resume(old) while true do pcall(old) end end
         print(c.key.id, coroutine.status(old), waiting())
      end}]],
   }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.stdout, "1\tsuspended\ttrue\n3\tdead\ttrue\n4\tdead\ttrue\n")
   lu.assertEquals(select(2, result.stderr:gsub("took longer than %-%-max%-time", "")), 1)
end

-- Odd values -----------------------------------------------------------------------------------

function TestWildScript.test_odd_values_in_rows()
   for body, message in pairs {
      ["change.row.n = print print(change)"] = "a value is a function",
      ["change.row.n = coroutine.create(print) print(change)"] = "a value is a thread",
      ["change.row.n = io.stdout print(change)"] = "a value is a userdata",
      ["change.row[0/0] = 1"] = "a number is not the name of one",
      ["change.row[{}] = 1"] = "a table is not the name of one",
      ["change.row.doc = {[1.5] = 1} print(change)"] = "a key that is a number",
      ["change.row.name = 'caf\\xe9' print(change)"] = "not valid UTF-8",
      ["change.row['\\xff'] = 1 print(change)"] = "not valid UTF-8",
   } do
      check_fails(body, message)
   end
   check_passes("change.row.n, change.row.doc = -0.0, {0/0, 1/0, math.mininteger, 1e300, {}} "
      .. "print(change.row)",
      '{"id":3,"name":"n3","n":-0.0,"doc":["NaN","Infinity",-9223372036854775808,1e+300,{}]}\n')
end

-- Each field and each column of a change is replaced by each odd value, and given to everything
-- that takes changes, most of which refuses it. Nothing ends the program.
local ALL_ODD = [[
   local raw = require "pgcdc.raw"
   local dir = pgcdc.args.dir
   local values = {
      5, -1, 0/0, "x", "", "delete", "read", "\xff", true, {}, {1}, {id = 1}, {[1.5] = 2}, print,
      pgcdc.null, io.stdout, coroutine.create(print), raw.again,
      setmetatable({}, {__index = function() error "index" end}),
      setmetatable({}, {__index = function() return "v" end}),
      setmetatable({}, {__name = "pgcdc.change"}), setmetatable({}, {__metatable = true}),
      setmetatable({}, {__tostring = error, __len = error, __eq = error}),
   }
   local takers = {
      print = print, tostring = tostring, encode = pgcdc.json.encode, copy = raw.clone,
      pairs = function(c)
         for _ in pairs(c) do end
         for _ in pairs(c.row) do end
      end,
      fields = function(c)
         return c.id, c.ts, c.changed, c.old, c.xid, c.key.id, c.row.name
      end,
      log = function(c)
         pgcdc.log.debug("it", {c = c})
         pgcdc.log.debug(c, c)
      end,
   }
   for name, sink in pairs {
      csv = pgcdc.sinks.csv {path = dir .. "/1", meta = {"op", "ts"}}, stdout = pgcdc.sinks.csv {},
      jsonl = pgcdc.sinks.jsonl {path = dir .. "/2"}, text = pgcdc.sinks.text {path = dir .. "/3"},
      mirror = pgcdc.sinks.postgres {table = "m"},
      append = pgcdc.sinks.postgres {table = "a", mode = "append"},
      history = pgcdc.sinks.postgres {table = "h", mode = "history"},
   } do
      takers["sink " .. name] = function(c) sink:write(c) end
   end
   for name, args in pairs {
      select = {{"id", "name"}}, drop = {{"name"}}, rename = {{name = "called"}},
      add = {{new = function(c) return c.row.name end, name = function() return 1 end}},
      mask = {{name = "sha256", id = "redact", doc = {keep = 2}, n = function(v) return v end}},
      debezium = {}, cloudevents = {}, unique = {}, partition = {2, {key = "name"}},
      sliding_window = {2}, frequencies = {}, pluck = {"name"}, flatten = {}, collect = {},
      starmap = {function(...) return ... end}, reduce_by = {"name", function(s) return s end},
   } do
      local s = pgcdc.stream {}
      s[name](s, table.unpack(args)):sink(function(x) tostring(x) pgcdc.json.encode(x) end)
      takers["stream " .. name] = function(c) s:emit(c) end
   end
   local tried, taken = 0, 0
   local function try(take, value)
      tried = tried + 1
      taken = taken + (pcall(take, value) and 1 or 0)
   end
   pgcdc.source {table = "t", on_change = function(change)
      for _, take in pairs(takers) do
         for _, value in ipairs(values) do
            try(take, value)
            for _, field in ipairs {"op", "schema", "table", "source", "key", "row", "old", "xid",
                                    "seq", "ts", "id", "database", "changed", "new"} do
               local c = raw.clone(change)
               local _ = tried % 2 == 0 and c.row
               c[field] = value
               try(take, c)
            end
            for _, column in ipairs {"id", "name", "n", "doc", "new"} do
               for _, part in ipairs {"row", "key"} do
                  local c = raw.clone(change)
                  c[part][column] = value
                  try(take, c)
               end
            end
         end
      end
      io.stderr:write("tried ", tried, " taken ", taken, "\n")
      os.exit(0)
   end}]]

function TestWildScript.test_odd_values_everywhere()
   local result = program.run { script = ALL_ODD, dsn = database(), options = { "--once" },
      args = { dir = scope.dir() }, deadline = 60 }
   lu.assertEquals({ result.status, result.signal }, { 0 })
   local tried, taken = result.stderr:match "tried (%d+) taken (%d+)"
   lu.assertTrue(tonumber(tried) > 15000, tried)
   lu.assertTrue(tonumber(taken) > 5000 and tonumber(taken) < tonumber(tried), taken)
end

function TestWildScript.test_odd_values_in_state()
   for body, message in pairs {
      ["kept.a = print"] = "what is at 'a' cannot be saved",
      ["kept.a = kept"] = "nested too deep",
      ["change.row.me = change kept.a = change"] = "nested too deep",
      ["kept[1] = 1"] = "has a key that is a number",
      ["kept[io.stdout] = 1"] = "has a key that is a userdata",
   } do
      local state = fixtures.state()
      local before = "local kept = pgcdc.state 'kept' kept.n = (kept.n or 0) + 1"
      local result = program.run { script = handler(body, before), dsn = database(), state = state,
         options = { "--once" } }
      lu.assertEquals({ body, result.status }, { body, 1 })
      lu.assertStrContains(result.stderr, "source public.t: pgcdc.state: 'kept'")
      lu.assertStrContains(result.stderr, message)
      result = program.run { -- neither state nor position was saved
         script = handler("print(next(kept), kept.n > 0)", before), state = state,
         dsn = database(), options = { "--once" } }
      lu.assertEquals({ body, result.status, result.stdout }, { body, 0, "1\n2\nn\ttrue\n3\n4\n" })
   end
end

-- An error's text reaches the log as one line that a terminal does not obey.
function TestWildScript.test_error_texts_with_control_characters()
   local result = check_fails("error('a\\27[31mred\\r\\n\\tlevel=warn \\7 \\u{9b}31m end')", "a")
   lu.assertNil(result.stderr:find "[\0-\9\11-\31\127]")
   lu.assertNotStrContains(result.stderr, "\u{9b}")
   result = program.run { state = false, script = [[
      pgcdc.log.warn("a\27b\u{9b}c", {["k\27\127\u{9b}=\xff\u{e4}"] = "v\27\u{85}"})]] }
   lu.assertStrContains(result.stderr, [[msg="a\u001bb\u009bc" k_____ä="v\u001b\u0085"]])
end

-- Memory ---------------------------------------------------------------------------------------

-- What JSON takes beside the Lua state counts as well: 8 MB were 140, or 4 GB.
function TestWildScript.test_memory_of_json()
   for _, body in ipairs {
      "local t = {1} for _ = 1, 40 do t = {t, t} end pgcdc.json.encode(t)",
      "local t, s = {}, ('x'):rep(99999) for i = 1, 1000 do t[i] = s end "
         .. "change.row.doc = t print(change)",
      "local t, s = {}, ('x'):rep(99999) for i = 1, 1000 do t[i] = s end "
         .. "pgcdc.log.warn('', {t = t})",
      "pgcdc.json.decode('[' .. ('[],'):rep(1000000) .. '1]')",
   } do
      local result = check_fails(body, "--max-memory", "", { "--once", "--max-memory=8M" })
      lu.assertTrue(result.maxrss_kb < 60000 or wait.slow > 1, result.maxrss_kb)
   end
   local result = program.run {
      state = false, options = { "--max-memory=8M" }, deadline = 30, script = [[
         local function more() pgcdc.after(0.001, more) pgcdc.after(0.001, more) end
         more()]],
   }
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr, "--max-memory")
   check_passes("print(#pgcdc.json.decode('[' .. ('[],'):rep(10000) .. '1]'))", "10001\n", "",
      { "--once", "--max-memory=8M" })
end

return TestWildScript
