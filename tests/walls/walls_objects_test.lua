-- walls_objects_test.lua: scripts in the sandbox that look into our objects.
-- SPDX-License-Identifier: MIT
--
-- Promise: a stream, a source, a sink, a connection, a timer show nothing but their methods; what a
-- script puts into them is neither called nor read; no function of a script is given the object
-- itself; and they do what they do outside of the sandbox, where the same attacks succeed.

local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"

local TestWallsObjects = {}

-- One object of each kind, by name; and the fields that they have, or had, inside.
local OBJECTS = [[
local source = pgcdc.source {table = "t"}
local by_hand = pgcdc.stream {name = "by hand"}
local objects = {
   source = source, stream = by_hand, map = by_hand:map(function(x) return x end),
   window = source:partition(2), collect = by_hand:collect(), route = by_hand:route(tostring, {},
      {default = function() end}), zip = by_hand:zip(source), latest = by_hand:latest(),
   jsonl = pgcdc.sinks.jsonl {}, csv = pgcdc.sinks.csv {columns = {"id"}},
   text = pgcdc.sinks.text {path = "/dev/stdout"}, postgres = pgcdc.sinks.postgres {table = "u"},
   connection = pgcdc.connect(), own = pgcdc.connect "host=/none password=hidden-treasure",
   every = pgcdc.every(60, print), after = pgcdc.after(60, print),
}
local fields = {
   "raw", "former", "facts", "types", "described", "is_brief", "is_sent", "in_transaction",
   "consumers", "producers", "input", "out", "accept", "lost", "rewire", "forget", "finish",
   "is_ready", "on_ready", "columns", "about", "number", "policy", "patience", "members",
   "by_number", "rewire_all", "tell_exact", "tell_of_unheard", "declare", "dead_letter", "held_up",
   "participant", "connection", "together", "orphans", "mappings", "layouts", "plan", "sealed",
   "seal", "expect", "flush_together", "begin_reading", "owes", "check", "enters_itself", "table",
   "pk", "outbox", "hosts", "client", "encoder", "format", "secret", "keep_secret",
   "tls_files", "broken", "deny", "kind_of", "line", "header", "path", "file", "append",
   "due", "f", "at", "period", "serial", "is_window", "timer", "db", "runner", "conninfo",
}
]]

-- A sink whose server is not there: for scripts that do not run on. (Its module may be missing.)
local REDIS = [[
pcall(function()
   objects.redis = pgcdc.sinks.redis {connect = "redis://127.0.0.1:1", password = "hidden-treasure"}
end)
]]

local function run(script, ...)
   return program.run { dsn = fixtures.names(3), script = OBJECTS .. script,
                        options = { "--once", ... } }
end

-- ---- what they show ----

