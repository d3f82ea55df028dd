-- logical_names_test.lua: columns are renamed, dropped and added while rows that the log has wait:
-- each value arrives under the name that its column has now.
-- SPDX-License-Identifier: MIT

local by_log = require "by_log"
local lu = require "luaunit"
local program = require "program"

local TestLogicalNames = {}

-- The first reading of table n (id, a, b, c); then this SQL, while nothing runs; then the rows that
-- come by the log, as "key:row" sorted by column.
local function rows_after(sql, fields)
   local db = by_log.database [[CREATE TABLE n (id int PRIMARY KEY, a text, b text, c text);
      INSERT INTO n SELECT i, 'a' || i, 'b' || i, 'c' || i FROM generate_series(1, 3) i;
      ALTER PUBLICATION pgcdc ADD TABLE n]]
   local script = ([[
      local source = pgcdc.source { table = "n", capture = "logical", %s }
      source:on("change", function(change)
         local words = {}
         for name, value in pairs(change.row or {}) do
            words[#words + 1] = name .. "=" .. tostring(value)
         end
         table.sort(words)
         local key = {}
         for name, value in pairs(change.key) do
            key[#key + 1] = name .. "=" .. tostring(value)
         end
         print(change.op .. " " .. table.concat(key) .. ": " .. table.concat(words, " "))
      end)]]):format(fields or "")
   local first = program.run { dsn = db, options = { "--once" }, script = script }
   lu.assertEquals(first.status, 0, first.stderr)
   lu.assertEquals(#first.lines, 3)
   db:exec(sql)
   local second = program.run { dsn = db, options = { "--once" }, script = script,
      state = first.program.state }
   lu.assertEquals(second.status, 0, second.stderr)
   return table.concat(second.lines, "\n")
end

local X = "UPDATE n SET a = 'x' WHERE id = 1;"

function TestLogicalNames.test_renamed()
   lu.assertEquals(rows_after(X .. "ALTER TABLE n RENAME a TO d;"
      .. "UPDATE n SET d = 'y' WHERE id = 1"),
      "update id=1: b=b1 c=c1 d=x id=1\nupdate id=1: b=b1 c=c1 d=y id=1")
end

function TestLogicalNames.test_renamed_twice()
   lu.assertEquals(rows_after(X .. [[ALTER TABLE n RENAME a TO d; UPDATE n SET d = 'y' WHERE id = 1;
      ALTER TABLE n RENAME d TO e; DELETE FROM n WHERE id = 2]]),
      "update id=1: b=b1 c=c1 e=x id=1\nupdate id=1: b=b1 c=c1 e=y id=1\ndelete id=2: ")
end

function TestLogicalNames.test_the_key_is_renamed()
   lu.assertEquals(rows_after(X .. "DELETE FROM n WHERE id = 2; ALTER TABLE n RENAME id TO k;"
      .. "UPDATE n SET k = 7 WHERE k = 3"),
      "update k=1: a=x b=b1 c=c1 k=1\ndelete k=2: \ndelete k=3: \n"
      .. "insert k=7: a=a3 b=b3 c=c3 k=7")
end

function TestLogicalNames.test_two_have_changed_names()
   lu.assertEquals(rows_after(X .. [[ALTER TABLE n RENAME a TO tmp; ALTER TABLE n RENAME b TO a;
      ALTER TABLE n RENAME tmp TO b; UPDATE n SET b = 'y' WHERE id = 1]]),
      "update id=1: a=b1 b=x c=c1 id=1\nupdate id=1: a=b1 b=y c=c1 id=1")
end

function TestLogicalNames.test_another_one_has_the_name_of_a_dropped_one()
   lu.assertEquals(rows_after(X .. "ALTER TABLE n DROP a; ALTER TABLE n RENAME b TO a"),
      "update id=1: a=b1 c=c1 id=1")
end

function TestLogicalNames.test_finds_out_who_goes_by_names()
   by_log.with_mutant("columns_names", function()
      lu.assertNotEquals(rows_after(X .. "ALTER TABLE n DROP a; ALTER TABLE n RENAME b TO a"),
         "update id=1: a=b1 c=c1 id=1")
   end)
end

-- (The new one was NULL then.)
function TestLogicalNames.test_a_new_one_has_the_name_of_a_renamed_one()
   lu.assertEquals(rows_after(X .. "ALTER TABLE n RENAME a TO d; ALTER TABLE n ADD a text;"
      .. "UPDATE n SET a = 'new' WHERE id = 1"),
      "update id=1: a=nil b=b1 c=c1 d=x id=1\nupdate id=1: a=new b=b1 c=c1 d=x id=1")
end

function TestLogicalNames.test_one_is_dropped_and_one_is_added()
   lu.assertEquals(rows_after(X .. "ALTER TABLE n DROP c; ALTER TABLE n ADD d text;"
      .. "ALTER TABLE n RENAME b TO e; UPDATE n SET d = 'y' WHERE id = 1"),
      "update id=1: a=x d=nil e=b1 id=1\nupdate id=1: a=x d=y e=b1 id=1")
end

-- Of what is not read, and of what only a condition reads, the names change as well.
function TestLogicalNames.test_some_columns_and_a_condition()
   lu.assertEquals(rows_after(X .. "UPDATE n SET c = 'no' WHERE id = 2;"
      .. "ALTER TABLE n RENAME a TO tmp; ALTER TABLE n RENAME b TO a;"
      .. "ALTER TABLE n RENAME tmp TO b",
      [[columns = { "id", "c" }, where = "a <> b"]]),
      "upsert id=1: c=c1 id=1\nupsert id=2: c=no id=2")
end

return TestLogicalNames
