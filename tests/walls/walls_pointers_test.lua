-- walls_pointers_test.lua: finalizers, metamethods and functions of scripts that want memory.
-- SPDX-License-Identifier: MIT
--
-- Promise: no pointer of C outlives a call that may run code of a script. Each attack runs code
-- where C is in the middle of something: in a finalizer, which may run in any allocation, or in a
-- metamethod. It may get errors, but the program goes on, and what comes is not made of other
-- memory. `make storm` runs them in a program in which each of these moments is one.

local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"
local wait = require "wait"

local TestWallsPointers = {}

-- attack(f): from now on f runs in finalizers, as often as the collector can be made to run them;
-- nil: no more.
local PRELUDE = [[
collectgarbage("incremental", 10, 1000, 1)
local under_attack
local function again()
   setmetatable({}, {__gc = function()
      if under_attack then pcall(under_attack) again() end
   end})
end
local function attack(f)
   local was = under_attack
   under_attack = f
   for _ = 1, f and not was and 3 or 0 do again() end
end
function storm() -- called by the finalizers of `make storm`
   if under_attack then under_attack() end
end
local function made(n) -- a change of a class of its own
   return pgcdc.change {op = "update", table = "t" .. (n or 1), key = {id = 1},
      row = {id = 1, ["name" .. (n or 1)] = ("x"):rep(700), doc = {a = {1, 2}}},
      old = {id = 1, ["name" .. (n or 1)] = "was", doc = {a = {1}}}}
end
local function strings_only(text, what)
   for name in text:gmatch '"([^"]*)":' do
      if not name:find "^[%w_ ]+$" then error(what .. ": " .. ("%q"):format(name:sub(1, 99))) end
   end
end
]]

-- Runs a piece of Lua in the sandbox; it must come to its end.
local function survives(name, piece, options)
   options = options or {}
   local result = program.run {
      script = PRELUDE .. piece .. "\n" .. (options.last or "print 'survived' pgcdc.stop()"),
      options = options.options or { "--sandbox" }, args = options.args, dsn = options.dsn,
      state = options.state or false, deadline = wait.scaled(60),
   }
   lu.assertEquals(result.status, 0, name .. ": " .. result.stdout .. result.stderr)
   lu.assertStrContains(result.stdout, "survived", false, name)
   return result
end

local function all_survive(pieces)
   local results = {}
   for name, piece in pairs(pieces) do
      results[name] = survives(name, piece)
   end
   return results
end

-- The first of them: the encoder had the names of a table that a finalizer emptied.
function TestWallsPointers.test_a_table_that_is_emptied_while_it_is_encoded()
   survives("encode", [[
      local t = {}
      for i = 1, 300 do
         local v = {}
         for k = 1, 20 do v[k] = {a = k} end
         t[("%06d"):format(i) .. ("k"):rep(600)] = v
      end
      attack(function() for k in next, t do t[k] = nil end end)
      local ok, text = pcall(pgcdc.json.encode, t)
      attack(nil)
      strings_only(tostring(text), "encode")
      for _ = 1, 20 do -- few names, which are on the stack
         t = {}
         for i = 1, 9 do t["k" .. i .. ("k"):rep(40)] = {i, {b = i}} end
         attack(function()
            for k in next, t do t[k] = nil end
            for i = 1, 40 do t["more" .. i] = true end
            for i = 1, 40 do t[i] = true end
         end)
         ok, text = pcall(pgcdc.json.encode, {t, t})
         attack(nil)
         strings_only(tostring(text), "few")
      end
   ]])
end

