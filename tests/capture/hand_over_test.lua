-- hand_over_test.lua: from one capture to another: deletes in between are told.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local lu = require "luaunit"
local stepping = require "stepping"

local TestHandOver = {}

local XMIN = { capture = "xmin", deletes = true }
local PLAIN = { capture = "xmin" }
local GROWS = { capture = "increment", column = "id" }

-- From xmin with deletes to triggers: what was deleted before and after the installation comes with
-- the first poll, once, and what came and went meanwhile does not.
function TestHandOver.test_from_deletes_to_triggers()
   local db = fixtures.database(fixtures.numbers(8))
   local poll = stepping.new(db)
   poll(XMIN)
   db:exec "delete from t where id = 1"
   db:exec "update t set n = 1 where id = 2"
   stepping.trigger(db, "install")
   db:exec "delete from t where id = 3; insert into t values (9)"
   db:exec "insert into t values (10)"
   db:exec "delete from t where id = 10; update t set id = 40 where id = 4"
   lu.assertEquals(poll(), "delete 1 3 4, update 2, insert 9 40")
   lu.assertEquals(poll(), "")
   db:exec "delete from t where id in (2, 40); update t set n = 2 where id = 9"
   lu.assertEquals(poll(), "delete 2 40, upsert 9")
end

-- The same beside a transaction that is under way, and where the table was made anew.
function TestHandOver.test_from_deletes_to_triggers_beside_others()
   local db = fixtures.database(fixtures.numbers(8))
   local poll = stepping.new(db)
   poll(XMIN)
   stepping.trigger(db, "install")
   local busy = db:connect()
   busy:exec "begin; delete from t where id = 1; insert into t values (11)"
   db:exec "delete from t where id = 2; insert into t values (12)"
   lu.assertEquals(poll(), "delete 2, insert 12")
   lu.assertEquals(poll(), "")
   busy:exec "commit"
   db:exec "delete from t where id = 3"
   lu.assertEquals(poll(), "delete 1, upsert 11, delete 3")
   poll(XMIN)
   db:exec [[drop table t; create table t (id int primary key, n int default 0);
      insert into t values (4, 0), (5, 5)]]
   stepping.trigger(db, "install")
   local words = poll()
   lu.assertEquals(words, "update 4 5, delete 6 7 8 11 12")
   db:exec "delete from t where id = 4"
   lu.assertEquals(poll(), "delete 4")
end

-- Where no keys are known, what the triggers have noted since the last poll is told.
function TestHandOver.test_to_triggers_without_deletes()
   for _, before in ipairs { PLAIN, GROWS } do
      local db = fixtures.database(fixtures.numbers(8))
      local poll = stepping.new(db)
      poll(before)
      stepping.trigger(db, "install")
      db:exec "delete from t where id = 1; insert into t values (9)"
      db:exec "delete from t where id = 2"
      local words = poll()
      lu.assertStrContains(words, "delete 1 2")
      lu.assertStrContains(words, "upsert 9")
      lu.assertEquals(poll(), "")
      db:exec "delete from t where id = 3"
      lu.assertEquals(poll(), "delete 3")
   end
end

-- Deletes that are looked for from now on: what is there is learned.
function TestHandOver.test_from_none_to_deletes()
   for _, before in ipairs { PLAIN, GROWS } do
      local db = fixtures.database(fixtures.numbers(8))
      local poll = stepping.new(db)
      poll(before)
      db:exec "update t set n = 1 where id = 1"
      lu.assertEquals(poll(XMIN), "upsert 1")
      db:exec "delete from t where id = 2; update t set n = 2 where id = 3"
      lu.assertEquals(poll(XMIN), "delete 2, update 3")
   end
end

-- The other way deletes in between cannot be told: a warning says so.
function TestHandOver.test_from_triggers_to_deletes()
   local db = fixtures.database(fixtures.numbers(8))
   stepping.trigger(db, "install")
   local poll = stepping.new(db)
   poll()
   db:exec "update t set n = 1 where id = 1"
   local words, result = poll(XMIN)
   lu.assertEquals(words, "upsert 1")
   lu.assertStrContains(result.stderr, "deletes since the last poll by triggers are not told")
   db:exec "delete from t where id = 2; insert into t values (9)"
   words, result = poll(XMIN)
   lu.assertEquals(words, "delete 2, insert 9")
   lu.assertNotStrContains(result.stderr, "level=warn")
end

return TestHandOver