local SHOW = REDIS .. [[
   local found, secret = {}, "hidden-treasure"
   for name, object in pairs(objects) do
      for key in next, object do found[#found + 1] = name .. " has " .. tostring(key) end
      for key in pairs(object) do found[#found + 1] = name .. " shows " .. tostring(key) end
      for _, field in ipairs(fields) do
         local ok, value = pcall(function() return object[field] end)
         if ok and value ~= nil or rawget(object, field) ~= nil then
            found[#found + 1] = name .. "." .. field
         end
      end
      assert(not tostring(object):find(secret, 1, true))
      assert(not pcall(pgcdc.json.encode, object)
         or not pgcdc.json.encode(object):find(secret, 1, true))
   end
   print("found", #found, found[1])
   pgcdc.stop()]]

function TestWallsObjects.test_nothing_is_shown()
   local result = run(SHOW, "--sandbox", "--allow-network")
   lu.assertEquals(result.lines[#result.lines], "found\t0\tnil", result.stderr)
end

function TestWallsObjects.test_there_is_much_to_show()
   local result = run(SHOW)
   lu.assertTrue(tonumber(result.lines[#result.lines]:match "found\t(%d+)") > 100, result.stderr)
end

-- ---- what is put into them ----

local PLANT = REDIS .. [[
   local called, emit = {}, by_hand.emit
   for name, object in pairs(objects) do
      for _, field in ipairs(fields) do
         pcall(rawset, object, field, setmetatable({}, {
            __call = function() called[#called + 1] = name .. "." .. field end,
            __index = function() called[#called + 1] = name .. "." .. field end,
            __len = function() called[#called + 1] = name .. "." .. field return 1 end,
         }))
      end
   end
   pcall(function() source:on("change", function() end) end)
   pcall(function() source:sink(objects.jsonl) end)
   for _, name in ipairs {"connect", "disconnect", "union", "zip", "sink"} do
      for _, to in ipairs {"map", "window", "collect", "jsonl", "text"} do
         pcall(function() by_hand[name](by_hand, objects[to]) end)
      end
   end
   pcall(emit, by_hand, 1)
   for _, name in ipairs {"upstreams", "downstreams", "destroy", "cancel", "close"} do
      for _, object in pairs(objects) do
         pcall(function() object[name](object) end)
      end
   end
   pcall(function() objects.connection:query "select 1" end)
   pcall(function() objects.connection:transaction(function() end) end)
   pcall(function() objects.jsonl:write {} end)
   pcall(function() objects.csv:write {id = 1} end)
   print("called", #called, called[1])
   pgcdc.stop()]]

function TestWallsObjects.test_nothing_planted_is_called()
   local result = run(PLANT, "--sandbox", "--allow-network")
   lu.assertEquals(result.lines[#result.lines], "called\t0\tnil", result.stderr)
end

function TestWallsObjects.test_planted_fields_are_called_elsewhere()
   local result = run(PLANT)
   lu.assertTrue(tonumber(result.lines[#result.lines]:match "called\t(%d+)") > 10, result.stderr)
end

-- Methods are for their own objects: nothing is written into, or called of, another table.
function TestWallsObjects.test_methods_take_no_other_table()
   local result = run(REDIS .. [[
      local touched, tried = {}, 0
      local function fake(like)
         local mt = {}
         for _, name in ipairs {"__index", "__newindex", "__call", "__len", "__pairs"} do
            mt[name] = function(_, key) touched[#touched + 1] = name .. " " .. tostring(key) end
         end
         mt.__name = "pgcdc.stream"
         return setmetatable({consumers = {}, producers = {}, raw = {}, facts = {}}, mt), mt
      end
      local names = {"connect", "disconnect", "destroy", "upstreams", "downstreams", "emit",
         "flush", "on", "map", "sink", "zip", "branch", "write", "stats", "query", "exec", "send",
         "result", "transaction", "close", "cancel", "restore", "saved", "recall"}
      for _, object in pairs(objects) do
         for _, name in ipairs(names) do
            local ok, method = pcall(function() return object[name] end)
            for _, argument in ipairs(ok and method and {by_hand, print, "select 1", {}} or {}) do
               local other = fake()
               tried = tried + 1
               assert(not pcall(method, other, argument), name)
               assert(not pcall(method, setmetatable({}, {__index = object}), argument), name)
               assert(not pcall(method), name)
               assert(#other.consumers == 0 and #other.producers == 0 and not next(other.raw), name)
               for _, wrong in pairs(objects) do -- of another kind
                  local has, its = pcall(function() return wrong[name] end)
                  assert(has and its or not pcall(method, wrong, argument), name)
               end
            end
            for _, taker in ipairs {"connect", "disconnect", "zip", "union"} do
               local other = fake()
               assert(not pcall(by_hand[taker], by_hand, other), taker)
               assert(#other.consumers == 0, taker)
            end
         end
      end
      print(tried > 100, #touched, touched[1])
      pgcdc.stop()]], "--sandbox", "--allow-network")
   lu.assertEquals(result.lines[#result.lines], "true\t0\tnil", result.stderr)
end

-- ---- what functions of scripts are given ----

-- Each function of a script looks through all that it is given, as deep as it goes.
local SPY = [[
   local seen, calls, leaks = {}, 0, {}
   local ours = {stream = true, source = true, sinks = true, connection = true, timer = true}
   local function look(value, path)
      if type(value) == "userdata" and value ~= pgcdc.null then leaks[#leaks + 1] = path end
      if type(value) ~= "table" or seen[value] then return end
      seen[value] = true
      local mt = getmetatable(value)
      if mt and next(value) ~= nil and ours[tostring(mt.__name):match "^pgcdc%.(%a+)"] then
         leaks[#leaks + 1] = path .. " " .. mt.__name
      end
      for k, v in next, value do look(k, path) look(v, path .. "." .. tostring(k)) end
   end
   local function spy(what, result)
      return function(...)
         calls = calls + 1
         for i, value in ipairs(table.pack(...)) do look(value, what .. " " .. i) end
         return result
      end
   end
   local own = setmetatable({name = "own", prepares = false, wants_flush = false}, {
      __index = function(self, name)
         if name == "participant" or name == "enters_itself" or name == "kind" then return nil end
         return spy("sink." .. name)
      end,
   })
   own.write = spy "write"
   source:on("change", spy "change"):on("batch", spy "batch"):on("ready", spy "ready")
   source:sink(own)
   source:map(spy("map", 1)):filter(spy("filter", true)):sink(spy "sink", by_hand)
   source:accumulate(spy("accumulate", 1), {start = 1}):route(spy("route", "x"), {x = spy "x"})
   source:reduce_by(spy("key", 1), spy("reduce", 1)):branch(spy("branch", true))
   source:add {x = spy("add", 1)}:mask {name = spy("mask", "m")}:only(spy("only", true))
   source:partition(2, {key = spy("key of", 1)}):tap(spy "tap")
   pgcdc.register("spied", spy("operator", by_hand))
   assert(by_hand:spied(source, objects.jsonl) == by_hand)
   objects.connection:transaction(function(db)
      assert(db == objects.connection)
      spy "transaction"(db)
      look(db:query "select 1 as one, '[1]'::json as list", "rows")
   end)
   pgcdc.after(0.001, spy "after")
   pcall(setmetatable({}, {__index = spy "index"}), 1)
   for _, f in ipairs {pgcdc.source, pgcdc.stream, pgcdc.sinks.postgres, pgcdc.connect,
                       pgcdc.sinks.text, pgcdc.sinks.csv, pgcdc.change, pgcdc.options} do
      look({pcall(f, setmetatable({}, {__index = spy "spec", __pairs = spy "pairs"}))}, "options")
   end
   local failing = pgcdc.source {table = "t", name = "failing", on_error = "dead_letter",
                                 dead_letter = spy "dead letter"}
   failing:on("change", function() error {by_hand} end)
   source:on("batch", function()
      print("calls", calls > 30, #leaks, leaks[1])
   end)]]

function TestWallsObjects.test_functions_get_no_object()
   local result = run(SPY, "--sandbox", "--allow-network")
   lu.assertStrContains(result.stdout, "calls\ttrue\t0\tnil\n", result.stderr)
end

function TestWallsObjects.test_functions_get_objects_elsewhere()
   local result = run(SPY)
   lu.assertStrContains(result.stdout, "calls\ttrue\t", result.stderr)
   lu.assertNotStrContains(result.stdout, "calls\ttrue\t0\t")
end

-- Metamethods that are called where our Lua half compares and throws. What they get that is not
-- theirs is counted.
local METAMETHODS = [[
   local own, grabbed = {}, {}
   local function grab(what)
      return function(...)
         for _, value in ipairs {...} do
            if type(value) == "table" and not own[value] then
               grabbed[#grabbed + 1] = what
               for name, field in next, value do grabbed[#grabbed + 1] = what .. "." .. name end
            end
         end
         return false
      end
   end
   local function mine(value, what)
      own[value] = true
      local equal = grab(what)
      local mt = setmetatable({__eq = equal, __name = what}, {__eq = equal})
      own[mt] = true
      return setmetatable(value, mt)
   end
   local function try(f, ...)
      local ok, thrown = pcall(f, ...)
      if not ok and type(thrown) == "table" then
         for name, value in next, thrown do
            if type(value) == "table" and not own[value] then
               grabbed[#grabbed + 1] = "thrown " .. tostring(name)
            end
         end
      end
   end
   try(pgcdc.array, mine({}, "array"))
   try(objects.connection.query, objects.connection, "select $1::int[]", mine({}, "literal"))
   try(objects.text.write, objects.text, mine({1}, "text"))
   for _, name in ipairs {"input", "lost", "columns", "finish", "forget", "on_ready", "number",
                          "policy", "accept", "rewire", "out", "consumers", "kind", "map",
                          "__newindex", "__eq", "__gc", "__close", "__metatable", "_x", "a b"} do
      assert(not pcall(pgcdc.register, name, grab(name)), name)
   end
   local child = pgcdc.sinks.postgres {table = "child", name = "child", pk = "id"}
   local parent = pgcdc.sinks.postgres {table = "parent", name = "parent", pk = "id"}
   local sink = mine({name = "mine", together = mine({}, "together")}, "sink")
   function sink:write(x)
      child:write {id = x.key.id, parent = 77} -- which is not there
      try(child.flush, child)
      objects.connection:exec "insert into parent values (77) on conflict do nothing"
   end
   function sink:recall() end
   function sink:flush() end
   function sink:close() print("grabbed", #grabbed, grabbed[1]) end
   pgcdc.source {table = "t", name = "of mine"}:sink(sink)
   by_hand:sink(parent)
   local failing = pgcdc.source {table = "t", name = "failing", on_error = "skip"}
   failing:on("change", function() error(mine({}, "error")) end)]]

local function grabbed(...)
   local db = fixtures.names(2)
   db:exec "create table parent (id numeric primary key)"
   db:exec "create table child (id numeric primary key, parent numeric references parent)"
   local result = program.run { dsn = db, script = OBJECTS .. METAMETHODS,
                                options = { "--once", ... } }
   return result.stdout:match "grabbed\t(.-)\n" or result.stderr
end

function TestWallsObjects.test_metamethods_get_nothing()
   lu.assertEquals(grabbed "--sandbox", "0\tnil")
end

-- ---- what they do ----

-- Streams as arguments in every place where one can stand.
local PIPELINE = [[
   local a, b = pgcdc.stream {name = "a"}, pgcdc.stream {name = "b"}
   local function list(x) return type(x) == "table" and table.concat(x, " ") or tostring(x) end
   local function show(name) return function(x) print(name, list(x)) end end
   a:zip(b):sink(show "zip")
   a:combine_latest(b, {emit_on = b}):sink(show "combine")
   a:combine_latest(b, {emit_on = {a, b}}):sink(show "both")
   a:zip_latest(b):sink(show "latest")
   local u = a:union(b)
   u:sink(show "union")
   local other = pgcdc.stream()
   other:sink(show "other")
   a:route(function(x) return x % 2 == 0 and "even" or "odd" end,
      {even = other, odd = pgcdc.sinks.jsonl {}}, {default = b})
   local yes, no = a:branch(function(x) return x > 2 end)
   yes:sink(show "yes") no:sink(show "no")
   pgcdc.register("plus", function(stream, n) return stream:map(function(x) return x + n end) end)
   local plus = a:plus(10)
   plus:sink(pgcdc.sinks.csv {columns = {"x"}, header = false})
   plus:disconnect(plus:downstreams()[1])
   local got = plus:sink_to_list()
   local c = a:collect()
   c:sink(show "collect")
   for i = 1, 3 do a:emit(i) b:emit(-i) end
   c:flush()
   show "list"(got)
   print(a:connect(other) == other, #other:upstreams(), other:upstreams()[2] == a, a.name)
   print(#a:downstreams(), u:upstreams()[1] == a, u:upstreams()[2] == b)
   a:disconnect(other) u:destroy()
   a:emit(4)
   local timer = pgcdc.after(3600, print)
   timer:cancel() timer:cancel()
   local db = pgcdc.connect()
   print(db:transaction(function(inside)
      return inside == db, db:query("select $1::int as n", 7)[1].n, inside:exec "select 1"
   end))
   do
      local closed <close> = pgcdc.connect()
      closed:send "select 2 as n"
      print(closed:result()[1].n)
   end
   local sink = pgcdc.sinks.postgres {table = "copies", name = "copies"}
   local source = pgcdc.source {table = "t", on_error = "dead_letter",
                                dead_letter = pgcdc.sinks.text {}}
   print(source:on("ready", function(x) show "ready"(x.source) end) == source, sink.name)
   source:sink(sink)
   source:map(function(x) return x.key.id end):union(b):sink(show "id")
   source:on("batch", function() print(#db:query "select 1 from t") end)
   for _, wrong in ipairs {
      function() return a.mpa end, function() return source.nothing end,
      function() return db.qery end, function() return timer.stop end,
      function() a:connect {} end, function() a:zip(1) end, function() a:sink {} end,
      function() a:sink(b) end, function() a:route(print, b) end,
      function() a:combine_latest(b, {emit_on = {u}}) end,
   } do
      print((select(2, pcall(wrong)):gsub("^.-:%d+: ", "")))
   end]]

function TestWallsObjects.test_they_do_the_same()
   local function lines(...)
      local db = fixtures.names(3)
      local result = program.run { dsn = db, script = PIPELINE, options = { "--once", ... } }
      lu.assertEquals(result.status, 0, result.stderr)
      lu.assertEquals(db:value "select count(*) from copies", "3")
      return result.lines
   end
   local outside = lines()
   lu.assertTrue(#outside > 50, #outside)
   lu.assertEquals(lines "--sandbox", outside)
end

-- ---- what they are made of ----

-- A source that was refused is none: whoever catches that may go on. And what a table of options
-- says is asked for once.
function TestWallsObjects.test_sources_that_are_refused()
   local result = program.run { dsn = fixtures.names(4), options = { "--once" }, script = [[
      for _, odd in ipairs {
         {table = "t", where = "true\0"}, {table = "t\0"}, {table = "t", name = "n\0"},
         {table = "t", connect = "dbname=x\0"}, {table = "t", columns = {"id", "name\0"}},
         {table = "t", soft_delete = "n\0"}, {table = "t", pk = {"id\0"}, together = "all"},
      } do
         print((select(2, pcall(pgcdc.source, odd)):match "holds a zero byte"))
      end
      local asked = {}
      local function changing(values)
         return setmetatable({}, {__pairs = function() return next, {} end,
            __len = function() return #values end,
            __index = function(_, name)
               asked[name] = (asked[name] or 0) + 1
               if asked[name] == 1 then return values[name] end
               return {{}}
            end})
      end
      pgcdc.source(changing {table = "t", on_change = function(c) print(c.key.id) end, name = "s",
         interval = 1, deletes = false, old = false, start = "snapshot", capture = "xmin",
         connections = 1, rls = false, on_error = "stop", pk = "id", columns = {"id"},
         where = "id = 2"})
      for name, n in pairs(asked) do assert(n == 1, name) end
      asked = {}
      pgcdc.source {table = "t", name = "turning", where = "id = 0", interval = changing {1, 2},
                    deletes = changing {interval = 1}, on_change = print}
      for name, n in pairs(asked) do assert(n == 1, name) end
      for i = 1, 2 do
         pgcdc.source {table = "t", name = "joint" .. i, together = "all", columns = {"id"},
            where = "id = " .. i + 2, on_change = function(c) print(c.source, c.key.id) end}
      end]] }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(table.concat(result.lines, " ", 1, 7), ("holds a zero byte "):rep(7):sub(1, -2))
   table.sort(result.lines)
   lu.assertEquals({ result.lines[1], result.lines[9], result.lines[10] },
      { "2", "joint1\t3", "joint2\t4" })
end

return TestWallsObjects
