-- deletes_image_test.lua: the index of known rows that a clean end leaves, and when it counts.
-- SPDX-License-Identifier: MIT
--
-- That it is used shows in what is not read: a row that is damaged in the state file is noticed at
-- a start that reads all rows, and only there.

local fixtures = require "fixtures"
local lu = require "luaunit"
local program = require "program"

local TestDeletesImage = {}

local MAGIC = "\2" .. "10idcgp" -- what its header begins with, see src/state/kept_index_file.c

local script = [[
   local name = pgcdc.args.name
   pgcdc.source {table = "t", name = name, deletes = true,
      interval = 0.02, on_change = function(change) print(change.op, change.key.k) end}]]

local function new_database(rows)
   return fixtures.database([[create table t (k text primary key);
      insert into t select 'key-' || i from generate_series(1, %d) i]], rows or 5), fixtures.state()
end

local function once(db, state, options)
   return program.run { dsn = db, script = script, state = state,
      options = options or { "--once" } }
end

-- The changes of a run, which ends well: "insert key-1, ...".
local function changes(db, state, options)
   local result = once(db, state, options)
   lu.assertEquals(result.status, 0, result.stderr)
   local list = {}
   for _, line in ipairs(result.lines) do
      list[#list + 1] = line:gsub("\t", " ")
   end
   return table.concat(list, ", ")
end

-- Changes the byte after each place of <text> in the file. Returns how many there were.
local function damage(path, text, offset)
   local f = assert(io.open(path, "r+b"))
   local all, at, n = f:read "a", 1, 0
   while true do
      local from = all:find(text, at, true)
      if not from then
         break
      end
      local place = from - 1 + (offset or 0)
      f:seek("set", place)
      f:write(string.char(all:byte(place + 1) ~ 1))
      at, n = from + 1, n + 1
   end
   f:close()
   return n
end

function TestDeletesImage.test_a_clean_end_leaves_it_and_a_start_uses_it()
   local db, state = new_database(500) -- some pages of them
   changes(db, state)
   lu.assertTrue(damage(state, "\6key-3", 5) > 0) -- its length + 1 is before it
   db:exec "insert into t values ('key-501'); delete from t where k = 'key-499'"
   lu.assertEquals(changes(db, state), "delete key-499, insert key-501")
   db:exec "delete from t where k = 'key-3'" -- which the damaged row should tell of
   local result = once(db, state)
   lu.assertEquals(result.status, 4)
   lu.assertStrContains(result.stderr, "is damaged")
end

-- A header or a part that is not what was written makes it none: all rows are read.
function TestDeletesImage.test_damaged()
   for _, offset in ipairs { 0, 9, 17, 25, 33 } do
      local db, state = new_database()
      changes(db, state)
      lu.assertTrue(damage(state, MAGIC, offset) > 0)
      db:exec "insert into t values ('key-6'); delete from t where k = 'key-2'"
      lu.assertEquals(changes(db, state), "delete key-2, insert key-6")
   end
   local db, state = new_database()
   changes(db, state)
   lu.assertTrue(damage(state, MAGIC, 9) > 0)
   lu.assertTrue(damage(state, "key-3", 4) > 0)
   lu.assertEquals(once(db, state).status, 4) -- it was read
end

-- The index counts for the rows as a clean end left them: what a program that was killed changed
-- after that is not in it.
function TestDeletesImage.test_killed_and_ended_by_turns()
   local db, state = new_database(3000)
   local live, n = {}, 3000
   local function take(lines)
      for _, line in ipairs(lines) do
         local op, key = line:match "^(%l+)\t(.*)$"
         if op then
            live[key] = op ~= "delete" or nil
         end
      end
   end
   take(once(db, state).lines)
   for round = 1, 12 do
      db:exec("delete from t where k in (select k from t order by md5(k || " .. round
         .. ") limit 80)")
      if round % 2 == 0 then
         db:exec(("insert into t select 'key-' || i from generate_series(%d, %d) i"):format(
            n + 1, n + 40))
         n = n + 40
      end
      if round % 3 == 0 then
         take(once(db, state).lines)
      else
         local p = program.start { dsn = db, script = script, state = state }
         p:wait_until(function() return #p:lines() > round * 5 end, 20, "some changes")
         for more = 1, round % 4 do -- after which rows that went before are gone from the file
            p:wait_until(function() return #p:lines() >= 79 + more end, 20, "the others")
            db:exec "delete from t where k = (select k from t order by md5(k) limit 1)"
         end
         p:kill9()
         take(p:lines())
      end
   end
   take(once(db, state).lines)
   lu.assertEquals(changes(db, state), "")
   local wanted = {}
   for _, row in ipairs(db:exec "select k from t") do
      wanted[row[1]] = true
   end
   lu.assertEquals(live, wanted)
end

-- A clean end may leave one that is newer than the position, since an operator held rows. It is not
-- used; and once rows have changed no later start may take it for theirs.
function TestDeletesImage.test_newer_than_the_position()
   local db, state = new_database()
   changes(db, state)
   local p = program.start { dsn = db, state = state, script = (script:gsub("on_change.-end}",
      [[}:tap(function(c) io.stderr:write(c.key.k, "\n") end):partition(9):sink(print)]])) }
   db:exec "insert into t values ('key-6'), ('key-7')"
   p:wait_stderr "key%-7"
   lu.assertEquals(p:stop().status, 0)
   p = program.start { dsn = db, state = state, script = script }
   for _, key in ipairs { "key-2", "key-3", "key-1" } do
      db:exec(("delete from t where k = '%s'"):format(key))
      p:wait_until(function()
         return table.concat(p:lines(), "\n"):find("delete\t" .. key, 1, true)
      end, 20, key)
   end
   p:kill9()
   changes(db, state)
   db:exec "delete from t where k = 'key-4'; insert into t values ('key-2'), ('key-8')"
   lu.assertEquals(changes(db, state), "delete key-4, insert key-2, insert key-8")
end

-- Each source of a state file has its own; what is forgotten is read anew.
function TestDeletesImage.test_reset_and_neighbours()
   local db, state = new_database()
   local two = { dsn = db, state = state, options = { "--once" }, script = [[
      for _, name in ipairs {"a", "b"} do
         pgcdc.source {table = "t", name = name, deletes = true,
            on_change = function(change) print(name, change.op, change.key.k) end}
      end]] }
   lu.assertEquals(#program.run(two).lines, 10)
   db:exec "delete from t where k = 'key-2'"
   two.options = { "--once", "--reset=a" }
   local result = program.run(two)
   table.sort(result.lines)
   lu.assertEquals(#result.lines, 5) -- four rows again, and a delete
   lu.assertEquals(result.lines[5], "b\tdelete\tkey-2")
   two.options = { "--once" }
   lu.assertEquals(program.run(two).lines, {})
end

return TestDeletesImage
