-- operators_shape_test.lua: select, drop, rename, add, mask: changes with other columns.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local json = require "json"
local lu = require "luaunit"
local program = require "program"
local seeds = require "seeds"
local values = require "values"

local TestOperatorsShape = {}

local seed = seeds.asked or os.time()
local people

function TestOperatorsShape.setupClass()
   people = cluster.main():database { name = "shape people" }
   people:exec [[
      create table people (id int primary key, name text, email text unique, age numeric(5,2),
         doc jsonb, n int, photo bytea, at timestamptz);
      insert into people values (1, 'Ädá', 'ada@example.org', 41.50, '{"b": [1.50], "a": null}', 7,
         '\x00ff', '2026-11-23 05:04:57+00'), (2, E'tab\t"\\', null, null, null, null, null, null)]]
end

-- Runs a script whose source `t` is the table people, or another one; returns the lines it prints.
local function run(script, options)
   options = options or {}
   options.dsn, options.options, options.state = options.dsn or people, { "--once" }, false
   local source = options.source or 'pgcdc.source {table = "people", name = "people"}'
   options.script = "local t = " .. source .. "\nlocal null = pgcdc.null\n" .. script
   options.source = nil
   local result = program.run(options)
   lu.assertEquals(result.stderr:find "level=error" ~= nil, options.fails or false, result.stderr)
   return result.lines, result.stderr
end

local function assert_fails(script, message, options)
   options = options or {}
   options.fails = true
   local lines, errors = run(script, options)
   lu.assertStrContains(errors, message)
   return lines
end

-- The row of a line, as text.
local function row_of(line)
   return line:match '"row":(.*),"xid":'
end