function TestWallsPointers.test_what_a_change_holds_is_no_field()
   all_survive {
      next = [[
         local c = made()
         local row, key, old = c.row, c.key, c.old
         for _, t in ipairs {c, row, old, made(), made().row, made():copy()} do
            for _, each in ipairs {next, (pairs {})} do
               for _ = 1, 3 do
                  local k, v = each(t)
                  while k ~= nil do
                     assert(type(k) == "string", "a field that is named by a " .. type(k))
                     assert(type(v) ~= "userdata")
                     k, v = each(t, k)
                  end
               end
            end
         end
         for k in next, c do rawset(c, k, nil) end
         for k in next, row do rawset(row, k, nil) end
         assert(next(c) == nil and next(row) == nil and rawlen(c) == 0)
         assert(row.id == 1 and c.row.id == 1 and old.id == 1 and c.op == "update")
         assert(tostring(c):find '"op":"update"')
      ]],
      pairs = [[
         assert(select("#", pairs {}) == 3 and not pcall(pairs) and not pcall(next))
         local t = setmetatable({}, {__pairs = function() return 1, 2, 3, 4 end})
         assert(select("#", pairs(t)) == 3)
         local yielding = setmetatable({}, {__pairs = function()
            coroutine.yield "in pairs"
            return next, {a = 1}, nil
         end})
         local co = coroutine.wrap(function() for k in pairs(yielding) do return k end end)
         assert(co() == "in pairs" and co() == "a")
      ]],
   }
end