-- The oracle is row_to_json(): each column goes through rename, select in another order, rename,
-- and comes out as it was. In Lua too: what the columns are, and what pairs shows.
function TestOperatorsShape.test_every_type_passes_as_it_is()
   local db = cluster.main():database { name = "shape values" }
   io.write("seed ", seed, " ... ")
   local names = values.create(db, 30, seed)
   local there, back, list = {}, {}, {}
   for i, name in ipairs(names) do
      there[i] = ("[%q] = %q"):format(name, "x " .. name)
      back[i] = ("[%q] = %q"):format("x " .. name, name)
      list[#names + 1 - i] = ("%q"):format("x " .. name)
   end
   local lines = run(([[
      local function same(a, b)
         return a == b or a ~= a and b ~= b or type(a) == "table" and type(b) == "table"
            and pgcdc.json.encode(a) == pgcdc.json.encode(b)
      end
      local original
      t:sink(function(change)
         original = change
      end)
      local result = t:rename {%s}:select {%s}:rename {%s}
      result:sink(print)
      result:sink(function(change)
         for _, name in ipairs {%s} do
            local ok, was = pcall(function() return original.row[name] end)
            assert(not ok or same(was, change.row[name]), name)
         end
         assert(same(change.key, original.key) and change.id == original.id)
      end)]]):format(table.concat(there, ","), table.concat(list, ","), table.concat(back, ","),
      "[[" .. table.concat(names, "]],[[") .. "]]"),
      { dsn = db, source = [[pgcdc.source {table = '"values"'}]] })
   local conn = values.normal_session(db:connect())
   values.assert_like_row_to_json(conn, '"values"', lines)
   local order = json.keys(json.decode(lines[1], { numbers = "tagged", duplicates = true }).row)
   for i, name in ipairs(names) do
      lu.assertEquals(order[#names + 1 - i], name)
   end
end

-- Every way to say which columns there are, and in which order.
function TestOperatorsShape.test_columns()
   local lines = run [[
      local one = t:filter(function(c) return c.key.id == 1 end)
      local function show(stream) stream:sink(function(c) print(tostring(c.row)) end) end
      show(one:select {"email", "id"})
      show(one:select "n")
      show(one:drop {"doc", "photo", "at"})
      show(one:rename {id = "name", name = "id"}:select {"id", "name"})
      show(one:drop {"doc", "photo", "at"}:add {
         full = function(c) return c.row.name .. "!" end,
         n = function(c) return c.row.n + 1 end,
         age = function() return nil end, list = function() return pgcdc.array {} end,
         none = function() end, big = function() return "12345678901234567890.10" end})
      show(t:drop {"doc", "photo", "at", "email"}:filter(function(c) return c.row.id == 2 end))]]
   lu.assertEquals(lines, {
      [[{"email":"ada@example.org","id":1}]],
      [[{"n":7}]],
      [[{"id":1,"name":"Ädá","email":"ada@example.org","age":41.50,"n":7}]],
      [[{"id":"Ädá","name":1}]],
      [[{"id":1,"name":"Ädá","email":"ada@example.org","age":null,"n":8,]]
         .. [["big":"12345678901234567890.10","full":"Ädá!","list":[],"none":null}]],
      [[{"id":2,"name":"tab\t\"\\","age":null,"n":null}]],
   })
end

-- What comes out of each operator can be read, assigned to, walked through and shaped again.
function TestOperatorsShape.test_a_shaped_change_is_a_change()
   local lines = run [[
      local one = t:filter(function(c) return c.key.id == 1 end)
      one:select {"id", "name", "age", "doc"}:rename {id = "nr", age = "years"}:sink(function(c)
         print(c.row.nr, c.row.years, c.row:get "id", c.row.doc.b[1], c.key.nr, c.op, c.source)
         local names = {}
         for name in pairs(c.row) do names[#names + 1] = name end
         for name in pairs(c) do names[#names + 1] = name end
         print(table.concat(names, " "))
         c.row.years, c.row.note, c.row.name = "42.5", "x", nil
         print(tostring(c.row), c.database:find "people" ~= nil, c.table, c.schema)
      end)
      local a = one:add {a = function(c) return c.row.n end}
      a:select {"a"}:add {b = function(c) return c.row.a * 2 end}:drop {"a"}:rename {b = "c"}
         :sink(function(c) print(tostring(c.row)) end)]]
   lu.assertEquals(lines, {
      "1\t41.50\tnil\t1.5\t1\tread\tpeople",
      "nr name years doc op schema table source key row xid seq ts id",
      [[{"nr":1,"name":null,"years":42.5,"doc":{"a": null, "b": [1.50]},"note":"x"}]]
         .. "\ttrue\tpeople\tpublic",
      [[{"c":14}]],
   })
end

-- Whatever a script did to a change before comes along; what it does later stays in its branch.
function TestOperatorsShape.test_assigned_values_come_along()
   local lines = run [[
      local one = t:filter(function(c) return c.key.id == 1 end)
         :map(function(c)
            c.row.name, c.row.age, c.row.email = "Bob", "1.10", nil
            c.row.doc.c = "changed"
            c.row.note = "x"
            c.row.tags = {1}
            c.mine, c.key.id = {1}, 5
            return c
         end)
      local plain = one:drop {"photo", "at"}
      plain:rename {name = "first", note = "remark", doc = "papers"}:sink(function(c)
         c.row.papers.c, c.row.tags[1], c.mine[1], c.key.id = "spoiled", 2, 2, 6
         print(tostring(c.row), c.mine[1], c.key.id)
      end)
      plain:select {"tags", "note", "id"}:sink(print)
      plain:drop {"note", "doc"}:sink(function(c) print(tostring(c.row), c.row:get "note") end)
      plain:mask {note = "redact", name = "sha256"}:select {"name", "note"}
         :sink(function(c) print(tostring(c.row)) end)
      one:add {note = function(c) return c.row.note .. "y" end}:select {"note"}
         :sink(function(c) print(tostring(c.row)) end)]]
   lu.assertEquals(lines[1], [[{"id":1,"first":"Bob","email":null,"age":1.10,"papers":]]
      .. [[{"a":null,"b":[1.5],"c":"spoiled"},"n":7,"remark":"x","tags":[2]}]] .. "\t2\t6")
   lu.assertStrContains(lines[2], '"key":{"id":5},"row":{"tags":[1],"note":"x","id":1},"xid":')
   lu.assertStrContains(lines[2], '"mine":[1]')
   lu.assertEquals(lines[3],
      [[{"id":1,"name":"Bob","email":null,"age":1.10,"n":7,"tags":[1]}]] .. "\tnil")
   lu.assertEquals(lines[4], [[{"name":"cd9fb1e148ccd8442e5aa74904cc73bf]]
      .. [[6fb54d1d54d333bd596aa9bb4bb4e961","note":"***"}]])
   lu.assertEquals(lines[5], [[{"note":"xy"}]])
   lu.assertEquals(#lines, 5)
end

-- A script may put a plain table, or the row of another change, where the row, the key or the old
-- row was.
function TestOperatorsShape.test_replaced_rows()
   local lines = run [[
      local one = t:filter(function(c) return c.key.id == 1 end):map(function(c)
         c.row = {id = 9, word = "w", n = {1}}
         c.old = {id = 8, name = "Old"}
         c.key = {id = 7, more = 1}
         return c
      end)
      one:select {"id", "word"}:sink(function(c) print("a", tostring(c)) end)
      one:rename {id = "nr"}
         :mask {nr = function(v) return v + 1 end, word = "redact"}
         :add {sum = function(c) return (c.row.nr or 0) * 10 end}
         :sink(function(c) print("b", tostring(c)) end)]]
   lu.assertStrContains(lines[1], '"key":{"id":7},"row":{"id":9,"word":"w"},"old":{"id":8}')
   lu.assertStrContains(lines[2], [["key":{"more":1,"nr":8},"row":{"n":[1],"nr":10,"sum":100,]]
      .. [["word":"***"},"old":{"name":"Old","nr":9,"sum":90},]])
   lu.assertEquals(#lines, 2)
   lines = run [[
      local first
      t:map(function(c)
         first = first or c.row
         c.row, c.old = first, first
         return c
      end):drop {"photo", "doc", "at", "email"}
         :mask {name = {keep = 1}}:rename {name = "first"}
         :add {twice = function(c) return c.row.n * 2 end}:sink(print)]]
   local row = [[{"id":1,"first":"Ä***","age":41.50,"n":7,"twice":14}]]
   lu.assertStrContains(lines[1], '"key":{"id":1},"row":' .. row .. ',"old":' .. row)
   lu.assertStrContains(lines[2], '"key":{"id":2},"row":' .. row .. ',"old":' .. row)
   lu.assertEquals(#lines, 2)
end

-- Masks see the value's text, NULL stays NULL, and the column is text from then on.
function TestOperatorsShape.test_masks()
   local lines = run [[
      t:mask({name = {keep = 2}, email = "sha256", age = "sha256", doc = "sha256", n = "redact",
         photo = "sha256", at = {keep = 10}}, {salt = "pepper"}):sink(print)
      t:filter(function(c) return c.key.id == 1 end):mask {
         name = {keep = 0}, email = {keep = 100}, photo = {keep = 5},
         n = function(v, c) return v * c.row.n end, age = function() return "7.70" end,
         doc = function(v) v.a = 1 return v end, at = function() return nil end}
         :sink(function(c) print(tostring(c.row)) end)
      t:filter(function(c) return c.key.id == 1 end)
         :sink(function(c) print(tostring(c.row.doc.a), c.row.n) end)]]
   local function sha256(literal)
      return people:value("select encode(sha256(convert_to('pepper', 'utf8') || " .. literal
         .. "), 'hex')")
   end
   lu.assertEquals(row_of(lines[1]), ([[{"id":1,"name":"Äd***","email":"%s","age":"%s",]]
      .. [["doc":"%s","n":"***","photo":"%s","at":"2026-11-23***"}]]):format(
      sha256 "'ada@example.org'", sha256 "'41.50'", sha256 [['{"a":null,"b":[1.5]}']],
      sha256 "'\\x00ff'::bytea"))
   lu.assertEquals(lines[2], [[{"id":1,"name":"***","email":"ada@example.org***","age":7.70,]]
      .. [["doc":{"a":1,"b":[1.5]},"n":49,"photo":"\u0000***","at":null}]])
   lu.assertEquals(row_of(lines[4]), [[{"id":2,"name":"ta***","email":null,"age":null,]]
      .. [["doc":null,"n":null,"photo":null,"at":null}]])
   lu.assertEquals(#lines, 4)
end

-- Every control character that COPY may write with a backslash, and text that looks like NULL.
function TestOperatorsShape.test_text_of_a_function()
   local lines = run [[
      local texts = {"\b\f\n\r\t\v\\", "\\N", "a\0b\127", ""}
      for _, text in ipairs(texts) do
         t:filter(function(c) return c.key.id == 1 end):mask {name = function() return text end,
            email = function() return text end}:sink(function(change)
            assert(change.row.name == text)
            local written = tostring(change):match '"name":(".-"),"email"'
            print(pgcdc.json.encode(change.row.name), written)
         end)
      end]]
   lu.assertEquals(lines, {
      [["\b\f\n\r\t\u000b\\"]] .. "\t" .. [["\b\f\n\r\t\u000b\\"]],
      [["\\N"]] .. "\t" .. [["\\N"]],
      '"a\\u0000b\127"\t"a\\u0000b\127"',
      '""\t""',
   })
end

-- What hides a key column hides it in the key and in the id as well; the id is the same at every
-- delivery, and ids of other rows are others.
function TestOperatorsShape.test_keys_do_not_leak()
   local source = [[pgcdc.source {table = "people", pk = {"email", "id"}, where = "id = 1"}]]
   local script = [[
      local function show(name, stream)
         stream:sink(function(c)
            local text = tostring(c)
            assert(text:find('"id":"' .. c.id .. '"}$'), text)
            print(name, tostring(c.key), (c.id:gsub("/%d+/", "/")), text:find("ada@") and true)
         end)
      end
      show("select", t:select {"id"})
      show("drop", t:drop {"email"})
      show("mask", t:drop {"name"}:mask({email = "redact"}, {salt = "s"}):select {"id"})
      show("hash", t:mask({email = "sha256"}, {salt = "s"}):rename {email = "mail"})
      show("function", t:mask {email = function() return {1} end})
      show("add", t:add {email = function() return 5 end})
      show("rename", t:rename {email = "mail"}:drop {"name"})
      show("read", t:map(function(c) assert(c.key.email) return c end):mask {email = {keep = 1}})]]
   local lines = run(script, { source = source })
   local function hash(text)
      return "public.people/" .. people:value("select left(encode(sha256(" .. people:connection()
         :escape(text) .. "), 'hex'), 32)")
   end
   local plain, salted = hash "ada@example.org,1", hash "sada@example.org,1"
   local mail = people:value "select encode(sha256('sada@example.org'), 'hex')"
   lu.assertEquals(lines, {
      'select\t{"id":1}\t' .. plain .. "\tnil",
      'drop\t{"id":1}\t' .. plain .. "\tnil",
      'mask\t{"id":1}\t' .. salted .. "\tnil",
      'hash\t{"mail":"' .. mail .. '","id":1}\t' .. salted .. "\tnil",
      'function\t{"email":[1],"id":1}\t' .. plain .. "\tnil",
      'add\t{"email":5,"id":1}\t' .. plain .. "\tnil",
      'rename\t{"mail":"ada@example.org","id":1}\tpublic.people/ada@example.org,1\ttrue',
      'read\t{"email":"a***","id":1}\t' .. plain .. "\tnil",
   })
   lu.assertEquals(run(script, { source = source }), lines)
end

-- A key that is not among the columns that are read is shaped all the same.
function TestOperatorsShape.test_keys_beside_the_row()
   local lines = run([[
      local function show(stream)
         stream:sink(function(c) print(tostring(c.key), tostring(c.row), (c.id:match "[^/]*$")) end)
      end
      show(t:select {"name"})
      show(t:select {"id"})
      show(t:drop {"id"})
      show(t:rename {id = "nr"})
      show(t:mask {id = "redact"})
      show(t:add {id = function() return 3 end})]], {
      source = [[pgcdc.source {table = "people", columns = "name", where = "id = 1"}]] })
   local hash = "6b86b273ff34fce19d6b804eff5a3f57" -- of "1"
   lu.assertEquals(lines, {
      '{}\t{"name":"Ädá"}\t' .. hash,
      '{"id":1}\t{}\t1',
      '{}\t{"name":"Ädá"}\t' .. hash,
      '{"nr":1}\t{"name":"Ädá"}\t1',
      '{"id":"***"}\t{"name":"Ädá"}\t' .. hash,
      '{"id":1}\t{"name":"Ädá","id":3}\t1',
   })
end

-- raw.clone is what retries begin with: as the change was, and nobody else's.
function TestOperatorsShape.test_copies()
   local lines = run [[
      local raw = require "pgcdc.raw"
      t:filter(function(c) return c.key.id == 1 end):sink(function(c)
         local fresh = raw.clone(c)
         assert(tostring(fresh) == tostring(c) and fresh.row ~= c.row and raw.is_change(fresh))
         fresh.row.name, fresh.row.doc.a, fresh.note, fresh.key.id = "x", 1, {1}, 3
         assert(c.row.name == "Ädá" and c.row.doc.a == null and not c:get "note" and c.key.id == 1)
         c.row.tags, c.row.doc.z, c.other = {{1}}, 5, raw.clone(c)
         local again = raw.clone(c)
         assert(tostring(again) == tostring(c))
         c.row.tags[1][1], c.row.doc.z, c.other.row.n = 2, 6, 8
         assert(again.row.tags[1][1] == 1 and again.row.doc.z == 5 and again.other.row.n == 7)
         local row = raw.clone(c.row)
         row.n = 1
         assert(c.row.n == 7 and getmetatable(row) == getmetatable(c.row))
         assert(not raw.is_change(c.row) and not raw.is_change(c.key) and not raw.is_change({}))
         assert(not raw.is_change(nil) and raw.clone(nil) == nil and raw.clone("a") == "a")
         local object = setmetatable({}, {})
         local list = raw.clone {object, pgcdc.array {}, {null}}
         assert(list[1] == object and pgcdc.json.encode(list[2]) == "[]" and list[3][1] == null)
         local cycle = {}
         cycle[1] = cycle
         print(pcall(raw.clone, cycle))
      end)]]
   lu.assertEquals(lines, { "false\tcannot copy: tables nested too deep (is there a cycle?)" })
end

-- The columns are looked up again where ALTER TABLE has changed them.
function TestOperatorsShape.test_alter_table()
   local db = cluster.main():database()
   db:exec "create table a (id int primary key, x int); insert into a values (1, 1)"
   local p = program.start { dsn = db, state = false, script = [[
      local t = pgcdc.source {table = "a", interval = 0.05}
      t:drop {"x"}:rename {id = "nr"}:sink(print)]] }
   p:wait_changes(1)
   db:exec "alter table a add y text default 'new'; insert into a values (2, 2)"
   local changes = p:wait_changes(3) -- row 1 comes again, with its new value
   lu.assertEquals(json.encode(changes[1].row), '{"nr":1}')
   lu.assertEquals(json.decode(json.encode(changes[2].row)), { nr = 1, y = "new" })
   lu.assertEquals(json.decode(json.encode(changes[3].row)), { nr = 2, y = "new" })
   lu.assertEquals(p:stop().status, 0)
end

-- Each is an error that names the operator, the column, and what was probably meant.
function TestOperatorsShape.test_names_that_are_wrong()
   local people_has_no = ": public.people has no column '%s'; did you mean '%s'?"
   for script, message in pairs {
      ['t:select {"id", "emial"}:sink(print)'] = "select" .. people_has_no:format("emial", "email"),
      ['t:drop {"nme"}:sink(print)'] = "drop" .. people_has_no:format("nme", "name"),
      ['t:rename {ages = "x"}:sink(print)'] = "rename" .. people_has_no:format("ages", "age"),
      ['t:mask {phone = "redact"}:sink(print)'] = "mask: public.people has no column 'phone'",
      ['t:rename {id = "name"}:sink(print)'] = "rename: there is a column 'name' already",
      ['t:drop {"age"}:drop {"age"}:sink(print)'] = "drop: public.people has no column 'age'",
      ['t:map(function(c) c.row.x = 1 return c end):rename {id = "x"}:sink(print)'] =
         "rename: there is a column 'x' already",
      ["t:map(function(c) if c.key.id == 2 then c.row.x = 1 end return c end)"
         .. ':rename {id = "x"}:sink(print)'] = "rename: there is a column 'x' already",
      ['t:pluck("id"):select {"id"}:sink(print)'] =
         "select: takes changes and tables with named fields, not a number",
      ['t:map(function(c) return c.row end):mask {idd = "redact"}:sink(print)'] =
         "mask: the row has no field 'idd'; did you mean 'id'?",
      ['t:add {x = function(c) error "inside" end}:sink(print)'] = "inside",
   } do
      assert_fails(script, message)
   end
end

-- Misuse is told at once, with the line of the script.
function TestOperatorsShape.test_misuse()
   local lines = run [[
      local s = pgcdc.stream {}
      local function try(f)
         local ok, problem = pcall(f)
         print(not ok and problem:gsub("^.*script%.lua:", "") or "no error")
      end
      try(function() s:select() end)
      try(function() s:select {} end)
      try(function() s:select {"a", "a"} end)
      try(function() s:drop {1} end)
      try(function() s:rename {"a"} end)
      try(function() s:rename {a = 1} end)
      try(function() s:rename {a = "c", b = "c"} end)
      try(function() s:add {} end)
      try(function() s:add {a = 1} end)
      try(function() s:mask(1) end)
      try(function() s:mask {a = "sha265"} end)
      try(function() s:mask {a = {keep = -1}} end)
      try(function() s:mask {a = {kep = 1}} end)
      try(function() s:mask {a = true} end)
      try(function() s:mask({a = "redact"}, {slat = "x"}) end)
      try(function() s:mask({a = "redact"}, {salt = 1}) end)]]
   lu.assertEquals(lines, {
      "8: select: the columns must be a table or a string, not nil",
      "9: select must name at least one column",
      "10: select names 'a' twice",
      "11: drop[1] must be a string, not a number",
      "12: rename: the name of a column must be a string, not a number",
      "13: rename: the new name of 'a' must be a string, not a number",
      "14: rename: 'a' and 'b' would both be 'c'",
      "15: add must name at least one column",
      "16: add: the value of 'a' must be a function, not a number",
      "17: mask: the columns must be a table, not a number",
      "18: mask: the way of 'a': unknown 'sha265'; did you mean 'sha256'?",
      "19: mask: keep of 'a' must be a number of characters",
      "20: mask: the way of 'a': unknown field 'kep'; did you mean 'keep'?",
      "21: mask: the way of 'a' must be a string or a table or a function, not a boolean",
      "22: mask: unknown field 'slat'; did you mean 'salt'?",
      "23: mask: salt must be a string, not a number",
   })
end

return TestOperatorsShape