-- Everything that C does with a change, while finalizers take it apart.
local USES = [[
local function use(c, must_work)
   local texts = {}
   local function try(f, ...)
      local ok, result = pcall(f, ...)
      if ok and type(result) == "string" then texts[#texts + 1] = result end
   end
   try(tostring, c)
   assert(not must_work or texts[1], "a change has no text")
   try(tostring, c.row)
   try(pgcdc.json.encode, {c, c.row, c.old, c.key, {c}})
   try(function() for _ in pairs(c) do end end)
   try(function() for _ in pairs(c.row) do end end)
   try(function() for _ in pairs(c.key) do end end)
   try(function() return tostring(c:copy()) .. tostring(c.row:copy()) end)
   try(function() return c.id .. c.ts .. #(c.changed or {}) end)
   try(function() return c.misspelt end)
   try(function() return c.row.misspelt end)
   for _, text in ipairs(texts) do strings_only(text, "use") end
end
local function take_apart(c)
   return function()
      for _, t in ipairs {c, rawget(c, "row") or {}, rawget(c, "old") or {}} do
         for k in next, t do rawset(t, k, nil) end
      end
      for i = 1, 12 do rawset(c, "f" .. i, {}) end
      for i = 1, 12 do rawset(c, "f" .. i, nil) end
      c.row.added = {1}
      c.row.added = nil
      rawset(c, "row", nil)
      collectgarbage "step"
      return tostring(c), c:copy()
   end
end
]]

function TestWallsPointers.test_changes_that_are_taken_apart()
   all_survive {
      hand = USES .. [[
         for i = 1, 6 do
            local c = made(i)
            attack(take_apart(c))
            use(c)
            attack(nil)
         end
      ]],
      streams = USES .. [[
         local s = pgcdc.stream()
         local seen = 0
         s:rename {id = "number"}:drop {"doc"}:add {more = function(c)
            rawset(c, "extra" .. seen, {})
            return #tostring(c)
         end}:sink(function(c)
            seen = seen + 1
            use(c)
         end)
         s:mask {id = "sha256"}:sink(use)
         s:only(function() return false end):sink(use)
         for i = 1, 6 do
            local c = made(i)
            c.note = {{}}
            attack(take_apart(c))
            pcall(s.emit, s, c)
            attack(nil)
         end
      ]],
   }
end

-- Changes of a source, with a row before, a document and all.
function TestWallsPointers.test_changes_of_a_source()
   local db = fixtures.database(
      "create table t (id int primary key, name text, doc jsonb, price numeric, data bytea)",
      [[insert into t select i, repeat('n', 30 * i), '{"a": [1, {"b": 2}], "n": 1e400}', i / 3.0,
        'bytes' from generate_series(1, 12) i]])
   local state = fixtures.state()
   local script = USES .. [[
      pgcdc.source {table = "t", deletes = true, old = true}:sink(function(c)
         attack(take_apart(c))
         use(c)
         attack(nil)
         attack(function() c.row.doc = nil c.row.name = {} c.row.doc = {c.row} end)
         use(c)
         attack(nil)
      end)
   ]]
   local options = { dsn = db, state = state, options = { "--sandbox", "--once" },
                     last = "print 'survived'" }
   survives("source", script, options)
   db:exec "update t set name = name || 'x', doc = '[1, 2, 3]' where id < 7"
   db:exec "delete from t where id > 10"
   survives("updates", script, options)
end

function TestWallsPointers.test_iterators_that_get_anything()
   all_survive {
      iterators = [[
         local c, other = made(), made(2)
         local values = {5, "x", {}, print, true, c, other, other.row, other.key, pgcdc.null,
                         coroutine.create(print), setmetatable({}, {__index = c.row})}
         for _, part in ipairs {"row", "key", "old"} do
            local f, state = pairs(c[part])
            for _, value in ipairs(values) do
               for _ = 1, 5 do pcall(f, value) end
               pcall(f)
            end
            for _ = 1, 20 do pcall(f, state) end
            for _, value in ipairs(values) do pcall(f, value) end
         end
         local f = pairs(c)
         for _, value in ipairs(values) do pcall(f, value) end
         local get, copy = c.row.get, c.copy
         for _, value in ipairs(values) do
            pcall(get, value, "id")
            pcall(copy, value)
            pcall(pgcdc.get, value, "id")
            pcall(pgcdc.copy, value)
         end
      ]],
   }
end

-- A finalizer keeps a change whose class nothing else refers to.
function TestWallsPointers.test_classes_outlive_finalizers()
   local results = all_survive {
      kept = USES .. [[
         local kept = {}
         local function drop(n)
            local c = made(n)
            for _ = 1, 3 do setmetatable({}, {__gc = function() kept[n] = c end}) end
         end
         for n = 1, 70 do
            drop(n)
            if n % 10 == 0 then collectgarbage() end
         end
         for _ = 1, 3 do collectgarbage() end
         assert(#kept == 70)
         for n, x in ipairs(kept) do
            assert(tostring(x):find '"op":"update"' and x.row["name" .. n] == ("x"):rep(700))
         end
         attack(function() kept[1], kept[2] = kept[2], kept[1] end)
         for n = 1, 70, 9 do use(kept[n]) end
         attack(nil)
         kept = {}
         for n = 71, 140 do made(n) collectgarbage "step" end
      ]],
      -- the oldest finalizer is the last one of all
      at_the_end = USES .. [[
         local kept = {}
         oldest = setmetatable({}, {__gc = function()
            local ok, why = pcall(function() for _, x in ipairs(kept) do use(x, true) end end)
            print(ok and #kept == 6 and "used" or why)
         end})
         local s = pgcdc.stream()
         s:rename {id = "number"}:sink(function(c) kept[#kept + 1] = c end)
         for n = 1, 3 do kept[#kept + 1] = made(n) s:emit(made(n)) end
      ]],
   }
   lu.assertStrContains(results.at_the_end.stdout, "used")
end

function TestWallsPointers.test_tables_that_grow_while_they_are_copied()
   all_survive {
      plain = [[
         local t = {}
         for i = 1, 50 do t["k" .. i] = {i, {i}} end
         local n = 0
         attack(function()
            for i = 1, 30 do n = n + 1 t["more" .. n] = {} end
            for i = 1, 30 do t["more" .. n - i] = nil end
         end)
         for _ = 1, 20 do
            local copy = pgcdc.copy(t) -- no error either
            for i = 1, 50 do assert(copy["k" .. i][2][1] == i) end
         end
         attack(nil)
      ]],
   }
end

-- What the file sinks write, and what the log says.
function TestWallsPointers.test_values_that_run_code_while_they_are_written()
   local dir = scope.dir()
   survives("sinks", USES .. [[
      local csv = pgcdc.sinks.csv {path = pgcdc.args.dir .. "/a.csv"}
      local jsonl = pgcdc.sinks.jsonl {path = pgcdc.args.dir .. "/a.jsonl"}
      local t
      local fake = {__name = "pgcdc.row", __index = function(_, k)
         pgcdc.json.encode {("x"):rep(5000)}
         return k
      end}
      for i = 1, 9 do
         t = {a = pgcdc.null, b = "x,y", c = ("z"):rep(600), d = {1, {2}}}
         attack(function()
            for k in next, t do t[k] = nil end
            setmetatable(t, fake)
            pcall(csv.write, csv, {a = 1, b = 2})
            pgcdc.json.encode {("y"):rep(3000)}
         end)
         pcall(csv.write, csv, t)
         pcall(jsonl.write, jsonl, t)
         pcall(csv.write, csv, made(i))
         pcall(jsonl.write, jsonl, made(i))
         pcall(pgcdc.log.info, "x", {a = setmetatable({}, {__tostring = function()
            return tostring(made())
         end}), [made()] = made()})
         attack(nil)
      end
      pcall(csv.write, csv, setmetatable({a = pgcdc.null}, fake))
   ]], { args = { "dir=" .. dir }, options = {} })
   for line in (files.text(dir .. "/a.jsonl")):gmatch "[^\n]+" do
      lu.assertStrMatches(line, '{[%w{}",:_%[%]%.%-/ ]*}')
   end
end

-- A connection that a finalizer closes while its parameters are made.
function TestWallsPointers.test_connections_that_are_closed_meanwhile()
   local db = fixtures.database "create table t (id int primary key, name text)"
   survives("closed", [[
      local connection
      local list = {}
      for i = 1, 60 do list[i] = i + 0.5 end
      local sql = "select $1::float8"
      for i = 2, #list do sql = sql .. ", $" .. i .. "::float8" end
      for _ = 1, 15 do
         connection = pgcdc.connect(pgcdc.args.at)
         attack(function() connection:close() end)
         for _ = 1, 5 do pcall(connection.query, connection, sql, table.unpack(list)) end
         pcall(connection.exec, connection, "insert into t values ($1, $2)", 1, 2)
         attack(nil)
         connection = pgcdc.connect(pgcdc.args.at)
         attack(function() connection:query("select 2 as b") end)
         for _ = 1, 5 do
            local ok, rows = pcall(connection.query, connection, "select $1::int as a", 1)
            assert(not ok or rows[1].a == 1 or rows[1].a == nil)
         end
         attack(nil)
         connection:close()
      end
   ]], { args = { "at=" .. db:dsn() } })
end

-- A row whose __index adds a row to the same sink, and fields that are no text.
function TestWallsPointers.test_rows_that_add_rows()
   local db = fixtures.database "create table t (id int primary key, name text)"
   db:exec "insert into t select i, 'n' || i from generate_series(1, 9) i"
   survives("mirror", [[
      local sink = pgcdc.sinks.postgres {connect = pgcdc.args.at, table = "copy"}
      local inner = 0
      pgcdc.source {table = "t"}:sink(function(c)
         if c.row.id % 3 == 0 then
            c.row = setmetatable({}, {__index = function(_, name)
               inner = inner + 1
               local copy = pgcdc.change {op = "insert", table = "t", key = {id = 100 + inner},
                  row = {id = 100 + inner, name = "inner"}}
               pcall(sink.write, sink, copy)
               return ({id = 50 + c.key.id, name = ("outer"):rep(40)})[name]
            end})
         end
         attack(function() c.op, c.ts = {}, {} c.op, c.ts = nil, nil end)
         pcall(sink.write, sink, c)
         attack(nil)
      end)
   ]], { dsn = db, args = { "at=" .. db:dsn() }, options = { "--sandbox", "--once" },
         last = "print 'survived'", state = fixtures.state() })
   lu.assertEquals(db:value [[select string_agg(id || left(name, 7), ' ' order by id) from copy
         where name in ('inner', repeat('outer', 40), 'n' || id)]],
      "1n1 2n2 4n4 5n5 7n7 8n8 53outerou 56outerou 59outerou " ..
      "101inner 102inner 103inner 104inner 105inner 106inner")
end

return TestWallsPointers
